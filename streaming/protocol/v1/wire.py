"""Events of a session as the text frames of protocol v1."""

import json
import struct
from typing import Any

from audiomamba.streaming.protocol import events
from audiomamba.streaming.protocol.settings import ResultSettings

__all__ = ["HEADER", "VERSION", "encode", "encode_sound"]

VERSION = "1.0"

HEADER = struct.Struct("<HBBHBBIHHQII")
"""Of a binary frame: magic, version, kind, generation, encoding, flags, sample rate, channels,
bytes of the header, first sample, samples a channel, zero. 32 bytes, so that what follows is
aligned for any view of it."""
MAGIC, HEADER_VERSION, AUDIO = 0x4D41, 1, 1
ENCODINGS = {"linear16": 1, "float32": 2, "mulaw": 3, "alaw": 4}
LAST = 1


def encode(event: events.Event, seq: int, results: ResultSettings) -> str:
    """One event as JSON.

    Args:
        event: Any but ``Progress`` and ``Drained``, which have no words of their own in v1.
        seq: Number of the event in its stream.
        results: Which parts of a result the client wants.
    """
    kind, body = _body(event, results)
    return json.dumps({"type": kind, "seq": seq, **body}, separators=(",", ":"))


def encode_sound(sound: events.Sound) -> bytes:
    """Sound as a binary frame."""
    header = HEADER.pack(
        MAGIC,
        HEADER_VERSION,
        AUDIO,
        sound.index & 0xFFFF,
        ENCODINGS[sound.encoding],
        LAST if sound.last else 0,
        sound.sample_rate,
        1,
        HEADER.size,
        sound.first_sample,
        sound.samples,
        0,
    )
    return header + sound.payload


def _body(event: events.Event, results: ResultSettings) -> tuple[str, dict[str, Any]]:
    match event:
        case events.Ready():
            return "ready", _ready(event)
        case events.Partial():
            body = _span(event) | {"stable": event.stable, "unstable": event.unstable}
            if results.words and event.words:
                words = zip(event.words, _words(event.words, results), strict=True)
                body["words"] = [{**shown, "stable": word.stable} for word, shown in words]
            return "partial", body
        case events.Final():
            body = _span(event) | {"text": event.text}
            if results.confidence:
                body["confidence"] = round(event.confidence, 4)
            if results.words:
                body["words"] = _words(event.words, results)
            return "final", body | {"reason": event.reason}
        case events.SpeechStart():
            return "speech_start", {"at": _time(event.at), "channel": event.channel}
        case events.SpeechEnd():
            return "speech_end", {"at": _time(event.at), "channel": event.channel}
        case events.Flushed():
            named = {"id": event.id} if event.id is not None else {}
            return "flushed", named | {"audio_s": _time(event.audio_s)}
        case events.Snapshot():
            body = {"token": event.token, "at_sample": event.at_sample, "ttl_s": event.ttl_s}
            return "snapshot", body
        case events.Metrics():
            return "metrics", {
                "received_s": _time(event.received_s),
                "decoded_s": _time(event.decoded_s),
                "lag_s": _time(event.lag_s),
                "buffered_s": _time(event.buffered_s),
                "rtf": round(event.rtf, 4),
                "step_ms_p50": round(event.step_ms_p50, 3),
                "batch": event.batch,
                "state_bytes": event.state_bytes,
            }
        case events.GenerationStart():
            return "generation_start", {
                "id": event.id,
                "index": event.index,
                "sample_rate": event.sample_rate,
                "encoding": event.encoding,
                "channels": 1,
                "seed": event.seed,
            }
        case events.GenerationEnd():
            body = {"id": event.id, "samples": event.samples, "reason": event.reason}
            return "generation_end", body
        case events.Warned():
            return "warning", {"code": event.code, "message": event.message, **event.details}
        case events.Problem():
            body = {"code": event.code, "message": event.message, "fatal": event.fatal}
            if event.retry_after_s is not None:
                body["retry_after_s"] = event.retry_after_s
            return "error", body | ({"ref": event.ref} if event.ref else {})
        case events.GoAway():
            token = {"token": event.token} if event.token else {}
            return "go_away", {"reason": event.reason, "in_s": event.in_s, **token}
        case events.Pong():
            return "pong", {"t": event.t}
        case events.Done():
            audio_s = _time(event.audio_s)
            return "done", {"reason": event.reason, "audio_s": audio_s, "finals": event.finals}
    raise TypeError(f"{type(event).__name__} is not an event of v1")


def _ready(event: events.Ready) -> dict[str, Any]:
    body: dict[str, Any] = {
        "protocol": VERSION,
        "stream_id": event.stream_id,
        "model": event.model,
        "limits": event.limits,
        "resumed": event.resumed,
        "resume_at_sample": event.resume_at_sample,
        "features": list(event.features),
    }
    if event.generator:
        body["generator"] = event.generator
    return body | ({"resume": event.resume} if event.resume else {})


def _span(event: events.Partial | events.Final) -> dict[str, Any]:
    return {
        "utterance": event.utterance,
        "channel": event.channel,
        "start": _time(event.start),
        "end": _time(event.end),
    }


def _words(words: tuple[events.Word, ...], results: ResultSettings) -> list[dict[str, Any]]:
    return [
        {"word": w.word, "start": _time(w.start), "end": _time(w.end)}
        | ({"conf": round(w.confidence, 4)} if results.confidence else {})
        for w in words
    ]


def _time(seconds: float) -> float:
    return round(seconds, 3)
