"""Pairs of entities and the relations that they may have, shared by the components."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from .arrays import BoolArray, FloatArray, IntArray
from .errors import Errors
from .settings import Rule, survives_as_table


def allowed_mask(
    type_pairs: dict[str, list[tuple[str, str]]],
    entity_types: list[str],
    relation_types: list[str],
) -> BoolArray:
    """Tabulate which relations may hold between which entity types.

    type_pairs (dict[str, list[tuple[str, str]]]): For each relation the allowed (head, tail)
        types. A relation that is not named may hold between any types.
    entity_types (list[str]): Names by class index, from index 0.
    relation_types (list[str]): Names by class index.
    RETURNS (bool array, (n_entity_types, n_entity_types, n_relation_types)): True where allowed.
    """
    mask = np.ones((len(entity_types), len(entity_types), len(relation_types)), dtype=bool)
    index = {name: i for i, name in enumerate(entity_types)}
    for r, relation in enumerate(relation_types):
        if relation in type_pairs:
            mask[:, :, r] = False
            for head, tail in type_pairs[relation]:
                if head in index and tail in index:
                    mask[index[head], index[tail], r] = True
    return mask


def merge_symmetric(
    pairs: IntArray, labels: IntArray, scores: FloatArray, spans: IntArray, symmetric: set[int]
) -> tuple[IntArray, BoolArray]:
    """Make one relation of both directions of a symmetric one: the better score stays.

    pairs (int64 array, (n, 2)): Indices (head, tail) into `spans`.
    labels (int64 array, (n,)): Relation types.
    scores (float array, (n,)): Probabilities.
    spans (int64 array, (m, 2)): Token ranges; arguments are put in the order of the text.
    symmetric (set[int]): The symmetric types.
    RETURNS (tuple[int64 array, bool array]): Pairs with arguments in order, (n, 2), and which
        rows to keep, (n,).
    """
    pairs = pairs.copy()
    keep = np.ones(len(pairs), dtype=bool)
    best: dict[tuple[int, int, int], int] = {}
    for i in np.flatnonzero(np.isin(labels, list(symmetric))).tolist():
        head, tail = pairs[i].tolist()
        if tuple(spans[tail].tolist()) < tuple(spans[head].tolist()):
            head, tail = tail, head
            pairs[i] = (head, tail)
        key = (head, tail, int(labels[i]))
        other = best.get(key)
        if other is None or scores[i] > scores[other]:
            best[key] = i
            if other is not None:
                keep[other] = False
        else:
            keep[i] = False
    return pairs, keep


def type_pair_table(
    setting: Mapping[str, Sequence[Sequence[str]]] | Sequence[Sequence[str]],
) -> dict[str, list[tuple[str, str]]]:
    """Read which types of head and tail relations may have.

    setting: A table {label: [[head, tail], ...]} or rows [[label, head, tail], ...].
    RETURNS (dict[str, list[tuple[str, str]]]): The pairs of each label that is named.
    """
    if isinstance(setting, Mapping):
        return {label: [(row[0], row[1]) for row in rows] for label, rows in setting.items()}
    table: dict[str, list[tuple[str, str]]] = {}
    for label, head, tail in setting:
        table.setdefault(label, []).append((head, tail))
    return table


def _is_type_constraints(setting: object) -> bool:
    if isinstance(setting, str):
        return setting in ("off", "learned")
    if isinstance(setting, Mapping):
        return survives_as_table(setting) and all(
            len(row) == 2 for rows in setting.values() for row in rows
        )
    return isinstance(setting, Sequence) and all(
        not isinstance(row, str) and len(row) == 3 for row in setting
    )


# Which types of head and tail a relation may have; tables and rows are read by `type_pair_table`.
TYPE_CONSTRAINTS = Rule(
    "'off', 'learned', a table {label: [[head type, tail type], ...]}, or rows "
    "[[label, head type, tail type], ...] (where a label has ':' or '=')",
    _is_type_constraints,
)


def check_gold_label(name: str, what: str, label: str, known: Collection[str], text: str) -> None:
    """Refuse gold annotation with a label that a component does not have.

    name (str): Of the component.
    what (str): "a relation" or "an entity type".
    label (str): The label.
    known (Collection[str]): All that the component has.
    text (str): Where the label is.
    RAISES (ValueError): If it is none of them.
    """
    if label not in known:
        raise ValueError(
            Errors.E306.format(name=name, what=what, label=label, text=text, labels=list(known))
        )


def check_label_settings(name: str, cfg: Mapping[str, Any], labels: Sequence[str]) -> None:
    """Refuse settings that name relations which a component does not have.

    name (str): Of the component.
    cfg (Mapping[str, Any]): Its settings: "symmetric" and "type_constraints" are looked at.
    labels (Sequence[str]): Its relation labels.
    RAISES (ValueError): If a label is none of them.
    """
    named = {"symmetric": cfg["symmetric"]}
    if not isinstance(cfg["type_constraints"], str):
        named["type_constraints"] = list(type_pair_table(cfg["type_constraints"]))
    for setting, names in named.items():
        for label in names:
            if label not in labels:
                raise ValueError(
                    Errors.E304.format(
                        label=label, setting=setting, name=name, labels=", ".join(labels)
                    )
                )
