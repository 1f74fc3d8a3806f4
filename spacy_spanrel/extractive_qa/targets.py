"""Targets of training: where the gold answers are in the rows of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from spacy.training import Example

from ..annotations import Answer
from ..annotations.answers import plausible_answers
from ..arrays import BoolArray, IntArray
from ..encoding.alignment import project_chars
from ..encoding.pieces import TextPieces
from .features import pieces_of_range
from .model import QARows


@dataclass(frozen=True)
class GoldPlace:
    """Where the answer to a gold question is in the pieces of a text.

    answer (Answer): The gold answer.
    pieces (tuple[int, int] | None): First and last piece (inclusive) of the answer or, where there is
        none, of a plausible one; None if there is neither, or if no piece covers it.
    """

    answer: Answer
    pieces: tuple[int, int] | None

    @property
    def is_unreachable(self) -> bool:
        """Whether there is an answer, but no piece covers it, so that it cannot be learned."""
        return bool(self.answer) and self.pieces is None


@dataclass(frozen=True)
class Targets:
    """What is learned from the rows of a batch.

    rows (int64 array, (n,)): The rows that are learned from.
    ends (int64 array, (n, 2)): Columns of the first and the last piece of the answer; twice the column
        of the null position where the row does not hold the whole answer.
    plausible (int64 array, (n, 2)): Likewise for a plausible answer to a question that has none; -1
        where there is no such answer.
    text (bool array, (n, longest)): The columns that hold pieces of the text.
    """

    rows: IntArray
    ends: IntArray
    plausible: IntArray
    text: BoolArray


def find_gold(
    examples: Sequence[Example], gold: Sequence[Sequence[Answer]], texts: Sequence[TextPieces]
) -> list[GoldPlace]:
    """Find the gold answers of a batch in the pieces of the predicted Docs.

    examples (Sequence[Example]): The batch.
    gold (Sequence[Sequence[Answer]]): The gold answers that are learned, for each Example.
    texts (Sequence[TextPieces]): The pieces of each predicted Doc.
    RETURNS (list[GoldPlace]): The places of all answers in order.
    """
    places = []
    for example, answers, text in zip(examples, gold, texts, strict=True):
        source, target = example.reference.text, example.predicted.text
        for answer in answers:
            wanted = answer or next(iter(plausible_answers(answer)), None)
            pieces = None
            if wanted:
                start, end = project_chars(source, target, wanted.start_char, wanted.end_char)
                pieces = pieces_of_range(text.chars, start, end)
            places.append(GoldPlace(answer, pieces))
    return places


def make_targets(rows: QARows, places: Sequence[GoldPlace]) -> Targets:
    """Make the targets of the rows of a batch.

    A window that does not hold the whole answer has none: its target is the null position, as in
    BERT's `run_squad` (Devlin et al. 2019). Questions whose answers are unreachable are left out.

    rows (QARows): The rows.
    places (Sequence[GoldPlace]): The gold answers to the questions of the rows.
    RETURNS (Targets): The targets.
    """
    learned = [i for i, n in enumerate(rows.question.tolist()) if not places[n].is_unreachable]
    longest = max((len(row.ids) for row in rows.rows), default=0)
    ends = np.zeros((len(learned), 2), dtype=np.int64)
    plausible = np.full((len(learned), 2), -1, dtype=np.int64)
    text = np.zeros((len(learned), longest), dtype=bool)
    for i, number in enumerate(learned):
        row, place = rows.rows[number], places[int(rows.question[number])]
        text[i, row.offset : row.offset + len(row.owned)] = True
        ends[i] = row.null
        if place.pieces is not None:
            first, last = (piece - row.start for piece in place.pieces)
            if first >= 0 and last < len(row.owned):
                (ends if place.answer else plausible)[i] = (row.offset + first, row.offset + last)
    return Targets(np.asarray(learned, dtype=np.int64), ends, plausible, text)
