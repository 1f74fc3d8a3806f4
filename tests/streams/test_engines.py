from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import spacy

from spacy_spanrel.converters import ConversionError
from spacy_spanrel.streams import annotate
from spacy_spanrel.streams.arrow import ArrowAnnotator
from spacy_spanrel.streams.workers import Engine

from .util import TEXTS, numbered, read_jsonl, rules, write_jsonl, write_source

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Return the folder of a pipeline that other processes can load: its components are spaCy's."""
    path = tmp_path_factory.mktemp("rules") / "pipeline"
    rules().to_disk(path)
    return path


def test_a_process_for_each_device(path, tmp_path):
    texts = numbered(60)
    texts[7] = "x" * 200
    rows = [{"id": i, "text": text} for i, text in enumerate(texts)]
    source = write_jsonl(tmp_path / "in.jsonl", rows)
    settings = {"chunk_size": 20, "batch_size": 6, "max_chars": 100}
    one = annotate(path, source, tmp_path / "one.jsonl", **settings)
    two = annotate(path, source, tmp_path / "two.jsonl", devices=["cpu", "cpu"], **settings)
    assert two.output.read_bytes() == one.output.read_bytes()
    assert two.errors.read_bytes() == one.errors.read_bytes()
    assert (two.rows, two.failed, two.entities) == (60, 1, 59 * 3)


def test_work_is_submitted_behind_the_chunk_that_is_waited_for(path, tmp_path, monkeypatch):
    events = []

    class Recording(Engine):
        ahead = 2

        def submit(self, numbers, rows):
            events.append(f"submit {numbers.start}")
            result = super().submit(numbers, rows)

            def waiting():
                events.append(f"wait {numbers.start}")
                return result()

            return waiting

    monkeypatch.setattr(sys.modules["spacy_spanrel.streams.annotate"], "Engine", Recording)
    source = write_jsonl(tmp_path / "in.jsonl", numbered(12))
    annotate(path, source, tmp_path / "x.jsonl", chunk_size=4, batch_size=2)
    assert events[:6] == ["submit 1", "submit 3", "submit 5", "submit 7", "wait 1", "wait 3"]
    assert events[6:] == ["submit 9", "submit 11", "wait 5", "wait 7", "wait 9", "wait 11"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engine": "spark"}, "--engine.*local, ray"),
        ({"workers": 2}, "--engine.*'ray', to which"),
        ({"gpus_per_worker": 1}, "--engine.*'ray', to which"),
        ({"address": "auto"}, "--engine.*'ray', to which"),
        ({"devices": ["cpu"], "n_process": 2}, "one of them"),
        ({"devices": ["cpu", "gpu"]}, "--devices.*'gpu'"),
        ({"devices": ["cuda:99"]}, "--devices.*'cuda:99'"),
        ({"devices": ["cpu"], "engine": "ray"}, "one of them"),
        ({"engine": "ray", "workers": 0}, "--workers.*greater than 0"),
    ],
)
def test_settings_that_do_not_fit_together(path, tmp_path, settings, message):
    with pytest.raises(ConversionError, match=message):
        annotate(path, write_jsonl(tmp_path / "in.jsonl", TEXTS), tmp_path / "x", **settings)


def test_only_a_pipeline_with_a_name_can_be_loaded_elsewhere(tmp_path):
    source = write_jsonl(tmp_path / "in.jsonl", TEXTS)
    with pytest.raises(ValueError, match="E_SR960"):
        annotate(spacy.blank("en"), source, tmp_path / "x.jsonl", devices=["cpu"])


@pytest.fixture
def table():
    """Return texts, one of which cannot be annotated."""
    ids = pyarrow.array(map(str, range(200)))
    return pyarrow.table({"id": ids, "text": [None, *numbered(199)]})


def docs_example(call: str, path: Path) -> str:
    """Return the example of the docs with a call, for the pipeline in a folder."""
    blocks = re.findall(
        r"```text\n(.*?)```", (ROOT / "docs/scale.md").read_text("utf-8"), re.DOTALL
    )
    (example,) = (block for block in blocks if f".{call}(" in block)
    assert "/shared/model-best" in example
    return example.replace("/shared/model-best", str(path))


# Spark


@pytest.fixture
def spark(monkeypatch):
    """Start Spark on this machine, with two cores."""
    pytest.importorskip("pyspark", reason="needs Spark: pip install 'spacy-spanrel[spark]'")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("Spark needs Java: apt-get install default-jre-headless")
    from pyspark.sql import SparkSession

    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", 13).getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


def test_spark(spark, path, table, tmp_path):
    """The example of the docs gives the rows of one process, in whichever order, and its errors."""
    pyarrow.parquet.write_table(table, tmp_path / "in.parquet")
    names = {"frame": spark.read.parquet(str(tmp_path / "in.parquet")).repartition(3)}
    exec(compile(docs_example("mapInArrow", path), "docs/scale.md", "exec"), names)
    rows = [row.asDict(recursive=True) for row in names["annotated"].collect()]
    rows.sort(key=lambda row: int(row["id"]))
    assert rows == ArrowAnnotator(path)(table).to_pylist()
    assert rows[0]["error"]
    assert not rows[1]["error"]


def test_spark_names_a_pipeline_that_its_workers_cannot_load(spark, path, table, tmp_path):
    from pyspark.errors import PythonException

    pyarrow.parquet.write_table(table, tmp_path / "in.parquet")
    names = {"frame": spark.read.parquet(str(tmp_path / "in.parquet"))}
    shutil.copytree(path, tmp_path / "pipeline")
    exec(compile(docs_example("mapInArrow", tmp_path / "pipeline"), "docs/scale.md", "exec"), names)
    shutil.rmtree(tmp_path / "pipeline")
    with pytest.raises(PythonException, match="E_SR961"):
        names["annotated"].collect()


# Ray


@pytest.fixture(scope="module")
def ray():
    """Start Ray on this machine, for all tests of the module."""
    ray = pytest.importorskip("ray", reason="needs Ray: pip install 'spacy-spanrel[ray]'")
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv", "spacy"])
def test_ray_gives_the_same_file(ray, path, tmp_path, kind):
    rows = [{"id": f"r{i}", "text": text} for i, text in enumerate(numbered(60))]
    rows[7]["text"] = "x" * 200
    source = write_source(tmp_path / f"in.{kind}", rows)
    settings = {"chunk_size": 20, "batch_size": 6, "max_chars": 100}
    one = annotate(path, source, tmp_path / "one.jsonl", **settings)
    two = annotate(path, source, tmp_path / "two.jsonl", engine="ray", workers=2, **settings)
    assert two.output.read_bytes() == one.output.read_bytes()
    assert two.errors.read_bytes() == one.errors.read_bytes()


def test_a_worker_of_ray_that_is_killed(ray, path, tmp_path):
    texts = numbered(3_000)
    source = write_jsonl(tmp_path / "in.jsonl", texts)
    killed: list[int] = []
    done = threading.Event()

    def kill() -> None:
        while not done.is_set() and not killed:
            workers = ray_workers()
            if len(workers) == 2:
                os.kill(workers[0], signal.SIGKILL)
                killed.append(workers[0])
            time.sleep(0.05)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        report = annotate(
            path,
            source,
            tmp_path / "x.jsonl",
            engine="ray",
            workers=2,
            chunk_size=200,
            batch_size=50,
        )
    finally:
        done.set()
        thread.join()
    assert killed
    assert (report.rows, report.annotated) == (3_000, 3_000)
    assert [row["text"] for row in read_jsonl(report.output)] == texts


def ray_workers() -> list[int]:
    """Return the processes of Ray that annotate."""
    pids = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                command = Path("/proc", name, "cmdline").read_bytes()
                pids += [int(name)] if command.startswith(b"ray::Worker") else []
    return pids


def test_ray_names_a_pipeline_that_its_workers_cannot_load(ray, path, tmp_path, monkeypatch):
    source = write_jsonl(tmp_path / "in.jsonl", TEXTS)
    monkeypatch.setattr(
        ArrowAnnotator, "__getstate__", lambda self: {**vars(self), "model": "gone"}
    )
    start = time.monotonic()
    with pytest.raises(ValueError, match="E_SR961.*'gone'.*E_SR960"):
        annotate(path, source, tmp_path / "x.jsonl", engine="ray", workers=1)
    assert time.monotonic() - start < 60


def test_ray_without_room(ray, path, tmp_path):
    source = write_jsonl(tmp_path / "in.jsonl", TEXTS)
    for settings in ({"workers": 3}, {"gpus_per_worker": 1}):
        with pytest.raises(ValueError, match=r"E_SR970.*2 core\(s\) and 0 GPU\(s\)"):
            annotate(path, source, tmp_path / "x.jsonl", engine="ray", **settings)


def test_ray_data(ray, path, table, tmp_path):
    """The example of the docs, with the texts in several files, and one worker."""
    (tmp_path / "texts").mkdir()
    for i, start in enumerate(range(0, 200, 30)):
        pyarrow.parquet.write_table(table.slice(start, 30), tmp_path / f"texts/{i}.parquet")
    example = docs_example("map_batches", path).replace("size=4", "size=1")
    example = example.replace("/shared/", f"{tmp_path}/")
    exec(compile(example, "docs/scale.md", "exec"), {})
    rows = pyarrow.parquet.read_table(tmp_path / "annotated").to_pylist()
    rows.sort(key=lambda row: int(row["id"]))
    assert rows == ArrowAnnotator(path)(table).to_pylist()


def test_ray_that_is_missing(path, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"E_SR971.*spacy-spanrel\[ray\]"):
        annotate(path, write_jsonl(tmp_path / "in.jsonl", TEXTS), tmp_path / "x", engine="ray")
