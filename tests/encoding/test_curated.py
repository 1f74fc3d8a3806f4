"""The encoder over a transformer of spacy-curated-transformers, in pipelines with `span_relation`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.training import Example

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
from ..util import tiny_encoder
from .util import CURATED_LISTENER, CURATED_TRAINS, curated_nlp


def train(nlp: Language, examples: list[Example], steps: int) -> None:
    """Train as `spacy train` does."""
    optimizer = create_adamw(learn_rate=5e-3, weight_decay=0.0)
    for _ in range(steps):
        train_step(nlp, examples, optimizer)


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


@pytest.mark.skipif(not CURATED_TRAINS, reason="numpy is too new to train it")
def test_replaced_listener(bert_checkpoint: Path, tmp_path: Path) -> None:
    nlp = curated_nlp(bert_checkpoint, ner="before")
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


@pytest.mark.spacy_transformers
def test_listeners_of_the_other_package(bert_checkpoint: Path) -> None:
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
        nlp.add_pipe("span_relation", config={"model": {"encoder": dict(CURATED_LISTENER)}})
