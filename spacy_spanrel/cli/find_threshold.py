"""`python -m spacy spanrel find-threshold`: from which score on a relation is believed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, cast

import spacy
import typer
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from tqdm import tqdm

from ..errors import Errors
from ..reading import argument_error
from ..scoring.thresholds import Average, Key, ThresholdSweep
from ..training.corpus import read_examples
from ._app import Printer, app, nothing_written
from ._thresholds import named_component, output_folder, store_threshold

# Thresholds that are shown beside the old and the new one.
SHOWN = tuple(i / 10 for i in range(10))
# Docs that are predicted together.
_BATCH = 256


@dataclass(frozen=True)
class ThresholdRow:
    """What a threshold gives.

    threshold (float): The threshold.
    found (int): Relations found.
    precision, recall, f1 (float): Micro averages, from 0 to 1.
    score (float): The metric.
    """

    threshold: float
    found: int
    precision: float
    recall: float
    f1: float
    score: float


@dataclass(frozen=True)
class RelationThreshold:
    """What the command found.

    component (str), setting (str): Whose threshold it is, and its name in `cfg`.
    metric (str): The score that it makes best.
    before, after (ThresholdRow): With the threshold of the pipeline, and the best one.
    others (tuple[ThresholdRow, ...]): With 0, 0.1, ..., 0.9.
    docs, relations (int): Gold Docs and relations.
    """

    component: str
    setting: str
    metric: str
    before: ThresholdRow
    after: ThresholdRow
    others: tuple[ThresholdRow, ...]
    docs: int
    relations: int


# Relations of a Doc as its component's scorer compares them, and their scores.
ScoredKeys = list[tuple[Key, float | None]]


@dataclass(frozen=True)
class _Target:
    """What the command needs to know of a component.

    setting (str): Name of the threshold in `cfg`.
    metrics (tuple[str, ...]): Scores that it may be chosen by, the usual one first.
    keys (Callable): Reads the relations of a Doc, for a metric.
    """

    name: str
    pipe: Any
    setting: str
    metrics: tuple[str, ...]
    keys: Callable[[Doc, str], ScoredKeys]


@app.command("find-threshold", no_args_is_help=True)
def find_threshold_cli(
    model: Annotated[str, typer.Argument(help="Folder or package name of the pipeline")],
    corpus: Annotated[Path, typer.Argument(help="The .spacy file with gold relations")],
    component: Annotated[
        str | None,
        typer.Option("--component", "-c", help="Name of the component; needed if there are two"),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            "-m",
            help="rel_f, rel_macro_f, rel_strict_f or rel_strict_macro_f (span_relation's, if not "
            "given: rel_strict_f; relation_classifier has the first two)",
        ),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--inputs",
            "-i",
            help="Gold annotation that the pipeline is given: ents, or a span group (may be repeated)",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the pipeline with it")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-F", help="Store it in MODEL, which must be a folder")
    ] = False,
) -> None:
    """Find the threshold on the scores of relations that gives the best F1.

    The pipeline predicts once, with threshold 0, and every threshold that makes a difference is
    tried on the scores: relation_threshold of span_relation, threshold of relation_classifier. The
    result is the middle of the widest range of best thresholds, and gives in `spacy evaluate` the
    score that is printed. The corpus should be development data. Without --output or --overwrite
    the threshold is only printed.

    Examples:

    \b
    $ python -m spacy spanrel find-threshold training/model-best dev.spacy
    $ python -m spacy spanrel find-threshold training/model-best dev.spacy -m rel_f -o model
    """
    try:
        found = find_threshold(
            model,
            corpus,
            component=component,
            metric=metric,
            inputs=inputs or (),
            output=output,
            overwrite=overwrite,
        )
    except (OSError, ValueError) as error:
        nothing_written(output or Path(model), error)
    msg = Printer()
    rows = [("", row) for row in found.others]
    rows += [("before", found.before), ("after", found.after)]
    msg.table(
        [
            (
                name,
                f"{row.threshold:.4f}",
                str(row.found),
                *(f"{100 * x:.2f}" for x in (row.precision, row.recall, row.f1, row.score)),
            )
            for name, row in rows
        ],
        header=("", "threshold", "found", "P", "R", "F1", found.metric),
        divider=True,
        aligns=("l", *"rrrrrr"),
    )
    msg.text(
        f"{found.setting} = {found.after.threshold!r} ({found.relations} gold relations in "
        f"{found.docs} Docs)"
    )
    if output is not None or overwrite:
        msg.good(f"Saved pipeline to {output or model}")


def find_threshold(
    model: str | Path,
    corpus: str | Path,
    *,
    component: str | None = None,
    metric: str | None = None,
    inputs: Iterable[str] = (),
    output: str | Path | None = None,
    overwrite: bool = False,
) -> RelationThreshold:
    """Find the best threshold of a relation component, and save it if that is asked for.

    model (str | Path): The pipeline: its folder, or its package's name.
    corpus (str | Path): The `.spacy` file, or a folder of such files.
    component (str | None): Name of the component; None for the only one there is.
    metric (str | None): Score to be made best; None for "rel_strict_f" of `span_relation` and
        "rel_f" of `relation_classifier`.
    inputs (Iterable[str]): Gold annotation that the pipeline is given, as in
        "spacy-spanrel.Corpus.v1".
    output (str | Path | None): New folder for the pipeline with the threshold.
    overwrite (bool): Save it in the folder from which it was loaded.
    RETURNS (RelationThreshold): The threshold, and the scores before and after.
    RAISES (ConversionError): If an argument does not fit.
    RAISES (ValueError): If the corpus has no gold relations, or none of them is found.
    RAISES (OSError): If there is no such pipeline or corpus, or the output exists.
    """
    folder = output_folder(str(model), output, overwrite)
    nlp = spacy.load(model)
    target = _find_target(nlp, component)
    metric = metric or target.metrics[0]
    if metric not in target.metrics:
        raise argument_error("--metric", repr(metric), "one of " + ", ".join(target.metrics))
    average: Average = "macro" if "_macro_" in metric else "micro"
    old = float(target.pipe.cfg[target.setting])
    target.pipe.cfg[target.setting] = 0.0
    sweep, n_docs = ThresholdSweep(), 0
    examples = read_examples(corpus, nlp, inputs)
    for example, fixed in tqdm(
        _predictions(nlp, target, examples, metric), unit="docs", disable=None, delay=1.0
    ):
        gold = [key for key, _ in target.keys(example.reference, metric)]
        found = target.keys(example.predicted, metric)
        certain = [(key, math.inf) for key in fixed]
        # Relations without a score are nobody's guess.
        sweep.add(gold, [*certain, *((k, math.inf if s is None else s) for k, s in found)])
        n_docs += 1
    if not sweep.gold:
        key = target.pipe.cfg["relations_key"]
        raise ValueError(Errors.E942.format(path=corpus, key=key, n=n_docs))
    threshold = sweep.best(average)
    if not sweep.score(threshold, average):
        raise ValueError(
            Errors.E943.format(
                name=target.name, path=corpus, n=sweep.gold.total(), found=_row(sweep, 0.0).found
            )
        )
    result = RelationThreshold(
        component=target.name,
        setting=target.setting,
        metric=metric,
        before=_row(sweep, old, average),
        after=_row(sweep, threshold, average),
        others=tuple(_row(sweep, shown, average) for shown in SHOWN),
        docs=n_docs,
        relations=sweep.gold.total(),
    )
    store_threshold(nlp, target.name, target.setting, threshold, folder)
    return result


def _row(sweep: ThresholdSweep, threshold: float, average: Average = "micro") -> ThresholdRow:
    micro = sweep.counts(threshold).micro
    return ThresholdRow(
        threshold,
        micro.tp + micro.fp,
        micro.precision,
        micro.recall,
        micro.fscore,
        sweep.score(threshold, average),
    )


def _predictions(
    nlp: Language, target: _Target, examples: Iterator[Example], metric: str
) -> Iterator[tuple[Example, list[Key]]]:
    """Yield Examples as the component's `score` sees them, and which relations were there before."""
    names = nlp.pipe_names
    pipe = target.pipe
    with nlp.select_pipes(disable=names[names.index(target.name) :]):
        while batch := list(islice(examples, _BATCH)):
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


def _find_target(nlp: Language, name: str | None) -> _Target:
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
        metrics = ("rel_strict_f", "rel_f", "rel_strict_macro_f", "rel_macro_f")
        return _Target(name, pipe, "relation_threshold", metrics, _span_keys(pipe.cfg))
    if isinstance(pipe, RelationClassifier):
        return _Target(name, pipe, "threshold", ("rel_f", "rel_macro_f"), _pair_keys(pipe.cfg))
    raise argument_error("--component", repr(name), "a component that finds relations")


def _span_keys(cfg: dict[str, Any]) -> Callable[[Doc, str], ScoredKeys]:
    from ..scoring.relations import Annotations

    def keys(doc: Doc, metric: str) -> ScoredKeys:
        undirected = frozenset(cfg["symmetric"])
        found = Annotations(doc, cfg["spans_key"], cfg["relations_key"], undirected)
        rows = found.strict_relations if metric.startswith("rel_strict") else found.relations
        return list(zip(rows, found.scores, strict=True))

    return keys


def _pair_keys(cfg: dict[str, Any]) -> Callable[[Doc, str], ScoredKeys]:
    from ..scoring.relations import labelled_pairs

    def keys(doc: Doc, metric: str) -> ScoredKeys:
        undirected = frozenset(cfg["symmetric"])
        pairs = labelled_pairs(doc, cfg["relations_key"], cfg["negative_label"], undirected)
        return cast(ScoredKeys, pairs)

    return keys
