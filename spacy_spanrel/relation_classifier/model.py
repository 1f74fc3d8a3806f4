"""The thinc model of `relation_classifier`: from Docs and pairs to logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal, Optional, Union

import numpy as np
import torch
from spacy import registry
from spacy.tokens import Doc
from thinc.api import Model
from torch import Tensor
from torch.nn import functional as F

from ..arrays import BoolArray, IntArray
from ..encoding.alignment import token_char_ranges, token_piece_ranges
from ..encoding.checkpoint import build_hf_module, head_names, resize_embeddings
from ..encoding.pieces import piece_casing
from ..encoding.rows import load_network, row_length, run_rows
from ..encoding.shim import Precision, Runtime, TorchShim, get_module, get_shim
from ..encoding.step import HEAD
from ..errors import Errors
from ..pairing import sentence_of_tokens
from .described import LabelTexts, MarkedText
from .markers import MarkedRow, Marker, Mode, Range, assign_markers
from .network import DescribedHead, MarkerHead, PairNetwork
from .pairs import TypedPair

# Number of texts of described labels whose vectors are kept, also when the labels have changed.
_MOST_TEXTS = 4096


@dataclass(frozen=True)
class Scheme:
    """The form in which pairs are shown to the network, settled at initialization.

    mode (str): The input mode.
    n_labels (int): Number of labels.
    markers (list[str]): Names of the markers that the mode needs.
    vocabulary (dict[str, str]): Vocabulary entries of the markers for which they are known.
    pretrained (bool): Whether to use the classifier of the checkpoint, not a new one.
    """

    mode: Mode
    n_labels: int
    markers: list[str] = field(default_factory=list)
    vocabulary: dict[str, str] = field(default_factory=dict)
    pretrained: bool = False


@dataclass(frozen=True)
class PairInput:
    """A batch for the model.

    docs (list[Doc]): The Docs.
    pairs (list[list[TypedPair]]): The pairs of each Doc.
    context (str): The text that is read for a pair: "sentence" (from the first to the last sentence
        that the pair touches) or "doc".
    labels (LabelTexts | None): The texts of the labels, if these are described.
    """

    docs: list[Doc]
    pairs: list[list[TypedPair]]
    context: Literal["sentence", "doc"]
    labels: LabelTexts | None = None


@dataclass(frozen=True)
class PairOutput:
    """The output of the model.

    logits (Tensor): On the model's device, float32. *Shape:* ``(n_rows, n_labels)``
    rows (int64 array, (n_rows,)): The pair of each row, numbered through the batch. Pairs whose
        arguments are longer than a row have no row.
    cut (bool array, (n_rows,)): Whether the row leaves out some of the text that is read for its pair.
    """

    logits: Tensor
    rows: IntArray
    cut: BoolArray


Backprop = Callable[[Tensor], None]
PairModel = Model[PairInput, PairOutput]


def build_pair_network(cfg: dict[str, Any], files: dict[str, bytes]) -> PairNetwork:
    """Make the network with fresh weights from a shim's settings and files."""
    encoder = build_hf_module(cfg["encoder"], files)
    encoder.pieces.hide_from_text(cfg["markers"].values())
    if cfg["head"] is None:
        return PairNetwork(encoder)
    # Only heads of fixed labels have a number of labels.
    kind = MarkerHead if "n_labels" in cfg["head"] else DescribedHead
    return PairNetwork(encoder, kind(**cfg["head"]))


@registry.architectures("spacy-spanrel.PairClassifier.v1")
def PairClassifier(
    name: str,
    tokenizer: Optional[str] = None,  # noqa: UP045 (spaCy resolves these annotations at run time)
    max_length: Union[int, Literal["auto"]] = 128,  # noqa: UP007
    batch_pieces: Union[int, Literal["auto"]] = "auto",  # noqa: UP007
    dropout: Optional[float] = None,  # noqa: UP045
    attention_dropout: Optional[float] = None,  # noqa: UP045
    labels: Literal["fixed", "described"] = "fixed",
    head_dropout: float = 0.1,
    casing: bool = False,
    layers: Optional[int] = None,  # noqa: UP045
    frozen_layers: int = 0,
    precision: Precision = "auto",
    device: str = "auto",
    runtime: Runtime = "torch",
) -> PairModel:
    """Make a classifier of pairs in marked sentences: a Hugging Face sequence classifier or, with the
    mode `typed_markers` or described labels, an encoder with a head on the markers.

    name (str): A folder, a name on the hub, or an installed package with a model. Needed for
        initialization only: a saved pipeline holds the network.
    tokenizer (str | None): Name of the tokenizer, if the checkpoint has none.
    max_length (int | "auto"): Largest number of pieces in a row, special tokens and markers included;
        "auto" is the limit of the network.
    batch_pieces (int | "auto"): Number of pieces in a batch, padding included.
    dropout (float | None): Dropout inside the network in training; None keeps that of the checkpoint.
        Like name, tokenizer and casing it is settled at initialization.
    attention_dropout (float | None): Dropout of the attention weights; None for `dropout`. See
        `load_checkpoint`.
    labels (str): "fixed": each label has weights of its own, and all labels are known when training
        begins. "described": a label is the text that describes it (setting `descriptions` of the
        component), a pair is compared with all of them, and labels may be added after training. Settled
        at initialization.
    head_dropout (float): Dropout of the head on the markers.
    casing (bool): Tell the encoder the letter case of each piece, by an embedding that is learned
        in training. For encoders of lower-cased text.
    layers (int | None): Number of the lowest layers of the network, which alone are kept: a smaller
        and faster network, from which a teacher may win back some of the accuracy. None for all.
    frozen_layers (int): Number of the lowest layers that are not trained. Training computes their
        output for a text once and keeps it (up to 512 MiB), and pays for the other layers alone.
    precision (str): "auto", "float32", "bfloat16" or "float16" (autocast; weights stay float32).
    device (str): "auto", "cpu", "cuda", "cuda:1" ...
    runtime (str): "torch", or "onnxruntime" for prediction by ONNX Runtime on the CPU, in float32
        whatever `precision` says. A saved pipeline is converted by `spacy spanrel optimize`, which can
        turn it into 8-bit integers, too, or when it is loaded with this setting; training needs torch.
    RETURNS (Model[PairInput, PairOutput]): The model.
    """
    attrs = dict(locals())
    computes = {key: attrs.pop(key) for key in ("precision", "device")}
    shim = TorchShim(build_pair_network, **computes)
    return Model("pair_classifier", forward, dims={"nO": None}, shims=[shim], attrs=attrs)


def initialize(model: PairModel, scheme: Scheme) -> None:
    """Load the checkpoint, fit it to a scheme, and put the network into the model.

    model (Model): A model made by `PairClassifier`.
    scheme (Scheme): The form in which pairs are shown.
    RAISES (OSError): If there is no such checkpoint.
    RAISES (ValueError): If it does not fit the scheme or the settings.
    """
    attrs = model.attrs
    described = attrs["labels"] == "described"
    has_head = described or scheme.mode == "typed_markers"
    module, cfg, files = load_network(
        model,
        "AutoModel" if has_head else "AutoModelForSequenceClassification",
        n_labels=None if has_head else scheme.n_labels,
        fresh_head=not has_head and not scheme.pretrained,
    )
    try:
        table = assign_markers(scheme.markers, module.pieces.vocabulary, scheme.vocabulary)
    except KeyError as error:
        raise ValueError(Errors.E704.format(entry=error.args[0], name=attrs["name"])) from error
    module.pieces.hide_from_text(index for index in table.values() if index is not None)
    missing = [name for name, index in table.items() if index is None]
    if missing:
        first, changed = resize_embeddings(module, len(missing))
        table |= {name: first + i for i, name in enumerate(missing)}
        files |= changed
    head, head_cfg = None, None
    heads = [f"encoder.transformer.{name}." for name in head_names(module.transformer)]
    if has_head:
        head_cfg = {"width": module.width, "dropout": attrs["head_dropout"]}
        if not described:
            head_cfg["n_labels"] = scheme.n_labels
        head = DescribedHead(**head_cfg) if described else MarkerHead(**head_cfg)
        heads = ["head."]
    settings = {
        "encoder": cfg,
        "head": head_cfg,
        "mode": scheme.mode,
        "markers": table,
        HEAD: heads,
    }
    get_shim(model).set_module(PairNetwork(module, head), settings, files)
    model.set_dim("nO", scheme.n_labels, force=True)
    marker = make_marker(model)
    if marker.least_length > marker.max_length:
        raise ValueError(
            Errors.E708.format(max_length=marker.max_length, least=marker.least_length)
        )


def make_marker(model: PairModel) -> Marker:
    """Return the `Marker` that makes the rows of a model. model (Model): An initialized model."""
    encoder = get_module(model, PairNetwork).encoder
    cfg = get_shim(model).cfg
    return Marker(
        cfg["mode"],
        cfg["markers"],
        encoder.pieces.prefix,
        encoder.pieces.suffix,
        row_length(model, encoder),
    )


def forward(model: PairModel, X: PairInput, is_train: bool) -> tuple[PairOutput, Backprop]:
    """Mark the pairs, and classify the rows in batches sorted by length.

    model (Model): An initialized model.
    X (PairInput): Docs and pairs.
    is_train (bool): Whether to run in training mode and to record gradients.
    RETURNS (tuple[PairOutput, Callable]): The output, and the function that takes the gradient of the
        logits and accumulates the gradients of the weights.
    """
    head = get_module(model, PairNetwork).head
    rows = marked_rows(model, X)
    n_labels = model.get_dim("nO") if X.labels is None else len(X.labels.texts)
    if not rows.ids:
        logits = torch.zeros((0, n_labels), device=get_shim(model).device)
    elif isinstance(head, DescribedHead):
        assert X.labels is not None
        with torch.set_grad_enabled(is_train):
            vectors = run_marked_rows(model, rows, is_train)
            space = label_vectors(model, X.labels, is_train)
            logits = head.logits(vectors, *space, X.labels.negative)
    else:
        logits = run_marked_rows(model, rows, is_train)

    def backprop(d_logits: Tensor) -> None:
        if logits.requires_grad:
            torch.autograd.backward(logits, d_logits)

    return PairOutput(logits, rows.pairs, rows.cut), backprop


def run_marked_rows(model: PairModel, rows: MarkedRows, is_train: bool) -> Tensor:
    """Run rows through the network.

    model (Model): An initialized model.
    rows (MarkedRows): At least one row.
    is_train (bool): As in `forward`.
    RETURNS (Tensor): As `PairNetwork` does.
    """
    encoder = get_module(model, PairNetwork).encoder
    columns = {"ids": (rows.ids, encoder.pieces.pad_id)}
    if encoder.reads_casing:
        columns["casing"] = (rows.casing, 0)
    return run_rows(model, columns, is_train, {"positions": rows.positions})


def label_vectors(model: PairModel, labels: LabelTexts, is_train: bool) -> tuple[Tensor, Tensor]:
    """Return the vectors of labels: the means of the vectors of their texts.

    The vectors of texts are kept until the weights change, so prediction reads each text once. Those of
    labels that are gone are forgotten when there are too many.

    model (Model): An initialized model with a `DescribedHead`.
    labels (LabelTexts): The texts.
    is_train (bool): As in `forward`.
    RETURNS (tuple[Tensor, Tensor]): Vectors of length 1 of the labels, (n_labels, width), zeros where a
        label has no text; and the same of the inverses, (n_inverses, width).
    """
    network = get_module(model, PairNetwork)
    assert isinstance(network.head, DescribedHead)
    device = get_shim(model).device
    kept = {} if is_train else network.head.kept_vectors(network.encoder, device)
    groups = [*labels.texts, *labels.inverses]
    of_labels, vectors = kept.get(None, (None, None))
    if of_labels != labels:
        texts = dict.fromkeys(chain.from_iterable(groups))
        if len(kept) > _MOST_TEXTS:
            for text in kept.keys() - texts.keys():
                del kept[text]
        new = [text for text in texts if text not in kept]
        if new:
            rows = text_rows(model, new)
            kept |= zip(new, run_marked_rows(model, rows, is_train), strict=True)
        zero = torch.zeros(network.head.width, device=device)
        means = [
            torch.stack([kept[text] for text in texts]).mean(dim=0) if texts else zero
            for texts in groups
        ]
        vectors = F.normalize(torch.stack([*means, zero])[:-1], dim=-1)
        kept[None] = labels, vectors
    return vectors[: len(labels.texts)], vectors[len(labels.texts) :]


@dataclass(frozen=True)
class MarkedRows:
    """Rows for the network.

    ids (list[int64 array]): Piece ids of each row.
    casing (list[int64 array]): Letter case of the same pieces; empty if the network does not use it.
    positions (int64 array, (n_rows, 2)): Columns of the first markers of head and tail.
    pairs (int64 array, (n_rows,)): The pair of each row, numbered through the batch.
    cut (bool array, (n_rows,)): Whether the row leaves out some of its context.
    """

    ids: list[IntArray]
    casing: list[IntArray]
    positions: IntArray
    pairs: IntArray
    cut: BoolArray


def marked_rows(model: PairModel, X: PairInput) -> MarkedRows:
    """Split each Doc into pieces once, and splice the markers of each of its pairs into them.

    model (Model): An initialized model.
    X (PairInput): Docs and pairs.
    RETURNS (MarkedRows): The rows. Pairs whose arguments are longer than a row have no row.
    """
    encoder = get_module(model, PairNetwork).encoder
    marker = make_marker(model)
    ids: list[IntArray] = []
    casing: list[IntArray] = []
    positions: list[tuple[int, int]] = []
    kept: list[int] = []
    cut: list[bool] = []
    with_pairs = [(doc, pairs) for doc, pairs in zip(X.docs, X.pairs, strict=True) if pairs]
    texts = encoder.pieces([doc.text for doc, _ in with_pairs]) if with_pairs else []
    n_pairs = 0
    for (doc, pairs), text in zip(with_pairs, texts, strict=True):
        tokens = token_piece_ranges(token_char_ranges(doc), text.chars)
        letters = piece_casing(doc.text, text.chars) if encoder.reads_casing else None
        sentence = sentence_of_tokens(doc) if X.context == "sentence" else None
        for i, pair in enumerate(pairs):
            ranges = pair_ranges(tokens, len(text.ids), sentence, pair)
            row = marker.mark(*ranges, pair.head_type, pair.tail_type)
            if row is None:
                continue
            kept.append(n_pairs + i)
            cut.append(row.cut)
            positions.append((row.head, row.tail))
            ids.append(row.ids(text.ids))
            if letters is not None:
                casing.append(row.casing(letters))
        n_pairs += len(pairs)
    return MarkedRows(
        ids,
        casing,
        np.asarray(positions, dtype=np.int64).reshape(-1, 2),
        np.asarray(kept, dtype=np.int64),
        np.asarray(cut, dtype=bool),
    )


def text_rows(model: PairModel, texts: Sequence[MarkedText]) -> MarkedRows:
    """Mark head and tail of descriptions and examples.

    model (Model): An initialized model.
    texts (Sequence[MarkedText]): The texts.
    RETURNS (MarkedRows): A row for each text.
    RAISES (ValueError): If the arguments of a text are longer than a row.
    """
    encoder = get_module(model, PairNetwork).encoder
    marker = make_marker(model)
    rows: list[MarkedRow] = []
    ids: list[IntArray] = []
    casing: list[IntArray] = []
    for marked, text in zip(texts, encoder.pieces([marked.text for marked in texts]), strict=True):
        tokens = token_piece_ranges(np.asarray([marked.head, marked.tail]), text.chars)
        head, tail = (_pieces(tokens, i, i + 1) for i in (0, 1))
        row = marker.mark(Range(0, len(text.ids)), head, tail, "", "")
        if row is None:
            raise ValueError(Errors.E713.format(text=marked.text, limit=marker.max_length))
        rows.append(row)
        ids.append(row.ids(text.ids))
        if encoder.reads_casing:
            casing.append(row.casing(piece_casing(marked.text, text.chars)))
    return MarkedRows(
        ids,
        casing,
        np.asarray([(row.head, row.tail) for row in rows], dtype=np.int64).reshape(-1, 2),
        np.arange(len(rows)),
        np.asarray([row.cut for row in rows], dtype=bool),
    )


def pair_ranges(
    tokens: IntArray, n_pieces: int, sentence: IntArray | None, pair: TypedPair
) -> tuple[Range, Range, Range]:
    """Return the ranges of pieces of a pair: its context and its arguments.

    tokens (int64 array, (n_tokens, 2)): The pieces of each token.
    n_pieces (int): Number of pieces of the text.
    sentence (int64 array, (n_tokens,) | None): The sentence of each token; None to read the whole text.
    pair (TypedPair): The pair.
    RETURNS (tuple[Range, Range, Range]): The context, the head and the tail.
    """
    head, tail = (_pieces(tokens, *span) for span in (pair.head, pair.tail))
    if sentence is None or not sentence[-1]:
        return Range(0, n_pieces), head, tail
    first = sentence[min(pair.head[0], pair.tail[0])]
    last = sentence[max(pair.head[1], pair.tail[1]) - 1]
    start, end = np.searchsorted(sentence, [first, last + 1]).tolist()
    context = _pieces(tokens, start, end)
    # A piece that lies across the border of two sentences belongs to both.
    start = min(context.start, head.start, tail.start)
    return Range(start, max(context.end, head.end, tail.end)), head, tail


def _pieces(tokens: IntArray, start: int, end: int) -> Range:
    """Return the pieces of a token range, from those of its first token to those of its last."""
    return Range(int(tokens[start, 0]), int(tokens[end - 1, 1]))
