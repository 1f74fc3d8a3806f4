"""The benchmarks that measure accuracy train, score and append rows of one form."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import spacy

from .util import run_script, tiny_checkpoint

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
if not FOLDER.is_dir():
    pytest.skip("source distributions have no benchmarks", allow_module_level=True)

WORDS = ["John", "Smith", "works", "for", "Google", "in", "Paris", "."]
PEOPLE = {"type": "Per", "start": 0, "end": 2}
SPERT = {
    "tokens": WORDS,
    "entities": [PEOPLE, {"type": "Org", "start": 4, "end": 5}],
    "relations": [{"type": "works", "head": 0, "tail": 1}],
    "orig_id": "1",
}
SCIERC = {
    "doc_key": "1",
    "sentences": [WORDS, WORDS],
    "ner": [[[0, 1, "Method"], [4, 4, "Task"]], [[8, 9, "Method"], [12, 12, "Task"]]],
    "relations": [[[0, 1, 4, 4, "COMPARE"]], [[8, 9, 12, 12, "CONJUNCTION"]]],
    "clusters": [],
}
TACRED = {
    "id": "1",
    "relation": "works(e1,e2)",
    "token": WORDS,
    "subj_start": 0,
    "subj_end": 1,
    "obj_start": 4,
    "obj_end": 4,
    "subj_type": "ENTITY",
    "obj_type": "ENTITY",
}
OTHER = {**TACRED, "id": "2", "relation": "no_relation", "obj_start": 6, "obj_end": 6}
SEMEVAL = """1\t"<e1>John</e1> works for <e2>Google</e2>."
Works(e1,e2)

2\t"<e1>John</e1> works in <e2>Paris</e2>."
Other
"""
ANSWER = {"text": "Paris", "answer_start": 25}
QUESTION = {"id": "1", "question": "where is he ?", "answers": [ANSWER], "is_impossible": False}
NEVER = {"id": "2", "question": "who is he ?", "answers": [], "is_impossible": True}
TEXT = {"context": "John Smith works in city Paris .", "qas": [QUESTION, NEVER]}

# Benchmark: its files, options, and the scores of its rows.
CASES: dict[str, tuple[dict[str, Any], list[str], set[str]]] = {
    "conll04": (
        {f"{name}.json": [SPERT] for name in ("train", "dev", "test")},
        ["--tune"],
        {"ents_f", "rel_f", "rel_strict_f"},
    ),
    "scierc": (
        {f"{name}.json": SCIERC for name in ("train", "dev")},
        [],
        {"ents_f", "rel_f", "rel_strict_f", "rel_strict_f_within"},
    ),
    "kbp37": (
        {f"{name}.json": [TACRED, OTHER] for name in ("train", "dev")},
        [],
        {"rel_f", "rel_semeval_macro_f"},
    ),
    "semeval": (
        {f"{name}.txt": SEMEVAL for name in ("train", "dev")},
        ["--sentences", "1"],
        {"rel_f", "rel_semeval_macro_f"},
    ),
    "squad": (
        {
            f"en-v2-{name}.json": {
                "version": "v2.0",
                "data": [{"title": "a", "paragraphs": [TEXT]}],
            }
            for name in ("train", "dev")
        },
        [],
        {"qa_f1", "qa_best_f1"},
    ),
}
COMMON = {
    "benchmark",
    "variant",
    "encoder",
    "seed",
    "trained_on",
    "scored_on",
    "device",
    "precision",
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    return tiny_checkpoint(folder, max_position=400, cased=False)


@pytest.mark.parametrize("name", CASES)
def test_a_setting_on_top_of_the_best_recipe(
    name: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, options, scores = CASES[name]
    for file, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / file).write_text(text)
    output, kept = tmp_path / "rows.jsonl", tmp_path / "kept"
    output.write_text('{"benchmark": "another"}\n')
    settings = ["training.optimizer.grad_clip=0.5", "nlp.batch_size=7"]
    command = ["--data", tmp_path, "--checkpoint", checkpoint, "--output", output, "--keep", kept]
    command += ["--seeds", "1", "--epochs", "1", "--set", "clipped", *settings, *options]
    script = FOLDER / f"{name}.py"
    run_script(monkeypatch, script, *command)
    other, *rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert other == {"benchmark": "another"}
    for row in rows:
        assert COMMON | scores <= set(row)
        assert (row["benchmark"], row["variant"], row["encoder"]) == (name, "clipped", "tiny")
        assert (row["seed"], row["epochs"], row["scored_on"]) == (1, 1, "dev")
        assert row["settings"] == {"training.optimizer.grad_clip": 0.5, "nlp.batch_size": 7}
        assert all(0 <= row[score] <= 100 for score in scores)
    nlp = spacy.load(kept / "clipped-1" / "model-last")
    assert nlp.config["training"]["optimizer"]["grad_clip"] == 0.5
    assert nlp.batch_size == 7
    # What has rows is not trained again.
    run_script(monkeypatch, script, *command)
    assert len(output.read_text().splitlines()) == 1 + len(rows)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ([], ["a", "b"]),
        (["--variants", "b"], ["b"]),
        (["--set", "new", "x.y=true", "x.z=word", 'x.t={"path": "a=b"}'], ["new"]),
        (["--variants", "a", "--set", "new", "x.y=0.5", "--on", "b"], ["a", "new"]),
    ],
)
def test_choice_of_recipes(
    options: list[str], wanted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.delitem(sys.modules, "recipes", raising=False)
    recipes = import_module("recipes")
    make: Callable[..., Any] = recipes.Recipe
    known = {"a": make(3, 8, 1e-4, settings={"x.y": 1}), "b": make(4, 8, 1e-4)}
    parser = recipes.make_parser("About.", known, "a", [1], "name")
    chosen = recipes.chosen_recipes(parser.parse_args([*options, "--epochs", "7"]))
    assert list(chosen) == wanted
    assert {recipe.epochs for recipe, _ in chosen.values()} == {7}
    if "--on" in options:
        assert chosen["new"][0].settings == {"x.y": 0.5}
    elif "new" in chosen:
        settings = {"x.y": True, "x.z": "word", "x.t": {"path": "a=b"}}
        assert chosen["new"] == (make(7, 8, 1e-4, settings=settings), settings)


def test_tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    for module in ("accuracy", "recipes"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    accuracy = import_module("accuracy")
    # The pages have what the script makes of the rows.
    for path in accuracy.PAGES:
        page = path.read_text(encoding="utf-8")
        assert accuracy.fill(page) == page, "run python benchmarks/accuracy.py --write"
    row = {
        **{"encoder": "all-MiniLM-L6-v2", "seed": 1, "epochs": 20, "decoding": "+ best overlap"},
        **{"trained_on": "train", "scored_on": "dev", "seconds": 60, "device": "Abacus"},
        **{"ents_f": 80.0, "rel_f": 70.0, "rel_strict_f": 70.0},
    }
    smoothed = {
        "variant": "smooth",
        "settings": {"components.span_relation.boundary_smoothing": 0.1},
    }
    rows = [
        {**row, "variant": "best", "settings": {}},
        {**row, "variant": "best", "settings": {}, "seed": 2, "rel_strict_f": 71.0},
        {**row, "variant": "best", "settings": {}, "decoding": "original"},
        {**row, **smoothed, "rel_strict_f": 72.0},
    ]
    (tmp_path / "conll04.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(accuracy, "RESULTS", tmp_path)
    (ours,) = [line for line in accuracy.statement("conll04").splitlines() if "Abacus" in line]
    cells = "train, dev | 2 | 80.00 ± 0.00 | 70.00 ± 0.00 | 70.50 ± 0.71 | 1.0, Abacus |"
    assert f"| `span_relation`, best, 20 epochs | all-MiniLM-L6-v2 (22.7 M) | {cells}" in ours
    assert "| smooth | `boundary_smoothing = 0.1` |" in accuracy.ablation("conll04")
    assert "| 72.00 (+1.50) |" in accuracy.ablation("conll04")
    assert accuracy.ablation("squad") == ""
