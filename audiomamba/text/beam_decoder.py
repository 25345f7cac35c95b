"""Decoding with a language model: a beam of hypotheses, read out as a growing text.

What all hypotheses share up to a word's end is stable. The rest may still change, but not for long:
after :data:`UNDECIDED_S` the best hypothesis decides, so that text, memory and state stay bounded.
"""

from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import StateError
from audiomamba.text.beam import BeamConfig, Heard, PieceLanguage
from audiomamba.text.ctc import check_shape
from audiomamba.text.events import Event, Reason, SpeechEnd
from audiomamba.text.native_beam import make_search
from audiomamba.text.ngram import NgramModel
from audiomamba.text.utterances import LONGEST_WORD, DecoderConfig, Spoken, Utterances, texts
from audiomamba.text.vocabulary import BLANK, WORD_START, Vocabulary

__all__ = ["BeamDecoder"]

UNDECIDED_S = 3.0
"""A word that began so long ago is decided, whatever the other hypotheses say."""
_CHECK = 5  # frames from one look at old words to the next


class BeamDecoder:
    """Decodes one stream with a language model; see :class:`~audiomamba.text.ctc.Decoder`.

    Args:
        vocabulary: Of the transcriber.
        config: Times, endpoints.
        model: Language model over the same pieces.
        beam: Width of the search and weight of the language model.
        language: A neural one beside it.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        config: DecoderConfig,
        model: NgramModel,
        beam: BeamConfig,
        language: PieceLanguage | None = None,
    ) -> None:
        self.config = config
        self._vocabulary = vocabulary
        self._models = [model.fingerprint] + ([language.fingerprint] if language else [])
        starts = [float(piece.startswith(WORD_START)) for piece in vocabulary.pieces]
        self._search = make_search(model, np.array(starts), beam, language)
        self._blank = float(np.log(beam.blank))
        self._utterances = Utterances(config)
        self._undecided = round(UNDECIDED_S / config.frame_s)
        self._frame = 0  # frames taken
        self._heard = -1  # the last frame of speech
        self._stepped = -1  # the last frame that the search took
        self._checked = 0  # the last frame where old words were looked at
        self._fixed: list[Spoken] = []  # words of the utterance that will not change
        self._believed = False  # whether a word of the utterance was sure enough
        self._opened = False  # whether the utterance was announced
        self._shown = ("", "")

    def feed(
        self, log_probs: NDArray[np.float32], ends: NDArray[np.float32] | None = None
    ) -> list[Event]:
        check_shape(log_probs, self._vocabulary)
        events: list[Event] = []
        expected = self._utterances.ending.expected(len(log_probs), ends)
        blank = log_probs[:, BLANK]
        speech = blank <= np.log1p(-self.config.threshold + 1e-9)
        heard = (blank < self._blank) | speech
        for at in np.flatnonzero(heard | expected).tolist():
            frame = self._frame + at
            self._close_if_silent(frame, events)
            if expected[at] and not speech[at]:
                self._close_if_silent(frame + 1, events, expected=True)
            if not heard[at]:
                continue
            if speech[at]:
                self._heard = frame
            elif self._search.empty and not self._fixed:
                continue  # nothing was said yet, and this is not speech
            if frame != self._stepped + 1:
                self._search.rest()
            self._search.step(log_probs[at].astype(np.float64), frame)
            self._stepped = frame
            if frame >= self._checked + (_CHECK if self._believed else 1):
                self._decide(frame, events)
                self._checked = frame
        self._frame += len(log_probs)
        self._close_if_silent(self._frame, events)
        self._show(events)
        return events

    def flush(self) -> list[Event]:
        return self._close_now("flush")

    def finish(self) -> list[Event]:
        return self._close_now("finish")

    def state(self) -> dict[str, Any]:
        return {
            "models": self._models,
            "beam": self._search.state(),
            "frame": self._frame,
            "heard": self._heard,
            "stepped": self._stepped,
            "checked": self._checked,
            "utterance": self._utterances.number,
            "ended": self._utterances.ended,
            "held": self._utterances.ending.held,
            "words": [asdict(word) for word in self._fixed],
            "believed": self._believed,
            "opened": self._opened,
            "shown": list(self._shown),
        }

    def load(self, state: dict[str, Any]) -> None:
        if state.get("models") != self._models:
            raise StateError("decoder: the state is of a stream with other language models")
        self._search.load(state["beam"])
        self._frame, self._heard = int(state["frame"]), int(state["heard"])
        self._stepped, self._checked = int(state["stepped"]), int(state["checked"])
        self._utterances.number = int(state["utterance"])
        self._utterances.ended = int(state["ended"])
        self._utterances.ending.held = int(state.get("held", 0))
        self._fixed = [Spoken(**word) for word in state["words"]]
        self._believed, self._opened = bool(state["believed"]), bool(state["opened"])
        self._shown = (str(state["shown"][0]), str(state["shown"][1]))

    def _words(self) -> list[tuple[Spoken, Heard]]:
        """Words of the best hypothesis that are not fixed, and the first piece of each."""
        words: list[tuple[Spoken, Heard]] = []
        for node in self._search.path():
            text = self._vocabulary.pieces[node.piece]
            long = bool(words) and len(words[-1][0].text) >= LONGEST_WORD
            if not words or long or text.startswith(WORD_START):
                spoken = Spoken(text.removeprefix(WORD_START), node.first, node.last, node.score)
                words.append((spoken, node))
            else:
                word = words[-1][0]
                word.text += text
                word.last, word.score = node.last, min(word.score, node.score)
        # A piece that became clear late may come after the next one that was guessed early.
        for (word, _), (after, _) in reversed(list(pairwise(words))):
            word.first = min(word.first, after.first)
        return words

    def _fix(self, words: list[tuple[Spoken, Heard]], count: int) -> None:
        """Make the first ``count`` words final; every hypothesis has gone on to the next one."""
        if count:
            self._fixed += [word for word, _ in words[:count]]
            self._search.settle(words[count][1].depth - 1)

    def _decide(self, frame: int, events: list[Event]) -> None:
        """Let the best hypothesis decide about old words, and end an utterance that is too long."""
        words = self._words()
        self._believe([word for word, _ in words])
        first = self._fixed[0].first if self._fixed else words[0][0].first if words else frame
        long = self._utterances.is_long(first, frame)
        old = [i for i, (word, _) in enumerate(words) if word.first < frame - self._undecided]
        upto = len(words) - 1 if long else old[-1] if old else 0
        if upto > 0:
            self._search.keep_only(words[upto][1].depth)
            self._fix(words, upto)
        if long and self._fixed:
            self._close(self._fixed, "max_length", events)
        elif long:
            self._close([word for word, _ in words], "max_length", events)
            self._search.restart()

    def _close_if_silent(self, frame: int, events: list[Event], *, expected: bool = False) -> None:
        """Close the utterance if the pause before ``frame`` is long enough."""
        if self._search.empty and not self._fixed:
            return
        shortest = self._utterances.shortest_pause(expected=expected)
        if frame - self._heard - 1 < shortest:
            return  # whatever the search says
        last = max(self._heard, self._search.last_heard)
        if frame - last - 1 < shortest:
            return
        words = [*self._fixed, *(word for word, _ in self._words())]
        if words and self._utterances.is_over(words[0].first, last, frame, expected=expected):
            self._close(words, "endpoint", events)
            self._search.restart()
        elif not words and not self._search.empty:
            self._forget(events)
            self._search.restart()

    def _believe(self, words: list[Spoken]) -> None:
        self._believed = self._believed or self._utterances.is_believed(words)

    def _forget(self, events: list[Event]) -> None:
        """It was nothing."""
        if self._opened:
            events.append(SpeechEnd(self._utterances.time(self._heard + 1)))
            self._utterances.number += 1
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._fixed = []
        self._believed = self._opened = False
        self._shown = ("", "")

    def _close_now(self, reason: Reason) -> list[Event]:
        events: list[Event] = []
        words = [*self._fixed, *(word for word, _ in self._words())]
        if words:
            self._close(words, reason, events)
            self._search.restart()
        elif not self._search.empty:
            self._forget(events)
            self._search.restart()
        return events

    def _close(self, words: list[Spoken], reason: Reason, events: list[Event]) -> None:
        self._believe(words)
        if not self._believed:
            self._forget(events)
            return
        if not self._opened:
            events.append(self._utterances.open(words[0].first))
        events += self._utterances.close(words, reason)
        self._begin_anew()

    def _show(self, events: list[Event]) -> None:
        """Fix what all hypotheses share, and tell what changed."""
        if self._search.empty:
            return
        words = self._words()
        shared = self._search.shared
        begun = [i for i, (_, first) in enumerate(words) if first.depth <= shared]
        self._fix(words, begun[-1] if begun else 0)
        words = words[begun[-1] if begun else 0 :]
        every = [*self._fixed, *(word for word, _ in words)]
        if not self._believed or not (every or self._opened):
            return
        shown = texts(every, len(self._fixed))
        if shown == self._shown:
            return
        if not self._opened:
            events.append(self._utterances.open(every[0].first))
            self._opened = True
        self._shown = shown
        events.append(self._utterances.partial(every, len(self._fixed)))
