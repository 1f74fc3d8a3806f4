"""A CUDA device that is none: its tensors live in ordinary memory, and every operation is watched.

Inside `SimulatedCuda` the device "cuda:0" exists. Its tensors say so, cannot be turned into arrays,
and refuse to compute with tensors of the CPU, as those of a real device do; the numbers are real. What
a real device would make the program wait for is counted: values that Python reads, copies from the
device, copies to it from memory that is not pinned, and operations whose result has as many rows as
the values say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
CUDA = torch.device("cuda", 0)
_CPU = torch.device("cpu")
# Their result depends on values, which must be read first.
_READING = {
    aten._local_scalar_dense.default: "a value is read",
    aten.nonzero.default: "nonzero",
    aten.masked_select.default: "masked_select",
    aten._unique2.default: "unique",
    aten.unique_consecutive.default: "unique",
    aten.unique_dim.default: "unique",
    aten.repeat_interleave.Tensor: "repeat_interleave",
    aten.bincount.default: "bincount",
    aten.equal.default: "equal",
}
_INDEXED = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)


class CudaTensor(torch.Tensor):
    """A tensor of the simulated device. values (Tensor): What it holds."""

    values: torch.Tensor
    # To torch's own code it is on "meta", which needs no driver.
    device = property(lambda self: CUDA)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_meta = property(lambda self: False)  # type: ignore[assignment]
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> CudaTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            layout=values.layout,
            device="meta",
        )
        made.values = values
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} on a tensor of a device that is gone")


class SimulatedCuda(TorchDispatchMode):
    """The device, as long as the context lasts.

    waits (Counter[str]): What the program had to wait for, and how often.
    operations (Counter[str]): Operations on the device, by name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.operations: Counter[str] = Counter()
        self._pinned: set[int] = set()
        self._kept: list[torch.Tensor] = []  # so that no id comes back

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        there = [x for x in tensors if isinstance(x, CudaTensor)]
        here = [x for x in tensors if not isinstance(x, CudaTensor)]
        wanted = kwargs.get("device")
        wanted = None if wanted is None else torch.device(wanted)
        if func is aten._pin_memory.default:
            return self._pin(args[0])
        if func is aten.is_pinned.default:
            return id(args[0]) in self._pinned
        result_there = bool(there) if wanted is None else wanted.type in ("cuda", "meta")
        self._look(func, args, kwargs, there, here, result_there)
        if result_there:
            self.operations[str(func.overloadpacket)] += 1
        if wanted is not None:
            kwargs["device"] = _CPU
        raw = tree_map(lambda x: x.values if isinstance(x, CudaTensor) else x, (args, kwargs))
        out = func(*raw[0], **raw[1])
        if func._schema.is_mutable:
            if func._schema.returns and len(func._schema.returns) == 1:
                return kwargs.get("out", args[0])
            return None
        if not result_there:
            return out
        return tree_map(lambda x: CudaTensor(x) if isinstance(x, torch.Tensor) else x, out)

    def forget(self) -> None:
        """Begin to count anew."""
        self.waits.clear()
        self.operations.clear()

    def _pin(self, values: torch.Tensor) -> torch.Tensor:
        pinned = values.clone()
        self._pinned.add(id(pinned))
        self._kept.append(pinned)
        return pinned

    def _look(
        self,
        func: Any,
        args: Any,
        kwargs: dict[str, Any],
        there: list[CudaTensor],
        here: list[torch.Tensor],
        result_there: bool,
    ) -> None:
        """Count what has to be waited for, and refuse what a device refuses."""
        if func is aten._to_copy.default or func is aten.copy_.default:
            source = args[1] if func is aten.copy_.default else args[0]
            onto = isinstance(args[0], CudaTensor) if func is aten.copy_.default else result_there
            if isinstance(source, CudaTensor) and not onto:
                self.waits["copy from the device"] += 1
            if not isinstance(source, CudaTensor) and onto and source.numel():
                free = kwargs.get("non_blocking") or (len(args) > 2 and args[2])
                if not (free and id(source) in self._pinned):
                    self.waits["copy to the device"] += 1
            return
        if not there:
            return
        if func in _READING:
            self.waits[_READING[func]] += 1
        if func in _INDEXED:
            indices = [x for x in args[1] if x is not None]
            if any(x.dtype in (torch.bool, torch.uint8) for x in indices):
                self.waits["index by a mask"] += 1
            if any(not isinstance(x, CudaTensor) for x in indices):
                self.waits["index from the CPU"] += 1
            return
        if any(x.dim() for x in here):
            raise RuntimeError(f"{func}: tensors on cuda:0 and on the CPU")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedCuda]:
    """The simulated device, for a test."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    found = SimpleNamespace(major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device=None: found)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    with SimulatedCuda() as device:
        yield device
