"""Loss functions that return the value and the gradient with respect to the logits.

Each loss is computed on detached logits and differentiated by autograd. The gradient that a component
passes to `backprop` is therefore exactly that of the loss that it reports.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


def with_gradient(loss: Callable[[Tensor], Tensor], logits: Tensor) -> tuple[float, Tensor]:
    """Compute a loss and its gradient.

    loss (Callable[[Tensor], Tensor]): A function from logits to a scalar.
    logits (Tensor): Logits of any shape, possibly without elements.
    RETURNS (tuple[float, Tensor]): The value, and the gradient with respect to the logits (float32,
        same shape). Without elements, 0.0 and an empty tensor.
    """
    z = logits.detach().float().requires_grad_()
    if not z.numel():
        return 0.0, torch.zeros_like(z)
    with torch.enable_grad():
        value = loss(z)
    (gradient,) = torch.autograd.grad(value, z)
    return float(value.detach()), gradient


# Logits below this are those of padding (-inf); it is finite in float16, too.
_LEAST = -1e4


@dataclass(frozen=True)
class Taught:
    """The logits of a teacher, and how they are learned.

    logits (Tensor): Logits in the shape of the student's; NaN in rows about which the teacher says
        nothing.
    weight (float): Share of the teacher in the loss, 0 to 1.
    temperature (float): Number by which the logits of both are divided.
    """

    logits: Tensor
    weight: float
    temperature: float


def further_losses(
    loss: tuple[float, Tensor],
    logits: Tensor,
    *,
    r_drop: float = 0.0,
    taught: Taught | None = None,
    binary: bool = False,
    dim: int = -1,
) -> tuple[float, Tensor]:
    """Mix a loss with that of a teacher, and add the disagreement of two passes.

    The loss of a teacher is the Kullback-Leibler divergence from its probabilities to the student's, both
    at a higher temperature, times the square of the temperature, which keeps the size of the gradient
    (Hinton et al. 2015; its gradient is that of the cross-entropy with the teacher's probabilities). The
    disagreement of two passes over the same rows with different dropout is the mean of the divergences in
    both directions (Liang et al. 2021, "R-Drop: Regularized Dropout for Neural Networks"). Both are
    averaged over all distributions.

    loss (tuple[float, Tensor]): Value and gradient of the loss of the gold labels.
    logits (Tensor): Logits; with `r_drop` those of the first pass, followed by those of the second.
    r_drop (float): Weight of the disagreement; 0 for none.
    taught (Taught | None): The teacher's logits; None without a teacher.
    binary (bool): Whether each logit is a distribution of its own (sigmoid).
    dim (int): The dimension of the classes (softmax), unless `binary`.
    RETURNS (tuple[float, Tensor]): The value and the gradient of the whole.
    """
    if not r_drop and taught is None:
        return loss

    def further(z: Tensor) -> Tensor:
        value = z.new_zeros(())
        if r_drop:
            one, other = _log_probabilities(z, binary, dim).chunk(2)
            both = _divergence(one, other, binary, dim) + _divergence(other, one, binary, dim)
            value = value + r_drop * both.mean() / 2
        if taught is not None:
            # A row without a teacher's logits is like one in which both agree.
            says = ~taught.logits.isnan()
            truth, student = (
                _log_probabilities(x / taught.temperature, binary, dim)
                for x in (
                    torch.where(says, taught.logits, z.detach()),
                    torch.where(says, z, z.detach()),
                )
            )
            divergence = _divergence(truth, student, binary, dim).mean()
            value = value + taught.weight * taught.temperature**2 * divergence
        return value

    value, gradient = with_gradient(further, logits)
    share = 1.0 if taught is None else 1.0 - taught.weight
    return share * loss[0] + value, share * loss[1] + gradient


def _log_probabilities(logits: Tensor, binary: bool, dim: int) -> Tensor:
    if binary:
        return F.logsigmoid(torch.stack([logits, -logits], dim=-1))
    return F.log_softmax(logits.clamp(min=_LEAST), dim=dim)


def _divergence(one: Tensor, other: Tensor, binary: bool, dim: int) -> Tensor:
    """Return KL(one || other) of log probabilities."""
    return (one.exp() * (one - other)).sum(-1 if binary else dim)


def class_loss(
    logits: Tensor, labels: Tensor, weights: Tensor | None = None
) -> tuple[float, Tensor]:
    """Compute the cross-entropy, averaged over rows. A row is a span in SpERT (Eberts and Ulges 2020,
    section 3), and a pair in relation classification.

    logits (Tensor): Logits. *Shape:* ``(n_rows, n_classes)``
    labels (Tensor): The class of each row, int64, *shape* ``(n_rows,)``; or the probability of each
        class, float32, *shape* ``(n_rows, n_classes)``.
    weights (Tensor | None): The weight of each row, float32; None for 1. The sum is divided by the
        number of rows and not by the sum of the weights, so that a batch of doubtful rows moves the
        network less than a batch of certain ones. *Shape:* ``(n_rows,)``
    RETURNS (tuple[float, Tensor]): The value and the gradient.
    """
    if weights is None:
        return with_gradient(lambda z: F.cross_entropy(z, labels), logits)
    return with_gradient(
        lambda z: (F.cross_entropy(z, labels, reduction="none") * weights).mean(), logits
    )


def pair_loss(
    logits: Tensor, targets: Tensor, weights: Tensor | None = None
) -> tuple[float, Tensor]:
    """Compute the binary cross-entropy, averaged over pairs and relation types (SpERT, section 3).

    logits (Tensor): Logits. *Shape:* ``(n_pairs, n_relation_types)``
    targets (Tensor): 1 for each relation that holds, else 0; float32.
        *Shape:* ``(n_pairs, n_relation_types)``
    weights (Tensor | None): The weight of each target, float32; None for 1. The sum is divided by
        the number of targets, as in `class_loss`. *Shape:* ``(n_pairs, n_relation_types)``
    RETURNS (tuple[float, Tensor]): The value and the gradient.
    """
    return with_gradient(lambda z: F.binary_cross_entropy_with_logits(z, targets, weights), logits)


def ends_loss(
    logits: Tensor, targets: Tensor, plausible: Tensor, text: Tensor, weight: float
) -> tuple[float, Tensor]:
    """Compute the mean of the cross-entropies of an answer's first and last piece, averaged over rows
    (BERT for question answering, Devlin et al. 2019), and add that of plausible answers.

    A question without an answer may have a plausible answer: words of the text that look like an
    answer. They are learned by a softmax over the text only. It teaches where an answer would be, and
    says nothing about whether there is one (compare the pointer to plausible answers in U-Net, Sun et
    al. 2018).

    logits (Tensor): Logits of the first and the last piece, -inf beyond the end of a row.
        *Shape:* ``(n_rows, longest, 2)``
    targets (Tensor): Columns of the answer's first and last piece, int64. *Shape:* ``(n_rows, 2)``
    plausible (Tensor): Columns of the plausible answer's first and last piece, -1 if there is none;
        int64. *Shape:* ``(n_rows, 2)``
    text (Tensor): Whether a column holds a piece of the text, bool. *Shape:* ``(n_rows, longest)``
    weight (float): Weight of the plausible answers.
    RETURNS (tuple[float, Tensor]): The value and the gradient.
    """

    def loss(z: Tensor) -> Tensor:
        value = F.cross_entropy(z, targets)
        if not weight:
            return value
        text_logits = z.masked_fill(~text[:, :, None], float("-inf"))
        plausible_sum = F.cross_entropy(text_logits, plausible, ignore_index=-1, reduction="sum")
        return value + weight * plausible_sum / targets.numel()

    return with_gradient(loss, logits)
