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

        ranges (Tensor): Half-open ranges of rows, int64; none longer than `longest`.
            *Shape:* ``(n_ranges, 2)``
        RETURNS (Tensor): Maxima; the zero vector for an empty range. *Shape:* ``(n_ranges, width)``
        """
        rows = self._levels[0]
        starts, ends = ranges[:, 0], ranges[:, 1]
        lengths = ends - starts
        index = [torch.nonzero(lengths <= 0).squeeze(1)]
        parts = [rows.new_zeros((index[0].shape[0], rows.shape[1]))]
        width = 1
        for level in self._levels:
            # Lengths width .. 2 * width - 1 are covered by two entries of this level.
            here = torch.nonzero((lengths >= width) & (lengths < 2 * width)).squeeze(1)
            if here.numel():
                part = level.index_select(0, starts[here])
                if width > 1:
                    part = torch.maximum(part, level.index_select(0, ends[here] - width))
                index.append(here)
                parts.append(part)
            width *= 2
        where = torch.empty_like(lengths)
        where[torch.cat(index)] = torch.arange(ranges.shape[0], device=ranges.device)
        return torch.cat(parts).index_select(0, where)
