"""Questions and answers of a Doc; only this module knows how they are stored.

They are stored in the attributes of one ``SpanGroup`` of spaCy, because these survive ``DocBin`` with
default settings, ``Doc.to_bytes`` and ``n_process`` (``Doc.from_docs`` drops them). The attributes hold
the questions, and for each question its answers with character offsets, best first. The spans of the
group are the tokens of all answers, labelled with the ids of the questions, for code that only looks at
spans.

Nothing here builds the text of the Doc, which takes time in proportion to its length: an answer costs
the same in a long Doc as in a short one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from spacy.tokens import Doc, Span, SpanGroup

from ..errors import Errors
from .extensions import Extension, register

QA_KEY = "qa"
QUESTIONS_ATTR = "questions"
ANSWERS_ATTR = "answers"

# Start, end, score, logit and null score of an answer.
StoredAnswer = list[Any]


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
    """A part of the Doc that answers a question, or "no answer", which is falsy.

    question (Question): The question.
    text (str): ``doc.text[start_char:end_char]``; "" for no answer.
    start_char, end_char (int): Character offsets in the Doc, end exclusive; 0 and 0 for no answer.
    span (Span | None): The tokens that the answer touches; None for no answer.
    aligned (bool): Whether the answer begins and ends at token boundaries.
    score (float | None): Probability from 0 to 1 among all candidates, "no answer" included; None for
        gold annotation.
    logit (float | None): Start logit + end logit; None for gold annotation and for no answer.
    null_score (float | None): Start logit + end logit of "no answer", the lowest of all windows.
    alternatives (tuple[Answer, ...]): For a predicted answer, the next best ones at other places, best
        first. For a gold answer, the other reference answers; for a gold "no answer", plausible but
        wrong answers. Alternatives have no alternatives.
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
        """Return the answer as JSON data, with character offsets (end exclusive)."""
        return {
            "answer": self.text,
            "start": self.start_char,
            "end": self.end_char,
            "score": self.score,
        }


# Questions

QuestionLike = str | Question | tuple[str, str] | Mapping[str, str]


def make_questions(items: QuestionLike | Iterable[QuestionLike]) -> tuple[Question, ...]:
    """Make questions with ids.

    items: One question (a text, a `Question`, or a table with "text" or "question" and optionally
        "id"), or several: a list of these and of pairs (id, text). Questions without an id get "q1",
        "q2", ... by their position.
    RETURNS (tuple[Question, ...]): The questions, in the same order.
    RAISES (ValueError): If two questions have the same id, or something is not a question.
    """
    if isinstance(items, (str, Question, Mapping)):
        items = [items]
    if not isinstance(items, Iterable):
        raise ValueError(Errors.E106.format(found=items))
    questions = tuple(_make_question(item, f"q{i}") for i, item in enumerate(items, start=1))
    counts = Counter(question.id for question in questions)
    if len(counts) < len(questions):
        repeated = sorted(question_id for question_id, n in counts.items() if n > 1)
        raise ValueError(Errors.E105.format(ids=", ".join(repeated)))
    return questions


def _make_question(item: Any, default_id: str) -> Question:
    if isinstance(item, Question) and isinstance(item.id, str) and isinstance(item.text, str):
        return item
    if isinstance(item, str):
        return Question(default_id, item)
    if isinstance(item, Mapping):
        text = item.get("text", item.get("question"))
        if isinstance(text, str):
            question_id = item.get("id")
            return Question(default_id if question_id is None else str(question_id), text)
    elif _is_pair_of_texts(item):
        return Question(*item)
    raise ValueError(Errors.E106.format(found=item))


def _is_pair_of_texts(item: Any) -> bool:
    return (
        isinstance(item, (tuple, list)) and len(item) == 2 and all(isinstance(x, str) for x in item)
    )


def get_questions(doc: Doc, key: str = QA_KEY) -> tuple[Question, ...]:
    """Read the questions of a Doc.

    doc (Doc): The Doc.
    key (str): The span group that holds them.
    RETURNS (tuple[Question, ...]): In the order in which they were set; () if there are none.
    """
    return tuple(question for question, _ in _read(doc, key))


def set_questions(
    doc: Doc, questions: QuestionLike | Iterable[QuestionLike], key: str = QA_KEY
) -> None:
    """Replace the questions of a Doc, and remove its answers.

    doc (Doc): The Doc.
    questions: As in `make_questions`.
    key (str): The span group to write.
    """
    stored = [[question.id, question.text] for question in make_questions(questions)]
    attrs = {QUESTIONS_ATTR: stored, ANSWERS_ATTR: [None] * len(stored)}
    doc.spans[key] = SpanGroup(doc, name=key, spans=[], attrs=attrs)


def _read(doc: Doc, key: str) -> list[tuple[Question, list[StoredAnswer] | None]]:
    """Read the stored questions and answers; none if other code wrote the group."""
    attrs = doc.spans[key].attrs if key in doc.spans else {}
    questions, answers = attrs.get(QUESTIONS_ATTR), attrs.get(ANSWERS_ATTR)
    if not isinstance(questions, (list, tuple)) or not isinstance(answers, (list, tuple)):
        return []
    if len(questions) != len(answers) or not all(map(_is_pair_of_texts, questions)):
        return []
    if not all(stored is None or _are_answers(stored) for stored in answers):
        return []
    return [(Question(*pair), stored) for pair, stored in zip(questions, answers, strict=True)]


def _are_answers(stored: Any) -> bool:
    return (
        isinstance(stored, (list, tuple))
        and len(stored) > 0
        and all(
            isinstance(cells, (list, tuple))
            and len(cells) == 5
            and all(isinstance(offset, int) for offset in cells[:2])
            and all(number is None or isinstance(number, (int, float)) for number in cells[2:])
            for cells in stored
        )
    )


# Answers


def make_answer(
    doc: Doc, question: Question, start_char: int, end_char: int, **more: Any
) -> Answer:
    """Make an answer from character offsets.

    doc (Doc): The Doc.
    question (Question): The question.
    start_char, end_char (int): Offsets in the Doc, end exclusive; equal for no answer.
    **more (Any): Score, logit, null score, alternatives.
    RETURNS (Answer): The answer, with its text, tokens and alignment.
    RAISES (ValueError): If the Doc has no such characters.
    """
    if start_char == end_char:
        return Answer(question, **more)
    span = _tokens_of(doc, question, start_char, end_char)
    # An answer may begin with the blank behind the token before its first one.
    nearby = doc[max(0, span.start - 1) : span.end]
    offset = nearby.start_char
    return Answer(
        question,
        text=nearby.text_with_ws[start_char - offset : end_char - offset],
        start_char=start_char,
        end_char=end_char,
        span=span,
        aligned=span.start_char == start_char and span.end_char == end_char,
        **more,
    )


def text_length(doc: Doc) -> int:
    """Return the number of characters of a Doc without building its text."""
    return doc[-1].idx + len(doc[-1].text_with_ws) if len(doc) else 0


def _tokens_of(doc: Doc, question: Question, start_char: int, end_char: int) -> Span:
    """Find the tokens that a range of characters touches.

    RAISES (ValueError): If the range is empty or does not lie in the Doc, or is the blank behind a
        token, which belongs to no token.
    """
    length = text_length(doc)
    if 0 <= start_char < end_char <= length:
        span = doc.char_span(start_char, end_char, alignment_mode="expand")
        if span is not None and len(span):
            return span
    raise ValueError(
        Errors.E107.format(id=question.id, start=start_char, end=end_char, length=length)
    )


def get_answers(doc: Doc, key: str = QA_KEY) -> tuple[Answer, ...]:
    """Read the answers of a Doc.

    doc (Doc): The Doc.
    key (str): The span group that holds them.
    RETURNS (tuple[Answer, ...]): One for each question that was answered, in the order of the
        questions; falsy ones for "no answer".
    """
    answers = []
    for question, stored in _read(doc, key):
        if stored is not None:
            best, *others = [
                make_answer(doc, question, start, end, score=score, logit=logit, null_score=null)
                for start, end, score, logit, null in stored
            ]
            answers.append(replace(best, alternatives=tuple(others)))
    return tuple(answers)


def set_answers(doc: Doc, answers: Iterable[Answer], key: str = QA_KEY) -> None:
    """Replace the questions and answers of a Doc.

    doc (Doc): The Doc.
    answers (Iterable[Answer]): Answers to different questions. Text, tokens and alignment are not
        stored, but follow from the offsets.
    key (str): The span group to write.
    RAISES (ValueError): If two questions have the same id, offsets do not lie in the Doc, or a score
        is not a probability; the Doc is then unchanged.
    """
    answers = list(answers)
    questions = make_questions([answer.question for answer in answers])
    spans: list[Span] = []
    stored: list[list[StoredAnswer]] = []
    for answer in answers:
        stored.append([])
        for candidate in (answer, *answer.alternatives):
            stored[-1].append(_to_stored(doc, candidate))
            start, end = stored[-1][-1][:2]
            if start != end:
                span = _tokens_of(doc, candidate.question, start, end)
                spans.append(Span(doc, span.start, span.end, label=answer.question.id))
    attrs = {QUESTIONS_ATTR: [[q.id, q.text] for q in questions], ANSWERS_ATTR: stored}
    doc.spans[key] = SpanGroup(doc, name=key, spans=spans, attrs=attrs)


def _to_stored(doc: Doc, answer: Answer) -> StoredAnswer:
    if answer.span is not None and answer.span.doc is not doc:
        raise ValueError(Errors.E108.format(id=answer.question.id))
    if answer.score is not None and not (math.isfinite(answer.score) and 0 <= answer.score <= 1):
        raise ValueError(Errors.E104.format(score=answer.score))
    numbers = (answer.score, answer.logit, answer.null_score)
    return [
        int(answer.start_char),
        int(answer.end_char),
        *(None if number is None else float(number) for number in numbers),
    ]


def join_questions(doc: Doc, parts: Iterable[tuple[Doc, int]], key: str = QA_KEY) -> None:
    """Collect the questions and answers of Docs that were joined to one.

    An id that occurs in several of the Docs gets the number of the later Doc behind it.

    doc (Doc): The joined Doc. Its group has the spans already; without questions in any of the Docs
        it stays as it is.
    parts (Iterable[tuple[Doc, int]]): The Docs, and the first token of each in the joined one.
    key (str): The span group.
    """
    questions: list[list[str]] = []
    answers: list[list[StoredAnswer] | None] = []
    ids: set[str] = set()
    for number, (part, first) in enumerate(parts, start=1):
        offset = doc[first].idx if first < len(doc) else 0
        for question, stored in _read(part, key):
            question_id = question.id
            while question_id in ids:
                question_id += f"-{number}"
            ids.add(question_id)
            questions.append([question_id, question.text])
            # "No answer" is at 0 and 0.
            answers.append(
                stored
                and [
                    [start + offset, end + offset, *numbers]
                    if end > start
                    else [start, end, *numbers]
                    for start, end, *numbers in stored
                ]
            )
    if questions:
        doc.spans[key].attrs.update({QUESTIONS_ATTR: questions, ANSWERS_ATTR: answers})


# Gold and predicted answers


def reference_answers(answer: Answer) -> tuple[Answer, ...]:
    """Return all right answers of a gold question.

    answer (Answer): From the gold Doc. If it has a score, it was predicted once and then taken as
        gold; its alternatives are then not right answers.
    RETURNS (tuple[Answer, ...]): The answer and its alternatives; () if it is "no answer".
    """
    if not answer:
        return ()
    others = answer.alternatives if answer.score is None else ()
    return (answer, *(other for other in others if other))


def plausible_answers(answer: Answer) -> tuple[Answer, ...]:
    """Return the plausible but wrong answers that gold annotation gives for an unanswerable question.

    answer (Answer): From the gold Doc.
    RETURNS (tuple[Answer, ...]): The alternatives of "no answer"; () if there is an answer, or if
        "no answer" was predicted.
    """
    if answer or answer.score is not None:
        return ()
    return tuple(other for other in answer.alternatives if other and other.score is None)


def best_answer(answer: Answer) -> Answer | None:
    """Return the best predicted answer other than "no answer"; None if there is none."""
    candidates = (answer, *answer.alternatives)
    return next((candidate for candidate in candidates if candidate), None)


def null_difference(answer: Answer) -> float | None:
    """Return the null score minus the logit of the best answer other than "no answer".

    answer (Answer): A predicted answer.
    RETURNS (float | None): Infinity if there is no such answer; None without scores (gold).
    """
    best = best_answer(answer)
    if best is None:
        return math.inf
    if answer.null_score is None or best.logit is None:
        return None
    return answer.null_score - best.logit


# Extensions


def qa_extensions(prefix: str = "", key: str = QA_KEY) -> list[Extension]:
    """Return the extensions `doc._.questions` and `doc._.answers`; arguments as below."""
    options = {"key": key}
    return [
        Extension(Doc, f"{prefix}questions", get_questions, set_questions, options),
        Extension(Doc, f"{prefix}answers", get_answers, set_answers, options),
    ]


def register_qa_extensions(prefix: str = "", key: str = QA_KEY) -> None:
    """Register `doc._.questions` and `doc._.answers`. Extensions of other code are never overwritten.

    prefix (str): Put before the names of the extensions.
    key (str): The span group that they read and write.
    RAISES (ValueError): If a name belongs to other code, or to another span group.
    """
    register(qa_extensions(prefix, key))
