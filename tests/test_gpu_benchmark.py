"""The GPU benchmark also runs on the CPU, and explains how if there is no GPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from .util import run_script, tiny_checkpoint

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu.py"
if not SCRIPT.is_file():
    pytest.skip("source distributions have no benchmarks", allow_module_level=True)


RECORD = {
    "tokens": ["John", "Smith", "works", "for", "Google", "in", "Paris", "."],
    "entities": [
        {"type": "Per", "start": 0, "end": 2},
        {"type": "Org", "start": 4, "end": 5},
        {"type": "Loc", "start": 6, "end": 7},
    ],
    "relations": [
        {"type": "works", "head": 0, "tail": 1},
        {"type": "based", "head": 1, "tail": 2},
    ],
    "orig_id": "1",
}
ANSWER = {"text": "Paris", "answer_start": 25}
QUESTION = {"id": "1", "question": "where is he ?", "answers": [ANSWER], "is_impossible": False}
TEXT = {"context": "John Smith works in city Paris .", "qas": [QUESTION]}
QUESTIONS = {"version": "v2.0", "data": [{"title": "a", "paragraphs": [TEXT]}]}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    return partial(run_script, monkeypatch, SCRIPT)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_error_without_a_gpu_explains_what_to_do(run: Callable[..., None]) -> None:
    with pytest.raises(SystemExit, match="finds no CUDA device.*--device cpu") as info:
        run()
    assert isinstance(info.value.code, str)  # printed, with exit code 1


def test_writes_rows_of_all_components(run: Callable[..., None], tmp_path: Path) -> None:
    encoder = tiny_checkpoint(tmp_path / "tiny", max_position=400)
    output = tmp_path / "rows.jsonl"
    output.write_text('{"kept": true}\n')
    (tmp_path / "docs.json").write_text(json.dumps([RECORD]))
    (tmp_path / "questions.json").write_text(json.dumps(QUESTIONS))
    data = ("--data", tmp_path / "docs.json", "--qa-data", tmp_path / "questions.json")
    options = ("--device", "cpu", "--limit", "4", "--rounds", "1", "--output", output)
    run("--encoders", encoder, *data, *options)
    kept, *rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert kept == {"kept": True}
    units = {"span_relation": "docs", "relation_classifier": "pairs", "extractive_qa": "questions"}
    measured = set()
    for row in rows:
        component, name, what = row["what"].split(", ", 2)
        assert name == str(encoder)
        assert row["device"] == "CPU"
        assert row["torch"] == torch.__version__
        assert row[f"{units[component]}_per_s"] > 0
        assert row[f"baseline_{units[component]}_per_s"] > 0
        assert row["ratio"] > 0
        measured.add((component, what.split(",")[0], row["precision"]))
    assert measured == {
        (component, what, precision)
        for component in units
        for what in ("prediction", "training")
        for precision in ("float32", "bfloat16")
    }
