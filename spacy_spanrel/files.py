"""Files and folders that are there as a whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from spacy.language import Language


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give a place beside a path, and put what is there in its stead at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, because a file can be replaced in one step only within a file system.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there as a whole or not at all, and an old one stays till then.

    path (Path): The file; its folder is made if needed.
    data (bytes): What is in it.
    """
    with _replacing(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def open_whole(path: Path) -> Iterator[TextIO]:
    """Open a text file to be written as `write_whole` does: for what does not fit in memory.

    path (Path): The file.
    YIELDS (TextIO): It, UTF-8; line ends are written as they are.
    """
    with _replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        yield file


def place_whole(folder: Path, write: Callable[[Path], object]) -> None:
    """Write a folder so that it is there as a whole, and an old one stays till then.

    folder (Path): The folder, replaced if it exists.
    write (Callable[[Path], object]): Makes it at another place.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        made, old = Path(name) / "new", Path(name) / "old"
        write(made)
        if folder.exists():
            os.replace(folder, old)
        try:
            os.replace(made, folder)
        except OSError:
            if old.exists():
                os.replace(old, folder)
            raise


def save_whole(nlp: Language, folder: Path) -> None:
    """Save a pipeline as `place_whole` does."""
    place_whole(folder, nlp.to_disk)
