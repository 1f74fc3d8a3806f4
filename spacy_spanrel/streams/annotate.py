"""Apply a saved pipeline to a pile of texts.

A chunk of rows is read, annotated, written and committed; then the next. What is committed is in
OUTPUT.progress, written last, so that a run that was killed at any moment goes on behind the last
chunk, and what was written after that is cut off. Chunks are counted from the beginning of the
input, and batches from that of their chunk: where a run was resumed changes nothing in the output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import spacy
from spacy.language import Language
from spacy.tokens import Doc
from tqdm import tqdm

from ..about import __version__
from ..errors import Errors, Warnings, warn
from ..reading import argument_error
from .progress import (
    COMPLETE,
    MERGED,
    WRITING,
    AppendFile,
    Progress,
    beside,
    difference,
    model_fingerprint,
    sync_folder,
)
from .readers import ReadSettings, Source, Unit, find_source, import_parquet
from .records import ResultKeys, results
from .rows import BadRow, Row, make_doc
from .writers import Writer, check_output_format, is_shard_folder, make_writer

CHUNK_SIZE = 1000
PROGRESS_ENDING = ".progress"
ERRORS_ENDING = ".errors.jsonl"
# A chunk of so many rows that all fail is no accident of the texts.
_SUSPICIOUS = 100
# A row of more bytes is not even read: no text of `max_chars` is that long, whatever its spelling.
_MIN_BYTES = 1 << 26
_BYTES_PER_CHAR = 16

Numbered = tuple[int, Row]


@dataclass(frozen=True)
class AnnotationReport:
    """What a run did.

    output (Path): The output, complete.
    errors (Path | None): The file of failed rows, if there are any.
    rows, annotated, failed (int): How many rows were read, and what became of them.
    entities, relations, answers (int): What was found (questions without an answer not counted).
    resumed_at (int): How many rows an earlier run had done.
    first_error (str): What was wrong with the first row that failed in this run.
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
    max_chars: int | None = None,
    max_errors: int | None = None,
    force: bool = False,
    restart: bool = False,
    quiet: bool = True,
) -> AnnotationReport:
    """Apply a pipeline to all texts of an input; called again after a kill, it goes on.

    model (str | Path | Language): The pipeline: its folder, its package's name, or itself.
    source (str | Path): A file or folder; see `readers`.
    output (str | Path): The file, or for shards of Docs the folder, to write; see `records` and
        `writers`. Failed rows go to OUTPUT.errors.jsonl.
    input_format (str | None): One of `INPUT_FORMATS`; None to tell by the suffix.
    output_format (str | None): One of `OUTPUT_FORMATS`; None to tell by the suffix.
    text_key (str): Key or column of the text.
    unit ("line" | "file"): What is a text, in plain text.
    delimiter (str | None): Of CSV; None for a tab in .tsv and a comma elsewhere.
    batch_size (int | None): As in `nlp.pipe`; None for the pipeline's own.
    chunk_size (int): Rows that are committed together; a shard of Docs has as many.
    n_process (int): As in `nlp.pipe`; the processes are started anew for each chunk.
    components (Sequence[str]): Run these only; () for all that the pipeline runs by itself.
    disable (Sequence[str]): Do not run these.
    max_chars (int | None): A longer text is a failed row; None for `nlp.max_length`.
    max_errors (int | None): Stop when more rows than this have failed; None to stop when all rows
        of a chunk (of 100 at least, or the only one) do.
    force (bool): Replace an output that is complete, once the new one is.
    restart (bool): Forget an unfinished run, and replace an output that is complete.
    quiet (bool): Show no progress bar. It is only ever shown on a terminal.
    RETURNS (AnnotationReport): What was done.
    RAISES (ConversionError): If an argument is wrong, or an input cannot be read.
    RAISES (FileExistsError): If the output is complete.
    RAISES (ValueError): If an unfinished run was begun with other input, pipeline or settings, if
        another run is at work, or if too many rows fail. What is committed stays.
    RAISES (ImportError): If a format needs what is not installed.
    """
    path, output = Path(source), Path(output)
    _check_numbers(
        {
            "--batch-size": batch_size,
            "--chunk-size": chunk_size,
            "--max-chars": max_chars,
            "--n-process": None if n_process == -1 else n_process,
        }
    )
    if delimiter is not None and len(delimiter) != 1:
        raise argument_error("--delimiter", repr(delimiter), "one character")
    if unit not in ("line", "file"):
        raise argument_error("--unit", repr(unit), "'line' or 'file'")
    files = find_source(path, input_format)
    output_format = check_output_format(output, output_format)
    _check_output(path, output, output_format)
    writer = make_writer(output, output_format)
    if files.format == "parquet":
        import_parquet()  # before anything is begun
    progress_path = beside(output, PROGRESS_ENDING)
    saved = None if restart else Progress.load(progress_path)
    if output.exists() and not (force or restart or (saved and saved.stage == MERGED)):
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
                "max-chars": chars,
            },
        }
        if saved is not None:
            changed = difference(saved.fingerprint, fingerprint)
            if changed and saved.rows:
                raise ValueError(
                    Errors.E921.format(output=output, rows=saved.rows, changed=changed)
                )
            if changed:
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
            writer=writer,
            errors=AppendFile(beside(output, f"{ERRORS_ENDING}.part")),
            progress_path=progress_path,
            progress=saved or Progress(fingerprint),
            keys=ResultKeys.of(nlp),
            batch_size=batch,
            chunk_size=chunk_size,
            n_process=n_process,
            max_chars=chars,
            max_errors=max_errors,
        )
        output.parent.mkdir(parents=True, exist_ok=True)
        return run(quiet)


@dataclass
class _Run:
    """A run, from where it stands to its end."""

    nlp: Language
    files: Source
    reading: ReadSettings
    writer: Writer
    errors: AppendFile
    progress_path: Path
    progress: Progress
    keys: ResultKeys
    batch_size: int
    chunk_size: int
    n_process: int
    max_chars: int
    max_errors: int | None
    first_error: str = ""
    warned: bool = False

    def __call__(self, quiet: bool) -> AnnotationReport:
        done = self.progress
        resumed_at = done.rows
        with ExitStack() as stack:
            # First of all, because it locks other runs out.
            stack.callback(self.errors.close)
            self.errors.open(
                None if done.stage == MERGED else done.error_bytes, lock_for=self.writer.output
            )
            stack.callback(self.writer.close)
            if done.stage != MERGED:
                self._check_errors()
                self.writer.start(done.output)
            if done.stage == WRITING:
                done.save(self.progress_path)
                self._write_all(quiet)
            if done.stage == COMPLETE:
                self.writer.build()
                done.stage = MERGED
                done.save(self.progress_path)
            self._publish_errors()
            self.writer.publish()
            self.progress_path.unlink()
            sync_folder(self.progress_path.parent)
        return AnnotationReport(
            output=self.writer.output,
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

    @property
    def _errors_path(self) -> Path:
        return beside(self.writer.output, ERRORS_ENDING)

    def _publish_errors(self) -> None:
        """Give the file of errors its name, or leave none; may be repeated."""
        self.errors.close()
        part = self.errors.path
        if part.exists() and part.stat().st_size:
            part.replace(self._errors_path)
        else:
            part.unlink(missing_ok=True)
            if not self.progress.failed:
                self._errors_path.unlink(missing_ok=True)

    # Chunks

    def _write_all(self, quiet: bool) -> None:
        done = self.progress
        rows = self.files.read(tuple(done.position), self.reading)
        unit, total, count = self.files.progress(self.reading.unit)
        with tqdm(
            desc="Input",
            unit=unit,
            unit_scale=unit == "B",
            total=total,
            initial=count(tuple(done.position), done.rows),
            delay=1.0,
            disable=True if quiet else None,
        ) as bar:
            while done.stage == WRITING:
                # Outside of the memory zone: what a DocBin brings along must last.
                chunk = list(islice(rows, self.chunk_size))
                with _memory_zone(self.nlp):
                    rendered, failed = self._annotate([row for row, _ in chunk], done.rows + 1)
                if not rendered:
                    self._check_failures(len(chunk), failed)
                if chunk:
                    done.position = list(chunk[-1][1])
                if len(chunk) < self.chunk_size:
                    done.stage = COMPLETE
                done.rows += len(chunk)
                done.annotated += len(rendered)
                done.failed += len(failed)
                done.output = self.writer.commit([rendered[number] for number in sorted(rendered)])
                lines = [failed[number].to_line(number) for number in sorted(failed)]
                done.error_bytes = self.errors.append(b"".join(lines))
                done.save(self.progress_path)
                bar.update(count(tuple(done.position), done.rows) - bar.n)
                bar.set_postfix(rows=done.rows, failed=done.failed)
                self._check_errors()

    def _annotate(
        self, chunk: list[Row | BadRow], first: int
    ) -> tuple[dict[int, Any], dict[int, BadRow]]:
        """Annotate a chunk. RETURNS (tuple[dict, dict]): What the writer wants of the good rows, and
        the bad ones, by number."""
        rendered: dict[int, Any] = {}
        failed: dict[int, BadRow] = {}
        good: list[Numbered] = []
        for number, row in enumerate(chunk, start=first):
            if isinstance(row, BadRow):
                failed[number] = row
            else:
                good.append((number, row))
        for number, row, doc in self._pipe(good):
            try:
                if isinstance(doc, Exception):
                    raise doc
                found = results(doc, self.keys)
                rendered[number] = self.writer.render(number, row, doc, found)
            except Exception as error:
                failed[number] = BadRow.of(row.place, row.raw, error)
            else:
                self.progress.entities += len(found["entities"])
                self.progress.relations += len(found["relations"])
                self.progress.answers += sum(bool(answer["text"]) for answer in found["answers"])
        if failed and not self.first_error:
            self.first_error = failed[min(failed)].message
        if not self.keys.answers and not self.warned and any(row.questions for _, row in good):
            self.warned = True
            names = ", ".join(self.nlp.pipe_names) or "nothing"
            warn(Warnings.W135.format(names=names))
        return rendered, failed

    def _pipe(self, rows: list[Numbered]) -> Iterator[tuple[int, Row, Doc | Exception]]:
        """Yield each row with its annotated Doc, or with what was raised about it."""
        size = self.batch_size if self.n_process == 1 else self.chunk_size
        batch: list[tuple[int, Row, Doc]] = []
        for number, row in rows:
            try:
                batch.append((number, row, self._make_doc(row)))
            except Exception as error:
                yield number, row, error
                continue
            if len(batch) == size:
                yield from self._pipe_batch(batch, self.n_process)
                batch = []
        if batch:
            yield from self._pipe_batch(batch, self.n_process)

    def _pipe_batch(
        self, batch: list[tuple[int, Row, Doc]], n_process: int
    ) -> Iterator[tuple[int, Row, Doc | Exception]]:
        """Annotate some rows together or, if that fails, fewer and fewer of them."""
        docs: list[Doc] = []
        failure: Exception | None = None
        try:
            docs = list(
                self.nlp.pipe(
                    [doc for _, _, doc in batch], batch_size=self.batch_size, n_process=n_process
                )
            )
        except Exception as error:
            failure = error
        if failure is None and len(docs) == len(batch):
            for (number, row, _), doc in zip(batch, docs, strict=True):
                yield number, row, doc
        elif len(batch) == 1 and n_process == 1:
            ((number, row, _),) = batch
            yield number, row, failure or ValueError(Errors.E928.format(n=len(docs)))
        else:
            size = self.batch_size if len(batch) > self.batch_size or n_process != 1 else 1
            for start in range(0, len(batch), size):
                # New Docs: components may have written on the others.
                again = [
                    (number, row, self._make_doc(row))
                    for number, row, _ in batch[start : start + size]
                ]
                yield from self._pipe_batch(again, 1)

    def _make_doc(self, row: Row) -> Doc:
        return make_doc(row, self.nlp, self.keys.answers, self.max_chars)

    # Failures

    def _check_failures(self, n_rows: int, failed: dict[int, BadRow]) -> None:
        """Stop before a chunk is committed in which every row failed, unless that may be chance."""
        done = self.progress
        last = n_rows < self.chunk_size
        nothing = last and not done.annotated and done.rows + n_rows > 0
        if self.max_errors is not None or not (n_rows >= _SUSPICIOUS or nothing):
            return
        if not done.annotated:
            # So that another attempt, with other settings, finds nothing in its way.
            lines = [failed[number].to_line(number) for number in sorted(failed)]
            self.errors.append(b"".join(lines))
            done.failed += len(failed)
            self._publish_errors()
            self.writer.discard()
            self.progress_path.unlink()
        raise ValueError(
            Errors.E925.format(
                n=n_rows if done.annotated else done.rows + n_rows,
                first=done.rows + 1 if done.annotated else 1,
                kept=f"The {done.rows} rows before are kept, and the same command goes on there"
                if done.annotated
                else f"Nothing was written but {self._errors_path}",
                error=self.first_error or f"see {self._errors_path}",
            )
        )

    def _check_errors(self) -> None:
        if self.max_errors is not None and self.progress.failed > self.max_errors:
            raise ValueError(
                Errors.E924.format(
                    failed=self.progress.failed,
                    limit=self.max_errors,
                    path=self.errors.path,
                    first=self.first_error or "see there",
                )
            )


def _memory_zone(nlp: Language) -> AbstractContextManager[Any]:
    """What new words add to the vocabulary is forgotten with the chunk, from spaCy 3.8 on."""
    zone: AbstractContextManager[Any] = getattr(nlp, "memory_zone", nullcontext)()
    return zone


@contextmanager
def _set_up(
    nlp: Language, components: Sequence[str], disable: Sequence[str], max_chars: int | None
) -> Iterator[None]:
    """Let a pipeline run what it should, and take texts as long as it should, for a while."""
    for option, names in (("--components", components), ("--disable", disable)):
        for name in names:
            if name not in nlp.component_names:
                known = ", ".join(nlp.component_names) or "(none)"
                raise argument_error(option, repr(name), f"one of {known}")
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


def _check_numbers(numbers: dict[str, int | None]) -> None:
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise argument_error(name, str(value), "a whole number of at least 1")


def _check_output(source: Path, output: Path, output_format: str) -> None:
    """Refuse an output that would take the place of something else."""
    inside = source.is_dir() and source.resolve() in output.resolve().parents
    if inside or source.resolve() == output.resolve():
        raise argument_error(
            "OUTPUT", f"'{output}'", f"a place outside of the input '{source}', other than it"
        )
    folder = output_format == "spacy" and output.suffix != ".spacy"
    if output.exists() and output.is_dir() != folder:
        raise argument_error(
            "OUTPUT",
            f"'{output}', which is a {'folder' if output.is_dir() else 'file'}",
            "a folder of shards" if folder else "a file",
        )
    if folder and output.exists() and not is_shard_folder(output):
        raise argument_error("OUTPUT", f"the folder '{output}' with other files", "a new folder")
