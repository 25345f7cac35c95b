"""Words in parts, one after another, in time."""

import math
from pathlib import Path

import numpy as np
import pytest

import audiomamba
from audiomamba.audio.mulaw import SILENCE, expand
from audiomamba.config import from_mapping, to_mapping
from audiomamba.errors import ConfigError, StateError
from audiomamba.models.wave.config import WaveConfig
from audiomamba.models.wave.durations import Durations
from audiomamba.models.wave.schedule import (
    PAUSE_S,
    Schedule,
    dumped,
    restored,
    spoken,
    stretched,
    words_of,
)
from audiomamba.models.wave.synthesizer import Generation, Synthesizer
from tests.models.wave.tiny import tiny_checkpoint, tiny_config

STATES = 4
KNOWN = Durations(labels={"yes": [math.log(0.2), 0.2], "no": [math.log(0.1), 0.0]})


def config(**changes: object) -> WaveConfig:
    return tiny_config(label_states=STATES, **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("tiny"), config())


@pytest.fixture(params=["native", "torch"])
def model(request: pytest.FixtureRequest, folder: Path) -> Synthesizer:
    made: Synthesizer = audiomamba.load(str(folder), engine=request.param)
    # A step of PyTorch is slow: words of hundredths of a second.
    made.durations = Durations(labels={n: [math.log(0.006), 0.3] for n in ("yes", "no", "stop")})
    return made


def test_words_go_through_their_parts_with_pauses_between() -> None:
    own = spoken(config(), [0, 1, 0], 1, KNOWN, seed=1)
    assert own.rows == [0, 1, 2, 3, 12, 4, 5, 6, 7, 12, 0, 1, 2, 3, 12]
    assert own.starts == sorted(set(own.starts)) and own.speaker == 1
    assert all(start % 6 == 0 for start in own.starts)
    lengths = np.diff([own.starts[i] for i in (0, 4, 5, 9, 10, 14)]) / 8_000
    assert 0.14 < lengths[0] < 0.28 and lengths[2] == pytest.approx(0.1, abs=2e-3)
    assert lengths[0] != lengths[4]
    least, most = PAUSE_S
    for pause in (lengths[1], lengths[3], own.samples / 8_000 - own.starts[14] / 8_000):
        assert least - 2e-3 <= pause <= most + 2e-3
    parts = np.diff(own.starts[:5])
    assert parts.max() - parts.min() <= 6
    assert [own.at(own.starts[5] + i) for i in (-1, 0, 1)] == [12, 4, 4]
    assert own.left(own.starts[5] - 2) == 2 and own.left(own.starts[14]) is None
    assert own == spoken(config(), [0, 1, 0], 1, KNOWN, seed=1)
    assert own != spoken(config(), [0, 1, 0], 1, KNOWN, seed=2)


def test_parts_have_the_shares_that_were_measured() -> None:
    shares: list[tuple[str, str | None, tuple[float, ...]]]
    shares = [("yes", "ann", (0.1, 0.2, 0.7)), ("yes", "ann", (0.3, 0.4, 0.9))] * 5
    shares += [("yes", "bob", (0.5, 0.6, 0.7)), ("no", None, (0.2, 0.4, 0.8))]
    known = Durations.measured([("yes", None, 0.6), ("no", None, 0.6)], shares)
    assert known.own_parts == {"ann": {"yes": [0.2, 0.3, 0.8]}}  # of ten words, bob's of one
    assert known.parts["no"] == [0.2, 0.4, 0.8]
    assert known.parts["yes"] == pytest.approx([0.2273, 0.3273, 0.7909], abs=1e-4)
    assert from_mapping(Durations, to_mapping(known)) == known
    speakers = config(speakers=["ann", "bob"])
    for speaker, wanted in ((0, known.own_parts["ann"]["yes"]), (1, known.parts["yes"])):
        own = spoken(speakers, [0], speaker, known, seed=1)
        assert own.rows == [0, 1, 2, 3, 12]
        assert np.array(own.starts[1:4]) / own.starts[4] == pytest.approx(wanted, abs=6 / 2_000)
    # Parts that begin at the same sample: the later one.
    tight = Durations(labels={"yes": [math.log(0.6), 0.0]}, parts={"yes": [0.5, 0.5001, 0.9]})
    assert spoken(config(), [0], -1, tight, seed=1).rows == [0, 2, 3, 12]


def test_shares_of_another_number_of_parts_are_an_error() -> None:
    known = Durations(parts={"yes": [0.5]})
    with pytest.raises(ConfigError, match="'yes' wants 3 shares, got 1"):
        spoken(config(), [0], -1, known, seed=0)


def test_nothing_asked_for_is_nothing_for_ever_and_has_no_end() -> None:
    assert spoken(config(), [], -1, KNOWN, seed=0) == Schedule([0], [-1], -1, 0, 12)


def test_after_a_prompt_a_switch_is_still_where_a_period_begins() -> None:
    own = spoken(config(), [0, 2], -1, KNOWN, seed=1, heard=4)
    assert own.starts[0] == 0 and {(start + 4) % 6 for start in own.starts[1:]} == {0}


def test_words_that_nobody_measured_and_endless_ones_have_sane_lengths() -> None:
    for durations in (Durations(), Durations(labels={"yes": [50.0, 9.0]})):
        own = spoken(config(), [0], -1, durations, seed=1)
        assert 0.3 < own.starts[-1] / 8_000 <= 3.0
    short = spoken(config(), [0], -1, Durations(labels={"yes": [-50.0, 0.0]}), seed=1)
    assert short.starts == [0, 6, 12, 18, 24]  # a period a part


def test_a_stretched_word_takes_all_there_is() -> None:
    assert stretched(config(), [1, 2], 0, 48) == Schedule(
        [0, 6, 12, 18, 24, 30, 36, 42], [4, 5, 6, 7, 8, 9, 10, 11], 0, 48, 12
    )
    assert stretched(config(), [1], -1, 2).starts == [0]
    assert stretched(tiny_config(), [1], -1, 50) == Schedule([0], [1], -1, 50, 3)
    assert stretched(config(), [], -1, 50) == Schedule([0], [-1], -1, 0, 12)


def test_a_wish_is_a_label_or_several() -> None:
    assert words_of(config(), "stop yes  no") == [2, 0, 1]
    assert words_of(config(), None) == []
    assert words_of(config(labels=["yes", "oh yes"]), "oh yes") == [1]
    for divided, asked, word in (
        (config(), "yes maybe no", "maybe"),
        (config(), " ", " "),
        (tiny_config(), "yes no", "yes no"),
    ):
        with pytest.raises(ConfigError, match=f"label '{word}' is not known; there are yes, no"):
            words_of(divided, asked)


def test_a_schedule_comes_back_and_a_damaged_one_does_not() -> None:
    own = [spoken(config(), words, 1, KNOWN, seed=3) for words in ([0, 1], [], [2])]
    arrays = dumped(own)
    assert restored(arrays, config()) == own
    assert restored(dumped([]), config()) == []
    for name, wrong in (("rows", 13), ("rows", -2), ("starts", -1)):
        damaged = {key: array.copy() for key, array in arrays.items()}
        damaged[name][3] = wrong
        with pytest.raises(ValueError, match="schedule"):
            restored(damaged, config())
    with pytest.raises(ValueError, match="schedule"):
        restored(arrays | {"rows": arrays["rows"][:-1]}, config())


def test_a_recording_ends_when_its_words_are_said(model: Synthesizer) -> None:
    made = model.start(labels=["yes no", None, "stop"], speakers=["ann"], seed=9)
    assert made.planned[1] == 0 and made.planned[0] > made.planned[2] > 0.08 * 8_000
    if model.engine == "torch":
        return
    alone = np.concatenate(list(model.generate(label="yes no", speaker="ann", seed=9)))
    assert len(alone) == made.planned[0]
    np.testing.assert_array_equal(made.next(len(alone))[0], alone)
    with pytest.raises(ConfigError, match="say how long"):
        model.generate()


def test_what_is_asked_for_is_heard_at_its_place_alone(model: Synthesizer) -> None:
    """The words are the same up to the second, so the sound is, and not longer."""
    a, b = (model.start(labels=[words], seed=5) for words in ("yes", "yes no"))
    c = model.start(labels=["no"], seed=5)
    same = a._schedules[0].starts[-1]
    assert b._schedules[0].starts[: len(a._schedules[0].starts)] == a._schedules[0].starts
    x, y, z = (one.next(same + 30)[0] for one in (a, b, c))
    np.testing.assert_array_equal(x, y)
    assert (x[:same] != z[:same]).any()


@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_a_pause_is_silent_whoever_speaks_meanwhile(model: Synthesizer, guidance: float) -> None:
    made = model.start(labels=["yes", "no yes", None], seed=5, guidance=guidance)
    own = made._schedules[0]
    end, length = own.starts[-1], own.samples + 40
    sound = made.next(length)
    assert own.rows[-1] == own.silence and end < own.samples
    silence = expand(np.array([SILENCE], np.uint8))
    assert (sound[0, end:] == silence).all() and (sound[0, :end] != silence).any()
    assert (sound[2, end:] != silence).any()  # asked for nothing it is not silent by order
    alone = model.start(labels=["yes"], seed=5, guidance=guidance).next(length)
    np.testing.assert_array_equal(sound[0], alone[0])
    again = model.start(labels=["no yes"], seed=made._seeds[1], guidance=guidance)
    second = again._schedules[0]
    gap = slice(second.starts[len(second.starts) // 2 - 1], second.starts[len(second.starts) // 2])
    assert second.rows[len(second.starts) // 2 - 1] == second.silence
    assert (again.next(second.samples)[0, gap] == silence).all()


@pytest.mark.parametrize("guidance", [1.0, 1.5])
@pytest.mark.parametrize("at", [0, 13, 40])
def test_a_saved_schedule_goes_on_to_the_same_samples(
    model: Synthesizer, guidance: float, at: int
) -> None:
    made = model.start(labels=["yes no", "stop"], seed=2, guidance=guidance)
    whole = model.start(labels=["yes no", "stop"], seed=2, guidance=guidance).next(100)
    first = made.next(at)
    resumed = model.resume(made.save())
    assert resumed.planned == made.planned
    np.testing.assert_array_equal(np.concatenate([first, resumed.next(100 - at)], 1), whole)


def test_what_is_made_together_is_what_is_made_alone(model: Synthesizer) -> None:
    def begun() -> list[Generation]:
        made = [model.start(labels=[label], seed=4) for label in ("yes", "no stop", None)]
        made[0].next(12)
        return made

    alone = [one.next(60) for one in begun()]
    for one, want in zip(Generation.together(begun(), 60), alone, strict=True):
        np.testing.assert_array_equal(one, want)


def test_a_schedule_that_was_damaged_is_refused(model: Synthesizer) -> None:
    made = model.start(labels=["yes"])
    made._schedules = [*made._schedules, *made._schedules]
    with pytest.raises(StateError, match="damaged"):
        model.resume(made.save())


def test_bits_of_a_word_are_told_its_parts(model: Synthesizer) -> None:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 60).astype(np.float32)
    bits = {label: model.bits(sound, label=label) for label in (None, "yes", "yes no")}
    np.testing.assert_allclose(bits["yes"][:6], bits["yes no"][:6], atol=1e-4)
    assert not np.allclose(bits["yes"][24:], bits["yes no"][24:], atol=1e-3)
    assert not np.allclose(bits["yes"], bits[None], atol=1e-3)
