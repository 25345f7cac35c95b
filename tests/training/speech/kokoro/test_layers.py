"""The blocks: packing changes nothing."""

import pytest
import torch
from torch import nn

from audiomamba.training.speech.kokoro.layers import AdaResBlock, Conv, SnakeBlock, _PoolUp
from audiomamba.training.speech.kokoro.segments import GAP, pack_segments

CPU = torch.device("cpu")


def randomise(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.1)
    return module.requires_grad_(False)


@pytest.mark.parametrize("kind", ["residual", "up", "snake"])
def test_an_utterance_sounds_the_same_alone_and_in_company(kind: str) -> None:
    module = randomise(
        SnakeBlock(16, 11) if kind == "snake" else AdaResBlock(16, 32, up=kind == "up")
    )
    if isinstance(module, SnakeBlock):
        for name, parameter in module.named_parameters():
            if name.startswith("alpha"):
                nn.init.uniform_(parameter, 0.5, 2.0)
    rate, extra = (20, 1) if kind == "snake" else (1, 0)
    out_rate = 2 * rate if kind == "up" else rate
    frames = [4, 6, 3]
    total = sum(frames) + GAP * 4
    x, style = torch.randn(total * rate, 16), torch.randn(3, 128)
    more = (rate, extra) if kind == "snake" else (rate,)
    together = module(x.clone(), style, pack_segments(frames, total, CPU), *more)
    begin = GAP
    for i, count in enumerate(frames):
        alone = torch.randn((count + 2 * GAP) * rate, 16)
        own = slice(begin * rate, (begin + count) * rate + extra)
        alone[GAP * rate : (GAP + count) * rate + extra] = x[own]
        segments = pack_segments([count], count + 2 * GAP, CPU)
        single = module(alone, style[i : i + 1], segments, *more)
        torch.testing.assert_close(
            together[begin * out_rate : (begin + count) * out_rate],
            single[GAP * out_rate : (GAP + count) * out_rate],
            rtol=1e-3,
            atol=1e-4,
        )
        begin += count + GAP


def test_a_published_kernel_fits_the_padded_convolution() -> None:
    torch.manual_seed(0)
    plain = nn.Conv1d(22, 18, 5, padding=2)
    packed = Conv(22, 18, 5)
    packed.load_state_dict(plain.state_dict())
    x = torch.randn(30, 32)
    x[:, 22:] = 0
    wanted = plain(x[None, :, :22].transpose(1, 2))[0].t()
    found = packed(x, add_bias=True)
    torch.testing.assert_close(found[:, :18], wanted, rtol=1e-4, atol=1e-5)
    assert not found[:, 18:].any()


def test_the_doubling_is_a_transposed_convolution() -> None:
    torch.manual_seed(0)
    plain = nn.ConvTranspose1d(16, 16, 3, stride=2, padding=1, output_padding=1, groups=16)
    pool = _PoolUp(16)
    pool.load_state_dict(plain.state_dict())
    x = torch.randn(9, 16)
    torch.testing.assert_close(pool(x), plain(x.t()[None])[0].t(), rtol=1e-4, atol=1e-5)
