"""The page in a real browser: what is read, taken along and looked at."""

import asyncio
from pathlib import Path

import pytest

from tests.streaming.scripted import ScriptedServer
from tests.streaming.web.browser import CHROMIUM, Page
from tests.streaming.web.visiting import LINES, NOTICE, STATE, TEXTS, drop, sound, spoken, visit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the page is untested"),
]


@pytest.fixture
def microphone(tmp_path: Path) -> str:
    return spoken(tmp_path)


def test_what_is_said_into_the_microphone_is_read(microphone: str) -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        assert await page.evaluate(STATE) == "idle"
        await page.key(" ")
        await page.until(f"{STATE} === 'live'")
        assert server.starts[0]["audio"]["sample_rate"] >= 44_100  # the device's own
        await page.until("document.querySelector('.open .unstable')?.textContent.length > 0")
        assert await page.evaluate("document.getElementById('announcer').textContent") == ""
        await page.until(f"{LINES}.length === 2")
        assert await page.evaluate("document.getElementById('announcer').textContent") == TEXTS[0]
        assert "behind" in await page.evaluate("document.getElementById('lag').textContent")
        level = "new DOMMatrix(getComputedStyle(document.getElementById('rms')).transform).a"
        assert await page.evaluate(level) > 0.5
        await page.key(" ")
        await page.until(f"{STATE} === 'drained'")
        assert (await page.evaluate(LINES))[0] == TEXTS[0]
        assert [m["type"] for m in server.messages] == ["finish"]

    visit(body, microphone)


@pytest.mark.parametrize("paced", [True, False], ids=["in step", "at once"])
def test_a_dropped_recording_is_read(paced: bool) -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.evaluate(
            f"document.querySelector('[name=paced][value=\"{'yes' if paced else ''}\"]').click()"
        )
        began = asyncio.get_running_loop().time()
        await drop(page, sound(2.5 if paced else 6.5))
        await page.until(f"{STATE} === 'drained'")
        took = asyncio.get_running_loop().time() - began
        (stream,) = {id(s): s for s in server.streams.values()}.values()
        if paced:
            assert (await page.evaluate(LINES))[0] == TEXTS[0] and took > 2.2
            assert stream.received == pytest.approx(2.5 * 16_000, abs=200)
            return
        assert await page.evaluate(LINES) == TEXTS and took < 6.5
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
        await page.evaluate("document.getElementById('settings-open').click()")
        form = "document.querySelector('#settings form')"
        assert await page.evaluate(f"{form}.scrollWidth <= {form}.clientWidth")
        assert await page.evaluate(f"{form}.getBoundingClientRect().right") <= width

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
        await page.evaluate("document.getElementById('leave').click()")  # a phone has no keys
        await page.until("!document.body.classList.contains('full')")
        await page.key("e")
        await page.until("document.getElementById('export-menu').matches(':popover-open')")

    visit(body, microphone)


def test_the_text_can_be_copied(microphone: str) -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.evaluate("document.querySelector('[name=paced][value=\"\"]').click()")
        await drop(page, sound(6.5))
        await page.until(f"{STATE} === 'drained'")
        await page.evaluate(
            "navigator.clipboard.writeText = async (text) => { window.copied = text; }"
        )
        await page.key("e")
        await page.until("document.activeElement.dataset.format === 'copy'")
        await page.key("Enter")
        await page.until(f"{NOTICE}.includes('Copied')")
        assert await page.evaluate("window.copied") == "\n".join(TEXTS) + "\n"

    visit(body, microphone)


def test_the_line_that_is_played_is_marked() -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.evaluate("document.querySelector('[name=paced][value=\"\"]').click()")
        await drop(page, sound(6.5))
        await page.until(f"{STATE} === 'drained'")
        playing = "[...document.querySelectorAll('.playing .text')].map((p) => p.textContent)"
        await page.evaluate("document.querySelectorAll('.time')[1].click()")
        await page.until(f"{playing}.length === 1")
        assert await page.evaluate(playing) == [TEXTS[1]]
        await page.evaluate("document.getElementById('player').pause()")
        await page.until(f"{playing}.length === 0")

    visit(body)


def test_a_closed_page_loses_no_word(microphone: str) -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.key(" ")
        await page.until("document.querySelector('.open .unstable')?.textContent.length > 0")
        seen = await page.evaluate(LINES)
        await page.reload()
        await page.until(f"{STATE} === 'drained'")
        kept = await page.evaluate(LINES)
        assert kept[0].startswith(seen[0])

    visit(body, microphone)


def test_a_reader_who_wants_no_motion_gets_none(microphone: str) -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        features = [{"name": "prefers-reduced-motion", "value": "reduce"}]
        await page.command("Emulation.setEmulatedMedia", features=features)
        await page.key(" ")
        await page.until("document.querySelector('.open .unstable')?.textContent.length > 0")
        assert await page.evaluate("document.getAnimations().length") == 0

    visit(body, microphone)
