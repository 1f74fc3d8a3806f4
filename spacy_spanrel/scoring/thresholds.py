"""The best threshold on the scores of relations, from one prediction at threshold 0."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from ..arrays import BoolArray, DoubleArray, FloatArray, IntArray
from .counts import Counts, LabelledCounts

# Identifies a relation of a text; its label first.
Key = tuple[Any, ...]
Average = Literal["micro", "macro"]


class ThresholdSweep:
    """Gold relations and all that were predicted, with their scores.

    A relation is found where its score is at least the threshold, as the components decide it:
    compared as float32, in which they compute. Repeated ones count once, by their best score.
    """

    def __init__(self) -> None:
        self.gold: Counter[str] = Counter()
        self._labels: dict[str, int] = {}
        self._rows: list[tuple[float, int, bool]] = []
        self._table: tuple[FloatArray, IntArray, BoolArray] | None = None

    def add(self, gold: Iterable[Key], predicted: Iterable[tuple[Key, float]]) -> None:
        """Add a text.

        gold (Iterable[tuple]): Its relations.
        predicted (Iterable[tuple[tuple, float]]): Those found at threshold 0 with their scores;
            infinite for those that no threshold takes away.
        """
        wanted = set(gold)
        best: dict[Key, float] = {}
        for key, score in predicted:
            best[key] = max(score, best.get(key, -math.inf))
        self.gold.update(key[0] for key in wanted)
        for key in wanted | best.keys():
            self._labels.setdefault(key[0], len(self._labels))
        self._rows += [(score, self._labels[key[0]], key in wanted) for key, score in best.items()]
        self._table = None

    def _arrays(self) -> tuple[FloatArray, IntArray, BoolArray]:
        """Scores in descending order, labels, and which are right."""
        if self._table is None:
            scores, labels, right = zip(*self._rows, strict=True) if self._rows else ((), (), ())
            table = np.asarray(scores, dtype=np.float32)
            order = np.argsort(-table, kind="stable")
            self._table = (
                table[order],
                np.asarray(labels, dtype=np.int64)[order],
                np.asarray(right, dtype=bool)[order],
            )
        return self._table

    def counts(self, threshold: float) -> LabelledCounts:
        """Count what is found with a threshold. RETURNS (LabelledCounts): As a scorer counts it."""
        scores, labels, right = self._arrays()
        found = scores >= np.float32(threshold)
        counts = LabelledCounts()
        for label, index in self._labels.items():
            own = found & (labels == index)
            tp, n = int((own & right).sum()), int(own.sum())
            if n or self.gold[label]:
                part = Counts(tp, n - tp, self.gold[label] - tp)
                counts.per_label[label] = part
                counts.micro.tp += part.tp
                counts.micro.fp += part.fp
                counts.micro.fn += part.fn
        return counts

    def score(self, threshold: float, average: Average = "micro") -> float:
        """Return F1 at a threshold, from 0 to 1."""
        counts = self.counts(threshold)
        return counts.micro.fscore if average == "micro" else counts.macro()["f"]

    def best(self, average: Average = "micro") -> float:
        """Return the threshold from 0 to 1 that gives the best F1.

        average (str): Over all relations ("micro") or over labels ("macro").
        RETURNS (float): Of the widest range of thresholds in which all are best, the middle.
        """
        scores, labels, right = self._arrays()
        n_fixed = int(np.isinf(scores).sum())
        # Each threshold finds the relations before one of these places.
        last = np.append(scores[:-1] != scores[1:], True)[: len(scores)]
        ends = np.flatnonzero(last) + 1
        places = np.append(n_fixed, ends[ends > n_fixed])
        marks = scores[places[1:] - 1].astype(np.float64)
        highs = np.concatenate([[1.0], marks])
        lows = np.concatenate([marks, [0.0]])
        f1 = self._f1(places, labels, right, average)
        # No threshold takes away what is certain.
        if len(marks) and marks[0] >= 1.0:
            f1[0] = -1.0
        return _middle_of_widest(np.isclose(f1, f1.max(), rtol=0.0, atol=1e-12), lows, highs)

    def _f1(
        self,
        places: IntArray,
        labels: IntArray,
        right: BoolArray,
        average: Average,
    ) -> DoubleArray:
        """F1 of the first `places` relations, (n_places,)."""
        names: Sequence[str | None] = [None] if average == "micro" else list(self._labels)
        total, n_labels = np.zeros(len(places)), np.zeros(len(places))
        for name in names:
            own = np.ones(len(labels), dtype=bool) if name is None else labels == self._labels[name]
            gold = self.gold.total() if name is None else self.gold[name]
            n, tp = (np.append(0, np.cumsum(mask))[places] for mask in (own, own & right))
            total += 2 * tp / np.maximum(n + gold, 1)
            n_labels += n + gold > 0
        return total / np.maximum(n_labels, 1)


def _middle_of_widest(good: BoolArray, lows: DoubleArray, highs: DoubleArray) -> float:
    """Return the middle of the widest run of ranges (low, high] that are good; they stand in
    descending order, each one's low being the next one's high."""
    runs: list[tuple[float, float]] = []
    for i in np.flatnonzero(good).tolist():
        if runs and i and good[i - 1]:
            runs[-1] = (float(lows[i]), runs[-1][1])
        else:
            runs.append((float(lows[i]), float(highs[i])))
    low, high = max(runs, key=lambda run: run[1] - run[0])
    middle = low + (high - low) / 2
    return middle if low < float(np.float32(middle)) <= high else high
