"""Relations that another program names in words: triples and LangExtract."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings

from spacy_spanrel import get_entities, get_relations, set_relations
from spacy_spanrel.annotations import get_entity_weights
from spacy_spanrel.cli import convert
from spacy_spanrel.cli.convert import print_report
from spacy_spanrel.converters import (
    ExportReport,
    docs_to_triples,
    get_orig_id,
    langextract_to_docs,
    triples_to_docs,
)
from spacy_spanrel.reading import ConversionError
from tests.converters.texts import NLP, TEXTS, gold_docs

TEXT = "Ann Lee lives in Oslo . Lee likes Oslo ."


def lines(*records):
    return "\n".join(map(json.dumps, records))


def facts(doc):
    return (
        [(e.text, e.label_, e.start) for e in get_entities(doc)],
        [(r.head.start, r.label, r.tail.start, r.weight) for r in get_relations(doc)],
    )


FORMS = [
    {"triples": [{"head": "Ann Lee", "relation": "lives_in", "tail": "Oslo"}]},
    {"triples": [{"subject": "Ann Lee", "predicate": "lives_in", "object": "Oslo"}]},
    {"triples": [{"source": "Ann Lee", "type": "lives_in", "target": "Oslo"}]},
    {"triples": [["Ann Lee", "lives_in", "Oslo"]]},
    {"relations": {"lives_in": [["Ann Lee", "Oslo"]]}},
    {"relation_extraction": {"lives_in": [{"head": {"text": "Ann Lee"}, "tail": "Oslo"}]}},
    {"head": "Ann Lee", "relation": "lives_in", "tail": "Oslo"},
    {
        "triples": [
            {"head": {"text": "x", "start": 0, "end": 7}, "label": "lives_in", "tail": "oslo"}
        ]
    },
]


@pytest.mark.parametrize("form", FORMS)
def test_forms(form, write, reload, nlp, report):
    path = write(lines({"id": 7, "text": TEXT, **form}))
    (doc,) = reload(triples_to_docs(path, nlp=nlp, report=report))
    assert facts(doc) == (
        [("Ann Lee", "ENTITY", 0), ("Oslo", "ENTITY", 4)],
        [(0, "lives_in", 4, 1)],
    )
    assert get_orig_id(doc) == 7
    assert not report.unplaced


def test_lines_with_the_same_text_are_one_doc(write, nlp):
    row = {"text": TEXT, "head": "Ann Lee", "relation": "lives_in", "tail": "Oslo"}
    path = write(lines(row, {**row, "head": "Lee", "relation": "likes"}, {"text": TEXT}, row))
    docs = list(triples_to_docs(path, nlp=nlp))
    assert [facts(doc)[1] for doc in docs] == [
        [(0, "lives_in", 4, 1), (6, "likes", 8, 1)],
        [],
        [(0, "lives_in", 4, 1)],
    ]


def test_types_and_weights(write, reload, nlp):
    triples = [
        {"head": "Ann Lee", "relation": "a", "tail": "Oslo", "tail_type": "CITY", "weight": 0.5},
        {"head": "Ann Lee", "relation": "a", "tail": "Oslo", "confidence": 0.75},
        {
            "head": {"text": "Lee", "confidence": 0.25},
            "relation": "b",
            "tail": "Oslo",
            "score": None,
        },
    ]
    entities = [{"text": "Ann Lee", "type": "PER", "weight": 0.5}]
    path = write(lines({"text": TEXT, "triples": triples, "entities": entities}))
    (doc,) = reload(triples_to_docs(path, nlp=nlp))
    assert facts(doc) == (
        [("Ann Lee", "PER", 0), ("Oslo", "CITY", 4), ("Lee", "ENTITY", 6), ("Oslo", "CITY", 8)],
        [(0, "a", 4, 0.75), (6, "b", 8, 0.25)],
    )
    assert get_entity_weights(doc) == [0.75, 0.75, 0.25, 0.25]


def test_an_entity_without_a_type_gets_that_of_an_argument(write, nlp):
    """And is not annotated twice, with and without a type."""
    head = {"text": "Ann Lee", "type": "PER"}
    triples = [{"head": head, "relation": "a", "tail": "Oslo", "tail_type": "CITY"}]
    path = write(lines({"text": TEXT, "entities": ["Ann Lee", "Oslo"], "triples": triples}))
    (doc,) = triples_to_docs(path, nlp=nlp)
    assert facts(doc)[0] == [("Ann Lee", "PER", 0), ("Oslo", "CITY", 4), ("Oslo", "CITY", 8)]


def test_percentages_as_weights_are_counted(write, nlp, report):
    row = {"text": TEXT, "head": "Ann Lee", "relation": "lives_in", "tail": "Oslo"}
    path = write(lines({**row, "weight": 95}, {**row, "tail": "Lee", "weight": 1}))
    (doc,) = triples_to_docs(path, nlp=nlp, report=report)
    assert sorted(r.weight for r in get_relations(doc)) == [1, 95]
    assert report.notes["weights greater than 1, kept"] == 1


def test_listed_entities_are_annotated_everywhere(write, nlp):
    path = write(lines({"text": TEXT, "entities": {"CITY": ["Oslo"], "PER": ["Ann Lee", "Lee"]}}))
    (doc,) = triples_to_docs(path, nlp=nlp)
    assert [start for _, _, start in facts(doc)[0]] == [4, 8, 0, 6]


def test_everything_that_is_not_exact_is_reported(write, nlp, report, capsys, tmp_path):
    record = {"id": "a", "text": "Mikhail Gorbachev lives in MOSCOW/Kiev and in Moscow ."}
    triples = [
        ["mikhail gorbachev", "a", "Moscow"],
        ["Mikhail Gorbachov", "b", "Kiev"],
        ["Mikhail Gorbachov", "c", "Omsk"],
        ["Omsk", "c", ""],
        ["Moscow", "c", "Moscow"],
        ["Moscow", "c", None],
        ["Moscow", "c", 1996],
    ]
    triples[5] = {"head": "Moscow", "relation": "c", "tail": None}
    path = write(lines({"text": "x"}, {**record, "triples": triples}))
    list(triples_to_docs(path, nlp=nlp, report=report))
    where = f"{path}, line 2"
    assert [(f.record, f.text) for f in report.unplaced] == [
        (where, "'Omsk'"),
        (where, "''"),
        (where, "'1996'"),
    ]
    assert [f.text for f in report.similar] == ["'Mikhail Gorbachov' taken for 'Mikhail Gorbachev'"]
    assert [f.text for f in report.misaligned] == []
    assert [f.text.partition(": ")[2] for f in report.lost_relations] == [
        "'Omsk' is not in the text",
        "'Omsk' is not in the text and '' is not in the text",
        "head and tail are the same words",
        "'' is not in the text",
        "'1996' is not in the text",
    ]
    assert report.notes["strings found but for case, blanks, quotes or dashes"] == 1
    output = tmp_path / "silver.spacy"
    print_report(convert("triples", [path], output), output)
    printed = capsys.readouterr().out
    assert "'Omsk'" in printed
    assert "line 2" in printed
    assert "taken for" in printed


def test_pretokenized_texts(write, nlp):
    tokens = ["New", "York-based", "ACME"]
    path = write(lines({"tokens": tokens, "triples": [["ACME", "in", "New York"]]}))
    (doc,) = triples_to_docs(path, nlp=nlp)
    assert [token.text for token in doc] == tokens
    assert facts(doc)[1] == [(2, "in", 0, 1)]


@pytest.mark.parametrize(
    ("record", "code", "part"),
    [
        ({"triples": []}, "605", "'text'"),
        ({"text": "x", "triples": [{"head": "x", "tail": "x"}]}, "605", "'relation'"),
        ({"text": "x", "triples": [{"head": "x", "relation": "r"}]}, "605", "'tail'"),
        ({"text": "x", "triples": [["x", "r"]]}, "604", "3 items"),
        ({"text": "x", "triples": [["x", "r", ["x"]]]}, "604", "a string"),
        ({"text": "x", "triples": [["x", "", "x"]]}, "604", "not empty"),
        ({"text": "x", "relation": "r"}, "605", "'head'"),
        (
            {"text": "x", "head": "x", "relation": "r", "tail": "x", "weight": -1},
            "604",
            "from 0 on",
        ),
        (
            {"text": "x", "head": "x", "relation": "r", "tail": "x", "weight": True},
            "604",
            "from 0 on",
        ),
        ({"text": "x", "entities": [{"text": "x", "start": 0, "end": 9}]}, "606", "end 9"),
    ],
)
def test_wrong_records(record, code, part, write, nlp, assert_skipped):
    good = {"id": 1, "text": "Ann", "triples": []}
    path = write(lines(good, record, {**good, "id": 2}))
    _, docs, _ = assert_skipped(triples_to_docs, path, code, part, "line 2", nlp=nlp)
    assert len(docs) == 2


def test_offsets_of_other_words(write, nlp, report):
    """Language models are poor at counting characters."""

    def at(words, start, end):
        return {"text": words, "start": start, "end": end}

    triples = [
        {"head": at("Ann Lee", 1, 5), "relation": "a", "tail": at("Oslo", 8, 13)},
        {"head": at("Ann Lee", 24, 27), "relation": "b", "tail": at("Miss Lee", 0, 7)},
        {"head": at("The singer", 0, 7), "relation": "c", "tail": at("oslo", 34, 38)},
        {"head": at("Lee", 4, 7), "relation": "d", "tail": "Oslo", "tail_start": 0, "tail_end": 3},
    ]
    entities = [at("Ann Lee", 8, 13)]
    path = write(lines({"text": TEXT, "triples": triples, "entities": entities}))
    (doc,) = triples_to_docs(path, nlp=nlp, report=report)
    assert [(r.head.text, r.label, r.tail.text, r.tail.start) for r in get_relations(doc)] == [
        ("Ann Lee", "a", "Oslo", 4),
        ("Lee", "b", "Ann Lee", 0),
        ("Ann Lee", "c", "Oslo", 8),
        ("Lee", "d", "Oslo", 4),
    ]
    assert report.notes["offsets at which there are other words, not used"] == 3
    assert [f.text for f in report.similar] == [
        "'Miss Lee' taken for 'Ann Lee', which is at its offsets",
        "'The singer' taken for 'Ann Lee', which is at its offsets",
    ]
    assert [f.text for f in report.misaligned] == ["'nn L' (ENTITY) widened to 'Ann Lee'"]
    assert report.duplicate_entities == 0


def test_lists_that_are_not_read_are_counted(write, nlp, report):
    facts = {"text": TEXT, "facts": [["Ann Lee", "lives_in", "Oslo"]]}
    records = (
        facts,
        {**facts, "triples": None},
        {"text": TEXT, "tokens": ["x"], "note": "x"},
        facts,
    )
    docs = list(triples_to_docs(write(lines(*records)), nlp=nlp, report=report))
    assert len(docs) == 4
    assert report.notes == {"texts without relations whose key 'facts' is not read": 2}


def test_a_record_of_several_lines(write, nlp):
    """As language models write it; the error says that a record is one line."""
    path = write(json.dumps({"text": "Ann", "triples": []}, indent=1))
    with pytest.raises(ConversionError, match="line 1.*the end of the line.*record in each line"):
        list(triples_to_docs(path, nlp=nlp))


@settings(max_examples=100, deadline=None)
@given(gold_docs(TEXTS.map(NLP.make_doc)))
def test_exported_triples_are_read_again(tmp_path_factory, doc):
    relations = get_relations(doc)
    assume(all(span.text.strip() for r in relations for span in (r.head, r.tail)))
    set_relations(doc, [replace(r, weight=0.5) for r in relations])
    path = tmp_path_factory.mktemp("triples") / "x.jsonl"
    path.write_text(lines(*docs_to_triples([doc], ExportReport(), text=True)), "utf-8")
    (again,) = triples_to_docs(path, nlp=NLP)
    assert again.text == doc.text

    def places(doc):
        return {
            (doc[r.head.start : r.head.end].text.strip(), r.head.label_, r.label, r.weight)
            for r in get_relations(doc)
        }

    assert places(again) == places(doc)


# LangExtract


def extraction(label, text, *chars, status="match_exact", **attributes):
    return {
        "extraction_class": label,
        "extraction_text": text,
        "char_interval": {"start_pos": chars[0], "end_pos": chars[1]} if chars else None,
        "alignment_status": status if chars else None,
        "extraction_index": 1,
        "group_index": 0,
        "description": None,
        "attributes": attributes or None,
    }


def test_langextract(write, reload, nlp, report):
    record = {
        "document_id": "d",
        "text": TEXT,
        "extractions": [
            extraction("person", "Ann Lee", 0, 7),
            extraction("city", "Oslo", 34, 38),
            extraction("lives_in", "lives in Oslo", 8, 21, head="Ann Lee", tail="Oslo", weight=0.5),
            extraction("x", "y", source="Lee", target="Oslo", type="likes"),
            extraction("city", "Lagos"),
            extraction("lives_in", "lives in Oslo", head="Ann Lee", tail=None),
            extraction("city", "Oslo", head=None, tail=None),
        ],
    }
    (doc,) = reload(langextract_to_docs(write(lines(record)), nlp=nlp, report=report))
    assert get_orig_id(doc) == "d"
    assert facts(doc)[1] == [(0, "lives_in", 4, 0.5), (6, "likes", 8, 1)]
    assert {e.label_ for e in get_entities(doc)} == {"person", "city", "ENTITY"}
    assert [f.text for f in report.unplaced] == ["'Lagos'", "''"]
    assert [f.text for f in report.lost_relations] == [
        "'lives_in(Ann Lee, )': '' is not in the text"
    ]


def test_links_of_langextract(write, nlp):
    record = {
        "text": "Take 10mg Zinc and 20mg Iron daily .",
        "extractions": [
            extraction("dosage", "10mg", group="Zinc"),
            extraction("medication", "Zinc", group="Zinc"),
            extraction("dosage", "20mg", status="match_fuzzy", group="Iron"),
            extraction("medication", "Iron"),
        ],
    }
    path = write(lines(record))
    (doc,) = langextract_to_docs(path, nlp=nlp, links="group")
    triples = [r.to_triple() for r in get_relations(doc)]
    assert triples == [("Zinc", "dosage", "10mg"), ("Iron", "dosage", "20mg")]
    (doc,) = langextract_to_docs(path, nlp=nlp)
    assert not get_relations(doc)
