"""Encoders: thinc models from Docs to `EncodedDocs`, whatever transformer is behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Optional, Union

import numpy as np
import torch
from spacy import registry
from spacy.tokens import Doc
from thinc.api import Model
from torch import Tensor

from ..arrays import IntArray
from .alignment import pieces_of_tokens, token_char_ranges, token_piece_ranges
from .checkpoint import HFModule, build_hf_module
from .pieces import PieceTokenizer, piece_casing
from .rows import check_row_length, load_network, row_length, run_batches
from .shim import Precision, TorchShim, get_module, get_shim
from .transfer import to_device
from .windows import check_window_settings, owned_ranges, window_starts, window_tokens


@dataclass
class EncodedDocs:
    """What an encoder returns for a batch of Docs. Nothing in it is padded: the pieces (and tokens,
    and windows) of all Docs stand one after the other.

    pieces (Tensor): Vector of each word piece. *Shape:* ``(n_pieces, width)``
    context (Tensor): Summary vector ([CLS]) of each window. *Shape:* ``(n_windows, width)``
    token_pieces (Tensor): Rows of `pieces` of each token, int64, end exclusive; start == end for a
        token without pieces. Always on the CPU, where it is made and used. *Shape:* ``(n_tokens, 2)``
    token_window (Tensor): Row of `context` of each token, int64, on the CPU. *Shape:*
        ``(n_tokens,)``
    token_offsets (int64 array, (n_docs + 1,)): First token of each Doc.
    windows (int64 array, (n_windows, 2) | None): The tokens that each window holds as a whole, end
        exclusive; those of neighbouring windows overlap. None where an encoder does not say.
    """

    pieces: Tensor
    context: Tensor
    token_pieces: Tensor
    token_window: Tensor
    token_offsets: IntArray
    windows: IntArray | None = None

    @property
    def n_tokens(self) -> int:
        return int(self.token_offsets[-1])

    @property
    def window_ranges(self) -> IntArray:
        """The tokens that each window holds, end exclusive, (n_windows, 2): `windows` or, where that
        is not known, those that are taken from it."""
        if self.windows is not None:
            return self.windows
        owner = self.token_window.cpu().numpy()
        ranges = np.zeros((len(self.context), 2), dtype=np.int64)
        ranges[:, 0] = self.n_tokens
        np.minimum.at(ranges[:, 0], owner, np.arange(len(owner)))
        np.maximum.at(ranges[:, 1], owner, np.arange(1, 1 + len(owner)))
        return ranges

    @property
    def window_counts(self) -> IntArray:
        """From how many windows the tokens of each Doc are taken, (n_docs,)."""
        _, first = np.unique(self.token_window.cpu().numpy(), return_index=True)
        docs = np.searchsorted(self.token_offsets, first, side="right") - 1
        return np.bincount(docs, minlength=len(self.token_offsets) - 1)


class SplitDocs(list[Doc]):
    """Docs of which each part (sentence) is to be read by itself, as if it were a Doc.

    An encoder that decides itself what is read together does so. To the others (a listener reads
    what a shared transformer has read already) it is a list of Docs like any other.

    docs (Sequence[Doc]): The Docs.
    starts (Sequence[int64 array]): The first token of each part of each Doc: ascending, the first
        one 0, also in a Doc without tokens.
    """

    def __init__(self, docs: Sequence[Doc], starts: Sequence[IntArray]):
        super().__init__(docs)
        self.starts = list(starts)

    @property
    def offsets(self) -> IntArray:
        """First token of each part, and the end of the last one, counted through the batch,
        (n_parts + 1,)."""
        ends = np.cumsum([0, *map(len, self)])
        return np.concatenate(
            [*(own + end for own, end in zip(self.starts, ends, strict=False)), ends[-1:]]
        ).astype(np.int64)


# Gradients of (pieces, context) to None: own weights collect them.
EncoderBackprop = Callable[[Tensor, Tensor], None]


@registry.architectures("spacy-spanrel.HFEncoder.v1")
def HFEncoder(
    name: str,
    tokenizer: Optional[str] = None,  # noqa: UP045 (spaCy resolves these annotations at run time)
    max_length: Union[int, Literal["auto"]] = "auto",  # noqa: UP007
    window_overlap: int = 64,
    batch_pieces: Union[int, Literal["auto"]] = "auto",  # noqa: UP007
    dropout: Optional[float] = None,  # noqa: UP045
    attention_dropout: Optional[float] = None,  # noqa: UP045
    casing: bool = False,
    precision: Precision = "auto",
    device: str = "auto",
) -> Model[list[Doc], EncodedDocs]:
    """A Hugging Face encoder with weights of its own.

    name (str): A folder, a hub name, or an installed package that carries a model. Needed for
        initialization only: a saved pipeline holds everything.
    tokenizer (str | None): Name of the tokenizer, where the checkpoint has none.
    max_length (int | "auto"): Pieces in a window, special tokens included; "auto" is what the
        encoder takes. Longer texts are read in overlapping windows, never cut.
    window_overlap (int): Pieces that neighbouring windows share (at most a quarter of a window).
    batch_pieces (int | "auto"): Padded pieces in a batch.
    dropout (float | None): Dropout inside the encoder in training; None keeps the checkpoint's. As
        name, tokenizer and casing it is settled at initialization.
    attention_dropout (float | None): Dropout of the attention weights; None for `dropout`. See
        `load_checkpoint`.
    casing (bool): Tell the encoder the letter case of each piece, by an embedding that is learned
        in training. For encoders of lower-cased text, where names matter.
    precision (str): "auto", "float32", "bfloat16" or "float16" (autocast; weights stay float32).
    device (str): "auto", "cpu", "cuda", "cuda:1" ...
    RETURNS (Model[list[Doc], EncodedDocs]): The encoder.
    """
    shim = TorchShim(build_hf_module, device=device, precision=precision)
    return Model(
        "hf_encoder",
        forward,
        init=_init,
        dims={"nO": None},
        shims=[shim],
        attrs={
            "name": name,
            "tokenizer": tokenizer,
            "max_length": max_length,
            "window_overlap": window_overlap,
            "batch_pieces": batch_pieces,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "casing": casing,
        },
    )


def _init(model: Model[list[Doc], EncodedDocs], X: Any = None, Y: Any = None) -> None:
    set_encoder(model, *load_network(model))


def set_encoder(
    model: Model[list[Doc], EncodedDocs],
    module: HFModule,
    cfg: dict[str, Any],
    files: dict[str, bytes],
) -> None:
    """Put an encoder into a model made by `HFEncoder`, and check the settings against it."""
    check_row_length(model, module)
    window_room(model, module)
    get_shim(model).set_module(module, cfg, files)
    if not model.has_dim("nO"):
        model.set_dim("nO", module.width)


def window_room(model: Model[list[Doc], EncodedDocs], module: HFModule) -> tuple[int, int]:
    """Say how much of a text fits a window.

    model (Model): Made by `HFEncoder`, for its settings.
    module (HFModule): The network.
    RETURNS (tuple[int, int]): Pieces of text in a full window, and those that windows share.
    RAISES (ValueError): If windows could not move on.
    """
    length = row_length(model, module)
    n_special = module.pieces.n_special
    overlap = min(model.attrs["window_overlap"], max(0, (length - n_special) // 4))
    return check_window_settings(length, n_special, overlap), overlap


@dataclass
class _Layout:
    """Where every piece of a batch of Docs goes: rows to encode and back.

    rows: Piece ids of each window, special tokens included.
    casing: Letter case of the same pieces.
    piece_window, piece_column: Window that owns each piece, and its position there.
    """

    rows: list[IntArray]
    casing: list[IntArray]
    piece_window: IntArray
    piece_column: IntArray
    token_pieces: IntArray
    token_window: IntArray
    token_offsets: IntArray
    windows: IntArray


@dataclass(frozen=True)
class _Text:
    """What is read by itself: a Doc, or a sentence of one.

    text: It.
    tokens: Character range of each token in it.
    """

    text: str
    tokens: IntArray


def _texts(docs: list[Doc]) -> Iterator[_Text]:
    """Yield what is read by itself, in order."""
    for i, doc in enumerate(docs):
        text, tokens = doc.text, token_char_ranges(doc)
        if not isinstance(docs, SplitDocs) or not len(doc):
            yield _Text(text, tokens)
            continue
        for start, end in pairwise([*docs.starts[i].tolist(), len(doc)]):
            first, last = int(tokens[start, 0]), int(tokens[end - 1, 1])
            yield _Text(text[first:last], tokens[start:end] - first)


def _layout(
    docs: list[Doc], pieces: PieceTokenizer, capacity: int, overlap: int, cased: bool
) -> _Layout:
    prefix = np.asarray(pieces.prefix, dtype=np.int64)
    suffix = np.asarray(pieces.suffix, dtype=np.int64)
    rows: list[IntArray] = []
    casing: list[IntArray] = []
    windows, columns, token_pieces, token_windows, held = [], [], [], [], []
    n_pieces = n_tokens = 0
    parts = list(_texts(docs))
    for part, text in zip(parts, pieces([part.text for part in parts]), strict=True):
        n = len(text.ids)
        starts = window_starts(n, capacity, overlap)
        owned = owned_ranges(starts, n, capacity)
        counts = owned[:, 1] - owned[:, 0]
        window = np.repeat(np.arange(len(rows), len(rows) + len(starts)), counts)
        windows.append(window)
        columns.append(np.arange(n) - np.repeat(starts, counts) + len(prefix))
        letters = piece_casing(part.text, text.chars) if cased else None
        for start in starts:
            row = np.concatenate([prefix, text.ids[start : start + capacity], suffix])
            if not len(row):
                # An empty text without special tokens around it still needs a row.
                row = np.asarray([pieces.pad_id])
            rows.append(row)
            if letters is not None:
                row_casing = np.zeros_like(row)
                shown = letters[start : start + capacity]
                row_casing[len(prefix) : len(prefix) + len(shown)] = shown
                casing.append(row_casing)
        ranges = token_piece_ranges(part.tokens, text.chars)
        first = np.minimum(ranges[:, 0], max(0, n - 1))
        token_windows.append(window[first] if n else np.full(len(ranges), len(rows) - 1))
        held.append(window_tokens(starts, capacity, ranges) + n_tokens)
        n_tokens += len(ranges)
        kept = pieces_of_tokens(ranges, n)
        if not kept.all():
            # Pieces of no token (of white space, say) are read by the encoder, but are in no span.
            windows[-1], columns[-1] = windows[-1][kept], columns[-1][kept]
            ranges = np.concatenate([[0], np.cumsum(kept)])[ranges]
        token_pieces.append(ranges + n_pieces)
        n_pieces += len(windows[-1])
    return _Layout(
        rows,
        casing,
        np.concatenate(windows),
        np.concatenate(columns),
        np.concatenate(token_pieces),
        np.concatenate(token_windows),
        np.concatenate([[0], np.cumsum([len(doc) for doc in docs])]).astype(np.int64),
        np.concatenate(held),
    )


def forward(
    model: Model[list[Doc], EncodedDocs], docs: list[Doc], is_train: bool
) -> tuple[EncodedDocs, EncoderBackprop]:
    """Encode Docs: pieces, windows, batches sorted by length, and back into order."""
    module = get_module(model, HFModule)
    device = get_shim(model).device
    capacity, overlap = window_room(model, module)
    layout = _layout(docs, module.pieces, capacity, overlap, module.casing is not None)
    columns = {"ids": (layout.rows, module.pieces.pad_id)}
    if module.casing is not None:
        columns["casing"] = (layout.casing, 0)
    # Row of each window's first piece in the batches' outputs, flattened and put end to end.
    window_base = np.zeros(len(layout.rows), dtype=np.int64)
    outputs: list[Tensor] = []
    base = 0
    for batch, hidden in run_batches(model, columns, is_train):
        count, longest, width = hidden.shape
        outputs.append(hidden.reshape(-1, width))
        window_base[batch] = base + np.arange(count) * longest
        base += count * longest
    position = module.pieces.cls_position
    lengths = np.asarray([len(row) for row in layout.rows])
    context_rows = window_base + (position if position >= 0 else lengths + position)
    piece_rows = window_base[layout.piece_window] + layout.piece_column
    with torch.set_grad_enabled(is_train):
        flat = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        encoded = EncodedDocs(
            pieces=flat.index_select(0, to_device(torch.from_numpy(piece_rows), device)),
            context=flat.index_select(0, to_device(torch.from_numpy(context_rows), device)),
            token_pieces=torch.from_numpy(layout.token_pieces),
            token_window=torch.from_numpy(layout.token_window),
            token_offsets=layout.token_offsets,
            windows=layout.windows,
        )

    def backprop(d_pieces: Tensor, d_context: Tensor) -> None:
        torch.autograd.backward([encoded.pieces, encoded.context], [d_pieces, d_context])

    return encoded, backprop
