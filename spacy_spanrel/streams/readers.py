"""Files to rows, in constant memory, from any row on.

A reader yields each row with the position behind it, and begins at any such position: where the
format allows it (text, JSON lines, CSV, JSON lists) that is a byte offset, and nothing is read
twice. What is wrong with one row is a `BadRow`; only a file that cannot be read at all raises.
"""

from __future__ import annotations

import csv
import hashlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal

from spacy.tokens import DocBin
from spacy.vocab import Vocab

from ..annotations.relations import get_orig_id
from ..errors import Errors
from ..reading import Place, argument_error, parse_json, read_text, short
from .pieces import BOM, list_start, split_items, split_lines
from .rows import (
    ID_KEY,
    META_KEY,
    RAW_CHARS,
    TOKENS_KEY,
    BadRow,
    Row,
    parse_row,
    record_id,
    too_long,
)

Unit = Literal["line", "file"]
# Where a row ends: what it means is the format's business; () is the beginning.
Position = tuple[int, ...]
Parsed = tuple[Row | BadRow, Position]

SUFFIXES = {
    ".txt": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".spacy": "spacy",
    ".json": "json",
}
INPUT_FORMATS = ("text", "jsonl", "csv", "parquet", "spacy", "json")
# Their positions begin with a byte offset.
_BY_BYTES = ("text", "jsonl", "csv", "json")
_HEAD = 1 << 16
_PARQUET_ROWS = 1000


@dataclass(frozen=True)
class ReadSettings:
    """How files are read.

    vocab (Vocab): Of the pipeline, for Docs.
    text_key (str): Key or column of the text.
    unit ("line" | "file"): Of plain text.
    delimiter (str | None): Of CSV; None for a tab in .tsv and a comma elsewhere.
    max_bytes (int): A row of more bytes is not kept in memory, and fails.
    """

    vocab: Vocab
    text_key: str = "text"
    unit: Unit = "line"
    delimiter: str | None = None
    max_bytes: int = 1 << 26


@dataclass(frozen=True)
class Source:
    """All files of an input, read one after the other.

    path (Path): What was given: a file or a folder.
    format (str): One of INPUT_FORMATS.
    files (list[Path]): The files, in order.
    """

    path: Path
    format: str
    files: list[Path]

    def read(self, start: Position, settings: ReadSettings) -> Iterator[Parsed]:
        """Yield rows, each with the position behind it.

        start (Position): Such a position, or () for the beginning.
        settings (ReadSettings): How to read.
        RAISES (ConversionError): If a file cannot be read.
        """
        first, inner = (start[0], start[1:]) if start else (0, ())
        for number, path in enumerate(self.files[first:], start=first):
            for row, position in READERS[self.format](path, inner, settings):
                if self.format == "text" and settings.unit == "file" and isinstance(row, Row):
                    name = self.name(path)
                    place = replace(row.place, id=name)
                    row = replace(row, place=place, own={ID_KEY: name})
                yield row, (number, *position)
            inner = ()

    def name(self, path: Path) -> str:
        """Return the name of one of the files inside the input."""
        return path.name if path == self.path else path.relative_to(self.path).as_posix()

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells this input from another: names, sizes and times of the files, and the
        beginning of the first."""
        digest = hashlib.blake2b(digest_size=16)
        total = 0
        for path in self.files:
            stat = path.stat()
            total += stat.st_size
            digest.update(f"{self.name(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
        with self.files[0].open("rb") as file:
            digest.update(file.read(_HEAD))
        return {"files": len(self.files), "bytes": total, "digest": digest.hexdigest()}

    def progress(self, unit: Unit) -> tuple[str, int | None, Callable[[Position, int], int]]:
        """Return what a progress bar shows: a unit, how many there are, and a function of position
        and number of rows that says how many are done."""
        if self.format in _BY_BYTES and not (self.format == "text" and unit == "file"):
            before = [0]
            for path in self.files:
                before.append(before[-1] + path.stat().st_size)
            return (
                "B",
                before[-1],
                lambda position, _: before[position[0]] + position[1] if position else 0,
            )
        return " rows", len(self.files) if self.format == "text" else None, lambda _, rows: rows


def find_source(path: Path, input_format: str | None) -> Source:
    """Find the files of an input.

    path (Path): A file, or a folder: then all files of the format in it, subfolders included, in
        the order of their names; hidden ones are left out.
    input_format (str | None): One of INPUT_FORMATS; None to tell by the suffix.
    RETURNS (Source): The files.
    RAISES (ConversionError): If there is nothing to read, or the format is not known.
    """
    if input_format is not None and input_format not in INPUT_FORMATS:
        raise argument_error(
            "--input-format",
            found=repr(input_format),
            expected="one of " + ", ".join(INPUT_FORMATS),
        )
    if path.is_dir():
        files = [
            file
            for file in sorted(path.rglob("*"))
            if file.is_file() and not _hidden(file.relative_to(path))
        ]
        known = sorted({SUFFIXES[file.suffix] for file in files if file.suffix in SUFFIXES})
        if input_format is None and len(known) != 1:
            raise argument_error(
                "INPUT",
                found=f"the folder '{path}' with files of {len(known)} known formats "
                f"({', '.join(known) or 'none'})",
                expected="files of one format, or --input-format",
            )
        chosen = input_format or known[0]
        files = [file for file in files if SUFFIXES.get(file.suffix) == chosen]
        if not files:
            raise argument_error(
                "INPUT",
                found=f"the folder '{path}' without {chosen!r} files",
                expected="file names that end in "
                + ", ".join(suffix for suffix, name in SUFFIXES.items() if name == chosen),
            )
        return Source(path, chosen, files)
    if not path.is_file():
        raise Place(str(path)).error(Errors.E601, found="no such file", expected="a file or folder")
    chosen = input_format or SUFFIXES.get(path.suffix, "")
    if not chosen:
        raise argument_error(
            "INPUT",
            found=f"'{path}'",
            expected=f"a name that ends in {', '.join(SUFFIXES)}, or --input-format",
        )
    return Source(path, chosen, [path])


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _decode(data: bytes, place: Place) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise place.error(
            Errors.E602,
            found=f"byte 0x{data[error.start]:02x} at offset {error.start} ({error.reason})",
            expected="UTF-8",
        ) from error


def _too_big(place: Place, data: bytes, max_bytes: int) -> BadRow:
    # The beginning is enough for the report, and the row may be as large as memory.
    error = too_long(place, f"more than {max_bytes} bytes", f"{max_bytes} (see --max-chars)")
    return BadRow.of(place, data[: 4 * RAW_CHARS + 4], error)


# Plain text and JSON lines: positions are (byte offset, lines)


def _read_lines(
    path: Path,
    start: Position,
    settings: ReadSettings,
    parse: Callable[[str, Place, int, bytes], Row | BadRow],
) -> Iterator[Parsed]:
    offset, lines = start or (0, 0)
    with path.open("rb") as file:
        for number, piece in enumerate(
            split_lines(file, offset, settings.max_bytes), start=lines + 1
        ):
            place = Place(str(path), f"line {number}")
            row: Row | BadRow
            if not piece.whole:
                row = _too_big(place, piece.data, settings.max_bytes)
            else:
                try:
                    line = _decode(piece.data, place).removesuffix("\n").removesuffix("\r")
                    if not line.strip():
                        continue
                    row = parse(line, place, number, piece.data)
                except ValueError as error:
                    row = BadRow.of(place, piece.data, error)
            yield row, (piece.end, number)


def read_texts(path: Path, start: Position, settings: ReadSettings) -> Iterator[Parsed]:
    """Read plain text: one text a line (blank lines are none), or the whole file is one."""
    if settings.unit == "line":
        yield from _read_lines(
            path,
            start,
            settings,
            lambda line, place, number, raw: Row(place, text=line, raw=raw),
        )
    elif not start:
        yield _read_whole(path, settings.max_bytes), (1,)


def _read_whole(path: Path, max_bytes: int) -> Row | BadRow:
    place = Place(str(path))
    try:
        if path.stat().st_size > max_bytes:
            with path.open("rb") as file:
                return _too_big(place, file.read(4 * RAW_CHARS), max_bytes)
        text = read_text(path)
    except (OSError, ValueError) as error:
        return BadRow.of(place, "", error)
    return Row(place, text=text, raw=text)


def read_jsonl(path: Path, start: Position, settings: ReadSettings) -> Iterator[Parsed]:
    """Read JSON lines. Sample: ``{"id": 7, "text": "Ada was born in Oslo.", "year": 1901}``

    Each line is an object with a text or with "tokens", and perhaps "id" and "questions"; a text
    alone and a list of tokens alone will do as well.
    """

    def parse(line: str, place: Place, number: int, raw: bytes) -> Row | BadRow:
        value = parse_json(line, Place(place.file), number)
        return parse_row(value, place, settings.text_key, raw)

    yield from _read_lines(path, start, settings, parse)


# CSV: positions are (byte offset, lines)


class _CsvLines:
    """The lines of a file for `csv.reader`, which takes no more of them than a record has."""

    def __init__(self, file: BinaryIO, offset: int, lines: int, max_bytes: int):
        self.pieces = split_lines(file, offset, max_bytes)
        self.end = offset
        self.lines = lines
        self.max_bytes = max_bytes
        self.begin_record()

    def begin_record(self) -> None:
        self.first = self.lines + 1
        self.raw = b""
        self.size = 0

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        piece = next(self.pieces)
        self.size += piece.end - self.end
        self.end = piece.end
        self.lines += 1
        if len(self.raw) < 4 * RAW_CHARS:
            self.raw += piece.data[: 4 * RAW_CHARS + 4]
        if not piece.whole or self.size > self.max_bytes:
            # A quote without its end would take in the rest of the file.
            raise OverflowError
        return piece.data.decode("utf-8", "surrogateescape")


def read_csv(path: Path, start: Position, settings: ReadSettings) -> Iterator[Parsed]:
    """Read CSV with a header; all values are strings. Quoted fields may have line ends in them."""
    delimiter = settings.delimiter or ("\t" if path.suffix == ".tsv" else ",")
    # The limit is the process's; other code gets its own back.
    limit = csv.field_size_limit(sys.maxsize)
    try:
        with path.open("rb") as file:
            header_lines = _CsvLines(file, 0, 0, settings.max_bytes)
            header = _csv_header(path, header_lines, delimiter, settings.text_key)
            if header is None:
                return
            offset, number = start or (header_lines.end, header_lines.lines)
            lines = _CsvLines(file, offset, number, settings.max_bytes)
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
            while True:
                lines.begin_record()
                place = Place(str(path), f"line {lines.first}")
                row: Row | BadRow
                try:
                    fields = next(reader)
                    if not fields:
                        continue
                    row = _csv_row(fields, header, place, settings.text_key, lines.raw)
                except StopIteration:
                    return
                except OverflowError:
                    row = _too_big(place, lines.raw, settings.max_bytes)
                except csv.Error as error:
                    row = BadRow.of(
                        place,
                        lines.raw,
                        place.error(
                            Errors.E610,
                            found=f"{short(lines.raw.decode('utf-8', 'replace'))} ({error})",
                            expected="a CSV record, quotes in pairs",
                        ),
                    )
                yield row, (lines.end, lines.lines)
    finally:
        csv.field_size_limit(limit)


def _csv_header(path: Path, lines: _CsvLines, delimiter: str, text_key: str) -> list[str] | None:
    """Read the header. RETURNS (list[str] | None): The columns; None if the file is empty."""
    place = Place(str(path), "line 1")
    try:
        header = next(csv.reader(lines, delimiter=delimiter, strict=True), None)
    except (csv.Error, OverflowError) as error:
        raise place.error(
            Errors.E610, found=str(error) or "a very long line", expected="a CSV header"
        ) from error
    if header is None:
        return None
    if text_key not in header or len(set(header)) < len(header):
        raise place.error(
            Errors.E605,
            found="the columns " + ", ".join(map(repr, header)),
            expected=f"different columns, one of them {text_key!r} (see --text-key, --delimiter)",
        )
    return header


def _csv_row(
    fields: list[str], header: list[str], place: Place, text_key: str, raw: bytes
) -> Row | BadRow:
    try:
        if len(fields) != len(header):
            raise place.error(
                Errors.E610,
                found=f"{len(fields)} fields",
                expected=f"{len(header)}, as in the header",
            )
        own = dict(zip(header, fields, strict=True))
        place = Place(place.file, place.name, record_id(own.get(ID_KEY)))
        for value in fields:
            # What is not UTF-8 was decoded to lone surrogates.
            _decode(value.encode("utf-8", "surrogateescape"), place)
        return Row(place, text=own.pop(text_key), own=own, raw=raw)
    except ValueError as error:
        return BadRow.of(place, raw, error)


# JSON lists: positions are (byte offset, items, whether the list has ended)


def read_json_list(path: Path, start: Position, settings: ReadSettings) -> Iterator[Parsed]:
    """Read a JSON list, as SpERT's program takes it for prediction.

    Sample: ``["Ada was born in Oslo.", ["Ada", "sings", "."], {"tokens": ["She", "sings", "."]}]``

    The items may be mixed. The list is cut into items without being parsed as a whole, so that it
    need not fit into memory, and one wrong item is one failed row.
    """
    place = Place(str(path))
    with path.open("rb") as file:
        if start:
            offset, number, closed = start
        else:
            first = list_start(file)
            if first is None:
                file.seek(0)
                head = file.read(30).removeprefix(BOM).decode("utf-8", "replace")
                raise place.error(
                    Errors.E604,
                    found=short(head),
                    expected="a list [...] at the top (for JSON lines: --input-format jsonl)",
                )
            offset, number, closed = first, 0, 0
        for piece in split_items(file, offset, settings.max_bytes, closed=bool(closed)):
            at = place.at(f"record {number}")
            row: Row | BadRow
            if not piece.whole:
                row = _too_big(at, piece.data, settings.max_bytes)
            else:
                try:
                    if piece.problem:
                        raise at.error(
                            Errors.E603,
                            found=piece.problem,
                            expected="a list that ends with the file",
                        )
                    value = parse_json(_decode(piece.data, at), at)
                    row = parse_row(value, at, settings.text_key, piece.data)
                except ValueError as error:
                    row = BadRow.of(at, piece.data, error)
            number += 1
            yield row, (piece.end, number, int(piece.closed))


# Parquet and DocBin: positions are (rows,)


def import_parquet() -> Any:
    """Return the module `pyarrow.parquet`. RAISES (ImportError): If pyarrow is not installed."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(Errors.E926) from error
    return pyarrow.parquet


def read_parquet(path: Path, start: Position, settings: ReadSettings) -> Iterator[Parsed]:
    """Read Parquet in batches, row group by row group; columns as the keys of JSON lines."""
    parquet = import_parquet()
    place = Place(str(path))
    (done,) = start or (0,)
    try:
        table = parquet.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise place.error(Errors.E601, found=str(error), expected="a Parquet file") from error
    with table:
        columns = table.schema_arrow.names
        if settings.text_key not in columns and TOKENS_KEY not in columns:
            raise place.error(
                Errors.E605,
                found="the columns " + (", ".join(map(repr, columns)) or "(none)"),
                expected=f"the column {settings.text_key!r} (see --text-key) or {TOKENS_KEY!r}",
            )
        first = 0
        for group in range(table.num_row_groups):
            number = first
            first += table.metadata.row_group(group).num_rows
            if first <= done:
                continue
            for batch in table.iter_batches(batch_size=_PARQUET_ROWS, row_groups=[group]):
                skip = min(max(0, done - number), batch.num_rows)
                values = batch.slice(skip).to_pylist()
                for i, value in enumerate(values, start=number + skip):
                    row = parse_row(value, place.at(f"row {i}"), settings.text_key, value)
                    yield row, (i + 1,)
                number += batch.num_rows


def read_doc_bin(path: Path, start: Position, settings: ReadSettings) -> Iterator[Parsed]:
    """Read a `.spacy` file. It can only be loaded as a whole; a folder of shards needs less memory.

    The Docs are taken as they are, with everything that is annotated on them.
    """
    place = Place(str(path))
    (done,) = start or (0,)
    try:
        docs = DocBin().from_disk(path).get_docs(settings.vocab)
    except Exception as error:  # whatever unpacking other bytes leads to
        raise place.error(
            Errors.E601,
            found=f"{type(error).__name__}: {error}",
            expected="a file of Docs, as DocBin.to_disk writes it",
        ) from error
    for number, doc in enumerate(islice(docs, done, None), start=done):
        meta = doc.user_data.get(META_KEY)
        own = dict(meta) if isinstance(meta, dict) else {}
        orig_id = get_orig_id(doc)
        if orig_id is not None:
            own.setdefault(ID_KEY, orig_id)
        name = record_id(own.get(ID_KEY))
        yield Row(Place(str(path), f"Doc {number}", name), own, doc=doc, raw=doc), (number + 1,)


READERS: dict[str, Callable[[Path, Position, ReadSettings], Iterator[Parsed]]] = {
    "text": read_texts,
    "jsonl": read_jsonl,
    "csv": read_csv,
    "parquet": read_parquet,
    "spacy": read_doc_bin,
    "json": read_json_list,
}
