"""How far a run went, and files that a kill at any moment leaves as they were or as they should be."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO

from spacy.language import Language

from ..errors import Errors

try:
    import fcntl
except ImportError:  # Windows: nothing keeps two runs apart there
    fcntl = None  # type: ignore[assignment]

# What a run is doing: adding rows; putting its parts together; giving the files their names.
WRITING, COMPLETE, MERGED = "writing", "complete", "merged"
_SAMPLE = 1 << 16


def beside(path: Path, ending: str) -> Path:
    """Return the path with an ending of its own behind its name."""
    return path.with_name(path.name + ending)


def sync_folder(folder: Path) -> None:
    """See to it that new names in a folder survive a loss of power."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # folders cannot be opened on every system
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_durably(path: Path, data: bytes) -> None:
    """Write a file so that it is on the disk as a whole, or as it was before."""
    temporary = beside(path, ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


class AppendFile:
    """A file that grows chunk by chunk, and is cut back to what was committed."""

    def __init__(self, path: Path):
        self.path = path
        self._file: BinaryIO | None = None

    def open(self, size: int | None, lock_for: Path | None = None) -> None:
        """Open the file, made if need be, and cut it to a size.

        size (int | None): What was committed; None to leave it as it is.
        lock_for (Path | None): Let no other process have the file meanwhile; the name for messages.
        RAISES (ValueError): If the file is shorter, or another process has it.
        """
        self._file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        if lock_for is not None and fcntl is not None:
            try:
                # Not flock: a worker process that outlives a killed run would keep that.
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ValueError(Errors.E923.format(output=lock_for)) from error
        found = self._file.seek(0, os.SEEK_END)
        if size is None:
            return
        if found < size:
            raise ValueError(Errors.E922.format(path=self.path, found=found, expected=size))
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
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


@dataclass
class Progress:
    """What is committed.

    fingerprint (dict[str, Any]): Of the input, the pipeline and the settings.
    stage (str): WRITING, COMPLETE or MERGED.
    position (list[int]): Where to go on in the input; [] for the beginning.
    rows, annotated, failed (int): How many rows were read, and what became of them.
    entities, relations, answers (int): What was found.
    output (dict[str, int]): How much of the output counts, as its writer says.
    error_bytes (int): How much of the file of errors counts.
    """

    fingerprint: dict[str, Any]
    stage: str = WRITING
    position: list[int] = field(default_factory=list)
    rows: int = 0
    annotated: int = 0
    failed: int = 0
    entities: int = 0
    relations: int = 0
    answers: int = 0
    output: dict[str, int] = field(default_factory=dict)
    error_bytes: int = 0

    def save(self, path: Path) -> None:
        """Write the file, durably."""
        write_durably(path, json.dumps(asdict(self), indent=1).encode())

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


def model_fingerprint(nlp: Language) -> str:
    """Return what tells a pipeline from others: its meta, config and settings, and samples of its
    files (not their times, so that a copy is the same)."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (
        json.dumps(nlp.meta, sort_keys=True, default=str),
        nlp.config.to_str(),
        *(
            json.dumps([name, getattr(pipe, "cfg", None)], sort_keys=True, default=str)
            for name, pipe in nlp.pipeline
        ),
    ):
        digest.update(part.encode() + b"\0")
    if nlp.path is not None and Path(nlp.path).is_dir():
        for sample in _samples(Path(nlp.path)):
            digest.update(sample)
    return digest.hexdigest()


def _samples(folder: Path) -> Iterator[bytes]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            size = path.stat().st_size
            yield f"{path.relative_to(folder).as_posix()}\0{size}\0".encode()
            with path.open("rb") as file:
                for start in sorted({0, size // 2, max(0, size - _SAMPLE)}):
                    file.seek(start)
                    yield file.read(_SAMPLE)


def difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Say in words how two fingerprints differ; "" if they do not."""
    found = []
    if old.get("input") != new["input"]:
        before, now = old.get("input") or {}, new["input"]
        counts = [
            f"{part.get('files')} file(s) with {part.get('bytes')} bytes" for part in (before, now)
        ]
        if counts[0] == counts[1]:
            counts = [counts[0], "as much, but changed since"]
        found.append(f"the input ({counts[0]}; now {counts[1]})")
    if old.get("model") != new["model"]:
        found.append("the pipeline")
    settings = old.get("settings") or {}
    for name, value in new["settings"].items():
        if settings.get(name) != value:
            found.append(f"{name} = {settings.get(name)!r} (now {value!r})")
    return ", ".join(found)
