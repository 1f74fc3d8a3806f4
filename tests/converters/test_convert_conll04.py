from __future__ import annotations

import pytest

from spacy_spanrel.annotations import get_entities
from spacy_spanrel.converters import ConversionReport, conll04_to_docs, get_orig_id
from spacy_spanrel.converters.conll04 import split_row


def rows(*lines):
    """Build rows from (sentence, type, row, tag, word)."""
    return "".join(f"{s}\t{t}\t{r}\tO\t{tag}\t{w}\tO\tO\tO\n" for s, t, r, tag, w in lines)


FIRST = rows(
    (7, "Peop", 0, "NNP/NNP/,/NNP", "Ann/Lee/COMMA/Jr."),
    (7, "O", 1, "VBZ", "lives"),
    (7, "O", 2, "-LRB-", "-LRB-"),
    (7, "O", 3, "IN", "in"),
    (7, "Loc", 4, "NNP", "Oslo"),
    (7, "O", 5, "-RRB-", "-RRB-"),
    (7, "O", 6, ",", "COMMA"),
    (7, "O", 7, "CD", "1/2"),
)
SECOND = rows((9, "O", 0, "PRP", "She"), (9, "O", 1, "VBZ", "sings"))
THIRD = rows((11, "Loc", 0, "NNP", "Rome"), (11, "Loc", 1, "NNP", "Italy"))
SAMPLE = f"{FIRST}\n0\t4\tLive_In\n\n{SECOND}\n\n{THIRD}\n0\t1\tLocated_In\n"


def test_sample(write, reload, nlp):
    report = ConversionReport(max_span_size=3)
    docs = reload(conll04_to_docs(write(SAMPLE), nlp=nlp, report=report))
    words = ["Ann", "Lee", ",", "Jr.", "lives", "(", "in", "Oslo", ")", ",", "1/2"]
    assert [token.text for token in docs[0]] == words
    assert [(e.start, e.end, e.label_) for e in get_entities(docs[0])] == [
        (0, 4, "Peop"),
        (7, 8, "Loc"),
    ]
    (relation,) = docs[0]._.relations
    assert (relation.head.label_, relation.label, relation.tail.text) == ("Peop", "Live_In", "Oslo")
    assert [get_orig_id(doc) for doc in docs] == ["7", "9", "11"]
    assert not docs[1]._.relations
    assert docs[2]._.relations[0].to_triple() == ("Rome", "Located_In", "Italy")
    assert (report.docs, report.n_entities, report.n_relations) == (3, 4, 2)
    assert (report.docs_without_entities, report.docs_without_relations) == (1, 1)
    assert [finding.record for finding in report.too_long] == ["7"]
    assert not report.notes


def test_layout_does_not_matter(write, nlp):
    """Windows line ends, more blank lines, blanks at the ends, no last line end."""
    odd = "\n\n" + SAMPLE.replace("\n\n", "\n \n\n").rstrip().replace("\n", " \r\n")
    for text in (odd, SAMPLE.replace("\t", "   ")):
        docs = list(conll04_to_docs(write(text), nlp=nlp))
        assert [len(doc._.relations) for doc in docs] == [1, 0, 1]
        assert [len(doc) for doc in docs] == [11, 2, 2]


@pytest.mark.parametrize(
    ("word", "tags", "expected"),
    [
        ("Ann/Lee", "NNP/NNP", (["Ann", "Lee"], True)),
        ("1/2", "CD", (["1/2"], True)),
        ("/", ":", (["/"], True)),
        ("12/31/92", "CD", (["12/31/92"], True)),
        # A tag with a slash of its own.
        ("talking", "VBG/NN", (["talking"], True)),
        # One of two words has a slash; nothing says which.
        ("AC/DC/Band", "NNP/NNP", (["AC", "DC", "Band"], False)),
        ("AP//Reuters", "NNP/:/NNP", (["AP", "Reuters"], False)),
        ("-LRB-/COMMA/x", "-LRB-/,/NN", (["(", ",", "x"], True)),
    ],
)
def test_slashes(word, tags, expected):
    assert split_row(word, tags) == expected


def test_unequal_words_and_tags_are_noted(write, nlp, report):
    text = rows((1, "Org", 0, "NNP/NNP", "AC/DC/Band"), (1, "O", 1, "VBZ", "plays"))
    (doc,) = conll04_to_docs(write(text), nlp=nlp, report=report)
    assert [e.text for e in doc.ents] == ["AC DC Band"]
    assert list(report.notes.values()) == [1]


A, B, LOC = (8, "O", 0, "NN", "a"), (8, "O", 1, "NN", "b"), (8, "Loc", 1, "NN", "b")
TYPED_ROW = "a row with an entity type"


@pytest.mark.parametrize(
    ("bad", "code", "line", "found", "expected"),
    [
        ("8\tO\t0\tO\tNN\n", "610", 12, "5 columns", "9 columns"),
        (rows((8, "O", "x", "NN", "a")), "610", 12, "'x'", "a number"),
        (rows((8, "O", -1, "NN", "a")), "610", 12, "'-1'", "a number"),
        # Python parses no integers of so many digits.
        (rows((8, "O", "9" * 5000, "NN", "a")), "610", 12, "row number '99", "a number from 0"),
        (rows((8, "O", 0, "NN", "")), "610", 12, "an empty word", "a word in column 6"),
        (rows(A, A), "610", 13, "row 0 for the second time", "once"),
        (rows(A, (9, "O", 1, "NN", "b")), "610", 13, "sentence '9'", "sentence '8'"),
        (f"{rows(A)}oops\n{rows(B)}", "610", 13, "1 columns", "9 columns"),
        (f"{rows(A, LOC)}\n0\t1\tLive_In\n", "607", 15, "row 0, of type O", TYPED_ROW),
        (f"{rows(LOC)}\n1\t5\tLive_In\n", "607", 14, "row 5, that does not exist", TYPED_ROW),
    ],
)
def test_bad_sentences(write, assert_skipped, nlp, bad, code, line, found, expected):
    # Line 12 is the first of the bad sentence.
    text = f"{FIRST}\n0\t4\tLive_In\n\n{bad}\n\n{THIRD}\n0\t1\tLocated_In\n"
    path = write(text)
    error, docs, _ = assert_skipped(conll04_to_docs, path, code, found, expected, nlp=nlp)
    # The id is known only if the first line is a row.
    assert (error.place, error.id) == (f"line {line}", None if found == "5 columns" else "8")
    assert [get_orig_id(doc) for doc in docs] == ["7", "11"]
