"""The server as those see it who run it: figures, log, tokens, certificates, the end."""

import asyncio
import contextlib
import json
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets
from prometheus_client.parser import text_string_to_metric_families

from tests.end_to_end.serving import START_WITHIN_S, Server
from tests.end_to_end.speaking import START, WORDS, pcm, say, text, transcribe, until

pytestmark = pytest.mark.slow

TOKENS = 'server.tokens=["talk transcribe","chief admin","both transcribe,admin"]'
HUSH = "both"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    """Asks for tokens, logs for machines, and takes tokens in addresses."""
    server = Server(
        "engine.slots=4", TOKENS, "server.query_token=true", "server.log_format=json",
        "server.proxies=[127.0.0.1]",
    )  # fmt: skip
    yield server
    assert server.stop() == 0


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def figures(body: str) -> dict[str, float]:
    """Sums over labels, by name."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(body):
        for sample in family.samples:
            name = sample.name.removeprefix("audiomamba_")
            found[name] = found.get(name, 0.0) + sample.value
    return found


def test_figures_tell_what_streams_did() -> None:
    server = Server("engine.slots=4", "server.metrics_port=0")
    private = server.line().split()[-1].removesuffix("/metrics")
    try:
        assert text(asyncio.run(transcribe(server.socket_url))) == WORDS
        assert server.get("/metrics")[0] == 404  # not on the public port then
        server.until(lambda: "streams_total{" in server.get("/metrics", base=private)[1])
        found = figures(server.get("/metrics", base=private)[1])
        assert server.get("/readyz", base=private)[0] == 200
    finally:
        assert server.stop() == 0
    assert found["audio_received_seconds_total"] == pytest.approx(3.0)
    assert found["audio_decoded_seconds_total"] == pytest.approx(3.0)
    assert found["streams_active"] == 0 and found["ws_close_total"] == 1
    assert found["first_partial_seconds_count"] >= 1 and found["final_latency_seconds_count"] >= 1
    assert found["step_seconds_count"] > 3 and found["batch_size_count"] > 0
    assert found["queue_seconds_count"] > 0 and found["http_request_duration_seconds_count"] > 0


def test_the_server_is_small_and_without_torch() -> None:
    server = Server("engine.slots=64")
    try:
        asyncio.run(transcribe(server.socket_url))
        process = Path(f"/proc/{server.process.pid}")
        resident = int((process / "statm").read_text().split()[1]) * 4096
        assert "libtorch" not in (process / "maps").read_text()
        assert resident < 150e6
    finally:
        assert server.stop() == 0


HEADER_CASES = {
    "no token, and none can follow": ("/", {}, 401),
    "an unknown one": ("/v1/stream", bearer("wrong"), 401),
    "an unknown key": ("/v1/stream", {"X-API-Key": "wrong"}, 401),
    "one of another scope": ("/v1/stream", bearer("chief"), 403),
    "a stranger's page": ("/v1/stream", {"Origin": "https://evil.example"}, 403),
}


@pytest.mark.parametrize("case", HEADER_CASES)
def test_wrong_credentials_in_a_header_are_refused_before_the_upgrade(
    guarded: Server, case: str
) -> None:
    path, headers, status = HEADER_CASES[case]

    async def run() -> int:
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(guarded.socket_url + path, additional_headers=headers)
        return refused.value.response.status_code

    assert asyncio.run(run()) == status


OPEN_CASES: dict[str, tuple[list[str] | None, dict[str, Any], str, int]] = {
    "nothing shown": (None, {}, "unauthorized", 4401),
    "a wrong subprotocol": (["audiomamba.v1", "bearer.wrong"], {}, "unauthorized", 4401),
    "a wrong start": (None, {"auth": {"token": "wrong"}}, "unauthorized", 4401),
    "a start of another scope": (None, {"auth": {"token": "chief"}}, "forbidden", 4403),
    "a subprotocol of another scope": (["audiomamba.v1", "bearer.chief"], {}, "forbidden", 4403),
}


@pytest.mark.parametrize("case", OPEN_CASES)
def test_what_a_browser_can_show_is_refused_on_the_open_socket(guarded: Server, case: str) -> None:
    subprotocols, fields, code, close_code = OPEN_CASES[case]

    async def run() -> tuple[str | None, dict[str, Any], int | None]:
        url = f"{guarded.socket_url}/v1/stream"
        async with websockets.connect(url, subprotocols=subprotocols) as socket:  # type: ignore[arg-type]
            with contextlib.suppress(websockets.ConnectionClosed):  # it need not wait for a start
                await say(socket, {**START, **fields})
            [error] = await until(socket, "error")
            await socket.wait_closed()
            return socket.subprotocol, error, socket.close_code

    chosen, error, closed = asyncio.run(run())
    assert chosen == ("audiomamba.v1" if subprotocols else None)
    assert (error["code"], error["fatal"], closed) == (code, True, close_code)


def test_a_token_is_taken_in_every_place(guarded: Server) -> None:
    async def everywhere() -> list[str]:
        url, subprotocols = guarded.socket_url, ["audiomamba.v1", "bearer.talk"]
        said = [
            await transcribe(url, additional_headers=bearer("talk")),
            await transcribe(url, additional_headers={"X-API-Key": "both"}),
            await transcribe(url, subprotocols=subprotocols),
            await transcribe(url, start={"auth": {"token": "talk"}}),
        ]
        async with websockets.connect(f"{url}/v1/stream?token={HUSH}") as socket:
            await say(socket, START)
            await until(socket, "ready")
        return [text(heard) for heard in said]

    assert asyncio.run(everywhere()) == [WORDS] * 4


def test_figures_ask_for_a_token_of_scope_admin(guarded: Server) -> None:
    assert guarded.get("/metrics")[0] == 401
    assert guarded.get("/metrics", bearer("talk"))[0] == 403
    status, body = guarded.get("/metrics", bearer("chief"))
    assert status == 200
    assert "queue_seconds_count" in figures(body)
    assert guarded.get("/v1/models", bearer("chief"))[0] == 200
    assert guarded.get("/healthz")[0] == guarded.get("/readyz")[0] == 200


def test_the_log_has_a_line_at_both_ends_and_nothing_that_was_said(guarded: Server) -> None:
    asyncio.run(transcribe(guarded.socket_url, start={"auth": {"token": "both"}}))
    guarded.get("/version", {"X-Forwarded-For": "192.0.2.7"})
    guarded.get("/healthz")
    guarded.until(lambda: "192.0.2.7" in guarded.log())
    lines = [json.loads(line) for line in guarded.log().splitlines()]
    started = [line for line in lines if line.get("event") == "stream_start"]
    ended = {line["stream_id"]: line for line in lines if line.get("event") == "stream_end"}
    last = ended[started[-1]["stream_id"]]
    assert (last["dialect"], last["outcome"], last["code"]) == ("v1", "finished", 1000)
    assert last["audio_s"] == 3.0 and last["finals"] in (1, 2) and last["seconds"] > 0
    asked = [line["route"] for line in lines if line.get("event") == "http"]
    assert "/version" in asked and not {"/healthz", "/readyz", "/metrics"} & set(asked)
    assert not [line for line in lines if line["level"] in ("warning", "error")]
    for secret in ("zero", "five", "token=both", "bearer.", "chief"):
        assert secret not in guarded.log()


def test_what_was_said_is_logged_for_those_who_ask() -> None:
    server = Server("engine.slots=1", "server.log_text=true")
    asyncio.run(transcribe(server.socket_url))
    assert server.stop() == 0
    assert "final: zero" in server.log()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of our own for 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", str(key)]
    command += ["-out", str(cert), "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


def test_tls_is_spoken_with_a_certificate_of_one_s_own(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    trust = ssl.create_default_context(cafile=cert)
    server = Server(
        "engine.slots=1", f"server.tls_cert={cert}", f"server.tls_key={key}", trust=trust
    )
    try:
        assert server.url.startswith("https://") and server.get("/healthz")[0] == 200
        assert text(asyncio.run(transcribe(server.socket_url, ssl=trust))) == WORDS
    finally:
        assert server.stop() == 0


def test_a_certificate_that_cannot_be_read_is_one_line(certificate: tuple[Path, Path]) -> None:
    _, key = certificate
    with pytest.raises(AssertionError, match="tls_cert") as failed:
        Server(f"server.tls_cert={key}", f"server.tls_key={key}")
    assert "Traceback" not in str(failed.value)


def test_balancers_see_that_it_stops_before_clients_are_told() -> None:
    server = Server("engine.slots=2", "server.drain_notice_s=1.5")

    async def run() -> tuple[list[str], float]:
        async with websockets.connect(f"{server.socket_url}/v1/stream") as socket:
            await say(socket, START)
            await until(socket, "ready")
            server.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            await asyncio.to_thread(server.until, lambda: server.get("/readyz")[0] == 503)
            reasons = json.loads(server.get("/readyz")[1])["reasons"]
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(f"{server.socket_url}/v1/stream")
            assert refused.value.response.headers["Retry-After"]
            await until(socket, "go_away")
            return reasons, time.monotonic() - began

    reasons, told_after = asyncio.run(run())
    assert server.wait() == 0
    assert reasons == ["draining"]
    assert told_after > 1.4


def test_a_second_signal_stops_it_at_once() -> None:
    server = Server("engine.slots=2", "server.drain_notice_s=300")

    async def run() -> None:
        async with websockets.connect(f"{server.socket_url}/v1/stream") as socket:
            await say(socket, START)
            await socket.send(pcm())
            await until(socket, "partial")
            server.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(server.until, lambda: server.get("/readyz")[0] == 503)
            server.process.send_signal(signal.SIGINT)
            with pytest.raises(websockets.ConnectionClosed):
                async with asyncio.timeout(START_WITHIN_S):
                    while True:
                        await socket.recv()

    asyncio.run(run())
    assert server.wait() == 128 + signal.SIGINT
    assert "SIGINT again" in server.log()
