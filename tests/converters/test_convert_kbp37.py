from __future__ import annotations

import pytest

from spacy_spanrel.annotations import get_entities, get_relations
from spacy_spanrel.converters import (
    ConversionReport,
    get_orig_id,
    kbp37_to_docs,
)

SAMPLE = """\
7\t"<e1> Ann Lee </e1> runs the bakery <e2> Crumb & Co </e2> ."
per:employee_of(e1,e2)

8\t"<e2> Oslo </e2> has never met <e1> Ann Lee </e1> , they say ."
no_relation
"""
GOOD = '7\t" A <e1> cat </e1> met <e2> Ann </e2> . "\nno_relation\n'


def triples(docs):
    return [relation.to_triple() for doc in docs for relation in doc._.relations]


def to_record(doc):
    """Read a Doc as (id, words, e1, e2, label)."""
    (relation,) = get_relations(doc)
    head, tail = relation.head, relation.tail
    words = [token.text for token in doc]
    return get_orig_id(doc), words, (head.start, head.end), (tail.start, tail.end), relation.label


def test_sample(write, reload, nlp):
    report = ConversionReport(max_span_size=2)
    docs = reload(kbp37_to_docs(write(SAMPLE), nlp=nlp, report=report))
    words = [
        ["Ann", "Lee", "runs", "the", "bakery", "Crumb", "&", "Co", "."],
        ["Oslo", "has", "never", "met", "Ann", "Lee", ",", "they", "say", "."],
    ]
    assert [to_record(doc) for doc in docs] == [
        ("7", words[0], (0, 2), (5, 8), "per:employee_of(e1,e2)"),
        # Head e1, tail e2, whichever comes first; negatives survive.
        ("8", words[1], (4, 6), (0, 1), "no_relation"),
    ]
    assert all(doc.has_unknown_spaces for doc in docs)
    assert [(e.text, e.label_) for e in docs[1].ents] == [("Oslo", "ENTITY"), ("Ann Lee", "ENTITY")]
    assert (report.docs, report.n_entities, report.n_relations) == (2, 4, 2)
    assert report.relations["no_relation"] == 1
    assert [finding.record for finding in report.too_long] == ["7"]
    assert report.docs_without_relations == 0


@pytest.mark.parametrize(
    "text",
    [
        SAMPLE.replace("\n\n", "\n"),
        SAMPLE.replace("\n\n", "\n \n\n"),
        SAMPLE.replace("\n", "\r\n"),
        "\ufeff" + SAMPLE,
        SAMPLE.rstrip(),
        SAMPLE.replace('"', ""),
        SAMPLE.replace('"', ' " '),
        SAMPLE.replace(" ", "  "),
        # Tags glued to words, of the argument and around it.
        SAMPLE.replace("e1> ", "e1>").replace(" <", "<"),
        SAMPLE.replace(" </e", "</e").replace("> ", ">"),
        SAMPLE.replace("(e1,e2)\n", "(e1,e2)\nComment: none\n"),
    ],
)
def test_layout_does_not_matter(write, nlp, text):
    plain = [to_record(doc) for doc in kbp37_to_docs(write(SAMPLE, "plain.txt"), nlp=nlp)]
    assert [to_record(doc) for doc in kbp37_to_docs(write(text), nlp=nlp)] == plain


def test_tags_are_token_borders(write, nlp):
    text = "7\tpre-<e1>war</e1>, <e2>Oslo</e2>-based\nno_relation\n"
    (doc,) = kbp37_to_docs(write(text), nlp=nlp)
    assert [token.text for token in doc] == ["pre-", "war", ",", "Oslo", "-based"]
    assert triples([doc]) == [("war", "no_relation", "Oslo")]


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ('" " <e1> Ann </e1> " met <e2> Bo </e2> "', ['"', "Ann", '"', "met", "Bo"]),
        ('"" <e1> Ann </e1> met <e2> Bo </e2> ""', ['"', "Ann", "met", "Bo", '"']),
        (r'"\" <e1> Ann </e1> \" met <e2> Bo </e2>"', ['\\"', "Ann", '\\"', "met", "Bo"]),
        ('<e1> Ann </e1> met " <e2> Bo </e2> "', ["Ann", "met", '"', "Bo", '"']),
        ('"', None),
        (
            '"a < b &lt; <e> <e3> </E1> <e1> Ann </e1> <e2> Bo </e2>"',
            ["a", "<", "b", "&lt;", "<e>", "<e3>", "</E1>", "Ann", "Bo"],
        ),
        # The format has no other escapes: -LRB- stays, too.
        ("-LRB- <e1> Ann </e1> <e2> Bo </e2> -RRB-", ["-LRB-", "Ann", "Bo", "-RRB-"]),
    ],
)
def test_quotes_and_angle_brackets_inside_are_text(
    write, reload, assert_fails, nlp, sentence, words
):
    path = write(f"7\t{sentence}\nno_relation\n")
    if words is None:
        assert_fails(kbp37_to_docs, path, "610", "line 1", "(id '7')", "no <e1>", nlp=nlp)
        return
    (doc,) = reload(kbp37_to_docs(path, nlp=nlp))
    assert [token.text for token in doc] == words
    assert triples([doc]) == [("Ann", "no_relation", "Bo")]


@pytest.mark.parametrize(
    ("sentence", "e1", "e2"),
    [
        ("<e1> a <e2> b </e2> </e1>", (0, 2), (1, 2)),
        ("<e2> <e1> a </e1> b </e2>", (0, 1), (0, 2)),
        ("<e1> a <e2> b </e1> c </e2>", (0, 2), (1, 3)),
        ("<e2>a</e2><e1>b</e1>", (1, 2), (0, 1)),
        ("x <e1> <e2> a b </e1> </e2>", (1, 3), (1, 3)),
    ],
)
def test_nested_adjacent_and_equal_arguments(write, reload, nlp, sentence, e1, e2, report):
    path = write(f'7\t"{sentence}"\nno_relation\n')
    (doc,) = reload(kbp37_to_docs(path, nlp=nlp, report=report))
    assert to_record(doc)[2:4] == (e1, e2)
    assert {(e.start, e.end) for e in get_entities(doc)} == {e1, e2}
    assert len(get_entities(doc)) == report.n_entities == len({e1, e2})
    assert report.self_relations == (e1 == e2)
    assert report.duplicate_entities == 0
