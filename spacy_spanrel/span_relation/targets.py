"""Training targets: gold and sampled spans and pairs of a batch, with their true labels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from spacy.tokens import Doc, Span
from spacy.training import Example

from ..arrays import FloatArray, IntArray
from ..pairing import check_gold_label, pairs_of_doc
from ..training.corpus import is_unlabelled
from .candidates import all_spans, overlaps, sample_negative_pairs, sample_negative_spans
from .gold import Gold, GoldEntity, GoldRelation, read_gold, relation_text
from .reach import Reach, Unreachable, solid_tokens


@dataclass(frozen=True)
class Targets:
    """Spans and pairs to classify in training, and the truth about them.

    spans (int64 array, (n_spans, 2)): Token ranges.
    pairs (int64 array, (n_pairs, 2)): Rows (head, tail) of `spans`.
    span_labels (int64 array, (n_spans,)): Class of each span; 0 is "no entity".
    pair_targets (float32 array, (n_pairs, n_relation_types)): 1 where the relation holds.
    types (int64 array, (n_spans,)): Entity type of each span, for the pairs; the number of types
        stands for an unknown one.
    span_targets (float32 array, (n_spans, 1 + n_entity_types) | None): Probability of each class, if
        the truth is smoothed; None: 1 for `span_labels`.
    span_weights (float32 array, (n_spans,) | None): Weight of each span in the loss; None for 1.
    pair_weights (float32 array, (n_pairs, n_relation_types) | None): Weight of each target likewise.
        A relation's weight is that of its own target. That other relations do not hold between its
        arguments is as certain as of all other pairs.
    """

    spans: IntArray
    pairs: IntArray
    span_labels: IntArray
    pair_targets: FloatArray
    types: IntArray
    span_targets: FloatArray | None = None
    span_weights: FloatArray | None = None
    pair_weights: FloatArray | None = None


@dataclass(frozen=True)
class RelatedPairs:
    """The related pairs of one Doc.

    pairs (int64 array, (n, 2)): Rows (head, tail) of the Doc's entities, each once.
    targets (float32 array, (n, n_relation_types)): 1 where the relation holds.
    weights (float32 array, (n, n_relation_types)): Weight of each target in the loss.
    not_negative (int64 array, (m, 2)): Pairs that are not drawn as negatives: the related ones, and
        the other direction of symmetric relations.
    without_entities (list[GoldRelation]): Relations of which an argument is not among the entities.
    """

    pairs: IntArray
    targets: FloatArray
    weights: FloatArray
    not_negative: IntArray
    without_entities: list[GoldRelation]


@dataclass
class LeftOut:
    """Gold annotation of a batch that is not learned.

    unreachable (Unreachable): Entities and relations that cannot be predicted.
    without_entities (list[str]): Relations whose arguments are not entities.
    skipped (Counter[str]): Numbers of what is left out, by reason.
    """

    unreachable: Unreachable = field(default_factory=Unreachable)
    without_entities: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


def make_targets(
    name: str,
    cfg: Mapping[str, Any],
    examples: Sequence[Example],
    reach: Reach,
    entities_of: Callable[[Doc], Sequence[Span]],
    predicted_gold: Callable[[Doc, Reach], Gold],
    rng: np.random.Generator,
) -> tuple[Targets, LeftOut]:
    """Sample spans and pairs of a batch, and label them with the truth.

    Spans are all gold entities and `neg_entity_count` others for each Doc (or sentence, if that is
    the scope); pairs are all related gold entities and `neg_relation_count` others likewise. Where
    the entities are those of the predicted Docs, pairs are made of them, and the gold relations are
    looked up among them. Whatever cannot be predicted is left out. The spans and pairs of an unlabelled
    Example have no weight.

    name (str): Name of the component.
    cfg (Mapping[str, Any]): Its settings.
    examples (Sequence[Example]): The batch.
    reach (Reach): What can be predicted.
    entities_of (Callable[[Doc], Sequence[Span]]): Returns the entities that a predicted Doc has, if the
        component takes these.
    predicted_gold (Callable[[Doc, Reach], Gold]): Returns the predictions of a teacher in place of gold
        annotation, for the predicted Doc of an unlabelled Example.
    rng (Generator): Draws spans and pairs.
    RETURNS (tuple[Targets, LeftOut]): The targets, and the annotation that is left out of them.
    RAISES (ValueError): If the gold data has labels that the component does not have.
    """
    left_out = LeftOut()
    unreachable = left_out.unreachable
    takes_entities = cfg["entities"] == "doc"
    parts = []
    start = 0
    for example in examples:
        doc = example.predicted
        doc_reach = reach.of_doc(start, start + len(doc))
        start += len(doc)
        given = entities_of(doc) if takes_entities else None
        if is_unlabelled(example):
            gold = predicted_gold(doc, doc_reach)
            part, _ = targets_of_doc(name, cfg, doc, gold, doc_reach, given, rng)
            parts.append(without_weight(part))
            continue
        gold = read_gold(example, cfg)
        gold.relations = unreachable.take_out_relations(gold.relations, doc, doc_reach)
        if not takes_entities:
            gold.entities = unreachable.take_out_entities(gold.entities, doc, doc_reach)
        part, without_entities = targets_of_doc(name, cfg, doc, gold, doc_reach, given, rng)
        parts.append(part)
        left_out.without_entities += [relation_text(r, doc) for r in without_entities]
        left_out.skipped.update(
            misaligned_spans=len(gold.misaligned), negative_relations=len(gold.negative)
        )
    left_out.skipped.update(
        relations_without_entities=len(left_out.without_entities),
        relations_out_of_scope=unreachable.out_of_scope,
        relations_beyond_max_distance=unreachable.too_far,
        entities_across_sentences=len(unreachable.entities),
    )
    lengths = [len(example.predicted) for example in examples]
    return join_targets(parts, lengths, len(cfg["relation_labels"])), left_out


def targets_of_doc(
    name: str,
    cfg: Mapping[str, Any],
    doc: Doc,
    gold: Gold,
    reach: Reach,
    given: Sequence[Span] | None,
    rng: np.random.Generator,
) -> tuple[Targets, list[GoldRelation]]:
    """Sample spans and pairs of one Doc, and label them.

    name, cfg, rng: As in `make_targets`.
    doc (Doc): The predicted Doc.
    gold (Gold): The annotation, as far as it can be predicted.
    reach (Reach): Reach in the Doc.
    given (Sequence[Span] | None): The entities, if they are not to be predicted.
    RETURNS (tuple[Targets, list[GoldRelation]]): The targets, in tokens of the Doc, and the relations
        whose arguments are not entities.
    RAISES (ValueError): If the annotation has labels that the component does not have.
    """
    columns = {label: i for i, label in enumerate(cfg["relation_labels"])}
    for head, _, label in gold.relations:
        check_gold_label(name, "a relation", label, columns, doc[head[0] : head[1]].text)
    class_of = {label: i + 1 for i, label in enumerate(cfg["entity_labels"])}
    entities: list[GoldEntity] = []
    if given is not None:
        label_of = {(span.start, span.end): span.label_ for span in given}
        ranges = sorted(label_of)
        classes = [class_of.get(label_of[span], 0) for span in ranges]
    else:
        entities = sorted(set(gold.entities))
        for start, end, label in entities:
            check_gold_label(name, "an entity type", label, class_of, doc[start:end].text)
        ranges = [(start, end) for start, end, _ in entities]
        classes = [class_of[label] for _, _, label in entities]
    spans = np.asarray(ranges, dtype=np.int64).reshape(-1, 2)
    row_of_span = {span: row for row, span in enumerate(ranges)}
    related = look_up_relations(
        gold.relations, row_of_span, columns, cfg["symmetric"], gold.relation_weights
    )
    # Or the entities of long Docs would hardly be told from other spans.
    n_texts = len(np.unique(reach.span_ends))
    # Class 0, "no entity", becomes the unknown type.
    types = (np.asarray(classes, dtype=np.int64) - 1) % (1 + len(class_of))
    hard = cfg["hard_negatives"]
    rows, count = list(row_of_span.values()), cfg["neg_relation_count"] * n_texts
    negative = sample_pairs(spans, rows, related.not_negative, count, reach, rng, hard, types)
    labels = np.zeros(len(spans), dtype=np.int64)
    smooth = None
    if given is None:
        candidates = all_spans(reach.span_ends, cfg["max_span_size"])
        solid = solid_tokens([doc])
        candidates = candidates[solid[candidates[:, 0]] & solid[candidates[:, 1] - 1]]
        smoothing = cfg["boundary_smoothing"]
        n_spans = cfg["neg_entity_count"] * n_texts
        others = sample_negative_spans(candidates, spans, n_spans, rng, hard, bool(smoothing))
        spans = np.concatenate([spans, others])
        labels = np.pad(classes, (0, len(others))).astype(np.int64)
        types = np.pad(types, (0, len(others)), constant_values=len(class_of))
        if smoothing:
            smooth = smooth_labels(spans, labels, 1 + len(class_of), smoothing)
        if hard:
            n_pairs = len(related.pairs) + len(negative)
            n_wrong = min(count, math.ceil(hard * max(n_pairs, len(rows))))
            wrong = sample_wrong_pairs(spans, rows, len(classes), n_wrong, reach, rng, types)
            negative = np.concatenate([negative, wrong])
    weights = np.ones(len(spans), dtype=np.float32)
    weights[: len(entities)] = [gold.entity_weights.get(entity, 1.0) for entity in entities]
    not_related = ((0, len(negative)), (0, 0))
    targets = Targets(
        spans,
        np.concatenate([related.pairs, negative]),
        labels,
        np.pad(related.targets, not_related),
        types,
        smooth,
        weights if gold.entity_weights else None,
        np.pad(related.weights, not_related, constant_values=1) if gold.relation_weights else None,
    )
    return targets, related.without_entities


def look_up_relations(
    relations: Sequence[GoldRelation],
    row_of_span: Mapping[tuple[int, int], int],
    columns: Mapping[str, int],
    symmetric: Collection[str],
    weight_of: Mapping[GoldRelation, float],
) -> RelatedPairs:
    """Look the relations of a Doc up among its entities.

    relations (Sequence[GoldRelation]): The relations.
    row_of_span (Mapping[tuple[int, int], int]): Row of each entity span.
    columns (Mapping[str, int]): Class of each relation label.
    symmetric (Collection[str]): Relations without a direction.
    weight_of (Mapping[GoldRelation, float]): Weights other than 1.
    RETURNS (RelatedPairs): The related pairs.
    """
    targets: dict[tuple[int, int], FloatArray] = {}
    weights: dict[tuple[int, int], FloatArray] = {}
    not_negative: set[tuple[int, int]] = set()
    without_entities = []
    for relation in relations:
        head, tail, label = relation
        if head not in row_of_span or tail not in row_of_span:
            without_entities.append(relation)
            continue
        pair = (row_of_span[head], row_of_span[tail])
        row = targets.setdefault(pair, np.zeros(len(columns), dtype=np.float32))
        row[columns[label]] = 1.0
        row = weights.setdefault(pair, np.ones(len(columns), dtype=np.float32))
        row[columns[label]] = weight_of.get(relation, 1.0)
        not_negative.add(pair)
        if label in symmetric:
            not_negative.add(pair[::-1])
    shape = (len(targets), len(columns))
    return RelatedPairs(
        _as_rows(list(targets)),
        np.asarray(list(targets.values()), dtype=np.float32).reshape(shape),
        np.asarray(list(weights.values()), dtype=np.float32).reshape(shape),
        _as_rows(sorted(not_negative)),
        without_entities,
    )


def sample_pairs(
    spans: IntArray,
    rows: Sequence[int],
    not_negative: IntArray,
    count: int,
    reach: Reach,
    rng: np.random.Generator,
    hard: float,
    types: IntArray,
) -> IntArray:
    """Draw pairs of entities of a Doc that are not related.

    spans (int64 array, (n, 2)): The entities; a span may occur several times, with several types.
    rows (Sequence[int]): One row of each different span: to the pair classifier it is one entity.
    not_negative (int64 array, (m, 2)): Pairs of those rows that are not drawn.
    count (int): Number of pairs to draw; if there are fewer, all are returned.
    reach (Reach): Limits of the pairs.
    rng (Generator): The random generator.
    hard (float), types (int64 array, (n,)): As in `sample_negative_pairs`.
    RETURNS (int64 array, (k, 2)): Rows (head, tail) of `spans`.
    """
    unique = np.asarray(sorted(rows), dtype=np.int64)
    drawn = sample_negative_pairs(
        spans[unique],
        np.searchsorted(unique, not_negative),
        count,
        rng,
        reach.pair_ends,
        reach.max_distance,
        hard,
        types[unique],
    )
    return unique[drawn].reshape(-1, 2)


def sample_wrong_pairs(
    spans: IntArray,
    rows: Sequence[int],
    n_entities: int,
    count: int,
    reach: Reach,
    rng: np.random.Generator,
    types: IntArray,
) -> IntArray:
    """Draw pairs of an entity and a wrong span: one that is no entity, but overlaps one.

    In prediction the entities of a pair are sometimes such spans, and no relation of theirs is right.
    Each wrong span gets the type of an entity that it overlaps.

    spans (int64 array, (n, 2)): The entities, and after them other spans.
    rows (Sequence[int]): One row of each different entity.
    n_entities (int): Number of entities.
    count (int): Number of pairs to draw; if there are fewer, all are returned.
    reach (Reach): Limits of the pairs.
    rng (Generator): The random generator.
    types (int64 array, (n,)): Type of each span; those of wrong spans are filled in.
    RETURNS (int64 array, (k, 2)): Rows (head, tail) of `spans`, of which one is an entity.
    """
    unique = np.asarray(sorted(rows), dtype=np.int64)
    if not len(unique):
        return np.zeros((0, 2), dtype=np.int64)
    is_wrong = overlaps(spans[n_entities:], spans[unique])
    wrong = n_entities + np.flatnonzero(is_wrong.any(axis=1))
    types[wrong] = types[unique[is_wrong[wrong - n_entities].argmax(axis=1)]]
    # No more of them than entities, or long Docs would have very many pairs.
    wrong = rng.choice(wrong, size=min(len(wrong), len(unique), count), replace=False)
    members = np.concatenate([unique, wrong])
    pairs, _ = pairs_of_doc(spans[members], len(members) ** 2, reach.pair_ends, reach.max_distance)
    pairs = members[pairs].reshape(-1, 2)
    head, tail = spans[pairs[:, 0]], spans[pairs[:, 1]]
    is_apart = (head[:, 1] <= tail[:, 0]) | (tail[:, 1] <= head[:, 0])
    pairs = pairs[((pairs >= n_entities).sum(axis=1) == 1) & is_apart]
    return pairs[rng.choice(len(pairs), size=min(count, len(pairs)), replace=False)]


def smooth_labels(
    spans: IntArray, labels: IntArray, n_classes: int, smoothing: float
) -> FloatArray:
    """Move a share of each entity's probability to the spans around it (Zhu and Li 2022, "Boundary
    Smoothing for Named Entity Recognition", with a distance of 1).

    Annotators disagree about borders more than about types, and a network that is to be certain of a
    border is too certain of it. A quarter of `smoothing` goes to each of the (up to four) spans that
    have one border one token away and are no entities themselves; the entity keeps the rest.

    spans (int64 array, (n, 2)): Token ranges of one Doc, each once except for entities of several types.
    labels (int64 array, (n,)): Class of each span; 0 is "no entity".
    n_classes (int): Number of classes.
    smoothing (float): The share, from 0 to 1.
    RETURNS (float32 array, (n, n_classes)): Probability of each class; those of a span add up to 1.
    """
    gold = np.flatnonzero(labels)
    step = np.abs(spans[:, None] - spans[None, gold]).sum(axis=2)
    moved = (step == 1) & (labels == 0)[:, None]
    types = np.eye(n_classes, dtype=np.float32)[labels[gold]]
    targets = (smoothing / 4 * moved).astype(np.float32) @ types
    targets[gold] = (1 - smoothing / 4 * moved.sum(axis=0, keepdims=True).T) * types
    # Entities of several types may move more than a span can take.
    targets /= np.maximum(1, targets.sum(axis=1, keepdims=True))
    targets[:, 0] = 1 - targets.sum(axis=1)
    return targets


def join_targets(
    parts: Sequence[Targets], lengths: Sequence[int], n_relation_types: int
) -> Targets:
    """Join the targets of the Docs of a batch.

    parts (Sequence[Targets]): The targets of each Doc, in tokens of the Doc.
    lengths (Sequence[int]): Number of tokens of each Doc.
    n_relation_types (int): Number of relation types.
    RETURNS (Targets): Those of the batch, with tokens numbered through the batch.
    """
    first_token = np.cumsum([0, *lengths]).tolist()
    first_span = np.cumsum([0, *(len(part.spans) for part in parts)]).tolist()
    empty = np.zeros((0, 2), dtype=np.int64)
    span_targets = span_weights = pair_weights = None
    soft = [part.span_targets for part in parts if part.span_targets is not None]
    if soft:
        span_targets = np.concatenate(soft)
    if any(part.span_weights is not None for part in parts):
        weights = [_or_ones(part.span_weights, part.span_labels.shape) for part in parts]
        span_weights = np.concatenate(weights)
    if any(part.pair_weights is not None for part in parts):
        weights = [_or_ones(part.pair_weights, part.pair_targets.shape) for part in parts]
        pair_weights = np.concatenate(weights)
    return Targets(
        np.concatenate([empty, *(p.spans + i for p, i in zip(parts, first_token, strict=False))]),
        np.concatenate([empty, *(p.pairs + i for p, i in zip(parts, first_span, strict=False))]),
        np.concatenate([empty[:, 0], *(part.span_labels for part in parts)]),
        np.concatenate(
            [
                np.zeros((0, n_relation_types), dtype=np.float32),
                *(part.pair_targets for part in parts),
            ]
        ),
        np.concatenate([empty[:, 0], *(part.types for part in parts)]),
        span_targets,
        span_weights,
        pair_weights,
    )


def without_weight(targets: Targets) -> Targets:
    """Return targets that say nothing: their spans and pairs are a teacher's to classify.

    targets (Targets): The targets.
    RETURNS (Targets): The same with weights of 0.
    """
    return replace(
        targets,
        span_weights=np.zeros(targets.span_labels.shape, dtype=np.float32),
        pair_weights=np.zeros(targets.pair_targets.shape, dtype=np.float32),
    )


def _or_ones(weights: FloatArray | None, shape: tuple[int, ...]) -> FloatArray:
    return np.ones(shape, dtype=np.float32) if weights is None else weights


def _as_rows(pairs: Sequence[tuple[int, int]]) -> IntArray:
    return np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
