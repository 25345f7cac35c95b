"""The page in a real browser, with a file as its microphone and a scripted server behind it."""

import asyncio
import base64
import io
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.streaming.scripted import SCRIPT, ScriptedServer
from tests.streaming.web.browser import CHROMIUM, Page, browser

WEB = Path(__file__).parents[3] / "streaming" / "web"
TEXTS = [said.text for said in SCRIPT]
LINES = "[...document.querySelectorAll('.line:not([hidden]) .text')].map((p) => p.textContent)"
STATE = "document.body.dataset.state"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the page is untested"),
]


def sound(seconds: float, rate: int = 16_000) -> bytes:
    """A wav file of a swept tone."""
    t = np.arange(int(seconds * rate)) / rate
    out = io.BytesIO()
    soundfile.write(out, 0.3 * np.sin(2 * np.pi * (200 + 300 * t) * t), rate, format="WAV")
    return out.getvalue()


@pytest.fixture
def microphone(tmp_path: Path) -> str:
    (tmp_path / "spoken.wav").write_bytes(sound(10.0, 48_000))
    return f"--use-file-for-fake-audio-capture={tmp_path / 'spoken.wav'}"


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


def test_what_is_said_into_the_microphone_is_read(microphone: str) -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        assert await page.evaluate(STATE) == "idle"
        await page.key(" ")
        await page.until(f"{STATE} === 'live'")
        assert server.starts[0]["audio"]["sample_rate"] >= 44_100  # the device's own
        await page.until("document.querySelector('.open .unstable')?.textContent.length > 0")
        assert await page.evaluate("document.getElementById('announcer').textContent") == ""
        await page.until(f"{LINES}.length === 3")
        assert await page.evaluate("document.getElementById('announcer').textContent") == TEXTS[1]
        assert "behind" in await page.evaluate("document.getElementById('lag').textContent")
        level = "new DOMMatrix(getComputedStyle(document.getElementById('rms')).transform).a"
        assert await page.evaluate(level) > 0.5
        await page.until(f"{LINES}[2] === '{TEXTS[2]}'")
        await page.key(" ")
        await page.until(f"{STATE} === 'drained'")
        assert await page.evaluate(LINES) == TEXTS
        assert [m["type"] for m in server.messages] == ["finish"]

    visit(body, microphone)


def test_a_broken_connection_keeps_every_word(microphone: str) -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.evaluate(
            "window.seen = []; new MutationObserver(() => seen.push(document.body.dataset.state))"
            ".observe(document.body, { attributeFilter: ['data-state'] })"
        )
        await page.key(" ")
        await page.until(f"{LINES}.length === 3 && {LINES}[2] === '{TEXTS[2]}'")
        assert await page.evaluate(LINES) == TEXTS
        assert "reconnecting" in await page.evaluate("window.seen")
        assert server.starts[1]["resume"]["token"]

    visit(body, microphone, server=ScriptedServer(drop_at_s=3.0), complaints=True)


def test_a_muted_microphone_lets_time_pass_and_sends_nothing(microphone: str) -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.key(" ")
        await page.until(f"{STATE} === 'live'")
        await page.key("m")
        await page.until(f"{STATE} === 'muted'")
        await asyncio.sleep(1.5)
        await page.key("m")
        await page.until(f"{STATE} === 'live'")
        await page.key(" ")
        await page.until(f"{STATE} === 'drained'")
        gaps = [m["samples"] for m in server.messages if m["type"] == "gap"]
        rate = server.starts[0]["audio"]["sample_rate"]
        assert 1.0 <= sum(gaps) / rate <= 2.5

    visit(body, microphone)


@pytest.mark.parametrize("paced", [True, False], ids=["in step", "at once"])
def test_a_dropped_recording_is_read(paced: bool) -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.evaluate(
            f"document.querySelector('[name=paced][value=\"{'yes' if paced else ''}\"]').click()"
        )
        began = asyncio.get_running_loop().time()
        await drop(page, sound(6.5))
        await page.until(f"{STATE} === 'drained'")
        took = asyncio.get_running_loop().time() - began
        assert await page.evaluate(LINES) == TEXTS
        assert took > 6 if paced else took < 5
        (stream,) = {id(s): s for s in server.streams.values()}.values()
        assert stream.received == pytest.approx(6.5 * 16_000, abs=200)
        await page.evaluate("document.querySelectorAll('.time')[1].click()")
        await page.until("document.getElementById('player').currentTime >= 2.0")

    visit(body)


def test_the_transcript_can_be_taken_along_and_survives_a_reload() -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.evaluate("document.querySelector('[name=paced][value=\"\"]').click()")
        await drop(page, sound(6.5))
        await page.until(f"{STATE} === 'drained'")
        await page.evaluate(
            "window.saved = {}; HTMLAnchorElement.prototype.click = async function () {"
            " saved[this.download.split('.').pop()] = this.href; }"
        )
        for form in ("txt", "srt", "vtt", "json"):
            await page.evaluate(f"document.querySelector('[data-format={form}]').click()")
        assert sorted(await page.evaluate("Object.keys(saved)")) == ["json", "srt", "txt", "vtt"]
        await page.reload()
        await page.until(f"{STATE} === 'drained'")
        assert await page.evaluate(LINES) == TEXTS
        await page.evaluate("document.querySelector('[data-format=clear]').click()")
        assert await page.evaluate(LINES) == []

    visit(body)


def test_reading_back_is_not_disturbed_by_new_lines(microphone: str) -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.look(400, 420)
        await page.evaluate("document.documentElement.style.setProperty('--size', '5rem')")
        await page.key(" ")
        await page.until(f"{LINES}.length === 2")
        scroller = "document.getElementById('page')"
        await page.until(f"{scroller}.scrollTop > 100")
        await page.wheel(200, 220, -2000)
        await page.until("!document.getElementById('jump').hidden")
        await page.until(f"{LINES}.length === 3")
        assert await page.evaluate(f"{scroller}.scrollTop") == 0
        await page.evaluate("document.getElementById('jump').click()")
        assert await page.evaluate(f"{scroller}.scrollTop") > 100

    visit(body, microphone)


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_everything_fits_the_window(width: int, microphone: str) -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.look(width, 640)
        await page.key(" ")
        await page.until("!document.getElementById('lag').hidden")
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        outside = await page.evaluate(
            """[...document.querySelectorAll("header > *, .dock button, .dock select, .dock time")]
                 .map((e) => [e.id, e.getBoundingClientRect()])
                 .filter(([, r]) => r.width)
                 .filter(([, r]) => r.left < 0 || r.right > innerWidth || r.bottom > innerHeight)
                 .map(([id]) => id)"""
        )
        assert outside == []

    visit(body, microphone)


def test_keys_change_the_size_and_open_the_full_screen(microphone: str) -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        scale = "Number(document.documentElement.style.getPropertyValue('--scale'))"
        await page.key("+")
        assert await page.evaluate(scale) == pytest.approx(1.12)
        await page.key("-")
        assert await page.evaluate(scale) == pytest.approx(1.0)
        await page.key("f")
        await page.until("document.body.classList.contains('full')")
        await page.key("f")
        await page.until("!document.body.classList.contains('full')")
        await page.key("e")
        await page.until("document.getElementById('export-menu').matches(':popover-open')")

    visit(body, microphone)


def test_a_page_that_is_not_secure_says_what_to_do() -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        assert await page.evaluate("isSecureContext") is False
        said = await page.evaluate("document.getElementById('notice').innerText")
        assert "https://" in said and "localhost" in said
        await page.key(" ")
        assert await page.evaluate(STATE) == "idle"

    visit(body, "--host-resolver-rules=MAP captions.test 127.0.0.1", host="captions.test")


@pytest.mark.parametrize(
    ("refuse", "words"),
    [(("auth", 4401), "wants a token"), (("overloaded", 1013), "refused: no: overloaded")],
)
def test_a_refusal_is_explained(refuse: tuple[str, int], words: str, microphone: str) -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.key(" ")
        await page.until("!document.getElementById('notice').hidden")
        assert words in await page.evaluate("document.getElementById('notice').innerText")
        assert json.dumps(await page.evaluate(LINES)) == "[]"

    visit(body, microphone, server=ScriptedServer(refuse=refuse), complaints=True)
