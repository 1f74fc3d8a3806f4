"""`python -m spacy spanrel debug-data`: numbers about training data, and advice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from spacy.cli._util import parse_config_overrides

from ..files import check_output, to_json, write_whole
from ._app import Printer, app, failing_with

if TYPE_CHECKING:
    from ..inspection.report import DataReport
    from ..inspection.statistics import CorpusStatistics, Distribution

# Most rows in a table of labels.
_MAX_ROWS = 30


@app.command(
    "debug-data",
    no_args_is_help=True,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def debug_data_cli(
    ctx: typer.Context,
    train: Annotated[
        Path,
        typer.Argument(metavar="TRAIN", help="Training data: a .spacy file, or a folder of them"),
    ],
    dev: Annotated[Path | None, typer.Option("--dev", "-d", help="Development data")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Config of the training, for its settings")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder", "-e", help="Folder or name of an encoder, for lengths in subword pieces"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="JSON file to write all numbers and advice to"),
    ] = None,
) -> None:
    """Check training data before training on it.

    Counts entities, relations, questions and answers, and lists what cannot be learned or predicted:
    spans that are too long, relations across sentences, answers that fit into no window, labels that
    only train or dev has, texts that both have. With a config, its settings and tokenizers are used;
    settings can be overridden as in `spacy train`. The exit code is 1 if training is impossible or a
    file cannot be read.

    Examples:

    \b
    $ python -m spacy spanrel debug-data train.spacy --dev dev.spacy
    $ python -m spacy spanrel debug-data train.spacy -d dev.spacy -c config.cfg --paths.encoder my_bert
    $ python -m spacy spanrel debug-data train.spacy --encoder bert-base-cased -o report.json
    """
    overrides = parse_config_overrides(ctx.args)
    with failing_with("The data could not be checked"):
        report = debug_data(
            train, dev, config=config, overrides=overrides, encoder=encoder, output=output
        )
    print_report(report)
    if output is not None:
        Printer().good(f"Report written to {output}")
    if report.has_errors:
        raise typer.Exit(1)


def debug_data(
    train: str | Path,
    dev: str | Path | None = None,
    *,
    output: str | Path | None = None,
    **arguments: Any,
) -> DataReport:
    """Check training data, and write the report to a file if one is given.

    output (str | Path | None): JSON file.
    Other arguments, results and errors as in `spacy_spanrel.inspection.report.inspect_data`.
    """
    # Heavy imports wait until they are needed: spaCy loads this module for every command.
    from ..inspection.report import inspect_data

    if output is not None:
        check_output(output, train, dev, arguments.get("config"), arguments.get("encoder"))
    report = inspect_data(train, dev, **arguments)
    if output is not None:
        write_whole(output, f"{to_json(report.to_dict(), indent=1)}\n".encode())
    return report


def print_report(report: DataReport) -> None:
    """Print a report as `spacy debug data` does."""
    msg = Printer()
    corpora = [report.train, *([report.dev] if report.dev is not None else [])]
    names = ["train", "dev"][: len(corpora)]
    msg.divider("Data")
    rows: list[tuple[str, list[int]]] = [
        ("Docs", [c.docs for c in corpora]),
        ("Unlabelled Docs", [c.unlabelled_docs for c in corpora]),
        ("Tokens", [sum(v * n for v, n in c.tokens.counts.items()) for c in corpora]),
        ("Entities", [c.entities.total() for c in corpora]),
        ("Docs without entities", [c.docs_without_entities for c in corpora]),
        ("Relations", [c.relations.total() for c in corpora]),
        ("Docs without relations", [c.docs_without_relations for c in corpora]),
        ("Coreference clusters", [c.clusters.n for c in corpora]),
        ("Questions", [c.n_questions for c in corpora]),
        ("Questions without an answer", [c.unanswerable for c in corpora]),
    ]
    _table(msg, ["", *names], [(name, *map(str, values)) for name, values in rows])
    _labels(msg, "Entity types", names, [c.entities for c in corpora])
    _labels(msg, "Relation labels", names, [c.relations for c in corpora])
    pairs = [
        Counter({f"{label} ({head}, {tail})": n for (label, head, tail), n in c.type_pairs.items()})
        for c in corpora
    ]
    _labels(msg, "Relations between types", names, pairs)
    msg.divider("Lengths and distances")
    lengths = [
        (f"{what}, {name}", *_cells(distribution))
        for name, corpus in zip(names, corpora, strict=True)
        for what, distribution in _distributions(corpus)
        if distribution.n
    ]
    _table(msg, ["", "n", "min", "median", "mean", "p95", "max"], lengths)
    show: dict[str, Callable[..., Any]] = {
        "good": msg.good,
        "info": msg.info,
        "warn": msg.warn,
        "error": msg.fail,
    }
    topic = None
    for item in report.advice:
        if item.topic != topic:
            topic = item.topic
            msg.divider(f"Advice: {topic}")
        show[item.level](item.text)
    msg.divider("Summary")
    counts = Counter(item.level for item in report.advice)
    if counts["error"]:
        msg.fail(f"{counts['error']} error(s): this cannot be trained")
    if counts["warn"]:
        msg.warn(f"{counts['warn']} warning(s)")
    if not counts["error"] and not counts["warn"]:
        msg.good("No problems found")


def _distributions(corpus: CorpusStatistics) -> list[tuple[str, Distribution]]:
    distributions = [
        ("Tokens of a Doc", corpus.tokens),
        ("Tokens of an entity", corpus.entity_sizes),
        ("Tokens between arguments", corpus.token_distances),
        ("Sentences between arguments", corpus.sentence_distances),
        ("Mentions of a coreference cluster", corpus.clusters),
        ("Questions of a Doc", corpus.questions),
        ("Tokens of an answer", corpus.answer_sizes),
    ]
    titles = {
        "pieces": "subword pieces of a Doc",
        "windows": "windows",
        "pairs": "pairs of entities in a Doc",
        "rows": "subword pieces of a row",
        "answer_pieces": "subword pieces of an answer",
    }
    for name, numbers in corpus.components.items():
        distributions += [
            (f"{name}: {title}", getattr(numbers, key))
            for key, title in titles.items()
            if hasattr(numbers, key)
        ]
    return distributions


def _cells(distribution: Distribution) -> list[str]:
    values = distribution.to_dict()
    return [str(values[key]) for key in ("n", "min", "median", "mean", "p95", "max")]


def _labels(msg: Printer, title: str, names: list[str], counts: list[Counter[str]]) -> None:
    total = sum(counts, Counter())
    if not total:
        return
    msg.divider(title)
    order = sorted(total, key=lambda label: (-total[label], label))
    _table(
        msg,
        ["", *names],
        [(label or "(none)", *(str(c[label]) for c in counts)) for label in order[:_MAX_ROWS]],
    )
    if len(order) > _MAX_ROWS:
        msg.text(f"... and {len(order) - _MAX_ROWS} more; --output writes all")


def _table(msg: Printer, header: list[str], rows: Iterable[tuple[str, ...]]) -> None:
    aligns = ["l", *"r" * (len(header) - 1)]
    msg.table(list(rows), header=header, divider=True, aligns=aligns, max_col=80)
