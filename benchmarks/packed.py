"""Prediction on the CPU with the layers of transformers, and with those of `encoding/packed.py`.

Each is compared with the bare Hugging Face network: its forward pass in float32, on the rows that the
component reads, sorted by length, at its best batch size. "products" are the matrix products of all
layers and nothing else, with weights laid out for oneDNN: the limit. All programs take turns, and the
ratio is the median of the ratios of the rounds, in processor time.

    python benchmarks/packed.py MODEL --texts test.spacy
    ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 python benchmarks/packed.py MODEL --texts test.spacy

MODEL has one component of this package, with a BERT-like network of its own.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import spacy
import torch
from runtimes import measure, network_of, pipe_time, processor, read_rows, set_precision
from timing import best_bare_forward, clock, native_precisions, show, use_processor_time

from spacy_spanrel.conversion.comparison import docs_to_compare
from spacy_spanrel.encoding import packed
from spacy_spanrel.encoding.checkpoint import HFModule
from spacy_spanrel.evaluation import our_components

CPU = torch.device("cpu")


def products(module: HFModule, n_pieces: int, dtype: torch.dtype) -> Callable[[], float]:
    """Return a function that computes all products of weights and vectors, and times it."""
    layers = [packed._Layer(layer, dtype) for layer in module._packed._encoder.layer]
    inner = module.transformer.config.intermediate_size
    sizes = [768] * (n_pieces // 768) + [n_pieces % 768]
    narrow, wide = (torch.randn(768, n).to(dtype) for n in (module.width, inner))

    def run() -> float:
        start = clock(CPU)
        with torch.inference_mode():
            for n in sizes:
                for layer in layers:
                    layer._query_key_value(narrow[:n])
                    layer._attended(narrow[:n])
                    layer._inner(narrow[:n])
                    layer._outer(wide[:n])
        return clock(CPU) - start

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--texts", type=Path, help="a .spacy file; a few sentences without it")
    parser.add_argument("--limit", type=int, default=100, help="the number of texts")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    use_processor_time()
    torch.set_num_threads(args.threads)
    nlp = spacy.load(args.model)
    (component,) = our_components(nlp)
    docs = list(docs_to_compare(nlp, args.texts))[: args.limit]
    module = network_of(nlp, component)
    layers = module._packed
    assert layers is not None, "the layers of this network are left to transformers"

    def predict(precision: str, way: str, one_by_one: bool = False) -> float:
        set_precision(nlp, component, precision)
        module._packed = None if way == "transformers" else layers
        if one_by_one:
            return sum(pipe_time(nlp, [doc]) for doc in docs[:20])
        return pipe_time(nlp, docs)

    def compare(title: str, programs: dict[str, Callable[[], float]]) -> None:
        measure(programs, 1)
        seconds = measure(programs, args.rounds)
        base = next(iter(seconds.values()))
        for name, values in seconds.items():
            ratio = statistics.median(b / v for b, v in zip(base, values, strict=True))
            row = {
                "processor": processor("torch"),
                "what": f"{title}: {name}",
                "ratio": f"{ratio:.2f}",
            }
            show({**row, "ms": round(1000 * statistics.median(values))})

    set_precision(nlp, component, "float32")
    rows = read_rows(nlp, docs)
    batch, bare = best_bare_forward(module, rows, "float32", CPU)
    precisions = native_precisions(CPU)
    programs: dict[str, Any] = {f"bare float32, batch {batch}": bare}
    for precision in precisions:
        for way in ("transformers", "packed"):
            programs[f"{precision}, layers of {way}"] = partial(predict, precision, way)
        dtype = getattr(torch, precision)
        programs[f"{precision}, products"] = products(module, sum(map(len, rows)), dtype)
    compare("nlp.pipe", programs)
    for precision in precisions:
        ways = ("transformers", "packed")
        singles = {w: partial(predict, precision, w, one_by_one=True) for w in ways}
        compare(f"one text at a time, {precision}", singles)


if __name__ == "__main__":
    main()
