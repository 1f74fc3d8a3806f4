from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_spanrel.streams import pieces
from spacy_spanrel.streams.pieces import list_start, split_items, split_lines

MANY = 1 << 20

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.sampled_from([b"a", b"\n", b"\r\n", "ü☂".encode(), b"\x00"])).map(b"".join))
def test_lines_are_all_of_the_file(data):
    found = list(split_lines(io.BytesIO(data), 0, MANY))
    assert b"".join(piece.data for piece in found) == data
    assert all(piece.whole for piece in found)
    assert [piece.data for piece in found] == data.splitlines(keepends=True) or b"\r" in data
    for i, piece in enumerate(found):
        assert list(split_lines(io.BytesIO(data), piece.end, MANY)) == found[i + 1 :]


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_long_lines_are_cut_and_skipped(end):
    data = b"ab\n" + b"x" * 200_000 + b"\n" + b"cde" + end
    found = list(split_lines(io.BytesIO(data), 0, 10))
    assert [(p.data[:4], p.whole) for p in found] == [
        (b"ab\n", True),
        (b"xxxx", False),
        (b"cde" + end, True),
    ]
    assert len(found[1].data) == 11
    assert found[-1].end == len(data)


def test_byte_order_mark_of_the_first_line_only():
    data = pieces.BOM + b"a\n" + pieces.BOM + b"b\n"
    assert [p.data for p in split_lines(io.BytesIO(data), 0, MANY)] == [
        b"a\n",
        pieces.BOM + b"b\n",
    ]


@given(
    values=st.lists(json_values, max_size=6),
    indent=st.sampled_from([None, 0, 2]),
    ascii_only=st.booleans(),
    bom=st.booleans(),
    block=st.sampled_from([1, 2, 3, 7, 1 << 16]),
)
def test_items_of_a_list(values, indent, ascii_only, bom, block):
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only)
    data = pieces.BOM * bom + b" \n" + text.encode("utf-8", "surrogatepass") + b"\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "_BLOCK", block)
        start = list_start(io.BytesIO(data))
        found = list(split_items(io.BytesIO(data), start, MANY))
        decoded = [json.loads(p.data.decode("utf-8", "surrogatepass")) for p in found]
        assert decoded == values
        assert not any(piece.problem for piece in found)
        assert [piece.closed for piece in found] == [False] * (len(values) - 1) + [True] * bool(
            values
        )
        # From the end of each item on.
        for i, piece in enumerate(found):
            again = split_items(io.BytesIO(data), piece.end, MANY, closed=piece.closed)
            assert list(again) == found[i + 1 :]


@pytest.mark.parametrize("block", [1, 2, 1 << 16])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"[]", []),
        (b" [ ] ", []),
        (b'["a",]', [(b'"a"', "")]),
        (b'["a"', [(b'"a"', "file")]),
        (b'["a",', [(b'"a"', ""), (b"", "file")]),
        (b'["a", "b', [(b'"a"', ""), (b' "b', "file")]),
        (b'["a"] , x', [(b'"a"', ""), (b", x", "behind")]),
        (b"[] []", [(b"[]", "behind")]),
        (b'["a", }, "b"]', [(b'"a"', ""), (b" }", ""), (b' "b"', "")]),
        (rb'["\\", "\"]"]', [(rb'"\\"', ""), (rb' "\"]"', "")]),
    ],
)
def test_lists_as_they_should_not_be(monkeypatch, block, data, expected):
    monkeypatch.setattr(pieces, "_BLOCK", block)
    found = list(split_items(io.BytesIO(data), list_start(io.BytesIO(data)), MANY))
    assert [piece.data for piece in found] == [data for data, _ in expected]
    for piece, (_, problem) in zip(found, expected, strict=True):
        assert bool(piece.problem) == bool(problem)
        assert problem in piece.problem
    for i, piece in enumerate(found):
        again = list(split_items(io.BytesIO(data), piece.end, MANY, closed=piece.closed))
        assert again == found[i + 1 :]


@pytest.mark.parametrize("data", [b"", b"  ", b'{"a": []}', b"a", b"7"])
def test_no_list(data):
    assert list_start(io.BytesIO(data)) is None


def test_long_items_are_cut_and_skipped():
    data = json.dumps(["ab", "x" * 200_000, "cd"]).encode()
    found = list(split_items(io.BytesIO(data), 1, 20))
    assert [(p.data.strip()[:4], p.whole) for p in found] == [
        (b'"ab"', True),
        (b'"xxx', False),
        (b'"cd"', True),
    ]
    assert len(found[1].data) <= 21
