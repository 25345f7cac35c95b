"""Text side: normalisation, vocabulary, incremental decoding, subtitles.

Only what rests on the standard library is here; ``audiomamba.text.vocabulary`` (SentencePiece) and
``audiomamba.text.ctc`` (numpy) are imported by those who use them, so that texts can be prepared
where neither is installed.
"""

from audiomamba.text.events import Event, Final, Partial, Reason, SpeechEnd, SpeechStart, Word
from audiomamba.text.normalize import normalize
from audiomamba.text.subtitles import srt, vtt

__all__ = [
    "Event",
    "Final",
    "Partial",
    "Reason",
    "SpeechEnd",
    "SpeechStart",
    "Word",
    "normalize",
    "srt",
    "vtt",
]
