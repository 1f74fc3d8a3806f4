"""Scores of relation classification, equal to those of the official TACRED scorer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from spacy import registry
from spacy.tokens import Doc, Span
from spacy.training import Example

from ..annotations import RELATIONS_KEY, get_relations
from ..encoding.alignment import non_space_offsets
from ..scoring import Counts, LabelledCounts
from ..span_relation.scoring import RelationScorer

Confusions = list[dict[str, Any]]


@registry.scorers("spacy-spanrel.pair_scorer.v1")
def make_pair_scorer() -> RelationScorer:
    """Make the scorer of components that classify pairs."""
    return score_pairs


def score_pairs(
    examples: Iterable[Example],
    *,
    relations_key: str = RELATIONS_KEY,
    negative_label: str | None = "no_relation",
    symmetric: Iterable[str] = (),
    **cfg: Any,
) -> dict[str, Any]:
    """Score relations by their arguments' boundaries and label; negative ones do not count.

    Where one relation at most is predicted for each gold pair, precision, recall and F1 are those
    of the official TACRED scorer.

    examples (Iterable[Example]): Gold and predictions.
    relations_key (str): Span group of the relations, in both.
    negative_label (str | None): The label that says "no relation", known by its name.
    symmetric (Iterable[str]): Relations whose direction means nothing.
    RETURNS (dict[str, Any]): `rel_p`, `rel_r`, `rel_f` (micro), `rel_macro_*`, `rel_per_type`,
        values from 0 to 1, None where there is no gold; and `rel_confusions`, how often which gold
        label got which predicted one, most frequent first, the right ones left out.
    """
    counts = LabelledCounts()
    confused: Counter[tuple[str, str]] = Counter()
    undirected = frozenset(symmetric)
    none = negative_label or "no_relation"
    for example in examples:
        gold = _labels_of_pairs(example.reference, relations_key, negative_label, undirected)
        predicted = _labels_of_pairs(example.predicted, relations_key, negative_label, undirected)
        counts.add(_flat(gold), _flat(predicted))
        for pair in {**gold, **predicted}:
            labels, found = gold.get(pair, set()), predicted.get(pair, set())
            if labels != found:
                for label in labels - found or {none}:
                    for other in found - labels or {none}:
                        confused[label, other] += 1
    return {
        **counts.scores("rel"),
        "rel_confusions": [
            {"gold": gold, "predicted": predicted, "count": count}
            for (gold, predicted), count in confused.most_common()
        ],
    }


Pair = tuple[tuple[int, int], tuple[int, int]]
LabelledPair = tuple[str, tuple[int, int], tuple[int, int]]


def _labels_of_pairs(
    doc: Doc, key: str, negative: str | None, undirected: frozenset[str]
) -> dict[Pair, set[str]]:
    """Labels of each pair but the negative one."""
    found: dict[Pair, set[str]] = {}
    for (label, head, tail), _ in labelled_pairs(doc, key, negative, undirected):
        found.setdefault((head, tail), set()).add(label)
    return found


def labelled_pairs(
    doc: Doc, key: str, negative: str | None, undirected: frozenset[str]
) -> list[tuple[LabelledPair, float | None]]:
    """Return the relations of a Doc as tuples that compare equal across tokenizations.

    doc (Doc): The Doc.
    key (str): Span group of the relations.
    negative (str | None): The label that says "no relation"; it is left out.
    undirected (frozenset[str]): Relations whose direction means nothing.
    RETURNS (list[tuple]): Label, head and tail of each, spans by the characters other than white
        space; and its score.
    """
    places = non_space_offsets(doc.text).tolist()

    def place(span: Span) -> tuple[int, int]:
        return (places[span.start_char], places[span.end_char])

    found: list[tuple[LabelledPair, float | None]] = []
    for relation in get_relations(doc, key):
        if relation.label in ("", negative):
            continue
        head, tail = place(relation.head), place(relation.tail)
        if relation.label in undirected and tail < head:
            head, tail = tail, head
        found.append(((relation.label, head, tail), relation.score))
    return found


def _flat(found: dict[Pair, set[str]]) -> list[tuple[Any, ...]]:
    return [(label, *pair) for pair, labels in found.items() for label in labels]


def tacred_scores(
    gold: Sequence[str], predicted: Sequence[str], negative_label: str = "no_relation"
) -> dict[str, Any]:
    """Score lists of labels as the official TACRED scorer does (Zhang et al. 2017).

    gold, predicted (Sequence[str]): A label for each pair, in the same order.
    negative_label (str): The label that says "no relation", known by its name.
    RETURNS (dict[str, Any]): `precision` (1 if nothing but negatives was predicted), `recall` and
        `f1`, micro-averaged over all labels but the negative one, from 0 to 1; `per_relation`, the
        same for each label.
    RAISES (ValueError): If the lists are not equally long.
    """
    counts = LabelledCounts()
    for i, (label, other) in enumerate(zip(gold, predicted, strict=True)):
        counts.add(
            [(label, i)] if label != negative_label else [],
            [(other, i)] if other != negative_label else [],
        )
    scores = _official(counts.micro)
    return {
        **scores,
        "per_relation": {
            label: _official(part) for label, part in sorted(counts.per_label.items())
        },
    }


def _official(counts: Counts) -> dict[str, float]:
    precision = counts.precision if counts.tp + counts.fp else 1.0
    return {"precision": precision, "recall": counts.recall, "f1": counts.fscore}
