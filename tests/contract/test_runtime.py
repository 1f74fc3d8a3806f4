"""Pipelines that ONNX Runtime computes predict what they predict with torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import spacy
import torch
from spacy.language import Language
from spacy.util import load_model_from_config

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
from .conftest import Trained, uninitialized

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'spacy-spanrel[onnx]'")
pytest.importorskip("onnx", reason="needs onnx: pip install 'spacy-spanrel[onnx]'")

# Entry points of other packages may import transformers whenever a pipeline is made.
ALONE = """
import sys
from importlib.metadata import EntryPoints, distributions

import catalogue

points = [point for distribution in distributions() for point in distribution.entry_points]
ours = [p for p in points if p.value.startswith(("spacy.", "thinc.", "spacy_spanrel."))]
catalogue.AVAILABLE_ENTRY_POINTS = EntryPoints(ours)

import spacy

nlp = spacy.load(sys.argv[1])
nlp("John Smith works for Google in Paris .")
print([name for name in ("transformers", "onnx", "spacy_spanrel") if name in sys.modules])
"""


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


def test_predictions_are_the_same(component: str, trained: Trained, converted: Language) -> None:
    graph_of(converted, component)
    assert_same(predictions(converted), trained.predictions, 1e-4)
    assert_same(predictions(converted, n_process=2), trained.predictions, 1e-4)


def test_copies_predict_the_same(component: str, converted: Language) -> None:
    wanted = predictions(converted)
    nlp = load_model_from_config(converted.config).from_bytes(converted.to_bytes())
    assert_same(predictions(nlp), wanted, 1e-6)


def test_predictions_do_not_depend_on_the_batch(component: str, converted: Language) -> None:
    rows = [row for row in ROWS for _ in range(6)]
    alone = [
        annotations_of(doc)
        for row in rows
        for doc in converted.pipe([with_entities(converted, row)])
    ]
    for order in (range(len(rows)), reversed(range(len(rows)))):
        order = list(order)
        docs = [with_entities(converted, rows[i]) for i in order]
        together = [annotations_of(doc) for doc in converted.pipe(docs, batch_size=64)]
        assert_same(together, [alone[i] for i in order], 1e-6)


def test_loading_imports_no_transformers(component: str, converted_paths: dict[str, Path]) -> None:
    printed = run_python(ALONE, converted_paths[component], cwd=Path.cwd())
    assert printed.strip().splitlines()[-1] == "['spacy_spanrel']"


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
