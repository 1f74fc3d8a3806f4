"""Declared rules about relations, applied to predictions by best score. Arrays in, arrays out.

Some things are common knowledge: a parent's child has that parent, nobody is born in two places. A
network learns them from thousands of examples, or never. Rules declare them, and of the predictions
those are kept that obey the rules and have the best scores.

A prediction, together with the inverse one that it implies, is a fact. Facts compete for places: with at
most one birthplace per person, all birthplaces of a person compete for one place. The facts are chosen
whose scores have the greatest sum: the expected number of right ones, if scores are calibrated. Groups
of facts that compete, directly or through others, are searched apart. They are small in practice, and
a search by branch and bound finds their best choice. Where a group is larger than `_LARGEST`, or the
search takes more than `_MOST_STEPS`, the best choice so far is taken: at least as good as that of the
greedy rule, which takes the facts in the order of their scores while there is place.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .arrays import BoolArray, FloatArray, IntArray
from .errors import Errors
from .settings import Rule

# The kinds of rules, and the number of labels that a row names after the kind.
KINDS: Mapping[str, Collection[int]] = {
    "inverse": (2,),
    "max_tails": (1,),
    "max_heads": (1,),
    "no_self": (0, 1),
}
# Facts of a group up to which the search is exact, and steps after which it ends.
_LARGEST = 60
_MOST_STEPS = 5_000

# A relation: label, head, tail.
_Relation = tuple[int, int, int]


def _are_rules(setting: object) -> bool:
    return isinstance(setting, Sequence) and all(
        isinstance(row, Sequence) and not isinstance(row, str) and _is_rule(row) for row in setting
    )


def _is_rule(row: Sequence[Any]) -> bool:
    kind, *labels = row or ("",)
    if isinstance(kind, str) and kind.startswith("max_") and labels:
        number = labels.pop()
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            return False
    return len(labels) in KINDS.get(str(kind), ()) and all(isinstance(x, str) for x in labels)


# Rows of rules; `read_rules` reads them.
RULE_ROWS = Rule(
    'rows ["inverse", label, label], ["max_tails", label, number], ["max_heads", label, number], '
    '["no_self", label] or ["no_self"]',
    _are_rules,
)


def ruled_labels(setting: Sequence[Sequence[Any]]) -> list[str]:
    """Return the labels that rules name.

    setting (Sequence[Sequence[Any]]): The rows of the setting.
    RETURNS (list[str]): The labels, as often as they are named.
    """
    return [value for row in setting for value in row[1:] if isinstance(value, str)]


@dataclass
class DeclaredRules:
    """Rules about relations, by the numbers of their labels.

    inverse (dict[int, int]): For each of two labels the other one that it implies in the opposite
        direction.
    max_tails, max_heads (dict[int, int]): Largest number of tails per head, and of heads per tail. For
        relations without a direction, both are the largest number of partners.
    no_self (set[int]): Relations that hold between different entities only.
    symmetric (set[int]): Relations without a direction.
    """

    inverse: dict[int, int] = field(default_factory=dict)
    max_tails: dict[int, int] = field(default_factory=dict)
    max_heads: dict[int, int] = field(default_factory=dict)
    no_self: set[int] = field(default_factory=set)
    symmetric: set[int] = field(default_factory=set)


def read_rules(
    setting: Sequence[Sequence[Any]], labels: Sequence[str], symmetric: Collection[str] = ()
) -> DeclaredRules | None:
    """Read the setting "rules".

    setting (Sequence[Sequence[Any]]): Rows, as `RULE_ROWS` describes them; their labels are checked.
    labels (Sequence[str]): The labels of the component.
    symmetric (Collection[str]): Those without a direction.
    RETURNS (DeclaredRules | None): The rules; None if there are none.
    """
    if not setting:
        return None
    index = {label: i for i, label in enumerate(labels)}
    rules = DeclaredRules(symmetric={index[label] for label in symmetric if label in index})
    for kind, *values in setting:
        if kind == "inverse":
            one, other = (index[label] for label in values)
            rules.inverse.update({one: other, other: one})
        elif kind == "no_self":
            rules.no_self.update(index[label] for label in values or labels)
        else:
            limits: dict[int, int] = getattr(rules, kind)
            label = index[values[0]]
            limits[label] = min(values[1], limits.get(label, values[1]))
    return rules


def check_rules(name: str, setting: Sequence[Sequence[Any]], symmetric: Collection[str]) -> None:
    """Refuse rules that contradict each other.

    name (str): Name of the component.
    setting (Sequence[Sequence[Any]]): The rows of the setting.
    symmetric (Collection[str]): Relations without a direction.
    RAISES (ValueError): If a label has two inverse labels, is its own, or has one although it has no
        direction.
    """
    partner: dict[str, str] = {}
    for kind, *labels in setting:
        if kind != "inverse":
            continue
        for label, other in (labels, labels[::-1]):
            if label == other or label in symmetric or partner.setdefault(label, other) != other:
                raise ValueError(Errors.E313.format(name=name, label=label, row=[kind, *labels]))


def apply_rules(
    rules: DeclaredRules,
    pairs: IntArray,
    labels: IntArray,
    scores: FloatArray,
    is_self: BoolArray | None = None,
    *,
    one_label: bool = False,
) -> tuple[IntArray, IntArray, FloatArray]:
    """Keep the predicted relations with the best scores that obey the rules, and add what they imply.

    rules (DeclaredRules): The rules.
    pairs (int64 array, (n, 2)): Head and tail of each relation, as numbers of entities; entities of
        different Docs have different numbers.
    labels (int64 array, (n,)): Labels.
    scores (float array, (n,)): Probabilities.
    is_self (bool array, (n,) | None): Whether head and tail of each relation are one entity; None: none.
    one_label (bool): Whether an ordered pair has at most one relation, so that an implied relation
        competes with the one that the pair has.
    RETURNS (tuple[int64 array, int64 array, float32 array]): Pairs, labels and scores of the relations,
        ordered by head, tail and label. Of two inverse relations, both have the better score.
    """
    facts: dict[_Relation, float] = {}
    for i, (label, (head, tail)) in enumerate(zip(labels.tolist(), pairs.tolist(), strict=True)):
        # A relation that implies a forbidden one is forbidden, too.
        implied = {label, rules.inverse.get(label, label)}
        if is_self is not None and is_self[i] and not implied.isdisjoint(rules.no_self):
            continue
        fact = (label, head, tail)
        if rules.inverse.get(label, label) < label:
            fact = (rules.inverse[label], tail, head)
        facts[fact] = max(float(scores[i]), facts.get(fact, 0.0))
    relations = [_members(rules, fact) for fact in facts]
    weights = list(facts.values())
    keep = choose(weights, *_places(rules, relations, one_label))
    rows = sorted(
        (head, tail, label, weights[i])
        for i in np.flatnonzero(keep).tolist()
        for label, head, tail in relations[i]
    )
    numbers = np.asarray([row[:3] for row in rows], dtype=np.int64).reshape(-1, 3)
    return numbers[:, :2], numbers[:, 2], np.asarray([row[3] for row in rows], dtype=np.float32)


def _members(rules: DeclaredRules, fact: _Relation) -> list[_Relation]:
    """Return the relations that a fact stands for: itself, and its inverse if there is one."""
    label, head, tail = fact
    inverse = rules.inverse.get(label)
    return [fact] if inverse is None else [fact, (inverse, tail, head)]


def _places(
    rules: DeclaredRules, relations: Sequence[Sequence[_Relation]], one_label: bool
) -> tuple[list[list[int]], list[int]]:
    """Return the places that each fact takes, and the capacity of each place."""
    index: dict[tuple[Any, ...], int] = {}
    capacities: list[int] = []

    def place(capacity: int, *key: Any) -> int:
        if key not in index:
            index[key] = len(capacities)
            capacities.append(capacity)
        return index[key]

    taken = []
    for members in relations:
        places: set[int] = set()
        for label, head, tail in members:
            limits = [rules.max_tails.get(label), rules.max_heads.get(label)]
            if label in rules.symmetric:
                both = [limit for limit in limits if limit is not None]
                places.update(place(min(both), "partner", label, x) for x in (head, tail) if both)
                continue
            for limit, kind, entity in zip(limits, ("tails", "heads"), (head, tail), strict=True):
                if limit is not None:
                    places.add(place(limit, kind, label, entity))
            if one_label:
                places.add(place(1, "pair", head, tail))
        taken.append(sorted(places))
    return taken, capacities


def choose(
    weights: Sequence[float], places: Sequence[Sequence[int]], capacities: Sequence[int]
) -> BoolArray:
    """Choose the facts with the greatest sum of weights that have place.

    weights (Sequence[float]): The weight of each fact, at least 0.
    places (Sequence[Sequence[int]]): The places that each fact takes, each of them once.
    capacities (Sequence[int]): How many facts each place holds.
    RETURNS (bool array, (n,)): Whether each fact is chosen. The choice is the best one for groups of
        competing facts of up to `_LARGEST`, whose search ends in `_MOST_STEPS`, and for those that
        compete for one place only; else it is at least as good as the greedy one.
    """
    facts_of: defaultdict[int, list[int]] = defaultdict(list)
    for fact, taken in enumerate(places):
        for place in taken:
            facts_of[place].append(fact)
    # Where there is place for all, nobody competes.
    tight = {place for place, facts in facts_of.items() if len(facts) > capacities[place]}
    keep = np.ones(len(weights), dtype=bool)
    seen = np.zeros(len(weights), dtype=bool)
    for first, taken in enumerate(places):
        if seen[first] or tight.isdisjoint(taken):
            continue
        group, waiting = [], [first]
        seen[first] = True
        visited: set[int] = set()
        while waiting:
            fact = waiting.pop()
            group.append(fact)
            for place in tight.intersection(places[fact]) - visited:
                visited.add(place)
                for other in facts_of[place]:
                    if not seen[other]:
                        seen[other] = True
                        waiting.append(other)
        # Best score first; of equal ones the first.
        group.sort(key=lambda fact: (-weights[fact], fact))
        tight_places = [sorted(tight.intersection(places[fact])) for fact in group]
        chosen = _search([weights[fact] for fact in group], tight_places, capacities)
        keep[group] = False
        keep[[group[i] for i in chosen]] = True
    return keep


def _search(
    weights: Sequence[float], places: Sequence[Sequence[int]], capacities: Sequence[int]
) -> list[int]:
    """Choose facts of a group, which are in the order of their weights, best first.

    Every fact is first taken, if there is place, and then left out; the first choice is the greedy one.
    A branch ends where the facts that are left would not make it better than the best so far even if
    each of them took only the first of its places.
    """
    free = {place: capacities[place] for taken in places for place in taken}
    is_small = len(weights) <= _LARGEST and len(free) > 1
    best: list[int] = []
    best_sum = -1.0
    steps = 0
    chosen: list[int] = []

    def bound(fact: int) -> float:
        """Return the sum of the facts from one on that have place, if only their first places count."""
        left = dict(free)
        total = 0.0
        for weight, taken in zip(weights[fact:], places[fact:], strict=True):
            if left[taken[0]] and all(free[place] for place in taken):
                left[taken[0]] -= 1
                total += weight
        return total

    def visit(fact: int, total: float) -> bool:
        """Search the facts from one on. RETURNS (bool): Whether the search goes on."""
        nonlocal best, best_sum, steps
        steps += 1
        while fact < len(weights) and not all(free[place] for place in places[fact]):
            fact += 1
        if total + bound(fact) <= best_sum + 1e-9:
            return True
        if fact == len(weights):
            best, best_sum = list(chosen), total
            return steps < _MOST_STEPS
        for place in places[fact]:
            free[place] -= 1
        chosen.append(fact)
        goes_on = visit(fact + 1, total + weights[fact])
        chosen.pop()
        for place in places[fact]:
            free[place] += 1
        return goes_on and steps < _MOST_STEPS and visit(fact + 1, total)

    if is_small:
        visit(0, 0.0)
        return best
    for fact, taken in enumerate(places):
        if all(free[place] for place in taken):
            best.append(fact)
            for place in taken:
                free[place] -= 1
    return best
