"""Text frames of a client, read and checked."""

from dataclasses import dataclass, replace
from typing import get_args

from audiomamba.errors import ProtocolError
from audiomamba.streaming.protocol.fields import Fields, parse_object
from audiomamba.streaming.protocol.settings import (
    AudioSettings,
    Encoding,
    EndpointSettings,
    GenerationSettings,
    ResultSettings,
    Resume,
    StreamSettings,
)

__all__ = [
    "Cancel",
    "Credit",
    "Finish",
    "Flush",
    "Gap",
    "Generate",
    "Message",
    "Ping",
    "Snapshot",
    "Start",
    "Update",
    "parse",
    "read",
]

MAJOR = 1
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)
MAX_SECONDS = 86_400.0
"""A day, of sound that is asked for at once."""
MAX_GAP_SAMPLES = 48_000 * 86_400
"""A day of silence in one message; more is a mistake."""


@dataclass(frozen=True, slots=True)
class Start:
    settings: StreamSettings
    metrics_ms: int
    notes: tuple[str, ...]  # what was asked for and is not offered, in words


@dataclass(frozen=True, slots=True)
class Gap:
    samples: int


@dataclass(frozen=True, slots=True)
class Update:
    results: ResultSettings
    endpointing: EndpointSettings | None  # None = unchanged
    metrics_ms: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Flush:
    id: str | None


@dataclass(frozen=True, slots=True)
class Finish:
    pass


@dataclass(frozen=True, slots=True)
class Cancel:
    id: str | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    pass


@dataclass(frozen=True, slots=True)
class Ping:
    t: float | None


@dataclass(frozen=True, slots=True)
class Generate:
    settings: GenerationSettings


@dataclass(frozen=True, slots=True)
class Credit:
    id: str
    seconds: float


Message = Start | Gap | Update | Flush | Finish | Cancel | Snapshot | Ping | Generate | Credit

KINDS: dict[str, type[Message]] = {
    "start": Start,
    "gap": Gap,
    "update": Update,
    "flush": Flush,
    "finish": Finish,
    "cancel": Cancel,
    "snapshot": Snapshot,
    "ping": Ping,
    "generate": Generate,
    "credit": Credit,
}


def parse(text: str) -> tuple[type[Message], Fields, list[str]]:
    """Which message a text frame is, its fields, and the list that will hold unknown ones.

    Raises:
        ProtocolError: ``bad_message``: not a JSON object with a known ``type``.
    """
    values = parse_object(text)
    kind = values.get("type")
    if not isinstance(kind, str) or kind not in KINDS:
        shown = repr(kind)[:60] if isinstance(kind, str) else "none"
        raise ProtocolError(
            f"type must be one of {', '.join(KINDS)}, got {shown}", code="bad_message"
        )
    unknown: list[str] = []
    fields = Fields(values, kind, unknown)
    fields.has("type")
    return KINDS[kind], fields, unknown


def read(kind: type[Message], fields: Fields, now: "StreamSettings", metrics_ms: int) -> Message:
    """Read the fields of a message of ``kind``.

    Args:
        kind: From :func:`parse`, as are the fields.
        fields: What the client sent.
        now: The settings in force, which an ``update`` changes in part.
        metrics_ms: The interval of metrics in force.

    Raises:
        ProtocolError: ``bad_value`` or ``bad_audio``, naming the field and what it wants.
    """
    message = _read(kind, fields, now, metrics_ms)
    fields.close()
    return message


def _read(kind: type[Message], f: Fields, now: StreamSettings, metrics_ms: int) -> Message:
    if kind is Start:
        return _start(f)
    if kind is Update:
        results = _results(f.object("results"), now.results)
        changed = f.has("endpointing")
        endpointing = _endpointing(f.object("endpointing"), now.endpointing)
        interval = f.integer("metrics_ms", metrics_ms, 0, 60_000)
        return Update(results, endpointing if changed else None, interval, _hints(f))
    if kind is Gap:
        if not f.has("samples"):
            f.refuse("samples", "the number of samples to pass")
        return Gap(f.integer("samples", 0, 1, MAX_GAP_SAMPLES))
    if kind is Flush:
        return Flush(f.text("id"))
    if kind is Cancel:
        return Cancel(f.text("id"))
    if kind is Ping:
        return Ping(f.number("t", 0.0, -1e18, 1e18) if f.has("t") else None)
    if kind is Finish:
        return Finish()
    if kind is Snapshot:
        f.has("id")
        return Snapshot()
    if kind is Generate:
        return Generate(_generation(f))
    return Credit(_id(f), f.number("seconds", 0.0, 0.0, MAX_SECONDS))


def _start(f: Fields) -> Start:
    version = f.text("protocol", max_length=16) or "1.0"
    if version.split(".")[0] != str(MAJOR):
        f.refuse("protocol", f"version {MAJOR}.x", code="bad_message")
    resume = f.object("resume")
    token = resume.text("token", max_length=512)
    last_seq = resume.integer("last_seq", 0, 0, 2**53)
    resume.close()
    auth = f.object("auth")
    secret = auth.text("token", max_length=512)
    auth.close()
    look_ahead = f.integer("look_ahead_ms", 0, 0, 60_000) if f.has("look_ahead_ms") else None
    settings = StreamSettings(
        task=f.choice("task", "transcribe", ["transcribe", "generate", "both"]),
        audio=_audio(f.object("audio", code="bad_audio")),
        results=_results(f.object("results"), ResultSettings()),
        endpointing=_endpointing(f.object("endpointing"), EndpointSettings()),
        model=f.text("model"),
        language=f.text("language", max_length=32),
        look_ahead_ms=look_ahead,
        overflow=f.choice("overflow", "block", ["block", "drop_oldest", "fail"]),
        token=secret,
        resume=Resume(token=token, last_seq=last_seq) if token else None,
        on_resume_fail=f.choice("on_resume_fail", "fresh", ["fresh", "fail"]),
    )
    metrics_ms = f.integer("metrics_ms", 1000, 0, 60_000)
    f.text("client_id")
    return Start(settings, metrics_ms, _hints(f))


def _generation(f: Fields) -> GenerationSettings:
    source = f.object("input")
    label = source.text("label")
    source.choice("prompt", "none", ["none"])
    source.close()
    audio = f.object("audio")
    encoding: Encoding = audio.choice("encoding", "linear16", ENCODINGS)
    rate = audio.integer("sample_rate", 0, 8_000, 48_000) if audio.has("sample_rate") else None
    audio.close()
    unlimited = f.given("credit_s") and not f.has("credit_s")  # null is a value of its own here
    return GenerationSettings(
        id=_id(f),
        label=label,
        voice=f.text("voice"),
        encoding=encoding,
        sample_rate=rate,
        max_s=f.number("max_s", 10.0, 0.01, MAX_SECONDS),
        seed=f.integer("seed", 0, 0, 2**53) if f.has("seed") else None,
        temperature=f.number("temperature", 1.0, 0.0, 10.0) if f.has("temperature") else None,
        top_p=f.number("top_p", 1.0, 0.001, 1.0) if f.has("top_p") else None,
        credit_s=None if unlimited else f.number("credit_s", 10.0, 0.0, MAX_SECONDS),
        pace=f.choice("pace", "fast", ["realtime", "fast"]),
    )


def _id(f: Fields) -> str:
    name = f.text("id")
    if not name:
        f.refuse("id", "the name of the generation")
    return name


def _audio(f: Fields) -> AudioSettings:
    audio = AudioSettings(
        encoding=f.choice("encoding", "linear16", ENCODINGS),
        sample_rate=f.integer("sample_rate", 16_000, 8_000, 48_000),
        channels=f.integer("channels", 1, 1, 8),
        channel_mode=f.choice("channel_mode", "mix", ["mix", "first"]),
    )
    f.close()
    return audio


def _results(f: Fields, now: ResultSettings) -> ResultSettings:
    f.integer("alternatives", 1, 1, 1)
    results = replace(
        now,
        interim=f.flag("interim", now.interim),
        interim_ms=f.integer("interim_ms", now.interim_ms, 0, 60_000),
        words=f.flag("words", now.words),
        confidence=f.flag("confidence", now.confidence),
    )
    f.close()
    return results


def _endpointing(f: Fields, now: EndpointSettings) -> EndpointSettings:
    if f.has("silence_ms"):
        now = replace(now, silence_ms=f.integer("silence_ms", 0, 40, 60_000))
    endpointing = replace(
        now,
        mode=f.choice("mode", now.mode, ["auto", "none"]),
        min_speech_ms=f.integer("min_speech_ms", now.min_speech_ms, 0, 10_000),
        pre_roll_ms=f.integer("pre_roll_ms", now.pre_roll_ms, 0, 10_000),
        max_utterance_s=f.number("max_utterance_s", now.max_utterance_s, 1.0, 300.0),
        threshold=f.number("threshold", now.threshold, 0.0, 1.0),
    )
    f.close()
    return endpointing


def _hints(f: Fields) -> tuple[str, ...]:
    hints = f.object("hints")
    phrases = hints.texts("phrases", max_items=1000, max_length=100)
    hints.close()
    return ("hints.phrases: this decoder takes no phrases; ignored",) if phrases else ()
