"""`python -m spacy spanrel optimize`: convert a pipeline, so that it predicts faster on a CPU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import Errors
from ..files import check_folder, save_whole
from ._app import Force, Model, PipelineOutput, app, done, failing_with, warn

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc
    from spacy.training import Example

# Largest difference of a score (a probability) before and after the conversion.
TOLERANCE = 1e-4
# By how many points F1 may fall if a pipeline is scored before and after.
MAX_LOSS = 0.3
# Sentences for the comparison if the user has no texts, and a question about each.
SENTENCES = {
    "Maria Keller works for Northwind Bank in Zurich, and her brother Paul lives in Geneva.": (
        "Where does Paul live?"
    ),
    "In 1998 Apple, founded by Steve Jobs in Cupertino, opened a plant in Cork, Ireland.": (
        "Who founded Apple?"
    ),
    "The bridge was closed.": "Why was the bridge closed?",
    "Aspirin may cause stomach ulcers; Dr. Ana Souza of the University of Porto reported 14 cases.": (
        "Who reported the cases?"
    ),
}
# The scores that must not fall, by the factory of a component.
GATED = {
    "span_relation": ("ents_f", "rel_strict_f"),
    "relation_classifier": ("rel_f",),
    "extractive_qa": ("qa_f1", "qa_best_f1"),
}
# A label, the places of all spans in it, and a score.
_Annotation = tuple[tuple[Any, ...], float]
Annotations = list[_Annotation]


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


@app.command("optimize", no_args_is_help=True)
def optimize_cli(
    model: Model,
    output: PipelineOutput,
    texts: Annotated[
        Path | None,
        typer.Option(
            "--texts",
            "-t",
            help="The .spacy file (or folder of such files) whose predictions are compared before "
            "and after, and from which --int8 learns how large inputs are (default: those of --gate, "
            "or a few English sentences)",
        ),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Compute matrix products in 8-bit integers")
    ] = False,
    gate: Annotated[
        Path | None,
        typer.Option(
            "--gate",
            "-g",
            metavar="CORPUS",
            help="The .spacy file (or folder of such files) with gold Docs on which both pipelines are "
            "scored",
        ),
    ] = None,
    max_loss: Annotated[
        float,
        typer.Option("--max-loss", min=0.0, help="By how many points F1 on --gate may fall"),
    ] = MAX_LOSS,
    force: Force = False,
) -> None:
    """Convert a trained pipeline to ONNX Runtime, which predicts faster on a CPU.

    The new pipeline has the same components and predicts the same, with scores that differ by less
    than 0.0001; otherwise nothing is written. It needs the package onnxruntime, does not load
    transformers, and cannot be trained: keep the old one for that. To convert a pipeline, onnx is
    needed, too: pip install 'spacy-spanrel[onnx]'.

    With --int8 it is faster still and smaller, but predicts not quite the same. --gate scores
    both pipelines on a development corpus, prints the scores, and writes nothing if F1 falls by more than
    --max-loss points. Whatever is read in one batch has no influence on the predictions; this is
    checked. Give training texts as --texts: a few hundred are enough.

    Examples:

    \b
    $ python -m spacy spanrel optimize training/model-best model-onnx
    $ python -m spacy spanrel optimize training/model-best model-onnx --texts dev.spacy
    $ python -m spacy spanrel optimize training/model-best model-int8 --int8 -t train.spacy -g dev.spacy
    """
    with failing_with(f"Nothing written to {output}"):
        result = optimize(
            model, output, texts=texts, int8=int8, gate=gate, max_loss=max_loss, force=force
        )
    if not result.annotations:
        warn(f"Nothing was predicted in the {result.docs} texts that were compared: use --texts.")
    elif not int8:
        done(
            f"{result.docs} texts: {result.annotations} annotations are the same before and after, with "
            f"scores that differ by at most {result.difference:.1g}"
        )
    else:
        done(
            f"{result.docs} texts: of {result.annotations} annotations before and those after, "
            f"{result.changed} are on one side only; scores differ by up to {result.difference:.2g}"
        )
    for name, (before, after) in result.scores.items():
        done(f"{name}: {before:.2f} before, {after:.2f} after")
    if result.products is not None:
        done("{} of {} matrix products are computed in 8-bit integers".format(*result.products))
        if texts is None and gate is None:
            warn("Calibrated on a few English sentences: use --texts with texts of your own.")
        if gate is None:
            warn("Nothing says how good the new pipeline is: use --gate with gold Docs.")
    done(f"Saved pipeline with {', '.join(result.components)} converted to {output}")


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


def docs_to_compare(nlp: Language, texts: str | Path | None) -> Iterable[Doc]:
    """Make the Docs on which predictions are compared.

    nlp (Language): The pipeline.
    texts (str | Path | None): As in `optimize`; None for a few sentences.
    YIELDS (Doc): Docs for the pipeline, with the inputs and questions that it is given.
    """
    from ..annotations import ENTITIES_KEY, get_questions, set_questions
    from ..evaluation import configured_inputs, our_components
    from ..training.corpus import ENTS, read_examples

    factories = our_components(nlp)
    qa_keys = [
        nlp.get_pipe(name).cfg["qa_key"]  # type: ignore[attr-defined]
        for name, factory in factories.items()
        if factory == "extractive_qa"
    ]
    inputs = list(configured_inputs(nlp))
    # It may have nothing to classify otherwise, and what others predict is compared as well.
    if "relation_classifier" in factories.values():
        inputs += [name for name in (ENTS, ENTITIES_KEY) if name not in inputs]
    if texts is None:
        for text in SENTENCES:
            doc = nlp.make_doc(text)
            for token in doc:
                token.is_sent_start = token.i == 0
            for key in qa_keys:
                set_questions(doc, list(SENTENCES.values()), key)
            yield doc
        return
    for example in read_examples(texts, nlp, inputs):
        for key in qa_keys:
            set_questions(example.predicted, get_questions(example.reference, key), key)
        yield example.predicted


def predict(nlp: Language, names: Iterable[str], docs: Sequence[Doc]) -> list[Annotations]:
    """Return what components predict in Docs.

    nlp (Language): The pipeline.
    names (Iterable[str]): The components.
    docs (Sequence[Doc]): The Docs, which are not changed.
    RETURNS (list[list[tuple]]): For each Doc, the labels and places of its annotations, and their
        scores.
    """
    components = list(names)
    return [
        sorted(our_annotations(nlp, components, doc), key=str)
        for doc in nlp.pipe(doc.copy() for doc in docs)
    ]


def our_annotations(nlp: Language, names: Iterable[str], doc: Doc) -> Annotations:
    """Return what components of this package have written on a Doc.

    nlp (Language), names (Iterable[str]): As in `predict`.
    doc (Doc): The Doc.
    RETURNS (list[tuple]): As in `predict`.
    """
    from ..annotations import get_answers, get_relations

    annotations: Annotations = []
    key: tuple[Any, ...]
    for name in names:
        cfg = nlp.get_pipe(name).cfg  # type: ignore[attr-defined]
        spans = doc.spans.get(cfg.get("spans_key"), [])
        scores = spans.attrs.get("scores", ()) if len(spans) else ()
        for span, score in zip(spans, scores, strict=False):
            annotations.append(((span.label_, span.start, span.end), score))
        for relation in get_relations(doc, cfg["relations_key"]) if "relations_key" in cfg else ():
            head, tail = relation.head, relation.tail
            key = (relation.label, head.start, head.end, tail.start, tail.end)
            annotations.append((key, relation.score or 0.0))
        for answer in get_answers(doc, cfg["qa_key"]) if "qa_key" in cfg else ():
            key = (answer.question.id, answer.start_char, answer.end_char)
            annotations.append((key, answer.score or 0.0))
    return annotations


def differences(
    before: Sequence[Sequence[_Annotation]], after: Sequence[Sequence[_Annotation]]
) -> tuple[float, int]:
    """Count the differences between the predictions of two pipelines.

    before, after (Sequence): What `predict` returns.
    RETURNS (tuple[float, int]): The largest difference of the score of an annotation that both have, and
        the number of those that only one has.
    """
    worst, changed = 0.0, 0
    for old, new in zip(before, after, strict=True):
        numbers, others = dict(old), dict(new)
        changed += len(numbers.keys() ^ others.keys())
        both = numbers.keys() & others.keys()
        worst = max([worst, *(abs(numbers[key] - others[key]) for key in both)])
    return worst, changed


def compare(
    before: Sequence[Sequence[_Annotation]],
    after: Sequence[Sequence[_Annotation]],
    docs: Sequence[Doc],
) -> float:
    """Compare the predictions of two pipelines.

    before, after (Sequence): What `predict` returns.
    docs (Sequence[Doc]): The Docs.
    RETURNS (float): The largest difference of a score; 0.0 if there are none.
    RAISES (ValueError): If annotations differ, or scores by more than `TOLERANCE`. The message names
        the first text.
    """
    for old, new, doc in zip(before, after, docs, strict=True):
        numbers, others = dict(old), dict(new)
        differing = sorted(numbers.keys() ^ others.keys(), key=str)
        differing += [
            key
            for key in numbers.keys() & others.keys()
            if abs(numbers[key] - others[key]) > TOLERANCE
        ]
        if differing:
            key = differing[0]
            raise ValueError(
                Errors.E948.format(
                    text=doc.text[:80],
                    annotation=key,
                    before=numbers.get(key, "none"),
                    after=others.get(key, "none"),
                    tolerance=TOLERANCE,
                )
            )
    return differences(before, after)[0]
