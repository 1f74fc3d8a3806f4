from __future__ import annotations

import json
import random
import sys

import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_spanrel.converters import ConversionError
from spacy_spanrel.streams import annotate, merge_shards
from spacy_spanrel.streams.inputs import InputFile
from spacy_spanrel.streams.shards import Shard, errors_path

from ..util import names, tree
from .util import killed, numbered, read_docs, read_jsonl, rules, write_jsonl


@pytest.fixture
def source(tmp_path):
    """Return a folder of three files, the last one the largest, with a row that fails in each."""
    (tmp_path / "in").mkdir()
    texts = numbered(40)
    for i in (2, 9, 30):
        texts[i] = "boom – \u2028"
    rows = [{"id": f"r{i}", "text": text, "n": i} for i, text in enumerate(texts)]
    for name, part in (("a", rows[:5]), ("b", rows[5:16]), ("c", rows[16:])):
        write_jsonl(tmp_path / "in" / f"{name}.jsonl", part)
    return tmp_path / "in"


def table(path):
    return pyarrow.parquet.read_table(path)


@pytest.mark.parametrize("by", ["rows", "files"])
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("count", [1, 4])
def test_merged_shards_are_the_same_file(source, tmp_path, by, kind, count, monkeypatch):
    monkeypatch.setattr("spacy_spanrel.streams.shards._BATCH_ROWS", 3)
    nlp = rules("raise_on_boom")
    whole = annotate(nlp, source, tmp_path / f"whole.{kind}")
    order = list(range(1, count + 1))
    random.Random(count).shuffle(order)
    for k in order:
        annotate(
            nlp,
            source,
            tmp_path / "out",
            output_format=kind,
            shard=f"{k}/{count}",
            shard_by=by,
            chunk_size=4,
            max_errors=40,
        )
    settings = {"columns": ["row", "id"]}
    if kind == "parquet":  # the folder is a data set as it is
        found = pyarrow.parquet.read_table(tmp_path / "out", **settings)
        assert sorted(found["id"].to_pylist()) == sorted(table(whole.output)["id"].to_pylist())
    report = merge_shards(tmp_path / "out")
    assert report.output == tmp_path / f"out.{kind}"
    if kind == "jsonl":
        assert report.output.read_bytes() == whole.output.read_bytes()
    else:
        assert table(report.output).equals(table(whole.output))
    assert report.errors.read_bytes() == whole.errors.read_bytes()
    counts = ("rows", "annotated", "failed", "entities", "relations", "answers")
    assert [getattr(report, name) for name in counts] == [getattr(whole, name) for name in counts]
    assert (report.rows, report.failed) == (40, 3)
    with pytest.raises(FileExistsError, match="E_SR920"):
        merge_shards(tmp_path / "out")
    assert merge_shards(tmp_path / "out", force=True) == report


@given(
    sizes=st.lists(st.integers(0, 50), min_size=1, max_size=30),
    count=st.integers(1, 12),
)
def test_every_file_is_in_one_shard(sizes, count):
    files = [InputFile(f"/{i}", f"{i}", size, "") for i, size in enumerate(sizes)]
    shares = [Shard(k, count, "files").files(files) for k in range(1, count + 1)]
    assert [file for share in shares for file in share] == files
    for share in shares:  # no shard has more than its part and one file
        assert sum(file.size for file in share) <= sum(sizes) / count + max(sizes)


@given(count=st.integers(1, 12), n_rows=st.integers(0, 50), done=st.integers(0, 20))
def test_every_row_is_in_one_shard(count, n_rows, done):
    numbers = [n for k in range(1, count + 1) for n in Shard(k, count).numbers(0, n_rows)]
    assert sorted(numbers) == list(range(1, count * n_rows + 1))
    shard = Shard(count, count)
    assert [*shard.numbers(0, done), *shard.numbers(done, n_rows)] == [
        *shard.numbers(0, done + n_rows)
    ]


def test_what_is_complete_is_not_annotated_again(source, tmp_path, monkeypatch):
    nlp = rules("raise_on_boom")
    settings = {"shard": "2/2", "chunk_size": 5}
    first = annotate(nlp, source, tmp_path / "out", **settings)
    before = tree(tmp_path / "out")
    monkeypatch.setattr(sys.modules["spacy_spanrel.streams.annotate"], "_Run", None)
    again = annotate(nlp, source, tmp_path / "out", **settings)
    assert (again.rows, again.resumed_at, again.failed) == (20, 20, first.failed)
    assert again.errors == errors_path(first.output)
    assert tree(tmp_path / "out") == before
    with pytest.raises(FileExistsError, match="E_SR920.*00002-of-00002"):
        annotate(nlp, source, tmp_path / "out", shard="2/2", chunk_size=6)
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize("by", ["rows", "files"])
def test_killed_shards_go_on(source, tmp_path, by):
    nlp = rules("raise_on_boom")
    whole = annotate(nlp, source, tmp_path / "whole.jsonl")
    for k in (1, 2):

        def run(k=k):
            annotate(
                nlp,
                source,
                tmp_path / "out",
                shard=f"{k}/2",
                shard_by=by,
                chunk_size=4,
                max_errors=40,
            )

        at = 1
        while killed(run, at):
            at += 3
    assert merge_shards(tmp_path / "out").output.read_bytes() == whole.output.read_bytes()


def test_what_cannot_be_merged(source, tmp_path, ruler):
    def shard(k, n, **settings):
        annotate(ruler, source, tmp_path / "out", shard=f"{k}/{n}", **settings)

    for folder, found in (
        (tmp_path / "nowhere", "no such folder"),
        (source / "a.jsonl", "a file"),
        (source, "no complete shard"),
    ):
        with pytest.raises(ValueError, match=f"E_SR968.*Found: {found}"):
            merge_shards(folder)
    shard(2, 3)
    with pytest.raises(ValueError, match="no complete shard 1, 3 of 3"):
        merge_shards(tmp_path / "out")
    shard(1, 3, max_chars=1000)
    shard(3, 3)
    with pytest.raises(ValueError, match=r"in shard 1, max-chars = 1000 \(in shard 2 1000000\)"):
        merge_shards(tmp_path / "out")
    shard(1, 2)
    with pytest.raises(ValueError, match="Found: shards K/2 and K/3"):
        merge_shards(tmp_path / "out")
    annotate(ruler, source, tmp_path / "docs", shard="1/1", output_format="spacy")
    assert len(read_docs(tmp_path / "docs" / "00001-of-00001.spacy")) == 40
    with pytest.raises(ValueError, match=r"\.spacy files, which spaCy reads"):
        merge_shards(tmp_path / "docs")


def test_an_output_of_another_format_is_passed_by(source, tmp_path, ruler):
    for kind in ("parquet", "jsonl"):
        annotate(ruler, source, tmp_path / "out", shard="2/2", output_format=kind)
    annotate(ruler, source, tmp_path / "out", shard="1/2", output_format="parquet")
    with pytest.raises(ValueError, match=r"output-format = 'parquet' \(in shard 2 'jsonl'\)"):
        merge_shards(tmp_path / "out")
    annotate(ruler, source, tmp_path / "out", shard="1/2")
    assert merge_shards(tmp_path / "out").output == tmp_path / "out.jsonl"


def test_merging_removes_the_failed_rows_of_an_earlier_merge(source, tmp_path, ruler):
    annotate(rules("raise_on_boom"), source, tmp_path / "out", shard="1/1")
    errors = merge_shards(tmp_path / "out").errors
    annotate(ruler, source, tmp_path / "out", shard="1/1", force=True)
    content = errors.read_bytes()
    errors.write_text("notes\n")
    with pytest.raises(FileExistsError, match="E_SR955"):
        merge_shards(tmp_path / "out", force=True)
    assert errors.read_text() == "notes\n"
    errors.write_bytes(content)
    assert merge_shards(tmp_path / "out", force=True).errors is None
    assert names(tmp_path) == ["in", "out", "out.jsonl"]


@pytest.mark.parametrize("text", ["3", "0/2", "3/2", "a/b", "-1/2", "1/2/3", ""])
def test_wrong_shards(ruler, source, tmp_path, text):
    with pytest.raises(ConversionError, match=r"--shard.*3/16"):
        annotate(ruler, source, tmp_path / "out", shard=text)
    assert names(tmp_path) == ["in"]


def test_wrong_places_for_shards(ruler, source, tmp_path):
    (tmp_path / "file").touch()
    for output in (tmp_path / "x.jsonl", tmp_path / "file"):
        with pytest.raises(ConversionError, match="a folder for all shards"):
            annotate(ruler, source, output, shard="1/2")
    for shard, by in (("1/2", "hash"), (None, "files")):
        with pytest.raises(ConversionError, match="--shard-by"):
            annotate(ruler, source, tmp_path / "out", shard=shard, shard_by=by)


def test_more_shards_than_files(ruler, source, tmp_path):
    for k in range(1, 6):
        annotate(ruler, source, tmp_path / "out", shard=f"{k}/5", shard_by="files")
    rows = read_jsonl(merge_shards(tmp_path / "out").output)
    assert [row["row"] for row in rows] == list(range(1, 41))
    assert json.loads((tmp_path / "out" / "_00001-of-00005.json").read_text())["by"] == "files"
