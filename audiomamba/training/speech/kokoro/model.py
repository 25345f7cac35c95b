"""Kokoro-82M in PyTorch, batched for throughput.

Two steps, because lengths are known only after the first: ``plan`` gives every line its durations,
``speak`` makes sound of those that fill a packed batch. Written after the published modules of
``kokoro`` 0.9.4 (Apache-2.0), whose results it gives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audiomamba.training.speech.kokoro.decoder import Decoder
from audiomamba.training.speech.kokoro.prosody import Bert, Predictor, TextEncoder
from audiomamba.training.speech.kokoro.segments import GAP, pack_segments
from audiomamba.training.speech.weights import load_weights

__all__ = ["Kokoro", "Planned", "Spoken"]


@dataclass(frozen=True, slots=True)
class Planned:
    """Lines whose durations are known; phones back to back, both end zeros of a line included.

    Attributes:
        features: For pitch and energy, ``(P, 640)``.
        phones: For the decoder, ``(P, 512)``.
        style: ``(L, 256)`` float32: timbre, then prosody.
        frames: Length of each phone in frames of 25 ms, ``(P,)`` int64, on the host.
        offsets: Line l has the phones ``offsets[l]:offsets[l + 1]``; on the host.
    """

    features: Tensor
    phones: Tensor
    style: Tensor
    frames: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def line_frames(self) -> NDArray[np.int64]:
        """Length of each line, ``(L,)`` frames."""
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.frames)])
        lengths: NDArray[np.int64] = np.diff(ends[self.offsets])
        return lengths

    @staticmethod
    def join(parts: Sequence["Planned"]) -> "Planned":
        """Lines of several parts, in their order."""
        counts = np.concatenate([np.diff(part.offsets) for part in parts])
        return Planned(
            torch.cat([part.features for part in parts]),
            torch.cat([part.phones for part in parts]),
            torch.cat([part.style for part in parts]),
            np.concatenate([part.frames for part in parts]),
            np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
        )


@dataclass(frozen=True, slots=True)
class Spoken:
    """A packed batch of sound: line i is ``wave[600 * starts[i]:][: 600 * frames[i]]``."""

    wave: Tensor  # (600 total,) float32 at 24 kHz
    starts: list[int]
    frames: list[int]


class Kokoro(nn.Module):
    """The whole voice."""

    def __init__(self) -> None:
        super().__init__()
        self.bert, self.bert_encoder = Bert(), nn.Linear(768, 512)
        self.predictor, self.text_encoder = Predictor(), TextEncoder()
        self.decoder = Decoder()

    @classmethod
    def load(cls, path: Path, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Read packed weights; ``dtype`` is the decoder's, everything before it is float32.

        float16 keeps the wave 49 dB above the difference to float32, bfloat16 only 31 dB.
        """
        with torch.device("meta"):
            model = cls()
        model = model.to_empty(device="cpu")
        model.load_state_dict(load_weights(path))
        generator = model.decoder.generator
        generator.window = torch.hann_window(20, periodic=True)
        model.eval().requires_grad_(False).to(device)
        for module in model.decoder.modules():
            weight = getattr(module, "weight", None)
            if isinstance(weight, nn.Parameter) and weight.dim() == 4:
                module.to(dtype)
        for parameter in model.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        for module in model.modules():
            if isinstance(module, nn.LSTM):
                module.flatten_parameters()
        return model

    @torch.inference_mode()
    def plan(self, ids: Sequence[NDArray[np.uint8]], style: Tensor, speed: Tensor) -> Planned:
        """Phone durations of a batch of lines, best of near-equal length.

        Args:
            ids: Phone ids of each line, without the zeros at both ends.
            style: ``(L, 256)`` float32 on the model's device.
            speed: ``(L,)`` factors.
        """
        device = style.device
        counts = np.array([len(line) + 2 for line in ids])
        padded = np.zeros((len(ids), int(counts.max())), np.int64)
        for row, line in zip(padded, ids, strict=True):
            row[1 : 1 + len(line)] = line
        inside = np.arange(padded.shape[1]) < counts[:, None]
        tokens, mask = torch.from_numpy(padded).to(device), torch.from_numpy(inside).to(device)
        lengths = torch.from_numpy(counts)
        hidden = self.bert_encoder(self.bert(tokens, mask)) * mask[..., None]
        features, durations = self.predictor.durations(hidden, style[:, 128:], lengths, mask, speed)
        phones = self.text_encoder(tokens, mask, lengths)
        return Planned(
            features[mask],
            phones[mask],
            style,
            durations.cpu().numpy()[inside],
            np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
        )

    @torch.inference_mode()
    def speak(
        self,
        planned: Planned,
        lines: Sequence[int],
        total: int,
        *,
        pitch: Tensor | None = None,
        noise: bool = True,
    ) -> Spoken:
        """Make sound of planned lines, best of near-equal length.

        Args:
            planned: What ``plan`` gave.
            lines: Which of its lines; with gaps of 2 frames they fill at most ``total``.
            total: Frames of the batch; keep it the same, so that kernels are tuned once.
            pitch: ``(len(lines),)`` factors of the pitch, on the device.
            noise: False leaves the unvoiced source's noise out.
        """
        device = planned.style.device
        spans = [slice(planned.offsets[i], planned.offsets[i + 1]) for i in lines]
        aligned = [
            np.repeat(np.arange(span.start, span.stop), planned.frames[span]) for span in spans
        ]
        frames = [len(line) for line in aligned]
        longest = max(frames)
        segments = pack_segments(frames, total, device)
        phone_of = np.zeros(total, np.int64)  # of a packed row
        cell_of = np.zeros(total, np.int64)  # of a packed row, in the padded batch of the LSTM
        padded = np.zeros((len(lines), longest), np.int64)
        # The LSTM takes the longest first; sorting here spares it an index and a wait.
        order = np.argsort([-count for count in frames], kind="stable")
        rank = np.argsort(order)
        starts, position = [], GAP
        for i, line in enumerate(aligned):
            phone_of[position : position + len(line)] = line
            cell_of[position : position + len(line)] = rank[i] * longest + np.arange(len(line))
            padded[rank[i], : len(line)] = line
            starts.append(position)
            position += len(line) + GAP
        outside = (segments.owner == len(lines))[:, None]
        style = planned.style[_put(np.array(lines), device)]
        timbre, prosody = style[:, :128].contiguous(), style[:, 128:].contiguous()

        recurred = self.predictor.recur(
            planned.features[_put(padded, device)], torch.tensor(frames)[order]
        )
        rows = recurred.flatten(0, 1)[_put(cell_of, device)]
        f0, energy = self.predictor.curves(rows, prosody, segments)
        if pitch is not None:
            f0 = f0 * pitch[segments.rows_owner(2).clamp(max=len(lines) - 1)]
        phones = planned.phones[_put(phone_of, device)].masked_fill(outside, 0.0)
        wave = self.decoder(phones, f0, energy, timbre, segments, noise=noise)
        return Spoken(wave, starts, frames)


def _put(array: NDArray[np.int64], device: torch.device) -> Tensor:
    """Copy to the device; from pinned memory, so that the host does not wait for the queue."""
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor
