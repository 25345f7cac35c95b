"""Both stores keep, replace and forget alike; a folder outlives the process and its accidents."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from audiomamba.errors import ConfigError
from audiomamba.streaming.server.resume import FileStore, MemoryStore, SnapshotStore

TTL_S = 100.0
MakeStore = Callable[[Callable[[], float]], SnapshotStore]


@pytest.fixture(params=["memory", "file"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    if request.param == "memory":
        return lambda clock: MemoryStore(TTL_S, 1000, clock)
    return lambda clock: FileStore(tmp_path / "snapshots", TTL_S, clock)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_the_newest_is_kept(make: MakeStore) -> None:
    store = make(Clock())
    assert store.get("a1") is None
    store.put("a1", b"one")
    store.put("a1", b"two")
    store.put("b2", b"other")
    assert store.get("a1") == b"two" and store.get("b2") == b"other"
    store.delete("a1")
    store.delete("a1")
    assert store.get("a1") is None and store.get("b2") == b"other"


def test_what_is_old_is_forgotten_unless_touched(make: MakeStore) -> None:
    clock = Clock()
    store = make(clock)
    store.put("a1", b"one")
    store.put("b2", b"two")
    clock.now += TTL_S - 1
    store.touch("b2")
    store.touch("never")
    clock.now += 2
    assert store.get("a1") is None and store.get("b2") == b"two"
    store.sweep()
    assert store.get("b2") == b"two"


def test_memory_is_bounded_and_the_oldest_goes() -> None:
    store = MemoryStore(TTL_S, 1000, Clock())
    for name in ("a1", "b2", "c3"):
        store.put(name, bytes(400))
    assert [store.get(name) is None for name in ("a1", "b2", "c3")] == [True, False, False]


def test_a_folder_is_gone_on_with_by_another_process_with_the_same_key(tmp_path: Path) -> None:
    clock = Clock()
    first = FileStore(tmp_path, TTL_S, clock)
    first.put("a1", b"one")
    second = FileStore(tmp_path, TTL_S, clock)
    assert second.get("a1") == b"one" and second.key == first.key
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0


def test_sweeping_a_folder_removes_old_files_and_nothing_else(tmp_path: Path) -> None:
    clock = Clock()
    store = FileStore(tmp_path, TTL_S, clock)
    store.put("a1", b"one")
    half = tmp_path / "b2.999"  # of a process that died while it wrote
    half.write_bytes(b"ha")
    os.utime(half, (clock.now, clock.now))
    clock.now += TTL_S + 1
    store.put("c3", b"new")
    store.sweep()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c3.snapshot", "key"]


def test_a_folder_that_cannot_be_used_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="resume.folder"):
        FileStore(tmp_path / "file" / "below", TTL_S)
    (tmp_path / "key").write_text("short")
    with pytest.raises(ConfigError, match="wants 32 bytes"):
        FileStore(tmp_path, TTL_S)
