"""Sounds without speech, and the words that are heard in them."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

import audiomamba as am
from audiomamba.errors import AudioError
from audiomamba.training.nonspeech import BLOCK_S, KINDS, RATE, main, recorded, words_heard

SPOKEN = Path(__file__).parent.parent / "recordings" / "zero_one_five.flac"


@pytest.mark.parametrize("kind", KINDS)
def test_made_sounds_are_sound_and_the_same_every_time(kind: str) -> None:
    one, again = (KINDS[kind](np.random.default_rng(3)) for _ in range(2))
    assert one.dtype == np.float32 and len(one) == round(BLOCK_S * RATE)
    assert 0 < np.abs(one).max() <= 1 and np.isfinite(one).all()
    np.testing.assert_array_equal(one, again)


def test_words_are_counted_with_their_time() -> None:
    samples, _ = soundfile.read(SPOKEN, dtype="float32")
    words, seconds = words_heard(am.load("listen-en"), iter([samples]))
    assert words == ["zero", "one", "five"] and seconds == pytest.approx(3.0, abs=0.01)


def test_the_command_counts_each_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [{"path": "noise-a.flac", "kind": "noise"}, {"path": "music-b.flac", "kind": "music"}]
    with tarfile.open(tmp_path / "noise.tar", "w") as tar:
        for record in records:
            soundfile.write(tmp_path / record["path"], np.zeros(8_000, np.float32), RATE)
            tar.add(tmp_path / record["path"], record["path"])
    manifest = tmp_path / "noise.jsonl"
    manifest.write_text("\n".join(json.dumps(record) for record in records) + "\n")
    assert len(recorded(manifest, "noise", ["-a"])) == 1
    with pytest.raises(AudioError, match="has no noise"):
        recorded(manifest, "noise", ["-z"])
    main(["--minutes", "0.09", "--recordings", str(manifest)])
    rows = capsys.readouterr().out.splitlines()
    assert [row.split("|")[1].strip() for row in rows[2:]] == [
        *KINDS, "recorded noise", "recorded music",
    ]  # fmt: skip
    assert rows[2].startswith("| silence | 0.0 |")
