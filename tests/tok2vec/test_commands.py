"""spaCy's commands on a pipeline of an encoder, a tagger and an NER."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
import spacy
import torch
from spacy.cli._util import app
from spacy.tokens import DocBin
from spacy.training.initialize import init_nlp
from spacy.training.loop import train as train_loop
from spacy.util import load_config
from thinc.api import Config
from typer.testing import CliRunner

from ..span_relation.util import ROWS, TEXTS
from ..util import make_doc, write_docs
from .util import WIDTH, gold_examples, predictions_of, weights_of

ROOT = Path(__file__).parents[2]
if not (ROOT / "docs").is_dir():
    pytest.skip("source distributions have no docs", allow_module_level=True)


def run(*args: str) -> None:
    result = CliRunner().invoke(app, list(args))
    assert result.exit_code == 0, (result.output, result.exception)


def test_train_evaluate_package(
    bert_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The config of the documentation is trained, resumed with the encoder frozen, scored, packaged and
    loaded from the package."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "encoders.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```ini\n(.*?)```", page, re.DOTALL)
    text = "[components]\n[training]\n[corpora]\n" + text.replace("width = 384", "width = 32")
    text += '[paths]\nencoder = "missing"\ndocs = null\n'
    text += "".join(
        f'[corpora.{split}]\n@readers = "spacy.Corpus.v1"\npath = ${{paths.docs}}\n'
        for split in ("train", "dev")
    )
    (tmp_path / "short.cfg").write_text(text)
    docs = [example.reference for example in gold_examples(spacy.blank("en"))]
    path = str(write_docs(tmp_path / "docs.spacy", docs))
    run("init", "fill-config", "short.cfg", "config.cfg")
    settings = {
        "paths.docs": path,
        "paths.encoder": str(bert_checkpoint),
        "training.max_steps": "40",
        "training.eval_frequency": "20",
        "training.optimizer.learn_rate": "3e-3",
        "training.optimizer.head_learn_rate": "3e-2",
        "components.tok2vec.model.encoder.precision": "float32",
    }
    options = [part for key, value in settings.items() for part in (f"--{key}", value)]
    run("train", "config.cfg", "-o", "out", *options)

    # What a listener refers to is gone from the config of a sourced component.
    config = load_config(tmp_path / "config.cfg", {"paths.docs": path}, interpolate=True)
    for name in ("tok2vec", "tagger"):
        config["components"][name] = {"source": str(tmp_path / "out/model-best")}
    frozen = {"frozen_components": ["tok2vec", "tagger"], "annotating_components": ["tok2vec"]}
    config["training"] |= frozen
    Config(config).to_disk(tmp_path / "frozen.cfg")
    frozen_options = ["--training.max_steps", "2", "--training.eval_frequency", "1"]
    run("train", "frozen.cfg", "-o", "frozen", *frozen_options)
    trained, resumed = (spacy.load(tmp_path / f"{d}/model-last") for d in ("out", "frozen"))
    weights = [nlp.get_pipe("tok2vec").model.to_bytes() for nlp in (trained, resumed)]
    assert weights[0] == weights[1]

    run("evaluate", "out/model-best", "docs.spacy", "-o", "scores.json")
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["ents_f"] == scores["tag_acc"] == 1.0

    (tmp_path / "packages").mkdir()
    run("package", "out/model-best", "packages", "--name", "tiny", "--build", "none")
    (folder,) = (tmp_path / "packages").iterdir()
    packaged = spacy.load(folder / "en_tiny" / "en_tiny-0.0.0")
    gold = list(DocBin().from_disk(tmp_path / "docs.spacy").get_docs(spacy.blank("en").vocab))
    for doc, example in zip(packaged.pipe(TEXTS), gold, strict=True):
        for name in ("tagger", "ner"):
            assert predictions_of(doc)[name] == predictions_of(example)[name]


def test_shared_config(bert_checkpoint: Path, tmp_path: Path) -> None:
    vocab = spacy.blank("xx").vocab
    docs = write_docs(tmp_path / "docs.spacy", [make_doc(vocab, *row) for row in ROWS])
    config = load_config(
        Path(__file__).parents[2] / "configs" / "shared_transformer.cfg",
        overrides={
            "paths.train": str(docs),
            "paths.dev": str(docs),
            "paths.encoder": str(bert_checkpoint),
            "training.max_steps": 4,
            "training.eval_frequency": 2,
            "schedule.batch_size": 3,
            "schedule.warmup_steps": 1,
            "schedule.total_steps": 4,
        },
    )
    config["components"]["tok2vec"]["model"]["width"] = WIDTH
    nlp = init_nlp(config)
    weights = weights_of(nlp.get_pipe("tok2vec").model)
    before = weights.detach().clone()
    (tmp_path / "out").mkdir()
    train_loop(nlp, tmp_path / "out", stdout=io.StringIO(), stderr=io.StringIO())
    assert not torch.equal(weights, before)
    loaded = spacy.load(tmp_path / "out" / "model-last")
    assert loaded.pipe_names == ["tok2vec", "span_relation", "ner", "doc_cleaner"]
    performance = loaded.meta["performance"]
    assert {"ents_f", "rel_strict_f", "ner_loss", "span_relation_loss"} <= set(performance)
    (doc,) = loaded.pipe([TEXTS[0]])
    assert doc.tensor is None
    assert "entities" in doc.spans
