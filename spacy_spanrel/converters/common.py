"""What the converters share: their errors, their report, and how a gold Doc is made.

A gold Doc is stored in the terms of ``annotations``:

- ``doc.spans["entities"]``: every gold entity (they may overlap), label = type. Gold has no scores,
  so ``attrs`` has none; ``attrs["orig_id"]`` is the record's own id, if it has one. The id lives
  there because the attrs of span groups survive ``DocBin`` with default settings and ``user_data``
  does not. Read it with ``get_orig_id``.
- ``doc.spans["relations"]``: written by ``annotations.set_relations``, score None.
- ``doc.ents``: as many of the entities as fit without overlap (longest first).

All three are set on every Doc, so "annotated, but nothing there" differs from "not annotated", and
text without entities or relations stays in the data as the negative example it is.
"""

from __future__ import annotations

import json
import reprlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, permutations
from pathlib import Path
from typing import Any

import spacy
from spacy.language import Language
from spacy.tokens import Doc, Span, SpanGroup
from spacy.util import filter_spans
from spacy.vocab import Vocab

from ..annotations import ENTITIES_KEY, Relation, get_entities, get_relations, set_relations

ORIG_ID_ATTR = "orig_id"
RecordId = str | int
ErrorHandler = Callable[["ConversionError"], None]

# How the Penn Treebank, and corpora with its tokens, write brackets.
BRACKETS = {
    "-LRB-": "(",
    "-RRB-": ")",
    "-LSB-": "[",
    "-RSB-": "]",
    "-LCB-": "{",
    "-RCB-": "}",
}

# The type of an argument where a format does not say of which it is.
ENTITY = "ENTITY"

# What msgpack can hold; a larger id is kept as text.
_INT64 = range(-(2**63), 2**63)


class ConversionErrors:
    """Texts of conversion errors; `{where}` names file, place and id."""

    E601 = "[E_SR601] {where}: the file cannot be read. Found: {found}. Expected: {expected}."
    E602 = (
        "[E_SR602] {where}: the file is not UTF-8 text. Found: {found}. Expected: {expected}. "
        "Save the file as UTF-8."
    )
    E603 = (
        "[E_SR603] {where}: broken JSON. Found: {found}. Expected: {expected}. "
        "Is the file cut off, or of another format?"
    )
    E604 = "[E_SR604] {where}: wrong kind of value. Found: {found}. Expected: {expected}."
    E605 = "[E_SR605] {where}: a key is missing. Found: {found}. Expected: {expected}."
    E606 = "[E_SR606] {where}: wrong offsets. Found: {found}. Expected: {expected}."
    E607 = (
        "[E_SR607] {where}: a relation's argument is no entity. Found: {found}. "
        "Expected: {expected}."
    )
    E608 = (
        "[E_SR608] {where}: the name is not in the types file. Found: {found}. "
        "Expected: {expected}. Correct the name, or add it to the types file."
    )
    E609 = "[E_SR609] {where}: there is nothing to convert. Found: {found}. Expected: {expected}."
    E610 = "[E_SR610] {where}: a line of the wrong form. Found: {found}. Expected: {expected}."
    E611 = (
        "[E_SR611] {where}: the text does not occur in the sentence. Found: {found}. "
        "Expected: {expected}."
    )
    E612 = (
        "[E_SR612] {where}: no record could be converted. Found: {found}. Expected: {expected}. "
        "The first error was: {first}"
    )
    E613 = "[E_SR613] {where}: wrong argument. Found: {found}. Expected: {expected}."
    E614 = (
        "[E_SR614] {where}: an id is used more than once. Found: {found}. Expected: {expected}. "
        "Give each question an id of its own."
    )
    E615 = (
        "[E_SR615] {where}: it is not clear whether the question has an answer. Found: {found}. "
        "Expected: {expected}."
    )
    E616 = (
        "[E_SR616] {where}: no answer to the question is a part of the text. Found: {found}. "
        "Expected: {expected}."
    )
    E617 = (
        "[E_SR617] {where}: the text cannot be tokenized as it is. Found: {found}. "
        "Expected: {expected}."
    )
    E618 = "[E_SR618] {where}: answers are missing. Found: {found}. Expected: {expected}."
    E620 = (
        "[E_SR620] {where}: the line is too long. Found: {found}. Expected: {expected}. "
        "Are these JSON lines, a record a line?"
    )
    E621 = "[E_SR621] {where}: an id is used more than once. Found: {found}. Expected: {expected}."
    E622 = (
        "[E_SR622] {where}: the tokens do not make up the text. Found: {found}. "
        "Expected: {expected}."
    )
    E623 = (
        "[E_SR623] {where}: the quoted text is not at its offsets. Found: {found}. "
        "Expected: {expected}."
    )
    E624 = (
        "[E_SR624] {where}: it is not clear which text is annotated. Found: {found}. "
        "Expected: {expected}. Name its key (text_key, on the command line --text-key)."
    )
    E625 = "[E_SR625] {where}: a file is missing. Found: {found}. Expected: {expected}."
    E640 = "[E_SR640] {where}: the Doc cannot be written. Found: {found}. Expected: {expected}."
    E641 = (
        "[E_SR641] {where}: the folder holds other files, which stay as they are. Found: {found}. "
        "Expected: {expected}. Choose another folder, or empty this one."
    )
    E642 = "[E_SR642] {where}: two Docs would share a file. Found: {found}. Expected: {expected}."


class ConversionError(ValueError):
    """Something in a file that cannot be converted.

    file (str): The file.
    place (str): Where in it: "line 7" (counted from 1) or "record 7, entities[0].end" (counted
        from 0, as in the JSON list).
    id (str | int | None): The id of the record, if it is known.
    found (str): What was there.
    expected (str): What should have been there.
    """

    def __init__(
        self,
        text: str,
        *,
        file: str,
        place: str = "",
        id: RecordId | None = None,
        found: str,
        expected: str,
        **more: str,
    ) -> None:
        self.file = file
        self.place = place
        self.id = id
        self.found = found
        self.expected = expected
        where = f"'{file}'"
        if place:
            where += f", {place}"
        if id is not None:
            where += f" (id {id!r})"
        super().__init__(text.format(where=where, found=found, expected=expected, **more))


def raise_error(error: ConversionError) -> None:
    """Raise the error: the default `on_error` of the converters."""
    raise error


@dataclass(frozen=True)
class Place:
    """Where in a file we are; makes the errors of that place.

    file (str): The file.
    name (str): Line or record, and what is inside it.
    id (str | int | None): The id of the record.
    """

    file: str
    name: str = ""
    id: RecordId | None = None

    def at(self, name: str) -> Place:
        """Return a place inside this one."""
        return Place(self.file, f"{self.name}, {name}" if self.name else name, self.id)

    def error(self, text: str, *, found: str, expected: str) -> ConversionError:
        """Return an error of this place."""
        return ConversionError(
            text, file=self.file, place=self.name, id=self.id, found=found, expected=expected
        )

    @property
    def ref(self) -> str:
        """The id if there is one, else file and place: what a report calls the record."""
        return str(self.id) if self.id is not None else f"{self.file}, {self.name}"


@dataclass(frozen=True)
class Finding:
    """One thing that a report lists.

    record (str): The record's id, or its place if it has none.
    text (str): What was found.
    """

    record: str
    text: str


@dataclass
class ConversionReport:
    """What a conversion did; several inputs may add to one report.

    max_span_size (int | None): Entities of more tokens than this are listed as too long.
    docs, tokens (int): How many were made.
    entities, relations (Counter[str]): How many per type and label.
    docs_without_entities, docs_without_relations (int): They are kept.
    longest_entity (int): In tokens.
    too_long (list[Finding]): Entities that a model with `max_span_size` can never predict.
    misaligned (list[Finding]): Entities widened to token borders.
    lost_entities, lost_relations (list[Finding]): Those that could not be kept.
    skipped (list[ConversionError]): Records left out because `on_error` did not raise.
    overlapping_entities (int): Entities in the span group for which doc.ents has no room.
    duplicate_entities, duplicate_relations (int): Repeated within a record, kept once.
    duplicate_ids (int): Records whose id came before; kept.
    self_relations (int): Relations of a span with itself, which no model predicts; kept.
    questions, unanswerable (int): Questions, and how many of them have no answer.
    answers (int): Reference answers to the others.
    docs_without_questions (int): They are kept.
    misaligned_answers (int): Reference answers that begin or end inside a token; kept as they are.
    repaired_answers (list[Finding]): Those that were found elsewhere than stated.
    lost_answers (list[Finding]): Those that do not occur in their text, and were left out.
    notes (Counter[str]): What else happened, in words, and how often.
    """

    max_span_size: int | None = None
    docs: int = 0
    tokens: int = 0
    entities: Counter[str] = field(default_factory=Counter)
    relations: Counter[str] = field(default_factory=Counter)
    docs_without_entities: int = 0
    docs_without_relations: int = 0
    longest_entity: int = 0
    too_long: list[Finding] = field(default_factory=list)
    misaligned: list[Finding] = field(default_factory=list)
    lost_entities: list[Finding] = field(default_factory=list)
    lost_relations: list[Finding] = field(default_factory=list)
    skipped: list[ConversionError] = field(default_factory=list)
    overlapping_entities: int = 0
    duplicate_entities: int = 0
    duplicate_relations: int = 0
    duplicate_ids: int = 0
    self_relations: int = 0
    questions: int = 0
    unanswerable: int = 0
    answers: int = 0
    docs_without_questions: int = 0
    misaligned_answers: int = 0
    repaired_answers: list[Finding] = field(default_factory=list)
    lost_answers: list[Finding] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    _ids: set[RecordId] = field(default_factory=set, init=False, repr=False)

    @property
    def n_entities(self) -> int:
        """Number of entities over all types."""
        return sum(self.entities.values())

    @property
    def n_relations(self) -> int:
        """Number of relations over all labels."""
        return sum(self.relations.values())

    def skip(self, error: ConversionError, on_error: ErrorHandler) -> None:
        """Hand an error to `on_error` and, if that returns, list its record as skipped."""
        on_error(error)
        self.skipped.append(error)

    def add_id(self, orig_id: RecordId | None) -> None:
        """Note a record's id."""
        if orig_id is None:
            return
        self.duplicate_ids += orig_id in self._ids
        self._ids.add(orig_id)


@dataclass
class ExportReport:
    """What an export did; several outputs may add to one report.

    docs (int): Docs of which something was written.
    entities, relations, questions (int): How many were written.
    notes (Counter[str]): What the format cannot hold and what was done about it, in words, and how
        often: "scores of relations, left out".
    """

    docs: int = 0
    entities: int = 0
    relations: int = 0
    questions: int = 0
    notes: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class TypeNames:
    """The names that a types file allows.

    entities, relations (tuple[str, ...]): In the order of the file.
    symmetric (frozenset[str]): Relations without direction.
    """

    entities: tuple[str, ...]
    relations: tuple[str, ...]
    symmetric: frozenset[str] = frozenset()

    def check(self, entities: Sequence[Entity], relations: Sequence[Edge], place: Place) -> None:
        """Raise a ConversionError for the first name that is not in the types file."""
        for what, names, known in (
            ("entities", [e.label for e in entities], self.entities),
            ("relations", [r.label for r in relations], self.relations),
        ):
            for i, name in enumerate(names):
                if name not in known:
                    raise place.at(f"{what}[{i}]").error(
                        ConversionErrors.E608,
                        found=short(name),
                        expected="one of " + ", ".join(known),
                    )


@dataclass(frozen=True)
class Entity:
    """An entity by token offsets, end exclusive."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class Edge:
    """A relation between two entities by their indices."""

    head: int
    tail: int
    label: str


def read_types(path: str | Path) -> TypeNames:
    """Read a types file of SpERT's form.

    Sample: ``{"entities": {"Peop": {"short": "Peop", "verbose": "People"}}, "relations":
    {"Kill": {"short": "Kill", "verbose": "Kill", "symmetric": false}}}``

    path (str | Path): The file.
    RETURNS (TypeNames): The names, and which relations are symmetric.
    RAISES (ConversionError): If the file is not of that form.
    """
    place = Place(str(path))
    data = expect_dict(read_json(path), place)
    entities = expect_dict(expect_key(data, "entities", place), place.at("entities"))
    relations = expect_dict(expect_key(data, "relations", place), place.at("relations"))
    symmetric = set()
    for name, spec in relations.items():
        where = place.at(f"relations[{name!r}]")
        flag = expect_dict(spec, where).get("symmetric", False)
        if not isinstance(flag, bool):
            raise wrong_kind(flag, "true or false", where.at("symmetric"))
        if flag:
            symmetric.add(name)
    return TypeNames(tuple(entities), tuple(relations), frozenset(symmetric))


def as_types(types: str | Path | TypeNames | None) -> TypeNames | None:
    """Return type names as they are, or read from the file if a path is given."""
    return types if types is None or isinstance(types, TypeNames) else read_types(types)


def get_vocab(nlp: Language | None) -> Vocab:
    """Return the pipeline's vocabulary; a blank English one without a pipeline."""
    vocab: Vocab = (nlp or spacy.blank("en")).vocab
    return vocab


def get_orig_id(doc: Doc) -> RecordId | None:
    """Return the id of the record from which a gold Doc was made; None if it had none."""
    if ENTITIES_KEY not in doc.spans:
        return None
    orig_id: RecordId | None = doc.spans[ENTITIES_KEY].attrs.get(ORIG_ID_ATTR)
    return orig_id


def make_doc(
    vocab: Vocab,
    words: Sequence[str],
    entities: Sequence[Entity],
    relations: Sequence[Edge],
    *,
    place: Place,
    report: ConversionReport,
    types: TypeNames | None = None,
    sent_starts: Sequence[bool] | None = None,
) -> Doc:
    """Make the gold Doc of a pretokenized record.

    Which tokens are followed by a space is unknown and stays so (`doc.has_unknown_spaces`): spaCy's
    corpus reader then keeps the given tokens for the predicted Doc too.

    vocab (Vocab): The vocabulary.
    words (Sequence[str]): The tokens.
    entities (Sequence[Entity]): All entities; they may overlap.
    relations (Sequence[Edge]): Relations between them.
    place (Place): The record; its id becomes the Doc's.
    report (ConversionReport): Is added to.
    types (TypeNames | None): Names to hold the labels against.
    sent_starts (Sequence[bool] | None): Whether each token starts a sentence, if that is known.
    RETURNS (Doc): The Doc.
    RAISES (ConversionError): If a label is not among `types`.
    """
    starts: list[bool | int | None] | None = None if sent_starts is None else [*sent_starts]
    doc = Doc(vocab, words=list(words), sent_starts=starts)
    annotate_doc(doc, entities, relations, place=place, report=report, types=types)
    return doc


def annotate_doc(
    doc: Doc,
    entities: Sequence[Entity],
    relations: Sequence[Edge],
    *,
    place: Place,
    report: ConversionReport,
    types: TypeNames | None = None,
) -> None:
    """Write gold entities and relations on a Doc and count them; arguments as in `make_doc`."""
    if types is not None:
        types.check(entities, relations, place)
    spans: dict[Entity, Span] = {}
    for entity in entities:
        if entity not in spans:
            spans[entity] = Span(doc, entity.start, entity.end, label=entity.label)
    symmetric = types.symmetric if types is not None else frozenset()
    edges: dict[tuple[Entity, Entity, str], Relation] = {}
    for edge in relations:
        head, tail = entities[edge.head], entities[edge.tail]
        if edge.label in symmetric:
            # One direction stands for both: the order of the text.
            head, tail = sorted((head, tail), key=lambda e: (e.start, e.end, e.label))
        edges[head, tail, edge.label] = Relation(spans[head], spans[tail], edge.label)
    gold = list(spans.values())
    attrs = {} if place.id is None else {ORIG_ID_ATTR: _storable(place.id)}
    doc.spans[ENTITIES_KEY] = SpanGroup(doc, name=ENTITIES_KEY, spans=gold, attrs=attrs)
    set_relations(doc, edges.values())
    doc.ents = tuple(filter_spans(gold))

    report.add_id(place.id)
    report.docs += 1
    report.tokens += len(doc)
    report.entities.update(span.label_ for span in gold)
    report.relations.update(label for _, _, label in edges)
    report.docs_without_entities += not gold
    report.docs_without_relations += not edges
    report.overlapping_entities += len(gold) - len(doc.ents)
    report.duplicate_entities += len(entities) - len(gold)
    report.duplicate_relations += len(relations) - len(edges)
    report.self_relations += sum(
        (head.start, head.end) == (tail.start, tail.end) for head, tail, _ in edges
    )
    report.longest_entity = max([report.longest_entity, *map(len, gold)])
    if report.max_span_size is not None:
        report.too_long.extend(
            Finding(place.ref, f"{short(span.text)} ({span.label_}, {len(span)} tokens)")
            for span in gold
            if len(span) > report.max_span_size
        )


def _storable(orig_id: RecordId) -> RecordId:
    return str(orig_id) if isinstance(orig_id, int) and orig_id not in _INT64 else orig_id


def one_relation(head: Entity, tail: Entity, label: str) -> tuple[list[Entity], list[Edge]]:
    """Return the entities and relations of a record that is one relation.

    Equal arguments are one entity.
    """
    entities = list(dict.fromkeys((head, tail)))
    return entities, [Edge(0, len(entities) - 1, label)]


def char_entity(
    doc: Doc, start_char: int, end_char: int, label: str, *, place: Place, report: ConversionReport
) -> Entity:
    """Return the entity at character offsets; widened to whole tokens and reported if need be.

    doc (Doc): The tokenized text.
    start_char, end_char (int): Where it is, end exclusive.
    label (str): Its type.
    place (Place): The record.
    report (ConversionReport): Is added to.
    RETURNS (Entity): The entity by token offsets.
    RAISES (ConversionError): If there are no tokens at these offsets.
    """
    span = doc.char_span(start_char, end_char, label=label)
    if span is None:
        span = doc.char_span(start_char, end_char, label=label, alignment_mode="expand")
        text = doc.text[start_char:end_char]
        if span is None:
            raise place.error(
                ConversionErrors.E611,
                found=short(text),
                expected="tokens there; does the tokenizer change the text?",
            )
        report.misaligned.append(
            Finding(place.ref, f"{short(text)} ({label}) widened to {short(span.text)}")
        )
    return Entity(span.start, span.end, label)


def argument_error(name: str, found: str, expected: str) -> ConversionError:
    """Return the error for a wrong argument of a function or command.

    name (str): What the user calls it ("--text-key").
    found, expected (str): Its value, and what it may be.
    RETURNS (ConversionError): To be raised.
    """
    return Place(name).error(ConversionErrors.E613, found=found, expected=expected)


def check_negative_label(label: str, argument: str = "label") -> None:
    """Raise a ConversionError that names the argument if its value can be no label."""
    if not label.strip():
        raise argument_error(argument, repr(label), "a label that is not empty")


def add_negatives(
    doc: Doc,
    label: str,
    *,
    symmetric: Collection[str] = (),
    report: ConversionReport | None = None,
) -> int:
    """Write on a gold Doc which pairs of its entities have no relation.

    Every ordered pair of entities with different boundaries that has no gold relation in that
    direction (by boundaries, as relations are learned and scored) gets a gold relation with the
    label. In a Doc of several sentences the pairs are those within a sentence.

    doc (Doc): The gold Doc.
    label (str): The negative label. Gold relations may have it already.
    symmetric (Collection[str]): Relations without direction: one stands for both directions.
    report (ConversionReport | None): Is added to.
    RETURNS (int): How many relations were added.
    RAISES (ConversionError): If the label is empty.
    """
    check_negative_label(label)
    relations = get_relations(doc)
    related: set[tuple[tuple[int, int], tuple[int, int]]] = set()
    for relation in relations:
        head, tail = _bounds(relation.head), _bounds(relation.tail)
        related.add((head, tail))
        if relation.label in symmetric:
            related.add((tail, head))
    # Without sentence starts, all tokens are of one sentence.
    sentences = list(accumulate(token.is_sent_start is True for token in doc))
    # A span that crosses a border is in no sentence.
    spans = {
        (span.start, span.end, span.label_): span
        for span in get_entities(doc)
        if sentences[span.start] == sentences[span.end - 1]
    }
    added = []
    # In the order of the text, so that a symmetric label gets the direction that stands for both.
    for (_, first), (_, second) in permutations(sorted(spans.items()), 2):
        pair = (_bounds(first), _bounds(second))
        if (
            pair[0] != pair[1]
            and pair not in related
            and sentences[first.start] == sentences[second.start]
            and (label not in symmetric or pair[0] < pair[1])
        ):
            added.append(Relation(first, second, label))
    if added:
        set_relations(doc, [*relations, *added])
    if added and report is not None:
        report.relations[label] += len(added)
        report.notes["negative relations added"] += len(added)
        report.docs_without_relations -= not relations
    return len(added)


def _bounds(span: Span) -> tuple[int, int]:
    return span.start, span.end


# Reading files


def read_text(path: str | Path, record: RecordId | None = None) -> str:
    """Read a UTF-8 file, with or without a byte order mark; errors name file and byte.

    path (str | Path): The file.
    record (str | int | None): What errors call it, if the file is one record.
    RETURNS (str): The text.
    RAISES (ConversionError): If it cannot be read or is no UTF-8.
    """
    place = Place(str(path), "", record)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise place.error(
            ConversionErrors.E601, found=error.strerror or str(error), expected="a readable file"
        ) from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise place.at(f"byte {error.start}").error(
            ConversionErrors.E602,
            found=f"byte 0x{data[error.start]:02x} at offset {error.start} ({error.reason})",
            expected="UTF-8",
        ) from error
    return text.removeprefix("\ufeff")


def read_lines(path: str | Path, record: RecordId | None = None) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line without its end); arguments as in `read_text`.

    Only a line feed ends a line: `str.splitlines` also cuts at characters that occur inside texts.
    """
    for number, line in enumerate(read_text(path, record).split("\n"), start=1):
        yield number, line.removesuffix("\r")


def read_json(path: str | Path) -> Any:
    """Read a JSON file; errors name line and column."""
    place = Place(str(path))
    text = read_text(path)
    if not text.strip():
        raise place.error(ConversionErrors.E609, found="an empty file", expected="JSON")
    return parse_json(text, place)


def read_records(path: str | Path) -> list[Any]:
    """Read a JSON file that is a list of records, one or more."""
    place = Place(str(path))
    data = read_json(path)
    if not isinstance(data, list):
        raise wrong_kind(data, "a list of records [...] at the top", place.at("top level"))
    if not data:
        raise place.error(ConversionErrors.E609, found="an empty list", expected="records")
    return data


def parse_json(text: str, place: Place, line: int | None = None) -> Any:
    """Parse JSON; errors name line (`line` if the text is one of a file's lines) and column."""
    # The standard parser: srsly's says that something is wrong, but not where.
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = place.at(f"line {line or error.lineno}, column {error.colno}")
        found = f"{short(text[error.pos : error.pos + 30]) or 'nothing'} ({error.msg})"
        if error.pos >= len(text.rstrip()):
            found = f"the end of the text ({error.msg})"
        raise place.error(ConversionErrors.E603, found=found, expected="valid JSON") from error
    except (ValueError, RecursionError) as error:
        if line is not None:
            place = place.at(f"line {line}")
        raise place.error(ConversionErrors.E603, found=str(error), expected="valid JSON") from error


# Checking values


def short(value: object) -> str:
    """Return a value's representation, cut to a length that suits a message."""
    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = 60
    return shortener.repr(value)


def wrong_kind(value: object, expected: str, place: Place) -> ConversionError:
    """Return the error for a value of the wrong kind."""
    return place.error(
        ConversionErrors.E604, found=f"{short(value)} ({type(value).__name__})", expected=expected
    )


def expect_dict(value: object, place: Place) -> dict[str, Any]:
    """Return the value if it is a JSON object, else raise a ConversionError."""
    if not isinstance(value, dict):
        raise wrong_kind(value, "an object {...}", place)
    return value


def expect_list(value: object, place: Place, length: int | None = None) -> list[Any]:
    """Return the value if it is a list (of that length), else raise a ConversionError."""
    if not isinstance(value, list) or (length is not None and len(value) != length):
        raise wrong_kind(
            value, "a list [...]" if length is None else f"a list of {length} items", place
        )
    return value


def expect_key(record: dict[str, Any], key: str, place: Place) -> Any:
    """Return the value of a key, or raise a ConversionError if it is missing."""
    if key not in record:
        raise place.error(
            ConversionErrors.E605,
            found="the keys " + (", ".join(map(repr, record)) or "(none)"),
            expected=f"the key {key!r}",
        )
    return record[key]


def expect_name(value: object, place: Place) -> str:
    """Return the value if it is a string with something in it, else raise a ConversionError."""
    if not isinstance(value, str) or not value.strip():
        raise wrong_kind(value, "a string that is not empty", place)
    return expect_encodable(value, place)


def expect_int(value: object, place: Place) -> int:
    """Return the value if it is an integer (true and false are none), else raise an error."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_kind(value, "an integer", place)
    return value


def expect_encodable(value: str, place: Place) -> str:
    """Return the string if it can be stored: JSON can spell lone surrogates, which cannot."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise wrong_kind(value, "text without lone surrogates", place) from error
    return value


def expect_words(value: object, place: Place, *, allow_empty: bool = False) -> list[str]:
    """Return the value if it is a list of tokens, else raise a ConversionError."""
    words = expect_list(value, place)
    if not words and not allow_empty:
        raise wrong_kind(words, "at least one token", place)
    for i, word in enumerate(words):
        if not isinstance(word, str) or not word:
            raise wrong_kind(word, "a string that is not empty", place.at(f"[{i}]"))
        expect_encodable(word, place.at(f"[{i}]"))
    return words


def expect_id(value: object, place: Place) -> RecordId | None:
    """Return a record's id: a string, an integer or None; else raise a ConversionError."""
    if value is None or (isinstance(value, str) and value == ""):
        return None
    if isinstance(value, str):
        return expect_encodable(value, place)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise wrong_kind(value, "a string or an integer", place)


def expect_offsets(start: int, end: int, length: int, place: Place) -> None:
    """Raise a ConversionError if start and (exclusive) end are no span of `length` tokens."""
    if not 0 <= start < end <= length:
        raise place.error(
            ConversionErrors.E606,
            found=f"start {start}, end {end}",
            expected=f"0 <= start < end <= {length} (the number of tokens), end exclusive",
        )


def expect_inclusive_offsets(
    start: object, end: object, length: int, place: Place
) -> tuple[int, int]:
    """Return start and exclusive end of a span that is given with its inclusive end.

    RAISES (ConversionError): If they are no span of `length` tokens.
    """
    first, last = expect_int(start, place), expect_int(end, place)
    if not 0 <= first <= last < length:
        raise place.error(
            ConversionErrors.E606,
            found=f"start {first}, end {last}",
            expected=f"0 <= start <= end < {length} (the number of tokens), end inclusive",
        )
    return first, last + 1
