"""Rows of different length into padded batches: sorted by length, under a budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


def length_sorted_batches(lengths: Sequence[int] | IntArray, budget: int) -> Iterator[IntArray]:
    """Group rows so that each padded batch stays under a budget and carries little padding.

    lengths (Sequence[int]): Length of each row, at least 1.
    budget (int): Largest number of padded pieces (rows x longest row) in a batch. A single row
        that is longer than the budget makes a batch of its own.
    YIELDS (int64 array): Indices of the rows of a batch, longest first; every row exactly once.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    # Longest first: memory is at its peak at once, and the allocator re-uses it.
    order = np.argsort(-sizes, kind="stable")
    start = 0
    while start < len(order):
        n_rows = max(1, int(budget // max(1, sizes[order[start]])))
        yield order[start : start + n_rows]
        start += n_rows


def chunks_by_size(sizes: Sequence[int], budget: int) -> Iterator[slice]:
    """Cut a sequence into runs of neighbours whose sizes add up to at most `budget`.

    sizes (Sequence[int]): Size of each item.
    budget (int): Largest sum of a run; a single larger item makes a run of its own.
    YIELDS (slice): Non-empty slices that cover the sequence in order.
    """
    start, total = 0, 0
    for i, size in enumerate(sizes):
        if i > start and total + size > budget:
            yield slice(start, i)
            start, total = i, 0
        total += size
    if start < len(sizes):
        yield slice(start, len(sizes))


def pad_rows(rows: Sequence[IntArray], value: int) -> IntArray:
    """Put rows of different length into one array.

    rows (Sequence[int64 array]): The rows.
    value (int): Fills up the shorter ones, on the right.
    RETURNS (int64 array, (n_rows, longest)): The array.
    """
    out = np.full((len(rows), max(map(len, rows), default=0)), value, dtype=np.int64)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out
