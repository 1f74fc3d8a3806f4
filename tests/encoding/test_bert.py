"""Networks that are built without transformers compute what those of transformers do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spacy_spanrel.encoding.bert import Bert, BertForAnswers, build_bert, read_bert_config
from spacy_spanrel.encoding.checkpoint import (
    build_hf_module,
    build_transformer,
    load_checkpoint,
)

KINDS = ["AutoModel", "AutoModelForQuestionAnswering"]
MODEL_TYPES = ["bert", "roberta", "xlm-roberta", "camembert"]


def config_of(model_type: str, **settings: Any) -> dict[str, Any]:
    sizes = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24}
    sizes |= {"num_attention_heads": 2, "max_position_embeddings": 30, "hidden_dropout_prob": 0.2}
    return {"model_type": model_type, "pad_token_id": 1, **sizes, **settings}


def pair(settings: dict[str, Any], kind: Any) -> tuple[Any, Any]:
    """The network of transformers and ours, with the same weights."""
    expected = build_transformer(settings, kind)
    if kind == "AutoModel":
        expected.pooler = None
    for number, weight in enumerate(expected.parameters()):
        generator = torch.Generator().manual_seed(number)
        weight.data.normal_(std=0.2, generator=generator)
    config = read_bert_config(settings)
    assert config is not None
    network = build_bert(config, kind)
    assert network is not None
    network.load_state_dict(expected.state_dict())
    return expected, network


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 20), min_size=1, max_size=4),
    is_train=st.booleans(),
    as_vectors=st.booleans(),
    has_types=st.booleans(),
)
def test_outputs_and_gradients_are_those_of_transformers(
    model_type: str,
    kind: str,
    lengths: list[int],
    is_train: bool,
    as_vectors: bool,
    has_types: bool,
) -> None:
    n_types = 2 if model_type == "bert" else 1
    networks = pair(config_of(model_type, type_vocab_size=n_types), kind)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = (2 + torch.arange(mask.numel()).view(mask.shape) * 7 % 58) * mask + (1 - mask)
    results = []
    for network in networks:
        network.train(is_train)
        torch.manual_seed(3)  # the same dropout
        arguments: dict[str, Any] = {"attention_mask": mask}
        if as_vectors:
            arguments["inputs_embeds"] = network.get_input_embeddings()(ids)
        else:
            arguments["input_ids"] = ids
        if has_types:
            arguments["token_type_ids"] = torch.arange(mask.shape[1]).expand_as(mask) % n_types
        outputs = network(**arguments)
        values = [outputs[name][mask == 1] for name in outputs]
        sum(value.square().sum() for value in values).backward()
        results.append(values + [w.grad for _, w in sorted(network.named_parameters())])
    for expected, result in zip(*results, strict=True):
        torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"model_type": "distilbert"},
        {"position_embedding_type": "relative_key"},
        {"hidden_act": "gelu_new"},
        {"is_decoder": True},
    ],
)
def test_other_networks_are_left_to_transformers(settings: dict[str, Any]) -> None:
    assert read_bert_config(config_of("bert") | settings) is None


def test_settings_that_are_not_written_are_those_of_bert_base() -> None:
    config = read_bert_config({"model_type": "bert"})
    expected = build_transformer({"model_type": "bert"} | config_of("bert")).config
    defaults = type(expected)()
    assert config is not None
    for name, value in vars(config).items():
        assert getattr(defaults, name) == value, name


def test_a_saved_pipeline_has_a_network_of_its_own(bert_checkpoint: Path) -> None:
    module, cfg, files = load_checkpoint(str(bert_checkpoint))
    built = build_hf_module(cfg, files)
    assert isinstance(built.transformer, Bert)
    assert set(built.state_dict()) == set(module.state_dict())
    assert built.max_length == module.max_length
    assert built.width == module.width
    saved = json.loads(built.transformer.config.to_json_string())
    assert saved == saved | json.loads(files["config.json"])


def test_networks_with_another_head_are_left_to_transformers() -> None:
    config = read_bert_config(config_of("roberta"))
    assert config is not None
    network = build_bert(config, "AutoModelForQuestionAnswering")
    assert isinstance(network, BertForAnswers)
    assert build_bert(config, "AutoModelForSequenceClassification") is None
