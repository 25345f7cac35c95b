"""Frames that were valid once: bits flipped, pieces cut, doubled and put elsewhere."""

import json
import random
from collections.abc import Iterator

__all__ = ["V1", "VOSK", "mutations"]

V1: tuple[str | bytes, ...] = (
    '{"type":"start","audio":{"encoding":"linear16","sample_rate":16000,"channels":2}}',
    '{"type":"start","protocol":"1.0","results":{"interim_ms":0},"overflow":"fail"}',
    '{"type":"start","endpointing":{"mode":"auto","silence_ms":600,"threshold":0.5}}',
    '{"type":"start","resume":{"token":"abc","last_seq":7},"on_resume_fail":"fresh"}',
    '{"type":"gap","samples":160}',
    '{"type":"update","results":{"words":false},"endpointing":{"max_utterance_s":20.5}}',
    '{"type":"flush","id":"a"}',
    '{"type":"finish"}',
    '{"type":"cancel","id":null}',
    '{"type":"snapshot","id":"s"}',
    '{"type":"ping","t":1.5}',
    '{"type":"generate","id":"g","input":{"text":"hello"}}',
    b"\0\1" * 40,
    b"\0",
)
VOSK: tuple[str | bytes, ...] = (
    '{ "config" : { "sample_rate" : 16000.000000, "words" : 1 } }',
    '{"config": {"max_alternatives": 20, "phrase_list": ["one", "two"]}}',
    '{"reset" : 1}',
    '{"eof" : 1}',
    b'{"eof" : 1}',
    b"RIFF\0\0\0\0WAVEfmt ",
    b"\0\1" * 40,
)
ODD = ("null", "1e999", "-1", "[]", "{}", '""', "true", '"\\ud800"', "[" * 300, "9" * 400, "NaN")


def mutations(frames: tuple[str | bytes, ...], count: int, seed: int) -> Iterator[str | bytes]:
    """``count`` frames made of ``frames``; the same for the same seed."""
    rng = random.Random(seed)
    for _ in range(count):
        frame = rng.choice(frames)
        for _ in range(rng.choice((0, 1, 1, 2, 5))):
            if isinstance(frame, str) and rng.random() < 0.4:
                frame = _field(frame, rng)
            else:
                frame = _bytes(frame, rng)
        if rng.random() < 0.03:
            frame = frame.encode(errors="ignore") if isinstance(frame, str) else repr(frame)
        yield frame


def _field(text: str, rng: random.Random) -> str:
    """Another value in the place of one of the object's, or one more field."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not isinstance(values, dict):
        return text
    name = rng.choice([*values, "audio", "type", "colour"])
    marker = f"\x00{rng.random()}"
    values[name] = marker
    return json.dumps(values).replace(json.dumps(marker), rng.choice(ODD))


def _bytes(frame: str | bytes, rng: random.Random) -> str | bytes:
    """A bit flipped, or a piece cut, doubled, moved or put in."""
    data = bytearray(frame.encode(errors="ignore") if isinstance(frame, str) else frame)
    a, b = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
    match rng.randrange(5):
        case 0 if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 1:
            del data[a:b]
        case 2:
            data[a:a] = data[a:b]
        case 3:
            piece = data[a:b]
            del data[a:b]
            at = rng.randrange(len(data) + 1)
            data[at:at] = piece
        case _:
            data[a:a] = rng.randbytes(rng.randrange(9))
    return data.decode(errors="ignore") if isinstance(frame, str) else bytes(data)
