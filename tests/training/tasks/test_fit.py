"""A small model learns a small problem, and steps say what the parallel form says."""

import pytest
import torch

from audiomamba.training.tasks.fit import FitConfig, accuracy, accuracy_by_steps, fit, small_model
from audiomamba.training.tasks.problems import INDUCTION_HEADS


@pytest.mark.slow
def test_steps_and_the_parallel_form_agree_and_memory_does_not_grow() -> None:
    torch.manual_seed(0)
    model = small_model("selective", width=16)
    reached = fit(model, INDUCTION_HEADS, FitConfig(steps=30, batch=16, length=16, first_length=16))
    assert 0.0 <= reached <= 1.0
    sizes = []
    for length in (16, 64):
        parallel = accuracy(model, INDUCTION_HEADS, length, batch=8, seed=1)
        stepped, size = accuracy_by_steps(model, INDUCTION_HEADS, length, batch=8, seed=1)
        assert stepped == parallel
        sizes.append(size)
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("dynamics", ["lti", "selective"])
def test_the_model_is_as_small_as_the_papers(dynamics: str) -> None:
    model = small_model(dynamics)  # type: ignore[arg-type]
    assert 60_000 < sum(p.numel() for p in model.parameters()) < 90_000


def test_length_doubles_when_a_length_is_learned(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    model = small_model("selective", width=16)
    config = FitConfig(steps=101, batch=2, length=32, first_length=8, advance=0.01)
    fit(model, INDUCTION_HEADS, config)
    assert "step 101, length 16" in capsys.readouterr().err
