import asyncio
import http
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from audiomamba.errors import AudioError, ConfigError, ConnectionLost, Overloaded, ProtocolError
from audiomamba.streaming.client import (
    Done,
    Event,
    Final,
    Flushed,
    Partial,
    Reconnected,
    Reconnecting,
    connect,
)
from tests.streaming.scripted import SCRIPT, ScriptedServer

RATE = 16_000
TEXTS = [said.text for said in SCRIPT]
SECONDS = 6.5


def silence(seconds: float) -> bytes:
    return bytes(2 * round(seconds * RATE))


def finals(events: list[Event]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


def converse(
    server: ScriptedServer, body: Callable[[str], Coroutine[Any, Any, list[Event]]]
) -> list[Event]:
    async def run() -> list[Event]:
        async with server.running():
            return await body(server.url)

    return asyncio.run(asyncio.wait_for(run(), 10))


async def feed_all(url: str, chunk: int = 3333, **settings: Any) -> list[Event]:
    samples = silence(SECONDS)
    async with connect(url, **settings) as stream:
        for at in range(0, len(samples), chunk):
            await stream.feed(samples[at : at + chunk])
        await stream.finish()
        return [event async for event in stream]


@pytest.mark.parametrize("chunk", [639, 640, 50_001])
def test_any_chunk_size_gives_all_finals_and_then_done(chunk: int) -> None:
    events = converse(ScriptedServer(), lambda url: feed_all(url, chunk))
    assert [final.text for final in finals(events)] == TEXTS
    assert events[-1] == Done("finished", SECONDS, 3, events[-1].seq)  # type: ignore[union-attr]


def test_start_says_what_is_sent() -> None:
    server = ScriptedServer()
    converse(server, lambda url: feed_all(url, token="s3cret", options={"client_id": "me"}))
    (start,) = server.starts
    assert start["audio"] == {"encoding": "linear16", "sample_rate": RATE, "channels": 1}
    assert start["client_id"] == "me"
    assert server.headers[0]["Authorization"] == "Bearer s3cret"


def test_partials_are_read_while_audio_is_fed() -> None:
    async def body(url: str) -> list[Event]:
        seen: list[Event] = []
        async with connect(url) as stream:
            events = aiter(stream)
            for _ in range(8):
                await stream.feed(silence(0.1))
            while not (seen and isinstance(seen[-1], Partial)):
                seen.append(await anext(events))
        return seen

    partial = converse(ScriptedServer(), body)[-1]
    assert isinstance(partial, Partial)
    assert "hello and".startswith(partial.stable + partial.unstable)


def test_flush_is_answered_and_the_stream_goes_on() -> None:
    async def body(url: str) -> list[Event]:
        async with connect(url) as stream:
            await stream.feed(silence(1.0))
            flush_id = await stream.flush()
            await stream.feed(silence(5.5))
            await stream.finish()
            events = [event async for event in stream]
        flushed = [event for event in events if isinstance(event, Flushed)]
        assert [event.id for event in flushed] == [flush_id]
        assert flushed[0].audio_s == 1.0
        return events

    first, *rest = finals(converse(ScriptedServer(), body))
    assert (first.text, first.reason) == ("hello and good", "flush")
    assert [final.text for final in rest] == TEXTS[1:]


def test_muted_time_passes_without_audio() -> None:
    async def body(url: str) -> list[Event]:
        async with connect(url) as stream:
            await stream.feed(silence(0.5))
            await stream.gap(6.0)
            await stream.finish()
            return [event async for event in stream]

    events = converse(ScriptedServer(), body)
    assert [final.text for final in finals(events)] == TEXTS


@pytest.mark.parametrize("drop_at_s", [0.1, 1.0, 2.9, 6.4])
def test_a_broken_connection_costs_no_words(drop_at_s: float) -> None:
    server = ScriptedServer(drop_at_s=drop_at_s)
    events = converse(server, feed_all)
    assert [final.text for final in finals(events)] == TEXTS
    assert [(final.start, final.end) for final in finals(events)] == [
        (said.start, said.end) for said in SCRIPT
    ]
    assert [event for event in events if isinstance(event, Reconnected)] == [Reconnected(True, 0.0)]
    assert server.starts[1]["resume"]["token"] in server.streams


def test_a_server_that_forgot_everything_costs_no_words_either() -> None:
    # The second server is new, so it tells the rest from its own zero.
    server = ScriptedServer(forget=True, drop_at_s=3.0)

    async def body(url: str) -> list[Event]:
        events: list[Event] = []
        async with connect(url) as stream:
            await stream.feed(silence(3.0))
            async for event in stream:
                events.append(event)
                if isinstance(event, Reconnecting) and event.attempt == 1:
                    server.script = SCRIPT[1:]
                if isinstance(event, Reconnected):
                    await stream.feed(silence(2.4))
                    await stream.finish()
        return events

    events = converse(server, body)
    assert [e for e in events if isinstance(e, Reconnected)] == [Reconnected(False, 0.0)]
    assert "resume" not in server.starts[1]
    first, second, *_ = finals(events)
    assert first.text == TEXTS[0] and second.text == TEXTS[1]
    # The new stream begins where the last final ended, and its times count from there.
    assert second.start == pytest.approx(SCRIPT[0].end + SCRIPT[1].start)
    assert (first.utterance, second.utterance) == (0, 1)


def test_a_server_that_stays_away_is_reported_after_the_patience() -> None:
    async def body(url: str) -> list[Event]:
        events: list[Event] = []
        with pytest.raises(ConnectionLost):
            async with connect(url, patience_s=0.3) as stream:
                server.refuse = ("internal", 1011)
                await stream.feed(silence(1.0))
                async for event in stream:
                    events.append(event)
        return events

    server = ScriptedServer(drop_at_s=0.5)
    events = converse(server, body)
    assert any(isinstance(event, Reconnecting) for event in events)
    assert len(server.starts) > 1


def test_no_server_is_one_clear_line() -> None:
    async def run() -> None:
        async with connect("ws://127.0.0.1:9"):
            pass

    with pytest.raises(ConnectionLost, match=r"cannot reach ws://127\.0\.0\.1:9/v1/stream"):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("refuse", "error"),
    [
        (("bad_audio", 4406), ProtocolError),
        (("overloaded", 1013), Overloaded),
        (("internal", 1011), ConnectionLost),
    ],
)
def test_a_refused_start_is_raised_with_the_servers_words(
    refuse: tuple[str, int], error: type[Exception]
) -> None:
    with pytest.raises(error, match=f"no: {refuse[0]}"):
        converse(ScriptedServer(refuse=refuse), feed_all)


def test_a_full_server_says_when_to_come_back() -> None:
    def full(connection: ServerConnection, request: Request) -> Response:
        response = connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "full\n")
        response.headers["Retry-After"] = "7"
        return response

    with pytest.raises(Overloaded) as raised:
        converse(ScriptedServer(process_request=full), feed_all)
    assert raised.value.retry_after_s == 7.0


def test_arrays_are_checked_against_the_encoding() -> None:
    async def body(url: str) -> list[Event]:
        async with connect(url, encoding="float32") as stream:
            await stream.feed(np.zeros(1600, np.float32))
            with pytest.raises(AudioError, match="wanted float32 samples, got int16"):
                await stream.feed(np.zeros(1600, np.int16))
            await stream.finish()
            with pytest.raises(AudioError, match="feed after finish"):
                await stream.feed(b"")
            return [event async for event in stream]

    events = converse(ScriptedServer(), body)
    assert isinstance(events[-1], Done) and events[-1].audio_s == 0.1


def test_settings_out_of_range_are_refused_before_any_connection() -> None:
    for wrong in ({"encoding": "mp3"}, {"sample_rate": 4000}, {"channels": 9}):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))}: wanted"), suppress(OSError):
            asyncio.run(feed_all("ws://127.0.0.1:9", **wrong))
