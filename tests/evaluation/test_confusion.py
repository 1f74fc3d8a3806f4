from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc

from spacy_spanrel.evaluation import confuse, pair_outcomes, relation_outcomes
from spacy_spanrel.scoring.relations import score_pairs

from .test_outcomes import docs
from .util import ACME, JOHN, PARIS, make, pair_up

GOLD = [(JOHN, ACME, "works"), (JOHN, PARIS, "lives"), (ACME, PARIS, "based")]
FOUND = [(JOHN, ACME, "owns"), ((1, 2, "Per"), PARIS, "lives"), (ACME, PARIS, "based")]


def test_by_hand() -> None:
    examples = pair_up((make([], GOLD), make([], [*FOUND, (PARIS, ACME, "works")])))
    confusion = confuse(relation_outcomes(examples), "relation", "no relation")
    assert confusion.axis == ("based", "lives", "owns", "works", None)
    assert confusion.matrix() == [
        [1, 0, 0, 0, 0],
        [0, 0, 0, 0, 1],  # other boundaries: missed on the gold span,
        [0, 0, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 1, 0, 1, None],  # and spurious on the predicted one
    ]
    assert confusion.top(2) == [(("lives", None), 1), ((None, "lives"), 1)]
    assert len(confusion.top()) == 4
    assert confusion.name(None) == "no relation"
    assert confusion.to_dict() == {"labels": list(confusion.axis), "matrix": confusion.matrix()}


def test_entities_and_true_negatives() -> None:
    examples = pair_up((make([JOHN, ACME], []), make([(0, 2, "Org"), PARIS], [])))
    confusion = confuse(relation_outcomes(examples), "entity", "no entity", negatives=3)
    assert confusion.axis == ("Loc", "Org", "Per", None)
    assert confusion.matrix() == [[0, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0], [1, 0, 0, 3]]
    assert (None, None) not in dict(confusion.top())


def test_nothing() -> None:
    confusion = confuse([], "relation", "none")
    assert confusion.matrix() == [[None]]
    assert confusion.top() == []


@given(docs(), docs())
def test_rows_are_gold_and_columns_predictions(gold: Doc, predicted: Doc) -> None:
    outcomes = list(relation_outcomes(pair_up((gold, predicted)), symmetric=["both"]))
    for kind in ("entity", "relation"):
        confusion = confuse(outcomes, kind, "-")
        rows = confusion.matrix()
        own = [outcome for outcome in outcomes if outcome.kind == kind]
        wanted = Counter(o.gold.label for o in own if o.gold)
        given = Counter(o.predicted.label for o in own if o.predicted)
        for i, label in enumerate(confusion.labels):
            assert sum(rows[i]) == wanted[label]
            assert sum(row[i] for row in rows) == given[label]


@st.composite
def one_label_a_pair(draw: Any) -> Doc:
    pairs = [(a, b) for a in (JOHN, ACME, PARIS) for b in (JOHN, ACME, PARIS) if a != b]
    labels = st.none() | st.sampled_from(["x", "y", "no_relation"])
    return make([], [(*pair, label) for pair in pairs if (label := draw(labels))])


@given(st.lists(st.tuples(one_label_a_pair(), one_label_a_pair()), min_size=1, max_size=2))
def test_one_label_a_pair_gives_the_confusions_of_the_scorer(pairs: list[tuple[Doc, Doc]]) -> None:
    examples = pair_up(*pairs)
    confusion = confuse(pair_outcomes(examples), "relation", "no_relation")
    found = {(confusion.name(g), confusion.name(p)): n for (g, p), n in confusion.top()}
    scores = score_pairs(examples)
    assert found == {
        (row["gold"], row["predicted"]): row["count"] for row in scores["rel_confusions"]
    }
