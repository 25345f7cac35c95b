r"""Make a corpus of recordings that somebody has, to train on::

    python -m audiomamba.training.importing corpora/mine --manifest mine.jsonl more.tsv
    python -m audiomamba.training.importing corpora/libri --librispeech DATA \
        --subsets train-clean-100 train-clean-360

Manifests are what manifests.py reads. LibriSpeech is what ``torchaudio.datasets.LIBRISPEECH`` finds
under ``DATA/LibriSpeech``; ``--download`` fetches what is not there. A corpus that is there already
is added to. Then ``audiomamba train experiment=listen_en 'data.real=[corpora/mine]' …``, and with
``train.resume=FOLDER`` from a checkpoint, also from the one that ships.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from audiomamba.errors import AudioError, BackendError
from audiomamba.text.normalize import normalize
from audiomamba.training.corpus import CorpusWriter
from audiomamba.training.manifests import Record, files, read
from audiomamba.training.recordings import append, decoders

__all__ = ["import_librispeech", "import_manifest", "main"]

_SHORTEST = 1_600  # samples: what is shorter than 0.1 s holds no word


def import_manifest(
    writer: CorpusWriter, manifest: Path, *, split: str | None = None, processes: int | None = None
) -> int:
    """Add the recordings of a manifest that have a text.

    Args:
        writer: Of the corpus.
        manifest: See manifests.py.
        split: Take records of that split alone, and those without any.
        processes: How many decode; None: one a core.

    Returns:
        How many were left out, for want of a text or of sound.

    Raises:
        AudioError: the manifest or a recording is missing or cannot be read.
    """
    wanted: dict[str, list[Record]] = {}
    left_out = 0
    for record in read(manifest):
        if split is not None and record.get("split", split) != split:
            continue
        if not record.get("text"):
            left_out += 1
            continue
        wanted.setdefault(record["path"], []).append({"source": manifest.stem, **record})
    given = ((encoded, wanted[name]) for name, encoded in files(manifest, wanted))
    with decoders(processes) as pool:
        return left_out + append(writer, given, pool, shortest=_SHORTEST)


def import_librispeech(
    writer: CorpusWriter,
    root: Path,
    subset: str,
    *,
    download: bool = False,
    processes: int | None = None,
) -> int:
    """Add a subset of LibriSpeech, such as ``train-clean-100``; returns how many were left out.

    Raises:
        BackendError: torchaudio cannot be imported.
        AudioError: there is no such subset, or it is not there.
    """
    try:
        from torchaudio.datasets import LIBRISPEECH  # type: ignore[import-untyped]
    except (ImportError, OSError) as error:
        raise BackendError(f"LibriSpeech is found by torchaudio, which fails: {error}") from None
    try:
        found = LIBRISPEECH(root, url=subset, download=download)
    except (RuntimeError, ValueError) as error:
        raise AudioError(f"LibriSpeech: {error}") from None

    def given() -> Iterator[tuple[bytes, list[Record]]]:
        for i in range(len(found)):
            path, _, text, speaker, *_ = found.get_metadata(i)
            record = {
                "path": path,
                "text": normalize(text),
                "source": f"librispeech/{subset}",
                "speaker": f"librispeech-{speaker}",
            }
            yield (root / "LibriSpeech" / path).read_bytes(), [record]

    with decoders(processes) as pool:
        return append(writer, given(), pool, shortest=_SHORTEST)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m audiomamba.training.importing", description="make a corpus of recordings"
    )
    parser.add_argument("out", type=Path, help="folder of the corpus")
    parser.add_argument("--manifest", type=Path, nargs="+", default=[])
    parser.add_argument("--split", help="of the manifests (default: all)")
    parser.add_argument("--librispeech", type=Path, metavar="DATA", help="LibriSpeech's parent")
    parser.add_argument("--subsets", nargs="+", default=["train-clean-100"])
    parser.add_argument("--download", action="store_true")
    parser.add_argument("--processes", type=int, help="(default: one a core)")
    options = parser.parse_args(arguments)
    if not options.manifest and options.librispeech is None:
        parser.error("give --manifest or --librispeech")
    left_out = 0
    with CorpusWriter(options.out) as writer:
        for manifest in options.manifest:
            left_out += import_manifest(
                writer, manifest, split=options.split, processes=options.processes
            )
        for subset in options.subsets if options.librispeech else []:
            left_out += import_librispeech(
                writer,
                options.librispeech,
                subset,
                download=options.download,
                processes=options.processes,
            )
        print(
            f"{options.out}: {len(writer)} utterances, {writer.seconds / 3600:.2f} hours; "
            f"{left_out} left out",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
