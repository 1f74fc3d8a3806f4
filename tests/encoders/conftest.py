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
from transformers import AutoTokenizer

from ..compat.pipelines import save
from ..util import extensions_restored
from .util import ENCODERS, Encoder, make_pipeline, train

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class TrainedPipeline:
    """A trained pipeline of all components, and its training losses."""

    nlp: Language
    losses: dict[str, list[float]]


@pytest.fixture(scope="package", autouse=True)
def _extensions() -> Iterator[None]:
    """Remove the extensions with prefixes that pipelines of this folder register."""
    with extensions_restored():
        yield


@pytest.fixture(scope="session", params=ENCODERS, ids=lambda encoder: encoder.slug)
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return request.param


@pytest.fixture(scope="session")
def save_encoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Encoder], Path]:
    """Return a function that saves each encoder once."""
    folder = tmp_path_factory.mktemp("encoders")
    return cache(lambda encoder: encoder.save(folder / encoder.slug))


@pytest.fixture(scope="session")
def make(save_encoder: Callable[[Encoder], Path]) -> Callable[[Encoder], TrainedPipeline]:
    """Return a function that makes and trains the pipeline of each encoder once."""

    def make_and_train(encoder: Encoder) -> TrainedPipeline:
        nlp = make_pipeline(save_encoder(encoder))
        return TrainedPipeline(nlp, train(nlp))

    return cache(make_and_train)


@pytest.fixture
def checkpoint(encoder: Encoder, save_encoder: Callable[[Encoder], Path]) -> Path:
    """The encoder's folder, which tests must not change."""
    return save_encoder(encoder)


@pytest.fixture
def hf_tokenizer(checkpoint: Path) -> Any:
    """The encoder's tokenizer, loaded by transformers alone."""
    return AutoTokenizer.from_pretrained(checkpoint)


@pytest.fixture
def trained(encoder: Encoder, make: Callable[[Encoder], TrainedPipeline]) -> TrainedPipeline:
    """The trained pipeline of the encoder, which tests must not change."""
    return make(encoder)


@pytest.fixture(scope="session")
def fresh_process(
    make: Callable[[Encoder], TrainedPipeline], tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """The output of a process that loads the pipelines of all encoders and compares predictions."""
    folder = tmp_path_factory.mktemp("saved")
    for encoder in ENCODERS:
        save(make(encoder).nlp, folder, encoder)
    command = [sys.executable, "-m", "tests.compat", "check", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return [*result.stdout.splitlines(), *result.stderr.splitlines()]
