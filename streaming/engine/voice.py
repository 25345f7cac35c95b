"""A waveform model that is offered: described at once, loaded when somebody first wants it.

A server that transcribes all day and is never asked for a recording pays no memory for one.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiomamba.config import from_mapping
from audiomamba.errors import ConfigError, ModelError
from audiomamba.models.checkpoint_files import read_config
from audiomamba.models.registry import available, find
from audiomamba.models.wave.config import WaveConfig
from audiomamba.models.wave.sampling import Sampling

if TYPE_CHECKING:
    from audiomamba.streaming.engine.sounds import SoundEngine

__all__ = ["Voice", "installed", "open_voice"]

log = logging.getLogger(__name__)


class Voice:
    """One of the models that a client can have sound made by.

    Args:
        name: Of the checkpoint.
        config: Shape of the model; its labels and speakers are what can be asked for.
        sampling: How it draws where a client says nothing.
        load: Makes the engine, not started; called on a thread of its own.
    """

    def __init__(
        self,
        name: str,
        config: WaveConfig,
        sampling: Sampling,
        load: "Callable[[], SoundEngine]",
    ) -> None:
        self.name = name
        self.config = config
        self.sampling = sampling
        self._load = load
        self._lock = threading.Lock()
        self._engine: Future[SoundEngine] | None = None

    def wanted(self) -> "Future[SoundEngine]":
        """The running engine, once it is loaded. Loading that failed is tried again."""
        with self._lock:
            if self._engine is None or (self._engine.done() and self._engine.exception()):
                self._engine = Future()
                threading.Thread(
                    target=self._run, args=(self._engine,), name="audiomamba-load", daemon=True
                ).start()
            return self._engine

    @property
    def loaded(self) -> bool:
        """Whether a recording could begin without a wait."""
        engine = self._engine
        return engine is not None and engine.done() and not engine.exception()

    def stop(self) -> None:
        """End the engine, if there is one; what it makes ends without a word."""
        if self._engine is not None and self._engine.exception() is None:  # waits for the loading
            self._engine.result().stop()

    def description(self) -> dict[str, Any]:
        """What ``ready.generator`` and ``/v1/models`` say of it."""
        return {
            "name": self.name,
            "sample_rate": self.config.sample_rate,
            "labels": list(self.config.labels),
            "speakers": list(self.config.speakers),
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
        }

    def _run(self, engine: "Future[SoundEngine]") -> None:
        try:
            loaded = self._load()
            loaded.start()
        except Exception as error:
            engine.set_exception(error)
        else:
            log.info("voice: %s is loaded", self.name)
            engine.set_result(loaded)


def open_voice(model: str | Path, *, device: str = "cpu", recordings: int = 16) -> Voice:
    """A checkpoint as a voice; of its files the configuration alone is read now.

    Args:
        model: Name or folder.
        device: torch's name of where it will run.
        recordings: Made at once.

    Raises:
        ModelError: there is no such model, or it makes no sound.
    """
    folder = find(model)
    stored = read_config(folder)
    if stored.get("kind") != "wave":
        kind = stored.get("kind")
        raise ModelError(f"engine.voice: {folder} wants a waveform model, got kind {kind!r}")

    def load() -> "SoundEngine":
        from audiomamba.models.wave.synthesizer import Synthesizer
        from audiomamba.streaming.engine.sounds import SoundEngine

        return SoundEngine(Synthesizer.from_folder(folder, device=device), most=recordings)

    return Voice(
        folder.name,
        from_mapping(WaveConfig, stored["model"]),
        from_mapping(Sampling, stored.get("sampling", {})),
        load,
    )


def installed(*, device: str = "cpu", recordings: int = 16) -> list[Voice]:
    """All waveform models that ship, by name; one that cannot be read is left out, and said."""
    voices = []
    for info in available():
        if info.kind != "wave":
            continue
        try:
            voices.append(open_voice(info.folder, device=device, recordings=recordings))
        except (ModelError, ConfigError) as error:
            log.warning("voice: %s is not offered: %s", info.name, error)
    return voices
