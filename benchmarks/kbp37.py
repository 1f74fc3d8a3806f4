"""KBP37 dev scores of `relation_classifier`, one row a recipe, mean of some seeds.

    python benchmarks/kbp37.py --data ../shared/data/kbp37 --seeds 1 2 3 --variants typed_markers text

The data is KBP37 in TACRED's JSON (`train.json`, `dev.json`). Each recipe trains with `spacy train`
and the config `configs/relation_classifier_minilm.cfg` on 4,000 sentences (shuffled with seed 0) or
on all of them, and the last model is scored on dev: micro F1 over all labels but `no_relation`.
Results are appended to `--output` as JSON lines, so that an interrupted run goes on where it
stopped.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import spacy
from spacy.cli.train import train
from spacy.tokens import DocBin
from spacy.training import Corpus

from spacy_spanrel.converters import tacred_to_docs

CONFIG = Path(__file__).parent.parent / "configs" / "relation_classifier_minilm.cfg"
PIPE = "components.relation_classifier"
BATCH = 32
SUBSET = 4000
MODES = ("text", "ner", "text_ner", "ner_text")

# name: (epochs, learning rate, learning rate of the head, all sentences?, other overrides)
VARIANTS: dict[str, tuple[int, float, float | None, bool, dict[str, Any]]] = {
    # configs/relation_classifier_minilm.cfg as it is.
    "typed_markers": (5, 3e-4, 1e-3, False, {}),
    **{mode: (5, 3e-4, 1e-3, False, {f"{PIPE}.mode": mode}) for mode in MODES},
    "typed_markers, head no faster": (5, 3e-4, None, False, {}),
    "typed_markers, all sentences": (3, 3e-4, 1e-3, True, {}),
}


def recipe(epochs: int, n_docs: int, lr: float, head_lr: float | None) -> dict[str, Any]:
    """Overrides of the config for a linear schedule with 10 % warm-up.

    epochs (int), n_docs (int): Give the number of steps.
    lr (float): Highest learning rate.
    head_lr (float | None): That of the head; None for the same.
    RETURNS (dict[str, Any]): Overrides.
    """
    steps = epochs * -(-n_docs // BATCH)
    schedule = {"@schedules": "warmup_linear.v1", "warmup_steps": steps // 10, "total_steps": steps}
    heads = None if head_lr is None else {**schedule, "initial_rate": head_lr}
    return {
        "training.max_epochs": epochs,
        "training.eval_frequency": -(-n_docs // BATCH),
        "training.batcher.size": BATCH,
        "training.optimizer.learn_rate": {**schedule, "initial_rate": lr},
        "training.optimizer.head_learn_rate": heads,
    }


def prepare(data: Path, folder: Path) -> dict[str, Path]:
    """Convert the data: all training sentences, the subset, and dev."""
    records = json.loads((data / "train.json").read_text(encoding="utf-8"))
    docs = list(tacred_to_docs(data / "train.json"))
    order = list(range(len(records)))
    random.seed(0)
    random.shuffle(order)
    parts = {
        "all": docs,
        "subset": [docs[i] for i in order[:SUBSET]],
        "dev": list(tacred_to_docs(data / "dev.json")),
    }
    paths = {}
    for name, part in parts.items():
        paths[name] = folder / f"{name}.spacy"
        DocBin(docs=part).to_disk(paths[name])
    return paths


def run(variant: str, seed: int, paths: dict[str, Path], n_docs: dict[str, int]) -> dict[str, Any]:
    """Train one recipe with one seed, and score it on dev."""
    epochs, lr, head_lr, everything, overrides = VARIANTS[variant]
    part = "all" if everything else "subset"
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        train(
            CONFIG,
            folder,
            overrides={
                "paths.train": str(paths[part]),
                "paths.dev": str(paths["dev"]),
                "system.seed": seed,
                "training.logger": {"@loggers": "spacy.ConsoleLogger.v1", "progress_bar": False},
                **recipe(epochs, n_docs[part], lr, head_lr),
                **overrides,
            },
        )
        seconds = time.perf_counter() - start
        nlp = spacy.load(f"{folder}/model-last")
        scores = nlp.evaluate(list(Corpus(paths["dev"])(nlp)))
    return {
        "variant": variant,
        "seed": seed,
        "sentences": n_docs[part],
        "epochs": epochs,
        "learn_rate": lr,
        "train_seconds": round(seconds),
        **{key: 100 * scores[key] for key in ("rel_p", "rel_r", "rel_f", "rel_macro_f")},
    }


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table of means and standard deviations over seeds."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["variant"], []).append(row)
    lines = [
        "| recipe | sentences | epochs | seeds | P | R | micro F1 | training |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for variant, found in groups.items():
        cells = []
        for key in ("rel_p", "rel_r", "rel_f"):
            values = [row[key] for row in found]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):.2f} ± {spread:.2f}")
        seconds = statistics.mean(row["train_seconds"] for row in found)
        first = found[0]
        lines.append(
            f"| {variant} | {first['sentences']} | {first['epochs']} | {len(found)} "
            f"| {' | '.join(cells)} | {seconds:.0f} s |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("assets/kbp37"))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--output", type=Path, default=Path("metrics/kbp37_benchmark.jsonl"))
    args = parser.parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    if args.output.exists():
        rows = [json.loads(line) for line in args.output.read_text().splitlines()]
    done = {(row["variant"], row["seed"]) for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        paths = prepare(args.data, Path(folder))
        n_docs = {name: len(DocBin().from_disk(path)) for name, path in paths.items()}
        for variant in args.variants:
            for seed in args.seeds:
                if (variant, seed) in done:
                    continue
                row = run(variant, seed, paths, n_docs)
                rows.append(row)
                with args.output.open("a") as out:
                    out.write(json.dumps(row) + "\n")
                print(table(rows), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
