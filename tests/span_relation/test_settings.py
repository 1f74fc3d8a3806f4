"""Every setting of `span_relation` has its effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import Span

from spacy_spanrel import get_relations
from spacy_spanrel.encoding.shim import torch_shims

from ..util import initialize, train
from .util import (
    RELATION_LABELS,
    ROWS,
    TEXTS,
    Row,
    annotations_of,
    expected,
    make_examples,
    make_nlp,
    model_config,
    scores_of,
    targets_of,
    the_pipe,
)

GOLD = [expected(row) for row in ROWS]


def test_keys(trained: Language) -> None:
    the_pipe(trained).cfg.update(spans_key="sc", relations_key="links")
    doc = trained(TEXTS[0])
    assert set(doc.spans) == {"sc", "links"}
    assert annotations_of(doc, "sc", "links") == GOLD[0]


def test_relation_threshold(trained: Language) -> None:
    score = max(r.score for r in trained(TEXTS[0])._.relations)
    for threshold, n in ((0.0, None), (0.4, 2), (score, 1), (1.0, 0)):
        the_pipe(trained).cfg.update(relation_threshold=threshold, type_constraints="off")
        relations = trained(TEXTS[0])._.relations
        # At 0 all pairs of the three entities have all labels.
        assert len(relations) == (3 * 2 * 4 if n is None else n)
        assert all(r.score >= threshold for r in relations)


def test_max_span_size(trained: Language) -> None:
    the_pipe(trained).cfg["max_span_size"] = 1
    entities, _ = annotations_of(trained(TEXTS[0]))
    assert all(end - start == 1 for start, end, _ in entities)
    assert {(4, 5, "Org"), (6, 7, "Loc")} <= set(entities)


def test_max_pairs(trained: Language) -> None:
    the_pipe(trained).cfg.update(max_pairs=2, relation_threshold=0.0, type_constraints="off")
    pairs = {(r.head.text, r.tail.text) for r in trained(TEXTS[0])._.relations}
    assert pairs == {("Google", "Paris"), ("Paris", "Google")}


def test_pairs_beyond_max_pairs_are_counted(trained: Language) -> None:
    pipe = the_pipe(trained)
    entities = len(trained(TEXTS[0]).spans["entities"])
    assert "pairs_left_out" not in trained(TEXTS[0]).spans["relations"].attrs
    pipe.cfg.update(max_pairs=2)
    left_out = trained(TEXTS[0]).spans["relations"].attrs["pairs_left_out"]
    assert left_out == entities * (entities - 1) - 2 > 0


def test_overlaps(trained: Language) -> None:
    # A lower bias for "no entity" makes nearly every span an entity.
    pipe = the_pipe(trained)
    head = pipe.model.shims[0].module.entity_classifier
    bias = head.bias.detach().clone()
    try:
        with torch.no_grad():
            head.bias[0] -= 8.0
        for overlaps in ("allow", "best"):
            pipe.cfg.update(overlaps=overlaps, relation_threshold=0.0, type_constraints="off")
            doc = trained(TEXTS[0])
            spans = [(s.start, s.end) for s in doc.spans["entities"]]
            pairs = [(a, b) for a in spans for b in spans if a < b]
            assert any(b[0] < a[1] for a, b in pairs) == (overlaps == "allow")
            entities = {(s.start, s.end, s.label_) for s in doc.spans["entities"]}
            ends = {(a.start, a.end, a.label_) for r in doc._.relations for a in (r.head, r.tail)}
            assert ends == entities
            # In both cases doc.ents has the best entities that do not overlap.
            best = {(e.start, e.end, e.label_) for e in doc.ents}
            assert best <= entities
            assert (best == entities) == (overlaps == "best")
    finally:
        with torch.no_grad():
            head.bias.copy_(bias)


def test_type_constraints(trained: Language) -> None:
    pipe = the_pipe(trained)
    pipe.cfg["relation_threshold"] = 0.0

    def kinds() -> set[tuple[str, str, str]]:
        relations = trained(TEXTS[0])._.relations
        return {(r.label, r.head.label_, r.tail.label_) for r in relations}

    pipe.cfg["type_constraints"] = "off"
    assert len(kinds()) == 4 * 6
    pipe.cfg["type_constraints"] = "learned"
    learned = {("works", "Per", "Org"), ("based", "Org", "Loc"), ("lives", "Per", "Loc")}
    assert kinds() == learned
    pipe.cfg["type_constraints"] = {
        "works": [["Loc", "Org"]],
        "based": [],
        "lives": [["Per", "Loc"]],
        "killed": [["Zoo", "Per"]],
    }
    assert kinds() == {("works", "Loc", "Org"), ("lives", "Per", "Loc")}


def test_symmetric(trained: Language) -> None:
    pipe = the_pipe(trained)
    pipe.cfg.update(relation_threshold=0.0, type_constraints="off")

    def killed() -> dict[tuple[str, str], float]:
        doc = trained(TEXTS[2])
        return {(r.head.text, r.tail.text): r.score for r in doc._.relations if r.label == "killed"}

    directed = killed()
    pipe.cfg["symmetric"] = ["killed"]
    merged = killed()
    assert len(directed) == 6
    assert len(merged) == 3
    for (head, tail), score in merged.items():
        assert TEXTS[2].index(head) < TEXTS[2].index(tail)
        assert score == max(directed[head, tail], directed[tail, head])


@pytest.mark.parametrize("set_ents", ["keep", "replace", "off"])
def test_set_ents(trained: Language, set_ents: str) -> None:
    the_pipe(trained).cfg["set_ents"] = set_ents
    doc = trained.make_doc(TEXTS[0])
    doc.set_ents([Span(doc, 1, 3, label="Old"), Span(doc, 7, 8, label="Old")])
    doc = trained.get_pipe("span_relation")(doc)
    ents = [(e.start, e.end, e.label_) for e in doc.ents]
    assert (
        ents
        == {
            "keep": [(1, 3, "Old"), (4, 5, "Org"), (6, 7, "Loc"), (7, 8, "Old")],
            "replace": [(0, 2, "Per"), (4, 5, "Org"), (6, 7, "Loc")],
            "off": [(1, 3, "Old"), (7, 8, "Old")],
        }[set_ents]
    )
    assert annotations_of(doc) == GOLD[0]


@pytest.mark.parametrize("key", [None, "given"])
def test_entities_of_the_doc(trained: Language, key: str | None) -> None:
    the_pipe(trained).cfg.update(entities="doc", entities_key=key)
    assert annotations_of(trained(TEXTS[0]), key) == ([], [])
    doc = trained.make_doc(TEXTS[0])
    spans = [
        Span(doc, 0, 2, label="Per"),
        Span(doc, 4, 5, label="Org"),
        Span(doc, 7, 8, label="New"),
    ]
    if key is None:
        doc.set_ents(spans)
    else:
        doc.spans[key] = [*spans, Span(doc, 4, 5, label="Shop")]
    doc = the_pipe(trained)(doc)
    assert [r.to_triple() for r in get_relations(doc)] == [("John Smith", "works", "Google")]
    assert "entities" not in doc.spans
    assert [e.label_ for e in doc.ents] == (["Per", "Org", "New"] if key is None else [])


@pytest.mark.parametrize(("size", "boundaries"), [(4, False), (9, False), (4, True)])
def test_architecture(checkpoint: Path, size: int, boundaries: bool) -> None:
    model = model_config(checkpoint, size_embedding=size, boundaries=boundaries)
    nlp, pipe = make_nlp(checkpoint, model=model)
    examples = make_examples(nlp)
    initialize(nlp, examples)
    width = 32 + (3 if boundaries else 1) * 32 + size
    assert pipe.model.shims[0].module.entity_classifier.weight.shape == (4, width)
    if boundaries:
        train(nlp, examples, 60)
        assert [annotations_of(doc) for doc in nlp.pipe(TEXTS)] == GOLD
        again = spacy.util.load_model_from_config(nlp.config).from_bytes(nlp.to_bytes())
        assert [annotations_of(doc) for doc in again.pipe(TEXTS)] == GOLD


PAIR_SETTINGS = {"distance_embedding": 3, "type_embedding": 5, "type_noise": 0.05}


def test_types_and_distance_of_pairs(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint, model=model_config(checkpoint, **PAIR_SETTINGS))
    examples = make_examples(nlp)
    initialize(nlp, examples)
    assert pipe.model.shims[0].module.rel_classifier.weight.shape == (4, 3 * 32 + 2 * (4 + 5) + 3)
    train(nlp, examples, 60)
    assert [annotations_of(doc) for doc in nlp.pipe(TEXTS)] == GOLD
    again = spacy.util.load_model_from_config(nlp.config).from_bytes(nlp.to_bytes())
    docs, loaded = list(nlp.pipe(TEXTS)), list(again.pipe(TEXTS))
    assert list(map(scores_of, docs)) == list(map(scores_of, loaded))
    # Relations depend on the types: here the type of each entity is that of the next class.
    heads = pipe.model.shims[0].module
    heads.type_embeddings.weight.data = heads.type_embeddings.weight.data.roll(1, dims=0)
    assert list(map(scores_of, nlp.pipe(TEXTS))) != list(map(scores_of, docs))


@pytest.mark.parametrize("entities", ["predict", "doc"])
def test_types_in_training(checkpoint: Path, entities: str) -> None:
    model = model_config(checkpoint, type_embedding=2)
    nlp, pipe = make_nlp(checkpoint, model=model, entities=entities)
    examples = make_examples(nlp)
    initialize(nlp, examples)
    doc = examples[0].predicted
    doc.set_ents([Span(doc, 0, 2, label="Org"), Span(doc, 4, 5, label="New")])
    targets = targets_of(pipe, examples[:1])
    gold = {"predict": {(0, 2): 2, (4, 5): 1, (6, 7): 0}, "doc": {(0, 2): 1, (4, 5): 3}}[entities]
    expected = [gold.get((start, end), 3) for start, end in targets.spans.tolist()]
    assert targets.types.tolist() == expected
    assert set(gold) <= {*map(tuple, targets.spans.tolist())}


@pytest.mark.parametrize(
    "settings", [{"distance_embedding": -1}, {"type_embedding": -3}, {"type_noise": 1.5}]
)
def test_bad_settings_of_the_model_are_refused(checkpoint: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"E_SR302.*{next(iter(settings))}"):
        make_nlp(checkpoint, model=model_config(checkpoint, **settings))


@pytest.mark.parametrize(
    ("settings", "bias", "n_relations"),
    [
        ({}, -2.0, 0),
        ({"relation_bias": -5.0}, -5.0, 0),
        ({"relation_bias": 5.0}, 5.0, 2 * len(RELATION_LABELS)),
    ],
)
def test_relation_bias(
    checkpoint: Path, settings: dict[str, float], bias: float, n_relations: int
) -> None:
    nlp, pipe = make_nlp(
        checkpoint,
        model=model_config(checkpoint, **settings),
        entities="doc",
        overlaps="allow",
        type_constraints="off",
    )
    initialize(nlp, make_examples(nlp))
    doc = nlp.make_doc("John Smith works at Google")
    doc.set_ents([Span(doc, 0, 2, label="Per"), Span(doc, 4, 5, label="Org")])
    # Before training, the bias alone decides the probability of both directions.
    assert len(get_relations(pipe(doc))) == n_relations
    assert (pipe.model.shims[0].module.rel_classifier.bias == bias).all()


def test_bfloat16_is_close(trained: Language) -> None:
    encoder = torch_shims(the_pipe(trained).model)[1]
    encoder.precision_setting = "bfloat16"
    try:
        assert [annotations_of(doc) for doc in trained.pipe(TEXTS)] == GOLD
    finally:
        encoder.precision_setting = "float32"


def test_symmetric_negatives(checkpoint: Path) -> None:
    """The other direction of a symmetric relation is no negative example."""
    row: Row = ("Mary killed John", [(0, 1, "Per"), (2, 3, "Per")], [(0, 1, "killed")])
    for symmetric, n in (([], 2), (["killed"], 1)):
        nlp, pipe = make_nlp(checkpoint, symmetric=symmetric)
        examples = make_examples(nlp, [row])
        initialize(nlp, examples)
        assert len(targets_of(pipe, examples).pairs) == n
