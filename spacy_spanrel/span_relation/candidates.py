"""Candidates: all spans of a text, and negative spans and pairs sampled for training.

Spans are rows (start, end) of tokens, end exclusive, numbered through the tokens of a batch or of one
Doc. Arrays in, arrays out.
"""

from __future__ import annotations

import numpy as np

from ..arrays import BoolArray, IntArray
from ..pairing import pairs_of_doc

# From a span to the spans with one border moved by one token.
_ONE_TOKEN_AWAY = np.asarray([[-1, 0], [1, 0], [0, -1], [0, 1]])


def all_spans(text_ends: IntArray, max_size: int) -> IntArray:
    """Return all spans of 1 to `max_size` tokens that lie within one text.

    text_ends (int64 array, (n_tokens,)): For each token, the end (exclusive) of its text.
    max_size (int): Largest number of tokens.
    RETURNS (int64 array, (n_spans, 2)): The spans, ordered by start, then by size.
    """
    room = text_ends - np.arange(len(text_ends), dtype=np.int64)
    sizes = np.arange(1, max_size + 1)
    starts, columns = np.nonzero(sizes[None, :] <= room[:, None])
    return np.stack([starts, starts + sizes[columns]], axis=1).astype(np.int64)


def sample_negative_spans(
    candidates: IntArray,
    gold: IntArray,
    count: int,
    rng: np.random.Generator,
    hard: float = 0.0,
    neighbours: bool = False,
) -> IntArray:
    """Draw spans that are not entities.

    candidates (int64 array, (n, 2)): All spans of one Doc.
    gold (int64 array, (m, 2)): Its entities.
    count (int): Number of spans to draw; if there are fewer, all are returned.
    rng (Generator): The random generator.
    hard (float): Share of the spans that are drawn from those that overlap or touch an entity.
    neighbours (bool): Whether to return all spans with one border one token away from that of an
        entity, first, even if there are more than `count`.
    RETURNS (int64 array, (k, 2)): Different spans, none of them gold.
    """
    if not len(candidates):
        return candidates
    first = candidates[:0]
    if len(gold):
        base = int(max(candidates.max(), gold.max())) + 2
        is_gold = np.isin(candidates @ [base, 1], gold @ [base, 1])
        candidates = candidates[~is_gold]
        if neighbours:
            moved = (gold[:, None] + _ONE_TOKEN_AWAY).reshape(-1, 2)
            is_first = np.isin(candidates @ [base, 1], moved @ [base, 1])
            first, candidates = candidates[is_first], candidates[~is_first]
            count = max(0, count - len(first))
    if count < len(candidates):
        is_hard = _touch_any(candidates, gold) if hard else None
        candidates = candidates[_draw(len(candidates), count, rng, hard, is_hard)]
    return np.concatenate([first, candidates]) if len(first) else candidates


def overlaps(spans: IntArray, others: IntArray) -> BoolArray:
    """Tell which spans overlap.

    spans (int64 array, (n, 2)), others (int64 array, (m, 2)): Token ranges.
    RETURNS (bool array, (n, m)): True where two spans share a token.
    """
    shared: BoolArray = (spans[:, None, 0] < others[None, :, 1]) & (
        others[None, :, 0] < spans[:, None, 1]
    )
    return shared


def _touch_any(spans: IntArray, others: IntArray) -> BoolArray:
    """Tell which spans overlap or touch one of the others, in time that grows with their sum."""
    n_tokens = 2 + int(max(spans.max(initial=0), others.max(initial=0)))
    # The change of the number of the other spans, each one token wider on both sides.
    change = np.zeros(n_tokens + 1, dtype=np.int64)
    np.add.at(change, np.maximum(0, others[:, 0] - 1), 1)
    np.add.at(change, others[:, 1] + 1, -1)
    n_covered = np.cumsum([0, *(np.cumsum(change) > 0)])
    touched: BoolArray = n_covered[spans[:, 1]] > n_covered[spans[:, 0]]
    return touched


def _draw(
    n: int, count: int, rng: np.random.Generator, hard: float, is_hard: BoolArray | None
) -> IntArray:
    """Draw `count` of `n` rows, the share `hard` of them from the hard ones as far as there are so many."""
    if is_hard is None:
        return rng.choice(n, size=count, replace=False)
    rows = np.flatnonzero(is_hard)
    first = rng.choice(rows, size=min(len(rows), round(hard * count)), replace=False)
    others = np.delete(np.arange(n), first)
    return np.concatenate([first, rng.choice(others, size=count - len(first), replace=False)])


def sample_negative_pairs(
    spans: IntArray,
    related: IntArray,
    count: int,
    rng: np.random.Generator,
    reach: IntArray | None = None,
    max_distance: int | None = None,
    hard: float = 0.0,
    types: IntArray | None = None,
) -> IntArray:
    """Draw ordered pairs of different entities that are not related.

    spans (int64 array, (n, 2)): Entities of one Doc, all different.
    related (int64 array, (m, 2)): Pairs (head, tail) of rows of `spans` that are not drawn.
    count (int): Number of pairs to draw; if there are fewer, all are returned.
    rng (Generator): The random generator.
    reach (int64 array | None), max_distance (int | None): As in `entity_pairs`.
    hard (float): Share of the pairs that are drawn from those that look like related ones: the same
        entities in the other direction, or entities of the same types.
    types (int64 array, (n,) | None): Type of each entity; needed for `hard`.
    RETURNS (int64 array, (k, 2)): Different pairs (head, tail) of rows of `spans`.
    """
    n = len(spans)
    if reach is None and max_distance is None and not hard:
        # All pairs but the related ones, in the order of head and tail. They are numbered, not made:
        # their number grows with the square of the entities.
        related = related[related[:, 0] != related[:, 1]]
        head, tail = np.unique(related, axis=0).reshape(-1, 2).T
        taken = head * (n - 1) + tail - (tail > head)
        n_free = max(0, n * (n - 1) - len(taken))
        drawn = (
            np.arange(n_free) if count >= n_free else rng.choice(n_free, size=count, replace=False)
        )
        number = drawn + np.searchsorted(taken - np.arange(len(taken)), drawn, side="right")
        head, tail = np.divmod(number, max(1, n - 1))
        return np.stack([head, tail + (tail >= head)], axis=1)
    pairs, _ = pairs_of_doc(spans, n * n, reach, max_distance)
    if len(related):
        pairs = pairs[~np.isin(pairs @ [n, 1], related @ [n, 1])]
    if count >= len(pairs):
        return pairs
    is_hard = None
    if hard and types is not None:
        base = int(types.max(initial=0)) + 1
        is_hard = np.isin(pairs @ [n, 1], related[:, ::-1] @ [n, 1])
        is_hard |= np.isin(types[pairs] @ [base, 1], types[related] @ [base, 1])
    return pairs[_draw(len(pairs), count, rng, hard, is_hard)]
