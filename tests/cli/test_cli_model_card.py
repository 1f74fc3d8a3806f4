from __future__ import annotations

import json
from pathlib import Path

import pytest
import spacy
import srsly
from typer.testing import CliRunner

from spacy_spanrel.cli import app

SCORES = {
    "ents_f": 0.9,
    "rel_f": 0.75,
    "rel_strict_f": 0.5,
    "rel_per_type": {
        "Work|For": {"p": 1.0, "r": 0.5, "f": 0.66667},
        "Kill": {"p": 0, "r": 0, "f": 0},
    },
    "speed": 123.0,
}


def run(*args: object):
    return CliRunner().invoke(app, ["model-card", *map(str, args)])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    nlp = spacy.blank("xx", meta={"name": "reader", "version": "1.2.3", "license": "MIT"})
    nlp.add_pipe("sentencizer")
    nlp.to_disk(tmp_path / "model")
    # The settings of a component without its weights, which the card does not read.
    config = spacy.util.load_config(tmp_path / "model" / "config.cfg")
    config["nlp"]["pipeline"] = ["sentencizer", "finder", "qa"]
    config["components"]["finder"] = {
        "factory": "span_relation",
        "relation_threshold": 0.4,
        "model": {"encoder": {"name": "some/encoder", "precision": "auto"}},
    }
    config["components"]["qa"] = {"factory": "extractive_qa", "model": {"name": "some/reader"}}
    config.to_disk(tmp_path / "model" / "config.cfg")
    meta = srsly.read_json(tmp_path / "model" / "meta.json")
    meta["labels"]["finder"] = {"entities": ["A", "B"], "relations": ["Work|For"]}
    srsly.write_json(tmp_path / "model" / "meta.json", meta)
    (tmp_path / "test.json").write_text(json.dumps(SCORES))
    srsly.write_json(tmp_path / "dev.json", {**SCORES, "rel_f": 0.8125, "ents_f": None})
    return tmp_path


def test_card(saved: Path) -> None:
    result = run(
        saved / "model",
        *("-m", f"dev={saved / 'dev.json'}", "-m", f"test={saved / 'test.json'}"),
        *("--description", "Reads.", "--version", "1.2.4"),
    )
    assert result.exit_code == 0, result.output
    card = (saved / "model" / "README.md").read_text()
    for line in (
        "# xx_reader",
        "Reads.",
        'nlp = spacy.load("xx_reader")',
        "| Version | 1.2.4 |",
        "| Licence | MIT |",
        "| Pipeline | sentencizer, finder, qa |",
        "| encoder | some/encoder |",
        "| relation_threshold | 0.4 |",
        "- entities: `A`, `B`",
        'qa = nlp.get_pipe("qa")',
        "| dev | - | 81.25 | 50.00 |",
        "| test | 90.00 | 75.00 | 50.00 |",
        "| Work\\|For | 100.00 | 50.00 | 66.67 |",
    ):
        assert line in card.splitlines(), (line, card)
    meta = json.loads((saved / "model" / "meta.json").read_text())
    assert meta["description"] == "Reads."
    assert meta["license"] == "MIT"
    assert meta["performance"] == SCORES


def test_card_without_scores_keeps_what_training_found(saved: Path) -> None:
    meta = srsly.read_json(saved / "model" / "meta.json")
    srsly.write_json(saved / "model" / "meta.json", {**meta, "performance": {"rel_f": 0.25}})
    assert run(saved / "model", "--title", "Mine", "--license", "CC0").exit_code == 0
    card = (saved / "model" / "README.md").read_text()
    assert card.startswith("# Mine\n")
    assert "## Results" not in card
    meta = srsly.read_json(saved / "model" / "meta.json")
    assert (meta["license"], meta["performance"]) == ("CC0", {"rel_f": 0.25})


def test_spacy_package_takes_it(saved: Path) -> None:
    from spacy.cli.package import package

    nlp = spacy.blank("en", meta={"name": "plain"})
    nlp.to_disk(saved / "plain")
    named = ("--name", "simple", "--version", "2.0.1")
    assert run(saved / "plain", "-m", f"test={saved / 'test.json'}", *named).exit_code == 0
    (saved / "packages").mkdir()
    package(saved / "plain", saved / "packages", create_sdist=False)
    made = (saved / "packages" / "en_simple-2.0.1" / "README.md").read_text()
    assert made == (saved / "plain" / "README.md").read_text()
    assert 'spacy.load("en_simple")' in made


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/nowhere"], "the folder of a saved pipeline"),
        (["{tmp}/model", "-m", "test"], "NAME=FILE"),
        (["{tmp}/model", "-m", "test={tmp}/nowhere.json"], "nowhere.json"),
        (["{tmp}/model", "-m", "test={tmp}/broken.json"], "broken.json"),
        (["{tmp}/model", "-m", "test={tmp}/list.json"], "a JSON object of scores"),
    ],
)
def test_wrong_arguments(saved: Path, arguments: list[str], message: str) -> None:
    (saved / "broken.json").write_text("{")
    (saved / "list.json").write_text("[]")
    before = (saved / "model" / "meta.json").read_bytes()
    result = run(*(argument.format(tmp=saved) for argument in arguments))
    assert result.exit_code == 1
    assert message in " ".join(result.stderr.split())
    assert not (saved / "model" / "README.md").exists()
    assert (saved / "model" / "meta.json").read_bytes() == before


def test_a_copy_leaves_the_model_alone(saved: Path) -> None:
    before = {path.name: path.read_bytes() for path in (saved / "model").glob("*.*")}
    (saved / "release").mkdir()
    (saved / "release" / "mine.txt").touch()
    output = saved / "release"
    command = (saved / "model", "-m", f"test={saved / 'test.json'}", "--output", output)
    result = run(*command)
    assert result.exit_code == 1
    assert "E_SR641" in result.output
    assert [path.name for path in output.iterdir()] == ["mine.txt"]
    (output / "mine.txt").unlink()
    for _ in range(2):
        result = run(*command)
        assert result.exit_code == 0, result.output
    assert {path.name: path.read_bytes() for path in (saved / "model").glob("*.*")} == before
    assert (output / "README.md").exists()
    assert json.loads((output / "meta.json").read_text())["performance"] == SCORES
    assert (output / "config.cfg").read_bytes() == before["config.cfg"]
