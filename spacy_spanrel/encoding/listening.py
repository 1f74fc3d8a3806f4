"""Encoders that listen to a shared transformer (or `tok2vec`), within a pipeline.

`check_training` refuses settings under which the transformer would silently learn nothing.
`extend_replace_listeners` lets spaCy's `nlp.replace_listeners` give a component a transformer for
itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

from spacy import registry
from spacy.language import Language
from spacy.util import replace_model_node
from thinc.api import Model

from ..errors import Errors, Warnings, warn

# Names of the models that listen, and their path in a component's config.
TOK2VEC_LISTENER = "tok2vec_listener_encoder"
_LISTENERS = ("listener_encoder", "curated_listener_encoder", TOK2VEC_LISTENER)
_PATH = "model.encoder"
# The architecture that replaces those of transformers of other packages.
_REPLACEMENT = "spacy-spanrel.TransformerEncoder.v1"
# Marks a `Language.replace_listeners` that can replace these encoders.
_EXTENDED = "_knows_spacy_spanrel"


def check_training(nlp: Language, name: str, model: Model[Any, Any]) -> None:
    """Refuse settings under which a shared transformer would silently learn nothing, or training
    would fail.

    The last component that listens sends the gradients of all of them back. If that one is frozen,
    the transformer gets none.

    nlp (Language): The pipeline, with the settings of the training in its config.
    name (str): Name of the component that is being initialized.
    model (Model): Its model. Without an encoder that listens there is nothing to check.
    RAISES (ValueError): If the settings do not work. The message says what to change.
    """
    encoder = next((node for node in model.walk() if node.name in _LISTENERS), None)
    if encoder is None:
        return
    training = nlp.config.get("training", {})
    frozen = set(training.get("frozen_components", ()))
    annotating = set(training.get("annotating_components", ()))
    is_connected = False
    pipe: Any
    for upstream, pipe in nlp.pipeline:
        listening = list(getattr(pipe, "listening_components", ()))
        if name not in listening:
            continue
        is_connected = True
        _check_limit(upstream, pipe.model)
        if upstream in frozen:
            if upstream not in annotating:
                raise ValueError(Errors.E214.format(upstream=upstream, name=name))
        elif listening[-1] in frozen and set(listening) - frozen:
            raise ValueError(Errors.E215.format(upstream=upstream, last=listening[-1]))
    # The third listener needs a transformer to be initialized at all, and raises E_SR213.
    missing = {"curated_listener_encoder": Errors.E233, TOK2VEC_LISTENER: Errors.E234}
    if not is_connected and encoder.name in missing:
        raise ValueError(missing[encoder.name].format(upstream=encoder.attrs["upstream"]))


def _check_limit(upstream: str, model: Any) -> None:
    """Warn if the tokenizer of spacy-transformers allows longer texts than the network takes."""
    if not (model.name == "transformer" and model.attrs.get("has_transformer")):
        return
    positions = getattr(model.transformer.config, "max_position_embeddings", None)
    if isinstance(positions, int) and 0 < positions < model.tokenizer.model_max_length:
        warn(Warnings.W165.format(upstream=upstream, limit=positions))


def extend_replace_listeners() -> None:
    """Teach spaCy's `Language.replace_listeners` to replace the encoders of this package.

    Changes it for the whole process, but once, and only when a pipeline gets an encoder that needs
    it. The mark that it is extended is on the function itself, so reloading this module does not
    extend it twice.
    """
    if not getattr(Language.replace_listeners, _EXTENDED, False):
        extended = _extend(Language.replace_listeners)
        setattr(extended, _EXTENDED, True)
        Language.replace_listeners = extended  # type: ignore[method-assign]


def _extend(original: Callable[..., None]) -> Callable[..., None]:
    """Wrap `Language.replace_listeners`.

    Whatever path it is given, spaCy looks up the settings of a listener as `model.tok2vec`, so it
    would end in a KeyError. And spaCy's transformers would replace our encoder by a layer that
    returns one vector per token. All other listeners are left to spaCy.
    """

    @functools.wraps(original)
    def replace_listeners(
        self: Language, tok2vec_name: str, pipe_name: str, listeners: Iterable[str]
    ) -> None:
        paths = list(listeners)
        encoder = _listening_encoder(self, tok2vec_name, pipe_name) if paths else None
        if encoder is None:
            original(self, tok2vec_name, pipe_name, paths)
            return
        if paths != [_PATH]:
            raise ValueError(Errors.E230.format(name=pipe_name, expected=_PATH, found=paths))
        upstream: Any = self.get_pipe(tok2vec_name)
        pipe: Any = self.get_pipe(pipe_name)
        upstream_config = deepcopy(self.get_pipe_config(tok2vec_name)["model"])
        if encoder.name == TOK2VEC_LISTENER:
            if "encoder" not in upstream_config:
                raise ValueError(Errors.E227.format(upstream=tok2vec_name))
            replacement, config = upstream.model.layers[0].copy(), upstream_config["encoder"]
        else:
            replacement, config = _own_transformer(upstream, encoder, upstream_config)
        replace_model_node(pipe.model, encoder, replacement)
        upstream.remove_listener(_listener(encoder), pipe.name)
        self.get_pipe_config(pipe_name)["model"]["encoder"] = config

    return replace_listeners


def _own_transformer(
    upstream: Any, encoder: Model[Any, Any], config: dict[str, Any]
) -> tuple[Model[Any, Any], dict[str, Any]]:
    """Make an encoder of a copy of a transformer component's model.

    upstream (Pipe), config (dict): The component, and the settings of its model.
    encoder (Model): The encoder that listens to it.
    RETURNS (tuple[Model, dict]): The new encoder and its settings.
    """
    settings = {
        "grad_factor": encoder.attrs["grad_factor"],
        "max_batch_items": getattr(upstream, "cfg", {}).get("max_batch_items", 4096),
    }
    build = registry.architectures.get(_REPLACEMENT)
    replacement = build(_copy_transformer(upstream.model), **settings)
    replacement.set_dim("nO", encoder.get_dim("nO"))
    return replacement, {"@architectures": _REPLACEMENT, "transformer": config, **settings}


def _listening_encoder(nlp: Language, upstream_name: str, pipe_name: str) -> Model[Any, Any] | None:
    """Return the encoder of a component that listens to another component; None if it has none."""
    if not {upstream_name, pipe_name} <= set(nlp.pipe_names):
        return None
    upstream: Any = nlp.get_pipe(upstream_name)
    pipe: Any = nlp.get_pipe(pipe_name)
    if not isinstance(getattr(pipe, "model", None), Model):
        return None
    # After nlp.rename_pipe the component still has its old name, and is listed by it.
    connected = getattr(upstream, "listener_map", {}).get(getattr(pipe, "name", pipe_name), [])
    for node in pipe.model.walk():
        if node.name in _LISTENERS and _listener(node) in connected:
            return node
    return None


def _listener(encoder: Model[Any, Any]) -> Model[Any, Any]:
    """Return the layer that spaCy connects to the transformer: in one of our encoders, or itself."""
    return encoder.layers[0] if encoder.layers else encoder


def _copy_transformer(model: Model[Any, Any]) -> Model[Any, Any]:
    """Copy a transformer with what `Model.copy` leaves out: the attributes (by which
    spacy-transformers knows that there are weights), the width and the references between nodes."""
    copied: Model[Any, Any] = model.copy()
    copied.attrs.update(model.attrs)
    copied.set_dim("nO", model.get_dim("nO"), force=True)
    nodes, copies = list(model.walk()), list(copied.walk())
    for node, other in zip(nodes, copies, strict=True):
        for name in node.ref_names:
            target = node.maybe_get_ref(name)
            other.set_ref(name, None if target is None else copies[nodes.index(target)])
    return copied
