from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import spacy
import srsly
from spacy.cli.evaluate import evaluate
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Corpus, Example

from spacy_spanrel import (
    Answer,
    Question,
    Relation,
    get_questions,
    get_relations,
    set_answers,
    set_relations,
)
from spacy_spanrel.annotations import make_answer
from spacy_spanrel.cli import find_null_threshold, find_threshold
from spacy_spanrel.converters import ConversionError
from spacy_spanrel.evaluation import tune_threshold
from spacy_spanrel.training.corpus import read_docs
from tests.cli import util
from tests.cli.util import assert_fails, one_line, snapshot
from tests.span_relation import util as spans
from tests.util import initialize, train, write_docs

run, succeed = partial(util.run, "find-threshold"), partial(util.succeed, "find-threshold")
run_null = partial(util.run, "find-null-threshold")
succeed_null = partial(util.succeed, "find-null-threshold")


def evaluate_with(model: Path | Language, corpus: Path, setting: str, threshold: float) -> Any:
    """Return the scores of `nlp.evaluate` at a threshold."""
    nlp = spacy.load(model) if isinstance(model, Path) else model
    nlp.pipeline[-1][1].cfg[setting] = threshold
    return nlp.evaluate(list(Corpus(corpus)(nlp)))


@pytest.mark.parametrize("metric", ["rel_f", "rel_strict_f", "rel_macro_f", "rel_strict_macro_f"])
def test_span_relation_equals_evaluation(
    span_model: Path, span_corpus: Path, tmp_path: Path, metric: str
) -> None:
    outcome = find_threshold(span_model, span_corpus, metric=metric, output=tmp_path / "new")
    assert (outcome.component, outcome.setting) == ("span_relation", "relation_threshold")
    assert outcome.before.threshold == 0.4
    assert outcome.docs == 5
    assert outcome.relations == sum(len(row[2]) for row in spans.ROWS)
    saved = evaluate(str(tmp_path / "new"), span_corpus, silent=True)
    assert saved[metric] == outcome.after.score
    nlp = spacy.load(span_model)
    kind = "rel_strict" if "strict" in metric else "rel"
    for row in (outcome.before, outcome.after, *outcome.others):
        scores = evaluate_with(nlp, span_corpus, outcome.setting, row.threshold)
        assert scores[metric] == row.score
        assert [scores[f"{kind}_{x}"] for x in "prf"] == [row.precision, row.recall, row.f1]
        assert row.score <= outcome.after.score


@pytest.mark.parametrize("score_pairs", ["gold", "predicted"])
@pytest.mark.parametrize("metric", ["rel_f", "rel_macro_f"])
def test_relation_classifier_equals_evaluation(
    pair_model: Path, pair_corpus: Path, tmp_path: Path, score_pairs: str, metric: str
) -> None:
    nlp = spacy.load(pair_model)
    nlp.get_pipe("relation_classifier").cfg["score_pairs"] = score_pairs
    nlp.to_disk(tmp_path / "model")
    outcome = find_threshold(
        tmp_path / "model", pair_corpus, metric=metric, output=tmp_path / "new"
    )
    assert (outcome.component, outcome.setting) == ("relation_classifier", "threshold")
    assert outcome.after.score > 0
    saved = evaluate(str(tmp_path / "new"), pair_corpus, silent=True)
    assert saved[metric] == outcome.after.score
    for row in (outcome.before, outcome.after, *outcome.others):
        scores = evaluate_with(nlp, pair_corpus, outcome.setting, row.threshold)
        assert scores[metric] == row.score
        assert [scores[f"rel_{x}"] for x in "prf"] == [row.precision, row.recall, row.f1]
        assert row.score <= outcome.after.score


def test_both_directions_of_a_relation_count_together(
    pair_model: Path, pair_corpus: Path, tmp_path: Path
) -> None:
    """The threshold is chosen by the score that has most weight in the config."""
    names = {"based": "place(e1,e2)", "lives": "place(e2,e1)"}
    nlp = spacy.load(pair_model)
    cfg = nlp.get_pipe("relation_classifier").cfg
    cfg["labels"] = [names.get(label, label) for label in cfg["labels"]]
    weights = nlp.config["training"]["score_weights"]
    weights.update(rel_f=0.0, rel_semeval_macro_f=1.0)
    nlp.to_disk(tmp_path / "model")
    docs = list(read_docs(pair_corpus, nlp.vocab))
    for doc in docs:
        relations = [
            Relation(r.head, r.tail, names.get(r.label, r.label)) for r in get_relations(doc)
        ]
        set_relations(doc, relations)
    corpus = write_docs(tmp_path / "dev.spacy", docs)
    outcome = find_threshold(tmp_path / "model", corpus, output=tmp_path / "new")
    assert outcome.metric == "rel_semeval_macro_f"
    scores = evaluate(str(tmp_path / "new"), corpus, silent=True)
    assert scores[outcome.metric] == pytest.approx(outcome.after.score)
    assert scores[outcome.metric] != pytest.approx(scores["rel_macro_f"])
    for row in (outcome.before, outcome.after, *outcome.others):
        scores = evaluate_with(nlp, corpus, outcome.setting, row.threshold)
        assert scores[outcome.metric] == pytest.approx(row.score)
        assert row.score <= outcome.after.score
    labels = find_threshold(tmp_path / "model", corpus, per_label=True, min_examples=1).labels
    assert {row.label for row in labels} >= set(names.values())


def test_relations_of_other_components_stay(
    pair_model: Path, pair_corpus: Path, tmp_path: Path
) -> None:
    """With existing = "extend", earlier relations do not depend on the threshold."""

    @Language.component("spanrel_test_guess")
    def guess(doc: Any) -> Any:
        if len(doc.ents) > 1:
            first, second = doc.ents[:2]
            set_relations(doc, [Relation(first, second, "works", 0.01)])
        return doc

    nlp = spacy.load(pair_model)
    nlp.add_pipe("spanrel_test_guess", before="relation_classifier")
    nlp.get_pipe("relation_classifier").cfg.update(existing="extend")
    nlp.to_disk(tmp_path / "model")
    outcome = find_threshold(tmp_path / "model", pair_corpus)
    # One of the four guesses is correct, at any threshold.
    for row in (outcome.before, outcome.after, *outcome.others):
        scores = evaluate_with(nlp, pair_corpus, outcome.setting, row.threshold)
        assert [scores[f"rel_{x}"] for x in "prf"] == [row.precision, row.recall, row.f1]
    certain = evaluate_with(nlp, pair_corpus, outcome.setting, 1.0)
    assert certain["rel_per_type"]["works"]["p"] >= 0


def test_entities_come_from_the_corpus(
    bert_checkpoint: Path, tmp_path: Path, span_corpus: Path
) -> None:
    settings = {
        "entities": "doc",
        "entities_key": "entities",
        "scorer": {"@scorers": "spacy-spanrel.relation_scorer.v1"},
    }
    nlp, _ = spans.make_nlp(bert_checkpoint, **settings)
    examples = spans.make_examples(nlp, key="entities")
    for example in examples:
        gold = example.reference.spans["entities"]
        example.predicted.spans["entities"] = [
            example.predicted[span.start : span.end] for span in gold
        ]
    initialize(nlp, examples)
    train(nlp, examples, 20)
    nlp.to_disk(tmp_path / "model")
    with pytest.raises(ValueError, match=r"E_SR943.*none of the 5 gold.*0 relations.*--inputs"):
        find_threshold(tmp_path / "model", span_corpus, metric="rel_f")
    outcome = find_threshold(tmp_path / "model", span_corpus, metric="rel_f", inputs=["entities"])
    assert outcome.after.score > 0
    # As evaluate does, the command gives a pipeline what its config gives it in training.
    reader = {"@readers": "spacy-spanrel.Corpus.v1", "path": None, "inputs": ["entities"]}
    nlp.config["corpora"]["dev"] = reader
    nlp.to_disk(tmp_path / "configured")
    assert find_threshold(tmp_path / "configured", span_corpus, metric="rel_f") == outcome
    result = run(tmp_path / "configured", span_corpus, "--metric", "rel_f", "--no-inputs")
    assert_fails(result, "E_SR943")


def test_threshold_is_only_printed_by_default(span_model: Path, span_corpus: Path) -> None:
    before = snapshot(span_model)
    result = succeed(span_model, span_corpus)
    assert "relation_threshold = " in result.stdout
    assert "rel_strict_f" in result.stdout
    lines = [line.split() for line in result.stdout.splitlines()]
    assert [line[0] for line in lines if line and line[0].startswith("0.")] == [
        f"0.{i}000" for i in range(10)
    ]
    assert any(line[:2] == ["before", "0.4000"] for line in lines)
    assert any(line[:1] == ["after"] for line in lines)
    assert "Saved" not in result.stdout
    assert snapshot(span_model) == before


@pytest.mark.parametrize("way", ["output", "overwrite"])
def test_threshold_is_saved(pair_model: Path, pair_corpus: Path, tmp_path: Path, way: str) -> None:
    model = tmp_path / "model"
    spacy.load(pair_model).to_disk(model)
    before = snapshot(model)
    output = tmp_path / "deep" / "new"
    result = succeed(model, pair_corpus, *(["-o", output] if way == "output" else ["--overwrite"]))
    saved = output if way == "output" else model
    assert f"Savedpipelineto{saved}" in one_line(result.stdout)
    outcome = find_threshold(pair_model, pair_corpus)
    nlp = spacy.load(saved)
    assert nlp.get_pipe("relation_classifier").cfg["threshold"] == outcome.after.threshold
    # The config agrees.
    config = nlp.config["components"]["relation_classifier"]
    assert config["threshold"] == outcome.after.threshold
    assert nlp.pipe_names == ["entity_ruler", "relation_classifier"]
    if way == "output":
        assert snapshot(model) == before
        assert os.listdir(output.parent) == [output.name]
    again = find_threshold(saved, pair_corpus)
    assert again.before == again.after
    assert math.isclose(again.after.threshold, outcome.after.threshold)


@pytest.mark.parametrize("component", ["span_relation", "relation_classifier"])
@pytest.mark.parametrize("precision", [None, 0.6])
def test_thresholds_of_labels(
    component: str, precision: float | None, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    name = {"span_relation": "span", "relation_classifier": "pair"}[component]
    model, corpus = (request.getfixturevalue(f"{name}_{what}") for what in ("model", "corpus"))
    output = tmp_path / "new"
    options = {"per_label": True, "precision": precision, "min_examples": 2, "metric": "rel_f"}
    outcome = find_threshold(model, corpus, **options, output=output)
    rare = {row.label for row in outcome.labels if row.examples < 2}
    assert {row.label for row in outcome.labels if "gold relations" in row.kept} == rare
    tuned = {row.label: row.row for row in outcome.labels if not row.kept}
    assert tuned
    assert dict(outcome.thresholds) == {label: row.threshold for label, row in tuned.items()}
    assert outcome.after.threshold == outcome.before.threshold
    cfg = spacy.load(output).get_pipe(component).cfg
    assert dict(cfg["thresholds"]) == pytest.approx(outcome.thresholds)
    assert cfg[outcome.setting] == outcome.before.threshold
    scores = evaluate(str(output), corpus, silent=True)
    after = outcome.after
    assert [scores[f"rel_{x}"] for x in "prf"] == [after.precision, after.recall, after.f1]
    before = evaluate(str(model), corpus, silent=True)["rel_per_type"]
    for label, row in tuned.items():
        assert scores["rel_per_type"][label]["f"] == row.f1
        if precision is None:
            assert row.f1 >= before[label]["f"]
        else:
            assert row.precision >= precision
    # The next search starts there, and a common threshold leaves the others alone.
    again = find_threshold(output, corpus, **options)
    assert again.before.f1 == again.after.f1 == after.f1
    common = find_threshold(output, corpus, metric="rel_f")
    assert common.before.f1 == after.f1
    assert common.thresholds == pytest.approx(outcome.thresholds)


def test_precision_of_all_labels(pair_model: Path, pair_corpus: Path, tmp_path: Path) -> None:
    outcome = find_threshold(pair_model, pair_corpus, precision=0.58, output=tmp_path / "new")
    assert outcome.after.precision >= 0.58
    assert all(
        row.precision < 0.58 or row.found <= outcome.after.found
        for row in (outcome.before, *outcome.others)
    )
    scores = evaluate(str(tmp_path / "new"), pair_corpus, silent=True)
    assert scores["rel_p"] == outcome.after.precision
    result = succeed(pair_model, pair_corpus, "--per-label", "-p", 0.6)
    text = " ".join(result.stdout.split())
    assert "Threshold as before: " in text
    assert "gold relations)" in text


@pytest.mark.parametrize("name", ["span", "pair"])
def test_rules_are_obeyed(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """What is printed is what `spacy evaluate` gives, rules included."""
    model, corpus = (request.getfixturevalue(f"{name}_{what}") for what in ("model", "corpus"))
    nlp = spacy.load(model)
    rules = [["inverse", "works", "based"], ["max_tails", "lives", 1], ["max_heads", "lives", 1]]
    nlp.pipeline[-1][1].cfg["rules"] = rules
    nlp.to_disk(tmp_path / "model")
    for i, options in enumerate([{}, {"per_label": True, "min_examples": 1}]):
        output = tmp_path / f"new{i}"
        outcome = find_threshold(
            tmp_path / "model", corpus, metric="rel_f", output=output, **options
        )
        for path, row in ((tmp_path / "model", outcome.before), (output, outcome.after)):
            scores = evaluate(str(path), corpus, silent=True)
            assert [scores[f"rel_{x}"] for x in "prf"] == [row.precision, row.recall, row.f1]


def test_label_that_is_no_key_of_a_config(pair_model: Path, tmp_path: Path) -> None:
    nlp = spacy.load(pair_model)
    pipe = nlp.get_pipe("relation_classifier")
    pipe.cfg["thresholds"] = rows = [["works", 0.25], ["lives", 1.0]]
    nlp.to_disk(tmp_path / "model")
    config = {"components.relation_classifier.thresholds": rows}
    for again in (spacy.load(tmp_path / "model"), spacy.load(pair_model, config=config)):
        assert again.get_pipe("relation_classifier").cfg["thresholds"] == rows


def test_pipeline_that_is_loaded(span_model: Path, span_corpus: Path, tmp_path: Path) -> None:
    plain = write_docs(tmp_path / "plain.spacy", [spacy.blank("en")("Nothing here.")])
    nlp = spacy.load(span_model)
    cfg = nlp.get_pipe("span_relation").cfg
    before = dict(cfg)
    with pytest.raises(ValueError, match="E_SR942"):
        tune_threshold(nlp, plain)
    assert cfg == before
    outcome = tune_threshold(nlp, span_corpus)
    assert outcome == find_threshold(span_model, span_corpus)
    assert cfg == {**before, "relation_threshold": outcome.after.threshold}
    config = nlp.config["components"]["span_relation"]
    assert config["relation_threshold"] == outcome.after.threshold


def test_wrong_arguments(
    span_model: Path, span_corpus: Path, pair_model: Path, pair_corpus: Path, tmp_path: Path
) -> None:
    spacy.blank("en").to_disk(tmp_path / "empty")
    plain = write_docs(tmp_path / "plain.spacy", [spacy.blank("en")("Nothing here.")])
    (tmp_path / "broken.spacy").write_bytes(b"{}")
    cases: list[tuple[list[Any], list[str]]] = [
        ([span_model, span_corpus, "-c", "ner"], ["E_SR613", "'ner'", "span_relation"]),
        ([pair_model, pair_corpus, "-c", "entity_ruler"], ["E_SR613", "finds relations"]),
        ([tmp_path / "empty", span_corpus], ["E_SR613", "--component", "0 components"]),
        ([pair_model, pair_corpus, "-m", "rel_strict_f"], ["E_SR613", "rel_f, rel_macro_f"]),
        ([span_model, span_corpus, "-m", "rel_p"], ["E_SR613", "'rel_p'"]),
        ([pair_model, pair_corpus, "-m", "rel_semeval_macro_f"], ["E_SR613", "rel_macro_f"]),
        ([span_model, span_corpus, "-o", tmp_path], ["exists already"]),
        ([span_model, span_corpus, "-o", span_model / "new"], ["E_SR952", "lies inside"]),
        ([span_model, span_corpus, "-F", "-o", "x"], ["E_SR613", "one of the two"]),
        ([pair_model, pair_corpus, "-p", 1], ["E_SR937", "precision of 1.0", "--per-label"]),
        ([span_model, plain], ["E_SR942", "plain.spacy", "1 Docs", "'relations'"]),
        ([span_model, tmp_path / "none.spacy"], ["There is no corpus"]),
        ([span_model, tmp_path / "broken.spacy"], ["E_SR601", "broken.spacy"]),
        ([tmp_path / "none", span_corpus], ["E050"]),
    ]
    for arguments, messages in cases:
        assert_fails(run(*arguments), *messages)
    assert run(span_model).exit_code == 2


# find-null-threshold

TEXT = "Ann Lee lives in Oslo. Bo läuft ☂."


class StubQA:
    """Reads its answers from the questions: "Bo: -1.5" has the answer "Bo" and the score
    difference -1.5 (null score minus logit), and "Bo: ?" has an answer without scores."""

    def __init__(self, cfg: dict[str, Any]) -> None:
        self.cfg = cfg

    def __call__(self, doc: Doc) -> Doc:
        return doc

    def configure(self, settings: dict[str, Any]) -> None:
        self.cfg.update(settings)

    def answer_gold(self, examples: Iterable[Example]) -> Iterator[Example]:
        for example in examples:
            doc = example.predicted.copy()
            questions = get_questions(example.reference, self.cfg["qa_key"])
            answers = [self._answer(doc, question) for question in questions]
            set_answers(doc, answers, self.cfg["qa_key"])
            yield Example(doc, example.reference)

    def _answer(self, doc: Doc, question: Question) -> Answer:
        text, difference = question.text.split(": ")
        start = doc.text.index(text)
        if difference == "?":
            return make_answer(doc, question, start, start + len(text))
        scores = {"score": 0.5, "null_score": 0.0}
        logit = -float(difference)
        answer = make_answer(doc, question, start, start + len(text), logit=logit, **scores)
        if float(difference) > self.cfg["null_threshold"]:
            return Answer(question, alternatives=(answer,), **scores)
        return answer

    def to_disk(self, path: Path, exclude: Iterable[str] = ()) -> None:
        path.mkdir(exist_ok=True)
        srsly.write_json(path / "cfg", self.cfg)

    def from_disk(self, path: Path, exclude: Iterable[str] = ()) -> StubQA:
        self.cfg = srsly.read_json(path / "cfg")
        return self


@pytest.fixture
def stub_factory() -> str:
    def make(nlp, name, null_threshold: float, qa_key: str, no_answer: bool):
        settings = {"null_threshold": null_threshold, "qa_key": qa_key, "no_answer": no_answer}
        return StubQA({**settings, "language": None})

    Language.factory(
        "spanrel_test_qa",
        func=make,
        default_config={"null_threshold": 0.0, "qa_key": "qa", "no_answer": True},
    )
    return "spanrel_test_qa"


@pytest.fixture
def qa_model(stub_factory: str, tmp_path: Path) -> Path:
    nlp = spacy.blank("en")
    nlp.add_pipe(stub_factory, name="extractive_qa")
    nlp.add_pipe("sentencizer")
    nlp.to_disk(tmp_path / "model")
    return tmp_path / "model"


def qa_doc(rows: list[tuple[str, float | str, str]], key: str = "qa") -> Doc:
    """Make a gold Doc from rows: the stub's answer, its score difference, the gold answer."""
    doc = spacy.blank("en").make_doc(TEXT)
    answers = []
    for i, (answer, difference, gold) in enumerate(rows):
        question = Question(f"q{i}", f"{answer}: {difference}")
        start = doc.text.index(gold)
        answers.append(make_answer(doc, question, start, start + len(gold)))
    set_answers(doc, answers, key)
    return doc


# At a threshold of 0 two right answers are missed, and a question without an answer gets one.
QA_ROWS: list[tuple[str, float | str, str]] = [
    ("Ann", -3.0, "Ann"),
    ("Oslo", 1.5, "Oslo"),
    ("Lee", 1.25, "Lee"),
    ("Bo", -1.0, ""),
    ("läuft", 2.0, ""),
]


@pytest.fixture
def qa_corpus(tmp_path: Path) -> Path:
    return write_docs(tmp_path / "dev.spacy", [qa_doc(QA_ROWS[:2]), qa_doc(QA_ROWS[2:])])


def test_null_threshold_is_only_printed_by_default(qa_model: Path, qa_corpus: Path) -> None:
    before = snapshot(qa_model)
    outcome = find_null_threshold(qa_model, qa_corpus)
    # With the new threshold all answers but one are right.
    assert (outcome.before, outcome.after) == (0.0, 1.75)
    assert (outcome.exact_before, outcome.f1_before) == (40.0, 40.0)
    assert (outcome.exact_after, outcome.f1_after) == (80.0, 80.0)
    assert outcome.questions == 5
    result = succeed_null(qa_model, qa_corpus)
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "before 0.0000 40.00 40.00" in lines
    assert "after 1.7500 80.00 80.00" in lines
    assert "null_threshold = 1.75 (5 questions)" in lines
    assert "Saved" not in result.stdout
    assert snapshot(qa_model) == before


@pytest.mark.parametrize("way", ["output", "overwrite"])
def test_null_threshold_is_saved(qa_model: Path, qa_corpus: Path, tmp_path: Path, way: str) -> None:
    before = snapshot(qa_model)
    output = tmp_path / "new" / "model"
    options = ["--output", output] if way == "output" else ["--overwrite"]
    result = succeed_null(qa_model, qa_corpus, *options)
    saved = output if way == "output" else qa_model
    assert f"Savedpipelineto{saved}" in one_line(result.stdout)
    nlp = spacy.load(saved)
    assert nlp.get_pipe("extractive_qa").cfg["null_threshold"] == 1.75
    # The config agrees.
    assert nlp.config["components"]["extractive_qa"]["null_threshold"] == 1.75
    assert nlp.pipe_names == ["extractive_qa", "sentencizer"]
    if way == "output":
        assert snapshot(qa_model) == before
        assert os.listdir(output.parent) == [output.name]
    again = find_null_threshold(saved, qa_corpus)
    assert (again.before, again.after, again.f1_before) == (1.75, 1.75, 80.0)


def test_failure_leaves_the_pipeline_as_it_was(
    qa_model: Path, qa_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, siblings = snapshot(qa_model), sorted(os.listdir(qa_model.parent))
    replace = os.replace

    def fail(source: Any, target: Any) -> None:
        if Path(source).name == "new":
            raise OSError("disk full")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    assert_fails(run_null(qa_model, qa_corpus, "--overwrite"), "disk full")
    assert snapshot(qa_model) == before
    assert sorted(os.listdir(qa_model.parent)) == siblings


def test_settings_of_the_component_count(stub_factory: str, tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe(stub_factory, name="reader", config={"qa_key": "other", "null_threshold": -9.0})
    nlp.to_disk(tmp_path / "model")
    corpus = write_docs(tmp_path / "dev.spacy", [qa_doc(QA_ROWS, key="other")])
    outcome = find_null_threshold(tmp_path / "model", corpus, component="reader")
    assert (outcome.before, outcome.after, outcome.f1_before) == (-9.0, 1.75, 40.0)


def test_no_answer_must_be_possible(stub_factory: str, qa_corpus: Path, tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    nlp.add_pipe(stub_factory, name="extractive_qa", config={"no_answer": False})
    nlp.to_disk(tmp_path / "model")
    with pytest.raises(ConversionError, match="E_SR613.*--component.*no_answer = false"):
        find_null_threshold(tmp_path / "model", qa_corpus)


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        (["--component", "parser"], ["E_SR613", "'parser'", "extractive_qa, sentencizer"]),
        (["--component", "sentencizer"], ["E_SR613", "'sentencizer'", "answers questions"]),
        (["--overwrite", "--output", "x"], ["E_SR613", "--overwrite", "one of the two"]),
        (["--output", "."], ["exists already"]),
    ],
)
def test_wrong_options_for_null_threshold(
    qa_model: Path, qa_corpus: Path, options: list[str], messages: list[str]
) -> None:
    assert_fails(run_null(qa_model, qa_corpus, *options), *messages)


def test_wrong_inputs_for_null_threshold(qa_model: Path, tmp_path: Path) -> None:
    plain = write_docs(tmp_path / "plain.spacy", [spacy.blank("en").make_doc(TEXT)])
    broken = tmp_path / "broken.spacy"
    broken.write_bytes(b"{}")
    no_scores = write_docs(tmp_path / "no_scores.spacy", [qa_doc([("Bo", "?", "Bo")])])
    cases = [
        (qa_model, plain, ["E_SR609", "plain.spacy", "no gold answers in doc.spans['qa']"]),
        (qa_model, tmp_path / "none.spacy", ["none.spacy"]),
        (qa_model, broken, ["E_SR601", "broken.spacy"]),
        (qa_model, no_scores, ["E_SR618", "no_scores.spacy", "without scores"]),
        (tmp_path / "none", plain, ["E050", "none"]),
    ]
    for pipeline, corpus, messages in cases:
        assert_fails(run_null(pipeline, corpus), *messages)
    with pytest.raises(ConversionError, match="the folder of a pipeline"):
        find_null_threshold("en_core_none", plain, overwrite=True)
    cfg = srsly.read_json(qa_model / "extractive_qa" / "cfg")
    assert cfg["null_threshold"] == 0.0
