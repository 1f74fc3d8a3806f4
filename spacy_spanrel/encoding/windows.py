"""Text longer than the encoder takes, as overlapping windows of word pieces."""

from __future__ import annotations

import numpy as np

from ..arrays import IntArray
from ..errors import Errors


def check_window_settings(max_length: int, special: int, overlap: int) -> int:
    """Return how many pieces of text fit a window.

    max_length (int): Pieces that the encoder takes, special tokens included.
    special (int): Special tokens in each window.
    overlap (int): Pieces that neighbouring windows share.
    RETURNS (int): Pieces of text in a full window.
    RAISES (ValueError): If windows could not move on.
    """
    capacity = max_length - special
    if overlap < 0 or capacity < 1 or capacity <= overlap:
        raise ValueError(
            Errors.E204.format(max_length=max_length, special=special, overlap=overlap)
        )
    return capacity


def window_starts(n_pieces: int, capacity: int, overlap: int) -> IntArray:
    """Place windows over a sequence so that each piece is in at least one.

    The last window is moved back to the end of the sequence, so all windows of a long sequence are
    full and the last one has as much context as the others.

    n_pieces (int): Length of the sequence.
    capacity (int): Pieces in a full window, greater than `overlap`.
    overlap (int): Pieces that neighbouring windows share at least.
    RETURNS (int64 array, (n_windows,)): First piece of each window, ascending; one window for an
        empty sequence too.
    """
    if n_pieces <= capacity:
        return np.zeros(1, dtype=np.int64)
    step = capacity - overlap
    n_windows = 1 + -(-(n_pieces - capacity) // step)
    starts = np.arange(n_windows, dtype=np.int64) * step
    starts[-1] = n_pieces - capacity
    return starts


def owned_ranges(starts: IntArray, n_pieces: int, capacity: int) -> IntArray:
    """Divide the pieces among the windows: each piece goes to the window that gives it most context.

    The context of a piece in a window is its distance to the nearer border of the window (the
    rule of BERT's `run_squad`). Between two windows that is the middle of what they share.

    starts (int64 array, (n_windows,)): From `window_starts`.
    n_pieces (int): Length of the sequence.
    capacity (int): Pieces in a full window.
    RETURNS (int64 array, (n_windows, 2)): Half-open ranges that partition 0..n_pieces.
    """
    # Window w shares pieces [starts[w + 1], starts[w] + capacity) with its right neighbour; on a
    # tie the earlier window wins.
    cuts = (starts[1:] + starts[:-1] + capacity + 1) // 2
    borders = np.concatenate([[0], cuts, [n_pieces]])
    return np.stack([borders[:-1], borders[1:]], axis=1).astype(np.int64)


def window_tokens(starts: IntArray, capacity: int, token_pieces: IntArray) -> IntArray:
    """Return the tokens that each window holds as a whole.

    starts (int64 array, (n_windows,)): From `window_starts`.
    capacity (int): Pieces in a full window.
    token_pieces (int64 array, (n_tokens, 2)): The pieces of each token, from
        `token_piece_ranges`.
    RETURNS (int64 array, (n_windows, 2)): Token ranges, end exclusive.
    """
    if len(starts) == 1:
        return np.asarray([[0, len(token_pieces)]], dtype=np.int64)
    first = np.searchsorted(token_pieces[:, 0], starts, side="left")
    last = np.searchsorted(token_pieces[:, 1], starts + capacity, side="right")
    return np.stack([first, np.maximum(first, last)], axis=1).astype(np.int64)
