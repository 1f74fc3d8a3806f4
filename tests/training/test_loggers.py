from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.training.initialize import init_nlp
from spacy.training.loop import train as train_loop

from spacy_spanrel import Relation, set_relations
from spacy_spanrel.training.loggers import (
    Recorder,
    create_json_lines_logger,
    create_tensorboard_logger,
)
from spacy_spanrel.training.optimizer import create_adamw

from ..extractive_qa.util import make_examples as make_qa_examples
from ..extractive_qa.util import make_nlp as make_qa_nlp
from ..relation_classifier.conftest import make_nlp as make_pair_nlp
from ..span_relation.util import ROWS, make_examples, make_nlp
from ..util import initialize, make_doc, write_docs

CONFIG = Path(__file__).parents[2] / "configs" / "test" / "span_relation.cfg"


@pytest.fixture(scope="module")
def docs_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    nlp = spacy.blank("en")
    docs = [make_doc(nlp.vocab, *row, key="entities") for row in ROWS]
    return write_docs(tmp_path_factory.mktemp("data") / "docs.spacy", docs)


def train(
    checkpoint: Path, docs_path: Path, output: Path, loggers: list[dict[str, Any]], **more: Any
) -> str:
    """Train for three steps as `spacy train` does, and return the printed output."""
    overrides = {
        "paths.train": str(docs_path),
        "paths.dev": str(docs_path),
        "paths.encoder": str(checkpoint),
        **more,
    }
    config = spacy.util.load_config(CONFIG, overrides=overrides)
    logger: dict[str, Any] = {"@loggers": "spacy.ChainLogger.v1"}
    logger |= {f"logger{i}": settings for i, settings in enumerate(loggers, start=1)}
    config["training"]["logger"] = logger
    nlp = init_nlp(config)
    output.mkdir()
    printed = io.StringIO()
    train_loop(nlp, output, stdout=printed, stderr=printed)
    return printed.getvalue()


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def run(
    bert_checkpoint: Path, docs_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """The printed output of a chain of all loggers, and the folder with their files."""
    folder = tmp_path_factory.mktemp("run")
    printed = train(
        bert_checkpoint,
        docs_path,
        folder / "out",
        [
            {"@loggers": "spacy.ConsoleLogger.v3", "output_file": str(folder / "spacy.jsonl")},
            {"@loggers": "spacy-spanrel.ConsoleLogger.v1"},
            {"@loggers": "spacy-spanrel.JsonLinesLogger.v1", "path": str(folder / "a" / "b.jsonl")},
            {"@loggers": "spacy-spanrel.TensorBoardLogger.v1", "log_dir": str(folder / "tb")},
        ],
        **{"training.optimizer.head_learn_rate": 1e-3},
    )
    return printed, folder


def test_json_lines(run: tuple[str, Path]) -> None:
    _, folder = run
    start, *rows = read_rows(folder / "a" / "b.jsonl")
    assert start["event"] == "start"
    assert start["pipeline"] == ["span_relation"]
    # As in spaCy, step 0 is a step and is evaluated.
    assert [(row["event"], row["step"]) for row in rows] == [
        ("evaluation", 0),
        ("step", 1),
        ("step", 2),
        ("evaluation", 3),
    ]
    names = ["span_relation", "span_relation_entities", "span_relation_relations"]
    for row in rows:
        losses = row["step_losses"]
        assert list(losses) == names
        assert losses[names[0]] == pytest.approx(losses[names[1]] + losses[names[2]])
        assert row["seconds"] >= 0
        assert row["skipped"] == {"span_relation": {}}
    # The schedule of the config has one warm-up step and reaches 0 at step 3.
    rates = [row["learn_rates"]["span_relation"] for row in rows]
    assert [rate["encoder"] for rate in rates] == pytest.approx([0.0, 5e-5, 2.5e-5, 0.0])
    assert [rate["head"] for rate in rates] == [1e-3] * 4
    last = rows[-1]
    for name in names:
        total = sum(row["step_losses"][name] for row in rows[1:])
        assert last["losses"][name] == pytest.approx(total)
    assert last["words"] > rows[0]["words"] > 0
    assert last["epoch"] >= 0
    assert {"rel_f", "ents_f", "rel_strict_per_type"} <= set(last["scores"])
    assert last["score"] is not None


def test_same_values_as_spacys_logger(run: tuple[str, Path]) -> None:
    printed, folder = run
    theirs = read_rows(folder / "spacy.jsonl")
    ours = [row for row in read_rows(folder / "a" / "b.jsonl") if row["event"] == "evaluation"]
    assert [row["step"] for row in theirs] == [0, 3]
    for one, other in zip(ours, theirs, strict=True):
        assert one["losses"]["span_relation"] == pytest.approx(other["losses"]["span_relation"])
        assert one["score"] == pytest.approx(other["score"])
    # spaCy's table has one loss per component; ours also has partial losses and learning rates.
    their_head, our_head = [line for line in printed.splitlines() if line.startswith("E ")]
    assert their_head.count("LOSS") == 1
    assert our_head.count("LOSS") == 3
    assert "RATE SPAN_RELATION" in our_head
    assert "SKIPPED" in our_head
    table = printed[printed.index(our_head) :].splitlines()
    assert [len(line) for line in table[:2]] == [len(our_head)] * 2
    ours_printed = [line for line in table if "e-03" in line]
    assert [line.split()[1] for line in ours_printed] == ["0", "3"]
    assert all(len(line) == len(our_head) for line in ours_printed)
    assert "0.0e+00/1.0e-03" in ours_printed[0]


def test_tensorboard(run: tuple[str, Path]) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    _, folder = run
    events = accumulator.EventAccumulator(str(folder / "tb"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {
        "loss/span_relation_entities",
        "learn_rate/span_relation/head",
        "loss_sum/span_relation",
        "scores/rel_f",
        "scores/ents_per_type/Loc/f",
        "score",
        "epoch",
        "words",
        "seconds",
    } <= tags
    rows = [row for row in read_rows(folder / "a" / "b.jsonl") if "step" in row]
    points = events.Scalars("loss/span_relation")
    assert [(p.step, p.value) for p in points] == [
        (row["step"], pytest.approx(row["step_losses"]["span_relation"])) for row in rows
    ]
    assert [p.step for p in events.Scalars("score")] == [0, 3]


def test_rows_are_appended_to_an_existing_file(
    bert_checkpoint: Path, docs_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"event": "older"}\n')
    logger = {"@loggers": "spacy-spanrel.JsonLinesLogger.v1", "path": str(path), "every": 2}
    train(bert_checkpoint, docs_path, tmp_path / "out", [logger])
    rows = read_rows(path)
    assert [(row["event"], row.get("step")) for row in rows] == [
        ("older", None),
        ("start", None),
        ("evaluation", 0),
        ("step", 2),
        ("evaluation", 3),
    ]
    # Without a learning rate of their own, the heads use the common one.
    assert rows[3]["learn_rates"]["span_relation"] == pytest.approx(
        {"encoder": 2.5e-5, "head": 2.5e-5}
    )


def info(step: int, **more: Any) -> dict[str, Any]:
    return {
        "epoch": 0,
        "step": step,
        "losses": {},
        "score": 0.0,
        "other_scores": {},
        "words": 1,
        **more,
    }


def test_only_evaluations(blank: Language, tmp_path: Path) -> None:
    log, finish = create_json_lines_logger(tmp_path / "log", every=0)(blank, sys.stdout, sys.stderr)
    for step in (info(0), None, None, info(3, losses={"tagger": 1.5})):
        log(step)
    finish()
    rows = read_rows(tmp_path / "log")
    assert [row.get("step") for row in rows] == [None, 0, 3]
    # For components of other packages, there are the losses that spaCy reports.
    assert rows[-1]["losses"] == {"tagger": 1.5}


def test_numbers_without_a_json_form_are_null(blank: Language, tmp_path: Path) -> None:
    log, finish = create_json_lines_logger(tmp_path / "log")(blank, sys.stdout, sys.stderr)
    scores = {"f": float("nan"), "deep": [{"p": float("inf")}], "none": None, "flag": True}
    log(info(0, losses={"a": float("inf")}, other_scores=scores))
    finish()
    row = read_rows(tmp_path / "log")[-1]
    assert row["scores"] == {"f": None, "deep": [{"p": None}], "none": None, "flag": True}
    assert row["losses"] == {"a": None}


def test_negative_every_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"E_SR941.*JsonLinesLogger.*-1"):
        create_json_lines_logger(tmp_path / "log", every=-1)


def test_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match=r"E_SR940.*pip install 'spacy-spanrel\[tensorboard\]'"):
        create_tensorboard_logger(tmp_path)
    assert not list(tmp_path.iterdir())


def test_losses_of_several_updates_are_one_step(bert_checkpoint: Path) -> None:
    nlp, pipe = make_nlp(bert_checkpoint)
    examples = make_examples(nlp)
    initialize(nlp, examples)
    recorder = Recorder(nlp, every=2)
    losses = [pipe.update(examples)["span_relation"] for _ in range(4)]
    first = recorder.record(None)
    assert first is not None
    assert first["step_losses"]["span_relation"] == pytest.approx(sum(losses))
    assert first["learn_rates"] == {}
    pipe.finish_update(create_adamw(1e-3))
    assert recorder.record(None) is None
    losses = [pipe.update(examples)["span_relation"] for _ in range(3)]
    second = recorder.record(None)
    assert second is not None
    # The mean of the two steps since the last record.
    assert second["step_losses"]["span_relation"] == pytest.approx(sum(losses) / 2)
    assert second["learn_rates"] == {"span_relation": {"encoder": 1e-3, "head": 1e-3}}


# Skipped annotations


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_skipped_by_span_relation(bert_checkpoint: Path) -> None:
    nlp, pipe = make_nlp(bert_checkpoint, entities="doc")
    examples = make_examples(nlp)
    initialize(nlp, examples)
    pipe.update(examples)
    n = sum(len(row[2]) for row in ROWS)
    assert +pipe.skipped == {"relations_without_entities": n}
    pipe.update(examples)
    assert +pipe.skipped == {"relations_without_entities": 2 * n}
    # The tokens of the predicted Doc have other borders.
    gold = make_doc(nlp.vocab, "John lives", [(0, 1, "Per")], key="entities")
    merged = Doc(nlp.vocab, words=["John lives"], spaces=[True])
    pipe.update([Example(merged, gold)])
    assert pipe.skipped["misaligned_spans"] == 1


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_skipped_by_relation_classifier(bert_checkpoint: Path) -> None:
    nlp, pipe = make_pair_nlp(bert_checkpoint, negative_label=None)
    words = ["John", *["Smith"] * 70, "lives", "in", "Paris"]
    doc = Doc(nlp.vocab, words=words)
    short, long, city = (
        Span(doc, 0, 1, label="PER"),
        Span(doc, 0, 71, label="PER"),
        Span(doc, 73, 74, label="LOC"),
    )
    set_relations(
        doc, [Relation(h, city, label) for h, label in ((short, "a"), (short, "b"), (long, "a"))]
    )
    examples = [Example(Doc(nlp.vocab, words=words), doc)]
    initialize(nlp, examples)
    pipe.update(examples)
    assert +pipe.skipped == {"further_labels_of_a_pair": 1, "pairs_too_long": 1}
    assert pipe.loss_totals["relation_classifier"] > 0


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_skipped_by_extractive_qa(bert_checkpoint: Path) -> None:
    nlp, pipe = make_qa_nlp(bert_checkpoint)
    rows = [("Mary lives in London .", [("who", "who " * 40 + "?", "Mary")])]
    examples = make_qa_examples(nlp, rows)
    initialize(nlp, examples)
    pipe.update(examples)
    assert +pipe.skipped == {"questions_cut": 1}
    # Only training counts, prediction does not.
    pipe.ask("Mary lives in London .", "who " * 40)
    assert +pipe.skipped == {"questions_cut": 1}


def test_counts_and_losses_are_not_saved(bert_checkpoint: Path) -> None:
    nlp, pipe = make_nlp(bert_checkpoint)
    examples = make_examples(nlp)
    initialize(nlp, examples)
    before = pipe.to_bytes()
    pipe.update(examples)
    pipe.skipped["relations_without_entities"] += 1
    # Training counts its sentences for a warning at prediction, and saves them.
    assert pipe.to_bytes() != before
    pipe.cfg["sentences_seen"] = [0, 0]
    assert pipe.to_bytes() == before
