"""Outputs in a storage: addresses that fsspec knows, such as ``s3://bucket/found.jsonl``.

A storage cannot append to a file, lock it, or give a folder its name at once. So a run works in a folder
of this machine (see `progress`), and uploads its output when that is complete. Nothing half-uploaded
looks complete:

- A file gets its name when all of it is there. Object stores do so by themselves; elsewhere it is uploaded
  as .NAME.spanrel, and renamed.
- A folder is complete when it holds the marker file, which is uploaded last. Until then it holds a note,
  which lists the files that are ours, old ones and new ones, so that an upload that was broken off can be
  told from what others have put there.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, cast, overload

from ..errors import Errors
from ..files import MARKER, marked_entries, refuse_foreign
from ..reading import argument_error

ENDING = ".unfinished"
_NOTE = ".spacy-spanrel.unfinished.json"
_TEMPORARY = ".spanrel"
_MARKERS = frozenset({MARKER, _NOTE, f".{MARKER}{_TEMPORARY}", f".{_NOTE}{_TEMPORARY}"})
# Storages that show a file only when all of it is there.
_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"})


def local_path(place: str | Path) -> str | Path:
    """Return the path of a file:// address; anything else as it is."""
    if not str(place).startswith("file://"):
        return place
    from fsspec.core import url_to_fs

    return str(url_to_fs(str(place))[1])


def is_address(place: object) -> bool:
    """Tell whether an input or output is an address, such as ``s3://bucket/texts``."""
    return "://" in str(place)


@dataclass(frozen=True)
class Address:
    """A file or folder in a storage, with those methods of a path that outputs need.

    address (str): Such as "s3://bucket/found.jsonl", without a slash at the end.

    All methods raise OSError with the words of the storage if it refuses, and ImportError if it needs a
    package that is not installed.
    """

    address: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """Make an address from what a user gave.

        RAISES (ConversionError): If it is a pattern, or names no file or folder inside of a storage.
        """
        if glob.has_magic(text) or "/" not in text.rstrip("/").partition("://")[2]:
            raise argument_error(
                "OUTPUT",
                f"'{text}'",
                "an address of a file or folder, such as s3://bucket/found.jsonl, without *, ? and [",
            )
        return cls(text.rstrip("/"))

    def __str__(self) -> str:
        return self.address

    def __truediv__(self, name: str) -> Address:
        return Address(f"{self.address}/{name}")

    @property
    def canonical(self) -> str:
        """The address as the storage spells it."""
        with self.storage() as (system, path):
            return str(system.unstrip_protocol(path))

    @property
    def name(self) -> str:
        """The last part."""
        return self.address.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The ending of the name, with its dot."""
        return Path(self.name).suffix

    @property
    def parent(self) -> Address:
        """The folder."""
        return Address(self.address.rpartition("/")[0])

    def with_name(self, name: str) -> Address:
        """Return the address of another file of the same folder."""
        return self.parent / name

    @property
    def _in_object_store(self) -> bool:
        return self.address.partition("://")[0] in _OBJECT_STORES

    @contextmanager
    def storage(self) -> Iterator[tuple[Any, str]]:
        """Open the storage. YIELDS (tuple[Any, str]): fsspec's file system, and the path in it."""
        from fsspec.core import url_to_fs

        try:
            yield url_to_fs(self.address)
        except ImportError:
            raise
        except Exception as error:  # each storage has errors of its own
            kind = FileNotFoundError if isinstance(error, FileNotFoundError) else OSError
            said = str(error) or type(error).__name__
            raise kind(Errors.E972.format(address=self, error=said)) from error

    # Reading

    def _type(self) -> str:
        """Return "file" or "directory"; "" if nothing is there."""
        with suppress(FileNotFoundError), self.storage() as (system, path):
            system.invalidate_cache()  # what others did meanwhile counts
            return str(system.info(path)["type"])
        return ""

    def exists(self) -> bool:
        """Tell whether there is a file or folder."""
        return self._type() != ""

    def is_file(self) -> bool:
        """Tell whether there is a file."""
        return self._type() == "file"

    def is_dir(self) -> bool:
        """Tell whether there is a folder."""
        return self._type() == "directory"

    def iterdir(self) -> Iterator[Address]:
        """Yield what is in the folder."""
        with self.storage() as (system, path):
            names = [name.rstrip("/") for name in system.ls(path, detail=False)]
        for name in names:
            yield self / name.rpartition("/")[2]

    def open(self, mode: Literal["rb"]) -> BinaryIO:
        """Open the file to be read."""
        with self.storage() as (system, path):
            return cast(BinaryIO, system.open(path, mode))

    def read_bytes(self) -> bytes:
        """Return the content of the file."""
        with self.storage() as (system, path):
            return bytes(system.cat_file(path))

    def fetch(self, names: Iterable[str], folder: Path) -> None:
        """Download files of the folder into one of this machine."""
        with self.storage() as (system, path):
            system.get([f"{path}/{name}" for name in names], [str(folder / name) for name in names])

    def _entries(self) -> set[str]:
        """Return the names of all files in the folder and its subfolders."""
        with suppress(FileNotFoundError), self.storage() as (system, path):
            system.invalidate_cache()
            return {name.removeprefix(path).lstrip("/") for name in system.find(path)} - {""}
        return set()

    # Writing

    def probe(self) -> None:
        """Check that files can be written and removed here, before any work is done for them."""
        with self.storage() as (system, path):
            temporary = self._temporary(system, path)
            system.pipe_file(temporary, b"")
            system.rm_file(temporary)

    def write(self, content: bytes | Path) -> None:
        """Write the file, so that it is complete or as it was before.

        content (bytes | Path): The content, or a file that has it.
        """
        with self.storage() as (system, path):
            target = path if self._in_object_store else self._temporary(system, path)
            if isinstance(content, bytes):
                system.pipe_file(target, content)
            else:
                system.put_file(str(content), target)
            if target != path:
                system.mv(target, path)

    def _temporary(self, system: Any, path: str) -> str:
        """Return the path of an unfinished upload; its folder is made where a storage has folders."""
        folder, _, name = path.rpartition("/")
        if folder and not self._in_object_store:
            system.makedirs(folder, exist_ok=True)
        return f"{folder}/.{name}{_TEMPORARY}"

    def unlink(self, missing_ok: bool = True) -> None:
        """Remove the file, if there is one."""
        if self.is_file():  # some storages have another error for a file that is not there
            with self.storage() as (system, path):
                system.rm_file(path)

    def check_folder(self) -> None:
        """Check that `write_folder` may take the place of what is here.

        RAISES (FileExistsError): If it is a file, or holds something that no run has put there.
        """
        kind = self._type()
        if kind == "file":
            raise FileExistsError(Errors.E953.format(path=self, found="file", expected="folder"))
        if kind:
            listed = self._listed(MARKER) | self._listed(_NOTE)
            refuse_foreign(self, sorted(self._entries() - _MARKERS - listed))

    def _listed(self, marker: str) -> set[str]:
        """Return the files that a marker or note lists; none if it is not there."""
        try:
            return marked_entries((self / marker).read_bytes()) or set()
        except FileNotFoundError:
            return set()

    def write_folder(self, folder: Path) -> None:
        """Upload a folder with its marker, and remove what an earlier run has put there; can be repeated.

        folder (Path): The folder of this machine.
        RAISES (FileExistsError): As in `check_folder`.
        """
        self.check_folder()
        files = {
            file.relative_to(folder).as_posix(): file
            for file in sorted(folder.rglob("*"))
            if file.is_file() and file.name != MARKER
        }
        old = self._entries() - _MARKERS
        note = {"made_by": "spacy-spanrel", "files": sorted({*files, *old})}
        (self / _NOTE).write(json.dumps(note, indent=0).encode())
        (self / MARKER).unlink()
        with self.storage() as (system, path):
            paths = [f"{path}/{name}" for name in old]
            if paths and self._in_object_store:
                system.rm(paths)  # many at once
            else:
                for name in paths:
                    system.rm_file(name)
            system.put(list(map(str, files.values())), [f"{path}/{name}" for name in files])
        (self / MARKER).write(folder / MARKER)
        (self / _NOTE).unlink()


Output: TypeAlias = Path | Address


@overload
def beside(path: Path, ending: str) -> Path: ...


@overload
def beside(path: Address, ending: str) -> Address: ...


def beside(path: Output, ending: str) -> Output:
    """Return the path or address with an ending appended to its name."""
    return path.with_name(path.name + ending)
