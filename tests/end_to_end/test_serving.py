"""A real server process, real sockets, a real recording."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import websockets

from tests.end_to_end.serving import START_WITHIN_S, Server
from tests.end_to_end.speaking import SPOKEN, WORDS, pcm, say, text, transcribe, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server("engine.slots=6")
    yield running
    assert running.stop() == 0


@pytest.mark.parametrize("chunk", [3200, 777, 96_000])
def test_a_recording_becomes_words_whatever_the_frames(server: Server, chunk: int) -> None:
    heard = asyncio.run(transcribe(server.socket_url, chunk))
    assert text(heard) == WORDS
    assert [event["seq"] for event in heard] == list(range(2, len(heard) + 2))
    assert heard[-1]["audio_s"] == pytest.approx(3.0)


def test_several_at_once_hear_each_their_own(server: Server) -> None:
    async def all_of_them() -> list[list[dict[str, Any]]]:
        return await asyncio.gather(*(transcribe(server.socket_url, c) for c in (1600, 3200, 6402)))

    assert [text(heard) for heard in asyncio.run(all_of_them())] == [WORDS] * 3


def test_file_library_and_socket_agree(server: Server) -> None:
    import audiomamba

    heard = asyncio.run(transcribe(server.socket_url))
    command = [sys.executable, "-m", "audiomamba.cli.main", "transcribe", str(SPOKEN)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert text(heard) == printed == audiomamba.transcribe(SPOKEN).text


def test_a_flush_makes_final_what_was_said(server: Server) -> None:
    async def run() -> tuple[str, str]:
        async with websockets.connect(f"{server.socket_url}/v1/stream") as socket:
            await say(socket, {"type": "start", "audio": {"sample_rate": 16_000}})
            audio = pcm()
            await socket.send(audio[: 2 * 16_000 * 2])
            await say(socket, {"type": "flush", "id": "now"})
            first = await until(socket, "flushed")
            await socket.send(audio[2 * 16_000 * 2 :])
            await say(socket, {"type": "finish"})
            return text(first), text(await until(socket, "done"))

    assert asyncio.run(run()) == ("zero one", "five")


def test_vosk_clients_are_answered_once_a_message(server: Server) -> None:
    async def run() -> list[dict[str, Any]]:
        replies = []
        async with websockets.connect(f"{server.socket_url}/") as socket:
            await socket.send('{"config": {"sample_rate": 16000}}')
            audio = pcm()
            for at in range(0, len(audio), 6400):
                await socket.send(audio[at : at + 6400])
                replies.append(json.loads(await socket.recv()))
            await socket.send('{"eof" : 1}')
            replies.append(json.loads(await socket.recv()))
        return replies

    replies = asyncio.run(run())
    assert len(replies) == 16
    assert " ".join(reply["text"] for reply in replies if reply.get("text")) == WORDS


BAD: dict[str, tuple[str | bytes, str, int]] = {
    "text before start": ("hello", "bad_message", 4400),
    "audio before start": (b"\x00\x00", "binary_before_start", 1003),
    "an absurd rate": (
        json.dumps({"type": "start", "audio": {"sample_rate": 3}}), "bad_audio", 4406,
    ),
    "another encoding": (
        json.dumps({"type": "start", "audio": {"encoding": "mp3"}}), "bad_audio", 4406,
    ),
    "another model": (json.dumps({"type": "start", "model": "nobody"}), "no_model", 4404),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_error_and_others_go_on(server: Server, case: str) -> None:
    frame, code, close_code = BAD[case]

    async def run() -> tuple[dict[str, Any], int | None, str]:
        other = asyncio.create_task(transcribe(server.socket_url))
        async with websockets.connect(f"{server.socket_url}/v1/stream") as socket:
            await socket.send(frame)
            [error] = await until(socket, "error")
            with pytest.raises(websockets.ConnectionClosed):
                await socket.recv()
            return error, socket.close_code, text(await other)

    error, closed, others = asyncio.run(run())
    assert (error["code"], closed, error["fatal"], others) == (code, close_code, True, WORDS)


def test_float_audio_that_is_not_a_number_is_refused(server: Server) -> None:
    async def run() -> dict[str, Any]:
        async with websockets.connect(f"{server.socket_url}/v1/stream") as socket:
            audio = {"sample_rate": 16_000, "encoding": "float32"}
            await say(socket, {"type": "start", "audio": audio})
            await socket.send(np.full(400, np.nan, "<f4").tobytes())
            return (await until(socket, "error"))[-1]

    error = asyncio.run(run())
    assert error["code"] == "bad_audio" and "finite" in error["message"]


def test_a_split_sample_is_put_together(server: Server) -> None:
    assert text(asyncio.run(transcribe(server.socket_url, chunk=3201))) == WORDS


def test_the_slots_of_vanished_clients_come_back(server: Server) -> None:
    deadline = time.monotonic() + START_WITHIN_S

    async def run() -> None:
        vanished = 0
        while vanished < 12:  # of 6 slots
            try:
                socket = await websockets.connect(f"{server.socket_url}/v1/stream")
            except websockets.InvalidStatus as full:  # for the moment
                assert full.response.status_code == 503 and time.monotonic() < deadline
                await asyncio.sleep(0.05)
                continue
            await say(socket, {"type": "start", "audio": {"sample_rate": 16_000}})
            await until(socket, "ready")
            socket.transport.abort()
            vanished += 1

    asyncio.run(run())
    while json.loads(server.get("/readyz")[1])["streams"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert json.loads(server.get("/readyz")[1]) == {
        "ready": True, "reasons": [], "streams": 0, "free": 6,
    }  # fmt: skip


def test_health_version_models_and_the_page_are_served(server: Server) -> None:
    assert server.get("/healthz") == (200, '{"status":"ok"}')
    assert json.loads(server.get("/v1/models")[1])["data"][0]["id"] == "listen-en"
    assert json.loads(server.get("/version")[1])["model"]["name"] == "listen-en"
    for path in ("/", "/ui/", "/app.js", "/ui/style.css"):
        assert server.get(path)[0] == 200, path
    assert server.get("/../../pyproject.toml")[0] == 404


def test_more_than_there_are_slots_get_a_reason_and_a_time() -> None:
    server = Server("engine.slots=1")

    async def run() -> tuple[int, str | None]:
        async with websockets.connect(f"{server.socket_url}/v1/stream") as first:
            await say(first, {"type": "start"})
            await until(first, "ready")
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(f"{server.socket_url}/v1/stream")
            response = refused.value.response
            return response.status_code, response.headers.get("Retry-After")

    try:
        assert asyncio.run(run()) == (503, "2")
    finally:
        assert server.stop() == 0


def test_a_token_is_asked_for_and_told_from_others() -> None:
    server = Server("server.tokens=[secret]", "engine.slots=1")
    try:
        assert server.get("/v1/models")[0] == 401
        assert server.get("/v1/models", {"Authorization": "Bearer wrong"})[0] == 401
        assert server.get("/v1/models", {"Authorization": "Bearer secret"})[0] == 200
        assert server.get("/healthz")[0] == 200
    finally:
        assert server.stop() == 0


def test_a_public_address_without_tokens_is_refused() -> None:
    command = [sys.executable, "-m", "audiomamba.cli.main", "serve", "server.host=0.0.0.0"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "set server.tokens" in done.stderr and "Traceback" not in done.stderr


def test_an_unknown_setting_is_one_line() -> None:
    command = [sys.executable, "-m", "audiomamba.cli.main", "serve", "server.prot=1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "prot" in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_the_last_words_are_said_before_the_server_stops() -> None:
    server = Server("engine.slots=2")

    async def run() -> tuple[list[dict[str, Any]], int | None]:
        async with websockets.connect(f"{server.socket_url}/v1/stream") as socket:
            await say(socket, {"type": "start", "audio": {"sample_rate": 16_000}})
            await until(socket, "ready")
            await socket.send(pcm())
            await until(socket, "partial")
            server.process.send_signal(signal.SIGTERM)
            heard = []
            try:
                async with asyncio.timeout(START_WITHIN_S):
                    while True:
                        heard.append(json.loads(await socket.recv()))
            except websockets.ConnectionClosed:
                return heard, socket.close_code

    heard, code = asyncio.run(run())
    server.process.communicate(timeout=START_WITHIN_S)
    assert "go_away" in {event["type"] for event in heard}
    assert text(heard) == WORDS
    assert code == 1012
