"""Decisions on pairs: from the probabilities of labels to at most one relation. Arrays in, arrays out."""

from __future__ import annotations

import numpy as np

from ..arrays import BoolArray, FloatArray, IntArray

NO_RELATION = -1


def best_labels(
    probabilities: FloatArray,
    negative: int | None,
    threshold: float | FloatArray,
    allowed: BoolArray | None = None,
) -> tuple[IntArray, FloatArray]:
    """Choose the most probable label of each pair.

    probabilities (float array, (n_pairs, n_labels)): Probabilities, which add up to 1 for each pair.
    negative (int | None): The negative label, if there is one.
    threshold (float | float32 array, (n_labels,)): Smallest probability of a relation: one for all
        labels, or one for each.
    allowed (bool array, (n_pairs, n_labels) | None): Whether a pair may have a label; the negative one
        is always allowed. None: all are.
    RETURNS (tuple[int64 array, float32 array]): Labels, (n_pairs,): NO_RELATION where the negative one
        is at least as probable as any that is allowed, or where the best of these is less probable
        than its threshold; and the probabilities of the labels, (n_pairs,).
    """
    n_pairs, n_labels = probabilities.shape
    candidates = probabilities.copy()
    if allowed is not None:
        candidates[~allowed] = -1.0
    if negative is not None:
        candidates[:, negative] = -1.0
    if not n_pairs or n_labels == (negative is not None):
        return np.full(n_pairs, NO_RELATION), np.zeros(n_pairs, dtype=np.float32)
    labels = candidates.argmax(axis=1)
    scores = candidates[np.arange(n_pairs), labels]
    holds = scores >= np.broadcast_to(np.float32(threshold), n_labels)[labels]
    if negative is not None:
        holds &= scores > probabilities[:, negative]
    return np.where(holds, labels, NO_RELATION), scores


def best_variants(
    probabilities: FloatArray, pair_of_row: IntArray, n_pairs: int, negative: int | None
) -> IntArray:
    """Choose one row of each pair, where several show the pair with different types.

    probabilities (float array, (n_rows, n_labels)): Probabilities of the labels.
    pair_of_row (int64 array, (n_rows,)): The pair that each row shows, in ascending order.
    n_pairs (int): Number of pairs; each has at least one row.
    negative (int | None): The negative label, if there is one.
    RETURNS (int64 array, (n_pairs,)): The row of each pair that has the most probable relation; of
        several, the first.
    """
    if len(pair_of_row) == n_pairs:
        return np.arange(n_pairs)
    relations = (
        np.delete(probabilities, negative, axis=1) if negative is not None else probabilities
    )
    best = relations.max(axis=1, initial=0.0)
    order = np.lexsort((np.arange(len(best)), -best, pair_of_row))
    first: IntArray = np.unique(pair_of_row[order], return_index=True)[1]
    return order[first]
