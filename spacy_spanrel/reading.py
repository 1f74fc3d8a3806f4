"""Reading files that people made: text, lines and JSON, and errors that name the place in the file."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .annotations.relations import RecordId
from .errors import Errors

ErrorHandler = Callable[["ConversionError"], None]


class ConversionError(ValueError):
    """Something in a file that cannot be converted.

    file (str): The file.
    place (str): Where in it: "line 7" (counted from 1) or "record 7, entities[0].end" (counted
        from 0, as in the JSON list).
    id (str | int | None): The id of the record, if it is known.
    found (str): What was there.
    expected (str): What should have been there.
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
    """Where in a file we are; makes the errors of that place.

    file (str): The file.
    name (str): Line or record, and what is inside it.
    id (str | int | None): The id of the record.
    """

    file: str
    name: str = ""
    id: RecordId | None = None

    def at(self, name: str) -> Place:
        """Return a place inside this one."""
        return Place(self.file, f"{self.name}, {name}" if self.name else name, self.id)

    def error(self, text: str, *, found: str, expected: str) -> ConversionError:
        """Return an error of this place."""
        return ConversionError(
            text, file=self.file, place=self.name, id=self.id, found=found, expected=expected
        )

    @property
    def ref(self) -> str:
        """The id if there is one, else file and place: what a report calls the record."""
        return str(self.id) if self.id is not None else f"{self.file}, {self.name}"


def argument_error(name: str, found: str, expected: str) -> ConversionError:
    """Return the error for a wrong argument of a function or command.

    name (str): What the user calls it ("--text-key").
    found, expected (str): Its value, and what it may be.
    RETURNS (ConversionError): To be raised.
    """
    return Place(name).error(Errors.E613, found=found, expected=expected)


def read_text(path: str | Path, record: RecordId | None = None) -> str:
    """Read a UTF-8 file, with or without a byte order mark; errors name file and byte.

    path (str | Path): The file.
    record (str | int | None): What errors call it, if the file is one record.
    RETURNS (str): The text.
    RAISES (ConversionError): If it cannot be read or is no UTF-8.
    """
    place = Place(str(path), "", record)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise place.error(
            Errors.E601, found=error.strerror or str(error), expected="a readable file"
        ) from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise place.at(f"byte {error.start}").error(
            Errors.E602,
            found=f"byte 0x{data[error.start]:02x} at offset {error.start} ({error.reason})",
            expected="UTF-8",
        ) from error
    return text.removeprefix("\ufeff")


def read_lines(path: str | Path, record: RecordId | None = None) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line without its end); arguments as in `read_text`.

    Only a line feed ends a line: `str.splitlines` also cuts at characters that occur inside texts.
    """
    for number, line in enumerate(read_text(path, record).split("\n"), start=1):
        yield number, line.removesuffix("\r")


def read_json(path: str | Path) -> Any:
    """Read a JSON file; errors name line and column."""
    place = Place(str(path))
    text = read_text(path)
    if not text.strip():
        raise place.error(Errors.E609, found="an empty file", expected="JSON")
    return parse_json(text, place)


def read_records(path: str | Path) -> list[Any]:
    """Read a JSON file that is a list of records, one or more."""
    place = Place(str(path))
    data = read_json(path)
    if not isinstance(data, list):
        raise wrong_kind(data, "a list of records [...] at the top", place.at("top level"))
    if not data:
        raise place.error(Errors.E609, found="an empty list", expected="records")
    return data


def parse_json(text: str, place: Place, line: int | None = None) -> Any:
    """Parse JSON; errors name line (`line` if the text is one of a file's lines) and column."""
    # The standard parser: srsly's says that something is wrong, but not where.
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = place.at(f"line {line or error.lineno}, column {error.colno}")
        found = f"{short(text[error.pos : error.pos + 30]) or 'nothing'} ({error.msg})"
        if error.pos >= len(text.rstrip()):
            found = f"the end of the text ({error.msg})"
        raise place.error(Errors.E603, found=found, expected="valid JSON") from error
    except (ValueError, RecursionError) as error:
        if line is not None:
            place = place.at(f"line {line}")
        raise place.error(Errors.E603, found=str(error), expected="valid JSON") from error


def short(value: object) -> str:
    """Return a value's representation, cut to a length that suits a message."""
    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = 60
    return shortener.repr(value)


def wrong_kind(value: object, expected: str, place: Place) -> ConversionError:
    """Return the error for a value of the wrong kind."""
    return place.error(
        Errors.E604, found=f"{short(value)} ({type(value).__name__})", expected=expected
    )


def expect_dict(value: object, place: Place) -> dict[str, Any]:
    """Return the value if it is a JSON object, else raise a ConversionError."""
    if not isinstance(value, dict):
        raise wrong_kind(value, "an object {...}", place)
    return value


def expect_list(value: object, place: Place, length: int | None = None) -> list[Any]:
    """Return the value if it is a list (of that length), else raise a ConversionError."""
    if not isinstance(value, list) or (length is not None and len(value) != length):
        raise wrong_kind(
            value, "a list [...]" if length is None else f"a list of {length} items", place
        )
    return value


def expect_key(record: dict[str, Any], key: str, place: Place) -> Any:
    """Return the value of a key, or raise a ConversionError if it is missing."""
    if key not in record:
        raise place.error(
            Errors.E605,
            found="the keys " + (", ".join(map(repr, record)) or "(none)"),
            expected=f"the key {key!r}",
        )
    return record[key]


def expect_name(value: object, place: Place) -> str:
    """Return the value if it is a string with something in it, else raise a ConversionError."""
    if not isinstance(value, str) or not value.strip():
        raise wrong_kind(value, "a string that is not empty", place)
    return expect_encodable(value, place)


def expect_int(value: object, place: Place) -> int:
    """Return the value if it is an integer (true and false are none), else raise an error."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_kind(value, "an integer", place)
    return value


def expect_encodable(value: str, place: Place) -> str:
    """Return the string if it can be stored: JSON can spell lone surrogates, which cannot."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise wrong_kind(value, "text without lone surrogates", place) from error
    return value


def expect_words(value: object, place: Place, *, allow_empty: bool = False) -> list[str]:
    """Return the value if it is a list of tokens, else raise a ConversionError."""
    words = expect_list(value, place)
    if not words and not allow_empty:
        raise wrong_kind(words, "at least one token", place)
    for i, word in enumerate(words):
        if not isinstance(word, str) or not word:
            raise wrong_kind(word, "a string that is not empty", place.at(f"[{i}]"))
        expect_encodable(word, place.at(f"[{i}]"))
    return words


def expect_id(value: object, place: Place) -> RecordId | None:
    """Return a record's id: a string, an integer or None; else raise a ConversionError."""
    if value is None or (isinstance(value, str) and value == ""):
        return None
    if isinstance(value, str):
        return expect_encodable(value, place)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise wrong_kind(value, "a string or an integer", place)


def expect_offsets(start: int, end: int, length: int, place: Place) -> None:
    """Raise a ConversionError if start and (exclusive) end are no span of `length` tokens."""
    if not 0 <= start < end <= length:
        raise place.error(
            Errors.E606,
            found=f"start {start}, end {end}",
            expected=f"0 <= start < end <= {length} (the number of tokens), end exclusive",
        )


def expect_inclusive_offsets(
    start: object, end: object, length: int, place: Place
) -> tuple[int, int]:
    """Return start and exclusive end of a span that is given with its inclusive end.

    RAISES (ConversionError): If they are no span of `length` tokens.
    """
    first, last = expect_int(start, place), expect_int(end, place)
    if not 0 <= first <= last < length:
        raise place.error(
            Errors.E606,
            found=f"start {first}, end {last}",
            expected=f"0 <= start <= end < {length} (the number of tokens), end inclusive",
        )
    return first, last + 1
