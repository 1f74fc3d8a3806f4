from __future__ import annotations

from pathlib import Path

import pytest
import spacy

from spacy_spanrel import Relation, get_relations, set_relations
from tests.relation_classifier import conftest as pairs
from tests.span_relation import util as spans
from tests.util import initialize, make_doc, train, write_docs

SPAN_SCORER = {"@scorers": "spacy-spanrel.relation_scorer.v1"}


@pytest.fixture(scope="session")
def span_model(bert_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A half-trained `span_relation`."""
    nlp, _ = spans.make_nlp(bert_checkpoint, scorer=SPAN_SCORER, symmetric=["killed"])
    examples = spans.make_examples(nlp)
    initialize(nlp, examples)
    train(nlp, examples, 35)
    path = tmp_path_factory.mktemp("span") / "model"
    nlp.to_disk(path)
    return path


@pytest.fixture(scope="session")
def pair_model(bert_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A half-trained `relation_classifier` after an `entity_ruler`."""
    nlp, _ = pairs.make_nlp(bert_checkpoint, type_constraints="off", symmetric=["killed"])
    examples = pairs.make_examples(nlp)
    initialize(nlp, examples)
    train(nlp, examples, 12)
    pairs.add_ruler(nlp)
    path = tmp_path_factory.mktemp("pair") / "model"
    nlp.to_disk(path)
    return path


@pytest.fixture(scope="session")
def span_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    nlp = spacy.blank("en")
    docs = [make_doc(nlp.vocab, *row, key="entities") for row in spans.ROWS]
    return write_docs(tmp_path_factory.mktemp("data") / "dev.spacy", docs)


@pytest.fixture(scope="session")
def pair_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gold pairs and negative ones. Some labels are wrong, so that no threshold is perfect."""
    nlp = spacy.blank("en")
    docs = pairs.gold_docs(nlp)
    wrong = [Relation(r.head, r.tail, "lives") for r in get_relations(docs[0])]
    set_relations(docs[0], wrong)
    return write_docs(tmp_path_factory.mktemp("data") / "dev.spacy", docs)
