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
from collections.abc import Callable, Iterable, Mapping
from io import SEEK_END
from math import prod
from typing import Any, BinaryIO

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


def unpack_weights(reader: Reader) -> dict[str, Tensor]:
    """Read weights in the safetensors format, each tensor straight into memory of its own.

    reader (Reader): The bytes of the weights, from the first one on.
    RETURNS (dict[str, Tensor]): Tensors by name.
    RAISES (ValueError): If the data is not in that format, or is cut off.
    """
    size = int.from_bytes(reader.read(8), "little")
    text = reader.read(size)
    if len(text) < size:
        raise ValueError("the weights are cut off")
    header = json.loads(text)
    if not isinstance(header, dict):
        raise ValueError("the weights have no list of tensors")
    start, room = reader.position, reader.end - reader.position
    weights = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype, shape = _DTYPES[entry["dtype"]], entry["shape"]
        begin, end = entry["data_offsets"]
        if not 0 <= begin <= end <= room or end - begin != prod(shape) * dtype.itemsize:
            raise ValueError(f"the place of the tensor {name!r} does not fit its shape or the file")
        tensor = torch.empty(shape, dtype=dtype)
        reader.position = start + begin
        reader.read_into(_bytes_of(tensor))
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


class Reader:
    """Reads a msgpack message value by value from a range of a file.

    Bytes in it become readers of their range, so that nothing large is in memory twice.

    file (BinaryIO): The file, or a `BytesIO`.
    begin (int), end (int | None): The range; None for the end of the file.
    position (int): Where to read next.
    """

    def __init__(self, file: BinaryIO, begin: int = 0, end: int | None = None):
        self._file = file
        self.position = begin
        self.end = file.seek(0, SEEK_END) if end is None else end

    def read(self, size: int) -> bytes:
        """Read up to `size` bytes; fewer if the range ends before."""
        self._file.seek(self.position)
        data = self._file.read(min(size, self.end - self.position))
        self.position += len(data)
        return data

    def read_into(self, array: Any) -> None:
        """Fill an array of bytes. RAISES (ValueError): If the file ends before."""
        self._file.seek(self.position)
        if self._file.readinto(array) < array.nbytes:  # type: ignore[attr-defined]
            raise ValueError("the file is cut off")
        self.position += array.nbytes

    def table(self) -> int:
        """Read the header of a table. RETURNS (int): The number of its entries."""
        return int(self._unpack(lambda unpacker: unpacker.read_map_header()))

    def list(self) -> int:
        """Read the header of a list. RETURNS (int): The number of its values."""
        return int(self._unpack(lambda unpacker: unpacker.read_array_header()))

    def value(self) -> Any:
        """Read any value."""
        return self._unpack(lambda unpacker: unpacker.unpack())

    def binary(self) -> Reader | None:
        """Read bytes, or None. RETURNS (Reader | None): A reader of them."""
        code = self.read(1)
        if code == b"\xc0":
            return None
        # bin 8, bin 16, bin 32: the length takes 1, 2 or 4 bytes.
        width = {b"\xc4": 1, b"\xc5": 2, b"\xc6": 4}.get(code)
        if width is None:
            raise ValueError(f"bytes were expected, found the msgpack code 0x{code.hex()}")
        size = int.from_bytes(self.read(width), "big")
        begin, self.position = self.position, self.position + size
        if self.position > self.end:
            raise ValueError("the message is cut off")
        return Reader(self._file, begin, self.position)

    def _unpack(self, unpack: Callable[[Any], Any]) -> Any:
        begin = self.position
        unpacker = Unpacker(
            self, read_size=_READ_SIZE, raw=False, strict_map_key=False, max_buffer_size=1 << 31
        )
        value = unpack(unpacker)
        self.position = begin + unpacker.tell()
        return value
