"""Recognisers as judges of single words."""

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from audiomamba.training.peers import pocketsphinx
from audiomamba.training.wave.listeners import heard_right


def test_a_word_counts_alone_however_it_is_written_and_at_16_khz() -> None:
    said = iter(["Seven.", "seven seven", "7", "", "eight"])
    lengths: list[int] = []

    def recognize(samples: np.ndarray) -> str:
        lengths.append(len(samples))
        assert np.abs(samples[:4000]).max() < 1e-6 and np.abs(samples[5000:12_000]).max() > 0.1
        return next(said)

    sounds = [0.5 * np.sin(np.arange(4000) * 0.3).astype(np.float32)] * 5
    assert heard_right(recognize, sounds, ["seven"] * 5, 8_000) == 2 / 5
    assert lengths == [2 * 4800 + 8000] * 5
    assert heard_right(recognize, [], [], 8_000) == 0


def test_of_several_words_those_count_that_are_heard() -> None:
    said = iter(["3-1.4.", "Three one one four", "31", "two six five nine", "sure", "3 1 4" * 50])
    sounds = [np.zeros(800, np.float32)] * 6
    right = heard_right(lambda samples: next(said), sounds, ["three one four"] * 6, 8_000)
    assert right == pytest.approx((3 + 2 + 2 + 0 + 0 + 2) / 18)


class Decoder:
    """What is used of pocketsphinx's class."""

    grammar, searching, heard = "", "", b""

    def __init__(self, **settings: Any) -> None:
        assert settings["samprate"] == 16_000 and settings["lm"] is None

    def add_jsgf_string(self, name: str, grammar: str) -> None:
        Decoder.grammar = grammar

    def activate_search(self, name: str) -> None:
        Decoder.searching = name

    def start_utt(self) -> None:
        Decoder.heard = b""

    def process_raw(self, pcm: bytes, full_utt: bool) -> None:
        Decoder.heard += pcm

    def end_utt(self) -> None:
        pass

    def hyp(self) -> Any:
        loud = np.frombuffer(self.heard, "<i2").max() > 1000
        return type("Hypothesis", (), {"hypstr": "two"}) if loud else None


def test_pocketsphinx_is_told_which_words_may_come(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("pocketsphinx")
    module.Decoder = Decoder  # type: ignore[attr-defined]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "pocketsphinx", module)
    pocketsphinx(["one", "two"], several=True)
    assert "public <words> = (one | two)+;" in Decoder.grammar
    recognize = pocketsphinx(["one", "two"])
    assert "public <words> = (one | two);" in Decoder.grammar and Decoder.searching == "words"
    assert recognize(np.full(10, 2.0, np.float32)) == "two"
    assert np.frombuffer(Decoder.heard, "<i2").max() == 32767
    assert recognize(np.zeros(10, np.float32)) == ""
