"""What is served: one model behind its engines, and who may still come."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from audiomamba.errors import Overloaded, ProtocolError
from audiomamba.models.acoustic import NativeAcoustic
from audiomamba.models.checkpoint_files import digest
from audiomamba.models.listener import Listener
from audiomamba.models.registry import find
from audiomamba.streaming.engine import Engine, Engines, Recognizer, Session, StepModel
from audiomamba.streaming.protocol import AudioSettings, EndpointSettings, StreamSettings
from audiomamba.text.ctc import DecoderConfig

if TYPE_CHECKING:
    from audiomamba.streaming.engine.voice import Voice

__all__ = ["Service", "load_service", "step_model"]

LANGUAGES = ("en",)
FEATURES = (
    "interim", "words", "confidence", "flush", "cancel", "update", "gap", "metrics", "resume",
    "snapshot",
)  # fmt: skip
MakeRecognizer = Callable[[AudioSettings, DecoderConfig], Recognizer]


class Service:
    """The model that answers, its engines and its sessions.

    Args:
        engines: Run the model.
        name: Of the model.
        weights: Digest of its weights, in hexadecimal.
        recognizer: Makes what one stream needs beside the model.
        decoder: Decoding as the model wants it.
        voices: Make recordings; the first where a client names none.
    """

    def __init__(
        self,
        engines: Engines,
        *,
        name: str,
        weights: str,
        recognizer: MakeRecognizer,
        decoder: DecoderConfig,
        voices: "Sequence[Voice]" = (),
    ) -> None:
        self.engines = engines
        self.name = name
        self.weights = weights
        self.voices = tuple(voices)
        self.draining = False
        self._recognizer = recognizer
        self._decoder = decoder

    def unready(self) -> list[str]:
        """Why no stream can be opened now; empty when one can."""
        reasons = []
        if not self.engines.ready:
            reasons.append("warming up")
        if self.draining:
            reasons.append("draining")
        if self.engines.free == 0:
            reasons.append("full")
        return reasons

    def open(
        self,
        settings: StreamSettings,
        notify: Callable[[], None],
        state: dict[str, Any] | None = None,
    ) -> Session:
        """Open a session as a client wants it, or one that goes on from ``state``.

        Raises:
            ProtocolError: the model, language or look-ahead is not served here.
            Overloaded: no capacity now.
            StateError: ``state`` is another model's, or of audio of another form.
        """
        if settings.model not in (None, self.name):
            message = f"start.model: this server has {self.name}, got {settings.model!r}"
            raise ProtocolError(message, code="no_model", close_code=4404)
        language = (settings.language or LANGUAGES[0]).lower().split("-")[0]
        if language not in LANGUAGES:
            message = f"start.language: {self.name} knows en, got {settings.language!r}"
            raise ProtocolError(message, code="no_model", close_code=4404)
        if settings.look_ahead_ms not in (None, 0):
            message = f"start.look_ahead_ms: {self.name} offers 0, got {settings.look_ahead_ms}"
            raise ProtocolError(message, code="no_model", close_code=4404)
        if self.draining or not self.engines.ready:
            why = ", ".join(self.unready())
            raise Overloaded(f"the server takes no streams now: {why}", retry_after_s=2.0)
        return self.engines.open(
            self._recognizer(settings.audio, self.decoder(settings.endpointing)),
            settings.audio,
            overflow=settings.overflow,
            progress=settings.progress,
            notify=notify,
            state=state,
        )

    def voice(self, settings: StreamSettings) -> "Voice":
        """What makes the recordings of a stream.

        Raises:
            ProtocolError: nothing does here, or not the model that is asked for.
        """
        if not self.voices:
            message = "start.task: this server makes no recordings; see engine.voice"
            raise ProtocolError(message, code="no_model", close_code=4404)
        # Of a stream that also hears, start.model is what hears.
        wanted = settings.model if settings.task == "generate" else None
        for voice in self.voices:
            if wanted in (None, voice.name):
                return voice
        names = ", ".join(voice.name for voice in self.voices)
        message = f"start.model: recordings are made here by {names}, got {wanted!r}"
        raise ProtocolError(message, code="no_model", close_code=4404)

    def features(self) -> tuple[str, ...]:
        """What of the protocol is offered."""
        return (*FEATURES, "generate") if self.voices else FEATURES

    def models(self) -> list[dict[str, Any]]:
        """Every model by name, with the task of a stream that it is for."""
        about = {"object": "model", "created": 0, "owned_by": "audiomamba"}
        return [
            {"id": self.name, **about, "task": "transcribe"},
            *(
                {"id": voice.name, **about, "task": "generate", "generator": voice.description()}
                for voice in self.voices
            ),
        ]

    def decoder(self, endpointing: EndpointSettings) -> DecoderConfig:
        """The decoder's settings for a client's: a pause that it names is the whole rule."""
        decoder = self._decoder
        if endpointing.silence_ms is not None:
            decoder = replace(decoder, silence_s=endpointing.silence_ms / 1000, ends=None)
        return replace(
            decoder,
            endpointing=endpointing.mode == "auto",
            min_speech_s=endpointing.min_speech_ms / 1000,
            max_utterance_s=endpointing.max_utterance_s,
            threshold=endpointing.threshold,
            pre_roll_s=endpointing.pre_roll_ms / 1000,
        )

    def model(self) -> dict[str, Any]:
        """What ``ready`` says of the model."""
        return {
            "name": self.name,
            "hash": self.weights[:16],
            "sample_rate": 16_000,
            "frame_ms": round(self._decoder.frame_s * 1000),
            "look_ahead_ms": [0],
        }

    def limits(self) -> dict[str, Any]:
        """What ``ready`` says is refused beyond."""
        return {
            "audio_frame_bytes": 1 << 20,
            "text_frame_bytes": 1 << 16,
            "buffer_s": self.engines.limits.buffer_s,
            "streams": self.engines.slots,
        }


def load_service(
    model: str,
    *,
    device: str,
    slots: int,
    block: int,
    buffer_s: float,
    threads: int = 0,
    checkpoint_s: float = 0.0,
    language_model: bool = True,
    voice: str = "",
    recordings: int = 16,
) -> Service:
    """Load a model and put engines under it, which are not started yet.

    Args:
        model: Name or folder.
        device: torch's name of it.
        slots: Streams at once.
        block: Encoder frames a step; 0 = as few as the engine does well with.
        buffer_s: Audio that may wait in a stream.
        threads: Engines; 0 = one a core where the native engine runs, else one.
        checkpoint_s: Audio between two checkpoints of a stream; 0 = only when asked.
        voice: Name or folder of the model that makes recordings, which is loaded now; ``auto``
            for all that ship, each loaded when it is first wanted; none where empty.
        recordings: Made at once.
        language_model: Whether to decode with the checkpoint's, where it has one.

    Raises:
        ModelError: there is no such model, or it cannot be read.
    """
    from audiomamba.models.loading import load
    from audiomamba.models.recognition import Recognition
    from audiomamba.streaming.engine.session import SessionLimits

    folder = find(model)
    listener = load(folder, device=device)
    checkpoint = digest(folder)
    steps = _step_models(listener, slots=slots, block=block, threads=threads, checkpoint=checkpoint)
    # CTC writes now and then later than its mean delay, so a flush waits longer than by default.
    limits = SessionLimits(buffer_s=buffer_s, flush_tail_s=0.24, checkpoint_s=checkpoint_s)
    fusion = listener.fusion(None if language_model else False)
    if fusion is not None:
        fusion.read()

    def recognizer(audio: AudioSettings, decoder: DecoderConfig) -> Recognizer:
        return Recognition(
            listener.vocabulary,
            listener.config.features,
            decoder,
            block_frames=steps[0].frames_per_block,
            sample_rate=audio.sample_rate,
            channels=audio.channels,
            channel_mode=audio.channel_mode,
            fusion=fusion,
        )

    return Service(
        Engines([Engine(model, limits=limits, max_batch=model.best_batch) for model in steps]),
        name=folder.name,
        weights=checkpoint,
        recognizer=recognizer,
        decoder=listener.decoder_config(),
        voices=_voices(voice, device=device, recordings=recordings) if voice else (),
    )


def _voices(named: str, *, device: str, recordings: int) -> "list[Voice]":
    from audiomamba.streaming.engine.voice import installed, open_voice

    if named == "auto":
        return installed(device=device, recordings=recordings)
    voice = open_voice(named, device=device, recordings=recordings)
    voice.wanted().result()  # who names a model hears at once what is wrong with it
    return [voice]


def _step_models(
    listener: Listener, *, slots: int, block: int, threads: int, checkpoint: str
) -> list[StepModel]:
    """What the listener was loaded on, with a state a slot: a model a thread, of the same weights.

    The slots are shared out evenly; the first models get what is left over.
    """
    native = isinstance(listener.acoustic, NativeAcoustic)
    block = block or (2 if native else 4)
    shares = _shares(slots, threads or (len(os.sched_getaffinity(0)) if native else 1))
    return [step_model(listener, n, block=block, checkpoint=checkpoint) for n in shares]


def step_model(listener: Listener, slots: int, *, block: int, checkpoint: str = "") -> StepModel:
    """A model for one engine, on what the listener was loaded on.

    Args:
        listener: Has the weights, which all such models share.
        slots: Streams at once.
        block: Encoder frames a step.
        checkpoint: Digest of the checkpoint, where states are to be saved.
    """
    if isinstance(listener.acoustic, NativeAcoustic):
        from audiomamba.streaming.engine.native_model import NativeStepModel

        native = listener.acoustic.model
        return NativeStepModel(native, slots=slots, block=block, checkpoint=checkpoint)
    import torch

    from audiomamba.models.torch_acoustic import TorchAcoustic
    from audiomamba.streaming.engine.torch_model import TorchStepModel

    # The sessions share the processors; a step that spreads over them waits for the slowest.
    torch.set_num_threads(1)
    assert isinstance(listener.acoustic, TorchAcoustic)
    return TorchStepModel(listener.acoustic.model, slots=slots, block=block)


def _shares(slots: int, threads: int) -> list[int]:
    threads = min(slots, threads)
    return [slots // threads + (i < slots % threads) for i in range(threads)]
