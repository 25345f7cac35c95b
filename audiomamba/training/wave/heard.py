"""What judges hear: a speaker's held-out recordings, and the same words as a model makes them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from audiomamba.audio.mulaw import expand
from audiomamba.models.wave.schedule import PAUSE_S
from audiomamba.models.wave.synthesizer import Synthesizer
from audiomamba.training.wave.config import WaveDataConfig
from audiomamba.training.wave.takes import Sound, take_of

__all__ = ["REAL", "Heard", "recordings_of", "strings_of"]

Samples = NDArray[np.float32]
REAL, AGAIN = "real", "resynthesised"


@dataclass(slots=True)
class Heard:
    """Recordings of one speaker from one source, and what they are of."""

    source: str
    speaker: str
    sounds: list[Samples]
    labels: list[str]

    def some(self, most: int) -> "Heard":
        """At most so many, evenly spread."""
        step = max(1, -(-len(self.sounds) // most))
        return Heard(self.source, self.speaker, self.sounds[::step], self.labels[::step])


def recordings_of(
    speaker: str,
    sounds: Sequence[Sound],
    model: Synthesizer,
    data: WaveDataConfig,
    *,
    each: int,
    temperatures: Sequence[float],
    seeds: Sequence[int] = (0,),
) -> list[Heard]:
    """Real recordings of a speaker, the same as classes of samples, and made ones.

    Args:
        speaker: One of the model's.
        sounds: Of everybody; those of the speaker that are held out are used.
        model: What makes them.
        data: How recordings were put into classes for its training.
        each: Made recordings a label.
        temperatures: Those to make recordings at; none: the model's own.
        seeds: Of what is made; with several each is a source of its own.
    """
    labels = model.config.labels
    own = _held_out(speaker, sounds, labels)
    said = [str(sound.label) for sound in own]
    asked = [label for label in labels for _ in range(each)]
    return [
        Heard(REAL, speaker, [sound.samples for sound in own], said),
        Heard(AGAIN, speaker, [_again(sound, data) for sound in own], said),
        *_made(speaker, model, asked, temperatures, seeds),
    ]


def strings_of(
    speaker: str,
    sounds: Sequence[Sound],
    model: Synthesizer,
    data: WaveDataConfig,
    *,
    words: int,
    count: int,
    temperatures: Sequence[float],
    seeds: Sequence[int] = (0,),
) -> list[Heard]:
    """The same of strings: words one after another, with pauses as a schedule has them.

    Recognisers of sentences know strings of words better than a word alone. In each source the
    same words are said in the same order, every label as often as another.

    Args:
        speaker: As for :func:`recordings_of`, and so are those that are not named here.
        words: Of a string.
        count: Strings a source.
    """
    rng = np.random.default_rng(0)
    labels, rate = model.config.labels, model.sample_rate
    own: dict[str, list[Sound]] = {}
    for sound in _held_out(speaker, sounds, labels):
        own.setdefault(str(sound.label), []).append(sound)
    rounds = -(-words * count // len(own))
    order = [label for _ in range(rounds) for label in rng.permutation(sorted(own))]
    asked = [order[number * words :][:words] for number in range(count)]
    said = [" ".join(one) for one in asked]
    takes = [[own[label][int(rng.integers(len(own[label])))] for label in one] for one in asked]
    pauses = [
        [np.zeros(round(rng.uniform(*PAUSE_S) * rate), np.float32) for _ in one] for one in asked
    ]

    def strung(sound_of: Callable[[Sound], Samples]) -> list[Samples]:
        return [
            np.concatenate(
                [x for take, gap in zip(*one, strict=True) for x in (sound_of(take), gap)]
            )
            for one in zip(takes, pauses, strict=True)
        ]

    return [
        Heard(REAL, speaker, strung(lambda sound: sound.samples), said),
        Heard(AGAIN, speaker, strung(lambda sound: _again(sound, data)), said),
        *_made(speaker, model, said, temperatures, seeds),
    ]


def _held_out(speaker: str, sounds: Sequence[Sound], labels: Sequence[str]) -> list[Sound]:
    return [s for s in sounds if s.speaker == speaker and s.held_out and s.label in labels]


def _again(sound: Sound, data: WaveDataConfig) -> Samples:
    """A recording as its classes: what a perfect model could make."""
    return expand(take_of(sound, data).codes)


def _made(
    speaker: str,
    model: Synthesizer,
    asked: Sequence[str],
    temperatures: Sequence[float],
    seeds: Sequence[int],
) -> list[Heard]:
    """A source a temperature and seed."""
    made = []
    for temperature, seed in product(temperatures or [model.sampling.temperature], seeds):
        started = model.start(labels=asked, speakers=[speaker], seed=seed, temperature=temperature)
        name = f"made, temperature {temperature:g}" + (f", seed {seed}" if len(seeds) > 1 else "")
        # A second where a model falls silent by itself; else each until its words are said.
        drawn = started.next(max(started.planned) or model.sample_rate)
        spoken = [sound[: n or None] for sound, n in zip(drawn, started.planned, strict=True)]
        made.append(Heard(name, speaker, spoken, list(asked)))
    return made
