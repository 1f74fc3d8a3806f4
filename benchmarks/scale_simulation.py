"""How many workers one process can feed, and what a hundred million documents cost.

    python benchmarks/scale_simulation.py MODEL [--texts texts.jsonl] [--append docs/results/scale.jsonl]

First the parts of `annotate` are measured, one after the other in this process, with one thread of torch: the
seconds of each batch, of reading, sending and collecting a row, of committing a chunk, and of starting. From
them, runs are simulated with 1 to 64 workers as `annotate` organizes them: one process reads, keeps as many
batches ahead as the engine wants, takes the results in order, and commits chunks. Or every worker is a shard
that reads the whole input. A batch takes the seconds of one that was measured, drawn by chance (skew), times
the speed of its worker, times STRAGGLE for one of a hundred (stragglers).

"GPU" stands for workers that are FASTER times as fast, with the same reading and writing.
"""

from __future__ import annotations

import argparse
import json
import pickle
import random
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import spacy
import torch
from annotate import write_input
from memory import processor
from timing import show, write_rows

from spacy_spanrel.streams import annotate
from spacy_spanrel.streams.annotator import RowAnnotator
from spacy_spanrel.streams.progress import Progress, Workplace
from spacy_spanrel.streams.readers import ReadSettings, find_source
from spacy_spanrel.streams.workers import pack
from spacy_spanrel.streams.writers import JsonLinesWriter

WORKERS = (1, 2, 4, 8, 16, 32, 64)
# Rows of a chunk, and how many batches of each worker are ahead.
WAYS = ((100, 2), (1000, 2), (10_000, 2), (1000, 4), (1000, 8))
BATCH = 256
ROWS = 1_000_000
DOCUMENTS = 100_000_000
# One batch of a hundred takes so many times as long, and workers differ in speed by this much (one sigma).
STRAGGLE, STRAGGLERS, SIGMA = 5, 0.01, 0.1
FASTER = 20


@dataclass(frozen=True)
class Costs:
    """Measured seconds.

    batch (dict[int, list[float]]): Of batches, by their rows.
    read, send, collect (float): Of a row in the process that reads and writes.
    commit (float): Of a chunk there.
    start (float): Of a worker, until it has loaded the pipeline.
    """

    batch: dict[int, list[float]]
    read: float
    send: float
    collect: float
    commit: float
    start: float


def measure(model: Path, source: Path, folder: Path) -> Costs:
    nlp = spacy.load(model)
    annotator = RowAnnotator(nlp, BATCH, nlp.max_length)
    seconds = time.perf_counter

    begin = seconds()
    rows = list(find_source(source, None).read(ReadSettings(nlp.vocab)))
    read = (seconds() - begin) / len(rows)
    begin = time.process_time()
    for row in rows:
        pickle.loads(pickle.dumps(pack(row)))
    send = (time.process_time() - begin) / len(rows)

    annotator.render(range(1, BATCH + 1), rows[:BATCH], JsonLinesWriter.render)
    batch: dict[int, list[float]] = {}
    results = []
    for size in {min(BATCH, chunk) for chunk, _ in WAYS}:
        for start in range(0, len(rows) - size + 1, size):
            begin = time.process_time()
            part = rows[start : start + size]
            results = annotator.render(range(1, size + 1), part, JsonLinesWriter.render)
            batch.setdefault(size, []).append(time.process_time() - begin)
    begin = time.process_time()
    for _ in range(20):
        sent = pickle.loads(pickle.dumps(results))
    collect = (time.process_time() - begin) / 20 / len(results)

    with Workplace(folder / "committed.jsonl") as workplace:
        writer = JsonLinesWriter(workplace)
        writer.start({})
        begin = seconds()
        for _ in range(20):
            state = writer.commit([row.output for row in sent])
            Progress(fingerprint={}, output=state).save(workplace.progress_path)
        commit = (seconds() - begin) / 20
        writer.close()
    code = "import sys, spacy, spacy_spanrel.streams.engines; spacy.load(sys.argv[1])"
    starts = []
    for _ in range(3):
        begin = seconds()
        subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(model)], check=True)
        starts.append(seconds() - begin)
    return Costs(batch, read, send, collect, commit, min(starts))


def simulate(
    costs: Costs, *, workers: int, chunk_rows: int, ahead: int, rows: int, seed: int
) -> float:
    """Return the seconds of a run whose rows one process reads and writes."""
    chance = random.Random(seed)
    speed = [chance.lognormvariate(0, SIGMA) for _ in range(workers)]
    free = [costs.start * chance.lognormvariate(0, SIGMA) for _ in range(workers)]
    ends: list[deque[float]] = [deque() for _ in range(workers)]
    batch = min(BATCH, chunk_rows)
    sizes = [min(batch, chunk_rows - start) for start in range(0, chunk_rows, batch)]
    now, left = 0.0, rows // chunk_rows
    chunks: deque[list[float]] = deque()
    while left or chunks:
        while left and (not chunks or (len(chunks) - 1) * len(sizes) < ahead * workers):
            now += chunk_rows * (costs.read + costs.send)
            done = []
            for size in sizes:
                for queue in ends:
                    while queue and queue[0] <= now:
                        queue.popleft()
                worker = min(range(workers), key=lambda i: len(ends[i]))
                seconds = chance.choice(costs.batch[batch]) * size / batch * speed[worker]
                seconds *= STRAGGLE if chance.random() < STRAGGLERS else 1
                free[worker] = max(free[worker], now) + seconds
                ends[worker].append(free[worker])
                done.append(free[worker])
            chunks.append(done)
            left -= 1
        now = max(now, *chunks.popleft()) + chunk_rows * costs.collect + costs.commit
    return now


def simulate_shards(costs: Costs, *, workers: int, chunk_rows: int, rows: int, seed: int) -> float:
    """Return the seconds of the last of several runs that each annotate a share of the rows."""
    chance = random.Random(seed)
    ends = []
    for _ in range(workers):
        speed = chance.lognormvariate(0, SIGMA)
        seconds = costs.start * speed + rows * costs.read
        for _ in range(rows // workers // BATCH):
            straggle = STRAGGLE if chance.random() < STRAGGLERS else 1
            seconds += chance.choice(costs.batch[BATCH]) * speed * straggle
        ends.append(seconds + rows // workers // chunk_rows * costs.commit)
    return max(ends)


def tables(costs: Costs) -> Iterator[dict[str, Any]]:
    faster = {size: [x / FASTER for x in batch] for size, batch in costs.batch.items()}
    for kind, given in (("core", costs), ("GPU", replace(costs, batch=faster))):
        ways: dict[str, Callable[..., float]] = {
            f"chunks of {chunk}, {ahead} batches ahead": partial(
                simulate, given, chunk_rows=chunk, ahead=ahead, rows=ROWS
            )
            for chunk, ahead in WAYS
        }
        ways["shards by rows"] = partial(simulate_shards, given, chunk_rows=1000, rows=ROWS)
        size = max(given.batch)
        alone = mean(given.batch[size]) / size * ROWS * (1 + STRAGGLERS * (STRAGGLE - 1))
        for way, run in ways.items():
            seconds = {n: median(run(workers=n, seed=seed) for seed in range(3)) for n in WORKERS}
            yield {
                "section": "simulation",
                "workers_are": kind,
                "way": way,
                "times_as_fast": {n: round(alone / s, 1) for n, s in seconds.items()},
                # So many workers are busy nine tenths of the time; more of them are not.
                "linear_up_to": max(
                    (n for n in WORKERS if alone >= 0.9 * n * seconds[n]), default=0
                ),
            }


def cost(costs: Costs, source: Path, model: Path, folder: Path) -> dict[str, Any]:
    """Return what many documents cost, by arithmetic."""
    size = max(costs.batch)
    per_row = mean(costs.batch[size]) / size
    n = 0
    sizes = {}
    for name in ("out.jsonl", "out.parquet"):
        report = annotate(model, source, folder / name)
        n = report.rows
        sizes[name.removeprefix("out.")] = round(report.output.stat().st_size / n * DOCUMENTS / 1e9)
    words = sum(len(json.loads(line)["text"].split()) for line in source.open(encoding="utf-8"))
    return {
        "section": "cost",
        "documents": DOCUMENTS,
        "words_per_document": round(words / n, 1),
        "documents_per_s_and_core": round(1 / per_row),
        "core_hours": round(DOCUMENTS * per_row / 3600),
        "core_hours_of_reading_and_writing": round(
            DOCUMENTS * (costs.read + costs.send + costs.collect + costs.commit / 1000) / 3600, 1
        ),
        "input_gb": round(source.stat().st_size / n * DOCUMENTS / 1e9),
        "output_gb": sizes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--texts", type=Path, help="JSON lines (default: the sample corpus)")
    parser.add_argument("--rows", type=int, default=4096, help="rows of the sample corpus")
    parser.add_argument("--append", type=Path, help="file of JSON lines for the results")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = args.texts or write_input(folder / "in.jsonl", args.rows)
        costs = measure(args.model, source, folder)
        measured = {
            "section": "measured",
            "ms_per_batch": {
                size: [round(1000 * f(x)) for f in (min, median, max)]
                for size, x in costs.batch.items()
            },
            **{
                f"{name}_us_per_row": round(1e6 * getattr(costs, name), 1)
                for name in ("read", "send", "collect")
            },
            "commit_ms": round(1000 * costs.commit, 1),
            "start_s": round(costs.start, 1),
        }
        rows = [measured, *tables(costs), cost(costs, source, args.model, folder)]
    for row in rows:
        row = {"processor": processor(), **row}
        show(row)
        if args.append:
            write_rows(args.append, [row], "a")


if __name__ == "__main__":
    main()
