"""SpERT's JSON: CoNLL04, SciERC and ADE as the SpERT program reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc

from ..annotations.relations import get_orig_id
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
    expect_offsets,
    expect_words,
    raise_error,
    read_records,
)
from .common import (
    ConversionReport,
    Edge,
    Entity,
    ExportReport,
    TypeNames,
    as_types,
    get_vocab,
    make_doc,
)
from .writing import read_annotations, words_of


def spert_to_docs(
    path: str | Path,
    *,
    nlp: Language | None = None,
    types: str | Path | TypeNames | None = None,
    on_error: ErrorHandler = raise_error,
    report: ConversionReport | None = None,
) -> Iterator[Doc]:
    """Read a file of SpERT's JSON, one Doc a record.

    Offsets count tokens, ends are exclusive; head and tail are indices into the entities. Sample::

        [{"tokens": ["Ann", "Lee", "lives", "in", "Oslo"],
          "entities": [{"type": "Peop", "start": 0, "end": 2},
                       {"type": "Loc", "start": 4, "end": 5}],
          "relations": [{"type": "Live_In", "head": 0, "tail": 1}],
          "orig_id": 7}]

    path (str | Path): The file.
    nlp (Language | None): Gives the vocabulary. Defaults to a blank English pipeline.
    types (str | Path | TypeNames | None): SpERT's types file, to check the names against.
        Arguments of a relation that it calls symmetric are put in the order of the text.
    on_error (Callable[[ConversionError], None]): What to do about a bad record. If it does not
        raise, the record is skipped. Errors that concern the whole file are always raised.
    report (ConversionReport | None): Is added to.
    YIELDS (Doc): The Docs.
    RAISES (ConversionError): If the file, or with the default `on_error` a record, is bad.
    """
    report = ConversionReport() if report is None else report
    names = as_types(types)
    records = read_records(path)
    vocab = get_vocab(nlp)
    for number, record in enumerate(records):
        place = Place(str(path), f"record {number}")
        try:
            fields = expect_dict(record, place)
            orig_id = expect_id(fields.get("orig_id"), place.at("orig_id"))
            place = Place(str(path), f"record {number}", orig_id)
            words = expect_words(expect_key(fields, "tokens", place), place.at("tokens"))
            entities = _entities(fields, len(words), place)
            relations = _relations(fields, len(entities), place)
            doc = make_doc(
                vocab, words, entities, relations, place=place, report=report, types=names
            )
        except ConversionError as error:
            report.skip(error, on_error)
            continue
        yield doc


def _entities(fields: dict[str, Any], n_words: int, place: Place) -> list[Entity]:
    entities = []
    items = expect_list(expect_key(fields, "entities", place), place.at("entities"))
    for i, item in enumerate(items):
        where = place.at(f"entities[{i}]")
        item = expect_dict(item, where)
        label = expect_name(expect_key(item, "type", where), where.at("type"))
        start = expect_int(expect_key(item, "start", where), where.at("start"))
        end = expect_int(expect_key(item, "end", where), where.at("end"))
        expect_offsets(start, end, n_words, where)
        entities.append(Entity(start, end, label))
    return entities


def _relations(fields: dict[str, Any], n_entities: int, place: Place) -> list[Edge]:
    relations = []
    items = expect_list(expect_key(fields, "relations", place), place.at("relations"))
    for i, item in enumerate(items):
        where = place.at(f"relations[{i}]")
        item = expect_dict(item, where)
        label = expect_name(expect_key(item, "type", where), where.at("type"))
        ends = []
        for key in ("head", "tail"):
            index = expect_int(expect_key(item, key, where), where.at(key))
            if not 0 <= index < n_entities:
                raise where.at(key).error(
                    Errors.E607,
                    found=f"{key} {index}",
                    expected=f"0 <= {key} < {n_entities} (the number of entities)",
                )
            ends.append(index)
        relations.append(Edge(ends[0], ends[1], label))
    return relations


# Back to JSON


def docs_to_spert(docs: Iterable[Doc], report: ExportReport) -> Iterator[dict[str, Any]]:
    """Make records of SpERT's JSON: what `spert_to_docs` reads. A file is a list of them.

    docs (Iterable[Doc]): Gold or predicted Docs. One without an id gives a record without one.
    report (ExportReport): Is added to.
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
        report.docs += 1
        report.entities += len(entities)
        report.relations += len(edges)
        yield record
