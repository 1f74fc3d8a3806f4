from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spacy_spanrel.pairing import allowed_mask, merge_symmetric, text_ends
from spacy_spanrel.span_relation.decoding import (
    best_spans,
    likely_relations,
    likely_spans,
)

SPAN = st.tuples(st.integers(0, 12), st.integers(1, 5)).map(lambda s: (s[0], s[0] + s[1]))
# Few different scores, so that there are ties.
SCORE = st.sampled_from([0.1, 0.25, 0.5, 0.75, 0.95])


def to_array(rows: list[tuple[int, ...]], width: int = 2) -> np.ndarray:
    return np.asarray(rows, dtype=np.int64).reshape(-1, width)


def to_scores(scores: list[float]) -> np.ndarray:
    return np.asarray(scores, dtype=np.float32)


def overlap(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] < b[1] and b[0] < a[1]


def test_best_of_nested_spans_is_kept() -> None:
    spans = to_array([(0, 3), (1, 2)])
    assert best_spans(spans, to_scores([0.95, 0.55])).tolist() == [True, False]
    assert best_spans(spans, to_scores([0.55, 0.95])).tolist() == [False, True]


@given(st.lists(st.tuples(SPAN, SCORE), max_size=12))
def test_best_spans_is_greedy(items: list[tuple[tuple[int, int], float]]) -> None:
    order = sorted(
        range(len(items)),
        key=lambda i: (-items[i][1], items[i][0][0] - items[i][0][1], items[i][0][0]),
    )
    kept: list[int] = []
    for i in order:
        if not any(overlap(items[i][0], items[j][0]) for j in kept):
            kept.append(i)
    keep = best_spans(to_array([s for s, _ in items]), to_scores([x for _, x in items]))
    assert np.flatnonzero(keep).tolist() == sorted(kept)


@st.composite
def span_probabilities(draw: st.DrawFn) -> tuple[np.ndarray, list[int], np.ndarray]:
    lengths = draw(st.lists(st.integers(0, 4), max_size=4))
    n, size, classes = sum(lengths), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    values = draw(hnp.arrays(np.float32, (n, size, classes), elements=st.floats(0, 1, width=16)))
    return values, lengths, draw(hnp.arrays(np.bool_, n))


@given(span_probabilities())
def test_likely_spans(data: tuple[np.ndarray, list[int], np.ndarray]) -> None:
    probabilities, lengths, usable = data
    ends = text_ends(np.cumsum([0, *lengths]))
    expected = []
    for start in range(probabilities.shape[0]):
        for size in range(1, probabilities.shape[1] + 1):
            row = probabilities[start, size - 1].tolist()
            kind = row.index(max(row))
            inside = start + size <= ends[start]
            if kind and inside and usable[start] and usable[start + size - 1]:
                expected.append((start, start + size, kind - 1, row[kind]))
    spans, types, scores = likely_spans(probabilities, ends, usable)
    predictions = [
        (*span, kind, score)
        for span, kind, score in zip(spans.tolist(), types.tolist(), scores.tolist(), strict=True)
    ]
    assert predictions == expected


@given(
    hnp.arrays(np.float32, (6, 3), elements=st.floats(0, 1, width=16)),
    st.sampled_from([0.0, 0.25, 0.5, 1.0])
    | hnp.arrays(np.float32, 3, elements=st.floats(0, 1, width=16)),
    st.none() | hnp.arrays(np.bool_, (6, 3)),
)
def test_likely_relations(
    probabilities: np.ndarray, threshold: float | np.ndarray, allowed: np.ndarray | None
) -> None:
    smallest = np.broadcast_to(threshold, 3)
    expected = [
        (pair, kind, float(probabilities[pair, kind]))
        for pair in range(6)
        for kind in range(3)
        if probabilities[pair, kind] >= smallest[kind] and (allowed is None or allowed[pair, kind])
    ]
    pairs, types, scores = likely_relations(probabilities, threshold, allowed)
    assert list(zip(pairs.tolist(), types.tolist(), scores.tolist(), strict=True)) == expected


def test_no_relation_types() -> None:
    pairs, types, scores = likely_relations(np.zeros((4, 0), dtype=np.float32), 0.4)
    assert len(pairs) == len(types) == len(scores) == 0


def test_allowed_mask() -> None:
    mask = allowed_mask(
        {"works": [("Per", "Org")], "near": [("Loc", "Loc"), ("Org", "Loc"), ("Per", "Alien")]},
        ["Per", "Org", "Loc"],
        ["works", "near", "free"],
    )
    allowed = {(h, t, r) for h, t, r in np.argwhere(mask).tolist()}
    assert {x for x in allowed if x[2] == 0} == {(0, 1, 0)}
    assert {x for x in allowed if x[2] == 1} == {(2, 2, 1), (1, 2, 1)}
    # A relation without constraints may hold between any types.
    assert len({x for x in allowed if x[2] == 2}) == 9


def test_symmetric_relation_keeps_the_better_direction() -> None:
    spans = to_array([(0, 1), (3, 4)])
    pairs, keep = merge_symmetric(
        to_array([(0, 1), (1, 0)]), np.asarray([0, 0]), to_scores([0.4, 0.9]), spans, {0}
    )
    assert keep.tolist() == [False, True]
    assert pairs[keep].tolist() == [[0, 1]]


@given(
    st.lists(SPAN, min_size=2, max_size=5, unique=True),
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 2), SCORE), max_size=12
    ),
    st.sets(st.integers(0, 2)),
)
def test_merge_symmetric(
    spans: list[tuple[int, int]],
    rows: list[tuple[int, int, int, float]],
    symmetric: set[int],
) -> None:
    rows = [(h % len(spans), t % len(spans), r, s) for h, t, r, s in rows]
    rows = list({row[:3]: row for row in rows if row[0] != row[1]}.values())
    directed = to_array([row[:2] for row in rows])
    before = directed.copy()
    pairs, keep = merge_symmetric(
        directed,
        np.asarray([row[2] for row in rows], dtype=np.int64),
        to_scores([row[3] for row in rows]),
        to_array(spans),
        symmetric,
    )
    expected: dict[tuple[int, int, int], float] = {}
    for head, tail, label, score in rows:
        if label in symmetric and spans[tail] < spans[head]:
            head, tail = tail, head
        key = (head, tail, label)
        expected[key] = max(score, expected.get(key, 0.0))
    merged = {(*pairs[i].tolist(), rows[i][2]): rows[i][3] for i in np.flatnonzero(keep).tolist()}
    assert merged == expected
    assert int(keep.sum()) == len(expected)
    assert (directed == before).all()
