"""A classifier of short words, trained on recordings in a minute of one core, and kept."""

import hashlib
import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from audiomamba.audio.mel import MelConfig
from audiomamba.audio.mel_torch import log_mel
from audiomamba.audio.mulaw import expand
from audiomamba.training.wave.takes import Take, numbers

__all__ = ["Judge", "Opinion", "cache_folder", "kept_judge", "train_judge"]

SECONDS = 1.0  # that are heard of a recording
WIDTHS = (48, 64, 96, 128)  # of the convolutions; the last is that of the features
BATCH, RATE = 64, 2e-3
DROPPED = 0.3  # of the features, while learning
_RECIPE = 2  # raised with every change of the shape or the training, so that no old one is taken


class Opinion(NamedTuple):
    """What a judge makes of recordings."""

    probabilities: Tensor  # (n, classes)
    features: Tensor  # (n, 128)


class Judge(nn.Module):
    """Convolutions over log-mel features, then the mean and the largest over time.

    Args:
        labels: Classes, in order.
        sample_rate: Of what it hears, Hz.
    """

    def __init__(self, labels: Sequence[str], sample_rate: int) -> None:
        super().__init__()
        self.labels, self.sample_rate = list(labels), sample_rate
        self._mel = MelConfig.at(sample_rate, 40)
        layers: list[nn.Module] = []
        for before, after in zip((40, *WIDTHS), WIDTHS, strict=False):
            layers += [nn.Conv1d(before, after, 5, stride=2, padding=2), nn.BatchNorm1d(after)]
            layers += [nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.out = nn.Linear(2 * WIDTHS[-1], len(labels))

    def features(self, sounds: Tensor) -> Tensor:
        """``sounds (n, samples)`` to ``(n, 256)``; as loud or as quiet as they are."""
        return self._pooled(self._heard(sounds))

    def _heard(self, sounds: Tensor) -> Tensor:
        x = log_mel(sounds, self._mel)
        x = (x - x.amax((1, 2), keepdim=True)) / 4  # loudness is no part of what was said
        return x.clamp(min=-3)

    def _pooled(self, heard: Tensor) -> Tensor:
        x = self.layers(heard.transpose(1, 2))
        return torch.cat([x.mean(2), x.amax(2)], 1)

    def learn(self, sounds: Tensor, targets: Tensor, draw: torch.Generator) -> Tensor:
        """The loss of a batch, with parts of it masked."""
        heard = _masked(self._heard(sounds), draw)
        kept = torch.rand(len(heard), self.out.in_features, generator=draw) >= DROPPED
        logits = self.out(self._pooled(heard) * kept / (1 - DROPPED))
        return F.cross_entropy(logits, targets, label_smoothing=0.05)

    def forward(self, sounds: Tensor) -> Tensor:
        """Logits ``(n, classes)``."""
        return self.out(self.features(sounds))  # type: ignore[no-any-return]

    @torch.no_grad()
    def hear(self, sounds: Sequence[NDArray[np.float32]]) -> Opinion:
        """What it makes of recordings of any lengths; what is past a second is not heard."""
        self.eval()
        parts = [
            self.features(_stack(sounds[i : i + 64], self.sample_rate))
            for i in range(0, len(sounds), 64)
        ]
        features = torch.cat(parts)
        return Opinion(self.out(features).softmax(-1), features[:, : WIDTHS[-1]])


def train_judge(
    takes: Sequence[Take],
    labels: Sequence[str],
    sample_rate: int,
    *,
    steps: int = 800,
    seed: int = 0,
) -> Judge:
    """Train on ``takes``, with their loudness, noise, place, pitch and colour varied.

    A speaker with four times the recordings of another is heard twice as often.
    """
    torch.manual_seed(seed)
    judge, draw = Judge(labels, sample_rate), torch.Generator().manual_seed(seed)
    sounds = _stack([expand(take.codes) for take in takes], sample_rate)
    targets = numbers([take.label for take in takes], labels)
    counts = Counter(take.speaker for take in takes)
    weights = torch.tensor([counts[take.speaker] ** -0.5 for take in takes])
    optimizer = torch.optim.AdamW(judge.parameters(), lr=RATE, weight_decay=0.05)
    judge.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
        rows = torch.multinomial(weights, BATCH, replacement=True, generator=draw)
        loss = judge.learn(_varied(sounds[rows], draw), targets[rows], draw)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return judge.eval()


def cache_folder() -> Path:
    """Where trained judges are kept, unless told otherwise."""
    return (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "audiomamba" / "judges"
    )


def kept_judge(
    takes: Sequence[Take],
    labels: Sequence[str],
    sample_rate: int,
    folder: Path,
    *,
    steps: int = 800,
    seed: int = 0,
) -> Judge:
    """The judge that :func:`train_judge` trains, from ``folder`` where it was trained before."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    key = hashlib.sha256(repr((_RECIPE, list(labels), sample_rate, steps, seed)).encode())
    for take in takes:
        key.update(
            f"{take.label}/{take.speaker}/{len(take.codes)}/".encode() + take.codes.tobytes()
        )
    file = folder / f"{key.hexdigest()[:32]}.safetensors"
    if file.is_file():
        judge = Judge(labels, sample_rate)
        try:
            judge.load_state_dict(load_file(file))
            return judge.eval()
        except (SafetensorError, RuntimeError):
            file.unlink()  # half written, or by other versions
    judge = train_judge(takes, labels, sample_rate, steps=steps, seed=seed)
    folder.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(f".{os.getpid()}")
    save_file(judge.state_dict(), fresh)
    os.replace(fresh, file)
    return judge


def _varied(sounds: Tensor, draw: torch.Generator) -> Tensor:
    n, samples = sounds.shape
    speed = float(torch.empty(()).uniform_(0.8, 1.25, generator=draw))
    x = F.interpolate(sounds[:, None], scale_factor=speed, mode="linear")[:, 0]
    x = F.pad(x, (0, max(0, samples - x.shape[1])))[:, :samples]
    x = torch.roll(x, int(torch.randint(samples // 8, (), generator=draw)), 1)
    chance = torch.rand(n, 3, generator=draw)
    # Other microphones, other rooms: a tilt of the spectrum up or down.
    x = x + (1.6 * chance[:, 2:] - 0.8) * F.pad(x[:, :-1], (1, 0))
    level = x.square().mean(1, keepdim=True).sqrt()
    noise = torch.randn(x.shape, generator=draw) * level * 10 ** (-0.5 - 2 * chance[:, :1])
    return (x + noise) * 10 ** (chance[:, 1:2] - 0.5)


def _masked(heard: Tensor, draw: torch.Generator) -> Tensor:
    """A stretch of time and a band of mel bins made silent, the same for all of the batch."""
    heard = heard.clone()
    for axis, most in ((1, 15), (2, 8)):
        size = int(torch.randint(1, most, (), generator=draw))
        start = int(torch.randint(heard.shape[axis] - size, (), generator=draw))
        heard.narrow(axis, start, size).fill_(-1.5)
    return heard


def _stack(sounds: Sequence[NDArray[np.float32]], sample_rate: int) -> Tensor:
    samples = round(SECONDS * sample_rate)
    out = torch.zeros(len(sounds), samples)
    for row, sound in zip(out, sounds, strict=True):
        part = torch.from_numpy(np.array(sound[:samples]))
        row[: len(part)] = part
    return out
