"""Annotate with shards, devices, Ray and Spark: equality, overhead, kills, failures and memory.

    python benchmarks/scale.py [--sections equal arrow ...] [--append docs/results/scale.jsonl]

equal     the same rows through one process, shards, devices, Ray, Ray Data and Spark, in batches and blocks
          of several sizes: rows with other annotations, and the largest difference of a score
arrow     processor time of an `ArrowAnnotator` and of `annotate` against `nlp.pipe`, in turns
ray       wall time of `annotate --engine ray` with two workers against two processes that run `nlp.pipe` on
          half of the rows each; the start of both apart. Needs two free cores.
flat      time of a row and memory of the process that reads and writes, for more and more rows
kills     a worker or the run itself is killed (SIGKILL) at a random moment; after that, and perhaps the same
          command again, the output must have the same bytes as that of a run that nobody disturbs
poisoned  one row of a hundred makes a component raise
pickle    bytes of a pickled annotator
missing   how soon a run ends whose workers cannot load the pipeline

The pipeline is the small one of benchmarks/annotate.py (float32); for "kills" without its network; and for
"arrow" and "ray" a trained one, --model. Ray runs in a cluster of this machine that is started once.
Needs spacy-spanrel[ray,spark] and Java; sections leave out an engine that is not installed.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import spacy
import torch
from annotate import sample_texts, small_pipeline, write_input
from memory import processor
from speed import peak_mib
from timing import alternate, show, write_rows

from spacy_spanrel.streams import annotate
from spacy_spanrel.streams.annotate import merge_shards
from spacy_spanrel.streams.arrow import ArrowAnnotator
from spacy_spanrel.streams.storage import ENDING

Row = dict[str, Any]
HAVE_RAY = find_spec("ray") is not None
HAVE_SPARK = find_spec("pyspark") is not None and shutil.which("java") is not None
RESULTS = ("entities", "relations", "answers")
ENGINES = ("local", "devices", "ray", "ray-data", "spark")
POISON = "XPOISONX"
SHARDS = 4
RUN = "import json, sys; from spacy_spanrel.streams import annotate; annotate(**json.loads(sys.argv[1]))"
# A package with two components: one raises for some texts, one exists only where a variable is set.
PLUGIN = {
    "scale_plugin.py": f"""
import os
from spacy.language import Language

@Language.component("poisoned")
def poisoned(doc):
    if "{POISON}" in doc.text:
        raise RuntimeError("poisoned")
    return doc

@Language.factory("only_here")
def only_here(nlp, name):
    if "SCALE_HERE" not in os.environ:
        raise OSError("the weights are not here")
    return lambda doc: doc
""",
    "scale_plugin-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: scale_plugin\nVersion: 1\n",
    "scale_plugin-1.dist-info/entry_points.txt": "[spacy_factories]\npoisoned = scale_plugin:poisoned\n"
    "only_here = scale_plugin:only_here\n",
}


# Runs in processes of their own


def job(settings: Row) -> None:
    """Annotate in this process, and print counts, seconds and memory."""
    torch.set_num_threads(1)
    start, start_processor = time.perf_counter(), time.process_time()
    report = annotate(**settings)
    row = {"rows": report.rows, "failed": report.failed, "seconds": time.perf_counter() - start}
    row["processor_s"] = time.process_time() - start_processor
    print(json.dumps({**row, "peak_mib": round(peak_mib())}))


def run_job(**settings: Any) -> Row:
    line = [sys.executable, __file__, "--job", json.dumps(settings, default=str)]
    process = subprocess.run(line, text=True, capture_output=True)
    if process.returncode:
        raise RuntimeError(process.stderr[-2000:])
    row: Row = json.loads(process.stdout.splitlines()[-1])
    return row


def command(*arguments: Any, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `annotate` as users do."""
    line = [sys.executable, "-m", "spacy", "spanrel", "annotate", *map(str, arguments), "--quiet"]
    return subprocess.run(line, capture_output=True, text=True, env={**os.environ, **environment})


def pipe_job(model: str, source: str, part: int) -> None:
    """Run `nlp.pipe` on every second row of a file, and print the seconds without loading."""
    torch.set_num_threads(1)
    nlp = spacy.load(model)
    texts = [row["text"] for row in read_rows(Path(source))][part::2]
    list(nlp.pipe(texts[:64]))
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.perf_counter()
    for _ in nlp.pipe(texts):
        pass
    print(time.perf_counter() - start)


def two_pipes(model: Path, source: Path) -> float:
    """Return the seconds of two processes that share the rows of a file."""
    pipe = subprocess.PIPE
    lines = [[sys.executable, __file__, "--pipe", str(model), str(source), str(i)] for i in (0, 1)]
    processes = [subprocess.Popen(x, stdin=pipe, stdout=pipe, text=True) for x in lines]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:  # both at once
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ends = [process.communicate()[0] for process in processes]
    return max(float(end.splitlines()[-1]) for end in ends)


# Engines


@contextmanager
def ray_cluster() -> Iterator[str]:
    """Start Ray on this machine. YIELDS (str): The cluster's address."""
    import ray

    # One core more than workers, for Ray Data's own tasks.
    context = ray.init(
        num_cpus=3, include_dashboard=False, logging_level="ERROR", log_to_driver=False
    )
    try:
        yield context.address_info["gcs_address"]
    finally:
        ray.shutdown()


def ray_data(model: Path, table: Any, blocks: int, batch: int, **settings: Any) -> list[Row]:
    import ray.data

    found = (
        ray.data.from_arrow(table)
        .repartition(blocks)
        .map_batches(
            ArrowAnnotator,
            fn_constructor_kwargs={"model": str(model), **settings},
            batch_format="pyarrow",
            batch_size=batch,
            concurrency=2,
        )
    )
    return list(found.take_all())


@contextmanager
def spark_session() -> Iterator[Any]:
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = builder.config("spark.sql.session.timeZone", "UTC").getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    try:
        yield session
    finally:
        session.stop()


def spark(session: Any, model: Path, path: Path, parts: int, batch: int, **more: Any) -> list[Row]:
    from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

    session.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", batch)
    frame = session.read.parquet(str(path)).repartition(parts)
    annotator = ArrowAnnotator(model, **more)
    schema = from_arrow_schema(annotator.output_schema(to_arrow_schema(frame.schema)))
    rows = frame.mapInArrow(annotator.iterate, schema).collect()
    return [row.asDict(recursive=True) for row in rows]


# Sections


def plain(value: Any, scores: list[float]) -> Any:
    """Return annotations without scores, which are appended to a list."""
    if isinstance(value, dict):
        scores += [value["score"]] if value.get("score") is not None else []
        return {key: plain(item, scores) for key, item in value.items() if key != "score"}
    return [plain(item, scores) for item in value] if isinstance(value, list) else value


def compare(expected: dict[str, Row], rows: Sequence[Row]) -> Row:
    """Compare rows with those of one process, by id."""
    other, largest, seen = 0, 0.0, set()
    for row in rows:
        seen.add(row["id"])
        theirs: list[float] = []
        ours: list[float] = []
        a = [plain(expected[row["id"]][name], theirs) for name in RESULTS]
        b = [plain(row[name], ours) for name in RESULTS]
        other += a != b
        if a == b:
            largest = max([largest, *(abs(x - y) for x, y in zip(theirs, ours, strict=True))])
    return {
        "rows": len(rows),
        "lost": len(expected.keys() - seen),
        "twice": len(rows) - len(seen),
        "other_annotations": other,
        "largest_score_difference": float(f"{largest:.1g}"),
    }


def read_rows(path: Path) -> list[Row]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def parquet_of(source: Path) -> tuple[Path, Any]:
    rows = read_rows(source)
    table = pyarrow.table({name: [row[name] for row in rows] for name in ("id", "text")})
    path = source.with_suffix(".parquet")
    pyarrow.parquet.write_table(table, path, row_group_size=1000)
    return path, table


def equal(args: argparse.Namespace, folder: Path) -> Iterator[Row]:
    model = small_pipeline(folder)
    source = write_input(folder / "in.jsonl", args.rows or 20_000)
    path, table = parquet_of(source)
    base = {"model": model, "source": source}
    annotate(**base, output=folder / "one.jsonl")
    expected = {row["id"]: row for row in read_rows(folder / "one.jsonl")}
    again: list[tuple[str, Row]] = [
        (f"one process, batches of {batch}", {"batch_size": batch})
        for batch in (7, 64)
        if "local" in args.engines
    ]
    if "devices" in args.engines:
        again += [("two devices", {"devices": ["cpu", "cpu"]})]

    def difference(engine: str, rows: Sequence[Row]) -> Row:
        return {"engine": engine, **compare(expected, rows)}

    for i, (name, settings) in enumerate(again):
        annotate(**base, output=folder / f"{i}.jsonl", **settings)
        yield difference(name, read_rows(folder / f"{i}.jsonl"))
    for by in ("rows", "files") if "local" in args.engines else ():
        shards = folder / f"by_{by}"
        parts = folder / f"files_{by}"
        parts.mkdir()
        if by == "files":
            for i, rows in enumerate(split(source.read_text("utf-8").splitlines(), 9)):
                (parts / f"{i}.jsonl").write_text("\n".join(rows), "utf-8")
        for i in range(1, SHARDS + 1):
            given = {**base, "source": source if by == "rows" else parts}
            annotate(**given, output=shards, shard=f"{i}/{SHARDS}", shard_by=by)
        yield difference(f"{SHARDS} shards by {by}, merged", read_rows(merge_shards(shards).output))
    with ExitStack() as stack:
        if HAVE_RAY and {"ray", "ray-data"} & set(args.engines):
            stack.enter_context(ray_cluster())
            for batch in (None, 50) if "ray" in args.engines else ():
                output = folder / f"ray_{batch}.jsonl"
                annotate(**base, output=output, batch_size=batch, engine="ray", workers=2)
                yield difference(f"Ray, 2 workers, batches of {batch or 1000}", read_rows(output))
            for blocks, batch in ((2, 1000), (7, 333)) if "ray-data" in args.engines else ():
                found = ray_data(model, table, blocks, batch)
                name = f"Ray Data, 2 workers, {blocks} blocks, batches of {batch}"
                yield difference(name, found)
    if HAVE_SPARK and "spark" in args.engines:
        with spark_session() as session:
            for count, batch in ((2, 10_000), (7, 333)):
                found = spark(session, model, path, count, batch)
                yield difference(f"Spark local[2], {count} partitions, batches of {batch}", found)


def split(rows: Sequence[str], n: int) -> list[Sequence[str]]:
    size = -(-len(rows) // n)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def arrow(args: argparse.Namespace, folder: Path) -> Iterator[Row]:
    rows = args.rows or 400
    source = write_input(folder / "in.jsonl", rows)
    table = parquet_of(source)[1]
    texts = table["text"].to_pylist()
    annotator = ArrowAnnotator(args.model)
    nlp = annotator.load()

    def timed(function: Callable[[], object]) -> float:
        start = time.process_time()
        function()
        return time.process_time() - start

    def piped() -> object:
        return [None for _ in nlp.pipe(texts)]

    def to_file() -> object:
        return annotate(nlp, source, folder / "out.jsonl", restart=True)

    paths = {"ArrowAnnotator": lambda: annotator(table), "annotate": to_file}
    for name, path in paths.items():
        a, b, ratio = alternate(partial(timed, path), partial(timed, piped), args.rounds)
        yield {
            "path": name,
            "rows": rows,
            "ms_per_row": round(1000 * a / rows, 3),
            "nlp_pipe_ms_per_row": round(1000 * b / rows, 3),
            "ratio": round(ratio, 3),
        }


def ray_overhead(args: argparse.Namespace, folder: Path) -> Iterator[Row]:
    if not HAVE_RAY:
        return
    many = args.rows or 6_000
    few = many // 6
    model = str(args.model.resolve())
    sources = {n: write_input(folder / f"{n}.jsonl", n) for n in (few, many)}
    with ray_cluster() as address:
        for number in range(args.rounds):
            pipes = two_pipes(args.model, sources[many]) / many
            seconds, processor_s = {}, {}
            for n, source in sources.items():
                given = {"engine": "ray", "workers": 2, "address": address}
                output = folder / f"{n}_{number}.jsonl"
                run = run_job(model=model, source=source, output=output, **given)
                seconds[n], processor_s[n] = run["seconds"], run["processor_s"]
            row = (seconds[many] - seconds[few]) / (many - few)
            yield {
                "rows": many,
                "two_processes_ms_per_row": round(1000 * pipes, 3),
                "ray_ms_per_row": round(1000 * row, 3),
                "ratio": round(row / pipes, 3),
                "start_s": round(seconds[few] - few * row, 1),
                # Of the process that reads and writes: valid on a busy machine, too.
                "processor_ms_per_row": round(
                    1000 * (processor_s[many] - processor_s[few]) / (many - few), 3
                ),
            }


def flat(args: argparse.Namespace, folder: Path) -> Iterator[Row]:
    model = small_pipeline(folder)
    counts = [args.rows // 10, args.rows] if args.rows else [10_000, 30_000, 100_000]
    with ExitStack() as stack:
        engines: dict[str, Row] = {"one process": {}}
        if HAVE_RAY:
            address = stack.enter_context(ray_cluster())
            engines["Ray, 2 workers"] = {"engine": "ray", "workers": 2, "address": address}
        for name, settings in engines.items():
            before: Row = {"seconds": 0, "rows": 0}
            for n in counts:
                source = write_input(folder / "in.jsonl", n)
                output = folder / "out.jsonl"
                run = run_job(model=model, source=source, output=output, restart=True, **settings)
                rows, seconds = run["rows"] - before["rows"], run["seconds"] - before["seconds"]
                yield {
                    "engine": name,
                    "rows": n,
                    "ms_per_row": round(1000 * run["seconds"] / n, 3),
                    "ms_per_further_row": round(1000 * seconds / rows, 3),
                    "processor_ms_per_row": round(1000 * run["processor_s"] / n, 3),
                    "peak_mib": run["peak_mib"],
                }
                before = run


def kills(args: argparse.Namespace, folder: Path) -> Iterator[Row]:
    nlp = spacy.load(small_pipeline(folder))
    nlp.remove_pipe("span_relation")  # most of the time would pass with loading it
    model = folder / "rules"
    nlp.to_disk(model)
    source = write_input(folder / "in.jsonl", args.rows or 10_000)
    base = {"model": model, "source": source, "chunk_size": 100, "batch_size": 25}
    whole = folder / "whole.jsonl"
    annotate(**base, output=whole)
    moments = random.Random(args.seed)
    with ExitStack() as stack:
        engines: dict[str, Row] = {}
        if "devices" in args.engines:
            engines["devices"] = {"devices": ["cpu", "cpu"]}
        if HAVE_RAY and "ray" in args.engines:
            address = stack.enter_context(ray_cluster())
            engines["ray"] = {"engine": "ray", "workers": 2, "address": address}
        for engine, settings in engines.items():
            for victim in args.victims:
                runs = []
                for _ in range(args.kills):
                    given = {**base, **settings, "output": folder / f"{engine}.jsonl"}
                    runs.append(killed_run(given, victim, moments))
                    print(engine, victim, len(runs), runs[-1], file=sys.stderr, flush=True)
                    if whole.read_bytes() != given["output"].read_bytes():
                        raise SystemExit(f"{engine}, {victim} killed: another output, {runs[-1]}")
                    given["output"].unlink()
                yield {
                    "engine": engine,
                    "killed": victim,
                    "runs": len(runs),
                    "killed_before_end": sum(run["killed"] for run in runs),
                    "given_again": sum(run["again"] for run in runs),
                    "equal_bytes": len(runs),
                    "rows_committed_at_kill": sorted(run["committed"] for run in runs),
                }


def killed_run(given: Row, victim: str, moments: random.Random) -> Row:
    """Annotate in another process; kill it or a worker of it when so many rows are committed; and give
    the same command again if it has not written its output."""
    output: Path = given["output"]
    n_rows = sum(1 for _ in given["source"].open("rb"))
    moment = moments.randrange(n_rows)
    progress = Path(f"{output}{ENDING}", "progress.json")
    line = [sys.executable, "-W", "ignore", "-c", RUN, json.dumps(given, default=str)]
    process = subprocess.Popen(line, stderr=subprocess.DEVNULL)
    committed = 0
    while process.poll() is None and committed <= moment:
        time.sleep(moments.uniform(0.0, 0.05))
        with suppress(OSError, ValueError):
            committed = json.loads(progress.read_bytes())["rows"] or committed
        # Some before anything is committed: as soon as there is a process to be killed.
        if moment < n_rows // 10 and worker_processes(process.pid, "engine" in given):
            time.sleep(moments.uniform(0.0, 4.0))
            break
    workers = worker_processes(process.pid, "engine" in given)
    pid = process.pid if victim == "run" else moments.choice([*workers, 0][: len(workers) or 1])
    killed = False
    if pid and process.poll() is None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed = True
    process.wait()
    again = not output.exists()
    if again:
        annotate(**given)
    return {"killed": killed, "again": again, "committed": committed}


def worker_processes(run: int, of_ray: bool) -> list[int]:
    """Return the processes that annotate for a run."""
    pids = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            line = Path("/proc", name, "cmdline").read_bytes()
            # Ray's workers are children of its raylet, which this process has started.
            if (
                of_ray and line.startswith(b"ray::Worker") and parent(parent(name)) == os.getpid()
            ) or (not of_ray and b"spawn_main" in line and parent(name) == run):
                pids.append(int(name))
    return pids


def parent(pid: int | str) -> int:
    """Return the parent of a process."""
    status = Path("/proc", str(pid), "status").read_text()
    return int(re.search(r"^PPid:\s+(\d+)$", status, re.MULTILINE)[1])  # type: ignore[index]


def poisoned(args: argparse.Namespace, folder: Path) -> Iterator[Row]:
    clean = small_pipeline(folder)
    nlp = spacy.load(clean)
    nlp.add_pipe("poisoned", first=True)
    model = folder / "poisoned"
    nlp.to_disk(model)
    n = args.rows or 5_000
    source = folder / "in.jsonl"
    texts = [f"{text} Item{i}." for i, text in enumerate(islice(cycle(sample_texts()), n))]
    bad = set(random.Random(args.seed).sample(range(n), n // 100))
    rows = [
        {"id": f"{i}", "text": f"{text} {POISON}" if i in bad else text}
        for i, text in enumerate(texts)
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run_job(model=clean, source=source, output=folder / "clean.jsonl")
    expected = {r["id"]: r for r in read_rows(folder / "clean.jsonl") if int(r["id"]) not in bad}

    def counted(engine: str, good: Sequence[Row], failed: int, exit_code: int | None) -> Row:
        more = {"failed": failed, "expected_to_fail": len(bad), "exit_code": exit_code}
        return {"engine": engine, **more, **compare(expected, good)}

    with ExitStack() as stack:
        engines = {"one process": [], "two devices": ["--devices", "cpu,cpu"]}
        if HAVE_RAY:
            address = stack.enter_context(ray_cluster())
            engines["Ray, 2 workers"] = ["--engine", "ray", "--workers", "2", "--address", address]
        for name, options in engines.items():
            output = folder / f"{name[:3]}.jsonl"
            code = command(model, source, output, "--strict", *options).returncode
            failed = len(read_rows(Path(f"{output}.errors.jsonl")))
            yield counted(name, read_rows(output), failed, code)
        path, table = parquet_of(source)
        found: dict[str, Callable[[], list[Row]]] = {}
        if HAVE_RAY:
            found["Ray Data"] = lambda: ray_data(model, table, 7, 333)
        if HAVE_SPARK:
            session = stack.enter_context(spark_session())
            found["Spark"] = lambda: spark(session, model, path, 7, 333)
        for name, run in found.items():
            rows = run()
            good = [row for row in rows if row["error"] is None]
            yield counted(name, good, len(rows) - len(good), None)


def pickled(args: argparse.Namespace, folder: Path) -> Iterator[Row]:
    annotator = ArrowAnnotator(small_pipeline(folder), config={"nlp.batch_size": 64})
    annotator(pyarrow.table({"id": ["a"], "text": [sample_texts()[0]]}))
    yield {"bytes": len(pickle.dumps(annotator)), "pipeline_loaded": True}


def missing(args: argparse.Namespace, folder: Path) -> Iterator[Row]:
    nlp = spacy.blank("en")
    os.environ["SCALE_HERE"] = "1"
    nlp.add_pipe("only_here")
    del os.environ["SCALE_HERE"]
    model = folder / "only_here"
    nlp.to_disk(model)
    source = write_input(folder / "in.jsonl", 1000)
    path, table = parquet_of(source)

    def ended(engine: str, run: Callable[[], object]) -> Row:
        start = time.perf_counter()
        try:
            message = str(run())
        except Exception as error:
            message = str(error)
        reason = re.findall(r"\[E_SR\d+\]|the weights are not here", message)
        seconds = round(time.perf_counter() - start, 1)
        return {"engine": engine, "ended_after_s": seconds, "names": sorted(set(reason))}

    if HAVE_RAY:
        with ray_cluster() as address:
            options = ["--engine", "ray", "--workers", "2", "--address", address]
            yield ended(
                "Ray",
                lambda: command(model, source, folder / "x.jsonl", *options, SCALE_HERE="1").stderr,
            )
            yield ended("Ray Data", lambda: ray_data(model, table, 7, 333))
    if HAVE_SPARK:
        with spark_session() as session:
            yield ended("Spark", lambda: spark(session, model, path, 2, 333))


SECTIONS: dict[str, Callable[[argparse.Namespace, Path], Iterator[Row]]] = {
    "equal": equal,
    "arrow": arrow,
    "ray": ray_overhead,
    "flat": flat,
    "kills": kills,
    "poisoned": poisoned,
    "pickle": pickled,
    "missing": missing,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--rows", type=int, help="instead of the number of each section")
    parser.add_argument("--model", type=Path, default=Path("training/sample/model-best"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=20, help="runs of each kind")
    parser.add_argument(
        "--engines", nargs="+", default=ENGINES, choices=ENGINES, help="for equal and kills"
    )
    parser.add_argument("--victims", nargs="+", default=["worker", "run"], help="for kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--append", type=Path, help="file of JSON lines for the results")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--pipe", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        job(args.job)
        return
    if args.pipe:
        model, source, part = args.pipe
        pipe_job(model, source, int(part))
        return
    torch.set_num_threads(1)
    plugin = tempfile.TemporaryDirectory()  # Spark's workers outlive a section
    add_plugin(Path(plugin.name))
    for section in args.sections:
        with tempfile.TemporaryDirectory() as name:
            for row in SECTIONS[section](args, Path(name)):
                row = {"section": section, "processor": processor(), **row}
                show(row)
                if args.append:
                    write_rows(args.append, [row], "a")
    plugin.cleanup()


def add_plugin(folder: Path) -> None:
    """Install the package of components, for this process and all that it starts."""
    for name, content in PLUGIN.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    sys.path.insert(0, str(folder))
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # Spark's processes are forked
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *([before] if before else [])])
    import_module("scale_plugin")  # spaCy has looked for other packages' components already


if __name__ == "__main__":
    main()
