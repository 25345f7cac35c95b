"""Drawing on a GPU in one launch: what a model is packed into, and when it can be.

``persistent_kernel`` walks through a model of three rates by itself. It is told where everything
lies: matrices in one buffer, all else of the weights in another, a stream's state in a row. Layers
are time-invariant or selective, one kind a rate, without a feed-forward part.

What is kept of a time-invariant state is h / B̄, which spares a product a state and a sample.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from audiomamba.kernels.dispatch import HAS_TRITON
from audiomamba.kernels.launching import launch
from audiomamba.models.wave.config import WaveConfig
from audiomamba.models.wave.model import Wave, WaveState
from audiomamba.models.wave.rates import Run
from audiomamba.models.wave.sampling import Sampling
from audiomamba.nn import Block
from audiomamba.nn.lti import Lti
from audiomamba.nn.mixer import Mixer
from audiomamba.nn.selective import Selective

__all__ = ["Persistent", "lacks"]

WIDEST = 512  # padded rows or columns of a matrix; a program holds all rows at a time
FEW = 264  # streams: two programs for each of an H200's multiprocessors
# Warps of a program, and numbers of a matrix that it holds at a time: a few programs have a
# multiprocessor each and want it all; of many, the more there are side by side the better.
FOR_FEW, FOR_MANY = (16, 8_192), (4, 4_096)


def lacks(config: WaveConfig) -> str | None:
    """Why a model of this shape cannot be drawn from in one launch; None where it can."""
    if not HAS_TRITON:
        return "Triton is not installed"
    if len(config.pools) != 2:
        return f"it is written for two pools, not {len(config.pools)}"
    for stage in config.stages:
        layers = stage.each()
        if not layers or any(layer != layers[0] for layer in layers):
            return "layers of one rate differ"
        if layers[0].dynamics not in ("lti", "selective") or layers[0].ffn:
            return f"{layers[0].dynamics} layers, feed-forward parts"
    taps = {stage.each()[0].conv_taps for stage in config.stages}
    if len(taps) != 1 or taps == {1}:
        return f"convolutions of {sorted(taps)} taps, not of one length above 1"
    channels = [stage.width * stage.each()[0].expand for stage in config.stages]
    if _padded(max(*channels, *_groups(config))) > WIDEST:
        return f"it is wider than {WIDEST}"
    return None


class _Packed:
    """Tensors laid one behind another."""

    def __init__(self) -> None:
        self.parts: list[Tensor] = []
        self.size = 0

    def add(self, *parts: Tensor) -> int:
        """Where the first of them begins."""
        start = self.size
        for part in parts:
            self.parts.append(part.detach().float().reshape(-1))
            self.size += part.numel()
        return start

    def whole(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        return torch.cat(self.parts).to(device, dtype)


class Persistent:
    """One model, ready to be drawn from.

    Args:
        model: Of a shape that :func:`lacks` nothing.
        weights: dtype of the products' matrices, which is most of what a sample reads.
    """

    @torch.no_grad()
    def __init__(self, model: Wave, *, weights: torch.dtype = torch.bfloat16) -> None:
        self.config = model.config
        device = model.head.weight.device
        outer = model.net
        middle, inner = outer.inner, outer.inner.inner
        matrices, floats = _Packed(), _Packed()
        sides = (outer.down, middle.down, inner.down, middle.up, outer.up)
        # B̄ of every block in the state's order; what is 0 is heard nowhere.
        self._scales = [_drive(mixer) for side in sides for mixer in _mixers(side.blocks)]
        m_at = [matrices.add(*self._matrices(side.blocks)) for side in sides]
        f_at = [floats.add(*self._floats(side.blocks)) for side in sides]
        for rate in (outer, middle):
            for linear in (rate.shrink, rate.grow):
                m_at.append(matrices.add(linear.weight))
                f_at.append(floats.add(linear.bias))
        m_at.append(matrices.add(model.head.weight))
        f_at.append(floats.add(model.norm.weight))
        f_at += [floats.add(model.head.bias), floats.add(model.embedding.weight)]
        self._m_at, self._f_at = tuple(m_at), tuple(f_at)
        self._matrices_of = matrices.whole(device, weights)
        self._floats_of = floats.whole(device, torch.float32)
        columns = [side.columns[0].start for side in sides]
        self._g_at = tuple(columns if self.config.is_conditional else [0] * len(sides))
        self._shapes, self._pads = zip(
            *(self._shape(r.down) for r in (outer, middle, inner)), strict=True
        )
        self._groups = _groups(self.config)
        self._s_at = self._state_layout()
        self._widest = _padded(max(*self._groups, *(n for pads in self._pads for n in pads[:2])))

    def draw(
        self,
        pool: WaveState,
        slots: Tensor,
        how: Sampling,
        code: Tensor,
        chance: Tensor,
        position: int,
    ) -> Tensor:
        """Classes ``(M, samples)`` uint8; the states in rows ``slots`` of ``pool`` go on.

        Args:
            pool: States of M streams; with guidance of 2 M, the second half not asked.
            slots: Their rows.
            how: They are drawn.
            code: The sample before, ``(M,)``.
            chance: Numbers in [0, 1), ``(M, samples)`` float32.
            position: Samples since the start, modulo the period.
        """
        config = self.config
        M, samples = chance.shape
        halves = 1 if how.guidance == 1 else 2
        state = self._pack(pool, slots)
        condition = pool.condition[slots].contiguous()
        drawn = torch.empty((M, samples), dtype=torch.uint8, device=code.device)
        scratch = torch.empty((M, self._widest), device=code.device)
        warps, most = FOR_FEW if M <= FEW else FOR_MANY
        # Imported late: without a GPU nobody needs Triton.
        from audiomamba.models.wave.persistent_kernel import draw_kernel

        with torch.cuda.device_of(state):
            launch(
                draw_kernel, (M,), code.to(torch.int32), drawn, chance.contiguous(), state,
                condition, scratch, self._matrices_of, self._floats_of, samples, position, M,
                float(how.temperature), float(how.top_p), float(how.guidance), config.norm_eps,
                state.stride(0), condition.stride(0), scratch.stride(0), *self._shapes,
                self._m_at, self._f_at, self._s_at, self._g_at, P0=config.pools[0],
                P1=config.pools[1], GP0=_padded(self._groups[0]), GP1=_padded(self._groups[1]),
                PADS0=self._pads[0], PADS1=self._pads[1], PADS2=self._pads[2],
                K=config.stages[0].each()[0].conv_taps, GAINS=config.is_conditional,
                HALVES=halves, NUCLEUS=how.top_p < 1, GREEDY=how.temperature == 0, MOST=most,
                num_warps=warps,
            )  # fmt: skip
        self._unpack(state, pool, slots)
        pool.position[slots] = float((position + samples) % config.period)
        return drawn

    def _matrices(self, blocks: nn.ModuleList) -> Iterator[Tensor]:
        for mixer in _mixers(blocks):
            yield mixer.in_proj.weight
            yield mixer.out_proj.weight
            if isinstance(mixer.dynamics, Selective):
                yield mixer.dynamics.x_proj.weight
                yield mixer.dynamics.dt_proj.weight

    def _floats(self, blocks: nn.ModuleList) -> Iterator[Tensor]:
        for block, mixer in zip(blocks, _mixers(blocks), strict=True):
            assert isinstance(block, Block)
            yield block.norm.weight
            yield mixer.conv_weight.t()
            yield mixer.conv_bias
            inner = mixer.dynamics
            if isinstance(inner, Lti):
                system = inner.sampled()
                assert system.exact is not None and system.skip is not None
                for pairs in (system.exact, 2 * system.c * system.b):
                    yield pairs.real
                    yield pairs.imag
                yield system.skip
            else:
                yield -torch.exp(inner.A_log.float())
                yield inner.dt_proj.bias
                yield inner.D

    def _shape(self, side: Any) -> tuple[tuple[int, ...], tuple[Any, ...]]:
        """Sizes of a rate's blocks, and what they are padded to."""
        first = next(iter(_mixers(side.blocks)))
        W, D, K = first.in_proj.weight.shape[1], first.channels, first.conv_weight.shape[1]
        inner = first.dynamics
        if isinstance(inner, Lti):
            S, N, matrices, floats, states = inner.pairs, 0, 0, 4 * D * inner.pairs + D, 2
        else:
            S, N, states = inner.state_size, inner.dt_rank, 1
            matrices, floats = (N + 2 * S) * D + D * N, D * S + 2 * D
        sizes = (
            W, D, S, N, 3 * D * W + matrices, W + (K + 1) * D + floats,
            (K - 1) * D + states * D * S,
        )  # fmt: skip
        pads = (*(_padded(n) for n in (W, D, S, N)), isinstance(inner, Lti), len(side.blocks))
        return sizes, pads

    def _state_layout(self) -> tuple[int, ...]:
        """Where a row has its parts, in the order of :meth:`_walk`."""
        outer, middle, inner = (
            sizes[6] * pads[5] for sizes, pads in zip(self._shapes, self._pads, strict=True)
        )
        first, second = self._groups
        parts = (outer, first, first, middle, second, second, inner, middle, outer)
        return tuple(itertools.accumulate(parts[:-1], initial=0))

    def _walk(self, pool: WaveState) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Tensors of a state in the order in which a row has them, and B̄ of the LTI ones."""
        scales = iter(self._scales)

        def blocks(run: Run) -> Iterator[tuple[Tensor, Tensor | None]]:
            for block in run:
                yield block.mixer.conv, None
                yield block.mixer.dynamics, next(scales)

        outer, middle = pool.net, pool.net.inner
        yield from blocks(outer.down)
        yield outer.waiting, None
        yield outer.ahead, None
        yield from blocks(middle.down)
        yield middle.waiting, None
        yield middle.ahead, None
        yield from blocks(middle.inner.down)
        yield from blocks(middle.up)
        yield from blocks(outer.up)

    def _pack(self, pool: WaveState, slots: Tensor) -> Tensor:
        """States as rows ``(M, size)``."""
        rows = []
        for tensor, scale in self._walk(pool):
            part = tensor[slots].float()
            if scale is not None:
                part = torch.view_as_real(torch.view_as_complex(part) / scale).movedim(-1, 1)
            rows.append(part.reshape(len(slots), -1))
        return torch.cat(rows, 1)

    def _unpack(self, rows: Tensor, pool: WaveState, slots: Tensor) -> None:
        at = 0
        for tensor, scale in self._walk(pool):
            size = tensor[0].numel()
            part = rows[:, at : at + size]
            at += size
            if scale is None:
                part = part.reshape(len(slots), *tensor.shape[1:])
            else:
                pairs = part.reshape(len(slots), 2, *tensor.shape[1:-1]).movedim(1, -1)
                part = torch.view_as_real(torch.view_as_complex(pairs.contiguous()) * scale)
            tensor[slots] = part.to(tensor.dtype)


def _groups(config: WaveConfig) -> list[int]:
    """Numbers in a group of frames that becomes one of the next rate."""
    pools = zip(config.pools, config.stages, strict=False)
    return [pool * stage.width for pool, stage in pools]


def _drive(mixer: Mixer) -> Tensor | None:
    """B̄ ``(D, S)`` of a time-invariant layer, ones where it is 0."""
    if not isinstance(mixer.dynamics, Lti):
        return None
    b = mixer.dynamics.sampled().b
    return torch.where(b == 0, torch.ones_like(b), b)


def _mixers(blocks: Sequence[Any] | nn.ModuleList) -> Iterator[Mixer]:
    for block in blocks:
        assert isinstance(block, Block) and isinstance(block.mixer, Mixer)
        yield block.mixer


def _padded(n: int) -> int:
    """Triton's ranges are powers of two."""
    return 1 << max(n - 1, 0).bit_length()
