from __future__ import annotations

import math
from typing import Any

import pytest

from spacy_spanrel.settings import Rule, check_settings, number, one_of, optional, whole_number


@pytest.mark.parametrize(
    ("rule", "expected", "right", "wrong"),
    [
        (one_of("a", "b"), "one of 'a', 'b'", ["a", "b"], ["c", None, 1, ["a"]]),
        (one_of(None, "a"), "null or 'a'", ["a", None], ["b", False]),
        (whole_number(1), "a whole number of at least 1", [1, 7], [0, True, 1.0, "1", None]),
        (
            optional(whole_number(0)),
            "null or a whole number of at least 0",
            [None, 0],
            [-1, False, 0.0],
        ),
        (number(), "a finite number", [-2, 0.5], [math.inf, math.nan, True, "1", None]),
        (number(0), "a finite number of at least 0", [0, 1e9], [-1e-9, math.inf, math.nan]),
        (number(high=1), "a finite number of at most 1", [-7, 1], [1.1, -math.inf, math.nan]),
        (number(0, 1), "a number from 0 to 1", [0, 1, 0.5], [-0.1, 1.1, math.nan, None]),
    ],
)
def test_rules(rule: Rule, expected: str, right: list[Any], wrong: list[Any]) -> None:
    assert rule.expected == expected
    assert all(rule.holds(value) for value in right)
    assert not any(rule.holds(value) for value in wrong)


def test_error_names_owner_setting_value_and_what_is_right() -> None:
    rules = {"n": whole_number(1), "kind": one_of("a", "b")}
    check_settings("component 'reader'", {"n": 1, "kind": "a", "other": None}, rules)
    with pytest.raises(
        ValueError, match=r"'kind' of component 'reader' is 'c', .* one of 'a', 'b'"
    ):
        check_settings("component 'reader'", {"n": 1, "kind": "c"}, rules)
