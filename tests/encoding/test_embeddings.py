"""Large embeddings: the gradient is that of torch's own, and its memory is kept."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spacy_spanrel.encoding import embeddings
from spacy_spanrel.encoding.checkpoint import HFModule, resize_embeddings
from spacy_spanrel.encoding.embeddings import LargeEmbedding, replace_large_embeddings
from spacy_spanrel.encoding.shim import get_module

from ..util import make_doc, tiny_encoder

N_ROWS, WIDTH = 11, 3
IDS = st.lists(st.lists(st.integers(0, N_ROWS - 1), min_size=2, max_size=2), min_size=1, max_size=6)


def pair(padding_idx=None):
    """Return an embedding of torch's and a large one with the same weights."""
    torch.manual_seed(0)
    plain = nn.Embedding(N_ROWS, WIDTH, padding_idx=padding_idx)
    return plain, LargeEmbedding(copy.deepcopy(plain))


@settings(max_examples=50, deadline=None)
@given(steps=st.lists(st.lists(IDS, max_size=3), min_size=1, max_size=4), padded=st.booleans())
def test_gradient_equals_that_of_torch(steps, padded):
    plain, large = pair(padding_idx=0 if padded else None)
    for passes in steps:
        for ids in passes:  # gradients of several passes add up
            for module in (plain, large):
                torch.manual_seed(len(ids))
                vectors = module(torch.tensor(ids))
                vectors.backward(torch.randn_like(vectors))
        if not passes:
            assert large.weight.grad is None
        else:
            torch.testing.assert_close(large.weight.grad, plain.weight.grad)
        plain.zero_grad()
        large.zero_grad()


def test_memory_is_kept_from_step_to_step():
    _, large = pair()
    places = set()
    for _ in range(3):
        large(torch.tensor([1, 2])).sum().backward()
        places.add(large.weight.grad.data_ptr())
        large.weight.grad += 1  # whatever an optimizer leaves there
        large.zero_grad(set_to_none=True)
    large(torch.tensor([1, 2])).sum().backward()
    assert large.weight.grad.sum() == 2 * WIDTH
    assert len(places) == 1


def test_copies_have_gradients_of_their_own():
    _, large = pair()
    large(torch.tensor([1])).sum().backward()
    large.zero_grad(set_to_none=True)
    for other in (copy.deepcopy(large), pickle.loads(pickle.dumps(large))):
        assert isinstance(other, LargeEmbedding)
        other(torch.tensor([2])).sum().backward()
        large(torch.tensor([1])).sum().backward()
        assert other.weight.grad[:, 0].nonzero().tolist() == [[2]]
        assert large.weight.grad[:, 0].nonzero().tolist() == [[1]]
        large.zero_grad(set_to_none=True)


def test_without_gradient_nothing_is_kept():
    plain, large = pair()
    with torch.no_grad():
        assert torch.equal(large(torch.tensor([3])), plain(torch.tensor([3])))
    large.requires_grad_(False)
    assert not large(torch.tensor([3])).requires_grad
    assert large._gradient is None


def test_large_embeddings_of_torch_are_replaced():
    class Scaled(nn.Embedding):
        pass

    shared = nn.Embedding(5000, 2)
    network = nn.ModuleDict(
        {
            "small": nn.Embedding(10, 2),
            "sparse": nn.Embedding(5000, 2, sparse=True),
            "scaled": Scaled(5000, 2),
            "below": nn.ModuleDict({"a": shared}),
            "b": shared,
        }
    )
    before = {name: weight.data_ptr() for name, weight in network.state_dict().items()}
    replace_large_embeddings(network)
    large = network["b"]
    assert isinstance(large, LargeEmbedding)
    assert network["below"]["a"] is large
    assert [type(network[name]) for name in ("small", "sparse")] == [nn.Embedding, nn.Embedding]
    assert type(network["scaled"]) is Scaled
    assert before == {name: weight.data_ptr() for name, weight in network.state_dict().items()}
    assert large.num_embeddings == 5000


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_may_change_their_dtype(dtype):
    _, large = pair()
    large(torch.tensor([1])).sum().backward()
    large.zero_grad()
    large.to(dtype)
    large(torch.tensor([1])).sum().backward()
    assert large.weight.grad.dtype == dtype
    assert large.weight.grad.sum() == WIDTH


@pytest.mark.parametrize("n_new", [0, 2])
def test_encoder_has_the_gradients_of_torch(monkeypatch, blank, bert_checkpoint, n_new):
    docs = [make_doc(blank.vocab, words) for words in (["Ada", "works", "."], ["Paris"])]
    gradients = []
    for many in (1, 1000):
        monkeypatch.setattr(embeddings, "_MANY_ROWS", many)
        encoder = tiny_encoder(bert_checkpoint)
        module = get_module(encoder, HFModule)
        if n_new:
            resize_embeddings(module, n_new)
        embedding = module.transformer.get_input_embeddings()
        assert isinstance(embedding, LargeEmbedding) == (many == 1)
        module.eval()  # no dropout
        for _ in range(2):
            encoded, backprop = encoder.begin_update(docs)
            backprop(torch.ones_like(encoded.pieces), torch.ones_like(encoded.context))
        gradients.append(embedding.weight.grad)
    assert gradients[0].abs().sum() > 0
    torch.testing.assert_close(*gradients)
