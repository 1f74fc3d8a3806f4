"""Encoder over a shared transformer of spacy-curated-transformers.

That package returns the pieces of each token of a Doc, one after the other, without special tokens
and already joined over its windows.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from spacy import registry
from spacy.tokens import Doc
from thinc.api import Model, torch2xp, xp2torch
from thinc.types import Ragged
from thinc.util import to_numpy
from torch import Tensor

from ..errors import Errors
from .encoder import EncodedDocs, EncoderBackprop
from .listening import extend_replace_listeners
from .outputs import DocLayout, DocOutput, SendGradients, check_annotated, join_outputs


@registry.architectures("spacy-spanrel.CuratedListenerEncoder.v1")
def CuratedListenerEncoder(
    width: int, upstream: str = "*", grad_factor: float = 1.0
) -> Model[list[Doc], EncodedDocs]:
    """Read Docs through a `curated_transformer` component of spacy-curated-transformers that comes
    earlier in the pipeline, and send the gradient back to it.

    Such a component keeps no [CLS] vector: the mean of the pieces of a Doc takes its place. So
    weights that were trained with one kind of listener cannot be used with the other.

    width (int): Width of the component's vectors (its `hidden_width`).
    upstream (str): Name of the component; "*" for any.
    grad_factor (float): Factor of the gradient that is sent back.
    RETURNS (Model[list[Doc], EncodedDocs]): The encoder.
    RAISES (ImportError): If spacy-curated-transformers is not installed.
    """
    try:
        from spacy_curated_transformers.models.listeners import ListenerStateUtils
    except ImportError as error:
        raise ImportError(Errors.E231) from error
    extend_replace_listeners()
    model: Model[list[Doc], EncodedDocs] = Model(
        "curated_listener_encoder",
        _forward,
        dims={"nO": width},
        attrs={"upstream": upstream, "grad_factor": grad_factor},
    )
    ListenerStateUtils.init_state(model, upstream_name=upstream, requires_all_layer_outputs=False)
    return model


def _forward(
    model: Model[list[Doc], EncodedDocs], docs: list[Doc], is_train: bool
) -> tuple[EncodedDocs, EncoderBackprop]:
    """Join the transformer's outputs: in training those it has sent for the batch, otherwise those
    it has written on the Docs."""
    from spacy_curated_transformers.models.listeners import ListenerStateUtils as State

    output = State.get_output(model) if is_train else None
    if output is None:
        # Also in training, if the transformer is frozen and annotates.
        check_annotated(model, docs)
        empty = Ragged(model.ops.alloc2f(0, model.get_dim("nO")), model.ops.alloc1i(0))
        states = [doc._.trf_data.last_hidden_layer_state if len(doc) else empty for doc in docs]
        return join_outputs(model, docs, [_read_state(state) for state in states], None)
    State.verify_inputs(model, docs)
    backprop = State.get_backprop(model)

    def send(gradients: list[Ragged]) -> None:
        backprop([[gradient] for gradient in gradients], outputs_to_backprop=(-1,))
        State.clear_state(model)

    outputs = [_read_state(state) for state in output.last_hidden_layer_states]
    return join_outputs(model, docs, outputs, send)


def is_curated(transformer: Model[Any, Any]) -> bool:
    """Tell whether a transformer is one of spacy-curated-transformers.

    transformer (Model): The transformer.
    RETURNS (bool): Whether it is.
    """
    return "piece_encoder" in transformer.ref_names


def run_curated(
    transformer: Model[list[Doc], Any], docs: list[Doc], is_train: bool
) -> tuple[list[DocOutput], SendGradients]:
    """Read Docs with a transformer of spacy-curated-transformers.

    transformer (Model): The transformer.
    docs (list[Doc]): The Docs, each with tokens.
    is_train (bool): Whether to keep what the gradient needs.
    RETURNS (tuple[list[DocOutput], SendGradients]): Output for each Doc, and the function that takes
        the gradients of these outputs.
    """
    output, backprop = transformer(docs, is_train)

    def send(gradients: list[Ragged]) -> None:
        backprop([[gradient] for gradient in gradients])

    return [_read_state(state) for state in output.last_hidden_layer_states], send


def _read_state(state: Ragged) -> DocOutput:
    """Read the last layer's vectors of one Doc, and add their mean as the last row."""
    pieces = xp2torch(state.dataXd)
    ends = np.cumsum(np.asarray(to_numpy(state.lengths), dtype=np.int64))
    mean = pieces.sum(dim=0, keepdim=True) / max(1, len(pieces))
    layout = DocLayout(
        pieces=np.arange(len(pieces)),
        context=np.asarray([len(pieces)]),
        token_pieces=np.stack([np.append([0], ends)[:-1], ends], axis=1),
        token_window=np.zeros(len(ends), dtype=np.int64),
        windows=np.asarray([[0, len(ends)]]),
    )
    return DocOutput(torch.cat([pieces, mean]), layout, functools.partial(_pack_gradient, state))


def _pack_gradient(state: Ragged, gradient: Tensor) -> Ragged:
    """Share the gradient of the mean out among the pieces."""
    d_pieces = gradient[:-1] + gradient[-1:] / max(1, len(gradient) - 1)
    return Ragged(torch2xp(d_pieces), state.lengths)
