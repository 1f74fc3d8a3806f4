"""Read the rows of files, in constant memory.

The readers yield rows in an order that depends on the files alone, so a run that is resumed reads the
same rows again and skips those that are done: reading is thousands of times faster than a network.
A row that is wrong becomes a `BadRow`; only a file that cannot be read at all raises.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from spacy.vocab import Vocab

from ..annotations.relations import ID_KEY, META_KEY, get_orig_id
from ..errors import Errors
from ..reading import (
    ConversionError,
    Place,
    decode,
    parse_json,
    short,
    split_lines,
)
from ..training.corpus import unpack_docs
from .inputs import InputFile, find_files
from .rows import (
    RAW_BYTES,
    TOKENS_KEY,
    BadRow,
    Row,
    parse_row,
    record_id,
    too_long,
)
from .schema import column_values, import_pyarrow

Unit = Literal["line", "file"]

# Formats that are read from the first byte to the last: how far tells how much is done.
_SEQUENTIAL = ("text", "jsonl", "csv", "json")
_BLOCK = 1 << 16
# Storage and decompression fail in these ways.
_UNREADABLE = (OSError, EOFError, zlib.error)
# Parquet is decoded in batches of so many rows, or fewer so that they have about so many bytes.
_PARQUET_ROWS = 1000
_PARQUET_BYTES = 1 << 23


@dataclass(frozen=True)
class ReadSettings:
    """How files are read.

    vocab (Vocab): Vocabulary of the pipeline, for Docs.
    text_key (str): Key or column of the text.
    unit ("line" | "file"): One text of plain text files.
    delimiter (str | None): Delimiter of CSV; None for a tab in .tsv and a comma elsewhere.
    max_bytes (int): A row of more bytes fails, and is not kept in memory.
    """

    vocab: Vocab
    text_key: str = "text"
    unit: Unit = "line"
    delimiter: str | None = None
    max_bytes: int = 1 << 26


@dataclass
class Source:
    """All files of an input, read one after the other.

    format (str): One of INPUT_FORMATS.
    files (list[InputFile]): The files, in order.
    """

    format: str
    files: list[InputFile]
    _read_before: int = field(default=0, init=False)
    _file: BinaryIO | None = field(default=None, init=False)

    def read(self, settings: ReadSettings) -> Iterator[Row | BadRow]:
        """Yield the rows of all files.

        settings (ReadSettings): How to read.
        YIELDS (Row | BadRow): The rows.
        RAISES (ConversionError): If a file cannot be read.
        """
        self._read_before = 0
        for file in self.files:
            if self.format == "text" and settings.unit == "file":
                yield _read_whole(file, settings.max_bytes)
            else:
                try:
                    with file.open() as (self._file, data):
                        yield from _READERS[self.format](file, data, settings)
                except _UNREADABLE as error:
                    raise _unreadable(file, error) from error
                finally:
                    self._file = None
            self._read_before += file.size

    def fingerprint(self) -> dict[str, Any]:
        """Return data that tells this input from another: numbers of files and bytes, and a digest of
        names, sizes and times of the files and of the beginning of the first."""
        digest = hashlib.blake2b(digest_size=16)
        for file in self.files:
            digest.update(f"{file.shown_name}\0{file.size}\0{file.stamp}\0".encode())
        try:
            with self.files[0].open() as (raw, _):
                digest.update(raw.read(_BLOCK))
        except _UNREADABLE as error:
            raise _unreadable(self.files[0], error) from error
        total = sum(file.size for file in self.files)
        return {"files": len(self.files), "bytes": total, "digest": digest.hexdigest()}

    @property
    def size(self) -> int | None:
        """How many bytes there are to read; None if bytes do not tell how much is done."""
        if self.format not in _SEQUENTIAL:
            return None
        return sum(file.size for file in self.files)

    @property
    def bytes_read(self) -> int:
        """How many bytes have been read, in round figures."""
        return self._read_before + (0 if self._file is None else self._file.tell())


def find_source(source: str | Path, input_format: str | None) -> Source:
    """Find the files of an input; arguments and errors as of `find_files`.

    RETURNS (Source): The files.
    """
    return Source(*find_files(source, input_format))


def _unreadable(file: InputFile, error: Exception) -> ConversionError:
    found = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return Place(file.path).error(Errors.E601, found=found, expected="a readable file")


def _too_big(place: Place, beginning: Any, max_bytes: int) -> BadRow:
    error = too_long(place, f"more than {max_bytes} bytes", f"{max_bytes} (see --max-chars)")
    return BadRow.of(place, beginning, error)


# Plain text and JSON lines


def _read_lines(
    file: InputFile,
    data: BinaryIO,
    settings: ReadSettings,
    parse: Callable[[str, Place, bytes], Row | BadRow],
) -> Iterator[Row | BadRow]:
    for number, (content, whole) in enumerate(split_lines(data, settings.max_bytes), start=1):
        place = Place(file.path, f"line {number}")
        raw = content[:RAW_BYTES]
        if not whole:
            yield _too_big(place, raw, settings.max_bytes)
            continue
        try:
            line = decode(content, place).removesuffix("\n").removesuffix("\r")
            if not line.strip():
                continue
            row = parse(line, place, raw)
        except ValueError as error:
            row = BadRow.of(place, raw, error)
        yield row


def _read_texts(file: InputFile, data: BinaryIO, settings: ReadSettings) -> Iterator[Row | BadRow]:
    """Read plain text, one text a line; blank lines are left out."""
    return _read_lines(
        file, data, settings, lambda line, place, raw: Row(place, text=line, raw=raw)
    )


def _read_whole(file: InputFile, max_bytes: int) -> Row | BadRow:
    """Read a file that is one text; its name is its id."""
    name = file.shown_name
    place = Place(file.path, id=name)
    try:
        with file.open() as (_, content):
            data = content.read(max_bytes + 1)
        if len(data) > max_bytes:
            return _too_big(place, data[:RAW_BYTES], max_bytes)
        text = decode(data, place).removeprefix("\ufeff")
    except _UNREADABLE as error:
        return BadRow.of(place, "", _unreadable(file, error))
    except ValueError as error:
        return BadRow.of(place, "", error)
    return Row(place, {ID_KEY: name}, text=text, raw=text)


def _read_jsonl(file: InputFile, data: BinaryIO, settings: ReadSettings) -> Iterator[Row | BadRow]:
    """Read JSON lines. Sample: ``{"id": 7, "text": "Ada was born in Oslo.", "year": 1901}``

    Each line is an object with a text or "tokens", and perhaps "id" and "questions"; a text alone or
    a list of tokens alone is a row as well.
    """

    def parse(line: str, place: Place, raw: bytes) -> Row | BadRow:
        number = int(place.name.removeprefix("line "))
        return parse_row(parse_json(line, Place(place.file), number), place, settings.text_key, raw)

    return _read_lines(file, data, settings, parse)


# CSV


class _CsvLines:
    """The lines of a file for `csv.reader`, with a limit to what one record takes.

    first, last (int): Numbers of the record's first line and of the last line read.
    raw (bytes): The beginning of the record.
    """

    def __init__(self, file: BinaryIO, max_bytes: int):
        self._lines = split_lines(file, max_bytes)
        self._max_bytes = max_bytes
        self.last = 0
        self.begin_record()

    def begin_record(self) -> None:
        self.first = self.last + 1
        self.raw = b""
        self._size = 0

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        data, whole = next(self._lines)
        self.last += 1
        self._size += len(data)
        self.raw += data[: RAW_BYTES - len(self.raw)]
        if not whole or self._size > self._max_bytes:
            # A quote that is never closed would take in the rest of the file.
            raise OverflowError
        return data.decode("utf-8", "surrogateescape")


def _read_csv(file: InputFile, data: BinaryIO, settings: ReadSettings) -> Iterator[Row | BadRow]:
    """Read CSV with a header. All values are strings; quoted fields may contain line ends."""
    delimiter = settings.delimiter or ("\t" if file.suffix == ".tsv" else ",")
    # The limit belongs to the process: other code gets its own back.
    limit = csv.field_size_limit(sys.maxsize)
    try:
        lines = _CsvLines(data, settings.max_bytes)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        header = _csv_header(file, reader, settings.text_key)
        while True:
            lines.begin_record()
            place = Place(file.path, f"line {lines.first}")
            try:
                fields = next(reader)
            except StopIteration:
                return
            except OverflowError:
                yield _too_big(place, lines.raw, settings.max_bytes)
            except csv.Error as error:
                wrong = place.error(
                    Errors.E610,
                    found=f"{short(lines.raw.decode('utf-8', 'replace'))} ({error})",
                    expected="a CSV record, quotes in pairs",
                )
                yield BadRow.of(place, lines.raw, wrong)
            else:
                if fields:
                    yield _csv_row(fields, header, place, settings.text_key, lines.raw)
    finally:
        csv.field_size_limit(limit)


def _csv_header(file: InputFile, reader: Iterator[list[str]], text_key: str) -> list[str]:
    """Read the names of the columns; none in an empty file."""
    place = Place(file.path, "line 1")
    try:
        header = next(reader, None)
    except (csv.Error, OverflowError) as error:
        raise place.error(
            Errors.E610, found=str(error) or "a very long line", expected="a CSV header"
        ) from error
    if header is None:
        return []
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
        extra = dict(zip(header, fields, strict=True))
        place = Place(place.file, place.name, record_id(extra.get(ID_KEY)))
        for value in fields:
            # Bytes that are not UTF-8 were decoded to lone surrogates.
            decode(value.encode("utf-8", "surrogateescape"), place)
        return Row(place, text=extra.pop(text_key), extra=extra, raw=raw)
    except ValueError as error:
        return BadRow.of(place, raw, error)


# JSON lists


class _JsonText:
    """JSON text of which no more than one value is held in memory."""

    _decoder = json.JSONDecoder()
    _space = re.compile(r"[ \t\r\n]*")

    def __init__(self, file: BinaryIO, max_chars: int):
        # Bytes that are not UTF-8 become lone surrogates, to be named with their row.
        self._stream = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
        self._max_chars = max_chars
        self._text = ""
        self._at = 0

    def _read_more(self) -> bool:
        # As much again as there is, so that a long value is not parsed over and over.
        block = self._stream.read(max(_BLOCK, len(self._text) - self._at))
        if block:
            self._text, self._at = self._text[self._at :] + block, 0
        return bool(block)

    def peek(self) -> str:
        """Return the next character that is not white space; "" at the end of the file."""
        while True:
            match = self._space.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text) or not self._read_more():
                return self._text[self._at : self._at + 1]

    def take(self, char: str) -> bool:
        """Pass over a character, if it is the next one. RETURNS (bool): Whether it was."""
        taken = self.peek() == char
        self._at += taken
        return taken

    def value(self) -> tuple[Any, str]:
        """Parse the next value. RETURNS (tuple[Any, str]): The value, and its text."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                # Near the end of the text, the value may only be cut off.
                unfinished = error.msg.startswith("Unterminated") or (
                    error.pos + len("-Infinity") >= len(self._text)
                )
                if len(self._text) - self._at > self._max_chars:
                    raise OverflowError from error
                if not unfinished or not self._read_more():
                    raise
            else:
                # A number at the end may go on.
                if end < len(self._text) or not self._read_more():
                    text, self._at = self._text[self._at : end], end
                    return value, text

    def context(self, error: Exception | None = None) -> str:
        """Describe the place of an error, or where we are, for a message."""
        pos = error.pos if isinstance(error, json.JSONDecodeError) else self._at
        text = short(self._text[pos : pos + 30]) if pos < len(self._text) else "the end of the file"
        return text if error is None else f"{text} ({getattr(error, 'msg', error)})"


def _read_json_list(
    file: InputFile, data: BinaryIO, settings: ReadSettings
) -> Iterator[Row | BadRow]:
    """Read a JSON list, in the form that SpERT's program takes for prediction.

    Sample: ``["Ada was born in Oslo.", ["Ada", "sings", "."], {"tokens": ["She", "sings", "."]}]``

    The items may be mixed. They are parsed one by one, so the list need not fit into memory. Broken
    JSON cannot be passed over: the rest of the file is then one failed row.
    """
    place = Place(file.path)
    text = _JsonText(data, settings.max_bytes)
    if not text.take("["):
        raise place.error(
            Errors.E604,
            found=text.context(),
            expected="a list [...] at the top (for JSON lines: --input-format jsonl)",
        )
    number = 0
    closed = text.take("]")
    while not closed:
        at = place.at(f"record {number}")
        try:
            value, raw = text.value()
        except OverflowError:
            yield _too_big(at, "", settings.max_bytes)
            return
        except (ValueError, RecursionError) as error:
            yield _broken(at, text.context(error), "valid JSON")
            return
        try:
            if not raw.isascii():
                decode(raw.encode("utf-8", "surrogateescape"), at)
            yield parse_row(value, at, settings.text_key, raw[:RAW_BYTES])
        except ValueError as error:
            yield BadRow.of(at, raw[:RAW_BYTES], error)
        number += 1
        closed = text.take("]")
        if not closed and not text.take(","):
            yield _broken(place.at(f"record {number}"), text.context(), "',' or ']'")
            return
    if text.peek():
        yield _broken(
            place.at(f"record {number}"), text.context(), "the end of the file behind the list"
        )


def _broken(place: Place, found: str, expected: str) -> BadRow:
    error = place.error(
        Errors.E603, found=found, expected=f"{expected}; nothing behind it was read"
    )
    return BadRow.of(place, found, error)


# Parquet and Docs


def _read_parquet(
    file: InputFile, data: BinaryIO, settings: ReadSettings
) -> Iterator[Row | BadRow]:
    """Read Parquet in batches; columns are the keys of JSON lines."""
    pyarrow = import_pyarrow()
    place = Place(file.path)
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(data) as table:
            columns = table.schema_arrow.names
            if settings.text_key not in columns and TOKENS_KEY not in columns:
                raise place.error(
                    Errors.E605,
                    found="the columns " + (", ".join(map(repr, columns)) or "(none)"),
                    expected=f"the column {settings.text_key!r} (see --text-key) or {TOKENS_KEY!r}",
                )
            for group in range(table.num_row_groups):
                meta = table.metadata.row_group(group)
                row_bytes = max(1, meta.total_byte_size // max(1, meta.num_rows))
                n_rows = min(_PARQUET_ROWS, max(1, _PARQUET_BYTES // row_bytes))
                for batch in table.iter_batches(batch_size=n_rows, row_groups=[group]):
                    cells = [
                        column_values(column, place.at(f"column {name!r}"))
                        for name, column in zip(columns, batch.columns, strict=True)
                    ]
                    for values in zip(*cells, strict=True):
                        value = dict(zip(columns, values, strict=True))
                        yield parse_row(value, place.at(f"row {number}"), settings.text_key, value)
                        number += 1
    except (OSError, pyarrow.ArrowException) as error:
        raise place.error(Errors.E601, found=str(error), expected="a Parquet file") from error


def _read_doc_bin(
    file: InputFile, data: BinaryIO, settings: ReadSettings
) -> Iterator[Row | BadRow]:
    """Read a `.spacy` file. It can only be loaded as a whole; a folder of shards needs less memory.

    The Docs are taken as they are, with everything that is annotated on them.
    """
    for number, doc in enumerate(unpack_docs(data.read(), file.path, settings.vocab)):
        meta = doc.user_data.get(META_KEY)
        extra = dict(meta) if isinstance(meta, dict) else {}
        orig_id = get_orig_id(doc)
        if orig_id is not None:
            extra.setdefault(ID_KEY, orig_id)
        place = Place(file.path, f"Doc {number}", record_id(extra.get(ID_KEY)))
        yield Row(place, extra, doc=doc, raw=doc)


_READERS: dict[str, Callable[[InputFile, BinaryIO, ReadSettings], Iterator[Row | BadRow]]] = {
    "text": _read_texts,
    "jsonl": _read_jsonl,
    "csv": _read_csv,
    "parquet": _read_parquet,
    "spacy": _read_doc_bin,
    "json": _read_json_list,
}
