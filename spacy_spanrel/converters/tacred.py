"""TACRED's JSON, also the form of Re-TACRED and of copies of other corpora: to Docs and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc

from ..reading import ErrorHandler, JsonValue, raise_error, read_json_list
from .common import BRACKETS, DocMaker, Entity, inclusive_offsets, one_relation
from .report import ConversionReport, ExportReport
from .type_names import TypeNames
from .writing import count_pairs, read_pairs, words_of


def tacred_to_docs(
    path: str | Path,
    *,
    nlp: Language | None = None,
    types: str | Path | TypeNames | None = None,
    on_error: ErrorHandler = raise_error,
    report: ConversionReport | None = None,
) -> Iterator[Doc]:
    """Read a file of TACRED's JSON, one Doc per record.

    A record is one relation of one sentence: its head is the subject and its tail the object. Offsets
    count tokens, and ends are inclusive. The label no_relation is a label like any other. Sample::

        [{"id": "a7", "relation": "per:city_of_residence",
          "token": ["Ann", "Lee", "-LRB-", "34", "-RRB-", "lives", "in", "Oslo"],
          "subj_start": 0, "subj_end": 1, "subj_type": "PERSON",
          "obj_start": 7, "obj_end": 7, "obj_type": "CITY"}]

    Tokens such as -LRB-, in upper or lower case, become the brackets that they stand for. Other keys
    (docid, stanford_pos and so on) are ignored; the id may be missing.

    path (str | Path): The file.
    nlp, types, on_error, report: As in `common.DocMaker`.
    YIELDS (Doc): The gold Docs.
    RAISES (ConversionError): If the file is bad or, with the default `on_error`, a record in it.
    """
    maker = DocMaker(nlp, types, on_error, report)

    def to_doc(record: JsonValue) -> Doc:
        record = record.with_id("id")
        words = record["token"].as_words()
        subject, target = (_argument(record, name, len(words)) for name in ("subj", "obj"))
        entities, relations = one_relation(subject, target, record["relation"].as_name())
        words = [BRACKETS.get(word.upper(), word) for word in words]
        return maker.from_words(words, entities, relations, record.place)

    yield from maker.each(read_json_list(path), to_doc)


def _argument(record: JsonValue, name: str, n_words: int) -> Entity:
    """Return the subject ("subj") or the object ("obj") of a record."""
    keys = f"{name}_start", f"{name}_end"
    offsets = inclusive_offsets(
        record[keys[0]], record[keys[1]], n_words, record.at(", ".join(keys))
    )
    return Entity(*offsets, record[f"{name}_type"].as_name())


# Back to JSON


def docs_to_tacred(docs: Iterable[Doc], report: ExportReport) -> Iterator[dict[str, Any]]:
    """Make records of TACRED's JSON, which `tacred_to_docs` reads. A file is a list of them.

    A record is one relation, and its text is the whole Doc. Pairs without a relation are not written:
    for negative examples, give them a label first (`add_negatives`). Brackets are written as they
    are, not as -LRB-. There are no keys docid, stanford_pos and the like.

    docs (Iterable[Doc]): Gold or predicted Docs. If a Doc has several relations, the ids of its
        records end in a colon and the number of the relation.
    report (ExportReport): Counts what is written, changed and left out.
    YIELDS (dict[str, Any]): The records.
    """
    for number, doc in enumerate(docs):
        pairs = read_pairs(doc, number, report)
        if not pairs:
            continue
        words = words_of(doc, report)
        n_brackets = sum(word.upper() in BRACKETS for word in words)
        report.note("tokens such as -LRB-, which are read as brackets", n_brackets)
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
