"""Running means of sound, and the extremes of what is trained on."""

import numpy as np
import pytest

from audiomamba.audio.mulaw import compand
from audiomamba.models.wave.statistics import Running, block_samples, measure

RATE = 8_000
BLOCK = block_samples(RATE, 16)


def noise(seconds: float, rms: float, seed: int = 0) -> np.ndarray:
    sound = np.random.default_rng(seed).normal(0, rms, round(seconds * RATE))
    return compand(sound.astype(np.float32))


def tone(seconds: float, peak: float = 0.5) -> np.ndarray:
    return compand((peak * np.sin(np.arange(round(seconds * RATE)) * 0.3)).astype(np.float32))


@pytest.mark.parametrize(("rate", "period"), [(8_000, 16), (16_000, 256), (8_000, 6), (48_000, 1)])
def test_a_block_is_a_tenth_of_a_second_of_whole_periods_and_frames(rate: int, period: int) -> None:
    block = block_samples(rate, period)
    assert block % period == 0 and block % 256 == 0
    assert rate // 10 <= block < rate // 10 + np.lcm(256, period)


def last(codes: np.ndarray) -> tuple[float, ...]:
    running = Running(1, BLOCK, RATE)
    whole = codes[: len(codes) // BLOCK * BLOCK].reshape(-1, 1, BLOCK)
    for part in whole:
        readings = running.add(part)
    return tuple(float(column[0]) for column in readings)


def test_noise_a_tone_saturation_and_silence_are_told_apart() -> None:
    level, flatness, lasting, clipped, silent, steady = last(noise(3, 0.1))
    assert level == pytest.approx(-20, abs=0.5) and flatness > 0.8 and lasting > 0.8
    assert clipped == 0 and silent == 0 and steady == 0
    level, flatness, *_ = last(tone(3))
    assert level == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.3) and flatness < 0.05
    assert last(np.full(3 * RATE, 255, np.uint8))[3] == pytest.approx(1, abs=1e-3)
    assert last(tone(3))[5] == pytest.approx(3, abs=0.3)
    level, flatness, _, _, silent, steady = last(np.full(3 * RATE, 128, np.uint8))
    assert level < -70 and flatness == 0 and silent == pytest.approx(3, abs=0.2) and steady == 0


def test_silence_is_counted_from_the_last_sound() -> None:
    quiet = np.full(4 * BLOCK, 128, np.uint8)
    assert last(np.concatenate([quiet, tone(2 * BLOCK / RATE), quiet]))[4] == pytest.approx(
        4 * BLOCK / RATE
    )


def test_streams_do_not_see_each_other() -> None:
    together = Running(2, BLOCK, RATE)
    alone = Running(1, BLOCK, RATE)
    for i in range(5):
        a, b = noise(1, 0.1, i)[:BLOCK], tone(1)[:BLOCK]
        both, one = together.add(np.stack([a, b])), alone.add(b[None])
    for joint, single in zip(both, one, strict=True):
        assert joint[1] == pytest.approx(single[0])


def test_what_is_measured_are_the_extremes() -> None:
    sounds = [tone(2.0), np.concatenate([tone(0.5), np.full(8_000, 128, np.uint8), tone(0.5)])]
    found = measure(sounds, RATE, 16)
    assert found.level_db == pytest.approx(-9, abs=0.5)
    assert found.flatness < 0.1 and found.clipped == 0
    assert found.silence_s is not None and 0.7 < found.silence_s < 1.1
    assert found.steady_s == pytest.approx(1.8, abs=0.2)
    assert measure([noise(2, 0.1)], RATE, 16).flatness > 0.7
    nothing = measure([], RATE, 16)
    assert (nothing.flatness, nothing.clipped, nothing.silence_s) == (1.0, 1.0, None)


def test_a_hiss_among_tones_is_noise_for_a_moment_and_not_for_long() -> None:
    tones, hiss = tone(2.0, peak=0.1), noise(0.3, 0.1)
    flatness, lasting = last(np.concatenate([tones, hiss]))[1:3]
    assert flatness > 1.5 * lasting
    assert last(np.concatenate([tones, noise(6.0, 0.1)]))[2] > 1.5 * lasting
    assert last(noise(1.0, 0.1))[2] == 0  # too little was heard
    assert measure([noise(1.0, 0.1)], RATE, 16).long_flatness == 1.0
    long = measure([np.concatenate([tones, hiss, tones])], RATE, 16)
    assert long.long_flatness < 0.7 * long.flatness
