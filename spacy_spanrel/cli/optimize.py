"""`python -m spacy spanrel optimize`: convert a pipeline, so that it predicts faster on a CPU."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import Errors
from ..files import check_folder, save_whole
from ._app import Force, Model, PipelineOutput, app, done, failing_with, warn

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

# Largest difference of a score (a probability) before and after the conversion.
TOLERANCE = 1e-4
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
# A label, the places of all spans in it, and a score.
_Annotation = tuple[tuple[Any, ...], float]
Annotations = list[_Annotation]


@dataclass(frozen=True)
class Optimized:
    """A conversion that has been checked.

    components (tuple[str, ...]): Names of the components that were converted.
    docs (int): Number of Docs that were predicted before and after.
    annotations (int): Number of their annotations, which are the same.
    difference (float): The largest difference of the score of an annotation.
    """

    components: tuple[str, ...]
    docs: int
    annotations: int
    difference: float


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
            "and after (default: a few English sentences)",
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Convert a trained pipeline to ONNX Runtime, which predicts faster on a CPU.

    The new pipeline has the same components and predicts the same, with scores that differ by less
    than 0.0001; otherwise nothing is written. It needs the package onnxruntime, does not load
    transformers, and cannot be trained: keep the old one for that. To convert a pipeline, onnx is
    needed, too: pip install 'spacy-spanrel[onnx]'.

    Examples:

    \b
    $ python -m spacy spanrel optimize training/model-best model-onnx
    $ python -m spacy spanrel optimize training/model-best model-onnx --texts dev.spacy
    """
    with failing_with(f"Nothing written to {output}"):
        result = optimize(model, output, texts=texts, force=force)
    if not result.annotations:
        warn(f"Nothing was predicted in the {result.docs} texts that were compared: use --texts.")
    done(
        f"{result.docs} texts: {result.annotations} annotations are the same before and after, with "
        f"scores that differ by at most {result.difference:.1g}"
    )
    done(f"Saved pipeline with {', '.join(result.components)} converted to {output}")


def optimize(
    model: str | Path,
    output: str | Path,
    *,
    texts: str | Path | None = None,
    force: bool = False,
) -> Optimized:
    """Convert a pipeline to ONNX Runtime and save it; after any failure the output is as it was before.

    model (str | Path): Folder or package name of the pipeline.
    output (str | Path): The folder to write.
    texts (str | Path | None): A `.spacy` file, or a folder of such files, to compare predictions on.
        The gold annotation that the config of the pipeline names as `inputs`, and the gold questions,
        are given to the pipeline.
    force (bool): Replace the folder if it exists.
    RETURNS (Optimized): The components and the comparison.
    RAISES (OSError): If there is no such pipeline or corpus, or the folder exists and `force` is not
        set.
    RAISES (ImportError): If ONNX Runtime or onnx is not installed.
    RAISES (ValueError): If a component has no network of its own, a network cannot be converted, or
        the predictions differ.
    """
    # Heavy imports are delayed, because spaCy loads this module for every command.
    import spacy

    from ..encoding.export import apply_runtime

    check_folder(output, model, texts, force=force)
    nlp = spacy.load(model)
    nodes = _encoders(nlp, str(model))
    for node in nodes.values():
        for shim in node.shims:
            shim.precision_setting = "float32"
    docs = list(docs_to_compare(nlp, texts))
    before = predict(nlp, nodes, docs)
    for name, node in nodes.items():
        node.attrs["runtime"] = "onnxruntime"
        settings = nlp.get_pipe_config(name)["model"]
        settings.get("encoder", settings)["runtime"] = "onnxruntime"
        pipe: Any = nlp.get_pipe(name)
        apply_runtime(pipe.model)
    difference = compare(before, predict(nlp, nodes, docs), docs)
    save_whole(nlp, output, inputs=(model, texts))
    return Optimized(tuple(nodes), len(docs), sum(map(len, before)), difference)


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
    from ..annotations import get_questions, set_questions
    from ..evaluation import configured_inputs, our_components
    from ..training.corpus import read_examples

    qa_keys = [
        nlp.get_pipe(name).cfg["qa_key"]  # type: ignore[attr-defined]
        for name, factory in our_components(nlp).items()
        if factory == "extractive_qa"
    ]
    if texts is None:
        for text in SENTENCES:
            doc = nlp.make_doc(text)
            for token in doc:
                token.is_sent_start = token.i == 0
            for key in qa_keys:
                set_questions(doc, list(SENTENCES.values()), key)
            yield doc
        return
    for example in read_examples(texts, nlp, configured_inputs(nlp)):
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
    worst = 0.0
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
        worst = max([worst, *(abs(numbers[key] - others[key]) for key in numbers)])
    return worst
