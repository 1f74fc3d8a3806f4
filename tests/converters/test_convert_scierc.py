from __future__ import annotations

import copy
import json

import pytest

from spacy_spanrel.annotations import get_clusters, get_entities
from spacy_spanrel.converters import (
    ConversionReport,
    ExportReport,
    docs_to_scierc,
    get_orig_id,
    scierc_to_docs,
)

DOCUMENT = {
    "doc_key": "A7",
    "sentences": [["Ann", "Lee", "lives", "in", "Oslo"], ["It", "rains"], ["She", "likes", "Oslo"]],
    "ner": [
        [[0, 1, "Person"], [4, 4, "Place"]],
        [],
        [[7, 7, "Person"], [9, 9, "Place"]],
    ],
    "relations": [
        [[0, 1, 4, 4, "LIVES-IN"]],
        [],
        [[7, 7, 9, 9, "LIKES"], [7, 7, 4, 4, "LIVES-IN"]],
    ],
    "clusters": [],
}


def lines(*documents):
    return "\n".join(json.dumps(document) for document in documents) + "\n"


def changed(**fields):
    return {**copy.deepcopy(DOCUMENT), "doc_key": "B8", **fields}


def triples(doc):
    return [(r.head.label_, *r.to_triple(), r.tail.label_) for r in doc._.relations]


def test_one_doc_a_sentence(write, reload, nlp):
    report = ConversionReport(max_span_size=1)
    docs = reload(scierc_to_docs(write(lines(DOCUMENT)), nlp=nlp, report=report))
    assert [[token.text for token in doc] for doc in docs] == DOCUMENT["sentences"]
    assert [get_orig_id(doc) for doc in docs] == ["A7:0", "A7:1", "A7:2"]
    # Inclusive ends of the document have become exclusive ends of the sentence.
    assert [[(e.start, e.end) for e in get_entities(doc)] for doc in docs] == [
        [(0, 2), (4, 5)],
        [],
        [(0, 1), (2, 3)],
    ]
    assert triples(docs[0]) == [("Person", "Ann Lee", "LIVES-IN", "Oslo", "Place")]
    assert triples(docs[2]) == [("Person", "She", "LIKES", "Oslo", "Place")]
    assert (report.docs, report.n_entities, report.n_relations) == (3, 4, 2)
    assert (report.docs_without_entities, report.docs_without_relations) == (1, 1)
    (lost,) = report.lost_relations
    assert lost.record == "A7"
    assert lost.text == "LIVES-IN [7, 7] -> [4, 4]: across sentences"
    assert [finding.record for finding in report.too_long] == ["A7:0"]


def test_one_doc_a_document(write, reload, nlp, report):
    path = write(lines(DOCUMENT))
    (doc,) = reload(scierc_to_docs(path, nlp=nlp, unit="document", report=report))
    assert get_orig_id(doc) == "A7"
    assert [[token.text for token in sent] for sent in doc.sents] == DOCUMENT["sentences"]
    assert [(e.start, e.end) for e in get_entities(doc)] == [(0, 2), (4, 5), (7, 8), (9, 10)]
    assert triples(doc)[2] == ("Person", "She", "LIVES-IN", "Oslo", "Place")
    assert doc.has_unknown_spaces
    assert report.n_relations == 3
    assert not report.lost_relations


def test_relation_is_put_where_its_arguments_are(write, nlp):
    document = changed(relations=[[], [[0, 1, 4, 4, "LIVES-IN"]], []])
    docs = list(scierc_to_docs(write(lines(document)), nlp=nlp))
    assert [len(doc._.relations) for doc in docs] == [1, 0, 0]


@pytest.mark.parametrize("unit", ["sentence", "document"])
def test_argument_that_is_no_entity(write, nlp, unit, report):
    document = changed(relations=[[[0, 0, 4, 4, "LIVES-IN"]], [], []])
    docs = list(scierc_to_docs(write(lines(document)), nlp=nlp, unit=unit, report=report))
    assert not any(doc._.relations for doc in docs)
    assert [(f.record, f.text.split(": ")[1]) for f in report.lost_relations] == [
        ("B8", "an argument is no entity")
    ]


def test_argument_with_two_types_takes_the_first(write, nlp, report):
    ner = [[[0, 1, "Person"], [0, 1, "Singer"], [4, 4, "Place"]], [], []]
    document = changed(ner=ner, relations=[[[0, 1, 4, 4, "LIVES-IN"]], [], []])
    doc = next(scierc_to_docs(write(lines(document)), nlp=nlp, report=report))
    assert len(get_entities(doc)) == 3
    assert doc._.relations[0].head.label_ == "Person"
    assert sum(report.notes.values()) == 1


def test_sentence_without_tokens(write, nlp, report):
    document = changed(sentences=[["Ann", "Lee", "lives", "in", "Oslo"], [], ["x"] * 5])
    docs = list(scierc_to_docs(write(lines(document)), nlp=nlp, report=report))
    assert [get_orig_id(doc) for doc in docs] == ["B8:0", "B8:2"]
    assert sum(report.notes.values()) == 1
    (doc,) = scierc_to_docs(write(lines(document)), nlp=nlp, unit="document")
    assert len(list(doc.sents)) == 2


def test_line_separators_inside_tokens(write, nlp):
    document = changed(sentences=[["a\u2028b"]], ner=[[]], relations=[[]])
    path = write(json.dumps(document, ensure_ascii=False) + "\r\n\r\n" + json.dumps(DOCUMENT))
    docs = list(scierc_to_docs(path, nlp=nlp))
    assert docs[0][0].text == "a\u2028b"
    assert len(docs) == 4


@pytest.mark.parametrize(
    ("fields", "code", "place", "found", "expected"),
    [
        ({"doc_key": 1.5}, "604", "doc_key", "1.5 (float)", "a string or an integer"),
        ({"sentences": "a"}, "604", "sentences", "'a' (str)", "a list"),
        ({"sentences": [[]], "ner": [[]]}, "604", "sentences", "[[]]", "at least one token"),
        ({"sentences": [["a"], [1], ["b"]]}, "604", "sentences[1][0]", "1 (int)", "a string"),
        ({"ner": [[]]}, "604", "ner", "1 lists", "3 lists"),
        ({"ner": [[], [], {}]}, "604", "ner[2]", "{} (dict)", "a list"),
        ({"ner": [[[0, 1]], [], []]}, "604", "ner[0][0]", "[0, 1]", "3 items"),
        ({"ner": [[[0, "1", "X"]], [], []]}, "604", "ner[0][0][1]", "'1' (str)", "an integer"),
        ({"ner": [[[0, True, "X"]], [], []]}, "604", "ner[0][0][1]", "True (bool)", "an integer"),
        ({"ner": [[[0, 1, 2]], [], []]}, "604", "ner[0][0][2]", "2 (int)", "a string"),
        *(
            ({"ner": [[[s, e, "X"]], [], []]}, "606", "ner[0][0]", f"start {s}, end {e}", "< 10")
            for s, e in ((-1, 0), (2, 1), (9, 10))
        ),
        # In the document, but not in its sentence.
        ({"ner": [[[4, 5, "X"]], [], []]}, "606", "ner[0][0]", "end 5", "from 0 to 4"),
        ({"ner": [[], [[0, 0, "X"]], []]}, "606", "ner[1][0]", "start 0", "from 5 to 6"),
        (
            {"relations": [[[0, 1, "X"]], [], []]},
            "604",
            "relations[0][0]",
            "[0, 1, 'X']",
            "5 items",
        ),
        ({"relations": [[[0, 1, 10, 10, "X"]], [], []]}, "606", "relations[0][0]", "10", "< 10"),
    ],
)
def test_bad_documents(write, assert_skipped, nlp, fields, code, place, found, expected):
    path = write(lines(DOCUMENT, changed(**fields), DOCUMENT))
    parts = [f"line 2, {place}", found, expected]
    if "doc_key" not in fields:
        parts.append("'B8'")
    error, docs, report = assert_skipped(scierc_to_docs, path, code, *parts, nlp=nlp)
    assert error.place == f"line 2, {place}"
    assert len(docs) == report.docs == 6
    assert report.duplicate_ids == 3


@pytest.mark.parametrize(
    ("line", "code", "place"),
    [
        ('{"doc_key": "B8", "sent', "603", "line 2, column 19"),
        ('["B8"]', "604", "line 2"),
    ],
)
def test_bad_lines_can_be_skipped(write, assert_skipped, nlp, line, code, place):
    path = write(lines(DOCUMENT) + line + "\n" + lines(changed()))
    error, docs, _ = assert_skipped(scierc_to_docs, path, code, place, nlp=nlp)
    assert (error.place, len(docs)) == (place, 6)


def test_unknown_names_skip_the_whole_document(write, assert_fails, nlp, report):
    types = write(
        {"entities": {"Person": {}, "Place": {}}, "relations": {"LIVES-IN": {}}}, "types.json"
    )
    path = write(lines(DOCUMENT))
    assert_fails(scierc_to_docs, path, "608", "'A7:2'", "'LIKES'", nlp=nlp, types=types)
    skip = {"on_error": lambda error: None, "report": report}
    assert not list(scierc_to_docs(path, nlp=nlp, types=types, **skip))
    assert (report.docs, len(report.skipped), len(report.lost_relations)) == (0, 1, 0)


def test_bad_unit(write, assert_fails, nlp):
    assert_fails(
        scierc_to_docs, write(lines(DOCUMENT)), "613", "'page'", "'document'", nlp=nlp, unit="page"
    )


# Clusters

CLUSTERS = [[[4, 4], [9, 9]], [[7, 7], [0, 1], [7, 7]], [[7, 9], [9, 9]]]


def mentions(doc):
    return [[(span.start, span.end) for span in cluster] for cluster in get_clusters(doc)]


def test_clusters_of_a_document(write, reload, nlp):
    report = ConversionReport()
    document = changed(clusters=CLUSTERS)
    path = write(lines(document))
    (doc,) = reload(scierc_to_docs(path, nlp=nlp, unit="document", report=report))
    assert mentions(doc) == [[(0, 2), (7, 8)], [(4, 5), (9, 10)], [(7, 10), (9, 10)]]
    assert not report.notes
    assert [r.head_entity.text for r in doc._.relations] == ["Ann Lee", "Ann Lee", "Ann Lee"]
    (back,) = docs_to_scierc([doc], ExportReport(), unit="document")
    assert sorted(back["clusters"]) == [[[0, 1], [7, 7]], [[4, 4], [9, 9]], [[7, 9], [9, 9]]]


def test_clusters_of_sentences(write, reload, nlp):
    report = ConversionReport()
    docs = reload(scierc_to_docs(write(lines(changed(clusters=CLUSTERS))), nlp=nlp, report=report))
    assert [mentions(doc) for doc in docs] == [[], [], [[(0, 3), (2, 3)]]]
    assert report.notes == {"coreferent mentions without another one in their text": 4}
    (back,) = docs_to_scierc(docs, ExportReport())
    assert back["clusters"] == [[[7, 9], [9, 9]]]


def test_files_need_no_clusters(write, nlp):
    document = changed()
    del document["clusters"]
    (doc,) = scierc_to_docs(write(lines(document)), nlp=nlp, unit="document")
    assert get_clusters(doc) == ()
    (back,) = docs_to_scierc([doc], ExportReport(), unit="document")
    assert "clusters" not in back


@pytest.mark.parametrize(
    ("clusters", "code"),
    [(3, "E_SR"), ([[[1]]], "E_SR"), ([[[0, 10]]], "E_SR606"), ([[[2, 1]]], "E_SR606")],
)
def test_bad_clusters(write, nlp, clusters, code):
    with pytest.raises(ValueError, match=code) as info:
        list(scierc_to_docs(write(lines(changed(clusters=clusters))), nlp=nlp))
    assert "clusters" in str(info.value)
