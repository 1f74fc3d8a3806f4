"""Default settings, rules for the values of settings, and the check of settings by them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import Errors


def defaults_of(function: Callable[..., Any], /, **settings: Any) -> dict[str, Any]:
    """Return the default settings of a registered function.

    function (Callable): The function.
    **settings (Any): Values of the settings that have no default.
    RETURNS (dict[str, Any]): The settings.
    """
    parameters = inspect.signature(function).parameters.values()
    return {**settings, **{p.name: p.default for p in parameters if p.default is not p.empty}}


@dataclass(frozen=True)
class Rule:
    """A rule for the values of a setting.

    expected (str): Description of the allowed values, to follow "must be" in an error.
    holds (Callable[[Any], bool]): Tells whether a value is allowed.
    """

    expected: str
    holds: Callable[[Any], bool]


def one_of(*values: str | None) -> Rule:
    """Allow a few values.

    *values (str | None): The values.
    RETURNS (Rule): The rule.
    """
    names = [repr(value) for value in values if value is not None]
    expected = names[0] if len(names) == 1 else f"one of {', '.join(names)}"
    return Rule(f"null or {expected}" if None in values else expected, values.__contains__)


def whole_number(low: int) -> Rule:
    """Allow whole numbers.

    low (int): The smallest one.
    RETURNS (Rule): The rule.
    """

    def holds(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= low

    return Rule(f"a whole number of at least {low}", holds)


def number(low: float | None = None, high: float | None = None) -> Rule:
    """Allow finite numbers.

    low, high (float | None): The smallest and the largest one; None for no limit.
    RETURNS (Rule): The rule.
    """

    def holds(value: Any) -> bool:
        return (
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and math.isfinite(value)
            and (low is None or value >= low)
            and (high is None or value <= high)
        )

    if low is not None and high is not None:
        return Rule(f"a number from {low} to {high}", holds)
    limit = "" if low is None else f" of at least {low}"
    limit += "" if high is None else f" of at most {high}"
    return Rule(f"a finite number{limit}", holds)


# Temperatures beyond these make all probabilities 0, 1 or alike.
TEMPERATURE = number(0.01, 100)


def optional(rule: Rule) -> Rule:
    """Allow null and the values that another rule allows.

    rule (Rule): The other rule.
    RETURNS (Rule): The rule.
    """
    return Rule(f"null or {rule.expected}", lambda value: value is None or rule.holds(value))


def survives_as_table(setting: Mapping[str, object]) -> bool:
    """Tell whether a table can be written to a config file, where ":" and "=" end a key.

    setting (Mapping[str, object]): The table.
    RETURNS (bool): Whether all keys are texts without these characters.
    """
    return all(isinstance(key, str) and not set(key) & set(":=") for key in setting)


def check_settings(owner: str, settings: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Refuse settings that break their rules.

    owner (str): The component or registered function that has the settings, such as "component 'ner'".
    settings (Mapping[str, Any]): The value of each setting.
    rules (Mapping[str, Rule]): The rules of some or all of the settings.
    RAISES (ValueError): If a value breaks its rule.
    """
    for setting, rule in rules.items():
        if not rule.holds(settings[setting]):
            raise ValueError(
                Errors.E302.format(
                    owner=owner, setting=setting, value=settings[setting], expected=rule.expected
                )
            )
