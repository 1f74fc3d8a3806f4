from __future__ import annotations

from pathlib import Path

import pytest
import spacy
from spacy.language import Language

from ..util import initialize, tiny_checkpoint, train
from .util import make_examples, make_nlp


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT."""
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "bert")


@pytest.fixture(scope="session")
def trained_path(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """A pipeline on disk that has learned `util.ROWS` by heart. Tests must not change it."""
    nlp, _ = make_nlp(checkpoint)
    examples = make_examples(nlp)
    initialize(nlp, examples)
    train(nlp, examples, 80)
    path = tmp_path_factory.mktemp("trained") / "pipeline"
    nlp.to_disk(path)
    return path


@pytest.fixture(scope="session")
def _trained(trained_path: Path) -> Language:
    return spacy.load(trained_path)


@pytest.fixture
def trained(_trained: Language) -> Language:
    """The trained pipeline. Settings in `cfg` that a test changes are restored after it."""
    pipe = _trained.get_pipe("span_relation")
    settings = dict(pipe.cfg)
    yield _trained
    pipe.cfg = settings
