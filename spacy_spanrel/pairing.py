"""Pairs of entities and the relations that they may have, shared by the components."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from .arrays import BoolArray, FloatArray, IntArray
from .errors import Errors
from .settings import Rule, survives_as_table


def allowed_mask(
    type_pairs: dict[str, list[tuple[str, str]]],
    entity_types: list[str],
    relation_types: list[str],
) -> BoolArray:
    """Tabulate which relations may hold between which entity types.

    type_pairs (dict[str, list[tuple[str, str]]]): For each relation the allowed (head, tail)
        types. A relation that is not named may hold between any types.
    entity_types (list[str]): Names by class index, from index 0.
    relation_types (list[str]): Names by class index.
    RETURNS (bool array, (n_entity_types, n_entity_types, n_relation_types)): True where allowed.
    """
    mask = np.ones((len(entity_types), len(entity_types), len(relation_types)), dtype=bool)
    index = {name: i for i, name in enumerate(entity_types)}
    for r, relation in enumerate(relation_types):
        if relation in type_pairs:
            mask[:, :, r] = False
            for head, tail in type_pairs[relation]:
                if head in index and tail in index:
                    mask[index[head], index[tail], r] = True
    return mask


def merge_symmetric(
    pairs: IntArray, labels: IntArray, scores: FloatArray, spans: IntArray, symmetric: set[int]
) -> tuple[IntArray, BoolArray]:
    """Make one relation of both directions of a symmetric one: the better score stays.

    pairs (int64 array, (n, 2)): Indices (head, tail) into `spans`.
    labels (int64 array, (n,)): Relation types.
    scores (float array, (n,)): Probabilities.
    spans (int64 array, (m, 2)): Token ranges; arguments are put in the order of the text.
    symmetric (set[int]): The symmetric types.
    RETURNS (tuple[int64 array, bool array]): Pairs with arguments in order, (n, 2), and which
        rows to keep, (n,).
    """
    pairs = pairs.copy()
    keep = np.ones(len(pairs), dtype=bool)
    best: dict[tuple[int, int, int], int] = {}
    for i in np.flatnonzero(np.isin(labels, list(symmetric))).tolist():
        head, tail = pairs[i].tolist()
        if tuple(spans[tail].tolist()) < tuple(spans[head].tolist()):
            head, tail = tail, head
            pairs[i] = (head, tail)
        key = (head, tail, int(labels[i]))
        other = best.get(key)
        if other is None or scores[i] > scores[other]:
            best[key] = i
            if other is not None:
                keep[other] = False
        else:
            keep[i] = False
    return pairs, keep


def type_pair_table(
    setting: Mapping[str, Sequence[Sequence[str]]] | Sequence[Sequence[str]],
) -> dict[str, list[tuple[str, str]]]:
    """Read which types of head and tail relations may have.

    setting: A table {label: [[head, tail], ...]} or rows [[label, head, tail], ...].
    RETURNS (dict[str, list[tuple[str, str]]]): The pairs of each label that is named.
    """
    if isinstance(setting, Mapping):
        return {label: [(row[0], row[1]) for row in rows] for label, rows in setting.items()}
    table: dict[str, list[tuple[str, str]]] = {}
    for label, head, tail in setting:
        table.setdefault(label, []).append((head, tail))
    return table


def _is_type_constraints(setting: object) -> bool:
    if isinstance(setting, str):
        return setting in ("off", "learned")
    if isinstance(setting, Mapping):
        return survives_as_table(setting) and all(
            len(row) == 2 for rows in setting.values() for row in rows
        )
    return isinstance(setting, Sequence) and all(
        not isinstance(row, str) and len(row) == 3 for row in setting
    )


# Which types of head and tail a relation may have; tables and rows are read by `type_pair_table`.
TYPE_CONSTRAINTS = Rule(
    "'off', 'learned', a table {label: [[head type, tail type], ...]}, or rows "
    "[[label, head type, tail type], ...] (where a label has ':' or '=')",
    _is_type_constraints,
)


def check_gold_label(name: str, what: str, label: str, known: Collection[str], text: str) -> None:
    """Refuse gold annotation with a label that a component does not have.

    name (str): Of the component.
    what (str): "a relation" or "an entity type".
    label (str): The label.
    known (Collection[str]): All that the component has.
    text (str): Where the label is.
    RAISES (ValueError): If it is none of them.
    """
    if label not in known:
        raise ValueError(
            Errors.E306.format(name=name, what=what, label=label, text=text, labels=list(known))
        )


def check_label_settings(name: str, cfg: Mapping[str, Any], labels: Sequence[str]) -> None:
    """Refuse settings that name relations which a component does not have.

    name (str): Of the component.
    cfg (Mapping[str, Any]): Its settings: "symmetric" and "type_constraints" are looked at.
    labels (Sequence[str]): Its relation labels.
    RAISES (ValueError): If a label is none of them.
    """
    named = {"symmetric": cfg["symmetric"]}
    if not isinstance(cfg["type_constraints"], str):
        named["type_constraints"] = list(type_pair_table(cfg["type_constraints"]))
    for setting, names in named.items():
        for label in names:
            if label not in labels:
                raise ValueError(
                    Errors.E304.format(
                        label=label, setting=setting, name=name, labels=", ".join(labels)
                    )
                )


# Up to so many pairs of one Doc are simply all made and looked at.
_FEW_PAIRS = 4096


def text_ends(offsets: IntArray) -> IntArray:
    """Return for each token the end (exclusive) of its Doc or sentence.

    offsets (int64 array, (n_texts + 1,)): First token of each.
    RETURNS (int64 array, (n_tokens,)): Tokens, counted through the batch.
    """
    return np.repeat(offsets[1:], np.diff(offsets))


def window_ends(windows: IntArray, n_tokens: int) -> IntArray:
    """Return for each token how far one can read from it on without leaving the window.

    windows (int64 array, (n_windows, 2)): Token range of each window, counted through the batch.
    n_tokens (int): Tokens of the batch.
    RETURNS (int64 array, (n_tokens,)): The end (exclusive) of the farthest window that holds the
        token; at most the token itself where none does.
    """
    order = np.argsort(windows[:, 0], kind="stable")
    # Behind the last one: for tokens before any window.
    ends = np.append(np.maximum.accumulate(windows[order, 1]), 0)
    found = np.searchsorted(windows[order, 0], np.arange(n_tokens), side="right") - 1
    return ends[found]


def in_scope(spans: IntArray, pairs: IntArray, reach: IntArray) -> BoolArray:
    """Tell which pairs of spans lie in one text.

    spans (int64 array, (n, 2)): Token ranges.
    pairs (int64 array, (n_pairs, 2)): Rows of `spans`.
    reach (int64 array, (n_tokens,)): From `text_ends` or `window_ends`: where the text ends that
        may be read from a token on. It never falls from one token to the next.
    RETURNS (bool array, (n_pairs,)): True where one text holds both spans.
    """
    head, tail = spans[pairs[:, 0]], spans[pairs[:, 1]]
    first = np.minimum(head[:, 0], tail[:, 0])
    inside: BoolArray = np.maximum(head[:, 1], tail[:, 1]) <= reach[first]
    return inside


def distances(spans: IntArray, pairs: IntArray) -> IntArray:
    """Count the tokens between the spans of pairs.

    spans (int64 array, (n, 2)): Token ranges.
    pairs (int64 array, (n_pairs, 2)): Rows of `spans`.
    RETURNS (int64 array, (n_pairs,)): Numbers of tokens; 0 where spans meet or overlap.
    """
    head, tail = spans[pairs[:, 0]], spans[pairs[:, 1]]
    return np.maximum(0, np.maximum(tail[:, 0] - head[:, 1], head[:, 0] - tail[:, 1]))


def entity_pairs(
    spans: IntArray,
    docs: IntArray,
    max_pairs: int,
    reach: IntArray | None = None,
    max_distance: int | None = None,
) -> tuple[IntArray, IntArray]:
    """Return the ordered pairs of different spans within each Doc.

    spans (int64 array, (n, 2)): Entities of a batch of Docs, the Docs in order.
    docs (int64 array, (n,)): The Doc of each.
    max_pairs (int): At most so many pairs a Doc, the nearest first (tokens between the spans;
        ties: the earlier in the text). Bounds the work where an untrained or wrong model calls
        everything an entity.
    reach (int64 array, (n_tokens,) | None): As in `in_scope`, which must hold; None for all pairs
        of a Doc.
    max_distance (int | None): Most tokens between the spans; None for any number.
    RETURNS (tuple[int64 array, int64 array]): Pairs as rows (head, tail) of indices into `spans`,
        (n_pairs, 2), ordered by Doc, head, tail; and how many pairs of each Doc that lost any were
        left out, as rows (Doc, out of scope, beyond `max_distance`, beyond `max_pairs`), (k, 4).
    """
    found: list[IntArray] = []
    cut: list[tuple[int, int, int, int]] = []
    borders = np.flatnonzero(np.diff(docs)) + 1
    for first, last in zip([0, *borders.tolist()], [*borders.tolist(), len(docs)], strict=True):
        if last - first < 2:
            continue
        own = spans[first:last]
        pairs, lost = _pairs_of_doc(own, max_pairs, reach, max_distance)
        if any(lost):
            cut.append((int(docs[first]), *lost))
        found.append(pairs + first)
    every = np.concatenate([np.zeros((0, 2), dtype=np.int64), *found])
    return every, np.asarray(cut, dtype=np.int64).reshape(-1, 4)


def _pairs_of_doc(
    spans: IntArray, max_pairs: int, reach: IntArray | None, max_distance: int | None
) -> tuple[IntArray, tuple[int, int, int]]:
    n = len(spans)
    if n * (n - 1) <= min(max_pairs, _FEW_PAIRS):
        return _few_pairs(spans, reach, max_distance)
    ordered = _OrderedSpans(spans, reach)
    n_all = n * (n - 1) - 2 * _equal_pairs(spans)
    inside = 2 * ordered.count(ordered.widest)
    limit = ordered.widest if max_distance is None else min(max_distance, ordered.widest)
    near = 2 * ordered.count(limit)
    pairs = ordered.nearest(limit, max(1, max_pairs // 2))[:max_pairs]
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return pairs, (n_all - inside, inside - near, near - len(pairs))


def _few_pairs(
    spans: IntArray, reach: IntArray | None, max_distance: int | None
) -> tuple[IntArray, tuple[int, int, int]]:
    """All pairs in scope, and how many are out of it, too far apart, and too many (none)."""
    pairs = np.argwhere(~np.eye(len(spans), dtype=bool))
    pairs = pairs[np.any(spans[pairs[:, 0]] != spans[pairs[:, 1]], axis=1)]
    outside = far = 0
    if reach is not None:
        inside = in_scope(spans, pairs, reach)
        outside = len(pairs) - int(inside.sum())
        pairs = pairs[inside]
    if max_distance is not None:
        near = distances(spans, pairs) <= max_distance
        far = len(pairs) - int(near.sum())
        pairs = pairs[near]
    return pairs, (outside, far, 0)


def _equal_pairs(spans: IntArray) -> int:
    """How many pairs of rows are the same span (with several types), either direction."""
    counts = np.unique(spans, axis=0, return_counts=True)[1]
    return int((counts * (counts - 1)).sum()) // 2


class _OrderedSpans:
    """Spans of one Doc in the order of the text, where the partners of each stand right behind it:
    pairs are counted, and the near ones made, without ever making all of n x n.

    spans (int64 array, (n, 2)): Token ranges.
    reach (int64 array, (n_tokens,) | None): As in `in_scope`.

    `widest` is a distance that no pair exceeds.
    """

    def __init__(self, spans: IntArray, reach: IntArray | None):
        order = np.lexsort((spans[:, 1], spans[:, 0]))
        if reach is not None:
            # A span that leaves its text has no partners.
            order = order[spans[order, 1] <= reach[spans[order, 0]]]
        self.order = order
        self.starts, self.ends = spans[order, 0], spans[order, 1]
        end = int(self.ends.max(initial=0))
        self.widest = end
        self.reach = np.full(len(order), end)
        if reach is not None:
            self.reach = np.minimum(reach[self.starts], end)
        self._rank = np.arange(len(order))
        self._n_equal = _equal_pairs(spans[order])
        # Spans that begin within a text and end behind it are no partners there. Each is noted once
        # for every border that it crosses, as border * base + start, in order. (They all stand
        # behind the spans whose text ends at that border: their own text ends later.)
        borders = np.unique(self.reach)
        first = np.searchsorted(borders, self.starts, side="right")
        n_crossed = np.maximum(0, np.searchsorted(borders, self.ends, side="left") - first)
        row = np.repeat(self._rank, n_crossed)
        border = first[row] + _within(n_crossed)
        self._base = end + 1
        self._crossing = np.sort(border * self._base + self.starts[row])
        self._border = np.searchsorted(borders, self.reach) * self._base
        self._crossing_before = np.searchsorted(self._crossing, self._border)

    def _last_start(self, distance: int) -> IntArray:
        """Where a partner of each span may begin at the latest."""
        return np.minimum(self.ends + distance, self.reach - 1)

    def count(self, distance: int) -> int:
        """Count the pairs (in one direction) with at most so many tokens between them."""
        latest = self._last_start(distance)
        behind = np.searchsorted(self.starts, latest, side="right") - self._rank - 1
        crossing = np.searchsorted(self._crossing, self._border + latest, side="right")
        return int((behind - crossing + self._crossing_before).sum()) - self._n_equal

    def nearest(self, distance: int, wanted: int) -> IntArray:
        """Return the nearest pairs, in both directions: first all of one, then all of the other.

        distance (int): Most tokens between the spans.
        wanted (int): Most pairs in one direction.
        RETURNS (int64 array, (n_pairs, 2)): Indices into the spans that were given.
        """
        low, high = 0, distance
        if self.count(distance) <= wanted:
            low = distance
        while low < high:
            middle = (low + high) // 2
            if self.count(middle) >= wanted:
                high = middle
            else:
                low = middle + 1
        latest = self._last_start(low)
        counts = np.searchsorted(self.starts, latest, side="right") - self._rank - 1
        left = np.repeat(self._rank, counts)
        right = left + 1 + _within(counts)
        same = (self.starts[left] == self.starts[right]) & (self.ends[left] == self.ends[right])
        kept = ~same & (self.ends[right] <= self.reach[left])
        left, right = left[kept], right[kept]
        if len(left) > wanted:
            gaps = np.maximum(0, self.starts[right] - self.ends[left])
            best = np.lexsort((right, left, gaps))[:wanted]
            left, right = left[best], right[best]
        a, b = self.order[left], self.order[right]
        return np.concatenate([np.stack([a, b], 1), np.stack([b, a], 1)])


def _within(counts: IntArray) -> IntArray:
    """Count from 0 within groups of these sizes that stand one after the other."""
    return np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
