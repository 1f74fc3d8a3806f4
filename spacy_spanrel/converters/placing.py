"""Places of strings in a text, for data in which another program names entities and arguments in words.

A language model, say, answers "Ann Lee works for ACME" and does not say where in the text it read
that. Its words may also differ from those of the text: in case and blanks ("O'Brien" for "O 'Brien"),
in quotes and dashes, or by a typing error. So a string is looked up in steps, and the first step that
finds any place decides:

1. exactly, between token borders;
2. but for case, white space, and forms of the same characters (Unicode NFKC, quotes and dashes);
3. likewise, but beginning or ending inside of a token: at a sign, as "Oslo" in "Oslo/Bergen", never
   between two letters or digits. The place is then widened to whole tokens;
4. with at most one edit for every five characters, between token borders. An edit changes, adds or
   drops a character or swaps two neighbours (optimal string alignment, after Damerau 1964). The digits
   must be the same: "1000 mg" is no typing error for "100 mg".

The last step compares little: if a text holds a string with k edits, and the string is cut in 2k + 1
pieces, then one of the pieces is in the text as it is, because an edit touches at most two (after Wu and
Manber 1992, "Fast text searching allowing errors"). Only the spans around such pieces are compared.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate

from rapidfuzz.distance import OSA
from spacy.tokens import Doc

# Characters for which a fuzzy search allows one edit.
CHARS_PER_EDIT = 5
_SAME = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u00b4", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb\u2033", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-")
    | dict.fromkeys("\u00ad\u200b\u200c\u200d\ufeff", None)
)

# Tokens that end a sentence; good enough to tell near places from far ones.
_ENDS = frozenset(".!?\u2026\u3002\uff01\uff1f;\n")

Tokens = tuple[int, int]


class Grade(IntEnum):
    """The step that found a string; see the module."""

    EXACT = 1
    FOLDED = 2
    WIDENED = 3
    FUZZY = 4


@dataclass(frozen=True)
class Places:
    """The places of a string in a Doc.

    grade (Grade): The step that found them.
    spans (list[tuple[int, int]]): Start and end in tokens, in the order of the text.
    """

    grade: Grade
    spans: list[Tokens]


def fold(text: str) -> str:
    """Return a text without white space, case, and the variants of characters that look the same."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_SAME)
    return "".join(text.replace("`", "'").casefold().split())


class StringFinder:
    """Finds strings in a Doc. The Doc is folded once, and each string is searched once.

    doc (Doc): The Doc.
    """

    def __init__(self, doc: Doc) -> None:
        self._text = doc.text
        self._offsets = [(token.idx, token.idx + len(token)) for token in doc]
        pieces = [fold(self._text[start:end]) for start, end in self._offsets]
        self._folded = "".join(pieces)
        # The first folded character of each token, and the end. Tokens that are only blanks share a
        # border with their neighbour, to which it belongs.
        self._borders = list(accumulate(map(len, pieces), initial=0))
        self._starts = {border: i for i, border in enumerate(self._borders[:-1])}
        self._ends: dict[int, int] = {}
        for i, border in enumerate(self._borders[1:], start=1):
            self._ends.setdefault(border, i)
        self._cache: dict[str, Places | None] = {}
        # For each token, the number of sentence ends before it.
        self._ends_before = [*accumulate((token.text in _ENDS for token in doc), initial=0)]

    def find(self, string: str) -> Places | None:
        """Return the places of a string; None if it is not in the Doc."""
        if string not in self._cache:
            self._cache[string] = self._find(string.strip())
        return self._cache[string]

    def _find(self, string: str) -> Places | None:
        folded = fold(string)
        if not folded:
            return None
        aligned: list[Tokens] = []
        inside: list[Tokens] = []
        for at in _occurrences(folded, self._folded):
            end = at + len(folded)
            if at in self._starts and end in self._ends:
                aligned.append((self._starts[at], self._ends[end]))
            elif not (self._is_in_word(at) or self._is_in_word(end)):
                first = bisect_right(self._borders, at) - 1
                inside.append((first, bisect_left(self._borders, end)))
        exact = [span for span in aligned if self._text_of(span) == string]
        if exact:
            return Places(Grade.EXACT, exact)
        if aligned:
            return Places(Grade.FOLDED, aligned)
        if inside:
            return Places(Grade.WIDENED, list(dict.fromkeys(inside)))
        similar = self._find_similar(folded)
        return Places(Grade.FUZZY, similar) if similar else None

    def _text_of(self, span: Tokens) -> str:
        start, end = span
        return self._text[self._offsets[start][0] : self._offsets[end - 1][1]].strip()

    def _is_in_word(self, at: int) -> bool:
        """Tell whether a place in the folded text is inside of a token and between two letters or digits."""
        if at in self._starts or at in self._ends:
            return False
        return self._folded[at - 1].isalnum() and self._folded[at].isalnum()

    def _find_similar(self, folded: str) -> list[Tokens]:
        """Return the spans with the fewest edits, if these are few enough, and of them the shortest."""
        n, most = len(folded), len(folded) // CHARS_PER_EDIT
        if not most:
            return []
        candidates: set[Tokens] = set()
        n_pieces = 2 * most + 1
        cuts = [i * n // n_pieces for i in range(n_pieces + 1)]
        for first, last in zip(cuts, cuts[1:], strict=False):
            for at in _occurrences(folded[first:last], self._folded):
                for start in range(at - first - most, at - first + most + 1):
                    if start in self._starts:
                        ends = range(start + n - most, start + n + most + 1)
                        candidates.update((start, end) for end in ends if end in self._ends)
        digits = _digits(folded)
        best = most + 1, 0
        spans: list[Tokens] = []
        for start, end in sorted(candidates):
            if _digits(self._folded[start:end]) != digits:
                continue
            distance = OSA.distance(folded, self._folded[start:end], score_cutoff=best[0])
            span = self._starts[start], self._ends[end]
            key = distance, span[1] - span[0]
            if distance <= most and span[0] < span[1] and key <= best:
                spans = [*(spans if key == best else ()), span]
                best = key
        return spans

    def nearest_pair(
        self, heads: Sequence[Tokens], tails: Sequence[Tokens]
    ) -> tuple[Tokens, Tokens] | None:
        """Return the head and the tail that are nearest to each other.

        Arguments that do not overlap are preferred to others, those with fewer sentence ends between
        them to others, and then those with fewer tokens between them; of equal pairs, the first one
        counts. Only the tails around a head are compared with it.

        heads, tails (Sequence[tuple[int, int]]): Places in tokens, in the order of the text.
        RETURNS (tuple[tuple[int, int], tuple[int, int]] | None): Head and tail; None if there is only
            one place for both.
        """
        starts = [start for start, _ in tails]
        best: tuple[tuple[bool, int, int, Tokens, Tokens], tuple[Tokens, Tokens]] | None = None
        for head in heads:
            i = bisect_left(starts, head[0])
            for tail in tails[max(0, i - 2) : i + 3]:
                if head == tail:
                    continue
                first, second = sorted((head, tail))
                gap = second[0] - first[1]
                ends = self._ends_before[second[0]] - self._ends_before[first[0]]
                key = (gap < 0, ends, gap, head, tail)
                if best is None or key < best[0]:
                    best = key, (head, tail)
        return best and best[1]


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


def _occurrences(string: str, text: str) -> Iterator[int]:
    at = text.find(string)
    while at >= 0:
        yield at
        at = text.find(string, at + 1)


def not_nested(places: Places, others: Sequence[Places]) -> list[Tokens]:
    """Return the places of a string that are not inside of a longer string's place, or else all.

    "Lee" is rather the "Lee" in "Lee sings" than that in "Ann Lee", if "Ann Lee" is named as well.

    places (Places): The places of the string.
    others (Sequence[Places]): The places of all strings that are named for the text.
    RETURNS (list[tuple[int, int]]): Places of the string, at least one.
    """
    longer = [
        span
        for other in others
        if other is not places and other.grade != Grade.FUZZY
        for span in other.spans
    ]
    free = [
        (start, end)
        for start, end in places.spans
        if not any(a <= start and end <= b and (a, b) != (start, end) for a, b in longer)
    ]
    return free or places.spans
