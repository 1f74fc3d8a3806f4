from __future__ import annotations

import numpy as np
import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc
from transformers import AutoTokenizer

from spacy_spanrel.encoding.alignment import (
    SpanProjector,
    non_space_offsets,
    pieces_of_tokens,
    token_char_ranges,
    token_piece_ranges,
)
from spacy_spanrel.encoding.pieces import PieceTokenizer

NLP = spacy.blank("en")
VOCAB = NLP.vocab
CHARS = "abcXY.'-  \n\té字한ا😀\u0301\u200b\u200d\u00a0\ufe0f👩"
TEXTS = st.text(alphabet=CHARS, max_size=25)


def ranges_of_cuts(cuts: list[int]) -> list[tuple[int, int]]:
    return list(zip(cuts[:-1], cuts[1:], strict=True))


@st.composite
def tokens_and_pieces(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Draw the tokens of a text, and pieces of its bytes like those of byte-level BPE.

    A piece may contain part of a character or parts of two, some pieces have no characters, and some
    characters have no piece.
    """
    text = draw(st.text(alphabet="ab é字😀", min_size=1, max_size=12))
    inner = st.sets(st.integers(0, len(text)))
    cuts = sorted(draw(inner) | {0, len(text)})
    tokens = [pair for pair in ranges_of_cuts(cuts) if draw(st.booleans())]
    char_of_byte = [i for i, char in enumerate(text) for _ in char.encode()]
    n_bytes = len(char_of_byte)
    byte_cuts = sorted(draw(st.sets(st.integers(0, n_bytes))) | {0, n_bytes})
    pieces = []
    for start, end in ranges_of_cuts(byte_cuts):
        if draw(st.integers(0, 4)):
            pieces.append((char_of_byte[start], char_of_byte[end - 1] + 1))
        if not draw(st.integers(0, 4)):
            at = draw(st.sampled_from([0, char_of_byte[end - 1] + 1]))
            pieces.append((at, at))
    as_array = [np.array(rows, dtype=np.int64).reshape(-1, 2) for rows in (tokens, pieces)]
    return as_array[0], as_array[1]


def check_ranges(token_chars: np.ndarray, piece_chars: np.ndarray) -> np.ndarray:
    """Compare the ranges with brute force, and return them."""
    ranges = token_piece_ranges(token_chars, piece_chars)
    assert ranges.shape == (len(token_chars), 2)
    assert ranges.dtype == np.int64
    for (start, end), (first, last) in zip(token_chars.tolist(), ranges.tolist(), strict=True):
        overlapping = [
            j for j, (a, b) in enumerate(piece_chars.tolist()) if a < b and a < end and b > start
        ]
        if overlapping:
            # From the first to the last overlapping piece; others in between have no characters.
            assert (first, last) == (overlapping[0], overlapping[-1] + 1)
            within = [j for j in range(first, last) if piece_chars[j, 0] < piece_chars[j, 1]]
            assert within == overlapping
        else:
            assert first == last
            assert 0 <= first <= len(piece_chars)
    return ranges


@given(tokens_and_pieces())
def test_ranges_contain_exactly_the_overlapping_pieces(case):
    check_ranges(*case)


@given(tokens_and_pieces())
def test_ranges_are_monotone(case):
    ranges = token_piece_ranges(*case)
    assert (np.diff(ranges, axis=0) >= 0).all()
    assert (ranges[:, 0] <= ranges[:, 1]).all()


@pytest.mark.parametrize("place", [(0, 0), (3, 3), (4, 4)])
def test_piece_without_characters_between_two_tokens_belongs_to_neither(place):
    tokens, pieces = np.array([[0, 3], [4, 6]]), np.array([[0, 3], place, [4, 6]])
    assert token_piece_ranges(tokens, pieces).tolist() == [[0, 1], [2, 3]]


@pytest.mark.parametrize("place", [(0, 0), (3, 3)])
def test_piece_without_characters_within_a_token_is_in_its_range(place):
    pieces = np.array([[0, 3], place, [3, 6]])
    assert token_piece_ranges(np.array([[0, 6]]), pieces).tolist() == [[0, 3]]


def test_no_tokens_and_no_pieces():
    none = np.zeros((0, 2), dtype=np.int64)
    assert token_piece_ranges(none, np.array([[0, 1]])).shape == (0, 2)
    assert token_piece_ranges(np.array([[0, 1], [1, 2]]), none).tolist() == [[0, 0], [0, 0]]


@given(text=TEXTS)
def test_real_tokenizers(checkpoint, text):
    # Texts with white space, zero-width characters, emoji, accents and combining marks.
    doc = NLP(text)
    tokenizer = PieceTokenizer(AutoTokenizer.from_pretrained(checkpoint), "tiny")
    (pieces,) = tokenizer([text])
    chars = token_char_ranges(doc)
    assert [doc.text[a:b] for a, b in chars.tolist()] == [token.text for token in doc]
    ranges = check_ranges(chars, pieces.chars)
    assert (np.diff(ranges, axis=0) >= 0).all()
    for token, (first, last) in zip(doc, ranges.tolist(), strict=True):
        if "roberta" in str(checkpoint) and not token.is_space and token.text.isalnum():
            assert first < last, token.text


@given(tokens_and_pieces())
def test_pieces_of_tokens(case):
    ranges = token_piece_ranges(*case)
    n = len(case[1])
    wanted = [any(a <= j < b for a, b in ranges.tolist()) for j in range(n)]
    assert pieces_of_tokens(ranges, n).tolist() == wanted


@given(st.text(alphabet=CHARS))
def test_non_space_offsets(text):
    wanted = [len("".join(text[:i].split())) for i in range(len(text) + 1)]
    assert non_space_offsets(text).tolist() == wanted


# Projection between two tokenizations


@st.composite
def tokenization(draw: st.DrawFn, solid: str) -> Doc:
    """Draw a tokenization of a text without white space, and add white space between tokens."""
    cuts = sorted(draw(st.sets(st.integers(1, len(solid) - 1))) | {0, len(solid)})
    words: list[str] = []
    spaces: list[bool] = []
    for start, end in ranges_of_cuts(cuts):
        if not draw(st.integers(0, 5)):
            words.append(draw(st.sampled_from([" ", "\n", "  \t"])))
            spaces.append(draw(st.booleans()))
        words.append(solid[start:end])
        spaces.append(draw(st.booleans()))
    return Doc(VOCAB, words=words, spaces=spaces)


@st.composite
def two_tokenizations(draw: st.DrawFn) -> tuple[Doc, Doc]:
    solid = draw(st.text(alphabet="abé😀.", min_size=2, max_size=10))
    return draw(tokenization(solid)), draw(tokenization(solid))


def solid_chars(doc: Doc, start: int, end: int) -> tuple[int, ...]:
    """Return the indices of the tokens' non-space characters among all those of the Doc."""
    numbers = np.cumsum([not char.isspace() for char in doc.text]) - 1
    chars = [i for t in doc[start:end] for i in range(t.idx, t.idx + len(t))]
    return tuple(int(numbers[i]) for i in chars if not doc.text[i].isspace())


@given(two_tokenizations())
def test_projection_equals_brute_force(case):
    source, target = case
    project = SpanProjector(source, target)
    same_tokens = [t.text for t in source] == [t.text for t in target]
    ends = range(1, len(target) + 1)
    of_target = {solid_chars(target, a, b): (a, b) for b in ends for a in range(b)}
    for start in range(len(source)):
        for end in range(start + 1, len(source) + 1):
            projected = project(source[start:end])
            wanted = solid_chars(source, start, end)
            if same_tokens:
                assert projected == (start, end)
            elif not wanted or wanted not in of_target:
                assert projected is None
            else:
                assert solid_chars(target, *projected) == wanted
                # The span has no white space at its ends.
                assert not target[projected[0]].is_space
                assert not target[projected[1] - 1].is_space


def test_projection_of_misaligned_spans_is_none():
    source = Doc(VOCAB, words=["do", "n't", "go"], spaces=[False, True, False])
    target = Doc(VOCAB, words=["don't", "go"])
    project = SpanProjector(source, target)
    assert project(source[0:2]) == (0, 1)
    assert project(source[1:2]) is None
    assert project(source[0:1]) is None
    assert project(source[1:3]) is None
    assert project(source[2:3]) == (1, 2)


def test_projection_over_different_white_space():
    source = Doc(VOCAB, words=["New", "York", "is", "big"])
    target = Doc(
        VOCAB, words=["\n", "New York", "   ", "is", "big"], spaces=[False, True] * 2 + [0]
    )
    project = SpanProjector(source, target)
    assert project(source[0:2]) == (1, 2)
    assert project(source[0:4]) == (1, 5)
    assert project(source[0:1]) is None
