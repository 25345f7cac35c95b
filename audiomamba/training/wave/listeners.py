"""Recognisers that say which word they hear, as judges of single words."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomamba.audio.resample import Resampler
from audiomamba.errors import BackendError
from audiomamba.text.normalize import normalize
from audiomamba.training.peers import Recognize

__all__ = ["heard_right", "pocketsphinx_of"]

RATE = 16_000  # Hz of what recognisers hear
MARGIN_S = 0.3  # of silence before and after: words cut tightly are nobody's training


def pocketsphinx_of(words: Sequence[str]) -> Recognize:
    """PyPI's ``pocketsphinx`` with the acoustic model it carries, and a grammar of one word.

    Raises:
        BackendError: it is not installed.
    """
    try:
        from pocketsphinx import Decoder  # type: ignore[import-not-found]
    except ImportError:
        raise BackendError("pocketsphinx is not installed: pip install pocketsphinx") from None
    decoder: Any = Decoder(samprate=RATE, lm=None, loglevel="FATAL")
    decoder.add_jsgf_string(
        "words", f"#JSGF V1.0; grammar words; public <word> = {' | '.join(words)};"
    )
    decoder.activate_search("words")

    def recognize(samples: NDArray[np.float32]) -> str:
        pcm = (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
        decoder.start_utt()
        decoder.process_raw(pcm, full_utt=True)
        decoder.end_utt()
        best = decoder.hyp()
        return best.hypstr if best else ""

    return recognize


def heard_right(
    recognize: Recognize,
    sounds: Sequence[NDArray[np.float32]],
    labels: Sequence[str | None],
    sample_rate: int,
) -> float:
    """Share of ``sounds`` of which a recogniser says the one word of their label, and no other."""
    margin = np.zeros(round(MARGIN_S * RATE), np.float32)
    right = 0
    for sound, label in zip(sounds, labels, strict=True):
        resampler = Resampler(sample_rate, RATE)
        heard = np.concatenate([margin, resampler.feed(sound), resampler.finish(), margin])
        right += normalize(recognize(heard)) == label
    return right / max(len(sounds), 1)
