"""Warnings about the sound itself: when, and once."""

import numpy as np
import pytest
from numpy.typing import NDArray

from audiomamba.audio import pcm
from audiomamba.streaming.engine import Engine
from audiomamba.streaming.engine.soundcheck import NO_SPEECH_S, SoundCheck
from audiomamba.streaming.protocol.events import Drained, Warned
from tests.streaming.energy import EnergyModel, Listener, bursts, linear16

SECOND = 1000


def loud(full: int) -> NDArray[np.float32]:
    """A second with so many samples at full scale, of both signs."""
    samples = np.zeros(SECOND, np.float32)
    samples[:full:2], samples[1:full:2] = 1.0, -1.0
    return samples


@pytest.mark.parametrize("size", [1, 7, 250, 1000, 5000])
def test_a_second_of_which_a_hundredth_is_cut_off_is_told_of_once(size: int) -> None:
    check = SoundCheck(SECOND)
    sound = np.concatenate([loud(9), loud(10), loud(500)])
    found = [w for at in range(0, len(sound), size) for w in check.look(sound[at : at + size])]
    assert [(w.code, "1%" in w.message) for w in found] == [("clipping", True)]


def test_sixteen_bits_at_their_largest_count() -> None:
    largest = pcm.decode(np.full(SECOND, 32767, "<i2").tobytes(), "linear16")
    assert [w.code for w in SoundCheck(SECOND).look(largest)] == ["clipping"]


def test_thirty_seconds_without_a_word_are_told_of_once() -> None:
    check = SoundCheck(SECOND)
    sound = np.zeros(SECOND, np.float32)
    told = [bool(check.look(sound)) for _ in range(2 * round(NO_SPEECH_S))]
    assert told.index(True) == round(NO_SPEECH_S) - 1 and sum(told) == 1


def test_who_spoke_once_may_be_silent() -> None:
    check = SoundCheck(SECOND)
    check.look(np.zeros(SECOND, np.float32))
    check.spoken()
    assert check.look(np.zeros(100 * SECOND, np.float32)) == []


@pytest.mark.parametrize(
    ("sound", "codes"),
    [
        (np.zeros(31 * 16_000, np.float32), ["no_speech"]),
        (np.concatenate([bursts(3), np.zeros(31 * 16_000, np.float32)]), []),
        (np.concatenate([bursts(2), np.ones(16_000, np.float32)]), ["clipping"]),
    ],
    ids=["silence", "words", "loud"],
)
def test_a_session_says_so(sound: NDArray[np.float32], codes: list[str]) -> None:
    engine = Engine(EnergyModel())
    engine.start()
    try:
        listener = Listener(engine)
        listener.feed(linear16(sound))
        listener.session.finish()
        heard = listener.until(Drained)
    finally:
        engine.stop()
    told = [event.code for event in heard if isinstance(event, Warned)]
    assert [code for code in told if code != "lagging"] == codes
