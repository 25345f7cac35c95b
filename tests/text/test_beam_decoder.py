"""Decoding with a language model: streaming's laws hold, and the model is heard."""

import json
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audiomamba.errors import ShapeError, StateError
from audiomamba.models.registry import find
from audiomamba.text.beam import BeamConfig
from audiomamba.text.beam_decoder import BeamDecoder
from audiomamba.text.ctc import CtcDecoder
from audiomamba.text.events import Event, Final, Partial, SpeechEnd, SpeechStart
from audiomamba.text.fit_ngram import fit
from audiomamba.text.ngram import NgramModel
from audiomamba.text.utterances import DecoderConfig
from audiomamba.text.vocabulary import BLANK, Vocabulary

VOCABULARY = Vocabulary.load(find("listen-en") / "tokenizer.model")
TEXT = ["the cat sat on the mat", "one two three", "a cat and a dog", "the dog sat"] * 20


@lru_cache(maxsize=1)
def model() -> NgramModel:
    return fit(map(VOCABULARY.encode, TEXT), len(VOCABULARY), order=4, nodes=100_000)


def decoder(config: DecoderConfig | None = None, **beam: float) -> BeamDecoder:
    return BeamDecoder(VOCABULARY, config or DecoderConfig(), model(), BeamConfig(**beam))  # type: ignore[arg-type]


def log_probs(ids: list[int], sure: float = 0.9) -> NDArray[np.float32]:
    out = np.full((len(ids), len(VOCABULARY)), (1 - sure) / (len(VOCABULARY) - 1))
    out[np.arange(len(ids)), ids] = sure
    logs: NDArray[np.float32] = np.log(out).astype(np.float32)
    return logs


def spaced(text: str, gap: int = 2) -> list[int]:
    return [i for piece in VOCABULARY.encode(text) for i in [piece, *[BLANK] * gap]]


def finals(events: list[Event]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


def test_text_comes_back_with_times_and_confidence() -> None:
    one = decoder()
    [final] = finals(one.feed(log_probs(spaced("the cat sat"))) + one.finish())
    assert final.text == "the cat sat"
    assert [word.word for word in final.words] == final.text.split()
    assert all(word.start < word.end for word in final.words)
    assert all(word.confidence == pytest.approx(0.9, abs=1e-5) for word in final.words)


def test_the_model_decides_where_the_sound_does_not() -> None:
    [two], [dog] = VOCABULARY.encode("two"), VOCABULARY.encode("dog")
    frames = log_probs(spaced("one two three"))
    said = np.flatnonzero(frames[:, two] > np.log(0.5))
    frames[said, two], frames[said, dog] = np.log(0.48), np.log(0.5)
    greedy, fused = CtcDecoder(VOCABULARY), decoder()
    assert finals(greedy.feed(frames) + greedy.finish())[0].text == "one dog three"
    assert finals(fused.feed(frames) + fused.finish())[0].text == "one two three"


def test_a_word_said_twice_ends_before_it_begins_again() -> None:
    frames = [*spaced("two"), *[BLANK] * 8, *spaced("two three")]
    [said] = finals((one := decoder()).feed(log_probs(frames)) + one.finish())
    assert said.text == "two two three"
    ends = [(word.end, following.start) for word, following in pairwise(said.words)]
    assert all(end <= start for end, start in ends) and said.words[0].end < 0.3


def test_a_pause_ends_an_utterance_and_the_next_has_another_number() -> None:
    frames = [*spaced("one two"), *[BLANK] * 12, *spaced("three"), *[BLANK] * 12]
    events = decoder(DecoderConfig(silence_s=0.4, min_speech_s=0.0)).feed(log_probs(frames))
    first, second = finals(events)
    assert (first.text, first.reason, second.text) == ("one two", "endpoint", "three")
    assert second.utterance == first.utterance + 1 and first.end <= second.start
    kinds = [type(event) for event in events if not isinstance(event, Partial)]
    assert kinds == [SpeechStart, Final, SpeechEnd] * 2


def test_speech_without_a_pause_takes_no_memory() -> None:
    one = decoder(DecoderConfig(max_utterance_s=5.0))
    events, sizes = list[Event](), []
    for _ in range(30):
        events += one.feed(log_probs(spaced("the cat sat on the mat and a dog", gap=1)))
        sizes.append(len(json.dumps(one.state())))
    found = finals(events)
    assert len(found) > 2 and all(final.reason == "max_length" for final in found)
    assert all(final.end - final.start < 6 for final in found)
    assert max(sizes[15:]) < 2 * max(sizes[:15])


def test_silence_says_nothing_and_a_flush_goes_on() -> None:
    one = decoder()
    assert one.feed(log_probs([BLANK] * 300)) + one.flush() == []
    one.feed(log_probs(spaced("one")))
    assert finals(one.flush())[0].text == "one"
    events = one.feed(log_probs(spaced("two"))) + one.finish()
    assert finals(events)[0].text == "two"


def test_what_is_not_speech_does_not_open_an_utterance() -> None:
    [piece] = VOCABULARY.encode("the")
    unsure = log_probs([piece], sure=0.7)
    unsure[0, BLANK] = np.log(0.29)
    quiet = log_probs([BLANK] * 20)
    strict = decoder(DecoderConfig(threshold=0.9))
    frames = np.concatenate([unsure, quiet])
    assert finals(strict.feed(frames) + strict.finish()) == []
    ready = decoder()
    assert finals(ready.feed(frames) + ready.finish())[0].text == "the"


def test_an_utterance_starts_before_its_first_word() -> None:
    frames = log_probs([*[BLANK] * 10, *spaced("cat"), *[BLANK] * 30, *spaced("dog")])
    one = decoder(DecoderConfig(pre_roll_s=0.2))
    first, second = finals(one.feed(frames) + one.finish())
    assert first.start == pytest.approx(0.2) and first.words[0].start == pytest.approx(0.4)
    assert second.start == pytest.approx(second.words[0].start - 0.2)
    wide = decoder(DecoderConfig(pre_roll_s=9.0))
    first, second = finals(wide.feed(frames) + wide.finish())
    assert first.start == 0.0 and second.start == pytest.approx(first.end)


FRAMES = st.lists(
    st.tuples(
        st.sampled_from([BLANK] * 4 + VOCABULARY.encode("the cat sat on dog")),
        st.sampled_from([0.4, 0.6, 0.99]),
    ),
    max_size=100,
)


@settings(max_examples=40, deadline=None)
@given(frames=FRAMES, cuts=st.lists(st.integers(0, 100), max_size=6))
def test_any_cut_gives_the_same_finals_and_a_prefix_that_grows(
    frames: list[tuple[int, float]], cuts: list[int]
) -> None:
    config = DecoderConfig(silence_s=0.2, min_speech_s=0.0, max_utterance_s=1.0)
    rows = [log_probs([piece], sure) for piece, sure in frames]
    table = np.concatenate(rows) if rows else log_probs([])
    whole = decoder(config)
    expected = finals(whole.feed(table) + whole.finish())

    one, events = decoder(config), list[Event]()
    edges = [0, *sorted(min(cut, len(table)) for cut in cuts), len(table)]
    for start, stop in zip(edges, edges[1:], strict=False):
        events += one.feed(table[start:stop])
        resumed = decoder(config)
        resumed.load(json.loads(json.dumps(one.state(), allow_nan=False)))
        one = resumed
    events += one.finish()
    assert finals(events) == expected

    stable: dict[int, str] = {}
    for event in events:
        if isinstance(event, Partial):
            assert event.stable.startswith(stable.get(event.utterance, ""))
            stable[event.utterance] = event.stable
            shown = f"{event.stable}{event.unstable}"
            assert shown == " ".join(word.word for word in event.words)
        elif isinstance(event, Final):
            assert event.text.startswith(stable.get(event.utterance, "").rstrip())
            starts = [word.start for word in event.words]
            assert starts == sorted(starts)


def test_a_state_of_another_decoder_is_refused() -> None:
    greedy = CtcDecoder(VOCABULARY)
    with pytest.raises(StateError, match="other language models"):
        decoder().load(greedy.state())
    with pytest.raises(StateError, match="with a language model"):
        greedy.load(decoder().state())
    other = fit([[1, 2]], len(VOCABULARY), order=2, nodes=1000)
    with pytest.raises(StateError, match="other language models"):
        BeamDecoder(VOCABULARY, DecoderConfig(), other, BeamConfig()).load(decoder().state())


def test_another_number_of_pieces_is_refused() -> None:
    with pytest.raises(ShapeError, match="512"):
        decoder().feed(np.zeros((1, 5), np.float32))


@pytest.mark.parametrize("greedy", [True, False])
def test_a_pause_is_known_only_when_the_next_word_would_have_been_heard(greedy: bool) -> None:
    frames = log_probs([*spaced("one two"), *[BLANK] * 10, *spaced("three")])  # 0.4 s and a little
    counts = []
    for start_delay_s in (0.0, 0.2):
        config = DecoderConfig(silence_s=0.4, start_delay_s=start_delay_s, min_speech_s=0.0)
        reader = CtcDecoder(VOCABULARY, config) if greedy else decoder(config)
        counts.append(len(finals(reader.feed(frames) + reader.finish())))
    assert counts == [2, 1]
