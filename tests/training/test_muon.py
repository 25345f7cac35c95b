"""Muon."""

import pytest
import torch
from torch import nn

from audiomamba.training.muon import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(3, 8, 20), (2, 20, 8), (1, 12, 12)], ids=str)
def test_singular_values_come_near_one(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalize(torch.randn(shape)).float())
    assert values.min() > 0.4
    assert values.max() < 1.4


def test_a_matrix_is_turned_as_its_polar_factor() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 6, 10)
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    cosine = torch.cosine_similarity(orthogonalize(x).float().flatten(), (u @ v).flatten(), dim=0)
    assert cosine > 0.97


def parameters() -> list[tuple[str, nn.Parameter]]:
    torch.manual_seed(0)
    return [(f"m{i}", nn.Parameter(torch.randn(4, 6))) for i in range(2)] + [
        ("wide", nn.Parameter(torch.randn(3, 9)))
    ]


def fill(named: list[tuple[str, nn.Parameter]], seed: int) -> None:
    torch.manual_seed(seed)
    for _, p in named:
        p.grad = torch.randn_like(p)


def test_stepping_together_is_stepping_alone() -> None:
    together, alone = parameters(), parameters()
    lr = torch.tensor(0.1)
    fill(together, 1)
    fill(alone, 1)
    Muon(together, lr=lr, momentum=0.9, weight_decay=0.1).step()
    for entry in alone:
        Muon([entry], lr=lr, momentum=0.9, weight_decay=0.1).step()
    for (_, p), (_, q) in zip(together, alone, strict=True):
        torch.testing.assert_close(p, q, atol=1e-3, rtol=1e-2)


def test_a_step_has_the_size_of_adamw() -> None:
    named = [("m", nn.Parameter(torch.zeros(64, 48)))]
    fill(named, 1)
    Muon(named, lr=torch.tensor(0.01), momentum=0.95, weight_decay=0.0).step()
    rms = named[0][1].square().mean().sqrt().item()
    assert 0.1 * 0.01 < rms < 0.4 * 0.01


def test_a_saved_state_goes_on_exactly() -> None:
    lr = torch.tensor(0.1)
    first, second = parameters(), parameters()
    one = Muon(first, lr=lr, momentum=0.9, weight_decay=0.0)
    fill(first, 1)
    one.step()
    two = Muon(second, lr=lr, momentum=0.9, weight_decay=0.0)
    two.load({name: t.clone() for name, t in one.state().items()})
    for (_, p), (_, q) in zip(first, second, strict=True):
        q.data.copy_(p.data)
    fill(first, 2)
    fill(second, 2)
    one.step()
    two.step()
    for (_, p), (_, q) in zip(first, second, strict=True):
        assert torch.equal(p, q)


def test_both_maps_of_an_input_projection_are_turned_apart() -> None:
    both = nn.Parameter(torch.zeros(8, 6))
    halves = [(f"h{i}", nn.Parameter(torch.zeros(4, 6))) for i in range(2)]
    torch.manual_seed(0)
    both.grad = torch.randn(8, 6)
    for (_, half), part in zip(halves, both.grad.chunk(2), strict=True):
        half.grad = part.clone()
    for named in ([("block.in_proj.weight", both)], halves):
        Muon(named, lr=torch.tensor(0.1), momentum=0.9, weight_decay=0.0).step()
    torch.testing.assert_close(both.data, torch.cat([half.data for _, half in halves]))
