"""Encoders over a transformer of spacy-transformers, in pipelines with `span_relation`."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import spacy
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spacy.language import Language
from spacy.ml.models.tok2vec import build_hash_embed_cnn_tok2vec
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import fix_random_seed

from spacy_spanrel.encoding.encoder import EncodedDocs
from spacy_spanrel.encoding.shared import TransformerEncoder
from spacy_spanrel.training.optimizer import create_adamw

from ..span_relation.util import (
    ROWS,
    TEXTS,
    annotations_of,
    scores_of,
    start,
    the_pipe,
    train_step,
)
from ..util import WORDS, make_doc, tiny_encoder
from .util import LISTENER, SENTENCES, STRIDED, shared_nlp, word_embeddings

pytestmark = pytest.mark.spacy_transformers


def encode(nlp: Language, docs: list[Doc]) -> EncodedDocs:
    docs = list(nlp.get_pipe("transformer").pipe(docs))
    encoded = the_pipe(nlp).model.get_ref("encoder").predict(docs)
    assert isinstance(encoded, EncodedDocs)
    return encoded


def assert_equal(actual: EncodedDocs, wanted: EncodedDocs) -> None:
    np.testing.assert_array_equal(actual.token_offsets, wanted.token_offsets)
    torch.testing.assert_close(actual.context, wanted.context, atol=1e-5, rtol=1e-4)
    for name in ("token_pieces", "token_window"):
        torch.testing.assert_close(getattr(actual, name), getattr(wanted, name))
    torch.testing.assert_close(actual.pieces, wanted.pieces, atol=1e-5, rtol=1e-4)


# Equal to HFEncoder with the same weights


def test_equals_hf_encoder(checkpoint: Path) -> None:
    nlp = shared_nlp(checkpoint)
    start(nlp)
    docs = [nlp.make_doc(text) for text in (*TEXTS, "don't be Smithson-Acme", "x")]
    assert_equal(encode(nlp, docs), tiny_encoder(checkpoint).predict(docs))


@pytest.fixture(scope="module")
def bert_nlp(bert_checkpoint: Path) -> Language:
    """An initialized pipeline, not to be changed."""
    nlp = shared_nlp(bert_checkpoint)
    start(nlp)
    return nlp


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(st.lists(st.sampled_from([*WORDS, "xyz", "  ", ",", "don't"])), max_size=4))
def test_equals_hf_encoder_on_any_text(
    bert_checkpoint: Path, bert_nlp: Language, texts: list[list[str]]
) -> None:
    docs = [bert_nlp.make_doc(" ".join(words)) for words in texts]
    docs = [doc for doc in docs if doc.text.strip() and len(doc.text) < 100]
    if docs:
        actual, wanted = encode(bert_nlp, docs), tiny_encoder(bert_checkpoint).predict(docs)
        for i in range(actual.n_tokens):
            pair = (e.pieces[slice(*e.token_pieces[i].tolist())] for e in (actual, wanted))
            torch.testing.assert_close(*pair, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(actual.context, wanted.context, atol=1e-5, rtol=1e-4)


def test_same_predictions_and_gradient_as_hf_encoder(bert_checkpoint: Path) -> None:
    """With the same weights, the same batch gives the same losses and the same gradient."""
    shared = shared_nlp(bert_checkpoint)
    separate = spacy.blank("xx")
    encoder = {
        "@architectures": "spacy-spanrel.HFEncoder.v1",
        "name": str(bert_checkpoint),
        "precision": "float32",
        "device": "cpu",
        "dropout": 0.0,
    }
    model = {"size_embedding": 4, "dropout": 0.0, "encoder": encoder}
    separate.add_pipe("span_relation", config={"max_span_size": 4, "model": model})
    losses, gradients, scores = [], [], []
    for nlp in (shared, separate):
        examples = start(nlp)
        pipe = the_pipe(nlp)
        heads = pipe.model.shims[0].module
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in heads.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
        fix_random_seed(1)
        step: dict[str, float] = {}
        nlp.update(examples, sgd=False, losses=step)
        losses.append(step["span_relation"])
        if nlp is shared:
            network = nlp.get_pipe("transformer").model.transformer
        else:
            network = pipe.model.get_ref("encoder").shims[0].module.transformer
        gradients.append(
            {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
        )
        scores.append([scores_of(doc) for doc in nlp.pipe(TEXTS)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    common = set(gradients[0]) & set(gradients[1])
    assert len(common) > 30
    for name in common:
        torch.testing.assert_close(gradients[0][name], gradients[1][name], atol=1e-5, rtol=1e-3)
    for actual, wanted in zip(*scores, strict=True):
        np.testing.assert_allclose(actual, wanted, atol=1e-5)


# Windows


def test_token_is_read_in_the_window_with_most_context(bert_checkpoint: Path) -> None:
    nlp = shared_nlp(bert_checkpoint, get_spans=STRIDED)
    start(nlp)
    doc = nlp.make_doc("John works in Paris and lives in London by the city")
    encoded = encode(nlp, [doc])
    data = doc._.trf_data
    hidden = torch.from_numpy(data.model_output.last_hidden_state)
    # Windows of 6 tokens, one every 4 tokens. Each word is one piece, and [CLS] is the first one.
    starts = [0, 4, 8]
    lengths = [min(6, len(doc) - start) for start in starts]
    for token in range(len(doc)):
        room = {
            window: min(token - start, length - 1 - (token - start))
            for window, (start, length) in enumerate(zip(starts, lengths, strict=True))
            if start <= token < start + length
        }
        best = max(room, key=lambda window: (room[window], -window))
        first, end = encoded.token_pieces[token].tolist()
        assert encoded.token_window[token] == best
        assert end == first + 1
        torch.testing.assert_close(encoded.pieces[first], hidden[best, 1 + token - starts[best]])
    torch.testing.assert_close(encoded.context, hidden[:, 0])


def test_sentences_have_their_own_context(bert_checkpoint: Path) -> None:
    nlp = shared_nlp(bert_checkpoint, get_spans=SENTENCES)
    nlp.add_pipe("sentencizer", first=True)
    start(nlp)
    (doc,) = nlp.pipe(["John works. Mary lives in London."])
    encoded = the_pipe(nlp).model.get_ref("encoder").predict([doc])
    assert encoded.context.shape[0] == 2
    assert encoded.token_window.tolist() == [0] * 3 + [1] * 5


# Settings and texts that do not work


def test_upstream_of_another_name(bert_checkpoint: Path) -> None:
    nlp = shared_nlp(bert_checkpoint, encoder={**LISTENER, "upstream": "another"})
    with pytest.raises(ValueError, match="E_SR213.*'another'"):
        start(nlp)


def test_grad_factor(bert_checkpoint: Path) -> None:
    norms = []
    for factor in (1.0, 0.5, 0.0):
        nlp = shared_nlp(bert_checkpoint, encoder={**LISTENER, "grad_factor": factor})
        examples = start(nlp)
        fix_random_seed(0)
        nlp.update(examples, sgd=False)
        weights = word_embeddings(nlp.get_pipe("transformer"))
        norms.append(float(weights.grad.norm()))
    assert norms[0] > 0
    assert norms[1] == pytest.approx(0.5 * norms[0], rel=1e-3)
    assert norms[2] == 0


def test_component_that_learns_nothing_passes_gradients_on(bert_checkpoint: Path) -> None:
    """The last listener sends the gradients of all, even if its batch has no gold annotation."""
    nlp = shared_nlp(bert_checkpoint, ner="before")
    examples = start(nlp)
    gold = make_doc(nlp.vocab, *ROWS[0])
    del gold.spans["relations"]
    without = Example(nlp.make_doc(gold.text), gold)
    nlp.get_pipe("span_relation").cfg["neg_entity_count"] = 0
    weights = word_embeddings(nlp.get_pipe("transformer"))
    nlp.update([without], sgd=False)
    assert float(weights.grad.norm()) > 0
    # A listener that still held the batch could not be pickled.
    pickle.loads(pickle.dumps(nlp))
    assert train_step(nlp, examples, create_adamw(learn_rate=1e-3))["span_relation"] > 0


def test_empty_docs_beside_an_ner(bert_checkpoint: Path) -> None:
    """Both listeners skip the same Docs of a batch; otherwise gradients would reach other Docs."""
    gradients = []
    for empty in (False, True):
        nlp = shared_nlp(bert_checkpoint, ner="before", get_spans=STRIDED)
        examples = start(nlp)
        nothing = Example(nlp.make_doc(""), nlp.make_doc(""))
        fix_random_seed(0)
        nlp.get_pipe("span_relation")._rng = np.random.default_rng(0)
        batch = [nothing, examples[0], nothing, examples[1]] if empty else examples[:2]
        nlp.update(batch, sgd=False)
        weights = word_embeddings(nlp.get_pipe("transformer"))
        gradients.append(weights.grad.clone())
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)


def test_excluded_component_reads_the_next_batch(bert_checkpoint: Path) -> None:
    """A batch that was never backpropagated, because the component was excluded, is forgotten."""
    nlp = shared_nlp(bert_checkpoint, ner="behind")
    examples = start(nlp)
    nlp.update(examples[:2], sgd=False, exclude=["span_relation"])
    losses = train_step(nlp, examples[2:], create_adamw(learn_rate=1e-3))
    assert losses["span_relation"] > 0


def test_text_that_the_transformer_cuts(bert_checkpoint: Path) -> None:
    nlp = shared_nlp(bert_checkpoint)
    start(nlp)
    text = " ".join(["John works in Paris ."] * 20)
    with pytest.warns(UserWarning, match=r"W_SR164.* 37 of 100 tokens .* from 'Paris' on"):
        doc = nlp(text)
    # There are no predictions in the tokens that were cut off.
    assert all(span.end <= 63 for span in doc.spans["entities"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nlp(text)


def test_no_warning_of_whitespace_and_symbols(bert_checkpoint: Path) -> None:
    nlp = shared_nlp(bert_checkpoint, get_spans=STRIDED)
    start(nlp)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(nlp.pipe(["John  works\n\nin Paris \u200b .", "  ", "John works in Paris ."]))


def test_tokenizer_without_a_limit(bert_checkpoint: Path) -> None:
    nlp = shared_nlp(bert_checkpoint, tokenizer={"model_max_length": 10**9})
    with pytest.warns(UserWarning, match="W_SR165.*'transformer'.* 64 subword pieces"):
        start(nlp)


def test_doc_cleaner_removes_the_vectors(bert_checkpoint: Path) -> None:
    nlp = shared_nlp(bert_checkpoint)
    start(nlp)
    (doc,) = nlp.pipe([TEXTS[0]])
    assert doc._.trf_data is not None
    nlp.add_pipe("doc_cleaner")
    (cleaned,) = nlp.pipe([TEXTS[0]])
    assert cleaned._.trf_data is None
    assert annotations_of(cleaned) == annotations_of(doc)
    assert len(cleaned.to_bytes()) < 0.5 * len(doc.to_bytes())


def test_transformer_encoder_of_another_layer() -> None:
    layer = build_hash_embed_cnn_tok2vec(
        width=8,
        depth=1,
        embed_size=10,
        window_size=1,
        maxout_pieces=2,
        subword_features=True,
        pretrained_vectors=None,
    )
    with pytest.raises(ValueError, match=r"E_SR232.*HFEncoder"):
        TransformerEncoder(layer)
