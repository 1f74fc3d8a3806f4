"""Pipelines that ONNX Runtime computes predict what they predict with torch."""

from __future__ import annotations

import sys
from pathlib import Path
from threading import get_ident
from time import sleep
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spacy.language import Language
from spacy.util import load_model_from_config

from spacy_spanrel.encoding import quantize
from spacy_spanrel.encoding.graph import GraphModule
from spacy_spanrel.encoding.shim import torch_shims

from ..encoders.util import (
    ROWS,
    annotations_of,
    assert_same,
    make_examples,
    predictions,
    train,
    with_entities,
)
from ..util import run_python
from .conftest import ALONE, Trained, uninitialized

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'spacy-spanrel[onnx]'")
pytest.importorskip("onnx", reason="needs onnx: pip install 'spacy-spanrel[onnx]'")


def runtime(component: str, value: str) -> dict[str, Any]:
    """Return the config that changes the runtime of a component."""
    inner = ".encoder" if component == "span_relation" else ""
    return {f"components.{component}.model{inner}.runtime": value}


def graph_of(nlp: Language, component: str) -> GraphModule:
    shims = torch_shims(nlp.get_pipe(component).model)
    (graph,) = [m for s in shims for m in s.module.modules() if isinstance(m, GraphModule)]
    return graph


@pytest.fixture(scope="module")
def converted_paths(
    all_trained: dict[str, Trained], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The trained pipeline of each component, loaded with the other runtime and saved again."""
    home = tmp_path_factory.mktemp("converted")
    for component, trained in all_trained.items():
        nlp = spacy.load(trained.path, config=runtime(component, "onnxruntime"))
        nlp.to_disk(home / component)
    return {component: home / component for component in all_trained}


@pytest.fixture
def converted(component: str, converted_paths: dict[str, Path]) -> Language:
    return spacy.load(converted_paths[component])


@pytest.fixture(scope="module")
def quantized_paths(
    converted_paths: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The converted pipelines in 8-bit integers, and saved again."""
    home = tmp_path_factory.mktemp("quantized")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantize, "_LEAST_SIDE", 16)
        patch.setattr(quantize, "MOST_ERROR", 1.0)
        for component, path in converted_paths.items():
            nlp = spacy.load(path)
            graph = graph_of(nlp, component)
            graph.seen = []
            predictions(nlp)
            (shim,) = (
                shim
                for shim in torch_shims(nlp.get_pipe(component).model)
                if graph in shim.module.modules()
            )
            quantizer = quantize.Quantizer(shim, graph.seen, component)
            assert 0 < quantizer.apply() == quantizer.n_products
            nlp.to_disk(home / component)
    return {component: home / component for component in converted_paths}


@pytest.fixture
def quantized(component: str, quantized_paths: dict[str, Path]) -> Language:
    return spacy.load(quantized_paths[component])


def test_predictions_are_the_same(component: str, trained: Trained, converted: Language) -> None:
    graph_of(converted, component)
    assert_same(predictions(converted), trained.predictions, 1e-4)
    assert_same(predictions(converted, n_process=2), trained.predictions, 1e-4)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_copies_predict_the_same(
    component: str, request: pytest.FixtureRequest, precision: str
) -> None:
    converted = request.getfixturevalue("converted" if precision == "float32" else "quantized")
    wanted = predictions(converted)
    nlp = load_model_from_config(converted.config).from_bytes(converted.to_bytes())
    assert_same(predictions(nlp), wanted, 1e-6)


@pytest.mark.parametrize("precision", ["float32", "int8"])
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(indices=st.lists(st.integers(0, len(ROWS) - 1), min_size=1, max_size=64))
def test_predictions_do_not_depend_on_the_batch(
    component: str, request: pytest.FixtureRequest, precision: str, indices: list[int]
) -> None:
    nlp = request.getfixturevalue("converted" if precision == "float32" else "quantized")

    def predict(rows: list[Any], batch_size: int) -> list[dict[str, Any]]:
        docs = [with_entities(nlp, row) for row in rows]
        return [annotations_of(doc) for doc in nlp.pipe(docs, batch_size=batch_size)]

    alone = predict(list(ROWS), 1)
    together = predict([ROWS[i] for i in indices], 64)
    assert_same(together, [alone[i] for i in indices], 1e-6)


def test_integers_are_close(component: str, converted: Language, quantized: Language) -> None:
    for nlp in (converted, quantized):
        graph_of(nlp, component).seen = []
        predictions(nlp)
    graphs = [graph_of(nlp, component) for nlp in (converted, quantized)]
    assert [b"MatMulIntegerToFloat" in graph.data for graph in graphs] == [False, True]
    batches = graphs[0].seen
    assert batches
    for batch in batches:
        outputs = [graph.session.run(None, batch) for graph in graphs]
        for expected, output in zip(*outputs, strict=True):
            assert np.abs(output - expected).max() < 0.2 * np.abs(expected).max()
            assert (output != expected).any()
    quantize.check_rows(graphs[1], batches, component)


def test_rows_that_depend_on_others_are_noticed(
    component: str, quantized: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = graph_of(quantized, component)
    graph.seen = []
    predictions(quantized)
    batches, graph.seen = graph.seen, None
    run = graph.session.run

    class Session:
        noise: Any = 1e-3

        def run(self, names: Any, inputs: dict[str, Any]) -> list[Any]:
            return [output + self.noise * len(inputs["ids"]) for output in run(names, inputs)]

    graph._sessions = dict.fromkeys(graph._sessions, Session())
    with pytest.raises(ValueError, match=f"E_SR958.*'{component}'"):
        quantize.check_rows(graph, batches, component)
    Session.noise = np.nan
    with pytest.raises(ValueError, match="E_SR958.*nan"):
        quantize.check_rows(graph, batches, component)


def test_loading_imports_little(component: str, quantized_paths: dict[str, Path]) -> None:
    printed = run_python(ALONE, quantized_paths[component], cwd=Path.cwd())
    assert printed.strip() == "['tokenizers', 'spacy_spanrel']"


def test_session_follows_the_number_of_threads(component: str, converted: Language) -> None:
    graph = graph_of(converted, component)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        first = graph.session
        assert graph.session is first
        torch.set_num_threads(2)
        assert graph.session.get_session_options().intra_op_num_threads == 2
    finally:
        torch.set_num_threads(before)


def test_batches_are_divided_among_threads(component: str, quantized: Language) -> None:
    graph, before = graph_of(quantized, component), torch.get_num_threads()
    for node in quantized.get_pipe(component).model.walk():
        if "batch_pieces" in node.attrs:
            node.attrs["batch_pieces"] = 1  # each row is a batch
    found, threads = [], []
    outputs = graph.outputs

    def noted(*inputs: Any) -> Any:
        threads.append((get_ident(), torch.get_num_threads(), torch.is_grad_enabled()))
        sleep(0.05)  # so that one thread alone cannot do all
        return outputs(*inputs)

    graph.outputs = noted  # type: ignore[method-assign]
    try:
        for n_threads in (1, 3):
            torch.set_num_threads(n_threads)
            found.append(predictions(quantized))
            assert torch.get_num_threads() == n_threads
    finally:
        torch.set_num_threads(before)
    assert_same(*found)
    here = get_ident()
    assert {ident for ident, *_ in threads[: len(threads) // 2]} == {here}
    elsewhere = {(ident, *rest) for ident, *rest in threads if ident != here}
    assert len(elsewhere) > 1
    assert {tuple(rest) for _, *rest in elsewhere} == {(1, False)}


def test_weights_stay_in_place(component: str, converted: Language) -> None:
    graph = graph_of(converted, component)
    before = {name: weight.data_ptr() for name, weight in graph.named_parameters()}
    graph.to(torch.float64).half()
    assert {name: weight.data_ptr() for name, weight in graph.named_parameters()} == before
    assert before


def test_training_is_refused(component: str, converted: Language, folder: Path) -> None:
    with pytest.raises(ValueError, match="E_SR308.*spanrel optimize"):
        train(converted)
    model = {"runtime": "onnxruntime"}
    change = {"encoder": model} if component == "span_relation" else model
    nlp = uninitialized(component, folder, model=change)
    with pytest.raises(ValueError, match="E_SR308"):
        nlp.initialize(lambda: make_examples(nlp))


def test_graph_is_refused_by_torch(component: str, converted_paths: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="E_SR243"):
        spacy.load(converted_paths[component], config=runtime(component, "torch"))


def test_missing_package_is_named(
    component: str,
    trained: Trained,
    converted_paths: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"E_SR242.*'onnx'.*spacy-spanrel\[onnx\]"):
        spacy.load(trained.path, config=runtime(component, "onnxruntime"))
    spacy.load(converted_paths[component])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"E_SR242.*'onnxruntime'"):
        spacy.load(converted_paths[component])
