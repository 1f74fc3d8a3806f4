"""Rows of different length into padded batches: sorted by length, under a budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..arrays import IntArray
from .transfer import to_device

# Padded pieces in a batch. On a CPU small batches stay in its caches: 512 to 1,024 were fastest
# for encoders from 22 M to 110 M parameters; a GPU wants to be filled.
_BATCH_PIECES = {"cpu": 768, "cuda": 32768}
# What a call of the network costs besides its pieces, in pieces.
_CALL_PIECES = {"cpu": 32, "cuda": 2048}


def length_sorted_batches(
    lengths: Sequence[int] | IntArray, budget: int, overhead: int = 0
) -> Iterator[IntArray]:
    """Group rows so that each padded batch stays under a budget and the whole costs least.

    Rows are sorted by length. A batch costs its padded pieces plus `overhead`, and the partition of
    the sorted rows with the least sum of costs is found by dynamic programming: few batches where
    calls are dear, little padding where pieces are.

    lengths (Sequence[int]): Length of each row, at least 1.
    budget (int): Largest number of padded pieces (rows x longest row) in a batch. A single row
        that is longer than the budget makes a batch of its own.
    overhead (int): What a batch costs besides, in pieces.
    YIELDS (int64 array): Indices of the rows of a batch, longest first; every row exactly once.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    # Longest first: memory is at its peak at once, and the allocator re-uses it.
    order = np.argsort(-sizes, kind="stable")
    ranked = sizes[order]
    n = len(order)
    # cost[i]: least cost of the first i rows; their last batch begins at row begin[i].
    cost = np.zeros(n + 1, dtype=np.int64)
    begin = np.zeros(n + 1, dtype=np.int64)
    counts = np.arange(n, 0, -1)
    low = 0
    for i in range(1, n + 1):
        # Rows j .. i - 1 as one batch: its longest row is the first one.
        while low < i - 1 and ranked[low] * (i - low) > budget:
            low += 1
        costs = cost[low:i] + ranked[low:i] * counts[n - i + low :]
        best = int(costs.argmin())
        cost[i], begin[i] = costs[best] + overhead, low + best
    batches = []
    end = n
    while end:
        batches.append(order[begin[end] : end])
        end = int(begin[end])
    yield from reversed(batches)


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


def padded_batches(
    columns: Sequence[tuple[Sequence[IntArray], int]],
    budget: int | str,
    device: torch.device,
) -> Iterator[tuple[IntArray, list[Tensor]]]:
    """Put rows of pieces into padded batches on a device.

    columns (Sequence[tuple[Sequence[int64 array], int]]): The piece ids of all rows, then whatever
        else goes with each piece, each with the value that pads it.
    budget (int | "auto"): Largest number of padded pieces in a batch.
    device (torch.device): Where the batches go.
    YIELDS (tuple[int64 array, list[Tensor]]): Indices of the rows; their ids, the mask (1 for
        pieces, 0 for padding), and the other columns, int64. *Shape:* ``(batch, longest)`` each
    """
    ids = columns[0][0]
    lengths = np.asarray([len(row) for row in ids], dtype=np.int64)
    if isinstance(budget, str):
        budget = _BATCH_PIECES.get(device.type, _BATCH_PIECES["cpu"])
    overhead = _CALL_PIECES.get(device.type, _CALL_PIECES["cpu"])
    for batch in length_sorted_batches(lengths, budget, overhead):
        longest = int(lengths[batch].max())
        mask = (np.arange(longest) < lengths[batch][:, None]).astype(np.int64)
        first, *others = (pad_rows([rows[i] for i in batch], value) for rows, value in columns)
        parts = torch.from_numpy(np.stack([first, mask, *others]))
        yield batch, list(to_device(parts, device).unbind())
