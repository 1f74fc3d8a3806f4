"""JSON lines of LangExtract, extractions that a language model has made, to gold Docs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc

from ..reading import ErrorHandler, JsonValue, raise_error, read_json_records
from .common import DocMaker
from .report import ConversionReport
from .silver import ID_KEYS, Name, Placer, Triple, weight_of, weight_of_triple
from .type_names import TypeNames

# Pairs of attributes that make an extraction a relation.
ARGUMENTS = (("head", "tail"), ("subject", "object"), ("source", "target"))
# The attribute with its label; without one, the class of the extraction is the label.
LABELS = ("relation", "predicate", "relationship", "type")
# An extraction that was aligned with exactly its own words.
EXACT = "match_exact"


def langextract_to_docs(
    path: str | Path,
    *,
    nlp: Language | None = None,
    types: str | Path | TypeNames | None = None,
    links: str | None = None,
    on_error: ErrorHandler = raise_error,
    report: ConversionReport | None = None,
) -> Iterator[Doc]:
    """Read what LangExtract saves (`lx.io.save_annotated_documents`), one Doc per document.

    LangExtract knows no relations, only extractions with a class and attributes. An extraction whose
    attributes name two arguments is a relation, all others are entities. Sample (in the file this is
    one line)::

        {"document_id": "doc_1", "text": "Ann Lee lives in Oslo",
         "extractions": [
             {"extraction_class": "person", "extraction_text": "Ann Lee",
              "char_interval": {"start_pos": 0, "end_pos": 7}, "alignment_status": "match_exact",
              "attributes": {}},
             {"extraction_class": "lives_in", "extraction_text": "lives in", "char_interval": null,
              "attributes": {"head": "Ann Lee", "tail": "Oslo", "weight": 0.8}}]}

    - The arguments are `head` and `tail`, `subject` and `object`, or `source` and `target`. The label is
      the attribute `relation`, `predicate`, `relationship` or `type`, else the class.
    - With `links`, the name of an attribute, an entity is related to the one whose words are its value,
      as in LangExtract's own example of medications, where each dosage has the attribute
      `medication_group`. The class of the linked entity is the label: dosage(Lisinopril, 10mg).
    - An entity that LangExtract has aligned exactly is taken at its offsets. All other strings are found
      as in `triples_to_docs`, which also says what is listed, and what a weight is.

    path (str | Path): The file.
    links (str | None): The attribute that links entities.
    nlp, types, on_error, report: As in `common.DocMaker`.
    YIELDS (Doc): The gold Docs.
    RAISES (ConversionError): If the file is bad or, with the default `on_error`, a document in it.
    """
    maker = DocMaker(nlp, types, on_error, report)

    def to_doc(record: JsonValue) -> Doc:
        record = record.with_id(*ID_KEYS)
        doc = maker.tokenize(record["text"].as_str(), record["text"], "strings")
        names, triples = _read_extractions(record, links)
        return Placer(doc, maker, record.place).annotate(names, triples)

    yield from maker.each(read_json_records(path), to_doc)


def _read_extractions(record: JsonValue, links: str | None) -> tuple[list[Name], list[Triple]]:
    names: list[Name] = []
    triples: list[Triple] = []
    linked: list[tuple[Name, Name]] = []
    for item in record.get("extractions") or ():
        label = item["extraction_class"].as_name()
        attributes = item.get("attributes")
        if attributes is not None:
            fields = attributes.as_dict()
            keys = next((keys for keys in ARGUMENTS if _has_arguments(fields, keys)), None)
            if keys is not None:
                head, tail = (_argument(attributes[key]) for key in keys)
                named = next((v for key in LABELS if (v := attributes.get(key)) is not None), None)
                label = label if named is None else named.as_name()
                triples.append(Triple(head, tail, label, weight_of_triple(attributes, head, tail)))
                continue
        names.append(_entity(item, label, attributes))
        target = None if attributes is None or links is None else attributes.get(links)
        if target is not None:
            linked.append((names[-1], _argument(target)))
    for tail, head in linked:
        if head.text != tail.text:  # the medication itself is in its group, too
            weight = 1.0 if tail.weight is None else tail.weight
            triples.append(Triple(head, tail, tail.label, weight))
    return names, triples


def _has_arguments(fields: dict[str, Any], keys: tuple[str, str]) -> bool:
    """Tell whether attributes name two arguments. One may be null; if both are, they only fill a schema."""
    return all(key in fields for key in keys) and any(fields[key] is not None for key in keys)


def _argument(value: JsonValue) -> Name:
    """Read an argument; null is in no text."""
    return Name("" if value.raw is None else value.as_str(), "", value)


def _entity(item: JsonValue, label: str, attributes: JsonValue | None) -> Name:
    interval, status = item.get("char_interval"), item.get("alignment_status")
    chars = None
    if interval is not None and status is not None and status.raw == EXACT:
        chars = interval["start_pos"].as_int(), interval["end_pos"].as_int()
    text = item["extraction_text"]
    weight = None if attributes is None else weight_of(attributes)
    return Name(text.as_str(), label, text, weight, chars)
