"""Examples and evaluations that need no pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import spacy
from spacy.tokens import Doc, Span
from spacy.training import Example

from spacy_spanrel.annotations import Relation, set_entities, set_relations
from spacy_spanrel.evaluation import (
    ComponentEvaluation,
    Evaluation,
    Outcome,
    confuse,
    pair_outcomes,
    relation_outcomes,
)
from spacy_spanrel.scoring.relations import score_pairs, score_relations

VOCAB = spacy.blank("en").vocab
WORDS = ["John", "Smith", "works", "for", "Acme", "in", "Paris"]
JOHN, ACME, PARIS = (0, 2, "Per"), (4, 5, "Org"), (6, 7, "Loc")

Entity = tuple[int, int, str]
Row = tuple[Entity, Entity, str]


def make(
    entities: Sequence[Entity] | None,
    relations: Sequence[Row] | None,
    words: Sequence[str] = WORDS,
    spaces: Sequence[bool] | None = None,
    score: float | None = 0.5,
) -> Doc:
    """Return a Doc; entities or relations of None are not annotated."""
    doc = Doc(VOCAB, words=list(words), spaces=None if spaces is None else list(spaces))
    if entities is not None:
        spans = [Span(doc, start, end, label=label) for start, end, label in entities]
        set_entities(doc, spans, [score or 0.0] * len(spans))
    if relations is not None:
        made = [
            Relation(Span(doc, *h[:2], label=h[2]), Span(doc, *t[:2], label=t[2]), label, score)
            for h, t, label in relations
        ]
        set_relations(doc, made)
    return doc


def pair_up(*docs: tuple[Doc, Doc]) -> list[Example]:
    """Return Examples of pairs (gold, predicted)."""
    return [Example(predicted, gold) for gold, predicted in docs]


def evaluation_of(
    examples: Sequence[Example], *, pairs: bool = False, name: str = "part", **cfg: Any
) -> Evaluation:
    """Return an evaluation of the predictions in Examples."""
    maker, scorer = (pair_outcomes, score_pairs) if pairs else (relation_outcomes, score_relations)
    outcomes = tuple(maker(examples, **cfg))
    confusions = {
        kind: confuse(outcomes, kind, f"no {kind}")
        for kind in ("entity", "relation")
        if any(outcome.kind == kind for outcome in outcomes)
    }
    scores = scorer(examples, **cfg)
    factory = "relation_classifier" if pairs else "span_relation"
    part = ComponentEvaluation(name, factory, scores, outcomes, confusions)
    return Evaluation("model", "corpus", len(examples), (), scores, (part,))


def seen(outcomes: Iterable[Outcome]) -> list[tuple[str, str, str | None, str | None]]:
    """Return kind, status and labels of outcomes."""
    return [
        (o.kind, o.status, o.gold and o.gold.label, o.predicted and o.predicted.label)
        for o in outcomes
    ]
