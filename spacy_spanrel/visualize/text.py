"""Text on its way into a picture: what markup can hold, how wide it is, in which direction it runs."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from ..markup import clean

# Width of a character in a monospace font, and of one that fills a square, in em.
NARROW = 0.6
SQUARE = 1.0
EMOJI = 1.25

ZERO_WIDTH_JOINER = "\u200d"
EMOJI_STYLE = "\ufe0f"
ELLIPSIS = "\u2026"
# First strong isolate, and its end: what is between them does not turn what is around it.
ISOLATE, END_ISOLATE = "\u2068", "\u2069"

_LINE_END = "\n\v\f\r\x85\u2028\u2029"


def one_line(text: str) -> str:
    """Return text without control characters, with a plain space for each that breaks lines."""
    return clean("".join(" " if char in "\t" + _LINE_END else char for char in text))


def breaks_line(text: str) -> bool:
    """Return whether a token is white space with the end of a line in it."""
    return text.isspace() and any(char in _LINE_END for char in text)


def em_width(text: str) -> float:
    """Estimate the width of text in a monospace font, in em.

    Latin, Greek, Cyrillic and their like are exact. Other scripts come from other fonts, whose widths
    nobody knows: there the picture tells the browser how wide the text has to be.

    text (str): The text, without line ends.
    RETURNS (float): Its width.
    """
    total = 0.0
    last = 0.0  # width of the character before, if another one can still change it
    joined = False
    flag = False  # after the first half of a flag
    for char in text:
        category = unicodedata.category(char)
        if char == EMOJI_STYLE and last:
            total, last = total + EMOJI - last, EMOJI
        elif char == ZERO_WIDTH_JOINER:
            joined = last == EMOJI
        elif category in ("Mn", "Me", "Cf"):
            continue
        elif "\U0001f3fb" <= char <= "\U0001f3ff" and last == EMOJI:
            continue  # the colour of the emoji before
        elif joined:
            joined = False
        elif "\U0001f1e6" <= char <= "\U0001f1ff":
            total, last, flag = total + (0.0 if flag else EMOJI), EMOJI, not flag
            continue
        else:
            last = _char_width(char)
            total += last
        flag = False
    return total


def _char_width(char: str) -> float:
    if unicodedata.category(char) == "Mc":
        return NARROW / 2  # the vowels of Indic scripts
    if unicodedata.east_asian_width(char) not in "WF":
        return NARROW
    return EMOJI if unicodedata.category(char) == "So" and char >= "\u2600" else SQUARE


def shorten(text: str, width: float) -> str:
    """Cut text to a width in em, with an ellipsis at its end if anything was cut."""
    if em_width(text) <= width:
        return text
    kept = 1
    while em_width(text[: kept + 1] + ELLIPSIS) <= width:
        kept += 1
    return text[:kept].rstrip() + ELLIPSIS


def direction_of(text: str) -> int:
    """Return 1 for text that runs to the right, -1 for text that runs to the left, 0 for neither.

    The first letter decides; digits and punctuation have no direction of their own.
    """
    for char in text:
        kind = unicodedata.bidirectional(char)
        if kind == "L":
            return 1
        if kind in ("R", "AL"):
            return -1
    return 0


def runs_left(words: Iterable[str], direction: str) -> bool:
    """Return whether a text is to be set from right to left.

    words (Iterable[str]): Its tokens.
    direction (str): "rtl" or "ltr", as the language of the vocabulary has it. It does not count where
        most words run to the left, as in Docs whose vocabulary knows no language.
    """
    return direction == "rtl" or sum(map(direction_of, words)) < 0
