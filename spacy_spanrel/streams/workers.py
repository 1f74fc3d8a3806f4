"""Engines: who annotates the batches of a run. The process itself, or processes side by side.

The processes never outlive or block the run: when one of them is killed, such as for memory, the run
ends with an error instead of waiting for ever; when the run is killed, they end by themselves.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc
from spacy.tokens.underscore import Underscore
from spacy.util import load_model_from_config
from spacy.vocab import Vocab

from ..errors import Errors
from .annotator import Render, RenderedRow, RowAnnotator
from .rows import BadRow, Row

Batch = list[RenderedRow | BadRow]
# A row as it is sent to another process: with the bytes of its Doc, if it has one.
PackedRow = Row | BadRow | tuple[Row, bytes]

# Batches of each process that are submitted ahead, so that one that takes long, whose chunk has to be
# waited for, leaves the others work (simulated in benchmarks/scale_simulation.py).
AHEAD = 4

# The work of a worker process.
_annotator: RowAnnotator
_render: Render


class Engine:
    """Annotates batches in this process.

    annotator (RowAnnotator): Annotates rows.
    render (Render): The `render` of the writer.
    """

    # How many batches are to be submitted behind the chunk whose results are waited for.
    ahead = 0

    def __init__(self, annotator: RowAnnotator, render: Render):
        self.annotator = annotator
        self.render = render

    def submit(self, numbers: range, rows: Sequence[Row | BadRow]) -> Callable[[], Batch]:
        """Begin with a batch.

        numbers (range): The number of each row in the input, from 1.
        rows (Sequence[Row | BadRow]): The rows.
        RETURNS (Callable): Waits for the batch, and returns a result for each row. It raises a
            ValueError if a process was killed.
        RAISES (ValueError): If a process was killed before.
        """
        return lambda: self.annotator.render(numbers, rows, self.render)

    def close(self) -> None:
        """End all processes, once they have done what they are doing."""


class Processes(Engine):
    """Annotates batches in processes that each hold the pipeline.

    annotator (RowAnnotator), render (Render): As in `Engine`.
    n_process (int): How many processes; -1 for one a core.
    """

    def __init__(self, annotator: RowAnnotator, render: Render, n_process: int):
        super().__init__(annotator, render)
        self.n_process = multiprocessing.cpu_count() if n_process == -1 else n_process
        self.ahead = AHEAD * self.n_process
        nlp = annotator.nlp
        pipeline: Language | tuple[Any, ...] = nlp
        if multiprocessing.get_start_method() != "fork":
            # Others inherit nothing, and a pipeline cannot be pickled.
            pipeline = (nlp.config, nlp.disabled, nlp.to_bytes(), Underscore.get_state())
        self._pool = ProcessPoolExecutor(
            self.n_process, initializer=_start, initargs=(pipeline, annotator.settings, render)
        )

    def submit(self, numbers: range, rows: Sequence[Row | BadRow]) -> Callable[[], Batch]:
        packed = [pack(row) for row in rows]
        try:
            future = self._pool.submit(_annotate, numbers, packed)
        except BrokenProcessPool as error:
            raise ValueError(Errors.E957.format(n=self.n_process)) from error

        def result() -> Batch:
            try:
                return future.result()
            except BrokenProcessPool as error:
                raise ValueError(Errors.E957.format(n=self.n_process)) from error

        return result

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def pack(row: Row | BadRow) -> PackedRow:
    """Return a row that can be pickled without the vocabulary of its Doc."""
    if isinstance(row, Row) and row.doc is not None:
        return replace(row, doc=None, raw=None), row.doc.to_bytes()
    return row


def unpack(packed: PackedRow, vocab: Vocab) -> Row | BadRow:
    """Return the row that was packed; its Doc has the given vocabulary."""
    if not isinstance(packed, tuple):
        return packed
    row, data = packed
    doc = Doc(vocab).from_bytes(data)
    return replace(row, doc=doc, raw=doc)


def begin_worker() -> None:
    """Let a process leave interrupts to the run, and end with it."""
    # An interrupt goes to all processes of a terminal.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _start(
    pipeline: Language | tuple[Any, ...], settings: tuple[int, int, bool], render: Render
) -> None:
    """Make a process ready to work."""
    global _annotator, _render
    begin_worker()
    if not isinstance(pipeline, Language):
        config, disabled, data, underscore = pipeline
        Underscore.load_state(underscore)
        pipeline = load_model_from_config(config, disable=disabled).from_bytes(data)
    _annotator, _render = RowAnnotator(pipeline, *settings), render


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _annotate(numbers: range, rows: Sequence[PackedRow]) -> Batch:
    vocab = _annotator.nlp.vocab
    return _annotator.render(numbers, [unpack(row, vocab) for row in rows], _render)
