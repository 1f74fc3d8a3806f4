from __future__ import annotations

import os

# Before transformers is imported: no test may reach for the network.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import spacy
import torch
from hypothesis import HealthCheck, settings
from spacy.language import Language

from tests.util import extensions_restored, tiny_checkpoint

torch.set_num_threads(1)

# The machine's speed decides nothing, and a failure repeats itself.
settings.register_profile(
    "spanrel",
    deadline=None,
    max_examples=60,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("spanrel")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("spacy_transformers") and not find_spec("spacy_transformers"):
        pytest.skip("spacy-transformers is not installed")


SHARED = Path(__file__).parents[1].parent / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of data and golden results beside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the folder {SHARED} with data and golden results")
    return SHARED


@pytest.fixture
def blank() -> Language:
    """A blank English pipeline."""
    return spacy.blank("en")


@pytest.fixture
def fresh_extensions() -> Iterator[None]:
    """Put the extensions of Doc and Span back as they were after the test."""
    with extensions_restored():
        yield


@pytest.fixture(scope="session")
def bert_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT of 64 positions; do not change its files."""
    return tiny_checkpoint(tmp_path_factory.mktemp("bert") / "checkpoint", "bert")


@pytest.fixture(scope="session")
def roberta_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny RoBERTa of 64 positions; do not change its files."""
    return tiny_checkpoint(tmp_path_factory.mktemp("roberta") / "checkpoint", "roberta")


@pytest.fixture(params=["bert", "roberta"])
def checkpoint(request: pytest.FixtureRequest) -> Path:
    """Each of the two tiny checkpoints in turn."""
    return request.getfixturevalue(f"{request.param}_checkpoint")
