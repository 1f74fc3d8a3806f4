"""A pipeline whose networks torch computes becomes one whose networks ONNX Runtime computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
# The scores that must not fall, by the factory of a component.
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
    RAISES (ValueError): If a component has no network of its own, a network cannot be converted, the
        predictions in float32 differ, vectors depend on the batch, or F1 falls by more than `max_loss`.
    """
    # Heavy imports are delayed, because spaCy loads this module for every command.
    import spacy

    from ..encoding.export import apply_runtime
    from ..encoding.graph import graph_of
    from ..encoding.quantize import check_rows, quantize
    from ..evaluation import configured_inputs
    from ..training.corpus import read_examples

    check_folder(output, model, texts, gate, force=force)
    nlp = spacy.load(model)
    nodes = _encoders(nlp, str(model))
    for node in nodes.values():
        for shim in node.shims:
            shim.precision_setting = "float32"
    docs = list(docs_to_compare(nlp, texts or gate))
    examples = [] if gate is None else list(read_examples(gate, nlp, configured_inputs(nlp)))
    before, scores_before = predict(nlp, nodes, docs), score(nlp, examples, str(gate))
    for name, node in nodes.items():
        node.attrs["runtime"] = "onnxruntime"
        settings = nlp.get_pipe_config(name)["model"]
        settings.get("encoder", settings)["runtime"] = "onnxruntime"
        pipe: Any = nlp.get_pipe(name)
        apply_runtime(pipe.model)
        graph_of(node).seen = []
    after = predict(nlp, nodes, docs)
    difference, changed, products = compare(before, after, docs), 0, None
    counts = []
    for name, node in nodes.items():
        batches, graph_of(node).seen = graph_of(node).seen or [], None
        if int8:
            counts.append(quantize(node.shims[0], batches, name))
        check_rows(graph_of(node), batches, name)
    if int8:
        n_changed, n_products = map(sum, zip(*counts, strict=True))
        products = n_changed, n_products
        difference, changed = differences(before, predict(nlp, nodes, docs))
    scores = check_loss(scores_before, score(nlp, examples, str(gate)), max_loss)
    save_whole(nlp, output, inputs=(model, texts, gate))
    return Optimized(
        tuple(nodes), len(docs), sum(map(len, before)), difference, changed, products, scores
    )


def score(nlp: Language, examples: Sequence[Example], corpus: str) -> dict[str, float]:
    """Return the scores that must not fall.

    nlp (Language): The pipeline.
    examples (Sequence[Example]): Gold Docs, and Docs for the pipeline; there may be none.
    corpus (str): Where they are from.
    RETURNS (dict[str, float]): Scores in percent by "component score", of components that have gold
        annotation.
    RAISES (ValueError): If there is gold annotation for no component.
    """
    from ..evaluation import evaluate_examples

    if not examples:
        return {}
    components = evaluate_examples(nlp, examples, corpus=corpus).components
    return {
        f"{component.name} {name}": 100 * component.scores[name]
        for component in components
        for name in GATED[component.factory]
        if component.scores.get(name) is not None
    }


def check_loss(
    before: Mapping[str, float], after: Mapping[str, float], max_loss: float
) -> dict[str, tuple[float, float]]:
    """Compare the scores of two pipelines.

    before, after (Mapping[str, float]): What `score` returns.
    max_loss (float): By how many points a score may fall.
    RETURNS (dict[str, tuple[float, float]]): Both scores by name.
    RAISES (ValueError): If a score falls by more. The message holds all scores.
    """
    scores = {name: (before[name], after[name]) for name in before}
    # Scores have two decimals, as they are printed.
    if any(round(old - new, 2) > max_loss for old, new in scores.values()):
        lines = "; ".join(
            f"{name}: {o:.2f} before, {n:.2f} after" for name, (o, n) in scores.items()
        )
        raise ValueError(Errors.E959.format(scores=lines, max_loss=max_loss))
    return scores


def _encoders(nlp: Language, model: str) -> dict[str, Any]:
    """Return the nodes of a pipeline that can be converted, by the names of their components."""
    from ..encoding.export import runtimes
    from ..evaluation import our_components

    nodes: dict[str, Any] = {}
    for name in our_components(nlp):
        pipe: Any = nlp.get_pipe(name)
        found = list(runtimes(pipe.model).values())
        if not found:
            encoder = ", ".join(node.name for node in pipe.model.layers)
            raise ValueError(Errors.E946.format(name=name, encoder=encoder))
        if not pipe.is_initialized:
            raise ValueError(Errors.E203)
        if found[0].attrs["runtime"] != "torch":
            raise ValueError(Errors.E947.format(model=model, name=name))
        nodes[name] = found[0]
    if not nodes:
        components = ", ".join(nlp.pipe_names) or "none"
        raise ValueError(Errors.E949.format(model=model, components=components))
    return nodes
