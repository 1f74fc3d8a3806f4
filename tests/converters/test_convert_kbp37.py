from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import DocBin

from spacy_spanrel.annotations import get_entities, get_relations
from spacy_spanrel.converters import ConversionReport, get_orig_id, kbp37_to_docs, tacred_to_docs

NLP = spacy.blank("en")
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


def to_lines(record):
    """Write a record in KBP37's form, tags as tokens of their own."""
    record_id, words, e1, e2, label = record
    tagged = []
    for i in range(len(words) + 1):
        tagged += [f"</{name}>" for name, span in (("e1", e1), ("e2", e2)) if span[1] == i]
        tagged += [f"<{name}>" for name, span in (("e1", e1), ("e2", e2)) if span[0] == i]
        tagged += words[i : i + 1]
    return f'{record_id}\t"{" ".join(tagged)}"\n{label}\n\n'


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
def test_nested_adjacent_and_equal_arguments(write, reload, nlp, sentence, e1, e2):
    report = ConversionReport()
    path = write(f'7\t"{sentence}"\nno_relation\n')
    (doc,) = reload(kbp37_to_docs(path, nlp=nlp, report=report))
    assert to_record(doc)[2:4] == (e1, e2)
    assert {(e.start, e.end) for e in get_entities(doc)} == {e1, e2}
    assert len(get_entities(doc)) == report.n_entities == len({e1, e2})
    assert report.self_relations == (e1 == e2)
    assert report.duplicate_entities == 0


EACH_ONCE = "<e1>, </e1>, <e2> and </e2>, each once"


@pytest.mark.parametrize(
    ("bad", "place", "record_id", "found", "expected"),
    [
        ("8\t<e1> a </e1> b\nno_relation", "line 4", "8", "no <e2>", EACH_ONCE),
        ("8\t<e1> a </e1> <e2> b\nno_relation", "line 4", "8", "no </e2>", EACH_ONCE),
        (
            "8\t<e1> a </e1> <e2> b </e2> <e1> c </e1>\nno_relation",
            "line 4",
            "8",
            "<e1> 2 times",
            EACH_ONCE,
        ),
        (
            "8\t<e1> a </e1> </e2> b <e2>\nno_relation",
            "line 4",
            "8",
            "</e2> before <e2>",
            "<e2>, the argument and then </e2>",
        ),
        (
            "8\t<e1> </e1> <e2> b </e2>\nno_relation",
            "line 4",
            "8",
            "nothing between <e1> and </e1>",
            "some text",
        ),
        (
            "8 <e1> a </e1> <e2> b </e2>\nno_relation",
            "line 4",
            None,
            "'8 <e1> a </e1> <e2> b </e2>', without a tab",
            "an id of one word, a tab and the sentence",
        ),
        (
            " \t<e1> a </e1> <e2> b </e2>\nno_relation",
            "line 4",
            None,
            "id ''",
            "an id of one word, a tab and the sentence",
        ),
        (
            "8\t<e1> a </e1> <e2> b </e2>",
            "line 4",
            "8",
            "the next sentence (line 5)",
            "the label on the line after the sentence",
        ),
        (
            "8\t<e1> a </e1> <e2> b </e2>\nno_relation\nper:title(e1,e2)",
            "line 6",
            "8",
            "'per:title(e1,e2)'",
            "a blank line or the next sentence",
        ),
    ],
)
def test_bad_records(write, assert_fails, nlp, bad, place, record_id, found, expected):
    # Line 4 is the first of the bad record; no blank line is after it.
    path = write(f"{GOOD}\n{bad}\n{GOOD}")
    parts = [place, found, expected] + [f"(id {record_id!r})"] * (record_id is not None)
    error = assert_fails(kbp37_to_docs, path, "610", *parts, nlp=nlp)
    assert (error.place, error.id) == (place, record_id)
    report = ConversionReport()
    docs = list(kbp37_to_docs(path, nlp=nlp, on_error=lambda error: None, report=report))
    assert triples(docs) == [("cat", "no_relation", "Ann")] * 2
    assert [str(e) for e in report.skipped] == [str(error)]


def test_missing_label_at_the_end(write, assert_fails, nlp):
    path = write(GOOD + "8\t<e1> a </e1> <e2> b </e2>\n")
    parts = ["line 3", "(id '8')", "a blank line (line 4)", "the label"]
    assert_fails(kbp37_to_docs, write(path.read_text() + "\n"), "610", *parts, nlp=nlp)
    path = write(path.read_text().rstrip())
    parts = ["line 3", "(id '8')", "the end of the file", "the label"]
    assert_fails(kbp37_to_docs, path, "610", *parts, nlp=nlp)


def test_docs_are_made_one_by_one(write):
    """A bad record at the end does not matter before it is reached; no pipeline is needed."""
    docs = kbp37_to_docs(write(GOOD + "oops\n"))
    with pytest.raises(ValueError, match="'oops'"):
        next(docs)
    docs = kbp37_to_docs(write(GOOD + "\noops\n"))
    assert triples([next(docs)]) == [("cat", "no_relation", "Ann")]


WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6) | st.sampled_from(
    ["<", ">", "<e3>", "&lt;", '"', '\\"', "Comment:", "-LRB-"]
)
WORDS = WORDS.filter(
    lambda word: word.split() == [word] and not any(x in word for x in ("e1>", "e2>"))
)


@st.composite
def records(draw):
    words = draw(st.lists(WORDS, min_size=1, max_size=8))
    span = st.sampled_from(
        [(s, e) for s in range(len(words)) for e in range(s + 1, len(words) + 1)]
    )
    record_id = draw(WORDS.filter(lambda word: not word.startswith(("Comment:", "\ufeff"))))
    label = draw(st.sampled_from(["no_relation", "per:title(e1,e2)", "org:é(e2,e1)"]))
    return record_id, words, draw(span), draw(span), label


@given(st.lists(records(), min_size=1, max_size=3), st.sampled_from(["\n", "\r\n"]))
def test_any_records_read_back_equal(data, line_end):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.txt"
        text = "".join(map(to_lines, data)).replace("\n", line_end)
        path.write_bytes(text.encode())
        stored = DocBin(docs=kbp37_to_docs(path, nlp=NLP)).to_bytes()
    docs = list(DocBin().from_bytes(stored).get_docs(spacy.blank("xx").vocab))
    assert [to_record(doc) for doc in docs] == data


def test_both_forms_of_kbp37_dev_are_equal(shared_dir, write, reload, nlp):
    source = shared_dir / "data/kbp37/dev.json"
    if not source.exists():
        pytest.skip(f"needs the data {source}")
    data = json.loads(source.read_text(encoding="utf-8"))
    text = "".join(
        to_lines(
            (
                record["id"],
                record["token"],
                (record["subj_start"], record["subj_end"] + 1),
                (record["obj_start"], record["obj_end"] + 1),
                record["relation"],
            )
        )
        for record in data
    )
    report = ConversionReport()
    docs = reload(kbp37_to_docs(write(text), nlp=nlp, report=report))
    assert (len(docs), report.n_entities, report.n_relations) == (1714, 3428, 1714)
    expected = list(tacred_to_docs(source, nlp=nlp))
    assert [to_record(doc) for doc in docs] == [to_record(doc) for doc in expected]
    for doc, other in zip(docs, expected, strict=True):
        assert [(e.start, e.end, e.label_) for e in get_entities(doc)] == [
            (e.start, e.end, e.label_) for e in get_entities(other)
        ]
