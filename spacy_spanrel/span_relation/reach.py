"""Which entities and relations can be predicted with the settings as they are, and a record of gold
annotation that cannot: it is left out of training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any, Literal

import numpy as np
from spacy.attrs import IS_SPACE
from spacy.tokens import Doc
from spacy.training import Example

from ..arrays import BoolArray, IntArray
from ..errors import Warnings
from ..pairing import (
    distances,
    gold_sentence_starts,
    in_scope,
    sentence_starts,
    text_ends,
    window_ends,
)
from .gold import GoldEntity, GoldRelation, entity_text, relation_text


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


def solid_tokens(docs: Sequence[Doc]) -> BoolArray:
    """Tell which tokens are not whitespace tokens: no entity begins or ends with one.

    docs (Sequence[Doc]): The Docs of a batch.
    RETURNS (bool array, (n_tokens,)): Whether each token, numbered through the batch, is solid.
    """
    spaces = [doc.to_array(IS_SPACE).astype(bool) for doc in docs]
    return ~np.concatenate([np.zeros(0, dtype=bool), *spaces])


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
        if starts is None:
            starts = gold_sentence_starts(example)
    starts = np.zeros(1, dtype=np.int64) if starts is None else starts
    ends = text_ends(np.append(starts, len(doc)).astype(np.int64))
    return Reach(ends, ends, cfg["max_distance"])


@dataclass
class Unreachable:
    """A record of gold annotation that cannot be predicted.

    entities (list[str]): Entities that cross a sentence border.
    relations (list[str]): Relations that `scope` or `max_distance` excludes.
    out_of_scope, too_far (int): Numbers of relations that the one and the other exclude.
    n_relations (int): Number of all relations that were looked at.
    """

    entities: list[str] = field(default_factory=list)
    relations: list[str] = field(default_factory=list)
    out_of_scope: int = 0
    too_far: int = 0
    n_relations: int = 0

    def take_out_entities(
        self, entities: list[GoldEntity], doc: Doc, reach: Reach
    ) -> list[GoldEntity]:
        """Record the entities of a Doc that cannot be predicted, and return the others.

        entities (list[GoldEntity]): The entities.
        doc (Doc): The Doc.
        reach (Reach): Its reach.
        RETURNS (list[GoldEntity]): The entities that can be predicted.
        """
        inside = [entity[1] <= reach.span_ends[entity[0]] for entity in entities]
        self.entities += [
            entity_text(entity, doc)
            for entity, is_inside in zip(entities, inside, strict=True)
            if not is_inside
        ]
        return list(compress(entities, inside))

    def take_out_relations(
        self, relations: list[GoldRelation], doc: Doc, reach: Reach
    ) -> list[GoldRelation]:
        """Do the same with relations. Arguments as in `take_out_entities`."""
        barred_by = [reach.bars(head, tail) for head, tail, _ in relations]
        self.n_relations += len(relations)
        self.out_of_scope += barred_by.count("scope")
        self.too_far += barred_by.count("max_distance")
        self.relations += [relation_text(r, doc) for r in compress(relations, barred_by)]
        return [r for r, setting in zip(relations, barred_by, strict=True) if setting is None]

    def warn(self, warn: Callable[..., None], cfg: Mapping[str, Any]) -> None:
        """Warn of what was recorded.

        warn (Callable): `warn_once` of the component.
        cfg (Mapping[str, Any]): Settings of the component.
        """
        warn(
            Warnings.W150,
            self.relations,
            total=self.n_relations,
            outside=self.out_of_scope,
            far=self.too_far,
            scope=cfg["scope"],
            distance=cfg["max_distance"],
        )
        warn(Warnings.W151, self.entities)
