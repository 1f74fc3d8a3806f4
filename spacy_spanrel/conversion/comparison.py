"""What a pipeline predicts, before and after it was converted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Errors

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


def predict(nlp: Language, docs: Sequence[Doc], *, others: bool = False) -> list[Annotations]:
    """Return what a pipeline predicts in Docs.

    nlp (Language): The pipeline.
    docs (Sequence[Doc]): The Docs, which are not changed.
    others (bool): Return what components of other packages write, too.
    RETURNS (list[list[tuple]]): For each Doc, the labels and places of its annotations, and their
        scores.
    """
    from ..evaluation import our_components

    ours = list(our_components(nlp))
    return [
        sorted(
            [*our_annotations(nlp, ours, doc), *(_all_annotations(doc) if others else ())], key=str
        )
        for doc in nlp.pipe(doc.copy() for doc in docs)
    ]


def _all_annotations(doc: Doc) -> Annotations:
    """Return the annotation that spaCy has places for: of tokens, categories and groups of spans."""
    names = ("tag_", "pos_", "lemma_", "dep_", "ent_iob_", "ent_type_", "ent_id_", "ent_kb_id_")
    annotations: Annotations = []
    for token in doc:
        annotations += [((name, token.i, getattr(token, name)), 0.0) for name in names]
        annotations.append((("morph", token.i, str(token.morph)), 0.0))
        annotations.append((("head", token.i, token.head.i), 0.0))
        annotations.append((("sentence", token.i, bool(token.is_sent_start)), 0.0))
    annotations += [(("category", label), score) for label, score in doc.cats.items()]
    for key, spans in doc.spans.items():
        scores = spans.attrs.get("scores", ())
        for i, span in enumerate(spans):
            place = (key, span.label_, span.kb_id_, span.start, span.end)
            annotations.append((place, float(scores[i]) if i < len(scores) else 0.0))
    return annotations


def our_annotations(nlp: Language, names: Iterable[str], doc: Doc) -> Annotations:
    """Return what components of this package have written on a Doc.

    nlp (Language): The pipeline.
    names (Iterable[str]): The components.
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
