"""The network that reads rows of pieces, as all rooms see it, whatever computes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from .frozen import FrozenLayers
from .pieces import PieceTokenizer


class PieceNetwork(nn.Module):
    """A network that reads padded rows of pieces, and its tokenizer.

    `HFModule` computes with torch, and can be trained. `GraphModule` computes with ONNX Runtime.

    pieces (PieceTokenizer): The tokenizer.
    frozen (FrozenLayers | None): The layers that are not trained, if there are any.
    """

    pieces: PieceTokenizer
    frozen: FrozenLayers | None = None

    @property
    def width(self) -> int:
        """Width of the hidden states."""
        raise NotImplementedError

    @property
    def max_length(self) -> int:
        """The largest number of pieces (special tokens included) that network and tokenizer take."""
        raise NotImplementedError

    @property
    def reads_casing(self) -> bool:
        """Whether the network is told the letter case of each piece."""
        raise NotImplementedError

    def outputs(
        self,
        ids: Tensor,
        mask: Tensor,
        casing: Tensor | None = None,
        types: Tensor | None = None,
    ) -> Mapping[str, Any]:
        """Run the network on padded rows.

        ids (Tensor): Piece ids, int64. *Shape:* ``(batch, length)``
        mask (Tensor): 1 for pieces, 0 for padding, int64. *Shape:* ``(batch, length)``
        casing (Tensor | None): Letter case of each piece, int64; needed if the network reads it.
            *Shape:* ``(batch, length)``
        types (Tensor | None): Segment ids, int64; None for the default of the network. A network
            without segments ignores them. *Shape:* ``(batch, length)``
        RETURNS (Mapping[str, Tensor]): The outputs by the names that transformers gives them, such as
            "last_hidden_state"; the main one first.
        """
        raise NotImplementedError

    def forward(self, ids: Tensor, mask: Tensor, casing: Tensor | None = None) -> Tensor:
        """Return the main output of the network: hidden states, or the logits of a task.

        ids, mask, casing: As in `outputs`.
        RETURNS (Tensor): The output, float32. *Shape:* ``(batch, length, width)`` for an encoder
        """
        first: Tensor = next(iter(self.outputs(ids, mask, casing).values()))
        return first.float()
