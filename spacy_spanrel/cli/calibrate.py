"""`python -m spacy spanrel calibrate`: scores that say how many of the predictions are right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import spacy
import typer

from ..evaluation import MIN_PREDICTIONS, Calibration, tune_temperatures
from ..files import save_whole
from ..scoring.calibration import COLDEST, HOTTEST
from ._app import GoldInputs, Model, NoInputs, Printer, app, chosen_inputs, echo, failing_with
from ._tuning import OutputOption, OverwriteOption, output_folder


@app.command("calibrate", no_args_is_help=True)
def calibrate_cli(
    model: Model,
    corpus: Annotated[
        Path,
        typer.Argument(
            metavar="CORPUS", help="The .spacy file with gold relations or questions and answers"
        ),
    ],
    component: Annotated[
        str | None,
        typer.Option("--component", "-c", help="Name of the component; all of them if not given"),
    ] = None,
    min_predictions: Annotated[
        int,
        typer.Option(
            "--min-predictions", min=2, help="Predictions that a component must make on CORPUS"
        ),
    ] = MIN_PREDICTIONS,
    inputs: GoldInputs = None,
    no_inputs: NoInputs = False,
    output: OutputOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Make scores say how many of the predictions are right.

    Networks are mostly too sure of themselves. For each component a temperature is found by which its
    logits are divided, so that of the predictions with the score 0.8 about 80 % are right by the rules
    of the component's scorer. Thresholds are carried over to it: the pipeline predicts the same, with
    other scores. The table shows the expected calibration error (ECE) before and after, with 15 bins of
    equal width and of equal mass. Use development data as CORPUS, and other data to measure the error
    (evaluate --report draws it). Without --output or --overwrite the temperature is only printed.

    Examples:

    \b
    $ python -m spacy spanrel calibrate training/model-best dev.spacy
    $ python -m spacy spanrel calibrate training/model-best dev.spacy --output calibrated
    """
    with failing_with(f"Nothing written to {output or model}"):
        result = calibrate(
            model,
            corpus,
            component=component,
            min_predictions=min_predictions,
            inputs=chosen_inputs(inputs, no_inputs),
            output=output,
            overwrite=overwrite,
        )
    for notice in result.notices:
        echo(notice, err=True)
    msg = Printer()
    header = ("", "temperature", "score", "correct", "ECE", "equal mass", "NLL")
    for each in result.components:
        correct = f"{100 * each.correct / each.predictions:.2f}"
        rows = [
            (
                name,
                f"{row.temperature:.4g}",
                f"{100 * row.score:.2f}",
                correct,
                f"{100 * row.error:.2f}",
                f"{100 * row.equal_mass_error:.2f}",
                f"{row.likelihood:.4f}",
            )
            for name, row in (("before", each.before), ("after", each.after))
        ]
        aligns = ("l", *"r" * (len(header) - 1))
        msg.table(rows, title=each.component, header=header, divider=True, aligns=aligns)
        settings = ", ".join(f"{name} = {value}" for name, value in each.settings.items())
        msg.text(f"{settings} ({each.predictions} predictions, {each.changed} decided otherwise)")
        if each.after.temperature in (COLDEST, HOTTEST):
            msg.warn(
                "The best temperature lies at the end of its range: right and wrong predictions have "
                "the same scores, or hardly any is wrong."
            )
    saved = output or (model if overwrite else None)
    if saved is not None:
        msg.good(f"Saved pipeline to {saved}")


def calibrate(
    model: str | Path,
    corpus: str | Path,
    *,
    output: str | Path | None = None,
    overwrite: bool = False,
    **arguments: Any,
) -> Calibration:
    """Find the temperature of each component, and save the pipeline if asked to.

    model (str | Path): Folder or package name of the pipeline.
    corpus (str | Path): A `.spacy` file, or a folder of such files.
    output (str | Path | None): New folder for the pipeline with the temperatures.
    overwrite (bool): Save the pipeline in the folder from which it was loaded.
    **arguments (Any): As in `spacy_spanrel.evaluation.tune_temperatures`.
    RETURNS (Calibration): The temperatures, and the calibration before and after.
    RAISES (ValueError): As `tune_temperatures` does.
    RAISES (OSError): If there is no such pipeline or corpus, or the output exists.
    """
    folder = output_folder(model, corpus, output, overwrite)
    nlp = spacy.load(model)
    result = tune_temperatures(nlp, corpus, **arguments)
    if folder is not None:
        save_whole(nlp, folder)
    return result
