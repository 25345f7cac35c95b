"""Wire dialects as sans-I/O state machines: frames in, requests out; events in, frames out."""

from audiomamba.streaming.protocol.dialect import Close, Dialect, Outgoing
from audiomamba.streaming.protocol.settings import (
    AudioSettings,
    EndpointSettings,
    GenerationSettings,
    ResultSettings,
    Resume,
    StreamSettings,
    Task,
)

__all__ = [
    "AudioSettings",
    "Close",
    "Dialect",
    "EndpointSettings",
    "GenerationSettings",
    "Outgoing",
    "ResultSettings",
    "Resume",
    "StreamSettings",
    "Task",
]
