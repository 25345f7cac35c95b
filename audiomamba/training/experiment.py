"""A whole experiment: the configuration, and building a run from it."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from audiomamba.config import from_mapping, to_mapping
from audiomamba.errors import ConfigError
from audiomamba.models.transcriber import Transcriber, TranscriberConfig
from audiomamba.text.vocabulary import Vocabulary
from audiomamba.training.augment import AugmentConfig, Augmenter, noise_bank, room_bank
from audiomamba.training.batches import BatchConfig, Batches, Part, SpeechPool
from audiomamba.training.checkpointing import Progress
from audiomamba.training.clips import read_clips
from audiomamba.training.config import EvaluationConfig, TrainConfig
from audiomamba.training.corpus import Corpus
from audiomamba.training.delayed.config import DelayedExperiment
from audiomamba.training.delayed.run import prepare_delayed
from audiomamba.training.ends.config import EndsExperiment
from audiomamba.training.ends.run import prepare_ends
from audiomamba.training.evaluation import Evaluator
from audiomamba.training.language.config import LanguageExperiment
from audiomamba.training.language.run import prepare_language
from audiomamba.training.loop import Run
from audiomamba.training.objective import Objective
from audiomamba.training.parallel import Parallel
from audiomamba.training.tokenizers import load_tokenizer
from audiomamba.training.transcription import Transcription
from audiomamba.training.wave.config import WaveExperiment
from audiomamba.training.wave.run import train_wave

__all__ = ["DataConfig", "Experiment", "ExperimentConfig", "compose", "make_batches", "train"]


@dataclass(kw_only=True, slots=True)
class DataConfig:
    """Corpora (training/corpus.py) and how batches are made of them."""

    synthetic: list[str] = field(default_factory=list)  # folders of made speech
    real: list[str] = field(default_factory=list)  # folders of recordings
    noise: list[str] = field(default_factory=list)  # folders of noise, music and rooms
    batches: BatchConfig = field(default_factory=BatchConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass(kw_only=True, slots=True)
class ExperimentConfig:
    """What conf/ composes for a transcriber: its shape, data, and a way of training."""

    kind: str = "transcriber"
    model: TranscriberConfig = field(default_factory=TranscriberConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=1))


Experiment = (
    ExperimentConfig | WaveExperiment | LanguageExperiment | DelayedExperiment | EndsExperiment
)


def compose(overrides: Sequence[str]) -> Experiment:
    """Compose conf/training.yaml with Hydra overrides such as ``experiment=miniature``.

    The dataclasses' defaults are the schema, so files hold the differences alone and an unknown key
    is refused wherever it comes from. An experiment may choose another schema than a transcriber's.

    Raises:
        ConfigError: an override cannot be read, a key is unknown, a value is out of range.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module
    from hydra.core.config_store import ConfigStore
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for name, cls in SCHEMAS.items():
        schema = to_mapping(cls())
        schema["train"]["steps"] = 0
        ConfigStore.instance().store(group="schema", name=name, node=schema, package="_global_")
    try:
        with initialize_config_module("audiomamba.conf", version_base="1.3"):
            tree = hydra_compose("training", overrides=list(overrides))
        plain = OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_one_line(error)) from None
    if not isinstance(plain, dict):
        raise ConfigError(f"configuration: wants a mapping, got {type(plain).__name__}")
    values = {str(key): value for key, value in plain.items()}
    return from_mapping(SCHEMAS[values["kind"]], values)


SCHEMAS: dict[str, type[Experiment]] = {
    "transcriber": ExperimentConfig,
    "wave": WaveExperiment,
    "language": LanguageExperiment,
    "delayed": DelayedExperiment,
    "ends": EndsExperiment,
}


def train(config: Experiment, *, started: float | None = None) -> Progress:
    """Build everything ``config`` names and train.

    Args:
        config: The experiment.
        started: ``time.monotonic()`` at the start of the command, from where the budget counts.

    Raises:
        ConfigError: the vocabulary's size is not the model's, there is nothing to train on, or the
            output would be overwritten.
        AudioError: a corpus or a manifest cannot be read.
    """
    started = time.monotonic() if started is None else started
    if isinstance(config, WaveExperiment):
        return train_wave(config, started=started)[0]
    parallel = Parallel.from_environment(config.train.device)
    try:
        objective = _prepare(config, parallel)
        recipe = to_mapping(config)
        return Run(objective, config.train, parallel, started=started, recipe=recipe).run()
    finally:
        parallel.close()


def _prepare(
    config: ExperimentConfig | LanguageExperiment | DelayedExperiment | EndsExperiment,
    parallel: Parallel,
) -> Objective:
    """Model, batches, loss and measure of an experiment."""
    if isinstance(config, LanguageExperiment):
        return prepare_language(config, parallel)
    if isinstance(config, DelayedExperiment):
        return prepare_delayed(config, parallel)
    if isinstance(config, EndsExperiment):
        return prepare_ends(config, parallel)
    if config.model.ends:
        raise ConfigError("model.ends: endpoint outputs are trained apart; see experiment=ends")
    tokenizer, vocabulary = load_tokenizer(config.train.tokenizer, config.model.vocabulary)
    config.train.tokenizer = str(tokenizer)
    return Transcription(
        _model(config, parallel),
        make_batches(config, vocabulary, parallel.device, world=parallel.world),
        config.train,
        parallel,
        evaluator=_evaluator(config.train.evaluation, vocabulary, config.model, parallel),
    )


def _model(config: ExperimentConfig, parallel: Parallel) -> Transcriber:
    torch.manual_seed(config.train.seed)
    return Transcriber(config.model).to(parallel.device)


def make_batches(
    config: ExperimentConfig, vocabulary: Vocabulary, device: torch.device, *, world: int = 1
) -> Batches:
    """The batches of an experiment, shared by ``world`` processes.

    Raises:
        ConfigError: it names no speech.
        AudioError: a corpus cannot be read.
    """
    data = config.data
    parts = [Part(Corpus(folder), False) for folder in data.synthetic]
    parts += [Part(Corpus(folder), True) for folder in data.real]
    if not parts:
        raise ConfigError("data: give data.synthetic or data.real, folders of corpora")
    noise = [Corpus(folder) for folder in data.noise]
    return Batches(
        SpeechPool.load(parts, vocabulary.encode, device=device),
        data.batches,
        Augmenter(room_bank(noise), noise_bank(noise), data.augment, device=device),
        seed=config.train.seed,
        world=world,
    )


def _evaluator(
    config: EvaluationConfig, vocabulary: Vocabulary, model: TranscriberConfig, parallel: Parallel
) -> Evaluator | None:
    if not config.manifests or not parallel.first:
        return None
    clips = [clip for manifest in config.manifests for clip in read_clips(Path(manifest))]
    return Evaluator(
        clips,
        vocabulary,
        model.features,
        device=parallel.device,
        batch_s=config.batch_s,
        look_ahead_s=model.look_ahead_s,
    )


def _one_line(error: Exception) -> str:
    """What Hydra says over several lines, with the part that helps kept."""
    text = str(error)
    if key := re.match(r"Could not override '([^']+)'", text):
        return f"unknown key {key[1]!r}; audiomamba train --show lists those there are"
    return re.sub(r"\s+", " ", text.split("Config search path")[0].split("See https")[0]).strip()
