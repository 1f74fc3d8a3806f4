from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import spacy

from spacy_spanrel import Question, set_answers
from spacy_spanrel.annotations import make_answer
from spacy_spanrel.cli import debug_data
from tests.cli import util
from tests.cli.util import assert_fails, words
from tests.span_relation.util import ROWS
from tests.util import make_doc, write_docs

CONFIGS = Path(__file__).parents[2] / "configs" / "test"


run, succeed = partial(util.run, "debug-data"), partial(util.succeed, "debug-data")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Train and dev, with entities, relations and questions on every Doc."""
    nlp = spacy.blank("en")
    docs = []
    for row in ROWS:
        doc = make_doc(nlp.vocab, *row, key="entities")
        whole = make_answer(doc, Question("a", "what ?"), 0, len(doc.text.split()[0]))
        set_answers(doc, [whole, make_answer(doc, Question("b", "why ?"), 0, 0)])
        docs.append(doc)
    folder = tmp_path_factory.mktemp("data")
    return write_docs(folder / "train.spacy", docs), write_docs(folder / "dev.spacy", docs[3:])


def test_all_tasks_without_config(data: tuple[Path, Path], tmp_path: Path) -> None:
    train, dev = data
    output = tmp_path / "deep" / "report.json"
    result = succeed(train, "--dev", dev, "--output", output)
    text = words(result.stdout)
    for part in (
        "Docs 5 2",
        "Entities 10 2",
        "Relations 5 1",
        "Questions 10 4",
        "Per 4 0",
        "based (Org, Loc) 2 1",
        "Tokens of a Doc, train 5 5 7 6.6 8 8",
        "2 of 2 (100.0%) Docs in dev have the text of a Doc in train",
        "5 of 10 (50.0%) questions in train have no answer",
        "warning(s)",
    ):
        assert part in text, part
    assert "subword pieces" not in text
    report = json.loads(output.read_text(encoding="utf-8"))
    assert set(report) == {"train", "dev", "advice"}
    assert report["train"]["relations"] == {"based": 2, "works": 1, "lives": 1, "killed": 1}
    assert report["train"]["tokens"]["max"] == 8
    assert {"label": "lives", "head": "Per", "tail": "Loc", "n": 1} in report["train"]["type_pairs"]
    assert report["dev"]["answerable"] == 2
    assert all({"level", "topic", "text", "numbers"} == set(item) for item in report["advice"])
    assert os.listdir(output.parent) == ["report.json"]


def test_encoder(data: tuple[Path, Path], checkpoint: Path) -> None:
    result = succeed(data[0], "--encoder", checkpoint)
    text = words(result.stdout)
    for part in (
        "span_relation: subword pieces of a Doc, train 5",
        "span_relation: windows, train 5 1 1 1.0 1 1",
        "relation_classifier: subword pieces of a row, train 5",
        "extractive_qa: windows, train 10 1 1 1.0 1 1",
    ):
        assert part in text, part


@pytest.mark.parametrize("name", ["span_relation", "relation_classifier", "extractive_qa"])
def test_config(data: tuple[Path, Path], bert_checkpoint: Path, name: str) -> None:
    config = ["--config", CONFIGS / f"{name}.cfg", "--paths.encoder", bert_checkpoint]
    result = succeed(data[0], *config)
    assert f"{name}: " in result.stdout
    report = debug_data(
        data[0],
        config=CONFIGS / f"{name}.cfg",
        overrides={"paths.encoder": str(bert_checkpoint)},
    )
    assert list(report.train.components) == [name]
    # Settings are overridden as in `spacy train`.
    if name == "span_relation":
        result = run(data[0], *config, "--components.span_relation.max_span_size", "1")
        assert "max_span_size = 1" in words(result.stdout)


def test_unlabelled_texts_of_a_config(
    data: tuple[Path, Path], bert_checkpoint: Path, tmp_path: Path
) -> None:
    nlp = spacy.blank("en")
    texts = write_docs(tmp_path / "texts.spacy", [nlp("One text."), nlp("Another one.")])
    config = ["-c", CONFIGS / "span_relation.cfg", "--paths.encoder", bert_checkpoint]
    config += ["--corpora.train.unlabelled", texts]
    result = run(data[0], "-d", data[1], *config)
    assert result.exit_code == 1
    text = words(result.stdout)
    assert "Docs 5 2 Unlabelled Docs 2 0" in text
    assert "2 Docs in train are unlabelled, but not every component has a teacher" in text
    taught = ["--components.span_relation.teacher", '{"path": "teacher"}']
    assert "a teacher's predictions are learned" in words(succeed(data[0], *config, *taught).stdout)


def test_errors_in_the_data(bert_checkpoint: Path, tmp_path: Path) -> None:
    plain = write_docs(tmp_path / "plain.spacy", [spacy.blank("en")("Nothing here.")])
    config = ["-c", CONFIGS / "extractive_qa.cfg", "--paths.encoder", bert_checkpoint]
    result = run(plain, *config, "-o", tmp_path / "report.json")
    assert result.exit_code == 1
    assert "There is nothing to learn: train has 0 questions" in words(result.stdout)
    assert "1 error(s)" in words(result.stdout)
    # The report is written nevertheless.
    levels = {
        item["level"] for item in json.loads((tmp_path / "report.json").read_text())["advice"]
    }
    assert "error" in levels
    assert run(plain).exit_code == 0


def test_a_folder_of_files(data: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("a.spacy", "b.spacy"):
        (tmp_path / name).write_bytes(data[0].read_bytes())
    (tmp_path / "notes.txt").write_text("x")
    report = debug_data(tmp_path)
    assert report.train.docs == 10
    assert report.dev is None
    assert not report.has_errors


def test_wrong_files(data: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "broken.spacy").write_bytes(b"{}")
    (tmp_path / "broken.cfg").write_text("[nlp")
    (tmp_path / "other.cfg").write_text('[nlp]\nlang = "en"\npipeline = []\n')
    train = data[0]
    cases: list[tuple[list[Any], list[str]]] = [
        ([tmp_path / "none.spacy"], ["There is no file", "none.spacy"]),
        ([train, "-d", tmp_path / "none.spacy"], ["none.spacy"]),
        ([tmp_path / "broken.spacy"], ["E_SR601", "broken.spacy"]),
        ([train, "-d", tmp_path / "broken.spacy"], ["E_SR601"]),
        ([train, "-c", tmp_path / "none.cfg"], ["none.cfg"]),
        ([train, "-c", tmp_path / "broken.cfg"], []),
        ([train, "-c", tmp_path / "other.cfg"], ["E_SR945"]),
    ]
    for arguments, parts in cases:
        assert_fails(run(*arguments, "-o", tmp_path / "report.json"), *parts)
        assert not (tmp_path / "report.json").exists()
    result = run(train, "--encoder", tmp_path)
    assert result.exit_code == 1
    assert "cannot be read" in words(result.stdout)


@pytest.mark.parametrize("name", ["train.spacy", "dev.spacy", "config.cfg"])
def test_inputs_are_not_overwritten(data: tuple[Path, Path], tmp_path: Path, name: str) -> None:
    for source, copy in zip(data, ("train.spacy", "dev.spacy"), strict=True):
        (tmp_path / copy).write_bytes(source.read_bytes())
    (tmp_path / "config.cfg").write_bytes((CONFIGS / "span_relation.cfg").read_bytes())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    inputs = [tmp_path / "train.spacy", "-d", tmp_path / "dev.spacy", "-c", tmp_path / "config.cfg"]
    assert_fails(run(*inputs, "-o", tmp_path / name), "E_SR951")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
