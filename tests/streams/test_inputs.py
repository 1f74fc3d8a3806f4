from __future__ import annotations

import gzip
import json
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from spacy_spanrel.converters import ConversionError
from spacy_spanrel.streams import annotate
from spacy_spanrel.streams.readers import find_source

from .util import TEXTS, read_all, read_jsonl, write_source

ROWS = [{"id": f"r{i}", "text": text} for i, text in enumerate(TEXTS)]


def compress(data: bytes, suffix: str) -> bytes:
    if suffix == ".gz":
        return gzip.compress(data)
    return pa.compress(data, codec="zstd", asbytes=True)


def texts(source, **settings) -> list[str]:
    return [row.text for row in read_all(source, **settings)]


def put(address: str, data: bytes) -> None:
    with fsspec.open(address, "wb") as file:
        file.write(data)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("kind", ["text", "jsonl", "csv", "json", "spacy"])
def test_compressed_files(tmp_path, kind, suffix):
    plain = write_source(tmp_path / f"in.{kind if kind != 'text' else 'txt'}", ROWS)
    packed = tmp_path / (plain.name + suffix)
    data = plain.read_bytes()
    packed.write_bytes(compress(data[:30], suffix) + compress(data[30:], suffix))  # as cat makes it
    source = find_source(packed, None)
    assert source.format == kind
    expected, found = read_all(plain), read_all(packed)
    assert [row.text or str(row.doc) for row in found] == [
        row.text or str(row.doc) for row in expected
    ]
    if kind != "spacy":
        assert source.size == packed.stat().st_size


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_damaged_compressed_files_are_named(tmp_path, suffix):
    path = tmp_path / f"in.txt{suffix}"
    whole = compress(b"".join(b"%d\n" % (i * i) for i in range(10_000)), suffix)
    for data in (whole[: len(whole) // 2], b"no such thing", whole[:-40] + bytes(40)):
        path.write_bytes(data)
        with pytest.raises(ConversionError, match=rf"E_SR601.*in\.txt{suffix}"):
            texts(path)


def test_one_text_a_compressed_file(tmp_path):
    for name, text in (("a", "\ufeffJohn\nMary"), ("b", "x" * 100)):
        (tmp_path / f"{name}.txt.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "c.txt.gz").write_bytes(b"no such thing")
    first, long, bad = read_all(tmp_path, unit="file", max_bytes=99)
    assert (first.text, first.place.id) == ("John\nMary", "a.txt.gz")
    assert "E_SR929" in long.message
    assert "E_SR601" in bad.message


def test_patterns(tmp_path, monkeypatch):
    for name in ("a/1.txt", "a/2.txt.gz", "b/1.txt", "b/deep/4.txt", "b/x.log", ".hidden/5.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = name.encode()
        path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert texts(tmp_path / "*" / "*.txt*") == ["a/1.txt", "a/2.txt.gz", "b/1.txt"]
    assert texts(tmp_path / "**" / "?.txt") == ["a/1.txt", "b/1.txt", "b/deep/4.txt"]
    assert texts(tmp_path / "b" / "*.log", input_format="text") == ["b/x.log"]
    monkeypatch.chdir(tmp_path)
    assert texts("[ab]/1.txt") == ["a/1.txt", "b/1.txt"]
    names = [file.name for file in find_source("*/1.txt", None).files]
    assert names == ["a/1.txt", "b/1.txt"]
    with pytest.raises(ConversionError, match=r"\*\.csv', which fits no file"):
        find_source("*.csv", None)
    with pytest.raises(ConversionError, match="pattern.*no file of a known format"):
        find_source("b/*.log", None)
    # A name that only looks like a pattern is the file.
    Path("[ab].txt").write_text("brackets")
    assert texts("[ab].txt") == ["brackets"]


def test_an_output_among_the_files_of_a_pattern(ruler, tmp_path):
    write_source(tmp_path / "in.jsonl", ROWS)
    annotate(ruler, tmp_path / "*.jsonl", tmp_path / "out.jsonl")
    with pytest.raises(ValueError, match="E_SR951"):
        annotate(ruler, tmp_path / "*.jsonl", tmp_path / "out.jsonl", force=True)
    with pytest.raises(ConversionError, match="a place outside of the input"):
        annotate(ruler, tmp_path / "**" / "in.jsonl", tmp_path / "out.jsonl", force=True)


@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv", "parquet", "json", "spacy"])
def test_addresses(ruler, tmp_path, memory, kind):
    plain = write_source(tmp_path / f"in.{kind}", ROWS)
    for name in ("b/2", "a/1", ".x/3"):
        put(f"{memory}/{name}.{kind}", plain.read_bytes())
    annotate(ruler, plain, tmp_path / "expected.jsonl")
    expected = [row["entities"] for row in read_jsonl(tmp_path / "expected.jsonl")]
    for source, times in ((memory, 2), (f"{memory}/*/1.{kind}", 1), (f"{memory}/a/1.{kind}", 1)):
        annotate(ruler, source, tmp_path / "x.jsonl", force=True)
        assert [row["entities"] for row in read_jsonl(tmp_path / "x.jsonl")] == expected * times
    files = find_source(memory, None).files
    assert [file.name for file in files] == [f"a/1.{kind}", f"b/2.{kind}"]
    assert files[0].path == f"{memory}/a/1.{kind}"


def test_addresses_of_compressed_and_missing_files(tmp_path, memory):
    put(f"{memory}/x.jsonl.gz", gzip.compress(json.dumps("John").encode()))
    assert texts(f"{memory}/x.jsonl.gz") == ["John"]
    put(f"{memory}/x.txt", b"\xff")
    (row,) = read_all(f"{memory}/x.txt")
    assert f"'{memory}/x.txt', line 1" in row.message
    with pytest.raises(ConversionError, match="E_SR601.*nowhere"):
        find_source(f"{memory}/nowhere.txt", None)
    with pytest.raises(ConversionError, match="fits no file"):
        find_source(f"{memory}/*.csv", None)


def test_changed_files_behind_an_address(memory):
    put(f"{memory}/x.txt", b"John")
    before = find_source(memory, None).fingerprint()
    assert find_source(memory, None).fingerprint() == before
    put(f"{memory}/x.txt", b"Mary")
    assert find_source(memory, None).fingerprint() != before
