"""Incremental decoding: the same words whatever the cuts, a prefix that only grows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audiomamba.errors import ConfigError
from audiomamba.models.registry import find
from audiomamba.text.ctc import LONGEST_WORD, CtcDecoder, DecoderConfig
from audiomamba.text.events import Event, Final, Partial, SpeechEnd, SpeechStart
from audiomamba.text.vocabulary import BLANK, Vocabulary

VOCABULARY = Vocabulary.load(find("listen-en") / "tokenizer.model")


def log_probs(ids: list[int], sure: float = 0.9) -> NDArray[np.float32]:
    """Frames whose best pieces are ``ids``."""
    out = np.full((len(ids), len(VOCABULARY)), (1 - sure) / (len(VOCABULARY) - 1))
    out[np.arange(len(ids)), ids] = sure
    logs: NDArray[np.float32] = np.log(out).astype(np.float32)
    return logs


def spaced(text: str, gap: int = 2) -> list[int]:
    """Pieces of a text, each followed by ``gap`` blanks."""
    return [i for piece in VOCABULARY.encode(text) for i in [piece, *[BLANK] * gap]]


def finals(events: list[Event]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


def test_text_comes_back() -> None:
    decoder = CtcDecoder(VOCABULARY)
    events = decoder.feed(log_probs(spaced("the quick brown fox"))) + decoder.finish()
    [final] = finals(events)
    assert final.text == "the quick brown fox"
    assert [word.word for word in final.words] == final.text.split()
    assert final.reason == "finish"


def test_repeats_are_one_and_a_blank_between_makes_two() -> None:
    [letter] = [i for i in VOCABULARY.encode("zoo") if VOCABULARY.pieces[i] == "o"][:1]
    start = VOCABULARY.encode("the")
    once = CtcDecoder(VOCABULARY)
    twice = CtcDecoder(VOCABULARY)
    [a] = finals(once.feed(log_probs([*start, letter, letter])) + once.finish())
    [b] = finals(twice.feed(log_probs([*start, letter, BLANK, letter])) + twice.finish())
    assert (a.text, b.text) == ("theo", "theoo")


def test_a_repeat_over_a_cut_is_still_one() -> None:
    ids = VOCABULARY.encode("seven")
    decoder = CtcDecoder(VOCABULARY)
    events = decoder.feed(log_probs([ids[0]])) + decoder.feed(log_probs([ids[0], BLANK]))
    [final] = finals(events + decoder.finish())
    assert final.text == "seven"


def test_a_pause_ends_an_utterance_and_the_next_has_another_number() -> None:
    decoder = CtcDecoder(VOCABULARY, DecoderConfig(silence_s=0.4, min_speech_s=0.0))
    frames = [*spaced("one two"), *[BLANK] * 12, *spaced("three"), *[BLANK] * 12]
    events = decoder.feed(log_probs(frames))
    first, second = finals(events)
    assert (first.text, first.reason, second.text) == ("one two", "endpoint", "three")
    assert second.utterance == first.utterance + 1
    assert first.end <= second.start
    kinds = [type(event) for event in events if not isinstance(event, Partial)]
    assert kinds == [SpeechStart, Final, SpeechEnd] * 2


def test_what_is_never_sure_is_no_speech() -> None:
    decoder = CtcDecoder(VOCABULARY, DecoderConfig(threshold=0.9))
    frames = np.concatenate([log_probs(spaced("one two"), 0.7), log_probs([BLANK] * 40)])
    assert decoder.feed(frames) == []
    sure = np.concatenate([log_probs(spaced("one"), 0.7), log_probs(spaced("two"), 0.9)])
    events = decoder.feed(sure) + decoder.finish()
    [final] = finals(events)
    assert final.text == "one two" and final.utterance == 0
    assert [type(event) for event in events] == [SpeechStart, Partial, Final, SpeechEnd]


def test_an_utterance_starts_before_its_first_word() -> None:
    frames = log_probs([*[BLANK] * 10, *spaced("one"), *[BLANK] * 30, *spaced("two")])
    decoder = CtcDecoder(VOCABULARY, DecoderConfig(pre_roll_s=9.0))
    first, second = finals(decoder.feed(frames) + decoder.finish())
    assert first.start == 0.0 and second.start == pytest.approx(first.end)


def test_without_endpointing_only_the_end_ends_it() -> None:
    decoder = CtcDecoder(VOCABULARY, DecoderConfig(endpointing=False))
    events = decoder.feed(log_probs([*spaced("one"), *[BLANK] * 99, *spaced("two")]))
    assert not finals(events)
    assert [final.text for final in finals(decoder.finish())] == ["one two"]


def test_an_utterance_without_a_pause_is_closed_at_a_words_end() -> None:
    decoder = CtcDecoder(VOCABULARY, DecoderConfig(max_utterance_s=1.0))
    events = decoder.feed(log_probs(spaced("one two three four five six " * 20, gap=1)))
    found = finals(events)
    assert len(found) > 3
    assert all(final.reason == "max_length" and final.end - final.start < 1.5 for final in found)


def test_a_word_that_never_ends_takes_no_memory() -> None:
    [letter] = [i for i in VOCABULARY.encode("zoo") if VOCABULARY.pieces[i] == "o"][:1]
    decoder = CtcDecoder(VOCABULARY, DecoderConfig(max_utterance_s=5.0))
    for _ in range(20):
        decoder.feed(log_probs([letter, BLANK] * 500))
    words = decoder.state()["words"]
    assert all(len(word["text"]) <= LONGEST_WORD for word in words) and len(words) < 10


def test_silence_says_nothing() -> None:
    decoder = CtcDecoder(VOCABULARY)
    assert decoder.feed(log_probs([BLANK] * 500)) + decoder.flush() + decoder.finish() == []


def test_times_are_frames_less_the_delay() -> None:
    [piece] = VOCABULARY.encode("seven")
    decoder = CtcDecoder(VOCABULARY, DecoderConfig(frame_s=0.04, emission_delay_s=0.2))
    [final] = finals(decoder.feed(log_probs([*[BLANK] * 10, piece])) + decoder.finish())
    assert final.words[0].start == pytest.approx(0.2)
    assert final.words[0].end == pytest.approx(0.24)


def test_confidence_is_that_of_the_least_certain_piece() -> None:
    ids = VOCABULARY.encode("xylophone")
    sure = [0.9, 0.6, *[0.8] * (len(ids) - 2)]
    frames = np.concatenate([log_probs([i], p) for i, p in zip(ids, sure, strict=True)])
    decoder = CtcDecoder(VOCABULARY)
    [final] = finals(decoder.feed(frames) + decoder.finish())
    assert final.words[0].confidence == pytest.approx(0.6, abs=1e-5)


def test_a_flush_closes_and_the_stream_goes_on() -> None:
    decoder = CtcDecoder(VOCABULARY)
    decoder.feed(log_probs(spaced("one")))
    [first] = finals(decoder.flush())
    assert (first.text, first.reason) == ("one", "flush")
    [second] = finals(decoder.feed(log_probs(spaced("two"))) + decoder.finish())
    assert second.text == "two"


@pytest.mark.parametrize("wrong", [{"silence_s": 0}, {"emission_delay_s": -1}, {"frame_s": 0}])
def test_a_wrong_setting_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="decoder"):
        DecoderConfig(**wrong)  # type: ignore[arg-type]


FRAMES = st.lists(st.sampled_from([BLANK] * 6 + VOCABULARY.encode("zero one zoo")), max_size=120)


@settings(max_examples=60, deadline=None)
@given(ids=FRAMES, cuts=st.lists(st.integers(0, 120), max_size=8))
def test_any_cut_gives_the_same_finals_and_a_prefix_that_grows(
    ids: list[int], cuts: list[int]
) -> None:
    config = DecoderConfig(silence_s=0.2, min_speech_s=0.0, max_utterance_s=1.0)
    whole = CtcDecoder(VOCABULARY, config)
    expected = finals(whole.feed(log_probs(ids)) + whole.finish())

    decoder, events = CtcDecoder(VOCABULARY, config), list[Event]()
    edges = [0, *sorted(min(cut, len(ids)) for cut in cuts), len(ids)]
    for start, stop in zip(edges, edges[1:], strict=False):
        events += decoder.feed(log_probs(ids[start:stop]))
        resumed = CtcDecoder(VOCABULARY, config)
        resumed.load(decoder.state())
        decoder = resumed
    events += decoder.finish()
    assert finals(events) == expected

    stable: dict[int, str] = {}
    for event in events:
        if isinstance(event, Partial):
            before = stable.get(event.utterance, "")
            assert event.stable.startswith(before)
            stable[event.utterance] = event.stable
            shown = f"{event.stable}{event.unstable}"
            assert shown == " ".join(word.word for word in event.words)
        elif isinstance(event, Final):
            assert event.text.startswith(stable.get(event.utterance, "").rstrip())
            starts = [word.start for word in event.words]
            assert starts == sorted(starts)
