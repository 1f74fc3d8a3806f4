from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc, DocBin
from spacy.vocab import Vocab

from spacy_spanrel.cli import import_transformer
from spacy_spanrel.encoding import strided
from spacy_spanrel.encoding.strided import StridedDocs
from spacy_spanrel.training.optimizer import create_adamw
from tests.cli import util
from tests.cli.util import assert_fails, snapshot, words
from tests.compat.imported import (
    LISTENER,
    READ,
    STRIDED,
    foreign_pipeline,
    imported_predictions,
)
from tests.encoders.util import assert_same
from tests.span_relation.util import train_step
from tests.tok2vec.util import gold_examples, weights_of
from tests.util import tiny_checkpoint

pytestmark = pytest.mark.spacy_transformers

run = partial(util.run, "import-transformer")
succeed = partial(util.succeed, "import-transformer")
MAX = {"@layers": "reduce_max.v1"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("import")


@pytest.fixture(scope="module")
def original(home: Path) -> Path:
    """A pipeline of all components; its checkpoint has moved."""
    checkpoint = tiny_checkpoint(home / "checkpoint")
    foreign_pipeline(checkpoint).to_disk(home / "original")
    checkpoint.rename(home / "moved")
    return home / "original"


def test_pipeline_is_imported(original: Path, tmp_path: Path) -> None:
    """Texts of several windows, white space and empty texts have the same annotations."""
    before, output = snapshot(original), tmp_path / "new" / "model"
    printed = words(succeed(original, output).output)
    assert snapshot(original) == before
    assert "Saved pipeline with tagger, parser, ner, textcat, spancat, span_relation" in printed
    nlp = spacy.load(output)
    expected = imported_predictions(spacy.load(original))
    assert any(prediction["places"] for prediction in expected)
    assert_same(imported_predictions(nlp), expected, 1e-4)
    assert nlp.get_pipe_meta("transformer").factory == "tok2vec"
    assert "spacy-transformers" not in nlp.config.to_str()
    # After all of it, a second run without --force changes nothing.
    assert_fails(run(original, output), "E_SR954")


def test_imported_pipeline_learns(original: Path, tmp_path: Path) -> None:
    import_transformer(original, tmp_path / "model")
    nlp = spacy.load(tmp_path / "model")
    before = weights_of(nlp.get_pipe("transformer").model).detach().clone()
    sgd = create_adamw(learn_rate=1e-3, weight_decay=0.0)
    losses = [train_step(nlp, gold_examples(nlp), sgd) for _ in range(6)]
    for name in ("ner", "tagger", "span_relation"):
        assert losses[-1][name] < losses[0][name]
    assert not (weights_of(nlp.get_pipe("transformer").model) == before).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"get_spans": {"@span_getters": "spacy-transformers.doc_spans.v1"}},
        {"listener": {**LISTENER, "pooling": {"@layers": "reduce_first.v1"}}},
        # In max pooling thinc fails on white space, which has no pieces.
        {"listener": {**LISTENER, "pooling": MAX}, "kind": "roberta"},
        {"listener": {**LISTENER, "grad_factor": 0.5}, "kind": "roberta"},
    ],
    ids=["doc_spans", "first", "max", "mean"],
)
def test_settings_are_kept(settings: dict[str, Any], home: Path, tmp_path: Path) -> None:
    settings = dict(settings)
    kind = settings.pop("kind", "bert")
    factor = settings.get("listener", LISTENER)["grad_factor"]
    factors = {} if factor == 1.0 else {"tagger": factor, "ner": factor}
    checkpoint = tiny_checkpoint(home / kind, kind)
    nlp = foreign_pipeline(checkpoint, ["tagger", "ner"], steps=4, **settings)
    nlp.to_disk(tmp_path / "original")
    texts = [text for text in READ if text.strip() and "  " not in text]
    DocBin(docs=[nlp.make_doc(text) for text in texts[:-1]]).to_disk(tmp_path / "t.spacy")
    result = import_transformer(tmp_path / "original", tmp_path / "m", texts=tmp_path / "t.spacy")
    assert result.components == ("tagger", "ner")
    assert result.docs == len(texts) - 1
    assert result.annotations > 0
    assert result.difference < 1e-4
    assert result.grad_factors == factors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixed_precision": True}, "mixed_precision = true"),
        ({"tokenizer_config": {"use_fast": False}}, "slow tokenizer (BertTokenizer)"),
        ({"get_spans": {"@span_getters": "spacy-transformers.sent_spans.v1"}}, "sent_spans.v1"),
        ({"get_spans": {**STRIDED, "stride": 20}}, "leaves out tokens"),
        ({"listener": {**LISTENER, "pooling": {"@layers": "reduce_sum.v1"}}}, "reduce_sum.v1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_represented_is_refused(
    settings: dict[str, Any], message: str, home: Path, tmp_path: Path
) -> None:
    nlp = foreign_pipeline(tiny_checkpoint(home / "bert"), ["tagger"], steps=0, **settings)
    nlp.to_disk(tmp_path / "original")
    assert_fails(
        run(tmp_path / "original", tmp_path / "out"), "E_SR237", message, "Nothing written"
    )
    assert not (tmp_path / "out").exists()


def test_other_pipelines_are_refused(tmp_path: Path) -> None:
    spacy.blank("en").to_disk(tmp_path / "blank")
    result = run(tmp_path / "blank", tmp_path / "out")
    assert_fails(result, "E_SR237", "0 components `transformer` (of none)")


def test_difference_is_refused(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = strided.strided_starts
    monkeypatch.setattr(strided, "strided_starts", lambda n, window, stride: starts(n, window, 1))
    assert_fails(run(original, tmp_path / "model"), "E_SR238", "Nothing written")
    assert not list(tmp_path.iterdir())


def test_not_installed(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy_transformers", None)
    assert_fails(run(original, tmp_path / "model"), "E_SR236")


@given(n_tokens=st.integers(0, 40), window=st.integers(1, 12), data=st.data())
def test_windows_are_those_of_spacy_transformers(
    n_tokens: int, window: int, data: st.DataObject
) -> None:
    from spacy_transformers.span_getters import get_strided_spans

    stride = data.draw(st.integers(1, window))
    doc = Doc(Vocab(), words=["a"] * n_tokens)
    (spans,) = get_strided_spans([doc], window, stride)
    docs = StridedDocs([doc], window, stride)
    # Here an empty Doc has an empty window.
    assert docs.parts(0) == ([(span.start, span.end) for span in spans] or [(0, 0)])
    expected = [token.i for span in spans for token in span]
    np.testing.assert_array_equal(docs.tokens(), expected)
