from __future__ import annotations

import copy

import pytest

from spacy_spanrel.annotations import get_entities, get_relations
from spacy_spanrel.converters import (
    ConversionReport,
    get_orig_id,
    tacred_to_docs,
)

RECORD = {
    "id": "a7",
    "relation": "per:city_of_residence",
    "token": ["Ann", "Lee", "lives", "in", "Oslo", ",", "Norway"],
    "subj_start": 0,
    "subj_end": 1,
    "obj_start": 4,
    "obj_end": 4,
    "subj_type": "PERSON",
    "obj_type": "CITY",
}


def changed(**fields):
    return {**copy.deepcopy(RECORD), **fields}


def to_record(doc):
    """Read a Doc back to TACRED's form."""
    (relation,) = get_relations(doc)
    head, tail = relation.head, relation.tail
    record = {
        "relation": relation.label,
        "token": [token.text for token in doc],
        "subj_start": head.start,
        "subj_end": head.end - 1,
        "obj_start": tail.start,
        "obj_end": tail.end - 1,
        "subj_type": head.label_,
        "obj_type": tail.label_,
    }
    return record if get_orig_id(doc) is None else {"id": get_orig_id(doc), **record}


def test_sample_survives_default_docbin(write, reload, nlp):
    report = ConversionReport(max_span_size=1)
    (doc,) = reload(tacred_to_docs(write([RECORD]), nlp=nlp, report=report))
    assert to_record(doc) == RECORD
    assert doc.has_unknown_spaces
    # Inclusive ends have become exclusive ends.
    assert [(e.start, e.end, e.label_) for e in get_entities(doc)] == [
        (0, 2, "PERSON"),
        (4, 5, "CITY"),
    ]
    assert [(e.text, e.label_) for e in doc.ents] == [("Ann Lee", "PERSON"), ("Oslo", "CITY")]
    (relation,) = doc._.relations
    assert relation.to_triple() == ("Ann Lee", "per:city_of_residence", "Oslo")
    assert (relation.head.label_, relation.tail.label_, relation.score) == ("PERSON", "CITY", None)
    assert (report.docs, report.tokens, report.n_entities, report.n_relations) == (1, 7, 2, 1)
    assert [finding.record for finding in report.too_long] == ["a7"]


def test_subject_may_follow_the_object(write, nlp):
    record = changed(subj_start=6, subj_end=6, subj_type="COUNTRY")
    (doc,) = tacred_to_docs(write([record]), nlp=nlp)
    assert doc._.relations[0].to_triple() == ("Norway", "per:city_of_residence", "Oslo")


def test_other_keys_are_ignored(write, nlp):
    record = changed(docid="x.1", stanford_pos=["NNP"], stanford_head=7, note=None)
    (doc,) = tacred_to_docs(write([record]), nlp=nlp)
    assert to_record(doc) == RECORD


def test_brackets_in_any_case(write, reload, nlp):
    words = ["-LRB-", "-rrb-", "-Lsb-", "-RSB-", "-lcb-", "-rCB-", "-LRB-x", "LRB"]
    record = changed(token=words, obj_end=5)
    (doc,) = reload(tacred_to_docs(write([record]), nlp=nlp))
    assert [token.text for token in doc] == ["(", ")", "[", "]", "{", "}", "-LRB-x", "LRB"]
    assert doc._.relations[0].tail.text == "{ }"


@pytest.mark.parametrize(
    ("subject", "obj", "ents"),
    [
        ((0, 4), (1, 2), [(0, 5)]),
        ((1, 1), (0, 4), [(0, 5)]),
        ((0, 2), (2, 4), [(0, 3)]),
        ((0, 1), (2, 4), [(0, 2), (2, 5)]),
        ((0, 1), (0, 1), [(0, 2)]),
    ],
)
def test_nested_adjacent_and_equal_arguments(write, reload, nlp, subject, obj, ents, report):
    record = changed(subj_start=subject[0], subj_end=subject[1], obj_start=obj[0], obj_end=obj[1])
    (doc,) = reload(tacred_to_docs(write([record]), nlp=nlp, report=report))
    assert to_record(doc) == record
    assert [(e.label_, e.start, e.end - 1) for e in get_entities(doc)] == [
        ("PERSON", *subject),
        ("CITY", *obj),
    ]
    assert [(e.start, e.end) for e in doc.ents] == ents
    assert report.overlapping_entities == 2 - len(ents)
    assert report.self_relations == (subject == obj)


def test_equal_arguments_of_one_type_are_one_entity(write, reload, nlp, report):
    record = changed(obj_start=0, obj_end=1, obj_type="PERSON")
    (doc,) = reload(tacred_to_docs(write([record]), nlp=nlp, report=report))
    assert to_record(doc) == record
    assert len(get_entities(doc)) == report.n_entities == 1
    assert (report.self_relations, report.duplicate_entities) == (1, 0)


OFFSETS = "0 <= start <= end < 7 (the number of tokens), end inclusive"


@pytest.mark.parametrize(
    ("fields", "code", "place", "found", "expected"),
    [
        ({"id": 1.5}, "604", "id", "1.5 (float)", "a string or an integer"),
        ({"token": "Ann"}, "604", "token", "'Ann' (str)", "a list"),
        ({"token": []}, "604", "token", "[]", "at least one token"),
        ({"token": ["a", ""]}, "604", "token[1]", "''", "not empty"),
        ({"token": ["a", None]}, "604", "token[1]", "None (NoneType)", "a string"),
        ({"token": ["\ud800"]}, "604", "token[0]", "(str)", "lone surrogates"),
        ({"relation": None}, "604", "relation", "None (NoneType)", "a string"),
        ({"relation": " "}, "604", "relation", "' '", "not empty"),
        ({"subj_type": 3}, "604", "subj_type", "3 (int)", "a string"),
        ({"obj_type": ""}, "604", "obj_type", "''", "not empty"),
        ({"subj_start": "0"}, "604", "subj_start", "'0' (str)", "an integer"),
        ({"obj_end": True}, "604", "obj_end", "True (bool)", "an integer"),
        ({"obj_end": 4.0}, "604", "obj_end", "4.0 (float)", "an integer"),
        ({"subj_start": 2}, "606", "subj_start, subj_end", "start 2, end 1", OFFSETS),
        ({"subj_start": -1}, "606", "subj_start, subj_end", "start -1, end 1", OFFSETS),
        ({"obj_end": 7}, "606", "obj_start, obj_end", "start 4, end 7", OFFSETS),
        ({"obj_start": 5}, "606", "obj_start, obj_end", "start 5, end 4", OFFSETS),
    ],
)
def test_bad_records(write, assert_skipped, nlp, fields, code, place, found, expected):
    path = write([RECORD, changed(**{"id": "b8", **fields}), RECORD])
    parts = [f"record 1, {place}", found, expected]
    if "id" not in fields:
        parts.append("(id 'b8')")
    error, docs, report = assert_skipped(tacred_to_docs, path, code, *parts, nlp=nlp)
    assert error.place == f"record 1, {place}"
    assert [to_record(doc) for doc in docs] == [RECORD, RECORD]
    assert report.docs == 2
