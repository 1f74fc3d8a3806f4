"""`span_relation` on a shared `transformer` component of spacy-transformers."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import fix_random_seed

from spacy_spanrel.encoding.encoder import EncodedDocs
from spacy_spanrel.span_relation.component import SpanRelation
from spacy_spanrel.training.optimizer import create_adamw
from tests.span_relation.util import (
    ROWS,
    TEXTS,
    expected,
    found,
    make_examples,
    run_python,
    scores_of,
)
from tests.util import WORDS, tiny_checkpoint, tiny_encoder

pytest.importorskip("spacy_transformers", reason="spacy-transformers is not installed")

LISTENER = {"@architectures": "spacy-spanrel.ListenerEncoder.v1"}
DOC_SPANS = {"@span_getters": "spacy-transformers.doc_spans.v1"}
STRIDED = {"@span_getters": "spacy-transformers.strided_spans.v1", "window": 6, "stride": 4}
SENTENCES = {"@span_getters": "spacy-transformers.sent_spans.v1"}


def shared_nlp(
    checkpoint: Path,
    *,
    get_spans: dict[str, Any] = DOC_SPANS,
    encoder: dict[str, Any] = LISTENER,
    ner: str | None = None,
) -> Language:
    """A pipeline of a transformer, span_relation and, "before" or "behind" it, an NER."""
    nlp = spacy.blank("en")
    nlp.add_pipe(
        "transformer",
        config={
            "model": {
                "@architectures": "spacy-transformers.TransformerModel.v3",
                "name": str(checkpoint),
                "get_spans": get_spans,
                "tokenizer_config": {"use_fast": True},
                "transformer_config": {
                    "hidden_dropout_prob": 0.0,
                    "attention_probs_dropout_prob": 0.0,
                },
            }
        },
    )
    parts = ["span_relation"]
    if ner is not None:
        parts.insert(0 if ner == "before" else 1, "ner")
    for part in parts:
        if part == "ner":
            nlp.add_pipe("ner", config={"model": ner_model()})
        else:
            model = {"size_embedding": 4, "dropout": 0.0, "encoder": dict(encoder)}
            nlp.add_pipe("span_relation", config={"max_span_size": 4, "model": model})
    return nlp


def ner_model() -> dict[str, Any]:
    return {
        "@architectures": "spacy.TransitionBasedParser.v2",
        "state_type": "ner",
        "extra_state_tokens": False,
        "hidden_width": 16,
        "maxout_pieces": 2,
        "use_upper": False,
        "tok2vec": {
            "@architectures": "spacy-transformers.TransformerListener.v1",
            "grad_factor": 1.0,
            "pooling": {"@layers": "reduce_mean.v1"},
        },
    }


def the_pipe(nlp: Language) -> SpanRelation:
    pipe = nlp.get_pipe("span_relation")
    assert isinstance(pipe, SpanRelation)
    return pipe


def start(nlp: Language) -> list[Example]:
    examples = make_examples(nlp)
    fix_random_seed(0)
    nlp.initialize(lambda: examples)
    return examples


def train_step(nlp: Language, examples: list[Example], optimizer: Any) -> dict[str, float]:
    """As `spacy train` does: gradients of all components first, then the steps."""
    losses: dict[str, float] = {}
    nlp.update(examples, sgd=False, losses=losses)
    for _, pipe in nlp.pipeline:
        if hasattr(pipe, "finish_update"):
            pipe.finish_update(optimizer)
    return losses


def encode(nlp: Language, docs: list[Doc]) -> EncodedDocs:
    docs = list(nlp.get_pipe("transformer").pipe(docs))
    encoded = the_pipe(nlp).model.get_ref("encoder").predict(docs)
    assert isinstance(encoded, EncodedDocs)
    return encoded


def assert_equal(ours: EncodedDocs, own: EncodedDocs) -> None:
    np.testing.assert_array_equal(ours.token_offsets, own.token_offsets)
    torch.testing.assert_close(ours.context, own.context, atol=1e-5, rtol=1e-4)
    for name in ("token_pieces", "token_window"):
        torch.testing.assert_close(getattr(ours, name), getattr(own, name))
    torch.testing.assert_close(ours.pieces, own.pieces, atol=1e-5, rtol=1e-4)


# The same as with an encoder of its own


def test_equals_an_own_encoder(checkpoint: Path) -> None:
    nlp = shared_nlp(checkpoint)
    start(nlp)
    docs = [nlp.make_doc(text) for text in (*TEXTS, "don't be Smithson-Acme", "x")]
    assert_equal(encode(nlp, docs), tiny_encoder(checkpoint).predict(docs))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(texts=st.lists(st.lists(st.sampled_from([*WORDS, "xyz", "  ", ",", "don't"])), max_size=4))
def test_equals_an_own_encoder_on_any_text(bert_checkpoint: Path, texts: list[list[str]]) -> None:
    nlp = _cached(bert_checkpoint)
    docs = [nlp.make_doc(" ".join(words)) for words in texts]
    docs = [doc for doc in docs if doc.text.strip() and len(doc.text) < 100]
    if docs:
        ours, own = encode(nlp, docs), tiny_encoder(bert_checkpoint).predict(docs)
        for i in range(len(ours.token_pieces)):
            mine, theirs = (e.pieces[slice(*e.token_pieces[i].tolist())] for e in (ours, own))
            torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(ours.context, own.context, atol=1e-5, rtol=1e-4)


_NLP: dict[Path, Language] = {}


def _cached(checkpoint: Path) -> Language:
    if checkpoint not in _NLP:
        _NLP[checkpoint] = shared_nlp(checkpoint)
        start(_NLP[checkpoint])
    return _NLP[checkpoint]


def test_same_predictions_and_gradient_as_an_own_encoder(bert_checkpoint: Path) -> None:
    """With the same weights, the same batch gives the same losses and the same gradient."""
    shared = shared_nlp(bert_checkpoint)
    own = spacy.blank("en")
    encoder = {
        "@architectures": "spacy-spanrel.HFEncoder.v1",
        "name": str(bert_checkpoint),
        "precision": "float32",
        "device": "cpu",
        "dropout": 0.0,
    }
    model = {"size_embedding": 4, "dropout": 0.0, "encoder": encoder}
    own.add_pipe("span_relation", config={"max_span_size": 4, "model": model})
    losses, gradients, scores = [], [], []
    for nlp in (shared, own):
        examples = start(nlp)
        pipe = the_pipe(nlp)
        heads = pipe.model.shims[0].module
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in heads.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
        fix_random_seed(1)
        found_losses: dict[str, float] = {}
        nlp.update(examples, sgd=False, losses=found_losses)
        losses.append(found_losses["span_relation"])
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
    for mine, theirs in zip(*scores, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


# Training


@pytest.mark.parametrize("get_spans", [DOC_SPANS, STRIDED], ids=["doc", "strided"])
def test_learns_saves_and_loads(
    bert_checkpoint: Path, tmp_path: Path, get_spans: dict[str, Any]
) -> None:
    folder = tiny_checkpoint(tmp_path / "encoder")
    nlp = shared_nlp(folder, get_spans=get_spans)
    examples = start(nlp)
    optimizer = create_adamw(learn_rate=5e-3, weight_decay=0.0)
    for _ in range(40):
        train_step(nlp, examples, optimizer)
    assert [found(doc) for doc in nlp.pipe(TEXTS)] == [expected(row) for row in ROWS]
    folder.rename(tmp_path / "moved")
    nlp.to_disk(tmp_path / "pipeline")
    code = (
        "import spacy, sys, json; nlp = spacy.load(sys.argv[1]);"
        f"print(json.dumps([[r.to_triple() for r in d._.relations] for d in nlp.pipe({TEXTS!r})]))"
    )
    printed = json.loads(run_python(code, tmp_path / "pipeline", cwd=tmp_path).splitlines()[-1])
    assert printed == [[list(r.to_triple()) for r in doc._.relations] for doc in nlp.pipe(TEXTS)]
    again = pickle.loads(pickle.dumps(nlp))
    assert [found(doc) for doc in again.pipe(TEXTS)] == [expected(row) for row in ROWS]


@pytest.mark.parametrize("ner", ["before", "behind"])
def test_learns_together_with_an_ner(bert_checkpoint: Path, ner: str) -> None:
    nlp = shared_nlp(bert_checkpoint, ner=ner)
    examples = start(nlp)
    weights = nlp.get_pipe("transformer").model.transformer.embeddings.word_embeddings.weight
    before = weights.detach().clone()
    optimizer = create_adamw(learn_rate=5e-3, weight_decay=0.0)
    first = train_step(nlp, examples, optimizer)
    assert not torch.equal(weights, before)
    for _ in range(80):
        last = train_step(nlp, examples, optimizer)
    for name in ("ner", "span_relation"):
        assert last[name] < 0.2 * first[name], name
    nlp.get_pipe("span_relation").cfg["set_ents"] = "off"
    for doc, row in zip(nlp.pipe(TEXTS), ROWS, strict=True):
        assert sorted((e.start, e.end, e.label_) for e in doc.ents) == sorted(row[1])
        assert found(doc) == expected(row)


# Windows


def test_token_is_read_in_the_window_with_most_context(bert_checkpoint: Path) -> None:
    nlp = shared_nlp(bert_checkpoint, get_spans=STRIDED)
    start(nlp)
    doc = nlp.make_doc("John works in Paris and lives in London by the city")
    encoded = encode(nlp, [doc])
    data = doc._.trf_data
    hidden = torch.from_numpy(data.model_output.last_hidden_state)
    # Windows of 6 tokens every 4, each word one piece behind [CLS].
    starts = [0, 4, 8]
    lengths = [min(6, len(doc) - start) for start in starts]
    for token in range(len(doc)):
        room = {
            window: min(token - start, length - 1 - (token - start))
            for window, (start, length) in enumerate(zip(starts, lengths, strict=True))
            if start <= token < start + length
        }
        best = max(room, key=lambda window: (room[window], -window))
        (first, last) = encoded.token_pieces[token].tolist()
        assert encoded.token_window[token] == best
        assert last == first + 1
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


def test_empty_and_blank_docs(bert_checkpoint: Path) -> None:
    # The getter of whole Docs fails on empty ones in spacy-transformers itself.
    nlp = shared_nlp(bert_checkpoint, get_spans=STRIDED)
    examples = start(nlp)
    texts = ["", "  ", "John works in Paris.", "", "\n"]
    assert [doc.text for doc in nlp.pipe(texts)] == texts
    assert [doc.text for doc in nlp.pipe(["", ""])] == ["", ""]
    empty = Example(nlp.make_doc(""), nlp.make_doc(""))
    for batch in ([empty], [empty, *examples, empty]):
        losses = train_step(nlp, batch, create_adamw(learn_rate=1e-3))
        assert np.isfinite(losses["span_relation"])


def test_batches_change_nothing(bert_checkpoint: Path) -> None:
    nlp = shared_nlp(bert_checkpoint)
    start(nlp)
    texts = TEXTS * 3
    one, many = (list(nlp.pipe(texts, batch_size=size)) for size in (1, 64))
    for first, second in zip(one, many, strict=True):
        np.testing.assert_allclose(scores_of(first), scores_of(second), atol=1e-5)


# Traps


def test_without_a_transformer(bert_checkpoint: Path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("span_relation", config={"model": {"encoder": dict(LISTENER)}})
    with pytest.raises(ValueError, match="E_SR213"):
        start(nlp)


def test_upstream_of_another_name(bert_checkpoint: Path) -> None:
    nlp = shared_nlp(bert_checkpoint, encoder={**LISTENER, "upstream": "another"})
    with pytest.raises(ValueError, match="E_SR213.*'another'"):
        start(nlp)


def test_disabled_transformer(bert_checkpoint: Path) -> None:
    nlp = shared_nlp(bert_checkpoint)
    start(nlp)
    with nlp.select_pipes(disable="transformer"), pytest.raises(ValueError, match="E_SR216"):
        nlp("John works in Paris.")


@pytest.mark.parametrize(
    ("frozen", "annotating", "code"),
    [
        (["ner"], [], "E_SR215.*'ner'"),
        (["transformer"], [], "E_SR214.*annotating_components"),
        (["transformer"], ["transformer"], None),
        (["transformer", "ner"], ["transformer"], None),
        ([], [], None),
    ],
)
def test_frozen_components(
    bert_checkpoint: Path, frozen: list[str], annotating: list[str], code: str | None
) -> None:
    nlp = shared_nlp(bert_checkpoint, ner="behind")
    training = {"frozen_components": frozen, "annotating_components": annotating}
    nlp.config["training"] = {**nlp.config["training"], **training}
    if code is None:
        start(nlp)
    else:
        with pytest.raises(ValueError, match=code):
            start(nlp)


def test_frozen_transformer_that_annotates(bert_checkpoint: Path) -> None:
    nlp = shared_nlp(bert_checkpoint)
    examples = start(nlp)
    network = nlp.get_pipe("transformer").model.transformer
    before = [parameter.detach().clone() for parameter in network.parameters()]
    optimizer = create_adamw(learn_rate=1e-2)
    losses = []
    for _ in range(20):
        step: dict[str, float] = {}
        nlp.update(
            examples, sgd=optimizer, losses=step, exclude=["transformer"], annotates=["transformer"]
        )
        losses.append(step["span_relation"])
    assert losses[-1] < 0.8 * losses[0]
    for old, new in zip(before, network.parameters(), strict=True):
        torch.testing.assert_close(old, new)


def test_grad_factor(bert_checkpoint: Path) -> None:
    norms = []
    for factor in (1.0, 0.5, 0.0):
        nlp = shared_nlp(bert_checkpoint, encoder={**LISTENER, "grad_factor": factor})
        examples = start(nlp)
        fix_random_seed(0)
        nlp.update(examples, sgd=False)
        weights = nlp.get_pipe("transformer").model.transformer.embeddings.word_embeddings.weight
        norms.append(float(weights.grad.norm()))
    assert norms[0] > 0
    assert norms[1] == pytest.approx(0.5 * norms[0], rel=1e-3)
    assert norms[2] == 0
