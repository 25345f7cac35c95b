"""The native engine against the torch transcriber, and what a shared batch may not change."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from audiomamba.config import to_mapping
from audiomamba.errors import BackendError, ModelError, ShapeError
from audiomamba.kernels import native
from audiomamba.models.native import NativeTranscriber
from audiomamba.models.transcriber import Transcriber, TranscriberConfig
from audiomamba.nn import LayerConfig, StackConfig

pytestmark = pytest.mark.skipif(native.why_not() is not None, reason=f"native: {native.why_not()}")

Floats = NDArray[np.float32]
FRAMES = 7  # of the encoder


VOCABULARY = 37


def config_of(width: int, *layers: LayerConfig, ends: tuple[float, ...] = ()) -> TranscriberConfig:
    return TranscriberConfig(
        vocabulary=VOCABULARY,
        ends=list(ends),
        subsample_channels=[5, 6],
        stack=StackConfig(width=width, layers=list(layers)),
        inter_layer=0,
        phone_layer=0,
        activity=False,
    )


LTI = LayerConfig(dynamics="lti", state_size=8, ffn_conv_taps=5)
SELECTIVE = LayerConfig(dynamics="selective")
SHAPES = {
    "mixed": config_of(48, LTI, SELECTIVE),
    "edge": config_of(192, replace(LTI, state_size=32), SELECTIVE),
    "bilinear": config_of(32, replace(LTI, discretization="bilinear")),
    "real": config_of(32, replace(LTI, values="real")),
    "no-ffn": config_of(32, replace(SELECTIVE, ffn=0.0), replace(LTI, ffn=0.0)),
    "few-states": config_of(16, replace(SELECTIVE, state_size=3, dt_rank=5, expand=3)),
    "many-states": config_of(16, replace(SELECTIVE, state_size=24, conv_taps=2, ffn_conv_taps=3)),
    "look-ahead": config_of(32, LTI, replace(SELECTIVE, look_ahead=2, count=2)),
    "ends": config_of(48, LTI, SELECTIVE, ends=(0.3, 0.6, 1.0, 2.0)),
    "narrow-ffn": config_of(32, replace(SELECTIVE, ffn=1.5, conv_taps=1)),
}


@dataclass(frozen=True)
class Pair:
    """The same weights on both engines."""

    torch: Transcriber
    float32: NativeTranscriber
    int8: NativeTranscriber

    def expected(self, features: Floats) -> Floats:
        with torch.inference_mode():
            x = torch.from_numpy(features)
            logits, _ = self.torch.transcribe(x, self.torch.init_state(len(features)))
            return self.torch.log_probs(logits).numpy()


def pair_of(config: TranscriberConfig) -> Pair:
    torch.manual_seed(5)
    model = Transcriber(config).eval()
    for name, weight in model.named_parameters():
        if weight.dim() == 1 and "log_dt" not in name and "dt_proj" not in name:
            weight.data.add_(torch.randn_like(weight), alpha=0.2)
        if name.endswith("taps"):
            weight.data.add_(torch.randn_like(weight), alpha=0.2)
    model.out.weight.data.mul_(4)  # as sure of itself as a trained one
    mean, std = torch.randn(config.mel.bins), torch.rand(config.mel.bins) + 0.5
    model.set_feature_statistics(mean, std)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    mapping = to_mapping(config)
    return Pair(
        model,
        NativeTranscriber(mapping, weights, int8=False),
        NativeTranscriber(mapping, weights),
    )


def sound(streams: int, frames: int = FRAMES, bins: int = 80) -> Floats:
    generator = np.random.default_rng(3)
    return generator.standard_normal((streams, 4 * frames, bins)).astype(np.float32)


@pytest.fixture(scope="module")
def pairs() -> dict[str, Pair]:
    return {name: pair_of(config) for name, config in SHAPES.items()}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("streams", [1, 3])
def test_float32_equals_torch(pairs: dict[str, Pair], shape: str, streams: int) -> None:
    features = sound(streams)
    engine = pairs[shape].float32
    got = engine.transcribe(features, engine.init_state(streams), np.arange(streams))
    np.testing.assert_allclose(got, pairs[shape].expected(features), atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_int8_stays_near_torch(pairs: dict[str, Pair], shape: str) -> None:
    features = sound(2, frames=50)
    engine = pairs[shape].int8
    got = engine.transcribe(features, engine.init_state(2), np.arange(2))
    expected = pairs[shape].expected(features)
    assert np.abs(got - expected).mean() < 0.05
    best, right = got[..., :VOCABULARY].argmax(-1), expected[..., :VOCABULARY].argmax(-1)
    assert (best == right).mean() > 0.95


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_endpoint_outputs_leave_the_pieces_as_they_are(
    pairs: dict[str, Pair], precision: str
) -> None:
    both: NativeTranscriber = getattr(pairs["ends"], precision)
    weights = {name: t.numpy() for name, t in pairs["ends"].torch.state_dict().items()}
    mapping = {**to_mapping(SHAPES["ends"]), "ends": []}
    pieces = NativeTranscriber(mapping, weights, int8=precision == "int8")
    features = sound(3)
    got = both.transcribe(features, both.init_state(3), np.arange(3))
    alone = pieces.transcribe(features, pieces.init_state(3), np.arange(3))
    assert got.shape == (3, FRAMES, VOCABULARY + 4) and alone.shape[2] == VOCABULARY
    np.testing.assert_array_equal(got[..., :VOCABULARY], alone)
    assert (got[..., VOCABULARY:] < 0).all()
    np.testing.assert_allclose(np.exp(alone).sum(-1), 1, rtol=1e-5)


def test_the_default_shape_equals_torch() -> None:
    pair = pair_of(TranscriberConfig(inter_layer=0, phone_layer=0, activity=False))
    features = sound(2, frames=25)
    expected = pair.expected(features)
    got = pair.float32.transcribe(features, pair.float32.init_state(2), np.arange(2))
    np.testing.assert_allclose(got, expected, atol=1e-4, rtol=0)
    got = pair.int8.transcribe(features, pair.int8.init_state(2), np.arange(2))
    assert np.abs(got - expected).mean() < 0.05
    assert (got.argmax(-1) == expected.argmax(-1)).mean() > 0.95


@pytest.mark.parametrize("shape", ["edge", "ends"])
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_wider_vectors_come_to_the_same_bits(
    pairs: dict[str, Pair], precision: str, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide: NativeTranscriber = getattr(pairs[shape], precision)
    if wide.instruction_set != "avx512":
        pytest.skip(f"this processor runs {wide.instruction_set}")
    monkeypatch.setenv("AUDIOMAMBA_INSTRUCTION_SET", "avx2")
    narrow: NativeTranscriber = getattr(pair_of(SHAPES[shape]), precision)
    assert narrow.instruction_set == "avx2"
    for streams, frames in ((1, 1), (1, 2), (1, FRAMES), (3, FRAMES)):
        features, rows = sound(streams, frames), np.arange(streams)
        one, other = (e.transcribe(features, e.init_state(streams), rows) for e in (wide, narrow))
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("cuts", [[0], [1], [1, 2, 3], [2, 6], list(range(FRAMES))], ids=str)
def test_any_cut_of_time_gives_the_same_bits(
    pairs: dict[str, Pair], precision: str, cuts: list[int]
) -> None:
    engine: NativeTranscriber = getattr(pairs["mixed"], precision)
    features = sound(2)
    states = engine.init_state(2)
    whole = engine.transcribe(features, states, np.arange(2))
    cut_states = engine.init_state(2)
    parts = [
        engine.transcribe(features[:, 4 * start : 4 * stop], cut_states, np.arange(2))
        for start, stop in zip([0, *cuts], [*cuts, FRAMES], strict=True)
    ]
    np.testing.assert_array_equal(np.concatenate(parts, 1), whole)
    np.testing.assert_array_equal(cut_states, states)


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("streams", [2, 3, 5, 9])
def test_a_stream_does_not_see_who_shares_its_batch(
    pairs: dict[str, Pair], precision: str, streams: int
) -> None:
    engine: NativeTranscriber = getattr(pairs["mixed"], precision)
    features = sound(streams, frames=3)
    together = engine.transcribe(features, engine.init_state(streams), np.arange(streams))
    for i in range(streams):
        alone = engine.transcribe(features[i : i + 1], engine.init_state(1), np.arange(1))
        np.testing.assert_array_equal(together[i], alone[0])


def test_rows_may_come_in_any_order_and_the_others_stay_untouched(pairs: dict[str, Pair]) -> None:
    engine = pairs["mixed"].int8
    features = sound(3)
    generator = np.random.default_rng(1)
    states = generator.standard_normal((6, engine.state_floats)).astype(np.float32)
    before, shuffled = states.copy(), states.copy()
    rows, order = np.array([1, 4, 2]), np.array([2, 0, 1])
    plain = engine.transcribe(features, states, rows)
    mixed = engine.transcribe(features[order], shuffled, rows[order])
    np.testing.assert_array_equal(mixed, plain[order])
    np.testing.assert_array_equal(shuffled, states)
    np.testing.assert_array_equal(states[[0, 3, 5]], before[[0, 3, 5]])
    assert (states[rows] != before[rows]).any(1).all()


def test_nothing_to_do_changes_nothing(pairs: dict[str, Pair]) -> None:
    engine = pairs["mixed"].int8
    states = engine.init_state(2)
    assert engine.transcribe(sound(2, frames=0), states, np.arange(2)).shape == (2, 0, 37)
    assert engine.transcribe(sound(0), states, np.arange(0)).shape == (0, FRAMES, 37)
    assert not states.any()


def test_wrong_shapes_are_refused(pairs: dict[str, Pair]) -> None:
    engine = pairs["mixed"].int8
    states = engine.init_state(2)
    for features, rows in [
        (sound(1)[:, :5], [0]),
        (sound(1, bins=40), [0]),
        (sound(2), [0]),
        (sound(1), [2]),
        (sound(1), [-1]),
        (sound(2), [1, 1]),
    ]:
        with pytest.raises(ShapeError, match="native"):
            engine.transcribe(features, states, np.array(rows))
    for wrong in (states.astype(np.float64), states[:, :-1], states[0], states.T):
        with pytest.raises(ShapeError, match="states"):
            engine.transcribe(sound(1), wrong, np.arange(1))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (config_of(40, SELECTIVE), "width must be a multiple of 16, got 40"),
        (config_of(16, replace(SELECTIVE, ffn=1.5)), "multiples of 16"),
        (config_of(16, replace(SELECTIVE, state_size=65)), "64 states"),
        (config_of(16, replace(SELECTIVE, expand=160)), "wider than"),
    ],
)
def test_an_unsupported_size_is_one_clear_error(config: TranscriberConfig, says: str) -> None:
    weights = {name: tensor.numpy() for name, tensor in Transcriber(config).state_dict().items()}
    with pytest.raises(ModelError, match=says):
        NativeTranscriber(to_mapping(config), weights)


def test_a_missing_weight_is_named() -> None:
    config = SHAPES["mixed"]
    weights = {name: tensor.numpy() for name, tensor in Transcriber(config).state_dict().items()}
    del weights["stack.blocks.1.mixer.dynamics.A_log"]
    with pytest.raises(ModelError, match=r"stack\.blocks\.1\.mixer\.dynamics\.A_log"):
        NativeTranscriber(to_mapping(config), weights)


def test_a_weight_of_another_shape_is_named() -> None:
    config = SHAPES["mixed"]
    weights = {name: tensor.numpy() for name, tensor in Transcriber(config).state_dict().items()}
    weights["stack.blocks.0.mixer.out_proj.weight"] = np.zeros((48, 90), np.float32)
    with pytest.raises(ModelError, match=r"out_proj\.weight.*\(48, 96\)"):
        NativeTranscriber(to_mapping(config), weights)


def test_a_library_that_does_not_load_is_as_good_as_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.so"
    damaged.write_bytes(b"no library")
    with monkeypatch.context() as patch:
        patch.setattr(native, "LIBRARY", damaged)
        native._found.cache_clear()
        assert "does not load" in (native.why_not() or "")
        with pytest.raises(BackendError, match="does not load"):
            native.library()
    native._found.cache_clear()
    assert native.why_not() is None
