"""Large embeddings whose gradient costs little on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Below so many rows, torch's own gradient costs nothing worth mentioning.
_MANY_ROWS = 4096


class LargeEmbedding(nn.Embedding):
    """A `torch.nn.Embedding` that keeps the memory of its gradient from step to step.

    In each backward pass, torch makes a gradient of the size of the whole vocabulary (47 MB for 30,522
    rows of 384), most of it zeros, and adds it to those of the passes before. To get so much memory from
    the system takes longer than all the rest. Here it is taken once, and the passes add their rows to it.
    Otherwise the module is torch's own.

    embedding (nn.Embedding): The embedding to take the place of; its weight is shared.
    """

    _gradient: Tensor | None = None

    def __init__(self, embedding: nn.Embedding):
        nn.Module.__init__(self)
        self.__dict__.update(embedding.__dict__)

    def forward(self, input: Tensor) -> Tensor:
        weight = self.weight
        if weight.device.type == "cpu" and weight.requires_grad and torch.is_grad_enabled():
            vectors: Tensor = _Lookup.apply(weight, input, self)
            return vectors
        return super().forward(input)

    def add_gradient(self, ids: Tensor, gradient: Tensor) -> None:
        """Add to the gradient of the weight.

        ids (Tensor): The rows. *Shape:* ``(n,)``
        gradient (Tensor): Their gradients. *Shape:* ``(n, width)``
        """
        weight = self.weight
        if weight.grad is None:
            old = self._gradient
            if old is not None and old.shape == weight.shape and old.dtype == weight.dtype:
                weight.grad = old.zero_()
            else:
                weight.grad = self._gradient = torch.zeros_like(weight)
        if self.padding_idx is not None:
            gradient = gradient.masked_fill((ids == self.padding_idx)[:, None], 0)
        weight.grad.index_add_(0, ids, gradient.to(weight.dtype))

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles get a gradient of their own.
        return {**self.__dict__, "_gradient": None}


class _Lookup(torch.autograd.Function):
    """Embed pieces. The gradient of the weight is not returned, but added in place."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, embedding: LargeEmbedding) -> Tensor:
        ctx.embedding = embedding
        ctx.save_for_backward(ids)
        return F.embedding(ids, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None]:  # type: ignore[override]
        (ids,) = ctx.saved_tensors
        ctx.embedding.add_gradient(ids.reshape(-1), gradient.reshape(-1, gradient.shape[-1]))
        return None, None, None


def replace_large_embeddings(network: nn.Module) -> None:
    """Replace torch's embeddings of many rows in a network; those of other classes stay as they are.

    network (nn.Module): The network, changed in place. Names, weights and outputs are the same.
    """
    new: dict[nn.Module, LargeEmbedding] = {}  # one for each, in whatever places it stands
    for parent in list(network.modules()):
        for name, module in parent.named_children():
            if type(module) is not nn.Embedding or module.num_embeddings < _MANY_ROWS:
                continue
            if not (module.sparse or module.scale_grad_by_freq or module.max_norm):
                setattr(parent, name, new.setdefault(module, LargeEmbedding(module)))
