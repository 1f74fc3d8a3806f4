"""CoNLL04 test scores of `span_relation` for several recipes and decoding settings.

    python benchmarks/conll04.py --data ../shared/data/conll04 --seeds 1 2 3 --variants original best

Each variant is trained on train and dev by `spacy train`, and its last model, as in the original
program, is scored on test with each of the decoding settings. With `--tune` it is trained on train and
scored on dev instead; the settings were chosen in this way. Results are appended to `--output` as JSON
lines; an interrupted run continues where it stopped.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import spacy
from recipes import Row, linear_schedule, make_parser, run_all
from spacy.cli.train import train
from spacy.tokens import DocBin
from spacy.training import Corpus

from spacy_spanrel.converters.spert import spert_to_docs

CONFIG = Path(__file__).parent.parent / "configs" / "span_relation_minilm.cfg"
SCORES = ("ents_p", "ents_r", "ents_f", "rel_f", "rel_strict_p", "rel_strict_r", "rel_strict_f")

PIPE = "components.span_relation"
ARCH = f"{PIPE}.model"

# Decoding settings, which are all applied to the same trained model.
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


CASED = {f"{ARCH}.encoder.casing": True, f"{ARCH}.boundaries": True}
UNCASED = {f"{ARCH}.encoder.casing": False, f"{ARCH}.boundaries": False}
FLOAT32 = {**UNCASED, f"{ARCH}.encoder.precision": "float32"}

# name: (epochs, batch size, learning rate, learning rate of the heads, other overrides)
VARIANTS: dict[str, tuple[int, int, float, float | None, dict[str, Any]]] = {
    # The recipe of the paper. At its learning rate a bias moves by about 0.3 in the whole training, so
    # the biases of the relation types stay close to their initial value.
    "original": (20, 2, 5e-5, None, {**UNCASED, "training.optimizer.correct_bias": False}),
    "original, float32, relations from -4": (
        20,
        2,
        5e-5,
        None,
        {**FLOAT32, f"{ARCH}.relation_bias": -4.0},
    ),
    "original, float32, relations from -2": (20, 2, 5e-5, None, FLOAT32),
    # Includes the defaults of the libraries that the original program used.
    "original, float32, relations from 0, Adam of its time": (
        20,
        2,
        5e-5,
        None,
        {
            **FLOAT32,
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
    # The settings of configs/span_relation_minilm.cfg.
    "best": (20, 8, 2e-4, 1e-3, CASED),
    "batch 16, still higher rates": (20, 16, 4e-4, 2e-3, CASED),
}
for _n in (0, 2, 3, 4):
    _FROZEN = {**CASED, f"{ARCH}.encoder.frozen_layers": _n}
    VARIANTS[f"best, 8 epochs, {_n} frozen layers"] = (8, 8, 2e-4, 1e-3, _FROZEN)


def run(variant: str, seed: int, data: Path, tune: bool) -> list[Row]:
    """Train one variant with one seed, and score it with each decoding setting."""
    epochs, batch, lr, head_lr, overrides = VARIANTS[variant]
    train_files, test_file = (["train"], "dev") if tune else (["train", "dev"], "test")
    with tempfile.TemporaryDirectory() as folder:
        sizes = {}
        for name, files in (("train", train_files), ("test", [test_file])):
            docs = [doc for file in files for doc in spert_to_docs(data / f"{file}.json")]
            DocBin(docs=docs).to_disk(f"{folder}/{name}.spacy")
            sizes[name] = len(docs)
        schedule = linear_schedule(epochs, batch, sizes["train"], lr, head_lr)
        start, start_cpu = time.perf_counter(), time.process_time()
        train(
            CONFIG,
            folder + "/model",
            overrides={
                "paths.train": f"{folder}/train.spacy",
                "paths.dev": f"{folder}/test.spacy",
                "system.seed": seed,
                f"{PIPE}.scope": "doc",  # as in the original program
                **schedule,
                # One evaluation, at the end: only the last model is of interest.
                "training.eval_frequency": epochs * schedule["training.eval_frequency"],
                **overrides,
            },
        )
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
        nlp = spacy.load(folder + "/model/model-last")
        examples = list(Corpus(f"{folder}/test.spacy")(nlp))
        rows = []
        for decoding, settings in DECODING.items():
            nlp.get_pipe("span_relation").cfg.update(settings)
            scores = nlp.evaluate(examples)
            rows.append(
                {
                    "variant": variant,
                    "decoding": decoding,
                    "seed": seed,
                    "on": test_file,
                    "train_seconds": round(seconds),
                    "cpu_seconds_per_epoch": round(cpu_seconds / epochs, 1),
                    **{key: 100 * scores[key] for key in SCORES},
                }
            )
    return rows


KEYS = {"scored on": "on", "recipe": "variant", "decoding": "decoding"}
COLUMNS = {
    "NER F1": "ents_f",
    "relation F1": "rel_f",
    "strict relation F1": "rel_strict_f",
    "training, seconds": "train_seconds",
}


def main() -> None:
    parser = make_parser(__doc__, VARIANTS, [1, 2, 3], "metrics/conll04_benchmark.jsonl")
    parser.add_argument("--data", type=Path, default=Path("assets/conll04"))
    parser.add_argument("--tune", action="store_true", help="train on train, score on dev")
    args = parser.parse_args()
    run_all(
        args,
        lambda variant, seed: run(variant, seed, args.data, args.tune),
        KEYS,
        COLUMNS,
        on="dev" if args.tune else "test",
    )


if __name__ == "__main__":
    main()
