"""Gold annotation of Examples: labelled pairs, as spans of their predicted Docs."""

from __future__ import annotations

from dataclasses import dataclass, field

from spacy.tokens import Span
from spacy.training import Example

from ..annotations import get_relations
from ..encoding.alignment import SpanProjector
from .pairs import PairKey, SpanPair


@dataclass
class GoldPair:
    """A pair of the gold annotation.

    pair (SpanPair): Head and tail as spans of the predicted Doc, labelled with their entity types.
    label (str): The label that is learned: the first one that the pair has.
    weight (float): The share of the pair in the loss: the weight of the relation with this label.
    more_labels (list[str]): Its other labels.
    """

    pair: SpanPair
    label: str
    weight: float = 1.0
    more_labels: list[str] = field(default_factory=list)


@dataclass
class Gold:
    """Gold annotation of one Example.

    pairs (dict[PairKey, GoldPair]): The pairs by their token ranges in the predicted Doc.
    misaligned (list[str]): Arguments that do not lie on token borders of the predicted Doc.
    """

    pairs: dict[PairKey, GoldPair] = field(default_factory=dict)
    misaligned: list[str] = field(default_factory=list)


def read_gold(example: Example, relations_key: str) -> Gold:
    """Read the gold annotation of an Example in tokens of its predicted Doc.

    example (Example): Its reference Doc has the annotation.
    relations_key (str): Span group of the relations.
    RETURNS (Gold): The annotation.
    """
    gold = Gold()
    doc = example.predicted
    project = SpanProjector(example.reference, doc)
    for relation in get_relations(example.reference, relations_key):
        head, tail = project(relation.head), project(relation.tail)
        for span, tokens in ((relation.head, head), (relation.tail, tail)):
            if tokens is None:
                gold.misaligned.append(f"{span.text!r} ({span.label_})")
        if head is None or tail is None:
            continue
        key = (*head, *tail)
        pair = gold.pairs.get(key)
        if pair is None:
            spans = (
                Span(doc, *head, label=relation.head.label_),
                Span(doc, *tail, label=relation.tail.label_),
            )
            gold.pairs[key] = GoldPair(spans, relation.label, relation.weight)
        elif relation.label != pair.label:
            pair.more_labels.append(relation.label)
    return gold
