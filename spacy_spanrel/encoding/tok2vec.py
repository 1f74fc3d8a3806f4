"""Vectors of tokens, for spaCy's own `tok2vec` component and for every model that takes a `tok2vec`.

One pass of a Hugging Face encoder serves a whole pipeline: `tok2vec` runs it, and spaCy's `ner`,
`tagger`, `parser`, `textcat` and `spancat` read the vectors through `spacy.Tok2VecListener.v1`. The
encoder reads texts as it does for the components of this package; here its pieces are pooled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, Optional

import numpy as np
import torch
from spacy import registry
from spacy.tokens import Doc
from thinc.api import Model, torch2xp, xp2torch
from thinc.types import Floats2d
from torch import Tensor
from torch.nn import functional as F

from ..arrays import IntArray
from ..errors import Errors
from .encoder import EncodedDocs
from .export import runtimes
from .shim import torch_shims
from .strided import StridedDocs, one_row_per_token
from .tok2vec_pieces import Tok2VecModel, TokenVectors, keep_outputs, keep_settings, split_docs
from .transfer import to_device

Pooling = Literal["mean", "max", "first"]

# Takes the gradients of the vectors of each Doc, and returns the Docs.
TokenBackprop = Callable[[list[Floats2d]], list[Doc]]


@registry.architectures("spacy-spanrel.HFTok2Vec.v1")
def HFTok2Vec(
    encoder: Model[list[Doc], EncodedDocs],
    pooling: Pooling = "mean",
    width: Optional[int] = None,  # noqa: UP045 (spaCy resolves these annotations at run time)
    window: Optional[int] = None,  # noqa: UP045
    stride: Optional[int] = None,  # noqa: UP045
    gradient: Literal["mean", "sum"] = "mean",
) -> Model[list[Doc], list[Floats2d]]:
    """Give each token one vector: its subword pieces, pooled. A token without pieces (white space)
    gets zeros.

    encoder (Model[list[Doc], EncodedDocs]): For example "spacy-spanrel.HFEncoder.v1".
    pooling (str): "mean" or "max" of the pieces of a token, or its "first" piece.
    width (int | None): Width of the vectors, to which the listeners of a pipeline can refer:
        `width = ${components.tok2vec.model.width}`. It must be that of the encoder; None to take
        that, whatever it is.
    window (int | None), stride (int | None): Read texts as spacy-transformers does with its
        `strided_spans`: in windows of so many tokens, and a token gets the pieces of all windows that
        hold it. For pipelines that were trained there (`spacy spanrel import-transformer`); None for the
        windows of the encoder.
    gradient (str): The gradient that spaCy's components send is a sum over the tokens of a batch. "mean"
        divides it by their number, so that it is of the size of that of a component of this package
        that reads the same pass, whose loss is a mean; "sum" leaves it as it is.
    RETURNS (Model[list[Doc], list[Floats2d]]): The model.
    """
    if (window, stride) != (None, None) and not 0 < (stride or 0) <= (window or 0):
        raise ValueError(Errors.E235.format(window=window, stride=stride))
    model = Tok2VecModel(
        "hf_tok2vec",
        forward,
        init=_init,
        dims={"nO": width},
        # Not a reference as well: `Model.copy`, and with it `nlp.replace_listeners`, loses those.
        layers=[encoder],
        attrs={"pooling": pooling, "window": window, "stride": stride, "gradient": gradient},
    )
    # Inside another model, `from_dict` of this one is not called.
    for shim in torch_shims(model):
        shim.on_load = keep_settings(model)
    return model


def _init(model: Model[list[Doc], list[Floats2d]], X: Any = None, Y: Any = None) -> None:
    (encoder,) = model.layers
    encoder.initialize()
    width = encoder.get_dim("nO")
    if model.has_dim("nO") and model.get_dim("nO") != width:
        raise ValueError(Errors.E225.format(width=model.get_dim("nO"), encoder=width))
    model.set_dim("nO", width)


def forward(
    model: Model[list[Doc], list[Floats2d]], docs: list[Doc], is_train: bool
) -> tuple[list[Floats2d], TokenBackprop]:
    """Encode Docs, and pool the pieces of each token.

    model (Model): Made by `HFTok2Vec`.
    docs (list[Doc]): The Docs.
    is_train (bool): Whether a call of the backpropagation will follow.
    RETURNS (tuple[list[Floats2d], TokenBackprop]): The vectors of each Doc, (n_tokens, nO), in the
        arrays of the model's `ops`; and the function that takes their gradients to the encoder.
    RAISES (ValueError): If a network that computes in float16 or with ONNX Runtime is to be trained.
    """
    if is_train and any(shim.dtype == torch.float16 for shim in torch_shims(model)):
        raise ValueError(Errors.E226)
    if is_train and any(node.attrs["runtime"] != "torch" for node in runtimes(model).values()):
        raise ValueError(Errors.E308.format(name=model.name))
    texts = split_docs(model, docs)
    encoded, encoder_backprop = model.layers[0](texts, is_train)
    # Leaves, cut off from the graph of the encoder, which may compute in another precision. The gradients
    # of the token vectors and those of listeners that read the pieces add up in them.
    pieces, context = (
        rows.detach().float().requires_grad_(is_train) for rows in (encoded.pieces, encoded.context)
    )
    leaves = replace(encoded, pieces=pieces, context=context)
    tokens = rows_of_pieces = None
    if isinstance(texts, StridedDocs):
        tokens = texts.tokens()
        leaves, rows_of_pieces = one_row_per_token(leaves, texts)
        leaves.pieces = leaves.pieces.detach().requires_grad_(is_train)
    with torch.set_grad_enabled(is_train):
        vectors = pool_pieces(pieces, encoded.token_pieces, model.attrs["pooling"], tokens)
    borders = leaves.token_offsets[1:-1].tolist()
    outputs = TokenVectors(
        model.ops.xp.split(torch2xp(vectors.detach(), ops=model.ops), borders),
        leaves if is_train else None,
    )
    if not is_train:
        keep_outputs(model, outputs, leaves)

    def backprop(d_outputs: list[Floats2d]) -> list[Doc]:
        gradient = xp2torch(model.ops.xp.concatenate(d_outputs), device=vectors.device)
        if model.attrs["gradient"] == "mean":
            # Otherwise it is hundreds of times larger, and the optimizer, for which only the ratio counts,
            # does not see the other one.
            gradient = gradient / max(1, len(gradient))
        vectors.backward(gradient)
        if rows_of_pieces is not None and leaves.pieces.grad is not None:
            index = to_device(torch.from_numpy(rows_of_pieces), pieces.device)
            pieces.grad.index_add_(0, index, leaves.pieces.grad)
        d_context = torch.zeros_like(context) if context.grad is None else context.grad
        encoder_backprop(pieces.grad.to(encoded.pieces.dtype), d_context.to(encoded.context.dtype))
        # The component keeps the vectors until the next batch.
        outputs.encoded = None
        return docs

    return outputs, backprop


def pool_pieces(
    pieces: Tensor, token_pieces: Tensor, pooling: Pooling, tokens: IntArray | None = None
) -> Tensor:
    """Make one vector of the pieces of each token.

    pieces (Tensor): Vectors of pieces, float32. *Shape:* ``(n_pieces, width)``
    token_pieces (Tensor): Range of the pieces of each token, as in `EncodedDocs`.
        *Shape:* ``(n_rows, 2)``
    pooling (str): "mean", "max" or "first".
    tokens (int64 array, (n_rows,) | None): The token that each row stands for, from 0 on without gaps,
        if tokens have several rows.
    RETURNS (Tensor): Zeros for a token without pieces. *Shape:* ``(n_tokens, width)``
    """
    ranges = token_pieces.numpy()
    if tokens is not None:
        order = np.argsort(tokens, kind="stable")
        tokens, ranges = tokens[order], ranges[order]
    starts, ends = ranges.T
    if pooling == "first":
        ends = np.minimum(ends, starts + 1)
        if tokens is not None:
            # Of the rows of a token, the first one that has a piece.
            filled = np.flatnonzero(starts < ends)
            ends = starts.copy()
            _, index = np.unique(tokens[filled], return_index=True)
            ends[filled[index]] += 1
    sizes = ends - starts
    # The pieces of all tokens, end to end: a piece of two tokens is there twice.
    offsets = np.cumsum(sizes) - sizes
    rows = np.arange(int(sizes.sum())) + np.repeat(starts - offsets, sizes)
    if tokens is not None:
        offsets = offsets[np.flatnonzero(np.diff(tokens, prepend=-1))]
    vectors: Tensor = F.embedding_bag(
        to_device(torch.from_numpy(rows), pieces.device),
        pieces,
        to_device(torch.from_numpy(offsets), pieces.device),
        mode="max" if pooling == "max" else "mean",
    )
    return vectors
