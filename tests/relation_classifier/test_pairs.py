from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spacy import registry
from spacy.tokens import Doc, Span
from spacy.vocab import Vocab

from spacy_spanrel import Relation, set_relations
from spacy_spanrel.pairing import sentence_of_tokens
from spacy_spanrel.relation_classifier.pairs import (
    EntityPairs,
    GivenPairs,
    ListedPairs,
    SpanPair,
    distance,
    find_pairs,
    nearest_pairs,
    pair_key,
)

from ..util import make_doc

VOCAB = Vocab()
WORDS = [f"w{i}" for i in range(12)]
Place = tuple[int, int]

A, B, C = (0, 2, "PER"), (4, 5, "ORG"), (9, 10, "LOC")


def places(pairs: Sequence[SpanPair]) -> list[tuple[Place, Place]]:
    return [((h.start, h.end), (t.start, t.end)) for h, t in pairs]


def both_ways(*spans: Place) -> set[tuple[Place, Place]]:
    return {(a, b) for a in spans for b in spans if a != b}


def start_sentences(doc: Doc, *starts: int) -> Doc:
    for token in doc:
        token.is_sent_start = token.i in starts
    return doc


def abc(*starts: int, **settings: Any) -> Doc:
    doc = make_doc(VOCAB, WORDS, [A, B, C], **settings)
    return start_sentences(doc, *starts) if starts else doc


def test_pairs_of_ents_in_both_directions() -> None:
    pairs = EntityPairs()(abc())
    assert len(pairs) == 6
    assert set(places(pairs)) == both_ways(A[:2], B[:2], C[:2])
    assert {(h.label_, t.label_) for h, t in pairs} == {
        (x, y) for x in ("PER", "ORG", "LOC") for y in ("PER", "ORG", "LOC") if x != y
    }


def test_pairs_of_a_span_group() -> None:
    doc = make_doc(VOCAB, WORDS, [A, B, (1, 2, "NAME")], key="mine")
    doc.set_ents([Span(doc, 7, 8, label="LOC"), Span(doc, 9, 10, label="LOC")])
    assert set(places(EntityPairs("mine")(doc))) == both_ways(A[:2], B[:2], (1, 2))
    assert set(places(EntityPairs()(doc))) == both_ways((7, 8), (9, 10))
    # `doc.ents` are not used instead.
    assert EntityPairs("other")(doc) == []


@pytest.mark.parametrize("entities", [[], [A]])
@pytest.mark.parametrize("scope", ["sentence", "doc"])
def test_nothing_to_pair(entities: list[tuple[int, int, str]], scope: Any) -> None:
    assert EntityPairs(scope=scope)(make_doc(VOCAB, WORDS, entities)) == []
    assert EntityPairs(scope=scope)(Doc(VOCAB)) == []


def test_sentences() -> None:
    doc = abc(0, 7)
    assert set(places(EntityPairs()(doc))) == both_ways(A[:2], B[:2])
    assert set(places(EntityPairs(scope="doc")(doc))) == both_ways(A[:2], B[:2], C[:2])
    # Without sentence borders the Doc is one sentence.
    assert len(EntityPairs()(abc())) == 6


def test_entity_across_a_sentence_border() -> None:
    doc = start_sentences(make_doc(VOCAB, WORDS, [A, (6, 8, "X"), B, C], key="mine"), 0, 7)
    assert set(places(EntityPairs("mine")(doc))) == both_ways(A[:2], B[:2])
    everything = both_ways(A[:2], B[:2], C[:2], (6, 8))
    assert set(places(EntityPairs("mine", scope="doc")(doc))) == everything


@pytest.mark.parametrize(
    ("limit", "n"), [(None, 6), (7, 6), (6, 4), (4, 4), (3, 2), (2, 2), (1, 0)]
)
def test_max_distance(limit: int | None, n: int) -> None:
    # There are 2, 4 and 7 tokens between the three entities.
    assert len(EntityPairs(max_distance=limit)(abc())) == n


def test_distance() -> None:
    doc = Doc(VOCAB, words=WORDS)
    spans = {(a, b): distance(doc[slice(*a)], doc[slice(*b)]) for a, b in both_ways(*PLACES)}
    for ((a, b), (c, d)), found in spans.items():
        assert found == len(set(range(min(a, c), max(b, d))) - {*range(a, b)} - {*range(c, d)})
    assert spans[(0, 2), (2, 3)] == spans[(0, 4), (1, 2)] == 0
    assert spans[(0, 2), (7, 9)] == spans[(7, 9), (0, 2)] == 5


PLACES = [(0, 2), (2, 3), (0, 4), (1, 2), (7, 9), (10, 12)]


def test_repetitions() -> None:
    doc = make_doc(VOCAB, WORDS, [A, B, A, B, B], key="mine")
    pairs = EntityPairs("mine")(doc)
    assert len(pairs) == 2
    assert set(places(pairs)) == both_ways(A[:2], B[:2])
    # A token range with two types is two entities, but they are not paired.
    doc = make_doc(VOCAB, WORDS, [A, B, (4, 5, "LOC")], key="mine")
    pairs = EntityPairs("mine")(doc)
    assert len(pairs) == 4
    assert set(places(pairs)) == both_ways(A[:2], B[:2])
    assert {t.label_ for h, t in pairs if h.label_ == "PER"} == {"ORG", "LOC"}


def test_pairs_that_are_asked_for() -> None:
    doc = abc(relations=[(2, 0, ""), (0, 1, "works"), (2, 0, "")])
    (pair,) = EntityPairs()(doc)
    assert [(s.start, s.end, s.label_) for s in pair] == [C, A]
    assert len(EntityPairs(given=False)(doc)) == 6
    # Given pairs may cross sentences, at any distance.
    start_sentences(doc, 0, 7)
    assert places(EntityPairs(max_distance=0)(doc)) == [(C[:2], A[:2])]
    # Relations with a label do not restrict the pairs.
    assert len(EntityPairs()(abc(relations=[(0, 1, "works")]))) == 6


def test_given_pairs() -> None:
    doc = abc(relations=[(2, 0, ""), (0, 1, "works"), (0, 1, "no_relation"), (0, 0, "odd")])
    pairs = GivenPairs()(doc)
    assert places(pairs) == [(C[:2], A[:2]), (A[:2], B[:2])]
    assert [(h.label_, t.label_) for h, t in pairs] == [("LOC", "PER"), ("PER", "ORG")]
    assert GivenPairs("other")(doc) == []
    set_relations(doc, [Relation(doc.ents[1], doc.ents[2], "based")], "other")
    assert places(GivenPairs("other")(doc)) == [(B[:2], C[:2])]
    assert GivenPairs()(abc()) == []


def test_generators_are_registered() -> None:
    assert registry.misc.get("spacy-spanrel.EntityPairs.v1") is EntityPairs
    assert registry.misc.get("spacy-spanrel.GivenPairs.v1") is GivenPairs


# Too many pairs

SPANS = st.tuples(st.integers(0, 9), st.integers(1, 3)).map(lambda s: (s[0], s[0] + s[1]))


@given(st.lists(st.tuples(SPANS, SPANS), max_size=10), st.integers(1, 12))
def test_nearest_pairs(pairs: list[tuple[Place, Place]], n: int) -> None:
    doc = Doc(VOCAB, words=WORDS)
    spans = [(doc[slice(*head)], doc[slice(*tail)]) for head, tail in pairs]
    ranked = sorted(range(len(pairs)), key=lambda i: (distance(*spans[i]), i))
    found = nearest_pairs(spans, n)
    assert places(found) == [pairs[i] for i in sorted(ranked[:n])]


@given(st.lists(SPANS, max_size=30), st.none() | st.integers(0, 8))
def test_pairs_within_a_distance(ranges: list[Place], limit: int | None) -> None:
    doc = make_doc(VOCAB, WORDS, [(*place, "X") for place in ranges], key="mine")
    near = [
        pair
        for pair in places(list(permutations([doc[slice(*place)] for place in ranges], 2)))
        if pair[0] != pair[1]
        and (limit is None or distance(doc[slice(*pair[0])], doc[slice(*pair[1])]) <= limit)
    ]
    # In their order, each pair once.
    assert places(EntityPairs("mine", max_distance=limit)(doc)) == list(dict.fromkeys(near))


TYPES = st.sampled_from("XYZ")


@given(
    st.lists(st.tuples(SPANS, TYPES).map(lambda e: (*e[0], e[1])), max_size=14),
    st.sets(st.tuples(TYPES, TYPES)),
    st.sets(st.integers(1, 11)),
    st.none() | st.integers(1, 40),
    st.none() | st.integers(0, 8),
    st.sampled_from(["sentence", "doc"]),
)
def test_pairs_are_chosen_as_from_a_list(
    entities: list[tuple[int, int, str]],
    allowed: set[tuple[str, str]],
    starts: set[int],
    max_pairs: int | None,
    max_distance: int | None,
    scope: Any,
) -> None:
    """Entities are paired, sorted out by type and cut to the nearest pairs without a list of all
    pairs. The result is that of the definition: all ordered pairs in the order of sentences (by
    their first entity) and entities, repetitions once; those of allowed types; the nearest."""
    doc = start_sentences(make_doc(VOCAB, WORDS, entities, key="mine"), *starts, 0)
    sentence = sentence_of_tokens(doc) if scope == "sentence" else np.zeros(len(doc), dtype=int)
    groups: dict[int, list[Span]] = {}
    for start, end, label in dict.fromkeys(entities):
        if sentence[start] == sentence[end - 1]:
            span = Span(doc, start, end, label=label)
            groups.setdefault(sentence[start], []).append(span)
    listed = ListedPairs(
        [
            (head, tail)
            for group in groups.values()
            for head, tail in permutations(group, 2)
            if (head.start, head.end) != (tail.start, tail.end)
            and (max_distance is None or distance(head, tail) <= max_distance)
        ]
    )
    pairs = find_pairs(EntityPairs("mine", scope, max_distance), doc, "relations")
    assert len(pairs) == len(listed)
    for head, tail in permutations([doc[start:end] for start, end, _ in entities], 2):
        assert (pair_key((head, tail)) in pairs) == (pair_key((head, tail)) in listed)
    chosen = pairs.choose(lambda head, tail: (head, tail) in allowed, max_pairs)
    expected = listed.choose(lambda head, tail: (head, tail) in allowed, max_pairs)
    assert chosen.refused == expected.refused
    assert chosen.n_beyond == expected.n_beyond
    assert [[(s.start, s.end, s.label_) for s in pair] for pair in chosen.pairs] == [
        [(s.start, s.end, s.label_) for s in pair] for pair in expected.pairs
    ]


def test_nearest_pairs_keep_their_order() -> None:
    pairs = EntityPairs()(abc())
    kept = nearest_pairs(pairs, 4)
    assert set(places(kept)) == both_ways(A[:2], B[:2]) | both_ways(B[:2], C[:2])
    assert places(kept) == [pair for pair in places(pairs) if pair in places(kept)]


# Sentences


def test_sentence_of_tokens() -> None:
    assert sentence_of_tokens(abc()).tolist() == [0] * 12
    assert sentence_of_tokens(abc(0, 3, 7)).tolist() == [0] * 3 + [1] * 4 + [2] * 5
    # The first token starts a sentence, even if it is not marked.
    assert sentence_of_tokens(abc(3)).tolist() == [0] * 3 + [1] * 9
    doc = abc()
    doc[4].is_sent_start = True
    assert sentence_of_tokens(doc).tolist() == [0] * 4 + [1] * 8
    assert sentence_of_tokens(Doc(VOCAB)).tolist() == []


@given(st.sets(st.integers(0, 11)))
def test_sentences_are_those_of_the_doc(starts: set[int]) -> None:
    doc = start_sentences(Doc(VOCAB, words=WORDS), *starts)
    expected = np.concatenate([[i] * len(sentence) for i, sentence in enumerate(doc.sents)])
    assert sentence_of_tokens(doc).tolist() == expected.tolist()
