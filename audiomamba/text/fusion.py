"""Which decoder reads a stream: greedy, or a beam with the checkpoint's language models."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from audiomamba.errors import ConfigError, ModelError
from audiomamba.text.beam import BeamConfig, PieceLanguage
from audiomamba.text.beam_decoder import BeamDecoder
from audiomamba.text.ctc import CtcDecoder, Decoder
from audiomamba.text.ngram import NgramModel, alike
from audiomamba.text.utterances import DecoderConfig
from audiomamba.text.vocabulary import Vocabulary

__all__ = ["Fusion", "FusionConfig", "make_decoder"]


@dataclass(kw_only=True, slots=True)
class FusionConfig:
    """``language_model`` of a checkpoint's ``config.json``: its files, and how they are used."""

    file: str = ""  # n-grams; none where it is empty
    neural: str = ""  # folder of a neural model, likewise
    weight: float = BeamConfig.weight
    neural_weight: float = BeamConfig.neural_weight
    word_bonus: float = BeamConfig.word_bonus
    piece_bonus: float = BeamConfig.piece_bonus
    beam: int = BeamConfig.beam
    candidates: int = BeamConfig.candidates

    def __post_init__(self) -> None:
        if not self.file and not self.neural:
            raise ConfigError("language_model: names neither a file of n-grams nor a neural model")

    def widths(self) -> BeamConfig:
        """The same without the files; n-grams that are not there have no say."""
        return BeamConfig(
            weight=self.weight if self.file else 0.0,
            neural_weight=self.neural_weight,
            word_bonus=self.word_bonus,
            piece_bonus=self.piece_bonus,
            beam=self.beam,
            candidates=self.candidates,
        )


class Fusion:
    """Language models over the transcriber's pieces, and how much they are heard.

    Args:
        path: Of the n-grams, read when they are first used; None where there are none.
        pieces: Of the transcriber's vocabulary.
        beam: Width of the search, weights of the models.
        load_language: Loads the neural model, when it is first used; None where there is none.
    """

    def __init__(
        self,
        path: Path | None,
        pieces: int,
        beam: BeamConfig,
        load_language: Callable[[], PieceLanguage] | None = None,
    ) -> None:
        self.path, self.beam = path, beam
        self._pieces, self._load_language = pieces, load_language

    def read(self) -> None:
        """Read all of it now, not when the first stream comes.

        Raises:
            ModelError: a model cannot be read, or is over another vocabulary.
        """
        _ = self.model, self.language

    @cached_property
    def language(self) -> PieceLanguage | None:
        """The neural language model, where there is one."""
        return self._load_language() if self._load_language is not None else None

    @cached_property
    def model(self) -> NgramModel:
        """The n-grams; where there are none, what says the same of every piece.

        Raises:
            ModelError: they cannot be read, or are over another vocabulary.
        """
        if self.path is None:
            return alike(self._pieces)
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
    return BeamDecoder(vocabulary, config, fusion.model, fusion.beam, fusion.language)
