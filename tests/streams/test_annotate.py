from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc, DocBin

from spacy_spanrel import get_answers, get_relations, set_entities, set_relations
from spacy_spanrel.converters import ConversionError, get_orig_id
from spacy_spanrel.files import MARKER
from spacy_spanrel.streams import annotate, writers
from spacy_spanrel.streams.progress import Progress, Workplace, model_fingerprint
from spacy_spanrel.streams.storage import beside

from ..util import names, tree
from .util import (
    TEXTS,
    killed,
    numbered,
    read_docs,
    read_jsonl,
    rules,
    write_jsonl,
    write_source,
)


@pytest.fixture
def out(tmp_path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


# The output


def test_records(full_path, tmp_path, out):
    rows = [
        {"id": 7, "text": TEXTS[1], "year": 1901, "questions": ["Who was born?"]},
        {"text": "", "entities": "gold", "meta": {"a": 1}, "row": "x"},
        {"tokens": ["Mary", "in", "Berlin"], "text": "Mary in  Berlin"},
    ]
    report = annotate(full_path, write_jsonl(tmp_path / "in.jsonl", rows), out / "x.jsonl")
    first, second, third = read_jsonl(out / "x.jsonl")
    assert names(out) == ["x.jsonl"]
    # The other keys of the row stay beside the results or, if the name is taken, go under "meta".
    assert list(first) == [
        *("row", "id", "year", "questions", "text", "entities", "relations", "answers")
    ]
    assert (first["row"], first["id"], first["year"], first["text"]) == (1, 7, 1901, TEXTS[1])
    assert second == {
        **{"row": 2, "text": "", "entities": [], "relations": [], "answers": []},
        "meta": {"entities": "gold", "meta": {"a": 1}, "row": "x"},
    }
    # Entities, and relations between them, with exact offsets.
    assert [(e["text"], e["label"], e["start"], e["end"]) for e in first["entities"]] == [
        ("Mary", "Per", 0, 1),
        ("London", "Loc", 4, 5),
        ("John", "Per", 7, 8),
        ("Berlin", "Loc", 9, 10),
    ]
    doc = spacy.load(full_path)(TEXTS[1])
    assert len(first["relations"]) == len(doc._.relations) >= 4
    for found, relation in zip(first["relations"], doc._.relations, strict=True):
        expected = relation.to_dict()
        assert found["score"] == round(found["score"], 6)
        assert found["score"] == pytest.approx(expected["score"], abs=1e-5)
        assert {**found, "score": 0} == {**expected, "score": 0}
    for part in [*first["entities"], *first["answers"], first["relations"][0]["head"]]:
        assert first["text"][part["start_char"] : part["end_char"]] == part["text"]
        assert doc[part["start"] : part["end"]].text == part["text"]
    (answer,) = first["answers"]
    assert (answer["id"], answer["question"]) == ("q1", "Who was born?")
    assert answer["text"]
    assert 0 < answer["score"] <= 1
    # The text of a row with tokens is made from them; a given text is a key like any other.
    assert third["text"] == "Mary in Berlin "
    assert third["tokens"] == rows[2]["tokens"]
    assert third["meta"] == {"text": "Mary in  Berlin"}
    assert [e["start"] for e in third["entities"]] == [0, 2]
    assert (report.rows, report.annotated, report.failed, report.resumed_at) == (3, 3, 0, 0)
    assert report.entities == sum(len(r["entities"]) for r in (first, second, third))
    assert report.relations == sum(len(r["relations"]) for r in (first, second, third))
    assert report.answers == 1
    assert report.errors is None


def test_scores_of_entities_and_those_of_other_components(ruler, tmp_path):
    doc = ruler.make_doc(TEXTS[0])
    set_entities(doc, [doc.char_span(0, 4, label="X")], [0.12345678])
    doc.spans["other"] = [doc[0:2]]
    doc.ents = [doc.char_span(14, 19, label="Loc")]
    set_relations(doc, [])
    DocBin(docs=[doc]).to_disk(tmp_path / "in.spacy")
    nlp = spacy.blank("en")
    nlp.add_pipe("spancat", config={"spans_key": "entities"})
    annotate(nlp, tmp_path / "in.spacy", tmp_path / "x.jsonl", disable=["spancat"])
    assert [e["label"] for e in read_jsonl(tmp_path / "x.jsonl")[0]["entities"]] == ["Loc"]

    @Language.component("tests_keys")
    def tests_keys(doc: Doc) -> Doc:
        return doc

    tests_keys.cfg = {"spans_key": "entities"}  # where the component says that it writes entities
    nlp = spacy.blank("en")
    nlp.add_pipe("tests_keys")
    annotate(nlp, tmp_path / "in.spacy", tmp_path / "y.jsonl")
    found = read_jsonl(tmp_path / "y.jsonl")[0]["entities"]
    assert [(e["text"], e["label"], e["score"]) for e in found] == [
        ("John", "X", 0.123457),
        ("Paris", "Loc", None),
    ]


@pytest.mark.parametrize("input_format", ["text", "jsonl", "csv", "parquet", "spacy", "json"])
@pytest.mark.parametrize(
    "name", ["x.jsonl", "x.jsonl.gz", "x.jsonl.zst", "x.parquet", "x/", "x.spacy", "x"]
)
def test_every_format_to_every_other(ruler, tmp_path, out, input_format, name):
    rows = [{"id": f"r{i}", "text": text} for i, text in enumerate(TEXTS)]
    source = write_source(tmp_path / f"in.{input_format}", rows)
    report = annotate(
        ruler,
        source,
        f"{out}/{name}",
        input_format=input_format,
        output_format="spacy" if name == "x" else None,
        chunk_size=2,
    )
    assert names(out) == [name.removesuffix("/")]
    assert report.rows == report.annotated == 5
    ids = [None] * 5 if input_format == "text" else [row["id"] for row in rows]
    entities = [
        [(e.text, e.label_, e.start_char, e.end_char) for e in ruler(text).ents] for text in TEXTS
    ]
    if name not in ("x", "x.spacy"):
        if name.startswith("x.jsonl"):
            found = read_jsonl(out / name)
        else:
            assert name != "x/" or len(list((out / name).glob("*.parquet"))) == 3
            table = pyarrow.parquet.read_table(out / name)
            assert table.schema.equals(writers.parquet_schema())
            found = table.to_pylist()
            own = [{} if i is None else {"id": i} for i in ids]
            assert [json.loads(row["meta"]) for row in found] == own
        assert [row.get("id") for row in found] == ids
        assert [row["row"] for row in found] == [1, 2, 3, 4, 5]
        assert [row["text"] for row in found] == TEXTS
        assert [
            [(e["text"], e["label"], e["start_char"], e["end_char"]) for e in row["entities"]]
            for row in found
        ] == entities
    else:
        if name == "x":
            paths = sorted((out / name).glob("*.spacy"))
            assert [path.name for path in paths] == [f"00000{i}.spacy" for i in range(3)]
            assert [len(read_docs(path)) for path in paths] == [2, 2, 1]
        else:
            paths = [out / name]
        docs = [doc for path in paths for doc in read_docs(path)]
        assert [doc.text for doc in docs] == TEXTS
        assert [doc.user_data.get("meta", {}).get("id") for doc in docs] == ids
        assert [
            [(e.text, e.label_, e.start_char, e.end_char) for e in doc.ents] for doc in docs
        ] == entities


def test_docs_of_a_full_pipeline(full_path, tmp_path):
    rows = [{"id": 3, "text": TEXTS[1], "questions": ["Who?"], "day": [1, {"a": None}]}]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    annotate(full_path, source, tmp_path / "x.spacy")
    annotate(full_path, source, tmp_path / "x.jsonl")
    (doc,) = read_docs(tmp_path / "x.spacy")
    (row,) = read_jsonl(tmp_path / "x.jsonl")
    assert [round(r.score, 6) for r in get_relations(doc)] == [r["score"] for r in row["relations"]]
    assert [r.to_dict()["head"] for r in get_relations(doc)] == [
        r["head"] for r in row["relations"]
    ]
    assert [a.text for a in get_answers(doc)] == [a["text"] for a in row["answers"]]
    assert doc.user_data["meta"] == {"id": 3, "questions": ("Who?",), "day": (1, {"a": None})}
    # Docs that were written are an input again, and the keys of the row come with them.
    annotate(full_path, tmp_path / "x.spacy", tmp_path / "again.jsonl")
    (again,) = read_jsonl(tmp_path / "again.jsonl")
    assert again == row


def test_docs_take_integers_of_any_size(ruler, tmp_path):
    rows = [{"id": 1 << 70, "text": "John", "n": [-(1 << 63), 1 << 64, {"m": -(1 << 64)}]}]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    report = annotate(ruler, source, tmp_path / "x.spacy")
    assert report.failed == 0
    (doc,) = read_docs(tmp_path / "x.spacy")
    expected = (-(1 << 63), str(1 << 64), {"m": str(-(1 << 64))})
    assert doc.user_data["meta"] == {"id": str(1 << 70), "n": expected}
    annotate(ruler, source, tmp_path / "x.jsonl")
    assert read_jsonl(tmp_path / "x.jsonl")[0]["n"] == rows[0]["n"]


@pytest.mark.parametrize(
    "settings", [{"spans_key": "entities"}, {"spans_key": None, "annotate_ents": True}]
)
def test_ids_of_docs(tmp_path, settings):
    """Also of Docs that have entities in `doc.ents` only, as from an NER."""
    nlp = spacy.blank("en")
    nlp.add_pipe("span_ruler", config=settings).add_patterns([{"label": "Per", "pattern": "John"}])
    source = write_jsonl(tmp_path / "in.jsonl", [{"id": "a", "text": "John"}])
    annotate(nlp, source, tmp_path / "x.spacy")
    assert [get_orig_id(doc) for doc in read_docs(tmp_path / "x.spacy")] == ["a"]


def test_parquet_is_merged_in_row_groups(ruler, tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "_GROUP_ROWS", 4)
    source = write_jsonl(tmp_path / "in.jsonl", numbered(10))
    annotate(ruler, source, tmp_path / "x.parquet", chunk_size=2)
    found = pyarrow.parquet.ParquetFile(tmp_path / "x.parquet")
    assert [found.metadata.row_group(i).num_rows for i in range(found.num_row_groups)] == [4, 4, 2]
    assert found.read()["text"].to_pylist() == numbered(10)


@pytest.mark.parametrize(
    "name", ["x.jsonl", "x.jsonl.gz", "x.jsonl.zst", "x.parquet", "x/", "x.spacy", "x"]
)
def test_no_rows(ruler, tmp_path, name):
    (tmp_path / "in.txt").write_text("\n \n")
    kind = "spacy" if name == "x" else None
    report = annotate(ruler, tmp_path / "in.txt", f"{tmp_path}/{name}", output_format=kind)
    assert report.rows == 0
    if name.startswith("x.jsonl"):
        assert read_jsonl(tmp_path / name) == []
    elif name in ("x.parquet", "x/"):
        assert pyarrow.parquet.read_table(tmp_path / name).schema.names[0] == "row"
    elif name == "x.spacy":
        assert read_docs(tmp_path / name) == []
    else:
        assert names(tmp_path / name) == [MARKER]


def test_one_file_of_docs_has_a_limit(ruler, tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "MAX_TOKENS_IN_FILE", 30)
    source = write_jsonl(tmp_path / "in.jsonl", numbered(10))
    with pytest.raises(ValueError, match="E_SR927") as error:
        annotate(ruler, source, tmp_path / "x.spacy", chunk_size=2)
    parts = Workplace(tmp_path / "x.spacy").parts_path
    assert str(parts) in str(error.value)
    assert sum(len(read_docs(path)) for path in parts.iterdir()) == 4
    assert not (tmp_path / "x.spacy").exists()
    annotate(ruler, source, tmp_path / "x", output_format="spacy", chunk_size=2)
    assert len(list((tmp_path / "x").glob("*.spacy"))) == 5


def test_processes_give_the_same(ruler, tmp_path):
    rows = [{"id": i, "text": text} for i, text in enumerate(numbered(20))]
    rows[5] = {"text": None}
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    for n_process, name in ((1, "a.jsonl"), (2, "b.jsonl")):
        annotate(ruler, source, tmp_path / name, n_process=n_process, batch_size=3, chunk_size=15)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert len(read_jsonl(tmp_path / "a.jsonl")) == 19


def test_components(full_path, ruler, tmp_path):
    source = write_jsonl(tmp_path / "in.jsonl", [{"text": TEXTS[1], "questions": ["Who?"]}])

    def found(name: str, **given):
        annotate(full_path, source, tmp_path / name, **given)
        (row,) = read_jsonl(tmp_path / name)
        return [bool(row[key]) for key in ("entities", "relations", "answers")]

    assert found("a.jsonl") == [True, True, True]
    assert found("b.jsonl", disable=["span_relation"]) == [True, False, True]
    assert found("c.jsonl", components=["extractive_qa"]) == [False, False, True]
    # Nothing answers the question, which is worth a warning.
    with pytest.warns(UserWarning, match="W_SR135.*entity_ruler"):
        assert found("d.jsonl", components=["entity_ruler"]) == [True, False, False]
    for option in ("components", "disable"):
        with pytest.raises(ConversionError, match=f"--{option}.*'ner'.*entity_ruler"):
            annotate(full_path, source, tmp_path / "e.jsonl", **{option: ["ner"]})


def test_a_pipeline_that_is_given_stays_as_it_is(tmp_path):
    nlp = rules("sentencizer")
    nlp.disable_pipe("sentencizer")
    before = (nlp.pipe_names, nlp.max_length)
    source = write_jsonl(tmp_path / "in.jsonl", TEXTS)
    annotate(nlp, source, tmp_path / "x.jsonl", components=["sentencizer"], max_chars=5_000_000)
    assert (nlp.pipe_names, nlp.max_length) == before
    assert all(not row["entities"] for row in read_jsonl(tmp_path / "x.jsonl"))


def test_new_words_do_not_fill_memory(ruler, tmp_path):
    source = write_jsonl(tmp_path / "in.jsonl", [f"newword{i} John" for i in range(50)])
    size = len(ruler.vocab.strings)
    annotate(ruler, source, tmp_path / "x.jsonl", chunk_size=10)
    assert len(ruler.vocab.strings) < size + 50
    assert all(row["entities"] for row in read_jsonl(tmp_path / "x.jsonl"))


# Rows that fail


def test_failed_rows(tmp_path, out):
    rows = [*numbered(3), "boom", 7, {"id": "x", "text": "boom too"}, *numbered(9), "x" * 300]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    report = annotate(
        rules("raise_on_boom"),
        source,
        out / "x.jsonl",
        chunk_size=5,
        batch_size=4,
        max_chars=200,
    )
    good = [row for row in rows if isinstance(row, str) and len(row) < 50 and row != "boom"]
    found = read_jsonl(out / "x.jsonl")
    assert [row["text"] for row in found] == good
    assert [row["row"] for row in found] == [1, 2, 3, *range(7, 16)]
    assert names(out) == ["x.jsonl", "x.jsonl.errors.jsonl"]
    assert report.errors == out / "x.jsonl.errors.jsonl"
    assert (report.rows, report.annotated, report.failed) == (16, 12, 4)
    errors = read_jsonl(report.errors)
    assert [error["row"] for error in errors] == [4, 5, 6, 16]
    assert [error["id"] for error in errors] == [None, None, "x", None]
    assert [error["error"] for error in errors] == [
        *("RuntimeError", "ConversionError", "RuntimeError", "ConversionError")
    ]
    assert "cannot take 'boom too'" in errors[2]["message"]
    assert "300 characters" in errors[3]["message"]
    assert "--max-chars" in errors[3]["message"]
    assert json.loads(errors[2]["raw"]) == rows[5]
    assert errors[1]["place"] == f"{source}, line 5"
    assert report.first_error == errors[0]["message"]


@pytest.mark.parametrize("n_process", [1, 2])
def test_only_the_bad_row_is_lost(tmp_path, n_process):
    texts = numbered(7)
    texts[3] = "boom"
    DocBin(docs=[spacy.blank("en").make_doc(text) for text in texts]).to_disk(tmp_path / "x.spacy")
    report = annotate(
        rules("raise_on_boom"),
        tmp_path / "x.spacy",
        tmp_path / "x.jsonl",
        batch_size=3,
        n_process=n_process,
    )
    found = read_jsonl(tmp_path / "x.jsonl")
    assert [row["text"] for row in found] == [text for text in texts if text != "boom"]
    assert all(len(row["entities"]) == 3 for row in found)
    (error,) = read_jsonl(report.errors)
    assert (error["row"], error["raw"], error["error"]) == (4, "boom", "RuntimeError")


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet"])
def test_rows_that_cannot_be_written(ruler, tmp_path, name):
    rows = [{"text": "John", "x": "\ud800"}, {"text": "Mary"}]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    report = annotate(ruler, source, tmp_path / name)
    assert (report.annotated, report.failed) == (1, 1)
    (error,) = read_jsonl(report.errors)
    assert error["error"] == "UnicodeEncodeError"


def test_a_component_that_drops_docs(tmp_path):
    nlp = rules("raise_on_boom")
    nlp.set_error_handler(lambda name, pipe, docs, error: None)
    report = annotate(
        nlp, write_jsonl(tmp_path / "in.jsonl", ["John", "boom", "Mary"]), tmp_path / "x.jsonl"
    )
    assert [row["text"] for row in read_jsonl(tmp_path / "x.jsonl")] == ["John", "Mary"]
    assert "E_SR928" in report.first_error


def test_a_line_of_50_mb_is_a_failed_row(ruler, tmp_path):
    source = tmp_path / "in.jsonl"
    with source.open("w") as file:
        file.write('"John"\n')
        file.write(f'"{"x" * 50_000_000}"\n')
        file.write('"Mary"\n')
    report = annotate(ruler, source, tmp_path / "x.jsonl")
    assert [row["text"] for row in read_jsonl(tmp_path / "x.jsonl")] == ["John", "Mary"]
    assert "50000000 characters" in report.first_error
    assert report.errors.stat().st_size < 10_000


def test_how_long_a_text_may_be(tmp_path):
    nlp = rules()
    nlp.max_length = 100
    source = write_jsonl(tmp_path / "in.jsonl", ["John " * 30, {"tokens": ["John"] * 30}, "Mary"])
    report = annotate(nlp, source, tmp_path / "x.jsonl")
    assert (report.annotated, report.failed) == (1, 2)
    report = annotate(nlp, source, tmp_path / "y.jsonl", max_chars=150)
    assert (report.annotated, report.entities) == (3, 61)


def test_stop_after_too_many(tmp_path, out):
    source = write_jsonl(tmp_path / "in.jsonl", ["John", 1, "Mary", 2, "John", "Mary", 3])
    nlp = rules()
    for limit in (1, 1, 2, 2):  # again at once; then at the last row
        with pytest.raises(ValueError, match=f"E_SR924.*--max-errors {limit}") as error:
            annotate(nlp, source, out / "x.jsonl", chunk_size=2, max_errors=limit)
        assert str(Workplace(out / "x.jsonl").errors_path) in str(error.value)
        assert not (out / "x.jsonl").exists()
    report = annotate(nlp, source, out / "x.jsonl", chunk_size=2, max_errors=3)
    assert (report.resumed_at, report.rows, report.failed) == (7, 7, 3)
    assert names(out) == ["x.jsonl", "x.jsonl.errors.jsonl"]


def test_an_error_before_the_first_row_leaves_nothing(ruler, tmp_path, out):
    source = tmp_path / "in.jsonl.gz"
    source.write_bytes(gzip.compress(b'{"text": "John"}\n' * 100)[:20])
    with pytest.raises(ValueError, match="in.jsonl.gz"):
        annotate(ruler, source, out / "x.jsonl")
    assert names(out) == []


@pytest.mark.parametrize("chunk_size", [2, 4, 5, 1000])
def test_when_every_row_fails(ruler, tmp_path, out, chunk_size):
    source = write_jsonl(tmp_path / "in.jsonl", [{"body": text} for text in numbered(4)])
    with pytest.raises(ValueError, match=r"E_SR925.*All of 4 rows failed, from row 1.*'body'"):
        annotate(ruler, source, out / "x.jsonl", chunk_size=chunk_size)
    # Nothing is in the way of another attempt.
    assert names(out) == ["x.jsonl.errors.jsonl"]
    assert len(read_jsonl(out / "x.jsonl.errors.jsonl")) == 4
    report = annotate(ruler, source, out / "x.jsonl", chunk_size=chunk_size, text_key="body")
    assert report.annotated == 4
    assert names(out) == ["x.jsonl"]
    # A given limit replaces this rule.
    report = annotate(ruler, source, out / "y.jsonl", chunk_size=chunk_size, max_errors=4)
    assert (report.annotated, report.failed) == (0, 4)
    assert names(out) == ["x.jsonl", "y.jsonl", "y.jsonl.errors.jsonl"]


def test_when_every_row_of_a_chunk_fails(tmp_path, out):
    nlp = rules("raise_on_boom")
    rows = [*numbered(100), *["boom"] * 100, *numbered(10)]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    with pytest.raises(ValueError, match=r"E_SR925.*100 rows failed, from row 101.*The 100 rows"):
        annotate(nlp, source, out / "x.jsonl", chunk_size=100)
    # With the same pipeline the run continues there.
    nlp.replace_pipe("raise_on_boom", "sentencizer")
    nlp.rename_pipe("raise_on_boom", "other")
    with pytest.raises(ValueError, match="E_SR921.*the pipeline"):
        annotate(nlp, source, out / "x.jsonl", chunk_size=100)
    report = annotate(
        rules("raise_on_boom"), source, out / "x.jsonl", chunk_size=100, max_errors=100
    )
    assert (report.resumed_at, report.annotated, report.failed) == (100, 110, 100)


# Complete outputs and unfinished runs


def test_a_complete_output_is_not_replaced_unasked(ruler, tmp_path, out):
    source = write_jsonl(tmp_path / "in.jsonl", [*numbered(4), 7])
    annotate(ruler, source, out / "x.jsonl")
    before = (out / "x.jsonl").read_bytes()
    with pytest.raises(FileExistsError, match="E_SR920.*--force"):
        annotate(ruler, source, out / "x.jsonl")
    assert (out / "x.jsonl").read_bytes() == before
    write_jsonl(source, numbered(2))
    for option in ("force", "restart"):
        report = annotate(ruler, source, out / "x.jsonl", **{option: True})
        assert report.rows == 2
        # The errors of the old one are gone with it.
        assert names(out) == ["x.jsonl"]


def test_the_old_output_stays_till_the_new_one_is_complete(ruler, tmp_path, out):
    source = write_jsonl(tmp_path / "in.jsonl", numbered(9))
    (out / "x.jsonl").write_text("old")

    def run() -> None:
        annotate(ruler, source, out / "x.jsonl", chunk_size=2, force=True)

    assert killed(run, 12)
    assert (out / "x.jsonl").read_text() == "old"
    with pytest.raises(FileExistsError):
        annotate(ruler, source, out / "x.jsonl", chunk_size=2)
    run()
    assert len(read_jsonl(out / "x.jsonl")) == 9


@pytest.mark.parametrize("kind", ["spacy", "parquet"])
def test_folders_of_shards_are_replaced_whole(ruler, tmp_path, out, kind):
    source = write_jsonl(tmp_path / "in.jsonl", numbered(4))
    settings = {"output_format": kind, "chunk_size": 1}
    folder = f"{out}/x/"
    annotate(ruler, source, folder, **settings)
    with pytest.raises(FileExistsError):
        annotate(ruler, source, folder, **settings)
    write_jsonl(source, numbered(2))
    annotate(ruler, source, folder, force=True, **settings)
    assert names(out / "x") == [MARKER, f"000000.{kind}", f"000001.{kind}"]
    assert names(out) == ["x"]
    (out / "x" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"E_SR641.*'notes\.txt'"):
        annotate(ruler, source, folder, force=True, **settings)
    assert (out / "x" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("kind", ["spacy", "parquet"])
def test_an_empty_folder_is_no_output_yet(ruler, tmp_path, out, kind):
    source = write_jsonl(tmp_path / "in.jsonl", numbered(2))
    (out / "x").mkdir()
    annotate(ruler, source, f"{out}/x/", output_format=kind)
    assert names(out / "x") == [MARKER, f"000000.{kind}"]
    assert names(out) == ["x"]


@pytest.fixture
def begun(ruler, tmp_path, out):
    """Return an input, and an output of which some rows are done."""
    source = write_jsonl(tmp_path / "in.jsonl", numbered(9))
    output = out / "x.jsonl"
    assert killed(lambda: annotate(ruler, source, output, chunk_size=2), 12)
    done = Progress.load(Workplace(output).progress_path)
    assert 0 < done.rows < 9
    return source, output


def test_changed_input_is_refused(ruler, begun):
    source, output = begun
    kept = source.read_bytes()
    times = source.stat()
    source.write_bytes(kept + b'"more"\n')
    with pytest.raises(ValueError, match=r"E_SR921.*the input \(1 file.*--restart"):
        annotate(ruler, source, output, chunk_size=2)
    source.write_bytes(kept)
    with pytest.raises(ValueError, match="E_SR921.*changed since"):
        annotate(ruler, source, output, chunk_size=2)
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert annotate(ruler, source, output, chunk_size=2).resumed_at > 0


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"chunk_size": 3}, "chunk-size = 2 (now 3)"),
        ({"batch_size": 5}, "batch-size"),
        ({"text_key": "body"}, "text-key = 'text' (now 'body')"),
        ({"disable": ["entity_ruler"]}, "disable"),
        ({"max_chars": 10}, "max-chars"),
    ],
)
def test_changed_settings_are_refused(ruler, begun, settings, part):
    source, output = begun
    with pytest.raises(ValueError, match="E_SR921") as error:
        annotate(ruler, source, output, **{"chunk_size": 2, **settings})
    assert part in str(error.value)
    with pytest.raises(ValueError, match="E_SR921.*the pipeline"):
        annotate(rules("sentencizer"), source, output, **{"chunk_size": 2, **settings})
    if "max_chars" not in settings:
        report = annotate(ruler, source, output, **{"chunk_size": 2, **settings}, restart=True)
        assert (report.resumed_at, report.annotated) == (0, 9)


def test_changed_weights_are_another_pipeline(full_path, tmp_path):
    nlp = spacy.load(full_path)
    nlp.to_disk(tmp_path / "copy")
    same = model_fingerprint(spacy.load(tmp_path / "copy"))
    assert model_fingerprint(spacy.load(tmp_path / "copy")) == same
    path = tmp_path / "copy" / "span_relation" / "model"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    assert model_fingerprint(spacy.load(tmp_path / "copy")) != same
    nlp.get_pipe("span_relation").cfg["relation_threshold"] = 0.5
    assert model_fingerprint(nlp) != model_fingerprint(spacy.load(full_path))


def test_changed_files_of_an_unfinished_run_are_refused(ruler, begun):
    source, output = begun
    rows, progress = Workplace(output).rows_path, Workplace(output).progress_path
    kept = rows.read_bytes()
    rows.write_bytes(b"short")
    with pytest.raises(ValueError, match="E_SR922.*rows.jsonl.*--restart"):
        annotate(ruler, source, output, chunk_size=2)
    rows.write_bytes(kept)
    good = progress.read_bytes()
    for wrong in (b"{}", b"[]", b"", b"x", good[:-10]):
        progress.write_bytes(wrong)
        with pytest.raises(ValueError, match="E_SR922.*progress.json"):
            annotate(ruler, source, output, chunk_size=2)
    progress.write_bytes(good)
    assert annotate(ruler, source, output, chunk_size=2).resumed_at > 0


def test_parts_that_are_gone(ruler, tmp_path):
    source = write_jsonl(tmp_path / "in.jsonl", numbered(9))
    output = tmp_path / "x.parquet"
    assert killed(lambda: annotate(ruler, source, output, chunk_size=2), 15)
    (Workplace(output).parts_path / "000000.parquet").unlink()
    with pytest.raises(ValueError, match="E_SR922.*000000.parquet"):
        annotate(ruler, source, output, chunk_size=2)


def test_two_runs_at_once_are_refused(ruler, tmp_path, out):
    pytest.importorskip("fcntl")
    source = write_jsonl(tmp_path / "in.jsonl", numbered(9))
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        Workplace(out / "x.jsonl").__enter__()
        os.write(writing, b"x")
        signal.pause()
        os._exit(0)
    try:
        os.read(reading, 1)
        with pytest.raises(ValueError, match="E_SR923"):
            annotate(ruler, source, out / "x.jsonl")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert annotate(ruler, source, out / "x.jsonl").annotated == 9


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"chunk_size": 0}, "--chunk-size"),
        ({"batch_size": 0}, "--batch-size"),
        ({"n_process": 0}, "--n-process"),
        ({"max_chars": 0}, "--max-chars"),
        ({"delimiter": ";;"}, "--delimiter"),
        ({"unit": "page"}, "--unit"),
        ({"output_format": "xml"}, "--output-format"),
        ({"input_format": "xml"}, "--input-format"),
    ],
)
def test_wrong_arguments(ruler, tmp_path, out, settings, part):
    source = write_jsonl(tmp_path / "in.jsonl", numbered(2))
    with pytest.raises(ConversionError, match=part):
        annotate(ruler, source, out / "x.jsonl", **settings)
    assert names(out) == []


def test_wrong_places(ruler, tmp_path, out):
    source = write_jsonl(out / "in.jsonl", numbered(2))
    (tmp_path / "shards").write_text("mine")
    (out / "link.jsonl").symlink_to(source)
    os.mkfifo(out / "pipe.jsonl")
    before = names(out)
    for wrong, given, message in (
        (source, source, "E_SR951"),
        (source, out / "link.jsonl", "E_SR951"),
        (source, out, "E_SR952"),
        (source, tmp_path / "out" / "x.md", "OUTPUT"),
        (source, out / "pipe.jsonl", "E_SR953.*device or pipe"),
        (out, out / "x.jsonl", "outside of the input"),
        (source, tmp_path / "shards", "E_SR953.*is a file"),
    ):
        output_format = {"shards": "spacy", "x.md": None}.get(given.name, "jsonl")
        with pytest.raises((ValueError, FileExistsError), match=message):
            annotate(ruler, wrong, given, output_format=output_format)
    assert names(out) == before
    (out / "elsewhere").mkdir()
    with pytest.raises(FileExistsError, match="E_SR953.*is a folder"):
        annotate(ruler, source, out / "elsewhere", output_format="jsonl")


def test_the_pipeline_is_not_overwritten(full_path, tmp_path):
    source = write_jsonl(tmp_path / "in.jsonl", numbered(2))
    for output, message in (
        (full_path, "E_SR951"),
        (full_path.parent, "E_SR952"),
        (full_path / "shards", "E_SR952"),
    ):
        for option in ({}, {"force": True}, {"restart": True}):
            with pytest.raises(ValueError, match=message):
                annotate(full_path, source, output, output_format="spacy", **option)


def test_parquet_without_pyarrow(ruler, tmp_path, out, monkeypatch):
    source = write_jsonl(tmp_path / "in.jsonl", numbered(2))
    annotate(ruler, source, tmp_path / "in.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    for given in ((source, out / "x.parquet"), (tmp_path / "in.parquet", out / "x.jsonl")):
        with pytest.raises(ImportError, match=r"pip install 'spacy-spanrel\[parquet\]'"):
            annotate(ruler, *given)
    assert names(out) == []


# Files of others


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet", "x"])
def test_neighbours_with_likely_names_stay(ruler, tmp_path, out, name):
    source = write_jsonl(tmp_path / "in.jsonl", [*numbered(4), 7])
    for ending in (".old", ".part", ".progress", ".errors.jsonl.part", ".tmp"):
        beside(out / name, ending).write_text("mine")
    beside(out / name, ".parts").mkdir()
    (beside(out / name, ".parts") / "000000.parquet").write_text("mine")
    before = tree(out)
    for force in (False, True):
        annotate(
            ruler, source, out / name, output_format="spacy" if name == "x" else None, force=force
        )
    after = tree(out)
    assert {path: after[path] for path in before} == before


@pytest.mark.parametrize(
    "foreign",
    ["folder", "file", "link", "inside", "parts", "link inside", "lock", "errors", "errors link"],
)
def test_what_is_in_the_way_is_named_and_stays(ruler, tmp_path, out, foreign):
    source = write_jsonl(tmp_path / "in.jsonl", [*numbered(9), 7])
    output, other = out / "x.parquet", tmp_path / "other"
    place = Workplace(output)
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    if foreign == "folder":
        place.path.mkdir()
        (place.path / "notes.txt").write_text("mine")
    elif foreign == "file":
        place.path.write_text("mine")
    elif foreign == "link":
        place.path.symlink_to(other)
    elif foreign == "errors":
        beside(output, ".errors.jsonl").write_text('{"errors": "mine"}\n')
    elif foreign == "errors link":
        beside(output, ".errors.jsonl").symlink_to(other / "notes.txt")
    else:
        assert killed(lambda: annotate(ruler, source, output, chunk_size=2), 15)
        if foreign == "inside":
            (place.path / "notes.txt").write_text("mine")
        elif foreign == "parts":
            (place.parts_path / "notes.txt").write_text("mine")
        elif foreign == "link inside":
            place.merged_path.symlink_to(other / "notes.txt")
        else:
            (place.path / "spacy-spanrel.lock").write_text("mine")
    before = tree(tmp_path)
    for option in ({}, {"force": True}, {"restart": True}):
        with pytest.raises(FileExistsError, match="E_SR955"):
            annotate(ruler, source, output, chunk_size=2, **option)
    assert tree(tmp_path) == before


def test_a_file_of_errors_that_comes_during_the_run_stays(ruler, tmp_path, out):
    source = write_jsonl(tmp_path / "in.jsonl", numbered(3))
    errors = out / "x.jsonl.errors.jsonl"

    @Language.component("tests_write")
    def tests_write(doc: Doc) -> Doc:
        errors.write_text("mine")
        return doc

    nlp = rules("tests_write")
    with pytest.raises(FileExistsError, match="E_SR955"):
        annotate(nlp, source, out / "x.jsonl")
    assert errors.read_text() == "mine"
    errors.unlink()
    nlp.replace_pipe("tests_write", "sentencizer")
    nlp.rename_pipe("tests_write", "other")
    annotate(rules(), source, out / "x.jsonl", restart=True)
    assert names(out) == ["x.jsonl"]


def test_an_output_that_comes_during_the_run_stays(ruler, tmp_path, out):
    source = write_jsonl(tmp_path / "in.jsonl", numbered(3))

    @Language.component("tests_write_output")
    def tests_write_output(doc: Doc) -> Doc:
        (out / "x.jsonl").write_text("mine")
        return doc

    nlp = rules("tests_write_output")
    with pytest.raises(FileExistsError, match="E_SR920"):
        annotate(nlp, source, out / "x.jsonl")
    with pytest.raises(FileExistsError, match="E_SR920"):
        annotate(nlp, source, out / "x.jsonl")
    assert (out / "x.jsonl").read_text() == "mine"
    assert annotate(nlp, source, out / "x.jsonl", force=True).resumed_at == 3
    assert len(read_jsonl(out / "x.jsonl")) == 3
    assert names(out) == ["x.jsonl"]


def test_a_failed_replacement_can_be_repeated(ruler, tmp_path, out, monkeypatch):
    settings = {"output_format": "spacy", "chunk_size": 1}
    source = write_jsonl(tmp_path / "in.jsonl", numbered(3))
    annotate(ruler, source, out / "x", **settings)
    before = tree(out)
    write_jsonl(source, numbered(2))
    for at in range(2):  # the old folder is moved away, the new one gets its name
        replace, calls = os.replace, []

        def failing(path, target, at=at, replace=replace, calls=calls):
            if "unfinished" in f"{path}{target}" and not str(path).endswith(".tmp"):
                calls.append(path)
                if len(calls) == at + 1:
                    raise OSError("disk full")
            replace(path, target)

        monkeypatch.setattr(os, "replace", failing)
        with pytest.raises(OSError, match="disk full"):
            annotate(ruler, source, out / "x", force=True, **settings)
        monkeypatch.setattr(os, "replace", replace)
        if at == 0:
            assert {f: d for f, d in tree(out).items() if f.startswith("x/")} == before
    report = annotate(ruler, source, out / "x", force=True, **settings)
    assert report.rows == 2
    assert names(out) == ["x"]
    assert names(out / "x") == [MARKER, "000000.spacy", "000001.spacy"]


def test_starting_again_puts_the_old_folder_back(ruler, tmp_path, out):
    settings = {"output_format": "spacy", "chunk_size": 1}
    source = write_jsonl(tmp_path / "in.jsonl", numbered(3))
    annotate(ruler, source, out / "x", **settings)
    before = tree(out / "x")
    with Workplace(out / "x") as place:
        os.replace(out / "x", place.old_path)
        place.clear()
    assert tree(out / "x") == before


def test_old_runs_are_recognized(ruler, tmp_path, out):
    source = write_jsonl(tmp_path / "in.jsonl", numbered(3))
    old = {"fingerprint": {}, "stage": "writing", "position": [0, 7], "rows": 3, "error_bytes": 0}
    (out / "x.jsonl.progress").write_text(json.dumps(old))
    (out / "x.jsonl.part").write_text("rows")
    before = tree(out)
    for option in ({}, {"force": True}, {"restart": True}):
        with pytest.raises(FileExistsError, match=r"E_SR956.*x\.jsonl\.progress, .*x\.jsonl\.part"):
            annotate(ruler, source, out / "x.jsonl", **option)
    assert tree(out) == before


def test_the_lock_is_held_from_the_first_look_to_the_last_name(ruler, tmp_path, out, monkeypatch):
    source = write_jsonl(tmp_path / "in.jsonl", numbered(3))
    moments = []

    def check(name: str, owner: object) -> None:
        function = getattr(owner, name)

        def checked(*args, **kwargs):
            moments.append(name)
            with pytest.raises(ValueError, match="E_SR923"):
                annotate(ruler, source, out / "x.jsonl", force=True)
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, checked)

    check("load", Progress)
    check("publish", writers.JsonLinesWriter)
    annotate(ruler, source, out / "x.jsonl")
    assert moments == ["load", "publish"]


def test_links_and_permissions_of_the_output_are_kept(ruler, tmp_path, out):
    source = write_jsonl(tmp_path / "in.jsonl", numbered(3))
    (out / "far").mkdir()
    (out / "far" / "y.jsonl").write_text("old")
    (out / "far" / "y.jsonl").chmod(0o640)
    (out / "x.jsonl").symlink_to("far/y.jsonl")
    annotate(ruler, source, out / "x.jsonl", force=True)
    assert (out / "x.jsonl").is_symlink()
    assert names(out / "far") == ["y.jsonl"]
    assert (out / "far" / "y.jsonl").stat().st_mode & 0o777 == 0o640
    assert len(read_jsonl(out / "x.jsonl")) == 3


# Worker processes


@Language.component("end_the_process")
def end_the_process(doc: Doc) -> Doc:
    """A component that is killed by some texts."""
    if "killer" in doc.text:
        os.kill(os.getpid(), signal.SIGKILL)
    return doc


def test_a_killed_worker_ends_the_run(tmp_path, out):
    rows = [*numbered(8), "killer", *numbered(4)]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    settings = {"n_process": 2, "batch_size": 2, "chunk_size": 4}
    with pytest.raises(ValueError, match="E_SR957.*2 worker processes.*the same command continues"):
        annotate(rules("end_the_process"), source, out / "x.jsonl", **settings)
    # The chunks before are committed, except those that were still being annotated.
    assert Progress.load(Workplace(out / "x.jsonl").progress_path).rows in (0, 4, 8)
    assert not multiprocessing.active_children()


def test_workers_end_with_the_run(tmp_path, out):
    pids = tmp_path / "pids"
    pids.mkdir()

    @Language.component("tests_wait")
    def tests_wait(doc: Doc) -> Doc:
        (pids / str(os.getpid())).touch()
        time.sleep(0.05)
        return doc

    source = write_jsonl(tmp_path / "in.jsonl", numbered(2000))
    child = os.fork()
    if not child:
        annotate(
            rules("tests_wait"),
            source,
            out / "x.jsonl",
            n_process=2,
            batch_size=100,
            chunk_size=2000,
        )
        os._exit(0)
    wait_for(lambda: len(names(pids)) == 2)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    wait_for(lambda: not any(runs(int(pid)) for pid in names(pids)))


def wait_for(condition) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


# Memory


def test_chunks_have_a_limit_of_bytes(ruler, tmp_path, out, monkeypatch):
    module = sys.modules[annotate.__module__]
    monkeypatch.setattr(module, "CHUNK_BYTES", 1000)
    rows = [*numbered(20), *("Mary " * 150 for _ in range(4)), {"text": "John", "x": "y" * 1000}]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    annotate(ruler, source, out / "x", output_format="spacy", chunk_size=100)
    counts = [len(read_docs(path)) for path in sorted((out / "x").glob("*.spacy"))]
    assert counts == [21, 2, 2]
    annotate(ruler, source, out / "x.jsonl", chunk_size=100)
    assert [row["row"] for row in read_jsonl(out / "x.jsonl")] == list(range(1, 26))


# Kills


@pytest.mark.parametrize(
    ("name", "tear"),
    [
        ("x.jsonl", False),
        ("x.jsonl", True),
        ("x.jsonl.gz", True),
        ("x.parquet", False),
        ("x/", False),
        ("x.spacy", False),
        ("x", False),
    ],
)
def test_a_kill_at_any_step(ruler, tmp_path, name, tear):
    rows = [*numbered(5), 7, *numbered(3), {"text": 7}]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    settings = {"chunk_size": 4, "output_format": "spacy" if name == "x" else None}
    whole = tmp_path / "whole"
    annotate(ruler, source, f"{whole}/{name}", **settings)
    at = 0
    while True:
        folder = tmp_path / f"kill{at}"

        def run(folder: Path = folder) -> None:
            annotate(ruler, source, f"{folder}/{name}", **settings)

        if not killed(run, at, tear):
            break
        # The same command again. If the run was killed when all was done, it says that OUTPUT exists.
        with suppress(FileExistsError):
            run()
        assert (names(folder), tree(folder)) == (names(whole), tree(whole))
        at += 1
    assert at > 15


def test_kills_one_after_the_other(ruler, tmp_path, out):
    rows = [*numbered(20), 7, *numbered(20)]
    source = write_jsonl(tmp_path / "in.jsonl", rows)

    def run(output: Path = out / "x.jsonl") -> None:
        annotate(ruler, source, output, chunk_size=3, batch_size=2)

    n = 0
    workplace = Workplace(out / "x.jsonl")
    while (workplace.begun or not n) and killed(run, 9, tear=bool(n % 2)):
        n += 1
    assert n >= 5
    run(tmp_path / "whole.jsonl")
    assert (out / "x.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert [row["row"] for row in read_jsonl(out / "x.jsonl")] == [
        i for i in range(1, 42) if i != 21
    ]


@pytest.mark.parametrize("input_format", ["text", "csv", "json", "parquet", "spacy", "folder"])
def test_every_input_goes_on(ruler, tmp_path, out, input_format):
    texts = [f"{text}, he said" for text in numbered(10)]
    source = tmp_path / f"in.{input_format}"
    if input_format == "text":
        source.write_text("\ufeff" + "\r\n\r\n".join(texts))
    elif input_format == "csv":
        source.write_text("text\n" + "".join(f'"{text}\nin lines"\n' for text in texts))
    elif input_format == "json":
        source.write_text(json.dumps([texts[0], texts[1].split(), *texts[2:]]))
    elif input_format == "folder":
        source.mkdir()
        for i, text in enumerate(texts):
            (source / f"{i:03}.txt").write_text(text)
    else:
        write_source(source, [{"text": text} for text in texts])

    def run(output: Path) -> None:
        annotate(
            ruler,
            source,
            output,
            input_format=None if input_format == "folder" else input_format,
            unit="file" if input_format == "folder" else "line",
            chunk_size=2,
        )

    run(tmp_path / "whole.jsonl")
    assert killed(lambda: run(out / "x.jsonl"), 13)
    assert 0 < Progress.load(Workplace(out / "x.jsonl").progress_path).rows < 10
    run(out / "x.jsonl")
    assert (out / "x.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert len(read_jsonl(out / "x.jsonl")) == 10
