"""JSON lines of Prodigy's recipe ``rel.manual``, as ``db-out`` writes them: to gold Docs and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc

from ..errors import Errors
from ..reading import ErrorHandler, JsonValue, raise_error, read_json_records, short
from .common import ENTITY, DocMaker, Edge, Entity, inclusive_offsets
from .report import ConversionReport, ExportReport
from .type_names import TypeNames
from .writing import read_text_annotations, score_of

ACCEPT = "accept"
ANSWERS = (ACCEPT, "reject", "ignore")
# A key of `meta` in tasks that `docs_to_prodigy` has made of predictions.
SUGGESTED = "suggested"


def prodigy_to_docs(
    path: str | Path,
    *,
    nlp: Language | None = None,
    types: str | Path | TypeNames | None = None,
    coref: str | None = None,
    on_error: ErrorHandler = raise_error,
    report: ConversionReport | None = None,
) -> Iterator[Doc]:
    """Read JSON lines of Prodigy (or a JSON list of the same records), one Doc per record.

    Offsets count characters and tokens; `token_end` is inclusive. The head of a relation is `head`
    and its tail `child`: each is the index of a token, in practice the last one of its span, which
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

    The Doc has the tokens and spaces of the record; if the record has none, the text is tokenized.
    An argument that is a plain token becomes an entity of the type ENTITY, or with `coref`, in relations
    of this name, a mention. Records with the answer
    "reject" or "ignore" are left out and counted, and suggestions of `export --suggestions` that nobody
    has answered. The id of a Doc is the record's `id`, else its
    `_task_hash`.

    path (str | Path): The file.
    nlp, types, coref, on_error, report: As in `common.DocMaker`.
    YIELDS (Doc): The gold Docs.
    RAISES (ConversionError): If the file is bad or, with the default `on_error`, a record in it.
    """
    maker = DocMaker(nlp, types, on_error, report, coref)

    def to_doc(record: JsonValue) -> Doc | None:
        record = record.with_id("id", "_task_hash")
        answer = record.raw.get("answer", ACCEPT)
        if answer not in ANSWERS:
            raise record["answer"].wrong_kind("one of " + ", ".join(ANSWERS))
        meta = record.raw.get("meta")
        if "answer" not in record.raw and isinstance(meta, dict) and meta.get(SUGGESTED) is True:
            maker.report.notes["suggestions that nobody has answered, left out"] += 1
            return None
        if answer != ACCEPT:
            maker.report.notes[f"records with the answer {answer}, left out"] += 1
            return None
        return _RecordReader(record, maker).to_doc()

    yield from maker.each(read_json_records(path), to_doc)


class _RecordReader:
    """Reads one record: relations refer to tokens and spans that were read before.

    record (JsonValue): The record.
    maker (DocMaker): Makes the Doc.
    """

    def __init__(self, record: JsonValue, maker: DocMaker) -> None:
        self.record = record
        self.maker = maker
        self.text = record["text"].as_str()
        tokens = record.get("tokens")
        self.has_tokens = tokens is not None
        if tokens is not None:
            words, spaces = _read_tokens(tokens, self.text)
            self.doc = Doc(maker.nlp.vocab, words=words, spaces=spaces)
        else:
            maker.report.notes["records without tokens, tokenized"] += 1
            self.doc = maker.tokenize(self.text, record["text"])
        # In the order of the file, with repetitions; and the index of the first one of each.
        self.entities: list[Entity] = []
        self.index: dict[Entity, int] = {}

    def to_doc(self) -> Doc:
        """Read spans and relations and write them on the Doc."""
        for span in self.record.get("spans") or ():
            label = self.maker.label_or(ENTITY, span.get("label"), "spans")
            self._add(Entity(*self._bounds(span), label))
        coref = self.maker.coref
        items = [(item["label"].as_name(), item) for item in self.record.get("relations") or ()]
        # Coreference first: its plain tokens are mentions, which other relations may have too.
        items.sort(key=lambda label_and_item: label_and_item[0] != coref)
        relations = []
        for label, item in items:
            default = coref if coref is not None and label == coref else ENTITY
            head, tail = (self._argument(item, side, default) for side in ("head", "child"))
            relations.append(Edge(head, tail, label))
        return self.maker.annotate(self.doc, self.entities, relations, self.record.place)

    def _bounds(self, span: JsonValue) -> tuple[int, int]:
        """Return start and exclusive end of a span in tokens.

        If the Doc has the record's tokens, their numbers count and the characters must agree;
        otherwise there are only characters.
        """
        if not self.has_tokens or span.get("token_start") is None:
            start, end = span["start"].as_int(), span["end"].as_int()
            label = str(span.raw.get("label"))  # for the report
            entity = self.maker.trimmed_entity(self.doc, self.text, start, end, label, span)
            return entity.start, entity.end
        start, end = inclusive_offsets(
            span["token_start"], span["token_end"], len(self.doc), span.at("token_start, token_end")
        )
        tokens = self.doc[start:end]
        for key, char in (("start", tokens.start_char), ("end", tokens.end_char)):
            if span.raw.get(key, char) != char:
                raise span[key].error(
                    Errors.E606,
                    found=f"{key} {short(span.raw[key])} with tokens {start} to {end - 1}",
                    expected=f"{char}, where these tokens are (token_end is inclusive)",
                )
        return start, end

    def _add(self, entity: Entity) -> int:
        """Add an entity and return its index; that of the first one if it is repeated."""
        self.entities.append(entity)
        return self.index.setdefault(entity, len(self.entities) - 1)

    def _argument(self, relation: JsonValue, name: str, default: str) -> int:
        """Return the index of a relation's argument ("head" or "child") among the entities; if it is
        none of them, it is added, with the default type if it has none."""
        token = relation[name].as_int()
        span = relation.get(f"{name}_span")
        label = None
        if span is None:
            if not 0 <= token < len(self.doc):
                raise relation[name].error(
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
            bounds = self._bounds(span)
            if self.has_tokens and not bounds[0] <= token < bounds[1]:
                raise span.error(
                    Errors.E606,
                    found=f"tokens {bounds[0]} to {bounds[1] - 1}",
                    expected=f"a span with the token {token}, as {name} says",
                )
            label = span.get("label")
            if label is None or label.raw == "":
                same = [e for e in self.entities if (e.start, e.end) == bounds]
                if same:
                    return self.index[same[0]]
        entity = Entity(*bounds, self.maker.label_or(default, label, "arguments of relations"))
        if entity not in self.index:
            self.maker.report.notes[
                "arguments of relations that are not among the spans, added"
            ] += 1
            return self._add(entity)
        return self.index[entity]


def _read_tokens(tokens: JsonValue, text: str) -> tuple[list[str], list[bool]]:
    """Return the tokens of a record and whether a space follows each; they must make up the text."""
    words, spaces = [], []
    at = 0
    for i, token in enumerate(tokens):
        word, space = token["text"].as_str(), token.get("ws")
        if not word:
            raise token["text"].wrong_kind("a string that is not empty")
        start = at
        fits = text.startswith(word, start) and token.raw.get("start", start) == start
        at += len(word)
        # Old versions do not say whether a space follows.
        has_space = text.startswith(" ", at) if space is None else space.as_bool()
        if has_space:
            fits = fits and text.startswith(" ", at)
            at += 1
        if not fits or token.raw.get("id", i) != i:
            raise token.error(
                Errors.E622,
                found=f"{short(word)} with start {short(token.raw.get('start'))}, ws "
                f"{short(token.raw.get('ws'))} and id {short(token.raw.get('id'))}",
                expected=f"the token with the id {i} in the text at {start}: "
                f"{short(text[start : start + 60])}",
            )
        words.append(word)
        spaces.append(has_space)
    if at != len(text):
        raise tokens.error(
            Errors.E622,
            found=f"tokens up to character {at}",
            expected=f"tokens for the whole text of {len(text)} characters",
        )
    return words, spaces


def docs_to_prodigy(
    docs: Iterable[Doc],
    report: ExportReport,
    *,
    coref: str | None = None,
    suggestions: bool = False,
) -> Iterator[dict[str, Any]]:
    """Make records of Docs, gold or predicted, for Prodigy's interface for relations.

    With `suggestions`, they are tasks that nobody has answered: spans and relations have scores, and
    `meta`, which Prodigy shows below the text, has the lowest of them.

    docs (Iterable[Doc]): Gold or predicted Docs.
    report (ExportReport): Counts what is written, changed and left out. Scores are left out, unless
        they are suggestions.
        Overlapping entities are written, but Prodigy's interface for relations does not show them.
    coref (str | None): The name of coreference, for the same argument of `prodigy_to_docs`: a relation
        of this name leads from each mention of a cluster to the one before it, and mentions that are
        no entities get it as their type. None to leave clusters out.
    suggestions (bool): Write scores, and no answers.
    YIELDS (dict[str, Any]): A record for each Doc, to be written as a line of JSON.
    """
    for doc in docs:
        annotated = read_text_annotations(doc, report, coref, suggestions)
        annotated.count(report)
        if annotated.has_overlaps:
            report.notes["texts with overlapping entities, which Prodigy does not show"] += 1
        record: dict[str, Any] = {} if annotated.id is None else {"id": annotated.id}
        record["text"] = annotated.text
        record["tokens"] = [
            {
                "text": token.text,
                "start": token.idx,
                "end": token.idx + len(token),
                "id": token.i,
                # The text may end before the last token's space.
                "ws": bool(token.whitespace_) and token.idx + len(token) < len(annotated.text),
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
                **score_of(entity, suggestions),
            }
            for entity, (start, end) in zip(annotated.entities, annotated.bounds, strict=True)
        ]
        record["relations"] = [
            {
                "head": annotated.entities[edge.head].end - 1,
                "child": annotated.entities[edge.tail].end - 1,
                "head_span": spans[edge.head],
                "child_span": spans[edge.tail],
                "label": edge.label,
                **score_of(edge, suggestions),
            }
            for edge in annotated.edges
        ]
        if suggestions:
            record["meta"] = {SUGGESTED: True, **score_of(annotated, suggestions)}
        else:
            record["answer"] = ACCEPT
        yield record
