"""SpERT's JSON, the form of CoNLL04, SciERC and ADE for the SpERT program: to Docs and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc

from ..annotations.relations import get_orig_id
from ..errors import Errors
from ..reading import ErrorHandler, JsonValue, raise_error, read_json_list
from .common import DocMaker, Edge, Entity
from .report import ConversionReport, ExportReport
from .type_names import TypeNames
from .writing import read_annotations, words_of


def spert_to_docs(
    path: str | Path,
    *,
    nlp: Language | None = None,
    types: str | Path | TypeNames | None = None,
    on_error: ErrorHandler = raise_error,
    report: ConversionReport | None = None,
) -> Iterator[Doc]:
    """Read a file of SpERT's JSON, one Doc per record.

    Offsets count tokens, and ends are exclusive; head and tail are indices of entities. Sample::

        [{"tokens": ["Ann", "Lee", "lives", "in", "Oslo"],
          "entities": [{"type": "Peop", "start": 0, "end": 2},
                       {"type": "Loc", "start": 4, "end": 5}],
          "relations": [{"type": "Live_In", "head": 0, "tail": 1}],
          "orig_id": 7}]

    path (str | Path): The file.
    nlp, types, on_error, report: As in `common.DocMaker`.
    YIELDS (Doc): The gold Docs.
    RAISES (ConversionError): If the file is bad or, with the default `on_error`, a record in it.
    """
    maker = DocMaker(nlp, types, on_error, report)

    def to_doc(record: JsonValue) -> Doc:
        record = record.with_id("orig_id")
        words = record["tokens"].as_words()
        entities = [_entity(item, len(words)) for item in record["entities"]]
        relations = [_relation(item, len(entities)) for item in record["relations"]]
        return maker.from_words(words, entities, relations, record.place)

    yield from maker.each(read_json_list(path), to_doc)


def _entity(item: JsonValue, n_words: int) -> Entity:
    label, start, end = item["type"].as_name(), item["start"].as_int(), item["end"].as_int()
    if not 0 <= start < end <= n_words:
        raise item.error(
            Errors.E606,
            found=f"start {start}, end {end}",
            expected=f"0 <= start < end <= {n_words} (the number of tokens), end exclusive",
        )
    return Entity(start, end, label)


def _relation(item: JsonValue, n_entities: int) -> Edge:
    for key in ("head", "tail"):
        index = item[key].as_int()
        if not 0 <= index < n_entities:
            raise item[key].error(
                Errors.E607,
                found=f"{key} {index}",
                expected=f"0 <= {key} < {n_entities} (the number of entities)",
            )
    return Edge(item["head"].as_int(), item["tail"].as_int(), item["type"].as_name())


# Back to JSON


def docs_to_spert(docs: Iterable[Doc], report: ExportReport) -> Iterator[dict[str, Any]]:
    """Make records of SpERT's JSON, which `spert_to_docs` reads. A file is a list of them.

    docs (Iterable[Doc]): Gold or predicted Docs. A Doc without an id gives a record without one.
    report (ExportReport): Counts what is written, changed and left out.
    YIELDS (dict[str, Any]): The records.
    """
    for doc in docs:
        if not len(doc):
            report.notes["Docs without tokens, left out"] += 1
            continue
        entities, edges = read_annotations(doc, report)
        record: dict[str, Any] = {
            "tokens": words_of(doc, report),
            "entities": [{"type": e.label, "start": e.start, "end": e.end} for e in entities],
            "relations": [{"type": e.label, "head": e.head, "tail": e.tail} for e in edges],
        }
        orig_id = get_orig_id(doc)
        if orig_id is not None:
            record["orig_id"] = orig_id
        report.count(len(entities), len(edges))
        yield record
