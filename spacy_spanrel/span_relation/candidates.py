"""Candidates: all spans of a text, and negative spans and pairs sampled for training.

Spans are rows (start, end) of tokens, end exclusive, numbered through the tokens of a batch or of one
Doc. Arrays in, arrays out.
"""

from __future__ import annotations

import numpy as np

from ..arrays import IntArray
from ..pairing import pairs_of_doc


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
    candidates: IntArray, gold: IntArray, count: int, rng: np.random.Generator
) -> IntArray:
    """Draw spans that are not entities.

    candidates (int64 array, (n, 2)): All spans of one Doc.
    gold (int64 array, (m, 2)): Its entities.
    count (int): Number of spans to draw; if there are fewer, all are returned.
    rng (Generator): The random generator.
    RETURNS (int64 array, (k, 2)): Different spans, none of them gold.
    """
    if not len(candidates):
        return candidates
    if len(gold):
        base = int(max(candidates.max(), gold.max())) + 1
        is_gold = np.isin(candidates @ [base, 1], gold @ [base, 1])
        candidates = candidates[~is_gold]
    if count >= len(candidates):
        return candidates
    return candidates[rng.choice(len(candidates), size=count, replace=False)]


def sample_negative_pairs(
    spans: IntArray,
    related: IntArray,
    count: int,
    rng: np.random.Generator,
    reach: IntArray | None = None,
    max_distance: int | None = None,
) -> IntArray:
    """Draw ordered pairs of different entities that are not related.

    spans (int64 array, (n, 2)): Entities of one Doc, all different.
    related (int64 array, (m, 2)): Pairs (head, tail) of rows of `spans` that are not drawn.
    count (int): Number of pairs to draw; if there are fewer, all are returned.
    rng (Generator): The random generator.
    reach (int64 array | None), max_distance (int | None): As in `entity_pairs`.
    RETURNS (int64 array, (k, 2)): Different pairs (head, tail) of rows of `spans`.
    """
    n = len(spans)
    if reach is None and max_distance is None:
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
    return pairs[rng.choice(len(pairs), size=count, replace=False)]
