"""`python -m spacy spanrel annotate`: apply a saved pipeline to a large collection of texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast, get_args

import typer
from spacy.cli._util import setup_gpu

from ..streams import INPUT_FORMATS, OUTPUT_FORMATS, AnnotationReport, annotate, merge_shards
from ..streams.annotate import CHUNK_SIZE, ENGINES, EngineName, unfinished
from ..streams.readers import Unit
from ..streams.review import REVIEW_SIZE, ReviewSettings
from ..streams.shards import ShardBy
from ._app import GpuId, Printer, Quiet, app, echo, fail, failing_with, one_of, warn


@app.command("annotate", no_args_is_help=True)
def annotate_cli(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="Saved pipeline: folder or package name")
    ] = None,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="INPUT",
            help="File, folder of files of one format, pattern ('texts/*.jsonl.gz'), or address "
            "(s3://bucket/texts)",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Argument(
            metavar="OUTPUT",
            help="File to write (.jsonl, .jsonl.gz, .parquet, .spacy), folder ('found/': Parquet), or "
            "address of one",
        ),
    ] = None,
    input_format: Annotated[
        str | None,
        typer.Option(
            "--input-format",
            "-i",
            help="Format of INPUT, if the suffix does not tell",
            **one_of(INPUT_FORMATS),
        ),
    ] = None,
    text_key: Annotated[
        str, typer.Option("--text-key", "-t", help="Key or column of the text")
    ] = "text",
    unit: Annotated[
        str,
        typer.Option(
            "--unit",
            "-u",
            help="Plain text: each line is a text, or each file",
            **one_of(get_args(Unit)),
        ),
    ] = "line",
    delimiter: Annotated[
        str | None,
        typer.Option("--delimiter", "-d", help="CSV: delimiter of fields (comma; tab in .tsv)"),
    ] = None,
    output_format: Annotated[
        str | None,
        typer.Option(
            "--output-format",
            "-o",
            help="Format of OUTPUT, if the suffix does not tell",
            **one_of(OUTPUT_FORMATS),
        ),
    ] = None,
    entities: Annotated[
        bool,
        typer.Option(
            "--entities",
            "-e",
            help="Also write relations between entities, named by the best mentions of their clusters",
        ),
    ] = False,
    components: Annotated[
        str, typer.Option("--components", help="Run only these components, separated by commas")
    ] = "",
    disable: Annotated[
        str, typer.Option("--disable", help="Do not run these components, separated by commas")
    ] = "",
    max_chars: Annotated[
        int | None,
        typer.Option(
            "--max-chars",
            min=1,
            help="Longer texts are failed rows (if not given, the pipeline's max_length)",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", "-b", min=1, help="Texts that are annotated together"),
    ] = None,
    chunk_size: Annotated[
        int,
        typer.Option(
            "--chunk-size",
            "-c",
            min=1,
            help="Most rows saved at once, and most in each file of a folder",
        ),
    ] = CHUNK_SIZE,
    n_process: Annotated[
        int,
        typer.Option(
            "--n-process",
            "-n",
            help="Processes of this machine that annotate; -1: one for each core",
        ),
    ] = 1,
    gpu_id: GpuId = -1,
    devices: Annotated[
        str,
        typer.Option(
            "--devices", help="One process for each of these devices, such as cuda:0,cuda:1"
        ),
    ] = "",
    engine: Annotated[
        str,
        typer.Option("--engine", help="Processes of this machine, or Ray", **one_of(ENGINES)),
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", min=1, help="Workers of Ray (if not given, as many as it has room for)"
        ),
    ] = None,
    gpus_per_worker: Annotated[
        float, typer.Option("--gpus-per-worker", min=0, help="GPUs of each worker of Ray")
    ] = 0,
    address: Annotated[
        str | None,
        typer.Option(
            "--address", help="Ray cluster (if not given, the one running here, or a new one)"
        ),
    ] = None,
    max_errors: Annotated[
        int | None,
        typer.Option(
            "--max-errors",
            min=0,
            help="Stop when more rows than this have failed (if not given, when all of a chunk have)",
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", "-s", help="Exit with code 1 if any row failed")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", "-F", help="Replace a complete OUTPUT, once the new one is complete"
        ),
    ] = False,
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Drop an unfinished run, and replace a complete OUTPUT"),
    ] = False,
    work: Annotated[
        Path | None,
        typer.Option(
            "--work",
            metavar="FOLDER",
            help="OUTPUT at an address: where the unfinished run is kept (if not given, the working "
            "directory)",
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard", metavar="K/N", help="Annotate share K of N, and write it into folder OUTPUT"
        ),
    ] = None,
    shard_by: Annotated[
        str,
        typer.Option(
            "--shard-by",
            help="Divide rows (each run reads the whole input), or whole files",
            **one_of(get_args(ShardBy)),
        ),
    ] = "rows",
    merge: Annotated[
        str | None,
        typer.Option(
            "--merge",
            metavar="FOLDER",
            help="Put the shares in FOLDER together in FOLDER.jsonl or FOLDER.parquet; without MODEL, "
            "INPUT and OUTPUT",
        ),
    ] = None,
    review: Annotated[
        tuple[float, float] | None,
        typer.Option(
            "--review",
            metavar="LOW HIGH",
            help="Divide texts for correction by the scores of relations: kept from HIGH on, dropped "
            "below LOW, doubtful between",
        ),
    ] = None,
    review_size: Annotated[
        int,
        typer.Option("--review-size", min=1, help="Most texts in doubtful.spacy of --review"),
    ] = REVIEW_SIZE,
    quiet: Quiet = False,
) -> None:
    """Annotate a large collection of texts with a saved pipeline: entities, relations and answers.

    Memory is constant. The same command continues a run that was stopped or killed, and the output is
    the same as without the stop. Until a run is complete, all that it writes is in the folder
    OUTPUT.unfinished. Rows that fail are counted and written to OUTPUT.errors.jsonl.

    For an OUTPUT at an address (s3://bucket/found.jsonl), that folder is on this machine, in --work, and
    what is complete is uploaded. If the upload is broken off, the same command repeats it.

    INPUT: text (.txt; each line is a text or, with --unit file, each file), jsonl (objects with the
    text or "tokens", and perhaps "id" and "questions"; other keys are kept), csv (with a header),
    parquet (columns are such keys), json (a list of texts, lists of tokens and objects, as for SpERT),
    spacy (Docs; each file is loaded as a whole).

    OUTPUT: jsonl (perhaps with .gz or .zst behind it),
    parquet (other keys are JSON in "meta"; for a name that ends with a slash, a folder of files with
    --chunk-size rows each, which programs read as one data set), spacy (one .spacy file, put together in
    memory, up to 10 million tokens; or, for a name without suffix and --output-format spacy, a folder of
    files).

    Several files are one input, in the order of their names. Files that end in .gz or .zst are
    decompressed while they are read. Addresses belong to fsspec; it says which package a storage needs.

    --shard divides the work among machines that share nothing but the folder OUTPUT. A share that is
    complete is not annotated again, so the same command can be given until all are. --merge puts the
    rows in the order of the input. With --output-format jsonl.gz, shares and merged file are compressed.

    --devices and --engine ray use several processes that load MODEL by its name, while this one reads
    and writes. All machines of a Ray cluster must see MODEL. A worker that Ray loses is started again.

    --review writes into folder OUTPUT: doubtful.spacy, the texts to correct, most doubt and most variety
    first; later/, further doubtful texts; and kept/, all others.

    --n-process, --gpu-id, --devices, --engine and its options, --max-errors, --strict, --force and
    --quiet may differ when a run is continued.

    Examples:

    \b
    $ python -m spacy spanrel annotate model texts.jsonl found.jsonl
    $ python -m spacy spanrel annotate model articles/ found.parquet --unit file
    $ python -m spacy spanrel annotate model "2024/**/*.jsonl.zst" found.jsonl.zst
    $ python -m spacy spanrel annotate model "texts/*.parquet" found/ --engine ray --workers 8
    $ python -m spacy spanrel annotate model posts.csv found.jsonl --text-key body --gpu-id 0
    $ python -m spacy spanrel annotate model predict.json shards --output-format spacy
    $ python -m spacy spanrel annotate model texts.jsonl found.jsonl --entities
    $ python -m spacy spanrel annotate model texts.jsonl found --shard 3/16
    $ python -m spacy spanrel annotate --merge found
    $ python -m spacy spanrel annotate model s3://bucket/texts s3://bucket/found/ --work /scratch
    $ python -m spacy spanrel annotate model texts.jsonl reviewed --review 0.3 0.9
    """
    if merge is not None:
        _merge(merge, (model, source, output), force, work, strict, quiet)
        return
    if model is None or source is None or output is None:
        raise typer.BadParameter("MODEL, INPUT and OUTPUT are needed, or --merge FOLDER")
    try:
        setup_gpu(gpu_id, silent=quiet)
        report = annotate(
            model,
            source,
            output,
            input_format=input_format,
            output_format=output_format,
            text_key=text_key,
            unit=cast(Unit, unit),
            delimiter=delimiter,
            batch_size=batch_size,
            chunk_size=chunk_size,
            n_process=n_process,
            components=_names(components),
            disable=_names(disable),
            entities=entities,
            max_chars=max_chars,
            max_errors=max_errors,
            force=force,
            restart=restart,
            work=work,
            shard=shard,
            shard_by=cast(ShardBy, shard_by),
            devices=_names(devices),
            engine=cast(EngineName, engine),
            workers=workers,
            gpus_per_worker=gpus_per_worker,
            address=address,
            review=None if review is None else ReviewSettings(*review, review_size),
            quiet=quiet,
        )
    except KeyboardInterrupt:
        warn("Stopped. What is done is kept: the same command continues there.")
        raise typer.Exit(130) from None
    except (OSError, ValueError, ImportError) as error:
        title = "{} is not complete" if unfinished(output, shard, work) else "Nothing written to {}"
        fail(title.format(output), error)
    _finish(report, strict, quiet)


def _finish(report: AnnotationReport, strict: bool, quiet: bool) -> None:
    if report.failed:
        warn(f"{report.failed} of {report.rows} rows failed, see {report.errors}")
        if report.first_error:
            echo(f"First error: {report.first_error}", err=True)
    if not quiet:
        print_report(report)
    if strict and report.failed:
        raise typer.Exit(1)


def _merge(
    folder: str,
    arguments: tuple[str | None, ...],
    force: bool,
    work: Path | None,
    strict: bool,
    quiet: bool,
) -> None:
    if any(arguments):
        raise typer.BadParameter("--merge takes no MODEL, INPUT and OUTPUT")
    with failing_with("Nothing merged"):
        report = merge_shards(folder, force=force, work=work or ".")
    _finish(report, strict, quiet)


def _names(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def print_report(report: AnnotationReport) -> None:
    """Print the counts of a run as a table."""
    msg = Printer()
    msg.good(f"{report.annotated} rows annotated in {report.output}")
    rows = [
        ("Rows", report.rows),
        ("Entities", report.entities),
        ("Relations", report.relations),
        ("Answers", report.answers),
    ]
    if report.failed:
        rows.append(("Rows that failed", report.failed))
    if report.resumed_at:
        rows.append(("Rows done by an earlier run", report.resumed_at))
    for name, n in (report.review or {}).items():
        title = name.replace("_texts", " texts") if "_" in name else f"{name} relations"
        rows.append((title.capitalize(), n))
    msg.table(rows, aligns=("l", "r"))
