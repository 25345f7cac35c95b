"""One holder a stream; what is kept comes back, and what cannot be read is not there."""

import asyncio
from collections import Counter
from typing import Any

import numpy as np
import pytest

from audiomamba.streaming.server.resume import (
    MemoryStore,
    Past,
    ResumeConfig,
    Streams,
    open_streams,
)


class Seen:
    """Counts what metrics would."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def snapshot(self, result: str, seconds: float) -> None:
        self.counts[result] += 1

    def resume(self, result: str) -> None:
        self.counts[result] += 1


class Conversation:
    """A holder that lets go when it is told to, after a while."""

    def __init__(self, streams: Streams, stream_id: str) -> None:
        self._streams, self._id = streams, stream_id
        self.superseded = 0
        self._leaving: asyncio.Task[None] | None = None

    def supersede(self) -> None:
        self.superseded += 1
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._leave())

    async def _leave(self) -> None:
        past = Past(self._id, {"heard": np.ones(3, np.float32)}, {"seq": 7}, 48_000)
        assert await self._streams.keep(past)
        await self._streams.leave(self._id)


class Broken(MemoryStore):
    def put(self, stream_id: str, snapshot: bytes) -> None:
        raise OSError(28, "No space left on device")


def streams(seen: Seen | None = None) -> Streams:
    return Streams(MemoryStore(100.0, 1 << 20), 100.0, seen or Seen())


def test_a_newer_holder_gets_what_the_older_leaves() -> None:
    async def run() -> None:
        seen = Seen()
        held = streams(seen)
        older = Conversation(held, "a1")
        held.enter("a1", older)
        past = await held.resume(held.token("a1"), Conversation(held, "a1"))
        assert older.superseded > 0
        assert past is not None and past.at_sample == 48_000 and past.dialect == {"seq": 7}
        assert past.session is not None and past.session["heard"].tolist() == [1, 1, 1]
        assert not past.ended
        held.resumed(past)
        assert seen.counts == {"stored": 1, "resumed": 1}

    asyncio.run(run())


def test_of_two_that_want_a_stream_each_gets_it_in_turn() -> None:
    async def run() -> None:
        held = streams()
        await held.keep(Past("a1", None, {}, 5, ended=True))
        both = [Conversation(held, "a1") for _ in range(2)]
        pasts = await asyncio.gather(*(held.resume(held.token("a1"), one) for one in both))
        assert [past is not None for past in pasts] == [True, True]
        assert [one.superseded > 0 for one in both] == [True, False]

    asyncio.run(run())


def test_a_token_of_nothing_holds_nothing() -> None:
    async def run() -> None:
        held = streams()
        for token in ("x", held.token("unknown"), streams().token("a1")):
            assert await held.resume(token, Conversation(held, "a1")) is None
        await held.keep(Past("a1", None, {}, 0))
        await held.forget("a1")
        assert await held.resume(held.token("a1"), Conversation(held, "a1")) is None

    asyncio.run(run())


def test_a_store_that_is_full_is_reported_and_harms_nobody() -> None:
    async def run() -> None:
        seen = Seen()
        held = Streams(Broken(100.0, 1000), 100.0, seen)
        assert not await held.keep(Past("a1", None, {}, 0))
        assert seen.counts == {"failed": 1}

    asyncio.run(run())


def test_damaged_bytes_are_as_none() -> None:
    async def run() -> None:
        store = MemoryStore(100.0, 1000)
        held = Streams(store, 100.0, Seen())
        store.put("a1", b"rubbish")
        assert await held.resume(held.token("a1"), Conversation(held, "a1")) is None

    asyncio.run(run())


def test_the_settings_say_where(tmp_path: object) -> None:
    assert not open_streams(ResumeConfig(), Seen()).durable
    assert open_streams(ResumeConfig(folder=str(tmp_path)), Seen()).durable


@pytest.mark.parametrize("wrong", [{"ttl_s": 0}, {"checkpoint_s": 0}, {"memory_mb": 0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    from audiomamba.errors import ConfigError

    with pytest.raises(ConfigError, match=f"resume.{next(iter(wrong))}"):
        ResumeConfig(**wrong)
