"""Gold annotation of Examples, in tokens of their predicted Docs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spacy.tokens import Doc, Span
from spacy.training import Example

from ..annotations import get_entities, get_entity_weights, get_relations
from ..encoding.alignment import SpanProjector

# Token range and type.
GoldEntity = tuple[int, int, str]
# Head and tail as token ranges, and the label.
GoldRelation = tuple[tuple[int, int], tuple[int, int], str]


@dataclass
class Gold:
    """Gold annotation of one Example in tokens of its predicted Doc.

    entities (list[GoldEntity]): The entities, arguments of relations included.
    relations (list[GoldRelation]): The relations, without negative ones.
    type_pairs (list[tuple[str, str, str]]): Label, type of the head and type of the tail of each
        relation.
    misaligned (list[str]): Spans that do not lie on token borders of the predicted Doc.
    negative (list[GoldRelation]): Pairs that are annotated as not related: with the negative label,
        or with no label.
    entity_weights (dict[GoldEntity, float]), relation_weights (dict[GoldRelation, float]): The share
        of entities and relations in the loss, where it is not 1.
    """

    entities: list[GoldEntity] = field(default_factory=list)
    relations: list[GoldRelation] = field(default_factory=list)
    type_pairs: list[tuple[str, str, str]] = field(default_factory=list)
    misaligned: list[str] = field(default_factory=list)
    negative: list[GoldRelation] = field(default_factory=list)
    entity_weights: dict[GoldEntity, float] = field(default_factory=dict)
    relation_weights: dict[GoldRelation, float] = field(default_factory=dict)


def read_gold(example: Example, cfg: Mapping[str, Any]) -> Gold:
    """Read the gold annotation of an Example in tokens of its predicted Doc.

    example (Example): Its reference Doc has the annotation.
    cfg (Mapping[str, Any]): Settings of the component: "spans_key", "relations_key" and
        "negative_label" are read.
    RETURNS (Gold): The annotation.
    """
    gold = Gold()
    reference = example.reference
    project = SpanProjector(reference, example.predicted)
    relations = get_relations(reference, cfg["relations_key"])
    entities = get_entities(reference, cfg["spans_key"])
    # An argument that is not among the entities is as certain as the most certain of its relations.
    arguments = sorted(
        ((span, r.weight) for r in relations for span in (r.head, r.tail)),
        key=lambda argument: -argument[1],
    )
    weighted = [*zip(entities, get_entity_weights(reference, cfg["spans_key"]), strict=True)]
    unique: dict[tuple[int, int, str], tuple[Span, float]] = {}
    for span, weight in [*weighted, *arguments]:
        unique.setdefault((span.start, span.end, span.label_), (span, weight))
    for span, weight in unique.values():
        tokens = project(span)
        if tokens is None:
            gold.misaligned.append(f"{span.text!r} ({span.label_})")
        elif span.label_:
            entity = (*tokens, span.label_)
            gold.entities.append(entity)
            if weight != 1:
                gold.entity_weights[entity] = weight
    for relation in relations:
        head, tail = project(relation.head), project(relation.tail)
        if head is None or tail is None:
            continue
        if relation.label in ("", cfg["negative_label"]):
            gold.negative.append((head, tail, relation.label))
            continue
        gold.relations.append((head, tail, relation.label))
        if relation.weight != 1:
            gold.relation_weights[head, tail, relation.label] = relation.weight
        gold.type_pairs.append((relation.label, relation.head.label_, relation.tail.label_))
    return gold


def entity_text(entity: GoldEntity, doc: Doc) -> str:
    """Show an entity to people: "'text' (type)".

    entity (GoldEntity): An entity of the Doc.
    doc (Doc): The Doc.
    RETURNS (str): The text.
    """
    start, end, label = entity
    return f"{doc[start:end].text!r} ({label})"


def relation_text(relation: GoldRelation, doc: Doc) -> str:
    """Show a relation to people: "label(head, tail)".

    relation (GoldRelation): A relation of the Doc.
    doc (Doc): The Doc.
    RETURNS (str): The text.
    """
    head, tail, label = relation
    return f"{label}({doc[slice(*head)]}, {doc[slice(*tail)]})"
