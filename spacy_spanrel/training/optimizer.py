"""AdamW for fine-tuning transformers, as a thinc optimizer that `[training.optimizer]` can name.

The optimizer holds settings and schedules; `encoding.step` steps the torch weights of this package by
them. All other weights are given to the optimizer one by one.
"""

from __future__ import annotations

from typing import Any, Optional

from spacy import registry
from thinc.optimizers import FloatOrSeq, Optimizer
from thinc.types import FloatsXd

from ..errors import Errors


class AdamW(Optimizer):
    """AdamW for torch weights; thinc's own Adam with weight decay for all other weights.

    head_learn_rate (float | Schedule | None): Learning rate of the heads, those of spaCy's own components
        included; None for `learn_rate`.
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

    def __call__(
        self,
        key: tuple[int, str],
        weights: FloatsXd,
        gradient: FloatsXd,
        *,
        lr_scale: float = 1.0,
    ) -> tuple[FloatsXd, FloatsXd]:
        """Step one array of weights that is not of this package.

        thinc's own layers, such as those of spaCy's `ner` and `tagger`, are heads. A torch network in
        thinc's wrapper (a transformer of another package) gives the dotted names of its modules, and is
        an encoder.

        key (tuple[int, str]): Id of the layer or of the wrapper, and name of the weights in it.
        weights, gradient (FloatsXd): The weights and their gradient; they may be changed in place.
        lr_scale (float): Factor of the learning rate.
        RETURNS (tuple[FloatsXd, FloatsXd]): The new weights, and a gradient of zeros.
        """
        learn_rate = self.learn_rate
        if self.head_learn_rate is not None and "." not in key[1]:
            self.learn_rate = self.head_learn_rate
        try:
            stepped: tuple[FloatsXd, FloatsXd] = super().__call__(
                key, weights, gradient, lr_scale=lr_scale
            )
        finally:
            self.learn_rate = learn_rate
        return stepped


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
    head_learn_rate (float | Schedule | None): Learning rate of the heads, those of spaCy's own components
        (`ner`, `tagger`) included; None for `learn_rate`.
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
