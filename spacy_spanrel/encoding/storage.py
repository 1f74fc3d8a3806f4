"""Weights in and out of bytes, with one copy in memory and not five.

Weights are kept in the safetensors format inside a msgpack message. Both libraries copy whatever
passes through them, twice or more. So that saving and loading need hardly more memory than the
weights themselves, the few bytes around the weights are read and written here, and each tensor is
copied once, from or to its place.

Formats: https://github.com/huggingface/safetensors#format and
https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

import numpy as np
import torch
from srsly.msgpack import Packer, Unpacker
from torch import Tensor

Buffer = bytes | memoryview

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
# How much of a message is given to msgpack at once.
_READ_SIZE = 1 << 16


def pack_weights(weights: Mapping[str, Tensor]) -> list[Buffer]:
    """Put weights into the safetensors format.

    weights (Mapping[str, Tensor]): Tensors by name. Those that share memory are written once each.
    RETURNS (list[bytes | memoryview]): Buffers that give a safetensors file when joined. Those of
        contiguous tensors on the CPU are views, not copies.
    """
    header: dict[str, Any] = {}
    buffers: list[Buffer] = []
    end = 0
    # Wide numbers first, so that all of them are aligned.
    for name, value in sorted(weights.items(), key=lambda item: (-item[1].itemsize, item[0])):
        data = _bytes_of(value.detach().cpu().contiguous())
        begin, end = end, end + data.nbytes
        header[name] = {
            "dtype": _DTYPE_NAMES[value.dtype],
            "shape": list(value.shape),
            "data_offsets": [begin, end],
        }
        buffers.append(data)
    text = json.dumps(header).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little") + text, *buffers]


def unpack_weights(data: Buffer) -> dict[str, Tensor]:
    """Read weights in the safetensors format.

    data (bytes | memoryview): The file.
    RETURNS (dict[str, Tensor]): Tensors by name, in memory of their own.
    RAISES (ValueError): If the data is not in that format, or is cut off.
    """
    view = memoryview(data)
    size = int.from_bytes(view[:8], "little")
    if len(view) < 8 + size:
        raise ValueError("the weights are cut off")
    header = json.loads(bytes(view[8 : 8 + size]))
    if not isinstance(header, dict):
        raise ValueError("the weights have no list of tensors")
    body = view[8 + size :]
    weights = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype, shape = _DTYPES[entry["dtype"]], entry["shape"]
        begin, end = entry["data_offsets"]
        if not 0 <= begin <= end <= len(body) or end - begin != prod(shape) * dtype.itemsize:
            raise ValueError(f"the place of the tensor {name!r} does not fit its shape or the file")
        tensor = torch.empty(shape, dtype=dtype)
        _bytes_of(tensor)[:] = np.frombuffer(body[begin:end], dtype=np.uint8)
        weights[name] = tensor
    return weights


def _bytes_of(tensor: Tensor) -> Any:
    """View a contiguous tensor on the CPU as bytes, uint8."""
    return tensor.reshape(-1).view(torch.uint8).numpy()


def pack_binary(buffers: Iterable[Any]) -> list[Buffer]:
    """Put buffers into one msgpack value of bytes, without joining them.

    buffers (Iterable): Objects with the bytes.
    RETURNS (list[bytes | memoryview]): Buffers that give the value when joined.
    """
    views = [memoryview(buffer).cast("B") for buffer in buffers if memoryview(buffer).nbytes]
    size = sum(view.nbytes for view in views)
    if size >= 1 << 32:
        raise ValueError(f"{size} bytes are too many for one value of msgpack (4 GiB)")
    return [b"\xc6" + size.to_bytes(4, "big"), *views]


def packer() -> Any:
    """Make a packer for the values of a message, and the headers of lists and tables."""
    return Packer(use_bin_type=True)


class MessageReader:
    """Reads a msgpack message value by value, and bytes in it without a copy.

    data (bytes | memoryview): The message.
    """

    def __init__(self, data: Buffer):
        self._view = memoryview(data)
        self._at = 0

    def table(self) -> int:
        """Read the header of a table. RETURNS (int): The number of its entries."""
        return int(self._read(lambda unpacker: unpacker.read_map_header()))

    def list(self) -> int:
        """Read the header of a list. RETURNS (int): The number of its values."""
        return int(self._read(lambda unpacker: unpacker.read_array_header()))

    def value(self) -> Any:
        """Read any value."""
        return self._read(lambda unpacker: unpacker.unpack())

    def binary(self) -> memoryview | None:
        """Read bytes, or None. RETURNS (memoryview | None): A view of them."""
        code = self._view[self._at]
        if code == 0xC0:
            self._at += 1
            return None
        # bin 8, bin 16, bin 32: the length takes 1, 2 or 4 bytes.
        width = {0xC4: 1, 0xC5: 2, 0xC6: 4}.get(code)
        if width is None:
            raise ValueError(f"bytes were expected, found the msgpack code {code:#x}")
        begin = self._at + 1 + width
        end = begin + int.from_bytes(self._view[self._at + 1 : begin], "big")
        if end > len(self._view):
            raise ValueError("the message is cut off")
        self._at = end
        return self._view[begin:end]

    def _read(self, read: Any) -> Any:
        source = _Source(self._view[self._at :])
        unpacker = Unpacker(
            source, read_size=_READ_SIZE, raw=False, strict_map_key=False, max_buffer_size=1 << 31
        )
        value = read(unpacker)
        self._at += unpacker.tell()
        return value


class _Source:
    """What `Unpacker` takes for a file."""

    def __init__(self, view: memoryview):
        self._view = view

    def read(self, size: int) -> bytes:
        data, self._view = self._view[:size], self._view[size:]
        return bytes(data)
