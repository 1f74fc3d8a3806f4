"""What the settings of components may be, and the error for those that are something else."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import Errors


@dataclass(frozen=True)
class Rule:
    """What a setting may be.

    expected (str): That in words, to stand behind "it must be".
    holds (Callable[[Any], bool]): Whether a value is that.
    """

    expected: str
    holds: Callable[[Any], bool]


def one_of(*values: str | None) -> Rule:
    """Allow some values. *values (str | None): They; null is named first."""
    names = ", ".join(repr(value) for value in values if value is not None)
    return Rule(
        f"null or one of {names}" if None in values else f"one of {names}", values.__contains__
    )


def whole_number(low: int) -> Rule:
    """Allow whole numbers. low (int): The smallest."""

    def holds(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= low

    return Rule(f"a whole number of at least {low}", holds)


def number(low: float | None = None, high: float | None = None) -> Rule:
    """Allow finite numbers. low, high (float | None): The smallest and the largest, if any."""

    def holds(value: Any) -> bool:
        return (
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and math.isfinite(value)
            and (low is None or value >= low)
            and (high is None or value <= high)
        )

    if low is None:
        return Rule("a finite number", holds)
    return Rule(
        f"a number of at least {low}" if high is None else f"a number from {low} to {high}", holds
    )


def optional(rule: Rule) -> Rule:
    """Allow null too. rule (Rule): What else is allowed."""
    return Rule(f"null or {rule.expected}", lambda value: value is None or rule.holds(value))


def survives_as_table(setting: Mapping[str, object]) -> bool:
    """Tell whether a config file can hold a table: in its keys ":" and "=" would end them."""
    return not any(char in key for key in setting for char in ":=")


def check_settings(owner: str, settings: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Refuse impossible settings.

    owner (str): The component, or the registered function, that they are of.
    settings (Mapping[str, Any]): Values by name.
    rules (Mapping[str, Rule]): Some of these names.
    RAISES (ValueError): If a value is not what its rule says.
    """
    for setting, rule in rules.items():
        if not rule.holds(settings[setting]):
            raise ValueError(
                Errors.E302.format(
                    name=owner, setting=setting, value=settings[setting], expected=rule.expected
                )
            )
