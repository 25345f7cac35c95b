"""The corpus on disk."""

from pathlib import Path

import numpy as np
import pytest

from audiomamba.errors import AudioError
from audiomamba.training.corpus import Corpus, CorpusWriter


def tone(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-(2**15), 2**15, count).astype(np.int16)


def write_three(folder: Path) -> None:
    with CorpusWriter(folder) as writer:
        writer.append(tone(800, 1), "one", source="kokoro", phone_ids=[0, 7], phone_frames=[1, 1])
        writer.append(tone(0, 2), "", source="noise")
        writer.append(tone(401, 3), "it's three", source="kokoro", speaker="ann")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_three(tmp_path)
    corpus = Corpus(tmp_path)
    assert len(corpus) == 3
    assert corpus.seconds == 1201 / 16_000
    first, second, third = corpus
    np.testing.assert_array_equal(first.audio, tone(800, 1))
    np.testing.assert_array_equal(third.audio, tone(401, 3))
    assert [u.text for u in corpus] == ["one", "", "it's three"]
    assert (first.phone_ids.tolist(), first.phone_frames.tolist()) == ([0, 7], [1, 1])
    assert (first.source, first.speaker) == ("kokoro", None)
    assert (second.source, len(second.audio)) == ("noise", 0)
    assert (third.speaker, len(third.phone_ids)) == ("ann", 0)


def test_a_second_writer_appends(tmp_path: Path) -> None:
    write_three(tmp_path)
    with CorpusWriter(tmp_path) as writer:
        assert len(writer) == 3
        writer.append(tone(10, 4), "four", source="fresh", speaker="ann")
    corpus = Corpus(tmp_path)
    assert len(corpus) == 4
    assert corpus.source_names == ["kokoro", "noise", "fresh"]
    assert corpus[3].speaker == "ann"
    np.testing.assert_array_equal(corpus.audio(0), tone(800, 1))


@pytest.mark.parametrize("name", ["audio.i16", "text.utf8", "phone_frames.u16", "index.rows"])
def test_a_crash_loses_only_what_was_not_flushed(tmp_path: Path, name: str) -> None:
    write_three(tmp_path)
    with CorpusWriter(tmp_path) as writer:
        writer.append(tone(9, 5), "lost", source="kokoro", phone_ids=[5], phone_frames=[1])
    with (tmp_path / name).open("r+b") as file:
        file.truncate((tmp_path / name).stat().st_size - 1)
    assert len(Corpus(tmp_path)) == 3
    with CorpusWriter(tmp_path) as writer:
        writer.append(tone(11, 6), "after", source="kokoro", phone_ids=[6], phone_frames=[2])
    after = Corpus(tmp_path)[3]
    assert (after.text, after.phone_ids.tolist()) == ("after", [6])
    np.testing.assert_array_equal(after.audio, tone(11, 6))


def test_a_corpus_being_written_is_read_up_to_the_last_flush(tmp_path: Path) -> None:
    writer = CorpusWriter(tmp_path)
    writer.append(tone(5, 1), "seen", source="kokoro")
    writer.flush()
    writer.append(tone(5, 2), "unseen", source="late")
    assert [u.text for u in Corpus(tmp_path)] == ["seen"]
    writer.close()
    assert len(Corpus(tmp_path)) == 2


def test_an_empty_corpus_has_no_utterances(tmp_path: Path) -> None:
    CorpusWriter(tmp_path).close()
    assert len(Corpus(tmp_path)) == 0
    with pytest.raises(IndexError):
        Corpus(tmp_path)[0]


def test_wrong_input_is_refused(tmp_path: Path) -> None:
    with CorpusWriter(tmp_path) as writer:
        with pytest.raises(AudioError, match="int16"):
            writer.append(np.zeros(4, np.float32), "x", source="kokoro")
        with pytest.raises(AudioError, match="lengths"):
            writer.append(tone(4, 1), "x", source="kokoro", phone_ids=[1])
    with pytest.raises(AudioError, match=r"meta\.json"):
        Corpus(tmp_path / "nothing")
