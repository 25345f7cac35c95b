"""Recordings that whatever ends the process can be gone on with."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import audiomamba
from audiomamba.errors import AudioError, StateError
from audiomamba.models.wave import recording
from audiomamba.models.wave.recording import Recording, output_files, state_file
from audiomamba.models.wave.synthesizer import Synthesizer
from tests.models.wave.tiny import tiny_checkpoint

LENGTH = 5_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Synthesizer:
    return audiomamba.load(str(tiny_checkpoint(tmp_path_factory.mktemp("tiny"))))  # type: ignore[no-any-return]


def begin(model: Synthesizer, out: Path, streams: int = 1) -> Recording:
    return Recording(model.start(labels=["yes"] * streams, seed=4), out, model.sample_rate)


def read(file: Path) -> Any:
    return soundfile.read(file, dtype="int16")[0]


def whole(model: Synthesizer, folder: Path) -> Any:
    out = folder / "whole.wav"
    assert begin(model, out).make(LENGTH)
    return read(out)


def after(blocks: int) -> Any:
    """Says stop when asked for the so-manyth time."""
    left = iter([False] * blocks)
    return lambda: next(left, True)


def test_a_finished_recording_leaves_nothing_else(model: Synthesizer, tmp_path: Path) -> None:
    seconds: list[float] = []
    assert begin(model, tmp_path / "a.wav").make(LENGTH, progress=seconds.append)
    assert [file.name for file in tmp_path.iterdir()] == ["a.wav"]
    assert seconds == [0.25, 0.5, 0.625]
    made = model.start(labels=["yes"], seed=4).next(LENGTH)[0]
    np.testing.assert_allclose(read(tmp_path / "a.wav") / 32768, made, atol=4e-5)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize("streams", [1, 2])
def test_an_interrupted_one_is_whole_and_goes_on_to_the_same_samples(
    model: Synthesizer, tmp_path: Path, suffix: str, streams: int
) -> None:
    want, out = whole(model, tmp_path), tmp_path / f"a{suffix}"
    assert not begin(model, out, streams).make(LENGTH, stopped=after(1))
    files = output_files(out, streams)
    for file in files:
        assert len(read(file)) == 2000
    resumed = Recording.resume(model, out)
    assert resumed.generation.position == 2000
    assert resumed.make(LENGTH)
    np.testing.assert_array_equal(read(files[0]), want)
    assert {file.name for file in tmp_path.iterdir()} == {"whole.wav", *(f.name for f in files)}


def test_a_crash_costs_what_was_made_since_the_last_state(
    model: Synthesizer, tmp_path: Path
) -> None:
    want, out = whole(model, tmp_path), tmp_path / "a.wav"
    crashed = begin(model, out)
    crashed._write(1000)
    crashed._save()
    crashed._write(700)  # and then the machine lost its power
    assert len(read(out)) == 1700
    crashed._open.close()
    assert Recording.resume(model, out).make(LENGTH)
    np.testing.assert_array_equal(read(out), want)


def test_states_are_saved_on_the_way(
    model: Synthesizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "SAVE_EVERY_S", 0.0)
    out, positions = tmp_path / "a.wav", []

    def look(seconds: float) -> None:
        positions.append(model.resume(state_file(out).read_bytes()).position)

    begin(model, out).make(LENGTH, progress=look)
    assert positions == [0, 2000, 4000]


def test_a_full_disk_loses_nothing_that_was_written(
    model: Synthesizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    want, out = whole(model, tmp_path), tmp_path / "a.wav"
    made = begin(model, out)
    write, calls = made._writers[0].write, iter([False, True])

    def full(samples: Any) -> None:
        if next(calls):
            raise OSError(28, "No space left on device")
        write(samples)

    monkeypatch.setattr(made._writers[0], "write", full)
    with pytest.raises(OSError, match="No space left"):
        made.make(LENGTH)
    assert len(read(out)) == 2000
    assert Recording.resume(model, out).make(LENGTH)
    np.testing.assert_array_equal(read(out), want)


def test_what_cannot_be_gone_on_with_is_one_clear_error(model: Synthesizer, tmp_path: Path) -> None:
    out = tmp_path / "a.wav"
    with pytest.raises(StateError, match="no state to go on from"):
        Recording.resume(model, out)
    begin(model, out).make(LENGTH, stopped=after(1))
    state = state_file(out).read_bytes()
    state_file(out).write_bytes(state[:50])
    with pytest.raises(StateError, match=r"a\.wav\.state: state is damaged"):
        Recording.resume(model, out)
    state_file(out).write_bytes(state)
    out.unlink()
    with pytest.raises(AudioError, match="is missing"):
        Recording.resume(model, out)
    with pytest.raises(AudioError, match=r"ends in \.wav or \.flac"):
        output_files(tmp_path / "a.mp3", 1)
