"""Files and folders are written whole, and nothing that is not ours is overwritten."""

from __future__ import annotations

import csv
import datetime
import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy
import pytest
import spacy

from spacy_spanrel import files
from spacy_spanrel.files import (
    MARKER,
    check_folder,
    check_output,
    csv_cell,
    open_whole,
    place_whole,
    save_whole,
    to_json,
    write_csv,
    write_whole,
)

from .util import names, tree

posix = pytest.mark.skipif(os.name != "posix", reason="links, modes and pipes of POSIX")


# Files


def test_a_file_and_its_folder_are_made(tmp_path):
    write_whole(tmp_path / "a" / "b.bin", b"\xff")
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"\xff"
    with open_whole(tmp_path / "a" / "c.txt") as file:
        file.write("\u00e9\r\n")
    assert (tmp_path / "a" / "c.txt").read_bytes() == b"\xc3\xa9\r\n"
    assert names(tmp_path / "a") == ["b.bin", "c.txt"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file(tmp_path, failure):
    (tmp_path / "x").write_text("old")

    def lines():
        yield "new"
        raise failure

    with pytest.raises(failure), open_whole(tmp_path / "x") as file:
        file.writelines(lines())
    assert tree(tmp_path) == {"x": b"old"}


@posix
def test_permissions_are_kept(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    path.chmod(0o640)
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    write_whole(tmp_path / "y", b"")
    (tmp_path / "z").touch()
    assert (tmp_path / "y").stat().st_mode == (tmp_path / "z").stat().st_mode


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anything")
def test_a_protected_file_stays(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    path.chmod(0o400)
    with pytest.raises(PermissionError, match="x"):
        write_whole(path, b"new")
    assert path.read_text() == "old"


@posix
def test_data_goes_where_a_link_leads(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "target").write_text("old")
    (tmp_path / "link").symlink_to("far/target")
    (tmp_path / "broken").symlink_to("far/new")
    write_whole(tmp_path / "link", b"1")
    write_whole(tmp_path / "broken", b"2")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "broken").is_symlink()
    assert tree(tmp_path / "far") == {"target": b"1", "new": b"2"}


def test_files_and_folders_do_not_become_each_other(tmp_path):
    with pytest.raises(IsADirectoryError, match="E_SR953.*is a folder"):
        write_whole(tmp_path, b"")
    (tmp_path / "x").write_text("mine")
    with pytest.raises(FileExistsError, match="E_SR953.*is a file"):
        place_whole(tmp_path / "x", fill)
    assert tree(tmp_path) == {"x": b"mine"}


@posix
def test_a_pipe_is_written_into(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    write_whole(path, b"through")
    reader.join(10)
    assert read == [b"through"]
    assert path.is_fifo()


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/stdout of Linux")
def test_standard_output_is_written_into(tmp_path):
    (tmp_path / "link").symlink_to("/dev/stdout")
    program = (
        "from spacy_spanrel.files import write_whole\n"
        f"for name in ('/dev/stdout', '/dev/fd/1', {str(tmp_path / 'link')!r}):\n"
        "    print('before', flush=True); write_whole(name, b'data'); print('!', flush=True)"
    )
    command = [sys.executable, "-c", program]
    piped = subprocess.run(command, capture_output=True, check=True)
    assert piped.stdout == b"before\ndata!\n" * 3
    with (tmp_path / "file").open("wb") as file:
        subprocess.run(command, stdout=file, check=True)
    assert (tmp_path / "file").read_bytes() == b"before\ndata!\n" * 3
    assert Path("/dev/stdout").is_symlink()


# Inputs


def test_an_output_is_not_an_input(tmp_path):
    source = tmp_path / "in.txt"
    source.write_text("")
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "deep" / "part.txt").write_text("")
    check_output(tmp_path / "out.txt", source, None, "en_core_web_sm", tmp_path / "folder")
    check_output(tmp_path / "folder" / "new.txt", tmp_path / "folder")
    check_output("en_core_web_sm", "en_core_web_sm")
    same = [source, tmp_path / "folder" / ".." / "in.txt"]
    if os.name == "posix":
        (tmp_path / "soft").symlink_to(source)
        os.link(source, tmp_path / "hard")
        same += [tmp_path / "soft", tmp_path / "hard"]
    for output in same:
        with pytest.raises(ValueError, match="E_SR951") as error:
            check_output(output, tmp_path / "folder", source)
        assert str(output) in str(error.value)
        assert str(source) in str(error.value)
    with pytest.raises(ValueError, match="E_SR951"):
        check_output(tmp_path / "folder" / "deep" / "part.txt", tmp_path / "folder")
    with pytest.raises(ValueError, match="E_SR952.*holds"):
        check_output(tmp_path, source)


@posix
def test_devices_are_no_common_file():
    check_output(os.devnull, os.devnull)


# Folders


def fill(folder: Path, text: str = "new") -> None:
    folder.mkdir()
    (folder / "a.txt").write_text(text)
    (folder / "sub").mkdir()
    (folder / "sub" / "b.txt").write_text(text)


def test_a_folder_of_ours_is_replaced(tmp_path):
    folder = tmp_path / "made" / "x"
    place_whole(folder, lambda path: fill(path, "old"))
    place_whole(folder, fill)
    assert names(tmp_path / "made") == ["x"]
    assert names(folder) == [MARKER, "a.txt", "sub"]
    assert (folder / "sub" / "b.txt").read_text() == "new"
    with pytest.raises(FileExistsError, match="E_SR954"):
        check_folder(folder, force=False)


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "x").mkdir()
    place_whole(tmp_path / "x", fill)
    assert (tmp_path / "x" / "a.txt").read_text() == "new"


@pytest.mark.parametrize("foreign", ["notes.txt", "sub/notes.txt", "empty"])
def test_a_folder_with_something_else_stays(tmp_path, foreign):
    folder = tmp_path / "x"
    place_whole(folder, fill)
    if foreign == "empty":
        (folder / foreign).mkdir()
    else:
        (folder / foreign).write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(FileExistsError, match=f"E_SR641.*'{foreign}'"):
        place_whole(folder, fill)
    assert tree(tmp_path) == before


def test_a_folder_of_others_stays(tmp_path):
    fill(tmp_path / "x", "mine")
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / MARKER).write_text('{"files": ["precious"]}')
    for folder in (tmp_path / "x", tmp_path / "y"):
        before = tree(folder)
        with pytest.raises(FileExistsError, match="E_SR641"):
            place_whole(folder, fill)
        assert tree(folder) == before


def test_a_folder_above_or_inside_of_an_input_is_not_written(tmp_path):
    model = tmp_path / "x" / "model"
    model.parent.mkdir()
    fill(model)
    before = tree(tmp_path)
    for folder, message in (
        (tmp_path / "x", "E_SR952.*holds"),
        (model, "E_SR951"),
        (model / "copy", "E_SR952.*lies inside"),
        (model / "sub", "E_SR952.*lies inside"),
    ):
        with pytest.raises(ValueError, match=message):
            place_whole(folder, fill, inputs=[model])
    assert tree(tmp_path) == before


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_the_old_folder(tmp_path, monkeypatch, failure):
    place_whole(tmp_path / "x", lambda path: fill(path, "old"))
    before = tree(tmp_path)

    def broken(path: Path) -> None:
        fill(path)
        raise failure

    with pytest.raises(failure):
        place_whole(tmp_path / "x", broken)
    assert tree(tmp_path) == before
    # Between the moment when the old folder is moved away and that when the new one comes.
    replace, calls = os.replace, []

    def interrupted(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise failure
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", interrupted)
    with pytest.raises(failure):
        place_whole(tmp_path / "x", fill)
    assert tree(tmp_path) == before
    assert names(tmp_path) == ["x"]


@posix
def test_a_link_to_a_folder_keeps_leading_there(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "x").symlink_to("far")
    place_whole(tmp_path / "x", fill)
    assert (tmp_path / "x").is_symlink()
    assert (tmp_path / "far" / "a.txt").read_text() == "new"


def test_pipelines_are_replaced_and_nothing_beside_them(tmp_path):
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    folder = tmp_path / "model"
    nlp.to_disk(folder)  # by another program
    (folder / "README.md").write_text("card")
    nlp.add_pipe("entity_ruler")
    save_whole(nlp, folder)
    assert spacy.load(folder).pipe_names == ["sentencizer", "entity_ruler"]
    assert MARKER not in names(folder)
    (folder / "thesis.txt").write_text("mine")
    before = tree(folder)
    with pytest.raises(FileExistsError, match=r"E_SR641.*'thesis\.txt'"):
        save_whole(spacy.blank("en"), folder)
    assert tree(folder) == before


# JSON and CSV


def test_json_is_strict():
    value = {
        "a": math.nan,
        "b": [math.inf, numpy.float32(0.5), {1: 2}, (1.5,)],
        "c": numpy.arange(2),
        "d": "\u2602",
        "e": datetime.datetime(2020, 1, 2, 3),
        "f": b"\xff",
        "g": Path("x"),
    }
    plain = {
        **{"a": None, "b": [None, 0.5, {"1": 2}, [1.5]], "c": [0, 1], "d": "\u2602"},
        **{"e": "2020-01-02T03:00:00", "f": "/w==", "g": "x"},
    }
    assert to_json(value) == json.dumps(plain, ensure_ascii=False)
    assert json.loads(to_json(value, indent=1)) == plain


CELLS = [
    "=1+1",
    "+1",
    "-1",
    "@x",
    "\tx",
    "\rx",
    "\nx",
    "a\rb",
    "a\nb",
    'a"b',
    "a,b",
    "",
    "a=1",
    -1.5,
]


@pytest.mark.parametrize("raw", [False, True])
def test_csv_comes_back_and_runs_nothing(tmp_path, raw):
    path = tmp_path / "x.csv"
    cells = [{"n": i, "cell": cell} for i, cell in enumerate(CELLS)]
    write_csv(path, ["cell", "n"], cells, raw=raw)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    expected = [str(cell if raw else csv_cell(cell)) for cell in CELLS]
    assert [row["cell"] for row in rows] == expected
    assert [row["n"] for row in rows] == [str(i) for i in range(len(CELLS))]
    if not raw:
        assert [cell[0] for cell in expected[:7]] == ["'"] * 7
        assert expected[7:] == [str(cell) for cell in CELLS[7:]]
    # Rows end with a line feed; carriage returns and line feeds of cells are in quotes.
    data = path.read_bytes()
    assert data.startswith(b"cell,n\n")
    assert b'"a\rb",7\n' in data
    assert b'"a\nb",8\n' in data
