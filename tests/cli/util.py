"""Running commands in tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from click.testing import Result
from typer.testing import CliRunner

from spacy_spanrel.cli import app


def run(*args: object, main: Any = app, **more: Any) -> Result:
    """Run a command with these arguments, as `spacy-spanrel` does."""
    return CliRunner().invoke(main, [str(arg) for arg in args], **more)


def succeed(*args: object, **more: Any) -> Result:
    """Run a command that must not fail."""
    result = run(*args, **more)
    assert result.exit_code == 0, result.output
    return result


def assert_fails(result: Result, *parts: str) -> None:
    """Check that a command has failed with a message that contains all parts."""
    assert result.exit_code == 1, result.output
    for part in parts:
        assert part in result.stderr, result.stderr
    assert "Traceback" not in result.output


def words(output: str) -> str:
    """Return the output of a command with single blanks, to search it for words and rows."""
    return " ".join(output.split())


def one_line(output: str) -> str:
    """Undo the wrapping of lines, which may cut paths."""
    return "".join(output.split())


def snapshot(folder: Path) -> dict[Path, bytes]:
    """Return the files of a folder and of those inside it, with their content."""
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
