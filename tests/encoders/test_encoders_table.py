"""The table in docs/encoders.md matches the checks in this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ..util import load_script
from .util import COMPONENTS, ENCODERS

ROOT = Path(__file__).parents[2]
if not (ROOT / "docs").is_dir():
    pytest.skip("source distributions have no docs", allow_module_level=True)


script: Any = load_script("encoders")
ROWS = script.read_rows()


def test_columns() -> None:
    assert script.COLUMNS[1:] == COMPONENTS


@pytest.mark.parametrize("major", ["4", "5"])
def test_results_cover_all_encoders_and_checks(major: str) -> None:
    rows = [row for row in ROWS if row["transformers"].startswith(f"{major}.")]
    assert sorted((row["encoder"], row["component"]) for row in rows) == sorted(
        (encoder.name, column) for encoder in ENCODERS for column in script.COLUMNS
    )
    wanted = script.checks()
    for row in rows:
        assert row["checks"] == sorted(wanted[row["component"]])
        assert row["failed"] == []


def test_every_check_has_a_description() -> None:
    assert all(text for group in script.checks().values() for text in group.values())


def test_page_shows_the_results() -> None:
    page = script.PAGE.read_text(encoding="utf-8")
    assert script.fill(page, script.render(ROWS)) == page
    for encoder in ENCODERS:
        assert f"| {encoder.name} | {encoder.pieces} | `{encoder.like}` | 4, 5 |" in page


def test_a_failure_is_shown() -> None:
    rows = [dict(row) for row in ROWS]
    rows[0]["failed"] = ["windows"]
    assert f"fails with {rows[0]['transformers']}: windows" in script.render(rows)
