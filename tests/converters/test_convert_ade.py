from __future__ import annotations

import tracemalloc
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_spanrel.annotations import get_entities
from spacy_spanrel.converters import ConversionReport, ade_to_docs, get_orig_id
from spacy_spanrel.converters.ade import _locate, _pair_at_distance, _Row
from spacy_spanrel.reading import Place

NINES = "9" * 5000
SENTENCE = "Rash and fever after aspirin; aspirin-induced rash."


def row(sentence, effect, drug, *, pubmed_id="11", shift=100, effect_at=None, drug_at=None):
    effect_at = (sentence.index(effect) if effect_at is None else effect_at) + shift
    drug_at = (sentence.index(drug) if drug_at is None else drug_at) + shift
    return (
        f"{pubmed_id}|{sentence}|{effect}|{effect_at}|{effect_at + len(effect)}"
        f"|{drug}|{drug_at}|{drug_at + len(drug)}\n"
    )


def test_rows_of_a_sentence_become_one_doc(write, reload, nlp, report):
    other = "Nausea from digoxin."
    text = (
        row(SENTENCE, "Rash", "aspirin")
        + row(other, "Nausea", "digoxin", pubmed_id="12")
        # Not beside the first row of its sentence.
        + row(SENTENCE, "fever", "aspirin")
        + row("Cough.  Cough from enalapril.", "Cough", "enalapril", effect_at=8)
    )
    docs = reload(ade_to_docs(write(text), nlp=nlp, report=report))
    assert [doc.text for doc in docs] == [SENTENCE, other, "Cough.  Cough from enalapril."]
    assert [get_orig_id(doc) for doc in docs] == ["11:0", "12:0", "11:1"]
    assert not any(doc.has_unknown_spaces for doc in docs)
    assert [(e.text, e.label_) for e in get_entities(docs[0])] == [
        ("Rash", "Adverse-Effect"),
        ("aspirin", "Drug"),
        ("fever", "Adverse-Effect"),
    ]
    assert [r.to_triple() for r in docs[0]._.relations] == [
        ("Rash", "Adverse-Effect", "aspirin"),
        ("fever", "Adverse-Effect", "aspirin"),
    ]
    assert docs[2]._.relations[0].head.start_char == 8
    assert (report.docs, report.n_entities, report.n_relations) == (3, 7, 4)
    assert not report.misaligned
    assert not report.notes
    assert not report.duplicate_entities


def test_distance_of_offsets_tells_repeated_texts_apart(write, nlp, report):
    second = SENTENCE.index("aspirin", 25)
    text = row(SENTENCE, "fever", "aspirin", drug_at=second)
    (doc,) = ade_to_docs(write(text), nlp=nlp, report=report)
    assert doc._.relations[0].tail.start_char == second
    assert not report.notes


def test_offsets_that_do_not_fit_are_noted(write, nlp, report):
    second = SENTENCE.index("aspirin", 25)
    # As if the abstract had two more blanks in between.
    text = row(SENTENCE, "fever", "aspirin", drug_at=second + 2)
    (doc,) = ade_to_docs(write(text), nlp=nlp, report=report)
    assert doc._.relations[0].tail.start_char == second
    assert sorted(report.notes.values()) == [1, 1]


def test_spans_inside_tokens_are_widened_and_counted(write, nlp, report):
    sentence = "Hepatotoxicity after interferonalpha."
    text = row(sentence, "toxicity", "interferon") + row(sentence, "Hepatotoxicity", "interferon")
    (doc,) = ade_to_docs(write(text), nlp=nlp, report=report)
    # Both effects are now the same token, once.
    assert [e.text for e in get_entities(doc)] == ["Hepatotoxicity", "interferonalpha"]
    assert len(report.misaligned) == 2
    assert {finding.record for finding in report.misaligned} == {"11:0"}
    assert "'toxicity' (Adverse-Effect) widened to 'Hepatotoxicity'" in report.misaligned[0].text
    assert (report.duplicate_entities, report.duplicate_relations) == (1, 1)


def test_overlapping_entities_are_kept(write, reload, nlp):
    sentence = "Severe lithium toxicity was seen."
    report = ConversionReport(max_span_size=1)
    (doc,) = reload(
        ade_to_docs(write(row(sentence, "lithium toxicity", "lithium")), nlp=nlp, report=report)
    )
    assert [e.text for e in get_entities(doc)] == ["lithium toxicity", "lithium"]
    assert [e.text for e in doc.ents] == ["lithium toxicity"]
    assert doc._.relations[0].to_triple() == ("lithium toxicity", "Adverse-Effect", "lithium")
    assert report.overlapping_entities == 1
    assert len(report.too_long) == 1


def test_separator_inside_the_sentence(write, nlp):
    sentence = "Rash (grade 1|2) after aspirin."
    (doc,) = ade_to_docs(write(row(sentence, "Rash", "aspirin")), nlp=nlp)
    assert doc.text == sentence
    assert get_orig_id(doc) == "11:0"


@pytest.mark.parametrize(
    ("bad", "code", "place", "record_id", "found", "expected"),
    [
        ("11|a|b|1|2\n", "610", "line 2", None, "5 fields", "8 fields"),
        ("11|Rash.|Rash|x|5|Rash|1|5\n", "606", "line 2, adverse effect", "11", "'x'", "numbers"),
        ("11|Rash.|Rash|1|5|Rash|5|5\n", "606", "line 2, drug", "11", "'5'", "begin < end"),
        ("11|Rash.|Rash|1|5|Rash|-1|5\n", "606", "line 2, drug", "11", "'-1'", "0 <= begin"),
        # Python parses no integers of so many digits.
        (
            f"11|Rash.|Rash|1|{NINES}|Rash|1|5\n",
            "606",
            "line 2, adverse effect",
            "11",
            "'99",
            "numb",
        ),
        ("11|Rash.||1|5|Rash|1|5\n", "610", "line 2, adverse effect", "11", "''", "some text"),
        ("|Rash.|Rash|1|5|Rash|1|5\n", "610", "line 2, pubmed_id", None, "''", "some text"),
        ("11|Rash.|Rash|1|5|zinc|1|5\n", "611", "line 2, drug", "11", "'zinc'", "'Rash.'"),
    ],
)
def test_bad_rows(write, assert_skipped, nlp, bad, code, place, record_id, found, expected):
    good = row(SENTENCE, "Rash", "aspirin")
    path = write(good + bad + row(SENTENCE, "fever", "aspirin"))
    error, (doc,), _ = assert_skipped(ade_to_docs, path, code, place, found, expected, nlp=nlp)
    assert (error.place, error.id) == (place, record_id)
    assert len(doc._.relations) == 2


@given(st.text("ab ", max_size=12), st.text("ab ", max_size=12), st.text("ab ", max_size=12))
def test_right_offsets_always_find_their_distance(left, middle, right):
    sentence = f"{left}ab{middle}ba{right}"
    row = _Row("1", sentence, "ab", 50 + len(left), "ba", 52 + len(left) + len(middle))
    report = ConversionReport()
    effect, drug = _locate(row, Place("file"), report)
    assert sentence[effect.start_char : effect.end_char] == "ab"
    assert sentence[drug.start_char : drug.end_char] == "ba"
    assert drug.start_char - effect.start_char == 2 + len(middle)
    assert not report.notes


STARTS = st.lists(st.integers(0, 30), min_size=1, unique=True).map(sorted)


@given(STARTS, STARTS, st.integers(-40, 40))
def test_nearest_distance_is_that_of_all_pairs(effects, drugs, distance):
    pairs = product(effects, drugs)
    wanted = min(pairs, key=lambda pair: abs(pair[0] - pair[1] - distance))
    assert _pair_at_distance(effects, drugs, distance) == wanted


def test_repeated_texts_need_no_memory_for_all_pairs(write, nlp):
    # 3,000 effects and 3,000 drugs are 9 million pairs.
    sentence = "e d " * 3000
    path = write(f"1|{sentence}|e|400|401|d|402|403")
    tracemalloc.start()
    (doc,) = ade_to_docs(path, nlp=nlp)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [(r.head.start, r.tail.start) for r in doc._.relations] == [(0, 1)]
    assert peak < 50e6
