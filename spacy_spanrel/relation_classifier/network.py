"""The network of `relation_classifier`: marked rows in, logits out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..encoding.network import PieceNetwork


class MarkerHead(nn.Module):
    """Classifier of pairs by the vectors of the first markers of their arguments (Zhou and Chen 2021).

    width (int): Width of the encoder.
    n_labels (int): Number of labels.
    dropout (float): Dropout between the two layers in training.
    """

    def __init__(self, width: int, n_labels: int, dropout: float):
        super().__init__()
        self.dense = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, n_labels)

    def forward(self, head: Tensor, tail: Tensor) -> Tensor:
        """Classify pairs.

        head, tail (Tensor): Vectors of the first markers. *Shape:* ``(n_pairs, width)``
        RETURNS (Tensor): Logits. *Shape:* ``(n_pairs, n_labels)``
        """
        hidden = torch.relu(self.dense(torch.cat([head, tail], dim=-1)))
        logits: Tensor = self.output(self.dropout(hidden))
        return logits


class PairNetwork(nn.Module):
    """Classifier of rows, each of which shows a marked pair.

    encoder (PieceNetwork): An encoder or, if there is no head, a sequence classifier.
    head (MarkerHead | None): The classifier of the encoder's output.
    """

    def __init__(self, encoder: PieceNetwork, head: MarkerHead | None = None):
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(
        self, ids: Tensor, mask: Tensor, positions: Tensor, casing: Tensor | None = None
    ) -> Tensor:
        """Classify padded rows.

        ids, mask, casing (Tensor): As in `PieceNetwork`, ``(batch, length)``.
        positions (Tensor): Columns of the first markers of head and tail. *Shape:* ``(batch, 2)``
        RETURNS (Tensor): Logits, float32. *Shape:* ``(batch, n_labels)``
        """
        output: Tensor = self.encoder(ids, mask, casing)
        if self.head is None:
            return output
        rows = torch.arange(len(output), device=output.device)
        logits: Tensor = self.head(output[rows, positions[:, 0]], output[rows, positions[:, 1]])
        return logits.float()
