"""The thinc model of `span_relation`: encoder and heads behind one forward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from spacy import registry
from spacy.tokens import Doc
from thinc.api import Model
from torch import Tensor

from ..arrays import FloatArray, IntArray
from ..encoding.encoder import EncodedDocs, EncoderBackprop
from ..encoding.range_max import RangeMax
from ..encoding.shim import TorchShim, get_module, get_shim
from ..encoding.step import HEAD
from ..encoding.transfer import to_device
from ..errors import Errors
from .network import HeadSettings, SpERTHeads

# Pairs that are put together at once in prediction: bounds memory whatever the number of entities.
_PAIR_BLOCK = 8192


@dataclass(frozen=True)
class Selection:
    """The spans and pairs that the heads are to look at.

    spans (int64 array, (n_spans, 2)): Token ranges, counted through the batch.
    pairs (int64 array, (n_pairs, 2)): Rows (head, tail) of `spans`.
    """

    spans: IntArray
    pairs: IntArray


Choose = Callable[[FloatArray, EncodedDocs], Selection]


@dataclass(frozen=True)
class SpERTInput:
    """A batch for the model.

    docs (list[Doc]): The Docs.
    selection (Selection | Callable): The spans and pairs; or what chooses them from the
        probabilities of all spans, float32 ``(n_tokens, max_span_size, 1 + n_entity_types)``, and
        the encoded Docs. In training no span has a probability.
    max_span_size (int): Longest span in tokens that gets a probability in prediction; 0 for none.
    """

    docs: list[Doc]
    selection: Selection | Choose
    max_span_size: int


@dataclass(frozen=True)
class SpERTOutput:
    """Logits, on the model's device.

    selection (Selection): What was looked at.
    span_logits (Tensor | None): Of the selected spans in training, ``(n_spans, 1 + n_entity_types)``;
        None in prediction.
    pair_logits (Tensor): Of the selected pairs, ``(n_pairs, n_relation_types)``.
    """

    selection: Selection
    span_logits: Tensor | None
    pair_logits: Tensor


# Gradients of (span_logits, pair_logits) to nothing: the shims collect those of the weights.
Backprop = Callable[[tuple[Tensor, Tensor]], None]
SpERTModel = Model[SpERTInput, SpERTOutput]


def build_heads(cfg: dict[str, Any], files: dict[str, bytes]) -> SpERTHeads:
    """Make the heads with fresh weights from a shim's settings."""
    return SpERTHeads(HeadSettings(**cfg["settings"]))


@registry.architectures("spacy-spanrel.SpERT.v1")
def SpERT(
    encoder: Model[list[Doc], EncodedDocs],
    size_embedding: int = 25,
    dropout: float = 0.1,
    boundaries: bool = False,
    relation_bias: float = -2.0,
) -> SpERTModel:
    """Joint classifier of spans and of pairs of spans on one encoder pass.

    encoder (Model[list[Doc], EncodedDocs]): For example "spacy-spanrel.HFEncoder.v1".
    size_embedding (int): Width of the embedding of a span's number of tokens.
    dropout (float): On the representations of spans and pairs, in training. (`[training] dropout`
        does not reach torch.)
    boundaries (bool): Represent spans by their first and last token too, not by the maximum over
        their pieces alone.
    relation_bias (float): Where the biases of the pair classifier start. A pair starts with the
        probability 0.12 of each relation at -2, with 0.5 at 0, as in the original program.
    RETURNS (Model[SpERTInput, SpERTOutput]): The model.
    """
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
        attrs={
            "size_embedding": size_embedding,
            "dropout": dropout,
            "boundaries": boundaries,
            "relation_bias": relation_bias,
        },
    )


def _init(model: SpERTModel, X: Any = None, Y: Any = None) -> None:
    encoder = model.get_ref("encoder")
    encoder.initialize()
    settings = HeadSettings(
        width=encoder.get_dim("nO"),
        n_entity_types=model.get_dim("n_entity_types"),
        n_relation_types=model.get_dim("n_relation_types"),
        size_embedding=model.attrs["size_embedding"],
        dropout=model.attrs["dropout"],
        boundaries=model.attrs["boundaries"],
    )
    set_heads(model, SpERTHeads(settings, model.attrs["relation_bias"]))


def set_heads(model: SpERTModel, heads: SpERTHeads) -> None:
    """Put heads into a model made by `SpERT`."""
    get_shim(model).set_module(heads, {"settings": heads.settings.to_dict(), HEAD: True})


def forward(model: SpERTModel, X: SpERTInput, is_train: bool) -> tuple[SpERTOutput, Backprop]:
    """Encode once, then classify spans and pairs on what the encoder returned."""
    heads = get_module(model, SpERTHeads)
    encoder = model.get_ref("encoder")
    if is_train:
        return _train(heads, get_shim(model).device, encoder, X)
    encoded = _for_heads(encoder.predict(X.docs), get_shim(model).device)
    with torch.no_grad():
        selection = X.selection
        if not isinstance(selection, Selection):
            probabilities = _no_probabilities(heads, encoded)
            if X.max_span_size:
                logits = heads.classify_all_spans(
                    encoded.context,
                    encoded.token_window,
                    encoded.pieces,
                    encoded.token_pieces,
                    X.max_span_size,
                )
                probabilities = torch.softmax(logits, dim=-1).cpu().numpy()
            selection = selection(probabilities, encoded)
        pair_logits = _predict_pairs(heads, encoded, selection)
    return SpERTOutput(selection, None, pair_logits), _no_backprop


def _no_probabilities(heads: SpERTHeads, encoded: EncodedDocs) -> FloatArray:
    return np.zeros((encoded.n_tokens, 0, 1 + heads.settings.n_entity_types), dtype=np.float32)


def _no_backprop(gradients: tuple[Tensor, Tensor]) -> None:
    raise ValueError(Errors.E503)


def _for_heads(encoded: EncodedDocs, device: torch.device) -> EncodedDocs:
    """Put vectors where the heads are, and in their precision: those of a shared encoder need not be.

    They are cut off from the encoder's graph.
    """
    return replace(
        encoded,
        pieces=encoded.pieces.detach().to(device, torch.float32),
        context=encoded.context.detach().to(device, torch.float32),
    )


def _train(
    heads: SpERTHeads,
    device: torch.device,
    encoder: Model[list[Doc], EncodedDocs],
    X: SpERTInput,
) -> tuple[SpERTOutput, Backprop]:
    read, backprop_encoder = encoder.begin_update(X.docs)
    encoder_backprop = cast(EncoderBackprop, backprop_encoder)
    encoded = _for_heads(read, device)
    chosen = X.selection
    if not isinstance(chosen, Selection):
        chosen = chosen(_no_probabilities(heads, encoded), encoded)
    pieces, context = encoded.pieces.requires_grad_(), encoded.context.requires_grad_()
    spans, pairs = torch.from_numpy(chosen.spans), torch.from_numpy(chosen.pairs)
    of_pairs = to_device(pairs, device)
    heads.train()
    with torch.enable_grad():
        ranges, between = _piece_ranges(encoded.token_pieces, spans, pairs)
        table = RangeMax(pieces, _longest(ranges, between))
        represented = heads.represent(table, encoded.token_pieces, spans)
        sizes = heads.sizes(spans)
        window = to_device(encoded.token_window[spans[:, 0]], device)
        span_logits = heads.classify_spans(context.index_select(0, window), represented, sizes)
        pair_logits = heads.classify_pairs(
            table(between),
            represented.index_select(0, of_pairs[:, 0]),
            represented.index_select(0, of_pairs[:, 1]),
            sizes.index_select(0, of_pairs[:, 0]),
            sizes.index_select(0, of_pairs[:, 1]),
        )
    heads.eval()

    def backprop(gradients: tuple[Tensor, Tensor]) -> None:
        torch.autograd.backward([span_logits, pair_logits], list(gradients))
        # Always, also with nothing to learn: a shared encoder waits for every listener.
        encoder_backprop(
            _gradient(pieces).to(read.pieces.device), _gradient(context).to(read.context.device)
        )

    return SpERTOutput(chosen, span_logits, pair_logits), backprop


def _gradient(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def _predict_pairs(heads: SpERTHeads, encoded: EncodedDocs, chosen: Selection) -> Tensor:
    n_types = heads.settings.n_relation_types
    if not len(chosen.pairs) or not n_types:
        return encoded.pieces.new_zeros((len(chosen.pairs), n_types))
    spans, pairs = torch.from_numpy(chosen.spans), torch.from_numpy(chosen.pairs)
    of_pairs = to_device(pairs, encoded.pieces.device)
    ranges, between = _piece_ranges(encoded.token_pieces, spans, pairs)
    table = RangeMax(encoded.pieces, _longest(ranges, between))
    represented = heads.represent(table, encoded.token_pieces, spans)
    sizes = heads.sizes(spans)
    blocks = [
        heads.classify_entity_pairs(
            table(between[start : start + _PAIR_BLOCK]),
            represented,
            sizes,
            of_pairs[start : start + _PAIR_BLOCK],
        )
        for start in range(0, len(pairs), _PAIR_BLOCK)
    ]
    return torch.cat(blocks)


def _piece_ranges(token_pieces: Tensor, spans: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Piece ranges of spans, and of what lies between the spans of pairs, all on the CPU."""
    ranges = torch.stack([token_pieces[spans[:, 0], 0], token_pieces[spans[:, 1] - 1, 1]], dim=1)
    head, tail = ranges[pairs[:, 0]], ranges[pairs[:, 1]]
    start = torch.minimum(head[:, 1], tail[:, 1])
    end = torch.maximum(head[:, 0], tail[:, 0])
    # Overlapping spans have nothing between them: an empty range, the zero vector.
    return ranges, torch.stack([start, torch.maximum(start, end)], dim=1)


def _longest(*ranges: Tensor) -> int:
    """Length of the longest of some ranges (at least 1)."""
    lengths = [int((part[:, 1] - part[:, 0]).max()) for part in ranges if part.shape[0]]
    return max([1, *lengths])
