"""`python -m spacy spanrel evaluate`: scores of a pipeline, and the outcomes behind them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, cast

import spacy
import srsly
import typer
from spacy.cli._util import import_code, setup_gpu
from spacy.util import fix_random_seed

from ..evaluation import (
    Evaluation,
    component_tables,
    evaluate_examples,
    given_inputs,
    other_scores,
    render_report,
)
from ..evaluation.report import MAX_ROWS, left_out_text
from ..files import check_output, write_whole
from ..reading import argument_error
from ..scoring.entities import CLUSTER_SOURCES, ClusterSource
from ..training.corpus import read_examples
from ._app import (
    GoldInputs,
    GpuId,
    Model,
    NoInputs,
    Printer,
    app,
    chosen_inputs,
    echo,
    failing_with,
    one_of,
)

_WIDEST_COLUMN = 60


@app.command("evaluate", no_args_is_help=True)
def evaluate_cli(
    model: Model,
    corpus: Annotated[
        Path,
        typer.Argument(
            metavar="CORPUS", help="The .spacy file with gold Docs, or a folder of such files"
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="JSON file to write scores, confusions and counts to"),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", "-r", help="HTML file to write every outcome to")
    ] = None,
    inputs: GoldInputs = None,
    no_inputs: NoInputs = False,
    clusters: Annotated[
        str,
        typer.Option(
            "--clusters",
            help="Whose clusters of coreferent mentions tell which entities relations are between",
            **one_of(CLUSTER_SOURCES),
        ),
    ] = "gold",
    max_rows: Annotated[
        int, typer.Option("--max-rows", min=0, help="Limit of the report's rows, mistakes first")
    ] = MAX_ROWS,
    code: Annotated[
        Path | None,
        typer.Option("--code", "-c", help="Python file with registered functions to import"),
    ] = None,
    gpu_id: GpuId = -1,
) -> None:
    """Score a pipeline, and show what it gets right and wrong.

    The scores are those of `spacy evaluate`. The command also counts which labels are confused, and
    --report writes a page with every gold and predicted entity, relation and answer in its sentence,
    to sort and filter. The pipeline reads the corpus once for all of this. Without --inputs and
    --no-inputs, it is given what its config gives it in training.

    Examples:

    \b
    $ python -m spacy spanrel evaluate training/model-best dev.spacy
    $ python -m spacy spanrel evaluate training/model-best dev.spacy -o metrics.json -r report.html
    $ python -m spacy spanrel evaluate training/model-best dev.spacy --inputs ents
    """
    import_code(code)
    with failing_with("Not evaluated"):
        evaluation = evaluate(
            model,
            corpus,
            output=output,
            report=report,
            inputs=chosen_inputs(inputs, no_inputs),
            clusters=cast(ClusterSource, clusters),
            max_rows=max_rows,
            gpu_id=gpu_id,
            quiet=False,
        )
    for notice in evaluation.notices:
        echo(notice, err=True)  # as it is: a Printer would break long names
    print_evaluation(evaluation)
    msg = Printer()
    if output is not None:
        msg.good(f"Saved scores to {output}")
    if report is not None:
        msg.good(f"Saved report to {report}")
        total = sum(len(component.outcomes) for component in evaluation.components)
        if total > max_rows:
            msg.info(left_out_text(total - max_rows, total))


def evaluate(
    model: str | Path,
    corpus: str | Path,
    *,
    output: str | Path | None = None,
    report: str | Path | None = None,
    inputs: Sequence[str] | None = None,
    clusters: ClusterSource = "gold",
    max_rows: int = MAX_ROWS,
    gpu_id: int = -1,
    quiet: bool = True,
) -> Evaluation:
    """Evaluate a pipeline as `spacy evaluate` does, and write scores and report.

    model (str | Path): Folder or package name of the pipeline.
    corpus (str | Path): A `.spacy` file with gold annotation, or a folder of such files.
    output (str | Path | None): JSON file for the scores.
    report (str | Path | None): HTML file for the report. Both files are complete or as they were
        before, and their folders are made if need be.
    inputs (Sequence[str] | None): Gold annotation that the pipeline is given, as in
        "spacy-spanrel.Corpus.v1". None for the `inputs` of the reader that reads the development data
        in the pipeline's config.
    clusters ("gold" | "predicted" | "none"): Whose clusters of coreferent mentions tell which
        entities relations are between: for the scores `rel_entity_*`.
    max_rows (int): Limit of the report's rows.
    gpu_id (int): Number of the GPU; -1 for the CPU.
    quiet (bool): Show no progress bar. It is only ever shown on a terminal.
    RETURNS (Evaluation): Scores and outcomes.
    RAISES (OSError): If there is no such pipeline or corpus, or a file cannot be written.
    RAISES (ValueError): If an argument does not fit, the corpus cannot be read or is empty, or there
        is nothing to score.
    """
    _check_outputs(model, corpus, {"--output": output, "--report": report})
    fix_random_seed()
    setup_gpu(gpu_id, silent=True)
    nlp = spacy.load(model)
    given = given_inputs(nlp, inputs)
    examples = list(read_examples(corpus, nlp, given))
    evaluation = evaluate_examples(
        nlp,
        examples,
        model=str(model),
        corpus=str(corpus),
        inputs=given,
        clusters=clusters,
        quiet=quiet,
    )
    if output is not None:
        # srsly rounds numbers as `spacy evaluate` does.
        write_whole(output, srsly.json_dumps(evaluation.to_dict(), indent=2).encode())
    if report is not None:
        write_whole(report, render_report(evaluation, max_rows=max_rows).encode())
    return evaluation


def _check_outputs(
    model: str | Path, corpus: str | Path, outputs: dict[str, str | Path | None]
) -> None:
    """Refuse outputs that would overwrite something, before the work begins."""
    written: list[str | Path] = []
    for option, output in outputs.items():
        if output is None:
            continue
        if Path(output).is_dir():
            raise argument_error(option, f"the folder '{output}'", "a file")
        check_output(output, model, corpus)
        if any(Path(output).resolve() == Path(other).resolve() for other in written):
            raise argument_error(option, f"'{output}'", "another file than --output")
        written.append(output)


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the scores of an evaluation as tables."""
    msg = Printer()
    inputs = ", ".join(evaluation.inputs) or "none"
    msg.info(f"{evaluation.docs} Docs of {evaluation.corpus} (inputs: {inputs})")
    for component in evaluation.components:
        msg.divider(component.name)
        for table in component_tables(component):
            msg.table(
                table.rows,
                title=table.title,
                header=table.header,
                divider=True,
                aligns=table.aligns,
                max_col=_WIDEST_COLUMN,
            )
    others = other_scores(evaluation)
    if others.rows:
        msg.divider(others.title)
        msg.table(others.rows, aligns=others.aligns)
