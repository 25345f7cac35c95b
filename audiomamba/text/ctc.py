"""Incremental CTC decoding: log-probabilities a frame in, words with times out.

Greedy: the best piece of each frame, repeats collapsed, blanks dropped. What is written does not
depend on how the frames are cut into calls; memory does not grow with the stream.
"""

from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import ShapeError, StateError
from audiomamba.text.events import Event, Reason
from audiomamba.text.utterances import LONGEST_WORD, DecoderConfig, Spoken, Utterances
from audiomamba.text.vocabulary import BLANK, WORD_START, Vocabulary

__all__ = ["LONGEST_WORD", "CtcDecoder", "Decoder", "DecoderConfig", "check_shape"]

Floats = NDArray[np.float32]


class Decoder(Protocol):
    """Decodes one stream; any cut of the frames into calls gives the same finals."""

    def feed(self, log_probs: Floats, ends: Floats | None = None) -> list[Event]:
        """Take ``(k, pieces)`` log-probabilities of the next k frames; return what they changed.

        ``ends``: what the model expects, ``(k, outputs)``, for ``DecoderConfig.ends``.

        Raises:
            ShapeError: not two axes, or not as many pieces as the vocabulary has.
        """

    def flush(self) -> list[Event]:
        """Close the utterance now; the stream goes on."""

    def finish(self) -> list[Event]:
        """Close the utterance: no frames will follow."""

    def state(self) -> dict[str, Any]:
        """All that is needed to go on elsewhere, of JSON's types."""

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            StateError: it is that of another kind of decoder.
        """


def check_shape(log_probs: Floats, vocabulary: Vocabulary) -> None:
    """Raise ShapeError unless ``log_probs`` is ``(k, pieces)``."""
    if log_probs.ndim != 2 or log_probs.shape[1] != len(vocabulary):
        raise ShapeError(f"decoder: wants (k, {len(vocabulary)}), got {tuple(log_probs.shape)}")


class CtcDecoder:
    """Decodes one stream, the best piece a frame; see :class:`Decoder`.

    A word is stable as soon as the next one has begun: greedy decoding never changes a piece that
    it has written, so only the last word can still grow. A word's confidence is the probability of
    its least certain piece: one wrong piece makes the word wrong, so a mean would flatter it.
    """

    def __init__(self, vocabulary: Vocabulary, config: DecoderConfig | None = None) -> None:
        self.config = config or DecoderConfig()
        self._vocabulary = vocabulary
        self._utterances = Utterances(self.config)
        self._frame = 0  # frames taken
        self._heard = 0  # the last frame of speech
        self._previous = BLANK  # of the last frame, for repeats
        self._words: list[Spoken] = []
        self._believed = False  # whether the utterance was announced
        self._changed = False

    def feed(self, log_probs: Floats, ends: Floats | None = None) -> list[Event]:
        check_shape(log_probs, self._vocabulary)
        events: list[Event] = []
        expected = self._utterances.ending.expected(len(log_probs), ends)
        best = log_probs.argmax(1)
        scores = log_probs[np.arange(len(best)), best]
        before = np.concatenate([[self._previous], best[:-1]])
        speech = log_probs[:, BLANK] <= np.log1p(-self.config.threshold + 1e-9)
        for at in np.flatnonzero(speech | (best != BLANK) | expected).tolist():
            frame = self._frame + at
            self._close_if_silent(frame, events)
            if expected[at] and best[at] == BLANK and not speech[at]:
                self._close_if_silent(frame + 1, events, expected=True)
            if speech[at]:
                self._heard = frame
            if best[at] == BLANK:
                continue
            if best[at] != before[at]:
                if speech[at] or self._words:
                    self._write(int(best[at]), frame, float(scores[at]), events)
            elif self._words:
                self._words[-1].last = frame
        self._frame += len(best)
        if len(best):
            self._previous = int(best[-1])
        self._close_if_silent(self._frame, events)
        if self._changed and self._believed:
            events.append(self._utterances.partial(self._words, len(self._words) - 1))
            self._changed = False
        return events

    def flush(self) -> list[Event]:
        return self._close_now("flush")

    def finish(self) -> list[Event]:
        return self._close_now("finish")

    def state(self) -> dict[str, Any]:
        return {
            "frame": self._frame,
            "heard": self._heard,
            "utterance": self._utterances.number,
            "ended": self._utterances.ended,
            "held": self._utterances.ending.held,
            "previous": self._previous,
            "words": [asdict(word) for word in self._words],
            "believed": self._believed,
        }

    def load(self, state: dict[str, Any]) -> None:
        if "previous" not in state:
            raise StateError("decoder: the state is of a stream with a language model")
        self._frame, self._heard = int(state["frame"]), int(state["heard"])
        self._utterances.number = int(state["utterance"])
        self._utterances.ended = int(state["ended"])
        self._utterances.ending.held = int(state.get("held", 0))
        self._previous = int(state["previous"])
        self._words = [Spoken(**word) for word in state["words"]]
        self._believed = bool(state["believed"])
        self._changed = False

    def _write(self, piece: int, frame: int, score: float, events: list[Event]) -> None:
        text = self._vocabulary.pieces[piece]
        begins = not self._words or len(self._words[-1].text) >= LONGEST_WORD
        if begins or text.startswith(WORD_START):
            if self._words and self._utterances.is_long(self._words[0].first, frame):
                self._close("max_length", events)
            self._words.append(Spoken(text.removeprefix(WORD_START), frame, frame, score))
        else:
            word = self._words[-1]
            word.text += text
            word.last = frame
            word.score = min(word.score, score)
        self._changed = True
        if not self._believed and self._utterances.is_believed(self._words[-1:]):
            self._believed = True
            events.append(self._utterances.open(self._words[0].first))

    def _close_if_silent(self, frame: int, events: list[Event], *, expected: bool = False) -> None:
        """Close the utterance if the pause before ``frame`` is long enough."""
        if not self._words:
            return
        last = max(self._heard, self._words[-1].last)
        if self._utterances.is_over(self._words[0].first, last, frame, expected=expected):
            self._close("endpoint", events)

    def _close_now(self, reason: Reason) -> list[Event]:
        events: list[Event] = []
        if self._words:
            self._close(reason, events)
        return events

    def _close(self, reason: Reason, events: list[Event]) -> None:
        if self._believed:
            events += self._utterances.close(self._words, reason)
        self._words = []
        self._believed = self._changed = False
