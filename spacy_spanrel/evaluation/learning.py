"""Learning curves: the scores of pipelines that were trained on more and more of the data, and what they
promise.

Errors fall with the data by a power law, error = a * n ** -b, as long as there is something to learn
(Hestness et al. 2017, "Deep learning scaling is predictable, empirically"; for annotated texts, Figueroa
et al. 2012, "Predicting sample size required for classification performance"). In logarithms that is a
straight line. It is fitted to the measured points, and read off at twice the data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any

import numpy as np

from ..about import __version__
from ..markup import render_template

# Gain in points of doubling the data, from which on more annotation is said to pay.
PAYS = 1.0
# The drawing, in pixels: its size, and the margins of the axes.
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 720, 380, 56, 24, 16, 46


@dataclass(frozen=True)
class LearningPoint:
    """A pipeline that was trained on part of the data.

    percent (float): The part of the training Docs.
    docs, relations (int): The Docs that it was trained on, and their relations.
    draw (int): The number of the random order of the Docs, from 0.
    score (float): Its score on the development Docs, in percent: the one by which `spacy train` chooses.
    scores (dict[str, Any]): All its scores, as in the `meta.json` of the pipeline.
    """

    percent: float
    docs: int
    relations: int
    draw: int
    score: float
    scores: dict[str, Any]


@dataclass(frozen=True)
class LearningCurve:
    """Points, and what follows from them.

    points (tuple[LearningPoint, ...]): The points, from the least data on.
    score_name (str): What the score is, in words.
    """

    points: tuple[LearningPoint, ...]
    score_name: str

    @property
    def means(self) -> list[tuple[int, float]]:
        """The number of Docs and the mean score over the draws, from the least data on."""
        sizes = sorted({point.docs for point in self.points})
        return [(n, mean(p.score for p in self.points if p.docs == n)) for n in sizes]

    def predict(self, n: float) -> float | None:
        """Return the score that the power law gives for a number of Docs, in percent; None if there are
        less than two sizes, or scores do not rise."""
        points = [(docs, 100 - score) for docs, score in self.means if score < 100]
        if len(points) < 2:
            return None
        x, y = np.log(np.asarray(points, dtype=np.float64)).T
        slope, intercept = np.polyfit(x, y, 1)
        if slope > -1e-6:  # flat but for rounding
            return None
        return float(100 - math.exp(intercept + slope * math.log(n)))

    @property
    def doubling(self) -> float | None:
        """The gain in points that the power law gives for twice the data; None if it gives nothing."""
        largest = self.means[-1][0]
        now, then = self.predict(largest), self.predict(2 * largest)
        return None if now is None or then is None else then - now

    @property
    def verdict(self) -> str:
        """A sentence for people: whether more annotation will pay."""
        largest = self.means[-1][0]
        if len(self.means) < 2:
            return "One share of the data says nothing about more data."
        if not any(score for _, score in self.means):
            return (
                "Nothing was learned: all scores are 0. Train for more steps, and see whether `debug-data` "
                "finds a fault in the data."
            )
        if self.doubling is None:
            return (
                "The score does not rise with the data. More data of this kind will hardly help; look at "
                "the annotation and the settings first."
            )
        text = (
            f"With {2 * largest} Docs in place of {largest}, expect {self.doubling:+.1f} points. "
        )
        if self.doubling >= PAYS:
            return text + "More annotation will pay."
        return text + "More annotation will hardly pay."

    def to_dict(self) -> dict[str, Any]:
        """Return the curve as JSON data."""
        return {
            "score": self.score_name,
            "points": [asdict(point) for point in self.points],
            "gain_of_doubling": self.doubling,
            "verdict": self.verdict,
            "version": __version__,
        }


def render_curve(curve: LearningCurve) -> str:
    """Draw a learning curve: a page that needs no other file, well-formed as HTML and as XML.

    curve (LearningCurve): The curve.
    RETURNS (str): The page.
    """
    means = curve.means
    largest = means[-1][0]
    grid = np.geomspace(means[0][0], 2 * largest, 40).tolist() if curve.doubling is not None else []
    fitted = [(n, score) for n in grid if (score := curve.predict(n)) is not None]
    scores = [score for _, score in (*means, *fitted)] + [point.score for point in curve.points]
    low, high = _borders(scores)
    x = _Axis(math.log(means[0][0]), math.log(2 * largest), _LEFT, _WIDTH - _RIGHT)
    y = _Axis(low, high, _HEIGHT - _BOTTOM, _TOP)

    def path(points: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{x(math.log(n)):.1f},{y(score):.1f}" for n, score in points)

    step = (high - low) / 5
    return render_template(
        "evaluation",
        "learning.html.j2",
        title="Learning curve",
        curve=curve,
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        right=_WIDTH - _RIGHT,
        bottom=_HEIGHT - _BOTTOM,
        rows=[(y(low + i * step), f"{low + i * step:.0f}") for i in range(6)],
        columns=[(x(math.log(n)), str(n)) for n in [*(n for n, _ in means), 2 * largest]],
        measured=path(means),
        fitted=path(fitted),
        dots=[(x(math.log(p.docs)), y(p.score), p) for p in curve.points],
        version=__version__,
    )


@dataclass(frozen=True)
class _Axis:
    """Values to pixels."""

    low: float
    high: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return self.first + share * (self.last - self.first)


def _borders(scores: Sequence[float]) -> tuple[float, float]:
    """Return the lowest and the highest score of the drawing: multiples of 5, some apart."""
    low, high = math.floor(min(scores) / 5) * 5, math.ceil(max(scores) / 5) * 5
    return float(low), float(max(high, low + 5))
