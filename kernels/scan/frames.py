"""The kernel that takes streams a frame further, or several, their states in place, in Triton.

Prefixes as in ``registers``.
"""

import triton
import triton.language as tl

from audiomamba.kernels.approximate import sigmoid
from audiomamba.kernels.scan.registers import LOG2E, advance, place_of, step_size

__all__ = ["step_kernel"]


@triton.jit
def _frame(q_dt, q_u, q_B, q_C, d_ok, n_ok):
    """Load what the recurrence takes of one frame."""
    dt = tl.load(q_dt, mask=d_ok, other=0.0).to(tl.float32)
    u = tl.load(q_u, mask=d_ok, other=0.0).to(tl.float32)
    b = tl.load(q_B, mask=n_ok, other=0.0).to(tl.float32)
    return dt, u, b, tl.load(q_C, mask=n_ok, other=0.0).to(tl.float32)


@triton.jit
def step_kernel(
    p_u, p_dt, p_A, p_B, p_C, p_pool, p_slots, p_D, p_z, p_bias, p_out,
    T, D, per_group, tiles_per_group,
    s_um, s_ut, s_ud, s_dtm, s_dtt, s_dtd, s_zm, s_zt, s_zd, s_om, s_ot, s_od,
    s_Bm, s_Bt, s_Bg, s_Bn, s_Cm, s_Ct, s_Cg, s_Cn, s_pr, s_pd, s_pn, s_sm,
    N: tl.constexpr, NP: tl.constexpr, BD: tl.constexpr, SOFTPLUS: tl.constexpr,
    MANY: tl.constexpr,
):  # fmt: skip
    """T frames of some channels of one row; the state is read before the first and written after
    the last."""
    i_g, d, d_ok = place_of(tl.program_id(0), BD, per_group, tiles_per_group)
    i_m = tl.program_id(1).to(tl.int64)
    slot = tl.load(p_slots + i_m * s_sm).to(tl.int64)
    n = tl.arange(0, NP)
    n_ok = n < N
    ok = d_ok[:, None] & n_ok[None, :] & (slot >= 0)
    q_h = p_pool + slot * s_pr + d[:, None].to(tl.int64) * s_pd + n[None, :] * s_pn
    h = tl.load(q_h, mask=ok, other=0.0).to(tl.float32)
    A2 = tl.load(p_A + d[:, None] * N + n[None, :], mask=ok, other=0.0).to(tl.float32) * LOG2E
    q_dt = p_dt + i_m * s_dtm + d * s_dtd
    q_u = p_u + i_m * s_um + d * s_ud
    q_B = p_B + i_m * s_Bm + i_g * s_Bg + n * s_Bn
    q_C = p_C + i_m * s_Cm + i_g * s_Cg + n * s_Cn
    q_o = p_out + i_m * s_om + d * s_od
    if p_z is not None:
        q_z = p_z + i_m * s_zm + d * s_zd
    dt, u, b, c = _frame(q_dt, q_u, q_B, q_C, d_ok, n_ok)
    for t in range(0, T):
        if MANY:  # the next frame is on its way while this one is computed
            more = t + 1 < T
            q_dt += s_dtt
            q_u += s_ut
            q_B += s_Bt
            q_C += s_Ct
            next_dt, next_u, next_b, next_c = _frame(q_dt, q_u, q_B, q_C, d_ok & more, n_ok & more)
        if p_bias is not None:
            dt += tl.load(p_bias + d, mask=d_ok, other=0.0).to(tl.float32)
        dt = step_size(dt, SOFTPLUS)
        h = advance(h, A2, dt, dt * u, b, False)
        if not MANY:  # at once, so that it does not wait for the output
            tl.store(q_h, h.to(p_pool.dtype.element_ty), mask=ok)
        y = tl.sum(h * c[None, :], axis=1)
        if p_D is not None:
            y += u * tl.load(p_D + d, mask=d_ok, other=0.0).to(tl.float32)
        if p_z is not None:
            z = tl.load(q_z, mask=d_ok, other=0.0).to(tl.float32)
            y *= z * sigmoid(z)
        y = tl.where(slot >= 0, y, 0.0)
        tl.store(q_o, y.to(p_out.dtype.element_ty), mask=d_ok)
        if MANY:
            q_o += s_ot
            if p_z is not None:
                q_z += s_zt
            dt = next_dt
            u = next_u
            b = next_b
            c = next_c
    if MANY:
        tl.store(q_h, h.to(p_pool.dtype.element_ty), mask=ok)
