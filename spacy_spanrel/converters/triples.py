"""Relations as rows of a table: JSON lines and CSV for other programs, only written and never read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from spacy.tokens import Doc, Span

from ..annotations import (
    CLUSTERS_PREFIX,
    EntityRelation,
    Relation,
    get_entities,
    get_entity_relations,
    get_relations,
)
from .report import ExportReport
from .writing import doc_id, note_clusters, note_scores

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
# Of relations between entities, the last one.
ENTITY_COLUMNS = (*COLUMNS, "evidence")
# Offsets of a relation between mentions.
_EVIDENCE = ("head_start", "head_end", "tail_start", "tail_end", "score")


def docs_to_triples(
    docs: Iterable[Doc],
    report: ExportReport,
    *,
    entities: bool = False,
    clusters_prefix: str = CLUSTERS_PREFIX,
) -> Iterator[dict[str, Any]]:
    """Make a row for each relation, for JSON lines or CSV. Sample (here on several lines)::

        {"doc": "A7", "head": "Ann Lee", "head_label": "Person", "head_start": 0, "head_end": 7,
         "relation": "LIVES-IN", "tail": "Oslo", "tail_label": "Place", "tail_start": 17,
         "tail_end": 21, "score": 0.98}

    Offsets count characters of the Doc's text, and ends are exclusive. The score of a gold relation
    is None. The text itself is not written.

    As CSV, a cell that begins with =, +, -, @, a tab or a line end gets an apostrophe in front,
    because spreadsheets would run it as a formula (``export csv --raw`` leaves it as it is). Cells
    with line ends are quoted: in Python, read them from a file opened with ``newline=""``.

    With `entities`, a row is a relation between two entities, as `get_entity_relations` gathers them:
    the arguments are their best mentions ("Ann Lee", not "she"), the score is the best one, and
    "evidence" lists the offsets and the score of each relation between mentions.

    docs (Iterable[Doc]): Gold or predicted Docs.
    report (ExportReport): Counts what is written, changed and left out.
    entities (bool): Write relations between entities.
    clusters_prefix (str): The clusters of coreferent mentions, as in `get_clusters`.
    YIELDS (dict[str, Any]): The rows, with COLUMNS or ENTITY_COLUMNS as keys.
    """
    for number, doc in enumerate(docs):
        note_scores(doc, report)
        if not entities:
            note_clusters(doc, report, ", as rows are not relations between entities (--entities)")
        relations = get_relations(doc)
        arguments = {_key(span) for r in relations for span in (r.head, r.tail)}
        spans = {_key(span) for span in get_entities(doc)}
        report.note("entities in no relation, left out", len(spans - arguments))
        if not relations:
            report.notes["Docs without relations, left out"] += 1
            continue
        joined = "pretokenized Docs, whose offsets count in the tokens joined by blanks"
        report.note(joined, doc.has_unknown_spaces)
        name = doc_id(doc, number, report)
        rows: tuple[Relation, ...] | tuple[EntityRelation, ...] = relations
        if entities:
            rows = get_entity_relations(doc, clusters_prefix=clusters_prefix)
            arguments = {_key(span) for row in rows for span in (row.head, row.tail)}
        report.count(len(arguments), len(rows))
        for row in rows:
            cells = (name, *_cells(row.head), row.label, *_cells(row.tail), row.score)
            values: dict[str, Any] = dict(zip(COLUMNS, cells, strict=True))
            if isinstance(row, EntityRelation):
                values["evidence"] = [_evidence(relation) for relation in row.evidence]
            yield values


def _evidence(relation: Relation) -> dict[str, Any]:
    head, tail = relation.head, relation.tail
    offsets = (head.start_char, head.end_char, tail.start_char, tail.end_char)
    return dict(zip(_EVIDENCE, (*offsets, relation.score), strict=True))


def _key(span: Span) -> tuple[int, int, str]:
    return span.start, span.end, span.label_


def _cells(span: Span) -> tuple[str, str, int, int]:
    return span.text, span.label_, span.start_char, span.end_char
