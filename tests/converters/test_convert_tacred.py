from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import DocBin

from spacy_spanrel.annotations import get_entities, get_relations
from spacy_spanrel.converters import ConversionError, ConversionReport, get_orig_id, tacred_to_docs

NLP = spacy.blank("en")
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


def test_negatives_survive(write, reload, nlp):
    records = [changed(relation="no_relation", id="a8"), RECORD]
    report = ConversionReport()
    docs = reload(tacred_to_docs(write(records), nlp=nlp, report=report))
    assert [to_record(doc) for doc in docs] == records
    assert report.relations == {"no_relation": 1, "per:city_of_residence": 1}
    assert report.docs_without_relations == 0


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
def test_nested_adjacent_and_equal_arguments(write, reload, nlp, subject, obj, ents):
    record = changed(subj_start=subject[0], subj_end=subject[1], obj_start=obj[0], obj_end=obj[1])
    report = ConversionReport()
    (doc,) = reload(tacred_to_docs(write([record]), nlp=nlp, report=report))
    assert to_record(doc) == record
    assert [(e.label_, e.start, e.end - 1) for e in get_entities(doc)] == [
        ("PERSON", *subject),
        ("CITY", *obj),
    ]
    assert [(e.start, e.end) for e in doc.ents] == ents
    assert report.overlapping_entities == 2 - len(ents)
    assert report.self_relations == (subject == obj)


def test_equal_arguments_of_one_type_are_one_entity(write, reload, nlp):
    record = changed(obj_start=0, obj_end=1, obj_type="PERSON")
    report = ConversionReport()
    (doc,) = reload(tacred_to_docs(write([record]), nlp=nlp, report=report))
    assert to_record(doc) == record
    assert len(get_entities(doc)) == report.n_entities == 1
    assert (report.self_relations, report.duplicate_entities) == (1, 0)


def test_ids(write, reload, nlp):
    ids = [0, "", None, "x", "x"]
    records = [*(changed(id=orig_id) for orig_id in ids), changed()]
    del records[-1]["id"]
    report = ConversionReport()
    docs = reload(tacred_to_docs(write(records), nlp=nlp, report=report))
    assert [get_orig_id(doc) for doc in docs] == [0, None, None, "x", "x", None]
    assert report.duplicate_ids == 1


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
def test_bad_records(write, assert_fails, nlp, fields, code, place, found, expected):
    path = write([RECORD, changed(**{"id": "b8", **fields}), RECORD])
    parts = [f"record 1, {place}", found, expected]
    if "id" not in fields:
        parts.append("(id 'b8')")
    error = assert_fails(tacred_to_docs, path, code, *parts, nlp=nlp)
    assert error.place == f"record 1, {place}"
    report = ConversionReport()
    docs = list(tacred_to_docs(path, nlp=nlp, on_error=lambda error: None, report=report))
    assert [to_record(doc) for doc in docs] == [RECORD, RECORD]
    assert report.docs == 2
    assert [str(e) for e in report.skipped] == [str(error)]


@pytest.mark.parametrize("key", [key for key in RECORD if key != "id"])
def test_missing_keys(write, assert_fails, nlp, key):
    record = changed()
    del record[key]
    parts = ["record 0", "(id 'a7')", "the keys 'id'", f"the key '{key}'"]
    assert_fails(tacred_to_docs, write([record]), "605", *parts, nlp=nlp)


def test_docs_are_made_one_by_one(write):
    """A bad record does not matter before it is reached; no pipeline is needed."""
    docs = tacred_to_docs(write([RECORD, changed(subj_end=9)]))
    assert to_record(next(docs)) == RECORD
    with pytest.raises(ConversionError, match="record 1"):
        next(docs)


WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5).filter(
    lambda word: word.strip()
)
NAMES = st.sampled_from(["no_relation", "per:title", "é b"])


@st.composite
def records(draw):
    words = draw(st.lists(WORDS, min_size=1, max_size=8))
    span = st.lists(st.integers(0, len(words) - 1), min_size=2, max_size=2).map(sorted)
    subject, obj = draw(span), draw(span)
    return {
        "id": draw(WORDS | st.integers(-(2**63), 2**63 - 1)),
        "relation": draw(NAMES),
        "token": words,
        "subj_start": subject[0],
        "subj_end": subject[1],
        "obj_start": obj[0],
        "obj_end": obj[1],
        "subj_type": draw(NAMES),
        "obj_type": draw(NAMES),
    }


@given(st.lists(records(), min_size=1, max_size=3))
def test_any_records_read_back_equal(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.json"
        path.write_text(json.dumps(data), encoding="utf-8")
        report = ConversionReport()
        stored = DocBin(docs=tacred_to_docs(path, nlp=NLP, report=report)).to_bytes()
    docs = list(DocBin().from_bytes(stored).get_docs(spacy.blank("xx").vocab))
    assert [to_record(doc) for doc in docs] == data
    assert report.n_relations == len(data)


def test_kbp37_dev(shared_dir, nlp):
    path = shared_dir / "data/kbp37/dev.json"
    if not path.exists():
        pytest.skip(f"needs the data {path}")
    report = ConversionReport()
    docs = list(tacred_to_docs(path, nlp=nlp, report=report))
    assert (len(docs), report.n_entities, report.n_relations) == (1714, 3428, 1714)
    assert all(len(get_entities(doc)) == 2 and len(doc._.relations) == 1 for doc in docs)
    data = json.loads(path.read_text(encoding="utf-8"))
    assert [to_record(doc) for doc in docs] == data
    assert report.relations["no_relation"] == sum(r["relation"] == "no_relation" for r in data) > 0
