"""Training in bfloat16 on the CPU computes attention in float32, where it is faster."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from spacy.vocab import Vocab
from torch import Tensor
from torch.nn import functional as F

from spacy_spanrel.encoding.encoder import forward
from spacy_spanrel.encoding.rows import _Float32Attention
from spacy_spanrel.encoding.shim import get_shim

from ..util import make_doc, tiny_encoder


@pytest.mark.parametrize("mask", [None, torch.tensor([[True, False]]), torch.tensor([[0.0, -9.0]])])
def test_attention_is_that_of_float32_rounded(mask: Tensor | None) -> None:
    vectors = torch.randn(3, 2, 4, 2, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    expected = F.scaled_dot_product_attention(*vectors.float(), attn_mask=mask)
    with torch.autocast("cpu", dtype=torch.bfloat16), _Float32Attention():
        output = F.scaled_dot_product_attention(*vectors, attn_mask=mask)
    assert output.dtype == torch.bfloat16
    assert torch.equal(output, expected.bfloat16())


def test_gradients_in_bfloat16_are_close_to_those_in_float32(bert_checkpoint: Path) -> None:
    docs = [make_doc(Vocab(), "Smith works for Google"), make_doc(Vocab(), "Smith")]
    gradients = []
    for precision in ("float32", "bfloat16"):
        model = tiny_encoder(bert_checkpoint, precision=precision, dropout=0.0)
        encoded, backprop = forward(model, docs, True)
        backprop(torch.ones_like(encoded.pieces).cumsum(1), torch.zeros_like(encoded.context))
        query = next(w for n, w in get_shim(model).module.named_parameters() if "query" in n)
        assert query.grad is not None
        gradients.append(query.grad)
    assert torch.cosine_similarity(gradients[0].flatten(), gradients[1].flatten(), 0) > 0.99
