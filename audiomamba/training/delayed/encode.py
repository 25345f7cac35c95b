"""Write down what an encoder makes of speech, what its CTC head hears where, and who speaks when::

    python -m audiomamba.training.delayed.encode listen-en corpora/encoded --hours 30 \\
        'data.real=[corpora/mine]' 'data.noise=[corpora/noise]'

Batches are drawn, mixed and augmented as for training the encoder (``experiment=listen_en`` with
the given overrides), go through it once, and their texts are laid along the CTC head's frames. A
head trained over these does not run the encoder again: on two cores an epoch of 30 hours takes
minutes in place of hours. What is learnt by heart stays a danger: an encoder hears its own training
clips better than any stranger. So hide and disturb much (``data.batches.hidden_share``,
``data.augment``): what the head sees should be as uncertain as what strangers will sound like.

A folder holds ``frames.npy``, ``(R, T, width)`` float16; ``pieces.npy``, ``(R, T)`` uint16: the
piece that begins to be heard in each frame, 0 where none does; and ``activity.npy``, ``(R, T)``
uint8: 1 where somebody speaks, of the sound itself, 12.5 ms after a frame's first sample. What the
encoder makes of that sound comes later: pieces do by its look-ahead, activity does not.
"""

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from audiomamba.errors import BackendError, ConfigError
from audiomamba.models.registry import find
from audiomamba.models.torch_acoustic import load_transcriber
from audiomamba.models.transcriber import Transcriber
from audiomamba.models.transcriber_config import FACTOR
from audiomamba.text.vocabulary import BLANK, Vocabulary
from audiomamba.training.batches import Batches
from audiomamba.training.delayed.encoded import ACTIVITY, FRAMES, PIECES, Encoded
from audiomamba.training.experiment import ExperimentConfig, compose, make_batches
from audiomamba.training.preparation import prepare

__all__ = ["align", "encode_batch", "main", "write"]

_REPORT = 20  # batches from one line of progress to the next


def align(log_probs: Tensor, tokens: Tensor) -> NDArray[np.uint16]:
    """The frame in which each of ``tokens (L,)`` begins, on the best path of CTC's.

    Args:
        log_probs: ``(T, vocabulary)`` float32, on the CPU.
        tokens: Without blanks.

    Returns:
        ``(T,)``, the token that begins in each frame, 0 where none does. All 0 where the frames
        cannot hold so many.

    Raises:
        BackendError: torchaudio cannot be imported.
    """
    try:
        from torchaudio.functional import forced_align  # type: ignore[import-untyped]
    except (ImportError, OSError) as error:
        raise BackendError(f"texts are aligned by torchaudio, which fails: {error}") from None

    pieces = np.zeros(len(log_probs), np.uint16)
    again = int((tokens[1:] == tokens[:-1]).sum())  # a piece after itself wants a blank between
    if not len(tokens) or len(tokens) + again > len(log_probs):
        return pieces
    path = forced_align(log_probs[None], tokens[None], blank=BLANK)[0][0].numpy()
    begins = (path != BLANK) & (path != np.concatenate([[BLANK], path[:-1]]))
    pieces[begins] = path[begins]
    return pieces


@torch.inference_mode()
def encode_batch(model: Transcriber, batches: Batches, number: int, *, bf16: bool) -> Encoded:
    """Batch ``number``, through ``model`` in evaluation mode."""
    features = model.config.features
    batch = prepare(
        batches.batch(number),
        features,
        augment=lambda x: batches.augment_features(x, features, number),
    )
    with torch.autocast(batch.features.device.type, torch.bfloat16, enabled=bf16):
        encoded, _ = model.encode(batch.features)
    log_probs = model.out(encoded.float()).log_softmax(-1).cpu()
    targets = batch.targets
    pieces = [
        align(row, tokens[:length])
        for row, tokens, length in zip(
            log_probs, targets.tokens.cpu(), targets.token_lengths.tolist(), strict=True
        )
    ]
    activity = targets.activity.cpu().numpy().astype(np.uint8)
    return Encoded(encoded.half().cpu().numpy(), np.stack(pieces), activity)


def write(
    model: Transcriber, batches: Batches, out: Path, seconds: float, *, bf16: bool
) -> NDArray[np.uint16]:
    """Write batches from number 0 on, at least ``seconds`` of audio; returns all pieces.

    Args:
        model: In evaluation mode, on the device of ``batches``.
        batches: Of one shape, with an ``activity_delay_s`` of 0.
        out: Folder.
        seconds: Of audio, silence included.
        bf16: Whether products are.
    """
    shape = batches.shapes[0]
    count = math.ceil(seconds / shape.seconds)
    rows, frames = count * shape.rows, shape.frames // FACTOR
    out.mkdir(parents=True, exist_ok=True)
    encoded = open_memmap(
        out / FRAMES, "w+", dtype=np.float16, shape=(rows, frames, model.config.stack.width)
    )
    pieces = np.zeros((rows, frames), np.uint16)
    activity: NDArray[Any] = np.zeros((rows, frames), np.uint8)
    began = time.monotonic()
    for number in range(count):
        some = slice(number * shape.rows, (number + 1) * shape.rows)
        made = encode_batch(model, batches, number, bf16=bf16)
        encoded[some], pieces[some], activity[some] = made
        if number % _REPORT == _REPORT - 1:
            hours = (number + 1) * shape.seconds / 3600
            print(f"{hours:.2f} h in {time.monotonic() - began:.0f} s", flush=True)
    encoded.flush()
    np.save(out / PIECES, pieces)
    np.save(out / ACTIVITY, activity)
    return pieces


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m audiomamba.training.delayed.encode")
    parser.add_argument("model", help="name or folder of a transcriber")
    parser.add_argument("out", type=Path)
    parser.add_argument("--hours", type=float, required=True, help="of audio, silence included")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("overrides", nargs="*", help="of experiment=listen_en")
    options = parser.parse_intermixed_args(arguments)
    config = compose(["experiment=listen_en", "train.steps=1", *options.overrides])
    if not isinstance(config, ExperimentConfig) or len(config.data.batches.row_seconds) != 1:
        raise ConfigError("encode: wants a transcriber's experiment and one length of rows")
    config.data.batches.activity_delay_s = 0.0
    folder = find(options.model)
    vocabulary = Vocabulary.load(folder / "tokenizer.model")
    pieces = write(
        load_transcriber(folder, device=options.device),
        make_batches(config, vocabulary, torch.device(options.device)),
        options.out,
        3600 * options.hours,
        bf16=config.train.precision == "bf16",
    )
    print(f"{options.out}: {len(pieces)} rows, {int((pieces > 0).sum()):,} pieces")


if __name__ == "__main__":
    main()
