"""Engines whose processes load the pipeline by its name: one process a device, or the workers of Ray.

Nothing is inherited: processes are started anew, so that none is forked after torch has threads or a GPU
has been used. What is sent to them is the annotator's settings, rows, and back the rows of the output.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from copy import copy
from pathlib import Path
from typing import Any

from ..errors import Errors
from .annotator import Render, RowAnnotator
from .arrow import ArrowAnnotator
from .rows import BadRow, Row
from .workers import AHEAD, Batch, Engine, PackedRow, begin_worker, pack, unpack

# How often Ray repeats a batch whose worker was lost.
_RETRIES = 3


class Worker:
    """Annotates batches in a process of its own.

    pipeline (ArrowAnnotator): Loads the pipeline.
    settings (tuple[int, int, bool]): The settings of a `RowAnnotator`.
    render (Render): The `render` of the writer.
    """

    def __init__(self, pipeline: ArrowAnnotator, settings: tuple[int, int, bool], render: Render):
        self.pipeline = pipeline
        self.settings = settings
        self.render = render

    def annotate(self, numbers: range, rows: Sequence[PackedRow]) -> Batch:
        """Annotate a batch. RAISES (ValueError): If the pipeline cannot be loaded here."""
        nlp = self.pipeline.load()
        annotator = RowAnnotator(nlp, *self.settings)
        return annotator.render(numbers, [unpack(row, nlp.vocab) for row in rows], self.render)


class Devices(Engine):
    """Annotates batches in one process for each device of this machine.

    annotator (RowAnnotator), render (Render): As in `Engine`.
    pipelines (Sequence[ArrowAnnotator]): Load the pipeline, each for its device.
    """

    def __init__(
        self, annotator: RowAnnotator, render: Render, pipelines: Sequence[ArrowAnnotator]
    ):
        super().__init__(annotator, render)
        self.ahead = AHEAD * len(pipelines)
        self._workers = [Worker(pipeline, annotator.settings, render) for pipeline in pipelines]
        spawn = multiprocessing.get_context("spawn")
        self._pools = [
            ProcessPoolExecutor(1, mp_context=spawn, initializer=begin_worker) for _ in pipelines
        ]
        self._pending: list[list[Future[Batch]]] = [[] for _ in pipelines]

    def submit(self, numbers: range, rows: Sequence[Row | BadRow]) -> Callable[[], Batch]:
        for i, futures in enumerate(self._pending):
            self._pending[i] = [future for future in futures if not future.done()]
        least = min(range(len(self._pools)), key=lambda i: len(self._pending[i]))
        packed = [pack(row) for row in rows]

        def waiting() -> Batch:
            try:
                return future.result()
            except BrokenProcessPool as error:
                raise ValueError(Errors.E957.format(n=len(self._pools))) from error

        try:
            future = self._pools[least].submit(self._workers[least].annotate, numbers, packed)
        except BrokenProcessPool as error:
            raise ValueError(Errors.E957.format(n=len(self._pools))) from error
        self._pending[least].append(future)
        return waiting

    def close(self) -> None:
        for pool in self._pools:
            pool.shutdown(cancel_futures=True)


class RayWorkers(Engine):
    """Annotates batches in workers of Ray, on this machine or in a cluster.

    A worker that is lost is started again, and its batch repeated.

    annotator (RowAnnotator), render (Render): As in `Engine`.
    pipeline (ArrowAnnotator): Loads the pipeline.
    workers (int | None): How many workers; None for as many as the cluster has room for.
    gpus_per_worker (float): GPUs, or parts of one, that each worker gets.
    address (str | None): Address of the cluster; None for the one that is running here, or a new one.
    RAISES (ImportError): If Ray is not installed.
    """

    def __init__(
        self,
        annotator: RowAnnotator,
        render: Render,
        pipeline: ArrowAnnotator,
        *,
        workers: int | None = None,
        gpus_per_worker: float = 0,
        address: str | None = None,
    ):
        super().__init__(annotator, render)
        self._ray: Any = import_ray()
        self._workers: list[Any] = []
        self._started = not self._ray.is_initialized()
        if self._started:
            self._ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        resources = self._ray.cluster_resources()
        cores = int(resources.get("CPU", 1))
        room = int(resources.get("GPU", 0) / gpus_per_worker) if gpus_per_worker else cores
        n_workers = workers or max(1, room)
        if n_workers > room:
            self.close()
            what = f"{n_workers} worker(s) with {gpus_per_worker:g} GPU(s) each"
            found = f"{cores} core(s) and {resources.get('GPU', 0):g} GPU(s)"
            raise ValueError(Errors.E970.format(what=what, found=found))
        threads = max(1, cores // n_workers)
        loader = copy(pipeline)
        loader.threads = threads
        if gpus_per_worker:
            loader.device = "cuda"  # the only one that Ray lets the worker see
        remote = self._ray.remote(Worker).options(
            num_cpus=threads,
            num_gpus=gpus_per_worker,
            max_restarts=-1,
            max_task_retries=_RETRIES,
        )
        self.ahead = AHEAD * n_workers
        self._workers = [
            remote.remote(loader, annotator.settings, render) for _ in range(n_workers)
        ]
        self._pending: list[list[Any]] = [[] for _ in range(n_workers)]

    def submit(self, numbers: range, rows: Sequence[Row | BadRow]) -> Callable[[], Batch]:
        for i, references in enumerate(self._pending):
            if references:
                _, self._pending[i] = self._ray.wait(
                    references, num_returns=len(references), timeout=0
                )
        least = min(range(len(self._workers)), key=lambda i: len(self._pending[i]))
        packed = [pack(row) for row in rows]
        reference = self._workers[least].annotate.remote(numbers, packed)
        self._pending[least].append(reference)

        def waiting() -> Batch:
            try:
                batch: Batch = self._ray.get(reference)
                return batch
            except self._ray.exceptions.RayTaskError as error:
                raise ValueError(str(error.cause)) from error
            except self._ray.exceptions.RayError as error:
                raise ValueError(Errors.E969.format(n=_RETRIES, error=error)) from error

        return waiting

    def close(self) -> None:
        if self._started:
            self._ray.shutdown()
        else:
            for worker in self._workers:
                self._ray.kill(worker)


def import_ray() -> Any:
    """Return the module `ray`. RAISES (ImportError): If it is not installed."""
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise ImportError(Errors.E971) from error
    return ray


def make_pipelines(
    model: str | Path, devices: Sequence[str], **settings: Any
) -> list[ArrowAnnotator]:
    """Return what loads a pipeline for each of several devices of this machine.

    model (str | Path): Folder or package name of the pipeline.
    devices (Sequence[str]): The devices. torch's threads are divided among them.
    settings: Others of `ArrowAnnotator`.
    RETURNS (list[ArrowAnnotator]): One for each device.
    """
    threads = max(1, (os.cpu_count() or 1) // len(devices))
    return [ArrowAnnotator(model, threads=threads, device=device, **settings) for device in devices]
