import json
from typing import Any

import pytest

from audiomamba.errors import ProtocolError
from audiomamba.streaming.client.events import (
    Done,
    Event,
    Final,
    Flushed,
    Metrics,
    Origin,
    Partial,
    Ready,
    Refused,
    Snapshot,
    SpeechStart,
    Warned,
    Word,
    parse,
)


def read(origin: Origin | None = None, **fields: Any) -> Event | None:
    return parse(json.dumps(fields), origin)


@pytest.mark.parametrize(
    ("fields", "event"),
    [
        (
            {"type": "ready", "seq": 1, "stream_id": "s", "protocol": "1.0", "resumed": True,
             "resume": {"token": "t", "ttl_s": 9}, "resume_at_sample": 5, "features": ["words"],
             "model": {"name": "m"}, "limits": {}},
            Ready("s", "1.0", {"name": "m"}, {}, "t", True, 5, ("words",), 1),
        ),
        (
            {"type": "final", "seq": 3, "utterance": 2, "channel": 1, "start": 1, "end": 2.5,
             "text": "hi", "confidence": 0.5, "reason": "flush",
             "words": [{"word": "hi", "start": 1, "end": 2.5, "conf": 0.5}]},
            Final(2, 1.0, 2.5, "hi", 0.5, (Word("hi", 1.0, 2.5, 0.5),), "flush", 1, 3),
        ),
        ({"type": "speech_start", "at": 0.5, "seq": 2}, SpeechStart(0.5, 0, 2)),
        ({"type": "flushed", "id": "a", "audio_s": 2, "seq": 2}, Flushed("a", 2.0, 2)),
        ({"type": "snapshot", "token": "t", "at_sample": 9, "seq": 4}, Snapshot("t", 9, 4)),
        ({"type": "warning", "code": "lagging", "message": "m", "seq": 4},
         Warned("lagging", "m", 4)),
        ({"type": "error", "code": "bad_value", "message": "m", "fatal": False, "seq": 4},
         Refused("bad_value", "m", False, None, 4)),
        ({"type": "done", "reason": "finished", "audio_s": 3.5, "finals": 2, "seq": 9},
         Done("finished", 3.5, 2, 9)),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)  # fmt: skip
def test_each_event_is_read_with_its_fields(fields: dict[str, Any], event: Event) -> None:
    assert read(**fields) == event


def test_fields_that_are_not_known_are_ignored() -> None:
    metrics = read(type="metrics", seq=2, received_s=1, decoded_s=1, batch=3, colour="red")
    assert isinstance(metrics, Metrics)
    assert metrics.extra == {"batch": 3, "colour": "red"}


def test_types_that_are_not_known_are_ignored() -> None:
    assert read(type="applause", seq=2) is None


def test_a_stream_that_began_anew_is_shifted() -> None:
    origin = Origin(seconds=10.0, utterance=4)
    partial = read(
        origin, type="partial", seq=1, utterance=0, start=0.5, end=1.0, stable="a ", unstable="b"
    )
    assert partial == Partial(4, 10.5, 11.0, "a ", "b", (), 0, 1)


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        ("{", "not JSON"),
        ("[1]", "not an object"),
        ('{"type": "partial", "seq": 1}', "partial.utterance: wanted an integer, got None"),
        ('{"type": "speech_end", "at": "soon"}', "speech_end.at: wanted a number, got 'soon'"),
        ('{"type": "done", "seq": true}', "done.seq: wanted an integer, got True"),
    ],
)
def test_a_broken_event_says_what_is_wrong(message: str, complaint: str) -> None:
    with pytest.raises(ProtocolError, match=complaint):
        parse(message)
