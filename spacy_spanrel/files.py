"""Safe writing: whole files, whole folders, strict JSON, and CSV that spreadsheets do not run.

Every command writes through this module, which keeps four promises:

- A file or folder is complete or as it was before; a kill, a full disk or an error in the middle
  changes nothing (`write_whole`, `open_whole`, `place_whole`, `save_whole`).
- No input is overwritten. A command calls `check_output` first, before any work is done.
- A folder is replaced only when one of our commands made it and nothing else has been put into it:
  a saved pipeline, or a folder with the marker file that `place_whole` leaves. A command that works
  for long before it writes calls `check_folder` first.
- Symbolic links, devices and pipes stay what they are: the data goes to where they lead.
"""

from __future__ import annotations

import base64
import csv
import datetime
import errno
import io
import json
import math
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy
from spacy.language import Language
from thinc.api import Config

from .errors import Errors

# Lists the files of a folder that `place_whole` made. Hidden, so that readers of corpora pass it by.
MARKER = ".spacy-spanrel.json"
# What `Language.to_disk` writes beside the components, and the file that `model-card` adds.
_PIPELINE_FILES = frozenset({"config.cfg", "meta.json", "README.md", "tokenizer", "vocab"})
# A spreadsheet takes a cell that begins with one of these for a formula, or may after trimming it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_SHOWN = 3


# Checks


def check_output(output: str | Path, *inputs: str | Path | None) -> None:
    """Check that writing an output destroys no input. To be called before anything is read.

    Symbolic links, hard links and ".." are seen through. If an input is a folder, the output may lie
    in it, but must not be one of the files that are there.

    output (str | Path): The file or folder to be written.
    *inputs (str | Path | None): Files and folders that are read. None and paths that do not exist,
        such as the name of an installed pipeline, are passed over.
    RAISES (ValueError): If the output is one of them, or a folder that holds one.
    """
    target = Path(os.path.realpath(output))
    for source in inputs:
        if source is None or not os.path.exists(source):
            continue
        resolved = Path(os.path.realpath(source))
        if target in resolved.parents:
            raise ValueError(Errors.E952.format(output=output, where="holds", input=source))
        if not target.exists() or not (target.is_file() or target.is_dir()):
            continue
        same = os.path.samefile(target, resolved)
        if not same and resolved.is_dir() and target.is_file():
            wanted = target.stat()
            same = any(_same(file, wanted) for file in resolved.rglob("*"))
        if same:
            raise ValueError(Errors.E951.format(output=output, input=source))


def _same(path: Path, wanted: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.stat(), wanted)
    except OSError:  # a broken link, or a file that was just removed
        return False


def check_folder(folder: str | Path, *inputs: str | Path | None, force: bool = True) -> None:
    """Check that `place_whole` may write a folder.

    folder (str | Path): The folder. It may be missing or empty.
    *inputs (str | Path | None): As in `check_output`; the folder must not lie inside of one, either.
    force (bool): Whether a folder that exists may be replaced.
    RAISES (ValueError): If the folder is an input, or holds one or lies inside of one.
    RAISES (FileExistsError): If it is a file, holds something that no command of ours put there, or
        exists although `force` is False.
    """
    target = Path(os.path.realpath(folder))
    check_output(folder, *inputs)
    for source in inputs:
        if source is not None and Path(os.path.realpath(source)) in target.parents:
            raise ValueError(Errors.E952.format(output=folder, where="lies inside", input=source))
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise FileExistsError(Errors.E953.format(path=folder, found="file", expected="folder"))
    if not force:
        raise FileExistsError(Errors.E954.format(path=folder))
    refuse_foreign(folder, _foreign_entries(target))


def refuse_foreign(folder: object, foreign: Sequence[str]) -> None:
    """Refuse to replace a folder that holds something that no command of ours put there.

    folder (object): The folder's path or address.
    foreign (Sequence[str]): The names of what others put there; () for nothing.
    RAISES (FileExistsError): If there is any.
    """
    if foreign:
        more = f" and {len(foreign) - _SHOWN} more" if len(foreign) > _SHOWN else ""
        raise FileExistsError(
            Errors.E641.format(
                where=f"'{folder}'",
                found=", ".join(map(repr, foreign[:_SHOWN])) + more,
                expected="a new folder, an empty one, a saved pipeline, or one that a command of "
                "spacy-spanrel has written before",
            )
        )


def _foreign_entries(folder: Path) -> list[str]:
    """List the entries of a folder that no command of ours put there."""
    ours = None
    with suppress(OSError):
        ours = marked_entries((folder / MARKER).read_bytes())
    if ours is not None:
        return sorted(_entries(folder) - ours - {MARKER})
    return sorted(set(os.listdir(folder)) - _pipeline_entries(folder))


def _entries(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def marked_entries(data: bytes) -> set[str] | None:
    """Return the entries that a marker file lists; None if it is no marker of ours.

    data (bytes): The content of the file.
    """
    try:
        marker = json.loads(data)
        return set(marker["files"]) if marker["made_by"] == "spacy-spanrel" else None
    except (ValueError, KeyError, TypeError):
        return None


def mark_folder(folder: Path) -> None:
    """Leave a marker file in a folder that is complete, so that a command may replace it later."""
    marker = {"made_by": "spacy-spanrel", "files": sorted(_entries(folder) - {MARKER})}
    write_whole(folder / MARKER, json.dumps(marker, indent=0).encode())


def _pipeline_entries(folder: Path) -> set[str]:
    """Return the names that a saved pipeline has in its folder; none if this is no pipeline."""
    try:
        meta = json.loads((folder / "meta.json").read_bytes())
        config = Config().from_disk(folder / "config.cfg", interpolate=False)
        if "lang" not in meta or "nlp" not in config:
            return set()
        components = [Path(name) for name in config.get("components", {})]
        # Rulers and the sentencizer write a file with a suffix of their own instead of a folder.
        paths = [*components, *(p.with_suffix(s) for p in components for s in (".json", ".jsonl"))]
        return {*_PIPELINE_FILES, *(path.name for path in paths)}
    except Exception:  # the parser of configs has many ways to fail
        return set()


# Whole files


def write_whole(path: str | Path, data: bytes) -> None:
    """Write a file so that it is complete or as it was before, also after a loss of power.

    The permissions of a file that is replaced are kept, and a symbolic link keeps leading to it. Data
    for a pipe or device (/dev/stdout) is written into it.

    path (str | Path): The file; its folder is made if need be.
    data (bytes): Its content.
    RAISES (IsADirectoryError): If the path is a folder.
    RAISES (OSError): If the file cannot be written, or is write-protected.
    """
    with _writing(Path(path)) as file:
        file.write(data)


@contextmanager
def open_whole(path: str | Path) -> Iterator[TextIO]:
    """Open a text file to be written as `write_whole` does, for what should not be held in memory.

    path (str | Path): The file.
    YIELDS (TextIO): The open file: UTF-8; line ends are written as they are.
    """
    with _writing(Path(path)) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        yield text
        text.detach()  # flushes, and leaves the file open


@contextmanager
def _writing(path: Path) -> Iterator[BinaryIO]:
    descriptor = _open_in_place(path)
    if descriptor is not None:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        return
    target = Path(os.path.realpath(path))
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, because a file is replaced in one step only within a file system.
    temporary = target.with_name(f".spanrel-{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            if target.exists():
                shutil.copymode(target, temporary)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def _open_in_place(path: Path) -> int | None:
    """Open what must not be replaced by a file, without cutting it; None for an ordinary file."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(Errors.E953.format(path=path, found="folder", expected="file"))
    # /dev/stdout may lead to a file that the shell has opened: continue there.
    link = str(path)
    while True:
        link = os.path.join(os.path.realpath(os.path.dirname(link)), os.path.basename(link))
        if match := re.fullmatch(rf"/(?:dev|proc/{os.getpid()})/fd/(\d+)", link):
            return os.dup(int(match.group(1)))
        if not os.path.islink(link):
            break
        link = os.path.join(os.path.dirname(link), os.readlink(link))
    return None if stat.S_ISREG(mode) else os.open(path, os.O_WRONLY)


def sync_folder(folder: Path) -> None:
    """Make sure that new names in a folder survive a loss of power, where the system can do so."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # folders cannot be opened on every system
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# Whole folders


def place_whole(
    folder: str | Path,
    write: Callable[[Path], object],
    *,
    inputs: Iterable[str | Path | None] = (),
) -> None:
    """Write a folder so that it is complete or as it was before.

    An old folder is replaced only if `check_folder` allows it. So that it does the next time, the new
    one gets a marker file, unless it is a saved pipeline.

    folder (str | Path): The folder; a symbolic link to a folder keeps leading to it.
    write (Callable[[Path], object]): Makes the folder, at the path that it is given.
    inputs (Iterable[str | Path | None]): What is read meanwhile, as in `check_folder`.
    RAISES (ValueError, FileExistsError): As in `check_folder`; nothing is changed then.
    """
    inputs = list(inputs)
    check_folder(folder, *inputs)
    target = Path(os.path.realpath(folder))
    target.parent.mkdir(parents=True, exist_ok=True)
    workplace = Path(tempfile.mkdtemp(dir=target.parent, prefix=".spanrel-"))
    new, old = workplace / "new", workplace / "old"
    try:
        write(new)
        if not _pipeline_entries(new):
            mark_folder(new)
        if target.exists():
            check_folder(folder, *inputs)  # something may have been put there meanwhile
            shutil.copymode(target, new)
            os.replace(target, old)
        os.replace(new, target)
        sync_folder(target.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        if old.exists() and not os.path.lexists(target):
            os.replace(old, target)
        shutil.rmtree(new, ignore_errors=True)
        with suppress(OSError):  # never remove an old folder that could not be put back
            workplace.rmdir()


def save_whole(
    nlp: Language, folder: str | Path, *, inputs: Iterable[str | Path | None] = ()
) -> None:
    """Save a pipeline as `place_whole` writes a folder.

    nlp (Language): The pipeline.
    folder (str | Path), inputs (Iterable[str | Path | None]): As in `place_whole`.
    """
    place_whole(folder, nlp.to_disk, inputs=inputs)


# JSON and CSV


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Return strict JSON: text as it is, and nothing that only Python can read.

    value (Any): The data; what JSON cannot say is put as `to_plain` puts it.
    indent (int | None): As in `json.dumps`.
    RETURNS (str): JSON.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    except (TypeError, ValueError):
        return json.dumps(to_plain(value), ensure_ascii=False, allow_nan=False, indent=indent)


def to_plain(value: Any) -> Any:
    """Return JSON data for any value.

    Numbers that are not finite become null, numpy's numbers and arrays become Python's, dates and times
    follow ISO 8601, bytes are base64, and anything else is text.
    """
    if isinstance(value, (numpy.generic, numpy.ndarray)):
        value = value.tolist()
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)


def csv_cell(value: Any) -> Any:
    """Return a value as a spreadsheet can take it without running it.

    Spreadsheets run text that begins with =, +, -, @, a tab or a line end as a formula, which may send
    data elsewhere or start programs. Such text gets an apostrophe in front (the advice of OWASP, "CSV
    Injection"); numbers and other text stay as they are.
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def write_csv(
    path: str | Path,
    columns: Sequence[str],
    rows: Iterable[Mapping[str, Any]],
    *,
    raw: bool = False,
) -> None:
    """Write a table as CSV, as `write_whole` writes a file.

    Rows end with a line feed. Cells with line ends are quoted; to read them back, Python's `csv` needs
    a file that was opened with `newline=""`.

    path (str | Path): The file.
    columns (Sequence[str]): Names of the columns: the first row, and the order of the others.
    rows (Iterable[Mapping[str, Any]]): The other rows.
    raw (bool): Leave cells as they are instead of passing them through `csv_cell`.
    """
    with open_whole(path) as file:
        table = csv.DictWriter(_LineFeeds(file), columns, lineterminator="\r\n")
        table.writeheader()
        for row in rows:
            table.writerow(row if raw else {name: csv_cell(row[name]) for name in row})


class _LineFeeds:
    """A text file to which rows of CSV are written that end with a carriage return and a line feed.

    `csv.writer` quotes only the line ends that end a row (before Python 3.13), so both are asked for,
    and the carriage return at the end is removed.
    """

    def __init__(self, file: TextIO):
        self._file = file

    def write(self, row: str) -> int:
        return self._file.write(row.removesuffix("\r\n") + "\n")
