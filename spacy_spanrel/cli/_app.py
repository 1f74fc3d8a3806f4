"""The typer app of the package, attached to spaCy's own (`python -m spacy spanrel ...`), and what all
commands print with.

Labels, texts and file names come from data that others made. Printed as they are, they could hold
control sequences with which a terminal moves the cursor, changes its title or hides text. So all
commands print with `Printer`, `echo` and the like of this module, which show such characters as
escapes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import spacy
import typer
import wasabi
from spacy.cli._util import app as spacy_app
from spacy.language import Language

from ..reading import JsonValue, Place, argument_error, parse_json

NAME = "spanrel"
# Control characters, line and paragraph separators, direction marks, lone surrogates.
_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
HELP = "Relations and answers: convert and check data, evaluate, annotate, draw, import and optimize models."

app = typer.Typer(name=NAME, help=HELP, no_args_is_help=True, rich_markup_mode=None)
spacy_app.add_typer(app)


@app.callback()
def _group() -> None:
    # Without a callback, typer turns an app of one command into that command.
    pass


def main() -> None:
    """Run `spacy-spanrel`."""
    app(prog_name="spacy-spanrel")


# Arguments and options


def one_of(names: Iterable[str], metavar: str | None = None) -> dict[str, Any]:
    """Return the settings of an argument or option that takes one of a few values.

    names (Iterable[str]): The values. With another one, the command ends with a message that lists
        them.
    metavar (str | None): The name of the argument in help texts; None for the values.
    RETURNS (dict[str, Any]): Settings for `typer.Argument` or `typer.Option`.
    """
    values = tuple(names)

    def check(value: str | None) -> str | None:
        if value is not None and value not in values:
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(values)}.")
        return value

    return {"metavar": metavar or "|".join(values), "callback": check}


Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="Folder or package name of the pipeline")
]
SpacyInputs = Annotated[
    list[Path], typer.Argument(metavar="INPUT...", help="One or more .spacy files to read")
]
SpacyOutput = Annotated[Path, typer.Argument(metavar="OUTPUT", help="The .spacy file to write")]
PipelineOutput = Annotated[
    Path, typer.Argument(metavar="OUTPUT", help="Folder of the pipeline to write")
]
Negatives = Annotated[
    str | None,
    typer.Option(
        "--negatives",
        "-n",
        metavar="LABEL",
        help="Give this label to each ordered pair of entities of a sentence that has no relation",
    ),
]
GoldInputs = Annotated[
    list[str] | None,
    typer.Option(
        "--inputs",
        "-i",
        metavar="NAME",
        help="Gold annotation that the pipeline is given: ents, sents, or a span group; may be "
        "repeated (default: what its config gives it in training)",
    ),
]
NoInputs = Annotated[
    bool, typer.Option("--no-inputs", help="Give the pipeline texts only, as spacy evaluate does")
]
Lang = Annotated[str, typer.Option("--lang", "-l", help="Language of the tokenizer")]
GpuId = Annotated[int, typer.Option("--gpu-id", "-g", help="Number of the GPU; -1 for CPU")]
Force = Annotated[bool, typer.Option("--force", "-F", help="Replace OUTPUT if it exists")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors and warnings only")]


def chosen_inputs(inputs: list[str] | None, no_inputs: bool) -> list[str] | None:
    """Return what --inputs and --no-inputs give the pipeline; None for what its config gives it."""
    if no_inputs and inputs:
        raise argument_error("--no-inputs", f"--inputs {inputs[0]}", "one of the two")
    return [] if no_inputs else inputs


def parse_settings(text: str) -> dict[str, Any]:
    """Parse the value of --settings; a ConversionError if it is no JSON object."""
    place = Place("--settings")
    return JsonValue(parse_json(text, place), place).as_dict()


def check_suffix(output: Path) -> None:
    """Refuse an output of Docs with another name: spaCy's corpus readers do not see such files.

    output (Path): The file.
    RAISES (ConversionError): If its name does not end in .spacy.
    """
    if output.suffix != ".spacy":
        raise argument_error("OUTPUT", repr(str(output)), "a file name that ends in .spacy")


def blank_pipeline(lang: str) -> Language:
    """Return the blank pipeline of a language; a ConversionError if spaCy does not know the code."""
    try:
        return spacy.blank(lang)
    except ImportError as error:
        raise argument_error("--lang", repr(lang), "a language code of spaCy") from error


# Printing


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


def done(text: str) -> None:
    """Print what a command has done, without colours where stdout is no terminal."""
    typer.echo(Printer(no_print=True).good(text))


def warn(text: str) -> None:
    """Print a warning to stderr."""
    typer.echo(Printer(no_print=True).warn(text), err=True)


def fail(title: str, error: Exception) -> NoReturn:
    """End a command that has failed: a title and the reason on stderr, exit code 1."""
    typer.echo(Printer(no_print=True).fail(title), err=True)
    echo(error, err=True)
    raise typer.Exit(1) from None


@contextmanager
def failing_with(title: str) -> Iterator[None]:
    """Run the work of a command, which ends with `fail` if that fails.

    title (str): What a failure means for the user, such as "Nothing written to x.spacy".
    """
    try:
        yield
    # ImportError: a language or a package that is not there.
    except (OSError, ValueError, ImportError) as error:
        fail(title, error)
