"""`python -m spacy spanrel evaluate`: scores of a pipeline, and what is behind them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import spacy
import srsly
import typer
from spacy.cli._util import import_code, setup_gpu
from spacy.util import fix_random_seed

from ..evaluation import (
    Evaluation,
    component_tables,
    configured_inputs,
    evaluate_examples,
    other_scores,
    render_report,
)
from ..evaluation.report import MAX_ROWS, left_out_text
from ..evaluation.tables import Table
from ..files import write_whole
from ..reading import argument_error
from ..training.corpus import read_examples
from ._app import Printer, app, echo

_WIDEST_COLUMN = 60


@app.command("evaluate", no_args_is_help=True)
def evaluate_cli(
    model: Annotated[str, typer.Argument(help="Folder or package name of the pipeline")],
    corpus: Annotated[
        Path, typer.Argument(help="The .spacy file with gold Docs, or a folder of such files")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="JSON file for scores, confusions and counts"),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", "-r", help="HTML file that shows every outcome")
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--inputs",
            "-i",
            metavar="NAME",
            help="Gold annotation that the pipeline is given: ents, or a span group; may be "
            "repeated. If not given, what the pipeline's config gives it in training",
        ),
    ] = None,
    no_inputs: Annotated[
        bool,
        typer.Option("--no-inputs", help="Give the pipeline texts only, as spacy evaluate does"),
    ] = False,
    max_rows: Annotated[
        int, typer.Option("--max-rows", min=0, help="Most rows of the report, mistakes first")
    ] = MAX_ROWS,
    code: Annotated[
        Path | None,
        typer.Option("--code", "-c", help="Python file with registered functions to import"),
    ] = None,
    gpu_id: Annotated[
        int, typer.Option("--gpu-id", "-g", help="Number of the GPU; -1 for CPU")
    ] = -1,
) -> None:
    """Score a pipeline, and show what it gets right and wrong.

    The scores are those of spacy evaluate. With them: how often which label is taken for which, and
    with --report every entity, relation and answer, gold and predicted, in its sentence, in a file
    to sort and to filter. What JSON and report say was found in one pass over the corpus.

    Examples:

    \b
    $ python -m spacy spanrel evaluate training/model-best dev.spacy
    $ python -m spacy spanrel evaluate training/model-best dev.spacy -o metrics.json -r report.html
    $ python -m spacy spanrel evaluate training/model-best dev.spacy --inputs ents
    """
    import_code(code)
    try:
        if no_inputs and inputs:
            raise argument_error("--no-inputs", f"--inputs {inputs[0]}", "one of the two")
        found = evaluate(
            model,
            corpus,
            output=output,
            report=report,
            inputs=[] if no_inputs else inputs,
            max_rows=max_rows,
            gpu_id=gpu_id,
            quiet=False,
        )
    except (OSError, ValueError) as error:
        typer.echo(Printer(no_print=True).fail("Not evaluated"), err=True)
        echo(error, err=True)
        raise typer.Exit(1) from None
    for notice in found.notices:
        echo(notice, err=True)  # as it is: a Printer would break long names
    print_evaluation(found)
    msg = Printer()
    if output is not None:
        msg.good(f"Saved scores to {output}")
    if report is not None:
        msg.good(f"Saved report to {report}")
        total = sum(len(part.outcomes) for part in found.components)
        if total > max_rows:
            msg.info(left_out_text(total - max_rows, total))


def evaluate(
    model: str | Path,
    corpus: str | Path,
    *,
    output: str | Path | None = None,
    report: str | Path | None = None,
    inputs: Sequence[str] | None = None,
    max_rows: int = MAX_ROWS,
    gpu_id: int = -1,
    quiet: bool = True,
) -> Evaluation:
    """Evaluate a pipeline as `spacy evaluate` does, and save scores and report.

    model (str | Path): The pipeline: its folder, or its package's name.
    corpus (str | Path): The `.spacy` file with gold annotation, or a folder of such files.
    output (str | Path | None): JSON file for the scores.
    report (str | Path | None): HTML file for the report. Files are written whole or not at all, and
        their folders are made if needed.
    inputs (Sequence[str] | None): Gold annotation that the pipeline is given: "ents" for
        `doc.ents`, any other name for that span group. None takes the `inputs` of the reader with
        which the pipeline's config reads its development data.
    max_rows (int): Most rows of the report.
    gpu_id (int): Number of the GPU; -1 for the CPU.
    quiet (bool): Show no progress bar. It is only ever shown on a terminal.
    RETURNS (Evaluation): Scores and outcomes.
    RAISES (OSError): If there is no such pipeline or corpus, or a file cannot be written.
    RAISES (ValueError): If an argument does not fit, the corpus is none or empty, or there is
        nothing to score.
    """
    _check_outputs(Path(corpus), {"--output": output, "--report": report})
    fix_random_seed()
    setup_gpu(gpu_id, silent=True)
    nlp = spacy.load(model)
    given = configured_inputs(nlp) if inputs is None else tuple(inputs)
    examples = list(read_examples(corpus, nlp, given))
    found = evaluate_examples(
        nlp, examples, model=str(model), corpus=str(corpus), inputs=given, quiet=quiet
    )
    if output is not None:
        write_whole(Path(output), srsly.json_dumps(found.to_dict(), indent=2).encode())
    if report is not None:
        write_whole(Path(report), render_report(found, max_rows=max_rows).encode())
    return found


def _check_outputs(corpus: Path, outputs: dict[str, str | Path | None]) -> None:
    """Refuse files that would replace something else, before the work begins."""
    taken = {corpus.resolve(): "CORPUS"}
    for name, given in outputs.items():
        if given is None:
            continue
        path = Path(given).resolve()
        if path.is_dir():
            raise argument_error(name, f"the folder '{given}'", "a file")
        if path in taken:
            raise argument_error(name, f"'{given}'", f"another file than {taken[path]}")
        taken[path] = name


def print_evaluation(evaluation: Evaluation) -> None:
    """Print an evaluation as tables."""
    msg = Printer()
    inputs = ", ".join(evaluation.inputs) or "none"
    msg.info(f"{evaluation.docs} Docs of {evaluation.corpus} (inputs: {inputs})")
    for part in evaluation.components:
        msg.divider(part.name)
        for table in component_tables(part):
            _print_table(msg, table)
    others = other_scores(evaluation)
    if others.rows:
        msg.divider(others.title)
        msg.table(others.rows, aligns=others.aligns)


def _print_table(msg: Printer, table: Table) -> None:
    msg.table(
        table.rows,
        title=table.title,
        header=table.header,
        divider=True,
        aligns=table.aligns,
        max_col=_WIDEST_COLUMN,
    )
