"""Listening from a real browser: breaks, refusals, other devices, a page in the background."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.streaming.scripted import ScriptedServer
from tests.streaming.web.browser import CHROMIUM, Page
from tests.streaming.web.visiting import LINES, NOTICE, STATE, TEXTS, drop, sound, spoken, visit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the page is untested"),
]

SLACK_S = 0.5  # sound that was under way when silence began


@pytest.fixture
def microphone(tmp_path: Path) -> str:
    return spoken(tmp_path)


def test_a_muted_microphone_lets_time_pass_and_sends_nothing(microphone: str) -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.key(" ")
        await page.until(f"{STATE} === 'live'")
        began = asyncio.get_running_loop().time()
        await page.key("m")
        await page.until(f"{STATE} === 'muted'")
        await asyncio.sleep(1.5)
        await page.key("m")
        await page.until(f"{STATE} === 'live'")
        took = asyncio.get_running_loop().time() - began
        await page.key(" ")
        await page.until(f"{STATE} === 'drained'")
        gaps = [m["samples"] for m in server.messages if m["type"] == "gap"]
        rate = server.starts[0]["audio"]["sample_rate"]
        assert 1.0 <= sum(gaps) / rate <= took + SLACK_S

    visit(body, microphone)


def test_a_broken_connection_keeps_every_word(microphone: str) -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.evaluate(
            "window.seen = []; new MutationObserver(() => seen.push(document.body.dataset.state))"
            ".observe(document.body, { attributeFilter: ['data-state'] })"
        )
        await page.key(" ")
        await page.until(f"{LINES}.length === 2 && {LINES}[1] === '{TEXTS[1]}'")
        assert await page.evaluate(LINES) == TEXTS[:2]
        assert "reconnecting" in await page.evaluate("window.seen")
        assert server.starts[1]["resume"]["token"]

    visit(body, microphone, server=ScriptedServer(drop_at_s=1.0), complaints=True)


def test_a_page_that_is_not_secure_says_what_to_do() -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        assert await page.evaluate("isSecureContext") is False
        said = await page.evaluate("document.getElementById('notice').innerText")
        assert "https://" in said and "localhost" in said
        await page.key(" ")
        assert await page.evaluate(STATE) == "idle"
        await page.evaluate("document.querySelector('[name=paced][value=\"\"]').click()")
        await drop(page, sound(2.0))  # recordings need no microphone
        await page.until(f"{STATE} === 'drained'")
        assert (await page.evaluate(LINES))[0] == TEXTS[0]

    visit(body, "--host-resolver-rules=MAP captions.test 127.0.0.1", host="captions.test")


@pytest.mark.parametrize(
    ("refuse", "words"),
    [(("auth", 4401), "wants a token"), (("overloaded", 1013), "full or busy: no: overloaded")],
)
def test_a_refusal_is_explained(refuse: tuple[str, int], words: str, microphone: str) -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.key(" ")
        await page.until("!document.getElementById('notice').hidden")
        assert words in await page.evaluate("document.getElementById('notice').innerText")
        assert json.dumps(await page.evaluate(LINES)) == "[]"

    visit(body, microphone, server=ScriptedServer(refuse=refuse), complaints=True)


@pytest.mark.parametrize(
    ("path", "answer", "words"),
    [
        ("/readyz", (503, {"ready": False, "reasons": ["full"]}), "All places"),
        ("/v1/models", (401, {}), "wants a token"),
        ("/readyz", (200, {"ready": True}), "a proxy between"),
    ],
)
def test_a_socket_that_does_not_open_is_explained(
    path: str, answer: tuple[int, object], words: str, microphone: str
) -> None:
    server = ScriptedServer()
    server.answers |= {path: answer, "/v1/stream": (403, {})}

    async def body(page: Page, server: ScriptedServer) -> None:
        await page.key(" ")
        await page.until(f"{NOTICE}.includes('{words}')")
        assert await page.evaluate(STATE) == "idle"

    visit(body, microphone, server=server, complaints=True)


def test_a_server_that_forgot_the_stream_doubles_and_loses_nothing(microphone: str) -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.key(" ")
        await page.until(f"{LINES}.length === 2")
        while len(server.starts) < 2:
            await asyncio.sleep(0.05)
        await page.until(f"{STATE} === 'live'")
        lines = await page.evaluate(LINES)
        assert lines[0] == TEXTS[0]
        assert len(lines) <= 3  # the half line was said again, not twice
        assert "resume" not in server.starts[0]

    server = ScriptedServer(drop_at_s=3.0, forget=True)
    visit(body, microphone, server=server, complaints=True)


def test_another_microphone_can_be_chosen_while_one_is_heard(microphone: str) -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.key(" ")
        await page.until(f"{STATE} === 'live'")
        await page.until("document.querySelectorAll('#source option').length > 2")
        names = await page.evaluate(
            "[...document.querySelectorAll('#source option')].map((o) => o.textContent)"
        )
        await page.evaluate(
            "(() => { const s = document.getElementById('source'); s.selectedIndex = 1;"
            " s.dispatchEvent(new Event('change')); })()"
        )
        await page.until(f"{NOTICE}.includes('Listening to {names[1]}')")
        (stream,) = {id(s): s for s in server.streams.values()}.values()
        before = stream.received
        await page.until(f"{LINES}.length === 2")
        assert stream.received > before and len(server.starts) == 1
        await page.reload()
        await page.until("document.getElementById('source').value !== ''")  # remembered

    visit(body, microphone, "--use-fake-device-for-media-stream=device-count=3")


def test_a_microphone_that_goes_away_is_replaced(microphone: str) -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.evaluate(
            "(() => { const devices = navigator.mediaDevices;"
            " const ask = devices.getUserMedia.bind(devices);"
            " devices.getUserMedia = async (c) => (window.media = await ask(c)); })()"
        )
        await page.key(" ")
        await page.until(f"{STATE} === 'live'")
        await page.evaluate("window.media.getAudioTracks()[0].dispatchEvent(new Event('ended'))")
        await page.until(f"{NOTICE}.includes('went away')")
        await page.until(f"{LINES}.length === 2")
        assert len(server.starts) == 1

    visit(body, microphone)


def test_what_a_hidden_page_did_not_hear_is_counted_and_told(microphone: str) -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.evaluate(
            "window.AudioContext = class extends AudioContext {"
            " constructor(...all) { super(...all); window.context = this; } };"
            "window.hide = (hidden) => { Object.defineProperty(document, 'hidden',"
            " { value: hidden, configurable: true });"
            " document.dispatchEvent(new Event('visibilitychange')); }"
        )
        await page.key(" ")
        await page.until(f"{STATE} === 'live'")
        began = asyncio.get_running_loop().time()
        await page.evaluate("hide(true)")
        assert "background" in await page.evaluate("document.title")
        await page.evaluate("context.suspend()")
        await asyncio.sleep(1.5)
        await page.evaluate("hide(false)")
        await page.until(f"{NOTICE}.includes('were not heard')")
        await page.until("context.state === 'running'")
        took = asyncio.get_running_loop().time() - began
        assert "background" not in await page.evaluate("document.title")
        (gap,) = [m["samples"] for m in server.messages if m["type"] == "gap"]
        assert 1.0 < gap / server.starts[0]["audio"]["sample_rate"] < took + SLACK_S

    visit(body, microphone)


def test_a_sound_card_of_96_khz_is_heard(microphone: str) -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.evaluate(
            "window.AudioContext = class extends AudioContext {"
            " constructor() { super({ sampleRate: 96_000 }); } }"
        )
        await page.key(" ")
        await page.until(f"{LINES}.length === 1")
        assert server.starts[0]["audio"]["sample_rate"] == 48_000

    visit(body, microphone)


def test_a_server_that_says_nothing_any_more_is_left(microphone: str) -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.evaluate(
            "(() => { const real = setInterval; window.setInterval ="
            " (f, ms, ...rest) => real(f, ms === 4000 ? 300 : ms, ...rest); })()"
        )
        await page.key(" ")
        await page.until(f"{LINES}.length === 2")  # what was said after the silence began
        assert server.starts[1]["resume"]["token"]

    visit(body, microphone, server=ScriptedServer(silent_at_s=1.0), complaints=True)


SHARE = """
  window.shares = [];
  navigator.mediaDevices.getDisplayMedia = async () => {
    const context = new AudioContext();
    const out = context.createMediaStreamDestination();
    const tone = context.createOscillator();
    tone.connect(out);
    tone.start();
    shares.push(out.stream);
    return out.stream;
  };
  const select = document.getElementById('source');
  select.value = 'tab';
  select.dispatchEvent(new Event('change'));
"""


def test_the_sound_of_a_tab_is_heard_until_its_share_is_ended(microphone: str) -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.until("document.querySelectorAll('#source option').length > 1")
        await page.evaluate(f"(() => {{ {SHARE} }})()")
        await page.key(" ")
        await page.until(f"{LINES}.length === 1")
        await page.evaluate("shares[0].getAudioTracks()[0].dispatchEvent(new Event('ended'))")
        await page.until(f"{STATE} === 'drained'")
        assert "share was ended" in await page.evaluate(NOTICE)

    visit(body, microphone)


def test_a_share_without_sound_says_what_to_tick(microphone: str) -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.until("document.querySelectorAll('#source option').length > 1")
        await page.evaluate(f"(() => {{ {SHARE} }})()")
        await page.evaluate(
            "navigator.mediaDevices.getDisplayMedia = async () => new MediaStream([])"
        )
        await page.key(" ")
        await page.until(f"{NOTICE}.includes('share audio')")
        assert await page.evaluate(STATE) == "idle" and server.starts == []

    visit(body, microphone)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NotAllowedError", "was not allowed"),
        ("NotFoundError", "No such microphone"),
        ("NotReadableError", "in use by another program"),
    ],
)
def test_a_microphone_that_does_not_open_is_explained(
    name: str, words: str, microphone: str
) -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.evaluate(
            "navigator.mediaDevices.getUserMedia = async () => "
            f"{{ throw new DOMException('no', '{name}'); }}"
        )
        await page.key(" ")
        await page.until(f"{NOTICE}.includes('{words}')")
        assert await page.evaluate(STATE) == "idle"

    visit(body, microphone)


def test_the_screen_stays_awake_as_long_as_it_is_listened(microphone: str) -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.evaluate(
            "(() => { window.awake = 0; const lock = { release: async () => { awake -= 1; } };"
            " Object.defineProperty(navigator, 'wakeLock',"
            " { value: { request: async () => { awake += 1; return lock; } } }); })()"
        )
        await page.key(" ")
        await page.until(f"{STATE} === 'live'")
        assert await page.evaluate("awake") == 1
        await page.key(" ")
        await page.until("!document.body.classList.contains('running')")
        assert await page.evaluate("awake") == 0

    visit(body, microphone)


def test_a_browser_whose_sound_does_not_start_says_so_and_lets_go(microphone: str) -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.evaluate(
            "(() => { AudioContext.prototype.resume = () => new Promise(() => {});"
            " const real = setTimeout; window.setTimeout ="
            " (f, ms, ...rest) => real(f, ms === 6000 ? 50 : ms, ...rest);"
            " const devices = navigator.mediaDevices;"
            " const ask = devices.getUserMedia.bind(devices);"
            " devices.getUserMedia = async (c) => (window.media = await ask(c)); })()"
        )
        await page.key(" ")
        await page.until(f"{NOTICE}.includes('does not start')")
        assert await page.evaluate(STATE) == "idle"
        assert await page.evaluate("media.getTracks()[0].readyState") == "ended"

    visit(body, microphone)
