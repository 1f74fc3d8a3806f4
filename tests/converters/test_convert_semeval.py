from __future__ import annotations

import pytest
import spacy

from spacy_spanrel.annotations import get_entities
from spacy_spanrel.converters import ConversionReport, get_orig_id, semeval_to_docs

SAMPLE = """\
12\t"The <e1>smoke</e1> came from a damp <e2>candle</e2>."
Cause-Effect(e2,e1)
Comment: a candle that was put out

13\t"Our <e1>rowing boat</e1> sleeps under a <e2>blanket</e2>."
Other
Comment:

14\t"In the <e2>jar</e2> she keeps <e1>buttons</e1>, doesn't she?"
Content-Container(e1,e2)

"""
GOOD = '12\t"A <e1>cat</e1> ate a <e2>fly</e2>."\nOther\n'


def triples(docs):
    return [relation.to_triple() for doc in docs for relation in doc._.relations]


def one(write, nlp, sentence, **kwargs):
    """Convert one sentence."""
    (doc,) = semeval_to_docs(write(f"12\t{sentence}\nOther\n"), nlp=nlp, **kwargs)
    return doc


def test_sample(write, reload, nlp):
    report = ConversionReport(max_span_size=1)
    docs = reload(semeval_to_docs(write(SAMPLE), nlp=nlp, report=report))
    assert [doc.text for doc in docs] == [
        "The smoke came from a damp candle.",
        "Our rowing boat sleeps under a blanket.",
        "In the jar she keeps buttons, doesn't she?",
    ]
    assert [get_orig_id(doc) for doc in docs] == ["12", "13", "14"]
    # Head e1, tail e2, whichever comes first and whatever the label says.
    assert triples(docs) == [
        ("smoke", "Cause-Effect(e2,e1)", "candle"),
        ("rowing boat", "Other", "blanket"),
        ("buttons", "Content-Container(e1,e2)", "jar"),
    ]
    assert not any(doc.has_unknown_spaces for doc in docs)
    assert [token.text for token in docs[2]][6:9] == [",", "does", "n't"]
    assert [(e.text, e.label_) for e in docs[0].ents] == [("smoke", "ENTITY"), ("candle", "ENTITY")]
    assert (report.docs, report.n_entities, report.n_relations) == (3, 6, 3)
    assert report.entities == {"ENTITY": 6}
    assert [finding.record for finding in report.too_long] == ["13"]
    assert not report.misaligned


@pytest.mark.parametrize(
    "text",
    [
        SAMPLE.replace("\n", "\r\n"),
        "\ufeff" + SAMPLE,
        "\n \n" + SAMPLE.replace("\n\n", "\n\n\t\n"),
        SAMPLE.rstrip(),
        SAMPLE.replace("\n\n", "\n"),
        SAMPLE.replace('"', ""),
        SAMPLE.replace("Other\n", " Other \n").replace('"\n', '" \n'),
    ],
)
def test_layout_does_not_matter(write, nlp, text):
    plain = list(semeval_to_docs(write(SAMPLE, "plain.txt"), nlp=nlp))
    docs = list(semeval_to_docs(write(text), nlp=nlp))
    assert [doc.text for doc in docs] == [doc.text for doc in plain]
    assert [get_orig_id(doc) for doc in docs] == ["12", "13", "14"]
    assert triples(docs) == triples(plain)


def test_comments_may_hold_tabs_and_tags(write, nlp, report):
    text = SAMPLE.replace("Comment:", "Comment:\t<e1>no</e1> argument")
    docs = semeval_to_docs(write(text.replace("\n\n", "\n")), nlp=nlp, report=report)
    assert [get_orig_id(doc) for doc in docs] == ["12", "13", "14"]
    assert not report.skipped


@pytest.mark.parametrize(
    ("sentence", "text"),
    [
        ('"A <e1>cat</e1> said "no" to a <e2>fly</e2>"', 'A cat said "no" to a fly'),
        ('""A <e1>cat</e1>" ate a <e2>fly</e2>."', '"A cat" ate a fly.'),
        (r'"A <e1>cat</e1> ate \"a <e2>fly</e2> \""', r"A cat ate \"a fly \""),
        ('"A <e1>cat</e1> ate ""a <e2>fly</e2>"""', 'A cat ate ""a fly""'),
        ('"A <e1>cat</e1> ate a <e2>fly</e2>', '"A cat ate a fly'),
        (
            '"If a < b &lt; <e> <e3> <E1>, <e1>cat</e1> <e2>fly</e2>."',
            "If a < b &lt; <e> <e3> <E1>, cat fly.",
        ),
        ('"A\t<e1>cat</e1> ate a <e2>fly</e2>"', "A\tcat ate a fly"),
    ],
)
def test_quotes_and_angle_brackets_inside_are_text(write, reload, nlp, sentence, text):
    (doc,) = reload([one(write, nlp, sentence)])
    assert doc.text == text
    assert triples([doc]) == [("cat", "Other", "fly")]


def test_repeated_texts_are_told_apart(write, nlp):
    doc = one(write, nlp, '"A fly, a fly, <e1>a fly</e1>, a <e2>fly</e2>, a fly."')
    (relation,) = doc._.relations
    assert (relation.head.start_char, relation.tail.start_char) == (14, 23)


def test_blanks_inside_tags_are_no_argument(write, nlp, report):
    doc = one(write, nlp, '"A <e1> black cat </e1> ate <e2> a fly</e2>."', report=report)
    assert triples([doc]) == [("black cat", "Other", "a fly")]
    assert not report.misaligned


def test_arguments_inside_tokens_are_widened_and_counted(write, nlp):
    report = ConversionReport()
    doc = one(write, nlp, '"The <e1>book</e1>case held <e2>jam</e2>."', report=report)
    assert triples([doc]) == [("bookcase", "Other", "jam")]
    (finding,) = report.misaligned
    assert (finding.record, finding.text) == ("12", "'book' (ENTITY) widened to 'bookcase'")
    report = ConversionReport()
    doc = one(write, nlp, '"The <e1>book</e1><e2>case</e2> fell."', report=report)
    # Now the same token, once.
    assert [e.text for e in get_entities(doc)] == ["bookcase"]
    assert (len(report.misaligned), report.n_entities, report.self_relations) == (2, 1, 1)


@pytest.mark.parametrize(
    ("sentence", "triple"),
    [
        ("<e1>a <e2>cat</e2> door</e1> fell", ("a cat door", "Other", "cat")),
        ("<e2><e1>cat</e1> door</e2> fell", ("cat", "Other", "cat door")),
        ("<e1>cat <e2>door</e1> frame</e2> fell", ("cat door", "Other", "door frame")),
        ("<e1><e2>cat</e2></e1> fell", ("cat", "Other", "cat")),
    ],
)
def test_nested_tags(write, reload, nlp, sentence, triple, report):
    (doc,) = reload([one(write, nlp, f'"{sentence}"', report=report)])
    assert triples([doc]) == [triple]
    assert report.n_entities == len(get_entities(doc)) == len({triple[0], triple[2]})
    assert report.duplicate_entities == 0
    assert not report.misaligned


def test_tokenizer_of_the_pipeline_is_used(write):
    doc = one(write, spacy.blank("it"), "\"L' <e1>odore</e1> dell'<e2>aria</e2>\"")
    assert triples([doc]) == [("odore", "Other", "aria")]
    (doc,) = semeval_to_docs(write(GOOD))
    assert triples([doc]) == [("cat", "Other", "fly")]


EACH_ONCE = "<e1>, </e1>, <e2> and </e2>, each once"
NO_LABEL = "the label on the line after the sentence"
PAIR = "<e1>cat</e1> <e2>fly</e2>"


@pytest.mark.parametrize(
    ("bad", "line", "found", "expected"),
    [
        ('13\t"A cat ate a <e2>fly</e2>."\nOther\n', 5, "no <e1>", EACH_ONCE),
        ('13\t"A <e1>cat ate a <e2>fly</e2>."\nOther\n', 5, "no </e1>", EACH_ONCE),
        (f"13\t{PAIR}</e2>\nOther\n", 5, "</e2> 2 times", EACH_ONCE),
        ("13\t<e1>a</e1> <e1>b</e1> <e2>c</e2>\nX\n", 5, "<e1> 2 times", EACH_ONCE),
        ("13\t</e1>cat<e1> <e2>fly</e2>\nX\n", 5, "</e1> before <e1>", "argument and then </e1>"),
        ("13\t<e1>cat</e1> <e2> </e2>\nX\n", 5, "nothing between <e2> and </e2>", "some text"),
        ("13\tcat ate fly\nOther\n", 5, "no <e1>", EACH_ONCE),
        # Without tab or id.
        (f"13 {PAIR}\nOther\n", 5, "without a tab", "a tab and"),
        ("cat ate fly\nOther\n", 5, "'cat ate fly', without a tab", "a tab and"),
        (f"\t{PAIR}\nOther\n", 5, "id ''", "an id of one word"),
        (f"1 3\t{PAIR}\nOther\n", 5, "id '1 3'", "an id of one word"),
        ("Other\n", 5, "'Other', without a tab", "the sentence"),
        # Without a label.
        (f"13\t{PAIR}\n\n", 5, "a blank line (line 6)", NO_LABEL),
        (f"13\t{PAIR}\nComment: the last\n", 5, "'Comment: the last'", NO_LABEL),
        # Too many lines.
        (f"13\t{PAIR}\nOther\nX(e1,e2)\n", 7, "'X(e1,e2)'", "at most one line 'Comment: ...'"),
        (f"13\t{PAIR}\nOther\nComment: a\nb\n", 8, "'b'", "a blank line or the next sentence"),
    ],
)
def test_bad_records(write, assert_skipped, nlp, bad, line, found, expected):
    # Line 5 is the first of the bad record.
    path = write(f"{GOOD}\n\n{bad}\n{GOOD}")
    error, docs, _ = assert_skipped(semeval_to_docs, path, "610", found, expected, nlp=nlp)
    assert (error.place, error.id) == (f"line {line}", "13" if bad.startswith("13\t") else None)
    assert triples(docs) == [("cat", "Other", "fly")] * 2


@pytest.mark.parametrize(
    ("follower", "found"),
    [
        ("", "the end of the file"),
        ("\n\n", "a blank line (line 4)"),
        (f"\n{GOOD}", "the next sentence (line 4)"),
    ],
)
def test_missing_label(write, assert_skipped, nlp, follower, found):
    path = write(GOOD + "13\t<e1>cat</e1> <e2>fly</e2>" + follower)
    parts = ["line 3", "(id '13')", found, "the label"]
    _, docs, _ = assert_skipped(semeval_to_docs, path, "610", *parts, nlp=nlp)
    assert len(docs) == 1 + bool(follower.strip())


def test_sentence_that_is_too_long(write, assert_fails):
    short = spacy.blank("en")
    short.max_length = 10
    path = write('1\t"<e1>A</e1> very, very long <e2>cat</e2>"\nOther\n')
    assert_fails(semeval_to_docs, path, "617", "line 1", "21 characters", nlp=short)
