"""Padded batches of rows that differ in length, and runs of items of limited size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..arrays import IntArray
from .transfer import to_device

# The budget "auto", in padded pieces, by type of device. On a CPU small batches stay in its caches:
# 512 to 1,024 pieces were fastest for encoders of 22 M to 110 M parameters. A GPU must be filled.
_BATCH_PIECES = {"cpu": 768, "cuda": 32768}
# Fixed cost of a call of the network, as a number of pieces that take the same time.
_CALL_PIECES = {"cpu": 32, "cuda": 2048}


def length_sorted_batches(
    lengths: Sequence[int] | IntArray, budget: int, overhead: int = 0
) -> Iterator[IntArray]:
    """Group rows into padded batches within a budget, at the least total cost.

    Rows are sorted by length. A batch costs its padded pieces plus `overhead`, and dynamic
    programming finds the partition of the sorted rows with the least sum of costs: few batches if
    calls are dear, little padding if pieces are.

    lengths (Sequence[int]): Length of each row, at least 1.
    budget (int): Largest number of padded pieces (rows x longest row) in a batch. A row that is
        longer than that makes a batch of its own.
    overhead (int): Fixed cost of a batch, in pieces.
    YIELDS (int64 array): Indices of the rows of a batch, longest first; every row exactly once.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    # Longest first: the first batch takes the most memory, and the allocator uses it again.
    order = np.argsort(-sizes, kind="stable")
    ranked = sizes[order]
    n = len(order)
    # cost[i] is the least cost of the first i rows, whose last batch begins at row begin[i].
    cost = np.zeros(n + 1, dtype=np.int64)
    begin = np.zeros(n + 1, dtype=np.int64)
    counts = np.arange(n, 0, -1)
    low = 0
    for i in range(1, n + 1):
        # The last batch holds rows j .. i - 1 for some j from low on; its longest row is row j.
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
    """Cut a sequence into chunks of neighbours whose sizes add up to at most `budget`.

    sizes (Sequence[int]): Size of each item.
    budget (int): Largest total size of a chunk. A larger item makes a chunk of its own.
    YIELDS (slice): The chunks, in order; none is empty, and they cover the sequence.
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
    value (int): The value that fills up shorter rows, on the right.
    RETURNS (int64 array, (n_rows, longest)): The array.
    """
    padded = np.full((len(rows), max(map(len, rows), default=0)), value, dtype=np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return padded


def padded_batches(
    columns: Sequence[tuple[Sequence[IntArray], int]],
    budget: int | str,
    device: torch.device,
) -> Iterator[tuple[IntArray, list[Tensor]]]:
    """Put rows of pieces into padded batches on a device.

    columns (Sequence[tuple[Sequence[int64 array], int]]): The piece ids of all rows, then other
        values of each piece (segment ids, say), each with the value that pads shorter rows.
    budget (int | "auto"): Largest number of padded pieces in a batch; "auto" depends on the device.
    device (torch.device): The device of the batches.
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
        # One array, so that there is one copy to the device.
        stacked = torch.from_numpy(np.stack([first, mask, *others]))
        yield batch, list(to_device(stacked, device).unbind())
