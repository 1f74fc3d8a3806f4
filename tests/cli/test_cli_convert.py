from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
import spacy
from spacy.cli._util import app as spacy_app
from spacy.tokens import DocBin
from typer.testing import CliRunner

from spacy_spanrel.cli import app, convert
from spacy_spanrel.cli.convert import CONVERTERS, Format, UnitName
from spacy_spanrel.converters import ConversionError, ConversionReport, get_orig_id
from spacy_spanrel.converters.scierc import Unit

CONLL04 = Path(__file__).parents[2].parent / "shared" / "data" / "conll04"
GOOD = {
    "tokens": ["Ann", "lives", "in", "New", "York"],
    "entities": [
        {"type": "Peop", "start": 0, "end": 1},
        {"type": "Loc", "start": 3, "end": 5},
    ],
    "relations": [{"type": "Live_In", "head": 0, "tail": 1}],
    "orig_id": "good-1",
}
PLAIN = {"tokens": ["It", "rains"], "entities": [], "relations": [], "orig_id": "plain-1"}
BAD = {**PLAIN, "entities": [{"type": "Loc", "start": 1, "end": 9}], "orig_id": "bad-1"}
SCIERC = {
    "doc_key": "A7",
    "sentences": [["a", "b"], ["c"]],
    "ner": [[[0, 0, "X"]], [[2, 2, "X"]]],
    "relations": [[], [[0, 0, 2, 2, "R"]]],
}


@pytest.fixture
def write(tmp_path):
    def _write(records, name="in.json"):
        path = tmp_path / name
        path.write_text(json.dumps(records), encoding="utf-8")
        return path

    return _write


@pytest.fixture
def output(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "data.spacy"


def run(*args, main=app):
    return CliRunner().invoke(main, [str(arg) for arg in args])


def read(path):
    return list(DocBin().from_disk(path).get_docs(spacy.blank("en").vocab))


def test_command_hangs_on_spacys_app(write, output):
    result = run("spanrel", "convert", "spert", write([GOOD, PLAIN]), output, main=spacy_app)
    assert result.exit_code == 0, result.output
    docs = read(output)
    assert [get_orig_id(doc) for doc in docs] == ["good-1", "plain-1"]  # B24
    assert docs[0]._.relations[0].to_triple() == ("Ann", "Live_In", "New York")
    assert os.listdir(output.parent) == [output.name]


def test_report_is_printed(write, output):
    result = run("convert", "spert", write([GOOD, PLAIN]), output, "--max-span-size", 1)
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    for expected in (
        "Docs 2",
        "Docs without relations 1",
        "Entities longer than 1 tokens 1",
        "good-1 'New York' (Loc, 2 tokens)",
        "Peop 1",
        "Loc 1",
        "Live_In 1",
    ):
        assert expected in lines
    assert not result.stderr


def test_quiet_prints_nothing(write, output):
    result = run("convert", "spert", write([GOOD]), output, "--quiet")
    assert (result.exit_code, result.output) == (0, "")
    assert output.exists()


def test_several_inputs_go_into_one_output(write, output):
    train, dev = write([GOOD], "train.json"), write([PLAIN, GOOD], "dev.json")
    result = run("convert", "spert", train, dev, output)
    assert result.exit_code == 0, result.output
    assert [get_orig_id(doc) for doc in read(output)] == ["good-1", "plain-1", "good-1"]
    assert "Ids that came before, kept" in result.stdout


@pytest.mark.parametrize("old", [None, b"old"])
def test_failure_leaves_the_output_as_it_was(write, output, old):
    if old is not None:
        output.write_bytes(old)
    source = write([GOOD, BAD])
    result = run("convert", "spert", source, output)
    assert result.exit_code == 1
    assert not result.stdout
    for part in (str(source), "record 1", "'bad-1'", "start 1, end 9", "<= 2", "E_SR606"):
        assert part in result.stderr
    assert "Traceback" not in result.output
    assert os.listdir(output.parent) == ([] if old is None else [output.name])
    assert old is None or output.read_bytes() == old


@pytest.mark.parametrize("failing", ["write_bytes", "replace"])
def test_failure_while_writing_leaves_nothing(write, output, monkeypatch, failing):
    def fail(self, *args):
        if failing == "write_bytes":
            with self.open("wb") as file:
                file.write(b"half")
        raise OSError("disk full")

    output.write_bytes(b"old")
    if failing == "replace":
        monkeypatch.setattr(os, "replace", fail)
    else:
        monkeypatch.setattr(Path, "write_bytes", fail)
    result = run("convert", "spert", write([GOOD]), output)
    assert result.exit_code == 1
    assert "disk full" in result.stderr
    assert os.listdir(output.parent) == [output.name]
    assert output.read_bytes() == b"old"


def test_output_has_usual_permissions_and_its_folder_is_made(write, tmp_path):
    output = tmp_path / "a" / "b" / "x.spacy"
    convert("spert", [write([GOOD])], output)
    usual = tmp_path / "usual"
    usual.touch()
    assert stat.S_IMODE(output.stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)


def test_skip_invalid_lists_every_id(write, output):
    source = write([BAD, GOOD, {**BAD, "orig_id": "bad-2"}, {"orig_id": "bad-3"}])
    result = run("convert", "spert", source, output, "--skip-invalid")
    assert result.exit_code == 0, result.output
    assert "3 record(s) skipped" in result.stderr
    for stream in (result.stderr, result.stdout):
        assert all(name in stream for name in ("bad-1", "bad-2", "bad-3"))
    assert len(read(output)) == 1
    # The count is never silenced.
    assert (
        "3 record(s) skipped"
        in run("convert", "spert", source, output, "--skip-invalid", "--quiet").output
    )


def test_all_records_invalid_is_an_error(write, output):
    result = run("convert", "spert", write([BAD, BAD]), output, "--skip-invalid")
    assert result.exit_code == 1
    for part in ("E_SR612", "2 bad record(s)", "bad-1"):
        assert part in result.stderr
    assert not os.listdir(output.parent)


def test_no_records_is_an_error(write, output):
    for content in ("", "[]"):
        source = write([])
        source.write_text(content)
        result = run("convert", "spert", source, output, "--skip-invalid")
        assert result.exit_code == 1
        assert "nothing to convert" in result.stderr
    assert not os.listdir(output.parent)


def test_types(write, output):
    types = write({"entities": {"Peop": {}, "Loc": {}}, "relations": {"Kill": {}}}, "types.json")
    result = run("convert", "spert", write([GOOD]), output, "--types", types)
    assert result.exit_code == 1
    assert "'Live_In'" in result.stderr
    assert "Kill" in result.stderr


def test_unit(write, output):
    source = write(SCIERC)
    assert run("convert", "scierc", source, output).exit_code == 0
    assert len(read(output)) == 2
    result = run("convert", "scierc", source, output, "--unit", "document")
    assert result.exit_code == 0, result.output
    (doc,) = read(output)
    assert len(list(doc.sents)) == 2
    assert len(doc._.relations) == 1
    result = run("convert", "spert", source, output, "--unit", "document")
    assert result.exit_code == 1
    assert "--unit" in result.stderr
    assert "scierc" in result.stderr


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"data_format": "brat"}, "FORMAT"),
        ({"output": "x.json"}, "OUTPUT"),
        ({"inputs": []}, "INPUT"),
        ({"lang": "zz"}, "--lang"),
        ({"inputs": ["none.json"]}, "none.json"),
    ],
)
def test_wrong_arguments(tmp_path, monkeypatch, changes, name):
    monkeypatch.chdir(tmp_path)
    Path("in.json").write_text(json.dumps([GOOD]))
    arguments = {"data_format": "spert", "inputs": ["in.json"], "output": "x.spacy", **changes}
    with pytest.raises(ConversionError) as info:
        convert(**arguments)
    for part in (name, "Found", "Expected"):
        assert part in str(info.value)
    assert os.listdir() == ["in.json"]


def test_language(tmp_path):
    source = tmp_path / "in.rel"
    source.write_text("1|Exantema d'aspirina.|Exantema|0|8|aspirina|11|19\n")
    for lang, words in (("it", ["d'", "aspirina"]), ("en", ["d'aspirina"])):
        report = convert("ade", [source], tmp_path / "x.spacy", lang=lang)
        assert isinstance(report, ConversionReport)
        assert [token.text for token in read(tmp_path / "x.spacy")[0]][1:-1] == words
        assert len(report.misaligned) == 2 - len(words)


def test_names_agree():
    assert {item.value for item in Format} == set(CONVERTERS)
    assert {item.value for item in UnitName} == set(Unit.__args__)


def test_help_has_examples():
    result = run("convert", "--help")
    assert result.exit_code == 0
    assert "$ python -m spacy spanrel convert spert train.json" in result.stdout
    assert "--skip-invalid" in result.stdout


def test_conll04(output):
    if not CONLL04.exists():
        pytest.skip(f"needs the CoNLL04 data in {CONLL04}")
    report = convert("spert", [CONLL04 / "test.json"], output, types=CONLL04 / "types.json")
    assert (report.docs, report.n_entities, report.n_relations) == (288, 1079, 422)
    docs = read(output)
    assert len(docs) == 288
    assert sum(len(doc._.relations) for doc in docs) == 422
