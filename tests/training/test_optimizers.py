"""Optimisers by configuration."""

from collections.abc import Callable
from typing import Literal

import pytest
import torch

from audiomamba.models.transcriber import Transcriber
from audiomamba.training.config import OptimizerConfig
from audiomamba.training.optimizers import Optimizer, decays, is_hidden_matrix

Make = Callable[..., Transcriber]


def test_dynamics_norms_and_biases_never_decay(tiny_model: Make) -> None:
    named = dict(tiny_model().named_parameters())
    decaying = {name for name, p in named.items() if decays(name, p)}
    assert not decays("conditioning.label.weight", torch.zeros(3, 4))
    kept = {name for name in named if name not in decaying}
    for part in ("A_log", "A_log_real", "A_imag", "log_dt", "D", "C", "bias", "norm.weight"):
        assert any(name.endswith(part) for name in kept), part
    assert all(name.endswith(".weight") for name in decaying)
    assert not any("norm" in name for name in decaying)


def test_muon_steps_projections_inside_blocks_alone(tiny_model: Make) -> None:
    hidden = {n for n, p in tiny_model().named_parameters() if is_hidden_matrix(n, p)}
    assert "stack.blocks.1.mixer.dynamics.x_proj.weight" in hidden
    assert "stack.blocks.0.ffn.out_proj.weight" in hidden
    outside = ("out.weight", "inter.out.weight", "subsample.project.weight")
    assert not hidden & set(outside)
    assert not any("A_log" in name or "conv" in name for name in hidden)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_every_parameter_moves_and_a_saved_state_goes_on_exactly(
    kind: Literal["adamw", "muon"], tiny_model: Make
) -> None:
    first, second = tiny_model(), tiny_model()
    config = OptimizerConfig(kind=kind)
    one, two = Optimizer(first, config), Optimizer(second, config)

    def fill(seed: int, *models: Transcriber) -> None:
        for model in models:
            torch.manual_seed(seed)
            for p in model.parameters():
                p.grad = torch.randn_like(p)

    before = {n: p.detach().clone() for n, p in first.named_parameters()}
    fill(1, first)
    one.step(1e-2)
    assert all(not torch.equal(before[n], p) for n, p in first.named_parameters())
    second.load_state_dict(first.state_dict())
    two.load({name: t.clone() for name, t in one.state().items()})
    fill(2, first, second)
    one.step(1e-2)
    two.step(1e-2)
    for (name, p), (_, q) in zip(first.named_parameters(), second.named_parameters(), strict=True):
        assert torch.equal(p, q), name
