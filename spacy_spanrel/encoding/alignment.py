"""Alignment of spaCy tokens, subword pieces and two tokenizations of a text, by characters.

The tokenizer of the encoder splits the text itself and not spaCy's tokens, so a piece may cross a
token border (`don't` is `don` `'` `t` in pieces, `do` `n't` in tokens). A token gets every piece
that covers at least one of its characters. A token without pieces (white space, characters that
the tokenizer removes) gets an empty range.
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
    ranges = doc.to_array([IDX, LENGTH]).astype(np.int64).reshape(-1, 2)
    ranges[:, 1] += ranges[:, 0]
    return ranges


def token_piece_ranges(token_chars: IntArray, piece_chars: IntArray) -> IntArray:
    """Return the range of the pieces that overlap each token.

    token_chars (int64 array, (n_tokens, 2)): Character ranges of tokens, in order.
    piece_chars (int64 array, (n_pieces, 2)): Character ranges of pieces, in order. A piece without
        characters (start == end) belongs to a token only if it stands between two pieces of that
        token; its offsets do not matter.
    RETURNS (int64 array, (n_tokens, 2)): Ranges of pieces, end exclusive; start == end for a token
        without pieces.
    """
    # Only pieces with characters can be searched: some tokenizers give the others (0, 0).
    solid = np.flatnonzero(piece_chars[:, 0] < piece_chars[:, 1])
    starts = np.maximum.accumulate(piece_chars[solid, 0])
    ends = np.maximum.accumulate(piece_chars[solid, 1])
    first = np.searchsorted(ends, token_chars[:, 0], side="right")
    last = np.searchsorted(starts, token_chars[:, 1], side="left")
    # Back to positions among all pieces. A token behind all solid pieces gets the position behind
    # the last of them.
    end_of_solid = np.concatenate([[0], solid + 1])
    begin = np.append(solid, end_of_solid[-1])[first]
    return np.stack([begin, np.maximum(begin, end_of_solid[last])], axis=1).astype(np.int64)


def pieces_of_tokens(token_pieces: IntArray, n_pieces: int) -> BoolArray:
    """Mark the pieces that belong to a token.

    token_pieces (int64 array, (n_tokens, 2)): From `token_piece_ranges`.
    n_pieces (int): Number of pieces.
    RETURNS (bool array, (n_pieces,)): True for a piece in at least one range.
    """
    borders = np.zeros(n_pieces + 1, dtype=np.int64)
    np.add.at(borders, token_pieces[:, 0], 1)
    np.add.at(borders, token_pieces[:, 1], -1)
    return np.cumsum(borders)[:n_pieces] > 0


def non_space_offsets(text: str) -> IntArray:
    """Count the characters other than white space before each position of a text.

    The texts of the two Docs of an Example differ in white space at most, so a count stands for the
    same place in both.

    text (str): The text.
    RETURNS (int64 array, (len(text) + 1,)): The counts, that of the end of the text included.
    """
    solid = np.fromiter((not char.isspace() for char in text), dtype=np.int64, count=len(text))
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(solid)])


def project_chars(source: str, target: str, start: int, end: int) -> tuple[int, int]:
    """Project a range of characters onto another text that differs in white space only.

    source, target (str): The text of the range, and the text to project it onto.
    start, end (int): The range in `source`, end exclusive.
    RETURNS (tuple[int, int]): The range in `target` that holds the same characters, white space
        aside.
    """
    if source == target:
        return (start, end)
    source_counts, target_counts = non_space_offsets(source), non_space_offsets(target)
    # White space at either end is left out: the last position before the first character, and the
    # first position behind the last one.
    first = int(np.searchsorted(target_counts, source_counts[start], side="right")) - 1
    last = int(np.searchsorted(target_counts, source_counts[end], side="left"))
    return (first, max(first, last))


class SpanProjector:
    """Projection of the spans of one Doc onto the tokens of another Doc with the same text.

    Unlike `Example.get_aligned_spans_y2x` it reports each span that does not lie on token borders,
    so that such spans can be counted and do not get lost. Texts may differ in white space.

    source (Doc): The Doc of the spans (the gold annotation).
    target (Doc): The Doc to project them onto (the prediction).
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
        """Project a span.

        span (Span): A span of the source.
        RETURNS (tuple[int, int] | None): The tokens in the target, end exclusive; None if the span
            begins or ends within a token there.
        """
        if self._same:
            return (span.start, span.end)
        start = self._starts.get(int(self._source_counts[span.start_char]))
        end = self._ends.get(int(self._source_counts[span.end_char]))
        if start is None or end is None or end <= start:
            return None
        return (start, end)
