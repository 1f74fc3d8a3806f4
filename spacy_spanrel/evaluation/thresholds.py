"""Thresholds with the best F1, or with a precision that one can rely on.

A corpus is predicted once, and every threshold that makes a difference is tried on the scores of that
prediction.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.training import Example
from tqdm import tqdm

from ..annotations import QA_KEY
from ..errors import Errors
from ..pairing import threshold_table
from ..reading import Place, argument_error
from ..scoring.answers import best_null_threshold, gather_answers, squad_scores
from ..scoring.counts import Counts
from ..scoring.thresholds import Average, Key, ThresholdSweep
from ..settings import survives_as_table
from ..training.corpus import read_examples
from .evaluate import given_inputs
from .tuning import (
    RelationComponent,
    named_component,
    predict_examples,
    relation_component,
    restored,
    store_settings,
)

NULL_THRESHOLD = "null_threshold"
# Thresholds to print beside the old and the new one.
PRINTED = tuple(i / 10 for i in range(10))
# Gold relations that a label must have in the corpus to get a threshold of its own.
MIN_EXAMPLES = 10


@dataclass(frozen=True)
class ThresholdRow:
    """A threshold and the scores that it gives.

    threshold (float): The threshold.
    found (int): Number of predicted relations.
    precision, recall, f1 (float): Micro averages, from 0 to 1.
    score (float): The metric by which the threshold is chosen.
    """

    threshold: float
    found: int
    precision: float
    recall: float
    f1: float
    score: float


@dataclass(frozen=True)
class LabelThreshold:
    """The threshold of one label.

    label (str): The label.
    examples (int): Number of its gold relations.
    row (ThresholdRow): Its threshold, and the scores of its relations with it.
    kept (str): The reason for which the label keeps the threshold that it had; "" if it has a new one.
    """

    label: str
    examples: int
    row: ThresholdRow
    kept: str = ""


@dataclass(frozen=True)
class RelationThreshold:
    """The result of `tune_threshold`.

    component (str), setting (str): The component, and the name of its threshold in `cfg`.
    metric (str): The score that the threshold maximizes.
    before, after (ThresholdRow): Scores with the thresholds of the pipeline, and with the new ones.
    others (tuple[ThresholdRow, ...]): Scores with 0, 0.1, ..., 0.9; none with `per_label`.
    docs, relations (int): Number of gold Docs and relations.
    thresholds (dict[str, float]): The thresholds of single labels after that.
    labels (tuple[LabelThreshold, ...]): With `per_label`, each label, in alphabetical order.
    """

    component: str
    setting: str
    metric: str
    before: ThresholdRow
    after: ThresholdRow
    others: tuple[ThresholdRow, ...]
    docs: int
    relations: int
    thresholds: Mapping[str, float]
    labels: tuple[LabelThreshold, ...] = ()


@dataclass(frozen=True)
class NullThreshold:
    """The result of `tune_null_threshold`.

    before, after (float): The threshold of the pipeline, and the best one.
    exact_before, f1_before, exact_after, f1_after (float): Scores with each of them, in percent.
    questions (int): Number of gold questions.
    """

    before: float
    after: float
    exact_before: float
    f1_before: float
    exact_after: float
    f1_after: float
    questions: int


# Relations


def tune_threshold(
    nlp: Language,
    corpus: str | Path,
    *,
    component: str | None = None,
    metric: str | None = None,
    per_label: bool = False,
    precision: float | None = None,
    min_examples: int = MIN_EXAMPLES,
    inputs: Sequence[str] | None = None,
) -> RelationThreshold:
    """Give a component that predicts relations the best threshold, or the best one for each label.

    nlp (Language): The pipeline.
    corpus (str | Path): A `.spacy` file with gold relations, or a folder of such files.
    component (str | None): Name of the component; None for the only one there is.
    metric (str | None): Score to maximize; None for the one that has most weight in
        `[training.score_weights]` of the pipeline's config: by default "rel_strict_f" of `span_relation`
        and "rel_f" of `relation_classifier`. A threshold for a single label maximizes F1 of the label.
    per_label (bool): Find a threshold for each label: the setting `thresholds`. The common threshold
        stays as it is.
    precision (float | None): Find the smallest threshold whose precision on the corpus reaches this,
        not the one with the best F1.
    min_examples (int): With `per_label`, the smallest number of gold relations of a label that gets a
        threshold of its own. Other labels keep the one that they have.
    inputs (Sequence[str] | None): Gold annotation that the pipeline is given, as in
        "spacy-spanrel.Corpus.v1". None for the `inputs` of the reader that reads the development data
        in training.
    RETURNS (RelationThreshold): The threshold, and the scores before and after.
    RAISES (ConversionError): If an argument does not fit.
    RAISES (ValueError): If the corpus has no gold relations, none of them is predicted, or no common
        threshold reaches the precision. The pipeline is as it was then.
    RAISES (OSError): If there is no such corpus.
    """
    target = relation_component(nlp, component)
    metric = metric or target.metric
    if metric not in target.metrics:
        raise argument_error("--metric", repr(metric), "one of " + ", ".join(target.metrics))
    given = given_inputs(nlp, inputs)
    with restored(target.pipe.cfg):
        result = _find_threshold(
            nlp, target, corpus, metric, per_label, precision, min_examples, given
        )
    settings: dict[str, Any] = {target.setting: result.after.threshold}
    if per_label:
        table = dict(result.thresholds)
        is_table = bool(table) and survives_as_table(table)
        settings["thresholds"] = table if is_table else [list(row) for row in table.items()]
    store_settings(nlp, target.name, settings)
    return result


def _find_threshold(
    nlp: Language,
    target: RelationComponent,
    corpus: str | Path,
    metric: str,
    per_label: bool,
    precision: float | None,
    min_examples: int,
    inputs: tuple[str, ...],
) -> RelationThreshold:
    """Find the threshold; arguments as in `tune_threshold`. Settings of the component are changed."""
    average: Average = "macro" if "_macro_" in metric else "micro"
    if "_semeval_" in metric:
        average = "semeval"
    cfg = target.pipe.cfg
    old, old_table = float(cfg[target.setting]), threshold_table(cfg["thresholds"])
    cfg[target.setting] = 0.0
    # The common threshold removes no relation whose label has a threshold of its own.
    fixed_labels = set() if per_label else set(old_table)
    if per_label:
        cfg["thresholds"] = []
    sweep, n_docs = _sweep(nlp, target, read_examples(corpus, nlp, inputs), metric, fixed_labels)
    if not sweep.gold:
        key = target.pipe.cfg["relations_key"]
        raise ValueError(Errors.E942.format(path=corpus, key=key, n=n_docs))
    if not sweep.score(sweep.best(average), average):
        n, found = sweep.gold.total(), _row(sweep, 0.0).found
        raise ValueError(Errors.E943.format(name=target.name, path=corpus, n=n, found=found))
    threshold, table, labels = old, dict(old_table), []
    if per_label:
        labels = [
            _of_label(sweep, label, precision, min_examples, old_table.get(label, old))
            for label in sweep.labels
        ]
        table.update({each.label: each.row.threshold for each in labels if not each.kept})
    elif precision is None:
        threshold = sweep.best(average)
    else:
        smallest = sweep.precise(precision)
        if smallest is None:
            best = max(_row(sweep, value).precision for value in PRINTED)
            raise ValueError(
                Errors.E937.format(name=target.name, path=corpus, wanted=precision, best=best)
            )
        threshold = smallest
    rows = []
    for value, values in ((old, old_table), (threshold, table)):
        if cfg["rules"]:
            # Declared rules choose among the relations that the thresholds let through.
            cfg.update({target.setting: value, "thresholds": list(values.items())})
            examples = read_examples(corpus, nlp, inputs)
            exact, _ = _sweep(nlp, target, examples, metric, fixed_labels=None)
            rows.append(_row(exact, value, average))
        else:
            rows.append(_row(sweep, value, average, values if per_label else {}))
    return RelationThreshold(
        component=target.name,
        setting=target.setting,
        metric=metric,
        before=rows[0],
        after=rows[1],
        others=() if per_label else tuple(_row(sweep, value, average) for value in PRINTED),
        docs=n_docs,
        relations=sweep.gold.total(),
        thresholds=table,
        labels=tuple(labels),
    )


def _sweep(
    nlp: Language,
    target: RelationComponent,
    examples: Iterator[Example],
    metric: str,
    fixed_labels: Collection[str] | None,
) -> tuple[ThresholdSweep, int]:
    """Compare predicted relations with gold ones.

    fixed_labels (Collection[str] | None): Labels whose relations no threshold removes; None for all.
    RETURNS (tuple[ThresholdSweep, int]): The comparison, and the number of Docs.
    """
    sweep, n_docs = ThresholdSweep(), 0
    for example, earlier in tqdm(
        predict_examples(nlp, target, examples, metric), unit="docs", disable=None, delay=1.0
    ):
        gold = [key for key, _ in target.keys(example.reference, metric)]
        # No threshold removes relations that were there before, or that have no score.
        predicted: list[tuple[Key, float]] = [(key, math.inf) for key in earlier]
        for key, score in target.keys(example.predicted, metric):
            if score is None or fixed_labels is None or key[0] in fixed_labels:
                score = math.inf
            predicted.append((key, score))
        sweep.add(gold, predicted)
        n_docs += 1
    return sweep, n_docs


def _row(
    sweep: ThresholdSweep,
    threshold: float,
    average: Average = "micro",
    thresholds: Mapping[str, float] = {},
) -> ThresholdRow:
    score = sweep.score(threshold, average, thresholds)
    return _row_of(threshold, sweep.counts(threshold, thresholds).micro, score)


def _row_of(threshold: float, counts: Counts, score: float) -> ThresholdRow:
    return ThresholdRow(
        threshold,
        counts.tp + counts.fp,
        counts.precision,
        counts.recall,
        counts.fscore,
        score,
    )


def _of_label(
    sweep: ThresholdSweep, label: str, precision: float | None, min_examples: int, old: float
) -> LabelThreshold:
    """Find the threshold of one label; `old` is the one that it has."""
    examples = sweep.gold[label]
    threshold: float | None = None
    if examples < min_examples:
        kept = f"{examples} gold relations"
    elif precision is not None:
        threshold = sweep.precise(precision, label)
        kept = f"no threshold with precision {precision:g}"
    else:
        best = sweep.best(label=label)
        threshold = best if sweep.counts(best).per_label[label].tp else None
        kept = "no gold relation predicted"
    if threshold is not None:
        kept = ""
    value = old if threshold is None else threshold
    counts = sweep.counts(value).per_label[label]
    return LabelThreshold(label, examples, _row_of(value, counts, counts.fscore), kept)


# Answers


def tune_null_threshold(
    nlp: Language, corpus: str | Path, *, component: str = "extractive_qa"
) -> NullThreshold:
    """Give a component that answers questions the best null threshold.

    nlp (Language): The pipeline.
    corpus (str | Path): A `.spacy` file with gold answers, or a folder of such files.
    component (str): Name of the component.
    RETURNS (NullThreshold): The threshold, and the scores before and after.
    RAISES (ConversionError): If an argument does not fit, or the corpus has no gold answers.
    RAISES (OSError): If there is no such corpus.
    """
    pipe = _question_component(nlp, component)
    key = pipe.cfg.get("qa_key", QA_KEY)
    language = pipe.cfg.get("language")
    answers = gather_answers(pipe.answer_gold(read_examples(corpus, nlp)), key)
    place = Place(str(corpus))
    if not answers.references:
        found, expected = (
            f"no gold answers in doc.spans[{key!r}]",
            "Docs with questions and answers",
        )
        raise place.error(Errors.E609, found=found, expected=expected)
    differences = {name: d for name, d in answers.differences.items() if d is not None}
    if len(differences) < len(answers.differences):
        found, expected = (
            f"answers of '{component}' without scores",
            "answers with logit and null_score",
        )
        raise place.error(Errors.E618, found=found, expected=expected)
    before = squad_scores(answers.references, answers.predictions, language=language)
    threshold, _ = best_null_threshold(
        answers.references, answers.best, differences, language=language
    )
    after = squad_scores(
        answers.references, answers.best, differences, na_threshold=threshold, language=language
    )
    old = float(pipe.cfg[NULL_THRESHOLD])
    store_settings(nlp, component, {NULL_THRESHOLD: threshold})
    return NullThreshold(
        before=old,
        after=threshold,
        exact_before=before["exact"],
        f1_before=before["f1"],
        exact_after=after["exact"],
        f1_after=after["f1"],
        questions=len(answers.references),
    )


def _question_component(nlp: Language, name: str) -> Any:
    """Return a component with `answer_gold`, and with a null threshold among its settings."""
    pipe = named_component(nlp, name)
    if not hasattr(pipe, "answer_gold") or NULL_THRESHOLD not in getattr(pipe, "cfg", {}):
        raise argument_error("--component", repr(name), "a component that answers questions")
    if pipe.cfg.get("no_answer") is False:
        found = f"{name!r} with no_answer = false"
        expected = "one that may find no answer; set no_answer = true in its config"
        raise argument_error("--component", found, expected)
    return pipe
