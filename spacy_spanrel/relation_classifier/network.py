"""The network of `relation_classifier`: marked rows in, logits out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..encoding.checkpoint import HFModule


class MarkerHead(nn.Module):
    """Classifies a pair by the vectors of the first markers of its arguments (Zhou and Chen 2021).

    width (int): Of the encoder.
    n_labels (int): Number of labels.
    dropout (float): Between its two layers, in training.
    """

    def __init__(self, width: int, n_labels: int, dropout: float):
        super().__init__()
        self.dense = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, n_labels)

    def forward(self, head: Tensor, tail: Tensor) -> Tensor:
        """Return logits, ``(n_pairs, n_labels)``, for vectors of ``(n_pairs, width)`` each."""
        hidden = torch.relu(self.dense(torch.cat([head, tail], dim=-1)))
        logits: Tensor = self.output(self.dropout(hidden))
        return logits


class PairNetwork(nn.Module):
    """Classifies rows that show a marked pair.

    encoder (HFModule): With a head of our own an encoder, else a sequence classifier.
    head (MarkerHead | None): Classifies by the markers; None leaves it to the sequence classifier.
    """

    def __init__(self, encoder: HFModule, head: MarkerHead | None = None):
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(
        self, ids: Tensor, mask: Tensor, positions: Tensor, casing: Tensor | None = None
    ) -> Tensor:
        """Classify padded rows.

        ids, mask, casing (Tensor): As in `HFModule`, ``(batch, length)``.
        positions (Tensor): Columns of the first markers of head and tail. *Shape:* ``(batch, 2)``
        RETURNS (Tensor): Logits, float32. *Shape:* ``(batch, n_labels)``
        """
        first: Tensor = self.encoder(ids, mask, casing)
        if self.head is None:
            return first
        rows = torch.arange(len(first), device=first.device)
        logits: Tensor = self.head(first[rows, positions[:, 0]], first[rows, positions[:, 1]])
        return logits.float()
