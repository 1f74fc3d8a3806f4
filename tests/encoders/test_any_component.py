"""Every component on every encoder: what all of them have in common."""

from __future__ import annotations

import math

import pytest
from spacy.language import Language
from spacy.util import load_model_from_config

from .conftest import Made
from .util import COMPONENTS, Encoder, assert_same, predictions


@pytest.fixture(params=COMPONENTS)
def component(request: pytest.FixtureRequest) -> str:
    return request.param


def alone(nlp: Language, component: str, batch_size: int = 8) -> list[dict]:
    """What one component of a pipeline says."""
    with nlp.select_pipes(enable=[component]):
        found = predictions(nlp, batch_size)
    assert all(doc["places"] and doc["numbers"] for doc in found)
    assert all(math.isfinite(number) for doc in found for number in doc["numbers"])
    return found


def test_trains(trained: Made, component: str) -> None:
    """Eight steps of training: losses are finite and fall."""
    losses = trained.losses[component]
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[0]


def test_batches(trained: Made, component: str) -> None:
    """Predictions for sentences in five languages and for a text longer than a window, in batches of
    one and of eight, are equal."""
    assert_same(alone(trained.nlp, component, 1), alone(trained.nlp, component, 8))


def test_bytes(trained: Made, component: str) -> None:
    """Saved to bytes and loaded: equal predictions."""
    again = load_model_from_config(trained.nlp.config, auto_fill=True)
    again.from_bytes(trained.nlp.to_bytes())
    assert_same(alone(again, component), alone(trained.nlp, component))


def test_fresh_process(encoder: Encoder, component: str, fresh_process: list[str]) -> None:
    """Saved to disk and loaded by another process: equal predictions."""
    assert f"equal: {encoder.slug}" in fresh_process, "\n".join(fresh_process)[-3000:]
