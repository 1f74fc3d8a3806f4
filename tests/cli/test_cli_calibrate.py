from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
from spacy.tokens import Doc, Span

from spacy_spanrel import (
    Question,
    Relation,
    get_answers,
    get_relations,
    set_answers,
    set_relations,
)
from spacy_spanrel.annotations import make_answer
from spacy_spanrel.cli import calibrate as calibrate_function
from spacy_spanrel.cli import evaluate
from spacy_spanrel.evaluation import Evaluation
from spacy_spanrel.scoring.calibration import calibration_error
from tests.cli import util
from tests.cli.util import assert_fails, snapshot
from tests.span_relation import util as spans
from tests.util import make_doc, write_docs

FEW = ("--min-predictions", 2)
run, succeed = (partial(f, "calibrate", *FEW) for f in (util.run, util.succeed))
calibrate = partial(calibrate_function, min_predictions=2)
SAVED = Path(__file__).parents[1] / "saved"
TEXT = "Ann Lee lives in Oslo and works for Acme. Bo Berg founded Acme in Paris."


@pytest.fixture(scope="module")
def qa_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scorer = {"@scorers": "spacy-spanrel.qa_scorer.v1"}
    config = {"components": {"extractive_qa": {"scorer": scorer}}}
    path = tmp_path_factory.mktemp("qa") / "model"
    spacy.load(SAVED / "extractive_qa" / "pipeline", config=config).to_disk(path)
    return path


@pytest.fixture(scope="module")
def span_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two Docs have wrong gold relations, so that some predictions are wrong."""
    nlp = spacy.blank("en")
    docs = [make_doc(nlp.vocab, *row, key="entities") for row in spans.ROWS]
    for doc in docs[:2]:
        set_relations(doc, [Relation(r.head, r.tail, "other") for r in get_relations(doc)])
    return write_docs(tmp_path_factory.mktemp("data") / "dev.spacy", docs)


@pytest.fixture(scope="module")
def qa_corpus(qa_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions of which the model answers some as in the gold data."""
    nlp = spacy.load(qa_model)
    reader = nlp.get_pipe("extractive_qa")
    docs = []
    for i in range(4):
        doc: Doc = nlp.make_doc(TEXT)
        questions = [
            Question(f"{i}{j}", f"Who {word} ?") for j, word in enumerate(TEXT.split()[:6])
        ]
        answers = list(reader.ask(doc, questions))
        gold = [
            make_answer(doc, a.question, 0, 7) if j % 3 == 0 else a for j, a in enumerate(answers)
        ]
        set_answers(doc, gold)
        docs.append(doc)
    return write_docs(tmp_path_factory.mktemp("qa") / "dev.spacy", docs)


def predictions_of(evaluation: Evaluation) -> tuple[list[Any], np.ndarray, np.ndarray]:
    """Return the predictions whose scores are calibrated, the scores, and whether each is right."""
    (component,) = evaluation.components
    outcomes = [
        o
        for o in component.outcomes
        if o.kind == "answer" or (o.kind == "relation" and o.predicted is not None)
    ]
    keys = [
        (
            o.source.number,
            o.answer.predicted if o.answer else "",
            (o.predicted.label, [(m.start, m.end) for m in o.predicted.mentions])
            if o.predicted
            else None,
        )
        for o in outcomes
    ]
    scores = np.asarray([o.score for o in outcomes], dtype=np.float64)
    return keys, scores, np.asarray([o.status == "correct" for o in outcomes])


@pytest.mark.parametrize("name", ["span", "pair", "qa"])
def test_same_predictions_with_better_scores(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model, corpus = (request.getfixturevalue(f"{name}_{what}") for what in ("model", "corpus"))
    before = snapshot(model)
    outcome = calibrate(model, corpus, output=tmp_path / "new")
    assert snapshot(model) == before
    (result,) = outcome.components
    assert outcome.notices == ()
    assert (result.before.temperature, result.changed) == (1.0, 0)
    assert result.settings["temperature"] == result.after.temperature != 1.0
    assert result.after.likelihood < result.before.likelihood
    old, new = (evaluate(path, corpus) for path in (model, tmp_path / "new"))
    (keys, scores, correct), (new_keys, new_scores, new_correct) = map(predictions_of, (old, new))
    assert keys == new_keys
    assert correct.tolist() == new_correct.tolist()
    for row, values in ((result.before, scores), (result.after, new_scores)):
        assert values.mean() == pytest.approx(row.score, abs=1e-5)
        assert calibration_error(values, correct) == pytest.approx(row.error, abs=1e-4)
        assert calibration_error(values, correct, equal_mass=True) == pytest.approx(
            row.equal_mass_error, abs=1e-4
        )
    assert (result.predictions, result.correct) == (len(correct), correct.sum())
    pipe: Any = spacy.load(tmp_path / "new").get_pipe(result.component)
    for setting, value in result.settings.items():
        assert pipe.cfg[setting] == pytest.approx(value)
    # Calibrated scores stay as they are.
    (again,) = calibrate(tmp_path / "new", corpus).components
    assert again.before.error == pytest.approx(result.after.error, abs=1e-4)
    assert again.after.temperature == pytest.approx(result.after.temperature, rel=0.01)


def test_thresholds_of_labels_are_carried_over(
    span_model: Path, span_corpus: Path, tmp_path: Path
) -> None:
    nlp = spacy.load(span_model)
    cfg = nlp.get_pipe("span_relation").cfg
    cfg.update(relation_threshold=0.2, thresholds=[["lives", 0.7], ["works", 0.5]])
    nlp.to_disk(tmp_path / "model")
    (result,) = calibrate(tmp_path / "model", span_corpus, output=tmp_path / "new").components
    carried = dict(result.settings["thresholds"])
    assert set(carried) == {"lives", "works"}
    assert carried["works"] == pytest.approx(0.5)
    assert carried["lives"] != 0.7
    old, new = (evaluate(tmp_path / name, span_corpus) for name in ("model", "new"))
    assert predictions_of(old)[0] == predictions_of(new)[0]


def test_a_threshold_on_a_softmax_is_matched(
    pair_model: Path, pair_corpus: Path, tmp_path: Path
) -> None:
    threshold = float(np.median(predictions_of(evaluate(pair_model, pair_corpus))[1]))
    nlp = spacy.load(pair_model)
    nlp.get_pipe("relation_classifier").cfg["threshold"] = threshold
    nlp.to_disk(tmp_path / "model")
    (result,) = calibrate(tmp_path / "model", pair_corpus, output=tmp_path / "new").components
    assert result.settings["threshold"] not in (0.0, threshold)
    old, new = (
        predictions_of(evaluate(tmp_path / name, pair_corpus))[0] for name in ("model", "new")
    )
    differing = sum(key not in old for key in new) + sum(key not in new for key in old)
    assert differing == result.changed


@pytest.mark.parametrize("setting", ["gold pairs", "rules"])
def test_other_ways_to_predict(
    setting: str, pair_model: Path, pair_corpus: Path, tmp_path: Path
) -> None:
    nlp = spacy.load(pair_model)
    cfg = nlp.get_pipe("relation_classifier").cfg
    cfg.update({"score_pairs": "gold"} if setting == "gold pairs" else {"rules": [["no_self"]]})
    nlp.to_disk(tmp_path / "model")
    (result,) = calibrate(tmp_path / "model", pair_corpus, output=tmp_path / "new").components
    old, new = (predictions_of(evaluate(tmp_path / name, pair_corpus)) for name in ("model", "new"))
    assert old[0] == new[0]
    assert old[1].mean() == pytest.approx(result.before.score, abs=1e-5)
    assert new[1].mean() == pytest.approx(result.after.score, abs=1e-5)


def test_output(pair_model: Path, pair_corpus: Path, tmp_path: Path) -> None:
    text = " ".join(succeed(pair_model, pair_corpus).stdout.split())
    assert "relation_classifier" in text
    assert "ECE" in text
    assert "temperature = " in text
    assert "Saved" not in text
    result = succeed(pair_model, pair_corpus, "-o", tmp_path / "new", "-c", "relation_classifier")
    assert "Saved pipeline to" in result.stdout


def test_wrong_arguments(
    span_model: Path, span_corpus: Path, pair_model: Path, pair_corpus: Path, tmp_path: Path
) -> None:
    plain = write_docs(tmp_path / "plain.spacy", [spacy.blank("en")("Nothing here.")])
    spacy.blank("en").to_disk(tmp_path / "empty")
    cases: list[tuple[list[Any], list[str]]] = [
        ([span_model, span_corpus, "-c", "ner"], ["E_SR613", "'ner'", "span_relation"]),
        ([pair_model, pair_corpus, "-c", "entity_ruler"], ["E_SR613", "of this package"]),
        ([tmp_path / "empty", span_corpus], ["E_SR613", "--component"]),
        ([span_model, span_corpus, "-o", tmp_path], ["exists already"]),
        ([span_model, plain], ["E_SR938", "plain.spacy", "predictions, 0 of them right"]),
    ]
    for arguments, messages in cases:
        assert_fails(run(*arguments), *messages)


@pytest.mark.parametrize("component", ["span_relation", "relation_classifier", "extractive_qa"])
def test_temperature_divides_the_logits(component: str) -> None:
    nlp = spacy.load(SAVED / component / "pipeline")
    pipe: Any = nlp.get_pipe(component)
    if component == "extractive_qa":
        doc = nlp.make_doc(TEXT)
        set_answers(doc, pipe.answer([doc], [[Question("1", "Who lives in Oslo ?")]])[0])
        first = get_answers(doc)[0]
        pipe.cfg["temperature"] = 4.0
        second = pipe.ask(doc, [first.question])[0]
        assert (second.text, second.logit, second.null_score) == (
            first.text,
            first.logit,
            first.null_score,
        )
        assert second.score < first.score
        return
    if component == "span_relation":
        pipe.cfg.update(relation_threshold=0.0, type_constraints="off")
    else:
        pipe.cfg.update(type_constraints="off")
    scores = []
    for temperature in (1.0, 4.0):
        pipe.cfg["temperature"] = temperature
        doc = nlp.make_doc(TEXT)
        if component == "relation_classifier":
            kinds = pipe.cfg["head_types"][0], pipe.cfg["tail_types"][0]
            doc.set_ents([Span(doc, 4 * i, 4 * i + 1, label=kind) for i, kind in enumerate(kinds)])
        (prediction,) = pipe.predict([doc])
        scores.append(
            np.asarray([row[3] for row in prediction.relations])
            if component == "span_relation"
            else prediction.scores.astype(np.float64)
        )
    cold, hot = scores
    if component == "span_relation":
        assert np.log(hot / (1 - hot)) * 4 == pytest.approx(np.log(cold / (1 - cold)), abs=1e-4)
    else:
        assert len(cold)
        expected = np.exp(np.log(cold) / 4)
        assert hot == pytest.approx(expected / expected.sum(axis=1, keepdims=True), abs=1e-5)
