"""Whether scores say how many predictions are right, before and after `calibrate`.

Called by few_shot.py. On the sample corpus, the trained pipelines of `project.yml` (folders training/ and
corpus/ of `--pipelines`) are calibrated on dev and measured on test. A `span_relation` that was trained
on CoNLL04 (`--conll-model`) is calibrated on one half of dev and measured on the other, divided anew for
each seed. ECE has 15 bins of equal width or of equal mass; `chance` is the mean ECE (equal width) of
1,000 draws in which the calibrated scores are exactly right: what the number of predictions alone makes.

`thresholds` are chosen on the same data by `find-threshold`: the common one with the best F1, one for each
label with the best F1, and those with a precision of 90 % (for all labels, and for each). Precision,
recall and F1 are those on the data that was not used to choose.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import spacy
from spacy.tokens import DocBin

from spacy_spanrel.cli import calibrate, evaluate, find_threshold
from spacy_spanrel.converters import spert_to_docs
from spacy_spanrel.evaluation import ComponentEvaluation
from spacy_spanrel.scoring.calibration import calibration_error

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ("sample", "sample_pairs", "sample_qa")
# The score that tells whether the pipeline predicts the same as before.
F1 = {
    "span_relation": "rel_strict_f",
    "relation_classifier": "rel_f",
    "extractive_qa": "qa_f1",
}
DRAWS = 1000
SCORES = ("precision", "recall", "f1")
Row = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pipelines", type=Path, default=ROOT, help="calibration: the project")
    parser.add_argument("--conll-model", type=Path, help="calibration: a pipeline for CoNLL04")


def calibration(args: argparse.Namespace) -> Iterator[Row]:
    for row, model, dev, test in cases(args):
        yield {"what": "calibration"} | row | measure(model, dev, test)


def thresholds(args: argparse.Namespace) -> Iterator[Row]:
    for row, model, dev, test in cases(args):
        if row["data"] != "sample_qa":
            yield from ({"what": "thresholds"} | row | other for other in tune(model, dev, test))


def cases(args: argparse.Namespace) -> Iterator[tuple[Row, Path, Path, Path]]:
    """Yield the first columns of a row, the pipeline, and the data to choose by and to measure on."""
    for name in SAMPLE:
        corpus = args.pipelines / "corpus" / name
        model = args.pipelines / "training" / name / "model-best"
        yield {"data": name}, model, corpus / "dev.spacy", corpus / "test.spacy"
    if args.conll_model is None:
        return
    docs = list(spert_to_docs(args.data / "conll04" / "dev.json", nlp=spacy.blank("en")))
    for seed in args.seeds:
        order = list(docs)
        random.Random(seed).shuffle(order)
        halves = order[: len(order) // 2], order[len(order) // 2 :]
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{name}.spacy" for name in ("dev", "test")]
            for path, half in zip(paths, halves, strict=True):
                DocBin(docs=half, store_user_data=True).to_disk(path)
            yield {"data": "conll04", "seed": seed}, args.conll_model, *paths


def tune(model: Path, dev: Path, test: Path) -> Iterator[Row]:
    """Choose thresholds on dev in four ways, and score the pipeline with them on test."""
    for per_label in (False, True):
        for precision in (None, 0.9):
            with tempfile.TemporaryDirectory() as folder:
                output = Path(folder) / "model"
                result = find_threshold(
                    model, dev, per_label=per_label, precision=precision, output=output
                )
                component = evaluate(output, test).components[0]
            name = F1[component.factory].removesuffix("_f")
            yield {
                "component": component.factory,
                "per_label": per_label,
                "target": precision,
                "kept": sum(bool(each.kept) for each in result.labels),
                "dev_precision": percent(result.after.precision),
                **{key: percent(component.scores[f"{name}_{key[0]}"]) for key in SCORES},
            }


def measure(model: Path, dev: Path, test: Path) -> Row:
    """Calibrate a pipeline on dev, and compare its scores on test before and after."""
    with tempfile.TemporaryDirectory() as folder:
        (result,) = calibrate(model, dev, output=Path(folder) / "model").components
        before, after = (
            evaluate(path, test).components[0] for path in (model, Path(folder) / "model")
        )
    old, scores = scores_of(before)[0], scores_of(after)
    kind = "answer" if before.factory == "extractive_qa" else "relation"
    rows = [component.reliabilities()[kind] for component in (before, after)]
    rng = np.random.default_rng(0)
    chance = [
        calibration_error(scores[0], rng.random(len(scores[0])) < scores[0]) for _ in range(DRAWS)
    ]
    metric = F1[before.factory]
    return {
        "component": before.factory,
        "temperature": result.after.temperature,
        "calibrated_by": result.predictions,
        "predictions": rows[0].n,
        "correct": percent(rows[0].correct),
        "score_before": percent(old.mean()),
        "score_after": percent(rows[1].score),
        "ece_before": percent(rows[0].error),
        "ece_after": percent(rows[1].error),
        "equal_mass_before": percent(rows[0].equal_mass_error),
        "equal_mass_after": percent(rows[1].equal_mass_error),
        "nll_before": likelihood(*scores_of(before)),
        "nll_after": likelihood(*scores),
        "chance": percent(float(np.mean(chance))),
        "f1_before": percent(before.scores[metric]),
        "f1_after": percent(after.scores[metric]),
    }


def percent(value: float) -> float:
    return round(100 * float(value), 2)


def scores_of(component: ComponentEvaluation) -> tuple[Any, Any]:
    """Return the scores of predicted relations or answers, and whether each is right."""
    rows = [
        (outcome.score, outcome.status == "correct")
        for outcome in component.outcomes
        if outcome.kind != "entity" and outcome.score is not None
    ]
    return np.asarray([row[0] for row in rows]), np.asarray([row[1] for row in rows])


def likelihood(scores: Any, correct: Any) -> float:
    """Return the negative log-likelihood of the predictions' being right or wrong."""
    return round(float(-np.log(np.clip(np.where(correct, scores, 1 - scores), 1e-9, 1)).mean()), 4)
