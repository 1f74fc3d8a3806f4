"""What a pipeline got right and wrong, annotation by annotation, by the rules of the scorers.

Each annotation, gold or predicted, is in exactly one outcome, and an outcome says what it adds to
the true positives, false positives and false negatives of each score. So the outcomes add up to
what `score_relations` and `score_pairs` give, and those of answers average to `score_answers`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
    get_entities,
    get_entity_scores,
    get_relations,
)
from ..annotations.answers import reference_answers
from ..annotations.relations import RecordId, get_orig_id
from ..encoding.alignment import non_space_offsets, project_chars
from ..scoring.answers import exact_match, f1
from ..scoring.counts import Counts
from ..scoring.relations import Annotations, labelled_pairs

Kind = Literal["entity", "relation", "answer"]
# "wrong type" is the right place under another label; "wrong argument types" a relation whose label
# and spans are right and whose entity types are not; "wrong boundaries" the right label on spans
# that overlap the gold ones (of answers: some words of a reference).
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

# The label of all answers.
ANSWER = "answer"

# Characters other than white space before start and end of a span: the same in both Docs.
Place = tuple[int, int]
# What the scorers compare: label, then place or places.
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Source:
    """The gold Doc that an outcome is about.

    number (int): Its place in the corpus, from 0.
    id (str | int | None): The id of the record from which it was made, if that is known.
    text (str): Its text.
    """

    number: int
    id: RecordId | None
    text: str


@dataclass(frozen=True)
class Mention:
    """A span in the text of the gold Doc.

    start, end (int): Character offsets, end exclusive.
    text (str): What stands there.
    label (str): Its entity type; "" if unknown, and for answers.
    """

    start: int
    end: int
    text: str
    label: str = ""


@dataclass(frozen=True)
class Annotation:
    """An entity, a relation or an answer, in gold or prediction.

    label (str): The label; of an answer "answer".
    mentions (tuple[Mention, ...]): The entity; head and tail; the answer (of gold, each reference
        at a place of its own).
    score (float | None): The probability of a predicted one.
    """

    label: str
    mentions: tuple[Mention, ...]
    score: float | None = None


@dataclass(frozen=True)
class AnswerScore:
    """How good the answer to a question is.

    question (Question): What was asked.
    references (tuple[str, ...]): The right answers; none if there is none.
    predicted (str): The answer; "" for no answer.
    exact, f1 (float): Its scores, from 0 to 1.
    probability (float | None): What the model gives it, or "no answer".
    """

    question: Question
    references: tuple[str, ...]
    predicted: str
    exact: float
    f1: float
    probability: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a gold annotation, a predicted one, or a pair of both.

    kind ("entity" | "relation" | "answer"): What it is about.
    status (Status): How it turned out.
    source (Source): The gold Doc.
    sentence (tuple[int, int]): Character offsets of the sentence or sentences around all mentions.
    gold, predicted (Annotation | None): The annotations; None for "nothing there", and of answers
        for "no answer".
    counts (Mapping[str, Counts]): By the name of a score ("ents", "rel", "rel_strict"): what it
        adds to the counts behind it. Answers have none.
    answer (AnswerScore | None): Of answers: question, references and scores.
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
        """The probability of the prediction ("no answer" included); None if there is none."""
        if self.answer is not None:
            return self.answer.probability
        return None if self.predicted is None else self.predicted.score


def add_up(outcomes: Iterable[Outcome]) -> dict[str, Counts]:
    """Add up what outcomes count for each score.

    outcomes (Iterable[Outcome]): Of one component.
    RETURNS (dict[str, Counts]): By the name of the score; precision, recall and F1 of each are
        those of the component's scorer.
    """
    found: dict[str, Counts] = {}
    for outcome in outcomes:
        for name, counts in outcome.counts.items():
            total = found.setdefault(name, Counts())
            total.tp += counts.tp
            total.fp += counts.fp
            total.fn += counts.fn
    return found


# Entities and relations


def relation_outcomes(
    examples: Iterable[Example],
    *,
    spans_key: str = ENTITIES_KEY,
    relations_key: str = RELATIONS_KEY,
    entities: str = "predict",
    symmetric: Iterable[str] = (),
    **cfg: Any,
) -> Iterator[Outcome]:
    """Compare entities and relations by the rules of `span_relation.scoring.score_relations`.

    examples (Iterable[Example]), spans_key, relations_key, entities (str), symmetric
    (Iterable[str]): As there.
    YIELDS (Outcome): Doc by Doc, entities first. Entities count in "ents", relations in "rel" (by
        boundaries) and "rel_strict" (with entity types).
    """
    undirected = frozenset(symmetric)
    for number, example in enumerate(examples):
        texts = _Texts(number, example)
        found_entities, found_relations = [], []
        for doc in (example.reference, example.predicted):
            keys = Annotations(doc, spans_key, relations_key, undirected)
            found_entities.append(_entities(doc, spans_key, keys.entities, texts))
            relations = get_relations(doc, relations_key)
            rows = zip(relations, keys.relations, keys.strict_relations, strict=True)
            found_relations.append([_relation(*row, texts) for row in rows])
        if entities != "doc":
            yield from _outcomes("entity", texts, found_entities, {"ents": _identity})
        views = {"rel": _by_boundaries, "rel_strict": _identity}
        yield from _outcomes("relation", texts, found_relations, views)


def pair_outcomes(
    examples: Iterable[Example],
    *,
    relations_key: str = RELATIONS_KEY,
    negative_label: str | None = "no_relation",
    symmetric: Iterable[str] = (),
    **cfg: Any,
) -> Iterator[Outcome]:
    """Compare relations by the rules of `relation_classifier.scoring.score_pairs`.

    examples (Iterable[Example]), relations_key (str), negative_label (str | None), symmetric
    (Iterable[str]): As there.
    YIELDS (Outcome): Doc by Doc; all count in "rel". Negative relations are no annotations.
    """
    undirected = frozenset(symmetric)
    for number, example in enumerate(examples):
        texts = _Texts(number, example)
        found = []
        for doc in (example.reference, example.predicted):
            keys = labelled_pairs(doc, relations_key, negative_label, undirected)
            relations = [
                relation
                for relation in get_relations(doc, relations_key)
                if not _is_negative(relation, negative_label)
            ]
            rows = zip(relations, keys, strict=True)
            found.append([_relation(relation, key, key, texts) for relation, (key, _) in rows])
        yield from _outcomes("relation", texts, found, {"rel": _identity})


def _is_negative(relation: Relation, negative_label: str | None) -> bool:
    return relation.label in ("", negative_label)


def count_true_negatives(
    examples: Iterable[Example],
    *,
    relations_key: str = RELATIONS_KEY,
    negative_label: str | None = "no_relation",
    symmetric: Iterable[str] = (),
    **cfg: Any,
) -> int:
    """Count the gold pairs without a relation between which none was predicted.

    examples (Iterable[Example]), relations_key (str), negative_label (str | None), symmetric
    (Iterable[str]): As in `pair_outcomes`.
    RETURNS (int): How many pairs have the negative label only, in gold, and none in the prediction.
    """
    undirected = frozenset(symmetric)
    n = 0
    for number, example in enumerate(examples):
        texts = _Texts(number, example)
        negative, related = set(), set()
        for doc in (example.reference, example.predicted):
            for relation in get_relations(doc, relations_key):
                pair = (texts.place(relation.head), texts.place(relation.tail))
                if not _is_negative(relation, negative_label):
                    related.add(pair)
                    if relation.label in undirected:
                        related.add(pair[::-1])
                elif relation.label and doc is example.reference:
                    negative.add(pair)
        n += len(negative - related)
    return n


@dataclass(frozen=True)
class _Item:
    """An annotation that can be compared.

    identity (Hashable): Equal for equal annotations of both Docs.
    label (str): The label.
    places (tuple[Place, ...]): Where its spans are.
    annotation (Annotation): What it is made from.
    """

    identity: Hashable
    label: str
    places: tuple[Place, ...]
    annotation: Annotation


def _identity(item: _Item) -> Hashable:
    return item.identity


def _by_boundaries(item: _Item) -> Hashable:
    return (item.label, item.places)


def _by_places(item: _Item) -> Hashable:
    return item.places


class _Texts:
    """The two texts of an Example, which may differ in white space."""

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

    def place(self, span: Span) -> Place:
        """Return the place of a span of either Doc."""
        counts = self._predicted_counts if span.doc is self._predicted else self._counts
        return (counts[span.start_char], counts[span.end_char])

    def mention(self, span: Span) -> Mention:
        """Return a span of either Doc as a mention in the gold text."""
        return self.mention_at(span.doc, span.start_char, span.end_char, span.label_)

    def mention_at(self, doc: Doc, start: int, end: int, label: str = "") -> Mention:
        """Return characters of either Doc as a mention in the gold text."""
        text = self.source.text
        if doc is self._predicted and not self._same:
            start, end = project_chars(self._text, text, start, end)
        return Mention(start, end, text[start:end], label)

    def sentence(self, mentions: Sequence[Mention]) -> tuple[int, int]:
        """Return the characters of the sentences that hold mentions; of the text if there are none."""
        length = len(self.source.text)
        if not mentions:
            return (0, length)
        first = bisect_right(self._sentences, min(m.start for m in mentions)) - 1
        last = bisect_left(self._sentences, max(m.end for m in mentions))
        end = self._sentences[last] if last < len(self._sentences) else length
        return (self._sentences[max(0, first)], end)

    def _sentence_starts(self, gold: Doc) -> list[int]:
        """The gold sentences or, where nobody annotated any, the predicted ones."""
        for doc in (gold, self._predicted) if self._same else (gold,):
            if len(doc) and doc.has_annotation("SENT_START"):
                return [sentence.start_char for sentence in doc.sents]
        return [0]


def _entities(doc: Doc, key: str, keys: Sequence[Key], texts: _Texts) -> list[_Item]:
    spans = get_entities(doc, key)
    return [
        _Item(
            identity, span.label_, (identity[1:],), _annotation(span.label_, [span], score, texts)
        )
        for span, identity, score in zip(spans, keys, get_entity_scores(doc, key), strict=True)
    ]


def _relation(relation: Relation, by_boundaries: Key, identity: Key, texts: _Texts) -> _Item:
    spans = [relation.head, relation.tail]
    places = (by_boundaries[1], by_boundaries[2])
    if texts.place(relation.head) != places[0]:  # a symmetric one, put in the order of the text
        spans.reverse()
    return _Item(
        identity,
        relation.label,
        places,
        _annotation(relation.label, spans, relation.score, texts),
    )


def _annotation(
    label: str, spans: Iterable[Span], score: float | None, texts: _Texts
) -> Annotation:
    return Annotation(label, tuple(texts.mention(span) for span in spans), score)


Match = tuple[Status, _Item | None, _Item | None]


def _outcomes(
    kind: Kind,
    texts: _Texts,
    annotations: Sequence[Sequence[_Item]],
    views: Mapping[str, Callable[[_Item], Hashable]],
) -> Iterator[Outcome]:
    """Compare the gold annotations of one text with the predicted ones; views say what each score
    takes for equal."""
    gold, predicted = annotations
    matches = _match(gold, predicted)
    for (status, one, other), counts in zip(matches, _count(matches, views), strict=True):
        wanted = None if one is None else one.annotation
        given = None if other is None else other.annotation
        sentence = texts.sentence(_mentions(wanted, given))
        yield Outcome(kind, status, texts.source, sentence, wanted, given, counts)


def _mentions(*annotations: Annotation | None) -> list[Mention]:
    return [m for annotation in annotations if annotation for m in annotation.mentions]


def _match(gold: Sequence[_Item], predicted: Sequence[_Item]) -> list[Match]:
    """Put every distinct annotation into one match, in the order of the text."""
    golds, others = _distinct(gold), _distinct(predicted)
    found: list[Match] = []

    def pair(status: Status, one: _Item, other: _Item) -> None:
        found.append((status, one, other))
        del golds[one.identity], others[other.identity]

    rules: list[tuple[Status, Callable[[_Item], Hashable]]] = [
        ("correct", _identity),
        ("wrong argument types", _by_boundaries),
        ("wrong type", _by_places),
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
    found += [("missed", item, None) for item in golds.values()]
    found += [("spurious", None, item) for item in others.values()]
    return sorted(found, key=_position)


def _position(match: Match) -> tuple[tuple[Place, ...], int]:
    status, one, other = match
    item = one or other
    return (item.places if item is not None else (), STATUSES.index(status))


def _distinct(items: Sequence[_Item]) -> dict[Hashable, _Item]:
    """Repeated annotations count once: of predictions the one with the best score stays."""
    found: dict[Hashable, _Item] = {}
    for item in items:
        known = found.get(item.identity)
        if known is None or (known.annotation.score or 0.0) < (item.annotation.score or 0.0):
            found[item.identity] = item
    return found


def _overlapping(gold: list[_Item], predicted: list[_Item]) -> list[tuple[_Item, _Item]]:
    """Pairs of one label whose spans all overlap, the most similar ones first."""
    by_label: defaultdict[str, list[_Item]] = defaultdict(list)
    for item in gold:
        by_label[item.label].append(item)
    found = []
    for other in predicted:
        for one in by_label[other.label]:
            shares = [_overlap(a, b) for a, b in zip(one.places, other.places, strict=True)]
            if all(shares):
                found.append((sum(shares), one, other))
    # The sort is stable: ties stay in the order of the annotations.
    found.sort(key=lambda row: -row[0])
    return [(one, other) for _, one, other in found]


def _overlap(a: Place, b: Place) -> float:
    """What two places share, as a part of what they cover together."""
    shared = min(a[1], b[1]) - max(a[0], b[0])
    return shared / (max(a[1], b[1]) - min(a[0], b[0])) if shared > 0 else 0.0


def _count(
    matches: Sequence[Match], views: Mapping[str, Callable[[_Item], Hashable]]
) -> list[dict[str, Counts]]:
    """Say what each match adds to each score.

    Annotations that differ in one view may be equal in another (relations in their entity types);
    there they count once, by the first match that has them.
    """
    found: list[dict[str, Counts]] = [{} for _ in matches]
    for name, key in views.items():
        golds = {key(one) for _, one, _ in matches if one is not None}
        both = golds & {key(other) for _, _, other in matches if other is not None}
        seen: set[tuple[str, Hashable]] = set()

        def first(what: str, value: Hashable, seen: set[tuple[str, Hashable]] = seen) -> int:
            new = (what, value) not in seen
            seen.add((what, value))
            return int(new)

        for (_, one, other), counts in zip(matches, found, strict=True):
            counts[name] = Counts()
            if one is not None and other is not None and key(one) == key(other):
                counts[name].tp = first("tp", key(one))
                continue
            if other is not None and key(other) not in both:
                counts[name].fp = first("fp", key(other))
            if one is not None and key(one) not in both:
                counts[name].fn = first("fn", key(one))
    return found


# Answers


def answer_outcomes(
    examples: Iterable[Example],
    *,
    qa_key: str = QA_KEY,
    language: str | None = None,
    **cfg: Any,
) -> Iterator[Outcome]:
    """Compare answers by the rules of `extractive_qa.scoring.score_answers`.

    examples (Iterable[Example]), qa_key (str), language (str | None): As there.
    YIELDS (Outcome): One a gold question; a question that nobody answered has no answer. An answer
        is correct where it counts as an exact match.
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
    texts: _Texts, example: Example, gold: Answer, found: Answer | None, language: str | None
) -> Outcome:
    right = reference_answers(gold)
    references = tuple(answer.text for answer in right)
    text = "" if found is None else found.text
    score = AnswerScore(
        gold.question,
        references,
        text,
        exact_match(text, references, language),
        f1(text, references, language),
        None if found is None else found.score,
    )
    wanted, given = None, None
    if right:
        places = dict.fromkeys((a.start_char, a.end_char) for a in right)
        mentions = tuple(texts.mention_at(example.reference, *place) for place in places)
        wanted = Annotation(ANSWER, mentions)
    if found:
        mention = texts.mention_at(example.predicted, found.start_char, found.end_char)
        given = Annotation(ANSWER, (mention,), found.score)
    status: Status
    if score.exact:
        status = "correct"
    elif wanted is None:
        status = "spurious"
    elif given is None:
        status = "missed"
    else:
        status = "wrong boundaries" if score.f1 else "wrong answer"
    sentence = texts.sentence(_mentions(wanted, given))
    return Outcome("answer", status, texts.source, sentence, wanted, given, answer=score)
