"""An encoder without weights of its own: it reads what a shared `transformer` component wrote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from spacy import registry
from spacy.language import Language
from spacy.tokens import Doc
from thinc.api import Model, torch2xp, xp2torch
from thinc.util import to_numpy
from torch import Tensor

from ..errors import Errors
from .encoder import EncodedDocs, EncoderBackprop

IntArray = NDArray[np.int64]


@registry.architectures("spacy-spanrel.ListenerEncoder.v1")
def ListenerEncoder(upstream: str = "*", grad_factor: float = 1.0) -> Model[list[Doc], EncodedDocs]:
    """Read Docs through a `transformer` component of spacy-transformers that stands earlier in the
    pipeline, and send the gradient back to it.

    Any span getter will do. A token that several of its spans hold is read in the one that gives it
    most context. With one span a Doc the result equals that of "spacy-spanrel.HFEncoder.v1" with
    the same weights, but for what the two tokenize differently (literal special tokens in a text).

    upstream (str): Name of the `transformer` component; "*" for any.
    grad_factor (float): What the gradient is multiplied by.
    RETURNS (Model[list[Doc], EncodedDocs]): The encoder.
    RAISES (ImportError): If spacy-transformers is not installed.
    """
    try:
        from spacy_transformers.layers.listener import TransformerListener
    except ImportError as error:
        raise ImportError(Errors.E212) from error
    return Model(
        "listener_encoder",
        forward,
        init=_init,
        dims={"nO": None},
        layers=[TransformerListener(upstream)],
        attrs={"upstream": upstream, "grad_factor": grad_factor},
    )


def _init(model: Model[list[Doc], EncodedDocs], X: Any = None, Y: Any = None) -> None:
    listener = model.layers[0]
    if listener.has_dim("nO") is None:
        raise ValueError(Errors.E213.format(upstream=model.attrs["upstream"]))
    model.set_dim("nO", listener.get_dim("nO"))


def check_training(nlp: Language, name: str, model: Model[Any, Any]) -> None:
    """Refuse a training in which a shared transformer would silently learn nothing or fail.

    The last component that listens sends the gradients of all of them back. If that one is frozen,
    the transformer gets none.

    nlp (Language): The pipeline, with the settings of the training in its config.
    name (str), model (Model): The component that is initialized, and its model.
    RAISES (ValueError): If so, saying what to change.
    """
    if not any(node.name == "transformer-listener" for node in model.walk()):
        return
    training = nlp.config.get("training", {})
    frozen = set(training.get("frozen_components", ()))
    annotating = set(training.get("annotating_components", ()))
    for upstream, pipe in nlp.pipeline:
        listening = list(getattr(pipe, "listening_components", ()))
        if name not in listening:
            continue
        if upstream in frozen:
            if upstream not in annotating:
                raise ValueError(Errors.E214.format(upstream=upstream, name=name))
        elif listening[-1] in frozen and set(listening) - frozen:
            raise ValueError(Errors.E215.format(upstream=upstream, last=listening[-1]))


def forward(
    model: Model[list[Doc], EncodedDocs], docs: list[Doc], is_train: bool
) -> tuple[EncodedDocs, EncoderBackprop]:
    """Put what the transformer wrote on Docs end to end."""
    from spacy_transformers.data_classes import TransformerData

    if not is_train:
        for doc in docs:
            if len(doc) and doc._.trf_data is None:
                raise ValueError(Errors.E216.format(upstream=model.attrs["upstream"]))
    if is_train and not any(map(len, docs)):
        # The transformer leaves such batches out, and sends nothing.
        read, backprop_listener = [TransformerData.empty() for _ in docs], _no_gradient
    else:
        read, backprop_listener = model.layers[0](docs, is_train)
    width = model.get_dim("nO")
    parts: list[Tensor] = []
    sizes: list[int] = []
    piece_rows, context_rows, token_pieces, token_window = [], [], [], []
    n_rows = n_pieces = n_windows = 0
    for doc, data in zip(docs, read, strict=True):
        hidden = data.model_output.get("last_hidden_state")
        if hidden is None or not hidden.size:
            token_pieces.append(np.full((len(doc), 2), n_pieces))
            token_window.append(np.full(len(doc), max(0, n_windows - 1)))
            sizes.append(0)
            continue
        layout = _layout(data, len(doc), hidden.shape[1])
        piece_rows.append(layout.pieces + n_rows)
        context_rows.append(layout.context + n_rows)
        token_pieces.append(layout.token_pieces + n_pieces)
        token_window.append(layout.token_window + n_windows)
        parts.append(xp2torch(hidden).reshape(-1, width))
        sizes.append(len(parts[-1]))
        n_rows += sizes[-1]
        n_pieces += len(layout.pieces)
        n_windows += len(layout.context)
    flat = torch.cat(parts) if parts else torch.zeros((0, width))
    device = flat.device

    def rows(found: list[IntArray]) -> Tensor:
        every = np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
        return torch.from_numpy(every).to(device)

    pieces, context = rows(piece_rows), rows(context_rows)
    encoded = EncodedDocs(
        pieces=flat.index_select(0, pieces),
        context=flat.index_select(0, context),
        token_pieces=rows(token_pieces).reshape(-1, 2),
        token_window=rows(token_window),
        token_offsets=np.concatenate([[0], np.cumsum([len(doc) for doc in docs])]).astype(np.int64),
    )

    def backprop(d_pieces: Tensor, d_context: Tensor) -> None:
        d_flat = torch.zeros_like(flat)
        d_flat.index_add_(0, pieces, d_pieces.to(d_flat.dtype))
        d_flat.index_add_(0, context, d_context.to(d_flat.dtype))
        d_flat *= model.attrs["grad_factor"]
        d_read = [
            _gradient_of(data, part)
            for data, part in zip(read, d_flat.split(sizes), strict=True)
            if len(part)
        ]
        backprop_listener(d_read)

    return encoded, backprop


def _no_gradient(gradients: list[Any]) -> None:
    """Nothing was read, so nothing is to be sent back."""


def _gradient_of(data: Any, gradient: Tensor) -> Any:
    from spacy_transformers.data_classes import TransformerData
    from transformers.file_utils import ModelOutput

    hidden = data.model_output["last_hidden_state"]
    output = ModelOutput(last_hidden_state=torch2xp(gradient.reshape(hidden.shape)))
    return TransformerData(wordpieces=data.wordpieces, model_output=output, align=data.align)


@dataclass(frozen=True)
class _Layout:
    """Where the pieces of one Doc are in the transformer's output, its rows put end to end.

    pieces (int64 array, (n_pieces,)): Rows of the pieces of all tokens, in the order of the text.
    context (int64 array, (n_windows,)): Rows of the summaries.
    token_pieces (int64 array, (n_tokens, 2)): Range of each token in `pieces`, end exclusive.
    token_window (int64 array, (n_tokens,)): Window that each token is read in.
    """

    pieces: IntArray
    context: IntArray
    token_pieces: IntArray
    token_window: IntArray


def _layout(data: Any, n_tokens: int, width: int) -> _Layout:
    lengths = np.asarray(data.wordpieces.lengths, dtype=np.int64)
    counts = np.asarray(to_numpy(data.align.lengths), dtype=np.int64)[:n_tokens]
    places = np.asarray(to_numpy(data.align.dataXd), dtype=np.int64).ravel()[: int(counts.sum())]
    tokens = np.repeat(np.arange(n_tokens), counts)
    window, column = np.divmod(places, width)
    # Where a summary stands first, no token is aligned with the first column.
    first_used = np.full(len(lengths), width)
    np.minimum.at(first_used, window, column)
    context = np.arange(len(lengths)) * width + np.where(first_used > 0, 0, lengths - 1)
    # Groups of one token's pieces in one window, each from its first to its last column.
    order = np.lexsort((column, window, tokens))
    tokens, window, column = tokens[order], window[order], column[order]
    starts = np.flatnonzero(np.diff(tokens, prepend=-1) | np.diff(window, prepend=-1))
    ends = np.append(starts[1:], len(tokens)) - 1 if len(tokens) else starts
    token, row, first, last = tokens[starts], window[starts], column[starts], column[ends]
    room = np.minimum(first, lengths[row] - 1 - last)
    # The window with most context; the earlier one on a tie.
    best = np.lexsort((row, -room, token))
    best = best[np.flatnonzero(np.diff(token[best], prepend=-1))]
    token, row, first, last = token[best], row[best], first[best], last[best]
    sizes = last - first + 1
    within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    every = np.repeat(row * width + first, sizes) + within
    # Tokens that share a piece (it ends in the next token) share its row.
    fresh = np.diff(every, prepend=-1) != 0
    index = np.cumsum(fresh) - 1
    begin = np.cumsum(sizes) - sizes
    token_pieces = np.zeros((n_tokens, 2), dtype=np.int64)
    token_window = np.zeros(n_tokens, dtype=np.int64)
    if len(token):
        token_pieces[token, 0] = index[begin]
        token_pieces[token, 1] = index[begin + sizes - 1] + 1
        token_window[token] = row
        # Tokens without pieces stand where the last one before them ended.
        known = np.zeros(n_tokens, dtype=np.int64)
        known[token] = np.arange(1, len(token) + 1)
        before = np.maximum.accumulate(known)
        missing = known == 0
        ended = np.append([0], token_pieces[token, 1])[before[missing]]
        token_pieces[missing] = ended[:, None]
        token_window[missing] = np.append([row[0]], row)[before[missing]]
    return _Layout(every[fresh], context, token_pieces, token_window)
