"""The typer app of the package, attached to spaCy's own (`python -m spacy spanrel ...`), and what all
commands print with.

Labels, texts and file names come from data that others made. Printed as they are, they could hold
control sequences with which a terminal moves the cursor, changes its title or hides text. So all
commands print with `Printer`, `echo` and `nothing_written` of this module, which show such
characters as escapes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import typer
import wasabi
from spacy.cli._util import app as spacy_app

NAME = "spanrel"
# Control characters, line and paragraph separators, direction marks, lone surrogates.
_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
HELP = "Relations and answers: convert and check data, evaluate, annotate, draw, import models."

app = typer.Typer(name=NAME, help=HELP, no_args_is_help=True, rich_markup_mode=None)
spacy_app.add_typer(app)


@app.callback()
def _group() -> None:
    # Without a callback, typer turns an app of one command into that command.
    pass


def main() -> None:
    """Run `spacy-spanrel`."""
    app(prog_name="spacy-spanrel")


def one_of(names: Iterable[str]) -> Callable[[str | None], str | None]:
    """Return a callback for an argument or option that takes one of a few values.

    names (Iterable[str]): The values.
    RETURNS (Callable[[str | None], str | None]): Passes a value on, and None; ends the command with
        a message that lists the values if it is another.
    """
    values = tuple(names)

    def check(value: str | None) -> str | None:
        if value is not None and value not in values:
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(values)}.")
        return value

    return check


def printable(value: object) -> str:
    r"""Return text that does nothing to a terminal but appear on it.

    Control characters, marks that change the direction of writing, and lone surrogates are shown as
    Python escapes, such as \x1b; line feeds and tabs stay.
    """
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), str(value))


class Printer(wasabi.Printer):
    """wasabi's printer, made safe by `printable`: for `good`, `warn`, `table` and all the others."""

    def text(self, title: Any = "", text: Any = "", *args: Any, **kwargs: Any) -> Any:
        return super().text(printable(title), printable(text), *args, **kwargs)

    def divider(self, text: str = "", *args: Any, **kwargs: Any) -> Any:
        return super().divider(printable(text), *args, **kwargs)

    def table(self, data: Any, **kwargs: Any) -> Any:
        rows = data.items() if isinstance(data, Mapping) else data
        for name in ("header", "footer"):
            if kwargs.get(name):
                kwargs[name] = _printable_row(kwargs[name])
        return super().table([_printable_row(row) for row in rows], **kwargs)

    def row(self, data: Iterable[Any], **kwargs: Any) -> Any:
        return super().row(_printable_row(data), **kwargs)


def _printable_row(row: Iterable[Any]) -> list[str]:
    return [printable(cell) for cell in row]


def echo(value: object = "", *, err: bool = False) -> None:
    """Print a line as `typer.echo` does, made safe by `printable`.

    Not for what a `Printer(no_print=True)` returns: that is safe already, and may hold colours.

    value (object): What to print.
    err (bool): Whether to print to stderr.
    """
    typer.echo(printable(value), err=err)


def nothing_written(output: Path, error: Exception) -> NoReturn:
    """End a command that has left its output as it was: the reason on stderr, exit code 1."""
    typer.echo(Printer(no_print=True).fail(f"Nothing written to {output}"), err=True)
    echo(error, err=True)
    raise typer.Exit(1) from None
