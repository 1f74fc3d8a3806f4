"""The best answers, from the logits of windows. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..arrays import BoolArray, DoubleArray, FloatArray, IntArray


@dataclass(frozen=True)
class WindowLogits:
    """The logits of one window.

    start (int): Number of the window's first piece in the text.
    starts, ends (float arrays, (length,)): Logits of each piece as the first and as the last of an
        answer.
    owned (bool array, (length,)): The pieces that have more context in this window than in others.
    null (float): Start logit + end logit of "no answer".
    """

    start: int
    starts: FloatArray
    ends: FloatArray
    owned: BoolArray
    null: float


@dataclass(frozen=True)
class Candidates:
    """The best answers to a question in a text.

    spans (int64 array, (n, 2)): First and last piece (inclusive) of each, best first.
    logits (float64 array, (n,)): Start logit + end logit of each.
    null_score (float): Start logit + end logit of "no answer", the lowest of all windows.
    """

    spans: IntArray
    logits: DoubleArray
    null_score: float


def best_candidates(
    windows: Sequence[WindowLogits], usable: BoolArray, n_best: int, max_answer_length: int
) -> Candidates:
    """Find the best answers in all windows of a text.

    As in BERT's `run_squad` (Devlin et al. 2019), an answer begins with a piece that its window owns
    and ends in the same window, its score is the sum of its two logits, and the null score is the
    lowest of all windows. Unlike there, all spans are compared, not only those between the 20 best
    starts and ends: however high the logits of special tokens and of the question are, they displace
    no answer.

    windows (Sequence[WindowLogits]): The windows, at least one.
    usable (bool array, (n_pieces, 2)): The pieces of the text with which an answer may begin (first
        column) and end (second column).
    n_best (int): Number of answers that are wanted.
    max_answer_length (int): Length of the longest answer, in pieces.
    RETURNS (Candidates): At most `n_best` different answers; of equal ones the first, then the
        shortest comes first.
    """
    spans: list[IntArray] = []
    logits: list[FloatArray] = []
    for window in windows:
        length = len(window.starts)
        if not length:
            continue
        pieces = slice(window.start, window.start + length)
        starts = np.where(window.owned & usable[pieces, 0], window.starts, -np.inf)
        ends = np.where(usable[pieces, 1], window.ends, -np.inf)
        # Row i, column j: the span of j + 1 pieces that begins with piece i of the window.
        longest = min(max_answer_length, length)
        padded = np.concatenate([ends, np.full(longest - 1, -np.inf)])
        scores = (starts[:, None] + sliding_window_view(padded, longest)).ravel()
        is_best = np.isfinite(scores)
        if scores.size > n_best:
            # Everything that is as good as the last one, so that ties are broken below.
            is_best &= scores >= np.partition(scores, scores.size - n_best)[scores.size - n_best]
        best = np.flatnonzero(is_best)
        first, extra = np.divmod(best, longest)
        spans.append(np.stack([first, first + extra], axis=1) + window.start)
        logits.append(scores[best])
    null_score = min(float(window.null) for window in windows)
    if not spans:
        return Candidates(np.zeros((0, 2), dtype=np.int64), np.zeros(0), null_score)
    all_spans, all_logits = np.concatenate(spans), np.concatenate(logits).astype(np.float64)
    order = np.lexsort((all_spans[:, 1], all_spans[:, 0], -all_logits))[:n_best]
    return Candidates(all_spans[order].astype(np.int64), all_logits[order], null_score)


def probabilities(
    logits: DoubleArray, null_score: float | None, temperature: float = 1.0
) -> DoubleArray:
    """Turn the logits of candidates and the null score into probabilities (softmax).

    logits (float64 array, (n,)): The logits of the candidates.
    null_score (float | None): The null score; None if there must be an answer.
    temperature (float): Number by which logits and null score are divided.
    RETURNS (float64 array, (n + 1,)): Probabilities that add up to 1. The last one is that of "no
        answer": 0 if there must be an answer, 1 if there is no candidate.
    """
    if null_score is None:
        null_score = -np.inf if len(logits) else 0.0
    scores = np.append(logits, null_score) / temperature
    weights = np.exp(scores - scores.max())
    normalized: DoubleArray = weights / weights.sum()
    return normalized
