"""The thinc shim around our torch modules: bytes, device, precision, optimizer step."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from typing import Any, Literal, TypeVar

import srsly
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from thinc.api import CupyOps, Model, Optimizer, get_current_ops
from thinc.shims.shim import Shim
from torch import Tensor, nn

from ..errors import Errors
from .step import step

Precision = Literal["auto", "float32", "bfloat16", "float16"]

Module = TypeVar("Module", bound=nn.Module)

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_device(setting: str) -> torch.device:
    """Turn a `device` setting into a torch device.

    setting (str): "auto", "cpu", "cuda", "cuda:1", ... "auto" is the device of spaCy's active ops;
        where these are on the CPU because CuPy is missing, torch's own CUDA is used if it works.
    RETURNS (torch.device): The device.
    RAISES (ValueError): If the device does not exist here, or spaCy computes on one that torch
        cannot use.
    """
    if setting == "auto":
        on_gpu = isinstance(get_current_ops(), CupyOps)
        if torch.cuda.is_available():
            # The current device is the one of `--gpu-id`, which spaCy sets for torch too.
            if on_gpu or CupyOps.xp is None:
                return torch.device("cuda", torch.cuda.current_device())
        elif on_gpu:
            raise ValueError(Errors.E240.format(torch=torch.__version__))
        return torch.device("cpu")
    try:
        device = torch.device(setting)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(Errors.E209.format(value=setting, error=error)) from error
    return device


def computes_bfloat16(device: torch.device) -> bool:
    """Tell whether a device computes bfloat16 natively (CUDA from Ampere on, AVX-512 BF16, AMX)."""
    if device.type == "cuda":
        # Not `is_bf16_supported`: it says yes of devices that emulate it, and asks the current one.
        return torch.version.hip is not None or torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "cpu":
        backend = getattr(torch.backends, "cpu", None)
        if backend is not None and not str(backend.get_cpu_capability()).startswith("AVX512"):
            return False
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(bool(getattr(torch.cpu, probe, lambda: False)()) for probe in probes)
    return False


def resolve_precision(setting: str, device: torch.device) -> torch.dtype:
    """Turn a `precision` setting into the dtype of autocast.

    setting (str): "auto", "float32", "bfloat16" or "float16". "auto" is bfloat16 where the device
        computes it natively, else float32.
    device (torch.device): The device that computes.
    RETURNS (torch.dtype): torch.float32 means no autocast.
    RAISES (ValueError): If the setting is unknown, or float16 is asked of a CPU.
    """
    if setting == "auto":
        return torch.bfloat16 if computes_bfloat16(device) else torch.float32
    if setting not in _DTYPES:
        raise ValueError(Errors.E206.format(value=setting))
    if setting == "float16" and device.type != "cuda":
        raise ValueError(Errors.E208.format(device=device))
    return _DTYPES[setting]


class TorchShim(Shim):
    """A torch module inside a thinc model.

    The module comes to life at `initialize` or on loading: `build(cfg, files)` makes it from plain
    data, so a saved pipeline needs nothing but its own bytes. Those hold the weights as
    safetensors, the settings as msgpack and the files (tokenizer, model config) as they are; no
    pickle anywhere.

    build (Callable[[dict, dict[str, bytes]], nn.Module]): Module-level function (it must survive
        pickling) that makes the module with fresh weights.
    device (str): As in `resolve_device`.
    precision (str): As in `resolve_precision`.
    """

    def __init__(
        self,
        build: Callable[[dict[str, Any], dict[str, bytes]], nn.Module],
        *,
        device: str = "auto",
        precision: str = "auto",
    ):
        super().__init__(None)
        self.build = build
        self.device_setting = device
        self.precision_setting = precision
        self.files: dict[str, bytes] = {}
        self._device: torch.device | None = None
        # Refuse bad settings when the pipeline is built, not at the first text.
        if precision != "auto" and precision not in _DTYPES:
            raise ValueError(Errors.E206.format(value=precision))

    @property
    def is_initialized(self) -> bool:
        return self._model is not None

    @property
    def module(self) -> nn.Module:
        """The module. RAISES (ValueError): before it was initialized or loaded."""
        if self._model is None:
            raise ValueError(Errors.E203)
        module: nn.Module = self._model
        return module

    @property
    def device(self) -> torch.device:
        """The device that the module is on, or will be put on."""
        if self._device is None:
            self._device = resolve_device(self.device_setting)
        return self._device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the module computes in; float32 means no autocast."""
        return resolve_precision(self.precision_setting, self.device)

    def autocast(self) -> torch.autocast:
        """The context in which the module runs. Weights are cast once in it, not once a batch."""
        dtype = self.dtype
        enabled = dtype != torch.float32
        return torch.autocast(
            self.device.type, dtype=dtype if enabled else torch.bfloat16, enabled=enabled
        )

    def set_module(
        self, module: nn.Module, cfg: dict[str, Any], files: dict[str, bytes] | None = None
    ) -> None:
        """Put a module in, with the plain data from which `build` can make its like."""
        self.cfg = dict(cfg)
        self.files = dict(files or {})
        self._model = module.to(self.device).eval()

    def finish_update(self, optimizer: Optimizer) -> None:
        """Step the weights of this shim alone; a component steps all of its shims together."""
        step([self], optimizer)

    @contextlib.contextmanager
    def use_params(self, params: Any) -> Iterator[None]:
        yield

    def to_device(self, device_type: str, device_id: int) -> None:
        self._device = (
            torch.device("cpu") if device_type == "cpu" else torch.device("cuda", device_id)
        )
        if self._model is not None:
            self._model.to(self._device)

    def to_bytes(self) -> bytes:
        msg: dict[str, Any] = {
            "cfg": self.cfg,
            "files": self.files,
            "weights": None,
            "versions": library_versions(),
        }
        if self._model is not None:
            msg["weights"] = save_safetensors(_unshared_state(self._model))
        data: bytes = srsly.msgpack_dumps(msg)
        return data

    def from_bytes(self, data: bytes) -> TorchShim:
        msg = srsly.msgpack_loads(data)
        cfg, files = dict(msg["cfg"]), dict(msg["files"])
        if msg["weights"] is None:
            self.cfg, self.files, self._model = cfg, files, None
            return self
        try:
            module = self.build(cfg, files)
            load_weights(module, load_safetensors(msg["weights"]))
        except Exception as error:
            # Whatever went wrong: another version of a library may be the reason.
            raise ValueError(
                Errors.E218.format(
                    error=f"{type(error).__name__}: {error}",
                    saved=_list_versions(msg.get("versions", {})),
                    here=_list_versions(library_versions()),
                )
            ) from error
        self.set_module(module, cfg, files)
        return self

    def copy(self) -> TorchShim:
        return copy.deepcopy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> TorchShim:
        other = TorchShim(self.build, device=self.device_setting, precision=self.precision_setting)
        other.from_bytes(self.to_bytes())
        return other

    def __getstate__(self) -> dict[str, Any]:
        # To worker processes; gradients and optimizer state stay here, and so does the device:
        # the worker finds its own.
        return {
            "build": self.build,
            "device": self.device_setting,
            "precision": self.precision_setting,
            "bytes": self.to_bytes(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        TorchShim.__init__(
            self, state["build"], device=state["device"], precision=state["precision"]
        )
        self.from_bytes(state["bytes"])


@cache
def library_versions() -> dict[str, str]:
    """Versions of the libraries that a network and its tokenizer depend on."""
    return {name: version(name) for name in ("torch", "transformers", "tokenizers")}


def _list_versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {found}" for name, found in versions.items()) or "unknown versions"


def torch_shims(model: Model[Any, Any]) -> list[TorchShim]:
    """All torch shims of a model, its encoder's included."""
    return [shim for node in model.walk() for shim in node.shims if isinstance(shim, TorchShim)]


def get_shim(model: Model[Any, Any]) -> TorchShim:
    """The one torch shim of a model's own, those of its layers not counted."""
    (shim,) = model.shims
    assert isinstance(shim, TorchShim)
    return shim


def get_module(model: Model[Any, Any], kind: type[Module]) -> Module:
    """The network in a model's own shim.

    model (Model): A model that was initialized or loaded.
    kind (type): Class of the network.
    RETURNS (Module): The network.
    RAISES (ValueError): If the model was not initialized yet.
    """
    module = get_shim(model).module
    assert isinstance(module, kind)
    return module


def _unshared_state(module: nn.Module) -> dict[str, Tensor]:
    # safetensors refuses tensors that share memory (tied weights), so each name gets its own.
    return {
        name: value.detach().cpu().contiguous().clone()
        for name, value in module.state_dict().items()
    }


def load_weights(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load weights, strictly but for buffers.

    Versions of transformers disagree on which buffers are saved (`embeddings.position_ids`), and
    buffers are made anew by the module's constructor; parameters must match exactly.

    module (nn.Module): Takes the weights.
    weights (dict[str, Tensor]): By name.
    RAISES (ValueError): If a parameter is missing, unexpected or of another shape.
    """
    expected = dict(module.named_parameters())
    buffers = dict(module.named_buffers())
    state = module.state_dict()
    missing = sorted(name for name in expected if name in state and name not in weights)
    unexpected = sorted(
        name
        for name, value in weights.items()
        if name not in state
        and name not in buffers
        and not _is_buffer_name(name)
        or name in state
        and state[name].shape != value.shape
    )
    if missing or unexpected:
        raise ValueError(Errors.E207.format(missing=missing, unexpected=unexpected))
    module.load_state_dict({k: v for k, v in weights.items() if k in state}, strict=False)


def _is_buffer_name(name: str) -> bool:
    return name.rsplit(".", 1)[-1] in ("position_ids", "token_type_ids")
