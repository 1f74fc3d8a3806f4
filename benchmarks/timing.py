"""Tools shared by the speed benchmarks: the bare encoder, and the timing of two programs in turns."""

from __future__ import annotations

import copy
import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spacy_spanrel.encoding.batching import pad_rows
from spacy_spanrel.encoding.bert import Bert, BertForAnswers
from spacy_spanrel.encoding.checkpoint import HFModule, build_transformer
from spacy_spanrel.encoding.shim import computes_bfloat16
from spacy_spanrel.encoding.transfer import to_device


def native_precisions(device: torch.device) -> list[str]:
    """Return what is measured on a device: emulated bfloat16 takes minutes, and nobody would use it."""
    return ["float32", *(["bfloat16"] if computes_bfloat16(device) else [])]


# `gpu.py` replaces its content.
PRECISIONS = native_precisions(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
BATCH_SIZES = {"cpu": (4, 8, 16, 32, 64), "cuda": (16, 32, 64, 128, 256, 512, 1024)}
Rows = Sequence[Sequence[int]]


def padded(rows: Rows, pad: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask of rows as one padded batch, copied to the device at once."""
    ids = pad_rows([np.asarray(row) for row in rows], pad)
    mask = np.arange(ids.shape[1]) < np.asarray([[len(row)] for row in rows])
    sent = to_device(torch.from_numpy(np.stack([ids, mask.astype(np.int64)])), device)
    return sent[0], sent[1]


_seconds = time.perf_counter


def use_processor_time() -> None:
    """Let `clock` count the processor's time for this process (of all threads): on a machine that
    others use as well, this is the time that can be compared."""
    global _seconds
    _seconds = time.process_time


def clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return _seconds()


def autocast(precision: str, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def in_transformers(module: HFModule) -> HFModule:
    """Return a copy whose network is that of transformers: saved pipelines have one of this package."""
    copied = copy.deepcopy(module)
    own: Any = copied.transformer
    if isinstance(own, Bert | BertForAnswers):
        is_encoder = isinstance(own, Bert)
        network = build_transformer(
            json.loads(own.config.to_json_string()),
            "AutoModel" if is_encoder else "AutoModelForQuestionAnswering",
        )
        if is_encoder:
            network.pooler = None
        network.load_state_dict(own.state_dict())
        copied.transformer = network.to(next(own.parameters()).device)
    return copied.eval()


def bare_forward(
    module: HFModule, rows: Rows, precision: str, device: torch.device, batch: int
) -> float:
    """Return the seconds of the bare network's forward pass over rows sorted by length."""
    start = clock(device)
    with torch.inference_mode():
        for i in range(0, len(rows), batch):
            ids, mask = padded(rows[i : i + batch], module.pieces.pad_id, device)
            with autocast(precision, device):
                module.transformer(input_ids=ids, attention_mask=mask)
    return clock(device) - start


def best_bare_forward(
    module: HFModule, rows: Rows, precision: str, device: torch.device
) -> tuple[int, Callable[[], float]]:
    """Return the best batch size of the bare forward pass, and the pass with it."""
    forward = partial(bare_forward, in_transformers(module), rows, precision, device)

    def seconds(batch: int) -> float:
        try:
            return min(forward(batch) for _ in range(3))
        except torch.cuda.OutOfMemoryError:
            return math.inf

    best = min(BATCH_SIZES[device.type], key=seconds)
    return best, partial(forward, best)


def bare_steps(
    module: HFModule, batches: Sequence[Rows], precision: str, device: torch.device
) -> Callable[[], float]:
    """Return a function that trains a copy of the network for one step per batch, and times it.

    A step is a forward pass, the backward pass of a mean, and fused AdamW with global clipping.
    """
    copied = in_transformers(module)
    copied.train()
    parameters = [p for p in copied.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-6, fused=True)

    def run() -> float:
        start = clock(device)
        for rows in batches:
            ids, mask = padded(rows, copied.pieces.pad_id, device)
            with autocast(precision, device):
                hidden = copied.transformer(input_ids=ids, attention_mask=mask)[0]
            hidden.float().mean().backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return clock(device) - start

    return run


def alternate(
    a: Callable[[], float], b: Callable[[], float], rounds: int
) -> tuple[float, float, float]:
    """Run two programs in turns, and return the medians of a's time, b's time, and the ratio a / b."""
    times = []
    for i in range(rounds):
        # The order alternates, so that warming up or cooling down affects both.
        first, second = (a, b) if i % 2 else (b, a)
        x, y = first(), second()
        times.append((x, y) if i % 2 else (y, x))
    return (
        statistics.median(x for x, _ in times),
        statistics.median(y for _, y in times),
        statistics.median(x / y for x, y in times),
    )


def processor() -> str:
    """Return the name of the processor, as lscpu prints it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def show(row: dict[str, Any]) -> None:
    print("  ".join(f"{key}: {value}" for key, value in row.items()), flush=True)


def write_rows(path: Path, rows: Sequence[dict[str, Any]], mode: str = "w") -> None:
    """Write rows as JSON lines with a single call, so that several processes can append to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open(f"{mode}b", buffering=0) as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows).encode())
