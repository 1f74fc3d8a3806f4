"""A simulated CUDA device whose tensors live in ordinary memory, and which watches every operation.

Inside the context `SimulatedCuda`, the device "cuda:0" exists. As on a real device, its tensors report
that device, cannot be converted to arrays, and cannot be combined with tensors on the CPU; results
are real. The simulation counts everything for which a program has to wait on a real device: values
that Python reads, copies from the device, copies to it from unpinned memory, and operations whose
number of rows depends on values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from thinc.api import CupyOps
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
CUDA = torch.device("cuda", 0)
_CPU = torch.device("cpu")
# Operations whose result depends on values, which must be read first.
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
    """A tensor of the simulated device.

    values (Tensor): Its contents, on the CPU.
    """

    values: torch.Tensor
    # Inside torch, the tensor is on "meta", which needs no driver.
    device = property(lambda self: CUDA)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_meta = property(lambda self: False)  # type: ignore[assignment]
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> CudaTensor:
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            layout=values.layout,
            device="meta",
        )
        tensor.values = values
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} on a tensor outside of its SimulatedCuda context")


class SimulatedCuda(TorchDispatchMode):
    """A context in which the simulated device exists.

    waits (Counter[str]): How often the program had to wait, by reason.
    operations (Counter[str]): Number of operations on the device, by name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.operations: Counter[str] = Counter()
        self._pinned: set[int] = set()
        self._kept: list[torch.Tensor] = []  # so that no id is reused

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        on_device = [x for x in tensors if isinstance(x, CudaTensor)]
        on_cpu = [x for x in tensors if not isinstance(x, CudaTensor)]
        wanted = kwargs.get("device")
        wanted = None if wanted is None else torch.device(wanted)
        if func is aten._pin_memory.default:
            return self._pin(args[0])
        if func is aten.is_pinned.default:
            return id(args[0]) in self._pinned
        result_on_device = bool(on_device) if wanted is None else wanted.type in ("cuda", "meta")
        self._check(func, args, kwargs, on_device, on_cpu, result_on_device)
        if result_on_device:
            self.operations[str(func.overloadpacket)] += 1
        if wanted is not None:
            kwargs["device"] = _CPU
        raw = tree_map(lambda x: x.values if isinstance(x, CudaTensor) else x, (args, kwargs))
        out = func(*raw[0], **raw[1])
        if func._schema.is_mutable:
            if func._schema.returns and len(func._schema.returns) == 1:
                return kwargs.get("out", args[0])
            return None
        if not result_on_device:
            return out
        return tree_map(lambda x: CudaTensor(x) if isinstance(x, torch.Tensor) else x, out)

    def forget(self) -> None:
        """Reset all counts."""
        self.waits.clear()
        self.operations.clear()

    def _pin(self, values: torch.Tensor) -> torch.Tensor:
        pinned = values.clone()
        self._pinned.add(id(pinned))
        self._kept.append(pinned)
        return pinned

    def _check(
        self,
        func: Any,
        args: Any,
        kwargs: dict[str, Any],
        on_device: list[CudaTensor],
        on_cpu: list[torch.Tensor],
        result_on_device: bool,
    ) -> None:
        """Count waits, and raise an error where a real device would."""
        if func is aten._to_copy.default or func is aten.copy_.default:
            source = args[1] if func is aten.copy_.default else args[0]
            to_device = (
                isinstance(args[0], CudaTensor) if func is aten.copy_.default else result_on_device
            )
            if isinstance(source, CudaTensor) and not to_device:
                self.waits["copy from the device"] += 1
            if not isinstance(source, CudaTensor) and to_device and source.numel():
                asynchronous = kwargs.get("non_blocking") or (len(args) > 2 and args[2])
                if not (asynchronous and id(source) in self._pinned):
                    self.waits["copy to the device"] += 1
            return
        if not on_device:
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
        if any(x.dim() for x in on_cpu):
            raise RuntimeError(f"{func}: tensors on cuda:0 and on the CPU")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedCuda]:
    """Provide the simulated device."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    properties = SimpleNamespace(major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device=None: properties)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(CupyOps, "xp", None)  # or spaCy decides about the device
    # A torch built for CUDA would ask the driver whether a graph is being captured.
    if hasattr(torch, "accelerator"):
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *_, **__: None)
    with SimulatedCuda() as device:
        yield device
