"""What can be known of the page without a browser."""

import re
from pathlib import Path

import pytest

WEB = Path(__file__).parents[3] / "streaming" / "web"
CSS = (WEB / "style.css").read_text()
HTML = (WEB / "index.html").read_text()
TEXT = ("ink", "quiet", "pale", "accent", "alarm")
GROUNDS = ("paper", "surface")


def colours(scheme: str) -> dict[str, str]:
    blocks = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    light = dict(re.findall(r"--([\w-]+): (#\w{6})", blocks[0]))
    return (
        light if scheme == "light" else light | dict(re.findall(r"--([\w-]+): (#\w{6})", blocks[1]))
    )


def luminance(colour: str) -> float:
    def linear(value: float) -> float:
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(int(colour[i : i + 2], 16) / 255) for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_colour_has_a_contrast_of_4_5(scheme: str) -> None:
    named = colours(scheme)
    pairs = [(text, ground) for text in TEXT for ground in GROUNDS]
    for text, ground in [*pairs, ("on-accent", "accent"), ("accent", "wash")]:
        ratio = contrast(named[text], named[ground])
        assert ratio >= 4.5, f"{scheme}: {text} on {ground} is {ratio:.2f}:1"


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", HTML)
    for file in WEB.iterdir():
        found = re.findall(r"https?://[\w./-]+", file.read_text())
        assert set(found) <= {"http://www.w3.org/2000/svg"}, f"{file.name}: {found}"


def test_the_policy_allows_no_inline_code() -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', HTML)
    assert policy and "unsafe" not in policy[1] and "default-src 'none'" in policy[1]


def test_every_control_has_a_name() -> None:
    for tag, inner in re.findall(r"(<button[^>]*>)(.*?)</button>", HTML, re.DOTALL):
        words = re.sub(r"<[^>]+>", "", inner).strip()
        assert words or "aria-label=" in tag, tag
