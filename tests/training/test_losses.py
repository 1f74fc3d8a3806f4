from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from spacy_spanrel.training.losses import (
    Taught,
    class_loss,
    ends_loss,
    further_losses,
    pair_loss,
    with_gradient,
)


def head(n_out: int) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, n_out))
    return network, torch.randn(6, 5)


def check_weight_gradients(network, x, loss_with_gradient, reference) -> None:
    """Compare the weights' gradients after backpropagating the gradient of the logits with those
    after backpropagating a reference loss through logits and network at once."""
    logits = network(x)
    value, gradient = loss_with_gradient(logits)
    logits.backward(gradient)
    gradients = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()
    expected = reference(network(x))
    expected.backward()
    assert value == pytest.approx(expected.item())
    for weight_gradient, p in zip(gradients, network.parameters(), strict=True):
        torch.testing.assert_close(weight_gradient, p.grad)


def test_class_loss_equals_autograd_through_the_network():
    network, x = head(4)
    labels = torch.tensor([0, 3, 1, 0, 2, 2])
    check_weight_gradients(
        network, x, lambda z: class_loss(z, labels), lambda z: F.cross_entropy(z, labels)
    )


def test_pair_loss_equals_autograd_through_the_network():
    network, x = head(3)
    targets = torch.randint(0, 2, (6, 3)).float()

    def mean_of_formula(z: torch.Tensor) -> torch.Tensor:
        p = torch.sigmoid(z)
        return -(targets * p.log() + (1 - targets) * (1 - p).log()).mean()

    check_weight_gradients(network, x, lambda z: pair_loss(z, targets), mean_of_formula)


@given(st.integers(1, 8), st.integers(1, 5), st.integers(0, 1000))
def test_gradients_equal_the_formulas(n, n_types, seed):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, n_types, generator=generator) * 5
    labels = torch.randint(0, n_types, (n,), generator=generator)
    _, gradient = class_loss(z, labels)
    expected = (torch.softmax(z, dim=1) - F.one_hot(labels, n_types)) / n
    torch.testing.assert_close(gradient, expected)
    targets = torch.randint(0, 2, (n, n_types), generator=generator).float()
    _, gradient = pair_loss(z, targets)
    torch.testing.assert_close(gradient, (torch.sigmoid(z) - targets) / (n * n_types))


@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (0, 0)])
def test_loss_without_logits_is_zero(shape):
    logits = torch.zeros(shape, requires_grad=True)
    value, gradient = pair_loss(logits, torch.zeros(shape))
    assert (value, type(value)) == (0.0, float)
    assert gradient.shape == shape
    value, gradient = class_loss(logits, torch.zeros(shape[0], dtype=torch.int64))
    assert (value, gradient.shape) == (0.0, shape)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_logits(dtype):
    # The loss is computed in float32: in half precision, large logits would overflow.
    logits = torch.tensor([[300.0, -300.0], [0.5, 0.25]]).to(dtype)
    value, gradient = pair_loss(logits, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    assert type(value) is float
    assert gradient.dtype == torch.float32
    assert torch.isfinite(gradient).all()
    assert 0 < value < 1000


def test_graph_of_the_logits_stays_usable():
    x = torch.ones(2, 2, requires_grad=True)
    logits = x * 3
    with torch.no_grad():  # a component may compute its loss in either mode
        value, gradient = with_gradient(lambda z: (z**2).sum(), logits)
    assert value == 36.0
    assert gradient.tolist() == [[6.0, 6.0], [6.0, 6.0]]
    assert not gradient.requires_grad
    assert x.grad is None
    logits.backward(gradient)
    assert x.grad.tolist() == [[18.0, 18.0], [18.0, 18.0]]


def test_ends_loss_of_plausible_answers() -> None:
    """Plausible answers are learned by a softmax over the text only, and rows without text add
    nothing."""
    torch.manual_seed(0)
    logits = torch.randn(3, 5, 2)
    logits[2, 2:] = float("-inf")
    targets = torch.tensor([[2, 3], [0, 0], [0, 0]])
    plausible = torch.tensor([[-1, -1], [3, 4], [-1, -1]])
    text = torch.zeros(3, 5, dtype=torch.bool)
    text[:2, 2:] = True
    base_value, base_gradient = ends_loss(logits, targets, plausible, text, 0.0)
    value, gradient = ends_loss(logits, targets, plausible, text, 0.5)
    log_p = logits[1, 2:].log_softmax(dim=0)
    expected = base_value - 0.5 * float(log_p[1, 0] + log_p[2, 1]) / 6
    assert value == pytest.approx(expected, abs=1e-6)
    difference = gradient - base_gradient
    assert difference.isfinite().all()
    assert (difference[1, 2:].abs() > 0).all()
    difference[1, 2:] = 0
    assert not difference.any()


SHAPES = pytest.mark.parametrize(("binary", "dim"), [(True, -1), (False, -1), (False, 1)])


def numbers(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def divergence(one: torch.Tensor, other: torch.Tensor, binary: bool, dim: int) -> torch.Tensor:
    distributions = torch.distributions
    return distributions.kl_divergence(
        *(
            distributions.Bernoulli(logits=z)
            if binary
            else distributions.Categorical(logits=z.movedim(dim, -1))
            for z in (one, other)
        )
    ).mean()


def none_yet(z: torch.Tensor) -> tuple[float, torch.Tensor]:
    return 0.0, torch.zeros_like(z)


@SHAPES
def test_disagreement_of_two_passes(binary, dim):
    z = numbers(0, 6, 5, 2)
    one, other = z.chunk(2)
    both = divergence(one, other, binary, dim) + divergence(other, one, binary, dim)
    value, gradient = further_losses(none_yet(z), z, r_drop=0.5, binary=binary, dim=dim)
    assert value == pytest.approx(0.25 * both.item(), rel=1e-4)
    assert gradient.any()
    z = torch.cat([z, z])
    value, gradient = further_losses(none_yet(z), z, r_drop=0.5, binary=binary, dim=dim)
    assert value == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(gradient, torch.zeros_like(z), atol=1e-6, rtol=0)


@SHAPES
def test_loss_of_a_teacher(binary, dim):
    """Its gradient is that of the cross-entropy with the teacher's probabilities; rows about which it says
    nothing do not count."""
    z, teacher = numbers(0, 6, 5, 2), numbers(1, 6, 5, 2)
    hard = (2.0, torch.ones_like(z))
    taught = Taught(teacher, 0.25, 3.0)
    value, gradient = further_losses(hard, z, taught=taught, binary=binary, dim=dim)
    expected = 0.25 * 9 * divergence(teacher / 3, z / 3, binary, dim)
    assert value == pytest.approx(0.75 * 2 + expected.item(), rel=1e-4)
    if dim == 1:
        leaf = z.clone().requires_grad_()
        (0.25 * 9 * F.cross_entropy(leaf / 3, (teacher / 3).softmax(1))).backward()
        torch.testing.assert_close(gradient - 0.75, leaf.grad, atol=1e-6, rtol=1e-4)
    teacher[:2] = float("nan")
    value, gradient = further_losses(hard, z, taught=taught, binary=binary, dim=dim)
    expected = 0.25 * 9 * divergence(teacher[2:] / 3, z[2:] / 3, binary, dim) * 4 / 6
    assert value == pytest.approx(0.75 * 2 + expected.item(), rel=1e-4)
    torch.testing.assert_close(gradient[:2], torch.full_like(z[:2], 0.75))


@given(st.floats(0, 1), st.integers(0, 3))
def test_further_losses_ignore_padding(weight, n_padded):
    z, teacher = numbers(0, 4, 5, 2), numbers(1, 4, 5, 2)

    def losses(z: torch.Tensor, teacher: torch.Tensor) -> tuple[float, torch.Tensor]:
        return further_losses(
            none_yet(z), z, r_drop=1.0, taught=Taught(teacher, weight, 2.0), dim=1
        )

    padded = [F.pad(x, (0, 0, 0, n_padded), value=float("-inf")) for x in (z, teacher)]
    value, gradient = losses(*padded)
    expected, d_z = losses(z, teacher)
    assert value == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(gradient, F.pad(d_z, (0, 0, 0, n_padded)), atol=1e-6, rtol=1e-4)


def test_no_further_losses_change_nothing():
    z = numbers(0, 4, 5)
    loss = (1.0, torch.ones_like(z))
    assert further_losses(loss, z) is loss
