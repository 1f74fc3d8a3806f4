"""Relations as rows of a table: JSON lines and CSV for other programs, only written and never read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from spacy.tokens import Doc, Span

from ..annotations import get_entities, get_relations
from .report import ExportReport
from .writing import doc_id, note_scores

COLUMNS = (
    "doc",
    "head",
    "head_label",
    "head_start",
    "head_end",
    "relation",
    "tail",
    "tail_label",
    "tail_start",
    "tail_end",
    "score",
)


def docs_to_triples(docs: Iterable[Doc], report: ExportReport) -> Iterator[dict[str, Any]]:
    """Make a row for each relation, for JSON lines or CSV. Sample (here on several lines)::

        {"doc": "A7", "head": "Ann Lee", "head_label": "Person", "head_start": 0, "head_end": 7,
         "relation": "LIVES-IN", "tail": "Oslo", "tail_label": "Place", "tail_start": 17,
         "tail_end": 21, "score": 0.98}

    Offsets count characters of the Doc's text, and ends are exclusive. The score of a gold relation
    is None. The text itself is not written.

    As CSV, a cell that begins with =, +, -, @, a tab or a line end gets an apostrophe in front,
    because spreadsheets would run it as a formula (``export csv --raw`` leaves it as it is). Cells
    with line ends are quoted: in Python, read them from a file opened with ``newline=""``.

    docs (Iterable[Doc]): Gold or predicted Docs.
    report (ExportReport): Counts what is written, changed and left out.
    YIELDS (dict[str, Any]): The rows, with COLUMNS as keys.
    """
    for number, doc in enumerate(docs):
        note_scores(doc, report)
        relations = get_relations(doc)
        arguments = {_key(span) for r in relations for span in (r.head, r.tail)}
        entities = {_key(span) for span in get_entities(doc)}
        report.note("entities in no relation, left out", len(entities - arguments))
        if not relations:
            report.notes["Docs without relations, left out"] += 1
            continue
        joined = "pretokenized Docs, whose offsets count in the tokens joined by blanks"
        report.note(joined, doc.has_unknown_spaces)
        name = doc_id(doc, number, report)
        report.count(len(arguments), len(relations))
        for relation in relations:
            values = (name, *_cells(relation.head), relation.label, *_cells(relation.tail))
            yield dict(zip(COLUMNS, (*values, relation.score), strict=True))


def _key(span: Span) -> tuple[int, int, str]:
    return span.start, span.end, span.label_


def _cells(span: Span) -> tuple[str, str, int, int]:
    return span.text, span.label_, span.start_char, span.end_char
