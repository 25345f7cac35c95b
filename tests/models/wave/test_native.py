"""The native engine against PyTorch, and against itself in any cut and any company."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from audiomamba.errors import BackendError, ModelError, ShapeError, StateError
from audiomamba.models.wave.config import StageConfig, WaveConfig
from audiomamba.models.wave.engine import native_lacks
from audiomamba.models.wave.model import Wave
from audiomamba.models.wave.native import NativeWave
from audiomamba.models.wave.sampling import Sampling, stream_seeds
from audiomamba.models.wave.torch_engine import TorchWave
from audiomamba.nn import LayerConfig
from tests.models.wave.tiny import LTI, SELECTIVE, tiny_config, tiny_wave

Codes = NDArray[np.uint8]
N = 26
FFN = LayerConfig(dynamics="selective", state_size=16, ffn=1.0, ffn_conv_taps=3)
SHAPES = {
    "tiny": tiny_config(),
    "free": tiny_config(labels=[], speakers=[]),
    "ffn": tiny_config(
        pools=[3], stages=[StageConfig(width=16, layers=[FFN]), StageConfig(layers=[LTI, FFN])]
    ),
    "one-rate": tiny_config(pools=[], stages=[StageConfig(width=32, layers=[SELECTIVE, LTI])]),
}


@dataclass(frozen=True)
class Engines:
    torch: TorchWave
    float32: NativeWave
    int8: NativeWave

    @property
    def model(self) -> Wave:
        return self.torch.model


@pytest.fixture(scope="module")
def engines() -> dict[str, Engines]:
    return {name: _engines(config) for name, config in SHAPES.items()}


def _engines(config: WaveConfig) -> Engines:
    model = tiny_wave(config)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return Engines(
        TorchWave(model),
        NativeWave(config, weights, int8=False),
        NativeWave(config, weights),
    )


def codes(streams: int, samples: int = N) -> Codes:
    return np.random.default_rng(4).integers(0, 256, (streams, samples)).astype(np.uint8)


def ids(engine: NativeWave | TorchWave, *numbers: int) -> list[int]:
    config = engine.model.config if isinstance(engine, TorchWave) else engine._config
    return [number if config.is_conditional else -1 for number in numbers]


def begin(engine: NativeWave | TorchWave, streams: int) -> object:
    return engine.begin(
        ids(engine, *[0, -1, 2, 1][:streams]), ids(engine, *[1, -1, 0, -1][:streams])
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("streams", [1, 3])
def test_float32_equals_torch(engines: dict[str, Engines], shape: str, streams: int) -> None:
    both = engines[shape]
    want = both.torch.logits(begin(both.torch, streams), codes(streams))  # type: ignore[arg-type]
    got = both.float32.logits(begin(both.float32, streams), codes(streams))  # type: ignore[arg-type]
    np.testing.assert_allclose(got, want, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_int8_stays_near_torch(engines: dict[str, Engines], shape: str) -> None:
    both = engines[shape]
    want = both.torch.logits(begin(both.torch, 2), codes(2, 60))  # type: ignore[arg-type]
    got = both.int8.logits(begin(both.int8, 2), codes(2, 60))  # type: ignore[arg-type]
    assert np.abs(got - want).max() < 0.2
    assert np.abs(got - want).mean() < 0.03


@pytest.mark.parametrize("how", [Sampling(), Sampling(top_p=0.8, temperature=0.9, guidance=1.5)])
def test_float32_draws_what_torch_draws(engines: dict[str, Engines], how: Sampling) -> None:
    both = engines["tiny"]
    drawn = []
    for engine in (both.torch, both.float32):
        rows = [0, 1] if how.guidance == 1 else [0, 1, -1, -1]
        state, last = engine.begin(rows, rows), np.array([128, 3], np.uint8)
        drawn.append(
            engine.draw(state, last, how, stream_seeds(1, 2), np.array([0, 9]), N)  # type: ignore[arg-type]
        )
        np.testing.assert_array_equal(last, drawn[-1][:, -1])
    np.testing.assert_array_equal(drawn[1], drawn[0])


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("cuts", [[0], [1], [1, 2, 3], [5, 6], list(range(1, N))], ids=str)
def test_any_cut_of_time_gives_the_same_bits(
    engines: dict[str, Engines], precision: str, cuts: list[int]
) -> None:
    engine: NativeWave = getattr(engines["tiny"], precision)
    seeds, how = stream_seeds(3, 2), Sampling(top_p=0.95)
    states, parts_states = engine.begin([0, 1], [0, -1]), engine.begin([0, 1], [0, -1])
    last, parts_last = (np.full(2, 128, np.uint8) for _ in range(2))
    whole = engine.draw(states, last, how, seeds, np.zeros(2, np.int64), N)
    parts = [
        engine.draw(parts_states, parts_last, how, seeds, np.full(2, start), stop - start)
        for start, stop in zip([0, *cuts], [*cuts, N], strict=True)
    ]
    np.testing.assert_array_equal(np.concatenate(parts, 1), whole)
    np.testing.assert_array_equal(parts_states, states)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_stream_does_not_see_who_shares_its_batch_nor_at_which_phase(
    engines: dict[str, Engines], precision: str
) -> None:
    engine: NativeWave = getattr(engines["tiny"], precision)
    alone = [engine.begin([i], [-1]) for i in (0, 1, 2)]
    for state, samples in zip(alone, (0, 1, 5), strict=True):
        engine.feed(state, codes(1, samples))
    together = np.concatenate(alone)
    x = codes(3, 15)
    got = engine.logits(together, x)
    for row, state in enumerate(alone):
        own = engine.logits(state, x[row : row + 1])
        np.testing.assert_array_equal(got[row], own[0])
        np.testing.assert_array_equal(together[row], state[0])


def test_the_size_that_ships_equals_torch() -> None:
    torch.manual_seed(0)
    config = WaveConfig(labels=["a"])
    model = Wave(config).eval()
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    want = TorchWave(model)
    expected = want.logits(want.begin([0], [-1]), codes(1, 40))
    for int8, bound in ((False, 1e-4), (True, 0.15)):
        engine = NativeWave(config, weights, int8=int8)
        got = engine.logits(engine.begin([0], [-1]), codes(1, 40))
        np.testing.assert_allclose(got, expected, atol=bound, rtol=0)


@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_streams_that_are_told_otherwise_on_the_way_draw_what_torch_draws(
    engines: dict[str, Engines], guidance: float
) -> None:
    both, how, drawn = engines["tiny"], Sampling(guidance=guidance), []
    for engine in (both.torch, both.float32):
        rows = [0, 1] if guidance == 1 else [0, 1, -1, -1]
        state, last, parts = engine.begin(rows, rows), np.array([128, 3], np.uint8), []
        for number, at in enumerate((0, 7, 18)):
            if number:
                engine.tell(state, np.array([1]), [2 - number], [-1])  # type: ignore[arg-type]
            first, seeds = np.full(2, at), stream_seeds(1, 2)
            parts.append(engine.draw(state, last, how, seeds, first, (7, 11, 9)[number]))  # type: ignore[arg-type]
        drawn.append(np.concatenate(parts, 1))
        untold = engine.begin(rows, rows)
        first = engine.draw(untold, np.array([128, 3], np.uint8), how, seeds, np.zeros(2, int), 27)  # type: ignore[arg-type]
        np.testing.assert_array_equal(first[0], drawn[-1][0])  # the other one hears nothing of it
        assert (first[1] != drawn[-1][1]).any()
    np.testing.assert_array_equal(drawn[1], drawn[0])


def test_to_be_told_the_same_changes_nothing(engines: dict[str, Engines]) -> None:
    for engine in (engines["tiny"].int8, engines["free"].int8):
        state = engine.begin(ids(engine, 1, -1), ids(engine, 0, -1))
        again = state.copy()
        engine.tell(again, np.arange(2), ids(engine, 1, -1), ids(engine, 0, -1))
        np.testing.assert_array_equal(again, state)


def test_nothing_to_do_changes_nothing(engines: dict[str, Engines]) -> None:
    engine = engines["tiny"].int8
    state = engine.begin([-1], [-1])
    assert not state.any()
    logits = engine.logits(state, codes(1, 0))
    assert logits.shape == (1, 0, 256)
    last = np.array([7], np.uint8)
    drawn = engine.draw(state, last, Sampling(), stream_seeds(0, 1), np.zeros(1, np.int64), 0)
    assert drawn.shape == (1, 0) and last[0] == 7 and not state.any()


def test_wrong_shapes_are_refused(engines: dict[str, Engines]) -> None:
    engine = engines["tiny"].int8
    state = engine.begin([0, 0], [0, 0])
    last, first = np.zeros(2, np.uint8), np.zeros(2, np.int64)
    for wrong in (state[:1], state[:, :-1], state.astype(np.float64), state.T):
        with pytest.raises(ShapeError, match="state"):
            engine.feed(wrong, codes(2))  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="state"):
        engine.draw(state, last, Sampling(guidance=2), stream_seeds(0, 2), first, 1)
    with pytest.raises(ShapeError, match="seeds"):
        engine.draw(state, last, Sampling(), stream_seeds(0, 1), first, 1)
    with pytest.raises(StateError, match="streams"):
        engine.restore({"state": state[:, :-2]})


def test_a_table_of_labels_that_lacks_a_row_is_refused() -> None:
    config = tiny_config()
    weights = {name: x.numpy() for name, x in tiny_wave(config).state_dict().items()}
    weights["conditioning.label.weight"] = weights["conditioning.label.weight"][:-1]
    with pytest.raises(ModelError, match=r"table of labels has the shape .* config\.json says"):
        NativeWave(config, weights)


def test_a_size_or_a_layer_it_cannot_run_is_one_clear_error() -> None:
    config = WaveConfig(stages=[StageConfig(width=40), StageConfig(), StageConfig()])
    weights = {name: tensor.numpy() for name, tensor in Wave(config).state_dict().items()}
    with pytest.raises(ModelError, match="width must be a multiple of 16, got 40"):
        NativeWave(config, weights)
    config = tiny_config()
    assert native_lacks(config) is None
    layer = replace(LTI)
    layer.dynamics = "other"  # type: ignore[assignment]
    config.stages[1].layers = [layer]
    assert native_lacks(config) == "the native engine has no 'other' layers"
    with pytest.raises(BackendError, match="CPU alone"):
        from audiomamba.models.wave.engine import load_engine

        load_engine(None, tiny_config(), device="cuda", engine="native")  # type: ignore[arg-type]
