"""Speed of `span_relation` relative to a bare encoder measured in the same run, and peak memory.

    python benchmarks/speed.py [--model PIPELINE] [--data FILE.json] [--threads 2] [--output FILE]
    python benchmarks/speed.py --sections other --model PIPELINE --other PIPELINE [--processor-time]

No pipeline can be faster than its encoder. For prediction, the baseline is the encoder's forward pass
over the same texts, sorted by length, at the best batch size and in the same precision. For training, it
is a step on the same batches that has only a forward pass, the backward pass of a mean, and fused AdamW
with global clipping. For `context`, it is the same component without context, on sentences that are joined
to paragraphs. For `other`, a second pipeline is compared to the first. Baseline and pipeline take turns;
the ratio is the median over all rounds.

Without `--model`, a pipeline is first trained for a few epochs on the training file in the folder of the
data, so that it predicts realistic numbers of entities and relations.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import spacy
import torch
from spacy.cli.train import train
from spacy.language import Language
from spacy.tokens import Doc, DocBin
from spacy.training import Example
from timing import (
    PRECISIONS,
    alternate,
    bare_steps,
    best_bare_forward,
    clock,
    show,
    use_processor_time,
    write_rows,
)

from spacy_spanrel.converters import spert_to_docs
from spacy_spanrel.encoding.checkpoint import HFModule
from spacy_spanrel.encoding.shim import TorchShim
from spacy_spanrel.span_relation.component import SpanRelation
from spacy_spanrel.training.optimizer import create_adamw

ROOT = Path(__file__).resolve().parent.parent
# CoNLL04 test if it has been downloaded, else the sample corpus.
DATA = (ROOT / "assets/conll04/conll04_test.json", ROOT / "assets/sample/test.json")
SECTIONS = ["prediction", "other", "context", "training", "memory"]


def fresh_docs(nlp: Language, docs: list[Doc]) -> list[Doc]:
    return [Doc(nlp.vocab, words=[token.text for token in doc]) for doc in docs]


def component(nlp: Language) -> SpanRelation:
    pipe = nlp.get_pipe("span_relation")
    assert isinstance(pipe, SpanRelation)
    return pipe


def encoder_shim(nlp: Language) -> TorchShim:
    shim = component(nlp).model.get_ref("encoder").shims[0]
    assert isinstance(shim, TorchShim)
    return shim


def encoder_module(nlp: Language) -> HFModule:
    module = encoder_shim(nlp).module
    assert isinstance(module, HFModule)
    return module


def rows_of(nlp: Language, docs: list[Doc]) -> list[list[int]]:
    """Return the piece ids of each Doc with special tokens, cut at the encoder's longest input."""
    module = encoder_module(nlp)
    room = module.max_length - module.pieces.n_special
    return [
        [*module.pieces.prefix, *text.ids[:room].tolist(), *module.pieces.suffix]
        for text in module.pieces([doc.text for doc in docs])
    ]


def pipe_time(nlp: Language, docs: list[Doc]) -> float:
    """Return the seconds that `nlp.pipe` takes for tokenized Docs, including their annotation."""
    inputs, device = fresh_docs(nlp, docs), encoder_shim(nlp).device
    start = clock(device)
    for _ in nlp.pipe(inputs):
        pass
    return clock(device) - start


def comparison(
    what: str, precision: str, baseline: str, words: int, times: tuple[float, float, float]
) -> dict[str, Any]:
    """Return the row of a comparison of predictions, from what `alternate` returns."""
    baseline_seconds, seconds, ratio = times
    return {
        "what": what,
        "precision": precision,
        "baseline": baseline,
        "baseline_words_per_s": round(words / baseline_seconds),
        "words_per_s": round(words / seconds),
        "ratio": round(ratio, 3),
    }


def prediction(nlp: Language, docs: list[Doc], rounds: int) -> Iterator[dict[str, Any]]:
    words = sum(map(len, docs))
    rows = sorted(rows_of(nlp, docs), key=len)
    for precision in PRECISIONS:
        encoder_shim(nlp).precision_setting = precision
        pipe_time(nlp, docs)
        best, bare_pass = best_bare_forward(
            encoder_module(nlp), rows, precision, encoder_shim(nlp).device
        )
        times = alternate(bare_pass, partial(pipe_time, nlp, docs), rounds)
        yield comparison("prediction", precision, f"bare encoder, batch {best}", words, times)


def other(
    nlp: Language, docs: list[Doc], rounds: int, path: Path | None
) -> Iterator[dict[str, Any]]:
    """Compare another pipeline, for example one with fewer layers."""
    if path is None:
        return
    second = spacy.load(path)
    words = sum(map(len, docs))
    for precision in PRECISIONS:
        for each in (nlp, second):
            encoder_shim(each).precision_setting = precision
        first_time, second_time = partial(pipe_time, nlp, docs), partial(pipe_time, second, docs)
        first_time(), second_time()
        times = alternate(first_time, second_time, rounds)
        what = f"prediction of another pipeline, {encoder_layers(second)} layers"
        baseline = f"prediction, {encoder_layers(nlp)} layers"
        yield comparison(what, precision, baseline, words, times)


def encoder_layers(nlp: Language) -> int:
    return int(encoder_module(nlp).transformer.config.num_hidden_layers)


def paragraphs(nlp: Language, docs: list[Doc], size: int) -> list[Doc]:
    """Join Docs of one sentence each to Docs of `size` sentences, with their borders."""
    return [
        Doc(
            nlp.vocab,
            words=[token.text for doc in docs[i : i + size] for token in doc],
            sent_starts=[token.i == 0 for doc in docs[i : i + size] for token in doc],
        )
        for i in range(0, len(docs), size)
    ]


def context_time(nlp: Language, docs: list[Doc], size: int, context: int) -> float:
    """Return the seconds of `component.pipe` for paragraphs whose sentences are read with context."""
    component(nlp).cfg["context"] = context
    inputs, device = paragraphs(nlp, docs, size), encoder_shim(nlp).device
    start = clock(device)
    for _ in component(nlp).pipe(iter(inputs), batch_size=256):
        pass
    return clock(device) - start


def context(nlp: Language, docs: list[Doc], rounds: int) -> Iterator[dict[str, Any]]:
    """Compare sentences of paragraphs with 64 tokens of context to those without."""
    settings = component(nlp).cfg
    component(nlp).cfg = {**settings, "scope": "sentence"}
    docs = docs[:100]
    words = sum(map(len, docs))
    for size in (5, 50):
        for precision in PRECISIONS:
            encoder_shim(nlp).precision_setting = precision
            without, around = (partial(context_time, nlp, docs, size, n) for n in (0, 64))
            without(), around()
            times = alternate(without, around, rounds)
            what = f"context = 64, Docs of {size} sentences"
            yield comparison(what, precision, "context = 0", words, times)
    component(nlp).cfg = settings


def training(nlp: Language, docs: list[Doc], rounds: int) -> Iterator[dict[str, Any]]:
    docs = docs[:96]
    saved = nlp.to_bytes()
    for precision in PRECISIONS:
        for size in (2, 16):
            encoder_shim(nlp).precision_setting = precision
            batches = [docs[i : i + size] for i in range(0, len(docs), size)]
            examples = [
                [Example(doc, gold) for doc, gold in zip(fresh_docs(nlp, b), b, strict=True)]
                for b in batches
            ]
            optimizer = create_adamw(learn_rate=1e-6)
            bare = bare_steps(
                encoder_module(nlp),
                [rows_of(nlp, b) for b in batches],
                precision,
                encoder_shim(nlp).device,
            )

            def ours(examples: list[list[Example]] = examples, optimizer: Any = optimizer) -> float:
                start = clock(encoder_shim(nlp).device)
                for batch in examples:
                    nlp.update(batch, sgd=optimizer)
                return clock(encoder_shim(nlp).device) - start

            bare(), ours()
            bare_seconds, our_seconds, ratio = alternate(bare, ours, rounds)
            yield {
                "what": f"training, batch {size}",
                "precision": precision,
                "baseline": "bare encoder step",
                "baseline_docs_per_s": round(len(docs) / bare_seconds, 1),
                "docs_per_s": round(len(docs) / our_seconds, 1),
                "ratio": round(ratio, 3),
            }
    nlp.from_bytes(saved)


def memory_texts(name: str, nlp: Language, docs: list[Doc]) -> Iterator[Doc]:
    """Yield the texts of a memory measurement; see `MEMORY` for the names."""
    if name.startswith("copies "):
        for _ in range(int(name.split()[1])):
            yield from fresh_docs(nlp, docs)
    elif name == "2000 words, no sentence end":
        words = [t.text for doc in docs for t in doc if t.text not in ".!?"]
        while len(words) < 2000:
            words += words
        yield Doc(nlp.vocab, words=words[:2000])
    elif name == "one token 5000 times":
        yield Doc(nlp.vocab, words=["London"] * 5000)
    elif name != "nothing":
        raise ValueError(name)


# Each of these is measured in a separate process.
MEMORY = (
    "nothing",
    "copies 20",
    "copies 200",
    "2000 words, no sentence end",
    "one token 5000 times",
)


def memory(model: Path, data: Path, threads: int) -> Iterator[dict[str, Any]]:
    for name in MEMORY:
        command = [
            sys.executable, __file__, "--model", str(model), "--data", str(data),
            "--threads", str(threads), "--memory-of", name,
        ]  # fmt: skip
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        yield json.loads(out.strip().splitlines()[-1])


def peak_mib() -> float:
    """Return the peak resident memory of this process in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # On Linux ru_maxrss would start from the memory of the parent process.
        (line,) = (x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    scale = 1024**2 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def measure_memory(nlp: Language, docs: list[Doc], name: str) -> dict[str, Any]:
    start = time.perf_counter()
    n = sum(1 for _ in nlp.pipe(memory_texts(name, nlp, docs)))
    return {
        "what": "memory",
        "text": name,
        "docs": n,
        "seconds": round(time.perf_counter() - start, 1),
        "peak_mib": round(peak_mib()),
    }


def quick_pipeline(data: Path, folder: Path) -> Path:
    """Train for a few epochs on the training file in the folder of the data."""
    train_file = data.with_name(data.name.replace("test", "train"))
    train_docs = list(spert_to_docs(train_file))
    DocBin(docs=train_docs).to_disk(folder / "train.spacy")
    DocBin(docs=train_docs[:20]).to_disk(folder / "dev.spacy")
    steps = 4 * -(-len(train_docs) // 8)
    train(
        ROOT / "configs/span_relation_minilm.cfg",
        folder / "model",
        overrides={
            "paths.train": str(folder / "train.spacy"),
            "paths.dev": str(folder / "dev.spacy"),
            # Its sentences are trained and measured without borders.
            "components.span_relation.scope": "doc",
            "training.max_epochs": 4,
            "training.eval_frequency": steps,
            "training.batcher.size": 8,
            "training.optimizer.learn_rate": 2e-4,
            "training.optimizer.head_learn_rate": 1e-3,
        },
    )
    return folder / "model" / "model-last"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, help="a trained pipeline with span_relation")
    parser.add_argument("--other", type=Path, help="another pipeline, to compare its prediction")
    parser.add_argument("--data", type=Path, help="SpERT JSON, default: CoNLL04 test or the sample")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, help="also write the rows here, as JSON lines")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument(
        "--processor-time", action="store_true", help="for machines that others use as well"
    )
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.processor_time:
        use_processor_time()
    data = args.data or next(path for path in DATA if path.exists())
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or quick_pipeline(data, Path(folder))
        nlp = spacy.load(model)
        docs = list(spert_to_docs(data, nlp=nlp))
        if args.memory_of:
            print(json.dumps(measure_memory(nlp, docs, args.memory_of)))
            return
        annotated = list(nlp.pipe(fresh_docs(nlp, docs)))
        relations = sum(len(doc._.relations) for doc in annotated)
        entities = sum(len(doc.ents) for doc in annotated)
        print(
            f"{data.name}: {len(docs)} Docs, {sum(map(len, docs))} words; {entities} entities "
            f"and {relations} relations predicted; {args.threads} threads, torch {torch.__version__}, "
            f"numpy {np.__version__}, device {encoder_shim(nlp).device}"
        )
        rows = []
        sections = {
            "prediction": prediction(nlp, docs, args.rounds),
            "other": other(nlp, docs, args.rounds, args.other),
            "context": context(nlp, docs, args.rounds),
            "training": training(nlp, docs, max(3, args.rounds // 2)),
            "memory": memory(model, data, args.threads),
        }
        for name in args.sections:
            for row in sections[name]:
                show(row)
                rows.append(row)
    if args.output:
        write_rows(args.output, rows)


if __name__ == "__main__":
    main()
