from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spacy_spanrel.encoding.range_max import RangeMax

WIDTH = 3


@st.composite
def tables(draw: st.DrawFn) -> tuple[int, list[list[int]]]:
    """Draw a number of rows, and half-open ranges of rows, some of them empty."""
    n = draw(st.integers(1, 40))
    borders = st.tuples(st.integers(0, n), st.integers(0, n)).map(sorted)
    return n, draw(st.lists(borders, min_size=1, max_size=30))


def distinct_rows(n: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Make rows without ties in any column, so that the gradient of a maximum is unique."""
    generator = torch.Generator().manual_seed(n)
    columns = [torch.randperm(n, generator=generator) for _ in range(WIDTH)]
    return (torch.stack(columns, dim=1).to(dtype) - n / 2) / 4


def masked_max(rows: torch.Tensor, ranges: list[list[int]]) -> torch.Tensor:
    maxima = [
        rows[start:end].amax(dim=0) if end > start else rows.new_zeros(rows.shape[1])
        for start, end in ranges
    ]
    return torch.stack(maxima)


def longest(ranges: list[list[int]]) -> int:
    return max([1, *(end - start for start, end in ranges)])


@given(tables())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_equals_the_masked_max_bit_for_bit(dtype, case):
    n, ranges = case
    rows = torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(n)).to(dtype)
    maxima = RangeMax(rows, longest(ranges))(torch.tensor(ranges))
    assert maxima.dtype == dtype
    assert torch.equal(maxima, masked_max(rows, ranges))


@given(tables())
def test_gradient_equals_that_of_the_masked_max(case):
    n, ranges = case
    ours, theirs = distinct_rows(n).requires_grad_(), distinct_rows(n).requires_grad_()
    weights = torch.randn(len(ranges) + n, WIDTH, generator=torch.Generator().manual_seed(0))
    maxima = RangeMax(ours, longest(ranges))(torch.tensor(ranges))
    (torch.cat([maxima, 0 * ours]) * weights).sum().backward()
    (torch.cat([masked_max(theirs, ranges), 0 * theirs]) * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@given(tables())
def test_gradient_of_ties_adds_up_to_one(case):
    n, ranges = case
    rows = torch.zeros(n, 1, requires_grad=True)
    maxima = RangeMax(rows, longest(ranges))(torch.tensor(ranges))
    torch.cat([maxima, 0 * rows]).sum().backward()
    n_full = sum(end > start for start, end in ranges)
    assert float(rows.grad.sum()) == pytest.approx(n_full)


def test_a_table_longer_than_needed_changes_nothing():
    rows, ranges = distinct_rows(9), [[0, 9], [2, 3], [4, 4], [1, 8]]
    maxima = RangeMax(rows, 1000)(torch.tensor(ranges))
    assert torch.equal(maxima, masked_max(rows, ranges))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_stays_finite(dtype):
    # With a mask of -1e30, the maximum is -inf in float16, and the next linear layer returns NaN.
    rows = torch.full((4, WIDTH), -60000.0).to(dtype)
    ranges = torch.tensor([[0, 0], [0, 4], [4, 4], [1, 2]])
    maxima = RangeMax(rows, 4)(ranges)
    assert torch.isfinite(maxima).all()
    assert maxima[0].abs().sum() == 0
    assert maxima[2].abs().sum() == 0
    linear = torch.nn.Linear(WIDTH, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.isfinite(linear(maxima.bfloat16())).all()


def test_no_ranges_and_no_rows():
    assert RangeMax(torch.zeros(3, WIDTH), 1)(torch.zeros(0, 2, dtype=torch.int64)).shape == (0, 3)
    empty = RangeMax(torch.zeros(0, WIDTH), 1)(torch.zeros(2, 2, dtype=torch.int64))
    assert empty.tolist() == [[0.0] * WIDTH] * 2
