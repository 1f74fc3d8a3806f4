"""Scores, single outcomes and confusion matrices of a pipeline, and a report of them."""

from .confusion import Confusion, cells_of, confuse
from .evaluate import (
    ComponentEvaluation,
    Evaluation,
    configured_inputs,
    evaluate_examples,
    our_components,
)
from .outcomes import (
    Annotation,
    AnswerScore,
    Mention,
    Outcome,
    Source,
    add_up,
    answer_outcomes,
    pair_outcomes,
    relation_outcomes,
)
from .reliability import Reliability, reliability
from .report import render_report
from .tables import Table, component_tables, other_scores

__all__ = [
    "Annotation",
    "AnswerScore",
    "ComponentEvaluation",
    "Confusion",
    "Evaluation",
    "Mention",
    "Outcome",
    "Reliability",
    "Source",
    "Table",
    "add_up",
    "answer_outcomes",
    "cells_of",
    "component_tables",
    "configured_inputs",
    "confuse",
    "evaluate_examples",
    "other_scores",
    "our_components",
    "pair_outcomes",
    "relation_outcomes",
    "reliability",
    "render_report",
]
