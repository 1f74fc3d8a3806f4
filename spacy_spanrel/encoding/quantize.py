"""The matrix products of an ONNX graph in 8-bit integers, with results that do not depend on the batch.

Each weight matrix has one scale for each output column. Each piece has a scale of its own, found when it is
computed (Yao et al. 2022, "ZeroQuant"): with one scale for all pieces of a batch, as ONNX Runtime's own
quantization has it, the vectors of a text would depend on the texts that are read with it. Three more steps
take most of the error away; all of them are done here, at no or little cost for prediction:

- The output of a normalization has a few channels that are much larger than the others, and the scale of a
  piece follows the largest. Each channel is divided by the root of its size, and the weights that meet it
  are multiplied by that (Xiao et al. 2022, "SmoothQuant"). The normalization itself cannot do this,
  because its output is added to that of the next layer, too.
- The output of a GELU is hardly ever negative, so only a few of its integers are: nearly twice as many are
  left for what it is.
- Weights are rounded one row after the other, and those that follow make up for the error that was made, as
  far as it can be seen in the inputs of some texts (Frantar et al. 2022, "GPTQ").

Attention, normalization, embeddings, heads and products that would still be far off stay in float32. So do,
on demand, the products that change the output of the network most if each is computed in integers alone.

Inputs are unsigned numbers, and weights signed ones from -64 to 64. On processors with AVX2 and no VNNI, ONNX
Runtime adds two products of 8-bit numbers in 16 bits, which saturate beyond 32,767: weights up to 127 would
give other results there than elsewhere. Two products of at most 255 x 64 cannot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
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
_LARGEST_INPUT = 255
# The integer for 0 of inputs around 0.
_MIDDLE = 128
# The least size of a matrix that is worth it, on each side. A head with a few classes stays in float32.
_LEAST_SIDE = 64
# The largest error of a product, as a share of its output (root of the mean square).
MOST_ERROR = 0.05
# Operations whose output never goes below a bound: the integer for 0, and the least scale with which the
# bound (-0.17 of GELU) has an integer.
_GELU = (32, 0.17 / 32)
_BOUNDED = {"Relu": (0, 1e-12), "Gelu": _GELU, "BiasGelu": _GELU, "FastGelu": _GELU}
_NORMALIZATION = "LayerNormalization"
# Pieces to calibrate with, and of these, pieces to measure the error of a product and of the network with.
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
    is_flat (bool): Whether the tensor has pieces without padding, in two dimensions.
    """

    source: str
    nodes: list[Any] = field(default_factory=list)
    largest: Any = 0.0
    squares: Any = 0.0
    sample: Any = None
    is_flat: bool = False

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
    zero (int): The integer for an input of 0.
    least (float): The least scale of a piece.
    """

    integers: Any
    scales: FloatArray
    zero: int = _MIDDLE
    least: float = 1e-12

    def multiply(self, inputs: FloatArray) -> FloatArray:
        """Compute the product as the graph does, with inputs that have been divided by their channels'
        factors. inputs (float32 array): *Shape:* ``(n_pieces, n_inputs)``"""
        sizes = np.abs(inputs) if self.zero == _MIDDLE else inputs
        steps = sizes.max(axis=1, keepdims=True) / (_LARGEST_INPUT - self.zero)
        steps = np.maximum(steps, self.least)
        rounded = np.clip(np.rint(inputs / steps), -self.zero, _LARGEST_INPUT - self.zero)
        result: FloatArray = (rounded @ self.integers.astype(np.float32)) * self.scales * steps
        return result


class Quantizer:
    """Computes the products of a graph with constant matrices in 8-bit integers.

    shim (TorchShim): The shim, with a network that is a `GraphModule` or has one as `encoder`.
    batches (Sequence[Batch]): Inputs of the graph in some texts, as `GraphModule.seen` collects them.
    name (str): Name of the component.
    RAISES (ImportError): If onnx is not installed.
    RAISES (ValueError): If the network has read nothing.

    n_products (int): Number of all products that could be computed in integers.
    """

    def __init__(self, shim: TorchShim, batches: Sequence[Batch], name: str):
        import onnx

        if not batches:
            raise ValueError(Errors.E944.format(name=name))
        self._shim = shim
        network: Any = shim.module
        self._graph: GraphModule = network if isinstance(network, GraphModule) else network.encoder
        self._sample = list(_some(batches, _SAMPLE))
        proto = onnx.load_model_from_string(self._graph.data)
        weights = {n: w.detach().numpy() for n, w in self._graph.named_parameters()}
        self._rewriter = _Rewriter(proto, weights)
        self._rewriter.calibrate(self._graph, _some(batches, _MOST_PIECES))
        self.n_products = self._rewriter.n_products
        # The products that can be replaced, in the order of the graph, and by the harm that each does.
        self._products = list(self._rewriter.products)
        self._by_harm: list[str] | None = None

    def apply(self, n_float: int = 0) -> int:
        """Put the network with products in integers into the shim.

        n_float (int): How many of the products that change the network's output most stay in float32.
        RETURNS (int): Number of products in integers.
        """
        chosen = set(self._products)
        if n_float:
            if self._by_harm is None:
                self._by_harm = self._sort()
            chosen -= set(self._by_harm[:n_float])
        quantized, settings, data = build_graph(self._graph, self._rewriter.replace(chosen))
        shim = self._shim
        files = {**shim.files, GRAPH_FILE: data}
        network: Any = shim.module
        if isinstance(network, GraphModule):
            shim.set_module(quantized, {**shim.cfg, "graph": settings}, files)
        else:
            network.encoder = quantized
            encoder = {**shim.cfg["encoder"], "graph": settings}
            shim.set_module(network, {**shim.cfg, "encoder": encoder}, files)
        return len(chosen)

    def _sort(self) -> list[str]:
        """Sort the products by what each alone changes in the output of the network, the most first."""
        expected = _outputs(self._graph, self._sample)
        harm = {}
        for product in self._products:
            quantized, _, _ = build_graph(self._graph, self._rewriter.replace({product}))
            outputs = _outputs(quantized, self._sample)
            harm[product] = float(np.linalg.norm(outputs - expected))
        return sorted(harm, key=lambda product: -harm[product])


def _some(batches: Iterable[Batch], n_pieces: int) -> Iterator[Batch]:
    """Yield batches until so many pieces have been read."""
    for batch in batches:
        yield batch
        n_pieces -= int(batch["mask"].sum())
        if n_pieces <= 0:
            return


def _outputs(graph: GraphModule, batches: Iterable[Batch]) -> FloatArray:
    """Return all outputs of a graph for the pieces of some batches, end to end."""
    outputs = []
    for batch in batches:
        mask = batch["mask"].astype(bool)
        for output in graph.session.run(None, dict(batch)):
            outputs.append(output[mask] if output.shape[:2] == mask.shape else output)
    return np.concatenate([output.reshape(-1) for output in outputs])


class _Rewriter:
    """Writes graphs with products in integers.

    proto (ModelProto): The graph. weights (Mapping[str, array]): Its external weights by name.

    n_products (int): Number of products with constant matrices.
    products (dict[str, tuple]): Of those that are not far off, by the name of the output: the input, what
        its channels are divided by, and the matrix.
    """

    def __init__(self, proto: Any, weights: Mapping[str, Any]):
        from onnx import numpy_helper

        self.proto = proto
        self.products: dict[str, tuple[str, FloatArray, QuantizedMatrix]] = {}
        self.n_products = 0
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
        """Collect statistics of the inputs of products, and round the matrices.

        graph (GraphModule): The network. batches (Iterable[Batch]): Inputs of the network.
        """
        from onnx import ModelProto, TensorProto, helper

        tapped = ModelProto()
        tapped.CopyFrom(self.proto)
        for name in self.inputs:
            tapped.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        weights = {name: weight.detach().numpy() for name, weight in graph.named_parameters()}
        session = make_session(tapped.SerializeToString(), weights, torch.get_num_threads())
        for batch in batches:
            mask = batch["mask"].astype(bool)
            for name, values in zip(
                self.inputs, session.run(list(self.inputs), dict(batch)), strict=True
            ):
                self.inputs[name].is_flat = values.ndim == 2
                self.inputs[name].add(values if values.ndim == 2 else values[mask])
        for name, inputs in self.inputs.items():
            matrices = [self.arrays[node.input[1]] for node in inputs.nodes]
            factors, quantized = quantize_matrices(
                matrices, inputs.squares, inputs.largest, inputs.source
            )
            self.n_products += len(matrices)
            for node, matrix, result in zip(inputs.nodes, matrices, quantized, strict=True):
                exact = inputs.sample @ matrix
                rounded = result.multiply(inputs.sample / factors)
                error = np.linalg.norm(rounded - exact) / (np.linalg.norm(exact) + 1e-12)
                if error <= MOST_ERROR:
                    self.products[node.output[0]] = name, factors, result
            # The sums are the largest arrays here.
            inputs.squares = None

    def replace(self, products: Set[str]) -> Any:
        """Return a graph with some of the products in integers. products (Set[str]): Their outputs."""
        from onnx import ModelProto, numpy_helper

        self.nodes, arrays = [], dict(self.arrays)
        scaled: dict[str, str] = {}
        for node in self.proto.graph.node:
            if node.output[0] not in products:
                self.nodes.append(node)
                continue
            name, factors, matrix = self.products[node.output[0]]
            if name not in scaled:
                scaled[name] = self._scale(name, factors, matrix)
            if node.op_type == "MatMul":
                self._product(scaled[name], matrix, node.output[0])
            else:
                self._attention(node, scaled[name], matrix)
        proto = ModelProto()
        proto.CopyFrom(self.proto)
        del proto.graph.node[:], proto.graph.initializer[:]
        proto.graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input}
        proto.graph.initializer.extend(
            numpy_helper.from_array(np.ascontiguousarray(array), name)
            for name, array in self.arrays.items()
            if name in used
        )
        self.arrays = arrays
        return proto

    def _constant(self, name: str, array: Any) -> str:
        self.arrays[name] = array
        return name

    def _add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def _scale(self, name: str, factors: FloatArray, matrix: QuantizedMatrix) -> str:
        """Turn a tensor into integers, once for all products that read it.

        name (str), factors (float32 array), matrix (QuantizedMatrix): The tensor, what its channels are
            divided by, and one of the matrices.
        RETURNS (str): Name of the integers; the scales of the pieces have the same with "_scale".
        """
        least = self._constant(f"int8_least_{matrix.zero}", np.float32(matrix.least))
        one = self._constant("int8_one", np.float32(1))
        zero = self._constant(f"int8_zero_{matrix.zero}", np.uint8(matrix.zero))
        share = np.float32(1 / (_LARGEST_INPUT - matrix.zero))
        share = self._constant(f"int8_share_{matrix.zero}", share)
        output, values = f"{name}_int8", name
        if (factors != 1).any():
            inverse = self._constant(f"{output}_factors", 1 / factors)
            values = self._add("Mul", [values, inverse], f"{output}_even")
        sizes = values
        if matrix.zero == _MIDDLE:
            sizes = self._add("Abs", [values], f"{output}_sizes")
        is_flat = self.inputs[name].is_flat
        largest = self._add(
            "ReduceMax", [sizes], f"{output}_max", axes=[-1], keepdims=int(not is_flat)
        )
        scale = self._add("Mul", [largest, share], f"{output}_step")
        if not is_flat:
            scale = self._add("Max", [scale, least], f"{output}_scale")
            values = self._add("Div", [values, scale], f"{output}_scaled")
            return self._add("QuantizeLinear", [values, one, zero], output)
        # Each row has a scale of its own in one operation.
        scale = self._add("Max", [scale, least], f"{output}_scales")
        shape = self._add("Shape", [scale], f"{output}_n_pieces")
        zeros = self._add("Expand", [zero, shape], f"{output}_zeros")
        last = self._constant("int8_last", np.array([1], dtype=np.int64))
        self._add("Unsqueeze", [scale, last], f"{output}_scale")
        return self._add("QuantizeLinear", [values, scale, zeros], output, axis=0)

    def _product(self, integers: str, matrix: QuantizedMatrix, output: str) -> None:
        inputs = [
            integers,
            self._constant(f"{output}_int8_weight", matrix.integers),
            "int8_one",
            self._constant(f"{output}_weight_scale", matrix.scales),
            f"int8_zero_{matrix.zero}",
        ]
        self._add("MatMulIntegerToFloat", inputs, f"{output}_unscaled", domain=_MICROSOFT)
        self._add("Mul", [f"{output}_unscaled", f"{integers}_scale"], output)

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
        zero, least = _BOUNDED.get(source, (_MIDDLE, 1e-12))
        quantized.append(QuantizedMatrix(integers, scales, zero, least))
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
