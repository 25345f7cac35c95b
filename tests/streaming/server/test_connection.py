"""One connection on a socket of the test's own: what ends it when time runs out or things break."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from audiomamba.streaming.engine.session import SessionLimits
from audiomamba.streaming.protocol import v1
from audiomamba.streaming.server.account import Account
from audiomamba.streaming.server.connection import MAX_UNANSWERED, Connection, Gone
from audiomamba.streaming.server.limits import LimitsConfig
from audiomamba.streaming.server.resume import open_streams
from audiomamba.streaming.server.resume.config import ResumeConfig
from audiomamba.streaming.server.service import Service
from tests.streaming.energy import EnergyModel, service
from tests.streaming.server.test_account import Told

START = json.dumps({"type": "start", "metrics_ms": 0})


class FakeSocket:
    """Frames in from a list; frames out into one, unless ``stuck``."""

    def __init__(self, *frames: str | bytes, stuck: bool = False) -> None:
        self._frames = list(frames)
        self._stuck = stuck
        self.read = 0
        self.sent: list[str | bytes] = []
        self.closed: tuple[int, str] | None = None
        self.dropped = False
        self.heard = time.monotonic()

    async def receive(self) -> str | bytes:
        await asyncio.sleep(0)
        if self.read == len(self._frames):
            await asyncio.get_running_loop().create_future()
        self.read += 1
        return self._frames[self.read - 1]

    async def send(self, frame: str | bytes) -> None:
        if self._stuck:
            await asyncio.get_running_loop().create_future()
        self.sent.append(frame)

    async def close(self, code: int, reason: str) -> None:
        self.closed = code, reason

    def drop(self, code: int, reason: str) -> None:
        self.closed, self.dropped = (code, reason), True

    def heard_at(self) -> float:
        return self.heard

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(frame) for frame in self.sent]


def serve(
    socket: FakeSocket, behind: Service, at_end: Callable[[], object] = int, **limits: float
) -> Told:
    """Drive a connection to its end."""
    told = Told()

    async def run() -> None:
        connection = Connection(
            socket,
            v1.Machine(time.monotonic()),
            behind,
            streams=open_streams(ResumeConfig(), told),
            account=Account("abc", "v1", told),
            limits=LimitsConfig(**limits),  # type: ignore[arg-type]
            admit=lambda settings: None,
        )
        async with asyncio.timeout(30):
            while not behind.engines.ready:
                await asyncio.sleep(0.01)
            await connection.run()

    try:
        asyncio.run(run())
    finally:
        at_end()
        behind.engines.stop()
    return told


def test_audio_for_which_no_room_comes_is_an_overload_with_a_time() -> None:
    model, goes_on = EnergyModel(), threading.Event()

    def wait(slots: Sequence[int]) -> None:
        if any(slots):
            goes_on.wait(30)

    model.before_step = wait
    socket = FakeSocket(START, bytes(32_000 * 20))
    behind = service(model, SessionLimits(buffer_s=1.0))
    serve(socket, behind, goes_on.set, room_s=0.05, unread_s=0.1)
    error = socket.events()[-1]
    assert socket.closed == (1013, "overloaded")
    assert (error["code"], error["fatal"], error["retry_after_s"]) == ("overloaded", True, 0.05)


def test_a_model_that_breaks_is_our_mistake_and_has_a_reference() -> None:
    model = EnergyModel()

    def explode(slots: Sequence[int]) -> None:
        if any(slots):
            raise RuntimeError("on fire")

    model.before_step = explode
    socket = FakeSocket(START, bytes(32_000))
    serve(socket, service(model))
    error = socket.events()[-1]
    assert socket.closed == (1011, "internal")
    assert error["code"] == "internal" and "fire" not in error["message"]


def test_a_client_that_reads_nothing_is_dropped_and_not_read_for_ever() -> None:
    socket = FakeSocket(START, *['{"type":"ping"}'] * 10_000, stuck=True)
    serve(socket, service(), unread_s=0.2)
    assert socket.closed == (4413, "slow_reader") and socket.dropped
    assert socket.read <= MAX_UNANSWERED + 2


def test_a_close_that_cannot_be_sent_is_a_drop_too() -> None:
    class Stuck(FakeSocket):
        async def close(self, code: int, reason: str) -> None:
            await asyncio.get_running_loop().create_future()

    socket = Stuck("hello")
    serve(socket, service(), unread_s=0.2)
    assert socket.dropped


def test_an_idle_client_is_warned_and_then_closed() -> None:
    socket = FakeSocket(START)
    serve(socket, service(), idle_warning_s=0.1, idle_s=0.3)
    assert [event["type"] for event in socket.events()] == ["ready", "warning", "error"]
    assert socket.closed == (4408, "timeout")


def test_a_mistake_in_a_connection_is_logged_and_closes_it_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(FakeSocket):
        async def send(self, frame: str | bytes) -> None:
            raise ZeroDivisionError("a mistake of ours")

    socket = Broken(START)
    serve(socket, service())
    assert socket.closed == (1011, "internal")
    assert "a mistake of ours" in caplog.text


def test_a_client_that_leaves_gives_its_slot_back() -> None:
    class Leaving(FakeSocket):
        async def receive(self) -> str | bytes:
            if self.read == 2:
                raise Gone
            return await super().receive()

    behind = service()
    socket = Leaving(START, bytes(3200))
    told = serve(socket, behind)
    assert len(told.opened) == 1
    assert socket.closed is None


def test_audio_of_which_nothing_is_to_be_said_leaves_the_sender_asleep() -> None:
    socket = FakeSocket(START, *[bytes(640)] * 100, json.dumps({"type": "finish"}))
    looked: list[int] = []
    collect = Connection._collect

    async def counted(connection: Connection) -> None:
        looked.append(socket.read)
        await collect(connection)

    behind = service(EnergyModel())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "_collect", counted)
        serve(socket, behind)
    assert socket.closed == (1000, "finished")
    assert len(looked) < 50
