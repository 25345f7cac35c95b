"""Rows cut out of recordings."""

from typing import Any

import numpy as np
import pytest
import torch

from audiomamba.audio.mulaw import SILENCE, compand
from audiomamba.errors import ConfigError
from audiomamba.models.wave.model import NOBODY
from audiomamba.training.wave.batches import Crops, compand_on_device
from audiomamba.training.wave.config import WaveDataConfig
from audiomamba.training.wave.takes import Take

RATE = 1_000
RAMP = np.arange(1, 101, dtype=np.uint8)


def crops(*takes: Take, **data: Any) -> Crops:
    settings = {"length": 48, "batch": 6, "lead_s": 0.0, "drop_label": 0.0, "drop_speaker": 0.0}
    return Crops(
        takes,
        WaveDataConfig(**(settings | data)),
        labels=["a", "b"],
        speakers=["s"],
        sample_rate=RATE,
        device=torch.device("cpu"),
    )


def take(codes: np.ndarray = RAMP, label: str = "b", held_out: bool = False) -> Take:
    return Take(codes, label, "s", held_out)


def test_a_short_recording_is_followed_by_silence_of_which_a_part_counts() -> None:
    batch = crops(take(RAMP[:20]), tail_s=0.005).batch(0)
    row, target = batch.inputs[0].tolist(), batch.targets[0].tolist()
    assert row == [SILENCE, *range(1, 21), *[SILENCE] * 27]
    assert target == row[1:] + [SILENCE]
    assert batch.counted[0].tolist() == [1] * 25 + [0] * 23
    assert (batch.labels == 1).all() and (batch.speakers == 0).all()
    assert batch.seconds == 6 * 48 / RATE


def test_the_silence_after_a_recording_may_count_less() -> None:
    batch = crops(take(RAMP[:20]), tail_s=5 / RATE, tail_weight=0.25).batch(0)
    assert batch.counted[0].tolist() == [1] * 20 + [0.25] * 5 + [0] * 23
    made = crops(take(), take(RAMP[:20]), carry=2, length=16, speed=0.1, tail_weight=0.25)
    assert {0.25, 1.0} <= set(made.batch(1).counted.unique().tolist()) <= {0.0, 0.25, 1.0}


def test_a_lead_of_silence_does_not_count() -> None:
    batch = crops(take(RAMP[:20]), lead_s=0.02).batch(3)
    for targets, counted in zip(batch.targets, batch.counted, strict=True):
        first = int((targets == 1).nonzero()[0])
        assert 0 <= first <= 20
        assert not counted[:first].any() and counted[first : first + 20].all()


def test_some_rows_begin_where_the_recording_does_and_half_of_them_at_once() -> None:
    batch = crops(take(), length=16, batch=2_000, lead_s=0.01).batch(0)
    first = batch.targets[:, 0]
    from_start = (first == 1) | (first == SILENCE)
    assert 0.07 < float(from_start.float().mean()) < 0.15
    assert 0.3 < float((first == 1).sum() / from_start.sum()) < 0.7


def test_rows_go_on_over_the_steps_of_a_sequence() -> None:
    made = crops(take(), length=16, carry=3, batch=4)
    parts = [made.batch(number) for number in (3, 4, 5)]
    assert [part.fresh for part in parts] == [True, False, False]
    whole = torch.cat([part.targets for part in parts], 1)
    assert (whole.diff(dim=1) == 1).all()  # the ramp without a gap
    assert torch.equal(parts[1].inputs[:, 0], parts[0].targets[:, -1])


def test_a_batch_is_fixed_by_its_number() -> None:
    made = crops(take(), gain_db=6.0, speed=0.1, drop_label=0.5)
    one, again, other = made.batch(7), made.batch(7), made.batch(8)
    assert all(torch.equal(a, b) for a, b in zip(one.tensors(), again.tensors(), strict=True))
    assert not torch.equal(one.inputs, other.inputs)


def test_labels_are_dropped_as_often_as_asked() -> None:
    made = crops(take(), batch=400, drop_label=0.25, drop_speaker=1.0)
    batch = made.batch(0)
    assert 60 < int((batch.labels == NOBODY).sum()) < 140
    assert (batch.speakers == NOBODY).all()


def test_a_slower_recording_is_a_lower_tone() -> None:
    time = np.arange(800) / RATE
    tone = compand((0.5 * np.sin(2 * np.pi * 100 * time)).astype(np.float32))
    made = crops(take(tone), length=500, batch=20, speed=0.2)
    levels = np.sort([_hz(row.numpy()) for row in made.batch(0).targets])
    assert 78 < levels[0] < 95 and 105 < levels[-1] < 122


def _hz(codes: np.ndarray) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(codes - codes.mean())))) * RATE / len(codes)


def test_rows_that_begin_as_something_else_count_from_where_they_come_back() -> None:
    long = np.tile(RAMP, 20)
    plain = crops(take(long), length=800, batch=64).batch(0)
    batch = crops(take(long), length=800, batch=64, splice=0.5).batch(0)
    itself = batch.counted == 1
    assert torch.equal(batch.counted[itself], plain.counted[itself])
    other = ~itself.all(1)
    assert 16 <= other.sum() <= 48
    assert torch.equal(batch.targets[~other], plain.targets[~other])
    assert torch.equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    late = itself & (itself.cumsum(1) > 60)  # 60 ms at this rate, and they are what they are
    assert torch.equal(batch.targets[late], plain.targets[late])
    assert not torch.equal(batch.targets, plain.targets)
    # A row that goes on in its recording does not begin anew.
    goes_on = [
        crops(take(long), length=400, batch=64, carry=2, splice=share).batch(1)
        for share in (0.0, 1.0)
    ]
    assert torch.equal(goes_on[0].targets, goes_on[1].targets)


def test_held_out_recordings_are_not_trained_on() -> None:
    made = crops(take(), take(np.full(100, 200, np.uint8), held_out=True), batch=50)
    assert (made.batch(0).targets != 200).all()
    with pytest.raises(ConfigError, match="no recording to train on"):
        crops(take(held_out=True))


def test_companding_on_the_device_is_that_of_numpy() -> None:
    x = np.linspace(-1.1, 1.1, 5001, dtype=np.float32)
    got = compand_on_device(torch.from_numpy(x)).numpy()
    assert np.abs(got - compand(x).astype(int)).max() <= 1
    assert (got == compand(x)).mean() > 0.999
