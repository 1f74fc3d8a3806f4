"""What the commands that look for a threshold share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spacy.language import Language

from ..files import save_whole
from ..reading import argument_error


def output_folder(model: str, output: str | Path | None, overwrite: bool) -> Path | None:
    """Return the folder in which the pipeline is saved.

    model (str): The pipeline that was given.
    output (str | Path | None): Another folder.
    overwrite (bool): The same one.
    RETURNS (Path | None): The folder; None for none.
    RAISES (ConversionError, FileExistsError): If the arguments do not go together.
    """
    if output is not None and overwrite:
        raise argument_error("--overwrite", f"--output {output}", "one of the two")
    if overwrite:
        if not Path(model).is_dir():
            raise argument_error("--overwrite", f"MODEL {model!r}", "the folder of a pipeline")
        return Path(model)
    if output is None:
        return None
    if Path(output).exists():
        raise FileExistsError(f"{output} exists already. Choose another folder.")
    return Path(output)


def named_component(nlp: Language, name: str) -> Any:
    """Return a component. RAISES (ConversionError): If there is none of that name."""
    if name not in nlp.pipe_names:
        raise argument_error(
            "--component", repr(name), "one of " + (", ".join(nlp.pipe_names) or "(none)")
        )
    return nlp.get_pipe(name)


def store_threshold(
    nlp: Language, component: str, setting: str, value: float, target: Path | None
) -> None:
    """Set a threshold, and save the pipeline.

    nlp (Language): The pipeline.
    component (str), setting (str): Whose threshold it is, and its name in `cfg`.
    value (float): The threshold.
    target (Path | None): Folder to save in; None for none.
    """
    nlp.get_pipe(component).cfg[setting] = value  # type: ignore[attr-defined]
    # So that config.cfg says the same, and a training from it starts there.
    nlp.get_pipe_config(component)[setting] = value
    if target is not None:
        save_whole(nlp, target)
