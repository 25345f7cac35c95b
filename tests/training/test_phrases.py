"""Recordings cut between words."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audiomamba.training import phrases
from audiomamba.training.corpus import FRAME_SAMPLES, Corpus, CorpusWriter, Utterance
from audiomamba.training.speech.alignment import Alignment

RATE = 16_000


def words_of(spans: list[tuple[float, float]]) -> np.ndarray:
    return np.array(spans).reshape(-1, 2)


def test_a_pause_is_cut_in_its_middle_and_sound_where_it_is_quietest() -> None:
    samples = np.full(RATE, 1000, np.int16)
    samples[round(0.62 * RATE) : round(0.63 * RATE)] = 10
    cuts = phrases.cut_points(samples, words_of([(0.1, 0.3), (0.4, 0.61), (0.61, 0.9)]))
    assert cuts[0] == round(0.35 * RATE)
    assert 0.62 * RATE <= cuts[1] <= 0.63 * RATE


def test_pieces_cover_all_words_in_their_order() -> None:
    random = np.random.default_rng(0)
    for count in range(1, 30):
        spans = phrases.pieces(count, random)
        assert [n for first, last in spans for n in range(first, last)] == list(range(count))
        assert all(1 <= last - first <= phrases.MOST_WORDS for first, last in spans)


def test_phrases_are_the_recording_again(tmp_path: Path) -> None:
    sound = np.random.default_rng(1).integers(-2000, 2000, 40_000).astype(np.int16)
    none: Any = np.zeros(0, np.uint8)
    utterance = Utterance(sound, "a b c d", none, none, "somewhere", "somebody")
    alignment = Alignment(
        np.array([0, 61, 62, 63, 64, 0], np.uint8),
        np.array([0.0, 0.2, 0.7, 1.1, 1.7, 2.3]),
        words_of([(0.2, 0.7), (0.7, 1.1), (1.1, 1.7), (1.7, 2.3)]),
        -0.1,
    )
    with CorpusWriter(tmp_path) as writer:
        phrases.write(writer, utterance, alignment, cuts=2, random=np.random.default_rng(0))
    corpus = Corpus(tmp_path)
    whole, rest = corpus[0], [corpus[i] for i in range(1, len(corpus))]
    np.testing.assert_array_equal(whole.audio, sound)
    assert whole.phone_ids.tolist() == [0, 61, 62, 63, 64, 0]
    assert sum(len(u.audio) for u in rest) == 2 * len(sound)
    assert " ".join(u.text for u in rest) == "a b c d a b c d"
    for u in (whole, *rest):
        assert int(u.phone_frames.sum()) == -(-len(u.audio) // FRAME_SAMPLES)
        assert (u.source, u.speaker) == ("somewhere", "somebody")
    inner = rest[0].audio
    np.testing.assert_array_equal(inner[:-64], sound[: len(inner) - 64])
    assert abs(int(inner[-1])) <= 1 or len(inner) == len(sound)


def test_the_command_keeps_what_it_cannot_align(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with CorpusWriter(tmp_path / "in") as writer:
        for text, longer in (("one two", 50), ("three", 0), ("four five", 25)):
            writer.append(np.full(16_000 + longer, 500, np.int16), text, source="s")

    class Fake:
        def __init__(self, *_: Any) -> None: ...

        def align_all(self, recordings: list[Any]) -> list[Alignment | None]:
            return [self.align(words) for _, words in recordings]

        def align(self, words: list[str]) -> Alignment | None:
            if words == ["three"]:
                return None
            score = -9.0 if words[0] == "four" else -0.5
            phones, starts = np.array([61, 62], np.uint8), np.array([0.0, 0.5])
            return Alignment(phones, starts, words_of([(0.0, 0.5), (0.5, 1.0)]), score)

    monkeypatch.setattr(phrases, "Aligner", Fake)
    monkeypatch.setattr(phrases, "Phonemiser", Fake)
    monkeypatch.setattr(phrases, "load_transcriber", lambda *_, **__: None)
    (tmp_path / "vocab.json").write_text(json.dumps({"vocab": {}}))
    phrases.main([str(tmp_path / "in"), str(tmp_path / "vocab.json"), str(tmp_path / "out")])
    texts = [u.text for u in Corpus(tmp_path / "out")]
    assert "1 of 3 recordings aligned" in capsys.readouterr().out
    assert texts[0] == "one two"
    assert texts[-2:] == ["three", "four five"]
    assert " ".join(texts[1:-2]) == "one two one two one two"
