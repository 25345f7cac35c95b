"""Bits a sample on recordings that are not trained on, and whether labels are heard."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from audiomamba.audio.mulaw import SILENCE
from audiomamba.models.wave.model import Wave
from audiomamba.training.wave.marks import Marks, other_rows
from audiomamba.training.wave.takes import Take, numbers

__all__ = ["BitsMeter", "mean_bits"]

_LN2 = 0.6931471805599453


class BitsMeter:
    """Measures a model on windows that stay on the device.

    Each window begins without a past; padding is not counted. Windows are told what is said and who
    speaks, as far as the model knows them.

    Args:
        takes: Recordings; those held out alone are used.
        labels: The model's, in its order.
        speakers: The model's, in its order.
        length: Samples of a window at most.
        batch: Windows at once.
        most: Windows in all; evenly spread over the recordings.
        period: Samples that a window is padded to a multiple of.
        label_states: Of the model.
        device: Where the model is.
    """

    def __init__(
        self,
        takes: Sequence[Take],
        *,
        labels: Sequence[str],
        speakers: Sequence[str],
        length: int,
        batch: int,
        most: int,
        period: int,
        label_states: int = 1,
        device: torch.device,
    ) -> None:
        windows = [
            (take, start)
            for take in takes
            if take.held_out
            for start in range(0, len(take.codes), length)
        ]
        chosen = windows[:: max(1, -(-len(windows) // most))]
        chosen.sort(key=lambda w: len(w[0].codes) - w[1])
        self.groups: list[str] = []
        self._labels, self._states = len(labels), label_states
        self._batches: list[tuple[Tensor, ...]] = []
        for i in range(0, len(chosen), batch):
            part = chosen[i : i + batch]
            rows = [torch.from_numpy(take.codes[s : s + length].copy()).long() for take, s in part]
            self.groups += ["known" if take.known_speaker else "new" for take, _ in part]
            padded = pad_sequence(rows, batch_first=True, padding_value=SILENCE)
            padded = F.pad(padded, (0, -padded.shape[1] % period), value=SILENCE)
            sizes = torch.tensor([len(row) for row in rows])
            own = [take for take, _ in part]
            said = numbers([take.label for take in own], labels)
            if label_states > 1:
                marks = Marks(
                    own, labels=labels, states=label_states, period=period, device=said.device
                )
                begin = torch.tensor([start for _, start in part])
                speed, periods = torch.ones(len(part)), padded.shape[1] // period
                said = marks.rows(torch.arange(len(part)), begin, speed, periods)
            by = numbers([take.speaker for take, _ in part], speakers)
            tensors = (padded, sizes, said, by)
            self._batches.append(tuple(tensor.to(device) for tensor in tensors))

    def __bool__(self) -> bool:
        return bool(self._batches)

    @torch.no_grad()
    def measure(self, model: Wave, weights: dict[str, Tensor], *, bf16: bool) -> dict[str, float]:
        """Bits a sample: ``all``, and apart where there are both ``known`` and ``new`` speakers.

        Two figures say whether labels are heard. ``dearer`` is how many bits more a window with a
        label costs if it is told another one, in the mean: about none where they are not heard.
        ``told`` is no bits but the share of windows that cost more so: a half where labels are not
        heard, near one where they can be asked for.
        """
        bits, samples, more = [], [], []
        training = model.training
        model.eval()
        try:
            for codes, sizes, labels, speakers in self._batches:
                each = _bits(model, weights, codes, labels, speakers, bf16)
                inside = torch.arange(codes.shape[1], device=codes.device) < sizes[:, None]
                bits.append((each * inside).sum(1))
                samples.append(sizes)
                if self._labels > 1:
                    others = other_rows(labels, self._labels, self._states)
                    wrong = _bits(model, weights, codes, others, speakers, bf16)
                    dearer = ((wrong - each) * inside).sum(1)
                    more.append(dearer[(labels >= 0).view(len(labels), -1).any(1)])
        finally:
            model.train(training)
        spent, counts = torch.cat(bits).double().cpu(), torch.cat(samples).double().cpu()
        out = {"all": float(spent.sum() / counts.sum())}
        if len(set(self.groups)) > 1:
            for group in ("known", "new"):
                rows = torch.tensor([name == group for name in self.groups])
                out[group] = float(spent[rows].sum() / counts[rows].sum())
        if more and len(dearer := torch.cat(more)):
            out["dearer"] = float(dearer.mean())
            out["told"] = float((dearer > 0).float().mean())
        return out


def mean_bits(logits: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
    """Mean bits of ``targets (B, T)`` where ``counted`` is 1."""
    each = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
    return (each * counted.flatten()).sum() / counted.sum().clamp(min=1) / _LN2


def _bits(
    model: Wave,
    weights: dict[str, Tensor],
    codes: Tensor,
    labels: Tensor,
    speakers: Tensor,
    bf16: bool,
) -> Tensor:
    inputs = F.pad(codes[:, :-1], (1, 0), value=SILENCE)
    own = {f"model.{name}": weight for name, weight in weights.items()}
    with torch.autocast(codes.device.type, torch.bfloat16, enabled=bf16):
        logits = torch.func.functional_call(_Told(model), own, (inputs, labels, speakers))
    each = F.cross_entropy(logits.flatten(0, 1).float(), codes.flatten(), reduction="none")
    return each.view(codes.shape) / _LN2


class _Told(torch.nn.Module):
    """A model that is told label and speaker by number, in one call."""

    def __init__(self, model: Wave) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, labels: Tensor, speakers: Tensor) -> Tensor:
        logits: Tensor = self.model(inputs, condition=self.model.condition(labels, speakers))[0]
        return logits
