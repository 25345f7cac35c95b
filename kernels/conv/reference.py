"""The definition of ``conv``: one frame after the other."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["conv", "conv_step_"]


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    resets: Tensor | None,
    silu: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """See ``audiomamba.kernels.conv.conv``."""
    B, T, D = x.shape
    K = weight.shape[1]
    state = x.new_zeros(B, K - 1, D) if initial_state is None else initial_state
    y: list[Tensor] = []
    for t in reversed(range(T)) if reverse else range(T):
        if resets is not None:
            state = torch.where(resets[:, t, None, None], 0, state)
        window = torch.cat([state, x[:, t, None]], dim=1)  # (B, K, D)
        y.append(_frame(window, weight, bias, silu).to(x.dtype))
        state = window[:, 1:]
    if reverse:
        y.reverse()
    return (torch.stack(y, dim=1) if y else torch.zeros_like(x)), state.clone()


def conv_step_(
    x: Tensor, weight: Tensor, bias: Tensor | None, pool: Tensor, slots: Tensor, silu: bool
) -> Tensor:
    """See ``audiomamba.kernels.conv.conv_step_``."""
    y = torch.zeros_like(x)
    for row, slot in enumerate(slots.tolist()):
        if slot < 0:
            continue
        window = torch.cat([pool[slot], x[row, None].to(pool.dtype)])  # (K, D)
        y[row] = _frame(window, weight, bias, silu)
        pool[slot] = window[1:].clone()
    return y


def _frame(window: Tensor, weight: Tensor, bias: Tensor | None, silu: bool) -> Tensor:
    """Weigh ``(…, K, D)`` inputs into ``(…, D)``, in float32 or wider."""
    wide = torch.promote_types(window.dtype, torch.float32)
    z = (window.to(wide) * weight.to(wide).T).sum(dim=-2)
    if bias is not None:
        z = z + bias.to(wide)
    return F.silu(z) if silu else z
