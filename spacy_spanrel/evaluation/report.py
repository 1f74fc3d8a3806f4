"""An evaluation as one HTML file: scores, confusions, and every outcome in its sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ..about import __version__
from ..markup import render_template
from .confusion import Cell, Confusion, cells_of
from .evaluate import PLURALS, ComponentEvaluation, Evaluation
from .outcomes import STATUSES, Kind, Mention, Outcome
from .reliability import Reliability
from .tables import component_tables, other_scores

MAX_ROWS = 5000
# Longer contexts are cut down to this many characters on either side of each mention.
_LONGEST_CONTEXT = 600
_AROUND = 160

# Name by which the rows are sorted (none for text, which is not), and heading.
_COLUMNS = (
    ("status", "Status"),
    ("kind", "Kind"),
    ("gold", "Gold"),
    ("predicted", "Predicted"),
    ("score", "Score"),
    ("", "Sentence"),
    ("doc", "Doc"),
)
_TITLES: dict[Kind, str] = {
    "entity": "entity types",
    "relation": "relation labels",
    "answer": "answers",
}
_ROLES = ("head", "tail")
# CSS class and meaning of the marked parts of a sentence.
_RUNS = {"b": "gold and predicted", "g": "gold only", "p": "predicted only"}
_RUN_STYLES = {(True, True): "b", (True, False): "g", (False, True): "p", (False, False): ""}

# Names of the confusion cells in links, by component and kind.
_CellNames = dict[tuple[str, Kind, Cell], str]


@dataclass(frozen=True)
class _HeatCell:
    """A count in a confusion matrix, 0 for an empty cell."""

    count: int
    share: float  # of its row, from 0 to 1; the cell's colour
    diagonal: bool  # whether gold and prediction agree
    link: str  # the name by which the rows of the outcomes refer to it; "" if none do
    title: str  # the two labels in words


@dataclass(frozen=True)
class _HeatTable:
    """A confusion matrix: its title, the labels of both axes, and rows of cells."""

    title: str
    names: list[str]
    rows: list[list[_HeatCell]]


@dataclass(frozen=True)
class _Column:
    """A bin of a reliability diagram; all numbers from 0 to 1."""

    x: float  # its lowest score
    width: float
    correct: float  # share of right predictions: the height of its bar
    score: float  # mean score of its predictions: the height of the bar if scores were right
    share: float  # number of predictions, by that of the fullest bin
    title: str


@dataclass(frozen=True)
class _Diagram:
    """A reliability diagram: its title, and a column for each bin that holds a prediction."""

    title: str
    columns: list[_Column]


@dataclass(frozen=True)
class _Run:
    """Characters of a sentence that belong to the same mentions."""

    text: str
    style: str = ""  # a key of _RUNS, "" outside of all mentions
    roles: tuple[str, ...] = ()  # "head" or "tail" if that argument ends here


def render_report(evaluation: Evaluation, *, max_rows: int = MAX_ROWS) -> str:
    """Write an evaluation as a page that needs no other file, well-formed as HTML and as XML.

    evaluation (Evaluation): The evaluation.
    max_rows (int): Most outcomes that get a row. If there are more, mistakes are kept before correct
        ones, earlier Docs before later ones, and the page says how many were left out.
    RETURNS (str): The page.
    """
    names: _CellNames = {}
    for component in evaluation.components:
        for kind, confusion in component.confusions.items():
            for cell in confusion.cells:
                names[component.name, kind, cell] = f"c{len(names)}"
    rows = [
        (component, outcome)
        for component in evaluation.components
        for outcome in component.outcomes
    ]
    chosen = choose_rows([outcome for _, outcome in rows], max_rows)
    # Rows are in the order of the corpus, in whatever order they were chosen.
    shown = [rows[i] for i in sorted(chosen, key=lambda i: (rows[i][1].source.number, i))]
    n_left_out = len(rows) - len(shown)
    counts = Counter(outcome.status for _, outcome in shown)
    return render_template(
        "evaluation",
        "report.html.j2",
        title=f"Evaluation of {evaluation.model} on {evaluation.corpus}",
        version=__version__,
        evaluation=evaluation,
        others=other_scores(evaluation).rows,
        components=[
            {
                "name": component.name,
                "tables": component_tables(component),
                "heat_tables": [
                    _heat_table(component, c, names) for c in component.confusions.values()
                ],
                "diagrams": [
                    _diagram(kind, each) for kind, each in component.reliabilities().items()
                ],
            }
            for component in evaluation.components
        ],
        left_out=left_out_text(n_left_out, len(rows)) if n_left_out else "",
        runs=list(_RUNS.items()),
        words_of=_RUNS,
        columns=_COLUMNS,
        statuses=[(status, counts[status]) for status in STATUSES if counts[status]],
        choices=_choices(evaluation, shown),
        rows=[_row(component, outcome, names) for component, outcome in shown],
    )


def choose_rows(outcomes: Sequence[Outcome], max_rows: int) -> list[int]:
    """Choose the outcomes to show: mistakes first, then in the order of the corpus.

    outcomes (Sequence[Outcome]): All outcomes.
    max_rows (int): How many to choose at most.
    RETURNS (list[int]): Indices of the chosen ones.
    """

    def rank(i: int) -> tuple[bool, int]:
        return (outcomes[i].status == "correct", outcomes[i].source.number)

    return sorted(range(len(outcomes)), key=rank)[:max_rows]


def left_out_text(left_out: int, total: int) -> str:
    """Return a sentence that says how many rows are missing."""
    return (
        f"{left_out} of {total} rows were left out, correct ones first. Tables and scores count all "
        "of them. Raise --max-rows to see more."
    )


def _heat_table(
    component: ComponentEvaluation, confusion: Confusion, names: _CellNames
) -> _HeatTable:
    rows = []
    for gold, counts in zip(confusion.axis, confusion.matrix(), strict=True):
        # Pairs without a relation in gold and prediction are no outcomes, so they have no rows to
        # link to; and they are so many that they would hide all other shares of their row.
        negative = gold is None and confusion.kind != "answer"
        total = sum(count or 0 for count in (counts[:-1] if negative else counts))
        cells = []
        for predicted, count in zip(confusion.axis, counts, strict=True):
            plain = not count or (negative and predicted is None)
            title = f"gold {confusion.name(gold)}, predicted {confusion.name(predicted)}"
            cells.append(
                _HeatCell(
                    count=count or 0,
                    share=0.0 if plain else (count or 0) / total,
                    diagonal=gold == predicted,
                    link="" if plain else names[component.name, confusion.kind, (gold, predicted)],
                    title=title,
                )
            )
        rows.append(cells)
    axis_names = [confusion.name(label) for label in confusion.axis]
    return _HeatTable(_TITLES[confusion.kind], axis_names, rows)


def _diagram(kind: Kind, reliability: Reliability) -> _Diagram:
    most = max(each.n for each in reliability.bins)
    columns = [
        _Column(
            x=each.low,
            width=each.high - each.low,
            correct=each.correct,
            score=each.score,
            share=each.n / most,
            title=f"{each.n} predictions with scores from {each.low:.2f} to {each.high:.2f}: mean "
            f"score {each.score:.2f}, {each.correct:.0%} correct",
        )
        for each in reliability.bins
    ]
    title = f"Reliability of the scores of {PLURALS[kind]}: ECE {reliability.error:.1%}"
    return _Diagram(title, columns)


def _choices(
    evaluation: Evaluation, rows: Sequence[tuple[ComponentEvaluation, Outcome]]
) -> list[tuple[str, list[str]]]:
    """Return names and values by which the rows can be filtered."""
    labels = {
        annotation.label
        for _, outcome in rows
        for annotation in (outcome.gold, outcome.predicted)
        if annotation is not None
    }
    return [
        ("kind", list(dict.fromkeys(outcome.kind for _, outcome in rows))),
        ("component", [component.name for component in evaluation.components]),
        ("label", sorted(labels)),
    ]


def _row(component: ComponentEvaluation, outcome: Outcome, names: _CellNames) -> dict[str, Any]:
    """Return what the template needs of an outcome."""
    cells = [names[component.name, outcome.kind, cell] for cell in cells_of(outcome)]
    return {
        "outcome": outcome,
        "component": component.name,
        "nothing": component.confusions[outcome.kind].none,
        "references": dict.fromkeys(outcome.answer.references) if outcome.answer else (),
        "context": _context(outcome),
        # The values by which the page's script sorts and filters.
        "data": {
            "status": outcome.status,
            "rank": STATUSES.index(outcome.status),
            "kind": outcome.kind,
            "component": component.name,
            "gold": "" if outcome.gold is None else outcome.gold.label,
            "predicted": "" if outcome.predicted is None else outcome.predicted.label,
            "score": "" if outcome.score is None else f"{outcome.score:.4f}",
            "doc": outcome.source.number,
            "cells": " ".join(cells),
        },
    }


def _context(outcome: Outcome) -> list[_Run]:
    """Return the outcome's sentence in runs; of a long one only the text around the mentions."""
    gold = outcome.gold.mentions if outcome.gold is not None else ()
    predicted = outcome.predicted.mentions if outcome.predicted is not None else ()
    text = outcome.source.text
    start, end = outcome.sentence
    end = start + len(text[start:end].rstrip())
    runs = []
    position = start
    for first, last in _excerpts(text, start, end, (*gold, *predicted)):
        if first > position:
            runs.append(_Run("\u2026 "))
        runs += _runs(outcome, gold, predicted, first, last)
        position = last
    if position < end:
        runs.append(_Run(" \u2026"))
    return runs


def _excerpts(
    text: str, start: int, end: int, mentions: Iterable[Mention]
) -> list[tuple[int, int]]:
    """Return ranges of characters to show: all, or those around the mentions, cut between words."""
    if end - start <= _LONGEST_CONTEXT:
        return [(start, end)]
    excerpts: list[tuple[int, int]] = []
    for first, last in sorted((m.start, m.end) for m in mentions) or [(start, start)]:
        low, high = max(start, first - _AROUND), min(end, last + _AROUND)
        if low > start:
            low += len(text[low:first]) - len(text[low:first].partition(" ")[2] or text[low:first])
        if high < end:
            high = last + len(text[last:high].rpartition(" ")[0] or text[last:high])
        if excerpts and low <= excerpts[-1][1]:
            excerpts[-1] = (excerpts[-1][0], max(high, excerpts[-1][1]))
        else:
            excerpts.append((low, high))
    return excerpts


def _runs(
    outcome: Outcome, gold: Sequence[Mention], predicted: Sequence[Mention], first: int, last: int
) -> list[_Run]:
    """Cut a range of the text where mentions begin and end."""
    borders = {first, last, *(place for m in (*gold, *predicted) for place in (m.start, m.end))}
    # Head and tail are named where they end, once if gold and prediction agree.
    role_ends = {
        (mention.end, role)
        for mentions in (gold, predicted)
        for mention, role in zip(mentions, _ROLES, strict=False)
        if outcome.kind == "relation"
    }
    runs = []
    for start, end in pairwise(sorted(place for place in borders if first <= place <= last)):
        in_gold, in_predicted = (
            any(m.start <= start and end <= m.end for m in mentions)
            for mentions in (gold, predicted)
        )
        runs.append(
            _Run(
                outcome.source.text[start:end],
                _RUN_STYLES[in_gold, in_predicted],
                tuple(role for role in _ROLES if (end, role) in role_ends),
            )
        )
    return runs
