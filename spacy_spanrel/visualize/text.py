"""Width, direction and line ends of text in pictures."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from ..markup import clean

# Widths in em of a character of a monospace font, of one that fills a square, and of an emoji.
NARROW = 0.6
SQUARE = 1.0
EMOJI = 1.25

ZERO_WIDTH_JOINER = "\u200d"
EMOJI_STYLE = "\ufe0f"
ELLIPSIS = "\u2026"
# First strong isolate, and its end: text between them does not change the direction around it.
ISOLATE, END_ISOLATE = "\u2068", "\u2069"

_LINE_END = "\n\v\f\r\x85\u2028\u2029"


def one_line(text: str) -> str:
    """Replace line ends and tabs with spaces, and other control characters with visible ones."""
    return clean("".join(" " if char in "\t" + _LINE_END else char for char in text))


def breaks_line(text: str) -> bool:
    """Return whether a token is whitespace that contains a line end."""
    return text.isspace() and any(char in _LINE_END for char in text)


@lru_cache(maxsize=4096)
def em_width(text: str) -> float:
    """Estimate the width of text in a monospace font, in em.

    The width is exact for Latin, Greek, Cyrillic and similar scripts. Other scripts come from other
    fonts of unknown widths, so pictures tell the browser how wide each text has to be.

    text (str): Text without line ends.
    RETURNS (float): Its width.
    """
    total = 0.0
    last = 0.0  # width of the last character, if the next one may still change it
    joined = False  # after a joiner that combines two emojis
    flag = False  # after the first of the two characters of a flag
    for char in text:
        category = unicodedata.category(char)
        if char == EMOJI_STYLE and last:
            total, last = total + EMOJI - last, EMOJI
        elif char == ZERO_WIDTH_JOINER:
            joined = last == EMOJI
        elif category in ("Mn", "Me", "Cf"):
            continue
        elif "\U0001f3fb" <= char <= "\U0001f3ff" and last == EMOJI:
            continue  # the skin colour of the last emoji
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
    """Cut text to a width in em, with an ellipsis at the end if it was too wide."""
    if em_width(text) <= width:
        return text
    kept = 1
    while em_width(text[: kept + 1] + ELLIPSIS) <= width:
        kept += 1
    return text[:kept].rstrip() + ELLIPSIS


def direction_of(text: str) -> int:
    """Return 1 for text that runs to the right, -1 for text that runs to the left, 0 for neither.

    The first letter decides, as digits and punctuation have no direction.
    """
    for char in text:
        kind = unicodedata.bidirectional(char)
        if kind == "L":
            return 1
        if kind in ("R", "AL"):
            return -1
    return 0


def runs_left(words: Iterable[str], direction: str) -> bool:
    """Return whether a text runs from right to left.

    words (Iterable[str]): Its tokens.
    direction (str): "rtl" or "ltr", the direction of the vocabulary's language. Text also runs to the
        left if most of its words do, because a vocabulary may have no language.
    """
    return direction == "rtl" or sum(map(direction_of, words)) < 0
