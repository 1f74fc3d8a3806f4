"""From probabilities to entities and relations. Arrays in, arrays out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]


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
