"""CoNLL04 test scores of `span_relation`, one row a change of the recipe, mean of some seeds.

    python benchmarks/conll04.py --data ../shared/data/conll04 --seeds 1 2 3 --variants original best

Each variant trains on train + dev with `spacy train` (the last model counts, as in the original
program) and is scored on test with each of its decoding settings. With `--tune` it trains on train
and is scored on dev instead, which is how the settings were chosen. Results are appended to
`--output` as JSON lines, so that an interrupted run goes on where it stopped.
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

from spacy_spanrel.converters.spert import spert_to_docs

CONFIG = Path(__file__).parent.parent / "configs" / "span_relation_minilm.cfg"
SCORES = ("ents_p", "ents_r", "ents_f", "rel_f", "rel_strict_p", "rel_strict_r", "rel_strict_f")

PIPE = "components.span_relation"
ARCH = f"{PIPE}.model"

# Decoding settings that need no training of their own.
DECODING: dict[str, dict[str, Any]] = {
    "original": {"overlaps": "allow", "type_constraints": "off", "relation_threshold": 0.4},
    "+ type constraints": {
        "overlaps": "allow",
        "type_constraints": "learned",
        "relation_threshold": 0.4,
    },
    "+ best overlap": {
        "overlaps": "best",
        "type_constraints": "learned",
        "relation_threshold": 0.4,
    },
    "+ threshold 0.5": {
        "overlaps": "best",
        "type_constraints": "learned",
        "relation_threshold": 0.5,
    },
}


def recipe(
    epochs: int, batch: int, n_docs: int, lr: float, head_lr: float | None
) -> dict[str, Any]:
    """Overrides of the config for a linear schedule with 10 % warm-up.

    epochs (int), batch (int), n_docs (int): Give the number of steps.
    lr (float): Highest learning rate of the encoder.
    head_lr (float | None): Highest learning rate of the heads; None for the same.
    RETURNS (dict[str, Any]): Overrides.
    """
    steps = epochs * -(-n_docs // batch)
    schedule = {"@schedules": "warmup_linear.v1", "warmup_steps": steps // 10, "total_steps": steps}
    out: dict[str, Any] = {
        "training.max_epochs": epochs,
        "training.eval_frequency": steps,
        "training.batcher.size": batch,
        "training.optimizer.learn_rate": {**schedule, "initial_rate": lr},
    }
    heads = None if head_lr is None else {**schedule, "initial_rate": head_lr}
    out["training.optimizer.head_learn_rate"] = heads
    return out


CASED = {f"{ARCH}.encoder.casing": True, f"{ARCH}.boundaries": True}
UNCASED = {f"{ARCH}.encoder.casing": False, f"{ARCH}.boundaries": False}

# name: (epochs, batch size, learning rate, learning rate of the heads, other overrides)
VARIANTS: dict[str, tuple[int, int, float, float | None, dict[str, Any]]] = {
    # The recipe of the paper and its program, down to what that program leaves to its libraries.
    "original": (
        20,
        2,
        5e-5,
        None,
        {
            **UNCASED,
            f"{ARCH}.encoder.precision": "float32",
            f"{ARCH}.relation_bias": 0.0,
            "training.optimizer.correct_bias": False,
            "training.optimizer.eps": 1e-6,
        },
    ),
    "batch 8, higher rates, boundaries": (
        20,
        8,
        2e-4,
        1e-3,
        {**UNCASED, f"{ARCH}.boundaries": True},
    ),
    # configs/span_relation_minilm.cfg as it is.
    "best": (20, 8, 2e-4, 1e-3, CASED),
    "batch 16, still higher rates": (20, 16, 4e-4, 2e-3, CASED),
}


def run(variant: str, seed: int, data: Path, tune: bool) -> list[dict[str, Any]]:
    """Train one variant with one seed, and score it with each decoding setting."""
    epochs, batch, lr, head_lr, overrides = VARIANTS[variant]
    parts, test = (["train"], "dev") if tune else (["train", "dev"], "test")
    with tempfile.TemporaryDirectory() as folder:
        sizes = {}
        for name, files in (("train", parts), ("test", [test])):
            docs = [doc for file in files for doc in spert_to_docs(data / f"{file}.json")]
            DocBin(docs=docs).to_disk(f"{folder}/{name}.spacy")
            sizes[name] = len(docs)
        start = time.perf_counter()
        train(
            CONFIG,
            folder + "/model",
            overrides={
                "paths.train": f"{folder}/train.spacy",
                "paths.dev": f"{folder}/test.spacy",
                "system.seed": seed,
                "training.logger": {"@loggers": "spacy.ConsoleLogger.v1", "progress_bar": False},
                **recipe(epochs, batch, sizes["train"], lr, head_lr),
                **overrides,
            },
        )
        seconds = time.perf_counter() - start
        nlp = spacy.load(folder + "/model/model-last")
        examples = list(Corpus(f"{folder}/test.spacy")(nlp))
        rows = []
        for decoding, settings in DECODING.items():
            nlp.get_pipe("span_relation").cfg.update(settings)
            found = nlp.evaluate(examples)
            scores = {key: 100 * found[key] for key in SCORES}
            rows.append(
                {
                    "variant": variant,
                    "decoding": decoding,
                    "seed": seed,
                    "on": test,
                    "train_seconds": round(seconds),
                    **scores,
                }
            )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table of means and standard deviations over seeds."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["on"], row["variant"], row["decoding"]), []).append(row)
    lines = [
        "| scored on | recipe | decoding | seeds | NER F1 | relation F1 | strict relation F1 | training |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (on, variant, decoding), found in groups.items():
        cells = []
        for key in ("ents_f", "rel_f", "rel_strict_f"):
            values = [row[key] for row in found]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):.2f} ± {spread:.2f}")
        seconds = statistics.mean(row["train_seconds"] for row in found)
        lines.append(
            f"| {on} | {variant} | {decoding} | {len(found)} | {' | '.join(cells)} | {seconds:.0f} s |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("assets/conll04"))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--tune", action="store_true", help="train on train, score on dev")
    parser.add_argument("--output", type=Path, default=Path("metrics/conll04_benchmark.jsonl"))
    args = parser.parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    if args.output.exists():
        rows = [json.loads(line) for line in args.output.read_text().splitlines()]
    on = "dev" if args.tune else "test"
    done = {(row["variant"], row["seed"], row["on"]) for row in rows}
    for variant in args.variants:
        for seed in args.seeds:
            if (variant, seed, on) in done:
                continue
            found = run(variant, seed, args.data, args.tune)
            rows += found
            with args.output.open("a") as out:
                out.writelines(json.dumps(row) + "\n" for row in found)
            print(table(rows), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
