"""Pipelines with a shared transformer of either package, for the tests of encoders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from numpy.lib import NumpyVersion
from spacy.language import Language

from ..span_relation.util import ner_model

LISTENER = {"@architectures": "spacy-spanrel.ListenerEncoder.v1"}
NER_LISTENER = {
    "@architectures": "spacy-transformers.TransformerListener.v1",
    "grad_factor": 1.0,
    "pooling": {"@layers": "reduce_mean.v1"},
}
DOC_SPANS = {"@span_getters": "spacy-transformers.doc_spans.v1"}
# spacy-curated-transformers converts an array of one number to a number, which numpy 2.4 refuses.
CURATED_TRAINS = NumpyVersion(np.__version__) < "2.4.0"
CURATED_LISTENER = {"@architectures": "spacy-spanrel.CuratedListenerEncoder.v1", "width": 32}
TOK2VEC_LISTENER = {"@architectures": "spacy-spanrel.Tok2VecListenerEncoder.v1", "width": 32}
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


def curated_nlp(
    checkpoint: Path, *, encoder: dict[str, Any] | None = None, ner: str | None = None
) -> Language:
    """A pipeline of a curated transformer, span_relation and, "before" or "behind" it, an NER."""
    pytest.importorskip("spacy_curated_transformers")
    config = json.loads((checkpoint / "config.json").read_text())
    nlp = spacy.blank("xx")
    nlp.add_pipe(
        "curated_transformer",
        name="transformer",
        config={
            "model": {
                "@architectures": "spacy-curated-transformers.BertTransformer.v1",
                "vocab_size": config["vocab_size"],
                "hidden_width": config["hidden_size"],
                "intermediate_width": config["intermediate_size"],
                "num_attention_heads": config["num_attention_heads"],
                "num_hidden_layers": config["num_hidden_layers"],
                "max_position_embeddings": config["max_position_embeddings"],
                "model_max_length": config["max_position_embeddings"],
                "attention_probs_dropout_prob": 0.0,
                "hidden_dropout_prob": 0.0,
                "piece_encoder": {
                    "@architectures": "spacy-curated-transformers.BertWordpieceEncoder.v1"
                },
                "with_spans": {
                    "@architectures": "spacy-curated-transformers.WithStridedSpans.v1",
                    "window": 40,
                    "stride": 30,
                },
            }
        },
    )
    name = {"name": str(checkpoint)}
    nlp.config["initialize"]["components"]["transformer"] = {
        "encoder_loader": {
            "@model_loaders": "spacy-curated-transformers.HFTransformerEncoderLoader.v1",
            **name,
        },
        "piecer_loader": {
            "@model_loaders": "spacy-curated-transformers.HFPieceEncoderLoader.v1",
            **name,
        },
    }
    model = {"size_embedding": 4, "dropout": 0.0, "encoder": dict(encoder or CURATED_LISTENER)}
    nlp.add_pipe("span_relation", config={"max_span_size": 4, "set_ents": "off", "model": model})
    if ner is not None:
        tok2vec = {
            "@architectures": "spacy-curated-transformers.LastTransformerLayerListener.v1",
            "width": 32,
            "pooling": {"@layers": "reduce_mean.v1"},
        }
        position = {"after": "transformer"} if ner == "before" else {"last": True}
        nlp.add_pipe("ner", config={"model": ner_model(tok2vec)}, **position)
    return nlp


def curated_weights(model: Any) -> torch.Tensor:
    """The first weights of a curated transformer."""
    weights = next(model.get_ref("transformer").shims[0]._model.parameters())
    assert isinstance(weights, torch.Tensor)
    return weights


def tok2vec_nlp(
    checkpoint: Path, *, encoder: dict[str, Any] | None = None, ner: str | None = None, **hf: Any
) -> Language:
    """A pipeline like that of `shared_nlp`, with spaCy's `tok2vec` as the transformer."""
    hf = {"name": str(checkpoint), "precision": "float32", "device": "cpu", "dropout": 0.0, **hf}
    nlp = spacy.blank("xx")
    nlp.add_pipe(
        "tok2vec",
        name="transformer",
        config={
            "model": {
                "@architectures": "spacy-spanrel.HFTok2Vec.v1",
                "encoder": {"@architectures": "spacy-spanrel.HFEncoder.v1", **hf},
            }
        },
    )
    model = {"size_embedding": 4, "dropout": 0.0, "encoder": dict(encoder or TOK2VEC_LISTENER)}
    nlp.add_pipe("span_relation", config={"max_span_size": 4, "set_ents": "off", "model": model})
    if ner is not None:
        tok2vec = {"@architectures": "spacy.Tok2VecListener.v1", "width": 32}
        position = {"after": "transformer"} if ner == "before" else {"last": True}
        nlp.add_pipe("ner", config={"model": ner_model(tok2vec)}, **position)
    return nlp


def hf_weights(model: Any) -> torch.Tensor:
    """The first weights of the network of an `HFEncoder` in a model."""
    (encoder,) = (node for node in model.walk() if node.name == "hf_encoder")
    weights = next(encoder.shims[0].module.parameters())
    assert isinstance(weights, torch.Tensor)
    return weights
