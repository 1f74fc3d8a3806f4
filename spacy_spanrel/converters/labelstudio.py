"""JSON of Label Studio, texts with labels and relations: to gold Docs and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc

from ..about import __version__
from ..annotations.relations import RecordId
from ..errors import Errors
from ..reading import ErrorHandler, JsonValue, raise_error, read_json_list, short
from .common import ENTITY, DocMaker, Edge, Entity
from .offsets import QuotedSpan, locate
from .report import ConversionReport, ExportReport, Finding
from .type_names import TypeNames
from .writing import read_text_annotations, score_of

# The label of a relation that has none.
RELATION = "RELATION"
# The writer's name for the text in `data`, and the tags of the labelling interface.
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
    coref: str | None = None,
    on_error: ErrorHandler = raise_error,
    report: ConversionReport | None = None,
) -> Iterator[Doc]:
    """Read an export of Label Studio in its format JSON, one Doc per task.

    Regions have the type "labels" and offsets in characters, ends exclusive. The head of a relation
    is `from_id` if its direction is "right", and `to_id` if it is "left"; "bi" makes two relations.
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

    - Of each task, the first annotation that was not cancelled is read. Further annotations,
      predictions, results of other types, and tasks without an annotation are left out and counted.
    - Each label of a region is an entity, and the region's relations go to the first of them. A
      region that ends inside a token is widened to whole tokens and reported.
    - Offsets count code points, in old versions UTF-16 units. If the regions of a task fit the texts
      that they quote only in UTF-16 units, they are converted, and this is counted.
    - `data` may have several texts. The annotated text is the one that the results name (as
      `to_name` or `source`), else the only text, else `text`; `text_key` overrides this.

    path (str | Path): The file.
    text_key (str | None): The key of the annotated text in `data`.
    nlp, types, coref, on_error, report: As in `common.DocMaker`.
    YIELDS (Doc): The gold Docs.
    RAISES (ConversionError): If the file is bad or, with the default `on_error`, a task in it.
    """
    maker = DocMaker(nlp, types, on_error, report, coref)

    def to_doc(task: JsonValue) -> Doc | None:
        task = task.with_id("id")
        result = _completed_result(task, maker)
        return None if result is None else _read_task(task, result, text_key, maker)

    yield from maker.each(read_json_list(path), to_doc)


@dataclass(frozen=True)
class _Region:
    """A labelled part of a text.

    id (str | int): Its id, to which relations refer.
    source (str | None): The key in `data` that it names; None if it names none.
    labels (list[str]): Its labels, one or more.
    span (QuotedSpan): Its offsets and text.
    """

    id: RecordId
    source: str | None
    labels: list[str]
    span: QuotedSpan


@dataclass
class _Result:
    """The result of an annotation.

    regions (list[_Region]): Results of the type "labels".
    relations (list[JsonValue]): Those of the type "relation".
    unread (dict[RecordId, str]): Ids of other regions, and why they are not read.
    """

    regions: list[_Region] = field(default_factory=list)
    relations: list[JsonValue] = field(default_factory=list)
    unread: dict[RecordId, str] = field(default_factory=dict)


def _completed_result(task: JsonValue, maker: DocMaker) -> _Result | None:
    """Parse the first completed annotation of a task; None if there is none."""
    notes = maker.report.notes
    if "annotations" not in task.as_dict():
        raise task.missing(
            "the key 'annotations', as in Label Studio's export format JSON (JSON-MIN has none)"
        )
    predictions = task.get("predictions")
    if predictions is not None and predictions.as_list():
        notes["predictions, not read"] += len(predictions.raw)
    result = None
    for annotation in task["annotations"]:
        cancelled = annotation.get("was_cancelled")
        if cancelled is not None and cancelled.as_bool():
            notes["cancelled annotations, not read"] += 1
        elif result is not None:
            notes["further annotations of a task, not read"] += 1
        else:
            result = _parse_result(annotation, task["data"].as_dict(), maker)
    if result is None:
        notes["tasks without a completed annotation, left out"] += 1
    return result


def _parse_result(annotation: JsonValue, data: dict[str, Any], maker: DocMaker) -> _Result:
    result = _Result()
    for item in annotation["result"]:
        kind = item["type"].as_name()
        if kind == "relation":
            result.relations.append(item)
        elif kind == "labels":
            result.regions.append(_parse_region(item, data, maker))
        else:
            maker.report.notes[f"results of the type {kind}, not read"] += 1
            id = item.get("id")
            name = None if id is None else id.as_id()
            if name is not None:
                result.unread[name] = f"is of the type {kind}"
    return result


def _parse_region(item: JsonValue, data: dict[str, Any], maker: DocMaker) -> _Region:
    id = item["id"].as_id()
    if id is None:
        raise item["id"].wrong_kind("a string that is not empty")
    value = item["value"]
    offsets = value["start"].as_int(), value["end"].as_int()
    labels = [maker.label_or(ENTITY, label, "regions") for label in value["labels"]]
    quote = value.get("text")
    # Old exports name the key in the configuration; others name at best the tag.
    source = item.raw.get("source")
    names = [source.removeprefix("$") if isinstance(source, str) else None, item.raw.get("to_name")]
    texts = [name for name in names if isinstance(name, str) and isinstance(data.get(name), str)]
    return _Region(
        id,
        texts[0] if texts else None,
        labels or [maker.label_or(ENTITY, None, "regions")],
        QuotedSpan((offsets,), None if quote is None else quote.as_str(), value),
    )


def _find_text(data: JsonValue, result: _Result, text_key: str | None) -> str:
    """Return the key of the annotated text in a task's data."""
    if text_key is not None:
        return text_key
    texts = [key for key, value in data.as_dict().items() if isinstance(value, str)]
    named = list(dict.fromkeys(region.source for region in result.regions if region.source))
    if len(named) == 1:
        return named[0]
    if not named and len(texts) == 1:
        return texts[0]
    if not named and TEXT_KEY in texts:
        return TEXT_KEY
    raise data.error(
        Errors.E624,
        found="texts " + (", ".join(map(short, named or texts)) or "(none)"),
        expected="one text, or one that the results name",
    )


def _read_task(task: JsonValue, result: _Result, text_key: str | None, maker: DocMaker) -> Doc:
    report = maker.report
    key = _find_text(task["data"], result, text_key)
    text = task["data"][key].as_str()
    doc = maker.tokenize(text, task["data"][key])
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
            maker.trimmed_entity(doc, text, start, end, label, region.span.where)
            for label in region.labels
        )
    edges: list[Edge] = []
    for item in result.relations:
        edges.extend(_edges(item, index, result, task.place.ref, maker))
        n = sum(item[side].raw in with_several for side in ("from_id", "to_id"))
        if n:
            report.notes["arguments with several labels, of which the first counts"] += n
    return maker.annotate(doc, entities, edges, task.place)


def _edges(
    item: JsonValue, index: dict[RecordId, int], result: _Result, record: str, maker: DocMaker
) -> Iterator[Edge]:
    """Yield the relations of an item: one a label, in one direction or both."""
    ends = []
    lost = ""
    for side in ("from_id", "to_id"):
        id = item[side].as_id()
        if id in index:
            ends.append(index[id])
        elif id in result.unread:
            lost = lost or f"{side} {short(id)} {result.unread[id]}"
        else:
            raise item[side].error(
                Errors.E607,
                found=f"{side} {short(id)}",
                expected=f"the id of one of the {len(index)} regions",
            )
    labels = [
        maker.label_or(RELATION, label, "relations") for label in item.get("labels") or ()
    ] or [maker.label_or(RELATION, None, "relations")]
    value = item.get("direction")
    direction = "right" if value is None else value.raw
    if value is not None and (not isinstance(direction, str) or direction not in DIRECTIONS):
        raise value.wrong_kind("one of " + ", ".join(DIRECTIONS))
    if lost:
        maker.report.lost_relations.extend(
            Finding(record, f"{label}: {lost}, so it is no entity") for label in labels
        )
        return
    if direction == "bi":
        maker.report.notes["relations in both directions, read as two"] += len(labels)
    forward, backward = DIRECTIONS[direction]
    for label in labels:
        if forward:
            yield Edge(ends[0], ends[1], label)
        if backward:
            yield Edge(ends[1], ends[0], label)


def docs_to_labelstudio(
    docs: Iterable[Doc],
    report: ExportReport,
    *,
    coref: str | None = None,
    suggestions: bool = False,
) -> Iterator[dict[str, Any]]:
    """Make tasks of Docs, gold or predicted, for import into Label Studio.

    Each has one annotation or, with `suggestions`, one prediction: Label Studio shows it as a
    pre-annotation, from which people make an annotation. The score of the prediction is the lowest of
    its entities and relations, so that the least certain tasks can be labelled first.

    The tasks fit a labelling interface with ``<Labels name="label" toName="text">``,
    ``<Text name="text" value="$text"/>`` and ``<Relations>``. Offsets count code points.

    docs (Iterable[Doc]): Gold or predicted Docs.
    report (ExportReport): Counts what is written, changed and left out. Scores are left out, unless
        they are suggestions.
    coref (str | None): The name of coreference, for the same argument of `labelstudio_to_docs`: a relation
        of this name leads from each mention of a cluster to the one before it, and mentions that are
        no entities get it as their type. None to leave clusters out.
    suggestions (bool): Write predictions with scores, and no annotations.
    YIELDS (dict[str, Any]): A task for each Doc, to be written as an item of a JSON list.
    """
    for doc in docs:
        annotated = read_text_annotations(doc, report, coref, suggestions)
        annotated.count(report)
        result: list[dict[str, Any]] = [
            {
                "id": f"e{i}",
                "from_name": LABELS_TAG,
                "to_name": TEXT_TAG,
                "type": "labels",
                "value": {
                    "start": start,
                    "end": end,
                    "text": annotated.text[start:end],
                    "labels": [entity.label],
                },
                **score_of(entity, suggestions),
            }
            for i, (entity, (start, end)) in enumerate(
                zip(annotated.entities, annotated.bounds, strict=True)
            )
        ]
        result.extend(
            {
                "from_id": f"e{edge.head}",
                "to_id": f"e{edge.tail}",
                "type": "relation",
                "direction": "right",
                "labels": [edge.label],
                **score_of(edge, suggestions),
            }
            for edge in annotated.edges
        )
        task: dict[str, Any] = {} if annotated.id is None else {"id": annotated.id}
        task["data"] = {TEXT_KEY: annotated.text}
        if suggestions:
            version = f"spacy-spanrel {__version__}"
            prediction = {"model_version": version, "result": result}
            task["predictions"] = [{**prediction, **score_of(annotated, suggestions)}]
        else:
            task["annotations"] = [{"result": result, "was_cancelled": False}]
        yield task
