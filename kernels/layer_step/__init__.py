"""The step of a whole Mamba-1 layer for a few rows: norm, products, conv, scan, gate (contract).

``out = layer(norm(x + residual))`` for one frame of M rows whose states are in pools.
"""

from typing import Final, NamedTuple

import torch
from torch import Tensor

from audiomamba.errors import BackendError, ShapeError
from audiomamba.kernels.blocks import pick_blocks
from audiomamba.kernels.dispatch import pick

__all__ = ["MAX_ROWS", "LayerWeights", "layer_step_", "most_rows", "supports"]

MAX_ROWS: Final = 64  # that a program can hold; the table names fewer
DTYPES: Final = (torch.float32, torch.bfloat16)
# Where models step whole layers. On a CPU Triton's interpreter could, in a quarter of a second a
# layer, so only tests add it.
DEVICES: Final = ("cuda",)


class LayerWeights(NamedTuple):
    """Of one layer. Matrices have the dtype of x; vectors, taps and A_log may be wider."""

    norm: Tensor  # (W,)
    in_proj: Tensor  # (2 D, W): u, then z
    conv: Tensor  # (D, K), the last tap on the newest sample
    conv_bias: Tensor  # (D,)
    x_proj: Tensor  # (R + 2 N, D): the low rank of the step size, B, C
    dt_proj: Tensor  # (D, R)
    dt_bias: Tensor  # (D,)
    A_log: Tensor  # (D, N)
    skip: Tensor  # (D,)
    out_proj: Tensor  # (W, D)


def layer_step_(
    x: Tensor,
    residual: Tensor | None,
    weights: LayerWeights,
    pools: tuple[Tensor, Tensor],
    slots: Tensor,
    *,
    eps: float = 1e-5,
    implementation: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Take one step of a layer for M rows, whose states are rows ``slots`` of ``pools``, in place.

    Slots are those of ``scan_step_``: 0 is the null slot, which several rows may name and whose
    content means nothing; others occur once; a row with a negative slot names none, and what its
    layer adds is zero. Rows of the pools that are not named stay bitwise as they are.

    Args:
        x: ``(M, W)`` float32 or bfloat16 (float64 off the GPU); M at most ``MAX_ROWS`` on a GPU.
        residual: The stream x is added to, ``(M, W)`` float32 (float64 where x is), or None.
        weights: Of the layer; the matrices of projections in the dtype of x.
        pools: The convolution's last inputs, ``(S, K - 1, D)``, and the states, ``(S, D, N)``, both
            float32 or bfloat16 (float64 where x is), any strides.
        slots: ``(M,)`` int32 or int64, below S. Its values are not checked on a GPU.
        eps: Added to the mean square in the norm.
        implementation: ``"reference"``, ``"gpu"`` or None: the latter on a GPU. There is none for a
            CPU: there the parts are taken one by one.

    Returns:
        What the layer adds, ``(M, W)`` in the dtype of x, and ``x + residual`` in float32 (float64
        where x is). There is no gradient.

    Raises:
        ShapeError: a tensor does not have the shape or dtype named here.
        BackendError: the implementation cannot run here.
    """
    if implementation == "cpu":
        raise BackendError("layer_step_: has no implementation 'cpu'; use norm, conv and scan")
    # Where no GPU is, the definition: its name is logged like that of any other pick.
    default = "gpu" if x.device.type == "cuda" else "reference"
    name = pick("layer_step_", x.device, implementation or default)
    _check(x, residual, weights, pools, slots)
    if name == "reference":
        from audiomamba.kernels.layer_step import reference

        return reference.layer_step_(x, residual, weights, pools, slots, eps=eps)
    if x.dtype not in DTYPES or x.shape[0] > MAX_ROWS:
        raise ShapeError(
            f"layer_step_: the gpu implementation wants at most {MAX_ROWS} rows of float32 or"
            f" bfloat16, got {x.shape[0]} of {x.dtype}; use 'reference'"
        )
    from audiomamba.kernels.layer_step import op

    out, stream = op.layer_step_(x, residual, *weights, *pools, slots, eps, name)
    return out, stream


def most_rows(device: torch.device, dtype: torch.dtype) -> int:
    """Rows of a call up to which one layer's step is to be taken here and not part by part."""
    return pick_blocks("layer_step.rows", device, bytes=dtype.itemsize)["rows"]


def supports(x: Tensor, weights: LayerWeights) -> bool:
    """Whether the gpu implementation can take a step of these, and is meant for so many rows.

    No under ``torch.compile``: a compiler fuses the parts in its own way.
    """
    return (
        x.device.type in DEVICES
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled(x.device.type)
        and x.dtype in DTYPES
        and 0 < x.shape[0] <= most_rows(x.device, x.dtype)
        and all(w.dtype == x.dtype for w in _projections(weights))
    )


def _projections(weights: LayerWeights) -> tuple[Tensor, ...]:
    return weights.in_proj, weights.x_proj, weights.dt_proj, weights.out_proj


def _check(
    x: Tensor,
    residual: Tensor | None,
    weights: LayerWeights,
    pools: tuple[Tensor, Tensor],
    slots: Tensor,
) -> None:
    if x.ndim != 2 or not x.is_floating_point():
        raise ShapeError(f"layer_step_: x wants (M, W) floating, got {tuple(x.shape)} {x.dtype}")
    M, W = x.shape
    stream = torch.promote_types(x.dtype, torch.float32)
    if residual is not None and (residual.shape != x.shape or residual.dtype != stream):
        raise ShapeError(
            f"layer_step_: residual wants {(M, W)} {stream},"
            f" got {tuple(residual.shape)} {residual.dtype}"
        )
    if weights.conv.ndim != 2 or weights.A_log.ndim != 2 or weights.dt_proj.ndim != 2:
        raise ShapeError("layer_step_: conv, A_log and dt_proj want two axes")
    (D, K), N, R = weights.conv.shape, weights.A_log.shape[1], weights.dt_proj.shape[1]
    wanted: tuple[tuple[int, ...], ...] = (
        (W,), (2 * D, W), (D, K), (D,), (R + 2 * N, D), (D, R), (D,), (D, N), (D,), (W, D),
    )  # fmt: skip
    for name, weight, shape in zip(LayerWeights._fields, weights, wanted, strict=True):
        if tuple(weight.shape) != shape:
            raise ShapeError(f"layer_step_: {name} wants {shape}, got {tuple(weight.shape)}")
    if min(W, D, K, N, R) < 1:
        raise ShapeError(f"layer_step_: wants no size of 0, got {W}, {D}, {K}, {N}, {R}")
    for weight in _projections(weights):
        if weight.dtype != x.dtype:
            raise ShapeError(f"layer_step_: projections want {x.dtype}, got {weight.dtype}")
    for name, pool, rest in zip(("conv", "state"), pools, ((K - 1, D), (D, N)), strict=True):
        if tuple(pool.shape[1:]) != rest:
            raise ShapeError(
                f"layer_step_: the pool of {name} wants {('S', *rest)}, got {tuple(pool.shape)}"
            )
    if slots.shape != (M,) or slots.dtype not in (torch.int32, torch.int64):
        raise ShapeError(
            f"layer_step_: slots wants ({M},) int32 or int64,"
            f" got {tuple(slots.shape)} {slots.dtype}"
        )
