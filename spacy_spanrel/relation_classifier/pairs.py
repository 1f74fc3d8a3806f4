"""Which pairs of a Doc are classified."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, Optional, Protocol

import numpy as np
from spacy import registry
from spacy.tokens import Doc, Span

from ..annotations import RELATIONS_KEY, get_relations
from ..arrays import IntArray
from ..pairing import sentence_of_tokens, sentence_starts
from ..settings import check_settings, optional, whole_number
from .nearest import EntityIndex

# Head and tail (subject and object) of a pair, labelled with their entity types.
SpanPair = tuple[Span, Span]
# Token ranges of a pair: start and end of the head, start and end of the tail.
PairKey = tuple[int, int, int, int]
# From a Doc and the span group of the component's relations to the pairs that are classified.
PairGenerator = Callable[[Doc, str], list[SpanPair]]
# Whether a head and a tail of these types may be paired.
AllowsTypes = Callable[[str, str], bool]
Scope = Literal["sentence", "doc"]


class TypedPair(NamedTuple):
    """A pair as the network sees it.

    head, tail (tuple[int, int]): Token ranges, end exclusive.
    head_type, tail_type (str): Types for which the network has markers.
    """

    head: tuple[int, int]
    tail: tuple[int, int]
    head_type: str
    tail_type: str


@dataclass(frozen=True)
class ChosenPairs:
    """The pairs of a Doc that are classified, and the number of those that are not.

    pairs (list[SpanPair]): Pairs of allowed types, the nearest ones, in the order of the Doc's pairs.
    refused (Counter[tuple[str, str]]): Number of pairs for each two types that are not allowed.
    n_beyond (int): Number of pairs of allowed types that are too many.
    """

    pairs: list[SpanPair]
    refused: Counter[tuple[str, str]]
    n_beyond: int


class DocPairs(Protocol):
    """All pairs of a Doc, which need not be listed."""

    def __len__(self) -> int:
        """Return the number of pairs."""

    def __contains__(self, key: object) -> bool:
        """Tell whether there is a pair of these token ranges. key (PairKey): The token ranges."""

    def choose(self, allows: AllowsTypes, max_pairs: int | None = None) -> ChosenPairs:
        """Choose the nearest pairs of allowed types.

        allows (Callable[[str, str], bool]): Whether head and tail may have these types.
        max_pairs (int | None): Largest number of pairs; pairs at the same distance are taken in their
            order. None for all pairs.
        RETURNS (ChosenPairs): The pairs, and the numbers of the others.
        """


def pair_key(pair: SpanPair) -> PairKey:
    """Return the token ranges of a pair, which tell it from the other pairs of its Doc.

    pair (SpanPair): Head and tail.
    RETURNS (PairKey): Their token ranges.
    """
    head, tail = pair
    return (head.start, head.end, tail.start, tail.end)


def typed_pair(pair: SpanPair, types: tuple[str, str]) -> TypedPair:
    """Return a pair as the network sees it.

    pair (SpanPair): Head and tail.
    types (tuple[str, str]): The types that the network is shown for them.
    RETURNS (TypedPair): The pair.
    """
    head, tail = pair
    return TypedPair((head.start, head.end), (tail.start, tail.end), *types)


def find_pairs(generator: PairGenerator, doc: Doc, relations_key: str) -> DocPairs:
    """Return the pairs that a generator finds in a Doc.

    generator (PairGenerator): If it has a method `find`, as `EntityPairs` has, the pairs are not
        listed; else it is called, and lists them.
    doc (Doc): The Doc.
    relations_key (str): Span group of the component's relations.
    RETURNS (DocPairs): The pairs.
    """
    find = getattr(generator, "find", None)
    if find is not None:
        pairs: DocPairs = find(doc, relations_key)
        return pairs
    return listed_pairs(doc, generator(doc, relations_key))


def pairs_everything(generator: PairGenerator, doc: Doc, relations_key: str) -> bool:
    """Tell whether a generator pairs entities of a Doc however far apart they are.

    generator, doc, relations_key: As in `find_pairs`.
    RETURNS (bool): True for `EntityPairs` if neither sentence borders nor a distance limit the pairs,
        nor the Doc names those that are asked for.
    """
    if not isinstance(generator, _EntityPairs) or generator.max_distance is not None:
        return False
    if generator.scope == "sentence" and sentence_starts(doc) is not None:
        return False
    return not generator.given or all(r.label for r in get_relations(doc, relations_key))


def listed_pairs(doc: Doc, pairs: Sequence[SpanPair]) -> ListedPairs:
    """Return listed pairs as `DocPairs`; arguments without a type get one as in `with_types`.

    doc (Doc): The Doc.
    pairs (Sequence[SpanPair]): Its pairs.
    RETURNS (ListedPairs): The pairs.
    """
    spans = with_types(doc, [span for pair in pairs for span in pair])
    return ListedPairs(list(zip(spans[::2], spans[1::2], strict=True)))


def with_types(doc: Doc, spans: list[Span]) -> list[Span]:
    """Give spans without a label the label of the entity in `doc.ents` that has their token range.

    doc (Doc): The Doc.
    spans (list[Span]): Some of its spans.
    RETURNS (list[Span]): The same spans in the same order; those for which there is no such entity
        stay without a label.
    """
    if all(span.label for span in spans):
        return spans
    types = {(entity.start, entity.end): entity.label for entity in doc.ents}
    return [
        Span(
            doc,
            span.start,
            span.end,
            label=span.label or types.get((span.start, span.end), 0),
        )
        for span in spans
    ]


@registry.misc("spacy-spanrel.EntityPairs.v1")
def EntityPairs(
    entities_key: Optional[str] = None,  # noqa: UP045 (spaCy resolves these annotations at run time)
    scope: Scope = "sentence",
    max_distance: Optional[int] = None,  # noqa: UP045
    given: bool = True,
) -> PairGenerator:
    """Pair all entities of a Doc, in both directions.

    entities_key (str | None): Span group of the entities; None for `doc.ents`.
    scope (str): "sentence" pairs entities of one sentence (of the whole Doc, where no component has
        set sentence borders); "doc" pairs across sentences.
    max_distance (int | None): Largest number of tokens between the two entities; None for no limit.
    given (bool): If a Doc has relations without a label in the component's `relations_key`, take
        exactly their pairs.
    RETURNS (Callable[[Doc, str], list[tuple[Span, Span]]]): The generator.
    """
    check_settings(
        "'spacy-spanrel.EntityPairs.v1'",
        {"max_distance": max_distance},
        {"max_distance": optional(whole_number(0))},
    )
    return _EntityPairs(entities_key, scope, max_distance, given)


@registry.misc("spacy-spanrel.GivenPairs.v1")
def GivenPairs(key: Optional[str] = None) -> PairGenerator:  # noqa: UP045
    """Take exactly the pairs of the relations that a Doc has already, whatever their labels.

    key (str | None): Span group of these relations; None for the component's `relations_key`.
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
        return self.find(doc, relations_key).choose(lambda head_type, tail_type: True).pairs

    def find(self, doc: Doc, relations_key: str = RELATIONS_KEY) -> DocPairs:
        """Return the pairs without listing them. Arguments as in a call."""
        if self.given:
            relations = get_relations(doc, relations_key)
            asked = [(r.head, r.tail) for r in relations if not r.label]
            if asked:
                return listed_pairs(doc, _distinct(asked))
        key = self.entities_key
        entities: Iterable[Span] = doc.ents if key is None else doc.spans.get(key, ())
        sentence = np.zeros(len(doc), dtype=np.int64)
        if self.scope == "sentence":
            sentence = sentence_of_tokens(doc)
        # Of entities with the same range and type only the first counts.
        distinct: dict[tuple[int, int, int], Span] = {}
        for span in entities:
            if len(span) and sentence[span.start] == sentence[span.end - 1]:
                distinct.setdefault((span.start, span.end, span.label), span)
        by_sentence: dict[int, list[Span]] = {}
        for span in distinct.values():
            by_sentence.setdefault(int(sentence[span.start]), []).append(span)
        spans = with_types(doc, [span for group in by_sentence.values() for span in group])
        groups = np.repeat(np.arange(len(by_sentence)), list(map(len, by_sentence.values())))
        return EntityPairsOfDoc(spans, groups, self.max_distance)


@dataclass(frozen=True)
class _GivenPairs:
    key: str | None

    def __call__(self, doc: Doc, relations_key: str = RELATIONS_KEY) -> list[SpanPair]:
        key = relations_key if self.key is None else self.key
        return _distinct([(r.head, r.tail) for r in get_relations(doc, key)])


@dataclass(frozen=True)
class ListedPairs:
    """Pairs of a Doc that stand in a list. See `DocPairs`."""

    pairs: list[SpanPair]

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def _keys(self) -> set[object]:
        return set(map(pair_key, self.pairs))

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def choose(self, allows: AllowsTypes, max_pairs: int | None = None) -> ChosenPairs:
        allowed: list[SpanPair] = []
        refused: Counter[tuple[str, str]] = Counter()
        for head, tail in self.pairs:
            types = (head.label_, tail.label_)
            if allows(*types):
                allowed.append((head, tail))
            else:
                refused[types] += 1
        pairs = nearest_pairs(allowed, len(allowed) if max_pairs is None else max_pairs)
        return ChosenPairs(pairs, refused, len(allowed) - len(pairs))


class EntityPairsOfDoc:
    """The pairs of the entities of a Doc, counted and chosen without listing all of them. See
    `DocPairs` and `EntityIndex`.

    spans (list[Span]): The entities, group by group.
    groups (int64 array, (n,)): The group (sentence) of each entity; only entities of one group are
        paired.
    max_distance (int | None): Largest number of tokens between head and tail.
    """

    def __init__(self, spans: list[Span], groups: IntArray, max_distance: int | None):
        self.spans = spans
        self.groups = groups
        self.max_distance = max_distance
        self.types = list(dict.fromkeys(span.label_ for span in spans))
        number = {kind: i for i, kind in enumerate(self.types)}
        ranges = np.asarray([(s.start, s.end) for s in spans], dtype=np.int64).reshape(-1, 2)
        types = np.asarray([number[span.label_] for span in spans], dtype=np.int64)
        self.index = EntityIndex(ranges, groups, types, len(self.types))
        self.limit = self.index.length if max_distance is None else max_distance

    @cached_property
    def _counts(self) -> IntArray:
        return self.index.count_by_types(self.limit)

    @cached_property
    def _group_of(self) -> dict[tuple[int, int], int]:
        ranges = [(span.start, span.end) for span in self.spans]
        return dict(zip(ranges, self.groups.tolist(), strict=True))

    def __len__(self) -> int:
        return int(self._counts.sum())

    def __contains__(self, key: object) -> bool:
        match key:
            case (int(head_start), int(head_end), int(tail_start), int(tail_end)):
                head, tail = (head_start, head_end), (tail_start, tail_end)
                apart = max(0, head_start - tail_end, tail_start - head_end)
                return (
                    head != tail
                    and head in self._group_of
                    and self._group_of[head] == self._group_of.get(tail)
                    and apart <= self.limit
                )
        return False

    def choose(self, allows: AllowsTypes, max_pairs: int | None = None) -> ChosenPairs:
        n_types = len(self.types)
        allowed = np.asarray(
            [[allows(head, tail) for tail in self.types] for head in self.types], dtype=bool
        ).reshape(n_types, n_types)
        pairs = self.index.nearest(allowed, self.limit, max_pairs)
        refused = Counter(
            {
                (self.types[head], self.types[tail]): int(self._counts[head, tail])
                for head, tail in np.argwhere(~allowed & (self._counts > 0)).tolist()
            }
        )
        n_allowed = int(self._counts[allowed].sum())
        spans = self.spans
        return ChosenPairs(
            [(spans[head], spans[tail]) for head, tail in pairs.tolist()],
            refused,
            n_allowed - len(pairs),
        )


def _distinct(pairs: Sequence[SpanPair]) -> list[SpanPair]:
    """Drop repeated pairs, and pairs of equal token ranges; keep the order."""
    distinct: dict[tuple[int, ...], SpanPair] = {}
    for head, tail in pairs:
        if (head.start, head.end) != (tail.start, tail.end):
            key = (*pair_key((head, tail)), head.label, tail.label)
            distinct.setdefault(key, (head, tail))
    return list(distinct.values())


def distance(head: Span, tail: Span) -> int:
    """Return the number of tokens between two spans: 0 if they meet or overlap."""
    return max(0, head.start - tail.end, tail.start - head.end)


def nearest_pairs(pairs: list[SpanPair], max_pairs: int) -> list[SpanPair]:
    """Return the nearest pairs of a list.

    pairs (list[tuple[Span, Span]]): Pairs of a Doc.
    max_pairs (int): Largest number of pairs; of pairs at the same distance the earlier ones are kept.
    RETURNS (list[tuple[Span, Span]]): The nearest pairs, in their order in the list.
    """
    if len(pairs) <= max_pairs:
        return pairs
    order = np.argsort([distance(*pair) for pair in pairs], kind="stable")[:max_pairs]
    return [pairs[i] for i in sorted(order.tolist())]
