"""An asynchronous client of ``/v1/stream``: feed audio and read events, or hear what is made."""

from audiomamba.streaming.client.events import (
    Done,
    Event,
    Final,
    Flushed,
    GoAway,
    Metrics,
    Partial,
    Pong,
    Ready,
    Reconnected,
    Reconnecting,
    Refused,
    Snapshot,
    SpeechEnd,
    SpeechStart,
    Warned,
    Word,
)
from audiomamba.streaming.client.recording import hear
from audiomamba.streaming.client.stream import Settings, Stream, connect

__all__ = [
    "Done",
    "Event",
    "Final",
    "Flushed",
    "GoAway",
    "Metrics",
    "Partial",
    "Pong",
    "Ready",
    "Reconnected",
    "Reconnecting",
    "Refused",
    "Settings",
    "Snapshot",
    "SpeechEnd",
    "SpeechStart",
    "Stream",
    "Warned",
    "Word",
    "connect",
    "hear",
]
