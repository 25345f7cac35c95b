"""The flat gradient."""

import torch
from torch import Tensor, nn

from audiomamba.training.gradients import FlatGradient


def made(a: float, b: float) -> tuple[nn.Module, FlatGradient]:
    model = nn.Linear(3, 2)
    flat = FlatGradient(model)
    flat.fill((torch.full((2, 3), a), torch.full((2,), b)))
    return model, flat


def test_parameters_see_their_parts() -> None:
    model, flat = made(1.0, 2.0)
    assert isinstance(model.weight.grad, Tensor) and isinstance(model.bias.grad, Tensor)
    assert bool((model.weight.grad == 1.0).all()) and bool((model.bias.grad == 2.0).all())
    flat.flat.mul_(3)
    assert isinstance(model.bias.grad, Tensor) and bool((model.bias.grad == 6.0).all())


def test_what_is_unused_becomes_zero() -> None:
    model, flat = made(1.0, 2.0)
    flat.fill((None, torch.ones(2)))
    assert isinstance(model.weight.grad, Tensor) and not bool((model.weight.grad != 0).any())


def test_a_large_gradient_is_scaled_and_a_small_one_kept() -> None:
    model, flat = made(3.0, 4.0)
    norm = flat.clip(1.0)
    torch.testing.assert_close(norm.item(), (6 * 9 + 2 * 16) ** 0.5)
    torch.testing.assert_close(flat.flat.norm().item(), 1.0)
    assert isinstance(model.weight.grad, Tensor)
    before = model.weight.grad.clone()
    flat.clip(5.0)
    assert torch.equal(model.weight.grad, before)


def test_a_gradient_that_is_not_finite_becomes_zero() -> None:
    _, flat = made(float("nan"), float("inf"))
    assert not flat.clip(1.0).isfinite()
    assert not flat.flat.any()
