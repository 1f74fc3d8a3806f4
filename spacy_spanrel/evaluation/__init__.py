"""Scores, single outcomes and confusion matrices of a pipeline, a report of them, and settings chosen by
them."""

from .calibration import MIN_PREDICTIONS, Calibration, ComponentCalibration, tune_temperatures
from .confusion import Confusion, cells_of, confuse
from .evaluate import (
    ComponentEvaluation,
    Evaluation,
    configured_inputs,
    evaluate_examples,
    given_inputs,
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
from .thresholds import (
    MIN_EXAMPLES,
    NULL_THRESHOLD,
    NullThreshold,
    RelationThreshold,
    tune_null_threshold,
    tune_threshold,
)

__all__ = [
    "MIN_EXAMPLES",
    "MIN_PREDICTIONS",
    "NULL_THRESHOLD",
    "Annotation",
    "AnswerScore",
    "Calibration",
    "ComponentCalibration",
    "ComponentEvaluation",
    "Confusion",
    "Evaluation",
    "Mention",
    "NullThreshold",
    "Outcome",
    "RelationThreshold",
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
    "given_inputs",
    "other_scores",
    "our_components",
    "pair_outcomes",
    "relation_outcomes",
    "reliability",
    "render_report",
    "tune_null_threshold",
    "tune_temperatures",
    "tune_threshold",
]
