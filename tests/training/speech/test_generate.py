"""From lines to a corpus, with a voice that is quick to run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audiomamba.training.corpus import Corpus, CorpusWriter
from audiomamba.training.speech.generate import (
    EVERYBODY,
    Cast,
    Plan,
    plan_batches,
    speak_lines,
    write_batch,
)
from audiomamba.training.speech.kokoro.model import Kokoro, Planned, Spoken
from audiomamba.training.speech.kokoro.segments import GAP
from audiomamba.training.speech.script import Script
from audiomamba.training.speech.voices import HELD_OUT, Voices


class Hum(nn.Module):
    """Every phone lasts two frames, the first one twelve; the wave is the line's first phone."""

    def __init__(self) -> None:
        super().__init__()
        self.device_of = nn.Parameter(torch.zeros(1))

    def plan(self, ids: Sequence[NDArray[np.uint8]], style: Tensor, speed: Tensor) -> Planned:
        frames = [np.array([12, *[2] * len(line), 1]) for line in ids]
        counts = np.cumsum([0, *map(len, frames)])
        first = torch.tensor([[float(line[0])] for line in ids for _ in range(len(line) + 2)])
        return Planned(first, first, style, np.concatenate(frames), counts)

    def speak(self, planned: Planned, lines: Sequence[int], total: int, *, pitch: Tensor) -> Spoken:
        wave, starts, position = torch.zeros(total * 600), [], GAP
        frames = planned.line_frames()[list(lines)].tolist()
        for line, count in zip(lines, frames, strict=True):
            level = planned.phones[int(planned.offsets[line]), 0] / 256
            wave[position * 600 : (position + count) * 600] = level
            starts.append(position)
            position += count + GAP
        return Spoken(wave, starts, frames)


def script(count: int) -> Script:
    rng = np.random.default_rng(0)
    counts = rng.integers(3, 20, count)
    phones = rng.integers(43, 150, counts.sum()).astype(np.uint8)
    texts = [f"text {i}" for i in range(count)]
    return Script(phones, np.concatenate([[0], np.cumsum(counts)]), texts, rng.random(count) < 0.3)


def voices() -> Voices:
    names = sorted([*HELD_OUT, "af_sky", "am_adam", "bf_lily", "bm_lewis", "ff_siwis"])
    tables = np.random.default_rng(1).standard_normal((len(names), 20, 256)).astype(np.float32)
    return Voices(names, tables, tables.std(0))


def speak(folder: Path, lines: range, *, cast_of: Cast = EVERYBODY) -> Corpus:
    told, who = script(60), voices()
    model = cast(Kokoro, cast(Any, Hum()))
    plan = Plan(round_lines=25, plan_lines=10, batch_frames=200)
    with CorpusWriter(folder) as writer:
        rng = np.random.default_rng(2)
        for batch in speak_lines(model, told, who, iter(lines), plan, seed=1, cast=cast_of):
            write_batch(writer, told, batch, rng)
    return Corpus(folder)


def test_every_line_is_spoken_once_with_its_own_sound(tmp_path: Path) -> None:
    corpus, told = speak(tmp_path, range(60)), script(60)
    assert sorted(u.text for u in corpus) == sorted(told.texts)
    for spoken in corpus:
        first = told.line(told.texts.index(spoken.text))[0]
        middle = spoken.audio[len(spoken.audio) // 2]
        assert middle / 32_767 == pytest.approx(first / 256, abs=1e-3)


def test_phones_last_as_long_as_the_audio_and_the_lead_is_short(tmp_path: Path) -> None:
    for spoken in speak(tmp_path, range(60)):
        assert int(spoken.phone_frames.sum()) * 400 == len(spoken.audio)
        assert spoken.phone_ids[0] == 0
        assert 2 <= spoken.phone_frames[0] <= 4


def test_a_line_has_the_same_speaker_wherever_a_run_starts(tmp_path: Path) -> None:
    whole = {u.text: u.speaker for u in speak(tmp_path / "whole", range(60))}
    rest = {u.text: u.speaker for u in speak(tmp_path / "rest", range(40, 60))}
    assert rest == {text: whole[text] for text in rest}


def test_held_out_speakers_are_held_out_voices(tmp_path: Path) -> None:
    heard = {u.speaker for u in speak(tmp_path, range(30), cast_of=Cast(held_out=True))}
    assert heard <= set(HELD_OUT)


def test_few_voices_are_the_first_ones_and_no_mixes(tmp_path: Path) -> None:
    one = {u.speaker for u in speak(tmp_path / "one", range(60), cast_of=Cast(stock=1))}
    three = {u.speaker for u in speak(tmp_path / "three", range(60), cast_of=Cast(stock=3))}
    assert one == set(voices().stock_names()[:1])
    assert three == set(voices().stock_names()[:3])


def test_batches_are_full_and_of_similar_length() -> None:
    lengths = np.random.default_rng(3).integers(20, 200, 300)
    batches, left = plan_batches(lengths, 1000)
    assert sorted([i for batch in [*batches, left] for i in batch]) == list(range(300))
    for batch in batches:
        need = GAP + sum(int(lengths[i]) + GAP for i in batch)
        assert 1000 - int(lengths.max()) - GAP < need <= 1000
        assert lengths[batch].max() - lengths[batch].min() < 60
