"""spaCy's own commands, unchanged, on a pipeline with each component."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import spacy
import torch
from spacy.cli._util import app
from spacy.cli.find_threshold import find_threshold
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Corpus
from thinc.api import Config
from typer.testing import CliRunner

from spacy_spanrel.encoding.shim import torch_shims
from spacy_spanrel.pipe import TorchPipe

from ..encoders.util import ROWS, SETTINGS, gold_doc, predictions
from ..util import write_docs
from .conftest import THRESHOLDS, Trained

ROOT = Path(__file__).parents[2]
# All but the one that goes on from a trained pipeline.
CONFIGS = [
    path
    for path in sorted((ROOT / "configs").rglob("*.cfg"))
    if path.stem != "extractive_qa_continue"
]
# Settings with which all scores can be computed, and a threshold has an effect.
SCORED = {
    "span_relation": {"scorer": {"@scorers": "spacy-spanrel.relation_scorer.v1"}},
    "relation_classifier": {"scorer": {"@scorers": "spacy-spanrel.pair_scorer.v1"}},
    "described": {"scorer": {"@scorers": "spacy-spanrel.pair_scorer.v1"}},
    "extractive_qa": {"scorer": {"@scorers": "spacy-spanrel.qa_scorer.v1"}, "no_answer": True},
}
# Settings with which a component learns from what earlier components predicted.
PREDICTED = {
    "span_relation": {"entities": "doc"},
    "relation_classifier": {"train_pairs": "predicted"},
    "described": {"train_pairs": "predicted"},
    "extractive_qa": {},
}


# The rows that spaCy tokenizes as they are.
SPACED = [row for row in ROWS if row.spaced]


@Language.component("spanrel_test_inputs")
def give_inputs(doc: Doc) -> Doc:
    """Annotate the text of a row with its entities and questions."""
    (row,) = [row for row in SPACED if row.text == doc.text]
    doc.set_ents([Span(doc, start, end, label=label) for start, end, label in row.entities])
    doc._.questions = [(str(i), text) for i, (text, _) in enumerate(row.questions)]
    return doc


def weights_of(pipe: TorchPipe) -> list[torch.Tensor]:
    shims = torch_shims(pipe.model)
    return [p.detach().clone() for shim in shims for p in shim.module.parameters()]


def run_command(*args: str | Path) -> str:
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


@pytest.fixture(scope="module")
def docs_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gold Docs with all annotations."""
    nlp = spacy.blank("xx")
    return write_docs(
        tmp_path_factory.mktemp("data") / "docs.spacy", [gold_doc(nlp, row) for row in SPACED]
    )


@pytest.fixture
def scored_path(trained: Trained, component: str, tmp_path: Path) -> Path:
    """The trained component behind one that gives it its inputs, with its scorer."""
    nlp = spacy.load(trained.path, config={"components": {component: SCORED[component]}})
    nlp.add_pipe("spanrel_test_inputs", first=True)
    nlp.to_disk(tmp_path / "scored")
    return tmp_path / "scored"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_configs_have_every_setting(path: Path, tmp_path: Path) -> None:
    """`spacy init fill-config` has nothing to add, so that `spacy train` accepts the config."""
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


def test_train(
    component: str,
    trained: Trained,
    folder: Path,
    docs_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A component learns behind frozen ones that annotate, one of them of the same factory. The
    average of its weights over the steps is saved."""
    config = Config().from_disk(ROOT / "configs/test" / f"{component}.cfg", interpolate=False)
    others = ["inputs", "frozen"]
    config["nlp"] |= {"lang": "xx", "pipeline": [*others, component]}
    config["components"]["inputs"] = {"factory": "spanrel_test_inputs"}
    config["components"]["frozen"] = {"source": str(trained.path), "component": component}
    keys = {key: SETTINGS[component].get(key) for key in ("relations_key", "extension_prefix")}
    settings = {**{k: v for k, v in keys.items() if v is not None}, **PREDICTED[component]}
    config["components"][component] |= settings
    config["training"] |= {"frozen_components": others, "annotating_components": others}
    config["training"] |= {"max_steps": 2, "eval_frequency": 1}
    config["training"]["optimizer"]["average_decay"] = 0.9
    after_steps: list[list[Any]] = []

    def finish_update(self: TorchPipe, sgd: Any, original: Any = TorchPipe.finish_update) -> None:
        original(self, sgd)
        after_steps.append(weights_of(self))

    monkeypatch.setattr(TorchPipe, "finish_update", finish_update)
    config.to_disk(tmp_path / "config.cfg")
    paths = ["--paths.train", docs_path, "--paths.dev", docs_path, "--paths.encoder", folder]
    printed = run_command("train", tmp_path / "config.cfg", "--output", tmp_path / "out", *paths)
    columns = {"span_relation": "REL_S", "extractive_qa": "QA_F1"}
    assert columns.get(component, "REL_F") in printed

    nlp = spacy.load(tmp_path / "out" / "model-last")
    frozen, before = nlp.get_pipe("frozen"), trained.nlp.get_pipe(component)
    assert frozen.model.to_bytes() == before.model.to_bytes()
    averages = after_steps[0]
    for t, weights in enumerate(after_steps[1:], start=2):
        averages = [a.lerp(w, 9 / (10 + t)) for a, w in zip(averages, weights, strict=True)]
    for average, saved in zip(averages, weights_of(nlp.get_pipe(component)), strict=True):
        torch.testing.assert_close(saved, average)
    assert not all(map(torch.equal, averages, after_steps[-1]))
    performance = nlp.meta["performance"]
    assert performance[f"{component}_loss"] > 0
    assert "frozen_loss" not in performance
    assert set(nlp.get_pipe_meta(component).default_score_weights) <= set(performance)
    assert (tmp_path / "out" / "model-best").is_dir()


def test_evaluate(component: str, scored_path: Path, docs_path: Path, tmp_path: Path) -> None:
    output = tmp_path / "scores.json"
    run_command("evaluate", scored_path, docs_path, "--output", output)
    scores = json.loads(output.read_text())
    nlp = spacy.load(scored_path)
    expected = nlp.evaluate(list(Corpus(docs_path)(nlp)))
    weights = nlp.get_pipe_meta(component).default_score_weights
    # The command rounds, and some weights are those of tables.
    expected = {k: v for k, v in expected.items() if k in weights and isinstance(v, float)}
    assert len(expected) > 2
    assert {name: scores[name] for name in expected} == pytest.approx(expected)


def test_find_threshold(component: str, scored_path: Path, docs_path: Path) -> None:
    key, name = THRESHOLDS[component]
    best, score, scores = find_threshold(
        str(scored_path), docs_path, component, key, name, n_trials=3
    )
    assert score == scores[best] == max(scores.values())
    expected = {}
    for threshold in (0.0, 0.5, 1.0):
        nlp = spacy.load(scored_path, config={f"components.{component}.{key}": threshold})
        expected[threshold] = nlp.evaluate(list(Corpus(docs_path)(nlp)))[name]
    assert scores == expected


def test_packaged_pipeline_requires_this_package(trained: Trained, tmp_path: Path) -> None:
    """Installing the packaged pipeline installs this package, so that spaCy finds its factories."""
    folder = packaged(trained, tmp_path)
    meta = json.loads((folder / "meta.json").read_text())
    names = [requirement.split(">")[0].split("=")[0] for requirement in meta["requirements"]]
    assert "spacy-spanrel" in names
    assert predictions(spacy.load(folder / "xx_tiny" / "xx_tiny-1.0.0")) == trained.predictions


def packaged(trained: Trained, output: Path) -> Path:
    """Make the sources of a Python package of the pipeline, and return their folder."""
    run_command(
        "package", trained.path, output, "--name", "tiny", "--version", "1.0.0", "--build", "none"
    )
    return output / "xx_tiny-1.0.0"


@pytest.mark.slow
def test_wheel_in_a_clean_environment(all_trained: dict[str, Trained], tmp_path: Path) -> None:
    """This package and a packaged pipeline work when they are installed from wheels. The libraries
    are those of this environment."""

    def run(*args: str | Path) -> str:
        result = subprocess.run(
            [str(arg) for arg in args], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr[-3000:]
        return result.stdout

    pipeline = packaged(all_trained["span_relation"], tmp_path)
    # Build from a copy, because the build leaves files beside the sources.
    copied = tmp_path / "source"
    shutil.copytree(ROOT / "spacy_spanrel", copied / "spacy_spanrel")
    for name in ("pyproject.toml", "setup.py", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copied)
    for source in (copied, pipeline):
        wheel = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
        run(*wheel, "-w", tmp_path / "wheels", source)
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    wheels = sorted((tmp_path / "wheels").glob("*.whl"))
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", *wheels)
    site = run(python, "-c", "import site; print(site.getsitepackages()[0])").strip()
    libraries = Path(spacy.__file__).parents[1]
    (Path(site) / "libraries.pth").write_text(str(libraries))
    program = (
        "import sys, spacy; nlp = spacy.load('xx_tiny'); doc = nlp(sys.argv[1]);"
        "import spacy_spanrel; print(len(doc._.relations), spacy_spanrel.__file__)"
    )
    n_relations, package = run(python, "-I", "-c", program, ROWS[0].text).split()
    assert int(n_relations) > 0
    assert package.startswith(site)
