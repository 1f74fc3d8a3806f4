from __future__ import annotations

import copy
from typing import Any
from weakref import ref

import pytest
import torch
from spacy.util import registry
from thinc.api import Adam, Config, Linear, Model, Optimizer, PyTorchWrapper
from thinc.schedules import warmup_linear
from torch import nn

from spacy_spanrel.encoding.shim import TorchShim
from spacy_spanrel.encoding.step import _STATES, HEAD, current_rates, step
from spacy_spanrel.training.optimizer import AdamW, create_adamw
from tests.util import plain_adamw, tiny_encoder

X = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))


def build_net(cfg: dict[str, Any], files: dict[str, bytes]) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 2))


def net_shim(seed: int = 0, **cfg: Any) -> TorchShim:
    torch.manual_seed(seed)
    shim = TorchShim(build_net, device="cpu", precision="float32")
    shim.set_module(build_net({}, {}), cfg)
    return shim


def backward(module: nn.Module, scale: float = 1.0) -> None:
    (scale * module(X).pow(2).sum()).backward()


def weights(shim: TorchShim) -> list[torch.Tensor]:
    return [p.detach().clone() for p in shim.module.parameters()]


def groups_of(*modules: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    params = [p for module in modules for p in module.parameters()]
    return [
        {"params": [p for p in params if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in params if p.dim() == 1], "weight_decay": 0.0},
    ]


def assert_same(shim: TorchShim, module: nn.Module) -> None:
    for ours, theirs in zip(shim.module.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_equals_torch_over_several_steps():
    first, second = net_shim(0), net_shim(1)
    copies = [copy.deepcopy(shim.module) for shim in (first, second)]
    optimizer = create_adamw(0.01, beta1=0.8, beta2=0.95, eps=1e-6, weight_decay=0.1, grad_clip=0.5)
    plain = torch.optim.AdamW(
        groups_of(*copies, weight_decay=0.1), lr=0.01, betas=(0.8, 0.95), eps=1e-6
    )
    for _ in range(5):
        for module in (first.module, second.module, *copies):
            backward(module)
        step([first, second], optimizer)
        nn.utils.clip_grad_norm_([p for module in copies for p in module.parameters()], 0.5)
        plain.step()
        plain.zero_grad()
        assert_same(first, copies[0])
        assert_same(second, copies[1])
    assert all(p.grad is None for p in first.module.parameters())


def test_without_bias_correction_equals_the_plain_formula():
    shim = net_shim()
    copied = copy.deepcopy(shim.module)
    # With eps about as large as the moments, its place in the formula matters.
    lr, beta1, beta2, eps, decay = 0.01, 0.9, 0.99, 0.5, 0.1
    optimizer = create_adamw(
        lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=decay, grad_clip=0, correct_bias=False
    )
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in copied.parameters()]
    for t in range(4):
        backward(shim.module)
        backward(copied)
        step([shim], optimizer)
        plain_adamw(
            copied.parameters(),
            moments,
            t + 1,
            lr,
            beta1=beta1,
            beta2=beta2,
            eps=eps,
            decay=decay,
            correct_bias=False,
        )
        assert_same(shim, copied)


def test_shims_are_clipped_by_one_norm():
    # Adam's first step does not depend on the scale of a gradient unless eps is large.
    def change_of(*shims: TorchShim) -> list[float]:
        before = [weights(shim) for shim in shims]
        for shim, scale in zip(shims, (1.0, 100.0), strict=False):
            backward(shim.module, scale)
        step(shims, create_adamw(1.0, eps=1000.0, weight_decay=0.0, grad_clip=1.0))
        return [
            float(sum((a - b).abs().sum() for a, b in zip(old, weights(shim), strict=True)))
            for old, shim in zip(before, shims, strict=True)
        ]

    (alone,) = change_of(net_shim(0))
    together = change_of(net_shim(0), net_shim(1))
    assert together[0] < alone / 10
    assert together[1] > together[0] * 10


def test_no_clipping_at_zero():
    shim, other = net_shim(), net_shim()
    for module in (shim.module, other.module):
        backward(module, 100.0)
    gradients = [p.grad.clone() for p in other.module.parameters()]
    before = weights(shim)
    step([shim], create_adamw(1.0, eps=1e6, weight_decay=0.0, grad_clip=0.0))
    for old, new, gradient in zip(before, weights(shim), gradients, strict=True):
        torch.testing.assert_close(
            old - new, gradient / (gradient.abs() + 1e6), atol=1e-6, rtol=0.1
        )


def test_biases_and_normalization_do_not_decay(bert_checkpoint):
    encoder = tiny_encoder(bert_checkpoint)
    shim = encoder.shims[0]
    before = dict(copy.deepcopy(list(shim.module.named_parameters())))
    for parameter in shim.module.parameters():
        torch.nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    step([shim], create_adamw(0.1, weight_decay=5.0))
    changed = {n for n, p in shim.module.named_parameters() if not torch.all(p == 1)}
    kept = before.keys() - changed
    assert changed
    assert all(name.endswith("bias") or "LayerNorm" in name for name in kept)
    assert not any(name.endswith("bias") or "LayerNorm" in name for name in changed)
    for name, parameter in shim.module.named_parameters():
        if name in changed:  # decoupled weight decay: 1 - learn_rate * weight_decay
            assert torch.allclose(parameter, torch.tensor(0.5))


def test_weights_of_other_packages():
    """thinc's own layers are heads; a torch network in thinc's wrapper is an encoder."""

    def change_of(model: Model[Any, Any]) -> float:
        layer = model.initialize()
        xs = X.numpy()
        before = layer.predict(xs)
        _, backprop = layer.begin_update(xs)
        backprop(0.01 * before)
        layer.finish_update(create_adamw(1e-4, head_learn_rate=1e-2, weight_decay=0.0))
        return float(abs(layer.predict(xs) - before).max())

    torch.manual_seed(0)
    heads = change_of(Linear(3, 4))
    encoder = change_of(PyTorchWrapper(nn.Sequential(nn.Linear(4, 3))))
    assert heads > 1e-3
    assert 0 < encoder < 1e-3


def test_head_learn_rate():
    body, head = net_shim(0), net_shim(0, **{HEAD: True})
    copies = [copy.deepcopy(shim.module) for shim in (body, head)]
    optimizer = create_adamw(0.001, head_learn_rate=0.1, weight_decay=0.0, grad_clip=0.0)
    plain = [
        torch.optim.AdamW(module.parameters(), lr=lr, weight_decay=0.0)
        for module, lr in zip(copies, (0.001, 0.1), strict=True)
    ]
    for _ in range(3):
        for module in (body.module, head.module, *copies):
            backward(module)
        step([body, head], optimizer)
        for torch_optimizer in plain:
            torch_optimizer.step()
            torch_optimizer.zero_grad()
    assert_same(body, copies[0])
    assert_same(head, copies[1])


def test_head_learn_rate_defaults_to_the_common_one():
    body, head = net_shim(0), net_shim(0, **{HEAD: True})
    for shim in (body, head):
        backward(shim.module)
    step([body, head], create_adamw(0.01))
    assert_same(body, head.module)


def test_settings_of_thinc_adam_are_honoured():
    shim = net_shim()
    module = copy.deepcopy(shim.module)
    optimizer = Adam(
        0.02, beta1=0.7, beta2=0.9, eps=1e-4, L2=0.3, grad_clip=0.25, use_averages=False
    )
    plain = torch.optim.AdamW(
        groups_of(module, weight_decay=0.3), lr=0.02, betas=(0.7, 0.9), eps=1e-4
    )
    for _ in range(3):
        for one in (shim.module, module):
            backward(one)
        shim.finish_update(optimizer)
        nn.utils.clip_grad_norm_(module.parameters(), 0.25)
        plain.step()
        plain.zero_grad()
    assert_same(shim, module)


def test_schedules_are_followed():
    shim, module = net_shim(), net_shim().module
    head_rates = [0.3, 0.2, 0.1, 0.05, 0.01]
    optimizer = create_adamw(
        warmup_linear(0.1, 2, 4), head_learn_rate=iter(head_rates), weight_decay=0.0, grad_clip=0.0
    )
    plain = torch.optim.AdamW(module.parameters(), lr=1.0, weight_decay=0.0)
    rates = []
    for _ in range(4):
        backward(shim.module)
        backward(module)
        step([shim], optimizer)
        rates.append((optimizer.learn_rate, optimizer.head_learn_rate))
        plain.param_groups[0]["lr"] = optimizer.learn_rate
        plain.step()
        plain.zero_grad()
        assert_same(shim, module)
        optimizer.step_schedules()
    assert [lr for lr, _ in rates] == pytest.approx([0.0, 0.05, 0.1, 0.05])
    assert [head for _, head in rates] == head_rates[:4]


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_averages(decay):
    """They begin with the first weights, are forgotten at a rate that grows to the decay, and can take
    the place of the weights for a while, while training goes on as without them."""
    shim, plain = net_shim(), net_shim()
    for one in (shim, plain):
        one.module[0].bias.requires_grad_(False)
    optimizer, without = create_adamw(0.05, average_decay=decay), create_adamw(0.05)
    expected = None
    for t in range(1, 6):
        for one, its_optimizer in ((shim, optimizer), (plain, without)):
            backward(one.module)
            step([one], its_optimizer)
        rate = min(decay, (1 + t) / (10 + t))
        raw = weights(shim)
        if expected is None:
            expected = raw
        expected = [rate * old + (1 - rate) * new for old, new in zip(expected, raw, strict=True)]
    assert_same(shim, plain.module)
    assert (shim.id, "0.bias") not in optimizer.averages
    places = [p.data_ptr() for p in shim.module.parameters()]
    with shim.use_params(optimizer.averages):
        assert all(map(torch.allclose, weights(shim), expected))
        saved = TorchShim(build_net, device="cpu").from_bytes(shim.to_bytes())
    assert all(map(torch.allclose, weights(saved), expected))
    assert not all(map(torch.allclose, weights(saved), raw))
    assert all(map(torch.equal, weights(shim), raw))
    assert [p.data_ptr() for p in shim.module.parameters()] == places


def test_averages_of_other_weights():
    """Those of thinc's own layers; a torch network in thinc's wrapper would not take them."""
    layer = Linear(2, 3).initialize()  # nO, nI
    wrapped = PyTorchWrapper(nn.Sequential(nn.Linear(3, 2)))
    optimizer = create_adamw(0.1, average_decay=0.9)
    expected = None
    for t in range(1, 4):
        for model in (layer, wrapped):
            Y, backprop = model.begin_update(model.ops.alloc2f(4, 3) + 1)
            backprop(Y + 1)
            model.finish_update(optimizer)
        W = layer.get_param("W").copy()
        rate = (1 + t) / (10 + t)
        expected = W if expected is None else rate * expected + (1 - rate) * W
    assert {key[0] for key in optimizer.averages} == {layer.id}
    with layer.use_params(optimizer.averages):
        assert layer.get_param("W") == pytest.approx(expected)
    assert (layer.get_param("W") == W).all()


def test_averages_of_a_loaded_module_begin_anew():
    shim = net_shim()
    optimizer = Adam(0.05, use_averages=True)
    for _ in range(2):
        backward(shim.module)
        step([shim], optimizer)
    shim.set_module(net_shim(3).module, {})
    backward(shim.module)
    step([shim], optimizer)
    with shim.use_params(optimizer.averages):
        averaged = weights(shim)
    assert all(map(torch.equal, averaged, weights(shim)))


def first_step(scale: float) -> list[torch.Tensor]:
    """Return the weights after one step that starts from the weights of seed 0."""
    shim = net_shim()
    backward(shim.module, scale)
    step([shim], create_adamw(0.01))
    return weights(shim)


def test_moments_last_as_long_as_the_optimizer():
    wanted = first_step(1.0)
    shim = net_shim()
    start = copy.deepcopy(shim.module.state_dict())
    for _ in range(20):  # often enough for an optimizer to reuse the memory of a deleted one
        optimizer = create_adamw(0.01)
        backward(shim.module, -5.0)
        step([shim], optimizer)
        shim.module.load_state_dict(start)
        del optimizer
        fresh = create_adamw(0.01)
        backward(shim.module)
        step([shim], fresh)
        for new, expected in zip(weights(shim), wanted, strict=True):
            torch.testing.assert_close(new, expected)
        shim.module.load_state_dict(start)
        del fresh


def test_moments_do_not_outlive_the_optimizer():
    """They are twice as large as the weights."""
    shim, optimizer = net_shim(), create_adamw(0.01)
    backward(shim.module)
    step([shim], optimizer)
    rows = _STATES[shim][2].state.values()
    moments = [ref(tensor) for row in rows for tensor in row.values()]
    assert all(moment() is not None for moment in moments)
    del optimizer, rows
    assert all(moment() is None for moment in moments)
    assert current_rates([shim]) == {"encoder": 0.01}


def test_step_trains_the_loaded_module():
    wanted = first_step(1.0)
    shim, optimizer = net_shim(), create_adamw(0.01)
    data = shim.to_bytes()
    for _ in range(20):  # often enough for a module to reuse the memory of a deleted one
        backward(shim.module)
        step([shim], optimizer)
        for new, expected in zip(weights(shim), wanted, strict=True):
            torch.testing.assert_close(new, expected)
        shim.from_bytes(data)
        shim.from_bytes(data)


def test_frozen_weights_change_only_after_unfreezing():
    shim, optimizer = net_shim(), create_adamw(0.01, weight_decay=1.0)
    before = weights(shim)
    shim.module[0].requires_grad_(False)
    backward(shim.module)
    step([shim], optimizer)
    frozen = weights(shim)
    assert torch.equal(frozen[0], before[0])
    assert torch.equal(frozen[1], before[1])
    assert not torch.equal(frozen[-2], before[-2])
    shim.module[0].requires_grad_(True)
    backward(shim.module)
    step([shim], optimizer)
    assert not torch.equal(weights(shim)[0], before[0])


def test_a_step_without_gradients_changes_nothing():
    shim = net_shim()
    before = weights(shim)
    step([shim], create_adamw(0.01, weight_decay=1.0))
    assert all(torch.equal(a, b) for a, b in zip(before, weights(shim), strict=True))
    step([], create_adamw())
    step([TorchShim(build_net)], create_adamw())


def test_shims_may_be_added_to_a_later_step():
    first, second = net_shim(0), net_shim(1)
    optimizer = create_adamw(0.01)
    backward(first.module)
    step([first], optimizer)
    before = weights(second)
    backward(first.module)
    backward(second.module)
    step([first, second], optimizer)
    assert not torch.equal(weights(second)[0], before[0])


CONFIG = """
[optimizer]
@optimizers = "spacy-spanrel.AdamW.v1"
head_learn_rate = 0.001
weight_decay = 0.05
grad_clip = 2.0

[optimizer.learn_rate]
@schedules = "warmup_linear.v1"
warmup_steps = 10
total_steps = 100
initial_rate = 0.00005
"""


def test_resolves_from_a_config():
    optimizer = registry.resolve(Config().from_str(CONFIG))["optimizer"]
    assert isinstance(optimizer, AdamW)
    assert isinstance(optimizer, Optimizer)
    assert optimizer.averages is None
    assert (optimizer.L2, optimizer.grad_clip, optimizer.head_learn_rate) == (0.05, 2.0, 0.001)
    assert (optimizer.b1, optimizer.b2, optimizer.eps) == (0.9, 0.999, 1e-8)
    optimizer.step_schedules()
    optimizer.step_schedules()
    assert 0 < optimizer.learn_rate < 5e-5


@pytest.mark.parametrize("name", ["learn_rate", "head_learn_rate"])
def test_negative_learning_rates_are_refused(name):
    with pytest.raises(ValueError, match=f"E_SR501.*{name} = -0.1"):
        create_adamw(**{name: -0.1})


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decay_of_averages_is_below_1(decay):
    with pytest.raises(ValueError, match=f"E_SR507.*{decay}"):
        create_adamw(average_decay=decay)
