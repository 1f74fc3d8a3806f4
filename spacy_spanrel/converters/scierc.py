"""JSON lines of SciERC and DyGIE++."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from spacy.language import Language
from spacy.tokens import Doc

from .common import (
    ConversionError,
    ConversionErrors,
    ConversionReport,
    Edge,
    Entity,
    ErrorHandler,
    Finding,
    Place,
    TypeNames,
    as_types,
    expect_dict,
    expect_id,
    expect_inclusive_offsets,
    expect_key,
    expect_list,
    expect_name,
    expect_words,
    get_vocab,
    make_doc,
    parse_json,
    raise_error,
    read_lines,
    wrong_kind,
)

Unit = Literal["sentence", "document"]


@dataclass
class _Part:
    """What becomes one Doc."""

    place: Place
    start: int
    words: list[str]
    sent_starts: list[bool] | None = None
    entities: list[Entity] = field(default_factory=list)
    relations: list[Edge] = field(default_factory=list)


def scierc_to_docs(
    path: str | Path,
    *,
    nlp: Language | None = None,
    types: str | Path | TypeNames | None = None,
    unit: Unit = "sentence",
    on_error: ErrorHandler = raise_error,
    report: ConversionReport | None = None,
) -> Iterator[Doc]:
    """Read JSON lines of SciERC or DyGIE++, one Doc a sentence or a document.

    A line is a document. Offsets count tokens through the document, ends are inclusive. Sample
    (in the file this is one line)::

        {"doc_key": "A7",
         "sentences": [["Ann", "Lee", "lives", "in", "Oslo"], ["She", "sings"]],
         "ner": [[[0, 1, "Person"], [4, 4, "Place"]], [[5, 5, "Person"]]],
         "relations": [[[0, 1, 4, 4, "LIVES-IN"]], []]}

    The id of a Doc is the document's `doc_key`, with ":number of the sentence" if the unit is a
    sentence; a sentence without tokens makes no Doc. Relations whose argument is no entity and, if
    the unit is a sentence, relations across sentences cannot be kept and are reported.

    path (str | Path): The file.
    nlp (Language | None): Gives the vocabulary. Defaults to a blank English pipeline.
    types (str | Path | TypeNames | None): A types file, to check the names against.
    unit ("sentence" | "document"): What becomes one Doc. Docs of documents have sentence starts.
    on_error (Callable[[ConversionError], None]): What to do about a bad document. If it does not
        raise, the document is skipped. Errors that concern the whole file are always raised.
    report (ConversionReport | None): Is added to.
    YIELDS (Doc): The Docs.
    RAISES (ConversionError): If the file, or with the default `on_error` a document, is bad.
    """
    file = Place(str(path))
    if unit not in get_args(Unit):
        raise file.error(
            ConversionErrors.E613,
            found=f"unit {unit!r}",
            expected=" or ".join(map(repr, get_args(Unit))),
        )
    report = ConversionReport() if report is None else report
    names = as_types(types)
    vocab = get_vocab(nlp)
    empty = True
    for number, line in read_lines(path):
        if not line.strip():
            continue
        empty = False
        try:
            parts, lost, notes = _parse_document(line, number, unit, file)
            if names is not None:
                # Before the first Doc: a bad document is skipped as a whole.
                for part in parts:
                    names.check(part.entities, part.relations, part.place)
        except ConversionError as error:
            report.skip(error, on_error)
            continue
        report.lost_relations.extend(lost)
        report.notes.update(notes)
        for part in parts:
            yield make_doc(
                vocab,
                part.words,
                part.entities,
                part.relations,
                place=part.place,
                report=report,
                types=names,
                sent_starts=part.sent_starts,
            )
    if empty:
        raise file.error(ConversionErrors.E609, found="an empty file", expected="documents")


def _parse_document(
    line: str, number: int, unit: Unit, file: Place
) -> tuple[list[_Part], list[Finding], list[str]]:
    record = expect_dict(parse_json(line, file, number), file.at(f"line {number}"))
    place = file.at(f"line {number}")
    key = expect_id(expect_key(record, "doc_key", place), place.at("doc_key"))
    place = Place(place.file, place.name, key)
    items = expect_list(expect_key(record, "sentences", place), place.at("sentences"))
    sentences = [
        expect_words(item, place.at(f"sentences[{i}]"), allow_empty=True)
        for i, item in enumerate(items)
    ]
    if not any(sentences):
        raise wrong_kind(sentences, "at least one token", place.at("sentences"))
    ner = _per_sentence(record, "ner", len(sentences), place)
    edges = _per_sentence(record, "relations", len(sentences), place)

    parts, part_of_token, part_of_sentence = _make_parts(sentences, unit, place)
    notes = ["sentences without tokens"] * sum(not words for words in sentences)
    lost: list[Finding] = []
    # The first entity of each span by its place in the document; a span may have several types.
    by_span: dict[tuple[int, int], tuple[_Part, int]] = {}
    ambiguous: set[tuple[int, int]] = set()
    for s, i, item in ner:
        where = place.at(f"ner[{s}][{i}]")
        start, end, label = expect_list(item, where, 3)
        span = expect_inclusive_offsets(start, end, len(part_of_token), where)
        part = part_of_token[span[0]]
        home = part_of_sentence[s]
        if part is not home or span[1] > part.start + len(part.words):
            raise where.error(
                ConversionErrors.E606,
                found=f"start {start}, end {end}",
                expected=f"offsets inside its {unit}, from {home.start} "
                f"to {home.start + len(home.words) - 1} (end inclusive)",
            )
        entity = Entity(span[0] - part.start, span[1] - part.start, expect_name(label, where))
        if span not in by_span:
            by_span[span] = (part, len(part.entities))
        elif part.entities[by_span[span][1]].label != entity.label:
            ambiguous.add(span)
        part.entities.append(entity)
    for s, i, item in edges:
        where = place.at(f"relations[{s}][{i}]")
        start1, end1, start2, end2, label = expect_list(item, where, 5)
        label = expect_name(label, where)
        head = expect_inclusive_offsets(start1, end1, len(part_of_token), where)
        tail = expect_inclusive_offsets(start2, end2, len(part_of_token), where)
        text = f"{label} [{start1}, {end1}] -> [{start2}, {end2}]"
        if head not in by_span or tail not in by_span:
            lost.append(Finding(place.ref, f"{text}: an argument is no entity"))
            continue
        (part, head_index), (other, tail_index) = by_span[head], by_span[tail]
        if part is not other:
            lost.append(Finding(place.ref, f"{text}: across sentences"))
            continue
        if head in ambiguous or tail in ambiguous:
            notes.append("relations whose argument has several types, of which the first was taken")
        part.relations.append(Edge(head_index, tail_index, label))
    return parts, lost, notes


def _make_parts(
    sentences: list[list[str]], unit: Unit, place: Place
) -> tuple[list[_Part], list[_Part], list[_Part]]:
    """Return the future Docs, and which of them holds each token and each sentence."""
    if unit == "document":
        words = [word for sentence in sentences for word in sentence]
        starts = [i == 0 for sentence in sentences for i in range(len(sentence))]
        part = _Part(place, 0, words, starts)
        return [part], [part] * len(words), [part] * len(sentences)
    parts = []
    start = 0
    for i, sentence in enumerate(sentences):
        key = None if place.id is None else f"{place.id}:{i}"
        where = Place(place.file, f"{place.name}, sentences[{i}]", key)
        parts.append(_Part(where, start, sentence))
        start += len(sentence)
    tokens = [part for part in parts for _ in part.words]
    return [part for part in parts if part.words], tokens, parts


def _per_sentence(
    record: dict[str, Any], key: str, n_sentences: int, place: Place
) -> list[tuple[int, int, Any]]:
    """Return (sentence, index in it, item) of a list of lists with one list a sentence."""
    lists = expect_list(expect_key(record, key, place), place.at(key))
    if len(lists) != n_sentences:
        raise place.at(key).error(
            ConversionErrors.E604,
            found=f"{len(lists)} lists",
            expected=f"{n_sentences} lists, one a sentence",
        )
    return [
        (s, i, item)
        for s, items in enumerate(lists)
        for i, item in enumerate(expect_list(items, place.at(f"{key}[{s}]")))
    ]
