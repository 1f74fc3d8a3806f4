"""Scores of entities and relations, equal to those of the original SpERT evaluator.

Entities are right if span and type are; relations "by boundaries" (`rel_*`, SpERT's "without
NEC") if label and both spans are; "strict" (`rel_strict_*`, "with NEC") if both entity types are
too. Repeated predictions count once, and symmetric relations are compared with their arguments in
the order of the text. Spans are compared by the characters other than white space before them, so
different tokenization of gold and prediction does not matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

from spacy import registry
from spacy.tokens import Doc, Span
from spacy.training import Example

from ..annotations import ENTITIES_KEY, RELATIONS_KEY, get_entities, get_relations
from ..encoding.alignment import non_space_offsets
from .counts import LabelledCounts


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
    negative_label: str | None = "no_relation",
    symmetric: Iterable[str] = (),
    **cfg: Any,
) -> dict[str, Any]:
    """Score entities and relations.

    examples (Iterable[Example]): Gold and predictions.
    spans_key (str): Span group of the entities, in both; `doc.ents` where a Doc lacks it.
    relations_key (str): Span group of the relations, in both.
    entities (str): With "doc" the entities are another component's, and are not scored here.
    negative_label (str | None): The label of pairs that are not related; they do not count.
    symmetric (Iterable[str]): Relations without a direction.
    RETURNS (dict[str, Any]): `ents_*`, `rel_*` and `rel_strict_*`, each with micro p, r, f,
        macro_p, macro_r, macro_f and per_type; values from 0 to 1, None where there is no gold.
    """
    undirected = frozenset(symmetric)
    ents, rel, rel_strict = LabelledCounts(), LabelledCounts(), LabelledCounts()
    for example in examples:
        gold = Annotations(example.reference, spans_key, relations_key, undirected, negative_label)
        predicted = Annotations(
            example.predicted, spans_key, relations_key, undirected, negative_label
        )
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
    undirected (frozenset[str]): Relations without a direction.
    negative (str | None): The label of pairs that are not related; they are left out, as are
        relations without a label.

    `relations`, `strict_relations` and `scores` are in the order of the Doc's relations.
    """

    def __init__(
        self,
        doc: Doc,
        spans_key: str,
        relations_key: str,
        undirected: frozenset[str],
        negative: str | None,
    ):
        counts = non_space_offsets(doc.text).tolist()

        def place(span: Span) -> tuple[int, int]:
            return (counts[span.start_char], counts[span.end_char])

        self.entities = [(s.label_, *place(s)) for s in get_entities(doc, spans_key)]
        self.relations: list[tuple[Any, ...]] = []
        self.strict_relations: list[tuple[Any, ...]] = []
        self.scores: list[float | None] = []
        for relation in get_relations(doc, relations_key):
            if relation.label in ("", negative):
                continue
            head = (place(relation.head), relation.head.label_)
            tail = (place(relation.tail), relation.tail.label_)
            if relation.label in undirected:
                head, tail = sorted((head, tail))
            self.relations.append((relation.label, head[0], tail[0]))
            self.strict_relations.append((relation.label, head, tail))
            self.scores.append(relation.score)


Confusions = list[dict[str, Any]]


@registry.scorers("spacy-spanrel.pair_scorer.v1")
def make_pair_scorer() -> RelationScorer:
    """Make the scorer of components that classify pairs."""
    return score_pairs


def score_pairs(
    examples: Iterable[Example],
    *,
    relations_key: str = RELATIONS_KEY,
    negative_label: str | None = "no_relation",
    symmetric: Iterable[str] = (),
    **cfg: Any,
) -> dict[str, Any]:
    """Score relations by their arguments' boundaries and label; negative ones do not count.

    Where one relation at most is predicted for each gold pair, precision, recall and F1 are those
    of the official TACRED scorer.

    examples (Iterable[Example]): Gold and predictions.
    relations_key (str): Span group of the relations, in both.
    negative_label (str | None): The label that says "no relation", known by its name.
    symmetric (Iterable[str]): Relations whose direction means nothing.
    RETURNS (dict[str, Any]): `rel_p`, `rel_r`, `rel_f` (micro), `rel_macro_*`, `rel_per_type`,
        values from 0 to 1, None where there is no gold; and `rel_confusions`, how often which gold
        label got which predicted one, most frequent first, the right ones left out.
    """
    counts = LabelledCounts()
    confused: Counter[tuple[str, str]] = Counter()
    undirected = frozenset(symmetric)
    none = negative_label or "no_relation"
    for example in examples:
        gold = _labels_of_pairs(example.reference, relations_key, negative_label, undirected)
        predicted = _labels_of_pairs(example.predicted, relations_key, negative_label, undirected)
        counts.add(_flat(gold), _flat(predicted))
        for pair in {**gold, **predicted}:
            labels, found = gold.get(pair, set()), predicted.get(pair, set())
            if labels != found:
                for label in labels - found or {none}:
                    for other in found - labels or {none}:
                        confused[label, other] += 1
    return {
        **counts.scores("rel"),
        "rel_confusions": [
            {"gold": gold, "predicted": predicted, "count": count}
            for (gold, predicted), count in confused.most_common()
        ],
    }


Pair = tuple[tuple[int, int], tuple[int, int]]


LabelledPair = tuple[str, tuple[int, int], tuple[int, int]]


def _labels_of_pairs(
    doc: Doc, key: str, negative: str | None, undirected: frozenset[str]
) -> dict[Pair, set[str]]:
    """Labels of each pair but the negative one."""
    found: dict[Pair, set[str]] = {}
    for (label, head, tail), _ in labelled_pairs(doc, key, negative, undirected):
        found.setdefault((head, tail), set()).add(label)
    return found


def labelled_pairs(
    doc: Doc, key: str, negative: str | None, undirected: frozenset[str]
) -> list[tuple[LabelledPair, float | None]]:
    """Return the relations of a Doc as tuples that compare equal across tokenizations.

    doc (Doc): The Doc.
    key (str): Span group of the relations.
    negative (str | None): The label that says "no relation"; it is left out.
    undirected (frozenset[str]): Relations whose direction means nothing.
    RETURNS (list[tuple]): Label, head and tail of each, spans by the characters other than white
        space; and its score.
    """
    places = non_space_offsets(doc.text).tolist()

    def place(span: Span) -> tuple[int, int]:
        return (places[span.start_char], places[span.end_char])

    found: list[tuple[LabelledPair, float | None]] = []
    for relation in get_relations(doc, key):
        if relation.label in ("", negative):
            continue
        head, tail = place(relation.head), place(relation.tail)
        if relation.label in undirected and tail < head:
            head, tail = tail, head
        found.append(((relation.label, head, tail), relation.score))
    return found


def _flat(found: dict[Pair, set[str]]) -> list[tuple[Any, ...]]:
    return [(label, *pair) for pair, labels in found.items() for label in labels]
