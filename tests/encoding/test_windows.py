from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_spanrel.encoding.windows import (
    check_window_settings,
    owned_ranges,
    window_starts,
    window_tokens,
    windows_around,
)


@st.composite
def settings_of_windows(draw: st.DrawFn) -> tuple[int, int, int]:
    """Draw the length of a sequence, and valid values for capacity and overlap of its windows."""
    capacity = draw(st.integers(1, 40))
    overlap = draw(st.integers(0, capacity - 1))
    return draw(st.integers(0, 5 * capacity + 7)), capacity, overlap


def contexts(piece: int, starts: np.ndarray, capacity: int) -> dict[int, int]:
    """Return the distance of a piece to the nearer border for each window that contains it."""
    return {
        w: min(piece - start, start + capacity - 1 - piece)
        for w, start in enumerate(starts.tolist())
        if start <= piece < start + capacity
    }


@given(settings_of_windows())
def test_every_piece_is_in_a_window(case):
    n, capacity, overlap = case
    starts = window_starts(n, capacity, overlap)
    covered = {p for s in starts.tolist() for p in range(s, min(n, s + capacity))}
    assert covered == set(range(n))
    assert len(starts) == 1 or (np.diff(starts) > 0).all()


@given(settings_of_windows())
def test_windows_of_a_long_text_are_full_and_share_the_overlap(case):
    n, capacity, overlap = case
    starts = window_starts(n, capacity, overlap)
    if n <= capacity:
        assert starts.tolist() == [0]
        return
    assert starts[-1] + capacity == n
    assert (starts[:-1] + capacity - starts[1:] >= overlap).all()
    # There is no superfluous window: without the last one, pieces would be missing.
    assert starts[-2] + capacity < n


@given(settings_of_windows(), st.integers(0, 60), st.integers(0, 60))
def test_windows_around_a_part(case, before: int, after: int):
    n, capacity, overlap = case
    first, last, end = before, before + n, before + n + after
    starts, stop = windows_around((first, last), (0, end), capacity, overlap)
    if n > capacity:
        # The part comes first: there is no room for context.
        assert (starts - first).tolist() == window_starts(n, capacity, overlap).tolist()
        assert stop == last
        return
    (start,) = starts.tolist()
    assert 0 <= start <= first <= last <= stop <= end
    assert stop - start == min(capacity, end)
    # The sides differ only if one of them has no more context.
    left, right = first - start, stop - last
    assert abs(left - right) <= 1 or (left > right and right == after) or left == before


@given(settings_of_windows())
def test_owned_ranges_partition_the_pieces(case):
    n, capacity, overlap = case
    owned = owned_ranges(window_starts(n, capacity, overlap), n, capacity)
    assert [p for start, end in owned.tolist() for p in range(start, end)] == list(range(n))


@given(settings_of_windows())
def test_owner_contains_the_piece_and_gives_it_most_context(case):
    n, capacity, overlap = case
    starts = window_starts(n, capacity, overlap)
    for window, (start, end) in enumerate(owned_ranges(starts, n, capacity).tolist()):
        for piece in range(start, end):
            context = contexts(piece, starts, capacity) if n > capacity else {0: 0}
            assert context[window] == max(context.values())


@given(settings_of_windows(), st.lists(st.integers(0, 3), max_size=60))
def test_tokens_in_a_window(case, sizes: list[int]):
    # Consecutive tokens have 0 to 3 pieces each.
    _, capacity, overlap = case
    ends = np.cumsum([0, *sizes])
    tokens = np.stack([ends[:-1], ends[1:]], axis=1).astype(np.int64)
    starts = window_starts(int(ends[-1]), capacity, overlap)
    for start, (first, last) in zip(
        starts.tolist(), window_tokens(starts, capacity, tokens).tolist(), strict=True
    ):
        inside = [
            i for i, (a, b) in enumerate(tokens.tolist()) if start <= a and b <= start + capacity
        ]
        assert list(range(first, last)) == inside


def test_a_tie_goes_to_the_earlier_window():
    # Pieces 3 and 4 are shared; window 0 gives them contexts 1 and 0, window 1 gives 0 and 1.
    assert owned_ranges(np.array([0, 3]), 8, 5).tolist() == [[0, 4], [4, 8]]
    # Piece 3 has context 1 in both.
    assert owned_ranges(np.array([0, 2]), 7, 5).tolist() == [[0, 4], [4, 7]]


def test_empty_text_has_one_window():
    assert window_starts(0, 10, 3).tolist() == [0]
    assert owned_ranges(np.zeros(1, dtype=np.int64), 0, 10).tolist() == [[0, 0]]


@given(st.integers(0, 60), st.integers(0, 6), st.integers(-3, 60))
def test_invalid_settings_are_refused_with_their_values(max_length, special, overlap):
    capacity = max_length - special
    if capacity >= 1 and 0 <= overlap < capacity:
        assert check_window_settings(max_length, special, overlap) == capacity
        return
    with pytest.raises(ValueError, match="E_SR204") as info:
        check_window_settings(max_length, special, overlap)
    for message in (
        f"max_length = {max_length} ",
        f"{special} special",
        f"window_overlap = {overlap} ",
    ):
        assert message in str(info.value)
