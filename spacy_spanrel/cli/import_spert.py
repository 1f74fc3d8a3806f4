"""`python -m spacy spanrel import-spert`: a checkpoint of the original SpERT program to a pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..files import save_whole
from ._app import Printer, app, nothing_written


@app.command("import-spert", no_args_is_help=True)
def import_spert_cli(
    checkpoint: Annotated[
        Path, typer.Argument(help="Folder of the checkpoint: config.json, weights, tokenizer")
    ],
    output: Annotated[Path, typer.Argument(help="Folder of the pipeline to write")],
    types: Annotated[
        Path, typer.Option("--types", "-t", help="The types file of the checkpoint's training")
    ],
    lang: Annotated[str, typer.Option("--lang", "-l", help="Language of the tokenizer")] = "en",
    name: Annotated[
        str, typer.Option("--name", "-n", help="Name of the component")
    ] = "span_relation",
    lowercase: Annotated[
        bool | None,
        typer.Option(
            "--lowercase/--cased",
            help="Whether the tokenizer lower-cases; as the checkpoint says if not given",
        ),
    ] = None,
    settings: Annotated[
        str | None,
        typer.Option(
            "--settings",
            "-s",
            help="JSON object of span_relation settings that differ from the original program's",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", "-F", help="Replace OUTPUT if it exists")
    ] = False,
) -> None:
    """Turn a checkpoint of the original SpERT program into a spaCy pipeline.

    The pipeline predicts what that program predicts. Overlapping entities and relations between
    any types are kept, as there; a better decoding is a matter of settings.

    Examples:

    \b
    $ python -m spacy spanrel import-spert spert/data/models/conll04 conll04_spert --types types.json
    $ python -m spacy spanrel import-spert model out -t types.json -s '{"overlaps": "best"}'
    """
    try:
        chosen = {} if settings is None else json.loads(settings)
        if not isinstance(chosen, dict):
            raise ValueError(f"--settings must be a JSON object, found: {settings}")
        write_pipeline(
            checkpoint,
            output,
            types=types,
            lang=lang,
            name=name,
            lowercase=lowercase,
            settings=chosen,
            force=force,
        )
    except (OSError, ValueError) as error:
        nothing_written(output, error)
    typer.echo(Printer(no_print=True).good(f"Saved pipeline to {output}"))


def write_pipeline(
    checkpoint: str | Path,
    output: str | Path,
    *,
    types: str | Path,
    lang: str = "en",
    name: str = "span_relation",
    lowercase: bool | None = None,
    settings: dict[str, object] | None = None,
    force: bool = False,
) -> None:
    """Import a checkpoint and save the pipeline; on any failure the output stays as it was.

    output (str | Path): The folder to write.
    force (bool): Replace the folder if it exists.
    Other arguments as in `spacy_spanrel.cli.spert_checkpoint.import_spert`.
    RAISES (FileExistsError): If the folder exists and `force` is not set.
    """
    # Heavy imports wait until they are needed: spaCy loads this module for every command.
    from .spert_checkpoint import import_spert

    output = Path(output)
    if output.exists() and not force:
        raise FileExistsError(f"{output} exists already. Use --force to replace it.")
    nlp = import_spert(
        checkpoint, types, lang=lang, name=name, lowercase=lowercase, settings=settings
    )
    save_whole(nlp, output)
