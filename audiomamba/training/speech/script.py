"""The script: many lines with their phone ids, made ahead, because espeak runs on the CPU alone.

    python -m audiomamba.training.speech.script TEXT.tar VOCAB.json OUT.npz --lines 100000 --seed 1

A script is one ``.npz``: texts as bytes, phone ids and the accent they were made for. Its lines are
in random order, so any stretch of it has the mixture of the whole.
"""

import argparse
import itertools
import json
import lzma
import random
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import ConfigError
from audiomamba.training.speech.g2p import Accent, Phonemiser
from audiomamba.training.speech.texts import lines

__all__ = ["MAX_PHONES", "Script", "write_script"]

MAX_PHONES = 190  # the voice tables of the pack end there; some 13 s of speech
BRITISH_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Script:
    """Lines to be spoken.

    Attributes:
        phones: ``(P,)`` uint8, the phone ids of all lines back to back.
        phone_offsets: ``(L + 1,)`` int64.
        texts: A label a line.
        british: ``(L,)`` bool: British phones, else American.
    """

    phones: NDArray[np.uint8]
    phone_offsets: NDArray[np.int64]
    texts: list[str]
    british: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.texts)

    def line(self, i: int) -> NDArray[np.uint8]:
        """Phone ids of line ``i``."""
        return self.phones[self.phone_offsets[i] : self.phone_offsets[i + 1]]

    @classmethod
    def join(cls, scripts: Sequence["Script"]) -> Self:
        """One script of several, in their order."""
        counts = np.concatenate([np.diff(script.phone_offsets) for script in scripts])
        return cls(
            np.concatenate([script.phones for script in scripts]),
            np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
            [text for script in scripts for text in script.texts],
            np.concatenate([script.british for script in scripts]),
        )

    def save(self, path: Path) -> None:
        """Write an ``.npz.xz``; phones and texts shrink by half."""
        plain = BytesIO()
        np.savez(
            plain,
            phones=self.phones,
            counts=np.diff(self.phone_offsets).astype(np.uint8),
            texts=np.frombuffer("\n".join(self.texts).encode("ascii"), np.uint8),
            british=np.packbits(self.british),
        )
        path.write_bytes(lzma.compress(plain.getvalue(), preset=6))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote."""
        with np.load(BytesIO(lzma.decompress(path.read_bytes()))) as file:
            texts = file["texts"].tobytes().decode("ascii").split("\n")
            offsets = np.concatenate(
                [np.zeros(1, np.int64), np.cumsum(file["counts"], dtype=np.int64)]
            )
            british = np.unpackbits(file["british"], count=len(texts)).astype(np.bool_)
            return cls(file["phones"], offsets, texts, british)


def write_script(tar: Path, vocabulary: Path, count: int, seed: int, first: int = 0) -> Script:
    """Draw ``count`` lines and phonemise them.

    Args:
        tar: The text pool (see ``texts.lines``).
        vocabulary: JSON with the voice model's letters: ``{"vocab": {letter: id}}``.
        count: Lines wanted.
        seed: The same seed gives the same script.
        first: Lines of the same seed to pass over, so that one draw can fill several scripts.
    """
    table = json.loads(vocabulary.read_text(encoding="utf-8"))
    if "vocab" not in table:
        raise ConfigError(f"script: {vocabulary} has no 'vocab'")
    phonemiser = Phonemiser(table["vocab"])
    rng = random.Random(f"{seed}/accent/{first}")
    texts: list[str] = []
    british: list[bool] = []
    phones: list[bytes] = []
    for line in itertools.islice(lines(tar, seed), first, None):
        accent: Accent = "gb" if rng.random() < BRITISH_SHARE else "us"
        ids = phonemiser.ids(line.spoken, accent)
        if not 0 < len(ids) <= MAX_PHONES:
            continue
        texts.append(line.text)
        british.append(accent == "gb")
        phones.append(bytes(ids))
        if len(texts) == count:
            break
    counts = np.array([0, *map(len, phones)], np.int64)
    return Script(
        np.frombuffer(b"".join(phones), np.uint8), np.cumsum(counts), texts, np.array(british)
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="prepare lines and phones for synthesis")
    parser.add_argument("tar", type=Path)
    parser.add_argument("vocabulary", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    script = write_script(
        options.tar, options.vocabulary, options.lines, options.seed, options.first
    )
    script.save(options.out)


if __name__ == "__main__":
    main()
