"""Making sound: a trained waveform model, and recordings that go on as long as one likes."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audiomamba.audio.mulaw import SILENCE, compand
from audiomamba.config import from_mapping
from audiomamba.errors import ConfigError, ModelError
from audiomamba.models.checkpoint_files import read_config
from audiomamba.models.wave.config import WaveConfig
from audiomamba.models.wave.durations import Durations
from audiomamba.models.wave.engine import EngineName, WaveEngine, load_engine
from audiomamba.models.wave.generation import Generation
from audiomamba.models.wave.sampling import Sampling, stream_seeds
from audiomamba.models.wave.schedule import Schedule, spoken, stretched, words_of
from audiomamba.models.wave.statistics import SoundStatistics
from audiomamba.models.wave.watch import Watch

__all__ = ["Generation", "Synthesizer"]

Samples = NDArray[np.float32]

_NOBODY = -1


class Synthesizer:
    """A waveform model that can be used: ``load("wave-digits")`` makes one."""

    def __init__(
        self,
        engine: WaveEngine,
        config: WaveConfig,
        name: str,
        sampling: Sampling | None = None,
        *,
        statistics: SoundStatistics | None = None,
        durations: Durations | None = None,
    ) -> None:
        self._engine = engine
        self.durations = durations or Durations()
        self.statistics = statistics
        self.config = config
        self.name = name
        self.sampling = sampling or Sampling()

    @classmethod
    def from_folder(
        cls, folder: Path, *, device: str = "cpu", engine: EngineName = "auto"
    ) -> "Synthesizer":
        """Load a checkpoint folder.

        Raises:
            ModelError: a file is missing or damaged, or the checkpoint is of another kind.
            BackendError: the engine cannot run here.
        """
        stored = read_config(folder)
        if stored.get("kind") != "wave":
            raise ModelError(f"{folder}: wants a waveform model, got kind {stored.get('kind')!r}")
        config = from_mapping(WaveConfig, stored["model"])
        sampling = from_mapping(Sampling, stored.get("sampling", {}))
        sound = stored.get("statistics")
        runs = load_engine(folder, config, device=device, engine=engine)
        runs.prepare(sampling)
        return cls(
            runs,
            config,
            folder.name,
            sampling,
            statistics=None if sound is None else from_mapping(SoundStatistics, sound),
            durations=from_mapping(Durations, stored.get("durations", {}), where="durations"),
        )

    @property
    def engine(self) -> str:
        """What runs the network: ``native`` or ``torch``."""
        return self._engine.engine

    @property
    def sample_rate(self) -> int:
        """Of everything it makes, Hz."""
        return self.config.sample_rate

    def generate(
        self,
        *,
        seconds: float | None = None,
        label: str | None = None,
        speaker: str | None = None,
        seed: int = 0,
        prompt: Samples | None = None,
        block_s: float = 0.1,
        guard: bool = True,
        **sampling: float,
    ) -> Iterator[Samples]:
        """One recording, in blocks ``(n,)`` as they are made.

        Args:
            seconds: Length; None: until the words of ``label`` are said.
            label: What to say; one of ``config.labels``, or, of a model that divides its labels
                (``config.label_states``), any number of them with spaces between.
            speaker: In whose voice; one of ``config.speakers``.
            seed: The same seed gives the same samples.
            prompt: A beginning to go on from, ``(n,)`` in -1..1 at ``sample_rate``; not repeated.
            block_s: Seconds a block.
            guard: Mend runaway noise and endless silence (guard.py), where the checkpoint says
                what sound it learnt from.
            **sampling: ``temperature``, ``top_p``, ``guidance`` instead of the model's own.

        Raises:
            ConfigError: a setting is out of range, or the model does not know label or speaker.
        """
        if (seconds is not None and not seconds >= 0) or block_s <= 0:
            raise ConfigError(f"seconds must be at least 0, got {seconds:g}")
        made = self.start(
            labels=[label], speakers=[speaker], seed=seed, prompt=prompt, guard=guard, **sampling
        )
        samples = made.planned[0] if seconds is None else round(seconds * self.sample_rate)
        if not samples and seconds is None:
            raise ConfigError("seconds: what is asked for has no end of its own, say how long")
        return _blocks(made, samples, round(block_s * self.sample_rate))

    def start(
        self,
        *,
        labels: Sequence[str | None] = (None,),
        speakers: Sequence[str | None] = (None,),
        seed: int = 0,
        prompt: Samples | None = None,
        guard: bool = True,
        **sampling: float,
    ) -> Generation:
        """Begin several recordings that are made together, a label and a speaker each.

        One entry of ``labels`` or ``speakers`` stands for all. Other arguments are those of
        :meth:`generate`; the first recording is the one that it would give.
        """
        streams = max(len(labels), len(speakers))
        words = [words_of(self.config, label) for label in _for_all("labels", labels, streams)]
        label_ids = [own[0] if own else _NOBODY for own in words]
        speaker_ids = _speaker_ids(speakers, self.config.speakers, streams)
        try:
            how = replace(self.sampling, **sampling)
        except TypeError as error:
            raise ConfigError(f"generate: {str(error).split('() ')[-1]}") from None
        asked = np.array([label_ids, speaker_ids], np.int64).T
        seeds = stream_seeds(seed, streams)
        schedules: list[Schedule] = []
        if self.config.label_states > 1:
            before = 0 if prompt is None else len(prompt)
            schedules = [
                spoken(self.config, own, who, self.durations, seed=chance, heard=before)
                for own, who, chance in zip(words, speaker_ids, seeds.tolist(), strict=True)
            ]
            label_ids = [_NOBODY] * streams
        rows = 1
        if how.guidance != 1:
            rows = 2
            label_ids, speaker_ids = (
                [*ids, *[_NOBODY] * streams] for ids in (label_ids, speaker_ids)
            )
        state = self._engine.begin(label_ids, speaker_ids)
        last = np.full(streams, SILENCE, np.uint8)
        if prompt is not None and len(prompt):
            heard = np.concatenate([[np.uint8(SILENCE)], compand(prompt)])
            self._engine.feed(state, np.tile(heard[:-1], (rows * streams, 1)))
            last[:] = heard[-1]
        watch = self._watch(asked) if guard and self.statistics is not None else None
        return Generation(self._engine, state, how, seeds, last, watch=watch, schedules=schedules)

    def resume(self, saved: bytes) -> Generation:
        """Go on with what :meth:`Generation.save` saved, to the samples it would have made.

        Raises:
            StateError: it is damaged, or belongs to another model, engine or precision.
        """
        return Generation.restore(saved, self._engine, self.config, self._watch)

    def _watch(self, asked: NDArray[np.int64]) -> Watch:
        statistics = self.statistics or SoundStatistics()
        return Watch(statistics, asked, self.sample_rate, self.config.period)

    def bits(
        self, samples: Samples, *, label: str | None = None, speaker: str | None = None
    ) -> NDArray[np.float32]:
        """What each of ``samples (n,)`` costs the model in bits, ``(n,)``; the mean is its NLL."""
        codes = compand(samples)
        words = words_of(self.config, label)
        [who] = _speaker_ids([speaker], self.config.speakers, 1)
        asked = stretched(self.config, words, who, len(codes))
        state = self._engine.begin(asked.rows[:1], [who])
        heard = np.concatenate([[np.uint8(SILENCE)], codes])[:-1]
        parts: list[NDArray[np.float32]] = []
        switches = [at for at in asked.starts if 0 < at < len(codes)]
        edges = sorted({*range(0, len(codes), self.sample_rate), *switches, len(codes)})
        for start, stop in itertools.pairwise(edges):
            if start in switches:
                self._engine.tell(state, np.array([0]), [asked.at(start)], [who])
            logits = self._engine.logits(state, heard[None, start:stop])[0]
            top = logits.max(-1)
            total = top + np.log(np.exp(logits - top[:, None]).sum(-1))
            own = np.take_along_axis(logits, codes[start:stop, None].astype(np.intp), -1)[:, 0]
            parts.append(((total - own) / np.log(2)).astype(np.float32))
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _blocks(made: Generation, samples: int, block: int) -> Iterator[Samples]:
    while made.position < samples:
        yield made.next(min(max(block, 1), samples - made.position))[0]


def _for_all(what: str, asked: Sequence[str | None], streams: int) -> Sequence[str | None]:
    if len(asked) not in (1, streams):
        raise ConfigError(f"{what}: wants 1 or {streams}, got {len(asked)}")
    return list(asked) * streams if len(asked) == 1 else asked


def _speaker_ids(asked: Sequence[str | None], known: Sequence[str], streams: int) -> list[int]:
    asked = _for_all("speakers", asked, streams)
    for name in asked:
        if name is not None and name not in known:
            have = ", ".join(known) if known else "none: the model knows no speakers"
            raise ConfigError(f"speaker {name!r} is not known; there are {have}")
    return [_NOBODY if name is None else list(known).index(name) for name in asked]
