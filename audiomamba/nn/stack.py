"""A stack of blocks: what every model here is built around."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from audiomamba.errors import ShapeError
from audiomamba.nn.block import Block, BlockState, Norm
from audiomamba.nn.config import StackConfig
from audiomamba.nn.state import gather, scatter_

__all__ = ["Stack", "StackState"]

StackState = tuple[BlockState, ...]


class Stack(nn.Module):
    """Residual blocks and a last norm; causal, with a state of constant size.

    Whole sequences, any chunking of them, and single steps give the same numbers.

    Args:
        config: What it is made of.
        fused_step: On a GPU, step few rows by a few kernels a layer where a layer can
            (``Block.step_``); False steps them part by part, as all else. The numbers agree within
            rounding. The attribute may be set at any time, but a captured graph stays as it is.
    """

    def __init__(self, config: StackConfig, *, fused_step: bool = True) -> None:
        super().__init__()
        self.fused_step = fused_step
        self.width = config.width
        layers = config.each()
        self.blocks = nn.ModuleList(
            Block(config.width, layer, dropout=config.dropout, eps=config.norm_eps)
            for layer in layers
        )
        self.norm = Norm(config.width, config.norm_eps)
        branches = sum(1 + (layer.ffn > 0) for layer in layers)
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if name.endswith("out_proj.weight"):  # keeps the stream's variance over depth
                    weight.div_(math.sqrt(branches))

    def init_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> StackState:
        """The state before the first frame of ``batch`` streams."""
        return tuple(
            block.init_state(batch, device=device, dtype=dtype)  # type: ignore[operator]
            for block in self.blocks
        )

    def forward(
        self, x: Tensor, state: StackState | None = None, *, resets: Tensor | None = None
    ) -> tuple[Tensor, StackState]:
        """``x (B, T, width)``, any T, to ``y (B, T, width)`` and the state after it.

        ``resets (B, T)`` bool: where a new sequence starts inside a row; nothing before it is seen.
        """
        y, _, state = self.forward_with_taps(x, state, taps=(), resets=resets)
        return y, state

    def forward_with_taps(
        self,
        x: Tensor,
        state: StackState | None,
        *,
        taps: Sequence[int],
        resets: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor], StackState]:
        """As :meth:`forward`, and the float32 residual stream after ``taps`` layers, in order."""
        if x.dim() != 3 or x.shape[-1] != self.width:
            raise ShapeError(f"stack: wants (B, T, {self.width}), got {tuple(x.shape)}")
        residual: Tensor | None = None
        tapped: list[Tensor] = []
        after: list[BlockState] = []
        for depth, block in enumerate(self.blocks):
            if depth in taps:
                tapped.append(x.float() if residual is None else residual + x)
            x, residual, last = block(
                x, residual, None if state is None else state[depth], resets=resets
            )
            after.append(last)
        y, _ = self.norm(x, residual)
        return y, tapped, tuple(after)

    def step_(self, x: Tensor, pool: StackState, slots: Tensor) -> Tensor:
        """``x (M, T, width)``, T frames of M streams; rows ``slots (M,)`` of ``pool`` advance.

        One frame runs the step kernels, which touch nothing but the named rows. Several frames of
        few streams are cheaper as a chunk: the rows are gathered, run and scattered back.
        """
        if x.shape[1] != 1:
            chunk, state = self.forward(x, gather(pool, slots))
            scatter_(pool, slots, state)
            return chunk
        h, residual = x[:, 0], None
        for block, rows in zip(self.blocks, pool, strict=True):
            h, residual = block.step_(  # type: ignore[operator]
                h, residual, rows, slots, fused=self.fused_step
            )
        y: Tensor = self.norm(h, residual)[0]
        return y[:, None]
