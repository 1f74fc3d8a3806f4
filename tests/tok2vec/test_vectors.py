"""The vectors of tokens and their gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc
from thinc.api import Model

from spacy_spanrel.encoding.tok2vec import HFTok2Vec, pool_pieces

from ..util import WORDS, tiny_encoder
from .util import WIDTH

NLP = spacy.blank("en")
TEXTS = [
    "John works in Paris.",
    "",
    "don't  stop\n\nné 😀 [SEP] </s>",
    " ",
    " ".join(WORDS),  # longer than a window
]
# Each pooling, from the definition.
POOLED = {
    "mean": lambda pieces: pieces.mean(0),
    "max": lambda pieces: pieces.max(0).values,
    "first": lambda pieces: pieces[0],
}


def make_model(
    checkpoint: Path, pooling: str, gradient: str = "sum", **encoder: Any
) -> Model[Any, Any]:
    model = HFTok2Vec(tiny_encoder(checkpoint, **encoder), pooling, gradient=gradient)  # type: ignore[arg-type]
    model.initialize()
    return model


@pytest.mark.parametrize("pooling", POOLED)
@given(data=st.data())
def test_pooling(pooling: str, data: st.DataObject) -> None:
    """Any ranges, among them empty ones and such that share pieces, give what the definition says,
    and the gradient that autograd gives for it."""
    n_pieces = data.draw(st.integers(0, 9))
    ends = st.tuples(st.integers(0, n_pieces), st.integers(0, n_pieces)).map(sorted)
    ranges = data.draw(st.lists(ends, min_size=1, max_size=8))
    # Values without ties, for which the gradient of a maximum is not unique.
    values = torch.randperm(4 * n_pieces, generator=torch.Generator().manual_seed(0)).float()
    leaves = [values.view(n_pieces, 4).clone().requires_grad_() for _ in range(2)]
    zeros = torch.zeros(4)
    expected = [POOLED[pooling](leaves[0][a:b]) if a < b else zeros for a, b in ranges]
    vectors = pool_pieces(leaves[1], torch.tensor(ranges), pooling)  # type: ignore[arg-type]
    torch.testing.assert_close(vectors, torch.stack(expected))
    weights = torch.arange(vectors.numel()).view_as(vectors)
    (torch.stack(expected) * weights).sum().add(0 * leaves[0].sum()).backward()
    (vectors * weights).sum().backward()
    torch.testing.assert_close(leaves[1].grad, leaves[0].grad)


@pytest.mark.parametrize("pooling", POOLED)
def test_vectors_are_those_of_the_pieces(checkpoint: Path, pooling: str) -> None:
    docs = [NLP.make_doc(text) for text in TEXTS]
    model = make_model(checkpoint, pooling, max_length=16)
    encoded = model.layers[0].predict(docs)
    outputs = model.predict(docs)
    assert [output.shape for output in outputs] == [(len(doc), WIDTH) for doc in docs]
    assert model.get_dim("nO") == WIDTH
    ranges = encoded.token_pieces.tolist()
    for vector, (start, end) in zip(np.concatenate(outputs), ranges, strict=True):
        pieces = encoded.pieces[start:end]
        expected = POOLED[pooling](pieces) if end > start else torch.zeros(WIDTH)
        np.testing.assert_allclose(vector, expected, atol=1e-6)


@settings(max_examples=15)
@given(texts=st.lists(st.text("Jo hn\n.é漢😀"), min_size=1, max_size=5))
def test_batches_change_nothing(bert_checkpoint: Path, texts: list[str]) -> None:
    model = _cached(bert_checkpoint)
    docs = [NLP.make_doc(text) for text in texts]
    for doc, output in zip(docs, model.predict(docs), strict=True):
        (alone,) = model.predict([doc])
        np.testing.assert_allclose(alone, output, atol=1e-5)
        assert output.shape == (len(doc), WIDTH)


_MODELS: dict[Path, Model[list[Doc], Any]] = {}


def _cached(checkpoint: Path) -> Model[list[Doc], Any]:
    if checkpoint not in _MODELS:
        _MODELS[checkpoint] = make_model(checkpoint, "mean", max_length=8)
    return _MODELS[checkpoint]


@pytest.mark.parametrize("pooling", POOLED)
def test_gradient_reaches_the_encoder(bert_checkpoint: Path, pooling: str) -> None:
    """The weights get the gradient that autograd gives for the pooled pieces."""
    docs = [NLP.make_doc(text) for text in TEXTS]
    model = make_model(bert_checkpoint, pooling, dropout=0.0, max_length=16)
    random = np.random.default_rng(0)
    outputs, backprop = model.begin_update(docs)
    gradients = [random.standard_normal(output.shape, dtype="float32") for output in outputs]
    assert backprop(gradients) == docs
    module = model.layers[0].shims[0].module
    sent = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    module.zero_grad(set_to_none=True)
    encoder = model.layers[0]
    encoded, _ = encoder(docs, True)
    for row, (start, end) in zip(
        np.concatenate(gradients), encoded.token_pieces.tolist(), strict=True
    ):
        if end > start:
            vector = POOLED[pooling](encoded.pieces[start:end])
            (vector * torch.from_numpy(row)).sum().backward(retain_graph=True)
    expected = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    assert sent.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(sent[name], gradient, atol=1e-4, rtol=1e-4, msg=name)


def test_gradient_is_a_mean_over_tokens(bert_checkpoint: Path) -> None:
    docs = [NLP.make_doc(text) for text in TEXTS]
    sent = []
    for gradient in ("sum", "mean"):
        model = make_model(bert_checkpoint, "mean", gradient, dropout=0.0)
        outputs, backprop = model.begin_update(docs)
        backprop([np.ones_like(output) for output in outputs])
        parameters = model.layers[0].shims[0].module.named_parameters()
        sent.append({name: p.grad for name, p in parameters if p.grad is not None})
    for name, summed in sent[0].items():
        expected = summed / sum(map(len, docs))
        torch.testing.assert_close(sent[1][name], expected, atol=1e-5, rtol=1e-4, msg=name)


def test_wrong_width(bert_checkpoint: Path) -> None:
    model = HFTok2Vec(tiny_encoder(bert_checkpoint), width=48)
    with pytest.raises(ValueError, match=r"E_SR225.*width = 48.*32"):
        model.initialize()


def test_float16_is_not_trained(bert_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(bert_checkpoint, "mean")
    shim = type(model.layers[0].shims[0])
    monkeypatch.setattr(shim, "dtype", torch.float16)
    with pytest.raises(ValueError, match="E_SR226"):
        model.begin_update([NLP.make_doc("John")])


@pytest.mark.parametrize("pooling", POOLED)
def test_windows_of_tokens(bert_checkpoint: Path, pooling: str) -> None:
    """A token has the pieces of all windows that hold it, each read as a text; so have its gradients."""
    docs = [NLP.make_doc(text) for text in TEXTS]
    encoder = tiny_encoder(bert_checkpoint, dropout=0.0)
    model = HFTok2Vec(encoder, pooling, window=5, stride=3, gradient="sum")  # type: ignore[arg-type]
    model.initialize()
    rows: list[list[torch.Tensor]] = [[] for doc in docs for _ in doc]
    first = 0
    for doc in docs:
        for start in range(0, max(1, len(doc) - 2), 3):
            encoded, _ = encoder([doc[start : start + 5].as_doc()], True)
            for i, (begin, end) in enumerate(encoded.token_pieces.tolist()):
                rows[first + start + i].append(encoded.pieces[begin:end])
        first += len(doc)
    pieces = [torch.cat(of_token) for of_token in rows]
    assert any(len(of_token) > 1 for of_token in rows)
    expected = [POOLED[pooling](of_token) for of_token in pieces if len(of_token)]
    filled = [i for i, of_token in enumerate(pieces) if len(of_token)]
    outputs, backprop = model.begin_update(docs)
    vectors = np.concatenate(outputs)
    np.testing.assert_allclose(vectors[filled], torch.stack(expected).detach(), atol=1e-5)
    assert not np.delete(vectors, filled, axis=0).any()

    # One gradient for the vectors, and one for the pieces that other listeners read.
    random = np.random.default_rng(0)
    gradients = [random.standard_normal(output.shape, dtype="float32") for output in outputs]
    read = outputs.encoded  # type: ignore[attr-defined]
    (read.pieces * 2).sum().backward()
    ranges = read.token_pieces.tolist()
    picked = [
        # The window that gives the token the most context is one of those that hold it.
        next(o for o in of_token if torch.allclose(o, read.pieces[begin:end], atol=1e-5))
        for of_token, (begin, end) in zip(rows, ranges, strict=True)
        if end > begin
    ]
    backprop(gradients)
    module = encoder.shims[0].module  # type: ignore[attr-defined]
    sent = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    module.zero_grad(set_to_none=True)
    loss = sum((2 * part).sum() for part in picked)
    for i, vector in zip(filled, expected, strict=True):
        loss = loss + (vector * torch.from_numpy(np.concatenate(gradients)[i])).sum()
    loss.backward()
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(sent[name], parameter.grad, atol=1e-4, rtol=1e-4, msg=name)


@pytest.mark.parametrize(("window", "stride"), [(5, None), (None, 3), (5, 6), (0, 0)])
def test_wrong_windows(bert_checkpoint: Path, window: int | None, stride: int | None) -> None:
    with pytest.raises(ValueError, match="E_SR235"):
        HFTok2Vec(tiny_encoder(bert_checkpoint), window=window, stride=stride)
