"""A small trained pipeline of each component, whose checkpoint is gone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.language import Language

from ..encoders.util import (
    ENCODERS,
    VARIANTS,
    add_component,
    make_examples,
    make_pipeline,
    predictions,
    train,
)
from ..util import extensions_restored

BERT = next(encoder for encoder in ENCODERS if encoder.name == "bert")
# For each component, a threshold, and the score that it decides.
THRESHOLDS = {
    "span_relation": ("relation_threshold", "rel_f"),
    "relation_classifier": ("threshold", "rel_f"),
    "described": ("threshold", "rel_f"),
    "extractive_qa": ("null_threshold", "qa_f1"),
}


@dataclass(frozen=True)
class Trained:
    """A trained pipeline of one component.

    nlp (Language): The pipeline as it was trained. Not to be changed.
    path (Path): The same on disk, and beside it, with the suffix ".bytes", as bytes.
    losses (list[float]): Loss of each step.
    predictions (list[dict]): From `predictions(nlp)`.
    """

    nlp: Language
    path: Path
    losses: list[float]
    predictions: list[dict[str, Any]]


def uninitialized(component: str, folder: Path, **settings: Any) -> Language:
    """Return a pipeline of the component as the config makes it."""
    nlp = spacy.blank("xx")
    add_component(nlp, component, folder, **settings)
    return nlp


# Loads a pipeline and reads a text, and prints which libraries that imported. Entry points of other
# packages may import transformers whenever a pipeline is made.
ALONE = """
import sys
from importlib.metadata import EntryPoints, distributions

import catalogue

points = [point for distribution in distributions() for point in distribution.entry_points]
ours = [p for p in points if p.value.startswith(("spacy.", "thinc.", "spacy_spanrel."))]
catalogue.AVAILABLE_ENTRY_POINTS = EntryPoints(ours)

import spacy

nlp = spacy.load(sys.argv[1])
nlp("John Smith works for Google in Paris .")
names = ("transformers", "onnx", "torch._dynamo", "tokenizers", "spacy_spanrel")
print([name for name in names if name in sys.modules])
"""


@pytest.fixture(scope="package", autouse=True)
def _extensions() -> Iterator[None]:
    """Remove the extensions with prefixes that pipelines of this folder register."""
    with extensions_restored():
        yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT. Not to be changed."""
    return BERT.save(tmp_path_factory.mktemp("contract") / "bert")


@pytest.fixture(scope="session")
def all_trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    """The trained pipelines of all components; the checkpoint that they began with has moved."""
    home = tmp_path_factory.mktemp("trained")
    checkpoint = BERT.save(home / "checkpoint")
    trained = {}
    for name in VARIANTS:
        nlp = make_pipeline(checkpoint, [name])
        losses = train(nlp)[name]
        path = home / name
        nlp.to_disk(path)
        path.with_suffix(".bytes").write_bytes(nlp.to_bytes())
        trained[name] = Trained(nlp, path, losses, predictions(nlp))
    checkpoint.rename(home / "moved")
    return trained


@pytest.fixture(params=VARIANTS)
def component(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def trained(component: str, all_trained: dict[str, Trained]) -> Trained:
    return all_trained[component]


@pytest.fixture
def loaded(trained: Trained) -> Language:
    """A copy of the trained pipeline, loaded from disk, which a test may change."""
    return spacy.load(trained.path)


@pytest.fixture
def fresh(component: str, folder: Path) -> Language:
    """An initialized pipeline of the component, not trained."""
    return make_pipeline(folder, [component])


@pytest.fixture
def examples(fresh: Language) -> list[Any]:
    return make_examples(fresh)
