"""Speed, start, memory and size of a pipeline with torch and with ONNX Runtime, on a CPU.

Each runtime is compared with the bare Hugging Face network: its forward pass in float32, on the rows that
the component reads, sorted by length, at its best batch size. All programs take turns, and the ratio is
the median of the ratios of the rounds. "start" is a process that imports spaCy, loads the pipeline and reads
a first text; "nothing" is one that only imports spaCy. Other packages' factories are hidden from it, because
spaCy imports spacy-transformers where it is installed.

    python benchmarks/runtimes.py MODEL --texts dev.spacy [--append docs/results/runtimes.jsonl]

MODEL has one component of this package, with a network of its own. Needs spacy-spanrel[onnx].

With ATEN_CPU_CAPABILITY=avx2 and ONEDNN_MAX_CPU_ISA=AVX2 in the environment, torch computes as on a processor
without AVX-512. ONNX Runtime has no such setting and uses all that the processor has, which its rows say.
ONNXRUNTIME_ISA names the instruction sets of an ONNX Runtime that was built or changed to use fewer.
"""

from __future__ import annotations

import argparse
import os
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
from timing import best_bare_forward, clock, show, use_processor_time, write_rows

from spacy_spanrel.conversion.comparison import docs_to_compare
from spacy_spanrel.conversion.runtime import optimize
from spacy_spanrel.encoding import rows as encoding_rows
from spacy_spanrel.encoding.checkpoint import HFModule
from spacy_spanrel.encoding.shim import torch_shims
from spacy_spanrel.evaluation import our_components

CPU = torch.device("cpu")
# The peak is read from /proc: ru_maxrss starts with the peak of the parent process.
START = """
import sys, time
from importlib.metadata import EntryPoints, distributions
import catalogue
points = [point for distribution in distributions() for point in distribution.entry_points]
ours = [p for p in points if p.value.startswith(("spacy.", "thinc.", "spacy_spanrel."))]
catalogue.AVAILABLE_ENTRY_POINTS = EntryPoints(ours)
begin = time.{clock}()
import spacy
if len(sys.argv) > 1:
    spacy.load(sys.argv[1])("Maria Keller works for Northwind Bank in Zurich.")
print(time.{clock}() - begin)
print(next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if "VmHWM" in line))
"""


def processor(runtime: str) -> str:
    """Return the name of the processor, and the instruction sets that a runtime uses."""
    lines = dict(
        line.split(": ", 1)
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if ": " in line
    )
    fields = {name.strip(): value for name, value in lines.items()}
    flags = fields.get("flags", "").split()
    if not runtime.startswith("onnxruntime"):
        sets = str(torch.backends.cpu.get_cpu_capability())
        limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
        sets += f", oneDNN {limit}" if limit else ""
    else:
        known = {"avx2": "AVX2", "avx512f": "AVX512", "avx512_vnni": "VNNI", "avx_vnni": "AVX-VNNI"}
        sets = os.environ.get("ONNXRUNTIME_ISA", "")
        sets = sets or " ".join(name for flag, name in known.items() if flag in flags)
    bfloat16 = " with bfloat16" if "avx512_bf16" in flags and "AVX512" in sets else ""
    return (
        f"{fields.get('model name', '?')}, {sets}{bfloat16 if runtime.startswith('torch') else ''}"
    )


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


def network_of(nlp: Language, component: str) -> HFModule:
    """Return the only network of a component."""
    shims = torch_shims(nlp.get_pipe(component).model)
    (network,) = (m for s in shims for m in s.module.modules() if isinstance(m, HFModule))
    return network


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


def start(clock: str, *arguments: str) -> dict[str, float]:
    """Return seconds and peak memory (MiB) of a process that loads a pipeline, if one is given.

    clock (str): The function of `time` that counts, "perf_counter" or "process_time".
    """
    program = START.replace("{clock}", clock)
    command = [sys.executable, "-W", "ignore", "-c", program, *arguments]
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
    parser.add_argument("--keep", type=Path, help="folder for the conversions, to be used again")
    args = parser.parse_args()
    if args.processor_time:
        use_processor_time()

    def add(row: dict[str, Any]) -> None:
        row = {"processor": processor(row["runtime"]), **row}
        show(row)
        if args.append is not None:
            write_rows(args.append, [row], "a")

    with tempfile.TemporaryDirectory() as folder:
        converted = (args.keep or Path(folder)) / "onnx"
        integers = (args.keep or Path(folder)) / "int8"
        for path in (converted, integers):
            if not path.exists():
                optimize(args.model, path, texts=args.texts, int8=path is integers)
        torch_nlp, onnx_nlp, int8_nlp = map(spacy.load, (args.model, converted, integers))
        (component,) = our_components(torch_nlp)
        docs = list(docs_to_compare(torch_nlp, args.texts))[: args.limit]
        module = network_of(torch_nlp, component)
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
                "onnxruntime int8": partial(pipe_time, int8_nlp, docs),
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
        seconds = "process_time" if args.processor_time else "perf_counter"
        paths = {
            "torch": args.model,
            "onnxruntime float32": converted,
            "onnxruntime int8": integers,
        }
        for name, path in {"nothing": None, **paths}.items():
            folder = [] if path is None else [str(path)]
            best = min((start(seconds, *folder) for _ in range(3)), key=lambda run: run["start_s"])
            size = {} if path is None else {"disk_mib": size_mib(path)}
            add({"component": component, "runtime": name, **best, **size})


if __name__ == "__main__":
    main()
