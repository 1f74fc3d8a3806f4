"""Settings that are chosen by the predictions on a corpus: the component, its predictions, and storing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from ..reading import argument_error
from ..scoring.counts import without_direction
from ..scoring.relations import ComparableDoc
from ..scoring.thresholds import Key

# Docs that are predicted together.
BATCH = 256

# The keys by which a component's scorer compares the relations of a Doc, and their scores.
ScoredKeys = list[tuple[Key, float | None]]


def named_component(nlp: Language, name: str) -> Any:
    """Return a component of a pipeline.

    nlp (Language): The pipeline.
    name (str): Name of the component.
    RETURNS (Any): The component.
    RAISES (ConversionError): If there is none of that name.
    """
    if name not in nlp.pipe_names:
        names = ", ".join(nlp.pipe_names) or "(none)"
        raise argument_error("--component", repr(name), f"one of {names}")
    return nlp.get_pipe(name)


@contextmanager
def restored(cfg: dict[str, Any]) -> Iterator[None]:
    """Give a component back the settings that it has now.

    cfg (dict[str, Any]): Its settings, which may be changed meanwhile.
    """
    before = dict(cfg)
    try:
        yield
    finally:
        cfg.update(before)


def store_settings(nlp: Language, component: str, settings: Mapping[str, Any]) -> None:
    """Change settings of a component.

    nlp (Language): The pipeline.
    component (str): Name of the component.
    settings (Mapping[str, Any]): The new values.
    """
    nlp.get_pipe(component).configure(settings)  # type: ignore[attr-defined]
    # So that config.cfg says the same, and training that continues from it starts with it.
    nlp.get_pipe_config(component).update(settings)


@dataclass(frozen=True)
class RelationComponent:
    """A component that predicts relations.

    name (str), pipe (Any): Its name and the component itself.
    setting (str): Name of the threshold in `cfg`.
    metrics (tuple[str, ...]): Scores by which the threshold may be chosen.
    metric (str): The one that has most weight in the training of the pipeline; of equal ones the first.
    """

    name: str
    pipe: Any
    setting: str
    metrics: tuple[str, ...]
    metric: str

    def keys(self, doc: Doc, metric: str) -> ScoredKeys:
        """Return the relations of a Doc, as a metric compares them, with their scores.

        doc (Doc): The Doc.
        metric (str): The metric.
        RETURNS (list[tuple[Key, float | None]]): The relations and their scores.
        """
        cfg = self.pipe.cfg
        relations = ComparableDoc(doc).relations(
            cfg["relations_key"], cfg["negative_label"], cfg["symmetric"]
        )
        strict = metric.startswith("rel_strict")
        return [(r.strict if strict else r.plain, r.relation.score) for r in relations]


def predict_examples(
    nlp: Language, target: RelationComponent, examples: Iterator[Example], metric: str
) -> Iterator[tuple[Example, list[Key]]]:
    """Predict the Docs of Examples.

    nlp (Language): The pipeline.
    target (RelationComponent): Its component; no other runs after it.
    examples (Iterator[Example]): Gold Docs, and Docs for the pipeline.
    metric (str): The metric that compares relations.
    YIELDS (tuple[Example, list[Key]]): Each Example as the component's `score` gets it, and the relations
        of its predicted Doc that were there before.
    """
    names = nlp.pipe_names
    pipe = target.pipe
    with nlp.select_pipes(disable=names[names.index(target.name) :]):
        while batch := list(islice(examples, BATCH)):
            docs = list(nlp.pipe([example.predicted for example in batch]))
            for example, doc in zip(batch, docs, strict=True):
                example.predicted = doc
            kept: list[list[Key]] = [[] for _ in batch]
            if pipe.cfg.get("score_pairs") == "gold":
                batch = list(pipe.classify_gold(batch))
            else:
                if pipe.cfg.get("existing") == "extend":
                    kept = [[key for key, _ in target.keys(doc, metric)] for doc in docs]
                pipe.set_annotations(docs, pipe.predict(docs))
            yield from zip(batch, kept, strict=True)


def relation_component(nlp: Language, name: str | None) -> RelationComponent:
    """Return a component that predicts relations.

    nlp (Language): The pipeline.
    name (str | None): Name of the component; None for the only one there is.
    RETURNS (RelationComponent): The component.
    RAISES (ConversionError): If it is none that predicts relations, or there is not just one.
    """
    # Heavy imports wait until they are needed: spaCy loads this module for every command.
    from ..relation_classifier.component import RelationClassifier
    from ..span_relation.component import SpanRelation

    kinds = (SpanRelation, RelationClassifier)
    fitting = [other for other, pipe in nlp.pipeline if isinstance(pipe, kinds)]
    if name is None:
        if len(fitting) != 1:
            raise argument_error(
                "--component",
                f"none, and {len(fitting)} components with a threshold in the pipeline",
                "the name of one" + (f": {', '.join(fitting)}" if fitting else ""),
            )
        name = fitting[0]
    pipe = named_component(nlp, name)
    if isinstance(pipe, SpanRelation):
        setting = "relation_threshold"
        metrics = ["rel_strict_f", "rel_f", "rel_strict_macro_f", "rel_macro_f"]
    elif isinstance(pipe, RelationClassifier):
        setting = "threshold"
        metrics = ["rel_f", "rel_macro_f"]
        if any(label != without_direction(label) for label in pipe.labels):
            metrics.append("rel_semeval_macro_f")
    else:
        raise argument_error("--component", repr(name), "a component that finds relations")
    weights = nlp.config["training"]["score_weights"]
    metric = max(metrics, key=lambda score: weights.get(score) or 0.0)
    return RelationComponent(name, pipe, setting, tuple(metrics), metric)
