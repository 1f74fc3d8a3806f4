"""`python -m spacy spanrel find-threshold` and `find-null-threshold`: thresholds with the best F1, or
with a precision that one can rely on.

Both predict the corpus once and try every threshold that makes a difference on the scores of that
prediction. `spacy find-threshold` works with our components too, but predicts anew for each of a few
evenly spaced values, must be told setting and score, and only prints the result.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import spacy
import typer
from spacy.language import Language
from spacy.training import Example
from tqdm import tqdm

from ..annotations import QA_KEY
from ..errors import Errors
from ..pairing import threshold_table
from ..reading import Place, argument_error
from ..scoring.answers import best_null_threshold, gather_answers, squad_scores
from ..scoring.counts import Counts
from ..scoring.thresholds import Average, Key, ThresholdSweep
from ..settings import survives_as_table
from ..training.corpus import read_examples
from ._app import GoldInputs, Model, Printer, app, failing_with
from ._tuning import (
    OutputOption,
    OverwriteOption,
    RelationComponent,
    named_component,
    output_folder,
    predict_examples,
    relation_component,
    store_settings,
)

NULL_THRESHOLD = "null_threshold"
# Thresholds to print beside the old and the new one.
PRINTED = tuple(i / 10 for i in range(10))
# Gold relations that a label must have in the corpus to get a threshold of its own.
MIN_EXAMPLES = 10


@dataclass(frozen=True)
class ThresholdRow:
    """A threshold and the scores that it gives.

    threshold (float): The threshold.
    found (int): Number of predicted relations.
    precision, recall, f1 (float): Micro averages, from 0 to 1.
    score (float): The metric by which the threshold is chosen.
    """

    threshold: float
    found: int
    precision: float
    recall: float
    f1: float
    score: float


@dataclass(frozen=True)
class LabelThreshold:
    """The threshold of one label.

    label (str): The label.
    examples (int): Number of its gold relations.
    row (ThresholdRow): Its threshold, and the scores of its relations with it.
    kept (str): The reason for which the label keeps the threshold that it had; "" if it has a new one.
    """

    label: str
    examples: int
    row: ThresholdRow
    kept: str = ""


@dataclass(frozen=True)
class RelationThreshold:
    """The result of `find_threshold`.

    component (str), setting (str): The component, and the name of its threshold in `cfg`.
    metric (str): The score that the threshold maximizes.
    before, after (ThresholdRow): Scores with the thresholds of the pipeline, and with the new ones.
    others (tuple[ThresholdRow, ...]): Scores with 0, 0.1, ..., 0.9; none with `per_label`.
    docs, relations (int): Number of gold Docs and relations.
    thresholds (dict[str, float]): The thresholds of single labels after that.
    labels (tuple[LabelThreshold, ...]): With `per_label`, each label, in alphabetical order.
    """

    component: str
    setting: str
    metric: str
    before: ThresholdRow
    after: ThresholdRow
    others: tuple[ThresholdRow, ...]
    docs: int
    relations: int
    thresholds: Mapping[str, float]
    labels: tuple[LabelThreshold, ...] = ()


@dataclass(frozen=True)
class NullThreshold:
    """The result of `find_null_threshold`.

    before, after (float): The threshold of the pipeline, and the best one.
    exact_before, f1_before, exact_after, f1_after (float): Scores with each of them, in percent.
    questions (int): Number of gold questions.
    """

    before: float
    after: float
    exact_before: float
    f1_before: float
    exact_after: float
    f1_after: float
    questions: int


# The commands


@app.command("find-threshold", no_args_is_help=True)
def find_threshold_cli(
    model: Model,
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
            help="rel_f, rel_macro_f; for span_relation also rel_strict_f or rel_strict_macro_f, for "
            "relation_classifier with labels that name a direction also rel_semeval_macro_f (default: "
            "the one with most weight in [training.score_weights])",
        ),
    ] = None,
    per_label: Annotated[
        bool,
        typer.Option("--per-label", "-l", help="Find a threshold for each label, in `thresholds`"),
    ] = False,
    precision: Annotated[
        float | None,
        typer.Option(
            "--precision",
            "-p",
            min=0.0,
            max=1.0,
            help="Find the smallest threshold with this precision, not the best F1",
        ),
    ] = None,
    min_examples: Annotated[
        int,
        typer.Option(
            "--min-examples",
            min=1,
            help="With --per-label: gold relations that a label must have in CORPUS; others keep "
            "their threshold",
        ),
    ] = MIN_EXAMPLES,
    inputs: GoldInputs = None,
    output: OutputOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Find the threshold on the scores of relations that gives the best F1, or a given precision.

    The threshold is relation_threshold of span_relation or threshold of relation_classifier. Unlike
    `spacy find-threshold`, which predicts anew for each of some evenly spaced values and only prints,
    this command predicts once, tries every threshold that makes a difference, and can save the best
    one: the middle of the widest range of best thresholds. `spacy evaluate` then gives the printed
    score. Use development data as CORPUS. Without --output or --overwrite the threshold is only
    printed.

    With --per-label each label gets a threshold of its own, which maximizes F1 of the label or, with
    --precision, is the smallest one whose precision on CORPUS reaches the target. Labels with few gold
    relations, or whose precision no threshold can raise so far, keep the threshold that they have;
    they are listed.

    Examples:

    \b
    $ python -m spacy spanrel find-threshold training/model-best dev.spacy
    $ python -m spacy spanrel find-threshold training/model-best dev.spacy -m rel_f -o model
    $ python -m spacy spanrel find-threshold training/model-best dev.spacy --per-label -p 0.9 -o model
    """
    with failing_with(f"Nothing written to {output or model}"):
        result = find_threshold(
            model,
            corpus,
            component=component,
            metric=metric,
            per_label=per_label,
            precision=precision,
            min_examples=min_examples,
            inputs=inputs or (),
            output=output,
            overwrite=overwrite,
        )
    rows = [("", row, [row.score]) for row in result.others]
    rows += [(each.label, each.row, []) for each in result.labels]
    rows += [("before", result.before, [result.before.score])]
    rows += [("after", result.after, [result.after.score])]
    kept = [f"{each.label} ({each.kept})" for each in result.labels if each.kept]
    summary = f"{result.setting} = {result.after.threshold!r}"
    if result.thresholds:
        values = ", ".join(f"{label} = {value:.4f}" for label, value in result.thresholds.items())
        summary += f"; thresholds: {values}"
    summary += f" ({result.relations} gold relations in {result.docs} Docs)"
    if kept:
        summary += "\nThreshold as before: " + ", ".join(kept)
    _print_result(
        ("", "threshold", "found", "P", "R", "F1", result.metric),
        [
            (
                name,
                f"{row.threshold:.4f}",
                str(row.found),
                *(f"{100 * x:.2f}" for x in (row.precision, row.recall, row.f1, *scores)),
                *[""] * (1 - len(scores)),
            )
            for name, row, scores in rows
        ],
        summary,
        output or (model if overwrite else None),
    )


@app.command("find-null-threshold", no_args_is_help=True)
def find_null_threshold_cli(
    model: Model,
    corpus: Annotated[Path, typer.Argument(help="The .spacy file with gold questions and answers")],
    output: OutputOption = None,
    overwrite: OverwriteOption = False,
    component: Annotated[
        str, typer.Option("--component", "-c", help="Name of the component")
    ] = "extractive_qa",
) -> None:
    """Find the null threshold that gives the best F1.

    A question has no answer if its null score exceeds the score of the best answer by more than the
    threshold. The pipeline answers the gold questions of CORPUS; use development data in which some
    questions have no answer. Without --output or --overwrite the threshold is only printed.

    Examples:

    \b
    $ python -m spacy spanrel find-null-threshold training/model-best dev.spacy
    $ python -m spacy spanrel find-null-threshold training/model-best dev.spacy -o model
    """
    with failing_with(f"Nothing written to {output or model}"):
        result = find_null_threshold(
            model, corpus, component=component, output=output, overwrite=overwrite
        )
    rows = [
        ("before", result.before, result.exact_before, result.f1_before),
        ("after", result.after, result.exact_after, result.f1_after),
    ]
    _print_result(
        ("", "threshold", "exact", "F1"),
        [(name, f"{value:.4f}", f"{exact:.2f}", f"{f1:.2f}") for name, value, exact, f1 in rows],
        f"{NULL_THRESHOLD} = {result.after!r} ({result.questions} questions)",
        output or (model if overwrite else None),
    )


def _print_result(
    header: tuple[str, ...], rows: list[tuple[str, ...]], summary: str, saved: str | Path | None
) -> None:
    msg = Printer()
    aligns = ("l", *"r" * (len(header) - 1))
    msg.table(rows, header=header, divider=True, aligns=aligns)
    msg.text(summary)
    if saved is not None:
        msg.good(f"Saved pipeline to {saved}")


# Loading and saving


# Relations


def find_threshold(
    model: str | Path,
    corpus: str | Path,
    *,
    component: str | None = None,
    metric: str | None = None,
    per_label: bool = False,
    precision: float | None = None,
    min_examples: int = MIN_EXAMPLES,
    inputs: Iterable[str] = (),
    output: str | Path | None = None,
    overwrite: bool = False,
) -> RelationThreshold:
    """Find the best threshold of a component that predicts relations, or one for each label, and save
    it if asked to.

    model (str | Path): Folder or package name of the pipeline.
    corpus (str | Path): A `.spacy` file, or a folder of such files.
    component (str | None): Name of the component; None for the only one there is.
    metric (str | None): Score to maximize; None for the one that has most weight in
        `[training.score_weights]` of the pipeline's config: by default "rel_strict_f" of `span_relation`
        and "rel_f" of `relation_classifier`. A threshold for a single label maximizes F1 of the label.
    per_label (bool): Find a threshold for each label: the setting `thresholds`. The common threshold
        stays as it is.
    precision (float | None): Find the smallest threshold whose precision on the corpus reaches this,
        not the one with the best F1.
    min_examples (int): With `per_label`, the smallest number of gold relations of a label that gets a
        threshold of its own. Other labels keep the one that they have.
    inputs (Iterable[str]): Gold annotation that the pipeline is given, as in
        "spacy-spanrel.Corpus.v1".
    output (str | Path | None): New folder for the pipeline with the threshold.
    overwrite (bool): Save the pipeline in the folder from which it was loaded.
    RETURNS (RelationThreshold): The threshold, and the scores before and after.
    RAISES (ConversionError): If an argument does not fit.
    RAISES (ValueError): If the corpus has no gold relations, none of them is predicted, or no common
        threshold reaches the precision.
    RAISES (OSError): If there is no such pipeline or corpus, or the output exists.
    """
    folder = output_folder(model, corpus, output, overwrite)
    nlp = spacy.load(model)
    target = relation_component(nlp, component)
    metric = metric or target.metric
    if metric not in target.metrics:
        raise argument_error("--metric", repr(metric), "one of " + ", ".join(target.metrics))
    average: Average = "macro" if "_macro_" in metric else "micro"
    if "_semeval_" in metric:
        average = "semeval"
    cfg = target.pipe.cfg
    old, setting = float(cfg[target.setting]), cfg["thresholds"]
    old_table = threshold_table(setting)
    cfg[target.setting] = 0.0
    # The common threshold removes no relation whose label has a threshold of its own.
    fixed_labels = set() if per_label else set(old_table)
    if per_label:
        cfg["thresholds"] = []
    sweep, n_docs = _sweep(nlp, target, read_examples(corpus, nlp, inputs), metric, fixed_labels)
    if not sweep.gold:
        key = target.pipe.cfg["relations_key"]
        raise ValueError(Errors.E942.format(path=corpus, key=key, n=n_docs))
    if not sweep.score(sweep.best(average), average):
        n, found = sweep.gold.total(), _row(sweep, 0.0).found
        raise ValueError(Errors.E943.format(name=target.name, path=corpus, n=n, found=found))
    threshold, table, labels = old, dict(old_table), []
    if per_label:
        labels = [
            _of_label(sweep, label, precision, min_examples, old_table.get(label, old))
            for label in sweep.labels
        ]
        table.update({each.label: each.row.threshold for each in labels if not each.kept})
    elif precision is None:
        threshold = sweep.best(average)
    else:
        smallest = sweep.precise(precision)
        if smallest is None:
            best = max(_row(sweep, value).precision for value in PRINTED)
            raise ValueError(
                Errors.E937.format(name=target.name, path=corpus, wanted=precision, best=best)
            )
        threshold = smallest
    rows = []
    for value, values in ((old, old_table), (threshold, table)):
        if cfg["rules"]:
            # Declared rules choose among the relations that the thresholds let through.
            cfg.update({target.setting: value, "thresholds": list(values.items())})
            examples = read_examples(corpus, nlp, inputs)
            exact, _ = _sweep(nlp, target, examples, metric, fixed_labels=None)
            rows.append(_row(exact, value, average))
        else:
            rows.append(_row(sweep, value, average, values if per_label else {}))
    cfg["thresholds"] = setting
    result = RelationThreshold(
        component=target.name,
        setting=target.setting,
        metric=metric,
        before=rows[0],
        after=rows[1],
        others=() if per_label else tuple(_row(sweep, value, average) for value in PRINTED),
        docs=n_docs,
        relations=sweep.gold.total(),
        thresholds=table,
        labels=tuple(labels),
    )
    settings: dict[str, Any] = {target.setting: threshold}
    if per_label:
        is_table = bool(table) and survives_as_table(table)
        settings["thresholds"] = table if is_table else [list(row) for row in table.items()]
    store_settings(nlp, target.name, settings, folder)
    return result


def _sweep(
    nlp: Language,
    target: RelationComponent,
    examples: Iterator[Example],
    metric: str,
    fixed_labels: Collection[str] | None,
) -> tuple[ThresholdSweep, int]:
    """Compare predicted relations with gold ones.

    fixed_labels (Collection[str] | None): Labels whose relations no threshold removes; None for all.
    RETURNS (tuple[ThresholdSweep, int]): The comparison, and the number of Docs.
    """
    sweep, n_docs = ThresholdSweep(), 0
    for example, earlier in tqdm(
        predict_examples(nlp, target, examples, metric), unit="docs", disable=None, delay=1.0
    ):
        gold = [key for key, _ in target.keys(example.reference, metric)]
        # No threshold removes relations that were there before, or that have no score.
        predicted: list[tuple[Key, float]] = [(key, math.inf) for key in earlier]
        for key, score in target.keys(example.predicted, metric):
            if score is None or fixed_labels is None or key[0] in fixed_labels:
                score = math.inf
            predicted.append((key, score))
        sweep.add(gold, predicted)
        n_docs += 1
    return sweep, n_docs


def _row(
    sweep: ThresholdSweep,
    threshold: float,
    average: Average = "micro",
    thresholds: Mapping[str, float] = {},
) -> ThresholdRow:
    score = sweep.score(threshold, average, thresholds)
    return _row_of(threshold, sweep.counts(threshold, thresholds).micro, score)


def _row_of(threshold: float, counts: Counts, score: float) -> ThresholdRow:
    return ThresholdRow(
        threshold,
        counts.tp + counts.fp,
        counts.precision,
        counts.recall,
        counts.fscore,
        score,
    )


def _of_label(
    sweep: ThresholdSweep, label: str, precision: float | None, min_examples: int, old: float
) -> LabelThreshold:
    """Find the threshold of one label; `old` is the one that it has."""
    examples = sweep.gold[label]
    threshold: float | None = None
    if examples < min_examples:
        kept = f"{examples} gold relations"
    elif precision is not None:
        threshold = sweep.precise(precision, label)
        kept = f"no threshold with precision {precision:g}"
    else:
        best = sweep.best(label=label)
        threshold = best if sweep.counts(best).per_label[label].tp else None
        kept = "no gold relation predicted"
    if threshold is not None:
        kept = ""
    value = old if threshold is None else threshold
    counts = sweep.counts(value).per_label[label]
    return LabelThreshold(label, examples, _row_of(value, counts, counts.fscore), kept)


# Answers


def find_null_threshold(
    model: str | Path,
    corpus: str | Path,
    *,
    component: str = "extractive_qa",
    output: str | Path | None = None,
    overwrite: bool = False,
) -> NullThreshold:
    """Find the best null threshold of a pipeline, and save it if asked to.

    model (str | Path): Folder or package name of the pipeline.
    corpus (str | Path): A `.spacy` file, or a folder of such files.
    component (str): Name of the component.
    output (str | Path | None): New folder for the pipeline with the threshold.
    overwrite (bool): Save the pipeline in the folder from which it was loaded.
    RETURNS (NullThreshold): The threshold, and the scores before and after.
    RAISES (ConversionError): If an argument does not fit, or the corpus has no gold answers.
    RAISES (OSError): If there is no such pipeline or corpus, or the output exists.
    """
    folder = output_folder(model, corpus, output, overwrite)
    nlp = spacy.load(model)
    pipe = _question_component(nlp, component)
    key = pipe.cfg.get("qa_key", QA_KEY)
    language = pipe.cfg.get("language")
    answers = gather_answers(pipe.answer_gold(read_examples(corpus, nlp)), key)
    place = Place(str(corpus))
    if not answers.references:
        found, expected = (
            f"no gold answers in doc.spans[{key!r}]",
            "Docs with questions and answers",
        )
        raise place.error(Errors.E609, found=found, expected=expected)
    differences = {name: d for name, d in answers.differences.items() if d is not None}
    if len(differences) < len(answers.differences):
        found, expected = (
            f"answers of '{component}' without scores",
            "answers with logit and null_score",
        )
        raise place.error(Errors.E618, found=found, expected=expected)
    before = squad_scores(answers.references, answers.predictions, language=language)
    threshold, _ = best_null_threshold(
        answers.references, answers.best, differences, language=language
    )
    after = squad_scores(
        answers.references, answers.best, differences, na_threshold=threshold, language=language
    )
    old = float(pipe.cfg[NULL_THRESHOLD])
    store_settings(nlp, component, {NULL_THRESHOLD: threshold}, folder)
    return NullThreshold(
        before=old,
        after=threshold,
        exact_before=before["exact"],
        f1_before=before["f1"],
        exact_after=after["exact"],
        f1_after=after["f1"],
        questions=len(answers.references),
    )


def _question_component(nlp: Language, name: str) -> Any:
    """Return a component with `answer_gold`, and with a null threshold among its settings."""
    pipe = named_component(nlp, name)
    if not hasattr(pipe, "answer_gold") or NULL_THRESHOLD not in getattr(pipe, "cfg", {}):
        raise argument_error("--component", repr(name), "a component that answers questions")
    if pipe.cfg.get("no_answer") is False:
        found = f"{name!r} with no_answer = false"
        expected = "one that may find no answer; set no_answer = true in its config"
        raise argument_error("--component", found, expected)
    return pipe
