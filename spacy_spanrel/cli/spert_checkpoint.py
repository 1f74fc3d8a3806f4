"""Checkpoints of the original SpERT program as pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import spacy
import torch
from spacy.language import Language
from torch import Tensor

from ..converters import read_types
from ..encoding.checkpoint import HFModule, hf_files, hf_settings, reading
from ..encoding.encoder import set_encoder
from ..encoding.shim import load_weights
from ..errors import Errors
from ..span_relation.component import SpanRelation
from ..span_relation.model import set_heads
from ..span_relation.network import HeadSettings, SpERTHeads

# Prediction as the original program does it.
ORIGINAL_SETTINGS: dict[str, Any] = {
    "overlaps": "allow",
    "type_constraints": "off",
    "relation_threshold": 0.4,
    "max_span_size": 10,
}


def import_spert(
    checkpoint: str | Path,
    types: str | Path,
    *,
    lang: str = "en",
    name: str = "span_relation",
    lowercase: bool | None = None,
    settings: dict[str, Any] | None = None,
    precision: str = "auto",
    device: str = "auto",
) -> Language:
    """Make a pipeline of a checkpoint of the original SpERT program (version 1.x).

    checkpoint (str | Path): Folder with config.json, weights and the tokenizer's files.
    types (str | Path): The types file of its training; its order is that of the classes.
    lang (str): Language of the pipeline's tokenizer.
    name (str): Name of the component.
    lowercase (bool | None): Whether the tokenizer lower-cases; None as the checkpoint says.
    settings (dict | None): Settings of `span_relation`. What is not given is as in the original
        program (overlapping entities allowed, no type constraints, threshold 0.4, 10 tokens).
    precision (str), device (str): As in "spacy-spanrel.HFEncoder.v1".
    RETURNS (Language): A blank pipeline with the component, ready to predict, save or train on.
    RAISES (ValueError): If the folder is no such checkpoint, or the types file is not one or does
        not fit it.
    """
    checkpoint = Path(checkpoint)
    names = read_types(types)
    entity_labels, relation_labels = list(names.entities), list(names.relations)
    transformer, tokenizer, weights = _load(checkpoint, lowercase)
    for what, key, expected in (
        (
            "entity classes (with the one for no entity)",
            "entity_classifier",
            1 + len(entity_labels),
        ),
        ("relation types", "rel_classifier", len(relation_labels)),
    ):
        found = weights[f"{key}.bias"].shape[0]
        if found != expected:
            raise ValueError(
                Errors.E402.format(path=checkpoint, found=found, what=what, expected=expected)
            )
    heads = SpERTHeads(
        HeadSettings(
            width=int(transformer.config.hidden_size),
            n_entity_types=len(entity_labels),
            n_relation_types=len(relation_labels),
            size_embedding=weights["size_embeddings.weight"].shape[1],
            dropout=0.1,
            boundaries=False,
        )
    )
    load_weights(heads, {k: v for k, v in weights.items() if not k.startswith("bert.")})

    nlp = spacy.blank(lang)
    config: dict[str, Any] = {
        **ORIGINAL_SETTINGS,
        "symmetric": [label for label in relation_labels if label in names.symmetric],
        **(settings or {}),
        "model": {
            "size_embedding": heads.settings.size_embedding,
            "encoder": {"name": checkpoint.name, "precision": precision, "device": device},
        },
    }
    pipe = nlp.add_pipe("span_relation", name=name, config=config)
    assert isinstance(pipe, SpanRelation)
    for label in entity_labels:
        pipe.add_label(label, "entity")
    for label in relation_labels:
        pipe.add_label(label, "relation")
    encoder = pipe.model.get_ref("encoder")
    # Before the tokenizer is taken over and changed.
    files = hf_files(transformer, tokenizer)
    module = HFModule(transformer.float(), tokenizer, checkpoint.name)
    set_encoder(
        encoder,
        module,
        hf_settings(module, checkpoint.name),
        files,
    )
    pipe.model.set_dim("n_entity_types", len(entity_labels))
    pipe.model.set_dim("n_relation_types", len(relation_labels))
    set_heads(pipe.model, heads)
    return nlp


def _load(checkpoint: Path, lowercase: bool | None) -> tuple[Any, Any, dict[str, Tensor]]:
    """Return the BERT model with its weights, the tokenizer, and all weights."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    if not (checkpoint / "config.json").is_file():
        raise ValueError(Errors.E401.format(path=checkpoint, reason="it has no config.json"))
    with reading(str(checkpoint)):
        config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
        transformer = AutoModel.from_config(config, trust_remote_code=False)
        choice = {} if lowercase is None else {"do_lower_case": lowercase}
        tokenizer = AutoTokenizer.from_pretrained(
            checkpoint, use_fast=True, trust_remote_code=False, **choice
        )
    weights = _read_weights(checkpoint)
    needed = {
        "entity_classifier.weight",
        "entity_classifier.bias",
        "rel_classifier.weight",
        "rel_classifier.bias",
        "size_embeddings.weight",
    }
    if not needed <= set(weights):
        raise ValueError(
            Errors.E401.format(path=checkpoint, reason=f"it lacks {sorted(needed - set(weights))}")
        )
    prefix = "bert."
    body = {k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)}
    # The original uses the vectors of pieces only; some checkpoints have a pooler, some do not.
    body = {k: v for k, v in body.items() if not k.startswith("pooler.")}
    if hasattr(transformer, "pooler"):
        transformer.pooler = None
    load_weights(transformer, body)
    return transformer, tokenizer, weights


def _read_weights(checkpoint: Path) -> dict[str, Tensor]:
    safe, pickled = checkpoint / "model.safetensors", checkpoint / "pytorch_model.bin"
    if safe.is_file():
        from safetensors.torch import load_file

        with reading(str(checkpoint)):
            return load_file(safe)
    if pickled.is_file():
        # weights_only: tensors are read, no code is run.
        with reading(str(checkpoint)):
            weights: dict[str, Tensor] = torch.load(pickled, map_location="cpu", weights_only=True)
            return weights
    raise ValueError(
        Errors.E401.format(
            path=checkpoint, reason="it has neither model.safetensors nor pytorch_model.bin"
        )
    )
