"""From a Hugging Face network in torch to an ONNX graph that computes the same."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from thinc.api import Model
from torch import Tensor, nn

from ..errors import Errors
from .checkpoint import HFModule
from .graph import GRAPH_FILE, GraphModule, import_onnxruntime
from .network import PieceNetwork
from .shim import TorchShim, library_errors, load_weights

# Largest difference of an output from that of torch, for values of the order of 1.
TOLERANCE = 1e-4
# Tensors of fewer bytes (shapes and numbers) stay in the graph, which needs them to be optimized.
_LEAST_WEIGHT = 1024
_OPSET = 17
# What networks return, by the names of transformers.
_OUTPUTS = ("last_hidden_state", "logits", "start_logits", "end_logits")


def runtimes(model: Model[Any, Any]) -> dict[str, Model[Any, Any]]:
    """Return the nodes of a model that have the setting `runtime`, by their names."""
    return {node.name: node for node in model.walk() if "runtime" in node.attrs}


def apply_runtime(model: Model[Any, Any]) -> None:
    """Let the networks of a loaded model compute with the runtime that its settings name.

    model (Model): The model of a component. Its networks are converted to ONNX if need be.
    RAISES (ImportError): If ONNX Runtime or onnx is not installed.
    RAISES (ValueError): If a network cannot be converted, or is an ONNX graph that torch cannot
        compute.
    """
    for node in runtimes(model).values():
        for shim in (shim for shim in node.shims if isinstance(shim, TorchShim)):
            if not shim.is_initialized:
                continue
            is_graph = any(isinstance(module, GraphModule) for module in shim.module.modules())
            if node.attrs["runtime"] == "onnxruntime":
                shim.precision_setting = "float32"
                if not is_graph:
                    convert(shim)
            elif is_graph:
                raise ValueError(Errors.E243)


def convert(shim: TorchShim) -> None:
    """Replace the Hugging Face network in a shim by an ONNX graph.

    shim (TorchShim): The shim, with a network that is an `HFModule` or has one as `encoder`.
    RAISES (ImportError): If ONNX Runtime or onnx is not installed.
    RAISES (ValueError): If the network cannot be converted, or the graph computes something else.
    """
    network = shim.module
    module = network if isinstance(network, HFModule) else network.encoder
    assert isinstance(module, HFModule)
    settings = shim.cfg if module is network else shim.cfg["encoder"]
    graph, changed, data = make_graph(module, settings)
    changed = {**settings, "graph": changed}
    files = {**shim.files, GRAPH_FILE: data}
    if module is network:
        shim.set_module(graph, changed, files)
    else:
        network.encoder = graph
        shim.set_module(network, {**shim.cfg, "encoder": changed}, files)


def make_graph(module: HFModule, cfg: dict[str, Any]) -> tuple[GraphModule, dict[str, Any], bytes]:
    """Convert a network, and compare the graph with it.

    Layers that ONNX Runtime has as one operation (attention, normalization, GELU of a sum) are
    fused. If a fused graph should compute something else, the graph is taken as it is.

    module (HFModule): The network, whose weights are float32.
    cfg (dict[str, Any]): Its settings, from `hf_settings`.
    RETURNS (tuple[GraphModule, dict[str, Any], bytes]): The network as a graph, and the settings and
        the file from which it is built again.
    RAISES (ImportError): If ONNX Runtime or onnx is not installed.
    RAISES (ValueError): If the network cannot be converted. The message names it.
    """
    import_onnxruntime()
    try:
        import onnx
    except ImportError as error:
        raise ImportError(Errors.E242.format(package="onnx")) from error
    kind = type(module.transformer).__name__

    def explain(error: BaseException) -> Exception:
        text = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {text[0] if text else ''}"
        return ValueError(Errors.E241.format(name=module.pieces.name, kind=kind, reason=reason))

    with library_errors(explain), _in_float32(module), TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        has_types = module.takes_types and cfg.get("kind") == "AutoModelForQuestionAnswering"
        make_rows = partial(_rows, module, has_types)
        _export(module, make_rows(2, 9), path)
        for prepare in (_fuse, lambda proto, _: proto):
            proto = prepare(onnx.load(path), module)
            graph, settings, data = build_graph(module, proto)
            difference = _difference(module, graph, make_rows)
            if difference <= TOLERANCE:
                return graph, settings, data
    reason = f"its outputs differ from those of torch by up to {difference:.2g}"
    raise ValueError(Errors.E241.format(name=module.pieces.name, kind=kind, reason=reason))


@contextmanager
def _in_float32(module: HFModule) -> Iterator[None]:
    """Predict with torch, without gradients, autocast and warnings about what is traced."""
    module.eval()
    device = next(module.parameters()).device
    with warnings.catch_warnings(), torch.no_grad(), torch.autocast("cpu", enabled=False):
        warnings.simplefilter("ignore")
        module.to("cpu")
        try:
            yield
        finally:
            module.to(device)


class _Traced(nn.Module):
    """The network as a function of its inputs in order. names (list[str]): Names of the inputs."""

    def __init__(self, module: HFModule, names: list[str]):
        super().__init__()
        self.module = module
        self.names = names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs = self.module.outputs(**dict(zip(self.names, inputs, strict=True)))
        return tuple(outputs[name] for name in _OUTPUTS if name in outputs)


def _export(module: HFModule, inputs: dict[str, Tensor], path: Path) -> None:
    """Trace a network on some rows, and write an ONNX file."""
    with torch.no_grad():
        names = [name for name in _OUTPUTS if name in module.outputs(**inputs)]
    axes = {name: {0: "rows", 1: "pieces"} for name in [*inputs, *names]}
    if "logits" in names:
        del axes["logits"][1]
    # The exporter that traces (newer versions of torch prefer another one).
    choice: dict[str, Any] = {}
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:
        choice["dynamo"] = False
    torch.onnx.export(
        _Traced(module, list(inputs)).eval(),
        tuple(inputs.values()),
        str(path),
        input_names=list(inputs),
        output_names=names,
        dynamic_axes=axes,
        opset_version=_OPSET,
        **choice,
    )


def _rows(module: HFModule, has_types: bool, n_rows: int, length: int) -> dict[str, Tensor]:
    """Make random rows for a network, the last of them half of padding."""
    generator = torch.Generator().manual_seed(length)
    pad_id, n_ids = module.pieces.pad_id, len(module.pieces.vocabulary)
    ids = torch.randint(n_ids, (n_rows, length), generator=generator)
    ids[ids == pad_id] = (pad_id + 1) % n_ids
    mask = torch.ones_like(ids)
    mask[-1, (length + 1) // 2 :] = 0
    ids[mask == 0] = pad_id
    rows = {"ids": ids, "mask": mask}
    if module.reads_casing:
        rows["casing"] = ids % 5
    if has_types:
        n_types = getattr(module.transformer.config, "type_vocab_size", 1)
        second = (torch.arange(length) >= length // 2) & (n_types > 1)
        rows["types"] = second.long().repeat(n_rows, 1)
    return rows


def _fuse(proto: Any, module: HFModule) -> Any:
    """Fuse the layers of a graph that ONNX Runtime has as one operation."""
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    options = FusionOptions("bert")
    # The embeddings are computed in a way of their own (letter case, positions).
    options.enable_embed_layer_norm = False
    config: Any = module.transformer.config
    fused = optimize_model(
        proto,
        "bert",
        num_heads=getattr(config, "num_attention_heads", 0),
        hidden_size=module.width,
        optimization_options=options,
        opt_level=0,
    )
    _split_sums(fused.model)
    return fused.model


def _split_sums(proto: Any) -> None:
    """Take sums out of normalizations again, because ONNX Runtime normalizes sums (which it has to fuse
    to find an attention) more slowly than it adds and normalizes: a network in int8 takes 12 to 17 % less.

    proto (ModelProto): The graph. It is changed.
    """
    from onnx import helper

    nodes = []
    for node in proto.graph.node:
        if node.op_type != "SkipLayerNormalization":
            nodes.append(node)
            continue
        # Input, another one, weight, bias, and a bias of the sum; the fourth output is the sum.
        inputs, name = [*node.input, "", "", ""], node.output[0]
        total = next((output for output in node.output[3:] if output), f"{name}_sum")
        left = inputs[0]
        if inputs[4]:
            nodes.append(helper.make_node("Add", [left, inputs[4]], [f"{name}_biased"]))
            left = f"{name}_biased"
        nodes.append(helper.make_node("Add", [left, inputs[1]], [total]))
        settings = {attribute.name: attribute.f for attribute in node.attribute}
        weights = [weight for weight in inputs[2:4] if weight]
        nodes.append(
            helper.make_node("LayerNormalization", [total, *weights], [name], axis=-1, **settings)
        )
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def build_graph(module: PieceNetwork, proto: Any) -> tuple[GraphModule, dict[str, Any], bytes]:
    """Take the weights out of an ONNX graph, and build the network that computes both.

    module (PieceNetwork): The network from which the graph was made.
    proto (ModelProto): The graph. It is changed.
    RETURNS: As `make_graph` does.
    """
    from onnx import TensorProto, numpy_helper

    weights: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.nbytes < _LEAST_WEIGHT:
            continue
        # Names of parameters in torch have no dots.
        name = names[tensor.name] = tensor.name.replace(".", "_")
        weights[name] = torch.from_numpy(array.copy())
        for field in ("raw_data", "float_data", "int32_data", "int64_data"):
            tensor.ClearField(field)
        tensor.name = name
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights")
    for node in proto.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = names.get(name, name)
    settings = {
        "width": module.width,
        "max_length": module.max_length,
        "casing": module.reads_casing,
        "weights": {
            name: [str(weight.dtype).removeprefix("torch."), list(weight.shape)]
            for name, weight in weights.items()
        },
    }
    data = proto.SerializeToString()
    graph = GraphModule(module.pieces, settings, data)
    load_weights(graph, weights)
    return graph, settings, data


def _difference(
    module: HFModule, graph: GraphModule, make_rows: Callable[[int, int], dict[str, Tensor]]
) -> float:
    """Return the largest difference between the outputs of torch and of a graph, on padded rows of
    many lengths, as a share of the largest output (or of 1)."""
    longest = min(module.max_length, 512)
    worst = 0.0
    for n_rows, length in ((1, 1), (1, 2), (3, 17), (5, longest // 2), (2, longest)):
        rows = make_rows(n_rows, max(1, length))
        outputs, expected = graph.outputs(**rows), module.outputs(**rows)
        for name, output in outputs.items():
            difference = (output - expected[name]).abs()
            if difference.shape[:2] == rows["mask"].shape:
                difference = difference[rows["mask"].bool()]
            scale = max(1.0, float(expected[name].abs().max()))
            # Not a number is no small difference.
            worst = max(worst, float(torch.nan_to_num(difference / scale, nan=torch.inf).max()))
    return worst
