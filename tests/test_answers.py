from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc, SpanGroup

from spacy_spanrel import (
    Answer,
    Question,
    get_answers,
    get_questions,
    register_qa_extensions,
    set_answers,
    set_questions,
)
from spacy_spanrel.annotations import make_answer, make_questions
from tests.util import ROUND_TRIPS, through_bytes, through_docbin

NLP = spacy.blank("en")
TEXT = "John Smith works for Acme in Paris-Nord"
WHO, WHERE, WHY = Question("who", "Who works?"), Question("7", "Where?"), Question("ö", "Why?")


Part = tuple[int, int, float | None, float | None, float | None]


def make(doc: Doc, *rows: tuple[Question, list[Part]]) -> list[Answer]:
    """Answers from rows (question, parts): the answer and its alternatives."""
    answers = []
    for question, parts in rows:
        first, *others = (
            make_answer(doc, question, start, end, score=score, logit=logit, null_score=null)
            for start, end, score, logit, null in parts
        )
        answers.append(Answer(**{**first.__dict__, "alternatives": tuple(others)}))
    return answers


def rows_of(answers: tuple[Answer, ...]) -> list[tuple[Question, list[Part]]]:
    return [
        (
            answer.question,
            [
                (part.start_char, part.end_char, part.score, part.logit, part.null_score)
                for part in (answer, *answer.alternatives)
            ],
        )
        for answer in answers
    ]


ROWS: list[tuple[Question, list[Part]]] = [
    (WHO, [(0, 10, 0.75, 4.5, -1.0), (21, 25, 0.125, 2.0, -1.0)]),
    (WHERE, [(0, 0, 0.5, None, 3.25), (29, 34, 0.25, -2.0, 3.25)]),
    (WHY, [(0, 0, None, None, None)]),
]


@pytest.fixture
def doc() -> Doc:
    return NLP.make_doc(TEXT)


# Questions


@pytest.mark.parametrize(
    "given",
    [
        "Who works?",
        ["Who works?"],
        ("Who works?",),
        Question("q1", "Who works?"),
        [Question("q1", "Who works?")],
        [("q1", "Who works?")],
        [["q1", "Who works?"]],
        {"id": "q1", "text": "Who works?"},
        {"question": "Who works?"},
        [{"text": "Who works?", "answers": []}],
        (text for text in ["Who works?"]),
    ],
    ids=lambda given: type(given).__name__,
)
def test_forms_of_questions(doc, given):
    set_questions(doc, given)
    assert get_questions(doc) == (Question("q1", "Who works?"),)
    assert doc._.questions == get_questions(doc)


def test_ids_by_place(doc):
    doc._.questions = ["a?", ("id", "b?"), {"text": "c?"}, {"id": 5, "question": "d?"}]
    assert doc._.questions == (
        Question("q1", "a?"),
        Question("id", "b?"),
        Question("q3", "c?"),
        Question("5", "d?"),
    )


def test_no_questions(doc):
    assert get_questions(doc) == make_questions([]) == ()
    set_questions(doc, [])
    assert doc._.questions == ()
    assert doc._.answers == ()
    assert "qa" in doc.spans


@pytest.mark.parametrize(
    "given",
    [
        ["a?", ("q1", "b?")],
        [("x", "a?"), ("x", "b?")],
        [("x", "a?"), ("x", "a?")],
        [{"id": 1, "text": "a?"}, ("1", "b?")],
    ],
)
def test_duplicate_ids(doc, given):
    set_questions(doc, [WHO])
    before = doc.to_bytes()
    with pytest.raises(ValueError, match="E_SR105.*: (q1|x|1)\\."):
        set_questions(doc, given)
    assert doc.to_bytes() == before


@pytest.mark.parametrize(
    "given", [[3], [None], [("a", "b", "c")], [("a", 1)], [{}], [{"id": "a"}], [{"text": 5}], [[]]]
)
def test_what_is_no_question(doc, given):
    with pytest.raises(ValueError, match="E_SR106"):
        set_questions(doc, given)
    assert "qa" not in doc.spans


def test_questions_forget_answers(doc):
    set_answers(doc, make(doc, *ROWS))
    set_questions(doc, [WHO, "And now?"])
    assert get_questions(doc) == (WHO, Question("q2", "And now?"))
    assert get_answers(doc) == ()
    assert len(doc.spans["qa"]) == 0


@pytest.mark.parametrize("trip", ROUND_TRIPS)
def test_questions_survive(trip, doc):
    set_questions(doc, [WHO, WHERE, WHY])
    assert trip(doc)._.questions == (WHO, WHERE, WHY)
    assert trip(doc)._.answers == ()


def test_id_none_is_no_id():
    assert make_questions({"id": None, "text": "a?"}) == (Question("q1", "a?"),)


# Answers


def test_set_and_get(doc):
    answers = make(doc, *ROWS)
    set_answers(doc, answers)
    found = get_answers(doc)
    assert rows_of(found) == ROWS
    assert found == tuple(answers)
    assert doc._.answers == found
    assert doc._.questions == (WHO, WHERE, WHY)
    assert [bool(answer) for answer in found] == [True, False, False]
    first = found[0]
    assert (first.text, first.span.text, first.aligned) == ("John Smith", "John Smith", True)
    assert first.span.doc is doc
    # The spans of the group are those of all answers.
    spans = [(span.start, span.end, span.label_) for span in doc.spans["qa"]]
    assert spans == [(0, 2, "who"), (4, 5, "who"), (6, 7, "7")]


def test_the_extension_sets(doc):
    doc._.answers = make(doc, *ROWS)
    doc._.answers = make(doc, ROWS[1])
    assert rows_of(doc._.answers) == ROWS[1:2]
    assert doc._.questions == (WHERE,)


def test_a_generator_and_another_key(doc):
    set_answers(doc, (answer for answer in make(doc, *ROWS)), key="other")
    assert get_answers(doc) == ()
    assert rows_of(get_answers(doc, "other")) == ROWS
    assert get_questions(doc, "other") == (WHO, WHERE, WHY)


def test_falsy_answers(doc):
    answer = Answer(WHO)
    assert not answer
    assert (answer.text, answer.start_char, answer.end_char, answer.span) == ("", 0, 0, None)
    assert make_answer(doc, WHO, 5, 5) == answer
    set_answers(doc, [answer])
    assert get_answers(doc) == (answer,)
    assert len(doc.spans["qa"]) == 0


def test_only_offsets_count(doc):
    wrong = Answer(WHO, text="x", start_char=21, end_char=25, aligned=False)
    set_answers(doc, [wrong])
    assert get_answers(doc) == (make_answer(doc, WHO, 21, 25),)
    assert get_answers(doc)[0].text == "Acme"


def test_answers_inside_tokens(doc):
    set_answers(doc, make(doc, (WHO, [(1, 7, None, None, None)])))
    for found in (doc, through_docbin(doc)):
        (answer,) = get_answers(found)
        assert (answer.text, answer.aligned) == ("ohn Sm", False)
        assert answer.span.text == "John Smith"


def test_alternatives_have_none(doc):
    (inner,) = make(doc, ROWS[0])
    outer = Answer(**{**inner.__dict__, "alternatives": (inner,)})
    set_answers(doc, [outer])
    (found,) = get_answers(doc)
    assert [part.text for part in found.alternatives] == ["John Smith"]
    assert found.alternatives[0].alternatives == ()


@st.composite
def answer_rows(draw: st.DrawFn) -> list[tuple[Question, list[Part]]]:
    number = st.none() | st.floats(-1e6, 1e6)
    span = st.tuples(st.integers(0, len(TEXT)), st.integers(0, len(TEXT))).filter(
        lambda pair: pair == (0, 0) or (pair[0] < pair[1] and TEXT[slice(*pair)].strip())
    )
    part = st.tuples(span, st.none() | st.floats(0, 1), number, number).map(
        lambda row: (*row[0], *row[1:])
    )
    ids = draw(st.lists(st.text(st.characters(codec="utf-8")), max_size=4, unique=True))
    return [
        (Question(name, draw(st.text(st.characters(codec="utf-8"), max_size=5))), parts)
        for name in ids
        for parts in [draw(st.lists(part, min_size=1, max_size=3))]
    ]


@pytest.mark.parametrize("trip", ROUND_TRIPS)
@settings(max_examples=20)
@given(rows=answer_rows())
def test_round_trips(trip: Callable[[Doc], Doc], rows):
    # Span groups are kept where extension data is dropped.
    doc = NLP.make_doc(TEXT)
    set_answers(doc, make(doc, *rows))
    assert rows_of(get_answers(doc)) == rows
    found = trip(doc)
    assert found is not doc
    assert rows_of(found._.answers) == rows
    assert type(found._.answers) is type(found._.questions) is tuple
    for answer in found._.answers:
        for part in (answer, *answer.alternatives):
            for value in (part.score, part.logit, part.null_score):
                assert value is None or type(value) is float
            assert part.question == answer.question
    before = [(s.start, s.end, s.label_) for s in doc.spans["qa"]]
    assert [(s.start, s.end, s.label_) for s in found.spans["qa"]] == before


@pytest.mark.parametrize("trip", ROUND_TRIPS)
def test_round_trips_give_no_none(trip):
    found = trip(NLP.make_doc(TEXT))
    assert (found._.answers, found._.questions) == ((), ())


def test_worker_processes(doc):
    # Worker processes get and return Docs as bytes.
    set_answers(doc, make(doc, *ROWS))
    (found,) = NLP.pipe([doc], n_process=2)
    assert rows_of(found._.answers) == ROWS


def test_merged_docs_have_none(doc):
    # spaCy drops the attributes of span groups, and so the questions.
    set_answers(doc, make(doc, *ROWS))
    merged = Doc.from_docs([doc, NLP.make_doc("x y")])
    assert merged._.answers == merged._.questions == ()


def test_offsets_survive_retokenization(doc):
    set_answers(doc, make(doc, *ROWS))
    with doc.retokenize() as retokenizer:
        retokenizer.merge(doc[0:2])
    first, _, _ = get_answers(doc)
    assert (first.text, first.span.start, first.span.end) == ("John Smith", 0, 1)


def test_scores_become_plain_floats(doc):
    values = [np.float32(0.5), np.float64(0.25), 1, True, 0]
    for value in values:
        set_answers(doc, make(doc, (WHO, [(np.int64(0), np.int64(4), value, value, value)])))
        (found,) = get_answers(doc)
        numbers = (found.score, found.logit, found.null_score)
        assert numbers == (float(value),) * 3
        assert {type(number) for number in numbers} == {float}
        assert type(found.start_char) is type(found.end_char) is int
        assert json.dumps(dict(doc.spans["qa"].attrs))
        assert through_docbin(doc)._.answers[0].score == float(value)


def test_infinite_null_score(doc):
    set_answers(doc, make(doc, (WHO, [(0, 4, 0.5, 1.0, float("inf"))])))
    assert through_docbin(doc)._.answers[0].null_score == float("inf")


@pytest.mark.parametrize("score", [-0.01, 1.01, float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 1])
def test_scores_out_of_range_are_refused(doc, score, place):
    set_answers(doc, make(doc, *ROWS))
    before = doc.to_bytes()
    parts = list(ROWS[0][1])
    parts[place] = (0, 4, score, 1.0, 1.0)
    with pytest.raises(ValueError, match="E_SR104"):
        set_answers(doc, make(doc, ROWS[1], (WHO, parts)))
    assert doc.to_bytes() == before


@pytest.mark.parametrize(
    ("start", "end"), [(-1, 4), (4, 3), (0, len(TEXT) + 1), (100, 200), (-5, -1)]
)
@pytest.mark.parametrize("alternative", [False, True])
def test_bad_offsets_leave_the_doc_unchanged(doc, start, end, alternative):
    with pytest.raises(ValueError, match=f"E_SR107.*'who'.*{start} to {end}.*{len(TEXT)} char"):
        make_answer(doc, WHO, start, end)
    set_answers(doc, make(doc, *ROWS))
    before = doc.to_bytes()
    bad = Answer(WHO, start_char=start, end_char=end)
    if alternative:
        bad = Answer(WHO, alternatives=(bad,))
    with pytest.raises(ValueError, match="E_SR107"):
        set_answers(doc, [*make(doc, ROWS[1]), bad])
    assert doc.to_bytes() == before


def test_two_answers_to_one_question_are_refused(doc):
    with pytest.raises(ValueError, match="E_SR105.*who"):
        doc._.answers = make(doc, ROWS[0], ROWS[1], ROWS[0])
    assert "qa" not in doc.spans


@pytest.mark.parametrize("alternative", [False, True])
def test_answers_of_another_doc_are_refused(doc, alternative):
    (other,) = make(NLP.make_doc(TEXT), ROWS[0])
    if alternative:
        other = Answer(WHO, alternatives=(other,))
    with pytest.raises(ValueError, match="E_SR108.*'who'"):
        set_answers(doc, [other])
    assert "qa" not in doc.spans


def test_a_foreign_group_holds_nothing(doc):
    doc.spans["qa"] = SpanGroup(doc, name="qa", spans=[doc[0:2]])
    assert get_answers(doc) == ()
    assert get_questions(doc) == ()


# Texts


TEXTS = [
    "مرحبا بالعالم، أين العاصمة؟",
    "שלום עולם! איפה הבירה?",
    "👩‍👩‍👧 loves 🇩🇪 and e\u0301clairs 😀😀.",
    "  two  blanks \n\n and\ttabs  ",
    "北京是中国的首都。",
    "don't U.S.-based (x)… \u00a0\u200bz",
]


@given(st.sampled_from(TEXTS) | st.text(st.characters(codec="utf-8"), max_size=20), st.data())
def test_text_is_what_the_offsets_say(text, data):
    doc = NLP.make_doc(text)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    if any(token.whitespace_ and end - 1 == start == token.idx + len(token) for token in doc):
        with pytest.raises(ValueError, match="E_SR107.*a blank behind a token"):
            make_answer(doc, WHO, start, end)
        return
    set_answers(doc, [make_answer(doc, WHO, start, end)])
    (found,) = get_answers(doc)
    assert doc.text[found.start_char : found.end_char] == found.text
    assert bool(found) is (start < end)
    if found:
        assert (found.start_char, found.end_char) == (start, end)
        assert found.text == text[start:end]
        assert found.aligned is (found.span.text == found.text)
    if found.text.strip():
        # The tokens hold all of the answer but blanks, and none of them is there without need.
        assert found.text.strip() in found.span.text
        for token in (found.span[0], found.span[-1]):
            touched = text[max(start, token.idx) : min(end, token.idx + len(token))]
            assert touched or token.is_space


@pytest.mark.parametrize("text", ["a b", "a  b", "a "])
def test_a_blank_behind_a_token_is_no_answer(text):
    with pytest.raises(ValueError, match=f"E_SR107.*1 to 2 in.*{len(text)} char.*blank behind"):
        make_answer(NLP.make_doc(text), WHO, 1, 2)


def test_right_to_left_and_emoji():
    doc = NLP.make_doc(TEXTS[2])
    start = doc.text.index("🇩🇪")
    set_answers(doc, [make_answer(doc, WHO, start, start + 2)])
    for found in (doc, through_bytes(doc), through_docbin(doc)):
        assert found._.answers[0].text == "🇩🇪"
    doc = NLP.make_doc(TEXTS[0])
    start = doc.text.index("العاصمة")
    set_answers(doc, [make_answer(doc, WHERE, start, start + 7)])
    assert through_docbin(doc)._.answers[0].span.text == "العاصمة"


def test_empty_doc():
    doc = Doc(NLP.vocab)
    assert (doc._.answers, doc._.questions) == ((), ())
    doc._.answers = [Answer(WHO)]
    for trip in ROUND_TRIPS:
        assert trip(doc)._.answers == (Answer(WHO),)
    with pytest.raises(ValueError, match="E_SR107.*0 characters"):
        make_answer(doc, WHO, 0, 1)
    doc._.questions = ["Who?"]
    assert len(doc._.questions) == 1


def test_long_docs():
    # Making, setting and reading answers takes no longer than in a short Doc.
    doc = Doc(NLP.vocab, words=["word"] * 20_000)
    questions = make_questions([f"What is {i}?" for i in range(20)])
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        set_answers(
            doc, [make_answer(doc, q, 4000 * i, 4000 * i + 9) for i, q in enumerate(questions)]
        )
        answers = get_answers(doc)
        seconds.append(time.perf_counter() - start)
        assert [answer.text for answer in answers] == ["word word"] * 20
    assert min(seconds) < 0.02


# Views


def test_to_dict(doc):
    set_answers(doc, make(doc, *ROWS))
    found = json.loads(json.dumps([answer.to_dict() for answer in doc._.answers]))
    assert found == [
        {"answer": "John Smith", "start": 0, "end": 10, "score": 0.75},
        {"answer": "", "start": 0, "end": 0, "score": 0.5},
        {"answer": "", "start": 0, "end": 0, "score": None},
    ]


# Extensions


@pytest.mark.usefixtures("fresh_extensions")
@pytest.mark.parametrize("name", ["questions", "answers"])
@pytest.mark.parametrize(
    "foreign",
    [{"default": None}, {"getter": len}, {"method": lambda doc: "theirs"}],
    ids=["default", "getter", "method"],
)
def test_extensions_of_others_are_not_overwritten(doc, name, foreign: dict[str, Any]):
    # Other packages may use the same names.
    for mine in ("questions", "answers"):
        Doc.remove_extension(mine)
    Doc.set_extension(name, **foreign)
    theirs = Doc.get_extension(name)
    with pytest.raises(ValueError, match=f"E_SR101.*'doc._.{name}'"):
        register_qa_extensions()
    assert Doc.get_extension(name) == theirs
    other = {"questions": "answers", "answers": "questions"}[name]
    assert not Doc.has_extension(other)  # all or nothing
    register_qa_extensions(prefix="unclaimed_")
    doc._.unclaimed_answers = make(doc, *ROWS)
    assert rows_of(doc._.unclaimed_answers) == ROWS
    assert doc._.unclaimed_questions == (WHO, WHERE, WHY)


@pytest.mark.usefixtures("fresh_extensions")
def test_a_prefix_with_a_group_of_its_own(doc):
    register_qa_extensions(prefix="gold_", key="gold")
    doc._.gold_answers = make(doc, ROWS[0])
    assert doc._.answers == ()
    assert rows_of(get_answers(doc, "gold")) == ROWS[:1]


@pytest.mark.usefixtures("fresh_extensions")
def test_one_name_for_two_groups_is_refused():
    register_qa_extensions()  # again: changes nothing
    with pytest.raises(ValueError, match="E_SR101"):
        register_qa_extensions(key="other")


def test_extensions_survive_pickling(doc):
    set_answers(doc, make(doc, *ROWS))
    for name in ("questions", "answers"):
        getter = pickle.loads(pickle.dumps(Doc.get_extension(name)[2]))
        assert getter(doc) == getattr(doc._, name)
