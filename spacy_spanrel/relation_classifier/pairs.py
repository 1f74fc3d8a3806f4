"""Which pairs of a Doc are classified."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Optional

import numpy as np
from spacy import registry
from spacy.tokens import Doc, Span

from ..annotations import RELATIONS_KEY, get_entities, get_relations
from ..pairing import entity_pairs
from ..settings import check_settings, optional, whole_number

# Head and tail (subject and object) of each pair, labelled with their entity types.
SpanPair = tuple[Span, Span]
# Token ranges of both: start and end of the head, start and end of the tail.
PairKey = tuple[int, int, int, int]
# Of a Doc, and the span group of the component's relations.
PairGenerator = Callable[[Doc, str], list[SpanPair]]
Scope = Literal["sentence", "doc"]


class TypedPair(NamedTuple):
    """A pair as the network sees it.

    head, tail (tuple[int, int]): Token ranges, end exclusive.
    head_type, tail_type (str): Types that its markers know.
    """

    head: tuple[int, int]
    tail: tuple[int, int]
    head_type: str
    tail_type: str


def pair_key(pair: SpanPair) -> PairKey:
    """Return what tells a pair from the others of its Doc.

    pair (SpanPair): Head and tail.
    RETURNS (PairKey): Their token ranges.
    """
    head, tail = pair
    return (head.start, head.end, tail.start, tail.end)


@registry.misc("spacy-spanrel.EntityPairs.v1")
def EntityPairs(
    entities_key: Optional[str] = None,  # noqa: UP045 (spaCy resolves these annotations at run time)
    scope: Scope = "sentence",
    max_distance: Optional[int] = None,  # noqa: UP045
    given: bool = True,
) -> PairGenerator:
    """Pair all entities of a Doc, in both directions.

    entities_key (str | None): The span group that holds them; None for `doc.ents`.
    scope (str): "sentence" pairs entities of one sentence (of the whole Doc, where nothing has set
        sentence boundaries); "doc" pairs across sentences.
    max_distance (int | None): Most tokens between the two; None for no limit.
    given (bool): A Doc with relations that have no label in the component's `relations_key` asks
        for exactly those pairs.
    RETURNS (Callable[[Doc, str], list[tuple[Span, Span]]]): The generator.
    """
    check_settings(
        "spacy-spanrel.EntityPairs.v1",
        {"max_distance": max_distance},
        {"max_distance": optional(whole_number(0))},
    )
    return _EntityPairs(entities_key, scope, max_distance, given)


@registry.misc("spacy-spanrel.GivenPairs.v1")
def GivenPairs(key: Optional[str] = None) -> PairGenerator:  # noqa: UP045
    """Take exactly the pairs of the relations that a Doc has already, whatever their labels.

    key (str | None): The span group that holds them; None for the component's `relations_key`.
    RETURNS (Callable[[Doc, str], list[tuple[Span, Span]]]): The generator.
    """
    return _GivenPairs(key)


@dataclass(frozen=True)
class _EntityPairs:
    entities_key: str | None
    scope: Scope
    max_distance: int | None
    given: bool

    def __call__(self, doc: Doc, relations_key: str = RELATIONS_KEY) -> list[SpanPair]:
        if self.given:
            relations = get_relations(doc, relations_key)
            asked = [(r.head, r.tail) for r in relations if not r.label]
            if asked:
                return _distinct(asked)
        if self.entities_key is None:
            entities = list(doc.ents)
        else:
            entities = (
                get_entities(doc, self.entities_key) if self.entities_key in doc.spans else []
            )
        sentence = sentence_of_tokens(doc) if self.scope == "sentence" else np.zeros(len(doc))
        groups: dict[int, list[Span]] = {}
        for span in entities:
            if len(span) and sentence[span.start] == sentence[span.end - 1]:
                groups.setdefault(int(sentence[span.start]), []).append(span)
        spans = [span for group in groups.values() for span in group]
        places = np.asarray([(s.start, s.end) for s in spans], dtype=np.int64).reshape(-1, 2)
        pairs, _ = entity_pairs(
            places,
            np.repeat(np.arange(len(groups)), [len(group) for group in groups.values()]),
            len(spans) ** 2,
            max_distance=self.max_distance,
        )
        return _distinct([(spans[head], spans[tail]) for head, tail in pairs.tolist()])


@dataclass(frozen=True)
class _GivenPairs:
    key: str | None

    def __call__(self, doc: Doc, relations_key: str = RELATIONS_KEY) -> list[SpanPair]:
        key = relations_key if self.key is None else self.key
        return _distinct([(r.head, r.tail) for r in get_relations(doc, key)])


def _distinct(pairs: Sequence[SpanPair]) -> list[SpanPair]:
    """Drop repetitions, and pairs of a span with itself; keep the order."""
    found: dict[tuple[int, ...], SpanPair] = {}
    for head, tail in pairs:
        if (head.start, head.end) != (tail.start, tail.end):
            key = (head.start, head.end, head.label, tail.start, tail.end, tail.label)
            found.setdefault(key, (head, tail))
    return list(found.values())


def distance(head: Span, tail: Span) -> int:
    """Return the number of tokens between two spans; 0 if they meet or overlap."""
    return max(0, head.start - tail.end, tail.start - head.end)


def nearest_pairs(pairs: list[SpanPair], max_pairs: int) -> list[SpanPair]:
    """Keep the nearest pairs.

    pairs (list[tuple[Span, Span]]): All pairs of a Doc.
    max_pairs (int): How many to keep; ties go to the earlier ones.
    RETURNS (list[tuple[Span, Span]]): In the order in which they were.
    """
    if len(pairs) <= max_pairs:
        return pairs
    order = np.argsort([distance(*pair) for pair in pairs], kind="stable")[:max_pairs]
    return [pairs[i] for i in sorted(order.tolist())]


def sentence_of_tokens(doc: Doc) -> np.ndarray:
    """Number the sentences of a Doc.

    doc (Doc): The Doc.
    RETURNS (int64 array, (n_tokens,)): The sentence of each token; all 0 where nothing has set
        sentence boundaries.
    """
    if not doc.has_annotation("SENT_START"):
        return np.zeros(len(doc), dtype=np.int64)
    starts = np.fromiter((bool(t.is_sent_start) for t in doc), dtype=np.int64, count=len(doc))
    starts[:1] = 0
    return np.cumsum(starts)
