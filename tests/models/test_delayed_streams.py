"""The delayed-streams head: the streaming contract, and what it refuses."""

import pytest
import torch

from audiomamba.errors import ConfigError, ShapeError
from audiomamba.models.delayed_streams import DelayedStreams, DelayedStreamsConfig
from audiomamba.nn import LayerConfig, StackConfig


def head(dropout: float = 0.0) -> DelayedStreams:
    torch.manual_seed(0)
    stack = StackConfig(width=16, dropout=dropout, layers=[LayerConfig(state_size=4, ffn=1.0)])
    return DelayedStreams(
        DelayedStreamsConfig(vocabulary=12, audio_width=6, delays=[0, 3], stack=stack)
    ).eval()


@pytest.mark.parametrize("cuts", [[9], [4, 5], [1] * 9])
def test_any_cut_into_calls_gives_the_same(cuts: list[int]) -> None:
    model = head()
    encoded, before = torch.randn(2, 18, 6), torch.randint(0, 12, (2, 9))
    delay = torch.tensor([0, 1])
    whole, _ = model(encoded, before, delay)
    state, parts, at = model.init_state(2), [], 0
    for steps in cuts:
        part, state = model(
            encoded[:, 2 * at : 2 * (at + steps)], before[:, at : at + steps], delay, state
        )
        parts.append(part)
        at += steps
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=2e-5, rtol=1e-4)


def test_it_hears_frames_its_own_text_and_the_delay() -> None:
    model = head()
    encoded, before = torch.randn(1, 8, 6), torch.randint(1, 12, (1, 4))
    zero = torch.zeros(1, dtype=torch.int64)
    plain, _ = model(encoded, before, zero)
    for changed in (
        model(encoded + 1, before, zero),
        model(encoded, (before + 1) % 12, zero),
        model(encoded, before, zero + 1),
    ):
        assert not torch.allclose(changed[0], plain, atol=1e-4)


def test_frames_and_steps_must_go_together() -> None:
    with pytest.raises(ShapeError, match=r"3 steps want \(1, 6, 6\), got \(1, 7, 6\)"):
        head()(torch.randn(1, 7, 6), torch.zeros(1, 3, dtype=torch.int64), torch.tensor([0]))


@pytest.mark.parametrize("wrong", [{"stride": 0}, {"delays": []}, {"delays": [-1]}])
def test_what_is_no_shape_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="delayed streams"):
        DelayedStreamsConfig(**wrong)  # type: ignore[arg-type]
