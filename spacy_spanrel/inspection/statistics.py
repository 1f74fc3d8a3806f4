"""Numbers about gold Docs, collected Doc by Doc."""

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

from ..annotations import (
    Answer,
    Relation,
    get_answers,
    get_clusters,
    get_entities,
    get_questions,
    get_relations,
)
from ..annotations.answers import reference_answers
from ..encoding.alignment import SpanProjector, token_char_ranges, token_piece_ranges
from ..encoding.windows import window_starts, window_tokens
from ..extractive_qa.features import Windows, pieces_of_range, place_windows
from ..pairing import entity_pairs, sentence_of_tokens
from ..relation_classifier.model import pair_ranges
from ..relation_classifier.pairs import TypedPair, distance
from ..span_relation.reach import reach_before_encoding
from ..training.corpus import UNLABELLED
from .settings import ANY_TYPE, PairReading, QuestionReading, Readings, SpanReading

# Number of cases to show of each finding.
MAX_CASES = 5
_MAX_TEXT = 80

Bounds = tuple[int, int]


@dataclass
class Distribution:
    """Counts of whole numbers."""

    counts: Counter[int] = field(default_factory=Counter)

    def add(self, value: int) -> None:
        self.counts[value] += 1

    @property
    def n(self) -> int:
        """Number of numbers."""
        return self.counts.total()

    @property
    def max(self) -> int:
        """The greatest number; 0 if there is none."""
        return max(self.counts, default=0)

    @property
    def mean(self) -> float:
        """The mean; 0 if there is none."""
        return sum(value * n for value, n in self.counts.items()) / max(1, self.n)

    def quantile(self, share: float) -> int:
        """Return the least number that is not exceeded by at least this share; 0 if there is none."""
        seen = 0
        for value in sorted(self.counts):
            seen += self.counts[value]
            if seen >= share * self.n:
                return value
        return 0

    def over(self, limit: int) -> int:
        """Return how many numbers are greater than a limit."""
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
    """The number of cases of a finding, and the first of them.

    n (int): Number of cases.
    first (list[str]): The first cases, at most `MAX_CASES`.
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
    """Numbers about a corpus as `span_relation` reads it.

    Without a subword tokenizer, `pieces` and `windows` are empty.

    pieces (Distribution): Subword pieces of each Doc.
    windows (Distribution): Windows of each text that is encoded by itself: a Doc, or a sentence if
        `scope` says so.
    pairs (Distribution): Ordered pairs of gold entities in each Doc, within `scope` and
        `max_distance`.
    too_long (Cases): Entities of more tokens than `max_span_size`.
    out_of_scope (Cases): Relations that are not within one sentence or window, as `scope` asks.
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
    """Numbers about a corpus as `relation_classifier` reads it.

    rows (Distribution): Subword pieces of the row of each gold pair, before rows are cut.
    cut (int): Rows that are cut.
    too_long (Cases): Pairs whose arguments alone are longer than a row.
    """

    rows: Distribution = field(default_factory=Distribution)
    cut: int = 0
    too_long: Cases = field(default_factory=Cases)


@dataclass
class QuestionNumbers:
    """Numbers about a corpus as `extractive_qa` reads it.

    pieces (Distribution): Subword pieces of each Doc with questions.
    windows (Distribution): Windows of the Doc for each question.
    answer_pieces (Distribution): Subword pieces of each reference answer.
    too_long (Cases): Answers of more pieces than `max_answer_length`.
    split (Cases): Answers that fit into no window as a whole.
    lost (Cases): Answers without subword pieces.
    cut (Cases): Questions of more pieces than `max_question_length`.
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
    """Numbers about the Docs of a corpus.

    docs (int), tokens (Distribution): Number of Docs, and of tokens in each.
    unlabelled_docs (int): Further Docs, from which only a teacher's predictions are learned. Nothing else
        counts them.
    texts (Counter[bytes]): Number of Docs with the same text, by its hash (`text_hash`).
    empty_docs (int): Docs without tokens, which spaCy's readers leave out.
    bare_docs (int): Docs without any annotation.
    sentences (Distribution): Sentences of each Doc with sentence boundaries.
    broken (Cases): Docs with annotations that cannot be read.
    retokenized (int): Docs that the pipeline tokenizes differently.
    misaligned (Cases): Entities and arguments that do not begin and end at token boundaries of the
        pipeline.

    entities (Counter[str]): Entities by type.
    entity_sizes (Distribution): Tokens of each entity.
    docs_without_entities (int): Docs without entities.
    duplicate_entities (Cases): Entities with the span and type of an earlier one.
    several_types (Cases): Entities with the span of an earlier one, and another type.
    overlapping_entities, nested_entities (int): Entities that share tokens with another one, and
        those of them that are within it.
    untyped_entities (Cases): Entities without a type.
    blank_borders (Cases): Entities that are empty, or begin or end with whitespace.
    across_sentences (Cases): Entities that cross a sentence boundary.

    relations (Counter[str]): Relations by label.
    type_pairs (Counter[tuple[str, str, str]]): Relations by label, head type and tail type.
    docs_without_relations (int): Docs without relations.
    token_distances, sentence_distances (Distribution): Tokens and sentences between the arguments of
        each relation; the latter only in Docs with sentence boundaries.
    self_relations (Cases): Relations of a span with itself.
    duplicate_relations (Cases): Relations with the arguments and label of an earlier one.
    several_labels (Cases): Pairs of spans with several labels.
    foreign_arguments, untyped_arguments (Cases): Arguments that are no entities, or have no type.
    pairs, both_ways (Counter[str]): Pairs of spans with a label in either direction, and those that
        have it in both.

    clusters (Distribution): Mentions of each cluster of coreferent mentions.

    questions (Distribution): Number of questions in each Doc that has any.
    answerable, unanswerable, unsettled (int): Questions with an answer, without one, and without
        gold annotation.
    answer_sizes (Distribution): Tokens of each reference answer.
    misaligned_answers (Cases): Answers that begin or end within a token.
    repeated_questions (Cases): Questions that are asked twice of a Doc.
    components (dict[str, ComponentNumbers]): Numbers for each component, by its name.
    """

    docs: int = 0
    unlabelled_docs: int = 0
    tokens: Distribution = field(default_factory=Distribution)
    texts: Counter[bytes] = field(default_factory=Counter)
    empty_docs: int = 0
    bare_docs: int = 0
    sentences: Distribution = field(default_factory=Distribution)
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

    clusters: Distribution = field(default_factory=Distribution)

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
        """Number of questions."""
        return self.answerable + self.unanswerable + self.unsettled

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, with the number of different texts instead of their hashes."""
        data = {name: _plain(value) for name, value in vars(self).items() if name != "texts"}
        return {**data, "different_texts": len(self.texts)}


def _plain(value: Any) -> Any:
    if isinstance(value, (Distribution, Cases)):
        return value.to_dict()
    if isinstance(value, Counter):
        rows = value.most_common()
        if any(isinstance(key, tuple) for key in value):
            return [{"label": k[0], "head": k[1], "tail": k[2], "n": n} for k, n in rows]
        return {str(key): n for key, n in rows}
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (SpanNumbers, PairNumbers, QuestionNumbers)):
        return {name: _plain(item) for name, item in vars(value).items()}
    return value


def collect(docs: Iterable[Doc], readings: Readings) -> CorpusStatistics:
    """Collect numbers about gold Docs, without keeping the Docs.

    docs (Iterable[Doc]): The Docs, with the vocabulary of the pipeline.
    readings (Readings): How the components read them.
    RETURNS (CorpusStatistics): The numbers.
    """
    kinds = {SpanReading: SpanNumbers, PairReading: PairNumbers, QuestionReading: QuestionNumbers}
    statistics = CorpusStatistics(
        components={r.name: kinds[type(r)]() for r in readings.components}
    )
    for number, doc in enumerate(docs):
        _add_doc(statistics, doc, number, readings)
    return statistics


def text_hash(text: str) -> bytes:
    """Return a hash of a text that does not depend on case and spacing."""
    return blake2b(" ".join(text.casefold().split()).encode(), digest_size=16).digest()


def _add_doc(statistics: CorpusStatistics, doc: Doc, number: int, readings: Readings) -> None:
    if doc.user_data.get(UNLABELLED):
        statistics.unlabelled_docs += 1
        return
    statistics.docs += 1
    statistics.tokens.add(len(doc))
    if not len(doc):
        statistics.empty_docs += 1
        statistics.docs_without_entities += 1
        statistics.docs_without_relations += 1
        return
    statistics.texts[text_hash(doc.text)] += 1
    sentence = sentence_of_tokens(doc) if doc.has_annotation("SENT_START") else None
    if sentence is not None:
        statistics.sentences.add(int(sentence[-1]) + 1)
    try:
        relations = get_relations(doc, readings.relations_key)
        answers = get_answers(doc, readings.qa_key)
        questions = [question.text for question in get_questions(doc, readings.qa_key)]
        clusters = get_clusters(doc)
    except (ValueError, TypeError) as error:  # a group that was changed by hand
        statistics.broken.add(f"Doc {number} ({doc.text[:30]!r}): {error}")
        return
    entities = get_entities(doc, readings.entities_key)
    annotated_keys = {readings.entities_key, readings.relations_key, readings.qa_key} & set(
        doc.spans
    )
    statistics.bare_docs += not (annotated_keys or entities)
    predicted = _tokenized(doc, readings)
    same = [t.text for t in doc] == [t.text for t in predicted]
    statistics.retokenized += not same
    project = SpanProjector(doc, predicted)
    _add_entities(statistics, entities, sentence)
    _add_relations(statistics, relations, entities, sentence)
    for cluster in clusters:
        statistics.clusters.add(len(cluster))
    _add_questions(statistics, questions, answers)
    arguments = [span for r in relations for span in (r.head, r.tail)]
    for span in {(s.start, s.end): s for s in (*entities, *arguments)}.values():
        if len(span) and project(span) is None:
            statistics.misaligned.add(f"{span.text!r} ({span.label_})")
    for reading in readings.components:
        numbers: Any = statistics.components[reading.name]
        if isinstance(reading, SpanReading):
            example = Example(predicted, doc)
            _read_spans(numbers, reading, example, [*entities, *arguments], relations, project)
        elif isinstance(reading, PairReading):
            _read_pairs(numbers, reading, predicted, relations, project)
        else:
            _read_questions(numbers, reading, doc, questions, answers)


def _tokenized(doc: Doc, readings: Readings) -> Doc:
    """Return the Doc as the pipeline tokenizes it, without annotation."""
    if doc.has_unknown_spaces or not readings.configured:
        spaces = [bool(token.whitespace_) for token in doc]
        return Doc(doc.vocab, words=[token.text for token in doc], spaces=spaces)
    predicted: Doc = readings.nlp.make_doc(doc.text)
    return predicted


def _bounds(span: Span) -> Bounds:
    return (span.start, span.end)


def _add_entities(
    statistics: CorpusStatistics, entities: Sequence[Span], sentence: np.ndarray | None
) -> None:
    statistics.docs_without_entities += not entities
    types: dict[Bounds, set[str]] = {}
    for span in entities:
        text = f"{span.text!r} ({span.label_})"
        if not len(span):
            statistics.blank_borders.add(f"an empty span ({span.label_})")
            continue
        span_types = types.setdefault(_bounds(span), set())
        if span.label_ in span_types:
            statistics.duplicate_entities.add(text)
            continue
        if span_types:
            all_types = ", ".join(sorted({*span_types, span.label_}))
            statistics.several_types.add(f"{span.text!r} ({all_types})")
        span_types.add(span.label_)
        statistics.entities[span.label_] += 1
        statistics.entity_sizes.add(len(span))
        if not span.label_:
            statistics.untyped_entities.add(repr(span.text))
        if span[0].is_space or span[-1].is_space:
            statistics.blank_borders.add(text)
        if sentence is not None and sentence[span.start] != sentence[span.end - 1]:
            statistics.across_sentences.add(text)
    overlapping, nested = _overlaps(sorted(types, key=lambda b: (b[0], -b[1])))
    statistics.overlapping_entities += overlapping
    statistics.nested_entities += nested


def _overlaps(spans: Sequence[Bounds]) -> tuple[int, int]:
    """Count the spans that overlap another one, and those within another one.

    spans (Sequence[tuple[int, int]]): Different spans, sorted by start and then by falling end.
    RETURNS (tuple[int, int]): The two counts. One pass over the spans; at each of them, only those
        that have not ended yet are compared.
    """
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
    statistics: CorpusStatistics,
    relations: Sequence[Relation],
    entities: Sequence[Span],
    sentence: np.ndarray | None,
) -> None:
    statistics.docs_without_relations += not relations
    entity_bounds = {_bounds(span) for span in entities}
    labels: dict[tuple[Bounds, Bounds], list[str]] = {}
    for relation in relations:
        head, tail = relation.head, relation.tail
        text = f"{relation.label}({head.text!r}, {tail.text!r})"
        pair_labels = labels.setdefault((_bounds(head), _bounds(tail)), [])
        if relation.label in pair_labels:
            statistics.duplicate_relations.add(text)
            continue
        if len(pair_labels) == 1:
            statistics.several_labels.add(f"{pair_labels[0]}, {text}")
        pair_labels.append(relation.label)
        statistics.relations[relation.label] += 1
        statistics.type_pairs[relation.label, head.label_, tail.label_] += 1
        statistics.token_distances.add(distance(head, tail))
        if _bounds(head) == _bounds(tail):
            statistics.self_relations.add(text)
        for argument in (head, tail):
            if _bounds(argument) not in entity_bounds:
                statistics.foreign_arguments.add(f"{argument.text!r} in {text}")
            if not argument.label_:
                statistics.untyped_arguments.add(f"{argument.text!r} in {text}")
        if sentence is not None and len(head) and len(tail):
            places = sorted((head, tail), key=_bounds)
            gap = int(sentence[places[1].start]) - int(sentence[places[0].end - 1])
            statistics.sentence_distances.add(max(0, gap))
    for (head_bounds, tail_bounds), pair_labels in labels.items():
        for label in pair_labels:
            reverse = label in labels.get((tail_bounds, head_bounds), ())
            # A pair with the label in both directions counts once.
            if head_bounds < tail_bounds or (head_bounds != tail_bounds and not reverse):
                statistics.pairs[label] += 1
                statistics.both_ways[label] += reverse


def _add_questions(
    statistics: CorpusStatistics, questions: Sequence[str], answers: Sequence[Answer]
) -> None:
    if not questions:
        return
    statistics.questions.add(len(questions))
    seen: set[bytes] = set()
    for text in questions:
        key = text_hash(text)
        if key in seen:
            statistics.repeated_questions.add(text)
        seen.add(key)
    statistics.unsettled += len(questions) - len(answers)
    for answer in answers:
        references = reference_answers(answer)
        statistics.answerable += bool(references)
        statistics.unanswerable += not references
        for reference in references:
            if reference.span is not None:
                statistics.answer_sizes.add(len(reference.span))
            if not reference.aligned:
                statistics.misaligned_answers.add(f"{reference.text!r} ({answer.question.text})")


# Doc by Doc, as each component reads it


def _read_spans(
    numbers: SpanNumbers,
    reading: SpanReading,
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
        if end - start > reading.cfg["max_span_size"]:
            numbers.too_long.add(f"{span.text!r} ({span.label_}, {end - start} tokens)")
    reach = reach_before_encoding(example, reading.cfg)
    if reading.pieces is not None:
        (text,) = reading.pieces([predicted.text])
        numbers.pieces.add(len(text.ids))
        tokens = token_piece_ranges(token_char_ranges(predicted), text.chars)
        first = 0
        for end in np.unique(reach.span_ends).tolist():  # of each Doc or sentence
            n_pieces = int(tokens[end - 1, 1] - tokens[first, 0])
            starts = window_starts(n_pieces, reading.capacity, reading.overlap)
            numbers.windows.add(len(starts))
            first = end
        if reading.cfg["scope"] == "window":
            reach = reach_before_encoding(
                example, reading.cfg, window_tokens(starts, reading.capacity, tokens)
            )
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
    reading: PairReading,
    predicted: Doc,
    relations: Sequence[Relation],
    project: SpanProjector,
) -> None:
    if reading.pieces is None or reading.marker is None or not relations:
        return
    (text,) = reading.pieces([predicted.text])
    tokens = token_piece_ranges(token_char_ranges(predicted), text.chars)
    sentence = sentence_of_tokens(predicted) if reading.cfg["context"] == "sentence" else None
    unlimited = replace(reading.marker, max_length=sys.maxsize)
    for relation in relations:
        head, tail = project(relation.head), project(relation.tail)
        if head is None or tail is None:
            continue
        pair = TypedPair(head, tail, ANY_TYPE, ANY_TYPE)
        context, head_pieces, tail_pieces = pair_ranges(tokens, len(text.ids), sentence, pair)
        argument = (context, head_pieces, tail_pieces, ANY_TYPE, ANY_TYPE)
        if reading.marker.mark(*argument) is None:
            numbers.too_long.add(
                f"{relation.label}({relation.head.text!r}, {relation.tail.text!r})"
            )
            continue
        row = unlimited.mark(*argument)
        assert row is not None
        numbers.rows.add(len(row.places))
        numbers.cut += len(row.places) > reading.marker.max_length


def _read_questions(
    numbers: QuestionNumbers,
    reading: QuestionReading,
    doc: Doc,
    questions: Sequence[str],
    answers: Sequence[Answer],
) -> None:
    if reading.pieces is None or not questions:
        return
    (text,) = reading.pieces([doc.text])
    numbers.pieces.add(len(text.ids))
    windows: dict[str, Windows] = {}
    for question, pieces in zip(
        questions, reading.pieces([q.strip() for q in questions]), strict=True
    ):
        length = min(len(pieces.ids), reading.max_question_length)
        if len(pieces.ids) > reading.max_question_length:
            numbers.cut.add(question)
        capacity = reading.max_length - length - reading.pieces.pair.n_special
        placed = place_windows(len(text.ids), capacity, min(reading.doc_stride, capacity))
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
            if size > reading.cfg["max_answer_length"]:
                numbers.too_long.add(f"{name}: {size} pieces")
            ends = placed.starts + placed.lengths
            if not np.any((placed.starts <= place[0]) & (place[1] < ends)):
                numbers.split.add(name)
