"""`python -m spacy spanrel find-threshold` and `find-null-threshold`: thresholds with the best F1, or
with a precision that one can rely on.

Both predict the corpus once and try every threshold that makes a difference on the scores of that
prediction. `spacy find-threshold` works with our components too, but predicts anew for each of a few
evenly spaced values, must be told setting and score, and only prints the result.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import spacy
import typer

from ..evaluation import (
    MIN_EXAMPLES,
    NULL_THRESHOLD,
    NullThreshold,
    RelationThreshold,
    tune_null_threshold,
    tune_threshold,
)
from ..files import save_whole
from ._app import GoldInputs, Model, NoInputs, Printer, app, chosen_inputs, failing_with
from ._tuning import OutputOption, OverwriteOption, output_folder


@app.command("find-threshold", no_args_is_help=True)
def find_threshold_cli(
    model: Model,
    corpus: Annotated[
        Path, typer.Argument(metavar="CORPUS", help="The .spacy file with gold relations")
    ],
    component: Annotated[
        str | None,
        typer.Option("--component", "-c", help="Name of the component; needed if there are two"),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            "-m",
            help="rel_f, rel_macro_f; for span_relation also rel_strict_f or rel_strict_macro_f, for "
            "relation_classifier with labels that name a direction also rel_semeval_macro_f (default: "
            "the one with most weight in [training.score_weights])",
        ),
    ] = None,
    per_label: Annotated[
        bool,
        typer.Option("--per-label", "-l", help="Find a threshold for each label, in `thresholds`"),
    ] = False,
    precision: Annotated[
        float | None,
        typer.Option(
            "--precision",
            "-p",
            min=0.0,
            max=1.0,
            help="Find the smallest threshold with this precision, not the best F1",
        ),
    ] = None,
    min_examples: Annotated[
        int,
        typer.Option(
            "--min-examples",
            min=1,
            help="With --per-label: gold relations that a label must have in CORPUS; others keep "
            "their threshold",
        ),
    ] = MIN_EXAMPLES,
    inputs: GoldInputs = None,
    no_inputs: NoInputs = False,
    output: OutputOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Find the threshold on the scores of relations that gives the best F1, or a given precision.

    The threshold is relation_threshold of span_relation or threshold of relation_classifier. Unlike
    `spacy find-threshold`, which predicts anew for each of some evenly spaced values and only prints,
    this command predicts once, tries every threshold that makes a difference, and can save the best
    one: the middle of the widest range of best thresholds. `spacy spanrel evaluate` then gives the
    printed score. Use development data as CORPUS. Without --output or --overwrite the threshold is only
    printed.

    With --per-label each label gets a threshold of its own, which maximizes F1 of the label or, with
    --precision, is the smallest one whose precision on CORPUS reaches the target. Labels with few gold
    relations, or whose precision no threshold can raise so far, keep the threshold that they have;
    they are listed.

    Examples:

    \b
    $ python -m spacy spanrel find-threshold training/model-best dev.spacy
    $ python -m spacy spanrel find-threshold training/model-best dev.spacy -m rel_f -o model
    $ python -m spacy spanrel find-threshold training/model-best dev.spacy --per-label -p 0.9 -o model
    """
    with failing_with(f"Nothing written to {output or model}"):
        result = find_threshold(
            model,
            corpus,
            component=component,
            metric=metric,
            per_label=per_label,
            precision=precision,
            min_examples=min_examples,
            inputs=chosen_inputs(inputs, no_inputs),
            output=output,
            overwrite=overwrite,
        )
    rows = [("", row, [row.score]) for row in result.others]
    rows += [(each.label, each.row, []) for each in result.labels]
    rows += [("before", result.before, [result.before.score])]
    rows += [("after", result.after, [result.after.score])]
    kept = [f"{each.label} ({each.kept})" for each in result.labels if each.kept]
    summary = f"{result.setting} = {result.after.threshold!r}"
    if result.thresholds:
        values = ", ".join(f"{label} = {value:.4f}" for label, value in result.thresholds.items())
        summary += f"; thresholds: {values}"
    summary += f" ({result.relations} gold relations in {result.docs} Docs)"
    if kept:
        summary += ". Threshold as before: " + ", ".join(kept)
    _print_result(
        ("", "threshold", "found", "P", "R", "F1", result.metric),
        [
            (
                name,
                f"{row.threshold:.4f}",
                str(row.found),
                *(f"{100 * x:.2f}" for x in (row.precision, row.recall, row.f1, *scores)),
                *[""] * (1 - len(scores)),
            )
            for name, row, scores in rows
        ],
        summary,
        output or (model if overwrite else None),
    )


@app.command("find-null-threshold", no_args_is_help=True)
def find_null_threshold_cli(
    model: Model,
    corpus: Annotated[
        Path,
        typer.Argument(metavar="CORPUS", help="The .spacy file with gold questions and answers"),
    ],
    output: OutputOption = None,
    overwrite: OverwriteOption = False,
    component: Annotated[
        str, typer.Option("--component", "-c", help="Name of the component")
    ] = "extractive_qa",
) -> None:
    """Find the null threshold that gives the best F1.

    A question has no answer if its null score exceeds the score of the best answer by more than the
    threshold. The pipeline answers the gold questions of CORPUS; use development data in which some
    questions have no answer. Without --output or --overwrite the threshold is only printed.

    Examples:

    \b
    $ python -m spacy spanrel find-null-threshold training/model-best dev.spacy
    $ python -m spacy spanrel find-null-threshold training/model-best dev.spacy -o model
    """
    with failing_with(f"Nothing written to {output or model}"):
        result = find_null_threshold(
            model, corpus, component=component, output=output, overwrite=overwrite
        )
    rows = [
        ("before", result.before, result.exact_before, result.f1_before),
        ("after", result.after, result.exact_after, result.f1_after),
    ]
    _print_result(
        ("", "threshold", "exact", "F1"),
        [(name, f"{value:.4f}", f"{exact:.2f}", f"{f1:.2f}") for name, value, exact, f1 in rows],
        f"{NULL_THRESHOLD} = {result.after!r} ({result.questions} questions)",
        output or (model if overwrite else None),
    )


def _print_result(
    header: tuple[str, ...], rows: list[tuple[str, ...]], summary: str, saved: str | Path | None
) -> None:
    msg = Printer()
    aligns = ("l", *"r" * (len(header) - 1))
    msg.table(rows, header=header, divider=True, aligns=aligns)
    msg.text(summary)
    if saved is not None:
        msg.good(f"Saved pipeline to {saved}")


def find_threshold(
    model: str | Path,
    corpus: str | Path,
    *,
    output: str | Path | None = None,
    overwrite: bool = False,
    **arguments: Any,
) -> RelationThreshold:
    """Find the best threshold of a component that predicts relations, or one for each label, and save
    it if asked to.

    model (str | Path): Folder or package name of the pipeline.
    corpus (str | Path): A `.spacy` file, or a folder of such files.
    output (str | Path | None): New folder for the pipeline with the threshold.
    overwrite (bool): Save the pipeline in the folder from which it was loaded.
    **arguments (Any): As in `spacy_spanrel.evaluation.tune_threshold`.
    RETURNS (RelationThreshold): The threshold, and the scores before and after.
    RAISES (ValueError): As `tune_threshold` does.
    RAISES (OSError): If there is no such pipeline or corpus, or the output exists.
    """
    folder = output_folder(model, corpus, output, overwrite)
    nlp = spacy.load(model)
    result = tune_threshold(nlp, corpus, **arguments)
    if folder is not None:
        save_whole(nlp, folder)
    return result


def find_null_threshold(
    model: str | Path,
    corpus: str | Path,
    *,
    output: str | Path | None = None,
    overwrite: bool = False,
    **arguments: Any,
) -> NullThreshold:
    """Find the best null threshold of a pipeline, and save it if asked to.

    model, corpus, output, overwrite: As in `find_threshold`.
    **arguments (Any): As in `spacy_spanrel.evaluation.tune_null_threshold`.
    RETURNS (NullThreshold): The threshold, and the scores before and after.
    RAISES (ConversionError): As `tune_null_threshold` does.
    RAISES (OSError): If there is no such pipeline or corpus, or the output exists.
    """
    folder = output_folder(model, corpus, output, overwrite)
    nlp = spacy.load(model)
    result = tune_null_threshold(nlp, corpus, **arguments)
    if folder is not None:
        save_whole(nlp, folder)
    return result
