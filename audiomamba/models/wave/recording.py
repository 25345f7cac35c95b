"""Recordings on disk while they are made, and all that is needed to go on with them.

Sound goes to WAV files that are whole at every moment. A state file beside them is replaced every
few seconds, always by one that is no further than the sound: whatever ends the process, the sound
is cut back to the state and goes on to the samples that would have come. FLAC cannot be added to,
so it is made of a WAV at the end, or when the work is interrupted.
"""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import soundfile

from audiomamba.audio.wav_writer import WavWriter
from audiomamba.errors import AudioError, StateError
from audiomamba.models.wave.synthesizer import Generation, Synthesizer

__all__ = ["Recording", "output_files", "saved_generation", "state_file"]

SAVE_EVERY_S = 10.0
BLOCK_S = 0.25
_COPY = 1 << 16  # samples at once from WAV to FLAC


def output_files(out: Path, streams: int) -> list[Path]:
    """``out``, or ``out-1``, ``out-2`` and so on where several recordings are made.

    Raises:
        AudioError: it is neither .wav nor .flac.
    """
    if out.suffix.lower() not in (".wav", ".flac"):
        raise AudioError(f"{out}: wants a name that ends in .wav or .flac")
    if streams == 1:
        return [out]
    return [out.with_stem(f"{out.stem}-{number}") for number in range(1, streams + 1)]


def state_file(out: Path) -> Path:
    """Where the state of the recordings ``out`` lies."""
    return out.with_name(out.name + ".state")


def saved_generation(model: Synthesizer, out: Path) -> Generation:
    """What the recordings ``out`` go on with.

    Raises:
        StateError: there is no state, it is damaged or of another model.
    """
    file = state_file(out)
    if not file.is_file():
        raise StateError(f"{file}: there is no state to go on from")
    try:
        return model.resume(file.read_bytes())
    except StateError as error:
        raise StateError(f"{file}: {error}") from None


class Recording:
    """Writes what a generation makes.

    Args:
        generation: What is made; one that was resumed goes on in the files there are.
        out: As of :func:`output_files`.
        sample_rate: Hz.
        now: A clock in seconds.

    Raises:
        AudioError: the files to go on with are missing or shorter than the state.
    """

    def __init__(
        self,
        generation: Generation,
        out: Path,
        sample_rate: int,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.generation, self.sample_rate = generation, sample_rate
        self.files = output_files(out, generation.streams)
        self._state, self._now, self._saved = state_file(out), now, now()
        self._sounds = [_sound_of(file) for file in self.files]
        resumed = self._state.exists()
        keep = generation.position if resumed else None
        with ExitStack() as opened:
            try:
                self._writers = [
                    opened.enter_context(WavWriter(sound, sample_rate, keep=keep))
                    for sound in self._sounds
                ]
            except FileNotFoundError as error:
                raise AudioError(f"{error.filename}: is missing, its state is there") from None
            if not resumed:
                self._save()
            self._open = opened.pop_all()

    @classmethod
    def resume(cls, model: Synthesizer, out: Path) -> "Recording":
        """Go on with the recordings ``out``.

        Raises:
            StateError: there is no state, it is damaged or of another model.
        """
        return cls(saved_generation(model, out), out, model.sample_rate)

    def make(
        self,
        samples: int,
        *,
        stopped: Callable[[], bool] = lambda: False,
        progress: Callable[[float], None] = lambda seconds: None,
    ) -> bool:
        """Make and write until each recording is ``samples`` long; whether they are.

        Args:
            samples: Of each recording, those there are already included.
            stopped: Asked before each quarter of a second of sound; true ends the work, saved.
            progress: Told the seconds there are.

        Raises:
            OSError: the disk is full, for example; what was written is whole, and the last state
                is that of a moment before.
        """
        block = max(1, round(BLOCK_S * self.sample_rate))
        try:
            while self.generation.position < samples and not stopped():
                self._write(min(block, samples - self.generation.position))
                progress(self.generation.position / self.sample_rate)
                if self._now() - self._saved >= SAVE_EVERY_S:
                    self._save()
            done = self.generation.position >= samples
            if not done or self._sounds != self.files:  # FLAC may still fail
                self._save()
        finally:
            self._open.close()
        for sound, file in zip(self._sounds, self.files, strict=True):
            if sound != file:
                _to_flac(sound, file)
                if done:
                    sound.unlink()
        if done:
            self._state.unlink(missing_ok=True)
        return done

    def _write(self, samples: int) -> None:
        made = self.generation.next(samples)
        for writer, sound in zip(self._writers, made, strict=True):
            writer.write(sound)

    def _save(self) -> None:
        """Replace the state; sound that it counts is in the files already."""
        fresh = self._state.with_name(self._state.name + ".new")
        try:
            fresh.write_bytes(self.generation.save())
            os.replace(fresh, self._state)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        self._saved = self._now()


def _sound_of(file: Path) -> Path:
    """The WAV that sound is added to."""
    if file.suffix.lower() == ".wav":
        return file
    return file.with_name(file.name + ".part.wav")


def _to_flac(sound: Path, file: Path) -> None:
    fresh = file.with_name(file.name + ".new")
    try:
        with (
            soundfile.SoundFile(sound) as source,
            soundfile.SoundFile(
                fresh, "w", source.samplerate, 1, format="FLAC", subtype="PCM_16"
            ) as target,
        ):
            while len(block := source.read(_COPY, dtype="int16")):
                target.write(np.ascontiguousarray(block))
        os.replace(fresh, file)
    except soundfile.LibsndfileError as error:
        raise AudioError(
            f"{file}: cannot be written ({error.error_string.rstrip('.')}); "
            f"the sound is in {sound}, --resume tries again"
        ) from None
    finally:
        fresh.unlink(missing_ok=True)
