from __future__ import annotations

import contextlib
import csv
import datetime
import io
import json
import math
import os

import pyarrow
import pyarrow.parquet
import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc, DocBin

from spacy_spanrel import Question, get_entities, set_entities
from spacy_spanrel.converters import ConversionError
from spacy_spanrel.streams.readers import find_source
from spacy_spanrel.streams.rows import BadRow, Row

from .util import TEXTS, read_all

NLP = spacy.blank("en")
# All characters that UTF-8 can encode.
texts = st.text(st.characters(exclude_categories=("Cs",)))
words = st.lists(texts.filter(bool), max_size=4)


@pytest.fixture
def save(tmp_path):
    def _save(name, data):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    return _save


# Round trips


@given(st.lists(texts.filter(lambda t: t.strip() and "\n" not in t and t[-1] != "\r")))
def test_lines_of_text(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("t") / "x.txt"
    path.write_bytes("".join(f"{row}\r\n" for row in rows).encode())
    found = read_all(path)
    expected = [row.removeprefix("\ufeff") if i == 0 else row for i, row in enumerate(rows)]
    # A byte order mark at the beginning of a file is not part of the text.
    assert [row.text for row in found] == [row for row in expected if row.strip()]


@given(st.lists(texts | words | st.fixed_dictionaries({"text": texts, "n": st.integers()})))
def test_json_lines_and_lists(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("t")
    lines, whole = folder / "x.jsonl", folder / "x.json"
    for ascii_only in (True, False):
        encoded = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
        lines.write_bytes("\n".join(encoded).encode())
        whole.write_bytes(json.dumps(rows, ensure_ascii=ascii_only, indent=1).encode())
        for path in (lines, whole):
            found = read_all(path)
            assert [row.words if row.words is not None else row.text for row in found] == [
                row["text"] if isinstance(row, dict) else row for row in rows
            ]
            assert [row.extra for row in found] == [
                {"n": row["n"]} if isinstance(row, dict) else {} for row in rows
            ]


@given(st.lists(st.tuples(texts, texts)), st.sampled_from([",", ";", "\t"]))
def test_csv(tmp_path_factory, rows, delimiter):
    rows = [tuple(field.replace("\r", "") for field in row) for row in rows]
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerows([("Name", "body"), *rows])
    path = tmp_path_factory.mktemp("t") / "x.csv"
    path.write_bytes(text.getvalue().encode())
    limit = csv.field_size_limit()
    found = read_all(path, text_key="body", delimiter=delimiter)
    assert [(row.extra, row.text) for row in found] == [({"Name": n}, t) for n, t in rows]
    assert csv.field_size_limit() == limit


@given(st.lists(texts, max_size=8), st.integers(1, 4))
def test_parquet(tmp_path_factory, rows, group):
    path = tmp_path_factory.mktemp("t") / "x.parquet"
    table = pyarrow.table({"text": rows, "n": list(range(len(rows)))})
    pyarrow.parquet.write_table(table, path, row_group_size=group)
    found = read_all(path)
    assert [(row.text, row.extra) for row in found] == [(t, {"n": i}) for i, t in enumerate(rows)]


def test_parquet_batches(monkeypatch, tmp_path):
    monkeypatch.setattr("spacy_spanrel.streams.readers._PARQUET_ROWS", 3)
    rows = [str(i) for i in range(20)]
    pyarrow.parquet.write_table(pyarrow.table({"text": rows}), tmp_path / "x.pq", row_group_size=7)
    assert [row.text for row in read_all(tmp_path / "x.pq")] == rows


@given(st.lists(words, max_size=5))
def test_doc_bin(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("t") / "x.spacy"
    DocBin(docs=[Doc(NLP.vocab, words=row) for row in rows]).to_disk(path)
    found = read_all(path)
    assert [[token.text for token in row.doc] for row in found] == rows


# Plain text


def test_blank_lines_are_no_rows(save):
    path = save("x.txt", b"\xef\xbb\xbfone\r\n\r\n  \t\n  two \xc2\xa0\n\n\xc2\xa0\nthree")
    found = read_all(path)
    assert [row.text for row in found] == ["one", "  two \u00a0", "three"]
    assert [row.place.name for row in found] == ["line 1", "line 4", "line 7"]


def test_only_a_line_feed_ends_a_line(save):
    text = "a\u2028b\x0bc\x85d\x1ee"
    assert [row.text for row in read_all(save("x.txt", f"{text}\nf"))] == [text, "f"]


def test_lines_that_are_not_utf8(save):
    path = save("x.txt", b"good\nb\xe4d\ngood again\n")
    first, bad, last = read_all(path)
    assert (first.text, last.text) == ("good", "good again")
    assert isinstance(bad, BadRow)
    assert "line 2" in bad.message
    assert "0xe4 at offset 1" in bad.message


def test_a_text_a_file(save):
    save("in/b.txt", "\ufeffsecond\r\ntext\n")
    save("in/a/c.txt", "first")
    save("in/d.txt", b"b\xe4d")
    save("in/e.txt", "")
    save("in/.hidden.txt", "hidden")
    save("in/.git/f.txt", "hidden")
    folder = save("in/readme.md", "other").parent
    found = read_all(folder, unit="file", max_bytes=20)
    assert [(row.extra["id"], row.text) for row in found if isinstance(row, Row)] == [
        *(("a/c.txt", "first"), ("b.txt", "second\r\ntext\n"), ("e.txt", ""))
    ]
    assert isinstance(found[2], BadRow)
    assert "d.txt" in found[2].message
    save("in/g.txt", "x" * 21)
    last = read_all(folder, unit="file", max_bytes=20)[-1]
    assert isinstance(last, BadRow)
    assert "20 bytes" in last.message
    # Each line is a text.
    lines = [row.text for row in read_all(folder) if isinstance(row, Row)]
    assert lines[:3] == ["first", "second", "text"]


# JSON


def test_what_an_object_may_have(save):
    rows = [
        {"id": 7, "text": "a b", "questions": ["Who?", {"id": "w", "question": "Where?"}]},
        {"tokens": ["a", "b"], "text": "a  b", "id": ""},
        {"tokens": None, "text": "c", "questions": None, "id": 1.5},
        {"tokens": [], "id": "x"},
    ]
    found = read_all(save("x.jsonl", "\n\n".join(map(json.dumps, rows))))
    assert found[0].questions == (Question("q1", "Who?"), Question("w", "Where?"))
    assert [row.place.id for row in found] == [7, None, None, "x"]
    assert [(row.text, row.words) for row in found] == [
        ("a b", None),
        (None, ["a", "b"]),
        ("c", None),
        (None, []),
    ]
    assert found[0].extra == {key: rows[0][key] for key in ("id", "questions")}
    assert found[1].extra == rows[1]


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ('{"text": "a"', ["broken JSON", "line 2"]),
        ('{"body": "a"}', ["'body'", "'text'", "--text-key", "line 2"]),
        ('{"text": null}', ["None", "a string"]),
        ('{"text": ["a"]}', ["['a']", "a string"]),
        ('{"text": "\\ud800"}', ["lone surrogates"]),
        ('{"text": "a", "questions": [7]}', ["not a question"]),
        ('{"text": "a", "questions": ["\\ud800"]}', ["lone surrogates"]),
        ('{"text": "a", "questions": [{"id": "x", "text": "a"}, ["x", "b"]]}', ["x"]),
        ('{"tokens": "a"}', ["'a'", "a list"]),
        ('{"tokens": ["a", ""]}', ["tokens[1]", "not empty"]),
        ('["a", 7]', ["[1]", "7"]),
        ("7", ["7", "an object"]),
        ("null", ["None", "an object"]),
        ("[" * 100_000, ["broken JSON"]),
        ("9" * 5000, ["broken JSON"]),
    ],
)
def test_wrong_lines(save, line, parts):
    path = save("x.jsonl", f'{{"text": "before"}}\n{line}\n{{"text": "behind"}}\n')
    first, bad, last = read_all(path)
    assert (first.text, last.text) == ("before", "behind")
    assert isinstance(bad, BadRow)
    for part in parts:
        assert part in bad.message
    entry = json.loads(bad.to_line(2))
    assert entry["row"] == 2
    assert entry["raw"] == f"{line}\n"[:4000]
    assert entry.get("raw_cut", False) == (len(line) >= 4000)
    assert entry["message"] == bad.message
    assert "line 2" in entry["place"]


def test_a_line_that_is_too_long_to_read(save):
    bad, last = read_all(save("x.jsonl", f'"{"x" * 1000}"\n"b"\n'), max_bytes=100)
    assert "more than 100 bytes" in bad.message
    assert last.text == "b"


def test_mixed_list_of_spert(save):
    rows = ["Ada sings.", ["Ada", "sings", "."], {"tokens": ["She", "sings"], "id": "z"}, 7, "x"]
    data = json.dumps(rows).replace("7", "{7}")
    found = read_all(save("x.json", data))
    assert [row.words or row.text for row in found[:3]] == [*rows[:2], rows[2]["tokens"]]
    assert found[2].place.id == "z"
    assert isinstance(found[3], BadRow)
    assert "record 3" in found[3].message
    # What is broken cannot be passed over, and that is said.
    assert "nothing behind it was read" in found[3].message
    assert len(found) == 4


@pytest.mark.parametrize("data", ['["a", "b', '["a", "b"] x', '["a",'])
def test_lists_without_their_end(save, data):
    *good, bad = read_all(save("x.json", data))
    assert good[0].text == "a"
    assert isinstance(bad, BadRow)
    assert "broken JSON" in bad.message


# CSV


def test_csv_details(save):
    data = (
        b"\xef\xbb\xbfid,text,n\r\n"
        b'1,"Ada ""A"" B,\r\nOslo",x\r\n'
        b"\r\n"
        b'2,a 5" pipe,y\n'
        b"3,short\n"
        b'4,"a"b,c\n'
        b"5,b\xe4d,c\n"
        b"6,last,"
    )
    found = read_all(save("x.csv", data))
    good = [row for row in found if isinstance(row, Row)]
    assert [row.text for row in good] == ['Ada "A" B,\r\nOslo', 'a 5" pipe', "last"]
    assert [row.extra for row in good][:2] == [{"id": "1", "n": "x"}, {"id": "2", "n": "y"}]
    assert [row.place.name for row in found] == [f"line {i}" for i in (2, 5, 6, 7, 8, 9)]
    assert "2 fields" in found[2].message
    assert "quotes in pairs" in found[3].message
    assert "UTF-8" in found[4].message


def test_a_quote_without_its_end(save):
    data = 'text\na\n"b\n' + "c\n" * 10
    found = read_all(save("x.csv", data))
    assert found[0].text == "a"
    assert isinstance(found[1], BadRow)
    assert len(found) == 2
    # It takes in no more bytes than a row may have.
    found = read_all(save("x.csv", data), max_bytes=8)
    assert [row.text for row in found[2:]] == ["c"] * 7


def test_long_fields(save):
    text = "x" * 200_000  # more than the csv module takes unasked
    assert read_all(save("x.csv", f"text\n{text}\n"))[0].text == text


def test_tabs_and_no_rows(save):
    (row,) = read_all(save("x.tsv", "a\ttext\n1,5\tb\n"))
    assert (row.text, row.extra) == ("b", {"a": "1,5"})
    assert read_all(save("x.csv", "")) == read_all(save("y.csv", "text\n")) == []


@pytest.mark.parametrize("header", ["id,body", "text,text", "id;text"])
def test_wrong_headers(save, header):
    with pytest.raises(ConversionError, match="'text'") as error:
        read_all(save("x.csv", f"{header}\n1,2\n"))
    assert "x.csv" in str(error.value)


# Parquet and Docs


def test_parquet_values(tmp_path):
    table = pyarrow.table(
        {
            "id": [1, 2],
            "body": ["a", None],
            "day": [datetime.date(2020, 1, 2)] * 2,
            "x": [math.nan, 1.0],
            "questions": [["Who?"], []],
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    good, bad = read_all(tmp_path / "x.parquet", text_key="body")
    assert good.questions == (Question("q1", "Who?"),)
    assert good.extra["day"] == datetime.date(2020, 1, 2)
    assert isinstance(bad, BadRow)
    assert bad.place.id == 2
    assert json.loads(bad.to_line(2))["raw"].startswith('{"id": 2')
    pyarrow.parquet.write_table(pyarrow.table({"tokens": [["a", "b"]]}), tmp_path / "y.parquet")
    assert read_all(tmp_path / "y.parquet")[0].words == ["a", "b"]
    with pytest.raises(ConversionError, match="'text'.*--text-key"):
        read_all(tmp_path / "x.parquet")


def test_times_with_nanoseconds(tmp_path):
    stamps = [1_600_000_000_000_000_000, 1_600_000_000_000_001_000]
    columns = {"text": ["a", "b"]}
    for name, kind in (("stamp", pyarrow.timestamp("ns")), ("length", pyarrow.duration("ns"))):
        columns[name] = pyarrow.array(stamps, kind)
    columns["fine"] = pyarrow.array([1, 2], pyarrow.timestamp("ns", "UTC"))
    columns["time"] = pyarrow.array([1, 2], pyarrow.time64("ns"))
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "x.parquet")
    first, second = read_all(tmp_path / "x.parquet")
    assert first.extra["stamp"] == datetime.datetime(2020, 9, 13, 12, 26, 40)
    assert second.extra["stamp"] == datetime.datetime(2020, 9, 13, 12, 26, 40, 1)
    assert second.extra["length"] == datetime.timedelta(microseconds=stamps[1] // 1000)
    # Nothing is cut off: times that Python cannot hold are text.
    assert second.extra["fine"].startswith("1970-01-01 00:00:00.000000002")
    assert second.extra["time"] == "00:00:00.000000002"


def test_a_column_that_cannot_be_read_is_named(tmp_path):
    stamps = pyarrow.array([[1]], pyarrow.list_(pyarrow.timestamp("ns")))
    table = pyarrow.table({"text": ["a"], "stamps": stamps})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(ConversionError, match=r"x\.parquet', column 'stamps'.*timestamp\[ns\]"):
        read_all(tmp_path / "x.parquet")


@pytest.mark.parametrize("n", [40, 100, -40, -3])
def test_damaged_files(tmp_path, n):
    table = pyarrow.table({"text": [str(i) for i in range(1000)]})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    DocBin(docs=[NLP.make_doc("a b c " * 50)] * 3).to_disk(tmp_path / "x.spacy")
    for name in ("x.parquet", "x.spacy"):
        data = bytearray((tmp_path / name).read_bytes())
        for i in range(3):
            data[n + i if n > 0 else n - i] ^= 0xFF
        (tmp_path / name).write_bytes(data)
        with contextlib.suppress(ConversionError):  # not every byte counts
            read_all(tmp_path / name)
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(ConversionError, match=name):
            read_all(tmp_path / name)


def test_docs_that_unpack_and_are_none(tmp_path):
    doc_bin = DocBin(docs=[NLP.make_doc("a b c")])
    doc_bin.tokens[0] = doc_bin.tokens[0][:, :0]  # as if the numbers had been lost
    doc_bin.to_disk(tmp_path / "x.spacy")
    with pytest.raises(ConversionError, match=r"E_SR601.*x\.spacy"):
        read_all(tmp_path / "x.spacy")


def test_file_names_that_are_not_utf8(tmp_path):
    for name in (b"a.txt", b"b\xe4.txt"):
        path = os.path.join(os.fsencode(tmp_path), name)
        try:
            with open(path, "w") as file:
                file.write("John")
        except OSError:
            pytest.skip("this file system takes UTF-8 names only")
    source = find_source(tmp_path, None)
    assert source.fingerprint()["files"] == 2
    rows = read_all(tmp_path, unit="file")
    assert [row.extra["id"] for row in rows] == ["a.txt", r"b\xe4.txt"]
    assert [row.text for row in read_all(tmp_path)] == ["John", "John"]


def test_docs_keep_what_they_have(tmp_path):
    doc = NLP.make_doc(TEXTS[0])
    set_entities(doc, [doc[0:1]], [0.5])
    doc.spans["entities"].attrs["orig_id"] = "x1"
    doc.user_data["meta"] = {"year": 1901}
    DocBin(docs=[doc, NLP.make_doc("")], store_user_data=True).to_disk(tmp_path / "x.spacy")
    first, second = read_all(tmp_path / "x.spacy")
    assert first.place.id == "x1"
    assert first.extra == {"id": "x1", "year": 1901}
    assert [span.text for span in get_entities(first.doc)] == ["John"]
    assert (second.doc.text, second.extra) == ("", {})


@pytest.mark.parametrize("name", ["x.spacy", "x.parquet", "x.json"])
def test_files_that_are_something_else(save, name):
    with pytest.raises(ConversionError, match=name):
        read_all(save(name, "{}"))


# Inputs


def test_folders_are_read_in_order(save, tmp_path):
    for i in (10, 2, 1):
        save(f"in/{i:02}.jsonl", f'"{i} a"\n"{i} b"\n')
    save("in/notes.md", "x")
    found = read_all(tmp_path / "in")
    assert [row.text for row in found] == ["1 a", "1 b", "2 a", "2 b", "10 a", "10 b"]
    assert "02.jsonl" in found[2].place.file


def test_format_by_name_or_option(save):
    path = save("x.json", '"a"\n"b"\n')
    assert [row.text for row in read_all(path, input_format="jsonl")] == ["a", "b"]


@pytest.mark.parametrize(
    ("path", "names", "given", "message"),
    [
        ("x.md", ["x.md"], None, r"\.jsonl.*--input-format"),
        ("x.md", [], None, r"x\.md"),
        ("x.md", ["x.md"], "xml", "'xml'.*jsonl"),
        ("in", ["in/a.txt", "in/b.jsonl"], None, "jsonl, text"),
        ("in", ["in/a.md"], None, "no file of a known format"),
        ("in", ["in/a.txt"], "csv", "without 'csv' files"),
    ],
)
def test_inputs_that_are_not_known(save, tmp_path, path, names, given, message):
    for name in names:
        save(name, "x")
    with pytest.raises(ConversionError, match=message):
        find_source(tmp_path / path, given)
