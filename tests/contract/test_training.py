"""Updates, labels and errors."""

from __future__ import annotations

import math
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import load_model_from_config

from spacy_spanrel.encoding.shim import torch_shims
from spacy_spanrel.training.optimizer import create_adamw

from ..encoders.util import (
    COMPONENTS,
    RELATIONS,
    assert_same,
    make_examples,
    make_pipeline,
    predictions,
)
from .conftest import Trained, uninitialized

LABELLED = ("span_relation", "relation_classifier")


def weights_of(nlp: Language, component: str) -> list[torch.Tensor]:
    shims = torch_shims(nlp.get_pipe(component).model)
    return [p.detach().clone() for shim in shims for p in shim.module.parameters()]


def gradients_of(nlp: Language, component: str) -> list[torch.Tensor]:
    shims = torch_shims(nlp.get_pipe(component).model)
    return [
        torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for shim in shims
        for p in shim.module.parameters()
    ]


def test_learns(trained: Trained) -> None:
    assert all(math.isfinite(loss) for loss in trained.losses)
    # Those of "described" labels differ from step to step, with the labels that are drawn.
    assert min(trained.losses[-2:]) < 0.9 * max(trained.losses[:2])
    assert all(found["places"] for found in trained.predictions)


def update(pipe: Any, examples: list[Example], **arguments: Any) -> dict[str, float]:
    """Update with the same random numbers each time: labels of "described" are drawn in each step."""
    if hasattr(pipe, "_rng"):
        pipe._rng = np.random.default_rng(0)
    losses: dict[str, float] = pipe.update(examples, **arguments)
    return losses


def test_losses_have_the_component(fresh: Language, component: str) -> None:
    pipe = fresh.get_pipe(component)
    assert pipe.update([])[component] == 0.0
    losses = pipe.update([Example(Doc(fresh.vocab), Doc(fresh.vocab))], losses={"other": 2.0})
    assert losses["other"] == 2.0
    assert losses[component] == 0.0
    assert set(losses) == {"other", *pipe.loss_names}


def test_gradients_add_up(fresh: Language, component: str) -> None:
    """Without an optimizer weights stay, and gradients and losses are added to; with one, weights
    change and gradients are gone. (The negatives of span_relation are drawn anew each time.)"""
    pipe = fresh.get_pipe(component)
    if component == "span_relation":
        pipe.cfg.update(neg_entity_count=10**6)  # all of them
    before = weights_of(fresh, component)
    losses = update(pipe, make_examples(fresh))
    loss, once = losses[component], gradients_of(fresh, component)
    assert any(gradient.any() for gradient in once)
    update(pipe, make_examples(fresh), losses=losses)
    assert losses[component] == pytest.approx(2 * loss)
    for twice, gradient in zip(gradients_of(fresh, component), once, strict=True):
        torch.testing.assert_close(twice, 2 * gradient, atol=1e-5, rtol=1e-4)
    assert all(map(torch.equal, weights_of(fresh, component), before))
    pipe.finish_update(create_adamw(learn_rate=1e-3))
    assert not any(gradient.any() for gradient in gradients_of(fresh, component))
    assert not all(map(torch.equal, weights_of(fresh, component), before))


def test_gradient_is_that_of_the_loss(fresh: Language, component: str) -> None:
    """Along any direction, the loss grows as the gradient says: a central difference for random
    steps of random halves of the weights."""
    pipe = fresh.get_pipe(component)
    if component == "span_relation":
        pipe.cfg.update(neg_entity_count=10**6, neg_relation_count=10**6)  # all of them
    examples = make_examples(fresh)
    update(pipe, examples)
    gradients = gradients_of(fresh, component)
    weights = [p for shim in torch_shims(pipe.model) for p in shim.module.parameters()]
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        steps = []
        for gradient in gradients:
            chosen = torch.rand(1, generator=generator) < 0.5
            factors = torch.rand(gradient.shape, generator=generator) * chosen
            steps.append(factors * gradient / gradient.norm().clamp_min(1e-12))
        slope = sum(float((s * g).sum()) for s, g in zip(steps, gradients, strict=True))
        scale = 2e-3 / slope  # large beside rounding, and small beside the curvature
        losses = []
        for sign in (1, -2):
            with torch.no_grad():
                for weight, change in zip(weights, steps, strict=True):
                    weight += sign * scale * change
            losses.append(update(pipe, examples)[component])
        with torch.no_grad():
            for weight, change in zip(weights, steps, strict=True):
                weight += scale * change
        assert (losses[0] - losses[1]) / (2 * scale) == pytest.approx(slope, rel=0.02)


def test_two_passes(folder: Path, component: str) -> None:
    """Without dropout two passes agree, and their loss and gradients are those of one pass; with dropout
    they do not agree."""
    losses = {}
    gradients = {}
    for dropout in (0.0, 0.5):
        for r_drop in (0.0, 1.0, 2.0):
            changed: dict[str, Any] = {"dropout": dropout}
            if component == "span_relation":
                changed = {"dropout": 0.0, "encoder": {"dropout": dropout}}
            nlp = make_pipeline(folder, [component], **{component: {"model": changed}})
            pipe = nlp.get_pipe(component)
            pipe.cfg["r_drop"] = r_drop
            torch.manual_seed(0)
            losses[dropout, r_drop] = update(pipe, make_examples(nlp))[component]
            gradients[dropout, r_drop] = gradients_of(nlp, component)
    assert losses[0.0, 1.0] == pytest.approx(losses[0.0, 0.0], rel=1e-4)
    for one, two in zip(gradients[0.0, 0.0], gradients[0.0, 1.0], strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-3)
    assert losses[0.5, 2.0] > losses[0.5, 1.0] + 1e-4


def test_averages(loaded: Language, component: str) -> None:
    """Predictions follow the weights, whatever was prepared from others, and averages are saved."""
    optimizer = create_adamw(learn_rate=1e-2, average_decay=0.9)
    for _ in range(3):
        loaded.update(make_examples(loaded), sgd=optimizer)
    raw = predictions(loaded)
    with loaded.use_params(optimizer.averages):
        averaged = predictions(loaded)
        data = loaded.to_bytes()
    assert averaged != raw
    assert_same(predictions(loaded), raw)
    assert_same(predictions(load_model_from_config(loaded.config).from_bytes(data)), averaged)


def test_not_initialized(component: str, folder: Path) -> None:
    nlp = uninitialized(component, folder)
    pipe = nlp.get_pipe(component)
    assert not pipe.is_initialized
    with pytest.raises(ValueError, match="E_SR203"):
        predictions(nlp)
    nlp.initialize(lambda: make_examples(nlp))
    assert pipe.is_initialized


@pytest.mark.parametrize("component", LABELLED)
def test_labels_before_and_after_initialization(component: str, folder: Path) -> None:
    nlp = uninitialized(component, folder)
    pipe = nlp.get_pipe(component)
    assert [pipe.add_label("visits"), pipe.add_label("visits")] == [1, 0]
    nlp.initialize(lambda: make_examples(nlp))
    assert {"visits", *RELATIONS} <= set(pipe.labels)
    assert pipe.add_label("visits") == 0
    with pytest.raises(ValueError, match=r"E_SR303.*'late'"):
        pipe.add_label("late")


@pytest.mark.parametrize("component", LABELLED)
def test_a_new_network_has_read_nothing(folder: Path, component: str) -> None:
    """The warning of paragraphs is about the texts of the training that a network has had."""
    nlp = make_pipeline(folder, [component])
    pipe: Any = nlp.get_pipe(component)
    pipe.update(make_examples(nlp))
    assert pipe.cfg["sentences_seen"] != [0, 0]
    nlp.initialize(lambda: make_examples(nlp))
    assert pipe.cfg["sentences_seen"] == [0, 0]


@pytest.mark.parametrize("component", LABELLED)
def test_label_data_stand_for_data(component: str, folder: Path) -> None:
    """What `spacy init labels` writes makes the same component."""
    first = make_pipeline(folder, [component]).get_pipe(component)
    nlp = uninitialized(component, folder)
    second = nlp.get_pipe(component)
    second.initialize(lambda: make_examples(nlp), nlp=nlp, labels=first.label_data)
    assert second.labels == first.labels
    assert second.label_data == first.label_data


@pytest.mark.parametrize("component", LABELLED)
def test_no_labels(component: str, folder: Path) -> None:
    nlp = uninitialized(component, folder)
    bare = Example(nlp.make_doc("Mary"), nlp.make_doc("Mary"))
    with pytest.raises(ValueError, match=r"E_SR(301|701)"):
        nlp.initialize(lambda: [bare])


@pytest.mark.parametrize("wrong", [["no Example"], [1]])
def test_what_is_no_example_is_refused(fresh: Language, component: str, wrong: list[Any]) -> None:
    pipe = fresh.get_pipe(component)
    for use in (lambda: pipe.update(wrong), lambda: pipe.initialize(lambda: wrong)):
        with pytest.raises(TypeError, match="E978"):
            use()


def test_float16_is_refused_on_the_cpu(trained: Trained, component: str) -> None:
    model = {"precision": "float16"}
    change = {"model": {"encoder": model} if component == "span_relation" else model}
    nlp = spacy.load(trained.path, config={"components": {component: change}})
    for use in (lambda: predictions(nlp), lambda: nlp.update(make_examples(nlp))):
        with pytest.raises(ValueError, match=r"E_SR208.*'cpu'"):
            use()


def test_all_components_are_here() -> None:
    ours = {
        e.name for e in entry_points(group="spacy_factories") if e.value.startswith("spacy_spanrel")
    }
    assert ours == set(COMPONENTS)
