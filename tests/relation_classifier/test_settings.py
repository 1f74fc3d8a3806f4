"""Every setting of `relation_classifier` has its effect."""

from __future__ import annotations

import shutil
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from hypothesis import given
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from spacy_spanrel import Relation, set_relations
from spacy_spanrel.relation_classifier.component import RelationClassifier
from spacy_spanrel.relation_classifier.pairs import EntityPairs, GivenPairs, TypedPair
from spacy_spanrel.relation_classifier.targets import draw_left_out
from spacy_spanrel.scoring.relations import make_pair_scorer

from ..util import initialize, make_doc, tiny_checkpoint, train
from .conftest import (
    LABELS,
    N_PAIRS,
    NEGATIVE,
    ROWS,
    TEXTS,
    Row,
    always_related,
    bare,
    expected,
    found,
    gold_docs,
    make_examples,
    make_nlp,
    model_config,
    rows_shown,
    scores_of,
    spans,
)
from .util import the_pipe

GOLD = [expected(row) for row in ROWS]
SENTENCES = f"{TEXTS[0]} {TEXTS[1]}"
SENTENCES_ENTITIES = [*ROWS[0][1], *((s + 8, e + 8, label) for s, e, label in ROWS[1][1])]


def network_of(pipe: RelationClassifier) -> torch.nn.Module:
    return pipe.model.shims[0].module


def two_sentences(nlp: Language, borders: bool = True) -> Doc:
    """Return a Doc of two sentences."""
    doc = make_doc(nlp.vocab, SENTENCES, SENTENCES_ENTITIES)
    if borders:
        for token in doc:
            token.is_sent_start = token.i in (0, 8)
    return doc


def kinds(doc: Doc) -> set[tuple[str, str, str]]:
    return {(r.label, r.head.label_, r.tail.label_) for r in doc._.relations}


def classified(pipe: RelationClassifier, doc: Doc) -> list[tuple[str, str]]:
    """Return the texts of the pairs that the network classifies."""
    pipe.cfg["all_scores"] = True
    return [(pair.head.text, pair.tail.text) for pair in pipe(doc)._.relation_scores]


# Prediction


def test_relations_key(trained: Language) -> None:
    the_pipe(trained).cfg["relations_key"] = "links"
    the_pipe(trained).cfg["all_scores"] = True
    doc = trained(TEXTS[0])
    assert set(doc.spans) == {"links", "links_scores"}
    assert found(doc, "links") == GOLD[0]


def test_threshold(trained: Language) -> None:
    pipe = the_pipe(trained)
    pipe.cfg["type_constraints"] = "off"
    with always_related(pipe):
        scores = sorted(scores_of(trained(TEXTS[0])))
        # At 0 every pair has a relation.
        assert len(scores) == 6
        for i, score in enumerate(scores):
            pipe.cfg["threshold"] = score
            relations = trained(TEXTS[0])._.relations
            assert len(relations) == 6 - i
            assert all(r.score >= score for r in relations)
        pipe.cfg["threshold"] = 1.0
        assert trained(TEXTS[0])._.relations == ()


def test_negative_label_wins_at_any_threshold(trained: Language) -> None:
    pipe = the_pipe(trained)
    pipe.cfg.update(type_constraints="off", threshold=0.0)
    bias = network_of(pipe).head.output.bias
    kept = bias.detach().clone()
    try:
        with torch.no_grad():
            bias[pipe.labels.index(NEGATIVE)] += 1000.0
        assert [found(trained(text)) for text in TEXTS] == [[]] * len(TEXTS)
    finally:
        with torch.no_grad():
            bias.copy_(kept)


def test_negative_label(checkpoint: Path) -> None:
    def rows(label: str) -> list[Row]:
        return [(ROWS[1][0], ROWS[1][1], [(0, 1, "lives"), (1, 0, label)])]

    for setting, label, labels in (
        ("NA", "NA", ("NA", "lives")),
        (None, "NA", ("NA", "lives")),
        ("NA", "other", ("lives", "other")),
    ):
        nlp, pipe = make_nlp(checkpoint, negative_label=setting)
        examples = make_examples(nlp, [make_doc(nlp.vocab, *row) for row in rows(label)])
        initialize(nlp, examples)
        assert pipe.labels == labels
        train(nlp, examples, 15)
        relations = {r.label for r in nlp(bare(nlp, ROWS[1]))._.relations}
        assert relations == ({"lives"} if setting == label else {"lives", label})
        # It does not count in the scores either.
        scores = nlp.evaluate([Example(bare(nlp, ROWS[1]), eg.reference) for eg in examples])
        assert set(scores["rel_per_type"]) == relations


def test_type_constraints(trained: Language) -> None:
    pipe = the_pipe(trained)
    with always_related(pipe):
        pipe.cfg["type_constraints"] = "off"
        assert {kind[1:] for kind in kinds(trained(TEXTS[0]))} == {
            (a, b) for a in ("PER", "ORG", "LOC") for b in ("PER", "ORG", "LOC") if a != b
        }
        pipe.cfg["type_constraints"] = "learned"
        learned = {("works", "PER", "ORG"), ("based", "ORG", "LOC"), ("lives", "PER", "LOC")}
        assert kinds(trained(TEXTS[0])) == learned
        pipe.cfg["type_constraints"] = {
            "works": [["LOC", "ORG"]],
            "based": [],
            "lives": [["PER", "LOC"]],
            "killed": [["ZOO", "PER"]],
        }
        assert kinds(trained(TEXTS[0])) == {("works", "LOC", "ORG"), ("lives", "PER", "LOC")}


def test_type_constraints_leave_other_labels_free(trained: Language) -> None:
    """A label that is not in the table may have any types, as in `span_relation`."""
    pipe = the_pipe(trained)
    pipe.cfg["type_constraints"] = {"killed": [["PER", "PER"]]}
    assert [found(trained(text)) for text in TEXTS] == GOLD


def test_types_that_training_never_saw_are_free(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint, mode="text")
    initialize(nlp, make_examples(nlp))
    classifier = network_of(pipe).encoder.transformer.classifier
    with torch.no_grad():
        classifier.bias[pipe.labels.index(NEGATIVE)] -= 1000.0
    doc = make_doc(nlp.vocab, TEXTS[0], [(0, 2, "LOC"), (4, 5, "ORG"), (6, 7, "SHIP")])
    pairs = {(r.head.label_, r.tail.label_) for r in nlp(doc)._.relations}
    # The training data had LOC and ORG, but no relation from LOC to ORG.
    assert pairs == {
        ("ORG", "LOC"),
        ("LOC", "SHIP"),
        ("ORG", "SHIP"),
        ("SHIP", "LOC"),
        ("SHIP", "ORG"),
    }


def test_type_constraints_before_the_choice_among_names(trained: Language) -> None:
    """Only allowed labels decide which of several names of a type is chosen."""
    pipe = the_pipe(trained)
    pipe.cfg["type_map"] = {"GPE": ["PER", "LOC"]}
    pipe.cfg["type_constraints"] = {
        "lives": [["PER", "LOC"]],
        "works": [["PER", "PER"]],
        "killed": [["ORG", "ORG"]],
        "based": [],
    }

    def answer(network: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        # As a place "lives", which is allowed; as a person "killed", more probable but not allowed.
        place = (inputs[0] == pipe.markers["OBJ_START=LOC"]).any(1)
        logits = torch.zeros_like(output)
        logits[place, LABELS.index("lives")] = 5.0
        logits[~place, LABELS.index("killed")] = 9.0
        return logits

    hook = network_of(pipe).register_forward_hook(answer)
    try:
        doc = pipe(make_doc(trained.vocab, TEXTS[1], [(0, 1, "PER"), (3, 4, "GPE")]))
    finally:
        hook.remove()
    assert ("Mary", "lives", "London") in [r.to_triple() for r in doc._.relations]


def killed(nlp: Language) -> dict[tuple[str, str], float]:
    relations = nlp(TEXTS[2])._.relations
    return {(r.head.text, r.tail.text): r.score for r in relations if r.label == "killed"}


def test_symmetric(trained: Language) -> None:
    pipe = the_pipe(trained)
    nothing_else = {label: [] for label in LABELS if label != "killed"}
    pipe.cfg["type_constraints"] = {"killed": [["PER", "PER"]], **nothing_else}
    with always_related(pipe):
        directed = killed(trained)
        pipe.cfg["symmetric"] = ["killed"]
        merged = killed(trained)
    assert set(directed) == {("Mary", "John"), ("John", "Mary")}
    assert merged == {("Mary", "John"): max(directed.values())}
    # Other relations keep their direction.
    pipe.cfg.update(type_constraints="learned", symmetric=["killed"])
    assert [found(trained(text)) for text in TEXTS] == GOLD


def test_symmetric_counts_in_the_scores(trained: Language) -> None:
    rows: list[Row] = [(TEXTS[2], ROWS[2][1], [(2, 1, "killed")])]
    docs = [make_doc(trained.vocab, *row) for row in rows]
    for symmetric, score in (([], 0.0), (["killed"], 1.0)):
        the_pipe(trained).cfg["symmetric"] = symmetric
        assert trained.evaluate(make_examples(trained, docs))["rel_f"] == score


def test_symmetric_keeps_the_types_of_arguments(
    trained: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = the_pipe(trained)
    pipe.cfg["type_constraints"] = "off"
    monkeypatch.setattr(pipe, "pairs", EntityPairs(entities_key="sc"))
    entities = [(0, 1, "LOC"), (0, 1, "PER"), (3, 4, "LOC")]
    types = []
    for symmetric in ([], ["killed"]):
        pipe.cfg["symmetric"] = symmetric
        with always_related(pipe):
            doc = pipe(make_doc(trained.vocab, TEXTS[1], entities, key="sc"))
        others = [r for r in doc._.relations if r.label != "killed"]
        types.append(sorted((r.head.label_, r.label, r.tail.label_) for r in others))
    assert {head for head, _, _ in types[0]} == {"LOC", "PER"}
    assert types[1] == types[0]


def test_other_direction_of_a_symmetric_relation_is_no_negative(checkpoint: Path) -> None:
    """The other direction of a symmetric relation is not learned as a negative pair."""
    nlp, pipe = make_nlp(checkpoint, symmetric=["killed"], train_pairs="predicted")
    examples = make_examples(nlp, [make_doc(nlp.vocab, *ROWS[2])])
    initialize(nlp, examples)
    examples[0].predicted.set_ents(spans(examples[0].predicted, (2, 3, "PER"), (4, 5, "PER")))
    targets = pipe.make_targets(examples)
    assert NEGATIVE not in [pipe.labels[i] for i in targets.labels]


def test_symmetric_relations_are_extended_once(trained: Language) -> None:
    pipe = the_pipe(trained)
    pipe.cfg.update(symmetric=["killed"], existing="extend")
    doc = bare(trained, ROWS[2])
    set_relations(doc, [Relation(doc.ents[2], doc.ents[1], "killed", 0.25)])
    (relation,) = pipe(doc)._.relations
    assert relation.score > 0.25


def test_all_scores(trained: Language) -> None:
    pipe = the_pipe(trained)
    assert trained(TEXTS[0])._.relation_scores == ()
    pipe.cfg.update(all_scores=True, type_constraints="off")
    doc = trained(TEXTS[0])
    pairs = doc._.relation_scores
    assert len(pairs) == 6
    answers = {(r.head.text, r.tail.text): (r.label, r.score) for r in doc._.relations}
    for pair in pairs:
        assert list(pair.scores) == LABELS
        assert sum(pair.scores.values()) == pytest.approx(1.0, abs=1e-5)
        assert all(type(score) is float for score in pair.scores.values())  # not numpy's
        label = max(pair.scores, key=pair.scores.get)
        place = (pair.head.text, pair.tail.text)
        assert answers.get(place) == (None if label == NEGATIVE else (label, pair.scores[label]))
        assert {pair.head.label_, pair.tail.label_} <= {"PER", "ORG", "LOC"}
    # The same if the types of the pair allow few labels.
    pipe.cfg["type_constraints"] = "learned"
    for pair in trained(TEXTS[0])._.relation_scores:
        assert sum(pair.scores.values()) == pytest.approx(1.0, abs=1e-5)


def test_max_pairs(trained: Language) -> None:
    pipe = the_pipe(trained)
    pipe.cfg["type_constraints"] = "off"
    doc = bare(trained, ROWS[0])
    assert len(classified(pipe, doc)) == 6
    assert "pairs_left_out" not in doc.spans["relations"].attrs
    for limit, left in ((2, 4), (5, 1), (6, None)):
        pipe.cfg["max_pairs"] = limit
        pairs = classified(pipe, doc)
        assert len(pairs) == limit
        assert set(pairs) >= {("Google", "Paris"), ("Paris", "Google")}  # the nearest pairs
        assert doc.spans["relations"].attrs.get("pairs_left_out") == left


def test_pairs_that_cannot_be_classified_take_no_room(trained: Language) -> None:
    pipe = the_pipe(trained)
    pipe.cfg["max_pairs"] = 2
    entities = [(0, 1, "PER"), (1, 2, "ROBOT"), (2, 3, "ROBOT"), (4, 5, "ORG")]
    doc = make_doc(trained.vocab, "Mary a b works Google", entities)
    assert classified(pipe, doc) == [("Mary", "Google")]


def test_max_pairs_in_training(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint, train_pairs="predicted", max_pairs=2)
    initialize(nlp, make_examples(nlp))
    (example,) = make_examples(nlp, gold_docs(nlp, ROWS[:1]))
    example.predicted = bare(nlp, ROWS[0])
    targets = pipe.make_targets([example])
    assert {(p.head, p.tail) for p in targets.pairs[0]} == {((4, 5), (6, 7)), ((6, 7), (4, 5))}


# Input of the network


def test_context(trained: Language) -> None:
    pipe = the_pipe(trained)
    special, marks = 2, 4
    n_first, n_second = 8, 5
    for borders, context, lengths in (
        (True, "sentence", {n_first, n_second}),
        (True, "doc", {n_first + n_second}),
        (False, "sentence", {n_first + n_second}),  # no sentence borders
    ):
        pipe.cfg["context"] = context
        doc = two_sentences(trained, borders)
        with rows_shown(pipe) as rows:
            pipe(doc)
        assert {len(row) - special - marks for row in rows} == lengths


def test_context_of_a_pair_across_sentences(trained: Language) -> None:
    pipe = the_pipe(trained)
    words = f"{SENTENCES} {TEXTS[4]}"
    doc = make_doc(trained.vocab, words, SENTENCES_ENTITIES)
    for token in doc:
        token.is_sent_start = token.i in (0, 8, 13)
    set_relations(doc, [Relation(doc.ents[0], doc.ents[4], "")])
    with rows_shown(pipe) as rows:
        pipe(doc)
    # From the first to the last sentence that the pair touches.
    assert [len(row) for row in rows] == [2 + 4 + 13]


def test_context_where_a_sentence_has_one_entity(trained: Language) -> None:
    """With scope = "sentence" entities of two sentences are not paired."""
    doc = make_doc(trained.vocab, SENTENCES, [(0, 2, "PER"), (8, 9, "PER")])
    for token in doc:
        token.is_sent_start = token.i in (0, 8)
    assert classified(the_pipe(trained), doc) == []


def test_mode(checkpoint: Path) -> None:
    # The rows of one pair in each mode.
    lengths = {"ner": 7, "text": 7 + 4, "text_ner": 7 + 4 + 4, "ner_text": 7 + 4}
    lengths["typed_markers"] = 7 + 4
    for mode in (None, *lengths):
        nlp, pipe = make_nlp(checkpoint, mode=mode)
        initialize(nlp, make_examples(nlp, gold_docs(nlp, ROWS[1:2])))
        assert pipe.mode == (mode or "typed_markers")
        with rows_shown(pipe) as rows:
            nlp(bare(nlp, ROWS[1]))
        # [CLS] Mary lives in London . [SEP], with its markers.
        assert {len(row) for row in rows} == {lengths[pipe.mode]}


def test_markers(checkpoint: Path) -> None:
    given = {"SUBJ_START=PER": "[unused9]", "OBJ_END=LOC": "[unused1]"}
    nlp, pipe = make_nlp(checkpoint, markers=given)
    initialize(nlp, make_examples(nlp))
    vocabulary = network_of(pipe).encoder.pieces.vocabulary
    assert {name: pipe.markers[name] for name in given} == {
        name: vocabulary[entry] for name, entry in given.items()
    }
    # The other markers have other entries.
    assert len(set(pipe.markers.values())) == len(pipe.markers) == 12
    nlp, pipe = make_nlp(checkpoint, markers={"SUBJ_START=PER": "[unused77]"})
    with pytest.raises(ValueError, match=r"E_SR704.*'\[unused77\]'"):
        initialize(nlp, make_examples(nlp))


def test_type_map(trained: Language) -> None:
    pipe = the_pipe(trained)
    doc = make_doc(trained.vocab, TEXTS[1], [(0, 1, "HUMAN"), (3, 4, "LOC")])
    for setting, relations in ((None, []), ("off", []), ({"HUMAN": ["PER"]}, GOLD[1])):
        pipe.cfg["type_map"] = setting
        doc = pipe(doc)
        assert found(doc) == relations
        skipped = doc.spans["relations"].attrs.get("skipped_types")
        assert skipped == (None if relations else {"SUBJ=HUMAN": 1, "OBJ=HUMAN": 1})
    assert doc._.relations[0].head.label_ == "HUMAN"
    # Names that the network does not know are ignored.
    pipe.cfg["type_map"] = {"HUMAN": ["ROBOT", "PER"]}
    assert found(pipe(doc)) == GOLD[1]


def test_type_map_in_training(checkpoint: Path) -> None:
    type_map = {"PER": ["HUMAN"], "LOC": ["PLACE", "COUNTRY"]}
    nlp, pipe = make_nlp(checkpoint, type_map=type_map)
    examples = make_examples(nlp)
    initialize(nlp, examples)
    assert pipe.label_data["head_types"] == ["HUMAN", "ORG", "PLACE"]
    assert pipe.label_data["type_pairs"]["lives"] == [["HUMAN", "PLACE"]]
    assert {name.split("=")[1] for name in pipe.markers} == {"HUMAN", "ORG", "PLACE"}
    train(nlp, examples, 40)
    assert [found(nlp(bare(nlp, row))) for row in ROWS] == GOLD
    # The network's names of types are accepted, too.
    doc = make_doc(nlp.vocab, TEXTS[1], [(0, 1, "HUMAN"), (3, 4, "PLACE")])
    assert found(nlp(doc)) == GOLD[1]


def test_type_map_by_name(published: Path) -> None:
    model = model_config(published)
    markers = {"SUBJ=PERSON": "[unused5]", "OBJ=ORGANIZATION": "[unused12]"}
    for setting, n_relations in (("ontonotes-tacred", 1), ("off", 0)):
        nlp, pipe = make_nlp(
            published, model=model, pretrained=True, mode="ner", markers=markers, type_map=setting
        )
        pipe.initialize(labels={"labels": [NEGATIVE, *(f"r{i}" for i in range(41))]})
        doc = make_doc(nlp.vocab, "Mary works for Google", [(0, 1, "PERSON"), (3, 4, "ORG")])
        assert len(nlp(doc)._.relations) == n_relations


def test_backoff_type(trained: Language) -> None:
    pipe = the_pipe(trained)
    doc = make_doc(trained.vocab, TEXTS[1], [(0, 1, "ROBOT"), (3, 4, "LOC")])
    for setting, relations in ((None, []), ("PER", GOLD[1]), ("nobody", [])):
        pipe.cfg["backoff_type"] = setting
        doc = pipe(doc)
        assert found(doc) == relations
        assert ("skipped_types" in doc.spans["relations"].attrs) != bool(relations)


def test_backoff_type_in_training(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint)
    initialize(nlp, make_examples(nlp))
    row: Row = (TEXTS[1], [(0, 1, "ROBOT"), (3, 4, "LOC")], [(0, 1, "lives")])
    examples = make_examples(nlp, [make_doc(nlp.vocab, *row)])
    with pytest.raises(ValueError, match=r"E_SR706.*\(ROBOT, LOC\)"):
        pipe.update(examples)
    pipe.cfg["backoff_type"] = "PER"
    targets = pipe.make_targets(examples)
    assert [(p.head_type, p.tail_type) for p in targets.pairs[0]] == [("PER", "LOC")]


def test_preset_and_pretrained(published: Path) -> None:
    model = model_config(published)
    cases = [
        ({"preset": "spanbert-tacred"}, True),
        ({"preset": "spanbert-tacred", "pretrained": True}, True),
        ({"preset": "spanbert-tacred", "pretrained": False}, False),
        ({"mode": "ner"}, False),
    ]
    weights = torch.load(published / "pytorch_model.bin", weights_only=True)
    for settings, taken_over in cases:
        nlp, pipe = make_nlp(published, model=model, **settings)
        rows: list[Row] = [("Mary works", [(0, 1, "PERSON"), (1, 2, "TITLE")], [(0, 1, NEGATIVE)])]
        initialize(nlp, make_examples(nlp, [make_doc(nlp.vocab, *row) for row in rows]))
        classifier = network_of(pipe).encoder.transformer.classifier
        assert len(pipe.labels) == len(classifier.weight) == (42 if "preset" in settings else 1)
        same = classifier.bias.shape == (42,) and classifier.bias[0].item() == -10.0
        assert same == taken_over
        assert ("OBJ=CITY" in pipe.markers) == ("preset" in settings)
        # The encoder comes from the checkpoint in any case.
        layer = "bert.encoder.layer.0.output.dense.weight"
        assert torch.equal(network_of(pipe).encoder.transformer.state_dict()[layer], weights[layer])


# Pairs


def test_entities_key(trained_path: Path) -> None:
    override = {"components": {"relation_classifier": {"pairs": {"entities_key": "sc"}}}}
    nlp = spacy.load(trained_path, config=override)
    assert found(nlp(TEXTS[0])) == []  # the entities of the ruler are not used
    doc = make_doc(nlp.vocab, TEXTS[0], ROWS[0][1], key="sc")
    assert found(nlp(doc)) == GOLD[0]


@pytest.mark.parametrize("scope", ["sentence", "doc"])
def test_scope(trained_path: Path, scope: str) -> None:
    override = {"components": {"relation_classifier": {"pairs": {"scope": scope}}}}
    nlp = spacy.load(trained_path, config=override)
    pipe = the_pipe(nlp)
    pipe.cfg["type_constraints"] = "off"
    pairs = classified(pipe, two_sentences(nlp))
    assert len(pairs) == (6 + 2 if scope == "sentence" else 5 * 4)
    assert (("Google", "London") in pairs) == (scope == "doc")
    assert len(classified(pipe, two_sentences(nlp, borders=False))) == 5 * 4


@pytest.mark.parametrize(("distance", "n_pairs"), [(None, 6), (4, 6), (2, 4), (1, 2), (0, 0)])
def test_max_distance(trained_path: Path, distance: int | None, n_pairs: int) -> None:
    override = {"components": {"relation_classifier": {"pairs": {"max_distance": distance}}}}
    nlp = spacy.load(trained_path, config=override)
    pipe = the_pipe(nlp)
    pipe.cfg["type_constraints"] = "off"
    pairs = classified(pipe, bare(nlp, ROWS[0]))
    assert len(pairs) == n_pairs
    # "Google in Paris": there is one token between the two.
    assert (("Google", "Paris") in pairs) == (distance != 0)


@pytest.mark.parametrize("given", [True, False])
def test_given(trained_path: Path, given: bool) -> None:
    override = {"components": {"relation_classifier": {"pairs": {"given": given}}}}
    nlp = spacy.load(trained_path, config=override)
    doc = bare(nlp, ROWS[0])
    set_relations(doc, [Relation(doc.ents[0], doc.ents[1], "")])
    pairs = classified(the_pipe(nlp), doc)
    assert pairs == [("John Smith", "Google")] if given else len(pairs) == 3
    assert len(doc._.relations) == (1 if given else 2)


@pytest.mark.parametrize("key", [None, "candidates"])
def test_given_pairs_alone(checkpoint: Path, tmp_path: Path, key: str | None) -> None:
    """`GivenPairs` takes the place of the default generator."""
    pairs = {"@misc": "spacy-spanrel.GivenPairs.v1", "key": key}
    nlp, pipe = make_nlp(checkpoint, pairs=pairs)
    examples = make_examples(nlp)
    initialize(nlp, examples)
    assert pipe.pairs == GivenPairs(key)
    nlp.to_disk(tmp_path / "pipeline")
    for pipeline in (nlp, spacy.load(tmp_path / "pipeline")):
        doc = bare(pipeline, ROWS[0])
        assert classified(the_pipe(pipeline), doc) == []
        asked = [Relation(doc.ents[1], doc.ents[2], "whatever"), Relation(*doc.ents[:2], "")]
        set_relations(doc, asked, key or "relations")
        pairs = [("Google", "Paris"), ("John Smith", "Google")]
        assert classified(the_pipe(pipeline), doc) == pairs


# Existing relations, training and scores: see also test_component


def test_train_pairs(checkpoint: Path) -> None:
    for setting, n_pairs in (("gold", 3), ("predicted", 2)):
        nlp, pipe = make_nlp(checkpoint, train_pairs=setting)
        initialize(nlp, make_examples(nlp))
        gold = make_doc(
            nlp.vocab, ROWS[0][0], ROWS[0][1], [(0, 1, "works"), (1, 2, "based"), (0, 2, NEGATIVE)]
        )
        predicted = make_doc(nlp.vocab, ROWS[0][0], [(0, 2, "PER"), (4, 5, "ORG")])
        targets = pipe.make_targets([Example(predicted, gold)])
        assert len(targets.labels) == n_pairs


def test_given_labels_without_the_negative_one(checkpoint: Path) -> None:
    """The error names the missing negative label, and does not blame the gold data."""
    nlp, pipe = make_nlp(checkpoint, train_pairs="predicted")
    labels = {"labels": ["works", "based"], "head_types": ["PER", "ORG", "LOC"]}
    pipe.initialize(nlp=nlp, labels={**labels, "tail_types": labels["head_types"]})
    example = Example(make_doc(nlp.vocab, *ROWS[0][:2]), make_doc(nlp.vocab, *ROWS[0][:2]))
    with pytest.raises(ValueError, match=r"E_SR710.*'no_relation'.*\['works', 'based'\]"):
        pipe.update([example])
    pipe.cfg["negative_label"] = None
    assert pipe.update([example]) == {pipe.name: 0.0}


def test_pairs_beyond_max_pairs_are_counted_in_training(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint, train_pairs="predicted", max_pairs=2)
    initialize(nlp, make_examples(nlp))
    example = Example(make_doc(nlp.vocab, *ROWS[0][:2]), make_doc(nlp.vocab, *ROWS[0]))
    targets = pipe.make_targets([example])
    assert len(targets.labels) == 2
    assert pipe.skipped["pairs_beyond_max_pairs"] == 4


@given(
    is_negative=st.lists(st.booleans(), max_size=40),
    max_negatives=st.integers(1, 5),
    seed=st.integers(0, 2**32),
)
def test_drawn_negatives(is_negative: list[bool], max_negatives: int, seed: int) -> None:
    """Only negative pairs are left out, and as few as the limit allows."""
    rng = np.random.default_rng(seed)
    left_out = draw_left_out(np.asarray(is_negative, dtype=bool), max_negatives, rng).tolist()
    n_negative = sum(is_negative)
    n_kept = min(n_negative, max_negatives * max(1, len(is_negative) - n_negative))
    assert len(set(left_out)) == len(left_out) == n_negative - n_kept
    assert all(is_negative[i] for i in left_out)


@pytest.mark.parametrize("train_pairs", ["gold", "predicted"])
def test_max_negatives(checkpoint: Path, train_pairs: str) -> None:
    """A step learns from all relations and from some of the other pairs, drawn anew but repeatably."""

    def steps(limit: int | None) -> list[list[tuple[TypedPair, str]]]:
        nlp, pipe = make_nlp(checkpoint, train_pairs=train_pairs, max_negatives=limit)
        np.random.seed(3)
        initialize(nlp, make_examples(nlp))
        words, entities, _ = ROWS[0]
        pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
        labels = [(*pair, "works" if pair == (0, 1) else NEGATIVE) for pair in pairs]
        gold = make_doc(nlp.vocab, words, entities, labels)
        batch = [Example(make_doc(nlp.vocab, words, entities), gold)] * 2
        targets = [pipe.make_targets(batch) for _ in range(20)]
        assert all(len(step.pairs) == 2 for step in targets)
        left_out = pipe.skipped["negative_pairs_not_drawn"]
        assert left_out == 20 * (12 - len(targets[0].labels))
        return [
            [
                (pair, pipe.labels[label])
                for pair, label in zip(chain(*step.pairs), step.labels, strict=True)
            ]
            for step in targets
        ]

    drawn, all_pairs = steps(2), set(steps(None)[0])
    assert steps(2) == drawn
    assert len({tuple(step) for step in drawn}) > 10
    for step in drawn:
        assert Counter(label for _, label in step) == {"works": 2, NEGATIVE: 4}
        assert set(step) <= all_pairs


def test_scorer(trained_path: Path, checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint, scorer=None)
    assert pipe.score([]) == {}
    assert make_nlp(checkpoint)[1].scorer is make_pair_scorer()
    override = {"components": {"relation_classifier": {"scorer": None}}}
    loaded = spacy.load(trained_path, config=override)
    assert "rel_f" not in loaded.evaluate(make_examples(loaded))


# The network


def rows_of_calls(nlp: Language, docs: list[Doc]) -> list[int]:
    """Return the number of rows in each call of the network."""
    calls: list[int] = []
    hook = network_of(the_pipe(nlp)).register_forward_pre_hook(
        lambda network, inputs: calls.append(len(inputs[0]))
    )
    try:
        list(nlp.pipe(docs))
    finally:
        hook.remove()
    return calls


def test_batch_pieces(checkpoint: Path) -> None:
    answers = []
    for setting, most in ((1, 1), (40, 3), ("auto", 100)):
        model = model_config(checkpoint, batch_pieces=setting)
        nlp, pipe = make_nlp(checkpoint, model=model, type_constraints="off")
        initialize(nlp, make_examples(nlp))
        calls = rows_of_calls(nlp, [bare(nlp, row) for row in ROWS])
        assert sum(calls) == N_PAIRS
        assert max(calls) <= most
        assert (len(calls) == 1) == (setting == "auto")
        answers.append(pipe.predict([bare(nlp, row) for row in ROWS]))
    # Padding does not change the scores.
    for other in answers[:2]:
        for one, two in zip(answers[2], other, strict=True):
            np.testing.assert_allclose(one.scores, two.scores, atol=1e-5)


def test_max_length(checkpoint: Path) -> None:
    words = [*TEXTS[4].split() * 10, *TEXTS[1].split(), *TEXTS[4].split() * 10]
    start = words.index("Mary")
    for setting, longest in ((16, 16), ("auto", 64), (64, 64)):
        nlp, pipe = make_nlp(checkpoint, model=model_config(checkpoint, max_length=setting))
        initialize(nlp, make_examples(nlp))
        entities = [(start, start + 1, "PER"), (start + 3, start + 4, "LOC")]
        with rows_shown(pipe) as rows:
            nlp(make_doc(nlp.vocab, words, entities))
        (row,) = rows
        assert len(row) == longest
        # Both arguments are in the row.
        vocabulary = network_of(pipe).encoder.pieces.vocabulary
        assert {vocabulary["Mary"], vocabulary["London"]} <= set(row)


def test_max_length_beyond_the_network(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint, model=model_config(checkpoint, max_length=65))
    with pytest.raises(ValueError, match=r"E_SR205.*max_length = 65.*64 pieces"):
        initialize(nlp, make_examples(nlp))
    assert not pipe.is_initialized


@pytest.mark.parametrize("max_length", [0, -1, 7])
def test_max_length_without_room(checkpoint: Path, max_length: int) -> None:
    # [CLS], two arguments of one piece between two markers each, [SEP]: 8 pieces.
    nlp, _ = make_nlp(checkpoint, model=model_config(checkpoint, max_length=max_length))
    with pytest.raises(ValueError, match=rf"E_SR708.*max_length = {max_length} .*at least 8 "):
        initialize(nlp, make_examples(nlp))


def test_arguments_longer_than_a_row(checkpoint: Path) -> None:
    model = model_config(checkpoint, max_length=12)
    nlp, pipe = make_nlp(checkpoint, model=model, all_scores=True, type_constraints="off")
    examples = make_examples(nlp)
    initialize(nlp, examples)
    long = "Mary " * 9
    entities = [(0, 9, "PER"), (11, 12, "LOC"), (12, 13, "LOC")]
    row: Row = (f"{long}in in London Paris", entities, [(0, 1, "lives"), (1, 2, NEGATIVE)])
    example = make_examples(nlp, [make_doc(nlp.vocab, *row)])
    with pytest.warns(
        UserWarning, match=r"W_SR107\] Component '\w+': 1 pair.*max_length = 12.*Mary / London"
    ):
        losses = pipe.update(example)
    assert losses["relation_classifier"] > 0  # the loss of the other pair
    # The second time there is no warning.
    assert train(nlp, [*example, *examples], 1)[0] > 0
    doc = nlp(bare(nlp, row))
    assert doc.spans["relations"].attrs["pairs_left_out"] == 4
    assert [(pair.head.text, pair.tail.text) for pair in doc._.relation_scores] == [
        ("London", "Paris"),
        ("Paris", "London"),
    ]
    # Without any other pair there is nothing to learn.
    (only,) = make_examples(nlp, [make_doc(nlp.vocab, row[0], entities, [(0, 1, "lives")])])
    assert pipe.update([only]) == {"relation_classifier": 0.0}
    # They are counted together with the pairs beyond max_pairs.
    pipe.cfg["max_pairs"] = 5
    assert nlp(bare(nlp, row)).spans["relations"].attrs["pairs_left_out"] == 1 + 3


# The tiny vocabulary has all single letters, upper-case ones included.
@pytest.mark.filterwarnings("ignore:.*W_SR108")
def test_casing(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "bert", cased=False)
    row: Row = ("Mary lives in London .", [(0, 1, "PER"), (3, 4, "LOC")], [(0, 1, "lives")])
    lower: Row = (row[0].lower(), row[1], [(0, 1, NEGATIVE)])
    for casing in (False, True):
        nlp, pipe = make_nlp(checkpoint, model=model_config(checkpoint, casing=casing))
        examples = make_examples(nlp, [make_doc(nlp.vocab, *r) for r in (row, lower)])
        initialize(nlp, examples)
        losses = train(nlp, examples, 30)
        nlp.to_disk(tmp_path / "pipeline")
        for pipeline in (nlp, spacy.load(tmp_path / "pipeline")):
            answers = [found(pipeline(bare(pipeline, r))) for r in (row, lower)]
            assert (answers == [expected(row), []]) == casing
        assert (losses[-1] < 0.1) == casing


def test_name_and_tokenizer(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "network").mkdir()
    for path in checkpoint.iterdir():
        if not path.name.startswith(("tokenizer", "vocab")):
            shutil.copy(path, tmp_path / "network")
    answers = []
    for name, tokenizer in ((checkpoint, None), (tmp_path / "network", str(checkpoint))):
        model = model_config(name, tokenizer=tokenizer)
        nlp, pipe = make_nlp(checkpoint, model=model, type_constraints="off")
        initialize(nlp, make_examples(nlp))
        with always_related(pipe):
            answers.append([scores_of(nlp(bare(nlp, row))) for row in ROWS])
    assert answers[0] == answers[1]
    for name, tokenizer in ((tmp_path / "none", None), (tmp_path / "network", str(tmp_path))):
        nlp, _ = make_nlp(checkpoint, model=model_config(name, tokenizer=tokenizer))
        with pytest.raises(OSError, match=r"E_SR202"):
            initialize(nlp, make_examples(nlp))


def test_precision(trained_path: Path) -> None:
    # In half precision a mask of -1e30 would be minus infinity, and the result NaN.
    answers = {}
    for precision in ("float32", "bfloat16"):
        override = {"components": {"relation_classifier": {"model": {"precision": precision}}}}
        nlp = spacy.load(trained_path, config=override)
        docs = list(nlp.pipe(TEXTS))
        assert [found(doc) for doc in docs] == GOLD
        answers[precision] = [score for doc in docs for score in scores_of(doc)]
    assert answers["bfloat16"] != answers["float32"]
    assert answers["bfloat16"] == pytest.approx(answers["float32"], abs=0.05)


# Saving


def test_markers_in_a_config(checkpoint: Path, tmp_path: Path) -> None:
    """Markers can be set as the message E_SR702 says."""
    nlp, _ = make_nlp(checkpoint, mode="ner")
    text = nlp.config.to_str()
    assert "markers = []" in text
    text = text.replace("markers = []", 'markers = [["SUBJ=PER", "[unused9]"]]')
    (tmp_path / "config.cfg").write_text(text)
    nlp = spacy.util.load_model_from_config(spacy.util.load_config(tmp_path / "config.cfg"))
    initialize(nlp, make_examples(nlp))
    vocabulary = network_of(the_pipe(nlp)).encoder.pieces.vocabulary
    assert the_pipe(nlp).markers["SUBJ=PER"] == vocabulary["[unused9]"]


def test_type_constraints_of_labels_with_colons_survive(checkpoint: Path, tmp_path: Path) -> None:
    # The labels of TACRED
    constraints = [["per:title", "PER", "ORG"]]
    nlp, pipe = make_nlp(checkpoint, type_constraints=constraints)
    pipe.initialize(labels={"labels": ["per:title"], "head_types": ["PER"], "tail_types": ["ORG"]})
    nlp.to_disk(tmp_path / "pipeline")
    loaded = the_pipe(spacy.load(tmp_path / "pipeline"))
    assert loaded.cfg["type_constraints"] == constraints


@pytest.mark.parametrize(
    "change", [{"mode": "text"}, {"markers": [["SUBJ_START=PER", "[unused9]"]]}]
)
def test_what_made_the_network_cannot_be_changed_on_loading(
    trained_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="E_SR709.*'relation_classifier'.*'typed_markers'"):
        spacy.load(trained_path, config={"components": {"relation_classifier": change}})
    spacy.load(trained_path, config={"components.relation_classifier.mode": "typed_markers"})


def test_several_labels_of_one_pair(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint)
    row: Row = (TEXTS[1], ROWS[1][1], [(0, 1, "lives"), (0, 1, "loves"), (0, 1, "lives")])
    examples = make_examples(nlp, [make_doc(nlp.vocab, *row), *gold_docs(nlp)])
    with pytest.warns(UserWarning, match=r"W_SR106\] 1 pair.*Mary / London: lives, loves$"):
        initialize(nlp, examples)
    # All labels are known; the first one is learned.
    assert "loves" in pipe.labels
    targets = pipe.make_targets(examples[:1])
    assert [pipe.labels[i] for i in targets.labels] == ["lives"]
    assert pipe.label_data["type_pairs"]["loves"] == [["PER", "LOC"]]
