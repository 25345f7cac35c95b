"""What the streaming contract does not say of the front end over samples."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import audiomamba as am
from audiomamba.audio.mel import MelConfig
from audiomamba.config import from_mapping, to_mapping
from audiomamba.errors import ConfigError, ShapeError
from audiomamba.kernels import native
from audiomamba.models.acoustic import load_acoustic
from audiomamba.models.checkpoint import save_weights
from audiomamba.models.checkpoint_files import write_config
from audiomamba.models.pyramid import Filters, Pyramid, gammatone
from audiomamba.models.transcriber import Transcriber, TranscriberConfig
from audiomamba.models.transcriber_config import PyramidConfig, PyramidStage
from audiomamba.nn import LayerConfig, StackConfig

NARROW = LayerConfig(dynamics="lti", state_size=8, expand=1, ffn=0.0)


def small(**changes: object) -> PyramidConfig:
    stages = [
        PyramidStage(stride=8, width=8, layers=[NARROW]),
        PyramidStage(stride=5, width=12, layers=[NARROW]),
    ]
    return PyramidConfig(**{"stages": stages, "taps": 64, **changes})  # type: ignore[arg-type]


def transcriber() -> Transcriber:
    torch.manual_seed(0)
    return Transcriber(
        TranscriberConfig(
            vocabulary=8,
            front_end="waveform",
            pyramid=small(),
            stack=StackConfig(width=16, layers=[LayerConfig(state_size=4)]),
            inter_layer=0,
            phone_layer=0,
        )
    ).eval()


def tone(hz: float, level: float, samples: int = 6400) -> Tensor:
    return level * torch.sin(2 * math.pi * hz * torch.arange(samples) / 16_000)


@torch.no_grad()
def test_a_filter_passes_its_centre_as_it_is_and_others_less() -> None:
    pair, gain = gammatone(3, 512, 16_000, 500.0, 4000.0)
    for hz, number in ((500.0, 0), (4000.0, 2)):
        sound = tone(hz, 1.0).unfold(0, 512, 4)
        heard = torch.einsum("tk,pfk->tpf", sound, pair).square().sum(1).sqrt() * gain
        assert heard[100:, number].mean() == pytest.approx(1.0, abs=0.03)
        assert heard[100:, number].std() < 0.02  # an amplitude, not a wave
        assert heard[100:, 2 - number].max() < 0.05


@torch.no_grad()
@pytest.mark.parametrize("level", [1e-2, 1e-1])
def test_a_factor_of_level_is_the_same_step_of_the_logarithm(level: float) -> None:
    filters = Filters(PyramidConfig(), 16_000)
    one, ten = (filters(tone(1000.0, x)[None])[0, 500:] for x in (level, 10 * level))
    loudest = int(one.mean(0).argmax())
    assert (ten - one)[:, loudest].mean() == pytest.approx(math.log(10), abs=0.01)
    silent = filters(torch.zeros(1, 512))
    assert silent.eq(-filters.rest).all()


def test_the_gradient_of_the_logarithm_is_autograds() -> None:
    torch.manual_seed(0)
    config = small()
    filters, reference = Filters(config, 16_000), Filters(config, 16_000)
    samples = 0.01 * torch.randn(2, 64 - 8 + 80)
    weights = torch.randn(2, 10, 8)
    (filters(samples) * weights).sum().backward()

    kernel = (reference.taps * reference.gain[:, None]).flatten(0, 1)
    pairs = (samples.unfold(1, 64, 8) @ kernel.t()).unflatten(2, (2, 8))
    logs = 0.5 * torch.log1p(pairs.square().sum(2)) - reference.rest
    (logs * weights).sum().backward()
    assert filters.taps.grad is not None and reference.taps.grad is not None
    torch.testing.assert_close(filters.taps.grad, reference.taps.grad)
    torch.testing.assert_close(filters.rest.grad, reference.rest.grad)


@torch.no_grad()
def test_a_sample_changes_nothing_before_its_own_frame() -> None:
    torch.manual_seed(0)
    pyramid = Pyramid(small(), MelConfig(), 16, 1e-5).eval()
    x = 0.1 * torch.randn(1, 24, 160)
    other = x.clone()
    other[0, 14, 3] += 0.5  # in encoder frame 3
    y, z = pyramid(x)[0], pyramid(other)[0]
    torch.testing.assert_close(y[:, :3], z[:, :3], atol=1e-6, rtol=1e-6)
    assert (y[:, 3:] - z[:, 3:]).abs().amax(2).min() > 1e-5


@pytest.mark.parametrize("shape", [(1, 6, 160), (1, 8, 80)])
def test_frames_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="pyramid: wants"):
        Pyramid(small(), MelConfig(), 16, 1e-5)(torch.zeros(shape))


def stage(stride: int, **layer: object) -> PyramidStage:
    return PyramidStage(stride=stride, width=8, layers=[LayerConfig(**layer)])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: small(stages=[]), "wants stages"),
        (lambda: small(stages=[stage(0)]), "stride and a width"),
        (lambda: small(taps=60), "taps must be a multiple of the first stride"),
        (lambda: small(low_hz=8000.0, high_hz=60.0), "low_hz < high_hz"),
        (lambda: small(floor=0.0), "floor must be > 0"),
        (lambda: small(stages=[stage(8, look_ahead=1)]), "layers are causal"),
        (
            lambda: TranscriberConfig(
                front_end="waveform", pyramid=small(taps=63, stages=[stage(7)])
            ),
            "divide the 640 samples",
        ),
        (
            lambda: TranscriberConfig(front_end="waveform", pyramid=small(high_hz=8000.0)),
            r"high_hz must be below 8000",
        ),
        (lambda: from_mapping(TranscriberConfig, {"front_end": "ears"}), "mel, waveform"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_configuration_comes_back_from_its_mapping() -> None:
    config = transcriber().config
    assert from_mapping(TranscriberConfig, to_mapping(config)) == config
    assert config.features.bins == 160 and config.frame_s == 0.04


def saved(folder: Path) -> Path:
    model = transcriber()
    write_config(folder, {"kind": "transcriber", "model": to_mapping(model.config)})
    save_weights(folder, model.state_dict())
    return folder


def test_a_checkpoint_runs_on_torch_where_the_native_engine_declines(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    acoustic = load_acoustic(folder)
    assert acoustic.engine == "torch"
    sound = 0.1 * torch.randn(16, 160)
    log_probs, _ = acoustic.log_probs(sound.numpy(), acoustic.init_state())
    with torch.inference_mode():
        wanted = transcriber()(sound[None])[0].logits[0].log_softmax(-1)
    torch.testing.assert_close(torch.from_numpy(log_probs), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(native.why_not() is not None, reason=f"native: {native.why_not()}")
def test_the_native_engine_says_why_it_declines(tmp_path: Path) -> None:
    with pytest.raises(am.Error, match="native engine has no waveform front end; use the torch"):
        load_acoustic(saved(tmp_path), engine="native")
