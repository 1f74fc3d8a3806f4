from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.tokens import DocBin
from spacy.training import Corpus

from spacy_spanrel.cli import optimize
from spacy_spanrel.conversion import runtime as conversion
from spacy_spanrel.conversion.runtime import check_loss
from spacy_spanrel.encoding import export, quantize
from spacy_spanrel.encoding.export import runtimes
from spacy_spanrel.encoding.graph import graph_of
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
onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'spacy-spanrel[onnx]'")

run, succeed = partial(util.run, "optimize"), partial(util.succeed, "optimize")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small trained pipeline with all three components."""
    home = tmp_path_factory.mktemp("optimize")
    bert = next(encoder for encoder in ENCODERS if encoder.name == "bert")
    nlp = make_pipeline(bert.save(home / "bert"))
    train(nlp)
    for name, scorer in zip(COMPONENTS, ("relation", "pair", "qa"), strict=True):
        settings = nlp.get_pipe_config(name)
        settings["scorer"] = {"@scorers": f"spacy-spanrel.{scorer}_scorer.v1"}
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
        graph._sessions.clear()

    monkeypatch.setattr(export, "convert", convert_badly)
    assert_fails(run(trained, tmp_path / "model", "-t", corpus), "E_SR948", "Nothing written")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small matrices be computed in integers, too, whatever the error."""
    monkeypatch.setattr(quantize, "_LEAST_SIDE", 16)
    monkeypatch.setattr(quantize, "MOST_ERROR", 1.0)


@pytest.mark.usefixtures("small_matrices")
def test_integers(trained: Path, corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "model"
    result = succeed(trained, output, "--int8", "-t", corpus, "-g", corpus, "--max-loss", 100)
    printed = words(result.output)
    assert "36 of 36 matrix products" in printed
    for name in ("span_relation rel_strict_f", "relation_classifier rel_f", "extractive_qa qa_f1"):
        assert f"{name}: " in printed
    assert "Nothing says how good" not in printed
    for name in COMPONENTS:
        graph = graph_of(runtimes(spacy.load(output).get_pipe(name).model).popitem()[1])
        assert b"MatMulIntegerToFloat" in graph.data
    # Without gold Docs, the command says that it knows nothing about the scores.
    printed = words(succeed(trained, tmp_path / "other", "--int8", "-t", corpus).output)
    assert "Nothing says how good" in printed
    # The sentences of the command have no entities to classify.
    assert_fails(run(trained, tmp_path / "none", "--int8"), "E_SR944", "'relation_classifier'")


@pytest.mark.usefixtures("small_matrices")
def test_products_return_to_float32_until_the_gate_is_passed(
    trained: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only those of the component whose score has fallen, and of these the ones that matter most."""
    falls = iter([0.0, 5.0, 5.0, 0.0])
    original = conversion.score

    def score_badly(*args: Any, **kwargs: Any) -> dict[str, float]:
        scores = original(*args, **kwargs)
        return {**dict.fromkeys(scores, 50.0), "span_relation ents_f": 50.0 - next(falls)}

    monkeypatch.setattr(conversion, "score", score_badly)
    result = optimize(trained, tmp_path / "model", int8=True, texts=corpus, gate=corpus)
    # 12 products in each of the three networks: first one, then two of them.
    assert result.products == (34, 36)
    counts = []
    for name in COMPONENTS:
        graph = graph_of(runtimes(spacy.load(tmp_path / "model").get_pipe(name).model).popitem()[1])
        nodes = onnx.load_model_from_string(graph.data).graph.node
        counts.append(sum(node.op_type == "MatMulIntegerToFloat" for node in nodes))
    assert counts == [10, 12, 12]


def test_float32_can_be_scored(trained: Path, corpus: Path, tmp_path: Path) -> None:
    result = optimize(trained, tmp_path / "model", gate=corpus, max_loss=0.0)
    assert result.scores["span_relation rel_strict_f"][0] > 0
    assert all(before == after for before, after in result.scores.values())
    assert result.products is None


def test_f1_scores_with_a_weight_in_training_are_compared(trained: Path, corpus: Path) -> None:
    nlp = spacy.load(trained)
    names = conversion.score(nlp, list(Corpus(corpus)(nlp)), str(corpus)).keys()
    assert "relation_classifier rel_f" in names
    weights = nlp.config["training"]["score_weights"]
    weights.update(rel_macro_f=0.5, rel_macro_p=0.5)
    more = conversion.score(nlp, list(Corpus(corpus)(nlp)), str(corpus)).keys()
    added = {f"{name} rel_macro_f" for name in ("span_relation", "relation_classifier")}
    assert more == names | added


@pytest.mark.parametrize("what", ["loss", "batch"])
@pytest.mark.usefixtures("small_matrices")
def test_worse_pipeline_is_refused(
    trained: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "loss":
        original = quantize.round_weights
        monkeypatch.setattr(quantize, "round_weights", lambda *args: original(*args) // 8)
        monkeypatch.setattr(conversion, "SHARES", (0.0,))
        names = ["E_SR959", "more than 0.3 points", "span_relation rel_strict_f: "]
    else:
        monkeypatch.setattr(quantize, "BATCH_TOLERANCE", -1.0)
        names = ["E_SR958"]
    assert_fails(run(trained, tmp_path / "out", "--int8", "-g", corpus), *names, "Nothing written")
    assert not list(tmp_path.iterdir())


def test_loss_is_measured_in_points() -> None:
    before = {"a": 70.0, "b": 50.0}
    check_loss(before, {"a": 69.7, "b": 60.0}, 0.3)
    with pytest.raises(ValueError, match=r"E_SR959.*0.3 points: a: 70.00 before, 69.69 after"):
        check_loss(before, {"a": 69.69, "b": 60.0}, 0.3)


def test_network_that_cannot_be_converted_is_named(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("no operator for this\nand so on")

    monkeypatch.setattr("torch.onnx.export", refuse)
    result = run(trained, tmp_path / "model")
    assert_fails(result, "E_SR241", "Bert", "RuntimeError: no operator for this.")
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
