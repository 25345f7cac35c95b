"""Drawing in one launch gives what the step loop gives, and leaves the same state."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from audiomamba.kernels import dispatch
from audiomamba.kernels.launching import compilations
from audiomamba.models.wave.config import StageConfig, WaveConfig
from audiomamba.models.wave.persistent import Persistent, lacks
from audiomamba.models.wave.sampling import Sampling, stream_seeds, uniforms
from audiomamba.models.wave.torch_engine import TorchWave
from audiomamba.nn import LayerConfig, flatten
from tests.models.wave.tiny import LTI, SELECTIVE, tiny_config, tiny_wave

DEVICES = [
    pytest.param(
        "cpu",
        id="interpreted",
        marks=pytest.mark.skipif(not dispatch.INTERPRETED, reason="TRITON_INTERPRET=1 is not set"),
    ),
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="gpu: no GPU here"),
        ],
    ),
]
WAYS = [
    Sampling(temperature=0),
    Sampling(top_p=0.9, temperature=0.8),
    Sampling(guidance=1.5),
]
BEFORE, SAMPLES = 5, 17  # a period is 6


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("how", "asked"), [*((how, True) for how in WAYS), (WAYS[0], False)], ids=str
)
def test_one_launch_is_the_step_loop(device: str, how: Sampling, asked: bool) -> None:
    config = tiny_config() if asked else tiny_config(labels=[], speakers=[])
    model = tiny_wave(config).to(device)
    loop = TorchWave(model, graphs=False, persistent=False)
    rows = ([0, 1] if asked else [-1, -1]) + ([-1, -1] if how.guidance != 1 else [])
    state, last, seeds = loop.begin(rows, rows), np.full(2, 128, np.uint8), stream_seeds(0, 2)
    loop.draw(state, last, how, seeds, np.zeros(2, np.int64), BEFORE)
    other, code = loop.restore(loop.dump(state)), torch.from_numpy(last.copy()).to(device)
    first = np.full(2, BEFORE, np.int64)
    want = loop.draw(state, last, how, seeds, first, SAMPLES)
    chance = torch.from_numpy(uniforms(seeds, first, SAMPLES)).to(device)
    with torch.inference_mode():
        whole = Persistent(model, weights=torch.float32)
        got = whole.draw(other.pool, other.slots, how, code, chance, BEFORE)
    np.testing.assert_array_equal(got.cpu().numpy(), want)
    for (name, mine), (_, its) in zip(flatten(other.pool), flatten(state.pool), strict=True):
        assert torch.allclose(mine[1:], its[1:], rtol=0, atol=3e-5), name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="gpu: no GPU here")
def test_an_engine_on_a_gpu_draws_so() -> None:
    model = tiny_wave()
    for name, weight in model.named_parameters():  # matrices are kept so
        if name.endswith(("proj.weight", "shrink.weight", "grow.weight", "head.weight")):
            weight.data.copy_(weight.bfloat16())
    slow = TorchWave(model.to("cuda"), graphs=False, persistent=False)
    engine = TorchWave(model)
    assert engine.identity != slow.identity  # a saved state goes on in the engine it is of
    drawn = []
    for one in (engine, slow):
        state, last = one.begin([0, 1], [0, 1]), np.full(2, 128, np.uint8)
        parts = [
            one.draw(state, last, Sampling(), stream_seeds(0, 2), np.full(2, at, np.int64), n)
            for at, n in ((0, 7), (7, 20))
        ]
        drawn.append(np.concatenate(parts, 1))
    np.testing.assert_array_equal(drawn[0], drawn[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="gpu: no GPU here")
@pytest.mark.parametrize("how", [WAYS[1], WAYS[2]], ids=str)
def test_an_engine_that_was_prepared_compiles_nothing_while_it_draws(how: Sampling) -> None:
    engine = TorchWave(tiny_wave().to("cuda"))
    engine.prepare(how)
    rows = [0] if how.guidance == 1 else [0, -1]
    state, last = engine.begin(rows, rows), np.full(1, 128, np.uint8)
    with compilations() as compiled:
        for at in (0, 1, 17):
            engine.draw(state, last, how, stream_seeds(0, 1), np.full(1, at, np.int64), at + 16)
    assert not compiled


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"pools": [2], "stages": [StageConfig(), StageConfig()]}, "two pools"),
        ({"stages": [StageConfig(layers=[LTI, SELECTIVE])] * 3}, "differ"),
        ({"stages": [StageConfig(layers=[replace(LTI, conv_taps=1)])] * 3}, "above 1"),
        ({"stages": [StageConfig(width=300, layers=[LTI])] * 3}, "wider"),
        ({"stages": [StageConfig(layers=[LayerConfig(dynamics="ssd", ffn=0.0)])] * 3}, "ssd"),
    ],
)
def test_what_it_cannot_run_is_said(change: dict[str, Any], reason: str | None) -> None:
    pytest.importorskip("triton")
    said = lacks(WaveConfig(**change))
    assert said is None if reason is None else reason in (said or "")
