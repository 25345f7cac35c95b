"""A classifier that can tell tones apart, and is trained once."""

from pathlib import Path

import numpy as np
import pytest
import torch

from audiomamba.audio.mulaw import compand, expand
from audiomamba.training.wave import classifier
from audiomamba.training.wave.classifier import cache_folder, kept_judge, train_judge
from audiomamba.training.wave.takes import Take

RATE = 8_000
LABELS = ["yes", "no", "stop"]


def tone(label: str, speaker: str, seed: int) -> Take:
    rng = np.random.default_rng([LABELS.index(label), seed])
    hz = (300, 900, 2000)[LABELS.index(label)] * rng.uniform(0.95, 1.05)
    time = np.arange(int(rng.uniform(0.3, 0.8) * RATE)) / RATE
    sound = 0.5 * np.sin(2 * np.pi * hz * time) + rng.normal(0, 0.01, len(time))
    return Take(compand(sound.astype(np.float32)), label, speaker, held_out=False)


TAKES = [tone(label, who, seed) for label in LABELS for who in ("ann", "bob") for seed in range(4)]


@pytest.mark.slow
def test_a_judge_hears_what_it_was_taught() -> None:
    judge = train_judge(TAKES[::2], LABELS, RATE, steps=30)
    opinion = judge.hear([expand(take.codes) for take in TAKES[1::2]])
    best = opinion.probabilities.argmax(1).tolist()
    assert [LABELS[i] for i in best] == [take.label for take in TAKES[1::2]]
    assert opinion.features.shape == (12, 128)


@pytest.mark.slow
def test_a_judge_that_was_kept_is_the_one_that_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sounds = [expand(take.codes) for take in TAKES]
    first = kept_judge(TAKES, LABELS, RATE, tmp_path, steps=3).hear(sounds)
    with monkeypatch.context() as patched:
        patched.setattr(classifier, "train_judge", None)
        again = kept_judge(TAKES, LABELS, RATE, tmp_path, steps=3).hear(sounds)
        assert torch.equal(first.probabilities, again.probabilities)
        with pytest.raises(TypeError):  # others, so another judge
            kept_judge(TAKES[1:], LABELS, RATE, tmp_path, steps=3)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:-9])
    mended = kept_judge(TAKES, LABELS, RATE, tmp_path, steps=3).hear(sounds)
    torch.testing.assert_close(mended.probabilities, first.probabilities)


def test_judges_are_kept_where_caches_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/where")
    assert cache_folder() == Path("/some/where/audiomamba/judges")
