"""`nlp.replace_listeners`: a component gets a copy of the shared transformer for itself."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.training import Example
from spacy.training.initialize import init_nlp
from spacy.training.loop import train as train_loop

from spacy_spanrel.encoding.listening import extend_replace_listeners
from spacy_spanrel.training.optimizer import create_adamw

from ..span_relation.util import (
    ROWS,
    TEXTS,
    annotations_of,
    expected,
    make_examples,
    scores_of,
    start,
    the_pipe,
    train_step,
)
from ..util import make_doc, tiny_checkpoint, write_docs
from .util import DOC_SPANS, STRIDED, shared_nlp, word_embeddings


def replace(nlp: Language) -> None:
    nlp.replace_listeners("transformer", "span_relation", ["model.encoder"])


def predictions(nlp: Language, texts: list[str] = TEXTS) -> list[Any]:
    return [(annotations_of(doc), scores_of(doc)) for doc in nlp.pipe(texts)]


def assert_same(actual: list[Any], wanted: list[Any]) -> None:
    for (spans, scores), (wanted_spans, wanted_scores) in zip(actual, wanted, strict=True):
        assert spans == wanted_spans
        np.testing.assert_allclose(scores, wanted_scores, atol=1e-5)


@pytest.mark.spacy_transformers
@pytest.mark.parametrize("get_spans", [DOC_SPANS, STRIDED], ids=["doc", "strided"])
def test_replaced_listener(tmp_path: Path, get_spans: dict[str, Any]) -> None:
    """Predictions stay the same, also from disk, and training goes on."""
    folder = tiny_checkpoint(tmp_path / "encoder")
    nlp = shared_nlp(folder, get_spans=get_spans, ner="before")
    examples = start(nlp)
    optimizer = create_adamw(learn_rate=5e-3, weight_decay=0.0)
    for _ in range(15):
        train_step(nlp, examples, optimizer)
    texts = [*TEXTS, "", "  ", " ".join(TEXTS[:3])]
    if get_spans is DOC_SPANS:
        # doc_spans of spacy-transformers fails on empty Docs.
        texts = TEXTS
    before = predictions(nlp, texts)
    replace(nlp)
    transformer = nlp.get_pipe("transformer")
    assert transformer.listening_components == ["ner"]
    assert_same(predictions(nlp, texts), before)
    # Without the shared transformer, and from disk when the checkpoint is gone.
    nlp.remove_pipe("ner")
    nlp.remove_pipe("transformer")
    folder.rename(tmp_path / "moved")
    assert_same(predictions(nlp), before[: len(TEXTS)])
    assert nlp("").text == ""
    nlp.to_disk(tmp_path / "pipeline")
    loaded = spacy.load(tmp_path / "pipeline")
    assert_same(predictions(loaded), before[: len(TEXTS)])
    encoder = loaded.config["components"]["span_relation"]["model"]["encoder"]
    assert encoder["@architectures"] == "spacy-spanrel.TransformerEncoder.v1"
    assert encoder["transformer"]["name"] == str(folder)
    again = pickle.loads(pickle.dumps(loaded))
    assert_same(predictions(again), before[: len(TEXTS)])
    # Training goes on, and changes the encoder.
    weights = word_embeddings(the_pipe(loaded).model.get_ref("encoder").layers[0].transformer)
    old = weights.detach().clone()
    optimizer = create_adamw(learn_rate=5e-3, weight_decay=0.0)
    rows = make_examples(loaded)
    empty = Example(loaded.make_doc(""), loaded.make_doc(""))
    for _ in range(40):
        loaded.update([*rows, empty], sgd=optimizer)
    assert not torch.equal(old, weights)
    assert [annotations_of(doc) for doc in loaded.pipe(TEXTS)] == [expected(row) for row in ROWS]
    assert np.isfinite(loaded.update([empty], sgd=optimizer)["span_relation"])


@pytest.mark.spacy_transformers
def test_replaced_listener_can_be_initialized_again(bert_checkpoint: Path, tmp_path: Path) -> None:
    nlp = shared_nlp(bert_checkpoint)
    start(nlp)
    replace(nlp)
    nlp.to_disk(tmp_path)
    loaded = spacy.load(tmp_path)
    weights = word_embeddings(the_pipe(loaded).model.get_ref("encoder").layers[0].transformer)
    old = weights.detach().clone()
    start(loaded)
    torch.testing.assert_close(weights, old)
    # From the config alone.
    fresh = spacy.util.load_model_from_config(loaded.config, auto_fill=True)
    start(fresh)
    assert_same(predictions(fresh), predictions(loaded))


@pytest.mark.spacy_transformers
def test_replacing_a_listener_of_another_component(bert_checkpoint: Path) -> None:
    """spaCy replaces the listeners of its own components as before."""
    nlp = shared_nlp(bert_checkpoint, ner="before")
    start(nlp)
    nlp.replace_listeners("transformer", "ner", ["model.tok2vec"])
    encoder = nlp.config["components"]["ner"]["model"]["tok2vec"]["@architectures"]
    assert encoder == "spacy-transformers.Tok2VecTransformer.v3"
    assert nlp.get_pipe("transformer").listening_components == ["span_relation"]


@pytest.mark.spacy_transformers
def test_wrong_path_or_component(bert_checkpoint: Path) -> None:
    nlp = shared_nlp(bert_checkpoint, ner="before")
    start(nlp)
    for paths in (["model.tok2vec"], ["model.encoder", "model.encoder"]):
        with pytest.raises(ValueError, match=r"E_SR230.*'span_relation'.*'model.encoder'"):
            nlp.replace_listeners("transformer", "span_relation", paths)
    nlp.replace_listeners("transformer", "span_relation", [])
    assert nlp.get_pipe("transformer").listening_components == ["ner", "span_relation"]
    with pytest.raises(ValueError, match="E889"):
        nlp.replace_listeners("nothing", "span_relation", ["model.encoder"])
    with pytest.raises(ValueError, match="E888"):
        nlp.replace_listeners("ner", "span_relation", ["model.encoder"])


@pytest.mark.spacy_transformers
def test_replaced_in_a_config_of_sourced_components(bert_checkpoint: Path, tmp_path: Path) -> None:
    """A trained and frozen component keeps its predictions while the shared transformer learns."""
    nlp = shared_nlp(bert_checkpoint)
    examples = start(nlp)
    optimizer = create_adamw(learn_rate=5e-3, weight_decay=0.0)
    for _ in range(15):
        train_step(nlp, examples, optimizer)
    before = predictions(nlp)
    nlp.to_disk(tmp_path / "source")
    docs = write_docs(tmp_path / "docs.spacy", [make_doc(nlp.vocab, *row) for row in ROWS])
    target = shared_nlp(bert_checkpoint, ner="before")
    config = target.config.copy()
    config["components"]["span_relation"] = {
        "source": str(tmp_path / "source"),
        "replace_listeners": ["model.encoder"],
    }
    reader = {"@readers": "spacy-spanrel.Corpus.v1", "path": str(docs)}
    config["corpora"] = {"train": reader, "dev": reader}
    config["training"].update(
        {"frozen_components": ["span_relation"], "max_steps": 3, "eval_frequency": 3}
    )
    config["training"]["optimizer"] = {
        "@optimizers": "spacy-spanrel.AdamW.v1",
        "learn_rate": 0.01,
    }
    trained = init_nlp(config)
    (tmp_path / "out").mkdir()
    train_loop(trained, tmp_path / "out", stdout=io.StringIO(), stderr=io.StringIO())
    loaded = spacy.load(tmp_path / "out" / "model-last")
    loaded.get_pipe("ner").cfg["set_ents"] = "off"
    assert_same(predictions(loaded), before)
    old, new = (word_embeddings(pipe.get_pipe("transformer")) for pipe in (nlp, loaded))
    assert not torch.equal(old, new)


# The patch of spaCy


def test_replace_listeners_is_extended_once(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Language.replace_listeners
    while hasattr(original, "__wrapped__"):
        original = original.__wrapped__
    monkeypatch.setattr(Language, "replace_listeners", original)
    extend_replace_listeners()
    extended = Language.replace_listeners
    assert extended is not original
    extend_replace_listeners()
    assert Language.replace_listeners is extended
