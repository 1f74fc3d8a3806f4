from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from spacy_spanrel.encoding.pieces import PairTemplate, PieceTokenizer
from spacy_spanrel.extractive_qa.features import (
    MOST_SPECIAL,
    check_window_settings,
    make_rows,
    pieces_of_range,
    place_windows,
)

# Ids of special tokens as in the tokenizers of `tests.util`; text has ids from 100 on.
BERT = PairTemplate([2], [3], [3], [0], [0], [1], 0, 1)
ROBERTA = PairTemplate([0], [2, 2], [2], [0], [0, 0], [0], 0, 0)
# All special tokens at the end, as in XLNet.
AT_THE_END = PairTemplate([], [4], [4, 3], [], [0], [1, 2], 0, 1)
TEMPLATES = {"bert": BERT, "roberta": ROBERTA, "at the end": AT_THE_END}


class Legal(NamedTuple):
    """Valid settings with a question and a text."""

    max_length: int
    doc_stride: int
    max_question_length: int
    question: int
    text: int


@st.composite
def legal(draw: st.DrawFn) -> Legal:
    longest, stride = draw(st.integers(1, 12)), draw(st.integers(1, 20))
    max_length = longest + MOST_SPECIAL + stride + draw(st.integers(0, 20))
    return Legal(
        max_length, stride, longest, draw(st.integers(0, longest)), draw(st.integers(0, 120))
    )


def original_windows(n_pieces: int, capacity: int, doc_stride: int) -> list[tuple[int, int]]:
    """Start and length of the windows as BERT's run_squad.py makes them."""
    spans, start = [], 0
    while start < n_pieces:
        length = min(n_pieces - start, capacity)
        spans.append((start, length))
        if start + length == n_pieces:
            break
        start += min(length, doc_stride)
    return spans


def original_owner(spans: list[tuple[int, int]], position: int) -> int:
    """`_check_is_max_context` of run_squad.py."""
    best_score, best_index = None, -1
    for index, (start, length) in enumerate(spans):
        end = start + length - 1
        if position < start or position > end:
            continue
        left, right = position - start, end - position
        score = min(left, right) + 0.01 * length
        if best_score is None or score > best_score:
            best_score, best_index = score, index
    return best_index


def rows_of(case: Legal, template: PairTemplate) -> list:
    question = 100 + np.arange(case.question)
    text = 1000 + np.arange(case.text)
    return make_rows(question, text, template, case.max_length, case.doc_stride)


# Windows


@given(legal(), st.sampled_from(list(TEMPLATES)))
def test_every_piece_is_in_a_window(case: Legal, name: str) -> None:
    # A stride longer than a window would skip text.
    check_window_settings(case.max_length, case.doc_stride, case.max_question_length)
    rows = rows_of(case, TEMPLATES[name])
    seen = np.zeros(case.text, dtype=int)
    owned = np.zeros(case.text, dtype=int)
    for row in rows:
        part = slice(row.start, row.start + len(row.owned))
        assert row.ids[row.offset : row.offset + len(row.owned)].tolist() == list(
            range(1000 + part.start, 1000 + part.stop)
        )
        seen[part] += 1
        owned[part] += row.owned
    assert (seen >= 1).all()
    assert (owned == 1).all()  # a partition
    assert len(rows) >= 1


@given(legal(), st.sampled_from(list(TEMPLATES)))
def test_rows_are_as_long_as_allowed(case: Legal, name: str) -> None:
    rows = rows_of(case, TEMPLATES[name])
    assert all(len(row.ids) <= case.max_length for row in rows)
    # All but the last one are full, and each starts one step after the previous one.
    assert all(len(row.ids) == case.max_length for row in rows[:-1])
    assert [row.start for row in rows] == [i * case.doc_stride for i in range(len(rows))]


@given(st.integers(0, 150), st.integers(1, 40), st.integers(1, 40))
def test_windows_are_those_of_run_squad(n_pieces: int, capacity: int, stride: int) -> None:
    stride = min(stride, capacity)
    windows = place_windows(n_pieces, capacity, stride)
    found = list(zip(windows.starts.tolist(), windows.lengths.tolist(), strict=True))
    wanted = original_windows(n_pieces, capacity, stride)
    assert found == (wanted or [(0, 0)])  # an empty text is read, too: there is a question
    owners = [original_owner(wanted, i) for i in range(n_pieces)]
    assert windows.owner.tolist() == owners
    for i in range(len(wanted)):
        start, length = wanted[i]
        assert windows.owned(i).tolist() == [o == i for o in owners[start : start + length]]


def test_ownership_by_example() -> None:
    # Two windows of 6 pieces share 4. Piece 4 is as far from an end in both: the first one owns it.
    windows = place_windows(9, 6, 3)
    assert windows.starts.tolist() == [0, 3]
    assert windows.lengths.tolist() == [6, 6]
    assert windows.owner.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]
    # A hundredth of 60 pieces is 2.4 less than a hundredth of 300: piece 275 is 24 pieces from the end of
    # the first window and 25 from that of the second, and the first one owns it.
    owner = place_windows(310, 300, 250).owner
    assert owner[[275, 276]].tolist() == [0, 1]


# Rows


def test_templates_are_those_of_the_tokenizers(
    bert_checkpoint: Path, roberta_checkpoint: Path
) -> None:
    for folder, template in ((bert_checkpoint, BERT), (roberta_checkpoint, ROBERTA)):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert asdict(PieceTokenizer(tokenizer, "tiny").pair) == asdict(template)


@given(legal(), st.sampled_from(["bert", "roberta", "at the end"]))
def test_question_and_window_stand_between_the_special_tokens(case: Legal, name: str) -> None:
    question = list(range(100, 100 + case.question))
    for row in rows_of(case, TEMPLATES[name]):
        window = list(range(1000 + row.start, 1000 + row.start + len(row.owned)))
        ids, types, null = {
            "bert": (
                [2, *question, 3, *window, 3],
                [0] * (len(question) + 2) + [1] * (len(window) + 1),
                0,
            ),
            "roberta": (
                [0, *question, 2, 2, *window, 2],
                [0] * (len(question) + len(window) + 4),
                0,
            ),
            "at the end": (
                [*question, 4, *window, 4, 3],
                [0] * (len(question) + 1) + [1] * (len(window) + 1) + [2],
                len(question) + len(window) + 2,
            ),
        }[name]
        assert row.ids.tolist() == ids
        assert row.types.tolist() == types
        assert row.null == null
        assert row.ids.dtype == row.types.dtype == np.int64
        assert row.casing is None


@given(legal())
def test_casing_goes_with_its_pieces(case: Legal) -> None:
    question, text = 100 + np.arange(case.question), 1000 + np.arange(case.text)
    # The letter case of each piece is a function of its id here.
    rows = make_rows(
        question,
        text,
        ROBERTA,
        case.max_length,
        case.doc_stride,
        casing=(question % 4 + 1, text % 4 + 1),
    )
    for row in rows:
        wanted = [i % 4 + 1 if i >= 100 else 0 for i in row.ids.tolist()]
        assert row.casing is not None
        assert row.casing.tolist() == wanted


# Settings


@given(st.integers(-3, 60), st.integers(-3, 40), st.integers(-3, 20))
def test_settings_are_refused_that_leave_no_room(
    max_length: int, doc_stride: int, max_question_length: int
) -> None:
    room = max_length - max_question_length - MOST_SPECIAL
    settings = (max_length, doc_stride, max_question_length)
    if max_question_length >= 1 and doc_stride >= 1 and room >= doc_stride:
        check_window_settings(*settings)
        return
    with pytest.raises(ValueError, match="E_SR801") as error:
        check_window_settings(*settings)
    message = str(error.value)
    for part in (
        f"max_length = {max_length} ",
        f"max_question_length = {max_question_length} ",
        f"doc_stride = {doc_stride},",
        f"{MOST_SPECIAL} special tokens",
        f"leaves {room} ",
    ):
        assert part in message


def test_default_settings_are_legal() -> None:
    check_window_settings(384, 128, 64)
    check_window_settings(512, 128, 64)


# Places of answers


@st.composite
def pieces(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Character ranges in order: with gaps (white space), several on one place (bytes)."""
    ranges, at = [], 0
    for _ in range(draw(st.integers(0, 10))):
        at += draw(st.integers(0, 2))
        end = at + draw(st.integers(1, 4))
        ranges += [(at, end)] * draw(st.integers(1, 3))
        at = end
    return ranges


@given(pieces(), st.integers(0, 40), st.integers(0, 8))
def test_pieces_of_a_range(ranges: list[tuple[int, int]], start: int, length: int) -> None:
    wanted = set(range(start, start + length))
    touching = [i for i, (a, b) in enumerate(ranges) if wanted & set(range(a, b))]
    found = pieces_of_range(
        np.asarray(ranges, dtype=np.int64).reshape(-1, 2), start, start + length
    )
    assert found == ((touching[0], touching[-1]) if touching else None)


def test_pieces_of_a_range_by_example() -> None:
    chars = np.asarray([[0, 4], [5, 8], [8, 10], [12, 13]])
    assert pieces_of_range(chars, 5, 8) == (1, 1)
    assert pieces_of_range(chars, 7, 9) == (1, 2)  # parts of pieces count
    assert pieces_of_range(chars, 0, 13) == (0, 3)
    assert pieces_of_range(chars, 4, 5) is None
    assert pieces_of_range(chars, 10, 12) is None
    assert pieces_of_range(chars, 20, 30) is None


def test_pieces_without_characters_cover_nothing() -> None:
    # Empty pieces, which some tokenizers make, are never predicted and must not be targets.
    assert pieces_of_range(np.asarray([[3, 3], [3, 6]]), 2, 6) == (1, 1)
    assert pieces_of_range(np.asarray([[3, 3]]), 2, 5) is None
