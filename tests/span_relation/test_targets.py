"""Smoothed labels, and negative pairs with wrong spans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_spanrel.pairing import text_ends
from spacy_spanrel.span_relation.reach import Reach
from spacy_spanrel.span_relation.targets import sample_wrong_pairs, smooth_labels

from ..util import initialize, train
from .util import (
    ROWS,
    TEXTS,
    annotations_of,
    expected,
    make_examples,
    make_nlp,
    targets_of,
)

SPAN = st.tuples(st.integers(0, 9), st.integers(1, 4)).map(lambda s: (s[0], s[0] + s[1]))
SPANS = st.lists(SPAN, max_size=12, unique=True)


@given(st.dictionaries(SPAN, st.sets(st.integers(0, 3), min_size=1)), st.floats(0, 1))
def test_smoothed_labels(classes: dict[tuple[int, int], set[int]], smoothing: float) -> None:
    # A span is an entity (of one or several types), or it is none.
    rows = [(span, c) for span, kinds in classes.items() for c in kinds - {0} or {0}]
    spans = np.asarray([span for span, _ in rows], dtype=np.int64).reshape(-1, 2)
    labels = np.asarray([c for _, c in rows], dtype=np.int64)
    targets = smooth_labels(spans, labels, 4, smoothing)
    assert targets.dtype == np.float32
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
    assert (targets >= -1e-6).all()
    np.testing.assert_array_equal(smooth_labels(spans, labels, 4, 0.0), np.eye(4)[labels])
    for (span, c), row in zip(rows, targets, strict=True):
        near = [
            other
            for other, k in rows
            if abs(other[0] - span[0]) + abs(other[1] - span[1]) == 1 and (k == 0) == (c > 0)
        ]
        if c:
            kept = 1 - smoothing / 4 * len(near)
            np.testing.assert_allclose(row[[0, c]], [1 - kept, kept], atol=1e-6)
        else:
            moved = min(1, smoothing / 4 * len(near))
            np.testing.assert_allclose(row[0], 1 - moved, atol=1e-6)


@given(SPANS, SPANS, st.integers(0, 20), st.none() | st.integers(0, 3), st.booleans())
def test_wrong_pairs(
    entities: list[tuple[int, int]],
    others: list[tuple[int, int]],
    count: int,
    max_distance: int | None,
    by_text: bool,
) -> None:
    others = [span for span in others if span not in entities]
    n = len(entities)
    spans = np.asarray(entities + others, dtype=np.int64).reshape(-1, 2)
    types = np.asarray([*range(n), *[99] * len(others)], dtype=np.int64)
    reach = Reach(text_ends(np.asarray([0, 14])), text_ends(np.asarray([0, 6, 14])), max_distance)
    if not by_text:
        reach = Reach(reach.span_ends, None, max_distance)
    rng = np.random.default_rng(0)
    pairs = sample_wrong_pairs(spans, range(n), n, count, reach, rng, types)
    assert len(pairs) <= count
    assert len({*map(tuple, pairs.tolist())}) == len(pairs)
    for pair in pairs.tolist():
        wrong, entity = sorted(pair, reverse=True)
        assert wrong >= n > entity
        assert reach.bars(*(tuple(spans[row].tolist()) for row in pair)) is None
        assert not set(range(*spans[wrong])) & set(range(*spans[entity]))
    for span, kind in zip(others, types[n:].tolist(), strict=True):
        touched = [i for i, e in enumerate(entities) if set(range(*e)) & set(range(*span))]
        assert kind in touched if touched else kind == 99


def test_defaults_change_nothing(checkpoint: Path) -> None:
    nlp, pipe = make_nlp(checkpoint)
    initialize(nlp, make_examples(nlp))
    targets = targets_of(pipe, make_examples(nlp))
    assert targets.span_targets is None
    assert (targets.span_labels[targets.pairs] > 0).all()


@pytest.mark.parametrize("scope", ["doc", "sentence"])
def test_settings_reach_the_targets(checkpoint: Path, scope: str) -> None:
    settings = {"boundary_smoothing": 0.2, "hard_negatives": 0.5, "neg_entity_count": 12}
    nlp, pipe = make_nlp(checkpoint, scope=scope, **settings)
    nlp.add_pipe("sentencizer", first=True)
    examples = make_examples(nlp)
    for example in examples:
        nlp.get_pipe("sentencizer")(example.predicted)
    initialize(nlp, examples)
    (first, *_) = examples
    targets = targets_of(pipe, [first])
    spans = [tuple(span) for span in targets.spans.tolist()]
    # All spans around "Google", (4, 5), are there: it may not become shorter.
    around = [spans.index((3, 5)), spans.index((4, 6))]
    organization = 1 + pipe.entity_labels.index("Org")
    google = spans.index((4, 5))
    assert targets.span_targets is not None
    np.testing.assert_allclose(targets.span_targets[around, organization], 0.05)
    np.testing.assert_allclose(targets.span_targets[google, organization], 0.9)
    is_wrong = targets.span_labels[targets.pairs] == 0
    assert is_wrong.any(axis=1).sum() == 3, "half of the six pairs of entities"
    assert not is_wrong.all(axis=1).any()
    assert not targets.pair_targets[is_wrong.any(axis=1)].any()
    unknown = len(pipe.entity_labels)
    assert (targets.types[targets.pairs] < unknown).all()


def test_training_with_them(checkpoint: Path) -> None:
    nlp, _ = make_nlp(checkpoint, boundary_smoothing=0.1, hard_negatives=0.5)
    examples = make_examples(nlp)
    initialize(nlp, examples)
    train(nlp, examples, 60)
    assert [annotations_of(doc) for doc in nlp.pipe(TEXTS)] == [expected(row) for row in ROWS]
