from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakKeyDictionary, ref

import torch
from thinc.optimizers import Optimizer
from torch import nn

from ..encoding.shim import TorchShim
from ..errors import Warnings, warn

# In the cfg of a shim: True if it is a head, or the prefixes of its parameters that are.
HEAD = "is_head"


# Moments live as long as the thinc optimizer: a new training starts afresh, as with thinc's own.
# Objects, not their ids, tell whom they belong to: an id may come back for another object.
_STATES: WeakKeyDictionary[
    TorchShim, tuple[Optimizer, list[ref[nn.Module]], torch.optim.Optimizer]
] = WeakKeyDictionary()


def step(shims: Iterable[TorchShim], optimizer: Optimizer) -> None:
    """Update the weights of some shims from their gradients, and clear these.

    shims (Iterable[TorchShim]): Stepped together: their gradients are clipped by one norm.
    optimizer (Optimizer): Gives learn_rate, b1, b2, eps, L2 (as decoupled weight decay) and
        grad_clip at their present values, and head_learn_rate if it has one.
    """
    shims = [shim for shim in shims if shim.is_initialized]
    if not shims:
        return
    torch_optimizer = _torch_optimizer(shims, optimizer)
    lr = float(optimizer.learn_rate)
    head_lr = getattr(optimizer, "head_learn_rate", None)
    beta1, beta2 = float(optimizer.b1), float(optimizer.b2)
    for group in torch_optimizer.param_groups:
        group["steps"] = group.get("steps", 0) + 1
        # torch always corrects the bias, and adds eps after that; a longer step and a larger eps
        # take the correction back.
        scale, eps = 1.0, float(optimizer.eps)
        if not getattr(optimizer, "correct_bias", True):
            corrected = (1 - beta2 ** group["steps"]) ** 0.5
            scale = (1 - beta1 ** group["steps"]) / corrected
            eps /= corrected
        rate = float(head_lr) if group["is_head"] and head_lr is not None else lr
        group["rate"] = rate
        group["lr"] = rate * scale
        group["betas"] = (beta1, beta2)
        group["eps"] = eps
        group["weight_decay"] = float(optimizer.L2) / scale if group["decays"] else 0.0
    parameters = [p for group in torch_optimizer.param_groups for p in group["params"]]
    if optimizer.grad_clip:
        nn.utils.clip_grad_norm_(parameters, float(optimizer.grad_clip))
    torch_optimizer.step()
    torch_optimizer.zero_grad(set_to_none=True)


def current_rates(shims: Iterable[TorchShim]) -> dict[str, float]:
    """Return the learning rates of the last step.

    shims (Iterable[TorchShim]): As they were given to `step`.
    RETURNS (dict[str, float]): Those of "encoder" and "head", as far as there are such weights;
        empty before the first step.
    """
    first = next((shim for shim in shims if shim.is_initialized), None)
    found = None if first is None else _STATES.get(first)
    groups = [] if found is None else found[2].param_groups
    rates = {group["is_head"]: group["rate"] for group in groups}
    names = {False: "encoder", True: "head"}
    return {name: rates[is_head] for is_head, name in names.items() if is_head in rates}


def _torch_optimizer(shims: list[TorchShim], optimizer: Optimizer) -> torch.optim.Optimizer:
    modules = [shim.module for shim in shims]
    # Another optimizer, or modules that were loaded or made anew, start with new moments.
    found = _STATES.get(shims[0])
    if found is not None and found[0] is optimizer and [known() for known in found[1]] == modules:
        return found[2]
    if optimizer.averages is not None:
        warn(Warnings.W103)
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for shim in shims:
        for name, parameter in shim.module.named_parameters():
            # Frozen ones too: they may be set free later, and without a gradient nothing happens.
            key = (_is_head(shim, name), _decays(name, parameter))
            groups.setdefault(key, []).append(parameter)
    specs = [
        {"params": params, "is_head": is_head, "decays": decays}
        for (is_head, decays), params in groups.items()
    ]
    try:
        made = torch.optim.AdamW(specs, lr=1e-3, fused=True)
    except RuntimeError:  # no fused kernel for this device in this torch
        made = torch.optim.AdamW(specs, lr=1e-3, foreach=True)
    _STATES[shims[0]] = (optimizer, [ref(module) for module in modules], made)
    return made


def _is_head(shim: TorchShim, name: str) -> bool:
    mark = shim.cfg.get(HEAD, False)
    return mark if isinstance(mark, bool) else name.startswith(tuple(mark))


def _decays(name: str, parameter: nn.Parameter) -> bool:
    # Weights of normalization layers have one dimension whatever the model calls them.
    return parameter.dim() > 1 and not name.endswith("bias")
