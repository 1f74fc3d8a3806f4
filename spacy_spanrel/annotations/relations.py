"""Relations and entities on a Doc, and the only code that knows how they are stored.

Relations live in a native ``SpanGroup`` as consecutive (head, tail) spans, because span groups
survive ``DocBin`` with default settings, ``Doc.to_bytes``, ``Doc.from_docs`` (which drops scores)
and ``n_process``, and extension data does not. Each span's label is the relation's label, its
``id_`` the argument's entity type, and ``group.attrs["scores"]`` has one score (or None) a
relation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from spacy.tokens import Doc, Span, SpanGroup

from ..errors import Errors
from .extensions import register

ENTITIES_KEY = "entities"
RELATIONS_KEY = "relations"
SCORES_ATTR = "scores"
# On the group of relations: how many pairs of the Doc were not looked at, if any.
PAIRS_LEFT_OUT_ATTR = "pairs_left_out"
# Likewise: entity types that a classifier does not know, with how many pairs were skipped for each.
SKIPPED_TYPES_ATTR = "skipped_types"
# The group of all classified pairs is called like that of the relations, with this behind.
PAIR_SCORES_SUFFIX = "_scores"
LABELS_ATTR = "labels"


@dataclass(frozen=True)
class Relation:
    """A directed, labelled relation between two spans of a Doc.

    head (Span): The first argument (subject). Its label is its entity type, "" if unknown.
    tail (Span): The second argument (object), labelled likewise.
    label (str): The relation's label.
    score (float | None): Probability from 0 to 1; None for gold annotation.
    """

    head: Span
    tail: Span
    label: str
    score: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the relation as plain JSON data with token and character offsets (ends exclusive)."""
        return {
            "label": self.label,
            "score": self.score,
            "head": _argument_to_dict(self.head),
            "tail": _argument_to_dict(self.tail),
        }

    def to_triple(self) -> tuple[str, str, str]:
        """Return the texts (head, label, tail): a view for reading and export, not an identity."""
        return (self.head.text, self.label, self.tail.text)


@dataclass(frozen=True)
class PairScores:
    """What a classifier thinks of a pair of entities.

    head (Span), tail (Span): The arguments, labelled with their entity types.
    scores (dict[str, float]): Probability of each label, the negative one included.
    """

    head: Span
    tail: Span
    scores: dict[str, float]


def _argument_to_dict(span: Span) -> dict[str, Any]:
    return {
        "text": span.text,
        "type": span.label_,
        "start": span.start,
        "end": span.end,
        "start_char": span.start_char,
        "end_char": span.end_char,
    }


def get_relations(doc: Doc, key: str = RELATIONS_KEY) -> tuple[Relation, ...]:
    """Read the relations of a Doc.

    doc (Doc): The Doc.
    key (str): The span group that holds them.
    RETURNS (tuple[Relation, ...]): In the order in which they were set; () if there are none.
    RAISES (ValueError): If the group does not hold relations.
    """
    if key not in doc.spans:
        return ()
    group = doc.spans[key]
    spans = list(group)
    scores = _read_scores(group) or [None] * (len(spans) // 2)
    if len(spans) != 2 * len(scores):
        raise ValueError(Errors.E102.format(key=key, n=len(spans), n_scores=len(scores)))
    return tuple(
        Relation(_typed(doc, head), _typed(doc, tail), head.label_, score)
        for head, tail, score in zip(spans[::2], spans[1::2], scores, strict=True)
    )


def _typed(doc: Doc, stored: Span) -> Span:
    return Span(doc, stored.start, stored.end, label=stored.id)


def set_relations(doc: Doc, relations: Iterable[Relation], key: str = RELATIONS_KEY) -> None:
    """Replace the relations of a Doc.

    doc (Doc): The Doc.
    relations (Iterable[Relation]): Relations between spans of this Doc.
    key (str): The span group to write.
    RAISES (ValueError): If an argument belongs to another Doc or a score is no probability; the
        Doc is then unchanged.
    """
    spans: list[Span] = []
    scores: list[float | None] = []
    for relation in relations:
        if relation.head.doc is not doc or relation.tail.doc is not doc:
            raise ValueError(Errors.E103.format(label=relation.label))
        score = None if relation.score is None else float(relation.score)
        if score is not None and not (math.isfinite(score) and 0.0 <= score <= 1.0):
            raise ValueError(Errors.E104.format(score=relation.score))
        for argument in (relation.head, relation.tail):
            spans.append(
                Span(
                    doc,
                    argument.start,
                    argument.end,
                    label=relation.label,
                    span_id=argument.label_,
                )
            )
        scores.append(score)
    doc.spans[key] = SpanGroup(doc, name=key, spans=spans, attrs={SCORES_ATTR: scores})


def get_pair_scores(doc: Doc, key: str = RELATIONS_KEY) -> tuple[PairScores, ...]:
    """Read the scores of all pairs that a classifier with `all_scores = true` looked at.

    doc (Doc): The Doc.
    key (str): The span group of its relations.
    RETURNS (tuple[PairScores, ...]): In the order of the pairs; () if there are none.
    """
    key += PAIR_SCORES_SUFFIX
    if key not in doc.spans:
        return ()
    group = doc.spans[key]
    spans = list(group)
    labels = group.attrs.get(LABELS_ATTR, ())
    rows = group.attrs.get(SCORES_ATTR, ())
    if len(spans) != 2 * len(rows):
        raise ValueError(Errors.E102.format(key=key, n=len(spans), n_scores=len(rows)))
    return tuple(
        PairScores(_typed(doc, head), _typed(doc, tail), dict(zip(labels, row, strict=True)))
        for head, tail, row in zip(spans[::2], spans[1::2], rows, strict=True)
    )


def set_pair_scores(
    doc: Doc,
    pairs: Iterable[tuple[Span, Span]],
    labels: Sequence[str],
    scores: Sequence[Sequence[float]],
    key: str = RELATIONS_KEY,
) -> None:
    """Write the scores of all pairs that a classifier looked at.

    doc (Doc): The Doc.
    pairs (Iterable[tuple[Span, Span]]): Heads and tails.
    labels (Sequence[str]): The labels.
    scores (Sequence[Sequence[float]]): For each pair the probability of each label.
    key (str): The span group of its relations.
    """
    key += PAIR_SCORES_SUFFIX
    spans = [
        Span(doc, argument.start, argument.end, span_id=argument.label_)
        for pair in pairs
        for argument in pair
    ]
    attrs = {LABELS_ATTR: list(labels), SCORES_ATTR: [list(map(float, row)) for row in scores]}
    doc.spans[key] = SpanGroup(doc, name=key, spans=spans, attrs=attrs)


def set_entities(
    doc: Doc, spans: Sequence[Span], scores: Sequence[float], key: str = ENTITIES_KEY
) -> None:
    """Replace the entity spans of a Doc; they may overlap. Other attrs of the group stay.

    What a converter noted there, the id of the Doc's record, is no less true of what is predicted.

    doc (Doc): The Doc.
    spans (Sequence[Span]): Labelled spans.
    scores (Sequence[float]): One probability a span.
    key (str): The span group to write.
    """
    attrs = dict(doc.spans[key].attrs) if key in doc.spans else {}
    attrs[SCORES_ATTR] = [float(score) for score in scores]
    doc.spans[key] = SpanGroup(doc, name=key, spans=spans, attrs=attrs)


def get_entities(doc: Doc, key: str | None = ENTITIES_KEY) -> list[Span]:
    """Read entity spans: the span group `key` if the Doc has it, else `doc.ents`.

    doc (Doc): The Doc.
    key (str | None): The span group; None for `doc.ents`.
    RETURNS (list[Span]): The labelled spans.
    """
    if key is not None and key in doc.spans:
        return list(doc.spans[key])
    return list(doc.ents)


def get_entity_scores(doc: Doc, key: str | None = ENTITIES_KEY) -> list[float | None]:
    """Read the score of each entity that `get_entities` returns.

    Other components have forms of their own: spaCy's `spancat` writes a numpy array, others write
    something else under the same name. What cannot be one number for each span counts as no score.

    doc (Doc): The Doc.
    key (str | None): The span group; None for `doc.ents`, which have no scores.
    RETURNS (list[float | None]): A score for each entity, None without one.
    """
    entities = get_entities(doc, key)
    scores = _read_scores(doc.spans[key]) if key is not None and key in doc.spans else []
    return scores if len(scores) == len(entities) else [None] * len(entities)


def _read_scores(group: SpanGroup) -> list[float | None]:
    """Return the scores of a group as plain numbers, None for any that is none; [] without scores."""
    scores = group.attrs.get(SCORES_ATTR)
    if isinstance(scores, np.ndarray):
        scores = scores.tolist()
    if not isinstance(scores, (list, tuple)):
        return []
    numbers = (int, float, np.integer, np.floating)
    return [
        float(score) if isinstance(score, numbers) and math.isfinite(score) else None
        for score in scores
    ]


def relations_of_span(span: Span, key: str = RELATIONS_KEY) -> tuple[Relation, ...]:
    """Return the relations in which a span takes part, as head or tail, by its boundaries."""
    bounds = (span.start, span.end)
    return tuple(
        relation
        for relation in get_relations(span.doc, key)
        if bounds
        in ((relation.head.start, relation.head.end), (relation.tail.start, relation.tail.end))
    )


def register_extensions(
    prefix: str = "", relations_key: str = RELATIONS_KEY, *, check_only: bool = False
) -> None:
    """Register `doc._.relations`, `doc._.relation_scores` and `span._.relations`; nothing foreign
    is ever overwritten.

    Registering the same extension again changes nothing.

    prefix (str): Put before the extensions' names.
    relations_key (str): The span group behind them.
    check_only (bool): Only look whether the names are free or ours.
    RAISES (ValueError): If other code, or a component with another key, owns a name.
    """
    # Partials of module-level functions: extensions travel to worker processes by pickle.
    register(
        [
            (
                Doc,
                f"{prefix}relations",
                partial(get_relations, key=relations_key),
                partial(set_relations, key=relations_key),
            ),
            (
                Doc,
                f"{prefix}relation_scores",
                partial(get_pair_scores, key=relations_key),
                None,
            ),
            (Span, f"{prefix}relations", partial(relations_of_span, key=relations_key), None),
        ],
        check_only=check_only,
    )


ORIG_ID_ATTR = "orig_id"


RecordId = str | int


def get_orig_id(doc: Doc) -> RecordId | None:
    """Return the id of the record from which a gold Doc was made; None if it had none."""
    if ENTITIES_KEY not in doc.spans:
        return None
    orig_id = doc.spans[ENTITIES_KEY].attrs.get(ORIG_ID_ATTR)
    # The group may be another component's, with attrs of its own.
    return orig_id if isinstance(orig_id, (str, int)) else None
