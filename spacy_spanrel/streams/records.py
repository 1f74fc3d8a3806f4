"""The rows of the output: the plain data of an annotated Doc.

Sample, without the offsets of the relation's arguments::

    {"row": 1, "id": 7, "year": 1901, "text": "Ada was born in Oslo.",
     "entities": [{"text": "Ada", "label": "Peop", "start": 0, "end": 1, "start_char": 0,
                   "end_char": 3, "score": 0.998213}, ...],
     "relations": [{"label": "Live_In", "score": 0.913311, "head": {"text": "Ada", ...},
                    "tail": {"text": "Oslo", ...}}],
     "answers": [{"id": "q1", "question": "Who was born?", "text": "Ada", "start": 0, ...}]}

- `row` counts the rows of the input from 1, failed ones included.
- The other keys of the input row stay beside these. A key with the name of one of these
  (RESULT_NAMES) is put under `meta`.
- `start` and `end` count tokens, `start_char` and `end_char` characters of `text`; ends are exclusive,
  as everywhere in the package. A question without an answer has the text "" and the offsets 0.
- Scores have six digits: further ones depend on the machine and on the batch.
- On request, "entity_relations" are the relations between entities, each with its "evidence": the
  relations between mentions that say so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc, Span

from ..annotations import (
    Answer,
    EntityRelation,
    Relation,
    get_answers,
    get_entity_relations,
    get_entity_scores,
    get_relations,
)
from .rows import Row

ENTITY_RELATIONS = "entity_relations"
RESULT_NAMES = ("row", "text", "entities", "relations", "answers", "meta")
_DIGITS = 6


@dataclass(frozen=True)
class ResultKeys:
    """The span groups in which a pipeline leaves its results, by kind of result."""

    entities: tuple[str, ...] = ()
    relations: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()

    @classmethod
    def of(cls, nlp: Language) -> ResultKeys:
        """Ask the components of a pipeline; their settings may change until it runs."""
        keys: dict[str, dict[str, None]] = {"entities": {}, "relations": {}, "answers": {}}
        for _, pipe in nlp.pipeline:
            cfg = getattr(pipe, "cfg", None) or {}
            # A relation_classifier may leave the choice of entities to the function that makes pairs.
            pairs = getattr(pipe, "pairs", None)
            for kind, key in (
                ("entities", cfg.get("spans_key")),
                ("entities", cfg.get("entities_key")),
                ("entities", getattr(pairs, "entities_key", None)),
                ("relations", cfg.get("relations_key")),
                ("answers", cfg.get("qa_key")),
            ):
                if isinstance(key, str):
                    keys[kind][key] = None
        return cls(**{kind: tuple(names) for kind, names in keys.items()})


def make_record(number: int, row: Row, results: dict[str, Any]) -> dict[str, Any]:
    """Make a row of the output.

    number (int): The number of the row, from 1.
    row (Row): The row as it was read.
    results (dict[str, Any]): The `results` of its Doc.
    RETURNS (dict[str, Any]): The row: JSON data, except for values that came with the input.
    """
    taken = {*RESULT_NAMES, *results}
    hidden = {name: value for name, value in row.extra.items() if name in taken}
    record = {
        "row": number,
        **{name: value for name, value in row.extra.items() if name not in taken},
        **results,
    }
    if hidden:
        record["meta"] = hidden
    return record


def results(doc: Doc, keys: ResultKeys, *, entities: bool = False) -> dict[str, Any]:
    """Return the text of a Doc with its entities, relations and answers, as plain data.

    Entities are those of the span groups and of `doc.ents`, in the order of the text; relations and
    answers are in the order of the Doc.

    doc (Doc): The annotated Doc.
    keys (ResultKeys): Its span groups.
    entities (bool): Also return the relations between entities, see `get_entity_relations`.
    RETURNS (dict[str, Any]): "text", "entities", "relations" and "answers", perhaps
        "entity_relations".
    """
    data = {
        "text": doc.text,
        "entities": _entities(doc, keys.entities),
        "relations": [
            _relation(relation) for key in keys.relations for relation in get_relations(doc, key)
        ],
        "answers": [_answer(answer) for key in keys.answers for answer in get_answers(doc, key)],
    }
    if entities:
        data[ENTITY_RELATIONS] = [
            {**_relation(relation), "evidence": [_relation(r) for r in relation.evidence]}
            for key in keys.relations
            for relation in get_entity_relations(doc, key)
        ]
    return data


def _relation(relation: Relation | EntityRelation) -> dict[str, Any]:
    return {**relation.to_dict(), "score": _rounded(relation.score)}


def _entities(doc: Doc, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    scores_by_entity: dict[tuple[int, int, str], float | None] = {}
    for key in keys:
        if key in doc.spans:
            for span, score in zip(doc.spans[key], get_entity_scores(doc, key), strict=True):
                entity = (span.start, span.end, span.label_)
                scores_by_entity.setdefault(entity, _rounded(score))
    for span in doc.ents:
        scores_by_entity.setdefault((span.start, span.end, span.label_), None)
    entities = []
    for (start, end, label), score in sorted(scores_by_entity.items(), key=lambda item: item[0]):
        span = Span(doc, start, end)
        entities.append({"text": span.text, "label": label, **_offsets(span), "score": score})
    return entities


def _answer(answer: Answer) -> dict[str, Any]:
    offsets = {"start": 0, "end": 0} if answer.span is None else _offsets(answer.span)
    return {
        "id": answer.question.id,
        "question": answer.question.text,
        "text": answer.text,
        **offsets,
        "start_char": answer.start_char,
        "end_char": answer.end_char,
        "score": _rounded(answer.score),
    }


def _offsets(span: Span) -> dict[str, int]:
    return {
        "start": span.start,
        "end": span.end,
        "start_char": span.start_char,
        "end_char": span.end_char,
    }


def _rounded(score: Any) -> float | None:
    return None if score is None or not math.isfinite(score) else round(float(score), _DIGITS)
