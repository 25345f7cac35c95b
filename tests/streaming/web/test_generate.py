"""What the page offers of the models that a server lists; making sound is in tests/end_to_end."""

from typing import Any

import pytest

from tests.streaming.scripted import ScriptedServer
from tests.streaming.web.browser import CHROMIUM, Page
from tests.streaming.web.visiting import LINES, TEXTS, drop, sound, visit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the page is untested"),
]

SHOWN = (
    "[...document.querySelectorAll('[role=tabpanel]')].filter((p) => !p.hidden).map((p) => p.id)"
)


def voice(name: str, **given: Any) -> dict[str, Any]:
    about: dict[str, Any] = {"sample_rate": 8000, "labels": [], "speakers": []}
    about |= {"name": name, "temperature": 1.0, "top_p": 1.0, **given}
    return {"id": name, "object": "model", "task": "generate", "generator": about}


def offering(*voices: dict[str, Any]) -> ScriptedServer:
    server = ScriptedServer()
    listening = {"id": "scripted", "object": "model", "task": "transcribe"}
    server.answers["/v1/models"] = (200, {"object": "list", "data": [listening, *voices]})
    return server


def test_each_model_offers_what_it_can() -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.evaluate("document.getElementById('tab-generate').click()")
        await page.until("!document.getElementById('wish').hidden")
        fields = (
            "(() => { const f = document.getElementById('wish').elements;"
            " return { models: [...f.model.options].map((o) => o.value),"
            " speakers: [...f.speaker.options].map((o) => o.value), say: f.say.value,"
            " says: f.say.checkVisibility(), seconds: f.seconds.value,"
            " temperature: f.temperature.value, topP: f.topP.value }; })()"
        )
        first = await page.evaluate(fields)
        assert first == {
            "models": ["wave-digits", "wave-long"], "speakers": ["", "ann"], "say": "yes no",
            "says": True, "seconds": "1", "temperature": "0.9", "topP": "0.95",
        }  # fmt: skip
        await page.evaluate("document.querySelector('.chips button:last-child').click()")
        assert (await page.evaluate(fields))["say"] == "yes no no "
        for text, seconds, seconds_then in (("", "10", "4"), ("yes", "4", "1"), ("", "10", "10")):
            await page.evaluate(
                "(() => { const { say, seconds } = document.getElementById('wish').elements;"
                f" say.value = '{text}';"
                " say.dispatchEvent(new Event('input', { bubbles: true }));"
                f" window.usual = seconds.value; seconds.value = '{seconds_then}'; }})()"
            )
            assert await page.evaluate("usual") == seconds  # a length that was chosen stays
        await page.evaluate(
            "(() => { const { model } = document.getElementById('wish').elements;"
            " model.value = 'wave-long'; model.dispatchEvent(new Event('change')); })()"
        )
        second = await page.evaluate(fields)
        assert (second["says"], second["seconds"], second["speakers"]) == (False, "10", [""])
        assert (second["temperature"], second["topP"]) == ("1", "1")

    digits = {"labels": ["yes", "no"], "speakers": ["ann"], "temperature": 0.9, "top_p": 0.95}
    visit(body, server=offering(voice("wave-digits", **digits), voice("wave-long")))


def test_a_server_that_gets_a_model_later_is_asked_again() -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.evaluate("document.getElementById('tab-generate').click()")
        await page.until("!document.getElementById('none').hidden")
        server.answers |= offering(voice("wave-long")).answers
        await page.evaluate("document.getElementById('look-again').click()")
        await page.until("!document.getElementById('wish').hidden")
        assert await page.evaluate("document.getElementById('none').hidden") is True

    visit(body, server=offering())


def test_a_recording_that_is_dropped_is_read_in_the_view_of_captions() -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        await page.evaluate("document.querySelector('[name=paced][value=\"\"]').click()")
        await page.evaluate("document.getElementById('tab-generate').click()")
        assert await page.evaluate(SHOWN) == ["generate"]
        await drop(page, sound(6.5))
        assert await page.evaluate(SHOWN) == ["captions"]
        await page.until(f"{LINES}.length === {len(TEXTS)}")

    visit(body, server=offering())


def test_what_is_heard_goes_on_in_the_other_view_and_is_shown_on_its_tab() -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        dot = "getComputedStyle(document.getElementById('tab-captions'), '::before').content"
        await page.key(" ")
        await page.until("document.body.dataset.state === 'live'")
        assert await page.evaluate(dot) == "none"
        await page.evaluate("document.getElementById('tab-generate').click()")
        assert await page.evaluate(dot) == '""'
        await page.key("m")  # a key of the other view
        assert await page.evaluate("document.body.dataset.state") == "live"
        heard = "Object.keys(document.querySelectorAll('.line')).length"
        count = await page.evaluate(heard)
        await page.until(f"{heard} > {count}")

    visit(body, server=offering())


def test_what_is_fed_is_what_sounds() -> None:
    async def body(page: Page, server: ScriptedServer) -> None:
        heard = await page.evaluate(
            """(async () => {
              const context = new OfflineAudioContext(1, 8000, 8000);
              await context.audioWorklet.addModule("playout-worklet.js");
              const node = new AudioWorkletNode(context, "playout", { numberOfInputs: 0 });
              node.connect(context.destination);
              const told = [];
              const ended = new Promise((resolve) => (node.port.onmessage = ({ data }) => {
                told.push([data.turn, data.state, data.position]);
                if (data.state === "ended") resolve();
              }));
              node.port.postMessage({ begin: 100, turn: 7 });
              const all = Float32Array.from({ length: 3000 }, (_, i) => (i + 1) / 4096);
              for (const [from, to] of [[0, 1000], [1000, 1001], [1001, 3000]]) {
                node.port.postMessage({ samples: all.slice(from, to) });
              }
              node.port.postMessage({ end: true });
              await new Promise((resolve) => setTimeout(resolve, 200)); // they are on their way
              const out = (await context.startRendering()).getChannelData(0);
              await ended;
              return { out: [...out.slice(0, 3000)].map((x) => x * 4096), after: out[4000], told };
            })()"""
        )
        assert heard["out"] == list(range(1, 3001))
        assert abs(heard["after"]) < 1e-6
        assert heard["told"][-1] == [7, "ended", 3100]

    visit(body)
