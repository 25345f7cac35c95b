"""Lines of digits, cut into words, written as recordings."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audiomamba.errors import ConfigError
from audiomamba.training.speech.kokoro.model import Kokoro, Planned, Spoken
from audiomamba.training.speech.kokoro.segments import GAP
from audiomamba.training.speech.voices import HELD_OUT, Voices
from audiomamba.training.wave import stock_digits
from audiomamba.training.wave.config import WaveDataConfig
from audiomamba.training.wave.digit_script import DIGITS
from audiomamba.training.wave.stock_digits import (
    LEAD,
    NOISE_DB,
    ONSET,
    PAUSE,
    RATE,
    TAIL,
    WORDS,
    Spelling,
    lines_of,
    main,
    noisy,
    paused,
    speak,
    speaker_of,
)
from audiomamba.training.wave.takes import read_manifest

LETTERS = {letter: number for number, letter in enumerate("zɪɹOwʌntuθifɔvIsɛkAɪmbəˈQː :,.", 1)}
SPACE = LETTERS[" "]


class Chime(nn.Module):
    """Each token lasts two frames; it is a tone of its id, spaces and marks are faint."""

    def __init__(self) -> None:
        super().__init__()
        self.device_of = nn.Parameter(torch.zeros(1))

    def plan(self, ids: Sequence[NDArray[np.uint8]], style: Tensor, speed: Tensor) -> Planned:
        assert style.shape == (len(ids), 256) and float(speed.min()) > 0.8
        tokens = np.concatenate([np.r_[0, line, 0] for line in ids])
        counts = np.cumsum([0, *(len(line) + 2 for line in ids)])
        phones = torch.from_numpy(tokens.astype(np.float32))[:, None]
        return Planned(phones, phones, style, np.full(len(tokens), 2), counts)

    def speak(self, planned: Planned, lines: Sequence[int], total: int, *, pitch: Tensor) -> Spoken:
        wave, starts, position = torch.zeros(total * 600), [], GAP
        frames = planned.line_frames().tolist()
        quiet = torch.tensor([0, SPACE, *(LETTERS[mark] for mark in ":,.")])
        for line in lines:
            span = slice(planned.offsets[line], planned.offsets[line + 1])
            each = torch.from_numpy(planned.frames[span] * 600)
            ids = planned.phones[span, 0].repeat_interleave(each)
            time = torch.arange(len(ids)) / 24_000
            level = torch.where(torch.isin(ids, quiet), 1e-4, 0.5)
            start = position * 600
            wave[start : start + len(ids)] = level * torch.sin(6.2832 * 50 * (ids + 4) * time)
            starts.append(position)
            position += frames[line] + GAP
        assert position == total
        return Spoken(wave, starts, frames)


def voices() -> Voices:
    names = sorted({*HELD_OUT, *stock_digits.VOICES})
    tables = np.random.default_rng(1).standard_normal((len(names), 110, 256)).astype(np.float32)
    return Voices(names, tables, tables.std(0))


def test_every_digit_is_in_as_many_lines() -> None:
    lines = lines_of(9, np.random.default_rng(0))
    assert Counter(digit for line in lines for digit in line.digits) == dict.fromkeys(range(10), 9)
    assert {len(line.digits) for line in lines} == {WORDS}
    assert len({line.style for line in lines}) > 5 and len({line.seed for line in lines}) == 15


def test_marks_are_drawn_out_and_ends_are_fixed() -> None:
    ids = Spelling(LETTERS, "us").ids([3, 1])
    assert Counter(ids.tolist())[SPACE] == 2 and ids[-1] == LETTERS["."]
    frames = paused(np.full(len(ids) + 2, 2), ids, SPACE)
    assert (frames[0], frames[-2], frames[-1]) == (LEAD, TAIL, 2)
    spaces = np.flatnonzero(ids == SPACE) + 1
    assert frames[spaces].tolist() == [ONSET] * 2 and frames[spaces - 1].tolist() == [PAUSE] * 2
    assert set(np.delete(frames, [0, -2, *spaces, *(spaces - 1)])) == {2}


def test_words_come_without_their_neighbours() -> None:
    spelling, lines = Spelling(LETTERS, "us"), lines_of(2, np.random.default_rng(1))
    model = cast(Kokoro, cast(Any, Chime()))
    said = list(speak(model, voices(), "af_heart", lines, spelling))
    assert [digit for digit, _ in said] == [digit for line in lines for digit in line.digits]
    tones = {digit: spelling.ids([digit])[:-1] for digit in range(10)}
    for digit, sound in said:
        own = [token for token in tones[digit].tolist()[::-1] if token != SPACE]
        power = np.square(np.abs(np.fft.rfft(sound, 1 << 15)))
        loudest = float(np.argmax(power) * RATE / (1 << 15))
        assert min(abs(loudest - 50 * (token + 4)) for token in own) < 30
        assert 0.1 < len(sound) / RATE < 0.6 and np.abs(sound[:80]).max() < 2_000


def test_noise_is_laid_under_all_of_a_word_and_below_what_it_is_trimmed_by() -> None:
    word = np.zeros(4_000, np.float32)
    word[1_000:3_000] = 0.3 * np.sin(np.arange(2_000) * 0.5)
    heard = noisy(word, np.random.default_rng(0))
    most = np.abs(word).max() * 10 ** (-NOISE_DB / 20)
    assert np.abs(heard - word).max() <= 1.001 * most
    assert all(np.std(part) > most / 2 for part in np.split(heard - word, 8))
    assert heard.dtype == np.float32 and WaveDataConfig(trim_db=40.0).trim_db < NOISE_DB
    assert not noisy(np.zeros(10, np.float32), np.random.default_rng(0)).any()


def test_what_is_written_is_read_as_recordings_of_the_voices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Voices, "load", lambda path: voices())
    monkeypatch.setattr(Kokoro, "load", lambda *rest: Chime())
    (tmp_path / "vocab.json").write_text(json.dumps({"vocab": LETTERS}))
    out = tmp_path / "made" / "k.jsonl"
    command = [str(tmp_path), str(tmp_path / "vocab.json"), str(out), "--takes", "3"]
    main([*command, "--voices", "af_heart", "bm_george"])
    assert capsys.readouterr().out.startswith("60 words, 0.")
    takes = read_manifest(out, WaveDataConfig(held_out_takes=1, trim_db=40.0), RATE)
    told = Counter((take.speaker, take.label, take.held_out) for take in takes)
    assert len(told) == 40 and {speaker_of("af_heart"), "kokoro-george"} == {
        who for who, *_ in told
    }
    assert {told[who, digit, True] for who, digit, _ in told} == {1}
    assert {told[who, digit, False] for who, digit, _ in told} == {2}
    assert {label for _, label, _ in told} == set(DIGITS)
    record = json.loads(out.read_text().splitlines()[0])
    assert record["licence"] == "Apache-2.0" and record["gender"] == "f"
    first = out.with_suffix(".tar").read_bytes(), out.read_text()
    main([*command, "--voices", "af_heart", "bm_george"])
    assert first == (out.with_suffix(".tar").read_bytes(), out.read_text())
    with pytest.raises(ConfigError, match="no voice xx_nobody"):
        main([*command, "--voices", "xx_nobody"])
