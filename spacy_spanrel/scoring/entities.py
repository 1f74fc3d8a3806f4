"""Scores of relations between entities, instead of between the spans that mention them.

A gold fact is a relation label between two gold entities, however many of their mentions are related;
a predicted fact likewise. A predicted fact is right if it is a gold fact: precision, recall and F1
compare the two sets, document by document, micro-averaged over all documents, and over the documents
for each label. This is how DocRED counts relation facts (Yao et al. 2019, "DocRED: A Large-Scale
Document-Level Relation Extraction Dataset"), where the entities are given.

Here, predicted arguments must first be matched with gold entities:

- A gold entity is a cluster of coreferent mentions of the gold Doc; spans in no cluster are one entity
  if their texts are equal, apart from case and spacing (`annotations.clusters.Entities`; entity types
  do not count, as in `rel_*`).
- A predicted argument stands for the gold entity that has a gold mention, entity or argument with the
  same borders; else for the one that its text names; else for none, and its facts are wrong.
- With ``clusters = "predicted"`` the clusters of the predicted Doc are scored too. A predicted entity
  stands for the gold entity that most of its mentions stand for (on a tie, that of the earliest one),
  and all its arguments stand for that one. SciREX likewise matches predicted with gold clusters by a
  majority of mentions (Jain et al. 2020). Two predicted entities that stand for the same gold entity give
  the same facts, which count once.
- With ``clusters = "none"`` entities are told apart by their texts only.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable
from typing import Any, Literal, get_args

from spacy import registry
from spacy.tokens import Doc, Span
from spacy.training import Example

from ..annotations import (
    CLUSTERS_PREFIX,
    ENTITIES_KEY,
    RELATIONS_KEY,
    Relation,
    get_clusters,
    get_entities,
    get_relations,
)
from ..annotations.clusters import Cluster, Entities, EntityKey
from ..encoding.alignment import non_space_offsets
from ..errors import Errors
from .counts import LabelledCounts
from .relations import Place, RelationScorer, score_relations

ClusterSource = Literal["gold", "predicted", "none"]
CLUSTER_SOURCES: tuple[ClusterSource, ...] = get_args(ClusterSource)
# The prefix of the scores.
NAME = "rel_entity"


class _DocEntities:
    """The entities of a Doc, and its spans in terms that compare equal across tokenizations.

    doc (Doc): The Doc.
    relations (Iterable[Relation]): Its relations.
    clusters (tuple[tuple[Span, ...], ...]): Its clusters.
    spans_key (str): Span group of its entities.
    """

    def __init__(
        self,
        doc: Doc,
        relations: Iterable[Relation],
        clusters: tuple[Cluster, ...],
        spans_key: str,
    ) -> None:
        self._doc = doc
        self._places = non_space_offsets(doc.text).tolist()
        arguments = [span for r in relations for span in (r.head, r.tail)]
        mentions = [mention for cluster in clusters for mention in cluster]
        self.spans = [_untyped(s) for s in (*mentions, *get_entities(doc, spans_key), *arguments)]
        # Without types: names of different types are told apart by their texts only.
        self._entities = Entities(clusters, ())

    def place(self, span: Span) -> Place:
        return self._places[span.start_char], self._places[span.end_char]

    def key(self, span: Span) -> Hashable:
        """Return what is equal for all spans of an entity: a number, or a text without spaces."""
        return _without_spaces(self._entities.key(_untyped(span)))

    def key_of_text(self, text: str) -> Hashable:
        """Return the key of the entity that a text names, which may be one that the Doc has not."""
        return _without_spaces(self._entities.key_of_name(text, ""))

    def mentions(self) -> dict[Hashable, list[Span]]:
        """Return the spans of each entity in the order of the text, without repetitions."""
        spans: defaultdict[Hashable, list[Span]] = defaultdict(list)
        for start, end in sorted({(span.start, span.end) for span in self.spans}):
            span = self._doc[start:end]
            spans[self.key(span)].append(span)
        return spans


def _without_spaces(key: EntityKey) -> Hashable:
    # Words may stand apart in a tokenized text that are joined in the original.
    return key if isinstance(key, int) else key[0].replace(" ", "")


def _untyped(span: Span) -> Span:
    return Span(span.doc, span.start, span.end)


def count_entity_relations(
    examples: Iterable[Example],
    *,
    clusters: ClusterSource = "gold",
    clusters_prefix: str = CLUSTERS_PREFIX,
    spans_key: str = ENTITIES_KEY,
    relations_key: str = RELATIONS_KEY,
    negative_label: str | None = "no_relation",
    symmetric: Collection[str] = (),
    **cfg: Any,
) -> LabelledCounts:
    """Count right, wrong and missed relations between entities; the module says by which rules.

    examples (Iterable[Example]): Gold and predictions.
    clusters ("gold" | "predicted" | "none"): Which clusters tell what arguments of predictions refer
        to: those of the gold Doc, those of the predicted one, or none.
    clusters_prefix (str): The clusters, as in `get_clusters`.
    spans_key (str): Span group of the entities; `doc.ents` if a Doc has no such group.
    relations_key (str): Span group of the relations, in both.
    negative_label (str | None): The label of pairs that are not related, which does not count.
    symmetric (Collection[str]): Relations without a direction.
    RETURNS (LabelledCounts): The counts, in total and for each label.
    RAISES (ValueError): If there is no such source of clusters.
    """
    if clusters not in CLUSTER_SOURCES:
        expected = ", ".join(map(repr, CLUSTER_SOURCES))
        raise ValueError(Errors.E856.format(found=clusters, expected=expected))
    counts = LabelledCounts()
    for example in examples:
        sides = []
        for doc, is_used in (
            (example.reference, clusters != "none"),
            (example.predicted, clusters == "predicted"),
        ):
            relations = [
                relation
                for relation in get_relations(doc, relations_key)
                if relation.label not in ("", negative_label)
            ]
            doc_clusters = get_clusters(doc, clusters_prefix) if is_used else ()
            sides.append((relations, _DocEntities(doc, relations, doc_clusters, spans_key)))
        (gold_relations, gold), (predicted_relations, predicted) = sides
        gold_key_of = _Matches(gold, predicted, by_mentions=clusters == "predicted")
        counts.add(
            [_fact(r.label, gold.key(r.head), gold.key(r.tail), symmetric) for r in gold_relations],
            [
                _fact(r.label, gold_key_of(r.head), gold_key_of(r.tail), symmetric)
                for r in predicted_relations
            ],
        )
    return counts


def _fact(
    label: str, head: Hashable, tail: Hashable, symmetric: Collection[str]
) -> tuple[str, Hashable]:
    return label, frozenset((head, tail)) if label in symmetric else (head, tail)


class _Matches:
    """Finds the gold entity that a span of the predicted Doc stands for.

    gold, predicted (_DocEntities): The entities of both Docs.
    by_mentions (bool): Whether all mentions of a predicted entity decide together.
    """

    def __init__(self, gold: _DocEntities, predicted: _DocEntities, by_mentions: bool) -> None:
        self._gold, self._predicted = gold, predicted
        self._by_place = {gold.place(span): gold.key(span) for span in gold.spans}
        self._by_entity: dict[Hashable, Hashable] | None = None
        if by_mentions:
            known = set(self._by_place.values())
            self._by_entity = {}
            for key, spans in predicted.mentions().items():
                votes = Counter(entity for entity in map(self._of_span, spans) if entity in known)
                # Entities that the gold Doc has not stay apart.
                self._by_entity[key] = max(votes, key=votes.__getitem__, default=("new", key))

    def __call__(self, span: Span) -> Hashable:
        if self._by_entity is None:
            return self._of_span(span)
        return self._by_entity[self._predicted.key(span)]

    def _of_span(self, span: Span) -> Hashable:
        place = self._predicted.place(span)
        if place in self._by_place:
            return self._by_place[place]
        return self._gold.key_of_text(span.text)


def score_entity_relations(
    examples: Iterable[Example], *, clusters: ClusterSource = "gold", **cfg: Any
) -> dict[str, Any]:
    """Score relations between entities.

    Arguments as in `count_entity_relations`.
    RETURNS (dict[str, Any]): `rel_entity_p`, `rel_entity_r`, `rel_entity_f`, `rel_entity_macro_*` and
        `rel_entity_per_type`; values from 0 to 1, None without gold annotation.
    """
    return count_entity_relations(examples, clusters=clusters, **cfg).scores(NAME)


@registry.scorers("spacy-spanrel.entity_relation_scorer.v1")
def make_entity_relation_scorer(
    clusters: ClusterSource = "gold",
    clusters_prefix: str = CLUSTERS_PREFIX,
    scorer: RelationScorer | None = None,
) -> RelationScorer:
    """Make a scorer that adds the scores of relations between entities to those of another scorer.

    clusters (Literal["gold", "predicted", "none"]): Whose clusters of coreferent mentions tell what
        the arguments of predictions refer to.
    clusters_prefix (str): Clusters are the span groups with this name, an underscore and a number.
    scorer (RelationScorer | None): The other scorer. Defaults to that of `span_relation`.
    RETURNS (RelationScorer): The scorer.
    """
    if clusters not in CLUSTER_SOURCES:
        expected = ", ".join(map(repr, CLUSTER_SOURCES))
        raise ValueError(Errors.E856.format(found=clusters, expected=expected))
    return EntityRelationScorer(scorer or score_relations, clusters, clusters_prefix)


class EntityRelationScorer:
    """The scorer that `make_entity_relation_scorer` makes; arguments as there."""

    def __init__(
        self, scorer: RelationScorer, clusters: ClusterSource, clusters_prefix: str
    ) -> None:
        self.scorer, self._clusters, self._prefix = scorer, clusters, clusters_prefix

    def __call__(self, examples: Iterable[Example], **cfg: Any) -> dict[str, Any]:
        examples = list(examples)
        options = {**cfg, "clusters": self._clusters, "clusters_prefix": self._prefix}
        return {**self.scorer(examples, **cfg), **score_entity_relations(examples, **options)}
