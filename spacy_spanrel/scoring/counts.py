"""Counting for scores, shared by the tasks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass
class Counts:
    """True positives, false positives and false negatives."""

    tp: int = 0
    fp: int = 0
    fn: int = 0

    def add(self, gold: set[Any], predicted: set[Any]) -> None:
        """Count two sets of annotations of one text; recall runs over the gold set."""
        self.tp += len(gold & predicted)
        self.fp += len(predicted - gold)
        self.fn += len(gold - predicted)

    @property
    def precision(self) -> float:
        return self.tp / (self.tp + self.fp) if self.tp else 0.0

    @property
    def recall(self) -> float:
        return self.tp / (self.tp + self.fn) if self.tp else 0.0

    @property
    def fscore(self) -> float:
        p, r = self.precision, self.recall
        return 2 * p * r / (p + r) if p + r else 0.0

    def to_dict(self) -> dict[str, float]:
        return {"p": self.precision, "r": self.recall, "f": self.fscore}


class LabelledCounts:
    """Counts over all annotations and for each label. An annotation is a tuple, its label first."""

    def __init__(self) -> None:
        self.micro = Counts()
        self.per_label: defaultdict[str, Counts] = defaultdict(Counts)

    def add(self, gold: Iterable[tuple[Any, ...]], predicted: Iterable[tuple[Any, ...]]) -> None:
        """Count the annotations of one text; repetitions count once."""
        gold_set, predicted_set = set(gold), set(predicted)
        self.micro.add(gold_set, predicted_set)
        for label in {item[0] for item in gold_set | predicted_set}:
            self.per_label[label].add(
                {item for item in gold_set if item[0] == label},
                {item for item in predicted_set if item[0] == label},
            )

    @property
    def has_gold(self) -> bool:
        return self.micro.tp + self.micro.fn > 0

    def macro(self) -> dict[str, float]:
        """Means of precision, recall and F1 over the labels that occur in gold or predictions (as
        the original SpERT evaluator takes them)."""
        counts = list(self.per_label.values())
        n = max(1, len(counts))
        return {
            "p": sum(c.precision for c in counts) / n,
            "r": sum(c.recall for c in counts) / n,
            "f": sum(c.fscore for c in counts) / n,
        }

    def scores(self, name: str) -> dict[str, Any]:
        """Scores by spaCy's names: {name}_p/r/f, {name}_macro_p/r/f, {name}_per_type.

        All are None where there is no gold annotation to compare with.
        """
        keys = [f"{name}_{x}" for x in "prf"] + [f"{name}_macro_{x}" for x in "prf"]
        if not self.has_gold:
            return {**dict.fromkeys(keys), f"{name}_per_type": None}
        micro, macro = self.micro.to_dict(), self.macro()
        per_type = {label: counts.to_dict() for label, counts in sorted(self.per_label.items())}
        values = [*(micro[x] for x in "prf"), *(macro[x] for x in "prf")]
        return {**dict(zip(keys, values, strict=True)), f"{name}_per_type": per_type}
