import runpy
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import audiomamba
from audiomamba.text.events import Final, Partial, Word

DEMO = Path(__file__).parents[2] / "demos" / "plot_captions.py"
SVG = "{http://www.w3.org/2000/svg}"
SAID = (Word("so", 0.5, 0.8, 0.9), Word("<far", 1.0, 1.4, 0.9))


class Stream:
    """Says one word after a second, two after two, and the final at the end."""

    def __init__(self) -> None:
        self.samples = 0

    def feed(self, samples: Any) -> list[Any]:
        self.samples += len(samples)
        count = self.samples // 16_000
        if not count:
            return []
        stable = "so " if count > 1 else ""
        return [Partial(0, 0.5, 1.4, stable, SAID[count - 1].word, SAID[:count])]

    def finish(self) -> list[Any]:
        return [Final(0, 0.5, 1.4, "so <far", 0.9, SAID, "finish")]


def test_words_stand_under_their_sound_and_dots_at_their_arrival(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Listener:
        def stream(self) -> Stream:
            return Stream()

    monkeypatch.setattr(audiomamba, "load", lambda name: Listener(), raising=False)
    demo = runpy.run_path(str(DEMO))
    samples = np.sin(np.arange(40_000, dtype=np.float32))
    picture = ElementTree.fromstring(demo["draw"](samples, demo["listen"](samples)))
    second = demo["SECOND"]
    shown = [
        (text.text, text.get("class"), float(text.get("x", 0)) / second)
        for text in picture.iter(f"{SVG}text")
        if text.get("class") != "second"
    ]
    assert shown == [
        ("so", "may", 0.5),
        ("so", "firm", 0.5), ("<far", "may", 1.0),
        ("so", "final", 0.5), ("<far", "final", 1.0),
    ]  # fmt: skip
    dots = [float(dot.get("cx", 0)) / second for dot in picture.iter(f"{SVG}circle")]
    assert dots == pytest.approx([1.0, 2.0, 2.5], abs=0.01)
