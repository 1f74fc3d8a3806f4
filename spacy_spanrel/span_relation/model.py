"""The thinc model of `span_relation`: an encoder, and the heads that work on what it returns.

The model itself encodes: it calls the encoder, puts the vectors where the heads are, and runs the layer
between encoder and heads, if there is one. The heads are called on the result, once it is known which
spans and pairs to classify. The root node carries the heads' weights and the encoder is its only layer;
saved pipelines rely on that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, Literal, cast

import torch
from spacy import registry
from spacy.tokens import Doc
from thinc.api import Model
from torch import Tensor

from ..arrays import IntArray
from ..encoding.encoder import EncodedDocs, EncoderBackprop, SplitDocs
from ..encoding.shim import TorchShim, get_module, get_shim
from ..encoding.step import HEAD
from ..settings import check_settings, number, one_of, whole_number
from .context_layer import run_lengths
from .network import HeadSettings, SpERTHeads

RULES = {
    "distance_embedding": whole_number(0),
    "type_embedding": whole_number(0),
    "type_noise": number(0, 1),
    "context_layer": one_of("none", "lstm", "transformer"),
}

SpERTModel = Model[list[Doc], EncodedDocs]
# From gradients of span logits and pair logits to those of the encoded pieces and [CLS] vectors.
HeadsBackprop = Callable[[tuple[Tensor, Tensor]], tuple[Tensor, Tensor]]


def build_heads(cfg: dict[str, Any], files: dict[str, bytes]) -> SpERTHeads:
    """Make heads with fresh weights from a shim's settings, as `TorchShim` needs it.

    cfg (dict[str, Any]): The shim's settings.
    files (dict[str, bytes]): Not used: heads need no files.
    RETURNS (SpERTHeads): The heads.
    """
    return SpERTHeads(HeadSettings(**cfg["settings"]))


@registry.architectures("spacy-spanrel.SpERT.v1")
def SpERT(
    encoder: Model[list[Doc], EncodedDocs],
    size_embedding: int = 25,
    dropout: float = 0.1,
    boundaries: bool = False,
    relation_bias: float = -2.0,
    distance_embedding: int = 0,
    type_embedding: int = 0,
    type_noise: float = 0.0,
    context_layer: Literal["none", "lstm", "transformer"] = "none",
) -> SpERTModel:
    """Classify spans and pairs of spans jointly, on one pass of an encoder.

    encoder (Model[list[Doc], EncodedDocs]): For example "spacy-spanrel.HFEncoder.v1".
    size_embedding (int): Width of the embedding of a span's number of tokens.
    dropout (float): Dropout of the representations of spans and pairs in training. (`[training]
        dropout` does not reach torch.)
    boundaries (bool): Represent a span by its first and last token as well as by the maximum over
        its pieces.
    relation_bias (float): Initial bias of each relation. A pair starts with the probability 0.12 of
        each relation at -2, with 0.5 at 0, as in the original program.
    distance_embedding (int): Width of an embedding of the number of tokens between head and tail, in
        buckets (0 to 4, 5 to 7, 8 to 15, 16 to 31, 32 to 63, more; and overlapping) and by which of
        the two comes first. It joins the representation of a pair. 0: none.
    type_embedding (int): Width of an embedding of the entity types of head and tail, which join the
        representation of a pair: the predicted ones (or, with entities = "doc", those of the Doc)
        and in training those of the annotation. 0: none.
    type_noise (float): With a `type_embedding`: probability that a type is replaced by another one in
        training, because predicted types are not always right.
    context_layer (str): A layer between encoder and heads that reads the pieces of each text once
        more: "lstm", a BiLSTM; "transformer", a transformer layer; or "none".
    RETURNS (Model[list[Doc], EncodedDocs]): The model.
    RAISES (ValueError): If a setting has a value that it cannot have.
    """
    settings = {
        "size_embedding": size_embedding,
        "dropout": dropout,
        "boundaries": boundaries,
        "relation_bias": relation_bias,
        "distance_embedding": distance_embedding,
        "type_embedding": type_embedding,
        "type_noise": type_noise,
        "context_layer": context_layer,
    }
    check_settings("spacy-spanrel.SpERT.v1", settings, RULES)
    device = getattr(encoder.shims[0], "device_setting", "auto") if encoder.shims else "auto"
    return Model(
        "spert",
        forward,
        init=_init,
        dims={"n_entity_types": None, "n_relation_types": None},
        layers=[encoder],
        # The heads are small and sum over many values: float32 always.
        shims=[TorchShim(build_heads, device=device, precision="float32")],
        refs={"encoder": encoder},
        attrs=settings,
    )


def _init(model: SpERTModel, X: Any = None, Y: Any = None) -> None:
    encoder = model.get_ref("encoder")
    encoder.initialize()
    settings = dict(model.attrs)
    relation_bias = settings.pop("relation_bias")
    shapes = HeadSettings(
        width=encoder.get_dim("nO"),
        n_entity_types=model.get_dim("n_entity_types"),
        n_relation_types=model.get_dim("n_relation_types"),
        **settings,
    )
    set_heads(model, SpERTHeads(shapes, relation_bias))


def set_heads(model: SpERTModel, heads: SpERTHeads) -> None:
    """Give the model its heads.

    model (Model): Made by `SpERT`.
    heads (SpERTHeads): The heads.
    """
    get_shim(model).set_module(heads, {"settings": asdict(heads.settings), HEAD: True})


def forward(
    model: SpERTModel, docs: list[Doc], is_train: bool
) -> tuple[EncodedDocs, EncoderBackprop]:
    """Encode Docs, put the vectors where the heads are and into their precision, and run the layer
    between encoder and heads, if there is one.

    A shared encoder may compute on another device, in another precision. The vectors are cut off
    from its graph; its gradients arrive by `backprop`.

    model (Model): Made by `SpERT`.
    docs (list[Doc]): The Docs.
    is_train (bool): Whether a call of the backpropagation will follow.
    RETURNS (tuple[EncodedDocs, EncoderBackprop]): The encoded Docs, and what takes the gradients of
        their pieces and [CLS] vectors. It must be called even if all of them are zero: a shared
        encoder waits for every listener.
    """
    encoded, encoder_backprop = model.get_ref("encoder")(docs, is_train)
    device = get_shim(model).device
    pieces = leaf = encoded.pieces.detach().to(device, torch.float32)
    context = encoded.context.detach().to(device, torch.float32)
    layer = get_module(model, SpERTHeads).context_layer
    if layer is not None:
        offsets = docs.offsets if isinstance(docs, SplitDocs) else encoded.token_offsets
        leaf.requires_grad_(is_train)
        layer.train(is_train)
        with torch.set_grad_enabled(is_train):
            pieces = layer(leaf, run_lengths(encoded, offsets))

    def backprop(d_pieces: Tensor, d_context: Tensor) -> None:
        if layer is not None:
            torch.autograd.backward(pieces, d_pieces)
            d_pieces = _gradient(leaf)
        cast(EncoderBackprop, encoder_backprop)(
            d_pieces.to(encoded.pieces.device), d_context.to(encoded.context.device)
        )

    return replace(encoded, pieces=pieces.detach(), context=context), backprop


def begin_update_heads(
    model: SpERTModel,
    encoded: EncodedDocs,
    spans: IntArray,
    pairs: IntArray,
    types: IntArray | None = None,
) -> tuple[tuple[Tensor, Tensor], HeadsBackprop]:
    """Classify spans and pairs in training.

    model (Model): Made by `SpERT`.
    encoded (EncodedDocs): Returned by the model.
    spans (int64 array, (n_spans, 2)): Token ranges, numbered through the batch.
    pairs (int64 array, (n_pairs, 2)): Rows (head, tail) of `spans`.
    types (int64 array, (n_spans,) | None): Entity type of each span that is in a pair; the number of
        types for an unknown one. None: all are unknown.
    RETURNS (tuple): Logits of the spans, ``(n_spans, 1 + n_entity_types)``, and of the pairs,
        ``(n_pairs, n_relation_types)``; and the backpropagation, which takes the gradients of both
        and returns those of the pieces and of the [CLS] vectors.
    """
    heads = get_module(model, SpERTHeads)
    pieces = encoded.pieces.detach().requires_grad_()
    context = encoded.context.detach().requires_grad_()
    heads.train()
    with torch.enable_grad():
        leaves = replace(encoded, pieces=pieces, context=context)
        logits = heads(
            leaves,
            torch.from_numpy(spans),
            torch.from_numpy(pairs),
            None if types is None else torch.from_numpy(types),
        )
    heads.eval()

    def backprop(gradients: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        torch.autograd.backward(logits, gradients)
        return _gradient(pieces), _gradient(context)

    return logits, backprop


def _gradient(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
