"""The `span_relation` component: entities and the relations between them (SpERT)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, Optional, Union, cast

import numpy as np
import torch
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example, validate_get_examples
from spacy.vocab import Vocab
from thinc.api import Config
from torch import Tensor

from ..annotations import (
    ENTITIES_KEY,
    PAIRS_LEFT_OUT_ATTR,
    RELATIONS_KEY,
    Record,
    Relation,
    register_extensions,
    set_entities,
    set_relations,
    set_report,
)
from ..arrays import FloatArray, IntArray
from ..encoding.batching import chunks_by_size
from ..encoding.encoder import EncodedDocs, SplitDocs
from ..encoding.listener import check_training
from ..encoding.transfer import to_device
from ..errors import Errors, Warnings
from ..pairing import (
    TYPE_CONSTRAINTS,
    allowed_mask,
    check_gold_label,
    check_label_settings,
    entity_pairs,
    merge_symmetric,
    text_ends,
    type_pair_table,
    window_ends,
)
from ..pipe import TorchPipe
from ..scoring.relations import RelationScorer
from ..settings import number, one_of, optional, whole_number
from ..training.losses import class_loss, pair_loss
from .candidates import all_spans, sample_negative_pairs, sample_negative_spans, tokens_to_doc_end
from .decoding import (
    best_spans,
    likely_relations,
    likely_spans,
)
from .gold import OutOfReach, Reach, Survey, read_gold, relation_text, sentence_starts
from .model import Backprop, Choose, Selection, SpERTInput, SpERTModel, SpERTOutput

logger = logging.getLogger(__name__)

TypePairs = dict[str, list[tuple[str, str]]]
Scope = Literal["doc", "sentence", "window"]

DEFAULT_CONFIG = """
[model]
@architectures = "spacy-spanrel.SpERT.v1"
size_embedding = 25
dropout = 0.1
boundaries = false
relation_bias = -2.0

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

RULES = {
    "set_ents": one_of("keep", "replace", "off"),
    "entities": one_of("predict", "doc"),
    "overlaps": one_of("allow", "best"),
    "scope": one_of("doc", "sentence", "window"),
    "max_span_size": whole_number(1),
    "max_pairs": whole_number(1),
    "neg_entity_count": whole_number(0),
    "neg_relation_count": whole_number(0),
    "max_distance": optional(whole_number(0)),
    "relation_threshold": number(0, 1),
    "type_constraints": TYPE_CONSTRAINTS,
}

# Tokens of the Docs that are encoded and decoded together in prediction: many batches of similar
# length can be made of them, and memory stays bounded however many Docs arrive at once.
_CHUNK_TOKENS = 8192


@Language.factory(
    "span_relation",
    assigns=["doc.ents", "doc.spans", "doc._.relations", "doc._.spanrel_report"],
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
        "scope": "doc",
        "max_distance": None,
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
    scope: Scope,
    max_distance: Optional[int],  # noqa: UP045
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
    scope (str): Which entities may be related: "doc" any two of a Doc; "window" those that a window
        of the encoder holds both; "sentence" those of one sentence. With "sentence" each sentence is
        read by itself as if it were a Doc, and no entity crosses its borders (a shared transformer
        reads what it reads; entities and pairs are bounded all the same). Something before it has
        to set the borders: a sentencizer, senter or parser.
    max_distance (int | None): Most tokens between the entities of a pair, whatever the scope; None
        for any number.
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
        scope=scope,
        max_distance=max_distance,
        max_pairs=max_pairs,
        neg_entity_count=neg_entity_count,
        neg_relation_count=neg_relation_count,
        scorer=scorer,
    )


@dataclass(frozen=True)
class EntitySelection(Selection):
    """Entities of a batch of Docs and the pairs among them.

    left_out (int64 array, (k, 4)): Docs some pairs of which were left out, as `entity_pairs` counts
        them.
    spans_left_out (int64 array, (n_docs, 2)): Entities of each Doc that a better one overlaps, and
        that no sentence or window holds.
    windows (int64 array, (n_docs,)): From how many windows each Doc was read.
    bare_tokens (int64 array, (n_docs,)): Tokens of each Doc that the encoder does not see.
    types (int64 array, (n_spans,)): Entity types; the number of types stands for an unknown one.
    scores (float32 array, (n_spans,)): Probabilities.
    docs (int64 array, (n_spans,)): The Doc of each.
    """

    types: IntArray
    scores: FloatArray
    docs: IntArray
    left_out: IntArray
    spans_left_out: IntArray
    windows: IntArray
    bare_tokens: IntArray


@dataclass(frozen=True)
class DocPrediction:
    """What was found in one Doc.

    spans (int64 array, (n, 2)): Entities as token ranges.
    types (list[str]): Their types.
    scores (list[float]): Their probabilities.
    relations (list[tuple[int, int, str, float]]): Head and tail as indices into `spans`, label,
        probability.
    report (dict): What becomes of `doc._.spanrel_report`.
    """

    spans: IntArray
    types: list[str]
    scores: list[float]
    relations: list[tuple[int, int, str, float]]
    report: Record


@dataclass(frozen=True)
class Targets(Selection):
    """Sampled candidates of a batch with what is true of them.

    span_labels (int64 array, (n_spans,) | None): Class of each span; None where entities are given.
    pair_targets (float32 array, (n_pairs, n_relation_types)): 1 where the relation holds.
    """

    span_labels: IntArray | None
    pair_targets: FloatArray


class SpanRelation(TorchPipe):
    """Joint entity and relation extraction over spans (SpERT, Eberts and Ulges 2020).

    Arguments as in `make_span_relation`. All settings live in `cfg`, are saved with the pipeline,
    and may be changed there after training.
    """

    rules = RULES
    label_kinds: ClassVar[Mapping[str, str]] = {
        "relation": "relation_labels",
        "entity": "entity_labels",
    }

    def __init__(
        self,
        vocab: Vocab,
        model: SpERTModel,
        name: str = "span_relation",
        *,
        scorer: RelationScorer | None = None,
        **settings: Any,
    ):
        super().__init__(
            vocab,
            model,
            name,
            scorer,
            settings,
            entity_labels=[],
            relation_labels=[],
            learned_type_pairs={},
        )
        self._rng = np.random.default_rng(0)

    @staticmethod
    def register_extensions(settings: Mapping[str, Any]) -> None:
        """Register `doc._.relations` and its kin. settings (Mapping[str, Any]): Of the config."""
        register_extensions(settings["extension_prefix"], settings["relations_key"])

    def check_loaded(self) -> None:
        """Refuse settings that name relations which the component does not have."""
        check_label_settings(self.name, self.cfg, self.relation_labels)

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
        survey = Survey(self.cfg)
        for example in get_examples():
            survey.add(
                example, read_gold(example, self.cfg["spans_key"], self.cfg["relations_key"])
            )
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
        survey.warn(self.name, bool(relation_labels))
        check_label_settings(self.name, self.cfg, self.relation_labels)
        self.model.set_dim("n_entity_types", len(entity_labels), force=True)
        self.model.set_dim("n_relation_types", len(relation_labels), force=True)
        self.model.initialize()
        # spaCy seeds numpy's global generator from [training] seed.
        self._rng = np.random.default_rng(np.random.randint(2**31))
        self._warned = set()
        survey.out_of_reach.warn(self.warn_once, self.cfg)

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
        docs = self._read(docs)
        choose = self._given_entities if self._takes_entities else self._choose
        largest = 0 if self._takes_entities else self.cfg["max_span_size"]
        output = self.model.predict(SpERTInput(docs, partial(choose, docs), largest))
        chosen = output.selection
        assert isinstance(chosen, EntitySelection)
        probabilities = torch.sigmoid(output.pair_logits).float().cpu().numpy()
        pairs, labels, scores = self._decode_relations(chosen, probabilities)
        return self._split(docs, chosen, pairs, labels, scores)

    @property
    def _takes_entities(self) -> bool:
        return bool(self.cfg["entities"] == "doc")

    def _read(self, docs: list[Doc]) -> list[Doc]:
        """Return the Docs as the encoder is to read them."""
        if self.cfg["scope"] != "sentence":
            return docs
        starts = []
        for doc in docs:
            found = sentence_starts(doc)
            if found is None:
                raise ValueError(Errors.E310.format(name=self.name, text=doc.text[:80]))
            starts.append(found)
        return SplitDocs(docs, starts)

    def _pair_ends(self, docs: list[Doc], encoded: EncodedDocs | None) -> IntArray | None:
        """Where the text ends within which entities may be related, for each token; None for its
        Doc. The encoded Docs are needed where windows count."""
        if self.cfg["scope"] == "window":
            assert encoded is not None
            return window_ends(encoded.window_ranges, encoded.n_tokens)
        return text_ends(docs.offsets) if isinstance(docs, SplitDocs) else None

    def _choose(
        self, docs: list[Doc], probabilities: FloatArray, encoded: EncodedDocs
    ) -> EntitySelection:
        """Choose entities from the probabilities of all spans, and pair them."""
        pieces = encoded.token_pieces.cpu().numpy()
        spans, types, scores = likely_spans(
            probabilities,
            tokens_to_doc_end(_text_offsets(docs)),
            pieces[:, 1] > pieces[:, 0],
        )
        doc_index = np.searchsorted(encoded.token_offsets, spans[:, 0], side="right") - 1
        left_out = np.zeros(len(docs), dtype=np.int64)
        if self.cfg["overlaps"] == "best":
            keep = best_spans(spans, scores)
            left_out = np.bincount(doc_index[~keep], minlength=len(docs))
            spans, types, scores = spans[keep], types[keep], scores[keep]
            doc_index = doc_index[keep]
        return self._pair_up(docs, encoded, spans, types, scores, doc_index, left_out)

    def _given_entities(
        self, docs: list[Doc], probabilities: FloatArray, encoded: EncodedDocs
    ) -> EntitySelection:
        """Take the entities that the Docs have, and pair them."""
        index = {label: i for i, label in enumerate(self.entity_labels)}
        offsets = encoded.token_offsets.tolist()
        rows: list[tuple[int, int, int, int]] = []
        for i, doc in enumerate(docs):
            for span in self._entities_of(doc):
                kind = index.get(span.label_, len(index))
                rows.append((offsets[i] + span.start, offsets[i] + span.end, kind, i))
        table = np.asarray(rows, dtype=np.int64).reshape(-1, 4)
        scores = np.ones(len(table), dtype=np.float32)
        none = np.zeros(len(docs), dtype=np.int64)
        return self._pair_up(docs, encoded, table[:, :2], table[:, 2], scores, table[:, 3], none)

    def _pair_up(
        self,
        docs: list[Doc],
        encoded: EncodedDocs,
        spans: IntArray,
        types: IntArray,
        scores: FloatArray,
        doc_index: IntArray,
        spans_left_out: IntArray,
    ) -> EntitySelection:
        pairs, left_out = entity_pairs(
            spans,
            doc_index,
            self.cfg["max_pairs"],
            self._pair_ends(docs, encoded),
            self.cfg["max_distance"],
        )
        return EntitySelection(
            spans,
            pairs,
            types,
            scores,
            doc_index,
            left_out,
            spans_left_out,
            encoded.window_counts,
            _bare_tokens(docs, encoded),
        )

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
        chosen: EntitySelection,
        pairs: IntArray,
        labels: IntArray,
        scores: FloatArray,
    ) -> list[DocPrediction]:
        """Divide what was found in a batch among its Docs."""
        entity_labels, relation_labels = self.entity_labels, self.relation_labels
        offsets = np.cumsum([0, *map(len, docs)])
        reports = _reports(chosen, len(docs))
        borders = np.searchsorted(chosen.docs, np.arange(len(docs) + 1))
        relation_borders = np.searchsorted(
            chosen.docs[pairs[:, 0]] if len(pairs) else chosen.docs[:0], np.arange(len(docs) + 1)
        )
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
                    reports[i],
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
            set_report(doc, self.name, found.report)
            beyond = found.report["pairs_left_out"]["max_pairs"]
            if beyond:
                doc.spans[self.cfg["relations_key"]].attrs[PAIRS_LEFT_OUT_ATTR] = beyond
                logger.info(
                    "%s: %d pairs beyond max_pairs = %d were left out of a Doc of %d tokens",
                    self.name,
                    beyond,
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

    def learn(self, examples: Sequence[Example]) -> Sequence[float]:
        """Learn spans and pairs; negatives are drawn for each Doc.

        examples (Sequence[Example]): The batch.
        RETURNS (Sequence[float]): The sum of the losses, and the losses of spans (where entities are
            predicted) and pairs.
        """
        if not examples:
            return ()
        selection: Selection | Choose
        if self.cfg["scope"] == "window":
            # Which windows there are is known when the Docs are read.
            selection = partial(self._targets_in_windows, examples)
        else:
            selection = self.make_targets(examples)
        docs = self._read([example.predicted for example in examples])
        output, backprop = self.model.begin_update(
            SpERTInput(docs, selection, self.cfg["max_span_size"])
        )
        targets = output.selection
        assert isinstance(targets, Targets)
        parts, gradients = self.get_losses(targets, output)
        cast(Backprop, backprop)(gradients)
        return (sum(parts), *parts)

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
            labels = to_device(torch.from_numpy(targets.span_labels), device)
            loss, d_spans = class_loss(output.span_logits, labels)
            parts.append(loss)
        truth = to_device(torch.from_numpy(targets.pair_targets), device)
        loss, d_pairs = pair_loss(output.pair_logits, truth)
        return [*parts, loss], (d_spans, d_pairs)

    def _targets_in_windows(
        self, examples: Sequence[Example], probabilities: FloatArray, encoded: EncodedDocs
    ) -> Targets:
        return self.make_targets(examples, encoded)

    def make_targets(
        self, examples: Sequence[Example], encoded: EncodedDocs | None = None
    ) -> Targets:
        """Draw candidates of a batch and tell what is true of them.

        Spans are all gold entities and `neg_entity_count` others; pairs are all related gold
        entities and `neg_relation_count` others. Where entities are given, the pairs are made of
        those of the predicted Docs, and gold relations are looked up among them. All of them are
        such as could be predicted within `scope` and `max_distance`.

        examples (Sequence[Example]): The batch.
        encoded (EncodedDocs | None): What the encoder made of its predicted Docs; needed with
            scope = "window" only.
        RETURNS (Targets): The candidates.
        RAISES (ValueError): If the gold data has labels that the component does not know.
        """
        entity_index = {label: i + 1 for i, label in enumerate(self.entity_labels)}
        relation_index = {label: i for i, label in enumerate(self.relation_labels)}
        spans: list[IntArray] = []
        span_labels: list[IntArray] = []
        pairs: list[IntArray] = []
        truth: list[FloatArray] = []
        docs = self._read([example.predicted for example in examples])
        texts = _text_offsets(docs)
        span_ends, bounds = text_ends(texts), self._pair_ends(docs, encoded)
        n_tokens, n_spans, lost, unreachable = 0, 0, [], OutOfReach()
        for doc, example in zip(docs, examples, strict=True):
            gold = read_gold(example, self.cfg["spans_key"], self.cfg["relations_key"])
            own_tokens = slice(n_tokens, n_tokens + len(doc))
            reach = Reach(
                span_ends[own_tokens] - n_tokens,
                None if bounds is None else bounds[own_tokens] - n_tokens,
                self.cfg["max_distance"],
            )
            self.skipped.update({"misaligned_spans": len(gold.misaligned)})
            if self._takes_entities:
                entities = sorted({(span.start, span.end) for span in self._entities_of(doc)})
                labels = np.zeros(len(entities), dtype=np.int64)
            else:
                rows = unreachable.without(sorted(set(gold.entities)), doc, reach)
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
                if not unreachable.allows(head, tail, label, doc, reach):
                    continue
                if head not in known or tail not in known:
                    lost.append(relation_text((head, tail, label), doc))
                    continue
                pair = (known[head], known[tail])
                row = related.setdefault(pair, np.zeros(len(relation_index), dtype=np.float32))
                row[column] = 1.0
                taken.add(pair)
                if label in self.cfg["symmetric"]:
                    taken.add(pair[::-1])
            # The same span with two types is one entity to the pair classifier.
            unique = np.asarray(sorted(known.values()), dtype=np.int64)
            own = np.asarray(entities, dtype=np.int64).reshape(-1, 2)
            negative = unique[
                sample_negative_pairs(
                    own[unique],
                    np.searchsorted(unique, np.asarray(sorted(taken), dtype=np.int64)).reshape(
                        -1, 2
                    ),
                    self.cfg["neg_relation_count"],
                    self._rng,
                    reach.pair_ends,
                    reach.max_distance,
                )
            ].reshape(-1, 2)
            positive = np.asarray(list(related), dtype=np.int64).reshape(-1, 2)
            if not self._takes_entities:
                own_texts = texts[(texts >= n_tokens) & (texts <= n_tokens + len(doc))] - n_tokens
                more = sample_negative_spans(
                    self._candidates(doc, own_texts), own, self.cfg["neg_entity_count"], self._rng
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
        self.skipped.update(
            {
                "relations_without_entities": len(lost),
                "relations_out_of_scope": unreachable.outside,
                "relations_beyond_max_distance": unreachable.far,
                "entities_across_sentences": unreachable.n_entities,
            }
        )
        self.warn_once(Warnings.W105, lost)
        unreachable.warn(self.warn_once, self.cfg)
        empty = np.zeros((0, 2), dtype=np.int64)
        return Targets(
            np.concatenate([empty, *spans]),
            np.concatenate([empty, *pairs]),
            None if self._takes_entities else np.concatenate([empty[:, 0], *span_labels]),
            np.concatenate(
                [np.zeros((0, len(relation_index)), dtype=np.float32)]
                + [np.atleast_2d(rows) for rows in truth]
            ),
        )

    def _candidates(self, doc: Doc, offsets: IntArray) -> IntArray:
        """All spans of a Doc that can be predicted (none begins or ends with white space), given the
        first token of each of its texts, and its end."""
        spans = all_spans(offsets, self.cfg["max_span_size"])
        solid = np.asarray([not token.is_space for token in doc], dtype=bool)
        return spans[solid[spans[:, 0]] & solid[spans[:, 1] - 1]] if len(spans) else spans

    def _class_of(self, index: dict[str, int], what: str, label: str, span: Span) -> int:
        check_gold_label(self.name, what, label, index, span.text)
        return index[label]


def _text_offsets(docs: list[Doc]) -> IntArray:
    """First token of each text that no entity may leave, and the end of the last one."""
    if isinstance(docs, SplitDocs):
        return docs.offsets
    return np.cumsum([0, *map(len, docs)]).astype(np.int64)


def _bare_tokens(docs: list[Doc], encoded: EncodedDocs) -> IntArray:
    """Count the tokens of each Doc, other than white space, that have no word pieces."""
    pieces = encoded.token_pieces.cpu().numpy()
    bare = np.flatnonzero(pieces[:, 0] == pieces[:, 1])
    owner = np.searchsorted(encoded.token_offsets, bare, side="right") - 1
    places = zip(owner.tolist(), (bare - encoded.token_offsets[owner]).tolist(), strict=True)
    solid = np.asarray([not docs[i][token].is_space for i, token in places], dtype=bool)
    return np.bincount(owner[solid], minlength=len(docs))


def _reports(chosen: EntitySelection, n_docs: int) -> list[Record]:
    """Make the records of the Docs of a batch."""
    spans = np.bincount(chosen.docs, minlength=n_docs).tolist()
    pairs = np.bincount(chosen.docs[chosen.pairs[:, 0]], minlength=n_docs).tolist()
    lost = {row[0]: row[1:] for row in chosen.left_out.tolist()}
    return [
        {
            "windows": windows,
            "tokens_without_pieces": bare,
            "spans": spans[i],
            "spans_left_out": {"overlaps": overlapped},
            "pairs": pairs[i],
            "pairs_left_out": dict(
                zip(("scope", "max_distance", "max_pairs"), lost.get(i, (0, 0, 0)), strict=True)
            ),
        }
        for i, (windows, bare, overlapped) in enumerate(
            zip(
                chosen.windows.tolist(),
                chosen.bare_tokens.tolist(),
                chosen.spans_left_out.tolist(),
                strict=True,
            )
        )
    ]


def _merge(known: list[str], counted: Counter[str]) -> list[str]:
    return [*known, *sorted(label for label in counted if label not in known)]
