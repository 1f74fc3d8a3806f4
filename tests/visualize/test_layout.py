"""Positions of words, spans and arcs."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_spanrel.markup import clean
from spacy_spanrel.visualize.layout import (
    Layout,
    Link,
    Mark,
    Row,
    Word,
    lay_out,
    pack,
    visual_order,
)
from spacy_spanrel.visualize.text import (
    EMOJI,
    NARROW,
    SQUARE,
    direction_of,
    em_width,
    runs_left,
    shorten,
)

WORDS = ["a", "Oslo", "Google", ",", "\u05e9\u05dc\u05d5\u05dd", "\u6771\u4eac", "2024", "\n", " "]
# Tolerance for rounding errors.
EPSILON = 1e-6


@st.composite
def scenes(draw) -> tuple[list[Word], list[Mark], list[Link]]:
    texts = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=25))
    words = [Word(text, draw(st.booleans())) for text in texts]
    marks = []
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, len(words) - 1))
        end = draw(st.integers(start + 1, len(words)))
        marks.append(Mark(start, end, draw(st.sampled_from(["", "Loc", "LongType"])), "name"))
    number = st.integers(0, len(marks) - 1)
    links = []
    if marks:
        for _ in range(draw(st.integers(0, 8))):
            links.append(Link(draw(number), draw(number), draw(st.sampled_from(["r", "born_in"]))))
    return words, marks, links


def overlap(first: tuple[float, float], second: tuple[float, float]) -> bool:
    return first[0] + EPSILON < second[1] and second[0] + EPSILON < first[1]


def crossings(row: Row) -> int:
    """Return pairs of whole arcs whose lines cross."""
    spans = [(min(a.start, a.end), max(a.start, a.end)) for a in row.arcs if a.part == "whole"]
    return sum(a < c < b < d for a, b in spans for c, d in spans)


def one_row(text: str, marks: list[Mark], links: list[Link]) -> Row:
    layout = lay_out([Word(word) for word in text.split()], marks, links, columns=200)
    assert len(layout.rows) == 1
    return layout.rows[0]


@given(scenes(), st.integers(10, 60), st.booleans())
def test_nothing_is_lost_and_nothing_overlaps(scene, columns: int, rtl: bool) -> None:
    words, marks, links = scene
    layout = lay_out(words, marks, links, columns=columns, rtl=rtl)
    # Every word is there once, and rows are in order.
    found = [sorted(word.index for word in row.words) for row in layout.rows]
    assert [i for row in found for i in row] == list(range(len(words)))
    # Every mark covers all of its words.
    for i, mark in enumerate(marks):
        rows = {
            number for number, row in enumerate(found) for k in row if mark.start <= k < mark.end
        }
        assert rows == {n for n, row in enumerate(layout.rows) for m in row.marks if m.index == i}
    # Every link is there once as a whole, or in two parts.
    parts = Counter((arc.index, arc.part) for row in layout.rows for arc in row.arcs)
    assert set(parts.values()) <= {1}
    for i in range(len(links)):
        assert {part for index, part in parts if index == i} in ({"whole"}, {"head", "tail"})
    for row in layout.rows:
        boxes = [(w.x, w.x + w.width) for w in row.words]
        assert not any(overlap(a, b) for k, a in enumerate(boxes) for b in boxes[k + 1 :])
        for k, arc in enumerate(row.arcs):
            assert arc.lo >= -EPSILON or arc.part != "whole"
            assert arc.hi <= layout.width + EPSILON
            for other in row.arcs[k + 1 :]:
                if arc.level == other.level:
                    assert not overlap((arc.lo, arc.hi), (other.lo, other.hi))
        for k, mark in enumerate(row.marks):
            for other in row.marks[k + 1 :]:
                if mark.slot == other.slot:
                    assert not any(overlap(a, b) for a in mark.boxes for b in other.boxes)


@given(scenes())
def test_arcs_end_at_their_spans(scene) -> None:
    words, marks, links = scene
    layout = lay_out(words, marks, links, columns=40)
    for row in layout.rows:
        boxes = {mark.index: mark.boxes for mark in row.marks}
        for arc in row.arcs:
            link = links[arc.index]
            ends = {
                "whole": [(link.head, arc.start), (link.tail, arc.end)],
                "head": [(link.head, arc.start)],
                "tail": [(link.tail, arc.start)],
            }[arc.part]
            for mark, x in ends:
                assert any(lo <= x <= hi for lo, hi in boxes[mark])


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)), max_size=12), st.integers(0, 3))
def test_pack(pairs: list[tuple[int, int]], gap: int) -> None:
    intervals = [(float(start), float(start + length)) for start, length in pairs]
    levels = pack(intervals, gap)
    for i, (a, b) in enumerate(intervals):
        for j, (c, d) in enumerate(intervals):
            if i != j and levels[i] == levels[j]:
                assert b + gap <= c or d + gap <= a
            # An outer arc is above an inner one, so its ends do not cross the top of the inner one.
            if c < a and b < d:
                assert levels[j] > levels[i]


def test_parallel_arcs_in_both_directions_nest() -> None:
    marks = [Mark(0, 1, "X", "aaaa"), Mark(2, 3, "X", "bbbb")]
    row = one_row("aaaa to bbbb", marks, [Link(0, 1, "r"), Link(0, 1, "s"), Link(1, 0, "t")])
    assert sorted(arc.level for arc in row.arcs) == [0, 1, 2]
    assert crossings(row) == 0
    ends = [x for arc in row.arcs for x in (arc.start, arc.end)]
    assert len(set(ends)) == len(ends)


def test_nested_and_chained_arcs_do_not_cross() -> None:
    marks = [Mark(i, i + 1, "X") for i in (0, 2, 4)]
    links = [Link(0, 1, "r"), Link(1, 2, "r"), Link(0, 2, "r")]
    row = one_row("alpha to bravo to charlie", marks, links)
    assert crossings(row) == 0
    assert [arc.level for arc in row.arcs] == [0, 0, 1]


def test_a_loop_has_two_ends() -> None:
    (arc,) = one_row("alpha", [Mark(0, 1, "X")], [Link(0, 0, "r")]).arcs
    assert arc.part == "whole"
    assert arc.end - arc.start >= 5


def test_ends_at_nested_spans_with_one_middle_come_apart() -> None:
    marks = [Mark(0, 3, "Out"), Mark(1, 2, "In"), Mark(4, 5, "X")]
    row = one_row("aaaaaaa bbbbbbb ccccccc to dddd", marks, [Link(0, 2, "r"), Link(1, 2, "s")])
    first, second = row.arcs
    assert abs(first.start - second.start) >= 5


def test_a_label_gets_out_of_the_way_of_lines() -> None:
    """Otherwise the arc from the middle word would cross the label of the lower arc."""
    marks = [Mark(0, 1, "X"), Mark(5, 6, "X"), Mark(10, 11, "X"), Mark(25, 26, "X")]
    text = " ".join(["wwww"] * 26)
    row = one_row(text, marks, [Link(0, 2, "label"), Link(1, 3, "r")])
    low, high = sorted(row.arcs, key=lambda arc: arc.level)
    assert high.level > low.level
    assert abs(low.middle - high.start) >= low.width / 2


def test_labels_make_room() -> None:
    """A long label below a short word moves the neighbours apart and touches no other label."""
    row = one_row("a b c", [Mark(i, i + 1, "A_LONG_LABEL") for i in range(3)], [])
    assert [mark.slot for mark in row.marks] == [0, 0, 0]


def rows_of(layout: Layout) -> list[list[int]]:
    return [[word.index for word in row.words] for row in layout.rows]


def test_rows() -> None:
    words = [Word("one"), Word("two", False), Word(","), Word("three"), Word("four")]
    assert rows_of(lay_out(words, [], [], columns=10)) == [[0, 1, 2], [3, 4]]
    # Punctuation stays with its word.
    assert rows_of(lay_out(words[:3], [], [], columns=7)) == [[0], [1, 2]]
    apart = [Word("one"), Word("two"), Word(".")]
    assert rows_of(lay_out(apart, [], [], columns=7)) == [[0], [1, 2]]
    # Spans stay in one row if they can.
    marks = [Mark(3, 5, "X")]
    assert rows_of(lay_out(words, marks, [], columns=15)) == [[0, 1, 2], [3, 4]]
    assert rows_of(lay_out(words, [Mark(0, 5, "X")], [], columns=10))[0][0] == 0


def test_line_ends_break_rows() -> None:
    words = [Word("a", False), Word("\n\n", False), Word("b")]
    layout = lay_out(words, [], [], columns=80)
    assert rows_of(layout) == [[0, 1], [2]]


def test_a_long_word_is_shortened() -> None:
    layout = lay_out([Word("x" * 500)], [], [], columns=20)
    (word,) = layout.rows[0].words
    assert word.text == "x" * 19 + "\u2026"


def test_visual_order() -> None:
    # b C D e, where capitals run in the other direction.
    assert visual_order([1, -1, -1, 1]) == [0, 2, 1, 3]
    # Words without direction move with their neighbours.
    assert visual_order([-1, 0, -1, 0, 1]) == [2, 1, 0, 3, 4]
    assert visual_order([1, 0, 1]) == [0, 1, 2]
    assert visual_order([]) == []


def test_words_against_the_direction_of_the_text() -> None:
    """ "Google Cloud" in Hebrew: from the right, the second word comes first."""
    words = [Word("\u05e9\u05dc"), Word("Google"), Word("Cloud"), Word("\u05e9\u05dc")]
    layout = lay_out(words, [Mark(1, 3, "ORG")], [], columns=80, rtl=True)
    assert rows_of(layout) == [[0, 2, 1, 3]]
    (mark,) = layout.rows[0].marks
    assert len(mark.boxes) == 1


def test_a_span_of_words_that_are_not_side_by_side() -> None:
    words = [Word("\u05e9\u05dc"), Word("Google"), Word("Cloud"), Word("\u05e9\u05dc")]
    layout = lay_out(words, [Mark(0, 2, "X")], [Link(0, 0, "r")], columns=80, rtl=True)
    (mark,) = layout.rows[0].marks
    assert len(mark.boxes) == 2


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("abc", 3 * NARROW),
        ("e\u0301", NARROW),
        ("\u6771\u4eac", 2 * SQUARE),
        ("\U0001f600", EMOJI),
        ("\U0001f469\u200d\U0001f469\u200d\U0001f467", EMOJI),
        ("\U0001f44d\U0001f3fd", EMOJI),
        ("\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", 2 * EMOJI),
        ("\u2764\ufe0f", EMOJI),
        ("\u0645\u062d\u0645\u062f", 4 * NARROW),
        ("a\u200bb", 2 * NARROW),
        ("", 0.0),
    ],
)
def test_em_width(text: str, width: float) -> None:
    assert em_width(text) == pytest.approx(width)


@given(st.text(max_size=60), st.floats(2.0, 20.0))
def test_shorten(text: str, width: float) -> None:
    short = shorten(text, width)
    if em_width(text) <= width:
        assert short == text
    else:
        assert short.endswith("\u2026")
        assert text.startswith(short[:-1])
        assert em_width(short) <= width or len(short) <= 2


@given(st.text(st.characters()))
def test_clean_changes_no_length(text: str) -> None:
    assert len(clean(text)) == len(text)


def test_direction() -> None:
    assert direction_of("2024 (abc") == 1
    assert direction_of("12\u05d0b") == -1
    assert direction_of("...") == 0
    assert runs_left(["\u05d0", "\u05d1", "a"], "ltr")
    assert not runs_left(["\u05d0", "b", "a"], "ltr")
    assert runs_left(["..."], "rtl")
