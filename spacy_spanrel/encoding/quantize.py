"""The matrix products of an ONNX graph in 8-bit integers, with results that do not depend on the batch.

Each weight matrix has one scale for each output column. Each piece has a scale of its own, found when it is
computed (Yao et al. 2022, "ZeroQuant"): with one scale for all pieces of a batch, as ONNX Runtime's own
quantization has it, the vectors of a text would depend on the texts that are read with it. Three more steps
take most of the error away; all of them are done here, at no or little cost for prediction:

- The output of a normalization has a few channels that are much larger than the others, and the scale of a
  piece follows the largest. Each channel is divided by the root of its size, and the weights that meet it
  are multiplied by that (Xiao et al. 2022, "SmoothQuant"). The normalization itself cannot do this,
  because its output is added to that of the next layer, too.
- The output of a GELU is hardly ever negative, so its integers begin at its minimum, not at the opposite of
  its maximum: twice as many are left for what it is.
- Weights are rounded one row after the other, and those that follow make up for the error that was made, as
  far as it can be seen in the inputs of some texts (Frantar et al. 2022, "GPTQ").

Attention, normalization, embeddings, heads and products that would still be far off stay in float32.

Inputs are unsigned numbers, and weights signed ones from -64 to 64. On processors with AVX2 and no VNNI, ONNX
Runtime adds two products of 8-bit numbers in 16 bits, which saturate beyond 32,767: weights up to 127 would
give other results there than elsewhere. Two products of at most 255 x 64 cannot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..arrays import DoubleArray, FloatArray
from ..errors import Errors
from .export import build_graph
from .graph import GRAPH_FILE, GraphModule, make_session
from .shim import TorchShim

WEIGHT_LIMIT = 64
# Largest difference of an input from its zero point, and largest input without one.
_INPUT_LIMIT = 127
_ZERO_POINT = 128
_LARGEST_INPUT = 255
# The least size of a matrix that is worth it, on each side. A head with a few classes stays in float32.
_LEAST_SIDE = 64
# The largest error of a product, as a share of its output (root of the mean square).
MOST_ERROR = 0.05
# Operations whose output never goes below a bound: its opposite.
_OFFSETS = {"Relu": 0.0, "Gelu": 0.17, "BiasGelu": 0.17, "FastGelu": 0.17}
_NORMALIZATION = "LayerNormalization"
# Pieces to calibrate with, and of these, pieces to measure the error with.
_MOST_PIECES = 30_000
_SAMPLE = 1024
# Largest difference of a vector when its row is read with others, as a share of the largest output (or 1).
BATCH_TOLERANCE = 1e-6
_MICROSOFT = "com.microsoft"

# The inputs of a graph for one batch, by their names.
Batch = Mapping[str, Any]


@dataclass
class _Inputs:
    """The matrices that are multiplied with one tensor, and statistics of that tensor.

    source (str): The operation that computes the tensor.
    nodes (list[NodeProto]): The products: "MatMul", or "Attention", which begins with one.
    largest (float32 array): Largest absolute value of each channel. *Shape:* ``(n_inputs,)``
    squares (float64 array): Sums of the products of two channels. *Shape:* ``(n_inputs, n_inputs)``
    sample (float32 array): The first pieces. *Shape:* ``(n_pieces, n_inputs)``
    """

    source: str
    nodes: list[Any] = field(default_factory=list)
    largest: Any = 0.0
    squares: Any = 0.0
    sample: Any = None

    def add(self, values: FloatArray) -> None:
        """Count some pieces. values (float32 array): *Shape:* ``(n_pieces, n_inputs)``"""
        self.largest = np.maximum(self.largest, np.abs(values).max(axis=0))
        self.squares = self.squares + (values.T @ values).astype(np.float64)
        if self.sample is None:
            self.sample = values[:0]
        self.sample = np.concatenate([self.sample, values[: _SAMPLE - len(self.sample)]])


@dataclass(frozen=True)
class QuantizedMatrix:
    """A matrix of integers, and how it is multiplied.

    integers (int8 array): From -`WEIGHT_LIMIT` to `WEIGHT_LIMIT`. *Shape:* ``(n_inputs, n_outputs)``
    scales (float32 array): Scale of each column. *Shape:* ``(n_outputs,)``
    offset (float | None): What is added to the inputs to make them positive; None for inputs around 0.
    """

    integers: Any
    scales: FloatArray
    offset: float | None

    def multiply(self, inputs: FloatArray) -> FloatArray:
        """Compute the product as the graph does, with inputs that have been divided by their channels'
        factors. inputs (float32 array): *Shape:* ``(n_pieces, n_inputs)``"""
        if self.offset is None:
            steps = np.maximum(np.abs(inputs).max(axis=1, keepdims=True), 1e-12) / _INPUT_LIMIT
            rounded = np.rint(inputs / steps)
        else:
            steps = (inputs.max(axis=1, keepdims=True) + self.offset + 1e-12) / _LARGEST_INPUT
            rounded = np.clip(np.rint((inputs + self.offset) / steps), 0, _LARGEST_INPUT)
        product = (rounded @ self.integers.astype(np.float32)) * self.scales * steps
        result: FloatArray = product + self.correction
        return result

    @property
    def correction(self) -> FloatArray:
        """What the offset of the inputs adds to each output, negative. *Shape:* ``(n_outputs,)``"""
        sums = self.integers.sum(axis=0, dtype=np.float64) * self.scales
        result: FloatArray = (-(self.offset or 0.0) * sums).astype(np.float32)
        return result


def quantize(shim: TorchShim, batches: Sequence[Batch], name: str) -> tuple[int, int]:
    """Compute the products of a graph with constant matrices in 8-bit integers.

    shim (TorchShim): The shim, with a network that is a `GraphModule` or has one as `encoder`.
    batches (Sequence[Batch]): Inputs of the graph in some texts, as `GraphModule.seen` collects them.
    name (str): Name of the component.
    RETURNS (tuple[int, int]): Number of products in integers, and of all that could have been.
    RAISES (ImportError): If onnx is not installed.
    RAISES (ValueError): If the network has read nothing.
    """
    import onnx

    if not batches:
        raise ValueError(Errors.E944.format(name=name))

    network: Any = shim.module
    graph: GraphModule = network if isinstance(network, GraphModule) else network.encoder
    weights = {name: weight.detach().numpy() for name, weight in graph.named_parameters()}
    proto = onnx.load_model_from_string(graph.data)
    quantizer = _Quantizer(proto, weights)
    quantizer.calibrate(graph, batches)
    counts = quantizer.replace()
    quantized, settings, data = build_graph(graph, proto)
    files = {**shim.files, GRAPH_FILE: data}
    if graph is network:
        shim.set_module(quantized, {**shim.cfg, "graph": settings}, files)
    else:
        network.encoder = quantized
        encoder = {**shim.cfg["encoder"], "graph": settings}
        shim.set_module(network, {**shim.cfg, "encoder": encoder}, files)
    return counts


class _Quantizer:
    """proto (ModelProto): The graph, which is changed. weights (dict): Its external weights by name."""

    def __init__(self, proto: Any, weights: Mapping[str, Any]):
        from onnx import numpy_helper

        self.proto = proto
        self.arrays: dict[str, Any] = {
            tensor.name: weights[tensor.name]
            if tensor.name in weights
            else numpy_helper.to_array(tensor)
            for tensor in proto.graph.initializer
        }
        self.inputs: dict[str, _Inputs] = {}
        sources = {name: node.op_type for node in proto.graph.node for name in node.output}
        for node in proto.graph.node:
            matrix = self.arrays.get(node.input[1]) if len(node.input) > 1 else None
            if (
                node.op_type in ("MatMul", "Attention")
                and matrix is not None
                and matrix.ndim == 2
                and min(matrix.shape) >= _LEAST_SIDE
                and node.input[0] in sources
            ):
                name = node.input[0]
                inputs = self.inputs.setdefault(name, _Inputs(sources[name]))
                inputs.nodes.append(node)
        self.nodes: list[Any] = []

    def calibrate(self, graph: GraphModule, batches: Iterable[Batch]) -> None:
        """Collect statistics of the inputs of products.

        graph (GraphModule): The network. batches (Iterable[Batch]): Inputs of the network.
        """
        from onnx import ModelProto, TensorProto, helper

        tapped = ModelProto()
        tapped.CopyFrom(self.proto)
        for name in self.inputs:
            tapped.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        weights = {name: weight.detach().numpy() for name, weight in graph.named_parameters()}
        session = make_session(tapped.SerializeToString(), weights, torch.get_num_threads())
        n_pieces = 0
        for batch in batches:
            mask = batch["mask"].astype(bool)
            for name, values in zip(
                self.inputs, session.run(list(self.inputs), dict(batch)), strict=True
            ):
                # All pieces, or padded rows.
                self.inputs[name].add(values if values.ndim == 2 else values[mask])
            n_pieces += int(mask.sum())
            if n_pieces >= _MOST_PIECES:
                break

    def replace(self) -> tuple[int, int]:
        """Replace the products. RETURNS (tuple[int, int]): As `quantize` does."""
        from onnx import numpy_helper

        changed: dict[str, Any] = {}
        n_products = n_changed = 0
        for name, inputs in self.inputs.items():
            matrices = [self.arrays[node.input[1]] for node in inputs.nodes]
            factors, quantized = quantize_matrices(
                matrices, inputs.squares, inputs.largest, inputs.source
            )
            n_products += len(matrices)
            for node, matrix, result in zip(inputs.nodes, matrices, quantized, strict=True):
                exact = inputs.sample @ matrix
                rounded = result.multiply(inputs.sample / factors)
                error = np.linalg.norm(rounded - exact) / (np.linalg.norm(exact) + 1e-12)
                if error <= MOST_ERROR:
                    changed[node.output[0]] = name, factors, result
                    n_changed += 1
            # The sums are the largest arrays here.
            inputs.squares = None
        scaled: dict[str, str] = {}
        for node in list(self.proto.graph.node):
            if node.output[0] not in changed:
                self.nodes.append(node)
                continue
            name, factors, result = changed[node.output[0]]
            if name not in scaled:
                scaled[name] = self._scale(name, factors, result.offset)
            if node.op_type == "MatMul":
                self._product(scaled[name], result, node.output[0])
            else:
                self._attention(node, scaled[name], result)
        del self.proto.graph.node[:]
        self.proto.graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input}
        del self.proto.graph.initializer[:]
        self.proto.graph.initializer.extend(
            numpy_helper.from_array(np.ascontiguousarray(array), name)
            for name, array in self.arrays.items()
            if name in used
        )
        return n_changed, n_products

    def _constant(self, name: str, array: Any) -> str:
        self.arrays[name] = array
        return name

    def _add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def _scale(self, name: str, factors: FloatArray, offset: float | None) -> str:
        """Turn a tensor into integers, once for all products that read it.

        name (str), factors (float32 array), offset (float | None): The tensor, what its channels are
            divided by, and what is added to it, as in `QuantizedMatrix`.
        RETURNS (str): Name of the integers; the scales of the pieces have the same with "_scale".
        """
        least = self._constant("int8_least", np.float32(1e-12))
        one = self._constant("int8_one", np.float32(1))
        most = _INPUT_LIMIT if offset is None else _LARGEST_INPUT
        zero = self._constant(f"int8_zero_{most}", np.uint8(_ZERO_POINT if offset is None else 0))
        share = self._constant(f"int8_share_{most}", np.float32(1 / most))
        output, values = f"{name}_int8", name
        if offset:
            add = self._constant(f"{output}_offset", np.float32(offset))
            values = self._add("Add", [values, add], f"{output}_positive")
        if (factors != 1).any():
            inverse = self._constant(f"{output}_factors", 1 / factors)
            values = self._add("Mul", [values, inverse], f"{output}_even")
        sizes = values
        if offset is None:
            sizes = self._add("Abs", [values], f"{output}_sizes")
        largest = self._add("ReduceMax", [sizes], f"{output}_max", axes=[-1], keepdims=1)
        largest = self._add("Max", [largest, least], f"{output}_most")
        scale = self._add("Mul", [largest, share], f"{output}_scale")
        values = self._add("Div", [values, scale], f"{output}_scaled")
        return self._add("QuantizeLinear", [values, one, zero], output)

    def _product(self, integers: str, matrix: QuantizedMatrix, output: str) -> None:
        most = _INPUT_LIMIT if matrix.offset is None else _LARGEST_INPUT
        inputs = [
            integers,
            self._constant(f"{output}_int8_weight", matrix.integers),
            "int8_one",
            self._constant(f"{output}_weight_scale", matrix.scales),
            f"int8_zero_{most}",
        ]
        self._add("MatMulIntegerToFloat", inputs, f"{output}_unscaled", domain=_MICROSOFT)
        factors = [f"{output}_unscaled", f"{integers}_scale"]
        if not matrix.offset:
            self._add("Mul", factors, output)
            return
        product = self._add("Mul", factors, f"{output}_shifted")
        correction = self._constant(f"{output}_correction", matrix.correction)
        self._add("Add", [product, correction], output)

    def _attention(self, node: Any, integers: str, matrix: QuantizedMatrix) -> None:
        """Take the projections out of a fused attention, which then gets query, key and value."""
        from onnx import helper

        output, bias, mask = node.output[0], node.input[2], node.input[3]
        attributes = {attribute.name: attribute for attribute in node.attribute}
        width = matrix.integers.shape[1] // 3
        self._product(integers, matrix, f"{output}_qkv")
        names = [f"{output}_{part}" for part in ("query", "key", "value")]
        sizes = self._constant(f"{output}_sizes", np.full(3, width, dtype=np.int64))
        self.nodes.append(helper.make_node("Split", [f"{output}_qkv", sizes], names, axis=2))
        self._add(
            "MultiHeadAttention",
            [*names, bias, mask],
            output,
            domain=_MICROSOFT,
            num_heads=attributes["num_heads"].i,
        )


def quantize_matrices(
    matrices: Sequence[FloatArray],
    squares: DoubleArray,
    largest: FloatArray,
    source: str,
) -> tuple[FloatArray, list[QuantizedMatrix]]:
    """Turn the matrices that are multiplied with one tensor into integers.

    matrices (Sequence[float32 array]): The matrices, ``(n_inputs, n_outputs)``.
    squares, largest, source: As in `_Inputs`.
    RETURNS (tuple[float32 array, list[QuantizedMatrix]]): What the channels of the tensor are divided
        by, ``(n_inputs,)``, and the matrices.
    """
    factors = np.ones(len(largest), dtype=np.float32)
    if source == _NORMALIZATION:
        weights = np.max([np.abs(matrix).max(axis=1) for matrix in matrices], axis=0)
        factors = np.sqrt(np.maximum(largest, 1e-5) / np.maximum(weights, 1e-6)).clip(1e-3, 1e3)
        factors = factors.astype(np.float32)
    squares = squares / np.outer(factors, factors)
    quantized = []
    for matrix in matrices:
        scaled = matrix * factors[:, None]
        scales = np.maximum(np.abs(scaled).max(axis=0), 1e-12) / WEIGHT_LIMIT
        integers = round_weights(scaled, scales, squares)
        quantized.append(QuantizedMatrix(integers, scales, _OFFSETS.get(source)))
    return factors, quantized


def round_weights(matrix: FloatArray, scales: FloatArray, squares: DoubleArray) -> Any:
    """Round a matrix to integers so that its products change little (Frantar et al. 2022, "GPTQ").

    The rows are rounded one after the other, those with the largest inputs first. The error of a row is
    spread over the rows that are still to be rounded, in the proportion in which their inputs can replace
    that of the row.

    matrix (float32 array): The matrix. *Shape:* ``(n_inputs, n_outputs)``
    scales (float32 array): Scale of each column. *Shape:* ``(n_outputs,)``
    squares (float64 array): Sums of the products of two inputs. *Shape:* ``(n_inputs, n_inputs)``
    RETURNS (int8 array): From -`WEIGHT_LIMIT` to `WEIGHT_LIMIT`; times the scales the matrix.
    """
    order = np.argsort(-np.diagonal(squares), kind="stable")
    # Inputs that are always 0, or that always vary together, can be exchanged in any way.
    squares = squares[np.ix_(order, order)]
    squares = squares + np.eye(len(order)) * (0.01 * np.diagonal(squares).mean() + 1e-12)
    spread = np.linalg.cholesky(np.linalg.inv(squares)).T
    rest = (matrix[order] / scales).astype(np.float64)
    rounded = np.empty_like(rest)
    # Rows beyond the block are changed once for each block: the same, in fewer passes over the matrix.
    block = 128
    for start in range(0, len(rest), block):
        end = min(start + block, len(rest))
        errors = np.empty_like(rest[start:end])
        for i in range(start, end):
            rounded[i] = np.clip(np.rint(rest[i]), -WEIGHT_LIMIT, WEIGHT_LIMIT)
            errors[i - start] = (rest[i] - rounded[i]) / spread[i, i]
            rest[i + 1 : end] -= np.outer(spread[i, i + 1 : end], errors[i - start])
        rest[end:] -= spread[start:end, end:].T @ errors
    integers = np.empty(matrix.shape, dtype=np.int8)
    integers[order] = rounded
    return integers


def check_rows(graph: GraphModule, batches: Sequence[Batch], name: str) -> None:
    """Read rows alone, and then together, and compare the outputs.

    graph (GraphModule): The network.
    batches (Sequence[Batch]): Batches of rows. Some rows of all lengths are read.
    name (str): Name of the component.
    RAISES (ValueError): If outputs are not finite, or depend on the rows that are read together.
    """
    rows = [
        {key: values[i, : int(batch["mask"][i].sum())] for key, values in batch.items()}
        for batch in batches
        for i in range(len(batch["mask"]))
    ]
    if not rows:
        return
    rows.sort(key=lambda row: len(row["mask"]))
    rows = rows[:: max(1, len(rows) // 32)]
    longest = max(len(row["mask"]) for row in rows)
    together = {
        key: np.stack([np.pad(row[key], (0, longest - len(row[key]))) for row in rows])
        for key in rows[0]
    }
    outputs = graph.session.run(None, together)
    for i, row in enumerate(rows):
        alone = graph.session.run(None, {key: values[None] for key, values in row.items()})
        for one, many in zip(alone, outputs, strict=True):
            expected, output = one[0], many[i]
            if output.shape != expected.shape:
                output = output[: len(row["mask"])]
            difference = float(np.abs(output - expected).max(initial=0.0))
            limit = BATCH_TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0.0)))
            if not difference <= limit:
                raise ValueError(
                    Errors.E958.format(name=name, difference=difference, tolerance=limit)
                )
