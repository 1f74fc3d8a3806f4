"""Lines of a file and items of a JSON list as bytes, from any offset, and never more in memory than
a row may have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

BOM = b"\xef\xbb\xbf"
_BLOCK = 1 << 16
_OUTSIDE = re.compile(rb'["\[\]{},]')
_INSIDE = re.compile(rb'["\\]')


class Piece(NamedTuple):
    """A piece of a file.

    data (bytes): Its bytes, or the first of them if there are too many.
    whole (bool): Whether these are all.
    end (int): Offset of what comes next.
    closed (bool): Items only: whether the list ends here.
    problem (str): Items only: what is wrong, if this is no item.
    """

    data: bytes
    whole: bool
    end: int
    closed: bool = False
    problem: str = ""


def split_lines(file: BinaryIO, start: int, max_bytes: int) -> Iterator[Piece]:
    """Cut a file into lines; only a line feed ends a line.

    file (BinaryIO): The file, buffered.
    start (int): Where to begin: 0, or the `end` of a line.
    max_bytes (int): Most bytes of a line that are kept.
    YIELDS (Piece): Each line with its line feed; a byte order mark is left out.
    """
    file.seek(start)
    end = start
    while data := file.readline(max_bytes + 1):
        end += len(data)
        whole = len(data) <= max_bytes
        last = data
        while not whole and not last.endswith(b"\n") and (last := file.readline(_BLOCK)):
            end += len(last)
        if end == len(data):
            data = data.removeprefix(BOM)
        yield Piece(data, whole, end)


def list_start(file: BinaryIO) -> int | None:
    """Return the offset behind the `[` with which a JSON file begins; None if it does not."""
    file.seek(0)
    offset = len(BOM) if file.read(len(BOM)) == BOM else 0
    file.seek(offset)
    while block := file.read(_BLOCK):
        rest = block.lstrip()
        if rest:
            return offset + len(block) - len(rest) + 1 if rest.startswith(b"[") else None
        offset += len(block)
    return None


def split_items(
    file: BinaryIO, start: int, max_bytes: int, *, closed: bool = False
) -> Iterator[Piece]:
    """Cut a JSON list into its items, which are not parsed.

    file (BinaryIO): The file.
    start (int): Where to begin: `list_start`, or the `end` of an item.
    max_bytes (int): Most bytes of an item that are kept.
    closed (bool): Whether the item before was the last one.
    YIELDS (Piece): Each item; then what stands behind the list, or that it has no end.
    """
    file.seek(start)
    if closed:
        yield from _behind(file, start, b"", max_bytes)
        return
    item = bytearray()
    size = depth = 0
    in_string = escaped = False
    offset = start
    while block := file.read(_BLOCK):
        begin, at = 0, int(escaped)
        escaped = False
        while found := (_INSIDE if in_string else _OUTSIDE).search(block, at):
            at = found.end()
            char = found.group()
            if in_string:
                if char == b'"':
                    in_string = False
                else:  # what follows a backslash ends nothing
                    escaped = at == len(block)
                    at += 1
            elif char == b'"':
                in_string = True
            elif char in b"[{":
                depth += 1
            elif depth:
                depth -= char in b"]}"
            elif char in b",]":
                item += block[begin : at - 1][: max_bytes + 1 - len(item)]
                size += at - 1 - begin
                # Nothing before the bracket: the list is empty, or has a comma too many.
                if char == b"," or item.strip():
                    yield Piece(bytes(item), size <= max_bytes, offset + at, char == b"]")
                item.clear()
                begin, size = at, 0
                if char == b"]":
                    yield from _behind(file, offset + len(block), block[at:], max_bytes)
                    return
        item += block[begin:][: max_bytes + 1 - len(item)]
        size += len(block) - begin
        offset += len(block)
    yield Piece(bytes(item), size <= max_bytes, offset, True, "the end of the file before ']'")


def _behind(file: BinaryIO, offset: int, rest: bytes, max_bytes: int) -> Iterator[Piece]:
    """Yield what stands behind the end of the list, as one piece, if it is more than white space."""
    kept = rest.lstrip()
    size = len(kept)
    while block := file.read(_BLOCK):
        offset += len(block)
        part = block if kept else block.lstrip()
        kept += part[: max(0, max_bytes - len(kept))]
        size += len(part)
    if kept:
        yield Piece(kept, size <= max_bytes, offset, True, "more behind the end of the list")
