"""Learning curves: nested shares, trainings that are not repeated, and what the curve promises."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import DocBin
from spacy.vocab import Vocab

from spacy_spanrel.cli import learning_curve
from spacy_spanrel.cli.learning_curve import CURVE, PAGE, _schedule, _score_name
from spacy_spanrel.evaluation.learning import LearningCurve, LearningPoint, render_curve
from spacy_spanrel.reading import ConversionError
from tests.cli.util import succeed
from tests.span_relation.util import ROWS
from tests.util import make_doc, tiny_checkpoint, write_docs

CONFIG = Path(__file__).parents[2] / "configs" / "test" / "span_relation.cfg"


def curve_of(*scores: float) -> LearningCurve:
    points = [
        LearningPoint(100 / 2 ** (len(scores) - i - 1), 100 * 2**i, 5, 0, score, {})
        for i, score in enumerate(scores)
    ]
    return LearningCurve(tuple(points), "rel_f")


def test_power_law_is_read_off() -> None:
    curve = curve_of(60.0, 80.0, 90.0)  # each doubling halves the error
    assert curve.predict(800) == pytest.approx(95)
    assert curve.doubling == pytest.approx(5)
    assert "+5.0 points" in curve.verdict
    assert "will pay" in curve.verdict
    assert "hardly pay" in curve_of(60.0, 60.1, 60.2).verdict


@pytest.mark.parametrize("scores", [(50.0,), (50.0, 40.0), (100.0, 100.0), (0.0, 0.0)])
def test_nothing_is_promised_without_a_rise(scores: tuple[float, ...]) -> None:
    curve = curve_of(*scores)
    assert curve.doubling is None
    expected = (
        "One share" if len(scores) == 1 else "does not rise" if any(scores) else "all scores are 0"
    )
    assert expected in curve.verdict
    ElementTree.fromstring(render_curve(curve).split("<!DOCTYPE html>")[1])


@given(st.lists(st.floats(0, 100), min_size=1, max_size=5))
def test_every_curve_can_be_drawn(scores: list[float]) -> None:
    curve = curve_of(*scores)
    page = ElementTree.fromstring(render_curve(curve).split("<!DOCTYPE html>")[1])
    svg = page.find(".//{http://www.w3.org/2000/svg}svg")
    assert svg is not None
    assert len(svg.findall(".//{http://www.w3.org/2000/svg}circle")) == len(scores)
    assert json.loads(json.dumps(curve.to_dict()))["points"][0]["docs"] == 100


@pytest.fixture
def data(tmp_path: Path) -> tuple[Path, Path]:
    docs = [make_doc(Vocab(), *ROWS[i % 4], key="entities") for i in range(8)]
    for i, doc in enumerate(docs):
        doc.user_data["number"] = i
    return write_docs(tmp_path / "train.spacy", docs), write_docs(tmp_path / "dev.spacy", docs[:4])


def test_shares_are_nested_and_trained_once(
    data: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = str(tiny_checkpoint(tmp_path / "encoder", max_position=128))
    options = {"overrides": {"paths.encoder": encoder, "training.max_steps": 1}}
    output = tmp_path / "curve"
    curve = learning_curve(CONFIG, *data, output, percents=[50, 100], draws=2, **options)
    assert [(p.percent, p.docs, p.draw) for p in curve.points] == [
        (50, 4, 0),
        (50, 4, 1),
        (100, 8, 0),
        (100, 8, 1),
    ]
    assert json.loads((output / CURVE).read_text())["points"] == [vars(p) for p in curve.points]
    assert "<svg" in (output / PAGE).read_text()
    texts = [
        [doc.text for doc in DocBin().from_disk(output / name / "train.spacy").get_docs(Vocab())]
        for name in ("50_percent_draw_1", "100_percent_draw_1", "100_percent_draw_2")
    ]
    assert texts[0] == texts[1][:4]
    assert sorted(texts[1]) == sorted(texts[2])

    def never(*args: object, **more: object) -> None:
        raise AssertionError("trained again")

    module = sys.modules[_schedule.__module__]  # of the same name is the function in the package
    monkeypatch.setattr(module, "spacy_train", never)
    assert learning_curve(CONFIG, *data, output, percents=[50, 100], draws=2, **options) == curve
    with pytest.raises(AssertionError, match="trained again"):
        learning_curve(CONFIG, *data, output, percents=[50], overrides={"paths.encoder": encoder})


def test_on_the_command_line(data: tuple[Path, Path], tmp_path: Path) -> None:
    encoder = str(tiny_checkpoint(tmp_path / "encoder", max_position=128))
    output = tmp_path / "curve"
    options = ["--percents", "50", "--output", output]
    more = ["--paths.encoder", encoder, "--training.max_steps", "1"]
    result = succeed("learning-curve", CONFIG, *data, *options, *more)
    assert "Learning curve in" in result.stdout
    assert (output / PAGE).exists()


def test_wrong_arguments(data: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="--percents"):
        learning_curve(CONFIG, *data, tmp_path / "x", percents=[0])
    (tmp_path / "texts.jsonl").write_text('{"text": "x"}')
    with pytest.raises(ConversionError, match=r"E_SR601.*texts.jsonl"):
        learning_curve(CONFIG, data[0], tmp_path / "texts.jsonl", tmp_path / "x")
    (tmp_path / "no_docs").mkdir()
    with pytest.raises(ConversionError, match="no_docs"):
        learning_curve(CONFIG, data[0], tmp_path / "no_docs", tmp_path / "x")
    config = tmp_path / "bad.cfg"
    config.write_text("[nlp]\nlang = 'en'\n")
    with pytest.raises(ConversionError, match="CONFIG"):
        learning_curve(config, *data, tmp_path / "x")


def test_schedule_fits_the_share() -> None:
    schedule = {"batch_size": 8, "epochs": 20, "warmup_steps": 1, "total_steps": 2}
    assert _schedule({"schedule": schedule}, 80, 100) == {
        "schedule.epochs": 20,
        "schedule.total_steps": 200,
        "schedule.warmup_steps": 20,
        "training.eval_frequency": 20,
    }
    assert _schedule({"schedule": schedule}, 20, 25)["schedule.total_steps"] == 3 * 40
    assert _schedule({}, 20, 25) == {}


def test_name_of_the_score() -> None:
    def name(**weights: float | None) -> str:
        return _score_name({"training": {"score_weights": weights}})

    assert name(rel_f=1.0, rel_p=0.0, rel_per_type=None) == "rel_f"
    assert name(rel_f=0.5, ents_f=0.5) == "0.5 rel_f + 0.5 ents_f"
    assert name() == "the score of the training"
