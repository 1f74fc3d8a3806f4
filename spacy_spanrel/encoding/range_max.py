"""Element-wise maximum over any ranges of rows, from one sparse table.

Level `j` of the table holds the maximum over `2 ** j` neighbouring rows. Any range is covered by
two (overlapping) entries of one level, so a maximum costs two look-ups however long the range is.
Memory is O(rows x log(longest range) x width), never ranges x rows x width as in the masked max of
the original SpERT program, and the result is bit-equal to it.

Bender and Farach-Colton (2000), "The LCA Problem Revisited", section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .transfer import to_device


class RangeMax:
    """Sparse table for range maxima; differentiable in `rows`.

    rows (Tensor): *Shape:* ``(n_rows, width)``.
    longest (int): Longest range that will be asked for.
    """

    def __init__(self, rows: Tensor, longest: int):
        self._levels = [rows]
        width = 1
        while 2 * width <= min(longest, rows.shape[0]):
            below = self._levels[-1]
            # Entry i is the maximum of rows i .. i + 2 * width - 1.
            self._levels.append(torch.maximum(below[:-width], below[width:]))
            width *= 2

    def __call__(self, ranges: Tensor) -> Tensor:
        """Return the maximum over each range.

        ranges (Tensor): Half-open ranges of rows, int64, on the CPU; none longer than `longest`.
            *Shape:* ``(n_ranges, 2)``
        RETURNS (Tensor): Maxima; the zero vector for an empty range. *Shape:* ``(n_ranges, width)``
        """
        rows = self._levels[0]
        starts, ends = ranges[:, 0], ranges[:, 1]
        # Lengths width .. 2 * width - 1 are covered by two entries of the level of that width. Which
        # level that is is settled on the CPU: a device would have to be asked, and waited for.
        widths = 2 ** torch.arange(len(self._levels))
        level = torch.bucketize(ends - starts, widths, right=True)
        order = level.argsort(stable=True)
        last = ends - torch.cat([widths[:1], widths])[level]
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order))
        first, second, where = to_device(
            torch.stack([starts[order], last[order], place]), rows.device
        ).unbind()
        empty, *counts = torch.bincount(level, minlength=1 + len(self._levels)).tolist()
        parts = [rows.new_zeros((empty, rows.shape[1]))]
        begin = empty
        for i, (maxima, count) in enumerate(zip(self._levels, counts, strict=True)):
            here = slice(begin, begin + count)
            begin += count
            if count:
                part = maxima.index_select(0, first[here])
                if i:
                    part = torch.maximum(part, maxima.index_select(0, second[here]))
                parts.append(part)
        return torch.cat(parts).index_select(0, where)
