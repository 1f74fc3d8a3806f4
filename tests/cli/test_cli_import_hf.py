from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import spacy

from spacy_spanrel import Relation
from spacy_spanrel.cli import import_hf
from spacy_spanrel.relation_classifier.presets import SPANBERT_TACRED
from tests.cli import util
from tests.cli.util import assert_fails, one_line
from tests.extractive_qa.util import assert_same_answers, make_nlp, qa_checkpoint
from tests.relation_classifier.util import tacred_checkpoint

LIMITS = {"max_length": 64, "doc_stride": 16, "max_question_length": 24}
SHORT = json.dumps({"model": {**LIMITS, "precision": "float32"}})
TEXT = "John Smith works for Google in Paris ."
MARKERS = {
    "SUBJ_START": "[unused1]",
    "SUBJ_END": "[unused2]",
    "OBJ_START": "[unused3]",
    "OBJ_END": "[unused4]",
}


run, succeed = partial(util.run, "import-hf"), partial(util.succeed, "import-hf")


@pytest.fixture(scope="module")
def qa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qa_checkpoint(tmp_path_factory.mktemp("qa") / "bert")


@pytest.fixture(scope="module")
def tacred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier with 42 classes that have no names."""
    return tacred_checkpoint(tmp_path_factory.mktemp("tacred") / "bert")


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier that names its three classes."""
    names = {0: "no_relation", 1: "works", 2: "lives"}
    return tacred_checkpoint(tmp_path_factory.mktemp("named") / "bert", n_labels=3, id2label=names)


def test_help_names_both_kinds_of_readers() -> None:
    output = run("--help").output
    assert "--always-answer" in output
    assert "--no-no-answer" not in output


@pytest.mark.parametrize("option", [None, "--no-answer", "--always-answer", "--no-no-answer"])
def test_extractive_qa(qa: Path, tmp_path: Path, option: str | None) -> None:
    output = tmp_path / "deep" / "model"
    options = [] if option is None else [option]
    result = succeed(qa, output, "-t", "extractive_qa", "-s", SHORT, "--lang", "es", *options)
    assert f"Savedpipelineto{output}" in one_line(result.stdout)
    assert os.listdir(output.parent) == ["model"]
    nlp = spacy.load(output)
    assert (nlp.lang, nlp.pipe_names) == ("es", ["extractive_qa"])
    pipe = nlp.get_pipe("extractive_qa")
    assert pipe.cfg["no_answer"] == (option in (None, "--no-answer"))
    # What the component makes of the checkpoint by itself.
    own_nlp, own = make_nlp(
        qa, pretrained=True, lang="es", no_answer=pipe.cfg["no_answer"], model={"dropout": None}
    )
    own_nlp.initialize()
    questions = ["who works for Google ?", "where ?"]
    assert_same_answers(pipe.ask(TEXT, questions), own.ask(TEXT, questions))


def test_preset(tacred: Path, tmp_path: Path) -> None:
    output = tmp_path / "model"
    succeed(tacred, output, "-t", "relation_classifier", "-p", "spanbert-tacred", "-n", "tacred")
    nlp = spacy.load(output)
    pipe = nlp.get_pipe("tacred")
    assert pipe.labels == SPANBERT_TACRED.labels
    assert pipe.mode == "ner"
    vocabulary = pipe.model.shims[0].module.encoder.pieces.vocabulary
    assert pipe.markers["SUBJ=PERSON"] == vocabulary["[unused5]"]
    doc = nlp.make_doc(TEXT)
    doc.set_ents([spacy.tokens.Span(doc, 0, 2, "PERSON"), spacy.tokens.Span(doc, 4, 5, "ORG")])
    (prediction,) = pipe.predict([doc])
    assert len(prediction.pairs) == 2


@pytest.mark.parametrize("form", ["list", "table", "checkpoint"])
def test_markers_and_labels(named: Path, tacred: Path, tmp_path: Path, form: str) -> None:
    (tmp_path / "markers.json").write_text(json.dumps(MARKERS))
    options: list[Any] = ["--mode", "text", "--markers", tmp_path / "markers.json"]
    labels = ["no_relation", "works", "lives"]
    if form != "checkpoint":
        labels = ["a", "no_relation", "b"]
        table = {"labels": labels, "type_pairs": {"a": [["PER", "ORG"]]}}
        (tmp_path / "labels.json").write_text(json.dumps(labels if form == "list" else table))
        options += ["--labels", tmp_path / "labels.json"]
    succeed(named, tmp_path / "model", "-t", "relation_classifier", *options)
    nlp = spacy.load(tmp_path / "model")
    pipe = nlp.get_pipe("relation_classifier")
    assert list(pipe.labels) == labels
    assert pipe.mode == "text"
    vocabulary = pipe.model.shims[0].module.encoder.pieces.vocabulary
    assert pipe.markers == {name: vocabulary[entry] for name, entry in MARKERS.items()}
    assert pipe.cfg["learned_type_pairs"] == ({"a": [["PER", "ORG"]]} if form == "table" else None)
    doc = nlp.make_doc(TEXT)
    doc._.relations = [Relation(doc[0:2], doc[4:5], "")]
    assert len(pipe.predict([doc])[0].scores[0]) == 3


def test_tokenizer_from_elsewhere(qa: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((qa / name).read_bytes())
    arguments = [bare, tmp_path / "model", "-t", "extractive_qa", "-s", SHORT]
    assert_fails(run(*arguments), "E_SR202")
    assert not (tmp_path / "model").exists()
    assert run(*arguments, "--tokenizer", qa).exit_code == 0
    found, wanted = (
        import_hf(folder, task="extractive_qa", tokenizer=str(qa), settings=json.loads(SHORT))
        for folder in (bare, qa)
    )
    answers = [nlp.get_pipe("extractive_qa").ask(TEXT, ["who ?"]) for nlp in (found, wanted)]
    assert_same_answers(*answers)


def test_an_old_folder_is_kept(qa: Path, tmp_path: Path) -> None:
    output = tmp_path / "model"
    output.mkdir()
    (output / "mine").write_text("x")
    assert_fails(run(qa, output, "-t", "extractive_qa", "-s", SHORT), "--force")
    assert os.listdir(output) == ["mine"]
    # The folder is looked at before the checkpoint.
    assert_fails(run(tmp_path / "none", output, "-t", "extractive_qa", "--force"), "E_SR641")
    assert os.listdir(output) == ["mine"]
    # Not even --force replaces what no command of ours made.
    assert_fails(run(qa, output, "-t", "extractive_qa", "-s", SHORT, "--force"), "E_SR641")
    assert os.listdir(output) == ["mine"]
    (output / "mine").unlink()
    for _ in range(2):
        assert run(qa, output, "-t", "extractive_qa", "-s", SHORT, "--force").exit_code == 0
        assert (output / "config.cfg").exists()
    # A checkpoint that cannot be read replaces nothing.
    assert_fails(run(tmp_path / "none", output, "-t", "extractive_qa", "--force"), "E_SR202")
    assert (output / "config.cfg").exists()


def test_nothing_is_guessed(
    qa: Path, tacred: Path, named: Path, bert_checkpoint: Path, tmp_path: Path
) -> None:
    for name, content in {
        "markers.json": {**MARKERS, "OBJ_END": "[nowhere]"},
        "good.json": MARKERS,
        "rows.json": [["SUBJ_START", "[unused1]"]],
        "number.json": {"SUBJ_START": 1},
        "labels.json": ["a", "b"],
        "wrong.json": {"names": ["a", "b"]},
    }.items():
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "broken.json").write_text("[1,")
    relation = ["-t", "relation_classifier"]
    text = [*relation, "--mode", "text", "--markers", tmp_path / "good.json"]
    cases: list[tuple[list[Any], list[str]]] = [
        # What the checkpoint does not say.
        ([tacred, *relation], ["E_SR701"]),
        ([named, *relation], ["E_SR702", "the input mode", "spanbert-tacred"]),
        ([named, *relation, "--mode", "text"], ["E_SR702", "SUBJ_START"]),
        ([named, *relation, "--mode", "typed_markers"], ["E_SR707"]),
        # What does not fit it.
        ([named, *relation, "-p", "spanbert-tacred", "--labels", tmp_path / "labels.json"], []),
        ([named, *text, "--labels", tmp_path / "labels.json"], ["E_SR211", "2 labels"]),
        (
            [named, *relation, "--mode", "text", "--markers", tmp_path / "markers.json"],
            ["E_SR704", "[nowhere]"],
        ),
        ([bert_checkpoint, "-t", "extractive_qa", "-s", SHORT], ["E_SR210", "qa_outputs"]),
        ([qa, "-t", "extractive_qa"], ["E_SR205", "384", "64"]),
        # Arguments and files.
        ([named, *relation, "-p", "other"], ["E_SR302", "preset"]),
        ([qa, "-t", "extractive_qa", "--mode", "text"], ["E_SR613", "--mode"]),
        ([qa, "-t", "extractive_qa", "-p", "spanbert-tacred"], ["E_SR613", "--preset"]),
        ([named, *text, "--no-answer"], ["E_SR613", "--no-answer"]),
        ([qa, "-t", "extractive_qa", "-l", "xyz"], ["xyz"]),
        ([qa, "-t", "extractive_qa", "-s", "[]"], ["E_SR604", "--settings"]),
        ([qa, "-t", "extractive_qa", "-s", "{"], ["E_SR603", "--settings"]),
        ([qa, "-t", "extractive_qa", "-s", '{"top_j": 2}'], ["top_j"]),
        ([named, *text, "--labels", tmp_path / "wrong.json"], ["E_SR705", "names"]),
        ([named, *text, "--labels", tmp_path / "broken.json"], ["E_SR603", "broken.json"]),
        ([named, *text, "--labels", tmp_path / "none.json"], ["E_SR601", "none.json"]),
        ([named, *relation, "--mode", "text", "--markers", tmp_path / "rows.json"], ["E_SR604"]),
        (
            [named, *relation, "--mode", "text", "--markers", tmp_path / "number.json"],
            ["E_SR604", "SUBJ_START"],
        ),
    ]
    for (checkpoint, *options), parts in cases:
        result = run(checkpoint, tmp_path / "model", *options)
        assert result.exit_code == 1, (options, result.output)
        assert "Nothingwrittento" in one_line(result.stderr)
        for part in parts:
            assert one_line(part) in one_line(result.stderr), (options, result.stderr)
        assert "Traceback" not in result.output
        assert not (tmp_path / "model").exists()
    assert run(qa, tmp_path / "model", "-t", "ner").exit_code == 2
    assert run(qa, tmp_path / "model").exit_code == 2
    with pytest.raises(ValueError, match="'ner'.*relation_classifier, extractive_qa"):
        import_hf(qa, task="ner")
