"""Which label was taken for which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .outcomes import Kind, Outcome

# Gold and predicted label; None stands for nothing ("no relation").
Cell = tuple[str | None, str | None]


@dataclass(frozen=True)
class Confusion:
    """How often which gold label met which predicted one at the same place.

    Each gold annotation is in one row and each predicted one in one column, so a row adds up to the
    gold annotations of its label, and a column to the predicted ones.

    kind ("entity" | "relation" | "answer"): Of what.
    none (str): How "nothing" is called.
    labels (tuple[str, ...]): All labels, in order.
    cells (Counter): Counts by (gold label, predicted label), None for nothing.
    knows_negatives (bool): Whether (None, None) can be counted.
    """

    kind: Kind
    none: str
    labels: tuple[str, ...]
    cells: Counter[Cell]
    knows_negatives: bool

    @property
    def axis(self) -> tuple[str | None, ...]:
        """Labels of rows and columns: all labels, then None."""
        return (*self.labels, None)

    def name(self, label: str | None) -> str:
        """Return what a row or column is called."""
        return self.none if label is None else label or "(no label)"

    def matrix(self) -> list[list[int | None]]:
        """Return the counts: a row a gold label, a column a predicted one, in the order of `axis`.

        The last cell, nothing in both, is None where it cannot be counted.
        """
        rows: list[list[int | None]] = [
            [self.cells[gold, predicted] for predicted in self.axis] for gold in self.axis
        ]
        if not self.knows_negatives:
            rows[-1][-1] = None
        return rows

    def top(self, n: int | None = None) -> list[tuple[Cell, int]]:
        """Return the most frequent confusions, nothing taken for something and the reverse included.

        n (int | None): How many; None for all.
        RETURNS (list[tuple[tuple[str | None, str | None], int]]): Most frequent first, ties by
            label.
        """
        wrong = [(cell, count) for cell, count in self.cells.items() if cell[0] != cell[1]]
        wrong.sort(key=lambda row: (-row[1], *(self.name(label) for label in row[0])))
        return wrong[:n]

    def to_dict(self) -> dict[str, Any]:
        """Return the matrix as plain data; the label None (null) stands for nothing."""
        return {"labels": list(self.axis), "matrix": self.matrix()}


def cells_of(outcome: Outcome) -> list[Cell]:
    """Return the cells of the matrix in which an outcome counts.

    outcome (Outcome): The outcome.
    RETURNS (list[tuple[str | None, str | None]]): One cell; two where gold and prediction are at
        different places.
    """
    gold = None if outcome.gold is None else outcome.gold.label
    predicted = None if outcome.predicted is None else outcome.predicted.label
    if outcome.kind != "answer" and outcome.status == "wrong boundaries":
        return [(gold, None), (None, predicted)]
    return [(gold, predicted)]


def confuse(
    outcomes: Iterable[Outcome], kind: Kind, none: str, negatives: int | None = None
) -> Confusion:
    """Count what was taken for what.

    outcomes (Iterable[Outcome]): Of one component.
    kind ("entity" | "relation" | "answer"): Which of them count.
    none (str): How "nothing" is called.
    negatives (int | None): Pairs with a relation neither in gold nor in the prediction, which no
        outcome tells of; None if their number is not known.
    RETURNS (Confusion): The counts.
    """
    cells: Counter[Cell] = Counter()
    for outcome in outcomes:
        if outcome.kind == kind:
            cells.update(cells_of(outcome))
    if negatives:
        cells[None, None] += negatives
    labels = sorted({label for cell in cells for label in cell if label is not None})
    knows = negatives is not None or kind == "answer"
    return Confusion(kind, none, tuple(labels), cells, knows)
