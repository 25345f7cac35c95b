"""The log: one line an event, for people or for machines, to standard error.

Code logs with the standard library and puts what a machine wants into ``extra``:
``log.info("stream ended", extra={"event": "stream_end", "stream_id": …})``. Tokens and transcripts
are not logged; a token in an address is blackened all the same, because uvicorn logs addresses.
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO

__all__ = ["Console", "JsonLines", "configure", "redact"]

Format = Literal["console", "json"]

STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "color_message"}
"""Attributes every record has; the others came from ``extra``."""
SECRET = re.compile(r"(?i)\b(token|api_key|access_token)=[^&\s\"']+")


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
            **_extra(record),
        }
        if record.exc_info:
            line["traceback"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, default=str, ensure_ascii=False)


class Console(logging.Formatter):
    """``12:00:01 info    stream ended: finished  stream_id=… seconds=3.2``"""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        extra = " ".join(f"{name}={value}" for name, value in _extra(record).items())
        line = f"{time} {record.levelname.lower():7} {redact(record.getMessage())}"
        line = f"{line}  {extra}" if extra else line
        if record.exc_info:
            line += "\n" + redact(self.formatException(record.exc_info))
        return line


def configure(level: str, format: Format, stream: TextIO | None = None) -> None:
    """Send what audiomamba and uvicorn log to ``stream``, standard error unless told otherwise."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if format == "json" else Console())
    for name in ("audiomamba", "uvicorn", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(level.upper())
    if level != "debug":
        # uvicorn tells at info what our own lines tell better, and asyncio warns of each frame
        # for a client that is gone.
        for name, least in (("uvicorn", logging.WARNING), ("asyncio", logging.ERROR)):
            logger = logging.getLogger(name)
            logger.setLevel(max(least, logger.level))


def redact(text: str) -> str:
    """``text`` without the secrets an address may carry."""
    return SECRET.sub(r"\1=[redacted]", text)


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {
        name: redact(value) if isinstance(value, str) else value
        for name, value in vars(record).items()
        if name not in STANDARD and value is not None
    }
