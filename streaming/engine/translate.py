"""The decoder's events as those of a session: on the stream's own time."""

from audiomamba.streaming.protocol import events
from audiomamba.text.events import Event as Heard
from audiomamba.text.events import Final, Partial, SpeechEnd, SpeechStart, Word

__all__ = ["Heard", "translate"]


def translate(heard: Heard, offset_s: float) -> events.Event:
    """``heard`` with ``offset_s`` added to its times: seconds that passed without being heard."""
    match heard:
        case Partial():
            # The words of a partial are those of its stable part first.
            stable = len(heard.stable.split())
            return events.Partial(
                heard.utterance,
                heard.start + offset_s,
                heard.end + offset_s,
                heard.stable,
                heard.unstable,
                tuple(_word(w, offset_s, i < stable) for i, w in enumerate(heard.words)),
            )
        case Final():
            return events.Final(
                heard.utterance,
                heard.start + offset_s,
                heard.end + offset_s,
                heard.text,
                heard.confidence,
                tuple(_word(w, offset_s, True) for w in heard.words),
                heard.reason,
            )
        case SpeechStart():
            return events.SpeechStart(heard.at + offset_s)
        case SpeechEnd():
            return events.SpeechEnd(heard.at + offset_s)


def _word(word: Word, offset_s: float, stable: bool) -> events.Word:
    return events.Word(
        word.word, word.start + offset_s, word.end + offset_s, word.confidence, stable
    )
