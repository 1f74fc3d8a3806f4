"""Apply a saved pipeline to a large collection of texts.

A chunk of rows is read, annotated, written and committed; then comes the next. What is committed is
recorded in the folder OUTPUT.unfinished (see `progress`), last of all, so a run that was killed at any
moment continues behind the last chunk, and drops whatever was written after it. Chunks are counted
from the beginning of the input, and batches from the beginning of their chunk: where a run was
resumed changes nothing in the output. The folder of a run whose output lies in a storage is on this
machine, and what is complete is uploaded (see `storage`).
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import spacy
from spacy.language import Language
from tqdm import tqdm

from ..about import __version__
from ..errors import Errors, Warnings, warn
from ..files import check_folder, check_output
from ..reading import ConversionError, argument_error
from . import shards
from .annotator import Render, RenderedRow, RowAnnotator, choose_components, enable_only
from .arrow import ArrowAnnotator, find_pipeline
from .engines import Devices, RayWorkers, import_ray, make_pipelines
from .inputs import is_pattern, pattern_root
from .progress import (
    COMPLETE,
    COUNTS,
    MERGED,
    PROGRESS,
    UPLOADING,
    WRITING,
    AppendFile,
    Progress,
    Workplace,
    difference,
    model_fingerprint,
    refuse_old_run,
    unfinished_path,
)
from .readers import ReadSettings, Source, Unit, find_source
from .records import ResultKeys
from .review import REPORT, ReviewSettings, lower_thresholds
from .rows import BadRow, Row
from .schema import import_pyarrow
from .shards import ERRORS_ENDING, Shard, ShardBy, check_errors_file, save_counts, shard_path
from .storage import Address, Output, beside, is_address, local_path
from .workers import Batch, Engine, Processes
from .writers import SUFFIXES, ReviewWriter, Writer, check_output_format, is_folder, make_writer

EngineName = Literal["local", "ray"]
ENGINES = get_args(EngineName)
CHUNK_SIZE = 1000
# A chunk whose rows have so many bytes is full, however few they are: Docs need some 20 times as much.
CHUNK_BYTES = 1 << 23
# If so many rows fail one after the other, and none succeeds, the texts are hardly to blame.
_SUSPICIOUS = 100
# A row of more bytes is not even read: no text of `max_chars` characters needs so many, however it is
# spelled.
_MIN_BYTES = 1 << 26
_BYTES_PER_CHAR = 16


@dataclass(frozen=True)
class AnnotationReport:
    """The result of a run.

    output (Output): The output, complete: a path, or in a storage an `Address`; `str` makes either text.
    errors (Output | None): The file of failed rows; None if no row failed.
    rows (int): How many rows the input has.
    annotated, failed (int): How many of them are in the output, and how many failed.
    entities, relations, answers (int): How many the output holds; answers without questions that have
        none.
    resumed_at (int): How many rows were done when this run began.
    first_error (str): The message about the first row that failed in this run.
    review (dict[str, int] | None): The counts of a review, see `ReviewCounts`.
    """

    output: Output
    errors: Output | None
    rows: int
    annotated: int
    failed: int
    entities: int
    relations: int
    answers: int
    resumed_at: int = 0
    first_error: str = ""
    review: dict[str, int] | None = None


def annotate(
    model: str | Path | Language,
    source: str | Path,
    output: str | Path,
    *,
    input_format: str | None = None,
    output_format: str | None = None,
    text_key: str = "text",
    unit: Unit = "line",
    delimiter: str | None = None,
    batch_size: int | None = None,
    chunk_size: int = CHUNK_SIZE,
    n_process: int = 1,
    components: Sequence[str] = (),
    disable: Sequence[str] = (),
    entities: bool = False,
    max_chars: int | None = None,
    max_errors: int | None = None,
    force: bool = False,
    restart: bool = False,
    work: str | Path | None = None,
    shard: str | None = None,
    shard_by: ShardBy = "rows",
    devices: Sequence[str] = (),
    engine: EngineName = "local",
    workers: int | None = None,
    gpus_per_worker: float = 0,
    address: str | None = None,
    review: ReviewSettings | None = None,
    quiet: bool = True,
) -> AnnotationReport:
    """Apply a pipeline to all texts of an input. The same call continues a run that was killed.

    model (str | Path | Language): The pipeline: its folder, its package's name, or itself.
    source (str | Path): The input: a file, a folder of files of one format, a pattern such as
        "texts/*.jsonl.gz", or an address that fsspec knows, such as "s3://bucket/texts"; see `inputs`.
    output (str | Path): The file to write, or the folder for shards of Docs or, with a slash at the end
        of its name, for files of Parquet; see `records` and `writers`. JSON lines may end in .gz or
        .zst. Failed rows are written to OUTPUT.errors.jsonl. Or an address that fsspec knows; what is
        complete is uploaded there.
    input_format (str | None): One of `INPUT_FORMATS`; None to tell by the suffix.
    output_format (str | None): One of `OUTPUT_FORMATS`; None to tell by the suffix.
    text_key (str): Key or column of the text.
    unit ("line" | "file"): One text of plain text files.
    delimiter (str | None): Delimiter of CSV; None for a tab in .tsv and a comma elsewhere.
    batch_size (int | None): As in `nlp.pipe`; None for the pipeline's own.
    chunk_size (int): Most rows that are committed together, and most Docs in a shard. A chunk of long
        texts has fewer, so that it takes no more than some hundred megabytes.
    n_process (int): Processes that annotate; -1 for one for each core.
    components (Sequence[str]): Run only these; () for all that the pipeline runs by itself.
    disable (Sequence[str]): Do not run these.
    entities (bool): Also write the relations between entities, see `get_entity_relations`; Docs get
        span groups of the clusters that fastcoref found.
    max_chars (int | None): A longer text is a failed row; None for `nlp.max_length`.
    max_errors (int | None): Stop when more rows than this have failed; None to stop when all rows of a
        chunk have (of at least 100 rows, or of the only one).
    force (bool): Replace a complete output once the new one is complete.
    restart (bool): Drop an unfinished run, and replace a complete output.
    work (str | Path | None): For an output at an address, the folder of this machine that holds the
        unfinished run; None for the working directory.
    shard (str | None): Annotate a share of the input, such as "3/16", and write it into the folder
        OUTPUT, see `shards`; a share that is complete there is not annotated again.
    shard_by ("rows" | "files"): What is divided among the shards.
    devices (Sequence[str]): Annotate in one process for each of these devices, such as "cuda:0".
    engine ("local" | "ray"): Annotate in processes of this machine, or in workers of Ray, all of which
        must see the pipeline under its name. One process reads and writes.
    workers (int | None): Workers of Ray; None for as many as it has room for.
    gpus_per_worker (float): GPUs, or parts of one, of each worker of Ray.
    address (str | None): Address of a Ray cluster; None for the one that is running here, or a new one.
    review (ReviewSettings | None): Divide the Docs into those to keep and those to correct, in the folder
        OUTPUT, see `review`. The thresholds of relations are lowered to `low` meanwhile. Not with
        shards, devices and Ray.
    quiet (bool): Show no progress bar, which is only shown on a terminal in any case.
    RETURNS (AnnotationReport): What was done.
    RAISES (ConversionError): If an argument is wrong, or an input cannot be read.
    RAISES (FileExistsError): If the output is complete, or something is in the way that no run made.
    RAISES (ValueError): If the output is the input; if an unfinished run was begun with other input,
        pipeline or settings; if another run has the output; if too many rows fail; or if a worker
        process was killed. The committed rows are kept.
    RAISES (OSError): If a storage refuses.
    RAISES (ImportError): If a format or a storage needs a package that is not installed.
    """
    source, named = local_path(source), output
    target = _place(output)
    if work is not None and isinstance(target, Path):
        raise argument_error("--work", f"'{work}'", "nothing, unless OUTPUT is an address")
    for name, number in (
        ("--batch-size", batch_size),
        ("--chunk-size", chunk_size),
        ("--max-chars", max_chars),
        ("--n-process", None if n_process == -1 else n_process),
    ):
        if number is not None and number < 1:
            raise argument_error(name, str(number), "a whole number of at least 1")
    if delimiter is not None and len(delimiter) != 1:
        raise argument_error("--delimiter", repr(delimiter), "one character")
    if unit not in ("line", "file"):
        raise argument_error("--unit", repr(unit), "'line' or 'file'")
    _check_engine(model, n_process, devices, engine, workers, gpus_per_worker, address)
    if review is not None:
        _check_review(target, output_format, bool(shard), bool(devices) or engine == "ray")
        output_format = "spacy"
    if shard is None and shard_by != "rows":
        raise argument_error("--shard-by", repr(shard_by), "with it, --shard K/N")
    files = find_source(source, input_format)
    share = Shard() if shard is None else Shard.parse(shard, shard_by)
    if shard is None:
        output_format = check_output_format(named, output_format)
        errors_path = beside(target, ERRORS_ENDING)
    else:
        target, output_format = _shard_output(target, share, output_format)
        errors_path = shards.errors_path(target)
    folder = shard is None and is_folder(named, output_format)
    if isinstance(target, Path):
        _check_output(source, files, target, folder, None if isinstance(model, Language) else model)
        refuse_old_run(target)
    else:
        _check_address(source, files, target, folder)
    if files.format == "parquet":
        import_pyarrow()  # before anything is begun
    with Workplace(target, Path(work or ".")) as workplace:
        nlp = None
        writer: Writer
        if review is None:
            writer = make_writer(workplace, output_format, folder, entities)
        else:
            nlp = _load(model)
            keys = ResultKeys.of(nlp).relations
            if not keys:
                found = "a pipeline with " + (", ".join(nlp.pipe_names) or "nothing")
                expected = "with --review, a pipeline that finds relations"
                raise argument_error("MODEL", found, expected)
            writer = ReviewWriter(workplace, review, keys)
        check_errors_file(errors_path)
        if restart:
            workplace.clear()
        saved = Progress.load(workplace.progress_path)
        done = saved is not None and (
            saved.stage == UPLOADING or (saved.stage == MERGED and writer.published)
        )
        complete = None if shard is None or saved else shards.load_counts(target)
        if not (force or restart or done or complete) and writer.taken:
            raise FileExistsError(Errors.E920.format(output=target))
        if isinstance(target, Address):
            target.probe()

        nlp = nlp or _load(model)
        low = None if review is None else review.low
        with _set_up(nlp, components, disable, max_chars, low):
            chars = nlp.max_length if max_chars is None else max_chars
            batch = batch_size or nlp.batch_size
            fingerprint = {
                "input": files.fingerprint(),
                "model": model_fingerprint(nlp),
                "settings": {
                    "version": __version__,
                    "input-format": files.format,
                    "output-format": output_format,
                    "text-key": text_key,
                    "unit": unit,
                    "delimiter": delimiter,
                    "batch-size": batch,
                    "chunk-size": chunk_size,
                    "components": list(components),
                    "disable": list(disable),
                    "entities": entities,
                    "max-chars": chars,
                    **({} if shard is None else {"shard": str(share)}),
                    **({} if review is None else {"review": asdict(review)}),
                },
            }
            if complete and not (force or restart):
                if complete["fingerprint"] != fingerprint:
                    raise FileExistsError(Errors.E920.format(output=target))
                return _complete_shard(target, errors_path, complete)
            if saved and (changed := difference(saved.fingerprint, fingerprint)):
                if saved.rows:
                    raise ValueError(
                        Errors.E921.format(output=target, rows=saved.rows, changed=changed)
                    )
                saved = None
            reading = ReadSettings(
                nlp.vocab,
                text_key=text_key,
                unit=unit,
                delimiter=delimiter,
                max_bytes=max(_MIN_BYTES, _BYTES_PER_CHAR * chars),
            )
            annotator = RowAnnotator(nlp, batch, chars, entities)
            choice: dict[str, Any] = {
                "components": components,
                "disable": disable,
                "max_chars": max_chars,
            }

            def start_engine(render: Render) -> Engine:
                if isinstance(model, Language) or not (devices or engine == "ray"):
                    if n_process != 1:
                        return Processes(annotator, render, n_process)
                    return Engine(annotator, render)
                if devices:
                    return Devices(annotator, render, make_pipelines(model, devices, **choice))
                return RayWorkers(
                    annotator,
                    render,
                    ArrowAnnotator(model, **choice),
                    workers=workers,
                    gpus_per_worker=gpus_per_worker,
                    address=address,
                )

            run = _Run(
                nlp=nlp,
                files=replace(files, files=share.files(files.files)),
                shard=None if shard is None else share,
                errors_path=errors_path,
                reading=reading,
                workplace=workplace,
                writer=writer,
                progress=saved or Progress(fingerprint=fingerprint),
                start_engine=start_engine,
                batch_size=batch,
                chunk_size=chunk_size,
                max_errors=max_errors,
                replace=force or restart,
            )
            return run(quiet)


def _place(output: str | Path) -> Output:
    """Return the path or address of an output."""
    output = local_path(output)
    if is_address(output):
        return Address.parse(str(output))
    return Path(os.path.realpath(output)) if Path(output).is_symlink() else Path(output)


def _shard_output(output: Output, share: Shard, output_format: str | None) -> tuple[Output, str]:
    """Return the output of a shard, and its format: JSON lines if none is given."""
    if output.suffix in SUFFIXES or output.is_file():
        raise argument_error("OUTPUT", f"'{output}'", "with --shard, a folder for all shards")
    output_format = check_output_format(output.name, output_format or "jsonl")
    return shard_path(output, share, output_format), output_format


def _complete_shard(output: Output, errors: Output, counts: dict[str, Any]) -> AnnotationReport:
    """Return the report of a shard that an earlier run has completed."""
    return AnnotationReport(
        output=output,
        errors=errors if counts["failed"] else None,
        resumed_at=counts["rows"],
        **{name: counts[name] for name in COUNTS},
    )


def merge_shards(
    folder: str | Path, *, force: bool = False, work: str | Path = "."
) -> AnnotationReport:
    """Put the outputs of all shards of a folder together; arguments and errors as of `shards.merge`.

    RETURNS (AnnotationReport): The counts of all shards.
    """
    output, counts = shards.merge(folder, force=force, work=work)
    errors = beside(output, ERRORS_ENDING) if counts["failed"] else None
    return AnnotationReport(output=output, errors=errors, **counts)


def unfinished(
    output: str | Path, shard: str | None = None, work: str | Path | None = None
) -> bool:
    """Tell whether a run has left something to continue of an output, or of a shard of it."""
    try:
        target = _place(output)
    except ConversionError:
        return False
    if shard is not None:
        index, _, count = shard.partition("/")
        target = target / f"{index:0>5}-of-{count:0>5}.*"
    path = unfinished_path(target, Path(work or "."))
    paths = [path] if shard is None else path.parent.glob(path.name)
    return any((path / PROGRESS).exists() for path in paths)


@dataclass
class _Run:
    """A run, from where it stands to its end."""

    nlp: Language
    files: Source
    shard: Shard | None
    errors_path: Output
    reading: ReadSettings
    workplace: Workplace
    writer: Writer
    progress: Progress
    start_engine: Callable[[Render], Engine]
    batch_size: int
    chunk_size: int
    max_errors: int | None
    replace: bool
    first_error: str = ""
    warned: bool = False

    def __call__(self, quiet: bool) -> AnnotationReport:
        done = self.progress
        resumed_at = done.rows
        self.errors = AppendFile(self.workplace.errors_path)
        with ExitStack() as stack:
            stack.callback(self._drop_if_empty)
            stack.callback(self.errors.close)
            stack.callback(self.writer.close)
            if done.stage in (WRITING, COMPLETE):
                self._check_number_of_errors()
                self.errors.open(done.error_bytes)
                self.writer.start(done.output)
            if done.stage == WRITING:
                self._save()
                self.engine = self.start_engine(self.writer.render)
                stack.callback(self.engine.close)
                self._write_all(quiet)
            if done.stage == COMPLETE:
                self.writer.build()
                done.stage = MERGED
                self._save()
            self._publish()
        return AnnotationReport(
            output=self.workplace.output,
            errors=self.errors_path if done.failed else None,
            resumed_at=resumed_at,
            first_error=self.first_error,
            review=json.loads((self.workplace.output / REPORT).read_bytes())
            if isinstance(self.writer, ReviewWriter)
            else None,
            **{name: getattr(done, name) for name in COUNTS},
        )

    def _save(self) -> None:
        self.progress.save(self.workplace.progress_path)

    def _drop_if_empty(self) -> None:
        """Leave nothing to continue if no row is done."""
        if self.progress.stage == WRITING and not self.progress.rows:
            self.workplace.clear()

    # The end

    def _publish(self) -> None:
        """Give all files their names, and remove the folder of the run; can be repeated."""
        output, done = self.workplace.output, self.progress
        ours = self.replace or self.writer.published or done.stage == UPLOADING
        if not ours and self.writer.taken:
            raise FileExistsError(Errors.E920.format(output=output))  # it came while we worked
        if isinstance(output, Address):
            done.stage = UPLOADING
            self._save()
        self._publish_errors()
        if self.shard is not None:
            save_counts(output, self.shard, self.progress)
        self.writer.publish()
        self.workplace.remove()

    def _publish_errors(self) -> None:
        """Give the file of errors its name, or remove that of an earlier run; can be repeated."""
        self.errors.close()
        check_errors_file(self.errors_path)
        path = self.errors.path
        if path.exists() and path.stat().st_size:
            if isinstance(self.errors_path, Path):
                os.replace(path, self.errors_path)
            else:
                self.errors_path.write(path)
        elif not self.progress.failed:
            self.errors_path.unlink(missing_ok=True)

    # Chunks

    def _numbers(self, done: int, n_rows: int) -> range:
        """Return the numbers of the rows that follow those that are done."""
        return (self.shard or Shard()).numbers(done, n_rows)

    def _read_chunks(self) -> Iterator[tuple[list[Row | BadRow], bool]]:
        """Yield the chunks that are not done, and whether each is the last one.

        A chunk ends with `chunk_size` rows, or when its rows have many bytes. The last one is the
        first that is not full, and may be empty.
        """
        numbers = self._numbers(self.progress.rows, 1)
        rows = islice(self.files.read(self.reading), numbers.start - 1, None, numbers.step)
        while True:
            chunk: list[Row | BadRow] = []
            size = 0
            while len(chunk) < self.chunk_size and size < CHUNK_BYTES:
                row = next(rows, None)
                if row is None:
                    yield chunk, True
                    return
                chunk.append(row)
                size += row.size
            yield chunk, False

    def _write_all(self, quiet: bool) -> None:
        done = self.progress
        total = self.files.size
        with tqdm(
            desc="Input",
            unit="B" if total is not None else " rows",
            unit_scale=total is not None,
            total=total,
            delay=1.0,
            disable=True if quiet else None,
        ) as bar:
            for chunk, last, outcomes in self._annotated_chunks():
                rendered: list[RenderedRow] = []
                failed: dict[int, BadRow] = {}
                numbers = self._numbers(done.rows, len(chunk))
                for number, outcome in zip(numbers, outcomes, strict=True):
                    if isinstance(outcome, BadRow):
                        failed[number] = outcome
                    else:
                        rendered.append(outcome)
                self._note(chunk, failed)
                if not rendered:
                    self._check_failures(len(chunk), last, failed)
                done.stage = COMPLETE if last else WRITING
                for outcome in outcomes:
                    done.add(None if isinstance(outcome, BadRow) else outcome[1:])
                done.output = self.writer.commit([row.output for row in rendered])
                done.error_bytes = self.errors.append(_error_lines(failed))
                self._save()
                bar.update((done.rows if total is None else self.files.bytes_read) - bar.n)
                bar.set_postfix(rows=done.rows, failed=done.failed)
                self._check_number_of_errors()

    def _annotated_chunks(
        self,
    ) -> Iterator[tuple[list[Row | BadRow], bool, list[RenderedRow | BadRow]]]:
        """Yield the chunks in order, whether each is the last one, and a result for each of its rows.

        Batches are submitted ahead of the chunk that is waited for, so that no process is idle.
        """
        ahead: deque[tuple[list[Row | BadRow], bool, list[Callable[[], Batch]]]] = deque()
        submitted = self.progress.rows
        chunks = self._read_chunks()
        while True:
            while not ahead or self.engine.ahead > sum(
                len(batches) for *_, batches in islice(ahead, 1, None)
            ):
                chunk, last = next(chunks, (None, True))
                if chunk is None:
                    break
                numbers = self._numbers(submitted, len(chunk))
                slices = [
                    slice(start, start + self.batch_size)
                    for start in range(0, len(chunk), self.batch_size)
                ]
                batches = [self.engine.submit(numbers[part], chunk[part]) for part in slices]
                ahead.append((chunk, last, batches))
                submitted += len(chunk)
            if not ahead:
                return
            chunk, last, batches = ahead.popleft()
            yield chunk, last, [outcome for batch in batches for outcome in batch()]

    def _note(self, chunk: list[Row | BadRow], failed: dict[int, BadRow]) -> None:
        """Keep the first error, and warn once of questions that nothing answers."""
        if failed and not self.first_error:
            self.first_error = failed[min(failed)].message
        asked = any(isinstance(row, Row) and row.questions for row in chunk)
        if asked and not self.warned and not ResultKeys.of(self.nlp).answers:
            self.warned = True
            names = ", ".join(self.nlp.pipe_names) or "nothing"
            warn(Warnings.W135.format(names=names))

    # Failures

    def _check_failures(self, n_rows: int, last: bool, failed: dict[int, BadRow]) -> None:
        """Stop before a chunk is committed of which every row has failed, unless by chance."""
        done = self.progress
        nothing = last and not done.annotated and done.rows + n_rows > 0
        if self.max_errors is not None or not (n_rows >= _SUSPICIOUS or nothing):
            return
        if not done.annotated:
            # So that nothing is in the way of another attempt with other settings.
            self.errors.append(_error_lines(failed))
            done.failed += len(failed)
            self._publish_errors()
            self.writer.close()
            self.workplace.clear()
            n, kept = done.rows + n_rows, f"Nothing was written but {self.errors_path}"
        else:
            n = n_rows
            kept = f"The {done.rows} rows before are kept, and the same command continues there"
        raise ValueError(
            Errors.E925.format(
                n=n,
                first=self._numbers(done.rows + n_rows - n, 1).start,
                kept=kept,
                error=self.first_error or f"see {self.errors_path}",
            )
        )

    def _check_number_of_errors(self) -> None:
        if self.max_errors is not None and self.progress.failed > self.max_errors:
            raise ValueError(
                Errors.E924.format(
                    failed=self.progress.failed,
                    limit=self.max_errors,
                    path=self.errors.path,
                    first=self.first_error or "see there",
                )
            )


def _error_lines(failed: dict[int, BadRow]) -> bytes:
    return b"".join(failed[number].to_line(number) for number in sorted(failed))


def _load(model: str | Path | Language) -> Language:
    return model if isinstance(model, Language) else spacy.load(model)


@contextmanager
def _set_up(
    nlp: Language,
    components: Sequence[str],
    disable: Sequence[str],
    max_chars: int | None,
    low: float | None = None,
) -> Iterator[None]:
    """Choose, for a while, which components a pipeline runs, how long its texts may be, and the highest
    threshold of relations."""
    disabled, max_length = nlp.disabled, nlp.max_length
    settings = [
        cfg for _, pipe in nlp.components if isinstance(cfg := getattr(pipe, "cfg", 0), dict)
    ]
    saved = [dict(cfg) for cfg in settings]
    try:
        for cfg in settings:
            cfg.update({} if low is None else lower_thresholds(cfg, low))
        choose_components(nlp, components, disable)
        nlp.max_length = max(max_length, max_chars or 0)
        yield
    finally:
        for cfg, old in zip(settings, saved, strict=True):
            cfg.update(old)
        nlp.max_length = max_length
        enable_only(nlp, set(nlp.component_names) - set(disabled))


# Checks


def _check_review(output: Output, output_format: str | None, sharded: bool, remote: bool) -> None:
    """Check that the other options fit a review."""
    expected = "with --review, "
    if sharded or remote:
        option = "--shard" if sharded else "--devices, --engine ray"
        raise argument_error(option, "given", expected + "one run of this machine")
    if output.suffix in SUFFIXES or output_format not in (None, "spacy"):
        found = f"'{output}'" if output.suffix in SUFFIXES else repr(output_format)
        raise argument_error("OUTPUT", found, expected + "a folder, without a suffix")


def _check_engine(
    model: str | Path | Language,
    n_process: int,
    devices: Sequence[str],
    engine: str,
    workers: int | None,
    gpus_per_worker: float,
    address: str | None,
) -> None:
    """Check that the settings of engines fit together."""
    if engine not in ENGINES:
        raise argument_error("--engine", repr(engine), f"one of {', '.join(ENGINES)}")
    for name, value in (("--workers", workers), ("--gpus-per-worker", gpus_per_worker or None)):
        if value is not None and value <= 0:
            raise argument_error(name, str(value), "a number greater than 0")
    of_ray = workers is not None or gpus_per_worker or address is not None
    if of_ray and engine != "ray":
        raise argument_error("--engine", repr(engine), "'ray', to which the other options belong")
    if sum((n_process != 1, bool(devices), engine == "ray")) > 1:
        found = "more than one of them"
        raise argument_error("--n-process, --devices, --engine ray", found, "one of them")
    if devices:
        _check_devices(devices)
    if devices or engine == "ray":
        find_pipeline(model)  # type: ignore[arg-type]
    if engine == "ray":
        import_ray()


def _check_devices(devices: Sequence[str]) -> None:
    """Refuse devices that torch does not know, or that this machine does not have."""
    import torch  # here, because the commands are imported without torch, too

    for device in devices:
        try:
            kind = torch.device(device)
        except RuntimeError:
            kind = None
        n_gpus = torch.cuda.device_count()
        if kind is None or (kind.type == "cuda" and (kind.index or 0) >= n_gpus):
            expected = f"devices of torch, such as cpu or cuda:0 (this machine has {n_gpus} GPUs)"
            raise argument_error("--devices", repr(device), expected)


def _check_output(
    source: str | Path,
    files: Source,
    output: Path,
    as_folder: bool,
    model: str | Path | None,
) -> None:
    """Refuse an output that would take the place of something else."""
    check_output(output, source, model, *(file.path for file in files.files if not file.system))
    folder = Path(source)
    if is_pattern(source) and "**" in str(source) and not is_address(source):
        folder = Path(pattern_root(str(source)))
    if folder.is_dir() and folder.resolve() in output.resolve().parents:
        raise argument_error("OUTPUT", f"'{output}'", f"a place outside of the input '{source}'")
    if as_folder:
        check_folder(output, source, model)
    elif output.exists() and not output.is_file():
        found = "folder" if output.is_dir() else "device or pipe"
        raise FileExistsError(Errors.E953.format(path=output, found=found, expected="file"))


def _check_address(source: str | Path, files: Source, output: Address, as_folder: bool) -> None:
    """Refuse an address that would take the place of something else."""
    address = output.canonical
    for file in files.files:
        if file.path == address:
            raise ValueError(Errors.E951.format(output=output, input=file.path))
        if file.path.startswith(f"{address}/"):
            raise ValueError(Errors.E952.format(output=output, where="holds", input=file.path))
    if is_address(source):
        root = pattern_root(str(source)) if "**" in str(source) else str(source)
        folder = Address(root.rstrip("/"))
        if address.startswith(f"{folder.canonical}/") and folder.is_dir():
            raise argument_error(
                "OUTPUT", f"'{output}'", f"a place outside of the input '{source}'"
            )
    if as_folder:
        output.check_folder()
    elif output.is_dir():
        raise FileExistsError(Errors.E953.format(path=output, found="folder", expected="file"))
