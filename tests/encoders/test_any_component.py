"""Checks of every component on every encoder."""

from __future__ import annotations

import math

import pytest
from spacy.language import Language
from spacy.util import load_model_from_config

from .conftest import TrainedPipeline
from .util import COMPONENTS, Encoder, assert_same, predictions


@pytest.fixture(params=COMPONENTS)
def component(request: pytest.FixtureRequest) -> str:
    return request.param


def predictions_of(nlp: Language, component: str, batch_size: int = 8) -> list[dict]:
    """Return the predictions of one component of a pipeline."""
    with nlp.select_pipes(enable=[component]):
        docs = predictions(nlp, batch_size)
    assert all(doc["places"] and doc["numbers"] for doc in docs)
    assert all(math.isfinite(number) for doc in docs for number in doc["numbers"])
    return docs


def test_trains(trained: TrainedPipeline, component: str) -> None:
    """Losses are finite and fall over eight training steps."""
    losses = trained.losses[component]
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[0]


def test_batches(trained: TrainedPipeline, component: str) -> None:
    """Batches of one and of eight give equal predictions, for sentences in five languages and for a
    text longer than a window."""
    assert_same(
        predictions_of(trained.nlp, component, 1), predictions_of(trained.nlp, component, 8)
    )


def test_bytes(trained: TrainedPipeline, component: str) -> None:
    """Predictions stay equal after saving to bytes and loading."""
    again = load_model_from_config(trained.nlp.config, auto_fill=True)
    again.from_bytes(trained.nlp.to_bytes())
    assert_same(predictions_of(again, component), predictions_of(trained.nlp, component))


@pytest.mark.slow
def test_fresh_process(encoder: Encoder, component: str, fresh_process: list[str]) -> None:
    """Predictions stay equal after saving to disk and loading in another process."""
    assert f"equal: {encoder.slug}" in fresh_process, "\n".join(fresh_process)[-3000:]
