"""Encoders over a transformer of spacy-transformers: one that several components share, or a copy of
it that belongs to one component. The copy may come from spacy-curated-transformers, too.

spacy-transformers reads each Doc as a number of spans (windows), padded to one rectangle, and aligns
tokens with its cells. Spans may overlap and may leave tokens out: any span getter will do. The
pieces of a token are taken from the window that gives it the most context on its shorter side.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from spacy import registry
from spacy.tokens import Doc
from spacy.vocab import Vocab
from thinc.api import Model, torch2xp, xp2torch
from thinc.util import to_numpy
from torch import Tensor

from ..errors import Errors, Warnings, warn
from .batching import length_sorted_batches
from .curated import is_curated, run_curated
from .encoder import EncodedDocs, EncoderBackprop
from .listening import extend_replace_listeners
from .outputs import DocLayout, DocOutput, SendGradients, check_annotated, join_outputs, pick_pieces

# Ids of the models that have warned of a text that was cut. thinc gives no id twice.
_WARNED: set[int] = set()


@registry.architectures("spacy-spanrel.ListenerEncoder.v1")
def ListenerEncoder(upstream: str = "*", grad_factor: float = 1.0) -> Model[list[Doc], EncodedDocs]:
    """Read Docs through a `transformer` component of spacy-transformers that comes earlier in the
    pipeline, and send the gradient back to it.

    With one span per Doc the result equals that of "spacy-spanrel.HFEncoder.v1" with the same
    weights, except for texts that the two tokenize differently (literal special tokens).

    upstream (str): Name of the `transformer` component; "*" for any.
    grad_factor (float): Factor of the gradient that is sent back.
    RETURNS (Model[list[Doc], EncodedDocs]): The encoder.
    RAISES (ImportError): If spacy-transformers is not installed.
    """
    try:
        from spacy_transformers.layers.listener import TransformerListener
    except ImportError as error:
        raise ImportError(Errors.E212) from error
    extend_replace_listeners()
    return Model(
        "listener_encoder",
        _forward_listener,
        init=_init_listener,
        dims={"nO": None},
        layers=[TransformerListener(upstream)],
        attrs={"upstream": upstream, "grad_factor": grad_factor},
    )


def _init_listener(model: Model[list[Doc], EncodedDocs], X: Any = None, Y: Any = None) -> None:
    listener = model.layers[0]
    if listener.has_dim("nO") is None:
        raise ValueError(Errors.E213.format(upstream=model.attrs["upstream"]))
    model.set_dim("nO", listener.get_dim("nO"))


def _forward_listener(
    model: Model[list[Doc], EncodedDocs], docs: list[Doc], is_train: bool
) -> tuple[EncodedDocs, EncoderBackprop]:
    """Join the outputs that the shared transformer has for a batch."""
    if not is_train:
        check_annotated(model, docs)
    elif not any(map(len, docs)):
        # The transformer skips such batches and waits for no gradient.
        return join_outputs(model, docs, [None] * len(docs), None)
    data, send = model.layers[0](docs, is_train)
    outputs = [_read_data(of_doc, doc) for of_doc, doc in zip(data, docs, strict=True)]
    _warn_of_cut_texts(model, docs, outputs)
    return join_outputs(model, docs, outputs, send)


@registry.architectures("spacy-spanrel.TransformerEncoder.v1")
def TransformerEncoder(
    transformer: Model[list[Doc], Any], grad_factor: float = 1.0, max_batch_items: int = 4096
) -> Model[list[Doc], EncodedDocs]:
    """Read Docs through a transformer of spacy-transformers or spacy-curated-transformers that
    belongs to this component alone. `nlp.replace_listeners` puts it in place of a listener.

    Its weights are updated by thinc's optimizer, as in the components of those packages. For a new
    pipeline "spacy-spanrel.HFEncoder.v1" is the better choice.

    transformer (Model): The transformer, such as "spacy-transformers.TransformerModel.v3".
    grad_factor (float): Factor of the gradient that the transformer gets.
    max_batch_items (int): In prediction, the most padded tokens that are read at once.
    RETURNS (Model[list[Doc], EncodedDocs]): The encoder.
    RAISES (ValueError): If `transformer` is another kind of layer.
    """
    if is_curated(transformer):
        # The last layer is all that is read.
        transformer.get_ref("transformer").attrs["_all_layer_outputs"] = False
    elif transformer.name != "transformer":
        raise ValueError(Errors.E232.format(found=transformer.name))
    return Model(
        "transformer_encoder",
        _forward_transformer,
        init=_init_transformer,
        dims={"nO": None},
        layers=[transformer],
        attrs={"grad_factor": grad_factor, "max_batch_items": max_batch_items},
    )


def _init_transformer(model: Model[list[Doc], EncodedDocs], X: Any = None, Y: Any = None) -> None:
    transformer = model.layers[0]
    transformer.initialize(X=[Doc(Vocab(), words=["hello"])])
    model.set_dim("nO", transformer.get_dim("nO"))


def _forward_transformer(
    model: Model[list[Doc], EncodedDocs], docs: list[Doc], is_train: bool
) -> tuple[EncodedDocs, EncoderBackprop]:
    """Read Docs: in training all at once, in prediction in batches of similar length."""
    transformer = model.layers[0]
    outputs: list[DocOutput | None] = [None] * len(docs)
    # Some span getters fail on empty Docs.
    filled = [i for i, doc in enumerate(docs) if len(doc)]
    batches = [filled] if filled else []
    if not is_train:
        sizes = [len(docs[i]) for i in filled]
        by_length = length_sorted_batches(sizes, model.attrs["max_batch_items"])
        batches = [[filled[i] for i in rows.tolist()] for rows in by_length]
    send: SendGradients | None = None
    for indices in batches:
        batch = [docs[i] for i in indices]
        batch_outputs: Sequence[DocOutput | None]
        if is_curated(transformer):
            batch_outputs, send = run_curated(transformer, batch, is_train)
        else:
            batch_outputs, send = _run(transformer, batch, is_train)
            _warn_of_cut_texts(model, batch, batch_outputs)
        for i, output in zip(indices, batch_outputs, strict=True):
            outputs[i] = output
    return join_outputs(model, docs, outputs, send)


def _run(
    transformer: Model[list[Doc], Any], docs: list[Doc], is_train: bool
) -> tuple[list[DocOutput | None], SendGradients]:
    """Read Docs with a transformer of spacy-transformers; the counterpart of `run_curated`."""
    batch, backprop = transformer(docs, is_train)

    def send(gradients: list[Any]) -> None:
        backprop(batch.unsplit_by_doc([gradient.tensors for gradient in gradients]))

    return [_read_data(data, doc) for data, doc in zip(batch.doc_data, docs, strict=True)], send


def _read_data(data: Any, doc: Doc) -> DocOutput | None:
    """Read the `TransformerData` of one Doc; None if it is empty."""
    hidden = data.model_output.get("last_hidden_state")
    if hidden is None or not hidden.size:
        return None
    rows = xp2torch(hidden).reshape(-1, hidden.shape[-1])
    layout = _read_layout(data, len(doc), hidden.shape[1])
    return DocOutput(rows, layout, functools.partial(_pack_gradient, data))


def _pack_gradient(data: Any, gradient: Tensor) -> Any:
    from spacy_transformers.data_classes import TransformerData
    from transformers.utils import ModelOutput

    hidden = data.model_output["last_hidden_state"]
    output = ModelOutput(last_hidden_state=torch2xp(gradient.reshape(hidden.shape)))
    return TransformerData(wordpieces=data.wordpieces, model_output=output, align=data.align)


def _warn_of_cut_texts(
    model: Model[list[Doc], EncodedDocs], docs: Sequence[Doc], outputs: Sequence[DocOutput | None]
) -> None:
    """Warn, once for each model, if the transformer has not read all of a text."""
    if model.id in _WARNED:
        return
    for doc, output in zip(docs, outputs, strict=True):
        ranges = np.zeros((len(doc), 2)) if output is None else output.layout.token_pieces
        without_pieces = [doc[i] for i in np.flatnonzero(ranges[:, 0] == ranges[:, 1]).tolist()]
        unread = [token for token in without_pieces if not token.is_space]
        # Some symbols have no pieces in any text.
        if any(char.isalnum() for token in unread for char in token.text):
            _WARNED.add(model.id)
            warn(Warnings.W164.format(n=len(unread), total=len(doc), first=unread[0].text))
            return


def _read_layout(data: Any, n_tokens: int, width: int) -> DocLayout:
    """Read which cells of a padded output hold the pieces of which token.

    data (TransformerData): Output for one Doc.
    n_tokens (int): Tokens of the Doc.
    width (int): Columns of each window, padding included.
    RETURNS (DocLayout): The layout of its rows: cell (window, column) is row
        ``window * width + column``.
    """
    lengths = np.asarray(data.wordpieces.lengths, dtype=np.int64)
    n_windows = len(lengths)
    counts = np.asarray(to_numpy(data.align.lengths), dtype=np.int64)[:n_tokens]
    cells = np.asarray(to_numpy(data.align.dataXd), dtype=np.int64).ravel()[: int(counts.sum())]
    token = np.repeat(np.arange(n_tokens), counts)
    window, column = np.divmod(cells, width)
    # [CLS] is the first piece or (XLNet) the last one. If it is the first one, no token has a cell
    # in the first column.
    first_column = np.full(n_windows, width)
    np.minimum.at(first_column, window, column)
    context = np.arange(n_windows) * width + np.where(first_column > 0, 0, lengths - 1)

    # Group the pieces of each token by window. A group is a range of columns, both ends included.
    order = np.lexsort((column, window, token))
    token, window, column = token[order], window[order], column[order]
    starts = np.flatnonzero(np.diff(token, prepend=-1) | np.diff(window, prepend=-1))
    ends = np.append(starts[1:], len(token)) - 1 if len(token) else starts
    token, window, first, last = token[starts], window[starts], column[starts], column[ends]
    windows = np.stack([np.full(n_windows, n_tokens), np.zeros_like(lengths)], axis=1)
    np.minimum.at(windows[:, 0], window, token)
    np.maximum.at(windows[:, 1], window, token + 1)
    windows[windows[:, 1] == 0] = 0

    # Keep the group with the most context for each token; the earlier one on a tie.
    room = np.minimum(first, lengths[window] - 1 - last)
    best = np.lexsort((window, -room, token))
    best = best[np.flatnonzero(np.diff(token[best], prepend=-1))]
    token, window, first, last = token[best], window[best], first[best], last[best]

    cells = np.stack([window * width + first, window * width + last + 1], axis=1)
    pieces, token_pieces, token_window = pick_pieces(token, cells, window, n_tokens)
    return DocLayout(pieces, context, token_pieces, token_window, windows)
