import asyncio
import sys
import time
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
import pytest
import soundfile

from audiomamba.cli import capture
from audiomamba.errors import AudioError, BackendError, ConfigError

RATE = 22_050


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "talk.wav"
    soundfile.write(path, rng.uniform(-0.5, 0.5, (RATE // 2, 2)).astype(np.float32), RATE, "FLOAT")
    return path


async def collect(source: capture.Source) -> np.ndarray[Any, Any]:
    return np.concatenate([block async for block in source.blocks])


def test_a_recording_is_given_out_whole_with_all_channels(talk: Path) -> None:
    source = capture.recording(talk, 0.0, asyncio.Event())
    assert (source.sample_rate, source.channels, source.name) == (RATE, 2, "talk.wav")
    np.testing.assert_array_equal(asyncio.run(collect(source)), soundfile.read(talk)[0])


def test_a_recording_keeps_its_pace(talk: Path) -> None:
    started = time.perf_counter()
    asyncio.run(collect(capture.recording(talk, 2.0, asyncio.Event())))
    assert time.perf_counter() - started > 0.24


def test_a_stopped_recording_ends_at_once(talk: Path) -> None:
    async def run() -> int:
        stop = asyncio.Event()
        source = capture.recording(talk, 0.1, stop)
        asyncio.get_running_loop().call_later(0.05, stop.set)
        return len(await collect(source))

    assert asyncio.run(run()) <= RATE * capture.BLOCK_S


def test_a_negative_pace_is_refused(talk: Path) -> None:
    with pytest.raises(ConfigError, match="--pace: wanted 0 or more, got -1"):
        capture.recording(talk, -1.0, asyncio.Event())


class Device:
    """A microphone that hears a ramp."""

    def __init__(self, *, samplerate: int, blocksize: int, callback: Any, **_: Any) -> None:
        self.blocks = [np.full((blocksize, 1), i / 1000, np.float32) for i in range(4)]
        self.callback = callback

    def __enter__(self) -> None:
        for block in self.blocks:
            self.callback(block, len(block), None, None)
            block[:] = 9.0  # the real device reuses its memory

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None: ...


@pytest.fixture
def sounddevice(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module: Any = ModuleType("sounddevice")
    devices = [
        {"name": "Desk", "max_input_channels": 1, "default_samplerate": 48_000.0},
        {"name": "Speakers", "max_input_channels": 0, "default_samplerate": 48_000.0},
    ]

    def query_devices(device: str | int | None = None, kind: str | None = None) -> Any:
        if kind is None:
            return devices
        if device not in (None, 0, "Desk"):
            raise ValueError(f"No input device matching {device!r}")
        return devices[0]

    module.PortAudioError = type("PortAudioError", (Exception,), {})
    module.query_devices, module.InputStream = query_devices, Device
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    sounddevice: ModuleType = module
    return sounddevice


@pytest.mark.parametrize("device", [None, "Desk", "0"])
def test_a_microphone_is_heard_at_its_own_rate(device: str | None, sounddevice: ModuleType) -> None:
    async def run() -> list[float]:
        stop = asyncio.Event()
        source = capture.microphone(device, stop)
        assert (source.name, source.sample_rate, source.channels) == ("Desk", 48_000, 1)
        heard = []
        async for block in source.blocks:
            heard.append(float(block[0, 0]))
            if len(heard) == 4:
                stop.set()
        return heard

    assert asyncio.run(run()) == pytest.approx([0.0, 0.001, 0.002, 0.003])


def test_a_microphone_that_is_not_there_is_one_clear_line(sounddevice: ModuleType) -> None:
    with pytest.raises(AudioError, match="--device Attic: .*; found: Desk"):
        capture.microphone("Attic", asyncio.Event())


def test_a_missing_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(BackendError, match=r"pip install 'audiomamba\[mic\]'"):
        capture.microphone(None, asyncio.Event())
