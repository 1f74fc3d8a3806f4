"""spaCy tokens and word pieces, matched by the characters that they cover.

Text is word-pieced as it stands and pieces know their character offsets, so a piece may cross a
token border (`don't` is `don` `'` `t` in pieces, `do` `n't` in tokens). A token owns every piece
that covers at least one of its characters; a token without pieces (white space, characters that
the tokenizer removes) owns an empty range.
"""

from __future__ import annotations

import numpy as np
from spacy.attrs import IDX, LENGTH
from spacy.tokens import Doc, Span

from ..arrays import BoolArray, IntArray


def token_char_ranges(doc: Doc) -> IntArray:
    """Return the character range of each token.

    doc (Doc): The Doc.
    RETURNS (int64 array, (n_tokens, 2)): Start and end (exclusive) in `doc.text`.
    """
    found = doc.to_array([IDX, LENGTH]).astype(np.int64).reshape(-1, 2)
    found[:, 1] += found[:, 0]
    return found


def token_piece_ranges(token_chars: IntArray, piece_chars: IntArray) -> IntArray:
    """Match tokens with the pieces that overlap them.

    token_chars (int64 array, (n_tokens, 2)): Character ranges of tokens, in order.
    piece_chars (int64 array, (n_pieces, 2)): Character ranges of pieces, in order. Pieces of no
        character (start == end) belong to no token of their own, but lie within the range of a
        token that has pieces on both sides of them; their offsets do not matter.
    RETURNS (int64 array, (n_tokens, 2)): For each token the range of its pieces (end exclusive);
        start == end where a token has none.
    """
    # Pieces without characters may stand anywhere: some tokenizers give them (0, 0).
    solid = np.flatnonzero(piece_chars[:, 0] < piece_chars[:, 1])
    starts = np.maximum.accumulate(piece_chars[solid, 0])
    ends = np.maximum.accumulate(piece_chars[solid, 1])
    first = np.searchsorted(ends, token_chars[:, 0], side="right")
    last = np.searchsorted(starts, token_chars[:, 1], side="left")
    # Back to positions among all pieces; a token beyond the last solid one stands behind it.
    end_of_solid = np.concatenate([[0], solid + 1])
    begin = np.append(solid, end_of_solid[-1])[first]
    return np.stack([begin, np.maximum(begin, end_of_solid[last])], axis=1).astype(np.int64)


def pieces_of_tokens(token_pieces: IntArray, n_pieces: int) -> BoolArray:
    """Tell which pieces belong to a token.

    token_pieces (int64 array, (n_tokens, 2)): From `token_piece_ranges`.
    n_pieces (int): Number of pieces.
    RETURNS (bool array, (n_pieces,)): True for pieces in at least one range.
    """
    borders = np.zeros(n_pieces + 1, dtype=np.int64)
    np.add.at(borders, token_pieces[:, 0], 1)
    np.add.at(borders, token_pieces[:, 1], -1)
    return np.cumsum(borders)[:n_pieces] > 0


def non_space_offsets(text: str) -> IntArray:
    """Count the characters other than white space before each position of a text.

    Two Docs of one Example have the same text but for white space, so these counts are
    coordinates that both share.

    text (str): The text.
    RETURNS (int64 array, (len(text) + 1,)): Counts.
    """
    solid = np.fromiter((not char.isspace() for char in text), dtype=np.int64, count=len(text))
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(solid)])


def project_chars(source: str, target: str, start: int, end: int) -> tuple[int, int]:
    """Project a range of characters onto another text that differs in white space only.

    source, target (str): The texts.
    start, end (int): The range in `source`, end exclusive.
    RETURNS (tuple[int, int]): The range in `target` of the same characters other than white space.
    """
    if source == target:
        return (start, end)
    counts, places = non_space_offsets(source), non_space_offsets(target)
    # The last position before the first character, and the first one behind the last.
    first = int(np.searchsorted(places, counts[start], side="right")) - 1
    last = int(np.searchsorted(places, counts[end], side="left"))
    return (first, max(first, last))


class SpanProjector:
    """Projects spans of one Doc onto the tokens of another one with the same text.

    Unlike `Example.get_aligned_spans_y2x` it says which spans do not lie on token borders, so that
    they can be counted instead of lost.

    source (Doc): The Doc that holds the spans (gold).
    target (Doc): The Doc whose tokens count (predicted).
    """

    def __init__(self, source: Doc, target: Doc):
        self._same = len(source) == len(target) and all(
            a.orth == b.orth for a, b in zip(source, target, strict=True)
        )
        if self._same:
            return
        self._source_counts = non_space_offsets(source.text)
        counts = non_space_offsets(target.text)
        solid = [token for token in target if not token.is_space]
        self._starts = {int(counts[token.idx]): token.i for token in solid}
        self._ends = {int(counts[token.idx + len(token)]): token.i + 1 for token in solid}

    def __call__(self, span: Span) -> tuple[int, int] | None:
        """Return the token range (end exclusive) in the target, or None if borders differ."""
        if self._same:
            return (span.start, span.end)
        start = self._starts.get(int(self._source_counts[span.start_char]))
        end = self._ends.get(int(self._source_counts[span.end_char]))
        if start is None or end is None or end <= start:
            return None
        return (start, end)
