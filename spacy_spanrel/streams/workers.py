"""Processes that annotate batches side by side, and never outlive or block the run.

They do what `nlp.pipe(n_process=...)` does, and what that does not do: when one of them is killed,
such as for memory, the run ends with an error instead of waiting for ever; when the run is killed, they
end by themselves.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc
from spacy.tokens.underscore import Underscore
from spacy.util import load_model_from_config

from ..errors import Errors

# The pipeline of a worker process.
_nlp: Language


def memory_zone(nlp: Language) -> AbstractContextManager[Any]:
    """Let a vocabulary forget, at the end, the words that come new (from spaCy 3.8 on)."""
    zone: AbstractContextManager[Any] = getattr(nlp, "memory_zone", nullcontext)()
    return zone


class Workers:
    """Processes that each hold the pipeline.

    nlp (Language): The pipeline, as it should run.
    n_process (int): How many processes; -1 for one a core.
    batch_size (int): As in `nlp.pipe`.
    """

    def __init__(self, nlp: Language, n_process: int, batch_size: int):
        self.nlp = nlp
        self.batch_size = batch_size
        pipeline: Language | tuple[Any, ...] = nlp
        if multiprocessing.get_start_method() != "fork":
            # Others inherit nothing, and a pipeline cannot be pickled.
            pipeline = (nlp.config, nlp.disabled, nlp.to_bytes(), Underscore.get_state())
        self.n_process = multiprocessing.cpu_count() if n_process == -1 else n_process
        self._pool = ProcessPoolExecutor(self.n_process, initializer=_start, initargs=(pipeline,))

    def pipe(self, docs: Sequence[Doc]) -> list[Doc] | None:
        """Annotate Docs.

        docs (Sequence[Doc]): The Docs; they are not changed.
        RETURNS (list[Doc] | None): New Docs; None if the pipeline raised about any of them.
        RAISES (ValueError): If a process was killed.
        """
        data = [doc.to_bytes() for doc in docs]
        batches = [data[i : i + self.batch_size] for i in range(0, len(data), self.batch_size)]
        annotated: list[Doc] = []
        try:
            for batch in list(self._pool.map(_annotate, batches)):
                if batch is None:
                    return None
                annotated += [Doc(self.nlp.vocab).from_bytes(item) for item in batch]
        except BrokenProcessPool as error:
            raise ValueError(Errors.E957.format(n=self.n_process)) from error
        return annotated

    def close(self) -> None:
        """End the processes, once they have done what they are doing."""
        self._pool.shutdown(cancel_futures=True)


def _start(pipeline: Language | tuple[Any, ...]) -> None:
    """Make a process ready to work."""
    global _nlp
    # An interrupt goes to all processes of a terminal: the run handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if isinstance(pipeline, Language):
        _nlp = pipeline
        return
    config, disabled, data, underscore = pipeline
    Underscore.load_state(underscore)
    _nlp = load_model_from_config(config, disable=disabled).from_bytes(data)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _annotate(batch: list[bytes]) -> list[bytes] | None:
    """Annotate a batch; None if the pipeline raised. The run repeats it to see about which Doc."""
    try:
        with memory_zone(_nlp):
            docs = [Doc(_nlp.vocab).from_bytes(data) for data in batch]
            return [doc.to_bytes() for doc in _nlp.pipe(docs, batch_size=len(docs) or 1)]
    except Exception:
        return None
