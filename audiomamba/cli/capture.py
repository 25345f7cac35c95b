"""Where live audio comes from: a microphone, or a file played at a pace."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import AudioError, BackendError, ConfigError

__all__ = ["Source", "microphone", "recording"]

BLOCK_S = 0.05
WAITING_S = 10.0  # of microphone audio kept while nobody takes it
Block = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Source:
    """Audio as it comes: blocks ``(n, channels)`` float32 in -1..1 at ``sample_rate`` Hz."""

    name: str
    sample_rate: int
    channels: int
    blocks: AsyncIterator[Block]


def recording(path: Path, pace: float, stop: asyncio.Event) -> Source:
    """A file, given out at ``pace`` times real time (0: at once).

    Raises:
        AudioError: the file cannot be read as audio.
        ConfigError: the pace is negative.
    """
    from audiomamba.audio import files

    if pace < 0:
        raise ConfigError(f"--pace: wanted 0 or more, got {pace:g}")
    blocks = files.stream(path, BLOCK_S)
    first = next(blocks, None)
    if first is None:
        raise AudioError(f"{path}: holds no samples")
    rate, block = first

    async def played() -> AsyncIterator[Block]:
        clock = asyncio.get_running_loop().time
        started, samples, now = clock(), 0, block
        while not stop.is_set():
            samples += len(now)
            if pace:
                await _until(stop, started + samples / rate / pace)
            yield now.reshape(len(now), -1)
            if (following := next(blocks, None)) is None:
                return
            now = following[1]

    return Source(path.name, rate, block.shape[1] if block.ndim == 2 else 1, played())


def microphone(device: str | None, stop: asyncio.Event) -> Source:
    """The default microphone, or the one whose name contains ``device`` (or has that number).

    Raises:
        BackendError: sounddevice or PortAudio is not installed.
        AudioError: there is no such microphone, or it cannot be opened.
    """
    sounddevice = _sounddevice()
    try:
        asked = int(device) if device and device.isdigit() else device
        info = sounddevice.query_devices(asked, kind="input")
    except (ValueError, sounddevice.PortAudioError) as error:
        wanted = f"--device {device}" if device else "microphone"
        raise AudioError(f"{wanted}: {error}; found: {_names(sounddevice)}") from None
    rate = int(info["default_samplerate"])
    rate = rate if 8000 <= rate <= 48_000 else 48_000

    async def heard() -> AsyncIterator[Block]:
        loop = asyncio.get_running_loop()
        waiting: asyncio.Queue[Block] = asyncio.Queue(int(WAITING_S / BLOCK_S))

        def keep(block: Block) -> None:
            if waiting.full():
                waiting.get_nowait()  # the newest audio matters more than the oldest
            waiting.put_nowait(block)

        def callback(block: Block, *_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended before the device
                loop.call_soon_threadsafe(keep, block.copy())

        try:
            device_stream = sounddevice.InputStream(
                samplerate=rate, device=asked, channels=1, dtype="float32",
                blocksize=round(rate * BLOCK_S), callback=callback,
            )  # fmt: skip
        except sounddevice.PortAudioError as error:
            raise AudioError(f"microphone {info['name']}: {error}") from None
        with device_stream:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    yield await asyncio.wait_for(waiting.get(), 0.2)

    return Source(info["name"], rate, 1, heard())


async def _until(stop: asyncio.Event, when: float) -> None:
    """Sleep until the loop's clock shows ``when``, or until stopped."""
    left = when - asyncio.get_running_loop().time()
    if left > 0:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), left)


def _sounddevice() -> Any:
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: the package is there, PortAudio is not
        raise BackendError(
            f"microphone: {error}; install it with: pip install 'audiomamba[mic]' "
            "(Linux also: apt install libportaudio2), or give --file"
        ) from None
    return sounddevice


def _names(sounddevice: Any) -> str:
    names = [d["name"] for d in sounddevice.query_devices() if d["max_input_channels"] > 0]
    return ", ".join(names) or "no microphone at all"
