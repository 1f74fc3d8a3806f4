"""What a row of the output says: the plain data of an annotated Doc.

Sample, without the offsets of the relation's arguments::

    {"row": 1, "id": 7, "year": 1901, "text": "Ada was born in Oslo.",
     "entities": [{"text": "Ada", "label": "Peop", "start": 0, "end": 1, "start_char": 0,
                   "end_char": 3, "score": 0.998213}, ...],
     "relations": [{"label": "Live_In", "score": 0.913311, "head": {"text": "Ada", ...},
                    "tail": {"text": "Oslo", ...}}],
     "answers": [{"id": "q1", "question": "Who was born?", "text": "Ada", "start": 0, ...}]}

- `row` counts the rows of the input from 1, the failed ones included.
- The row's own keys stay beside these. Where one has the name of one of these (OWN_NAMES), it is
  under `meta`.
- `start` and `end` are tokens, `start_char` and `end_char` characters of `text`, ends exclusive, as
  everywhere in the package. No answer has the text "" and the offsets 0.
- Scores have six digits: what is behind them depends on the machine and on the batch.
"""

from __future__ import annotations

import base64
import datetime
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc, Span

from ..annotations import (
    Answer,
    get_answers,
    get_entity_scores,
    get_relations,
)
from .rows import Row

OWN_NAMES = ("row", "text", "entities", "relations", "answers", "meta")
_DIGITS = 6


@dataclass(frozen=True)
class ResultKeys:
    """The span groups in which a pipeline leaves its results, by what they hold."""

    entities: tuple[str, ...] = ()
    relations: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()

    @classmethod
    def of(cls, nlp: Language) -> ResultKeys:
        """Ask the components of a pipeline. Their settings may be changed, so it is asked late."""
        found: dict[str, dict[str, None]] = {"entities": {}, "relations": {}, "answers": {}}
        for _, pipe in nlp.pipeline:
            cfg = getattr(pipe, "cfg", None) or {}
            # Entities of a relation_classifier are the business of what makes its pairs.
            pairs = getattr(pipe, "pairs", None)
            for what, key in (
                ("entities", cfg.get("spans_key")),
                ("entities", cfg.get("entities_key")),
                ("entities", getattr(pairs, "entities_key", None)),
                ("relations", cfg.get("relations_key")),
                ("answers", cfg.get("qa_key")),
            ):
                if isinstance(key, str):
                    found[what][key] = None
        return cls(**{what: tuple(keys) for what, keys in found.items()})


def make_record(number: int, row: Row, found: dict[str, Any]) -> dict[str, Any]:
    """Make a row of the output.

    number (int): The row, from 1.
    row (Row): What was read.
    found (dict[str, Any]): The `results` of its Doc.
    RETURNS (dict[str, Any]): The row, JSON data but for values of its own.
    """
    hidden = {name: value for name, value in row.own.items() if name in OWN_NAMES}
    record = {
        "row": number,
        **{name: value for name, value in row.own.items() if name not in OWN_NAMES},
        **found,
    }
    if hidden:
        record["meta"] = hidden
    return record


def results(doc: Doc, keys: ResultKeys) -> dict[str, Any]:
    """Return the text of a Doc with its entities, relations and answers, as plain data.

    Entities are those of the span groups and, besides, those of `doc.ents`, in the order of the
    text; relations and answers are in the order of the Doc.
    """
    return {
        "text": doc.text,
        "entities": _entities(doc, keys.entities),
        "relations": [
            {**relation.to_dict(), "score": _rounded(relation.score)}
            for key in keys.relations
            for relation in get_relations(doc, key)
        ],
        "answers": [_answer(answer) for key in keys.answers for answer in get_answers(doc, key)],
    }


def _entities(doc: Doc, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    found: dict[tuple[int, int, str], float | None] = {}
    for key in keys:
        if key in doc.spans:
            for span, score in zip(doc.spans[key], get_entity_scores(doc, key), strict=True):
                found.setdefault((span.start, span.end, span.label_), _rounded(score))
    for span in doc.ents:
        found.setdefault((span.start, span.end, span.label_), None)
    rows = []
    for start, end, label in sorted(found):
        span = Span(doc, start, end)
        rows.append(
            {
                "text": span.text,
                "label": label,
                **_offsets(span),
                "score": found[start, end, label],
            }
        )
    return rows


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


def dump_json(value: Any) -> str:
    """Return strict JSON.

    Values that JSON does not have are put like this: numbers that are not finite as null, dates and
    times in the form of ISO 8601, bytes in base64, others as text.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        return json.dumps(plain(value), ensure_ascii=False, allow_nan=False)


def plain(value: Any) -> Any:
    """Return JSON data of any value, as `dump_json` puts it."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)
