"""From logits to the best answers. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..arrays import BoolArray, DoubleArray, FloatArray, IntArray


@dataclass(frozen=True)
class WindowLogits:
    """What the network says of one window.

    start (int): The window's first piece in the text.
    starts, ends (float arrays, (length,)): Logits of its pieces as first and last of an answer.
    owned (bool array, (length,)): Pieces that have most context in this window.
    null (float): Start logit + end logit of "no answer".
    """

    start: int
    starts: FloatArray
    ends: FloatArray
    owned: BoolArray
    null: float


@dataclass(frozen=True)
class Candidates:
    """The best spans of a text for a question.

    spans (int64 array, (n, 2)): First and last piece, inclusive, best first.
    logits (float64 array, (n,)): Start logit + end logit.
    null_score (float): The least over all windows.
    """

    spans: IntArray
    logits: DoubleArray
    null_score: float


def best_candidates(
    windows: Sequence[WindowLogits],
    solid: BoolArray,
    n_best: int,
    max_answer_length: int,
) -> Candidates:
    """Find the best spans over all windows of a text.

    As in BERT's `run_squad` a span begins at a piece that has most context in its window, ends in
    the same window, and scores the sum of its two logits; the null score is the least of all
    windows. All spans are compared, not only those of the 20 best starts and ends: special tokens
    and the question are never among them, however high their logits.

    windows (Sequence[WindowLogits]): At least one.
    solid (bool array, (n_pieces,) or (n_pieces, 2)): Pieces of the text with which an answer may
        begin and end; or those with which it may begin, and those with which it may end.
    n_best (int): How many spans are wanted.
    max_answer_length (int): Longest answer in pieces.
    RETURNS (Candidates): At most `n_best` different spans; ties go to the earlier, shorter one.
    """
    begins, finishes = (solid, solid) if solid.ndim == 1 else (solid[:, 0], solid[:, 1])
    spans: list[IntArray] = []
    logits: list[FloatArray] = []
    for window in windows:
        length = len(window.starts)
        if not length:
            continue
        part = slice(window.start, window.start + length)
        starts = np.where(window.owned & begins[part], window.starts, -np.inf)
        ends = np.where(finishes[part], window.ends, -np.inf)
        padding = np.full(max_answer_length - 1, -np.inf)
        scores = starts[:, None] + sliding_window_view(
            np.concatenate([ends, padding]), max_answer_length
        )
        flat = scores.ravel()
        if flat.size > n_best:
            # Everything as good as the last one taken, so that ties are broken below, not here.
            limit = np.partition(flat, flat.size - n_best)[flat.size - n_best]
            taken = np.flatnonzero((flat >= limit) & np.isfinite(flat))
        else:
            taken = np.flatnonzero(np.isfinite(flat))
        first, extra = np.divmod(taken, max_answer_length)
        spans.append(np.stack([first, first + extra], axis=1) + window.start)
        logits.append(flat[taken])
    null_score = min(float(window.null) for window in windows)
    if not spans:
        return Candidates(np.zeros((0, 2), dtype=np.int64), np.zeros(0), null_score)
    every, scored = np.concatenate(spans), np.concatenate(logits).astype(np.float64)
    order = np.lexsort((every[:, 1], every[:, 0], -scored))[:n_best]
    return Candidates(every[order].astype(np.int64), scored[order], null_score)


def probabilities(logits: DoubleArray, null_score: float | None) -> DoubleArray:
    """Normalize the scores of candidates, and of "no answer", once.

    logits (float64 array, (n,)): Of the candidates.
    null_score (float | None): Of "no answer"; None if that is no option.
    RETURNS (float64 array, (n + 1,)): They add up to 1; the last one is "no answer", 0 if it is no
        option. With no candidate at all it is 1.
    """
    last = -np.inf if null_score is None and len(logits) else (null_score or 0.0)
    every = np.append(logits, last)
    weights = np.exp(every - every.max())
    normalized: DoubleArray = weights / weights.sum()
    return normalized
