"""Reading files that people made: text, lines and JSON, and errors that name the place in the file."""

from __future__ import annotations

import json
import reprlib
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from .annotations.relations import RecordId
from .errors import Errors

ErrorHandler = Callable[["ConversionError"], None]
Record = TypeVar("Record")

# Longest line of JSON lines. Without a limit, a file without line ends is read into memory as a whole.
MAX_LINE_BYTES = 2**25
_BOM = b"\xef\xbb\xbf"


class ConversionError(ValueError):
    """Something in a file that cannot be converted.

    file (str): The file.
    place (str): The place in it: "line 7" (counted from 1) or "record 7, entities[0], end" (counted
        from 0, as in the JSON list).
    id (str | int | None): The id of the record, if it is known.
    found (str): The value at that place.
    expected (str): What should be there.
    """

    def __init__(
        self,
        text: str,
        *,
        file: str,
        place: str = "",
        id: RecordId | None = None,
        found: str,
        expected: str,
        **more: str,
    ) -> None:
        self.file = file
        self.place = place
        self.id = id
        self.found = found
        self.expected = expected
        where = f"'{file}'"
        if place:
            where += f", {place}"
        if id is not None:
            where += f" (id {id!r})"
        super().__init__(text.format(where=where, found=found, expected=expected, **more))


def raise_error(error: ConversionError) -> None:
    """Raise the error: the default `on_error` of the converters."""
    raise error


@dataclass(frozen=True)
class Place:
    """A place in a file, which makes the errors about it.

    file (str): The file.
    name (str): The line or record, and the place inside it.
    id (str | int | None): The id of the record.
    """

    file: str
    name: str = ""
    id: RecordId | None = None

    def at(self, name: str) -> Place:
        """Return a place inside this one."""
        return Place(self.file, f"{self.name}, {name}" if self.name else name, self.id)

    def error(self, text: str, *, found: str, expected: str) -> ConversionError:
        """Return an error about this place.

        text (str): A message of `Errors`.
        found, expected (str): What is there, and what should be.
        RETURNS (ConversionError): To be raised.
        """
        return ConversionError(
            text, file=self.file, place=self.name, id=self.id, found=found, expected=expected
        )

    @property
    def ref(self) -> str:
        """The record's name in a report: its id if it has one, else file and place."""
        return str(self.id) if self.id is not None else f"{self.file}, {self.name}"


class JsonValue:
    """A value of a JSON file that knows its place, so that every error about it names the place.

    Keys, indices and iteration lead to the values inside; ``as_int`` and its like check a value and
    return it plain: ``record["entities"][0]["start"].as_int()``. A place is put into words only when
    an error needs it, since nearly all values are right.

    raw (Any): The value as the JSON parser returns it.
    parent (Place | JsonValue): The place of a whole record, or the value that holds this one.
    step (str | int): The key or index in the parent, if that is a value.
    """

    __slots__ = ("_parent", "_step", "raw")

    def __init__(self, raw: Any, parent: Place | JsonValue, step: str | int = "") -> None:
        self.raw = raw
        self._parent = parent
        self._step = step

    @property
    def place(self) -> Place:
        """The value's place in the file."""
        if isinstance(self._parent, Place):
            return self._parent
        outer = self._parent.place
        if isinstance(self._step, int):
            return replace(outer, name=f"{outer.name}[{self._step}]")
        return outer.at(self._step)

    @property
    def ref(self) -> str:
        """The record's name in a report, as `Place.ref`."""
        return self.place.ref

    def error(self, text: str, *, found: str, expected: str) -> ConversionError:
        """Return an error about this value, as `Place.error`."""
        return self.place.error(text, found=found, expected=expected)

    def wrong_kind(self, expected: str) -> ConversionError:
        """Return the error that this value is of the wrong kind."""
        return self.error(
            Errors.E604, found=f"{short(self.raw)} ({type(self.raw).__name__})", expected=expected
        )

    def at(self, name: str) -> JsonValue:
        """Return this value under the name of something in it, for an error about several keys."""
        return JsonValue(self.raw, self, name)

    def with_id(self, *keys: str) -> JsonValue:
        """Return this record as one whose id is known, so that errors about its values name it.

        keys (str): Keys that may hold the id; the first one that the record has counts.
        RETURNS (JsonValue): The record; without an id if it has none of the keys.
        RAISES (ConversionError): If this is no object, or the id no string, integer or null.
        """
        fields = self.as_dict()
        for key in keys:
            if key in fields:
                id = JsonValue(fields[key], self, key).as_id()
                return JsonValue(fields, replace(self.place, id=id))
        return self

    # Values inside this one

    def __getitem__(self, key: str) -> JsonValue:
        """Return the value of a key; an error if this is no object or lacks the key."""
        fields = self.as_dict()
        if key not in fields:
            raise self.missing(f"the key {key!r}")
        return JsonValue(fields[key], self, key)

    def get(self, key: str) -> JsonValue | None:
        """Return the value of a key that may be missing or null: then None."""
        value = self.as_dict().get(key)
        return None if value is None else JsonValue(value, self, key)

    def missing(self, expected: str) -> ConversionError:
        """Return the error that this object lacks a key."""
        keys = ", ".join(map(repr, self.as_dict())) or "(none)"
        return self.error(Errors.E605, found=f"the keys {keys}", expected=expected)

    def items(self) -> Iterator[tuple[str, JsonValue]]:
        """Yield keys and values of an object."""
        for key, value in self.as_dict().items():
            yield key, JsonValue(value, self, key)

    def __iter__(self) -> Iterator[JsonValue]:
        """Yield the items of a list."""
        for i, value in enumerate(self.as_list()):
            yield JsonValue(value, self, i)

    # Plain values: each method raises a ConversionError if the value is of another kind

    def as_dict(self) -> dict[str, Any]:
        """Return an object."""
        if not isinstance(self.raw, dict):
            raise self.wrong_kind("an object {...}")
        return self.raw

    def as_list(self, length: int | None = None) -> list[Any]:
        """Return a list, of this length if one is given."""
        if not isinstance(self.raw, list) or (length is not None and len(self.raw) != length):
            raise self.wrong_kind("a list [...]" if length is None else f"a list of {length} items")
        return self.raw

    def as_int(self) -> int:
        """Return an integer; true and false are none."""
        if not isinstance(self.raw, int) or isinstance(self.raw, bool):
            raise self.wrong_kind("an integer")
        return self.raw

    def as_number(self) -> float:
        """Return a finite number from 0 on; true and false are none."""
        value = self.raw
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not 0 <= value <= sys.float_info.max
        ):
            raise self.wrong_kind("a finite number from 0 on")
        return float(value)

    def as_bool(self) -> bool:
        """Return true or false."""
        if not isinstance(self.raw, bool):
            raise self.wrong_kind("true or false")
        return self.raw

    def as_str(self) -> str:
        """Return a string that can be stored: JSON can spell lone surrogates, which cannot."""
        if not isinstance(self.raw, str):
            raise self.wrong_kind("a string")
        try:
            self.raw.encode("utf-8")
        except UnicodeEncodeError as error:
            raise self.wrong_kind("text without lone surrogates") from error
        return self.raw

    def as_name(self) -> str:
        """Return a string that is not blank."""
        if not isinstance(self.raw, str) or not self.raw.strip():
            raise self.wrong_kind("a string that is not empty")
        return self.as_str()

    def as_id(self) -> RecordId | None:
        """Return the id of a record: a string or an integer; None if it is null or empty."""
        if self.raw is None or self.raw == "":
            return None
        if isinstance(self.raw, str):
            return self.as_str()
        if isinstance(self.raw, int) and not isinstance(self.raw, bool):
            return self.raw
        raise self.wrong_kind("a string or an integer")

    def as_words(self, *, allow_empty: bool = False) -> list[str]:
        """Return a list of tokens, of at least one unless `allow_empty`."""
        words = self.as_list()
        if not words and not allow_empty:
            raise self.wrong_kind("at least one token")
        for word in self:
            if not isinstance(word.raw, str) or not word.raw:
                raise word.wrong_kind("a string that is not empty")
            word.as_str()
        return words


# The subject of an error or of a line in a report: a place, or a value, which knows its place.
Where = Place | JsonValue


def argument_error(name: str, found: str, expected: str) -> ConversionError:
    """Return the error for a wrong argument of a function or command.

    name (str): The argument as the user knows it ("--text-key").
    found, expected (str): Its value, and the values that it may have.
    RETURNS (ConversionError): To be raised.
    """
    return Place(name).error(Errors.E613, found=found, expected=expected)


def short(value: object) -> str:
    """Return a value's representation, cut to a length that suits a message."""
    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = 60
    return shortener.repr(value)


def not_empty(records: Iterable[Record], path: str | Path, expected: str) -> Iterator[Record]:
    """Pass on the records of a file; a ConversionError at the end if there were none.

    records (Iterable[Record]): The records.
    path (str | Path): The file.
    expected (str): What a file holds, in words: "sentences".
    YIELDS (Record): The same records.
    """
    is_empty = True
    for record in records:
        is_empty = False
        yield record
    if is_empty:
        raise Place(str(path)).error(Errors.E609, found="an empty file", expected=expected)


def parse_count(text: str) -> int | None:
    """Return an integer from 0 on that is written in digits; None if the text is no such integer.

    More than 18 digits are none: no offset is as large, and Python refuses to parse thousands.
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


# Text


def read_text(path: str | Path, record: RecordId | None = None) -> str:
    """Read a UTF-8 file, with or without a byte order mark; errors name file and byte.

    path (str | Path): The file.
    record (str | int | None): The id that errors name, if the file is one record.
    RETURNS (str): The text.
    RAISES (ConversionError): If the file cannot be read or is not UTF-8.
    """
    place = Place(str(path), "", record)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise unreadable(place, error) from error
    return decode(data, place).removeprefix("\ufeff")


def read_lines(path: str | Path, record: RecordId | None = None) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line without its end); arguments as in `read_text`.

    Only a line feed ends a line: `str.splitlines` also cuts at characters that occur inside texts.
    """
    for number, line in enumerate(read_text(path, record).split("\n"), start=1):
        yield number, line.removesuffix("\r")


def unreadable(place: Place, error: OSError) -> ConversionError:
    """Return the error that a file cannot be opened or read."""
    return place.error(Errors.E601, found=error.strerror or str(error), expected="a readable file")


def decode(data: bytes, place: Place) -> str:
    """Decode UTF-8. RAISES (ConversionError): If the bytes are something else."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise place.at(f"byte {error.start}").error(
            Errors.E602,
            found=f"byte 0x{data[error.start]:02x} at offset {error.start} ({error.reason})",
            expected="UTF-8",
        ) from error


def split_lines(file: BinaryIO, max_bytes: int) -> Iterator[tuple[bytes, bool]]:
    """Yield each line with its line feed, which alone ends a line, and whether this is all of it.

    Of a longer line, `max_bytes` and one byte more are kept. A byte order mark is left out.
    """
    mark = _BOM
    while data := file.readline(max_bytes + 1):
        whole = len(data) <= max_bytes
        rest = data
        while not whole and not rest.endswith(b"\n") and (rest := file.readline(2**16)):
            pass
        yield data.removeprefix(mark), whole
        mark = b""


# JSON


def read_json(path: str | Path) -> JsonValue:
    """Read a JSON file; errors name line and column.

    path (str | Path): The file.
    RETURNS (JsonValue): Its value.
    RAISES (ConversionError): If the file cannot be read, is empty, or is no JSON.
    """
    place = Place(str(path))
    text = read_text(path)
    if not text.strip():
        raise place.error(Errors.E609, found="an empty file", expected="JSON")
    return JsonValue(parse_json(text, place), place)


def read_json_list(path: str | Path) -> list[JsonValue]:
    """Read the records of a JSON file that is a list of at least one.

    path (str | Path): The file.
    RETURNS (list[JsonValue]): The records; the place of each is "record " and its number from 0.
    RAISES (ConversionError): As `read_json`, and if the file is no list or an empty one.
    """
    top = read_json(path)
    if not isinstance(top.raw, list):
        raise top.at("top level").wrong_kind("a list of records [...] at the top")
    if not top.raw:
        raise top.error(Errors.E609, found="an empty list", expected="records")
    return [JsonValue(raw, Place(str(path), f"record {i}")) for i, raw in enumerate(top.raw)]


def read_json_lines(path: str | Path) -> Iterator[JsonValue | ConversionError]:
    """Read JSON lines one by one, so that the file need not fit in memory.

    path (str | Path): The file.
    YIELDS (JsonValue | ConversionError): The value of each line that is not blank; for a line that
        is too long or no JSON the error, so that the caller may go on with the next one.
    RAISES (ConversionError): If the file cannot be read, is not UTF-8, or has no values.
    """
    return not_empty(_json_lines(path), path, "records")


def _json_lines(path: str | Path) -> Iterator[JsonValue | ConversionError]:
    file_place = Place(str(path))
    try:
        with Path(path).open("rb") as file:
            for number, (line, whole) in enumerate(split_lines(file, MAX_LINE_BYTES), start=1):
                place = file_place.at(f"line {number}")
                if not whole:
                    beginning = short(line[:60].decode(errors="replace"))
                    yield place.error(
                        Errors.E620,
                        found=f"a line that begins with {beginning}",
                        expected=f"at most {MAX_LINE_BYTES} bytes",
                    )
                    continue
                # A wrong encoding is raised: it is that of the whole file, not of one bad record.
                text = decode(line, place).rstrip("\r\n")
                if text.strip():
                    try:
                        yield JsonValue(parse_json(text, file_place, number), place)
                    except ConversionError as error:
                        yield error
    except OSError as error:
        raise unreadable(file_place, error) from error


def read_json_records(path: str | Path) -> Iterator[JsonValue | ConversionError]:
    """Read a file of JSON lines or, if it begins with "[", a JSON list; see the two readers."""
    try:
        with Path(path).open("rb") as file:
            is_list = file.read(1024).removeprefix(_BOM).lstrip().startswith(b"[")
    except OSError as error:
        raise unreadable(Place(str(path)), error) from error
    yield from read_json_list(path) if is_list else read_json_lines(path)


def parse_json(text: str, place: Place, line: int | None = None) -> Any:
    """Parse JSON; errors name line and column.

    text (str): The JSON.
    place (Place): The file, or the record in it.
    line (int | None): The number of the line, if the text is one line of a file.
    RETURNS (Any): The value.
    RAISES (ConversionError): If the text is no JSON.
    """
    expected = "valid JSON" if line is None else "valid JSON, a whole record in each line"
    # The standard parser: srsly's says that something is wrong, but not where.
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = place.at(f"line {line or error.lineno}, column {error.colno}")
        found = f"{short(text[error.pos : error.pos + 30]) or 'nothing'} ({error.msg})"
        if error.pos >= len(text.rstrip()):
            found = f"the end of the {'text' if line is None else 'line'} ({error.msg})"
        raise place.error(Errors.E603, found=found, expected=expected) from error
    except (ValueError, RecursionError) as error:
        # A number of too many digits, or too many brackets inside each other.
        if line is not None:
            place = place.at(f"line {line}")
        raise place.error(Errors.E603, found=str(error), expected=expected) from error
