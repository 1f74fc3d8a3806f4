"""What the network calls the types of entities, and which relations such types may have."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from ..arrays import BoolArray
from ..settings import Rule, survives_as_table

TypeMap = dict[str, list[str]]
# Whether the network has markers for the types of head and tail.
Knows = Callable[[str, str], bool]
# From the types of head and tail to the names that the network may be shown for them.
Variants = Callable[[str, str], list[tuple[str, str]]]
# From such names to the labels that are possible, a mask of shape (n_labels,).
Constraint = Callable[[str, str], BoolArray]

# OntoNotes 5 labels (the ones of spaCy's English models) to TACRED's types. TACRED splits up what
# OntoNotes calls GPE and NORP: all are tried, and the most probable relation counts. Labels without
# a counterpart are missing on purpose.
ONTONOTES_TO_TACRED: dict[str, list[str]] = {
    "PERSON": ["PERSON"],
    "ORG": ["ORGANIZATION"],
    "GPE": ["CITY", "COUNTRY", "STATE_OR_PROVINCE"],
    "LOC": ["LOCATION"],
    "FAC": ["LOCATION"],
    "NORP": ["NATIONALITY", "RELIGION", "IDEOLOGY"],
    "DATE": ["DATE"],
    "CARDINAL": ["NUMBER"],
    "QUANTITY": ["NUMBER"],
    "EVENT": ["MISC"],
    "PRODUCT": ["MISC"],
    "WORK_OF_ART": ["MISC"],
    "LAW": ["MISC"],
}
TYPE_MAPS: dict[str, dict[str, list[str]]] = {"ontonotes-tacred": ONTONOTES_TO_TACRED}


def _is_type_map(setting: Any) -> bool:
    if setting is None or isinstance(setting, str):
        return setting in (None, "off", *TYPE_MAPS)
    if isinstance(setting, dict):
        return survives_as_table(setting) and all(
            isinstance(names, list) and names for names in setting.values()
        )
    return all(not isinstance(row, str) and len(row) == 2 for row in setting)


TYPE_MAP = Rule(
    f"null, 'off', one of {', '.join(map(repr, TYPE_MAPS))}, a table {{type: [names]}}, or "
    "rows [[type, name], ...] (where a type has ':' or '=')",
    _is_type_map,
)


def read_type_map(setting: str | TypeMap | Sequence[Sequence[str]]) -> TypeMap:
    """Read what types of entities are called.

    setting (str | dict | Sequence): What `TYPE_MAP` allows, but for null.
    RETURNS (dict[str, list[str]]): The names of each type that is named.
    """
    if isinstance(setting, str):
        return {} if setting == "off" else TYPE_MAPS[setting]
    if isinstance(setting, dict):
        return setting
    table: TypeMap = {}
    for kind, name in setting:
        table.setdefault(kind, []).append(name)
    return table


def variants(
    head_type: str,
    tail_type: str,
    type_map: Mapping[str, Sequence[str]],
    backoff: str | None,
    knows: Knows,
) -> list[tuple[str, str]]:
    """Say what a pair's types are called by the network.

    head_type, tail_type (str): The types in the Doc.
    type_map (Mapping[str, Sequence[str]]): What a type is called; several names are alternatives.
        A type that is not in it keeps its name.
    backoff (str | None): Stands for a type that the network does not know; None for nothing.
    knows (Callable[[str, str], bool]): Whether the network knows a pair of names.
    RETURNS (list[tuple[str, str]]): All alternatives that it knows; none if there are none.
    """
    heads, tails = (list(type_map.get(label, [label])) for label in (head_type, tail_type))
    found = [(head, tail) for head in heads for tail in tails if knows(head, tail)]
    if found or backoff is None:
        return found
    # As little of it as can be: for one argument, if that is enough.
    for choice in (product([backoff], tails), product(heads, [backoff]), [(backoff, backoff)]):
        found = [pair for pair in choice if knows(*pair)]
        if found:
            return found
    return []


def make_constraint(
    labels: Sequence[str],
    table: Mapping[str, Sequence[tuple[str, str]]],
    negative: int | None,
    seen: tuple[Collection[str], Collection[str]] | None,
) -> Constraint:
    """Say which labels a pair of types may have.

    labels (Sequence[str]): All labels, in the order of the classes.
    table (Mapping[str, Sequence[tuple[str, str]]]): The (head, tail) types of labels; one that is
        not named is free.
    negative (int | None): The label that says "no relation", which a pair never has.
    seen (tuple | None): Types of heads and of tails that the table was learned from: with any other
        everything is possible. None if it was given.
    RETURNS (Callable[[str, str], bool array, (n_labels,)]): The labels of two types.
    """
    sets = [set(table[label]) if label in table else None for label in labels]

    @cache
    def allowed(head_type: str, tail_type: str) -> BoolArray:
        free = seen is not None and (head_type not in seen[0] or tail_type not in seen[1])
        pair = (head_type, tail_type)
        mask = np.asarray([free or rows is None or pair in rows for rows in sets], dtype=bool)
        if negative is not None:
            mask[negative] = False
        return mask

    return allowed


@dataclass(frozen=True)
class TypeRules:
    """What types mean to the network, as the settings are now.

    known: Names that it has markers for.
    possible: Those of them that may have a relation.
    constraint: Labels that may hold between two of them; None for all.
    """

    known: Variants
    possible: Variants
    constraint: Constraint | None


def make_type_rules(
    type_map: TypeMap, backoff: str | None, knows: Knows, constraint: Constraint | None
) -> TypeRules:
    """Put together what is said of types. Arguments as in `variants` and `TypeRules`."""

    @cache
    def known(head_type: str, tail_type: str) -> list[tuple[str, str]]:
        return variants(head_type, tail_type, type_map, backoff, knows)

    @cache
    def possible(head_type: str, tail_type: str) -> list[tuple[str, str]]:
        names = known(head_type, tail_type)
        return [v for v in names if constraint is None or constraint(*v).any()]

    return TypeRules(known, possible, constraint)
