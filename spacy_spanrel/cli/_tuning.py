"""Options of the commands that choose settings by the predictions on a corpus."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ..files import check_folder
from ..reading import argument_error

OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="New folder for the pipeline with the new settings"),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", "-F", help="Store the new settings in MODEL, a folder")
]


def output_folder(
    model: str | Path, corpus: str | Path, output: str | Path | None, overwrite: bool
) -> Path | None:
    """Return the folder to save the pipeline in, None to save nothing.

    RAISES (ValueError, FileExistsError): If the arguments contradict each other, or something would
        be overwritten.
    """
    if output is not None and overwrite:
        raise argument_error("--overwrite", f"--output {output}", "one of the two")
    if overwrite:
        if not Path(model).is_dir():
            raise argument_error("--overwrite", f"MODEL '{model}'", "the folder of a pipeline")
        check_folder(model, corpus)
        return Path(model)
    if output is None:
        return None
    if os.path.lexists(output):
        raise FileExistsError(f"{output} exists already. Choose another folder.")
    check_folder(output, model, corpus)
    return Path(output)
