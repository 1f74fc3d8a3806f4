from __future__ import annotations

from typing import Any

import pytest

from spacy_spanrel.relation_classifier.entity_types import (
    ONTONOTES_TO_TACRED,
    TYPE_MAPS,
    make_constraint,
    read_type_map,
    variants,
)
from spacy_spanrel.relation_classifier.presets import SPANBERT_TACRED


def knows(*names: tuple[str, str]) -> Any:
    return lambda head, tail: (head, tail) in names


def test_variants() -> None:
    known = knows(("P", "C"), ("P", "S"), ("P", "O"), ("X", "O"))
    types = {"PER": ["P"], "GPE": ["C", "K", "S"], "ORG": ["O"]}
    assert variants("PER", "GPE", types, None, known) == [("P", "C"), ("P", "S")]
    assert variants("PER", "ORG", types, None, known) == [("P", "O")]
    assert variants("GPE", "PER", types, None, known) == []
    # Types that are not in the map keep their names; the others have only those of the map.
    assert variants("P", "O", types, None, known) == [("P", "O")]
    assert variants("P", "ORG", {}, None, known) == []


def test_backoff() -> None:
    known = knows(("P", "O"), ("X", "O"), ("P", "X"))
    assert variants("P", "O", {}, "X", known) == [("P", "O")]
    assert variants("Q", "O", {}, "X", known) == [("X", "O")]
    assert variants("P", "Q", {}, "X", known) == [("P", "X")]
    assert variants("Q", "Q", {}, "X", known) == []
    assert variants("Q", "Q", {}, "X", knows(("X", "X"))) == [("X", "X")]
    assert variants("Q", "O", {}, None, known) == []
    # The backoff type replaces no more types than necessary.
    types = {"Q": ["Q", "R"]}
    assert len(variants("Q", "Q", types, "X", knows(("X", "X"), ("Q", "X"), ("X", "R")))) == 1


def test_ontonotes_map() -> None:
    markers = {tuple(name.split("=")) for name in SPANBERT_TACRED.markers if "=" in name}
    targets = {name for names in ONTONOTES_TO_TACRED.values() for name in names}
    assert targets <= {name for _, name in markers}
    assert ("SUBJ", "LOCATION") not in markers
    assert {name for role, name in markers if role == "SUBJ"} == {"PERSON", "ORGANIZATION"}
    assert TYPE_MAPS[SPANBERT_TACRED.type_map] is ONTONOTES_TO_TACRED

    def known(head: str, tail: str) -> bool:
        return ("SUBJ", head) in markers and ("OBJ", tail) in markers

    def called(head: str, tail: str, backoff: str | None = None) -> list[tuple[str, str]]:
        return variants(head, tail, ONTONOTES_TO_TACRED, backoff, known)

    assert {tail for _, tail in called("PERSON", "GPE")} == {
        "CITY",
        "COUNTRY",
        "STATE_OR_PROVINCE",
    }
    assert called("ORG", "LOC") == [("ORGANIZATION", "LOCATION")]
    assert called("GPE", "PERSON") == called("LOC", "PERSON") == []
    assert called("PERSON", "MONEY") == []
    assert called("LOC", "PERSON", "ORGANIZATION") == [("ORGANIZATION", "PERSON")]


def test_ontonotes_labels() -> None:
    left_out = {"LANGUAGE", "MONEY", "ORDINAL", "PERCENT", "TIME"}
    assert not left_out & set(ONTONOTES_TO_TACRED)
    assert len(left_out | set(ONTONOTES_TO_TACRED)) == 18
    assert all(ONTONOTES_TO_TACRED.values())


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("off", {}),
        ("ontonotes-tacred", ONTONOTES_TO_TACRED),
        ({"GPE": ["CITY"]}, {"GPE": ["CITY"]}),
        (
            [["GPE", "CITY"], ["A:B", "X"], ["GPE", "COUNTRY"]],
            {"GPE": ["CITY", "COUNTRY"], "A:B": ["X"]},
        ),
    ],
)
def test_type_map_is_read_from_each_form(setting: Any, expected: Any) -> None:
    assert read_type_map(setting) == expected


def test_constraint() -> None:
    labels = ["works_for", "no_relation", "other"]
    table = {"works_for": [("PER", "ORG")]}
    given = make_constraint(labels, table, 1, None)
    assert given("PER", "ORG").tolist() == [True, False, True]
    assert given("ORG", "PER").tolist() == [False, False, True]
    # Types that the training data did not have are not constrained.
    learned = make_constraint(labels, table, 1, (["PER", "ORG"], ["ORG"]))
    assert learned("ORG", "ORG").tolist() == [False, False, True]
    assert learned("ORG", "PER").tolist() == [True, False, True]
    assert learned("LAW", "ORG").tolist() == [True, False, True]
