"""A voice is described without being loaded, loaded once, and loaded again after a failure."""

import json
import threading
from pathlib import Path

import pytest

from audiomamba.errors import ModelError
from audiomamba.models import registry
from audiomamba.models.wave.config import WaveConfig
from audiomamba.models.wave.sampling import Sampling
from audiomamba.streaming.engine.sounds import SoundEngine
from audiomamba.streaming.engine.voice import Voice, installed, open_voice
from tests.models.wave.tiny import tiny_checkpoint


def test_the_configuration_alone_is_read_until_it_is_wanted(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path)
    weights = folder / "model.safetensors"
    held = weights.read_bytes()
    weights.unlink()
    voice = open_voice(folder)
    assert voice.description() == {
        "name": tmp_path.name,
        "sample_rate": 8000,
        "labels": ["yes", "no", "stop"],
        "speakers": ["ann", "bob"],
        "temperature": 1.0,
        "top_p": 1.0,
    }
    assert not voice.loaded
    with pytest.raises(ModelError):
        voice.wanted().result(60)
    assert not voice.loaded
    weights.write_bytes(held)
    engine = voice.wanted().result(60)  # what failed is tried again
    assert voice.loaded and voice.wanted().result(0) is engine
    voice.stop()


def test_all_that_want_it_at_once_wait_for_one_loading() -> None:
    go_on, loads = threading.Event(), []

    class Quiet:
        started = stopped = 0

        def start(self) -> None:
            self.started += 1

        def stop(self) -> None:
            self.stopped += 1

    def load() -> SoundEngine:
        loads.append(Quiet())
        go_on.wait(60)
        return loads[0]  # type: ignore[return-value]

    voice = Voice("quiet", WaveConfig(), Sampling(), load)
    first, second = voice.wanted(), voice.wanted()
    assert not first.done() and not voice.loaded
    go_on.set()
    assert first.result(60) is second.result(60)
    voice.stop()
    assert [(one.started, one.stopped) for one in loads] == [(1, 1)]


def test_one_that_nobody_wanted_stops_without_having_been_loaded() -> None:
    voice = Voice("quiet", WaveConfig(), Sampling(), lambda: pytest.fail("loaded"))
    voice.stop()
    assert not voice.loaded


def test_what_ships_is_offered_and_what_is_damaged_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(registry, "SHIPPED", tmp_path)
    for name in ("wave-long", "wave-digits", "wave-odd"):
        (tmp_path / name).mkdir()
        tiny_checkpoint(tmp_path / name)
    (tmp_path / "listen-xx").mkdir()
    (tmp_path / "listen-xx" / "config.json").write_text('{"kind": "transcriber"}')
    odd = tmp_path / "wave-odd" / "config.json"
    odd.write_text(json.dumps({**json.loads(odd.read_text()), "model": {"pools": [1]}}))
    assert [voice.name for voice in installed()] == ["wave-digits", "wave-long"]
    assert "wave-odd is not offered" in caplog.text
    with pytest.raises(ModelError, match="listen-xx wants a waveform model"):
        open_voice("listen-xx")
