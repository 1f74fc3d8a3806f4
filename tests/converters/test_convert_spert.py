from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import DocBin
from spacy.training import Corpus

from spacy_spanrel.annotations import get_entities, get_relations
from spacy_spanrel.converters import (
    ConversionError,
    ConversionReport,
    get_orig_id,
    read_types,
    spert_to_docs,
)

NLP = spacy.blank("en")
RECORD = {
    "tokens": ["Ann", "Lee", "lives", "in", "Oslo", ",", "Norway"],
    "entities": [
        {"type": "Peop", "start": 0, "end": 2},
        {"type": "Loc", "start": 4, "end": 5},
        {"type": "Loc", "start": 6, "end": 7},
    ],
    "relations": [
        {"type": "Live_In", "head": 0, "tail": 1},
        {"type": "Located_In", "head": 1, "tail": 2},
    ],
    "orig_id": "a7",
}
TYPES = {
    "entities": {name: {"short": name, "verbose": name} for name in ("Peop", "Loc")},
    "relations": {
        "Live_In": {"short": "L", "verbose": "L", "symmetric": False},
        "Located_In": {"short": "L", "verbose": "L"},
        "Near": {"short": "N", "verbose": "N", "symmetric": True},
    },
}


def to_record(doc):
    """Read a Doc back to SpERT's form."""
    entities = get_entities(doc)
    index = {(e.start, e.end, e.label_): i for i, e in enumerate(entities)}
    record = {
        "tokens": [token.text for token in doc],
        "entities": [{"type": e.label_, "start": e.start, "end": e.end} for e in entities],
        "relations": [
            {
                "type": r.label,
                "head": index[r.head.start, r.head.end, r.head.label_],
                "tail": index[r.tail.start, r.tail.end, r.tail.label_],
            }
            for r in get_relations(doc)
        ],
    }
    if get_orig_id(doc) is not None:
        record["orig_id"] = get_orig_id(doc)
    return record


def changed(**fields):
    return {**copy.deepcopy(RECORD), **fields}


def test_sample_survives_default_docbin(write, reload, nlp):
    report = ConversionReport()
    docs = list(spert_to_docs(write([RECORD]), nlp=nlp, report=report))
    (doc,) = reload(docs)
    assert to_record(doc) == RECORD
    assert doc.has_unknown_spaces
    assert [(e.text, e.label_) for e in doc.ents] == [
        ("Ann Lee", "Peop"),
        ("Oslo", "Loc"),
        ("Norway", "Loc"),
    ]
    first = doc._.relations[0]
    assert (first.head.label_, first.tail.label_, first.score) == ("Peop", "Loc", None)
    assert (report.docs, report.n_entities, report.n_relations) == (1, 3, 2)
    assert report.entities == {"Peop": 1, "Loc": 2}
    assert report.tokens == 7


def test_corpus_reader_keeps_the_tokens(write, nlp, tmp_path):
    # A word that spaCy's tokenizer would cut.
    record = changed(tokens=["Ann", "Lee", "lives", "in", "don't", ",", "U.K."])
    path = tmp_path / "x.spacy"
    DocBin(docs=spert_to_docs(write([record]), nlp=nlp)).to_disk(path)
    (example,) = Corpus(path)(spacy.blank("en"))
    assert [token.text for token in example.predicted] == record["tokens"]
    assert to_record(example.reference) == record


def test_records_without_annotation_survive(write, reload, nlp):
    records = [
        changed(entities=[], relations=[], orig_id=1),
        changed(relations=[], orig_id=2),
        RECORD,
    ]
    report = ConversionReport()
    docs = reload(spert_to_docs(write(records), nlp=nlp, report=report))
    assert [to_record(doc) for doc in docs] == records
    assert (report.docs_without_entities, report.docs_without_relations) == (1, 2)
    assert all(doc.has_annotation("ENT_IOB") for doc in docs)


def test_overlaps_and_types_stay_apart(write, reload, nlp):
    entities = [
        {"type": "Org", "start": 0, "end": 2},
        {"type": "Peop", "start": 0, "end": 2},
        {"type": "Peop", "start": 1, "end": 2},
        {"type": "Loc", "start": 4, "end": 5},
    ]
    relations = [{"type": "Live_In", "head": 1, "tail": 3}]
    record = changed(entities=entities, relations=relations)
    report = ConversionReport()
    (doc,) = reload(spert_to_docs(write([record]), nlp=nlp, report=report))
    assert to_record(doc) == record
    assert doc._.relations[0].head.label_ == "Peop"
    assert len(doc.ents) == 2
    assert report.overlapping_entities == 2


def test_duplicates_are_kept_once(write, nlp):
    record = changed()
    record["entities"].append(record["entities"][0])
    # The same relation, said with the other index of the same entity.
    record["relations"].append({"type": "Live_In", "head": 3, "tail": 1})
    report = ConversionReport()
    docs = list(spert_to_docs(write([record, RECORD]), nlp=nlp, report=report))
    assert [to_record(doc) for doc in docs] == [RECORD, RECORD]
    assert (report.duplicate_entities, report.duplicate_relations) == (1, 1)
    assert report.duplicate_ids == 1
    assert report.n_relations == 4


def test_symmetric_relations_have_one_direction(write, nlp):
    relations = [
        {"type": "Near", "head": 2, "tail": 1},
        {"type": "Near", "head": 1, "tail": 2},
        {"type": "Located_In", "head": 2, "tail": 1},
    ]
    path, types = write([changed(relations=relations)]), write(TYPES, "types.json")
    report = ConversionReport()
    (doc,) = spert_to_docs(path, nlp=nlp, types=types, report=report)
    assert [r.to_triple() for r in doc._.relations] == [
        ("Oslo", "Near", "Norway"),
        ("Norway", "Located_In", "Oslo"),
    ]
    assert report.duplicate_relations == 1
    # Without the types file nothing is known to be symmetric.
    (doc,) = spert_to_docs(path, nlp=nlp)
    assert len(doc._.relations) == 3


def test_long_entities_and_self_relations_are_counted(write, nlp):
    record = changed(
        entities=[{"type": "Peop", "start": 0, "end": 4}, {"type": "Loc", "start": 4, "end": 7}],
        relations=[{"type": "Kill", "head": 0, "tail": 0}],
    )
    report = ConversionReport(max_span_size=3)
    (doc,) = spert_to_docs(write([record]), nlp=nlp, report=report)
    assert to_record(doc) == record
    assert report.longest_entity == 4
    assert [finding.record for finding in report.too_long] == ["a7"]
    assert "4 tokens" in report.too_long[0].text
    assert report.self_relations == 1


@pytest.mark.parametrize(
    ("fields", "code", "place", "found", "expected"),
    [
        ({"tokens": "Ann"}, "604", "tokens", "'Ann' (str)", "a list"),
        ({"tokens": []}, "604", "tokens", "[]", "at least one token"),
        ({"tokens": ["a", 3]}, "604", "tokens[1]", "3 (int)", "a string"),
        ({"tokens": ["a", ""]}, "604", "tokens[1]", "''", "not empty"),
        ({"tokens": ["\ud800"]}, "604", "tokens[0]", "ud800", "surrogates"),
        ({"orig_id": [1]}, "604", "orig_id", "[1] (list)", "a string or an integer"),
        ({"entities": {}}, "604", "entities", "{} (dict)", "a list"),
        ({"entities": [7]}, "604", "entities[0]", "7 (int)", "an object"),
        (
            {"entities": [{"type": "Loc", "start": 0}]},
            "605",
            "entities[0]",
            "'type', 'start'",
            "the key 'end'",
        ),
        (
            {"entities": [{"type": "Loc", "start": "0", "end": 1}]},
            "604",
            "entities[0], start",
            "'0' (str)",
            "an integer",
        ),
        (
            {"entities": [{"type": "Loc", "start": 0, "end": True}]},
            "604",
            "entities[0], end",
            "True (bool)",
            "an integer",
        ),
        (
            {"entities": [{"type": "", "start": 0, "end": 1}]},
            "604",
            "entities[0], type",
            "''",
            "a string that is not empty",
        ),
        *(
            (
                {"entities": [{"type": "Loc", "start": start, "end": end}]},
                "606",
                "entities[0]",
                f"start {start}, end {end}",
                "0 <= start < end <= 7",
            )
            for start, end in ((-1, 2), (3, 3), (3, 2), (6, 8), (9, 10))
        ),
        *(
            (
                {"relations": [{"type": "Kill", "head": 0, "tail": index}]},
                "607",
                "relations[0], tail",
                f"tail {index}",
                "0 <= tail < 3",
            )
            for index in (-1, 3)
        ),
        (
            {"relations": [{"type": "Kill", "head": "0", "tail": 1}]},
            "604",
            "relations[0], head",
            "'0' (str)",
            "an integer",
        ),
        (
            {"relations": [{"type": None, "head": 0, "tail": 1}]},
            "604",
            "relations[0], type",
            "None",
            "a string",
        ),
    ],
)
def test_bad_records(write, assert_fails, nlp, fields, code, place, found, expected):
    path = write([RECORD, changed(**fields)])
    parts = [f"record 1, {place}", found, expected]
    if "orig_id" not in fields:
        parts.append("'a7'")
    error = assert_fails(spert_to_docs, path, code, *parts, nlp=nlp)
    assert error.file == str(path)
    assert error.place == f"record 1, {place}"

    report = ConversionReport()
    seen: list[ConversionError] = []
    docs = list(spert_to_docs(path, nlp=nlp, on_error=seen.append, report=report))
    assert [to_record(doc) for doc in docs] == [RECORD]
    assert [str(e) for e in seen] == [str(e) for e in report.skipped] == [str(error)]
    assert (report.docs, report.n_entities, report.n_relations) == (1, 3, 2)


@pytest.mark.parametrize("key", ["tokens", "entities", "relations"])
def test_missing_keys(write, assert_fails, nlp, key):
    record = changed()
    del record[key]
    path = write([record])
    assert_fails(spert_to_docs, path, "605", "record 0", "'a7'", f"the key '{key}'", nlp=nlp)


@pytest.mark.parametrize(
    ("fields", "place", "found"),
    [
        ({"entities": [{"type": "Org", "start": 0, "end": 1}]}, "entities[0]", "'Org'"),
        ({"relations": [{"type": "Kill", "head": 0, "tail": 1}]}, "relations[0]", "'Kill'"),
    ],
)
def test_unknown_names(write, assert_fails, nlp, fields, place, found):
    path = write([changed(**{"relations": [], **fields})])
    types = read_types(write(TYPES, "types.json"))
    error = assert_fails(
        spert_to_docs, path, "608", f"record 0, {place}", "'a7'", found, nlp=nlp, types=types
    )
    assert error.expected.startswith("one of ")


@pytest.mark.parametrize(
    ("content", "code", "parts"),
    [
        ('[{"tokens": ["a"],\n "entit', "603", ["line 2, column 2"]),
        ('[{"tokens": ["a"]}\n', "603", ["the end of the text"]),
        ('[{"tokens": ["a"] "x"}]', "603", ["line 1, column 19", "delimiter"]),
        ("9" * 5000, "603", []),
        ("", "609", ["an empty file"]),
        (" \n", "609", ["an empty file"]),
        ("[]", "609", ["an empty list"]),
        ('{"tokens": []}', "604", ["top level", "(dict)", "a list"]),
        (b'["caf\xe9"]', "602", ["byte 5", "0xe9", "UTF-8"]),
        (b'\xef\xbb\xbf["caf\xe9"]', "602", ["byte 8", "0xe9"]),
    ],
)
def test_bad_files_always_raise(write, assert_fails, nlp, content, code, parts):
    path = write(content)
    assert_fails(spert_to_docs, path, code, *parts, nlp=nlp, on_error=lambda error: None)


@pytest.mark.parametrize(
    ("types", "code", "part"),
    [
        ([], "604", "an object"),
        ({"entities": {}}, "605", "the key 'relations'"),
        ({"entities": {}, "relations": {"A": 1}}, "604", "relations, A"),
        ({"entities": {}, "relations": {"A": {"symmetric": "no"}}}, "604", "true or false"),
    ],
)
def test_bad_types_files(write, types, code, part):
    path = write(types, "types.json")
    with pytest.raises(ConversionError, match=f"E_SR{code}") as info:
        read_types(path)
    assert str(path) in str(info.value)
    assert part in str(info.value)


def test_ids(write, reload, nlp):
    ids = [0, "", None, "x", 2**80]
    path = write([changed(orig_id=orig_id) for orig_id in ids])
    docs = reload(spert_to_docs(path, nlp=nlp))
    assert [get_orig_id(doc) for doc in docs] == [0, None, None, "x", str(2**80)]


NAMES = st.sampled_from(["Peop", "Loc", "Works for", "é"])
WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=5
).filter(lambda word: word.strip())


@st.composite
def records(draw):
    tokens = draw(st.lists(WORDS, min_size=1, max_size=8))
    starts = st.integers(0, len(tokens) - 1)
    keys = draw(st.lists(st.tuples(starts, st.integers(1, 8), NAMES), max_size=5))
    spans = list(dict.fromkeys((s, min(s + n, len(tokens)), name) for s, n, name in keys))
    relations = []
    if spans:
        index = st.integers(0, len(spans) - 1)
        relations = draw(st.lists(st.tuples(index, index, NAMES), max_size=4, unique=True))
    record = {
        "tokens": tokens,
        "entities": [{"type": name, "start": s, "end": e} for s, e, name in spans],
        "relations": [{"type": name, "head": h, "tail": t} for h, t, name in relations],
    }
    orig_id = draw(st.none() | st.integers(-(2**63), 2**63 - 1) | WORDS)
    return record if orig_id is None else {**record, "orig_id": orig_id}


@settings(max_examples=60, deadline=None)
@given(st.lists(records(), min_size=1, max_size=3))
def test_any_records_read_back_equal(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.json"
        path.write_text(json.dumps(data), encoding="utf-8")
        report = ConversionReport()
        stored = DocBin(docs=spert_to_docs(path, nlp=NLP, report=report)).to_bytes()
    docs = list(DocBin().from_bytes(stored).get_docs(spacy.blank("xx").vocab))
    assert [to_record(doc) for doc in docs] == data
    assert report.n_entities == sum(len(record["entities"]) for record in data)
    assert report.n_relations == sum(len(record["relations"]) for record in data)


def test_conll04_test_set(conll04, nlp):
    report = ConversionReport()
    path = conll04 / "test.json"
    docs = list(spert_to_docs(path, nlp=nlp, types=conll04 / "types.json", report=report))
    assert (len(docs), report.n_entities, report.n_relations) == (288, 1079, 422)
    assert sum(len(doc._.relations) for doc in docs) == 422
    assert [to_record(doc) for doc in docs] == json.loads(path.read_text())
