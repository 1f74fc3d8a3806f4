from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.cli._util import app as spacy_app
from spacy.tokens import Doc, DocBin, Span
from typer.testing import CliRunner

from spacy_spanrel import Question, get_answers, get_questions, set_answers
from spacy_spanrel.annotations import make_answer
from spacy_spanrel.cli import make_questions
from spacy_spanrel.extractive_qa.cloze import (
    ENGLISH,
    collect_mentions,
    find_mentions,
    find_sentences,
    make_clozes,
)
from spacy_spanrel.reading import ConversionError
from spacy_spanrel.training.corpus import create_question_reader

NLP = spacy.blank("en")
TEXTS = (
    "The company was founded in Geneva by Anna Keller in 1931, and sold 40 boats in its first year. "
    "Its boats were built of oak until Keller retired. In 1968 a fire destroyed the yard at Nyon.",
    "Before the war the old harbour of Trieste was used by 300 ships a month. The engineer Luigi "
    "Bianchi drew the plans for the new one, which the city of Trieste opened in 1912.",
    "the river rises in the hills and flows past three small towns to the sea.",
)
MENTIONS = {"name": ["Lisbon", "Mary Stone"], "number": ["1877", "52"]}


def docs() -> list[Doc]:
    return [NLP.make_doc(text) for text in TEXTS]


def asked(answer: Any) -> list[str]:
    return answer.question.text.removesuffix("?").split()


@given(st.integers(0, 10_000), st.integers(0, 12))
def test_questions_are_made_of_the_text(seed: int, count: int) -> None:
    mentions = collect_mentions(docs())
    question_words = {w for part in vars(ENGLISH).values() for row in part for w in row.split()}
    for doc in docs():
        made = make_clozes(doc, count, mentions, random.Random(seed))
        assert len(made) <= count
        assert [answer.question.id for answer in made] == [f"c{i}" for i in range(len(made))]
        # Every second question has no answer.
        assert [bool(answer) for answer in made] == [i % 2 == 0 for i in range(len(made))]
        for answer in made:
            (place,) = answer.alternatives if not answer else (answer,)
            assert doc.text[place.start_char : place.end_char] == place.text
            (sentence,) = (
                doc.text[start:end]
                for start, end in find_sentences(doc)
                if start <= place.start_char and place.end_char <= end
            )
            words = {word.strip(" .,;:?") for word in sentence.split()} | question_words
            foreign = {word.strip(" .,;:?") for word in asked(answer)} - words
            if answer:
                assert not foreign
            else:
                # The text does not contain the inserted mention, though it may contain its words.
                put_in = [m for m in (*mentions["name"], *mentions["number"]) if m not in doc.text]
                assert all(any(word in m for m in put_in) for word in foreign)
        set_answers(doc, made)
        assert get_answers(doc) == tuple(made)


@given(st.text(max_size=200), st.integers(0, 100))
def test_any_text(text: str, seed: int) -> None:
    doc = NLP.make_doc(text)
    for answer in make_clozes(doc, 4, MENTIONS, random.Random(seed)):
        assert answer.question.text.endswith("?")
        set_answers(doc, [answer])


def test_a_text_with_nothing_to_ask_for() -> None:
    assert make_clozes(docs()[2], 8, MENTIONS, random.Random(1)) == []
    assert make_clozes(NLP.make_doc(""), 8, MENTIONS, random.Random(1)) == []


def test_without_an_answer_the_question_says_what_the_text_does_not() -> None:
    doc = docs()[0]
    made = make_clozes(doc, 40, MENTIONS, random.Random(3))
    without = [answer for answer in made if not answer]
    assert without
    known = re.compile("Lisbon|Mary|Stone|1877|52")
    # Words of the question are dropped at random, also those of the inserted mention.
    assert sum(bool(known.search(a.question.text)) for a in without) > 0.7 * len(without)
    assert not any(known.search(answer.question.text) for answer in made if answer)


def test_question_words_fit_the_answer() -> None:
    found: dict[str, set[str]] = {}
    for seed in range(40):
        for answer in make_clozes(docs()[0], 8, MENTIONS, random.Random(seed)):
            if answer:
                for words in vars(ENGLISH).values():
                    for word in words:
                        if word in answer.question.text:
                            found.setdefault(answer.text, set()).add(word)
    assert "when" in found["1931"]
    assert "how many" in found["40"]
    assert "who" in found["Anna Keller"]
    assert "who" not in found["1931"]


def test_annotation_is_used() -> None:
    """Entities, sentence boundaries and gold answers are used."""
    doc = docs()[2]
    doc.set_ents([Span(doc, 1, 2, "WATER"), Span(doc, 9, 12, "PLACES")])
    kinds = [(doc.text[m.start : m.end], m.kind) for m in find_mentions(doc, 0, len(doc.text))]
    assert kinds == [("river", "name"), ("three small towns", "number")]
    doc.set_ents([])
    start = doc.text.index("the hills")
    set_answers(doc, [make_answer(doc, Question("a", "where ?"), start, start + 9)])
    made = make_clozes(doc, 1, MENTIONS, random.Random(1))
    assert [answer.text for answer in made] == ["the hills"]
    # A sentence boundary after the answer: no words from the next sentence are used.
    for i, token in enumerate(doc):
        token.is_sent_start = i in (0, 8)
    assert find_sentences(doc) == [(0, 38), (39, len(doc.text))]
    for seed in range(20):
        for answer in make_clozes(doc, 1, MENTIONS, random.Random(seed)):
            assert not {"past", "three", "towns", "sea"} & set(asked(answer))


# The command


def run(*args: Any) -> Any:
    return CliRunner().invoke(spacy_app, ["spanrel", "make-questions", *map(str, args)])


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.spacy"
    DocBin(docs=docs()).to_disk(path)
    return path


def test_command(texts: Path, tmp_path: Path) -> None:
    output = tmp_path / "made" / "made.spacy"
    result = run(texts, output, "--per-text", 6)
    assert result.exit_code == 0, result.output
    assert "about 3 texts" in " ".join(result.output.split())
    assert "1 texts have nothing to ask for" in " ".join(result.output.split())
    written = list(DocBin().from_disk(output).get_docs(NLP.vocab))
    assert [doc.text for doc in written] == list(TEXTS)
    assert [len(get_questions(doc)) for doc in written[1:]] == [6, 0]
    # What `spacy train` reads.
    examples = list(create_question_reader(output)(NLP))
    assert len(examples) == sum(len(get_questions(doc)) for doc in written)
    first = output.read_bytes()
    make_questions(texts, output, per_text=6)
    assert output.read_bytes() == first
    make_questions(texts, output, per_text=6, seed=2)
    assert output.read_bytes() != first


def test_several_files(texts: Path, tmp_path: Path) -> None:
    DocBin(docs=docs()[:1]).to_disk(tmp_path / "more.spacy")
    result = run(texts, tmp_path / "more.spacy", tmp_path / "made.spacy")
    assert result.exit_code == 0, result.output
    written = DocBin().from_disk(tmp_path / "made.spacy").get_docs(NLP.vocab)
    assert [doc.text for doc in written] == [*TEXTS, TEXTS[0]]


def test_no_input_is_overwritten(texts: Path, tmp_path: Path) -> None:
    before = texts.read_bytes()
    (tmp_path / "link.spacy").symlink_to(texts)
    for output in (
        texts,
        tmp_path / "link.spacy",
        texts.parent / ".." / tmp_path.name / texts.name,
    ):
        result = run(texts, output)
        assert result.exit_code == 1
        assert "E_SR951" in result.stderr
    assert texts.read_bytes() == before


def test_no_more_than_twice_the_questions_of_people(tmp_path: Path) -> None:
    asked, other, _ = docs()
    set_answers(asked, [make_answer(asked, Question("a", "where ?"), 0, 11)])
    DocBin(docs=[asked, other]).to_disk(tmp_path / "texts.spacy")
    made = make_questions(tmp_path / "texts.spacy", tmp_path / "made.spacy", per_text=5)
    assert (made.texts, made.questions, made.unanswerable) == (2, 7, 3)


def test_other_languages(texts: Path, tmp_path: Path) -> None:
    words = {"year": ["wann"], "number": ["wie viele"], "name": ["wer"], "other": ["was"]}
    path = tmp_path / "words.json"
    path.write_text(json.dumps(words))
    result = run(texts, tmp_path / "made.spacy", "--lang", "de", "--words", path)
    assert result.exit_code == 0, result.output
    written = DocBin().from_disk(tmp_path / "made.spacy").get_docs(NLP.vocab)
    questions = [question.text for doc in written for question in get_questions(doc)]
    assert questions
    assert all(re.search("wann|wie viele|wer|was", question) for question in questions)


def test_an_output_that_no_corpus_reader_sees(texts: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"E_SR613.*made\.jsonl.*ends in \.spacy"):
        make_questions(texts, tmp_path / "made.jsonl")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["no_such.spacy", "out.spacy"], "no_such.spacy"),
        (["bad.spacy", "out.spacy"], "bad.spacy"),
        (["empty.spacy", "out.spacy"], "no Docs"),
        (["texts.spacy", "out.spacy", "--lang", "qq"], "--lang"),
        (["texts.spacy", "out.spacy", "--words", "words.json"], "year, number, name, other"),
        (["texts.spacy", "out.spacy", "--words", "list.json"], "list.json"),
        (["texts.spacy", "out.spacy", "--words", "blank.json"], "blank.json"),
    ],
)
def test_bad_input(
    texts: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], expected: str
) -> None:
    monkeypatch.chdir(texts.parent)
    Path("bad.spacy").write_bytes(b"no Docs")
    DocBin().to_disk("empty.spacy")
    Path("words.json").write_text('{"year": ["when"]}')
    Path("list.json").write_text('["when"]')
    Path("blank.json").write_text(json.dumps(dict.fromkeys(vars(ENGLISH), [" "])))
    result = run(*args)
    assert result.exit_code == 1
    assert "Nothing written to out.spacy" in result.stderr
    assert expected in result.stderr
    assert not Path("out.spacy").exists()
