from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import spacy
from spacy.cli._util import app as spacy_app
from spacy.tokens import Doc, DocBin

from tests.cli.util import assert_fails, one_line, run
from tests.span_relation.util import ROWS, make_examples, make_nlp
from tests.util import initialize, make_doc, train, write_docs


@pytest.fixture(scope="module")
def model(bert_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    nlp, _ = make_nlp(bert_checkpoint, relation_threshold=0.2)
    examples = make_examples(nlp)
    initialize(nlp, examples)
    train(nlp, examples, 25)
    path = tmp_path_factory.mktemp("model") / "pipeline"
    nlp.to_disk(path)
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    vocab = spacy.blank("en").vocab
    return write_docs(tmp_path / "dev.spacy", [make_doc(vocab, *row) for row in ROWS])


def test_tables_json_and_report(model: Path, corpus: Path, tmp_path: Path) -> None:
    output, report = tmp_path / "new" / "metrics.json", tmp_path / "new" / "report.html"
    result = run("spanrel", "evaluate", model, corpus, "-o", output, "-r", report, main=spacy_app)
    assert result.exit_code == 0
    for title in ("Scores", "Entities, by label", "Outcomes", "Most frequent confusions"):
        assert title in result.stdout
    assert sorted(path.name for path in output.parent.iterdir()) == ["metrics.json", "report.html"]
    other = tmp_path / "spacy.json"
    theirs = run("evaluate", model, corpus, "-o", other, main=spacy_app)
    wanted, found = json.loads(other.read_text()), json.loads(output.read_text())
    assert {k for k in wanted if wanted[k] != found[k]} <= {"speed"}
    # The same scores are printed, to the last digit.
    for name in ("NER P", "NER R", "NER F"):
        value = next(row.split()[-1] for row in theirs.stdout.splitlines() if row.startswith(name))
        assert value in next(r for r in result.stdout.splitlines() if r.startswith("Entities "))
    more = {name for name in found if not name.startswith("rel_entity")}
    assert more - set(wanted) == {"confusion", "counts", "calibration"}
    counts = found["counts"]["span_relation"]
    entities = counts["entities"]
    assert entities.get("correct", 0) == counts["ents"]["tp"]
    alone = entities.get("spurious", 0), entities.get("missed", 0)
    pairs = sum(entities.values()) - counts["ents"]["tp"] - sum(alone)
    assert (alone[0] + pairs, alone[1] + pairs) == (counts["ents"]["fp"], counts["ents"]["fn"])
    assert report.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_rows_left_out_are_said(model: Path, corpus: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    result = run("evaluate", model, corpus, "--report", report, "--max-rows", 1)
    assert result.exit_code == 0
    assert "rows were left out, correct ones first" in result.stdout
    assert report.read_text(encoding="utf-8").count("<tr data-status") == 1


def test_inputs(model: Path, corpus: Path, tmp_path: Path) -> None:
    # The line is wrapped wherever the path ends.
    result = run("evaluate", model, corpus, "--inputs", "ents")
    assert "(inputs:ents)" in one_line(result.stdout)
    result = run("evaluate", model, corpus, "-i", "ents", "-i", "nothing")
    assert "(inputs:ents,nothing)" in one_line(result.stdout)
    assert "has 'nothing', which the pipeline is to get" in result.stderr
    result = run("evaluate", model, corpus, "--no-inputs")
    assert "(inputs:none)" in one_line(result.stdout)
    result = run("evaluate", model, corpus, "--no-inputs", "--inputs", "ents")
    assert result.exit_code == 1
    assert "expected:oneofthetwo" in one_line(result.stderr).lower()


def test_annotation_that_is_missing_is_said(model: Path, tmp_path: Path) -> None:
    vocab = spacy.blank("en").vocab
    docs = [make_doc(vocab, text, entities) for text, entities, _ in ROWS]
    path = write_docs(tmp_path / "dev.spacy", docs)
    output = tmp_path / "metrics.json"
    result = run("evaluate", model, path, "-o", output)
    assert result.exit_code == 0
    assert "the corpus has no gold relations" in result.stderr
    found = json.loads(output.read_text())
    assert found["rel_f"] is None
    assert list(found["confusion"]["span_relation"]) == ["entities"]
    write_docs(path, [Doc(vocab, words=["a"])])
    assert_fails(
        run("evaluate", model, path, "-o", output), "no gold entities", "no gold relations"
    )
    assert json.loads(output.read_text()) == found


def test_errors(model: Path, corpus: Path, tmp_path: Path) -> None:
    blank, empty = tmp_path / "blank", tmp_path / "empty.spacy"
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.to_disk(blank)
    DocBin().to_disk(empty)
    broken, other = tmp_path / "broken.spacy", tmp_path / "docs.json"
    broken.write_bytes(b"no Docs")
    other.write_text("{}")
    report = tmp_path / "report.html"
    for args, message in [
        ((blank, corpus), "found sentencizer"),
        ((tmp_path / "nowhere", corpus), "Can't find model"),
        ((model, tmp_path / "nowhere.spacy"), "There is no corpus"),
        ((model, empty), "holds no Docs"),
        ((model, other), "holds no Docs"),
        ((model, broken), "as DocBin.to_disk writes it"),
        ((model, corpus, "--output", corpus), "E_SR951"),
        ((model, corpus, "--output", report), "another file than --output"),
        ((model, corpus, "--output", tmp_path), "Expected: a file."),
    ]:
        before = sorted(os.listdir(tmp_path))
        result = run("evaluate", *args, "--report", report)
        assert result.exit_code == 1, args
        assert one_line(message) in one_line(result.stderr)
        assert "Not evaluated" in result.stderr
        assert not result.stdout.strip()
        assert sorted(os.listdir(tmp_path)) == before


def test_usage(model: Path, corpus: Path) -> None:
    assert run("evaluate", model).exit_code == 2
    assert run("evaluate", model, corpus, "--max-rows", -1).exit_code == 2
