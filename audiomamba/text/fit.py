"""Fit the vocabulary to a text pool::

    python -m audiomamba.text.fit text.tar --thin dialogue=5 --extra train.jsonl digits.jsonl \\
        --commands --out tokenizer.model

``text.tar`` holds ``*.txt.xz``, a sentence a line. ``--thin`` keeps every n-th line of a file: the
task dialogues repeat themselves, and would fill the vocabulary with their subjects. ``--extra``
names manifests (JSON lines with a ``text``). ``--commands`` makes digits and command words, which
are said alone and leave no context to lean on, frequent enough to become pieces of their own. The
result depends on the input alone.
"""

import argparse
import io
import itertools
import json
import lzma
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import sentencepiece

from audiomamba.errors import ModelError
from audiomamba.text.normalize import normalize

__all__ = ["fit", "pool_sentences", "record_sentences"]

COMMANDS = (
    "zero one two three four five six seven eight nine yes no up down left right on off stop go "
    "bed bird cat dog happy house marvin sheila tree wow backward forward follow learn visual"
)
_COMMAND_WEIGHT = 20_000
LETTERS = "abcdefghijklmnopqrstuvwxyz'"
_LONGEST = 4096  # bytes of a sentence; SentencePiece drops what is longer


def pool_sentences(path: Path, thin: Mapping[str, int] | None = None) -> Iterator[str]:
    """Normalised sentences of a tar of ``*.txt.xz``; every n-th alone of the files in ``thin``."""
    with tarfile.open(path) as tar:
        for member in tar:
            packed = tar.extractfile(member)
            if packed is None or not member.name.endswith(".txt.xz"):
                continue
            step = (thin or {}).get(member.name.removesuffix(".txt.xz"), 1)
            with io.TextIOWrapper(lzma.LZMAFile(packed), encoding="utf-8") as lines:
                for line in itertools.islice(lines, 0, None, step):
                    if text := normalize(line):
                        yield text


def record_sentences(path: Path) -> Iterator[str]:
    """Normalised ``text`` of the records of a manifest; records without one are passed over."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if text := normalize(json.loads(line)["text"] or ""):
                yield text


def fit(sentences: Iterable[str], size: int = 512) -> bytes:
    """Fit a unigram vocabulary.

    Args:
        sentences: Normalised text.
        size: Number of pieces, the unknown one (id 0, CTC's blank) included.

    Returns:
        A SentencePiece model. Every letter, the apostrophe and the word start are pieces, so any
        normalised text can be encoded; there are no begin, end or padding pieces.

    Raises:
        ModelError: there is too little text for that many pieces.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            model_type="unigram",
            vocab_size=size,
            character_coverage=1.0,
            required_chars=LETTERS,
            normalization_rule_name="identity",
            byte_fallback=False,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            max_sentence_length=_LONGEST,
            num_threads=2,
            minloglevel=1,
        )
    except RuntimeError as error:
        raise ModelError(f"vocabulary: cannot fit {size} pieces: {error}") from error
    return model.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m audiomamba.text.fit")
    parser.add_argument("pool", type=Path, help="tar of *.txt.xz, a sentence a line")
    parser.add_argument(
        "--thin", nargs="*", default=[], metavar="FILE=N", help="keep every n-th line"
    )
    parser.add_argument("--extra", type=Path, nargs="*", default=[], help="manifests with texts")
    parser.add_argument("--commands", action="store_true", help="weigh digits and command words")
    parser.add_argument("--size", type=int, default=512, help="number of pieces (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="where tokenizer.model goes")
    options = parser.parse_args(arguments)
    thin = {name: int(step) for name, _, step in (item.partition("=") for item in options.thin)}

    def sentences() -> Iterator[str]:
        yield from pool_sentences(options.pool, thin)
        for manifest in options.extra:
            yield from record_sentences(manifest)
        if options.commands:
            yield from itertools.repeat(COMMANDS, _COMMAND_WEIGHT)

    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(fit(sentences(), options.size))


if __name__ == "__main__":
    main()
