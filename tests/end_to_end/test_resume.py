"""Connections that break and servers that are killed: no word is lost, none comes twice."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import websockets

from audiomamba.streaming.client import Final, Reconnected, connect
from tests.end_to_end.cutting import Wire
from tests.end_to_end.serving import Server
from tests.end_to_end.speaking import SPOKEN, START, WORDS, pcm, say, text, until

pytestmark = pytest.mark.slow

RATE = 16_000
STREAMS, CUTS = 20, 10  # connections that are cut: 200
KILLS = 20


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server("engine.slots=24")
    yield running
    assert running.stop() == 0


def recording(times: int) -> "np.ndarray[Any, np.dtype[np.int16]]":
    samples, _ = soundfile.read(SPOKEN, dtype="int16")
    return np.tile(samples[: 3 * RATE], times)


async def heard_through(url: str, samples: Any, **settings: Any) -> tuple[list[Final], int]:
    """Finals of what is said to ``url``, and how often the stream was gone on with."""
    finals, resumed = [], 0
    async with connect(url, sample_rate=RATE, patience_s=120.0, **settings) as stream:

        async def speak() -> None:
            for at in range(0, len(samples), 1600):
                await stream.feed(samples[at : at + 1600])
            await stream.finish()

        speaking = asyncio.create_task(speak())
        async for event in stream:
            if isinstance(event, Final):
                finals.append(event)
            if isinstance(event, Reconnected):
                assert event.resumed and event.lost_s == 0.0
                resumed += 1
        await speaking
    return finals, resumed


def test_connections_cut_in_mid_word_lose_and_double_nothing(server: Server) -> None:
    samples = recording(6)

    async def run() -> None:
        whole, _ = await heard_through(server.socket_url, samples)
        assert [word.word for final in whole for word in final.words] == WORDS.split() * 6
        wires = [
            Wire(server.socket_url, cuts=CUTS, within=samples.nbytes // CUTS * 2, seed=seed)
            for seed in range(STREAMS)
        ]

        async def one(wire: Wire) -> None:
            async with wire.running():
                finals, _ = await heard_through(wire.url, samples)
                assert [(f.text, f.start, f.end, f.words) for f in finals] == [
                    (f.text, f.start, f.end, f.words) for f in whole
                ]

        await asyncio.gather(*map(one, wires))
        assert sum(wire.cut for wire in wires) > STREAMS * CUTS // 2

    asyncio.run(run())


def test_a_newer_connection_takes_the_stream_from_an_older(server: Server) -> None:
    async def run() -> None:
        url = f"{server.socket_url}/v1/stream"
        audio = pcm()
        async with websockets.connect(url) as old, websockets.connect(url) as new:
            await say(old, START)
            [ready] = await until(old, "ready")
            await old.send(audio[:50_000])
            await until(old, "partial")
            resume = {"token": ready["resume"]["token"], "last_seq": 0}
            await say(new, {**START, "resume": resume})
            again = (await until(new, "ready"))[-1]
            assert again["resumed"] and again["stream_id"] == ready["stream_id"]
            assert again["resume_at_sample"] == 25_000
            superseded = (await until(old, "error"))[-1]
            assert superseded["code"] == "superseded"
            await old.wait_closed()
            assert old.close_code == 4409
            await new.send(audio[50_000:])
            await say(new, {"type": "finish"})
            heard = await until(new, "done")
            assert text(heard) == WORDS
            assert heard[0]["seq"] > ready["seq"]

    asyncio.run(run())


def test_what_a_client_missed_of_the_end_is_said_again(server: Server) -> None:
    async def run() -> None:
        async with websockets.connect(f"{server.socket_url}/v1/stream") as socket:
            await say(socket, START)
            [ready] = await until(socket, "ready")
            await socket.send(pcm())
            await say(socket, {"type": "finish"})
            await until(socket, "done")
        async with websockets.connect(f"{server.socket_url}/v1/stream") as socket:
            await say(
                socket, {**START, "resume": {"token": ready["resume"]["token"], "last_seq": 0}}
            )
            again = await until(socket, "done")
            assert again[0]["resumed"] and text(again) == WORDS
            await socket.wait_closed()
            assert socket.close_code == 1000

    asyncio.run(run())


@pytest.mark.parametrize("wrong", ["nonsense", "a.b.c", "", "0" * 512])
def test_a_token_of_nobody_begins_anew_or_is_refused(server: Server, wrong: str) -> None:
    async def run() -> None:
        for fail in ("fresh", "fail"):
            async with websockets.connect(f"{server.socket_url}/v1/stream") as socket:
                resume = {"token": wrong or "x", "last_seq": 3}
                await say(socket, {**START, "resume": resume, "on_resume_fail": fail})
                if fail == "fresh":
                    heard = await until(socket, "warning")
                    assert heard[0]["resumed"] is False
                    assert heard[-1]["code"] == "resume_unavailable"
                else:
                    assert (await until(socket, "error"))[-1]["code"] == "resume_unavailable"
                    await socket.wait_closed()
                    assert socket.close_code == 4410

    asyncio.run(run())


def test_audio_of_another_form_does_not_go_on_with_a_stream(server: Server) -> None:
    async def run() -> None:
        async with websockets.connect(f"{server.socket_url}/v1/stream") as socket:
            await say(socket, START)
            [ready] = await until(socket, "ready")
            await socket.send(pcm()[:32_000])
        async with websockets.connect(f"{server.socket_url}/v1/stream") as socket:
            resume = {"token": ready["resume"]["token"], "last_seq": 0}
            other = {"type": "start", "audio": {"sample_rate": 8000}, "resume": resume}
            await say(socket, {**other, "on_resume_fail": "fail"})
            error = (await until(socket, "error"))[-1]
            assert "16000" in error["message"]

    asyncio.run(run())


def test_a_server_killed_again_and_again_loses_and_doubles_nothing(tmp_path: Path) -> None:
    keep = (f"resume.folder={tmp_path}", "resume.checkpoint_s=0.5", "engine.slots=4")
    samples = recording(KILLS)

    servers = [Server(*keep)]
    port = servers[0].url.rsplit(":", 1)[1]

    async def run() -> list[Final]:
        finals: list[Final] = []
        async with connect(servers[0].socket_url, sample_rate=RATE, patience_s=120.0) as stream:
            reading = asyncio.create_task(_read(stream, finals))
            for kill in range(KILLS):
                piece = samples[kill * 3 * RATE : (kill + 1) * 3 * RATE]
                for at in range(0, len(piece), 1600):
                    await stream.feed(piece[at : at + 1600])
                    if at == 1600 * (kill + 3):
                        servers[-1].process.kill()
                        servers[-1].wait()
                        again = await asyncio.to_thread(Server, *keep, f"server.port={port}")
                        servers.append(again)
            await stream.finish()
            await reading
        return finals

    try:
        finals = asyncio.run(run())
    finally:
        assert servers[-1].stop() == 0
    assert [word.word for final in finals for word in final.words] == WORDS.split() * KILLS
    assert [final.utterance for final in finals] == list(range(len(finals)))


def test_a_server_that_is_told_to_stop_hands_its_streams_to_the_next(tmp_path: Path) -> None:
    keep = (f"resume.folder={tmp_path}", "engine.slots=4")

    async def run() -> None:
        first = Server(*keep)
        port = first.url.rsplit(":", 1)[1]
        audio = np.frombuffer(pcm(), "<i2")
        finals: list[Final] = []
        async with connect(first.socket_url, sample_rate=RATE, patience_s=120.0) as stream:
            reading = asyncio.create_task(_read(stream, finals))
            await stream.feed(audio[:30_000])  # in the middle of "five"
            assert await asyncio.to_thread(first.stop) == 0
            second = await asyncio.to_thread(Server, *keep, f"server.port={port}")
            await stream.feed(audio[30_000:])
            await stream.finish()
            await reading
        assert second.stop() == 0
        assert " ".join(final.text for final in finals) == WORDS

    asyncio.run(run())


async def _read(stream: Any, finals: list[Final]) -> None:
    async for event in stream:
        if isinstance(event, Final):
            finals.append(event)
        if isinstance(event, Reconnected):
            assert event.resumed and event.lost_s == 0.0
