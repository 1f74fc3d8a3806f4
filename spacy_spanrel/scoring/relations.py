"""Scores of entities and relations, equal to those of the original SpERT and TACRED programs.

An entity is right if its span and type are. A relation is right "by boundaries" (`rel_*`; SpERT:
"without NEC") if its label and the spans of both arguments are, and "strictly" (`rel_strict_*`; "with
NEC") if their entity types are right as well. Repeated predictions count once, relations without a
direction are compared with their arguments in the order of the text, and the negative label does
not count. Spans are compared by the number of characters other than white space before their
borders, so gold and predicted Docs may be tokenized differently.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from spacy import registry
from spacy.tokens import Doc, Span
from spacy.training import Example

from ..annotations import ENTITIES_KEY, RELATIONS_KEY, Relation, get_entities, get_relations
from ..encoding.alignment import non_space_offsets
from .counts import LabelledCounts, without_direction

# The borders of a span, as numbers of characters other than white space.
Place = tuple[int, int]
Pair = tuple[Place, Place]


@runtime_checkable  # spaCy checks it where a config says scorer = null
class RelationScorer(Protocol):
    """Scores Examples; takes a component's `cfg` as keyword arguments."""

    def __call__(self, examples: Iterable[Example], **cfg: Any) -> dict[str, Any]: ...


class ComparableRelation(NamedTuple):
    """A relation with keys that compare equal across tokenizations.

    relation (Relation): The relation.
    plain (tuple[str, Place, Place]): Label, head and tail.
    strict (tuple[str, tuple[Place, str], tuple[Place, str]]): Label, head and its type, tail and its
        type.
    """

    relation: Relation
    plain: tuple[str, Place, Place]
    strict: tuple[str, tuple[Place, str], tuple[Place, str]]


class ComparableDoc:
    """The entities and relations of a Doc with keys that compare equal across tokenizations.

    doc (Doc): The Doc.
    """

    def __init__(self, doc: Doc):
        self._doc = doc
        self._places = non_space_offsets(doc.text).tolist()

    def _place(self, span: Span) -> Place:
        return self._places[span.start_char], self._places[span.end_char]

    def entities(self, spans_key: str = ENTITIES_KEY) -> list[tuple[str, int, int]]:
        """Return type and borders of each entity, in the order of the Doc.

        spans_key (str): Span group of the entities; `doc.ents` if the Doc has no such group.
        """
        return [(s.label_, *self._place(s)) for s in get_entities(self._doc, spans_key)]

    def relations(
        self,
        relations_key: str = RELATIONS_KEY,
        negative_label: str | None = "no_relation",
        symmetric: Collection[str] = (),
    ) -> list[ComparableRelation]:
        """Return the relations in the order of the Doc, without those that deny a relation.

        relations_key (str): Span group of the relations.
        negative_label (str | None): The label of pairs that are not related. Relations with this label,
            or without a label, are left out.
        symmetric (Collection[str]): Relations without a direction; the keys have their arguments in the
            order of the text.
        """
        comparable = []
        for relation in get_relations(self._doc, relations_key):
            label = relation.label
            if label in ("", negative_label):
                continue
            head = (self._place(relation.head), relation.head.label_)
            tail = (self._place(relation.tail), relation.tail.label_)
            if label in symmetric:
                head, tail = sorted((head, tail))
            plain = (label, head[0], tail[0])
            comparable.append(ComparableRelation(relation, plain, (label, head, tail)))
        return comparable


@registry.scorers("spacy-spanrel.relation_scorer.v1")
def make_relation_scorer() -> RelationScorer:
    """Make the scorer of components that find entities and relations."""
    return score_relations


def score_relations(
    examples: Iterable[Example],
    *,
    spans_key: str = ENTITIES_KEY,
    relations_key: str = RELATIONS_KEY,
    entities: str = "predict",
    negative_label: str | None = "no_relation",
    symmetric: Collection[str] = (),
    **cfg: Any,
) -> dict[str, Any]:
    """Score entities and relations as the original SpERT program does.

    examples (Iterable[Example]): Gold and predictions.
    spans_key (str): Span group of the entities, in both; `doc.ents` if a Doc has no such group.
    relations_key (str): Span group of the relations, in both.
    entities (str): With "doc" the entities come from another component and are not scored.
    negative_label (str | None): The label of pairs that are not related, which does not count.
    symmetric (Collection[str]): Relations without a direction.
    RETURNS (dict[str, Any]): `ents_*`, `rel_*` and `rel_strict_*`, each with micro p, r, f,
        macro_p, macro_r, macro_f and per_type; values from 0 to 1, None without gold annotation.
    """
    ents, plain, strict = LabelledCounts(), LabelledCounts(), LabelledCounts()
    for example in examples:
        docs = [ComparableDoc(doc) for doc in (example.reference, example.predicted)]
        gold, predicted = (doc.relations(relations_key, negative_label, symmetric) for doc in docs)
        plain.add((r.plain for r in gold), (r.plain for r in predicted))
        strict.add((r.strict for r in gold), (r.strict for r in predicted))
        if entities != "doc":
            ents.add(*(doc.entities(spans_key) for doc in docs))
    scores = {} if entities == "doc" else ents.scores("ents")
    return {**scores, **plain.scores("rel"), **strict.scores("rel_strict")}


@registry.scorers("spacy-spanrel.pair_scorer.v1")
def make_pair_scorer() -> RelationScorer:
    """Make the scorer of components that classify pairs."""
    return score_pairs


def score_pairs(
    examples: Iterable[Example],
    *,
    relations_key: str = RELATIONS_KEY,
    negative_label: str | None = "no_relation",
    symmetric: Collection[str] = (),
    **cfg: Any,
) -> dict[str, Any]:
    """Score the labels of pairs.

    If at most one relation is predicted for each gold pair, precision, recall and F1 are those of the
    official TACRED scorer (Zhang et al. 2017). Where labels name a direction, as `Cause-Effect(e1,e2)` and
    `Cause-Effect(e2,e1)` do, macro precision, recall and F1 are given over relations too: both labels are
    counted together, and a prediction is right if its direction is. This is the official score of
    SemEval-2010 Task 8 (Hendrickx et al. 2010; Other is the negative label), and it is customary for KBP37.

    Arguments as in `score_relations`.
    RETURNS (dict[str, Any]): `rel_*` as in `score_relations`; `rel_semeval_macro_p`, `_r` and `_f` if a
        label names a direction; and `rel_confusions`: how often each label was predicted instead of
        another one, most frequent first.
    """
    counts = LabelledCounts()
    confusions: Counter[tuple[str, str]] = Counter()
    for example in examples:
        gold, predicted = (
            ComparableDoc(doc).relations(relations_key, negative_label, symmetric)
            for doc in (example.reference, example.predicted)
        )
        counts.add((r.plain for r in gold), (r.plain for r in predicted))
        confusions.update(_confusions(gold, predicted, negative_label or "no_relation"))
    scores = counts.scores("rel")
    if any(label != without_direction(label) for label in counts.per_label):
        semeval = counts.without_directions().scores("rel_semeval")
        scores |= {key: value for key, value in semeval.items() if "_macro_" in key}
    return {
        **scores,
        "rel_confusions": [
            {"gold": gold_label, "predicted": predicted_label, "count": count}
            for (gold_label, predicted_label), count in confusions.most_common()
        ],
    }


def _confusions(
    gold: Iterable[ComparableRelation], predicted: Iterable[ComparableRelation], negative: str
) -> Iterable[tuple[str, str]]:
    """Yield gold and predicted label of each pair that got another label than it has."""
    labels_of_pairs: dict[Pair, tuple[set[str], set[str]]] = {}
    for side, relations in enumerate((gold, predicted)):
        for relation in relations:
            label, *pair = relation.plain
            labels_of_pairs.setdefault((pair[0], pair[1]), (set(), set()))[side].add(label)
    for gold_labels, predicted_labels in labels_of_pairs.values():
        if gold_labels != predicted_labels:
            for gold_label in gold_labels - predicted_labels or {negative}:
                for predicted_label in predicted_labels - gold_labels or {negative}:
                    yield gold_label, predicted_label
