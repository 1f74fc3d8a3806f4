from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spacy import registry
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.vocab import Vocab

from spacy_spanrel import Relation, set_relations
from spacy_spanrel.scoring.relations import make_pair_scorer, score_pairs
from tests.relation_classifier.util import tacred_scores

VOCAB = Vocab()
WORDS = ["John", "Smith", "works", "for", "Acme", "in", "Paris"]
JOHN, ACME, PARIS = (0, 2), (4, 5), (6, 7)
Place = tuple[int, int]
Row = tuple[Place, Place, str]


def make(
    *rows: Row,
    words: list[str] | None = None,
    spaces: list[bool] | None = None,
    key: str = "relations",
) -> Doc:
    doc = Doc(VOCAB, words=words or WORDS, spaces=spaces)
    relations = [Relation(Span(doc, *h), Span(doc, *t), label) for h, t, label in rows]
    set_relations(doc, relations, key)
    return doc


def score(gold: Doc, predicted: Doc, **settings: Any) -> dict[str, Any]:
    return score_pairs([Example(predicted, gold)], **settings)


def prf(scores: dict[str, Any]) -> list[float]:
    return [scores[f"rel_{x}"] for x in "prf"]


WORKS, BASED = (JOHN, ACME, "works"), (ACME, PARIS, "based")


# The official program


def test_golden_scores(shared_dir: Path) -> None:
    rows = json.loads((shared_dir / "golden" / "tacred_scorer.json").read_text())
    assert len(rows) == 5
    for row in rows:
        scores = tacred_scores(row["gold"], row["predicted"])
        found = [scores[name] for name in ("precision", "recall", "f1")]
        assert found == pytest.approx(
            [row[name] for name in ("precision", "recall", "f1")], abs=1e-12
        )


LABELS = ["no_relation", "a", "b", "c"]
PAIRS = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), max_size=12)


@given(PAIRS, st.booleans())
def test_docs_score_like_lists(pairs: list[tuple[str, str]], written: bool) -> None:
    """Make Docs with one pair each; negative pairs are annotated, or not annotated."""

    def doc(label: str) -> Doc:
        return make((JOHN, ACME, label)) if written or label != "no_relation" else make()

    examples = [Example(doc(p), doc(g)) for g, p in pairs]
    scores = score_pairs(examples)
    right = [g == p for g, p in pairs]
    confusions = Counter(pair for pair, same in zip(pairs, right, strict=True) if not same)
    assert {(c["gold"], c["predicted"]): c["count"] for c in scores["rel_confusions"]} == confusions
    counts = [c["count"] for c in scores["rel_confusions"]]
    assert counts == sorted(counts, reverse=True)
    if all(g == "no_relation" for g, _ in pairs):
        assert prf(scores) == [None] * 3
    elif any(p != "no_relation" for _, p in pairs):
        expected = tacred_scores([g for g, _ in pairs], [p for _, p in pairs])
        assert prf(scores) == pytest.approx([expected[x] for x in ("precision", "recall", "f1")])
    else:
        assert prf(scores) == [0.0] * 3


# Docs


def test_missed_relation_lowers_recall() -> None:
    # A scorer that looks at predicted pairs alone would return 1.0.
    scores = score(make(WORKS, BASED), make(WORKS))
    assert prf(scores) == [1.0, 0.5, pytest.approx(2 / 3)]
    assert scores["rel_confusions"] == [{"gold": "based", "predicted": "no_relation", "count": 1}]


def test_both_borders_count() -> None:
    gold = make(WORKS)
    for head, tail in [((0, 1), ACME), ((1, 2), ACME), (JOHN, (4, 6)), (ACME, JOHN)]:
        assert prf(score(gold, make((head, tail, "works")))) == [0.0] * 3
    assert prf(score(gold, make(WORKS))) == [1.0] * 3


def test_entity_types_do_not_count() -> None:
    gold, predicted = make(), make()
    for doc, label in ((gold, "PER"), (predicted, "ORG")):
        spans = Span(doc, *JOHN, label=label), Span(doc, *ACME, label="ORG")
        set_relations(doc, [Relation(*spans, "works", 0.5)])
    assert prf(score(gold, predicted)) == [1.0] * 3


def test_tokenization_may_differ() -> None:
    words = ["John", "Smi", "th", "works", "for", "A", "cme", "in", " ", "Paris"]
    spaces = [True, False, True, True, True, False, True, True, False, False]
    predicted = make(((0, 3), (5, 7), "works"), ((5, 7), (9, 10), "x"), words=words, spaces=spaces)
    scores = score(make(WORKS, BASED), predicted)
    assert prf(scores) == [0.5] * 3
    assert scores["rel_confusions"] == [{"gold": "based", "predicted": "x", "count": 1}]
    # A part of a name does not match the whole name.
    shorter = make(((0, 2), (5, 7), "works"), words=words, spaces=spaces)
    assert prf(score(make(WORKS), shorter)) == [0.0] * 3


def test_symmetric_relations() -> None:
    gold, turned = make(WORKS), make((ACME, JOHN, "works"))
    assert prf(score(gold, turned, symmetric=["works"])) == [1.0] * 3
    assert prf(score(turned, gold, symmetric=["works"])) == [1.0] * 3
    assert prf(score(gold, turned, symmetric=["based"])) == [0.0] * 3
    assert score(gold, turned, symmetric=["works"])["rel_confusions"] == []
    # Both directions count as one relation.
    both = make(WORKS, (ACME, JOHN, "works"))
    assert prf(score(gold, both, symmetric=["works"])) == [1.0] * 3
    assert prf(score(both, gold, symmetric=["works"])) == [1.0] * 3
    # Another relation of the same pair keeps its direction.
    assert (
        prf(score(make((ACME, JOHN, "x")), make((JOHN, ACME, "x")), symmetric=["works"]))
        == [0.0] * 3
    )


def test_negative_relations_do_not_count() -> None:
    # The negative label is recognized by its name, not by its place among the labels.
    none = (ACME, PARIS, "no_relation")
    assert prf(score(make(WORKS, none), make(none, WORKS))) == [1.0] * 3
    assert prf(score(make(WORKS, none), make(WORKS, BASED))) == [0.5, 1.0, pytest.approx(2 / 3)]
    scores = score(make(WORKS, none), make(WORKS, BASED))
    assert scores["rel_confusions"] == [{"gold": "no_relation", "predicted": "based", "count": 1}]
    assert "no_relation" not in scores["rel_per_type"]
    other = (ACME, PARIS, "NA")
    assert prf(score(make(WORKS, other), make(WORKS), negative_label="NA")) == [1.0] * 3
    assert prf(score(make(WORKS, other), make(WORKS))) == [1.0, 0.5, pytest.approx(2 / 3)]
    assert prf(score(make(WORKS, none), make(WORKS), negative_label=None))[1] == 0.5
    scores = score(make(WORKS), make(), negative_label="NA")
    assert scores["rel_confusions"] == [{"gold": "works", "predicted": "NA", "count": 1}]


def test_pairs_without_a_label_do_not_count() -> None:
    asked = (ACME, PARIS, "")
    assert prf(score(make(WORKS, asked), make(WORKS))) == [1.0] * 3
    assert prf(score(make(WORKS), make(WORKS, asked))) == [1.0] * 3


def test_nothing_to_score() -> None:
    none = make((JOHN, ACME, "no_relation"))
    for gold in (make(), none):
        scores = score(gold, make(WORKS))
        assert scores.pop("rel_confusions") == [
            {"gold": "no_relation", "predicted": "works", "count": 1}
        ]
        assert len(scores) == 7
        assert set(scores.values()) == {None}
    # Gold relations without predictions have scores.
    assert prf(score(make(WORKS), make())) == [0.0] * 3


def test_micro_macro_and_per_type() -> None:
    gold = make(WORKS, BASED)
    scores = score(gold, make(WORKS, (JOHN, PARIS, "works")))
    assert scores["rel_per_type"] == {
        "based": {"p": 0.0, "r": 0.0, "f": 0.0},
        "works": {"p": 0.5, "r": 1.0, "f": pytest.approx(2 / 3)},
    }
    assert prf(scores) == [0.5] * 3
    assert [scores[f"rel_macro_{x}"] for x in "prf"] == pytest.approx([0.25, 0.5, 1 / 3])


def test_relations_with_both_directions_together() -> None:
    gold = make((JOHN, ACME, "A(e1,e2)"), (ACME, PARIS, "A(e2,e1)"), (JOHN, PARIS, "B(e1,e2)"))
    # One direction of A is wrong; another B is found.
    predicted = make(
        (JOHN, ACME, "A(e1,e2)"),
        (ACME, PARIS, "A(e1,e2)"),
        (JOHN, PARIS, "B(e1,e2)"),
        (PARIS, JOHN, "B(e2,e1)"),
    )
    scores = score(gold, predicted)
    assert [scores[f"rel_semeval_macro_{x}"] for x in "prf"] == pytest.approx(
        [(1 / 2 + 1 / 2) / 2, (1 / 2 + 1) / 2, (1 / 2 + 2 / 3) / 2]
    )
    assert prf(scores) == pytest.approx([1 / 2, 2 / 3, 4 / 7])
    assert "rel_semeval_macro_f" not in score(make(WORKS), make(WORKS))


def test_equal_to_the_official_scorer_of_semeval(shared_dir: Path) -> None:
    official = json.loads((shared_dir / "golden" / "semeval_scorer.json").read_text("utf-8"))
    gold, predicted = official["gold"], official["predicted"]
    scores = score_pairs(
        [
            Example(make((JOHN, ACME, predicted[key])), make((JOHN, ACME, label)))
            for key, label in gold.items()
        ],
        negative_label="Other",
    )
    # The first of the three evaluations that it prints is over labels, and the last is the official one.
    printed = official["macro_excluding_other_in_the_order_printed"]
    for name, values in (("rel_macro", printed[0]), ("rel_semeval_macro", printed[2])):
        assert [f"{100 * scores[f'{name}_{x}']:.2f}" for x in "prf"] == values
    assert printed[2][2] == official["official_macro_f1"][0]


def test_confusions_come_by_number() -> None:
    wrong = (JOHN, ACME, "based")
    examples = [
        Example(make(WORKS), make(WORKS)),
        Example(make(), make(BASED)),
        Example(make(wrong), make(WORKS)),
        Example(make(wrong), make(WORKS)),
    ]
    assert score_pairs(examples)["rel_confusions"] == [
        {"gold": "works", "predicted": "based", "count": 2},
        {"gold": "based", "predicted": "no_relation", "count": 1},
    ]
    assert json.loads(json.dumps(score_pairs(examples))) == score_pairs(examples)


def test_a_pair_with_several_labels() -> None:
    more = (JOHN, ACME, "founded")
    scores = score(make(WORKS, more), make(WORKS, (JOHN, ACME, "left")))
    assert prf(scores) == [0.5] * 3
    assert scores["rel_confusions"] == [{"gold": "founded", "predicted": "left", "count": 1}]


def test_key_of_the_relations() -> None:
    gold, predicted = make(WORKS, key="mine"), make(WORKS, key="mine")
    set_relations(predicted, [], "relations")
    assert prf(score(gold, predicted, relations_key="mine")) == [1.0] * 3
    assert prf(score(gold, predicted)) == [None] * 3


def test_scorer_is_registered() -> None:
    assert registry.scorers.get("spacy-spanrel.pair_scorer.v1") is make_pair_scorer
    scores = make_pair_scorer()([Example(make(WORKS), make(WORKS))], threshold=0.5)
    assert prf(scores) == [1.0] * 3
