"""The encoder over a transformer of spacy-curated-transformers, in pipelines with `span_relation`."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.training import Example
from spacy.util import fix_random_seed

from spacy_spanrel.training.optimizer import create_adamw

from ..span_relation.util import (
    ROWS,
    TEXTS,
    annotations_of,
    expected,
    make_examples,
    ner_model,
    scores_of,
    start,
    the_pipe,
    train_step,
)
from ..util import tiny_checkpoint, tiny_encoder

# spacy-curated-transformers converts an array of one number to a number, which numpy 2.4 refuses.
trains = pytest.mark.skipif(
    tuple(map(int, np.__version__.split(".")[:2])) >= (2, 4),
    reason="spacy-curated-transformers 0.3 cannot be trained with numpy 2.4",
)

LISTENER = {"@architectures": "spacy-spanrel.CuratedListenerEncoder.v1", "width": 32}


def curated_nlp(checkpoint: Path, ner: str | None = None) -> Language:
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
    model = {"size_embedding": 4, "dropout": 0.0, "encoder": dict(LISTENER)}
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


def train(nlp: Language, examples: list[Example], steps: int) -> None:
    """Train as `spacy train` does."""
    optimizer = create_adamw(learn_rate=5e-3, weight_decay=0.0)
    for _ in range(steps):
        train_step(nlp, examples, optimizer)


def weights_of(model: Any) -> torch.Tensor:
    """The first weights of a curated transformer."""
    network = model.get_ref("transformer").shims[0]._model
    return next(network.parameters())


def test_same_pieces_as_hf_encoder(bert_checkpoint: Path) -> None:
    nlp = curated_nlp(bert_checkpoint)
    start(nlp)
    texts = [*TEXTS, "John  works\n", "", "in xyz London"]
    docs = [nlp.make_doc(text) for text in texts]
    docs = list(nlp.get_pipe("transformer").pipe(docs))
    encoded = the_pipe(nlp).model.get_ref("encoder").predict(docs)
    wanted = tiny_encoder(bert_checkpoint).predict(docs)
    np.testing.assert_array_equal(encoded.token_offsets, wanted.token_offsets)
    for i in range(encoded.n_tokens):
        pair = (e.pieces[slice(*e.token_pieces[i].tolist())] for e in (encoded, wanted))
        torch.testing.assert_close(*pair, atol=1e-5, rtol=1e-4)
    # Each Doc has one summary vector, the mean of its pieces.
    assert len(encoded.context) == len(docs)
    first = encoded.pieces[: encoded.token_pieces[len(docs[0]) - 1, 1]]
    torch.testing.assert_close(encoded.context[0], first.mean(dim=0))


@trains
@pytest.mark.parametrize("ner", ["before", "behind"])
def test_learns_together_with_an_ner(tmp_path: Path, ner: str) -> None:
    folder = tiny_checkpoint(tmp_path / "encoder")
    nlp = curated_nlp(folder, ner)
    examples = start(nlp)
    weights = weights_of(nlp.get_pipe("transformer").model)
    before = weights.detach().clone()
    train(nlp, examples, 100)
    assert not torch.equal(weights, before)
    assert [annotations_of(doc) for doc in nlp.pipe(TEXTS)] == [expected(row) for row in ROWS]
    scores = [scores_of(doc) for doc in nlp.pipe(TEXTS)]
    folder.rename(tmp_path / "moved")
    nlp.to_disk(tmp_path / "pipeline")
    loaded = spacy.load(tmp_path / "pipeline")
    for other in (loaded, pickle.loads(pickle.dumps(loaded))):
        docs = list(other.pipe([*TEXTS, "", " "]))
        assert [annotations_of(doc) for doc in docs[:-2]] == [expected(row) for row in ROWS]
        for doc, wanted in zip(docs, scores, strict=False):
            np.testing.assert_allclose(scores_of(doc), wanted, atol=1e-5)


@trains
def test_gradient_reaches_the_transformer(bert_checkpoint: Path) -> None:
    """A listener and the copy of the transformer that replaces it get the same gradient."""
    gradients = []
    for is_replaced in (False, True):
        nlp = curated_nlp(bert_checkpoint)
        examples = start(nlp)
        model = nlp.get_pipe("transformer").model
        if is_replaced:
            nlp.replace_listeners("transformer", "span_relation", ["model.encoder"])
            nlp.disable_pipe("transformer")
            model = the_pipe(nlp).model.get_ref("encoder").layers[0]
        fix_random_seed(0)
        nlp.update(examples, sgd=False)
        gradients.append(weights_of(model).grad.clone())
    assert float(gradients[0].norm()) > 0
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)


@trains
def test_replaced_listener(bert_checkpoint: Path, tmp_path: Path) -> None:
    nlp = curated_nlp(bert_checkpoint, "before")
    examples = start(nlp)
    train(nlp, examples, 20)
    before = [(annotations_of(doc), scores_of(doc)) for doc in nlp.pipe(TEXTS)]
    nlp.replace_listeners("transformer", "span_relation", ["model.encoder"])
    assert nlp.get_pipe("transformer").listening_components == ["ner"]
    nlp.remove_pipe("ner")
    nlp.remove_pipe("transformer")
    nlp.to_disk(tmp_path)
    loaded = spacy.load(tmp_path)
    for doc, (spans, scores) in zip(loaded.pipe(TEXTS), before, strict=True):
        assert annotations_of(doc) == spans
        np.testing.assert_allclose(scores_of(doc), scores, atol=1e-5)
    train(loaded, make_examples(loaded), 40)
    assert [annotations_of(doc) for doc in loaded.pipe(TEXTS)] == [expected(row) for row in ROWS]


def test_frozen_transformer_that_annotates(bert_checkpoint: Path) -> None:
    nlp = curated_nlp(bert_checkpoint)
    examples = start(nlp)
    weights = weights_of(nlp.get_pipe("transformer").model)
    before = weights.detach().clone()
    optimizer = create_adamw(learn_rate=1e-2)
    losses = []
    for _ in range(15):
        step: dict[str, float] = {}
        nlp.update(
            examples, sgd=optimizer, losses=step, exclude=["transformer"], annotates=["transformer"]
        )
        losses.append(step["span_relation"])
    assert losses[-1] < 0.8 * losses[0]
    torch.testing.assert_close(weights, before)


@pytest.mark.parametrize(
    ("frozen", "code"), [(["ner"], "E_SR215.*'ner'"), (["transformer"], "E_SR214")]
)
def test_frozen_components(bert_checkpoint: Path, frozen: list[str], code: str) -> None:
    nlp = curated_nlp(bert_checkpoint, "behind")
    nlp.config["training"] = {**nlp.config["training"], "frozen_components": frozen}
    with pytest.raises(ValueError, match=code):
        start(nlp)


def test_disabled_transformer(bert_checkpoint: Path) -> None:
    nlp = curated_nlp(bert_checkpoint)
    start(nlp)
    with nlp.select_pipes(disable="transformer"), pytest.raises(ValueError, match="E_SR216"):
        nlp("John works in Paris.")


def test_without_a_transformer() -> None:
    pytest.importorskip("spacy_curated_transformers")
    nlp = spacy.blank("xx")
    nlp.add_pipe("span_relation", config={"model": {"encoder": dict(LISTENER)}})
    with pytest.raises(ValueError, match="E_SR233"):
        start(nlp)


def test_listeners_of_the_other_package(bert_checkpoint: Path) -> None:
    pytest.importorskip("spacy_transformers")
    nlp = curated_nlp(bert_checkpoint)
    encoder = {"@architectures": "spacy-spanrel.ListenerEncoder.v1"}
    nlp.remove_pipe("span_relation")
    nlp.add_pipe("span_relation", config={"model": {"encoder": encoder}})
    with pytest.raises(ValueError, match="E_SR213.*CuratedListenerEncoder"):
        start(nlp)


def test_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy_curated_transformers.models.listeners", None)
    nlp = spacy.blank("xx")
    with pytest.raises(ImportError, match="E_SR231.*spacy-curated-transformers<1"):
        nlp.add_pipe("span_relation", config={"model": {"encoder": dict(LISTENER)}})
