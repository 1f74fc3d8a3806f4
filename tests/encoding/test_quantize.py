"""Matrices in 8-bit integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_spanrel.encoding.quantize import (
    WEIGHT_LIMIT,
    quantize_matrices,
    round_weights,
)


def make_inputs(generator: np.random.Generator, n_pieces: int, n_inputs: int) -> np.ndarray:
    """Inputs that depend on each other, with one channel that is much larger than the others."""
    mixing = generator.normal(size=(n_inputs // 2, n_inputs))
    inputs = generator.normal(size=(n_pieces, n_inputs // 2)) @ mixing
    inputs += 0.1 * generator.normal(size=inputs.shape)
    inputs[:, 0] *= 20
    return inputs.astype(np.float32)


def relative_error(output: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(output - expected) / np.linalg.norm(expected))


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 1000),
    n_inputs=st.sampled_from([2, 8, 150]),
    n_outputs=st.sampled_from([1, 5, 40]),
    n_pieces=st.sampled_from([1, 3, 200]),
)
def test_rounding(seed: int, n_inputs: int, n_outputs: int, n_pieces: int) -> None:
    generator = np.random.default_rng(seed)
    inputs = make_inputs(generator, n_pieces, n_inputs)
    matrix = generator.normal(size=(n_inputs, n_outputs)).astype(np.float32)
    scales = np.abs(matrix).max(axis=0) / WEIGHT_LIMIT
    integers = round_weights(matrix, scales, (inputs.T @ inputs).astype(np.float64))
    assert integers.dtype == np.int8
    assert np.abs(integers.astype(int)).max() <= WEIGHT_LIMIT
    # Two products, added up in 16 bits, do not saturate.
    assert 2 * 255 * int(np.abs(integers.astype(int)).max()) < 2**15
    if n_pieces >= n_inputs:
        plain = np.rint(matrix / scales) * scales
        errors = [np.linalg.norm(inputs @ (m - matrix)) for m in (integers * scales, plain)]
        assert errors[0] <= 1.05 * errors[1]


@pytest.mark.parametrize("dead", [False, True])
def test_inputs_that_say_nothing(dead: bool) -> None:
    generator = np.random.default_rng(0)
    inputs = np.ones((9, 6), dtype=np.float32) * (0.0 if dead else 1.0)
    matrix = generator.normal(size=(6, 4)).astype(np.float32)
    matrix[:, 0] = 0
    factors, (result,) = quantize_matrices(
        [matrix], inputs.T @ inputs, inputs.max(axis=0), "LayerNormalization"
    )
    output = result.multiply(inputs / factors)
    assert np.isfinite(output).all()
    np.testing.assert_allclose(output, inputs @ matrix, atol=0.2)


@pytest.mark.parametrize("source", ["LayerNormalization", "BiasGelu", "Attention"])
def test_products_are_close(source: str) -> None:
    generator = np.random.default_rng(0)
    inputs = make_inputs(generator, 500, 64)
    if source == "BiasGelu":
        inputs = np.maximum(inputs, -0.17)
    matrices = [generator.normal(size=(64, n)).astype(np.float32) for n in (16, 80)]
    factors, results = quantize_matrices(
        matrices, (inputs.T @ inputs).astype(np.float64), np.abs(inputs).max(axis=0), source
    )
    assert ((factors == 1).all()) == (source != "LayerNormalization")
    for matrix, result in zip(matrices, results, strict=True):
        # The scale of each piece is its own: every piece is read by itself, too.
        output = result.multiply(inputs / factors)
        alone = np.concatenate([result.multiply(row[None] / factors) for row in inputs[:20]])
        np.testing.assert_allclose(output[:20], alone, rtol=1e-4, atol=1e-3)
        assert relative_error(output, inputs @ matrix) < (0.02 if factors[0] != 1 else 0.05)
