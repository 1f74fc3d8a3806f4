"""The thinc model of `extractive_qa`: Docs and questions to logits."""

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
from ..encoding.shim import Precision, TorchShim, get_module, get_shim
from ..encoding.step import HEAD
from .features import Row, check_window_settings, make_rows
from .network import SpanNetwork


@dataclass(frozen=True)
class QAInput:
    """A batch for the model.

    docs (Sequence[Doc]): The Docs.
    questions (Sequence[Sequence[str]]): The questions about each.
    """

    docs: Sequence[Doc]
    questions: Sequence[Sequence[str]]


@dataclass(frozen=True)
class QARows:
    """The rows of a batch, and where they come from.

    rows (list[Row]): All rows: Docs, their questions and their windows in order.
    doc, question (int64 arrays, (n_rows,)): The Doc of each row, and the question, counted through
        the batch.
    texts (list[TextPieces]): The pieces of each Doc.
    cut (int64 array): Questions that were longer than `max_question_length`, counted through the
        batch.
    """

    rows: list[Row]
    doc: IntArray
    question: IntArray
    texts: list[TextPieces]
    cut: IntArray


@dataclass(frozen=True)
class QAOutput:
    """What the model returns.

    rows (QARows): What was read.
    logits (Tensor): Of each piece as first and last of the answer, float32, on the model's device;
        -inf beyond a row's end. *Shape:* ``(n_rows, longest, 2)``
    """

    rows: QARows
    logits: Tensor


Backprop = Callable[[Tensor], None]
QAModel = Model[QAInput, QAOutput]


def build_span_network(cfg: dict[str, Any], files: dict[str, bytes]) -> SpanNetwork:
    """Make the network with fresh weights from a shim's settings and files."""
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
    precision: Precision = "auto",
    device: str = "auto",
) -> QAModel:
    """Start and end of the answer in windows of the text: any Hugging Face question-answering
    network.

    name (str): A folder, a hub name, or an installed package that carries a model. Needed for
        initialization only: a saved pipeline holds everything.
    tokenizer (str | None): Name of the tokenizer, where the checkpoint has none.
    max_length (int): Pieces in a row: question, window and special tokens.
    doc_stride (int): Pieces from the start of a window to the start of the next one, as in
        `run_squad`. (The `stride` of the tokenizers library is what two windows share.)
    max_question_length (int): Longest question in pieces; the rest is cut, with a warning.
    batch_pieces (int | "auto"): Padded pieces in a batch.
    dropout (float | None): Dropout inside the network in training; None keeps the checkpoint's. As
        name, tokenizer and casing it is settled at initialization.
    attention_dropout (float | None): Dropout of the attention weights; None for `dropout`. See
        `load_checkpoint`.
    casing (bool): Tell the encoder the letter case of each piece, by an embedding that is learned
        in training. For encoders of lower-cased text.
    precision (str): "auto", "float32", "bfloat16" or "float16" (autocast; weights stay float32).
    device (str): "auto", "cpu", "cuda", "cuda:1" ...
    RETURNS (Model[QAInput, QAOutput]): The model.
    RAISES (ValueError): If some of a text would be read by no window.
    """
    check_window_settings(max_length, doc_stride, max_question_length)
    return Model(
        "span_qa",
        forward,
        init=_init,
        shims=[TorchShim(build_span_network, device=device, precision=precision)],
        attrs={
            "name": name,
            "tokenizer": tokenizer,
            "max_length": max_length,
            "doc_stride": doc_stride,
            "max_question_length": max_question_length,
            "batch_pieces": batch_pieces,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "casing": casing,
            "pretrained": True,
        },
    )


def _init(model: QAModel, X: Any = None, Y: Any = None) -> None:
    module, cfg, files = load_network(
        model, "AutoModelForQuestionAnswering", fresh_head=not model.attrs["pretrained"]
    )
    network = SpanNetwork(module)
    heads = [f"encoder.transformer.{name}." for name in head_names(module.transformer)]
    get_shim(model).set_module(network, {"encoder": cfg, HEAD: heads}, files)


def make_qa_rows(model: QAModel, X: QAInput) -> QARows:
    """Word-piece each Doc once, and make the rows of all of its questions.

    model (Model): An initialized model.
    X (QAInput): Docs and questions.
    RETURNS (QARows): The rows.
    """
    encoder = get_module(model, SpanNetwork).encoder
    attrs, template = model.attrs, encoder.pieces.pair
    limit = attrs["max_question_length"]
    texts = encoder.pieces([doc.text for doc in X.docs]) if X.docs else []
    asked = [question.strip() for part in X.questions for question in part]
    pieces = encoder.pieces(asked) if asked else []
    rows: list[Row] = []
    docs: list[int] = []
    numbers: list[int] = []
    number = 0
    for i, (doc, text, part) in enumerate(zip(X.docs, texts, X.questions, strict=True)):
        letters = piece_casing(doc.text, text.chars) if encoder.casing is not None else None
        for _ in part:
            question = pieces[number].ids[:limit]
            casing = None
            if letters is not None:
                casing = (piece_casing(asked[number], pieces[number].chars)[:limit], letters)
            made = make_rows(
                question, text.ids, template, attrs["max_length"], attrs["doc_stride"], casing
            )
            rows += made
            docs += [i] * len(made)
            numbers += [number] * len(made)
            number += 1
    return QARows(
        rows,
        np.asarray(docs, dtype=np.int64),
        np.asarray(numbers, dtype=np.int64),
        texts,
        np.flatnonzero([len(found.ids) > limit for found in pieces]),
    )


def forward(model: QAModel, X: QAInput, is_train: bool) -> tuple[QAOutput, Backprop]:
    """Make the rows, and run them in batches sorted by length."""
    encoder = get_module(model, SpanNetwork).encoder
    found = make_qa_rows(model, X)
    columns = {
        "ids": ([row.ids for row in found.rows], encoder.pieces.pad_id),
        "types": ([row.types for row in found.rows], 0),
    }
    if encoder.casing is not None:
        columns["casing"] = ([row.casing for row in found.rows if row.casing is not None], 0)
    if found.rows:
        logits = run_rows(model, columns, is_train, fill=float("-inf"))
    else:
        logits = torch.zeros((0, 0, 2), device=get_shim(model).device)

    def backprop(d_logits: Tensor) -> None:
        if logits.requires_grad:
            torch.autograd.backward(logits, d_logits)

    return QAOutput(found, logits), backprop
