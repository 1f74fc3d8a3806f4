from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_spanrel.encoding.batching import chunks_by_size, length_sorted_batches, pad_rows


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 200), st.integers(0, 100))
def test_batches_contain_each_row_once_and_stay_within_the_budget(lengths, budget, overhead):
    batches = [batch.tolist() for batch in length_sorted_batches(lengths, budget, overhead)]
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        padded = len(batch) * max(lengths[row] for row in batch)
        assert padded <= budget or len(batch) == 1
    ordered = [lengths[row] for batch in batches for row in batch]
    assert ordered == sorted(lengths, reverse=True)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(1, 60), st.integers(0, 20))
def test_no_other_division_of_the_sorted_rows_costs_less(lengths, budget, overhead):
    ranked = sorted(lengths, reverse=True)
    n = len(ranked)
    costs = []
    for cuts in product([False, True], repeat=n - 1):
        borders = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), n]
        runs = [ranked[a:b] for a, b in pairwise(borders)]
        if all(len(run) == 1 or len(run) * run[0] <= budget for run in runs):
            costs.append(sum(len(run) * run[0] + overhead for run in runs))
    batches = list(length_sorted_batches(lengths, budget, overhead))
    cost = sum(len(batch) * lengths[batch[0]] + overhead for batch in batches)
    assert cost == min(costs)


def test_overhead_trades_calls_against_padding():
    lengths = np.array([3, 5, 3, 5, 3])
    expensive, cheap = (
        [b.tolist() for b in length_sorted_batches(lengths, 100, overhead)] for overhead in (50, 1)
    )
    assert expensive == [[1, 3, 0, 2, 4]]  # rows of equal length stay in order
    assert cheap == [[1, 3], [0, 2, 4]]


@given(st.lists(st.integers(0, 9), max_size=6), st.integers(-1, 1))
def test_pad_rows(lengths, value):
    rows = [np.arange(length) + 5 for length in lengths]
    matrix = pad_rows(rows, value)
    assert matrix.shape == (len(rows), max(lengths, default=0))
    for row, padded in zip(rows, matrix.tolist(), strict=True):
        assert padded == row.tolist() + [value] * (matrix.shape[1] - len(row))


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(0, 200))
def test_chunks_partition_the_sequence_and_stay_within_the_budget(sizes, budget):
    chunks = [list(range(len(sizes)))[chunk] for chunk in chunks_by_size(sizes, budget)]
    assert [i for chunk in chunks for i in chunk] == list(range(len(sizes)))
    for chunk in chunks:
        total = sum(sizes[i] for i in chunk)
        assert total <= budget or len(chunk) == 1
        following = chunk[-1] + 1
        if following < len(sizes):  # no chunk could be longer
            assert total + sizes[following] > budget


@pytest.mark.parametrize("budget", [1, 100])
def test_empty_input(budget):
    assert list(length_sorted_batches([], budget)) == []
    assert list(chunks_by_size([], budget)) == []
