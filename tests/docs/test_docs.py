"""Every example of the documentation does what it shows."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .blocks import Run, read_blocks
from .workspace import ROOT, make_workspace

DOCS = ROOT / "docs"
if not DOCS.is_dir():
    pytest.skip("source distributions have no docs", allow_module_level=True)

PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
# Pages on which `out/model-best` is another pipeline from the start.
PIPELINES = {"extractive_qa.md": "extractive_qa"}
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "template"
    folder.mkdir()
    make_workspace(folder)
    return folder


@pytest.fixture
def workspace(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples(page: Path, workspace: Path, fresh_extensions: object) -> None:
    blocks = list(read_blocks(page))
    known = PIPELINES.get(page.name)
    if known is not None:
        shutil.rmtree(workspace / "out" / "model-best")
        shutil.copytree(workspace / "trained" / known, workspace / "out" / "model-best")
    run = Run(workspace)
    for block in blocks:
        run.run(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_every_page_is_in_the_navigation() -> None:
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in PAGES[1:]:
        assert f": {page.relative_to(DOCS).as_posix()}\n" in config


@pytest.mark.slow
def test_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "commands.html").read_text(encoding="utf-8")
    assert "find-null-threshold" in page
    assert (
        "<!-- "
        not in (tmp_path / "components" / "extractive_qa.html")
        .read_text()
        .split("<article")[1]
        .split("</article")[0]
    )
