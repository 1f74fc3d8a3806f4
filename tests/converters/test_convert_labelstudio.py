from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from spacy_spanrel.annotations import get_entities, get_relations
from spacy_spanrel.converters import (
    ConversionReport,
    ExportReport,
    docs_to_labelstudio,
    get_orig_id,
    labelstudio_to_docs,
)
from tests.converters.texts import (
    NLP,
    TEXTS,
    gold_docs,
    view,
)

TEXT = "Ann Lee lives in Oslo."


def region(name, start, end, label="X", text=None, **more):
    """A result of the type "labels"; the quote is the text there unless told."""
    labels = [label] if isinstance(label, str) else label
    quote = TEXT[start:end] if text is None else text
    return {
        "value": {"start": start, "end": end, "text": quote, "labels": labels},
        "id": name,
        "from_name": "label",
        "to_name": "text",
        "type": "labels",
        "origin": "manual",
        **more,
    }


def arrow(head="gew3t9fgkg", tail="0gpIsb7s27", labels=("lives_in",), **more):
    """A result of the type "relation"."""
    return {
        "from_id": head,
        "to_id": tail,
        "type": "relation",
        "direction": "right",
        "labels": list(labels),
        **more,
    }


ANN, OSLO = region("gew3t9fgkg", 0, 7, "PERSON"), region("0gpIsb7s27", 17, 21, "CITY")
# As Label Studio 1.9 exports a task in the format JSON.
TASK = {
    "id": 7,
    "annotations": [
        {
            "id": 9,
            "completed_by": 1,
            "result": [ANN, OSLO, arrow()],
            "was_cancelled": False,
            "ground_truth": False,
            "created_at": "2023-03-09T22:16:08.728353Z",
            "lead_time": 4.288,
            "prediction": {},
            "result_count": 0,
            "task": 7,
        }
    ],
    "file_upload": "x.json",
    "drafts": [],
    "predictions": [],
    "data": {"text": TEXT},
    "meta": {},
    "project": 3,
}
VIEW = {
    "id": 7,
    "text": TEXT,
    "entities": [(0, 7, "PERSON"), (17, 21, "CITY")],
    "relations": [((0, 7, "PERSON"), "lives_in", (17, 21, "CITY"), None)],
}


def changed(**fields):
    return {**copy.deepcopy(TASK), **fields}


def task(*results, text=TEXT, **fields):
    """A task with this result."""
    data = {"text": text}
    return changed(**{"annotations": [{"result": list(results)}], "data": data, **fields})


def value(item, **fields):
    """A region with other values."""
    return {**item, "value": {**item["value"], **fields}}


def without(record, *keys):
    return {key: value for key, value in record.items() if key not in keys}


def triples(doc):
    return [r.to_triple() for r in get_relations(doc)]


def test_task_survives_default_docbin(write, reload, nlp, report):
    (doc,) = reload(labelstudio_to_docs(write([TASK]), nlp=nlp, report=report))
    assert view(doc) == VIEW
    assert not doc.has_unknown_spaces
    assert [ent.text for ent in doc.ents] == ["Ann Lee", "Oslo"]
    assert (report.docs, report.n_entities, report.n_relations) == (1, 2, 1)
    assert not report.notes


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        ("right", [("Ann Lee", "lives_in", "Oslo")]),
        (None, [("Ann Lee", "lives_in", "Oslo")]),
        ("left", [("Oslo", "lives_in", "Ann Lee")]),
        ("bi", [("Ann Lee", "lives_in", "Oslo"), ("Oslo", "lives_in", "Ann Lee")]),
    ],
)
def test_directions(write, nlp, direction, expected, report):
    record = task(arrow(direction=direction), ANN, OSLO)
    (doc,) = labelstudio_to_docs(write([record]), nlp=nlp, report=report)
    assert triples(doc) == expected
    both = "relations in both directions, read as two"
    assert report.notes == ({both: 1} if direction == "bi" else {})


def test_both_directions_of_a_symmetric_relation_are_one(write, nlp):
    names = {"entities": {"PERSON": {}, "CITY": {}}, "relations": {"lives_in": {"symmetric": True}}}
    record = task(ANN, OSLO, arrow(direction="bi"))
    types = write(names, "types.json")
    (doc,) = labelstudio_to_docs(write([record]), nlp=nlp, types=types)
    assert triples(doc) == [("Ann Lee", "lives_in", "Oslo")]


def test_relations_with_several_labels_and_without(write, nlp, report):
    record = task(ANN, OSLO, arrow(labels=["a", "b"]), arrow(labels=[]), without(arrow(), "labels"))
    (doc,) = labelstudio_to_docs(write([record]), nlp=nlp, report=report)
    assert [label for _, label, _ in triples(doc)] == ["a", "b", "RELATION"]
    assert report.notes["relations without a label, called RELATION"] == 2
    assert report.duplicate_relations == 1


def test_regions_with_several_labels_and_without(write, nlp, report):
    several = region("a", 0, 7, ["PERSON", "WOMAN"])
    # Two tags may label one region.
    again = region("b", 17, 21, "CITY"), region("b", 17, 21, "CAPITAL", from_name="other")
    record = task(several, *again, region("c", 8, 13, []), arrow("a", "b"), arrow("a", "c"))
    (doc,) = labelstudio_to_docs(write([record]), nlp=nlp, report=report)
    assert view(doc)["entities"] == [
        (0, 7, "PERSON"),
        (0, 7, "WOMAN"),
        (17, 21, "CITY"),
        (17, 21, "CAPITAL"),
        (8, 13, "ENTITY"),
    ]
    assert [(r.head.label_, r.tail.label_) for r in get_relations(doc)] == [
        ("PERSON", "CITY"),
        ("PERSON", "ENTITY"),
    ]
    assert report.notes == {
        "regions without a label, called ENTITY": 1,
        "arguments with several labels, of which the first counts": 3,
    }


def test_first_completed_annotation_counts(write, nlp, report):
    first = {"result": [region("x", 0, 3)], "was_cancelled": True}
    second, third = {"result": [ANN], "was_cancelled": False}, {"result": [OSLO]}
    records = [
        changed(annotations=[first, second, third, first], predictions=[{"result": []}, 8]),
        changed(annotations=[first]),
        changed(annotations=[]),
        changed(annotations=[{"result": []}]),
    ]
    docs = list(labelstudio_to_docs(write(records), nlp=nlp, report=report))
    # An annotation without results says that there is nothing; no annotation says nothing.
    assert [[e.text for e in get_entities(doc)] for doc in docs] == [["Ann Lee"], []]
    assert report.notes == {
        "cancelled annotations, not read": 3,
        "further annotations of a task, not read": 1,
        "predictions, not read": 2,
        "tasks without a completed annotation, left out": 2,
    }


def test_other_results_are_counted_and_their_relations_reported(write, nlp, report):
    choice = {"id": "c1", "type": "choices", "to_name": "text", "value": {"choices": ["x"]}}
    per_region = {"id": ANN["id"], "type": "textarea", "value": {"text": ["note"]}}
    no_id = {"type": "choices", "value": {"choices": ["y"]}}
    record = task(choice, per_region, no_id, ANN, OSLO, arrow(), arrow("c1"))
    (doc,) = labelstudio_to_docs(write([record]), nlp=nlp, report=report)
    assert view(doc) == VIEW
    assert report.notes == {
        "results of the type choices, not read": 2,
        "results of the type textarea, not read": 1,
    }
    (finding,) = report.lost_relations
    assert finding.record == "7"
    assert "lives_in: from_id 'c1' is of the type choices" in finding.text


def test_empty_text_and_ids(write, reload, nlp):
    records = [task(text=""), task(id="a"), task(id=None)]
    docs = reload(labelstudio_to_docs(write(records), nlp=nlp))
    assert [doc.text for doc in docs] == ["", TEXT, TEXT]
    assert [get_orig_id(doc) for doc in docs] == [7, "a", None]


def test_misaligned_regions(write, nlp, report):
    record = task(region("a", 1, 8))
    (doc,) = labelstudio_to_docs(write([record]), nlp=nlp, report=report)
    assert view(doc)["entities"] == [(0, 7, "X")]
    assert [f.text for f in report.misaligned] == ["'nn Lee' (X) widened to 'Ann Lee'"]
    assert report.notes == {"entities with blanks around them, cut off": 1}


# The annotated text


def test_text_that_the_results_name(write, nlp, report):
    data = {"title": "Oslo", "body": TEXT, "text": "no", "n": 1}
    named = [{**item, "to_name": "body"} for item in (ANN, OSLO)]
    source = [{**item, "source": "$body"} for item in (ANN, OSLO)]
    for results in (named, source):
        record = task(*results, arrow(), data=data)
        (doc,) = labelstudio_to_docs(write([record]), nlp=nlp, report=report)
        assert view(doc) == VIEW
    # Without results, the one that is called so.
    (doc,) = labelstudio_to_docs(write([task(data=data)]), nlp=nlp)
    assert doc.text == "no"
    (doc,) = labelstudio_to_docs(write([task(data={"n": 1, "q": "x"})]), nlp=nlp)
    assert doc.text == "x"


def test_text_key(write, nlp, assert_fails):
    data = {"title": "Oslo", "body": TEXT}
    path = write([task(ANN, OSLO, arrow(), data=data)])
    assert_fails(labelstudio_to_docs, path, "624", "'title', 'body'", "--text-key", nlp=nlp)
    (doc,) = labelstudio_to_docs(path, nlp=nlp, text_key="body")
    assert view(doc) == VIEW
    assert_fails(labelstudio_to_docs, path, "605", "'boby'", "data", nlp=nlp, text_key="boby")
    assert_fails(labelstudio_to_docs, write([task(data={})]), "624", "(none)", nlp=nlp)


def test_regions_of_another_text(write, nlp, assert_fails, report):
    data = {"title": "Oslo", "body": TEXT}
    other = region("t", 0, 4, text="Oslo", to_name="title")
    mine = [{**item, "to_name": "body"} for item in (ANN, OSLO)]
    path = write([task(other, *mine, arrow(), arrow("t"), data=data)])
    assert_fails(labelstudio_to_docs, path, "624", "'title', 'body'", nlp=nlp)
    (doc,) = labelstudio_to_docs(path, nlp=nlp, text_key="body", report=report)
    assert view(doc) == VIEW
    assert report.notes == {"regions of another text, left out": 1}
    assert "'t' is in the text 'title'" in report.lost_relations[0].text


# Offsets


def test_offsets_in_utf16_units_are_converted(write, nlp):
    text = "💩This 😀 is an annotation."
    for start, end, notes in (
        (14, 24, {}),
        (16, 26, {"texts whose offsets count UTF-16 units, converted": 1}),
    ):
        first = region("a", start - 6, start - 4, text="is")
        record = task(first, region("b", start, end, text="annotation"), text=text)
        report = ConversionReport()
        (doc,) = labelstudio_to_docs(write([record]), nlp=nlp, report=report)
        assert [e.text for e in get_entities(doc)] == ["is", "annotation"]
        assert report.notes == notes


def test_unit_is_that_of_most_regions(write, nlp, assert_fails, report):
    # "a" is at its offset in both units; "b" only in one.
    text = "😀aaa b"
    record = task(region("a", 2, 3, text="a"), region("b", 6, 7, text="b"), text=text)
    (doc,) = labelstudio_to_docs(write([record]), nlp=nlp, report=report)
    assert [f.text for f in report.misaligned] == ["'a' (X) widened to 'aaa'"]
    assert list(report.notes) == ["texts whose offsets count UTF-16 units, converted"]
    # One that fits in neither is an error, with what is there.
    record = task(region("a", 6, 7, text="b"), region("b", 2, 3, text="z"), text=text)
    assert_fails(labelstudio_to_docs, write([record]), "623", "'a' at 2 3", "'z'", nlp=nlp)


@pytest.mark.parametrize("quote", ["Ann\\nLee", "Ann\nLee", "Ann Lee"])
def test_line_ends(write, nlp, quote):
    text = "So\r\nAnn\r\nLee sings\r\n"
    # As they are, and as a browser counts them.
    for start, end in ((4, 12), (3, 10)):
        report = ConversionReport()
        record = task(region("a", start, end, text=quote), text=text)
        (doc,) = labelstudio_to_docs(write([record]), nlp=nlp, report=report)
        assert [e.text for e in get_entities(doc)] == ["Ann\r\nLee"]
        note = "texts whose offsets count code points, a line end of two as one, converted"
        assert report.notes == ({} if start == 4 else {note: 1})


def test_regions_without_a_quote_are_taken_at_their_offsets(write, nlp):
    record = task(value(ANN, text=None), without(OSLO, "value") | {"value": {**OSLO["value"]}})
    del record["annotations"][0]["result"][1]["value"]["text"]
    (doc,) = labelstudio_to_docs(write([record]), nlp=nlp)
    assert [e.text for e in get_entities(doc)] == ["Ann Lee", "Oslo"]


# Errors


@pytest.mark.parametrize(
    ("record", "code", "parts"),
    [
        (5, "604", ["an object"]),
        (without(TASK, "annotations"), "605", ["'annotations'", "JSON-MIN"]),
        (without(TASK, "data"), "605", ["'data'"]),
        (changed(data=[TEXT]), "604", ["data"]),
        (changed(data={"text": [TEXT]}), "624", ["(none)"]),
        (changed(annotations={}), "604", ["annotations"]),
        (changed(annotations=["x"]), "604", ["annotations[0]"]),
        (changed(annotations=[{"id": 1}]), "605", ["annotations[0]", "'result'"]),
        (
            changed(annotations=[{"result": [], "was_cancelled": "no"}]),
            "604",
            ["was_cancelled", "'no'"],
        ),
        (changed(predictions=3), "604", ["predictions"]),
        (task("x"), "604", ["annotations[0], result[0]"]),
        (task(without(ANN, "type")), "605", ["'type'"]),
        (task(without(ANN, "id")), "605", ["'id'"]),
        (task({**ANN, "id": ""}), "604", ["id"]),
        (task(without(ANN, "value")), "605", ["'value'"]),
        (task(value(ANN, start="/p[1]/text()[1]")), "604", ["start", "an integer"]),
        (task(value(ANN, labels="X")), "604", ["labels", "a list"]),
        (task(value(ANN, labels=[7])), "604", ["labels[0]", "7 (int)"]),
        (task(value(ANN, text=7)), "604", ["text", "7 (int)"]),
        (task(value(ANN, text="Bo")), "623", ["'Ann Lee' at 0 7", "'Bo'"]),
        (task(value(ANN, end=99)), "606", ["result[0], value", "end 99", "<= 22"]),
        (task(value(ANN, end=0, text="")), "606", ["start 0, end 0"]),
        (task(region("a", 3, 4)), "606", ["only blanks"]),
        (task(ANN, OSLO, arrow(tail="none")), "607", ["result[2], to_id", "'none'", "2 regions"]),
        (task(ANN, OSLO, without(arrow(), "to_id")), "605", ["'to_id'"]),
        (task(ANN, OSLO, arrow(direction="up")), "604", ["direction", "'up'", "right, left, bi"]),
        (task(ANN, OSLO, arrow(labels=[3])), "604", ["labels[0]"]),
    ],
)
def test_wrong_tasks(write, nlp, assert_skipped, record, code, parts):
    path = write([TASK, record])
    error, docs, _ = assert_skipped(labelstudio_to_docs, path, code, "record 1", *parts, nlp=nlp)
    assert error.id == (7 if isinstance(record, dict) else None)
    assert [view(doc) for doc in docs] == [VIEW]


def test_quote_of_a_huge_wrong_range_costs_little(write, nlp, assert_fails):
    text = "word " * 190_000
    regions = [region(str(i), i, len(text), text="word") for i in range(2_000)]
    error = assert_fails(labelstudio_to_docs, write([task(*regions, text=text)]), "623", nlp=nlp)
    assert len(str(error)) < 600


# The way back


def test_task_that_is_written(write, nlp):
    (doc,) = labelstudio_to_docs(write([TASK]), nlp=nlp)
    report = ExportReport()
    (record,) = docs_to_labelstudio([doc], report)
    assert record == {
        "id": 7,
        "data": {"text": TEXT},
        "annotations": [
            {
                "result": [
                    {**without(ANN, "origin"), "id": "e0"},
                    {**without(OSLO, "origin"), "id": "e1"},
                    arrow("e0", "e1"),
                ],
                "was_cancelled": False,
            }
        ],
    }
    assert (report.docs, report.entities, report.relations, report.notes) == (1, 2, 1, {})


def count_as_utf16(record):
    """Change offsets to UTF-16 units, as old versions of Label Studio count."""
    text = record["data"]["text"]
    changes = 0
    for item in record["annotations"][0]["result"]:
        if item["type"] == "labels":
            place = item["value"]
            for key in ("start", "end"):
                place[key] = len(text[: place[key]].encode("utf-16-le")) // 2
            changes += text[place["start"] : place["end"]] != place["text"]
    # If all quotes fit in code points too, the unit cannot be told.
    assume(changes)


@given(gold_docs(TEXTS.map(NLP), ["A", "B b", "É:1"]), st.booleans())
def test_nothing_is_lost(doc, in_utf16_units):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.json"
        records = list(docs_to_labelstudio([doc], ExportReport()))
        task_in_units = copy.deepcopy(records[0])
        if in_utf16_units:
            count_as_utf16(task_in_units)
        path.write_text(json.dumps([task_in_units]), encoding="utf-8")
        (back,) = labelstudio_to_docs(path, nlp=NLP)
        assert view(back) == view(doc)
        # And from the file to a Doc and back.
        assert list(docs_to_labelstudio([back], ExportReport())) == records
