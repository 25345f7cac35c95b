"""Recordings for many clients on one waveform model: a block of each at a turn, in batches."""

import logging
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

from audiomamba.errors import ConfigError, Overloaded, ProtocolError
from audiomamba.models.wave.synthesizer import Generation, Synthesizer
from audiomamba.streaming.engine.sound import Sound
from audiomamba.streaming.protocol.settings import GenerationSettings

__all__ = ["SoundEngine"]

log = logging.getLogger(__name__)

BLOCK_S = 0.04
RETRY_AFTER_S = 2.0


class SoundEngine:
    """One model, one thread, many recordings.

    Args:
        synthesizer: Touched by the engine's thread alone, once it runs.
        most: Recordings at once.
    """

    def __init__(self, synthesizer: Synthesizer, *, most: int) -> None:
        self.synthesizer = synthesizer
        self._most = most
        period = synthesizer.config.period
        # Whole periods, so that all recordings are in step and can share a batch.
        self._block = max(1, round(BLOCK_S * synthesizer.sample_rate / period)) * period
        self._sounds: list[Sound] = []
        self._wanted = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="audiomamba-sounds", daemon=True)
        self.on_made: Callable[[float, float], None] | None = None
        """For metrics: seconds of sound made, seconds it took; on the engine's thread."""

    @property
    def live(self) -> int:
        """Recordings that are being made."""
        return len(self._sounds)

    def start(self) -> None:
        """Take turns from now on; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what is being made ends without a word."""
        with self._wanted:
            self._stopping = True
            self._wanted.notify()
        if self._thread.is_alive():
            self._thread.join()

    def open(
        self, settings: GenerationSettings, *, index: int, notify: Callable[[], None]
    ) -> Sound:
        """Begin a recording.

        Raises:
            ProtocolError: the model does not know the label or the voice.
            AudioError: it cannot be sent at that sample rate.
            Overloaded: too many are made at once.
        """
        seed = secrets.randbits(32) if settings.seed is None else settings.seed
        given: dict[str, Any] = {
            "temperature": settings.temperature,
            "top_p": settings.top_p,
        }
        try:
            generation = self.synthesizer.start(
                labels=[settings.label],
                speakers=[settings.voice],
                seed=seed,
                **{name: value for name, value in given.items() if value is not None},
            )
        except ConfigError as error:
            raise ProtocolError(f"generate: {error}", code="bad_value") from None
        sound = Sound(
            settings,
            index=index,
            seed=seed,
            generation=generation,
            model_rate=self.synthesizer.sample_rate,
            now=time.monotonic(),
            notify=notify,
        )
        with self._wanted:
            if self._stopping or len(self._sounds) >= self._most:
                message = f"all {self._most} recordings that are made at once are taken"
                raise Overloaded(message, retry_after_s=RETRY_AFTER_S)
            self._sounds.append(sound)
            self._wanted.notify()
        return sound

    def wake(self) -> None:
        """Look again: something was taken, allowed or cancelled."""
        with self._wanted:
            self._wanted.notify()

    def _run(self) -> None:
        while (ready := self._wait()) is not None:
            for batch in _batches(ready, self._block):
                self._make(batch)

    def _wait(self) -> list[Sound] | None:
        """Sounds to make a block of; None when the engine stops."""
        with self._wanted:
            while not self._stopping:
                for sound in [sound for sound in self._sounds if sound.cancelled]:
                    sound.end("cancelled")
                self._sounds = [sound for sound in self._sounds if not sound.over]
                now = time.monotonic()
                due = [(sound.due(self._block, now), sound) for sound in self._sounds]
                ready = [sound for wait, sound in due if wait <= 0]
                if ready:
                    return ready
                soonest = min((wait for wait, _ in due), default=float("inf"))
                self._wanted.wait(None if soonest == float("inf") else soonest)
        return None

    def _make(self, batch: list[Sound]) -> None:
        samples = min(self._block, batch[0].left)
        began = time.perf_counter()
        try:
            made = Generation.together([sound.generation for sound in batch], samples)
            for sound, block in zip(batch, made, strict=True):
                sound.accept(block[0])
        except Exception:
            ref = secrets.token_hex(4)
            log.exception("sounds: %d recordings failed, reference %s", len(batch), ref)
            for sound in batch:
                sound.end("error")
            return
        if self.on_made is not None:
            seconds = len(batch) * samples / self.synthesizer.sample_rate
            self.on_made(seconds, time.perf_counter() - began)


def _batches(ready: list[Sound], block: int) -> list[list[Sound]]:
    """Those that can be made together: of the same sampling, phase and number of samples."""
    groups: dict[object, list[Sound]] = {}
    for sound in ready:
        made = sound.generation
        groups.setdefault((made.sampling, made.phase, min(block, sound.left)), []).append(sound)
    return list(groups.values())
