"""A model without weights, for tests of what serves one: it writes a word at every onset of sound.

Which word depends on how many onsets its slot has seen, and it comes a few frames late, as from a
trained model. So a lost or repeated block, a mixed-up slot or a state that was not reset changes
the text.
"""

import json
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from audiomamba.audio import pcm
from audiomamba.audio.mel import MelConfig
from audiomamba.errors import StateError
from audiomamba.models.recognition import Recognition
from audiomamba.models.registry import SHIPPED
from audiomamba.streaming.engine import Engine, Engines, Session
from audiomamba.streaming.engine.session import SessionLimits
from audiomamba.streaming.protocol import AudioSettings, events
from audiomamba.streaming.server.service import Service
from audiomamba.text.ctc import DecoderConfig
from audiomamba.text.vocabulary import Vocabulary

FACTOR = 4  # feature frames of one output frame
DELAY = 8  # output frames from an onset to its word
LOUD = -10.9  # mean log energy: silence has -11.5, a burst up to -10.1
FRAME_S = 0.04
VOCABULARY = Vocabulary.load(SHIPPED / "listen-en" / "tokenizer.model")
WORDS = [i for i, piece in enumerate(VOCABULARY.pieces) if piece.startswith("▁") and len(piece) > 1]
WORDS = WORDS[:40]


class EnergyModel:
    """A StepModel; ``broken`` names what should go wrong."""

    num_mel_bins = 80
    state_bytes = 64
    fingerprint = kind = "energy"

    def __init__(self, slots: int = 4, block: int = 4, most_blocks: int = 1) -> None:
        self.slots = self.best_batch = slots
        self.frames_per_block = block * FACTOR
        self.most_blocks = most_blocks
        self.block_s = block * FRAME_S
        self.batches: list[int] = []
        self.before_step: Callable[[Sequence[int]], None] = lambda slots: None
        self._state: dict[int, list[int]] = {slot: self._fresh() for slot in range(slots + 1)}

    def step(self, features: NDArray[np.float32], slots: Sequence[int]) -> NDArray[np.float32]:
        self.before_step(slots)
        self.batches.append(len(slots))
        rows, frames = len(slots), features.shape[1] // FACTOR
        assert frames * FACTOR <= self.most_blocks * self.frames_per_block
        out = np.full((rows, frames, len(VOCABULARY)), -9.0, np.float32)
        loud = features.reshape(rows, frames, -1).mean(2) > LOUD
        for row, slot in enumerate(slots):
            for frame in range(frames):
                out[row, frame, self._next(slot, bool(loud[row, frame]))] = -0.1
        return out

    def reset(self, slot: int) -> None:
        self._state[slot] = self._fresh()

    def save(self, slot: int) -> bytes:
        return json.dumps({"of": "energy", "state": self._state[slot]}).encode()

    def load(self, slot: int, snapshot: bytes) -> None:
        saved = json.loads(snapshot)
        if saved["of"] != "energy":
            raise StateError("snapshot of another model")
        self._state[slot] = saved["state"]

    def _next(self, slot: int, loud: bool) -> int:
        """The piece of one frame: blank, or the word of an onset DELAY frames ago."""
        count, *recent = self._state[slot]
        recent = [*recent[1:], int(loud)]
        onset = recent[1] and not recent[0]
        self._state[slot] = [count + onset, *recent]
        return WORDS[count % len(WORDS)] if onset else 0

    @staticmethod
    def _fresh() -> list[int]:
        return [0] * (DELAY + 2)


def decoder() -> DecoderConfig:
    return DecoderConfig(frame_s=FRAME_S, emission_delay_s=DELAY * FRAME_S)


def recognizer(
    audio: AudioSettings | None = None,
    config: DecoderConfig | None = None,
    *,
    block: int = 4,
) -> Recognition:
    audio = audio or AudioSettings()
    return Recognition(
        VOCABULARY,
        MelConfig(),
        config or decoder(),
        block_frames=block * FACTOR,
        sample_rate=audio.sample_rate,
        channels=audio.channels,
        channel_mode=audio.channel_mode,
    )


def service(model: EnergyModel | None = None, limits: SessionLimits | None = None) -> Service:
    """A service on the energy model; its engine is started."""
    engine = Engine(model or EnergyModel(), limits=limits)
    engine.start()
    return Service(
        Engines([engine]), name="energy", weights="0" * 64, recognizer=recognizer, decoder=decoder()
    )


def spoken(words: int) -> str:
    """What the model writes for so many bursts."""
    return VOCABULARY.decode([WORDS[i % len(WORDS)] for i in range(words)])


def bursts(words: int, *, rate: int = 16_000, pause_s: float = 0.24) -> NDArray[np.float32]:
    """A tone of 0.24 s after a pause, so many times."""
    t = np.arange(round(0.24 * rate)) / rate
    tone = 0.5 * np.sin(2 * np.pi * 440 * t) * np.hanning(len(t))
    one = np.concatenate([np.zeros(round(pause_s * rate)), tone])
    return np.tile(one, words).astype(np.float32)


def linear16(samples: NDArray[np.float32]) -> bytes:
    return pcm.encode(samples, "linear16")


class Listener:
    """Collects the events of a session; ``until`` waits for one of a kind, as long as it takes."""

    def __init__(
        self, engine: Engine | Engines, audio: AudioSettings | None = None, **options: object
    ) -> None:
        import threading

        self._news = threading.Event()
        self.heard: list[events.Event] = []
        audio = audio or AudioSettings()
        block = (engine.model.frames_per_block if isinstance(engine, Engine) else 16) // FACTOR
        self.session: Session = engine.open(
            recognizer(audio, block=block),
            audio,
            notify=self._news.set,
            **options,  # type: ignore[arg-type]
        )

    def until(self, kind: type[events.Event]) -> list[events.Event]:
        """All events up to the first of ``kind`` that was not seen before."""
        while True:
            self._news.clear()
            new = self.session.take_events()
            self.heard += new
            if any(isinstance(event, kind) for event in new):
                return self.heard
            assert self._news.wait(30), f"no {kind.__name__} in {self.heard}"

    def feed(self, audio: bytes) -> None:
        """Feed all of it, waiting for room."""
        while audio := audio[self.session.feed(audio) :]:
            assert self._news.wait(30)
            self._news.clear()

    def text(self) -> str:
        return " ".join(event.text for event in self.heard if isinstance(event, events.Final))
