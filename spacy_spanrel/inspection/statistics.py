"""Numbers about gold Docs, collected one Doc at a time."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

import numpy as np
from spacy.tokens import Doc, Span
from spacy.training import Example

from ..annotations import Answer, Relation, get_answers, get_entities, get_questions, get_relations
from ..annotations.answers import reference_answers
from ..encoding.alignment import SpanProjector, token_char_ranges, token_piece_ranges
from ..encoding.windows import window_starts, window_tokens
from ..extractive_qa.features import Windows, pieces_of_range, place_windows
from ..pairing import entity_pairs
from ..relation_classifier.model import pair_ranges
from ..relation_classifier.pairs import TypedPair, distance, sentence_of_tokens
from ..span_relation.gold import known_reach
from .settings import ANY_TYPE, PairReading, QuestionReading, Readings, SpanReading

# Cases that are shown of each finding.
MAX_CASES = 5
_MAX_TEXT = 80

Bounds = tuple[int, int]


@dataclass
class Distribution:
    """Whole numbers, and how often each occurred."""

    counts: Counter[int] = field(default_factory=Counter)

    def add(self, value: int) -> None:
        self.counts[value] += 1

    @property
    def n(self) -> int:
        """How many numbers there are."""
        return self.counts.total()

    @property
    def max(self) -> int:
        """The greatest; 0 if there is none."""
        return max(self.counts, default=0)

    @property
    def mean(self) -> float:
        """The mean; 0 if there is none."""
        return sum(value * n for value, n in self.counts.items()) / max(1, self.n)

    def quantile(self, share: float) -> int:
        """Return the least number that at least this share of all do not exceed; 0 of none."""
        seen = 0
        for value in sorted(self.counts):
            seen += self.counts[value]
            if seen >= share * self.n:
                return value
        return 0

    def over(self, limit: int) -> int:
        """Return how many are greater."""
        return sum(n for value, n in self.counts.items() if value > limit)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "n": self.n,
            "min": min(self.counts, default=0),
            "median": self.quantile(0.5),
            "mean": round(self.mean, 2),
            "p95": self.quantile(0.95),
            "max": self.max,
            "counts": {str(value): self.counts[value] for value in sorted(self.counts)},
        }


@dataclass
class Cases:
    """How often something was found, and the first cases of it.

    n (int): How often.
    first (list[str]): At most `MAX_CASES`.
    """

    n: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.n += 1
        if len(self.first) < MAX_CASES:
            self.first.append(" ".join(text.split())[:_MAX_TEXT])

    def __bool__(self) -> bool:
        return self.n > 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {"n": self.n, "first": self.first}


@dataclass
class SpanNumbers:
    """What `span_relation` would meet. Numbers of pieces are missing where no tokenizer is known.

    pieces (Distribution): Of each Doc.
    windows (Distribution): Of each text that is read by itself: Doc or sentence, as `scope` says.
    pairs (Distribution): Ordered pairs of gold entities in each Doc, within `scope` and
        `max_distance`.
    too_long (Cases): Entities of more tokens than `max_span_size`.
    out_of_scope (Cases): Relations that do not lie in one sentence or window, as `scope` says.
    too_far (Cases): Other relations with more than `max_distance` tokens between their arguments.
    """

    pieces: Distribution = field(default_factory=Distribution)
    windows: Distribution = field(default_factory=Distribution)
    pairs: Distribution = field(default_factory=Distribution)
    too_long: Cases = field(default_factory=Cases)
    out_of_scope: Cases = field(default_factory=Cases)
    too_far: Cases = field(default_factory=Cases)


@dataclass
class PairNumbers:
    """What `relation_classifier` would meet.

    rows (Distribution): Pieces of the row of each gold pair, if nothing were cut.
    cut (int): Rows that do not show all of the text that is read for a pair.
    too_long (Cases): Pairs whose arguments alone are longer than a row.
    """

    rows: Distribution = field(default_factory=Distribution)
    cut: int = 0
    too_long: Cases = field(default_factory=Cases)


@dataclass
class QuestionNumbers:
    """What `extractive_qa` would meet.

    pieces (Distribution): Of each Doc with questions.
    windows (Distribution): Of each question's text.
    answer_pieces (Distribution): Of each reference answer.
    too_long (Cases): Answers of more pieces than `max_answer_length`.
    split (Cases): Answers that no window holds as a whole.
    lost (Cases): Answers without a word piece.
    cut (Cases): Questions longer than `max_question_length`.
    """

    pieces: Distribution = field(default_factory=Distribution)
    windows: Distribution = field(default_factory=Distribution)
    answer_pieces: Distribution = field(default_factory=Distribution)
    too_long: Cases = field(default_factory=Cases)
    split: Cases = field(default_factory=Cases)
    lost: Cases = field(default_factory=Cases)
    cut: Cases = field(default_factory=Cases)


ComponentNumbers = SpanNumbers | PairNumbers | QuestionNumbers


@dataclass
class CorpusStatistics:
    """Numbers about the Docs of a corpus. Cases name what was found; counters go by label.

    docs (int), tokens (Distribution): How many Docs, and the tokens of each.
    texts (Counter[bytes]): How often each text occurs, by a hash of it without case and spacing.
    empty_docs (int): Docs without tokens, which spaCy's readers leave out.
    bare_docs (int): Docs in which nothing is annotated.
    docs_with_sentences (int): Docs whose sentences are marked.
    broken (Cases): Docs whose annotation cannot be read.
    retokenized (int): Docs that the pipeline tokenizes in another way.
    misaligned (Cases): Entities and arguments that lie on no borders of the pipeline's tokens.

    entities (Counter[str]), entity_sizes (Distribution): By type; in tokens.
    docs_without_entities (int): Docs without any.
    duplicate_entities (Cases): Same tokens, same type.
    several_types (Cases): Same tokens, other type.
    overlapping_entities, nested_entities (int): Entities that share tokens with another one, and
        those of them that lie within it.
    untyped_entities, blank_borders, across_sentences (Cases): Entities without a type, that begin
        or end with white space, that cross a sentence border.

    relations (Counter[str]), type_pairs (Counter[tuple[str, str, str]]): By label; by label, type
        of head and type of tail.
    docs_without_relations (int): Docs without any.
    token_distances, sentence_distances (Distribution): Between the arguments of each relation; the
        latter where sentences are marked.
    self_relations, duplicate_relations, several_labels (Cases): Of a span with itself; same pair,
        same label; same pair, other label (each pair once).
    foreign_arguments, untyped_arguments (Cases): Arguments that are no entity, or have no type.
    pairs, both_ways (Counter[str]): Pairs of spans by label, in whatever direction, and those that
        have it in both.

    questions (Distribution): Of each Doc that has any.
    answerable, unanswerable, unsettled (int): Questions with an answer, without one, and of which
        that is not known.
    answer_sizes (Distribution): Tokens of each reference answer.
    misaligned_answers (Cases): Answers that begin or end within a token.
    repeated_questions (Cases): Questions that a Doc asks twice.
    components (dict): What each component would meet, by its name.
    """

    docs: int = 0
    tokens: Distribution = field(default_factory=Distribution)
    texts: Counter[bytes] = field(default_factory=Counter)
    empty_docs: int = 0
    bare_docs: int = 0
    docs_with_sentences: int = 0
    broken: Cases = field(default_factory=Cases)
    retokenized: int = 0
    misaligned: Cases = field(default_factory=Cases)

    entities: Counter[str] = field(default_factory=Counter)
    entity_sizes: Distribution = field(default_factory=Distribution)
    docs_without_entities: int = 0
    duplicate_entities: Cases = field(default_factory=Cases)
    several_types: Cases = field(default_factory=Cases)
    overlapping_entities: int = 0
    nested_entities: int = 0
    untyped_entities: Cases = field(default_factory=Cases)
    blank_borders: Cases = field(default_factory=Cases)
    across_sentences: Cases = field(default_factory=Cases)

    relations: Counter[str] = field(default_factory=Counter)
    type_pairs: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    docs_without_relations: int = 0
    token_distances: Distribution = field(default_factory=Distribution)
    sentence_distances: Distribution = field(default_factory=Distribution)
    self_relations: Cases = field(default_factory=Cases)
    duplicate_relations: Cases = field(default_factory=Cases)
    several_labels: Cases = field(default_factory=Cases)
    foreign_arguments: Cases = field(default_factory=Cases)
    untyped_arguments: Cases = field(default_factory=Cases)
    pairs: Counter[str] = field(default_factory=Counter)
    both_ways: Counter[str] = field(default_factory=Counter)

    questions: Distribution = field(default_factory=Distribution)
    answerable: int = 0
    unanswerable: int = 0
    unsettled: int = 0
    answer_sizes: Distribution = field(default_factory=Distribution)
    misaligned_answers: Cases = field(default_factory=Cases)
    repeated_questions: Cases = field(default_factory=Cases)
    components: dict[str, ComponentNumbers] = field(default_factory=dict)

    @property
    def n_questions(self) -> int:
        """All questions."""
        return self.answerable + self.unanswerable + self.unsettled

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; of the texts only how many differ."""
        found = {name: _plain(value) for name, value in vars(self).items() if name != "texts"}
        return {**found, "different_texts": len(self.texts)}


def _plain(value: Any) -> Any:
    if isinstance(value, (Distribution, Cases)):
        return value.to_dict()
    if isinstance(value, Counter):
        rows = value.most_common()
        if any(isinstance(key, tuple) for key in value):
            return [{"label": k[0], "head": k[1], "tail": k[2], "n": n} for k, n in rows]
        return {str(key): n for key, n in rows}
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, (SpanNumbers, PairNumbers, QuestionNumbers)):
        return {name: _plain(part) for name, part in vars(value).items()}
    return value


def collect(docs: Iterable[Doc], readings: Readings) -> CorpusStatistics:
    """Collect numbers about gold Docs; none of them is kept.

    docs (Iterable[Doc]): The Docs, of the vocabulary of the pipeline.
    readings (Readings): The components that would read them.
    RETURNS (CorpusStatistics): The numbers.
    """
    found = CorpusStatistics()
    for part in readings.parts:
        if isinstance(part, SpanReading):
            found.components[part.name] = SpanNumbers()
        elif isinstance(part, PairReading):
            found.components[part.name] = PairNumbers()
        else:
            found.components[part.name] = QuestionNumbers()
    for number, doc in enumerate(docs):
        _add_doc(found, doc, number, readings)
    return found


def text_hash(text: str) -> bytes:
    """Return the same for texts that differ in case and spacing only."""
    return blake2b(" ".join(text.casefold().split()).encode(), digest_size=16).digest()


def _add_doc(found: CorpusStatistics, doc: Doc, number: int, readings: Readings) -> None:
    found.docs += 1
    found.tokens.add(len(doc))
    if not len(doc):
        found.empty_docs += 1
        return
    found.texts[text_hash(doc.text)] += 1
    found.docs_with_sentences += doc.has_annotation("SENT_START")
    try:
        relations = get_relations(doc, readings.relations_key)
        answers = get_answers(doc, readings.qa_key)
        questions = [question.text for question in get_questions(doc, readings.qa_key)]
    except (ValueError, TypeError) as error:  # whatever was put there by hand
        found.broken.add(f"Doc {number} ({doc.text[:30]!r}): {error}")
        return
    entities = get_entities(doc, readings.entities_key)
    annotated = {readings.entities_key, readings.relations_key, readings.qa_key} & set(doc.spans)
    found.bare_docs += not (annotated or entities)
    predicted = _tokenized(doc, readings)
    same = [t.text for t in doc] == [t.text for t in predicted]
    found.retokenized += not same
    project = SpanProjector(doc, predicted)
    sentence = sentence_of_tokens(doc) if doc.has_annotation("SENT_START") else None
    _add_entities(found, entities, sentence)
    _add_relations(found, relations, entities, sentence)
    _add_questions(found, questions, answers)
    arguments = [span for r in relations for span in (r.head, r.tail)]
    for span in {(s.start, s.end): s for s in (*entities, *arguments)}.values():
        if len(span) and project(span) is None:
            found.misaligned.add(f"{span.text!r} ({span.label_})")
    for part in readings.parts:
        numbers = found.components[part.name]
        if isinstance(part, SpanReading) and isinstance(numbers, SpanNumbers):
            example = Example(predicted, doc)
            _read_spans(numbers, part, example, [*entities, *arguments], relations, project)
        elif isinstance(part, PairReading) and isinstance(numbers, PairNumbers):
            _read_pairs(numbers, part, predicted, relations, project)
        elif isinstance(part, QuestionReading) and isinstance(numbers, QuestionNumbers):
            _read_questions(numbers, part, doc, questions, answers)


def _tokenized(doc: Doc, readings: Readings) -> Doc:
    """The Doc as the pipeline gets it, without annotation."""
    if doc.has_unknown_spaces or not readings.configured:
        spaces = [bool(token.whitespace_) for token in doc]
        return Doc(doc.vocab, words=[token.text for token in doc], spaces=spaces)
    predicted: Doc = readings.nlp.make_doc(doc.text)
    return predicted


def _bounds(span: Span) -> Bounds:
    return (span.start, span.end)


def _add_entities(
    found: CorpusStatistics, entities: Sequence[Span], sentence: np.ndarray | None
) -> None:
    found.docs_without_entities += not entities
    types: dict[Bounds, set[str]] = {}
    for span in entities:
        text = f"{span.text!r} ({span.label_})"
        if not len(span):
            found.blank_borders.add(f"an empty span ({span.label_})")
            continue
        known = types.setdefault(_bounds(span), set())
        if span.label_ in known:
            found.duplicate_entities.add(text)
            continue
        if known:
            found.several_types.add(f"{span.text!r} ({', '.join(sorted({*known, span.label_}))})")
        known.add(span.label_)
        found.entities[span.label_] += 1
        found.entity_sizes.add(len(span))
        if not span.label_:
            found.untyped_entities.add(repr(span.text))
        if span[0].is_space or span[-1].is_space:
            found.blank_borders.add(text)
        if sentence is not None and sentence[span.start] != sentence[span.end - 1]:
            found.across_sentences.add(text)
    overlapping, nested = _overlaps(sorted(types, key=lambda b: (b[0], -b[1])))
    found.overlapping_entities += overlapping
    found.nested_entities += nested


def _overlaps(spans: Sequence[Bounds]) -> tuple[int, int]:
    """Count spans, sorted by start and falling end, that overlap another one, and nested ones."""
    overlapping: set[Bounds] = set()
    nested = 0
    open_spans: list[Bounds] = []
    for span in spans:
        open_spans = [other for other in open_spans if other[1] > span[0]]
        if open_spans:
            overlapping.update((span, *open_spans))
            nested += any(other[1] >= span[1] for other in open_spans)
        open_spans.append(span)
    return len(overlapping), nested


def _add_relations(
    found: CorpusStatistics,
    relations: Sequence[Relation],
    entities: Sequence[Span],
    sentence: np.ndarray | None,
) -> None:
    found.docs_without_relations += not relations
    known = {_bounds(span) for span in entities}
    labels: dict[tuple[Bounds, Bounds], list[str]] = {}
    for relation in relations:
        head, tail = relation.head, relation.tail
        text = f"{relation.label}({head.text!r}, {tail.text!r})"
        own = labels.setdefault((_bounds(head), _bounds(tail)), [])
        if relation.label in own:
            found.duplicate_relations.add(text)
            continue
        if len(own) == 1:
            found.several_labels.add(f"{own[0]}, {text}")
        own.append(relation.label)
        found.relations[relation.label] += 1
        found.type_pairs[relation.label, head.label_, tail.label_] += 1
        found.token_distances.add(distance(head, tail))
        if _bounds(head) == _bounds(tail):
            found.self_relations.add(text)
        for argument in (head, tail):
            if _bounds(argument) not in known:
                found.foreign_arguments.add(f"{argument.text!r} in {text}")
            if not argument.label_:
                found.untyped_arguments.add(f"{argument.text!r} in {text}")
        if sentence is not None and len(head) and len(tail):
            places = sorted((head, tail), key=_bounds)
            gap = int(sentence[places[1].start]) - int(sentence[places[0].end - 1])
            found.sentence_distances.add(max(0, gap))
    for (head_at, tail_at), own in labels.items():
        for label in own:
            back = label in labels.get((tail_at, head_at), ())
            if head_at < tail_at or (head_at != tail_at and not back):
                found.pairs[label] += 1
                found.both_ways[label] += back


def _add_questions(
    found: CorpusStatistics, questions: Sequence[str], answers: Sequence[Answer]
) -> None:
    if not questions:
        return
    found.questions.add(len(questions))
    seen: set[bytes] = set()
    for text in questions:
        key = text_hash(text)
        if key in seen:
            found.repeated_questions.add(text)
        seen.add(key)
    found.unsettled += len(questions) - len(answers)
    for answer in answers:
        references = reference_answers(answer)
        found.answerable += bool(references)
        found.unanswerable += not references
        for reference in references:
            if reference.span is not None:
                found.answer_sizes.add(len(reference.span))
            if not reference.aligned:
                found.misaligned_answers.add(f"{reference.text!r} ({answer.question.text})")


# What the components would make of a Doc


def _read_spans(
    numbers: SpanNumbers,
    part: SpanReading,
    example: Example,
    spans: Sequence[Span],
    relations: Sequence[Relation],
    project: SpanProjector,
) -> None:
    predicted = example.predicted
    places: dict[Bounds, Span] = {}
    for span in spans:
        place = project(span) if len(span) else None
        if place is not None:
            places.setdefault(place, span)
    for (start, end), span in places.items():
        if end - start > part.cfg["max_span_size"]:
            numbers.too_long.add(f"{span.text!r} ({span.label_}, {end - start} tokens)")
    reach = known_reach(example, part.cfg)
    if part.pieces is not None:
        (text,) = part.pieces([predicted.text])
        numbers.pieces.add(len(text.ids))
        tokens = token_piece_ranges(token_char_ranges(predicted), text.chars)
        first = 0
        for end in np.unique(reach.span_ends).tolist():  # of each Doc or sentence
            n_pieces = int(tokens[end - 1, 1] - tokens[first, 0])
            starts = window_starts(n_pieces, part.capacity, part.overlap)
            numbers.windows.add(len(starts))
            first = end
        if part.cfg["scope"] == "window":
            reach = known_reach(example, part.cfg, window_tokens(starts, part.capacity, tokens))
    bounds = sorted(places)
    table = np.asarray(bounds, dtype=np.int64).reshape(-1, 2)
    pairs, left_out = entity_pairs(
        table, np.zeros(len(table), dtype=np.int64), 1, reach.pair_ends, reach.max_distance
    )
    numbers.pairs.add(len(pairs) + int(left_out[:, 3].sum()))
    for relation in relations:
        head, tail = project(relation.head), project(relation.tail)
        if head not in places or tail not in places:
            continue
        name = f"{relation.label}({relation.head.text!r}, {relation.tail.text!r})"
        match reach.bars(head, tail):
            case "scope":
                numbers.out_of_scope.add(name)
            case "max_distance":
                numbers.too_far.add(name)


def _read_pairs(
    numbers: PairNumbers,
    part: PairReading,
    predicted: Doc,
    relations: Sequence[Relation],
    project: SpanProjector,
) -> None:
    if part.pieces is None or part.marker is None or not relations:
        return
    (text,) = part.pieces([predicted.text])
    tokens = token_piece_ranges(token_char_ranges(predicted), text.chars)
    sentence = sentence_of_tokens(predicted) if part.cfg["context"] == "sentence" else None
    unlimited = replace(part.marker, max_length=sys.maxsize)
    for relation in relations:
        head, tail = project(relation.head), project(relation.tail)
        if head is None or tail is None:
            continue
        pair = TypedPair(head, tail, ANY_TYPE, ANY_TYPE)
        context, head_pieces, tail_pieces = pair_ranges(tokens, len(text.ids), sentence, pair)
        argument = (context, head_pieces, tail_pieces, ANY_TYPE, ANY_TYPE)
        if part.marker.mark(*argument) is None:
            numbers.too_long.add(
                f"{relation.label}({relation.head.text!r}, {relation.tail.text!r})"
            )
            continue
        row = unlimited.mark(*argument)
        assert row is not None
        numbers.rows.add(len(row.places))
        numbers.cut += len(row.places) > part.marker.max_length


def _read_questions(
    numbers: QuestionNumbers,
    part: QuestionReading,
    doc: Doc,
    questions: Sequence[str],
    answers: Sequence[Answer],
) -> None:
    if part.pieces is None or not questions:
        return
    (text,) = part.pieces([doc.text])
    numbers.pieces.add(len(text.ids))
    windows: dict[str, Windows] = {}
    for question, pieces in zip(
        questions, part.pieces([q.strip() for q in questions]), strict=True
    ):
        length = min(len(pieces.ids), part.max_question_length)
        if len(pieces.ids) > part.max_question_length:
            numbers.cut.add(question)
        capacity = part.max_length - length - part.pieces.pair.n_special
        placed = place_windows(len(text.ids), capacity, min(part.doc_stride, capacity))
        numbers.windows.add(len(placed.starts))
        windows[question] = placed
    for answer in answers:
        placed = windows[answer.question.text]
        for reference in reference_answers(answer):
            name = f"{reference.text!r} ({answer.question.text})"
            place = pieces_of_range(text.chars, reference.start_char, reference.end_char)
            if place is None:
                numbers.lost.add(name)
                continue
            size = place[1] - place[0] + 1
            numbers.answer_pieces.add(size)
            if size > part.cfg["max_answer_length"]:
                numbers.too_long.add(f"{name}: {size} pieces")
            ends = placed.starts + placed.lengths
            if not np.any((placed.starts <= place[0]) & (place[1] < ends)):
                numbers.split.add(name)
