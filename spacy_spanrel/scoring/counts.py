"""Counts of true and false predictions, and the scores computed from them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# SemEval-2010 Task 8 and KBP37 name the direction in the label.
_DIRECTION = re.compile(r"\((?:e1,e2|e2,e1)\)$")


def without_direction(label: str) -> str:
    """Return a label without the direction that it names.

    label (str): The label, such as "Cause-Effect(e1,e2)".
    RETURNS (str): "Cause-Effect", or the label itself if it names no direction.
    """
    return _DIRECTION.sub("", label)


@dataclass
class Counts:
    """Numbers of true positives, false positives and false negatives.

    tp (int): Predicted annotations that are in the gold data.
    fp (int): Predicted annotations that are not.
    fn (int): Gold annotations that were not predicted.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0

    def add(self, gold: set[Any], predicted: set[Any]) -> None:
        """Count the annotations of one text.

        gold (set): Its gold annotations.
        predicted (set): Its predicted annotations.
        """
        self.tp += len(gold & predicted)
        self.fp += len(predicted - gold)
        self.fn += len(gold - predicted)

    @property
    def precision(self) -> float:
        """Share of predicted annotations that are correct; 0.0 if there are none."""
        return self.tp / (self.tp + self.fp) if self.tp else 0.0

    @property
    def recall(self) -> float:
        """Share of gold annotations that were predicted; 0.0 if there are none."""
        return self.tp / (self.tp + self.fn) if self.tp else 0.0

    @property
    def fscore(self) -> float:
        """F1, the harmonic mean of precision and recall."""
        p, r = self.precision, self.recall
        return 2 * p * r / (p + r) if p + r else 0.0

    def to_dict(self) -> dict[str, float]:
        """Return precision ("p"), recall ("r") and F1 ("f")."""
        return {"p": self.precision, "r": self.recall, "f": self.fscore}


class LabelledCounts:
    """Counts of all annotations together (`micro`) and of each label (`per_label`). An annotation is a
    tuple that begins with its label."""

    def __init__(self) -> None:
        self.micro = Counts()
        self.per_label: defaultdict[str, Counts] = defaultdict(Counts)

    def add(self, gold: Iterable[tuple[Any, ...]], predicted: Iterable[tuple[Any, ...]]) -> None:
        """Count the annotations of one text; duplicates count once.

        gold (Iterable[tuple]): Its gold annotations.
        predicted (Iterable[tuple]): Its predicted annotations.
        """
        gold_set, predicted_set = set(gold), set(predicted)
        self.micro.add(gold_set, predicted_set)
        for label in {annotation[0] for annotation in gold_set | predicted_set}:
            self.per_label[label].add(
                {annotation for annotation in gold_set if annotation[0] == label},
                {annotation for annotation in predicted_set if annotation[0] == label},
            )

    def without_directions(self) -> LabelledCounts:
        """Count the labels that name the two directions of a relation together.

        RETURNS (LabelledCounts): The counts of relations, each the sum of those of its labels. A
            prediction is right if its direction is.
        """
        relations = LabelledCounts()
        relations.micro = self.micro
        for label, counts in self.per_label.items():
            total = relations.per_label[without_direction(label)]
            total.tp += counts.tp
            total.fp += counts.fp
            total.fn += counts.fn
        return relations

    def macro(self) -> dict[str, float]:
        """Average precision, recall and F1 over the labels that occur in gold or predicted
        annotations, as the original SpERT program does.

        RETURNS (dict): The means "p", "r" and "f".
        """
        counts = list(self.per_label.values())
        n = max(1, len(counts))
        return {
            "p": sum(c.precision for c in counts) / n,
            "r": sum(c.recall for c in counts) / n,
            "f": sum(c.fscore for c in counts) / n,
        }

    def scores(self, name: str) -> dict[str, Any]:
        """Return all scores under names in spaCy's style.

        name (str): Prefix of the names, for example "rel".
        RETURNS (dict): {name}_p/r/f, {name}_macro_p/r/f and {name}_per_type; all None if there are no
            gold annotations.
        """
        keys = [f"{name}_{x}" for x in "prf"] + [f"{name}_macro_{x}" for x in "prf"]
        if self.micro.tp + self.micro.fn == 0:
            return {**dict.fromkeys(keys), f"{name}_per_type": None}
        micro, macro = self.micro.to_dict(), self.macro()
        per_type = {label: counts.to_dict() for label, counts in sorted(self.per_label.items())}
        values = [*micro.values(), *macro.values()]
        return {**dict(zip(keys, values, strict=True)), f"{name}_per_type": per_type}
