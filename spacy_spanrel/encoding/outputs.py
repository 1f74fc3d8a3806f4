"""Outputs of transformers of other packages, joined to `EncodedDocs`.

Each package returns its vectors Doc by Doc and in a layout of its own: padded windows with special
tokens, or the bare pieces of each token. A `DocOutput` says which row is what. From there on all are
alike: rows are picked by one index, and their gradients go back by the same index.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from spacy.tokens import Doc
from thinc.api import Model
from torch import Tensor

from ..arrays import IntArray
from ..errors import Errors
from .encoder import EncodedDocs, EncoderBackprop
from .transfer import to_device


@dataclass(frozen=True)
class DocLayout:
    """The meaning of the rows of a transformer's output for one Doc.

    pieces (int64 array, (n_pieces,)): Rows of the pieces of all tokens, in the order of the text.
    context (int64 array, (n_windows,)): Row of the summary vector ([CLS]) of each window.
    token_pieces (int64 array, (n_tokens, 2)): Range of each token in `pieces`, end exclusive.
    token_window (int64 array, (n_tokens,)): Window that the pieces of each token are taken from.
    windows (int64 array, (n_windows, 2)): Range of tokens that each window holds, end exclusive.
    """

    pieces: IntArray
    context: IntArray
    token_pieces: IntArray
    token_window: IntArray
    windows: IntArray


@dataclass(frozen=True)
class DocOutput:
    """A transformer's output for one Doc.

    rows (Tensor): Vectors. *Shape:* ``(n_rows, width)``
    layout (DocLayout): The meaning of the rows.
    pack_gradient (Callable): Turns the gradient of `rows` into the form that the transformer takes.
    """

    rows: Tensor
    layout: DocLayout
    pack_gradient: Callable[[Tensor], Any]


# Takes the packed gradients of all Docs that have an output, in order.
SendGradients = Callable[[list[Any]], Any]


def join_outputs(
    model: Model[list[Doc], EncodedDocs],
    docs: Sequence[Doc],
    outputs: Sequence[DocOutput | None],
    send: SendGradients | None,
) -> tuple[EncodedDocs, EncoderBackprop]:
    """Put the outputs of a batch of Docs end to end.

    model (Model): The encoder, for its width and its `grad_factor`.
    docs (Sequence[Doc]): The Docs.
    outputs (Sequence[DocOutput | None]): Output for each Doc; None for a Doc that was not read. Its
        tokens have no pieces.
    send (Callable | None): Sends the gradients back; None if the transformer is not trained.
    RETURNS (tuple[EncodedDocs, EncoderBackprop]): The encoded batch and its backpropagation.
    """
    rows: list[Tensor] = []
    piece_rows, context_rows, token_pieces, token_window, windows = [], [], [], [], []
    n_rows = n_pieces = n_windows = n_tokens = 0
    for doc, output in zip(docs, outputs, strict=True):
        if output is None:
            token_pieces.append(np.full((len(doc), 2), n_pieces))
            token_window.append(np.full(len(doc), max(0, n_windows - 1)))
        else:
            layout = output.layout
            piece_rows.append(layout.pieces + n_rows)
            context_rows.append(layout.context + n_rows)
            token_pieces.append(layout.token_pieces + n_pieces)
            token_window.append(layout.token_window + n_windows)
            windows.append(layout.windows + n_tokens)
            rows.append(output.rows.detach())
            n_rows += len(output.rows)
            n_pieces += len(layout.pieces)
            n_windows += len(layout.context)
        n_tokens += len(doc)
    flat = torch.cat(rows) if rows else torch.zeros((0, model.get_dim("nO")))

    pieces = to_device(torch.from_numpy(_concatenate(piece_rows)), flat.device)
    context = to_device(torch.from_numpy(_concatenate(context_rows)), flat.device)
    encoded = EncodedDocs(
        pieces=flat.index_select(0, pieces),
        context=flat.index_select(0, context),
        token_pieces=torch.from_numpy(_concatenate(token_pieces, 2)),
        token_window=torch.from_numpy(_concatenate(token_window)),
        token_offsets=np.cumsum([0, *map(len, docs)]).astype(np.int64),
        windows=_concatenate(windows, 2),
    )

    def backprop(d_pieces: Tensor, d_context: Tensor) -> None:
        if send is None:
            return
        d_flat = torch.zeros_like(flat)
        d_flat.index_add_(0, pieces, d_pieces.to(d_flat.dtype))
        d_flat.index_add_(0, context, d_context.to(d_flat.dtype))
        d_flat *= model.attrs["grad_factor"]
        present = [output for output in outputs if output is not None]
        gradients = d_flat.split([len(output.rows) for output in present])
        send(
            [out.pack_gradient(gradient) for out, gradient in zip(present, gradients, strict=True)]
        )

    return encoded, backprop


def _concatenate(arrays: list[IntArray], *width: int) -> IntArray:
    """Put arrays whose rows have the same width end to end, also if there are none."""
    return np.concatenate([np.zeros((0, *width), dtype=np.int64), *arrays])


def split_outputs(encoded: EncodedDocs) -> list[DocOutput | None]:
    """Take the outputs for the Docs of a batch apart; `join_outputs` puts them together again.

    encoded (EncodedDocs): The batch.
    RETURNS (list[DocOutput | None]): The output for each Doc, copied to float32: its pieces, then the
        [CLS] vectors of its windows. None for a Doc without tokens.
    """
    token_pieces, token_window = encoded.token_pieces.numpy(), encoded.token_window.numpy()
    window_ranges = encoded.window_ranges
    outputs: list[DocOutput | None] = [None] * (len(encoded.token_offsets) - 1)
    filled = np.flatnonzero(np.diff(encoded.token_offsets))
    if not len(filled):
        return outputs
    starts, ends = encoded.token_offsets[filled], encoded.token_offsets[filled + 1]
    # A Doc has what lies between its first token and that of the next Doc. Windows of empty Docs, which have
    # no tokens, do no harm there.
    pieces = _split_at(encoded.pieces, token_pieces[starts[1:], 0])
    context = _split_at(encoded.context, token_window[starts[1:]])
    n_pieces = n_windows = 0
    for i, start, end, of_pieces, of_context in zip(
        filled, starts, ends, pieces, context, strict=True
    ):
        windows = window_ranges[n_windows : n_windows + len(of_context)] - start
        layout = DocLayout(
            pieces=np.arange(len(of_pieces)),
            context=np.arange(len(of_pieces), len(of_pieces) + len(of_context)),
            token_pieces=token_pieces[start:end] - n_pieces,
            token_window=token_window[start:end] - n_windows,
            windows=windows.clip(0, end - start),
        )
        outputs[i] = DocOutput(torch.cat([of_pieces, of_context]), layout, _unchanged)
        n_pieces += len(of_pieces)
        n_windows += len(of_context)
    return outputs


def _split_at(rows: Tensor, borders: IntArray) -> tuple[Tensor, ...]:
    """Split rows, as float32, before the given ones."""
    sizes = np.diff(np.concatenate([[0], borders, [len(rows)]])).tolist()
    return rows.float().split(sizes)


def _unchanged(gradient: Tensor) -> Tensor:
    return gradient


def pick_pieces(
    token: IntArray, ranges: IntArray, window: IntArray, n_tokens: int
) -> tuple[IntArray, IntArray, IntArray]:
    """Pick the pieces of tokens from an output in which windows overlap.

    token (int64 array, (n,)): Tokens that have pieces, ascending.
    ranges (int64 array, (n, 2)): Rows of their pieces in the output, end exclusive.
    window (int64 array, (n,)): The windows from which these are taken.
    n_tokens (int): Number of all tokens.
    RETURNS (tuple[int64 array, int64 array, int64 array]): Rows of the picked pieces, in the order of
        the tokens; range of each token in them, (n_tokens, 2); window of each token, (n_tokens,).
    """
    sizes = ranges[:, 1] - ranges[:, 0]
    begin = np.cumsum(sizes) - sizes
    rows = np.repeat(ranges[:, 0] - begin, sizes) + np.arange(int(sizes.sum()))
    # A piece that covers the end of one token and the start of the next is one row of both.
    is_new = np.diff(rows, prepend=-1) != 0
    index = np.cumsum(is_new) - 1
    picked = np.stack([index[begin], index[begin + sizes - 1] + 1], axis=1)
    return rows[is_new], *_fill_gaps(token, picked, window, n_tokens)


def _fill_gaps(
    token: IntArray, ranges: IntArray, window: IntArray, n_tokens: int
) -> tuple[IntArray, IntArray]:
    """Give every token a range of pieces and a window. A token without pieces gets an empty range at
    the end of the last token before it that has some, and its window.

    token (int64 array, (n,)): Tokens that have pieces, ascending.
    ranges (int64 array, (n, 2)), window (int64 array, (n,)): Their pieces and windows.
    n_tokens (int): All tokens.
    RETURNS (tuple[int64 array, int64 array]): Ranges (n_tokens, 2) and windows (n_tokens,).
    """
    if not len(token):
        return np.zeros((n_tokens, 2), dtype=np.int64), np.zeros(n_tokens, dtype=np.int64)
    # For each token, how many tokens up to and including it have pieces.
    n_before = np.searchsorted(token, np.arange(n_tokens), side="right")
    previous = np.maximum(n_before - 1, 0)
    token_pieces = np.repeat(ranges[previous, 1:], 2, axis=1)
    token_pieces[n_before == 0] = 0
    token_pieces[token] = ranges
    return token_pieces, window[previous]


def check_annotated(model: Model[list[Doc], EncodedDocs], docs: Sequence[Doc]) -> None:
    """Check that a shared transformer has written its output on Docs.

    model (Model): The encoder that listens to it.
    docs (Sequence[Doc]): The Docs. Those without tokens need no output.
    RAISES (ValueError): If a Doc has none.
    """
    for doc in docs:
        if len(doc) and (not Doc.has_extension("trf_data") or doc._.trf_data is None):
            raise ValueError(Errors.E216.format(upstream=model.attrs["upstream"]))
