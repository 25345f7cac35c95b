"""The step of Mamba-3 in Triton: one program a row and head, all of its state in registers.

Pairs of states are turned together, so the even and the odd ones are loaded apart: *_e and *_o.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from audiomamba.kernels.blocks import pick_blocks
from audiomamba.kernels.launching import launch
from audiomamba.kernels.mamba3.elementary import half_tanh, sigmoid, sin_cos, softplus

__all__ = ["step_", "step_kernel"]

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def _pair(p, o, N):
    """Even and odd elements, (NH,) each, zero past the end."""
    even = tl.load(p + 2 * o, mask=2 * o < N, other=0.0).to(tl.float32)
    odd = tl.load(p + 2 * o + 1, mask=2 * o + 1 < N, other=0.0).to(tl.float32)
    return even, odd


@triton.jit
def step_kernel(
    p_x, p_dt, p_A, p_mix, p_angle, p_B, p_C, p_turns, p_state, p_key, p_value, p_slots,
    p_D, p_z, p_bias, p_out,
    T, H, P: tl.constexpr, N: tl.constexpr, R: tl.constexpr,
    PP: tl.constexpr, NH: tl.constexpr,
):  # fmt: skip
    """Advance one head of one row by T frames; all tensors contiguous. The state is read before
    the first and written after the last."""
    i_h = tl.program_id(0)
    i_m = tl.program_id(1).to(tl.int64)
    slot = tl.load(p_slots + i_m).to(tl.int64) * H + i_h  # of the pool
    o = tl.arange(0, NH)
    p = tl.arange(0, PP)
    p_ok = p < P
    turns = tl.load(p_turns + slot * R + o, mask=o < R, other=0.0).to(tl.float32)
    last_e, last_o = _pair(p_key + slot * N, o, N)
    x = tl.load(p_value + slot * P + p, mask=p_ok, other=0.0).to(tl.float32)
    # Even and odd in one load, so that lanes lie side by side.
    n = tl.arange(0, 2 * NH)
    ok = p_ok[:, None] & (n < N)[None, :]
    q_s = p_state + slot * (P * N) + p[:, None] * N + n[None, :]
    old = tl.load(q_s, mask=ok, other=0.0).to(tl.float32)
    s_e, s_o = tl.split(tl.reshape(old, (PP, NH, 2)))
    for t in range(0, T):
        frame = i_m * T + t
        at = frame * H + i_h  # of the inputs
        raw = tl.load(p_dt + at).to(tl.float32)
        if p_bias is not None:
            raw += tl.load(p_bias + i_h).to(tl.float32)
        dt = softplus(raw)
        decay = softplus(tl.load(p_A + at).to(tl.float32))
        decay = tl.where(decay < 1e-4, 1e-4, decay)
        mix = tl.load(p_mix + at).to(tl.float32)
        speed = tl.load(p_angle + frame * R + o, mask=o < R, other=0.0).to(tl.float32)
        turns += half_tanh(speed) * dt
        turns = tl.where(o < R, turns - tl.floor(turns), 0.0)
        sin, cos = sin_cos(turns)
        b_e, b_o = _pair(p_B + at * N, o, N)
        c_e, c_o = _pair(p_C + at * N, o, N)
        k_e = b_e * cos - b_o * sin
        k_o = b_e * sin + b_o * cos
        q_e = c_e * cos - c_o * sin
        q_o = c_e * sin + c_o * cos
        last = x * (dt * sigmoid(-mix))
        x = tl.load(p_x + at * P + p, mask=p_ok, other=0.0).to(tl.float32)
        drive = x * (dt * sigmoid(mix))
        decay = tl.math.exp2(-dt * decay * LOG2E)
        s_e = decay * (s_e + last[:, None] * last_e[None, :]) + drive[:, None] * k_e[None, :]
        s_o = decay * (s_o + last[:, None] * last_o[None, :]) + drive[:, None] * k_o[None, :]
        last_e = k_e
        last_o = k_o
        y = tl.sum(s_e * q_e[None, :] + s_o * q_o[None, :], axis=1)
        if p_D is not None:
            y += x * tl.load(p_D + i_h).to(tl.float32)
        if p_z is not None:
            z = tl.load(p_z + at * P + p, mask=p_ok, other=0.0).to(tl.float32)
            y *= z * sigmoid(z)
        tl.store(p_out + at * P + p, y.to(p_out.dtype.element_ty), mask=p_ok)
    # Each element of the old state was read by the thread that now writes it, or by this program
    # before the barrier.
    tl.debug_barrier()
    new = tl.reshape(tl.join(s_e, s_o), (PP, 2 * NH))
    tl.store(q_s, new.to(p_state.dtype.element_ty), mask=ok)
    tl.store(p_turns + slot * R + o, turns.to(p_turns.dtype.element_ty), mask=o < R)
    tl.store(p_key + slot * N + 2 * o, last_e.to(p_key.dtype.element_ty), mask=2 * o < N)
    tl.store(p_key + slot * N + 2 * o + 1, last_o.to(p_key.dtype.element_ty), mask=2 * o + 1 < N)
    tl.store(p_value + slot * P + p, x.to(p_value.dtype.element_ty), mask=p_ok)


def step_(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    mix: Tensor,
    angle: Tensor,
    B: Tensor,
    C: Tensor,
    turns: Tensor,
    state: Tensor,
    key: Tensor,
    value: Tensor,
    slots: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
) -> Tensor:
    """Advance rows ``slots`` of the pool by one frame, or T, and return the output."""
    rows, heads, width = x.shape[0], *x.shape[-2:]
    frames = x.shape[1] if x.ndim == 4 else 1
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if rows and heads and frames:
        PP, NH = triton.next_power_of_2(width), triton.next_power_of_2(-(-B.shape[-1] // 2))
        inputs = (v.contiguous() for v in (x, delta, A, mix, angle, B, C))
        given = (None if v is None else v.contiguous() for v in (D, z, delta_bias))
        with torch.cuda.device_of(x):
            launch(
                step_kernel,
                (heads, rows),
                *inputs,
                turns,
                state,
                key,
                value,
                slots.contiguous(),
                *given,
                out,
                frames,
                heads,
                P=width,
                N=B.shape[-1],
                R=angle.shape[-1],
                PP=PP,
                NH=NH,
                **pick_blocks("mamba3.step", x.device, values=2 * PP * NH, rows=rows).settings,
            )
    return out
