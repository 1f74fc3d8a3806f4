"""The tables of an evaluation, for terminal and report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..scoring.counts import Counts
from ..scoring.entities import NAME as ENTITY_RELATIONS
from .evaluate import PLURALS, ComponentEvaluation, Evaluation
from .outcomes import KINDS, STATUSES

TOP_CONFUSIONS = 10
# Titles of the scores.
VIEWS = {
    "ents": "Entities",
    "rel": "Relations",
    "rel_strict": "Relations with entity types",
    ENTITY_RELATIONS: "Relations between entities",
}
# The same relations as in "rel", by a stricter rule: a column in their table.
_STRICT = "rel_strict"
# Prefixes of the scores of answers, and the questions that they are about.
_QUESTIONS = {
    "qa_": "All questions",
    "qa_has_ans_": "With an answer",
    "qa_no_ans_": "Without an answer",
}


@dataclass(frozen=True)
class Table:
    """A table.

    title (str): Its title.
    header (tuple[str, ...]): A name for each column.
    rows (Sequence[tuple[str, ...]]): The cells.
    names (int): Number of columns with text, at the left; the others hold numbers.
    """

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    names: int = 1

    @property
    def aligns(self) -> tuple[str, ...]:
        """The alignment of each column: "l" or "r"."""
        return ("l",) * self.names + ("r",) * (len(self.header) - self.names)


def component_tables(component: ComponentEvaluation) -> list[Table]:
    """Return tables of a component's scores, overall and for each label, and of its mistakes.

    component (ComponentEvaluation): The component.
    RETURNS (list[Table]): The tables that have rows.
    """
    totals = component.totals()
    tables = [_score_table(component.scores, totals)]
    tables += [_label_table(component, name) for name in totals if name != _STRICT]
    tables += [
        _answer_table(component.scores),
        _calibration_table(component),
        _status_table(component),
        _confusion_table(component),
    ]
    return [table for table in tables if table.rows]


def other_scores(evaluation: Evaluation) -> Table:
    """Return a table of all other scores: tokenization, other packages' components, speed.

    evaluation (Evaluation): The evaluation.
    RETURNS (Table): A row for each score that is a number.
    """
    ours = {name for component in evaluation.components for name in component.scores}
    rows = [
        (name, f"{value:.0f} words/s" if name == "speed" else percent(value))
        for name, value in evaluation.scores.items()
        if name not in ours and isinstance(value, (int, float))
    ]
    return Table("Other scores of the pipeline", ("", "score"), rows)


def percent(value: float | None) -> str:
    """Return a score from 0 to 1 as `spacy evaluate` prints it; "-" for None."""
    return "-" if value is None else f"{value * 100:.2f}"


def _calibration_table(component: ComponentEvaluation) -> Table:
    """Return how far scores are from the share of right predictions."""
    rows = [
        (
            PLURALS[kind],
            str(each.n),
            *map(percent, (each.score, each.correct, each.error, each.equal_mass_error)),
        )
        for kind, each in component.reliabilities().items()
    ]
    header = ("", "predicted", "score", "correct", "ECE", "ECE (equal mass)")
    return Table("Calibration of scores", header, rows)


def _score_table(scores: Mapping[str, Any], totals: Mapping[str, Counts]) -> Table:
    rows = [
        (
            VIEWS[name],
            *(percent(scores.get(f"{name}_{x}")) for x in ("p", "r", "f", "macro_f")),
            *(str(number) for number in (total.tp, total.fp, total.fn)),
        )
        for name, total in totals.items()
    ]
    if "rel_semeval_macro_f" in scores:
        rows += [
            (
                "Relations, both directions of a label together",
                *row[1:4],
                percent(scores["rel_semeval_macro_f"]),
                *row[5:],
            )
            for row in rows
            if row[0] == VIEWS["rel"]
        ]
    return Table("Scores", ("", "P", "R", "F", "macro F", "TP", "FP", "FN"), rows)


def _label_table(component: ComponentEvaluation, name: str) -> Table:
    gold: Counter[str] = Counter()
    predicted: Counter[str] = Counter()
    for outcome in component.outcomes:
        counts = outcome.counts.get(name, Counts())
        if outcome.gold is not None:
            gold[outcome.gold.label] += counts.tp + counts.fn
        if outcome.predicted is not None:
            predicted[outcome.predicted.label] += counts.tp + counts.fp
    if name == ENTITY_RELATIONS and component.entity_relations is not None:
        for label, counts in component.entity_relations.per_label.items():
            gold[label], predicted[label] = counts.tp + counts.fn, counts.tp + counts.fp
    per_type = component.scores.get(f"{name}_per_type") or {}
    strict = (component.scores.get(f"{_STRICT}_per_type") or {}) if name == "rel" else {}
    rows = [
        (
            label or "(no label)",
            *(percent(scores[x]) for x in "prf"),
            *([percent(strict[label]["f"])] if strict else []),
            str(gold[label]),
            str(predicted[label]),
        )
        for label, scores in per_type.items()
    ]
    header = ("", "P", "R", "F", *(["F with types"] if strict else []), "gold", "predicted")
    return Table(f"{VIEWS[name]}, by label", header, rows)


def _answer_table(scores: Mapping[str, Any]) -> Table:
    rows = [
        (
            text,
            str(scores[f"{name}total"]),
            percent(scores.get(f"{name}exact")),
            percent(scores.get(f"{name}f1")),
        )
        for name, text in _QUESTIONS.items()
        if scores.get(f"{name}total")
    ]
    if scores.get("qa_best_f1") is not None:
        best = (percent(scores["qa_best_exact"]), percent(scores["qa_best_f1"]))
        rows.append(("All, with the best null threshold", str(scores["qa_total"]), *best))
    return Table("Answers", ("", "questions", "exact", "F1"), rows)


def _status_table(component: ComponentEvaluation) -> Table:
    kinds = [kind for kind in KINDS if kind in component.confusions]
    counts = {kind: component.count(kind) for kind in kinds}
    rows = [
        (status, *(str(counts[kind].get(status, 0)) for kind in kinds))
        for status in STATUSES
        if any(status in counts[kind] for kind in kinds)
    ]
    return Table("Outcomes", ("", *(PLURALS[kind] for kind in kinds)), rows)


def _confusion_table(component: ComponentEvaluation) -> Table:
    confusions = [
        (count, confusion.name(gold), confusion.name(predicted), PLURALS[kind])
        for kind, confusion in component.confusions.items()
        for (gold, predicted), count in confusion.top(TOP_CONFUSIONS)
    ]
    confusions.sort(key=lambda row: -row[0])
    rows = [
        (gold, predicted, kind, str(count))
        for count, gold, predicted, kind in confusions[:TOP_CONFUSIONS]
    ]
    return Table("Most frequent confusions", ("gold", "predicted", "of", "count"), rows, 3)
