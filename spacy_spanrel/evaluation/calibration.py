"""Temperatures with which scores say how many of the predictions are right (Guo et al. 2017; see
`scoring.calibration`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from spacy.language import Language
from spacy.tokens import Span
from spacy.training import Example

from ..annotations import Answer, Relation, get_answers, get_pair_scores
from ..annotations.answers import reference_answers
from ..arrays import BoolArray, DoubleArray
from ..errors import Errors
from ..pairing import label_thresholds, threshold_table
from ..reading import argument_error
from ..scoring.answers import exact_match
from ..scoring.calibration import (
    calibration_error,
    carry_threshold,
    fit_temperature,
    matching_threshold,
    negative_log_likelihood,
    scaled_scores,
)
from ..scoring.relations import ComparableDoc
from ..training.corpus import read_examples
from .evaluate import given_inputs, our_components
from .tuning import (
    RelationComponent,
    named_component,
    predict_examples,
    relation_component,
    restored,
    store_settings,
)

# A temperature that is fitted to fewer predictions says more about them than about the component.
MIN_PREDICTIONS = 20
# At this temperature float32 tells apart all probabilities of a sigmoid that differ in practice. At 1,
# everything above 17 has the probability 1.
_HOT = 16.0


@dataclass(frozen=True)
class CalibrationRow:
    """The scores of a component at a temperature.

    temperature (float): The temperature.
    score (float): Mean score of the predictions.
    error, equal_mass_error (float): Expected calibration error with bins of equal width, and with bins
        of equal mass, from 0 to 1 (`scoring.calibration.calibration_error`).
    likelihood (float): Negative log-likelihood, the number that the temperature minimizes.
    """

    temperature: float
    score: float
    error: float
    equal_mass_error: float
    likelihood: float


@dataclass(frozen=True)
class ComponentCalibration:
    """The calibration of one component.

    component (str): Its name.
    predictions, correct (int): Number of predictions on the corpus, and of those that are right.
    before, after (CalibrationRow): Scores with the temperature of the pipeline, and with the best one.
    settings (dict[str, Any]): The new settings: `temperature`, and the thresholds carried over to it.
    changed (int): Number of predictions on the corpus that the thresholds decide otherwise than before.
    """

    component: str
    predictions: int
    correct: int
    before: CalibrationRow
    after: CalibrationRow
    settings: Mapping[str, Any]
    changed: int


@dataclass(frozen=True)
class Calibration:
    """The result of `tune_temperatures`.

    components (tuple[ComponentCalibration, ...]): The components, in the order of the pipeline.
    notices (tuple[str, ...]): The components that were left as they are, and why.
    """

    components: tuple[ComponentCalibration, ...]
    notices: tuple[str, ...]


def tune_temperatures(
    nlp: Language,
    corpus: str | Path,
    *,
    component: str | None = None,
    min_predictions: int = MIN_PREDICTIONS,
    inputs: Sequence[str] | None = None,
) -> Calibration:
    """Give each component the temperature with which its scores say how many predictions are right, and
    carry its thresholds over.

    nlp (Language): The pipeline.
    corpus (str | Path): A `.spacy` file with gold annotation, or a folder of such files.
    component (str | None): Name of the component; None for all of this package, without those that the
        corpus says too little about.
    min_predictions (int): Smallest number of predictions on the corpus that tell enough.
    inputs (Sequence[str] | None): Gold annotation that the pipeline is given, as in
        "spacy-spanrel.Corpus.v1". None for the `inputs` of the reader that reads the development data
        in the pipeline's config.
    RETURNS (Calibration): The temperatures, and the calibration before and after.
    RAISES (ConversionError): If an argument does not fit.
    RAISES (ValueError): If the corpus has too few predictions that are right or wrong.
    RAISES (OSError): If there is no such corpus.
    """
    ours = our_components(nlp)
    if component is not None:
        named_component(nlp, component)
    names = list(ours) if component is None else [component]
    if not names or names[0] not in ours:
        found = repr(component) if component else f"none among {', '.join(nlp.pipe_names)}"
        raise argument_error("--component", found, "a component of this package")
    given = given_inputs(nlp, inputs)
    results: list[ComponentCalibration] = []
    notices: list[str] = []
    for name in names:
        try:
            examples = read_examples(corpus, nlp, given)
            result = _calibrate(nlp, name, examples, str(corpus), min_predictions)
        except _TooFew as error:
            notices.append(str(error))
            continue
        store_settings(nlp, name, result.settings)
        results.append(result)
    if not results:
        raise ValueError("\n".join(notices))
    return Calibration(tuple(results), tuple(notices))


class _TooFew(ValueError):
    """The corpus says too little about a component."""


@dataclass
class _Predictions:
    """The predictions of a component on a corpus.

    labels (list[str]): Their labels; "" for answers.
    logits (float64 array, (n, k)), correct (bool array, (n,)): As in `scoring.calibration`.
    """

    labels: list[str]
    logits: DoubleArray
    correct: BoolArray

    @classmethod
    def of_rows(cls, rows: Iterable[tuple[str, Sequence[float], bool]]) -> _Predictions:
        """Collect rows of label, logits and whether the prediction is right."""
        table = list(rows)
        logits = np.full((len(table), max((len(row[1]) for row in table), default=1)), -np.inf)
        for i, row in enumerate(table):
            logits[i, : len(row[1])] = row[1]
        correct = np.asarray([row[2] for row in table], dtype=bool)
        return cls([row[0] for row in table], logits, correct)


def _calibrate(
    nlp: Language, name: str, examples: Iterator[Example], corpus: str, min_predictions: int
) -> ComponentCalibration:
    """Find the temperature of one component, which is left as it was."""
    pipe: Any = nlp.get_pipe(name)
    cfg = dict(pipe.cfg)
    with restored(pipe.cfg):
        if "null_threshold" in cfg:
            predictions = _answers(pipe, examples)
        else:
            predictions = _relations(nlp, relation_component(nlp, name), examples)
    old = float(cfg["temperature"])
    kept = np.ones(len(predictions.labels), dtype=bool)
    if "all_scores" in cfg:
        thresholds = label_thresholds(predictions.labels, cfg["threshold"], cfg["thresholds"])
        kept = scaled_scores(predictions.logits, old).astype(np.float32) >= thresholds
    logits, correct = predictions.logits[kept], predictions.correct[kept]
    n, n_correct = len(correct), int(correct.sum())
    if n < min_predictions or n_correct in (0, n):
        found = f"{n} predictions, {n_correct} of them right"
        raise _TooFew(
            Errors.E938.format(name=name, path=corpus, found=found, expected=min_predictions)
        )
    new = fit_temperature(logits, correct)
    carried, n_changed = _carried(
        cfg, len(getattr(pipe, "labels", ())), predictions, kept, old, new
    )
    return ComponentCalibration(
        component=name,
        predictions=n,
        correct=n_correct,
        before=_row(logits, correct, old),
        after=_row(logits, correct, new),
        settings={"temperature": new, **carried},
        changed=n_changed,
    )


def _row(logits: DoubleArray, correct: BoolArray, temperature: float) -> CalibrationRow:
    scores = scaled_scores(logits, temperature)
    return CalibrationRow(
        temperature,
        float(scores.mean()),
        calibration_error(scores, correct) or 0.0,
        calibration_error(scores, correct, equal_mass=True) or 0.0,
        negative_log_likelihood(logits, correct, temperature),
    )


def _carried(
    cfg: Mapping[str, Any],
    n_labels: int,
    predictions: _Predictions,
    kept: BoolArray,
    old: float,
    new: float,
) -> tuple[dict[str, Any], int]:
    """Carry the thresholds of relations over to another temperature.

    RETURNS (tuple[dict, int]): The new thresholds, and the number of predictions on which they differ
        from the old ones. (The null threshold of answers compares logits, so it stays.)
    """
    setting = next((name for name in ("relation_threshold", "threshold") if name in cfg), None)
    if setting is None or old == new:
        return {}, 0
    table = threshold_table(cfg["thresholds"])
    is_exact = setting == "relation_threshold" or n_labels == 2
    scores = scaled_scores(predictions.logits, new)
    changed = 0

    def carry(threshold: float, is_concerned: BoolArray) -> float:
        nonlocal changed
        if threshold == 0.0 or is_exact or not is_concerned.any():
            return carry_threshold(threshold, old, new)
        value, n = matching_threshold(scores[is_concerned], kept[is_concerned])
        changed += n
        return value

    labels = np.asarray(predictions.labels, dtype=object)
    common = carry(float(cfg[setting]), ~np.isin(labels, list(table)))
    carried = {label: carry(value, labels == label) for label, value in table.items()}
    if not table:
        return {setting: common}, changed
    rows: Any = [list(row) for row in carried.items()]
    as_given = carried if isinstance(cfg["thresholds"], Mapping) else rows
    return {setting: common, "thresholds": as_given}, changed


def _relations(
    nlp: Language, target: RelationComponent, examples: Iterator[Example]
) -> _Predictions:
    """Predict relations: those that reach the thresholds of `span_relation`, and all likely ones of
    `relation_classifier`. Declared rules, which may change a score, come after calibration."""
    cfg = target.pipe.cfg
    has_pairs = "all_scores" in cfg
    if has_pairs:
        cfg.update(all_scores=True, temperature=1.0, threshold=0.0, thresholds=[], rules=[])
    else:
        carried, _ = _carried(
            cfg, 0, _Predictions.of_rows([]), np.zeros(0, dtype=bool), cfg["temperature"], _HOT
        )
        cfg.update(carried, temperature=_HOT, rules=[])
    metric, spans_key = target.metrics[0], cfg["relations_key"]

    def rows() -> Iterator[tuple[str, Sequence[float], bool]]:
        for example, earlier in predict_examples(nlp, target, examples, metric):
            gold = {key for key, _ in target.keys(example.reference, metric)}
            doc = example.predicted
            best: dict[Any, Relation] = {}
            comparable = ComparableDoc(doc).relations(
                spans_key, cfg["negative_label"], cfg["symmetric"]
            )
            for row in comparable:
                key = row.strict if metric.startswith("rel_strict") else row.plain
                relation = row.relation
                # Relations of other components have scores of their own.
                if relation.score is None or key in earlier:
                    continue
                if key not in best or (best[key].score or 0.0) < relation.score:
                    best[key] = relation
            scores_of = {_pair(p.head, p.tail): p.scores for p in get_pair_scores(doc, spans_key)}
            for key, relation in best.items():
                score = np.float64(relation.score or 0.0)
                logits = [_HOT * float(np.log(score) - np.log1p(-score)), 0.0]
                if has_pairs:
                    logits = _pair_logits(relation, scores_of)
                yield relation.label, logits, key in gold

    with np.errstate(divide="ignore"):
        return _Predictions.of_rows(rows())


# Borders and types of head and tail.
_Pair = tuple[int, int, str, int, int, str]


def _pair(head: Span, tail: Span) -> _Pair:
    return (head.start, head.end, head.label_, tail.start, tail.end, tail.label_)


def _pair_logits(relation: Relation, scores_of: Mapping[_Pair, dict[str, float]]) -> list[float]:
    """Return the logit of a relation, followed by those of the other labels of its pair.

    A relation without a direction has its arguments in the order of the text, whichever direction it
    was found in; its score tells.
    """
    label, score = relation.label, relation.score or 0.0
    pairs = (_pair(relation.head, relation.tail), _pair(relation.tail, relation.head))
    candidates = [scores_of[pair] for pair in pairs if pair in scores_of]
    scores = min(candidates, key=lambda scores: abs(scores[label] - score))
    others = [value for name, value in scores.items() if name != label]
    logits: list[float] = np.log([scores[label], *others]).tolist()
    return logits


def _answers(pipe: Any, examples: Iterator[Example]) -> _Predictions:
    """Answer the gold questions."""
    cfg = pipe.cfg
    # All candidates among which the probability is divided.
    cfg["top_k"] = max(cfg["n_best"], cfg["top_k"])

    def rows() -> Iterator[tuple[str, Sequence[float], bool]]:
        for example in pipe.answer_gold(examples):
            predicted = {a.question.id: a for a in get_answers(example.predicted, cfg["qa_key"])}
            for gold in get_answers(example.reference, cfg["qa_key"]):
                answer = predicted[gold.question.id]
                references = [reference.text for reference in reference_answers(gold)]
                is_right = exact_match(answer.text, references, cfg["language"]) > 0
                yield "", _candidate_logits(answer, cfg["no_answer"]), is_right

    return _Predictions.of_rows(rows())


def _candidate_logits(answer: Answer, no_answer: bool) -> list[float]:
    """Return the logit of an answer, followed by those of the other candidates."""
    candidates = [each.logit or 0.0 for each in (answer, *answer.alternatives) if each]
    null = [answer.null_score or 0.0] if no_answer or not candidates else []
    return [*candidates, *null] if answer else [*null, *candidates]
