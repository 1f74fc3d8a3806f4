"""The labels and types of the training data, and what cannot be learned from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..errors import Warnings, warn, warn_of
from ..pairing import check_gold_label
from .gold import Gold


class Survey:
    """The labels and types of the training data, and what cannot be learned from it.

    cfg (Mapping[str, Any]): Settings of the component.

    `labels` holds the labels, each with a text that has it.
    """

    def __init__(self, cfg: Mapping[str, Any]):
        self.cfg = cfg
        self.labels: dict[str, str] = {}
        self.head_types: set[str] = set()
        self.tail_types: set[str] = set()
        self.type_pairs: set[tuple[str, str, str]] = set()
        self._misaligned: list[str] = []
        self._several_labels: list[str] = []

    def add(self, gold: Gold) -> None:
        """Take in an Example.

        gold (Gold): Its annotation.
        """
        self._misaligned += gold.misaligned
        for gold_pair in gold.pairs.values():
            head, tail = gold_pair.pair
            labels = [gold_pair.label, *gold_pair.more_labels]
            for label in labels:
                self.labels.setdefault(label, head.doc.text)
                self.type_pairs.add((label, head.label_, tail.label_))
            self.head_types.add(head.label_)
            self.tail_types.add(tail.label_)
            if len(labels) > 1:
                self._several_labels.append(f"{head.text} / {tail.text}: {', '.join(labels)}")

    def check_labels(self, name: str, labels: Collection[str]) -> None:
        """Refuse data with labels that the component does not have.

        name (str): Name of the component.
        labels (Collection[str]): Its labels.
        RAISES (ValueError): If the data has another label.
        """
        for label, text in self.labels.items():
            check_gold_label(name, "a relation", label, labels, text)

    def warn(self, name: str, labels: Sequence[str]) -> None:
        """Warn of what cannot be learned.

        name (str): Name of the component.
        labels (Sequence[str]): Its labels.
        """
        if self._misaligned:
            warn_of(Warnings.W101, self._misaligned, what="argument(s)")
        if self._several_labels:
            warn_of(Warnings.W106, self._several_labels)
        negative = self.cfg["negative_label"]
        if self.labels and negative is not None and negative not in labels:
            warn(Warnings.W111.format(name=name, negative=negative))
