"""Listening: a trained transcriber, its vocabulary and a stream of words."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomamba.config import from_mapping
from audiomamba.errors import ModelError
from audiomamba.models.acoustic import AcousticModel, EngineName, load_acoustic
from audiomamba.models.checkpoint_files import read_config
from audiomamba.models.piece_language import load_piece_language
from audiomamba.models.recognition import Recognition, Samples
from audiomamba.models.transcriber_config import FACTOR, TranscriberConfig
from audiomamba.text.events import Event, Final, Word
from audiomamba.text.fusion import Fusion, FusionConfig
from audiomamba.text.utterances import DecoderConfig
from audiomamba.text.vocabulary import Vocabulary

__all__ = ["LIVE_BLOCK", "Listener", "Stream", "Transcript"]

LIVE_BLOCK = 4
"""Encoder frames a block of a live stream: 160 ms."""
FILE_BLOCK = 64
"""Encoder frames a block of a file; larger products use a processor better."""
READ_S = 5.0


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said in a recording.

    Attributes:
        text: The words, separated by spaces.
        words: With times in seconds from the first sample, and confidences in 0..1.
        seconds: Length of the recording.
    """

    text: str
    words: list[Word]
    seconds: float


class Stream:
    """One live stream, from :meth:`Listener.stream`; its memory does not grow with its length."""

    def __init__(self, model: AcousticModel, recognition: Recognition) -> None:
        self._model = model
        self._recognition = recognition
        self.channels = recognition.channels
        self._state = model.init_state()
        self._finished = False

    @property
    def state_bytes(self) -> int:
        """Size of the network's memory of this stream: the same at any time."""
        return self._model.state_bytes(self._state)

    def feed(self, samples: Samples) -> list[Event]:
        """Take samples ``(n,)`` or ``(n, channels)``, float32 in -1..1, any n; return what changed.

        Raises:
            AudioError: the samples are of another shape or not finite, or the stream is finished.
        """
        if self._finished:
            raise ModelError("stream: is finished; open a new one")
        self._recognition.push(samples)
        return self._run()

    def finish(self) -> list[Event]:
        """End the stream: the last words come, nothing can be fed any more."""
        if self._finished:
            return []
        self._finished = True
        self._recognition.push_end()
        return self._run() + self._recognition.finish()

    def _run(self) -> list[Event]:
        events: list[Event] = []
        while (block := self._recognition.next_block()) is not None:
            log_probs, self._state = self._model.log_probs(block, self._state)
            events += self._recognition.accept(log_probs)
        return events


class Listener:
    """A transcriber that can be used: ``load("listen-en")`` makes one."""

    def __init__(
        self,
        acoustic: AcousticModel,
        config: TranscriberConfig,
        vocabulary: Vocabulary,
        name: str,
        fusion: Fusion | None = None,
    ) -> None:
        self.acoustic = acoustic
        self.config = config
        self.vocabulary = vocabulary
        self.name = name
        self._fusion = fusion

    @property
    def engine(self) -> str:
        """What runs the network: ``native`` or ``torch``."""
        return self.acoustic.engine

    @classmethod
    def from_folder(
        cls, folder: Path, *, device: str = "cpu", engine: EngineName = "auto"
    ) -> "Listener":
        """Load a checkpoint folder.

        Raises:
            ModelError: a file is missing or damaged, or the checkpoint is of another kind.
            BackendError: the engine cannot run here.
        """
        config = read_config(folder)
        if config.get("kind") != "transcriber":
            raise ModelError(f"{folder}: wants a transcriber, got kind {config.get('kind')!r}")
        vocabulary = Vocabulary.load(folder / "tokenizer.model")
        return cls(
            load_acoustic(folder, device=device, engine=engine),
            from_mapping(TranscriberConfig, config["model"]),
            vocabulary,
            folder.name,
            _fusion(folder, config.get("language_model"), len(vocabulary)),
        )

    def fusion(self, lm: bool | None = None) -> Fusion | None:
        """The language model to decode with.

        Args:
            lm: Whether to use the checkpoint's language model; None uses it where there is one.

        Raises:
            ModelError: it is asked for, and the checkpoint has none.
        """
        if lm and self._fusion is None:
            raise ModelError(
                f"{self.name}: has no language model; see audiomamba.training.language"
            )
        return None if lm is False else self._fusion

    def decoder_config(self, **changes: Any) -> DecoderConfig:
        """Decoding as this model wants it, with ``changes``.

        A ``silence_s`` among them means that pause and nothing else: the model's endpoint outputs
        have no say, unless ``ends`` is there too.
        """
        if "silence_s" in changes:
            changes = {"ends": None, **changes}
        config = DecoderConfig(
            frame_s=self.config.frame_s,
            emission_delay_s=self.config.delay_s,
            start_delay_s=self.config.start_delay_s,
            confidence_scale=self.config.confidence_scale,
            silence_s=self.config.silence_s,
            ends=self.config.endpoint,
        )
        return replace(config, **changes)

    def recognition(
        self,
        *,
        sample_rate: int = 16_000,
        channels: int = 1,
        block: int = LIVE_BLOCK,
        decoder: DecoderConfig | None = None,
        lm: bool | None = None,
    ) -> Recognition:
        """All of a stream but the model's own state, for those who run the model themselves."""
        return Recognition(
            self.vocabulary,
            self.config.features,
            decoder or self.decoder_config(),
            block_frames=block * FACTOR,
            sample_rate=sample_rate,
            channels=channels,
            fusion=self.fusion(lm),
        )

    def stream(
        self,
        *,
        sample_rate: int = 16_000,
        channels: int = 1,
        block: int = LIVE_BLOCK,
        decoder: DecoderConfig | None = None,
        lm: bool | None = None,
    ) -> Stream:
        """Open a live stream of samples at ``sample_rate`` (8000 to 48000 Hz).

        Args:
            sample_rate: Of what is fed, Hz.
            channels: Of what is fed; they are mixed.
            block: Encoder frames the network takes at once.
            decoder: Times and endpoints, from :meth:`decoder_config`.
            lm: Whether to decode with the checkpoint's language model; None where there is one.
        """
        recognition = self.recognition(
            sample_rate=sample_rate, channels=channels, block=block, decoder=decoder, lm=lm
        )
        return Stream(self.acoustic, recognition)

    def transcribe(
        self,
        audio: str | Path | NDArray[np.float32],
        *,
        sample_rate: int = 16_000,
        lm: bool | None = None,
        decoder: DecoderConfig | None = None,
    ) -> Transcript:
        """Transcribe a file (in constant memory), or samples ``(n,)`` at ``sample_rate``.

        ``lm`` and ``decoder`` are those of :meth:`stream`.

        Raises:
            AudioError: the file cannot be read as audio.
        """
        samples, rate = 0, sample_rate

        def counted() -> Iterator[tuple[int, Samples]]:
            nonlocal samples, rate
            for rate, block in _blocks(audio, sample_rate):
                samples += len(block)
                yield rate, block

        events = self.events(counted(), lm=lm, decoder=decoder)
        finals = [event for event in events if isinstance(event, Final)]
        words = [word for final in finals for word in final.words]
        text = " ".join(final.text for final in finals if final.text)
        return Transcript(text, words, samples / rate)

    def events(
        self,
        blocks: Iterable[tuple[int, Samples]],
        *,
        lm: bool | None = None,
        decoder: DecoderConfig | None = None,
    ) -> Iterator[Event]:
        """What is heard in a recording that comes as rate in Hz and blocks, each as it is known.

        Args:
            blocks: ``(n,)`` or ``(n, channels)`` float32 in -1..1, all of one rate and shape, as
                ``audio.files.stream`` and ``audio.wav_stream.stream`` give them.
            lm: As for :meth:`stream`.
            decoder: The same.
        """
        stream: Stream | None = None
        for rate, block in blocks:
            if stream is None:
                channels = block.shape[1] if block.ndim == 2 else 1
                stream = self.stream(
                    sample_rate=rate, channels=channels, block=FILE_BLOCK, decoder=decoder, lm=lm
                )
            yield from stream.feed(block if stream.channels > 1 else block.reshape(len(block)))
        if stream is not None:
            yield from stream.finish()


def _blocks(
    audio: str | Path | NDArray[np.float32], sample_rate: int
) -> Iterable[tuple[int, Samples]]:
    if isinstance(audio, np.ndarray):
        return [(sample_rate, audio)]
    from audiomamba.audio import files  # late: a server reads none

    return files.stream(audio, READ_S)


def _fusion(folder: Path, spec: Any, pieces: int) -> Fusion | None:
    if spec is None:
        return None
    config = from_mapping(FusionConfig, spec, where="language_model")
    load = partial(load_piece_language, folder / config.neural, pieces) if config.neural else None
    ngrams = folder / config.file if config.file else None
    return Fusion(ngrams, pieces, config.widths(), load)
