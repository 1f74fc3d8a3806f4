"""Thresholds on the scores of relations, for all labels or for each, from one prediction at threshold 0."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..arrays import BoolArray, DoubleArray, FloatArray, IntArray
from .counts import Counts, LabelledCounts, without_direction

# Identifies a relation within a text, its label first.
Key = tuple[Any, ...]
# F1 over all relations, or the mean of F1 over labels, or over relations whose two directions are two labels.
Average = Literal["micro", "macro", "semeval"]


@dataclass(frozen=True)
class _Ranges:
    """Ranges (low, high] of thresholds that keep the same relations, in descending order.

    places (int64 array, (n_ranges,)): Each range keeps this many of the relations.
    lows, highs (float64 arrays, (n_ranges,)): The ranges.
    labels (int64 array, (n,)), correct (bool array, (n,)): Label of each relation, and whether it is
        correct, best score first.
    """

    places: IntArray
    lows: DoubleArray
    highs: DoubleArray
    labels: IntArray
    correct: BoolArray


class ThresholdSweep:
    """Precision, recall and F1 of predicted relations at every threshold.

    A relation counts as predicted if its score is at least the threshold; both are compared as
    float32, as in the components. A repeated relation counts once, with its best score.

    After sorting by score, every threshold keeps a prefix of the relations, so that cumulative sums
    give F1 at all thresholds at once: O(n log n) for n predictions (times the labels, for macro F1).
    """

    def __init__(self) -> None:
        self.gold: Counter[str] = Counter()
        self._labels: dict[str, int] = {}
        self._rows: list[tuple[float, int, bool]] = []
        self._table: tuple[FloatArray, IntArray, BoolArray] | None = None

    def add(self, gold: Iterable[Key], predicted: Iterable[tuple[Key, float]]) -> None:
        """Add a text.

        gold (Iterable[tuple]): Its gold relations.
        predicted (Iterable[tuple[tuple, float]]): The relations predicted at threshold 0 and their
            scores; an infinite score if no threshold removes the relation.
        """
        gold_keys = set(gold)
        best: dict[Key, float] = {}
        for key, score in predicted:
            best[key] = max(score, best.get(key, -math.inf))
        self.gold.update(key[0] for key in gold_keys)
        for key in gold_keys | best.keys():
            self._labels.setdefault(key[0], len(self._labels))
        self._rows += [
            (score, self._labels[key[0]], key in gold_keys) for key, score in best.items()
        ]
        self._table = None

    @property
    def labels(self) -> list[str]:
        """The labels of gold and predicted relations, in alphabetical order."""
        return sorted(self._labels)

    def _arrays(self) -> tuple[FloatArray, IntArray, BoolArray]:
        """Return scores in descending order, labels, and whether each relation is correct."""
        if self._table is None:
            scores, labels, correct = zip(*self._rows, strict=True) if self._rows else ((), (), ())
            table = np.asarray(scores, dtype=np.float32)
            order = np.argsort(-table, kind="stable")
            self._table = (
                table[order],
                np.asarray(labels, dtype=np.int64)[order],
                np.asarray(correct, dtype=bool)[order],
            )
        return self._table

    def counts(self, threshold: float, thresholds: Mapping[str, float] = {}) -> LabelledCounts:
        """Return the counts at a threshold, as a scorer of relations would count them.

        threshold (float): The threshold.
        thresholds (Mapping[str, float]): Labels that have another one.
        RETURNS (LabelledCounts): The counts.
        """
        scores, labels, correct = self._arrays()
        counts = LabelledCounts()
        for label, index in self._labels.items():
            smallest = np.float32(thresholds.get(label, threshold))
            of_label = (labels == index) & (scores >= smallest)
            tp, n = int((of_label & correct).sum()), int(of_label.sum())
            if n or self.gold[label]:
                counts.per_label[label] = Counts(tp, n - tp, self.gold[label] - tp)
                counts.micro.tp += tp
                counts.micro.fp += n - tp
                counts.micro.fn += self.gold[label] - tp
        return counts

    def score(
        self,
        threshold: float,
        average: Average = "micro",
        thresholds: Mapping[str, float] = {},
    ) -> float:
        """Return F1 at a threshold, from 0 to 1; arguments as in `counts` and `best`."""
        counts = self.counts(threshold, thresholds)
        if average == "micro":
            return counts.micro.fscore
        return (counts.without_directions() if average == "semeval" else counts).macro()["f"]

    def best(self, average: Average = "micro", label: str | None = None) -> float:
        """Return the threshold from 0 to 1 that gives the best F1.

        average ("micro" | "macro" | "semeval"): F1 over all relations, the mean of F1 over labels, or the
            mean over labels of which those that name the two directions of a relation count together.
        label (str | None): The label whose relations count; None for all.
        RETURNS (float): The middle of the widest range of best thresholds.
        """
        ranges = self._ranges(label)
        f1 = self._f1(ranges, average, label)
        return _middle_of_widest(
            np.isclose(f1, f1.max(), rtol=0.0, atol=1e-12), ranges.lows, ranges.highs
        )

    def precise(self, precision: float, label: str | None = None) -> float | None:
        """Return the smallest threshold whose precision reaches a target, so that recall is as high as
        the target allows.

        Precision does not rise steadily with the threshold; nothing is said of larger thresholds.

        precision (float): The target, from 0 to 1.
        label (str | None): The label whose relations count; None for all.
        RETURNS (float | None): The middle of the range of thresholds that keep the same relations as
            the smallest one; None if no threshold that keeps a relation reaches the target.
        """
        ranges = self._ranges(label)
        tp = np.append(0, np.cumsum(ranges.correct))[ranges.places]
        reaching = np.flatnonzero((ranges.places > 0) & (tp >= precision * ranges.places - 1e-9))
        if not len(reaching):
            return None
        good = np.zeros(len(ranges.places), dtype=bool)
        good[reaching[-1]] = True
        return _middle_of_widest(good, ranges.lows, ranges.highs)

    def _ranges(self, label: str | None) -> _Ranges:
        """Find the ranges of thresholds that keep the same relations, all or those of a label."""
        scores, labels, correct = self._arrays()
        if label is not None:
            counted = labels == self._labels.get(label, -1)
            scores, labels, correct = scores[counted], labels[counted], correct[counted]
        n_fixed = int(np.isinf(scores).sum())
        # Every threshold keeps the relations before one of these places.
        last = np.append(scores[:-1] != scores[1:], True)[: len(scores)]
        ends = np.flatnonzero(last) + 1
        places = np.append(n_fixed, ends[ends > n_fixed])
        marks = scores[places[1:] - 1].astype(np.float64)
        highs = np.concatenate([[1.0], marks])
        lows = np.concatenate([marks, [0.0]])
        # No threshold up to 1 removes relations with the score 1.
        first = int(len(marks) > 0 and marks[0] >= 1.0)
        return _Ranges(places[first:], lows[first:], highs[first:], labels, correct)

    def _f1(self, ranges: _Ranges, average: Average, label: str | None) -> DoubleArray:
        """Return F1 in each range. Shape: (n_ranges,)."""
        places, labels, correct = ranges.places, ranges.labels, ranges.correct
        # The labels that are counted together.
        groups: dict[str, list[str]] = {}
        for name in self._labels if label is None else [label]:
            group = {"micro": "", "macro": name, "semeval": without_direction(name)}[average]
            groups.setdefault(group, []).append(name)
        total, n_groups = np.zeros(len(places)), np.zeros(len(places))
        for names in groups.values():
            counted = np.isin(labels, [self._labels[name] for name in names])
            gold = sum(self.gold[name] for name in names)
            n, tp = (np.append(0, np.cumsum(m))[places] for m in (counted, counted & correct))
            total += 2 * tp / np.maximum(n + gold, 1)
            n_groups += n + gold > 0
        return total / np.maximum(n_groups, 1)


def _middle_of_widest(good: BoolArray, lows: DoubleArray, highs: DoubleArray) -> float:
    """Return the middle of the widest run of good ranges (low, high].

    The ranges are in descending order and adjacent: the low of each is the high of the next.
    """
    runs: list[tuple[float, float]] = []
    for i in np.flatnonzero(good).tolist():
        if runs and i and good[i - 1]:
            runs[-1] = (float(lows[i]), runs[-1][1])
        else:
            runs.append((float(lows[i]), float(highs[i])))
    low, high = max(runs, key=lambda run: run[1] - run[0])
    middle = low + (high - low) / 2
    return middle if low < float(np.float32(middle)) <= high else high
