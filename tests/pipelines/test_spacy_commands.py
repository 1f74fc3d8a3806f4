"""spaCy's commands on pipelines and configs with all components."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import spacy
import torch
from spacy.cli._util import app
from spacy.language import Language
from spacy.tokens import DocBin
from spacy.training.initialize import init_nlp
from spacy.util import load_config
from typer.testing import CliRunner

from ..extractive_qa.util import ROWS as QA_ROWS
from ..extractive_qa.util import gold_doc
from ..relation_classifier.conftest import ROWS, TEXTS, with_negatives
from ..util import make_doc, write_docs
from .conftest import NAMES, annotations, gold

SHORT = """
[paths]
encoder = null
docs = null

[nlp]
lang = "xx"
pipeline = ["span_relation", "relation_classifier", "extractive_qa"]

[components]

[components.span_relation]
factory = "span_relation"

[components.relation_classifier]
factory = "relation_classifier"

[components.extractive_qa]
factory = "extractive_qa"
"""

# Sections that a user would add to train on the CPU.
MODELS = """
[components.span_relation.model]
@architectures = "spacy-spanrel.SpERT.v1"

[components.span_relation.model.encoder]
@architectures = "spacy-spanrel.HFEncoder.v1"
name = ${paths.encoder}

[components.relation_classifier.model]
@architectures = "spacy-spanrel.PairClassifier.v1"
name = ${paths.encoder}
max_length = 64

[components.extractive_qa.model]
@architectures = "spacy-spanrel.SpanQA.v1"
name = ${paths.encoder}
max_length = 64
doc_stride = 16
max_question_length = 24

[corpora]

[corpora.train]
@readers = "spacy-spanrel.Corpus.v1"
path = ${paths.docs}

[corpora.dev]
@readers = "spacy-spanrel.Corpus.v1"
path = ${paths.docs}

[training]
max_steps = 2
"""


def run(*args: str | Path, fails: bool = False) -> str:
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert (result.exit_code != 0) == fails, (result.output, result.exception)
    return result.output


@pytest.fixture(scope="module")
def docs_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gold Docs for all components."""
    nlp = spacy.blank("xx")
    docs = [make_doc(nlp.vocab, *with_negatives(row)) for row in ROWS[:4]]
    docs += [gold_doc(nlp, row) for row in QA_ROWS[:2]]
    return write_docs(tmp_path_factory.mktemp("data") / "docs.spacy", docs)


@pytest.fixture(scope="module")
def config_path(
    bert_checkpoint: Path, docs_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A complete config that trains all three components on tiny data."""
    folder = tmp_path_factory.mktemp("config")
    text = SHORT.replace("encoder = null", f'encoder = "{bert_checkpoint}"')
    text = text.replace("docs = null", f'docs = "{docs_path}"')
    text = text.replace(
        'factory = "extractive_qa"', 'factory = "extractive_qa"\npretrained = false'
    )
    (folder / "short.cfg").write_text(text + MODELS)
    run("init", "fill-config", folder / "short.cfg", folder / "config.cfg")
    return folder / "config.cfg"


def test_fill_config_with_names_only(tmp_path: Path) -> None:
    (tmp_path / "short.cfg").write_text(SHORT)
    run("init", "fill-config", tmp_path / "short.cfg", tmp_path / "filled.cfg")
    filled = load_config(tmp_path / "filled.cfg")
    for name in NAMES:
        defaults = Language.get_factory_meta(name).default_config
        settings = dict(filled["components"][name])
        assert settings.pop("factory") == name
        assert set(settings) == set(defaults)
        assert settings["model"] == defaults["model"]
        assert settings["scorer"] == defaults["scorer"]
        weights = Language.get_factory_meta(name).default_score_weights
        assert set(weights) <= set(filled["training"]["score_weights"])
    # The config is complete, and the pipeline is made with its settings.
    run("init", "fill-config", tmp_path / "filled.cfg", tmp_path / "again.cfg")
    assert load_config(tmp_path / "again.cfg") == filled
    pipeline = spacy.util.load_model_from_config(filled, auto_fill=False)
    assert pipeline.config["components"] == filled["components"]


def test_debug_config(config_path: Path) -> None:
    assert "Config is valid" in run("debug", "config", config_path)
    run("debug", "diff-config", config_path)
    wrong = run(
        "debug", "config", config_path, "--components.span_relation.set_ents", "some", fails=True
    )
    assert "span_relation" in wrong
    assert "set_ents" in wrong


def test_debug_data(config_path: Path, docs_path: Path, tmp_path: Path) -> None:
    # With fewer Docs the command stops with an error about their number.
    docs = list(DocBin().from_disk(docs_path).get_docs(spacy.blank("xx").vocab))
    many = write_docs(tmp_path / "many.spacy", docs * 20)
    printed = run("debug", "data", config_path, "--paths.docs", many, "--verbose")
    assert f"{20 * len(docs)} training docs" in printed
    assert "span_relation, relation_classifier, extractive_qa" in printed


def test_init_labels(config_path: Path, tmp_path: Path) -> None:
    """Training with label files starts from the same weights as training without them."""
    run("init", "labels", config_path, tmp_path / "labels")
    files = {path.stem for path in (tmp_path / "labels").iterdir()}
    assert files == {"span_relation", "relation_classifier"}
    from_data = init_nlp(load_config(config_path))
    config = load_config(config_path)
    for name in files:
        config["initialize"]["components"][name] = {
            "labels": {
                "@readers": "spacy.read_labels.v1",
                "path": str(tmp_path / "labels" / f"{name}.json"),
            }
        }
    from_files = init_nlp(config)
    for name in sorted(files):
        pipes = [nlp.get_pipe(name) for nlp in (from_data, from_files)]
        assert pipes[0].labels == pipes[1].labels
        assert pipes[0].cfg == pipes[1].cfg
        weights = [pipe.model.shims[0].module.parameters() for pipe in pipes]
        for pair in zip(*weights, strict=True):
            torch.testing.assert_close(*pair)


def test_assemble(
    nlp: Language, existing_path: Path, sources: dict[str, Path], tmp_path: Path
) -> None:
    """A config combines components of several pipelines without training."""
    rows = [(name, existing_path) for name in ("tok2vec", "tagger", "ner")]
    rows += list(sources.items())
    sections = "".join(f'[components.{name}]\nsource = "{path}"\n\n' for name, path in rows)
    names = json.dumps([name for name, _ in rows])
    text = f'[nlp]\nlang = "xx"\npipeline = {names}\n\n[components]\n\n{sections}'
    (tmp_path / "config.cfg").write_text(text)
    run("assemble", tmp_path / "config.cfg", tmp_path / "pipeline")
    assembled = spacy.load(tmp_path / "pipeline")
    assert assembled.pipe_names == [name for name, _ in rows]
    assert annotations(assembled) == annotations(nlp)
    components = spacy.load(tmp_path / "pipeline").config["components"]
    assert components["span_relation"]["factory"] == "span_relation"


def test_evaluate(nlp: Language, full_path: Path, tmp_path: Path) -> None:
    write_docs(tmp_path / "gold.spacy", [example.reference for example in gold(nlp)])
    output = tmp_path / "scores.json"
    printed = run("evaluate", full_path, tmp_path / "gold.spacy", "--output", output)
    assert "Results" in printed
    scores = json.loads(output.read_text())
    assert scores["ents_f"] == 1.0
    assert scores["rel_f"] == 1.0
    assert scores["rel_strict_f"] == 1.0
    per_component = tmp_path / "per_component.json"
    run(
        "evaluate", full_path, tmp_path / "gold.spacy", "--output", per_component, "--per-component"
    )
    table = json.loads(per_component.read_text())
    assert table["relation_classifier"]["rel_f"] == 1.0
    assert table["span_relation"]["ents_f"] == 1.0


def test_benchmark_speed(full_path: Path, docs_path: Path) -> None:
    printed = run(
        "benchmark",
        "speed",
        full_path,
        docs_path,
        "--batches",
        "30",
        "--batch-size",
        "2",
        "--warmup",
        "1",
        "--no-shuffle",
    )
    assert "words/s" in printed


def test_apply(nlp: Language, full_path: Path, tmp_path: Path) -> None:
    """`spacy apply` saves the annotations of all components in one file."""
    (tmp_path / "texts.txt").write_text(TEXTS[1])
    run("apply", full_path, tmp_path / "texts.txt", tmp_path / "out.spacy")
    (doc,) = DocBin().from_disk(tmp_path / "out.spacy").get_docs(nlp.vocab)
    assert {"entities", "relations", "pairs", "qa"} <= set(doc.spans)
    (expected,) = nlp.pipe(TEXTS[1:2])
    assert [r.to_triple() for r in doc._.relations] == [r.to_triple() for r in expected._.relations]


def test_profile_and_info(full_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where the profile is written
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in TEXTS))
    run("debug", "profile", full_path, tmp_path / "texts.jsonl")
    printed = run("info", full_path)
    assert "span_relation" in printed
