"""Word times against times that are known."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

import audiomamba as am
from audiomamba.training.clips import Clip
from audiomamba.training.word_times import RATE, WORDS, join, measure

SPOKEN = Path(__file__).parent.parent / "recordings" / "zero_one_five.flac"


def test_silence_around_a_word_is_cut_and_its_place_is_known() -> None:
    tone = np.sin(np.arange(3200) / 5).astype(np.float32)
    quiet = np.zeros(4000, np.float32)
    clip = Clip("a", "digits", "one", np.concatenate([quiet, tone, quiet]))
    samples, [(start, end), (again, _)] = join([clip, clip], np.random.default_rng(0))
    assert start == 0.5 and end == pytest.approx(start + 0.2, abs=0.025)
    assert 0.12 <= again - end <= 0.45
    assert np.abs(samples[round(start * RATE) : round(end * RATE)]).max() == pytest.approx(0.3)


def test_the_shipped_models_words_start_about_when_they_are_said() -> None:
    samples, _ = soundfile.read(SPOKEN, dtype="float32")
    words = [samples[round(a * RATE) : round(b * RATE)] for a, b in ((0.3, 1.0), (1.1, 1.9))]
    clips = [Clip(w, "digits", w, x) for w, x in zip(["zero", "one"], words, strict=True)] * 9
    listener = am.load("listen-en")
    raw, late = measure(listener, clips[:WORDS], raw=True), measure(listener, clips[:WORDS])
    assert len(late.start) == WORDS
    assert abs(late.start.mean()) < raw.start.mean()
    np.testing.assert_array_equal(late.end, raw.end)
