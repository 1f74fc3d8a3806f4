"""Torch modules in thinc models: device, precision, optimizer step, saving and loading."""

from __future__ import annotations

import contextlib
import copy
import math
import os
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from thinc.api import CupyOps, Model, Optimizer, get_current_ops
from thinc.shims.shim import Shim
from thinc.util import convert_recursive, is_xp_array
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..errors import Errors
from .step import averaged, step
from .storage import Reader, pack_binary, pack_weights, packer, unpack_weights

Precision = Literal["auto", "float32", "bfloat16", "float16"]
Runtime = Literal["torch", "onnxruntime"]

# In msgpack, bytes of at least this size have a header with four bytes for their length.
_LARGE = 1 << 16

# Buffers that some versions of transformers save and others do not.
_OPTIONAL_BUFFERS = ("position_ids", "token_type_ids")

# Methods of tensors, and functions of `torch.nn.init`, with which constructors fill parameters.
_FILLS = {"normal_", "uniform_", "trunc_normal_", "zero_", "fill_", "mul_", "add_", "clamp_"}

Module = TypeVar("Module", bound=nn.Module)

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# torch's threads do not survive a fork, and a process that was forked would wait for them for ever, such
# as those of `nlp.pipe(n_process=2)`. So it uses one thread, like the workers of torch's DataLoader.
if hasattr(os, "register_at_fork"):  # Windows cannot fork.
    os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


def resolve_device(setting: str) -> torch.device:
    """Turn a `device` setting into a torch device.

    setting (str): "auto", "cpu", "cuda", "cuda:1", ... "auto" is the device that spaCy computes on;
        if CuPy is not installed, so that spaCy cannot use a GPU, it is CUDA if torch can use it.
    RETURNS (torch.device): The device.
    RAISES (ValueError): If this machine has no such device, or if spaCy computes on a GPU that torch
        cannot use.
    """
    if setting == "auto":
        on_gpu = isinstance(get_current_ops(), CupyOps)
        if torch.cuda.is_available():
            # spaCy makes the device of `--gpu-id` the current one of torch, too.
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
    """Check whether a device computes bfloat16 natively (CUDA from Ampere on, AVX-512 BF16, AMX)."""
    if device.type == "cuda":
        # `torch.cuda.is_bf16_supported` will not do: it accepts devices that emulate bfloat16, and
        # looks at the current device only.
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

    setting (str): "auto", "float32", "bfloat16" or "float16". "auto" is bfloat16 if the device
        computes it natively, else float32.
    device (torch.device): The device that computes.
    RETURNS (torch.dtype): The dtype; torch.float32 means no autocast.
    RAISES (ValueError): If the setting is unknown, or if it is "float16" on a CPU.
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

    There is no module until the pipeline is initialized or loaded. On loading, `build(cfg, files)`
    builds it from plain data, so that a saved pipeline is complete without other files. The bytes
    hold the weights in the safetensors format, the settings in msgpack, and the files (of the
    tokenizer, and config.json) as they are. Nothing is pickled.

    build (Callable[[dict, dict[str, bytes]], nn.Module]): Function that builds the module with random
        weights from `cfg` and `files`. It stands at the top level of a Python module, so that it can
        be sent to worker processes.
    device (str): As in `resolve_device`.
    precision (str): As in `resolve_precision`.

    on_load (Callable[[], None] | None): Function to call when a module has been loaded from bytes. thinc
        loads a model inside another one without asking it, so this is where it can hear of that.
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
        self.on_load: Callable[[], None] | None = None
        self._device: torch.device | None = None
        # Checked when the pipeline is built, not at its first text.
        if precision != "auto" and precision not in _DTYPES:
            raise ValueError(Errors.E206.format(value=precision))

    @property
    def is_initialized(self) -> bool:
        """Whether there is a module."""
        return self._model is not None

    @property
    def module(self) -> nn.Module:
        """The module. RAISES (ValueError): If the pipeline was neither initialized nor loaded yet."""
        if self._model is None:
            raise ValueError(Errors.E203)
        module: nn.Module = self._model
        return module

    @property
    def device(self) -> torch.device:
        """The device of the module, now or once there is one."""
        if self._device is None:
            self._device = resolve_device(self.device_setting)
        return self._device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which the module computes; float32 means no autocast."""
        return resolve_precision(self.precision_setting, self.device)

    def autocast(self) -> torch.autocast:
        """Return the context in which to run the module; it casts each weight only once.

        RETURNS (torch.autocast): The context, which does nothing in float32.
        """
        dtype = self.dtype
        enabled = dtype != torch.float32
        return torch.autocast(
            self.device.type, dtype=dtype if enabled else torch.bfloat16, enabled=enabled
        )

    def set_module(
        self, module: nn.Module, cfg: dict[str, Any], files: dict[str, bytes] | None = None
    ) -> None:
        """Put a module into the shim, and move it to the device.

        module (nn.Module): The module.
        cfg (dict[str, Any]), files (dict[str, bytes] | None): The settings and files from which
            `build` builds it again.
        """
        self.cfg = dict(cfg)
        self.files = dict(files or {})
        self._model = module.to(self.device).eval()

    def finish_update(self, optimizer: Optimizer) -> None:
        """Update the weights of this shim alone. Components update all of their shims together."""
        step([self], optimizer)

    @contextlib.contextmanager
    def use_params(self, params: Any) -> Iterator[None]:
        """Compute with the averages of an optimizer in this context."""
        with averaged(self, params) if self.is_initialized else contextlib.nullcontext():
            yield

    def to_device(self, device_type: str, device_id: int) -> None:
        self._device = (
            torch.device("cpu") if device_type == "cpu" else torch.device("cuda", device_id)
        )
        if self._model is not None:
            self._model.to(self._device)

    def to_bytes(self) -> bytes:
        pack = packer().pack
        weights: list[Any] = [pack(None)]
        if self._model is not None:
            weights = pack_binary(pack_weights(self._model.state_dict()))
        message = [packer().pack_map_header(4), pack("cfg"), pack(self.cfg), pack("files")]
        message += [pack(self.files), pack("weights"), *weights]
        message += [pack("versions"), pack(library_versions())]
        # The only copy of the weights on the way.
        return b"".join(message)

    def from_bytes(self, data: bytes | Reader) -> TorchShim:
        reader = data if isinstance(data, Reader) else Reader(BytesIO(data))
        message: dict[str, Any] = {}
        for _ in range(reader.table()):
            key = reader.value()
            message[key] = reader.binary() if key == "weights" else reader.value()
        cfg, files = dict(message["cfg"]), dict(message["files"])
        if message["weights"] is None:
            self.cfg, self.files, self._model = cfg, files, None
            return self

        def explain(error: BaseException) -> Exception:
            # Another version of a library may be the reason for any error.
            return ValueError(
                Errors.E218.format(
                    error=f"{type(error).__name__}: {error}",
                    saved=_list_versions(message.get("versions", {})),
                    here=_list_versions(library_versions()),
                )
            )

        with library_errors(explain):
            module = build_with_weights(
                lambda: self.build(cfg, files), unpack_weights(message["weights"])
            )
        self.set_module(module, cfg, files)
        if self.on_load is not None:
            self.on_load()
        return self

    def copy(self) -> TorchShim:
        return copy.deepcopy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> TorchShim:
        other = TorchShim(self.build, device=self.device_setting, precision=self.precision_setting)
        other.from_bytes(self.to_bytes())
        return other

    def __getstate__(self) -> dict[str, Any]:
        # For worker processes. They get neither gradients nor the state of the optimizer, and choose
        # a device by themselves.
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
    """Return the installed versions of the libraries on which networks and tokenizers depend."""
    versions = {}
    for name in ("torch", "transformers", "tokenizers", "onnxruntime"):
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def _list_versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items()) or "unknown versions"


def torch_shims(model: Model[Any, Any]) -> list[TorchShim]:
    """Return all torch shims of a model and of the models in it, such as its encoder."""
    return [shim for node in model.walk() for shim in node.shims if isinstance(shim, TorchShim)]


def get_shim(model: Model[Any, Any]) -> TorchShim:
    """Return the torch shim of a model itself; those of its layers do not count."""
    (shim,) = model.shims
    assert isinstance(shim, TorchShim)
    return shim


def get_module(model: Model[Any, Any], kind: type[Module]) -> Module:
    """Return the network in the torch shim of a model itself.

    model (Model): The model.
    kind (type): Class of the network.
    RETURNS (Module): The network.
    RAISES (ValueError): If the model was neither initialized nor loaded yet.
    """
    module = get_shim(model).module
    assert isinstance(module, kind)
    return module


@contextlib.contextmanager
def library_errors(explain: Callable[[BaseException], Exception]) -> Iterator[None]:
    """Replace any error of a library by one of this package.

    A panic of the tokenizers library counts too, although PanicException is no `Exception`.

    explain (Callable[[BaseException], Exception]): Function that turns the error of the library into
        the error to raise.
    """
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise explain(error) from error
        raise


def write_model(model: Model[Any, Any], path: str | Path) -> None:
    """Write the same file as `Model.to_disk`, with fewer copies of the weights in memory.

    model (Model): The model.
    path (str | Path): The file to write.
    """
    message = model.to_dict()
    to_numpy = partial(model.ops.to_numpy, byte_order="<")
    pack = packer().pack
    with open(path, "wb") as file:
        file.write(packer().pack_map_header(len(message)))
        for key, value in message.items():
            file.write(pack(key))
            if key != "shims":
                file.write(pack(convert_recursive(is_xp_array, to_numpy, value)))
                continue
            file.write(packer().pack_array_header(len(value)))
            for shims in value:
                file.write(packer().pack_array_header(len(shims)))
                for data in shims:
                    if isinstance(data, bytes) and len(data) >= _LARGE:
                        file.writelines(pack_binary([data]))
                    else:
                        file.write(pack(data))


def read_model(model: Model[Any, Any], path: str | Path) -> None:
    """Load a model like `Model.from_disk`, with fewer copies of the weights in memory.

    model (Model): A model of the same architecture.
    path (str | Path): A file of `write_model` or `Model.to_disk`.
    RAISES (ValueError): If the file does not fit the model.
    """
    message: dict[str, Any] = {}
    is_torch = {
        (i, j): isinstance(shim, TorchShim)
        for i, node in enumerate(model.walk())
        for j, shim in enumerate(node.shims)
    }
    with open(path, "rb") as file:
        reader = Reader(file)
        for _ in range(reader.table()):
            key = reader.value()
            if key != "shims":
                message[key] = convert_recursive(is_xp_array, model.ops.asarray, reader.value())
                continue
            message[key] = []
            for i in range(reader.list()):
                shims: list[Any] = []
                for j in range(reader.list()):
                    # Only a TorchShim takes a reader; other shims need bytes.
                    shims.append(reader.binary() if is_torch.get((i, j)) else reader.value())
                message[key].append(shims)
        model.from_dict(message)


def build_with_weights(build: Callable[[], nn.Module], weights: dict[str, Tensor]) -> nn.Module:
    """Build a module for weights that are in memory already, without room or time for others.

    The module is built on torch's meta device, whose tensors have no data. A module that cannot be
    built there, or keeps tensors there, is built again in memory.

    build (Callable[[], nn.Module]): Function that builds the module with random weights.
    weights (dict[str, Tensor]): The weights by name. The module takes these tensors, not copies.
    RETURNS (nn.Module): The module.
    RAISES (ValueError): If the weights do not fit the module.
    """
    try:
        with _EmptyOnMeta():
            module = build()
        load_weights(module, weights)
        if not any(t.is_meta for t in (*module.parameters(), *module.buffers())):
            return module
    except (NotImplementedError, RuntimeError):
        pass
    module = build()
    load_weights(module, weights)
    return module


class _EmptyOnMeta(TorchFunctionMode):
    """Context in which `torch.empty` creates tensors on the meta device, and nothing fills these.

    Layers create their parameters with it. Buffers such as positions, which are not among the saved
    weights, come from other functions, and so keep their data.

    Random numbers have no place to go on the meta device, and to draw them there torch would import
    its compiler (`torch._dynamo`: 70 MiB and more than a second).
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.empty and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        elif getattr(func, "__name__", "") in _FILLS:
            tensor = args[0] if args else kwargs.get("tensor")
            if isinstance(tensor, Tensor) and tensor.is_meta:
                return tensor
        return func(*args, **kwargs)


def load_weights(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load weights that match the parameters of a module exactly.

    Buffers may be missing: versions of transformers differ in those that they save
    (`embeddings.position_ids`), and the constructor of a module fills them anyway.

    module (nn.Module): The module. It takes the tensors of its parameters, not copies of them.
    weights (dict[str, Tensor]): Tensors by name.
    RAISES (ValueError): If a parameter is missing, unexpected, of another shape or not finite.
    """
    parameters = dict(module.named_parameters(remove_duplicate=False))
    buffers = dict(module.named_buffers())
    state = module.state_dict()

    def is_expected(name: str, value: Tensor) -> bool:
        if name in state:
            return state[name].shape == value.shape
        return name in buffers or name.rpartition(".")[2] in _OPTIONAL_BUFFERS

    missing = sorted(name for name in parameters if name in state and name not in weights)
    unexpected = sorted(name for name, value in weights.items() if not is_expected(name, value))
    if missing or unexpected:
        raise ValueError(Errors.E207.format(missing=missing, unexpected=unexpected))
    check_finite((name, value) for name, value in weights.items() if name in parameters)
    module.load_state_dict(
        {k: v for k, v in weights.items() if k in state and k not in parameters}, strict=False
    )
    # Tied parameters, one object under several names, stay tied.
    loaded: dict[nn.Parameter, nn.Parameter] = {}
    for name, old in parameters.items():
        if name not in state:
            continue
        if old not in loaded:
            value = weights[name].to(old.dtype)
            loaded[old] = nn.Parameter(value, requires_grad=old.requires_grad)
        submodule, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(submodule), attribute, loaded[old])


def check_finite(tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Refuse weights that are not finite numbers.

    tensors (Iterable[tuple[str, Tensor]]): Names and tensors.
    RAISES (ValueError): If a tensor holds NaN or infinity. The message names the tensor.
    """
    for name, value in tensors:
        if value.is_floating_point() and value.numel() and not value.is_meta:
            # One NaN makes both bounds NaN. Unlike `isfinite`, this needs no memory.
            least, most = map(float, value.detach().aminmax())
            for bound in (least, most):
                if not math.isfinite(bound):
                    raise ValueError(Errors.E221.format(name=name, value=bound))
