"""A judge who can tell tones apart, and the measures of variety."""

import numpy as np
import pytest
import torch

from audiomamba.audio.mulaw import compand, expand
from audiomamba.errors import ConfigError
from audiomamba.models.wave.synthesizer import Synthesizer
from audiomamba.models.wave.torch_engine import TorchWave
from audiomamba.training.wave.judge import (
    frechet_distance,
    inception_score,
    judge_speaker,
    train_judge,
)
from audiomamba.training.wave.takes import Take
from tests.models.wave.tiny import tiny_config, tiny_wave

RATE = 8_000
LABELS = ["yes", "no", "stop"]


def tone(label: str, speaker: str, seed: int) -> Take:
    rng = np.random.default_rng([LABELS.index(label), seed])
    hz = (300, 900, 2000)[LABELS.index(label)] * rng.uniform(0.95, 1.05)
    time = np.arange(int(rng.uniform(0.3, 0.8) * RATE)) / RATE
    sound = 0.5 * np.sin(2 * np.pi * hz * time) + rng.normal(0, 0.01, len(time))
    return Take(compand(sound.astype(np.float32)), label, speaker, held_out=seed % 2 == 0)


TAKES = [tone(label, who, seed) for label in LABELS for who in ("ann", "bob") for seed in range(4)]


def test_a_judge_hears_what_it_was_taught() -> None:
    judge = train_judge(TAKES[::2], LABELS, RATE, steps=25)
    opinion = judge.hear([expand(take.codes) for take in TAKES[1::2]])
    best = opinion.probabilities.argmax(1).tolist()
    assert [LABELS[i] for i in best] == [take.label for take in TAKES[1::2]]
    assert opinion.features.shape == (12, 128)


def test_variety_is_measured() -> None:
    sure = torch.eye(4).repeat(5, 1)
    assert inception_score(sure) == pytest.approx(4, rel=1e-3)
    assert inception_score(torch.full((20, 4), 0.25)) == pytest.approx(1)
    assert inception_score(sure[:1].repeat(20, 1)) == pytest.approx(1)


def test_the_distance_of_equals_is_none_and_that_of_shifted_ones_the_shift() -> None:
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(x, x + 2) == pytest.approx(12, rel=1e-4)
    assert frechet_distance(x, 3 * x) > 8


def test_a_speaker_is_judged_by_one_who_knows_the_others() -> None:
    model = Synthesizer(TorchWave(tiny_wave()), tiny_config(sample_rate=RATE), "tiny")
    model._engine = _Tones()  # type: ignore[assignment]
    verdict = judge_speaker(model, "ann", TAKES, each=2, steps=25, seed=0)
    assert verdict["real"] == 6 and verdict["made"] == 6
    assert verdict["accuracy_real"] == verdict["accuracy_made"] == 1.0
    with pytest.raises(ConfigError, match="eve"):
        judge_speaker(model, "eve", TAKES, each=1, steps=1, seed=0)


class _Tones:
    """An engine that says a label perfectly."""

    def begin(self, labels: list[int], speakers: list[int]) -> list[int]:
        return labels

    def draw(self, state: list[int], *rest: object) -> np.ndarray:
        samples = rest[-1]
        assert isinstance(samples, int)
        sounds = [tone(LABELS[label], "ann", 99 + row).codes for row, label in enumerate(state)]
        return np.stack([np.pad(s, (0, samples - len(s)), constant_values=128) for s in sounds])
