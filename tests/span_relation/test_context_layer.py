"""The layer between encoder and heads reads each run of pieces by itself."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import spacy
import torch
from hypothesis import given
from hypothesis import strategies as st

from spacy_spanrel.encoding.shim import torch_shims
from spacy_spanrel.span_relation.context_layer import ContextLayer, run_lengths

from ..util import initialize, train
from .util import (
    ROWS,
    TEXTS,
    annotations_of,
    expected,
    make_examples,
    make_nlp,
    model_config,
    scores_of,
)

WIDTH = 7
KINDS = pytest.mark.parametrize("kind", ["lstm", "transformer"])


def make_layer(kind: str, dropout: float = 0.0) -> ContextLayer:
    torch.manual_seed(0)
    return ContextLayer(kind, WIDTH, dropout).eval()


@KINDS
@given(st.lists(st.integers(1, 40), max_size=12))
@torch.no_grad()
def test_runs_do_not_depend_on_each_other(kind: str, lengths: list[int]) -> None:
    layer = make_layer(kind)
    pieces = torch.randn(sum(lengths), WIDTH, generator=torch.Generator().manual_seed(1))
    together = layer(pieces, np.asarray(lengths, dtype=np.int64))
    assert together.shape == pieces.shape
    for alone, row in zip(pieces.split(lengths), together.split(lengths), strict=True):
        torch.testing.assert_close(
            layer(alone, np.asarray([len(alone)])), row, atol=1e-5, rtol=1e-5
        )


@KINDS
def test_training_differs_from_prediction_by_dropout_only(kind: str) -> None:
    pieces, lengths = torch.randn(30, WIDTH), np.asarray([11, 1, 18])
    for dropout, is_same in ((0.0, True), (0.5, False)):
        layer = make_layer(kind, dropout)
        with torch.no_grad():
            predicted = layer(pieces, lengths)
        assert torch.allclose(layer.train()(pieces, lengths), predicted, atol=1e-5) == is_same


@given(st.lists(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=6), max_size=4))
def test_runs_end_with_windows_and_texts(texts: list[list[tuple[int, bool]]]) -> None:
    """For each token its number of pieces, and whether it is the first one of another window."""
    counts = [n for text in texts for n, _ in text]
    ends = np.cumsum(counts).astype(np.int64)
    windows = np.cumsum([new for text in texts for _, new in text]).astype(np.int64)
    offsets = np.cumsum([0, *map(len, texts)])
    encoded = SimpleNamespace(
        pieces=torch.zeros(sum(counts), 1),
        token_pieces=torch.from_numpy(np.stack([ends - counts, ends], 1).reshape(-1, 2)),
        token_window=torch.from_numpy(windows),
    )
    text_of = np.repeat(np.arange(len(texts)), list(map(len, texts)))
    keys = np.repeat(np.stack([text_of, windows], axis=1), counts, axis=0)
    _, lengths = np.unique(keys, axis=0, return_counts=True)
    assert run_lengths(encoded, offsets).tolist() == lengths.tolist()


@KINDS
def test_trained_and_loaded_again(checkpoint: Path, kind: str) -> None:
    nlp, pipe = make_nlp(checkpoint, model=model_config(checkpoint, context_layer=kind))
    examples = make_examples(nlp)
    initialize(nlp, examples)
    before = [p.clone() for p in pipe.model.shims[0].module.context_layer.parameters()]
    train(nlp, examples, 60)
    docs = list(nlp.pipe(TEXTS))
    assert [annotations_of(doc) for doc in docs] == [expected(row) for row in ROWS]
    after = pipe.model.shims[0].module.context_layer.parameters()
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    again = spacy.util.load_model_from_config(nlp.config).from_bytes(nlp.to_bytes())
    assert list(map(scores_of, again.pipe(TEXTS))) == list(map(scores_of, docs))


@KINDS
@pytest.mark.parametrize("text", [TEXTS[0], ""])
def test_gradient_reaches_the_encoder(checkpoint: Path, kind: str, text: str) -> None:
    nlp, pipe = make_nlp(checkpoint, model=model_config(checkpoint, context_layer=kind))
    initialize(nlp, make_examples(nlp))
    docs = [nlp.make_doc(text), nlp.make_doc(text)]
    layer = pipe.model.shims[0].module.context_layer
    parameters = {
        f"{i}.{name}": p
        for i, shim in enumerate(torch_shims(pipe.model))
        for name, p in shim.module.named_parameters()
    }
    encoded, backprop = pipe.model.begin_update(docs)
    torch.manual_seed(0)
    weights, context = torch.randn_like(encoded.pieces), torch.zeros_like(encoded.context)
    backprop(weights, context)
    gradients = {name: p.grad for name, p in parameters.items()}
    for parameter in parameters.values():
        parameter.grad = None
    with torch.enable_grad():
        raw, _ = pipe.model.get_ref("encoder").begin_update(docs)
        new = layer(raw.pieces, run_lengths(raw, raw.token_offsets))
        torch.testing.assert_close(new, encoded.pieces)
        ((new * weights).sum() + raw.context.sum() * 0).backward()
    for name, parameter in parameters.items():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-5, rtol=1e-4)
