"""Which entities and relations can be predicted with the settings as they are, and a record of gold
annotation that cannot: it is left out of training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from spacy.tokens import Doc
from spacy.training import Example

from ..arrays import IntArray
from ..encoding.alignment import SpanProjector
from ..errors import Warnings
from ..pairing import distances, in_scope, sentence_starts, text_ends, window_ends
from .gold import GoldEntity, GoldRelation, entity_text, relation_text

_MAX_EXAMPLES = 5


@dataclass(frozen=True)
class Reach:
    """The spans and pairs of a batch (or of one Doc) that can be predicted.

    A text is what no entity may leave: a Doc or, with scope = "sentence", a sentence.

    span_ends (int64 array, (n_tokens,)): For each token, the end (exclusive) of its text.
    pair_ends (int64 array, (n_tokens,) | None): For the first token of the earlier of two related
        entities, the last token (exclusive) at which the later one may end. None: related entities
        may lie anywhere in a Doc.
    max_distance (int | None): Largest number of tokens between related entities; None for any.
    """

    span_ends: IntArray
    pair_ends: IntArray | None
    max_distance: int | None

    def of_doc(self, start: int, end: int) -> Reach:
        """Return the reach in one Doc of the batch.

        start, end (int): First token of the Doc and its end (exclusive), numbered through the batch.
        RETURNS (Reach): The same limits with the Doc's tokens numbered from 0.
        """
        tokens = slice(start, end)
        pair_ends = None if self.pair_ends is None else self.pair_ends[tokens] - start
        return Reach(self.span_ends[tokens] - start, pair_ends, self.max_distance)

    def bars(
        self, head: tuple[int, int], tail: tuple[int, int]
    ) -> Literal["scope", "max_distance"] | None:
        """Tell which setting prevents a relation between two entities.

        head, tail (tuple[int, int]): Token ranges.
        RETURNS (str | None): The setting; None for a pair that can be predicted.
        """
        spans, pair = np.asarray([head, tail]), np.asarray([[0, 1]])
        if self.pair_ends is not None and not in_scope(spans, pair, self.pair_ends)[0]:
            return "scope"
        if self.max_distance is not None and distances(spans, pair)[0] > self.max_distance:
            return "max_distance"
        return None


def reach_before_encoding(
    example: Example, cfg: Mapping[str, Any], windows: IntArray | None = None
) -> Reach:
    """Find out what can be predicted in a Doc, as far as that is known before it is encoded.

    example (Example): Its predicted Doc counts; if that has no sentence borders, those of the gold
        Doc are taken.
    cfg (Mapping[str, Any]): Settings of the component.
    windows (int64 array, (n_windows, 2) | None): Token ranges of the windows, if they are known.
    RETURNS (Reach): The reach; unknown windows or sentences limit nothing.
    """
    doc = example.predicted
    if cfg["scope"] == "window" and windows is not None:
        ends = np.full(len(doc), len(doc), dtype=np.int64)
        return Reach(ends, window_ends(windows, len(doc)), cfg["max_distance"])
    starts = None
    if cfg["scope"] == "sentence":
        starts = sentence_starts(doc)
        if starts is None and example.reference.has_annotation("SENT_START"):
            project = SpanProjector(example.reference, doc)
            ranges = [project(sentence) for sentence in example.reference.sents]
            starts = np.unique([0, *(tokens[0] for tokens in ranges if tokens is not None)])
    starts = np.zeros(1, dtype=np.int64) if starts is None else starts
    ends = text_ends(np.append(starts, len(doc)).astype(np.int64))
    return Reach(ends, ends, cfg["max_distance"])


@dataclass
class Unreachable:
    """A record of gold annotation that cannot be predicted.

    n_entities (int): Entities that cross a sentence border.
    n_relations (int): All relations that were looked at.
    out_of_scope, too_far (int): Relations that `scope` and `max_distance` exclude.
    """

    n_entities: int = 0
    n_relations: int = 0
    out_of_scope: int = 0
    too_far: int = 0
    _entities: list[str] = field(default_factory=list)
    _relations: list[str] = field(default_factory=list)

    def take_out_entities(
        self, entities: list[GoldEntity], doc: Doc, reach: Reach
    ) -> list[GoldEntity]:
        """Record the entities that cannot be predicted, and return the others.

        entities (list[GoldEntity]): Of the Doc.
        doc (Doc): The Doc.
        reach (Reach): Its reach.
        RETURNS (list[GoldEntity]): The entities that can be predicted.
        """
        kept = []
        for entity in entities:
            if entity[1] <= reach.span_ends[entity[0]]:
                kept.append(entity)
                continue
            self.n_entities += 1
            if len(self._entities) < _MAX_EXAMPLES:
                self._entities.append(entity_text(entity, doc))
        return kept

    def take_out_relations(
        self, relations: list[GoldRelation], doc: Doc, reach: Reach
    ) -> list[GoldRelation]:
        """Record the relations that cannot be predicted, and return the others.

        relations (list[GoldRelation]): Of the Doc.
        doc (Doc): The Doc.
        reach (Reach): Its reach.
        RETURNS (list[GoldRelation]): The relations that can be predicted.
        """
        self.n_relations += len(relations)
        kept = []
        for relation in relations:
            barred_by = reach.bars(relation[0], relation[1])
            if barred_by is None:
                kept.append(relation)
                continue
            self.out_of_scope += barred_by == "scope"
            self.too_far += barred_by == "max_distance"
            if len(self._relations) < _MAX_EXAMPLES:
                self._relations.append(relation_text(relation, doc))
        return kept

    def warn(self, warn: Callable[..., None], cfg: Mapping[str, Any]) -> None:
        """Warn of what was recorded.

        warn (Callable): `warn_once` of the component.
        cfg (Mapping[str, Any]): Settings of the component.
        """
        warn(
            Warnings.W150,
            self._relations,
            n=self.out_of_scope + self.too_far,
            total=self.n_relations,
            outside=self.out_of_scope,
            far=self.too_far,
            scope=cfg["scope"],
            distance=cfg["max_distance"],
        )
        warn(Warnings.W151, self._entities, n=self.n_entities)
