from __future__ import annotations

import copy
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc

from spacy_spanrel import Answer, Question, get_answers, get_questions, set_answers, set_questions
from spacy_spanrel.annotations import make_answer
from spacy_spanrel.annotations.answers import plausible_answers, reference_answers
from spacy_spanrel.converters import (
    ConversionError,
    answers_to_predictions,
    docs_to_squad,
    squad_to_docs,
)
from spacy_spanrel.converters.squad import _nearest

NLP = spacy.blank("en")
CONTEXT = "Ann Lee lives in Oslo. In 1990, Ann left Oslo-West for good."
QUESTION = {
    "question": "Who lives in Oslo?",
    "id": "a1",
    "answers": [{"text": "Ann Lee", "answer_start": 0}, {"text": "Ann", "answer_start": 32}],
    "is_impossible": False,
}
IMPOSSIBLE = {"question": "Who lives in Rome?", "id": "a2", "answers": [], "is_impossible": True}


def squad(*questions: Any, context: Any = CONTEXT, version: Any = "v2.0") -> dict[str, Any]:
    """One article of one paragraph."""
    paragraph = {"context": context, "qas": list(questions)}
    return {"version": version, "data": [{"title": "Oslo", "paragraphs": [paragraph]}]}


def changed(base: dict[str, Any] = QUESTION, /, **fields: Any) -> dict[str, Any]:
    found = {**copy.deepcopy(base), **fields}
    return {key: value for key, value in found.items() if value is not ...}


def answered(text: str, start: Any, **fields: Any) -> dict[str, Any]:
    return changed(answers=[{"text": text, "answer_start": start}], **fields)


def rows(answer: Answer) -> list[tuple[str, int]]:
    return [(part.text, part.start_char) for part in (answer, *answer.alternatives) if part]


def test_sample_survives_default_docbin(write, reload, nlp, report):
    data = squad(QUESTION, IMPOSSIBLE)
    (doc,) = reload(squad_to_docs(write(data), nlp=nlp, report=report))
    assert doc.text == CONTEXT
    assert get_questions(doc) == (
        Question("a1", "Who lives in Oslo?"),
        Question("a2", "Who lives in Rome?"),
    )
    first, second = get_answers(doc)
    assert rows(first) == [("Ann Lee", 0), ("Ann", 32)]
    assert (first.score, first.aligned, first.span.text) == (None, True, "Ann Lee")
    assert not second
    assert second.alternatives == ()
    assert doc._.answers == (first, second)
    assert doc.spans["qa"].attrs["title"] == "Oslo"
    assert docs_to_squad([doc]) == data
    counts = (report.docs, report.tokens, report.questions, report.unanswerable, report.answers)
    assert counts == (1, len(doc), 2, 1, 2)
    assert not report.notes
    assert not report.skipped


@pytest.mark.parametrize("name", ["en-v2-dev", "es-v2-dev", "xquad.en", "xquad.es"])
def test_round_trip_of_real_data(shared_dir, reload, name, report):
    path = shared_dir / "data" / "squad" / f"{name}.json"
    docs = list(squad_to_docs(path, nlp=NLP, report=report))
    data = json.loads(path.read_text("utf-8"))
    paragraphs = [p for article in data["data"] for p in article["paragraphs"]]
    assert [doc.text for doc in docs] == [p["context"] for p in paragraphs]
    questions = [question for p in paragraphs for question in p["qas"]]
    assert report.questions == len(questions)
    # SQuAD-es has answers without text, and some with blanks behind.
    wanted = [
        (
            question["id"],
            question["question"],
            [
                (a["text"].strip(), a["answer_start"])
                for a in question["answers"]
                if a["text"].strip()
            ],
        )
        for question in questions
    ]
    again = docs_to_squad(reload(docs), data["version"])
    assert again["version"] == data["version"]
    assert [article["title"] for article in again["data"]] == [a["title"] for a in data["data"]]
    found = [
        (q["id"], q["question"], [(a["text"], a["answer_start"]) for a in q["answers"]])
        for article in again["data"]
        for p in article["paragraphs"]
        for q in p["qas"]
    ]
    assert found == wanted
    empty = sum(not a["text"].strip() for q in questions for a in q["answers"])
    assert report.notes["answers without text, left out"] == empty
    assert report.answers == sum(len(answers) for _, _, answers in wanted)
    assert not report.lost_answers
    assert not report.repaired_answers
    if name == "es-v2-dev":
        assert (report.questions, report.unanswerable) == (782, 328)
        assert report.misaligned_answers > 0


@pytest.mark.parametrize("version", ["1.1", "v1.1", None, "chosen by hand"])
def test_version_1(write, version):
    data = squad(changed(is_impossible=...), version=version)
    (doc,) = squad_to_docs(write(data))
    assert [len(rows(answer)) for answer in get_answers(doc)] == [2]
    assert docs_to_squad([doc], "1.1")["data"] == data["data"]


@pytest.mark.parametrize("version", ["v2.0", "2.0", 2.0, 2, "V2"])
def test_version_2_without_is_impossible(write, version):
    data = squad(changed(IMPOSSIBLE, is_impossible=...), version=version)
    (doc,) = squad_to_docs(write(data))
    assert [bool(answer) for answer in get_answers(doc)] == [False]


@pytest.mark.parametrize(
    "question",
    [
        changed(IMPOSSIBLE, answers=...),
        changed(IMPOSSIBLE, answers=[{"text": "", "answer_start": -1}]),
    ],
    ids=["no answers", "an empty answer"],
)
def test_forms_of_no_answer(write, question):
    (doc,) = squad_to_docs(write(squad(question)))
    (answer,) = get_answers(doc)
    assert not answer
    assert not answer.alternatives


def test_plausible_answers(write, report):
    """They come near to an answer, and are none."""
    given = [{"text": "Ann", "answer_start": 0}, {"text": "Bergen", "answer_start": 3}]
    data = squad(changed(IMPOSSIBLE, plausible_answers=given))
    (doc,) = squad_to_docs(write(data), report=report)
    (answer,) = get_answers(doc)
    assert not answer
    assert [part.text for part in answer.alternatives] == ["Ann"]
    assert reference_answers(answer) == ()
    assert plausible_answers(answer) == answer.alternatives
    assert report.answers == 0
    assert not report.lost_answers
    assert report.notes["plausible answers that are not in the text, left out"] == 1
    given.pop()
    assert docs_to_squad([doc])["data"] == data["data"]


@pytest.mark.parametrize("given", ["7", 7])
def test_ids_are_strings(write, given):
    (doc,) = squad_to_docs(write(squad(changed(id=given))))
    assert get_questions(doc)[0].id == "7"


@pytest.mark.parametrize(
    ("text", "start", "found", "trimmed", "repaired"),
    [
        ("Oslo", 17, 17, 0, []),
        (" Oslo\n", 16, 17, 1, []),  # datasets #2586
        ("Oslo", 20, 17, 0, ["'Oslo' at 17 instead of 20"]),
        ("Oslo", 38, 41, 0, ["'Oslo' at 41 instead of 38"]),
        ("Oslo", 29, 17, 0, ["'Oslo' at 17 instead of 29"]),  # both as near: the earlier one
        ("Oslo", -1, 17, 0, ["'Oslo' at 17 instead of -1"]),
        ("Oslo", 10**30, 41, 0, [f"'Oslo' at 41 instead of {10**30}"]),
        ("Oslo ", 17, 17, 1, []),
        (" Oslo", 17, 17, 1, ["'Oslo' at 17 instead of 18"]),
    ],
)
def test_repair(write, text, start, found, trimmed, repaired, report):
    (doc,) = squad_to_docs(write(squad(answered(text, start))), report=report)
    (answer,) = get_answers(doc)
    assert rows(answer) == [("Oslo", found)]
    assert report.notes["answers with blanks around them, cut off"] == trimmed
    assert [(f.record, f.text) for f in report.repaired_answers] == [("a1", t) for t in repaired]
    assert not report.lost_answers


@given(st.text("ab ", max_size=20), st.text("ab", min_size=1, max_size=3), st.integers(-5, 25))
def test_nearest_occurrence(text, part, offset):
    starts = [i for i in range(len(text)) if text.startswith(part, i)]
    found = _nearest(text, part, offset)
    if not starts:
        assert found is None
    else:
        clamped = min(max(offset, 0), len(text))
        assert found == min(starts, key=lambda start: (abs(start - clamped), start))


def test_lost_reference_is_left_out_and_listed(write, report):
    question = changed()
    question["answers"].insert(0, {"text": "Bo", "answer_start": 3})
    (doc,) = squad_to_docs(write(squad(question)), report=report)
    assert rows(get_answers(doc)[0]) == [("Ann Lee", 0), ("Ann", 32)]
    assert [(f.record, f.text) for f in report.lost_answers] == [("a1", "'Bo' at 3")]
    assert report.answers == 2


def test_answers_inside_tokens_are_kept_and_counted(write, reload, report):
    question = answered("West", CONTEXT.index("West"), id=1)
    other = answered("slo", 18, id=2)
    (doc,) = reload(squad_to_docs(write(squad(question, other)), report=report))
    first, second = get_answers(doc)
    assert (first.text, first.aligned) == ("West", True)
    assert (second.text, second.aligned, second.span.text) == ("slo", False, "Oslo")
    assert report.misaligned_answers == 1


@pytest.mark.parametrize(
    ("question", "code", "place", "found", "expected"),
    [
        (changed(id=...), "605", "qas[1]", "'question'", "'id'"),
        (changed(id=""), "604", "qas[1], id", "''", "not empty"),
        (changed(id=None), "604", "qas[1], id", "None", "not empty"),
        (changed(id=[1]), "604", "qas[1], id", "[1]", "a string or an integer"),
        (changed(question=" "), "604", "qas[1], question", "' '", "not empty"),
        (changed(question=...), "605", "qas[1]", "'id'", "'question'"),
        (changed(question="\ud800"), "604", "qas[1], question", "ud800", "surrogates"),
        (changed(answers=...), "605", "qas[1]", "'is_impossible'", "'answers'"),
        (changed(answers={}), "604", "qas[1], answers", "{}", "a list"),
        (changed(answers=[]), "615", "qas[1]", "is_impossible false", "is_impossible true"),
        (changed(is_impossible=True), "615", "qas[1]", "2 answer(s)", "no answers"),
        (changed(is_impossible="no"), "604", "qas[1], is_impossible", "'no'", "true or false"),
        (changed(answers=["Ann"]), "604", "qas[1], answers[0]", "'Ann'", "an object"),
        (answered(None, 0), "604", "qas[1], answers[0], text", "None", "a string"),
        (answered("Ann", None), "604", "answers[0], answer_start", "None", "an integer"),
        (answered("Ann", "0"), "604", "answers[0], answer_start", "'0'", "an integer"),
        (changed(answers=[{"text": "Ann"}]), "605", "answers[0]", "'text'", "'answer_start'"),
        (answered("Bo", 3), "616", "qas[1]", "'Bo' at 3", "'Ann Lee lives"),
        (answered(" ", 3), "616", "qas[1]", "1 answer(s) without text", "'Ann Lee lives"),
        (changed(IMPOSSIBLE, id="good"), "614", "qas[1], id", "'good' again", "different ids"),
        (7, "604", "qas[1]", "7", "an object"),
    ],
)
def test_bad_questions(write, assert_skipped, nlp, question, code, place, found, expected):
    good = changed(id="good")
    path = write(squad(good, question))
    place = f"data[0], paragraphs[0], {place}" if place.startswith("qas") else place
    error, (doc,), report = assert_skipped(
        squad_to_docs, path, code, place, found, expected, nlp=nlp
    )
    wanted_id = question.get("id") if isinstance(question, dict) else None
    if error.place != "data[0], paragraphs[0], qas[1], id" or code == "614":
        assert error.id == (wanted_id or None)
    assert [q.id for q in get_questions(doc)] == ["good"]
    assert (report.questions, report.answers, report.duplicate_ids) == (1, 2, 0)


@pytest.mark.parametrize("version", ["1.1", None])
def test_version_1_needs_answers(write, assert_fails, version):
    data = squad(changed(IMPOSSIBLE, is_impossible=...), version=version)
    assert_fails(squad_to_docs, write(data), "615", "no answers", "(id 'a2')")


@pytest.mark.parametrize(
    ("change", "code", "parts"),
    [
        ({"context": ""}, "604", ["paragraphs[1], context", "''", "not empty"]),
        ({"context": " \n"}, "604", ["paragraphs[1], context"]),
        ({"context": ...}, "605", ["paragraphs[1]", "'qas'", "'context'"]),
        ({"qas": ...}, "605", ["paragraphs[1]", "'context'", "'qas'"]),
        ({"qas": {}}, "604", ["paragraphs[1], qas", "a list"]),
        ({"context": "x" * 1_000_001}, "617", ["paragraphs[1], context", "E088"]),
    ],
)
def test_bad_paragraphs(write, assert_skipped, nlp, change, code, parts):
    data = squad(QUESTION)
    paragraphs = data["data"][0]["paragraphs"]
    bad = {**paragraphs[0], **change}
    paragraphs.append({key: value for key, value in bad.items() if value is not ...})
    path = write(data)
    _, docs, _ = assert_skipped(squad_to_docs, path, code, *parts, nlp=nlp)
    assert len(docs) == 1


@pytest.mark.parametrize(
    ("article", "code", "parts"),
    [
        ({"title": "x"}, "605", ["data[1]", "'paragraphs'"]),
        ({"paragraphs": 1}, "604", ["data[1], paragraphs"]),
        ({"title": 1, "paragraphs": []}, "604", ["data[1], title"]),
        ([], "604", ["data[1]", "an object"]),
    ],
)
def test_bad_articles(write, assert_skipped, article, code, parts):
    data = squad(QUESTION)
    data["data"].append(article)
    path = write(data)
    _, docs, _ = assert_skipped(squad_to_docs, path, code, *parts)
    assert len(docs) == 1


@pytest.mark.parametrize(
    ("content", "code", "part"),
    [
        ("[]", "604", "top level"),
        ("{}", "605", "'data'"),
        ('{"data": 1}', "604", "a list"),
        ('{"data": []}', "609", "no article"),
    ],
)
def test_bad_files(write, assert_fails, content, code, part):
    # These are never skipped.
    assert_fails(squad_to_docs, write(content), code, part, on_error=lambda error: None)


def test_tokenizer_must_keep_the_text(write, assert_fails):
    nlp = spacy.blank("en")
    nlp.tokenizer = lambda text: Doc(nlp.vocab, words=text.split())
    context = "Ann  Lee"
    path = write(squad(answered("Lee", 5), context=context))
    assert_fails(squad_to_docs, path, "617", "'Ann Lee '", "'Ann  Lee'", nlp=nlp)


def test_paragraphs_without_questions_are_kept(write, reload, report):
    (doc,) = reload(squad_to_docs(write(squad()), report=report))
    assert (report.docs, report.questions, report.docs_without_questions) == (1, 0, 1)
    assert get_answers(doc) == ()
    assert docs_to_squad([doc]) == squad()
    # Unlike those whose questions were all bad.
    path = write(squad(answered("Bo", 0)))
    assert list(squad_to_docs(path, on_error=lambda error: None, report=report)) == []
    assert (report.docs, len(report.skipped)) == (1, 1)


def test_titles_group_paragraphs(write):
    data = squad(QUESTION)
    article = data["data"][0]
    article["paragraphs"] *= 2
    data["data"].append({"paragraphs": article["paragraphs"][:1]})
    data["data"].append({**article, "title": "Rome"})
    docs = list(squad_to_docs(write(data)))
    found = docs_to_squad(docs, title="(none)")["data"]
    assert [(a["title"], len(a["paragraphs"])) for a in found] == [
        ("Oslo", 2),
        ("(none)", 1),
        ("Rome", 2),
    ]


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=30), st.data())
def test_any_text_keeps_its_answers(text, data):
    # Right to left, emoji, combining characters, control characters, odd blanks.
    text = f"x{text}"
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    answer = text[start:end]
    if not answer.strip():
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.json"
        path.write_text(json.dumps(squad(answered(answer, start), context=text)))
        (doc,) = squad_to_docs(path, nlp=NLP)
    assert doc.text == text
    (found,) = get_answers(doc)
    assert found.text == answer.strip()
    assert doc.text[found.start_char : found.end_char] == found.text
    # At the offset that the file gives.
    assert found.start_char == start + len(answer) - len(answer.lstrip())


# Back to JSON


def predicted() -> Doc:
    doc = NLP.make_doc(CONTEXT)
    scores = {"score": 0.5, "null_score": 1.0}

    def make(name: str, start: int, end: int, logit: float) -> Answer:
        return make_answer(doc, Question(name, "?"), start, end, logit=logit, **scores)

    null = Answer(Question("b", "?"), alternatives=(make("b", 0, 3, 0.5),), **scores)
    first = make("a", 0, 7, 3.0)
    first = Answer(**{**first.__dict__, "alternatives": (make("a", 17, 21, 2.0),)})
    set_answers(doc, [first, null, Answer(Question("c", "?"), score=1.0)])
    return doc


def test_predictions(reload):
    texts, null_odds = answers_to_predictions(reload([predicted()]))
    assert texts == {"a": "Ann Lee", "b": "", "c": ""}
    assert null_odds == {"a": -2.0, "b": 0.5, "c": math.inf}
    assert answers_to_predictions([]) == ({}, {})


def test_predicted_answers_as_gold():
    # The second best answer is not a right one.
    (article,) = docs_to_squad([predicted()])["data"]
    found = [(q["answers"], q["is_impossible"]) for q in article["paragraphs"][0]["qas"]]
    assert found == [([{"text": "Ann Lee", "answer_start": 0}], False), ([], True), ([], True)]


def test_docs_that_cannot_be_exported():
    asked = NLP.make_doc(CONTEXT)
    set_questions(asked, ["Who?"])
    gold = NLP.make_doc(CONTEXT)
    set_answers(gold, [make_answer(gold, Question("g", "?"), 0, 3), Answer(Question("h", "?"))])
    cases = [
        (docs_to_squad, [gold, asked], {}, ["E_SR618", "'dev.spacy', Doc 1", "q1"]),
        (docs_to_squad, [gold], {"version": "1.1"}, ["E_SR615", "Doc 0", "(id 'h')", "1.1"]),
        (answers_to_predictions, [asked], {}, ["E_SR618", "Doc 0", "q1"]),
        (answers_to_predictions, [gold], {}, ["E_SR618", "Doc 0", "(id 'g')", "scores"]),
        (answers_to_predictions, [predicted()] * 2, {}, ["E_SR614", "Doc 1", "'a' again"]),
    ]
    for function, docs, options, parts in cases:
        with pytest.raises(ConversionError) as info:
            function(docs, source="dev.spacy", **options)
        for part in (*parts, "dev.spacy", "Found", "Expected"):
            assert part in str(info.value)


def test_another_key():
    doc = NLP.make_doc(CONTEXT)
    set_answers(doc, [make_answer(doc, Question("g", "?"), 0, 3, score=1.0)], key="other")
    assert docs_to_squad([doc])["data"][0]["paragraphs"][0]["qas"] == []
    assert len(docs_to_squad([doc], key="other")["data"][0]["paragraphs"][0]["qas"]) == 1
    assert answers_to_predictions([doc]) == ({}, {})
