"""Scores of entities and relations, equal to those of the original SpERT evaluator.

Entities are right if span and type are; relations "by boundaries" (`rel_*`, SpERT's "without
NEC") if label and both spans are; "strict" (`rel_strict_*`, "with NEC") if both entity types are
too. Repeated predictions count once, and symmetric relations are compared with their arguments in
the order of the text. Spans are compared by the characters other than white space before them, so
different tokenization of gold and prediction does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

from spacy import registry
from spacy.tokens import Doc, Span
from spacy.training import Example

from ..annotations import ENTITIES_KEY, RELATIONS_KEY, get_entities, get_relations
from ..encoding.alignment import non_space_offsets
from ..scoring import LabelledCounts


@runtime_checkable  # spaCy checks it where a config says scorer = null
class RelationScorer(Protocol):
    """Scores Examples; takes a component's `cfg` as keyword arguments."""

    def __call__(self, examples: Iterable[Example], **cfg: Any) -> dict[str, Any]: ...


@registry.scorers("spacy-spanrel.relation_scorer.v1")
def make_relation_scorer() -> RelationScorer:
    """Make the scorer of components that write relations."""
    return score_relations


def score_relations(
    examples: Iterable[Example],
    *,
    spans_key: str = ENTITIES_KEY,
    relations_key: str = RELATIONS_KEY,
    entities: str = "predict",
    symmetric: Iterable[str] = (),
    **cfg: Any,
) -> dict[str, Any]:
    """Score entities and relations.

    examples (Iterable[Example]): Gold and predictions.
    spans_key (str): Span group of the entities, in both; `doc.ents` where a Doc lacks it.
    relations_key (str): Span group of the relations, in both.
    entities (str): With "doc" the entities are another component's, and are not scored here.
    symmetric (Iterable[str]): Relations whose direction means nothing.
    RETURNS (dict[str, Any]): `ents_*`, `rel_*` and `rel_strict_*`, each with micro p, r, f,
        macro_p, macro_r, macro_f and per_type; values from 0 to 1, None where there is no gold.
    """
    undirected = frozenset(symmetric)
    ents, rel, rel_strict = LabelledCounts(), LabelledCounts(), LabelledCounts()
    for example in examples:
        gold = Annotations(example.reference, spans_key, relations_key, undirected)
        predicted = Annotations(example.predicted, spans_key, relations_key, undirected)
        ents.add(gold.entities, predicted.entities)
        rel.add(gold.relations, predicted.relations)
        rel_strict.add(gold.strict_relations, predicted.strict_relations)
    scores: dict[str, Any] = {}
    if entities != "doc":
        scores.update(ents.scores("ents"))
    scores.update(rel.scores("rel"))
    scores.update(rel_strict.scores("rel_strict"))
    return scores


class Annotations:
    """The annotations of a Doc as tuples that compare equal across tokenizations, label first.

    doc (Doc): The Doc.
    spans_key, relations_key (str): As in `score_relations`.
    undirected (frozenset[str]): Relations whose direction means nothing.

    `relations`, `strict_relations` and `scores` stand in the order of the Doc's relations.
    """

    def __init__(self, doc: Doc, spans_key: str, relations_key: str, undirected: frozenset[str]):
        counts = non_space_offsets(doc.text).tolist()

        def place(span: Span) -> tuple[int, int]:
            return (counts[span.start_char], counts[span.end_char])

        self.entities = [(s.label_, *place(s)) for s in get_entities(doc, spans_key)]
        self.relations: list[tuple[Any, ...]] = []
        self.strict_relations: list[tuple[Any, ...]] = []
        self.scores: list[float | None] = []
        for relation in get_relations(doc, relations_key):
            head = (place(relation.head), relation.head.label_)
            tail = (place(relation.tail), relation.tail.label_)
            if relation.label in undirected:
                head, tail = sorted((head, tail))
            self.relations.append((relation.label, head[0], tail[0]))
            self.strict_relations.append((relation.label, head, tail))
            self.scores.append(relation.score)
