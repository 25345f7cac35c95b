"""A visit to the page: a browser, a scripted server behind it, a file as its microphone."""

import asyncio
import base64
import io
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import soundfile

from tests.streaming.scripted import SCRIPT, ScriptedServer
from tests.streaming.web.browser import Page, browser

__all__ = [
    "ANNOUNCED",
    "LINES",
    "NOTICE",
    "STATE",
    "TEXTS",
    "WEB",
    "drop",
    "sound",
    "spoken",
    "visit",
]

WEB = Path(__file__).parents[3] / "streaming" / "web"
SCHEMA = json.loads((WEB.parent / "protocol" / "v1.schema.json").read_text())
CLIENT = jsonschema.Draft202012Validator({**SCHEMA, "$ref": "#/$defs/client"})
TEXTS = [said.text for said in SCRIPT]
LINES = "[...document.querySelectorAll('.line:not([hidden]) .text')].map((p) => p.textContent)"
STATE = "document.body.dataset.state"
NOTICE = "document.getElementById('notice').innerText"
ANNOUNCED = "document.getElementById('announcer').textContent"


def sound(seconds: float, rate: int = 16_000) -> bytes:
    """A wav file of a swept tone."""
    t = np.arange(int(seconds * rate)) / rate
    out = io.BytesIO()
    soundfile.write(out, 0.3 * np.sin(2 * np.pi * (200 + 300 * t) * t), rate, format="WAV")
    return out.getvalue()


def spoken(folder: Path) -> str:
    """The browser's flag for a microphone that hears ten seconds of it, again and again."""
    (folder / "spoken.wav").write_bytes(sound(10.0, 48_000))
    return f"--use-file-for-fake-audio-capture={folder / 'spoken.wav'}"


def visit(
    body: Callable[[Page, ScriptedServer], Coroutine[Any, Any, None]],
    *flags: str,
    server: ScriptedServer | None = None,
    host: str = "127.0.0.1",
    complaints: bool = False,
) -> None:
    server = server or ScriptedServer()
    server.page = WEB

    async def run() -> None:
        async with server.running(), browser(*flags) as page:
            port = server.url.rsplit(":", 1)[1]
            await page.open(f"http://{host}:{port}/ui/")
            await body(page, server)
            for message in (*server.starts, *server.messages):
                CLIENT.validate(message)
            assert complaints or page.complaints == []

    asyncio.run(asyncio.wait_for(run(), 60))


async def drop(page: Page, wav: bytes, name: str = "talk.wav") -> None:
    """Drop a file on the page, as a user would."""
    await page.evaluate(
        f"""(() => {{
          const binary = atob("{base64.b64encode(wav).decode()}");
          const bytes = Uint8Array.from(binary, (c) => c.charCodeAt(0));
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([bytes], "{name}", {{ type: "audio/wav" }}));
          document.dispatchEvent(new DragEvent("drop", {{ dataTransfer, bubbles: true }}));
        }})()"""
    )
