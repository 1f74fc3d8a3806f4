from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spacy_spanrel.encoding.range_max import RangeMax
from spacy_spanrel.pairing import text_ends
from spacy_spanrel.span_relation.candidates import all_spans
from spacy_spanrel.span_relation.network import (
    DISTANCE_ROWS,
    SIZE_ROWS,
    HeadSettings,
    SpERTHeads,
    distance_rows,
)

WIDTH, SIZE, N_TYPES, N_RELATIONS = 8, 5, 3, 4


def make_heads(
    boundaries: bool = False, dropout: float = 0.1, n_relations: int = N_RELATIONS, **settings: Any
) -> SpERTHeads:
    torch.manual_seed(0)
    heads = SpERTHeads(
        HeadSettings(WIDTH, N_TYPES, n_relations, SIZE, dropout, boundaries, **settings)
    )
    for parameter in heads.parameters():
        torch.nn.init.normal_(parameter)
    return heads.eval()


def make_batch(pieces_of: list[list[int]], seed: int = 0) -> dict[str, Tensor]:
    """Make a batch of Docs with one window each. `pieces_of` has the number of pieces of each token."""
    generator = torch.Generator().manual_seed(seed)
    counts = np.asarray([n for doc in pieces_of for n in doc], dtype=np.int64)
    ends = np.cumsum(counts)
    return {
        "context": torch.randn(len(pieces_of), WIDTH, generator=generator),
        "token_window": torch.tensor(
            [d for d, doc in enumerate(pieces_of) for _ in doc], dtype=torch.int64
        ),
        "pieces": torch.randn(int(counts.sum()), WIDTH, generator=generator),
        "token_pieces": torch.from_numpy(np.stack([ends - counts, ends], 1).reshape(-1, 2)),
    }


def naive_max(pieces: Tensor, start: int, end: int) -> Tensor:
    """Compute a masked maximum; the zero vector if there are no pieces."""
    if end <= start:
        return torch.zeros(WIDTH)
    mask = torch.zeros(len(pieces), 1, dtype=torch.bool)
    mask[start:end] = True
    return pieces.masked_fill(~mask, -1e30).max(dim=0).values


def naive_span(batch: dict[str, Tensor], start: int, end: int, boundaries: bool) -> Tensor:
    ranges = batch["token_pieces"].tolist()
    maxima = [naive_max(batch["pieces"], ranges[start][0], ranges[end - 1][1])]
    if boundaries:
        maxima += [naive_max(batch["pieces"], *ranges[start])]
        maxima += [naive_max(batch["pieces"], *ranges[end - 1])]
    return torch.cat(maxima)


def naive_size(heads: SpERTHeads, start: int, end: int) -> Tensor:
    return heads.size_embeddings.weight[min(end - start, 99)]


def naive_entity_logits(
    heads: SpERTHeads, batch: dict[str, Tensor], spans: list[list[int]]
) -> Tensor:
    """Compute Linear(concat[context, span max, size]) span by span (Eberts and Ulges 2020)."""
    rows = [
        torch.cat(
            [
                batch["context"][batch["token_window"][start]],
                naive_span(batch, start, end, heads.settings.boundaries),
                naive_size(heads, start, end),
            ]
        )
        for start, end in spans
    ]
    layer = heads.entity_classifier
    return torch.stack([layer.weight @ row + layer.bias for row in rows])


def naive_pair_logits(
    heads: SpERTHeads, batch: dict[str, Tensor], spans: list[list[int]], pairs: list[list[int]]
) -> Tensor:
    """Compute Linear(concat[between max, head max, tail max, head size, tail size]) pair by pair."""
    ranges = batch["token_pieces"].tolist()
    rows = []
    for head, tail in pairs:
        first, second = sorted((spans[head], spans[tail]))
        left, right = ranges[first[1] - 1][1], ranges[second[0]][0]
        rows.append(
            torch.cat(
                [
                    naive_max(batch["pieces"], left, right),
                    *(
                        naive_span(batch, *spans[x], heads.settings.boundaries)
                        for x in (head, tail)
                    ),
                    *(naive_size(heads, *spans[x]) for x in (head, tail)),
                ]
            )
        )
    layer = heads.rel_classifier
    return torch.stack([layer.weight @ row + layer.bias for row in rows])


def classify_spans(heads: SpERTHeads, batch: dict[str, Tensor], spans: Tensor) -> Tensor:
    """Classify spans as in training."""
    table = RangeMax(batch["pieces"], len(batch["pieces"]))
    context = batch["context"][batch["token_window"][spans[:, 0]]]
    represented = heads.represent(table, batch["token_pieces"], spans)
    return heads.classify_spans(context, represented, heads.sizes(spans))


def classify_all(heads: SpERTHeads, batch: dict[str, Tensor], spans: Tensor, size: int) -> Tensor:
    """Classify all spans as in prediction, and return the logits of some."""
    logits = heads.predict_spans(SimpleNamespace(**batch), max_size=size)
    assert logits.shape == (len(batch["token_pieces"]), size, 1 + N_TYPES)
    return logits[spans[:, 0], spans[:, 1] - spans[:, 0] - 1]


PIECES = st.lists(st.lists(st.integers(0, 3), max_size=5), min_size=1, max_size=4)


@given(PIECES, st.integers(1, 7), st.booleans())
@torch.no_grad()
def test_classifying_all_spans_equals_training_and_naive_spert(
    pieces_of: list[list[int]], max_size: int, boundaries: bool
) -> None:
    heads, batch = make_heads(boundaries), make_batch(pieces_of)
    offsets = np.cumsum([0, *map(len, pieces_of)])
    spans = torch.from_numpy(all_spans(text_ends(offsets), max_size))
    everything = classify_all(heads, batch, spans, max_size)
    # Both ways represent a span without pieces by the zero vector.
    torch.testing.assert_close(
        everything, classify_spans(heads, batch, spans), atol=1e-4, rtol=1e-4
    )
    if len(spans):
        expected = naive_entity_logits(heads, batch, spans.tolist())
        torch.testing.assert_close(everything, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_all_spans_across_blocks() -> None:
    """Long texts are computed in blocks; spans that cross their borders are correct as well."""
    rng = np.random.default_rng(0)
    heads, batch = make_heads(), make_batch([rng.integers(0, 3, size=1100).tolist()])
    spans = all_spans(np.full(1100, 1100), 6)
    spans = torch.from_numpy(
        spans[((spans > 500) & (spans < 530)).any(axis=1) | (spans[:, 1] > 1020)]
    )
    torch.testing.assert_close(
        classify_all(heads, batch, spans, 6),
        classify_spans(heads, batch, spans),
        atol=1e-4,
        rtol=1e-4,
    )


@pytest.mark.parametrize("boundaries", [False, True])
@torch.no_grad()
def test_pairs_equal_naive_spert(boundaries: bool) -> None:
    heads, batch = make_heads(boundaries), make_batch([[2, 0, 1, 3, 1, 2, 1]])
    # Spans that are apart, adjacent, overlapping or nested, and one without pieces.
    spans = [[0, 2], [2, 3], [2, 5], [3, 4], [5, 7], [1, 2]]
    pairs = [[a, b] for a in range(6) for b in range(6) if a != b]
    table = RangeMax(batch["pieces"], 10)
    represented = heads.represent(table, batch["token_pieces"], torch.tensor(spans))
    sizes = heads.sizes(torch.tensor(spans))
    between = []
    for a, b in pairs:
        (_, left), (right, _) = sorted((spans[a], spans[b]))
        borders = batch["token_pieces"]
        between.append(naive_max(batch["pieces"], borders[left - 1, 1], borders[right, 0]))
    index = torch.tensor(pairs)
    arguments = [x[index[:, i]] for x in (represented, sizes) for i in (0, 1)]
    pair_logits = heads.classify_pairs(torch.stack(between), *arguments)
    factored = heads.classify_entity_pairs(torch.stack(between), represented, sizes, index)
    expected = naive_pair_logits(heads, batch, spans, pairs)
    torch.testing.assert_close(pair_logits, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(factored, expected, atol=1e-4, rtol=1e-4)


@st.composite
def spans_with_pairs(draw: st.DrawFn) -> tuple[list[list[int]], Tensor, Tensor, Tensor | None]:
    """Draw the pieces of some Docs, spans of their tokens, pairs of the spans and types of the spans."""
    pieces_of = draw(PIECES.filter(any))
    offsets = np.cumsum([0, *map(len, pieces_of)])
    every = all_spans(text_ends(offsets), 4)
    rows = st.integers(0, len(every) - 1)
    spans = every[draw(st.lists(rows, min_size=1, max_size=6))]
    row = st.integers(0, len(spans) - 1)
    pairs = draw(st.lists(st.tuples(row, row), max_size=8))
    types = st.lists(st.integers(0, N_TYPES), min_size=len(spans), max_size=len(spans))
    drawn = draw(st.none() | types)
    return (
        pieces_of,
        torch.from_numpy(spans),
        torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2),
        None if drawn is None else torch.tensor(drawn),
    )


@given(spans_with_pairs(), st.booleans(), st.sampled_from([0, 3]), st.sampled_from([0, 2]))
@torch.no_grad()
def test_pairs_are_classified_alike_in_training_and_prediction(
    case: tuple[list[list[int]], Tensor, Tensor, Tensor | None],
    boundaries: bool,
    distance: int,
    kind: int,
) -> None:
    pieces_of, spans, pairs, types = case
    heads = make_heads(boundaries, distance_embedding=distance, type_embedding=kind)
    encoded = SimpleNamespace(**make_batch(pieces_of))
    span_logits, pair_logits = heads(encoded, spans, pairs, types)
    predicted = heads.predict_pairs(encoded, spans, pairs, types)
    torch.testing.assert_close(predicted, pair_logits, atol=1e-4, rtol=1e-4)
    everything = heads.predict_spans(encoded, 4)[spans[:, 0], spans[:, 1] - spans[:, 0] - 1]
    torch.testing.assert_close(everything, span_logits, atol=1e-4, rtol=1e-4)


def test_distance_rows() -> None:
    far = [0, 1, 4, 5, 7, 8, 15, 16, 63, 64, 500]
    spans = torch.tensor([[10, 13], [12, 14], [10, 13], *([13 + n, 14 + n] for n in far)])
    pairs = torch.tensor([[0, i] for i in range(1, len(spans))])
    buckets = [1, 2, 5, 6, 6, 7, 7, 8, 9, 10, 10]
    assert distance_rows(spans, pairs).tolist() == [0, 0, *buckets]
    other_half = DISTANCE_ROWS // 2
    assert distance_rows(spans, pairs.flip(1)).tolist() == [
        0,
        0,
        *(b + other_half for b in buckets),
    ]


def test_type_noise_replaces_types_by_others_in_training() -> None:
    heads = make_heads(type_embedding=2, type_noise=1.0)
    types, sizes = torch.arange(N_TYPES + 1).repeat(50), torch.zeros(50 * (N_TYPES + 1), SIZE)
    rows = heads.type_embeddings.weight
    assert torch.equal(heads.attributes(sizes, types)[:, SIZE:], rows[types])
    heads.train()
    noisy = torch.cdist(heads.attributes(sizes, types)[:, SIZE:], rows).argmin(dim=1)
    assert (noisy != types).all()
    assert {*zip(types.tolist(), noisy.tolist(), strict=True)} == {
        (a, b) for a in range(N_TYPES + 1) for b in range(N_TYPES + 1) if a != b
    }


@torch.no_grad()
def test_size_embeddings_of_long_spans() -> None:
    # Spans longer than the table of size embeddings use its last row.
    heads, batch = make_heads(), make_batch([[1] * 150])
    spans = torch.tensor([[0, 99], [0, 100], [0, 150]])
    sizes = heads.sizes(spans)
    assert len(heads.size_embeddings.weight) == SIZE_ROWS == 100
    assert (sizes == heads.size_embeddings.weight[99]).all()
    torch.testing.assert_close(
        classify_all(heads, batch, spans, 150),
        classify_spans(heads, batch, spans),
        atol=1e-4,
        rtol=1e-4,
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("boundaries", [False, True])
@torch.no_grad()
def test_half_precision_is_finite(dtype: torch.dtype, boundaries: bool) -> None:
    # An empty context between adjacent entities and tokens without pieces yield no infinities.
    heads, batch = make_heads(boundaries).to(dtype), make_batch([[1, 0, 2], [0], [], [2, 2]])
    batch["pieces"], batch["context"] = batch["pieces"].to(dtype), batch["context"].to(dtype)
    spans = torch.from_numpy(all_spans(text_ends(np.asarray([0, 3, 4, 4, 6])), 3))
    pairs = torch.tensor([[0, 1], [1, 0]])
    table = RangeMax(batch["pieces"], 5)
    represented = heads.represent(table, batch["token_pieces"], spans)
    between = table(torch.tensor([[1, 1], [1, 0]]))
    assert torch.isfinite(classify_spans(heads, batch, spans)).all()
    assert torch.isfinite(heads.predict_spans(SimpleNamespace(**batch), max_size=3)).all()
    sizes = heads.sizes(spans)
    assert torch.isfinite(heads.classify_entity_pairs(between, represented, sizes, pairs)).all()


@torch.no_grad()
def test_nothing_to_classify() -> None:
    heads = make_heads(n_relations=0)
    batch = make_batch([[], []])
    assert heads.predict_spans(SimpleNamespace(**batch), max_size=3).shape == (0, 3, 1 + N_TYPES)
    pairs = heads.classify_entity_pairs(
        torch.zeros(2, WIDTH),
        torch.zeros(2, WIDTH),
        torch.zeros(2, SIZE),
        torch.tensor([[0, 1], [1, 0]]),
    )
    assert pairs.shape == (2, 0)


def test_dropout_is_for_training_only() -> None:
    heads, batch = make_heads(dropout=0.5), make_batch([[1, 2, 1]])
    spans = torch.tensor([[0, 2], [1, 3]])
    without_dropout = [classify_spans(heads, batch, spans) for _ in range(2)]
    torch.testing.assert_close(without_dropout[0], without_dropout[1])
    heads.train()
    assert not torch.equal(classify_spans(heads, batch, spans), without_dropout[0])


@pytest.mark.parametrize("bias", [-2.0, 0.0])
def test_fresh_heads_start_from_the_relation_bias(bias: float) -> None:
    heads = SpERTHeads(HeadSettings(WIDTH, N_TYPES, N_RELATIONS, SIZE, 0.1, False), bias)
    logits = heads.classify_pairs(
        torch.zeros(1, WIDTH), *[torch.zeros(1, n) for n in (WIDTH, WIDTH, SIZE, SIZE)]
    )
    assert (logits == bias).all()
