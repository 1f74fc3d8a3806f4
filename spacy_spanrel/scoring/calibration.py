"""Calibration: a temperature for the scores of predictions, and how far scores are from the truth.

A score is calibrated if, of the predictions with the score 0.8, 80 % are right; who acts on predictions
can then choose by score. Networks are mostly too sure of themselves. A temperature divides their logits
before the softmax or sigmoid (Guo et al. 2017, "On Calibration of Modern Neural Networks"): one number,
which leaves the order of the labels of a pair as it is and makes all scores more or less extreme.

Whether a prediction is right is the scorer's word, so a relation's score is the probability that the
whole relation, its spans and types included, is right. That differs from Guo et al., who look at the
class of each example: the network of a relation cannot know that an entity was cut in the wrong place,
but its score can learn to expect it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import BoolArray, DoubleArray

# Number of bins of equal width, as Guo et al. take.
BINS = 15
# Temperatures among which the best is looked for. Beyond them, all scores are 1, or all are alike.
COLDEST, HOTTEST = 0.05, 20.0


@dataclass(frozen=True)
class ScoreBin:
    """Predictions with similar scores.

    low, high (float): The range of scores [low, high); in the last bin, high is included.
    n (int): Number of predictions.
    score (float): Mean of their scores.
    correct (float): Share of them that is right.
    """

    low: float
    high: float
    n: int
    score: float
    correct: float


def score_bins(scores: DoubleArray, correct: BoolArray, n_bins: int = BINS) -> list[ScoreBin]:
    """Divide predictions into bins of equal width, for a reliability diagram.

    scores (float64 array, (n,)): Scores from 0 to 1.
    correct (bool array, (n,)): Whether each prediction is right.
    n_bins (int): Number of bins.
    RETURNS (list[ScoreBin]): The bins that hold a prediction, in ascending order.
    """
    index = np.minimum((scores * n_bins).astype(np.int64), n_bins - 1)
    return [
        ScoreBin(
            i / n_bins,
            (i + 1) / n_bins,
            int(np.sum(index == i)),
            float(scores[index == i].mean()),
            float(correct[index == i].mean()),
        )
        for i in np.unique(index).tolist()
    ]


def calibration_error(
    scores: DoubleArray, correct: BoolArray, n_bins: int = BINS, *, equal_mass: bool = False
) -> float | None:
    """Compute the expected calibration error (Naeini et al. 2015): the mean over predictions of the
    distance between the share of right predictions in a bin and the mean score there.

    Bins of equal width show where scores lie; where nearly all scores are near 1, nearly all
    predictions share one bin, and bins of equal mass (as many predictions in each) tell more.
    With few predictions both are too high: the share in a bin of 10 is 0.1 off by chance alone.

    scores, correct, n_bins: As in `score_bins`.
    equal_mass (bool): Whether the bins hold equally many predictions, in the order of their scores
        (of equal ones, in the order given), instead of having equal width.
    RETURNS (float | None): The error, from 0 to 1; None without predictions.
    """
    if not len(scores):
        return None
    if equal_mass:
        order = np.argsort(scores, kind="stable")
        bins = np.array_split(order, min(n_bins, len(order)))
        gaps = [abs(float(np.sum(correct[rows] - scores[rows]))) for rows in bins]
    else:
        gaps = [
            each.n * abs(each.correct - each.score) for each in score_bins(scores, correct, n_bins)
        ]
    return sum(gaps) / len(scores)


def scaled_scores(logits: DoubleArray, temperature: float) -> DoubleArray:
    """Compute the scores of predictions at a temperature.

    logits (float64 array, (n, k)): For each prediction its own logit, then those of the alternatives,
        -inf where there are fewer than k - 1. The sigmoid of z is the softmax of [z, 0].
    temperature (float): The temperature.
    RETURNS (float64 array, (n,)): The probability of the first column.
    """
    z = logits / temperature
    weights = np.exp(z - z.max(axis=1, keepdims=True))
    return weights[:, 0] / weights.sum(axis=1)


def negative_log_likelihood(logits: DoubleArray, correct: BoolArray, temperature: float) -> float:
    """Compute the mean of -log(score) of right predictions and -log(1 - score) of wrong ones.

    logits, temperature: As in `scaled_scores`.
    correct (bool array, (n,)): Whether each prediction is right.
    RETURNS (float): The mean. Predictions without an alternative, whose score is always 1, are left out.
    """
    z = (logits / temperature)[np.isfinite(logits[:, 1:]).any(axis=1)]
    right = correct[np.isfinite(logits[:, 1:]).any(axis=1)]
    others = np.logaddexp.reduce(z[:, 1:], axis=1)
    logs = np.where(right, z[:, 0], others) - np.logaddexp(z[:, 0], others)
    return -float(logs.mean()) if len(logs) else 0.0


def fit_temperature(logits: DoubleArray, correct: BoolArray) -> float:
    """Find the temperature that makes right and wrong predictions most likely.

    Two grids of logarithms, the second around the best point of the first, because the likelihood of a
    softmax need not have one peak only; so every result is the same on every machine.

    logits, correct: As in `negative_log_likelihood`.
    RETURNS (float): The temperature, from COLDEST to HOTTEST, with four digits.
    """
    low, high = np.log(COLDEST), np.log(HOTTEST)
    best = 1.0
    for n in (121, 121):
        grid = np.exp(np.linspace(low, high, n))
        losses = [negative_log_likelihood(logits, correct, t) for t in grid.tolist()]
        best = float(grid[int(np.argmin(losses))])
        step = (high - low) / (n - 1)
        low = max(np.log(COLDEST), np.log(best) - step)
        high = min(np.log(HOTTEST), np.log(best) + step)
    return float(f"{best:.4g}")


def carry_threshold(threshold: float, before: float, after: float) -> float:
    """Carry the threshold of a sigmoid (or of a softmax of two) over to another temperature.

    sigmoid(z / before) >= threshold holds for the same z as sigmoid(z / after) >= the new threshold,
    but for rounding: probabilities within some 1e-7 of the threshold, and those that are 1 or 0 in
    float32.

    threshold (float): The threshold, from 0 to 1.
    before, after (float): The temperatures.
    RETURNS (float): The new threshold; 0, 0.5 and 1 stay.
    """
    if before == after or threshold in (0.0, 1.0):
        return threshold
    logit = np.log(threshold) - np.log1p(-threshold)
    return float(1 / (1 + np.exp(-logit * before / after)))


def matching_threshold(scores: DoubleArray, kept: BoolArray) -> tuple[float, int]:
    """Find the threshold that keeps the same predictions as another rule, as nearly as one can.

    For the softmax of more than two, no threshold keeps exactly the predictions that another one keeps
    at another temperature, because the scores of two predictions may change their order.

    scores (float64 array, (n,)): The scores.
    kept (bool array, (n,)): Whether the other rule keeps each prediction.
    RETURNS (tuple[float, int]): The threshold, and the number of predictions on which it differs from
        the rule. Of equally good thresholds it is the lowest, in the middle of its range.
    """
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    # A threshold drops the predictions before one of these places, all with smaller scores.
    places = np.append(np.flatnonzero(np.diff(ordered, prepend=-1.0)), len(ordered))
    dropped = np.append(0, np.cumsum(kept[order]))[places]
    wrongly_kept = np.cumsum(np.append(0, ~kept[order]))
    differing = dropped + wrongly_kept[-1] - wrongly_kept[places]
    best = int(np.argmin(differing))
    place = int(places[best])
    low = float(ordered[place - 1]) if place else 0.0
    high = float(ordered[place]) if place < len(ordered) else 1.0
    threshold = 0.0 if not place else low + (high - low) / 2
    return threshold, int(differing[best])
