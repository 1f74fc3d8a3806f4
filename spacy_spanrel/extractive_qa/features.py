"""Rows of piece ids, each of a question and a window of a text. Arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import BoolArray, IntArray
from ..encoding.pieces import PairTemplate
from ..errors import Errors

# Special tokens around a pair of texts: no tokenizer has more than RoBERTa's.
MOST_SPECIAL = 4


def check_window_settings(max_length: int, doc_stride: int, max_question_length: int) -> None:
    """Refuse settings with which no window would read some part of a text.

    max_length (int): Pieces in a row.
    doc_stride (int): Pieces from the start of a window to the start of the next one.
    max_question_length (int): Length of the longest question, in pieces.
    RAISES (ValueError): If a row has no room for a window, or a window is shorter than `doc_stride`.
    """
    capacity = max_length - max_question_length - MOST_SPECIAL
    if capacity < 1 or not 1 <= doc_stride <= capacity or max_question_length < 1:
        raise ValueError(
            Errors.E801.format(
                max_length=max_length,
                doc_stride=doc_stride,
                max_question_length=max_question_length,
                special=MOST_SPECIAL,
                capacity=capacity,
            )
        )


@dataclass(frozen=True)
class Windows:
    """The windows of a text.

    starts, lengths (int64 arrays, (n_windows,)): First piece and number of pieces of each window.
    owner (int64 array, (n_pieces,)): The window in which each piece has the most context.
    """

    starts: IntArray
    lengths: IntArray
    owner: IntArray

    def owned(self, window: int) -> BoolArray:
        """Tell which pieces of a window have the most context there, ``(length,)``."""
        start = self.starts[window]
        owned: BoolArray = self.owner[start : start + self.lengths[window]] == window
        return owned


def place_windows(n_pieces: int, capacity: int, doc_stride: int) -> Windows:
    """Divide a text into overlapping windows like BERT's `run_squad` (Devlin et al. 2019).

    The context of a piece in a window is its distance to the nearer end of the window, plus a hundredth
    of the window's length. Of windows with the same context, the first owns the piece.

    n_pieces (int): Length of the text.
    capacity (int): Pieces of the text that fit into a row.
    doc_stride (int): Pieces from the start of a window to the start of the next one, at most
        `capacity`.
    RETURNS (Windows): At least one window, also for an empty text; together they hold every piece.
    """
    n_windows = 1 + max(0, -(-(n_pieces - capacity) // doc_stride))
    starts = np.arange(n_windows, dtype=np.int64) * doc_stride
    lengths = np.minimum(capacity, n_pieces - starts)
    owner = np.zeros(n_pieces, dtype=np.int64)
    best = np.full(n_pieces, -1.0)
    for window, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
        position = np.arange(length)
        context = np.minimum(position, length - 1 - position) + 0.01 * length
        pieces = slice(start, start + length)
        is_better = context > best[pieces]
        best[pieces][is_better] = context[is_better]
        owner[pieces][is_better] = window
    return Windows(starts, lengths, owner)


@dataclass(frozen=True)
class WindowRow:
    """A question and a window of a text.

    ids, types (int64 arrays, (length,)): Piece ids and segment ids.
    casing (int64 array, (length,) | None): Letter case of the pieces.
    offset (int): Column of the first piece of the window.
    null (int): Column of the null position, which stands for "no answer".
    start (int): Number of the first piece of the window in the text.
    owned (bool array, (n_window_pieces,)): The pieces that have the most context in this window.
    """

    ids: IntArray
    types: IntArray
    casing: IntArray | None
    offset: int
    null: int
    start: int
    owned: BoolArray


def make_rows(
    question: IntArray,
    text: IntArray,
    template: PairTemplate,
    max_length: int,
    doc_stride: int,
    casing: tuple[IntArray, IntArray] | None = None,
) -> list[WindowRow]:
    """Make the rows of a question about a text.

    question, text (int64 arrays): Piece ids of both. Beside the question a row has room for a window.
    template (PairTemplate): The special tokens around the question and the window.
    max_length (int): Length of the longest row.
    doc_stride (int): As in `place_windows`; a window that is shorter moves by its own length.
    casing (tuple[int64 array, int64 array] | None): Letter case of the pieces of both.
    RETURNS (list[WindowRow]): One row for each window.
    """
    head = np.concatenate([template.prefix, question, template.middle]).astype(np.int64)
    head_types = np.concatenate(
        [
            template.prefix_types,
            np.full(len(question), template.first_type),
            template.middle_types,
        ]
    ).astype(np.int64)
    suffix = np.asarray(template.suffix, dtype=np.int64)
    suffix_types = np.asarray(template.suffix_types, dtype=np.int64)
    capacity = max_length - len(head) - len(suffix)
    windows = place_windows(len(text), capacity, min(doc_stride, capacity))
    rows = []
    for window, (start, length) in enumerate(
        zip(windows.starts.tolist(), windows.lengths.tolist(), strict=True)
    ):
        pieces = slice(start, start + length)
        letters = None
        if casing is not None:
            letters = np.zeros(len(head) + length + len(suffix), dtype=np.int64)
            first = len(template.prefix)
            letters[first : first + len(question)] = casing[0]
            letters[len(head) : len(head) + length] = casing[1][pieces]
        ids = np.concatenate([head, text[pieces], suffix])
        types = np.concatenate(
            [head_types, np.full(length, template.second_type, dtype=np.int64), suffix_types]
        )
        null = 0 if template.prefix else len(ids) - 1
        rows.append(WindowRow(ids, types, letters, len(head), null, start, windows.owned(window)))
    return rows


def pieces_of_range(chars: IntArray, start: int, end: int) -> tuple[int, int] | None:
    """Find the pieces that cover a range of characters.

    chars (int64 array, (n_pieces, 2)): The character ranges of the pieces, in order.
    start, end (int): The range, end exclusive.
    RETURNS (tuple[int, int] | None): First and last piece (inclusive); None if no piece covers any of
        these characters.
    """
    has_chars = chars[:, 0] < chars[:, 1]
    touching = np.flatnonzero(has_chars & (chars[:, 0] < end) & (chars[:, 1] > start))
    return (int(touching[0]), int(touching[-1])) if len(touching) else None
