"""Character offsets of other programs.

Annotation tools keep a text and, beside it, spans by their offsets. Programs differ in what they
count: Python counts code points, JavaScript counts UTF-16 units, of which an emoji is two, and a
browser may take the two characters of a line end for one. Where a format quotes the text of a span,
the unit that fits the quotes is the one that was counted.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import Errors
from ..reading import Where, short
from .common import wrong_offsets
from .report import ConversionReport


@dataclass(frozen=True)
class OffsetUnit:
    """The thing that a program counts.

    name (str): Its name in words.
    pattern (re.Pattern[str] | None): Matches whatever the program counts otherwise than Python:
        characters beyond U+FFFF, which are two, and line ends of two characters, which are one.
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
    """Translates offsets in a text between a unit and code points, by binary search.

    text (str): The text.
    unit (OffsetUnit): The unit of the other program.
    """

    def __init__(self, text: str, unit: OffsetUnit) -> None:
        self._length = len(text)
        # The ends of whatever is counted differently, in units and in characters.
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
    """A span as a file gives it.

    fragments (tuple[tuple[int, int], ...]): Its offsets, ends exclusive; mostly one pair.
    quote (str | None): Its text, if the file quotes it.
    where (Place | JsonValue): Its place in the file.
    """

    fragments: Fragments
    quote: str | None
    where: Where


# Grades of how a quote fits.
_EXACTLY, _BUT_FOR_BLANKS, _NOT_AT_ALL = 2, 1, 0


def locate(text: str, spans: Sequence[QuotedSpan], report: ConversionReport) -> list[Fragments]:
    """Return the places of spans in a text, in code points.

    The unit of a text's offsets is the one in which most spans cover the text that the file quotes.
    Blanks do not count in the comparison: tools quote line ends in several ways.

    text (str): The text.
    spans (Sequence[QuotedSpan]): The spans.
    report (ConversionReport): Counts texts whose offsets are converted.
    RETURNS (list[Fragments]): Their offsets in code points.
    RAISES (ConversionError): If a span is outside the text, or does not cover its quote.
    """
    best: tuple[tuple[int, int], OffsetUnit, list[tuple[Fragments | None, int]]] | None = None
    for unit in OFFSET_UNITS:
        offsets = Offsets(text, unit)
        if unit is not CODE_POINTS and not offsets.differ:
            continue
        matches = [_match(text, span, offsets) for span in spans]
        fits = [fit for _, fit in matches]
        score = (len(fits) - fits.count(_NOT_AT_ALL), sum(fits))
        if best is None or score > best[0]:
            best = score, unit, matches
        if score == (len(spans), _EXACTLY * len(spans)):
            break
    assert best is not None  # code points are always tried
    _, unit, matches = best
    located = []
    for span, (fragments, fit) in zip(spans, matches, strict=True):
        if fragments is None:
            raise wrong_offsets(span.fragments[0][0], span.fragments[-1][1], text, span.where)
        if fit == _NOT_AT_ALL:
            there = " ".join(text[start : min(end, start + 80)] for start, end in fragments)
            given = ";".join(f"{start} {end}" for start, end in span.fragments)
            raise span.where.error(
                Errors.E623,
                found=f"{short(there)} at {given}",
                expected=f"{short(span.quote)}, as the file says",
            )
        located.append(fragments)
    if unit is not CODE_POINTS:
        report.notes[f"texts whose offsets count {unit.name}, converted"] += 1
    return located


def _match(text: str, span: QuotedSpan, offsets: Offsets) -> tuple[Fragments | None, int]:
    """Return the fragments of a span in code points, if there are any, and how its quote fits."""
    fragments = []
    for first, last in span.fragments:
        start, end = offsets.to_char(first), offsets.to_char(last)
        if start is None or end is None or start >= end:
            return None, _NOT_AT_ALL
        fragments.append((start, end))
    located = tuple(fragments)
    if span.quote is None:
        return located, _EXACTLY
    # A wrong end may be far away: texts that differ much in length are not compared.
    size = sum(end - start for start, end in located)
    if size > 2 * len(span.quote) + 100 or len(span.quote) > 2 * size + 100:
        return located, _NOT_AT_ALL
    texts = [text[start:end] for start, end in located]
    if span.quote == " ".join(texts):
        return located, _EXACTLY
    same = _without_blanks(span.quote) == _without_blanks("".join(texts))
    return located, _BUT_FOR_BLANKS if same else _NOT_AT_ALL


def _without_blanks(text: str) -> str:
    # Old versions of Label Studio quote a line end as \n, with the backslash.
    return "".join(text.replace("\\n", " ").split())
