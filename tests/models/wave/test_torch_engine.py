"""Drawing by PyTorch: the distribution that was asked for, and states that travel."""

from pathlib import Path

import numpy as np
import pytest
import torch

from audiomamba.errors import ModelError, StateError
from audiomamba.models.wave.sampling import Sampling, stream_seeds
from audiomamba.models.wave.torch_engine import TorchWave, choose, load_wave
from tests.models.wave.tiny import tiny_checkpoint, tiny_config, tiny_wave


def grid(n: int = 4001) -> torch.Tensor:
    return torch.linspace(0, 1 - 1e-6, n)


def test_classes_come_as_often_as_they_are_likely() -> None:
    logits = torch.full((1, 256), -30.0)
    logits[0, [3, 100, 255]] = torch.log(torch.tensor([0.2, 0.5, 0.3]))
    drawn = choose(logits.expand(4001, -1), Sampling(), grid())
    shares = [float((drawn == c).float().mean()) for c in (3, 100, 255)]
    assert shares == pytest.approx([0.2, 0.5, 0.3], abs=1e-3)


def test_a_nucleus_leaves_the_unlikely_out() -> None:
    logits = torch.full((1, 256), -30.0)
    logits[0, [3, 100, 255]] = torch.log(torch.tensor([0.2, 0.5, 0.3]))
    drawn = choose(logits.expand(4001, -1), Sampling(top_p=0.75), grid())
    shares = [float((drawn == c).float().mean()) for c in (3, 100, 255)]
    assert shares == pytest.approx([0, 0.625, 0.375], abs=1e-3)
    assert (choose(logits.expand(9, -1), Sampling(top_p=0.4), grid(9)) == 100).all()


def test_temperature_zero_takes_the_likeliest_and_a_low_one_nearly_always() -> None:
    logits = torch.zeros(1, 256)
    logits[0, 9] = 1.0
    assert choose(logits, Sampling(temperature=0), torch.tensor([0.999])) == 9
    cold = choose(logits.expand(4001, -1), Sampling(temperature=0.1), grid())
    assert 0.98 < float((cold == 9).float().mean()) < 1


def test_feeding_is_the_model_itself_in_any_cut() -> None:
    model = tiny_wave()
    engine = TorchWave(model)
    codes = np.random.default_rng(0).integers(0, 256, (2, 23)).astype(np.uint8)
    whole = engine.logits(engine.begin([0, -1], [1, 0]), codes)
    state = engine.begin([0, -1], [1, 0])
    engine.feed(state, codes[:, :10])
    rest = engine.logits(state, codes[:, 10:])
    np.testing.assert_allclose(rest, whole[:, 10:], atol=2e-5)


@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_a_state_goes_on_to_the_same_samples(guidance: float) -> None:
    engine, how = TorchWave(tiny_wave()), Sampling(guidance=guidance)
    rows = 2 if guidance == 1 else 4
    seeds, last = stream_seeds(0, 2), np.full(2, 128, np.uint8)
    state = engine.begin([0, 1, -1, -1][:rows], [0, 1, -1, -1][:rows])
    engine.draw(state, last, how, seeds, np.zeros(2, np.int64), 7)
    other = engine.restore(engine.dump(state))
    sevens = np.full(2, 7, np.int64)
    here = engine.draw(state, last.copy(), how, seeds, sevens, 9)
    there = engine.draw(other, last.copy(), how, seeds, sevens, 9)
    np.testing.assert_array_equal(here, there)
    assert engine.state_bytes(state) == engine.state_bytes(other) > 0


def test_a_state_of_another_shape_is_refused() -> None:
    engine = TorchWave(tiny_wave())
    arrays = engine.dump(engine.begin([0], [0]))
    arrays["net.waiting"] = arrays["net.waiting"][:, :1]
    with pytest.raises(StateError, match=r"net\.waiting"):
        engine.restore(arrays)
    with pytest.raises(StateError, match="position"):
        engine.restore({})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="gpu: no GPU here")
@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_graphs_draw_what_the_cpu_draws(guidance: float) -> None:
    drawn = []
    how = Sampling(temperature=0, guidance=guidance)
    for device in ("cpu", "cuda"):
        engine = TorchWave(tiny_wave().to(device), persistent=False)
        rows = [0, 1] if guidance == 1 else [0, 1, -1, -1]
        state, last = engine.begin(rows, rows), np.full(2, 128, np.uint8)
        seeds, parts = stream_seeds(0, 2), []
        for start, stop in ((0, 7), (7, 20)):
            parts.append(
                engine.draw(state, last, how, seeds, np.full(2, start, np.int64), stop - start)
            )
            engine.draw(engine.begin(rows, rows), last.copy(), how, seeds, np.zeros(2, np.int64), 3)
        drawn.append(np.concatenate(parts, 1))
    np.testing.assert_array_equal(drawn[0], drawn[1])


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path)
    assert load_wave(folder, tiny_config()).config == tiny_config()
    with pytest.raises(ModelError, match="size mismatch"):
        load_wave(folder, tiny_config(labels=["yes"]))
    with pytest.raises(ModelError, match="left over"):
        load_wave(folder, tiny_config(labels=[], speakers=[]))
