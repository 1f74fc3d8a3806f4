"""The network of `relation_classifier`: marked rows in, logits (or vectors) out."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoding.network import PieceNetwork
from ..encoding.step import steps_of


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


class DescribedHead(nn.Module):
    """Head that puts pairs and labels into one space: the logit of a label is the similarity of its
    vector and that of the pair, times a learned factor.

    A vector has three parts, projections of the vectors of both first markers and of the mean of the
    row. So the similarity is a weighted mean of three cosines: how well the head fits the head of the
    description, the tail its tail, and the sentence its sentence (in the manner of Zhao et al. 2023).
    The types of arguments, which many relations share, are thus learned apart from the relations. The
    projections begin as the identity, so that an encoder of sentences keeps what it knows of their
    similarity. The negative label has no vector: its similarity to every pair is a learned threshold.

    width (int): Width of the encoder. The attribute `width` is that of the vectors.
    dropout (float): Dropout before the projections in training.
    """

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.width = 3 * width
        self.head, self.tail, self.mean = (nn.Linear(width, width) for _ in range(3))
        with torch.no_grad():
            for projection in (self.head, self.tail, self.mean):
                projection.weight.copy_(torch.eye(width))
                projection.bias.zero_()
        self.weights = nn.Parameter(torch.zeros(3))
        self.log_scale = nn.Parameter(torch.tensor([math.log(14.0)]))
        self.threshold = nn.Parameter(torch.tensor([0.5]))
        self._kept: dict[Any, Any] = {}
        self._kept_for: tuple[Any, ...] = ()

    def kept_vectors(self, encoder: PieceNetwork, device: torch.device) -> dict[Any, Any]:
        """Return the vectors of texts that were kept; none if the network has changed since.

        encoder (PieceNetwork): The encoder that reads the texts.
        device (device): The device of the vectors.
        RETURNS (dict[Any, Any]): The vectors by text, and those of the labels under None; to be changed
            in place.
        """
        state = (encoder, device, steps_of(self.log_scale))
        if self._kept_for != state:
            self._kept, self._kept_for = {}, state
        return self._kept

    def forward(self, head: Tensor, tail: Tensor, mean: Tensor) -> Tensor:
        """Return the vectors of rows.

        head, tail (Tensor): Vectors of the first markers. *Shape:* ``(n_rows, width of the encoder)``
        mean (Tensor): Means of the vectors of all pieces. *Shape:* ``(n_rows, width of the encoder)``
        RETURNS (Tensor): Vectors of length 1, float32. *Shape:* ``(n_rows, width)``
        """
        parts = [
            weight.sqrt() * F.normalize(projection(self.dropout(part)).float(), dim=-1)
            for projection, part, weight in zip(
                (self.head, self.tail, self.mean),
                (head, tail, mean),
                self.weights.softmax(dim=0),
                strict=True,
            )
        ]
        return torch.cat(parts, dim=-1)

    def logits(
        self, rows: Tensor, labels: Tensor, inverses: Tensor, negative: int | None
    ) -> Tensor:
        """Compare rows with labels.

        rows (Tensor): Vectors of rows. *Shape:* ``(n_rows, width)``
        labels (Tensor): Vectors of the labels, zeros for those that take no part. *Shape:*
            ``(n_labels, width)``
        inverses (Tensor): Vectors of relations that count as the negative label. *Shape:*
            ``(n_inverses, width)``
        negative (int | None): The negative label.
        RETURNS (Tensor): Logits, -inf for labels that take no part. *Shape:* ``(n_rows, n_labels)``
        """
        scale = self.log_scale.exp()
        logits = (scale * (rows @ labels.T)).masked_fill(~labels.any(dim=-1), -math.inf)
        if negative is None:
            return logits
        none = (scale * self.threshold).expand(len(rows), 1)
        none = torch.cat([none, scale * (rows @ inverses.T)], dim=-1).logsumexp(dim=-1)
        is_negative = F.one_hot(torch.tensor(negative), len(labels)).bool().to(rows.device)
        return torch.where(is_negative, none[:, None], logits)


class PairNetwork(nn.Module):
    """Classifier of rows, each of which shows a marked pair.

    encoder (PieceNetwork): An encoder or, if there is no head, a sequence classifier.
    head (MarkerHead | DescribedHead | None): The head on the encoder's output.
    """

    def __init__(self, encoder: PieceNetwork, head: MarkerHead | DescribedHead | None = None):
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(
        self, ids: Tensor, mask: Tensor, positions: Tensor, casing: Tensor | None = None
    ) -> Tensor:
        """Classify padded rows.

        ids, mask, casing (Tensor): As in `PieceNetwork`, ``(batch, length)``.
        positions (Tensor): Columns of the first markers of head and tail. *Shape:* ``(batch, 2)``
        RETURNS (Tensor): Logits, ``(batch, n_labels)``, or the vectors of a `DescribedHead`,
            ``(batch, width)``; float32.
        """
        output: Tensor = self.encoder(ids, mask, casing)
        if self.head is None:
            return output
        rows = torch.arange(len(output), device=output.device)
        inputs = [output[rows, positions[:, 0]], output[rows, positions[:, 1]]]
        if isinstance(self.head, DescribedHead):
            weights = mask.to(output.dtype)[:, :, None]
            inputs.append((output * weights).sum(dim=1) / weights.sum(dim=1))
        result: Tensor = self.head(*inputs)
        return result.float()
