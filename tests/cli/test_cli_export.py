from __future__ import annotations

import csv
import os
import re

import numpy as np
import pytest
import spacy
import srsly
from spacy.cli._util import app as spacy_app
from spacy.tokens import Doc, DocBin, Span, SpanGroup

from spacy_spanrel import (
    Answer,
    Question,
    Relation,
    get_answers,
    get_relations,
    set_answers,
    set_entities,
    set_questions,
    set_relations,
)
from spacy_spanrel.annotations import make_answer
from spacy_spanrel.cli import convert, export
from spacy_spanrel.cli.export import WRITERS, write_folder
from spacy_spanrel.converters import BratDocument, ConversionError
from spacy_spanrel.files import MARKER
from tests.cli.util import assert_fails, one_line, run, snapshot, succeed

NLP = spacy.blank("en")
TEXT = "Ann Lee lives in Oslo. Bo läuft ☂."


def part(doc: Doc, name: str, text: str, **more) -> Answer:
    start = doc.text.index(text)
    return make_answer(doc, Question(name, f"{name}?"), start, start + len(text), **more)


def combined(first: Answer, *others: Answer) -> Answer:
    return Answer(**{**first.__dict__, "alternatives": others})


def gold() -> Doc:
    doc = NLP.make_doc(TEXT)
    ann = combined(part(doc, "a", "Ann Lee"), part(doc, "a", "Ann"))
    set_answers(doc, [ann, Answer(Question("b", "b?"))])
    return doc


def predicted() -> Doc:
    doc = NLP.make_doc(TEXT)
    scores = {"score": 0.5, "null_score": 1.0}
    null = Answer(Question("b", "b?"), **scores)
    set_answers(
        doc,
        [
            part(doc, "a", "läuft ☂", logit=3.0, **scores),
            combined(null, part(doc, "b", "Bo", logit=0.5, **scores)),
            Answer(Question("c", "c?"), **scores),
        ],
    )
    return doc


@pytest.fixture
def save(tmp_path):
    def _save(*docs, name="in.spacy"):
        DocBin(docs=docs).to_disk(tmp_path / name)
        return tmp_path / name

    return _save


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


# export


def test_squad(save, folder, tmp_path):
    output = folder / "new" / "gold.json"
    source = save(gold(), gold())
    result = succeed("spanrel", "export", "squad", source, output, main=spacy_app)
    assert f"4 questions with their answers written to {output}" in " ".join(result.stdout.split())
    data = srsly.read_json(output)
    (article,) = data["data"]
    assert [p["context"] for p in article["paragraphs"]] == [TEXT, TEXT]
    assert article["paragraphs"][0]["qas"] == [
        {
            "question": "a?",
            "id": "a",
            "answers": [{"text": "Ann Lee", "answer_start": 0}, {"text": "Ann", "answer_start": 0}],
            "is_impossible": False,
        },
        {"question": "b?", "id": "b", "answers": [], "is_impossible": True},
    ]
    assert "☂" in output.read_text("utf-8")  # as it is, not escaped
    assert os.listdir(output.parent) == [output.name]
    # And back.
    convert("squad", [output], tmp_path / "again.spacy")
    docs = DocBin().from_disk(tmp_path / "again.spacy").get_docs(NLP.vocab)
    assert [get_answers(doc)[0].text for doc in docs] == ["Ann Lee", "Ann Lee"]


def test_predictions(save, folder):
    output = folder / "predictions.json"
    result = succeed("export", "squad-predictions", save(predicted()), output)
    assert srsly.read_json(output) == {"a": "läuft ☂", "b": "", "c": ""}
    odds = folder / "predictions_null_odds.json"
    # JSON has no infinity.
    assert srsly.read_json(odds) == {"a": -2.0, "b": 0.5, "c": 1e300}
    assert sorted(os.listdir(folder)) == ["predictions.json", "predictions_null_odds.json"]
    for path in (output, odds):
        assert str(path) in one_line(result.stdout)
    result = run("export", "squad-predictions", save(predicted()), output, "--quiet")
    assert (result.exit_code, result.output) == (0, "")


def test_another_key(save, folder):
    doc = predicted()
    doc.spans["other"] = doc.spans.pop("qa")
    output = folder / "x.json"
    assert_fails(run("export", "squad", save(doc), output), "doc.spans['qa']")
    assert run("export", "squad", save(doc), output, "--key", "other").exit_code == 0


def unanswered() -> Doc:
    doc = NLP.make_doc(TEXT)
    set_questions(doc, ["Who?"])
    return doc


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize(
    ("data_format", "docs", "parts"),
    [
        ("squad", [gold(), unanswered()], ["E_SR618", "in.spacy', Doc 1", "q1"]),
        ("squad", [NLP.make_doc(TEXT)], ["E_SR609", "1 Docs without questions"]),
        ("squad", [], ["E_SR609", "0 Docs without questions"]),
        ("squad-predictions", [gold()], ["E_SR618", "in.spacy', Doc 0 (id 'a')", "scores"]),
        ("squad-predictions", [predicted()] * 2, ["E_SR614", "'a' again"]),
    ],
)
def test_failure_leaves_the_output_as_it_was(save, folder, data_format, docs, parts, old):
    output = folder / "x.json"
    if old is not None:
        output.write_bytes(old)
    result = run("export", data_format, save(*docs), output)
    assert result.exit_code == 1
    assert not result.stdout
    for text in (*parts, "Nothing written", "in.spacy", "Found: ", "Expected: "):
        assert text in result.stderr
    assert "Traceback" not in result.output
    assert os.listdir(folder) == ([] if old is None else [output.name])
    assert old is None or output.read_bytes() == old


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\x00" * 50])
def test_input_that_is_no_docbin(folder, content):
    source = folder / "in.spacy"
    if content is not None:
        source.write_bytes(content)
    assert_fails(
        run("export", "squad", source, folder / "x.json"), "E_SR601", str(source), "a file of Docs"
    )
    assert not (folder / "x.json").exists()


def test_failure_while_writing_leaves_nothing(save, folder, monkeypatch):
    def fail(*args):
        raise OSError("disk full")

    source = save(predicted())
    monkeypatch.setattr(os, "replace", fail)
    assert_fails(run("export", "squad-predictions", source, folder / "x.json"), "disk full")
    assert not os.listdir(folder)


def test_wrong_arguments(save, folder):
    source = save(gold())
    with pytest.raises(ConversionError, match="E_SR613.*'FORMAT'.*'conll'.*squad-predictions"):
        export("conll", source, folder / "x.json")
    with pytest.raises(ConversionError, match="E_SR613.*'INPUT'.*one or more"):
        export("spert", [], folder / "x.json")
    for arguments in (["conll", source, folder / "x.json"], ["spert", source], ["spert"]):
        assert run("export", *arguments).exit_code == 2
    assert "conll04" in run("export", "conll", source, folder / "x.json").output
    assert not os.listdir(folder)


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
@pytest.mark.parametrize(
    ("data_format", "source", "output"),
    [
        ("squad", "x.json", "x.json"),
        ("spert", "x.json", "x.json"),
        ("squad-predictions", "x.json", "x.json"),
        ("squad-predictions", "x_null_odds.json", "x.json"),
    ],
)
def test_no_input_is_overwritten(save, folder, data_format, source, output, link):
    path = save(related(), name="in.spacy") if data_format == "spert" else save(predicted())
    if link is None:
        path = path.rename(folder / source)
    else:
        link(path, folder / source)
    before = path.read_bytes()
    assert_fails(run("export", data_format, path, folder / output), "E_SR951")
    assert path.read_bytes() == before
    assert os.listdir(folder) == [source]


def test_a_folder_that_holds_the_input_stays(save, folder):
    source = save(related()).rename(folder / "in.spacy")
    for output in (folder, folder.parent):
        assert_fails(run("export", "brat", source, output), "E_SR952")
    assert os.listdir(folder) == ["in.spacy"]


def test_a_file_is_no_folder(save, folder):
    source = save(related())
    (folder / "file").write_text("old")
    for data_format, output, text in (
        ("spert", folder, "a file"),
        ("brat", folder / "file", "folder"),
    ):
        assert_fails(run("export", data_format, source, output), "E_SR613", text)
    assert (folder / "file").read_text() == "old"
    assert os.listdir(folder) == ["file"]


# export, of relations


def related(name="d", score=0.5) -> Doc:
    doc = NLP.make_doc(TEXT)
    spans = [Span(doc, 0, 2, label="Peop"), Span(doc, 4, 5, label="Loc"), Span(doc, 6, 7, "Peop")]
    doc.spans["entities"] = SpanGroup(doc, spans=spans, attrs={"orig_id": name})
    set_relations(doc, [Relation(spans[0], spans[1], "Live_In", score)])
    return doc


def rows(output: str) -> dict[str, str]:
    """The rows of the printed table, by their text."""
    found = (re.fullmatch(r"(.*\S) +(\d+)", line) for line in output.splitlines())
    return {row[1]: row[2] for row in found if row}


def test_relations_and_what_is_lost(save, folder):
    sources = [save(related(1), related(2), name="a.spacy"), save(related(3, None), name="b.spacy")]
    output = folder / "new" / "x.json"
    result = succeed("spanrel", "export", "spert", *sources, output, main=spacy_app)
    assert not result.stderr
    text = f"3 Docs, 9 entities and 3 relations written to {output}"
    assert one_line(text) in one_line(result.stdout)
    assert rows(result.stdout) == {
        "Docs whose blanks between tokens are lost": "3",
        "Scores of relations, left out": "2",
    }
    records = srsly.read_json(output)
    assert [record["orig_id"] for record in records] == [1, 2, 3]
    assert records[0]["relations"] == [{"type": "Live_In", "head": 0, "tail": 1}]
    assert "läuft" in output.read_text("utf-8")
    assert os.listdir(output.parent) == [output.name]
    result = run("export", "spert", *sources, output, "--quiet")
    assert (result.exit_code, result.output) == (0, "")


RELATION_FORMATS = [name for name, writer in WRITERS.items() if not writer.has_questions]


@pytest.mark.parametrize("data_format", sorted({*RELATION_FORMATS} - {"ade"}))
def test_each_format_is_written_and_read(data_format, save, folder):
    source, output = save(related(), name="in.spacy"), folder / "x"
    result = succeed("export", data_format, source, output)
    text = f"1Docs,[23]entitiesand1relationswrittento{re.escape(str(output))}"
    assert re.search(text, one_line(result.stdout))
    assert os.listdir(folder) == ["x"]
    if data_format in ("csv", "triples"):
        return
    convert(data_format, [output], folder / "again.spacy")
    (doc,) = DocBin().from_disk(folder / "again.spacy").get_docs(NLP.vocab)
    ((head, label, tail),) = [relation.to_triple() for relation in get_relations(doc)]
    assert (head, label, tail) == ("Ann Lee", "Live_In", "Oslo")


def test_tables(save, folder):
    doc = NLP.make_doc('He said "a;b",\r\nthen left.')
    spans = [Span(doc, 0, 1, "Peop"), Span(doc, 2, len(doc) - 3, "Quote")]
    set_relations(doc, [Relation(*spans, "Say")])
    source = save(related("é,1", 0.25), doc)
    for data_format in ("csv", "triples"):
        result = succeed("export", data_format, source, folder / data_format)
        assert rows(result.stdout)["Docs without an id, numbered from 0"] == "1"
    lines = list(srsly.read_jsonl(folder / "triples"))
    with (folder / "csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert lines[0] == {
        "doc": "é,1",
        "head": "Ann Lee",
        "head_label": "Peop",
        "head_start": 0,
        "head_end": 7,
        "relation": "Live_In",
        "tail": "Oslo",
        "tail_label": "Loc",
        "tail_start": 17,
        "tail_end": 21,
        "score": 0.25,
    }
    assert lines[1]["doc"] == 1
    assert lines[1]["tail"] == doc.text[lines[1]["tail_start"] : lines[1]["tail_end"]]
    assert "\r\n" in lines[1]["tail"]
    assert lines[1]["score"] is None
    assert table == [
        {name: "" if value is None else str(value) for name, value in row.items()} for row in lines
    ]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_spreadsheets_run_no_cells(save, folder, start):
    doc = Doc(NLP.vocab, words=[f"{start}1+1", "x\ry"], spaces=[True, False])
    set_relations(doc, [Relation(Span(doc, 0, 1, "A"), Span(doc, 1, 2, "-B"), "=R", 0.5)])
    source, output = save(doc), folder / "x.csv"
    for options, mark in (([], "'"), (["--raw"], "")):
        succeed("export", "csv", source, output, *options)
        with output.open(encoding="utf-8", newline="") as file:
            (row,) = csv.DictReader(file)
        assert row["head"] == f"{mark}{start}1+1"
        assert (row["relation"], row["tail_label"]) == (f"{mark}=R", f"{mark}-B")
        assert (row["tail"], row["head_label"], row["score"]) == ("x\ry", "A", "0.5")
        assert b'"x\ry"' in output.read_bytes()  # line ends inside cells are quoted
    assert_fails(
        run("export", "triples", source, folder / "x.jsonl", "--raw"), "one of the formats csv"
    )


@pytest.mark.parametrize("data_format", sorted({*RELATION_FORMATS} - {"ade"}))
def test_scores_of_other_components(save, folder, data_format):
    # spaCy's spancat writes an array, others what they like.
    for scores in (np.array([0.5, 0.25, 0.1], dtype=np.float32), np.zeros((2, 2)), "high", 3):
        doc = related()
        doc.spans["entities"].attrs["scores"] = scores
        succeed("export", data_format, save(doc), folder / "x")


def test_no_relation_is_a_table_without_rows(save, folder):
    source = save(NLP.make_doc("x"))
    assert run("export", "csv", source, folder / "x.csv").exit_code == 0
    assert (folder / "x.csv").read_text().splitlines() == [
        "doc,head,head_label,head_start,head_end,relation,tail,tail_label,tail_start,tail_end,score"
    ]
    assert run("export", "triples", source, folder / "x.jsonl").exit_code == 0
    assert (folder / "x.jsonl").read_bytes() == b""


@pytest.mark.parametrize("data_format", RELATION_FORMATS)
def test_nothing_to_write(data_format, save, folder):
    empty = save(name="empty.spacy")
    assert_fails(
        run("export", data_format, empty, folder / "x"),
        "E_SR609",
        "empty.spacy",
        "0 Docs",
        "Nothing written",
    )
    assert not os.listdir(folder)


@pytest.mark.parametrize("data_format", ["ade", "kbp37", "semeval", "tacred"])
def test_no_relations_for_a_format_of_pairs(data_format, save, folder):
    (folder / "x").write_text("old")
    assert_fails(
        run("export", data_format, save(NLP.make_doc("a b")), folder / "x"),
        "E_SR609",
        "1 Docs; Docs without r",
        ": 1",
        "relations",
    )
    assert (folder / "x").read_text() == "old"
    assert os.listdir(folder) == ["x"]


def test_negatives(save, folder):
    result = succeed("export", "tacred", save(related()), folder / "x", "--negatives", "none")
    labels = [record["relation"] for record in srsly.read_json(folder / "x")]
    assert labels == ["Live_In", *["none"] * 5]
    note = "Docs with several relations, whose records get ids of their own"
    assert rows(result.stdout)[note] == "1"


def test_unit(save, folder):
    sentences = [related("key:0"), related("key:1")]
    assert run("export", "scierc", save(*sentences), folder / "x").exit_code == 0
    (document,) = srsly.read_jsonl(folder / "x")
    assert (document["doc_key"], len(document["sentences"])) == ("key", 2)
    assert document["relations"][1] == [[10, 11, 14, 14, "Live_In"]]
    whole = related("key:0")
    for token in whole:
        token.is_sent_start = token.i in (0, 6)
    result = run("export", "scierc", save(whole), folder / "x", "--unit", "document")
    assert result.exit_code == 0
    (document,) = srsly.read_jsonl(folder / "x")
    assert (document["doc_key"], [len(s) for s in document["sentences"]]) == ("key:0", [6, 4])
    assert [len(items) for items in document["ner"]] == [2, 1]


def test_other_span_groups(save, folder):
    doc = related("d")
    set_entities(doc, [Span(doc, 6, 7, "Other")], [0.5])
    doc.spans["sc"] = doc.spans["entities"]
    doc.spans["entities"] = SpanGroup(doc, spans=[doc[0:1]], attrs={"orig_id": "d"})
    set_relations(doc, [Relation(doc[6:7], doc[0:1], "R", 0.5)], key="rel")
    source, output = save(doc), folder / "x"
    keys = ["--entities-key", "sc", "--relations-key", "rel"]
    succeed("export", "spert", source, output, *keys)
    (record,) = srsly.read_json(output)
    assert [entity["type"] for entity in record["entities"]] == ["Other", "ENTITY"]
    assert record["relations"] == [{"type": "R", "head": 0, "tail": 1}]
    assert record["orig_id"] == "d"
    output.unlink()
    assert_fails(
        run("export", "spert", source, output, "--relations-key", "none"),
        "--relations-key",
        "'none'",
    )
    assert not os.listdir(folder)


@pytest.mark.parametrize(
    ("data_format", "options", "parts"),
    [
        ("spert", ["--unit", "document"], ["--unit", "'spert'", "scierc"]),
        ("spert", ["--key", "qa"], ["--key", "'spert'", "squad, squad-predictions"]),
        ("squad", ["--negatives", "x"], ["--negatives", "'squad'"]),
        ("squad", ["--entities-key", "x"], ["--entities-key", "'squad'"]),
        ("spert", ["--negatives", " "], ["--negatives", "' '"]),
    ],
)
def test_options_of_other_formats(data_format, options, parts, save, folder):
    assert_fails(
        run("export", data_format, save(related()), folder / "x", *options), "E_SR613", *parts
    )
    assert not os.listdir(folder)


def test_annotations_of_the_other_kind(save, folder):
    doc = related()
    set_answers(doc, [part(doc, "a", "Ann Lee")])
    result = run("export", "spert", save(doc), folder / "x")
    assert rows(result.stdout)["Questions, left out"] == "1"
    result = run("export", "squad", save(doc), folder / "x")
    assert rows(result.stdout) == {"Entities, left out": "3", "Relations, left out": "1"}
    result = run("export", "squad", save(predicted()), folder / "x")
    assert rows(result.stdout) == {
        "Predicted answers other than the best, left out": "1",
        "Scores of answers, left out": "3",
    }


def test_a_broken_doc_is_named(save, folder):
    doc = related()
    doc.spans["relations"] = SpanGroup(doc, spans=[doc[0:1]], attrs={"scores": [0.5]})
    for data_format in ("spert", "brat", "csv"):
        assert_fails(
            run("export", data_format, save(related(), doc), folder / "x"),
            "E_SR640",
            "in.spacy', Doc 1",
            "'relations'",
        )
        assert not os.listdir(folder)


def test_several_inputs_one_of_them_broken(save, folder):
    (folder / "broken.spacy").write_bytes(b"{}")
    inputs = [save(related()), folder / "broken.spacy"]
    for data_format in ("spert", "brat"):
        assert_fails(run("export", data_format, *inputs, folder / "x"), "E_SR601", "broken.spacy")
        assert os.listdir(folder) == ["broken.spacy"]


def test_a_folder_with_other_files_stays(save, folder):
    source = save(related("a"), related("b"))
    assert run("export", "brat", source, folder).exit_code == 0  # it is empty
    assert sorted(os.listdir(folder)) == [MARKER, "a.ann", "a.txt", "b.ann", "b.txt"]
    before = snapshot(folder)
    (folder / "a.ann").write_text("")
    assert run("export", "brat", source, folder).exit_code == 0
    assert snapshot(folder) == before
    for name in ("z.ann", "annotation.conf"):
        (folder / name).write_text("mine")
    before = snapshot(folder)
    for docs in ([related("a"), related("b")], [related("c")]):
        assert_fails(
            run("export", "brat", save(*docs), folder),
            "E_SR641",
            str(folder),
            "'annotation.conf'",
            "'z.ann'",
        )
        assert snapshot(folder) == before
    assert sorted(os.listdir(folder.parent)) == ["in.spacy", folder.name]


def test_two_records_of_one_name(tmp_path):
    record = BratDocument(name="a", text="x", ann="")
    with pytest.raises(ConversionError, match="E_SR642.*'a.txt'"):
        write_folder([record, record], tmp_path / "x")
    assert not os.listdir(tmp_path)
