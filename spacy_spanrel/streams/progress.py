"""What a run leaves on the disk until it is complete, so that a kill at any moment loses nothing.

All of it is in one folder beside the output, OUTPUT.unfinished, or, for an output in a storage, in a folder
of this machine. A run makes it, locks it, and removes it when it is done::

    spacy-spanrel.lock   marks the folder as ours, and locks other runs out
    progress.json        how far the run is (`Progress`); written last, after each chunk
    rows.jsonl           rows of the output, or
    parts/               files of Parquet or Docs, one a chunk
    errors.jsonl         failed rows
    output               the parts, put together
    old/                 an old folder of shards, while the new one takes its place

A file in the folder that is none of these was put there by somebody else: the run refuses to begin.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO

from spacy.language import Language

from ..errors import Errors
from ..files import MARKER, sync_folder, write_whole
from .storage import ENDING, Output, beside

try:
    import fcntl
except ImportError:  # Windows: nothing keeps two runs apart there
    fcntl = None  # type: ignore[assignment]

PROGRESS = "progress.json"
_LOCK = "spacy-spanrel.lock"
_MARK = b"An unfinished run of 'spanrel annotate'. Give the same command again to continue it.\n"
_FILES = frozenset({_LOCK, PROGRESS, "rows.jsonl", "errors.jsonl", "output"})
_FOLDERS = frozenset({"parts", "old", "review"})
_PART = re.compile(rf"\d{{6,}}\.(parquet|spacy)|{re.escape(MARKER)}")
# A file that was being written when a run was killed.
_TEMPORARY = re.compile(r"\.spanrel-[0-9a-f]+\.tmp")
# The folders of runs in this process, which the system's lock does not tell apart.
_HELD: set[str] = set()
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)

# The stages of a run: adding rows; all rows are there; the parts are put together; their upload has begun.
WRITING, COMPLETE, MERGED, UPLOADING = "writing", "complete", "merged", "uploading"
_SAMPLE = 1 << 16


def unfinished_path(output: Output, work: Path = Path()) -> Path:
    """Return the folder of an unfinished run.

    output (Output): The output of the run.
    work (Path): Where the folder is, for an output in a storage.
    RETURNS (Path): The folder; outputs of one name in other folders of a storage have others.
    """
    if isinstance(output, Path):
        return output.with_name(output.name + ENDING)
    digest = hashlib.blake2b(str(output.parent).encode(), digest_size=4).hexdigest()
    return work / f"{output.name}.{digest}{ENDING}"


class Workplace:
    """The folder of an unfinished run; a context manager that holds its lock.

    On leaving, the folder is removed if no progress was saved in it.

    output (Output): The output of the run.
    work (Path): Where the folder is, for an output in a storage.
    """

    def __init__(self, output: Output, work: Path = Path()):
        self.output = output
        self.path = unfinished_path(output, work)
        self.progress_path = self.path / PROGRESS
        self.errors_path = self.path / "errors.jsonl"
        self.rows_path = self.path / "rows.jsonl"
        self.parts_path = self.path / "parts"
        self.merged_path = self.path / "output"
        self.old_path = self.path / "old"
        self.review_path = self.path / "review"
        self._lock = -1
        self._removed = False

    @property
    def begun(self) -> bool:
        """Whether an unfinished run has left something to continue."""
        return self.progress_path.exists()

    def __enter__(self) -> Workplace:
        """Make the folder, or take one that a killed run has left, and lock it.

        RAISES (FileExistsError): If something of that name was not made by a run.
        RAISES (ValueError): If another process has the lock.
        """
        name = os.path.realpath(self.path)
        if name in _HELD:
            raise ValueError(Errors.E923.format(output=self.output))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                self._take_folder()
                lock = self.path / _LOCK
                self._lock = os.open(lock, os.O_RDWR | os.O_CREAT | _NO_FOLLOW, 0o666)
            except FileNotFoundError:  # another run has just ended, and removed it
                continue
            if self._holds_lock():
                _HELD.add(name)
                return self
            os.close(self._lock)

    def _take_folder(self) -> None:
        try:
            self.path.mkdir()
        except FileExistsError:
            foreign = self._foreign()
            if foreign:
                shown = ", ".join(map(repr, foreign[:3]))
                raise FileExistsError(Errors.E955.format(path=self.path, found=shown)) from None

    def _foreign(self) -> list[str]:
        """List what no run has put there."""
        if self.path.is_symlink() or not self.path.is_dir():
            return [self.path.name]
        names = sorted(os.listdir(self.path))
        lock = self.path / _LOCK
        if names and (
            _LOCK not in names or lock.is_symlink() or not _MARK.startswith(lock.read_bytes())
        ):
            return names
        foreign = [name for name in names if not self._is_ours(self.path / name)]
        if not foreign and self.parts_path.is_dir():
            foreign = [
                f"{self.parts_path.name}/{path.name}"
                for path in self.parts_path.iterdir()
                if path.is_symlink()
                or not (_PART.fullmatch(path.name) or _TEMPORARY.fullmatch(path.name))
            ]
        return foreign

    def _is_ours(self, path: Path) -> bool:
        if path.is_symlink():
            return False
        if path.is_dir():
            return path.name in _FOLDERS
        return path.name in _FILES or _TEMPORARY.fullmatch(path.name) is not None

    def _holds_lock(self) -> bool:
        """Lock the open file. RETURNS (bool): False if it has been removed meanwhile."""
        if fcntl is not None:
            try:
                # Not flock: a worker process that outlives a killed run would keep that.
                fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(self._lock)
                raise ValueError(Errors.E923.format(output=self.output)) from error
            try:
                if not os.path.samestat(os.fstat(self._lock), (self.path / _LOCK).stat()):
                    return False
            except FileNotFoundError:
                return False
        os.pwrite(self._lock, _MARK, 0) if hasattr(os, "pwrite") else os.write(self._lock, _MARK)
        return True

    def __exit__(self, *exception: object) -> None:
        if not self.begun:
            self.remove()
        os.close(self._lock)
        _HELD.discard(os.path.realpath(self.path))

    def clear(self) -> None:
        """Remove all that a run has left, but the lock."""
        # First of all the progress, so that nothing half-removed is ever continued.
        self.progress_path.unlink(missing_ok=True)
        if self.old_path.exists() and isinstance(self.output, Path) and not self.output.exists():
            os.replace(self.old_path, self.output)  # killed while the new one took its place
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != _LOCK:
                path.unlink()

    def remove(self) -> None:
        """Remove the folder, once: what is there afterwards belongs to another run."""
        if not self._removed:
            self._removed = True
            self.clear()
            (self.path / _LOCK).unlink()
            self.path.rmdir()
            sync_folder(self.path.parent)


class AppendFile:
    """A file that grows chunk by chunk, and is cut back to what was committed.

    path (Path): The file.
    """

    def __init__(self, path: Path):
        self.path = path
        self._file: BinaryIO | None = None

    def open(self, size: int) -> None:
        """Open the file, made if need be, and cut it to a size.

        size (int): How many bytes were committed.
        RAISES (ValueError): If the file is shorter.
        """
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | _NO_FOLLOW, 0o666)
        self._file = os.fdopen(handle, "r+b")
        length = self._file.seek(0, os.SEEK_END)
        if length < size:
            raise ValueError(
                Errors.E922.format(
                    path=self.path, found=f"{length} bytes", expected=f"{size} bytes"
                )
            )
        self._file.truncate(size)
        self._file.seek(size)

    def append(self, data: bytes) -> int:
        """Write at the end, durably. RETURNS (int): The size now."""
        assert self._file is not None
        if data:
            self._file.write(data)
            self._file.flush()
            os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Close the file, if it is open."""
        if self._file is not None:
            self._file.close()
            self._file = None


@dataclass
class RowCounts:
    """Counts of rows that are done.

    rows, annotated, failed (int): Rows, and how many of them were annotated and how many failed.
    entities, relations, answers (int): Predictions; answers without questions that have none.
    """

    rows: int = 0
    annotated: int = 0
    failed: int = 0
    entities: int = 0
    relations: int = 0
    answers: int = 0

    def add(self, predictions: tuple[int, int, int] | None) -> None:
        """Count a row. predictions (tuple[int, int, int] | None): How many entities, relations and
        answers it has; None if it failed."""
        self.rows += 1
        if predictions is None:
            self.failed += 1
            return
        entities, relations, answers = predictions
        self.annotated += 1
        self.entities += entities
        self.relations += relations
        self.answers += answers


COUNTS = tuple(item.name for item in fields(RowCounts))


@dataclass(kw_only=True)
class Progress(RowCounts):
    """How far a run is: what is counted is committed.

    fingerprint (dict[str, Any]): Fingerprint of the input, the pipeline and the settings.
    stage (str): WRITING, COMPLETE, MERGED or UPLOADING.
    output (dict[str, int]): How much of the output is committed, as its writer says.
    error_bytes (int): How many bytes of the file of errors are committed.
    """

    fingerprint: dict[str, Any]
    stage: str = WRITING
    output: dict[str, int] = field(default_factory=dict)
    error_bytes: int = 0

    def save(self, path: Path) -> None:
        """Write the file, durably."""
        # What the run is stands before its counts.
        values = {"fingerprint": self.fingerprint, "stage": self.stage, **asdict(self)}
        write_whole(path, json.dumps(values, indent=1).encode())

    @classmethod
    def load(cls, path: Path) -> Progress | None:
        """Read the file; None if there is none. RAISES (ValueError): If it is something else."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            values = json.loads(data)
            if set(values) != {item.name for item in fields(cls)}:
                raise ValueError("other keys")
            return cls(**values)
        except (ValueError, TypeError) as error:
            raise ValueError(
                Errors.E922.format(path=path, found=error, expected="the progress of a run")
            ) from error


def refuse_old_run(output: Path) -> None:
    """Refuse to begin beside what versions before 0.2 have left of an unfinished run.

    RAISES (FileExistsError): If there is such a run. Its files are not touched.
    """
    try:
        values = json.loads(beside(output, ".progress").read_bytes())
    except (OSError, ValueError):
        return
    if isinstance(values, dict) and {"fingerprint", "stage", "position"} <= set(values):
        endings = (".progress", ".part", ".parts", ".errors.jsonl.part")
        left = [str(beside(output, e)) for e in endings if beside(output, e).exists()]
        raise FileExistsError(Errors.E956.format(output=output, files=", ".join(left)))


def model_fingerprint(nlp: Language) -> str:
    """Return a digest that tells a pipeline from others: of its meta, config and settings, and of
    samples of its files (not of their times, so that a copy is the same)."""
    digest = hashlib.blake2b(digest_size=16)
    for text in (
        json.dumps(nlp.meta, sort_keys=True, default=str),
        nlp.config.to_str(),
        *(
            json.dumps([name, getattr(pipe, "cfg", None)], sort_keys=True, default=str)
            for name, pipe in nlp.pipeline
        ),
    ):
        digest.update(text.encode() + b"\0")
    if nlp.path is not None and Path(nlp.path).is_dir():
        for sample in _samples(Path(nlp.path)):
            digest.update(sample)
    return digest.hexdigest()


def _samples(folder: Path) -> Iterator[bytes]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            size = path.stat().st_size
            yield os.fsencode(f"{path.relative_to(folder).as_posix()}\0{size}\0")
            with path.open("rb") as file:
                for start in sorted({0, size // 2, max(0, size - _SAMPLE)}):
                    file.seek(start)
                    yield file.read(_SAMPLE)


def difference(old: dict[str, Any], new: dict[str, Any], where: str = "now") -> str:
    """Say in words how two fingerprints differ; "" if they do not. where (str): Word for the new one."""
    changes = []
    if old.get("input") != new["input"]:
        before, now = (
            f"{counts.get('files')} file(s) with {counts.get('bytes')} bytes"
            for counts in (old.get("input") or {}, new["input"])
        )
        if before == now:
            now = "as much, but changed since"
        changes.append(f"the input ({before}; {where} {now})")
    if old.get("model") != new["model"]:
        changes.append("the pipeline")
    settings = old.get("settings") or {}
    for name, value in new["settings"].items():
        if settings.get(name) != value:
            changes.append(f"{name} = {settings.get(name)!r} ({where} {value!r})")
    return ", ".join(changes)
