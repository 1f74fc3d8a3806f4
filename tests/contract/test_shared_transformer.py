"""The encoder of `span_relation` over a transformer that components share, of either package."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.training import Example
from spacy.util import fix_random_seed, load_model_from_config

from spacy_spanrel.training.optimizer import create_adamw

from ..encoding import util
from ..span_relation.util import (
    ROWS,
    TEXTS,
    annotations_of,
    expected,
    scores_of,
    start,
    the_pipe,
    train_step,
)
from ..util import tiny_checkpoint

GOLD = [expected(row) for row in ROWS]


@dataclass(frozen=True)
class Slot:
    """What takes the place of the encoder.

    make (Callable[..., Language]): Makes the pipeline of a checkpoint, with an NER "before" or
        "behind" `span_relation` if `ner` says so.
    windows (dict[str, Any]): Settings of `make` for windows that overlap, where it has them.
    listener (dict[str, Any]): Settings of the encoder.
    weights (Callable[[Any], torch.Tensor]): Weights of the model of a transformer.
    missing (str): Number of the error without a transformer.
    disabled (str): Number of the error with a transformer that is disabled.
    grad_factor (float): A factor that a copy of the transformer keeps.
    """

    make: Callable[..., Language]
    windows: dict[str, Any]
    listener: dict[str, Any]
    weights: Callable[[Any], torch.Tensor]
    missing: str
    disabled: str = "E_SR216"
    grad_factor: float = 0.5


SLOTS = {
    "spacy-transformers": Slot(
        util.shared_nlp,
        {"get_spans": util.STRIDED},  # doc_spans, the default, fails on empty Docs
        util.LISTENER,
        lambda model: util.word_embeddings(model.transformer),
        "E_SR213",
    ),
    "spacy-curated-transformers": Slot(
        util.curated_nlp, {}, util.CURATED_LISTENER, util.curated_weights, "E_SR233"
    ),
    "tok2vec": Slot(
        util.tok2vec_nlp,
        {"max_length": 12},
        util.TOK2VEC_LISTENER,
        util.hf_weights,
        "E_SR234",
        "E_SR228",
        1.0,
    ),
}


@pytest.fixture(
    params=[
        pytest.param(name, marks=[pytest.mark.spacy_transformers][: name == "spacy-transformers"])
        for name in SLOTS
    ]
)
def slot(request: pytest.FixtureRequest) -> Slot:
    if request.param != "tok2vec":
        pytest.importorskip(request.param.replace("-", "_"))
    return SLOTS[request.param]


@pytest.fixture
def trainable(slot: Slot) -> Slot:
    if slot.make is util.curated_nlp and not util.CURATED_TRAINS:
        pytest.skip("spacy-curated-transformers 0.3 cannot be trained with numpy 2.4")
    return slot


def weights_of(slot: Slot, nlp: Language) -> torch.Tensor:
    return slot.weights(nlp.get_pipe("transformer").model)


@pytest.mark.parametrize("ner", ["before", "behind"])
def test_learns_together_with_an_ner(
    trainable: Slot, bert_checkpoint: Path, tmp_path: Path, ner: str
) -> None:
    """Both components learn, and a saved pipeline does not need the checkpoint."""
    folder = tiny_checkpoint(tmp_path / "encoder")
    nlp = trainable.make(folder, ner=ner)
    examples = start(nlp)
    before = weights_of(trainable, nlp).detach().clone()
    optimizer = create_adamw(learn_rate=5e-3, weight_decay=0.0)
    first = train_step(nlp, examples, optimizer)
    for _ in range(80):
        last = train_step(nlp, examples, optimizer)
    assert not torch.equal(weights_of(trainable, nlp), before)
    for name in ("ner", "span_relation"):
        assert last[name] < 0.2 * first[name], name
    nlp.get_pipe("span_relation").cfg["set_ents"] = "off"
    scores = [scores_of(doc) for doc in nlp.pipe(TEXTS)]
    folder.rename(tmp_path / "moved")
    nlp.to_disk(tmp_path / "pipeline")
    loaded = spacy.load(tmp_path / "pipeline")
    for other in (nlp, loaded, pickle.loads(pickle.dumps(loaded))):
        docs = list(other.pipe(TEXTS))
        assert [annotations_of(doc) for doc in docs] == GOLD
        for doc, wanted, row in zip(docs, scores, ROWS, strict=True):
            np.testing.assert_allclose(scores_of(doc), wanted, atol=1e-5)
            assert sorted((e.start, e.end, e.label_) for e in doc.ents) == sorted(row[1])


def test_two_passes_are_refused(trainable: Slot, bert_checkpoint: Path) -> None:
    nlp = trainable.make(bert_checkpoint)
    examples = start(nlp)
    the_pipe(nlp).cfg["r_drop"] = 1.0
    with pytest.raises(ValueError, match="E_SR314.*listener"):
        train_step(nlp, examples, create_adamw())


def test_averages(trainable: Slot, bert_checkpoint: Path) -> None:
    """The averages of all weights of this package and of the NER are what is saved; the weights of
    another package's transformer remain as they are."""
    nlp = trainable.make(bert_checkpoint, ner="before")
    examples = start(nlp)
    optimizer = create_adamw(learn_rate=5e-3, average_decay=0.9)
    for _ in range(3):
        train_step(nlp, examples, optimizer)

    def saved() -> Language:
        return load_model_from_config(nlp.config).from_bytes(nlp.to_bytes())

    raw = weights_of(trainable, nlp).detach().clone()
    docs = list(nlp.pipe(TEXTS))
    with nlp.use_params(optimizer.averages):
        averaged, loaded = (list(one.pipe(TEXTS)) for one in (nlp, saved()))
        is_averaged = not torch.equal(weights_of(trainable, nlp), raw)
    assert is_averaged == (trainable.make is util.tok2vec_nlp)
    assert torch.equal(weights_of(trainable, nlp), raw)
    for pair in zip((averaged, docs), (loaded, nlp.pipe(TEXTS)), strict=True):
        for one, other in zip(*pair, strict=True):
            assert annotations_of(one) == annotations_of(other)
            np.testing.assert_allclose(scores_of(one), scores_of(other), atol=1e-5)


def test_gradient_of_the_transformer(trainable: Slot, bert_checkpoint: Path) -> None:
    """A listener, and the copy of the transformer that replaces it, pass the same gradient on."""
    gradients = []
    for is_replaced in (False, True):
        nlp = trainable.make(
            bert_checkpoint, encoder={**trainable.listener, "grad_factor": trainable.grad_factor}
        )
        examples = start(nlp)
        weights = weights_of(trainable, nlp)
        if is_replaced:
            nlp.replace_listeners("transformer", "span_relation", ["model.encoder"])
            nlp.disable_pipe("transformer")
            encoder = the_pipe(nlp).model.get_ref("encoder")
            weights = trainable.weights(encoder.layers[0] if encoder.layers else encoder)
        fix_random_seed(0)
        nlp.update(examples, sgd=False)
        assert weights.grad is not None
        gradients.append(weights.grad.clone())
    assert float(gradients[0].norm()) > 0
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)


def test_batches_and_empty_docs_change_nothing(slot: Slot, bert_checkpoint: Path) -> None:
    nlp = slot.make(bert_checkpoint, **slot.windows)
    examples = start(nlp)
    texts = [*TEXTS, "", "  ", *TEXTS, "\n"]
    one, many = (list(nlp.pipe(texts, batch_size=size)) for size in (1, 64))
    assert [doc.text for doc in many] == texts
    for first, second in zip(one, many, strict=True):
        np.testing.assert_allclose(scores_of(first), scores_of(second), atol=1e-5)
    assert [doc.text for doc in nlp.pipe(["", ""])] == ["", ""]
    if slot.make is not util.curated_nlp:
        empty = Example(nlp.make_doc(""), nlp.make_doc(""))
        for batch in ([empty], [empty, *examples, empty]):
            losses = train_step(nlp, batch, create_adamw(learn_rate=1e-3))
            assert np.isfinite(losses["span_relation"])


def test_frozen_transformer_that_annotates(slot: Slot, bert_checkpoint: Path) -> None:
    nlp = slot.make(bert_checkpoint)
    examples = start(nlp)
    before = weights_of(slot, nlp).detach().clone()
    optimizer = create_adamw(learn_rate=1e-2)
    name, losses = ["transformer"], []
    for _ in range(15):
        step: dict[str, float] = {}
        nlp.update(examples, sgd=optimizer, losses=step, exclude=name, annotates=name)
        losses.append(step["span_relation"])
    assert losses[-1] < 0.8 * losses[0]
    assert torch.equal(weights_of(slot, nlp), before)


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
    slot: Slot, bert_checkpoint: Path, frozen: list[str], annotating: list[str], code: str | None
) -> None:
    nlp = slot.make(bert_checkpoint, ner="behind")
    training = {"frozen_components": frozen, "annotating_components": annotating}
    nlp.config["training"] = {**nlp.config["training"], **training}
    if code is None:
        start(nlp)
    else:
        with pytest.raises(ValueError, match=code):
            start(nlp)


def test_disabled_transformer(slot: Slot, bert_checkpoint: Path) -> None:
    nlp = slot.make(bert_checkpoint)
    start(nlp)
    with nlp.select_pipes(disable="transformer"), pytest.raises(ValueError, match=slot.disabled):
        nlp("John works in Paris.")


def test_without_a_transformer(slot: Slot) -> None:
    nlp = spacy.blank("xx")
    nlp.add_pipe("span_relation", config={"model": {"encoder": dict(slot.listener)}})
    with pytest.raises(ValueError, match=slot.missing):
        start(nlp)
