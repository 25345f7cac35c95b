"""What comes out of Mamba-3, from what comes out of the duality, in Triton: skip, gate, and back.

``out = (y + (D - take) x) silu(z)``, ``take`` being what came early; see README.md. A program has
some steps of a head. Prefixes: p_ pointer, s_ stride, i_ index.
"""

import triton
import triton.language as tl

from audiomamba.kernels.mamba3.elementary import sigmoid

__all__ = ["emit_backward_kernel", "emit_kernel"]


@triton.jit
def _skip(p_take, p_D, at_t, ok, i_h):
    """What a sample is multiplied with on its way past the state, (BT, 1)."""
    skip = -tl.load(p_take + at_t, mask=ok, other=0.0)
    if p_D is not None:
        skip += tl.load(p_D + i_h).to(tl.float32)
    return skip[:, None]


@triton.jit
def emit_kernel(
    p_y, p_x, p_take, p_D, p_z, p_out, T, H,
    s_yb, s_yt, s_yh, s_yp, s_xb, s_xt, s_xh, s_xp, s_zb, s_zt, s_zh, s_zp,
    P: tl.constexpr, PP: tl.constexpr, BT: tl.constexpr,
):  # fmt: skip
    i_h = tl.program_id(1)
    i_b = tl.program_id(2).to(tl.int64)
    t = tl.program_id(0) * BT + tl.arange(0, BT)
    p = tl.arange(0, PP)[None, :]
    tt = t[:, None].to(tl.int64)
    ok = (t < T)[:, None] & (p < P)
    at_t = (i_b * T + t) * H + i_h
    q_y = p_y + i_b * s_yb + tt * s_yt + i_h * s_yh + p * s_yp
    q_x = p_x + i_b * s_xb + tt * s_xt + i_h * s_xh + p * s_xp
    y = tl.load(q_y, mask=ok, other=0.0).to(tl.float32)
    x = tl.load(q_x, mask=ok, other=0.0).to(tl.float32)
    y += _skip(p_take, p_D, at_t, t < T, i_h) * x
    if p_z is not None:
        q_z = p_z + i_b * s_zb + tt * s_zt + i_h * s_zh + p * s_zp
        z = tl.load(q_z, mask=ok, other=0.0).to(tl.float32)
        y *= z * sigmoid(z)
    tl.store(p_out + at_t[:, None] * P + p, y.to(p_out.dtype.element_ty), mask=ok)


@triton.jit
def emit_backward_kernel(
    p_dout, p_y, p_x, p_take, p_D, p_z, p_dy, p_dx, p_dtake, p_dz, T, H,
    s_gb, s_gt, s_gh, s_gp, s_yb, s_yt, s_yh, s_yp, s_xb, s_xt, s_xh, s_xp,
    s_zb, s_zt, s_zh, s_zp,
    P: tl.constexpr, PP: tl.constexpr, BT: tl.constexpr,
):  # fmt: skip
    i_h = tl.program_id(1)
    i_b = tl.program_id(2).to(tl.int64)
    t = tl.program_id(0) * BT + tl.arange(0, BT)
    p = tl.arange(0, PP)[None, :]
    tt = t[:, None].to(tl.int64)
    ok = (t < T)[:, None] & (p < P)
    at_t = (i_b * T + t) * H + i_h
    at = at_t[:, None] * P + p
    q_g = p_dout + i_b * s_gb + tt * s_gt + i_h * s_gh + p * s_gp
    q_x = p_x + i_b * s_xb + tt * s_xt + i_h * s_xh + p * s_xp
    g = tl.load(q_g, mask=ok, other=0.0).to(tl.float32)
    x = tl.load(q_x, mask=ok, other=0.0).to(tl.float32)
    skip = _skip(p_take, p_D, at_t, t < T, i_h)
    if p_z is not None:
        q_y = p_y + i_b * s_yb + tt * s_yt + i_h * s_yh + p * s_yp
        q_z = p_z + i_b * s_zb + tt * s_zt + i_h * s_zh + p * s_zp
        y = tl.load(q_y, mask=ok, other=0.0).to(tl.float32) + skip * x
        z = tl.load(q_z, mask=ok, other=0.0).to(tl.float32)
        gate = sigmoid(z)
        dz = g * y * gate * (1.0 + z * (1.0 - gate))
        tl.store(p_dz + at, dz.to(p_dz.dtype.element_ty), mask=ok)
        g *= z * gate
    tl.store(p_dy + at, g.to(p_dy.dtype.element_ty), mask=ok)
    tl.store(p_dx + at, (g * skip).to(p_dx.dtype.element_ty), mask=ok)
    tl.store(p_dtake + at_t, -tl.sum(g * x, axis=1), mask=t < T)
