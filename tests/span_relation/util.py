"""Data and small pipelines for the tests of `span_relation`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import spacy
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.util import fix_random_seed

from spacy_spanrel import get_entities, get_relations
from spacy_spanrel.span_relation.component import SpanRelation
from spacy_spanrel.span_relation.targets import Targets

from ..util import make_doc

Row = tuple[str, list[tuple[int, int, str]], list[tuple[int, int, str]]]

ROWS: list[Row] = [
    (
        "John Smith works for Google in Paris .",
        [(0, 2, "Per"), (4, 5, "Org"), (6, 7, "Loc")],
        [(0, 1, "works"), (1, 2, "based")],
    ),
    ("Mary lives in London .", [(0, 1, "Per"), (3, 4, "Loc")], [(0, 1, "lives")]),
    (
        "in Berlin Mary killed John .",
        [(1, 2, "Loc"), (2, 3, "Per"), (4, 5, "Per")],
        [(1, 2, "killed")],
    ),
    ("Acme is a company from Berlin .", [(0, 1, "Org"), (5, 6, "Loc")], [(0, 1, "based")]),
    ("he was born in the city .", [], []),
]
TEXTS = [row[0] for row in ROWS]
ENTITY_LABELS = ["Loc", "Org", "Per"]
RELATION_LABELS = ["based", "killed", "lives", "works"]
LABELS = {"entities": ENTITY_LABELS, "relations": RELATION_LABELS}


def model_config(
    checkpoint: Path, encoder: dict[str, Any] | None = None, **model: Any
) -> dict[str, Any]:
    """Settings of a small model that computes in float32 on the CPU, without dropout."""
    return {
        "size_embedding": 4,
        "dropout": 0.0,
        **model,
        "encoder": {
            "name": str(checkpoint),
            "precision": "float32",
            "device": "cpu",
            "dropout": 0.0,
            **(encoder or {}),
        },
    }


def make_nlp(
    checkpoint: Path,
    *,
    name: str = "span_relation",
    model: dict[str, Any] | None = None,
    **settings: Any,
) -> tuple[Language, SpanRelation]:
    """Make a blank pipeline with the component, which is not yet initialized."""
    nlp = spacy.blank("xx")
    config = {"max_span_size": 4, **settings, "model": model or model_config(checkpoint)}
    pipe = nlp.add_pipe("span_relation", name=name, config=config)
    assert isinstance(pipe, SpanRelation)
    return nlp, pipe


def make_examples(
    nlp: Language, rows: Sequence[Row] = ROWS, key: str | None = None
) -> list[Example]:
    """Make Examples whose predicted Docs have no annotations."""
    docs = [make_doc(nlp.vocab, *row, key=key) for row in rows]
    return [Example(Doc(nlp.vocab, words=[t.text for t in doc]), doc) for doc in docs]


def copy_ents(example: Example) -> None:
    """Copy the gold `doc.ents` to the predicted Doc, as if an earlier NER had set them."""
    doc = example.predicted
    doc.set_ents([Span(doc, e.start, e.end, label=e.label) for e in example.reference.ents])


Annotations = tuple[list[tuple[int, int, str]], list[tuple[tuple[int, int], tuple[int, int], str]]]


def the_pipe(nlp: Language) -> SpanRelation:
    pipe = nlp.get_pipe("span_relation")
    assert isinstance(pipe, SpanRelation)
    return pipe


def targets_of(pipe: SpanRelation, examples: list[Example]) -> Targets:
    """Return the targets of a batch, as in a training step."""
    docs = pipe._split_into_texts([example.predicted for example in examples])
    return pipe.make_targets(examples, pipe._reach(docs, pipe.model.predict(docs)))


def start(nlp: Language) -> list[Example]:
    """Initialize a pipeline with a fixed seed, and return its Examples."""
    examples = make_examples(nlp)
    fix_random_seed(0)
    nlp.initialize(lambda: examples)
    return examples


def train_step(nlp: Language, examples: list[Example], optimizer: Any) -> dict[str, float]:
    """Train as `spacy train` does: compute the gradients of all components, then update the weights."""
    losses: dict[str, float] = {}
    nlp.update(examples, sgd=False, losses=losses)
    for _, pipe in nlp.pipeline:
        if hasattr(pipe, "finish_update"):
            pipe.finish_update(optimizer)
    return losses


def ner_model(tok2vec: dict[str, Any]) -> dict[str, Any]:
    """Settings of a small network of spaCy's NER."""
    return {
        "@architectures": "spacy.TransitionBasedParser.v2",
        "state_type": "ner",
        "extra_state_tokens": False,
        "hidden_width": 16,
        "maxout_pieces": 2,
        "use_upper": False,
        "tok2vec": tok2vec,
    }


def annotations_of(
    doc: Doc, spans_key: str | None = "entities", relations_key: str = "relations"
) -> Annotations:
    """Return the entities and relations of a Doc as plain data, sorted, without scores."""
    relations = get_relations(doc, relations_key)
    return (
        sorted((s.start, s.end, s.label_) for s in get_entities(doc, spans_key)),
        sorted(
            ((r.head.start, r.head.end), (r.tail.start, r.tail.end), r.label) for r in relations
        ),
    )


def scores_of(doc: Doc) -> list[float]:
    """Return the scores of entities, then of relations, in the order in which they are stored."""
    entities = doc.spans["entities"].attrs["scores"] if "entities" in doc.spans else []
    return [*entities, *(r.score for r in get_relations(doc) if r.score is not None)]


def expected(row: Row) -> Annotations:
    """Return the annotations of a gold row in the form of `annotations_of`."""
    _, entities, relations = row
    return (
        sorted(entities),
        sorted((entities[h][:2], entities[t][:2], label) for h, t, label in relations),
    )
