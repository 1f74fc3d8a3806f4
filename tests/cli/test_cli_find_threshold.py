from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.cli._util import app as spacy_app
from spacy.cli.evaluate import evaluate
from spacy.language import Language
from spacy.training import Corpus
from typer.testing import CliRunner

from spacy_spanrel import Relation, get_relations, set_relations
from spacy_spanrel.cli import find_threshold
from tests.relation_classifier import conftest as pairs
from tests.span_relation import util as spans
from tests.util import initialize, make_doc, train, write_docs


def run(*args: Any) -> Any:
    command = ["spanrel", "find-threshold", *map(str, args)]
    return CliRunner().invoke(spacy_app, command)


def one_line(output: str) -> str:
    return "".join(output.split())


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


SPAN_SCORER = {"@scorers": "spacy-spanrel.relation_scorer.v1"}


@pytest.fixture(scope="module")
def span_model(bert_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A half-trained `span_relation`."""
    nlp, _ = spans.make_nlp(bert_checkpoint, scorer=SPAN_SCORER, symmetric=["killed"])
    examples = spans.make_examples(nlp)
    initialize(nlp, examples)
    train(nlp, examples, 35)
    path = tmp_path_factory.mktemp("span") / "model"
    nlp.to_disk(path)
    return path


@pytest.fixture(scope="module")
def pair_model(bert_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A half-trained `relation_classifier` after an `entity_ruler`."""
    nlp, _ = pairs.make_nlp(bert_checkpoint, type_constraints="off", symmetric=["killed"])
    examples = pairs.make_examples(nlp)
    initialize(nlp, examples)
    train(nlp, examples, 12)
    pairs.add_ruler(nlp)
    path = tmp_path_factory.mktemp("pair") / "model"
    nlp.to_disk(path)
    return path


@pytest.fixture(scope="module")
def span_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    nlp = spacy.blank("en")
    docs = [make_doc(nlp.vocab, *row, key="entities") for row in spans.ROWS]
    return write_docs(tmp_path_factory.mktemp("data") / "dev.spacy", docs)


@pytest.fixture(scope="module")
def pair_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gold pairs and negative ones. Some labels are wrong, so that no threshold is perfect."""
    nlp = spacy.blank("en")
    docs = pairs.gold_docs(nlp)
    wrong = [Relation(r.head, r.tail, "lives") for r in get_relations(docs[0])]
    set_relations(docs[0], wrong)
    return write_docs(tmp_path_factory.mktemp("data") / "dev.spacy", docs)


def evaluated(model: Path | Language, corpus: Path, setting: str, threshold: float) -> Any:
    """Return the scores of `nlp.evaluate` with a threshold."""
    nlp = spacy.load(model) if isinstance(model, Path) else model
    nlp.pipeline[-1][1].cfg[setting] = threshold
    return nlp.evaluate(list(Corpus(corpus)(nlp)))


@pytest.mark.parametrize("metric", ["rel_f", "rel_strict_f", "rel_macro_f", "rel_strict_macro_f"])
def test_span_relation_equals_evaluation(
    span_model: Path, span_corpus: Path, tmp_path: Path, metric: str
) -> None:
    found = find_threshold(span_model, span_corpus, metric=metric, output=tmp_path / "new")
    assert (found.component, found.setting) == ("span_relation", "relation_threshold")
    assert found.before.threshold == 0.4
    assert found.docs == 5
    assert found.relations == sum(len(row[2]) for row in spans.ROWS)
    saved = evaluate(str(tmp_path / "new"), span_corpus, silent=True)
    assert saved[metric] == found.after.score
    nlp = spacy.load(span_model)
    kind = "rel_strict" if "strict" in metric else "rel"
    for row in (found.before, found.after, *found.others):
        scores = evaluated(nlp, span_corpus, found.setting, row.threshold)
        assert scores[metric] == row.score
        assert [scores[f"{kind}_{x}"] for x in "prf"] == [row.precision, row.recall, row.f1]
        assert row.score <= found.after.score


@pytest.mark.parametrize("score_pairs", ["gold", "predicted"])
@pytest.mark.parametrize("metric", ["rel_f", "rel_macro_f"])
def test_relation_classifier_equals_evaluation(
    pair_model: Path, pair_corpus: Path, tmp_path: Path, score_pairs: str, metric: str
) -> None:
    nlp = spacy.load(pair_model)
    nlp.get_pipe("relation_classifier").cfg["score_pairs"] = score_pairs
    nlp.to_disk(tmp_path / "model")
    found = find_threshold(tmp_path / "model", pair_corpus, metric=metric, output=tmp_path / "new")
    assert (found.component, found.setting) == ("relation_classifier", "threshold")
    assert found.after.score > 0
    saved = evaluate(str(tmp_path / "new"), pair_corpus, silent=True)
    assert saved[metric] == found.after.score
    for row in (found.before, found.after, *found.others):
        scores = evaluated(nlp, pair_corpus, found.setting, row.threshold)
        assert scores[metric] == row.score
        assert [scores[f"rel_{x}"] for x in "prf"] == [row.precision, row.recall, row.f1]
        assert row.score <= found.after.score


def test_relations_of_others_stay(pair_model: Path, pair_corpus: Path, tmp_path: Path) -> None:
    """With existing = "extend", relations that were there before depend on no threshold."""

    @Language.component("spanrel_test_guess")
    def guess(doc: Any) -> Any:
        if len(doc.ents) > 1:
            first, second = doc.ents[:2]
            set_relations(doc, [Relation(first, second, "works", 0.01)])
        return doc

    nlp = spacy.load(pair_model)
    nlp.add_pipe("spanrel_test_guess", before="relation_classifier")
    nlp.get_pipe("relation_classifier").cfg.update(existing="extend")
    nlp.to_disk(tmp_path / "model")
    found = find_threshold(tmp_path / "model", pair_corpus)
    # One of the four guesses is correct, with every threshold.
    for row in (found.before, found.after, *found.others):
        scores = evaluated(nlp, pair_corpus, found.setting, row.threshold)
        assert [scores[f"rel_{x}"] for x in "prf"] == [row.precision, row.recall, row.f1]
    certain = evaluated(nlp, pair_corpus, found.setting, 1.0)
    assert certain["rel_per_type"]["works"]["p"] >= 0


def test_given_entities_come_from_the_corpus(
    bert_checkpoint: Path, tmp_path: Path, span_corpus: Path
) -> None:
    settings = {"entities": "doc", "entities_key": "entities", "scorer": SPAN_SCORER}
    nlp, _ = spans.make_nlp(bert_checkpoint, **settings)
    examples = spans.make_examples(nlp, key="entities")
    for example in examples:
        gold = example.reference.spans["entities"]
        example.predicted.spans["entities"] = [
            example.predicted[span.start : span.end] for span in gold
        ]
    initialize(nlp, examples)
    train(nlp, examples, 20)
    nlp.to_disk(tmp_path / "model")
    with pytest.raises(ValueError, match=r"E_SR943.*none of the 5 gold.*0 relations.*--inputs"):
        find_threshold(tmp_path / "model", span_corpus, metric="rel_f")
    found = find_threshold(tmp_path / "model", span_corpus, metric="rel_f", inputs=["entities"])
    assert found.after.score > 0


def test_threshold_is_only_printed(span_model: Path, span_corpus: Path) -> None:
    before = snapshot(span_model)
    result = run(span_model, span_corpus)
    assert result.exit_code == 0, result.output
    assert "relation_threshold = " in result.stdout
    assert "rel_strict_f" in result.stdout
    lines = [line.split() for line in result.stdout.splitlines()]
    assert [line[0] for line in lines if line and line[0].startswith("0.")] == [
        f"0.{i}000" for i in range(10)
    ]
    assert any(line[:2] == ["before", "0.4000"] for line in lines)
    assert any(line[:1] == ["after"] for line in lines)
    assert "Saved" not in result.stdout
    assert snapshot(span_model) == before


@pytest.mark.parametrize("way", ["output", "overwrite"])
def test_threshold_is_saved(pair_model: Path, pair_corpus: Path, tmp_path: Path, way: str) -> None:
    model = tmp_path / "model"
    spacy.load(pair_model).to_disk(model)
    before = snapshot(model)
    output = tmp_path / "deep" / "new"
    result = run(model, pair_corpus, *(["-o", output] if way == "output" else ["--overwrite"]))
    assert result.exit_code == 0, result.output
    saved = output if way == "output" else model
    assert f"Savedpipelineto{saved}" in one_line(result.stdout)
    found = find_threshold(pair_model, pair_corpus)
    nlp = spacy.load(saved)
    assert nlp.get_pipe("relation_classifier").cfg["threshold"] == found.after.threshold
    # The config says the same.
    config = nlp.config["components"]["relation_classifier"]
    assert config["threshold"] == found.after.threshold
    assert nlp.pipe_names == ["entity_ruler", "relation_classifier"]
    if way == "output":
        assert snapshot(model) == before
        assert os.listdir(output.parent) == [output.name]
    again = find_threshold(saved, pair_corpus)
    assert again.before == again.after
    assert math.isclose(again.after.threshold, found.after.threshold)


def test_wrong_arguments(
    span_model: Path, span_corpus: Path, pair_model: Path, pair_corpus: Path, tmp_path: Path
) -> None:
    spacy.blank("en").to_disk(tmp_path / "empty")
    plain = write_docs(tmp_path / "plain.spacy", [spacy.blank("en")("Nothing here.")])
    (tmp_path / "broken.spacy").write_bytes(b"{}")
    cases: list[tuple[list[Any], list[str]]] = [
        ([span_model, span_corpus, "-c", "ner"], ["E_SR613", "'ner'", "span_relation"]),
        ([pair_model, pair_corpus, "-c", "entity_ruler"], ["E_SR613", "finds relations"]),
        ([tmp_path / "empty", span_corpus], ["E_SR613", "--component", "0 components"]),
        ([pair_model, pair_corpus, "-m", "rel_strict_f"], ["E_SR613", "rel_f, rel_macro_f"]),
        ([span_model, span_corpus, "-m", "rel_p"], ["E_SR613", "'rel_p'"]),
        ([span_model, span_corpus, "-o", tmp_path], ["exists already"]),
        ([span_model, span_corpus, "-o", span_model / "new"], ["E_SR952", "lies inside"]),
        ([span_model, span_corpus, "-F", "-o", "x"], ["E_SR613", "one of the two"]),
        ([span_model, plain], ["E_SR942", "plain.spacy", "1 Docs", "'relations'"]),
        ([span_model, tmp_path / "none.spacy"], ["There is no corpus"]),
        ([span_model, tmp_path / "broken.spacy"], ["E_SR601", "broken.spacy"]),
        ([tmp_path / "none", span_corpus], ["E050"]),
    ]
    for arguments, parts in cases:
        result = run(*arguments)
        assert result.exit_code == 1, (arguments, result.output)
        for text in parts:
            assert text in result.stderr, arguments
        assert "Traceback" not in result.output
    assert run(span_model).exit_code == 2
