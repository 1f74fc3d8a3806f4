from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from spacy.tokens import Span

from spacy_spanrel.annotations import get_entities, get_relations
from spacy_spanrel.converters import (
    ExportReport,
    doccano_to_docs,
    docs_to_doccano,
    get_orig_id,
)
from tests.converters.texts import (
    NLP,
    TEXTS,
    annotate,
    gold_docs,
    to_lines,
    view,
    write_lines,
)

# As doccano 1.8 exports a record of a project with relations.
RECORD = {
    "id": 6400,
    "text": "Ann Lee lives in Oslo.",
    "entities": [
        {"id": 1662, "label": "PERSON", "start_offset": 0, "end_offset": 7},
        {"id": 1663, "label": "CITY", "start_offset": 17, "end_offset": 21},
    ],
    "relations": [{"id": 273, "from_id": 1662, "to_id": 1663, "type": "lives_in"}],
    "Comments": [],
}
VIEW = {
    "id": 6400,
    "text": "Ann Lee lives in Oslo.",
    "entities": [(0, 7, "PERSON"), (17, 21, "CITY")],
    "relations": [((0, 7, "PERSON"), "lives_in", (17, 21, "CITY"), None)],
}
ANN, OSLO = RECORD["entities"]
NOTE = "texts with characters beyond U+FFFF, whose offsets were taken as "


def changed(**fields):
    return {**copy.deepcopy(RECORD), **fields}


def without(record, *keys):
    return {key: value for key, value in record.items() if key not in keys}


def entity(start, end, label="X", **more):
    return {"start_offset": start, "end_offset": end, "label": label, **more}


def test_record_survives_default_docbin(write, reload, nlp, report):
    (doc,) = reload(doccano_to_docs(write(to_lines([RECORD])), nlp=nlp, report=report))
    assert view(doc) == VIEW
    assert not doc.has_unknown_spaces
    assert [ent.text for ent in doc.ents] == ["Ann Lee", "Oslo"]
    assert (report.docs, report.n_entities, report.n_relations) == (1, 2, 1)
    assert not report.notes


@pytest.mark.parametrize(
    "record",
    [
        {"id": 6400, "text": VIEW["text"], "label": [[0, 7, "PERSON"], [17, 21, "CITY"]]},
        {"id": 6400, "text": VIEW["text"], "labels": [[0, 7, "PERSON"], [17, 21, "CITY"]]},
        {"id": 6400, "data": VIEW["text"], "label": [[0, 7, "PERSON"], [17, 21, "CITY"]]},
        {
            "doc_id": 6400,
            "text": VIEW["text"],
            "entities": [[0, 7, "PERSON"], [17, 21, "CITY"]],
            "username": "admin",
            "metadata": {},
        },
    ],
)
def test_forms_without_relations(write, nlp, record):
    (doc,) = doccano_to_docs(write(to_lines([record])), nlp=nlp)
    assert view(doc) == {**VIEW, "relations": []}


def test_records_without_relations_or_entities_are_kept(write, reload, nlp, report):
    records = [
        changed(relations=[]),
        changed(relations=[], entities=[]),
        {"text": "Rain.", "label": []},
        {"text": "", "entities": [], "relations": []},
    ]
    docs = reload(doccano_to_docs(write(to_lines(records)), nlp=nlp, report=report))
    assert [(doc.text, len(get_entities(doc))) for doc in docs] == [
        (VIEW["text"], 2),
        (VIEW["text"], 0),
        ("Rain.", 0),
        ("", 0),
    ]
    assert [get_orig_id(doc) for doc in docs] == [6400, 6400, None, None]
    assert (report.docs_without_entities, report.docs_without_relations) == (3, 4)


def test_misaligned_entities_are_widened_and_blanks_cut_off(write, nlp, report):
    record = changed(entities=[entity(1, 8, id=1662), entity(16, 23 - 1, id=1663)])
    (doc,) = doccano_to_docs(write(to_lines([record])), nlp=nlp, report=report)
    assert [e.text for e in get_entities(doc)] == ["Ann Lee", "Oslo."]
    assert [(f.record, f.text) for f in report.misaligned] == [
        ("6400", "'nn Lee' (X) widened to 'Ann Lee'")
    ]
    assert report.notes == {"entities with blanks around them, cut off": 2}
    assert get_relations(doc)[0].to_triple() == ("Ann Lee", "lives_in", "Oslo.")


def test_several_labels_overlaps_and_duplicates(write, nlp, report):
    entities = [
        entity(0, 7, "A", id=1),
        entity(0, 7, "B", id=2),
        entity(4, 7, "A", id=3),
        entity(0, 7, "A", id=4),
    ]
    relations = [
        {"id": 1, "from_id": 2, "to_id": 3, "type": "r"},
        {"id": 2, "from_id": 4, "to_id": 2, "type": "r"},
        {"id": 3, "from_id": 1, "to_id": 2, "type": "r"},
    ]
    record = changed(entities=entities, relations=relations)
    (doc,) = doccano_to_docs(write(to_lines([record])), nlp=nlp, report=report)
    assert view(doc)["entities"] == [(0, 7, "A"), (0, 7, "B"), (4, 7, "A")]
    assert view(doc)["relations"] == [
        ((0, 7, "B"), "r", (4, 7, "A"), None),
        ((0, 7, "A"), "r", (0, 7, "B"), None),
    ]
    assert (report.duplicate_entities, report.duplicate_relations) == (1, 1)


def test_second_list_of_labels_is_counted(write, nlp, report):
    list(doccano_to_docs(write(to_lines([changed(label=[])])), nlp=nlp, report=report))
    assert report.notes == {"lists 'label' beside 'entities', not read": 1}


@pytest.mark.parametrize(
    ("offsets", "setting", "unit"),
    [
        # The text is "😀 Ann of 𝒜 in Oslo": only one count fits its tokens.
        ((2, 5, 14, 18), "auto", "code points"),
        ((3, 6, 16, 20), "auto", "UTF-16 units"),
        ((2, 5, 14, 18), "code-points", "code points"),
        ((3, 6, 16, 20), "utf-16", "UTF-16 units"),
    ],
)
def test_characters_beyond_the_basic_plane(write, nlp, offsets, setting, unit, report):
    text = "😀 Ann of 𝒜 in Oslo"
    a, b, c, d = offsets
    record = changed(text=text, entities=[entity(a, b, id=1662), entity(c, d, id=1663)])
    path = write(to_lines([record]))
    (doc,) = doccano_to_docs(path, nlp=nlp, offsets=setting, report=report)
    assert get_relations(doc)[0].to_triple() == ("Ann", "lives_in", "Oslo")
    assert report.notes == {NOTE + unit: 1}
    assert not report.misaligned


def test_doccanos_own_count_is_taken_where_both_fit(write, nlp):
    text = "😀😀 A B"
    path = write(to_lines([{"text": text, "label": [[5, 6, "X"]]}]))
    (doc,) = doccano_to_docs(path, nlp=nlp)
    assert [e.text for e in get_entities(doc)] == ["A"]
    (doc,) = doccano_to_docs(path, nlp=nlp, offsets="code-points")
    assert [e.text for e in get_entities(doc)] == ["B"]


def test_offsets_inside_a_character(write, nlp, assert_fails):
    path = write(to_lines([{"text": "😀a", "label": [[1, 3, "X"]]}]))
    assert_fails(doccano_to_docs, path, "606", "start 1", "label[0]", offsets="utf-16", nlp=nlp)
    assert_fails(doccano_to_docs, path, "613", "'bytes'", "'utf-16'", offsets="bytes", nlp=nlp)


@pytest.mark.parametrize(
    ("fields", "code", "parts"),
    [
        ({"text": 7}, "604", ["text", "7 (int)"]),
        ({"text": "a\ud800"}, "604", ["surrogates"]),
        ({"id": 1.5}, "604", ["id", "1.5"]),
        ({"entities": "x"}, "604", ["entities", "a list"]),
        ({"entities": [5]}, "604", ["entities[0]", "an object"]),
        ({"entities": [[0, 7]]}, "604", ["entities[0]", "a list of 3 items"]),
        ({"entities": [[0, "7", "A"]]}, "604", ["entities[0][1]", "'7'"]),
        ({"entities": [[0, 7, ""]]}, "604", ["entities[0][2]"]),
        ({"entities": [without(ANN, "label")]}, "605", ["entities[0]", "'label'"]),
        ({"entities": [{**ANN, "start_offset": 1.0}]}, "604", ["start_offset", "1.0"]),
        ({"entities": [{**ANN, "label": 3}]}, "604", ["entities[0], label", "3 (int)"]),
        ({"entities": [{**ANN, "end_offset": 23}]}, "606", ["entities[0]", "end 23", "<= 22"]),
        ({"entities": [{**ANN, "start_offset": -1}]}, "606", ["start -1"]),
        ({"entities": [{**ANN, "end_offset": 0}]}, "606", ["start 0, end 0"]),
        ({"entities": [{**ANN, "end_offset": 10**40}]}, "606", ["end 1000"]),
        ({"entities": [entity(3, 4)]}, "606", ["only blanks"]),
        ({"entities": [ANN, {**OSLO, "id": 1662}]}, "621", ["entities[1], id", "1662 again"]),
        ({"relations": [{"from_id": 1662, "type": "x"}]}, "605", ["relations[0]", "'to_id'"]),
        (
            {"relations": [{"from_id": 1662, "to_id": 9, "type": "x"}]},
            "607",
            ["relations[0], to_id", "to_id 9", "2 entities"],
        ),
        ({"relations": [{"from_id": 1662, "to_id": None, "type": "x"}]}, "607", ["to_id None"]),
        ({"relations": [{"from_id": 1662, "to_id": 1663, "type": None}]}, "604", ["type"]),
        ({"relations": ["x"]}, "604", ["relations[0]"]),
    ],
)
def test_wrong_records(write, nlp, assert_skipped, fields, code, parts):
    path = write(json.dumps(RECORD) + "\n" + json.dumps(changed(**fields)))
    error, docs, _ = assert_skipped(doccano_to_docs, path, code, "line 2", *parts, nlp=nlp)
    assert error.id == (None if "id" in fields else 6400)
    assert [view(doc) for doc in docs] == [VIEW]


# The way back


def test_records_that_are_written(write, nlp):
    docs = doccano_to_docs(write(to_lines([RECORD, RECORD])), nlp=nlp)
    report = ExportReport()
    first, second = docs_to_doccano(docs, report)
    assert first == {
        "id": 6400,
        "text": RECORD["text"],
        "entities": [{**ANN, "id": 0}, {**OSLO, "id": 1}],
        "relations": [{"id": 0, "from_id": 0, "to_id": 1, "type": "lives_in"}],
    }
    # Ids are unique over the file.
    assert [item["id"] for item in second["entities"]] == [2, 3]
    assert second["relations"] == [{"id": 1, "from_id": 2, "to_id": 3, "type": "lives_in"}]
    assert (report.docs, report.entities, report.relations, report.notes) == (2, 4, 2, {})


def test_offsets_are_written_as_doccano_counts(nlp):
    doc = nlp("😀 Ann")
    annotate(doc, [Span(doc, 0, 1, label="X"), Span(doc, 1, 2, label="Y")])
    report = ExportReport()
    (record,) = docs_to_doccano([doc], report)
    assert [(e["start_offset"], e["end_offset"]) for e in record["entities"]] == [(0, 2), (3, 6)]
    assert report.notes == {
        "texts with characters beyond U+FFFF, written with offsets in UTF-16 units": 1
    }


@given(gold_docs(TEXTS.map(NLP), ["A", "B b", "É:1"]))
def test_nothing_is_lost(doc):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.jsonl"
        records = list(docs_to_doccano([doc], ExportReport()))
        # Each of the two ways to say it.
        for offsets in ("auto", "utf-16"):
            (back,) = doccano_to_docs(write_lines(path, records), nlp=NLP, offsets=offsets)
            assert view(back) == view(doc)
        # And from the file to a Doc and back.
        assert list(docs_to_doccano([back], ExportReport())) == records
