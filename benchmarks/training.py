"""Where the time of a training step goes, on a CPU.

Takes a trained pipeline and its training data, trains it further for some steps, and prints the share of
each kind of work in the time of a step: first of the parts of the step, then of torch's operators.

    python benchmarks/training.py MODEL --data train.spacy [--precision bfloat16] [--batch-size 8]

MODEL has one component of this package. Dropout and frozen layers are those of the saved pipeline.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import spacy
import torch
from runtimes import processor, set_precision
from spacy.schemas import ConfigSchemaTraining
from spacy.util import minibatch, registry, resolve_dot_names
from timing import show
from torch.profiler import ProfilerActivity, profile

import spacy_spanrel.pipe
from spacy_spanrel.encoding import encoder as encoder_module
from spacy_spanrel.encoding import rows as rows_module
from spacy_spanrel.evaluation import our_components

# Kinds of work, and parts of the names of the operators that do it; the first one that fits counts.
KINDS = {
    "optimizer": ("adamw",),
    "normalization": ("layer_norm",),
    "clipping": ("_norm", "foreach"),
    "attention": ("scaled_dot_product", "softmax", "bmm"),
    "matrix products": ("addmm", "aten::mm", "linear", "matmul"),
    "gradient of embeddings": ("embedding_dense_backward", "index_put", "index_add"),
    "GELU": ("gelu",),
    "dropout": ("dropout", "bernoulli"),
    "casts and copies": ("copy_", "_to_copy", "clone", "contiguous"),
    "zeros": ("zero_", "fill_"),
}


def kind_of(operator: str) -> str:
    for kind, names in KINDS.items():
        if any(name in operator for name in names):
            return kind
    return "other operators"


def timed(seconds: Counter[str], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function so that its processor time is counted."""

    def run(*args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            seconds[name] += time.process_time() - start

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="the training data")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(1)
    nlp = spacy.load(args.model, config={"paths.train": str(args.data)})
    (component,) = our_components(nlp)
    set_precision(nlp, component, args.precision)
    config = nlp.config.interpolate()
    settings = registry.resolve(config["training"], schema=ConfigSchemaTraining)
    (corpus,) = resolve_dot_names(config, [settings["train_corpus"]])
    batches = minibatch(corpus(nlp), args.batch_size)
    optimizer = settings["optimizer"]
    seconds: Counter[str] = Counter()
    for module in (rows_module, encoder_module):
        module.run_batches = timed(seconds, "forward pass of the encoder", module.run_batches)
    torch.autograd.backward = timed(seconds, "backward pass", torch.autograd.backward)
    step = timed(seconds, "optimizer step", spacy_spanrel.pipe.step)
    spacy_spanrel.pipe.step = step
    whole = []

    def train(n: int) -> None:
        for examples in islice(batches, n):
            start = time.process_time()
            nlp.update(examples, sgd=optimizer)
            optimizer.step_schedules()
            whole.append(time.process_time() - start)

    train(2)
    seconds.clear()
    whole.clear()
    train(args.steps)
    base = {"processor": processor("torch"), "component": component, "precision": args.precision}
    show({**base, "ms of a step": round(1000 * statistics.mean(whole))})
    total = sum(whole)
    seconds["everything else"] = total - sum(seconds.values())
    for name, value in seconds.most_common():
        show({**base, "part": name, "share": f"{100 * value / total:.1f} %"})
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        train(max(2, args.steps // 2))
    kinds: Counter[str] = Counter()
    for event in profiler.key_averages():
        kinds[kind_of(event.key.lower())] += event.self_cpu_time_total
    for kind, value in kinds.most_common():
        show({**base, "work": kind, "share": f"{100 * value / sum(kinds.values()):.1f} %"})


if __name__ == "__main__":
    main()
