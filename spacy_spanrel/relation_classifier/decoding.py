"""From probabilities to one relation a pair. Arrays in, arrays out."""

from __future__ import annotations

import numpy as np

from ..arrays import BoolArray, FloatArray, IntArray

NO_RELATION = -1


def best_labels(
    probabilities: FloatArray,
    negative: int | None,
    threshold: float,
    allowed: BoolArray | None = None,
) -> tuple[IntArray, FloatArray]:
    """Choose the most probable label of each pair.

    probabilities (float array, (n_pairs, n_labels)): They add up to 1 for each pair.
    negative (int | None): The label that says "no relation", if there is one.
    threshold (float): Smallest probability of a relation.
    allowed (bool array, (n_pairs, n_labels) | None): Labels that a pair may have; "no relation" is
        always allowed.
    RETURNS (tuple[int64 array, float32 array]): Labels, (n_pairs,), NO_RELATION where the negative
        label is at least as probable as any other or the best one is not probable enough; and
        their probabilities, (n_pairs,).
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
    holds = scores >= threshold
    if negative is not None:
        holds &= scores > probabilities[:, negative]
    return np.where(holds, labels, NO_RELATION), scores


def best_variants(
    probabilities: FloatArray, pair_of_row: IntArray, n_pairs: int, negative: int | None
) -> IntArray:
    """Choose among rows that show one pair with different types.

    probabilities (float array, (n_rows, n_labels)): Of each row.
    pair_of_row (int64 array, (n_rows,)): The pair that it shows, in ascending order.
    n_pairs (int): Number of pairs; each has at least one row.
    negative (int | None): The label that says "no relation".
    RETURNS (int64 array, (n_pairs,)): The row of each pair whose most probable relation is the most
        probable one; ties go to the first.
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
