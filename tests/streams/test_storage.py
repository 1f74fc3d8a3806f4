"""Outputs in a storage: in memory, and on a disk that is reached as if it were one."""

from __future__ import annotations

import gzip
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import known_implementations
from fsspec.spec import AbstractBufferedFile
from spacy.language import Language
from spacy.tokens import Doc

from spacy_spanrel.converters import ConversionError
from spacy_spanrel.files import MARKER
from spacy_spanrel.streams import annotate, merge_shards
from spacy_spanrel.streams.annotate import unfinished
from spacy_spanrel.streams.review import ReviewSettings

from ..cli.util import one_line, run, succeed
from ..util import names, tree
from .test_inputs import put
from .util import TEXTS, killed, numbered, rules, write_jsonl, write_source

NAMES = ("x.jsonl", "x.jsonl.gz", "x.jsonl.zst", "x.parquet", "x/", "x.spacy", "x")


class Blocks(AbstractBufferedFile):
    """A file that is fetched in blocks, as those of object stores are."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        return Path(self.path).read_bytes()[start:end]


class Disk(LocalFileSystem):
    """A storage that shows a file as soon as the first half of it is there."""

    protocol = "disk"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(item) for item in path]
        return super()._strip_protocol(os.fspath(path).removeprefix("disk://"))

    def unstrip_protocol(self, name: str) -> str:
        return f"disk://{self._strip_protocol(name)}"

    def _open(self, path: str, mode: str = "rb", **settings: Any) -> Any:
        if mode == "rb":
            return Blocks(self, path)
        return super()._open(path, mode, **settings)

    def pipe_file(self, path: str, value: bytes, **_: Any) -> None:
        self._write(path, value)

    def put_file(self, lpath: str, rpath: str, **_: Any) -> None:
        self._write(rpath, Path(lpath).read_bytes())

    def _write(self, path: str, data: bytes) -> None:
        self.begin()
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data[: len(data) // 2])
        self.half()
        target.write_bytes(data)

    def begin(self) -> None:
        """Do nothing, where a test may raise or kill."""

    def half(self) -> None:
        """Do nothing, where a test may raise or kill."""


fsspec.register_implementation("disk", Disk, clobber=True)
UPLOAD = [
    *((Disk, name) for name in ("half", "mv", "rm", "rm_file")),
    (os, "unlink"),
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a file of twelve texts, of which the fifth makes `raise_on_boom` raise."""
    texts = numbered(12)
    texts[4] = "boom"
    (tmp_path / "in").mkdir()
    return write_jsonl(
        tmp_path / "in" / "in.jsonl", [{"id": i, "text": t} for i, t in enumerate(texts)]
    )


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Return the folder of unfinished runs."""
    return tmp_path / "work"


def content(address: str) -> dict[str, bytes]:
    """Return the files of a folder of a storage by their names."""
    system, path = fsspec.core.url_to_fs(address)
    return {name.removeprefix(path)[1:]: system.cat_file(name) for name in system.find(path)}


def settings(name: str, **more: Any) -> dict[str, Any]:
    return {"output_format": "spacy" if name == "x" else None, "chunk_size": 5, **more}


@pytest.mark.parametrize("name", NAMES)
def test_the_files_are_those_of_a_run_without_a_storage(source, tmp_path, memory, work, name):
    nlp = rules("raise_on_boom")
    annotate(nlp, source, f"{tmp_path}/out/{name}", **settings(name))
    report = annotate(nlp, source, f"{memory}/new/{name}", work=work, **settings(name))
    assert content(f"{memory}/new") == tree(tmp_path / "out")
    assert names(work) == []
    assert str(report.output) == f"{memory}/new/{name.rstrip('/')}"
    assert str(report.errors) == f"{memory}/new/{name.rstrip('/')}.errors.jsonl"
    assert (report.rows, report.failed) == (12, 1)


@pytest.mark.parametrize("name", NAMES)
def test_no_rows(ruler, tmp_path, memory, work, name):
    source = tmp_path / "in.txt"
    source.write_text("\n")
    annotate(ruler, source, f"{tmp_path}/out/{name}", **settings(name))
    annotate(ruler, source, f"{memory}/{name}", work=work, **settings(name))
    assert content(memory) == tree(tmp_path / "out")


@pytest.mark.parametrize("kind", ["txt", "jsonl", "jsonl.gz", "csv", "parquet", "json", "spacy"])
def test_inputs_that_are_fetched_in_blocks(ruler, tmp_path, kind):
    path = write_source(
        tmp_path / f"in.{kind.removesuffix('.gz')}", [{"id": "a", "text": t} for t in TEXTS]
    )
    if kind.endswith(".gz"):
        path = tmp_path / f"in.{kind}"
        path.write_bytes(gzip.compress((tmp_path / "in.jsonl").read_bytes()))
    for name, source in (("x.jsonl", path), ("y.jsonl", f"disk://{path}")):
        annotate(ruler, source, tmp_path / name)
    assert (tmp_path / "x.jsonl").read_bytes() == (tmp_path / "y.jsonl").read_bytes()


def test_review(full_path, tmp_path, memory, work):
    source = tmp_path / "in.txt"
    source.write_text("John Smith works for Acme in Paris.\nNothing here.\n")
    borders = ReviewSettings(0.001, 0.99)
    report = annotate(full_path, source, tmp_path / "out" / "x", review=borders)
    remote = annotate(full_path, source, f"{memory}/x", review=borders, work=work)
    assert content(memory) == tree(tmp_path / "out")
    assert remote.review == report.review


@pytest.mark.parametrize("name", ["x.jsonl", "x/"])
def test_a_kill_at_any_step_of_the_upload(source, tmp_path, work, name):
    nlp = rules("raise_on_boom")
    annotate(nlp, source, f"{tmp_path}/new/{name}", **settings(name))
    expected = tree(tmp_path / "new")
    # An output of other texts, which has more files and no errors, is replaced.
    other = write_jsonl(tmp_path / "other.jsonl", numbered(30))
    annotate(nlp, other, f"{tmp_path}/old/{name}", **settings(name))
    old = tree(tmp_path / "old")
    for before in ({}, old):
        at = 0
        while True:
            shutil.rmtree(tmp_path / "storage", ignore_errors=True)
            if before:
                shutil.copytree(tmp_path / "old", tmp_path / "storage")

            def upload(force: bool = bool(before)) -> None:
                target = f"disk://{tmp_path}/storage/{name}"
                annotate(nlp, source, target, work=work, force=force, **settings(name))

            if not killed(upload, at, changes=UPLOAD):
                break
            there = tree(tmp_path / "storage") if (tmp_path / "storage").exists() else {}
            if name in there:  # a file is the old one or the new one
                assert there[name] in (before.get(name), expected[name])
            if marker := there.get(
                f"x/{MARKER}"
            ):  # a folder with its marker has all files of one run
                (whole,) = (run for run in (before, expected) if run.get(f"x/{MARKER}") == marker)
                visible = {file for file in there if "/." not in file} & {*old, *expected}
                assert {f: there[f] for f in visible if "/" in f} == {
                    f: data for f, data in whole.items() if "/" in f and "/." not in f
                }
            # The same command again. If the run was killed when all was done, it says that OUTPUT exists.
            with suppress(FileExistsError):
                upload()
            assert tree(tmp_path / "storage") == expected
            assert names(work) == []
            at += 1 if before else 2
        assert at > 6


def test_what_fails_in_the_upload_is_uploaded_by_the_same_command(
    ruler, source, tmp_path, work, monkeypatch
):
    output = f"disk://{tmp_path}/storage/found/"
    calls = []

    def half(self: Disk) -> None:
        calls.append(1)
        if len(calls) == 4:
            raise TimeoutError("the line is dead")

    monkeypatch.setattr(Disk, "half", half)
    with pytest.raises(OSError, match=r"E_SR972.*storage/found.*the line is dead"):
        annotate(ruler, source, output, work=work, chunk_size=5)
    assert unfinished(output, work=work)
    assert MARKER not in names(tmp_path / "storage" / "found")
    report = annotate(ruler, source, output, work=work, chunk_size=5)
    assert (report.rows, report.resumed_at) == (12, 12)
    assert not unfinished(output, work=work)
    annotate(ruler, source, f"{tmp_path}/local/found/", chunk_size=5)
    assert tree(tmp_path / "storage") == tree(tmp_path / "local")


@pytest.mark.parametrize("name", ["x.jsonl", "x/"])
def test_what_is_there_is_not_replaced_unasked(ruler, source, tmp_path, memory, work, name):
    output = f"{memory}/{name}"
    annotate(
        ruler, write_jsonl(tmp_path / "old.jsonl", numbered(30)), output, work=work, chunk_size=5
    )
    before = content(memory)
    with pytest.raises(FileExistsError, match=f"E_SR920.*{memory}/x"):
        annotate("no_such_pipeline", source, output, work=work)  # before anything is loaded
    assert content(memory) == before
    assert names(work) == []
    annotate(ruler, source, output, work=work, force=True, chunk_size=5)
    annotate(ruler, source, f"{tmp_path}/out/{name}", chunk_size=5)
    assert content(memory) == tree(tmp_path / "out")


def test_files_of_others_stay(ruler, source, memory, work):
    annotate(ruler, source, f"{memory}/x/", work=work)
    put(f"{memory}/x/notes.txt", b"mine")
    before = content(memory)
    with pytest.raises(FileExistsError, match=r"E_SR641.*notes\.txt"):
        annotate(ruler, source, f"{memory}/x/", work=work, force=True)
    put(f"{memory}/y.jsonl.errors.jsonl", b"mine\n")
    with pytest.raises(FileExistsError, match=r"E_SR955.*y\.jsonl\.errors\.jsonl"):
        annotate(ruler, source, f"{memory}/y.jsonl", work=work)
    with pytest.raises(FileExistsError, match=r"E_SR953.*folder"):
        annotate(ruler, source, f"{memory}/x", output_format="jsonl", work=work, force=True)
    with pytest.raises(FileExistsError, match=r"E_SR953.*file"):
        annotate(ruler, source, f"{memory}/x/notes.txt/", work=work, force=True)
    put(f"{memory}/y.jsonl.errors.jsonl", b"")
    assert content(memory).items() >= before.items()


@pytest.mark.parametrize("name", ["x.jsonl", "x/"])
def test_what_comes_during_the_run_stays(source, memory, work, name):
    nlp, component = rules(), f"tests_put_{len(name)}"

    @Language.component(component)
    def tests_put(doc: Doc) -> Doc:
        put(f"{memory}/x.jsonl" if name == "x.jsonl" else f"{memory}/x/notes.txt", b"mine")
        return doc

    nlp.add_pipe(component)
    with pytest.raises(FileExistsError, match="E_SR920"):
        annotate(nlp, source, f"{memory}/{name}", work=work)
    assert list(content(memory).values()) == [b"mine"]
    assert unfinished(f"{memory}/{name}", work=work)


def test_an_old_file_of_errors_is_removed(source, memory, work):
    nlp = rules("raise_on_boom")
    annotate(nlp, source, f"{memory}/x.jsonl", work=work)
    assert sorted(content(memory)) == ["x.jsonl", "x.jsonl.errors.jsonl"]
    annotate(nlp, source, f"{memory}/x.jsonl", work=work, disable=["raise_on_boom"], force=True)
    assert sorted(content(memory)) == ["x.jsonl"]


def test_outputs_of_one_name_in_two_folders(source, memory, work):
    nlp = rules("raise_on_boom")
    for folder in ("a", "b"):
        with pytest.raises(ValueError, match="E_SR924|E_SR925"):
            annotate(
                nlp, source, f"{memory}/{folder}/x.jsonl", work=work, max_errors=0, chunk_size=2
            )
    assert len(names(work)) == 2
    for folder in ("b", "a"):
        report = annotate(nlp, source, f"{memory}/{folder}/x.jsonl", work=work, chunk_size=2)
        assert report.resumed_at > 0
    assert content(f"{memory}/a") == content(f"{memory}/b")
    assert names(work) == []


# Shards


@pytest.mark.parametrize("by", ["rows", "files"])
@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet"])
def test_shards(source, tmp_path, memory, work, kind, by):
    nlp = rules("raise_on_boom")
    for k in (2, 1):
        given = {"shard": f"{k}/2", "shard_by": by, "output_format": kind, "max_errors": 9}
        annotate(nlp, source, tmp_path / "out" / "x", **given)
        report = annotate(nlp, source, f"{memory}/x", work=work, **given)
        assert str(report.output) == f"{memory}/x/0000{k}-of-00002.{kind}"
        again = annotate(nlp, source, f"{memory}/x", work=work, **given)
        assert (again.rows, again.resumed_at) == (report.rows, report.rows)
    assert content(memory) == tree(tmp_path / "out")
    merged = merge_shards(tmp_path / "out" / "x")
    remote = merge_shards(f"{memory}/x", work=work)
    assert str(remote.output) == f"{memory}/x.{kind}"
    assert content(memory) == tree(tmp_path / "out")
    assert (remote.rows, remote.failed) == (merged.rows, merged.failed) == (12, 1)
    assert names(work) == []
    with pytest.raises(FileExistsError, match=f"E_SR920.*{memory}/x.{kind}"):
        merge_shards(f"{memory}/x", work=work)
    merge_shards(f"{memory}/x", work=work, force=True)


def test_shards_that_are_missing_or_others(ruler, source, memory, work):
    with pytest.raises(ValueError, match=f"E_SR968.*{memory}/x.*no such folder"):
        merge_shards(f"{memory}/x", work=work)
    annotate(ruler, source, f"{memory}/x", shard="2/2", work=work)
    with pytest.raises(ValueError, match="no complete shard 1 of 2"):
        merge_shards(f"{memory}/x", work=work)
    with pytest.raises(FileExistsError, match="E_SR920.*00002-of-00002"):
        annotate(ruler, source, f"{memory}/x", shard="2/2", work=work, chunk_size=3)


def test_killed_shards_go_on(source, tmp_path, work):
    nlp = rules("raise_on_boom")
    output = f"disk://{tmp_path}/storage/x"

    def shard() -> None:
        annotate(nlp, source, output, shard="1/1", work=work, chunk_size=5)

    at = 0
    while killed(shard, at, changes=UPLOAD):
        assert at == 0 or not unfinished(output, "1/2", work)
        at += 1
    annotate(nlp, source, tmp_path / "out" / "x", shard="1/1", chunk_size=5)
    assert tree(tmp_path / "storage") == tree(tmp_path / "out")
    assert names(work) == []


# Refused from the start


def test_storages_that_refuse(source, tmp_path, work, monkeypatch):
    def begin(self: Disk, *_: str) -> None:
        raise PermissionError("Access Denied")

    missing = {"class": "no_such_package.System", "err": "Install no_such_package"}
    monkeypatch.setitem(known_implementations, "nowhere", missing)
    with pytest.raises(ImportError, match="Install no_such_package"):
        annotate("no_such_pipeline", source, "nowhere://b/x.jsonl", work=work)
    with pytest.raises(OSError, match=r"E_SR972.*sps://b/x\.jsonl.*[Pp]rotocol"):
        annotate("no_such_pipeline", source, "sps://b/x.jsonl", work=work)
    monkeypatch.setattr(Disk, "begin", begin)
    monkeypatch.setattr(Disk, "isdir", begin)
    with pytest.raises(OSError, match=r"E_SR972\] 'disk:///in'.*Access Denied"):
        annotate("no_such_pipeline", "disk:///in", tmp_path / "x.jsonl")
    with pytest.raises(OSError, match=r"E_SR972\] 'disk://.*/x\.jsonl'.*Access Denied"):
        annotate("no_such_pipeline", source, f"disk://{tmp_path}/x.jsonl", work=work)
    assert not work.exists() or names(work) == []


@pytest.mark.parametrize(
    "output", ["s3://bucket", "s3://bucket/", "s3://bucket/*.jsonl", "s3://b/[1]/"]
)
def test_addresses_that_name_no_output(source, output):
    with pytest.raises(ConversionError, match="OUTPUT.*address of a file or folder"):
        annotate("no_such_pipeline", source, output)


def test_the_input_stays(ruler, source, tmp_path, memory, work):
    put(f"{memory}/in/a/1.jsonl", source.read_bytes())
    before = content(memory)
    for given, output, part in (
        ("in/a/1.jsonl", "in/a/1.jsonl", "E_SR951"),
        ("in/**/*.jsonl", "in/a/1.jsonl", "E_SR951"),
        ("in/a/1.jsonl", "in/", "E_SR952.*holds"),
        ("in", "in/x.jsonl", "outside of the input"),
        ("in/**/*.jsonl", "in/b/x.jsonl", "outside of the input"),
        ("in/*/**/1.jsonl", "in/b/x.jsonl", "outside of the input"),
    ):
        with pytest.raises(ValueError, match=part):
            annotate(ruler, f"{memory}/{given}", f"{memory}/{output}", force=True, work=work)
    with pytest.raises(ValueError, match="E_SR951"):
        annotate(ruler, source, f"file://{source}", force=True)
    with pytest.raises(ValueError, match="E_SR951"):
        annotate(ruler, f"file://{source}", source, force=True)
    assert content(memory) == before
    annotate(ruler, f"{memory}/in/*/1.jsonl", f"{memory}/in/x.jsonl", work=work)


def test_files_of_this_machine_need_no_work_folder(ruler, source, tmp_path):
    report = annotate(ruler, f"file://{source}", f"file://{tmp_path}/x/")
    assert report.output == tmp_path / "x"
    assert MARKER in names(tmp_path / "x")
    with pytest.raises(ConversionError, match="--work.*unless OUTPUT is an address"):
        annotate(ruler, source, tmp_path / "y.jsonl", work=tmp_path)


def test_the_command(full_path, source, tmp_path, memory, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = succeed("annotate", full_path, source, f"{memory}/x.jsonl")
    assert f"12rowsannotatedin{memory}/x.jsonl" in one_line(result.stdout)
    again = run("annotate", full_path, source, f"{memory}/x.jsonl")
    assert again.exit_code == 1
    assert f"Nothingwrittento{memory}/x.jsonl" in one_line(again.stderr)
    given = ["annotate", full_path, source, f"{memory}/y", "--work", "here"]
    succeed(*given, "--shard", "1/1", "--output-format", "jsonl.gz")
    result = succeed("annotate", "--merge", f"{memory}/y", "--work", "here")
    assert f"12rowsannotatedin{memory}/y.jsonl.gz" in one_line(result.stdout)
    assert names(tmp_path) == ["here", "in"]
    assert tree(tmp_path / "here") == {}
