"""What the delayed-streams head hears, beside CTC, on the same frames::

    python -m audiomamba.training.delayed.measure runs/delayed/export dev.jsonl --delays 0 1 2 4

Whole recordings, without endpoints. Rows of the table: CTC's best piece a frame; its beam with the
transcriber's language model; the head's best token a step, and its beam with the language model, a
row a delay; and the hypotheses of CTC's beam, ranked again by what the head thinks of each.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from audiomamba.audio.features_torch import features_of_samples
from audiomamba.config import from_mapping
from audiomamba.errors import ModelError
from audiomamba.models.checkpoint import fill
from audiomamba.models.checkpoint_files import read_config
from audiomamba.models.delayed_streams import DelayedStreams, DelayedStreamsConfig
from audiomamba.models.listener import Listener
from audiomamba.models.registry import find
from audiomamba.models.torch_acoustic import load_transcriber
from audiomamba.models.transcriber import Transcriber
from audiomamba.models.transcriber_config import FACTOR
from audiomamba.text.beam import BeamSearch
from audiomamba.text.fusion import Fusion
from audiomamba.text.vocabulary import BLANK, WORD_START, Vocabulary
from audiomamba.training.clips import Clip, read_clips
from audiomamba.training.delayed.encode import align
from audiomamba.training.delayed.objective import KIND
from audiomamba.training.delayed.search import SearchConfig, beam, greedy, nats
from audiomamba.training.evaluation import collapse
from audiomamba.training.word_errors import Result, rates

__all__ = ["Encoding", "encode", "hypotheses", "load_head", "main"]

_RATE = 16_000  # Hz
_TAIL_S = 1.2  # seconds of silence after a recording, in which what is late is written
_AT_ONCE = 32  # recordings in a search


@dataclass(frozen=True, slots=True)
class Encoding:
    """A recording, as the encoder and its CTC head have it."""

    clip: Clip
    frames: Tensor  # (T, width)
    log_probs: Tensor  # (T, vocabulary) float32, on the CPU


def load_head(folder: Path, *, device: str = "cpu") -> DelayedStreams:
    """Load an export of ``experiment=delayed_streams``, in evaluation mode.

    Raises:
        ModelError: a file is missing or damaged, or it is of another kind.
    """
    config = read_config(folder)
    if config.get("kind") != KIND:
        raise ModelError(f"{folder}: wants kind {KIND}, got {config.get('kind')!r}")
    head = DelayedStreams(from_mapping(DelayedStreamsConfig, config["model"]))
    return fill(head, folder).to(device)


@torch.inference_mode()
def encode(model: Transcriber, clips: Sequence[Clip], device: str) -> Iterator[Encoding]:
    """Each recording through the encoder, silence after it."""
    tail = round((_TAIL_S + model.config.look_ahead_s) * _RATE)
    for clip in clips:
        samples = torch.from_numpy(np.pad(clip.samples, (0, tail))).to(device)
        features = features_of_samples(samples[None], model.config.features)
        whole = features.shape[1] // FACTOR * FACTOR
        frames, _ = model.encode(features[:, :whole])
        yield Encoding(clip, frames[0], model.out(frames)[0].float().log_softmax(-1).cpu())


def hypotheses(
    log_probs: NDArray[np.float32], starts: NDArray[np.float64], fusion: Fusion
) -> list[tuple[list[int], float]]:
    """What CTC's beam search has at the end of a recording: pieces and ranks, best first."""
    search = BeamSearch(fusion.model, starts, fusion.beam, fusion.language)
    for frame, row in enumerate(log_probs):
        if row[BLANK] > np.log(fusion.beam.blank):
            search.rest()
        else:
            search.step(row.astype(np.float64), frame)
    return search.hypotheses()


class _Table:
    """Word and letter errors by group, a row a way of reading."""

    def __init__(self, recordings: Sequence[Encoding], vocabulary: Vocabulary) -> None:
        self._recordings, self._vocabulary = recordings, vocabulary
        self._groups: list[str] = []

    def row(self, name: str, texts: Sequence[Sequence[int]]) -> None:
        measured = rates(
            Result(
                r.clip.name,
                r.clip.group,
                r.clip.text,
                self._vocabulary.decode(list(text)),
                len(r.clip.samples) / _RATE,
            )
            for r, text in zip(self._recordings, texts, strict=True)
        )
        groups = [group for group in measured if "/" not in group]
        if groups != self._groups:
            self._groups = groups
            print(f"| | {' | '.join(groups)} |\n|---|{'---:|' * len(groups)}")
        cells = [f"{measured[group].wer:.1f}, {measured[group].cer:.1f}" for group in groups]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m audiomamba.training.delayed.measure")
    parser.add_argument("head", type=Path, help="export of experiment=delayed_streams")
    parser.add_argument("manifests", nargs="+", type=Path, metavar="MANIFEST")
    parser.add_argument("--model", default="listen-en", help="the transcriber under it")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--delays", type=int, nargs="*", default=[0, 1, 2, 4], help="in steps")
    parser.add_argument("--rescore", type=float, nargs="*", default=[0.3, 0.6, 1.0], metavar="W")
    parser.add_argument("--rescore-delay", type=int, default=4, metavar="STEPS")
    parser.add_argument("--beam", type=int, default=SearchConfig.beam)
    parser.add_argument("--neural-weight", type=float, default=0.3)
    parser.add_argument("--word-bonus", type=float, default=0.5)
    parser.add_argument("--piece-bonus", type=float, default=0.5)
    options = parser.parse_args(arguments)

    folder, head = find(options.model), load_head(options.head, device=options.device)
    listener, model = Listener.from_folder(folder), load_transcriber(folder, device=options.device)
    fusion, vocabulary = listener.fusion(True), listener.vocabulary
    assert fusion is not None
    starts = np.array([float(piece.startswith(WORD_START)) for piece in vocabulary.pieces])
    clips = [clip for manifest in options.manifests for clip in read_clips(manifest)]
    clips.sort(key=lambda clip: len(clip.samples))
    recordings = list(encode(model, clips, options.device))
    table = _Table(recordings, vocabulary)
    table.row("CTC, best piece", [collapse(r.log_probs.argmax(1).numpy()) for r in recordings])
    found = [hypotheses(r.log_probs.numpy(), starts, fusion) for r in recordings]
    table.row("CTC, beam and language model", [each[0][0] for each in found])

    widths = SearchConfig(
        beam=options.beam,
        neural_weight=options.neural_weight,
        word_bonus=options.word_bonus,
        piece_bonus=options.piece_bonus,
    )
    groups = [
        _padded([r.frames for r in recordings[i : i + _AT_ONCE]])
        for i in range(0, len(recordings), _AT_ONCE)
    ]
    for steps in options.delays:
        delay = head.config.delays.index(steps)
        said = f"{1000 * steps * head.config.stride * model.config.frame_s:.0f} ms more"
        texts = [text for group in groups for text in greedy(head, *group, delay)]
        table.row(f"delayed streams, {said}, best token", texts)
        texts = [
            text
            for group in groups
            for text in beam(head, *group, delay, widths, starts, fusion.language)
        ]
        table.row(f"delayed streams, {said}, beam and language model", texts)
    delay = head.config.delays.index(options.rescore_delay)
    prices = [_prices(head, r, each, delay) for r, each in zip(recordings, found, strict=True)]
    for weight in options.rescore:
        best = [
            each[int(np.argmax([rank for _, rank in each] - weight * price))][0]
            for each, price in zip(found, prices, strict=True)
        ]
        table.row(f"CTC's hypotheses, ranked again, weight {weight:g}", best)


def _padded(rows: list[Tensor]) -> tuple[Tensor, list[int]]:
    """One tensor, and the length of each row."""
    return pad_sequence(rows, batch_first=True), [len(row) for row in rows]


def _prices(
    head: DelayedStreams,
    recording: Encoding,
    found: Sequence[tuple[list[int], float]],
    delay: int,
) -> NDArray[np.float64]:
    """Nats of each hypothesis by the head."""
    heard = [align(recording.log_probs, torch.tensor(pieces)) for pieces, _ in found]
    return nats(head, recording.frames, heard, delay)


if __name__ == "__main__":
    main()
