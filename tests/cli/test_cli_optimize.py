from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.tokens import DocBin

from spacy_spanrel.cli import optimize
from spacy_spanrel.encoding import export
from tests.cli import util
from tests.cli.util import assert_fails, one_line, snapshot, words
from tests.encoders.util import (
    COMPONENTS,
    ENCODERS,
    ROWS,
    assert_same,
    gold_doc,
    make_pipeline,
    predictions,
    train,
)

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'spacy-spanrel[onnx]'")
pytest.importorskip("onnx", reason="needs onnx: pip install 'spacy-spanrel[onnx]'")

run, succeed = partial(util.run, "optimize"), partial(util.succeed, "optimize")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small trained pipeline with all three components."""
    home = tmp_path_factory.mktemp("optimize")
    bert = next(encoder for encoder in ENCODERS if encoder.name == "bert")
    nlp = make_pipeline(bert.save(home / "bert"))
    train(nlp)
    nlp.to_disk(home / "trained")
    return home / "trained"


@pytest.fixture(scope="module")
def corpus(trained: Path) -> Path:
    nlp = spacy.load(trained)
    path = trained.with_suffix(".spacy")
    DocBin(docs=[gold_doc(nlp, row) for row in ROWS], store_user_data=True).to_disk(path)
    return path


def test_pipeline_is_converted(trained: Path, corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "model"
    before = snapshot(trained)
    printed = words(succeed(trained, output, "--texts", corpus).output)
    assert f"{len(ROWS)} texts" in printed
    assert f"Saved pipeline with {', '.join(COMPONENTS)} converted" in printed
    assert snapshot(trained) == before
    assert_same(predictions(spacy.load(output)), predictions(spacy.load(trained)), 1e-4)
    # Twice is once too much, and nothing is overwritten without --force.
    assert_fails(run(output, tmp_path / "again"), "E_SR947")
    before = snapshot(output)
    assert_fails(run(trained, output), "E_SR954")
    assert snapshot(output) == before


def test_difference_is_refused(
    trained: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert = export.convert

    def convert_badly(shim: Any) -> None:
        convert(shim)
        graph = next(m for m in shim.module.modules() if isinstance(m, export.GraphModule))
        for weight in graph.parameters():
            weight.data += 0.01
        graph._session_key = None

    monkeypatch.setattr(export, "convert", convert_badly)
    assert_fails(run(trained, tmp_path / "model", "-t", corpus), "E_SR948", "Nothing written")
    assert not list(tmp_path.iterdir())


def test_network_that_cannot_be_converted_is_named(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("no operator for this\nand so on")

    monkeypatch.setattr("torch.onnx.export", refuse)
    result = run(trained, tmp_path / "model")
    assert_fails(result, "E_SR241", "BertModel", "RuntimeError: no operator for this.")
    assert not list(tmp_path.iterdir())


def test_pipelines_without_a_network_of_their_own_are_refused(tmp_path: Path) -> None:
    spacy.blank("en").to_disk(tmp_path / "blank")
    assert_fails(run(tmp_path / "blank", tmp_path / "out"), "E_SR949", "none")
    assert not (tmp_path / "out").exists()


@pytest.mark.spacy_transformers
def test_component_on_a_shared_transformer_is_refused(tmp_path: Path) -> None:
    nlp = spacy.blank("en")
    encoder = {"@architectures": "spacy-spanrel.ListenerEncoder.v1"}
    nlp.add_pipe("span_relation", config={"model": {"encoder": encoder}})
    nlp.to_disk(tmp_path / "shared")
    assert_fails(run(tmp_path / "shared", tmp_path / "out"), "E_SR946", "listener_encoder")
    assert not (tmp_path / "out").exists()


def test_function_reports_what_was_compared(trained: Path, tmp_path: Path) -> None:
    result = optimize(trained, tmp_path / "model")
    assert result.components == tuple(COMPONENTS)
    assert result.docs == 4
    assert result.annotations > 0
    assert result.difference < 1e-4


def test_wrong_arguments(trained: Path, tmp_path: Path) -> None:
    assert_fails(run(trained, tmp_path / "a", "-t", tmp_path / "nothing.spacy"), "nothing.spacy")
    assert_fails(run(trained, trained, "--force"), one_line("E_SR"))
    assert not (tmp_path / "a").exists()
