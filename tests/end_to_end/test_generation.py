"""Recordings from a real server: frames as they are made, credit, cancel, speech beside them."""

import asyncio
import json
import struct
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import websockets

from audiomamba.audio import pcm
from audiomamba.errors import ProtocolError
from audiomamba.models.registry import SHIPPED
from audiomamba.models.wave.synthesizer import Synthesizer
from audiomamba.streaming import protocol
from audiomamba.streaming.client import hear as hear_client
from tests.end_to_end.serving import Server
from tests.end_to_end.speaking import WORDS, say, text, until
from tests.end_to_end.speaking import pcm as spoken
from tests.models.wave.tiny import tiny_checkpoint

pytestmark = pytest.mark.slow

SCHEMA = json.loads((Path(protocol.__file__).parent / "v1.schema.json").read_text())
GENERATOR = jsonschema.Draft202012Validator({**SCHEMA, "$ref": "#/$defs/generator"})
HEADER = struct.Struct("<HBBHBBIHHQII")


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_checkpoint(tmp_path_factory.mktemp("voice"))


@pytest.fixture(scope="module")
def server(voice: Any) -> Iterator[Server]:
    running = Server("engine.slots=4", f"engine.voice={voice}")
    yield running
    assert running.stop() == 0


async def hear(socket: Any, *kinds: str) -> tuple[list[dict[str, Any]], dict[int, bytes]]:
    """Events up to one of ``kinds``, and the sound of each recording."""
    heard: list[dict[str, Any]] = []
    sound: dict[int, bytes] = {}
    async with asyncio.timeout(60):
        while not heard or heard[-1]["type"] not in kinds:
            frame = await socket.recv()
            if isinstance(frame, str):
                heard.append(json.loads(frame))
                continue
            fields = HEADER.unpack(frame[: HEADER.size])
            assert fields[:3] == (0x4D41, 1, 1) and fields[8] == HEADER.size
            index, first, samples = fields[3], fields[9], fields[10]
            so_far = sound.get(index, b"")
            assert first == len(so_far) // 2 and len(frame) == HEADER.size + 2 * samples
            sound[index] = so_far + frame[HEADER.size :]
    return heard, sound


def alone(voice: Any, seconds: float, **given: Any) -> bytes:
    made = np.concatenate(list(Synthesizer.from_folder(voice).generate(seconds=seconds, **given)))
    return pcm.encode(made, "linear16")


def test_recordings_follow_each_other_and_are_those_of_the_library(
    server: Server, voice: Any
) -> None:
    async def run() -> None:
        async with websockets.connect(f"{server.socket_url}/v1/stream") as socket:
            await say(socket, {"type": "start", "task": "generate"})
            [ready] = await until(socket, "ready")
            GENERATOR.validate(ready["generator"])
            assert ready["generator"]["labels"] == ["yes", "no", "stop"]
            assert "generate" in ready["features"] and "resume" not in ready
            for id, label in (("a", "yes"), ("b", "no"), ("c", "maybe")):
                wish = {"type": "generate", "id": id, "input": {"label": label}}
                await say(socket, {**wish, "max_s": 0.5, "seed": 3})
            await say(socket, {"type": "finish"})
            heard, sound = await hear(socket, "done")
            ends = [e for e in heard if e["type"] == "generation_end"]
            assert [(e["id"], e["samples"], e["reason"]) for e in ends] == [
                ("a", 4000, "complete"), ("b", 4000, "complete"), ("c", 0, "error"),
            ]  # fmt: skip
            [error] = [e for e in heard if e["type"] == "error"]
            assert "maybe" in error["message"] and not error["fatal"]
            assert sound[1] == alone(voice, 0.5, label="yes", seed=3)
            assert sound[2] == alone(voice, 0.5, label="no", seed=3)

    asyncio.run(run())


def test_credit_holds_and_cancel_stops_an_endless_one(server: Server) -> None:
    async def run() -> None:
        async with websockets.connect(f"{server.socket_url}/v1/stream") as socket:
            await say(socket, {"type": "start", "task": "generate", "metrics_ms": 0})
            await until(socket, "ready")
            endless = {"type": "generate", "id": "a", "max_s": 86_400, "credit_s": 0.5}
            await say(socket, endless)
            heard, sound = await hear(socket, "generation_start")
            while len(sound.get(1, b"")) < 2 * 3600:
                frame = await socket.recv(decode=False)
                sound[1] = sound.get(1, b"") + frame[HEADER.size :]
            await say(socket, {"type": "ping", "t": 1})
            assert [e["type"] for e in (await hear(socket, "pong"))[0]] == ["pong"]
            await say(socket, {"type": "cancel", "id": "a"})
            heard, more = await hear(socket, "generation_end")
            assert heard[-1]["reason"] == "cancelled" and not more
            assert heard[-1]["samples"] == len(sound[1]) // 2 <= 4000

    asyncio.run(run())


def test_one_stream_hears_and_speaks_at_once(server: Server, voice: Any) -> None:
    async def run() -> None:
        async with websockets.connect(f"{server.socket_url}/v1/stream") as socket:
            await say(socket, {"type": "start", "task": "both"})
            await until(socket, "ready")
            await say(socket, {"type": "generate", "id": "a", "max_s": 2.0, "seed": 1})
            audio = spoken()
            for at in range(0, len(audio), 6400):
                await socket.send(audio[at : at + 6400])
            await say(socket, {"type": "finish"})
            heard, sound = await hear(socket, "done")
            assert text(heard) == WORDS
            assert sound[1] == alone(voice, 2.0, seed=1)

    asyncio.run(run())


def test_the_client_hears_what_the_library_makes_and_may_leave(server: Server, voice: Any) -> None:
    async def run() -> None:
        heard = [
            block
            async for block in hear_client(
                server.socket_url,
                model=voice.name,
                label="no",
                seconds=9.0,
                seed=2,
                sample_rate=8000,
            )
        ]
        made = np.concatenate(
            list(Synthesizer.from_folder(voice).generate(seconds=9.0, label="no", seed=2))
        )
        np.testing.assert_array_equal(np.concatenate(heard), made)
        async with aclosing(hear_client(server.socket_url, seconds=86_400)) as endless:
            async for block in endless:
                assert len(block)
                break
        with pytest.raises(ProtocolError, match="label 'maybe'"):
            async for _ in hear_client(server.socket_url, label="maybe"):
                pass
        with pytest.raises(ProtocolError, match="made here by"):
            async for _ in hear_client(server.socket_url, model="another"):
                pass

    asyncio.run(run())


def test_the_models_are_listed_with_what_can_be_asked_of_them(server: Server, voice: Any) -> None:
    status, body = server.get("/v1/models")
    listening, making = json.loads(body)["data"]
    assert status == 200
    assert (listening["id"], listening["task"]) == ("listen-en", "transcribe")
    assert (making["id"], making["object"], making["task"]) == (voice.name, "model", "generate")
    GENERATOR.validate(making["generator"])

    async def run() -> None:
        for wanted in (voice.name, "another"):
            async with websockets.connect(f"{server.socket_url}/v1/stream") as socket:
                await say(socket, {"type": "start", "task": "generate", "model": wanted})
                [first] = await until(socket, "ready", "error")
                if wanted == "another":
                    assert first["code"] == "no_model" and voice.name in first["message"]
                else:
                    assert first["generator"] == making["generator"]

    asyncio.run(run())


@pytest.mark.skipif(not (SHIPPED / "wave-digits").is_dir(), reason="wave-digits does not ship")
def test_a_server_speaks_with_what_ships_and_without_a_setting() -> None:
    running = Server("engine.slots=1")

    async def run() -> None:
        parts = hear_client(
            running.socket_url, voice="fsdd-george", seconds=2.0, seed=1, sample_rate=8000
        )
        heard = np.concatenate([block async for block in parts])
        model = Synthesizer.from_folder(SHIPPED / "wave-digits")
        made = np.concatenate(list(model.generate(seconds=2.0, speaker="fsdd-george", seed=1)))
        np.testing.assert_allclose(heard, made, atol=1 / 32768)
        assert 0.003 < np.sqrt(np.mean(heard**2)) < 0.5

    asyncio.run(run())
    assert running.stop() == 0


def test_a_server_without_a_voice_says_so() -> None:
    silent = Server("engine.slots=1", "engine.voice=")
    assert [m["task"] for m in json.loads(silent.get("/v1/models")[1])["data"]] == ["transcribe"]

    async def run() -> None:
        async with websockets.connect(f"{silent.socket_url}/v1/stream") as socket:
            await say(socket, {"type": "start", "task": "generate"})
            assert "engine.voice" in (await until(socket, "error"))[-1]["message"]
            await socket.wait_closed()
            assert socket.close_code == 4404

    asyncio.run(run())
    assert silent.stop() == 0
