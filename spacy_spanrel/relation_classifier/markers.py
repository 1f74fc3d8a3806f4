"""Sentences in which the two arguments of a pair are marked: rows of piece ids.

A sentence is split into pieces once. For each pair the ids of markers are spliced in at its arguments.
Markers are never text, only ids, so no text can be mistaken for one.

The input modes (names and forms of the first four as in SpanBERT's `run_tacred`, Joshi et al. 2020;
`typed_markers` after Zhou and Chen 2021), for a person S and a city O::

    text           [CLS] SUBJ_START S SUBJ_END lives in OBJ_START O OBJ_END . [SEP]
    ner            [CLS] SUBJ=PERSON lives in OBJ=CITY . [SEP]
    text_ner       [CLS] SUBJ_START S SUBJ_END ... . [SEP] SUBJ=PERSON [SEP] OBJ=CITY [SEP]
    ner_text       [CLS] SUBJ=PERSON lives in OBJ=CITY . [SEP] S [SEP] O [SEP]
    typed_markers  [CLS] SUBJ_START=PERSON S SUBJ_END=PERSON lives in OBJ_START=CITY O ... [SEP]
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from ..arrays import IntArray
from ..settings import Rule

Mode = Literal["ner", "text", "text_ner", "ner_text", "typed_markers"]
MODES: tuple[Mode, ...] = get_args(Mode)

HEAD, TAIL = "SUBJ", "OBJ"

# The kinds of markers that a mode needs; `{}` stands for HEAD or TAIL.
_UNTYPED: dict[Mode, tuple[str, ...]] = {
    "ner": (),
    "text": ("{}_START", "{}_END"),
    "text_ner": ("{}_START", "{}_END"),
    "ner_text": (),
    "typed_markers": (),
}
_TYPED: dict[Mode, tuple[str, ...]] = {
    "ner": ("{}={}",),
    "text": (),
    "text_ner": ("{}={}",),
    "ner_text": ("{}={}",),
    "typed_markers": ("{}_START={}", "{}_END={}"),
}
# Modes in which a marker stands in the place of each argument.
_REPLACES = ("ner", "ner_text")

_NAME = re.compile(r"(SUBJ|OBJ)(_START|_END|_START=.+|_END=.+|=.+)", re.DOTALL)


def _is_marker_table(rows: Any) -> bool:
    if isinstance(rows, dict) or any(isinstance(row, str) or len(row) != 2 for row in rows):
        return False
    names, entries = [row[0] for row in rows], [row[1] for row in rows]
    return (
        all(_NAME.fullmatch(name) for name in names)
        and len(set(names)) == len(names)
        and len(set(entries)) == len(entries)
    )


# Which vocabulary entries stand for markers.
MARKER_TABLE = Rule(
    "rows [[marker, vocabulary entry], ...], each only once; markers are called like "
    "'SUBJ_START', 'OBJ=CITY' or 'OBJ_END=CITY'",
    _is_marker_table,
)


class Range(NamedTuple):
    """A range of pieces of one text, end exclusive; empty for an argument without pieces."""

    start: int
    end: int


class MarkedRow(NamedTuple):
    """The row of a pair.

    places (int64 array, (length,)): For a piece of the text, its position in the text; for a special
        token or a marker, ``-1 - id``.
    head, tail (int): Positions in the row of the first marker of each argument.
    cut (bool): Whether the row leaves out some of the context.
    """

    places: IntArray
    head: int
    tail: int
    cut: bool

    def ids(self, text_ids: IntArray) -> IntArray:
        """Return the piece ids of the row.

        text_ids (int64 array, (n_pieces,)): The piece ids of the text.
        RETURNS (int64 array, (length,)): Those of the row.
        """
        in_text = self.places >= 0
        ids: IntArray = -1 - self.places
        ids[in_text] = text_ids[self.places[in_text]]
        return ids

    def casing(self, text_casing: IntArray) -> IntArray:
        """Return the letter case of the pieces of the row.

        text_casing (int64 array, (n_pieces,)): The letter case of the pieces of the text.
        RETURNS (int64 array, (length,)): That of the row; 0 for special tokens and markers.
        """
        in_text = self.places >= 0
        casing = np.zeros(len(self.places), dtype=np.int64)
        casing[in_text] = text_casing[self.places[in_text]]
        return casing


def uses_types(mode: Mode) -> bool:
    """Tell whether the markers of a mode depend on the types of the arguments.

    mode (str): The input mode.
    RETURNS (bool): Whether they do.
    """
    return bool(_TYPED[mode])


def marker_names(mode: Mode, head_types: Iterable[str], tail_types: Iterable[str]) -> list[str]:
    """Return the names of the markers that a mode needs, in an order that depends on no other order.

    mode (str): The input mode.
    head_types, tail_types (Iterable[str]): Types of the arguments.
    RETURNS (list[str]): For example ``["SUBJ_START", "SUBJ_END", "OBJ_START", "OBJ_END"]``.
    """
    names = [form.format(role) for role in (HEAD, TAIL) for form in _UNTYPED[mode]]
    for role, types in ((HEAD, head_types), (TAIL, tail_types)):
        for label in sorted(set(types)):
            names += [form.format(role, label) for form in _TYPED[mode]]
    return names


def assign_markers(
    names: Sequence[str], vocabulary: Mapping[str, int], entries: Mapping[str, str]
) -> dict[str, int | None]:
    """Give each marker an entry of the vocabulary.

    names (Sequence[str]): The markers.
    vocabulary (Mapping[str, int]): The id of each entry of the tokenizer's vocabulary.
    entries (Mapping[str, str]): The entries of markers that have one already.
    RETURNS (dict[str, int | None]): The id of each marker, those of `entries` first. The others get the
        free `[unusedN]` entries in ascending order, and None when these are used up.
    RAISES (KeyError): If one of `entries` is not in the vocabulary.
    """
    table: dict[str, int | None] = {name: vocabulary[entry] for name, entry in entries.items()}
    taken = set(table.values())
    free = iter([i for i in _unused(vocabulary) if i not in taken])
    for name in names:
        if name not in table:
            table[name] = next(free, None)
    return table


def _unused(vocabulary: Mapping[str, int]) -> list[int]:
    """Return the ids of the entries [unused1], [unused2], ... of a vocabulary."""
    ids = []
    number = 0
    # BERT's vocabularies count from 0 or from 1.
    while number < 2 or f"[unused{number}]" in vocabulary:
        if f"[unused{number}]" in vocabulary and number:
            ids.append(vocabulary[f"[unused{number}]"])
        number += 1
    return ids


@dataclass(frozen=True)
class Marker:
    """Maker of rows in which the arguments of a pair are marked.

    mode (str): The input mode.
    table (Mapping[str, int]): The id of each marker.
    prefix, suffix (Sequence[int]): Ids of the special tokens before and after a text; `suffix` also
        follows each segment that a mode appends.
    max_length (int): Largest number of pieces in a row.
    """

    mode: Mode
    table: Mapping[str, int]
    prefix: Sequence[int]
    suffix: Sequence[int]
    max_length: int

    def knows(self, head_type: str, tail_type: str) -> bool:
        """Tell whether there are markers for the types of head and tail."""
        return all(name in self.table for name in marker_names(self.mode, [head_type], [tail_type]))

    @property
    def least_length(self) -> int:
        """Number of pieces in the shortest row of a pair whose arguments have one piece each."""
        special = len(self.prefix) + len(self.suffix)
        markers = len(marker_names(self.mode, [""], [""]))
        # Two segments follow the sentence, each with the special tokens that end it.
        appended = 2 * len(self.suffix) if self.mode in ("text_ner", "ner_text") else 0
        return special + markers + appended + (0 if self.mode == "ner" else 2)

    def mark(
        self, context: Range, head: Range, tail: Range, head_type: str, tail_type: str
    ) -> MarkedRow | None:
        """Make the row of a pair.

        A context that is too long is cut: the pieces that are farthest from the arguments are left out,
        on both sides and, only if the arguments are too far apart for the row, between them. Arguments
        are never cut: if they alone are too long, there is no row.

        context (Range): The pieces that may be read, such as those of the sentence.
        head, tail (Range): The pieces of the arguments, within `context`. Arguments may be adjacent,
            nested or overlapping.
        head_type, tail_type (str): Types for which there are markers.
        RETURNS (MarkedRow | None): The row, of at most `max_length` pieces; None if there is none.
        """
        # The argument that begins first, or holds the other, is the outer one.
        swapped = (tail.start, -tail.end) < (head.start, -head.end)
        outer, inner = (tail, head) if swapped else (head, tail)
        roles = [(HEAD, head_type), (TAIL, tail_type)]
        outer_marks, inner_marks = (
            self._inline(*role) for role in (reversed(roles) if swapped else roles)
        )
        disjoint = inner.start >= outer.end
        appended = self._appended(head, tail, head_type, tail_type)
        room = self.max_length - len(self.prefix) - len(self.suffix) - len(appended)
        room -= sum(map(len, (*outer_marks, *inner_marks)))
        end = max(outer.end, inner.end)
        if self.mode in _REPLACES:
            first, last = [*outer_marks[0]], [*inner_marks[0]]
            if not disjoint:
                first, last = first + last, []
            outer_at, inner_at = 0, 0 if disjoint else len(outer_marks[0])
        else:
            (outer_start, outer_end), (inner_start, inner_end) = outer_marks, inner_marks
            if disjoint:
                first = [*outer_start, *range(*outer), *outer_end]
                last = [*inner_start, *range(*inner), *inner_end]
                outer_at, inner_at = 0, 0
            else:
                first = [*outer_start, *range(outer.start, inner.start)]
                outer_at, inner_at = 0, len(first)
                first += inner_start
                if inner.end <= outer.end:
                    first += [*range(*inner), *inner_end, *range(inner.end, outer.end), *outer_end]
                else:
                    first += [*range(inner.start, outer.end), *outer_end]
                    first += [*range(outer.end, inner.end), *inner_end]
                last = []
            room -= sum(place >= 0 for place in (*first, *last))
        if room < 0:
            return None
        gap = Range(outer.end, inner.start) if disjoint else Range(end, end)
        present = (outer.start - context.start, gap.end - gap.start, context.end - end)
        left, between, right = _share_room(room, *present)
        parts: list[Sequence[int]] = [
            [-1 - i for i in self.prefix],
            range(outer.start - left, outer.start),
            first,
            range(gap.start, gap.start + between[0]),
            range(gap.end - between[1], gap.end),
            last,
            range(end, end + right),
            [-1 - i for i in self.suffix],
            appended,
        ]
        starts = np.cumsum([0, *map(len, parts)])
        places = np.fromiter((p for part in parts for p in part), np.int64, int(starts[-1]))
        positions = [int(starts[2]) + outer_at, int(starts[5 if disjoint else 2]) + inner_at]
        if swapped:
            positions.reverse()
        cut = left + sum(between) + right < sum(present)
        return MarkedRow(places, positions[0], positions[1], cut)

    def _inline(self, role: str, label: str) -> tuple[list[int], ...]:
        """Return the markers before and after an argument, or in its place, as places of a row."""
        forms = _TYPED if self.mode in ("typed_markers", *_REPLACES) else _UNTYPED
        return tuple([-1 - self.table[form.format(role, label)]] for form in forms[self.mode])

    def _appended(self, head: Range, tail: Range, head_type: str, tail_type: str) -> list[int]:
        """Return the segments that follow the sentence, as places of a row."""
        segments: list[Sequence[int]] = []
        if self.mode == "text_ner":
            for role, label in ((HEAD, head_type), (TAIL, tail_type)):
                segments.append([-1 - self.table[f"{role}={label}"]])
        elif self.mode == "ner_text":
            segments = [range(*head), range(*tail)]
        between = [-1 - i for i in self.suffix]
        return [place for segment in segments for place in (*segment, *between)]


def _share_room(room: int, left: int, gap: int, right: int) -> tuple[int, tuple[int, int], int]:
    """Divide the room of a row among the text before, between and after two arguments.

    room (int): Number of pieces that may be kept.
    left, gap, right (int): Numbers of pieces before, between and after the arguments.
    RETURNS (tuple[int, tuple[int, int], int]): Numbers of pieces that are kept: before the first
        argument; directly after it and directly before the second one; after the second one.
    """
    if gap <= room:
        room -= gap
        kept_left = min(left, max(room // 2, room - right))
        return kept_left, (gap, 0), min(right, room - kept_left)
    # Each side gets at most a quarter: the text between the arguments says more about their relation.
    kept_left, kept_right = min(left, room // 4), min(right, room // 4)
    room -= kept_left + kept_right
    return kept_left, (room - room // 2, room // 2), kept_right
