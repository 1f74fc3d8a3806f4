"""Negative examples: pairs of entities without a relation, as relations with a label of their own."""

from __future__ import annotations

from collections.abc import Collection
from itertools import permutations

from spacy.tokens import Doc, Span

from ..annotations import Relation, get_entities, get_relations, set_relations
from ..pairing import sentence_of_tokens
from ..reading import argument_error
from .report import ConversionReport


def check_negative_label(label: str, argument: str = "label") -> None:
    """Raise a ConversionError that names the argument if its value is blank."""
    if not label.strip():
        raise argument_error(argument, repr(label), "a label that is not empty")


def add_negatives(
    doc: Doc, label: str, *, symmetric: Collection[str] = (), report: ConversionReport | None = None
) -> int:
    """Add to a gold Doc a relation for each pair of entities that has none.

    Every ordered pair of entities with different boundaries and no gold relation in that direction
    gets a gold relation with the label. Pairs are told apart by boundaries, as relations are when
    they are learned and scored. In a Doc of several sentences, only entities of the same sentence
    are paired.

    doc (Doc): The gold Doc.
    label (str): The negative label. Gold relations may have it already.
    symmetric (Collection[str]): Relations without direction: one stands for both directions.
    report (ConversionReport | None): Counts the relations that are added.
    RETURNS (int): The number of relations that were added.
    RAISES (ConversionError): If the label is empty.
    """
    check_negative_label(label)
    relations = get_relations(doc)
    related: set[tuple[tuple[int, int], tuple[int, int]]] = set()
    for relation in relations:
        head, tail = _bounds(relation.head), _bounds(relation.tail)
        related.add((head, tail))
        if relation.label in symmetric:
            related.add((tail, head))
    sentences = sentence_of_tokens(doc)
    # A span that crosses a border is in no sentence.
    spans = {
        (span.start, span.end, span.label_): span
        for span in get_entities(doc)
        if sentences[span.start] == sentences[span.end - 1]
    }
    negatives = []
    # In the order of the text, so that a symmetric label gets the direction that stands for both.
    for (_, first), (_, second) in permutations(sorted(spans.items()), 2):
        pair = (_bounds(first), _bounds(second))
        if (
            pair[0] != pair[1]
            and pair not in related
            and sentences[first.start] == sentences[second.start]
            and (label not in symmetric or pair[0] < pair[1])
        ):
            negatives.append(Relation(first, second, label))
    if negatives:
        set_relations(doc, [*relations, *negatives])
    if negatives and report is not None:
        report.relations[label] += len(negatives)
        report.notes["negative relations added"] += len(negatives)
        report.docs_without_relations -= not relations
    return len(negatives)


def _bounds(span: Span) -> tuple[int, int]:
    return span.start, span.end
