"""The settings with which components read texts, taken from a config.

The components are built as for training, but without weights: only the tokenizer and the
configuration of each checkpoint are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import spacy
import torch
from spacy.language import Language
from spacy.util import dot_to_object, load_model_from_config
from thinc.api import Config

from ..annotations import ENTITIES_KEY, QA_KEY, RELATIONS_KEY
from ..encoding.checkpoint import HFModule, load_tokenizer, quiet_transformers, read_config
from ..encoding.encoder import window_room
from ..encoding.pieces import PieceTokenizer
from ..errors import Errors
from ..extractive_qa.component import ExtractiveQA
from ..relation_classifier.component import RelationClassifier
from ..relation_classifier.markers import Marker, Mode, marker_names
from ..relation_classifier.presets import PRESETS
from ..span_relation.component import SpanRelation

# Stands for every entity type, because only the length of a row matters here.
ANY_TYPE = "any"


@dataclass(frozen=True)
class SpanReading:
    """How `span_relation` reads a text.

    name (str): Name of the component.
    cfg (Mapping[str, Any]): Its settings.
    pieces (PieceTokenizer | None): Its subword tokenizer; None if unknown.
    capacity, overlap (int): Number of subword pieces in a window, and of those that neighbouring
        windows share.
    """

    name: str
    cfg: Mapping[str, Any]
    pieces: PieceTokenizer | None = None
    capacity: int = 0
    overlap: int = 0


@dataclass(frozen=True)
class PairReading:
    """How `relation_classifier` reads a text.

    name (str), cfg (Mapping[str, Any]), pieces (PieceTokenizer | None): As above.
    marker (Marker | None): Inserts markers into rows, for the entity type `ANY_TYPE`.
    scope (str | None), max_distance (int | None): Limits of the pairs that are classified in
        prediction, if known.
    """

    name: str
    cfg: Mapping[str, Any]
    pieces: PieceTokenizer | None = None
    marker: Marker | None = None
    scope: str | None = None
    max_distance: int | None = None


@dataclass(frozen=True)
class QuestionReading:
    """How `extractive_qa` reads a text.

    name (str), cfg (Mapping[str, Any]), pieces (PieceTokenizer | None): As above.
    max_length, doc_stride, max_question_length (int): As in "spacy-spanrel.SpanQA.v1".
    """

    name: str
    cfg: Mapping[str, Any]
    pieces: PieceTokenizer | None = None
    max_length: int = 0
    doc_stride: int = 0
    max_question_length: int = 0


Reading = SpanReading | PairReading | QuestionReading


@dataclass(frozen=True)
class Readings:
    """How the components of a pipeline read texts.

    nlp (Language): The pipeline; its tokenizer makes the predicted Docs.
    configured (bool): True if the components come from a config, False if all of this package's
        components are there with default settings.
    components (tuple[Reading, ...]): One for each component.
    problems (tuple[str, ...]): Encoders that could not be loaded or do not fit the settings.
    """

    nlp: Language
    configured: bool
    components: tuple[Reading, ...]
    problems: tuple[str, ...] = field(default=())

    def of(self, kind: type[Any]) -> list[Any]:
        """Return the readings of a kind."""
        return [reading for reading in self.components if isinstance(reading, kind)]

    @property
    def entities_key(self) -> str:
        """Span group of gold entities."""
        return next((reading.cfg["spans_key"] for reading in self.of(SpanReading)), ENTITIES_KEY)

    @property
    def relations_key(self) -> str:
        """Span group of gold relations."""
        readings = [*self.of(SpanReading), *self.of(PairReading)]
        return next((reading.cfg["relations_key"] for reading in readings), RELATIONS_KEY)

    @property
    def qa_key(self) -> str:
        """Span group of questions and answers."""
        return next((reading.cfg["qa_key"] for reading in self.of(QuestionReading)), QA_KEY)

    @property
    def negative_label(self) -> str | None:
        """The label for "no relation", if a component has one."""
        return next((reading.cfg["negative_label"] for reading in self.of(PairReading)), None)


def unlabelled_texts(config: Config) -> str | None:
    """Return the unlabelled texts that a config trains on.

    config (Config): Config of a training.
    RETURNS (str | None): The `unlabelled` of the reader of its training data; None if there are none.
    """
    values = config.interpolate()
    try:
        reader = dot_to_object(values, values["training"]["train_corpus"])
    except (KeyError, TypeError):  # a config without this section
        return None
    return reader.get("unlabelled") if isinstance(reader, Mapping) else None


def make_readings(config: Config | None = None, encoder: str | None = None) -> Readings:
    """Build components without weights and collect how they read texts.

    config (Config | None): Config of a training; None for this package's components with default
        settings.
    encoder (str | None): Folder or name of an encoder; None for the encoders in the config.
    RETURNS (Readings): How the components read.
    RAISES (ValueError): If the config is invalid, or has none of this package's components.
    """
    if config is None:
        nlp = spacy.blank("xx")
        for factory in ("span_relation", "relation_classifier", "extractive_qa"):
            nlp.add_pipe(factory)
    else:
        nlp = load_model_from_config(config, auto_fill=True)
    makers: dict[type[Any], Any] = {
        SpanRelation: _span_reading,
        RelationClassifier: _pair_reading,
        ExtractiveQA: _question_reading,
    }
    checkpoints = _Checkpoints(encoder, load=config is not None or encoder is not None)
    readings = [
        make(name, pipe, checkpoints)
        for name, pipe in nlp.pipeline
        for kind, make in makers.items()
        if isinstance(pipe, kind)
    ]
    if not readings:
        raise ValueError(Errors.E945.format(names=", ".join(nlp.pipe_names) or "(none)"))
    return Readings(nlp, config is not None, tuple(readings), tuple(checkpoints.problems))


class _Checkpoints:
    """Networks without weights; each is made once."""

    def __init__(self, encoder: str | None, load: bool):
        self.encoder, self.load = encoder, load
        self.problems: list[str] = []
        self._known: dict[tuple[str, str | None], HFModule | None] = {}

    def get(self, attrs: Mapping[str, Any]) -> HFModule | None:
        """Return the network that the settings of a model name; None if it is unknown or unreadable."""
        name = self.encoder or attrs.get("name")
        tokenizer = None if self.encoder else attrs.get("tokenizer")
        if not self.load or name is None:
            return None
        if (name, tokenizer) not in self._known:
            self._known[name, tokenizer] = self._make(name, tokenizer)
        return self._known[name, tokenizer]

    def _make(self, name: str, tokenizer: str | None) -> HFModule | None:
        from transformers import AutoModel

        try:
            config = read_config(name)
            tok = load_tokenizer(tokenizer or name)
            with torch.device("meta"), quiet_transformers():
                network = AutoModel.from_config(config)
            return HFModule(network, tok, name)
        except (OSError, ValueError, ImportError) as error:
            self.problems.append(f"'{name}' cannot be read: {error}")
            return None

    def length(self, component: str, module: HFModule, setting: int | str) -> int:
        """Return the length of a row; a setting above the network's limit is noted as a problem."""
        if setting == "auto":
            return module.max_length
        if int(setting) > module.max_length and self.encoder is None:
            self.problems.append(
                f"'{component}': "
                + Errors.E205.format(
                    max_length=setting, name=module.pieces.name, limit=module.max_length
                )
            )
        return min(int(setting), module.max_length)


def _span_reading(name: str, pipe: SpanRelation, checkpoints: _Checkpoints) -> SpanReading:
    encoder = pipe.model.get_ref("encoder")
    module = checkpoints.get(encoder.attrs) if "window_overlap" in encoder.attrs else None
    if module is None:
        return SpanReading(name, pipe.cfg)
    length = checkpoints.length(name, module, encoder.attrs["max_length"])
    encoder.attrs["max_length"] = length
    try:
        capacity, overlap = window_room(encoder, module)
    except ValueError as error:
        checkpoints.problems.append(f"'{name}': {error}")
        return SpanReading(name, pipe.cfg)
    return SpanReading(name, pipe.cfg, module.pieces, capacity, overlap)


def _pair_reading(name: str, pipe: RelationClassifier, checkpoints: _Checkpoints) -> PairReading:
    generator = pipe.pairs
    scope, distance = getattr(generator, "scope", None), getattr(generator, "max_distance", None)
    module = checkpoints.get(pipe.model.attrs)
    if module is None:
        return PairReading(name, pipe.cfg, scope=scope, max_distance=distance)
    preset = pipe.cfg["preset"]
    mode: Mode = pipe.cfg["mode"] or ("typed_markers" if preset is None else PRESETS[preset].mode)
    marker = Marker(
        mode,
        dict.fromkeys(marker_names(mode, [ANY_TYPE], [ANY_TYPE]), 0),
        module.pieces.prefix,
        module.pieces.suffix,
        checkpoints.length(name, module, pipe.model.attrs["max_length"]),
    )
    return PairReading(name, pipe.cfg, module.pieces, marker, scope, distance)


def _question_reading(name: str, pipe: ExtractiveQA, checkpoints: _Checkpoints) -> QuestionReading:
    module = checkpoints.get(pipe.model.attrs)
    if module is None:
        return QuestionReading(name, pipe.cfg)
    attrs = pipe.model.attrs
    length = checkpoints.length(name, module, attrs["max_length"])
    limit = attrs["max_question_length"]
    if length - limit - module.pieces.pair.n_special < 1:  # the defaults suit longer encoders
        limit = max(1, (length - module.pieces.pair.n_special) // 2)
    return QuestionReading(name, pipe.cfg, module.pieces, length, attrs["doc_stride"], limit)
