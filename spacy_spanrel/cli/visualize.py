"""`python -m spacy spanrel visualize`: a picture of a pipeline's predictions for a text."""

from __future__ import annotations

import sys
import tempfile
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import spacy
import typer
from spacy.language import Language

from ..annotations import ENTITIES_KEY, QA_KEY, RELATIONS_KEY, get_questions, set_questions
from ..files import check_output, write_whole
from ..reading import argument_error, read_text
from ..visualize import render
from ..visualize.display import Style
from ._app import Model, app, done, echo, failing_with, one_of

STDIN = "-"
HTML, SVG = ".html", ".svg"
MAX_PATH = 256  # a longer argument is a text: some systems refuse to look for such a file


STYLES: tuple[Style, ...] = get_args(Style)


@app.command("visualize", no_args_is_help=True)
def visualize_cli(
    model: Model,
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="A text, a text file, or - for standard input")
    ],
    question: Annotated[
        list[str] | None,
        typer.Option("--question", "-q", metavar="Q", help="A question to ask; may be repeated"),
    ] = None,
    style: Annotated[
        str | None,
        typer.Option(
            "--style",
            "-s",
            help="Default: answers with --question, else relations",
            **one_of(STYLES),
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help=".html file to write (or .svg, for relations); default: a temporary file",
        ),
    ] = None,
    width: Annotated[
        int, typer.Option("--width", "-w", min=10, help="Characters in a row of relations")
    ] = 90,
    scores: Annotated[
        bool | None,
        typer.Option("--scores/--no-scores", help="Show scores; default: only those of answers"),
    ] = None,
    entities: Annotated[
        bool,
        typer.Option(
            "--entities",
            "-e",
            help="Relations: name the entity behind a coreferent mention such as 'she'",
        ),
    ] = False,
    open_it: Annotated[
        bool, typer.Option("--open", "-O", help="Open the picture in the web browser")
    ] = False,
) -> None:
    """Draw the relations or the answers that a pipeline predicts for a text.

    The picture is a single file that loads nothing. Without --output it is written to a temporary
    file, and the path is printed.

    Examples:

    \b
    $ python -m spacy spanrel visualize training/model-best "Ada was born in Trondheim ." --open
    $ python -m spacy spanrel visualize training/model-best text.txt --output relations.svg
    $ python -m spacy spanrel visualize qa_model text.txt -q "Who is a chemist?" -o answers.html
    """
    with failing_with(f"Nothing written to {output or 'a temporary file'}"):
        picture = visualize(
            model,
            text,
            questions=question or (),
            style=cast(Style | None, style),
            output=output,
            width=width,
            scores=scores,
            entities=entities,
        )
    # A temporary file's path is printed alone, so that other programs can read it.
    echo(picture) if output is None else done(f"Picture written to {picture}")
    if open_it:
        webbrowser.open(picture.resolve().as_uri())


def visualize(
    model: str | Path,
    text: str,
    *,
    questions: Sequence[str] = (),
    style: Style | None = None,
    output: str | Path | None = None,
    width: int = 90,
    scores: bool | None = None,
    entities: bool = False,
) -> Path:
    """Run a pipeline on a text and write a picture of its predictions.

    model (str | Path): Folder or package name of the pipeline.
    text (str): The text, the path of a text file, or "-" for standard input.
    questions (Sequence[str]): Questions to ask instead of those in the pipeline's config.
    style ("relations" | "answers" | None): Kind of picture; None for answers if there are questions,
        else relations.
    output (str | Path | None): The file to write, `.html` or (for relations) `.svg`; None for a
        temporary file.
    width (int): Characters in a row of relations.
    scores (bool | None): Show scores; None for those of answers only.
    entities (bool): Name the entities behind coreferent mentions; for relations only.
    RETURNS (Path): The file.
    RAISES (ConversionError): If an argument does not fit, or the pipeline does not predict such
        annotations.
    RAISES (ValueError): If the output would overwrite an input.
    RAISES (OSError): If there is no such pipeline or file.
    """
    style = style or ("answers" if questions else "relations")
    path = None if output is None else Path(output)
    if style not in STYLES:
        raise argument_error("--style", repr(style), "relations or answers")
    if questions and style != "answers":
        raise argument_error("--question", f"--style {style}", "--style answers")
    if entities and style != "relations":
        raise argument_error("--entities", f"--style {style}", "--style relations")
    suffixes = (HTML, SVG) if style == "relations" else (HTML,)
    if path is not None and path.suffix.lower() not in suffixes:
        raise argument_error(
            "--output", repr(str(path)), "a file name that ends in " + " or ".join(suffixes)
        )
    source = _file(text)
    if path is not None:
        check_output(path, source, model)
    content = _read(text, source)
    if not content.strip():
        raise argument_error("TEXT", "no text", "a text, a text file, or - for standard input")
    nlp = spacy.load(model)
    doc = nlp.make_doc(content)
    keys = _find_keys(nlp, style)
    if questions:
        set_questions(doc, questions, keys["qa_key"])
    doc = nlp(doc)
    if style == "answers" and not get_questions(doc, keys["qa_key"]):
        raise argument_error("--question", "none", "a question, as the pipeline's config has none")
    if source is not None:
        doc.user_data.setdefault("title", source.name)
    page = path is None or path.suffix.lower() == HTML
    options = {**keys, "width": width, "scores": scores, "entities": entities}
    markup = render([doc], style, page=page, jupyter=False, options=options)
    if path is None:
        with tempfile.NamedTemporaryFile(
            prefix=f"spanrel-{style}-", suffix=HTML, delete=False
        ) as file:
            file.write(markup.encode())
        return Path(file.name)
    write_whole(path, markup.encode())
    return path


def _file(text: str) -> Path | None:
    """Return the file that the argument TEXT names; None if it is the text itself."""
    if text == STDIN or len(text) >= MAX_PATH or "\n" in text or "\0" in text:
        return None
    path = Path(text)
    if path.is_file():
        return path
    if path.suffix == ".txt":
        raise FileNotFoundError(f"There is no file {path}.")
    return None


def _read(text: str, source: Path | None) -> str:
    if source is not None:
        return read_text(source)
    if text != STDIN:
        return text
    data = sys.stdin.buffer.read()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise argument_error("TEXT", f"standard input: {error}", "UTF-8 text") from error


def _find_keys(nlp: Language, style: str) -> dict[str, Any]:
    """Return the span groups that the pipeline writes; the last component's, if several write one.

    RAISES (ConversionError): If no component writes the annotations to draw.
    """
    settings: dict[str, Any] = {}
    for _, pipe in nlp.pipeline:
        cfg = getattr(pipe, "cfg", None)
        settings |= cfg if isinstance(cfg, dict) else {}
    required = "relations_key" if style == "relations" else "qa_key"
    if required not in settings:
        names = ", ".join(nlp.pipe_names) or "(none)"
        expected = {
            "relations": "a component that finds relations (span_relation, relation_classifier)",
            "answers": "a component that answers questions (extractive_qa)",
        }[style]
        raise argument_error("MODEL", f"the components {names}", expected)
    return {
        "entities_key": settings.get("spans_key") or ENTITIES_KEY,
        "relations_key": settings.get("relations_key") or RELATIONS_KEY,
        "qa_key": settings.get("qa_key") or QA_KEY,
    }
