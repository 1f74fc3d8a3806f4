"""The raw CoNLL04 corpus of Roth and Yih (``conll04.corp``)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from spacy.language import Language
from spacy.tokens import Doc

from ..errors import Errors
from ..reading import (
    ConversionError,
    ErrorHandler,
    Place,
    not_empty,
    parse_count,
    raise_error,
    read_lines,
    short,
)
from .common import BRACKETS, DocMaker, Edge, Entity
from .report import ConversionReport, ExportReport
from .type_names import TypeNames
from .writing import (
    divide_words,
    doc_id,
    one_word,
    read_annotations,
    select_entities,
    without_overlaps,
    words_of,
)

ROW_COLUMNS = 9
RELATION_COLUMNS = 3
ESCAPES = {"COMMA": ",", **BRACKETS}

_ESCAPED = {char: name for name, char in ESCAPES.items()}
# The part of speech of tokens that have none.
NO_TAG = "X"

Line = tuple[int, list[str]]


def conll04_to_docs(
    path: str | Path,
    *,
    nlp: Language | None = None,
    types: str | Path | TypeNames | None = None,
    on_error: ErrorHandler = raise_error,
    report: ConversionReport | None = None,
) -> Iterator[Doc]:
    """Read the raw CoNLL04 corpus, one Doc per sentence, with or without relations.

    A sentence consists of rows of 9 columns (sentence, entity type or O, row, O, part of speech, word,
    O, O, O), a blank line, relation lines of 3 columns (row of the head, row of the tail, label) and
    a blank line. Columns are separated by tabs. An entity of several words is one row, with words and
    tags joined by "/". Sample::

        7	Peop	0	O	NNP/NNP	Ann/Lee	O	O	O
        7	O	1	O	VBZ	lives	O	O	O
        7	O	2	O	IN	in	O	O	O
        7	Loc	3	O	NNP	Oslo	O	O	O

        0	3	Live_In

    path (str | Path): The file.
    nlp, types, on_error, report: As in `common.DocMaker`.
    YIELDS (Doc): The gold Docs.
    RAISES (ConversionError): If the file is bad or, with the default `on_error`, a sentence in it.
    """
    maker = DocMaker(nlp, types, on_error, report)

    def to_doc(block: list[Line]) -> Doc:
        number, columns = block[0]
        # The id is known only if the first line is a row.
        orig_id = columns[0] if len(columns) == ROW_COLUMNS else None
        place = Place(str(path), f"line {number}", orig_id)
        return maker.from_words(*_parse_sentence(block, place, maker.report), place)

    yield from maker.each(not_empty(_sentences(read_lines(path)), path, "sentences"), to_doc)


def _sentences(lines: Iterable[tuple[int, str]]) -> Iterator[list[Line]]:
    """Yield the lines of each sentence: its rows and relations.

    A row after a blank line or a relation starts a new sentence. Any line with more columns than a
    relation counts as a row here, so that a bad line spoils its own sentence only.
    """
    block: list[Line] = []
    in_rows = False
    for number, line in lines:
        if not line.strip():
            in_rows = False
            continue
        columns = re.split(r"\t" if "\t" in line else r" +", line.strip())
        is_row = len(columns) > RELATION_COLUMNS
        if is_row and not in_rows and block:
            yield block
            block = []
        in_rows = is_row or (in_rows and len(columns) != RELATION_COLUMNS)
        block.append((number, columns))
    if block:
        yield block


def _parse_sentence(
    block: list[Line], sentence: Place, report: ConversionReport
) -> tuple[list[str], list[Entity], list[Edge]]:
    words: list[str] = []
    entities: list[Entity] = []
    relations: list[Edge] = []
    # Row -> the index of its entity; None for a row of type O.
    row_entities: dict[int, int | None] = {}
    n_unsure = 0
    for number, columns in block:
        place = Place(sentence.file, f"line {number}", sentence.id)
        if len(columns) == ROW_COLUMNS:
            sentence_id, label, row, _, tags, word = columns[:6]
            index = _row_number(row, place)
            if sentence_id != sentence.id:
                raise place.error(
                    Errors.E610,
                    found=f"sentence {sentence_id!r}",
                    expected=f"sentence {sentence.id!r}, or a blank line before the next sentence",
                )
            if index in row_entities:
                raise place.error(
                    Errors.E610,
                    found=f"row {index} for the second time",
                    expected="each row number once in a sentence",
                )
            if not word:
                raise place.error(Errors.E610, found="an empty word", expected="a word in column 6")
            row_words, is_sure = split_row(word, tags)
            n_unsure += not is_sure
            row_entities[index] = None
            if label != "O":
                row_entities[index] = len(entities)
                entities.append(Entity(len(words), len(words) + len(row_words), label))
            words.extend(row_words)
        elif len(columns) == RELATION_COLUMNS:
            ends = []
            for row in columns[:2]:
                index = _row_number(row, place)
                entity = row_entities.get(index)
                if entity is None:
                    state = "of type O" if index in row_entities else "that does not exist"
                    raise place.error(
                        Errors.E607,
                        found=f"row {index}, {state}",
                        expected="the number of a row with an entity type",
                    )
                ends.append(entity)
            relations.append(Edge(ends[0], ends[1], columns[2]))
        else:
            raise place.error(
                Errors.E610,
                found=f"{len(columns)} columns",
                expected=f"{ROW_COLUMNS} columns (a row) or {RELATION_COLUMNS} (a relation)",
            )
    if n_unsure:
        report.notes["entity rows with unequal numbers of words and tags"] += n_unsure
    return words, entities, relations


def split_row(word: str, tags: str) -> tuple[list[str], bool]:
    """Split the word column of a row into words.

    A word may contain a slash ("1/2" with the tag CD), so the number of tags decides. If there are
    several tags, but not as many as words, every slash divides.

    word (str): The words, joined by slashes.
    tags (str): Their parts of speech, joined likewise.
    RETURNS (tuple[list[str], bool]): The words, and whether there are as many tags.
    """
    n_tags = len(tags.split("/"))
    words = word.split("/")
    if n_tags == 1 or len(words) == 1:
        return [ESCAPES.get(word, word)], True
    is_sure = len(words) == n_tags and all(words)
    return [ESCAPES.get(each, each) for each in words if each] or [word], is_sure


def _row_number(text: str, place: Place) -> int:
    number = parse_count(text)
    if number is None:
        raise place.error(
            Errors.E610, found=f"row number {short(text)}", expected="a number from 0"
        )
    return number


# Back to rows


def docs_to_conll04(docs: Iterable[Doc], report: ExportReport) -> Iterator[str]:
    """Make the lines of the raw CoNLL04 corpus, which `conll04_to_docs` reads.

    A whole Doc becomes one sentence. An entity is one row, so of overlapping entities only the
    longest is kept, and of equally long ones the first. Commas and brackets are spelt COMMA, -LRB-
    and so on, tokens are divided at white space, and ids become text. The column of the parts of
    speech contains `token.tag_`, or X.

    docs (Iterable[Doc]): Gold or predicted Docs.
    report (ExportReport): Counts what is written, changed and left out.
    YIELDS (str): The lines, without their ends.
    """
    for number, doc in enumerate(docs):
        entities, edges = without_overlaps(doc, *read_annotations(doc, report), report)
        words, borders = divide_words(words_of(doc, report), report)
        if not words:
            report.notes["Docs without tokens, left out"] += 1
            continue
        keep = [borders[entity.start] < borders[entity.end] for entity in entities]
        report.note("entities that are only white space, left out", keep.count(False))
        entities, edges = select_entities(entities, edges, keep, report)
        entities = [Entity(borders[e.start], borders[e.end], e.label) for e in entities]
        tags = [
            _tag(token.tag_)
            for token, (start, end) in zip(doc, pairwise(borders), strict=True)
            for _ in range(start, end)
        ]
        name = one_word(doc_id(doc, number, report), report)
        lines = _to_lines(name, words, tags, entities, edges)
        if not _reads_back(lines, entities, edges):
            report.notes[
                "Docs with labels that are O, or have blanks at their ends, tabs or line breaks, "
                "left out"
            ] += 1
            continue
        report.note("Docs without parts of speech", set(tags) == {NO_TAG})
        report.note(
            "tokens such as COMMA and -LRB-, which are read as the characters they stand for",
            sum(word in ESCAPES for word in words),
        )
        report.note(
            "tokens with slashes in entities of several tokens, which are divided there",
            sum(
                "/" in word
                for entity in entities
                if entity.end - entity.start > 1
                for word in words[entity.start : entity.end]
            ),
        )
        report.count(len(entities), len(edges))
        yield from lines


def _tag(tag: str) -> str:
    # A slash or white space would be read as the border of a tag or column.
    return NO_TAG if not tag or "/" in tag or tag.split() != [tag] else tag


def _to_lines(
    name: str,
    words: Sequence[str],
    tags: Sequence[str],
    entities: Sequence[Entity],
    edges: Sequence[Edge],
) -> list[str]:
    starts = {entity.start: i for i, entity in enumerate(entities)}
    rows: list[str] = []
    row_of_entity: dict[int, int] = {}
    start = 0
    while start < len(words):
        index = starts.get(start)
        end, label = start + 1, "O"
        if index is not None:
            end, label = entities[index].end, entities[index].label
            row_of_entity[index] = len(rows)
        word = "/".join(_ESCAPED.get(word, word) for word in words[start:end])
        columns = [name, label, str(len(rows)), "O", "/".join(tags[start:end]), word]
        rows.append("\t".join([*columns, "O", "O", "O"]))
        start = end
    relations = [
        f"{row_of_entity[edge.head]}\t{row_of_entity[edge.tail]}\t{edge.label}" for edge in edges
    ]
    return [*rows, "", *relations, ""]


def _reads_back(lines: Sequence[str], entities: Sequence[Entity], edges: Sequence[Edge]) -> bool:
    """Whether the lines are read as one sentence with the same labels."""
    blocks = list(_sentences(enumerate("\n".join(lines).split("\n"), start=1)))
    if len(blocks) != 1:
        return False
    place = Place("", "", blocks[0][0][1][0])
    try:
        _, entities_read, edges_read = _parse_sentence(blocks[0], place, ConversionReport())
    except ConversionError:
        return False
    in_order = sorted(entities, key=lambda entity: entity.start)
    return [e.label for e in entities_read] == [e.label for e in in_order] and (
        [e.label for e in edges_read] == [e.label for e in edges]
    )
