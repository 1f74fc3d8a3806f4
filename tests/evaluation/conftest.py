from __future__ import annotations

from pathlib import Path

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example

from spacy_spanrel import Relation, set_relations

from ..extractive_qa import util as qa
from ..relation_classifier import conftest as pairs
from ..span_relation import util as spans
from ..util import initialize, make_doc, tiny_checkpoint, train, write_docs

# Few enough steps that some predictions are wrong.
STEPS = {"span_relation": 25, "relation_classifier": 6, "extractive_qa": 10}
NAMES = list(STEPS)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT."""
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "bert")


@pytest.fixture(scope="session")
def pipelines(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> dict[str, Path]:
    """A saved pipeline for each component, half trained. Tests must not change them."""
    folder = tmp_path_factory.mktemp("pipelines")
    made = {}
    for name in NAMES:
        nlp, examples = _build(name, checkpoint)
        initialize(nlp, examples)
        train(nlp, examples, STEPS[name])
        made[name] = folder / name
        nlp.to_disk(made[name])
    return made


def _build(name: str, checkpoint: Path) -> tuple[Language, list[Example]]:
    if name == "span_relation":
        nlp, _ = spans.make_nlp(checkpoint, relation_threshold=0.2)
        return nlp, spans.make_examples(nlp)
    if name == "relation_classifier":
        nlp, _ = pairs.make_nlp(checkpoint, score_pairs="gold")
        return nlp, pairs.make_examples(nlp)
    scorer = {"@scorers": "spacy-spanrel.qa_scorer.v1"}
    nlp, _ = qa.make_nlp(checkpoint, lang="en", scorer=scorer)
    return nlp, qa.make_examples(nlp)


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A corpus for each component, and one for all of them ("all")."""
    folder = tmp_path_factory.mktemp("corpora")
    nlp = spacy.blank("en")
    docs: dict[str, list[Doc]] = {
        "span_relation": [make_doc(nlp.vocab, *row, key="entities") for row in spans.ROWS],
        "relation_classifier": pairs.gold_docs(nlp),
        "extractive_qa": [qa.gold_doc(nlp, row) for row in qa.ROWS],
        "all": [_everything(nlp, i) for i in range(len(qa.ROWS))],
    }
    return {name: write_docs(folder / f"{name}.spacy", part) for name, part in docs.items()}


def _everything(nlp: Language, i: int) -> Doc:
    """Return a text with the annotations that all components have for it."""
    doc = qa.gold_doc(nlp, qa.ROWS[i])
    other = make_doc(nlp.vocab, *spans.ROWS[i])
    doc.set_ents([Span(doc, e.start, e.end, label=e.label) for e in other.ents])
    entities = list(doc.ents)
    relations = [Relation(entities[h], entities[t], label) for h, t, label in spans.ROWS[i][2]]
    set_relations(doc, relations)
    return doc
