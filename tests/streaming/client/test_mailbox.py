import asyncio

import pytest

from audiomamba.errors import ConnectionLost
from audiomamba.streaming.client.events import Final, Metrics, Partial
from audiomamba.streaming.client.mailbox import Mailbox


def partial(utterance: int, text: str) -> Partial:
    return Partial(utterance, 0.0, 1.0, text, "", (), 0, 0)


def final(utterance: int) -> Final:
    return Final(utterance, 0.0, 1.0, "done", None, (), "endpoint", 0, 0)


def test_a_newer_partial_takes_the_place_of_an_unread_one() -> None:
    async def run() -> None:
        box = Mailbox()
        for event in (partial(0, "a"), partial(0, "a b"), final(0), partial(1, "c")):
            await box.put(event)
        await box.close()
        assert [await box.get() for _ in range(4)] == [
            partial(0, "a b"),
            final(0),
            partial(1, "c"),
            None,
        ]

    asyncio.run(run())


def test_finals_wait_for_room_and_none_is_lost() -> None:
    async def run() -> None:
        box = Mailbox(size=2)

        async def write() -> None:
            for i in range(20):
                await box.put(final(i))
                await box.put(Metrics(0.0, 0.0, 0.0, 0.0, {}, i))
            await box.close()

        writer = asyncio.create_task(write())
        await asyncio.sleep(0)
        assert not writer.done()
        seen = []
        while (event := await box.get()) is not None:
            if isinstance(event, Final):
                seen.append(event.utterance)
        assert seen == list(range(20))
        await writer

    asyncio.run(run())


def test_a_failure_comes_after_the_events_before_it() -> None:
    async def run() -> None:
        box = Mailbox()
        await box.put(final(0))
        await box.close(ConnectionLost("gone", close_code=1006))
        assert await box.get() == final(0)
        with pytest.raises(ConnectionLost, match="gone"):
            await box.get()

    asyncio.run(run())
