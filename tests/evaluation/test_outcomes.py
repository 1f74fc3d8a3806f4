from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc

from spacy_spanrel.annotations import Answer, Question, make_answer, set_answers, set_questions
from spacy_spanrel.evaluation import (
    Outcome,
    add_up,
    answer_outcomes,
    cells_of,
    pair_outcomes,
    relation_outcomes,
)
from spacy_spanrel.evaluation.outcomes import count_true_negatives
from spacy_spanrel.scoring.answers import score_answers
from spacy_spanrel.scoring.relations import score_pairs, score_relations

from .util import ACME, JOHN, PARIS, WORDS, Entity, make, pair_up, seen

N = len(WORDS)


@st.composite
def docs(draw: Any, *, negative: bool = False) -> Doc:
    """Annotations of a text with spans that have several types, overlap or repeat."""
    places = st.integers(0, N - 1).flatmap(
        lambda start: st.tuples(st.just(start), st.integers(start + 1, min(N, start + 2)))
    )
    entity = st.builds(lambda place, label: (*place, label), places, st.sampled_from(["A", "B"]))
    labels = ["x", "y", "both"] + (["no_relation", ""] if negative else [])
    relation = st.tuples(entity, entity, st.sampled_from(labels))
    return make(
        draw(st.none() | st.lists(entity, max_size=6)),
        draw(st.none() | st.lists(relation, max_size=6)),
        spaces=draw(st.lists(st.booleans(), min_size=N, max_size=N)),
    )


def add_up_as(scores: dict[str, Any], outcomes: list[Outcome], names: set[str]) -> None:
    """The counts of all outcomes give exactly the scores of the scorer."""
    totals = add_up(outcomes)
    assert set(totals) <= names
    for name in names:
        if scores[f"{name}_f"] is None:  # no gold
            assert name not in totals or totals[name].tp + totals[name].fn == 0
            continue
        total = totals[name]
        found = (total.precision, total.recall, total.fscore)
        assert found == tuple(scores[f"{name}_{x}"] for x in "prf")


@given(st.lists(st.tuples(docs(), docs()), min_size=1, max_size=3))
def test_outcomes_of_relations_add_up_to_the_scorer(pairs: list[tuple[Doc, Doc]]) -> None:
    examples = pair_up(*pairs)
    outcomes = list(relation_outcomes(examples, symmetric=["both"]))
    scores = score_relations(examples, symmetric=["both"])
    add_up_as(scores, outcomes, {"ents", "rel", "rel_strict"})


@given(st.lists(st.tuples(docs(negative=True), docs(negative=True)), min_size=1, max_size=3))
def test_outcomes_of_pairs_add_up_to_the_scorer(pairs: list[tuple[Doc, Doc]]) -> None:
    examples = pair_up(*pairs)
    outcomes = list(pair_outcomes(examples, symmetric=["both"]))
    add_up_as(score_pairs(examples, symmetric=["both"]), outcomes, {"rel"})
    assert {"", "no_relation"}.isdisjoint(label for row in seen(outcomes) for label in row[2:])


@given(docs(), docs())
def test_every_annotation_is_in_one_outcome(gold: Doc, predicted: Doc) -> None:
    outcomes = list(relation_outcomes(pair_up((gold, predicted))))
    for doc, side in ((gold, "gold"), (predicted, "predicted")):
        entities = {(s.label_, s.start, s.end) for s in doc.spans.get("entities", ())}
        relations = {
            (r.label, *((s.start, s.end, s.label_) for s in (r.head, r.tail)))
            for r in doc._.relations
        }
        kinds = Counter(o.kind for o in outcomes if getattr(o, side) is not None)
        assert kinds["entity"] == len(entities)
        assert kinds["relation"] == len(relations)
    for outcome in outcomes:
        for part in (outcome.gold, outcome.predicted):
            for mention in part.mentions if part else ():
                # Mentions and sentences are offsets in the gold text, whatever its whitespace.
                assert gold.text[mention.start : mention.end] == mention.text
                assert mention.text.strip()
                assert outcome.sentence[0] <= mention.start <= mention.end <= outcome.sentence[1]


def only(gold: Doc, predicted: Doc, **cfg: Any) -> list[Any]:
    return seen(relation_outcomes(pair_up((gold, predicted)), **cfg))


@pytest.mark.parametrize(
    ("gold", "predicted", "wanted"),
    [
        ([JOHN], [JOHN], [("correct", "Per", "Per")]),
        ([JOHN], [(0, 2, "Org")], [("wrong type", "Per", "Org")]),
        ([JOHN], [(1, 2, "Per")], [("wrong boundaries", "Per", "Per")]),
        ([JOHN], [(1, 2, "Org")], [("missed", "Per", None), ("spurious", None, "Org")]),
        ([JOHN], [], [("missed", "Per", None)]),
        ([], [JOHN], [("spurious", None, "Per")]),
        # The prediction that overlaps most is matched with the gold entity.
        (
            [(0, 3, "Per")],
            [(2, 3, "Per"), (0, 2, "Per")],
            [("wrong boundaries", "Per", "Per"), ("spurious", None, "Per")],
        ),
    ],
)
def test_entities(gold: list[Entity], predicted: list[Entity], wanted: list[Any]) -> None:
    found = only(make(gold, []), make(predicted, []))
    assert found == [("entity", *row) for row in wanted]


@pytest.mark.parametrize(
    ("predicted", "wanted"),
    [
        ((JOHN, ACME, "works"), [("correct", "works", "works")]),
        ((JOHN, ACME, "owns"), [("wrong type", "works", "owns")]),
        ((JOHN, (4, 5, "Loc"), "works"), [("wrong argument types", "works", "works")]),
        ((JOHN, (4, 5, "Loc"), "owns"), [("wrong type", "works", "owns")]),
        (((1, 2, "Per"), ACME, "works"), [("wrong boundaries", "works", "works")]),
        ((JOHN, PARIS, "works"), [("missed", "works", None), ("spurious", None, "works")]),
        ((ACME, JOHN, "works"), [("missed", "works", None), ("spurious", None, "works")]),
    ],
)
def test_relations(predicted: Any, wanted: list[Any]) -> None:
    found = only(make([], [(JOHN, ACME, "works")]), make([], [predicted]))
    assert found == [("relation", *row) for row in wanted]


def test_wrong_argument_types_count_by_boundaries_only() -> None:
    gold, predicted = make([], [(JOHN, ACME, "x")]), make([], [(JOHN, (4, 5, "Loc"), "x")])
    totals = add_up(relation_outcomes(pair_up((gold, predicted))))
    assert (totals["rel"].tp, totals["rel"].fp, totals["rel"].fn) == (1, 0, 0)
    strict = totals["rel_strict"]
    assert (strict.tp, strict.fp, strict.fn) == (0, 1, 1)


def test_symmetric_relations_are_the_same_in_both_directions() -> None:
    gold, predicted = make([], [(JOHN, ACME, "x")]), make([], [(ACME, JOHN, "x")])
    for outcomes in (relation_outcomes, pair_outcomes):
        examples = pair_up((gold, predicted))
        (found,) = outcomes(examples, symmetric=["x"])
        assert found.status == "correct"
        # Gold and prediction both have the arguments in the order of the text.
        assert [m.text for m in found.predicted.mentions] == ["John Smith", "Acme"]
        assert len(list(outcomes(examples))) == 2


def test_given_entities_are_no_outcomes() -> None:
    assert only(make([JOHN], []), make([], []), entities="doc") == []


def test_scores_come_from_the_predictions() -> None:
    gold = make([JOHN], [(JOHN, ACME, "x")], score=None)
    predicted = make([JOHN, ACME], [(JOHN, ACME, "x")], score=0.25)
    assert [o.score for o in relation_outcomes(pair_up((gold, predicted)))] == [0.25] * 3
    assert [o.score for o in relation_outcomes(pair_up((predicted, make([], []))))] == [None] * 3


def test_of_repeated_predictions_the_best_counts() -> None:
    predicted = make([JOHN, JOHN], [])
    predicted.spans["entities"].attrs["scores"] = [0.2, 0.7]
    (found,) = relation_outcomes(pair_up((make([JOHN], []), predicted)))
    assert (found.status, found.score) == ("correct", 0.7)


def test_sentence_and_id_of_the_gold_doc() -> None:
    words = ["Ann", "sings", ".", "Bo", "lives", "in", "Rome", "."]
    gold = Doc(
        make([], []).vocab, words=words, sent_starts=[True, False, False] + [True] + [False] * 4
    )
    predicted = make([(0, 1, "Per"), (6, 7, "Loc")], [((0, 1, "Per"), (6, 7, "Loc"), "x")], words)
    gold.spans["entities"] = []
    gold.spans["entities"].attrs["orig_id"] = "s-7"
    ann, rome, relation = relation_outcomes(pair_up((gold, predicted)))
    texts = [gold.text[slice(*o.sentence)].strip() for o in (ann, rome, relation)]
    assert texts == ["Ann sings .", "Bo lives in Rome .", gold.text.strip()]
    assert (ann.source.id, ann.source.number) == ("s-7", 0)


def test_other_tokens_and_white_space_do_not_matter() -> None:
    spaces = [True] * N
    gold = make([JOHN], [], WORDS, [False, *spaces[1:]])
    predicted = make([(0, 1, "Per")], [], ["JohnSmith", *WORDS[2:]], [False, *spaces[2:]])
    assert gold.text != predicted.text
    (found,) = relation_outcomes(pair_up((gold, predicted)))
    assert found.status == "correct"
    assert found.predicted.mentions == found.gold.mentions
    assert found.gold.mentions[0].text == "JohnSmith"


def test_true_negatives() -> None:
    pairs = [(JOHN, ACME, "no_relation"), (ACME, JOHN, "no_relation"), (JOHN, PARIS, "x")]
    gold = make([], [*pairs, (JOHN, PARIS, "no_relation")])
    cfg: dict[str, Any] = {"negative_label": "no_relation"}

    def count(*rows: Any, **more: Any) -> int:
        return count_true_negatives(pair_up((gold, make([], rows))), **cfg, **more)

    assert count() == 2  # a pair that also has a relation is not negative
    assert count((JOHN, ACME, "x")) == 1
    assert count((JOHN, ACME, "x"), symmetric=["x"]) == 0
    assert count((JOHN, ACME, "no_relation"), (ACME, JOHN, "")) == 2
    assert count((PARIS, ACME, "x")) == 2


# Answers

NLP = spacy.blank("en")
TEXT = "the old John Smith lives in the city of Paris"


def answered(*answers: tuple[str, list[str]], score: float | None = None) -> Doc:
    """Return a Doc with answers, given as (id, texts); no text for no answer."""
    doc = NLP.make_doc(TEXT)
    made = []
    for name, texts in answers:
        question = Question(name, f"{name}?")
        more: dict[str, Any] = (
            {} if score is None else {"score": score, "null_score": 0.0, "logit": 1.0}
        )
        places = [(TEXT.index(text), TEXT.index(text) + len(text)) for text in texts]
        others = tuple(make_answer(doc, question, *place, **more) for place in places[1:])
        if places:
            made.append(make_answer(doc, question, *places[0], alternatives=others, **more))
        else:
            made.append(Answer(question, **{k: v for k, v in more.items() if k != "logit"}))
    set_answers(doc, made)
    return doc


SPANS = ["John", "John Smith", "old John Smith", "the", "city of Paris", "Paris", "the city"]


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from(SPANS), max_size=2), st.none() | st.sampled_from([*SPANS, ""])
        ),
        min_size=1,
        max_size=5,
    )
)
def test_outcomes_of_answers_average_to_the_scorer(
    rows: list[tuple[list[str], str | None]],
) -> None:
    gold = answered(*((f"q{i}", texts) for i, (texts, _) in enumerate(rows)))
    predicted = answered(
        *(
            (f"q{i}", [text] if text else [])
            for i, (_, text) in enumerate(rows)
            if text is not None
        ),
        score=0.5,
    )
    examples = pair_up((gold, predicted))
    outcomes = list(answer_outcomes(examples))
    scores = score_answers(examples)
    assert len(outcomes) == scores["qa_total"] == len(rows)
    for name in ("exact", "f1"):
        values = [getattr(outcome.answer, name) for outcome in outcomes]
        assert sum(values) / len(values) == pytest.approx(scores[f"qa_{name}"])
    right = [outcome for outcome in outcomes if outcome.status == "correct"]
    assert len(right) / len(rows) == pytest.approx(scores["qa_exact"])
    assert add_up(outcomes) == {}


@pytest.mark.parametrize(
    ("references", "text", "status", "cell"),
    [
        (["John", "John Smith"], "John Smith", "correct", ("answer", "answer")),
        (["the city"], "city of Paris", "wrong boundaries", ("answer", "answer")),
        (["John"], "Paris", "wrong answer", ("answer", "answer")),
        (["John"], "", "missed", ("answer", None)),
        (["John"], None, "missed", ("answer", None)),
        ([], "Paris", "spurious", (None, "answer")),
        ([], "", "correct", (None, None)),
    ],
)
def test_answers(references: list[str], text: str | None, status: str, cell: Any) -> None:
    predicted = answered(*([] if text is None else [("q", [text] if text else [])]), score=0.5)
    (found,) = answer_outcomes(pair_up((answered(("q", references)), predicted)))
    assert found.status == status
    assert cells_of(found) == [cell]
    assert found.answer.references == tuple(references)
    assert found.answer.predicted == (text or "")
    assert found.score == (None if text is None else 0.5)  # also for "no answer"


def test_questions_without_gold_answers_are_no_outcomes() -> None:
    gold = NLP.make_doc(TEXT)
    set_questions(gold, ["who?"])
    assert list(answer_outcomes(pair_up((gold, answered(("q1", ["John"]), score=0.5))))) == []
