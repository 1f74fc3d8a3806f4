"""JSON lines of doccano, for entities with or without relations: to gold Docs and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import spacy
from spacy.language import Language
from spacy.tokens import Doc

from ..annotations.relations import RecordId
from ..errors import Errors
from ..reading import (
    ConversionError,
    ErrorHandler,
    Place,
    expect_dict,
    expect_id,
    expect_int,
    expect_key,
    expect_list,
    expect_name,
    raise_error,
    short,
)
from .common import ConversionReport, Edge, ExportReport, TypeNames, annotate_doc, as_types
from .tools import (
    CODE_POINTS,
    UTF16_UNITS,
    Offsets,
    OffsetUnit,
    expect_text,
    optional_list,
    read_objects,
    read_text_annotations,
    text_entity,
    tokenize,
    wrong_offsets,
)

# "entities" of projects with relations; the others, as [start, end, label], of other projects.
ENTITY_KEYS = ("entities", "label", "labels")
DoccanoOffsets = Literal["auto", "utf-16", "code-points"]
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
    on_error: ErrorHandler = raise_error,
    report: ConversionReport | None = None,
) -> Iterator[Doc]:
    """Read JSON lines of doccano (or its JSON list), one Doc a record.

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

    An emoji, and any other character beyond U+FFFF, is two characters for most versions of doccano
    and one for some, and the file does not say. Where a text has any, the count is taken in which
    the entities fit the text and its tokens best, and the two-character one if both do; the report
    says which, and `offsets` sets it.

    path (str | Path): The file.
    nlp (Language | None): Its tokenizer is used. Defaults to a blank English pipeline.
    types (str | Path | TypeNames | None): A types file, to check the names against.
    offsets ("auto" | "utf-16" | "code-points"): What offsets count.
    on_error (Callable[[ConversionError], None]): What to do about a bad record. If it does not
        raise, the record is skipped. Errors that concern the whole file are always raised.
    report (ConversionReport | None): Is added to.
    YIELDS (Doc): The Docs.
    RAISES (ConversionError): If the file, or with the default `on_error` a record, is bad.
    """
    if offsets not in get_args(DoccanoOffsets):
        raise Place(str(path)).error(
            Errors.E613,
            found=f"offsets {offsets!r}",
            expected=" or ".join(map(repr, get_args(DoccanoOffsets))),
        )
    report = ConversionReport() if report is None else report
    names = as_types(types)
    pipeline = nlp or spacy.blank("en")
    for place, fields in read_objects(path, on_error=on_error, report=report):
        try:
            orig_id = expect_id(fields.get("id", fields.get("doc_id")), place.at("id"))
            place = Place(place.file, place.name, orig_id)
            key = "data" if "text" not in fields and "data" in fields else "text"
            text = expect_text(expect_key(fields, key, place), place.at(key))
            spans = _spans(fields, place, report)
            doc = tokenize(pipeline, text, place.at(key))
            chars = _to_chars(doc, text, spans, _UNITS[offsets], report)
            entities = [
                text_entity(doc, text, *bounds, span.label, place=span.place, report=report)
                for bounds, span in zip(chars, spans, strict=True)
            ]
            relations = _relations(fields, spans, place)
            annotate_doc(doc, entities, relations, place=place, report=report, types=names)
        except ConversionError as error:
            report.skip(error, on_error)
            continue
        yield doc


class _SpanOfFile:
    """An entity as it is in the file: [start, end, label], or an object, which has an id."""

    def __init__(self, item: object, place: Place) -> None:
        self.place = place
        self.id: RecordId | None = None
        if isinstance(item, list):
            self.start, self.end, self.label = expect_list(item, place, 3)
            where = place.at("[0]"), place.at("[1]"), place.at("[2]")
        else:
            fields = expect_dict(item, place)
            self.id = expect_id(fields.get("id"), place.at("id"))
            keys = ("start_offset", "end_offset", "label")
            self.start, self.end, self.label = (expect_key(fields, key, place) for key in keys)
            where = place.at(keys[0]), place.at(keys[1]), place.at(keys[2])
        expect_int(self.start, where[0])
        expect_int(self.end, where[1])
        expect_name(self.label, where[2])


def _spans(fields: dict[str, Any], place: Place, report: ConversionReport) -> list[_SpanOfFile]:
    keys = [key for key in ENTITY_KEYS if key in fields]
    if not keys:
        raise place.error(
            Errors.E605,
            found="the keys " + ", ".join(map(repr, fields)),
            expected="one of the keys " + ", ".join(map(repr, ENTITY_KEYS)),
        )
    for key in keys[1:]:
        report.notes[f"lists {key!r} beside {keys[0]!r}, not read"] += 1
    return [
        _SpanOfFile(item, place.at(f"{keys[0]}[{i}]"))
        for i, item in enumerate(optional_list(fields, keys[0], place))
    ]


def _to_chars(
    doc: Doc,
    text: str,
    spans: Sequence[_SpanOfFile],
    units: Sequence[OffsetUnit],
    report: ConversionReport,
) -> list[tuple[int, int]]:
    """Return the offsets in code points, from the unit that fits best."""
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
    found = []
    for span, bounds in zip(spans, chars, strict=True):
        if bounds is None:
            raise wrong_offsets(span.start, span.end, text, span.place)
        found.append(bounds)
    if spans and Offsets(text, UTF16_UNITS).differ:
        report.notes[
            f"texts with characters beyond U+FFFF, whose offsets were taken as {unit.name}"
        ] += 1
    return found


def _relations(fields: dict[str, Any], spans: Sequence[_SpanOfFile], place: Place) -> list[Edge]:
    index: dict[RecordId, int] = {}
    for i, span in enumerate(spans):
        if span.id is None:
            continue
        if span.id in index:
            raise span.place.at("id").error(
                Errors.E621,
                found=f"{span.id!r} again",
                expected="different ids within a record",
            )
        index[span.id] = i
    relations = []
    for i, item in enumerate(optional_list(fields, "relations", place)):
        where = place.at(f"relations[{i}]")
        item = expect_dict(item, where)
        ends = []
        for key in ("from_id", "to_id"):
            name = expect_id(expect_key(item, key, where), where.at(key))
            if name is None or name not in index:
                raise where.at(key).error(
                    Errors.E607,
                    found=f"{key} {short(name)}",
                    expected=f"the id of one of the record's {len(spans)} entities",
                )
            ends.append(index[name])
        label = expect_name(expect_key(item, "type", where), where.at("type"))
        relations.append(Edge(ends[0], ends[1], label))
    return relations


def docs_to_doccano(docs: Iterable[Doc], report: ExportReport) -> Iterator[dict[str, Any]]:
    """Make records of Docs, gold or predicted, as doccano reads them.

    Offsets count UTF-16 units, as doccano does: other programs may have to be told, if texts have
    emojis or other characters beyond U+FFFF; these are counted in the report.

    docs (Iterable[Doc]): The Docs.
    report (ExportReport): Is added to. Scores are left out; overlapping entities are written, but
        doccano shows them only in projects that allow them.
    YIELDS (dict[str, Any]): A record for each Doc, to be a line of JSON; `doccano_to_docs` reads
        it.
    """
    # Ids are unique over the whole file, as in doccano's own.
    entity_id = relation_id = 0
    for doc in docs:
        found = read_text_annotations(doc, report)
        found.count(report)
        if found.has_overlaps:
            report.notes["texts with overlapping entities, which the project must allow"] += 1
        offsets = Offsets(found.text, UTF16_UNITS)
        if found.entities and offsets.differ:
            report.notes[
                "texts with characters beyond U+FFFF, written with offsets in UTF-16 units"
            ] += 1
        record: dict[str, Any] = {} if found.id is None else {"id": found.id}
        record["text"] = found.text
        record["entities"] = [
            {
                "id": entity_id + i,
                "label": entity.label,
                "start_offset": offsets.to_unit(start),
                "end_offset": offsets.to_unit(end),
            }
            for i, (entity, (start, end)) in enumerate(
                zip(found.entities, found.bounds, strict=True)
            )
        ]
        record["relations"] = [
            {
                "id": relation_id + i,
                "from_id": entity_id + edge.head,
                "to_id": entity_id + edge.tail,
                "type": edge.label,
            }
            for i, edge in enumerate(found.relations)
        ]
        entity_id += len(found.entities)
        relation_id += len(found.relations)
        yield record
