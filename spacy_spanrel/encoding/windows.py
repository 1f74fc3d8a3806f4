"""Overlapping windows over the subword pieces of a text that is too long for the encoder."""

from __future__ import annotations

import numpy as np

from ..arrays import IntArray
from ..errors import Errors


def check_window_settings(max_length: int, special: int, overlap: int) -> int:
    """Check the settings of windows, and return how many pieces of text fit one window.

    max_length (int): Largest number of pieces in a window, special tokens included.
    special (int): Special tokens in each window.
    overlap (int): Pieces that neighbouring windows share.
    RETURNS (int): Pieces of text in a full window.
    RAISES (ValueError): If no text fits a window, or only the overlap does.
    """
    capacity = max_length - special
    if overlap < 0 or capacity < 1 or capacity <= overlap:
        raise ValueError(
            Errors.E204.format(max_length=max_length, special=special, overlap=overlap)
        )
    return capacity


def window_starts(n_pieces: int, capacity: int, overlap: int) -> IntArray:
    """Place windows over a sequence so that each piece is in at least one of them.

    The last window is moved back to the end of the sequence, so all windows of a long sequence are
    full and the last one has as much context as the others.

    n_pieces (int): Length of the sequence.
    capacity (int): Pieces in a full window, greater than `overlap`.
    overlap (int): Smallest number of pieces that neighbouring windows share.
    RETURNS (int64 array, (n_windows,)): First piece of each window, ascending. An empty sequence has
        one window as well.
    """
    if n_pieces <= capacity:
        return np.zeros(1, dtype=np.int64)
    step = capacity - overlap
    n_windows = 1 + -(-(n_pieces - capacity) // step)
    starts = np.arange(n_windows, dtype=np.int64) * step
    starts[-1] = n_pieces - capacity
    return starts


def windows_around(
    inner: tuple[int, int], outer: tuple[int, int], capacity: int, overlap: int
) -> tuple[IntArray, int]:
    """Place windows over a part of a sequence, together with the context for which there is room.

    If the part fits one window, the room that is left is shared by both sides; a side that needs less
    leaves the rest to the other one. A longer part is read in several windows, without context.

    inner, outer (tuple[int, int]): The part, and the part with its context; ends exclusive.
    capacity (int), overlap (int): As in `window_starts`.
    RETURNS (tuple[int64 array, int]): First item of each window, ascending; end (exclusive) of the
        last window.
    """
    (first, last), (begin, end) = inner, outer
    room = capacity - (last - first)
    if room < 0:
        return first + window_starts(last - first, capacity, overlap), last
    left = min(first - begin, max(room // 2, room - (end - last)))
    start = first - left
    return np.asarray([start], dtype=np.int64), min(end, start + capacity)


def owned_ranges(starts: IntArray, n_pieces: int, capacity: int) -> IntArray:
    """Assign each piece to the window that gives it most context.

    The context of a piece in a window is its distance to the nearer border of the window (the rule
    of BERT's `run_squad`). So two neighbours meet in the middle of the pieces that they share.

    starts (int64 array, (n_windows,)): From `window_starts`; a single window may begin earlier.
    n_pieces (int): Length of the sequence.
    capacity (int): Pieces in a full window.
    RETURNS (int64 array, (n_windows, 2)): The pieces of each window, end exclusive. The
        ranges follow each other and cover the sequence.
    """
    # Windows w and w + 1 share the pieces [starts[w + 1], starts[w] + capacity). The piece in the
    # middle of an odd number goes to window w.
    cuts = (starts[1:] + starts[:-1] + capacity + 1) // 2
    borders = np.concatenate([[0], cuts, [n_pieces]])
    return np.stack([borders[:-1], borders[1:]], axis=1).astype(np.int64)


def window_tokens(starts: IntArray, capacity: int, token_pieces: IntArray) -> IntArray:
    """Return the tokens of which each window holds all pieces.

    starts (int64 array, (n_windows,)): From `window_starts`.
    capacity (int): Pieces in a full window.
    token_pieces (int64 array, (n_tokens, 2)): Range of each token's pieces, from
        `token_piece_ranges`.
    RETURNS (int64 array, (n_windows, 2)): Token ranges, end exclusive.
    """
    if len(starts) == 1:
        return np.asarray([[0, len(token_pieces)]], dtype=np.int64)
    first = np.searchsorted(token_pieces[:, 0], starts, side="left")
    last = np.searchsorted(token_pieces[:, 1], starts + capacity, side="right")
    return np.stack([first, np.maximum(first, last)], axis=1).astype(np.int64)
