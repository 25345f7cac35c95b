"""From a configuration to a checkpoint that makes sound."""

import math
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

import audiomamba
from audiomamba.audio.mulaw import compand
from audiomamba.errors import ConfigError
from audiomamba.models.wave.config import StageConfig
from audiomamba.models.wave.model import Wave
from audiomamba.training.experiment import compose, train
from audiomamba.training.gradients import FlatGradient
from audiomamba.training.parallel import Parallel
from audiomamba.training.wave import run
from audiomamba.training.wave.config import (
    StringsConfig,
    WaveDataConfig,
    WaveExperiment,
    WaveRunConfig,
)
from audiomamba.training.wave.run import gather_takes, prepare, sound_statistics, train_wave
from audiomamba.training.wave.strings import strings
from audiomamba.training.wave.takes import Take
from tests.models.wave.tiny import LTI, tiny_config

ALONE = Parallel(0, 1, torch.device("cpu"))


def experiment(out: Path, steps: int, **data: object) -> WaveExperiment:
    train = WaveRunConfig(out=str(out), steps=steps, device="cpu", precision="float32")
    train.optimizer.lr, train.optimizer.warmup_steps, train.optimizer.decay_share = 1e-2, 1, 0.0
    train.optimizer.rewarm_steps = 0
    settings = {"length": 48, "batch": 4, "lead_s": 0.0} | data
    return WaveExperiment(
        model=tiny_config(labels=[], speakers=[]),
        data=WaveDataConfig(**settings),  # type: ignore[arg-type]
        train=train,
    )


def takes() -> list[Take]:
    wave = np.tile(np.arange(100, 148, 4, dtype=np.uint8), 30)
    return [Take(wave, "saw", "machine", held_out, held_out) for held_out in (False, True)]


@pytest.mark.slow
def test_an_experiment_writes_a_checkpoint_that_makes_sound(tmp_path: Path) -> None:
    config = compose(
        ["experiment=wave_miniature", "train.steps=2", f"train.out={tmp_path}",
         "train.sampling.top_p=0.9"]
    )  # fmt: skip
    assert train(config).step == 2
    model = audiomamba.load(str(tmp_path / "export"))
    assert model.config.labels == ["ambience", "music"] and model.sampling.top_p == 0.9
    sound = np.concatenate(list(model.generate(seconds=0.1, label="music")))
    assert sound.shape == (800,)


def test_what_comes_again_and_again_is_learnt(tmp_path: Path) -> None:
    _, objective = train_wave(experiment(tmp_path, 60), takes=takes())
    assert objective.last_bits["all"] < 0.5 * math.log2(256)
    assert objective.description["model"]["speakers"] == ["machine"]
    statistics = objective.description["statistics"]
    assert -70 < statistics["level_db"] < -50 and statistics["silence_s"] == 0


def test_rows_that_outlast_their_recording_end_in_silence_without_a_limit(tmp_path: Path) -> None:
    def silences(**data: object) -> tuple[bool, bool]:
        found = sound_statistics(takes()[:1], experiment(tmp_path, 1, **data))
        return found.silence_s is None, found.labelled_silence_s is None

    assert silences(length=48) == (False, False)
    assert silences(length=6_000, drop_label=0.0) == (False, True)
    assert silences(length=600, carry=10) == (True, True)


def test_a_run_taken_up_again_goes_on_with_its_rows(tmp_path: Path) -> None:
    for carry in (1, 2):
        parts, whole = tmp_path / f"parts{carry}", tmp_path / f"whole{carry}"
        train_wave(experiment(parts, 2, carry=carry), takes=takes())
        resumed = experiment(parts, 4, carry=carry)
        resumed.train.resume = "last"
        _, once = train_wave(experiment(whole, 4, carry=carry), takes=takes())
        _, twice = train_wave(resumed, takes=takes())
        for name, weight in once.model.state_dict().items():
            torch.testing.assert_close(twice.model.state_dict()[name], weight, rtol=0, atol=1e-5)


def test_what_is_gone_on_with_keeps_its_labels_and_speakers_in_their_order(tmp_path: Path) -> None:
    saw, other = takes()[0], np.full(200, 140, np.uint8)
    both = [saw, Take(other, "flat", "ann", held_out=False)]
    train_wave(experiment(tmp_path / "a", 1), takes=both)
    for resume in ("a", "a/export"):
        config = experiment(tmp_path / resume.replace("/", "-"), 2)
        config.train.resume = str(tmp_path / resume)
        _, objective = train_wave(config, takes=[saw, Take(other, "new", "eve", held_out=False)])
        assert objective.model.config.labels == ["flat", "saw"]
        assert objective.model.config.speakers == ["ann", "machine"]


def test_a_state_that_is_handed_on_gives_the_loss_of_the_whole(tmp_path: Path) -> None:
    """Two steps over halves of a row see what one step over the row sees."""
    losses = []
    for length, carry in ((96, 1), (48, 2)):
        config = experiment(tmp_path, 1, length=length, carry=carry)
        objective = prepare(config, takes(), ALONE)
        objective.attach(FlatGradient(objective.model), nullcontext())
        parts = [objective.step(objective.batch(step), 0.0) for step in range(carry)]
        losses.append(float(torch.stack(parts).mean()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="gpu: no GPU here")
@pytest.mark.parametrize("carry", [1, 2])
def test_a_captured_step_is_the_step(tmp_path: Path, carry: int) -> None:
    device = Parallel(0, 1, torch.device("cuda"))
    losses = []
    for graphs in (False, True):
        config = experiment(tmp_path, 1, carry=carry)
        config.train.graphs = graphs
        objective = prepare(config, takes(), device)
        gradient = FlatGradient(objective.model)
        objective.attach(gradient, nullcontext())
        bits = [float(objective.step(objective.batch(n), 0.0)) for n in range(4)]
        losses.append([*bits, float(gradient.flat.norm())])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_bits_are_measured_on_what_is_held_out(tmp_path: Path) -> None:
    config = experiment(tmp_path, 1)
    objective = prepare(config, takes(), ALONE)
    with torch.no_grad():
        objective.model.head.weight.zero_()
        objective.model.head.bias.zero_()
    weights = {name: p.detach() for name, p in objective.model.named_parameters()}
    assert objective.evaluate(weights) == ["all 8.0000 bits"]
    nothing = prepare(experiment(tmp_path, 1), takes()[:1], ALONE)
    assert nothing.evaluate(weights) == []


def words(seed: int, *, held_out: bool = False) -> list[Take]:
    """Noise that is a little louder, or a little lower, where it begins: ``high`` or ``low``."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(200):
        codes = rng.integers(100, 156, 48)
        codes[:12] += 10 if number % 2 else -10
        label = "high" if number % 2 else "low"
        made.append(Take(codes.astype(np.uint8), label, "ann", held_out))
    return made


def test_labels_that_are_not_heard_cost_as_much_as_any_other(tmp_path: Path) -> None:
    fresh = prepare(experiment(tmp_path, 1), words(0) + words(1, held_out=True), ALONE)
    with torch.no_grad():
        fresh.model.conditioning.out.weight.zero_()
    weights = {name: p.detach() for name, p in fresh.model.named_parameters()}
    assert fresh.evaluate(weights)[0].endswith("told 0 %")  # no gap at all


def test_sound_made_by_rule_has_its_kind_for_a_label_and_a_held_out_piece() -> None:
    data = WaveDataConfig()
    data.made.minutes, data.made.piece_s, data.made.kinds = 0.05, 1.0, ["ambience"]
    made = gather_takes(data, 8_000)
    assert [(t.label, len(t.codes), t.held_out) for t in made] == [
        ("ambience", 8_000, False), ("ambience", 8_000, True), ("ambience", 8_000, False),
    ]  # fmt: skip


@pytest.mark.slow
def test_processes_make_the_same_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    data = WaveDataConfig()
    data.made.minutes, data.made.piece_s = 0.05, 1.0
    alone = gather_takes(data, 8_000)
    monkeypatch.setattr(run, "_WORTH_PROCESSES_S", 0.0)
    for one, other in zip(alone, gather_takes(data, 8_000), strict=True):
        np.testing.assert_array_equal(one.codes, other.codes)
        assert (one.label, one.held_out) == (other.label, other.held_out)


def test_rows_that_are_not_whole_periods_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="multiple of 6"):
        prepare(experiment(tmp_path, 1, length=50), takes(), ALONE)


@pytest.mark.parametrize(
    ("override", "size"),
    [("wave_digits", 2.26e6), ("wave_long", 2.26e6), ("model=wave_base", 6.27e6)],
)
def test_the_sizes_that_ship(override: str, size: float) -> None:
    name = override if "=" not in override else "wave_digits"
    config = compose([f"experiment={name}", "train.steps=1", *[override] * ("=" in override)])
    assert isinstance(config, WaveExperiment)
    config.model.labels = []
    assert sum(p.numel() for p in Wave(config.model).parameters()) == pytest.approx(size, rel=0.02)


RATE = 4_000
PITCHES = {"up": (250, 1_000), "down": (1_000, 250)}


def melody(label: str, rng: np.random.Generator) -> np.ndarray:
    """Two tones, the lower or the higher one first."""
    half = int(rng.uniform(0.022, 0.028) * RATE)
    time = np.arange(half) / RATE
    tones = [np.sin(2 * np.pi * hz * time + rng.uniform(0, 6)) for hz in PITCHES[label]]
    return compand((0.5 * np.concatenate(tones)).astype(np.float32))


def melodies(*, held_out: bool) -> list[Take]:
    rng = np.random.default_rng(int(held_out))
    count = 15 if held_out else 60
    return [Take(melody(n, rng), n, "ann", held_out) for n in PITCHES for _ in range(count)]


def higher(sound: np.ndarray) -> bool:
    """Whether the higher tone is the stronger one."""
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), RATE))
    low, high = (power[hz - 60 : hz + 60].max() for hz in PITCHES["up"])
    return bool(high > low)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """A model of two words that was trained on words and strings for some seconds."""
    config = experiment(
        tmp_path_factory.mktemp("melodies"), 180,
        length=800, batch=4, drop_label=0.1, drop_speaker=0.0, tail_s=0.02,
    )  # fmt: skip
    config.model = tiny_config(
        labels=[], speakers=[], label_states=2, sample_rate=RATE, pools=[4],
        stages=[StageConfig(width=16, layers=[LTI]), StageConfig(width=32, layers=[LTI])],
    )  # fmt: skip
    words = melodies(held_out=False)
    pieces = StringsConfig(minutes=0.5, piece_s=1.0, pause_least_s=0.05, pause_most_s=0.2)
    takes = words + strings(words, pieces, RATE) + melodies(held_out=True)
    _, objective = train_wave(config, takes=takes)
    return Path(config.train.out) / "export", objective.last_bits


@pytest.mark.slow
def test_a_trained_model_says_the_word_that_is_asked_for(
    spoken: tuple[Path, dict[str, float]],
) -> None:
    folder, bits = spoken
    assert bits["told"] > 0.9 and bits["dearer"] > 10
    model = audiomamba.load(str(folder))
    assert -3.2 < model.durations.labels["up"][0] < -2.8 and model.config.labels == ["down", "up"]
    made = model.start(labels=["up", "down"] * 20, speakers=["ann"], seed=1)
    right = 0
    for number, sound in enumerate(made.next(max(made.planned))):
        half = made._schedules[number].starts[1]
        heard = [higher(sound[half // 4 : half]), higher(sound[half + half // 4 : 2 * half])]
        right += heard == ([False, True] if number % 2 == 0 else [True, False])
    assert right >= 20  # of 40; 10 by chance, about 30 after some seconds of training


@pytest.mark.slow
def test_after_its_word_a_trained_model_is_silent_and_unasked_it_goes_on(
    spoken: tuple[Path, dict[str, float]],
) -> None:
    model = audiomamba.load(str(spoken[0]))
    made = model.start(labels=["up"] * 10, speakers=["ann"], seed=2).next(RATE)
    end = RATE // 10  # no word is as long
    word, after = (np.median(np.square(x).mean(1)) for x in (made[:, : end // 2], made[:, end:]))
    assert after < 0.05 * word
    free = model.start(labels=[None] * 10, speakers=["ann"], seed=2).next(4 * RATE)
    assert np.square(free).mean() > 4 * after


@pytest.mark.slow
def test_a_trained_model_says_one_word_after_another(
    spoken: tuple[Path, dict[str, float]],
) -> None:
    model = audiomamba.load(str(spoken[0]))
    made = model.start(labels=["up down down up"] * 5, speakers=["ann"], seed=3)
    right = [
        higher(sound[start + (stop - start) // 4 : stop]) == (row in (0, 3))
        for sound, own in zip(made.next(max(made.planned)), made._schedules, strict=True)
        for row, start, stop in zip(own.rows, own.starts, own.starts[1:], strict=False)
        if row < model.config.silence_row
    ]
    assert len(right) == 40 and sum(right) >= 34  # 20 by chance
