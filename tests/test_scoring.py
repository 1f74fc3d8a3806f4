from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc, Span
from spacy.training import Example

from spacy_spanrel.annotations import Relation, set_relations
from spacy_spanrel.scoring.counts import Counts, LabelledCounts
from spacy_spanrel.scoring.relations import make_relation_scorer, score_relations

VOCAB = spacy.blank("en").vocab
WORDS = ["John", "Smith", "works", "for", "Acme", "in", "Paris"]
ENTITIES = [(0, 2, "Per"), (4, 5, "Org"), (6, 7, "Loc")]

Row = tuple[tuple[int, int, str], tuple[int, int, str], str]


def make(
    entities: list[tuple[int, int, str]] | None,
    relations: list[Row],
    words: list[str] | None = None,
    spaces: list[bool] | None = None,
    spans_key: str = "entities",
    relations_key: str = "relations",
) -> Doc:
    doc = Doc(VOCAB, words=words or WORDS, spaces=spaces)
    if entities is not None:
        doc.spans[spans_key] = [Span(doc, s, e, label=label) for s, e, label in entities]
    arguments = [
        (Span(doc, *h[:2], label=h[2]), Span(doc, *t[:2], label=t[2]), label)
        for h, t, label in relations
    ]
    set_relations(doc, [Relation(h, t, label, 0.5) for h, t, label in arguments], relations_key)
    return doc


def score(gold: Doc, predicted: Doc, **cfg: Any) -> dict[str, Any]:
    return score_relations([Example(predicted, gold)], **cfg)


WORKS = (ENTITIES[0], ENTITIES[1], "works")
BASED = (ENTITIES[1], ENTITIES[2], "based")


def test_missed_relation_lowers_recall() -> None:
    # A scorer that looks only at predicted pairs would give a recall of 1.0.
    scores = score(make(ENTITIES, [WORKS, BASED]), make(ENTITIES, [WORKS]))
    assert (scores["rel_p"], scores["rel_r"]) == (1.0, 0.5)
    assert scores["rel_f"] == pytest.approx(2 / 3)
    assert scores["rel_strict_r"] == 0.5


@pytest.mark.parametrize("tail", [(4, 6, "Org"), (4, 5, "Loc")])
def test_entities_must_match_in_full(tail: tuple[int, int, str]) -> None:
    predicted = make([ENTITIES[0], tail], [(ENTITIES[0], tail, "works")])
    scores = score(make(ENTITIES, [WORKS]), predicted)
    assert scores["rel_strict_f"] == 0.0
    assert scores["ents_p"] == 0.5
    # rel_f compares only the boundaries of the entities, not their types.
    assert scores["rel_f"] == (1.0 if tail[:2] == (4, 5) else 0.0)


def test_label_and_direction_must_match() -> None:
    gold = make(ENTITIES, [WORKS])
    assert score(gold, make(ENTITIES, [(ENTITIES[0], ENTITIES[1], "based")]))["rel_f"] == 0.0
    assert score(gold, make(ENTITIES, [(ENTITIES[1], ENTITIES[0], "works")]))["rel_f"] == 0.0


def test_symmetric_relations_are_compared_in_text_order() -> None:
    gold = make(ENTITIES, [WORKS])
    reversed_doc = make(ENTITIES, [(ENTITIES[1], ENTITIES[0], "works")])
    assert score(gold, reversed_doc, symmetric=["works"])["rel_strict_f"] == 1.0
    assert score(reversed_doc, gold, symmetric=["works"])["rel_strict_f"] == 1.0
    assert score(gold, reversed_doc, symmetric=["based"])["rel_strict_f"] == 0.0
    both = make(ENTITIES, [WORKS, (ENTITIES[1], ENTITIES[0], "works")])
    assert score(gold, both, symmetric=["works"])["rel_p"] == 1.0


def test_scores_without_gold_are_none() -> None:
    empty = make([], [])
    for predicted in (empty, make(ENTITIES, [WORKS])):
        scores = score(empty, predicted)
        assert len(scores) == 21
        assert set(scores.values()) == {None}
    # With gold entities but no gold relations, only the relation scores are None.
    scores = score(make(ENTITIES, []), make(ENTITIES, [WORKS]))
    assert scores["ents_f"] == 1.0
    assert scores["rel_f"] is scores["rel_strict_f"] is scores["rel_per_type"] is None


def test_scores_without_predictions_are_zero() -> None:
    scores = score(make(ENTITIES, [WORKS]), make([], []))
    assert [scores[f"{name}_{x}"] for name in ("ents", "rel", "rel_strict") for x in "prf"] == [
        0.0
    ] * 9


def test_duplicates_count_once() -> None:
    gold = make(ENTITIES, [WORKS])
    doubled = make(ENTITIES + ENTITIES, [WORKS, WORKS])
    for reference, predicted in ((gold, doubled), (doubled, gold)):
        scores = score(reference, predicted)
        assert scores["ents_p"] == scores["ents_r"] == scores["rel_p"] == scores["rel_r"] == 1.0


def test_micro_macro_and_per_type() -> None:
    gold = make(ENTITIES, [WORKS, BASED])
    predicted = make(
        ENTITIES[:2],
        [WORKS, (ENTITIES[0], ENTITIES[2], "works"), (ENTITIES[0], ENTITIES[2], "odd")],
    )
    scores = score(gold, predicted)
    assert scores["rel_per_type"] == {
        "based": {"p": 0.0, "r": 0.0, "f": 0.0},
        "odd": {"p": 0.0, "r": 0.0, "f": 0.0},
        "works": {"p": 0.5, "r": 1.0, "f": pytest.approx(2 / 3)},
    }
    assert scores["rel_macro_p"] == pytest.approx(0.5 / 3)
    assert scores["rel_macro_f"] == pytest.approx(2 / 9)
    assert scores["rel_p"] == pytest.approx(1 / 3)
    assert scores["ents_per_type"]["Loc"] == {"p": 0.0, "r": 0.0, "f": 0.0}
    assert scores["ents_macro_r"] == pytest.approx(2 / 3)


def test_scores_of_several_examples_are_pooled() -> None:
    examples = [
        Example(make(ENTITIES, [WORKS]), make(ENTITIES, [WORKS])),
        Example(make([], []), make(ENTITIES, [WORKS, BASED])),
    ]
    scores = score_relations(examples)
    assert scores["rel_r"] == pytest.approx(1 / 3)
    assert scores["ents_r"] == 0.5


def test_tokenization_may_differ() -> None:
    words = ["John", "Smi", "th", "works", "for", "A", "cme", "in", "Paris"]
    spaces = [True, False, True, True, True, False, True, True, False]
    entities = [(0, 3, "Per"), (5, 7, "Org"), (8, 9, "Loc")]
    predicted = make(entities, [(entities[0], entities[1], "works")], words, spaces)
    assert predicted.text == " ".join(WORDS)
    scores = score(make(ENTITIES, [WORKS]), predicted)
    assert scores["ents_f"] == scores["rel_strict_f"] == 1.0
    # Nor does different whitespace between the words matter.
    spaced = ["John", " ", "Smith", "works", "for", "Acme", "\n", "in", "Paris"]
    entities = [(0, 3, "Per"), (5, 6, "Org"), (8, 9, "Loc")]
    predicted = make(entities, [(entities[0], entities[1], "works")], spaced)
    scores = score(make(ENTITIES, [WORKS]), predicted)
    assert scores["ents_f"] == scores["rel_strict_f"] == 1.0


def test_other_span_groups_and_given_entities() -> None:
    keys = {"spans_key": "sc", "relations_key": "links"}
    gold, predicted = make(ENTITIES, [WORKS], **keys), make(ENTITIES, [WORKS], **keys)
    assert score(gold, predicted, **keys)["rel_strict_f"] == 1.0
    assert score(gold, predicted)["rel_strict_f"] is None
    scores = score(gold, predicted, **keys, entities="doc")
    assert not [key for key in scores if key.startswith("ents")]
    assert scores["rel_strict_f"] == 1.0


def test_doc_ents_stand_in_for_a_missing_span_group() -> None:
    gold = make(None, [WORKS])
    gold.set_ents([Span(gold, s, e, label=label) for s, e, label in ENTITIES])
    assert score(gold, make(ENTITIES, [WORKS]))["ents_f"] == 1.0


def test_scorer_ignores_settings_of_other_steps() -> None:
    example = Example(make(ENTITIES, [WORKS]), make(ENTITIES, [WORKS]))
    scorer = make_relation_scorer()
    assert scorer([example], relation_threshold=0.4, overlaps="best")["rel_f"] == 1.0


def test_empty_counts() -> None:
    assert Counts().to_dict() == {"p": 0.0, "r": 0.0, "f": 0.0}
    assert LabelledCounts().macro() == {"p": 0.0, "r": 0.0, "f": 0.0}


# An independent evaluator, written with lists instead of sets and counters.

LABELS = ["x", "y"]
TYPES = ["A", "B"]
ARGUMENT = st.tuples(st.integers(0, 3), st.integers(1, 2), st.sampled_from(TYPES)).map(
    lambda a: (a[0], min(5, a[0] + a[1]), a[2])
)
ENTITY_ROWS = st.lists(ARGUMENT, max_size=4)
RELATION_ROWS = st.lists(st.tuples(ARGUMENT, ARGUMENT, st.sampled_from(LABELS)), max_size=5)
ANNOTATION = st.tuples(ENTITY_ROWS, RELATION_ROWS)


def naive_prf(gold: list[Any], predicted: list[Any]) -> dict[str, float]:
    correct = len([item for item in predicted if item in gold])
    p = correct / len(predicted) if predicted else 0.0
    r = correct / len(gold) if gold else 0.0
    return {"p": p, "r": r, "f": 2 * p * r / (p + r) if p + r else 0.0}


def naive_scores(name: str, gold: list[Any], predicted: list[Any]) -> dict[str, Any]:
    gold, predicted = list(dict.fromkeys(gold)), list(dict.fromkeys(predicted))
    per_type = {}
    for label in sorted({item[1] for item in gold + predicted}):
        per_type[label] = naive_prf(
            [item for item in gold if item[1] == label],
            [item for item in predicted if item[1] == label],
        )
    result: dict[str, Any] = {f"{name}_{k}": v for k, v in naive_prf(gold, predicted).items()}
    sums: dict[str, float] = defaultdict(float)
    for row in per_type.values():
        for key, value in row.items():
            sums[key] += value
    result.update({f"{name}_macro_{k}": sums[k] / max(1, len(per_type)) for k in "prf"})
    result[f"{name}_per_type"] = per_type
    return result if gold else dict.fromkeys(result)


def evaluate_naively(data: list[tuple[Any, Any]], symmetric: set[str]) -> dict[str, Any]:
    kinds: dict[str, tuple[list[Any], list[Any]]] = {
        name: ([], []) for name in ("ents", "rel", "rel_strict")
    }
    for number, both_sides in enumerate(data):
        for side, (entities, relations) in enumerate(both_sides):
            for start, end, kind in entities:
                kinds["ents"][side].append((number, kind, start, end))
            for head, tail, label in relations:
                if label in symmetric and (tail[:2], tail[2]) < (head[:2], head[2]):
                    head, tail = tail, head
                kinds["rel"][side].append((number, label, head[:2], tail[:2]))
                kinds["rel_strict"][side].append((number, label, head, tail))
    result: dict[str, Any] = {}
    for name, (gold, predicted) in kinds.items():
        result.update(naive_scores(name, gold, predicted))
    return result


@given(st.lists(st.tuples(ANNOTATION, ANNOTATION), max_size=3), st.sets(st.sampled_from(LABELS)))
def test_scores_equal_those_of_a_naive_evaluator(
    data: list[tuple[Any, Any]], symmetric: set[str]
) -> None:
    words = ["a", "b", "c", "d", "e"]
    examples = [
        Example(make(*predicted, words=words), make(*gold, words=words)) for gold, predicted in data
    ]
    scores = score_relations(examples, symmetric=symmetric)
    expected = evaluate_naively(data, symmetric)
    assert set(scores) == set(expected)
    for key, value in expected.items():
        if isinstance(value, dict):
            assert set(scores[key]) == set(value)
            for label, row in value.items():
                assert scores[key][label] == pytest.approx(row), (key, label)
        else:
            assert scores[key] == pytest.approx(value), key
