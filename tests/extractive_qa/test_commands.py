"""spaCy's own commands on a pipeline with the component."""

from __future__ import annotations

from pathlib import Path

import pytest
import spacy
import srsly
from spacy.cli._util import app
from spacy.cli.evaluate import evaluate
from spacy.cli.find_threshold import find_threshold
from spacy.cli.package import package
from spacy.training.initialize import init_nlp
from spacy.training.loop import train as train_loop
from typer.testing import CliRunner

from ..util import write_docs
from .util import N_QUESTIONS, ROWS, answer_all, expected, found, gold_doc

SCORER = {"@scorers": "spacy-spanrel.qa_scorer.v1"}
TEST_CONFIG = Path(__file__).parents[2] / "configs" / "test" / "extractive_qa.cfg"
CONFIG = """
[nlp]
lang = "en"
pipeline = ["extractive_qa"]

[components]

[components.extractive_qa]
factory = "extractive_qa"

[components.extractive_qa.model]
@architectures = "spacy-spanrel.SpanQA.v1"
name = "{checkpoint}"
max_length = 64
doc_stride = 16
max_question_length = 24
device = "cpu"

[corpora]

[corpora.train]
@readers = "spacy-spanrel.QuestionCorpus.v1"
path = "{docs}"

[corpora.dev]
@readers = "spacy-spanrel.Corpus.v1"
path = "{docs}"

[training]
train_corpus = "corpora.train"
dev_corpus = "corpora.dev"
max_steps = 3
eval_frequency = 2

[training.optimizer]
@optimizers = "spacy-spanrel.AdamW.v1"
learn_rate = 0.001
"""


@pytest.fixture(scope="module")
def docs_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    nlp = spacy.blank("en")
    docs = [gold_doc(nlp, row) for row in ROWS]
    return write_docs(tmp_path_factory.mktemp("data") / "docs.spacy", docs)


@pytest.fixture(scope="module")
def scored_path(trained_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained pipeline with the scorer."""
    path = tmp_path_factory.mktemp("scored") / "pipeline"
    config = {"components": {"extractive_qa": {"scorer": SCORER}}}
    spacy.load(trained_path, config=config).to_disk(path)
    return path


def run_command(*args: str | Path) -> str:
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_fill_config(checkpoint: Path, docs_path: Path, tmp_path: Path) -> None:
    (tmp_path / "base.cfg").write_text(CONFIG.format(checkpoint=checkpoint, docs=docs_path))
    run_command("init", "fill-config", tmp_path / "base.cfg", tmp_path / "config.cfg")
    config = spacy.util.load_config(tmp_path / "config.cfg")
    settings = config["components"]["extractive_qa"]
    assert settings["max_answer_length"] == 30
    assert settings["questions"] == []
    assert settings["scorer"] == SCORER
    assert settings["model"]["batch_pieces"] == "auto"
    assert config["training"]["score_weights"]["qa_f1"] == 0.5
    run_command("debug", "config", tmp_path / "config.cfg")


def test_the_config_of_tests_is_complete() -> None:
    """`spacy init fill-config` has nothing to add, so that `spacy train` accepts the config."""
    config = spacy.util.load_config(TEST_CONFIG, overrides={"paths.encoder": "some/bert"})
    nlp = spacy.util.load_model_from_config(config, auto_fill=True)
    filled = nlp.config.interpolate()["components"]["extractive_qa"]
    assert config.interpolate()["components"]["extractive_qa"] == filled
    # In training an Example has one question; in evaluation a Doc has all of its questions.
    assert config["corpora"]["train"]["@readers"] == "spacy-spanrel.QuestionCorpus.v1"
    assert config["corpora"]["dev"]["@readers"] == "spacy-spanrel.Corpus.v1"


def test_train(bert_checkpoint: Path, docs_path: Path, tmp_path: Path) -> None:
    paths = {"paths.train": docs_path, "paths.dev": docs_path, "paths.encoder": bert_checkpoint}
    config = spacy.util.load_config(
        TEST_CONFIG, overrides={key: str(path) for key, path in paths.items()}
    )
    nlp = init_nlp(config)
    before = nlp.get_pipe("extractive_qa").to_bytes()
    with (tmp_path / "log").open("w") as log:
        train_loop(nlp, tmp_path, stdout=log)
    loaded = spacy.load(tmp_path / "model-last")
    pipe = loaded.get_pipe("extractive_qa")
    assert pipe.to_bytes() != before
    performance = loaded.meta["performance"]
    assert performance["extractive_qa_loss"] > 0
    # Evaluation asks the gold questions: the inputs have none.
    assert {"qa_exact", "qa_f1", "qa_no_ans_f1", "qa_best_f1"} <= set(performance)
    assert performance["qa_f1"] is not None
    assert "QA_F1" in (tmp_path / "log").read_text()
    assert len(pipe.ask(ROWS[0][0], ["who ?", "where ?"])) == 2


def test_question_corpus_gives_single_questions(docs_path: Path) -> None:
    config = spacy.util.load_config(
        TEST_CONFIG, overrides={"paths.train": str(docs_path), "paths.dev": str(docs_path)}
    )
    corpora = spacy.registry.resolve({"corpora": config.interpolate()["corpora"]})["corpora"]
    nlp = spacy.blank("en")
    examples = list(corpora["train"](nlp))
    assert len(examples) == N_QUESTIONS
    assert all(len(example.predicted._.questions) == 1 for example in examples)
    assert all(example.predicted._.answers == () for example in examples)
    assert all(not example.predicted._.questions for example in corpora["dev"](nlp))


def test_evaluate(scored_path: Path, docs_path: Path) -> None:
    # `spacy evaluate` scores the same predictions as a program would.
    scores = evaluate(str(scored_path), docs_path, silent=True)
    for name in ("qa_exact", "qa_f1", "qa_has_ans_f1", "qa_no_ans_exact", "qa_best_f1"):
        assert scores[name] == 1.0, name


def test_find_threshold(scored_path: Path, docs_path: Path) -> None:
    best, score, scores = find_threshold(
        str(scored_path), docs_path, "extractive_qa", "null_threshold", "qa_exact", n_trials=2
    )
    assert set(scores) == {0.0, 1.0}
    assert score == scores[best] == 1.0


def test_package_requires_us(scored_path: Path, tmp_path: Path) -> None:
    # The packaged pipeline requires this package, and its factories are found.
    package(scored_path, tmp_path, name="tiny", version="1.0.0", create_sdist=False)
    folder = tmp_path / "en_tiny-1.0.0"
    meta = srsly.read_json(folder / "meta.json")
    names = [requirement.split(">")[0].split("=")[0] for requirement in meta["requirements"]]
    assert "spacy-spanrel" in names
    nlp = spacy.load(folder / "en_tiny" / "en_tiny-1.0.0")
    assert [found(doc) for doc in answer_all(nlp)] == [expected(row) for row in ROWS]
