from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc, Span

from spacy_spanrel.annotations import get_relations, set_clusters
from spacy_spanrel.pairing import same_entities
from spacy_spanrel.rules import DeclaredRules, apply_rules, choose, read_rules

SAVED = Path(__file__).parent / "saved"
LABELS = ["parent", "child", "born", "capital", "married"]
SCORE = st.sampled_from([0.125, 0.25, 0.5, 0.75, 0.875, 1.0])
RELATION = st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 3)).filter(
    lambda r: r[1] != r[2]
)
RULES = st.lists(
    st.sampled_from(
        [
            ["inverse", "parent", "child"],
            ["max_tails", "born", 1],
            ["max_heads", "born", 2],
            ["max_tails", "capital", 1],
            ["max_heads", "capital", 1],
            ["max_tails", "married", 1],
            ["max_tails", "parent", 2],
            ["max_heads", "child", 1],
            ["no_self", "married"],
            ["no_self", "parent"],
            ["no_self"],
        ]
    ),
    max_size=6,
)


def arrays(rows: dict[tuple[int, int, int], float]) -> tuple[Any, Any, Any]:
    table = np.asarray(list(rows), dtype=np.int64).reshape(-1, 3)
    return table[:, 1:], table[:, 0], np.asarray(list(rows.values()), dtype=np.float32)


def obeys(relations: set[tuple[int, int, int]], rules: DeclaredRules, one_label: bool) -> bool:
    """Tell whether relations obey the rules, said as plainly as one can."""
    for label, head, tail in relations:
        other = rules.inverse.get(label)
        if other is not None and (other, tail, head) not in relations:
            return False
        tails = {r[2] for r in relations if r[:2] == (label, head)}
        heads = {r[1] for r in relations if r[::2] == (label, tail)}
        limits = [x[label] for x in (rules.max_tails, rules.max_heads) if label in x]
        if label in rules.symmetric:
            for entity in (head, tail):
                partners = [r for r in relations if r[0] == label and entity in r[1:]]
                if limits and len(partners) > min(limits):
                    return False
        elif len(tails) > rules.max_tails.get(label, 99) or len(heads) > rules.max_heads.get(
            label, 99
        ):
            return False
        if one_label and label not in rules.symmetric:
            others = [r for r in relations if r[1:] == (head, tail)]
            if len([r for r in others if r[0] not in rules.symmetric]) > 1:
                return False
    return True


@given(
    st.dictionaries(RELATION, SCORE, max_size=8),
    RULES,
    st.sets(st.tuples(st.integers(0, 3), st.integers(0, 3))),
    st.booleans(),
)
def test_the_best_relations_that_obey(
    rows: dict[tuple[int, int, int], float],
    setting: list[list[Any]],
    equal: set[tuple[int, int]],
    one_label: bool,
) -> None:
    rules = read_rules(setting or [["no_self", "born"]], LABELS, ["married"])
    assert rules is not None
    # Relations without a direction are merged before.
    rows = {r: s for r, s in rows.items() if r[0] != 4 or r[1] < r[2]}
    if one_label:
        rows = {r[1:]: (r, s) for r, s in rows.items()}.values()  # type: ignore[assignment]
        rows = dict(rows)
    is_self = [r[1:] in equal for r in rows]
    pairs, labels, scores = arrays(rows)
    before = pairs.copy()
    found_pairs, found_labels, found_scores = apply_rules(
        rules, pairs, labels, scores, np.asarray(is_self, dtype=bool), one_label=one_label
    )
    assert (pairs == before).all()
    found = {
        (label, *pair): score
        for label, pair, score in zip(
            found_labels.tolist(), found_pairs.tolist(), found_scores.tolist(), strict=True
        )
    }
    assert len(found) == len(found_labels)
    in_order = [(*r[1:], r[0]) for r in found]
    assert in_order == sorted(in_order)
    allowed = {
        r: s
        for (r, s), same in zip(rows.items(), is_self, strict=True)
        if not (same and rules.no_self & {r[0], rules.inverse.get(r[0])})
    }
    # A fact is a relation with its inverse, and has the better score of the two.
    facts: dict[frozenset[tuple[int, int, int]], float] = {}
    for (label, head, tail), score in allowed.items():
        members = {(label, head, tail)}
        if label in rules.inverse:
            members.add((rules.inverse[label], tail, head))
        fact = frozenset(members)
        facts[fact] = max(score, facts.get(fact, 0.0))
    for fact, score in facts.items():
        assert all(found.get(member, score) == score for member in fact)
    assert set(found) <= {member for fact in facts for member in fact}
    assert obeys(set(found), rules, one_label)
    best = max(
        sum(score for score, kept in zip(facts.values(), choice, strict=True) if kept)
        for choice in product([False, True], repeat=len(facts))
        if obeys(
            {m for fact, kept in zip(facts, choice, strict=True) if kept for m in fact},
            rules,
            one_label,
        )
    )
    reached = sum(score for fact, score in facts.items() if set(fact) <= set(found))
    assert reached == pytest.approx(best)


def test_no_rules() -> None:
    assert read_rules([], LABELS) is None


def test_exact_beats_greedy() -> None:
    """The best relation takes both places that two others need, which are better together."""
    rules = read_rules([["max_tails", "capital", 1], ["max_heads", "capital", 1]], LABELS)
    assert rules is not None
    rows = {(3, 0, 1): 0.875, (3, 0, 2): 0.75, (3, 3, 1): 0.75}
    pairs, _, scores = apply_rules(rules, *arrays(rows))
    assert pairs.tolist() == [[0, 2], [3, 1]]
    assert scores.tolist() == [0.75, 0.75]


@pytest.mark.parametrize("label", [0, 1])
def test_no_relation_implies_one_that_is_forbidden(label: int) -> None:
    rules = read_rules([["inverse", "parent", "child"], ["no_self", "parent"]], LABELS)
    assert rules is not None
    pairs, labels, scores = arrays({(label, 0, 1): 0.5, (label, 2, 3): 0.25})
    pairs, *_ = apply_rules(rules, pairs, labels, scores, np.asarray([True, False]))
    assert pairs.tolist() == [[2, 3], [3, 2]]


def test_inverse_is_added_with_the_better_score() -> None:
    rules = read_rules([["inverse", "parent", "child"]], LABELS)
    assert rules is not None
    rows = {(0, 0, 1): 0.5, (1, 1, 0): 0.75, (1, 2, 3): 0.25, (2, 0, 1): 0.125}
    pairs, labels, scores = apply_rules(rules, *arrays(rows))
    rows_found = zip(labels.tolist(), pairs.tolist(), scores.tolist(), strict=True)
    found = [(label, *pair, score) for label, pair, score in rows_found]
    assert found == [
        (0, 0, 1, 0.75),
        (2, 0, 1, 0.125),
        (1, 1, 0, 0.75),
        (1, 2, 3, 0.25),
        (0, 3, 2, 0.25),
    ]


@pytest.mark.parametrize("n", [30, 60, 2000])
def test_large_groups_are_at_least_greedy(n: int) -> None:
    rng = np.random.default_rng(n)
    weights = rng.random(n).tolist()
    places = [sorted({int(a), 10 + int(b)}) for a, b in rng.integers(0, 10, (n, 2))]
    capacities = [1] * 20
    keep = choose(weights, places, capacities)
    used: dict[int, int] = {}
    for i in np.flatnonzero(keep).tolist():
        for place in places[i]:
            used[place] = used.get(place, 0) + 1
    assert max(used.values()) <= 1
    free, greedy = set(range(20)), 0.0
    for i in sorted(range(n), key=lambda i: -weights[i]):
        if free.issuperset(places[i]):
            free -= set(places[i])
            greedy += weights[i]
    assert sum(np.asarray(weights)[keep]) >= greedy - 1e-9


def test_same_entities() -> None:
    doc = Doc(
        spacy.blank("en").vocab,
        words=["Ann", "Lee", "met", "ann", "lee", "and", "she", "met", "Bo"],
    )
    spans = [doc[0:2], doc[3:5], doc[6:7], doc[8:9]]
    both = [(a, b) for a in range(4) for b in range(4) if a < b]

    def found() -> set[tuple[int, int]]:
        same = same_entities(*([spans[pair[i]] for pair in both] for i in (0, 1)))
        return {pair for pair, is_same in zip(both, same.tolist(), strict=True) if is_same}

    assert found() == {(0, 1)}
    set_clusters(doc, [[doc[0:2], doc[6:7]]])
    assert found() == {(0, 1), (0, 2)}


def predicted(pipe: Any, doc: Doc) -> dict[tuple[str, int, int], float]:
    pipe.set_annotations([doc], pipe.predict([doc]))
    return {
        (r.label, r.head.start, r.tail.start): r.score
        for r in get_relations(doc, pipe.cfg["relations_key"])
    }


@pytest.mark.parametrize("component", ["span_relation", "relation_classifier"])
def test_components_obey(component: str) -> None:
    nlp = spacy.load(SAVED / component / "pipeline")
    pipe: Any = nlp.get_pipe(component)
    pipe.cfg.update(type_constraints="off", symmetric=[])
    labels = [x for x in pipe.labels if x != pipe.cfg["negative_label"]]
    if component == "span_relation":
        labels = list(pipe.relation_labels)
        pipe.cfg.update(relation_threshold=0.0, entities="doc", entities_key="given")
        kinds = pipe.entity_labels[:1] * 2
    else:
        pipe.cfg.update(negative_label=None)
        kinds = pipe.cfg["head_types"][0], pipe.cfg["tail_types"][0]
    docs = []
    for _ in range(2):
        doc = nlp.make_doc("Ann met Bo and Ann met Carl in Oslo .")
        ents = [Span(doc, 2 * i, 2 * i + 1, label=kinds[j]) for i, j in enumerate((0, 1, 1, 0, 1))]
        doc.spans["given"] = ents
        doc.set_ents(ents)
        docs.append(doc)
    free = predicted(pipe, docs[0])
    first = next(iter(free))[0]
    other = next(label for label in labels if label != first)

    pipe.cfg["rules"] = [["max_tails", first, 1]]
    ruled = predicted(pipe, docs[0])
    assert {r: s for r, s in ruled.items() if r[0] != first} == {
        r: s for r, s in free.items() if r[0] != first
    }
    heads = {head for label, head, _ in free if label == first}
    assert sorted(r[1] for r in ruled if r[0] == first) == sorted(heads)
    for label, head, tail in ruled:
        if label == first:
            best = max(s for r, s in free.items() if r[:2] == (first, head))
            assert free[first, head, tail] == best

    pipe.cfg["rules"] = [["no_self"]]
    texts = [token.text for token in docs[0]]
    ruled = predicted(pipe, docs[0])
    assert ruled == {r: s for r, s in free.items() if texts[r[1]] != texts[r[2]]}

    pipe.cfg["rules"] = [["inverse", first, other]]
    ruled = predicted(pipe, docs[0])
    for label, head, tail in ruled:
        if label in (first, other):
            inverse = (other if label == first else first, tail, head)
            assert ruled[inverse] == ruled[label, head, tail]
    # Docs that are read together are ruled apart.
    predictions = pipe.predict(docs)
    pipe.set_annotations(docs, predictions)
    assert [len(get_relations(doc, pipe.cfg["relations_key"])) for doc in docs] == [len(ruled)] * 2
