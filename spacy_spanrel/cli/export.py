"""`python -m spacy spanrel export`: Docs of a `.spacy` file to the files of other programs."""

from __future__ import annotations

import json
import math
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from spacy.tokens import Doc, DocBin
from spacy.vocab import Vocab
from wasabi.printer import Printer

from ..annotations import QA_KEY
from ..converters import ConversionError, answers_to_predictions, docs_to_squad
from ..converters.common import ConversionErrors, Place
from ._app import app, nothing_written
from .convert import write_whole

NULL_ODDS_SUFFIX = "_null_odds.json"
# JSON has no infinity.
INFINITE = 1e300


class ExportFormat(str, Enum):
    """Formats that the command writes."""

    squad = "squad"
    squad_predictions = "squad-predictions"


@app.command("export", no_args_is_help=True)
def export_cli(
    data_format: Annotated[
        ExportFormat,
        typer.Argument(
            metavar="FORMAT", help="One of: " + ", ".join(item.value for item in ExportFormat)
        ),
    ],
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="The .spacy file to read")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The file to write")],
    key: Annotated[
        str, typer.Option("--key", "-k", help="Span group of questions and answers")
    ] = QA_KEY,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only")] = False,
) -> None:
    """Write the Docs of a .spacy file in a format of other programs.

    Formats: squad (gold questions and answers as JSON of SQuAD 2.0), squad-predictions (predicted
    answers for the official evaluation script: OUTPUT with an answer to each question, and beside
    it a file with the same name and _null_odds.json at its end, for the script's --na-prob-file).

    Examples:

    \b
    $ python -m spacy spanrel export squad dev.spacy dev.json
    $ python -m spacy spanrel export squad-predictions answered.spacy predictions.json
    """
    try:
        written = export(data_format.value, source, output, key=key)
    except (ConversionError, OSError) as error:
        nothing_written(output, error)
    if not quiet:
        for path, text in written.items():
            typer.echo(Printer(no_print=True).good(f"{text} written to {path}"))


def export(
    data_format: str, source: str | Path, output: str | Path, *, key: str = QA_KEY
) -> dict[Path, str]:
    """Write the Docs of a `.spacy` file in another format; each file is written whole or not at all.

    data_format (str): "squad" or "squad-predictions".
    source (str | Path): The `.spacy` file.
    output (str | Path): The file to write; its folder is made if needed.
    key (str): Span group of questions and answers.
    RETURNS (dict[Path, str]): The files that were written, and what is in them.
    RAISES (ConversionError): If the input or an argument is wrong, or there are no questions.
    """
    source, output = Path(source), Path(output)
    formats = [item.value for item in ExportFormat]
    if data_format not in formats:
        raise Place("FORMAT").error(
            ConversionErrors.E613, found=repr(data_format), expected="one of " + ", ".join(formats)
        )
    odds_output = output.with_name(output.stem + NULL_ODDS_SUFFIX)
    if source.resolve() in (output.resolve(), odds_output.resolve()):
        raise Place("OUTPUT").error(
            ConversionErrors.E613, found=repr(str(output)), expected="another file than INPUT"
        )
    docs = read_docs(source)
    contents: dict[Path, tuple[Any, str]] = {}
    if data_format == "squad":
        data = docs_to_squad(docs, key=key, source=str(source))
        n = sum(len(p["qas"]) for article in data["data"] for p in article["paragraphs"])
        contents[output] = (data, f"{n} questions with their answers")
    else:
        predictions, null_odds = answers_to_predictions(docs, key=key, source=str(source))
        n = len(predictions)
        finite = {
            name: INFINITE if value == math.inf else value for name, value in null_odds.items()
        }
        contents[odds_output] = (finite, f"{n} null odds")
        contents[output] = (predictions, f"{n} answers")
    if not n:
        raise Place(str(source)).error(
            ConversionErrors.E609,
            found=f"{len(docs)} Docs without questions in doc.spans[{key!r}]",
            expected="Docs with questions and answers",
        )
    for path, (content, _) in contents.items():
        text = json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False)
        write_whole(path, f"{text}\n".encode())
    return {path: text for path, (_, text) in contents.items()}


def read_docs(path: str | Path) -> list[Doc]:
    """Read the Docs of a `.spacy` file.

    path (str | Path): The file.
    RETURNS (list[Doc]): The Docs, of a new vocabulary.
    RAISES (ConversionError): If there is no such file, or it is something else.
    """
    try:
        return list(DocBin().from_disk(path).get_docs(Vocab()))
    except OSError as error:
        found = error.strerror or str(error)
    except Exception as error:  # whatever unpacking other bytes leads to
        found = f"{type(error).__name__}: {error}"
    raise Place(str(path)).error(
        ConversionErrors.E601, found=found, expected="a file of Docs, as DocBin.to_disk writes it"
    )
