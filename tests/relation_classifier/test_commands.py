"""spaCy's own commands on a pipeline with the component."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
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
from thinc.api import Config
from typer.testing import CliRunner

from ..util import write_docs
from .conftest import LABELS, N_PAIRS, NEGATIVE, ROWS, TEXTS, TYPES, expected, found, gold_docs

ROOT = Path(__file__).parents[2]
TEST_CONFIG = ROOT / "configs" / "test" / "relation_classifier.cfg"
CONFIGS = [*sorted((ROOT / "configs").glob("relation_classifier*.cfg")), TEST_CONFIG]
CONFIG = """
[nlp]
lang = "en"
pipeline = ["relation_classifier"]

[components]

[components.relation_classifier]
factory = "relation_classifier"

[components.relation_classifier.model]
@architectures = "spacy-spanrel.PairClassifier.v1"
name = "{checkpoint}"
max_length = "auto"
device = "cpu"

[corpora]

[corpora.train]
@readers = "spacy-spanrel.Corpus.v1"
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
    docs = gold_docs(spacy.blank("xx"))
    return write_docs(tmp_path_factory.mktemp("data") / "docs.spacy", docs)


@pytest.fixture(scope="module")
def config_path(
    checkpoint: Path, docs_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A short config that `spacy init fill-config` has completed."""
    folder = tmp_path_factory.mktemp("config")
    (folder / "base.cfg").write_text(CONFIG.format(checkpoint=checkpoint, docs=docs_path))
    run_command("init", "fill-config", folder / "base.cfg", folder / "config.cfg")
    return folder / "config.cfg"


def run_command(*args: str | Path) -> str:
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_fill_config(config_path: Path) -> None:
    config = spacy.util.load_config(config_path)
    settings = config["components"]["relation_classifier"]
    assert settings["type_constraints"] == "learned"
    assert settings["pairs"]["scope"] == "sentence"
    assert settings["model"]["head_dropout"] == 0.1
    assert config["training"]["score_weights"]["rel_f"] == 1.0
    run_command("debug", "config", config_path)


@pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_configs_have_every_setting(path: Path, tmp_path: Path) -> None:
    # spaCy refuses null as the name of a checkpoint.
    text = path.read_text().replace("encoder = null", 'encoder = "bert"')
    (tmp_path / "config.cfg").write_text(text)
    run_command("init", "fill-config", tmp_path / "config.cfg", tmp_path / "filled.cfg")
    filled, original = (
        Config().from_disk(tmp_path / f"{name}.cfg", interpolate=False)
        for name in ("filled", "config")
    )
    # spaCy's own word vectors, which nothing here uses, may be missing.
    filled["nlp"].pop("vectors")
    for name in ("vectors", "init_tok2vec"):
        filled["paths"].pop(name)
    assert filled == original


def test_train(checkpoint: Path, docs_path: Path, tmp_path: Path) -> None:
    paths = {"paths.train": docs_path, "paths.dev": docs_path, "paths.encoder": checkpoint}
    config = spacy.util.load_config(
        TEST_CONFIG, overrides={key: str(path) for key, path in paths.items()}
    )
    nlp = init_nlp(config)
    before = nlp.get_pipe("relation_classifier").to_bytes()
    with (tmp_path / "log").open("w") as log:
        train_loop(nlp, tmp_path, stdout=log)
    assert nlp.get_pipe("relation_classifier").to_bytes() != before
    loaded = spacy.load(tmp_path / "model-last")
    assert loaded.get_pipe("relation_classifier").labels == tuple(LABELS)
    performance = loaded.meta["performance"]
    assert performance["relation_classifier_loss"] > 0
    assert {"rel_f", "rel_macro_f", "rel_per_type", "rel_confusions"} <= set(performance)
    assert "REL_F" in (tmp_path / "log").read_text()
    # The gold pairs were scored, although no component predicts entities.
    wrong = sum(row["count"] for row in performance["rel_confusions"])
    assert 0 < wrong <= N_PAIRS
    assert spacy.load(tmp_path / "model-best").meta["performance"]["rel_f"] is not None


def test_train_command(checkpoint: Path, docs_path: Path, tmp_path: Path) -> None:
    """`spacy train` in a process of its own, with a ruler that annotates while the classifier learns."""
    nlp = spacy.blank("en")
    patterns = [
        {"label": label, "pattern": text.split()[start]}
        for text, entities, _ in ROWS
        for start, _, label in entities
    ]
    nlp.add_pipe("entity_ruler").add_patterns(patterns)
    nlp.to_disk(tmp_path / "ruler")
    config = Config().from_disk(TEST_CONFIG, interpolate=False)
    config["nlp"]["pipeline"] = ["entity_ruler", "relation_classifier"]
    config["components"]["entity_ruler"] = {"source": str(tmp_path / "ruler")}
    config["components"]["relation_classifier"]["train_pairs"] = "predicted"
    config["components"]["relation_classifier"]["score_pairs"] = "predicted"
    config["training"]["frozen_components"] = ["entity_ruler"]
    config["training"]["annotating_components"] = ["entity_ruler"]
    config["training"]["max_steps"] = 1
    config["training"]["eval_frequency"] = 1
    config.to_disk(tmp_path / "config.cfg")
    overrides = ["--paths.train", docs_path, "--paths.dev", docs_path]
    overrides += ["--paths.encoder", checkpoint]
    run_command("train", tmp_path / "config.cfg", "--output", tmp_path / "out", *overrides)
    performance = spacy.load(tmp_path / "out" / "model-last").meta["performance"]
    assert performance["relation_classifier_loss"] > 0


def test_init_labels(config_path: Path, tmp_path: Path) -> None:
    run_command("init", "labels", config_path, tmp_path)
    labels = json.loads((tmp_path / "relation_classifier.json").read_text())
    assert labels["labels"] == LABELS
    assert labels["head_types"] == labels["tail_types"] == TYPES
    config = spacy.util.load_config(
        config_path,
        overrides={
            "initialize.components.relation_classifier": {
                "labels": {
                    "@readers": "spacy.read_labels.v1",
                    "path": str(tmp_path / "relation_classifier.json"),
                }
            }
        },
    )
    pipe = init_nlp(config).get_pipe("relation_classifier")
    assert pipe.label_data == labels


def test_labels_given_in_the_config(config_path: Path) -> None:
    labels = {"labels": ["visits", *LABELS]}
    config = spacy.util.load_config(
        config_path, overrides={"initialize.components.relation_classifier": {"labels": labels}}
    )
    assert init_nlp(config).get_pipe("relation_classifier").labels == ("visits", *LABELS)


def test_evaluate(trained_path: Path, docs_path: Path, tmp_path: Path) -> None:
    scores = evaluate(str(trained_path), docs_path, silent=True)
    for name in ("rel_p", "rel_r", "rel_f", "rel_macro_f"):
        assert scores[name] == 1.0
    assert scores["rel_per_type"]["works"]["f"] == 1.0
    assert NEGATIVE not in scores["rel_per_type"]
    # Without entities: the labels of the gold pairs.
    override = {"components": {"relation_classifier": {"score_pairs": "gold"}}}
    nlp = spacy.load(trained_path, config=override, exclude=["entity_ruler"])
    nlp.to_disk(tmp_path / "pipeline")
    run_command("evaluate", tmp_path / "pipeline", docs_path, "--output", tmp_path / "scores.json")
    saved = srsly.read_json(tmp_path / "scores.json")
    assert (saved["rel_f"], saved["rel_confusions"]) == (1.0, [])
    assert evaluate(str(tmp_path / "pipeline"), docs_path, silent=True)["rel_f"] == 1.0


def test_find_threshold(trained_path: Path, docs_path: Path) -> None:
    best, score, scores = find_threshold(
        str(trained_path), docs_path, "relation_classifier", "threshold", "rel_f", n_trials=3
    )
    assert (best, score) == (0.0, 1.0)
    assert scores[0.5] == 1.0
    # Above all probabilities there is no relation.
    assert scores[1.0] == 0.0


def test_package_requires_us(trained_path: Path, tmp_path: Path) -> None:
    # The packaged pipeline requires this package, so its factories are found after installation.
    package(trained_path, tmp_path, name="tiny", version="1.0.0", create_sdist=False)
    folder = tmp_path / "xx_tiny-1.0.0"
    meta = srsly.read_json(folder / "meta.json")
    names = [requirement.split(">")[0].split("=")[0] for requirement in meta["requirements"]]
    assert "spacy-spanrel" in names
    assert meta["labels"]["relation_classifier"] == LABELS
    nlp = spacy.load(folder / "xx_tiny" / "xx_tiny-1.0.0")
    assert found(nlp(TEXTS[0])) == expected(ROWS[0])


@pytest.mark.slow
def test_wheel_in_a_clean_environment(trained_path: Path, tmp_path: Path) -> None:
    # Our package and the pipeline's as wheels; the libraries are those of this environment.
    package(trained_path, tmp_path, name="tiny", version="1.0.0", create_sdist=False)
    folder = tmp_path / "xx_tiny-1.0.0"

    def run(*args: str | Path) -> str:
        result = subprocess.run(
            [str(arg) for arg in args], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr[-3000:]
        return result.stdout

    # Build a copy, because the build leaves files beside the sources.
    copied = tmp_path / "source"
    shutil.copytree(ROOT / "spacy_spanrel", copied / "spacy_spanrel")
    for name in ("pyproject.toml", "setup.py", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copied)
    for source in (copied, folder):
        wheel = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
        run(*wheel, "-w", tmp_path / "wheels", source)
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    wheels = sorted((tmp_path / "wheels").glob("*.whl"))
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", *wheels)
    site = run(python, "-c", "import site; print(site.getsitepackages()[0])").strip()
    libraries = Path(spacy.__file__).parents[1]
    (Path(site) / "libraries.pth").write_text(str(libraries))
    printed = run(
        python,
        "-c",
        "import sys, spacy; nlp = spacy.load('xx_tiny'); doc = nlp(sys.argv[1]);"
        "import spacy_spanrel; print(len(doc._.relations), spacy_spanrel.__file__)",
        TEXTS[0],
    ).split()
    assert printed[0] == "2"
    assert printed[1].startswith(site)
