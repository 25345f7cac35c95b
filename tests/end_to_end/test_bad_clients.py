"""Clients that do what they should not: one clear end for each, and nobody else notices.

Every case runs beside a well-behaved stream, which has to get its transcript, and leaves all slots
free.
"""

import asyncio
import contextlib
import json
import random
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import websockets
from websockets.frames import Opcode

from tests.end_to_end.rough import Rough
from tests.end_to_end.serving import Server
from tests.end_to_end.speaking import START, WORDS, pcm, text, transcribe
from tests.streaming.protocol.mutations import V1, VOSK, mutations

pytestmark = pytest.mark.slow

Ending = tuple[int | None, list[dict[str, Any]]]
SLOTS = 6


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Impatient with those who do not read, and with room for a second of audio a stream."""
    running = Server(f"engine.slots={SLOTS}", "limits.unread_s=0.4", "engine.buffer_s=1")
    yield running
    assert running.stop() == 0


@contextmanager
def beside_a_good_stream(server: Server) -> Iterator[None]:
    """Whatever happens inside, the stream beside it is heard and every slot comes back."""
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(lambda: asyncio.run(transcribe(server.socket_url, 1600)))
        yield
        assert text(other.result()) == WORDS
    server.until(lambda: json.loads(server.get("/readyz")[1])["free"] == SLOTS)


def stream(server: Server, start: dict[str, Any] | None = None) -> Rough:
    """A connection to /v1/stream that is ready."""
    rough = Rough(f"{server.socket_url}/v1/stream")
    rough.say(start or START)
    rough.until("ready")
    return rough


def text_that_is_no_utf8(rough: Rough) -> None:
    rough.raw(rough.frame(Opcode.TEXT, b"\xff\xfe{}"))


def a_frame_past_one_mebibyte(rough: Rough) -> None:
    rough.shove(rough.frame(Opcode.BINARY, bytes((1 << 20) + 1)))


def a_message_past_one_mebibyte_in_pieces(rough: Rough) -> None:
    rough.raw(rough.frame(Opcode.BINARY, bytes(600_000), fin=False))
    rough.shove(rough.frame(Opcode.CONT, bytes(600_000)))


def a_text_past_64_kib(rough: Rough) -> None:
    rough.say({"type": "ping", "x": "y" * 70_000})


def a_frame_of_no_known_kind(rough: Rough) -> None:
    rough.raw(b"\x83\x80\0\0\0\0")


def a_frame_that_is_not_masked(rough: Rough) -> None:
    rough.raw(b"\x82\x02\0\0")


def floats_that_are_no_numbers(rough: Rough) -> None:
    rough.send(np.full(400, np.nan, "<f4").tobytes())


def infinite_floats(rough: Rough) -> None:
    rough.send(struct.pack("<2f", 0.0, float("inf")))


def more_than_is_decoded(rough: Rough) -> None:
    rough.send(bytes(1 << 20))


FLOATS = {"type": "start", "audio": {"sample_rate": 16_000, "encoding": "float32"}}
IMPATIENT = {**START, "overflow": "fail"}
CASES: dict[Callable[[Rough], None], tuple[dict[str, Any], int, str | None]] = {
    text_that_is_no_utf8: (START, 1007, None),
    a_frame_past_one_mebibyte: (START, 1009, None),
    a_message_past_one_mebibyte_in_pieces: (START, 1009, None),
    a_text_past_64_kib: (START, 1009, "too_big"),
    a_frame_of_no_known_kind: (START, 1002, None),
    a_frame_that_is_not_masked: (START, 1002, None),
    floats_that_are_no_numbers: (FLOATS, 4406, "bad_audio"),
    infinite_floats: (FLOATS, 4406, "bad_audio"),
    more_than_is_decoded: (IMPATIENT, 4429, "quota"),
}


@pytest.mark.parametrize("do", CASES, ids=lambda do: do.__name__)
def test_a_stream_that_breaks_a_rule_is_closed_with_its_code(
    server: Server, do: Callable[[Rough], None]
) -> None:
    start, code, error = CASES[do]
    with beside_a_good_stream(server), stream(server, start) as rough:
        do(rough)
        closed, heard = rough.closed_with()
    assert closed == code
    fatal = [event["code"] for event in heard if event["type"] == "error" and event["fatal"]]
    assert fatal == ([error] if error else [])


def test_a_client_that_never_reads_is_closed_and_the_code_is_there_to_be_read(
    server: Server,
) -> None:
    with beside_a_good_stream(server), stream(server) as rough:
        asks = rough.frame(Opcode.TEXT, b'{"type":"%s"}' % (b"x" * 60)) * 5_000  # long replies

        def noticed() -> bool:
            rough.shove(asks)
            return "slow_reader" in server.log()

        server.until(noticed)
        closed, heard = rough.closed_with()
    assert closed in (4413, None)  # None where the line was cut before the backlog was read
    assert {event["type"] for event in heard} <= {"error", "metrics"}


def test_a_client_that_vanishes_in_the_middle_of_a_word_gives_its_slot_back(
    server: Server,
) -> None:
    with beside_a_good_stream(server):
        for _ in range(2 * SLOTS):
            with stream(server) as rough:
                rough.send(pcm(1.6)[:-999])  # odd; "one" is being said, "zero" was heard
                rough.until("partial")


def test_audio_after_the_end_is_an_error_and_the_stream_ends_well(server: Server) -> None:
    with beside_a_good_stream(server), stream(server) as rough:
        rough.send(pcm(1.9))
        rough.say({"type": "finish"})
        rough.send(pcm(1.0))
        heard = rough.until("done")
    errors = [event for event in heard if event["type"] == "error"]
    assert [(error["code"], error["fatal"]) for error in errors] == [("after_finish", False)]
    assert text(heard) == "zero one" and heard[-1]["audio_s"] == pytest.approx(1.9)


def test_nonsense_in_a_running_stream_is_answered_and_changes_nothing(server: Server) -> None:
    with beside_a_good_stream(server), stream(server) as rough:
        audio = pcm()
        for at in range(0, len(audio), 7001):  # an odd number of bytes
            rough.send(audio[at : at + 7001])
            rough.raw(rough.frame(Opcode.TEXT, b"\0\1\2"))
        rough.say({"type": "dance"})
        rough.say({"type": "start"})
        rough.say({"type": "finish"})
        heard = rough.until("done")
    codes = [event["code"] for event in heard if event["type"] == "error"]
    assert codes == ["bad_message"] * (len(range(0, len(audio), 7001)) + 1) + ["already_started"]
    assert text(heard) == WORDS


@pytest.mark.parametrize("rate", [0, -1, 7999, 48_001, 10**30, 1.5, "fast", None, [16_000]])
def test_an_absurd_rate_is_refused(server: Server, rate: Any) -> None:
    start = {"type": "start", "audio": {"sample_rate": rate}}
    with Rough(f"{server.socket_url}/v1/stream") as rough:
        rough.say(start)
        if rate is None:  # JSON's null is the default
            assert rough.hear()["type"] == "ready"
            return
        closed, [error] = rough.closed_with()
    assert (closed, error["code"]) == (4406, "bad_audio")


@pytest.mark.parametrize("frame", [b'{"config": {"sample_rate": 3}}', b'{"config": 1'], ids=str)
def test_the_vosk_dialect_survives_wrong_configurations(server: Server, frame: bytes) -> None:
    with beside_a_good_stream(server), Rough(f"{server.socket_url}/") as rough:
        rough.raw(rough.frame(Opcode.TEXT, frame))
        rough.raw(rough.frame(Opcode.TEXT, b'{"eof" : 1}'))
        closed, _ = rough.closed_with()
    assert closed in (4406, 1000)


@pytest.mark.parametrize(("path", "frames"), [("/v1/stream", V1), ("/", VOSK)])
def test_mutated_frames_of_a_hundred_clients_disturb_nobody(
    server: Server, path: str, frames: tuple[str | bytes, ...]
) -> None:
    rng = random.Random(path)
    with beside_a_good_stream(server):
        for _ in range(50):
            server.until(lambda: json.loads(server.get("/readyz")[1])["free"] > 2)
            with Rough(server.socket_url + path) as rough, contextlib.suppress(ConnectionError):
                rough.raw(_framed(rough, frames[0]))
                for frame in mutations(frames, 20, rng.randrange(1 << 30)):
                    sent = bytearray(_framed(rough, frame))
                    if rng.random() < 0.1:  # the frame itself, and not only what is in it
                        sent[rng.randrange(len(sent))] ^= 1 << rng.randrange(8)
                    rough.raw(bytes(sent))
    assert "Traceback" not in server.log() and "failed" not in server.log()


def test_a_start_when_all_slots_went_meanwhile_is_told_when_to_come_again() -> None:
    server = Server("engine.slots=1", "limits.connections=2")
    url = f"{server.socket_url}/v1/stream"
    try:
        with Rough(url) as late, Rough(url) as first:
            with pytest.raises(websockets.InvalidStatus) as refused:
                asyncio.run(_connect(url))
            assert refused.value.response.status_code == 503
            assert refused.value.response.headers["Retry-After"]
            first.say(START)
            first.until("ready")
            late.say(START)
            closed, [error] = late.closed_with()
        assert (closed, error["code"], error["fatal"]) == (1013, "overloaded", True)
        assert error["retry_after_s"] > 0
        server.until(lambda: server.get("/readyz")[0] == 200)
    finally:
        assert server.stop() == 0


def test_a_client_that_answers_no_ping_is_closed_and_its_slot_is_back() -> None:
    server = Server("engine.slots=1", "server.ping_s=0.2", "server.pong_within_s=0.5")
    try:
        with stream(server) as rough:
            for _ in range(20):  # its pongs may be stuck behind what it sends
                rough.send(bytes(320))
                time.sleep(0.1)
            rough.say({"type": "flush"})
            rough.until("flushed")
            closed, _ = rough.closed_with()  # now it sends nothing either
            server.until(lambda: server.get("/readyz")[0] == 200)
        assert closed == 1011
        counted = 'audiomamba_ws_close_total{code="1011"} 1.0'
        server.until(lambda: counted in server.get("/metrics")[1])
    finally:
        assert server.stop() == 0


def test_silence_is_warned_of_and_ends_where_not_even_pongs_come() -> None:
    server = Server(
        "engine.slots=2", "limits.idle_warning_s=0.5", "limits.idle_s=1", "server.ping_s=0.2"
    )

    async def muted() -> bool:
        """A client that says nothing, and whose library answers pings."""
        async with websockets.connect(f"{server.socket_url}/v1/stream") as socket:
            await socket.send(json.dumps({**START, "metrics_ms": 0}))
            heard = [json.loads(await socket.recv())["type"]]
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(2.5):
                    heard.append(json.loads(await socket.recv())["type"])
            return heard == ["ready"]

    try:
        with stream(server, {**START, "metrics_ms": 0}) as rough:
            closed, heard = rough.closed_with()
        assert [event.get("code") for event in heard] == ["idle", "timeout"]
        assert closed == 4408
        assert asyncio.run(muted())
    finally:
        assert server.stop() == 0


def _framed(rough: Rough, frame: str | bytes) -> bytes:
    if isinstance(frame, str):
        return rough.frame(Opcode.TEXT, frame.encode(errors="surrogatepass"))
    return rough.frame(Opcode.BINARY, frame)


async def _connect(url: str) -> None:
    async with websockets.connect(url):
        pass
