"""Prediction without padding gives what the layers of transformers give, for the present weights."""

from __future__ import annotations

import copy
from threading import Thread
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoTokenizer, BertConfig, BertModel

from spacy_spanrel.encoding import packed
from spacy_spanrel.encoding.checkpoint import HFModule, build_hf_module
from spacy_spanrel.encoding.export import make_graph
from spacy_spanrel.encoding.shim import TorchShim
from spacy_spanrel.encoding.step import step
from spacy_spanrel.training.optimizer import create_adamw

from ..util import tiny_checkpoint

SIZES = {
    "vocab_size": 300,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "max_position_embeddings": 40,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
NETWORKS: dict[str, dict[str, Any]] = {
    "BertModel": {},
    "BertForQuestionAnswering": {"hidden_act": "gelu_new"},
    "BertForSequenceClassification": {"hidden_act": "relu"},
    "RobertaModel": {},
    "XLMRobertaForQuestionAnswering": {},
    "ElectraModel": {"embedding_size": 8},
    "ElectraForSequenceClassification": {"hidden_act": "silu"},
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(tiny_checkpoint(tmp_path_factory.mktemp("packed")))


def make_module(tokenizer: Any, kind: str = "BertModel", **settings: Any) -> HFModule:
    network_class = getattr(transformers, kind)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = network_class.config_class(**SIZES, **NETWORKS.get(kind, {}))
        module = HFModule(network_class(config), tokenizer, kind, **settings).eval()
        for name, weight in module.named_parameters():
            if "bias" in name or "casing" in name:  # zeros, as they are made
                torch.nn.init.normal_(weight)
    return module


def make_rows(lengths: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return ids, mask and casing of random rows."""
    generator = torch.Generator().manual_seed(sum(lengths))
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(1, 60, mask.shape, generator=generator) * mask
    return ids, mask, ids % 5


@torch.no_grad()
def predict(module: HFModule, lengths: list[int], is_packed: bool = True) -> list[Tensor]:
    """Return the outputs for the pieces of each row, by the packed layers or by those of transformers."""
    layers = module._packed
    assert layers is not None
    module._packed = layers if is_packed else None
    try:
        outputs = list(module.outputs(*make_rows(lengths)).values())
    finally:
        module._packed = layers
    if outputs[0].shape[:2] != (len(lengths), max(lengths)):  # one vector for each row
        return outputs
    return [row[:n] for output in outputs for row, n in zip(output, lengths, strict=True)]


def assert_same(outputs: list[Tensor], others: list[Tensor], tolerance: float = 1e-5) -> None:
    for output, other in zip(outputs, others, strict=True):
        torch.testing.assert_close(output, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("settings", [{}, {"casing": True}, {"casing": True, "frozen_layers": 2}])
def test_same_output_as_transformers(tokenizer: Any, kind: str, settings: dict[str, Any]) -> None:
    module = make_module(tokenizer, kind, **settings)
    for lengths in ([9, 9, 7, 3, 3, 1], [5, 5], [2, 8, 2]):
        assert_same(predict(module, lengths), predict(module, lengths, is_packed=False))
    assert module._packed is not None
    assert module._packed._layers


@pytest.mark.parametrize("kind", ["BertForQuestionAnswering", "ElectraForSequenceClassification"])
def test_exported_layers_compute_the_same(tokenizer: Any, kind: str) -> None:
    """The graph of a network with all that `packing` takes, which does not depend on transformers."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    module = make_module(tokenizer, kind, casing=True, frozen_layers=1)
    # Converting compares the graph with torch on padded rows of many lengths.
    graph, _, data = make_graph(module, {})
    rows = make_rows([9, 9, 7, 3, 3, 1])
    mask = rows[1].bool()
    with torch.no_grad():
        for output, expected in zip(
            graph.outputs(*rows).values(), module.outputs(*rows).values(), strict=True
        ):
            real = mask if output.shape[:2] == mask.shape else slice(None)
            torch.testing.assert_close(output[real], expected[real], rtol=0, atol=1e-5)
    operations = [node.op_type for node in onnx.load_model_from_string(data).graph.node]
    assert operations.count("MultiHeadAttention") == 3
    assert not {"Softmax", "SkipLayerNormalization"} & set(operations)


@pytest.fixture(scope="module")
def bert(tokenizer: Any) -> HFModule:
    return make_module(tokenizer, casing=True)


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=12))
def test_rows_do_not_depend_on_their_batch(bert: HFModule, lengths: list[int]) -> None:
    ids, mask, casing = make_rows(lengths)
    with torch.no_grad():
        alone = [
            bert(ids[i : i + 1, :n], mask[i : i + 1, :n], casing[i : i + 1, :n])[0]
            for i, n in enumerate(lengths)
        ]
    assert_same(predict(bert, lengths), alone)
    assert_same(alone, predict(bert, lengths, is_packed=False))


def test_without_the_operators_of_onednn(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_prepares", lambda _: False)
    module = make_module(tokenizer)
    assert_same(predict(module, [7, 3]), predict(module, [7, 3], is_packed=False))


def test_bfloat16_is_that_of_autocast_but_for_rounding(bert: HFModule) -> None:
    expected = predict(bert, [9, 4], is_packed=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = predict(bert, [9, 4])
    assert all(output.dtype == torch.float32 for output in outputs)
    assert_same(outputs, expected, tolerance=0.15)
    assert any((output != other).any() for output, other in zip(outputs, expected, strict=True))


def test_prediction_follows_the_weights(tokenizer: Any) -> None:
    module = make_module(tokenizer)
    before = predict(module, [6, 4])
    shim = TorchShim(build_hf_module, device="cpu")
    shim.set_module(module, {})
    ids, mask, _ = make_rows([6, 4])
    module(ids, mask).square().sum().backward()
    assert_same(predict(module, [6, 4]), before)  # as spaCy may do before it steps the weights
    step([shim], create_adamw(learn_rate=0.1))
    after = predict(module, [6, 4])
    assert (after[0] - before[0]).abs().max() > 0.01
    assert_same(after, predict(module, [6, 4], is_packed=False))
    module.load_state_dict(make_module(tokenizer).state_dict())
    assert_same(predict(module, [6, 4]), before)


def test_training_is_that_of_transformers(bert: HFModule) -> None:
    ids, mask, casing = make_rows([6, 4])
    hidden = bert(ids, mask, casing)
    assert hidden.requires_grad
    bert.train()
    try:
        with torch.no_grad():
            assert (bert(ids, mask, casing) != hidden).any()  # dropout
    finally:
        bert.eval()


def test_names_and_shapes_of_the_weights_stay(bert: HFModule) -> None:
    predict(bert, [3])
    network = BertModel(BertConfig(**SIZES), add_pooling_layer=False)
    shapes = {f"transformer.{name}": w.shape for name, w in network.state_dict().items()}
    shapes["casing.weight"] = bert.casing.weight.shape  # type: ignore[union-attr]
    assert {name: w.shape for name, w in bert.state_dict().items()} == shapes


def test_a_copy_predicts_by_its_own_weights(tokenizer: Any) -> None:
    module = make_module(tokenizer)
    before = predict(module, [6, 4])
    copied = copy.deepcopy(module)
    with torch.no_grad():
        for weight in copied.parameters():
            weight.mul_(0.5)
    assert_same(predict(copied, [6, 4]), predict(copied, [6, 4], is_packed=False))
    assert_same(predict(module, [6, 4]), before)


def test_threads_share_a_network(bert: HFModule) -> None:
    batches = [[3, 9, 4], [12], [5, 5, 5, 2]]
    expected = [predict(bert, lengths) for lengths in batches]
    failures: list[BaseException] = []

    def work(i: int) -> None:
        try:
            for _ in range(20):
                with torch.no_grad():
                    rows = bert(*make_rows(batches[i]))
                assert_same([row[:n] for row, n in zip(rows, batches[i], strict=True)], expected[i])
        except BaseException as error:
            failures.append(error)

    threads = [Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_other_networks_are_left_to_transformers(tokenizer: Any) -> None:
    sizes = {"vocab_size": 60, "dim": 16, "n_heads": 2, "hidden_dim": 32, "n_layers": 2}
    network = transformers.DistilBertModel(transformers.DistilBertConfig(**sizes))
    assert HFModule(network, tokenizer, "distilbert")._packed is None
    relative = BertConfig(**SIZES, position_embedding_type="relative_key")
    if getattr(relative, "position_embedding_type", "absolute") != "absolute":
        assert HFModule(BertModel(relative), tokenizer, "relative")._packed is None
