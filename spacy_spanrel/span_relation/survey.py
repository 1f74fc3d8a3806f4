"""The labels of the training data, and what cannot be learned from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from spacy.training import Example

from ..errors import Warnings, warn, warn_of
from ..pairing import check_gold_label
from .gold import Gold, relation_text
from .reach import Unreachable, reach_before_encoding


class Survey:
    """The labels of the training data, and what cannot be learned from it.

    cfg (Mapping[str, Any]): Settings of the component.

    `entity_types` and `relation_types` hold the labels, each with a text that has it.
    """

    def __init__(self, cfg: Mapping[str, Any]):
        self.cfg = cfg
        self.unreachable = Unreachable()
        self.entity_types: dict[str, str] = {}
        self.relation_types: dict[str, str] = {}
        self.type_pairs: set[tuple[str, str, str]] = set()
        self._n_entities = 0
        self._misaligned: list[str] = []
        self._too_long: list[tuple[int, str]] = []
        self._negative: list[str] = []

    def add(self, example: Example, gold: Gold) -> None:
        """Take in an Example.

        example (Example): The Example.
        gold (Gold): Its annotation.
        """
        doc = example.predicted
        self._misaligned += gold.misaligned
        self._negative += [relation_text(relation, doc) for relation in gold.negative]
        reach = reach_before_encoding(example, self.cfg)
        if self.cfg["entities"] == "predict":
            self.unreachable.take_out_entities(gold.entities, doc, reach)
        self.unreachable.take_out_relations(gold.relations, doc, reach)
        self._n_entities += len(gold.entities)
        for start, end, label in gold.entities:
            self.entity_types.setdefault(label, doc[start:end].text)
            if end - start > self.cfg["max_span_size"]:
                self._too_long.append((end - start, doc[start:end].text))
        for label, *_ in gold.type_pairs:
            self.relation_types.setdefault(label, doc.text)
        self.type_pairs.update(gold.type_pairs)

    def check_labels(self, name: str, entities: Sequence[str], relations: Sequence[str]) -> None:
        """Refuse data with labels that the component does not have.

        name (str): Name of the component.
        entities, relations (Sequence[str]): Its labels.
        RAISES (ValueError): If the data has another label.
        """
        for what, in_data, labels in (
            ("an entity type", self.entity_types, entities),
            ("a relation", self.relation_types, relations),
        ):
            for label, text in in_data.items():
                check_gold_label(name, what, label, labels, text)

    def warn(self, name: str, has_relations: bool, warn_once: Callable[..., None]) -> None:
        """Warn of what cannot be learned.

        name (str): Name of the component.
        has_relations (bool): Whether it has relation labels.
        warn_once (Callable): `warn_once` of the component.
        """
        if self._misaligned:
            warn_of(Warnings.W101, self._misaligned, what="span(s)")
        if self._too_long:
            warn_of(
                Warnings.W102,
                [repr(text) for _, text in self._too_long],
                total=self._n_entities,
                size=self.cfg["max_span_size"],
                longest=max(self._too_long)[0],
            )
        if not has_relations:
            warn(Warnings.W104.format(name=name, relations_key=self.cfg["relations_key"]))
        warn_once(Warnings.W152, self._negative, negative=self.cfg["negative_label"])
        self.unreachable.warn(warn_once, self.cfg)
