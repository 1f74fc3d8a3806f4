"""Data, checkpoints and small pipelines for the tests of `relation_classifier`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example
from torch import nn
from transformers import BertForSequenceClassification

from spacy_spanrel import get_relations
from spacy_spanrel.relation_classifier.component import RelationClassifier

from ..util import initialize, make_doc, train
from .util import tacred_checkpoint

Row = tuple[str, list[tuple[int, int, str]], list[tuple[int, int, str]]]
Found = list[tuple[tuple[int, int], tuple[int, int], str]]

ROWS: list[Row] = [
    (
        "John Smith works for Google in Paris .",
        [(0, 2, "PER"), (4, 5, "ORG"), (6, 7, "LOC")],
        [(0, 1, "works"), (1, 2, "based")],
    ),
    ("Mary lives in London .", [(0, 1, "PER"), (3, 4, "LOC")], [(0, 1, "lives")]),
    (
        "in Berlin Mary killed John .",
        [(1, 2, "LOC"), (2, 3, "PER"), (4, 5, "PER")],
        [(1, 2, "killed")],
    ),
    ("Acme is a company from Berlin .", [(0, 1, "ORG"), (5, 6, "LOC")], [(0, 1, "based")]),
    ("he was born in the city .", [], []),
]
TEXTS = [row[0] for row in ROWS]
NEGATIVE = "no_relation"
LABELS = [NEGATIVE, "based", "killed", "lives", "works"]
TYPES = ["LOC", "ORG", "PER"]
# Every pair of the rows, in both directions.
N_PAIRS = sum(len(row[1]) * (len(row[1]) - 1) for row in ROWS)
PATTERNS = [
    {"label": label, "pattern": " ".join(text.split()[start:end])}
    for text, entities, _ in ROWS
    for start, end, label in entities
]


def model_config(checkpoint: Path, **model: Any) -> dict[str, Any]:
    """Return settings of a small model that computes in float32 on the CPU, without dropout."""
    return {
        "name": str(checkpoint),
        "max_length": "auto",
        "dropout": 0.0,
        "head_dropout": 0.0,
        "precision": "float32",
        "device": "cpu",
        **model,
    }


def make_nlp(
    checkpoint: Path,
    *,
    name: str = "relation_classifier",
    model: dict[str, Any] | None = None,
    **settings: Any,
) -> tuple[Language, RelationClassifier]:
    """Make a blank pipeline with the component, not yet initialized."""
    nlp = spacy.blank("xx")  # is made four times as fast as "en"
    if isinstance(settings.get("markers"), Mapping):
        settings["markers"] = [list(row) for row in settings["markers"].items()]
    config = {**settings, "model": model or model_config(checkpoint)}
    pipe = nlp.add_pipe("relation_classifier", name=name, config=config)
    assert isinstance(pipe, RelationClassifier)
    return nlp, pipe


def add_ruler(nlp: Language, patterns: Sequence[dict[str, str]] = PATTERNS) -> None:
    """Add an `entity_ruler` as the first component, after initialization, which would clear its
    patterns."""
    # Patterns of tokens, because EntityRuler.from_bytes loses phrases.
    rows = [
        {"label": p["label"], "pattern": [{"ORTH": word} for word in p["pattern"].split()]}
        for p in patterns
    ]
    nlp.add_pipe("entity_ruler", first=True).add_patterns(rows)


def with_negatives(row: Row) -> Row:
    """Return the row with all pairs that have no relation added as negative ones."""
    text, entities, relations = row
    known = {(head, tail) for head, tail, _ in relations}
    places = range(len(entities))
    others = [(h, t, NEGATIVE) for h in places for t in places if h != t and (h, t) not in known]
    return text, entities, [*relations, *others]


def gold_docs(nlp: Language, rows: Sequence[Row] = ROWS) -> list[Doc]:
    """Return gold Docs in which every pair has a label."""
    return [make_doc(nlp.vocab, *with_negatives(row)) for row in rows]


def make_examples(nlp: Language, docs: Sequence[Doc] | None = None) -> list[Example]:
    """Return Examples with empty predicted Docs; None: of all rows."""
    docs = gold_docs(nlp) if docs is None else docs
    return [Example(Doc(nlp.vocab, words=[t.text for t in doc]), doc) for doc in docs]


def bare(nlp: Language, row: Row, key: str | None = None) -> Doc:
    """Return a Doc with the entities of a row and no relations."""
    return make_doc(nlp.vocab, row[0], row[1], key=key)


def found(doc: Doc, key: str = "relations") -> Found:
    """Return the relations of a Doc as token ranges and labels, sorted."""
    return sorted(
        ((r.head.start, r.head.end), (r.tail.start, r.tail.end), r.label)
        for r in get_relations(doc, key)
    )


def expected(row: Row) -> Found:
    """Return the result of `found` for a gold row."""
    _, entities, relations = row
    return sorted((entities[h][:2], entities[t][:2], label) for h, t, label in relations)


def scores_of(doc: Doc, key: str = "relations") -> list[float]:
    return [r.score for r in get_relations(doc, key) if r.score is not None]


def spans(doc: Doc, *places: tuple[int, int, str]) -> list[Span]:
    return [Span(doc, start, end, label=label) for start, end, label in places]


@contextmanager
def rows_shown(pipe: RelationClassifier) -> Iterator[list[list[int]]]:
    """Collect the rows of piece ids that the network reads, without padding."""
    rows: list[list[int]] = []

    def note(network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        ids, mask = inputs[:2]
        rows.extend(row[keep.bool()].tolist() for row, keep in zip(ids, mask, strict=True))

    hook = pipe.model.shims[0].module.register_forward_pre_hook(note)
    try:
        yield rows
    finally:
        hook.remove()


@contextmanager
def always_related(pipe: RelationClassifier) -> Iterator[None]:
    """Make the negative label the least probable one everywhere."""
    bias = pipe.model.shims[0].module.head.output.bias
    kept = bias.detach().clone()
    try:
        with torch.no_grad():
            bias[pipe.labels.index(NEGATIVE)] -= 1000.0
        yield
    finally:
        with torch.no_grad():
            bias.copy_(kept)


@pytest.fixture(scope="session")
def checkpoint(bert_checkpoint: Path) -> Path:
    """A tiny BERT."""
    return bert_checkpoint


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT in the form of the published SpanBERT for TACRED: 42 classes without names. Tests
    must not change its files."""
    folder = tacred_checkpoint(tmp_path_factory.mktemp("published") / "bert")
    network = BertForSequenceClassification.from_pretrained(folder)
    # Classes that differ clearly, and relations everywhere.
    generator = torch.Generator().manual_seed(0)
    network.classifier.weight.data.normal_(std=0.5, generator=generator)
    network.classifier.bias.data[0] = -10.0
    # A new file, because pytorch_model.bin is mapped into memory.
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def trained_path(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """A saved pipeline of an `entity_ruler` and the component, overfitted to `ROWS`. Tests must not
    change it."""
    nlp, _ = make_nlp(checkpoint)
    examples = make_examples(nlp)
    initialize(nlp, examples)
    train(nlp, examples, 40)
    add_ruler(nlp)
    path = tmp_path_factory.mktemp("trained") / "pipeline"
    nlp.to_disk(path)
    return path


@pytest.fixture(scope="session")
def _trained(trained_path: Path) -> Language:
    return spacy.load(trained_path)


@pytest.fixture
def trained(_trained: Language) -> Language:
    """The trained pipeline. Settings that a test changes in `cfg` are restored."""
    pipe = _trained.get_pipe("relation_classifier")
    kept = dict(pipe.cfg)
    yield _trained
    pipe.cfg = kept
