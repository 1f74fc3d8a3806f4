"""Losses as (value, gradient) on the logits of a network.

The real loss is computed on detached logits and differentiated by autograd, so the gradient that a
component hands to `backprop` is exactly that of the loss which it reports.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def with_gradient(loss: Callable[[Tensor], Tensor], logits: Tensor) -> tuple[float, Tensor]:
    """Evaluate a loss and its gradient.

    loss (Callable[[Tensor], Tensor]): From logits to a scalar.
    logits (Tensor): Of any shape, possibly without elements.
    RETURNS (tuple[float, Tensor]): The value and the gradient with respect to the logits (float32,
        same shape); 0.0 and zeros if there are no logits.
    """
    z = logits.detach().float().requires_grad_()
    if not z.numel():
        return 0.0, torch.zeros_like(z)
    with torch.enable_grad():
        value = loss(z)
    (gradient,) = torch.autograd.grad(value, z)
    return float(value.detach()), gradient


def class_loss(logits: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    """Cross-entropy, averaged over rows: spans in SpERT (Eberts and Ulges 2020, section 3), pairs in
    relation classification.

    logits (Tensor): *Shape:* ``(n_rows, n_classes)``
    labels (Tensor): Class of each row, int64. *Shape:* ``(n_rows,)``
    RETURNS (tuple[float, Tensor]): Value and gradient.
    """
    return with_gradient(lambda z: F.cross_entropy(z, labels), logits)


def pair_loss(logits: Tensor, targets: Tensor) -> tuple[float, Tensor]:
    """Binary cross-entropy, averaged over relation types and pairs (SpERT, section 3).

    logits (Tensor): *Shape:* ``(n_pairs, n_relation_types)``
    targets (Tensor): 1 where the relation holds, float32. *Shape:* as `logits`
    RETURNS (tuple[float, Tensor]): Value and gradient.
    """
    return with_gradient(lambda z: F.binary_cross_entropy_with_logits(z, targets), logits)


def ends_loss(
    logits: Tensor, targets: Tensor, plausible: Tensor, text: Tensor, weight: float
) -> tuple[float, Tensor]:
    """Mean of the cross-entropies of the first and the last piece, averaged over rows (BERT for
    question answering, Devlin et al. 2019), and the same for plausible answers.

    Where a question has no answer, the part of the text that comes nearest to one is learned as
    well: by a softmax over the text alone, which says where an answer would be and nothing about
    whether there is one (after the pointer to plausible answers of U-Net, Sun et al. 2018).

    logits (Tensor): -inf beyond a row's end. *Shape:* ``(n_rows, longest, 2)``
    targets (Tensor): Columns of the first and the last piece, int64. *Shape:* ``(n_rows, 2)``
    plausible (Tensor): The same of the plausible answer, -1 where there is none.
        *Shape:* ``(n_rows, 2)``
    text (Tensor): Which columns hold text, bool. *Shape:* ``(n_rows, longest)``
    weight (float): Of the plausible answers.
    RETURNS (tuple[float, Tensor]): Value and gradient.
    """

    def loss(z: Tensor) -> Tensor:
        value = F.cross_entropy(z, targets)
        if not weight:
            return value
        inside = z.masked_fill(~text[:, :, None], float("-inf"))
        of_plausible = F.cross_entropy(inside, plausible, ignore_index=-1, reduction="sum")
        return value + weight * of_plausible / targets.numel()

    return with_gradient(loss, logits)
