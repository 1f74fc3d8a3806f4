"""Single outcomes: gold annotations matched with predicted ones, by the rules of the scorers.

Every annotation, gold or predicted, is in exactly one outcome, and every outcome knows how many true
positives, false positives and false negatives it adds to each score. So outcomes add up to the
results of `score_relations` and `score_pairs`, and those of answers average to `score_answers`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from spacy.tokens import Doc, Span
from spacy.training import Example

from ..annotations import (
    ENTITIES_KEY,
    QA_KEY,
    RELATIONS_KEY,
    Answer,
    Question,
    Relation,
    get_answers,
    get_clusters,
    get_entities,
    get_entity_scores,
    get_relations,
)
from ..annotations.answers import reference_answers
from ..annotations.clusters import Entities
from ..annotations.relations import RecordId, get_orig_id
from ..encoding.alignment import non_space_offsets, project_chars
from ..scoring.answers import exact_match, f1
from ..scoring.counts import Counts
from ..scoring.relations import ComparableDoc

Kind = Literal["entity", "relation", "answer"]
# "wrong type": the right spans under another label; "wrong argument types": a relation with the right
# label and spans, but other entity types; "wrong boundaries": the right label on spans that overlap
# the gold ones (for answers: some words of a reference).
Status = Literal[
    "correct",
    "wrong type",
    "wrong argument types",
    "wrong boundaries",
    "wrong answer",
    "spurious",
    "missed",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
STATUSES: tuple[Status, ...] = get_args(Status)

# The label of every answer.
ANSWER = "answer"

# Number of characters other than whitespace before the start and before the end of a span: the same
# in gold and prediction, however each is tokenized.
Location = tuple[int, int]
# The tuples that scorers compare: a label, then one location or two.
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Source:
    """The gold Doc of an outcome.

    number (int): Its index in the corpus.
    id (str | int | None): The id of the record it was made from, if known.
    text (str): Its text.
    """

    number: int
    id: RecordId | None
    text: str


@dataclass(frozen=True)
class Mention:
    """A span in the text of the gold Doc.

    start, end (int): Character offsets, end exclusive.
    text (str): The text of the span.
    label (str): Its entity type; "" if unknown, and for answers.
    entity (str): The best mention of the cluster that it belongs to, such as "Ada Berg" for "she"; "" if
        it is the best one, or in no cluster.
    """

    start: int
    end: int
    text: str
    label: str = ""
    entity: str = ""


@dataclass(frozen=True)
class Annotation:
    """A gold or predicted entity, relation or answer.

    label (str): The label; "answer" for an answer.
    mentions (tuple[Mention, ...]): The entity; head and tail of the relation; the answer (if gold,
        every reference answer with a span of its own).
    score (float | None): Probability of a prediction, if known.
    """

    label: str
    mentions: tuple[Mention, ...]
    score: float | None = None


@dataclass(frozen=True)
class AnswerScore:
    """The scores of the answer to a question.

    question (Question): The question.
    references (tuple[str, ...]): The reference answers; empty if the question has no answer.
    predicted (str): The predicted answer; "" for no answer.
    exact, f1 (float): Exact match and F1, from 0 to 1.
    probability (float | None): The model's probability of the predicted answer, or of no answer.
    """

    question: Question
    references: tuple[str, ...]
    predicted: str
    exact: float
    f1: float
    probability: float | None = None


@dataclass(frozen=True)
class Outcome:
    """A gold annotation and the prediction matched with it, or one of the two without the other.

    kind ("entity" | "relation" | "answer"): The kind of annotation.
    status (Status): The result of the comparison.
    source (Source): The gold Doc.
    sentence (tuple[int, int]): Character offsets of the sentence or sentences around all mentions.
    gold, predicted (Annotation | None): The annotations; None if there is none, or no answer.
    counts (Mapping[str, Counts]): The counts that the outcome adds to each score ("ents", "rel",
        "rel_strict"); none for answers.
    answer (AnswerScore | None): For answers: question, references and scores.
    """

    kind: Kind
    status: Status
    source: Source
    sentence: tuple[int, int]
    gold: Annotation | None
    predicted: Annotation | None
    counts: Mapping[str, Counts] = field(default_factory=dict)
    answer: AnswerScore | None = None

    @property
    def score(self) -> float | None:
        """The probability of the prediction, "no answer" included; None if unknown."""
        if self.answer is not None:
            return self.answer.probability
        return None if self.predicted is None else self.predicted.score


def add_up(outcomes: Iterable[Outcome]) -> dict[str, Counts]:
    """Add up the counts of outcomes for each score.

    outcomes (Iterable[Outcome]): The outcomes of one component.
    RETURNS (dict[str, Counts]): Counts by the name of the score, with the precision, recall and F1
        of the component's scorer.
    """
    totals: defaultdict[str, Counts] = defaultdict(Counts)
    for outcome in outcomes:
        for name, counts in outcome.counts.items():
            totals[name].tp += counts.tp
            totals[name].fp += counts.fp
            totals[name].fn += counts.fn
    return dict(totals)


# Entities and relations


def relation_outcomes(
    examples: Iterable[Example],
    *,
    spans_key: str = ENTITIES_KEY,
    relations_key: str = RELATIONS_KEY,
    entities: str = "predict",
    negative_label: str | None = "no_relation",
    symmetric: Collection[str] = (),
    **cfg: Any,
) -> Iterator[Outcome]:
    """Compare entities and relations by the rules of `scoring.relations.score_relations`.

    Arguments as in `score_relations`.
    YIELDS (Outcome): Outcomes Doc by Doc, entities first. Entities count in "ents", relations in
        "rel" (by boundaries) and "rel_strict" (with entity types).
    """
    for number, example in enumerate(examples):
        texts = _Texts(number, example)
        entity_items, relation_items = [], []
        for doc in (example.reference, example.predicted):
            comparable = ComparableDoc(doc)
            entity_items.append(_entities(doc, spans_key, comparable.entities(spans_key), texts))
            relations = comparable.relations(relations_key, negative_label, symmetric)
            relation_items.append([_relation(*row, texts) for row in relations])
        if entities != "doc":
            yield from _outcomes("entity", texts, entity_items, {"ents": _identity})
        views = {"rel": _by_boundaries, "rel_strict": _identity}
        yield from _outcomes("relation", texts, relation_items, views)


def pair_outcomes(
    examples: Iterable[Example],
    *,
    relations_key: str = RELATIONS_KEY,
    negative_label: str | None = "no_relation",
    symmetric: Collection[str] = (),
    **cfg: Any,
) -> Iterator[Outcome]:
    """Compare relations by the rules of `scoring.relations.score_pairs`.

    Arguments as in `score_pairs`.
    YIELDS (Outcome): Outcomes Doc by Doc, which count in "rel". Negative pairs are no annotations.
    """
    for number, example in enumerate(examples):
        texts = _Texts(number, example)
        items = []
        for doc in (example.reference, example.predicted):
            relations = ComparableDoc(doc).relations(relations_key, negative_label, symmetric)
            items.append([_relation(r.relation, r.plain, r.plain, texts) for r in relations])
        yield from _outcomes("relation", texts, items, {"rel": _identity})


def count_true_negatives(
    examples: Iterable[Example],
    *,
    relations_key: str = RELATIONS_KEY,
    negative_label: str | None = "no_relation",
    symmetric: Collection[str] = (),
    **cfg: Any,
) -> int:
    """Count the negative gold pairs for which no relation was predicted.

    Arguments as in `pair_outcomes`.
    RETURNS (int): Number of pairs with no label but the negative one in gold, and none predicted.
    """
    n = 0
    for number, example in enumerate(examples):
        texts = _Texts(number, example)
        negative, related = set(), set()
        for doc in (example.reference, example.predicted):
            for relation in get_relations(doc, relations_key):
                pair = (texts.location(relation.head), texts.location(relation.tail))
                if relation.label not in ("", negative_label):
                    related.add(pair)
                    if relation.label in symmetric:
                        related.add(pair[::-1])
                elif relation.label and doc is example.reference:
                    negative.add(pair)
        n += len(negative - related)
    return n


@dataclass(frozen=True)
class _Item:
    """An annotation with the keys by which it is compared."""

    identity: Hashable  # equal for equal annotations of both Docs
    label: str
    locations: tuple[Location, ...]  # of its spans
    annotation: Annotation


def _identity(item: _Item) -> Hashable:
    return item.identity


def _by_boundaries(item: _Item) -> Hashable:
    return (item.label, item.locations)


def _by_locations(item: _Item) -> Hashable:
    return item.locations


class _Texts:
    """The two texts of an Example, which may differ in whitespace."""

    def __init__(self, number: int, example: Example):
        gold, self._predicted = example.reference, example.predicted
        self.source = Source(number, get_orig_id(gold), gold.text)
        self._text = self._predicted.text
        self._same = gold.text == self._text
        self._counts = non_space_offsets(gold.text).tolist()
        self._predicted_counts = (
            self._counts if self._same else non_space_offsets(self._text).tolist()
        )
        self._sentences = self._sentence_starts(gold)
        # Names of entities come from gold clusters or, if there are none, from predicted ones.
        self._clustered = gold
        clusters = get_clusters(gold)
        if not clusters and self._same:
            self._clustered, clusters = self._predicted, get_clusters(self._predicted)
        self._entities = Entities(clusters, get_entities(self._clustered)) if clusters else None

    def location(self, span: Span) -> Location:
        """Return the location of a span of either Doc."""
        counts = self._predicted_counts if span.doc is self._predicted else self._counts
        return (counts[span.start_char], counts[span.end_char])

    def annotation(self, label: str, spans: Iterable[Span], score: float | None) -> Annotation:
        """Return an annotation of spans of either Doc, with its mentions in the gold text."""
        mentions = (self.mention_at(s.doc, s.start_char, s.end_char, s.label_) for s in spans)
        named = tuple(replace(mention, entity=self._entity(mention)) for mention in mentions)
        return Annotation(label, named, score)

    def _entity(self, mention: Mention) -> str:
        """Return the name of the entity that a mention stands for; "" if that is the mention itself."""
        if self._entities is None:
            return ""
        span = self._clustered.char_span(
            mention.start, mention.end, label=mention.label, alignment_mode="expand"
        )
        best = "" if span is None else str(self._entities.best(span).text)
        return "" if best == mention.text else best

    def mention_at(self, doc: Doc, start: int, end: int, label: str = "") -> Mention:
        """Return the mention in the gold text that corresponds to characters of either Doc."""
        text = self.source.text
        if doc is self._predicted and not self._same:
            start, end = project_chars(self._text, text, start, end)
        return Mention(start, end, text[start:end], label)

    def sentence(self, mentions: Sequence[Mention]) -> tuple[int, int]:
        """Return the character range of the sentences around mentions; all of the text without any."""
        length = len(self.source.text)
        if not mentions:
            return (0, length)
        first = bisect_right(self._sentences, min(m.start for m in mentions)) - 1
        last = bisect_left(self._sentences, max(m.end for m in mentions))
        end = self._sentences[last] if last < len(self._sentences) else length
        return (self._sentences[max(0, first)], end)

    def _sentence_starts(self, gold: Doc) -> list[int]:
        """Return the offsets at which sentences start: gold ones, or else predicted ones."""
        for doc in (gold, self._predicted) if self._same else (gold,):
            if len(doc) and doc.has_annotation("SENT_START"):
                return [sentence.start_char for sentence in doc.sents]
        return [0]


def _entities(doc: Doc, key: str, keys: Sequence[Key], texts: _Texts) -> list[_Item]:
    rows = zip(get_entities(doc, key), keys, get_entity_scores(doc, key), strict=True)
    return [
        _Item(identity, span.label_, (identity[1:],), texts.annotation(span.label_, [span], score))
        for span, identity, score in rows
    ]


def _relation(relation: Relation, by_boundaries: Key, identity: Key, texts: _Texts) -> _Item:
    spans = [relation.head, relation.tail]
    locations = (by_boundaries[1], by_boundaries[2])
    if texts.location(relation.head) != locations[0]:
        spans.reverse()  # a symmetric relation, whose key is in the order of the text
    annotation = texts.annotation(relation.label, spans, relation.score)
    return _Item(identity, relation.label, locations, annotation)


Match = tuple[Status, _Item | None, _Item | None]


def _outcomes(
    kind: Kind,
    texts: _Texts,
    annotations: Sequence[Sequence[_Item]],
    views: Mapping[str, Callable[[_Item], Hashable]],
) -> Iterator[Outcome]:
    """Compare gold and predicted annotations of a text.

    annotations (Sequence[Sequence[_Item]]): Gold annotations, and predicted ones.
    views (Mapping[str, Callable]): For each score, the key that is equal for annotations which the
        score takes for equal.
    """
    matches = _match(*annotations)
    for (status, gold_item, other_item), counts in zip(
        matches, _count(matches, views), strict=True
    ):
        gold = None if gold_item is None else gold_item.annotation
        predicted = None if other_item is None else other_item.annotation
        sentence = texts.sentence(_mentions(gold, predicted))
        yield Outcome(kind, status, texts.source, sentence, gold, predicted, counts)


def _mentions(*annotations: Annotation | None) -> list[Mention]:
    return [m for annotation in annotations if annotation for m in annotation.mentions]


def _match(gold: Sequence[_Item], predicted: Sequence[_Item]) -> list[Match]:
    """Put every distinct annotation into one match.

    The strictest rule comes first: equal annotations, then relations that differ in entity types,
    then the same spans under other labels, then the greatest overlaps under the same label.

    RETURNS (list[Match]): Status, gold and predicted annotation, in the order of the text.
    """
    golds, others = _distinct(gold), _distinct(predicted)
    matches: list[Match] = []

    def pair(status: Status, one: _Item, other: _Item) -> None:
        matches.append((status, one, other))
        del golds[one.identity], others[other.identity]

    rules: list[tuple[Status, Callable[[_Item], Hashable]]] = [
        ("correct", _identity),
        ("wrong argument types", _by_boundaries),
        ("wrong type", _by_locations),
    ]
    for status, key in rules:
        waiting: defaultdict[Hashable, list[_Item]] = defaultdict(list)
        for item in golds.values():
            waiting[key(item)].append(item)
        for item in list(others.values()):
            if waiting[key(item)]:
                pair(status, waiting[key(item)].pop(0), item)
    for one, other in _overlapping(list(golds.values()), list(others.values())):
        if one.identity in golds and other.identity in others:
            pair("wrong boundaries", one, other)
    matches += [("missed", item, None) for item in golds.values()]
    matches += [("spurious", None, item) for item in others.values()]
    return sorted(matches, key=_position)


def _position(match: Match) -> tuple[tuple[Location, ...], int]:
    status, one, other = match
    item = one or other
    return (item.locations if item is not None else (), STATUSES.index(status))


def _distinct(items: Sequence[_Item]) -> dict[Hashable, _Item]:
    """Return annotations by identity; of repeated ones that with the best score."""
    distinct: dict[Hashable, _Item] = {}
    for item in items:
        other = distinct.setdefault(item.identity, item)
        if (other.annotation.score or 0.0) < (item.annotation.score or 0.0):
            distinct[item.identity] = item
    return distinct


def _overlapping(gold: list[_Item], predicted: list[_Item]) -> list[tuple[_Item, _Item]]:
    """Return pairs with the same label whose spans all overlap, those that overlap most first."""
    by_label: defaultdict[str, list[_Item]] = defaultdict(list)
    for item in gold:
        by_label[item.label].append(item)
    pairs = []
    for other in predicted:
        for one in by_label[other.label]:
            shares = [_overlap(a, b) for a, b in zip(one.locations, other.locations, strict=True)]
            if all(shares):
                pairs.append((sum(shares), one, other))
    # The sort is stable: ties stay in the order of the annotations.
    pairs.sort(key=lambda row: -row[0])
    return [(one, other) for _, one, other in pairs]


def _overlap(a: Location, b: Location) -> float:
    """Return the intersection of two locations divided by their union (Jaccard index)."""
    shared = min(a[1], b[1]) - max(a[0], b[0])
    return shared / (max(a[1], b[1]) - min(a[0], b[0])) if shared > 0 else 0.0


def _count(
    matches: Sequence[Match], views: Mapping[str, Callable[[_Item], Hashable]]
) -> list[dict[str, Counts]]:
    """Return the counts that each match adds to each score.

    Annotations that differ for one score may be equal for another (relations that differ in entity
    types only). There they count once, in the first match that has them.
    """
    counts_of_matches: list[dict[str, Counts]] = [{} for _ in matches]
    for name, key in views.items():
        golds = {key(one) for _, one, _ in matches if one is not None}
        both = golds & {key(other) for _, _, other in matches if other is not None}
        seen: set[tuple[str, Hashable]] = set()

        def first(what: str, value: Hashable, seen: set[tuple[str, Hashable]] = seen) -> int:
            new = (what, value) not in seen
            seen.add((what, value))
            return int(new)

        for (_, one, other), counts in zip(matches, counts_of_matches, strict=True):
            counts[name] = Counts()
            if one is not None and other is not None and key(one) == key(other):
                counts[name].tp = first("tp", key(one))
                continue
            if other is not None and key(other) not in both:
                counts[name].fp = first("fp", key(other))
            if one is not None and key(one) not in both:
                counts[name].fn = first("fn", key(one))
    return counts_of_matches


# Answers


def answer_outcomes(
    examples: Iterable[Example],
    *,
    qa_key: str = QA_KEY,
    language: str | None = None,
    **cfg: Any,
) -> Iterator[Outcome]:
    """Compare answers by the rules of `scoring.answers.score_answers`.

    Arguments as in `score_answers`.
    YIELDS (Outcome): One outcome for each gold question; without a prediction, the answer counts as
        "no answer". An answer is correct if it counts as an exact match.
    """
    for number, example in enumerate(examples):
        gold_answers = get_answers(example.reference, qa_key)
        if not gold_answers:
            continue
        texts = _Texts(number, example)
        predicted = {a.question.id: a for a in get_answers(example.predicted, qa_key)}
        for gold in gold_answers:
            yield _answer_outcome(texts, example, gold, predicted.get(gold.question.id), language)


def _answer_outcome(
    texts: _Texts, example: Example, gold: Answer, answer: Answer | None, language: str | None
) -> Outcome:
    reference_spans = reference_answers(gold)
    references = tuple(reference.text for reference in reference_spans)
    text = "" if answer is None else answer.text
    score = AnswerScore(
        gold.question,
        references,
        text,
        exact_match(text, references, language),
        f1(text, references, language),
        None if answer is None else answer.score,
    )
    expected, predicted = None, None
    if reference_spans:
        offsets = dict.fromkeys((a.start_char, a.end_char) for a in reference_spans)
        mentions = tuple(texts.mention_at(example.reference, *place) for place in offsets)
        expected = Annotation(ANSWER, mentions)
    if answer:
        mention = texts.mention_at(example.predicted, answer.start_char, answer.end_char)
        predicted = Annotation(ANSWER, (mention,), answer.score)
    status: Status
    if score.exact:
        status = "correct"
    elif expected is None:
        status = "spurious"
    elif predicted is None:
        status = "missed"
    else:
        status = "wrong boundaries" if score.f1 else "wrong answer"
    sentence = texts.sentence(_mentions(expected, predicted))
    return Outcome("answer", status, texts.source, sentence, expected, predicted, answer=score)
