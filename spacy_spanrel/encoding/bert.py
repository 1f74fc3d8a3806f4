"""BERT, RoBERTa and their likes without transformers, for saved pipelines.

Before transformers can build a network it imports most of torch's compiler and of its distributed
tensors, which takes longer than `import spacy` and loading a pipeline together. The networks that are
used most are small programs, and a saved pipeline has all that they need: its `config.json` and its
weights. So they are built here, with the names of parameters that transformers gives them, and compute
the same in prediction and in training. All other networks are left to transformers.

Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding";
Liu et al. 2019, "RoBERTa: A Robustly Optimized BERT Pretraining Approach".
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# The name of the encoder in a network with a head, by `model_type`.
_PREFIXES = {"bert": "bert", "roberta": "roberta", "xlm-roberta": "roberta", "camembert": "roberta"}

# Settings that a `config.json` of transformers leaves out, because they are those of BERT base.
_DEFAULTS = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
}
# Settings of variants that are not built here, and their values in BERT.
_FIXED = {
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "quantization_config": None,
    "pruned_heads": {},
}


class BertConfig(SimpleNamespace):
    """The settings of a `config.json`, as attributes."""

    def to_json_string(self) -> str:
        """Return the settings as JSON."""
        return json.dumps(vars(self), indent=2, sort_keys=True)


def read_bert_config(settings: dict[str, Any]) -> BertConfig | None:
    """Return the configuration of a network that is built here, or None.

    settings (dict[str, Any]): The contents of a `config.json`.
    RETURNS (BertConfig | None): The configuration; None for all other networks.
    """
    if settings.get("model_type") not in _PREFIXES:
        return None
    if any((settings.get(name) or value) != value for name, value in _FIXED.items()):
        return None
    # RoBERTa pads with 1.
    padding = 0 if settings["model_type"] == "bert" else 1
    return BertConfig(**{**_DEFAULTS, "pad_token_id": padding, **settings})


def build_bert(config: BertConfig, kind: str) -> nn.Module | None:
    """Build a network with random weights.

    config (BertConfig): The configuration.
    kind (str): The class of transformers whose network is wanted, such as "AutoModel".
    RETURNS (nn.Module | None): A `Bert` or `BertForAnswers`; None if the network has another head.
    """
    if kind == "AutoModel":
        return Bert(config)
    return BertForAnswers(config) if kind == "AutoModelForQuestionAnswering" else None


class Bert(nn.Module):
    """The encoder of BERT or RoBERTa.

    config (BertConfig): Its configuration.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = config
        self.base_model_prefix = _PREFIXES[config.model_type]
        self.embeddings = _Embeddings(config)
        self.encoder = BertLayers(config)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Encode rows of pieces.

        input_ids (Tensor | None): Piece ids, int64. *Shape:* ``(batch, length)``
        attention_mask (Tensor | None): 1 for pieces, 0 for padding. *Shape:* ``(batch, length)``
        token_type_ids (Tensor | None): Segment ids, int64; None for 0. *Shape:* ``(batch, length)``
        inputs_embeds (Tensor | None): Embeddings of the pieces in place of their ids.
            *Shape:* ``(batch, length, width)``
        RETURNS (dict[str, Tensor]): "last_hidden_state", ``(batch, length, width)``.
        """
        embedded = self.embeddings(input_ids, token_type_ids, inputs_embeds)
        return {"last_hidden_state": self.encoder(embedded, attention_mask)[0]}

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the embeddings of pieces."""
        return self.embeddings.word_embeddings


class BertForAnswers(nn.Module):
    """BERT or RoBERTa with a head for the first and the last piece of an answer.

    config (BertConfig): Its configuration.
    """

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = config
        self.base_model_prefix = _PREFIXES[config.model_type]
        setattr(self, self.base_model_prefix, Bert(config))
        self.qa_outputs = nn.Linear(config.hidden_size, 2)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute the logits of each piece.

        input_ids, attention_mask, token_type_ids, inputs_embeds: As in `Bert`.
        RETURNS (dict[str, Tensor]): "start_logits" and "end_logits", ``(batch, length)``.
        """
        encoder = getattr(self, self.base_model_prefix)
        outputs = encoder(input_ids, attention_mask, token_type_ids, inputs_embeds)
        start, end = self.qa_outputs(outputs["last_hidden_state"]).unbind(-1)
        return {"start_logits": start, "end_logits": end}

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the embeddings of pieces."""
        embeddings: nn.Embedding = getattr(self, self.base_model_prefix).get_input_embeddings()
        return embeddings


class _Embeddings(nn.Module):
    """The sum of the embeddings of piece, position and segment, normalized."""

    def __init__(self, config: BertConfig):
        super().__init__()
        width = config.hidden_size
        # RoBERTa counts positions from the index behind that of padding.
        padding = None if config.model_type == "bert" else config.pad_token_id
        self.padding = padding
        self.word_embeddings = nn.Embedding(
            config.vocab_size, width, padding_idx=config.pad_token_id
        )
        self.position_embeddings = nn.Embedding(
            config.max_position_embeddings, width, padding_idx=padding
        )
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, ids: Tensor | None, types: Tensor | None, embedded: Tensor | None) -> Tensor:
        if embedded is None:
            assert ids is not None
            embedded = self.word_embeddings(ids)
        rows, length = embedded.shape[:2]
        if self.padding is not None and ids is not None:
            is_piece = (ids != self.padding).long()
            positions = is_piece.cumsum(1) * is_piece + self.padding
        else:
            first = 0 if self.padding is None else self.padding + 1
            positions = torch.arange(first, first + length, device=embedded.device)[None]
        if types is None:
            types = torch.zeros(rows, length, dtype=torch.long, device=embedded.device)
        embedded = embedded + self.token_type_embeddings(types)
        return self.dropout(self.LayerNorm(embedded + self.position_embeddings(positions)))


class BertLayers(nn.Module):
    """The layers of BERT, one after the other."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.layer = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))

    def forward(self, hidden: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor]:
        """Run the layers.

        hidden (Tensor): The input of the first layer. *Shape:* ``(batch, length, width)``
        attention_mask (Tensor | None): As in `Bert`.
        RETURNS (tuple[Tensor]): The output of the last layer alone, ``(batch, length, width)``.
        """
        mask = None if attention_mask is None else attention_mask[:, None, None, :] != 0
        for layer in self.layer:
            hidden = layer(hidden, mask)
        return (hidden,)


class _Layer(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        width, inner, dropout = (
            config.hidden_size,
            config.intermediate_size,
            config.hidden_dropout_prob,
        )
        self.attention = nn.Module()
        self.attention.self = _Attention(config)
        self.attention.output = _Sum(width, width, config.layer_norm_eps, dropout)
        self.intermediate = _Inner(width, inner)
        self.output = _Sum(inner, width, config.layer_norm_eps, dropout)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        hidden = self.attention.output(self.attention.self(hidden, mask), hidden)  # type: ignore[operator]
        output: Tensor = self.output(self.intermediate(hidden), hidden)
        return output


class _Attention(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        width = config.hidden_size
        self.num_attention_heads: int = config.num_attention_heads
        self.dropout: float = config.attention_probs_dropout_prob
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        query, key, value = (
            layer(hidden).unflatten(-1, (self.num_attention_heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        attended = F.scaled_dot_product_attention(
            query, key, value, mask, self.dropout if self.training else 0.0
        )
        return attended.transpose(1, 2).flatten(2)


class _Inner(nn.Module):
    def __init__(self, width: int, inner: int):
        super().__init__()
        self.dense = nn.Linear(width, inner)
        self.intermediate_act_fn = F.gelu

    def forward(self, hidden: Tensor) -> Tensor:
        return F.gelu(self.dense(hidden))


class _Sum(nn.Module):
    """A linear layer whose output is added to the input of the block, and normalized."""

    def __init__(self, n_in: int, width: int, eps: float, dropout: float):
        super().__init__()
        self.dense = nn.Linear(n_in, width)
        self.LayerNorm = nn.LayerNorm(width, eps=eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, vectors: Tensor, hidden: Tensor) -> Tensor:
        output: Tensor = self.LayerNorm(self.dropout(self.dense(vectors)) + hidden)
        return output
