"""TACRED's JSON, which Re-TACRED and copies of other corpora have too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from spacy.language import Language
from spacy.tokens import Doc

from ..reading import (
    ConversionError,
    ErrorHandler,
    Place,
    expect_dict,
    expect_id,
    expect_inclusive_offsets,
    expect_int,
    expect_key,
    expect_name,
    expect_words,
    raise_error,
    read_records,
)
from .common import (
    BRACKETS,
    ConversionReport,
    Entity,
    ExportReport,
    TypeNames,
    as_types,
    get_vocab,
    make_doc,
    one_relation,
)
from .writing import add_notes, count_pairs, read_pairs, words_of


def tacred_to_docs(
    path: str | Path,
    *,
    nlp: Language | None = None,
    types: str | Path | TypeNames | None = None,
    on_error: ErrorHandler = raise_error,
    report: ConversionReport | None = None,
) -> Iterator[Doc]:
    """Read a file of TACRED's JSON, one Doc a record.

    A record is one relation of one sentence: its head is the subject, its tail the object. Offsets
    count tokens, ends are inclusive. The label no_relation is a relation like any other. Sample::

        [{"id": "a7", "relation": "per:city_of_residence",
          "token": ["Ann", "Lee", "-LRB-", "34", "-RRB-", "lives", "in", "Oslo"],
          "subj_start": 0, "subj_end": 1, "subj_type": "PERSON",
          "obj_start": 7, "obj_end": 7, "obj_type": "CITY"}]

    Tokens like -LRB-, in any case, become the brackets they stand for. Other keys (docid, and the
    stanford_ ones) are ignored; the id may be missing.

    path (str | Path): The file.
    nlp (Language | None): Gives the vocabulary. Defaults to a blank English pipeline.
    types (str | Path | TypeNames | None): A types file, to check the names against.
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
            orig_id = expect_id(fields.get("id"), place.at("id"))
            place = Place(str(path), f"record {number}", orig_id)
            words = expect_words(expect_key(fields, "token", place), place.at("token"))
            entities, relations = one_relation(
                _argument(fields, "subj", len(words), place),
                _argument(fields, "obj", len(words), place),
                expect_name(expect_key(fields, "relation", place), place.at("relation")),
            )
            words = [BRACKETS.get(word.upper(), word) for word in words]
            doc = make_doc(
                vocab, words, entities, relations, place=place, report=report, types=names
            )
        except ConversionError as error:
            report.skip(error, on_error)
            continue
        yield doc


def _argument(
    fields: dict[str, Any], name: Literal["subj", "obj"], n_words: int, place: Place
) -> Entity:
    start, end = (
        expect_int(expect_key(fields, key, place), place.at(key))
        for key in (f"{name}_start", f"{name}_end")
    )
    start, end = expect_inclusive_offsets(
        start, end, n_words, place.at(f"{name}_start, {name}_end")
    )
    label = expect_name(expect_key(fields, f"{name}_type", place), place.at(f"{name}_type"))
    return Entity(start, end, label)


# Back to JSON


def docs_to_tacred(docs: Iterable[Doc], report: ExportReport) -> Iterator[dict[str, Any]]:
    """Make records of TACRED's JSON: what `tacred_to_docs` reads. A file is a list of them.

    A record is one relation, its text the whole Doc. A negative label is a label like any other, so
    a pair that shall be there as a negative example needs one (`add_negatives`). Brackets are
    written as they are, not as -LRB-. Keys that nothing here knows (docid, stanford_ ...) are not
    written.

    docs (Iterable[Doc]): Gold or predicted Docs. The records of a Doc with several relations have
        the id "id of the Doc:number of the relation".
    report (ExportReport): Is added to.
    YIELDS (dict[str, Any]): The records.
    """
    for number, doc in enumerate(docs):
        pairs = read_pairs(doc, number, report)
        if not pairs:
            continue
        words = words_of(doc, report)
        add_notes(
            report,
            {
                "tokens like -LRB-, which are read as brackets": sum(
                    word.upper() in BRACKETS for word in words
                )
            },
        )
        for pair in count_pairs(pairs, report):
            yield {
                "id": pair.id,
                "relation": pair.label,
                "token": words,
                "subj_start": pair.head.start,
                "subj_end": pair.head.end - 1,
                "obj_start": pair.tail.start,
                "obj_end": pair.tail.end - 1,
                "subj_type": pair.head.label,
                "obj_type": pair.tail.label,
            }
