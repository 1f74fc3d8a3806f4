from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import fix_random_seed

from spacy_spanrel import get_relations, set_relations
from spacy_spanrel.encoding.shim import get_module
from spacy_spanrel.span_relation.network import SpERTHeads

from ..util import initialize, make_doc, train
from .util import (
    ENTITY_LABELS,
    LABELS,
    RELATION_LABELS,
    ROWS,
    TEXTS,
    Row,
    annotations_of,
    copy_ents,
    expected,
    make_examples,
    make_nlp,
    scores_of,
    targets_of,
    the_pipe,
)

GOLD = [expected(row) for row in ROWS]
# Learning, saving, loading


def test_overfits(trained: Language) -> None:
    assert [annotations_of(trained(text)) for text in TEXTS] == GOLD
    scores = trained.evaluate(make_examples(trained))
    for name in ("ents", "rel", "rel_strict"):
        assert [scores[f"{name}_{x}"] for x in "prf"] == [1.0] * 3
    for doc in trained.pipe(TEXTS):
        values = scores_of(doc)
        # Plain floats, not numpy's.
        assert all(type(score) is float and 0 <= score <= 1 for score in values)
        assert {e.label_ for e in doc.ents} <= set(ENTITY_LABELS)
        assert [(e.start, e.end, e.label_) for e in doc.ents] == annotations_of(doc)[0]
        assert doc._.relations == get_relations(doc)


# Labels


def test_labels_from_data(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint)
    initialize(nlp, make_examples(nlp))
    assert pipe.entity_labels == tuple(ENTITY_LABELS)
    assert pipe.relation_labels == tuple(RELATION_LABELS)
    assert pipe.labels == (*ENTITY_LABELS, *RELATION_LABELS)
    assert {key: pipe.label_data[key] for key in LABELS} == LABELS
    assert pipe.label_data["type_pairs"]["based"] == [["Org", "Loc"]]


def test_labels_added_by_hand(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint)
    assert pipe.add_label("Zoo", "entity") == 1
    assert pipe.add_label("Zoo", "entity") == 0
    assert pipe.add_label("visits") == 1
    initialize(nlp, make_examples(nlp))
    # Labels added by hand come first, in order, then those of the data.
    assert pipe.entity_labels == ("Zoo", *ENTITY_LABELS)
    assert pipe.relation_labels == ("visits", *RELATION_LABELS)
    with pytest.raises(ValueError, match=r"E_SR303.*'late'"):
        pipe.add_label("late")
    assert pipe.add_label("visits") == 0


def test_labels_from_initialize(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint)
    examples = make_examples(nlp)
    labels = {
        "entities": ["Per", "Org", "Loc"],
        "relations": ["works", "lives", "killed", "based"],
        "type_pairs": {"works": [["Per", "Loc"]]},
    }
    pipe.initialize(lambda: examples, nlp=nlp, labels=labels)
    assert pipe.entity_labels == ("Per", "Org", "Loc")
    assert pipe.relation_labels == ("works", "lives", "killed", "based")
    assert pipe.label_data["type_pairs"]["works"] == [["Per", "Loc"], ["Per", "Org"]]
    other, second = make_nlp(checkpoint)
    second.initialize(lambda: make_examples(other), nlp=other, labels=pipe.label_data)
    assert second.labels == pipe.labels
    assert second.label_data == pipe.label_data
    for wrong in (["Per"], {"entities": ["Per"]}):
        with pytest.raises(ValueError, match=r"E_SR305"):
            second.initialize(lambda: examples, nlp=nlp, labels=wrong)


def test_no_labels(checkpoint: Path) -> None:
    nlp, _ = make_nlp(checkpoint)
    with pytest.raises(ValueError, match=r"E_SR301.*doc\.spans\['entities'\]"):
        nlp.initialize(lambda: make_examples(nlp, [("he was born", [], [])]))


def test_unknown_gold_labels(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint)
    initialize(nlp, make_examples(nlp))
    words = "Mary lives in London"
    for label, row in (
        ("Ship", (words, [(0, 1, "Ship")], [])),
        ("owns", (words, [(0, 1, "Per"), (3, 4, "Loc")], [(0, 1, "owns")])),
    ):
        with pytest.raises(ValueError, match=rf"E_SR306.*'{label}' \(text: 'Mary'\)"):
            pipe.update(make_examples(nlp, [row]))


def test_data_with_labels_that_initialize_did_not_get(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint)
    examples = make_examples(nlp)
    initialize(nlp, examples)
    labels = pipe.label_data
    for kind, description in (("entities", "an entity type"), ("relations", "a relation")):
        fewer = {**labels, kind: labels[kind][1:]}
        with pytest.raises(ValueError, match=rf"E_SR306.*{description} '{labels[kind][0]}'"):
            pipe.initialize(lambda: examples, nlp=nlp, labels=fewer)


def test_initialize_reads_all_examples(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint)
    rows: list[Row] = [("he was born", [], [])] * 12 + ROWS
    initialize(nlp, make_examples(nlp, rows))
    assert pipe.relation_labels == tuple(RELATION_LABELS)


def test_entities_from_a_span_group(checkpoint: Path) -> None:
    """A span group can hold nested entities and two types for one span; `doc.ents` cannot."""
    nlp, pipe = make_nlp(checkpoint, overlaps="allow", neg_relation_count=0)
    row: Row = (
        TEXTS[0],
        [(0, 2, "Per"), (0, 1, "First"), (4, 5, "Org"), (4, 5, "Shop")],
        [(0, 3, "works")],
    )
    examples = make_examples(nlp, [row], key="entities")
    initialize(nlp, examples)
    assert pipe.entity_labels == ("First", "Org", "Per", "Shop")
    # The relation's argument is the second type of the span.
    assert pipe.label_data["type_pairs"] == {"works": [["Per", "Shop"]]}
    targets = targets_of(pipe, examples)
    n_gold = int((targets.span_labels > 0).sum())
    assert n_gold == 4
    head, tail = targets.pairs[0]
    assert targets.spans[[head, tail]].tolist() == [[0, 2], [4, 5]]


# Odd texts


def test_text_five_times_too_long(trained: Language) -> None:
    """Nearly all of the 40 sentences are found, those in the middle of the text included."""
    doc = trained(" ".join([TEXTS[0]] * 5 * 8))
    assert len(doc) > 5 * 62
    starts = [s.start // 8 for s in doc.spans["entities"] if s.label_ == "Org"]
    assert len(set(starts)) > 30


def test_tokens_without_pieces_keep_alignment(trained: Language) -> None:
    # The encoder never sees such tokens, so they change nothing but the offsets.
    plain = trained(Doc(trained.vocab, words=TEXTS[0].split()))
    words = TEXTS[0].split()
    for position in (0, 3, 6):
        words.insert(position, "\u200b")
    doc = trained(Doc(trained.vocab, words=words))

    def texts(doc: Doc) -> list[tuple[str, str]]:
        return [(s.text.replace("\u200b ", ""), s.label_) for s in doc.spans["entities"]]

    assert texts(doc) == texts(plain)
    assert [r.to_triple() for r in doc._.relations] == [r.to_triple() for r in plain._.relations]


def test_no_entity_begins_or_ends_with_white_space(roberta_checkpoint: Path) -> None:
    """A byte-level tokenizer has pieces for white space, which no gold entity begins with."""
    nlp, pipe = make_nlp(roberta_checkpoint, overlaps="allow", max_span_size=3)
    initialize(nlp, make_examples(nlp))
    with torch.no_grad():
        get_module(pipe.model, SpERTHeads).entity_classifier.bias[1] += 100
    doc = nlp(Doc(nlp.vocab, words=["\n", "Mary", " \n ", "lives", "here", "\t"]))
    spans = {(span.start, span.end) for span in doc.spans["entities"]}
    assert spans == {(1, 2), (1, 4), (3, 4), (3, 5), (4, 5)}


def test_corpus_without_relations(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint)
    rows: list[Row] = [(text, entities, []) for text, entities, _ in ROWS]
    examples = make_examples(nlp, rows)
    with pytest.warns(UserWarning, match="W_SR104"):
        initialize(nlp, examples)
    train(nlp, examples, 60)
    assert pipe.relation_labels == ()
    assert [annotations_of(nlp(text)) for text in TEXTS] == [expected(row) for row in rows]
    scores = nlp.evaluate(examples)
    assert scores["ents_f"] == 1.0
    assert scores["rel_f"] is None


@pytest.mark.parametrize("n_entities", [0, 1, 2])
def test_few_entities(checkpoint: Path, n_entities: int) -> None:
    nlp, pipe = make_nlp(checkpoint)
    initialize(nlp, make_examples(nlp))
    row: Row = (TEXTS[1], ROWS[1][1][:n_entities], [])
    assert pipe.update(make_examples(nlp, [row, row]))["span_relation"] > 0


# Batches and processes


def test_many_chunks_equal_one(trained: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = list(trained.pipe(TEXTS * 3))
    monkeypatch.setattr("spacy_spanrel.span_relation.component._CHUNK_TOKENS", 9)
    for doc, other in zip(docs, trained.pipe(TEXTS * 3), strict=True):
        assert annotations_of(doc) == annotations_of(other)
        assert scores_of(other) == pytest.approx(scores_of(doc), abs=1e-5)


# Gold annotations that do not fit


def test_misaligned_gold(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint)
    gold = make_doc(nlp.vocab, ROWS[0][0], ROWS[0][1], ROWS[0][2])
    words = ["John", "Smith", "works", "for Google", "in", "Paris", "."]
    predicted = Doc(nlp.vocab, words=words)
    assert predicted.text == gold.text
    examples = [*make_examples(nlp), Example(predicted, gold)]
    with pytest.warns(UserWarning, match=r"W_SR101\] 1 gold span.*'Google' \(Org\)"):
        initialize(nlp, examples)
    targets = targets_of(pipe, examples[-1:])
    assert int((targets.span_labels > 0).sum()) == 2
    assert targets.pair_targets.sum() == 0


def test_too_long_gold(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint, max_span_size=1)
    examples = make_examples(nlp)
    with pytest.warns(UserWarning, match=r"W_SR102\] 1 of 10 .* 'John Smith'"):
        initialize(nlp, examples)
    assert train(nlp, examples, 1)[0] > 0
    long: Row = (" ".join(["Mary"] * 120), [(0, 110, "Per"), (115, 116, "Loc")], [(0, 1, "lives")])
    assert train(nlp, make_examples(nlp, [long]), 1)[0] > 0


# Given entities


def with_ruler(nlp: Language, patterns: list[dict[str, str]]) -> None:
    nlp.add_pipe("entity_ruler", first=True).add_patterns(patterns)


PATTERNS = [
    {"label": label, "pattern": " ".join(text.split()[start:end])}
    for text, entities, _ in ROWS
    for start, end, label in entities
]


def test_trains_on_predicted_entities_that_differ_from_gold(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint, entities="doc")
    # One gold entity is missed, one is wrong: "company".
    patterns = [p for p in PATTERNS if p["pattern"] != "Google"]
    with_ruler(nlp, [*patterns, {"label": "Org", "pattern": "company"}])
    examples = make_examples(nlp)
    fix_random_seed(0)
    # Initialize only this component: nlp.initialize would clear the ruler's patterns.
    pipe.initialize(lambda: examples, nlp=nlp)
    losses: dict[str, float] = {}
    optimizer = nlp.resume_training()
    optimizer.learn_rate = 5e-3
    with pytest.warns(
        UserWarning,
        match=r"W_SR105\] Component '\w+': 2 gold relation.*works\(John Smith, Google\)",
    ):
        nlp.update(examples, sgd=optimizer, losses=losses, annotates=["entity_ruler"])
    for _ in range(60):
        nlp.update(examples, sgd=optimizer, losses=losses, annotates=["entity_ruler"])
    relations = [annotations_of(nlp(text), spans_key=None)[1] for text in TEXTS]
    assert relations == [[], *(row[1] for row in GOLD[1:])]
    doc = nlp(TEXTS[3])
    assert [e.text for e in doc.ents] == ["Acme", "company", "Berlin"]
    assert "entities" not in doc.spans
    assert "ents_f" not in pipe.score(examples)


def test_frozen_component_annotates(trained: Language, checkpoint: Path) -> None:
    """A frozen `span_relation` predicts the entities whose relations a second one learns."""
    nlp, second = make_nlp(
        checkpoint, name="second", entities="doc", relations_key="more", extension_prefix="more_"
    )
    nlp.add_pipe("span_relation", source=trained, first=True)
    examples = make_examples(nlp)
    for example in examples:
        set_relations(example.reference, get_relations(example.reference), "more")
    fix_random_seed(0)
    second.initialize(lambda: examples, nlp=nlp)
    frozen = nlp.get_pipe("span_relation").to_bytes()
    optimizer = nlp.resume_training()
    optimizer.learn_rate = 5e-3
    for _ in range(60):
        losses: dict[str, float] = {}
        nlp.update(
            examples,
            sgd=optimizer,
            losses=losses,
            exclude=["span_relation"],
            annotates=["span_relation"],
        )
    assert set(losses) == {"second", "second_relations"}
    assert nlp.get_pipe("span_relation").to_bytes() == frozen
    for text, row in zip(TEXTS, GOLD, strict=True):
        assert annotations_of(nlp(text), relations_key="more") == row


def test_learns_relations_of_entities_from_the_reader(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint, entities="doc")
    examples = make_examples(nlp)
    for example in examples:
        copy_ents(example)
    initialize(nlp, examples)
    train(nlp, examples, 60)
    for example, row in zip(examples, GOLD, strict=True):
        doc = example.predicted.copy()
        pipe(doc)
        assert annotations_of(doc, spans_key=None) == row


# Several components, names


def test_two_instances(trained: Language, checkpoint: Path, tmp_path: Path) -> None:
    nlp, _ = make_nlp(
        checkpoint,
        name="other",
        spans_key="sc",
        relations_key="links",
        extension_prefix="other_",
        set_ents="off",
    )
    nlp.add_pipe("span_relation", source=trained, name="span_relation")
    examples = make_examples(
        nlp, [("Mary killed the city", [(0, 1, "A"), (3, 4, "B")], [(1, 0, "r")])], key="sc"
    )
    for example in examples:
        set_relations(example.reference, get_relations(example.reference), "links")
    fix_random_seed(0)
    other = nlp.get_pipe("other")
    other.initialize(lambda: examples, nlp=nlp)
    optimizer = nlp.resume_training()
    optimizer.learn_rate = 5e-3
    for _ in range(40):
        other.update(examples, sgd=optimizer)
    nlp.to_disk(tmp_path / "pipeline")
    for pipeline in (nlp, spacy.load(tmp_path / "pipeline")):
        doc = pipeline(TEXTS[0])
        assert annotations_of(doc) == GOLD[0]
        doc = pipeline("Mary killed the city")
        assert annotations_of(doc, "sc", "links") == (
            [(0, 1, "A"), (3, 4, "B")],
            [((3, 4), (0, 1), "r")],
        )
        assert [r.label for r in doc._.other_relations] == ["r"]
        assert doc._.relations == get_relations(doc, "relations")
        assert [r.label for r in doc[3:4]._.other_relations] == ["r"]


def test_analyze_pipes(trained: Language) -> None:
    analysis = trained.analyze_pipes(keys=["assigns", "requires", "scores", "retokenizes"])
    summary = analysis["summary"]["span_relation"]
    assert set(summary["assigns"]) == {
        "doc.ents",
        "doc.spans",
        "doc._.relations",
        "doc._.spanrel_report",
    }
    assert {"ents_f", "rel_f", "rel_strict_f", "rel_per_type"} <= set(summary["scores"])
    assert not analysis["problems"]["span_relation"]


# The negative label


NEGATIVE_ROW: Row = (
    ROWS[0][0],
    ROWS[0][1],
    [*ROWS[0][2], (0, 2, "no_relation"), (2, 0, "no_relation")],
)


def test_negative_label_is_no_relation(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint)
    examples = make_examples(nlp, [NEGATIVE_ROW, *ROWS[1:]])
    with pytest.warns(UserWarning, match=r"W_SR152\].* 2 gold.*no_relation\(John Smith, Paris\)"):
        initialize(nlp, examples)
    assert pipe.relation_labels == tuple(RELATION_LABELS)
    assert "no_relation" not in pipe.label_data["type_pairs"]
    assert pipe.update(examples)["span_relation"] > 0
    assert pipe.skipped["negative_relations"] == 2
    # Training learns the annotated negative pairs as unrelated.
    targets = targets_of(pipe, examples[:1])
    assert len(targets.pairs) == 6
    assert targets.pair_targets.sum() == 2
    # The negative label does not count in scores.
    right = Example(make_doc(nlp.vocab, *ROWS[0]), examples[0].reference)
    assert pipe.score([right])["rel_f"] == pipe.score([right])["rel_strict_f"] == 1.0


def test_negative_label_may_be_a_relation(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint, negative_label=None)
    initialize(nlp, make_examples(nlp, [NEGATIVE_ROW]))
    assert "no_relation" in pipe.relation_labels


def test_negative_label_of_an_old_pipeline_is_not_predicted(
    trained: Language, tmp_path: Path
) -> None:
    """Version 0.1.0 had no such setting, and learned the negative label as a relation."""
    pipe = the_pipe(trained)
    old_labels = [label if label != "works" else "no_relation" for label in pipe.relation_labels]
    pipe.cfg = {**pipe.cfg, "relation_labels": old_labels, "type_constraints": "off"}
    trained.to_disk(tmp_path / "pipeline")
    for name in ("config.cfg", "span_relation/cfg"):
        path = tmp_path / "pipeline" / name
        lines = path.read_text().splitlines()
        path.write_text("\n".join(line for line in lines if "negative_label" not in line))
    loaded = spacy.load(tmp_path / "pipeline")
    assert the_pipe(loaded).cfg["negative_label"] == "no_relation"
    assert {r.label for r in loaded(TEXTS[0])._.relations} == {"based"}
    the_pipe(loaded).cfg["negative_label"] = None
    assert {r.label for r in loaded(TEXTS[0])._.relations} == {"based", "no_relation"}


@pytest.mark.parametrize(
    "setting", [{"symmetric": ["foo"]}, {"type_constraints": [["foo", "Per", "Org"]]}]
)
def test_settings_with_unknown_labels_are_refused_on_loading(
    trained_path: Path, setting: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"E_SR304\] 'foo'"):
        spacy.load(trained_path, config={"components": {"span_relation": setting}})
