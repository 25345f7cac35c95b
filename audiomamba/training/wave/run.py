"""From the configuration of a waveform experiment to its run."""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch

from audiomamba.config import to_mapping
from audiomamba.errors import ConfigError
from audiomamba.models.checkpoint_files import read_config
from audiomamba.models.wave.durations import Durations
from audiomamba.models.wave.model import Wave
from audiomamba.models.wave.statistics import SoundStatistics, measure
from audiomamba.training.checkpointing import Progress, resume_folder
from audiomamba.training.loop import Run
from audiomamba.training.parallel import Parallel
from audiomamba.training.wave.alignment import aligned
from audiomamba.training.wave.batches import Crops
from audiomamba.training.wave.config import WaveDataConfig, WaveExperiment
from audiomamba.training.wave.measure import BitsMeter
from audiomamba.training.wave.objective import Waveform
from audiomamba.training.wave.procedural import codes_of
from audiomamba.training.wave.strings import strings
from audiomamba.training.wave.takes import Take, read_corpus, read_manifest

__all__ = ["gather_takes", "prepare", "sound_statistics", "train_wave", "word_durations"]

_WORTH_PROCESSES_S = 1800.0  # of sound, below which starting processes takes longer
_MEASURED = 1_000  # recordings whose sound is measured
_HEARD_S = 20.0  # of each


def train_wave(
    config: WaveExperiment, *, started: float | None = None, takes: Sequence[Take] | None = None
) -> tuple[Progress, Waveform]:
    """Build everything ``config`` names and train; labels and speakers may come from the data.

    Args:
        config: The experiment; labels and speakers are filled in.
        started: ``time.monotonic()`` at the start of the command, from where the budget counts.
        takes: Recordings already read, for runs that share them.

    Raises:
        ConfigError: there is nothing to train on, or the output would be overwritten.
        AudioError: a recording or a manifest cannot be read.
    """
    parallel = Parallel.from_environment(config.train.device)
    try:
        if takes is None:
            takes = gather_takes(
                config.data, config.model.sample_rate, parts=config.model.label_states
            )
        objective = prepare(config, takes, parallel)
        recipe = to_mapping(config)
        run = Run(objective, config.train, parallel, started=started, recipe=recipe)
        return run.run(), objective
    finally:
        parallel.close()


def gather_takes(data: WaveDataConfig, sample_rate: int, *, parts: int = 1) -> list[Take]:
    """All recordings that ``data`` names, strings of them, and sound made by rule.

    Words of several ``parts`` are told where these lie, if ``data.align`` says so. Each 20th piece
    of what is made by rule is held out.
    """
    takes: list[Take] = []
    for manifest in data.manifests:
        takes += read_manifest(Path(manifest), data, sample_rate)
    for folder in data.corpora:
        takes += read_corpus(Path(folder), data, sample_rate)
    if parts > 1 and data.align:
        takes = aligned(takes, parts, sample_rate)
    return takes + strings(takes, data.strings, sample_rate) + _made(data, sample_rate)


def _made(data: WaveDataConfig, sample_rate: int) -> list[Take]:
    """Pieces by rule; many are made by as many processes as there are cores."""
    made = data.made
    count = max(2, round(made.minutes * 60 / made.piece_s)) if made.minutes else 0
    pieces = [(kind, seed) for kind in made.kinds for seed in range(count)]
    make_codes = partial(codes_of, seconds=made.piece_s, sample_rate=sample_rate)
    if len(pieces) * made.piece_s < _WORTH_PROCESSES_S:
        codes = [make_codes(piece) for piece in pieces]
    else:
        with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
            codes = list(pool.map(make_codes, pieces))
    return [
        Take(own, kind, None, held_out=seed % 20 == 1)
        for (kind, seed), own in zip(pieces, codes, strict=True)
    ]


def prepare(config: WaveExperiment, takes: Sequence[Take], parallel: Parallel) -> Waveform:
    """Model, batches and measure of an experiment over ``takes``."""
    model, data, train = config.model, config.data, config.train
    trained = [take for take in takes if not take.held_out]
    labels, speakers = _names_before(config)
    labels = labels or sorted({take.label for take in trained if take.label})
    speakers = speakers or sorted({take.speaker for take in trained if take.speaker})
    model.labels, model.speakers = model.labels or labels, model.speakers or speakers
    if data.length % model.period:
        raise ConfigError(
            f"data.length must be a multiple of {model.period} (model.pools), got {data.length}"
        )
    torch.manual_seed(train.seed)
    wave = Wave(model).to(parallel.device)
    crops = Crops(
        takes,
        data,
        labels=model.labels,
        speakers=model.speakers,
        sample_rate=model.sample_rate,
        label_states=model.label_states,
        period=model.period,
        device=parallel.device,
        seed=train.seed * parallel.world + parallel.rank,
    )
    meter = BitsMeter(
        takes,
        labels=model.labels,
        speakers=model.speakers,
        length=data.length,
        batch=data.batch,
        most=train.evaluate_takes,
        period=model.period,
        label_states=model.label_states,
        device=parallel.device,
    )
    return Waveform(
        wave, crops, data, train, parallel, meter=meter,
        statistics=sound_statistics(trained, config),
        durations=None if model.label_states == 1 else word_durations(trained, config),
    )  # fmt: skip


def word_durations(takes: Sequence[Take], config: WaveExperiment) -> Durations:
    """How long the words that are trained on, and their parts, are; scaled as the run says."""
    rate = config.model.sample_rate
    known = set(config.model.labels)
    own = [(take.label, take) for take in takes if take.label is not None and take.label in known]
    return Durations.measured(
        [(label, take.speaker, len(take.codes) / rate) for label, take in own],
        [(label, take.speaker, w.parts) for label, take in own for w in take.words if w.parts],
    ).scaled(config.train.word_length, config.train.word_spread)


def _names_before(config: WaveExperiment) -> tuple[list[str], list[str]]:
    """Labels and speakers of what is gone on with: its vectors are numbered by these."""
    folder = resume_folder(config.train.resume, Path(config.train.out))
    if folder is None:
        return [], []
    stored = read_config(folder).get("model", {})
    return list(stored.get("labels", [])), list(stored.get("speakers", []))


def sound_statistics(takes: Sequence[Take], config: WaveExperiment) -> SoundStatistics:
    """What the sound that is trained on is like, from a part of it evenly spread.

    A group of rows of which some end before the row does has silence without a limit. With several
    label states single words are always told (batches.py).
    """
    rate, period = config.model.sample_rate, config.model.period
    chosen = takes[:: max(1, len(takes) // _MEASURED)]
    found = measure([take.codes[: round(_HEARD_S * rate)] for take in chosen], rate, period)
    row = config.data.length * config.data.carry
    drops = config.data.drop_label if config.model.label_states == 1 else 0.0
    found.labelled_silence_s = found.silence_s
    if any(take.label is not None and len(take.codes) < row for take in takes):
        found.labelled_silence_s = None
    if any((take.label is None or drops) and len(take.codes) < row for take in takes):
        found.silence_s = None
    return found
