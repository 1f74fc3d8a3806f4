"""The network of `extractive_qa`: start and end logits of the pieces of rows."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn

from ..encoding.bert import BertForAnswers
from ..encoding.checkpoint import HFModule
from ..encoding.network import PieceNetwork
from ..errors import Errors

# Networks that search answers with beams, and pad on the left.
_BEAM_SEARCH = ("xlnet", "xlm", "flaubert")


class SpanNetwork(nn.Module):
    """A Hugging Face question-answering network.

    encoder (PieceNetwork): The network and its tokenizer.
    RAISES (ValueError): If the network does not give start and end logits.
    """

    def __init__(self, encoder: PieceNetwork):
        super().__init__()
        self.encoder = encoder
        # A graph was made from such a network.
        if isinstance(encoder, HFModule) and not isinstance(encoder.transformer, BertForAnswers):
            _check_outputs(encoder)

    def forward(
        self, ids: Tensor, mask: Tensor, types: Tensor, casing: Tensor | None = None
    ) -> Tensor:
        """Compute the logits of each piece as the first and as the last of the answer.

        ids, mask, casing (Tensor): As in `PieceNetwork`, ``(batch, length)``.
        types (Tensor): Segment ids, int64. *Shape:* ``(batch, length)``
        RETURNS (Tensor): float32, -inf for padding. *Shape:* ``(batch, length, 2)``
        """
        outputs = self.encoder.outputs(ids, mask, casing, types)
        logits = torch.stack([outputs["start_logits"], outputs["end_logits"]], dim=-1).float()
        return logits.masked_fill(mask[:, :, None] == 0, float("-inf"))


def _check_outputs(encoder: HFModule) -> None:
    """Refuse a network that does not give start and end logits."""
    accepted = inspect.signature(encoder.transformer.forward).parameters
    kind = encoder.transformer.config.model_type  # type: ignore[union-attr]
    if "start_positions" not in accepted or kind in _BEAM_SEARCH:
        raise ValueError(
            Errors.E802.format(name=encoder.pieces.name, kind=type(encoder.transformer).__name__)
        )
