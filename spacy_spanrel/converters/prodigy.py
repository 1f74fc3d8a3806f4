"""JSON lines of Prodigy, as its recipe ``rel.manual`` and ``db-out`` write them: to gold Docs and
back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import spacy
from spacy.language import Language
from spacy.tokens import Doc

from ..errors import Errors
from ..reading import (
    ConversionError,
    ErrorHandler,
    Place,
    expect_dict,
    expect_id,
    expect_inclusive_offsets,
    expect_int,
    expect_key,
    expect_list,
    expect_name,
    expect_words,
    raise_error,
    short,
    wrong_kind,
)
from .common import (
    ENTITY,
    ConversionReport,
    Edge,
    Entity,
    ExportReport,
    TypeNames,
    annotate_doc,
    as_types,
)
from .tools import (
    expect_label,
    expect_text,
    optional_list,
    read_objects,
    read_text_annotations,
    text_entity,
    tokenize,
)

ACCEPT = "accept"
ANSWERS = (ACCEPT, "reject", "ignore")


def prodigy_to_docs(
    path: str | Path,
    *,
    nlp: Language | None = None,
    types: str | Path | TypeNames | None = None,
    on_error: ErrorHandler = raise_error,
    report: ConversionReport | None = None,
) -> Iterator[Doc]:
    """Read JSON lines of Prodigy (or a JSON list of the same records), one Doc a record.

    Offsets count characters and tokens; `token_end` is inclusive. The head of a relation is `head`,
    its tail `child`: each the index of a token, in practice the last one of its span, which
    `head_span` and `child_span` give in full. Sample (in the file this is one line)::

        {"text": "Ann Lee lives in Oslo",
         "tokens": [{"text": "Ann", "start": 0, "end": 3, "id": 0, "ws": true},
                    {"text": "Lee", "start": 4, "end": 7, "id": 1, "ws": true},
                    {"text": "lives", "start": 8, "end": 13, "id": 2, "ws": true},
                    {"text": "in", "start": 14, "end": 16, "id": 3, "ws": true},
                    {"text": "Oslo", "start": 17, "end": 21, "id": 4, "ws": false}],
         "spans": [{"start": 0, "end": 7, "token_start": 0, "token_end": 1, "label": "PERSON"},
                   {"start": 17, "end": 21, "token_start": 4, "token_end": 4, "label": "CITY"}],
         "relations": [{"head": 1, "child": 4, "label": "lives_in",
                        "head_span": {"start": 0, "end": 7, "token_start": 0, "token_end": 1,
                                      "label": "PERSON"},
                        "child_span": {"start": 17, "end": 21, "token_start": 4, "token_end": 4,
                                       "label": "CITY"}}],
         "answer": "accept"}

    The Doc has the tokens and spaces of the record; without `tokens`, the text is tokenized. An
    argument that is a plain token becomes an entity of the type ENTITY. Records with the answer
    "reject" or "ignore" are left out and counted. The id of a Doc is the record's `id`, else its
    `_task_hash`.

    path (str | Path): The file.
    nlp (Language | None): Its vocabulary is used, and its tokenizer for records without tokens.
        Defaults to a blank English pipeline.
    types (str | Path | TypeNames | None): A types file, to check the names against.
    on_error (Callable[[ConversionError], None]): What to do about a bad record. If it does not
        raise, the record is skipped. Errors that concern the whole file are always raised.
    report (ConversionReport | None): Is added to.
    YIELDS (Doc): The Docs.
    RAISES (ConversionError): If the file, or with the default `on_error` a record, is bad.
    """
    report = ConversionReport() if report is None else report
    names = as_types(types)
    pipeline = nlp or spacy.blank("en")
    for place, fields in read_objects(path, on_error=on_error, report=report):
        try:
            orig_id = fields.get("id", fields.get("_task_hash"))
            place = Place(place.file, place.name, expect_id(orig_id, place.at("id")))
            answer = fields.get("answer", ACCEPT)
            if answer not in ANSWERS:
                raise wrong_kind(answer, "one of " + ", ".join(ANSWERS), place.at("answer"))
            if answer != ACCEPT:
                report.notes[f"records with the answer {answer}, left out"] += 1
                continue
            doc = _Record(fields, pipeline, place, report).annotate(names)
        except ConversionError as error:
            report.skip(error, on_error)
            continue
        yield doc


class _Record:
    """A record while it is read."""

    def __init__(
        self, fields: dict[str, Any], pipeline: Language, place: Place, report: ConversionReport
    ) -> None:
        self.fields = fields
        self.place = place
        self.report = report
        self.text = expect_text(expect_key(fields, "text", place), place.at("text"))
        self.has_tokens = fields.get("tokens") is not None
        if self.has_tokens:
            words, spaces = self._tokens()
            self.doc = Doc(pipeline.vocab, words=words, spaces=spaces)
        else:
            report.notes["records without tokens, tokenized"] += 1
            self.doc = tokenize(pipeline, self.text, place.at("text"))
        # In the order of the file; the dictionary finds them again.
        self.entities: list[Entity] = []
        self.index: dict[Entity, int] = {}

    def annotate(self, names: TypeNames | None) -> Doc:
        """Read spans and relations and write them on the Doc."""
        for i, item in enumerate(optional_list(self.fields, "spans", self.place)):
            place = self.place.at(f"spans[{i}]")
            fields = expect_dict(item, place)
            label = expect_label(fields.get("label"), "spans", ENTITY, place, self.report)
            start, end = self._bounds(fields, place)
            self._add(Entity(start, end, label))
        relations = []
        for i, item in enumerate(optional_list(self.fields, "relations", self.place)):
            place = self.place.at(f"relations[{i}]")
            fields = expect_dict(item, place)
            head, child = (self._argument(fields, name, place) for name in ("head", "child"))
            label = expect_name(expect_key(fields, "label", place), place.at("label"))
            relations.append(Edge(head, child, label))
        annotate_doc(
            self.doc,
            self.entities,
            relations,
            place=self.place,
            report=self.report,
            types=names,
        )
        return self.doc

    def _tokens(self) -> tuple[list[str], list[bool]]:
        place = self.place.at("tokens")
        tokens = [
            expect_dict(token, place.at(f"[{i}]"))
            for i, token in enumerate(expect_list(self.fields["tokens"], place))
        ]
        words = [expect_key(token, "text", place.at(f"[{i}]")) for i, token in enumerate(tokens)]
        expect_words(words, place, allow_empty=True)
        spaces = []
        at = 0
        for i, (token, word) in enumerate(zip(tokens, words, strict=True)):
            start = at
            fits = self.text.startswith(word, start) and token.get("start", start) == start
            at += len(word)
            space = token.get("ws")
            if space is None:  # as in old versions
                space = self.text.startswith(" ", at)
            elif not isinstance(space, bool):
                raise wrong_kind(space, "true or false", place.at(f"[{i}].ws"))
            if space:
                fits = fits and self.text.startswith(" ", at)
                at += 1
            if not fits or token.get("id", i) != i:
                raise place.at(f"[{i}]").error(
                    Errors.E622,
                    found=f"{short(word)} with start {short(token.get('start'))}, ws "
                    f"{short(token.get('ws'))} and id {short(token.get('id'))}",
                    expected=f"the token with the id {i} in the text at {start}: "
                    f"{short(self.text[start : start + 60])}",
                )
            spaces.append(space)
        if at != len(self.text):
            raise place.error(
                Errors.E622,
                found=f"tokens up to character {at}",
                expected=f"tokens for the whole text of {len(self.text)} characters",
            )
        return words, spaces

    def _bounds(self, fields: dict[str, Any], place: Place) -> tuple[int, int]:
        """Return start and exclusive end of a span in tokens.

        Where the Doc has the record's tokens, their numbers count, and the characters must agree;
        otherwise there are only characters.
        """
        if not self.has_tokens or fields.get("token_start") is None:
            start, end = (
                expect_int(expect_key(fields, key, place), place.at(key))
                for key in ("start", "end")
            )
            label = str(fields.get("label"))  # for the report
            entity = text_entity(
                self.doc, self.text, start, end, label, place=place, report=self.report
            )
            return entity.start, entity.end
        start, end = expect_inclusive_offsets(
            fields["token_start"],
            expect_key(fields, "token_end", place),
            len(self.doc),
            place.at("token_start, token_end"),
        )
        span = self.doc[start:end]
        for key, char in (("start", span.start_char), ("end", span.end_char)):
            if fields.get(key, char) != char:
                raise place.at(key).error(
                    Errors.E606,
                    found=f"{key} {short(fields[key])} with tokens {start} to {end - 1}",
                    expected=f"{char}, where these tokens are (token_end is inclusive)",
                )
        return start, end

    def _add(self, entity: Entity) -> int:
        """Note an entity and return its index; that of the first one if it is repeated."""
        self.entities.append(entity)
        return self.index.setdefault(entity, len(self.entities) - 1)

    def _argument(
        self, fields: dict[str, Any], name: Literal["head", "child"], place: Place
    ) -> int:
        """Return the index of a relation's argument among the entities."""
        token = expect_int(expect_key(fields, name, place), place.at(name))
        item = fields.get(f"{name}_span")
        label = None
        if item is None:
            if not 0 <= token < len(self.doc):
                raise place.at(name).error(
                    Errors.E607,
                    found=f"{name} {token}",
                    expected=f"0 <= {name} < {len(self.doc)} (the number of tokens)",
                )
            bounds = token, token + 1
            # Of several spans with this token: one that ends there, and then the shortest one.
            around = [e for e in self.entities if e.start <= token < e.end]
            if around:
                return self.index[min(around, key=lambda e: (e.end - 1 != token, e.end - e.start))]
        else:
            place = place.at(f"{name}_span")
            span = expect_dict(item, place)
            bounds = self._bounds(span, place)
            if self.has_tokens and not bounds[0] <= token < bounds[1]:
                raise place.error(
                    Errors.E606,
                    found=f"tokens {bounds[0]} to {bounds[1] - 1}",
                    expected=f"a span with the token {token}, as {name} says",
                )
            label = span.get("label")
            if label is None or label == "":
                same = [e for e in self.entities if (e.start, e.end) == bounds]
                if same:
                    return self.index[same[0]]
        entity = Entity(
            *bounds, expect_label(label, "arguments of relations", ENTITY, place, self.report)
        )
        if entity not in self.index:
            self.report.notes["arguments of relations that are not among the spans, added"] += 1
            return self._add(entity)
        return self.index[entity]


def docs_to_prodigy(docs: Iterable[Doc], report: ExportReport) -> Iterator[dict[str, Any]]:
    """Make records of Docs, gold or predicted, as Prodigy's interface for relations reads them.

    docs (Iterable[Doc]): The Docs.
    report (ExportReport): Is added to. Scores are left out; overlapping entities are written, but
        Prodigy's interface for relations does not show them.
    YIELDS (dict[str, Any]): A record for each Doc, to be a line of JSON; `prodigy_to_docs` reads
        it.
    """
    for doc in docs:
        found = read_text_annotations(doc, report)
        found.count(report)
        if found.has_overlaps:
            report.notes["texts with overlapping entities, which Prodigy does not show"] += 1
        record: dict[str, Any] = {} if found.id is None else {"id": found.id}
        record["text"] = found.text
        record["tokens"] = [
            {
                "text": token.text,
                "start": token.idx,
                "end": token.idx + len(token),
                "id": token.i,
                # The text may end before the last token's space.
                "ws": bool(token.whitespace_) and token.idx + len(token) < len(found.text),
                "disabled": False,
            }
            for token in doc
        ]
        spans = record["spans"] = [
            {
                "start": start,
                "end": end,
                "token_start": entity.start,
                "token_end": entity.end - 1,
                "label": entity.label,
            }
            for entity, (start, end) in zip(found.entities, found.bounds, strict=True)
        ]
        record["relations"] = [
            {
                "head": found.entities[edge.head].end - 1,
                "child": found.entities[edge.tail].end - 1,
                "head_span": spans[edge.head],
                "child_span": spans[edge.tail],
                "label": edge.label,
            }
            for edge in found.relations
        ]
        record["answer"] = ACCEPT
        yield record
