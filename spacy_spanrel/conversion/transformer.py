"""A pipeline on spacy-transformers becomes one without.

A `transformer` component of spacy-transformers, to which the other components listen, becomes spaCy's own
`tok2vec` component with "spacy-spanrel.HFTok2Vec.v1": the same network, with the same weights, tokenizer and
windows. The other components keep their weights, and listen to it with `spacy.Tok2VecListener.v1`. The new
pipeline loads with any version of transformers, and without spacy-transformers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..about import __version__
from ..errors import Errors
from ..files import check_folder, place_whole
from .comparison import SENTENCES, compare, docs_to_compare, predict

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc
    from thinc.api import Model

_FOREIGN = "spacy-transformers."
_TOKEN_LISTENER = _FOREIGN + "TransformerListener.v1"
_PIECES_LISTENER = "spacy-spanrel.ListenerEncoder.v1"
_NO_SETTER = _FOREIGN + "null_annotation_setter.v1"
_POOLINGS = {"reduce_mean.v1": "mean", "reduce_max.v1": "max", "reduce_first.v1": "first"}
# `doc_spans` is a window of any length.
_ANY_LENGTH = 2**31 - 1
# Vectors may differ by this, relative to the largest number in them.
TOLERANCE = 1e-4
_ODD_TEXT = "Two  spaces,\ta tab\n\nand Zoë's café — 東京 😀 isn't it?"
_LONGEST = 1000


@dataclass(frozen=True)
class Imported:
    """An import that has been checked.

    components (tuple[str, ...]): Names of the components that listen.
    docs (int): Number of Docs that were predicted before and after.
    annotations (int): Number of their annotations, which are the same.
    difference (float): The largest difference of a number in the vectors of tokens.
    grad_factors (dict[str, float]): Components whose `grad_factor` was dropped, and its value.
    """

    components: tuple[str, ...]
    docs: int
    annotations: int
    difference: float
    grad_factors: dict[str, float]


def import_transformer(
    pipeline: str | Path,
    output: str | Path,
    *,
    texts: str | Path | None = None,
    force: bool = False,
) -> Imported:
    """Import a pipeline and save it; after any failure the output is as it was before.

    pipeline (str | Path): Folder or package name of the pipeline.
    output (str | Path): The folder to write.
    texts (str | Path | None): A `.spacy` file, or a folder of such files, to compare predictions on.
    force (bool): Replace the folder if it exists.
    RETURNS (Imported): The components and the comparison.
    RAISES (OSError): If there is no such pipeline or corpus, or the folder exists and `force` is not
        set.
    RAISES (ImportError): If spacy-transformers is not installed.
    RAISES (ValueError): If the pipeline cannot be represented, or predicts something else.
    """
    import spacy

    try:
        import spacy_transformers  # noqa: F401
    except ImportError as error:
        raise ImportError(Errors.E236) from error
    check_folder(output, pipeline, texts, force=force)
    nlp = spacy.load(pipeline)
    source = _read(nlp, str(pipeline))
    docs = list(_docs(nlp, source, texts))
    vectors, annotations = _vectors(nlp, source, docs), predict(nlp, docs, others=True)
    _convert(nlp, source, str(pipeline))
    difference = 0.0

    def write(folder: Path) -> None:
        nonlocal difference
        nlp.to_disk(folder)
        # The comparison is with what was saved.
        new = spacy.load(folder)
        difference = _compare_vectors(vectors, _tensors(new, source.name, docs), docs, source)
        compare(annotations, predict(new, docs, others=True), docs)

    place_whole(output, write, inputs=(pipeline, texts))
    return Imported(
        tuple(source.listeners),
        len(docs),
        sum(map(len, annotations)),
        difference,
        {name: factor for name, factor in source.grad_factors.items() if factor != 1.0},
    )


# Reading the pipeline


@dataclass
class _Source:
    """What the new pipeline needs to know of the old one.

    name: Name of the component `transformer`.
    window, stride: Tokens in a window, and from one window to the next.
    pooling: How token vectors are made of pieces.
    listeners: Models that listen, by the names of their components.
    grad_factors: Those of spaCy's components.
    """

    name: str
    window: int
    stride: int
    pooling: str
    listeners: dict[str, list[Model[Any, Any]]]
    grad_factors: dict[str, float]


def _read(nlp: Language, pipeline: str) -> _Source:
    """Read what a pipeline consists of. RAISES (ValueError): If it cannot be represented."""
    from spacy_transformers.layers import TransformerListener
    from thinc.api import Model

    def refuse(reason: str) -> ValueError:
        return ValueError(Errors.E237.format(pipeline=pipeline, reason=reason))

    names = [n for n in nlp.component_names if nlp.get_pipe_meta(n).factory == "transformer"]
    if len(names) != 1:
        found = ", ".join(nlp.component_names) or "none"
        raise refuse(
            f"it has {len(names)} components `transformer` (of {found}), and must have one"
        )
    (name,) = names
    transformer: Any = nlp.get_pipe(name)
    config = nlp.get_pipe_config(name)
    settings = config["model"]
    architecture = settings["@architectures"]
    if not architecture.startswith(_FOREIGN + "TransformerModel."):
        raise refuse(f"'{name}' has the architecture '{architecture}'")
    if not transformer.model.attrs["has_transformer"]:
        raise refuse(f"'{name}' has no weights: it was not trained")
    if settings.get("mixed_precision"):
        raise refuse(f"'{name}' computes with mixed_precision = true, in float16")
    if not transformer.model.tokenizer.is_fast:
        kind = type(transformer.model.tokenizer).__name__
        raise refuse(f"'{name}' has a slow tokenizer ({kind}), without offsets of characters")
    setter = config.get("set_extra_annotations", {}).get("@annotation_setters", _NO_SETTER)
    if setter != _NO_SETTER:
        raise refuse(f"'{name}' writes other annotations, with '{setter}'")
    spans = dict(settings["get_spans"])
    getter = spans.pop("@span_getters")
    window = stride = _ANY_LENGTH
    if getter == _FOREIGN + "strided_spans.v1":
        window, stride = spans["window"], spans["stride"]
        if not 0 < stride <= window:
            raise refuse(f"its stride of {stride} leaves out tokens between windows of {window}")
    elif getter != _FOREIGN + "doc_spans.v1":
        raise refuse(f"'{name}' cuts texts with '{getter}'")

    listeners: dict[str, list[Model[Any, Any]]] = {}
    poolings: dict[str, str] = {}
    grad_factors: dict[str, float] = {}
    for component in nlp.component_names:
        model: Any = getattr(nlp.get_pipe(component), "model", None)
        walked = [] if component == name or not isinstance(model, Model) else list(model.walk())
        nodes = [node for node in walked if _listens(node)]
        tables = list(_listener_tables(nlp.get_pipe_config(component)))
        n_listeners = sum(isinstance(node, TransformerListener) for node in walked)
        if len(tables) != len(nodes) or len(nodes) != n_listeners:
            raise refuse(f"'{component}' listens in a way that its config does not show")
        if nodes:
            listeners[component] = nodes
        for table in tables:
            if table["@architectures"] == _TOKEN_LISTENER:
                poolings[component] = table["pooling"].get("@layers", "")
                grad_factors[component] = table.get("grad_factor", 1.0)
    if not listeners:
        raise refuse(f"no component listens to '{name}'")
    kinds = set(poolings.values())
    if len(kinds) > 1 or not kinds <= set(_POOLINGS):
        found = ", ".join(f"{component} {kind}" for component, kind in poolings.items())
        raise refuse(
            f"its components must pool pieces alike, with one of {', '.join(_POOLINGS)}; found {found}"
        )
    pooling = _POOLINGS[kinds.pop()] if kinds else "mean"
    return _Source(name, window, stride, pooling, listeners, grad_factors)


def _listens(node: Model[Any, Any]) -> bool:
    """Check whether a layer is to be replaced: it holds a listener."""
    return node.name == "listener_encoder" or (
        node.has_ref("listener") is True and node.get_ref("listener").name == "transformer-listener"
    )


def _listener_tables(config: Any) -> Iterator[dict[str, Any]]:
    """Yield the sections of a config that make a listener."""
    if isinstance(config, dict):
        if config.get("@architectures") in (_TOKEN_LISTENER, _PIECES_LISTENER):
            yield config
            return
        for value in config.values():
            yield from _listener_tables(value)


def _foreign_names(config: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Yield the functions of spacy-transformers in a config, each with its section."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            if key.startswith("@") and str(value).startswith(_FOREIGN):
                yield value, ".".join(path)
            yield from _foreign_names(value, (*path, key))


# Making the new one


def _convert(nlp: Language, source: _Source, pipeline: str) -> None:
    """Put `tok2vec` in place of `transformer`, and its listeners in place of the others."""
    from spacy.pipeline.tok2vec import Tok2VecListener
    from spacy.util import replace_model_node

    from ..encoding.checkpoint import HFModule, hf_files, hf_settings
    from ..encoding.encoder import set_encoder
    from ..encoding.tok2vec_pieces import Tok2VecListenerEncoder

    transformer: Any = nlp.get_pipe(source.name)
    network, tokenizer = transformer.model.transformer, transformer.model.tokenizer
    checkpoint = str(nlp.get_pipe_config(source.name)["model"]["name"])
    # Saved first, because HFModule changes the tokenizer.
    files = hf_files(network, tokenizer)
    module = HFModule(network.float(), tokenizer, checkpoint)
    width = module.width
    for component, nodes in source.listeners.items():
        tables = _listener_tables(nlp.get_pipe_config(component))
        pipe: Any = nlp.get_pipe(component)
        for node, table in zip(nodes, tables, strict=True):
            old = dict(table)
            upstream = old.get("upstream", "*")
            table.clear()
            new: Model[Any, Any]
            if old["@architectures"] == _TOKEN_LISTENER:
                new = Tok2VecListener(upstream, width)
                table.update({"@architectures": "spacy.Tok2VecListener.v1"})
            else:
                factor = old.get("grad_factor", 1.0)
                new = Tok2VecListenerEncoder(width, upstream, factor)
                name = "spacy-spanrel.Tok2VecListenerEncoder.v1"
                table.update({"@architectures": name, "grad_factor": factor})
            table.update({"width": width, "upstream": upstream})
            replace_model_node(pipe.model, node, new)
    model = {
        "@architectures": "spacy-spanrel.HFTok2Vec.v1",
        "pooling": source.pooling,
        "width": width,
        "window": source.window,
        "stride": source.stride,
        "encoder": {
            "@architectures": "spacy-spanrel.HFEncoder.v1",
            "name": checkpoint,
            # That of spacy-transformers, so that predictions are the same.
            "precision": "float32",
        },
    }
    tok2vec: Any = nlp.replace_pipe(source.name, "tok2vec", config={"model": model})
    set_encoder(tok2vec.model.layers[0], module, hf_settings(module, checkpoint), files)
    for component in nlp.component_names:
        attrs = nlp.get_pipe_config(component).get("attrs", {})
        if nlp.get_pipe_meta(component).factory == "doc_cleaner" and "_.trf_data" in attrs:
            # The vectors are there now.
            attrs["tensor"] = None
    for foreign, section in _foreign_names(nlp.config):
        reason = f"its config names '{foreign}' in [{section}]"
        raise ValueError(Errors.E237.format(pipeline=pipeline, reason=reason))
    requirements = nlp.meta.get("requirements")
    if requirements:
        others = [line for line in requirements if not line.startswith("spacy-transformers")]
        nlp.meta["requirements"] = [*others, f"spacy-spanrel>={__version__}"]


# Comparing both


def _docs(nlp: Language, source: _Source, texts: str | Path | None) -> Iterator[Doc]:
    """Yield the Docs on which both pipelines are compared: some of a few windows, if texts are cut."""
    from ..evaluation import our_components

    if texts is not None:
        yield from docs_to_compare(nlp, texts)
        return
    chosen = [*SENTENCES, _ODD_TEXT]
    if source.window < _ANY_LENGTH:
        paragraph = " ".join(chosen)
        n_tokens = min(source.window + 2 * source.stride, _LONGEST)
        chosen.append(paragraph * (1 + n_tokens // len(nlp.make_doc(paragraph))))
    has_sentences = any(
        "token.is_sent_start" in nlp.get_pipe_meta(n).assigns for n in nlp.pipe_names
    )
    for text in chosen:
        doc = nlp.make_doc(text)
        if our_components(nlp) and not has_sentences:
            for token in doc:
                token.is_sent_start = token.i == 0
        yield doc


def _vectors(nlp: Language, source: _Source, docs: Sequence[Doc]) -> list[Any] | None:
    """Return the vectors of tokens that the listeners get; None if all of them read pieces."""
    nodes = [
        node
        for nodes in source.listeners.values()
        for node in nodes
        if node.name != "listener_encoder"
    ]
    if not nodes:
        return None
    transformer: Any = nlp.get_pipe(source.name)
    annotated = list(transformer.pipe(doc.copy() for doc in docs))
    return [np.asarray(vectors) for vectors in nodes[0].predict(annotated)]


def _tensors(nlp: Language, name: str, docs: Sequence[Doc]) -> list[Any]:
    tok2vec: Any = nlp.get_pipe(name)
    return [doc.tensor for doc in tok2vec.pipe(doc.copy() for doc in docs)]


def _compare_vectors(
    before: list[Any] | None, after: list[Any], docs: Sequence[Doc], source: _Source
) -> float:
    worst = 0.0
    for old, new, doc in zip(before or (), after, docs, strict=False):
        if not len(doc):
            continue
        differences = np.abs(old - new).max(axis=1)
        if not differences.max() <= TOLERANCE * max(1.0, np.abs(old).max()):
            raise ValueError(
                Errors.E238.format(
                    token=doc[int(differences.argmax())].text,
                    text=doc.text[:80],
                    difference=float(differences.max()),
                    window=source.window,
                )
            )
        worst = max(worst, float(differences.max()))
    return worst
