"""Scores of relations between entities."""

from __future__ import annotations

from typing import Any

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy import registry
from spacy.tokens import Doc, Span
from spacy.training import Example

from spacy_spanrel import Relation, set_clusters, set_relations
from spacy_spanrel.scoring.entities import count_entity_relations, score_entity_relations
from spacy_spanrel.scoring.relations import score_pairs, score_relations
from tests.util import make_doc

VOCAB = spacy.blank("en").vocab
TEXT = "Ada lives in Oslo . She works for Acme . Tom owns the firm . He left Oslo ."
ADA, OSLO, SHE, ACME, TOM, FIRM = (0, 1), (3, 4), (5, 6), (8, 9), (10, 11), (12, 14)
HE, OSLO_AGAIN, LEFT = (15, 16), (17, 18), (16, 17)
PEOPLE, FIRMS = [[ADA, SHE], [TOM, HE]], [[ACME, FIRM]]
Row = tuple[tuple[int, int], str, tuple[int, int]]
GOLD: list[Row] = [
    (ADA, "in", OSLO),
    (SHE, "at", ACME),
    (TOM, "owns", FIRM),
    (HE, "owns", ACME),
    (HE, "in", OSLO_AGAIN),
]


def make(rows: list[Row], clusters: Any = (), words: str = TEXT, label: str = "X") -> Doc:
    doc = make_doc(VOCAB, words)
    span = {place: Span(doc, *place, label=label) for h, _, t in rows for place in (h, t)}
    set_relations(doc, [Relation(span[h], span[t], name) for h, name, t in rows])
    set_clusters(doc, [[doc[s:e] for s, e in cluster] for cluster in clusters])
    return doc


def counts(gold: Doc, predicted: Doc, **options: Any) -> tuple[int, int, int]:
    micro = count_entity_relations([Example(predicted, gold)], **options).micro
    return micro.tp, micro.fp, micro.fn


@pytest.mark.parametrize(
    ("rows", "gold", "predicted", "none"),
    [
        # All facts: Ada in Oslo, Ada at Acme, Tom owns Acme (twice), Tom in Oslo.
        (GOLD, (4, 0, 0), (4, 0, 0), (5, 0, 0)),
        ([], (0, 0, 4), (0, 0, 4), (0, 0, 5)),
        # The same facts by other mentions.
        ([(SHE, "in", OSLO), (ADA, "at", FIRM)], (2, 0, 2), (2, 0, 2), (0, 2, 5)),
        # Said twice, counted once.
        ([(TOM, "owns", FIRM), (HE, "owns", FIRM)], (1, 0, 3), (1, 0, 3), (1, 1, 4)),
        # Wrong label, direction and entity.
        ([(ADA, "x", OSLO), (OSLO, "in", ADA), (ADA, "in", ACME)], (0, 3, 4), (0, 3, 4), (0, 3, 5)),
        # Oslo is in no cluster: by equal text.
        ([(ADA, "in", OSLO_AGAIN)], (1, 0, 3), (1, 0, 3), (1, 0, 4)),
        # A span that is no entity of the gold Doc.
        ([(LEFT, "in", OSLO)], (0, 1, 4), (0, 1, 4), (0, 1, 5)),
    ],
)
def test_facts(rows, gold, predicted, none):
    reference, found = make(GOLD, PEOPLE + FIRMS), make(rows, PEOPLE + FIRMS, label="Y")
    assert counts(reference, found) == counts(reference, found, clusters="gold") == gold
    assert counts(reference, found, clusters="predicted") == predicted
    assert counts(reference, found, clusters="none") == none


@pytest.mark.parametrize(
    ("clusters", "expected"),
    [
        # Without predicted clusters, each argument stands for itself.
        ([], (3, 0, 1)),
        # A cluster stands for the entity of most of its mentions.
        ([[ADA, SHE, TOM]], (2, 1, 2)),
        # On a tie, for the earliest.
        ([[SHE, TOM]], (2, 1, 2)),
        # One without gold mentions stands for nothing.
        ([[LEFT, (14, 15)], [ADA, SHE]], (3, 0, 1)),
    ],
)
def test_predicted_clusters(clusters, expected):
    rows = [(ADA, "in", OSLO), (SHE, "at", ACME), (TOM, "owns", FIRM)]
    gold, predicted = make(GOLD, PEOPLE + FIRMS), make(rows, clusters)
    assert counts(gold, predicted, clusters="predicted") == expected
    assert counts(gold, predicted, clusters="gold") == (3, 0, 1)


def test_negative_and_symmetric_labels():
    gold = make([(ADA, "near", OSLO), (ADA, "no_relation", ACME)], PEOPLE)
    predicted = make([(OSLO, "near", SHE), (SHE, "no_relation", ACME), (TOM, "no_relation", ADA)])
    assert counts(gold, predicted) == (0, 1, 1)
    assert counts(gold, predicted, symmetric=["near"]) == (1, 0, 0)
    assert counts(gold, predicted, negative_label=None) == (1, 2, 1)


def test_other_tokens_and_other_names_of_groups():
    gold = make(
        [(SHE, "at", (8, 10))], [[ADA, (5, 6)]], "Ada lives in Oslo . She works for A cme ."
    )
    predicted = make_doc(VOCAB, ["Ada", "lives", "in", "Oslo.", "She", "works", "for", "Acme", "."])
    she, acme = Span(predicted, 4, 5, label="Per"), Span(predicted, 7, 8, label="Org")
    ada = Span(predicted, 0, 1, label="Per")
    predicted.spans["found"] = [ada, she, acme]
    set_relations(predicted, [Relation(ada, acme, "at")], "links")
    gold.spans["links"], gold.spans["chain_0"] = (
        gold.spans["relations"],
        gold.spans["coref_clusters_0"],
    )
    del gold.spans["coref_clusters_0"]
    options = {"relations_key": "links", "spans_key": "found"}
    assert counts(gold, predicted, **options) == (0, 1, 1)
    assert counts(gold, predicted, clusters_prefix="chain", **options) == (1, 0, 0)


def test_scores():
    predicted = make([(SHE, "in", OSLO), (ADA, "at", OSLO)])
    example = Example(predicted, make(GOLD, PEOPLE + FIRMS))
    scores = score_entity_relations([example])
    assert (scores["rel_entity_p"], scores["rel_entity_r"]) == (1 / 2, 1 / 4)
    assert scores["rel_entity_f"] == pytest.approx(1 / 3)
    assert scores["rel_entity_per_type"]["in"] == {"p": 1.0, "r": 0.5, "f": pytest.approx(2 / 3)}
    assert score_entity_relations([Example(predicted, make([]))])["rel_entity_f"] is None


@pytest.mark.parametrize("base", [None, "spacy-spanrel.pair_scorer.v1"])
def test_the_registered_scorer_adds_to_another(base):
    examples = [Example(make([(SHE, "in", OSLO)]), make(GOLD, PEOPLE + FIRMS))]
    other = {} if base is None else {"scorer": {"@scorers": base}}
    name = "spacy-spanrel.entity_relation_scorer.v1"
    scorer = registry.resolve({"s": {"@scorers": name, "clusters": "none", **other}})["s"]
    scores = scorer(examples, negative_label=None)
    expected = (score_pairs if base else score_relations)(examples, negative_label=None)
    assert scores == {**expected, **score_entity_relations(examples, clusters="none")}


def test_other_sources_are_refused():
    example = Example(make([]), make(GOLD))
    with pytest.raises(ValueError, match=r"E_SR856.*'both'"):
        score_entity_relations([example], clusters="both")
    with pytest.raises(ValueError, match="E_SR856"):
        registry.scorers.get("spacy-spanrel.entity_relation_scorer.v1")(clusters="both")


PLACES = st.sampled_from([ADA, OSLO, SHE, ACME, TOM, FIRM, HE, OSLO_AGAIN, LEFT])
ROWS = st.lists(st.tuples(PLACES, st.sampled_from(["in", "at"]), PLACES), max_size=8)
CLUSTERS = st.lists(st.lists(PLACES, max_size=4), max_size=4)


@given(ROWS, CLUSTERS, st.sampled_from(["gold", "predicted", "none"]), st.booleans())
def test_gold_is_right(rows, clusters, source, is_symmetric):
    options = {"clusters": source, "symmetric": ["in"] if is_symmetric else []}
    # A mention of two clusters belongs to the first, so clusters are made disjoint.
    disjoint = [
        [p for p in c if not any(p in e for e in clusters[:i])] for i, c in enumerate(clusters)
    ]
    tp, fp, fn = counts(make(rows, disjoint), make(rows, disjoint), **options)
    assert fp == fn == 0
    assert tp <= len(set(rows))


@given(ROWS, ROWS, CLUSTERS, CLUSTERS)
def test_counts_add_up(gold_rows, predicted_rows, gold_clusters, predicted_clusters):
    gold, predicted = make(gold_rows, gold_clusters), make(predicted_rows, predicted_clusters)
    facts = len(gold._.entity_relations)
    for source in ("gold", "predicted"):
        tp, fp, fn = counts(gold, predicted, clusters=source)
        assert tp + fn == facts
        assert tp + fp <= len(set(predicted_rows))
    plain = score_relations([Example(predicted, gold)])
    if not gold_clusters and plain["rel_r"] is not None:
        # Whatever is right between spans is right between entities.
        assert (plain["rel_f"] == 0) or counts(gold, predicted)[0] > 0
