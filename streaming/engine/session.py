"""One stream: what its client may do at any time, and what the engine's thread does with it."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import Enum, auto
from typing import Any

import numpy as np

from audiomamba.audio import pcm
from audiomamba.errors import AudioError, StateError
from audiomamba.streaming.engine.mailbox import Mailbox
from audiomamba.streaming.engine.model import FloatArray, Recognizer, StepModel
from audiomamba.streaming.engine.ring import InputRing, Item, Silence, Skip
from audiomamba.streaming.engine.soundcheck import SoundCheck
from audiomamba.streaming.engine.translate import Heard, translate
from audiomamba.streaming.protocol import events
from audiomamba.streaming.protocol.settings import AudioSettings, Overflow
from audiomamba.text.ctc import DecoderConfig

__all__ = ["Session", "SessionLimits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """Bounds of one session.

    Attributes:
        buffer_s: Audio that may wait.
        buffer_bytes: The same in bytes, for formats of many channels.
        silence_s: Of a gap, how much is heard; the rest only passes.
        flush_tail_s: Silence heard by the copy that a flush makes, beside the model's delay:
            shorter loses the last word, longer the first one after.
        finish_tail_s: Silence heard after the end, beside the model's delay.
        lagging_s: Backlog from which on the client is warned.
        checkpoint_s: Audio after which the stream is saved, besides at each final; 0 = saved only
            when somebody asks.
    """

    buffer_s: float = 30.0
    buffer_bytes: int = 16 << 20
    silence_s: float = 5.0
    flush_tail_s: float = 0.16
    finish_tail_s: float = 0.8
    lagging_s: float = 2.0
    checkpoint_s: float = 0.0


class _Phase(Enum):
    LIVE = auto()
    FLUSHING = auto()  # a copy of the stream hears silence
    ENDING = auto()  # the stream itself does, for good
    OVER = auto()


@dataclass(frozen=True, slots=True)
class _Flush:
    id: str | None


@dataclass(frozen=True, slots=True)
class _Finish:
    pass


@dataclass(frozen=True, slots=True)
class _Save:
    """Say where the stream is; ``park``: and leave it there."""

    park: bool


@dataclass(frozen=True, slots=True)
class _Fork:
    """The stream as it was before a flush, and what happens once the flush is through."""

    audio: dict[str, Any]
    model: bytes
    then: _Flush | Skip


class Session:
    """One stream of audio. Made by :meth:`Engine.open`.

    ``feed`` to ``take_events`` may be called from any one thread; ``advance`` and ``accept`` belong
    to the engine's.

    Args:
        slot: Where the model keeps this stream.
        model: The engine's.
        recognizer: The rest of the way, this session's own.
        audio: What will be fed.
        overflow: What gives when more is fed than is decoded.
        progress: Whether audio is taken, and ``Progress`` said, as it comes; else once a block of
            it is there, which takes fewer turns.
        limits: Bounds.
        wake: Tells the engine that there is something to do.
        notify: Tells the reader that there are events, or that there is room again. Called from
            the engine's thread.
        state: Of a :class:`~audiomamba.streaming.protocol.events.Checkpoint`, to go on from it.

    Raises:
        StateError: ``state`` is another model's, or of audio in another form.
    """

    def __init__(
        self,
        *,
        slot: int,
        model: StepModel,
        recognizer: Recognizer,
        audio: AudioSettings,
        overflow: Overflow,
        progress: bool = True,
        limits: SessionLimits,
        wake: Callable[["Session"], None],
        notify: Callable[[], None],
        state: dict[str, Any] | None = None,
    ) -> None:
        self.slot = slot
        self.audio = audio
        self.cancelled = False
        self.received = 0  # samples, silence and all
        self.decoded = 0  # samples taken from the ring, silence and all
        self.model = model
        self._recognizer = recognizer
        self._limits = limits
        self._progress = progress
        self._due_at = 0  # samples in the ring from which there is a block
        self._short = False  # the client waits for room
        self.overflow = overflow
        self._wake = wake
        self._notify = notify
        capacity = min(
            round(limits.buffer_s * audio.sample_rate), limits.buffer_bytes // audio.frame_bytes
        )
        self._ring = InputRing(capacity, audio.frame_bytes)
        self._mailbox = Mailbox()
        self._phase = _Phase.LIVE
        self._fork: _Fork | None = None
        self._fork_frames = 0  # decoder frames the copy was ahead when it was dropped
        self._skipped = 0  # samples of time the model did not hear
        # Samples taken from the ring at once: where more wait, the blocks of a whole step.
        self._pull = round(audio.sample_rate * model.block_s * model.most_blocks)
        self._warned = False
        self._check = SoundCheck(audio.sample_rate * audio.channels)
        self._begun = False
        self._held: list[events.Event] = []  # said while there is no state to go on from
        self._saved_at = 0  # samples of the last checkpoint
        self._begin_with: bytes | None = None  # to begin with
        if state is not None:
            self._restore(state)

    # What the client may do.

    def feed(self, audio: bytes) -> int:
        """Take audio in the session's encoding, whole samples of it.

        Returns:
            Bytes taken. Fewer than given where ``overflow`` is not ``drop_oldest`` and the ring
            is full: the rest has to be fed again once there is room.

        Raises:
            AudioError: a float32 sample is not finite.
        """
        if self.audio.encoding == "float32":
            _check_floats(audio)
        self._short = True  # before the look at the ring: room that comes after it is told
        taken = self._ring.offer(audio)
        while taken < len(audio) and self.overflow == "drop_oldest":
            self._ring.drop_oldest((len(audio) - taken) // self.audio.frame_bytes)
            taken += self._ring.offer(audio[taken:])
        if taken == len(audio):
            self._short = False
        self.received += taken // self.audio.frame_bytes
        if taken < len(audio) or self._ring.held >= self._due_at:
            self._wake(self)
        return taken

    def gap(self, samples: int) -> None:
        """Let time pass; the model hears at most a few seconds of it."""
        heard = min(samples, round(self._limits.silence_s * self.audio.sample_rate))
        self._ring.put(Silence(heard))
        if samples > heard:
            self._ring.put(Skip(samples - heard, lost=False))
        self.received += samples
        self._wake(self)

    def flush(self, id: str | None = None) -> None:
        """Make what was fed so far final, without disturbing what comes after."""
        self._ring.put(_Flush(id))
        self._wake(self)

    def finish(self) -> None:
        """No more audio comes; ``Drained`` follows the last final."""
        self._ring.put(_Finish())
        self._wake(self)

    def configure(self, decoder: DecoderConfig) -> None:
        """Use other endpoints for the audio fed from now on."""
        self._ring.put(decoder)
        self._wake(self)

    def checkpoint(self) -> None:
        """Say ``Checkpoint`` as soon as all that was fed is decoded."""
        self._ring.put(_Save(park=False))
        self._wake(self)

    def park(self) -> None:
        """Say ``Checkpoint`` and ``Parked`` once all that was fed is decoded; that is the end."""
        self._ring.put(_Save(park=True))
        self._wake(self)

    def cancel(self) -> None:
        """Give the slot back; nothing more is said. May be called more than once."""
        self.cancelled = True
        self._wake(self)

    def take_events(self) -> list[events.Event]:
        """What happened since the last call."""
        was_full = self._mailbox.full
        taken = self._mailbox.take()
        if was_full:
            self._wake(self)
        return taken

    @property
    def over(self) -> bool:
        """Whether the engine is done with it."""
        return self._phase is _Phase.OVER

    @property
    def buffered_s(self) -> float:
        """Seconds of audio that wait."""
        return self._ring.held / self.audio.sample_rate

    @property
    def lag_s(self) -> float:
        """Seconds from what was received to what was decoded."""
        return (self.received - self.decoded) / self.audio.sample_rate

    # What the engine's thread does.

    def advance(self) -> FloatArray | None:
        """Take input until a block is ready; None when there is nothing to do for now.

        Several blocks, up to the model's most, where the stream is behind by as many.
        """
        self._begin()
        self._warn_of_lag()
        while not self.over and not self._mailbox.full:
            block = self._recognizer.next_block()
            if block is not None:
                return self._and_more(block)
            if self._phase is not _Phase.LIVE:
                self._settle()
                continue
            if self._must_wait():
                break
            item = self._ring.take(self._pull)
            if item is None:
                self._say(events.Progress(self.decoded))
                break
            self._take(item)
            self._save_now_and_then()
        return None

    def accept(self, log_probs: FloatArray) -> None:
        """Take what the model made of the blocks that ``advance`` returned, ``(T, V)``."""
        if self._phase is _Phase.FLUSHING:
            self._fork_frames += len(log_probs)
        elif self._fork_frames:  # the decoder heard the copy's silence in their stead
            heard = min(self._fork_frames, len(log_probs))
            self._fork_frames -= heard
            log_probs = log_probs[heard:]
        if len(log_probs):
            self._pass_on(self._recognizer.accept(log_probs))
            if any(isinstance(event, events.Final) for event in self._held):
                self._save()
            self._let_go()

    def fail(self, ref: str) -> None:
        """Close it, with a word to the client."""
        self._phase = _Phase.OVER
        self._say(events.Failed(ref))

    def close(self) -> None:
        """The engine gave its slot away."""
        self._phase = _Phase.OVER

    def _and_more(self, block: FloatArray) -> FloatArray:
        blocks = [block]
        while len(blocks) < self.model.most_blocks:
            more = self._recognizer.next_block()
            if more is None:
                break
            blocks.append(more)
        return np.concatenate(blocks) if len(blocks) > 1 else block

    def _must_wait(self) -> bool:
        """Whether to leave the audio in the ring until a block of it is there."""
        if self._progress:
            return False
        self._due_at = wanted = self._recognizer.wanted()
        if self._ring.lacks(wanted):
            return True
        self._due_at = 0
        return False

    def _take(self, item: Item) -> None:
        match item:
            case bytes():
                samples = pcm.decode(item, self.audio.encoding)
                self._hear(samples)
                for warning in self._check.look(samples):
                    self._say(warning)
                if self._short:
                    self._short = False
                    self._notify()  # there is room again
            case Silence(samples):
                self._hear(np.zeros(samples * self.audio.channels, np.float32))
            case Skip() | _Flush():
                self._begin_flush(item)
            case DecoderConfig():
                self._recognizer.configure(item)
            case _Finish():
                self._recognizer.push_end(self._limits.finish_tail_s)
                self._phase = _Phase.ENDING
            case _Save(park):
                self._say(self._checkpoint(requested=not park))
                if park:
                    self._phase = _Phase.OVER
                    self._say(events.Parked())
            case _:
                raise TypeError(f"session: cannot take {type(item).__name__}")

    def _hear(self, samples: FloatArray) -> None:
        channels = self.audio.channels
        self.decoded += len(samples) // channels
        self._recognizer.push(samples.reshape(-1, channels) if channels > 1 else samples)

    def _begin_flush(self, then: _Flush | Skip) -> None:
        self._fork = _Fork(self._recognizer.audio_state(), self.model.save(self.slot), then)
        # Before a skip that lost nothing, silence was heard already: every word is out.
        silent = isinstance(then, Skip) and not then.lost
        self._recognizer.push_end(0.0 if silent else self._limits.flush_tail_s)
        self._phase = _Phase.FLUSHING

    def _settle(self) -> None:
        """The silence after a flush or the end was heard."""
        if self._phase is _Phase.ENDING:
            self._pass_on(self._recognizer.finish())
            self._phase = _Phase.OVER
            self._held.append(events.Drained())
            self._let_go()
            return
        assert self._fork is not None
        self._pass_on(self._recognizer.flush())
        fork, self._fork = self._fork, None
        self._recognizer.load_audio_state(fork.audio)
        self.model.load(self.slot, fork.model)
        self._phase = _Phase.LIVE
        if isinstance(fork.then, Skip):
            self._skip(fork.then)
        else:
            flushed = events.Flushed(fork.then.id, self.decoded / self.audio.sample_rate)
            self._held.append(flushed)
        self._save()
        self._let_go()

    def _skip(self, skip: Skip) -> None:
        start = self.decoded / self.audio.sample_rate
        self.decoded += skip.samples
        self._skipped += skip.samples
        if skip.lost:
            end = self.decoded / self.audio.sample_rate
            message = f"audio from {start:.2f} s to {end:.2f} s was dropped: decoding is too slow"
            details = {"from": start, "to": end}
            self._held.append(events.Warned("audio_dropped", message, details))

    def _warn_of_lag(self) -> None:
        lag = self.buffered_s
        if lag > self._limits.lagging_s and not self._warned:
            self._warned = True
            self._say(events.Warned("lagging", f"{lag:.1f} s of audio wait to be decoded"))
        elif lag < self._limits.lagging_s / 2:
            self._warned = False

    def _pass_on(self, heard: list[Heard]) -> None:
        offset = self._skipped / self.audio.sample_rate
        self._held += [translate(event, offset) for event in heard]
        if heard:
            self._check.spoken()

    def _say(self, event: events.Event) -> None:
        self._mailbox.put(event)
        self._notify()

    def _let_go(self) -> None:
        """Say what was held back, in one piece; not while a copy hears silence.

        A final and the checkpoint that follows it are read together, so that whoever keeps
        checkpoints can keep this one before its client reads the final: what was said once is then
        never said twice.
        """
        if self._held and self._phase in (_Phase.LIVE, _Phase.OVER):
            self._mailbox.put(*self._held)
            self._held = []
            self._notify()

    # Where the stream is, to go on from elsewhere.

    def _begin(self) -> None:
        if self._begun:
            return
        self.model.reset(self.slot)
        if self._begin_with is not None:
            self.model.load(self.slot, self._begin_with)
            self._begin_with = None
        self._begun = True

    def _save_now_and_then(self) -> None:
        due = self._saved_at + self._limits.checkpoint_s * self.audio.sample_rate
        if self.decoded >= due:
            self._save()
            self._let_go()

    def _save(self) -> None:
        """Hold a checkpoint, where they are wanted and can be made: not while a copy runs."""
        if self._limits.checkpoint_s and self._phase is _Phase.LIVE:
            self._held.append(self._checkpoint())

    def _checkpoint(self, *, requested: bool = False) -> events.Checkpoint:
        self._saved_at = self.decoded
        state = {
            "fingerprint": self.model.fingerprint,
            "audio": asdict(self.audio),
            "decoded": self.decoded,
            "skipped": self._skipped,
            "fork_frames": self._fork_frames,
            "heard": self._recognizer.audio_state(),
            "decoder": self._recognizer.decoder_state(),
            "model": self.model.save(self.slot),
        }
        return events.Checkpoint(state, self.decoded, requested)

    def _restore(self, state: dict[str, Any]) -> None:
        if state["fingerprint"] != self.model.fingerprint:
            raise StateError("the stream was saved by another model or engine")
        if state["audio"] != asdict(self.audio):
            raise StateError(f"the stream was saved with audio {state['audio']}")
        self.received = self.decoded = self._saved_at = int(state["decoded"])
        self._skipped = int(state["skipped"])
        self._fork_frames = int(state["fork_frames"])
        self._recognizer.load_audio_state(state["heard"])
        self._recognizer.load_decoder_state(state["decoder"])
        self._begin_with = bytes(state["model"])


def _check_floats(audio: bytes) -> None:
    samples = np.frombuffer(audio, "<f4")
    wrong = ~np.isfinite(samples)
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise AudioError(f"float32 audio wants finite samples, got {samples[at]} at {at}")
