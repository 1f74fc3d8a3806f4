"""The logits that a batch picks from a teacher's answers about its Docs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from spacy_spanrel.arrays import FloatArray
from spacy_spanrel.span_relation.teaching import pick_logits

MAX_SIZE = 3
# Classes of the teacher that the student has, in the student's order.
COLUMNS = {"entity": np.asarray([2, 0]), "relation": np.asarray([1, 3, 0])}

Span = tuple[int, int]


@st.composite
def batches(draw: Callable[..., Any]) -> list[tuple[int, list[Span], list[Span], list[Span]]]:
    """Docs: number of tokens, ranges that were paired, sampled spans, and sampled pairs of these."""
    docs = []
    for n_tokens in draw(st.lists(st.integers(0, 8), max_size=4)):
        every = [(i, j) for i in range(n_tokens) for j in range(i + 1, n_tokens + 1)]
        some = st.lists(st.sampled_from(every), max_size=6) if every else st.just([])
        # A span with several entity types is there several times.
        ranges, spans = sorted(set(draw(some))), draw(some)
        rows = st.integers(0, len(spans) - 1)
        pairs = draw(st.lists(st.tuples(rows, rows), max_size=8)) if spans else []
        docs.append((n_tokens, ranges, spans, pairs))
    return docs


@given(batches(), st.integers(0, 9))
def test_each_span_and_pair_gets_its_logits(
    docs: list[tuple[int, list[Span], list[Span], list[Span]]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    answers = [
        (
            rng.normal(size=(n_tokens, MAX_SIZE, 4)).astype(np.float16),
            rng.normal(size=(len(ranges), len(ranges), 4)).astype(np.float16),
            np.asarray([(*span, 0) for span in ranges], dtype=np.int64).reshape(-1, 3),
        )
        for n_tokens, ranges, _, _ in docs
    ]
    offsets = np.cumsum([0, *(n_tokens for n_tokens, *_ in docs)])
    first_rows = np.cumsum([0, *(len(spans) for *_, spans, _ in docs)]).tolist()
    all_spans = [np.asarray(d[2]).reshape(-1, 2) + i for d, i in zip(docs, offsets, strict=False)]
    all_pairs = [
        np.asarray(d[3]).reshape(-1, 2) + i for d, i in zip(docs, first_rows, strict=False)
    ]
    empty = np.zeros((0, 2), dtype=np.int64)
    spans, pairs = (np.concatenate([empty, *rows]).astype(int) for rows in (all_spans, all_pairs))
    expected = one_by_one(docs, answers)
    picked = pick_logits(answers, spans, pairs, offsets, MAX_SIZE, COLUMNS)
    for logits, wanted in zip(picked, expected, strict=True):
        assert logits.dtype == np.float32
        assert logits.shape == wanted.shape
        assert logits.tobytes() == wanted.tobytes()


def one_by_one(docs: list[Any], answers: list[Any]) -> tuple[FloatArray, FloatArray]:
    """Look up the logits of one span, and of one pair, after the other."""
    span_rows: list[Any] = []
    pair_rows: list[Any] = []
    for (_, ranges, spans, pairs), (of_spans, of_pairs, _) in zip(docs, answers, strict=True):
        row_of = {span: row for row, span in enumerate(ranges)}
        for start, end in spans:
            classes = [0, *(COLUMNS["entity"] + 1)]
            is_short = end - start <= MAX_SIZE
            span_rows.append(
                of_spans[start, end - start - 1, classes] if is_short else [np.nan] * 3
            )
        for pair in pairs:
            head, tail = (row_of.get(spans[row]) for row in pair)
            if head is None or tail is None:
                pair_rows.append([np.nan] * 3)
            else:
                pair_rows.append(of_pairs[head, tail, COLUMNS["relation"]])
    return tuple(  # type: ignore[return-value]
        np.asarray(rows, dtype=np.float32).reshape(-1, 3) for rows in (span_rows, pair_rows)
    )
