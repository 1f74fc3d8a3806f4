from __future__ import annotations

import copy

import pytest
import spacy
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


def entity(start=0, end=1, label="Loc"):
    return {"entities": [{"type": label, "start": start, "end": end}]}


def relation(head=0, tail=1, label="Kill"):
    return {"relations": [{"type": label, "head": head, "tail": tail}]}


def test_sample_survives_default_docbin(write, reload, nlp, report):
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


def test_records_without_annotation_survive(write, reload, nlp, report):
    records = [
        changed(entities=[], relations=[], orig_id=1),
        changed(relations=[], orig_id=2),
        RECORD,
    ]
    docs = reload(spert_to_docs(write(records), nlp=nlp, report=report))
    assert [to_record(doc) for doc in docs] == records
    assert (report.docs_without_entities, report.docs_without_relations) == (1, 2)
    assert all(doc.has_annotation("ENT_IOB") for doc in docs)


def test_overlaps_and_types_stay_apart(write, reload, nlp, report):
    entities = [
        {"type": "Org", "start": 0, "end": 2},
        {"type": "Peop", "start": 0, "end": 2},
        {"type": "Peop", "start": 1, "end": 2},
        {"type": "Loc", "start": 4, "end": 5},
    ]
    relations = [{"type": "Live_In", "head": 1, "tail": 3}]
    record = changed(entities=entities, relations=relations)
    (doc,) = reload(spert_to_docs(write([record]), nlp=nlp, report=report))
    assert to_record(doc) == record
    assert doc._.relations[0].head.label_ == "Peop"
    assert len(doc.ents) == 2
    assert report.overlapping_entities == 2


def test_duplicates_are_kept_once(write, nlp, report):
    record = changed()
    record["entities"].append(record["entities"][0])
    # The same relation, said with the other index of the same entity.
    record["relations"].append({"type": "Live_In", "head": 3, "tail": 1})
    docs = list(spert_to_docs(write([record, RECORD]), nlp=nlp, report=report))
    assert [to_record(doc) for doc in docs] == [RECORD, RECORD]
    assert (report.duplicate_entities, report.duplicate_relations) == (1, 1)
    assert report.duplicate_ids == 1
    assert report.n_relations == 4


def test_symmetric_relations_have_one_direction(write, nlp, report):
    relations = [
        {"type": "Near", "head": 2, "tail": 1},
        {"type": "Near", "head": 1, "tail": 2},
        {"type": "Located_In", "head": 2, "tail": 1},
    ]
    path, types = write([changed(relations=relations)]), write(TYPES, "types.json")
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
        ({"entities": [{"type": "Loc"}]}, "605", "entities[0]", "'type'", "the key 'start'"),
        (entity(start="0"), "604", "entities[0], start", "'0' (str)", "an integer"),
        (entity(end=True), "604", "entities[0], end", "True (bool)", "an integer"),
        (entity(label=""), "604", "entities[0], type", "''", "a string that is not empty"),
        *(
            (entity(s, e), "606", "entities[0]", f"start {s}, end {e}", "0 <= start < end <= 7")
            for s, e in ((-1, 2), (3, 3), (3, 2), (6, 8), (9, 10))
        ),
        *(
            (relation(tail=i), "607", "relations[0], tail", f"tail {i}", "0 <= tail < 3")
            for i in (-1, 3)
        ),
        (relation(head="0"), "604", "relations[0], head", "'0' (str)", "an integer"),
        (relation(label=None), "604", "relations[0], type", "None", "a string"),
    ],
)
def test_bad_records(write, assert_skipped, nlp, fields, code, place, found, expected):
    path = write([RECORD, changed(**fields)])
    parts = [f"record 1, {place}", found, expected]
    if "orig_id" not in fields:
        parts.append("'a7'")
    error, docs, report = assert_skipped(spert_to_docs, path, code, *parts, nlp=nlp)
    assert (error.file, error.place) == (str(path), f"record 1, {place}")
    assert [to_record(doc) for doc in docs] == [RECORD]
    assert (report.docs, report.n_entities, report.n_relations) == (1, 3, 2)


@pytest.mark.parametrize(
    ("fields", "place", "found"),
    [
        (entity(label="Org"), "entities[0]", "'Org'"),
        (relation(label="Kill"), "relations[0]", "'Kill'"),
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
