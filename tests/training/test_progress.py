"""The line of progress."""

import math

import torch

from audiomamba.training.losses import TERMS
from audiomamba.training.progress import Meter


def test_a_line_holds_means_and_begins_anew() -> None:
    meter = Meter(TERMS, torch.device("cpu"), every_s=0.0)
    assert not meter.due()
    meter.add(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), torch.tensor(1.0), 10.0)
    meter.add(torch.tensor([3.0, 2.0, 3.0, 4.0, 5.0]), torch.tensor(3.0), 10.0)
    assert meter.due()
    text = meter.line(step=9, audio_s=7200.0, lr=1e-3, left_s=5.0)
    for part in (
        "step 9",
        "ctc 2.000",
        "inter 2.000",
        "active 4.000",
        "agree 5.000",
        "norm 2.00",
        "2.0 h",
    ):
        assert part in text
    assert "left 5 s" in text and "lost" not in text
    assert not meter.due()


def test_steps_without_a_gradient_are_told() -> None:
    meter = Meter(TERMS, torch.device("cpu"), every_s=0.0)
    meter.add(torch.tensor([math.nan, 2.0, 0.0, 0.0, 0.0]), torch.tensor(math.nan), 1.0)
    meter.add(torch.tensor([1.0, 2.0, 0.0, 0.0, 0.0]), torch.tensor(2.0), 1.0)
    text = meter.line(step=2, audio_s=2.0, lr=0.0, left_s=math.inf)
    assert "lost 1" in text and "ctc 0.500" in text and "left" not in text
