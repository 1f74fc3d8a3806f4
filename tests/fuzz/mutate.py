"""Hostile texts, and ways to damage bytes and JSON."""

from __future__ import annotations

import copy
import math
from random import Random
from typing import Any

# A reader of HTML that finds this tag or an attribute of this name was given markup.
TAG = "fuzztag"
MARKUP = [
    f"<{TAG}>",
    f'"><{TAG} x="',
    f"'><{TAG}>",
    f'" on{TAG}="x',
    f"' on{TAG}='x",
    f"</script><{TAG}>",
    f"--><{TAG}>",
    f"]]><{TAG}>",
    f"</title></style></text><{TAG}>",
    f"&lt;{TAG}&gt;",
    f"[x](javascript:{TAG})",
    f"`<{TAG}>`",
    f"| <{TAG}> |",
]
ESCAPES = ["\x1b]0;fuzz\x07", "\x1b[31m", "\x9b31m", "\x00", "\x08\x08", "\x7f"]
FORMULAS = ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "=HYPERLINK(1)"]
LINES = ["\n", "\r\n", "\r", "\u2028", "\u0085", "\x0b", "\x0c"]
LETTERS = [
    *"aZ09.,'\"\\|{}[]",
    *"éñß漢字김مرحبا",
    "e\u0301",
    "\U0001f600",
    "\U0001f469\u200d\U0001f467",
    "\U0001f1ea\U0001f1f8",
    "\u200b",
    "\u00ad",
    "\ufe0f",
    "\u202e",
    "\u00a0",
    "ﬁ",
    "İ",
    "½",
    "\ufffd",
    "[SEP]",
    "[CLS]",
    "</s>",
    "<s>",
    "[unused1]",
    "[MASK]",
    "Mary",
    "Paris",
    "Google",
]
# Where a value of another kind stood.
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**64), 10**400, 0.5, -0.0),
    *(math.nan, math.inf, 1e308, "", " ", "0", "-1", "null", "\ud800", "a" * 5000, "\x00", "\n"),
    *([], {}, [[]], [None], {"": None}, [0, 0], {"a": [1]}, [[0, 1], [2, 3]]),
]
TOKENS = [
    *(b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\n", b"\r", b"\n\n", b"\t", b" ", b"|"),
    *(b"{", b"}", b"[", b"]", b'"', b",", b":", b"null", b"-1", b"9" * 4400, b"NaN", b"1e999"),
    *(b"\\ud800", b"[" * 3000, b"<e1>", b"</e1>", b"<e2>", b"</e2>", b"T1", b"R1", b"*", b"O"),
    *("\u2028".encode(), "\U0001f600".encode(), b"e\xcc\x81", b"/", b"Arg1:T1", b";"),
]


def text(rng: Random, length: int = 12) -> str:
    """Return a text of any kind, up to so many parts long; it may be empty."""
    kinds = [LETTERS, LETTERS, LETTERS, MARKUP, ESCAPES, FORMULAS, LINES]
    parts = [rng.choice(rng.choice(kinds)) for _ in range(rng.randrange(length + 1))]
    return "".join(" " * (rng.random() < 0.3) + part for part in parts)


def damage_bytes(rng: Random, data: bytes, most: int = 4) -> bytes:
    """Cut, repeat, replace or flip some places of a file."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, most)):
        place = rng.randrange(len(changed) + 1)
        end = min(len(changed), place + int(rng.expovariate(0.1)))
        kind = rng.randrange(6)
        if kind == 0 and place < len(changed):
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[place:end] = b""
        elif kind == 2:
            changed[place:place] = rng.choice(TOKENS)
        elif kind == 3:
            changed[place:end] = rng.choice(TOKENS)
        elif kind == 4:
            changed[place:place] = changed[place:end]
        elif rng.random() < 0.2:
            del changed[place:]
    return bytes(changed)


def damage_lines(rng: Random, data: bytes, most: int = 3) -> bytes:
    """Drop, repeat, swap or empty lines and columns."""
    lines = data.split(b"\n")
    for _ in range(rng.randint(1, most)):
        i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
        kind = rng.randrange(5)
        if kind == 0 and len(lines) > 1:
            del lines[i]
        elif kind == 1:
            lines.insert(j, lines[i])
        elif kind == 2:
            lines[i], lines[j] = lines[j], lines[i]
        elif kind == 3:
            lines[i] = b""
        else:
            separator = rng.choice([b"\t", b" ", b"|", b"/", b";"])
            columns = lines[i].split(separator)
            k = rng.randrange(len(columns))
            columns[k : k + rng.randrange(2)] = [rng.choice([b"", *TOKENS])]
            lines[i] = separator.join(columns)
    return b"\n".join(lines)


def damage_value(rng: Random, value: Any, most: int = 2, values: list[Any] = VALUES) -> Any:
    """Return plain data in which some values, keys or items are others, or gone. The original is
    changed where it can be."""
    for _ in range(rng.randint(1, most)):
        places = [*_places(value)]
        if not places:
            return copy.deepcopy(rng.choice(values))
        holder, key = rng.choice(places)
        kind = rng.randrange(4)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            names = [name for name in values if isinstance(name, str)]
            holder[rng.choice([*names, "text", "../../x", "id"])] = holder.pop(key)
        elif kind == 2 and isinstance(holder, list):
            holder.insert(rng.randrange(len(holder) + 1), copy.deepcopy(holder[key]))
        elif isinstance(holder[key], int) and rng.random() < 0.5:
            holder[key] += rng.choice([-1, 1, 100, -100])
        else:
            holder[key] = copy.deepcopy(rng.choice(values))
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every place inside nested lists and tables, as (list or table, index or key)."""
    places: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        if isinstance(holder, dict | list):
            items = list(holder.items() if isinstance(holder, dict) else enumerate(holder))
            places += [(holder, key) for key, _ in items]
            waiting += [inner for _, inner in items]
    return places
