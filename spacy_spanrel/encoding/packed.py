"""The layers of BERT-like networks in prediction on the CPU, faster than transformers computes them.

Three things that the layers of transformers do are saved here, with the same results but for rounding:

- Padding is computed like pieces. Here the pieces of all rows follow one another, so that everything
  but attention sees no padding; attention takes rows of equal length together, and needs no mask.
- Query, key and value are three matrix products. Here they are one.
- A matrix product first lays out its weights in memory as the kernel reads them, in every call. oneDNN
  can do this once and for all, and apply GELU while a result is in the cache. (In torch its operators
  serve the compiler, and have no public name. Where they are missing, or give something else, torch's
  ordinary ones do the work.)

In bfloat16 the weights are cast once and for all, too, and not anew in each call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import groupby
from threading import local
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .bert import BertLayers
from .step import steps_of

# Networks with the layers of BERT under the same names, by their `model_type`.
_MODEL_TYPES = {"bert", "roberta", "xlm-roberta", "camembert", "electra"}
# The number of pieces for which oneDNN chooses the layout of weights; other numbers work as well.
_PIECES = 768


# A weight, and what changes with its values: the place of its data, the version that torch counts, and
# the number of our own steps, which torch does not count in its fused AdamW.
_Weight = tuple[nn.Parameter, int, int, int]


class PackedLayers:
    """The layers of a BERT-like network, computed without padding.

    The network computes its embeddings and its head as ever. In the context of `packing` its encoder
    leaves the layers to this object. The weights stay in the network; the copies that are laid out for
    the kernels are made at the first prediction, and again when a weight has changed.

    encoder (nn.Module): The part of the network that holds its layers.
    """

    def __init__(self, encoder: nn.Module):
        self._encoder: Any = encoder
        self._original = encoder.forward
        # What is true in a thread while it runs the network: threads may share a pipeline.
        self._call = local()
        # The layers for each dtype, and the state of the weights from which they were made.
        self._layers: dict[torch.dtype, tuple[list[_Weight], list[_Layer]]] = {}
        encoder.forward = self._forward  # type: ignore[method-assign]

    @contextmanager
    def packing(
        self, mask: Tensor, dtype: torch.dtype, border: int = 0, added: Tensor | None = None
    ) -> Iterator[None]:
        """Compute the layers without padding while this thread runs the network in this context.

        mask (Tensor): 1 for pieces, 0 for padding, which is on the right. *Shape:* ``(batch, length)``
        dtype (torch.dtype): The dtype to compute in.
        border (int): Index of a layer.
        added (Tensor | None): Vectors to add to the input of that layer.
            *Shape:* ``(batch, length, width)``
        """
        self._call.arguments = (mask, dtype, border, added)
        try:
            yield
        finally:
            self._call.arguments = None

    def _forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Run all layers: the `forward` of the encoder."""
        arguments = getattr(self._call, "arguments", None)
        if arguments is None:
            return self._original(hidden_states, *args, **kwargs)
        run = self._trace if torch.jit.is_tracing() else self._run
        with torch.autocast("cpu", enabled=False):
            hidden: Any = run(hidden_states, *arguments)
        if isinstance(self._encoder, BertLayers):
            return (hidden,)
        from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=hidden)

    def _run(
        self, padded: Tensor, mask: Tensor, dtype: torch.dtype, border: int, added: Tensor | None
    ) -> Tensor:
        lengths = mask.sum(1).tolist()
        rows = mask.reshape(-1).nonzero()[:, 0]
        is_full = len(rows) == mask.numel()

        def pack(vectors: Tensor) -> Tensor:
            vectors = vectors.reshape(-1, vectors.shape[-1])
            return (vectors if is_full else vectors.index_select(0, rows)).to(dtype)

        # Number of rows and length of each run of rows of equal length.
        runs = [(len(list(run)), length) for length, run in groupby(lengths)]
        hidden = pack(padded)
        for i, layer in enumerate(self._prepared(dtype)):
            if added is not None and i == border:
                hidden = hidden + pack(added)
            hidden = layer(hidden, runs)
        if not is_full:
            vectors = hidden.new_zeros(mask.numel(), hidden.shape[-1])
            hidden = vectors.index_copy_(0, rows, hidden)
        return hidden.view(padded.shape).float()

    def _trace(
        self, padded: Tensor, mask: Tensor, dtype: torch.dtype, border: int, added: Tensor | None
    ) -> Tensor:
        """Compute the same with operations that an exporter can trace for batches of any shape.

        Attention is one operation of ONNX Runtime, which reads padded rows.
        """
        is_piece = mask.reshape(-1)
        rows = is_piece.nonzero()[:, 0]
        # The place of each piece among all pieces; for padding, that of the piece before it.
        places = (is_piece.cumsum(0) - 1).clamp(min=0).view(mask.shape)
        lengths = mask.sum(1).int()

        def pack(vectors: Tensor) -> Tensor:
            return vectors.reshape(-1, vectors.shape[-1]).index_select(0, rows)

        def attend(parts: Sequence[Tensor], bias: Tensor, n_heads: int) -> Tensor:
            query, key, value = (F.embedding(places, part) for part in parts)
            attended: Tensor = _Attention.apply(query, key, value, bias, lengths, n_heads)
            return pack(attended)

        hidden = pack(padded)
        for i, layer in enumerate(self._encoder.layer):
            if added is not None and i == border:
                hidden = hidden + pack(added)
            hidden = _trace_layer(layer, hidden, attend)
        return F.embedding(places, hidden)

    def _prepared(self, dtype: torch.dtype) -> list[_Layer]:
        """Return the layers for a dtype, prepared anew if a weight has changed."""
        state = [(w, w.data_ptr(), w._version, steps_of(w)) for w in self._encoder.parameters()]
        known = self._layers.get(dtype)
        if known is None or not _is_same(known[0], state):
            layers = [_Layer(layer, dtype) for layer in self._encoder.layer]
            known = self._layers[dtype] = (state, layers)
        return known[1]

    def __reduce__(self) -> Any:
        # To copy a network: the copy of the encoder prepares layers of its own.
        return type(self), (self._encoder,)


def _is_same(state: list[_Weight], other: list[_Weight]) -> bool:
    return len(state) == len(other) and all(
        a[0] is b[0] and a[1:] == b[1:] for a, b in zip(state, other, strict=True)
    )


def pack_layers(network: nn.Module) -> PackedLayers | None:
    """Let the encoder of a network compute its layers without padding, where it is told to.

    network (PreTrainedModel): The network, with or without the head of a task.
    RETURNS (PackedLayers | None): Its layers; None if they are not those of BERT, or if this version
        of transformers builds them in another way.
    """
    config: Any = network.config
    base: Any = getattr(network, getattr(network, "base_model_prefix", ""), network)
    positions = getattr(config, "position_embedding_type", None)
    if (
        config.model_type not in _MODEL_TYPES
        or positions not in (None, "absolute")
        or getattr(config, "is_decoder", False)
        or not all(map(_has_bert_parts, base.encoder.layer))
    ):
        return None
    return PackedLayers(base.encoder)


# The parts of a layer of BERT, by their names in transformers.
_LINEAR = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
_NORMS = ("attention.output.LayerNorm", "output.LayerNorm")


def _has_bert_parts(layer: nn.Module) -> bool:
    modules = dict(layer.named_modules())
    return all(type(modules.get(name)) is nn.Linear for name in _LINEAR) and all(
        type(modules.get(name)) is nn.LayerNorm for name in _NORMS
    )


class _Layer:
    """A layer of BERT in prediction, with weights of its own.

    layer (nn.Module): The layer of transformers.
    dtype (torch.dtype): The dtype to compute in.
    """

    def __init__(self, layer: nn.Module, dtype: torch.dtype):
        query, key, value, attended, inner, outer = map(layer.get_submodule, _LINEAR)
        self._n_heads: int = layer.get_submodule("attention.self").num_attention_heads  # type: ignore[assignment]
        activation = layer.get_submodule("intermediate").intermediate_act_fn
        self._query_key_value = _linear([query, key, value], dtype)
        self._attended = _linear([attended], dtype)
        self._inner = _linear([inner], dtype, activation)  # type: ignore[arg-type]
        self._outer = _linear([outer], dtype)
        self._norms = [_norm(layer.get_submodule(name), dtype) for name in _NORMS]

    def __call__(self, hidden: Tensor, runs: Sequence[tuple[int, int]]) -> Tensor:
        """Compute the layer.

        hidden (Tensor): The vectors of all pieces. *Shape:* ``(n_pieces, width)``
        runs (Sequence[tuple[int, int]]): Number and length of rows of equal length, in order.
        RETURNS (Tensor): The output. *Shape:* ``(n_pieces, width)``
        """
        attended = self._attended(self._attention(self._query_key_value(hidden), runs))
        hidden = self._norms[0](attended.add_(hidden))
        return self._norms[1](self._outer(self._inner(hidden)).add_(hidden))

    def _attention(self, vectors: Tensor, runs: Sequence[tuple[int, int]]) -> Tensor:
        """Attend within each row. vectors (Tensor): Query, key and value, side by side."""
        attended = vectors.new_empty(len(vectors), vectors.shape[1] // 3)
        start = 0
        for count, length in runs:
            end = start + count * length
            query, key, value = (
                vectors[start:end].view(count, length, 3, self._n_heads, -1).permute(2, 0, 3, 1, 4)
            )
            output = F.scaled_dot_product_attention(query, key, value)
            attended[start:end].view(count, length, self._n_heads, -1).copy_(output.transpose(1, 2))
            start = end
        return attended


class _Attention(torch.autograd.Function):
    """Attention with a bias for query, key and value, as one operation of ONNX Runtime.

    It is only traced: the values that it has in torch are not used.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, lengths: Tensor, n: int
    ) -> Tensor:
        return query + key + value

    @staticmethod
    def symbolic(g: Any, query: Any, key: Any, value: Any, bias: Any, lengths: Any, n: int) -> Any:
        inputs = (query, key, value, bias, lengths)
        output = g.op("com.microsoft::MultiHeadAttention", *inputs, num_heads_i=n)
        output.setType(query.type())
        return output


def _trace_layer(layer: nn.Module, hidden: Tensor, attend: Callable[..., Tensor]) -> Tensor:
    """Compute a layer of transformers.

    layer (nn.Module): The layer.
    hidden (Tensor): The vectors of all pieces. *Shape:* ``(n_pieces, width)``
    attend (Callable[..., Tensor]): Attention, of the products for query, key and value, their biases,
        and the number of heads.
    RETURNS (Tensor): The output. *Shape:* ``(n_pieces, width)``
    """
    modules: list[Any] = [layer.get_submodule(name) for name in (*_LINEAR, *_NORMS)]
    *projections, attended, inner, outer, first_norm, second_norm = modules
    activation: Any = layer.get_submodule("intermediate").intermediate_act_fn
    bias = torch.cat([linear.bias for linear in projections])

    # One matrix product and one sum: ONNX has another operation for F.linear with two dimensions.
    def product(linear: Any, vectors: Tensor) -> Tensor:
        return vectors @ linear.weight.T

    def dense(linear: Any, vectors: Tensor) -> Tensor:
        return product(linear, vectors) + linear.bias

    parts = [product(linear, hidden) for linear in projections]
    attention: Any = layer.get_submodule("attention.self")
    vectors = attend(parts, bias, attention.num_attention_heads)
    hidden = first_norm(dense(attended, vectors) + hidden)
    output: Tensor = second_norm(dense(outer, activation(dense(inner, hidden))) + hidden)
    return output


def _norm(norm: Any, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    weight, bias = norm.weight.detach().to(dtype), norm.bias.detach().to(dtype)
    return lambda vectors: F.layer_norm(vectors, norm.normalized_shape, weight, bias, norm.eps)


def _linear(
    modules: Sequence[Any], dtype: torch.dtype, activation: Any = None
) -> Callable[[Tensor], Tensor]:
    """Join linear layers with the same input into one, with its weights laid out for oneDNN if it can.

    modules (Sequence[nn.Linear]): The layers.
    dtype (torch.dtype): The dtype to compute in.
    activation (Callable | None): Function for the result.
    RETURNS (Callable[[Tensor], Tensor]): Function from ``(n_pieces, width)`` to the results of all
        layers, side by side.
    """
    if len(modules) == 1:  # in float32 the weights themselves
        weight, bias = (w.detach().to(dtype) for w in (modules[0].weight, modules[0].bias))
    else:
        weight = torch.cat([module.weight.detach() for module in modules]).to(dtype)
        bias = torch.cat([module.bias.detach() for module in modules]).to(dtype)
    if not _prepares(dtype):
        if activation is None:
            return lambda vectors: F.linear(vectors, weight, bias)
        return lambda vectors: activation(F.linear(vectors, weight, bias))
    run = torch.ops.mkldnn._linear_pointwise
    laid_out = torch.ops.mkldnn._reorder_linear_weight(weight, _PIECES)
    name = "gelu" if activation is not None and _is_gelu(activation) else "none"

    def product(vectors: Tensor) -> Tensor:
        output: Tensor = run(vectors, laid_out, bias, name, [], "none")
        return output

    if activation is None or name == "gelu":
        return product
    return lambda vectors: activation(product(vectors))


def _is_gelu(activation: Any) -> bool:
    """Check whether an activation function is GELU, and not one that approximates it."""
    return activation is F.gelu or getattr(activation, "act", None) is F.gelu


@cache
def _prepares(dtype: torch.dtype) -> bool:
    """Check whether oneDNN can lay out weights of a dtype here, compute with them, and is faster.

    It is with AVX-512. With AVX2 torch's own library is as fast, and needs no second copy.
    """
    if not str(torch.backends.cpu.get_cpu_capability()).startswith("AVX512"):
        return False
    generator = torch.Generator().manual_seed(0)
    vectors, weight = (torch.randn(n, 64, generator=generator).to(dtype) for n in (32, 48))
    bias = torch.ones(48, dtype=dtype)
    try:
        laid_out = torch.ops.mkldnn._reorder_linear_weight(weight, len(vectors))
        output = torch.ops.mkldnn._linear_pointwise(vectors, laid_out, bias, "gelu", [], "none")
    except (AttributeError, RuntimeError, TypeError):
        return False
    expected = F.gelu(F.linear(vectors, weight, bias))
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    return torch.allclose(output.float(), expected.float(), rtol=tolerance, atol=tolerance)
