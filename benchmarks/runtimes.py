"""Speed, start, memory and size of a pipeline with torch and with ONNX Runtime, on a CPU.

Each runtime is compared with the bare Hugging Face network: its forward pass in float32, on the rows that
the component reads, sorted by length, at its best batch size. All programs take turns, and the ratio is
the median of the ratios of the rounds. "start" is a process that imports spaCy, loads the pipeline and reads
a first text; "nothing" is one that only imports spaCy.

    python benchmarks/runtimes.py MODEL --texts dev.spacy [--append docs/results/runtimes.jsonl]

MODEL has one component of this package, with a network of its own. Needs spacy-spanrel[onnx].
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc
from timing import best_bare_forward, clock, show, use_processor_time

from spacy_spanrel.cli.optimize import docs_to_compare, optimize
from spacy_spanrel.encoding import rows as encoding_rows
from spacy_spanrel.encoding.checkpoint import HFModule
from spacy_spanrel.encoding.shim import torch_shims
from spacy_spanrel.evaluation import our_components

CPU = torch.device("cpu")
# The peak is read from /proc: ru_maxrss starts with the peak of the parent process.
START = """
import sys, time
begin = time.perf_counter()
import spacy
if len(sys.argv) > 1:
    spacy.load(sys.argv[1])("Maria Keller works for Northwind Bank in Zurich.")
print(time.perf_counter() - begin)
print(next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if "VmHWM" in line))
"""


def processor() -> str:
    """Return the name of the processor, and the instruction sets that torch uses."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), "?")
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def set_precision(nlp: Language, component: str, precision: str) -> None:
    # The last shim is that of the network.
    torch_shims(nlp.get_pipe(component).model)[-1].precision_setting = precision


def read_rows(nlp: Language, docs: list[Doc]) -> list[list[int]]:
    """Return the rows of piece ids that the network of a pipeline reads, sorted by length."""
    original, rows = encoding_rows.padded_batches, []

    def record(columns: Any, *others: Any) -> Any:
        rows.extend(row.tolist() for row in columns[0][0])
        return original(columns, *others)

    encoding_rows.padded_batches = record
    try:
        pipe_time(nlp, docs)
    finally:
        encoding_rows.padded_batches = original
    return sorted(rows, key=len)


def pipe_time(nlp: Language, docs: list[Doc]) -> float:
    """Return the seconds that `nlp.pipe` takes, including the annotation of the Docs."""
    inputs = [doc.copy() for doc in docs]
    start = clock(CPU)
    for _ in nlp.pipe(inputs):
        pass
    return clock(CPU) - start


def measure(programs: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run programs in turns, and return the seconds of each in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            seconds[name].append(program())
    return seconds


def start(*arguments: str) -> dict[str, float]:
    """Return seconds and peak memory (MiB) of a process that loads a pipeline, if one is given."""
    command = [sys.executable, "-W", "ignore", "-c", START, *arguments]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds, memory = map(float, result.stdout.split()[-2:])
    return {"start_s": round(seconds, 2), "memory_mib": round(memory)}


def size_mib(folder: Path) -> float:
    return round(sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1024**2, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--texts", type=Path, help="a .spacy file; a few sentences without it")
    parser.add_argument("--limit", type=int, default=400, help="the number of texts")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--processor-time", action="store_true", help="on a machine in use")
    parser.add_argument("--append", type=Path)
    args = parser.parse_args()
    if args.processor_time:
        use_processor_time()
    rows: list[dict[str, Any]] = []

    def add(row: dict[str, Any]) -> None:
        rows.append({"processor": processor(), **row})
        show(row)

    with tempfile.TemporaryDirectory() as folder:
        converted = Path(folder) / "onnx"
        optimize(args.model, converted)
        torch_nlp, onnx_nlp = spacy.load(args.model), spacy.load(converted)
        (component,) = our_components(torch_nlp)
        docs = list(docs_to_compare(torch_nlp, args.texts))[: args.limit]
        (module,) = (
            m
            for shim in torch_shims(torch_nlp.get_pipe(component).model)
            for m in shim.module.modules()
            if isinstance(m, HFModule)
        )
        set_precision(torch_nlp, component, "float32")
        pieces = read_rows(torch_nlp, docs)

        def with_torch(precision: str) -> float:
            set_precision(torch_nlp, component, precision)
            return pipe_time(torch_nlp, docs)

        for threads in args.threads:
            torch.set_num_threads(threads)
            batch, bare = best_bare_forward(module, pieces, "float32", CPU)
            programs = {
                "bare": bare,
                "torch float32": partial(with_torch, "float32"),
                "torch bfloat16": partial(with_torch, "bfloat16"),
                "onnxruntime float32": partial(pipe_time, onnx_nlp, docs),
            }
            measure(programs, 1)
            seconds = measure(programs, args.rounds)
            for name, values in seconds.items():
                ratios = [b / v for b, v in zip(seconds["bare"], values, strict=True)]
                add(
                    {
                        "component": component,
                        "threads": threads,
                        "runtime": f"bare float32, batch {batch}" if name == "bare" else name,
                        "texts_per_s": round(len(docs) / statistics.median(values), 1),
                        "ratio": round(statistics.median(ratios), 2),
                    }
                )
        add({"what": "nothing", **start()})
        for name, path in (("torch", args.model), ("onnxruntime float32", converted)):
            add({"what": name, **start(str(path)), "disk_mib": size_mib(path)})
    if args.append is not None:
        with args.append.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    main()
