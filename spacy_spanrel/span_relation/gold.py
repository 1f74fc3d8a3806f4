"""Gold annotation of Examples, in tokens of their predicted Docs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spacy.tokens import Doc
from spacy.training import Example

from ..annotations import get_entities, get_relations
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
    """

    entities: list[GoldEntity] = field(default_factory=list)
    relations: list[GoldRelation] = field(default_factory=list)
    type_pairs: list[tuple[str, str, str]] = field(default_factory=list)
    misaligned: list[str] = field(default_factory=list)
    negative: list[GoldRelation] = field(default_factory=list)


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
    arguments = [argument for r in relations for argument in (r.head, r.tail)]
    entities = get_entities(reference, cfg["spans_key"])
    for span in {(s.start, s.end, s.label_): s for s in [*entities, *arguments]}.values():
        tokens = project(span)
        if tokens is None:
            gold.misaligned.append(f"{span.text!r} ({span.label_})")
        elif span.label_:
            gold.entities.append((*tokens, span.label_))
    for relation in relations:
        head, tail = project(relation.head), project(relation.tail)
        if head is None or tail is None:
            continue
        if relation.label in ("", cfg["negative_label"]):
            gold.negative.append((head, tail, relation.label))
            continue
        gold.relations.append((head, tail, relation.label))
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
