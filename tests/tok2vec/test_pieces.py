"""`span_relation` on the pass of a `tok2vec` component."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spacy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import DocBin
from spacy.training import Example
from spacy.util import fix_random_seed

from spacy_spanrel.conversion.runtime import optimize
from spacy_spanrel.encoding import quantize, tok2vec_pieces
from spacy_spanrel.encoding.encoder import EncodedDocs
from spacy_spanrel.encoding.graph import GraphModule
from spacy_spanrel.encoding.outputs import join_outputs, split_outputs
from spacy_spanrel.encoding.tok2vec_pieces import KEPT
from spacy_spanrel.training.loggers import Recorder
from spacy_spanrel.training.optimizer import create_adamw

from ..span_relation.util import (
    ROWS,
    TEXTS,
    annotations_of,
    expected,
    make_examples,
    ner_model,
    scores_of,
    start,
    the_pipe,
    train_step,
)
from ..util import tiny_checkpoint, tiny_encoder
from .util import (
    LISTENER,
    WIDTH,
    add_component,
    print_in_two_processes,
    shim_of,
    tok2vec_model,
    weights_of,
)

PIECES = {"@architectures": "spacy-spanrel.Tok2VecListenerEncoder.v1", "width": WIDTH}
LONG = [*TEXTS, "", "  ", " ".join(TEXTS), "\n", " ".join(reversed(TEXTS))]


def make_nlp(
    checkpoint: Path,
    components: list[str],
    listener: dict[str, Any] = PIECES,
    scope: str = "doc",
    **encoder: Any,
) -> Language:
    """A pipeline, not yet initialized; "own" is a `span_relation` with an encoder of its own, and a
    "second" one listens like the first."""
    nlp = spacy.blank("xx")
    model = tok2vec_model(checkpoint, **{"max_length": 16, **encoder})
    for name in components:
        if name == "tok2vec":
            nlp.add_pipe("tok2vec", config={"model": model})
        elif name == "ner":
            add_component(nlp, name, LISTENER)
        else:
            slot = model["encoder"] if name == "own" else listener
            config: dict[str, Any] = {"max_span_size": 4, "scope": scope}
            config["model"] = {"size_embedding": 4, "dropout": 0.0, "encoder": dict(slot)}
            if name == "second":
                config |= {"spans_key": "more", "relations_key": "more_relations"}
                config["extension_prefix"] = "second_"
            nlp.add_pipe(
                "span_relation", name="span_relation" if name == "own" else name, config=config
            )
    return nlp


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Whatever is kept is gone with its Docs."""
    yield
    gc.collect()
    assert KEPT.size == 0
    assert not KEPT._waiting
    assert not KEPT._sources


@pytest.fixture
def reread(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Counts the batches of Docs that are read again."""
    counts: list[int] = []
    original = tok2vec_pieces._read_again

    def counting(*arguments: Any) -> Any:
        counts.append(1)
        return original(*arguments)

    monkeypatch.setattr(tok2vec_pieces, "_read_again", counting)
    return counts


def gradients_of(nlp: Language, upstream: str) -> dict[str, torch.Tensor]:
    parameters = shim_of(nlp.get_pipe(upstream).model).module.named_parameters()
    return {name: p.grad for name, p in parameters if p.grad is not None}


@pytest.mark.parametrize("scope", ["doc", "window"])
@pytest.mark.parametrize("casing", [False, True])
def test_equals_an_encoder_of_its_own(checkpoint: Path, scope: str, casing: bool) -> None:
    """The same losses, gradients and predictions, in several windows, with empty Docs."""
    results = []
    for components in (["own"], ["tok2vec", "span_relation"]):
        nlp = make_nlp(checkpoint, components, scope=scope, casing=casing)
        examples = start(nlp)
        examples += [Example(nlp.make_doc(text), nlp.make_doc(text)) for text in LONG]
        fix_random_seed(3)
        the_pipe(nlp)._rng = np.random.default_rng(3)
        losses = nlp.update(examples, sgd=False)
        gradients = gradients_of(nlp, components[0].replace("own", "span_relation"))
        results.append((losses, gradients, [scores_of(doc) for doc in nlp.pipe(LONG)]))
    own, shared = results
    for name in own[0]:
        assert shared[0][name] == pytest.approx(own[0][name], abs=1e-5)
    assert own[1].keys() == shared[1].keys()
    assert any(gradient.abs().max() > 0 for gradient in own[1].values())
    for name, gradient in own[1].items():
        torch.testing.assert_close(shared[1][name], gradient, atol=1e-5, rtol=1e-4, msg=name)
    assert any(own[2])
    for scores, own_scores in zip(shared[2], own[2], strict=True):
        np.testing.assert_allclose(scores, own_scores, atol=1e-5)


@pytest.mark.parametrize("order", [["ner", "span_relation"], ["span_relation", "ner"]])
def test_gradients_of_two_listeners_add_up(bert_checkpoint: Path, order: list[str]) -> None:
    """The encoder gets the sum of the gradients that each component alone would send."""
    sums: dict[str, torch.Tensor] = {}
    nlp = make_nlp(bert_checkpoint, ["tok2vec", *order], {**PIECES, "grad_factor": 0.5})
    examples = start(nlp)
    parameters = dict(shim_of(nlp.get_pipe("tok2vec").model).module.named_parameters())

    def take(*disabled: str) -> dict[str, torch.Tensor]:
        component: Any = nlp.get_pipe("tok2vec")
        listeners = dict(component.listener_map)
        for name in disabled:
            del component.listener_map[name]
        with nlp.select_pipes(disable=disabled):
            the_pipe(nlp)._rng = np.random.default_rng(3)
            nlp.update(examples, sgd=False)
        component.listener_map = {name: listeners[name] for name in order}
        gradients = {name: p.grad for name, p in parameters.items() if p.grad is not None}
        for parameter in parameters.values():
            parameter.grad = None
        return gradients

    for other in order:
        for name, gradient in take(other).items():
            sums[name] = sums.get(name, torch.zeros(())) + gradient
    for name, gradient in take().items():
        torch.testing.assert_close(gradient, sums[name], atol=1e-5, rtol=1e-4, msg=name)


def test_frozen_and_annotating(bert_checkpoint: Path, reread: list[int]) -> None:
    nlp = make_nlp(bert_checkpoint, ["tok2vec", "span_relation", "ner"])
    examples = start(nlp)
    before = weights_of(nlp.get_pipe("tok2vec").model).detach().clone()
    optimizer = create_adamw(learn_rate=1e-2)
    names, losses = ["tok2vec"], []
    for _ in range(15):
        step: dict[str, float] = {}
        nlp.update(examples, sgd=optimizer, losses=step, exclude=names, annotates=names)
        losses.append(step["span_relation"])
    assert losses[-1] < 0.8 * losses[0]
    assert torch.equal(weights_of(nlp.get_pipe("tok2vec").model), before)
    assert not reread
    # Trained again, it sends its batches again.
    assert np.isfinite(train_step(nlp, examples, optimizer)["span_relation"])
    assert not torch.equal(weights_of(nlp.get_pipe("tok2vec").model), before)


def test_annotating_while_it_is_trained(bert_checkpoint: Path) -> None:
    nlp = make_nlp(bert_checkpoint, ["tok2vec", "span_relation"])
    examples = start(nlp)
    for _ in range(3):
        losses = nlp.update(examples, sgd=create_adamw(), annotates=["tok2vec"])
        assert np.isfinite(losses["span_relation"])


def test_memory_is_free_after_a_step(bert_checkpoint: Path) -> None:
    """Listeners keep no pieces of the last batch. (Those of spaCy keep the vectors of tokens.)"""
    nlp = make_nlp(bert_checkpoint, ["tok2vec", "span_relation", "ner"])
    examples = start(nlp)
    train_step(nlp, examples, create_adamw())
    component: Any = nlp.get_pipe("tok2vec")
    pieces, vectors = component.listeners
    assert pieces._outputs is pieces._backprop is None
    assert vectors._outputs.encoded is None
    record = Recorder(nlp).record(None)
    assert record is not None
    assert record["learn_rates"] == {"tok2vec": {"encoder": 5e-5}, "span_relation": {"head": 5e-5}}


@pytest.fixture(scope="module")
def trained_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline that knows its rows by heart; its checkpoint has moved."""
    home = tmp_path_factory.mktemp("pieces")
    checkpoint = tiny_checkpoint(home / "checkpoint")
    nlp = make_nlp(checkpoint, ["tok2vec", "ner", "span_relation"])
    examples = start(nlp)
    optimizer = create_adamw(learn_rate=5e-3, head_learn_rate=1e-2, weight_decay=0.0)
    for _ in range(60):
        train_step(nlp, examples, optimizer)
    nlp.to_disk(home / "pipeline")
    checkpoint.rename(home / "moved")
    return home / "pipeline"


def test_two_processes(trained_path: Path, tmp_path: Path) -> None:
    printed = print_in_two_processes(
        "tests.span_relation.util", "annotations_of", trained_path, tmp_path
    )
    assert printed == f"{[expected(row) for row in ROWS]}\n" * 2


def test_sourced_and_replaced(trained_path: Path, tmp_path: Path) -> None:
    """A sourced component listens to a sourced `tok2vec`, or has a copy of its encoder."""
    config = spacy.load(trained_path).config.copy()
    for name in ("tok2vec", "ner", "span_relation"):
        config["components"][name] = {"source": str(trained_path)}
    shared = spacy.util.load_model_from_config(config, auto_fill=True)
    config["components"]["span_relation"]["replace_listeners"] = ["model.encoder"]
    replaced = spacy.util.load_model_from_config(config, auto_fill=True)
    assert [list(nlp.get_pipe("tok2vec").listener_map) for nlp in (shared, replaced)] == [
        ["ner", "span_relation"],
        ["ner"],
    ]
    replaced.to_disk(tmp_path / "replaced")
    alone = spacy.load(tmp_path / "replaced", exclude=["tok2vec", "ner"])
    encoder = alone.config["components"]["span_relation"]["model"]["encoder"]
    assert encoder["@architectures"] == "spacy-spanrel.HFEncoder.v1"
    for nlp in (shared, replaced, alone):
        docs = nlp.pipe(TEXTS)
        assert [annotations_of(doc) for doc in docs] == [expected(row) for row in ROWS]


def test_settings_of_the_present_config_count(trained_path: Path) -> None:
    setting = "components.tok2vec.model.encoder.max_length"
    nlp = spacy.load(trained_path, config={setting: 9})
    (long,) = nlp.pipe([" ".join(TEXTS)])
    report = long._.spanrel_report["span_relation"]
    assert (
        report["windows"]
        > spacy.load(trained_path)(long.text)._.spanrel_report["span_relation"]["windows"]
    )


def test_runtime_of_the_present_config_counts(trained_path: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs spacy-spanrel[onnx]")
    pytest.importorskip("onnx", reason="needs spacy-spanrel[onnx]")
    wanted = [annotations_of(doc) for doc in spacy.load(trained_path).pipe(TEXTS)]
    setting = "components.tok2vec.model.encoder.runtime"
    spacy.load(trained_path, config={setting: "onnxruntime"}).to_disk(tmp_path)
    nlp = spacy.load(tmp_path)
    module = shim_of(nlp.get_pipe("tok2vec").model).module
    assert isinstance(module, GraphModule)
    assert [annotations_of(doc) for doc in nlp.pipe(TEXTS)] == wanted
    with pytest.raises(ValueError, match="E_SR308.*hf_tok2vec"):
        nlp.update(make_examples(nlp, ROWS))
    with pytest.raises(ValueError, match="E_SR243"):
        spacy.load(tmp_path, config={setting: "torch"})


@pytest.mark.parametrize("int8", [False, True])
def test_shared_encoder_is_converted(
    trained_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, int8: bool
) -> None:
    """`tok2vec` is converted, and all components that listen are compared and scored."""
    pytest.importorskip("onnxruntime", reason="needs spacy-spanrel[onnx]")
    pytest.importorskip("onnx", reason="needs spacy-spanrel[onnx]")
    monkeypatch.setattr(quantize, "_LEAST_SIDE", 16)
    old = spacy.load(trained_path)
    gold = [example.reference for example in make_examples(old, ROWS)]
    DocBin(docs=gold, store_user_data=True).to_disk(tmp_path / "gold.spacy")
    result = optimize(
        trained_path, tmp_path / "new", gate=tmp_path / "gold.spacy", int8=int8, max_loss=100.0
    )
    assert result.components == ("tok2vec",)
    assert (result.products is not None) == int8
    assert result.scores["span_relation rel_strict_f"] > (0.0, 0.0)
    nlp = spacy.load(tmp_path / "new")
    assert isinstance(shim_of(nlp.get_pipe("tok2vec").model).module, GraphModule)
    for doc, expected_doc in zip(nlp.pipe(TEXTS), old.pipe(TEXTS), strict=True):
        if not int8:
            assert annotations_of(doc) == annotations_of(expected_doc)
            assert [e.label_ for e in doc.ents] == [e.label_ for e in expected_doc.ents]


def test_runtime_inside_another_model(bert_checkpoint: Path, tmp_path: Path) -> None:
    """thinc loads a model inside another one without calling its `from_dict`."""
    pytest.importorskip("onnxruntime", reason="needs spacy-spanrel[onnx]")
    pytest.importorskip("onnx", reason="needs spacy-spanrel[onnx]")
    nlp = spacy.blank("xx")
    add_component(nlp, "ner", tok2vec_model(bert_checkpoint, max_length=16))
    nlp.initialize(lambda: make_examples(nlp, ROWS))
    nlp.to_disk(tmp_path / "old")
    wanted = [[(ent.text, ent.label_) for ent in doc.ents] for doc in nlp.pipe(TEXTS)]
    setting = "components.ner.model.tok2vec.encoder"
    config = {f"{setting}.runtime": "onnxruntime", f"{setting}.max_length": 12}
    spacy.load(tmp_path / "old", config=config).to_disk(tmp_path / "new")
    for nlp in (spacy.load(tmp_path / "old", config=config), spacy.load(tmp_path / "new")):
        model = nlp.get_pipe("ner").model
        (node,) = (node for node in model.walk() if node.name == "hf_encoder")
        assert (node.attrs["runtime"], node.attrs["max_length"]) == ("onnxruntime", 12)
        assert isinstance(shim_of(model).module, GraphModule)
        assert [[(ent.text, ent.label_) for ent in doc.ents] for doc in nlp.pipe(TEXTS)] == wanted
    with pytest.raises(ValueError, match="E_SR243"):
        spacy.load(tmp_path / "new", config={f"{setting}.runtime": "torch"})
    converted = optimize(tmp_path / "old", tmp_path / "other")
    assert converted.components == ("ner",)
    assert isinstance(
        shim_of(spacy.load(tmp_path / "other").get_pipe("ner").model).module, GraphModule
    )


# In prediction


def test_memory_is_free_when_all_have_read(bert_checkpoint: Path, reread: list[int]) -> None:
    """Nothing is kept for Docs that have been read, although the Docs are there."""
    nlp = make_nlp(bert_checkpoint, ["tok2vec", "ner", "span_relation"])
    start(nlp)
    docs = list(nlp.pipe(LONG * 3, batch_size=4))
    assert KEPT.size == 0
    assert not reread
    assert not any(
        isinstance(value, (torch.Tensor, EncodedDocs))
        for doc in docs
        for value in doc.user_data.values()
    )


@pytest.mark.parametrize("sizes", [(2, 7, 3), (7, 2, 2), (1, 1, 5)])
def test_other_batches(bert_checkpoint: Path, sizes: tuple[int, ...], reread: list[int]) -> None:
    """Components with batches of their own, two of which listen."""
    names = ["tok2vec", "span_relation", "second"]
    nlp = make_nlp(bert_checkpoint, names)
    start(nlp)
    wanted = [scores_of(nlp(text)) for text in LONG]
    reread.clear()
    sized = {name: {"batch_size": size} for name, size in zip(names, sizes, strict=True)}
    docs = list(nlp.pipe(LONG, component_cfg=sized))
    for doc, scores in zip(docs, wanted, strict=True):
        np.testing.assert_allclose(scores_of(doc), scores, atol=1e-5)
    assert KEPT.size == 0
    assert not reread


def test_second_listener_reads_its_first_batch_again(
    bert_checkpoint: Path, reread: list[int]
) -> None:
    nlp = make_nlp(bert_checkpoint, ["tok2vec", "span_relation", "second"])
    start(nlp)
    list(nlp.pipe(TEXTS))
    assert reread == [1]
    list(nlp.pipe(TEXTS, batch_size=2))
    assert reread == [1]


def test_disabled_listener(bert_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs that nobody reads stay within the limit, and can be read later all the same."""
    nlp = make_nlp(bert_checkpoint, ["tok2vec", "span_relation"])
    start(nlp)
    wanted = [scores_of(doc) for doc in nlp.pipe(LONG)]
    monkeypatch.setattr(KEPT, "limit", 0)
    with nlp.select_pipes(disable="span_relation"):
        docs = list(nlp.pipe(LONG, batch_size=2))
    # The last two batches.
    assert 0 < KEPT.size <= 4 * 4 * WIDTH * 100
    assert len(KEPT._waiting) <= 4
    pipe = the_pipe(nlp)
    for doc, scores in zip(pipe.pipe(docs), wanted, strict=True):
        np.testing.assert_allclose(scores_of(doc), scores, atol=1e-5)
    assert KEPT.size == 0


def test_pipeline_without_listeners_keeps_nothing(bert_checkpoint: Path) -> None:
    gc.collect()  # listeners of other tests
    assert not tok2vec_pieces._LISTENERS
    nlp = make_nlp(bert_checkpoint, ["tok2vec", "ner"])
    start(nlp)
    docs = list(nlp.pipe(TEXTS))
    assert docs
    assert not KEPT._sources


def test_other_encoder_of_another_component(bert_checkpoint: Path) -> None:
    """An NER with an HFTok2Vec of its own, between the two, does not disturb them."""
    nlp = make_nlp(bert_checkpoint, ["tok2vec", "span_relation"])
    nlp.add_pipe(
        "ner", config={"model": ner_model(tok2vec_model(bert_checkpoint))}, after="tok2vec"
    )
    start(nlp)
    with nlp.select_pipes(disable="ner"):
        wanted = [scores_of(doc) for doc in nlp.pipe(LONG)]
    train_step(nlp, make_examples(nlp), create_adamw(learn_rate=0.0, head_learn_rate=0.0))
    with torch.no_grad():
        weights_of(nlp.get_pipe("ner").model).zero_()
    for doc, scores in zip(nlp.pipe(LONG), wanted, strict=True):
        np.testing.assert_allclose(scores_of(doc), scores, atol=1e-5)


@settings(max_examples=15)
@given(texts=st.lists(st.sampled_from(LONG), max_size=6))
def test_split_and_joined(bert_checkpoint: Path, texts: list[str]) -> None:
    """A batch that was taken apart and put together again has the same vectors at the same tokens."""
    nlp = spacy.blank("xx")
    docs = [nlp.make_doc(text) for text in ["", *texts, " "]]
    encoder = tiny_encoder(bert_checkpoint, max_length=12)
    encoded = encoder.predict(docs)
    joined, _ = join_outputs(encoder, docs, split_outputs(encoded), None)
    torch.testing.assert_close(joined.pieces, encoded.pieces)
    assert joined.token_pieces.tolist() == encoded.token_pieces.tolist()
    assert joined.token_offsets.tolist() == encoded.token_offsets.tolist()
    windows = [batch.context[batch.token_window] for batch in (joined, encoded)]
    torch.testing.assert_close(*windows)
    ranges = [batch.window_ranges[batch.token_window] for batch in (joined, encoded)]
    assert ranges[0].tolist() == ranges[1].tolist()


# Errors


def test_without_a_pass(bert_checkpoint: Path) -> None:
    nlp = make_nlp(bert_checkpoint, ["tok2vec", "span_relation"])
    start(nlp)
    with nlp.select_pipes(disable="tok2vec"), pytest.raises(ValueError, match="E_SR228.*John"):
        nlp(TEXTS[0])
    doc = nlp.get_pipe("tok2vec")(nlp.make_doc(TEXTS[0]))
    with doc.retokenize() as retokenizer:
        retokenizer.merge(doc[:2])
    with pytest.raises(ValueError, match="E_SR228"):
        the_pipe(nlp)(doc)


def test_other_tok2vec(bert_checkpoint: Path) -> None:
    nlp = make_nlp(bert_checkpoint, ["span_relation"])
    nlp.add_pipe("tok2vec", first=True)
    examples = start(nlp)
    with pytest.raises(ValueError, match="E_SR227.*HFTok2Vec"):
        nlp.update(examples, sgd=False)
    with pytest.raises(ValueError, match="E_SR227"):
        nlp.replace_listeners("tok2vec", "span_relation", ["model.encoder"])


def test_wrong_width(bert_checkpoint: Path) -> None:
    nlp = make_nlp(bert_checkpoint, ["tok2vec", "span_relation"], {**PIECES, "width": 48})
    examples = start(nlp)
    with pytest.raises(ValueError, match=r"E_SR229.*48.*32"):
        nlp.update(examples, sgd=False)
    with pytest.raises(ValueError, match=r"E_SR229.*48.*32"):
        nlp(TEXTS[0])
