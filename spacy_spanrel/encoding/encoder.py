"""The output of all encoders, and the encoder that runs a Hugging Face network itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Optional, Union

import numpy as np
import torch
from spacy import registry
from spacy.attrs import SPACY
from spacy.tokens import Doc
from thinc.api import Model
from torch import Tensor

from ..arrays import IntArray
from .alignment import pieces_of_tokens, token_char_ranges, token_piece_ranges
from .batching import chunks_by_size
from .checkpoint import HFModule, build_hf_module
from .network import PieceNetwork
from .pieces import PieceTokenizer, piece_casing
from .rows import check_row_length, load_network, row_length, run_batches
from .shim import Precision, Runtime, TorchShim, get_module, get_shim
from .transfer import to_device
from .windows import check_window_settings, owned_ranges, window_tokens, windows_around


@dataclass
class EncodedDocs:
    """The output of an encoder for a batch of Docs.

    Nothing is padded: the pieces, tokens and windows of all Docs follow one another.

    pieces (Tensor): Vector of each subword piece. *Shape:* ``(n_pieces, width)``
    context (Tensor): [CLS] vector of each window. *Shape:* ``(n_windows, width)``
    token_pieces (Tensor): Range of the rows of `pieces` for each token, end exclusive, int64, on the
        CPU; start == end for a token without pieces. *Shape:* ``(n_tokens, 2)``
    token_window (Tensor): Row of `context` for each token, int64, on the CPU: the window from which
        its vectors are taken. *Shape:* ``(n_tokens,)``
    token_offsets (int64 array, (n_docs + 1,)): First token of each Doc, and the end of the last one.
    windows (int64 array, (n_windows, 2) | None): Range of the tokens of which each window holds all
        pieces, end exclusive; neighbouring windows overlap. None if the encoder does not know them.
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
        """Token range of each window, end exclusive, (n_windows, 2): `windows`, or else the tokens
        whose vectors are taken from the window."""
        if self.windows is not None:
            return self.windows
        token_window = self.token_window.cpu().numpy()
        ranges = np.zeros((len(self.context), 2), dtype=np.int64)
        ranges[:, 0] = self.n_tokens
        np.minimum.at(ranges[:, 0], token_window, np.arange(len(token_window)))
        np.maximum.at(ranges[:, 1], token_window, np.arange(1, 1 + len(token_window)))
        return ranges

    @property
    def window_counts(self) -> IntArray:
        """Number of windows from which the vectors of each Doc are taken, (n_docs,)."""
        _, first = np.unique(self.token_window.cpu().numpy(), return_index=True)
        docs = np.searchsorted(self.token_offsets, first, side="right") - 1
        return np.bincount(docs, minlength=len(self.token_offsets) - 1)


class SplitDocs(list[Doc]):
    """A list of Docs that are split into texts (sentences) for the encoder to read one by one.

    `HFEncoder` reads each text as if it were a Doc, or in a row with its context, as PURE does (Zhong
    and Chen 2021, "A Frustratingly Easy Approach for Entity and Relation Extraction"). To other
    encoders this is an ordinary list of Docs: a shared transformer, for one, has read the Docs
    already.

    docs (Sequence[Doc]): The Docs.
    starts (Sequence[int64 array]): First token of each text in each Doc: ascending from 0. A Doc
        without tokens is one text.
    context (int): Number of tokens of the same Doc to read before and after each text.

    with_spaces: Whether a token gets the pieces of the space behind it, too.
    """

    with_spaces = False

    def __init__(self, docs: Sequence[Doc], starts: Sequence[IntArray], context: int = 0):
        super().__init__(docs)
        self.starts = list(starts)
        self.context = context

    def parts(self, i: int) -> list[tuple[int, int]]:
        """Return the token ranges of the texts in a Doc, end exclusive.

        i (int): Index of the Doc.
        RETURNS (list[tuple[int, int]]): The ranges, in order.
        """
        return list(pairwise([*self.starts[i].tolist(), len(self[i])]))

    @property
    def offsets(self) -> IntArray:
        """First token of each text in the batch, and the end of the last text, (n_texts + 1,)."""
        doc_offsets = np.cumsum([0, *map(len, self)])
        starts = [
            doc_starts + offset
            for doc_starts, offset in zip(self.starts, doc_offsets[:-1], strict=True)
        ]
        return np.concatenate([*starts, doc_offsets[-1:]]).astype(np.int64)


# Number of pieces, special tokens included, that are encoded before the vectors that nothing needs are
# dropped: with a long context these are most of them.
_CHUNK_PIECES = 65536

# Name of the models of `HFEncoder`.
HF_ENCODER = "hf_encoder"

# Takes the gradients of `pieces` and `context` back to the weights of the encoder.
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
    layers: Optional[int] = None,  # noqa: UP045
    frozen_layers: int = 0,
    precision: Precision = "auto",
    device: str = "auto",
    runtime: Runtime = "torch",
) -> Model[list[Doc], EncodedDocs]:
    """Create an encoder with a Hugging Face network that belongs to the component alone.

    Texts of any length are read completely, in overlapping windows if need be. The settings name,
    tokenizer, dropout, attention_dropout, casing and layers take effect at initialization; afterwards they
    are part of the saved network, which needs no other files.

    name (str): A folder, a name of the Hugging Face hub, or an installed package that carries a model.
    tokenizer (str | None): Name of another checkpoint that has the tokenizer, if this one has none.
    max_length (int | "auto"): Pieces in a window, special tokens included; "auto" for the limit of
        the network.
    window_overlap (int): Pieces that neighbouring windows share (at most a quarter of a window).
    batch_pieces (int | "auto"): Largest number of padded pieces in a batch.
    dropout (float | None): Dropout inside the network in training; None for that of the checkpoint.
    attention_dropout (float | None): Dropout of the attention weights; None for `dropout`. On a CPU,
        0.0 can halve the time of training.
    casing (bool): Tell the network the letter case of each piece, by an embedding that is learned in
        training. For networks of lower-cased text, if names matter.
    layers (int | None): Number of the lowest layers of the network, which alone are kept: a smaller
        and faster network, from which a teacher may win back some of the accuracy. None for all.
    frozen_layers (int): Number of the lowest layers that are not trained. Training computes their
        output for a text once and keeps it (up to 512 MiB), and pays for the other layers alone.
    precision (str): "auto", "float32", "bfloat16" or "float16" (autocast; weights stay float32).
    device (str): "auto", "cpu", "cuda", "cuda:1" ...
    runtime (str): "torch", or "onnxruntime" for prediction by ONNX Runtime on the CPU, in float32
        whatever `precision` says. A saved pipeline is converted by `spacy spanrel optimize`, which can
        turn it into 8-bit integers, too, or when it is loaded with this setting; training needs torch.
    RETURNS (Model[list[Doc], EncodedDocs]): The encoder.
    """
    attrs = dict(locals())
    computes = {key: attrs.pop(key) for key in ("precision", "device")}
    shim = TorchShim(build_hf_module, **computes)
    return Model(HF_ENCODER, forward, init=_init, dims={"nO": None}, shims=[shim], attrs=attrs)


def _init(model: Model[list[Doc], EncodedDocs], X: Any = None, Y: Any = None) -> None:
    set_encoder(model, *load_network(model))


def set_encoder(
    model: Model[list[Doc], EncodedDocs],
    module: HFModule,
    cfg: dict[str, Any],
    files: dict[str, bytes],
) -> None:
    """Put a loaded network into the model of an encoder.

    model (Model): A model of `HFEncoder`.
    module (HFModule): The network.
    cfg (dict[str, Any]), files (dict[str, bytes]): Settings and files of the network, from
        `load_checkpoint`.
    RAISES (ValueError): If the settings of the model do not fit the network.
    """
    check_row_length(model, module)
    window_room(model, module)
    get_shim(model).set_module(module, cfg, files)
    if not model.has_dim("nO"):
        model.set_dim("nO", module.width)


def window_room(model: Model[list[Doc], EncodedDocs], module: PieceNetwork) -> tuple[int, int]:
    """Return how many pieces of text a window holds, and how many it shares with the next one.

    model (Model): A model of `HFEncoder`, with the settings of windows.
    module (PieceNetwork): The network.
    RETURNS (tuple[int, int]): Pieces of text in a full window, and pieces in an overlap.
    RAISES (ValueError): If no text fits a window, or only the overlap does.
    """
    length = row_length(model, module)
    n_special = module.pieces.n_special
    overlap = min(model.attrs["window_overlap"], max(0, (length - n_special) // 4))
    return check_window_settings(length, n_special, overlap), overlap


@dataclass
class _Layout:
    """Rows for the network from a batch of Docs, and the way back from its output to their tokens.

    rows: Piece ids of each window, special tokens included.
    casing: Letter case of the same pieces; empty unless the network has an embedding for it.
    piece_window, piece_column: The window from which the vector of each piece is taken, in ascending
        order, and the position of the piece in the row of that window.
    token_pieces, token_window, token_offsets, windows: As in `EncodedDocs`.
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
    """A text for the tokenizer, and its parts that the encoder reads one by one.

    text: The text.
    token_chars: Character range of each token in the text.
    parts: Token ranges (sentences, say) that follow each other and cover the text.
    context: Number of tokens to read before and after each part.
    """

    text: str
    token_chars: IntArray
    parts: Sequence[tuple[int, int]]
    context: int = 0


def _texts(docs: list[Doc]) -> Iterator[_Text]:
    """Yield the texts of Docs, in order.

    A sentence without context is a text of its own: its pieces do not depend on the text around it.
    With context, a Doc is split into pieces once, and its sentences are ranges of them.
    """
    for i, doc in enumerate(docs):
        text, token_chars = doc.text, token_char_ranges(doc)
        if not isinstance(docs, SplitDocs) or not len(doc):
            yield _Text(text, token_chars, [(0, len(doc))])
            continue
        parts = docs.parts(i)
        if docs.context:
            yield _Text(text[: int(token_chars[-1, 1])], token_chars, parts, docs.context)
            continue
        ends = token_chars[:, 1].copy()
        if docs.with_spaces:
            token_chars[:, 1] += doc.to_array([SPACY]).astype(np.int64).reshape(-1)
        for start, end in parts:
            first, last = int(token_chars[start, 0]), int(ends[end - 1])
            yield _Text(text[first:last], token_chars[start:end] - first, [(0, end - start)])


@dataclass
class _Reading:
    """Tokens that the encoder reads together, and the windows in which it reads them.

    start, end: The tokens; those of several parts if all of them have the same window.
    first, last: Their pieces.
    window_starts, stop: The first piece of each window, and the end of the last one. Only a single
        window may reach beyond the pieces of the tokens.
    """

    start: int
    end: int
    first: int
    last: int
    window_starts: IntArray
    stop: int


def _readings(
    text: _Text, token_pieces: IntArray, n_pieces: int, capacity: int, overlap: int
) -> list[_Reading]:
    """Place the windows of a text; `token_pieces` comes from `token_piece_ranges`."""

    def pieces_between(start: int, end: int) -> tuple[int, int]:
        # Pieces before the first and after the last token of the text are read as well.
        first = int(token_pieces[start, 0]) if start else 0
        return first, int(token_pieces[end - 1, 1]) if end < len(token_pieces) else n_pieces

    readings: list[_Reading] = []
    for start, end in text.parts:
        first, last = pieces_between(start, end)
        outer = pieces_between(
            max(0, start - text.context), min(len(token_pieces), end + text.context)
        )
        starts, stop = windows_around((first, last), outer, capacity, overlap)
        before = readings[-1] if readings else None
        if before and before.stop == stop and np.array_equal(before.window_starts, starts):
            # Short Docs: the same row serves several sentences.
            before.end, before.last = end, last
        else:
            readings.append(_Reading(start, end, first, last, starts, stop))
    return readings


def _layout(
    docs: list[Doc], tokenizer: PieceTokenizer, capacity: int, overlap: int, cased: bool
) -> _Layout:
    prefix = np.asarray(tokenizer.prefix, dtype=np.int64)
    suffix = np.asarray(tokenizer.suffix, dtype=np.int64)
    rows: list[IntArray] = []
    casing: list[IntArray] = []
    # One array for each reading; they are joined at the end.
    piece_window, piece_column, token_pieces, token_window, windows = [], [], [], [], []
    n_pieces = n_tokens = 0
    texts = list(_texts(docs))
    for text, pieces in zip(texts, tokenizer([text.text for text in texts]), strict=True):
        cases = piece_casing(text.text, pieces.chars) if cased else None
        pieces_of_text = token_piece_ranges(text.token_chars, pieces.chars)
        for reading in _readings(text, pieces_of_text, len(pieces.ids), capacity, overlap):
            # From here on pieces are numbered from the first one of the reading.
            n = reading.last - reading.first
            starts = reading.window_starts - reading.first
            owned = owned_ranges(starts, n, capacity)
            counts = owned[:, 1] - owned[:, 0]
            window = np.repeat(np.arange(len(rows), len(rows) + len(starts)), counts)
            column = np.arange(n) - np.repeat(starts, counts) + len(prefix)
            for start in reading.window_starts:
                in_window = slice(start, min(start + capacity, reading.stop))
                row = np.concatenate([prefix, pieces.ids[in_window], suffix])
                if not len(row):
                    # An empty text without special tokens around it still needs a row.
                    row = np.asarray([tokenizer.pad_id])
                rows.append(row)
                if cases is not None:
                    row_casing = np.zeros_like(row)
                    window_cases = cases[in_window]
                    row_casing[len(prefix) : len(prefix) + len(window_cases)] = window_cases
                    casing.append(row_casing)
            ranges = pieces_of_text[reading.start : reading.end] - reading.first
            first = np.minimum(ranges[:, 0], max(0, n - 1))
            token_window.append(window[first] if n else np.full(len(ranges), len(rows) - 1))
            windows.append(window_tokens(starts, capacity, ranges) + n_tokens)
            n_tokens += len(ranges)
            kept = pieces_of_tokens(ranges, n)
            if not kept.all():
                # The network reads pieces that belong to no token (those of white space, say), but no
                # span needs their vectors.
                window, column = window[kept], column[kept]
                ranges = np.concatenate([[0], np.cumsum(kept)])[ranges]
            piece_window.append(window)
            piece_column.append(column)
            token_pieces.append(ranges + n_pieces)
            n_pieces += len(window)
    token_counts = [
        sum(end - start for start, end in docs.parts(i))
        if isinstance(docs, SplitDocs)
        else len(doc)
        for i, doc in enumerate(docs)
    ]
    return _Layout(
        rows,
        casing,
        np.concatenate(piece_window),
        np.concatenate(piece_column),
        np.concatenate(token_pieces),
        np.concatenate(token_window),
        np.concatenate([[0], np.cumsum(token_counts)]).astype(np.int64),
        np.concatenate(windows),
    )


def forward(
    model: Model[list[Doc], EncodedDocs], docs: list[Doc], is_train: bool
) -> tuple[EncodedDocs, EncoderBackprop]:
    """Encode Docs: tokenize them, run their windows through the network, and collect the vectors.

    model (Model): An initialized model of `HFEncoder`.
    docs (list[Doc]): The Docs, or `SplitDocs`.
    is_train (bool): Whether to run the network in training mode and to record gradients.
    RETURNS (tuple[EncodedDocs, EncoderBackprop]): The vectors, and the function that takes their
        gradients back.
    """
    module = get_module(model, PieceNetwork)
    capacity, overlap = window_room(model, module)
    layout = _layout(docs, module.pieces, capacity, overlap, module.reads_casing)
    chunks = [
        _run_windows(model, layout, windows, is_train)
        for windows in chunks_by_size([len(row) for row in layout.rows], _CHUNK_PIECES)
    ]
    with torch.set_grad_enabled(is_train):
        pieces, context = (
            chunks[0] if len(chunks) == 1 else map(torch.cat, zip(*chunks, strict=True))
        )
    encoded = EncodedDocs(
        pieces=pieces,
        context=context,
        token_pieces=torch.from_numpy(layout.token_pieces),
        token_window=torch.from_numpy(layout.token_window),
        token_offsets=layout.token_offsets,
        windows=layout.windows,
    )

    def backprop(d_pieces: Tensor, d_context: Tensor) -> None:
        torch.autograd.backward([encoded.pieces, encoded.context], [d_pieces, d_context])

    return encoded, backprop


def _run_windows(
    model: Model[list[Doc], EncodedDocs], layout: _Layout, windows: slice, is_train: bool
) -> tuple[Tensor, Tensor]:
    """Run some windows of a layout through the network, and return the vectors of the pieces that are
    taken from them, and their [CLS] vectors."""
    module = get_module(model, PieceNetwork)
    device = get_shim(model).device
    columns = {"ids": (layout.rows[windows], module.pieces.pad_id)}
    if module.reads_casing:
        columns["casing"] = (layout.casing[windows], 0)
    lengths = np.asarray([len(row) for row in layout.rows[windows]])
    # The outputs of all batches are put end to end, with one row for each (padded) piece. A window
    # begins there at row first_rows[window].
    first_rows = np.zeros(len(lengths), dtype=np.int64)
    outputs: list[Tensor] = []
    n_rows = 0
    for batch, hidden in run_batches(model, columns, is_train):
        count, longest, width = hidden.shape
        outputs.append(hidden.reshape(-1, width))
        first_rows[batch] = n_rows + np.arange(count) * longest
        n_rows += count * longest
    chunk = slice(*np.searchsorted(layout.piece_window, [windows.start, windows.stop]))
    piece_rows = first_rows[layout.piece_window[chunk] - windows.start] + layout.piece_column[chunk]
    position = module.pieces.cls_position
    cls_rows = first_rows + (position if position >= 0 else lengths + position)
    with torch.set_grad_enabled(is_train):
        vectors = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        return (
            vectors.index_select(0, to_device(torch.from_numpy(piece_rows), device)),
            vectors.index_select(0, to_device(torch.from_numpy(cls_rows), device)),
        )
