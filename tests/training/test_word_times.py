"""Word times against times that are known."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

import audiomamba as am
from audiomamba.training.clips import Clip
from audiomamba.training.speech.alignment import Alignment
from audiomamba.training.word_times import RATE, WORDS, join, measure, measure_aligned

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


def test_words_of_sentences_are_held_to_an_alignment() -> None:
    samples, _ = soundfile.read(SPOKEN, dtype="float32")
    spans = np.array([[0.4, 0.9], [1.2, 1.7], [1.7, 1.8], [2.2, 2.8]])

    class Fake:
        def align(self, given: np.ndarray, words: list[str]) -> Alignment:
            assert given.dtype == np.int16 and abs(int(given.max()) / 32_768 - samples.max()) < 1e-3
            assert words == ["zero", "one", "never", "five"]
            return Alignment(np.zeros(1, np.uint8), np.zeros(1), spans, -0.1)

    listener = am.load("listen-en")
    clip = Clip("a", "clear", "zero one never five", samples)
    late = measure_aligned(listener, Fake(), [clip])  # type: ignore[arg-type]
    heard = listener.transcribe(samples).words
    assert [word.word for word in heard] == ["zero", "one", "five"]
    np.testing.assert_allclose(late.start, [w.start for w in heard] - spans[[0, 1, 3], 0])
    np.testing.assert_allclose(late.end, [w.end for w in heard] - spans[[0, 1, 3], 1])
