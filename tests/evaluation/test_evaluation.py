"""Pipelines with one component or several get the scores of `spacy evaluate`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.cli.evaluate import evaluate as spacy_evaluate
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Corpus, Example

from spacy_spanrel import Relation, set_questions, set_relations
from spacy_spanrel.cli import evaluate
from spacy_spanrel.encoding.shim import torch_shims
from spacy_spanrel.evaluation import (
    ComponentEvaluation,
    add_up,
    configured_inputs,
    evaluate_examples,
)
from spacy_spanrel.training.corpus import InputCorpus

from ..util import write_docs
from .conftest import NAMES

VIEWS = ("ents", "rel", "rel_strict")


def without_speed(scores: dict[str, Any]) -> dict[str, Any]:
    return {**scores, "speed": None}


def without_entities(scores: dict[str, Any]) -> dict[str, Any]:
    """Leave out the scores that `spacy evaluate` has only with a scorer of their own."""
    return {name: score for name, score in scores.items() if not name.startswith("rel_entity")}


def assert_adds_up(part: ComponentEvaluation) -> None:
    totals = add_up(part.outcomes)
    for name in VIEWS:
        if part.scores.get(f"{name}_f") is not None:
            total = totals[name]
            scores = [part.scores[f"{name}_{x}"] for x in "prf"]
            assert [total.precision, total.recall, total.fscore] == scores
    answers = [outcome.answer for outcome in part.outcomes if outcome.answer]
    if answers:
        assert len(answers) == part.scores["qa_total"]
        mean = sum(answer.f1 for answer in answers) / len(answers)
        assert mean == pytest.approx(part.scores["qa_f1"])


@contextmanager
def counted_forward_passes(nlp: Language) -> Iterator[list[int]]:
    """Count the rows that the networks encode."""
    rows: list[int] = []
    hooks = [
        shim.module.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
        for _, pipe in nlp.pipeline
        if hasattr(pipe, "model")
        for shim in torch_shims(pipe.model)
    ]
    try:
        yield rows
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_spacy(
    name: str, pipelines: dict[str, Path], corpora: dict[str, Path]
) -> None:
    found = evaluate(pipelines[name], corpora[name])
    wanted = spacy_evaluate(str(pipelines[name]), corpora[name])
    assert without_entities(without_speed(found.scores)) == without_speed(wanted)
    (part,) = found.components
    assert (part.name, part.factory) == (name, name)
    assert part.scores.items() <= found.scores.items()
    assert_adds_up(part)
    assert found.inputs == ()
    # A Doc without relations differs from one that is not annotated.
    wanted_notices = [] if name == "extractive_qa" else [True]
    assert ["W_SR141" in notice for notice in found.notices] == wanted_notices
    assert any(outcome.status != "correct" for outcome in part.outcomes)
    data = found.to_dict()
    assert set(without_entities(data)) - set(wanted) == {"confusion", "counts", "calibration"}
    assert ("rel_entity_f" in data) == (name != "extractive_qa")


@pytest.mark.parametrize("name", NAMES)
def test_the_networks_read_everything_once(
    name: str, pipelines: dict[str, Path], corpora: dict[str, Path]
) -> None:
    nlp = spacy.load(pipelines[name])
    examples = list(Corpus(corpora[name])(nlp))
    with counted_forward_passes(nlp) as wanted:
        nlp.evaluate(examples)
    with counted_forward_passes(nlp) as found:
        evaluate_examples(nlp, examples)
    assert found == wanted != []
    # The component has its own scorer again.
    assert type(nlp.get_pipe(name).scorer).__name__ == "function"


def test_confusions_of_pairs_hold_the_negative_ones(
    pipelines: dict[str, Path], corpora: dict[str, Path]
) -> None:
    found = evaluate(pipelines["relation_classifier"], corpora["relation_classifier"])
    confusion = found.components[0].confusions["relation"]
    assert confusion.none == "no_relation"
    matrix = confusion.matrix()
    nlp = spacy.blank("en")
    gold = [eg.reference for eg in Corpus(corpora["relation_classifier"])(nlp)]
    # Each gold pair counts in one cell, negative ones in the last row.
    assert sum(map(sum, matrix)) == sum(len(doc._.relations) for doc in gold)
    negative = [r for doc in gold for r in doc._.relations if r.label == "no_relation"]
    assert sum(matrix[-1]) == len(negative)


def test_several_components(pipelines: dict[str, Path], corpora: dict[str, Path]) -> None:
    nlp = spacy.load(pipelines["span_relation"])
    nlp.add_pipe("sentencizer", first=True)
    for name in ("relation_classifier", "extractive_qa"):
        nlp.add_pipe(name, source=spacy.load(pipelines[name]))
    classifier: Any = nlp.get_pipe("relation_classifier")
    classifier.cfg["type_map"] = {"Per": ["PER"], "Org": ["ORG"], "Loc": ["LOC"]}
    examples = list(Corpus(corpora["all"])(nlp))
    found = evaluate_examples(nlp, examples)
    assert without_entities(without_speed(found.scores)) == without_speed(nlp.evaluate(examples))
    assert [part.name for part in found.components] == NAMES
    for part in found.components:
        assert_adds_up(part)
    # Both relation components use the same names; the pipeline's scores are those of the last one.
    data = found.to_dict()
    assert data["rel_f"] == found.components[1].scores["rel_f"]
    assert data["components"]["span_relation"] == found.components[0].scores
    assert set(data["counts"]["span_relation"]) == {
        *VIEWS,
        "rel_entity",
        "entities",
        "relations",
    }
    assert data["counts"]["span_relation"]["rel_strict"]["tp"] >= 0
    assert list(data["confusion"]["extractive_qa"]) == ["answers"]


# Inputs


def taking_entities(pipelines: dict[str, Path], inputs: list[str] | None) -> Language:
    """A pipeline that gets its entities from the corpus, as its config says."""
    config = {"components.span_relation.entities": "doc"}
    nlp = spacy.load(pipelines["span_relation"], config=config)
    if inputs is not None:
        nlp.config["corpora"]["dev"] = {
            "@readers": "spacy-spanrel.Corpus.v1",
            "path": "${paths.dev}",
            "inputs": inputs,
        }
    return nlp


def test_inputs_are_those_of_the_config(
    pipelines: dict[str, Path], corpora: dict[str, Path], tmp_path: Path
) -> None:
    nlp = taking_entities(pipelines, ["ents"])
    nlp.to_disk(tmp_path / "model")
    found = evaluate(tmp_path / "model", corpora["all"])
    assert found.inputs == ("ents",)
    wanted = nlp.evaluate(list(InputCorpus(corpora["all"], inputs=["ents"])(nlp)))
    assert without_entities(without_speed(found.scores)) == without_speed(wanted)
    part = found.components[0]
    assert list(part.confusions) == ["relation"]
    assert any(outcome.predicted for outcome in part.outcomes)
    # With texts only, as in spacy evaluate, there are no entities and so no relations.
    bare = evaluate(tmp_path / "model", corpora["all"], inputs=[])
    assert without_entities(without_speed(bare.scores)) == without_speed(
        spacy_evaluate(str(tmp_path / "model"), corpora["all"])
    )
    assert bare.scores["rel_r"] == 0.0


def test_configured_inputs(pipelines: dict[str, Path]) -> None:
    for inputs in (["ents", "x"], []):
        assert configured_inputs(taking_entities(pipelines, inputs)) == tuple(inputs)
    nlp = taking_entities(pipelines, None)
    assert configured_inputs(nlp) == ()
    nlp.config["training"]["dev_corpus"] = "corpora.nowhere"
    assert configured_inputs(nlp) == ()
    nlp.config["corpora"]["mine"] = {"@readers": "spacy-spanrel.Corpus.v1", "inputs": ["ents"]}
    nlp.config["training"]["dev_corpus"] = "corpora.mine"
    assert configured_inputs(nlp) == ("ents",)


# Missing annotation


def gold(nlp: Language, text: str, *, ents: bool, relation: str | None, asked: bool = False) -> Doc:
    doc = nlp.make_doc(text)
    if ents or relation is not None:
        head, tail = Span(doc, 0, 1, label="Per"), Span(doc, 3, 4, label="Loc")
        if ents:
            doc.set_ents([head, tail])
        if relation is not None:
            set_relations(doc, [Relation(head, tail, relation)] if relation else [])
    if asked:
        set_questions(doc, ["who?"])
    return doc


TEXT = "Mary lives in London ."


def evaluate_docs(nlp: Language, docs: list[Doc]) -> Any:
    examples = [Example(nlp.make_doc(doc.text), doc) for doc in docs]
    return evaluate_examples(nlp, examples, corpus="dev.spacy")


def test_missing_annotation_is_said_and_not_scored(pipelines: dict[str, Path]) -> None:
    nlp = spacy.load(pipelines["span_relation"])
    nlp.get_pipe("span_relation").cfg["relation_threshold"] = 0.0
    found = evaluate_docs(nlp, [gold(nlp, TEXT, ents=True, relation=None)])
    assert found.scores["rel_f"] is None
    part = found.components[0]
    assert list(part.confusions) == ["entity"]
    assert {outcome.kind for outcome in part.outcomes} == {"entity"}
    (notice,) = found.notices
    assert "W_SR140" in notice
    assert "no gold relations" in notice
    # If only some Docs lack it, predictions in them count, as in the scores.
    docs = [gold(nlp, TEXT, ents=True, relation=r) for r in ("lives", None)]
    docs.append(gold(nlp, TEXT, ents=False, relation=""))
    found = evaluate_docs(nlp, docs)
    assert_adds_up(found.components[0])
    entities, relations = found.notices
    assert "1 of the gold Docs have no entities in doc.spans['entities']" in entities
    assert "1 of the gold Docs have no relations in doc.spans['relations']" in relations


def test_negative_pairs_are_no_gold_relations(pipelines: dict[str, Path]) -> None:
    nlp = spacy.load(pipelines["relation_classifier"])
    with pytest.raises(ValueError, match="no gold relations"):
        evaluate_docs(nlp, [gold(nlp, TEXT, ents=True, relation="no_relation")])


def test_questions_whose_answer_nobody_knows(
    pipelines: dict[str, Path], corpora: dict[str, Path]
) -> None:
    nlp = spacy.load(pipelines["extractive_qa"])
    docs = [eg.reference for eg in Corpus(corpora["extractive_qa"])(nlp)]
    found = evaluate_docs(nlp, [*docs, gold(nlp, TEXT, ents=False, relation=None, asked=True)])
    (notice,) = found.notices
    assert "1 of the gold questions have no answers" in notice
    assert_adds_up(found.components[0])
    with pytest.raises(ValueError, match="no gold answers"):
        evaluate_docs(nlp, docs[:0] + [gold(nlp, TEXT, ents=True, relation=None, asked=True)])


# Scorers


def test_no_scorer_and_one_of_ones_own(
    pipelines: dict[str, Path], corpora: dict[str, Path]
) -> None:
    nlp = spacy.load(pipelines["span_relation"])
    nlp.get_pipe("span_relation").scorer = None
    with pytest.raises(ValueError, match="has no scorer"):
        evaluate_examples(nlp, list(Corpus(corpora["span_relation"])(nlp)))

    def own(examples: Any, **cfg: Any) -> dict[str, Any]:
        return {"my_score": len(list(examples)) / 10}

    nlp.get_pipe("span_relation").scorer = own
    found = evaluate_examples(nlp, list(Corpus(corpora["span_relation"])(nlp)))
    assert found.components[0].scores == {"my_score": 0.5}
    assert found.components[0].outcomes
    assert any("rules of score_relations" in notice for notice in found.notices)
    assert nlp.get_pipe("span_relation").scorer is own


def test_errors(pipelines: dict[str, Path], tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    doc = nlp.make_doc(TEXT)
    with pytest.raises(ValueError, match="found sentencizer, expected at least one of"):
        evaluate_examples(nlp, [Example(doc, doc.copy())])
    with pytest.raises(ValueError, match="holds no Docs"):
        evaluate(pipelines["span_relation"], write_docs(tmp_path / "empty.spacy", []))


def test_progress(
    pipelines: dict[str, Path], corpora: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bar counts all Docs, and the pipeline has the same components during the run."""
    from spacy_spanrel.evaluation import evaluate as module

    shown: list[int] = []

    class Bar(module.tqdm):  # type: ignore[misc, name-defined]
        def close(self) -> None:
            shown.append(self.n)
            super().close()

    monkeypatch.setattr(module, "tqdm", Bar)
    nlp = spacy.load(pipelines["span_relation"])
    during: list[list[str]] = []

    @Language.component("spanrel_test_probe")
    def probe(doc: Doc) -> Doc:
        during.append(nlp.pipe_names)
        return doc

    nlp.add_pipe("spanrel_test_probe")
    names = list(nlp.pipe_names)
    examples = list(Corpus(corpora["span_relation"])(nlp))
    # On other outputs than terminals the bar would be disabled and count nothing.
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    evaluate_examples(nlp, examples, quiet=False)
    assert len(examples) in shown
    assert during == [names] * len(examples)
    assert nlp.pipe_names == names
