"""Questions and answers on a Doc, and the only code that knows how they are stored.

They live in one native ``SpanGroup``, because its attrs survive ``DocBin`` with default settings,
``Doc.to_bytes`` and ``n_process`` (``Doc.from_docs`` drops them). The attrs hold everything: the
questions, and for each the answers with character offsets, best first. The spans of the group are
the answers' tokens, labelled with the question's id, for code that only looks at spans.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from spacy.tokens import Doc, Span, SpanGroup

from ..errors import Errors
from .extensions import register

QA_KEY = "qa"
QUESTIONS_ATTR = "questions"
ANSWERS_ATTR = "answers"


@dataclass(frozen=True)
class Question:
    """A question about a Doc.

    id (str): Unique among the questions of the Doc.
    text (str): The question.
    """

    id: str
    text: str


@dataclass(frozen=True)
class Answer:
    """An answer in the words of the Doc, or that there is none (then it is falsy).

    question (Question): What was asked.
    text (str): ``doc.text[start_char:end_char]``; "" for no answer.
    start_char, end_char (int): Character offsets in the Doc, end exclusive; 0 and 0 for no answer.
    span (Span | None): The tokens that the answer touches; None for no answer.
    aligned (bool): Whether the answer begins and ends on borders of tokens.
    score (float | None): Probability among all answers considered and "no answer", from 0 to 1;
        None for gold annotation.
    logit (float | None): Start logit + end logit; None for gold and for no answer.
    null_score (float | None): Start logit + end logit of "no answer", the least over all windows.
    alternatives (tuple[Answer, ...]): Other answers at other places, best first; for gold the other
        reference answers, or where there is no answer, plausible ones that are wrong. They have no
        alternatives of their own.
    """

    question: Question
    text: str = ""
    start_char: int = 0
    end_char: int = 0
    span: Span | None = None
    aligned: bool = True
    score: float | None = None
    logit: float | None = None
    null_score: float | None = None
    alternatives: tuple[Answer, ...] = ()

    def __bool__(self) -> bool:
        return self.span is not None

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as plain data, with character offsets (end exclusive)."""
        return {
            "answer": self.text,
            "start": self.start_char,
            "end": self.end_char,
            "score": self.score,
        }


QuestionLike = str | Question | tuple[str, str] | Mapping[str, str]


def make_questions(given: QuestionLike | Iterable[QuestionLike]) -> tuple[Question, ...]:
    """Make questions with ids of their own.

    given: One question (a text, a `Question`, or a table with "text" or "question", and perhaps
        "id"), or several: a list of these and of pairs (id, text). Those without an id get "q1",
        "q2", ... by their place.
    RETURNS (tuple[Question, ...]): In that order.
    RAISES (ValueError): If two have the same id, or something is no question.
    """
    if isinstance(given, (str, Question, Mapping)):
        given = [given]
    if not isinstance(given, Iterable):
        raise ValueError(Errors.E106.format(found=given))
    made = [_question(item, f"q{i}") for i, item in enumerate(given, start=1)]
    ids = [question.id for question in made]
    twice = sorted({i for i in ids if ids.count(i) > 1}) if len(set(ids)) < len(ids) else []
    if twice:
        raise ValueError(Errors.E105.format(ids=", ".join(twice)))
    return tuple(made)


def _question(item: Any, default_id: str) -> Question:
    if isinstance(item, Question) and isinstance(item.id, str) and isinstance(item.text, str):
        return item
    if isinstance(item, str):
        return Question(default_id, item)
    if isinstance(item, Mapping):
        text = item.get("text", item.get("question"))
        if isinstance(text, str):
            own_id = item.get("id")
            return Question(default_id if own_id is None else str(own_id), text)
    elif (
        isinstance(item, (tuple, list))
        and len(item) == 2
        and all(isinstance(part, str) for part in item)
    ):
        return Question(item[0], item[1])
    raise ValueError(Errors.E106.format(found=item))


def get_questions(doc: Doc, key: str = QA_KEY) -> tuple[Question, ...]:
    """Read the questions of a Doc.

    doc (Doc): The Doc.
    key (str): The span group that holds them.
    RETURNS (tuple[Question, ...]): In the order in which they were set; () if there are none.
    """
    return tuple(question for question, _ in _stored(doc, key))


def _stored(doc: Doc, key: str) -> list[tuple[Question, list[Row] | None]]:
    """Read the stored questions with the rows of their answers; none of a group of other code."""
    if key not in doc.spans:
        return []
    attrs = doc.spans[key].attrs
    questions, answers = attrs.get(QUESTIONS_ATTR), attrs.get(ANSWERS_ATTR)
    if not isinstance(questions, (list, tuple)) or not isinstance(answers, (list, tuple)):
        return []
    if len(questions) != len(answers) or not all(
        isinstance(row, (list, tuple)) and len(row) == 2 and all(isinstance(x, str) for x in row)
        for row in questions
    ):
        return []
    if not all(rows is None or _are_rows(rows) for rows in answers):
        return []
    return [(Question(*row), rows) for row, rows in zip(questions, answers, strict=True)]


def _are_rows(rows: Any) -> bool:
    return (
        isinstance(rows, (list, tuple))
        and len(rows) > 0
        and all(
            isinstance(row, (list, tuple))
            and len(row) == 5
            and all(isinstance(offset, int) for offset in row[:2])
            and all(number is None or isinstance(number, float) for number in row[2:])
            for row in rows
        )
    )


def set_questions(
    doc: Doc, questions: QuestionLike | Iterable[QuestionLike], key: str = QA_KEY
) -> None:
    """Replace the questions of a Doc, and forget its answers.

    doc (Doc): The Doc.
    questions: As in `make_questions`.
    key (str): The span group to write.
    """
    rows = [[question.id, question.text] for question in make_questions(questions)]
    attrs = {QUESTIONS_ATTR: rows, ANSWERS_ATTR: [None] * len(rows)}
    doc.spans[key] = SpanGroup(doc, name=key, spans=[], attrs=attrs)


def get_answers(doc: Doc, key: str = QA_KEY) -> tuple[Answer, ...]:
    """Read the answers of a Doc.

    doc (Doc): The Doc.
    key (str): The span group that holds them.
    RETURNS (tuple[Answer, ...]): One for each question that was answered, in the order of the
        questions; falsy ones where there is no answer.
    """
    found = []
    for question, row in _stored(doc, key):
        if row is not None:
            first, *others = [_from_row(doc, question, part) for part in row]
            found.append(replace(first, alternatives=tuple(others)))
    return tuple(found)


def set_answers(doc: Doc, answers: Iterable[Answer], key: str = QA_KEY) -> None:
    """Replace the questions and answers of a Doc.

    doc (Doc): The Doc.
    answers (Iterable[Answer]): For different questions. Only their offsets count: text, span and
        alignment follow from these.
    key (str): The span group to write.
    RAISES (ValueError): If two questions have the same id, offsets are none of the Doc's, or a
        score is no probability; the Doc is then unchanged.
    """
    answers = list(answers)
    questions = make_questions([answer.question for answer in answers])
    rows = [[_to_row(doc, part) for part in (answer, *answer.alternatives)] for answer in answers]
    attrs = {QUESTIONS_ATTR: [[q.id, q.text] for q in questions], ANSWERS_ATTR: rows}
    spans = [
        Span(doc, part.span.start, part.span.end, label=question.id)
        for question, row in zip(questions, rows, strict=True)
        for part in (_from_row(doc, question, cells) for cells in row)
        if part.span is not None
    ]
    doc.spans[key] = SpanGroup(doc, name=key, spans=spans, attrs=attrs)


def make_answer(
    doc: Doc, question: Question, start_char: int, end_char: int, **more: Any
) -> Answer:
    """Make an answer from character offsets.

    doc (Doc): The Doc.
    question (Question): What was asked.
    start_char, end_char (int): Offsets in the Doc; equal for no answer.
    **more (Any): Score, logit, null score, alternatives.
    RETURNS (Answer): With the text, span and alignment that follow.
    RAISES (ValueError): If there is no such text.
    """
    if start_char == end_char:
        return Answer(question, **more)
    span = None
    if 0 <= start_char < end_char <= len(doc.text):
        span = doc.char_span(start_char, end_char, alignment_mode="expand")
    if span is None or not len(span):  # the blank behind a token is part of none
        raise ValueError(
            Errors.E107.format(id=question.id, start=start_char, end=end_char, length=len(doc.text))
        )
    return Answer(
        question,
        text=doc.text[start_char:end_char],
        start_char=start_char,
        end_char=end_char,
        span=span,
        aligned=span.start_char == start_char and span.end_char == end_char,
        **more,
    )


# Cells of a stored answer.
Row = list[Any]


def _to_row(doc: Doc, answer: Answer) -> Row:
    if answer and answer.span is not None and answer.span.doc is not doc:
        raise ValueError(Errors.E108.format(id=answer.question.id))
    if answer.score is not None and not (math.isfinite(answer.score) and 0 <= answer.score <= 1):
        raise ValueError(Errors.E104.format(score=answer.score))
    make_answer(doc, answer.question, answer.start_char, answer.end_char)
    numbers = (answer.score, answer.logit, answer.null_score)
    return [
        int(answer.start_char),
        int(answer.end_char),
        *(None if number is None else float(number) for number in numbers),
    ]


def _from_row(doc: Doc, question: Question, row: Sequence[Any]) -> Answer:
    start, end, score, logit, null_score = row
    return make_answer(doc, question, start, end, score=score, logit=logit, null_score=null_score)


def register_qa_extensions(
    prefix: str = "", key: str = QA_KEY, *, check_only: bool = False
) -> None:
    """Register `doc._.questions` and `doc._.answers`; nothing foreign is ever overwritten.

    prefix (str): Put before the extensions' names.
    key (str): The span group behind them.
    check_only (bool): Only look whether the names are free or ours.
    RAISES (ValueError): If other code, or a component with another key, owns a name.
    """
    register(
        [
            (
                Doc,
                f"{prefix}questions",
                partial(get_questions, key=key),
                partial(set_questions, key=key),
            ),
            (
                Doc,
                f"{prefix}answers",
                partial(get_answers, key=key),
                partial(set_answers, key=key),
            ),
        ],
        check_only=check_only,
    )


def reference_answers(answer: Answer) -> tuple[Answer, ...]:
    """Return the right answers that a gold answer stands for.

    answer (Answer): From the gold Doc. If it was predicted once (it has a score), then its
        alternatives are no right answers.
    RETURNS (tuple[Answer, ...]): Itself and its alternatives; () if it says that there is none.
    """
    if not answer:
        return ()
    others = answer.alternatives if answer.score is None else ()
    return (answer, *(other for other in others if other))


def plausible_answers(answer: Answer) -> tuple[Answer, ...]:
    """Return what gold annotation offers as plausible, but wrong, where there is no answer.

    answer (Answer): From the gold Doc.
    RETURNS (tuple[Answer, ...]): The alternatives of "no answer"; () if there is an answer, or if
        it was predicted.
    """
    if answer or answer.score is not None:
        return ()
    return tuple(other for other in answer.alternatives if other and other.score is None)


def best_answer(answer: Answer) -> Answer | None:
    """Return the best predicted answer, "no answer" set aside; None if there is no other."""
    return next((part for part in (answer, *answer.alternatives) if part), None)


def null_difference(answer: Answer) -> float | None:
    """Return null score - logit of the best answer other than "no answer".

    answer (Answer): As predicted.
    RETURNS (float | None): Infinity if there is no such answer; None if there are no scores (gold).
    """
    best = best_answer(answer)
    if best is None:
        return math.inf
    if answer.null_score is None or best.logit is None:
        return None
    return answer.null_score - best.logit
