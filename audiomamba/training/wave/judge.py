"""Is what was generated what was asked for? A classifier of our own says, and how varied it is.

    python -m audiomamba.training.wave.judge wave-digits --manifests data/digits.jsonl

For each speaker a classifier is trained on recordings of all the *others*; it then hears real
recordings of the speaker, and as many that the model made in the speaker's voice. One JSON line a
speaker: both accuracies, the inception score of both, and the Fréchet distance of the features of
made and of training recordings to real held-out ones. The features are our own: figures of other
papers are not on the same scale.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from audiomamba.audio.mel import MelConfig
from audiomamba.audio.mel_torch import log_mel
from audiomamba.audio.mulaw import expand
from audiomamba.errors import ConfigError
from audiomamba.models.loading import load
from audiomamba.models.wave.synthesizer import Synthesizer
from audiomamba.training.wave.config import WaveDataConfig
from audiomamba.training.wave.run import gather_takes
from audiomamba.training.wave.takes import Take, numbers

__all__ = ["Judge", "Opinion", "frechet_distance", "inception_score", "train_judge"]

SECONDS = 1.0  # that are heard of a recording
WIDTHS = (48, 64, 96, 128)  # of the convolutions; the last is that of the features


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
        window = round(0.025 * sample_rate)
        self._mel = MelConfig(
            sample_rate=sample_rate,
            window=window,
            hop=round(0.01 * sample_rate),
            fft=1 << (window - 1).bit_length(),
            bins=40,
            high_hz=0.475 * sample_rate,
        )
        layers: list[nn.Module] = []
        for before, after in zip((40, *WIDTHS), WIDTHS, strict=False):
            layers += [nn.Conv1d(before, after, 5, stride=2, padding=2), nn.BatchNorm1d(after)]
            layers += [nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.out = nn.Linear(2 * WIDTHS[-1], len(labels))

    def features(self, sounds: Tensor) -> Tensor:
        """``sounds (n, samples)`` to ``(n, 256)``; as loud or as quiet as they are."""
        x = log_mel(sounds, self._mel)
        x = (x - x.amax((1, 2), keepdim=True)) / 4  # loudness is no part of what was said
        x = self.layers(x.clamp(min=-3).transpose(1, 2))
        return torch.cat([x.mean(2), x.amax(2)], 1)

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
    steps: int = 400,
    seed: int = 0,
) -> Judge:
    """Train on ``takes``, with their loudness, noise, place and speed varied."""
    torch.manual_seed(seed)
    judge, draw = Judge(labels, sample_rate), torch.Generator().manual_seed(seed)
    sounds = _stack([expand(take.codes) for take in takes], sample_rate)
    targets = numbers([take.label for take in takes], labels)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.05)
    judge.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * 0.5 * (1 + math.cos(math.pi * step / steps))
        rows = torch.randint(len(sounds), (64,), generator=draw)
        loss = F.cross_entropy(
            judge(_varied(sounds[rows], draw)), targets[rows], label_smoothing=0.05
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return judge


def inception_score(probabilities: Tensor) -> float:
    """exp of the mean divergence of each recording's classes from those of all.

    Source: Salimans et al., "Improved Techniques for Training GANs", 2016, section 4.
    """
    p = probabilities.double().clamp(min=1e-12)
    return float((p * (p / p.mean(0)).log()).sum(1).mean().exp())


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Between Gaussians fitted to features ``(n, d)`` and ``(m, d)``.

    Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", 2017, equation 6.
    """
    means, covariances = (
        [x.double().mean(0) for x in (a, b)],
        [x.double().t().cov() for x in (a, b)],
    )
    # The trace of a product's root is the sum of the roots of its eigenvalues.
    roots = torch.linalg.eigvals(covariances[0] @ covariances[1]).real.clamp(min=0).sqrt()
    spread = covariances[0].trace() + covariances[1].trace() - 2 * roots.sum()
    return float((means[0] - means[1]).square().sum() + spread.clamp(min=0))


def _varied(sounds: Tensor, draw: torch.Generator) -> Tensor:
    n, samples = sounds.shape
    speed = float(torch.empty(()).uniform_(0.87, 1.15, generator=draw))
    x = F.interpolate(sounds[:, None], scale_factor=speed, mode="linear")[:, 0]
    x = F.pad(x, (0, max(0, samples - x.shape[1])))[:, :samples]
    x = torch.roll(x, int(torch.randint(samples // 8, (), generator=draw)), 1)
    chance = torch.rand(n, 2, generator=draw)
    level = x.square().mean(1, keepdim=True).sqrt()
    noise = torch.randn(x.shape, generator=draw) * level * 10 ** (-0.5 - 2 * chance[:, :1])
    return (x + noise) * 10 ** (chance[:, 1:] - 0.5)


def _stack(sounds: Sequence[NDArray[np.float32]], sample_rate: int) -> Tensor:
    samples = round(SECONDS * sample_rate)
    out = torch.zeros(len(sounds), samples)
    for row, sound in zip(out, sounds, strict=True):
        part = torch.from_numpy(np.array(sound[:samples]))
        row[: len(part)] = part
    return out


def _accuracy(opinion: Opinion, labels: Tensor) -> float:
    return round(float((opinion.probabilities.argmax(1) == labels).float().mean()), 4)


def judge_speaker(
    model: Synthesizer, speaker: str, takes: Sequence[Take], *, each: int, steps: int, seed: int
) -> dict[str, object]:
    """Real and made recordings of one speaker, before a judge who knows the others."""
    labels = model.config.labels
    others = [take for take in takes if take.speaker != speaker and take.label in labels]
    own = [take for take in takes if take.speaker == speaker and take.label in labels]
    real, known = ([take for take in own if take.held_out is kept] for kept in (True, False))
    if not others or not real:
        raise ConfigError(f"judge: no recordings of others, or no held-out ones of {speaker}")
    judge = train_judge(others, labels, model.sample_rate, steps=steps, seed=seed)
    asked = [label for label in labels for _ in range(each)]
    made = model.start(labels=asked, speakers=[speaker], seed=seed).next(model.sample_rate)
    heard, said = judge.hear([expand(take.codes) for take in real]), judge.hear(list(made))
    floor = judge.hear([expand(take.codes) for take in known]) if len(known) > 1 else None
    return {
        "speaker": speaker, "real": len(real), "made": len(asked),
        "accuracy_real": _accuracy(heard, numbers([take.label for take in real], labels)),
        "accuracy_made": _accuracy(said, numbers(asked, labels)),
        "inception_real": round(inception_score(heard.probabilities), 3),
        "inception_made": round(inception_score(said.probabilities), 3),
        "frechet_made": round(frechet_distance(said.features, heard.features), 3),
        "frechet_floor": floor and round(frechet_distance(floor.features, heard.features), 3),
    }  # fmt: skip


def main() -> None:
    """Judge a model, speaker by speaker."""
    parser = argparse.ArgumentParser(description="Accuracy and variety of generated words.")
    parser.add_argument("model", help="name or folder")
    parser.add_argument("--manifests", nargs="+", required=True, help="recordings, .jsonl")
    parser.add_argument("--corpora", nargs="*", default=[], help="folders of made speech")
    parser.add_argument("--each", type=int, default=20, help="recordings a label (%(default)s)")
    parser.add_argument("--steps", type=int, default=800, help="of each judge (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = load(options.model)
    if not isinstance(model, Synthesizer):
        parser.error(f"{options.model} makes no sound")
    data = WaveDataConfig(
        manifests=options.manifests, corpora=options.corpora, labels=model.config.labels, peak=0.7
    )
    takes = gather_takes(data, model.sample_rate)
    recorded = {take.speaker for take in takes if take.held_out}
    lines = []
    for speaker in model.config.speakers:
        if speaker in recorded:
            lines.append(
                judge_speaker(
                    model, speaker, takes, each=options.each, steps=options.steps, seed=options.seed
                )
            )
            print(json.dumps(lines[-1]), flush=True)
    for name in ("accuracy_real", "accuracy_made"):
        mean = sum(float(str(line[name])) for line in lines) / max(len(lines), 1)
        print(f"{name}: {mean:.3f} over {len(lines)} speakers", file=sys.stderr)


if __name__ == "__main__":
    main()
