"""The heads of SpERT (Eberts and Ulges 2020, "Span-based Joint Entity and Relation Extraction with
Transformer Pre-training"): encoded Docs in, logits of spans and of pairs of spans out.

Both classifiers are one linear layer over a concatenation of vectors. In training the vectors are
concatenated as in the paper, with dropout. In prediction the layer is applied to each part of the
concatenation alone and the results are added, which is the same sum in another order: what all spans
of a window (its [CLS] vector), all spans of a size, or all pairs of an entity share is computed once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ..encoding.encoder import EncodedDocs
from ..encoding.range_max import RangeMax
from ..encoding.transfer import to_device
from .context_layer import ContextLayer

# Rows of the size embedding, as in the original program: longer spans share the last one.
SIZE_ROWS = 100
# First distances of the buckets of token distances: 0 to 4, 5 to 7, 8 to 15 and so on, as in Lee et al.
# (2017), "End-to-end Neural Coreference Resolution".
_DISTANCES = torch.tensor([0, 1, 2, 3, 4, 5, 8, 16, 32, 64])
# Number of buckets: each of these for either order of head and tail, and one for overlapping spans.
DISTANCE_ROWS = 1 + 2 * len(_DISTANCES)
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
    distance_embedding (int): Width of the embedding of the token distance of a pair; 0 for none.
    type_embedding (int): Width of the embedding of an entity type in a pair; 0 for none.
    type_noise (float): Probability that a type is replaced by another one in training.
    context_layer (str): Layer between encoder and heads: "none", "lstm" or "transformer".
    """

    width: int
    n_entity_types: int
    n_relation_types: int
    size_embedding: int
    dropout: float
    boundaries: bool
    distance_embedding: int = 0
    type_embedding: int = 0
    type_noise: float = 0.0
    context_layer: Literal["none", "lstm", "transformer"] = "none"


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
            settings.width
            + 2 * (self.span_width + settings.size_embedding + settings.type_embedding)
            + settings.distance_embedding,
            settings.n_relation_types,
        )
        self.dropout = nn.Dropout(settings.dropout)
        nn.init.normal_(self.size_embeddings.weight, std=0.02)
        for layer in (self.entity_classifier, self.rel_classifier):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        nn.init.constant_(self.rel_classifier.bias, relation_bias)
        # The last row is for types that the training data did not have, and for spans without a type.
        self.type_embeddings = _embedding(1 + settings.n_entity_types, settings.type_embedding)
        self.distance_embeddings = _embedding(DISTANCE_ROWS, settings.distance_embedding)
        # The model runs it on what the encoder returns; the methods below take its output.
        self.context_layer = None
        if settings.context_layer != "none":
            self.context_layer = ContextLayer(
                settings.context_layer, settings.width, settings.dropout
            )

    def forward(
        self, encoded: EncodedDocs, spans: Tensor, pairs: Tensor, types: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Classify given spans and pairs, as in the paper. Used in training.

        encoded (EncodedDocs): The encoded Docs.
        spans (Tensor): Token ranges, int64, on the CPU. *Shape:* ``(n_spans, 2)``
        pairs (Tensor): Rows (head, tail) of `spans`, int64, on the CPU. *Shape:* ``(n_pairs, 2)``
        types (Tensor | None): From `attributes`.
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
        attributes = self.attributes(sizes, types)
        distances = None
        if self.distance_embeddings is not None:
            distances = self.distance_embeddings(to_device(distance_rows(spans, pairs), device))
        pair_logits = self.classify_pairs(
            table(between),
            represented.index_select(0, pairs_there[:, 0]),
            represented.index_select(0, pairs_there[:, 1]),
            attributes.index_select(0, pairs_there[:, 0]),
            attributes.index_select(0, pairs_there[:, 1]),
            distances,
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

    def predict_pairs(
        self, encoded: EncodedDocs, spans: Tensor, pairs: Tensor, types: Tensor | None = None
    ) -> Tensor:
        """Classify pairs of entities, with memory that does not grow with the number of pairs.

        encoded (EncodedDocs): The encoded Docs.
        spans (Tensor): Token ranges of the entities, int64, on the CPU. *Shape:* ``(n_spans, 2)``
        pairs (Tensor): Rows (head, tail) of `spans`, int64, on the CPU. *Shape:* ``(n_pairs, 2)``
        types (Tensor | None): From `attributes`.
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
            attributes = self.attributes(self.sizes(spans), types)
            distances = None
            if self.distance_embeddings is not None:
                distances = to_device(distance_rows(spans, pairs), encoded.pieces.device)
            blocks = [
                self.classify_entity_pairs(
                    table(between[start : start + _PAIR_BLOCK]),
                    represented,
                    attributes,
                    pairs_there[start : start + _PAIR_BLOCK],
                    None if distances is None else distances[start : start + _PAIR_BLOCK],
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

    def attributes(self, sizes: Tensor, types: Tensor | None) -> Tensor:
        """Join the sizes of spans and, with a `type_embedding`, their embedded entity types.

        In training, a type is replaced by another one with the probability `type_noise`: it comes from
        the annotation then, and in prediction from a classifier that errs.

        sizes (Tensor): From `sizes`. *Shape:* ``(n_spans, size_embedding)``
        types (Tensor | None): Entity types, int64, on the CPU; `n_entity_types` for an unknown one.
            None: all are unknown. *Shape:* ``(n_spans,)``
        RETURNS (Tensor): *Shape:* ``(n_spans, size_embedding + type_embedding)``
        """
        if self.type_embeddings is None:
            return sizes
        unknown = self.settings.n_entity_types
        if types is None:
            types = torch.full((len(sizes),), unknown)
        if self.training and self.settings.type_noise and unknown:
            others = (types + torch.randint(1, 1 + unknown, types.shape)) % (1 + unknown)
            types = torch.where(torch.rand(len(types)) < self.settings.type_noise, others, types)
        return torch.cat([sizes, self.type_embeddings(to_device(types, sizes.device))], dim=1)

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
        self,
        between: Tensor,
        head: Tensor,
        tail: Tensor,
        head_attributes: Tensor,
        tail_attributes: Tensor,
        distances: Tensor | None = None,
    ) -> Tensor:
        """Classify given ordered pairs of spans.

        between (Tensor): Maximum over the pieces between the spans. *Shape:* ``(n_pairs, width)``
        head, tail (Tensor): From `represent`. *Shape:* ``(n_pairs, span_width)``
        head_attributes, tail_attributes (Tensor): From `attributes`.
            *Shape:* ``(n_pairs, size_embedding + type_embedding)``
        distances (Tensor | None): Embedded distances. *Shape:* ``(n_pairs, distance_embedding)``
        RETURNS (Tensor): Logits. *Shape:* ``(n_pairs, n_relation_types)``
        """
        parts = [between, head, tail, head_attributes, tail_attributes]
        if distances is not None:
            parts.append(distances)
        logits: Tensor = self.rel_classifier(self.dropout(torch.cat(parts, dim=1)))
        return logits

    def classify_entity_pairs(
        self,
        between: Tensor,
        represented: Tensor,
        attributes: Tensor,
        pairs: Tensor,
        distances: Tensor | None = None,
    ) -> Tensor:
        """Classify many pairs of few spans: each span is projected once as head and once as tail, and
        each distance once.

        between (Tensor): Maximum over the pieces between the spans. *Shape:* ``(n_pairs, width)``
        represented (Tensor): From `represent`. *Shape:* ``(n_spans, span_width)``
        attributes (Tensor): From `attributes`. *Shape:* ``(n_spans, size_embedding + type_embedding)``
        pairs (Tensor): Rows (head, tail) of the spans, int64. *Shape:* ``(n_pairs, 2)``
        distances (Tensor | None): From `distance_rows`; None without a `distance_embedding`.
            *Shape:* ``(n_pairs,)``
        RETURNS (Tensor): Logits. *Shape:* ``(n_pairs, n_relation_types)``
        """
        width, span, rest = self.settings.width, self.span_width, attributes.shape[1]
        between_w, head_w, tail_w, head_rest_w, tail_rest_w, distance_w = torch.split(
            self.rel_classifier.weight,
            [width, span, span, rest, rest, self.settings.distance_embedding],
            dim=1,
        )
        as_head = represented @ head_w.T + attributes @ head_rest_w.T
        as_tail = represented @ tail_w.T + attributes @ tail_rest_w.T
        logits: Tensor = between @ between_w.T + self.rel_classifier.bias
        if self.distance_embeddings is not None:
            logits = logits + (self.distance_embeddings.weight @ distance_w.T)[distances]
        return logits + as_head[pairs[:, 0]] + as_tail[pairs[:, 1]]


def distance_rows(spans: Tensor, pairs: Tensor) -> Tensor:
    """Find the bucket of the number of tokens between the spans of each pair.

    spans (Tensor): Token ranges, int64, on the CPU. *Shape:* ``(n_spans, 2)``
    pairs (Tensor): Rows (head, tail) of `spans`, int64, on the CPU. *Shape:* ``(n_pairs, 2)``
    RETURNS (Tensor): Rows of the distance embedding, int64, on the CPU: 0 for overlapping spans; then
        those of heads before their tails, from near to far; then those of tails before their heads.
        *Shape:* ``(n_pairs,)``
    """
    head, tail = spans[pairs[:, 0]], spans[pairs[:, 1]]
    between = torch.maximum(tail[:, 0] - head[:, 1], head[:, 0] - tail[:, 1])
    rows = torch.bucketize(between, _DISTANCES, right=True)
    tail_first = (head[:, 0] >= tail[:, 1]) & (rows > 0)
    return rows + tail_first * len(_DISTANCES)


def _embedding(n_rows: int, width: int) -> nn.Embedding | None:
    """Make an embedding with fresh weights, or none (and draw no random numbers) if it has no width."""
    if not width:
        return None
    embedding = nn.Embedding(n_rows, width)
    nn.init.normal_(embedding.weight, std=0.02)
    return embedding


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
