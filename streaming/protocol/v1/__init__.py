"""Protocol v1, ``/v1/stream``: JSON text frames both ways, audio as binary frames."""

from audiomamba.streaming.protocol.v1.machine import MAX_TEXT_BYTES, START_WITHIN_S, Machine
from audiomamba.streaming.protocol.v1.table import REFUSALS, TRANSITIONS, Input, State
from audiomamba.streaming.protocol.v1.wire import VERSION

__all__ = [
    "MAX_TEXT_BYTES",
    "REFUSALS",
    "START_WITHIN_S",
    "TRANSITIONS",
    "VERSION",
    "Input",
    "Machine",
    "State",
]
