"""The output, written so that a kill at any moment loses and doubles nothing.

All of them write under other names first: OUTPUT.part, and OUTPUT.parts where there are parts to be
put together. OUTPUT is there when it is complete, and an old one stays till then.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from spacy.tokens import Doc, DocBin

from ..annotations import ENTITIES_KEY
from ..annotations.relations import ORIG_ID_ATTR
from ..errors import Errors
from ..reading import argument_error
from .progress import AppendFile, beside, sync_folder, write_durably
from .readers import import_parquet
from .records import dump_json, make_record, plain
from .rows import META_KEY, Row

SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".spacy": "spacy"}
OUTPUT_FORMATS = ("jsonl", "parquet", "spacy")
# A single `.spacy` file is put together in memory, and whoever reads it holds it whole: at this size
# that takes about a gigabyte and a half.
MAX_TOKENS_IN_FILE = 10_000_000
# Of the merged Parquet file: a row group has at least so many rows, or bytes.
_GROUP_ROWS = 20_000
_GROUP_BYTES = 1 << 26
_PART = re.compile(r"\d{6,}\.\w+")


class Writer(Protocol):
    """Takes rows chunk by chunk."""

    output: Path

    def start(self, state: dict[str, int]) -> None:
        """Begin, or go on behind what is committed. state: What `commit` returned, or {}."""

    def render(self, number: int, row: Row, doc: Doc, found: dict[str, Any]) -> Any:
        """Return all that is to be written of a row; what this raises is the row's own failure.

        number (int): The row, from 1.
        row (Row): What was read.
        doc (Doc): The annotated Doc.
        found (dict[str, Any]): Its `results`.
        """

    def commit(self, rows: Sequence[Any]) -> dict[str, int]:
        """Write a chunk, durably. RETURNS (dict[str, int]): How much counts now."""

    def build(self) -> None:
        """Put the whole together, under another name; may be repeated."""

    def publish(self) -> None:
        """Give it its name and clean up; may be repeated."""

    def discard(self) -> None:
        """Leave nothing behind."""

    def close(self) -> None:
        """Close files."""


def make_writer(output: Path, output_format: str | None) -> Writer:
    """Make the writer of a format.

    output (Path): The file, or a folder for shards of Docs.
    output_format (str | None): One of OUTPUT_FORMATS; None to tell by the suffix.
    RETURNS (Writer): The writer; nothing is touched yet.
    RAISES (ConversionError): If the format is not known.
    RAISES (ImportError): If it needs what is not installed.
    """
    chosen = check_output_format(output, output_format)
    if chosen == "jsonl":
        return JsonLinesWriter(output)
    if chosen == "parquet":
        return ParquetWriter(output)
    if output.suffix == ".spacy":
        return DocBinWriter(output)
    return ShardsWriter(output)


def check_output_format(output: Path, output_format: str | None) -> str:
    """Return the format of an output; arguments and errors as in `make_writer`."""
    if output_format is not None and output_format not in OUTPUT_FORMATS:
        raise argument_error(
            "--output-format",
            found=repr(output_format),
            expected="one of " + ", ".join(OUTPUT_FORMATS),
        )
    chosen = output_format or SUFFIXES.get(output.suffix, "")
    if not chosen:
        raise argument_error(
            "OUTPUT",
            found=f"'{output}'",
            expected=f"a name that ends in {', '.join(SUFFIXES)}, or --output-format "
            "(with 'spacy' and no suffix: a folder of shards)",
        )
    return chosen


def is_shard_folder(path: Path) -> bool:
    """Tell whether a folder has nothing but shards in it."""
    return all(_PART.fullmatch(file.name) and file.is_file() for file in path.iterdir())


class JsonLinesWriter:
    """JSON lines: OUTPUT.part grows, and is cut back to what was committed."""

    def __init__(self, output: Path):
        self.output = output
        self._part = AppendFile(beside(output, ".part"))

    def start(self, state: dict[str, int]) -> None:
        self._part.open(state.get("bytes", 0))

    def render(self, number: int, row: Row, doc: Doc, found: dict[str, Any]) -> Any:
        return f"{dump_json(make_record(number, row, found))}\n".encode()

    def commit(self, rows: Sequence[Any]) -> dict[str, int]:
        return {"bytes": self._part.append(b"".join(rows))}

    def build(self) -> None:
        self.close()

    def publish(self) -> None:
        _rename(self._part.path, self.output)

    def discard(self) -> None:
        self.close()
        self._part.path.unlink(missing_ok=True)

    def close(self) -> None:
        self._part.close()


class _PartsWriter:
    """One file a chunk in a folder, each written whole."""

    suffix = ""

    def __init__(self, output: Path):
        self.output = output
        self.folder = beside(output, ".parts")
        self.parts = 0

    def start(self, state: dict[str, int]) -> None:
        self.parts = state.get("parts", 0)
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = {path.name for path in self.paths()}
        for path in self.folder.iterdir():
            if path.name not in kept:
                path.unlink()
        for path in self.paths():
            if not path.exists():
                raise ValueError(Errors.E922.format(path=path, found="nothing", expected="a part"))

    def paths(self) -> list[Path]:
        return [self.folder / f"{number:06d}{self.suffix}" for number in range(self.parts)]

    def commit(self, rows: Sequence[Any]) -> dict[str, int]:
        if rows:
            write_durably(self.folder / f"{self.parts:06d}{self.suffix}", self.to_bytes(rows))
            self.parts += 1
        return {"parts": self.parts}

    def to_bytes(self, rows: Sequence[Any]) -> bytes:
        raise NotImplementedError

    def publish(self) -> None:
        _rename(beside(self.output, ".part"), self.output)
        shutil.rmtree(self.folder, ignore_errors=True)

    def discard(self) -> None:
        beside(self.output, ".part").unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        pass


class ParquetWriter(_PartsWriter):
    """Parquet: a part a chunk, merged at the end by streaming.

    The columns are the same for all inputs: the row's own keys are JSON text in `meta`.
    """

    suffix = ".parquet"

    def __init__(self, output: Path):
        super().__init__(output)
        self._parquet = import_parquet()
        self.schema = parquet_schema()

    def render(self, number: int, row: Row, doc: Doc, found: dict[str, Any]) -> Any:
        meta = dump_json(row.own)
        meta.encode()  # what cannot be stored must fail here, where only the row is lost
        name = row.place.id
        return {
            "row": number,
            "id": None if name is None else str(name),
            **found,
            "meta": meta,
        }

    def to_bytes(self, rows: Sequence[Any]) -> bytes:
        import pyarrow

        sink = pyarrow.BufferOutputStream()
        table = pyarrow.Table.from_pylist(list(rows), schema=self.schema)
        self._parquet.write_table(table, sink, compression="zstd")
        data: bytes = sink.getvalue().to_pybytes()
        return data

    def build(self) -> None:
        import pyarrow

        path = beside(self.output, ".part")
        with self._parquet.ParquetWriter(path, self.schema, compression="zstd") as writer:
            held: list[Any] = []
            for part in self.paths():
                held.append(self._parquet.read_table(part, schema=self.schema))
                if (
                    sum(table.num_rows for table in held) >= _GROUP_ROWS
                    or sum(table.nbytes for table in held) >= _GROUP_BYTES
                ):
                    writer.write_table(pyarrow.concat_tables(held))
                    held = []
            if held:
                writer.write_table(pyarrow.concat_tables(held))
        with path.open("rb") as file:
            os.fsync(file.fileno())


def parquet_schema() -> Any:
    """Return the pyarrow schema of the output."""
    import pyarrow as pa

    tokens = [("start", pa.int32()), ("end", pa.int32())]
    chars = [("start_char", pa.int32()), ("end_char", pa.int32())]
    argument = pa.struct([("text", pa.string()), ("type", pa.string()), *tokens, *chars])
    score = ("score", pa.float64())
    entity = pa.struct([("text", pa.string()), ("label", pa.string()), *tokens, *chars, score])
    relation = pa.struct([("label", pa.string()), score, ("head", argument), ("tail", argument)])
    answer = pa.struct(
        [
            ("id", pa.string()),
            ("question", pa.string()),
            ("text", pa.string()),
            *tokens,
            *chars,
            score,
        ]
    )
    return pa.schema(
        [
            ("row", pa.int64()),
            ("id", pa.string()),
            # A chunk of long texts may have more than the two gigabytes of the smaller type.
            ("text", pa.large_string()),
            ("entities", pa.list_(entity)),
            ("relations", pa.list_(relation)),
            ("answers", pa.list_(answer)),
            ("meta", pa.large_string()),
        ]
    )


class ShardsWriter(_PartsWriter):
    """A folder of `.spacy` files, one a chunk, which spaCy's corpus readers take as one corpus.

    The row's own keys are in `doc.user_data["meta"]`, its id also where `get_orig_id` finds it.
    """

    suffix = ".spacy"

    def render(self, number: int, row: Row, doc: Doc, found: dict[str, Any]) -> Any:
        # Arrays of spacy-transformers, larger than all the rest.
        user_data: dict[Any, Any] = doc.user_data
        user_data.pop(("._.", "trf_data", None, None), None)
        if row.own:
            user_data[META_KEY] = plain(row.own)
        if row.place.id is not None and ENTITIES_KEY in doc.spans:
            doc.spans[ENTITIES_KEY].attrs.setdefault(ORIG_ID_ATTR, row.place.id)
        return DocBin(docs=[doc], store_user_data=True)

    def to_bytes(self, rows: Sequence[Any]) -> bytes:
        first, *others = rows
        for other in others:
            first.merge(other)
        data: bytes = first.to_bytes()
        return data

    def build(self) -> None:
        pass

    def publish(self) -> None:
        old = beside(self.output, ".old")
        if self.folder.exists():
            if self.output.exists():
                os.replace(self.output, old)
            os.replace(self.folder, self.output)
            sync_folder(self.output.parent)
        shutil.rmtree(old, ignore_errors=True)


class DocBinWriter(ShardsWriter):
    """A single `.spacy` file, put together from shards in memory."""

    def __init__(self, output: Path):
        super().__init__(output)
        self.tokens = 0

    def start(self, state: dict[str, int]) -> None:
        super().start(state)
        self.tokens = state.get("tokens", 0)

    def commit(self, rows: Sequence[Any]) -> dict[str, int]:
        self.tokens += sum(len(tokens) for doc_bin in rows for tokens in doc_bin.tokens)
        if self.tokens > MAX_TOKENS_IN_FILE:
            raise ValueError(
                Errors.E927.format(output=self.output, limit=MAX_TOKENS_IN_FILE, folder=self.folder)
            )
        return {**super().commit(rows), "tokens": self.tokens}

    def build(self) -> None:
        whole = DocBin(store_user_data=True)
        for path in self.paths():
            whole.merge(DocBin(store_user_data=True).from_disk(path))
        write_durably(beside(self.output, ".part"), whole.to_bytes())

    def publish(self) -> None:
        _PartsWriter.publish(self)


def _rename(part: Path, output: Path) -> None:
    """Give a file its name; it may have it already."""
    if part.exists():
        os.replace(part, output)
        sync_folder(output.parent)
