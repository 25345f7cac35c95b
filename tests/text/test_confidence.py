"""Confidences are probabilities that rise with what they are made of."""

import numpy as np
import pytest

from audiomamba.errors import ConfigError
from audiomamba.text.confidence import calibrated
from audiomamba.text.ctc import CtcDecoder, DecoderConfig
from tests.text.test_ctc import VOCABULARY, finals, log_probs, spaced


def test_a_scale_of_1_is_the_probability_itself() -> None:
    for p in (0.001, 0.3, 0.5, 0.99):
        assert calibrated(p, 1.0) == pytest.approx(p)


@pytest.mark.parametrize("scale", [0.01, 0.5, 1.0, 10.0])
def test_it_rises_and_stays_within_0_and_1(scale: float) -> None:
    values = [calibrated(p, scale) for p in (0.0, 1e-9, 0.01, 0.2, 0.5, 0.9, 0.999, 1.0)]
    assert values == sorted(values) and values[0] >= 0 and values[-1] <= 1
    assert values[-1] > values[0]


def test_log_odds_are_scaled() -> None:
    assert calibrated(0.8, 0.5) == pytest.approx(2 / 3)  # odds of 4 become odds of 2


def test_a_decoder_s_words_have_it_and_their_text_and_times_do_not_change() -> None:
    frames = log_probs(spaced("the quick brown fox"), sure=0.8)
    raw, calibrating = (
        CtcDecoder(VOCABULARY, DecoderConfig(confidence_scale=scale)) for scale in (1.0, 0.6)
    )
    [a] = finals(raw.feed(frames) + raw.finish())
    [b] = finals(calibrating.feed(frames) + calibrating.finish())
    assert (a.text, a.start, a.end) == (b.text, b.start, b.end)
    for before, after in zip(a.words, b.words, strict=True):
        assert after.confidence == pytest.approx(calibrated(before.confidence, 0.6))
        assert after.confidence != before.confidence
    assert b.confidence == pytest.approx(np.mean([word.confidence for word in b.words]))


@pytest.mark.parametrize("wrong", [0.0, -1.0, 10.5, float("nan")])
def test_a_scale_that_turns_or_bursts_is_refused(wrong: float) -> None:
    with pytest.raises(ConfigError, match="confidence_scale"):
        DecoderConfig(confidence_scale=wrong)
