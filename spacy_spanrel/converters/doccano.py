"""JSON lines of doccano, with or without relations: to gold Docs and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from spacy.language import Language
from spacy.tokens import Doc

from ..annotations.relations import RecordId
from ..errors import Errors
from ..reading import ErrorHandler, JsonValue, Place, raise_error, read_json_records, short
from .common import DocMaker, Edge, Entity, wrong_offsets
from .offsets import CODE_POINTS, UTF16_UNITS, Offsets, OffsetUnit
from .report import ConversionReport, ExportReport
from .type_names import TypeNames
from .writing import read_text_annotations, score_of

# "entities" in projects with relations; in others one of the other two, with [start, end, label].
ENTITY_KEYS = ("entities", "label", "labels")
DoccanoOffsets = Literal["auto", "utf-16", "code-points"]
OFFSETS: tuple[DoccanoOffsets, ...] = get_args(DoccanoOffsets)
_UNITS: dict[DoccanoOffsets, tuple[OffsetUnit, ...]] = {
    "auto": (UTF16_UNITS, CODE_POINTS),
    "utf-16": (UTF16_UNITS,),
    "code-points": (CODE_POINTS,),
}


def doccano_to_docs(
    path: str | Path,
    *,
    nlp: Language | None = None,
    types: str | Path | TypeNames | None = None,
    offsets: DoccanoOffsets = "auto",
    coref: str | None = None,
    on_error: ErrorHandler = raise_error,
    report: ConversionReport | None = None,
) -> Iterator[Doc]:
    """Read JSON lines of doccano (or its JSON list), one Doc per record.

    Offsets count characters, ends are exclusive. The head of a relation is `from_id`, its tail
    `to_id`. Sample (in the file this is one line)::

        {"id": 7, "text": "Ann Lee lives in Oslo",
         "entities": [{"id": 12, "label": "PERSON", "start_offset": 0, "end_offset": 7},
                      {"id": 13, "label": "CITY", "start_offset": 17, "end_offset": 21}],
         "relations": [{"id": 3, "from_id": 12, "to_id": 13, "type": "lives_in"}],
         "Comments": []}

    Projects without relations, and old versions, write `"label": [[0, 7, "PERSON"]]` (or `labels`)
    instead, and old versions call the text `data`. An entity that ends inside a token is widened to
    whole tokens and reported.

    Most versions of doccano count an emoji, or any other character beyond U+FFFF, as two
    characters, some count it as one, and the file does not say which. For a text with such
    characters, the count is chosen with which the entities fit the text and its tokens best, and
    two if both fit equally well. The report names the choice, and `offsets` overrides it.

    path (str | Path): The file.
    offsets ("auto" | "utf-16" | "code-points"): The unit that offsets count.
    nlp, types, coref, on_error, report: As in `common.DocMaker`.
    YIELDS (Doc): The gold Docs.
    RAISES (ConversionError): If the file is bad or, with the default `on_error`, a record in it.
    """
    if offsets not in OFFSETS:
        raise Place(str(path)).error(
            Errors.E613, found=f"offsets {offsets!r}", expected=" or ".join(map(repr, OFFSETS))
        )
    maker = DocMaker(nlp, types, on_error, report, coref)

    def to_doc(record: JsonValue) -> Doc:
        record = record.with_id("id", "doc_id")
        is_old = "text" not in record.raw and "data" in record.raw
        text = record["data" if is_old else "text"]
        spans = _spans(record, maker.report)
        doc = maker.tokenize(text.as_str(), text)
        chars = _to_chars(doc, text.raw, spans, _UNITS[offsets], maker.report)
        entities = [
            maker.trimmed_entity(doc, text.raw, *bounds, span.label, span.where)
            for bounds, span in zip(chars, spans, strict=True)
        ]
        return maker.annotate(doc, entities, _relations(record, spans), record.place)

    yield from maker.each(read_json_records(path), to_doc)


@dataclass(frozen=True)
class _Span:
    """An entity as the file gives it: an object, or a list [start, end, label], which has no id."""

    where: JsonValue
    id: RecordId | None
    start: int
    end: int
    label: str


def _span(item: JsonValue) -> _Span:
    if isinstance(item.raw, list):
        item.as_list(3)
        start, end, label = item
        id = None
    else:
        start, end, label = item["start_offset"], item["end_offset"], item["label"]
        id = item.get("id")
    return _Span(
        item, None if id is None else id.as_id(), start.as_int(), end.as_int(), label.as_name()
    )


def _spans(record: JsonValue, report: ConversionReport) -> list[_Span]:
    keys = [key for key in ENTITY_KEYS if key in record.raw]
    if not keys:
        raise record.missing("one of the keys " + ", ".join(map(repr, ENTITY_KEYS)))
    for key in keys[1:]:
        report.notes[f"lists {key!r} beside {keys[0]!r}, not read"] += 1
    return [_span(item) for item in record.get(keys[0]) or ()]


def _to_chars(
    doc: Doc,
    text: str,
    spans: Sequence[_Span],
    units: Sequence[OffsetUnit],
    report: ConversionReport,
) -> list[tuple[int, int]]:
    """Return the offsets in code points, converted from the unit that fits best."""
    best: tuple[tuple[int, int], OffsetUnit, list[tuple[int, int] | None]] | None = None
    for unit in units:
        offsets = Offsets(text, unit)
        chars: list[tuple[int, int] | None] = []
        n_aligned = 0
        for span in spans:
            start, end = offsets.to_char(span.start), offsets.to_char(span.end)
            if start is None or end is None or start >= end:
                chars.append(None)
                continue
            chars.append((start, end))
            n_aligned += doc.char_span(start, end) is not None
        score = (len(chars) - chars.count(None), n_aligned)
        if best is None or score > best[0]:
            best = score, unit, chars
    assert best is not None  # there is a unit
    _, unit, chars = best
    located = []
    for span, bounds in zip(spans, chars, strict=True):
        if bounds is None:
            raise wrong_offsets(span.start, span.end, text, span.where)
        located.append(bounds)
    if spans and Offsets(text, UTF16_UNITS).differ:
        report.notes[
            f"texts with characters beyond U+FFFF, whose offsets were taken as {unit.name}"
        ] += 1
    return located


def _relations(record: JsonValue, spans: Sequence[_Span]) -> list[Edge]:
    index: dict[RecordId, int] = {}
    for i, span in enumerate(spans):
        if span.id is None:
            continue
        if span.id in index:
            raise span.where["id"].error(
                Errors.E621, found=f"{span.id!r} again", expected="different ids within a record"
            )
        index[span.id] = i
    relations = []
    for item in record.get("relations") or ():
        ends = []
        for key in ("from_id", "to_id"):
            id = item[key].as_id()
            if id is None or id not in index:
                raise item[key].error(
                    Errors.E607,
                    found=f"{key} {short(id)}",
                    expected=f"the id of one of the record's {len(spans)} entities",
                )
            ends.append(index[id])
        relations.append(Edge(ends[0], ends[1], item["type"].as_name()))
    return relations


def docs_to_doccano(
    docs: Iterable[Doc],
    report: ExportReport,
    *,
    coref: str | None = None,
    suggestions: bool = False,
) -> Iterator[dict[str, Any]]:
    """Make records of Docs, gold or predicted, for import into doccano.

    Offsets count UTF-16 units, as doccano does. This matters to other programs only if texts have
    emojis or other characters beyond U+FFFF; the report counts such texts.

    doccano has no suggestions: what is imported is there as if people had annotated it, until they
    correct it. They mark a text that they have checked, and doccano exports only these texts on demand.
    With `suggestions`, a record has the scores under further keys, which doccano keeps as metadata:
    `score`, the lowest one, and `scores`, by the ids of entities and relations.

    docs (Iterable[Doc]): Gold or predicted Docs.
    report (ExportReport): Counts what is written, changed and left out. Scores are left out, unless
        they are suggestions.
        Overlapping entities are written, but doccano shows them only in projects that allow them.
    coref (str | None): The name of coreference, for the same argument of `doccano_to_docs`: a relation
        of this name leads from each mention of a cluster to the one before it, and mentions that are
        no entities get it as their type. None to leave clusters out.
    suggestions (bool): Write scores.
    YIELDS (dict[str, Any]): A record for each Doc, to be written as a line of JSON.
    """
    # Ids are unique over the whole file, as in doccano's own.
    entity_id = relation_id = 0
    for doc in docs:
        annotated = read_text_annotations(doc, report, coref, suggestions)
        annotated.count(report)
        if annotated.has_overlaps:
            report.notes["texts with overlapping entities, which the project must allow"] += 1
        offsets = Offsets(annotated.text, UTF16_UNITS)
        if annotated.entities and offsets.differ:
            report.notes[
                "texts with characters beyond U+FFFF, written with offsets in UTF-16 units"
            ] += 1
        record: dict[str, Any] = {} if annotated.id is None else {"id": annotated.id}
        record["text"] = annotated.text
        record["entities"] = [
            {
                "id": entity_id + i,
                "label": entity.label,
                "start_offset": offsets.to_unit(start),
                "end_offset": offsets.to_unit(end),
            }
            for i, (entity, (start, end)) in enumerate(
                zip(annotated.entities, annotated.bounds, strict=True)
            )
        ]
        record["relations"] = [
            {
                "id": relation_id + i,
                "from_id": entity_id + edge.head,
                "to_id": entity_id + edge.tail,
                "type": edge.label,
            }
            for i, edge in enumerate(annotated.edges)
        ]
        record |= score_of(annotated, suggestions)
        if suggestions:
            record["scores"] = {
                "entities": _scores(record["entities"], annotated.entities),
                "relations": _scores(record["relations"], annotated.edges),
            }
        entity_id += len(annotated.entities)
        relation_id += len(record["relations"])
        yield record


def _scores(records: list[dict[str, Any]], items: Sequence[Entity | Edge]) -> dict[str, float]:
    """Return the scores of entities or relations by their ids."""
    return {
        str(record["id"]): round(item.score, 4)
        for record, item in zip(records, items, strict=True)
        if item.score is not None
    }
