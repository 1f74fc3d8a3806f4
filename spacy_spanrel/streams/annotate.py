"""Apply a saved pipeline to a large collection of texts.

A chunk of rows is read, annotated, written and committed; then comes the next. What is committed is
recorded in the folder OUTPUT.unfinished (see `progress`), last of all, so a run that was killed at any
moment continues behind the last chunk, and drops whatever was written after it. Chunks are counted
from the beginning of the input, and batches from the beginning of their chunk: where a run was
resumed changes nothing in the output.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import spacy
from spacy.language import Language
from spacy.tokens import Doc
from tqdm import tqdm

from ..about import __version__
from ..annotations import get_clusters, set_clusters
from ..errors import Errors, Warnings, warn
from ..files import check_folder, check_output
from ..reading import argument_error
from .progress import (
    COMPLETE,
    MERGED,
    WRITING,
    AppendFile,
    Progress,
    Workplace,
    beside,
    difference,
    model_fingerprint,
    refuse_old_run,
)
from .readers import ReadSettings, Source, Unit, find_source, import_parquet
from .records import ResultKeys, results
from .rows import ERROR_KEYS, BadRow, Row, make_doc
from .workers import Workers, memory_zone
from .writers import Writer, check_output_format, is_folder, make_writer

CHUNK_SIZE = 1000
# A chunk whose rows have so many bytes is full, however few they are: Docs need some 20 times as much.
CHUNK_BYTES = 1 << 23
ERRORS_ENDING = ".errors.jsonl"
# If so many rows fail one after the other, and none succeeds, the texts are hardly to blame.
_SUSPICIOUS = 100
# A row of more bytes is not even read: no text of `max_chars` characters needs so many, however it is
# spelled.
_MIN_BYTES = 1 << 26
_BYTES_PER_CHAR = 16

_Numbered = tuple[int, Row]


@dataclass(frozen=True)
class AnnotationReport:
    """The result of a run.

    output (Path): The output, complete.
    errors (Path | None): The file of failed rows; None if no row failed.
    rows (int): How many rows the input has.
    annotated, failed (int): How many of them are in the output, and how many failed.
    entities, relations, answers (int): How many the output holds; answers without questions that have
        none.
    resumed_at (int): How many rows were done when this run began.
    first_error (str): The message about the first row that failed in this run.
    """

    output: Path
    errors: Path | None
    rows: int
    annotated: int
    failed: int
    entities: int
    relations: int
    answers: int
    resumed_at: int = 0
    first_error: str = ""


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
    quiet: bool = True,
) -> AnnotationReport:
    """Apply a pipeline to all texts of an input. The same call continues a run that was killed.

    model (str | Path | Language): The pipeline: its folder, its package's name, or itself.
    source (str | Path): The input: a file, or a folder of files of one format; see `readers`.
    output (str | Path): The file to write, or the folder for shards of Docs; see `records` and
        `writers`. Failed rows are written to OUTPUT.errors.jsonl.
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
    quiet (bool): Show no progress bar, which is only shown on a terminal in any case.
    RETURNS (AnnotationReport): What was done.
    RAISES (ConversionError): If an argument is wrong, or an input cannot be read.
    RAISES (FileExistsError): If the output is complete, or something is in the way that no run made.
    RAISES (ValueError): If the output is the input; if an unfinished run was begun with other input,
        pipeline or settings; if another run has the output; if too many rows fail; or if a worker
        process was killed. The committed rows are kept.
    RAISES (ImportError): If a format needs a package that is not installed.
    """
    path, output = Path(source), Path(output)
    if output.is_symlink():
        output = Path(os.path.realpath(output))
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
    files = find_source(path, input_format)
    output_format = check_output_format(output, output_format)
    _check_output(path, output, output_format, None if isinstance(model, Language) else model)
    refuse_old_run(output)
    if files.format == "parquet":
        import_parquet()  # before anything is begun
    with Workplace(output) as workplace:
        writer = make_writer(workplace, output_format, entities)
        _check_errors_file(beside(output, ERRORS_ENDING))
        if restart:
            workplace.clear()
        saved = Progress.load(workplace.progress_path)
        done = saved is not None and saved.stage == MERGED and writer.published
        if output.exists() and not (force or restart or done):
            raise FileExistsError(Errors.E920.format(output=output))

        nlp = model if isinstance(model, Language) else spacy.load(model)
        with _set_up(nlp, components, disable, max_chars):
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
                },
            }
            if saved and (changed := difference(saved.fingerprint, fingerprint)):
                if saved.rows:
                    raise ValueError(
                        Errors.E921.format(output=output, rows=saved.rows, changed=changed)
                    )
                saved = None
            reading = ReadSettings(
                nlp.vocab,
                text_key=text_key,
                unit=unit,
                delimiter=delimiter,
                max_bytes=max(_MIN_BYTES, _BYTES_PER_CHAR * chars),
            )
            run = _Run(
                nlp=nlp,
                files=files,
                reading=reading,
                workplace=workplace,
                writer=writer,
                progress=saved or Progress(fingerprint),
                keys=ResultKeys.of(nlp),
                entities=entities,
                batch_size=batch,
                chunk_size=chunk_size,
                n_process=n_process,
                max_chars=chars,
                max_errors=max_errors,
                replace=force or restart,
            )
            return run(quiet)


def unfinished(output: str | Path) -> bool:
    """Tell whether a run has left something to continue beside an output."""
    return Workplace(Path(os.path.realpath(output))).begun


@dataclass
class _Run:
    """A run, from where it stands to its end."""

    nlp: Language
    files: Source
    reading: ReadSettings
    workplace: Workplace
    writer: Writer
    progress: Progress
    keys: ResultKeys
    entities: bool
    batch_size: int
    chunk_size: int
    n_process: int
    max_chars: int
    max_errors: int | None
    replace: bool
    first_error: str = ""
    warned: bool = False
    workers: Workers | None = None

    def __call__(self, quiet: bool) -> AnnotationReport:
        done = self.progress
        resumed_at = done.rows
        self.errors = AppendFile(self.workplace.errors_path)
        with ExitStack() as stack:
            stack.callback(self.errors.close)
            stack.callback(self.writer.close)
            if done.stage != MERGED:
                self._check_number_of_errors()
                self.errors.open(done.error_bytes)
                self.writer.start(done.output)
            if done.stage == WRITING:
                self._save()
                if self.n_process != 1:
                    self.workers = Workers(self.nlp, self.n_process, self.batch_size)
                    stack.callback(self.workers.close)
                self._write_all(quiet)
            if done.stage == COMPLETE:
                self.writer.build()
                done.stage = MERGED
                self._save()
            self._publish()
        return AnnotationReport(
            output=self.workplace.output,
            errors=self._errors_path if done.failed else None,
            rows=done.rows,
            annotated=done.annotated,
            failed=done.failed,
            entities=done.entities,
            relations=done.relations,
            answers=done.answers,
            resumed_at=resumed_at,
            first_error=self.first_error,
        )

    def _save(self) -> None:
        self.progress.save(self.workplace.progress_path)

    # The end

    @property
    def _errors_path(self) -> Path:
        return beside(self.workplace.output, ERRORS_ENDING)

    def _publish(self) -> None:
        """Give all files their names, and remove the folder of the run; can be repeated."""
        output = self.workplace.output
        if output.exists() and not self.replace and not self.writer.published:
            raise FileExistsError(Errors.E920.format(output=output))  # it came while we worked
        self._publish_errors()
        self.writer.publish()
        self.workplace.remove()

    def _publish_errors(self) -> None:
        """Give the file of errors its name, or remove that of an earlier run; can be repeated."""
        self.errors.close()
        _check_errors_file(self._errors_path)
        path = self.errors.path
        if path.exists() and path.stat().st_size:
            os.replace(path, self._errors_path)
        elif not self.progress.failed:
            self._errors_path.unlink(missing_ok=True)

    # Chunks

    def _read_chunks(self) -> Iterator[tuple[list[Row | BadRow], bool]]:
        """Yield the chunks that are not done, and whether each is the last one.

        A chunk ends with `chunk_size` rows, or when its rows have many bytes. The last one is the
        first that is not full, and may be empty.
        """
        rows = islice(self.files.read(self.reading), self.progress.rows, None)
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
            # Read outside of the memory zone: the words that a DocBin brings along must last.
            for chunk, last in self._read_chunks():
                with memory_zone(self.nlp):
                    rendered, failed = self._annotate(chunk, done.rows + 1)
                if not rendered:
                    self._check_failures(len(chunk), last, failed)
                done.stage = COMPLETE if last else WRITING
                done.rows += len(chunk)
                done.annotated += len(rendered)
                done.failed += len(failed)
                done.output = self.writer.commit([rendered[number] for number in sorted(rendered)])
                done.error_bytes = self.errors.append(_error_lines(failed))
                self._save()
                bar.update((done.rows if total is None else self.files.bytes_read) - bar.n)
                bar.set_postfix(rows=done.rows, failed=done.failed)
                self._check_number_of_errors()

    def _annotate(
        self, chunk: list[Row | BadRow], first: int
    ) -> tuple[dict[int, Any], dict[int, BadRow]]:
        """Annotate a chunk, whose first row has the number `first`.

        RETURNS (tuple[dict, dict]): By the numbers of the rows, what the writer rendered of the good
            ones, and the failed ones.
        """
        rendered: dict[int, Any] = {}
        failed: dict[int, BadRow] = {}
        good: list[_Numbered] = []
        for number, row in enumerate(chunk, start=first):
            if isinstance(row, BadRow):
                failed[number] = row
            else:
                good.append((number, row))
        size = self.batch_size if self.workers is None else self.chunk_size
        for (number, row), doc in self._pipe(good, size, self.workers):
            try:
                if isinstance(doc, Exception):
                    raise doc
                if self.entities:
                    set_clusters(doc, get_clusters(doc))
                data = results(doc, self.keys, entities=self.entities)
                rendered[number] = self.writer.render(number, row, doc, data)
            except Exception as error:
                failed[number] = BadRow.of(row.place, row.raw, error)
            else:
                self.progress.entities += len(data["entities"])
                self.progress.relations += len(data["relations"])
                self.progress.answers += sum(bool(answer["text"]) for answer in data["answers"])
        if failed and not self.first_error:
            self.first_error = failed[min(failed)].message
        if not self.keys.answers and not self.warned and any(row.questions for _, row in good):
            self.warned = True
            names = ", ".join(self.nlp.pipe_names) or "nothing"
            warn(Warnings.W135.format(names=names))
        return rendered, failed

    def _pipe(
        self, rows: list[_Numbered], size: int, workers: Workers | None = None
    ) -> Iterator[tuple[_Numbered, Doc | Exception]]:
        """Yield each row with its annotated Doc, or with the error about it.

        A batch that fails is repeated here (if it failed in `workers`), and then row by row.
        """
        for start in range(0, len(rows), size):
            batch, docs = [], []
            for number, row in rows[start : start + size]:
                try:
                    docs.append(make_doc(row, self.nlp, self.keys.answers, self.max_chars))
                    batch.append((number, row))
                except Exception as error:
                    yield (number, row), error
            failure: Exception | None = None
            annotated: list[Doc] | None = None
            if workers is not None:
                annotated = workers.pipe(docs)
            else:
                try:
                    annotated = list(self.nlp.pipe(docs, batch_size=self.batch_size))
                except Exception as error:
                    failure = error
            if annotated is not None and len(annotated) == len(batch):
                yield from zip(batch, annotated, strict=True)
            elif workers is None and len(batch) == 1:
                yield batch[0], failure or ValueError(Errors.E928.format(n=len(annotated or ())))
            else:
                # With new Docs: components may have written on these.
                yield from self._pipe(batch, 1 if workers is None else self.batch_size)

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
            n, kept = done.rows + n_rows, f"Nothing was written but {self._errors_path}"
        else:
            n = n_rows
            kept = f"The {done.rows} rows before are kept, and the same command continues there"
        raise ValueError(
            Errors.E925.format(
                n=n,
                first=done.rows + n_rows - n + 1,
                kept=kept,
                error=self.first_error or f"see {self._errors_path}",
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


@contextmanager
def _set_up(
    nlp: Language, components: Sequence[str], disable: Sequence[str], max_chars: int | None
) -> Iterator[None]:
    """Choose, for a while, which components a pipeline runs and how long its texts may be."""
    for option, names in (("--components", components), ("--disable", disable)):
        for name in names:
            if name not in nlp.component_names:
                available = ", ".join(nlp.component_names) or "(none)"
                raise argument_error(option, repr(name), f"one of {available}")
    disabled, max_length = nlp.disabled, nlp.max_length
    wanted = set(components or nlp.pipe_names) - set(disable)
    nlp.max_length = max(max_length, max_chars or 0)
    try:
        _enable_only(nlp, wanted)
        yield
    finally:
        nlp.max_length = max_length
        _enable_only(nlp, set(nlp.component_names) - set(disabled))


def _enable_only(nlp: Language, wanted: set[str]) -> None:
    for name in nlp.component_names:
        if name in wanted:
            nlp.enable_pipe(name)
        else:
            nlp.disable_pipe(name)


# Checks


def _check_output(source: Path, output: Path, output_format: str, model: str | Path | None) -> None:
    """Refuse an output that would take the place of something else."""
    check_output(output, source, model)
    if source.is_dir() and source.resolve() in output.resolve().parents:
        raise argument_error("OUTPUT", f"'{output}'", f"a place outside of the input '{source}'")
    if is_folder(output, output_format):
        check_folder(output, source, model)
    elif output.exists() and not output.is_file():
        found = "folder" if output.is_dir() else "device or pipe"
        raise FileExistsError(Errors.E953.format(path=output, found=found, expected="file"))


def _check_errors_file(path: Path) -> None:
    """Refuse to replace a file that has the name of our file of errors, but is none."""
    try:
        if path.is_symlink():
            raise ValueError("a symbolic link")
        with path.open("rb") as file:
            line = file.readline()
        if line and not set(json.loads(line)) >= ERROR_KEYS:
            raise ValueError("other lines")
    except FileNotFoundError:
        return
    except (OSError, ValueError, TypeError) as error:
        raise FileExistsError(Errors.E955.format(path=path, found=str(error))) from error
