"""Which spans and pairs are looked at. Arrays in, arrays out.

Spans are rows (start, end) of tokens, end exclusive. The tokens of all Docs of a batch are counted
through, and `offsets` has the first token of each Doc, so one array serves the whole batch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


def all_spans(offsets: IntArray, max_size: int) -> IntArray:
    """Return all spans of 1 to `max_size` tokens that lie within one Doc.

    offsets (int64 array, (n_docs + 1,)): First token of each Doc.
    max_size (int): Largest number of tokens.
    RETURNS (int64 array, (n_spans, 2)): Ordered by start, then by size.
    """
    room = tokens_to_doc_end(offsets)
    sizes = np.arange(1, max_size + 1)
    starts, columns = np.nonzero(sizes[None, :] <= room[:, None])
    return np.stack([starts, starts + sizes[columns]], axis=1).astype(np.int64)


def tokens_to_doc_end(offsets: IntArray) -> IntArray:
    """Return for each token how many tokens its Doc has from it on (itself included).

    offsets (int64 array, (n_docs + 1,)): First token of each Doc.
    RETURNS (int64 array, (n_tokens,)): Counts.
    """
    ends = np.repeat(offsets[1:], np.diff(offsets))
    return ends - np.arange(len(ends), dtype=np.int64)


def sample_negative_spans(
    candidates: IntArray, gold: IntArray, count: int, rng: np.random.Generator
) -> IntArray:
    """Draw spans that are no entities.

    candidates (int64 array, (n, 2)): All spans of one Doc.
    gold (int64 array, (m, 2)): Its entities.
    count (int): How many to draw; all there are, if there are fewer.
    rng (Generator): Source of chance.
    RETURNS (int64 array, (k, 2)): Different spans, none of them gold.
    """
    if not len(candidates):
        return candidates
    if len(gold):
        base = int(max(candidates.max(), gold.max())) + 1
        known = np.isin(candidates @ [base, 1], gold @ [base, 1])
        candidates = candidates[~known]
    if count >= len(candidates):
        return candidates
    return candidates[rng.choice(len(candidates), size=count, replace=False)]


def sample_negative_pairs(
    n_entities: int, related: set[tuple[int, int]], count: int, rng: np.random.Generator
) -> IntArray:
    """Draw ordered pairs of different entities that are not related.

    n_entities (int): Entities of one Doc.
    related (set[tuple[int, int]]): Pairs (head, tail) never to draw.
    count (int): How many to draw; all there are, if there are fewer.
    rng (Generator): Source of chance.
    RETURNS (int64 array, (k, 2)): Different pairs (head, tail).
    """
    heads, tails = np.nonzero(~np.eye(n_entities, dtype=bool))
    free = [pair not in related for pair in zip(heads.tolist(), tails.tolist(), strict=True)]
    pairs = np.stack([heads, tails], axis=1).astype(np.int64)[np.asarray(free, dtype=bool)]
    if count >= len(pairs):
        return pairs
    return pairs[rng.choice(len(pairs), size=count, replace=False)]


def entity_pairs(spans: IntArray, docs: IntArray, max_pairs: int) -> tuple[IntArray, IntArray]:
    """Return the ordered pairs of different spans within each Doc.

    spans (int64 array, (n, 2)): Entities of a batch of Docs, the Docs in order.
    docs (int64 array, (n,)): The Doc of each.
    max_pairs (int): At most so many pairs a Doc, the nearest first (tokens between the spans;
        ties: the earlier in the text). Bounds the work where an untrained or wrong model calls
        everything an entity.
    RETURNS (tuple[int64 array, int64 array]): Pairs as rows (head, tail) of indices into `spans`,
        (n_pairs, 2), ordered by Doc, head, tail; and how many pairs were left out of each Doc that
        lost any, as rows (doc, count), (k, 2).
    """
    found: list[IntArray] = []
    cut: list[tuple[int, int]] = []
    borders = np.flatnonzero(np.diff(docs)) + 1
    for first, last in zip([0, *borders], [*borders, len(docs)], strict=True):
        n = int(last - first)
        if n < 2:
            continue
        if n * (n - 1) > max_pairs:
            pairs = _nearest_pairs(spans[first:last], max_pairs)
            n_all = n * (n - 1) - _same_span_pairs(spans[first:last])
            if n_all > len(pairs):
                cut.append((int(docs[first]), n_all - len(pairs)))
        else:
            heads, tails = np.nonzero(~np.eye(n, dtype=bool))
            pairs = np.stack([heads, tails], axis=1)
            pairs = pairs[np.any(spans[first + heads] != spans[first + tails], axis=1)]
        found.append(pairs + first)
    every = np.concatenate([np.zeros((0, 2), dtype=np.int64), *found])
    return every, np.asarray(cut, dtype=np.int64).reshape(-1, 2)


def _same_span_pairs(spans: IntArray) -> int:
    counts = np.unique(spans, axis=0, return_counts=True)[1]
    return int((counts * (counts - 1)).sum())


def _nearest_pairs(spans: IntArray, max_pairs: int) -> IntArray:
    """The `max_pairs` nearest ordered pairs, without ever making all of n x n."""
    order = np.lexsort((spans[:, 1], spans[:, 0]))
    starts, ends = spans[order, 0], spans[order, 1]
    n = len(order)
    rank = np.arange(n)

    def partners(gap: int) -> IntArray:
        # With starts in order, the partners of i within `gap` tokens are its next neighbours.
        return np.searchsorted(starts, ends + gap, side="right") - rank - 1

    wanted = max(1, max_pairs // 2)
    # Spans with several types are within any gap of themselves, and are no pair.
    enough = wanted + _same_span_pairs(spans) // 2
    low, high = 0, int(starts[-1] - ends.min()) + 1
    while low < high:
        middle = (low + high) // 2
        if int(partners(middle).sum()) >= enough:
            high = middle
        else:
            low = middle + 1
    counts = partners(low)
    left = np.repeat(rank, counts)
    right = left + 1 + np.arange(len(left)) - np.repeat(np.cumsum(counts) - counts, counts)
    different = (starts[left] != starts[right]) | (ends[left] != ends[right])
    left, right = left[different], right[different]
    gaps = np.maximum(0, starts[right] - ends[left])
    nearest = np.lexsort((right, left, gaps))[:wanted]
    a, b = order[left[nearest]], order[right[nearest]]
    pairs = np.concatenate([np.stack([a, b], 1), np.stack([b, a], 1)])[:max_pairs]
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
