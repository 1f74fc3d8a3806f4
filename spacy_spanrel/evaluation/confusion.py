"""Confusion matrices: gold labels against predicted labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .outcomes import Kind, Outcome

# Gold and predicted label; None for no annotation ("no relation").
Cell = tuple[str | None, str | None]


@dataclass(frozen=True)
class Confusion:
    """Counts of gold and predicted labels on the same spans.

    Every gold annotation counts in one row and every predicted one in one column, so a row adds up to
    the gold annotations with its label, and a column to the predicted ones.

    kind ("entity" | "relation" | "answer"): The kind of annotation.
    none (str): Name for no annotation, such as "no relation".
    labels (tuple[str, ...]): All labels, sorted.
    cells (Counter): Counts by (gold label, predicted label), None for no annotation.
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
        """Return the name of a row or column."""
        return self.none if label is None else label or "(no label)"

    def matrix(self) -> list[list[int | None]]:
        """Return the counts: a row for each gold label, a column for each predicted one, as in `axis`.

        The last cell (no annotation in both) is None if it cannot be counted.
        """
        rows: list[list[int | None]] = [
            [self.cells[gold, predicted] for predicted in self.axis] for gold in self.axis
        ]
        if not self.knows_negatives:
            rows[-1][-1] = None
        return rows

    def top(self, n: int | None = None) -> list[tuple[Cell, int]]:
        """Return the most frequent confusions, including missed and spurious annotations.

        n (int | None): Number of confusions; None for all.
        RETURNS (list[tuple[tuple[str | None, str | None], int]]): Cells and counts, most frequent
            first, ties by label.
        """
        wrong = [(cell, count) for cell, count in self.cells.items() if cell[0] != cell[1]]
        wrong.sort(key=lambda row: (-row[1], *(self.name(label) for label in row[0])))
        return wrong[:n]

    def to_dict(self) -> dict[str, Any]:
        """Return the matrix as plain data; the label None (null) stands for no annotation."""
        return {"labels": list(self.axis), "matrix": self.matrix()}


def cells_of(outcome: Outcome) -> list[Cell]:
    """Return the cells of the matrix in which an outcome counts.

    outcome (Outcome): The outcome.
    RETURNS (list[tuple[str | None, str | None]]): One cell; two if gold and prediction have
        different spans.
    """
    gold = None if outcome.gold is None else outcome.gold.label
    predicted = None if outcome.predicted is None else outcome.predicted.label
    if outcome.kind != "answer" and outcome.status == "wrong boundaries":
        return [(gold, None), (None, predicted)]
    return [(gold, predicted)]


def confuse(
    outcomes: Iterable[Outcome], kind: Kind, none: str, negatives: int | None = None
) -> Confusion:
    """Count gold and predicted labels.

    outcomes (Iterable[Outcome]): Outcomes of one component.
    kind ("entity" | "relation" | "answer"): The kind of outcomes to count.
    none (str): Name for no annotation.
    negatives (int | None): Number of pairs with a relation neither in gold nor in the prediction,
        which are no outcomes; None if it is unknown.
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
