"""Questions and windows of a text as rows of piece ids. Arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import BoolArray, IntArray
from ..encoding.pieces import PairTemplate
from ..errors import Errors

# No tokenizer puts more special tokens around a pair of texts than RoBERTa does.
MOST_SPECIAL = 4


def check_window_settings(
    max_length: int, doc_stride: int, max_question_length: int, special: int = MOST_SPECIAL
) -> None:
    """Refuse settings with which some of a text would be read by no window.

    max_length (int): Pieces in a row.
    doc_stride (int): Pieces from the start of a window to the start of the next one.
    max_question_length (int): Longest question in pieces.
    special (int): Special tokens in a row.
    RAISES (ValueError): If a window has no room, or moves on further than it reads.
    """
    capacity = max_length - max_question_length - special
    if capacity < 1 or not 1 <= doc_stride <= capacity or max_question_length < 1:
        raise ValueError(
            Errors.E801.format(
                max_length=max_length,
                doc_stride=doc_stride,
                max_question_length=max_question_length,
                special=special,
                capacity=capacity,
            )
        )


@dataclass(frozen=True)
class Windows:
    """The windows of one text for a question.

    starts, lengths (int64 arrays, (n_windows,)): Pieces of the text in each.
    owner (int64 array, (n_pieces,)): The window that gives each piece most context.
    """

    starts: IntArray
    lengths: IntArray
    owner: IntArray

    def owned(self, window: int) -> BoolArray:
        """Tell which pieces of a window have most context there, (length,)."""
        start = self.starts[window]
        part: BoolArray = self.owner[start : start + self.lengths[window]] == window
        return part


def place_windows(n_pieces: int, capacity: int, doc_stride: int) -> Windows:
    """Place windows over a text as BERT's `run_squad` does (Devlin et al. 2019).

    The context that a window gives a piece is its distance to the nearer border, plus a hundredth
    of the window's length; on a tie the earlier window wins.

    n_pieces (int): Length of the text.
    capacity (int): Pieces of the text that a row takes.
    doc_stride (int): Pieces from the start of a window to the start of the next one, at most
        `capacity`.
    RETURNS (Windows): At least one, also for an empty text; every piece is in at least one.
    """
    n_windows = 1 + max(0, -(-(n_pieces - capacity) // doc_stride))
    starts = np.arange(n_windows, dtype=np.int64) * doc_stride
    lengths = np.minimum(capacity, n_pieces - starts)
    owner = np.zeros(n_pieces, dtype=np.int64)
    best = np.full(n_pieces, -1.0)
    for window, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
        within = np.arange(length)
        context = np.minimum(within, length - 1 - within) + 0.01 * length
        part = slice(start, start + length)
        better = context > best[part]
        best[part][better] = context[better]
        owner[part][better] = window
    return Windows(starts, lengths, owner)


@dataclass(frozen=True)
class Row:
    """A question with a window of a text.

    ids, types (int64 arrays, (length,)): Piece ids and segment ids.
    casing (int64 array, (length,) | None): Letter case of the pieces.
    context (int): Column of the window's first piece.
    null (int): Column that stands for "no answer".
    start (int): The window's first piece in the text.
    owned (bool array, (window's length,)): Pieces that have most context in this window.
    """

    ids: IntArray
    types: IntArray
    casing: IntArray | None
    context: int
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
) -> list[Row]:
    """Make the rows of a question about a text.

    question, text (int64 arrays): Piece ids; the question fits `max_length` with room for a window
        of `doc_stride` pieces.
    template (PairTemplate): Special tokens around the two.
    max_length (int): Longest row.
    doc_stride (int): As in `place_windows`.
    casing (tuple[int64 array, int64 array] | None): Letter case of the pieces of both.
    RETURNS (list[Row]): One a window.
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
        part = slice(start, start + length)
        letters = None
        if casing is not None:
            letters = np.zeros(len(head) + length + len(suffix), dtype=np.int64)
            at = len(template.prefix)
            letters[at : at + len(question)] = casing[0]
            letters[len(head) : len(head) + length] = casing[1][part]
        ids = np.concatenate([head, text[part], suffix])
        types = np.concatenate(
            [head_types, np.full(length, template.second_type, dtype=np.int64), suffix_types]
        )
        null = 0 if template.prefix else len(ids) - 1
        rows.append(Row(ids, types, letters, len(head), null, start, windows.owned(window)))
    return rows


def pieces_of_range(chars: IntArray, start: int, end: int) -> tuple[int, int] | None:
    """Find the pieces that cover a range of characters.

    chars (int64 array, (n_pieces, 2)): Character ranges of the pieces, in order.
    start, end (int): The range, end exclusive.
    RETURNS (tuple[int, int] | None): First and last piece (inclusive), None if no piece has any of
        these characters.
    """
    solid = chars[:, 0] < chars[:, 1]
    touching = np.flatnonzero(solid & (chars[:, 0] < end) & (chars[:, 1] > start))
    return (int(touching[0]), int(touching[-1])) if len(touching) else None
