"""JSON lines of SciERC and DyGIE++."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

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
    expect_inclusive_offsets,
    expect_key,
    expect_list,
    expect_name,
    expect_words,
    parse_json,
    raise_error,
    read_lines,
    wrong_kind,
)
from .common import (
    ConversionReport,
    Edge,
    Entity,
    ExportReport,
    Finding,
    TypeNames,
    as_types,
    get_vocab,
    make_doc,
)
from .writing import add_notes, doc_id, read_annotations, sentences_of, words_of

# How many sentences may be missing in a document before another: an id like "log:20240131" is no
# reason for millions of empty ones.
MAX_GAP = 1000

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
    _check_unit(unit, file)
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
        raise file.error(Errors.E609, found="an empty file", expected="documents")


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
                Errors.E606,
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
            Errors.E604,
            found=f"{len(lists)} lists",
            expected=f"{n_sentences} lists, one a sentence",
        )
    return [
        (s, i, item)
        for s, items in enumerate(lists)
        for i, item in enumerate(expect_list(items, place.at(f"{key}[{s}]")))
    ]


def _check_unit(unit: str, place: Place) -> None:
    if unit not in get_args(Unit):
        raise place.error(
            Errors.E613,
            found=f"unit {unit!r}",
            expected=" or ".join(map(repr, get_args(Unit))),
        )


# Back to JSON


@dataclass
class _Document:
    """A document that grows by Docs."""

    key: RecordId
    sentences: list[list[str]] = field(default_factory=list)
    ner: list[list[list[Any]]] = field(default_factory=list)
    relations: list[list[list[Any]]] = field(default_factory=list)
    n_tokens: int = 0

    def takes(self, key: RecordId, index: int) -> bool:
        """Tell whether a sentence may follow, perhaps after a few that are missing."""
        return self.key == key and 0 <= index - len(self.sentences) <= MAX_GAP

    def pad(self, n: int) -> None:
        """Add empty sentences until there are n."""
        for items in (self.sentences, self.ner, self.relations):
            items.extend([] for _ in range(n - len(items)))

    def add(
        self,
        words: Sequence[str],
        borders: Sequence[tuple[int, int]],
        entities: Sequence[Entity],
        edges: Sequence[Edge],
    ) -> None:
        """Add the sentences of a Doc; each annotation goes where it, or its head, begins."""
        first, offset = len(self.sentences), self.n_tokens
        home = [first + i for i, (start, end) in enumerate(borders) for _ in range(start, end)]
        self.sentences.extend(list(words[start:end]) for start, end in borders)
        self.pad(len(self.sentences))
        self.n_tokens += len(words)
        places = [[e.start + offset, e.end + offset - 1] for e in entities]
        for entity, place in zip(entities, places, strict=True):
            self.ner[home[entity.start]].append([*place, entity.label])
        for edge in edges:
            row = [*places[edge.head], *places[edge.tail], edge.label]
            self.relations[home[entities[edge.head].start]].append(row)

    def to_dict(self) -> dict[str, Any]:
        return {
            "doc_key": self.key,
            "sentences": self.sentences,
            "ner": self.ner,
            "relations": self.relations,
        }


def docs_to_scierc(
    docs: Iterable[Doc], report: ExportReport, *, unit: Unit = "sentence"
) -> Iterator[dict[str, Any]]:
    """Make documents of SciERC's JSON lines: what `scierc_to_docs` reads with the same unit.

    docs (Iterable[Doc]): Gold or predicted Docs.
    report (ExportReport): Is added to.
    unit ("sentence" | "document"): What a Doc is. Sentences that follow each other and have the ids
        "key:0", "key:1" ... become one document; empty ones stand where a number is missing. Other
        Docs are documents of one sentence. Docs of documents have the sentences that they say.
    YIELDS (dict[str, Any]): The documents.
    RAISES (ConversionError): If there is no such unit.
    """
    _check_unit(unit, Place("docs_to_scierc"))
    current: _Document | None = None
    keys: set[RecordId] = set()
    is_document = unit == "document"
    for number, doc in enumerate(docs):
        if not len(doc):
            report.notes["Docs without tokens, left out"] += 1
            continue
        entities, edges = read_annotations(doc, report)
        words = words_of(doc, report, has_sentences=is_document)
        borders = sentences_of(doc) if is_document else [(0, len(doc))]
        _note_losses(borders, entities, edges, report)
        name = doc_id(doc, number, report)
        key, index = (name, 0) if is_document else _split_id(name)
        if current is None or not current.takes(key, index):
            if current is not None:
                yield current.to_dict()
            if index > MAX_GAP:
                key, index = name, 0
            current = _Document(key)
            add_notes(report, {"documents with the key of an earlier one": key in keys})
            keys.add(key)
        add_notes(
            report,
            {
                "empty sentences, in the place of missing ones": index - len(current.sentences),
                "ids that get ':0', as they name no sentence": not is_document and key == name,
            },
        )
        current.pad(index)
        current.add(words, borders, entities, edges)
        report.docs += 1
        report.entities += len(entities)
        report.relations += len(edges)
    if current is not None:
        yield current.to_dict()


def _split_id(name: RecordId) -> tuple[RecordId, int]:
    """Return key of the document and number of the sentence; the id and 0 if it has no number."""
    key, _, number = str(name).rpartition(":")
    if key and number.isascii() and number.isdigit() and str(int(number)) == number:
        return key, int(number)
    return name, 0


def _note_losses(
    borders: Sequence[tuple[int, int]],
    entities: Sequence[Entity],
    edges: Sequence[Edge],
    report: ExportReport,
) -> None:
    sentence = [i for i, (start, end) in enumerate(borders) for _ in range(start, end)]
    first: dict[tuple[int, int], int] = {}
    for i, entity in enumerate(entities):
        first.setdefault((entity.start, entity.end), i)
    places = [(entity.start, entity.end) for entity in entities]
    add_notes(
        report,
        {
            "entities across sentences, listed with their first": sum(
                sentence[start] != sentence[end - 1] for start, end in places
            ),
            "relations across sentences, listed with that of the head": sum(
                sentence[entities[e.head].start] != sentence[entities[e.tail].start] for e in edges
            ),
            "relations of a span with several types, of which the first will be taken": sum(
                any(first[places[end]] != end for end in (e.head, e.tail)) for e in edges
            ),
        },
    )
