"""Unsupported encoders are refused with an error that names them and says what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import spacy
import torch
import transformers

from ..util import tiny_checkpoint, tiny_encoder
from .util import ENCODERS, HIDDEN, LENGTH


def save_canine(folder: Path) -> Path:
    """Save a network whose only tokenizer is written in Python."""
    config = transformers.CanineConfig(
        hidden_size=HIDDEN,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=2 * HIDDEN,
        max_position_embeddings=LENGTH,
        num_hash_buckets=32,
    )
    transformers.CanineModel(config).save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CanineTokenizer"})
    )
    return folder


def test_slow_tokenizer(tmp_path: Path) -> None:
    folder = save_canine(tmp_path / "canine")
    with pytest.raises(
        ValueError, match=r"E_SR201.*canine' is a 'CanineTokenizer'.*tokenizer\.json"
    ):
        tiny_encoder(folder)


@pytest.mark.parametrize("name", ["span_relation", "relation_classifier", "extractive_qa"])
def test_slow_tokenizer_in_a_component(tmp_path: Path, name: str) -> None:
    folder = str(save_canine(tmp_path / "canine"))
    nlp = spacy.blank("xx")
    model: dict[str, Any] = {"name": folder, "device": "cpu"}
    config: dict[str, Any] = {"model": {"encoder": model} if name == "span_relation" else model}
    if name == "extractive_qa":
        model |= {"max_length": LENGTH, "doc_stride": 8, "max_question_length": 16}
        config["pretrained"] = False
    pipe = nlp.add_pipe(name, config=config)
    if name == "span_relation":
        pipe.add_label("Per", "entity")
    if name == "relation_classifier":
        pipe.add_label("works")
    with pytest.raises(ValueError, match="E_SR201.*CanineTokenizer"):
        nlp.initialize()


def test_unreadable_sentencepiece_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (xlm,) = [encoder for encoder in ENCODERS if encoder.name == "xlm-roberta"]
    folder = xlm.save(tmp_path / "xlm")
    (folder / "tokenizer.json").unlink()
    (folder / "sentencepiece.bpe.model").write_bytes(b"no model")
    with pytest.raises((OSError, ValueError), match="E_SR20[12].*xlm"):
        tiny_encoder(folder)


def test_missing_tokenizer(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "bare")
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (folder / name).unlink()
    with pytest.raises(OSError, match=r"(?s)E_SR202.*bare.*needs the setting 'tokenizer'"):
        tiny_encoder(folder)


def test_network_with_beam_search_for_answers(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "xlnet")
    (folder / "model.safetensors").unlink()
    vocab_size = json.loads((folder / "config.json").read_text())["vocab_size"]
    config = transformers.XLNetConfig(
        vocab_size=vocab_size, d_model=HIDDEN, n_layer=1, n_head=2, d_inner=HIDDEN
    )
    with torch.random.fork_rng(devices=[]):
        transformers.XLNetForQuestionAnswering(config).save_pretrained(folder)
    nlp = spacy.blank("xx")
    model = {"name": str(folder), "device": "cpu", "max_length": LENGTH, "doc_stride": 8}
    config = {"model": {**model, "max_question_length": 16}, "pretrained": False}
    nlp.add_pipe("extractive_qa", config=config)
    with pytest.raises(ValueError, match="E_SR802.*XLNet"):
        nlp.initialize()
