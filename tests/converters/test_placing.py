"""Strings are found in texts where another program read them."""

from __future__ import annotations

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import OSA
from spacy.tokens import Doc

from spacy_spanrel.annotations import get_relations
from spacy_spanrel.converters import spert_to_docs
from spacy_spanrel.converters.placing import (
    Grade,
    Places,
    StringFinder,
    not_nested,
)

NLP = spacy.blank("en")
# A Doc without sentence ends.
PLAIN = StringFinder(Doc(NLP.vocab, words=["x"] * 50))


def find(text: str | list[str], string: str) -> tuple[Grade, list[str]] | None:
    doc = NLP.make_doc(text) if isinstance(text, str) else Doc(NLP.vocab, words=text)
    places = StringFinder(doc).find(string)
    return places and (places.grade, [doc[start:end].text for start, end in places.spans])


@pytest.mark.parametrize(
    ("text", "string", "grade", "expected"),
    [
        ("Ann Lee met Ann.", "Ann", Grade.EXACT, ["Ann", "Ann"]),
        ("may I see May ?", "May", Grade.EXACT, ["May"]),
        ("She met ann  LEE.", " Ann Lee ", Grade.FOLDED, ["ann  LEE"]),
        (["Kevin", "O", "'Brien"], "Kevin O’Brien", Grade.FOLDED, ["Kevin O 'Brien"]),
        ("the 1914–18 war", "1914-18", Grade.FOLDED, ["1914–18"]),
        ("Straße nach Köln", "strasse", Grade.FOLDED, ["Straße"]),
        ("Ｏｓｌｏ and", "Oslo", Grade.FOLDED, ["Ｏｓｌｏ"]),
        (["Oslo/Bergen", "now"], "Oslo", Grade.WIDENED, ["Oslo/Bergen"]),
        (["東京", "は"], "東京", Grade.EXACT, ["東京"]),
        ("Mikhail Gorbachev spoke", "Mikhail Gorbachov", Grade.FUZZY, ["Mikhail Gorbachev"]),
        ("in Osslo , now", "Oslo", None, None),  # too short for an edit
        ("in Bergen , now", "Begren", Grade.FUZZY, ["Bergen"]),
        ("in Bergen , now", "Bergem", Grade.FUZZY, ["Bergen"]),
        ("Give 100 mg now", "1000 mg", None, None),
        ("on May 12, 1998", "May 12, 1989", None, None),
        ("at Bergem 12", "Bergen 12", Grade.FUZZY, ["Bergem 12"]),
        ("the party", "art", None, None),
        ("Ann", "", None, None),
        ("Ann", "\u200b", None, None),
        ("", "Ann", None, None),
        ("a b", "completely different", None, None),
    ],
)
def test_steps(text, string, grade, expected):
    assert find(text, string) == (grade and (grade, expected))


WORDS = st.lists(
    st.text("abcXYZéß'–-. \n", min_size=1, max_size=6).filter(str.strip), min_size=1, max_size=12
)


@settings(max_examples=200)
@given(WORDS, st.data())
def test_every_span_is_found_at_its_place(words, data):
    doc = Doc(NLP.vocab, words=words)
    start = data.draw(st.integers(0, len(doc) - 1))
    end = data.draw(st.integers(start + 1, len(doc)))
    places = StringFinder(doc).find(doc[start:end].text)
    if any(char.isalnum() for char in doc[start:end].text):
        assert places is not None
        assert places.grade == Grade.EXACT
        assert any(doc[a:b].text.strip() == doc[start:end].text.strip() for a, b in places.spans)
    for a, b in () if places is None else places.spans:
        assert 0 <= a < b <= len(doc)


@settings(max_examples=200)
@given(
    st.lists(st.text("abc", min_size=1, max_size=6), min_size=1, max_size=15),
    st.text("abc", min_size=5, max_size=14),
)
def test_fuzzy_search_finds_what_a_comparison_with_all_spans_finds(words, string):
    doc = Doc(NLP.vocab, words=words)
    places = StringFinder(doc).find(string)
    most = len(string) // 5
    distances = {
        (i, j): OSA.distance(string, "".join(words[i:j]))
        for i in range(len(words))
        for j in range(i + 1, len(words) + 1)
    }
    if places is None:
        assert min(distances.values()) > most
    elif places.grade == Grade.FUZZY:
        best = min(distances.values())
        assert {distances[span] for span in places.spans} == {best}
        shortest = min(j - i for (i, j), distance in distances.items() if distance == best)
        assert {j - i for i, j in places.spans} == {shortest}


@settings(max_examples=200)
@given(*[st.lists(st.integers(0, 40), min_size=1, max_size=8, unique=True).map(sorted)] * 2)
def test_nearest_pair_equals_a_comparison_of_all(heads, tails):
    heads, tails = [(i, i + 2) for i in heads], [(i, i + 1) for i in tails]
    heads = [h for n, h in enumerate(heads) if not n or h[0] >= heads[n - 1][1]]
    gaps = [max(h[0] - t[1], t[0] - h[1]) for h in heads for t in tails]
    apart = [gap for gap in gaps if gap >= 0]
    (start, end), (first, last) = PLAIN.nearest_pair(heads, tails)
    assert max(start - last, first - end) == (min(apart) if apart else -1)


def test_equal_arguments_need_two_places():
    assert PLAIN.nearest_pair([(0, 1)], [(0, 1)]) is None
    assert PLAIN.nearest_pair([(0, 1), (5, 6)], [(0, 1), (5, 6)]) == ((0, 1), (5, 6))
    assert PLAIN.nearest_pair([], [(0, 1)]) is None


def test_part_of_a_longer_name_is_the_last_choice():
    lee, ann_lee = Places(Grade.EXACT, [(1, 2), (4, 5)]), Places(Grade.EXACT, [(0, 2)])
    assert not_nested(lee, [lee, ann_lee]) == [(4, 5)]
    assert not_nested(Places(Grade.EXACT, [(1, 2)]), [ann_lee]) == [(1, 2)]


@pytest.mark.parametrize("name", ["dev", "test"])
def test_conll04_turned_into_strings(name, conll04):
    n = right = 0
    for doc in spert_to_docs(conll04 / f"{name}.json", nlp=NLP):
        relations = get_relations(doc)
        gold = {(r.head.start, r.head.end, r.tail.start, r.tail.end, r.label) for r in relations}
        finder = StringFinder(doc)
        for head, label, tail in {r.to_triple() for r in relations}:
            places = [finder.find(head), finder.find(tail)]
            pair = finder.nearest_pair(*(not_nested(p, places) for p in places))
            right += (*pair[0], *pair[1], label) in gold
            n += 1
    assert right / n > 0.98
