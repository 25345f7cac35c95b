"""A script of single digits for the synthetic voices (training/speech/generate.py).

    python -m audiomamba.training.wave.digit_script VOCAB.json PACK/script-1.npz.xz --lines 60000

With it in the pack in the place of other scripts, every line is one word of a new speaker; the
corpus that is made is one for ``data.corpora`` of ``experiment=wave_digits``.
"""

import argparse
import json
import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from audiomamba.training.speech.g2p import Accent, Phonemiser
from audiomamba.training.speech.script import BRITISH_SHARE, Script

__all__ = ["DIGITS", "digit_script"]

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def digit_script(vocabulary: Mapping[str, int], count: int, seed: int) -> Script:
    """``count`` lines of a digit each, all equally often, in an order that the seed fixes.

    Args:
        vocabulary: Phone letter to id, as the voice model has it.
        count: Lines.
        seed: Of order and accents.

    Raises:
        BackendError: espeak-ng is not installed.
    """
    phonemiser, rng = Phonemiser(vocabulary), random.Random(seed)
    texts = [DIGITS[i % len(DIGITS)] for i in range(count)]
    rng.shuffle(texts)
    british = [rng.random() < BRITISH_SHARE for _ in texts]
    # A full stop makes a word fall as the end of a sentence does.
    accents: tuple[Accent, Accent] = ("us", "gb")
    spoken = {
        (word, accent): bytes(phonemiser.ids(word + ".", accent))
        for accent in accents
        for word in DIGITS
    }
    phones = [spoken[text, accents[gb]] for text, gb in zip(texts, british, strict=True)]
    offsets = np.cumsum([0, *map(len, phones)]).astype(np.int64)
    return Script(np.frombuffer(b"".join(phones), np.uint8), offsets, texts, np.array(british))


def main() -> None:
    """Write a script."""
    parser = argparse.ArgumentParser(description="A script of single digits.")
    parser.add_argument("vocabulary", type=Path, help='JSON: {"vocab": {letter: id}}')
    parser.add_argument("out", type=Path)
    parser.add_argument("--lines", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    vocabulary = json.loads(options.vocabulary.read_text(encoding="utf-8"))["vocab"]
    digit_script(vocabulary, options.lines, options.seed).save(options.out)


if __name__ == "__main__":
    main()
