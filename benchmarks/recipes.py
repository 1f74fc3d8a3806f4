"""Training with several recipes and seeds, shared by the benchmarks that measure scores."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from timing import write_rows

Row = dict[str, Any]


def linear_schedule(
    epochs: int, batch: int, n_items: int, lr: float, head_lr: float | None
) -> dict[str, Any]:
    """Return config overrides for a linear schedule with 10 % warm-up and a score after each epoch.

    epochs (int), batch (int), n_items (int): Epochs, batch size and number of training items.
    lr (float): Peak learning rate of the encoder.
    head_lr (float | None): Peak learning rate of the heads; None for that of the encoder.
    RETURNS (dict[str, Any]): Overrides.
    """
    per_epoch = -(-n_items // batch)
    steps = epochs * per_epoch
    schedule = {"@schedules": "warmup_linear.v1", "warmup_steps": steps // 10, "total_steps": steps}
    heads = None if head_lr is None else {**schedule, "initial_rate": head_lr}
    return {
        "training.max_epochs": epochs,
        "training.eval_frequency": per_epoch,
        "training.batcher.size": batch,
        "training.optimizer.learn_rate": {**schedule, "initial_rate": lr},
        "training.optimizer.head_learn_rate": heads,
        "training.logger": {"@loggers": "spacy.ConsoleLogger.v1", "progress_bar": False},
    }


def make_parser(
    description: str, variants: Collection[str], seeds: Sequence[int], output: str
) -> argparse.ArgumentParser:
    """Return a parser with `--variants`, `--seeds` and `--output`."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--variants", nargs="+", default=list(variants), choices=list(variants))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(seeds))
    parser.add_argument("--output", type=Path, default=Path(output))
    return parser


def run_all(
    args: argparse.Namespace,
    run: Callable[[str, int], list[Row]],
    keys: Mapping[str, str],
    columns: Mapping[str, str],
    **common: Any,
) -> None:
    """Train all variants and seeds without rows in the output, and print the table after each.

    args (Namespace): From `make_parser`.
    run (Callable[[str, int], list[Row]]): Trains and scores a variant with a seed.
    keys, columns (Mapping[str, str]): As in `seeds_table`.
    **common (Any): Values of columns that a row must have to count as done.
    """
    rows: list[Row] = []
    if args.output.exists():
        rows = [json.loads(line) for line in args.output.read_text().splitlines()]
    done = {
        (row["variant"], row["seed"])
        for row in rows
        if all(row[key] == value for key, value in common.items())
    }
    for variant in args.variants:
        for seed in args.seeds:
            if (variant, seed) in done:
                continue
            new_rows = run(variant, seed)
            rows += new_rows
            write_rows(args.output, new_rows, mode="a")
            print(seeds_table(rows, keys, columns), flush=True)
    print(seeds_table(rows, keys, columns))


def groups_of(rows: Iterable[Row], *columns: str) -> dict[tuple[Any, ...], list[Row]]:
    """Group rows that have the same values in some columns."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in columns), []).append(row)
    return groups


def seeds_table(rows: Iterable[Row], keys: Mapping[str, str], columns: Mapping[str, str]) -> str:
    """Return a Markdown table of means and standard deviations over seeds.

    rows (Iterable[dict]): One row for each seed.
    keys (Mapping[str, str]): Headings, and columns of the rows in which the seeds of a recipe agree.
    columns (Mapping[str, str]): Headings, and columns of which to give the mean.
    RETURNS (str): The table.
    """
    lines = [
        f"| {' | '.join(keys)} | seeds | {' | '.join(columns)} |",
        "|---" * (len(keys) + 1 + len(columns)) + "|",
    ]
    for values, group in groups_of(rows, *keys.values()).items():
        cells = [*map(str, values), str(len(group))]
        cells += [mean_and_spread(group, column) for column in columns.values()]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def mean_and_spread(rows: Sequence[Row], column: str) -> str:
    """Return the mean of a column, and its standard deviation if there are several rows."""
    values = [row[column] for row in rows]
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"
