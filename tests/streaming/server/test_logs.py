"""Lines for people and for machines, and no secret in either."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest

from audiomamba.streaming.server import logs


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("audiomamba", "uvicorn", "asyncio")]
    before = [(one.handlers, one.propagate, one.level) for one in loggers]
    yield
    for one, (handlers, propagate, level) in zip(loggers, before, strict=True):
        one.handlers, one.propagate = handlers, propagate
        one.setLevel(level)


def lines(level: str, format: logs.Format) -> io.StringIO:
    stream = io.StringIO()
    logs.configure(level, format, stream)
    return stream


def test_a_json_line_has_the_fields_it_was_given() -> None:
    stream = lines("info", "json")
    fields = {"event": "stream_end", "stream_id": "ab", "code": None, "seconds": 1.5}
    logging.getLogger("audiomamba.stream").info("stream ended: %s", "finished", extra=fields)
    line = json.loads(stream.getvalue())
    assert line["message"] == "stream ended: finished"
    assert (line["level"], line["event"], line["stream_id"], line["seconds"]) == (
        "info", "stream_end", "ab", 1.5,
    )  # fmt: skip
    assert "code" not in line and line["time"].endswith("+00:00")


def test_a_console_line_can_be_read() -> None:
    stream = lines("info", "console")
    logging.getLogger("audiomamba.http").info("GET %s", "/version", extra={"status": 200})
    assert stream.getvalue().rstrip().endswith("info    GET /version  status=200")


@pytest.mark.parametrize("format", ["json", "console"])
def test_a_traceback_is_kept(format: logs.Format) -> None:
    stream = lines("info", format)
    try:
        raise ValueError("front end on fire")
    except ValueError:
        logging.getLogger("audiomamba").error("it broke", exc_info=sys.exc_info())
    assert "front end on fire" in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 1 or format == "console"


@pytest.mark.parametrize("format", ["json", "console"])
def test_a_token_in_an_address_is_blackened(format: logs.Format) -> None:
    stream = lines("debug", format)
    logging.getLogger("uvicorn.error").info('"WebSocket /v1/stream?a=1&token=hush&b=2" [accepted]')
    assert "hush" not in stream.getvalue()
    assert "token=[redacted]&b=2" in stream.getvalue()


def test_uvicorn_is_quiet_unless_everything_is_wanted() -> None:
    stream = lines("info", "json")
    logging.getLogger("uvicorn.error").info("Started server process")
    assert stream.getvalue() == ""
    logging.getLogger("uvicorn.error").warning("something odd")
    assert "something odd" in stream.getvalue()


def test_asyncio_does_not_warn_of_each_frame_for_a_client_that_is_gone() -> None:
    stream = lines("info", "json")
    logging.getLogger("asyncio").warning("socket.send() raised exception.")
    assert stream.getvalue() == ""
