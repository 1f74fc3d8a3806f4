"""JSON of Label Studio, for texts with labels and relations: to gold Docs and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    read_records,
    short,
    wrong_kind,
)
from .common import (
    ENTITY,
    ConversionReport,
    Edge,
    Entity,
    ExportReport,
    Finding,
    TypeNames,
    annotate_doc,
    as_types,
)
from .tools import (
    QuotedSpan,
    expect_label,
    expect_text,
    locate,
    optional_list,
    read_text_annotations,
    text_entity,
    tokenize,
)

# What a relation without a label is called.
RELATION = "RELATION"
# What the writer calls the text in `data`, and the tags of the labelling interface.
TEXT_KEY = TEXT_TAG = "text"
LABELS_TAG = "label"
# Direction -> whether the relation goes from from_id to to_id, and the other way.
DIRECTIONS = {"right": (True, False), "left": (False, True), "bi": (True, True)}


def labelstudio_to_docs(
    path: str | Path,
    *,
    nlp: Language | None = None,
    types: str | Path | TypeNames | None = None,
    text_key: str | None = None,
    on_error: ErrorHandler = raise_error,
    report: ConversionReport | None = None,
) -> Iterator[Doc]:
    """Read an export of Label Studio in its format JSON, one Doc a task.

    Regions have the type "labels" and offsets in characters, ends exclusive; the head of a relation
    is `from_id` if its direction is "right", `to_id` if it is "left", and "bi" makes two relations.
    Sample::

        [{"id": 7, "data": {"text": "Ann Lee lives in Oslo"},
          "annotations": [{"id": 4, "was_cancelled": false, "result": [
              {"id": "a1", "from_name": "label", "to_name": "text", "type": "labels",
               "value": {"start": 0, "end": 7, "text": "Ann Lee", "labels": ["PERSON"]}},
              {"id": "b2", "from_name": "label", "to_name": "text", "type": "labels",
               "value": {"start": 17, "end": 21, "text": "Oslo", "labels": ["CITY"]}},
              {"from_id": "a1", "to_id": "b2", "type": "relation", "direction": "right",
               "labels": ["lives_in"]}]}],
          "predictions": []}]

    - The first annotation of a task that was not cancelled is read. Further ones, predictions,
      results of other types, and tasks without an annotation are left out and counted.
    - Each label of a region is an entity; its relations are those of the first one. A region that
      ends inside a token is widened to whole tokens and reported.
    - Offsets count code points, in old versions UTF-16 units: where a task's regions fit the text
      that they quote only in these, they are converted and counted.
    - `data` may have several texts. The annotated one is that which the results name (as
      `to_name`, or `source`), else the only one, else `text`; `text_key` sets it.

    path (str | Path): The file.
    nlp (Language | None): Its tokenizer is used. Defaults to a blank English pipeline.
    types (str | Path | TypeNames | None): A types file, to check the names against.
    text_key (str | None): The key of the annotated text in `data`.
    on_error (Callable[[ConversionError], None]): What to do about a bad task. If it does not raise,
        the task is skipped. Errors that concern the whole file are always raised.
    report (ConversionReport | None): Is added to.
    YIELDS (Doc): The Docs.
    RAISES (ConversionError): If the file, or with the default `on_error` a task, is bad.
    """
    report = ConversionReport() if report is None else report
    names = as_types(types)
    pipeline = nlp or spacy.blank("en")
    for number, item in enumerate(read_records(path)):
        place = Place(str(path), f"record {number}")
        try:
            task = expect_dict(item, place)
            place = Place(place.file, place.name, expect_id(task.get("id"), place.at("id")))
            result = _completed_result(task, place, report)
            if result is None:
                continue
            doc = _read_task(task, result, pipeline, text_key, names, report)
        except ConversionError as error:
            report.skip(error, on_error)
            continue
        yield doc


@dataclass(frozen=True)
class _Region:
    """A labelled part of a text, as it is in the file.

    source (str | None): The key in `data` that it names; None if it does not.
    """

    id: RecordId
    source: str | None
    labels: list[str]
    span: QuotedSpan


@dataclass
class _Result:
    """The result of an annotation.

    place (Place): The task.
    regions (list[_Region]): Results of the type "labels".
    relations (list[tuple[Place, dict[str, Any]]]): Those of the type "relation".
    unread (dict[RecordId, str]): Ids of other regions, and why they are not read.
    """

    place: Place
    regions: list[_Region] = field(default_factory=list)
    relations: list[tuple[Place, dict[str, Any]]] = field(default_factory=list)
    unread: dict[RecordId, str] = field(default_factory=dict)


def _completed_result(
    task: dict[str, Any], place: Place, report: ConversionReport
) -> _Result | None:
    """Parse the first completed annotation; None if there is none."""
    if "annotations" not in task:
        raise place.error(
            Errors.E605,
            found="the keys " + ", ".join(map(repr, task)),
            expected="the key 'annotations', as in Label Studio's export format JSON (JSON-MIN has "
            "none)",
        )
    n_predictions = len(optional_list(task, "predictions", place))
    if n_predictions:
        report.notes["predictions, not read"] += n_predictions
    result = None
    for i, item in enumerate(expect_list(task["annotations"], place.at("annotations"))):
        where = place.at(f"annotations[{i}]")
        annotation = expect_dict(item, where)
        cancelled = annotation.get("was_cancelled") or False
        if not isinstance(cancelled, bool):
            raise wrong_kind(cancelled, "true or false", where.at("was_cancelled"))
        if cancelled:
            report.notes["cancelled annotations, not read"] += 1
        elif result is not None:
            report.notes["further annotations of a task, not read"] += 1
        else:
            data = expect_dict(expect_key(task, "data", place), place.at("data"))
            result = _parse_result(annotation, data, place, where, report)
    if result is None:
        report.notes["tasks without a completed annotation, left out"] += 1
    return result


def _parse_result(
    annotation: dict[str, Any],
    data: dict[str, Any],
    task: Place,
    place: Place,
    report: ConversionReport,
) -> _Result:
    result = _Result(task)
    items = expect_list(expect_key(annotation, "result", place), place.at("result"))
    for i, item in enumerate(items):
        where = place.at(f"result[{i}]")
        item = expect_dict(item, where)
        kind = expect_name(expect_key(item, "type", where), where.at("type"))
        if kind == "relation":
            result.relations.append((where, item))
        elif kind == "labels":
            result.regions.append(_parse_region(item, data, where, report))
        else:
            report.notes[f"results of the type {kind}, not read"] += 1
            name = expect_id(item.get("id"), where.at("id"))
            if name is not None:
                result.unread[name] = f"is of the type {kind}"
    return result


def _parse_region(
    item: dict[str, Any], data: dict[str, Any], place: Place, report: ConversionReport
) -> _Region:
    name = expect_id(expect_key(item, "id", place), place.at("id"))
    if name is None:
        raise wrong_kind(item["id"], "a string that is not empty", place.at("id"))
    where = place.at("value")
    value = expect_dict(expect_key(item, "value", place), where)
    start, end = (
        expect_int(expect_key(value, key, where), where.at(key)) for key in ("start", "end")
    )
    labels = expect_list(expect_key(value, "labels", where), where.at("labels"))
    labels = [
        expect_label(label, "regions", ENTITY, where.at(f"labels[{i}]"), report)
        for i, label in enumerate(labels or [None])
    ]
    quote = value.get("text")
    if quote is not None:
        expect_text(quote, where.at("text"))
    # Old exports have the name in the configuration, others at best the name of the tag.
    source = item.get("source")
    names = [source.removeprefix("$") if isinstance(source, str) else None, item.get("to_name")]
    known = [key for key in names if isinstance(key, str) and isinstance(data.get(key), str)]
    span = QuotedSpan(((start, end),), quote, where)
    return _Region(name, known[0] if known else None, labels, span)


def _find_text(task: dict[str, Any], result: _Result, text_key: str | None) -> tuple[str, str]:
    """Return the key of the annotated text, and the text."""
    place = result.place.at("data")
    data = task["data"]
    if text_key is not None:
        return text_key, expect_text(expect_key(data, text_key, place), place.at(text_key))
    texts = [key for key, value in data.items() if isinstance(value, str)]
    named = list(dict.fromkeys(region.source for region in result.regions if region.source))
    if len(named) == 1:
        (key,) = named
    elif not named and len(texts) == 1:
        (key,) = texts
    elif not named and TEXT_KEY in texts:
        key = TEXT_KEY
    else:
        raise place.error(
            Errors.E624,
            found="texts " + (", ".join(map(short, named or texts)) or "(none)"),
            expected="one text, or one that the results name",
        )
    return key, expect_text(data[key], place.at(key))


def _read_task(
    task: dict[str, Any],
    result: _Result,
    pipeline: Language,
    text_key: str | None,
    names: TypeNames | None,
    report: ConversionReport,
) -> Doc:
    place = result.place
    key, text = _find_text(task, result, text_key)
    doc = tokenize(pipeline, text, place.at(f"data.{key}"))
    regions = []
    for region in result.regions:
        if region.source not in (None, key):
            report.notes["regions of another text, left out"] += 1
            result.unread[region.id] = f"is in the text {region.source!r}"
        else:
            regions.append(region)
    located = locate(text, [region.span for region in regions], report)
    entities: list[Entity] = []
    index: dict[RecordId, int] = {}
    with_several: set[RecordId] = set()
    for region, ((start, end),) in zip(regions, located, strict=True):
        if region.id in index or len(region.labels) > 1:
            # Several tags may label one region: then results share an id.
            with_several.add(region.id)
        index.setdefault(region.id, len(entities))
        entities.extend(
            text_entity(doc, text, start, end, label, place=region.span.place, report=report)
            for label in region.labels
        )
    edges: list[Edge] = []
    for where, item in result.relations:
        edges.extend(_edges(item, index, result, where, report))
        n = sum(item[side] in with_several for side in ("from_id", "to_id"))
        if n:
            report.notes["arguments with several labels, of which the first counts"] += n
    annotate_doc(doc, entities, edges, place=place, report=report, types=names)
    return doc


def _edges(
    item: dict[str, Any],
    index: dict[RecordId, int],
    result: _Result,
    place: Place,
    report: ConversionReport,
) -> Iterator[Edge]:
    """Yield the relations of an item: one a label, in one direction or both."""
    ends = []
    lost = ""
    for side in ("from_id", "to_id"):
        name = expect_id(expect_key(item, side, place), place.at(side))
        if name in index:
            ends.append(index[name])
        elif name in result.unread:
            lost = lost or f"{side} {short(name)} {result.unread[name]}"
        else:
            raise place.at(side).error(
                Errors.E607,
                found=f"{side} {short(name)}",
                expected=f"the id of one of the {len(index)} regions",
            )
    labels = optional_list(item, "labels", place)
    names = [
        expect_label(label, "relations", RELATION, place.at(f"labels[{i}]"), report)
        for i, label in enumerate(labels or [None])
    ]
    direction = item.get("direction")
    if direction is None:
        direction = "right"
    if not isinstance(direction, str) or direction not in DIRECTIONS:
        raise wrong_kind(direction, "one of " + ", ".join(DIRECTIONS), place.at("direction"))
    if lost:
        report.lost_relations.extend(
            Finding(result.place.ref, f"{name}: {lost}, so it is no entity") for name in names
        )
        return
    if direction == "bi":
        report.notes["relations in both directions, made two"] += len(names)
    forward, backward = DIRECTIONS[direction]
    for name in names:
        if forward:
            yield Edge(ends[0], ends[1], name)
        if backward:
            yield Edge(ends[1], ends[0], name)


def docs_to_labelstudio(docs: Iterable[Doc], report: ExportReport) -> Iterator[dict[str, Any]]:
    """Make tasks of Docs, gold or predicted, each with one annotation, as Label Studio imports them.

    They fit a labelling interface with ``<Labels name="label" toName="text">``,
    ``<Text name="text" value="$text"/>`` and ``<Relations>``. Offsets count code points.

    docs (Iterable[Doc]): The Docs.
    report (ExportReport): Is added to. Scores are left out.
    YIELDS (dict[str, Any]): A task for each Doc, to be an item of a JSON list;
        `labelstudio_to_docs` reads it.
    """
    for doc in docs:
        found = read_text_annotations(doc, report)
        found.count(report)
        result: list[dict[str, Any]] = [
            {
                "id": f"e{i}",
                "from_name": LABELS_TAG,
                "to_name": TEXT_TAG,
                "type": "labels",
                "value": {
                    "start": start,
                    "end": end,
                    "text": found.text[start:end],
                    "labels": [entity.label],
                },
            }
            for i, (entity, (start, end)) in enumerate(
                zip(found.entities, found.bounds, strict=True)
            )
        ]
        result.extend(
            {
                "from_id": f"e{edge.head}",
                "to_id": f"e{edge.tail}",
                "type": "relation",
                "direction": "right",
                "labels": [edge.label],
            }
            for edge in found.relations
        )
        task: dict[str, Any] = {} if found.id is None else {"id": found.id}
        task["data"] = {TEXT_KEY: found.text}
        task["annotations"] = [{"result": result, "was_cancelled": False}]
        yield task
