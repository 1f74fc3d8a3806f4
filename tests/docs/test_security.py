"""The versions in docs/security.md are those with which the tests run."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import pytest
from packaging.version import Version

from .workspace import ROOT

PAGE = ROOT / "docs" / "security.md"
if not PAGE.is_file():
    pytest.skip("source distributions have no docs", allow_module_level=True)

ROWS = [
    [cell.strip() for cell in line.split("|")[1:-1]]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if " CVE-" in line and line.startswith("| ")
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[3].split(":")[0])
def test_no_known_vulnerability(row: list[str]) -> None:
    package, tested, fixed, _ = row
    name = package.split(" ")[0]
    try:
        installed = Version(version(name))
    except PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    if name == "transformers" and installed.major == 4:
        pytest.skip("an environment for spacy-transformers")
    assert installed >= Version(fixed)
    assert Version(tested) >= Version(fixed)
    constraints = (ROOT / "constraints.txt").read_text()
    if f"{name}==" in constraints:
        assert f"{name}=={tested}\n" in constraints
