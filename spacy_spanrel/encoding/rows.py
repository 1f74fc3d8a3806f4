"""Rows of pieces through the network of a model: loading it, length of rows, batches."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from thinc.api import Model
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.overrides import TorchFunctionMode

from ..arrays import IntArray
from ..errors import Errors
from .batching import padded_batches
from .checkpoint import HFModule, Kind, load_checkpoint
from .graph import GraphModule
from .network import PieceNetwork
from .shim import get_shim
from .transfer import to_device

# The rows of pieces, or of something that goes with each piece, and the value that pads them.
Column = tuple[Sequence[IntArray], int]


def load_network(
    model: Model[Any, Any],
    kind: Kind = "AutoModel",
    *,
    n_labels: int | None = None,
    fresh_head: bool = False,
) -> tuple[HFModule, dict[str, Any], dict[str, bytes]]:
    """Load the checkpoint that the settings of a model name.

    model (Model): A model with the attributes name, tokenizer, dropout, attention_dropout, casing,
        layers, frozen_layers and max_length.
    kind (str), n_labels (int | None), fresh_head (bool): As in `load_checkpoint`.
    RETURNS: As `load_checkpoint` does.
    RAISES (OSError): If there is no such checkpoint.
    RAISES (ValueError): If it does not fit the settings.
    """
    attrs = model.attrs
    if attrs["runtime"] != "torch":
        raise ValueError(Errors.E308.format(name=model.name))
    module, cfg, files = load_checkpoint(
        attrs["name"],
        attrs["tokenizer"],
        attrs["dropout"],
        attrs["casing"],
        layers=attrs["layers"],
        frozen_layers=attrs["frozen_layers"],
        attention_dropout=attrs["attention_dropout"],
        kind=kind,
        n_labels=n_labels,
        fresh_head=fresh_head,
    )
    check_row_length(model, module)
    return module, cfg, files


def check_row_length(model: Model[Any, Any], module: PieceNetwork) -> None:
    """Refuse a `max_length` that the network of a model cannot take.

    model (Model): A model with the attributes name and max_length.
    module (PieceNetwork): Its network.
    RAISES (ValueError): If `max_length` is too large.
    """
    length, limit = row_length(model, module), module.max_length
    if length > limit:
        raise ValueError(
            Errors.E205.format(max_length=length, name=model.attrs["name"], limit=limit)
        )


def row_length(model: Model[Any, Any], module: PieceNetwork) -> int:
    """Return the largest number of pieces in a row, special tokens included.

    model (Model): A model with the attribute max_length.
    module (PieceNetwork): Its network.
    RETURNS (int): `max_length`, or what the network takes where that is "auto".
    """
    length = model.attrs["max_length"]
    return module.max_length if length == "auto" else int(length)


def run_batches(
    model: Model[Any, Any],
    columns: Mapping[str, Column],
    is_train: bool,
    features: Mapping[str, IntArray] | None = None,
) -> list[tuple[IntArray, Tensor]]:
    """Run rows through the network of a model, in padded batches sorted by length.

    model (Model): An initialized model with the attribute batch_pieces. Its network takes ids and
        mask, and everything else by name.
    columns (Mapping[str, Column]): "ids", the piece ids of all rows, first; then whatever else goes
        with each piece.
    is_train (bool): Whether to run the network in training mode and to record gradients.
    features (Mapping[str, int64 array] | None): Arguments with one entry for each row, whatever its
        length. *Shape:* ``(n_rows, ...)``
    RETURNS (list[tuple[int64 array, Tensor]]): Indices of the rows of each batch, and the output
        for them.
    """
    shim = get_shim(model)
    network = shim.module
    _, *names = columns
    (encoder,) = (module for module in network.modules() if isinstance(module, PieceNetwork))
    budget = model.attrs["batch_pieces"]
    slow_attention = is_train and shim.device.type == "cpu" and shim.dtype != torch.float32
    attention = _Float32Attention() if slow_attention else contextlib.nullcontext()

    def run(item: tuple[IntArray, list[Tensor]]) -> tuple[IntArray, Tensor]:
        batch, (ids, mask, *others) = item
        arguments = dict(zip(names, others, strict=True))
        for name, values in (features or {}).items():
            arguments[name] = to_device(torch.from_numpy(values[batch]), shim.device)
        with contextlib.ExitStack() as stack:
            if kept is not None:
                assert isinstance(encoder, HFModule)
                hidden = pad_sequence([kept[i] for i in batch], True)
                stack.enter_context(encoder.above(hidden))
            return batch, network(ids, mask, **arguments)

    # One autocast context for all batches: it casts the weights once.
    with torch.set_grad_enabled(is_train), shim.autocast(), attention:
        kept = frozen_rows(encoder, columns, budget, shim.device) if is_train else None
        network.train(is_train)
        batches = padded_batches(list(columns.values()), budget, shim.device)
        apply = encoder.map if isinstance(encoder, GraphModule) else map
        outputs = list(apply(run, batches))
    network.eval()
    return outputs


class _Float32Attention(TorchFunctionMode):
    """Context in which attention computes in float32, whatever autocast says.

    On the CPU torch's backward pass of attention in bfloat16 takes two to three times as long.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)

        def convert(value: Any) -> Any:
            # Masks may be of bool.
            is_float = isinstance(value, Tensor) and value.is_floating_point()
            return value.float() if is_float else value

        query = args[0] if args else kwargs["query"]
        with torch.autocast("cpu", enabled=False):
            output: Tensor = func(*map(convert, args), **{k: convert(kwargs[k]) for k in kwargs})
            return output.to(query.dtype)


def frozen_rows(
    encoder: PieceNetwork,
    columns: Mapping[str, Column],
    budget: int | str,
    device: torch.device,
) -> list[Tensor] | None:
    """Return the output of the frozen layers for rows, computed only for those that are not kept.

    encoder (PieceNetwork): The encoder.
    columns (Mapping[str, Column]): As in `run_batches`.
    budget (int | "auto"), device (torch.device): As in `padded_batches`.
    RETURNS (list[Tensor] | None): The output for each row, ``(length, width)``; None if no layer is
        frozen.
    """
    if encoder.frozen is None:
        return None
    assert isinstance(encoder, HFModule)
    # Letter case is added above the frozen layers.
    inputs = {name: column for name, column in columns.items() if name != "casing"}
    keys = [
        b"".join(row.tobytes() for row in rows)
        for rows in zip(*(rows for rows, _ in inputs.values()), strict=True)
    ]
    rows = {key: row for key in keys if (row := encoder.frozen.rows.get(key)) is not None}
    missing = {key: i for i, key in enumerate(keys) if key not in rows}
    numbers = list(missing.values())
    some = [([rows[i] for i in numbers], pad) for rows, pad in inputs.values()]
    with torch.no_grad():
        for batch, (ids, mask, *others) in padded_batches(some, budget, device):
            output = encoder.frozen_output(ids, mask, *others)
            for i, hidden in zip(batch.tolist(), output, strict=True):
                key = keys[numbers[i]]
                # A copy, so that the padded batch does not stay in memory.
                rows[key] = hidden[: len(inputs["ids"][0][numbers[i]])].clone()
    for key in missing:
        encoder.frozen.rows.add(key, rows[key], rows[key].nbytes)
    return [rows[key] for key in keys]


def run_rows(
    model: Model[Any, Any],
    columns: Mapping[str, Column],
    is_train: bool,
    features: Mapping[str, IntArray] | None = None,
    *,
    fill: float | None = None,
) -> Tensor:
    """Run rows through the network of a model, and return the outputs in the order of the rows.

    model, columns, is_train, features: As in `run_batches`; there must be at least one row.
    fill (float | None): For outputs of ``(batch, length, ...)``: the value that fills rows up to
        the longest one. None for outputs without that dimension.
    RETURNS (Tensor): On the device of the network. *Shape:* ``(n_rows, ...)``
    """
    batches, outputs = zip(*run_batches(model, columns, is_train, features), strict=True)
    with torch.set_grad_enabled(is_train):
        if fill is not None:
            longest = max(output.shape[1] for output in outputs)
            outputs = tuple(
                F.pad(
                    output, (0, 0) * (output.dim() - 2) + (0, longest - output.shape[1]), value=fill
                )
                for output in outputs
            )
        order = torch.from_numpy(np.argsort(np.concatenate(batches)))
        joined = torch.cat(outputs)
        return joined.index_select(0, to_device(order, joined.device))
