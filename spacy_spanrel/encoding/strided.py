"""Windows of tokens, as in spacy-transformers: a pipeline that was trained there reads texts the same here.

Its `strided_spans` cuts a Doc into ranges of `window` tokens, each `stride` tokens behind the one before.
Each range is a text of its own for the tokenizer, and a token in two of them has the pieces of both. There a
token also has the piece of the space behind it, if the tokenizer makes the space a part of the next piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from spacy.tokens import Doc

from ..arrays import IntArray
from .encoder import EncodedDocs, SplitDocs
from .outputs import pick_pieces
from .transfer import to_device


class StridedDocs(SplitDocs):
    """Docs that are read in windows of tokens. In the output of the encoder each window has rows of its own
    for its tokens: `token_offsets`, `token_pieces`, `token_window` and `windows` count a token once for each
    window that holds it.

    docs (Sequence[Doc]): The Docs.
    window (int): Tokens in a window.
    stride (int): Tokens from the start of a window to that of the next one; at most `window`.
    """

    with_spaces = True

    def __init__(self, docs: Sequence[Doc], window: int, stride: int):
        super().__init__(docs, [strided_starts(len(doc), window, stride) for doc in docs])
        self.window = window

    def parts(self, i: int) -> list[tuple[int, int]]:
        return [
            (start, min(start + self.window, len(self[i]))) for start in self.starts[i].tolist()
        ]

    def tokens(self) -> IntArray:
        """Return the token that each row stands for, counted over all Docs, (n_rows,)."""
        rows = [np.zeros(0, dtype=np.int64)]
        n_tokens = 0
        for i, doc in enumerate(self):
            rows += [np.arange(start, end) + n_tokens for start, end in self.parts(i)]
            n_tokens += len(doc)
        return np.concatenate(rows)


def strided_starts(n_tokens: int, window: int, stride: int) -> IntArray:
    """Place windows over a Doc.

    n_tokens (int): Length of the Doc.
    window (int), stride (int): As in `StridedDocs`.
    RETURNS (int64 array, (n_windows,)): First token of each window, from 0 on. The last window may be short;
        an empty Doc has one, too.
    """
    return np.arange(1 + max(0, -(-(n_tokens - window) // stride)), dtype=np.int64) * stride


def one_row_per_token(encoded: EncodedDocs, docs: StridedDocs) -> tuple[EncodedDocs, IntArray]:
    """Take the pieces of each token from one window: the one that gives it the most context on its shorter
    side. This is how `ListenerEncoder` reads the output of spacy-transformers.

    encoded (EncodedDocs): The output for the Docs.
    docs (StridedDocs): The Docs.
    RETURNS (tuple[EncodedDocs, int64 array]): The output with one row for each token, and the rows of
        `encoded.pieces` that are its pieces.
    """
    tokens = docs.tokens()
    ranges, window = encoded.token_pieces.numpy(), encoded.token_window.numpy()
    n_windows, n_tokens = len(encoded.context), sum(map(len, docs))
    first, last = np.full(n_windows, len(encoded.pieces)), np.zeros(n_windows, dtype=np.int64)
    np.minimum.at(first, window, ranges[:, 0])
    np.maximum.at(last, window, ranges[:, 1])
    room = np.minimum(ranges[:, 0] - first[window], last[window] - ranges[:, 1])
    filled = np.flatnonzero(ranges[:, 0] < ranges[:, 1])
    best = filled[np.lexsort((window[filled], -room[filled], tokens[filled]))]
    best = best[np.flatnonzero(np.diff(tokens[best], prepend=-1))]
    rows, token_pieces, token_window = pick_pieces(
        tokens[best], ranges[best], window[best], n_tokens
    )
    windows = encoded.window_ranges.copy()
    held = windows[:, 0] < windows[:, 1]
    windows[held] = np.stack([tokens[windows[held, 0]], tokens[windows[held, 1] - 1] + 1], axis=1)
    windows[~held] = 0
    index = to_device(torch.from_numpy(rows), encoded.pieces.device)
    merged = replace(
        encoded,
        pieces=encoded.pieces.index_select(0, index),
        token_pieces=torch.from_numpy(token_pieces),
        token_window=torch.from_numpy(token_window),
        token_offsets=np.cumsum([0, *map(len, docs)]).astype(np.int64),
        windows=windows,
    )
    return merged, rows
