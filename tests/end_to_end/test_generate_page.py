"""The page's view in which sound is made, against the real server and a small waveform model."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audiomamba.models.wave.synthesizer import Synthesizer
from tests.end_to_end.serving import START_WITHIN_S, Server
from tests.models.wave.tiny import tiny_checkpoint, tiny_config
from tests.streaming.web.browser import CHROMIUM, Page, browser
from tests.streaming.web.visiting import CLIENT, NOTICE

SHOTS = os.environ.get("AUDIOMAMBA_SCREENSHOTS")  # a folder that pictures are wanted in
DIGITS = "zero one two three four five six seven eight nine".split()
RATE = 8000
AHEAD_S = 4.0
"""The page's own, from generation.js."""
SOUND = "document.body.dataset.sound"
TEXT = "document.getElementById('{}').textContent"
SPY = """
  window.frames = [];   // of sound: bytes of samples
  window.said = [];     // by the page
  window.Socket = WebSocket;
  WebSocket = class extends Socket {
    constructor(...all) {
      super(...all);
      this.addEventListener("message", ({ data }) => {
        if (typeof data !== "string") frames.push(data.byteLength - 32);
      });
    }
    send(message) {
      said.push(JSON.parse(message));
      super.send(message);
    }
  };
  const locate = URL.createObjectURL;
  URL.createObjectURL = (blob) => locate.call(URL, (window.blob = blob));
  HTMLAnchorElement.prototype.click = async function () {
    window.saved = { name: this.download, bytes: [...new Uint8Array(await blob.arrayBuffer())] };
  };
"""
RECEIVED = "frames.reduce((sum, bytes) => sum + bytes / 2, 0)"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the page is untested"),
]


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    return tiny_checkpoint(folder, tiny_config(labels=DIGITS))


@pytest.fixture(scope="module")
def server(voice: Path) -> Iterator[Server]:
    running = Server("engine.slots=2", f"engine.voice={voice}")
    yield running
    assert running.stop() == 0


def visit(
    url: str,
    body: Callable[[Page], Coroutine[Any, Any, None]],
    *flags: str,
    complaints: bool = False,
) -> None:
    async def run() -> None:
        async with browser(*flags) as page:
            await page.command("Page.addScriptToEvaluateOnNewDocument", source=SPY)
            await page.open(f"{url}/ui/#generate")
            await body(page)
            for message in await page.evaluate("said"):
                CLIENT.validate(message)
            assert complaints or page.complaints == []

    asyncio.run(asyncio.wait_for(run(), START_WITHIN_S))


async def write(page: Page, **fields: Any) -> None:
    """Fill fields of the form as a user would."""
    for name, value in fields.items():
        await page.evaluate(
            f"(() => {{ const field = document.querySelector('#wish [name={name}]');"
            f" field.value = {str(value)!r};"
            " field.dispatchEvent(new Event('input', { bubbles: true })); })()"
        )


async def click(page: Page, id: str) -> None:
    await page.evaluate(f"document.getElementById('{id}').click()")


async def offered(page: Page) -> None:
    await page.until("!document.getElementById('wish').hidden")


def test_what_is_written_is_made_heard_shown_and_saved(server: Server, voice: Path) -> None:
    async def body(page: Page) -> None:
        await offered(page)
        chips = "[...document.querySelectorAll('.chips button')].map((b) => b.textContent)"
        assert await page.evaluate(chips) == DIGITS
        assert await page.evaluate("document.getElementById('say').value") == "three one four"
        await write(page, say="3 1, FOUR", seconds=0.5, seed=42, speaker="bob", temperature=0.8)
        await page.evaluate("document.getElementById('say').focus()")
        await page.key("Enter")
        await page.until(f"{SOUND} === 'playing'")
        for name, width, height, scheme in (
            ("generate-light", 1100, 720, "light"),
            ("generate-dark", 1100, 720, "dark"),
            ("generate-phone", 360, 740, "light"),
        ):
            if SHOTS:
                await page.look(width, height, scheme)
                await page.screenshot(Path(SHOTS) / f"{name}.png")
        await page.until(f"{SOUND} === 'done'")
        assert await page.evaluate(RECEIVED) == 1.5 * RATE
        assert await page.evaluate("frames.length") >= 3 * 12  # 40 ms each
        assert await page.evaluate(TEXT.format("made-s")) == "1.50 s"
        assert await page.evaluate(TEXT.format("position")) == "1.5 / 1.5 s"
        assert 0 < float(await page.evaluate(TEXT.format("factor"))) < 10
        assert (await page.evaluate(TEXT.format("first-after"))).endswith(" ms")
        assert await page.evaluate(TEXT.format("seed-used")) == "42"
        assert await page.evaluate(TEXT.format("sound-state")) == "Done"
        drawn = (
            "(() => { const c = document.getElementById('picture');"
            " const p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
            " return p.filter((v, i) => i % 4 === 3 && v).length / (c.width * c.height); })()"
        )
        assert await page.evaluate(drawn) > 0.4
        await page.key("e")  # still in the field: a letter
        assert await page.evaluate("document.getElementById('say').value") == "3 1, FOURe"
        await write(page, say="three one four")
        await page.evaluate("document.activeElement.blur()")
        await page.key("e")
        saved = await page.until("window.saved")
        assert saved["name"] == "three-one-four-42.wav"
        samples = np.frombuffer(bytes(saved["bytes"][44:]), "<i2")
        synthesizer = Synthesizer.from_folder(voice)
        alone = [
            np.concatenate(
                list(
                    synthesizer.generate(
                        seconds=0.5, label=label, speaker="bob", seed=42 + i, temperature=0.8
                    )
                )
            )
            for i, label in enumerate(["three", "one", "four"])
        ]
        np.testing.assert_allclose(samples / 32_768, np.concatenate(alone), atol=1 / 32_768)
        await page.key(" ")  # again, from what was kept
        await page.until(f"{SOUND} === 'playing'")
        assert await page.evaluate(RECEIVED) == 1.5 * RATE
        await click(page, "keep-seed")
        await page.until(f"{SOUND} === 'done'")
        await page.key("g")
        await page.until(f"{RECEIVED} === {3 * RATE}")
        assert (await page.evaluate("said.filter((m) => m.type === 'generate')"))[3]["seed"] == 42
        await page.reload()
        await offered(page)
        remembered = "(({ say, speaker }) => [say.value, speaker.value])"
        fields = await page.evaluate(f"{remembered}(document.getElementById('wish').elements)")
        assert fields == ["three one four", "bob"]

    visit(server.url, body)


def test_a_paused_page_is_sent_no_more_than_a_few_seconds_and_goes_on(server: Server) -> None:
    async def body(page: Page) -> None:
        await offered(page)
        await write(page, say="", seconds=30)
        await click(page, "make")
        await page.until(f"{SOUND} === 'playing'")
        await page.key(" ")
        assert await page.evaluate(SOUND) == "paused"
        at = await page.evaluate("document.getElementById('seek').valueAsNumber")
        await page.until(f"{RECEIVED} >= {2 * RATE}")
        before = -1
        while before != (before := await page.evaluate(RECEIVED)):
            await asyncio.sleep(0.5)  # until nothing comes any more
        assert at + 1.9 < before / RATE < at + AHEAD_S + 0.5
        assert await page.evaluate("document.getElementById('seek').valueAsNumber") < at + 0.5
        await page.key(" ")
        await page.until(f"{RECEIVED} > {before + RATE}")
        assert await page.evaluate(SOUND) == "playing"
        await page.key("Escape")

    visit(server.url, body)


def test_cancel_works_at_once_and_keeps_what_came(server: Server) -> None:
    async def body(page: Page) -> None:
        await offered(page)
        await write(page, say="seven", seconds=300)
        await page.evaluate("document.getElementById('make').focus()")
        await page.key("Enter")
        await page.until(f"{SOUND} === 'playing'")
        assert await page.evaluate(TEXT.format("make-label")) == "Cancel"
        after = await page.evaluate(
            f"(() => {{ document.getElementById('make').click();"
            f" return [{SOUND}, document.getElementById('make-label').textContent]; }})()"
        )
        assert after == ["cancelled", "Generate"]
        assert (await page.evaluate("said"))[-1] == {"type": "cancel"}
        made = await page.evaluate(TEXT.format("made-s"))
        await page.until("!document.getElementById('save').disabled")
        await asyncio.sleep(0.5)
        assert await page.evaluate(TEXT.format("made-s")) == made
        assert await page.evaluate(SOUND) == "cancelled"
        # The place is free again: what is asked for next is made.
        await write(page, say="one", seconds=0.2)
        await click(page, "make")
        await page.until(f"{SOUND} === 'done'")
        assert await page.evaluate(TEXT.format("made-s")) == "0.20 s"

    visit(server.url, body)


LATE_TO_RUN = """
  // As a browser under load: who suspends it before it says that it runs leaves the promise open.
  const resume = AudioContext.prototype.resume;
  AudioContext.prototype.resume = async function () {
    await resume.call(this);
    await new Promise((running) => {
      setTimeout(() => this.state === "running" && running(), 300);
    });
  };
"""


def test_what_is_asked_for_next_is_made_though_the_sound_starts_late(server: Server) -> None:
    async def body(page: Page) -> None:
        await page.evaluate(LATE_TO_RUN)
        await offered(page)
        await write(page, say="seven", seconds=300)
        await click(page, "make")
        await page.until(f"{SOUND} === 'playing'")
        await click(page, "make")
        assert await page.evaluate(SOUND) == "cancelled"
        for seconds in (0.2, 0.3):
            await write(page, say="one", seconds=seconds)
            await click(page, "make")
            await page.until(f"{SOUND} === 'done'")
            assert await page.evaluate(TEXT.format("made-s")) == f"{seconds:.2f} s"

    visit(server.url, body)


SLOW = """
  WebSocket = class extends WebSocket {
    set onmessage(hear) {
      let before = Promise.resolve();
      super.onmessage = (message) => {
        const pause = typeof message.data === "string" ? 0 : 100;
        const paused = before.then(() => new Promise((go) => setTimeout(go, pause)));
        before = paused.then(() => hear(message));
      };
    }
  };
  window.states = [];
  new MutationObserver(() => states.push(document.body.dataset.sound))
    .observe(document.body, { attributeFilter: ["data-sound"] });
"""


def test_sound_that_comes_slower_than_it_plays_is_waited_for(server: Server) -> None:
    async def body(page: Page) -> None:
        await offered(page)
        await page.evaluate(f"(() => {{ {SLOW} }})()")
        await write(page, say="one", seconds=1.2)  # 30 frames of 40 ms, each 100 ms after the other
        await click(page, "make")
        await page.until(f"{SOUND} === 'done'")
        states = await page.evaluate("states")
        assert states.count("waiting") >= 1 and states[-1] == "done"
        assert states.count("waiting") <= 4  # few long pauses, not one a frame
        assert await page.evaluate(TEXT.format("position")) == "1.2 / 1.2 s"
        assert float(await page.evaluate(TEXT.format("factor"))) > 1

    visit(server.url, body)


def test_what_cannot_be_said_is_named_before_the_server_is_asked(server: Server) -> None:
    async def body(page: Page) -> None:
        await offered(page)
        await write(page, say="three hello", seconds=0)
        await click(page, "make")
        mistakes = "[...document.querySelectorAll('.mistake')].map((p) => p.textContent)"
        said, seconds, seed = await page.evaluate(mistakes)
        assert "cannot say “hello”" in said and "zero, one" in said
        assert seconds == "At least 0.1 seconds." and seed == ""
        invalid = "[...document.querySelectorAll('[aria-invalid]')].map((f) => f.name)"
        assert await page.evaluate(invalid) == ["say", "seconds"]
        assert await page.evaluate("document.activeElement.id") == "say"
        await write(page, say="three", seconds=700)
        await click(page, "make")
        assert "At most 600" in (await page.evaluate(mistakes))[1]
        assert await page.evaluate("said") == []
        await write(page, seconds=0.2)
        assert await page.evaluate(invalid) == []

    visit(server.url, body)


def test_what_the_server_refuses_is_told_in_its_words(server: Server) -> None:
    async def body(page: Page) -> None:
        await offered(page)
        # A model that was exchanged behind the page's back.
        await page.evaluate(
            "(() => { const send = WebSocket.prototype.send; WebSocket.prototype.send ="
            " function (m) { send.call(this, m.replace('\"one\"', '\"maybe\"')); }; })()"
        )
        await write(page, say="one", seconds=0.2)
        await click(page, "make")
        await page.until(f"{NOTICE}.includes(\"label 'maybe' is not known\")")
        assert await page.evaluate(SOUND) == "failed"
        assert await page.evaluate(TEXT.format("make-label")) == "Generate"

    visit(server.url, body)


def test_a_server_that_goes_away_is_told_and_what_came_is_kept(voice: Path) -> None:
    frail = Server("engine.slots=1", f"engine.voice={voice}")

    async def body(page: Page) -> None:
        await offered(page)
        await write(page, say="one", seconds=60)
        await click(page, "make")
        await page.until(f"{SOUND} === 'playing'")
        frail.process.kill()
        await page.until(f"{NOTICE}.includes('What came so far is kept')")
        await page.until(f"{SOUND} === 'done'")  # it is played to its end
        assert await page.evaluate("document.getElementById('save').disabled") is False

    visit(frail.url, body, complaints=True)
    frail.wait()


def test_a_server_without_a_waveform_model_says_how_to_start_one() -> None:
    silent = Server("engine.slots=1", "engine.voice=")

    async def body(page: Page) -> None:
        await page.until("!document.getElementById('none').hidden")
        words = await page.evaluate("document.getElementById('none').innerText")
        assert "audiomamba serve engine.voice=" in words
        assert await page.evaluate("document.getElementById('make').disabled") is True
        await page.key("g")
        assert await page.evaluate("said") == []

    visit(silent.url, body)
    assert silent.stop() == 0


def test_a_token_is_asked_for_and_let_in(voice: Path) -> None:
    guarded = Server("engine.slots=1", f"engine.voice={voice}", "server.tokens=['sesame generate']")

    async def body(page: Page) -> None:
        await page.until("document.getElementById('settings').open")
        assert "wants a token" in await page.evaluate(TEXT.format("unasked-why"))
        await page.evaluate("document.getElementById('settings').close()")
        await page.evaluate("document.getElementById('tab-captions').click()")
        await page.evaluate("document.getElementById('tab-generate').click()")
        await asyncio.sleep(0.5)
        assert await page.evaluate("document.getElementById('settings').open") is False
        await click(page, "look-once-more")
        await page.until("document.getElementById('settings').open")
        await page.evaluate(
            "(() => { document.querySelector('[name=token]').value = 'sesame';"
            " document.getElementById('settings').close(); })()"
        )
        await offered(page)
        await write(page, say="two", seconds=0.2)
        await click(page, "make")
        await page.until(f"{SOUND} === 'done'")

    visit(guarded.url, body, complaints=True)
    assert guarded.stop() == 0


def test_a_browser_that_has_not_the_rate_of_the_model_is_sent_its_own(server: Server) -> None:
    async def body(page: Page) -> None:
        await offered(page)
        await page.evaluate(
            "window.AudioContext = class extends AudioContext { constructor(wanted) {"
            " if (wanted) throw new DOMException('no', 'NotSupportedError');"
            " super(); window.rate = this.sampleRate; } }"
        )
        await write(page, say="one two", seconds=0.3)
        await click(page, "make")
        await page.until(f"{SOUND} === 'done'")
        rate = await page.evaluate("rate")
        assert rate >= 44_100
        assert await page.evaluate(RECEIVED) == pytest.approx(0.6 * rate, abs=4)
        assert await page.evaluate(TEXT.format("made-s")) == "0.60 s"

    visit(server.url, body)


def test_a_browser_whose_sound_does_not_start_says_so_and_asks_for_none(server: Server) -> None:
    async def body(page: Page) -> None:
        await offered(page)
        await page.evaluate(
            "(() => { AudioContext.prototype.resume = () => new Promise(() => {});"
            " const real = setTimeout; window.setTimeout ="
            " (f, ms, ...rest) => real(f, ms === 6000 ? 50 : ms, ...rest); })()"
        )
        await click(page, "make")
        await page.until(f"{NOTICE}.includes('does not start')")
        assert await page.evaluate(SOUND) == "failed"
        assert await page.evaluate(TEXT.format("make-label")) == "Generate"
        assert await page.evaluate("said") == []

    visit(server.url, body)


def test_a_page_that_is_not_secure_says_what_to_do(server: Server) -> None:
    async def body(page: Page) -> None:
        await offered(page)
        await click(page, "make")
        await page.until(f"{NOTICE}.includes('play sound')")
        assert "https://" in await page.evaluate(NOTICE)
        assert await page.evaluate("said") == []

    url = server.url.replace("127.0.0.1", "sound.test")
    visit(url, body, "--host-resolver-rules=MAP sound.test 127.0.0.1")


def test_the_views_are_tabs_that_keys_move_between(server: Server) -> None:
    async def body(page: Page) -> None:
        await offered(page)
        assert await page.evaluate("document.getElementById('captions').hidden") is True
        await page.evaluate("document.getElementById('tab-generate').focus()")
        await page.key("ArrowLeft")
        assert await page.evaluate("document.activeElement.id") == "tab-captions"
        assert await page.evaluate("location.hash") == ""
        panels = "[...document.querySelectorAll('[role=tabpanel]')]"
        shown = f"{panels}.filter((p) => !p.hidden).map((p) => p.id)"
        assert await page.evaluate(shown) == ["captions"]
        await page.evaluate("location.hash = '#generate'")
        await page.until(f"{shown}[0] === 'generate'")
        names = await page.evaluate(
            "[...document.querySelectorAll('#generate input, #generate select')]"
            ".filter((f) => !f.labels?.[0]?.innerText.trim() && !f.getAttribute('aria-label'))"
            ".map((f) => f.name)"
        )
        assert names == []  # every field has a label

    visit(server.url, body)


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_everything_fits_the_window(server: Server, width: int) -> None:
    async def body(page: Page) -> None:
        await page.look(width, 640)
        await offered(page)
        await write(page, say="one", seconds=0.3)
        await click(page, "make")
        await page.until(f"{SOUND} === 'done'")
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        outside = await page.evaluate(
            """[...document.querySelectorAll(
                   "header *, #generate .dock *, #picture, #wish input, #wish select")]
                 .map((e) => [e.id || e.name || e.className, e.getBoundingClientRect()])
                 .filter(([, r]) => r.width)
                 .filter(([, r]) => r.left < 0 || r.right > innerWidth)
                 .map(([id]) => id)"""
        )
        assert outside == []
        dock = "document.querySelector('#generate .dock').getBoundingClientRect().bottom"
        assert await page.evaluate(dock) <= 640

    visit(server.url, body)


def test_a_model_without_words_is_asked_for_seconds_alone(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path, tiny_config(labels=[], speakers=[], sample_rate=16_000))
    humming = Server("engine.slots=1", f"engine.voice={folder}")

    async def body(page: Page) -> None:
        await offered(page)
        assert await page.evaluate("document.getElementById('say').checkVisibility()") is False
        assert await page.evaluate("document.querySelector('[name=speaker]').disabled") is True
        await write(page, seconds=0.4)
        await click(page, "make")
        await page.until(f"{SOUND} === 'done'")
        assert await page.evaluate(RECEIVED) == 0.4 * 16_000
        [asked] = await page.evaluate("said.filter((m) => m.type === 'generate')")
        assert "input" not in asked and "voice" not in asked
        assert asked["audio"]["sample_rate"] == 16_000

    visit(humming.url, body)
    assert humming.stop() == 0
