"""SQuAD's JSON, versions 1.1 and 2.0, of any language: to gold Docs and back.

A gold Doc holds its questions and their reference answers in the terms of ``annotations``: in
``doc.spans["qa"]``, written by ``set_answers``. An answer without text is the gold annotation that
there is none. The title of the article, if there is one, is in the group's ``attrs["title"]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import spacy
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
from ..reading import (
    ConversionError,
    ErrorHandler,
    Place,
    expect_dict,
    expect_encodable,
    expect_id,
    expect_int,
    expect_key,
    expect_list,
    expect_name,
    raise_error,
    read_json,
    short,
    wrong_kind,
)
from .common import ConversionReport, Finding
from .tools import tokenize

TITLE_ATTR = "title"


def squad_to_docs(
    path: str | Path,
    *,
    nlp: Language | None = None,
    on_error: ErrorHandler = raise_error,
    report: ConversionReport | None = None,
) -> Iterator[Doc]:
    """Read a file of SQuAD's JSON, one Doc a paragraph with all its questions.

    Offsets count characters. Version 2.0 has questions without an answer, version 1.1 has no
    is_impossible. Sample::

        {"version": "v2.0",
         "data": [{"title": "Oslo",
                   "paragraphs": [{"context": "Ann Lee lives in Oslo.",
                                   "qas": [{"id": "a7", "question": "Who lives in Oslo?",
                                            "answers": [{"text": "Ann Lee", "answer_start": 0}],
                                            "is_impossible": false},
                                           {"id": "a8", "question": "Who lives in Rome?",
                                            "answers": [], "is_impossible": true}]}]}]}

    The paragraph is tokenized, and stays what it is: `doc.text == context`. Blanks around an answer
    are cut off. An answer that is not at its offset is looked for in the paragraph, and the
    occurrence nearest to the offset is taken; one that does not occur is left out (its question
    then needs another one). Answers without text are left out, too. All that is counted in the
    report, with the ids of the questions. The plausible_answers of a question without an answer
    are read in the same way, and become its alternatives. An answer may begin or end inside a
    token; the characters count.

    path (str | Path): The file.
    nlp (Language | None): Its tokenizer is used. Defaults to a blank English pipeline.
    on_error (Callable[[ConversionError], None]): What to do about a bad question, or a paragraph
        that is bad as a whole. If it does not raise, that is skipped. Errors that concern the whole
        file are always raised.
    report (ConversionReport | None): Is added to.
    YIELDS (Doc): The Docs. A paragraph that never had questions is kept; one that lost all is not.
    RAISES (ConversionError): If the file, or with the default `on_error` a question, is bad.
    """
    report = ConversionReport() if report is None else report
    pipeline = nlp or spacy.blank("en")
    top = Place(str(path))
    data = expect_dict(read_json(path), top.at("top level"))
    is_version_2 = _is_version_2(data.get("version"))
    articles = expect_list(expect_key(data, "data", top), top.at("data"))
    if not articles:
        raise top.error(Errors.E609, found="no article in data", expected="articles")
    for i, article in enumerate(articles):
        place = Place(str(path), f"data[{i}]")
        try:
            article = expect_dict(article, place)
            title = _optional_text(article.get("title"), place.at("title"))
            paragraphs = expect_list(
                expect_key(article, "paragraphs", place), place.at("paragraphs")
            )
        except ConversionError as error:
            report.skip(error, on_error)
            continue
        for j, paragraph in enumerate(paragraphs):
            place = Place(str(path), f"data[{i}].paragraphs[{j}]")
            try:
                doc = _read_paragraph(paragraph, pipeline, is_version_2, place, on_error, report)
            except ConversionError as error:
                report.skip(error, on_error)
                continue
            if doc is not None:
                if title:
                    doc.spans[QA_KEY].attrs[TITLE_ATTR] = title
                yield doc


def _read_paragraph(
    item: object,
    pipeline: Language,
    is_version_2: bool,
    place: Place,
    on_error: ErrorHandler,
    report: ConversionReport,
) -> Doc | None:
    """Make a Doc and count it; None if all questions were bad and `on_error` did not raise."""
    fields = expect_dict(item, place)
    context = expect_name(expect_key(fields, "context", place), place.at("context"))
    doc = tokenize(pipeline, context, place.at("context"), counted="answers")
    questions = expect_list(expect_key(fields, "qas", place), place.at("qas"))
    answers: dict[str, Answer] = {}
    for k, question in enumerate(questions):
        try:
            read = _read_question(
                question, doc, is_version_2, Place(place.file, f"{place.name}.qas[{k}]")
            )
            name = read.answer.question.id
            if name in answers:
                raise read.place.at("id").error(
                    Errors.E614,
                    found=f"{name!r} again",
                    expected="different ids within a paragraph",
                )
        except ConversionError as error:
            report.skip(error, on_error)
            continue
        answers[name] = read.answer
        _count(read, report)
    if questions and not answers:
        return None
    set_answers(doc, answers.values())
    report.docs += 1
    report.tokens += len(doc)
    report.docs_without_questions += not questions
    return doc


@dataclass
class _Read:
    """A question as it was read, and what was done to its answers."""

    place: Place
    answer: Answer
    n_trimmed: int = 0
    n_empty: int = 0
    n_implausible: int = 0
    repaired: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def _is_version_2(version: object) -> bool:
    """Whether questions may have no answer: "v2.0", "2.0", 2.0."""
    return str(version).lower().removeprefix("v").startswith("2")


def _optional_text(value: object, place: Place) -> str | None:
    if value is not None and not isinstance(value, str):
        raise wrong_kind(value, "a string", place)
    return value if value is None else expect_encodable(value, place)


def _read_question(item: object, doc: Doc, is_version_2: bool, place: Place) -> _Read:
    fields = expect_dict(item, place)
    orig_id = expect_id(expect_key(fields, "id", place), place.at("id"))
    if orig_id is None:
        raise wrong_kind(fields["id"], "a string that is not empty", place.at("id"))
    place = Place(place.file, place.name, str(orig_id))
    text = expect_name(expect_key(fields, "question", place), place.at("question"))
    impossible = fields.get("is_impossible")
    if impossible is not None and not isinstance(impossible, bool):
        raise wrong_kind(impossible, "true or false", place.at("is_impossible"))
    items = fields.get("answers", []) if impossible else expect_key(fields, "answers", place)
    items = expect_list(items, place.at("answers"))
    question = Question(str(orig_id), text)
    read = _Read(place, Answer(question))
    found = []
    for i, part in enumerate(items):
        answer = _read_answer(part, question, doc, read, place.at(f"answers[{i}]"))
        if answer is not None:
            found.append(answer)
    if impossible or (impossible is None and is_version_2 and not items):
        if len(items) > read.n_empty:
            raise place.error(
                Errors.E615,
                found=f"is_impossible true and {len(items)} answer(s)",
                expected="no answers to a question that has none",
            )
        _read_plausible(fields, doc, read)
        return read
    if not items:
        raise place.error(
            Errors.E615,
            found="no answers" + ("" if impossible is None else " and is_impossible false"),
            expected="an answer, or is_impossible true",
        )
    if not found:
        raise place.error(
            Errors.E616,
            found="; ".join(read.lost) or f"{len(items)} answer(s) without text",
            expected=f"a part of the context {short(doc.text)}",
        )
    read.answer = replace(found[0], alternatives=tuple(found[1:]))
    return read


def _read_plausible(fields: dict[str, Any], doc: Doc, read: _Read) -> None:
    """Read what comes near to an answer where there is none. What is wrong with it is counted apart:
    the question is none the worse for it."""
    name = "plausible_answers"
    question, apart = read.answer.question, _Read(read.place, read.answer)
    items = expect_list(fields.get(name) or [], read.place.at(name))
    found = [
        _read_answer(part, question, doc, apart, read.place.at(f"{name}[{i}]"))
        for i, part in enumerate(items)
    ]
    plausible = tuple(answer for answer in found if answer is not None)
    read.answer = replace(read.answer, alternatives=plausible)
    read.n_implausible = len(found) - len(plausible)


def _read_answer(
    item: object, question: Question, doc: Doc, read: _Read, place: Place
) -> Answer | None:
    """Return the answer where it is in the text; None if it is left out, and note why in `read`."""
    fields = expect_dict(item, place)
    given = expect_key(fields, "text", place)
    if not isinstance(given, str):
        raise wrong_kind(given, "a string", place.at("text"))
    offset = expect_int(expect_key(fields, "answer_start", place), place.at("answer_start"))
    text = given.strip()
    if not text:
        read.n_empty += 1
        return None
    read.n_trimmed += text != given
    stated = offset + len(given) - len(given.lstrip())
    start = _nearest(doc.text, text, stated)
    if start is None:
        read.lost.append(f"{short(text)} at {offset}")
        return None
    if start != stated:
        read.repaired.append(f"{short(text)} at {start} instead of {stated}")
    return make_answer(doc, question, start, start + len(text))


def _nearest(text: str, part: str, offset: int) -> int | None:
    """Find where a part begins, as near as possible to the offset; the earlier one of two."""
    offset = min(max(offset, 0), len(text))
    before = text.rfind(part, 0, offset + len(part))
    after = text.find(part, offset)
    starts = [start for start in (before, after) if start >= 0]
    return min(starts, key=lambda start: abs(start - offset), default=None)


def _count(read: _Read, report: ConversionReport) -> None:
    references = reference_answers(read.answer)
    report.add_id(read.answer.question.id)
    report.questions += 1
    report.unanswerable += not references
    report.answers += len(references)
    report.misaligned_answers += sum(not answer.aligned for answer in references)
    report.repaired_answers.extend(Finding(read.place.ref, text) for text in read.repaired)
    report.lost_answers.extend(Finding(read.place.ref, text) for text in read.lost)
    for note, count in (
        ("answers with blanks around them, cut off", read.n_trimmed),
        ("answers without text, left out", read.n_empty),
        ("plausible answers to questions without an answer", len(plausible_answers(read.answer))),
        ("plausible answers that are not in the text, left out", read.n_implausible),
    ):
        if count:
            report.notes[note] += count


# Back to JSON


def docs_to_squad(
    docs: Iterable[Doc],
    version: str = "v2.0",
    title: str = "",
    *,
    key: str = QA_KEY,
    source: str = "docs",
) -> dict[str, Any]:
    """Make SQuAD's JSON of gold Docs: what `squad_to_docs` reads.

    docs (Iterable[Doc]): Each becomes a paragraph. Neighbours of the same title are one article.
        Where answers were predicted, they count as gold, but their alternatives do not. Ids are
        written as they are, even if two Docs share one.
    version (str): "v2.0", or "1.1" for data whose questions all have answers.
    title (str): Of Docs that have none.
    key (str): Span group of questions and answers.
    source (str): What errors call the Docs: the file.
    RETURNS (dict[str, Any]): Ready for `json.dumps`.
    RAISES (ConversionError): If it is not known whether a question has an answer, or with version
        1.1 it has none.
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
                "answers": [_to_json(part) for part in references],
            }
            if is_version_2:
                row["is_impossible"] = not references
                plausible = plausible_answers(answer)
                if plausible:
                    row["plausible_answers"] = [_to_json(part) for part in plausible]
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
    """Make the two files that the official SQuAD 2.0 script reads, of predicted Docs.

    docs (Iterable[Doc]): With answers to all their questions.
    key (str): Span group of questions and answers.
    source (str): What errors call the Docs: the file.
    RETURNS (tuple[dict[str, str], dict[str, float]]): By the questions' ids the answers, "" for no
        answer; and null score - logit of the best other answer, infinity if there is none.
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
                    Errors.E614,
                    found=f"{name!r} again",
                    expected="different ids in all Docs",
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
    """Read the answers to all questions of a Doc, or raise the error for the ones without."""
    answers = get_answers(doc, key)
    known = {answer.question.id for answer in answers}
    unknown = [question.id for question in get_questions(doc, key) if question.id not in known]
    if unknown:
        raise place.error(
            Errors.E618,
            found="questions that were not answered: " + ", ".join(unknown),
            expected="for each an answer, or the statement that there is none",
        )
    return answers
