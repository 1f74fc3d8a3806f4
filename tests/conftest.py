from __future__ import annotations

import os

# Before transformers is imported: no test may reach for the network.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from pathlib import Path

import pytest
import spacy
import torch
from hypothesis import HealthCheck, settings
from spacy.language import Language
from spacy.tokens import Doc, Span

from tests.util import tiny_checkpoint

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

SHARED = Path(__file__).parents[1].parent / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests that take minutes, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow: run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


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
def fresh_extensions() -> object:
    """Put the extensions of Doc and Span back as they were after the test."""
    kept = [(kind, _extensions(kind)) for kind in (Doc, Span)]
    yield
    for kind, before in kept:
        for name in set(_extensions(kind)) - set(before):
            kind.remove_extension(name)
        for name, (default, method, getter, setter) in before.items():
            given = {"method": method} if method else {"getter": getter, "setter": setter}
            if not method and getter is None:
                given = {"default": default}
            kind.set_extension(name, force=True, **given)


def _extensions(kind: type) -> dict[str, tuple]:
    from spacy.tokens.underscore import Underscore

    table = {Doc: Underscore.doc_extensions, Span: Underscore.span_extensions}[kind]
    return dict(table)


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
