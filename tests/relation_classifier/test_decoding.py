from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from spacy_spanrel.relation_classifier.decoding import NO_RELATION, best_labels, best_variants

# Few different values, so that ties occur.
PROBABILITY = st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0])


def matrix(rows: list[list[float]]) -> np.ndarray:
    return np.asarray(rows, dtype=np.float32)


@st.composite
def tables(draw: st.DrawFn) -> tuple[np.ndarray, int | None, np.ndarray | None]:
    """Draw probabilities, the negative label and the allowed labels."""
    shape = (draw(st.integers(0, 5)), draw(st.integers(1, 5)))
    values = draw(hnp.arrays(np.float32, shape, elements=PROBABILITY))
    negative = draw(st.none() | st.integers(0, shape[1] - 1))
    return values, negative, draw(st.none() | hnp.arrays(np.bool_, shape))


def best_label(
    row: list[float], negative: int | None, thresholds: list[float], allowed: list[bool]
) -> int | None:
    """Return the first of the most probable allowed labels, if it is more probable than the negative one."""
    usable = [i for i in range(len(row)) if i != negative and allowed[i]]
    top = max((row[i] for i in usable), default=None)
    if top is None or (negative is not None and top <= row[negative]):
        return None
    best = next(i for i in usable if row[i] == top)
    return best if top >= thresholds[best] else None


@given(tables(), st.lists(PROBABILITY, min_size=5, max_size=5), st.booleans())
def test_best_labels(
    table: tuple[np.ndarray, int | None, np.ndarray | None], numbers: list[float], one: bool
) -> None:
    probabilities, negative, allowed = table
    thresholds = numbers[:1] * 5 if one else numbers
    threshold = thresholds[0] if one else matrix([thresholds])[0, : probabilities.shape[1]]
    before = probabilities.copy()
    labels, scores = best_labels(probabilities, negative, threshold, allowed)
    masks = np.ones_like(probabilities, dtype=bool) if allowed is None else allowed
    assert labels.shape == scores.shape == (len(probabilities),)
    for row, mask, label, score in zip(
        probabilities.tolist(), masks.tolist(), labels.tolist(), scores.tolist(), strict=True
    ):
        expected = best_label(row, negative, thresholds, mask)
        if expected is None:
            assert label == NO_RELATION
        else:
            assert (label, score) == (expected, row[expected])
    assert (probabilities == before).all()


@pytest.mark.parametrize("negative", [0, 17, 41])
def test_negative_label_anywhere(negative: int) -> None:
    rows = np.full((3, 42), 0.001, dtype=np.float32)
    rows[0, negative] = 0.9
    rows[1, 5] = 0.9
    rows[2, negative], rows[2, 40] = 0.4, 0.5
    labels, scores = best_labels(rows, negative, 0.0)
    assert labels.tolist() == [NO_RELATION, 5, 40]
    assert scores[1:].tolist() == pytest.approx([0.9, 0.5])
    # Without a negative label, each of them is a relation.
    assert best_labels(rows, None, 0.0)[0].tolist() == [negative, 5, 40]


def test_a_tie_is_no_relation() -> None:
    assert best_labels(matrix([[0.5, 0.5]]), 0, 0.0)[0].tolist() == [NO_RELATION]
    assert best_labels(matrix([[0.5, 0.5]]), 1, 0.0)[0].tolist() == [NO_RELATION]


def test_threshold_is_included() -> None:
    rows = matrix([[0.25, 0.5, 0.25], [0.25, 0.25, 0.5]])
    assert best_labels(rows, 0, 0.5)[0].tolist() == [1, 2]
    assert best_labels(rows, 0, 0.5001)[0].tolist() == [NO_RELATION] * 2


def test_allowed_labels() -> None:
    rows = matrix([[0.1, 0.6, 0.3]] * 4)
    allowed = np.asarray([[1, 1, 1], [0, 0, 1], [0, 1, 0], [1, 0, 0]], dtype=bool)
    assert best_labels(rows, 0, 0.0, allowed)[0].tolist() == [1, 2, 1, NO_RELATION]
    # Without a negative label, the best allowed label is a relation.
    assert best_labels(rows, None, 0.0, allowed)[0].tolist() == [1, 2, 1, 0]
    assert best_labels(rows, None, 0.0, allowed & False)[0].tolist() == [NO_RELATION] * 4


@pytest.mark.parametrize(("n_labels", "negative"), [(3, 0), (3, None), (1, 0), (0, None)])
def test_no_rows(n_labels: int, negative: int | None) -> None:
    rows = np.zeros((0, n_labels), dtype=np.float32)
    labels, scores = best_labels(rows, negative, 0.0)
    assert len(labels) == len(scores) == 0
    assert best_variants(rows, np.zeros(0, dtype=np.int64), 0, negative).tolist() == []


@pytest.mark.parametrize(("n_labels", "negative"), [(1, 0), (0, None)])
def test_no_label_but_the_negative_one(n_labels: int, negative: int | None) -> None:
    rows = np.ones((2, n_labels), dtype=np.float32)
    labels, scores = best_labels(rows, negative, 0.0)
    assert labels.tolist() == [NO_RELATION] * 2
    assert scores.shape == (2,)
    variants = best_variants(rows, np.asarray([0, 0]), 1, negative)
    assert variants.tolist() == [0]


@st.composite
def variant_tables(draw: st.DrawFn) -> tuple[np.ndarray, list[int], int | None]:
    """Draw probabilities, the number of rows of each pair and the negative label."""
    counts = draw(st.lists(st.integers(1, 4), max_size=4))
    shape = (sum(counts), draw(st.integers(1, 4)))
    values = draw(hnp.arrays(np.float32, shape, elements=PROBABILITY))
    return values, counts, draw(st.none() | st.integers(0, shape[1] - 1))


@given(variant_tables())
def test_best_variants(table: tuple[np.ndarray, list[int], int | None]) -> None:
    probabilities, counts, negative = table
    expected, start = [], 0
    for count in counts:
        rows = range(start, start + count)
        tops = [
            max([p for i, p in enumerate(probabilities[row].tolist()) if i != negative] or [0.0])
            for row in rows
        ]
        expected.append(rows[tops.index(max(tops))])
        start += count
    pair_of_row = np.repeat(np.arange(len(counts)), counts)
    assert best_variants(probabilities, pair_of_row, len(counts), negative).tolist() == expected


def test_variant_with_the_surest_relation() -> None:
    # The row with the most probable relation is chosen, not the row with the most probable label.
    rows = matrix([[0.9, 0.1, 0.0], [0.5, 0.2, 0.3], [0.6, 0.0, 0.4], [0.0, 0.0, 1.0]])
    assert best_variants(rows, np.asarray([0, 0, 0, 1]), 2, 0).tolist() == [2, 3]
