"""Try all components with encoders of every family, and record the results.

    python scripts/encoders.py            run the checks of tests/encoders with the installed version
                                          of transformers, then write the table
    python scripts/encoders.py --table    only write the table again

The results are written to docs/results/encoders.jsonl, which keeps those with the other major version
of transformers, and from there to the section "Encoders and components" of docs/encoders.md.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "encoders.md"
RESULTS = ROOT / "docs" / "results" / "encoders.jsonl"
HEADING = "## Encoders and components"
# The modules with the checks, and the column of each; None if a parameter of its tests names it.
MODULES: dict[str, str | None] = {
    "test_any_pieces": "text and windows",
    "test_any_component": None,
    "test_any_markers": "relation_classifier",
    "test_any_questions": "extractive_qa",
}
COLUMNS = ("text and windows", "span_relation", "relation_classifier", "extractive_qa")

Row = dict[str, Any]


class Collector:
    """A plugin of pytest that records which checks pass.

    results (dict[tuple[str, str], dict[str, bool]]): For each encoder and component, the checks and
        whether all of their cases passed.
    """

    def __init__(self) -> None:
        self.results: dict[tuple[str, str], dict[str, bool]] = {}
        self._items: dict[str, tuple[str, str, str]] = {}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        for item in items:
            module = item.module.__name__.rsplit(".", 1)[-1]
            if module in MODULES:
                params = item.callspec.params
                component = MODULES[module] or params["component"]
                check = item.originalname.removeprefix("test_")
                self._items[item.nodeid] = (params["encoder"].name, component, check)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.nodeid not in self._items or (report.when != "call" and report.passed):
            return
        encoder, component, check = self._items[report.nodeid]
        checks = self.results.setdefault((encoder, component), {})
        checks[check] = checks.get(check, True) and report.passed

    def rows(self) -> Iterator[Row]:
        """Yield the results as rows of the file."""
        for (encoder, component), checks in self.results.items():
            yield {
                "transformers": version("transformers"),
                "tokenizers": version("tokenizers"),
                "torch": version("torch"),
                "encoder": encoder,
                "component": component,
                "checks": sorted(checks),
                "failed": sorted(name for name, passed in checks.items() if not passed),
            }


def read_rows() -> list[Row]:
    """Read the results of earlier runs."""
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]


def _major(row: Row) -> str:
    return str(row["transformers"]).split(".")[0]


def write_rows(new: list[Row]) -> list[Row]:
    """Replace the results with the same major version of transformers."""
    replaced = {_major(row) for row in new}
    rows = [row for row in read_rows() if _major(row) not in replaced] + new
    rows.sort(key=lambda row: (int(_major(row)), row["encoder"], COLUMNS.index(row["component"])))
    text = "".join(json.dumps(row) + "\n" for row in rows)
    RESULTS.write_text(text, encoding="utf-8")
    return rows


def checks() -> dict[str, dict[str, str]]:
    """Return the checks of each column with their meanings."""
    by_column: dict[str, dict[str, str]] = {column: {} for column in COLUMNS}
    for name, column in MODULES.items():
        module = import_module(f"tests.encoders.{name}")
        for test, function in vars(module).items():
            if not test.startswith("test_"):
                continue
            meaning = " ".join((inspect.getdoc(function) or "").split())
            for place in [column] if column else COLUMNS[1:]:
                by_column[place][test.removeprefix("test_")] = meaning
    return by_column


def render(rows: list[Row]) -> str:
    """Return the section of the page, without its heading."""
    from tests.encoders.util import ENCODERS

    versions = sorted(
        {row["transformers"] for row in rows}, key=lambda text: int(text.split(".")[0])
    )
    by_place = {(row["transformers"], row["encoder"], row["component"]): row for row in rows}

    def cell(encoder: str, component: str) -> str:
        parts = []
        for number in versions:
            row = by_place.get((number, encoder, component))
            failed = ", ".join(row["failed"]) if row else "not tried"
            parts.append(f"fails with {number}: {failed}" if failed else number.split(".")[0])
        return ", ".join(parts)

    lines = [
        f"Versions of transformers: {' and '.join(versions)}. Each cell lists the major versions "
        "with which all checks pass.",
        "",
        f"| Encoder | Tokenizer | Published example | {' | '.join(COLUMNS)} |",
        "|---" * (3 + len(COLUMNS)) + "|",
    ]
    for encoder in ENCODERS:
        cells = [encoder.name, encoder.pieces, f"`{encoder.like}`"]
        cells += [cell(encoder.name, column) for column in COLUMNS]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "The checks:"]
    by_column = checks()
    common = set(by_column[COLUMNS[1]])
    groups = [
        ("Text and windows", by_column[COLUMNS[0]]),
        ("Every component", {name: by_column[COLUMNS[1]][name] for name in common}),
        *(
            (f"`{column}`", {k: v for k, v in by_column[column].items() if k not in common})
            for column in COLUMNS[2:]
        ),
    ]
    for title, group in groups:
        lines += ["", f"{title}:", ""]
        lines += [f"- *{name.replace('_', ' ')}*: {text}" for name, text in sorted(group.items())]
    return "\n".join(lines) + "\n"


def fill(page: str, section: str) -> str:
    """Return a page with the text under the heading replaced."""
    pattern = re.compile(rf"(^{re.escape(HEADING)}\n\n).*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    filled, n = pattern.subn(lambda match: f"{match[1]}{section}\n", page)
    if n != 1:
        raise ValueError(f"{PAGE} has no heading '{HEADING}'.")
    return filled.rstrip("\n") + "\n"


def main(arguments: list[str]) -> int:
    sys.path.insert(0, str(ROOT))
    rows = read_rows()
    status = 0
    if "--table" not in arguments:
        import pytest

        os.chdir(ROOT)
        collector = Collector()
        # The test of the table needs the results of this run.
        ignored = "--ignore=tests/encoders/test_encoders_table.py"
        status = int(pytest.main(["tests/encoders", "-m", "", ignored], plugins=[collector]))
        rows = write_rows(list(collector.rows()))
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8"), render(rows)), encoding="utf-8")
    print(f"written: {RESULTS.relative_to(ROOT)}, {PAGE.relative_to(ROOT)}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
