"""What the formats of annotation tools share: JSON records, texts with offsets, and the way back.

These tools keep a text and, beside it, spans by their offsets. Programs differ in what they count:
Python counts code points, JavaScript counts UTF-16 units, of which an emoji is two, and a browser
may take the two characters of a line end for one. Where a format quotes the text of a span, the
unit is chosen that fits the quotes.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc

from ..annotations.relations import RecordId, get_orig_id
from ..errors import Errors
from ..reading import (
    ConversionError,
    ErrorHandler,
    Place,
    expect_dict,
    expect_encodable,
    expect_list,
    expect_name,
    parse_json,
    read_records,
    short,
    wrong_kind,
)
from .common import ConversionReport, Edge, Entity, ExportReport, char_entity
from .writing import read_annotations

# More is no record of these tools; without a limit, a file without line ends is read as a whole.
MAX_LINE_BYTES = 2**25
_BOM = b"\xef\xbb\xbf"


# Reading records


def read_objects(
    path: str | Path, *, on_error: ErrorHandler, report: ConversionReport
) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield the records of a file of JSON lines, or of a JSON list, one by one.

    path (str | Path): The file.
    on_error (Callable[[ConversionError], None]): What to do about a record that is no JSON object.
    report (ConversionReport): Is added to.
    YIELDS (tuple[Place, dict[str, Any]]): Where the record is, and the record.
    RAISES (ConversionError): If the file, or unless `on_error` goes on a record, is bad.
    """
    file = Place(str(path))
    empty = True
    for place, record in _list_items(path) if _is_list(path) else _lines(path):
        empty = False
        try:
            if isinstance(record, ConversionError):
                raise record
            fields = expect_dict(record, place)
        except ConversionError as error:
            report.skip(error, on_error)
            continue
        yield place, fields
    if empty:
        raise file.error(Errors.E609, found="an empty file", expected="records")


def _cannot_read(path: str | Path, error: OSError) -> ConversionError:
    return Place(str(path)).error(
        Errors.E601, found=error.strerror or str(error), expected="a readable file"
    )


def _is_list(path: str | Path) -> bool:
    """Whether a file begins as a JSON list; a line of JSON lines is an object."""
    try:
        with Path(path).open("rb") as file:
            return file.read(1024).removeprefix(_BOM).lstrip().startswith(b"[")
    except OSError as error:
        raise _cannot_read(path, error) from error


def _list_items(path: str | Path) -> Iterator[tuple[Place, Any]]:
    for number, record in enumerate(read_records(path)):
        yield Place(str(path), f"record {number}"), record


def _lines(path: str | Path) -> Iterator[tuple[Place, Any]]:
    """Yield the value of each line that is not blank, or the error in it."""
    file = Place(str(path))
    for number, line in enumerate(_raw_lines(path), start=1):
        place = file.at(f"line {number}")
        if len(line) > MAX_LINE_BYTES:
            yield (
                place,
                place.error(
                    Errors.E620,
                    found=f"a line that begins with {short(line[:60].decode(errors='replace'))}",
                    expected=f"at most {MAX_LINE_BYTES} bytes",
                ),
            )
            continue
        try:
            text = line.removeprefix(_BOM if number == 1 else b"").decode("utf-8")
        except UnicodeDecodeError as error:
            # This is about the whole file.
            raise place.at(f"byte {error.start}").error(
                Errors.E602,
                found=f"byte 0x{error.object[error.start]:02x} ({error.reason})",
                expected="UTF-8",
            ) from error
        if text.strip():
            try:
                yield place, parse_json(text, file, number)
            except ConversionError as error:
                yield place, error


def _raw_lines(path: str | Path) -> Iterator[bytes]:
    """Yield lines with their ends; of one that is too long its beginning, a byte over the limit."""
    try:
        with Path(path).open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                rest = line
                while rest and not rest.endswith(b"\n") and len(line) > MAX_LINE_BYTES:
                    rest = file.readline(2**16)
                yield line
    except OSError as error:
        raise _cannot_read(path, error) from error


def optional_list(fields: dict[str, Any], key: str, place: Place) -> list[Any]:
    """Return the list of a key that may be missing or null: then it is empty."""
    value = fields.get(key)
    return [] if value is None else expect_list(value, place.at(key))


def expect_text(value: object, place: Place) -> str:
    """Return the value if it is a string, even an empty one, else raise a ConversionError."""
    if not isinstance(value, str):
        raise wrong_kind(value, "a string", place)
    return expect_encodable(value, place)


def expect_label(
    value: object, what: str, name: str, place: Place, report: ConversionReport
) -> str:
    """Return a label; where the tool has none, the name that stands for it, and count that."""
    if value is None or value == "":
        report.notes[f"{what} without a label, called {name}"] += 1
        return name
    return expect_name(value, place)


# Texts and offsets


def tokenize(pipeline: Language, text: str, place: Place, counted: str = "spans") -> Doc:
    """Make the Doc of a text, which stays as it is.

    pipeline (Language): Its tokenizer is used.
    text (str): The text; it may be empty.
    place (Place): Where it is.
    counted (str): What is counted in its characters, for the message.
    RETURNS (Doc): The Doc; `doc.text == text`.
    RAISES (ConversionError): If the text is too long, or the tokenizer changes it.
    """
    try:
        doc = pipeline.make_doc(text)
    except ValueError as error:  # too long
        raise place.error(
            Errors.E617,
            found=f"{len(text)} characters ({short(text)}): {error}",
            expected="a text that the tokenizer takes",
        ) from error
    if doc.text != text:
        raise place.error(
            Errors.E617,
            found=f"{short(doc.text)} after tokenization",
            expected=f"{short(text)}, as {counted} are counted in its characters; choose another "
            "tokenizer",
        )
    return doc


def text_entity(
    doc: Doc,
    text: str,
    start: int,
    end: int,
    label: str,
    *,
    place: Place,
    report: ConversionReport,
) -> Entity:
    """Return the entity at character offsets: blanks around it cut off, widened to whole tokens.

    doc (Doc): The tokenized text.
    text (str): Its text.
    start, end (int): Where it is, in code points, end exclusive.
    label (str): Its type.
    place (Place): The record.
    report (ConversionReport): Is added to.
    RETURNS (Entity): The entity by token offsets.
    RAISES (ConversionError): If there is nothing at these offsets.
    """
    if not 0 <= start < end <= len(text):
        raise wrong_offsets(start, end, text, place)
    if doc.char_span(start, end) is None:
        part = text[start:end]
        if not part.strip():
            raise place.error(
                Errors.E606,
                found=f"start {start}, end {end}, and nothing but blanks there",
                expected="some text there",
            )
        if part != part.strip():
            start += len(part) - len(part.lstrip())
            end = start + len(part.strip())
            report.notes["entities with blanks around them, cut off"] += 1
    return char_entity(doc, start, end, label, place=place, report=report)


def wrong_offsets(start: int, end: int, text: str, place: Place) -> ConversionError:
    """Return the error for offsets that are no part of a text."""
    return place.error(
        Errors.E606,
        found=f"start {start}, end {end}",
        expected=f"0 <= start < end <= {len(text)} (the number of characters), end exclusive",
    )


@dataclass(frozen=True)
class OffsetUnit:
    """What a program counts.

    name (str): In words.
    pattern (re.Pattern[str] | None): What it does not count as Python does: characters beyond
        U+FFFF, which are two, and the two characters of a line end, which are one.
    """

    name: str
    pattern: re.Pattern[str] | None = None


_ASTRAL = "[\U00010000-\U0010ffff]"
CODE_POINTS = OffsetUnit("code points")
UTF16_UNITS = OffsetUnit("UTF-16 units", re.compile(_ASTRAL))
OFFSET_UNITS = (
    CODE_POINTS,
    UTF16_UNITS,
    OffsetUnit("code points, a line end of two as one", re.compile("\r\n")),
    OffsetUnit("UTF-16 units, a line end of two as one", re.compile(f"{_ASTRAL}|\r\n")),
)


class Offsets:
    """Offsets in a text, in the unit of another program and in Python's.

    text (str): The text.
    unit (OffsetUnit): What the program counts.
    """

    def __init__(self, text: str, unit: OffsetUnit) -> None:
        self._length = len(text)
        # Where the things end that are counted differently, in units and in characters.
        self._units, self._chars = [0], [0]
        for match in unit.pattern.finditer(text) if unit.pattern is not None else ():
            # One character that is two units, or two that are one.
            size = 3 - len(match.group())
            self._units.append(self._units[-1] + match.start() - self._chars[-1] + size)
            self._chars.append(match.end())

    @property
    def differ(self) -> bool:
        """Whether the text has anything that the unit counts differently."""
        return len(self._chars) > 1

    def to_char(self, offset: int) -> int | None:
        """Return the offset in code points; None if it is outside or inside a character."""
        i = bisect_right(self._units, offset) - 1
        char = self._chars[i] + offset - self._units[i]
        is_inside = i + 1 < len(self._chars) and char >= self._chars[i + 1]
        return None if offset < 0 or is_inside or char > self._length else char

    def to_unit(self, char: int) -> int:
        """Return an offset in code points in the unit."""
        i = bisect_right(self._chars, char) - 1
        return self._units[i] + char - self._chars[i]


Fragments = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class QuotedSpan:
    """A span as it is in a file.

    fragments (tuple[tuple[int, int], ...]): Its offsets, ends exclusive; mostly one pair.
    quote (str | None): What the file says is there; None if it does not say.
    place (Place): Where in the file it is.
    """

    fragments: Fragments
    quote: str | None
    place: Place


def locate(text: str, spans: Sequence[QuotedSpan], report: ConversionReport) -> list[Fragments]:
    """Return where spans are in a text, in code points.

    The unit of a text's offsets is the one in which most spans cover what the file quotes. Blanks
    do not count in the comparison: tools quote line ends in several ways.

    text (str): The text.
    spans (Sequence[QuotedSpan]): The spans.
    report (ConversionReport): Is added to.
    RETURNS (list[Fragments]): Their offsets in code points.
    RAISES (ConversionError): If one is outside the text, or does not cover its quote.
    """
    best: tuple[tuple[int, int], OffsetUnit, list[tuple[Fragments | None, int]]] | None = None
    for unit in OFFSET_UNITS:
        offsets = Offsets(text, unit)
        if unit is not CODE_POINTS and not offsets.differ:
            continue
        found = [_find(text, span, offsets) for span in spans]
        fits = [fit for _, fit in found]
        score = (len(fits) - fits.count(0), sum(fits))
        if best is None or score > best[0]:
            best = score, unit, found
        if score == (len(spans), _EXACTLY * len(spans)):
            break
    assert best is not None  # code points are always tried
    _, unit, found = best
    located = []
    for span, (fragments, fit) in zip(spans, found, strict=True):
        if fragments is None:
            raise wrong_offsets(span.fragments[0][0], span.fragments[-1][1], text, span.place)
        if not fit:
            there = " ".join(text[start : min(end, start + 80)] for start, end in fragments)
            raise span.place.error(
                Errors.E623,
                found=f"{short(there)} at {_in_words(span.fragments)}",
                expected=f"{short(span.quote)}, as the file says",
            )
        located.append(fragments)
    if unit is not CODE_POINTS:
        report.notes[f"texts whose offsets count {unit.name}, converted"] += 1
    return located


# How well a quote fits.
_EXACTLY, _BUT_FOR_BLANKS = 2, 1


def _find(text: str, span: QuotedSpan, offsets: Offsets) -> tuple[Fragments | None, int]:
    """Return the fragments of a span and how well its quote fits: 0 for not at all."""
    fragments = []
    for first, last in span.fragments:
        start, end = offsets.to_char(first), offsets.to_char(last)
        if start is None or end is None or start >= end:
            return None, 0
        fragments.append((start, end))
    located = tuple(fragments)
    if span.quote is None:
        return located, _EXACTLY
    # A wrong end may be far away: what differs much in length is not compared.
    size = sum(end - start for start, end in located)
    if size > 2 * len(span.quote) + 100 or len(span.quote) > 2 * size + 100:
        return located, 0
    pieces = [text[start:end] for start, end in located]
    if span.quote == " ".join(pieces):
        return located, _EXACTLY
    same = _without_blanks(span.quote) == _without_blanks("".join(pieces))
    return located, _BUT_FOR_BLANKS if same else 0


def _without_blanks(text: str) -> str:
    # Old versions of Label Studio quote a line end as \n, with the backslash.
    return "".join(text.replace("\\n", " ").split())


def _in_words(fragments: Fragments) -> str:
    return ";".join(f"{start} {end}" for start, end in fragments)


# The way back


@dataclass(frozen=True)
class TextAnnotations:
    """What these formats hold of a Doc.

    id (str | int | None): The id of its record, if it has one.
    text (str): Its text.
    entities (list[Entity]): By tokens, each once.
    bounds (list[tuple[int, int]]): Where they are in the text, ends exclusive.
    relations (list[Edge]): By indices of entities, each once.
    """

    id: RecordId | None
    text: str
    entities: list[Entity]
    bounds: list[tuple[int, int]]
    relations: list[Edge]

    @property
    def has_overlaps(self) -> bool:
        """Whether entities overlap."""
        return any(first[1] > second[0] for first, second in pairwise(sorted(self.bounds)))

    def count(self, report: ExportReport) -> None:
        """Count everything as written."""
        report.docs += 1
        report.entities += len(self.entities)
        report.relations += len(self.relations)


def read_text_annotations(doc: Doc, report: ExportReport) -> TextAnnotations:
    """Read a Doc, gold or predicted, for a format of these tools.

    doc (Doc): The Doc.
    report (ExportReport): Gets notes on what is left out or changed.
    RETURNS (TextAnnotations): They are not counted yet.
    """
    entities, relations = read_annotations(doc, report)
    spans = [doc[entity.start : entity.end] for entity in entities]
    text = doc.text
    if doc.has_unknown_spaces and len(doc):
        report.notes["Docs with given tokens, written with a blank between each two"] += 1
        # Nobody wrote the blank behind the last one.
        text = text[: doc[-1].idx + len(doc[-1])]
    bounds = [(span.start_char, span.end_char) for span in spans]
    return TextAnnotations(get_orig_id(doc), text, entities, bounds, relations)
