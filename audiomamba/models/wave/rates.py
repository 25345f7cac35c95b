"""The U-Net's rates: blocks, a pool to a slower rate and back, each a function of its state.

A group of ``pool`` frames becomes one frame of the slower rate (reshape and a linear map). What the
slower rate makes of a group is spread over the *next* group, so that no frame sees its own future;
it is added to what the faster rate had there.

Source: Goel, Gu, Donahue and Ré, "It's Raw! Audio Generation with State-Space Models", 2022,
section 4.2; the gated blocks are those of Gu and Dao, "Mamba", 2023, E.4.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from audiomamba.models.wave.config import WaveConfig
from audiomamba.nn import Block, BlockState

__all__ = ["Gains", "Rate", "RateState", "Run", "spread"]

Run = tuple[BlockState, ...]
"""States of some blocks, one after another."""


class RateState(NamedTuple):
    """What one rate remembers; the innermost has blocks alone, the rest of it is ``()``."""

    down: Run
    waiting: Any  # (B, pool, width): frames of the group that is not whole yet, from its start
    ahead: Any  # (B, pool, width): what the slower rates say about the frames of this group
    inner: Any  # RateState
    up: Run


Gains = Sequence[Tensor]
"""Of all blocks in their order, each ``(B, N, width)``: one of every row, or one a period."""


def spread(gain: Tensor, every: int, first: int, frames: int) -> Tensor:
    """Gains ``(B, N, width)`` of periods as those of frames, ``(B, frames, width)``.

    Args:
        gain: One of each period; the only one stands for all frames.
        every: Frames of a period.
        first: Frames of the first period that are over.
        frames: How many are wanted.
    """
    if gain.shape[1] == 1:
        return gain
    if every > 1:  # not repeat_interleave, whose gradient may add in any order
        gain = gain[:, :, None].expand(-1, -1, every, -1).flatten(1, 2)
    if first == 0 and frames == gain.shape[1]:
        return gain
    return gain[:, first : first + frames]


class _Blocks(nn.Module):
    """Blocks at one rate on one side, with their gains in the condition."""

    def __init__(self, config: WaveConfig, side: str, depth: int) -> None:
        super().__init__()
        stage = config.stages[depth]
        prefix = f"net.{'inner.' * depth}{side}."
        own = [block for block in config.blocks() if block.prefix.startswith(prefix)]
        self.every = config.period // math.prod(config.pools[:depth])
        self.numbers = [block.number for block in own]
        self.columns = [slice(block.column, block.column + block.width) for block in own]
        self.blocks = nn.ModuleList(
            Block(stage.width, block.layer, dropout=config.dropout, eps=config.norm_eps)
            for block in own
        )

    def init_state(self, batch: int, device: torch.device | None, dtype: torch.dtype) -> Run:
        return tuple(
            block.init_state(batch, device=device, dtype=dtype)  # type: ignore[operator]
            for block in self.blocks
        )

    def forward(
        self,
        x: Tensor,
        residual: Tensor | None,
        state: Run | None,
        gains: Gains | None,
        position: int,
    ) -> tuple[Tensor, Tensor | None, Run]:
        after: list[BlockState] = []
        for i, (block, number) in enumerate(zip(self.blocks, self.numbers, strict=True)):
            gain = None
            if gains is not None:
                gain = spread(gains[number], self.every, position, x.shape[1])
            x, residual, last = block(x, residual, None if state is None else state[i], gain=gain)
            after.append(last)
        return x, residual, tuple(after)

    def step_(
        self,
        x: Tensor,
        residual: Tensor | None,
        pool: Run,
        slots: Tensor,
        condition: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        for block, rows, columns in zip(self.blocks, pool, self.columns, strict=True):
            gain = None if condition is None else condition[:, columns]
            x, residual = block.step_(x, residual, rows, slots, gain=gain)  # type: ignore[operator]
        return x, residual


class Rate(nn.Module):
    """All that happens at one rate, with the slower rates inside.

    Args:
        config: Of the whole model.
        depth: Pools between the samples and this rate.
    """

    def __init__(self, config: WaveConfig, depth: int = 0) -> None:
        super().__init__()
        self.width = config.stages[depth].width
        self.depth = depth
        self.down = _Blocks(config, "down", depth)
        self.pool = config.pools[depth] if depth < len(config.pools) else 0
        if self.pool:
            slower = config.stages[depth + 1].width
            self.shrink = nn.Linear(self.pool * self.width, slower)
            self.inner = Rate(config, depth + 1)
            self.grow = nn.Linear(slower, self.pool * self.width)
            self.up = _Blocks(config, "up", depth)
        layers = len(self.down.blocks) * (2 if self.pool else 1)
        with torch.no_grad():
            for side in (self.down, *((self.up,) if self.pool else ())):
                for name, weight in side.named_parameters():
                    if name.endswith("out_proj.weight"):  # keeps the variance over depth
                        weight.div_(math.sqrt(layers))

    def init_state(self, batch: int, device: torch.device | None, dtype: torch.dtype) -> RateState:
        """The state before the first frame of ``batch`` streams."""
        down = self.down.init_state(batch, device, dtype)
        if not self.pool:
            return RateState(down, (), (), (), ())
        waiting, ahead = (
            torch.zeros(batch, self.pool, self.width, device=device, dtype=torch.float32)
            for _ in range(2)
        )
        inner = self.inner.init_state(batch, device, dtype)
        return RateState(down, waiting, ahead, inner, self.up.init_state(batch, device, dtype))

    def forward(
        self, x: Tensor, state: RateState | None, gains: Gains | None, position: int
    ) -> tuple[Tensor, Tensor | None, RateState]:
        """Frames ``x (B, T, width)``, any T, through this rate and those inside.

        Args:
            x: Frames.
            state: Before them; None at the start.
            gains: Of all blocks, from the period of ``position`` on, or None.
            position: Frames since the start, the same of all rows, counted modulo the period.

        Returns:
            ``(x, residual)`` whose sum is the stream after the last block, and the state.
        """
        down = None if state is None else state.down
        x, residual, down = self.down(x, None, down, gains, position)
        if not self.pool:
            return x, residual, RateState(down, (), (), (), ())
        stream = x.float() if residual is None else residual + x
        B, T, width = stream.shape
        phase = position % self.pool
        lined = stream
        if phase and state is not None:
            lined = torch.cat([state.waiting[:, :phase], stream], 1)
        groups = lined.shape[1] // self.pool
        whole = groups * self.pool
        coming = stream.new_zeros(B, 0, width)
        inner = None if state is None else state.inner
        if groups:
            frames = self.shrink(lined[:, :whole].reshape(B, groups, self.pool * width))
            y, r, inner = self.inner(frames, inner, gains, position // self.pool)
            coming = self.grow(y if r is None else r + y).reshape(B, whole, width)
        elif inner is None:
            inner = self.inner.init_state(B, x.device, torch.float32)
        ahead = (
            coming.new_zeros(B, self.pool, width) if state is None else state.ahead.to(coming.dtype)
        )
        line = torch.cat([ahead, coming], 1)  # from the first frame of the group of `position`
        up = None if state is None else state.up
        x, residual, up = self.up(line[:, phase : phase + T], stream, up, gains, position)
        left = lined[:, whole:]
        waiting = torch.cat([left, left.new_zeros(B, self.pool - left.shape[1], width)], 1)
        return x, residual, RateState(down, waiting, line[:, whole:].float(), inner, up)

    def step_(
        self,
        x: Tensor,
        pool: RateState,
        slots: Tensor,
        condition: Tensor | None,
        position: Tensor,
        whole: int | None,
    ) -> tuple[Tensor, Tensor | None]:
        """One frame of every row, ``x (M, width)``; rows ``slots`` of ``pool`` advance in place.

        Args:
            x: Frames.
            pool: States.
            slots: Rows of them, ``(M,)``.
            condition: ``(M, condition_size)``, or None.
            position: Frames since the start, ``(M,)``, modulo the period.
            whole: Pools whose group ends with this sample in *all* rows, where the caller knows;
                None looks row by row: on the CPU those rows alone go on to the slower rate, on a
                GPU, where to look would be to wait, the others go there in the null slot.
        """
        x, residual = self.down.step_(x, None, pool.down, slots, condition)
        if not self.pool:
            return x, residual
        stream = x.float() if residual is None else residual + x
        phase = position % self.pool
        up = pool.ahead[slots, phase]
        pool.waiting[slots, phase] = stream.to(pool.waiting.dtype)
        self._slower_step_(pool, slots, condition, position, phase, whole)
        return self.up.step_(up.to(x.dtype), stream, pool.up, slots, condition)

    def _slower_step_(
        self,
        pool: RateState,
        slots: Tensor,
        condition: Tensor | None,
        position: Tensor,
        phase: Tensor,
        whole: int | None,
    ) -> None:
        """Let the slower rate take the groups that are whole now."""
        if whole is not None:
            if whole <= self.depth:
                return
        elif slots.device.type == "cpu":
            rows = (phase == self.pool - 1).nonzero()[:, 0]
            if not len(rows):
                return
            slots, position = slots[rows], position[rows]
            condition = None if condition is None else condition[rows]
        else:
            slots = torch.where(phase == self.pool - 1, slots, 0)
        frames = self.shrink(pool.waiting[slots].flatten(1))
        y, r = self.inner.step_(frames, pool.inner, slots, condition, position // self.pool, whole)
        coming = self.grow(y if r is None else r + y)
        pool.ahead[slots] = coming.view(-1, self.pool, self.width).to(pool.ahead.dtype)
