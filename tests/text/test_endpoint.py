"""An utterance ends where the model expects it: how long it must be sure, whatever the cuts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audiomamba.errors import ConfigError
from audiomamba.models.registry import find
from audiomamba.text.beam import BeamConfig
from audiomamba.text.beam_decoder import BeamDecoder
from audiomamba.text.ctc import CtcDecoder, Decoder, DecoderConfig
from audiomamba.text.endpoint import Ending, EndRule
from audiomamba.text.events import Event, Final
from audiomamba.text.ngram import alike
from audiomamba.text.vocabulary import BLANK, Vocabulary

VOCABULARY = Vocabulary.load(find("listen-en") / "tokenizer.model")
FRAME_S = 0.04
RULE = EndRule(output=1, probability=0.8, held_s=0.16, pause_s=0.12)
CONFIG = DecoderConfig(ends=RULE, silence_s=1.0, min_speech_s=0.0)
Floats = NDArray[np.float32]


def log_probs(ids: list[int], sure: float = 0.95) -> Floats:
    out = np.full((len(ids), len(VOCABULARY)), (1 - sure) / (len(VOCABULARY) - 1))
    out[np.arange(len(ids)), ids] = sure
    logs: Floats = np.log(out).astype(np.float32)
    return logs


def spaced(text: str) -> list[int]:
    return [i for piece in VOCABULARY.encode(text) for i in [piece, BLANK]]


def ends(probabilities: list[float]) -> Floats:
    """Two outputs, of which the second is looked at."""
    told: Floats = np.log(np.stack([np.full(len(probabilities), 0.99), probabilities], 1))
    return told.astype(np.float32)


def decoders(config: DecoderConfig) -> list[Decoder]:
    beam = BeamDecoder(VOCABULARY, config, alike(len(VOCABULARY)), BeamConfig(beam=4))
    return [CtcDecoder(VOCABULARY, config), beam]


def finals(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.text, event.reason) for event in events if isinstance(event, Final)]


def test_a_probability_counts_once_it_has_held() -> None:
    ending = Ending(RULE, FRAME_S)
    told = ends([0.9, 0.9, 0.5, 0.8, 0.9, 0.9, 0.9, 0.9, 0.7, 0.9])
    want = [False] * 6 + [True, True, False, False]
    assert ending.expected(10, told).tolist() == want
    assert ending.held == 1
    assert not Ending(None, FRAME_S).expected(10, told).any()
    assert not Ending(RULE, FRAME_S).expected(3, None).any()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from([0.1, 0.9]), min_size=1, max_size=40),
    st.lists(st.integers(0, 40), max_size=4),
)
def test_any_cut_counts_the_same(probabilities: list[float], cuts: list[int]) -> None:
    told = ends(probabilities)
    whole = Ending(RULE, FRAME_S)
    want = whole.expected(len(told), told)
    cut, got = Ending(RULE, FRAME_S), []
    bounds = sorted({0, len(told), *(c for c in cuts if c < len(told))})
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        got += cut.expected(stop - start, told[start:stop]).tolist()
    assert got == want.tolist() and cut.held == whole.held


@pytest.mark.parametrize("number", [0, 1], ids=["greedy", "beam"])
def test_an_utterance_ends_before_its_pause_is_long(number: int) -> None:
    said = spaced("one two")
    frames = log_probs([*said, *[BLANK] * 8, *spaced("three"), *[BLANK] * 8])
    quiet = [0.1] * len(said) + [0.9] * 8 + [0.1] * (len(frames) - len(said) - 8)
    decoder = decoders(CONFIG)[number]
    assert finals(decoder.feed(frames, ends(quiet))) == [("one two", "endpoint")]
    assert finals(decoder.finish()) == [("three", "finish")]
    # The same without the outputs, or with a rule that is not met, waits for the whole pause.
    for config, told in ((CONFIG, None), (DecoderConfig(silence_s=1.0), ends(quiet))):
        patient = decoders(config)[number]
        assert finals(patient.feed(frames, told)) == []
        assert finals(patient.finish()) == [("one two three", "finish")]


@pytest.mark.parametrize("number", [0, 1], ids=["greedy", "beam"])
def test_what_is_expected_waits_for_a_pause_of_pieces(number: int) -> None:
    said = spaced("one two")
    frames = log_probs([*said, BLANK, BLANK])
    decoder = decoders(CONFIG)[number]
    sure = [0.9] * (len(said) + 2)
    begun = len(said) - 2  # the last piece
    assert finals(decoder.feed(frames[: begun + 3], ends(sure[: begun + 3]))) == []
    assert finals(decoder.feed(log_probs([BLANK]), ends([0.9]))) == [("one two", "endpoint")]


@pytest.mark.parametrize("number", [0, 1], ids=["greedy", "beam"])
def test_a_state_goes_on_with_what_was_expected(number: int) -> None:
    said = spaced("one two")
    frames = log_probs([*said, *[BLANK] * 5])
    told = ends([0.1] * (len(said) + 1) + [0.9] * 4)
    first, second = decoders(CONFIG)[number], decoders(CONFIG)[number]
    assert finals(first.feed(frames[:-1], told[:-1])) == []
    second.load(first.state())
    assert finals(second.feed(frames[-1:], told[-1:])) == [("one two", "endpoint")]
    state = first.state()
    del state["held"]  # as it was written before there were outputs
    older = decoders(CONFIG)[number]
    older.load(state)
    assert finals(older.feed(frames[-1:], told[-1:])) == []


def test_without_endpointing_nothing_is_expected() -> None:
    config = DecoderConfig(ends=RULE, endpointing=False)
    frames = log_probs([*spaced("one"), *[BLANK] * 60])
    for decoder in decoders(config):
        assert finals(decoder.feed(frames, ends([0.9] * len(frames)))) == []


@pytest.mark.parametrize(
    "wrong",
    [{"output": -1}, {"probability": 0.0}, {"probability": 1.0}, {"held_s": 0.0}, {"pause_s": -1}],
)
def test_a_rule_that_means_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"endpoint: {next(iter(wrong))}"):
        EndRule(**wrong)  # type: ignore[arg-type]
