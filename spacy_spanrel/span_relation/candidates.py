"""Which spans and pairs are looked at. Arrays in, arrays out.

Spans are rows (start, end) of tokens, end exclusive. The tokens of all Docs of a batch are counted
through, and `offsets` has the first token of each Doc, so one array serves the whole batch.
"""

from __future__ import annotations

import numpy as np

from ..arrays import IntArray
from ..pairing import _pairs_of_doc, text_ends


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
    ends = text_ends(offsets)
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
    spans: IntArray,
    related: IntArray,
    count: int,
    rng: np.random.Generator,
    reach: IntArray | None = None,
    max_distance: int | None = None,
) -> IntArray:
    """Draw ordered pairs of different entities that are not related.

    spans (int64 array, (n, 2)): Entities of one Doc, no two alike.
    related (int64 array, (m, 2)): Pairs (head, tail), rows of `spans`, never to draw.
    count (int): How many to draw; all there are, if there are fewer.
    rng (Generator): Source of chance.
    reach (int64 array | None), max_distance (int | None): As in `entity_pairs`.
    RETURNS (int64 array, (k, 2)): Different pairs (head, tail).
    """
    n = len(spans)
    pairs, _ = _pairs_of_doc(spans, n * n, reach, max_distance)
    if len(related):
        pairs = pairs[~np.isin(pairs @ [n, 1], related @ [n, 1])]
    if count >= len(pairs):
        return pairs
    return pairs[rng.choice(len(pairs), size=count, replace=False)]
