"""Encoders over a transformer of another package: a component that several others share, or what
`nlp.replace_listeners` makes of one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from spacy import registry
from spacy.language import Language
from spacy.tokens import Doc
from spacy.util import replace_model_node
from spacy.vocab import Vocab
from thinc.api import Model, torch2xp, xp2torch
from thinc.types import Ragged
from thinc.util import to_numpy
from torch import Tensor

from ..arrays import IntArray
from ..errors import Errors, Warnings, warn
from .batching import length_sorted_batches
from .encoder import EncodedDocs, EncoderBackprop
from .transfer import to_device

# Names of the encoders that listen, and where a component's config has them.
_LISTENING = ("listener_encoder", "curated_listener_encoder")
_PATH = "model.encoder"
# Marks a `Language.replace_listeners` that knows these encoders.
_EXTENDED = "_knows_spacy_spanrel"

# Models that have said already that a text was cut, by their ids (thinc gives none twice).
_WARNED: set[int] = set()


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
    _extend_replace_listeners()
    return Model(
        "listener_encoder",
        _listen,
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


@registry.architectures("spacy-spanrel.CuratedListenerEncoder.v1")
def CuratedListenerEncoder(
    width: int, upstream: str = "*", grad_factor: float = 1.0
) -> Model[list[Doc], EncodedDocs]:
    """Read Docs through a `curated_transformer` component of spacy-curated-transformers that stands
    earlier in the pipeline, and send the gradient back to it.

    Such a component keeps no summary ([CLS]): the mean of the pieces of a Doc stands for it. What
    was trained with one kind of listener cannot be used with the other.

    width (int): Width of the component's vectors (its `hidden_width`).
    upstream (str): Name of the component; "*" for any.
    grad_factor (float): What the gradient is multiplied by.
    RETURNS (Model[list[Doc], EncodedDocs]): The encoder.
    RAISES (ImportError): If spacy-curated-transformers is not installed.
    """
    try:
        from spacy_curated_transformers.models.listeners import ListenerStateUtils
    except ImportError as error:
        raise ImportError(Errors.E231) from error
    _extend_replace_listeners()
    model: Model[list[Doc], EncodedDocs] = Model(
        "curated_listener_encoder",
        _listen_curated,
        dims={"nO": width},
        attrs={"upstream": upstream, "grad_factor": grad_factor},
    )
    ListenerStateUtils.init_state(model, upstream_name=upstream, requires_all_layer_outputs=False)
    return model


@registry.architectures("spacy-spanrel.TransformerEncoder.v1")
def TransformerEncoder(
    transformer: Model[list[Doc], Any], grad_factor: float = 1.0, max_batch_items: int = 4096
) -> Model[list[Doc], EncodedDocs]:
    """Read Docs through a transformer of spacy-transformers or spacy-curated-transformers that
    belongs to the component alone: what `nlp.replace_listeners` makes of an encoder that listens.

    Its weights are stepped by thinc's optimizer, as in the components of those packages. To begin
    with, "spacy-spanrel.HFEncoder.v1" is the better choice.

    transformer (Model): "spacy-transformers.TransformerModel.v3", say.
    grad_factor (float): What the gradient is multiplied by.
    max_batch_items (int): Most padded tokens that are read at once in prediction.
    RETURNS (Model[list[Doc], EncodedDocs]): The encoder.
    RAISES (ValueError): If the transformer is another layer.
    """
    if not _is_curated(transformer) and transformer.name != "transformer":
        raise ValueError(Errors.E232.format(found=transformer.name))
    if _is_curated(transformer):
        transformer.get_ref("transformer").attrs["_all_layer_outputs"] = False
    return Model(
        "transformer_encoder",
        _read_own,
        init=_init_own,
        dims={"nO": None},
        layers=[transformer],
        attrs={"grad_factor": grad_factor, "max_batch_items": max_batch_items},
    )


def _is_curated(transformer: Model[Any, Any]) -> bool:
    return "piece_encoder" in transformer.ref_names


def _init_own(model: Model[list[Doc], EncodedDocs], X: Any = None, Y: Any = None) -> None:
    transformer = model.layers[0]
    transformer.initialize(X=[Doc(Vocab(), words=["hello"])])
    model.set_dim("nO", transformer.get_dim("nO"))


# Pipelines


def check_training(nlp: Language, name: str, model: Model[Any, Any]) -> None:
    """Refuse a training in which a shared transformer would silently learn nothing or fail.

    The last component that listens sends the gradients of all of them back. If that one is frozen,
    the transformer gets none.

    nlp (Language): The pipeline, with the settings of the training in its config.
    name (str), model (Model): The component that is initialized, and its model.
    RAISES (ValueError): If so, saying what to change.
    """
    encoder = next((node for node in model.walk() if node.name in _LISTENING), None)
    if encoder is None:
        return
    training = nlp.config.get("training", {})
    frozen = set(training.get("frozen_components", ()))
    annotating = set(training.get("annotating_components", ()))
    found = False
    pipe: Any
    for upstream, pipe in nlp.pipeline:
        listening = list(getattr(pipe, "listening_components", ()))
        if name not in listening:
            continue
        found = True
        _check_limit(upstream, pipe.model)
        if upstream in frozen:
            if upstream not in annotating:
                raise ValueError(Errors.E214.format(upstream=upstream, name=name))
        elif listening[-1] in frozen and set(listening) - frozen:
            raise ValueError(Errors.E215.format(upstream=upstream, last=listening[-1]))
    if not found and encoder.name == "curated_listener_encoder":
        raise ValueError(Errors.E233.format(upstream=encoder.attrs["upstream"]))


def _check_limit(upstream: str, model: Any) -> None:
    """Warn of a tokenizer that does not know how long a text the network takes."""
    if not (model.name == "transformer" and model.attrs.get("has_transformer")):
        return
    limit = model.tokenizer.model_max_length
    positions = getattr(model.transformer.config, "max_position_embeddings", None)
    if isinstance(positions, int) and 0 < positions < limit:
        warn(Warnings.W165.format(upstream=upstream, limit=positions))


def _own_encoders(original: Callable[..., None]) -> Callable[..., None]:
    """Make spaCy's `Language.replace_listeners` work for the encoders of this module.

    spaCy looks the settings of a listener up as `model.tok2vec` whatever path it is given, and its
    transformers put in what returns vectors of tokens, so that alone it would end in a KeyError.
    All other components are left to it.
    """

    @functools.wraps(original)
    def replace_listeners(
        self: Language, tok2vec_name: str, pipe_name: str, listeners: Iterable[str]
    ) -> None:
        paths = list(listeners)
        names = self.pipe_names
        if not paths or tok2vec_name not in names or pipe_name not in names:
            original(self, tok2vec_name, pipe_name, paths)
            return
        upstream: Any = self.get_pipe(tok2vec_name)
        pipe: Any = self.get_pipe(pipe_name)
        # After nlp.rename_pipe the component still has its old name, and is listed by it.
        listening = getattr(upstream, "listener_map", {}).get(getattr(pipe, "name", pipe_name), [])
        nodes = pipe.model.walk() if isinstance(getattr(pipe, "model", None), Model) else ()
        for encoder in list(nodes):
            listener = encoder.layers[0] if encoder.layers else encoder
            if encoder.name in _LISTENING and listener in listening:
                break
        else:
            original(self, tok2vec_name, pipe_name, paths)
            return
        if paths != [_PATH]:
            raise ValueError(Errors.E230.format(name=pipe_name, expected=_PATH, found=paths))
        settings = {
            "grad_factor": encoder.attrs["grad_factor"],
            "max_batch_items": getattr(upstream, "cfg", {}).get("max_batch_items", 4096),
        }
        own = TransformerEncoder(_copy_transformer(upstream.model), **settings)
        own.set_dim("nO", encoder.get_dim("nO"))
        replace_model_node(pipe.model, encoder, own)
        upstream.remove_listener(listener, pipe.name)
        self.get_pipe_config(pipe_name)["model"]["encoder"] = {
            "@architectures": "spacy-spanrel.TransformerEncoder.v1",
            "transformer": deepcopy(self.get_pipe_config(tok2vec_name)["model"]),
            **settings,
        }

    return replace_listeners


def _copy_transformer(model: Model[Any, Any]) -> Model[Any, Any]:
    copied: Model[Any, Any] = model.copy()
    # spacy-transformers forgets its attributes (and so that it has weights) and its width, thinc what
    # refers to what.
    copied.attrs.update(model.attrs)
    copied.set_dim("nO", model.get_dim("nO"), force=True)
    nodes, copies = list(model.walk()), list(copied.walk())
    for node, other in zip(nodes, copies, strict=True):
        for name in node.ref_names:
            target = node.maybe_get_ref(name)
            other.set_ref(name, None if target is None else copies[nodes.index(target)])
    return copied


def _extend_replace_listeners() -> None:
    """Extend `Language.replace_listeners`, once in a process, and only where a pipeline has an
    encoder that needs it. The mark is on the function itself, so that reloading changes nothing."""
    if not getattr(Language.replace_listeners, _EXTENDED, False):
        extended = _own_encoders(Language.replace_listeners)
        setattr(extended, _EXTENDED, True)
        Language.replace_listeners = extended  # type: ignore[method-assign]


# Reading


@dataclass(frozen=True)
class _Part:
    """What a transformer returned for one Doc.

    rows (Tensor): Vectors. *Shape:* ``(n_rows, width)``
    layout (_Layout): Which of them is what.
    gradient (Callable): Turns the gradient of `rows` into what the transformer takes.
    """

    rows: Tensor
    layout: _Layout
    gradient: Callable[[Tensor], Any]


def _listen(
    model: Model[list[Doc], EncodedDocs], docs: list[Doc], is_train: bool
) -> tuple[EncodedDocs, EncoderBackprop]:
    """Put what a shared transformer of spacy-transformers wrote on Docs end to end."""
    if not is_train:
        _check_read(model, docs)
    if is_train and not any(map(len, docs)):
        # The transformer leaves such batches out, and sends nothing.
        return _join(model, docs, [None] * len(docs), _no_gradient)
    read, backprop = model.layers[0](docs, is_train)
    parts = [_part(data, doc) for data, doc in zip(read, docs, strict=True)]
    _warn_cut(model, docs, parts)
    return _join(model, docs, parts, backprop)


def _listen_curated(
    model: Model[list[Doc], EncodedDocs], docs: list[Doc], is_train: bool
) -> tuple[EncodedDocs, EncoderBackprop]:
    """Put what a shared transformer of spacy-curated-transformers wrote on Docs end to end."""
    from spacy_curated_transformers.models.listeners import ListenerStateUtils as State

    output = State.get_output(model) if is_train else None
    if output is None:
        # Also in training, where the transformer is frozen and annotates.
        _check_read(model, docs)
        width = model.get_dim("nO")
        empty = Ragged(model.ops.alloc2f(0, width), model.ops.alloc1i(0))
        read = [doc._.trf_data.last_hidden_layer_state if len(doc) else empty for doc in docs]
        return _join(model, docs, [_curated_part(data) for data in read], _no_gradient)
    State.verify_inputs(model, docs)
    send = State.get_backprop(model)

    def backprop(gradients: list[Ragged]) -> None:
        send([[gradient] for gradient in gradients], outputs_to_backprop=(-1,))
        State.clear_state(model)

    parts = [_curated_part(data) for data in output.last_hidden_layer_states]
    return _join(model, docs, parts, backprop)


def _check_read(model: Model[list[Doc], EncodedDocs], docs: Sequence[Doc]) -> None:
    for doc in docs:
        if len(doc) and (not Doc.has_extension("trf_data") or doc._.trf_data is None):
            raise ValueError(Errors.E216.format(upstream=model.attrs["upstream"]))


def _read_own(
    model: Model[list[Doc], EncodedDocs], docs: list[Doc], is_train: bool
) -> tuple[EncodedDocs, EncoderBackprop]:
    """Read Docs with a transformer that nobody shares, and put the result end to end."""
    transformer = model.layers[0]
    parts: list[_Part | None] = [None] * len(docs)
    # Some span getters fail on empty Docs.
    filled = [i for i, doc in enumerate(docs) if len(doc)]
    batches = [filled] if filled else []
    if not is_train:
        sizes = [len(docs[i]) for i in filled]
        found = length_sorted_batches(sizes, model.attrs["max_batch_items"])
        batches = [[filled[i] for i in rows.tolist()] for rows in found]
    send: Callable[[list[Any]], Any] = _no_gradient
    for rows in batches:
        batch = [docs[i] for i in rows]
        output, backprop = transformer(batch, is_train)
        read: list[_Part | None]
        if _is_curated(transformer):
            read = [_curated_part(data) for data in output.last_hidden_layer_states]
            send = functools.partial(_send_curated, backprop)
        else:
            read = [_part(data, doc) for data, doc in zip(output.doc_data, batch, strict=True)]
            _warn_cut(model, batch, read)
            send = functools.partial(_send, output, backprop)
        for i, part in zip(rows, read, strict=True):
            parts[i] = part
    return _join(model, docs, parts, send)


def _send(output: Any, backprop: Callable[[Any], Any], gradients: list[Any]) -> None:
    backprop(output.unsplit_by_doc([gradient.tensors for gradient in gradients]))


def _send_curated(backprop: Callable[[Any], Any], gradients: list[Ragged]) -> None:
    backprop([[gradient] for gradient in gradients])


def _no_gradient(gradients: list[Any]) -> None:
    """Nothing was read, or what was read is not trained: nothing is to be sent back."""


def _join(
    model: Model[list[Doc], EncodedDocs],
    docs: list[Doc],
    parts: Sequence[_Part | None],
    send: Callable[[list[Any]], Any],
) -> tuple[EncodedDocs, EncoderBackprop]:
    """Put the parts of Docs end to end.

    docs (list[Doc]), parts (Sequence[_Part | None]): Docs, and what was read of each; None where
        nothing was.
    send (Callable): Takes the gradients of the parts that are there.
    """
    width = model.get_dim("nO")
    rows_of: list[Tensor] = []
    piece_rows, context_rows, token_pieces, token_window, windows = [], [], [], [], []
    n_rows = n_pieces = n_windows = n_tokens = 0
    for doc, part in zip(docs, parts, strict=True):
        if part is None:
            token_pieces.append(np.full((len(doc), 2), n_pieces))
            token_window.append(np.full(len(doc), max(0, n_windows - 1)))
        else:
            layout = part.layout
            piece_rows.append(layout.pieces + n_rows)
            context_rows.append(layout.context + n_rows)
            token_pieces.append(layout.token_pieces + n_pieces)
            token_window.append(layout.token_window + n_windows)
            windows.append(layout.windows + n_tokens)
            rows_of.append(part.rows)
            n_rows += len(part.rows)
            n_pieces += len(layout.pieces)
            n_windows += len(layout.context)
        n_tokens += len(doc)
    flat = torch.cat(rows_of) if rows_of else torch.zeros((0, width))

    pieces = to_device(torch.from_numpy(_joined(piece_rows)), flat.device)
    context = to_device(torch.from_numpy(_joined(context_rows)), flat.device)
    encoded = EncodedDocs(
        pieces=flat.index_select(0, pieces),
        context=flat.index_select(0, context),
        token_pieces=torch.from_numpy(_joined(token_pieces, 2)),
        token_window=torch.from_numpy(_joined(token_window)),
        token_offsets=np.cumsum([0, *map(len, docs)]).astype(np.int64),
        windows=_joined(windows, 2),
    )

    def backprop(d_pieces: Tensor, d_context: Tensor) -> None:
        d_flat = torch.zeros_like(flat)
        d_flat.index_add_(0, pieces, d_pieces.to(d_flat.dtype))
        d_flat.index_add_(0, context, d_context.to(d_flat.dtype))
        d_flat *= model.attrs["grad_factor"]
        there = [part for part in parts if part is not None]
        sizes = [len(part.rows) for part in there]
        gradients = zip(there, d_flat.split(sizes), strict=True)
        send([part.gradient(gradient) for part, gradient in gradients])

    return encoded, backprop


def _joined(arrays: list[IntArray], *width: int) -> IntArray:
    """Put integer arrays of rows of some width end to end; there may be none."""
    return np.concatenate([np.zeros((0, *width), dtype=np.int64), *arrays])


def _part(data: Any, doc: Doc) -> _Part | None:
    """Read one Doc's share of the output of spacy-transformers."""
    hidden = data.model_output.get("last_hidden_state")
    if hidden is None or not hidden.size:
        return None
    rows = xp2torch(hidden).reshape(-1, hidden.shape[-1])
    layout = _layout(data, len(doc), hidden.shape[1])
    return _Part(rows, layout, functools.partial(_gradient_of, data))


def _gradient_of(data: Any, gradient: Tensor) -> Any:
    from spacy_transformers.data_classes import TransformerData
    from transformers.utils import ModelOutput

    hidden = data.model_output["last_hidden_state"]
    output = ModelOutput(last_hidden_state=torch2xp(gradient.reshape(hidden.shape)))
    return TransformerData(wordpieces=data.wordpieces, model_output=output, align=data.align)


def _curated_part(data: Ragged) -> _Part:
    """Read one Doc's share of the output of spacy-curated-transformers: the pieces of each token,
    without special tokens. Their mean is added as the last row."""
    pieces = xp2torch(data.dataXd)
    ends = np.cumsum(np.asarray(to_numpy(data.lengths), dtype=np.int64))
    token_pieces = np.stack([np.append([0], ends)[:-1], ends], axis=1)
    mean = pieces.sum(dim=0, keepdim=True) / max(1, len(pieces))
    layout = _Layout(
        pieces=np.arange(len(pieces)),
        context=np.asarray([len(pieces)]),
        token_pieces=token_pieces,
        token_window=np.zeros(len(ends), dtype=np.int64),
        windows=np.asarray([[0, len(ends)]]),
    )
    gradient = functools.partial(_curated_gradient, data)
    return _Part(torch.cat([pieces, mean]), layout, gradient)


def _curated_gradient(data: Ragged, gradient: Tensor) -> Ragged:
    of_pieces = gradient[:-1] + gradient[-1:] / max(1, len(gradient) - 1)
    return Ragged(torch2xp(of_pieces), data.lengths)


def _warn_cut(
    model: Model[list[Doc], EncodedDocs], docs: list[Doc], parts: Sequence[_Part | None]
) -> None:
    """Say once that the transformer did not read all of a text."""
    if model.id in _WARNED:
        return
    for doc, part in zip(docs, parts, strict=True):
        ranges = np.zeros((len(doc), 2)) if part is None else part.layout.token_pieces
        bare = [doc[i] for i in np.flatnonzero(ranges[:, 0] == ranges[:, 1]).tolist()]
        unread = [token for token in bare if not token.is_space]
        # Some symbols have no pieces in any text.
        if any(char.isalnum() for token in unread for char in token.text):
            _WARNED.add(model.id)
            warn(Warnings.W164.format(n=len(unread), total=len(doc), first=unread[0].text))
            return


@dataclass(frozen=True)
class _Layout:
    """Where the pieces of one Doc are in the transformer's output, its rows put end to end.

    pieces (int64 array, (n_pieces,)): Rows of the pieces of all tokens, in the order of the text.
    context (int64 array, (n_windows,)): Rows of the summaries.
    token_pieces (int64 array, (n_tokens, 2)): Range of each token in `pieces`, end exclusive.
    token_window (int64 array, (n_tokens,)): Window that each token is read in.
    windows (int64 array, (n_windows, 2)): Tokens that each window holds, end exclusive.
    """

    pieces: IntArray
    context: IntArray
    token_pieces: IntArray
    token_window: IntArray
    windows: IntArray


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
    windows = np.stack([np.full(len(lengths), n_tokens), np.zeros_like(lengths)], axis=1)
    np.minimum.at(windows[:, 0], row, token)
    np.maximum.at(windows[:, 1], row, token + 1)
    windows[windows[:, 1] == 0] = 0
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
    return _Layout(every[fresh], context, token_pieces, token_window, windows)
