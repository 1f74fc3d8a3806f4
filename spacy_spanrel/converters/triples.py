"""Relations as rows of a table, for other programs and from them: head, relation and tail in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc, Span

from ..annotations import (
    CLUSTERS_PREFIX,
    EntityRelation,
    Relation,
    get_entities,
    get_entity_relations,
    get_relations,
)
from ..annotations.relations import RecordId
from ..reading import ErrorHandler, JsonValue, raise_error, read_json_records
from .common import DocMaker
from .report import ConversionReport, ExportReport
from .silver import ID_KEYS, Name, Placer, Triple, weight_of, weight_of_triple
from .type_names import TypeNames
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


# Reading

# The names that programs give to the parts of a record; the first one that is there counts.
_TRIPLES = ("triples", "relations", "relation_extraction")
_HEAD, _LABEL, _TAIL = (
    ("head", "subject", "source"),
    ("relation", "predicate", "label", "type"),
    ("tail", "object", "target"),
)
_TYPE = ("type", "label")


def triples_to_docs(
    path: str | Path,
    *,
    nlp: Language | None = None,
    types: str | Path | TypeNames | None = None,
    on_error: ErrorHandler = raise_error,
    report: ConversionReport | None = None,
) -> Iterator[Doc]:
    """Read texts with relations whose arguments are strings, as language models, GLiNER2 and knowledge
    bases give them: JSON lines (or a JSON list of the same records), one Doc per text.

    A record has a text and its relations, and perhaps entities, types and weights. Sample (in the file
    these are two lines)::

        {"id": 7, "text": "Ann Lee lives in Oslo",
         "entities": [{"text": "Ann Lee", "type": "PERSON"}],
         "triples": [{"head": "Ann Lee", "relation": "lives_in", "tail": "Oslo", "tail_type": "CITY",
                      "weight": 0.8}]}
        {"id": 8, "text": "Bo Dahl is from Bergen",
         "relations": {"lives_in": [["Bo Dahl", "Bergen"]]}, "entities": {"PERSON": ["Bo Dahl"]}}

    or is one relation; then lines with the same text that follow one another are one Doc, and a line
    without head, relation and tail is a text without relations. `export triples --text` writes such
    lines::

        {"id": 7, "text": "Ann Lee lives in Oslo", "head": "Ann Lee", "relation": "lives_in",
         "tail": "Oslo"}

    - The list may be called `triples`, `relations` or `relation_extraction`. A relation is an object
      with `head`, `relation` and `tail` (or `subject`, `predicate` and `object`, or `source` and
      `target`), or a list of these three; by label (as from GLiNER2), an object with `head` and `tail`,
      or a list of the two. An argument is a string, or an object with `text` and perhaps `type`, `start`
      and `end` (in characters), and `confidence`.
    - `tokens` instead of `text` gives a pretokenized text.
    - Strings are found in the text exactly, else but for case, blanks, quotes and dashes, else with at
      most one edit for five characters, and with the same digits. Of several places, the one that is
      nearest to the other argument counts. Offsets at which there are other words are not used if the
      string itself is in the text. A string that is not found is listed with file and line, as are the
      relations that are lost with it; strings found by edits are listed, too. An entity of the list
      `entities` is annotated wherever it occurs.
    - `weight` (or `confidence`, or `score`) of a relation is its share in the loss when a pipeline is
      trained (see `Relation`); without one, it is the lower confidence of its arguments, else 1. The
      weight of an entity is its own or the highest one of its relations.

    path (str | Path): The file.
    nlp, types, on_error, report: As in `common.DocMaker`.
    YIELDS (Doc): The gold Docs.
    RAISES (ConversionError): If the file is bad or, with the default `on_error`, a record in it.
    """
    maker = DocMaker(nlp, types, on_error, report)

    def to_doc(records: list[_Record]) -> Doc:
        for key in (key for record in records for key in record.unread):
            maker.report.notes[f"texts without relations whose key {key!r} is not read"] += 1
        first = records[0]
        if isinstance(first.text, tuple):
            doc = Doc(maker.nlp.vocab, words=list(first.text))
        else:
            doc = maker.tokenize(first.text, first.where["text"], "strings")
        names = [name for record in records for name in record.names]
        triples = [triple for record in records for triple in record.triples]
        return Placer(doc, maker, first.where.place).annotate(names, triples)

    records = maker.each(read_json_records(path), _read_record)
    texts = groupby(records, key=lambda record: record.key)
    yield from maker.each((list(group) for _, group in texts), to_doc)


@dataclass(frozen=True)
class _Record:
    """A record of the file.

    where (JsonValue): Its place.
    text (str | tuple[str, ...]): The text, or its tokens.
    names (list[Name]), triples (list[Triple]): Entities and relations.
    is_row (bool): Whether it is one relation of its text, and not all of them.
    unread (tuple[str, ...]): Of a text without relations, the keys of lists and tables that are not read:
        perhaps they hold the relations.
    """

    where: JsonValue
    text: str | tuple[str, ...]
    names: list[Name]
    triples: list[Triple]
    is_row: bool
    unread: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str | RecordId | None, ...]:
        """A key that is the same for the rows of one text only."""
        id = self.where.place.id
        if self.is_row:
            return (*((self.text,) if isinstance(self.text, str) else self.text), id)
        return (self.where.place.name,)


def _read_record(record: JsonValue) -> _Record:
    record = record.with_id(*ID_KEYS)
    text: str | tuple[str, ...]
    if "tokens" in record.raw and "text" not in record.raw:
        text = tuple(record["tokens"].as_words(allow_empty=True))
    else:
        text = record["text"].as_str()
    names = [*_read_names(record)]
    if any(key in record.raw for key in _TRIPLES):
        lists = [value for key in _TRIPLES if (value := record.get(key)) is not None]
        triples = [triple for value in lists for triple in _read_triples(value)]
        return _Record(record, text, names, triples, False)
    if any(_first(record, keys) is not None for keys in (_HEAD, _TAIL, _LABEL[:2])):
        return _Record(record, text, names, [_read_triple(record, None)], True)
    values = (
        (key, value.raw) for key, value in record.items() if key not in ("tokens", "entities")
    )
    unread = tuple(key for key, value in values if value and isinstance(value, dict | list))
    return _Record(record, text, names, [], False, unread)


def _read_names(record: JsonValue) -> Iterator[Name]:
    """Yield the listed entities: objects or strings, all in a list, or in lists by type."""
    entities = record.get("entities")
    if entities is None:
        return
    if isinstance(entities.raw, dict):
        for label, values in entities.items():
            for value in values:
                yield _read_name(value, label)
    else:
        for value in entities:
            yield _read_name(value, "")


def _read_name(value: JsonValue, label: str) -> Name:
    if isinstance(value.raw, int) and not isinstance(value.raw, bool):
        return Name(str(value.raw), label, value)  # a year, say
    if not isinstance(value.raw, dict):
        return Name(value.as_str(), label, value)
    given = _first(value, _TYPE)
    start, end = value.get("start"), value.get("end")
    return Name(
        value["text"].as_str(),
        label if given is None else given.as_name(),
        value,
        weight_of(value),
        None if start is None or end is None else (start.as_int(), end.as_int()),
    )


def _read_triples(value: JsonValue) -> Iterator[Triple]:
    if isinstance(value.raw, dict):
        for label, items in value.items():
            for item in items:
                yield _read_triple(item, label)
    else:
        for item in value:
            yield _read_triple(item, None)


def _read_triple(item: JsonValue, label: str | None) -> Triple:
    """Read a relation; its label, if it is not there itself."""
    if isinstance(item.raw, list):
        item.as_list(3 if label is None else 2)
        first, *middle, last = item
        label = middle[0].as_name() if label is None else label
        head, tail = _read_name(first, ""), _read_name(last, "")
    else:
        head, tail = _read_argument(item, _HEAD), _read_argument(item, _TAIL)
        if label is None:
            value = _first(item, _LABEL)
            if value is None:
                raise item.missing("the key 'relation'")
            label = value.as_name()
    return Triple(head, tail, label, weight_of_triple(item, head, tail))


def _read_argument(item: JsonValue, keys: tuple[str, ...]) -> Name:
    """Read an argument; beside it may be its type and offsets, as `docs_to_triples` writes them."""
    value = _first(item, keys)
    if value is None:
        if any(key in item.raw for key in keys):
            return Name("", "", item)  # null, which is in no text
        raise item.missing(f"the key {keys[0]!r}")
    name = _read_name(value, "")
    if isinstance(value.raw, dict):
        return name
    label = _first(item, tuple(f"{key}_{what}" for key in keys for what in _TYPE))
    start, end = (_first(item, tuple(f"{key}_{side}" for key in keys)) for side in ("start", "end"))
    return Name(
        name.text,
        "" if label is None or label.raw == "" else label.as_name(),
        value,
        None,
        None if start is None or end is None else (start.as_int(), end.as_int()),
    )


def _first(record: JsonValue, keys: tuple[str, ...]) -> JsonValue | None:
    """Return the value of the first of some keys that a record has."""
    return next((value for key in keys if (value := record.get(key)) is not None), None)


# Writing


def docs_to_triples(
    docs: Iterable[Doc],
    report: ExportReport,
    *,
    entities: bool = False,
    text: bool = False,
    clusters_prefix: str = CLUSTERS_PREFIX,
) -> Iterator[dict[str, Any]]:
    """Make a row for each relation, for JSON lines or CSV. Sample (here on several lines)::

        {"doc": "A7", "head": "Ann Lee", "head_label": "Person", "head_start": 0, "head_end": 7,
         "relation": "LIVES-IN", "tail": "Oslo", "tail_label": "Place", "tail_start": 17,
         "tail_end": 21, "score": 0.98}

    Offsets count characters of the Doc's text, and ends are exclusive. The score of a gold relation
    is None. The text itself is only written with `text`; then `triples_to_docs` reads the rows.

    As CSV, a cell that begins with =, +, -, @, a tab or a line end gets an apostrophe in front,
    because spreadsheets would run it as a formula (``export csv --raw`` leaves it as it is). Cells
    with line ends are quoted: in Python, read them from a file opened with ``newline=""``.

    With `entities`, a row is a relation between two entities, as `get_entity_relations` gathers them:
    the arguments are their best mentions ("Ann Lee", not "she"), the score is the best one, and
    "evidence" lists the offsets and the score of each relation between mentions.

    docs (Iterable[Doc]): Gold or predicted Docs.
    report (ExportReport): Counts what is written, changed and left out.
    entities (bool): Write relations between entities.
    text (bool): Add the text to each row, and write a row of text and id for each Doc without relations.
    clusters_prefix (str): The clusters of coreferent mentions, as in `get_clusters`.
    YIELDS (dict[str, Any]): The rows, with COLUMNS or ENTITY_COLUMNS as keys, and perhaps the text.
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
            if text:
                report.count(0, 0)
                yield {"doc": doc_id(doc, number, report), "text": doc.text}
            else:
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
            if text:
                values["text"] = doc.text
                if isinstance(row, Relation) and row.weight != 1:
                    values["weight"] = row.weight
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
