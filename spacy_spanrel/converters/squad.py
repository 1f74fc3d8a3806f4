"""SQuAD's JSON, versions 1.1 and 2.0, in any language: to gold Docs and back.

The questions of a gold Doc and their reference answers are in ``doc.spans["qa"]``, written by
``annotations.set_answers``. An answer without text says that the question has none. The title of the
article, if there is one, is in the group's ``attrs["title"]``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc

from ..annotations import (
    QA_KEY,
    Answer,
    Question,
    get_answers,
    get_questions,
    make_answer,
    set_answers,
)
from ..annotations.answers import null_difference, plausible_answers, reference_answers
from ..errors import Errors
from ..reading import ErrorHandler, JsonValue, Place, raise_error, read_json, short
from .common import DocMaker
from .report import ConversionReport, Finding

TITLE_ATTR = "title"
_EMPTY = "answers without text, left out"


def squad_to_docs(
    path: str | Path,
    *,
    nlp: Language | None = None,
    on_error: ErrorHandler = raise_error,
    report: ConversionReport | None = None,
) -> Iterator[Doc]:
    """Read a file of SQuAD's JSON, one Doc per paragraph with all its questions.

    Offsets count characters. Version 2.0 has questions without an answer; version 1.1 has no
    `is_impossible`. Sample::

        {"version": "v2.0",
         "data": [{"title": "Oslo",
                   "paragraphs": [{"context": "Ann Lee lives in Oslo.",
                                   "qas": [{"id": "a7", "question": "Who lives in Oslo?",
                                            "answers": [{"text": "Ann Lee", "answer_start": 0}],
                                            "is_impossible": false},
                                           {"id": "a8", "question": "Who lives in Rome?",
                                            "answers": [], "is_impossible": true}]}]}]}

    - The text of a paragraph is not changed: `doc.text == context`.
    - Blanks around an answer are cut off. If an answer is not at its offset, the occurrence nearest
      to the offset is taken. An answer that does not occur is left out, and its question then needs
      another one. Answers without text are left out. The report lists all of these with the ids of
      their questions.
    - An answer may begin or end inside a token: answers are stored by characters.
    - The `plausible_answers` of a question without an answer are read in the same way and become its
      alternatives.

    path (str | Path): The file.
    nlp, on_error, report: As in `common.DocMaker`.
        A bad question is skipped alone; a paragraph only if it is bad as a whole.
    YIELDS (Doc): The Docs. A paragraph that never had questions is kept; one that lost all is not.
    RAISES (ConversionError): If the file is bad or, with the default `on_error`, a question in it.
    """
    maker = DocMaker(nlp, None, on_error, report)
    data = read_json(path)
    version = data.at("top level").get("version")
    is_version_2 = version is not None and _is_version_2(version.raw)
    if not data["data"].as_list():
        raise data.error(Errors.E609, found="no article in data", expected="articles")

    def to_doc(paragraph: JsonValue) -> Doc | None:
        return _read_paragraph(paragraph, is_version_2, maker)

    for title, paragraphs in maker.each(data["data"], _read_article):
        for doc in maker.each(paragraphs, to_doc):
            if title:
                doc.spans[QA_KEY].attrs[TITLE_ATTR] = title
            yield doc


def _is_version_2(version: object) -> bool:
    """Whether questions may have no answer: "v2.0", "2.0", 2.0."""
    return str(version).lower().removeprefix("v").startswith("2")


def _read_article(article: JsonValue) -> tuple[str, list[JsonValue]]:
    """Return the title of an article, "" if it has none, and its paragraphs."""
    title = article.get("title")
    return "" if title is None else title.as_str(), list(article["paragraphs"])


def _read_paragraph(paragraph: JsonValue, is_version_2: bool, maker: DocMaker) -> Doc | None:
    """Make a Doc and count it; None if all questions were bad and `on_error` did not raise."""
    context = paragraph["context"]
    doc = maker.tokenize(context.as_name(), context, counted="answers")
    answers: dict[str, Answer] = {}

    def read(item: JsonValue) -> _Reading:
        reading = _read_question(item, doc, context.raw, is_version_2)
        id = reading.answer.question.id
        if id in answers:
            raise reading.record["id"].error(
                Errors.E614, found=f"{id!r} again", expected="different ids within a paragraph"
            )
        return reading

    for reading in maker.each(paragraph["qas"], read):
        answers[reading.answer.question.id] = reading.answer
        _count(reading, maker.report)
    has_questions = bool(paragraph["qas"].raw)
    if has_questions and not answers:
        return None
    set_answers(doc, answers.values())
    maker.report.docs += 1
    maker.report.tokens += len(doc)
    maker.report.docs_without_questions += not has_questions
    return doc


@dataclass
class _Reading:
    """A question as it was read, and what was done to its answers.

    record (JsonValue): The question in the file.
    answer (Answer): The question with its reference answers.
    notes (Counter[str]): Answers that were changed or left out, for the report.
    repaired, lost (list[str]): Answers found elsewhere than stated, or nowhere.
    """

    record: JsonValue
    answer: Answer
    notes: Counter[str] = field(default_factory=Counter)
    repaired: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def _read_question(item: JsonValue, doc: Doc, context: str, is_version_2: bool) -> _Reading:
    if item["id"].as_id() is None:
        raise item["id"].wrong_kind("a string that is not empty")
    id = str(item["id"].raw)
    item = JsonValue(item.raw, replace(item.place, id=id))
    question = Question(id, item["question"].as_name())
    flag = item.get("is_impossible")
    impossible = None if flag is None else flag.as_bool()
    # A question without an answer need not have a list of them.
    items = list(item["answers"]) if not impossible or "answers" in item.raw else []
    reading = _Reading(item, Answer(question))

    def read(values: list[JsonValue], reading: _Reading) -> list[Answer]:
        found = (_read_answer(value, question, doc, context, reading) for value in values)
        return [answer for answer in found if answer is not None]

    answers = read(items, reading)
    if impossible or (impossible is None and is_version_2 and not items):
        if len(items) > reading.notes[_EMPTY]:
            raise item.error(
                Errors.E615,
                found=f"is_impossible true and {len(items)} answer(s)",
                expected="no answers to a question that has none",
            )
        # Plausible answers become alternatives, and are counted apart if they do not occur.
        apart = _Reading(item, reading.answer)
        plausible = list(item.get("plausible_answers") or ())
        found = read(plausible, apart)
        reading.answer = replace(reading.answer, alternatives=tuple(found))
        reading.notes["plausible answers to questions without an answer"] = len(found)
        note = "plausible answers that are not in the text, left out"
        reading.notes[note] = len(plausible) - len(found)
        return reading
    if not items:
        raise item.error(
            Errors.E615,
            found="no answers" + ("" if impossible is None else " and is_impossible false"),
            expected="an answer, or is_impossible true",
        )
    if not answers:
        raise item.error(
            Errors.E616,
            found="; ".join(reading.lost) or f"{len(items)} answer(s) without text",
            expected=f"a part of the context {short(context)}",
        )
    reading.answer = replace(answers[0], alternatives=tuple(answers[1:]))
    return reading


def _read_answer(
    item: JsonValue, question: Question, doc: Doc, context: str, reading: _Reading
) -> Answer | None:
    """Return an answer at its place in the text; None if it is left out, which `reading` notes."""
    quote, offset = item["text"].as_str(), item["answer_start"].as_int()
    text = quote.strip()
    if not text:
        reading.notes[_EMPTY] += 1
        return None
    reading.notes["answers with blanks around them, cut off"] += text != quote
    stated = offset + len(quote) - len(quote.lstrip())
    start = _nearest(context, text, stated)
    if start is None:
        reading.lost.append(f"{short(text)} at {offset}")
        return None
    if start != stated:
        reading.repaired.append(f"{short(text)} at {start} instead of {stated}")
    return make_answer(doc, question, start, start + len(text))


def _nearest(text: str, quote: str, offset: int) -> int | None:
    """Return the occurrence of a quote that is nearest to the offset; of two the earlier one."""
    offset = min(max(offset, 0), len(text))
    before = text.rfind(quote, 0, offset + len(quote))
    after = text.find(quote, offset)
    starts = [start for start in (before, after) if start >= 0]
    return min(starts, key=lambda start: abs(start - offset), default=None)


def _count(reading: _Reading, report: ConversionReport) -> None:
    references = reference_answers(reading.answer)
    id = reading.answer.question.id
    report.add_id(id)
    report.questions += 1
    report.unanswerable += not references
    report.answers += len(references)
    report.misaligned_answers += sum(not answer.aligned for answer in references)
    report.repaired_answers.extend(Finding(id, text) for text in reading.repaired)
    report.lost_answers.extend(Finding(id, text) for text in reading.lost)
    report.notes += reading.notes  # of a Counter, this drops zeros


# Back to JSON


def docs_to_squad(
    docs: Iterable[Doc],
    version: str = "v2.0",
    title: str = "",
    *,
    key: str = QA_KEY,
    source: str = "docs",
) -> dict[str, Any]:
    """Make SQuAD's JSON of gold Docs, which `squad_to_docs` reads.

    docs (Iterable[Doc]): Each Doc becomes a paragraph. Neighbours with the same title become one
        article. Predicted answers count as gold, but their alternatives do not. Ids are written as
        they are, even if two Docs have the same.
    version (str): "v2.0", or "1.1" for data whose questions all have answers.
    title (str): The title for Docs without one.
    key (str): Span group of questions and answers.
    source (str): The name of the Docs in errors, such as that of their file.
    RETURNS (dict[str, Any]): Data for `json.dumps`.
    RAISES (ConversionError): If it is not known whether a question has an answer, or if it has none
        and the version is 1.1.
    """
    is_version_2 = _is_version_2(version)
    paragraphs = []
    for number, doc in enumerate(docs):
        answers = _all_answers(doc, key, Place(source, f"Doc {number}"))
        own_title = doc.spans[key].attrs.get(TITLE_ATTR) if key in doc.spans else None
        if not isinstance(own_title, str):  # other code may have written the group
            own_title = title
        questions = []
        for answer in answers:
            references = reference_answers(answer)
            row: dict[str, Any] = {
                "question": answer.question.text,
                "id": answer.question.id,
                "answers": [_to_json(reference) for reference in references],
            }
            if is_version_2:
                row["is_impossible"] = not references
                plausible = plausible_answers(answer)
                if plausible:
                    row["plausible_answers"] = [_to_json(other) for other in plausible]
            elif not references:
                raise Place(source, f"Doc {number}", answer.question.id).error(
                    Errors.E615,
                    found="a question without an answer",
                    expected=f"an answer to each question in version {version}",
                )
            questions.append(row)
        paragraphs.append((own_title, {"context": doc.text, "qas": questions}))
    return {
        "version": version,
        "data": [
            {"title": name, "paragraphs": [paragraph for _, paragraph in group]}
            for name, group in groupby(paragraphs, key=lambda pair: pair[0])
        ],
    }


def _to_json(answer: Answer) -> dict[str, Any]:
    return {"text": answer.text, "answer_start": answer.start_char}


def answers_to_predictions(
    docs: Iterable[Doc], *, key: str = QA_KEY, source: str = "docs"
) -> tuple[dict[str, str], dict[str, float]]:
    """Make the content of the two files that the official SQuAD 2.0 script reads.

    docs (Iterable[Doc]): Predicted Docs, with answers to all their questions.
    key (str): Span group of questions and answers.
    source (str): The name of the Docs in errors, such as that of their file.
    RETURNS (tuple[dict[str, str], dict[str, float]]): By the ids of the questions, the answers ("" for
        no answer), and the null score minus the logit of the best other answer (infinity if there is
        none).
    RAISES (ConversionError): If two questions have the same id, or a question has no answer or its
        answer no scores.
    """
    predictions: dict[str, str] = {}
    null_odds: dict[str, float] = {}
    for number, doc in enumerate(docs):
        for answer in _all_answers(doc, key, Place(source, f"Doc {number}")):
            name = answer.question.id
            place = Place(source, f"Doc {number}", name)
            if name in predictions:
                raise place.error(
                    Errors.E614, found=f"{name!r} again", expected="different ids in all Docs"
                )
            difference = null_difference(answer)
            if difference is None:
                raise place.error(
                    Errors.E618,
                    found="an answer without scores (gold?)",
                    expected="answers that a component predicted",
                )
            predictions[name], null_odds[name] = answer.text, difference
    return predictions, null_odds


def _all_answers(doc: Doc, key: str, place: Place) -> tuple[Answer, ...]:
    """Return the answers to all questions of a Doc; a ConversionError if some have none."""
    answers = get_answers(doc, key)
    answered = {answer.question.id for answer in answers}
    unanswered = [
        question.id for question in get_questions(doc, key) if question.id not in answered
    ]
    if unanswered:
        raise place.error(
            Errors.E618,
            found="questions that were not answered: " + ", ".join(unanswered),
            expected="for each an answer, or the statement that there is none",
        )
    return answers
