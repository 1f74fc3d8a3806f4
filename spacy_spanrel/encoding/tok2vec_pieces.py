"""The pieces and [CLS] vectors behind the token vectors of a `tok2vec` component.

`HFTok2Vec` pools the pieces of each token for spaCy's components. `span_relation` needs the pieces
themselves, of the same pass. In training they travel with the vectors of the batch (`TokenVectors`),
which the component hands to all that listen to it. In prediction spaCy's components read `doc.tensor`,
and may read Docs in other batches than they were encoded in. Pieces do not belong on a Doc, because they
would stay there: a table (`KEPT`) has them until they have been read, by the array in `doc.tensor`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import RLock
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, ref

import torch
from spacy import registry
from spacy.pipeline.tok2vec import Tok2VecListener
from spacy.tokens import Doc
from thinc.api import Model
from thinc.types import Floats2d

from ..errors import Errors
from .encoder import EncodedDocs, EncoderBackprop
from .export import apply_runtime
from .listening import TOK2VEC_LISTENER, extend_replace_listeners
from .outputs import DocOutput, join_outputs, split_outputs
from .strided import StridedDocs, one_row_per_token

# Bytes of pieces that wait to be read; those of the last two batches may wait in any case.
_LIMIT = 512 * 1024**2


class Tok2VecModel(Model[list[Doc], list[Floats2d]]):
    """The model of `HFTok2Vec`, whose only layer is the encoder.

    Unlike other models of thinc it can be referred to weakly. `Model.copy`, with which spaCy gives a
    component a `tok2vec` of its own, makes an ordinary model of it: nobody listens to that one.
    """

    def from_dict(self, msg: dict[str, Any]) -> Tok2VecModel:
        """Load from plain data. As in the components of this package, the settings of the present config
        count, not those that were saved; the setting `runtime` too."""
        restore = keep_settings(self)
        super().from_dict(msg)
        restore()
        return self


def keep_settings(model: Model[Any, Any]) -> Callable[[], None]:
    """Remember the settings of `HFTok2Vec` and its encoder, which thinc overwrites on loading.

    model (Model): The model.
    RETURNS (Callable[[], None]): Function that puts them back, and converts the network to the runtime
        that they name.
    """
    configured = [(node, dict(node.attrs)) for node in (model, *model.layers)]

    def restore() -> None:
        for node, attrs in configured:
            node.attrs.update(attrs)
        apply_runtime(model)

    return restore


class TokenVectors(list[Floats2d]):
    """Vectors of the tokens of each Doc of a batch, and the pieces that they were made of.

    vectors (Iterable[Floats2d]): The vectors.
    encoded (EncodedDocs | None): The pieces and [CLS] vectors, float32. In training they are leaves, which
        collect the gradients of all listeners.
    """

    def __init__(self, vectors: Iterable[Floats2d], encoded: EncodedDocs | None = None):
        super().__init__(vectors)
        self.encoded = encoded


@dataclass
class _Waiting:
    output: DocOutput
    readers: set[int] = field(default_factory=set)

    @property
    def size(self) -> int:
        return self.output.rows.nbytes


class KeptOutputs:
    """Outputs of encoders for Docs that have been predicted, until all listeners have read them.

    An output goes when every listener that has read from its model before has read it, or when the Doc or
    its tensor goes. Whoever comes later than that gets the model, to read the Doc again: a second listener
    once, for its first batch.

    limit (int): Bytes to keep for listeners that do not come (they may be disabled). The oldest outputs go
        first, but never those of the last two batches.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self.size = 0
        self._last = (0, 0)
        # By the id of the array of a Doc: the array, and the model; and the output, as long as it waits.
        self._sources: dict[int, tuple[ref[Any], ref[Tok2VecModel]]] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._readers: WeakKeyDictionary[Tok2VecModel, WeakSet[Tok2VecListener]]
        self._readers = WeakKeyDictionary()
        # An array may go, and call `_drop`, at any time.
        self._lock = RLock()

    def add(
        self, model: Tok2VecModel, arrays: Sequence[Any], outputs: Sequence[DocOutput | None]
    ) -> None:
        """Keep the outputs for a batch of Docs.

        model (Tok2VecModel): The model that made them.
        arrays (Sequence[ArrayXd]): The array that becomes `doc.tensor` of each Doc.
        outputs (Sequence[DocOutput | None]): The output for each Doc; None for one without tokens.
        """
        with self._lock:
            before = self.size
            for array, output in zip(arrays, outputs, strict=True):
                if output is None:
                    continue
                key = id(array)
                self._sources[key] = ref(array, partial(self._drop, key)), ref(model)
                self._waiting[key] = _Waiting(output)
                self.size += self._waiting[key].size
            self._last = self._last[1], self.size - before
            while self.size > max(self.limit, sum(self._last)):
                self._forget(next(iter(self._waiting)))

    def read(self, array: Any, reader: Tok2VecListener) -> DocOutput | Tok2VecModel | None:
        """Read the output for a Doc.

        array (ArrayXd): `doc.tensor`.
        reader (Tok2VecListener): The listener.
        RETURNS (DocOutput | Tok2VecModel | None): The output; the model that made it, if it is gone; None if
            there was none.
        """
        with self._lock:
            array_ref, model_ref = self._sources.get(id(array), (None, None))
            model = None if model_ref is None else model_ref()
            if model is None or array_ref is None or array_ref() is not array:
                return None
            readers = self._readers.setdefault(model, WeakSet())
            readers.add(reader)
            waiting = self._waiting.get(id(array))
            if waiting is None:
                return model
            waiting.readers.add(id(reader))
            if all(id(other) in waiting.readers for other in readers):
                self._forget(id(array))
            return waiting.output

    def _forget(self, key: int) -> None:
        waiting = self._waiting.pop(key, None)
        if waiting is not None:
            self.size -= waiting.size

    def _drop(self, key: int, array: ref[Any]) -> None:
        with self._lock:
            # A new array may have got the id by now.
            if key in self._sources and self._sources[key][0] is array:
                del self._sources[key]
                self._forget(key)


KEPT = KeptOutputs(_LIMIT)
# All listeners there are: without any, nothing is kept.
_LISTENERS: WeakSet[Tok2VecListener] = WeakSet()


def keep_outputs(model: Model[Any, Any], vectors: Sequence[Any], encoded: EncodedDocs) -> None:
    """Keep the output of an encoder for the listeners of this process, if there are any.

    model (Model): The model of the component, or a copy of it, for which nothing is kept.
    vectors (Sequence[Floats2d]): The token vectors of each Doc.
    encoded (EncodedDocs): The output for the batch.
    """
    if _LISTENERS and isinstance(model, Tok2VecModel):
        KEPT.add(model, vectors, split_outputs(encoded))


class Tok2VecPiecesListener(Tok2VecListener):
    """A listener of spaCy's `tok2vec` component that gives pieces instead of token vectors.

    upstream (str), width (int), grad_factor (float): As in `Tok2VecListenerEncoder`.
    """

    name = TOK2VEC_LISTENER

    def __new__(cls, *args: Any, **kwargs: Any) -> Tok2VecPiecesListener:
        listener = super().__new__(cls)
        _LISTENERS.add(listener)  # here, because pickle does not call __init__
        return listener

    def __init__(self, upstream: str, width: int, grad_factor: float):
        super().__init__(upstream, width)
        self._func = _forward
        self.attrs.update({"upstream": upstream, "grad_factor": grad_factor})


@registry.architectures("spacy-spanrel.Tok2VecListenerEncoder.v1")
def Tok2VecListenerEncoder(
    width: int, upstream: str = "*", grad_factor: float = 1.0
) -> Model[list[Doc], EncodedDocs]:
    """Read Docs through a `tok2vec` component with "spacy-spanrel.HFTok2Vec.v1" that comes earlier in the
    pipeline, and send the gradient back to it.

    The pieces and [CLS] vectors are those of the pass that gives spaCy's components their token vectors,
    and the same as those of an encoder with these weights that belongs to the component alone.

    width (int): Width of the vectors: `${components.tok2vec.model.width}`.
    upstream (str): Name of the `tok2vec` component; "*" for any.
    grad_factor (float): Factor of the gradient that is sent back.
    RETURNS (Model[list[Doc], EncodedDocs]): The encoder.
    """
    extend_replace_listeners()
    return Tok2VecPiecesListener(upstream, width, grad_factor)


def _forward(
    model: Tok2VecPiecesListener, docs: list[Doc], is_train: bool
) -> tuple[EncodedDocs, EncoderBackprop]:
    """Join the outputs for the Docs: in training those of the batch that the component has sent, otherwise
    those that it has kept."""
    if not is_train or model._batch_id is None:
        # Also in training, if the component is frozen and annotates.
        return join_outputs(model, docs, _kept_outputs(model, docs), None)
    model.verify_inputs(docs)
    encoded = getattr(model._outputs, "encoded", None)
    if encoded is None:
        raise ValueError(Errors.E227.format(upstream=model.upstream_name))
    _check_width(model, encoded.pieces.shape[1])
    outputs = split_outputs(encoded)
    backprop_component: Any = model._backprop

    def send(gradients: list[torch.Tensor]) -> None:
        if gradients:
            rows = [output.rows for output in outputs if output is not None]
            torch.autograd.backward(rows, gradients)
        # The component counts on all that listen. There is no gradient of token vectors.
        backprop_component([])
        model.receive(None, None, None)  # type: ignore[arg-type]

    return join_outputs(model, docs, outputs, send)


def _kept_outputs(model: Tok2VecPiecesListener, docs: list[Doc]) -> list[DocOutput | None]:
    """Return the outputs for Docs that the component has annotated."""
    outputs: list[DocOutput | None] = [None] * len(docs)
    again: dict[Tok2VecModel, list[int]] = {}
    for i, doc in enumerate(docs):
        if not len(doc):
            continue
        output = KEPT.read(doc.tensor, model)
        if output is None:
            raise ValueError(Errors.E228.format(upstream=model.upstream_name, text=doc.text[:80]))
        if isinstance(output, Tok2VecModel):
            again.setdefault(output, []).append(i)
        else:
            _check_width(model, output.rows.shape[1])
            outputs[i] = output
    for upstream, indices in again.items():
        batch = _read_again(upstream, [docs[i] for i in indices])
        for i, output in zip(indices, batch, strict=True):
            outputs[i] = output
    return outputs


def split_docs(model: Model[list[Doc], Any], docs: list[Doc]) -> list[Doc]:
    """Return the Docs as the encoder of `HFTok2Vec` is to read them.

    model (Model): The model, with its settings.
    docs (list[Doc]): The Docs.
    RETURNS (list[Doc]): `StridedDocs` if the model has windows of tokens.
    """
    window = model.attrs["window"]
    return docs if window is None else StridedDocs(docs, window, model.attrs["stride"])


def _read_again(model: Tok2VecModel, docs: list[Doc]) -> list[DocOutput | None]:
    texts = split_docs(model, docs)
    encoded = model.layers[0].predict(texts)
    if isinstance(texts, StridedDocs):
        encoded, _ = one_row_per_token(encoded, texts)
    return split_outputs(encoded)


def _check_width(model: Tok2VecPiecesListener, width: int) -> None:
    if model.get_dim("nO") != width:
        raise ValueError(
            Errors.E229.format(
                width=model.get_dim("nO"), upstream=model.upstream_name, encoder=width
            )
        )
