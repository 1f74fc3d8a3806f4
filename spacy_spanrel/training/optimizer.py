"""AdamW for fine-tuning transformers, as a thinc optimizer that `[training.optimizer]` can name.

The optimizer holds settings and schedules; `encoding.step` steps the torch weights by them.
"""

from __future__ import annotations

from typing import Any, Optional

from spacy import registry
from thinc.optimizers import FloatOrSeq, Optimizer

from ..errors import Errors


class AdamW(Optimizer):
    """AdamW for torch weights; thinc's own Adam with weight decay for all other weights.

    head_learn_rate (float | Schedule | None): Learning rate of the heads; None for `learn_rate`.
    correct_bias (bool): Whether Adam's moments are corrected for their start at zero.
    Other arguments as in `thinc.optimizers.Optimizer`.
    RAISES (ValueError): If a learning rate is negative.
    """

    head_learn_rate: float | None
    correct_bias: bool

    def __init__(
        self,
        learn_rate: FloatOrSeq,
        *,
        head_learn_rate: FloatOrSeq | None = None,
        correct_bias: bool = True,
        **settings: Any,
    ):
        super().__init__(learn_rate, use_averages=False, L2_is_weight_decay=True, **settings)
        self.correct_bias = correct_bias
        if head_learn_rate is None:
            self.head_learn_rate = None
        else:
            self._set_attr_or_schedule("head_learn_rate", head_learn_rate)
        for name in ("learn_rate", "head_learn_rate"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(Errors.E501.format(name=name, value=value))


@registry.optimizers("spacy-spanrel.AdamW.v1")
def create_adamw(
    learn_rate: FloatOrSeq = 5e-5,
    head_learn_rate: Optional[FloatOrSeq] = None,  # noqa: UP045
    beta1: FloatOrSeq = 0.9,
    beta2: FloatOrSeq = 0.999,
    eps: FloatOrSeq = 1e-8,
    weight_decay: FloatOrSeq = 0.01,
    grad_clip: FloatOrSeq = 1.0,
    correct_bias: bool = True,
) -> Optimizer:
    """AdamW (Loshchilov and Hutter 2019) with the settings that are usual for transformers.

    learn_rate (float | Schedule): Learning rate.
    head_learn_rate (float | Schedule | None): Learning rate of the heads; None for `learn_rate`.
    beta1, beta2 (float | Schedule): Decay rates of the moments.
    eps (float | Schedule): Added to the denominator.
    weight_decay (float | Schedule): Not applied to biases and normalization weights.
    grad_clip (float | Schedule): Largest norm of the gradient of all weights of a component
        together; 0 for no clipping.
    correct_bias (bool): False leaves Adam's moments uncorrected, as the optimizer of BERT and the
        original SpERT program do: the first thousand steps or so are up to three times longer.
    RETURNS (Optimizer): The optimizer.
    RAISES (ValueError): If a learning rate is negative.
    """
    return AdamW(
        learn_rate,
        head_learn_rate=head_learn_rate,
        beta1=beta1,
        beta2=beta2,
        eps=eps,
        L2=weight_decay,
        grad_clip=grad_clip,
        correct_bias=correct_bias,
    )
