"""What Examples say about entities and relations, in tokens of their predicted Docs, and which of it
can be learned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from spacy.tokens import Doc
from spacy.training import Example

from ..annotations import get_entities, get_relations
from ..arrays import IntArray
from ..encoding.alignment import SpanProjector
from ..errors import Warnings, warn, warn_of
from ..pairing import check_gold_label, distances, in_scope, text_ends, window_ends

# Head and tail as token ranges, and the label.
GoldRelation = tuple[tuple[int, int], tuple[int, int], str]


@dataclass
class Gold:
    """Gold annotation of one Example in tokens of its predicted Doc.

    entities (list[tuple[int, int, str]]): Token ranges and types, arguments of relations included.
    relations (list[tuple]): Head and tail as token ranges, and the label.
    type_pairs (list[tuple[str, str, str]]): Label, type of the head, type of the tail of each
        relation.
    misaligned (list[str]): Spans that do not fall on whole tokens of the predicted Doc.
    """

    entities: list[tuple[int, int, str]] = field(default_factory=list)
    relations: list[GoldRelation] = field(default_factory=list)
    type_pairs: list[tuple[str, str, str]] = field(default_factory=list)
    misaligned: list[str] = field(default_factory=list)


def read_gold(example: Example, spans_key: str, relations_key: str) -> Gold:
    """Read the gold annotation of an Example in tokens of its predicted Doc.

    example (Example): Its reference Doc has the annotation.
    spans_key, relations_key (str): Where entities and relations are.
    RETURNS (Gold): What falls on whole tokens of the predicted Doc, and what does not.
    """
    gold = Gold()
    reference = example.reference
    project = SpanProjector(reference, example.predicted)
    relations = get_relations(reference, relations_key)
    arguments = [argument for r in relations for argument in (r.head, r.tail)]
    entities = get_entities(reference, spans_key)
    for span in {(s.start, s.end, s.label_): s for s in [*entities, *arguments]}.values():
        place = project(span)
        if place is None:
            gold.misaligned.append(f"{span.text!r} ({span.label_})")
        elif span.label_:
            gold.entities.append((*place, span.label_))
    for relation in relations:
        head, tail = project(relation.head), project(relation.tail)
        if head is not None and tail is not None:
            gold.relations.append((head, tail, relation.label))
            gold.type_pairs.append((relation.label, relation.head.label_, relation.tail.label_))
    return gold


def relation_text(relation: GoldRelation, doc: Doc) -> str:
    """Show a relation to people: "label(head, tail)".

    relation (GoldRelation): Of the Doc.
    doc (Doc): The Doc.
    """
    head, tail, label = relation
    return f"{label}({doc[slice(*head)]}, {doc[slice(*tail)]})"


def sentence_starts(doc: Doc) -> IntArray | None:
    """Return the first token of each sentence of a Doc.

    doc (Doc): The Doc.
    RETURNS (int64 array, (n_sentences,) | None): Ascending from 0, also in a Doc without tokens; None
        where nothing has set sentence borders.
    """
    if len(doc) < 2:
        return np.zeros(1, dtype=np.int64)
    if not doc.has_annotation("SENT_START"):
        return None
    return np.asarray([sentence.start for sentence in doc.sents], dtype=np.int64)


@dataclass(frozen=True)
class Reach:
    """What can be predicted in a Doc.

    span_ends (int64 array, (n_tokens,)): Where an entity that begins at a token must end at the
        latest.
    pair_ends (int64 array, (n_tokens,) | None): Likewise the later one of two related entities, by
        the start of the earlier one; None for anywhere in the Doc.
    max_distance (int | None): Most tokens between the two; None for any number.
    """

    span_ends: IntArray
    pair_ends: IntArray | None
    max_distance: int | None

    def bars(
        self, head: tuple[int, int], tail: tuple[int, int]
    ) -> Literal["scope", "max_distance"] | None:
        """Tell which setting keeps two entities apart, if one does.

        head, tail (tuple[int, int]): Token ranges.
        RETURNS (str | None): The setting; None for a pair that can be predicted.
        """
        spans, pair = np.asarray([head, tail]), np.asarray([[0, 1]])
        if self.pair_ends is not None and not in_scope(spans, pair, self.pair_ends)[0]:
            return "scope"
        if self.max_distance is not None and distances(spans, pair)[0] > self.max_distance:
            return "max_distance"
        return None


@dataclass
class OutOfReach:
    """Gold annotation that cannot be predicted, as the settings are.

    total, outside, far: Relations: all that were looked at; out of scope; too far apart.
    n_entities: Entities that cross a sentence border.
    """

    total: int = 0
    outside: int = 0
    far: int = 0
    n_entities: int = 0
    _relations: list[str] = field(default_factory=list)
    _entities: list[str] = field(default_factory=list)

    def allows(
        self, head: tuple[int, int], tail: tuple[int, int], label: str, doc: Doc, reach: Reach
    ) -> bool:
        """Tell whether a relation can be predicted; it is noted if not."""
        self.total += 1
        barred_by = reach.bars(head, tail)
        if barred_by is None:
            return True
        self.outside += barred_by == "scope"
        self.far += barred_by == "max_distance"
        if len(self._relations) < 5:
            self._relations.append(relation_text((head, tail, label), doc))
        return False

    def without(
        self, entities: list[tuple[int, int, str]], doc: Doc, reach: Reach
    ) -> list[tuple[int, int, str]]:
        """Return the entities that can be predicted; the others are noted."""
        lost = [row for row in entities if row[1] > reach.span_ends[row[0]]]
        if not lost:
            return entities
        self.n_entities += len(lost)
        texts = [f"{doc[start:end].text!r} ({label})" for start, end, label in lost]
        self._entities += texts[: 5 - len(self._entities)]
        return [row for row in entities if row[1] <= reach.span_ends[row[0]]]

    def warn(self, warn: Callable[..., None], cfg: Mapping[str, Any]) -> None:
        """Warn of what was noted.

        warn (Callable): `warn_once` of the component.
        cfg (Mapping[str, Any]): Settings of the component.
        """
        warn(
            Warnings.W150,
            self._relations,
            n=self.outside + self.far,
            total=self.total,
            outside=self.outside,
            far=self.far,
            scope=cfg["scope"],
            distance=cfg["max_distance"],
        )
        warn(Warnings.W151, self._entities, n=self.n_entities)


def known_reach(example: Example, cfg: Mapping[str, Any], windows: IntArray | None = None) -> Reach:
    """Say what can be predicted in a Doc, as far as that is known before it is encoded.

    example (Example): Its predicted Doc counts; sentences are those of the gold one where the
        predicted one has none.
    cfg (Mapping[str, Any]): Settings of the component.
    windows (int64 array, (n_windows, 2) | None): Token ranges of the windows, if they are known.
    RETURNS (Reach): Without bounds by windows or sentences that are not known.
    """
    doc = example.predicted
    if cfg["scope"] == "window" and windows is not None:
        ends = np.full(len(doc), len(doc), dtype=np.int64)
        return Reach(ends, window_ends(windows, len(doc)), cfg["max_distance"])
    starts = np.zeros(1, dtype=np.int64)
    if cfg["scope"] == "sentence":
        found = sentence_starts(doc)
        if found is None and example.reference.has_annotation("SENT_START"):
            project = SpanProjector(example.reference, doc)
            places = [project(sentence) for sentence in example.reference.sents]
            found = np.unique([0, *(place[0] for place in places if place is not None)])
        starts = starts if found is None else found
    ends = text_ends(np.append(starts, len(doc)).astype(np.int64))
    return Reach(ends, ends, cfg["max_distance"])


class Survey:
    """What the training data holds: labels, and what cannot be learned from it.

    cfg (Mapping[str, Any]): Settings of the component.
    """

    def __init__(self, cfg: Mapping[str, Any]):
        self.cfg = cfg
        self.out_of_reach = OutOfReach()
        self.entity_types: Counter[str] = Counter()
        self.relation_types: Counter[str] = Counter()
        self.example_of: dict[str, str] = {}
        self.type_pairs: set[tuple[str, str, str]] = set()
        self.misaligned: list[str] = []
        self.too_long: list[tuple[int, str]] = []

    def add(self, example: Example, gold: Gold) -> None:
        self.misaligned += gold.misaligned
        reach = known_reach(example, self.cfg)
        if self.cfg["entities"] == "predict":
            self.out_of_reach.without(gold.entities, example.predicted, reach)
        for first, second, relation in gold.relations:
            self.out_of_reach.allows(first, second, relation, example.predicted, reach)
        for start, end, label in gold.entities:
            self.entity_types[label] += 1
            self.example_of.setdefault(label, example.predicted[start:end].text)
            if end - start > self.cfg["max_span_size"]:
                self.too_long.append((end - start, example.predicted[start:end].text))
        for label, head, tail in gold.type_pairs:
            self.relation_types[label] += 1
            self.example_of.setdefault(label, example.predicted.text)
            self.type_pairs.add((label, head, tail))

    def check_labels(self, name: str, entities: list[str], relations: list[str]) -> None:
        """Refuse data with labels that are not among the component's."""
        for what, found, known in (
            ("an entity type", self.entity_types, entities),
            ("a relation", self.relation_types, relations),
        ):
            for label in found:
                check_gold_label(name, what, label, known, self.example_of[label])

    def warn(self, name: str, has_relations: bool) -> None:
        if self.misaligned:
            warn_of(Warnings.W101, self.misaligned, what="span(s)")
        if self.too_long:
            warn_of(
                Warnings.W102,
                [repr(text) for _, text in self.too_long],
                total=sum(self.entity_types.values()),
                size=self.cfg["max_span_size"],
                longest=max(self.too_long)[0],
            )
        if not has_relations:
            warn(Warnings.W104.format(name=name, relations_key=self.cfg["relations_key"]))
