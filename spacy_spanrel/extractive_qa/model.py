"""The thinc model of `extractive_qa`: Docs and questions in, rows and logits out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Optional, Union

import numpy as np
import torch
from spacy import registry
from spacy.tokens import Doc
from thinc.api import Model
from torch import Tensor

from ..arrays import IntArray
from ..encoding.checkpoint import build_hf_module, head_names
from ..encoding.pieces import TextPieces, piece_casing
from ..encoding.rows import load_network, run_rows
from ..encoding.shim import Precision, Runtime, TorchShim, get_module, get_shim
from ..encoding.step import HEAD
from .features import WindowRow, check_window_settings, make_rows
from .network import SpanNetwork


@dataclass(frozen=True)
class QAInput:
    """Docs and the questions about them.

    docs (Sequence[Doc]): The Docs.
    questions (Sequence[Sequence[str]]): The questions about each Doc.
    """

    docs: Sequence[Doc]
    questions: Sequence[Sequence[str]]


@dataclass(frozen=True)
class QARows:
    """The rows of a batch. Questions are numbered through the batch.

    rows (list[WindowRow]): The rows, by Doc, question and window.
    question (int64 array, (n_rows,)): The question of each row.
    texts (list[TextPieces]): The pieces of each Doc.
    cut (int64 array, (n_cut,)): The questions that were longer than `max_question_length`.
    """

    rows: list[WindowRow]
    question: IntArray
    texts: list[TextPieces]
    cut: IntArray


@dataclass(frozen=True)
class QAOutput:
    """The rows of a batch and their logits.

    rows (QARows): The rows.
    logits (Tensor): Logits of each piece as the first and as the last of the answer, float32, on the
        device of the model; -inf after the end of a row. *Shape:* ``(n_rows, longest, 2)``
    """

    rows: QARows
    logits: Tensor


Backprop = Callable[[Tensor], None]
QAModel = Model[QAInput, QAOutput]


def build_span_network(cfg: dict[str, Any], files: dict[str, bytes]) -> SpanNetwork:
    """Make the network, with new weights, from the settings and files of a shim."""
    return SpanNetwork(build_hf_module(cfg["encoder"], files))


@registry.architectures("spacy-spanrel.SpanQA.v1")
def SpanQA(
    name: str,
    tokenizer: Optional[str] = None,  # noqa: UP045 (spaCy resolves these annotations at run time)
    max_length: int = 384,
    doc_stride: int = 128,
    max_question_length: int = 64,
    batch_pieces: Union[int, Literal["auto"]] = "auto",  # noqa: UP007
    dropout: Optional[float] = None,  # noqa: UP045
    attention_dropout: Optional[float] = None,  # noqa: UP045
    casing: bool = False,
    layers: Optional[int] = None,  # noqa: UP045
    frozen_layers: int = 0,
    precision: Precision = "auto",
    device: str = "auto",
    runtime: Runtime = "torch",
) -> QAModel:
    """Any question-answering network of Hugging Face, over windows of the text.

    The settings name, tokenizer, dropout, attention_dropout, casing and layers apply at initialization; a
    saved pipeline holds the network and the tokenizer.

    name (str): A folder, a model name of the hub, or an installed package that carries a model.
    tokenizer (str | None): Name of the tokenizer, if the checkpoint has none.
    max_length (int): Largest number of pieces in a row: question, window and special tokens.
    doc_stride (int): Pieces from the start of a window to the start of the next one, as in
        `run_squad`. (The `stride` of the tokenizers library is the overlap of two windows.)
    max_question_length (int): Length of the longest question, in pieces; the rest is cut, with a
        warning.
    batch_pieces (int | "auto"): Padded pieces in a batch.
    dropout (float | None): Dropout inside the network in training; None for that of the checkpoint.
    attention_dropout (float | None): Dropout of the attention weights; None for `dropout`. See
        `load_checkpoint`.
    casing (bool): Give the letter case of each piece to the encoder, as an embedding that is learned in
        training. For encoders of lower-cased text.
    layers (int | None): Number of the lowest layers of the network, which alone are kept: a smaller
        and faster network, from which a teacher may win back some of the accuracy. None for all.
    frozen_layers (int): Number of the lowest layers that are not trained. Training computes their
        output for a text once and keeps it (up to 512 MiB), and pays for the other layers alone.
    precision (str): "auto", "float32", "bfloat16" or "float16" (autocast; weights stay float32).
    device (str): "auto", "cpu", "cuda", "cuda:1" ...
    runtime (str): "torch", or "onnxruntime" for prediction by ONNX Runtime on the CPU, in float32
        whatever `precision` says. A saved pipeline is converted by `spacy spanrel optimize`, which can
        turn it into 8-bit integers, too, or when it is loaded with this setting; training needs torch.
    RETURNS (Model[QAInput, QAOutput]): The model.
    RAISES (ValueError): If no window would read some part of a text.
    """
    attrs = dict(locals())
    check_window_settings(max_length, doc_stride, max_question_length)
    computes = {key: attrs.pop(key) for key in ("precision", "device")}
    shim = TorchShim(build_span_network, **computes)
    return Model("span_qa", forward, shims=[shim], attrs=attrs)


def initialize(model: QAModel, pretrained: bool) -> None:
    """Load the checkpoint of a model.

    model (Model): Made by `SpanQA`.
    pretrained (bool): Whether to use the question-answering head of the checkpoint, not a new one.
    RAISES (OSError, ValueError): If there is no such checkpoint, or if it does not fit.
    """
    module, cfg, files = load_network(
        model, "AutoModelForQuestionAnswering", fresh_head=not pretrained
    )
    heads = [f"encoder.transformer.{name}." for name in head_names(module.transformer)]
    get_shim(model).set_module(SpanNetwork(module), {"encoder": cfg, HEAD: heads}, files)


def make_qa_rows(model: QAModel, X: QAInput) -> QARows:
    """Split each Doc into pieces once, and make the rows of all questions about it.

    model (Model): An initialized model.
    X (QAInput): Docs and questions.
    RETURNS (QARows): The rows.
    """
    encoder = get_module(model, SpanNetwork).encoder
    attrs, template = model.attrs, encoder.pieces.pair
    limit = attrs["max_question_length"]
    doc_texts = [doc.text for doc in X.docs]
    texts = encoder.pieces(doc_texts) if doc_texts else []
    asked = [question.strip() for questions in X.questions for question in questions]
    pieces = encoder.pieces(asked) if asked else []
    rows: list[WindowRow] = []
    numbers: list[int] = []
    number = 0
    for doc_text, text, questions in zip(doc_texts, texts, X.questions, strict=True):
        letters = piece_casing(doc_text, text.chars) if encoder.reads_casing else None
        for _ in questions:
            casing = None
            if letters is not None:
                casing = (piece_casing(asked[number], pieces[number].chars)[:limit], letters)
            rows += make_rows(
                pieces[number].ids[:limit],
                text.ids,
                template,
                attrs["max_length"],
                attrs["doc_stride"],
                casing,
            )
            numbers += [number] * (len(rows) - len(numbers))
            number += 1
    return QARows(
        rows,
        np.asarray(numbers, dtype=np.int64),
        texts,
        np.flatnonzero([len(question.ids) > limit for question in pieces]),
    )


def forward(model: QAModel, X: QAInput, is_train: bool) -> tuple[QAOutput, Backprop]:
    """Make the rows of a batch, and run them through the network."""
    encoder = get_module(model, SpanNetwork).encoder
    rows = make_qa_rows(model, X)
    columns = {
        "ids": ([row.ids for row in rows.rows], encoder.pieces.pad_id),
        "types": ([row.types for row in rows.rows], 0),
    }
    if encoder.reads_casing:
        columns["casing"] = ([row.casing for row in rows.rows if row.casing is not None], 0)
    if rows.rows:
        logits = run_rows(model, columns, is_train, fill=float("-inf"))
    else:
        logits = torch.zeros((0, 0, 2), device=get_shim(model).device)

    def backprop(d_logits: Tensor) -> None:
        if logits.requires_grad:
            torch.autograd.backward(logits, d_logits)

    return QAOutput(rows, logits), backprop
