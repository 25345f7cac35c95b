"""The page against the real server and the shipped model, a recording as its microphone."""

import asyncio
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr  # type: ignore[import-untyped]

from tests.end_to_end.serving import START_WITHIN_S, Server
from tests.streaming.web.browser import CHROMIUM, browser

SPOKEN = Path(__file__).parent.parent / "recordings" / "zero_one_five.flac"
SHOTS = os.environ.get("AUDIOMAMBA_SCREENSHOTS")  # a folder that pictures are wanted in
LINES = "[...document.querySelectorAll('.line:not([hidden]) .text')].map((p) => p.textContent)"
SAID = f"{LINES}.join(' ').replace(/\\s+/g, ' ')"
STATE = "document.body.dataset.state"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the page is untested"),
]


def test_words_said_into_the_microphone_are_read_from_the_page(tmp_path: Path) -> None:
    samples, rate = soundfile.read(SPOKEN, dtype="float32")
    spoken = soxr.resample(np.concatenate([np.zeros(rate // 2), samples]), rate, 48_000)
    soundfile.write(tmp_path / "spoken.wav", spoken, 48_000)
    server = Server("engine.slots=2")

    async def run() -> None:
        flag = f"--use-file-for-fake-audio-capture={tmp_path / 'spoken.wav'}"
        async with browser(flag) as page:
            await page.open(f"{server.url}/ui/")
            await page.key(" ")
            await page.until(f"{STATE} === 'live'", START_WITHIN_S)
            await page.until(f"{SAID}.includes('zero one')", START_WITHIN_S)
            await page.until(f"{SAID}.includes('five')", START_WITHIN_S)
            for name, width, height, scheme in (
                ("light", 1100, 720, "light"),
                ("dark", 1100, 720, "dark"),
                ("phone", 360, 740, "light"),
            ):
                if SHOTS:
                    await page.look(width, height, scheme)
                    await page.screenshot(Path(SHOTS) / f"{name}.png")
            await page.key(" ")
            await page.until(f"{STATE} === 'drained'", START_WITHIN_S)
            assert page.complaints == []

    try:
        asyncio.run(asyncio.wait_for(run(), 3 * START_WITHIN_S))
    finally:
        assert server.stop() == 0
