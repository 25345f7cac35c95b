"""The dialect of vosk-server, as its published clients speak it."""

from audiomamba.streaming.protocol.vosk.machine import Machine, VoskDefaults

__all__ = ["Machine", "VoskDefaults"]
