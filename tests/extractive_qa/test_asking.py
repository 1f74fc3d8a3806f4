"""Relations by questions: a reader's answers are matched with entities."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc, Span

from spacy_spanrel import Relation, get_questions, get_relations, set_questions
from spacy_spanrel.annotations import Question, make_answer
from spacy_spanrel.cli import pre_annotate
from spacy_spanrel.cli.pre_annotate import pre_annotate_cli
from spacy_spanrel.extractive_qa.asking import (
    RelationQuestions,
    best_relations,
    questions_about,
    read_relations,
    relations_of_answers,
)
from spacy_spanrel.reading import ConversionError
from spacy_spanrel.training.corpus import read_docs

from ..cli.util import succeed
from ..span_relation.util import ROWS
from ..util import load_script, make_doc, write_docs

NLP = spacy.blank("en")
RELATIONS = """\
works:
  head: Per
  tail: [Org, Gpe]
  questions:
    - who works for {tail} ?
lives: {tail: Loc, question: "who lives in {tail} ?"}
killed: who was killed by {head} ?
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "relations.yaml"
    path.write_text(RELATIONS)
    return path


def test_relations_are_read(file: Path) -> None:
    assert read_relations(file) == [
        RelationQuestions(
            "works", ("who works for {tail} ?",), frozenset({"Per"}), frozenset({"Org", "Gpe"})
        ),
        RelationQuestions("lives", ("who lives in {tail} ?",), frozenset(), frozenset({"Loc"})),
        RelationQuestions("killed", ("who was killed by {head} ?",)),
    ]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "(NoneType)"),
        ("{}", "no relations"),
        ("a: [", "table of relations"),
        ("- a", "(list)"),
        ("a: who works ?", "{head} or {tail}"),
        ("a: who is {head} to {tail} ?", "{head} or {tail}"),
        ("a: {head: Per}", "questions"),
        ("a: {questions: 7}", "a string"),
        ("a: {questions: []}", "at least one question"),
        ("a: {heads: Per, question: 'who {head} ?'}", "'heads'. Expected: the keys head, tail,"),
        ("'': who {head} ?", "the label of a relation"),
        ("~: who {head} ?", "the label of a relation"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "relations.yaml"
    path.write_text(text)
    with pytest.raises(ConversionError, match="relations.yaml") as info:
        read_relations(path)
    assert part in str(info.value)


def test_the_help_shows_a_file_that_can_be_read(tmp_path: Path) -> None:
    text = (pre_annotate_cli.__doc__ or "").split("\b\n")[1].split("\n\n")[0]
    path = tmp_path / "relations.yaml"
    path.write_text(dedent(text))
    (relation,) = read_relations(path)
    assert len(relation.questions) == 2


def doc_of(*entities: tuple[int, int, str]) -> Doc:
    doc = NLP.make_doc("Ann met Bo . Ann works for New Acme Inc in Oslo")
    doc.spans["entities"] = [Span(doc, a, b, label=label) for a, b, label in entities]
    return doc


DOC = ((0, 1, "Per"), (2, 3, "Per"), (4, 5, "Per"), (7, 10, "Org"), (11, 12, "Loc"))


def test_equal_names_are_asked_about_once() -> None:
    doc = doc_of(*DOC)
    relation = RelationQuestions("works", ("Who employs {head}?",), frozenset({"Per"}))
    asked = questions_about(doc, [relation])
    assert [item.question.text for item in asked] == ["Who employs Ann?", "Who employs Bo?"]
    assert [span.start for span in asked[0].mentions] == [0, 4]


def test_answers_become_relations() -> None:
    doc = doc_of(*DOC)
    relation = RelationQuestions(
        "works", ("Who employs {head}?",), frozenset({"Per"}), frozenset({"Org"})
    )
    asked = questions_about(doc, [relation])

    def answer(i: int, text: str, score: float, *others: str) -> object:
        at = doc.text.index(text) if text else 0
        more = [answer(i, other, score / 2) for other in others]
        question = asked[i].question
        return make_answer(doc, question, at, at + len(text), score=score, alternatives=tuple(more))

    unknown = make_answer(doc, Question("other", "?"), 0, 3, score=0.9)
    answers = [answer(0, "Acme Inc", 0.8, "Oslo"), answer(1, "", 0.7), unknown]
    found = list(relations_of_answers(doc, asked, answers))
    (relation_, nothing) = found
    assert nothing is None  # Oslo is no Org
    assert relation_.to_triple() == ("Ann", "works", "New Acme Inc")
    assert relation_.head.start == 4  # the nearest Ann
    assert relation_.score == 0.8
    # The best answer to a question without one counts only if doubtful ones are wanted.
    unanswered = replace(answer(1, "", 0.7), alternatives=(answer(1, "Acme Inc", 0.1),))
    assert not list(relations_of_answers(doc, asked, [unanswered]))
    (doubtful,) = relations_of_answers(doc, asked, [unanswered], doubtful=True)
    assert doubtful.to_triple() == ("Bo", "works", "New Acme Inc")
    assert doubtful.score == 0.1


def test_best_scores() -> None:
    doc = doc_of(*DOC)
    spans = list(doc.spans["entities"])
    relations = [
        Relation(spans[0], spans[3], "r", 0.4),
        Relation(spans[1], spans[3], "r", 0.2),
        Relation(spans[0], spans[3], "r", 0.6),
    ]
    assert [r.score for r in best_relations(relations, 0.3)] == [0.6]


def test_pre_annotate(trained: Language, file: Path, tmp_path: Path) -> None:
    docs = [make_doc(NLP.vocab, text, spans, [], key="entities") for text, spans, _ in ROWS]
    docs[0].spans["entities"].attrs["orig_id"] = "first"
    set_questions(docs[1], "kept ?")
    source, output = write_docs(tmp_path / "in.spacy", docs), tmp_path / "out.spacy"
    trained.get_pipe("extractive_qa").cfg["questions"] = ["who ?"]
    counts = pre_annotate(trained, source, output, questions=file)
    assert trained.get_pipe("extractive_qa").cfg["questions"] == ["who ?"]
    again = list(read_docs(output))
    triples = [[r.to_triple() for r in get_relations(doc)] for doc in again]
    assert ("John Smith", "works", "Google") in triples[0]
    assert ("Mary", "lives", "London") in triples[1]
    assert all(0 <= r.score <= 1 for doc in again for r in get_relations(doc))
    assert again[0].spans["entities"].attrs["orig_id"] == "first"
    assert [q.text for q in get_questions(again[1])] == ["kept ?"]
    assert not get_questions(again[0])
    assert counts.docs == len(docs)
    assert counts.docs_without_entities == 1
    assert counts.relations == sum(map(len, triples))
    assert counts.replaced == 0
    assert pre_annotate(trained, output, source, questions=file).replaced == counts.relations
    more = pre_annotate(trained, source, output, questions=file, doubtful=True)
    assert more.relations > counts.relations
    # Nothing reaches a threshold of 1.
    assert pre_annotate(trained, source, output, questions=file, threshold=1).relations == 0


def test_on_the_command_line(trained_path: Path, file: Path, tmp_path: Path) -> None:
    docs = [make_doc(NLP.vocab, text, spans, [], key="entities") for text, spans, _ in ROWS]
    source, output = write_docs(tmp_path / "in.spacy", docs), tmp_path / "out.spacy"
    result = succeed("pre-annotate", trained_path, source, output, "--questions", file)
    assert "relations in 5 Docs" in " ".join(result.stdout.split())
    warning = " ".join(result.stderr.split())
    assert "No entity has these types" in warning
    assert "relations.yaml: Gpe. Types of the entities: Loc, Org, Per" in warning
    tasks = tmp_path / "tasks.jsonl"
    succeed("export", "prodigy", output, tasks, "--suggestions")
    assert '"suggested"' in tasks.read_text()


def test_a_pipeline_without_a_reader(file: Path, tmp_path: Path) -> None:
    source = write_docs(tmp_path / "in.spacy", [NLP.make_doc("x")])
    with pytest.raises(ConversionError, match="extractive_qa"):
        pre_annotate(NLP, source, tmp_path / "out.spacy", questions=file)
    with pytest.raises(ConversionError, match="OUTPUT.*ends in .spacy"):
        pre_annotate(NLP, source, tmp_path / "out.jsonl", questions=file)


def test_the_demonstration_needs_a_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["without_data.py", "--reader", str(tmp_path / "none")])
    with pytest.raises(SystemExit):
        load_script("without_data").main()
    assert "`make demo` trains one" in capsys.readouterr().err
