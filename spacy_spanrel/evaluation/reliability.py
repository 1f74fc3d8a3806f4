"""Whether the scores of predictions tell how many of them are right."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..scoring.calibration import ScoreBin, calibration_error, score_bins
from .outcomes import Kind, Outcome


@dataclass(frozen=True)
class Reliability:
    """Scores of predictions beside the share of right ones.

    n (int): Number of predictions that have a score.
    score, correct (float): Mean of their scores, and the share of them that is right.
    error, equal_mass_error (float): Expected calibration error, as in
        `scoring.calibration.calibration_error`, with bins of equal width and of equal mass.
    bins (tuple[ScoreBin, ...]): The bins of equal width that hold a prediction.
    """

    n: int
    score: float
    correct: float
    error: float
    equal_mass_error: float
    bins: tuple[ScoreBin, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "predictions": self.n,
            "score": self.score,
            "correct": self.correct,
            "ece": self.error,
            "ece_equal_mass": self.equal_mass_error,
            "bins": [asdict(each) for each in self.bins],
        }


def reliability(outcomes: Iterable[Outcome], kind: Kind) -> Reliability | None:
    """Compare the scores of predictions with how often they are right.

    A prediction is right if its outcome is "correct": label, spans and argument types of a relation of
    `span_relation`, label and spans of one of `relation_classifier`, an exact match of an answer. "No
    answer" is a prediction too, "no relation" is none.

    outcomes (Iterable[Outcome]): The outcomes of a component.
    kind ("entity" | "relation" | "answer"): The kind of annotation.
    RETURNS (Reliability | None): The comparison; None if no prediction of the kind has a score.
    """
    rows = [
        (outcome.score, outcome.status == "correct")
        for outcome in outcomes
        if outcome.kind == kind and outcome.score is not None
    ]
    if not rows:
        return None
    # Scores of other programs may lie outside.
    scores = np.clip(np.asarray([score for score, _ in rows], dtype=np.float64), 0.0, 1.0)
    correct = np.asarray([is_right for _, is_right in rows], dtype=bool)
    return Reliability(
        len(rows),
        float(scores.mean()),
        float(correct.mean()),
        calibration_error(scores, correct) or 0.0,
        calibration_error(scores, correct, equal_mass=True) or 0.0,
        tuple(score_bins(scores, correct)),
    )
