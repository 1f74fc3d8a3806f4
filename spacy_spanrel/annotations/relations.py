"""Relations and entities of a Doc; only this module knows how they are stored.

Relations are stored in a ``SpanGroup`` of spaCy as consecutive (head, tail) spans. Span groups survive
``DocBin`` with default settings, ``Doc.to_bytes``, ``n_process`` and ``Doc.from_docs`` (which drops the
scores); the data of extensions does not. The label of both spans is the label of the relation, their
``id_`` is the entity type of the argument, and ``group.attrs["scores"]`` holds one score, or None, for
each relation. If a relation or an entity has another weight than 1, ``group.attrs["weights"]`` holds one
weight for each.

Other components may write groups of the same names. What they keep in the attributes is read where it
has the form that is used here, and ignored otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from spacy.tokens import Doc, Span, SpanGroup

from ..errors import Errors
from .clusters import CLUSTERS_PREFIX, Entities, get_clusters
from .extensions import Extension, register

ENTITIES_KEY = "entities"
RELATIONS_KEY = "relations"
SCORES_ATTR = "scores"
WEIGHTS_ATTR = "weights"
# Attribute of the group of relations: the number of pairs that were not classified, if there are any.
PAIRS_LEFT_OUT_ATTR = "pairs_left_out"
# Likewise: the entity types that a classifier does not know, with the number of pairs skipped for each.
SKIPPED_TYPES_ATTR = "skipped_types"
# The group of all classified pairs has the name of the group of relations and this suffix.
PAIR_SCORES_SUFFIX = "_scores"
LABELS_ATTR = "labels"
# Attribute of the group of entities: the id of the record from which the Doc was made.
ORIG_ID_ATTR = "orig_id"
# The key of `doc.user_data` under which a Doc carries the keys of its row but for the text, and the key of
# the id among them.
META_KEY = "meta"
ID_KEY = "id"

RecordId = str | int

_NUMBERS = (int, float, np.floating)


class _EntitySource:
    """The entities of a Doc, worked out when the first of its relations asks for them.

    doc (Doc): The Doc.
    arguments (Sequence[Span]): Spans of its relations, labelled with their entity types.
    clusters_prefix (str): As in `get_clusters`.
    """

    def __init__(
        self, doc: Doc, arguments: Sequence[Span], clusters_prefix: str = CLUSTERS_PREFIX
    ) -> None:
        self._doc, self._arguments, self._prefix = doc, arguments, clusters_prefix

    @cached_property
    def entities(self) -> Entities:
        spans = [*get_entities(self._doc), *self._arguments]
        return Entities(get_clusters(self._doc, self._prefix), spans)


@dataclass(frozen=True)
class Relation:
    """A directed, labelled relation between two spans of a Doc.

    head (Span): The first argument (subject). Its label is the entity type, "" if that is unknown.
    tail (Span): The second argument (object), labelled likewise.
    label (str): The label of the relation.
    score (float | None): Probability from 0 to 1; None for gold annotation.
    weight (float): Of gold annotation, the share of the relation in the loss, 0 or more; 1 for what
        people have annotated, less for what another program has suggested.

    `head_entity` and `tail_entity` are the best mentions of what the arguments refer to, in a Doc with
    clusters of coreferent mentions (see `get_clusters`).
    """

    head: Span
    tail: Span
    label: str
    score: float | None = None
    weight: float = 1.0
    _source: _EntitySource | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def certainty(self) -> float:
        """The score; 1 if there is none, because people or rules have stated the relation."""
        return 1.0 if self.score is None else self.score

    @property
    def head_entity(self) -> Span:
        """The best mention of the cluster that the head belongs to: "Ada Bergstrom" for "she". The
        head itself if it belongs to none."""
        return self._entities.best(self.head)

    @property
    def tail_entity(self) -> Span:
        """The best mention of the cluster that the tail belongs to; the tail itself if it belongs to
        none."""
        return self._entities.best(self.tail)

    @property
    def _entities(self) -> Entities:
        source = self._source or _EntitySource(self.head.doc, [self.head, self.tail])
        return source.entities

    def to_dict(self) -> dict[str, Any]:
        """Return the relation as JSON data, with offsets in tokens and in characters (ends exclusive)."""
        return _relation_to_dict(self)

    def to_triple(self) -> tuple[str, str, str]:
        """Return the texts (head, label, tail), for display. Different relations may share them."""
        return (self.head.text, self.label, self.tail.text)


@dataclass(frozen=True)
class PairScores:
    """The probabilities of all labels for a pair of entities.

    head, tail (Span): The arguments, labelled with their entity types.
    scores (dict[str, float]): The probability of each label, the negative label included.
    """

    head: Span
    tail: Span
    scores: dict[str, float]


def _relation_to_dict(relation: Relation | EntityRelation) -> dict[str, Any]:
    return {
        "label": relation.label,
        "score": relation.score,
        "head": _argument_to_dict(relation.head),
        "tail": _argument_to_dict(relation.tail),
    }


def _argument_to_dict(span: Span) -> dict[str, Any]:
    return {
        "text": span.text,
        "type": span.label_,
        "start": span.start,
        "end": span.end,
        "start_char": span.start_char,
        "end_char": span.end_char,
    }


def get_relations(
    doc: Doc, key: str = RELATIONS_KEY, clusters_prefix: str = CLUSTERS_PREFIX
) -> tuple[Relation, ...]:
    """Read the relations of a Doc.

    doc (Doc): The Doc.
    key (str): The span group that holds them.
    clusters_prefix (str): The clusters of coreferent mentions, as in `get_clusters`. They are read
        when the first `head_entity` or `tail_entity` is asked for.
    RETURNS (tuple[Relation, ...]): In the order in which they were set; () if there are none.
    RAISES (ValueError): If the group does not hold relations.
    """
    if key not in doc.spans:
        return ()
    group = doc.spans[key]
    stored = group.attrs.get(SCORES_ATTR)
    scores = _probabilities(stored)
    if stored is None or scores == []:  # gold relations, or scores that Doc.from_docs dropped
        scores = [None] * (len(group) // 2)
    pairs = _stored_pairs(group, key, scores, stored)
    arguments = [span for head, tail, _ in pairs for span in (head, tail)]
    source = _EntitySource(doc, arguments, clusters_prefix)
    weights = _weights(group, len(pairs))
    relations = tuple(
        Relation(head, tail, label, score, weight)
        for (head, tail, label), score, weight in zip(pairs, scores or (), weights, strict=True)
    )
    for relation in relations:
        object.__setattr__(relation, "_source", source)  # shared, so that it works only once
    return relations


def _stored_pairs(
    group: SpanGroup, key: str, rows: Sequence[Any] | None, stored: Any
) -> list[tuple[Span, Span, str]]:
    """Read the arguments of stored relations, with the entity types as labels, and their labels.

    group (SpanGroup): The group.
    key (str): Its name.
    rows (Sequence | None): The scores of each pair; None if they have another form.
    stored (Any): The scores as they are stored.
    RETURNS (list[tuple[Span, Span, str]]): Head, tail and label of each pair.
    RAISES (ValueError): If there is not one row for each pair of spans.
    """
    spans = list(group)
    if rows is None or len(spans) != 2 * len(rows):
        kind = type(stored).__name__
        scores = f"scores of another form ({kind})" if rows is None else f"{len(rows)} scores"
        raise ValueError(Errors.E102.format(key=key, n=len(spans), scores=scores))
    typed = [Span(group.doc, span.start, span.end, label=span.id) for span in spans]
    labels = [span.label_ for span in spans[::2]]
    return list(zip(typed[::2], typed[1::2], labels, strict=True))


def _as_list(stored: Any) -> list[Any] | None:
    """Return a list, a tuple or an array of any library as a list; None for everything else."""
    if hasattr(stored, "tolist"):
        stored = stored.tolist()
    return list(stored) if isinstance(stored, (list, tuple)) else None


def _probabilities(stored: Any) -> list[float | None] | None:
    """Return stored scores, each a probability or None, as plain numbers; None if they are anything
    else."""
    values = _as_list(stored)
    if values is None:
        return None
    scores: list[float | None] = []
    for value in values:
        if value is not None:
            if not isinstance(value, _NUMBERS) or isinstance(value, bool) or not 0 <= value <= 1:
                return None
            value = float(value)
        scores.append(value)
    return scores


def _weights(group: SpanGroup, n: int) -> list[float]:
    """Return the weights of a group of n things; 1 for each if it stores none, or anything else."""
    values = _as_list(group.attrs.get(WEIGHTS_ATTR)) or ()
    fits = len(values) == n and all(_is_weight(value) for value in values)
    return [float(value) for value in values] if fits else [1.0] * n


def _is_weight(value: Any) -> bool:
    is_number = isinstance(value, _NUMBERS) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value >= 0


def weight_attrs(weights: Sequence[float]) -> dict[str, list[float]]:
    """Return the attribute of a span group that stores weights; none if all are 1.

    weights (Sequence[float]): The weights.
    RETURNS (dict[str, list[float]]): The attribute.
    RAISES (ValueError): If one of them is no finite number from 0 on.
    """
    for weight in weights:
        if not _is_weight(weight):
            raise ValueError(Errors.E111.format(weight=weight))
    is_plain = all(weight == 1 for weight in weights)
    return {} if is_plain else {WEIGHTS_ATTR: [float(weight) for weight in weights]}


def set_relations(doc: Doc, relations: Iterable[Relation], key: str = RELATIONS_KEY) -> None:
    """Replace the relations of a Doc.

    doc (Doc): The Doc.
    relations (Iterable[Relation]): Relations between spans of this Doc.
    key (str): The span group to write.
    RAISES (ValueError): If an argument belongs to another Doc, a score is not a probability, or a
        weight not a number from 0 on; the Doc is then unchanged.
    """
    spans: list[Span] = []
    scores: list[float | None] = []
    weights: list[float] = []
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
        weights.append(relation.weight)
    attrs = {SCORES_ATTR: scores, **weight_attrs(weights)}
    doc.spans[key] = SpanGroup(doc, name=key, spans=spans, attrs=attrs)


def get_pair_scores(doc: Doc, key: str = RELATIONS_KEY) -> tuple[PairScores, ...]:
    """Read the scores of all pairs that were classified with `all_scores = true`.

    doc (Doc): The Doc.
    key (str): The span group of its relations.
    RETURNS (tuple[PairScores, ...]): In the order of the pairs; () if there are none.
    RAISES (ValueError): If the group does not hold the scores of pairs.
    """
    key += PAIR_SCORES_SUFFIX
    if key not in doc.spans:
        return ()
    group = doc.spans[key]
    stored = group.attrs.get(SCORES_ATTR, ())
    labels = _as_list(group.attrs.get(LABELS_ATTR, ())) or []
    rows = [
        [score for score in _probabilities(row) or () if score is not None]
        for row in _as_list(stored) or ()
    ]
    fits = all(isinstance(label, str) for label in labels)
    fits = fits and all(len(row) == len(labels) for row in rows)
    pairs = _stored_pairs(group, key, rows if fits else None, stored)
    return tuple(
        PairScores(head, tail, dict(zip(labels, row, strict=True)))
        for (head, tail, _), row in zip(pairs, rows, strict=True)
    )


def set_pair_scores(
    doc: Doc,
    pairs: Iterable[tuple[Span, Span]],
    labels: Sequence[str],
    scores: Sequence[Sequence[float]],
    key: str = RELATIONS_KEY,
) -> None:
    """Write the scores of all pairs that were classified.

    doc (Doc): The Doc.
    pairs (Iterable[tuple[Span, Span]]): Heads and tails.
    labels (Sequence[str]): The labels.
    scores (Sequence[Sequence[float]]): The probability of each label for each pair.
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
    """Replace the entity spans of a Doc; they may overlap.

    Other attributes of the group stay, as a converter stores the id of the Doc's record there; weights
    do not, because they belong to the spans that were there.

    doc (Doc): The Doc.
    spans (Sequence[Span]): Labelled spans.
    scores (Sequence[float]): The probability of each span.
    key (str): The span group to write.
    """
    attrs = dict(doc.spans[key].attrs) if key in doc.spans else {}
    attrs.pop(WEIGHTS_ATTR, None)
    attrs[SCORES_ATTR] = [float(score) for score in scores]
    doc.spans[key] = SpanGroup(doc, name=key, spans=spans, attrs=attrs)


def get_entities(doc: Doc, key: str | None = ENTITIES_KEY) -> list[Span]:
    """Read the entity spans of a Doc: the span group `key` if there is one, else `doc.ents`.

    doc (Doc): The Doc.
    key (str | None): The span group; None for `doc.ents`.
    RETURNS (list[Span]): The labelled spans.
    """
    if key is not None and key in doc.spans:
        return list(doc.spans[key])
    return list(doc.ents)


def get_entity_scores(doc: Doc, key: str | None = ENTITIES_KEY) -> list[float | None]:
    """Read the scores of the spans that `get_entities` returns.

    Components of other packages may have written them: spaCy's `spancat` stores a numpy array.

    doc (Doc): The Doc.
    key (str | None): The span group; None for `doc.ents`.
    RETURNS (list[float | None]): One probability for each span; all None if the group stores
        anything else, or nothing.
    """
    n = len(get_entities(doc, key))
    stored = doc.spans[key].attrs.get(SCORES_ATTR) if key is not None and key in doc.spans else None
    scores = _probabilities(stored)
    return scores if scores is not None and len(scores) == n else [None] * n


def get_entity_weights(doc: Doc, key: str | None = ENTITIES_KEY) -> list[float]:
    """Read the weights in the loss of the gold entities that `get_entities` returns.

    doc (Doc): The Doc.
    key (str | None): The span group; None for `doc.ents`.
    RETURNS (list[float]): One weight for each entity, as in `Relation`; 1 if the group stores none.
    """
    n = len(get_entities(doc, key))
    return _weights(doc.spans[key], n) if key is not None and key in doc.spans else [1.0] * n


@dataclass(frozen=True)
class EntityRelation:
    """A relation between two entities of a Doc, with all relations between their mentions that say so.

    head (Span): The best mention of the first entity, labelled with its type.
    tail (Span): The best mention of the second entity, labelled likewise.
    label (str): The label of the relation.
    evidence (tuple[Relation, ...]): The relations between mentions, in the order of the Doc.
    """

    head: Span
    tail: Span
    label: str
    evidence: tuple[Relation, ...]

    @property
    def score(self) -> float | None:
        """The best score of the evidence; None if it has no scores."""
        return max((r.score for r in self.evidence if r.score is not None), default=None)

    def to_dict(self) -> dict[str, Any]:
        """Return the relation as JSON data, with the evidence as `Relation.to_dict` returns it."""
        return {
            **_relation_to_dict(self),
            "evidence": [relation.to_dict() for relation in self.evidence],
        }

    def to_triple(self) -> tuple[str, str, str]:
        """Return the texts (head, label, tail), for display."""
        return (self.head.text, self.label, self.tail.text)


def get_entity_relations(
    doc: Doc, key: str = RELATIONS_KEY, clusters_prefix: str = CLUSTERS_PREFIX
) -> tuple[EntityRelation, ...]:
    """Gather the relations of a Doc by the entities that their arguments stand for.

    Each label holds once between two entities, however often the text says so. An entity is a cluster
    of coreferent mentions; arguments outside of clusters are one entity if their texts (apart from
    case and spacing) and types are equal. The precise rules are those of
    `spacy_spanrel.annotations.clusters.Entities`.

    doc (Doc): The Doc.
    key (str): The span group of its relations.
    clusters_prefix (str): The clusters of coreferent mentions, as in `get_clusters`.
    RETURNS (tuple[EntityRelation, ...]): In the order of their first evidence.
    RAISES (ValueError): If the Doc does not hold relations or clusters as expected.
    """
    relations = get_relations(doc, key, clusters_prefix)
    if not relations:
        return ()
    entities = relations[0]._entities
    evidence: dict[tuple[Any, Any, str], list[Relation]] = {}
    for relation in relations:
        fact = (entities.key(relation.head), entities.key(relation.tail), relation.label)
        evidence.setdefault(fact, []).append(relation)
    return tuple(
        EntityRelation(group[0].head_entity, group[0].tail_entity, label, tuple(group))
        for (_, _, label), group in evidence.items()
    )


def relations_of_span(span: Span, key: str = RELATIONS_KEY) -> tuple[Relation, ...]:
    """Return the relations of which a span is the head or the tail, whatever its label."""
    bounds = (span.start, span.end)
    return tuple(
        relation
        for relation in get_relations(span.doc, key)
        if bounds
        in ((relation.head.start, relation.head.end), (relation.tail.start, relation.tail.end))
    )


def relation_extensions(prefix: str = "", relations_key: str = RELATIONS_KEY) -> list[Extension]:
    """Return the extensions of `register_extensions`; arguments as there."""
    options = {"key": relations_key}
    return [
        Extension(Doc, f"{prefix}relations", get_relations, set_relations, options),
        Extension(Doc, f"{prefix}relation_scores", get_pair_scores, None, options),
        Extension(Doc, f"{prefix}entity_relations", get_entity_relations, None, options),
        Extension(Span, f"{prefix}relations", relations_of_span, None, options),
    ]


def register_extensions(prefix: str = "", relations_key: str = RELATIONS_KEY) -> None:
    """Register `doc._.relations`, `doc._.relation_scores`, `doc._.entity_relations` and
    `span._.relations`. Extensions of other code are never overwritten.

    prefix (str): Put before the names of the extensions.
    relations_key (str): The span group that they read and write.
    RAISES (ValueError): If a name belongs to other code, or to another span group.
    """
    register(relation_extensions(prefix, relations_key))


def get_orig_id(doc: Doc) -> RecordId | None:
    """Return the id of the record or row from which a Doc was made; None if it has none."""
    orig_id = doc.spans[ENTITIES_KEY].attrs.get(ORIG_ID_ATTR) if ENTITIES_KEY in doc.spans else None
    meta = doc.user_data.get(META_KEY)
    if orig_id is None and isinstance(meta, dict):
        orig_id = meta.get(ID_KEY)
    return orig_id if isinstance(orig_id, str | int) and not isinstance(orig_id, bool) else None
