from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_spanrel import pairing
from spacy_spanrel.pairing import distances, entity_pairs, in_scope, text_ends, window_ends
from spacy_spanrel.span_relation.candidates import (
    all_spans,
    overlaps,
    sample_negative_pairs,
    sample_negative_spans,
)

LENGTHS = st.lists(st.integers(0, 7), max_size=5)
SPAN = st.tuples(st.integers(0, 30), st.integers(1, 4)).map(lambda s: (s[0], s[0] + s[1]))
SPANS = st.lists(SPAN, max_size=9)


def to_offsets(lengths: list[int]) -> np.ndarray:
    return np.cumsum([0, *lengths]).astype(np.int64)


def to_array(rows: list[tuple[int, int]]) -> np.ndarray:
    return np.asarray(rows, dtype=np.int64).reshape(-1, 2)


def adjacent_spans(n: int) -> np.ndarray:
    return to_array([(i, i + 1) for i in range(n)])


def to_tuples(rows: np.ndarray) -> list[tuple[int, int]]:
    return [tuple(row) for row in rows.tolist()]


@given(LENGTHS, st.integers(1, 5))
def test_all_spans(lengths: list[int], max_size: int) -> None:
    offsets = to_offsets(lengths)
    expected = [
        (start, end)
        for first, last in zip(offsets, offsets[1:], strict=False)
        for start in range(first, last)
        for end in range(start + 1, min(last, start + max_size) + 1)
    ]
    assert to_tuples(all_spans(text_ends(offsets), max_size)) == expected


@given(st.integers(0, 8), st.integers(1, 4), SPANS, st.integers(0, 40), st.integers(0, 5))
def test_negative_spans(
    n_tokens: int, max_size: int, gold: list[tuple[int, int]], count: int, seed: int
) -> None:
    candidates = all_spans(np.full(n_tokens, n_tokens), max_size)
    drawn = to_tuples(
        sample_negative_spans(candidates, to_array(gold), count, np.random.default_rng(seed))
    )
    free = set(to_tuples(candidates)) - set(gold)
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= free
    assert len(drawn) == min(count, len(free))


@given(
    st.integers(1, 8),
    SPANS,
    st.integers(0, 20),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.booleans(),
    st.integers(0, 3),
)
def test_hard_negative_spans(
    n_tokens: int,
    gold: list[tuple[int, int]],
    count: int,
    hard: float,
    neighbours: bool,
    seed: int,
) -> None:
    gold = [span for span in gold if span[1] <= n_tokens]
    candidates = all_spans(np.full(n_tokens, n_tokens), 4)
    rng = np.random.default_rng(seed)
    drawn = to_tuples(
        sample_negative_spans(candidates, to_array(gold), count, rng, hard, neighbours)
    )
    free = set(to_tuples(candidates)) - set(gold)
    around = {
        (start, end)
        for start, end in free
        if any(abs(start - a) + abs(end - b) == 1 for a, b in gold) and neighbours
    }
    touching = {(s, e) for s, e in free if any(s <= b and a <= e for a, b in gold)} - around
    assert len(set(drawn)) == len(drawn) == min(max(count, len(around)), len(free))
    assert around <= set(drawn) <= free
    n_drawn = len(drawn) - len(around)
    assert len(touching & set(drawn)) >= min(len(touching), round(hard * n_drawn))


@given(SPANS, SPANS)
def test_overlaps(spans: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    expected = [[bool({*range(*a)} & {*range(*b)}) for b in others] for a in spans]
    assert overlaps(to_array(spans), to_array(others)).tolist() == expected


def test_hard_negative_pairs_come_first() -> None:
    related = to_array([(0, 1)])
    types = np.asarray([1, 2, 1, 2, 3])
    for seed in range(5):
        rng = np.random.default_rng(seed)
        drawn = sample_negative_pairs(adjacent_spans(5), related, 4, rng, hard=1.0, types=types)
        # The reversed pair, and the pairs of a type 1 and a type 2.
        assert {*to_tuples(drawn)} == {(1, 0), (0, 3), (2, 1), (2, 3)}
        rng = np.random.default_rng(seed)
        drawn = sample_negative_pairs(adjacent_spans(5), related, 8, rng, hard=0.5, types=types)
        assert {*to_tuples(drawn)} >= {(1, 0), (0, 3), (2, 1), (2, 3)}
        assert len({*to_tuples(drawn)} - {(0, 1)}) == 8


@given(
    st.integers(0, 5),
    st.sets(st.tuples(st.integers(0, 4), st.integers(0, 4))),
    st.integers(0, 25),
    st.integers(0, 5),
)
def test_negative_pairs(n: int, related: set[tuple[int, int]], count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    related_pairs = to_array(sorted(pair for pair in related if max(pair) < n))
    drawn = to_tuples(sample_negative_pairs(adjacent_spans(n), related_pairs, count, rng))
    free = set(permutations(range(n), 2)) - related
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= free
    assert len(drawn) == min(count, len(free))


def test_negatives_are_drawn_from_all_candidates() -> None:
    """Every candidate can be drawn, and the same seed draws the same ones."""
    candidates = all_spans(np.full(6, 6), 3)
    empty = to_array([])
    rng = np.random.default_rng(1)
    seen = {
        span
        for _ in range(50)
        for span in to_tuples(sample_negative_spans(candidates, empty, 3, rng))
    }
    assert seen == set(to_tuples(candidates))
    again = [
        to_tuples(
            sample_negative_pairs(
                adjacent_spans(5), to_array([(0, 1)]), 4, np.random.default_rng(7)
            )
        )
        for _ in range(2)
    ]
    assert again[0] == again[1]


def naive_pairs(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(a, b) for a, b in permutations(range(len(spans)), 2) if spans[a] != spans[b]]


def gap(spans: list[tuple[int, int]], pair: tuple[int, int]) -> int:
    (start_a, end_a), (start_b, end_b) = spans[pair[0]], spans[pair[1]]
    return max(0, start_b - end_a, start_a - end_b)


@given(st.lists(SPANS, max_size=4))
def test_entity_pairs_are_all_ordered_pairs_of_different_spans(
    docs: list[list[tuple[int, int]]],
) -> None:
    spans = [span for doc in docs for span in sorted(doc)]
    index = np.asarray([d for d, doc in enumerate(docs) for _ in doc], dtype=np.int64)
    expected = [
        (a, b)
        for a, b in permutations(range(len(spans)), 2)
        if index[a] == index[b] and spans[a] != spans[b]
    ]
    pairs, cut = entity_pairs(to_array(spans), index, 1000)
    assert to_tuples(pairs) == sorted(expected)
    assert cut.shape == (0, 4)


@given(SPANS, st.integers(1, 30), st.booleans())
def test_max_pairs_keeps_the_nearest(
    spans: list[tuple[int, int]], max_pairs: int, in_order: bool
) -> None:
    spans = sorted(spans) if in_order else spans
    pairs, cut = entity_pairs(to_array(spans), np.full(len(spans), 3), max_pairs)
    kept, everything = to_tuples(pairs), naive_pairs(spans)
    assert len(set(kept)) == len(kept)
    assert set(kept) <= set(everything)
    assert kept == sorted(kept)
    # Pairs are kept in both directions, so an odd limit keeps one pair less.
    expected = min(len(everything), max(1, max_pairs - max_pairs % 2))
    assert len(kept) == expected
    lost = len(everything) - len(kept)
    assert cut.tolist() == ([[3, 0, 0, lost]] if lost else [])
    distances = sorted(gap(spans, pair) for pair in everything)
    assert sorted(gap(spans, pair) for pair in kept) == distances[:expected]
    if max_pairs > 1:
        assert {(b, a) for a, b in kept} == set(kept)


def test_ties_go_to_the_pair_that_comes_first_in_the_text() -> None:
    spans = to_array([(0, 1), (2, 3), (4, 5), (6, 7)])  # neighbours are one token apart
    pairs, cut = entity_pairs(spans, np.zeros(4, dtype=np.int64), 4)
    assert to_tuples(pairs) == [(0, 1), (1, 0), (1, 2), (2, 1)]
    assert cut.tolist() == [[0, 0, 0, 8]]


def test_span_with_two_types_is_not_paired_with_itself() -> None:
    spans = to_array([(0, 2), (0, 2), (3, 4)])
    for max_pairs in (1000, 4):
        pairs, cut = entity_pairs(spans, np.zeros(3, dtype=np.int64), max_pairs)
        assert to_tuples(pairs) == [(0, 2), (1, 2), (2, 0), (2, 1)]
        assert not len(cut)


def test_limit_holds_for_each_doc() -> None:
    spans = to_array([(i, i + 1) for i in range(5)] * 2)
    docs = np.repeat([0, 1], 5)
    pairs, cut = entity_pairs(spans, docs, 6)
    assert np.bincount(docs[pairs[:, 0]]).tolist() == [6, 6]
    assert cut.tolist() == [[0, 0, 0, 14], [1, 0, 0, 14]]


@pytest.mark.parametrize("n", [2_000])
def test_many_entities_do_not_build_all_pairs(n: int) -> None:
    spans = to_array([(i, i + 1) for i in range(n)])
    pairs, cut = entity_pairs(spans, np.zeros(n, dtype=np.int64), 100)
    assert len(pairs) == 100
    assert cut.tolist() == [[0, 0, 0, n * (n - 1) - 100]]


# Pairs within `scope` and `max_distance`


@st.composite
def texts_and_spans(
    draw: st.DrawFn,
) -> tuple[list[tuple[int, int]], list[tuple[int, int]], list[bool]]:
    """Draw windows over a text, each of which begins and ends after the one before it; spans of the
    text in any order, which may cross window borders; and whether to sort the spans."""
    n_windows = draw(st.integers(1, 6))
    steps = st.lists(st.integers(1, 6), min_size=n_windows, max_size=n_windows)
    starts = np.cumsum(draw(steps)) - 1
    starts -= starts[0]
    ends = np.maximum.accumulate(starts + np.asarray(draw(steps)) + draw(st.integers(0, 6)))
    windows = list(zip(starts.tolist(), ends.tolist(), strict=True))
    last = windows[-1][1]
    starts_at = draw(st.lists(st.integers(0, last - 1), max_size=12))
    spans = [(start, min(last, start + draw(st.integers(1, 4)))) for start in starts_at]
    return windows, spans, draw(st.booleans())


def holds(window: tuple[int, int], *spans: tuple[int, int]) -> bool:
    return all(window[0] <= start and end <= window[1] for start, end in spans)


@given(texts_and_spans())
def test_pairs_in_scope_are_those_that_one_window_holds(case) -> None:
    windows, spans, _ = case
    reach = window_ends(to_array(windows), windows[-1][1])
    assert (np.diff(reach) >= 0).all()
    pairs = naive_pairs(spans)
    expected = [any(holds(w, spans[a], spans[b]) for w in windows) for a, b in pairs]
    assert in_scope(to_array(spans), to_array(pairs), reach).tolist() == expected
    assert distances(to_array(spans), to_array(pairs)).tolist() == [gap(spans, p) for p in pairs]


@given(
    texts_and_spans(),
    st.one_of(st.none(), st.integers(0, 8)),
    st.integers(1, 140),
    st.sampled_from([0, 4096]),
)
def test_pairs_within_bounds(case, max_distance: int | None, max_pairs: int, few: int) -> None:
    """Both ways to build pairs (all at once, or counted first) give the pairs of a plain loop."""
    windows, spans, in_order = case
    spans = sorted(spans) if in_order else spans
    reach = window_ends(to_array(windows), windows[-1][1])
    everything = naive_pairs(spans)
    inside = [p for p in everything if any(holds(w, *(spans[i] for i in p)) for w in windows)]
    near = [p for p in inside if max_distance is None or gap(spans, p) <= max_distance]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairing, "_FEW_PAIRS", few)
        pairs, cut = entity_pairs(
            to_array(spans), np.full(len(spans), 3), max_pairs, reach, max_distance
        )
    kept = to_tuples(pairs)
    assert kept == sorted(kept)
    assert len(set(kept)) == len(kept)
    assert set(kept) <= set(near)
    allowed = len(near) if len(near) <= max_pairs else max(1, max_pairs - max_pairs % 2)
    assert len(kept) == allowed
    assert sorted(gap(spans, p) for p in kept) == sorted(gap(spans, p) for p in near)[:allowed]
    lost = [len(everything) - len(inside), len(inside) - len(near), len(near) - len(kept)]
    assert cut.tolist() == ([[3, *lost]] if any(lost) else [])


@given(texts_and_spans(), st.one_of(st.none(), st.integers(0, 8)), st.sampled_from([0, 4096]))
def test_negative_pairs_within_bounds(case, max_distance: int | None, few: int) -> None:
    windows, spans, _ = case
    spans = sorted(set(spans))
    reach = window_ends(to_array(windows), windows[-1][1])
    near = {
        p
        for p in naive_pairs(spans)
        if any(holds(w, *(spans[i] for i in p)) for w in windows)
        and (max_distance is None or gap(spans, p) <= max_distance)
    }
    related = sorted(near)[::3]
    rng = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairing, "_FEW_PAIRS", few)
        drawn = sample_negative_pairs(
            to_array(spans), to_array(related), 1000, rng, reach, max_distance
        )
    assert set(to_tuples(drawn)) == near - set(related)
    assert len(drawn) == len(near - set(related))


def test_bounds_of_a_batch() -> None:
    """The ends of texts count tokens through the batch, so no pair crosses Docs."""
    spans = to_array([(0, 1), (2, 3), (4, 5), (5, 6), (7, 8)])
    docs = np.asarray([0, 0, 0, 1, 1])
    reach = text_ends(np.asarray([0, 3, 5, 8]))
    pairs, cut = entity_pairs(spans, docs, 1000, reach)
    assert to_tuples(pairs) == [(0, 1), (1, 0), (3, 4), (4, 3)]
    assert cut.tolist() == [[0, 4, 0, 0]]


def test_many_entities_within_bounds_do_not_build_all_pairs() -> None:
    n, size = 200_000, 10
    spans = to_array([(i, i + 1 + i % 3) for i in range(0, n * size, size)])
    reach = text_ends(np.arange(0, n * size + 1, 40))
    docs = np.zeros(n, dtype=np.int64)
    for bounds, per_span in (((reach, None), 3), ((None, 25), 4)):
        pairs, cut = entity_pairs(spans, docs, 10**9, *bounds)
        assert per_span - 1 < len(pairs) / n <= per_span + 1
        assert int(cut[0, 1:].sum()) == n * (n - 1) - len(pairs)
