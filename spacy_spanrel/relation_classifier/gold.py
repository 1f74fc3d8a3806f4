"""What Examples say about pairs, in tokens of their predicted Docs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import cast

from spacy.tokens import Span
from spacy.training import Example

from ..annotations import get_relations
from ..encoding.alignment import SpanProjector
from ..errors import Warnings, warn_of
from ..pairing import check_gold_label
from .pairs import PairKey, SpanPair


@dataclass
class GoldPair:
    """A pair of the gold annotation, as spans of the predicted Doc."""

    pair: SpanPair
    label: str
    more_labels: list[str] = field(default_factory=list)


# Of one Example, by their token ranges.
GoldPairs = dict[PairKey, GoldPair]


def read_gold(example: Example, relations_key: str) -> tuple[GoldPairs, list[str]]:
    """Read the gold pairs of an Example in tokens of its predicted Doc.

    example (Example): Its reference Doc has the relations.
    relations_key (str): Where they are.
    RETURNS (tuple[GoldPairs, list[str]]): The pairs, and the arguments that do not fall on whole
        tokens.
    """
    doc = example.predicted
    project = SpanProjector(example.reference, doc)
    found: GoldPairs = {}
    misaligned: list[str] = []
    for relation in get_relations(example.reference, relations_key):
        arguments = (relation.head, relation.tail)
        places = [project(span) for span in arguments]
        misaligned += [
            f"{span.text!r} ({span.label_})"
            for span, place in zip(arguments, places, strict=True)
            if place is None
        ]
        if places[0] is None or places[1] is None:
            continue
        key = (*places[0], *places[1])
        if key in found:
            if relation.label != found[key].label:
                found[key].more_labels.append(relation.label)
            continue
        head, tail = (
            Span(doc, *place, label=span.label)
            for span, place in zip(arguments, cast(list[tuple[int, int]], places), strict=True)
        )
        found[key] = GoldPair((head, tail), relation.label)
    return found, misaligned


class Survey:
    """What the training data holds."""

    def __init__(self) -> None:
        self.labels: Counter[str] = Counter()
        self.example_of: dict[str, str] = {}
        self.head_types: set[str] = set()
        self.tail_types: set[str] = set()
        self.type_pairs: set[tuple[str, str, str]] = set()
        self.misaligned: list[str] = []
        self.several: list[str] = []

    def add(self, gold: GoldPairs, misaligned: list[str]) -> None:
        self.misaligned += misaligned
        for found in gold.values():
            head, tail = found.pair
            for label in (found.label, *found.more_labels):
                self.labels[label] += 1
                self.example_of.setdefault(label, head.doc.text)
                self.type_pairs.add((label, head.label_, tail.label_))
            self.head_types.add(head.label_)
            self.tail_types.add(tail.label_)
            if found.more_labels:
                names = ", ".join([found.label, *found.more_labels])
                self.several.append(f"{head.text} / {tail.text}: {names}")

    def check_labels(self, name: str, known: list[str]) -> None:
        """Refuse data with labels that are not among the component's."""
        for label in self.labels:
            check_gold_label(name, "a relation", label, known, self.example_of[label])

    def warn(self) -> None:
        if self.misaligned:
            warn_of(Warnings.W101, self.misaligned, what="argument(s)")
        if self.several:
            warn_of(Warnings.W106, self.several)
