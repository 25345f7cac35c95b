import numpy as np
import torch

from audiomamba.training.batches.assembly import Placed, frame_targets, gather_audio


def placed(block: int, length: int, speed: float, *, start: int = 512) -> Placed:
    def column(*values: float, dtype: torch.dtype = torch.int64) -> torch.Tensor:
        return torch.tensor([values], dtype=dtype)

    return Placed(
        blocks=column(block, 10_000),
        starts=column(start, start),
        lengths=column(length, 0),
        speeds=column(speed, 1.0, dtype=torch.float64),
        gains=column(1.0, 0.0, dtype=torch.float32),
        frame_starts=column(3, 0),
        frame_counts=column(-(-length // 400), 0),
    )


def pool_of(wave: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.pad(wave, 512).astype(np.int16))


def test_at_its_own_speed_audio_is_copied() -> None:
    wave = np.random.default_rng(0).integers(-9000, 9000, 1000)
    rows = gather_audio(pool_of(wave), placed(3, 1000, 1.0), 4000)
    expected = np.zeros(4000)
    expected[240:1240] = wave / 32768
    torch.testing.assert_close(rows[0].double(), torch.from_numpy(expected), atol=1e-6, rtol=0)


def test_another_speed_shifts_the_pitch_exactly() -> None:
    def tone(hz: float, count: int) -> np.ndarray:
        return 10_000 * np.sin(2 * np.pi * hz * np.arange(count) / 16_000)

    rows = gather_audio(pool_of(tone(300, 16_000)), placed(0, 16_000, 1.1), 14_400)
    expected = tone(330, 14_400) / 32768
    assert np.abs(rows[0].numpy() - expected).max() < 1e-3


def test_targets_follow_place_speed_and_delay() -> None:
    phones = torch.zeros(103, dtype=torch.uint8)
    phones[3:] = torch.arange(100, dtype=torch.uint8) // 10 + 1  # a phone lasts 250 ms
    block, speed, delay = 100, 1.15, 0.24
    where = placed(block, 40_000, speed)
    ids, active = frame_targets(
        phones, (phones > 0).byte(), where, 90, phone_delay_s=delay, activity_delay_s=0.0
    )
    for i in range(90):
        since = (0.04 * i + 0.0125 - delay - block * 0.005) * speed
        expected = int(since / 0.25) + 1 if 0 <= since < 2.5 else 0
        assert ids[0, i] == expected
        spoken = (0.04 * i + 0.0125 - block * 0.005) * speed
        assert active[0, i] == float(0 <= spoken < 2.5)


def test_an_unknown_phone_is_ignored_and_silence_around_it_is_not() -> None:
    phones = torch.full((50,), 255, dtype=torch.uint8)
    where = placed(100, 8000, 1.0)
    ids, _ = frame_targets(
        phones, torch.ones_like(phones), where, 50, phone_delay_s=0.0, activity_delay_s=0.0
    )
    assert ids[0, 20] == -1 and ids[0, 5] == 0 and ids[0, 40] == 0
