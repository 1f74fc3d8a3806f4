"""The typer app of the package, hung on spaCy's own: `python -m spacy spanrel ...`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import typer
from spacy.cli._util import app as spacy_app
from spacy.language import Language
from wasabi.printer import Printer

from ..converters.common import ConversionError, ConversionErrors, Place

NAME = "spanrel"
HELP = "Commands for relations and answers: convert data, import models."

app = typer.Typer(name=NAME, help=HELP, no_args_is_help=True, rich_markup_mode=None)
spacy_app.add_typer(app)


@app.callback()
def _group() -> None:
    # Without a callback, typer turns an app of one command into that command.
    pass


def main() -> None:
    """Run `spacy-spanrel`."""
    app(prog_name="spacy-spanrel")


def nothing_written(output: Path, error: Exception) -> NoReturn:
    """End a command that left its output as it was: the reason on stderr, exit code 1."""
    typer.echo(Printer(no_print=True).fail(f"Nothing written to {output}"), err=True)
    typer.echo(str(error), err=True)
    raise typer.Exit(1) from None


def save_whole(nlp: Language, folder: Path) -> None:
    """Save a pipeline as `place_whole` does."""
    place_whole(folder, nlp.to_disk)


def place_whole(folder: Path, write: Callable[[Path], object]) -> None:
    """Write a folder so that it is there as a whole, and an old one stays till then.

    folder (Path): The folder, replaced if it exists.
    write (Callable[[Path], object]): Makes it at another place.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        made, old = Path(name) / "new", Path(name) / "old"
        write(made)
        if folder.exists():
            os.replace(folder, old)
        try:
            os.replace(made, folder)
        except OSError:
            if old.exists():
                os.replace(old, folder)
            raise


def argument_error(name: str, found: str, expected: str) -> ConversionError:
    """Return the error for a wrong argument of a command."""
    return Place(name).error(ConversionErrors.E613, found=found, expected=expected)
