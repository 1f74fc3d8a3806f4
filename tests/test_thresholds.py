from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_spanrel.scoring.counts import LabelledCounts
from spacy_spanrel.scoring.thresholds import ThresholdSweep

# A relation is a key (label, position). A text has gold relations, and predictions with scores.
LABELS = ["a(e1,e2)", "a(e2,e1)", "b"]
KEYS = st.tuples(st.sampled_from(LABELS), st.integers(0, 4))
SCORES = st.sampled_from([0.0, 0.1, 0.25, 0.4, 0.7, 0.9, 1.0, math.inf]).map(
    lambda score: float(np.float32(score))
)
TEXTS = st.lists(
    st.tuples(st.sets(KEYS), st.lists(st.tuples(KEYS, SCORES), max_size=8)), max_size=4
)


def sweep_of(texts: list[Any]) -> ThresholdSweep:
    sweep = ThresholdSweep()
    for gold, predicted in texts:
        sweep.add(gold, predicted)
    return sweep


def count_at(texts: list[Any], threshold: float, by_relation: bool = False) -> LabelledCounts:
    """Count as a scorer would if only relations with at least this score were predicted; the labels "a" in
    both directions as one, if so asked."""
    counts = LabelledCounts()
    for gold, predicted in texts:
        kept = [key for key, score in predicted if score >= np.float32(threshold)]
        sides = [[(k[0][0], *k) for k in keys] if by_relation else keys for keys in (gold, kept)]
        counts.add(*sides)
    return counts


@given(TEXTS, st.sampled_from([0.0, 0.1, 0.3, 0.4, 0.95, 1.0]))
def test_counts_equal_those_of_a_scorer(texts: list[Any], threshold: float) -> None:
    counts, expected = sweep_of(texts).counts(threshold), count_at(texts, threshold)
    assert counts.micro == expected.micro
    assert counts.per_label == expected.per_label


@given(TEXTS, st.sampled_from(["micro", "macro", "semeval"]))
def test_no_threshold_beats_the_best(texts: list[Any], average: Any) -> None:
    sweep = sweep_of(texts)
    best = sweep.best(average)
    assert 0 <= best <= 1
    thresholds = [0.0, 0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0]
    for threshold in thresholds:
        counts = count_at(texts, threshold, by_relation=average == "semeval")
        f1 = counts.micro.fscore if average == "micro" else counts.macro()["f"]
        assert sweep.score(threshold, average) == pytest.approx(f1)
        assert sweep.score(best, average) >= f1 - 1e-9


def test_best_is_the_middle_of_the_widest_range() -> None:
    sweep = ThresholdSweep()
    sweep.add([("a", 1), ("a", 2)], [(("a", 1), 0.75), (("a", 2), 0.5), (("a", 3), 0.25)])
    assert sweep.best() == 0.375
    # All predictions are correct, so every threshold up to the lowest score is best.
    sweep = ThresholdSweep()
    sweep.add([("a", 1)], [(("a", 1), 0.5)])
    assert sweep.best() == 0.25
    # Adjacent ranges with the same F1 count as one range: here, one correct relation of two without a
    # wrong one, or both with two wrong ones.
    sweep = ThresholdSweep()
    wrong = [(("b", i), 0.5) for i in range(2)]
    sweep.add([("a", 1), ("a", 2)], [(("a", 1), 0.875), *wrong, (("a", 2), 0.5)])
    assert sweep.score(0.6) == sweep.score(0.1) == pytest.approx(2 / 3)
    assert sweep.best() == 0.4375
    # With a worse range between them, the wider range wins.
    wrong = [(("b", 0), 0.75), (("b", 1), 0.75)]
    sweep = ThresholdSweep()
    sweep.add([("a", 1), ("a", 2)], [(("a", 1), 0.875), *wrong, (("a", 2), 0.5)])
    assert sweep.score(0.6) < sweep.score(0.8) == sweep.score(0.1)
    assert sweep.best() == 0.25


def test_neighbouring_float32_numbers() -> None:
    low = np.float32(0.5)
    high = np.nextafter(low, np.float32(1))
    sweep = ThresholdSweep()
    sweep.add([("a", 1)], [(("a", 1), float(high)), (("a", 2), float(low))])
    best = sweep.best()
    assert low < np.float32(best) <= high
    assert sweep.score(best) == 1.0


def test_certain_relations_stay() -> None:
    sweep = ThresholdSweep()
    sweep.add([("a", 1)], [(("a", 1), math.inf), (("a", 2), 0.5)])
    assert sweep.best() == 0.75
    assert sweep.counts(1.0).micro.tp == 1
    # No threshold excludes a score of 1.
    sweep = ThresholdSweep()
    sweep.add([("a", 1)], [(("a", 2), 1.0), (("a", 1), 0.5)])
    assert sweep.best() == 0.25


def test_duplicate_relations_count_once() -> None:
    sweep = ThresholdSweep()
    sweep.add([("a", 1)], [(("a", 1), 0.25), (("a", 1), 0.75)])
    assert sweep.counts(0.5).micro.tp == 1
    assert sweep.counts(0.1).micro.fp == 0


def test_empty_sweep() -> None:
    sweep = ThresholdSweep()
    assert sweep.best() == sweep.best("macro") == 0.5
    assert sweep.score(0.5) == 0.0
    assert sweep.counts(0.0).micro == sweep.counts(1.0).micro


@given(TEXTS, st.sampled_from(LABELS))
def test_no_threshold_beats_the_best_of_a_label(texts: list[Any], label: str) -> None:
    sweep = sweep_of(texts)
    if label not in sweep.labels:
        return
    best = sweep.best(label=label)
    f1 = {t: count_at(texts, t).per_label[label].fscore for t in (best, 0.0, 0.2, 0.3, 0.5, 0.8)}
    assert f1[best] >= max(f1.values()) - 1e-9


@given(TEXTS, st.sampled_from([0.0, 0.3, 0.5, 0.75, 1.0]), st.sampled_from([None, *LABELS[1:]]))
def test_precise_is_the_smallest(texts: list[Any], precision: float, label: str | None) -> None:
    sweep = sweep_of(texts)

    def reaches(threshold: float) -> bool:
        counts = count_at(texts, threshold)
        of_label = counts.micro if label is None else counts.per_label[label]
        return of_label.tp + of_label.fp > 0 and of_label.precision >= precision - 1e-9

    steps = [0.0, 0.05, 0.15, 0.3, 0.5, 0.8, 0.95, 1.0]
    threshold = sweep.precise(precision, label)
    if threshold is None:
        assert not any(map(reaches, steps))
        return
    assert 0 <= threshold <= 1
    assert reaches(threshold)
    # All smaller ones of the same range keep the same relations; of the others none reaches it.
    kept = sweep.counts(threshold)
    for smaller in (step for step in steps if step < threshold and reaches(step)):
        counts = sweep.counts(smaller)
        of_label = [c.micro if label is None else c.per_label[label] for c in (counts, kept)]
        assert of_label[0] == of_label[1]


@given(TEXTS, st.dictionaries(st.sampled_from(LABELS), st.sampled_from([0.0, 0.2, 0.5, 1.0])))
def test_counts_with_thresholds_of_labels(texts: list[Any], thresholds: dict[str, float]) -> None:
    expected = LabelledCounts()
    for gold, predicted in texts:
        kept = [key for key, score in predicted if score >= thresholds.get(key[0], 0.3)]
        expected.add(gold, kept)
    counts = sweep_of(texts).counts(0.3, thresholds)
    assert counts.micro == expected.micro
    assert counts.per_label == expected.per_label
