"""`python -m spacy spanrel optimize`: convert a pipeline, so that it predicts faster on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..conversion.runtime import MAX_LOSS, optimize
from ._app import Force, Model, PipelineOutput, app, done, failing_with, warn


@app.command("optimize", no_args_is_help=True)
def optimize_cli(
    model: Model,
    output: PipelineOutput,
    texts: Annotated[
        Path | None,
        typer.Option(
            "--texts",
            "-t",
            help="The .spacy file (or folder of such files) whose predictions are compared before "
            "and after, and from which --int8 learns how large inputs are (default: those of --gate, "
            "or a few English sentences)",
        ),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Compute matrix products in 8-bit integers")
    ] = False,
    gate: Annotated[
        Path | None,
        typer.Option(
            "--gate",
            "-g",
            metavar="CORPUS",
            help="The .spacy file (or folder of such files) with gold Docs on which both pipelines are "
            "scored",
        ),
    ] = None,
    max_loss: Annotated[
        float,
        typer.Option("--max-loss", min=0.0, help="By how many points F1 on --gate may fall"),
    ] = MAX_LOSS,
    force: Force = False,
) -> None:
    """Convert a trained pipeline to ONNX Runtime, which predicts faster on a CPU.

    The new pipeline has the same components and predicts the same, with scores that differ by less
    than 0.0001; otherwise nothing is written. It needs the package onnxruntime, does not load
    transformers, and cannot be trained: keep the old one for that. To convert a pipeline, onnx is
    needed, too: pip install 'spacy-spanrel[onnx]'.

    With --int8 it is faster still and smaller, but predicts not quite the same. --gate scores
    both pipelines on a development corpus and prints the scores. If F1 falls by more than --max-loss
    points, up to half of the matrix products return to float32; if that is not enough, nothing is
    written. Whatever is read in one batch has no influence on the predictions; this is
    checked. Give training texts as --texts: a few hundred are enough.

    Examples:

    \b
    $ python -m spacy spanrel optimize training/model-best model-onnx
    $ python -m spacy spanrel optimize training/model-best model-onnx --texts dev.spacy
    $ python -m spacy spanrel optimize training/model-best model-int8 --int8 -t train.spacy -g dev.spacy
    """
    with failing_with(f"Nothing written to {output}"):
        result = optimize(
            model, output, texts=texts, int8=int8, gate=gate, max_loss=max_loss, force=force
        )
    if not result.annotations:
        warn(f"Nothing was predicted in the {result.docs} texts that were compared: use --texts.")
    elif not int8:
        done(
            f"{result.docs} texts: {result.annotations} annotations are the same before and after, with "
            f"scores that differ by at most {result.difference:.1g}"
        )
    else:
        done(
            f"{result.docs} texts: of {result.annotations} annotations before and those after, "
            f"{result.changed} are on one side only; scores differ by up to {result.difference:.2g}"
        )
    for name, (before, after) in result.scores.items():
        done(f"{name}: {before:.2f} before, {after:.2f} after")
    if result.products is not None:
        done("{} of {} matrix products are computed in 8-bit integers".format(*result.products))
        if texts is None and gate is None:
            warn("Calibrated on a few English sentences: use --texts with texts of your own.")
        if gate is None:
            warn("Nothing says how good the new pipeline is: use --gate with gold Docs.")
    done(f"Saved pipeline with {', '.join(result.components)} converted to {output}")
