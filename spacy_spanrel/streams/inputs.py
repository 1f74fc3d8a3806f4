"""The files of an input: a file, a folder, a pattern such as ``texts/*.jsonl.gz``, or an address.

Addresses, such as ``s3://bucket/texts``, belong to fsspec, which torch requires anyway; the storage may
need one more package (s3fs, gcsfs), which fsspec names. Files that end in .gz or .zst are decompressed
while they are read.
"""

from __future__ import annotations

import glob
import gzip
import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from ..errors import Errors
from ..reading import Place, argument_error
from .schema import import_pyarrow
from .storage import Address, is_address

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
COMPRESSIONS = (".gz", ".zst")


@dataclass(frozen=True)
class InputFile:
    """A file of the input.

    path (str): Its path or address.
    name (str): Its name inside the input.
    size (int): Its bytes, as they are stored.
    stamp (str): Something that changes when its content does: a time, or the storage's own tag.
    system (Any): Its fsspec file system; None for a file of this machine.
    """

    path: str
    name: str
    size: int
    stamp: str
    system: Any = None

    @property
    def compression(self) -> str:
        """The suffix of the compression; "" if there is none."""
        suffix = PurePosixPath(self.name).suffix
        return suffix if suffix in COMPRESSIONS else ""

    @property
    def suffix(self) -> str:
        """The suffix of the format."""
        return PurePosixPath(self.name.removesuffix(self.compression)).suffix

    @property
    def format(self) -> str:
        """The format that the suffix tells; "" if it tells none."""
        found = SUFFIXES.get(self.suffix, "")
        return "" if found == "parquet" and self.compression else found

    @property
    def shown_name(self) -> str:
        """The name; what is not UTF-8 in it is escaped."""
        return os.fsencode(self.name).decode("utf-8", "backslashreplace")

    @contextmanager
    def open(self) -> Iterator[tuple[BinaryIO, BinaryIO]]:
        """Open the file. YIELDS (tuple[BinaryIO, BinaryIO]): The file as it is stored, whose position
        tells how much is read, and its decompressed content."""
        with ExitStack() as stack:
            opener = io.open if self.system is None else self.system.open
            raw: BinaryIO = stack.enter_context(opener(self.path, "rb"))
            data = raw
            if self.system is not None:
                from fsspec.spec import AbstractBufferedFile

                if isinstance(raw, AbstractBufferedFile):  # its `readline` knows no limit
                    data = cast(BinaryIO, stack.enter_context(io.BufferedReader(raw)))
            if self.compression == ".gz":
                data = cast(BinaryIO, stack.enter_context(gzip.open(raw, "rb")))
            elif self.compression == ".zst":
                stream = import_pyarrow().CompressedInputStream(raw, "zstd")
                data = cast(BinaryIO, stack.enter_context(io.BufferedReader(stream)))
            yield raw, data


def is_pattern(source: str | Path) -> bool:
    """Tell whether an input is a pattern; a file or folder with such a name comes first."""
    return glob.has_magic(str(source)) and (is_address(source) or not os.path.lexists(source))


def find_files(source: str | Path, input_format: str | None) -> tuple[str, list[InputFile]]:
    """Find the files of an input, in the order of their names, and their format.

    source (str | Path): A file; a folder: then all files of the format in it, subfolders included and
        hidden ones left out; or a pattern, with ``**`` for any number of folders.
    input_format (str | None): One of INPUT_FORMATS; None to tell by the suffix.
    RETURNS (tuple[str, list[InputFile]]): The format, and at least one file.
    RAISES (ConversionError): If there is nothing to read, or the format is not known.
    RAISES (OSError): If a storage refuses.
    RAISES (ImportError): If an address needs a package that is not installed.
    """
    if input_format is not None and input_format not in INPUT_FORMATS:
        raise argument_error(
            "--input-format",
            found=repr(input_format),
            expected="one of " + ", ".join(INPUT_FORMATS),
        )
    kind, files = _find_remote(str(source)) if is_address(source) else _find_local(Path(source))
    if not files and kind == "file":
        raise Place(str(source)).error(
            Errors.E601, found="no such file or folder", expected="a file or folder"
        )
    if not files and kind == "pattern":
        raise argument_error("INPUT", f"'{source}', which fits no file", "a pattern of file names")
    formats = sorted({file.format for file in files} - {""})
    if kind == "file":
        chosen = input_format or "".join(formats)
        if not chosen:
            raise argument_error(
                "INPUT",
                found=f"'{source}'",
                expected=f"a name that ends in {', '.join(SUFFIXES)} (perhaps with "
                f"{' or '.join(COMPRESSIONS)} behind it), or --input-format",
            )
        return chosen, files
    if input_format is None and len(formats) != 1:
        listed = f"files of {len(formats)} formats ({', '.join(formats)})"
        listed = listed if formats else "no file of a known format"
        raise argument_error(
            "INPUT",
            found=f"the {kind} '{source}' with {listed}",
            expected="files of one format, or --input-format",
        )
    chosen = input_format or formats[0]
    # A pattern that is given with a format says by itself which files it means.
    if kind == "folder" or input_format is None:
        files = [file for file in files if file.format == chosen]
    if not files:
        raise argument_error(
            "INPUT",
            found=f"the {kind} '{source}' without {chosen!r} files",
            expected="file names that end in "
            + ", ".join(suffix for suffix, name in SUFFIXES.items() if name == chosen),
        )
    return chosen, files


def _find_local(source: Path) -> tuple[str, list[InputFile]]:
    if is_pattern(source):
        matches = glob.glob(str(source), recursive=True)
        paths, root = [Path(path) for path in matches], Path(pattern_root(str(source)))
        kind = "pattern"
    elif source.is_dir():
        paths, root, kind = list(source.rglob("*")), source, "folder"
        paths = [path for path in paths if not _hidden(path.relative_to(source).parts)]
    else:
        paths, root, kind = [source], source.parent, "file"
    files = []
    for path in sorted(paths):
        if path.is_file():
            stat, name = path.stat(), path.relative_to(root).as_posix()
            files.append(InputFile(str(path), name, stat.st_size, str(stat.st_mtime_ns)))
    return kind, files


def pattern_root(pattern: str) -> str:
    """Return the folder in front of the first part of a pattern that is no plain name.

    pattern (str): Of paths, or of addresses.
    RETURNS (str): The folder, with the slash that ends it; "" for the working directory.
    """
    plain: str = glob.magic_check.split(pattern, maxsplit=1)[0]  # type: ignore[attr-defined]
    return plain[: 1 + max(plain.rfind(separator) for separator in {"/", os.sep})]


def _find_remote(source: str) -> tuple[str, list[InputFile]]:
    with Address(source).storage() as (system, root):
        if glob.has_magic(root) and not system.exists(root):
            kind, infos = "pattern", system.glob(root, detail=True)
            root = pattern_root(root)
        elif system.isdir(root):
            kind, infos = "folder", system.find(root, detail=True)
        else:
            kind, infos = "file", {root: system.info(root)} if system.exists(root) else {}
            root = root.rpartition("/")[0]
    files = []
    for path, info in sorted(infos.items()):
        name = path.removeprefix(root).lstrip("/")
        if info["type"] != "file" or (kind == "folder" and _hidden(name.split("/"))):
            continue
        stamps = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created")
        stamp = next((str(info[key]) for key in stamps if info.get(key)), "")
        address = system.unstrip_protocol(path)
        files.append(InputFile(address, name, int(info["size"] or 0), stamp, system))
    return kind, files


def _hidden(parts: Any) -> bool:
    return any(part.startswith(".") for part in parts)
