"""Entities and relations by their probabilities. Arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Entities:
    """The entities of a batch of Docs, in the order of the Docs.

    spans (int64 array, (n, 2)): Token ranges, numbered through the batch.
    types (int64 array, (n,)): Entity types; the number of types stands for an unknown one.
    scores (float32 array, (n,)): Probabilities.
    docs (int64 array, (n,)): The Doc of each entity.
    overlapped (int64 array, (n_docs,)): Number of likely entities of each Doc that were left out for
        a better one.
    """

    spans: IntArray
    types: IntArray
    scores: FloatArray
    docs: IntArray
    overlapped: IntArray


def best_spans(spans: IntArray, scores: FloatArray) -> BoolArray:
    """Choose among overlapping spans, greedily by score, so that the best one always stays.

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
    probabilities: FloatArray, text_ends: IntArray, usable: BoolArray
) -> tuple[IntArray, IntArray, FloatArray]:
    """Return the spans whose most probable class is an entity type.

    probabilities (float array, (n_tokens, max_size, 1 + n_types)): Those of the span of ``k + 1``
        tokens that begins at token ``t`` are at ``[t, k]``; class 0 is "no entity".
    text_ends (int64 array, (n_tokens,)): For each token, the end (exclusive) of its text.
    usable (bool array, (n_tokens,)): Tokens at which a span may begin and end.
    RETURNS (tuple): Spans as token ranges, int64 (n, 2), ordered by start and end; their types,
        int64 (n,), numbered from 0 without "no entity"; their probabilities, float32 (n,).
    """
    best = probabilities.argmax(axis=-1)
    starts, columns = np.nonzero(best)
    ends = starts + columns + 1
    inside = (ends <= text_ends[starts]) & usable[starts]
    inside[inside] &= usable[ends[inside] - 1]
    starts, columns, ends = starts[inside], columns[inside], ends[inside]
    types = best[starts, columns]
    scores = probabilities[starts, columns, types]
    return np.stack([starts, ends], axis=1).astype(np.int64), types - 1, scores


def likely_relations(
    probabilities: FloatArray, threshold: float | FloatArray, allowed: BoolArray | None = None
) -> tuple[IntArray, IntArray, FloatArray]:
    """Return the relations that are probable enough.

    probabilities (float array, (n_pairs, n_types)): Probability of each relation.
    threshold (float | float32 array, (n_types,)): Smallest probability of a relation: one for all
        types, or one for each.
    allowed (bool array, (n_pairs, n_types) | None): Relations that may hold; None for all.
    RETURNS (tuple): Pair and type of each relation, int64 (n,) each, ordered by pair, then by type;
        and their probabilities, float32 (n,).
    """
    likely = probabilities >= threshold
    if allowed is not None:
        likely &= allowed
    pairs, types = np.nonzero(likely)
    return pairs, types, probabilities[pairs, types]
