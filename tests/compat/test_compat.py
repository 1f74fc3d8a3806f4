"""The comparison across versions of transformers, run by `make compat`, detects differences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..encoders.util import ENCODERS
from .pipelines import PREDICTIONS, VERSIONS, check_all, save_all

ROBERTA = next(encoder for encoder in ENCODERS if encoder.name == "roberta")


@pytest.fixture(scope="module")
def _saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compat")
    save_all(folder, [ROBERTA])
    return folder


@pytest.fixture
def saved(_saved: Path) -> Path:
    """A folder with one pipeline, whose file of predictions is restored after the test."""
    path = _saved / ROBERTA.slug / PREDICTIONS
    original = path.read_text(encoding="utf-8")
    yield _saved
    path.write_text(original, encoding="utf-8")


def test_equal_predictions(saved: Path) -> None:
    assert check_all(saved) == []
    versions = json.loads((saved / VERSIONS).read_text())
    assert set(versions) >= {"torch", "transformers", "tokenizers"}


@pytest.mark.parametrize("what", ["places", "numbers"])
def test_different_predictions_are_reported(saved: Path, what: str) -> None:
    path = saved / ROBERTA.slug / PREDICTIONS
    saved_predictions = json.loads(path.read_text(encoding="utf-8"))
    if what == "places":
        saved_predictions[0]["places"][0][0] += 1
    else:
        saved_predictions[0]["numbers"][0] += 1e-3
    path.write_text(json.dumps(saved_predictions), encoding="utf-8")
    (problem,) = check_all(saved)
    assert problem.startswith("roberta: ")


def test_pipeline_that_does_not_load_is_reported(saved: Path) -> None:
    path = saved / ROBERTA.slug / "pipeline" / "extractive_qa" / "model"
    original = path.read_bytes()
    model_type = b'"model_type": "roberta"'
    assert model_type in original
    path.write_bytes(original.replace(model_type, b'"model_type": "unheard"'))
    try:
        (problem,) = check_all(saved)
    finally:
        path.write_bytes(original)
    assert problem.startswith("roberta: [E_SR218]")
    assert "unheard" in problem


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        check_all(tmp_path)
