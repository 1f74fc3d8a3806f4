"""The optimizer step: torch's AdamW for all weights of a component, driven by a thinc optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol
from weakref import WeakKeyDictionary, ref

import torch
from thinc.optimizers import Optimizer
from torch import nn

# Key in the cfg of a shim: True if all of its weights belong to a head, or the prefixes of the
# names of those that do.
HEAD = "is_head"


class Trainable(Protocol):
    """The part of a `TorchShim` that a step needs.

    id (int): Its number, by which an optimizer keeps the averages of its weights.
    module (nn.Module): The network.
    cfg (dict): Its settings, with or without `HEAD`.
    is_initialized (bool): Whether there is a network yet.
    """

    id: int

    @property
    def module(self) -> nn.Module: ...

    @property
    def cfg(self) -> dict[str, Any]: ...

    @property
    def is_initialized(self) -> bool: ...


# Moments live as long as the thinc optimizer: a new training starts afresh, as with thinc's own, and a
# pipeline that is trained does not hold them.
# The key is an object and not its id, because a later object may get the same id.
_STATES: WeakKeyDictionary[
    Trainable, tuple[Callable[[], Optimizer | None], list[ref[nn.Module]], torch.optim.Optimizer]
] = WeakKeyDictionary()


def step(shims: Iterable[Trainable], optimizer: Optimizer) -> None:
    """Update the weights of shims by one optimizer step, and clear their gradients.

    shims (Iterable[Trainable]): Shims that are stepped together: one norm clips all their gradients.
    optimizer (Optimizer): Source of the present learn_rate, b1, b2, eps, L2 (as decoupled weight
        decay) and grad_clip, and of head_learn_rate if it has one. If it keeps averages, they follow.
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
        # torch always corrects the bias of the moments, and adds eps afterwards. A longer step and a
        # larger eps undo the correction.
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
    for weight in parameters:
        if weight.grad is not None:
            weight._steps = steps_of(weight) + 1  # type: ignore[attr-defined]
    torch_optimizer.zero_grad(set_to_none=True)
    if optimizer.averages is not None:
        _average(shims, optimizer, torch_optimizer.param_groups[0]["steps"])


def _average(shims: Iterable[Trainable], optimizer: Optimizer, n_steps: int) -> None:
    """Move the averages of all trained weights towards the weights.

    The decay grows with the number of steps, as in thinc's averages of its own weights (and in
    TensorFlow's), so that the first weights are soon forgotten.
    """
    averages: Any = optimizer.averages
    decay = min(getattr(optimizer, "average_decay", 0.9999), (1 + n_steps) / (10 + n_steps))
    olds, weights = [], []
    for shim in shims:
        for name, weight in shim.module.named_parameters():
            if not steps_of(weight):
                continue
            if (shim.id, name) in averages:
                olds.append(averages[shim.id, name])
                weights.append(weight.detach())
            else:
                averages[shim.id, name] = weight.detach().clone()
    if olds:
        torch._foreach_lerp_(olds, weights, 1 - decay)


@contextmanager
def averaged(shim: Trainable, averages: Mapping[tuple[int, str], Any]) -> Iterator[None]:
    """Replace the weights of a shim by their averages in this context.

    shim (Trainable): A shim with a network.
    averages (Mapping[tuple[int, str], Any]): From the optimizer; those of other models are ignored.
    """

    def put(data: dict[nn.Parameter, Any]) -> None:
        for weight, values in data.items():
            weight.data = values.to(weight.device)
            # Whatever was computed from the weights is computed anew.
            weight._steps = steps_of(weight) + 1  # type: ignore[attr-defined]

    weights = {
        weight: averages[shim.id, name]
        for name, weight in shim.module.named_parameters()
        if (shim.id, name) in averages
    }
    raw = {weight: weight.data for weight in weights}
    put(weights)
    try:
        yield
    finally:
        put(raw)


def steps_of(weight: nn.Parameter) -> int:
    """Return the number of steps that changed a weight.

    The version that torch counts would not do: its fused AdamW does not raise it. Nor may we raise it,
    because `nlp.update` takes the step of a `tok2vec` between its forward and its backward pass.

    weight (Parameter): The weight.
    RETURNS (int): The number of steps.
    """
    return getattr(weight, "_steps", 0)


def current_rates(shims: Iterable[Trainable]) -> dict[str, float]:
    """Return the learning rates of the last step.

    shims (Iterable[Trainable]): The shims that were given to `step`.
    RETURNS (dict[str, float]): Rates of "encoder" and "head", each only if there are such weights;
        empty before the first step.
    """
    first = next((shim for shim in shims if shim.is_initialized), None)
    state = None if first is None else _STATES.get(first)
    groups = [] if state is None else state[2].param_groups
    rates = {group["is_head"]: group["rate"] for group in groups}
    names = {False: "encoder", True: "head"}
    return {name: rates[is_head] for is_head, name in names.items() if is_head in rates}


def _torch_optimizer(shims: list[Trainable], optimizer: Optimizer) -> torch.optim.Optimizer:
    modules = [shim.module for shim in shims]
    # Another optimizer, or networks that were loaded or initialized again, start with new moments and
    # averages.
    state = _STATES.get(shims[0])
    if state is not None:
        source, networks, torch_optimizer = state
        if source() is optimizer and [network() for network in networks] == modules:
            return torch_optimizer
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for shim in shims:
        for name, parameter in shim.module.named_parameters():
            if optimizer.averages is not None:
                optimizer.averages.pop((shim.id, name), None)
            # Frozen weights too: they may be unfrozen later, and AdamW skips what has no gradient.
            key = (_is_head(shim, name), _decays(name, parameter))
            groups.setdefault(key, []).append(parameter)
    specs = [
        {"params": params, "is_head": is_head, "decays": decays}
        for (is_head, decays), params in groups.items()
    ]
    try:
        torch_optimizer = torch.optim.AdamW(specs, lr=1e-3, fused=True)
    except RuntimeError:  # this torch has no fused kernel for this device
        torch_optimizer = torch.optim.AdamW(specs, lr=1e-3, foreach=True)
    source = _reference(optimizer, torch_optimizer.state.clear)
    _STATES[shims[0]] = (source, [ref(module) for module in modules], torch_optimizer)
    return torch_optimizer


def _reference(
    optimizer: Optimizer, when_gone: Callable[[], None]
) -> Callable[[], Optimizer | None]:
    try:
        return ref(optimizer, lambda _: when_gone())
    except TypeError:  # thinc's own class has no weak references
        return lambda: optimizer


def _is_head(shim: Trainable, name: str) -> bool:
    mark = shim.cfg.get(HEAD, False)
    return mark if isinstance(mark, bool) else name.startswith(tuple(mark))


def _decays(name: str, parameter: nn.Parameter) -> bool:
    # Weights of normalization layers are vectors, whatever a network calls them.
    return parameter.dim() > 1 and not name.endswith("bias")
