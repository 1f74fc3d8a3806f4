"""The layout of a picture of relations: positions of words, spans and arcs.

x grows in the direction of the text from its first character on; the picture mirrors it for text that
runs to the left. Every word has the width that `em_width` estimates, and is drawn with that width.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from .text import (
    END_ISOLATE,
    ISOLATE,
    NARROW,
    breaks_line,
    direction_of,
    em_width,
    one_line,
    shorten,
)

FONT, SMALL = 16.0, 11.0  # font sizes of words and labels, in px
SPACE = NARROW * FONT
PAD = 4.0  # between a span's words and its box
END_GAP = 12.0  # between the ends of arcs at one span
CORNER = 7.0
LABEL_PAD = 5.0
MAX_LABEL = 40 * NARROW  # in em
MAX_NAME = 24 * NARROW  # in em


Role = Literal["head", "tail"]


@dataclass(frozen=True)
class Word:
    """A token, and whether a space follows."""

    text: str
    space: bool = True


@dataclass(frozen=True)
class Mark:
    """A labelled span of words. It is not drawn if it lies outside of the text.

    start, end (int): Indices of words, end exclusive.
    label (str): Its label as drawn; "" for none.
    name (str): Its text, for arcs from other rows.
    """

    start: int
    end: int
    label: str = ""
    name: str = ""


@dataclass(frozen=True)
class Link:
    """A relation between two marks, given by their indices."""

    head: int
    tail: int
    label: str


@dataclass(frozen=True)
class PlacedWord:
    """A word in a row: its index, its text as drawn, its x and width."""

    index: int
    text: str
    x: float
    width: float


@dataclass(frozen=True)
class PlacedMark:
    """The part of a mark in a row.

    index (int): Index of the mark.
    boxes (tuple): Ranges of x; several if text of the other direction separates its words. The first
        holds the label.
    slot (int): Level of its label below the words, 0 for the nearest.
    """

    index: int
    boxes: tuple[tuple[float, float], ...]
    slot: int = 0


@dataclass(frozen=True)
class PlacedArc:
    """An arc, or the part of it at head or tail if the other end is in another row.

    index (int): Index of the link.
    part ("whole" | "head" | "tail"): The part of the arc.
    start, end (float): x of both ends. The line of a part begins at the span and ends at `end`.
    text (str): Its label as drawn.
    middle, width (float): Centre and width of the label.
    level (int): Level above the words, 0 for the nearest.
    """

    index: int
    part: Literal["whole", "head", "tail"]
    start: float
    end: float
    text: str
    middle: float
    width: float
    level: int = 0

    @property
    def lo(self) -> float:
        """The least x of line and label."""
        return min(self.start, self.end, self.middle - self.width / 2)

    @property
    def hi(self) -> float:
        """The greatest x of line and label."""
        return max(self.start, self.end, self.middle + self.width / 2)


@dataclass(frozen=True)
class Row:
    """A row of the picture."""

    words: tuple[PlacedWord, ...]
    marks: tuple[PlacedMark, ...]
    arcs: tuple[PlacedArc, ...]

    @property
    def levels(self) -> int:
        """Number of levels of arcs."""
        return max((arc.level + 1 for arc in self.arcs), default=0)

    @property
    def slots(self) -> int:
        """Number of levels of span labels."""
        return max((mark.slot + 1 for mark in self.marks), default=0)


@dataclass(frozen=True)
class Layout:
    """Rows from top to bottom, and the width of the widest."""

    rows: tuple[Row, ...]
    width: float


@dataclass
class _Cell:
    """A word with the space around it."""

    word: Word
    text: str
    width: float
    before: float = 0.0
    after: float = 0.0


def pack(intervals: Sequence[tuple[float, float]], gap: float = 0.0) -> list[int]:
    """Assign each interval the lowest level on which it overlaps no other.

    Shorter intervals are placed first. So an interval is always above those that it contains, because
    whatever keeps the inner one from a level keeps the outer one from it too.

    intervals (Sequence[tuple[float, float]]): The intervals.
    gap (float): Least distance between two intervals on a level.
    RETURNS (list[int]): The level of each interval, from 0.
    """
    levels: list[list[tuple[float, float]]] = []
    assigned = [0] * len(intervals)
    for i in sorted(range(len(intervals)), key=lambda i: (_length(intervals[i]), intervals[i], i)):
        lo, hi = intervals[i]
        for level, taken in enumerate(levels):  # noqa: B007
            if all(hi + gap <= a or b + gap <= lo for a, b in taken):
                break
        else:
            level = len(levels)
            levels.append([])
        levels[level].append((lo, hi))
        assigned[i] = level
    return assigned


def _length(interval: tuple[float, float]) -> float:
    return interval[1] - interval[0]


def lay_out(
    words: Sequence[Word],
    marks: Sequence[Mark],
    links: Sequence[Link],
    *,
    columns: int,
    rtl: bool = False,
) -> Layout:
    """Lay out words, spans and relations in rows.

    words (Sequence[Word]): The text.
    marks (Sequence[Mark]): Spans, which may overlap.
    links (Sequence[Link]): Relations between the spans.
    columns (int): Characters in a row. Longer words are shortened.
    rtl (bool): Whether the text runs to the left.
    RETURNS (Layout): The rows, with each word and each link exactly once.
    """
    limit = columns * SPACE
    cells = []
    for word in words:
        text = "" if breaks_line(word.text) else shorten(one_line(word.text), columns * NARROW)
        cells.append(_Cell(word, text, em_width(text) * FONT))
    pads = _make_room(cells, marks, links)
    rows = [
        _place_words(cells, start, end, marks, pads, rtl)
        for start, end in _break_rows(cells, marks, limit)
    ]
    rows = _place_arcs(rows, marks, links, limit)
    right = [
        *(word.x + word.width for row in rows for word in row.words),
        *(hi for row in rows for mark in row.marks for _, hi in mark.boxes),
        *(arc.hi for row in rows for arc in row.arcs),
    ]
    return Layout(tuple(rows), max(right, default=0.0))


def _make_room(
    cells: Sequence[_Cell], marks: Sequence[Mark], links: Sequence[Link]
) -> list[tuple[float, float]]:
    """Widen the cells so that labels and ends of arcs fit below and above their spans.

    RETURNS (list[tuple[float, float]]): For each mark, the distance by which its box extends beyond its
        first and its last word.
    """
    ends = [0] * len(marks)
    for link in links:
        ends[link.head] += 1
        ends[link.tail] += 1
    pads = [(0.0, 0.0)] * len(marks)
    for i in sorted(range(len(marks)), key=lambda i: marks[i].end - marks[i].start):
        mark = marks[i]
        if not _is_inside(mark, len(cells)):
            continue
        inside = cells[mark.start : mark.end]
        inside[0].before += PAD
        inside[-1].after += PAD
        natural = sum(cell.before + cell.width + cell.after for cell in inside)
        natural += SPACE * sum(cell.word.space for cell in inside[:-1])
        missing = max(label_width(mark.label), (ends[i] + 0.5) * END_GAP) - natural
        if missing > 0:
            inside[0].before += missing / 2
            inside[-1].after += missing / 2
        pads[i] = (inside[0].before, inside[-1].after)
    return pads


def _is_inside(mark: Mark, n: int) -> bool:
    return 0 <= mark.start < mark.end <= n


def label_width(text: str) -> float:
    """Return the width of a label with its padding; 0 for no label."""
    return em_width(text) * SMALL + 2 * LABEL_PAD if text else 0.0


def _break_rows(
    cells: Sequence[_Cell], marks: Sequence[Mark], limit: float
) -> Iterator[tuple[int, int]]:
    """Yield the range of words in each row.

    Rows are not broken within spans or between a word and its punctuation, unless these are wider than
    a row.
    """
    n = len(cells)
    joined = [False] * (n + 1)  # whether the word must not begin a row
    for mark in marks:
        if _is_inside(mark, n):
            for i in range(mark.start + 1, mark.end):
                joined[i] = True
    for i in range(1, n):
        before, after = cells[i - 1].text, cells[i].text
        if before and after:
            # In many corpora a space precedes punctuation; a whole token of it belongs to the word.
            close = [unicodedata.category(char) in ("Pe", "Pf", "Po") for char in after]
            apart = cells[i - 1].word.space
            joined[i] |= all(close) or (close[0] and not apart)
            joined[i] |= unicodedata.category(before[-1]) in ("Ps", "Pi") and not apart
    start, used = 0, 0.0
    i = 0
    while i < n:
        unit = i + 1
        while unit < n and joined[unit]:
            unit += 1
        if _row_width(cells[i:unit]) > limit:
            unit = i + 1
        width = _row_width(cells[i:unit])
        if i > start and used + width > limit:
            yield start, i
            start, used = i, 0.0
        used += width + SPACE * cells[unit - 1].word.space
        if any(breaks_line(cell.word.text) for cell in cells[i:unit]):
            yield start, unit
            start, used = unit, 0.0
        i = unit
    if start < n:
        yield start, n


def _row_width(cells: Sequence[_Cell]) -> float:
    widths = sum(cell.before + cell.width + cell.after for cell in cells)
    return widths + SPACE * sum(cell.word.space for cell in cells[:-1])


def visual_order(directions: Sequence[int]) -> list[int]:
    """Return the visual order of words, along the direction of the text.

    Successive words that run against the text are reversed, together with the words without direction
    between them. This is Unicode's bidirectional algorithm (UAX #9) for whole words.

    directions (Sequence[int]): 1 for words that run with the text, -1 against it, 0 for neither.
    RETURNS (list[int]): Indices of the words.
    """
    order = list(range(len(directions)))
    i = 0
    while i < len(order):
        if directions[i] >= 0:
            i += 1
            continue
        end = i + 1
        for j in range(i + 1, len(order)):
            if directions[j] > 0:
                break
            if directions[j] < 0:
                end = j + 1
        order[i:end] = order[i:end][::-1]
        i = end
    return order


def _is_turned(order: Sequence[int], place: int) -> bool:
    """Return whether the word at a position is one of several in reverse order."""
    return (place > 0 and order[place - 1] == order[place] + 1) or (
        place + 1 < len(order) and order[place + 1] == order[place] - 1
    )


def _place_words(
    cells: Sequence[_Cell],
    start: int,
    end: int,
    marks: Sequence[Mark],
    pads: Sequence[tuple[float, float]],
    rtl: bool,
) -> Row:
    sign = -1 if rtl else 1
    order = visual_order([sign * direction_of(cell.text) for cell in cells[start:end]])
    x = 0.0
    words: list[PlacedWord] = []
    for place, offset in enumerate(order):
        cell = cells[start + offset]
        if words:
            last = order[place - 1]
            neighbours = abs(last - offset) == 1
            x += SPACE * (cells[start + min(last, offset)].word.space or not neighbours)
        before, after = cell.before, cell.after
        if _is_turned(order, place):
            before, after = after, before
        words.append(PlacedWord(start + offset, cell.text, x + before, cell.width))
        x += before + cell.width + after
    placed = []
    for i, mark in enumerate(marks):
        if _is_inside(mark, len(cells)) and mark.start < end and start < mark.end:
            boxes = _boxes(words, mark, pads[i])
            # The widest box holds the label.
            boxes.sort(key=lambda box: -_length(box))
            placed.append(PlacedMark(i, tuple(boxes)))
    extents = [(min(b[0] for b in m.boxes), max(b[1] for b in m.boxes)) for m in placed]
    slots = pack(extents, gap=1.0)
    return Row(
        tuple(words),
        tuple(replace(mark, slot=slot) for mark, slot in zip(placed, slots, strict=True)),
        (),
    )


def _boxes(
    words: Sequence[PlacedWord], mark: Mark, pads: tuple[float, float]
) -> list[tuple[float, float]]:
    """Return the ranges of x that a mark's words occupy in a row; adjacent words are one range."""
    order = [word.index for word in words]
    boxes: list[tuple[float, float]] = []
    last = None
    for place, word in enumerate(words):
        if not mark.start <= word.index < mark.end:
            continue
        before = pads[0] if word.index == mark.start else PAD
        after = pads[1] if word.index == mark.end - 1 else PAD
        if _is_turned(order, place):
            before, after = after, before
        lo, hi = word.x - before, word.x + word.width + after
        if last is not None and place == last + 1:
            boxes[-1] = (boxes[-1][0], hi)
        else:
            boxes.append((lo, hi))
        last = place
    return boxes


@dataclass
class _End:
    """The end of an arc at a span."""

    link: int
    role: Role
    row: int
    box: tuple[float, float]  # of the span
    key: tuple[int, float, int]  # sorts the ends at the span; the direction of the arc comes first
    text: str = ""  # label of the arc if the other end is in another row
    x: float = 0.0


def _place_arcs(
    rows: Sequence[Row], marks: Sequence[Mark], links: Sequence[Link], limit: float
) -> list[Row]:
    where: dict[int, tuple[int, tuple[float, float]]] = {}  # first row of each mark, and its box
    for number, row in enumerate(rows):
        for mark in row.marks:
            where.setdefault(mark.index, (number, mark.boxes[0]))
    ends = _place_ends(where, marks, links, limit)
    arcs: list[list[PlacedArc]] = [[] for _ in rows]
    for i, link in enumerate(links):
        head, tail = ends.get((i, "head")), ends.get((i, "tail"))
        if head is not None and tail is not None and head.row == tail.row:
            arcs[head.row].append(_whole(i, link.label, head.x, tail.x))
            continue
        for end in (head, tail):
            if end is not None:
                arcs[end.row].append(_part(end))
    finished = []
    for row, row_arcs in zip(rows, arcs, strict=True):
        levels = pack([(arc.lo, arc.hi) for arc in row_arcs], gap=6.0)
        stacked = [replace(arc, level=level) for arc, level in zip(row_arcs, levels, strict=True)]
        finished.append(replace(row, arcs=tuple(_move_label(arc, stacked) for arc in stacked)))
    return finished


def _place_ends(
    where: dict[int, tuple[int, tuple[float, float]]],
    marks: Sequence[Mark],
    links: Sequence[Link],
    limit: float,
) -> dict[tuple[int, str], _End]:
    """Distribute the ends of arcs over their spans so that arcs do not cross without need.

    Arcs to the left end at the left of a span, the shortest outermost; arcs to the right end at the
    right likewise; loops are between them.
    """
    ends: dict[tuple[int, str], _End] = {}
    at: dict[int, list[_End]] = {}
    for i, link in enumerate(links):
        sides: tuple[tuple[Role, int, int], tuple[Role, int, int]] = (
            ("head", link.head, link.tail),
            ("tail", link.tail, link.head),
        )
        for role, mark, other in sides:
            if mark not in where:
                continue
            row, (lo, hi) = where[mark]
            x, text = (lo + hi) / 2, ""
            if other in where and where[other][0] == row:
                distance = sum(where[other][1]) / 2 - x
            else:
                text = _part_text(link.label, role, marks[other].name)
                distance = CORNER + label_width(text)
                forward = marks[other].start > marks[mark].start
                # If only the other side has room for the label, it goes there.
                fits = (x - distance >= 0, x + distance <= limit)
                if not fits[forward] and fits[not forward]:
                    forward = not forward
                distance *= 1 if forward else -1
            if distance == 0:
                key = (0, float(i), int(role == "tail"))
            elif distance < 0:
                key = (-1, -distance, -i)
            else:
                key = (1, -distance, i)
            end = ends[i, role] = _End(i, role, row, (lo, hi), key, text)
            at.setdefault(mark, []).append(end)
    for group in at.values():
        group.sort(key=lambda end: end.key)
        lo, hi = group[0].box
        step = min(END_GAP, (hi - lo - 2 * PAD) / max(len(group) - 1, 1))
        for k, end in enumerate(group):
            end.x = (lo + hi) / 2 + (k - (len(group) - 1) / 2) * step
    _part_ends(list(ends.values()))
    return ends


def _part_ends(ends: list[_End]) -> None:
    """Separate the ends at overlapping spans that have the same position."""
    taken: dict[int, list[float]] = {}
    for end in sorted(ends, key=lambda end: (end.row, end.x)):
        others = taken.setdefault(end.row, [])
        lo, hi = end.box[0] + PAD, end.box[1] - PAD
        for step in (0.0, 7.0, -7.0, 14.0, -14.0, 21.0, -21.0):
            x = end.x + step
            # An end never leaves its span; without room it keeps its position.
            if (step == 0 or lo <= x <= hi) and all(abs(x - other) >= 5.0 for other in others):
                end.x = x
                break
        others.append(end.x)


def _whole(index: int, label: str, head: float, tail: float) -> PlacedArc:
    text = shorten(one_line(label), MAX_LABEL)
    width = label_width(text)
    # The label must not leave the picture, even if the arc is near its edge.
    middle = max((head + tail) / 2, width / 2)
    return PlacedArc(index, "whole", head, tail, text, middle, width)


def _part_text(label: str, role: str, name: str) -> str:
    """Return the label of an arc to another row, with the text of the span there."""
    arrow = "\u2192" if role == "head" else "\u2190"
    # Text and label may have different directions.
    name = ISOLATE + shorten(one_line(name), MAX_NAME) + END_ISOLATE
    return f"{shorten(one_line(label), MAX_LABEL)} {arrow} {name}".strip()


def _part(end: _End) -> PlacedArc:
    sign = end.key[0]
    width = label_width(end.text)
    middle = end.x + sign * (CORNER + width / 2)
    x = end.x + sign * (CORNER + width)
    return PlacedArc(end.link, end.role, end.x, x, end.text, middle, width)


def _move_label(arc: PlacedArc, arcs: Sequence[PlacedArc]) -> PlacedArc:
    """Move the label of an arc off the lines of the others."""
    if arc.part != "whole":
        return arc
    half = arc.width / 2
    lo = min(arc.start, arc.end) + CORNER + half
    hi = max(arc.start, arc.end) - CORNER - half
    if lo >= hi:
        return arc
    lines = [
        x
        for other in arcs
        if other.level > arc.level
        for x in ((other.start, other.end) if other.part == "whole" else (other.start,))
    ]
    places = [arc.middle, *(x + side * (half + 4.0) for x in lines for side in (-1, 1))]
    free = [
        place
        for place in places
        if lo <= place <= hi and all(abs(place - x) >= half + 3.0 for x in lines)
    ]
    best = min(free, key=lambda place: abs(place - arc.middle), default=arc.middle)
    return replace(arc, middle=best)
