"""Texts as one array of word pieces, made once before a run::

    python -m audiomamba.training.language.pieces text.tar novels.txt.xz \\
        --tokenizer tokenizer.model --thin dialogue=3 --exclude dev.jsonl --out books.npy

Texts hold a sentence a line, in the order of the book: a ``.tar`` of ``*.txt.xz``, a ``.txt.xz`` or
a ``.txt``. The array is ``(n,)`` uint16; each sentence begins with the boundary, piece 0.
``--exclude`` names manifests whose sentences must stay unknown, as for the n-grams (fit_ngram.py).
``--lists N`` adds that many lists of digits and command words.
"""

import argparse
import lzma
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import ConfigError
from audiomamba.text.fit import pool_sentences, record_sentences
from audiomamba.text.fit_ngram import spoken_lists, without
from audiomamba.text.ngram import BOUNDARY
from audiomamba.text.normalize import normalize
from audiomamba.text.vocabulary import Vocabulary

__all__ = ["encode", "main", "read_pieces", "sentences_of"]

_AT_ONCE = 1 << 20  # pieces held as Python's numbers

Pieces = NDArray[np.uint16]


def sentences_of(path: Path, thin: dict[str, int] | None = None) -> Iterator[str]:
    """Normalised sentences of a text; ``thin`` is that of ``text.fit``, for a tar's members.

    Raises:
        ConfigError: it is of none of the kinds.
    """
    if path.suffix == ".tar":
        yield from pool_sentences(path, thin)
        return
    if path.suffix not in (".txt", ".xz"):
        raise ConfigError(f"{path}: wants a .tar of *.txt.xz, a .txt.xz or a .txt")
    open_text = lzma.open if path.suffix == ".xz" else open
    with open_text(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            if text := normalize(line):
                yield text


def encode(sentences: Iterable[str], vocabulary: Vocabulary) -> Pieces:
    """Pieces of ``sentences``, ``(n,)`` uint16, each behind a boundary."""
    parts: list[Pieces] = []
    some: list[int] = []
    for sentence in sentences:
        some += [BOUNDARY, *vocabulary.encode(sentence)]
        if len(some) >= _AT_ONCE:
            parts.append(np.array(some, np.uint16))
            some = []
    return np.concatenate([*parts, np.array(some, np.uint16)])


def read_pieces(path: Path, vocabulary: int) -> Pieces:
    """Map an array of this module, so that several processes share its memory.

    Raises:
        ConfigError: it is none, or of another vocabulary.
    """
    try:
        pieces: Pieces = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as an array of pieces ({error})") from None
    if pieces.ndim != 1 or pieces.dtype != np.uint16 or not len(pieces):
        raise ConfigError(f"{path}: wants (n,) uint16, got {pieces.shape} {pieces.dtype}")
    if pieces.max() >= vocabulary:
        raise ConfigError(f"{path}: holds piece {pieces.max()}, the model has {vocabulary}")
    return pieces


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m audiomamba.training.language.pieces")
    parser.add_argument("texts", type=Path, nargs="*")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--thin", nargs="*", default=[], metavar="FILE=N", help="as in text.fit")
    parser.add_argument("--extra", type=Path, nargs="*", default=[], help="manifests with texts")
    parser.add_argument("--exclude", type=Path, nargs="*", default=[], help="manifests to shun")
    parser.add_argument("--lists", type=int, default=0, help="of digits and command words")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    vocabulary = Vocabulary.load(options.tokenizer)
    thin = {name: int(step) for name, _, step in (item.partition("=") for item in options.thin)}
    shunned = [text for manifest in options.exclude for text in record_sentences(manifest)]

    def sentences() -> Iterator[str]:
        for path in options.texts:
            yield from without(sentences_of(path, thin), shunned)
        for manifest in options.extra:
            yield from record_sentences(manifest)
        yield from spoken_lists(options.lists)

    pieces = encode(sentences(), vocabulary)
    if not len(pieces):
        raise ConfigError("pieces: there is no sentence in all this")
    np.save(options.out, pieces)
    print(f"{options.out}: {len(pieces):,} pieces, {int((pieces == BOUNDARY).sum()):,} sentences")


if __name__ == "__main__":
    main()
