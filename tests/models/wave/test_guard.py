"""The guard's judgement, and what it does to streams that run away, on every engine."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import audiomamba
from audiomamba.audio.mulaw import compand
from audiomamba.models.wave.generation import Generation
from audiomamba.models.wave.guard import TRIES, Guard, Verdict
from audiomamba.models.wave.recording import Recording
from audiomamba.models.wave.statistics import SoundStatistics, block_samples
from audiomamba.models.wave.synthesizer import Synthesizer
from tests.models.wave.puppet import LABELS, LEARNT, RATE, puppet_checkpoint

BLOCK = block_samples(RATE, 4)
ONLY = np.array([0])


def sound(kind: str, blocks: int) -> np.ndarray:
    rng, n = np.random.default_rng(5), blocks * BLOCK
    made = {
        "speech": 0.2 * np.sin(np.arange(n) * 0.2) * (1 + np.sin(np.arange(n) * 0.003)),
        "noise": rng.normal(0, 0.1, n),
        "hiss": 0.14 * np.sin(np.arange(n) * 0.2) + rng.normal(0, 0.04, n),
        "loud": 0.95 * np.sin(np.arange(n) * 0.2),
        "stuck": np.ones(n),
        "silent": np.zeros(n),
    }[kind]
    return compand(made.astype(np.float32)).reshape(blocks, 1, BLOCK)


def guard(**learnt: float | None) -> Guard:
    statistics = {"level_db": -12.0, "flatness": 0.1, "clipped": 0.0, "silence_s": 0.5} | learnt
    return Guard(SoundStatistics(**statistics), np.array([False]), BLOCK, RATE)  # type: ignore[arg-type]


def verdicts(own: Guard, codes: np.ndarray) -> list[Verdict]:
    return [own.judge(block, ONLY)[0] for block in codes]


def test_what_is_like_the_training_is_calm() -> None:
    assert set(verdicts(guard(), sound("speech", 40))) == {Verdict.CALM}


@pytest.mark.parametrize(
    ("kind", "name"), [("noise", "noise"), ("loud", "loudness"), ("stuck", "saturation")]
)
def test_what_runs_away_is_told_within_a_second_and_by_its_name(kind: str, name: str) -> None:
    own = guard(level_db=-20.0) if kind == "loud" else guard()
    verdicts(own, sound("speech", 10) if kind != "loud" else sound("silent", 2))
    said = verdicts(own, sound(kind, 7))
    assert Verdict.RUNAWAY in said and own.kinds == [name]


def test_a_little_too_noisy_is_suspect_for_a_second_and_then_runs_away() -> None:
    own = guard(flatness=0.05)
    said = verdicts(own, sound("hiss", 20))
    first = said.index(Verdict.SUSPECT)
    held = said[first:].index(Verdict.RUNAWAY)
    assert set(said[first : first + held]) == {Verdict.SUSPECT}
    assert held == own.most_held - 1 and 0.9 < held * BLOCK / RATE < 1.2


def test_a_suspect_moment_that_passes_is_let_through() -> None:
    own = guard(flatness=0.05)
    said = verdicts(own, np.concatenate([sound("hiss", 5), sound("speech", 20)]))
    assert Verdict.SUSPECT in said and Verdict.RUNAWAY not in said and said[-1] is Verdict.CALM


def test_silence_longer_than_was_learnt_is_told_where_it_was_learnt_to_end() -> None:
    codes = sound("silent", 30)
    limit_s = 1.5  # a second more than 0.5
    said = verdicts(guard(), codes)
    assert said.index(Verdict.ENDLESS) == int(limit_s * RATE / BLOCK)
    assert set(verdicts(guard(silence_s=None), codes)) == {Verdict.CALM}
    labelled = Guard(SoundStatistics(silence_s=0.5), np.array([True]), BLOCK, RATE)
    assert set(verdicts(labelled, codes)) == {Verdict.CALM}


def test_noise_that_is_no_worse_than_a_consonant_runs_away_when_it_lasts() -> None:
    own = guard(flatness=0.9, long_flatness=0.1)
    said = verdicts(own, np.concatenate([sound("speech", 20), sound("noise", 40)]))
    assert set(said[:20]) == {Verdict.CALM}
    assert 0.5 < (said.index(Verdict.RUNAWAY) - 20) * BLOCK / RATE < 3.5
    assert own.kinds == ["noise"]


def test_a_tone_that_does_not_change_is_told_where_none_was_learnt() -> None:
    tone = compand((0.2 * np.sin(np.arange(30 * BLOCK) * 0.37)).astype(np.float32))
    codes = tone.reshape(30, 1, BLOCK)
    own = guard(steady_s=0.5)
    said = verdicts(own, codes)
    # A block later than silence: the first is like none before it.
    assert said.index(Verdict.ENDLESS) == int(1.5 * RATE / BLOCK) + 1
    assert own.kinds == ["tone"] and own.remedy(0) == "begun anew"
    assert set(verdicts(guard(), codes)) == {Verdict.CALM}
    changing = np.concatenate([codes[:8], sound("speech", 4)] * 4)
    assert Verdict.ENDLESS not in verdicts(guard(steady_s=0.5), changing)


def test_remedies_grow_stronger_and_end() -> None:
    own = guard()
    verdicts(own, sound("stuck", 4))
    said, cooling = [], []
    for _ in range(2 * TRIES + 2):
        said.append(own.remedy(0))
        cooling.append(int(own.cooling[0]))
    again = ["drawn again"] * TRIES
    assert said == [*again, "begun anew", *again, "let go"]
    assert cooling == [1, 2, 3, 0, 1, 2, 3, 0]
    assert own.counts == {"saturation": 8}
    pardoned = verdicts(own, sound("stuck", 100))
    assert 9 < pardoned.index(Verdict.SUSPECT if Verdict.SUSPECT in pardoned else Verdict.RUNAWAY) \
        * BLOCK / RATE < 11  # fmt: skip


def test_calm_makes_warm_and_forgets_tries() -> None:
    own = guard()
    verdicts(own, sound("stuck", 4))
    assert own.remedy(0) == own.remedy(0) == "drawn again" and own.cooling[0] == 2
    own.running.forget(0)
    verdicts(own, sound("speech", 60))
    assert own.cooling[0] == 0
    verdicts(own, sound("stuck", 4))
    assert [own.remedy(0) for _ in range(4)][-1] == "begun anew"


# On the engines: a model whose label says what it does (puppet.py).


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return puppet_checkpoint(tmp_path_factory.mktemp("puppet"))


@pytest.fixture(params=["native", pytest.param("torch", marks=pytest.mark.slow)])
def model(request: pytest.FixtureRequest, folder: Path) -> Synthesizer:
    made: Synthesizer = audiomamba.load(str(folder), engine=request.param)
    return made


@pytest.fixture
def native(folder: Path) -> Synthesizer:
    """The same on the quick engine alone: what is tested does not touch the engine's own code."""
    made: Synthesizer = audiomamba.load(str(folder), engine="native")
    return made


def poison(made: Generation, kind: str, *, back: bool = False, stream: int = 0) -> None:
    """Put a stream's network into the state of another wish, as a bug or bad luck would."""
    engine, rows = made._engine, np.array([stream])
    bad = engine.begin([LABELS.index(kind)], [-1])
    engine.put(made._state, rows, bad)
    if back:
        assert made._watch is not None
        engine.put(made._watch.back, rows, bad)


def peak(samples: np.ndarray) -> float:
    return float(np.abs(samples).max())


@pytest.mark.parametrize("kind", ["noise", "stuck"])
def test_a_stream_that_runs_away_is_taken_back_and_none_of_it_is_heard(
    model: Synthesizer, kind: str
) -> None:
    made = model.start(labels=["calm"], seed=1)
    before = made.next(BLOCK)
    poison(made, kind)
    after = made.next(3 * BLOCK)
    assert peak(before) < 0.2 and peak(after) < 0.2
    assert sum(made.interventions.values()) == 1
    incident = made.incidents[0]
    assert incident.remedy == "drawn again" and incident.from_s == BLOCK / RATE
    assert f"at {incident.at_s:.1f} s, drawn again from 0.1 s" in str(incident)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="gpu: no GPU here")
def test_on_a_gpu_a_stream_of_several_is_taken_back_and_the_others_go_on(folder: Path) -> None:
    model: Synthesizer = audiomamba.load(str(folder), device="cuda")
    made, calm = (model.start(labels=["calm", "calm"], seed=1) for _ in range(2))
    made.next(BLOCK)
    poison(made, "stuck", stream=1)
    after = made.next(3 * BLOCK)
    assert peak(after) < 0.2 and made.incidents[0].stream == 1
    np.testing.assert_array_equal(after[0], calm.next(4 * BLOCK)[0, BLOCK:])


def test_without_the_guard_it_is_heard(native: Synthesizer) -> None:
    made = native.start(labels=["calm"], seed=1, guard=False)
    made.next(BLOCK)
    poison(made, "stuck")
    assert peak(made.next(BLOCK)) == 1.0
    assert made.incidents == [] and made.interventions == {}


def test_where_going_back_does_not_help_it_begins_anew(native: Synthesizer) -> None:
    made = native.start(labels=["calm"], seed=1)
    made.next(BLOCK)
    poison(made, "noise", back=True)
    assert peak(made.next(2 * BLOCK)) < 0.2
    assert [incident.remedy for incident in made.incidents] == ["drawn again"] * 3 + ["begun anew"]


def test_silence_for_ever_is_broken(native: Synthesizer) -> None:
    made = native.start(labels=["calm"], seed=1)
    made.next(BLOCK)
    poison(made, "silent")
    after = made.next(12 * BLOCK)[0].reshape(12, BLOCK)
    silent = [peak(block) < 1e-3 for block in after]
    wake = silent.index(False)
    assert all(silent[:wake]) and not any(silent[wake:])
    assert 1.3 <= wake * BLOCK / RATE < 1.3 + 2 * BLOCK / RATE
    assert made.interventions == {"silence": 1}


def test_a_hopeless_model_still_ends_and_is_let_go(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Synthesizer = audiomamba.load(str(folder))
    made = model.start(labels=["stuck"], seed=1)
    drawn = 0
    draw = model._engine.draw

    def counted(*arguments: Any) -> np.ndarray:
        nonlocal drawn
        drawn += int(arguments[-1])
        return draw(*arguments)

    monkeypatch.setattr(model._engine, "draw", counted)
    assert made.next(5 * RATE).shape == (1, 5 * RATE)
    assert made.incidents[-1].remedy == "let go"
    assert drawn < 2 * 5 * RATE


def test_cuts_saves_and_company_change_nothing(model: Synthesizer) -> None:
    def begin() -> Generation:
        return model.start(labels=["calm", None], seed=4)

    # PyTorch's steps take too long to wait for a silence to be broken.
    last = 12 if model.engine == "native" else 1

    whole = begin()
    parts = [whole.next(BLOCK)]
    poison(whole, "noise")
    parts.append(whole.next(2 * BLOCK))
    poison(whole, "silent", stream=1)
    parts.append(whole.next(last * BLOCK))

    made = begin()
    cuts = [made.next(1), made.next(BLOCK - 1)]
    poison(made, "noise")
    cuts.append(made.next(300))
    made = model.resume(made.save())
    other = model.start(labels=["noise"], seed=9)
    cuts.append(Generation.together([made, other], 2 * BLOCK - 300)[0])
    poison(made, "silent", stream=1)
    cuts.append(made.next(last * BLOCK - 100))
    again = model.resume(made.save())
    cuts.append(again.next(100))

    np.testing.assert_array_equal(np.concatenate(cuts, 1), np.concatenate(parts, 1))
    assert again.interventions == whole.interventions
    assert "silence" in whole.interventions or model.engine == "torch"
    assert again.state_bytes == whole.state_bytes


def test_where_nothing_runs_away_the_guard_changes_no_sample(native: Synthesizer) -> None:
    on, off = (
        np.concatenate(list(native.generate(seconds=0.5, seed=1, guard=guarded)))
        for guarded in (True, False)
    )
    np.testing.assert_array_equal(on, off)


def test_guidance_and_a_prompt_of_any_length_are_taken_back_too(model: Synthesizer) -> None:
    made = model.start(labels=["calm"], seed=1, guidance=1.5, prompt=np.zeros(7, np.float32))
    made.next(BLOCK)
    assert made._watch is not None
    for state in (made._state, made._watch.back):  # a network that is lost altogether
        dumped = made._engine.dump(state)
        bad = model.start(labels=["stuck"], guidance=1.5, prompt=np.zeros(7, np.float32))
        made._engine.put(state, np.array([0, 1]), bad._state)
        assert dumped.keys() == made._engine.dump(state).keys()
    assert peak(made.next(2 * BLOCK)) < 0.2
    assert made.incidents[-1].remedy == "begun anew"


def test_memory_is_that_of_the_first_second(native: Synthesizer) -> None:
    made = native.start(labels=["noise", "calm"], seed=3)
    size = made.state_bytes
    for samples in (1, 5000, 20_000):
        made.next(samples)
        assert made.state_bytes == size


def test_a_checkpoint_without_statistics_is_not_guarded(tmp_path: Path) -> None:
    model: Synthesizer = audiomamba.load(str(puppet_checkpoint(tmp_path, None)))
    made = model.start(labels=["stuck"])
    assert peak(made.next(BLOCK)) == 1.0 and made.interventions == {}
    assert LEARNT.silence_s is not None


def test_a_recording_that_is_interrupted_among_interventions_goes_on_to_the_same_bytes(
    native: Synthesizer, tmp_path: Path
) -> None:
    wishes = {"labels": ["silent", "stuck"], "seed": 5}
    whole = Recording(native.start(**wishes), tmp_path / "whole.wav", RATE)  # type: ignore[arg-type]
    assert whole.make(4 * RATE)
    cut = Recording(native.start(**wishes), tmp_path / "cut.wav", RATE)  # type: ignore[arg-type]
    blocks = iter([False] * 7 + [True])
    assert not cut.make(4 * RATE, stopped=lambda: next(blocks))
    assert cut.generation.position < 2 * RATE and cut.generation.interventions
    resumed = Recording.resume(native, tmp_path / "cut.wav")
    assert resumed.generation.interventions == cut.generation.interventions
    assert resumed.make(4 * RATE)
    for number in (1, 2):
        parts = (tmp_path / f"cut-{number}.wav").read_bytes()
        assert parts == (tmp_path / f"whole-{number}.wav").read_bytes()
    assert resumed.generation.interventions == whole.generation.interventions
    assert {"silence", "saturation"} & set(whole.generation.interventions)
