"""Making sound: a trained waveform model, and recordings that go on as long as one likes."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomamba.audio.mulaw import SILENCE, compand, expand
from audiomamba.config import from_mapping
from audiomamba.errors import ConfigError, ModelError, ShapeError, StateError
from audiomamba.models.checkpoint_files import read_config
from audiomamba.models.wave.config import WaveConfig
from audiomamba.models.wave.engine import EngineName, WaveEngine, load_engine
from audiomamba.models.wave.sampling import Sampling, stream_seeds

__all__ = ["Generation", "Synthesizer"]

Samples = NDArray[np.float32]

_FORMAT = "audiomamba-generation-1"
_NOBODY = -1


class Generation:
    """Recordings that are being made, from :meth:`Synthesizer.start`; memory does not grow.

    Attributes:
        streams: How many are made together.
        position: Samples drawn of each so far; a prompt does not count.
    """

    def __init__(
        self,
        engine: WaveEngine,
        state: Any,
        sampling: Sampling,
        seeds: NDArray[np.uint64],
        last: NDArray[np.uint8],
        position: int = 0,
    ) -> None:
        self._engine, self._state, self._seeds, self._last = engine, state, seeds, last
        self.sampling = sampling
        self.streams = len(seeds)
        self.position = position

    @property
    def state_bytes(self) -> int:
        """Size of what is remembered: the same at any time."""
        return self._engine.state_bytes(self._state)

    @property
    def phase(self) -> int:
        """Where in its period the model is, if only equal phases can be made together; else 0."""
        return self._engine.phase(self._state)

    def next(self, samples: int) -> Samples:
        """The next samples of every recording, ``(streams, samples)`` in -1..1.

        Any cut into calls gives the same samples.
        """
        first = np.full(self.streams, self.position, np.int64)
        codes = self._engine.draw(
            self._state, self._last, self.sampling, self._seeds, first, samples
        )
        self.position += samples
        return expand(codes)

    @staticmethod
    def together(made: "Sequence[Generation]", samples: int) -> list[Samples]:
        """The next ``samples`` of several generations, each ``(streams, samples)``.

        The same that each would give alone, with the weights read once for all. Their states are
        put side by side for the call and taken apart after it, which costs a copy of each: a call
        should be for a block, not for a sample.

        Args:
            made: Of one synthesizer, with equal ``sampling`` and ``phase``.
            samples: How many.

        Raises:
            ShapeError: their sampling or phase differs.
        """
        if len(made) == 1:
            return [made[0].next(samples)]
        how, engine = made[0].sampling, made[0]._engine
        if any(one.sampling != how or one.phase != made[0].phase for one in made):
            raise ShapeError("generations made together must have the same sampling and phase")
        # With guidance a state has a second half, asked for nobody; halves stay together.
        halves = 1 if how.guidance == 1 else 2
        states = [_halves(engine.dump(one._state), halves) for one in made]
        state = engine.restore(
            {
                name: np.concatenate([own[half][name] for half in range(halves) for own in states])
                for name in states[0][0]
            }
        )
        last = np.concatenate([one._last for one in made])
        first = np.concatenate([np.full(one.streams, one.position, np.int64) for one in made])
        seeds = np.concatenate([one._seeds for one in made])
        sound = expand(engine.draw(state, last, how, seeds, first, samples))
        after, at = _halves(engine.dump(state), halves), 0
        parts = []
        for one in made:
            own = slice(at, at + one.streams)
            one._state = engine.restore(
                {
                    name: np.concatenate([after[half][name][own] for half in range(halves)])
                    for name in after[0]
                }
            )
            one._last = last[own].copy()
            one.position += samples
            parts.append(sound[own])
            at += one.streams
        return parts

    def save(self) -> bytes:
        """All that is needed to go on to the same samples: :meth:`Synthesizer.resume` takes it."""
        from safetensors.numpy import save

        about = {"position": self.position, **asdict(self.sampling)}
        arrays = {f"state.{name}": array for name, array in self._engine.dump(self._state).items()}
        arrays |= {"seeds": self._seeds.view(np.int64), "last": self._last}
        metadata = {
            "format": _FORMAT,
            "identity": self._engine.identity,
            "about": json.dumps(about),
        }
        return save(arrays, metadata=metadata)


class Synthesizer:
    """A waveform model that can be used: ``load("wave-digits")`` makes one."""

    def __init__(
        self, engine: WaveEngine, config: WaveConfig, name: str, sampling: Sampling | None = None
    ) -> None:
        self._engine = engine
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
        return cls(
            load_engine(folder, config, device=device, engine=engine), config, folder.name, sampling
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
        seconds: float,
        label: str | None = None,
        speaker: str | None = None,
        seed: int = 0,
        prompt: Samples | None = None,
        block_s: float = 0.1,
        **sampling: float,
    ) -> Iterator[Samples]:
        """One recording, in blocks ``(n,)`` as they are made.

        Args:
            seconds: Length.
            label: What to say; one of ``config.labels``.
            speaker: In whose voice; one of ``config.speakers``.
            seed: The same seed gives the same samples.
            prompt: A beginning to go on from, ``(n,)`` in -1..1 at ``sample_rate``; not repeated.
            block_s: Seconds a block.
            **sampling: ``temperature``, ``top_p``, ``guidance`` instead of the model's own.

        Raises:
            ConfigError: a setting is out of range, or the model does not know label or speaker.
        """
        if seconds < 0 or block_s <= 0:
            raise ConfigError(f"seconds must be at least 0, got {seconds:g}")
        made = self.start(labels=[label], speakers=[speaker], seed=seed, prompt=prompt, **sampling)
        return _blocks(made, round(seconds * self.sample_rate), round(block_s * self.sample_rate))

    def start(
        self,
        *,
        labels: Sequence[str | None] = (None,),
        speakers: Sequence[str | None] = (None,),
        seed: int = 0,
        prompt: Samples | None = None,
        **sampling: float,
    ) -> Generation:
        """Begin several recordings that are made together, a label and a speaker each.

        One entry of ``labels`` or ``speakers`` stands for all. Other arguments are those of
        :meth:`generate`; the first recording is the one that it would give.
        """
        streams = max(len(labels), len(speakers))
        label_ids = _ids("label", labels, self.config.labels, streams)
        speaker_ids = _ids("speaker", speakers, self.config.speakers, streams)
        try:
            how = replace(self.sampling, **sampling)
        except TypeError as error:
            raise ConfigError(f"generate: {str(error).split('() ')[-1]}") from None
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
        return Generation(self._engine, state, how, stream_seeds(seed, streams), last)

    def resume(self, saved: bytes) -> Generation:
        """Go on with what :meth:`Generation.save` saved, to the samples it would have made.

        Raises:
            StateError: it is damaged, or belongs to another model, engine or precision.
        """
        arrays, metadata = _read(saved)
        if metadata.get("format") != _FORMAT:
            raise StateError("state is not one of a generation")
        if metadata["identity"] != self._engine.identity:
            raise StateError(
                f"state belongs to {_short(metadata['identity'])}, "
                f"this is {_short(self._engine.identity)}"
            )
        about = json.loads(metadata["about"])
        position = int(about.pop("position"))
        own = {k.removeprefix("state."): v for k, v in arrays.items() if k.startswith("state.")}
        return Generation(
            self._engine,
            self._engine.restore(own),
            from_mapping(Sampling, about),
            arrays["seeds"].view(np.uint64).copy(),
            arrays["last"].copy(),
            position,
        )

    def bits(
        self, samples: Samples, *, label: str | None = None, speaker: str | None = None
    ) -> NDArray[np.float32]:
        """What each of ``samples (n,)`` costs the model in bits, ``(n,)``; the mean is its NLL."""
        codes = compand(samples)
        state = self._engine.begin(
            _ids("label", [label], self.config.labels, 1),
            _ids("speaker", [speaker], self.config.speakers, 1),
        )
        heard = np.concatenate([[np.uint8(SILENCE)], codes])[:-1]
        parts: list[NDArray[np.float32]] = []
        for start in range(0, len(codes), self.sample_rate):
            stop = start + self.sample_rate
            logits = self._engine.logits(state, heard[None, start:stop])[0]
            top = logits.max(-1)
            total = top + np.log(np.exp(logits - top[:, None]).sum(-1))
            own = np.take_along_axis(logits, codes[start:stop, None].astype(np.intp), -1)[:, 0]
            parts.append(((total - own) / np.log(2)).astype(np.float32))
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _halves(arrays: dict[str, NDArray[Any]], halves: int) -> list[dict[str, NDArray[Any]]]:
    """The parts of a state's rows, first to last."""
    split = {name: np.split(array, halves) for name, array in arrays.items()}
    return [{name: parts[half] for name, parts in split.items()} for half in range(halves)]


def _blocks(made: Generation, samples: int, block: int) -> Iterator[Samples]:
    while made.position < samples:
        yield made.next(min(max(block, 1), samples - made.position))[0]


def _ids(what: str, asked: Sequence[str | None], known: Sequence[str], streams: int) -> list[int]:
    if len(asked) == 1:
        asked = list(asked) * streams
    if len(asked) != streams:
        raise ConfigError(f"{what}s: wants 1 or {streams}, got {len(asked)}")
    for name in asked:
        if name is not None and name not in known:
            have = ", ".join(known) if known else f"none: the model knows no {what}s"
            raise ConfigError(f"{what} {name!r} is not known; there are {have}")
    return [_NOBODY if name is None else list(known).index(name) for name in asked]


def _read(saved: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Arrays and metadata of a saved state."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(saved)
        size = int.from_bytes(saved[:8], "little")
        metadata = json.loads(saved[8 : 8 + size])["__metadata__"]
        json.loads(metadata["about"])
        if not {"seeds", "last"} <= set(arrays):
            raise KeyError("seeds")
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise StateError(f"state is damaged ({error})") from None
    return arrays, metadata


def _short(identity: str) -> str:
    checkpoint, *rest = identity.split("/")
    return "/".join([f"checkpoint {checkpoint[:12] or 'unnamed'}", *rest])
