"""The typer app of the package, hung on spaCy's own: `python -m spacy spanrel ...`."""

from __future__ import annotations

import typer
from spacy.cli._util import app as spacy_app

NAME = "spanrel"
HELP = "Commands for relations and answers: convert data, import models."

app = typer.Typer(name=NAME, help=HELP, no_args_is_help=True, rich_markup_mode=None)
spacy_app.add_typer(app)


@app.callback()
def _group() -> None:
    # Without a callback, typer turns an app of one command into that command.
    pass
