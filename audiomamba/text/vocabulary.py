"""Text to piece ids and back.

The pieces are a SentencePiece unigram model over normalised text (text/normalize.py). Id 0 is
SentencePiece's unknown piece, which normalised text never needs because every letter is a piece of
its own; the recogniser uses the same id as CTC's blank.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from sentencepiece import SentencePieceProcessor

from audiomamba.errors import ModelError

__all__ = ["BLANK", "WORD_START", "Vocabulary"]

BLANK = 0  # CTC's blank, and SentencePiece's unknown piece
WORD_START = "\u2581"  # SentencePiece writes the space before a word as this character


class Vocabulary:
    """The pieces of a language.

    Args:
        serialized: A SentencePiece model, as bytes.

    Attributes:
        pieces: ``V`` strings in order of id; ``pieces[BLANK]`` is "", a word's first piece begins
            with ``WORD_START``.

    Raises:
        ModelError: the bytes are no SentencePiece model, or its id 0 is not the unknown piece.
    """

    def __init__(self, serialized: bytes) -> None:
        self._model = SentencePieceProcessor()
        try:
            self._model.LoadFromSerializedProto(serialized)
        except (RuntimeError, OSError) as error:
            raise ModelError("vocabulary: not a SentencePiece model") from error
        if self._model.unk_id() != BLANK:
            raise ModelError(f"vocabulary: unknown piece wants id 0, got {self._model.unk_id()}")
        self.serialized = serialized
        names = [str(self._model.IdToPiece(i)) for i in range(self._model.GetPieceSize())]
        self.pieces: tuple[str, ...] = ("", *names[1:])

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read ``tokenizer.model``.

        Raises:
            ModelError: there is no such file, or it holds something else.
        """
        try:
            serialized = Path(path).read_bytes()
        except OSError as error:
            raise ModelError(f"vocabulary: cannot read {path}: {error.strerror}") from error
        return cls(serialized)

    def save(self, path: str | Path) -> None:
        """Write ``tokenizer.model``."""
        Path(path).write_bytes(self.serialized)

    def __len__(self) -> int:
        return len(self.pieces)

    def encode(self, text: str, sample: bool = False, alpha: float = 0.1) -> list[int]:
        """Ids of a normalised text.

        Args:
            text: Output of ``normalize``; anything else may hold characters that have no piece.
            sample: Draw one of the possible segmentations instead of the best (subword
                regularisation, Kudo 2018); the generator is the process's own.
            alpha: Smoothing of that draw, > 0; smaller is more uniform.

        Returns:
            Ids, none of them ``BLANK``.

        Raises:
            ModelError: a character has no piece.
        """
        if sample:
            ids = self._model.Encode(text, enable_sampling=True, alpha=alpha, nbest_size=-1)
        else:
            ids = self._model.Encode(text)
        if BLANK in ids:
            raise ModelError(f"vocabulary: {text!r} is not normalised, a character has no piece")
        return [int(i) for i in ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of piece ids; blanks are left out."""
        joined = "".join(self.pieces[i] for i in ids)
        return joined.replace(WORD_START, " ").strip()
