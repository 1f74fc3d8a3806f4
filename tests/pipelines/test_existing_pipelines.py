"""The components as additions to existing pipelines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from ..extractive_qa.util import ROWS as QA_ROWS
from ..extractive_qa.util import gold_doc
from ..relation_classifier.conftest import ROWS, TEXTS, expected
from ..span_relation.util import annotations_of
from ..span_relation.util import expected as expected_spans
from .conftest import NAMES, annotations, gold


@Language.component("spanrel_test_without_london")
def without_london(doc: Doc) -> Doc:
    doc.set_ents([ent for ent in doc.ents if ent.text != "London"])
    return doc


def ents(doc: Doc) -> list[tuple[int, int, str]]:
    return [(ent.start, ent.end, ent.label_) for ent in doc.ents]


def without(table: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the annotations of all components but one."""
    return {key: value for key, value in table.items() if key != name}


# After other components


def test_all_components_predict_their_rows(nlp: Language) -> None:
    predictions = annotations(nlp)
    assert predictions["span_relation"] == [expected_spans(row) for row in ROWS]
    assert predictions["relation_classifier"] == [expected(row) for row in ROWS]
    assert [a[:2] for a in predictions["extractive_qa"][1]] == [("lives", "Mary"), ("born", "")]
    docs = list(nlp.pipe(TEXTS))
    assert [ents(doc) for doc in docs] == [row[1] for row in ROWS]
    assert docs[1][0].tag_ == "NAME"


@pytest.mark.parametrize("name", NAMES)
def test_sourced(
    nlp: Language, name: str, existing_path: Path, sources: dict[str, Path], tmp_path: Path
) -> None:
    """A sourced component brings its labels, settings and predictions, and is saved with the new
    pipeline."""
    source = spacy.load(sources[name])
    pipe: Any = source.get_pipe(name)
    settings = dict(pipe.cfg)
    before = annotations(source)[name] if name != "relation_classifier" else None
    target = spacy.load(existing_path)
    target.add_pipe(name, source=source, name="mine")
    assert target.get_pipe("mine").cfg == settings
    assert target.get_pipe_meta("mine").factory == name
    predictions = annotations(target)[name]
    assert predictions == annotations(nlp)[name]
    assert before is None or predictions == before
    target.to_disk(tmp_path)
    assert annotations(spacy.load(tmp_path))[name] == predictions


@pytest.mark.parametrize("set_ents", ["keep", "replace", "off"])
def test_entities_of_other_components(full_path: Path, set_ents: str) -> None:
    config = {"components.span_relation.set_ents": set_ents}
    nlp = spacy.load(full_path, exclude=["ner"], config=config)
    ruler = nlp.add_pipe("entity_ruler", before="span_relation")
    ruler.add_patterns([{"label": "CAPITAL", "pattern": "Paris"}])
    doc = nlp(TEXTS[0])
    predicted = ROWS[0][1]
    ruled = [(6, 7, "CAPITAL")]
    merged = {"keep": predicted[:2] + ruled, "replace": predicted, "off": ruled}
    assert ents(doc) == merged[set_ents]
    # The span group of the component has all its predictions.
    assert annotations_of(doc) == expected_spans(ROWS[0])


def test_relations_of_existing_entities(full_path: Path) -> None:
    """With entities = "doc", relations join entities of the NER, here without London."""
    nlp = spacy.load(full_path, config={"components.span_relation.entities": "doc"})
    nlp.add_pipe("spanrel_test_without_london", after="ner")
    docs = list(nlp.pipe(TEXTS))
    for doc, row in zip(docs, ROWS, strict=True):
        entities = [e for e in row[1] if doc[e[0] : e[1]].text != "London"]
        assert ents(doc) == entities
        assert "entities" not in doc.spans
        relations = [r for r in expected(row) if r[1] in [e[:2] for e in entities]]
        assert [
            ((r.head.start, r.head.end), (r.tail.start, r.tail.end), r.label)
            for r in sorted(doc._.relations, key=lambda r: (r.head.start, r.tail.start))
        ] == relations


# Without some of the components


@pytest.mark.parametrize("name", NAMES)
def test_loaded_without(full_path: Path, nlp: Language, name: str) -> None:
    complete = annotations(nlp)
    excluded = spacy.load(full_path, exclude=[name])
    assert name not in excluded.component_names
    assert without(annotations(excluded), name) == without(complete, name)
    disabled = spacy.load(full_path, disable=[name])
    assert name in disabled.component_names
    assert without(annotations(disabled), name) == without(complete, name)
    (doc,) = disabled.pipe(TEXTS[1:2])
    empty = {
        "span_relation": doc._.relations,
        "relation_classifier": doc._.pair_relations,
        "extractive_qa": doc._.answers,
    }
    assert empty[name] == ()
    disabled.enable_pipe(name)
    assert annotations(disabled) == complete


@pytest.mark.parametrize("name", NAMES)
def test_alone(full_path: Path, nlp: Language, name: str) -> None:
    complete = annotations(nlp)
    alone = spacy.load(full_path, enable=[name])
    assert alone.pipe_names == [name]
    with nlp.select_pipes(enable=[name]):
        assert nlp.pipe_names == [name]
        selected = annotations(nlp)
    assert annotations(alone) == selected
    if name == "relation_classifier":  # no entities, no pairs
        assert selected[name] == [[] for _ in TEXTS]
    else:
        assert selected[name] == complete[name]
    assert annotations(nlp) == complete
    with nlp.select_pipes(disable=[name]):
        assert without(annotations(nlp), name) == without(complete, name)


# Changes to the pipeline


def test_replace_listeners_of_another_component(nlp: Language, tmp_path: Path) -> None:
    """`replace_listeners` for a tagger that listens to a `tok2vec` changes nothing for other
    components."""
    complete = annotations(nlp)
    tags = [[token.tag_ for token in doc] for doc in nlp.pipe(TEXTS)]
    nlp.replace_listeners("tok2vec", "tagger", ["model.tok2vec"])
    nlp.remove_pipe("tok2vec")
    nlp.to_disk(tmp_path)
    for other in (nlp, spacy.load(tmp_path)):
        assert annotations(other) == complete
        assert [[token.tag_ for token in doc] for doc in other.pipe(TEXTS)] == tags
    with pytest.raises(ValueError, match="E889"):
        nlp.replace_listeners("tok2vec", "span_relation", ["model.encoder"])


@pytest.mark.parametrize("name", NAMES)
def test_renamed(nlp: Language, name: str, tmp_path: Path) -> None:
    complete = annotations(nlp)
    nlp.rename_pipe(name, "mine")
    pipe: Any = nlp.get_pipe("mine")
    assert annotations(nlp) == complete
    scores = nlp.evaluate(gold(nlp))
    key = {"relation_classifier": "threshold", "span_relation": "relation_threshold"}.get(name)
    if key is not None:
        assert scores["rel_f"] == 1.0
        pipe.cfg[key] = 1.0
    nlp.to_disk(tmp_path)
    loaded = spacy.load(tmp_path)
    assert loaded.get_pipe("mine").name == "mine"
    assert loaded.get_pipe("mine").cfg == pipe.cfg
    assert annotations(loaded) == annotations(nlp)
    if key is not None:
        (doc,) = loaded.pipe(TEXTS[1:2])
        assert not (doc._.relations if name == "span_relation" else doc._.pair_relations)
        again = spacy.load(tmp_path, config={f"components.mine.{key}": 0.1})
        assert annotations(again)[name] == complete[name]
    losses: dict[str, float] = {}
    examples = gold(loaded)
    if name == "extractive_qa":
        examples = [Example(loaded.make_doc(r[0]), gold_doc(loaded, r)) for r in QA_ROWS]
    with loaded.select_pipes(enable="mine"):
        loaded.update(examples, losses=losses)
    assert losses["mine"] > 0


SECOND = {
    "span_relation": {"spans_key": "second_entities", "relations_key": "second"},
    "relation_classifier": {"relations_key": "second"},
    "extractive_qa": {"qa_key": "second"},
}


@pytest.mark.parametrize("name", NAMES)
def test_two_of_one_factory(
    nlp: Language, sources: dict[str, Path], name: str, tmp_path: Path
) -> None:
    """With different keys they do not touch each other's annotations."""
    complete = annotations(nlp)
    settings = {**SECOND[name], "extension_prefix": "second_"}
    config = {f"components.{name}.{key}": value for key, value in settings.items()}
    nlp.add_pipe(name, source=spacy.load(sources[name], config=config), name="second")
    nlp.to_disk(tmp_path)
    for other in (nlp, spacy.load(tmp_path)):
        assert annotations(other) == complete
        (doc,) = other.pipe(TEXTS[1:2])
        if name == "extractive_qa":
            assert [a.text for a in doc._.second_answers] == [a.text for a in doc._.answers]
            assert [q.id for q in doc._.second_questions] == ["lives", "born"]
            continue
        relations = doc._.relations if name == "span_relation" else doc._.pair_relations
        assert [r.to_dict() for r in doc._.second_relations] == [r.to_dict() for r in relations]
        assert len(relations) == 1
        span = relations[0].head
        assert span._.second_relations == doc._.second_relations
        # Each is scored on the gold annotations of its own key.
        examples = gold(other)
        del examples[1].reference.spans["second"]
        scores = other.evaluate(examples, per_component=True)
        assert scores[name]["rel_f"] == 1.0
        assert 0 < scores["second"]["rel_f"] < 1.0


def test_two_span_groups_may_not_share_an_extension(nlp: Language) -> None:
    """Otherwise the extension would return relations of the wrong group."""
    with pytest.raises(ValueError, match=r"E_SR101.*extension_prefix"):
        nlp.add_pipe("span_relation", name="second", config={"relations_key": "second"})


# Metadata of the factories


def test_analyze_pipes(nlp: Language) -> None:
    analysis = nlp.analyze_pipes()
    assert analysis["problems"] == {name: [] for name in nlp.pipe_names}
    summary = analysis["summary"]
    assert {"doc.ents", "doc.spans", "doc._.relations"} <= set(summary["span_relation"]["assigns"])
    assert summary["relation_classifier"]["requires"] == ["doc.ents"]
    assert "doc.ents" not in summary["relation_classifier"]["assigns"]
    assert set(summary["extractive_qa"]["assigns"]) >= {"doc.spans", "doc._.answers"}
    assert {"doc.ents", "doc._.relations"} <= set(analysis["attrs"])
    # The declared scores include these names.
    scores = {
        "span_relation": {"ents_f", "rel_f", "rel_strict_f", "rel_macro_f"},
        "relation_classifier": {"rel_f", "rel_macro_f"},
        "extractive_qa": {"qa_f1", "qa_exact"},
    }
    for name in NAMES:
        assert scores[name] <= set(summary[name]["scores"])
        assert not summary[name]["retokenizes"]


def test_analyze_pipes_without_entities(sources: dict[str, Path]) -> None:
    nlp = spacy.load(sources["relation_classifier"])
    assert nlp.analyze_pipes()["problems"] == {"relation_classifier": ["doc.ents"]}
    nlp.add_pipe("entity_ruler", first=True)
    assert nlp.analyze_pipes()["problems"]["relation_classifier"] == []


@pytest.mark.parametrize("name", NAMES)
def test_declared_scores_are_computed(nlp: Language, name: str) -> None:
    examples = gold(nlp)
    if name == "extractive_qa":
        examples = [Example(nlp.make_doc(r[0]), gold_doc(nlp, r)) for r in QA_ROWS]
    scores = nlp.evaluate(examples, per_component=True)[name]
    declared = nlp.get_pipe_meta(name).default_score_weights
    missing = set(declared) - set(scores)
    # With score_pairs = "predicted" there are no confusions to count.
    assert missing <= {"rel_confusions"}
    json.dumps(scores)
