from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import spacy
from spacy.language import Language

from ..extractive_qa.util import model_config as qa_config
from ..extractive_qa.util import qa_checkpoint
from ..span_relation.util import make_examples
from ..span_relation.util import model_config as relation_config
from ..util import initialize
from .util import PATTERNS, rules


@pytest.fixture
def memory() -> Iterator[str]:
    """Return the address of an empty folder in fsspec's storage in memory."""
    system = fsspec.filesystem("memory")
    folder = "/spanrel-tests"
    system.mkdir(folder)
    yield f"memory://{folder}"
    system.rm(folder, recursive=True)


@pytest.fixture(scope="session")
def ruler() -> Language:
    """Return a pipeline that finds entities by rules."""
    return rules()


@pytest.fixture(scope="session")
def full_path(tmp_path_factory: pytest.TempPathFactory, bert_checkpoint: Path) -> Path:
    """Return the folder of a saved pipeline, not to be changed: entities by rules, a relation for every
    pair of them, and answers, the latter two by untrained networks."""
    folder = tmp_path_factory.mktemp("full")
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler")
    relations = {
        "entities": "doc",
        "relation_threshold": 0.01,
        "type_constraints": "off",
        "model": relation_config(bert_checkpoint),
    }
    nlp.add_pipe("span_relation", config=relations)
    answers = {
        "no_answer": False,
        "scorer": None,
        "model": qa_config(qa_checkpoint(folder / "checkpoint")),
    }
    nlp.add_pipe("extractive_qa", config=answers)
    initialize(nlp, make_examples(nlp))
    nlp.get_pipe("entity_ruler").add_patterns(PATTERNS)
    nlp.to_disk(folder / "pipeline")
    return folder / "pipeline"
