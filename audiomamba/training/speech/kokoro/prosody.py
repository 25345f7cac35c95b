"""Text side of the voice: what each phone sounds like, how long it lasts, pitch and energy.

Phones are padded, ``(B, P)`` with id 0 at both ends; sorted batches make that cheap. Float32
throughout: durations are rounded and must not jump.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from audiomamba.training.speech.kokoro.layers import LEAK, AdaResBlock, Conv
from audiomamba.training.speech.kokoro.segments import Segments

__all__ = ["Bert", "Predictor", "TextEncoder"]

VOCABULARY = 178


class Bert(nn.Module):
    """Albert: one shared layer run twelve times."""

    def __init__(self) -> None:
        super().__init__()
        self.word, self.pos = nn.Embedding(VOCABULARY, 128), nn.Embedding(512, 128)
        self.typ = nn.Embedding(2, 128)
        self.ln0, self.map = nn.LayerNorm(128, 1e-12), nn.Linear(128, 768)
        self.query, self.key = nn.Linear(768, 768), nn.Linear(768, 768)
        self.value, self.dense = nn.Linear(768, 768), nn.Linear(768, 768)
        self.ln1, self.ln2 = nn.LayerNorm(768, 1e-12), nn.LayerNorm(768, 1e-12)
        self.ffn, self.ffn_output = nn.Linear(768, 2048), nn.Linear(2048, 768)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """``ids``, ``mask`` (B, P) to features ``(B, P, 768)``."""
        B, P = ids.shape

        def heads(x: Tensor) -> Tensor:
            return x.view(B, P, 12, 64).transpose(1, 2)

        x = self.word(ids) + self.pos.weight[:P] + self.typ.weight[0]
        x = self.map(self.ln0(x))
        keep = mask[:, None, None]
        for _ in range(12):
            y = F.scaled_dot_product_attention(
                heads(self.query(x)), heads(self.key(x)), heads(self.value(x)), attn_mask=keep
            )
            x = self.ln1(x + self.dense(y.transpose(1, 2).reshape(B, P, 768)))
            x = self.ln2(x + self.ffn_output(F.gelu(self.ffn(x), approximate="tanh")))
        hidden: Tensor = x
        return hidden


def _lstm(c_in: int) -> nn.LSTM:
    return nn.LSTM(c_in, 256, batch_first=True, bidirectional=True)


def _run(lstm: nn.LSTM, x: Tensor, counts: Tensor) -> Tensor:
    packed = pack_padded_sequence(x, counts, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(lstm(packed)[0], batch_first=True, total_length=x.shape[1])[0]


class AdaLN(nn.Module):
    """Layer norm with the style's gain and bias."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(128, 1024)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        gain, bias = self.fc(style)[:, None].chunk(2, -1)
        y: Tensor = (1 + gain) * F.layer_norm(x, (512,), eps=1e-5) + bias
        return y


class _DurationEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstms = nn.ModuleList(_lstm(640) if i % 2 == 0 else AdaLN() for i in range(6))

    def forward(self, x: Tensor, style: Tensor, counts: Tensor) -> Tensor:
        spread = style[:, None].expand(-1, x.shape[1], -1)
        x = torch.cat([x, spread], -1)
        for i in (0, 2, 4):
            lstm = self.lstms[i]
            assert isinstance(lstm, nn.LSTM), "even places hold LSTMs"
            x = torch.cat([self.lstms[i + 1](_run(lstm, x, counts), style), spread], -1)
        return x


class Curves(NamedTuple):
    """Pitch in Hz and energy, ``(2 total,)`` float32, zero in the gaps."""

    f0: Tensor
    energy: Tensor


class Predictor(nn.Module):
    """Durations from phones, then pitch and energy from the aligned phones."""

    def __init__(self) -> None:
        super().__init__()
        self.text_encoder = _DurationEncoder()
        self.lstm, self.shared = _lstm(640), _lstm(640)
        self.duration_proj = nn.ModuleDict({"linear_layer": nn.Linear(512, 50)})
        for name in ("F0", "N"):
            blocks = [
                AdaResBlock(512, 512),
                AdaResBlock(512, 256, up=True),
                AdaResBlock(256, 256),
            ]
            self.add_module(name, nn.ModuleList(blocks))
        self.F0_proj, self.N_proj = Conv(256, 1, 1), Conv(256, 1, 1)

    def durations(
        self, x: Tensor, style: Tensor, counts: Tensor, mask: Tensor, speed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Features ``(B, P, 640)`` for the curves, and frames a phone, ``(B, P)`` int64."""
        x = self.text_encoder(x, style, counts)
        y = self.duration_proj["linear_layer"](_run(self.lstm, x, counts))
        frames = torch.round(torch.sigmoid(y).sum(-1) / speed[:, None]).clamp(min=1)
        return x, frames.long() * mask

    def recur(self, x: Tensor, counts: Tensor) -> Tensor:
        """The recurrent part over aligned features ``(B, T, 640)``, longest first."""
        packed = pack_padded_sequence(x, counts, batch_first=True)
        return pad_packed_sequence(self.shared(packed)[0], batch_first=True)[0]

    def curves(self, x: Tensor, style: Tensor, segments: Segments) -> Curves:
        """Pitch and energy of packed rows ``(total, 512)``."""
        inside = segments.rows_owner(2) < len(segments.starts)
        found = []
        for name in ("F0", "N"):
            y, rate = x, 1
            for block in self.get_submodule(name).children():
                assert isinstance(block, AdaResBlock), "a curve is made by residual blocks"
                y = block(y, style, segments, rate)
                rate = 1 if block.pool is None and rate == 1 else 2
            y = self.get_submodule(name + "_proj")(y, add_bias=True)[:, 0]
            found.append(torch.where(inside, y, 0.0))
        return Curves(*found)


class _ChannelNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(512)), nn.Parameter(torch.zeros(512))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.transpose(1, 2), (512,), self.gamma, self.beta).transpose(1, 2)


class TextEncoder(nn.Module):
    """Phones to what the decoder speaks, ``(B, P, 512)``."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 512)
        self.cnn = nn.ModuleList(
            nn.Sequential(nn.Conv1d(512, 512, 5, padding=2), _ChannelNorm()) for _ in range(3)
        )
        self.lstm = _lstm(512)

    def forward(self, ids: Tensor, mask: Tensor, counts: Tensor) -> Tensor:
        keep = mask[:, None].float()
        x = self.embedding(ids).transpose(1, 2) * keep
        for conv in self.cnn:
            x = F.leaky_relu(conv(x), LEAK) * keep
        return _run(self.lstm, x.transpose(1, 2), counts)
