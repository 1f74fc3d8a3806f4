from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import spacy
import srsly

from tests.cli import util

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


run, succeed = partial(util.run, "model-card"), partial(util.succeed, "model-card")


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
    succeed(
        saved / "model",
        *("-m", f"dev={saved / 'dev.json'}", "-m", f"test={saved / 'test.json'}"),
        *("--description", "Reads.", "--version", "1.2.4"),
    )
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


def test_card_with_the_score_of_semeval(saved: Path) -> None:
    (saved / "scores.json").write_text(json.dumps({"rel_f": 0.75, "rel_semeval_macro_f": 0.5}))
    succeed(saved / "model", "-m", f"test={saved / 'scores.json'}")
    lines = (saved / "model" / "README.md").read_text().splitlines()
    assert "| test | 75.00 | 50.00 |" in lines
    (header,) = (line for line in lines if line.startswith("| data |"))
    assert header.endswith("| mean over relations, both directions of a label together |")


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
        (["{tmp}/model", "-m", "test={tmp}/list.json"], "list.json': wrong kind of value"),
        (["{tmp}/model", "--name", "a b"], "choose one with --name"),
        (["{tmp}/model", "--version", "1`.0"], "choose one with --version"),
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
        result = succeed(*command)
    assert {path.name: path.read_bytes() for path in (saved / "model").glob("*.*")} == before
    assert (output / "README.md").exists()
    assert json.loads((output / "meta.json").read_text())["performance"] == SCORES
    assert (output / "config.cfg").read_bytes() == before["config.cfg"]


@pytest.mark.parametrize(
    "scores",
    [
        {"rel_f": "0.5"},
        {"rel_f": True},
        {"ents_f": [0.5]},
        {"rel_per_type": [["Kill", 0.5]]},
        {"rel_per_type": {"Kill": 0.5}},
        {"rel_per_type": {"Kill": {"p": "0.5"}}},
        {"ents_per_type": "none"},
    ],
)
def test_wrong_scores(saved: Path, scores: dict) -> None:
    (saved / "wrong.json").write_text(json.dumps(scores))
    result = run(saved / "model", "-m", f"test={saved / 'wrong.json'}")
    assert isinstance(result.exception, SystemExit)
    assert "E_SR604" in result.stderr
    assert next(iter(scores)) in result.stderr
    assert not (saved / "model" / "README.md").exists()


def test_scores_without_a_value(saved: Path) -> None:
    odd = '{"rel_f": NaN, "ents_f": null, "qa_f1": Infinity, "rel_per_type": {"A": {}}}'
    (saved / "odd.json").write_text(odd)
    succeed(saved / "model", "-m", f"test={saved / 'odd.json'}")
    assert "| A | - | - | - |" in (saved / "model" / "README.md").read_text()
    meta = json.loads((saved / "model" / "meta.json").read_text(), parse_constant=pytest.fail)
    assert meta["performance"]["rel_f"] is None


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("meta.json", "[]"),
        ("meta.json", "{}"),
        ("meta.json", '{"lang": "xx", "name": 7, "version": "1"}'),
        ("meta.json", '{"lang": "xx", "name": "<b>", "version": "1"}'),
        ("meta.json", '{"lang": "xx", "name": "a\\n```", "version": "1"}'),
        ("config.cfg", "no config"),
        ("config.cfg", ""),
        ("config.cfg", "[nlp]\npipeline = 7\n"),
        ("config.cfg", '[nlp]\npipeline = ["a"]\n'),
        ("config.cfg", '[nlp]\npipeline = ["a"]\n[components]\na = 7\n'),
        ("config.cfg", "[nlp]\npipeline = ${missing}\n"),
    ],
)
def test_wrong_pipelines(saved: Path, file: str, content: str) -> None:
    (saved / "model" / file).write_text(content)
    result = run(saved / "model")
    assert isinstance(result.exception, SystemExit)
    assert "E_SR60" in result.stderr
    assert not (saved / "model" / "README.md").exists()


@pytest.mark.parametrize(
    "labels",
    [["finder"], {"finder": 7}, {"finder": [1, None, ["a"]]}, {"finder": {"relations": None}}],
)
def test_labels_of_any_kind(saved: Path, labels: object) -> None:
    meta = srsly.read_json(saved / "model" / "meta.json")
    srsly.write_json(saved / "model" / "meta.json", {**meta, "labels": labels})
    assert run(saved / "model").exit_code == 0


def test_sections_of_any_kind(saved: Path) -> None:
    config = saved / "model" / "config.cfg"
    text = config.read_text().replace("[components.finder.model]", "[components.finder.other]")
    text = text.replace("[components.finder.model.encoder]", "[components.finder.other.encoder]")
    config.write_text(f"{text}\n")
    assert run(saved / "model").exit_code == 0


def test_nothing_in_the_files_is_markup(saved: Path) -> None:
    nasty = "<img src=x onerror=y> [a](javascript:b) `c` **d** _e_ | f\n# g"
    meta = srsly.read_json(saved / "model" / "meta.json")
    meta |= {"description": f"- {nasty}\n\n1. two", "author": nasty, "license": nasty}
    meta["labels"] = {"finder": {nasty: [nasty, "a``b"]}}
    srsly.write_json(saved / "model" / "meta.json", meta)
    scores = {"rel_f": 0.5, "rel_per_type": {nasty: {"p": 1.0}}}
    (saved / "scores.json").write_text(json.dumps(scores))
    result = run(saved / "model", "-m", f"{nasty}={saved / 'scores.json'}", "-T", nasty)
    assert result.exit_code == 1  # the name of the data ends at its first "="
    result = succeed(saved / "model", "-m", f"<i>*a*={saved / 'scores.json'}", "-T", nasty)
    lines = (saved / "model" / "README.md").read_text().splitlines()
    escaped = (
        "&lt;img src=x onerror=y&gt; \\[a\\](javascript:b) \\`c\\` \\*\\*d\\*\\* \\_e\\_ \\| f # g"
    )
    plain = nasty.replace("\n", " ")
    for line in (
        f"# {escaped}",
        f"\\- {escaped}",
        "1\\. two",
        f"| Author | {escaped} |",
        f"- {escaped}: `` {plain} ``, ``` a``b ```",
        f"| {escaped} | 100.00 | - | - |",
        "Relations by label, &lt;i&gt;\\*a\\*:",
    ):
        assert line in lines, (line, lines)
    assert [line for line in lines if line.startswith("# ")] == [f"# {escaped}"]


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("bert-base-cased", "bert-base-cased"),
        ("some/encoder", "some/encoder"),
        ("/home/ada/secret/bert", "bert"),
        ("../models/bert/", "bert"),
        ("~/bert", "bert"),
        ("C:\\Users\\ada\\bert", "bert"),
        (None, "-"),
    ],
)
def test_only_the_name_of_a_checkpoint_is_published(
    saved: Path, name: str | None, published: str
) -> None:
    config = spacy.util.load_config(saved / "model" / "config.cfg")
    config["components"]["finder"]["model"]["encoder"]["name"] = name
    config.to_disk(saved / "model" / "config.cfg")
    assert run(saved / "model").exit_code == 0
    assert f"| encoder | {published} |" in (saved / "model" / "README.md").read_text().splitlines()


@pytest.mark.parametrize("output", ["model/copy", "model", ".", "file", "test.json"])
def test_outputs_that_would_destroy_something(saved: Path, output: str) -> None:
    (saved / "file").write_text("mine")
    before = {path: path.is_file() and path.read_bytes() for path in saved.rglob("*")}
    arguments = ("-m", f"test={saved / 'test.json'}", "--output", saved / output)
    result = run(saved / "model", *arguments)
    assert isinstance(result.exception, SystemExit)
    assert "E_SR95" in result.stderr
    assert {path: path.is_file() and path.read_bytes() for path in saved.rglob("*")} == before


def test_metrics_are_not_overwritten(saved: Path) -> None:
    meta = (saved / "model" / "meta.json").read_bytes()
    result = run(saved / "model", "-m", f"test={saved / 'model' / 'meta.json'}")
    assert "E_SR951" in result.stderr
    assert (saved / "model" / "meta.json").read_bytes() == meta
