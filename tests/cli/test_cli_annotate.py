from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import spacy
from spacy.cli._util import app as spacy_app

from spacy_spanrel.files import MARKER
from spacy_spanrel.streams.progress import Progress, Workplace
from tests.cli.util import assert_fails, one_line, run, succeed


def read_jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """Return the folder of a pipeline that finds names by rules."""
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "Per", "pattern": "John"}])
    nlp.add_pipe("sentencizer")
    path = tmp_path_factory.mktemp("model") / "rules"
    nlp.to_disk(path)
    return path


@pytest.fixture
def source(tmp_path) -> Path:
    path = tmp_path / "in.csv"
    path.write_text("id;body\n1;John came.\n2;Nobody came.\n3;too;many\n")
    return path


def test_annotate(model, source, tmp_path):
    output = tmp_path / "new" / "x.jsonl"
    options = ["--text-key", "body", "--delimiter", ";", "--chunk-size", "2", "--batch-size", "1"]
    result = succeed("spanrel", "annotate", model, source, output, *options, main=spacy_app)
    assert [(row["id"], len(row["entities"])) for row in read_jsonl(output)] == [("1", 1), ("2", 0)]
    assert "2 rows annotated" in " ".join(result.stdout.split())
    # Failed rows are reported in any case.
    errors = tmp_path / "new" / "x.jsonl.errors.jsonl"
    assert f"1of3rowsfailed,see{errors}" in one_line(result.stderr)
    assert "3 fields" in result.stderr
    assert sorted(os.listdir(output.parent)) == [output.name, errors.name]

    again = run("annotate", model, source, output, *options)
    assert again.exit_code == 1
    assert "Nothing written" in again.stderr
    assert "--force" in again.stderr
    quiet = run("annotate", model, source, output, *options, "--force", "--quiet", "--strict")
    assert (quiet.exit_code, quiet.stdout) == (1, "")
    assert "1 of 3 rows failed" in " ".join(quiet.stderr.split())


def test_options(model, tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("John\nJohn\n")
    (folder / "b.txt").write_text("John " * 100)
    succeed(
        *("annotate", model, folder, tmp_path / "shards", "--input-format", "text"),
        *("--output-format", "spacy", "--unit", "file"),
        *("--components", "entity_ruler, sentencizer"),
        *("--disable", "sentencizer", "--max-chars", "100", "--max-errors", "1", "--restart", "-q"),
        *("--n-process", "1", "--gpu-id", "-1"),
    )
    assert sorted(os.listdir(tmp_path / "shards")) == [MARKER, "000000.spacy"]
    (error,) = read_jsonl(tmp_path / "shards.errors.jsonl")
    assert "500 characters" in error["message"]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"model": "no_such_model"}, "no_such_model"),
        ({"source": "missing.jsonl"}, "missing.jsonl"),
        ({"output": "x.md"}, "x.md"),
        ({"options": ["--components", "ner"]}, "'ner'"),
        ({"options": ["--text-key", "text"]}, "'body'"),
    ],
)
def test_errors(model, source, tmp_path, change, part):
    out = tmp_path / "out"
    out.mkdir()
    assert_fails(
        run(
            "annotate",
            change.get("model", model),
            tmp_path / change["source"] if "source" in change else source,
            out / change.get("output", "x.jsonl"),
            *["--text-key", "body", "--delimiter", ";"],
            *change.get("options", []),
        ),
        part,
    )
    assert "x.jsonl" not in os.listdir(out)


@pytest.mark.parametrize("option", [["--unit", "page"], ["--chunk-size", "0"], ["-o", "csv"]])
def test_usage_errors(model, source, tmp_path, option):
    assert run("annotate", model, source, tmp_path / "x.jsonl", *option).exit_code == 2


def test_stopped_by_errors(model, tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text('"John"\n7\n8\n"John"\n')
    result = run("annotate", model, source, tmp_path / "x.jsonl", "--max-errors", "1", "-c", "3")
    assert result.exit_code == 1
    assert "x.jsonlisnotcomplete" in one_line(result.stderr)
    assert "continues" in result.stderr
    result = succeed(
        "annotate", model, source, tmp_path / "x.jsonl", "--max-errors", "2", "-c", "3"
    )
    assert "Rows done by an earlier run" in result.stdout
    assert len(read_jsonl(tmp_path / "x.jsonl")) == 2


@pytest.mark.parametrize(
    "kind", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_process_that_is_killed(model, tmp_path, kind):
    source = tmp_path / "in.jsonl"
    # More rows than it can do before the signal arrives, on a busy machine, too.
    n = 6000
    source.write_text("".join(f'{{"id": {i}, "text": "John {i} came."}}\n' for i in range(n)))
    whole, output = tmp_path / "whole.jsonl", tmp_path / "x.jsonl"
    assert run("annotate", model, source, whole).exit_code == 0
    command = ["annotate", str(model), str(source), str(output), "-c", "5"]
    process = subprocess.Popen(
        [sys.executable, "-m", "spacy", "spanrel", *command],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    progress = Workplace(output).progress_path
    for _ in range(12_000):
        if progress.exists() and Progress.load(progress).rows:
            break
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(kind)
    _, errors = process.communicate(timeout=60)
    assert not output.exists()
    if kind == signal.SIGINT:
        assert process.returncode == 130
        assert "the same command continues" in errors
    else:
        assert process.returncode == -signal.SIGKILL
    assert 0 < Progress.load(progress).rows < n
    result = succeed(*command)
    assert "Rows done by an earlier run" in result.stdout
    assert output.read_bytes() == whole.read_bytes()
    assert not progress.exists()
