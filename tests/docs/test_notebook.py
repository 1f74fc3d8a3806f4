"""The notebook of the documentation runs from top to bottom, and keeps its outputs and pictures."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from .workspace import ROOT

NOTEBOOK = ROOT / "docs" / "notebooks" / "quick_start.ipynb"
if not NOTEBOOK.is_file():
    pytest.skip("source distributions have no docs", allow_module_level=True)
# Each on an output that shows a picture.
PICTURES = ["image/svg+xml"] * 3 + ["text/html"]


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def pictures(notebook: dict[str, Any]) -> list[str]:
    """Return the kinds of the pictures that a notebook shows, in their order."""
    outputs = [output for cell in code_cells(notebook) for output in cell["outputs"]]
    return [kind for output in outputs for kind in output.get("data", {}) if kind in PICTURES]


def test_outputs_are_kept() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    notebook = json.loads(text)
    counts = [cell["execution_count"] for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1)), "run it from top to bottom"
    assert pictures(notebook) == PICTURES
    kinds = {output["output_type"] for cell in code_cells(notebook) for output in cell["outputs"]}
    assert "error" not in kinds
    assert not re.search(r"/(home|root|work|Users|tmp)/", text), "a path of somebody's machine"


@pytest.mark.slow
def test_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a checkout in which nothing has been trained: it trains its small pipelines."""
    reason = "nbclient and ipykernel run notebooks: pip install -e '.[dev]'"
    nbclient = pytest.importorskip("nbclient", reason=reason)
    pytest.importorskip("ipykernel", reason=reason)
    import nbformat

    for name in ("assets/sample", "configs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "project.yml", tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    settings = {"timeout": 1200, "kernel_name": "python3"}
    client = nbclient.NotebookClient(
        notebook, resources={"metadata": {"path": str(tmp_path)}}, **settings
    )
    client.execute()
    assert pictures(notebook) == PICTURES
