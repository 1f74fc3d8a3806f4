"""Pipelines with a shared transformer of spacy-transformers, for the tests of encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import spacy
import torch
from spacy.language import Language

from ..span_relation.util import ner_model

LISTENER = {"@architectures": "spacy-spanrel.ListenerEncoder.v1"}
NER_LISTENER = {
    "@architectures": "spacy-transformers.TransformerListener.v1",
    "grad_factor": 1.0,
    "pooling": {"@layers": "reduce_mean.v1"},
}
DOC_SPANS = {"@span_getters": "spacy-transformers.doc_spans.v1"}
STRIDED = {"@span_getters": "spacy-transformers.strided_spans.v1", "window": 6, "stride": 4}
SENTENCES = {"@span_getters": "spacy-transformers.sent_spans.v1"}


def shared_nlp(
    checkpoint: Path,
    *,
    get_spans: dict[str, Any] = DOC_SPANS,
    encoder: dict[str, Any] = LISTENER,
    ner: str | None = None,
    tokenizer: dict[str, Any] | None = None,
) -> Language:
    """A pipeline of a transformer, span_relation and, "before" or "behind" it, an NER."""
    pytest.importorskip("spacy_transformers", reason="spacy-transformers is not installed")
    nlp = spacy.blank("xx")
    nlp.add_pipe(
        "transformer",
        config={
            "model": {
                "@architectures": "spacy-transformers.TransformerModel.v3",
                "name": str(checkpoint),
                "get_spans": get_spans,
                "tokenizer_config": {"use_fast": True, **(tokenizer or {})},
                "transformer_config": {
                    "hidden_dropout_prob": 0.0,
                    "attention_probs_dropout_prob": 0.0,
                },
            }
        },
    )
    model = {"size_embedding": 4, "dropout": 0.0, "encoder": dict(encoder)}
    nlp.add_pipe("span_relation", config={"max_span_size": 4, "model": model})
    if ner is not None:
        position = {"after": "transformer"} if ner == "before" else {"last": True}
        nlp.add_pipe("ner", config={"model": ner_model(NER_LISTENER)}, **position)
    return nlp


def word_embeddings(network: Any) -> torch.nn.Parameter:
    """The first weights of a transformer: of a `transformer` component, or of a network of torch."""
    network = network.model.transformer if hasattr(network, "model") else network
    weights = network.embeddings.word_embeddings.weight
    assert isinstance(weights, torch.nn.Parameter)
    return weights
