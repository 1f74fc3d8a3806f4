"""The comparison across versions of transformers finds differences. (`make compat` runs it.)"""

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
    """A folder with one pipeline. The file of predictions is put back."""
    path = _saved / ROBERTA.slug / PREDICTIONS
    kept = path.read_text(encoding="utf-8")
    yield _saved
    path.write_text(kept, encoding="utf-8")


def test_what_is_equal(saved: Path) -> None:
    assert check_all(saved) == []
    assert set(json.loads((saved / VERSIONS).read_text())) == {
        "torch",
        "transformers",
        "tokenizers",
    }


@pytest.mark.parametrize("what", ["places", "numbers"])
def test_what_differs(saved: Path, what: str) -> None:
    path = saved / ROBERTA.slug / PREDICTIONS
    found = json.loads(path.read_text(encoding="utf-8"))
    if what == "places":
        found[0]["places"][0][0] += 1
    else:
        found[0]["numbers"][0] += 1e-3
    path.write_text(json.dumps(found), encoding="utf-8")
    (problem,) = check_all(saved)
    assert problem.startswith("roberta: ")


def test_what_does_not_load(saved: Path) -> None:
    path = saved / ROBERTA.slug / "pipeline" / "extractive_qa" / "model"
    kept = path.read_bytes()
    known = b'"model_type": "roberta"'
    assert known in kept
    path.write_bytes(kept.replace(known, b'"model_type": "unheard"'))
    try:
        (problem,) = check_all(saved)
    finally:
        path.write_bytes(kept)
    assert problem.startswith("roberta: [E_SR218]")
    assert "unheard" in problem


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        check_all(tmp_path)
