"""From probabilities to entities and relations. Arrays in, arrays out."""

from __future__ import annotations

import numpy as np

from ..arrays import BoolArray, FloatArray, IntArray


def best_spans(spans: IntArray, scores: FloatArray) -> BoolArray:
    """Keep the best of overlapping spans: greedily by score, so the best one always stays.

    spans (int64 array, (n, 2)): Half-open token ranges.
    scores (float array, (n,)): Ties go to the longer span, then to the earlier one.
    RETURNS (bool array, (n,)): True where the span is kept.
    """
    keep = np.zeros(len(spans), dtype=bool)
    order = np.lexsort((spans[:, 0], spans[:, 0] - spans[:, 1], -scores))
    taken: set[int] = set()
    rows = spans.tolist()
    for i in order.tolist():
        start, end = rows[i]
        tokens = range(start, end)
        if taken.isdisjoint(tokens):
            keep[i] = True
            taken.update(tokens)
    return keep


def likely_spans(
    probabilities: FloatArray, room: IntArray, usable: BoolArray
) -> tuple[IntArray, IntArray, FloatArray]:
    """Return the spans whose most probable class is an entity type.

    probabilities (float array, (n_tokens, max_size, 1 + n_types)): Of the span of ``k + 1`` tokens
        from token ``t`` on at ``[t, k]``; class 0 is "no entity".
    room (int64 array, (n_tokens,)): Tokens from each one to the end of its Doc.
    usable (bool array, (n_tokens,)): Tokens at which a span may begin and end.
    RETURNS (tuple): Spans as token ranges, int64 (n, 2), ordered by start and end; their types,
        int64 (n,), counted from 0 without "no entity"; their probabilities, float32 (n,).
    """
    best = probabilities.argmax(axis=-1)
    starts, columns = np.nonzero(best)
    ends = starts + columns + 1
    inside = (columns < room[starts]) & usable[starts]
    inside[inside] &= usable[ends[inside] - 1]
    starts, columns, ends = starts[inside], columns[inside], ends[inside]
    types = best[starts, columns]
    scores = probabilities[starts, columns, types]
    return np.stack([starts, ends], axis=1).astype(np.int64), types - 1, scores


def likely_relations(
    probabilities: FloatArray, threshold: float, allowed: BoolArray | None = None
) -> tuple[IntArray, IntArray, FloatArray]:
    """Return the relations that are probable enough.

    probabilities (float array, (n_pairs, n_types)): Independent probabilities.
    threshold (float): Smallest probability of a relation.
    allowed (bool array, (n_pairs, n_types) | None): Relations that may hold at all.
    RETURNS (tuple): Pair and type of each relation, int64 (n,) each, and its probability,
        float32 (n,).
    """
    likely = probabilities >= threshold
    if allowed is not None:
        likely &= allowed
    pairs, types = np.nonzero(likely)
    return pairs, types, probabilities[pairs, types]
