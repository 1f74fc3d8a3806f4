from __future__ import annotations

import copy
import json
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from typer.testing import CliRunner

from spacy_spanrel.annotations import get_clusters, get_entities, get_relations
from spacy_spanrel.cli import app
from spacy_spanrel.converters import (
    ExportReport,
    docs_to_prodigy,
    get_orig_id,
    prodigy_to_docs,
)
from tests.converters.texts import (
    NLP,
    TEXTS,
    WORDS,
    given_tokens,
    gold_docs,
    to_lines,
    view,
    write_lines,
)

# As db-out of Prodigy 1.11 writes a record of rel.manual.
TOKENS = [
    {"text": "Ann", "start": 0, "end": 3, "id": 0, "ws": True, "disabled": False},
    {"text": "Lee", "start": 4, "end": 7, "id": 1, "ws": True, "disabled": False},
    {"text": "can", "start": 8, "end": 11, "id": 2, "ws": False, "disabled": True},
    {"text": "not", "start": 11, "end": 14, "id": 3, "ws": True, "disabled": True},
    {"text": "leave", "start": 15, "end": 20, "id": 4, "ws": True, "disabled": True},
    {"text": "Oslo", "start": 21, "end": 25, "id": 5, "ws": False, "disabled": False},
    {"text": ".", "start": 25, "end": 26, "id": 6, "ws": False, "disabled": True},
]
ANN = {"start": 0, "end": 7, "token_start": 0, "token_end": 1, "label": "PERSON"}
OSLO = {"start": 21, "end": 25, "token_start": 5, "token_end": 5, "label": "CITY"}
RECORD = {
    "text": "Ann Lee cannot leave Oslo.",
    "meta": {"source": "x"},
    "_input_hash": -400334998,
    "_task_hash": 1861007191,
    "_is_binary": False,
    "spans": [{"text": "Ann Lee", "type": "span", **ANN}, {"text": "Oslo", **OSLO}],
    "tokens": TOKENS,
    "_view_id": "relations",
    "relations": [
        {
            "head": 1,
            "child": 5,
            "head_span": ANN,
            "child_span": OSLO,
            "color": "#ffd882",
            "label": "lives_in",
        }
    ],
    "answer": "accept",
    "_timestamp": 1650000000,
}
VIEW = {
    "id": 1861007191,
    "text": "Ann Lee cannot leave Oslo.",
    "entities": [(0, 7, "PERSON"), (21, 25, "CITY")],
    "relations": [((0, 7, "PERSON"), "lives_in", (21, 25, "CITY"), None)],
}


def changed(**fields):
    return {**copy.deepcopy(RECORD), **fields}


def relation(**fields):
    return {**copy.deepcopy(RECORD["relations"][0]), **fields}


def without(record, *keys):
    return {key: value for key, value in record.items() if key not in keys}


def test_record_survives_default_docbin(write, reload, nlp, report):
    (doc,) = reload(prodigy_to_docs(write(to_lines([RECORD])), nlp=nlp, report=report))
    assert view(doc) == VIEW
    # The tokens and spaces of the file, which the tokenizer would make otherwise.
    assert [(t.text, bool(t.whitespace_)) for t in doc] == [(t["text"], t["ws"]) for t in TOKENS]
    assert not doc.has_unknown_spaces
    assert [ent.text for ent in doc.ents] == ["Ann Lee", "Oslo"]
    assert (report.docs, report.n_entities, report.n_relations) == (1, 2, 1)
    assert not report.notes


def test_rejected_and_ignored_records_are_left_out(write, nlp, report):
    records = [changed(answer=a) for a in ("reject", "ignore", "accept", "reject")]
    records.append(without(RECORD, "answer"))
    docs = list(prodigy_to_docs(write(to_lines(records)), nlp=nlp, report=report))
    assert len(docs) == 2
    assert report.notes == {
        "records with the answer reject, left out": 2,
        "records with the answer ignore, left out": 1,
    }
    # Session copies of a task are kept and counted.
    assert report.duplicate_ids == 1


def test_records_without_relations_or_spans_are_kept(write, reload, nlp, report):
    records = [
        changed(relations=[]),
        changed(relations=[], spans=[]),
        without(RECORD, "relations", "spans"),
        changed(text="", tokens=[], relations=[], spans=None),
        {"text": ""},
    ]
    docs = reload(prodigy_to_docs(write(to_lines(records)), nlp=nlp, report=report))
    assert [len(get_entities(doc)) for doc in docs] == [2, 0, 0, 0, 0]
    assert [doc.text for doc in docs] == [RECORD["text"]] * 3 + ["", ""]
    assert (report.docs_without_entities, report.docs_without_relations) == (4, 5)


def test_ids(write, nlp):
    records = [changed(id="a"), changed(id=0), changed(id=""), without(RECORD, "_task_hash")]
    docs = prodigy_to_docs(write(to_lines(records)), nlp=nlp)
    assert [get_orig_id(doc) for doc in docs] == ["a", 0, None, None]


def test_record_without_tokens_is_tokenized(write, nlp, report):
    record = without(RECORD, "tokens")
    record["spans"] = [{"start": 0, "end": 6, "label": "PERSON"}, ANN, OSLO]
    (doc,) = prodigy_to_docs(write(to_lines([record])), nlp=nlp, report=report)
    assert doc.text == RECORD["text"]
    assert "can" in [token.text for token in doc]
    assert view(doc)["relations"] == VIEW["relations"]
    assert [(f.record, f.text) for f in report.misaligned] == [
        ("1861007191", "'Ann Le' (PERSON) widened to 'Ann Lee'")
    ]
    assert report.notes == {"records without tokens, tokenized": 1}


def test_old_tokens_without_ws_and_id(write, nlp):
    tokens = [without(token, "ws", "id", "disabled") for token in TOKENS]
    (doc,) = prodigy_to_docs(write(to_lines([changed(tokens=tokens)])), nlp=nlp)
    assert [token.text for token in doc] == [token["text"] for token in TOKENS]
    assert view(doc) == VIEW


def test_arguments_without_spans_are_found_by_their_token(write, nlp):
    outer = {"start": 0, "end": 20, "token_start": 0, "token_end": 4, "label": "CLAUSE"}
    bare = [without(relation(head=1, child=5), "head_span", "child_span")]
    record = changed(spans=[outer, ANN, OSLO], relations=bare)
    (doc,) = prodigy_to_docs(write(to_lines([record])), nlp=nlp)
    # The one that ends with the token, not the one around it.
    assert view(doc)["relations"] == VIEW["relations"]


def test_plain_tokens_become_entities(write, nlp, report):
    verb = {"start": 15, "end": 20, "token_start": 4, "token_end": 4, "label": None}
    person = {**ANN, "label": None}
    relations = [
        relation(child=4, child_span=verb, head_span=person),
        without(relation(head=4, child=6, head_span=verb), "child_span"),
    ]
    record = changed(relations=relations)
    (doc,) = prodigy_to_docs(write(to_lines([record])), nlp=nlp, report=report)
    assert [r.to_triple() for r in get_relations(doc)] == [
        ("Ann Lee", "lives_in", "leave"),
        ("leave", "lives_in", "."),
    ]
    assert report.entities == {"PERSON": 1, "CITY": 1, "ENTITY": 2}
    assert report.notes["arguments of relations that are not among the spans, added"] == 2


def test_plain_tokens_in_coreference_become_mentions(write, nlp, report):
    # Whatever the order of the relations.
    relations = [
        without(relation(head=2, child=5), "head_span"),
        without(relation(head=2, child=1, label="COREF"), "head_span", "child_span"),
    ]
    path = write(to_lines([changed(relations=relations)]))
    (doc,) = prodigy_to_docs(path, nlp=nlp, report=report, coref="COREF")
    assert [[m.text for m in cluster] for cluster in get_clusters(doc)] == [["Ann Lee", "can"]]
    assert [span.text for span in get_entities(doc)] == ["Ann Lee", "Oslo"]
    (lives_in,) = get_relations(doc)
    assert lives_in.to_triple() == ("can", "lives_in", "Oslo")
    assert lives_in.head.label_ == "PERSON"


def test_direction_is_from_head_to_child(write, nlp):
    turned = relation(head=5, child=1, head_span=OSLO, child_span=ANN)
    (doc,) = prodigy_to_docs(write(to_lines([changed(relations=[turned])])), nlp=nlp)
    assert get_relations(doc)[0].to_triple() == ("Oslo", "lives_in", "Ann Lee")


def test_overlapping_and_repeated_spans(write, nlp, report):
    inner = {"start": 4, "end": 7, "token_start": 1, "token_end": 1, "label": "NAME"}
    other = {**ANN, "label": "WOMAN"}
    record = changed(spans=[ANN, inner, other, ANN, OSLO])
    (doc,) = prodigy_to_docs(write(to_lines([record])), nlp=nlp, report=report)
    assert len(get_entities(doc)) == 4
    assert (report.duplicate_entities, report.overlapping_entities) == (1, 2)
    assert view(doc)["relations"] == VIEW["relations"]


def test_json_list_blank_lines_and_byte_order_mark(write, nlp):
    for content in (
        json.dumps([RECORD, RECORD], indent=1),
        f"\ufeff\n{to_lines([RECORD])}\r\n  \n{json.dumps(RECORD)}",
    ):
        docs = list(prodigy_to_docs(write(content), nlp=nlp))
        assert [view(doc) for doc in docs] == [VIEW, VIEW]


@pytest.mark.parametrize(
    ("fields", "code", "parts"),
    [
        ({"text": None}, "604", ["text", "None"]),
        ({"text": "\ud800"}, "604", ["surrogates"]),
        ({"answer": "maybe"}, "604", ["answer", "'maybe'", "accept, reject, ignore"]),
        ({"id": [1]}, "604", ["id"]),
        ({"spans": {}}, "604", ["spans", "a list"]),
        ({"spans": ["x"]}, "604", ["spans[0]", "an object"]),
        ({"spans": [{**ANN, "label": 3}]}, "604", ["spans[0]", "3 (int)"]),
        ({"spans": [{**ANN, "token_end": 7}]}, "606", ["spans[0], token_start", "end 7", "< 7"]),
        ({"spans": [{**ANN, "token_end": 2}]}, "606", ["spans[0], end", "inclusive", "11"]),
        ({"spans": [{**ANN, "token_start": True}]}, "604", ["True"]),
        ({"spans": [without(ANN, "token_end")]}, "605", ["'token_end'"]),
        ({"spans": [without(ANN, "token_start", "start")]}, "605", ["'start'"]),
        ({"spans": [{"start": 3, "end": 4, "label": "X"}]}, "606", ["only blanks"]),
        ({"spans": [{"start": 3, "end": 99, "label": "X"}]}, "606", ["end 99", "<= 26"]),
        ({"tokens": 3}, "604", ["tokens"]),
        ({"tokens": [*TOKENS[:5], "Oslo"]}, "604", ["tokens[5]"]),
        ({"tokens": TOKENS[:-1]}, "622", ["tokens", "25", "26"]),
        ({"tokens": []}, "622", ["26 characters"]),
        ({"tokens": [TOKENS[0], *TOKENS]}, "622", ["[1]", "'Ann'", "'Lee cannot"]),
        ({"tokens": [{**TOKENS[0], "ws": False}, *TOKENS[1:]]}, "622", ["[1]", "' Lee cannot"]),
        ({"tokens": [{**TOKENS[0], "ws": "yes"}, *TOKENS[1:]]}, "604", ["ws", "'yes'"]),
        ({"tokens": [{**TOKENS[0], "id": 1}, *TOKENS[1:]]}, "622", ["id 1"]),
        ({"tokens": [{**TOKENS[0], "start": 1}, *TOKENS[1:]]}, "622", ["start 1"]),
        ({"tokens": [{**TOKENS[0], "text": ""}, *TOKENS[1:]]}, "604", ["not empty"]),
        ({"relations": [without(relation(), "head")]}, "605", ["relations[0]", "'head'"]),
        ({"relations": [without(relation(), "label")]}, "605", ["relations[0]", "'label'"]),
        ({"relations": [relation(label=" ")]}, "604", ["relations[0], label"]),
        ({"relations": [relation(head=4)]}, "606", ["relations[0], head_span", "the token 4"]),
        ({"relations": [relation(head=7, head_span=None)]}, "607", ["head 7", "< 7"]),
        ({"relations": [relation(child_span=[0])]}, "604", ["child_span"]),
    ],
)
def test_wrong_records(write, nlp, assert_skipped, fields, code, parts):
    # Escaped, as a lone surrogate cannot be written otherwise.
    path = write(json.dumps(RECORD) + "\n" + json.dumps(changed(**fields)))
    error, docs, _ = assert_skipped(prodigy_to_docs, path, code, "line 2", *parts, nlp=nlp)
    assert error.id == (None if "id" in fields else 1861007191)
    assert [view(doc) for doc in docs] == [VIEW]


@pytest.mark.parametrize(
    ("content", "code", "parts"),
    [
        (b"[]", "609", ["an empty list"]),
        (b'{"text": "Ann', "603", ["line 1, column 10"]),
        (json.dumps([RECORD])[:-9].encode(), "603", ["line 1"]),
        (b'{"text": "a"}\n"b"\n', "604", ["line 2", "'b'"]),
        (b'{"text": "a"}\n{"txt": "b"}\n', "605", ["line 2", "'text'", "'txt'"]),
        ('{"text": "é"}'.encode("latin-1"), "602", ["line 1, byte 10", "0xe9"]),
        ('{"text": "é"}'.encode("utf-16"), "602", ["line 1, byte 0"]),
    ],
)
def test_wrong_files(write, nlp, assert_fails, content, code, parts):
    assert_fails(prodigy_to_docs, write(content), code, *parts, nlp=nlp)


def test_very_long_line_costs_little(tmp_path, nlp, report):
    path = tmp_path / "long.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "' + b"x" * 50_000_000 + b'"}\n' + to_lines([RECORD]).encode())
    tracemalloc.start()
    docs = list(prodigy_to_docs(path, nlp=nlp, on_error=lambda error: None, report=report))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [view(doc) for doc in docs] == [VIEW]
    assert peak < 150_000_000
    (error,) = report.skipped
    assert "E_SR620" in str(error)
    assert error.place == "line 1"
    assert len(str(error)) < 600


def test_text_that_is_too_long_for_the_tokenizer(write, nlp, assert_fails):
    record = {"text": "x " * 600_000}
    error = assert_fails(
        prodigy_to_docs, write(to_lines([record])), "617", "1200000 characters", nlp=nlp
    )
    assert len(str(error)) < 1000


# The way back


def test_record_that_is_written(write, nlp):
    (doc,) = prodigy_to_docs(write(to_lines([RECORD])), nlp=nlp)
    report = ExportReport()
    (record,) = docs_to_prodigy([doc], report)
    assert record == {
        "id": 1861007191,
        "text": RECORD["text"],
        "tokens": [{**token, "disabled": False} for token in TOKENS],
        "spans": [ANN, OSLO],
        "relations": [without(RECORD["relations"][0], "color")],
        "answer": "accept",
    }
    assert (report.docs, report.entities, report.relations, report.notes) == (1, 2, 1, {})


@given(gold_docs(WORDS.map(given_tokens) | TEXTS.map(NLP), ["A", "B b", "É:1"]))
def test_nothing_is_lost(doc):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.jsonl"
        report = ExportReport()
        records = list(docs_to_prodigy([doc], report))
        (back,) = prodigy_to_docs(write_lines(path, records), nlp=NLP)
        assert view(back) == view(doc)
        assert [(t.text, t.whitespace_) for t in back] == [(t.text, t.whitespace_) for t in doc]
        # And from the file to a Doc and back.
        assert list(docs_to_prodigy([back], ExportReport())) == records


def test_command_tells_why_there_is_nothing(write, tmp_path):
    source = write(to_lines([changed(answer="reject")]), "in.jsonl")
    result = CliRunner().invoke(app, ["convert", "prodigy", str(source), str(tmp_path / "x.spacy")])
    assert result.exit_code == 1
    assert "records with the answer reject, left out: 1" in result.stderr
    # Nothing is wrong, and no error was the first.
    assert "bad record" not in result.stderr
    assert "first error" not in result.stderr
