"""Single digits for the synthetic voices."""

from collections import Counter
from pathlib import Path

from audiomamba.training.speech.script import Script
from audiomamba.training.wave.digit_script import DIGITS, digit_script

LETTERS = {letter: number for number, letter in enumerate("zɪɹOwʌntuθifɔvIsɛkAɪ.", 1)}


def test_every_digit_comes_as_often_and_sounds_like_itself(tmp_path: Path) -> None:
    script = digit_script(LETTERS, 200, seed=3)
    assert Counter(script.texts) == dict.fromkeys(DIGITS, 20)
    assert 20 < script.british.sum() < 80
    lines = {
        (text, bool(gb)): bytes(script.line(i))
        for i, (text, gb) in enumerate(zip(script.texts, script.british, strict=True))
    }
    assert len(lines) == 20 and all(len(line) >= 2 for line in lines.values())
    assert len({line for (_, gb), line in lines.items() if not gb}) == 10
    script.save(tmp_path / "script-1.npz.xz")
    assert Script.load(tmp_path / "script-1.npz.xz").texts == script.texts
    assert digit_script(LETTERS, 200, seed=3).texts == script.texts
