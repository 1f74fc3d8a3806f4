"""The heads of SpERT (Eberts and Ulges 2020, "Span-based Joint Entity and Relation Extraction with
Transformer Pre-training"): encoded Docs in, logits of spans and of pairs of spans out.

Both classifiers are one linear layer over a concatenation of vectors. In training the vectors are
concatenated as in the paper, with dropout. In prediction the layer is applied to each part of the
concatenation alone and the results are added, which is the same sum in another order: what all spans
of a window (its [CLS] vector), all spans of a size, or all pairs of an entity share is computed once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..encoding.encoder import EncodedDocs
from ..encoding.range_max import RangeMax
from ..encoding.transfer import to_device

# Rows of the size embedding, as in the original program: longer spans share the last one.
SIZE_ROWS = 100
# Number of pairs that are represented at once in prediction; bounds memory.
_PAIR_BLOCK = 8192


@dataclass(frozen=True)
class HeadSettings:
    """The settings that determine the shapes of the heads.

    width (int): Width of the encoder's vectors.
    n_entity_types (int): Number of entity types, without "no entity".
    n_relation_types (int): Number of relation types; none of them is negative.
    size_embedding (int): Width of the embedding of a span's number of tokens.
    dropout (float): Dropout of both concatenations.
    boundaries (bool): Whether spans are represented by their first and last token as well.
    """

    width: int
    n_entity_types: int
    n_relation_types: int
    size_embedding: int
    dropout: float
    boundaries: bool


class SpERTHeads(nn.Module):
    """Span classifier and pair classifier.

    settings (HeadSettings): The shapes.
    relation_bias (float): Initial value of the relation classifier's biases.
    """

    def __init__(self, settings: HeadSettings, relation_bias: float = 0.0):
        super().__init__()
        self.settings = settings
        # A span is [max over its pieces], or [max, first token, last token].
        self.span_width = settings.width * (3 if settings.boundaries else 1)
        self.size_embeddings = nn.Embedding(SIZE_ROWS, settings.size_embedding)
        self.entity_classifier = nn.Linear(
            settings.width + self.span_width + settings.size_embedding,
            1 + settings.n_entity_types,
        )
        self.rel_classifier = nn.Linear(
            settings.width + 2 * self.span_width + 2 * settings.size_embedding,
            settings.n_relation_types,
        )
        self.dropout = nn.Dropout(settings.dropout)
        nn.init.normal_(self.size_embeddings.weight, std=0.02)
        for layer in (self.entity_classifier, self.rel_classifier):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        nn.init.constant_(self.rel_classifier.bias, relation_bias)

    def forward(self, encoded: EncodedDocs, spans: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Classify given spans and pairs, as in the paper. Used in training.

        encoded (EncodedDocs): The encoded Docs.
        spans (Tensor): Token ranges, int64, on the CPU. *Shape:* ``(n_spans, 2)``
        pairs (Tensor): Rows (head, tail) of `spans`, int64, on the CPU. *Shape:* ``(n_pairs, 2)``
        RETURNS (tuple[Tensor, Tensor]): Logits. *Shapes:* ``(n_spans, 1 + n_entity_types)`` and
            ``(n_pairs, n_relation_types)``
        """
        device = encoded.pieces.device
        pairs_there = to_device(pairs, device)
        ranges, between = _piece_ranges(encoded.token_pieces, spans, pairs)
        table = RangeMax(encoded.pieces, _longest(ranges, between))
        represented = self.represent(table, encoded.token_pieces, spans)
        sizes = self.sizes(spans)
        window = to_device(encoded.token_window[spans[:, 0]], device)
        span_logits = self.classify_spans(
            encoded.context.index_select(0, window), represented, sizes
        )
        pair_logits = self.classify_pairs(
            table(between),
            represented.index_select(0, pairs_there[:, 0]),
            represented.index_select(0, pairs_there[:, 1]),
            sizes.index_select(0, pairs_there[:, 0]),
            sizes.index_select(0, pairs_there[:, 1]),
        )
        return span_logits, pair_logits

    @torch.no_grad()
    def predict_spans(self, encoded: EncodedDocs, max_size: int) -> Tensor:
        """Classify every span of 1 to `max_size` tokens, without concatenating any vectors.

        The maximum over a span of k + 1 tokens is that over its first k tokens or that over its last
        token, so the maxima of all spans of one size are one element-wise maximum away from those of
        the size before.

        encoded (EncodedDocs): The encoded Docs.
        max_size (int): Largest number of tokens.
        RETURNS (Tensor): Logits; those of the span of ``k + 1`` tokens that begins at token ``t``
            are at ``[t, k]``. They mean nothing where the span runs past the end of its text.
            *Shape:* ``(n_tokens, max_size, 1 + n_entity_types)``
        """
        pieces, token_pieces = encoded.pieces, encoded.token_pieces
        width = self.settings.width
        weight = self.entity_classifier.weight
        n_tokens = token_pieces.shape[0]
        sizes = self.size_embeddings(
            torch.arange(1, max_size + 1, device=pieces.device).clamp(max=SIZE_ROWS - 1)
        )
        shared = encoded.context @ weight[:, :width].T + self.entity_classifier.bias
        by_size = sizes @ weight[:, width + self.span_width :].T
        of_token = shared.index_select(0, to_device(encoded.token_window, pieces.device))
        logits = of_token[:, None, :] + by_size[None, :, :]
        tokens = RangeMax(pieces, _longest(token_pieces))(token_pieces)
        is_empty = token_pieces[:, 0] == token_pieces[:, 1]
        has_empty = bool(is_empty.any())
        if has_empty:
            there = to_device(is_empty[:, None], pieces.device)
            tokens = tokens.masked_fill(there, float("-inf"))
        if self.settings.boundaries:
            finite = torch.nan_to_num(tokens, neginf=0.0) if has_empty else tokens
            logits += (finite @ weight[:, 2 * width : 3 * width].T)[:, None, :]
            last = finite @ weight[:, 3 * width : 4 * width].T
            for k in range(min(max_size, n_tokens)):
                logits[: n_tokens - k, k] += last[k:]
        span_weight = weight[:, width : 2 * width].T
        # Blocks small enough that the running maximum stays in the cache.
        block = 512 if pieces.device.type == "cpu" else n_tokens
        for start in range(0, n_tokens, max(1, block)):
            running = tokens[start : start + block]
            for k in range(min(max_size, n_tokens - start)):
                if k:
                    shifted = tokens[start + k : start + k + block]
                    running = torch.maximum(running[: len(shifted)], shifted)
                finite = torch.nan_to_num(running, neginf=0.0) if has_empty else running
                logits[start : start + len(running), k] += finite @ span_weight
        return logits

    def predict_pairs(self, encoded: EncodedDocs, spans: Tensor, pairs: Tensor) -> Tensor:
        """Classify pairs of entities, with memory that does not grow with the number of pairs.

        encoded (EncodedDocs): The encoded Docs.
        spans (Tensor): Token ranges of the entities, int64, on the CPU. *Shape:* ``(n_spans, 2)``
        pairs (Tensor): Rows (head, tail) of `spans`, int64, on the CPU. *Shape:* ``(n_pairs, 2)``
        RETURNS (Tensor): Logits. *Shape:* ``(n_pairs, n_relation_types)``
        """
        n_types = self.settings.n_relation_types
        if not len(pairs) or not n_types:
            return encoded.pieces.new_zeros((len(pairs), n_types))
        pairs_there = to_device(pairs, encoded.pieces.device)
        with torch.no_grad():
            ranges, between = _piece_ranges(encoded.token_pieces, spans, pairs)
            table = RangeMax(encoded.pieces, _longest(ranges, between))
            represented = self.represent(table, encoded.token_pieces, spans)
            sizes = self.sizes(spans)
            blocks = [
                self.classify_entity_pairs(
                    table(between[start : start + _PAIR_BLOCK]),
                    represented,
                    sizes,
                    pairs_there[start : start + _PAIR_BLOCK],
                )
                for start in range(0, len(pairs), _PAIR_BLOCK)
            ]
        return torch.cat(blocks)

    def sizes(self, spans: Tensor) -> Tensor:
        """Embed the numbers of tokens of spans.

        spans (Tensor): Token ranges, int64, on the CPU. *Shape:* ``(n_spans, 2)``
        RETURNS (Tensor): *Shape:* ``(n_spans, size_embedding)``
        """
        rows = (spans[:, 1] - spans[:, 0]).clamp(max=SIZE_ROWS - 1)
        rows = to_device(rows, self.size_embeddings.weight.device)
        embedded: Tensor = self.size_embeddings(rows)
        return embedded

    def represent(self, table: RangeMax, token_pieces: Tensor, spans: Tensor) -> Tensor:
        """Represent spans by the maximum over their pieces (and, with `boundaries`, by those over the
        pieces of their first and of their last token).

        table (RangeMax): Range maxima over the pieces.
        token_pieces (Tensor): Range of the pieces of each token, int64, on the CPU.
            *Shape:* ``(n_tokens, 2)``
        spans (Tensor): Token ranges, int64, on the CPU. *Shape:* ``(n_spans, 2)``
        RETURNS (Tensor): *Shape:* ``(n_spans, span_width)``
        """
        first, last = token_pieces[spans[:, 0]], token_pieces[spans[:, 1] - 1]
        parts = [table(torch.stack([first[:, 0], last[:, 1]], dim=1))]
        if self.settings.boundaries:
            parts += [table(first), table(last)]
        return torch.cat(parts, dim=1)

    def classify_spans(self, context: Tensor, represented: Tensor, sizes: Tensor) -> Tensor:
        """Classify given spans.

        context (Tensor): [CLS] vector of each span's window. *Shape:* ``(n_spans, width)``
        represented (Tensor): From `represent`. *Shape:* ``(n_spans, span_width)``
        sizes (Tensor): From `sizes`. *Shape:* ``(n_spans, size_embedding)``
        RETURNS (Tensor): Logits. *Shape:* ``(n_spans, 1 + n_entity_types)``
        """
        logits: Tensor = self.entity_classifier(
            self.dropout(torch.cat([context, represented, sizes], dim=1))
        )
        return logits

    def classify_pairs(
        self, between: Tensor, head: Tensor, tail: Tensor, head_size: Tensor, tail_size: Tensor
    ) -> Tensor:
        """Classify given ordered pairs of spans.

        between (Tensor): Maximum over the pieces between the spans. *Shape:* ``(n_pairs, width)``
        head, tail (Tensor): From `represent`. *Shape:* ``(n_pairs, span_width)``
        head_size, tail_size (Tensor): From `sizes`. *Shape:* ``(n_pairs, size_embedding)``
        RETURNS (Tensor): Logits. *Shape:* ``(n_pairs, n_relation_types)``
        """
        logits: Tensor = self.rel_classifier(
            self.dropout(torch.cat([between, head, tail, head_size, tail_size], dim=1))
        )
        return logits

    def classify_entity_pairs(
        self, between: Tensor, represented: Tensor, sizes: Tensor, pairs: Tensor
    ) -> Tensor:
        """Classify many pairs of few spans: each span is projected once as head and once as tail.

        between (Tensor): Maximum over the pieces between the spans. *Shape:* ``(n_pairs, width)``
        represented (Tensor): From `represent`. *Shape:* ``(n_spans, span_width)``
        sizes (Tensor): From `sizes`. *Shape:* ``(n_spans, size_embedding)``
        pairs (Tensor): Rows (head, tail) of the spans, int64. *Shape:* ``(n_pairs, 2)``
        RETURNS (Tensor): Logits. *Shape:* ``(n_pairs, n_relation_types)``
        """
        width, span, size = self.settings.width, self.span_width, self.settings.size_embedding
        between_w, head_w, tail_w, head_size_w, tail_size_w = torch.split(
            self.rel_classifier.weight, [width, span, span, size, size], dim=1
        )
        as_head = represented @ head_w.T + sizes @ head_size_w.T
        as_tail = represented @ tail_w.T + sizes @ tail_size_w.T
        logits: Tensor = between @ between_w.T + self.rel_classifier.bias
        return logits + as_head[pairs[:, 0]] + as_tail[pairs[:, 1]]


def _piece_ranges(token_pieces: Tensor, spans: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ranges of the pieces of spans, and of those between the spans of pairs, on the CPU."""
    ranges = torch.stack([token_pieces[spans[:, 0], 0], token_pieces[spans[:, 1] - 1, 1]], dim=1)
    head, tail = ranges[pairs[:, 0]], ranges[pairs[:, 1]]
    start = torch.minimum(head[:, 1], tail[:, 1])
    end = torch.maximum(head[:, 0], tail[:, 0])
    # There is nothing between overlapping spans: the range is empty, and its maximum the zero vector.
    return ranges, torch.stack([start, torch.maximum(start, end)], dim=1)


def _longest(*ranges: Tensor) -> int:
    """Return the length of the longest range (at least 1)."""
    lengths = [int((rows[:, 1] - rows[:, 0]).max()) for rows in ranges if rows.shape[0]]
    return max([1, *lengths])
