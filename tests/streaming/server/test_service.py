"""What a server offers: the model that hears, and those that make sound."""

from collections.abc import Callable
from pathlib import Path

import pytest

from audiomamba.errors import ModelError, ProtocolError
from audiomamba.models import registry
from audiomamba.streaming.protocol import EndpointSettings, StreamSettings
from audiomamba.streaming.server.service import Service, load_service
from audiomamba.text.fusion import Fusion
from tests.models.wave.tiny import tiny_checkpoint

Load = Callable[[str], Service]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load a service where two waveform models ship."""
    (tmp_path / "listen-en").symlink_to(registry.SHIPPED / "listen-en")
    for name in ("wave-long", "wave-digits"):
        (tmp_path / name).mkdir()
        tiny_checkpoint(tmp_path / name)
    monkeypatch.setattr(registry, "SHIPPED", tmp_path)

    def load(voice: str) -> Service:
        return load_service(
            "listen-en", device="cpu", slots=1, block=4, buffer_s=5.0, threads=1, voice=voice
        )

    return load


def asked(task: str, model: str | None = None) -> StreamSettings:
    return StreamSettings(task=task, model=model)  # type: ignore[arg-type]


def test_what_ships_is_offered_and_not_loaded(load: Load) -> None:
    service = load("auto")
    assert [(model["id"], model["task"]) for model in service.models()] == [
        ("listen-en", "transcribe"), ("wave-digits", "generate"), ("wave-long", "generate"),
    ]  # fmt: skip
    assert "generate" in service.features()
    assert not any(voice.loaded for voice in service.voices)


def test_a_pause_that_a_client_names_is_the_whole_rule(load: Load) -> None:
    service = load("")
    own = service.decoder(EndpointSettings())
    assert own.ends is not None and own.silence_s == 1.2
    named = service.decoder(EndpointSettings(silence_ms=600))
    assert named.ends is None and named.silence_s == 0.6


def test_the_language_model_is_read_before_the_first_stream(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Fusion] = []
    monkeypatch.setattr(Fusion, "read", lambda fusion: read.append(fusion))
    load("")
    assert len(read) == 1


def test_a_stream_chooses_among_them(load: Load) -> None:
    service = load("auto")
    assert service.voice(asked("generate")).name == "wave-digits"
    assert service.voice(asked("generate", "wave-long")).name == "wave-long"
    # Where a stream also hears, the model it names is what hears.
    assert service.voice(asked("both", "listen-en")).name == "wave-digits"
    with pytest.raises(ProtocolError, match="wave-digits, wave-long, got 'listen-en'") as refused:
        service.voice(asked("generate", "listen-en"))
    assert refused.value.close_code == 4404


def test_one_that_is_named_is_offered_alone_and_loaded_at_once(load: Load) -> None:
    service = load("wave-long")
    [voice] = service.voices
    assert voice.name == "wave-long" and voice.loaded
    voice.stop()
    with pytest.raises(ModelError, match="no-such"):
        load("no-such")
    with pytest.raises(ModelError, match="wants a waveform model"):
        load("listen-en")


def test_none_is_offered_where_none_is_wanted(load: Load) -> None:
    service = load("")
    assert [model["id"] for model in service.models()] == ["listen-en"]
    assert "generate" not in service.features()
    with pytest.raises(ProtocolError, match=r"engine\.voice"):
        service.voice(asked("generate"))
