"""Lines with a sentence in which two arguments are tagged: SemEval-2010 Task 8 and KBP37.

A record is a sentence line (id, tab, sentence), a label line and perhaps a comment line. The next
record begins after a blank line or with the next sentence line. Quotes around a sentence are no part
of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

from ..errors import Errors
from ..reading import ConversionError, Place, not_empty, read_lines, short
from .common import ENTITY, Entity
from .report import ExportReport
from .writing import Pair, count_pairs, one_word

COMMENT = "Comment:"
# Nothing else in angle brackets is markup.
_TAG = re.compile("(</?e[12]>)")

Line = tuple[int, str]
Offsets = tuple[int, int]


@dataclass(frozen=True)
class TaggedSentence:
    """One record.

    place (Place): The place of the sentence line, with the id.
    pieces (tuple[str, ...]): The sentence without its tags, cut where they were.
    e1, e2 (tuple[int, int]): The first piece of each argument, and the one after its last.
    label (str): The label as it is in the file, with the direction that it may name.
    """

    place: Place
    pieces: tuple[str, ...]
    e1: Offsets
    e2: Offsets
    label: str

    def offsets(self, sizes: Sequence[int]) -> tuple[Offsets, Offsets]:
        """Return start and exclusive end of both arguments, in characters or tokens.

        sizes (Sequence[int]): The number of characters, or of tokens, of each piece.
        RETURNS (tuple[tuple[int, int], tuple[int, int]]): The offsets of e1 and of e2.
        """
        borders = [0, *accumulate(sizes)]
        (start1, end1), (start2, end2) = self.e1, self.e2
        return (borders[start1], borders[end1]), (borders[start2], borders[end2])


def read_tagged(path: str | Path) -> Iterator[TaggedSentence | ConversionError]:
    """Read a file of tagged sentences.

    path (str | Path): The file.
    YIELDS (TaggedSentence | ConversionError): Each record; of a bad one the error.
    RAISES (ConversionError): If the file cannot be read, or is empty.
    """
    for lines, follower in not_empty(_records(read_lines(path)), path, "sentences"):
        try:
            yield _parse_record(lines, follower, str(path))
        except ConversionError as error:
            yield error


def _records(lines: Iterable[Line]) -> Iterator[tuple[list[Line], str]]:
    """Yield the lines of each record, and the name of whatever follows, for messages."""
    record: list[Line] = []
    for number, line in lines:
        is_blank = not line.strip()
        if record and (is_blank or _looks_like_sentence(line)):
            kind = "a blank line" if is_blank else "the next sentence"
            yield record, f"{kind} (line {number})"
            record = []
        if not is_blank:
            record.append((number, line))
    if record:
        yield record, "the end of the file"


def _looks_like_sentence(line: str) -> bool:
    # Either is enough: a bad sentence line, without tab or without tags, spoils its own record only.
    return not _is_comment(line) and ("\t" in line.strip() or _TAG.search(line) is not None)


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith(COMMENT)


def _parse_record(lines: Sequence[Line], follower: str, file: str) -> TaggedSentence:
    (number, line), *rest = lines
    place = Place(file, f"line {number}")
    record_id, tab, sentence = line.partition("\t")
    record_id = record_id.strip()
    if not tab or len(record_id.split()) != 1:
        raise place.error(
            Errors.E610,
            found=f"id {short(record_id)}" if tab else f"{short(line)}, without a tab",
            expected="an id of one word, a tab and the sentence",
        )
    place = Place(file, place.name, record_id)
    if not rest or _is_comment(rest[0][1]):
        raise place.error(
            Errors.E610,
            found=short(rest[0][1].strip()) if rest else follower,
            expected="the label on the line after the sentence",
        )
    label = rest[0][1].strip()
    surplus = rest[2:] if len(rest) > 1 and _is_comment(rest[1][1]) else rest[1:]
    if surplus:
        number, line = surplus[0]
        raise Place(file, f"line {number}", record_id).error(
            Errors.E610,
            found=short(line.strip()),
            expected=f"after the label at most one line '{COMMENT} ...', then a blank line or the "
            "next sentence",
        )
    chunks = _TAG.split(_without_quotes(sentence))
    pieces, tags = tuple(chunks[::2]), chunks[1::2]
    e1, e2 = (_argument(name, pieces, tags, place) for name in ("e1", "e2"))
    return TaggedSentence(place, pieces, e1, e2, label)


def _without_quotes(sentence: str) -> str:
    sentence = sentence.strip()
    if len(sentence) > 1 and sentence[0] == sentence[-1] == '"':
        return sentence[1:-1].strip()
    return sentence


def _argument(name: str, pieces: Sequence[str], tags: Sequence[str], place: Place) -> Offsets:
    """Return the first piece of an argument, and the one after its last."""
    opening, closing = f"<{name}>", f"</{name}>"
    for tag in (opening, closing):
        if tags.count(tag) != 1:
            raise place.error(
                Errors.E610,
                found=f"{tag} {tags.count(tag)} times" if tag in tags else f"no {tag}",
                expected="<e1>, </e1>, <e2> and </e2>, each once",
            )
    # Piece 0 comes before tag 0.
    start, end = tags.index(opening) + 1, tags.index(closing) + 1
    if start > end:
        raise place.error(
            Errors.E610,
            found=f"{closing} before {opening}",
            expected=f"{opening}, the argument and then {closing}",
        )
    if not "".join(pieces[start:end]).strip():
        raise place.error(
            Errors.E610,
            found=f"nothing between {opening} and {closing}",
            expected="some text there",
        )
    return start, end


# Back to lines


def tagged_lines(
    pairs: Iterable[Pair],
    sentence: str | Sequence[str],
    offsets: Callable[[Entity], Offsets],
    report: ExportReport,
) -> Iterator[str]:
    """Make the lines of the relations of a Doc: sentence, label and a blank line for each.

    A relation that would not be read back as it is is left out and counted.

    pairs (Iterable[Pair]): The relations.
    sentence (str | Sequence[str]): The text, or the tokens, which are joined by blanks.
    offsets (Callable[[Entity], tuple[int, int]]): Returns start and exclusive end of an argument in
        characters or tokens of the sentence.
    report (ExportReport): Counts what is written, changed and left out.
    YIELDS (str): The lines, without their ends.
    """
    glue = "" if isinstance(sentence, str) else " "
    records: dict[Pair, list[str]] = {}
    for pair in pairs:
        tags = _place_tags(offsets(pair.head), offsets(pair.tail))
        places = [0, *(place for place, _ in tags), len(sentence)]
        pieces = [glue.join(sentence[start:end]) for start, end in pairwise(places)]
        chunks = [pieces[0]]
        for (_, tag), piece in zip(tags, pieces[1:], strict=True):
            chunks.extend((tag, piece))
        name = one_word(pair.id, report)
        text = glue.join(chunk for chunk in chunks if chunk).strip()
        lines = [f'{name}\t"{text}"', pair.label, ""]
        if _reads_back(lines, name, pieces, pair.label):
            records[pair] = lines
        else:
            report.notes[
                "relations with an empty argument, or tags, tabs or line breaks in text or label, "
                "left out"
            ] += 1
    typed = {e for pair in records for e in (pair.head, pair.tail) if e.label != ENTITY}
    report.note("types of entities, left out", len(typed))
    for pair in count_pairs(records, report):
        yield from records[pair]


def _place_tags(head: Offsets, tail: Offsets) -> list[tuple[int, str]]:
    """Return the tags and their offsets, in the order of the sentence."""
    (start1, end1), (start2, end2) = head, tail
    # Where tags meet, one argument ends before the next begins, and the shorter of two is inside.
    rows = [
        (start1, 1, -end1, 1, "<e1>"),
        (end1, 0, -start1, -1, "</e1>"),
        (start2, 1, -end2, 2, "<e2>"),
        (end2, 0, -start2, -2, "</e2>"),
    ]
    return [(row[0], row[-1]) for row in sorted(rows)]


def _reads_back(lines: Sequence[str], name: str, pieces: Sequence[str], label: str) -> bool:
    records = list(_records(enumerate("\n".join(lines).split("\n"), start=1)))
    if len(records) != 1:
        return False
    try:
        sentence = _parse_record(*records[0], "")
    except ConversionError:
        return False
    # Blanks around the sentence are no part of it.
    return (sentence.place.id, sentence.label) == (name, label) and (
        [piece.split() for piece in sentence.pieces] == [piece.split() for piece in pieces]
    )
