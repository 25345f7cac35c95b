"""The moving average of the weights."""

import torch
from torch import nn

from audiomamba.training.averaging import Average


def test_the_decay_warms_up_and_then_holds() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = Average(model, decay=0.5)
    nn.init.ones_(model.weight)
    average.update()
    first = 1 - 2 / 11
    torch.testing.assert_close(average.weights["weight"].item(), first)
    for _ in range(20):
        average.update()
    before = average.weights["weight"].item()
    nn.init.zeros_(model.weight)
    average.update()
    torch.testing.assert_close(average.weights["weight"].item(), before * 0.5)


def test_a_loaded_average_goes_on() -> None:
    model = nn.Linear(2, 2)
    average, other = Average(model, 0.9), Average(model, 0.9)
    nn.init.zeros_(model.weight)
    average.update()
    other.load({n: t.clone() for n, t in average.weights.items()}, average.updates)
    average.update()
    other.update()
    assert all(torch.equal(t, other.weights[n]) for n, t in average.weights.items())
