from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_spanrel.annotations import Answer, Question
from spacy_spanrel.extractive_qa.component import ExtractiveQA, _windows
from spacy_spanrel.extractive_qa.decoding import (
    Candidates,
    WindowLogits,
    best_candidates,
    probabilities,
)
from spacy_spanrel.extractive_qa.features import place_windows
from spacy_spanrel.extractive_qa.model import QAInput, make_qa_rows

from .util import every, lexicon_checkpoint, places, ready

NEVER = -100.0


def brute_force(
    windows: Sequence[WindowLogits], usable: np.ndarray, max_answer_length: int
) -> list[tuple[tuple[int, int], float]]:
    """All legal spans with their scores, best first."""
    found = []
    for window in windows:
        n = len(window.starts)
        for i in range(n):
            for j in range(i, min(n, i + max_answer_length)):
                first, last = window.start + i, window.start + j
                if window.owned[i] and usable[first, 0] and usable[last, 1]:
                    score = float(window.starts[i]) + float(window.ends[j])
                    found.append(((first, last), score))
    return sorted(found, key=lambda item: (-item[1], item[0]))


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[WindowLogits], np.ndarray]:
    """Windows of a text with logits, among them ties, and the pieces with which an answer may begin
    and end."""
    n_pieces, capacity = draw(st.integers(0, 40)), draw(st.integers(1, 16))
    stride = draw(st.integers(1, capacity))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ties = draw(st.booleans())
    placed = place_windows(n_pieces, capacity, stride)
    windows = []
    for i, (start, length) in enumerate(zip(placed.starts, placed.lengths, strict=True)):
        logits = random.normal(size=(2, length)) * 3
        if ties:
            logits = logits.round()
        starts, ends = logits.astype(np.float32)
        null = float(random.normal())
        windows.append(WindowLogits(int(start), starts, ends, placed.owned(i), null))
    usable = random.random((n_pieces, 2)) < draw(st.sampled_from([0.0, 0.5, 0.9, 1.0]))
    return windows, usable


@given(cases(), st.integers(1, 30), st.integers(1, 40))
def test_best_candidates_equal_brute_force(
    case: tuple[list[WindowLogits], np.ndarray], n_best: int, max_answer_length: int
) -> None:
    windows, usable = case
    found = best_candidates(windows, usable, n_best, max_answer_length)
    wanted = brute_force(windows, usable, max_answer_length)
    assert [tuple(span) for span in found.spans.tolist()] == [span for span, _ in wanted[:n_best]]
    assert found.logits.tolist() == pytest.approx([score for _, score in wanted[:n_best]])
    assert len(set(map(tuple, found.spans.tolist()))) == min(n_best, len(wanted))
    assert found.null_score == min(window.null for window in windows)
    assert found.spans.dtype == np.int64
    assert found.logits.dtype == np.float64


def window(
    starts: Sequence[float],
    ends: Sequence[float],
    start: int = 0,
    null: float = 0.0,
    owned: Sequence[bool] | None = None,
) -> WindowLogits:
    return WindowLogits(
        start,
        np.asarray(starts, dtype=np.float32),
        np.asarray(ends, dtype=np.float32),
        np.asarray([True] * len(starts) if owned is None else owned),
        null,
    )


def spans(found: Candidates) -> list[list[int]]:
    return found.spans.tolist()


def test_ties_go_to_the_earlier_shorter_span() -> None:
    flat = window([1.0] * 4, [1.0] * 4)
    solid = np.ones((4, 2), dtype=bool)
    assert spans(best_candidates([flat], solid, 5, 3)) == [[0, 0], [0, 1], [0, 2], [1, 1], [1, 2]]
    # The order of the windows does not matter.
    parts = [window([1.0] * 2, [1.0] * 2, start=start) for start in (2, 0)]
    assert spans(best_candidates(parts, solid, 3, 3)) == [[0, 0], [0, 1], [1, 1]]


def test_a_span_begins_in_the_window_that_owns_it() -> None:
    # Piece 1 is in both windows; the start logit of the first one does not count.
    first = window([0.0, 9.0], [0.0, 1.0], owned=[True, False])
    second = window([2.0, 0.0], [0.0, 1.0], start=1)
    found = best_candidates([first, second], np.ones((3, 2), dtype=bool), 2, 5)
    assert spans(found) == [[1, 2], [1, 1]]
    assert found.logits.tolist() == [3.0, 2.0]


def test_a_span_ends_in_the_window_in_which_it_begins() -> None:
    first = window([5.0, 0.0], [0.0, 1.0])
    second = window([0.0, 0.0], [9.0, 9.0], start=2)
    found = best_candidates([first, second], np.ones((4, 2), dtype=bool), 10, 10)
    assert [0, 2] not in spans(found)
    assert [0, 3] not in spans(found)
    assert len(found.spans) == 6


def test_order_of_first_and_last() -> None:
    # The best start is after the best end: a span never has a negative length.
    found = best_candidates([window([0.0, 9.0], [9.0, 0.0])], np.ones((2, 2), dtype=bool), 9, 9)
    assert spans(found) == [[0, 0], [1, 1], [0, 1]]


def test_nothing_to_choose_from() -> None:
    empty = window([], [], null=1.5)
    found = best_candidates([empty], np.zeros((0, 2), dtype=bool), 20, 30)
    assert (spans(found), found.logits.tolist(), found.null_score) == ([], [], 1.5)
    found = best_candidates([window([1.0], [1.0], null=-2.0)], np.zeros((1, 2), dtype=bool), 20, 30)
    assert (spans(found), found.logits.tolist(), found.null_score) == ([], [], -2.0)


def test_answer_in_window_3_of_5_while_the_others_prefer_none() -> None:
    # The null score is the lowest of all windows.
    placed = place_windows(30, 10, 5)
    assert len(placed.starts) == 5
    windows = []
    for i, start in enumerate(placed.starts.tolist()):
        starts, ends = np.full(10, -5.0), np.full(10, -5.0)
        if i == 2:
            starts[4] = ends[5] = 3.0
        windows.append(window(starts, ends, start, 1.0 if i == 2 else 12.0, placed.owned(i)))
    found = best_candidates(windows, np.ones((30, 2), dtype=bool), 20, 30)
    assert found.null_score == 1.0
    assert spans(found)[0] == [14, 15]
    assert found.logits[0] == 6.0 > found.null_score
    assert probabilities(found.logits, found.null_score).argmax() == 0


# Probabilities


@given(
    st.lists(st.floats(-200, 200), max_size=20),
    st.none() | st.floats(-200, 200),
)
def test_probabilities(logits: list[float], null: float | None) -> None:
    # The probabilities of all windows together add up to 1.
    found = probabilities(np.asarray(logits, dtype=np.float64), null)
    assert len(found) == len(logits) + 1
    assert found.sum() == pytest.approx(1.0)
    assert ((found >= 0) & (found <= 1)).all()
    if null is None:
        assert found[-1] == (0.0 if logits else 1.0)
    others = logits if null is None and logits else [*logits, null or 0.0]
    total = math.fsum(math.exp(x - max(others)) for x in others)
    wanted = [math.exp(x - max(others)) / total for x in others]
    assert found[: len(wanted)].tolist() == pytest.approx(wanted)


# Through the component, with networks that give each word the logits of a table


@pytest.mark.parametrize("place", ["[CLS]", "[SEP]", "question", "[PAD]"])
def test_no_token_beside_the_text_is_an_answer(tmp_path: Path, place: str) -> None:
    entries = {"question": ["who", "?"]}.get(place, [place])
    peaks = dict.fromkeys(entries, (14.0, 14.0))
    folder = lexicon_checkpoint(
        tmp_path / "bert",
        {**peaks, "Mary": (2.0, 2.0), "Paris": (1.0, 1.0)},
        vocab_words=["who", "Mary", "in", "Paris", "lives", "city"],
    )
    pipe = ready(folder, no_answer=False, top_k=30, n_best=30)
    short, long = "Mary in Paris", "Mary lives in Paris in Paris in Paris in Paris"
    # Both are read in one batch, so that the short row is padded.
    answers = [found[0] for found in pipe.ask_pipe([(short, "who ?"), (long, "who ?")])]
    texts = [short, long]
    for text, answer in zip(texts, answers, strict=True):
        assert answer.text == "Mary"
        assert answer.logit == pytest.approx(4.0, abs=1e-4)
        assert len(every(answer)) == (6 if text == short else 30)
        assert all(0 <= start < end <= len(text) for start, end in places(answer))
    # Of the special tokens only [CLS] counts, as "no answer".
    null = answers[0].null_score
    assert null == pytest.approx(28.0 if place == "[CLS]" else 0.0, abs=1e-4)
    pipe.cfg["no_answer"] = True
    assert bool(pipe.ask(short, "who ?")) == (place != "[CLS]")


def test_no_limit_for_the_length_of_answers():
    # No answer is longer than its window, so the limit needs no memory.
    rng = np.random.default_rng(0)
    windows = [window(*rng.normal(size=(2, 30)).tolist())]
    solid = np.ones((30, 2), dtype=bool)
    unlimited = best_candidates(windows, solid, 40, 10**12)
    assert spans(unlimited) == spans(best_candidates(windows, solid, 40, 30))
    assert any(first == 0 for first, _ in spans(unlimited))


@pytest.fixture(scope="module")
def pipe(checkpoint: Path) -> ExtractiveQA:
    return ready(checkpoint)


@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.integers(0, 12))
def test_columns_beside_the_window_count_for_nothing(
    pipe: ExtractiveQA, seed: int, n_words: int, n_question: int
) -> None:
    # They are never part of an answer, whatever their logits are.
    doc = pipe._make_doc(" ".join(["Mary", "in", "Paris"] * 20)[: 8 * n_words])
    rows = make_qa_rows(pipe.model, QAInput([doc], [[" ".join(["who"] * n_question)]]))
    random = np.random.default_rng(seed)
    longest = max(len(row.ids) for row in rows.rows) + 3
    quiet = random.normal(size=(len(rows.rows), longest, 2)).astype(np.float32)
    loud = quiet.copy()
    for i, row in enumerate(rows.rows):
        beside = np.ones(longest, dtype=bool)
        beside[row.offset : row.offset + len(row.owned)] = False
        loud[i, beside] += 1000
        quiet[i, row.null] = loud[i, row.null]
    solid = np.ones((len(rows.texts[0].ids), 2), dtype=bool)
    results = [
        best_candidates(_windows(rows, logits, 0, len(rows.rows)), solid, 20, 30)
        for logits in (quiet, loud)
    ]
    assert spans(results[0]) == spans(results[1])
    assert results[0].logits.tolist() == results[1].logits.tolist()
    assert results[0].null_score == results[1].null_score
    assert results[1].null_score == min(
        float(loud[i, row.null].sum()) for i, row in enumerate(rows.rows)
    )
    assert all(last < len(solid) for _, last in spans(results[1]))


@pytest.fixture(scope="module")
def lexicon(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answers begin with "John" or "Mary" and end with "Mary" or "Smith"."""
    return lexicon_checkpoint(
        tmp_path_factory.mktemp("lexicon") / "bert",
        {
            "[CLS]": (-4.0, -4.0),
            "John": (6.0, 0.0),
            "Mary": (5.0, 5.0),
            "Smith": (0.0, 7.0),
            "company": (-9.0, -9.0),
            "the": (-9.0, -9.0),
            "city": (-9.0, -9.0),
        },
    )


def test_ten_answers_are_ten_different_ones(lexicon: Path) -> None:
    # Windows overlap, but each span counts once.
    pipe = ready(lexicon, no_answer=False, max_answer_length=4)
    text = " ".join(["the city", "Mary", "the company"] * 20)
    answer = pipe.ask(text, "who ?", top_k=10)
    rows = make_qa_rows(pipe.model, QAInput([pipe._make_doc(text)], [["who ?"]]))
    assert len(rows.rows) > 3
    found = every(answer)
    assert len(set(places(answer))) == len(found) == 10
    assert [part.logit for part in found] == sorted((a.logit for a in found), reverse=True)
    # The same text at ten places gives ten answers, whose probabilities are not added up.
    assert [part.text for part in found] == ["Mary"] * 10
    every_mary = {match.start() for match in re.finditer("Mary", text)}
    assert len(every_mary) == 20
    assert {part.start_char for part in found} <= every_mary
    assert all(part.score == pytest.approx(1 / 20) for part in found)


def test_scores_add_up_to_one(lexicon: Path) -> None:
    pipe = ready(lexicon, top_k=20, max_answer_length=5)
    text = "John Smith lives in Paris and Mary works for John Smith ."
    answer = pipe.ask(text, "who ?")
    scores = [part.score for part in every(answer)]
    assert answer.text == "John Smith"
    assert len(scores) == 20
    assert all(0 <= score <= 1 for score in scores)
    logits = [part.logit for part in every(answer)]
    null = math.exp(answer.null_score)
    total = null + sum(map(math.exp, logits))
    assert answer.null_score == pytest.approx(-8.0, abs=1e-3)
    assert scores == pytest.approx([math.exp(logit) / total for logit in logits])
    assert sum(scores) + null / total == pytest.approx(1.0)
    # The same text at two places gives two answers.
    twice = sorted(part.start_char for part in every(answer) if part.text == "John Smith")
    assert twice == [0, text.rindex("John")]


def test_no_answer_has_the_rest_of_the_probability(lexicon: Path) -> None:
    pipe = ready(lexicon, null_threshold=-1000.0, top_k=20)
    answer: Answer = pipe.ask("Mary in Paris", [Question("a", "who ?")])[0]
    assert not answer
    assert (answer.text, answer.start_char, answer.end_char, answer.span) == ("", 0, 0, None)
    assert len(answer.alternatives) == 6
    total = answer.score + sum(part.score for part in answer.alternatives)
    assert total == pytest.approx(1.0)
    assert answer.logit is None
    assert answer.alternatives[0].text == "Mary"
    assert all(part.alternatives == () for part in answer.alternatives)
