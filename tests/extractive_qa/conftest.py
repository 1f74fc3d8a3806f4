from __future__ import annotations

from pathlib import Path

import pytest
import spacy
from spacy.language import Language

from ..util import initialize, train
from .util import make_examples, make_nlp, qa_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with a random question-answering head. Do not change its files."""
    return qa_checkpoint(tmp_path_factory.mktemp("qa") / "bert")


@pytest.fixture(scope="session")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny RoBERTa with a random question-answering head. Do not change its files."""
    return qa_checkpoint(tmp_path_factory.mktemp("qa") / "roberta", "roberta")


@pytest.fixture(scope="session")
def trained_path(tmp_path_factory: pytest.TempPathFactory, bert_checkpoint: Path) -> Path:
    """A saved pipeline that has memorized the answers of `util.ROWS`. Do not change it."""
    nlp, _ = make_nlp(bert_checkpoint)
    examples = make_examples(nlp)
    initialize(nlp, examples)
    train(nlp, examples, 40)
    path = tmp_path_factory.mktemp("trained") / "pipeline"
    nlp.to_disk(path)
    return path


@pytest.fixture(scope="session")
def _trained(trained_path: Path) -> Language:
    return spacy.load(trained_path)


@pytest.fixture
def trained(_trained: Language) -> Language:
    """The trained pipeline. Changes to `cfg` are undone after each test."""
    pipe = _trained.get_pipe("extractive_qa")
    kept = dict(pipe.cfg)
    yield _trained
    pipe.cfg = kept
