"""What the converters share: their errors, their report, and how a gold Doc is made.

A gold Doc is stored in the terms of ``annotations``:

- ``doc.spans["entities"]``: every gold entity (they may overlap), label = type. Gold has no scores,
  so ``attrs`` has none; ``attrs["orig_id"]`` is the record's own id, if it has one. The id lives
  there because the attrs of span groups survive ``DocBin`` with default settings and ``user_data``
  does not. Read it with ``get_orig_id``.
- ``doc.spans["relations"]``: written by ``annotations.set_relations``, score None.
- ``doc.ents``: as many of the entities as fit without overlap (longest first).

All three are set on every Doc, so "annotated, but nothing there" differs from "not annotated", and
text without entities or relations stays in the data as the negative example it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, permutations
from pathlib import Path

import spacy
from spacy.language import Language
from spacy.tokens import Doc, Span, SpanGroup
from spacy.util import filter_spans
from spacy.vocab import Vocab

from ..annotations import ENTITIES_KEY, Relation, get_entities, get_relations, set_relations
from ..annotations.relations import ORIG_ID_ATTR, RecordId
from ..errors import Errors
from ..reading import (
    ConversionError,
    ErrorHandler,
    Place,
    argument_error,
    expect_dict,
    expect_key,
    read_json,
    short,
    wrong_kind,
)

# How the Penn Treebank, and corpora with its tokens, write brackets.
BRACKETS = {
    "-LRB-": "(",
    "-RRB-": ")",
    "-LSB-": "[",
    "-RSB-": "]",
    "-LCB-": "{",
    "-RCB-": "}",
}

# The type of an argument where a format does not say of which it is.
ENTITY = "ENTITY"

# What msgpack can hold; a larger id is kept as text.
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True)
class Finding:
    """One thing that a report lists.

    record (str): The record's id, or its place if it has none.
    text (str): What was found.
    """

    record: str
    text: str


@dataclass
class ConversionReport:
    """What a conversion did; several inputs may add to one report.

    max_span_size (int | None): Entities of more tokens than this are listed as too long.
    docs, tokens (int): How many were made.
    entities, relations (Counter[str]): How many per type and label.
    docs_without_entities, docs_without_relations (int): They are kept.
    longest_entity (int): In tokens.
    too_long (list[Finding]): Entities that a model with `max_span_size` can never predict.
    misaligned (list[Finding]): Entities widened to token borders.
    lost_entities, lost_relations (list[Finding]): Those that could not be kept.
    skipped (list[ConversionError]): Records left out because `on_error` did not raise.
    overlapping_entities (int): Entities in the span group for which doc.ents has no room.
    duplicate_entities, duplicate_relations (int): Repeated within a record, kept once.
    duplicate_ids (int): Records whose id came before; kept.
    self_relations (int): Relations of a span with itself, which no model predicts; kept.
    questions, unanswerable (int): Questions, and how many of them have no answer.
    answers (int): Reference answers to the others.
    docs_without_questions (int): They are kept.
    misaligned_answers (int): Reference answers that begin or end inside a token; kept as they are.
    repaired_answers (list[Finding]): Those that were found elsewhere than stated.
    lost_answers (list[Finding]): Those that do not occur in their text, and were left out.
    notes (Counter[str]): What else happened, in words, and how often.
    """

    max_span_size: int | None = None
    docs: int = 0
    tokens: int = 0
    entities: Counter[str] = field(default_factory=Counter)
    relations: Counter[str] = field(default_factory=Counter)
    docs_without_entities: int = 0
    docs_without_relations: int = 0
    longest_entity: int = 0
    too_long: list[Finding] = field(default_factory=list)
    misaligned: list[Finding] = field(default_factory=list)
    lost_entities: list[Finding] = field(default_factory=list)
    lost_relations: list[Finding] = field(default_factory=list)
    skipped: list[ConversionError] = field(default_factory=list)
    overlapping_entities: int = 0
    duplicate_entities: int = 0
    duplicate_relations: int = 0
    duplicate_ids: int = 0
    self_relations: int = 0
    questions: int = 0
    unanswerable: int = 0
    answers: int = 0
    docs_without_questions: int = 0
    misaligned_answers: int = 0
    repaired_answers: list[Finding] = field(default_factory=list)
    lost_answers: list[Finding] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    _ids: set[RecordId] = field(default_factory=set, init=False, repr=False)

    @property
    def n_entities(self) -> int:
        """Number of entities over all types."""
        return sum(self.entities.values())

    @property
    def n_relations(self) -> int:
        """Number of relations over all labels."""
        return sum(self.relations.values())

    def skip(self, error: ConversionError, on_error: ErrorHandler) -> None:
        """Hand an error to `on_error` and, if that returns, list its record as skipped."""
        on_error(error)
        self.skipped.append(error)

    def add_id(self, orig_id: RecordId | None) -> None:
        """Note a record's id."""
        if orig_id is None:
            return
        self.duplicate_ids += orig_id in self._ids
        self._ids.add(orig_id)


@dataclass
class ExportReport:
    """What an export did; several outputs may add to one report.

    docs (int): Docs of which something was written.
    entities, relations, questions (int): How many were written.
    notes (Counter[str]): What the format cannot hold and what was done about it, in words, and how
        often: "scores of relations, left out".
    """

    docs: int = 0
    entities: int = 0
    relations: int = 0
    questions: int = 0
    notes: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class TypeNames:
    """The names that a types file allows.

    entities, relations (tuple[str, ...]): In the order of the file.
    symmetric (frozenset[str]): Relations without direction.
    """

    entities: tuple[str, ...]
    relations: tuple[str, ...]
    symmetric: frozenset[str] = frozenset()

    def check(self, entities: Sequence[Entity], relations: Sequence[Edge], place: Place) -> None:
        """Raise a ConversionError for the first name that is not in the types file."""
        for what, names, known in (
            ("entities", [e.label for e in entities], self.entities),
            ("relations", [r.label for r in relations], self.relations),
        ):
            for i, name in enumerate(names):
                if name not in known:
                    raise place.at(f"{what}[{i}]").error(
                        Errors.E608,
                        found=short(name),
                        expected="one of " + ", ".join(known),
                    )


@dataclass(frozen=True)
class Entity:
    """An entity by token offsets, end exclusive."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class Edge:
    """A relation between two entities by their indices."""

    head: int
    tail: int
    label: str


def read_types(path: str | Path) -> TypeNames:
    """Read a types file of SpERT's form.

    Sample: ``{"entities": {"Peop": {"short": "Peop", "verbose": "People"}}, "relations":
    {"Kill": {"short": "Kill", "verbose": "Kill", "symmetric": false}}}``

    path (str | Path): The file.
    RETURNS (TypeNames): The names, and which relations are symmetric.
    RAISES (ConversionError): If the file is not of that form.
    """
    place = Place(str(path))
    data = expect_dict(read_json(path), place)
    entities = expect_dict(expect_key(data, "entities", place), place.at("entities"))
    relations = expect_dict(expect_key(data, "relations", place), place.at("relations"))
    symmetric = set()
    for name, spec in relations.items():
        where = place.at(f"relations[{name!r}]")
        flag = expect_dict(spec, where).get("symmetric", False)
        if not isinstance(flag, bool):
            raise wrong_kind(flag, "true or false", where.at("symmetric"))
        if flag:
            symmetric.add(name)
    return TypeNames(tuple(entities), tuple(relations), frozenset(symmetric))


def as_types(types: str | Path | TypeNames | None) -> TypeNames | None:
    """Return type names as they are, or read from the file if a path is given."""
    return types if types is None or isinstance(types, TypeNames) else read_types(types)


def get_vocab(nlp: Language | None) -> Vocab:
    """Return the pipeline's vocabulary; a blank English one without a pipeline."""
    vocab: Vocab = (nlp or spacy.blank("en")).vocab
    return vocab


def make_doc(
    vocab: Vocab,
    words: Sequence[str],
    entities: Sequence[Entity],
    relations: Sequence[Edge],
    *,
    place: Place,
    report: ConversionReport,
    types: TypeNames | None = None,
    sent_starts: Sequence[bool] | None = None,
) -> Doc:
    """Make the gold Doc of a pretokenized record.

    Which tokens are followed by a space is unknown and stays so (`doc.has_unknown_spaces`): spaCy's
    corpus reader then keeps the given tokens for the predicted Doc too.

    vocab (Vocab): The vocabulary.
    words (Sequence[str]): The tokens.
    entities (Sequence[Entity]): All entities; they may overlap.
    relations (Sequence[Edge]): Relations between them.
    place (Place): The record; its id becomes the Doc's.
    report (ConversionReport): Is added to.
    types (TypeNames | None): Names to hold the labels against.
    sent_starts (Sequence[bool] | None): Whether each token starts a sentence, if that is known.
    RETURNS (Doc): The Doc.
    RAISES (ConversionError): If a label is not among `types`.
    """
    starts: list[bool | int | None] | None = None if sent_starts is None else [*sent_starts]
    doc = Doc(vocab, words=list(words), sent_starts=starts)
    annotate_doc(doc, entities, relations, place=place, report=report, types=types)
    return doc


def annotate_doc(
    doc: Doc,
    entities: Sequence[Entity],
    relations: Sequence[Edge],
    *,
    place: Place,
    report: ConversionReport,
    types: TypeNames | None = None,
) -> None:
    """Write gold entities and relations on a Doc and count them; arguments as in `make_doc`."""
    if types is not None:
        types.check(entities, relations, place)
    spans: dict[Entity, Span] = {}
    for entity in entities:
        if entity not in spans:
            spans[entity] = Span(doc, entity.start, entity.end, label=entity.label)
    symmetric = types.symmetric if types is not None else frozenset()
    edges: dict[tuple[Entity, Entity, str], Relation] = {}
    for edge in relations:
        head, tail = entities[edge.head], entities[edge.tail]
        if edge.label in symmetric:
            # One direction stands for both: the order of the text.
            head, tail = sorted((head, tail), key=lambda e: (e.start, e.end, e.label))
        edges[head, tail, edge.label] = Relation(spans[head], spans[tail], edge.label)
    gold = list(spans.values())
    attrs = {} if place.id is None else {ORIG_ID_ATTR: _storable(place.id)}
    doc.spans[ENTITIES_KEY] = SpanGroup(doc, name=ENTITIES_KEY, spans=gold, attrs=attrs)
    set_relations(doc, edges.values())
    doc.ents = tuple(filter_spans(gold))

    report.add_id(place.id)
    report.docs += 1
    report.tokens += len(doc)
    report.entities.update(span.label_ for span in gold)
    report.relations.update(label for _, _, label in edges)
    report.docs_without_entities += not gold
    report.docs_without_relations += not edges
    report.overlapping_entities += len(gold) - len(doc.ents)
    report.duplicate_entities += len(entities) - len(gold)
    report.duplicate_relations += len(relations) - len(edges)
    report.self_relations += sum(
        (head.start, head.end) == (tail.start, tail.end) for head, tail, _ in edges
    )
    report.longest_entity = max([report.longest_entity, *map(len, gold)])
    if report.max_span_size is not None:
        report.too_long.extend(
            Finding(place.ref, f"{short(span.text)} ({span.label_}, {len(span)} tokens)")
            for span in gold
            if len(span) > report.max_span_size
        )


def _storable(orig_id: RecordId) -> RecordId:
    return str(orig_id) if isinstance(orig_id, int) and orig_id not in _INT64 else orig_id


def one_relation(head: Entity, tail: Entity, label: str) -> tuple[list[Entity], list[Edge]]:
    """Return the entities and relations of a record that is one relation.

    Equal arguments are one entity.
    """
    entities = list(dict.fromkeys((head, tail)))
    return entities, [Edge(0, len(entities) - 1, label)]


def char_entity(
    doc: Doc, start_char: int, end_char: int, label: str, *, place: Place, report: ConversionReport
) -> Entity:
    """Return the entity at character offsets; widened to whole tokens and reported if need be.

    doc (Doc): The tokenized text.
    start_char, end_char (int): Where it is, end exclusive.
    label (str): Its type.
    place (Place): The record.
    report (ConversionReport): Is added to.
    RETURNS (Entity): The entity by token offsets.
    RAISES (ConversionError): If there are no tokens at these offsets.
    """
    span = doc.char_span(start_char, end_char, label=label)
    if span is None:
        span = doc.char_span(start_char, end_char, label=label, alignment_mode="expand")
        text = doc.text[start_char:end_char]
        if span is None:
            raise place.error(
                Errors.E611,
                found=short(text),
                expected="tokens there; does the tokenizer change the text?",
            )
        report.misaligned.append(
            Finding(place.ref, f"{short(text)} ({label}) widened to {short(span.text)}")
        )
    return Entity(span.start, span.end, label)


def check_negative_label(label: str, argument: str = "label") -> None:
    """Raise a ConversionError that names the argument if its value can be no label."""
    if not label.strip():
        raise argument_error(argument, repr(label), "a label that is not empty")


def add_negatives(
    doc: Doc,
    label: str,
    *,
    symmetric: Collection[str] = (),
    report: ConversionReport | None = None,
) -> int:
    """Write on a gold Doc which pairs of its entities have no relation.

    Every ordered pair of entities with different boundaries that has no gold relation in that
    direction (by boundaries, as relations are learned and scored) gets a gold relation with the
    label. In a Doc of several sentences the pairs are those within a sentence.

    doc (Doc): The gold Doc.
    label (str): The negative label. Gold relations may have it already.
    symmetric (Collection[str]): Relations without direction: one stands for both directions.
    report (ConversionReport | None): Is added to.
    RETURNS (int): How many relations were added.
    RAISES (ConversionError): If the label is empty.
    """
    check_negative_label(label)
    relations = get_relations(doc)
    related: set[tuple[tuple[int, int], tuple[int, int]]] = set()
    for relation in relations:
        head, tail = _bounds(relation.head), _bounds(relation.tail)
        related.add((head, tail))
        if relation.label in symmetric:
            related.add((tail, head))
    # Without sentence starts, all tokens are of one sentence.
    sentences = list(accumulate(token.is_sent_start is True for token in doc))
    # A span that crosses a border is in no sentence.
    spans = {
        (span.start, span.end, span.label_): span
        for span in get_entities(doc)
        if sentences[span.start] == sentences[span.end - 1]
    }
    added = []
    # In the order of the text, so that a symmetric label gets the direction that stands for both.
    for (_, first), (_, second) in permutations(sorted(spans.items()), 2):
        pair = (_bounds(first), _bounds(second))
        if (
            pair[0] != pair[1]
            and pair not in related
            and sentences[first.start] == sentences[second.start]
            and (label not in symmetric or pair[0] < pair[1])
        ):
            added.append(Relation(first, second, label))
    if added:
        set_relations(doc, [*relations, *added])
    if added and report is not None:
        report.relations[label] += len(added)
        report.notes["negative relations added"] += len(added)
        report.docs_without_relations -= not relations
    return len(added)


def _bounds(span: Span) -> tuple[int, int]:
    return span.start, span.end


# Reading files


# Checking values
