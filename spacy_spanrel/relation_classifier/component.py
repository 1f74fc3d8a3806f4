"""The `relation_classifier` component: the relation between two given entities."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Optional, Union, cast

import numpy as np
import torch
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import Config

from ..annotations import (
    PAIRS_LEFT_OUT_ATTR,
    RELATIONS_KEY,
    SKIPPED_TYPES_ATTR,
    Record,
    Relation,
    get_relations,
    register_extensions,
    set_pair_scores,
    set_relations,
    set_report,
)
from ..arrays import FloatArray, IntArray
from ..encoding.batching import chunks_by_size
from ..encoding.checkpoint import read_config
from ..encoding.shim import get_module, get_shim
from ..encoding.transfer import to_device
from ..errors import Errors, Warnings, warn
from ..pairing import (
    TYPE_CONSTRAINTS,
    check_gold_label,
    check_label_settings,
    merge_symmetric,
    type_pair_table,
)
from ..pipe import TorchPipe
from ..scoring.relations import RelationScorer
from ..settings import number, one_of, whole_number
from ..training.losses import class_loss
from .decoding import NO_RELATION, best_labels, best_variants
from .entity_types import (
    TYPE_MAP,
    Constraint,
    TypeMap,
    TypeRules,
    make_constraint,
    make_type_rules,
    read_type_map,
)
from .gold import Survey, read_gold
from .markers import HEAD, MARKER_TABLE, MODES, TAIL, Mode, marker_names, uses_types
from .model import Backprop, PairInput, PairModel, Scheme, initialize, make_marker
from .network import PairNetwork
from .pairs import (
    DocPairs,
    ListedPairs,
    PairGenerator,
    SpanPair,
    TypedPair,
    find_pairs,
    pair_key,
)
from .presets import PRESETS, Preset

logger = logging.getLogger(__name__)

PairSource = Literal["gold", "predicted"]

DEFAULT_CONFIG = """
[model]
@architectures = "spacy-spanrel.PairClassifier.v1"
name = "bert-base-cased"
tokenizer = null
max_length = 128
batch_pieces = "auto"
dropout = null
attention_dropout = null
head_dropout = 0.1
casing = false
precision = "auto"
device = "auto"

[pairs]
@misc = "spacy-spanrel.EntityPairs.v1"
entities_key = null
scope = "sentence"
max_distance = null
given = true
"""

RULES = {
    "preset": one_of(None, *PRESETS),
    "mode": one_of(None, *MODES),
    "context": one_of("sentence", "doc"),
    "existing": one_of("replace", "extend"),
    "type_map": TYPE_MAP,
    "type_constraints": TYPE_CONSTRAINTS,
    "markers": MARKER_TABLE,
    "threshold": number(0, 1),
    "max_pairs": whole_number(1),
    "train_pairs": one_of("gold", "predicted"),
    "score_pairs": one_of("gold", "predicted"),
}

# Rows that are classified together in prediction: enough for many batches of similar length, and few
# enough to bound the memory.
_CHUNK_ROWS = 2048


@Language.factory(
    "relation_classifier",
    assigns=["doc.spans", "doc._.relations", "doc._.spanrel_report"],
    requires=["doc.ents"],
    default_config={
        "model": Config().from_str(DEFAULT_CONFIG)["model"],
        "pairs": Config().from_str(DEFAULT_CONFIG)["pairs"],
        "relations_key": RELATIONS_KEY,
        "extension_prefix": "",
        "preset": None,
        "pretrained": None,
        "mode": None,
        "markers": [],
        "negative_label": "no_relation",
        "context": "sentence",
        "type_map": None,
        "backoff_type": None,
        "type_constraints": "learned",
        "symmetric": [],
        "threshold": 0.0,
        "max_pairs": 1000,
        "all_scores": False,
        "existing": "replace",
        "train_pairs": "gold",
        "score_pairs": "predicted",
        "scorer": {"@scorers": "spacy-spanrel.pair_scorer.v1"},
    },
    default_score_weights={
        "rel_f": 1.0,
        "rel_p": 0.0,
        "rel_r": 0.0,
        "rel_macro_f": 0.0,
        "rel_per_type": None,
        "rel_confusions": None,
    },
)
def make_relation_classifier(
    nlp: Language,
    name: str,
    model: PairModel,
    pairs: PairGenerator,
    relations_key: str,
    extension_prefix: str,
    preset: Optional[str],  # noqa: UP045 (spaCy resolves these annotations at run time)
    pretrained: Optional[bool],  # noqa: UP045
    mode: Optional[Mode],  # noqa: UP045
    markers: list[list[str]],
    negative_label: Optional[str],  # noqa: UP045
    context: Literal["sentence", "doc"],
    type_map: Optional[Union[str, dict[str, list[str]], list[list[str]]]],  # noqa: UP007, UP045
    backoff_type: Optional[str],  # noqa: UP045
    type_constraints: Union[  # noqa: UP007
        Literal["off", "learned"], dict[str, list[list[str]]], list[list[str]]
    ],
    symmetric: list[str],
    threshold: float,
    max_pairs: int,
    all_scores: bool,
    existing: Literal["replace", "extend"],
    train_pairs: PairSource,
    score_pairs: PairSource,
    scorer: Optional[RelationScorer],  # noqa: UP045
) -> RelationClassifier:
    """Make a `relation_classifier` component.

    pairs (Callable[[Doc, str], list[tuple[Span, Span]]]): Says which pairs of a Doc are classified;
        it is also given `relations_key`.
    relations_key (str): Span group behind `doc._.relations`.
    extension_prefix (str): Put before the names of the extensions, where another package owns
        `doc._.relations`.
    preset (str | None): Mode, markers, labels and type map of published checkpoints:
        "spanbert-tacred". Whatever is also set here by itself wins.
    pretrained (bool | None): Take over the checkpoint's own classifier, ready to predict; false
        draws a new one to be trained; None is true with a preset.
    mode (str | None): How a pair is shown to the network: "ner", "text", "text_ner", "ner_text"
        (as in SpanBERT's run_tacred) or "typed_markers"; None is the preset's, else
        "typed_markers".
    markers (list[list[str]]): Vocabulary entries of markers, such as
        [["SUBJ=PERSON", "[unused5]"]]; the others are chosen and stored at initialization.
    negative_label (str | None): The label that says "no relation".
    context (str): What is read for a pair: "sentence" (the whole Doc, where nothing has set
        sentence boundaries) or "doc". What is longer than a row is cut around the arguments.
    type_map (str | dict | None): What the network calls the types of entities: "ontonotes-tacred",
        "off", {type: [names]}, or rows [[type, name], ...]; several names are tried, and the best
        result counts. None is the preset's, else "off".
    backoff_type (str | None): Stands for types that the network does not know; None skips their
        pairs, and counts them in `doc.spans[relations_key].attrs["skipped_types"]`.
    type_constraints (str | dict): Which types of head and tail a relation may have: "off" for any,
        "learned" for those in the training data (types that never occurred there are free), or
        given as {label: [[head, tail], ...]} or, where a label has ":" or "=", as rows
        [[label, head, tail], ...].
    symmetric (list[str]): Relations whose direction means nothing: of both directions of a pair
        one is kept.
    threshold (float): Smallest probability of a relation.
    max_pairs (int): Most pairs that are classified in a Doc, the nearest first.
    all_scores (bool): Keep the probabilities of all labels in `doc._.relation_scores`.
    existing (str): What becomes of relations that the Doc has: "replace" or "extend".
    train_pairs (str): "gold" trains on the pairs of the gold relations, negative ones included;
        "predicted" on those that `pairs` finds in the predicted Doc, where a pair without a gold
        relation is negative.
    score_pairs (str): "gold" scores the labels of the gold pairs, as TACRED is scored; "predicted"
        the relations that the pipeline found.
    scorer (Callable | None): The scoring method.
    """
    return RelationClassifier(
        nlp.vocab,
        model,
        name,
        pairs=pairs,
        scorer=scorer,
        relations_key=relations_key,
        extension_prefix=extension_prefix,
        preset=preset,
        pretrained=pretrained,
        mode=mode,
        markers=markers,
        negative_label=negative_label,
        context=context,
        type_map=type_map,
        backoff_type=backoff_type,
        type_constraints=type_constraints,
        symmetric=symmetric,
        threshold=threshold,
        max_pairs=max_pairs,
        all_scores=all_scores,
        existing=existing,
        train_pairs=train_pairs,
        score_pairs=score_pairs,
    )


@dataclass(frozen=True)
class DocPrediction:
    """The predictions for one Doc.

    relations (list[tuple[SpanPair, str, float]]): Head and tail, label, probability.
    pairs (list[SpanPair]): All pairs that were classified.
    scores (float32 array, (n_pairs, n_labels)): Probability of each label for each of these pairs.
    left_out (int): Number of pairs that were not classified because they are beyond `max_pairs` or
        too long for a row.
    skipped (Counter[str]): Number of pairs skipped for each unknown entity type.
    report (dict): The component's entry in `doc._.spanrel_report`.
    """

    relations: list[tuple[SpanPair, str, float]]
    pairs: list[SpanPair]
    scores: FloatArray
    left_out: int
    skipped: Counter[str]
    report: Record


@dataclass
class DocRows:
    """The pairs of one Doc, and the rows that show them to the network.

    pairs (list[SpanPair]): The pairs that are classified.
    rows (list[TypedPair]): Each pair once or, if its types have alternative names, several times.
    pair_of_row (list[int]): The pair of each row.
    n_beyond (int): Number of pairs beyond `max_pairs`.
    n_impossible (int): Number of pairs whose types allow no relation.
    skipped (Counter[str]): Number of pairs skipped for each unknown entity type.
    """

    pairs: list[SpanPair] = field(default_factory=list)
    rows: list[TypedPair] = field(default_factory=list)
    pair_of_row: list[int] = field(default_factory=list)
    n_beyond: int = 0
    n_impossible: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


class RelationClassifier(TorchPipe):
    """Classification of the relation between given entities (TACRED style).

    Arguments as in `make_relation_classifier`. All settings live in `cfg`, are saved with the
    pipeline, and may be changed there after training (but for those that made the network: mode
    and markers).
    """

    rules = RULES
    label_kinds: ClassVar[Mapping[str, str]] = {"relation": "labels"}

    def __init__(
        self,
        vocab: Vocab,
        model: PairModel,
        name: str = "relation_classifier",
        *,
        pairs: PairGenerator,
        scorer: RelationScorer | None = None,
        **settings: Any,
    ):
        super().__init__(
            vocab,
            model,
            name,
            scorer,
            settings,
            labels=[],
            head_types=[],
            tail_types=[],
            learned_type_pairs=None,
        )
        self.pairs = pairs

    @staticmethod
    def register_extensions(settings: Mapping[str, Any]) -> None:
        """Register `doc._.relations` and its kin. settings (Mapping[str, Any]): Of the config."""
        register_extensions(settings["extension_prefix"], settings["relations_key"])

    # What was learned or stated

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels in the order of the network's classes, the negative one included."""
        return tuple(self.cfg["labels"])

    @property
    def label_data(self) -> dict[str, Any]:
        """What `spacy init labels` saves, and `initialize` takes as `labels`."""
        return {
            "labels": list(self.labels),
            "head_types": self.cfg["head_types"],
            "tail_types": self.cfg["tail_types"],
            "type_pairs": self.cfg["learned_type_pairs"] or {},
        }

    @property
    def mode(self) -> str:
        """The input mode of the initialized network."""
        mode: str = get_shim(self.model).cfg["mode"]
        return mode

    @property
    def markers(self) -> dict[str, int]:
        """Ids of the markers of the initialized network."""
        return dict(get_shim(self.model).cfg["markers"])

    @property
    def _negative(self) -> int | None:
        label = self.cfg["negative_label"]
        return self.labels.index(label) if label in self.labels else None

    @property
    def _preset(self) -> Preset | None:
        return PRESETS[self.cfg["preset"]] if self.cfg["preset"] is not None else None

    @property
    def _type_map(self) -> TypeMap:
        setting = self.cfg["type_map"]
        if setting is None:
            setting = self._preset.type_map if self._preset is not None else "off"
        return read_type_map(setting)

    def check_loaded(self) -> None:
        """Refuse a mode or markers that the loaded network was not made for, and settings that name
        relations which the component does not have."""
        check_label_settings(self.name, self.cfg, self.labels)
        if not self.is_initialized:
            return
        mode, table = self.cfg["mode"], self.markers
        vocabulary = get_module(self.model, PairNetwork).encoder.pieces.vocabulary
        other = [
            name
            for name, entry in self.cfg["markers"]
            if name in table and table[name] != vocabulary.get(entry)
        ]
        if (mode is not None and mode != self.mode) or other:
            raise ValueError(
                Errors.E709.format(name=self.name, mode=mode, own=self.mode, markers=other)
            )

    # Initialization

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]] | None = None,
        *,
        nlp: Language | None = None,
        labels: dict[str, Any] | None = None,
    ) -> None:
        """Take labels and types from the data (all of it) or as given, and make the network.

        A component that takes over a trained classifier needs no data: `nlp.add_pipe(...)` and then
        this, without arguments.

        get_examples (Callable | None): Returns the training examples.
        nlp (Language | None): The pipeline.
        labels (dict | None): {"labels": [...]} in the order of the classes; optionally the types of
            arguments, "head_types" and "tail_types", and "type_pairs",
            {relation: [[head type, tail type], ...]}.
        RAISES (ValueError): If there are no labels, the data has others than those given, or a
            trained classifier is to be taken over and something about its training is not known.
        """
        if labels is not None and (not isinstance(labels, dict) or not labels.get("labels")):
            raise ValueError(Errors.E705.format(name=self.name, found=labels))
        survey = Survey()
        for example in get_examples() if get_examples is not None else ():
            survey.add(*read_gold(example, self.cfg["relations_key"]))
        given = labels or {}
        preset = self._preset
        pretrained = self.cfg["pretrained"]
        if pretrained is None:
            pretrained = preset is not None
        mode = self.cfg["mode"] or (preset.mode if preset is not None else None)
        vocabulary = {**(preset.markers if preset is not None else {}), **dict(self.cfg["markers"])}
        if pretrained:
            chosen = self._labels_of_checkpoint(list(given.get("labels", [])))
            self._check_pretrained(mode, vocabulary)
        else:
            mode = mode or "typed_markers"
            chosen = list(given.get("labels", [])) or self._labels_of_data(survey)
        survey.check_labels(self.name, chosen)
        head_types = sorted({*given.get("head_types", []), *self._named(survey.head_types)})
        tail_types = sorted({*given.get("tail_types", []), *self._named(survey.tail_types)})
        self.cfg["labels"] = chosen
        self.cfg["head_types"], self.cfg["tail_types"] = head_types, tail_types
        self.cfg["learned_type_pairs"] = self._learned_type_pairs(survey, given)
        for label in chosen:
            self.vocab.strings.add(label)
        check_label_settings(self.name, self.cfg, self.labels)
        survey.warn()
        negative = self.cfg["negative_label"]
        if survey.labels and negative is not None and negative not in chosen:
            warn(Warnings.W111.format(name=self.name, negative=negative))
        initialize(
            self.model,
            Scheme(
                mode=cast(Mode, mode),
                n_labels=len(chosen),
                markers=[]
                if pretrained
                else marker_names(cast(Mode, mode), head_types, tail_types),
                vocabulary=vocabulary,
                pretrained=pretrained,
            ),
        )
        self._warned = set()

    def _labels_of_data(self, survey: Survey) -> list[str]:
        preset, negative = self._preset, self.cfg["negative_label"]
        found = list(preset.labels) if preset is not None else list(self.cfg["labels"])
        always = negative is not None and self.cfg["train_pairs"] == "predicted"
        if (always or negative in survey.labels) and negative not in found:
            found.insert(0, negative)
        found += sorted(label for label in survey.labels if label not in found)
        if not found:
            raise ValueError(self._no_labels())
        return found

    def _labels_of_checkpoint(self, given: list[str]) -> list[str]:
        """Labels of a trained classifier: as given, else by its own names, else the preset's."""
        config = read_config(self.model.attrs["name"])
        names = [config.id2label[i] for i in sorted(config.id2label)]
        preset = self._preset
        if not given and any(name != f"LABEL_{i}" for i, name in enumerate(names)):
            given = names
        if not given and preset is not None:
            given = list(preset.labels)
        given = given or list(self.cfg["labels"])
        if not given:
            raise ValueError(self._no_labels())
        return given

    def _no_labels(self) -> str:
        return Errors.E701.format(
            name=self.name,
            relations_key=self.cfg["relations_key"],
            negative=self.cfg["negative_label"],
            checkpoint=self.model.attrs["name"],
        )

    def _check_pretrained(self, mode: str | None, vocabulary: dict[str, str]) -> None:
        """Refuse to guess how the pairs of a trained classifier were marked."""
        checkpoint = self.model.attrs["name"]
        if mode == "typed_markers":
            raise ValueError(Errors.E707.format(checkpoint=checkpoint, name=self.name))
        missing = [] if mode else ["the input mode"]
        if mode:
            needed = marker_names(cast(Mode, mode), (), ())
            missing += [f"the marker {name}" for name in needed if name not in vocabulary]
            if uses_types(cast(Mode, mode)):
                for role in (HEAD, TAIL):
                    if not any(name.startswith(f"{role}=") for name in vocabulary):
                        missing.append(f"any marker {role}=<type>")
        if missing:
            raise ValueError(
                Errors.E702.format(
                    name=self.name,
                    checkpoint=checkpoint,
                    missing=", ".join(missing),
                    presets=", ".join(PRESETS),
                )
            )

    def _named(self, types: Iterable[str]) -> set[str]:
        """What the network calls some types."""
        return {self._type_map.get(label, [label])[0] for label in types}

    def _learned_type_pairs(
        self, survey: Survey, given: dict[str, Any]
    ) -> dict[str, list[list[str]]] | None:
        found = {k: {tuple(v) for v in rows} for k, rows in given.get("type_pairs", {}).items()}
        for label, head, tail in survey.type_pairs:
            names = [self._type_map.get(kind, [kind])[0] for kind in (head, tail)]
            found.setdefault(label, set()).add(tuple(names))
        if not found:
            return None
        return {label: sorted(list(row) for row in rows) for label, rows in sorted(found.items())}

    # Prediction

    def predict(self, docs: Iterable[Doc]) -> list[DocPrediction]:
        """Classify the pairs of Docs without changing the Docs.

        docs (Iterable[Doc]): The Docs.
        RETURNS (list[DocPrediction]): One for each Doc.
        """
        docs = list(docs)
        return self._classify(docs, self.make_rows(docs))

    def classify(
        self, docs: Sequence[Doc], pairs: Sequence[Sequence[SpanPair]]
    ) -> list[DocPrediction]:
        """Classify given pairs without changing the Docs.

        docs (Sequence[Doc]): The Docs.
        pairs (Sequence[Sequence[tuple[Span, Span]]]): The pairs (head, tail) of each Doc.
        RETURNS (list[DocPrediction]): One for each Doc.
        """
        return self._classify(docs, self._make_rows([ListedPairs(list(some)) for some in pairs]))

    def make_rows(self, docs: Sequence[Doc]) -> list[DocRows]:
        """Choose the pairs of Docs that are classified, and the rows that show them.

        docs (Sequence[Doc]): The Docs.
        RETURNS (list[DocRows]): One for each Doc.
        """
        return self._make_rows([self._find_pairs(doc) for doc in docs])

    def _find_pairs(self, doc: Doc) -> DocPairs:
        return find_pairs(self.pairs, doc, self.cfg["relations_key"])

    def _make_rows(self, pairs: Sequence[DocPairs]) -> list[DocRows]:
        if not any(map(len, pairs)):
            # There is nothing to classify, so no network is needed.
            return [DocRows() for _ in pairs]
        rules = self._type_rules()
        return [self._rows_of_doc(doc_pairs, rules) for doc_pairs in pairs]

    def _rows_of_doc(self, pairs: DocPairs, rules: TypeRules) -> DocRows:
        chosen = pairs.choose(lambda *types: bool(rules.possible(*types)), self.cfg["max_pairs"])
        doc_rows = DocRows(chosen.pairs, n_beyond=chosen.n_beyond)
        for types, n in chosen.refused.items():
            if rules.known(*types):
                doc_rows.n_impossible += n
            else:
                doc_rows.skipped[self._unknown_type(*types)] += n
        for i, (head, tail) in enumerate(chosen.pairs):
            for names in rules.possible(head.label_, tail.label_):
                doc_rows.pair_of_row.append(i)
                doc_rows.rows.append(_typed_pair(head, tail, names))
        return doc_rows

    def _classify(self, docs: Sequence[Doc], rows: list[DocRows]) -> list[DocPrediction]:
        predictions: list[DocPrediction] = []
        constraint = self._constraint()
        for chunk in chunks_by_size([len(doc_rows.rows) for doc_rows in rows], _CHUNK_ROWS):
            predictions.extend(self._classify_chunk(list(docs[chunk]), rows[chunk], constraint))
        return predictions

    def _type_rules(self) -> TypeRules:
        return make_type_rules(
            self._type_map,
            self.cfg["backoff_type"],
            make_marker(self.model).knows,
            self._constraint(),
        )

    def _constraint(self) -> Constraint | None:
        """Which labels a pair of types may have, the negative one left out; None for all."""
        setting = self.cfg["type_constraints"]
        learned = setting == "learned"
        given = self.cfg["learned_type_pairs"] if learned else setting
        if setting == "off" or given is None:
            return None
        seen = (set(self.cfg["head_types"]), set(self.cfg["tail_types"])) if learned else None
        return make_constraint(self.labels, type_pair_table(given), self._negative, seen)

    def _unknown_type(self, head_type: str, tail_type: str) -> str:
        table = self.markers
        names = self._type_map.get(head_type, [head_type])
        forms = (f"{HEAD}={{}}", f"{HEAD}_START={{}}")
        known = any(form.format(name) in table for form in forms for name in names)
        return f"{TAIL}={tail_type}" if known else f"{HEAD}={head_type}"

    def _classify_chunk(
        self, docs: list[Doc], chunk: list[DocRows], constraint: Constraint | None
    ) -> list[DocPrediction]:
        rows = [row for doc_rows in chunk for row in doc_rows.rows]
        if rows:
            output = self.model.predict(
                PairInput(docs, [doc_rows.rows for doc_rows in chunk], self.cfg["context"])
            )
            row_ids, is_cut = output.rows, output.cut
            probabilities = torch.softmax(output.logits, dim=-1).cpu().numpy()
        else:
            row_ids, is_cut = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool)
            probabilities = np.zeros((0, len(self.labels)), dtype=np.float32)
        # Pairs are numbered through the chunk; those that are too long for a row have no number in
        # `classified`.
        offsets = np.cumsum([0, *(len(doc_rows.pairs) for doc_rows in chunk)]).tolist()
        pair_of_row = np.asarray(
            [
                offset + i
                for doc_rows, offset in zip(chunk, offsets[:-1], strict=True)
                for i in doc_rows.pair_of_row
            ],
            dtype=np.int64,
        )[row_ids]
        classified, index = np.unique(pair_of_row, return_inverse=True)
        allowed = np.ones(probabilities.shape, dtype=bool)
        if constraint is not None:
            for i, row in enumerate(row_ids.tolist()):
                allowed[i] = constraint(rows[row].head_type, rows[row].tail_type)
        best = best_variants(
            np.where(allowed, probabilities, 0.0), index, len(classified), self._negative
        )
        probabilities, allowed = probabilities[best], allowed[best]
        labels, scores = best_labels(probabilities, self._negative, self.cfg["threshold"], allowed)
        predictions = []
        borders = np.searchsorted(classified, offsets)
        cut_borders = np.searchsorted(np.unique(pair_of_row[is_cut]), offsets).tolist()
        for i, doc_rows in enumerate(chunk):
            of_doc = slice(borders[i], borders[i + 1])
            pairs = [doc_rows.pairs[j - offsets[i]] for j in classified[of_doc].tolist()]
            n_too_long = len(doc_rows.pairs) - len(pairs)
            predictions.append(
                DocPrediction(
                    self._relations(pairs, labels[of_doc], scores[of_doc]),
                    pairs,
                    probabilities[of_doc],
                    doc_rows.n_beyond + n_too_long,
                    doc_rows.skipped,
                    {
                        "pairs": len(pairs),
                        "pairs_cut": cut_borders[i + 1] - cut_borders[i],
                        "pairs_left_out": {
                            "unknown_types": doc_rows.skipped.total(),
                            "type_constraints": doc_rows.n_impossible,
                            "max_pairs": doc_rows.n_beyond,
                            "too_long": n_too_long,
                        },
                    },
                )
            )
        return predictions

    def _relations(
        self, pairs: list[SpanPair], labels: IntArray, scores: FloatArray
    ) -> list[tuple[SpanPair, str, float]]:
        names = self.labels
        rows = np.flatnonzero(labels != NO_RELATION)
        symmetric = {names.index(label) for label in self.cfg["symmetric"]}
        if symmetric and len(rows):
            spans = [span for i in rows.tolist() for span in pairs[i]]
            places = np.asarray([(s.start, s.end) for s in spans], dtype=np.int64)
            # Equal spans get one number, so that both directions of a pair meet.
            first: dict[tuple[int, int, int], int] = {}
            index = np.asarray(
                [first.setdefault((s.start, s.end, s.label), i) for i, s in enumerate(spans)],
                dtype=np.int64,
            ).reshape(-1, 2)
            merged, keep = merge_symmetric(index, labels[rows], scores[rows], places, symmetric)
            return [
                ((spans[head], spans[tail]), names[labels[row]], float(scores[row]))
                for (head, tail), row, kept in zip(
                    merged.tolist(), rows.tolist(), keep.tolist(), strict=True
                )
                if kept
            ]
        return [(pairs[i], names[labels[i]], float(scores[i])) for i in rows.tolist()]

    def set_annotations(self, docs: Iterable[Doc], predictions: Sequence[DocPrediction]) -> None:
        """Write relations on Docs.

        docs (Iterable[Doc]): The Docs that were given to `predict`.
        predictions (Sequence[DocPrediction]): What it returned.
        """
        key = self.cfg["relations_key"]
        for doc, found in zip(docs, predictions, strict=True):
            relations = [
                Relation(head, tail, label, score) for (head, tail), label, score in found.relations
            ]
            if self.cfg["existing"] == "extend":
                old = [relation for relation in get_relations(doc, key) if relation.label]
                relations = _union(old, relations, self.cfg["symmetric"])
            set_relations(doc, relations, key)
            set_report(doc, self.name, found.report)
            attrs = doc.spans[key].attrs
            if found.left_out:
                attrs[PAIRS_LEFT_OUT_ATTR] = found.left_out
                logger.info("%s: %d pairs of a Doc were left out", self.name, found.left_out)
            if found.skipped:
                attrs[SKIPPED_TYPES_ATTR] = dict(found.skipped)
            if self.cfg["all_scores"]:
                set_pair_scores(doc, found.pairs, self.labels, found.scores.tolist(), key)

    # Training

    def learn(self, examples: Sequence[Example]) -> Sequence[float]:
        """Learn the labels of pairs.

        examples (Sequence[Example]): The batch.
        RETURNS (Sequence[float]): The loss, averaged over the pairs.
        """
        pairs, targets = self.make_targets(examples)
        if not len(targets):
            return ()
        docs = [example.predicted for example in examples]
        output, backprop = self.model.begin_update(PairInput(docs, pairs, self.cfg["context"]))
        self.skipped.update({"pairs_too_long": len(targets) - len(output.rows)})
        self._warn_too_long(docs, pairs, output.rows)
        truth = to_device(torch.from_numpy(targets[output.rows]), output.logits.device)
        loss, d_logits = class_loss(output.logits, truth)
        cast(Backprop, backprop)(d_logits)
        return (loss,)

    def make_targets(self, examples: Sequence[Example]) -> tuple[list[list[TypedPair]], IntArray]:
        """Say which pairs of a batch are learned, and their labels.

        examples (Sequence[Example]): The batch.
        RETURNS (tuple[list[list[TypedPair]], int64 array]): The pairs of each predicted Doc; their
            classes, one after the other, (n_pairs,).
        RAISES (ValueError): If the gold data has labels or types that the component does not know.
        """
        index = {label: i for i, label in enumerate(self.labels)}
        known = self._type_rules().known
        rows: list[list[TypedPair]] = []
        targets: list[int] = []
        lost: list[str] = []
        for example in examples:
            labelled, unseen = self._labelled_pairs(example)
            lost += unseen
            rows.append([])
            for (head, tail), label in labelled:
                if label is None:
                    continue
                check_gold_label(self.name, "a relation", label, index, example.reference.text)
                found = known(head.label_, tail.label_)
                if found:
                    rows[-1].append(_typed_pair(head, tail, found[0]))
                    targets.append(index[label])
                elif self.cfg["train_pairs"] == "gold":
                    raise ValueError(
                        Errors.E706.format(
                            name=self.name,
                            head=head.label_,
                            tail=tail.label_,
                            text=example.reference.text,
                        )
                    )
                else:
                    self.skipped["pairs_of_unknown_types"] += 1
        self.warn_once(Warnings.W105, lost)
        return rows, np.asarray(targets, dtype=np.int64)

    def _labelled_pairs(
        self, example: Example
    ) -> tuple[list[tuple[SpanPair, str | None]], list[str]]:
        """Return the pairs of an Example that are learned, each with what is true of it, and the
        gold relations whose pairs nothing has found."""
        gold, misaligned = read_gold(example, self.cfg["relations_key"])
        several = sum(len(found.more_labels) for found in gold.values())
        self.skipped.update(
            {"misaligned_arguments": len(misaligned), "further_labels_of_a_pair": several}
        )
        if self.cfg["train_pairs"] == "gold":
            return [(found.pair, found.label) for found in gold.values()], []
        negative, symmetric = self.cfg["negative_label"], self.cfg["symmetric"]
        labels = {
            key[2:] + key[:2]: found.label
            for key, found in gold.items()
            if found.label in symmetric
        }
        labels |= {key: found.label for key, found in gold.items()}
        pairs = self._find_pairs(example.predicted)
        lost = [
            f"{gold[key].label}({gold[key].pair[0]}, {gold[key].pair[1]})"
            for key in sorted(gold)
            if key not in pairs and gold[key].label != negative
        ]
        chosen = pairs.choose(lambda head_type, tail_type: True, self.cfg["max_pairs"])
        self.skipped.update(
            {"relations_without_entities": len(lost), "pairs_beyond_max_pairs": chosen.n_beyond}
        )
        labelled = [(pair, labels.get(pair_key(pair), negative)) for pair in chosen.pairs]
        # The gold data has no label of these pairs, so it cannot have a wrong one.
        needs_negative = any(pair_key(pair) not in labels for pair in chosen.pairs)
        if needs_negative and negative is not None and negative not in self.labels:
            raise ValueError(
                Errors.E710.format(name=self.name, negative=negative, labels=list(self.labels))
            )
        return labelled, lost

    def _warn_too_long(
        self, docs: Sequence[Doc], pairs: list[list[TypedPair]], kept: IntArray
    ) -> None:
        n_pairs = sum(map(len, pairs))
        if len(kept) == n_pairs:
            return
        places = [(doc, pair) for doc, part in zip(docs, pairs, strict=True) for pair in part]
        lost = [places[i] for i in sorted(set(range(n_pairs)) - set(kept.tolist()))]
        texts = [f"{doc[slice(*p.head)]} / {doc[slice(*p.tail)]}"[:80] for doc, p in lost[:5]]
        limit = make_marker(self.model).max_length
        self.warn_once(Warnings.W107, texts, n=len(lost), max_length=limit)

    # Scoring

    def score(self, examples: Iterable[Example], **kwargs: Any) -> dict[str, Any]:
        """Score predictions, or with `score_pairs = "gold"` the labels of the gold pairs.

        examples (Iterable[Example]): Gold and predictions.
        RETURNS (dict[str, Any]): The scores of the component's scorer.
        """
        if self.scorer is None:
            return {}
        if self.cfg["score_pairs"] == "gold":
            examples = self.classify_gold(examples)
        return self.scorer(examples, **{**self.cfg, **kwargs})

    def classify_gold(self, examples: Iterable[Example]) -> Iterator[Example]:
        """Yield copies of Examples in which exactly the gold pairs were classified.

        examples (Iterable[Example]): Gold and predictions.
        YIELDS (Example): In the same order.
        """
        examples = list(examples)
        for part in chunks_by_size([1] * len(examples), _CHUNK_ROWS):
            copies = [Example(eg.predicted.copy(), eg.reference) for eg in examples[part]]
            docs = [copy.predicted for copy in copies]
            relations_key = self.cfg["relations_key"]
            found = [read_gold(copy, relations_key)[0] for copy in copies]
            pairs = [[gold.pair for gold in of_doc.values()] for of_doc in found]
            for doc in docs:
                set_relations(doc, [], relations_key)
            self.set_annotations(docs, self.classify(docs, pairs))
            yield from copies


def _typed_pair(head: Span, tail: Span, names: tuple[str, str]) -> TypedPair:
    return TypedPair((head.start, head.end), (tail.start, tail.end), *names)


def _union(
    old: Sequence[Relation], new: Sequence[Relation], symmetric: Sequence[str]
) -> list[Relation]:
    """Join two lists of relations; of equal ones the one with the better score stays."""
    found: dict[tuple[Any, ...], Relation] = {}
    for relation in (*old, *new):
        places = pair_key((relation.head, relation.tail))
        if relation.label in symmetric:
            places = min(places, places[2:] + places[:2])
        key = (relation.label, *places)
        known = found.get(key)
        if known is None or (known.score or 0.0) < (relation.score or 0.0):
            found[key] = relation
    return list(found.values())
