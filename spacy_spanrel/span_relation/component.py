"""The `span_relation` component: entities and the relations between them (SpERT)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Optional, Union, cast

import numpy as np
import torch
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example
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
from ..arrays import AnyArray, FloatArray, IntArray
from ..encoding.batching import chunks_by_size
from ..encoding.encoder import HF_ENCODER, EncodedDocs, EncoderBackprop, HFEncoder, SplitDocs
from ..encoding.listening import check_training
from ..encoding.shim import get_module
from ..encoding.transfer import to_device
from ..errors import Errors, Warnings
from ..pairing import (
    THRESHOLDS,
    TYPE_CONSTRAINTS,
    allowed_mask,
    check_label_settings,
    entity_pairs,
    label_thresholds,
    merge_symmetric,
    merge_type_pairs,
    note_sentences,
    same_entities,
    sentence_starts,
    text_ends,
    type_pair_table,
    warn_of_paragraphs,
    window_ends,
)
from ..pipe import TorchPipe
from ..rules import RULE_ROWS, apply_rules, read_rules
from ..scoring.relations import RelationScorer
from ..settings import TEMPERATURE, defaults_of, number, one_of, optional, whole_number
from ..training.corpus import is_unlabelled
from ..training.losses import Taught, class_loss, further_losses, pair_loss
from ..training.teacher import TEACHER, first_teacher, teachers_of
from .decoding import Entities, best_spans, likely_relations, likely_spans
from .gold import Gold, read_gold
from .model import SpERT, SpERTModel, begin_update_heads
from .network import SpERTHeads
from .reach import Reach, solid_tokens
from .survey import Survey
from .targets import Targets, join_targets, make_targets
from .teaching import answer_requests, taught_batch, teachers_gold

logger = logging.getLogger(__name__)

Scope = Literal["doc", "sentence", "window"]

RULES = {
    "set_ents": one_of("keep", "replace", "off"),
    "entities": one_of("predict", "doc"),
    "overlaps": one_of("allow", "best"),
    "scope": one_of("doc", "sentence", "window"),
    "max_span_size": whole_number(1),
    "max_pairs": whole_number(1),
    "neg_entity_count": whole_number(0),
    "neg_relation_count": whole_number(0),
    "hard_negatives": number(0, 1),
    "boundary_smoothing": number(0, 1),
    "context": whole_number(0),
    "max_distance": optional(whole_number(0)),
    "relation_threshold": number(0, 1),
    "r_drop": number(0),
    "teacher": TEACHER,
    "thresholds": THRESHOLDS,
    "temperature": TEMPERATURE,
    "rules": RULE_ROWS,
    "type_constraints": TYPE_CONSTRAINTS,
}

# Number of tokens that are encoded and decoded together in prediction: enough for many batches of
# similar length, and few enough to bound memory, however many Docs arrive at once.
_CHUNK_TOKENS = 8192


def make_span_relation(
    nlp: Language,
    name: str,
    model: SpERTModel,
    *,
    spans_key: str = ENTITIES_KEY,
    relations_key: str = RELATIONS_KEY,
    extension_prefix: str = "",
    set_ents: Literal["keep", "replace", "off"] = "keep",
    entities: Literal["predict", "doc"] = "predict",
    entities_key: Optional[str] = None,  # noqa: UP045 (spaCy resolves these annotations at run time)
    relation_threshold: float = 0.4,
    thresholds: Union[list[list[Any]], dict[str, float]] = [],  # noqa: B006, UP007
    temperature: float = 1.0,
    rules: list[list[Any]] = [],  # noqa: B006
    overlaps: Literal["allow", "best"] = "best",
    type_constraints: Union[  # noqa: UP007
        Literal["off", "learned"], dict[str, list[list[str]]], list[list[str]]
    ] = "learned",
    symmetric: list[str] = [],  # noqa: B006 (never changed)
    negative_label: Optional[str] = "no_relation",  # noqa: UP045
    max_span_size: int = 10,
    scope: Scope = "doc",
    context: int = 0,
    max_distance: Optional[int] = None,  # noqa: UP045
    max_pairs: int = 1000,
    neg_entity_count: int = 100,
    neg_relation_count: int = 100,
    hard_negatives: float = 0.0,
    boundary_smoothing: float = 0.0,
    r_drop: float = 0.0,
    teacher: Optional[dict[str, Any]] = None,  # noqa: UP045
    scorer: Optional[RelationScorer],  # noqa: UP045
) -> SpanRelation:
    """Make a `span_relation` component.

    spans_key (str): Span group for the entities.
    relations_key (str): Span group that holds the relations; `doc._.relations` reads it.
    extension_prefix (str): Prefix of the names of the extensions, for pipelines in which another
        package owns `doc._.relations`.
    set_ents (str): Whether to write `doc.ents`: "keep" adds the predicted entities, best score
        first, where there is no entity yet; "replace" removes the present ones first; "off" leaves
        `doc.ents` alone.
    entities (str): "predict" finds entities; "doc" takes those that the Doc has (from an NER, an
        entity ruler, a span group) and finds relations only.
    entities_key (str | None): With entities = "doc": the span group to take them from; None for
        `doc.ents`.
    relation_threshold (float): Smallest probability of a relation.
    thresholds (list | dict): Labels that have a threshold of their own in place of
        `relation_threshold`: a table {label: threshold} or, where a label has ":" or "=", rows
        [[label, threshold], ...].
    temperature (float): Number by which the logits of relations are divided before they become
        probabilities (Guo et al. 2017). `calibrate` finds the one with which scores tell how many
        relations are right.
    rules (list[list]): Rules that predicted relations obey, by best score: ["inverse", label, other],
        one implies the other in the opposite direction; ["max_tails", label, n], at most n tails per
        head; ["max_heads", label, n], at most n heads per tail; ["no_self", label], or ["no_self"] for
        all labels, not between two mentions of one entity (the same text or the same cluster).
    overlaps (str): "best" keeps the best-scored of overlapping entities; "allow" keeps all, as the
        original SpERT program does.
    type_constraints (str | dict | list): Types of head and tail that a relation may have: "off" for
        any, "learned" for those in the training data, or a table {label: [[head, tail], ...]} or,
        where a label has ":" or "=", rows [[label, head, tail], ...].
    symmetric (list[str]): Relations without a direction.
    negative_label (str | None): Label of annotated pairs that are not related. It is neither learned
        nor predicted, and does not count in scores. None: every label is a relation.
    max_span_size (int): Largest number of tokens in an entity.
    scope (str): Entities that may be related: "doc", any two of a Doc; "window", those that lie in
        one window of the encoder; "sentence", those of one sentence. With "sentence" each sentence
        is read by itself as if it were a Doc, and no entity crosses its borders (a shared
        transformer reads longer texts; the limits on entities and pairs are the same). An earlier
        component must set the borders: a sentencizer, senter or parser.
    context (int): With scope = "sentence": the encoder reads up to this many tokens before and after
        each sentence, from its neighbours in the Doc (Zhong and Chen 2021); entities and relations
        stay within the sentence. Where the encoder has no room for so many, it reads fewer.
    max_distance (int | None): Largest number of tokens between the entities of a pair; None for any.
    max_pairs (int): Largest number of pairs to classify in a Doc; the nearest are taken.
    neg_entity_count (int): Number of negative spans to draw from each Doc in a training step; with
        scope = "sentence", from a Doc of n sentences n times as many.
    neg_relation_count (int): Number of negative pairs of entities to draw likewise.
    hard_negatives (float): Share of the negative spans that are drawn from those that overlap or touch
        an entity, and of the negative pairs that are drawn from those that look like related ones (the
        same entities in the other direction, or entities of the same types). Negative pairs of an
        entity and a wrong span, which overlaps an entity, are added, this share of the number of pairs.
    boundary_smoothing (float): Share of an entity's probability that the spans with one border one
        token away get in training, a quarter each (Zhu and Li 2022).
    r_drop (float): Weight of the disagreement between two passes over each batch, with different
        dropout (R-Drop, Liang et al. 2021), usually 0.5 to 5; a step takes twice as long. 0: one pass.
    teacher (dict | None): A trained pipeline with a component of this kind, whose logits are learned
        beside the gold labels (Hinton et al. 2015): a table with `path`, and as one likes `weight`, its
        share of the loss (0.5), `temperature` (2.0) and `cache`, a file that keeps the logits for further
        trainings. With a list of paths the mean of their logits is learned. Teachers are needed in
        training only. null, or a path that is null: no teacher.
    scorer (Callable | None): The scoring method.
    RETURNS (SpanRelation): The component.
    """
    settings = dict(locals())
    return SpanRelation(settings.pop("nlp").vocab, **settings)


Language.factory(
    "span_relation",
    func=make_span_relation,
    assigns=["doc.ents", "doc.spans", "doc._.relations", "doc._.spanrel_report"],
    default_config=defaults_of(
        make_span_relation,
        model={
            "@architectures": "spacy-spanrel.SpERT.v1",
            **defaults_of(
                SpERT,
                encoder={
                    "@architectures": "spacy-spanrel.HFEncoder.v1",
                    **defaults_of(HFEncoder, name="bert-base-cased"),
                },
            ),
        },
        scorer={"@scorers": "spacy-spanrel.relation_scorer.v1"},
    ),
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


@dataclass(frozen=True)
class DocPrediction:
    """The prediction for one Doc.

    spans (int64 array, (n, 2)): Token ranges of the entities.
    types (list[str]): Their types.
    scores (list[float]): Their probabilities.
    relations (list[tuple[int, int, str, float]]): Head and tail as rows of `spans`, label,
        probability.
    report (dict): The component's record in `doc._.spanrel_report`.
    """

    spans: IntArray
    types: list[str]
    scores: list[float]
    relations: list[tuple[int, int, str, float]]
    report: Record


class SpanRelation(TorchPipe):
    """Joint entity and relation extraction over spans (SpERT, Eberts and Ulges 2020).

    Arguments as in `make_span_relation`.
    """

    rules = RULES
    learned: ClassVar[Mapping[str, Any]] = {
        "entity_labels": [],
        "relation_labels": [],
        "learned_type_pairs": {},
        "sentences_seen": [0, 0],
    }
    label_kinds: ClassVar[Mapping[str, str]] = {
        "relation": "relation_labels",
        "entity": "entity_labels",
    }
    extensions = (register_extensions, "relations_key")
    same_as_teacher = ("scope", "entities")

    def __init__(self, *arguments: Any, **settings: Any):
        super().__init__(*arguments, **settings)
        self._rng = np.random.default_rng(0)
        self._check_context()

    def _check_context(self) -> None:
        """Refuse a `context` that would have no effect."""
        if not self.cfg["context"]:
            return
        if self.cfg["scope"] != "sentence":
            raise ValueError(Errors.E311.format(name=self.name, **self.cfg))
        encoder = self.model.get_ref("encoder").name
        if encoder != HF_ENCODER:
            raise ValueError(Errors.E312.format(name=self.name, encoder=encoder, **self.cfg))

    def check_loaded(self) -> None:
        """Refuse settings that name relations which the component does not have, or that contradict
        each other.

        RAISES (ValueError): If there are such settings.
        """
        self._check_context()
        check_label_settings(self.name, self.cfg, self.relation_labels)

    # Labels

    @property
    def entity_labels(self) -> tuple[str, ...]:
        """Entity types in the order of the network's classes, without class 0, "no entity"."""
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
        """The labels as `spacy init labels` saves them and `initialize` takes them."""
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
        """Take the labels from the data (all of it) or as given, and make the network.

        get_examples (Callable): Returns the training examples.
        nlp (Language | None): The pipeline.
        labels (dict | None): {"entities": [...], "relations": [...]}, in the order of the classes,
            and optionally "type_pairs", {relation: [[head type, tail type], ...]}. The negative
            label is left out.
        RAISES (ValueError): If there are no labels, or the data has others than those given.
        RAISES (TypeError): If `get_examples` does not return Examples.
        """
        if nlp is not None:
            check_training(nlp, self.name, self.model)
        survey = Survey(self.cfg)
        for example in self.read_examples(get_examples):
            if not is_unlabelled(example):
                survey.add(example, read_gold(example, self.cfg))
        if labels is None:
            labels = {
                "entities": _merge(self.cfg["entity_labels"], survey.entity_types),
                "relations": _merge(self.cfg["relation_labels"], survey.relation_types),
            }
        elif not isinstance(labels, dict) or not {"entities", "relations"} <= set(labels):
            raise ValueError(Errors.E305.format(name=self.name, found=labels))
        negative = self.cfg["negative_label"]
        entity_labels = list(labels["entities"])
        relation_labels = [label for label in labels["relations"] if label != negative]
        if not entity_labels and not relation_labels:
            raise ValueError(Errors.E301.format(name=self.name, **self.cfg))
        survey.check_labels(self.name, entity_labels, relation_labels)
        for label in [*entity_labels, *relation_labels]:
            self.vocab.strings.add(label)
        self.cfg["entity_labels"] = entity_labels
        self.cfg["relation_labels"] = relation_labels
        self.cfg["learned_type_pairs"] = merge_type_pairs(
            labels.get("type_pairs", {}), survey.type_pairs
        )
        self.check_loaded()
        self.model.set_dim("n_entity_types", len(entity_labels), force=True)
        self.model.set_dim("n_relation_types", len(relation_labels), force=True)
        self.model.initialize()
        self.cfg["sentences_seen"] = [0, 0]  # by the new network
        # spaCy seeds numpy's global generator from [training] seed.
        self._rng = np.random.default_rng(np.random.randint(2**31))
        survey.warn(self.name, bool(relation_labels), self.warn_once)

    # Prediction

    def predict(self, docs: Iterable[Doc]) -> list[DocPrediction]:
        """Find entities and relations without changing the Docs.

        docs (Iterable[Doc]): The Docs.
        RETURNS (list[DocPrediction]): One prediction for each Doc.
        """
        docs = list(docs)
        if self.cfg["scope"] != "sentence" and self.cfg["max_distance"] is None:
            warn_of_paragraphs(self.cfg, docs, self.warn_once)
        predictions: list[DocPrediction] = []
        for chunk in chunks_by_size([len(doc) for doc in docs], _CHUNK_TOKENS):
            predictions.extend(self._predict_chunk(self._split_into_texts(docs[chunk])))
        return predictions

    def _predict_chunk(self, docs: list[Doc]) -> Iterator[DocPrediction]:
        encoded = self.model.predict(docs)
        heads = get_module(self.model, SpERTHeads)
        reach = self._reach(docs, encoded)
        if self._takes_entities:
            entities = self._entities_of_docs(docs, encoded)
        else:
            logits = heads.predict_spans(encoded, self.cfg["max_span_size"])
            entities = self._choose_entities(docs, logits, encoded, reach)
        pairs, left_out = entity_pairs(
            entities.spans,
            entities.docs,
            self.cfg["max_pairs"],
            reach.pair_ends,
            reach.max_distance,
        )
        logits = heads.predict_pairs(
            encoded,
            torch.from_numpy(entities.spans),
            torch.from_numpy(pairs),
            torch.from_numpy(entities.types),
        )
        probabilities = torch.sigmoid(logits / self.cfg["temperature"]).float().cpu().numpy()
        relations = self._choose_relations(entities, pairs, probabilities)
        relations = self._obey_rules(docs, encoded.token_offsets, entities, *relations)
        reports = _reports(docs, encoded, entities, pairs, left_out)
        return self._by_doc(encoded.token_offsets, entities, *relations, reports)

    @property
    def _takes_entities(self) -> bool:
        return bool(self.cfg["entities"] == "doc")

    def _split_into_texts(self, docs: list[Doc]) -> list[Doc]:
        """Tell the encoder to read each sentence by itself, if that is the scope."""
        self._check_context()
        if self.cfg["scope"] != "sentence":
            return docs
        starts_of_docs = []
        for doc in docs:
            starts = sentence_starts(doc)
            if starts is None:
                raise ValueError(Errors.E310.format(name=self.name, text=doc.text[:80]))
            starts_of_docs.append(starts)
        return SplitDocs(docs, starts_of_docs, self.cfg["context"])

    def _reach(self, docs: list[Doc], encoded: EncodedDocs) -> Reach:
        """Find out which entities and relations of a batch can be predicted."""
        pair_ends = None
        if isinstance(docs, SplitDocs):
            span_ends = pair_ends = text_ends(docs.offsets)
        else:
            span_ends = text_ends(encoded.token_offsets)
            if self.cfg["scope"] == "window":
                pair_ends = window_ends(encoded.window_ranges, encoded.n_tokens)
        return Reach(span_ends, pair_ends, self.cfg["max_distance"])

    def _choose_entities(
        self, docs: list[Doc], logits: Tensor, encoded: EncodedDocs, reach: Reach
    ) -> Entities:
        """Choose entities by the logits of all spans, (n_tokens, max_size, 1 + n_types)."""
        probabilities = torch.softmax(logits, dim=-1).cpu().numpy()
        pieces = encoded.token_pieces.cpu().numpy()
        # Some tokenizers have pieces for white space.
        usable = (pieces[:, 1] > pieces[:, 0]) & solid_tokens(docs)
        spans, types, scores = likely_spans(probabilities, reach.span_ends, usable)
        owner = np.searchsorted(encoded.token_offsets, spans[:, 0], side="right") - 1
        keep = np.ones(len(spans), dtype=bool)
        if self.cfg["overlaps"] == "best":
            keep = best_spans(spans, scores)
        overlapped = np.bincount(owner[~keep], minlength=len(docs))
        return Entities(spans[keep], types[keep], scores[keep], owner[keep], overlapped)

    def _entities_of_docs(self, docs: list[Doc], encoded: EncodedDocs) -> Entities:
        """Take the entities that the Docs have."""
        index = {label: i for i, label in enumerate(self.entity_labels)}
        offsets = encoded.token_offsets.tolist()
        rows: list[tuple[int, int, int, int]] = []
        for i, doc in enumerate(docs):
            for span in self._entities_of(doc):
                kind = index.get(span.label_, len(index))
                rows.append((offsets[i] + span.start, offsets[i] + span.end, kind, i))
        table = np.asarray(rows, dtype=np.int64).reshape(-1, 4)
        scores = np.ones(len(table), dtype=np.float32)
        overlapped = np.zeros(len(docs), dtype=np.int64)
        return Entities(table[:, :2], table[:, 2], scores, table[:, 3], overlapped)

    def _entities_of(self, doc: Doc) -> list[Span]:
        key = self.cfg["entities_key"]
        spans = list(doc.ents) if key is None else list(doc.spans.get(key, []))
        return [span for span in spans if len(span)]

    def _choose_relations(
        self, entities: Entities, pairs: IntArray, probabilities: FloatArray
    ) -> tuple[IntArray, IntArray, FloatArray]:
        """Choose relations by the probabilities of pairs, (n_pairs, n_relation_types).

        RETURNS (tuple): Heads and tails as rows of the entities, int64 (n, 2); relation types, int64
            (n,); and probabilities, float32 (n,); in the order of the Docs.
        """
        allowed = None
        type_pairs = self.cfg["type_constraints"]
        if type_pairs == "learned":
            type_pairs = self.cfg["learned_type_pairs"]
        if type_pairs != "off":
            # The class after the last one stands for types that the training data did not have.
            mask = allowed_mask(
                type_pair_table(type_pairs), [*self.entity_labels, ""], self.relation_labels
            )
            allowed = mask[entities.types[pairs[:, 0]], entities.types[pairs[:, 1]]]
        if self.cfg["negative_label"] in self.relation_labels:
            # Learned by a version without this setting.
            column = self.relation_labels.index(self.cfg["negative_label"])
            probabilities[:, column] = -1.0
        thresholds = label_thresholds(
            self.relation_labels, self.cfg["relation_threshold"], self.cfg["thresholds"]
        )
        rows, labels, scores = likely_relations(probabilities, thresholds, allowed)
        pairs = pairs[rows]
        symmetric = {
            i for i, label in enumerate(self.relation_labels) if label in self.cfg["symmetric"]
        }
        if symmetric and len(pairs):
            pairs, keep = merge_symmetric(pairs, labels, scores, entities.spans, symmetric)
            pairs, labels, scores = pairs[keep], labels[keep], scores[keep]
        return pairs, labels, scores

    def _obey_rules(
        self,
        docs: list[Doc],
        offsets: IntArray,
        entities: Entities,
        pairs: IntArray,
        labels: IntArray,
        scores: FloatArray,
    ) -> tuple[IntArray, IntArray, FloatArray]:
        """Keep the relations that obey the declared rules; results as in `_choose_relations`."""
        rules = read_rules(self.cfg["rules"], self.relation_labels, self.cfg["symmetric"])
        if rules is None:
            return pairs, labels, scores
        is_self = None
        if rules.no_self:
            in_docs = (entities.spans - offsets[entities.docs][:, None]).tolist()
            owners = entities.docs.tolist()
            heads, tails = (
                [docs[owners[i]][slice(*in_docs[i])] for i in column] for column in pairs.T.tolist()
            )
            is_self = same_entities(heads, tails)
        return apply_rules(rules, pairs, labels, scores, is_self)

    def _by_doc(
        self,
        offsets: IntArray,
        entities: Entities,
        pairs: IntArray,
        labels: IntArray,
        scores: FloatArray,
        reports: Sequence[Record],
    ) -> Iterator[DocPrediction]:
        """Divide the predictions for a batch among its Docs."""
        entity_labels, relation_labels = (*self.entity_labels, ""), self.relation_labels
        numbers = np.arange(len(reports) + 1)
        of_docs = np.searchsorted(entities.docs, numbers).tolist()
        relations_of_docs = np.searchsorted(entities.docs[pairs[:, 0]], numbers).tolist()
        for i, report in enumerate(reports):
            first, last = of_docs[i : i + 2]
            rows = slice(*relations_of_docs[i : i + 2])
            relations = zip(
                (pairs[rows] - first).tolist(),
                labels[rows].tolist(),
                scores[rows].tolist(),
                strict=True,
            )
            yield DocPrediction(
                entities.spans[first:last] - offsets[i],
                [entity_labels[kind] for kind in entities.types[first:last].tolist()],
                entities.scores[first:last].tolist(),
                [(*pair, relation_labels[label], score) for pair, label, score in relations],
                report,
            )

    def set_annotations(self, docs: Iterable[Doc], predictions: Sequence[DocPrediction]) -> None:
        """Write entities and relations to Docs.

        docs (Iterable[Doc]): The Docs that were given to `predict`.
        predictions (Sequence[DocPrediction]): Its result.
        """
        for doc, prediction in zip(docs, predictions, strict=True):
            if self._takes_entities:
                spans = self._entities_of(doc)
            else:
                spans = [
                    Span(doc, start, end, label=label)
                    for (start, end), label in zip(
                        prediction.spans.tolist(), prediction.types, strict=True
                    )
                ]
                set_entities(doc, spans, prediction.scores, self.cfg["spans_key"])
                self._set_ents(doc, spans, prediction)
            relations = [
                Relation(spans[head], spans[tail], label, score)
                for head, tail, label, score in prediction.relations
            ]
            set_relations(doc, relations, self.cfg["relations_key"])
            set_report(doc, self.name, prediction.report)
            beyond = prediction.report["pairs_left_out"]["max_pairs"]
            if beyond:
                doc.spans[self.cfg["relations_key"]].attrs[PAIRS_LEFT_OUT_ATTR] = beyond
                logger.info("%s: %d pairs of a Doc were left out", self.name, beyond)

    def _set_ents(self, doc: Doc, spans: list[Span], prediction: DocPrediction) -> None:
        if self.cfg["set_ents"] == "off":
            return
        old = list(doc.ents) if self.cfg["set_ents"] == "keep" else []
        free = np.ones(len(doc), dtype=bool)
        for span in old:
            free[span.start : span.end] = False
        rows = [i for i, span in enumerate(spans) if free[span.start : span.end].all()]
        if self.cfg["overlaps"] != "best":
            scores = np.asarray(prediction.scores, dtype=np.float32)[rows]
            rows = [rows[i] for i in np.flatnonzero(best_spans(prediction.spans[rows], scores))]
        doc.set_ents(old + [spans[i] for i in rows])

    # Training

    @property
    def loss_names(self) -> tuple[str, ...]:
        """The component's name, `{name}_entities` (where entities are predicted) and
        `{name}_relations`."""
        parts = ["relations"] if self._takes_entities else ["entities", "relations"]
        return (self.name, *(f"{self.name}_{part}" for part in parts))

    def learn(self, examples: Sequence[Example]) -> Sequence[float]:
        """Compute the losses of a batch and backpropagate them.

        examples (Sequence[Example]): The batch.
        RETURNS (Sequence[float]): The sum of the losses, the loss of spans (where entities are
            predicted) and that of pairs.
        RAISES (ValueError): If the gold data has labels that the component does not have.
        """
        if not examples:
            return ()
        n_passes = self._n_passes()
        predicted = [example.predicted for example in examples]
        docs = self._split_into_texts(predicted * n_passes)
        note_sentences(self.cfg, predicted)
        encoded, backprop = self.model.begin_update(docs)
        targets = self.make_targets(examples, self._reach(docs, encoded))
        if n_passes > 1:
            n_tokens = encoded.n_tokens // n_passes
            targets = join_targets(
                [targets] * n_passes, [n_tokens] * n_passes, len(self.relation_labels)
            )
        logits, backprop_heads = begin_update_heads(
            self.model, encoded, targets.spans, targets.pairs, targets.types
        )
        taught: tuple[Taught | None, Taught | None] = (None, None)
        if teachers := teachers_of(self):
            device = logits[0].device
            taught = taught_batch(teachers, examples, targets, self.cfg, n_passes, device)
        losses, gradients = self.get_losses(targets, *logits, taught)
        cast(EncoderBackprop, backprop)(*backprop_heads(gradients))
        return (sum(losses), *losses)

    def _n_passes(self) -> int:
        if not self.cfg["r_drop"]:
            return 1
        encoder = self.model.get_ref("encoder").name
        if "listener" in encoder:
            raise ValueError(Errors.E314.format(name=self.name, encoder=encoder, **self.cfg))
        return 2

    def class_logits(self, items: Sequence[tuple[Doc, Any]]) -> list[tuple[AnyArray, ...]]:
        """Compute the logits of all spans of Docs, and of all pairs of some of them.

        items (Sequence[tuple[Doc, Request]]): Docs, each with the largest number of tokens of a span, and
            the ranges that are paired, in ascending order; None for the entities that are predicted.
        RETURNS (list[tuple[FloatArray, FloatArray, IntArray]]): For each Doc the logits of its spans as
            `SpERTHeads.predict_spans` returns them, ``(n_tokens, max_size, 1 + n_entity_types)``; those
            of its pairs, ``(n_ranges, n_ranges, n_relation_types)``; and the ranges with their predicted
            types, ``(n_ranges, 3)``.
        """
        docs = self._split_into_texts([doc for doc, _ in items])
        requests = [request for _, request in items]
        encoded = self.model.predict(docs)
        heads = get_module(self.model, SpERTHeads)
        logits = heads.predict_spans(encoded, max(size for size, _ in requests)).float()
        if self._takes_entities:
            entities = self._entities_of_docs(docs, encoded)
        else:
            entities = self._choose_entities(docs, logits, encoded, self._reach(docs, encoded))
        n_labels = len(self.entity_labels), len(self.relation_labels)
        return answer_requests(heads, encoded, logits, entities, requests, *n_labels)

    def annotation_read(self, doc: Doc) -> Sequence[Any]:
        """Return the entities of a Doc, if the component takes these; arguments as in `TorchPipe`."""
        spans = self._entities_of(doc) if self._takes_entities else []
        return [(span.start, span.end, span.label_) for span in spans]

    def get_losses(
        self,
        targets: Targets,
        span_logits: Tensor,
        pair_logits: Tensor,
        taught: tuple[Taught | None, Taught | None] = (None, None),
    ) -> tuple[list[float], tuple[Tensor, Tensor]]:
        """Compute the losses, each averaged over its spans or pairs, and their gradients.

        targets (Targets): From `make_targets`.
        span_logits (Tensor): *Shape:* ``(n_spans, 1 + n_entity_types)``
        pair_logits (Tensor): *Shape:* ``(n_pairs, n_relation_types)``
        taught (tuple[Taught | None, Taught | None]): A teacher's logits of both.
        RETURNS (tuple[list[float], tuple[Tensor, Tensor]]): The loss of spans (where entities are
            predicted) and that of pairs; and the gradients of their sum with respect to span logits
            and pair logits.
        """
        losses = []
        if self._takes_entities:
            d_spans = torch.zeros_like(span_logits)
        else:
            truth = targets.span_labels if targets.span_targets is None else targets.span_targets
            labels = to_device(torch.from_numpy(truth), span_logits.device)
            weights = _to_tensor(targets.span_weights, span_logits.device)
            loss, d_spans = further_losses(
                class_loss(span_logits, labels, weights),
                span_logits,
                r_drop=self.cfg["r_drop"],
                taught=taught[0],
            )
            losses.append(loss)
        holds = to_device(torch.from_numpy(targets.pair_targets), pair_logits.device)
        weights = _to_tensor(targets.pair_weights, pair_logits.device)
        loss, d_pairs = further_losses(
            pair_loss(pair_logits, holds, weights),
            pair_logits,
            r_drop=self.cfg["r_drop"],
            taught=taught[1],
            binary=True,
        )
        return [*losses, loss], (d_spans, d_pairs)

    def make_targets(self, examples: Sequence[Example], reach: Reach) -> Targets:
        """Sample spans and pairs of a batch, and label them with the truth.

        examples (Sequence[Example]): The batch.
        reach (Reach): What can be predicted.
        RETURNS (Targets): The targets.
        RAISES (ValueError): If the gold data has labels that the component does not have.
        """

        def predicted_gold(doc: Doc, reach: Reach) -> Gold:
            return teachers_gold(first_teacher(self), doc, reach, self.cfg)

        targets, left_out = make_targets(
            self.name, self.cfg, examples, reach, self._entities_of, predicted_gold, self._rng
        )
        self.skipped.update(left_out.skipped)
        self.warn_once(Warnings.W105, left_out.without_entities)
        left_out.unreachable.warn(self.warn_once, self.cfg)
        return targets


def _to_tensor(weights: FloatArray | None, device: torch.device) -> Tensor | None:
    return None if weights is None else to_device(torch.from_numpy(weights), device)


def _reports(
    docs: list[Doc],
    encoded: EncodedDocs,
    entities: Entities,
    pairs: IntArray,
    left_out: IntArray,
) -> list[Record]:
    """Make the records of the Docs of a batch; pairs and those left out come from `entity_pairs`."""
    pieces = encoded.token_pieces.cpu().numpy()
    bare = np.flatnonzero((pieces[:, 0] == pieces[:, 1]) & solid_tokens(docs))
    doc_of_bare = np.searchsorted(encoded.token_offsets, bare, side="right") - 1
    left_out_of = {row[0]: row[1:] for row in left_out.tolist()}
    settings = ("scope", "max_distance", "max_pairs")
    counts = (
        encoded.window_counts,
        np.bincount(doc_of_bare, minlength=len(docs)),
        np.bincount(entities.docs, minlength=len(docs)),
        entities.overlapped,
        np.bincount(entities.docs[pairs[:, 0]], minlength=len(docs)),
    )
    rows = zip(*(of_docs.tolist() for of_docs in counts), strict=True)
    return [
        {
            "windows": n_windows,
            "tokens_without_pieces": n_bare,
            "spans": n_spans,
            "spans_left_out": {"overlaps": n_overlapped},
            "pairs": n_pairs,
            "pairs_left_out": dict(zip(settings, left_out_of.get(i, (0, 0, 0)), strict=True)),
        }
        for i, (n_windows, n_bare, n_spans, n_overlapped, n_pairs) in enumerate(rows)
    ]


def _merge(labels: list[str], others: Collection[str]) -> list[str]:
    return labels + sorted(set(others).difference(labels))
