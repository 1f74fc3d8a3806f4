"""The typer app of the package, hung on spaCy's own: `python -m spacy spanrel ...`."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import typer
from spacy.cli._util import app as spacy_app
from wasabi.printer import Printer

NAME = "spanrel"
HELP = "Relations and answers: convert data, check, evaluate, annotate, look, import models."

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
