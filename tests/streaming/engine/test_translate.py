from audiomamba.streaming.engine.translate import translate
from audiomamba.streaming.protocol import events
from audiomamba.text.events import Final, Partial, SpeechEnd, SpeechStart, Word

WORDS = (Word("hello", 0.5, 1.0, 0.9), Word("wor", 1.0, 1.2, 0.5))


def test_times_are_moved_by_what_was_not_heard() -> None:
    final = translate(Final(3, 0.5, 1.2, "hello wor", 0.7, WORDS, "flush"), 10.0)
    assert isinstance(final, events.Final)
    assert (final.start, final.end, final.utterance, final.reason) == (10.5, 11.2, 3, "flush")
    assert [(word.start, word.end) for word in final.words] == [(10.5, 11.0), (11.0, 11.2)]
    assert translate(SpeechStart(1.0), 2.0) == events.SpeechStart(3.0)
    assert translate(SpeechEnd(1.0), 2.0) == events.SpeechEnd(3.0)


def test_only_the_words_of_the_stable_part_are_stable() -> None:
    partial = translate(Partial(0, 0.5, 1.2, "hello ", "wor", WORDS), 0.0)
    assert isinstance(partial, events.Partial)
    assert [word.stable for word in partial.words] == [True, False]
