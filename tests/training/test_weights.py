"""Weights of gold relations and entities: how they are kept, and what they do in training."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import spacy
import torch
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc, Span

from spacy_spanrel import Relation, get_relations, set_entities, set_relations
from spacy_spanrel.annotations import get_entity_weights
from spacy_spanrel.annotations.relations import WEIGHTS_ATTR
from spacy_spanrel.converters.common import DocMaker, Edge, Entity
from spacy_spanrel.encoding.shim import torch_shims
from spacy_spanrel.reading import Place
from spacy_spanrel.training.joining import join_docs
from spacy_spanrel.training.losses import class_loss, pair_loss

from ..relation_classifier import conftest as pairs
from ..span_relation import util as spans
from ..util import ROUND_TRIPS, initialize

NLP = spacy.blank("en")
WEIGHTS = st.floats(0, 4, width=32)


@given(st.integers(1, 8), st.integers(1, 5), st.integers(0, 1000), st.data())
def test_weighted_losses_are_sums_of_weighted_rows(n, n_types, seed, data):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, n_types, generator=generator)
    labels = torch.randint(0, n_types, (n,), generator=generator)
    targets = torch.randint(0, 2, (n, n_types), generator=generator).float()
    weights = torch.tensor(data.draw(st.lists(WEIGHTS, min_size=n, max_size=n)))
    value, gradient = class_loss(z, labels, weights)
    terms = [w * class_loss(z[i : i + 1], labels[i : i + 1])[0] for i, w in enumerate(weights)]
    assert value == pytest.approx(float(sum(terms)) / n, rel=1e-4, abs=1e-5)
    torch.testing.assert_close(gradient, class_loss(z, labels)[1] * weights[:, None])
    value, gradient = pair_loss(z, targets, weights[:, None].expand(n, n_types))
    torch.testing.assert_close(gradient, pair_loss(z, targets)[1] * weights[:, None])
    torch.testing.assert_close(
        torch.tensor(pair_loss(z, targets, torch.ones(n, n_types))[0]),
        torch.tensor(pair_loss(z, targets)[0]),
    )


def make(weights: list[float]) -> Doc:
    """Make a Doc of three entities, and relations of these weights between the first two."""
    entities = [Entity(0, 1, "A", 0.5), Entity(1, 2, "B"), Entity(2, 3, "C", 2.0)]
    edges = [Edge(0, 1, f"r{i}", weight) for i, weight in enumerate(weights)]
    doc = Doc(NLP.vocab, words=["a", "b", "c"])
    return DocMaker(NLP).annotate(doc, entities, edges, Place("test"))


@pytest.mark.parametrize("round_trip", ROUND_TRIPS)
def test_weights_are_kept(round_trip: Any) -> None:
    doc = round_trip(make([0.25, 1.0]))
    assert [relation.weight for relation in get_relations(doc)] == [0.25, 1.0]
    assert get_entity_weights(doc) == [0.5, 1.0, 2.0]


@given(st.lists(WEIGHTS, max_size=4), st.lists(WEIGHTS, max_size=4))
def test_joined_docs_keep_weights(first: list[float], second: list[float]) -> None:
    joined = join_docs([make(first), make(second)])
    assert [relation.weight for relation in get_relations(joined)] == first + second
    assert get_entity_weights(joined) == [0.5, 1.0, 2.0] * 2


def test_weights_of_1_are_not_stored() -> None:
    doc = make([1.0])
    assert WEIGHTS_ATTR not in doc.spans["relations"].attrs
    spans = list(doc.spans["entities"])
    set_entities(doc, spans, [0.5] * 3)  # predicted: the weights of the gold entities are gone
    assert get_entity_weights(doc) == [1.0] * 3


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf, "1", True])
def test_wrong_weights(weight: Any) -> None:
    doc = make([])
    arguments = Span(doc, 0, 1), Span(doc, 1, 2)
    with pytest.raises(ValueError, match="E_SR111"):
        set_relations(doc, [Relation(*arguments, "r", weight=weight)])
    assert get_relations(doc) == ()


def gradients(pipe: Any) -> list[torch.Tensor]:
    return [
        parameter.grad.clone()
        for shim in torch_shims(pipe.model)
        for parameter in shim.module.parameters()
        if parameter.grad is not None
    ]


def weigh(examples: list[Any], weight: float) -> None:
    for example in examples:
        relations = get_relations(example.reference)
        set_relations(example.reference, [replace(r, weight=weight) for r in relations])


def step(make_nlp: Any, make_examples: Any, checkpoint: Path, weight: float | None) -> Any:
    nlp, pipe = make_nlp(checkpoint)
    examples = make_examples(nlp)
    initialize(nlp, examples)
    if weight is not None:
        weigh(examples, weight)
    losses = nlp.update(examples, sgd=False)
    return losses, gradients(pipe)


@pytest.mark.parametrize("room", [spans, pairs], ids=["span_relation", "relation_classifier"])
def test_weights_of_1_change_not_a_bit(bert_checkpoint: Path, room: Any) -> None:
    arguments = room.make_nlp, room.make_examples, bert_checkpoint
    (plain, expected), (losses, found) = step(*arguments, None), step(*arguments, 1.0)
    assert losses == plain
    assert all(map(torch.equal, found, expected))
    lighter, _ = step(*arguments, 0.5)
    assert lighter != plain


def test_targets_of_span_relation(bert_checkpoint: Path) -> None:
    nlp, pipe = spans.make_nlp(bert_checkpoint)
    examples = spans.make_examples(nlp)
    initialize(nlp, examples)
    first = examples[0].reference
    relations = get_relations(first)
    set_relations(first, [replace(relations[0], weight=0.25), relations[1]])
    first.spans["entities"] = list(first.ents)
    first.spans["entities"].attrs[WEIGHTS_ATTR] = [0.5, 1.0, 1.0]
    targets = spans.targets_of(pipe, examples)
    weights = targets.pair_weights
    assert weights is not None
    assert targets.span_weights is not None
    assert weights.shape == targets.pair_targets.shape
    assert sorted(weights[weights != 1]) == [0.25]
    assert targets.pair_targets[weights != 1].tolist() == [1.0]
    assert targets.span_weights.tolist().count(0.5) == 1
    assert (targets.span_weights[targets.span_labels == 0] == 1).all()


def test_targets_of_relation_classifier(bert_checkpoint: Path) -> None:
    nlp, pipe = pairs.make_nlp(bert_checkpoint)
    examples = pairs.make_examples(nlp)
    initialize(nlp, examples)
    assert pipe.make_targets(examples).weights is None
    weigh(examples, 0.25)
    targets = pipe.make_targets(examples)
    assert targets.weights is not None
    assert set(targets.weights.tolist()) == {0.25}
