"""The `span_relation` component: entities and the relations between them (SpERT)."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Optional, Union, cast

import numpy as np
import torch
from numpy.typing import NDArray
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example, validate_examples, validate_get_examples
from spacy.vocab import Vocab
from thinc.api import Config, Optimizer
from torch import Tensor

from ..annotations import (
    ENTITIES_KEY,
    PAIRS_LEFT_OUT_ATTR,
    RELATIONS_KEY,
    Relation,
    get_entities,
    get_relations,
    register_extensions,
    set_entities,
    set_relations,
)
from ..encoding.alignment import SpanProjector
from ..encoding.batching import chunks_by_size
from ..encoding.encoder import EncodedDocs
from ..encoding.listener import check_training
from ..errors import Errors, Warnings
from ..pairing import (
    allowed_mask,
    check_label_settings,
    entity_pairs,
    is_type_pair_setting,
    merge_symmetric,
    type_pair_table,
)
from ..pipe import TorchPipe
from ..training.losses import class_loss, pair_loss
from .candidates import (
    all_spans,
    sample_negative_pairs,
    sample_negative_spans,
    tokens_to_doc_end,
)
from .decoding import (
    best_spans,
    likely_relations,
    likely_spans,
)
from .model import Backprop, Selection, SpERTInput, SpERTModel, SpERTOutput
from .scoring import RelationScorer

logger = logging.getLogger(__name__)

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]
TypePairs = dict[str, list[tuple[str, str]]]

DEFAULT_CONFIG = """
[model]
@architectures = "spacy-spanrel.SpERT.v1"
size_embedding = 25
dropout = 0.1
boundaries = false

[model.encoder]
@architectures = "spacy-spanrel.HFEncoder.v1"
name = "bert-base-cased"
tokenizer = null
max_length = "auto"
window_overlap = 64
batch_pieces = "auto"
dropout = null
attention_dropout = null
casing = false
precision = "auto"
device = "auto"
"""

# Tokens of the Docs that are encoded and decoded together in prediction: many batches of similar
# length can be made of them, and memory stays bounded however many Docs arrive at once.
_CHUNK_TOKENS = 8192


@Language.factory(
    "span_relation",
    assigns=["doc.ents", "doc.spans", "doc._.relations"],
    default_config={
        "model": Config().from_str(DEFAULT_CONFIG)["model"],
        "spans_key": ENTITIES_KEY,
        "relations_key": RELATIONS_KEY,
        "extension_prefix": "",
        "set_ents": "keep",
        "entities": "predict",
        "entities_key": None,
        "relation_threshold": 0.4,
        "overlaps": "best",
        "type_constraints": "learned",
        "symmetric": [],
        "max_span_size": 10,
        "max_pairs": 1000,
        "neg_entity_count": 100,
        "neg_relation_count": 100,
        "scorer": {"@scorers": "spacy-spanrel.relation_scorer.v1"},
    },
    default_score_weights={
        "ents_f": 0.5,
        "ents_p": 0.0,
        "ents_r": 0.0,
        "ents_per_type": None,
        "rel_strict_f": 0.5,
        "rel_strict_p": 0.0,
        "rel_strict_r": 0.0,
        "rel_f": 0.0,
        "rel_p": 0.0,
        "rel_r": 0.0,
        "rel_macro_f": 0.0,
        "rel_per_type": None,
    },
)
def make_span_relation(
    nlp: Language,
    name: str,
    model: SpERTModel,
    spans_key: str,
    relations_key: str,
    extension_prefix: str,
    set_ents: Literal["keep", "replace", "off"],
    entities: Literal["predict", "doc"],
    entities_key: Optional[str],  # noqa: UP045 (spaCy resolves these annotations at run time)
    relation_threshold: float,
    overlaps: Literal["allow", "best"],
    type_constraints: Union[  # noqa: UP007
        Literal["off", "learned"], dict[str, list[list[str]]], list[list[str]]
    ],
    symmetric: list[str],
    max_span_size: int,
    max_pairs: int,
    neg_entity_count: int,
    neg_relation_count: int,
    scorer: Optional[RelationScorer],  # noqa: UP045
) -> SpanRelation:
    """Make a `span_relation` component.

    spans_key (str): Span group for the entities.
    relations_key (str): Span group behind `doc._.relations`.
    extension_prefix (str): Put before the names of the extensions, where another package owns
        `doc._.relations`.
    set_ents (str): What becomes of `doc.ents`: "keep" adds the entities found, best score first,
        where no entity is yet; "replace" removes what was there before; "off" touches nothing.
    entities (str): "predict" finds entities; "doc" takes those that are there already (from an
        NER, an entity ruler, a span group) and only relates them.
    entities_key (str | None): With entities = "doc": the span group to take them from; None for
        `doc.ents`.
    relation_threshold (float): Smallest probability of a relation.
    overlaps (str): "best" keeps the best-scored of overlapping entities; "allow" keeps all, as the
        original SpERT program does.
    type_constraints (str | dict): Which types of head and tail a relation may have: "off" for any,
        "learned" for those in the training data, or given as {label: [[head, tail], ...]} or, where
        a label has ":" or "=", as rows [[label, head, tail], ...].
    symmetric (list[str]): Relations whose direction means nothing.
    max_span_size (int): Longest entity in tokens.
    max_pairs (int): Most pairs that are classified in a Doc, the nearest first.
    neg_entity_count (int): Spans a Doc that are no entities, drawn in each training step.
    neg_relation_count (int): Pairs of entities a Doc that are not related, drawn likewise.
    scorer (Callable | None): The scoring method.
    """
    return SpanRelation(
        nlp.vocab,
        model,
        name,
        spans_key=spans_key,
        relations_key=relations_key,
        extension_prefix=extension_prefix,
        set_ents=set_ents,
        entities=entities,
        entities_key=entities_key,
        relation_threshold=relation_threshold,
        overlaps=overlaps,
        type_constraints=type_constraints,
        symmetric=symmetric,
        max_span_size=max_span_size,
        max_pairs=max_pairs,
        neg_entity_count=neg_entity_count,
        neg_relation_count=neg_relation_count,
        scorer=scorer,
    )


@dataclass(frozen=True)
class EntitySelection(Selection):
    """Entities of a batch of Docs and the pairs among them.

    left_out (int64 array, (k, 2)): Docs that had more pairs than `max_pairs`, with the number of
        pairs that were left out.
    types (int64 array, (n_spans,)): Entity types; the number of types stands for an unknown one.
    scores (float32 array, (n_spans,)): Probabilities.
    docs (int64 array, (n_spans,)): The Doc of each.
    """

    types: IntArray
    scores: FloatArray
    docs: IntArray
    left_out: IntArray


@dataclass(frozen=True)
class DocPrediction:
    """What was found in one Doc.

    spans (int64 array, (n, 2)): Entities as token ranges.
    types (list[str]): Their types.
    scores (list[float]): Their probabilities.
    relations (list[tuple[int, int, str, float]]): Head and tail as indices into `spans`, label,
        probability.
    pairs_left_out (int): Pairs beyond `max_pairs` that were not looked at.
    """

    spans: IntArray
    types: list[str]
    scores: list[float]
    relations: list[tuple[int, int, str, float]]
    pairs_left_out: int


@dataclass(frozen=True)
class Targets:
    """Sampled candidates of a batch with what is true of them.

    selection (Selection): Spans and pairs.
    span_labels (int64 array, (n_spans,) | None): Class of each span; None where entities are given.
    pair_targets (float32 array, (n_pairs, n_relation_types)): 1 where the relation holds.
    """

    selection: Selection
    span_labels: IntArray | None
    pair_targets: FloatArray


@dataclass
class _Gold:
    """Gold annotation of one Example in tokens of its predicted Doc."""

    entities: list[tuple[int, int, str]] = field(default_factory=list)
    relations: list[tuple[tuple[int, int], tuple[int, int], str]] = field(default_factory=list)
    type_pairs: list[tuple[str, str, str]] = field(default_factory=list)
    misaligned: list[str] = field(default_factory=list)


class SpanRelation(TorchPipe):
    """Joint entity and relation extraction over spans (SpERT, Eberts and Ulges 2020).

    Arguments as in `make_span_relation`. All settings live in `cfg`, are saved with the pipeline,
    and may be changed there after training.
    """

    def __init__(
        self,
        vocab: Vocab,
        model: SpERTModel,
        name: str = "span_relation",
        *,
        scorer: RelationScorer | None = None,
        **settings: Any,
    ):
        self.vocab = vocab
        self.model = model
        self.name = name
        self.scorer = scorer
        _check_settings(name, settings)
        register_extensions(settings["extension_prefix"], settings["relations_key"])
        self.set_settings(settings, entity_labels=[], relation_labels=[], learned_type_pairs={})
        self._rng = np.random.default_rng(0)
        self._warned_lost_relations = False

    # Labels

    @property
    def entity_labels(self) -> tuple[str, ...]:
        """Entity types in the order of the network's classes ("no entity", class 0, left out)."""
        return tuple(self.cfg["entity_labels"])

    @property
    def relation_labels(self) -> tuple[str, ...]:
        """Relation labels in the order of the network's classes."""
        return tuple(self.cfg["relation_labels"])

    @property
    def labels(self) -> tuple[str, ...]:
        """Entity types, then relation labels."""
        return self.entity_labels + self.relation_labels

    @property
    def label_data(self) -> dict[str, Any]:
        """What `spacy init labels` saves, and `initialize` takes as `labels`."""
        return {
            "entities": list(self.entity_labels),
            "relations": list(self.relation_labels),
            "type_pairs": self.cfg["learned_type_pairs"],
        }

    def add_label(self, label: str, kind: Literal["entity", "relation"] = "relation") -> int:
        """Add a label before initialization.

        label (str): The label.
        kind (str): "entity" or "relation".
        RETURNS (int): 1 if it was added, 0 if it was there.
        RAISES (ValueError): If the network is initialized already.
        """
        known = self.cfg[f"{kind}_labels"]
        if label in known:
            return 0
        if self.is_initialized:
            raise ValueError(Errors.E303.format(name=self.name, label=label))
        known.append(label)
        self.vocab.strings.add(label)
        return 1

    # Initialization

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Language | None = None,
        labels: dict[str, Any] | None = None,
    ) -> None:
        """Take labels from the data (all of it) or as given, and make the network.

        get_examples (Callable): Returns the training examples.
        nlp (Language | None): The pipeline.
        labels (dict | None): {"entities": [...], "relations": [...]}, in the order of the classes,
            and optionally "type_pairs", {relation: [[head type, tail type], ...]}.
        RAISES (ValueError): If there are no labels, or the data has others than those given.
        """
        validate_get_examples(get_examples, "SpanRelation.initialize")
        if nlp is not None:
            check_training(nlp, self.name, self.model)
        survey = _Survey(self.cfg["max_span_size"])
        for example in get_examples():
            survey.add(example, self._gold(example))
        if labels is not None:
            if not isinstance(labels, dict) or not {"entities", "relations"} <= set(labels):
                raise ValueError(Errors.E305.format(name=self.name, found=labels))
            entity_labels, relation_labels = list(labels["entities"]), list(labels["relations"])
        else:
            entity_labels = _merge(self.cfg["entity_labels"], survey.entity_types)
            relation_labels = _merge(self.cfg["relation_labels"], survey.relation_types)
        if not entity_labels and not relation_labels:
            raise ValueError(
                Errors.E301.format(
                    name=self.name,
                    spans_key=self.cfg["spans_key"],
                    relations_key=self.cfg["relations_key"],
                )
            )
        survey.check_labels(self.name, entity_labels, relation_labels)
        for label in [*entity_labels, *relation_labels]:
            self.vocab.strings.add(label)
        type_pairs = {
            k: {tuple(v) for v in vs} for k, vs in (labels or {}).get("type_pairs", {}).items()
        }
        for label, head, tail in survey.type_pairs:
            type_pairs.setdefault(label, set()).add((head, tail))
        self.cfg["entity_labels"] = entity_labels
        self.cfg["relation_labels"] = relation_labels
        self.cfg["learned_type_pairs"] = {
            label: sorted([head, tail] for head, tail in pairs)
            for label, pairs in sorted(type_pairs.items())
        }
        survey.warn(self.name, self.cfg["relations_key"], bool(relation_labels))
        check_label_settings(self.name, self.cfg, self.relation_labels)
        self.model.set_dim("n_entity_types", len(entity_labels), force=True)
        self.model.set_dim("n_relation_types", len(relation_labels), force=True)
        self.model.initialize()
        # spaCy seeds numpy's global generator from [training] seed.
        self._rng = np.random.default_rng(np.random.randint(2**31))
        self._warned_lost_relations = False

    # Prediction

    def predict(self, docs: Iterable[Doc]) -> list[DocPrediction]:
        """Find entities and relations without touching the Docs.

        docs (Iterable[Doc]): The Docs.
        RETURNS (list[DocPrediction]): One for each.
        """
        docs = list(docs)
        found: list[DocPrediction] = []
        for part in chunks_by_size([len(doc) for doc in docs], _CHUNK_TOKENS):
            found.extend(self._predict_chunk(docs[part]))
        return found

    def _predict_chunk(self, docs: list[Doc]) -> list[DocPrediction]:
        offsets = np.cumsum([0, *(len(doc) for doc in docs)]).astype(np.int64)
        selection = self._given_entities(docs, offsets) if self._takes_entities else self._choose
        output = self.model.predict(SpERTInput(docs, selection, self.cfg["max_span_size"]))
        chosen = output.selection
        assert isinstance(chosen, EntitySelection)
        probabilities = torch.sigmoid(output.pair_logits).float().cpu().numpy()
        pairs, labels, scores = self._decode_relations(chosen, probabilities)
        return self._split(docs, offsets, chosen, pairs, labels, scores)

    @property
    def _takes_entities(self) -> bool:
        return bool(self.cfg["entities"] == "doc")

    def _choose(self, probabilities: FloatArray, encoded: EncodedDocs) -> EntitySelection:
        """Choose entities from the probabilities of all spans, and pair them."""
        offsets = encoded.token_offsets
        pieces = encoded.token_pieces.cpu().numpy()
        spans, types, scores = likely_spans(
            probabilities, tokens_to_doc_end(offsets), pieces[:, 1] > pieces[:, 0]
        )
        if self.cfg["overlaps"] == "best":
            keep = best_spans(spans, scores)
            spans, types, scores = spans[keep], types[keep], scores[keep]
        docs = np.searchsorted(offsets, spans[:, 0], side="right") - 1
        pairs, left_out = entity_pairs(spans, docs, self.cfg["max_pairs"])
        return EntitySelection(spans, pairs, types, scores, docs, left_out)

    def _given_entities(self, docs: list[Doc], offsets: IntArray) -> EntitySelection:
        """Take the entities that the Docs have, and pair them."""
        index = {label: i for i, label in enumerate(self.entity_labels)}
        rows: list[tuple[int, int, int, int]] = []
        for i, doc in enumerate(docs):
            for span in self._entities_of(doc):
                kind = index.get(span.label_, len(index))
                rows.append((int(offsets[i]) + span.start, int(offsets[i]) + span.end, kind, i))
        table = np.asarray(rows, dtype=np.int64).reshape(-1, 4)
        spans, doc_index = table[:, :2], table[:, 3]
        pairs, left_out = entity_pairs(spans, doc_index, self.cfg["max_pairs"])
        scores = np.ones(len(table), dtype=np.float32)
        return EntitySelection(spans, pairs, table[:, 2], scores, doc_index, left_out)

    def _entities_of(self, doc: Doc) -> list[Span]:
        key = self.cfg["entities_key"]
        spans = list(doc.ents) if key is None else list(doc.spans.get(key, []))
        return [span for span in spans if len(span)]

    def _decode_relations(
        self, chosen: EntitySelection, probabilities: FloatArray
    ) -> tuple[IntArray, IntArray, FloatArray]:
        """Return pairs (n, 2), labels (n,) and scores (n,) of the relations that hold."""
        allowed = None
        type_pairs = self._type_pairs()
        if type_pairs is not None:
            # Class after the last one: types that the training data did not have.
            mask = allowed_mask(type_pairs, [*self.entity_labels, ""], list(self.relation_labels))
            head, tail = chosen.types[chosen.pairs[:, 0]], chosen.types[chosen.pairs[:, 1]]
            allowed = mask[head, tail]
        rows, labels, scores = likely_relations(
            probabilities, self.cfg["relation_threshold"], allowed
        )
        pairs = chosen.pairs[rows]
        symmetric = {
            i for i, label in enumerate(self.relation_labels) if label in self.cfg["symmetric"]
        }
        if symmetric and len(pairs):
            pairs, keep = merge_symmetric(pairs, labels, scores, chosen.spans, symmetric)
            pairs, labels, scores = pairs[keep], labels[keep], scores[keep]
        return pairs, labels, scores

    def _type_pairs(self) -> TypePairs | None:
        setting = self.cfg["type_constraints"]
        if setting == "off":
            return None
        return type_pair_table(self.cfg["learned_type_pairs"] if setting == "learned" else setting)

    def _split(
        self,
        docs: list[Doc],
        offsets: IntArray,
        chosen: EntitySelection,
        pairs: IntArray,
        labels: IntArray,
        scores: FloatArray,
    ) -> list[DocPrediction]:
        """Divide what was found in a batch among its Docs."""
        entity_labels, relation_labels = self.entity_labels, self.relation_labels
        borders = np.searchsorted(chosen.docs, np.arange(len(docs) + 1))
        relation_borders = np.searchsorted(
            chosen.docs[pairs[:, 0]] if len(pairs) else chosen.docs[:0], np.arange(len(docs) + 1)
        )
        left_out = dict(chosen.left_out.tolist())
        found = []
        for i in range(len(docs)):
            first, last = borders[i], borders[i + 1]
            rows = slice(relation_borders[i], relation_borders[i + 1])
            local = (pairs[rows] - first).tolist()
            found.append(
                DocPrediction(
                    chosen.spans[first:last] - offsets[i],
                    [
                        entity_labels[t] if t < len(entity_labels) else ""
                        for t in chosen.types[first:last].tolist()
                    ],
                    chosen.scores[first:last].tolist(),
                    [
                        (head, tail, relation_labels[label], score)
                        for (head, tail), label, score in zip(
                            local, labels[rows].tolist(), scores[rows].tolist(), strict=True
                        )
                    ],
                    left_out.get(i, 0),
                )
            )
        return found

    def set_annotations(self, docs: Iterable[Doc], predictions: Sequence[DocPrediction]) -> None:
        """Write entities and relations on Docs.

        docs (Iterable[Doc]): The Docs that were given to `predict`.
        predictions (Sequence[DocPrediction]): What it returned.
        """
        for doc, found in zip(docs, predictions, strict=True):
            if self._takes_entities:
                spans = self._entities_of(doc)
            else:
                spans = [
                    Span(doc, start, end, label=label)
                    for (start, end), label in zip(found.spans.tolist(), found.types, strict=True)
                ]
                set_entities(doc, spans, found.scores, self.cfg["spans_key"])
                self._set_ents(doc, spans, found)
            relations = [
                Relation(spans[head], spans[tail], label, score)
                for head, tail, label, score in found.relations
            ]
            set_relations(doc, relations, self.cfg["relations_key"])
            if found.pairs_left_out:
                attrs = doc.spans[self.cfg["relations_key"]].attrs
                attrs[PAIRS_LEFT_OUT_ATTR] = found.pairs_left_out
                logger.info(
                    "%s: %d pairs beyond max_pairs = %d were left out of a Doc of %d tokens",
                    self.name,
                    found.pairs_left_out,
                    self.cfg["max_pairs"],
                    len(doc),
                )

    def _set_ents(self, doc: Doc, spans: list[Span], found: DocPrediction) -> None:
        if self.cfg["set_ents"] == "off":
            return
        old = list(doc.ents) if self.cfg["set_ents"] == "keep" else []
        free = np.ones(len(doc), dtype=bool)
        for span in old:
            free[span.start : span.end] = False
        rows = [i for i, span in enumerate(spans) if free[span.start : span.end].all()]
        if self.cfg["overlaps"] != "best":
            scores = np.asarray(found.scores, dtype=np.float32)[rows]
            rows = [rows[i] for i in np.flatnonzero(best_spans(found.spans[rows], scores))]
        doc.set_ents(old + [spans[i] for i in rows])

    # Training

    @property
    def loss_names(self) -> tuple[str, ...]:
        """The component's name, and the parts `{name}_entities` (where entities are predicted) and
        `{name}_relations`."""
        parts = ["relations"] if self._takes_entities else ["entities", "relations"]
        return (self.name, *(f"{self.name}_{part}" for part in parts))

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optimizer | None = None,
        losses: dict[str, float] | None = None,
    ) -> dict[str, float]:
        """Learn from a batch.

        examples (Iterable[Example]): The batch. Negatives are drawn per Doc.
        drop (float): Not used: dropout is a setting of the architecture.
        sgd (Optimizer | None): Steps the weights at once if given.
        losses (dict[str, float] | None): The loss of the batch is added under the component's name,
            and its parts under `{name}_entities` and `{name}_relations`.
        RETURNS (dict[str, float]): The losses.
        """
        losses = self.start_losses(losses)
        examples = list(examples)
        validate_examples(examples, "SpanRelation.update")
        self.check_trainable()
        targets = self.make_targets(examples)
        docs = [example.predicted for example in examples]
        if docs:
            output, backprop = self.model.begin_update(
                SpERTInput(docs, targets.selection, self.cfg["max_span_size"])
            )
            parts, gradients = self.get_losses(targets, output)
            cast(Backprop, backprop)(gradients)
            self.add_losses(losses, sum(parts), *parts)
        if sgd is not None:
            self.finish_update(sgd)
        return losses

    def get_loss(  # type: ignore[override]
        self, targets: Targets, output: SpERTOutput
    ) -> tuple[float, tuple[Tensor, Tensor]]:
        """Sum of the span loss and the pair loss, each averaged over its candidates.

        targets (Targets): From `make_targets`.
        output (SpERTOutput): Logits of the same candidates.
        RETURNS (tuple[float, tuple[Tensor, Tensor]]): The loss, and its gradients with respect to
            span logits and pair logits.
        """
        parts, gradients = self.get_losses(targets, output)
        return sum(parts), gradients

    def get_losses(
        self, targets: Targets, output: SpERTOutput
    ) -> tuple[list[float], tuple[Tensor, Tensor]]:
        """Evaluate the parts of the loss.

        Arguments as in `get_loss`.
        RETURNS (tuple[list[float], tuple[Tensor, Tensor]]): The span loss (where entities are not
            given) and the pair loss, and the gradients as `get_loss` returns them.
        """
        parts = []
        assert output.span_logits is not None
        device = output.span_logits.device
        if targets.span_labels is None:
            d_spans = torch.zeros_like(output.span_logits)
        else:
            labels = torch.from_numpy(targets.span_labels).to(device)
            loss, d_spans = class_loss(output.span_logits, labels)
            parts.append(loss)
        truth = torch.from_numpy(targets.pair_targets).to(device)
        loss, d_pairs = pair_loss(output.pair_logits, truth)
        return [*parts, loss], (d_spans, d_pairs)

    def make_targets(self, examples: Sequence[Example]) -> Targets:
        """Draw candidates of a batch and tell what is true of them.

        Spans are all gold entities and `neg_entity_count` others; pairs are all related gold
        entities and `neg_relation_count` others. Where entities are given, the pairs are made of
        those of the predicted Docs, and gold relations are looked up among them.

        examples (Sequence[Example]): The batch.
        RETURNS (Targets): The candidates.
        RAISES (ValueError): If the gold data has labels that the component does not know.
        """
        entity_index = {label: i + 1 for i, label in enumerate(self.entity_labels)}
        relation_index = {label: i for i, label in enumerate(self.relation_labels)}
        spans: list[IntArray] = []
        span_labels: list[IntArray] = []
        pairs: list[IntArray] = []
        truth: list[FloatArray] = []
        n_tokens, n_spans, lost = 0, 0, []
        for example in examples:
            doc = example.predicted
            gold = self._gold(example)
            self.skipped.update({"misaligned_spans": len(gold.misaligned)})
            if self._takes_entities:
                entities = sorted({(span.start, span.end) for span in self._entities_of(doc)})
                labels = np.zeros(len(entities), dtype=np.int64)
            else:
                rows = sorted(set(gold.entities))
                entities = [(start, end) for start, end, _ in rows]
                labels = np.asarray(
                    [
                        self._class_of(entity_index, "an entity type", row[2], doc[row[0] : row[1]])
                        for row in rows
                    ],
                    dtype=np.int64,
                )
            known = {span: i for i, span in enumerate(entities)}
            related: dict[tuple[int, int], FloatArray] = {}
            taken: set[tuple[int, int]] = set()
            for head, tail, label in gold.relations:
                column = self._class_of(relation_index, "a relation", label, doc[head[0] : head[1]])
                if head not in known or tail not in known:
                    lost.append(f"{label}({doc[head[0] : head[1]]}, {doc[tail[0] : tail[1]]})")
                    continue
                pair = (known[head], known[tail])
                row = related.setdefault(pair, np.zeros(len(relation_index), dtype=np.float32))
                row[column] = 1.0
                taken.add(pair)
                if label in self.cfg["symmetric"]:
                    taken.add(pair[::-1])
            # The same span with two types is one entity to the pair classifier.
            unique = np.asarray(sorted(known.values()), dtype=np.int64)
            position = {int(i): p for p, i in enumerate(unique)}
            negative = unique[
                sample_negative_pairs(
                    len(unique),
                    {(position[a], position[b]) for a, b in taken},
                    self.cfg["neg_relation_count"],
                    self._rng,
                )
            ].reshape(-1, 2)
            positive = np.asarray(list(related), dtype=np.int64).reshape(-1, 2)
            own = np.asarray(entities, dtype=np.int64).reshape(-1, 2)
            if not self._takes_entities:
                more = sample_negative_spans(
                    self._candidates(doc), own, self.cfg["neg_entity_count"], self._rng
                )
                own = np.concatenate([own, more])
                labels = np.concatenate([labels, np.zeros(len(more), dtype=np.int64)])
            spans.append(own + n_tokens)
            span_labels.append(labels)
            pairs.append(np.concatenate([positive, negative]) + n_spans)
            truth.extend(related.values())
            truth.append(np.zeros((len(negative), len(relation_index)), dtype=np.float32))
            n_tokens += len(doc)
            n_spans += len(own)
        self.skipped.update({"relations_without_entities": len(lost)})
        self._warn_lost_relations(lost)
        empty = np.zeros((0, 2), dtype=np.int64)
        return Targets(
            Selection(np.concatenate([empty, *spans]), np.concatenate([empty, *pairs])),
            None if self._takes_entities else np.concatenate([empty[:, 0], *span_labels]),
            np.concatenate(
                [np.zeros((0, len(relation_index)), dtype=np.float32)]
                + [np.atleast_2d(rows) for rows in truth]
            ),
        )

    def _candidates(self, doc: Doc) -> IntArray:
        """All spans of a Doc that can be predicted (none begins or ends with white space)."""
        spans = all_spans(np.asarray([0, len(doc)]), self.cfg["max_span_size"])
        solid = np.asarray([not token.is_space for token in doc], dtype=bool)
        return spans[solid[spans[:, 0]] & solid[spans[:, 1] - 1]] if len(spans) else spans

    def _class_of(self, index: dict[str, int], what: str, label: str, span: Span) -> int:
        if label not in index:
            raise ValueError(
                Errors.E306.format(
                    name=self.name, what=what, label=label, text=span.text, labels=list(index)
                )
            )
        return index[label]

    def _warn_lost_relations(self, lost: list[str]) -> None:
        if lost and not self._warned_lost_relations:
            self._warned_lost_relations = True
            warnings.warn(
                Warnings.W105.format(n=len(lost), examples="; ".join(lost[:5])), stacklevel=4
            )

    def _gold(self, example: Example) -> _Gold:
        """Read the gold annotation of an Example in tokens of its predicted Doc."""
        gold = _Gold()
        reference = example.reference
        project = SpanProjector(reference, example.predicted)
        relations = get_relations(reference, self.cfg["relations_key"])
        arguments = [argument for r in relations for argument in (r.head, r.tail)]
        entities = get_entities(reference, self.cfg["spans_key"])
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


class _Survey:
    """What the training data holds: labels, and what cannot be learned from it."""

    def __init__(self, max_span_size: int):
        self.max_span_size = max_span_size
        self.entity_types: Counter[str] = Counter()
        self.relation_types: Counter[str] = Counter()
        self.example_of: dict[str, str] = {}
        self.type_pairs: set[tuple[str, str, str]] = set()
        self.misaligned: list[str] = []
        self.too_long: list[tuple[int, str]] = []

    def add(self, example: Example, gold: _Gold) -> None:
        self.misaligned += gold.misaligned
        for start, end, label in gold.entities:
            self.entity_types[label] += 1
            self.example_of.setdefault(label, example.predicted[start:end].text)
            if end - start > self.max_span_size:
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
                if label not in known:
                    raise ValueError(
                        Errors.E306.format(
                            name=name,
                            what=what,
                            label=label,
                            text=self.example_of[label],
                            labels=known,
                        )
                    )

    def warn(self, name: str, relations_key: str, has_relations: bool) -> None:
        if self.misaligned:
            warnings.warn(
                Warnings.W101.format(
                    n=len(self.misaligned),
                    what="span(s)",
                    examples="; ".join(self.misaligned[:5]),
                ),
                stacklevel=3,
            )
        if self.too_long:
            warnings.warn(
                Warnings.W102.format(
                    n=len(self.too_long),
                    total=sum(self.entity_types.values()),
                    size=self.max_span_size,
                    longest=max(self.too_long)[0],
                    examples="; ".join(repr(text) for _, text in self.too_long[:5]),
                ),
                stacklevel=3,
            )
        if not has_relations:
            warnings.warn(
                Warnings.W104.format(name=name, relations_key=relations_key), stacklevel=3
            )


def _merge(known: list[str], counted: Counter[str]) -> list[str]:
    return [*known, *sorted(label for label in counted if label not in known)]


def _check_settings(name: str, settings: dict[str, Any]) -> None:
    """Refuse impossible settings when the component is built."""
    choices = {
        "set_ents": ("keep", "replace", "off"),
        "entities": ("predict", "doc"),
        "overlaps": ("allow", "best"),
    }
    expected = {key: f"one of {', '.join(map(repr, values))}" for key, values in choices.items()}
    wrong = [key for key, values in choices.items() if settings[key] not in values]
    for key, low in (
        ("max_span_size", 1),
        ("max_pairs", 1),
        ("neg_entity_count", 0),
        ("neg_relation_count", 0),
    ):
        expected[key] = f"a whole number of at least {low}"
        if (
            isinstance(settings[key], bool)
            or not isinstance(settings[key], int)
            or settings[key] < low
        ):
            wrong.append(key)
    expected["relation_threshold"] = "a number from 0 to 1"
    if not 0 <= settings["relation_threshold"] <= 1:
        wrong.append("relation_threshold")
    expected["type_constraints"] = (
        "'off', 'learned', a table {label: [[head type, tail type], ...]}, or rows "
        "[[label, head type, tail type], ...] (where a label has ':' or '=')"
    )
    given = settings["type_constraints"]
    if given not in ("off", "learned") and (
        isinstance(given, str) or not is_type_pair_setting(given)
    ):
        wrong.append("type_constraints")
    if wrong:
        key = wrong[0]
        raise ValueError(
            Errors.E302.format(name=name, setting=key, value=settings[key], expected=expected[key])
        )
