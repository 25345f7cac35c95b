"""Streams that outlive their connections: tokens, a store of snapshots, and who holds which."""

from audiomamba.streaming.server.resume.config import ResumeConfig
from audiomamba.streaming.server.resume.store import FileStore, MemoryStore, SnapshotStore
from audiomamba.streaming.server.resume.streams import Holder, Past, Streams, open_streams

__all__ = [
    "FileStore",
    "Holder",
    "MemoryStore",
    "Past",
    "ResumeConfig",
    "SnapshotStore",
    "Streams",
    "open_streams",
]
