"""Frozen layers: their kept output changes neither results nor gradients, and they are not trained.
And networks of which the lowest layers alone are kept."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import spacy
import torch
from hypothesis import given
from hypothesis import strategies as st
from spacy.tokens import Doc
from spacy.training import Example
from transformers import (
    AlbertConfig,
    AlbertModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    DebertaV2Config,
    DebertaV2Model,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    ModernBertConfig,
    ModernBertModel,
    MPNetConfig,
    MPNetModel,
    RobertaConfig,
    RobertaModel,
)

from spacy_spanrel.encoding.checkpoint import HFModule
from spacy_spanrel.encoding.encoder import HFEncoder
from spacy_spanrel.encoding.frozen import KeptRows
from spacy_spanrel.encoding.shim import get_module

from ..util import initialize, make_doc, tiny_checkpoint, train

WIDTH = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
DEEP = {**WIDTH, "num_hidden_layers": 3}
NETWORKS = {
    "bert": (BertModel, BertConfig, DEEP),
    "roberta": (RobertaModel, RobertaConfig, {**DEEP, "pad_token_id": 0}),
    "electra": (ElectraModel, ElectraConfig, {**DEEP, "embedding_size": 8}),
    "distilbert": (
        DistilBertModel,
        DistilBertConfig,
        {"dim": 16, "n_heads": 2, "hidden_dim": 32, "n_layers": 3},
    ),
    "mpnet": (MPNetModel, MPNetConfig, {**DEEP, "pad_token_id": 0}),
    "deberta": (DebertaV2Model, DebertaV2Config, DEEP),
    "modernbert": (
        ModernBertModel,
        ModernBertConfig,
        {**DEEP, "global_attn_every_n_layers": 2, "local_attention": 4, "pad_token_id": 0},
    ),
}


def save(folder: Path, kind: str, **more: Any) -> Path:
    """Save a network of three layers with the tokenizer of the tiny checkpoint."""
    tiny_checkpoint(folder)
    vocabulary = len(AutoTokenizer.from_pretrained(folder))
    network, config, settings = NETWORKS[kind]
    torch.manual_seed(0)
    network(config(vocab_size=vocabulary, **settings, **more)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("frozen"), "bert")


def encoder(folder: Path, **settings: Any) -> Any:
    model = HFEncoder(str(folder), precision="float32", dropout=0.0, **settings)
    model.initialize()
    return model


def docs(*texts: str) -> list[Doc]:
    nlp = spacy.blank("en")
    return [nlp.make_doc(text) for text in texts]


TEXTS = ["Ann Lee lives in Oslo.", "Acme", "Bob and Cy met Dee in Rome, and in Rome again."]


def gradients(model: Any, texts: list[Doc]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    encoded, backprop = model(texts, is_train=True)
    module = get_module(model, HFModule)
    module.zero_grad()
    backprop(encoded.pieces.detach() * 2, torch.ones_like(encoded.context))
    named = module.named_parameters()
    return encoded.pieces.detach(), {n: p.grad for n, p in named if p.grad is not None}


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("casing", [False, True])
def test_kept_output_changes_nothing(kind: str, casing: bool, tmp_path: Path) -> None:
    save(tmp_path, kind)
    whole = encoder(tmp_path, casing=casing)
    frozen = encoder(tmp_path, casing=casing, frozen_layers=2)
    expected, all_gradients = gradients(whole, docs(*TEXTS))
    fresh, first = gradients(frozen, docs(*TEXTS))
    # Other texts beside them, in another order, and this time they are kept.
    frozen(docs("Paris", TEXTS[1]), is_train=True)
    again, second = gradients(frozen, docs(*TEXTS))
    predicted = frozen.predict(docs(*TEXTS)).pieces
    for pieces in (fresh, again, predicted):
        torch.testing.assert_close(pieces, expected, atol=1e-6, rtol=1e-5)
    assert first.keys() == second.keys() < all_gradients.keys()
    assert not any("embeddings.word" in name or "layer.1." in name for name in first)
    for name, gradient in first.items():
        torch.testing.assert_close(gradient, second[name], atol=1e-6, rtol=1e-4)
        if not name.startswith("casing"):
            torch.testing.assert_close(gradient, all_gradients[name], atol=1e-6, rtol=1e-4)


def test_letter_case_is_learned_above_frozen_layers(bert: Path) -> None:
    model = encoder(bert, casing=True, frozen_layers=1)
    _, found = gradients(model, docs(*TEXTS))
    assert found["casing.weight"].abs().sum() > 0
    before = model.predict(docs(*TEXTS)).pieces
    torch.nn.init.normal_(get_module(model, HFModule).casing.weight)
    after = model.predict(docs(*TEXTS)).pieces
    assert not torch.allclose(before, after, atol=1e-3)
    loaded = HFEncoder(str(bert), precision="float32", casing=True, frozen_layers=1)
    loaded.from_bytes(model.to_bytes())
    torch.testing.assert_close(loaded.predict(docs(*TEXTS)).pieces, after, atol=0, rtol=0)


def test_each_row_is_computed_once(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = encoder(bert, frozen_layers=2)
    computed: list[int] = []
    run = HFModule.frozen_output

    def count(self: HFModule, ids: torch.Tensor, *others: Any) -> torch.Tensor:
        computed.append(len(ids))
        return run(self, ids, *others)

    monkeypatch.setattr(HFModule, "frozen_output", count)
    for texts in ([TEXTS[0], TEXTS[1], TEXTS[0]], TEXTS, TEXTS[::-1]):
        model(docs(*texts), is_train=True)
    assert sum(computed) == 3
    model.predict(docs("A new text."))
    assert sum(computed) == 3


def test_full_memory_computes_again(bert: Path) -> None:
    model = encoder(bert, frozen_layers=2)
    expected, _ = gradients(model, docs(*TEXTS))
    rows = get_module(model, HFModule).frozen.rows
    assert rows.size > 0
    rows.limit = 1
    for _ in range(2):
        got, _ = gradients(model, docs(*TEXTS, "Another one."))
        torch.testing.assert_close(got[: len(expected)], expected, atol=1e-6, rtol=1e-5)
        assert rows.size == 0


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9)), max_size=40), st.integers(0, 60))
def test_memory_of_kept_rows_is_bounded(rows: list[tuple[int, int]], limit: int) -> None:
    kept: KeptRows[torch.Tensor] = KeptRows(limit * 4)
    tensors = {}
    for number, size in rows:
        key = bytes([number])
        if kept.get(key) is None:
            tensors[key] = torch.full((size,), float(number))
            kept.add(key, tensors[key], tensors[key].nbytes)
        assert kept.size <= kept.limit
    held = [tensor for key in tensors if (tensor := kept.get(key)) is not None]
    assert kept.size == sum(tensor.nbytes for tensor in held)
    assert all((tensor == tensor[0]).all() for tensor in held)


def test_frozen_weights_stay_and_others_learn(bert: Path) -> None:
    nlp = spacy.blank("en")
    settings = {
        "@architectures": "spacy-spanrel.SpERT.v1",
        "encoder": {
            "@architectures": "spacy-spanrel.HFEncoder.v1",
            "name": str(bert),
            "frozen_layers": 2,
        },
    }
    pipe = nlp.add_pipe("span_relation", config={"model": settings})
    entities = [(0, 2, "Peop"), (4, 5, "Loc")]
    gold = make_doc(nlp.vocab, "Ann Lee lives in Oslo", entities, [(0, 1, "Live_In")])
    examples = [Example(make_doc(nlp.vocab, gold.text), gold)]
    initialize(nlp, examples)
    module = get_module(pipe.model.get_ref("encoder"), HFModule)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    train(nlp, examples, 2)
    changed = {n for n, v in module.state_dict().items() if not torch.equal(v, before[n])}
    assert changed
    assert all(".layer.2." in name for name in changed)


@pytest.mark.parametrize("frozen", [3, 7])
def test_something_is_left_to_train(bert: Path, frozen: int) -> None:
    with pytest.raises(ValueError, match=rf"E_SR222.*{frozen}.*3 layers"):
        encoder(bert, frozen_layers=frozen)


def test_layers_that_cannot_be_frozen_are_refused(tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path)
    size = len(AutoTokenizer.from_pretrained(tmp_path))
    AlbertModel(AlbertConfig(vocab_size=size, embedding_size=8, **DEEP)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="E_SR223"):
        encoder(tmp_path, frozen_layers=1)
    # A convolution after the first layer: whichever layer is the first.
    save(tmp_path, "deberta", conv_kernel_size=3, conv_act="gelu")
    with pytest.raises(ValueError, match="E_SR223"):
        encoder(tmp_path, frozen_layers=1)


@pytest.mark.parametrize("kind", NETWORKS)
def test_lowest_layers(kind: str, tmp_path: Path) -> None:
    """Two layers of three compute the output of the second, and are all that is saved."""
    save(tmp_path / "three", kind)
    whole = encoder(tmp_path / "three")
    two = encoder(tmp_path / "three", layers=2)
    network: Any = get_module(whole, HFModule).transformer
    # The same weights in a checkpoint of two layers.
    config, kept = deepcopy(network.config), get_module(two, HFModule).transformer
    config.num_hidden_layers = 2
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:2]
    smaller = type(network)(config)
    smaller.load_state_dict(network.state_dict(), strict=False)
    tiny_checkpoint(tmp_path / "two")
    smaller.save_pretrained(tmp_path / "two")
    expected = encoder(tmp_path / "two").predict(docs(*TEXTS)).pieces
    torch.testing.assert_close(two.predict(docs(*TEXTS)).pieces, expected)
    assert not torch.allclose(whole.predict(docs(*TEXTS)).pieces, expected, atol=1e-5)
    assert kept.config.num_hidden_layers == 2
    data = two.to_bytes()
    assert len(data) < len(whole.to_bytes())
    loaded = HFEncoder(str(tmp_path), precision="float32").from_bytes(data)
    torch.testing.assert_close(loaded.predict(docs(*TEXTS)).pieces, expected)


@pytest.mark.parametrize("layers", [0, 4])
def test_layers_that_do_not_exist(bert: Path, layers: int) -> None:
    with pytest.raises(ValueError, match=f"E_SR244.*layers = {layers} .*has 3 layers"):
        encoder(bert, layers=layers)
