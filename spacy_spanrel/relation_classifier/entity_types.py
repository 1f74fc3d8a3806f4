"""Entity types: their names in the network, and the relations that they may have."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache, partial
from itertools import product
from typing import Any

import numpy as np

from ..arrays import BoolArray
from ..settings import Rule, survives_as_table

TypeMap = dict[str, list[str]]
# Tells whether the network has markers for the types of head and tail.
Knows = Callable[[str, str], bool]
# From the types of head and tail to their alternative names in the network.
Variants = Callable[[str, str], list[tuple[str, str]]]
# From two such names to the labels that are allowed, a mask of shape (n_labels,).
Constraint = Callable[[str, str], BoolArray]

# From the labels of OntoNotes 5, which spaCy's English models use, to TACRED's types. TACRED divides
# GPE and NORP into several types: all are tried, and the most probable relation counts. Labels without
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
    f"null, 'off', {', '.join(map(repr, TYPE_MAPS))}, a table {{type: [names]}}, or "
    "rows [[type, name], ...] (where a type has ':' or '=')",
    _is_type_map,
)


def read_type_map(setting: str | TypeMap | Sequence[Sequence[str]]) -> TypeMap:
    """Read the setting "type_map" in any of its forms.

    setting (str | dict | Sequence): A value that `TYPE_MAP` allows, other than null.
    RETURNS (dict[str, list[str]]): The network's names of each type in the map.
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
    """Return the network's names of the types of a pair.

    head_type, tail_type (str): The types in the Doc.
    type_map (Mapping[str, Sequence[str]]): The alternative names of each type. A type that is not in
        the map keeps its name.
    backoff (str | None): Name to use for types that the network does not know. None: there is none.
    knows (Callable[[str, str], bool]): Tells whether the network knows the names of head and tail.
    RETURNS (list[tuple[str, str]]): All combinations of names that the network knows. If there is none,
        those with the backoff name in place of one type or, if that is not enough, of both.
    """
    heads, tails = (list(type_map.get(label, [label])) for label in (head_type, tail_type))
    choices = [product(heads, tails)]
    if backoff is not None:
        choices += [product([backoff], tails), product(heads, [backoff])]
        choices.append(product([backoff], [backoff]))
    for choice in choices:
        names = [pair for pair in choice if knows(*pair)]
        if names:
            return names
    return []


def make_constraint(
    labels: Sequence[str],
    table: Mapping[str, Sequence[tuple[str, str]]],
    negative: int | None,
    seen: tuple[Collection[str], Collection[str]] | None,
) -> Constraint:
    """Make the function that returns the labels which two types may have.

    labels (Sequence[str]): All labels, in the order of the classes.
    table (Mapping[str, Sequence[tuple[str, str]]]): The allowed (head, tail) types of each label. A
        label that is not in the table may have any types.
    negative (int | None): The negative label, if there is one; it is never among the allowed ones.
    seen (tuple[Collection[str], Collection[str]] | None): Types of heads and types of tails in the data
        from which the table was learned: other types may have any label. None: the table is a setting,
        and holds for all types.
    RETURNS (Callable[[str, str], bool array, (n_labels,)]): The function.
    """
    sets = [set(table[label]) if label in table else None for label in labels]

    @cache
    def allowed(head_type: str, tail_type: str) -> BoolArray:
        is_new = seen is not None and (head_type not in seen[0] or tail_type not in seen[1])
        pair = (head_type, tail_type)
        mask = np.asarray([is_new or types is None or pair in types for types in sets], dtype=bool)
        if negative is not None:
            mask[negative] = False
        return mask

    return allowed


class TypeRules:
    """The network's names of the types of head and tail, for the present settings.

    type_map, backoff, knows: As in `variants`.
    constraint (Callable[[str, str], bool array, (n_labels,)] | None): Returns the labels that two such
        names may have. None: they may have any.

    known (Callable[[str, str], list[tuple[str, str]]]): Returns the names for which the network has
        markers, as `variants` does.
    possible (Callable[[str, str], list[tuple[str, str]]]): Returns those of them that may have a
        relation. Both remember their results.
    """

    known: Variants
    possible: Variants

    def __init__(
        self, type_map: TypeMap, backoff: str | None, knows: Knows, constraint: Constraint | None
    ):
        known = cache(partial(variants, type_map=type_map, backoff=backoff, knows=knows))

        def possible(head_type: str, tail_type: str) -> list[tuple[str, str]]:
            names = known(head_type, tail_type)
            return [pair for pair in names if constraint is None or constraint(*pair).any()]

        self.known, self.possible = known, cache(possible)
