"""spaCy's own components on the vectors of `HFTok2Vec`, used as spaCy's users know it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.training import Example

from spacy_spanrel.training.optimizer import create_adamw

from ..encoders.util import ENCODERS, HIDDEN
from ..span_relation.util import TEXTS, train_step
from ..util import initialize, tiny_checkpoint
from .util import (
    COMPONENTS,
    LISTENER,
    WIDTH,
    add_component,
    gold_examples,
    make_pipeline,
    predictions_of,
    print_in_two_processes,
    tok2vec_model,
    weights_of,
)


def all_predictions(nlp: Language, **settings: Any) -> list[dict[str, Any]]:
    return [predictions_of(doc) for doc in nlp.pipe(TEXTS, **settings)]


def fit(nlp: Language, examples: list[Example], steps: int, **optimizer: Any) -> dict[str, float]:
    """Train on all examples, and return the last loss of each component by its first loss."""
    sgd = create_adamw(
        **{"learn_rate": 3e-3, "head_learn_rate": 3e-2, "weight_decay": 0.0} | optimizer
    )
    losses = [train_step(nlp, examples, sgd) for _ in range(steps)]
    return {name: losses[-1][name] / losses[0][name] for name in losses[0] if name != "tok2vec"}


@pytest.fixture(scope="module")
def trained_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline of all components that has learned its Docs by heart; its checkpoint has moved."""
    home = tmp_path_factory.mktemp("tok2vec")
    checkpoint = tiny_checkpoint(home / "checkpoint")
    nlp = make_pipeline(tok2vec_model(checkpoint), COMPONENTS)
    examples = gold_examples(nlp)
    initialize(nlp, examples)
    before = weights_of(nlp.get_pipe("tok2vec").model).detach().clone()
    ratios = fit(nlp, examples, 40)
    assert all(ratio < 0.3 for ratio in ratios.values()), ratios
    assert not torch.equal(weights_of(nlp.get_pipe("tok2vec").model), before)
    gold = [predictions_of(example.reference) for example in examples]
    assert all_predictions(nlp) == gold
    nlp.to_disk(home / "pipeline")
    (home / "pipeline.bytes").write_bytes(nlp.to_bytes())
    checkpoint.rename(home / "moved")
    return home / "pipeline"


@pytest.fixture
def nlp(trained_path: Path) -> Language:
    return spacy.load(trained_path)


@pytest.fixture
def gold(nlp: Language) -> list[dict[str, Any]]:
    return [predictions_of(example.reference) for example in gold_examples(nlp)]


def test_saved(trained_path: Path, nlp: Language, gold: list[dict[str, Any]]) -> None:
    """Saved pipelines predict what they had learned, in every form, without the checkpoint."""
    assert all_predictions(nlp) == gold
    from_bytes = spacy.blank("xx").from_config(nlp.config)
    from_bytes.from_bytes(trained_path.with_suffix(".bytes").read_bytes())
    assert all_predictions(from_bytes) == gold
    assert all_predictions(pickle.loads(pickle.dumps(nlp))) == gold
    for name in COMPONENTS:
        (listener,) = nlp.get_pipe("tok2vec").listener_map[name]
        assert listener.get_dim("nO") == nlp.get_pipe("tok2vec").model.get_dim("nO")


def test_two_processes(trained_path: Path, gold: list[dict[str, Any]], tmp_path: Path) -> None:
    printed = print_in_two_processes("tests.tok2vec.util", "predictions_of", trained_path, tmp_path)
    assert printed == f"{gold}\n" * 2


def test_empty_docs(nlp: Language, gold: list[dict[str, Any]]) -> None:
    docs = list(nlp.pipe(["", *TEXTS, " ", "\n"], batch_size=3))
    assert [predictions_of(doc) for doc in docs[1:-2]] == gold
    assert [doc.tensor.shape for doc in docs] == [(len(doc), WIDTH) for doc in docs]
    assert not docs[-1].tensor.any()
    empty = Example(nlp.make_doc(""), nlp.make_doc(""))
    for batch in ([empty], [empty, *gold_examples(nlp)]):
        losses = train_step(nlp, batch, create_adamw(learn_rate=1e-4))
        assert np.isfinite(list(losses.values())).all()


@pytest.mark.parametrize("name", COMPONENTS)
def test_replace_listeners(
    nlp: Language, gold: list[dict[str, Any]], name: str, tmp_path: Path
) -> None:
    """A component with a copy of the encoder predicts the same, learns alone, and is saved."""
    nlp.replace_listeners("tok2vec", name, ["model.tok2vec"])
    assert nlp.get_pipe_config(name)["model"]["tok2vec"]["@architectures"] == (
        "spacy-spanrel.HFTok2Vec.v1"
    )
    shared, copied = (weights_of(nlp.get_pipe(pipe).model) for pipe in ("tok2vec", name))
    assert shared is not copied
    assert torch.equal(shared, copied)
    nlp.to_disk(tmp_path)
    for other in (nlp, spacy.load(tmp_path)):
        assert all_predictions(other) == gold
    before = shared.detach().clone()
    with nlp.select_pipes(enable=[name]):
        fit(nlp, gold_examples(nlp), 1)
    assert torch.equal(shared, before)
    assert not torch.equal(copied, before)


def test_sourced(nlp: Language, gold: list[dict[str, Any]], tmp_path: Path) -> None:
    """Components of another pipeline with its `tok2vec`, or with a copy of it for themselves."""
    target = spacy.blank("xx", vocab=nlp.vocab)
    for name in ("tok2vec", "tagger", "ner"):
        target.add_pipe(name, source=nlp)
    target.to_disk(tmp_path / "shared")
    config = target.config.copy()
    config["components"]["tagger"] = {
        "source": str(tmp_path / "shared"),
        "replace_listeners": ["model.tok2vec"],
    }
    config["components"]["ner"] = {"source": str(tmp_path / "shared")}
    config["components"]["tok2vec"] = {"source": str(tmp_path / "shared")}
    replaced = spacy.util.load_model_from_config(config, auto_fill=True)
    assert list(replaced.get_pipe("tok2vec").listener_map) == ["ner"]
    for other in (target, spacy.load(tmp_path / "shared"), replaced):
        for doc, wanted in zip(other.pipe(TEXTS), gold, strict=True):
            predictions = predictions_of(doc)
            for name in ("tagger", "ner"):
                assert predictions[name] == wanted[name]


def test_frozen_and_annotating(nlp: Language) -> None:
    """With a frozen `tok2vec` that annotates, listeners learn from `doc.tensor`."""
    model = nlp.get_pipe("tok2vec").model
    examples = gold_examples(nlp)
    heads = spacy.blank("xx")
    heads.add_pipe("tok2vec", source=nlp)
    for name in COMPONENTS:
        add_component(heads, name, LISTENER)
    with heads.select_pipes(disable="tok2vec"):
        initialize(heads, examples)
    before = weights_of(model).detach().clone()
    optimizer = create_adamw(learn_rate=3e-2, weight_decay=0.0)
    losses: list[dict[str, float]] = []
    for _ in range(20):
        losses.append({})
        names = ["tok2vec"]
        heads.update(examples, sgd=optimizer, losses=losses[-1], exclude=names, annotates=names)
    assert torch.equal(weights_of(model), before)
    for name in COMPONENTS:
        assert losses[-1][name] < 0.8 * losses[0][name], name


@pytest.mark.parametrize("moving", ["encoder", "heads"])
def test_learning_rates(nlp: Language, moving: str) -> None:
    """`learn_rate` is that of the encoder, `head_learn_rate` that of spaCy's own layers."""
    rates = (1e-3, 0.0) if moving == "encoder" else (0.0, 1e-3)
    before = heads_of(nlp), weights_of(nlp.get_pipe("tok2vec").model).detach().clone()
    fit(nlp, gold_examples(nlp), 2, learn_rate=rates[0], head_learn_rate=rates[1])
    heads, encoder = heads_of(nlp), weights_of(nlp.get_pipe("tok2vec").model)
    assert torch.equal(encoder, before[1]) == (moving == "heads")
    for name, weights in heads.items():
        assert np.array_equal(weights, before[0][name]) == (moving == "encoder"), name


def heads_of(nlp: Language) -> dict[str, Any]:
    """Copy the weights of the output layers of the components."""
    heads = {}
    for name in COMPONENTS:
        model = nlp.get_pipe(name).model
        nodes = [node for node in model.walk() if node.has_param("W")]
        heads[name] = nodes[-1].get_param("W").copy()
    return heads


@pytest.mark.parametrize("name", COMPONENTS)
@pytest.mark.parametrize("pooling", ["mean", "max", "first"])
def test_without_a_listener(bert_checkpoint: Path, name: str, pooling: str) -> None:
    """The architecture also fills the model of a component directly."""
    model = tok2vec_model(bert_checkpoint, pooling, casing=True, frozen_layers=1)
    nlp = make_pipeline(model, [name], None)
    examples = gold_examples(nlp)
    initialize(nlp, examples)
    before = weights_of(nlp.get_pipe(name).model).detach().clone()
    ratios = fit(nlp, examples, 25)
    assert ratios[name] < 0.6
    assert torch.equal(weights_of(nlp.get_pipe(name).model), before)  # frozen_layers


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: encoder.name)
def test_any_encoder(encoder: Any, tmp_path: Path) -> None:
    """Tagger and NER learn on every encoder, and predict the same after loading."""
    checkpoint = encoder.save(tmp_path / "checkpoint")
    model = {**tok2vec_model(checkpoint), "width": None}
    nlp = make_pipeline(model, ["tagger", "ner"], {**LISTENER, "width": HIDDEN})
    examples = gold_examples(nlp)
    initialize(nlp, examples)
    assert nlp.get_pipe("tok2vec").model.get_dim("nO") == HIDDEN
    ratios = fit(nlp, examples, 12)
    assert all(ratio < 0.9 for ratio in ratios.values()), ratios
    predictions = all_predictions(nlp)
    nlp.to_disk(tmp_path / "pipeline")
    assert all_predictions(spacy.load(tmp_path / "pipeline")) == predictions
