"""SQuAD scores of `extractive_qa`, one row a recipe.

    python benchmarks/squad.py --train ../shared/data/squad/en-v2-train.json \
        --dev ../shared/data/squad/en-v2-dev.json --variants "3 epochs" --seeds 1

Each recipe trains with `spacy train` and the config `configs/extractive_qa_minilm.cfg`, and the last
model is scored on dev with the official metric. Results are appended to `--output` as JSON lines,
so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import spacy
from spacy.cli.train import train
from spacy.tokens import DocBin
from spacy.training import Corpus

from spacy_spanrel import get_questions
from spacy_spanrel.converters import squad_to_docs

CONFIG = Path(__file__).parent.parent / "configs" / "extractive_qa_minilm.cfg"
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
PLAIN = {f"{PIPE}.model.casing": False}

# name: (epochs, learning rate, learning rate of the head, other overrides)
VARIANTS: dict[str, tuple[int, float, float | None, dict[str, Any]]] = {
    # The recipes of the baselines.
    "3 epochs": (3, 1e-4, None, PLAIN),
    "6 epochs": (6, 3e-4, None, PLAIN),
    # configs/extractive_qa_minilm.cfg as it is.
    "best": (6, 3e-4, 1e-3, {}),
}


def recipe(epochs: int, n_questions: int, lr: float, head_lr: float | None) -> dict[str, Any]:
    """Overrides of the config for a linear schedule with 10 % warm-up."""
    per_epoch = -(-n_questions // BATCH)
    steps = epochs * per_epoch
    schedule = {"@schedules": "warmup_linear.v1", "warmup_steps": steps // 10, "total_steps": steps}
    heads = None if head_lr is None else {**schedule, "initial_rate": head_lr}
    return {
        "training.max_epochs": epochs,
        "training.eval_frequency": per_epoch,
        "training.batcher.size": BATCH,
        "training.optimizer.learn_rate": {**schedule, "initial_rate": lr},
        "training.optimizer.head_learn_rate": heads,
    }


def run(variant: str, seed: int, paths: dict[str, Path], n_questions: int) -> dict[str, Any]:
    """Train one recipe with one seed, and score it on dev."""
    epochs, lr, head_lr, overrides = VARIANTS[variant]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        train(
            CONFIG,
            folder,
            overrides={
                "paths.train": str(paths["train"]),
                "paths.dev": str(paths["dev"]),
                "system.seed": seed,
                "training.logger": {"@loggers": "spacy.ConsoleLogger.v1", "progress_bar": False},
                **recipe(epochs, n_questions, lr, head_lr),
                **overrides,
            },
        )
        seconds = time.perf_counter() - start
        nlp = spacy.load(f"{folder}/model-last")
        scores = nlp.evaluate(list(Corpus(paths["dev"])(nlp)))
    return {
        "variant": variant,
        "seed": seed,
        "epochs": epochs,
        "learn_rate": lr,
        "head_learn_rate": head_lr,
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
        paths, n_questions = {}, 0
        for part, source in (("train", args.train), ("dev", args.dev)):
            docs = list(squad_to_docs(source))
            paths[part] = Path(folder) / f"{part}.spacy"
            DocBin(docs=docs).to_disk(paths[part])
            if part == "train":
                n_questions = sum(len(get_questions(doc)) for doc in docs)
        for variant in args.variants:
            for seed in args.seeds:
                if (variant, seed) in done:
                    continue
                row = run(variant, seed, paths, n_questions)
                rows.append(row)
                with args.output.open("a") as out:
                    out.write(json.dumps(row) + "\n")
                print(table(rows), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
