"""Settings that are chosen by the predictions on a corpus: loading, predicting and saving."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from ..files import check_folder, save_whole
from ..reading import argument_error
from ..scoring.counts import without_direction
from ..scoring.thresholds import Key

OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="New folder for the pipeline with the new settings"),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", "-F", help="Store the new settings in MODEL, a folder")
]
# Docs that are predicted together.
BATCH = 256

# The keys by which a component's scorer compares the relations of a Doc, and their scores.
ScoredKeys = list[tuple[Key, float | None]]


def output_folder(
    model: str | Path, corpus: str | Path, output: str | Path | None, overwrite: bool
) -> Path | None:
    """Return the folder to save the pipeline in, None to save nothing.

    RAISES (ValueError, FileExistsError): If the arguments contradict each other, or something would
        be overwritten.
    """
    if output is not None and overwrite:
        raise argument_error("--overwrite", f"--output {output}", "one of the two")
    if overwrite:
        if not Path(model).is_dir():
            raise argument_error("--overwrite", f"MODEL '{model}'", "the folder of a pipeline")
        check_folder(model, corpus)
        return Path(model)
    if output is None:
        return None
    if os.path.lexists(output):
        raise FileExistsError(f"{output} exists already. Choose another folder.")
    check_folder(output, model, corpus)
    return Path(output)


def named_component(nlp: Language, name: str) -> Any:
    """Return a component. RAISES (ConversionError): If there is none of that name."""
    if name not in nlp.pipe_names:
        names = ", ".join(nlp.pipe_names) or "(none)"
        raise argument_error("--component", repr(name), f"one of {names}")
    return nlp.get_pipe(name)


def store_settings(
    nlp: Language, component: str, settings: Mapping[str, Any], folder: Path | None
) -> None:
    """Change settings of a component, and save the pipeline if there is a folder to save it in."""
    nlp.get_pipe(component).cfg.update(settings)  # type: ignore[attr-defined]
    # So that config.cfg says the same, and training that continues from it starts with it.
    nlp.get_pipe_config(component).update(settings)
    if folder is not None:
        save_whole(nlp, folder)


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
        """Return the relations of a Doc, as a metric compares them, with their scores."""
        from ..scoring.relations import ComparableDoc

        cfg = self.pipe.cfg
        relations = ComparableDoc(doc).relations(
            cfg["relations_key"], cfg["negative_label"], cfg["symmetric"]
        )
        strict = metric.startswith("rel_strict")
        return [(r.strict if strict else r.plain, r.relation.score) for r in relations]


def predict_examples(
    nlp: Language, target: RelationComponent, examples: Iterator[Example], metric: str
) -> Iterator[tuple[Example, list[Key]]]:
    """Yield Examples as the component's `score` gets them, and the relations that were there before."""
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
