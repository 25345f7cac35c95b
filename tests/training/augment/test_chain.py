import numpy as np
import pytest
import torch
from torch import Tensor

from audiomamba.training.augment import AugmentConfig, Augmenter, noise_bank, room_bank

LEVEL = 0.05
OFF = {"room": 0, "noise": 0, "babble": 0, "channel": 0, "clip": 0, "mulaw": 0, "loss": 0}


def only(**shares: float) -> Augmenter:
    """An augmenter with some steps on and the level left as it is."""
    level = 20 * float(np.log10(LEVEL))
    values = OFF | {"level_low_db": level, "level_high_db": level} | shares
    return Augmenter(room_bank([], count=6), noise_bank([]), AugmentConfig(**values))


def speech(rows: int = 8, samples: int = 32_240) -> Tensor:
    noise = torch.randn(rows, samples, generator=torch.Generator().manual_seed(0))
    return noise * LEVEL


def changed(augmenter: Augmenter, clean: Tensor, strength: float = 1.0) -> Tensor:
    rows, samples = clean.shape
    rng = np.random.default_rng(1)
    plan = augmenter.plan(rng, rows, samples, strength, speech_level=LEVEL)
    return augmenter.apply_(clean.clone(), plan, LEVEL)


def level(rows: Tensor) -> Tensor:
    return rows.square().mean(1).sqrt()


@pytest.mark.parametrize("snr", [3.0, 20.0])
def test_noise_has_the_ratio_asked_for(snr: float) -> None:
    clean = speech()
    noisy = changed(only(noise=1, noise_snr_low_db=snr, noise_snr_high_db=snr), clean)
    ratio = 20 * torch.log10(LEVEL / level(noisy - clean))
    torch.testing.assert_close(ratio, torch.full((8,), snr), atol=0.05, rtol=0)


def test_babble_is_other_rows_at_the_ratio_asked_for() -> None:
    clean = speech()
    noisy = changed(only(babble=1, babble_snr_low_db=10, babble_snr_high_db=10), clean)
    added = noisy - clean
    torch.testing.assert_close(20 * torch.log10(LEVEL / level(added)), torch.full((8,), 10.0))
    own = (added * clean).mean(1) / (level(added) * level(clean))
    assert own.abs().max() < 0.05


def test_a_room_keeps_the_direct_sound_in_its_place() -> None:
    clean = torch.zeros(8, 32_240)
    clean[:, 9000] = 0.5
    wet = changed(only(room=1), clean)
    assert (wet.abs().argmax(1) == 9000).all()
    assert wet[:, :8990].abs().max() < 1e-4
    assert wet[:, 9001:].abs().amax(1).gt(1e-4).sum() >= 6  # one of seven is no room


def test_without_strength_only_the_level_moves() -> None:
    clean = speech()
    everything = Augmenter(room_bank([], count=3), noise_bank([]), AugmentConfig())
    louder = changed(everything, clean * 0.2, strength=0.0)
    shape = louder / level(louder)[:, None]
    torch.testing.assert_close(shape, clean / level(clean)[:, None], atol=1e-4, rtol=1e-4)


def test_mulaw_leaves_few_levels_near_the_old_ones() -> None:
    clean = speech()
    coded = changed(only(mulaw=1), clean)
    assert len(coded.unique()) <= 256
    assert (coded - clean).abs().max() < 0.02


def test_lost_packets_are_zeros_of_whole_packets() -> None:
    clean = speech()
    lost = (changed(only(loss=1), clean) == 0) & (clean != 0)
    packets = lost[:, :32_000].reshape(8, 100, 320).float().mean(2)
    assert ((packets == 0) | (packets == 1)).all()
    assert 0 < packets.mean() < 0.2


def test_a_clipped_row_stays_under_its_ceiling() -> None:
    clean = speech()
    clipped = changed(only(clip=1), clean)
    assert (clipped.abs().amax(1) <= 4 * LEVEL + 1e-6).all()
    assert (level(clipped) < level(clean)).all()


def test_everything_at_once_is_finite_even_for_silence() -> None:
    every = Augmenter(
        room_bank([], count=3), noise_bank([]), AugmentConfig(**dict.fromkeys(OFF, 1))
    )
    assert changed(every, torch.zeros(4, 8240)).isfinite().all()
    assert changed(every, speech(1)).isfinite().all()
