import runpy
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import audiomamba
from audiomamba.text.events import Final, Partial

DEMO = Path(__file__).parents[2] / "demos" / "microphone.py"


class Device:
    def __init__(self, *, blocksize: int, callback: Any, **_: Any) -> None:
        self.callback, self.blocksize = callback, blocksize

    def __enter__(self) -> None:
        block = np.full((self.blocksize, 1), 0.25, np.float32)
        self.callback(block, self.blocksize, None, None)
        block[:] = 9.0  # the real device reuses its memory

    def __exit__(self, *_: object) -> None: ...


class Stream:
    """Hears one block, then the user presses Ctrl-C."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def feed(self, samples: Any) -> list[Any]:
        self.heard.append(samples)
        if len(self.heard) > 1:
            raise AssertionError("the user has left")
        return [Partial(0, 0.0, 0.1, "hello ", "wor", ())]

    def finish(self) -> list[Any]:
        return [Final(0, 0.0, 0.1, "hello world", 0.9, (), "finish")]


def test_the_last_words_come_after_the_user_ended_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = Stream()
    sounddevice: Any = ModuleType("sounddevice")
    sounddevice.query_devices = lambda kind: {"default_samplerate": 44_100.0}
    sounddevice.InputStream = Device
    monkeypatch.setitem(sys.modules, "sounddevice", sounddevice)

    class Listener:
        def stream(self, *, sample_rate: int) -> Stream:
            assert sample_rate == 44_100
            return stream

    monkeypatch.setattr(audiomamba, "load", lambda name: Listener(), raising=False)
    demo = runpy.run_path(str(DEMO))

    class Queue(demo["queue"].Queue):  # type: ignore[misc]
        def get(self) -> Any:  # Ctrl-C arrives while the demo waits for sound
            if self.empty():
                raise KeyboardInterrupt
            return super().get()

    monkeypatch.setattr(demo["queue"], "Queue", Queue)
    demo["main"]()
    shown = capsys.readouterr().out
    assert shown.index("hello \x1b[2mwor\x1b[0m") < shown.index("hello world\n")
    (block,) = stream.heard
    assert block.shape == (2205,) and float(block.max()) == 0.25


def test_it_is_small() -> None:
    assert len(DEMO.read_text().splitlines()) < 60
