"""AdamW for fine-tuning transformers, as a thinc optimizer that `[training.optimizer]` can name.

The optimizer holds settings and schedules; `encoding.step` steps the torch weights of this package by
them. All other weights are given to the optimizer one by one.
"""

from __future__ import annotations

from typing import Any, Optional

from spacy import registry
from thinc.backends import get_array_ops
from thinc.optimizers import FloatOrSeq, Optimizer
from thinc.types import FloatsXd

from ..errors import Errors


class AdamW(Optimizer):
    """AdamW for torch weights; thinc's own Adam with weight decay for all other weights.

    head_learn_rate (float | Schedule | None): Learning rate of the heads, those of spaCy's own components
        included; None for `learn_rate`.
    correct_bias (bool): Whether Adam's moments are corrected for their start at zero.
    average_decay (float): Decay of the averages of the weights; 0 for no averages.
    Other arguments as in `thinc.optimizers.Optimizer`.
    RAISES (ValueError): If a learning rate is negative, or the decay is not below 1.
    """

    head_learn_rate: float | None
    correct_bias: bool
    average_decay: float

    def __init__(
        self,
        learn_rate: FloatOrSeq,
        *,
        head_learn_rate: FloatOrSeq | None = None,
        correct_bias: bool = True,
        average_decay: float = 0.0,
        **settings: Any,
    ):
        if not 0 <= average_decay < 1:
            raise ValueError(Errors.E507.format(value=average_decay))
        super().__init__(
            learn_rate, use_averages=average_decay > 0, L2_is_weight_decay=True, **settings
        )
        self.correct_bias = correct_bias
        self.average_decay = average_decay
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
        learn_rate, averages = self.learn_rate, self.averages
        # thinc's averages begin at zero and have a fixed decay.
        self.averages = None
        if self.head_learn_rate is not None and "." not in key[1]:
            self.learn_rate = self.head_learn_rate
        try:
            stepped: tuple[FloatsXd, FloatsXd] = super().__call__(
                key, weights, gradient, lr_scale=lr_scale
            )
        finally:
            self.learn_rate, self.averages = learn_rate, averages
        # thinc's wrapper of a torch network does not take averages back.
        if averages is not None and "." not in key[1]:
            if key in averages:
                ops = get_array_ops(weights)
                n_steps = self.nr_update[key]
                ops.update_averages(averages[key], stepped[0], n_steps, self.average_decay)
            else:
                averages[key] = stepped[0].copy()
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
    average_decay: float = 0.0,
) -> Optimizer:
    """AdamW (Loshchilov and Hutter 2019) with the settings that are usual for transformers.

    learn_rate (float | Schedule): Learning rate.
    head_learn_rate (float | Schedule | None): Learning rate of the heads, those of spaCy's own components
        (`ner`, `tagger`) included; None for `learn_rate`.
    beta1, beta2 (float | Schedule): Decay rates of the moments.
    eps (float | Schedule): Added to the denominator.
    weight_decay (float | Schedule): Not applied to biases and normalization weights. (Layers of spaCy
        itself, such as those of a tok2vec, are left to thinc, where it is applied to all weights.)
    grad_clip (float | Schedule): Largest norm of the gradient of all weights of a component
        together, in thinc's layers of each array; 0 for no clipping.
    correct_bias (bool): False leaves Adam's moments uncorrected, as the optimizer of BERT and the
        original SpERT program do: the first thousand steps or so are up to three times longer.
    average_decay (float): Decay of an average of the weights over the steps (0.99 to 0.999), which is
        scored during training and saved in their place, while training goes on with the weights
        themselves; 0 for no average.
    RETURNS (Optimizer): The optimizer.
    RAISES (ValueError): If a learning rate is negative, or the decay is not below 1.
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
        average_decay=average_decay,
    )
