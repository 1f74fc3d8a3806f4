"""Write the output so that a kill at any moment loses nothing and doubles nothing.

All writers write into the folder of the unfinished run (`progress.Workplace`). The output gets its name
when it is complete; an old one stays until then.
"""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spacy.tokens import Doc, DocBin
from spacy.vocab import Vocab

from ..annotations import ENTITIES_KEY
from ..annotations.relations import META_KEY, ORIG_ID_ATTR
from ..errors import Errors
from ..files import check_folder, mark_folder, sync_folder, to_json, to_plain, write_whole
from ..reading import argument_error
from .inputs import COMPRESSIONS
from .progress import AppendFile, Workplace
from .records import make_record
from .review import ReviewSettings, review
from .rows import Row
from .schema import import_pyarrow, result_fields
from .storage import Address

SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".spacy": "spacy"}
OUTPUT_FORMATS = ("jsonl", "jsonl.gz", "jsonl.zst", "parquet", "spacy")
# A single `.spacy` file is put together in memory, and whoever reads it holds it whole: at this size
# that takes about a gigabyte and a half.
MAX_TOKENS_IN_FILE = 10_000_000
# A row group of the merged Parquet file has at least so many rows, or bytes.
_GROUP_ROWS = 20_000
_GROUP_BYTES = 1 << 26
# The integers that msgpack, the format of `.spacy` files, can hold.
_MIN_INT, _MAX_INT = -(1 << 63), (1 << 64) - 1


class Writer:
    """Takes rows chunk by chunk, and makes the output from them.

    workplace (Workplace): The folder of the run. Nothing in it is touched before `start`.
    """

    def __init__(self, workplace: Workplace):
        self.workplace = workplace
        self.output = workplace.output
        self.ready = workplace.merged_path  # the output as `build` leaves it

    def start(self, state: dict[str, int]) -> None:
        """Begin, or continue behind what is committed.

        state (dict[str, int]): What the last `commit` returned; {} for the beginning.
        RAISES (ValueError): If less is there than was committed.
        """
        raise NotImplementedError

    @staticmethod
    def render(number: int, row: Row, doc: Doc, results: dict[str, Any]) -> Any:
        """Return all that is to be written of a row. If this raises, the row has failed.

        A function without state, so that worker processes can call it.

        number (int): The number of the row, from 1.
        row (Row): The row as it was read.
        doc (Doc): Its annotated Doc.
        results (dict[str, Any]): The `results` of the Doc.
        """
        raise NotImplementedError

    def commit(self, rows: Sequence[Any]) -> dict[str, int]:
        """Write the rendered rows of a chunk, durably. RETURNS (dict): How much is committed now."""
        raise NotImplementedError

    def build(self) -> None:
        """Put the output together in the folder of the run; can be repeated."""

    @property
    def taken(self) -> bool:
        """Whether there is something where the output is to be."""
        return self.output.exists()

    @property
    def published(self) -> bool:
        """Whether the output that was built has its name already."""
        return not self.ready.exists()

    def publish(self) -> None:
        """Give the output its name, with the permissions of an old one; can be repeated."""
        if isinstance(self.output, Address):
            self.output.write(self.ready)
        elif not self.published:
            if self.output.exists():
                shutil.copymode(self.output, self.ready)
            os.replace(self.ready, self.output)
            sync_folder(self.output.parent)

    def close(self) -> None:
        """Close files."""


def make_writer(
    workplace: Workplace, output_format: str, folder: bool = False, entities: bool = False
) -> Writer:
    """Make the writer of a format.

    workplace (Workplace): The folder of the run.
    output_format (str): One of OUTPUT_FORMATS.
    folder (bool): Whether the output is a folder, see `is_folder`.
    entities (bool): Whether the `results` have relations between entities.
    RETURNS (Writer): The writer; nothing is touched yet.
    RAISES (ImportError): If the format needs a package that is not installed.
    """
    if output_format not in ("parquet", "spacy"):
        return JsonLinesWriter(workplace, compression(output_format))
    if output_format == "parquet":
        return (ParquetFolderWriter if folder else ParquetWriter)(workplace, entities)
    return ShardsWriter(workplace) if folder else DocBinWriter(workplace)


def is_folder(output: str | Path, output_format: str) -> bool:
    """Tell whether an output is a folder of files: of Docs for every name but NAME.spacy, of Parquet
    for a name that ends with a slash."""
    if output_format == "spacy":
        return Path(output).suffix != ".spacy"
    return output_format == "parquet" and ends_with_slash(output)


def ends_with_slash(output: str | Path) -> bool:
    """Tell whether an output is named as a folder: "found/"."""
    return str(output).endswith(("/", os.sep))


def check_output_format(output: str | Path, output_format: str | None) -> str:
    """Return the format of an output.

    output (str | Path): The file or folder.
    output_format (str | None): One of OUTPUT_FORMATS; None to tell by the suffix.
    RETURNS (str): The format.
    RAISES (ConversionError): If the format is not known.
    """
    if output_format is not None and output_format not in OUTPUT_FORMATS:
        raise argument_error(
            "--output-format",
            found=repr(output_format),
            expected="one of " + ", ".join(OUTPUT_FORMATS),
        )
    chosen = output_format or SUFFIXES.get(Path(output).suffix, "")
    if not chosen and compression(output):
        chosen = SUFFIXES.get(Path(output).with_suffix("").suffix, "")
        chosen = chosen if chosen == "jsonl" else ""  # the others are compressed inside
    if not chosen and ends_with_slash(output):
        chosen = "parquet"
    if not chosen:
        raise argument_error(
            "OUTPUT",
            found=f"'{output}'",
            expected=f"a name that ends in {', '.join(SUFFIXES)} (.jsonl perhaps with "
            f"{' or '.join(COMPRESSIONS)} behind it), or --output-format "
            "(with 'spacy' and no suffix: a folder of shards), or a name that ends with '/' for a "
            "folder of Parquet files",
        )
    return chosen


def compression(output: str | Path) -> str:
    """Return the suffix of an output's compression; "" if there is none."""
    suffix = Path(output).suffix
    return suffix if suffix in COMPRESSIONS else ""


def compress(data: bytes, suffix: str) -> bytes:
    """Return data as a gzip member or a Zstandard frame.

    data (bytes): The data; nothing stays nothing.
    suffix (str): The suffix of the compression; "" for none.
    """
    if data and suffix == ".gz":
        return gzip.compress(data, mtime=0)
    if data and suffix == ".zst":
        return bytes(import_pyarrow().compress(data, "zstd", asbytes=True))
    return data


class JsonLinesWriter(Writer):
    """JSON lines: one file that grows, and is cut back to what was committed.

    In a compressed file, the rows of each chunk are a gzip member or a Zstandard frame of their own.
    Programs read several of them as one file.

    workplace (Workplace): The folder of the run.
    compressed (str): The suffix of a compression; "" for the one that the name of the output tells.
    """

    def __init__(self, workplace: Workplace, compressed: str = ""):
        super().__init__(workplace)
        self.ready = workplace.rows_path
        self.compression = compressed or compression(self.output.name)
        if self.compression == ".zst":
            import_pyarrow()
        self._file = AppendFile(self.ready)

    def start(self, state: dict[str, int]) -> None:
        self._file.open(state.get("bytes", 0))

    @staticmethod
    def render(number: int, row: Row, doc: Doc, results: dict[str, Any]) -> Any:
        return f"{to_json(make_record(number, row, results))}\n".encode()

    def commit(self, rows: Sequence[Any]) -> dict[str, int]:
        return {"bytes": self._file.append(compress(b"".join(rows), self.compression))}

    def build(self) -> None:
        self.close()  # Windows renames no open file

    def close(self) -> None:
        self._file.close()


class _PartsWriter(Writer):
    """Writes a file for each chunk, and at the end one file or the folder of them."""

    suffix = ""
    parts = 0

    def start(self, state: dict[str, int]) -> None:
        self.parts = state.get("parts", 0)
        folder = self.workplace.parts_path
        folder.mkdir(exist_ok=True)
        committed = self.paths()
        for path in folder.iterdir():
            if path not in committed:
                path.unlink()
        for path in committed:
            if not path.exists():
                raise ValueError(Errors.E922.format(path=path, found="nothing", expected="a part"))

    def path(self, number: int) -> Path:
        return self.workplace.parts_path / f"{number:06d}{self.suffix}"

    def paths(self) -> list[Path]:
        return [self.path(number) for number in range(self.parts)]

    def commit(self, rows: Sequence[Any]) -> dict[str, int]:
        if rows:
            write_whole(self.path(self.parts), self.to_bytes(rows))
            self.parts += 1
        return {"parts": self.parts}

    def to_bytes(self, rows: Sequence[Any]) -> bytes:
        raise NotImplementedError


class _FolderWriter(_PartsWriter):
    """The output is the folder of the files of all chunks."""

    def __init__(self, *settings: Any):
        super().__init__(*settings)
        self.ready = self.workplace.parts_path

    @property
    def taken(self) -> bool:
        if isinstance(self.output, Path) and self.output.is_dir():
            return any(self.output.iterdir())  # an empty folder may have been made for the output
        return super().taken

    def build(self) -> None:
        mark_folder(self.ready)

    def publish(self) -> None:
        if isinstance(self.output, Address):
            self.output.write_folder(self.ready)
        elif not self.published:
            if self.output.exists():
                check_folder(self.output)  # something may have been put there meanwhile
                old = self.workplace.old_path
                if old.exists():
                    shutil.rmtree(old)
                os.replace(self.output, old)
            os.replace(self.ready, self.output)
            sync_folder(self.output.parent)


class ParquetWriter(_PartsWriter):
    """Parquet: a part for each chunk; at the end they are merged, a row group at a time.

    The columns are the same for all inputs: the other keys of a row are JSON text in `meta`.
    """

    suffix = ".parquet"

    def __init__(self, workplace: Workplace, entities: bool = False):
        super().__init__(workplace)
        self._pa = import_pyarrow()
        self.schema = parquet_schema(entities)

    @staticmethod
    def render(number: int, row: Row, doc: Doc, results: dict[str, Any]) -> Any:
        meta = to_json(row.extra)
        meta.encode()  # text that cannot be stored must fail here, where only its row is lost
        id = None if row.place.id is None else str(row.place.id)
        return {"row": number, "id": id, **results, "meta": meta}

    def to_bytes(self, rows: Sequence[Any]) -> bytes:
        pyarrow = self._pa
        sink = pyarrow.BufferOutputStream()
        table = pyarrow.Table.from_pylist(list(rows), schema=self.schema)
        pyarrow.parquet.write_table(table, sink, compression="zstd")
        data: bytes = sink.getvalue().to_pybytes()
        return data

    def build(self) -> None:
        with self._pa.parquet.ParquetWriter(self.ready, self.schema, compression="zstd") as writer:
            tables: list[Any] = []
            for part in self.paths():
                tables.append(self._pa.parquet.read_table(part, schema=self.schema))
                if (
                    sum(table.num_rows for table in tables) >= _GROUP_ROWS
                    or sum(table.nbytes for table in tables) >= _GROUP_BYTES
                ):
                    writer.write_table(self._pa.concat_tables(tables))
                    tables = []
            if tables:
                writer.write_table(self._pa.concat_tables(tables))
        with self.ready.open("rb") as file:
            os.fsync(file.fileno())


class ParquetFolderWriter(_FolderWriter, ParquetWriter):
    """A folder of Parquet files, one for each chunk, which programs read as one data set."""

    def build(self) -> None:
        if not self.parts:
            write_whole(self.path(0), self.to_bytes([]))  # without a file there are no columns
        super().build()


def parquet_schema(entities: bool = False) -> Any:
    """Return the pyarrow schema of the output; if asked, with relations between entities."""
    pa = import_pyarrow()
    return pa.schema(
        [
            ("row", pa.int64()),
            ("id", pa.string()),
            # A row group of long texts may have more than the two gigabytes of the smaller type.
            ("text", pa.large_string()),
            *result_fields(entities),
            ("meta", pa.large_string()),
        ]
    )


class _DocsWriter(_PartsWriter):
    """Docs: a `.spacy` file for each chunk.

    The other keys of a row are in `doc.user_data["meta"]`; its id is also where `get_orig_id` finds it.
    """

    suffix = ".spacy"

    @staticmethod
    def render(number: int, row: Row, doc: Doc, results: dict[str, Any]) -> Any:
        # The arrays of spacy-transformers are larger than all the rest.
        user_data: dict[Any, Any] = doc.user_data
        user_data.pop(("._.", "trf_data", None, None), None)
        if row.extra:
            user_data[META_KEY] = _storable(to_plain(row.extra))
        if row.place.id is not None and ENTITIES_KEY in doc.spans:
            orig_id = _storable(row.place.id)
            doc.spans[ENTITIES_KEY].attrs.setdefault(ORIG_ID_ATTR, orig_id)
        return DocBin(docs=[doc], store_user_data=True)

    def to_bytes(self, rows: Sequence[Any]) -> bytes:
        first, *others = rows
        for other in others:
            first.merge(other)
        data: bytes = first.to_bytes()
        return data


def _storable(value: Any) -> Any:
    """Return JSON data with integers of more than 64 bits as text, which msgpack can hold."""
    if isinstance(value, dict):
        return {key: _storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, int) and not _MIN_INT <= value <= _MAX_INT:
        return str(value)
    return value


class ShardsWriter(_FolderWriter, _DocsWriter):
    """A folder of `.spacy` files, which spaCy's corpus readers take as one corpus."""


class ReviewWriter(ShardsWriter):
    """A folder of Docs, divided into those to keep and those to correct; see `review`.

    workplace (Workplace): The folder of the run.
    settings (ReviewSettings): The borders.
    keys (Sequence[str]): The span groups of relations.
    """

    def __init__(self, workplace: Workplace, settings: ReviewSettings, keys: Sequence[str]):
        super().__init__(workplace)
        self.ready = workplace.review_path
        self._settings, self._keys = settings, keys

    def build(self) -> None:
        shutil.rmtree(self.ready, ignore_errors=True)
        self.ready.mkdir()
        vocab = Vocab()
        docs = (
            doc
            for path in self.paths()
            for doc in DocBin(store_user_data=True).from_disk(path).get_docs(vocab)
        )
        review(docs, self.ready, self._settings, self._keys)
        mark_folder(self.ready)


class DocBinWriter(_DocsWriter):
    """A single `.spacy` file, put together in memory."""

    tokens = 0

    def start(self, state: dict[str, int]) -> None:
        super().start(state)
        self.tokens = state.get("tokens", 0)

    def commit(self, rows: Sequence[Any]) -> dict[str, int]:
        self.tokens += sum(len(tokens) for doc_bin in rows for tokens in doc_bin.tokens)
        if self.tokens > MAX_TOKENS_IN_FILE:
            folder = self.workplace.parts_path
            raise ValueError(
                Errors.E927.format(output=self.output, limit=MAX_TOKENS_IN_FILE, folder=folder)
            )
        return {**super().commit(rows), "tokens": self.tokens}

    def build(self) -> None:
        whole = DocBin(store_user_data=True)
        for path in self.paths():
            whole.merge(DocBin(store_user_data=True).from_disk(path))
        write_whole(self.ready, whole.to_bytes())
