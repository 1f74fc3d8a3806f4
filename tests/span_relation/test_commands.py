"""spaCy's commands on a pipeline with the component."""

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
from typer.testing import CliRunner

from ..util import make_doc, write_docs
from .util import LABELS, ROWS, TEXTS, annotations_of, expected

CONFIG = """
[nlp]
lang = "en"
pipeline = ["span_relation"]

[components]

[components.span_relation]
factory = "span_relation"

[components.span_relation.model]
@architectures = "spacy-spanrel.SpERT.v1"

[components.span_relation.model.encoder]
@architectures = "spacy-spanrel.HFEncoder.v1"
name = "{checkpoint}"
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
    vocab = spacy.blank("en").vocab
    docs = [make_doc(vocab, *row) for row in ROWS]
    return write_docs(tmp_path_factory.mktemp("data") / "docs.spacy", docs)


@pytest.fixture(scope="module")
def config_path(
    checkpoint: Path, docs_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A short config, completed by `spacy init fill-config`."""
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
    settings = config["components"]["span_relation"]
    assert settings["relation_threshold"] == 0.4
    assert settings["model"]["encoder"]["window_overlap"] == 64
    assert config["training"]["score_weights"]["rel_strict_f"] == 0.5
    run_command("debug", "config", config_path)


def test_train(checkpoint: Path, docs_path: Path, tmp_path: Path) -> None:
    paths = {"paths.train": docs_path, "paths.dev": docs_path, "paths.encoder": checkpoint}
    config = spacy.util.load_config(
        Path(__file__).parents[2] / "configs" / "test" / "span_relation.cfg",
        overrides={key: str(path) for key, path in paths.items()},
    )
    nlp = init_nlp(config)
    with (tmp_path / "log").open("w") as log:
        train_loop(nlp, tmp_path, stdout=log)
    loaded = spacy.load(tmp_path / "model-last")
    assert loaded.get_pipe("span_relation").label_data["entities"] == LABELS["entities"]
    performance = loaded.meta["performance"]
    assert performance["span_relation_loss"] > 0
    assert {"ents_f", "rel_strict_f", "rel_per_type"} <= set(performance)
    assert "REL_S" in (tmp_path / "log").read_text()


def test_init_labels(config_path: Path, tmp_path: Path) -> None:
    run_command("init", "labels", config_path, tmp_path)
    labels = json.loads((tmp_path / "span_relation.json").read_text())
    assert {k: labels[k] for k in ("entities", "relations")} == LABELS
    config = spacy.util.load_config(
        config_path,
        overrides={
            "initialize.components.span_relation": {
                "labels": {
                    "@readers": "spacy.read_labels.v1",
                    "path": str(tmp_path / "span_relation.json"),
                }
            }
        },
    )
    pipe = init_nlp(config).get_pipe("span_relation")
    assert pipe.label_data == labels


def test_evaluate(trained_path: Path, docs_path: Path) -> None:
    scores = evaluate(str(trained_path), docs_path, silent=True)
    for name in ("ents_f", "rel_f", "rel_strict_f", "rel_macro_f"):
        assert scores[name] == 1.0
    assert scores["rel_per_type"]["works"]["f"] == 1.0


def test_find_threshold(trained_path: Path, docs_path: Path) -> None:
    best, score, scores = find_threshold(
        str(trained_path),
        docs_path,
        "span_relation",
        "relation_threshold",
        "rel_strict_f",
        n_trials=3,
    )
    assert best == 0.5
    assert score == 1.0
    # At 0, everything that the type constraints allow is a relation; at 1, nothing is.
    assert scores[0.0] < 1.0
    assert scores[1.0] == 0.0


def test_packaged_pipeline_requires_this_package(trained_path: Path, tmp_path: Path) -> None:
    # Installing the packaged pipeline installs this package, so that spaCy finds its factories.
    package(trained_path, tmp_path, name="tiny", version="1.0.0", create_sdist=False)
    folder = tmp_path / "en_tiny-1.0.0"
    meta = srsly.read_json(folder / "meta.json")
    names = [requirement.split(">")[0].split("=")[0] for requirement in meta["requirements"]]
    assert "spacy-spanrel" in names
    nlp = spacy.load(folder / "en_tiny" / "en_tiny-1.0.0")
    assert annotations_of(nlp(TEXTS[0])) == expected(ROWS[0])


@pytest.mark.slow
def test_wheel_in_a_clean_environment(trained_path: Path, tmp_path: Path) -> None:
    # Installs this package and the packaged pipeline from wheels; libraries come from this environment.
    root = Path(__file__).parents[2]
    package(trained_path, tmp_path, name="tiny", version="1.0.0", create_sdist=False)
    folder = tmp_path / "en_tiny-1.0.0"

    def run(*args: str | Path) -> str:
        result = subprocess.run(
            [str(arg) for arg in args], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr[-3000:]
        return result.stdout

    # Build from a copy, because the build leaves files beside the sources.
    copied = tmp_path / "source"
    shutil.copytree(root / "spacy_spanrel", copied / "spacy_spanrel")
    for name in ("pyproject.toml", "setup.py", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(root / name, copied)
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
        "import sys, spacy; nlp = spacy.load('en_tiny'); doc = nlp(sys.argv[1]);"
        "import spacy_spanrel; print(len(doc._.relations), spacy_spanrel.__file__)",
        TEXTS[0],
    ).split()
    assert printed[0] == "2"
    assert printed[1].startswith(site)
