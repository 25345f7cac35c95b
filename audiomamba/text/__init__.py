"""Text side: normalisation, vocabulary, incremental decoding, subtitles."""

from audiomamba.text.normalize import normalize
from audiomamba.text.vocabulary import BLANK, WORD_START, Vocabulary

__all__ = ["BLANK", "WORD_START", "Vocabulary", "normalize"]
