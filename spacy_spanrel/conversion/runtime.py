"""A pipeline whose networks torch computes becomes one whose networks ONNX Runtime computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Errors
from ..files import check_folder, save_whole
from .comparison import compare, differences, docs_to_compare, predict

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.training import Example

# By how many points F1 may fall if a pipeline is scored before and after.
MAX_LOSS = 0.3
# The shares of the products that may stay in float32, tried one after the other.
SHARES = (0.0, 1 / 12, 1 / 6, 1 / 4, 1 / 3, 1 / 2)
# The scores that must not fall, by the factory of a component; F1 scores with a weight in training are
# added to them.
GATED = {
    "span_relation": ("ents_f", "rel_strict_f"),
    "relation_classifier": ("rel_f",),
    "extractive_qa": ("qa_f1", "qa_best_f1"),
}


@dataclass(frozen=True)
class Optimized:
    """A conversion that has been checked.

    components (tuple[str, ...]): Names of the components that were converted.
    docs (int): Number of Docs that were predicted before and after.
    annotations (int): Number of their annotations before.
    difference (float): The largest difference of the score of an annotation that is the same.
    changed (int): Number of annotations that are there only before or only after; 0 in float32.
    products (tuple[int, int] | None): Number of matrix products in 8-bit integers, and of all; None for
        a pipeline in float32.
    scores (dict[str, tuple[float, float]]): Scores on the gold Docs in percent before and after, by
        "component score"; empty without gold Docs.
    """

    components: tuple[str, ...]
    docs: int
    annotations: int
    difference: float
    changed: int = 0
    products: tuple[int, int] | None = None
    scores: dict[str, tuple[float, float]] = field(default_factory=dict)


def optimize(
    model: str | Path,
    output: str | Path,
    *,
    texts: str | Path | None = None,
    int8: bool = False,
    gate: str | Path | None = None,
    max_loss: float = MAX_LOSS,
    force: bool = False,
) -> Optimized:
    """Convert a pipeline to ONNX Runtime and save it; after any failure the output is as it was before.

    model (str | Path): Folder or package name of the pipeline.
    output (str | Path): The folder to write.
    texts (str | Path | None): A `.spacy` file, or a folder of such files, to compare predictions on, and
        to calibrate 8-bit integers on. The gold annotation that the config of the pipeline names as
        `inputs`, and the gold questions, are given to the pipeline. None: `gate`, or a few sentences.
    int8 (bool): Compute matrix products in 8-bit integers. Predictions may differ then.
    gate (str | Path | None): A `.spacy` file, or a folder of such files, with gold Docs on which both
        pipelines are scored.
    max_loss (float): By how many points (hundredths) the F1 of a component may fall on them.
    force (bool): Replace the folder if it exists.
    RETURNS (Optimized): The components, the comparison and the scores.
    RAISES (OSError): If there is no such pipeline or corpus, or the folder exists and `force` is not
        set.
    RAISES (ImportError): If ONNX Runtime or onnx is not installed.
    RAISES (ValueError): If a component reads a network that cannot be converted, the predictions in
        float32 differ, vectors depend on the batch, or F1 falls by more than `max_loss` whatever part of
        the products (up to a half) is computed in float32.
    """
    # Heavy imports are delayed, because spaCy loads this module for every command.
    import spacy

    from ..encoding.export import apply_runtime
    from ..encoding.graph import graph_of
    from ..encoding.quantize import Quantizer, check_rows
    from ..evaluation import configured_inputs, our_components
    from ..training.corpus import read_examples

    check_folder(output, model, texts, gate, force=force)
    nlp = spacy.load(model)
    nodes = _encoders(nlp, str(model))
    # Components of other packages read the vectors of a converted `tok2vec`.
    others = not nodes.keys() <= our_components(nlp).keys()
    for node in nodes.values():
        for shim in node.shims:
            shim.precision_setting = "float32"
    docs = list(docs_to_compare(nlp, texts or gate))
    examples = [] if gate is None else list(read_examples(gate, nlp, configured_inputs(nlp)))
    before = predict(nlp, docs, others=others)
    scores_before = score(nlp, examples, str(gate), others=others)
    for name, node in nodes.items():
        node.attrs["runtime"] = "onnxruntime"
        _set_runtime(nlp.get_pipe_config(name)["model"])
        pipe: Any = nlp.get_pipe(name)
        apply_runtime(pipe.model)
        graph_of(node).seen = []
    difference = compare(before, predict(nlp, docs, others=others), docs)
    batches: dict[str, Any] = {}
    for name, node in nodes.items():
        batches[name], graph_of(node).seen = graph_of(node).seen or [], None
    quantizers = {
        name: Quantizer(node.shims[0], batches[name], name) for name, node in nodes.items() if int8
    }
    n_integers = {name: quantizer.apply() for name, quantizer in quantizers.items()}
    scores_after = score(nlp, examples, str(gate), others=others)
    for share in SHARES[1:]:
        worse = {name.split()[0] for name in losses(scores_before, scores_after, max_loss)}
        # Components whose score has fallen, and `tok2vec` if one of them listens.
        listeners, ours = worse - quantizers.keys(), our_components(nlp)
        chosen = [n for n in quantizers if n in worse or (listeners and n not in ours)]
        if not worse or not chosen:
            break
        for name in chosen:
            n_float = round(share * quantizers[name].n_products)
            n_integers[name] = quantizers[name].apply(n_float)
        scores_after = score(nlp, examples, str(gate), others=others)
    check_loss(scores_before, scores_after, max_loss)
    for name, node in nodes.items():
        check_rows(graph_of(node), batches[name], name)
    changed, products = 0, None
    if int8:
        difference, changed = differences(before, predict(nlp, docs, others=others))
        n_products = sum(quantizer.n_products for quantizer in quantizers.values())
        products = sum(n_integers.values()), n_products
    save_whole(nlp, output, inputs=(model, texts, gate))
    return Optimized(
        tuple(nodes),
        len(docs),
        sum(map(len, before)),
        difference,
        changed,
        products,
        {name: (old, scores_after[name]) for name, old in scores_before.items()},
    )


def score(
    nlp: Language, examples: Sequence[Example], corpus: str, *, others: bool = False
) -> dict[str, float]:
    """Return the scores that must not fall.

    nlp (Language): The pipeline.
    examples (Sequence[Example]): Gold Docs, and Docs for the pipeline; there may be none.
    corpus (str): Where they are from.
    others (bool): Score components of other packages, too: all scores that count in training.
    RETURNS (dict[str, float]): Scores in percent by "component score", of components that have gold
        annotation; of other packages' by the score alone.
    RAISES (ValueError): If there is gold annotation for no component.
    """
    from ..evaluation import evaluate_examples, our_components

    if not examples:
        return {}
    if not our_components(nlp):
        return _weighted(nlp, nlp.evaluate(examples))
    evaluation = evaluate_examples(nlp, examples, corpus=corpus)
    weights = nlp.config["training"]["score_weights"]
    weighted = [name for name, weight in weights.items() if weight and name.endswith(("_f", "_f1"))]
    scores = {
        f"{component.name} {name}": 100 * component.scores[name]
        for component in evaluation.components
        for name in dict.fromkeys((*GATED[component.factory], *weighted))
        if component.scores.get(name) is not None
    }
    ours = {name for component in evaluation.components for name in component.scores}
    rest = {name: value for name, value in evaluation.scores.items() if name not in ours}
    return {**scores, **(_weighted(nlp, rest) if others else {})}


def _weighted(nlp: Language, scores: Mapping[str, Any]) -> dict[str, float]:
    """Return the scores, in percent, that have a weight in training."""
    weights = nlp.config["training"]["score_weights"]
    return {
        name: 100 * value
        for name, value in scores.items()
        if weights.get(name) and isinstance(value, float)
    }


def losses(before: Mapping[str, float], after: Mapping[str, float], max_loss: float) -> list[str]:
    """Return the names of the scores that have fallen by more than `max_loss` points.

    before, after (Mapping[str, float]): What `score` returns.
    max_loss (float): By how many points a score may fall.
    RETURNS (list[str]): The names.
    """
    # Scores have two decimals, as they are printed.
    return [name for name, old in before.items() if round(old - after[name], 2) > max_loss]


def check_loss(before: Mapping[str, float], after: Mapping[str, float], max_loss: float) -> None:
    """Check the scores of two pipelines.

    before, after, max_loss: As in `losses`.
    RAISES (ValueError): If a score falls by more. The message holds all scores.
    """
    if losses(before, after, max_loss):
        lines = "; ".join(
            f"{name}: {old:.2f} before, {after[name]:.2f} after" for name, old in before.items()
        )
        raise ValueError(Errors.E959.format(scores=lines, max_loss=max_loss))


def _encoders(nlp: Language, model: str) -> dict[str, Any]:
    """Return the nodes of a pipeline that can be converted, by the names of their components."""
    from spacy.pipeline.tok2vec import Tok2VecListener
    from thinc.api import Model

    from ..encoding.export import runtimes
    from ..encoding.shim import torch_shims
    from ..evaluation import our_components

    nodes: dict[str, Any] = {}
    for name in nlp.pipe_names:
        network = getattr(nlp.get_pipe(name), "model", None)
        for node in list(runtimes(network).values())[:1] if isinstance(network, Model) else ():
            if not all(shim.is_initialized for shim in torch_shims(node)):
                raise ValueError(Errors.E203)
            if node.attrs["runtime"] != "torch":
                raise ValueError(Errors.E947.format(model=model, name=name))
            nodes[name] = node
    ours = our_components(nlp)
    for name in ours.keys() - nodes.keys():
        pipe: Any = nlp.get_pipe(name)
        listens = any(isinstance(node, Tok2VecListener) for node in pipe.model.walk())
        if not listens or nodes.keys() <= ours.keys():
            encoder = ", ".join(node.name for node in pipe.model.layers)
            raise ValueError(Errors.E946.format(name=name, encoder=encoder))
    if not nodes:
        components = ", ".join(nlp.pipe_names) or "none"
        raise ValueError(Errors.E949.format(model=model, components=components))
    return nodes


def _set_runtime(settings: dict[str, Any]) -> None:
    """Set the runtime in the config of a model, where its architecture or one inside has this setting."""
    from spacy import registry

    name = settings.get("@architectures")
    if name and "runtime" in signature(registry.architectures.get(name)).parameters:
        settings["runtime"] = "onnxruntime"
    for value in settings.values():
        if isinstance(value, dict):
            _set_runtime(value)
