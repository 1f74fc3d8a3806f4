from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spacy_spanrel.scoring.calibration import (
    COLDEST,
    HOTTEST,
    calibration_error,
    carry_threshold,
    fit_temperature,
    matching_threshold,
    negative_log_likelihood,
    scaled_scores,
    score_bins,
)

SCORE = st.floats(0, 1)
ROWS = st.lists(st.tuples(SCORE, st.booleans()), min_size=1, max_size=40)


def split(rows: list[tuple[Any, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray([row[0] for row in rows]), np.asarray([row[1] for row in rows])


@given(ROWS, st.integers(1, 20))
def test_bins_hold_all_predictions(rows: list[tuple[float, bool]], n_bins: int) -> None:
    scores, correct = split(rows)
    bins = score_bins(scores, correct, n_bins)
    assert sum(each.n for each in bins) == len(rows)
    assert sum(each.n * each.correct for each in bins) == pytest.approx(correct.sum())
    assert [each.low for each in bins] == sorted({each.low for each in bins})
    for each in bins:
        assert each.low - 1e-9 <= each.score <= each.high + 1e-9
        assert each.high - each.low == pytest.approx(1 / n_bins)


@given(ROWS, st.integers(1, 20), st.booleans())
def test_calibration_error(rows: list[tuple[float, bool]], n_bins: int, equal_mass: bool) -> None:
    scores, correct = split(rows)
    error = calibration_error(scores, correct, n_bins, equal_mass=equal_mass)
    assert error is not None
    # It is no less than the distance of the means, which one bin measures.
    assert abs(scores.mean() - correct.mean()) - 1e-9 <= error <= 1
    assert calibration_error(scores, correct, 1, equal_mass=equal_mass) == pytest.approx(
        abs(scores.mean() - correct.mean())
    )


def test_known_errors() -> None:
    scores = np.asarray([0.9, 0.9, 0.9, 0.9, 0.1, 0.1])
    correct = np.asarray([True, True, False, False, False, False])
    assert calibration_error(scores, correct) == pytest.approx((4 * 0.4 + 2 * 0.1) / 6)
    # Three bins of two predictions each: the first has the low scores.
    assert calibration_error(scores, correct, 3, equal_mass=True) == pytest.approx(
        (2 * 0.1 + 2 * 0.1 + 2 * 0.9) / 6
    )
    assert calibration_error(np.zeros(0), np.zeros(0, dtype=bool)) is None


@given(
    hnp.arrays(
        np.float64, st.tuples(st.integers(1, 6), st.integers(1, 4)), elements=st.floats(-9, 9)
    ),
    st.sampled_from([0.5, 1.0, 3.0]),
)
def test_scaled_scores(logits: np.ndarray, temperature: float) -> None:
    weights = np.exp(logits / temperature)
    expected = weights[:, 0] / weights.sum(axis=1)
    assert scaled_scores(logits, temperature) == pytest.approx(expected)
    padded = np.pad(logits, ((0, 0), (0, 2)), constant_values=-np.inf)
    assert scaled_scores(padded, temperature) == pytest.approx(expected)
    correct = np.arange(len(logits)) % 2 == 0
    if logits.shape[1] > 1:
        likely = np.where(correct, expected, 1 - expected)
        assert negative_log_likelihood(padded, correct, temperature) == pytest.approx(
            -np.log(likely).mean(), abs=1e-6
        )


@pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
def test_temperature_is_found_again(true: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, (20_000, 3))
    logits[:, 0] += 3
    correct = rng.random(len(logits)) < scaled_scores(logits, true)
    assert fit_temperature(logits, correct) == pytest.approx(true, rel=0.1)


@given(st.lists(st.tuples(st.floats(-8, 8), st.booleans()), min_size=2, max_size=30))
def test_no_temperature_is_better(rows: list[tuple[float, bool]]) -> None:
    z, correct = split(rows)
    logits = np.stack([z, np.zeros(len(z))], axis=1)
    best = fit_temperature(logits, correct)
    assert COLDEST <= best <= HOTTEST
    loss = negative_log_likelihood(logits, correct, best)
    for temperature in (0.05, 0.2, 0.7, 1.0, 1.5, 4.0, 20.0):
        assert loss <= negative_log_likelihood(logits, correct, temperature) + 1e-4


@given(st.floats(-12, 12), st.floats(0.01, 0.99), st.sampled_from([0.25, 1.0, 2.0, 7.0]))
def test_carried_threshold_decides_the_same(z: float, threshold: float, after: float) -> None:
    def sigmoid(x: float) -> float:
        return 1 / (1 + np.exp(-x))

    assume(abs(sigmoid(z) - threshold) > 1e-6)
    carried = carry_threshold(threshold, 1.0, after)
    assert (sigmoid(z) >= threshold) == (sigmoid(z / after) >= carried)
    assert carry_threshold(carried, after, 1.0) == pytest.approx(threshold)
    assert carry_threshold(0.0, 1.0, after) == 0.0
    assert carry_threshold(0.5, 1.0, after) == 0.5
    assert carry_threshold(1.0, 1.0, after) == 1.0


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8, 0.95]), st.booleans())))
def test_matching_threshold(rows: list[tuple[float, bool]]) -> None:
    scores, kept = split(rows) if rows else (np.zeros(0), np.zeros(0, dtype=bool))

    def differing(threshold: float) -> int:
        return int(np.sum((scores >= threshold) != kept))

    threshold, n = matching_threshold(scores, kept)
    assert 0 <= threshold <= 1
    assert differing(threshold) == n
    assert n == min(differing(t) for t in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0))
