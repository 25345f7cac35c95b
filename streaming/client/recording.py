"""Sound from a server, as it is made.

::

    async for block in hear("ws://127.0.0.1:8765", label="seven"):
        play(block)                         # float32 (n,), at hear's sample_rate

Leaving the loop stops the server at once. No more is made than a few seconds ahead of the loop, so
a recording of a day costs no memory on either side.
"""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from audiomamba.errors import ConfigError, ConnectionLost, Overloaded, ProtocolError
from audiomamba.streaming.client.stream import PATH, SUBPROTOCOL, refusal

__all__ = ["hear"]

HEADER_BYTES_AT = slice(14, 16)
AHEAD_S = 4.0
"""Sound that the server may send before it is played; half of it is asked for at a time."""
NAME = "1"


async def hear(
    url: str,
    *,
    label: str | None = None,
    voice: str | None = None,
    seconds: float = 10.0,
    seed: int | None = None,
    sample_rate: int = 16_000,
    model: str | None = None,
    token: str | None = None,
    **sampling: float,
) -> AsyncGenerator[NDArray[np.float32]]:
    """Have a recording made and hear it, block by block.

    Args:
        url: ``ws://host:port`` (the path ``/v1/stream`` is added) or a full address.
        label: What; one that the server's model knows.
        voice: Whose; likewise.
        seconds: Length.
        seed: The same seed gives the same samples, as long as the model is the same.
        sample_rate: Of the blocks, Hz.
        model: Name of what makes it, where the server has several; its own choice where None.
        token: Sent as a bearer token.
        **sampling: ``temperature`` and ``top_p`` instead of the model's own.

    Raises:
        ConnectionLost: no server there, it refused, or the connection broke.
        Overloaded: too many recordings are made; says when to try again.
        ProtocolError: the server does not know the label or voice, or makes no sound.
        ConfigError: the address is none.
    """
    wish = {
        "type": "generate",
        "id": NAME,
        "input": {"label": label},
        "voice": voice,
        "seed": seed,
        "audio": {"encoding": "float32", "sample_rate": sample_rate},
        "max_s": seconds,
        "credit_s": AHEAD_S,
        **sampling,
    }
    start = {"type": "start", "task": "generate", "metrics_ms": 0, "model": model}
    address = url if url.rstrip("/").count("/") > 2 else url.rstrip("/") + PATH
    headers = {"Authorization": f"Bearer {token}"} if token else None
    try:
        async with (
            open_socket(
                address,
                subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]  # a NewType of str
                additional_headers=headers,
                compression=None,
                max_size=2**21,
            ) as socket,
            aclosing(_recording(socket, start, wish, sample_rate)) as blocks,
        ):
            async for block in blocks:
                yield block
    except InvalidStatus as error:
        raise refusal(address, error) from None
    except InvalidURI as error:
        raise ConfigError(f"url: wanted ws://host:port, got {url!r}: {error}") from None
    except ConnectionClosed as error:
        code = error.rcvd.code if error.rcvd else 1006
        raise ConnectionLost(f"{address}: connection closed ({code})", close_code=code) from None
    except (OSError, InvalidHandshake, TimeoutError) as error:
        raise ConnectionLost(f"cannot reach {address}: {error}", close_code=1006) from None


async def _recording(
    socket: ClientConnection, start: dict[str, Any], wish: dict[str, Any], sample_rate: int
) -> AsyncGenerator[NDArray[np.float32]]:
    for message in (start, wish):
        await socket.send(json.dumps({k: v for k, v in message.items() if v is not None}))
    played = 0
    while True:
        frame = await socket.recv()
        if isinstance(frame, bytes):
            header = int.from_bytes(frame[HEADER_BYTES_AT], "little")
            block = np.frombuffer(frame[header:], "<f4")
            yield block
            played += len(block)
            if played >= AHEAD_S / 2 * sample_rate:
                credit = {"type": "credit", "id": NAME, "seconds": played / sample_rate}
                await socket.send(json.dumps(credit))
                played = 0
            continue
        event = json.loads(frame)
        if event["type"] == "error":
            raise _as_error(event)
        if event["type"] == "generation_end":
            return


def _as_error(event: dict[str, Any]) -> Overloaded | ProtocolError:
    code, message = str(event["code"]), str(event["message"])
    if code == "overloaded":
        return Overloaded(message, retry_after_s=float(event.get("retry_after_s") or 1.0))
    return ProtocolError(message, code=code)
