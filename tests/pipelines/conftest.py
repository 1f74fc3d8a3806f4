"""Existing pipelines, and components that were trained separately."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from spacy_spanrel import get_answers

from ..extractive_qa.util import make_examples as qa_examples
from ..extractive_qa.util import make_nlp as make_qa
from ..relation_classifier.conftest import ROWS, TEXTS
from ..relation_classifier.conftest import found as found_pairs
from ..relation_classifier.conftest import make_examples as pair_examples
from ..relation_classifier.conftest import model_config as pair_model
from ..span_relation.util import annotations_of, make_examples, make_nlp
from ..util import extensions_restored, initialize, make_doc, train

NAMES = ["span_relation", "relation_classifier", "extractive_qa"]
QUESTIONS = {"lives": "who lives in London ?", "born": "where was he born ?"}


def tok2vec(listener: bool) -> dict[str, Any]:
    if listener:
        return {"@architectures": "spacy.Tok2VecListener.v1", "width": 32, "upstream": "tok2vec"}
    return {
        "@architectures": "spacy.HashEmbedCNN.v2",
        "width": 32,
        "depth": 1,
        "embed_size": 200,
        "window_size": 1,
        "maxout_pieces": 2,
        "subword_features": True,
        "pretrained_vectors": None,
    }


def copy_relations(doc: Doc, key: str) -> None:
    """Copy the gold relations of a Doc to another key."""
    if "relations" in doc.spans:
        doc.spans[key] = list(doc.spans["relations"])
        doc.spans[key].attrs.update(doc.spans["relations"].attrs)


@pytest.fixture(scope="package", autouse=True)
def _extensions() -> Iterator[None]:
    """Remove the extensions with prefixes that pipelines of this folder register."""
    with extensions_restored():
        yield


@pytest.fixture(scope="package")
def existing_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline like spaCy's small ones: `tok2vec`, a `tagger` that listens to it, and an `ner` that
    has learned the entities of the rows by heart."""
    nlp = spacy.blank("xx")
    nlp.add_pipe("tok2vec", config={"model": tok2vec(False)})
    model: dict[str, Any] = {"@architectures": "spacy.Tagger.v2", "tok2vec": tok2vec(True)}
    nlp.add_pipe("tagger", config={"model": model})
    model = {
        "@architectures": "spacy.TransitionBasedParser.v2",
        "state_type": "ner",
        "extra_state_tokens": False,
        "hidden_width": 16,
        "maxout_pieces": 2,
        "use_upper": True,
        "tok2vec": tok2vec(False),
    }
    nlp.add_pipe("ner", config={"model": model})
    examples = []
    for text, entities, _ in ROWS:
        doc = make_doc(nlp.vocab, text, entities)
        for token in doc:
            token.tag_ = "NAME" if token.is_title else "WORD"
        examples.append(Example(nlp.make_doc(text), doc))
    initialize(nlp, examples)
    optimizer = nlp.create_optimizer()
    optimizer.learn_rate = 0.02
    for _ in range(30):
        nlp.update(examples, sgd=optimizer)
    path = tmp_path_factory.mktemp("existing") / "pipeline"
    nlp.to_disk(path)
    return path


@pytest.fixture(scope="package")
def sources(bert_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each component, a pipeline on disk that has only this component and has learned its rows by
    heart."""
    folder = tmp_path_factory.mktemp("sources")
    nlp, _ = make_nlp(bert_checkpoint)
    examples = make_examples(nlp, ROWS)
    initialize(nlp, examples)
    train(nlp, examples, 80)
    nlp.to_disk(folder / "span_relation")
    # In one pipeline with span_relation, it needs its own span group and extension.
    nlp = spacy.blank("xx")
    config = {"relations_key": "pairs", "extension_prefix": "pair_"}
    model = pair_model(bert_checkpoint)
    nlp.add_pipe("relation_classifier", config={**config, "model": model})
    examples = pair_examples(nlp)
    for example in examples:
        copy_relations(example.reference, "pairs")
    initialize(nlp, examples)
    train(nlp, examples, 40)
    nlp.to_disk(folder / "relation_classifier")
    scorer = {"@scorers": "spacy-spanrel.qa_scorer.v1"}
    nlp, _ = make_qa(bert_checkpoint, questions=QUESTIONS, scorer=scorer)
    examples = qa_examples(nlp)
    initialize(nlp, examples)
    train(nlp, examples, 30)
    nlp.to_disk(folder / "extractive_qa")
    return {name: folder / name for name in NAMES}


@pytest.fixture(scope="package")
def full_path(
    existing_path: Path, sources: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The existing pipeline, extended by all three components. Tests must not change it."""
    nlp = spacy.load(existing_path)
    for name, source in sources.items():
        nlp.add_pipe(name, source=spacy.load(source))
    path = tmp_path_factory.mktemp("full") / "pipeline"
    nlp.to_disk(path)
    return path


@pytest.fixture
def nlp(full_path: Path) -> Language:
    """The pipeline of `full_path`, loaded afresh, so that a test may change it."""
    return spacy.load(full_path)


def annotations(nlp: Language) -> dict[str, list[Any]]:
    """Return the annotations of each component for the texts, as plain data."""
    docs = list(nlp.pipe(TEXTS))
    return {
        "span_relation": [annotations_of(doc) for doc in docs],
        "relation_classifier": [found_pairs(doc, "pairs") for doc in docs],
        "extractive_qa": [
            [(a.question.id, a.text, a.start_char, round(a.score, 4)) for a in get_answers(doc)]
            for doc in docs
        ],
    }


def gold(nlp: Language) -> list[Example]:
    """Make Examples with the gold annotations of all components but extractive_qa."""
    examples = []
    for row in ROWS:
        doc = make_doc(nlp.vocab, *row)
        for key in ("pairs", "second"):
            copy_relations(doc, key)
        examples.append(Example(nlp.make_doc(row[0]), doc))
    return examples
