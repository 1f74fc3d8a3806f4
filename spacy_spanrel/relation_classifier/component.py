"""The `relation_classifier` component: relations between entities that a Doc has (TACRED style)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Optional, Union, cast

import numpy as np
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

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
from ..arrays import AnyArray, FloatArray, IntArray
from ..encoding.batching import chunks_by_size
from ..encoding.checkpoint import read_config
from ..encoding.shim import get_module, get_shim
from ..encoding.transfer import to_device
from ..errors import Errors, Warnings
from ..pairing import (
    THRESHOLDS,
    TYPE_CONSTRAINTS,
    check_label_settings,
    label_thresholds,
    merge_symmetric,
    merge_type_pairs,
    note_sentences,
    same_entities,
    type_pair_table,
    warn_of_paragraphs,
)
from ..pipe import TorchPipe
from ..reading import short
from ..rules import RULE_ROWS, apply_rules, read_rules
from ..scoring.relations import RelationScorer
from ..settings import TEMPERATURE, defaults_of, number, one_of, optional, whole_number
from ..training.corpus import is_unlabelled
from ..training.losses import class_loss, further_losses
from ..training.teacher import TEACHER, first_teacher, teachers_mean, teachers_of
from .decoding import NO_RELATION, best_labels, best_variants
from .described import (
    DESCRIPTIONS,
    LabelTexts,
    draw_texts,
    is_example,
    label_texts,
    parse_description,
    read_descriptions,
    read_example,
)
from .entity_types import (
    TYPE_MAP,
    Constraint,
    TypeMap,
    TypeRules,
    make_constraint,
    read_type_map,
)
from .gold import read_gold
from .markers import HEAD, MARKER_TABLE, MODES, TAIL, Mode, marker_names, uses_types
from .model import (
    Backprop,
    PairClassifier,
    PairInput,
    PairModel,
    Scheme,
    initialize,
    make_marker,
    text_rows,
)
from .network import DescribedHead, PairNetwork
from .pairs import (
    DocPairs,
    EntityPairs,
    ListedPairs,
    PairGenerator,
    SpanPair,
    TypedPair,
    find_pairs,
    pair_key,
    pairs_everything,
    typed_pair,
)
from .presets import PRESETS, Preset
from .survey import Survey
from .targets import Targets, make_targets

logger = logging.getLogger(__name__)

PairSource = Literal["gold", "predicted"]

RULES = {
    "preset": one_of(None, *PRESETS),
    "mode": one_of(None, *MODES),
    "context": one_of("sentence", "doc"),
    "existing": one_of("replace", "extend"),
    "type_map": TYPE_MAP,
    "type_constraints": TYPE_CONSTRAINTS,
    "markers": MARKER_TABLE,
    "descriptions": DESCRIPTIONS,
    "threshold": number(0, 1),
    "thresholds": THRESHOLDS,
    "temperature": TEMPERATURE,
    "rules": RULE_ROWS,
    "max_pairs": whole_number(1),
    "max_negatives": optional(whole_number(1)),
    "train_pairs": one_of("gold", "predicted"),
    "score_pairs": one_of("gold", "predicted"),
    "r_drop": number(0),
    "teacher": TEACHER,
}

# Number of rows that are classified together in prediction: enough for many batches of similar
# length, and few enough to bound memory, however many Docs arrive at once.
_CHUNK_ROWS = 2048

# Number of described labels with which a training step compares its pairs, besides those of the pairs.
_MAX_LABELS = 64


def make_relation_classifier(
    nlp: Language,
    name: str,
    model: PairModel,
    pairs: PairGenerator,
    *,
    relations_key: str = RELATIONS_KEY,
    extension_prefix: str = "",
    preset: Optional[str] = None,  # noqa: UP045 (spaCy resolves these annotations at run time)
    pretrained: Optional[bool] = None,  # noqa: UP045
    mode: Optional[Mode] = None,  # noqa: UP045
    markers: list[list[str]] = [],  # noqa: B006
    descriptions: Union[dict[str, Union[str, list[str]]], list[list[str]]] = [],  # noqa: B006, UP007
    negative_label: Optional[str] = "no_relation",  # noqa: UP045
    context: Literal["sentence", "doc"] = "sentence",
    type_map: Optional[Union[str, dict[str, list[str]], list[list[str]]]] = None,  # noqa: UP007, UP045
    backoff_type: Optional[str] = None,  # noqa: UP045
    type_constraints: Union[  # noqa: UP007
        Literal["off", "learned"], dict[str, list[list[str]]], list[list[str]]
    ] = "learned",
    symmetric: list[str] = [],  # noqa: B006 (never changed)
    threshold: float = 0.0,
    thresholds: Union[list[list[Any]], dict[str, float]] = [],  # noqa: B006, UP007
    temperature: float = 1.0,
    rules: list[list[Any]] = [],  # noqa: B006
    max_pairs: int = 1000,
    all_scores: bool = False,
    existing: Literal["replace", "extend"] = "replace",
    train_pairs: PairSource = "gold",
    max_negatives: Optional[int] = None,  # noqa: UP045
    score_pairs: PairSource = "predicted",
    r_drop: float = 0.0,
    teacher: Optional[dict[str, Any]] = None,  # noqa: UP045
    scorer: Optional[RelationScorer],  # noqa: UP045
) -> RelationClassifier:
    """Make a `relation_classifier` component.

    pairs (Callable[[Doc, str], list[tuple[Span, Span]]]): Returns the pairs of a Doc to classify; it
        gets the Doc and `relations_key`.
    relations_key (str): Span group that holds the relations; `doc._.relations` reads it.
    extension_prefix (str): Prefix of the names of the extensions, for pipelines in which another
        package owns `doc._.relations`.
    preset (str | None): Mode, markers, labels and type map of published checkpoints:
        "spanbert-tacred". Other settings take precedence over those of the preset.
    pretrained (bool | None): Whether to use the trained classifier of the checkpoint, which can predict
        at once, not a new one, which must be trained. None: use it if there is a preset.
    mode (str | None): How a pair is shown to the network: "ner", "text", "text_ner", "ner_text"
        (as in SpanBERT's run_tacred) or "typed_markers". None: the mode of the preset or, without a
        preset, "typed_markers".
    markers (list[list[str]]): Vocabulary entries of markers, such as
        [["SUBJ=PERSON", "[unused5]"]]. Entries of other markers are chosen at initialization.
    descriptions (dict | list): With `labels = "described"` in the model, the labels in words: a table
        {label: description or [descriptions]} or, where a label has ":" or "=", rows
        [[label, description], ...]. A description has the places of head and tail, with or without a
        word for their types: "{head:person} is employed by {tail:company}".
    negative_label (str | None): Label of pairs that are not related. It is learned, but never
        predicted as a relation, and does not count in scores. None: every label is a relation.
    context (str): Text that is read for a pair: "sentence", from the first to the last sentence that
        the pair touches (the whole Doc, where no component has set sentence borders), or "doc". If it
        is longer than a row, it is cut around the arguments.
    type_map (str | dict | list | None): Network's names of entity types: "ontonotes-tacred", "off", a
        table {type: [names]}, or rows [[type, name], ...]. If a type has several names, all are tried,
        and the most probable relation counts. None: the map of the preset or, without a preset, "off".
    backoff_type (str | None): Type that is used for types which the network does not know. None: their
        pairs are skipped, and counted in `doc.spans[relations_key].attrs["skipped_types"]`.
    type_constraints (str | dict | list): Types of head and tail that a relation may have: "off" for
        any, "learned" for those in the training data (types that it did not have are not
        constrained), or a table {label: [[head, tail], ...]} or, where a label has ":" or "=", rows
        [[label, head, tail], ...].
    symmetric (list[str]): Relations without a direction: if both directions of a pair have one, the
        more probable one is kept.
    threshold (float): Smallest probability of a relation.
    thresholds (list | dict): Labels that have a threshold of their own in place of `threshold`: a
        table {label: threshold} or, where a label has ":" or "=", rows [[label, threshold], ...]. The
        most probable label of a pair must reach its threshold; no other label takes its place.
    temperature (float): Number by which the logits are divided before they become probabilities (Guo
        et al. 2017). `calibrate` finds the one with which scores tell how many relations are right.
    rules (list[list]): Rules that predicted relations obey, by best score: ["inverse", label, other],
        one implies the other in the opposite direction; ["max_tails", label, n], at most n tails per
        head; ["max_heads", label, n], at most n heads per tail; ["no_self", label], or ["no_self"] for
        all labels, not between two mentions of one entity (the same text or the same cluster).
    max_pairs (int): Largest number of pairs to classify in a Doc; the nearest are taken.
    all_scores (bool): Whether to write the probabilities of all labels to `doc._.relation_scores`.
    existing (str): Whether relations that the Doc has already are removed ("replace") or kept
        ("extend"). If a relation is among both, the better score is kept; none at all is the best.
    train_pairs (str): Pairs that are learned: "gold", those of the gold relations, negative ones
        included; "predicted", those that `pairs` returns for the predicted Doc, where pairs without a
        gold relation are negative.
    max_negatives (int | None): Largest number of negative pairs that are learned for each other pair
        of a batch. They are drawn anew whenever the batch is learned from; all other pairs are learned.
        None: all negative pairs.
    score_pairs (str): Pairs that are scored: "gold" classifies the gold pairs and scores their labels,
        as TACRED is scored; "predicted" scores the relations that the pipeline has predicted.
    r_drop (float): Weight of the disagreement between two passes over each batch, with different
        dropout (R-Drop, Liang et al. 2021), usually 0.5 to 5; a step takes twice as long. 0: one pass.
    teacher (dict | None): A trained pipeline with a component of this kind, whose logits are learned
        beside the gold labels (Hinton et al. 2015): a table with `path`, and as one likes `weight`, its
        share of the loss (0.5), `temperature` (2.0) and `cache`, a file that keeps the logits for further
        trainings. With a list of paths the mean of their logits is learned. Teachers are needed in
        training only. null, or a path that is null: no teacher.
    scorer (Callable | None): The scoring method.
    RETURNS (RelationClassifier): The component.
    """
    settings = dict(locals())
    return RelationClassifier(settings.pop("nlp").vocab, **settings)


Language.factory(
    "relation_classifier",
    func=make_relation_classifier,
    assigns=["doc.spans", "doc._.relations", "doc._.spanrel_report"],
    requires=["doc.ents"],
    default_config=defaults_of(
        make_relation_classifier,
        model={
            "@architectures": "spacy-spanrel.PairClassifier.v1",
            **defaults_of(PairClassifier, name="bert-base-cased"),
        },
        pairs={"@misc": "spacy-spanrel.EntityPairs.v1", **defaults_of(EntityPairs)},
        scorer={"@scorers": "spacy-spanrel.pair_scorer.v1"},
    ),
    default_score_weights={
        "rel_f": 1.0,
        "rel_p": 0.0,
        "rel_r": 0.0,
        "rel_macro_f": 0.0,
        "rel_per_type": None,
        "rel_confusions": None,
    },
)


@dataclass(frozen=True)
class DocPrediction:
    """The prediction for one Doc.

    relations (list[tuple[SpanPair, str, float]]): Head and tail, label, probability.
    pairs (list[SpanPair]): All pairs that were classified.
    scores (float32 array, (n_pairs, n_labels)): Probability of each label of these pairs.
    left_out (int): Number of pairs that were not classified because they are beyond `max_pairs` or
        too long for a row.
    skipped (Counter[str]): Number of pairs that were skipped for each unknown entity type.
    report (dict): The component's record in `doc._.spanrel_report`.
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

    pairs (list[SpanPair]): The pairs to classify.
    rows (list[TypedPair]): Each pair once or, if its types have alternative names, several times.
    pair_of_row (list[int]): The pair of each row.
    n_beyond (int): Number of pairs beyond `max_pairs`.
    n_impossible (int): Number of pairs whose types allow no relation.
    skipped (Counter[str]): Number of pairs that were skipped for each unknown entity type.
    """

    pairs: list[SpanPair] = field(default_factory=list)
    rows: list[TypedPair] = field(default_factory=list)
    pair_of_row: list[int] = field(default_factory=list)
    n_beyond: int = 0
    n_impossible: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


class RelationClassifier(TorchPipe):
    """Classification of the relation between given entities (TACRED style).

    Arguments as in `make_relation_classifier`. The settings `mode` and `markers` belong to the
    network: they cannot be changed after initialization.
    """

    rules = RULES
    learned: ClassVar[Mapping[str, Any]] = {
        "labels": [],
        "label_examples": [],
        "head_types": [],
        "tail_types": [],
        "learned_type_pairs": None,
        "sentences_seen": [0, 0],
    }
    label_kinds: ClassVar[Mapping[str, str]] = {"relation": "labels"}
    extensions = (register_extensions, "relations_key")

    def __init__(self, *arguments: Any, pairs: PairGenerator, **settings: Any):
        super().__init__(*arguments, **settings)
        self.pairs = pairs
        self._rng = np.random.default_rng(0)
        self._labels_seen: set[int] = set()
        if self.cfg["descriptions"] and not self.is_described:
            self._refuse_fixed("the setting descriptions")

    def check_loaded(self) -> None:
        """Refuse settings that name relations which the component does not have, and a mode or
        markers other than those of the network.

        RAISES (ValueError): If there are such settings.
        """
        if self.is_described:
            # Descriptions that the config gives on loading may be of new labels.
            described = read_descriptions(self.cfg["descriptions"])
            self._set_labels([*self.labels, *(x for x in described if x not in self.labels)])
        check_label_settings(self.name, self.cfg, self.labels)
        if not self.is_initialized:
            return
        mode, table = self.cfg["mode"], self.markers
        vocabulary = get_module(self.model, PairNetwork).encoder.pieces.vocabulary
        changed = [
            marker
            for marker, entry in self.cfg["markers"]
            if marker in table and table[marker] != vocabulary.get(entry)
        ]
        if (mode is not None and mode != self.mode) or changed:
            raise ValueError(
                Errors.E709.format(name=self.name, mode=mode, trained=self.mode, markers=changed)
            )

    # Labels, markers and types

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels in the order of the network's classes, the negative one included."""
        return tuple(self.cfg["labels"])

    @property
    def is_described(self) -> bool:
        """Whether labels are described in words."""
        if not self.is_initialized:
            return bool(self.model.attrs.get("labels") == "described")
        return isinstance(get_module(self.model, PairNetwork).head, DescribedHead)

    def _refuse_fixed(self, what: str) -> None:
        """Raise the error that something needs described labels. what (str): The thing."""
        labels = self.model.attrs.get("labels", "fixed")
        raise ValueError(Errors.E714.format(name=self.name, what=what, labels=labels))

    def _wrong_label(self, label: object, found: str, expected: str) -> ValueError:
        """Return the error about an argument of `add_label` or `remove_label`."""
        return ValueError(
            Errors.E717.format(name=self.name, label=label, found=found, expected=expected)
        )

    def _negative_label(self, label: str) -> ValueError:
        """Return the error that the negative label has no texts and stays."""
        expected = "a label of relations: the negative one has no descriptions, and is not removed"
        return self._wrong_label(label, "the negative label", expected)

    def add_label(
        self,
        label: str,
        kind: str | None = None,
        *,
        description: str | Sequence[str] = (),
        examples: str | Iterable[str | Relation | SpanPair] = (),
        types: Iterable[tuple[str, str]] = (),
    ) -> int:
        """Add a label before initialization or, if labels are described, at any time.

        A described label needs a description or an example, and can be predicted at once. If the
        component has the label already, the texts are added to those that it has.

        label (str): The label.
        kind (str | None): "relation" or None.
        description (str | Sequence[str]): One or several descriptions, such as "{head:company} was founded
            by {tail:person}".
        examples (str | Iterable[str | Relation | tuple[Span, Span]]): Pairs that have the label: relations
            or spans of Docs, whose sentences are read, or texts such as
            "{tail:Ann Lee} started {head:Northwind} in 1990.".
        types (Iterable[tuple[str, str]]): Entity types of head and tail that the label may have; they are
            added to the setting `type_constraints` or, if that is "learned", to what was learned.
            Without any, the label may have all types.
        RETURNS (int): 1 if the label was added, 0 if the component had it already.
        RAISES (ValueError): If labels are not described and there are texts, or the network is
            initialized already; or if a described label has no text, or a text lacks head or tail, or
            these are longer than a row; or if an argument is of the wrong kind.
        """
        if not isinstance(label, str) or not label.strip():
            raise self._wrong_label(label, repr(label), "a string that is not empty")
        descriptions = [description] if isinstance(description, str) else list(description)
        examples = [examples] if isinstance(examples, str) else list(examples)
        for example in examples:
            if not is_example(example):
                expected = (
                    "a text, or a relation or two spans of one Doc, (doc.ents[0], doc.ents[1])"
                )
                raise self._wrong_label(label, f"the example {short(example)}", expected)
        texts = [read_example(example, self.cfg["context"]) for example in examples]
        pairs_of_types = list(types)
        for pair in pairs_of_types:
            is_pair = isinstance(pair, tuple | list) and len(pair) == 2
            if not is_pair or not all(isinstance(type_, str) for type_ in pair):
                expected = 'pairs of types of head and tail, [("ORG", "PERSON")]'
                raise self._wrong_label(label, f"types = {short(types)}", expected)
        rows_of_types = [(label, *map(self._network_type, pair)) for pair in pairs_of_types]
        if not self.is_described:
            if descriptions or texts or rows_of_types:
                self._refuse_fixed("a label with a description, examples or types")
            return super().add_label(label, kind)
        if label == self.cfg["negative_label"] and (descriptions or texts or rows_of_types):
            raise self._negative_label(label)
        marked = [*map(parse_description, descriptions), *texts]
        if marked and self.is_initialized:
            text_rows(self.model, marked)  # refuses those that no row can hold
        rows = [
            [key, text]
            for key, lines in read_descriptions(self.cfg["descriptions"]).items()
            for text in lines
        ]
        known = {row[0] for row in (*rows, *self.cfg["label_examples"])}
        if not (descriptions or texts or label in known or label == self.cfg["negative_label"]):
            raise ValueError(Errors.E711.format(name=self.name, label=label))
        # The lists may belong to the config, so they are not changed.
        self.cfg["descriptions"] = rows + [[label, text] for text in descriptions]
        self.cfg["label_examples"] = [
            *self.cfg["label_examples"],
            *([label, text.text, list(text.head), list(text.tail)] for text in texts),
        ]
        is_new = label not in self.labels
        if is_new:
            self._set_labels([*self.labels, label])
        if rows_of_types:
            self._add_types(rows_of_types)
        return int(is_new)

    def _add_types(self, rows: Sequence[tuple[str, ...]]) -> None:
        """Add the types of labels, as rows (label, head, tail), to the type constraints."""
        setting = self.cfg["type_constraints"]
        is_learned = setting == "learned"
        old = (self.cfg["learned_type_pairs"] or {}) if is_learned else setting
        table = type_pair_table({} if isinstance(old, str) else old)
        merged = merge_type_pairs(table, ((row[0], row[1], row[2]) for row in rows))
        if is_learned:
            self.cfg["learned_type_pairs"] = merged
        else:
            self.cfg["type_constraints"] = [
                [label, *pair] for label, pairs in merged.items() for pair in pairs
            ]

    def remove_label(self, label: str) -> None:
        """Remove a described label, and whatever the settings say of it.

        label (str): The label.
        RAISES (ValueError): If labels are not described, there is no such label, or it is the negative
            one.
        """
        if not self.is_described:
            self._refuse_fixed(f"a label to remove, {label!r}")
        if label == self.cfg["negative_label"]:
            raise self._negative_label(label)
        if label not in self.labels:
            raise ValueError(
                Errors.E716.format(name=self.name, label=label, labels=list(self.labels))
            )
        table = read_descriptions(self.cfg["descriptions"])
        self.cfg["descriptions"] = [
            [key, text] for key, lines in table.items() for text in lines if key != label
        ]
        self.cfg["label_examples"] = [row for row in self.cfg["label_examples"] if row[0] != label]
        self.cfg["symmetric"] = [other for other in self.cfg["symmetric"] if other != label]
        self.cfg["rules"] = [row for row in self.cfg["rules"] if label not in row]
        for key in ("type_constraints", "learned_type_pairs", "thresholds"):
            setting = self.cfg[key]
            if isinstance(setting, dict):
                self.cfg[key] = {k: v for k, v in setting.items() if k != label}
            elif isinstance(setting, list):
                self.cfg[key] = [row for row in setting if row[0] != label]
        self._set_labels([other for other in self.labels if other != label])

    def _set_labels(self, labels: list[str]) -> None:
        """Set the labels, in the order of the classes."""
        self.cfg["labels"] = labels
        self._labels_seen = set()
        for label in labels:
            self.vocab.strings.add(label)

    def _label_texts(self) -> LabelTexts | None:
        """Return the texts of the labels; None if they are not described."""
        if not self.is_described:
            return None
        cfg = self.cfg
        return label_texts(
            self.labels,
            self._negative,
            cfg["descriptions"],
            cfg["label_examples"],
            cfg["symmetric"],
        )

    @property
    def label_data(self) -> dict[str, Any]:
        """Labels and types as `spacy init labels` saves them and `initialize` takes them."""
        return {
            "labels": list(self.labels),
            "head_types": self.cfg["head_types"],
            "tail_types": self.cfg["tail_types"],
            "type_pairs": self.cfg["learned_type_pairs"] or {},
        }

    @property
    def mode(self) -> str:
        """Input mode of the initialized network."""
        mode: str = get_shim(self.model).cfg["mode"]
        return mode

    @property
    def markers(self) -> dict[str, int]:
        """Piece id of each marker of the initialized network."""
        return dict(get_shim(self.model).cfg["markers"])

    @property
    def _negative(self) -> int | None:
        """Class of the negative label."""
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

    # Initialization

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]] | None = None,
        *,
        nlp: Language | None = None,
        labels: dict[str, Any] | None = None,
    ) -> None:
        """Take labels and types from the data (all of it) or as given, and make the network.

        A component that uses the trained classifier of its checkpoint needs neither data nor
        arguments: `nlp.add_pipe("relation_classifier", config=config).initialize()`.

        get_examples (Callable | None): Returns the training examples.
        nlp (Language | None): The pipeline.
        labels (dict | None): {"labels": [...]} in the order of the classes, and optionally the entity
            types of arguments, "head_types" and "tail_types", and "type_pairs",
            {relation: [[head type, tail type], ...]}.
        RAISES (ValueError): If there are no labels, the data has others than those given, or a trained
            classifier is to be used without all that must be known about its training.
        RAISES (TypeError): If `get_examples` does not return Examples.
        """
        if labels is not None and (not isinstance(labels, dict) or not labels.get("labels")):
            raise ValueError(Errors.E705.format(name=self.name, found=labels))
        survey = Survey(self.cfg)
        for example in self.read_examples(get_examples):
            if not is_unlabelled(example):
                survey.add(read_gold(example, self.cfg["relations_key"]))
        label_data = labels or {}
        if self.is_described:
            self._check_described()
        preset, pretrained = self._preset, self.cfg["pretrained"]
        if pretrained is None:
            pretrained = preset is not None
        mode = self.cfg["mode"] or (preset.mode if preset is not None else None)
        vocabulary = {**(preset.markers if preset is not None else {}), **dict(self.cfg["markers"])}
        class_labels = list(label_data.get("labels", []))
        if not class_labels:
            class_labels = self._labels_of_checkpoint() if pretrained else self._labels_of(survey)
        if not class_labels:
            raise ValueError(
                Errors.E701.format(
                    name=self.name,
                    relations_key=self.cfg["relations_key"],
                    negative=self.cfg["negative_label"],
                    checkpoint=self.model.attrs["name"],
                )
            )
        if pretrained:
            self._check_pretrained(mode, vocabulary)
        is_described = self.is_described
        mode = cast(Mode, mode or ("text" if is_described else "typed_markers"))
        survey.check_labels(self.name, class_labels)
        self._set_labels(class_labels)
        if is_described:
            self._check_texts()
        for key, types in (("head_types", survey.head_types), ("tail_types", survey.tail_types)):
            self.cfg[key] = sorted({*label_data.get(key, []), *map(self._network_type, types)})
        type_pairs = [
            (label, self._network_type(head), self._network_type(tail))
            for label, head, tail in survey.type_pairs
        ]
        self.cfg["learned_type_pairs"] = (
            merge_type_pairs(label_data.get("type_pairs", {}), type_pairs) or None
        )
        check_label_settings(self.name, self.cfg, self.labels)
        names = marker_names(mode, self.cfg["head_types"], self.cfg["tail_types"])
        initialize(
            self.model,
            Scheme(
                mode=mode,
                n_labels=len(class_labels),
                markers=[] if pretrained else names,
                vocabulary=vocabulary,
                pretrained=pretrained,
            ),
        )
        self.cfg["sentences_seen"] = [0, 0]  # by the new network
        # spaCy seeds numpy's global generator from [training] seed.
        self._rng = np.random.default_rng(np.random.randint(2**31))
        survey.warn(self.name, self.labels)

    def _check_described(self) -> None:
        """Refuse settings that described labels do not allow."""
        allowed = {"preset": (None,), "pretrained": (None, False), "mode": (None, "text")}
        # Each step compares the pairs with some of the labels only, and in either direction.
        allowed["teacher"] = (None,)
        for setting, values in allowed.items():
            value = self.cfg[setting]
            if value not in values:
                raise ValueError(Errors.E715.format(name=self.name, setting=setting, value=value))

    def _check_texts(self) -> None:
        """Refuse described labels without a text."""
        texts = self._label_texts()
        assert texts is not None
        for i, (label, lines) in enumerate(zip(self.labels, texts.texts, strict=True)):
            if not lines and i != texts.negative:
                raise ValueError(Errors.E711.format(name=self.name, label=label))

    def _labels_of(self, survey: Survey) -> list[str]:
        """Return the labels of the preset or those that were added or described, followed by those of
        the data.

        The negative label, where it is not among the former, comes first.
        """
        preset, negative = self._preset, self.cfg["negative_label"]
        labels = list(preset.labels) if preset is not None else list(self.cfg["labels"])
        described = read_descriptions(self.cfg["descriptions"])
        labels += [label for label in described if label not in labels]
        is_learned = negative is not None and self.cfg["train_pairs"] == "predicted"
        if (is_learned or negative in survey.labels) and negative not in labels:
            labels.insert(0, negative)
        return labels + sorted(label for label in survey.labels if label not in labels)

    def _labels_of_checkpoint(self) -> list[str]:
        """Return the labels of a trained classifier: those of its config.json, else those of the
        preset, else those that were added."""
        config = read_config(self.model.attrs["name"])
        names = [config.id2label[i] for i in sorted(config.id2label)]
        if any(name != f"LABEL_{i}" for i, name in enumerate(names)):
            return names
        return list(self._preset.labels if self._preset is not None else self.cfg["labels"])

    def _check_pretrained(self, mode: Mode | None, vocabulary: Mapping[str, str]) -> None:
        """Refuse a trained classifier if it is not known how the pairs of its training were marked, or
        if the mode needs a new head."""
        checkpoint = self.model.attrs["name"]
        if mode == "typed_markers":
            raise ValueError(Errors.E707.format(checkpoint=checkpoint, name=self.name))
        missing = ["the input mode"]
        if mode is not None:
            needed = marker_names(mode, (), ())
            missing = [f"the marker {name}" for name in needed if name not in vocabulary]
            if uses_types(mode):
                missing += [
                    f"any marker {role}=<type>"
                    for role in (HEAD, TAIL)
                    if not any(name.startswith(f"{role}=") for name in vocabulary)
                ]
        if missing:
            raise ValueError(
                Errors.E702.format(
                    name=self.name,
                    checkpoint=checkpoint,
                    missing=", ".join(missing),
                    presets=", ".join(PRESETS),
                )
            )

    def _network_type(self, entity_type: str) -> str:
        """Return the network's name of an entity type, the first one if there are several."""
        return self._type_map.get(entity_type, [entity_type])[0]

    # Prediction

    def predict(self, docs: Iterable[Doc]) -> list[DocPrediction]:
        """Classify the pairs of Docs without changing the Docs.

        docs (Iterable[Doc]): The Docs.
        RETURNS (list[DocPrediction]): One prediction for each Doc.
        """
        docs = list(docs)
        key = self.cfg["relations_key"]
        unbounded = (doc for doc in docs if pairs_everything(self.pairs, doc, key))
        warn_of_paragraphs(self.cfg, unbounded, self.warn_once)
        return self._predict(docs, self.make_rows(docs))

    def classify(
        self, docs: Sequence[Doc], pairs: Sequence[Sequence[SpanPair]]
    ) -> list[DocPrediction]:
        """Classify given pairs without changing the Docs.

        docs (Sequence[Doc]): The Docs.
        pairs (Sequence[Sequence[tuple[Span, Span]]]): The pairs (head, tail) of each Doc.
        RETURNS (list[DocPrediction]): One prediction for each Doc.
        """
        return self._predict(docs, self._make_rows([ListedPairs(list(rows)) for rows in pairs]))

    def make_rows(self, docs: Sequence[Doc]) -> list[DocRows]:
        """Choose the pairs of Docs to classify, and the rows that show them to the network.

        docs (Sequence[Doc]): The Docs.
        RETURNS (list[DocRows]): The pairs and rows of each Doc.
        """
        return self._make_rows([self._find_pairs(doc) for doc in docs])

    def _find_pairs(self, doc: Doc) -> DocPairs:
        return find_pairs(self.pairs, doc, self.cfg["relations_key"])

    def _make_rows(self, pairs: Sequence[DocPairs]) -> list[DocRows]:
        if not any(map(len, pairs)):
            # The types that the network knows are not needed, nor is a network.
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
        for i, pair in enumerate(chosen.pairs):
            for types in rules.possible(pair[0].label_, pair[1].label_):
                doc_rows.pair_of_row.append(i)
                doc_rows.rows.append(typed_pair(pair, types))
        return doc_rows

    def _unknown_type(self, head_type: str, tail_type: str) -> str:
        """Return the one of two types for which the network has no marker, as "SUBJ=type"."""
        table = self.markers
        names = self._type_map.get(head_type, [head_type])
        forms = (f"{HEAD}={{}}", f"{HEAD}_START={{}}")
        is_known = any(form.format(name) in table for form in forms for name in names)
        return f"{TAIL}={tail_type}" if is_known else f"{HEAD}={head_type}"

    def _type_rules(self) -> TypeRules:
        return TypeRules(
            self._type_map,
            self.cfg["backoff_type"],
            make_marker(self.model).knows,
            self._constraint(),
        )

    def _constraint(self) -> Constraint | None:
        """Return the function that says which labels two types may have; None if all are allowed."""
        setting = self.cfg["type_constraints"]
        is_learned = setting == "learned"
        type_pairs = self.cfg["learned_type_pairs"] if is_learned else setting
        if setting == "off" or type_pairs is None:
            return None
        seen = (set(self.cfg["head_types"]), set(self.cfg["tail_types"])) if is_learned else None
        return make_constraint(self.labels, type_pair_table(type_pairs), self._negative, seen)

    def _predict(self, docs: Sequence[Doc], rows: Sequence[DocRows]) -> list[DocPrediction]:
        """Classify the rows of Docs, chunk by chunk."""
        predictions: list[DocPrediction] = []
        constraint = self._constraint()
        for chunk in chunks_by_size([len(doc_rows.rows) for doc_rows in rows], _CHUNK_ROWS):
            predictions.extend(self._predict_chunk(docs[chunk], rows[chunk], constraint))
        return predictions

    def _predict_chunk(
        self, docs: Sequence[Doc], chunk: Sequence[DocRows], constraint: Constraint | None
    ) -> Iterator[DocPrediction]:
        # Rows and pairs are numbered through the chunk. Pairs that are too long have no row.
        rows, is_cut = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool)
        probabilities = np.zeros((0, len(self.labels)), dtype=np.float32)
        typed_pairs = [doc_rows.rows for doc_rows in chunk]
        if any(typed_pairs):
            output = self.model.predict(
                PairInput(list(docs), typed_pairs, self.cfg["context"], self._label_texts())
            )
            rows, is_cut = output.rows, output.cut
            logits = output.logits / self.cfg["temperature"]
            probabilities = torch.softmax(logits, dim=-1).cpu().numpy()
        offsets = np.cumsum([0, *(len(doc_rows.pairs) for doc_rows in chunk)])
        pair_of_row = np.asarray(
            [
                offset + i
                for doc_rows, offset in zip(chunk, offsets.tolist(), strict=False)
                for i in doc_rows.pair_of_row
            ],
            dtype=np.int64,
        )[rows]
        allowed = np.ones(probabilities.shape, dtype=bool)
        if constraint is not None:
            of_chunk = [pair for pairs_of_doc in typed_pairs for pair in pairs_of_doc]
            for i, row in enumerate(rows.tolist()):
                allowed[i] = constraint(of_chunk[row].head_type, of_chunk[row].tail_type)
        pairs, index = np.unique(pair_of_row, return_inverse=True)
        best = best_variants(
            np.where(allowed, probabilities, 0.0), index, len(pairs), self._negative
        )
        probabilities = probabilities[best]
        thresholds = label_thresholds(self.labels, self.cfg["threshold"], self.cfg["thresholds"])
        labels, scores = best_labels(probabilities, self._negative, thresholds, allowed[best])
        borders = np.searchsorted(pairs, offsets).tolist()
        n_cut = np.diff(np.searchsorted(np.unique(pair_of_row[is_cut]), offsets)).tolist()
        for i, doc_rows in enumerate(chunk):
            of_doc = slice(borders[i], borders[i + 1])
            span_pairs = [doc_rows.pairs[j] for j in (pairs[of_doc] - offsets[i]).tolist()]
            n_too_long = len(doc_rows.pairs) - len(span_pairs)
            yield DocPrediction(
                self._relations(span_pairs, labels[of_doc], scores[of_doc]),
                span_pairs,
                probabilities[of_doc],
                doc_rows.n_beyond + n_too_long,
                doc_rows.skipped,
                {
                    "pairs": len(span_pairs),
                    "pairs_cut": n_cut[i],
                    "pairs_left_out": {
                        "unknown_types": doc_rows.skipped.total(),
                        "type_constraints": doc_rows.n_impossible,
                        "max_pairs": doc_rows.n_beyond,
                        "too_long": n_too_long,
                    },
                },
            )

    def _relations(
        self, pairs: Sequence[SpanPair], labels: IntArray, scores: FloatArray
    ) -> list[tuple[SpanPair, str, float]]:
        """Return the relations of a Doc: its pairs that have a label other than NO_RELATION."""
        names = self.labels
        rows = np.flatnonzero(labels != NO_RELATION)
        symmetric = {names.index(label) for label in self.cfg["symmetric"]}
        rules = read_rules(self.cfg["rules"], names, self.cfg["symmetric"])
        if not len(rows) or not (symmetric or rules):
            return [(pairs[i], names[labels[i]], float(scores[i])) for i in rows.tolist()]
        spans = [span for i in rows.tolist() for span in pairs[i]]
        ranges = np.asarray([(span.start, span.end) for span in spans], dtype=np.int64)
        # Equal spans get one number, so that both directions of a pair meet.
        first: dict[tuple[int, int, int], int] = {}
        index = np.asarray(
            [first.setdefault((s.start, s.end, s.label), i) for i, s in enumerate(spans)],
            dtype=np.int64,
        ).reshape(-1, 2)
        merged, keep = merge_symmetric(index, labels[rows], scores[rows], ranges, symmetric)
        merged, labels, scores = merged[keep], labels[rows[keep]], scores[rows[keep]]
        if rules is not None:
            is_self = None
            if rules.no_self:
                is_self = same_entities(*([spans[i] for i in side] for side in merged.T.tolist()))
            merged, labels, scores = apply_rules(
                rules, merged, labels, scores, is_self, one_label=True
            )
        return [
            ((spans[head], spans[tail]), names[label], score)
            for (head, tail), label, score in zip(
                merged.tolist(), labels.tolist(), scores.tolist(), strict=True
            )
        ]

    def set_annotations(self, docs: Iterable[Doc], predictions: Sequence[DocPrediction]) -> None:
        """Write relations to Docs.

        docs (Iterable[Doc]): The Docs that were given to `predict`.
        predictions (Sequence[DocPrediction]): Its result.
        """
        key = self.cfg["relations_key"]
        for doc, prediction in zip(docs, predictions, strict=True):
            relations = [
                Relation(head, tail, label, score)
                for (head, tail), label, score in prediction.relations
            ]
            if self.cfg["existing"] == "extend":
                old = [relation for relation in get_relations(doc, key) if relation.label]
                relations = _union(old, relations, self.cfg["symmetric"])
            set_relations(doc, relations, key)
            set_report(doc, self.name, prediction.report)
            attrs = doc.spans[key].attrs
            if prediction.left_out:
                attrs[PAIRS_LEFT_OUT_ATTR] = prediction.left_out
                logger.info("%s: %d pairs of a Doc were left out", self.name, prediction.left_out)
            if prediction.skipped:
                attrs[SKIPPED_TYPES_ATTR] = dict(prediction.skipped)
            if self.cfg["all_scores"]:
                set_pair_scores(doc, prediction.pairs, self.labels, prediction.scores.tolist(), key)

    # Training

    def learn(self, examples: Sequence[Example]) -> Sequence[float]:
        """Compute the loss of a batch and backpropagate it.

        examples (Sequence[Example]): The batch.
        RETURNS (Sequence[float]): The loss, averaged over the pairs.
        RAISES (ValueError): If the gold data has labels or types that the component does not have.
        """
        targets = self.make_targets(examples)
        if not len(targets.labels):
            return ()
        if any(map(is_unlabelled, examples)):
            first_teacher(self)
        docs = [example.predicted for example in examples]
        note_sentences(self.cfg, docs)
        pairs, labels = targets.pairs, self._label_texts()
        if labels is not None:
            self._check_described()
            pairs, labels = self._drawn_texts(targets, labels)
        n_passes = 2 if self.cfg["r_drop"] else 1
        output, backprop = self.model.begin_update(
            PairInput(docs * n_passes, pairs * n_passes, self.cfg["context"], labels)
        )
        rows = output.rows % len(targets.labels)
        self._note_too_long(docs, targets.pairs, rows)
        truth = to_device(torch.from_numpy(targets.labels[rows]), output.logits.device)
        weights = None
        if targets.weights is not None:
            weights = to_device(torch.from_numpy(targets.weights[rows]), output.logits.device)
        taught = None
        if teachers := teachers_of(self):
            asked = [
                (doc, pair) for doc, listed in zip(docs, pairs, strict=True) for pair in listed
            ]
            answers = [
                np.stack([answer for (answer,) in teacher.logits(asked)])[rows][
                    :, teacher.columns["relation"]
                ]
                for teacher in teachers
            ]
            taught = teachers_mean(self.cfg["teacher"], answers, output.logits.device)
        loss, d_logits = further_losses(
            class_loss(output.logits, truth, weights),
            output.logits,
            r_drop=self.cfg["r_drop"],
            taught=taught,
        )
        cast(Backprop, backprop)(d_logits)
        return (loss,)

    def class_logits(self, items: Sequence[tuple[Doc, Any]]) -> list[tuple[AnyArray, ...]]:
        """Compute the logits of pairs.

        items (Sequence[tuple[Doc, TypedPair]]): Docs, each with a pair.
        RETURNS (list[tuple[FloatArray]]): The logits of each pair, ``(n_labels,)``; NaN if its types are
            unknown, or if its arguments are longer than a row.
        """
        rules = self._type_rules()
        pairs: list[list[TypedPair]] = [
            [
                pair._replace(head_type=head, tail_type=tail)
                for head, tail in rules.known(pair.head_type, pair.tail_type)[:1]
            ]
            for _, pair in items
        ]
        logits = np.full((len(items), len(self.labels)), np.nan, dtype=np.float32)
        if any(pairs):
            docs = [doc for doc, _ in items]
            output = self.model.predict(
                PairInput(docs, pairs, self.cfg["context"], self._label_texts())
            )
            has_row = np.flatnonzero(list(map(len, pairs)))
            logits[has_row[output.rows]] = output.logits.float().cpu().numpy()
        return [(row,) for row in logits]

    def _drawn_texts(
        self, targets: Targets, labels: LabelTexts
    ) -> tuple[list[list[TypedPair]], LabelTexts]:
        """Draw the described labels of a training step, and their direction.

        A label that training has not seen yet takes no part: its description would be pushed away
        from all pairs. Every other step reads all pairs from tail to head, and compares them with the
        inverse relations, which gives twice as many relations to learn from, of twice as many types.
        """
        self._labels_seen.update(targets.labels.tolist())
        is_reversed = bool(self._rng.random() < 0.5)
        drawn = draw_texts(
            labels, targets.labels, self._labels_seen, _MAX_LABELS, is_reversed, self._rng
        )
        if not is_reversed:
            return targets.pairs, drawn
        pairs = [
            [TypedPair(pair.tail, pair.head, pair.tail_type, pair.head_type) for pair in doc_pairs]
            for doc_pairs in targets.pairs
        ]
        return pairs, drawn

    def make_targets(self, examples: Sequence[Example]) -> Targets:
        """Choose the pairs of a batch that are learned, and label them with the truth.

        examples (Sequence[Example]): The batch.
        RETURNS (Targets): The targets.
        RAISES (ValueError): If the gold data has labels or types that the component does not have.
        """
        targets = make_targets(
            self.name,
            self.cfg,
            self.labels,
            examples,
            self._find_pairs,
            self._type_rules().known,
            self._rng,
        )
        self.skipped.update(targets.skipped)
        self.warn_once(Warnings.W105, targets.without_entities)
        return targets

    def _note_too_long(
        self, docs: Sequence[Doc], pairs: Sequence[Sequence[TypedPair]], rows: IntArray
    ) -> None:
        """Count the pairs of a batch that have no row because they are too long, and warn of them."""
        all_pairs = [
            (doc, pair) for doc, doc_pairs in zip(docs, pairs, strict=True) for pair in doc_pairs
        ]
        too_long = np.setdiff1d(np.arange(len(all_pairs)), rows).tolist()
        self.skipped["pairs_too_long"] += len(too_long)
        texts = [
            f"{doc[slice(*pair.head)]} / {doc[slice(*pair.tail)]}"[:80]
            for doc, pair in (all_pairs[i] for i in too_long[:5])
        ]
        limit = make_marker(self.model).max_length
        self.warn_once(Warnings.W107, texts, n=len(too_long), max_length=limit)

    # Scoring

    def score(self, examples: Iterable[Example], **kwargs: Any) -> dict[str, Any]:
        """Score the predictions or, with `score_pairs = "gold"`, the labels of the gold pairs.

        examples (Iterable[Example]): Gold and predictions.
        RETURNS (dict[str, Any]): The scores of the component's scorer.
        """
        if self.cfg["score_pairs"] == "gold":
            examples = self.classify_gold(examples)
        return super().score(examples, **kwargs)

    def classify_gold(self, examples: Iterable[Example]) -> Iterator[Example]:
        """Classify the gold pairs of Examples, and no others.

        examples (Iterable[Example]): Gold and predictions.
        YIELDS (Example): The Examples with copies of their predicted Docs.
        """
        key = self.cfg["relations_key"]
        examples = list(examples)
        for chunk in chunks_by_size([1] * len(examples), _CHUNK_ROWS):
            copies = [Example(eg.predicted.copy(), eg.reference) for eg in examples[chunk]]
            docs = [copy.predicted for copy in copies]
            gold = [read_gold(copy, key) for copy in copies]
            for doc in docs:
                set_relations(doc, [], key)
            pairs = [[gold_pair.pair for gold_pair in one.pairs.values()] for one in gold]
            self.set_annotations(docs, self.classify(docs, pairs))
            yield from copies


def _union(
    old: Sequence[Relation], new: Sequence[Relation], symmetric: Sequence[str]
) -> list[Relation]:
    """Join two lists of relations; of equal ones the more certain one stays."""
    relations: dict[tuple[Any, ...], Relation] = {}
    for relation in (*old, *new):
        pair = pair_key((relation.head, relation.tail))
        if relation.label in symmetric:
            pair = min(pair, pair[2:] + pair[:2])
        key = (relation.label, *pair)
        other = relations.get(key)
        if other is None or other.certainty < relation.certainty:
            relations[key] = relation
    return list(relations.values())
