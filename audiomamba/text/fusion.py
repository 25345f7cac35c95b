"""Which decoder reads a stream: greedy, or a beam with the checkpoint's language model."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from audiomamba.errors import ModelError
from audiomamba.text.beam import BeamConfig
from audiomamba.text.beam_decoder import BeamDecoder
from audiomamba.text.ctc import CtcDecoder, Decoder
from audiomamba.text.ngram import NgramModel
from audiomamba.text.utterances import DecoderConfig
from audiomamba.text.vocabulary import Vocabulary

__all__ = ["Fusion", "FusionConfig", "make_decoder"]


@dataclass(kw_only=True, slots=True)
class FusionConfig:
    """``language_model`` of a checkpoint's ``config.json``: its file, and how it is used."""

    file: str
    weight: float = BeamConfig.weight
    word_bonus: float = BeamConfig.word_bonus
    beam: int = BeamConfig.beam
    candidates: int = BeamConfig.candidates

    def widths(self) -> BeamConfig:
        """The same without the file."""
        return BeamConfig(
            weight=self.weight,
            word_bonus=self.word_bonus,
            beam=self.beam,
            candidates=self.candidates,
        )


class Fusion:
    """A language model over the transcriber's pieces, and how much it is heard.

    Args:
        path: Of the model, read when it is first used.
        pieces: Of the transcriber's vocabulary.
        beam: Width of the search, weight of the model.
    """

    def __init__(self, path: Path, pieces: int, beam: BeamConfig) -> None:
        self.path, self.beam = path, beam
        self._pieces = pieces

    @cached_property
    def model(self) -> NgramModel:
        """The language model.

        Raises:
            ModelError: it cannot be read, or is over another vocabulary.
        """
        model = NgramModel.load(self.path)
        if model.vocabulary != self._pieces:
            raise ModelError(
                f"{self.path}: is over {model.vocabulary} pieces, "
                f"the transcriber has {self._pieces}"
            )
        return model


def make_decoder(
    vocabulary: Vocabulary, config: DecoderConfig, fusion: Fusion | None = None
) -> Decoder:
    """The decoder of one stream; greedy where there is no language model."""
    if fusion is None:
        return CtcDecoder(vocabulary, config)
    return BeamDecoder(vocabulary, config, fusion.model, fusion.beam)
