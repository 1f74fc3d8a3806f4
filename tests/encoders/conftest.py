from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from spacy.language import Language
from spacy.tokens import Doc, Span
from transformers import AutoTokenizer

from ..compat.pipelines import save
from .util import ENCODERS, Encoder, make_pipeline, train

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Made:
    """A trained pipeline of all components, and the losses of its training."""

    nlp: Language
    losses: dict[str, list[float]]


@pytest.fixture(scope="package", autouse=True)
def _own_extensions() -> Iterator[None]:
    """Take back the extensions of a component with a prefix of its own."""
    yield
    for kind in (Doc, Span):
        if kind.has_extension("classified_relations"):
            kind.remove_extension("classified_relations")
    for name in ("relation_scores", "pair_scores"):
        if Doc.has_extension(f"classified_{name}"):
            Doc.remove_extension(f"classified_{name}")


@pytest.fixture(scope="session", params=ENCODERS, ids=lambda encoder: encoder.slug)
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return request.param


@pytest.fixture(scope="session")
def save_encoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Encoder], Path]:
    """Save an encoder, once."""
    folder = tmp_path_factory.mktemp("encoders")
    return cache(lambda encoder: encoder.save(folder / encoder.slug))


@pytest.fixture(scope="session")
def make(save_encoder: Callable[[Encoder], Path]) -> Callable[[Encoder], Made]:
    """Make and train the pipeline of an encoder, once."""

    def made(encoder: Encoder) -> Made:
        nlp = make_pipeline(save_encoder(encoder))
        return Made(nlp, train(nlp))

    return cache(made)


@pytest.fixture
def checkpoint(encoder: Encoder, save_encoder: Callable[[Encoder], Path]) -> Path:
    """The encoder's folder. Not to be changed."""
    return save_encoder(encoder)


@pytest.fixture
def own(checkpoint: Path) -> Any:
    """The encoder's tokenizer, loaded without the package."""
    return AutoTokenizer.from_pretrained(checkpoint)


@pytest.fixture
def trained(encoder: Encoder, make: Callable[[Encoder], Made]) -> Made:
    """The pipeline. Not to be changed."""
    return make(encoder)


@pytest.fixture(scope="session")
def fresh_process(
    make: Callable[[Encoder], Made], tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """What a process that loads the pipelines of all encoders from disk says of each."""
    folder = tmp_path_factory.mktemp("saved")
    for encoder in ENCODERS:
        save(make(encoder).nlp, folder, encoder)
    command = [sys.executable, "-m", "tests.compat", "check", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return [*result.stdout.splitlines(), *result.stderr.splitlines()]
