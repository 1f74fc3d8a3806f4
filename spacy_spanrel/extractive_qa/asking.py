"""Relations by questions: a reader of questions finds relations that nobody has trained it on.

A relation is a question about its head, "Who does {head} work for?", which is asked for every entity of
the head's type. The answer is matched with the entities of the tail's type (after Levy et al. 2017,
"Zero-shot relation extraction via reading comprehension", who let the answer itself be the tail). A
question about the tail, "Who works for {tail}?", asks for the head in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import srsly
from spacy.tokens import Doc, Span

from ..annotations import Answer, Question, Relation, get_entities
from ..errors import Errors
from ..reading import JsonValue, Place, read_text

Side = Literal["head", "tail"]
SIDES: tuple[Side, ...] = ("head", "tail")
# The keys of a relation's table in a file; descriptions are for `relation_classifier`.
_KEYS = (*SIDES, "questions", "question", "descriptions", "description")


@dataclass(frozen=True)
class RelationQuestions:
    """A relation, and the questions that ask for it.

    label (str): Its label.
    questions (tuple[str, ...]): Texts with "{head}" or "{tail}".
    head, tail (frozenset[str]): Types of the arguments; empty for all.
    """

    label: str
    questions: tuple[str, ...]
    head: frozenset[str] = frozenset()
    tail: frozenset[str] = frozenset()

    def types(self, side: Side) -> frozenset[str]:
        """Return the types of one of the arguments; none for all."""
        return self.head if side == "head" else self.tail


def read_relations(path: str | Path) -> list[RelationQuestions]:
    """Read relations from a YAML (or JSON) file: label -> question, list of questions, or a table.

    Sample::

        works_for:
          head: PERSON
          tail: [ORG, GPE]
          questions:
            - Who does {head} work for?
            - Who works for {tail}?
        born_in: Where was {head} born?

    A table may also have `descriptions` of the relation, which are not read here.

    path (str | Path): The file.
    RETURNS (list[RelationQuestions]): The relations, in the order of the file.
    RAISES (ConversionError): If the file is bad.
    """
    place = Place(str(path))
    text = read_text(path)
    try:
        raw = srsly.yaml_loads(text)
    except Exception as error:  # of the parser, which has many
        found = " ".join(str(error).split())
        raise place.error(Errors.E604, found=found, expected="a table of relations") from error
    relations = [_read_relation(label, value) for label, value in JsonValue(raw, place).items()]
    if not relations:
        raise place.error(Errors.E609, found="no relations", expected="relations with questions")
    return relations


def _read_relation(label: Any, value: JsonValue) -> RelationQuestions:
    types: dict[str, frozenset[str]] = {}
    questions = value
    if label is None or not str(label).strip():
        expected = "the label of a relation in front of the colon"
        raise value.error(Errors.E604, found=repr(label), expected=expected)
    if isinstance(value.raw, dict):
        if unknown := [key for key in value.raw if key not in _KEYS]:
            expected = "the keys " + ", ".join(_KEYS)
            raise value.error(Errors.E604, found=f"the key {unknown[0]!r}", expected=expected)
        for side in SIDES:
            names = value.get(side)
            types[side] = frozenset(() if names is None else _names(names))
        key = "question" if "question" in value.raw else "questions"
        questions = value[key]
    texts = _names(questions)
    if not texts:
        raise questions.wrong_kind("at least one question")
    for text in texts:
        if sum(f"{{{side}}}" in text for side in SIDES) != 1:
            raise questions.error(
                Errors.E604, found=repr(text), expected="a question with {head} or {tail}"
            )
    return RelationQuestions(str(label), tuple(texts), **types)


def _names(value: JsonValue) -> list[str]:
    return [v.as_name() for v in value] if isinstance(value.raw, list) else [value.as_name()]


@dataclass(frozen=True)
class AskedQuestion:
    """A question about a Doc.

    question (Question): The question.
    relation (RelationQuestions): The relation that it asks for.
    side (str): The argument that it names: "head" or "tail".
    mentions (tuple[Span, ...]): The entities with the words that it names.
    """

    question: Question
    relation: RelationQuestions
    side: Side
    mentions: tuple[Span, ...]


def questions_about(
    doc: Doc, relations: Iterable[RelationQuestions], entities_key: str | None = "entities"
) -> list[AskedQuestion]:
    """Make the questions about a Doc. Entities with the same words are asked about once.

    doc (Doc): A Doc with entities.
    relations (Iterable[RelationQuestions]): The relations.
    entities_key (str | None): The span group of the entities, as in `get_entities`.
    RETURNS (list[AskedQuestion]): The questions, with different ids.
    """
    entities = get_entities(doc, entities_key)
    asked: list[AskedQuestion] = []
    for relation in relations:
        for template in relation.questions:
            side: Side = "head" if "{head}" in template else "tail"
            mentions: dict[str, list[Span]] = {}
            for span in entities:
                if not relation.types(side) or span.label_ in relation.types(side):
                    mentions.setdefault(" ".join(span.text.split()), []).append(span)
            for words, spans in mentions.items():
                question = Question(f"{len(asked)}", template.replace(f"{{{side}}}", words))
                asked.append(AskedQuestion(question, relation, side, tuple(spans)))
    return asked


def relations_of_answers(
    doc: Doc,
    asked: Sequence[AskedQuestion],
    answers: Iterable[Answer],
    entities_key: str | None = "entities",
    doubtful: bool = False,
) -> Iterator[Relation | None]:
    """Match answers with entities.

    An answer stands for the entity of the wanted type with which it shares most tokens, in proportion to
    all tokens of both. The argument that the question named is its mention nearest to that entity.

    doc (Doc): The Doc.
    asked (Sequence[AskedQuestion]): The questions.
    answers (Iterable[Answer]): The reader's answers to them, and perhaps to others.
    entities_key (str | None): As in `questions_about`.
    doubtful (bool): Whether the alternatives of "no answer" count as answers, with their low scores.
    YIELDS (Relation | None): For each answer and each of its alternatives, the relation with the score of
        the answer; None if no entity matches. Nothing for "no answer", unless `doubtful`.
    """
    entities = get_entities(doc, entities_key)
    by_id = {item.question.id: item for item in asked}
    for answer in answers:
        item = by_id.get(answer.question.id)
        if item is None or not (answer or doubtful):
            continue
        other: Side = "tail" if item.side == "head" else "head"
        types = item.relation.types(other)
        fitting = [span for span in entities if not types or span.label_ in types]
        for candidate in (*([answer] if answer else []), *answer.alternatives):
            span = _best_match(candidate.span, fitting, item.mentions)
            if span is None:
                yield None
                continue
            mention = min(item.mentions, key=lambda m: (_distance(m, span), m.start))
            head, tail = (mention, span) if item.side == "head" else (span, mention)
            yield Relation(head, tail, item.relation.label, candidate.score)


def _best_match(
    answer: Span | None, entities: Iterable[Span], mentions: Sequence[Span]
) -> Span | None:
    named = {(span.start, span.end) for span in mentions}
    best, best_share = None, 0.0
    for span in entities:
        if answer is None or (span.start, span.end) in named:
            continue
        shared = min(answer.end, span.end) - max(answer.start, span.start)
        share = shared / (len(answer) + len(span) - shared)
        if share > best_share:
            best, best_share = span, share
    return best


def _distance(first: Span, second: Span) -> int:
    return max(first.start - second.end, second.start - first.end)


def best_relations(relations: Iterable[Relation], threshold: float) -> list[Relation]:
    """Return each relation once, with its best score, if that reaches the threshold.

    relations (Iterable[Relation]): Relations of one Doc.
    threshold (float): The threshold.
    RETURNS (list[Relation]): The relations, in the order of their first occurrence.
    """
    best: dict[tuple[int, int, int, int, str], Relation] = {}
    for relation in relations:
        head, tail = relation.head, relation.tail
        key = head.start, head.end, tail.start, tail.end, relation.label
        if key not in best or (relation.score or 0) > (best[key].score or 0):
            best[key] = relation
    return [relation for relation in best.values() if (relation.score or 0) >= threshold]
