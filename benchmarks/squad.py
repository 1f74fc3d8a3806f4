"""SQuAD scores of `extractive_qa`, one row a recipe.

    python benchmarks/squad.py --train ../shared/data/squad/en-v2-train.json \
        --dev ../shared/data/squad/en-v2-dev.json --variants "3 epochs" --seeds 1

Each recipe trains with `spacy train` and the configs `configs/extractive_qa_minilm.cfg` and, after
questions that were made from the texts, `configs/extractive_qa_continue.cfg`. The last model is scored
on dev with the official metric. Results are appended to `--output` as JSON lines,
so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import spacy
from spacy.cli.train import train
from spacy.tokens import DocBin
from spacy.training import Corpus

from spacy_spanrel import get_questions
from spacy_spanrel.cli import make_questions
from spacy_spanrel.converters import squad_to_docs

CONFIGS = Path(__file__).parent.parent / "configs"
CONFIG = CONFIGS / "extractive_qa_minilm.cfg"
CONTINUE = CONFIGS / "extractive_qa_continue.cfg"
PIPE = "components.extractive_qa"
SCORES = (
    "qa_exact",
    "qa_f1",
    "qa_has_ans_exact",
    "qa_has_ans_f1",
    "qa_no_ans_exact",
    "qa_no_ans_f1",
    "qa_best_exact",
    "qa_best_f1",
)
BATCH = 16


@dataclass(frozen=True)
class Recipe:
    """How a reader is trained.

    epochs (int), learn_rate (float), head_learn_rate (float | None): On people's questions.
    plausible_weight (float): In this.
    casing (bool): A setting of the architecture.
    made (Recipe | None): How it was trained before, on questions that are made from the texts.
    """

    epochs: int
    learn_rate: float
    head_learn_rate: float | None = None
    plausible_weight: float = 0.0
    casing: bool = False
    made: Recipe | None = None


VARIANTS = {
    # The recipes of the baselines.
    "3 epochs": Recipe(3, 1e-4),
    "6 epochs": Recipe(6, 3e-4),
    # The configs extractive_qa_minilm.cfg and extractive_qa_continue.cfg, one after the other.
    "made questions, then 6 epochs": Recipe(
        6, 2e-4, 5e-4, 0.25, casing=True, made=Recipe(1, 3e-4, 1e-3, 1.0, casing=True)
    ),
}


def overrides(recipe: Recipe, n_questions: int) -> dict[str, Any]:
    """Overrides of a config: a linear schedule with 10 % warm-up."""
    per_epoch = -(-n_questions // BATCH)
    steps = recipe.epochs * per_epoch
    schedule = {"@schedules": "warmup_linear.v1", "warmup_steps": steps // 10, "total_steps": steps}
    rate = recipe.head_learn_rate
    heads = None if rate is None else {**schedule, "initial_rate": rate}
    return {
        "training.max_epochs": recipe.epochs,
        "training.eval_frequency": per_epoch,
        "training.batcher.size": BATCH,
        "training.optimizer.learn_rate": {**schedule, "initial_rate": recipe.learn_rate},
        "training.optimizer.head_learn_rate": heads,
        "training.logger": {"@loggers": "spacy.ConsoleLogger.v1", "progress_bar": False},
    }


def count_questions(path: Path) -> int:
    vocab = spacy.blank("en").vocab
    return sum(len(get_questions(doc)) for doc in DocBin().from_disk(path).get_docs(vocab))


def train_reader(recipe: Recipe, seed: int, paths: dict[str, Path], folder: Path) -> Path:
    """Train one recipe with one seed.

    paths (dict): Training ("train") and dev ("dev") questions.
    folder (Path): For what is made on the way.
    RETURNS (Path): The pipeline.
    """
    settings = {"paths.train": str(paths["train"]), "paths.dev": str(paths["dev"])}
    settings |= {"system.seed": seed, **overrides(recipe, count_questions(paths["train"]))}
    config = CONFIG
    if recipe.made is None:
        settings[f"{PIPE}.model.casing"] = recipe.casing
        settings[f"{PIPE}.plausible_weight"] = recipe.plausible_weight
    else:
        config, made = CONTINUE, folder / "made.spacy"
        make_questions(paths["train"], made)
        before = train_reader(recipe.made, seed, {**paths, "train": made}, folder / "made")
        changed = {"components": {"extractive_qa": {"plausible_weight": recipe.plausible_weight}}}
        spacy.load(before, config=changed).to_disk(folder / "reader")
        settings["paths.reader"] = str(folder / "reader")
    train(config, folder / "trained", overrides=settings)
    return folder / "trained" / "model-last"


def run(variant: str, seed: int, paths: dict[str, Path]) -> dict[str, Any]:
    """Train one recipe with one seed, and score it on dev."""
    recipe = VARIANTS[variant]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        model = train_reader(recipe, seed, paths, Path(folder))
        seconds = time.perf_counter() - start
        nlp = spacy.load(model)
        scores = nlp.evaluate(list(Corpus(paths["dev"])(nlp)))
    return {
        "variant": variant,
        "seed": seed,
        "epochs": recipe.epochs,
        "learn_rate": recipe.learn_rate,
        "head_learn_rate": recipe.head_learn_rate,
        "train_seconds": round(seconds),
        **{key: 100 * scores[key] for key in SCORES},
    }


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table of means over seeds."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["variant"], []).append(row)
    names = [key.removeprefix("qa_") for key in SCORES]
    lines = [
        f"| recipe | epochs | seeds | {' | '.join(names)} |",
        "|---|" + "---|" * (len(SCORES) + 2),
    ]
    for variant, found in groups.items():
        cells = [f"{statistics.mean(row[key] for row in found):.2f}" for key in SCORES]
        lines.append(f"| {variant} | {found[0]['epochs']} | {len(found)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--train", type=Path, required=True, help="SQuAD JSON")
    parser.add_argument("--dev", type=Path, required=True, help="SQuAD JSON")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--output", type=Path, default=Path("metrics/squad_benchmark.jsonl"))
    args = parser.parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    if args.output.exists():
        rows = [json.loads(line) for line in args.output.read_text().splitlines()]
    done = {(row["variant"], row["seed"]) for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for part, source in (("train", args.train), ("dev", args.dev)):
            paths[part] = Path(folder) / f"{part}.spacy"
            DocBin(docs=squad_to_docs(source)).to_disk(paths[part])
        for variant in args.variants:
            for seed in args.seeds:
                if (variant, seed) in done:
                    continue
                row = run(variant, seed, paths)
                rows.append(row)
                with args.output.open("a") as out:
                    out.write(json.dumps(row) + "\n")
                print(table(rows), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
