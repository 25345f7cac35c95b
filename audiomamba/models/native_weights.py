"""Weights of a checkpoint as the native engine's C side takes them."""

import ctypes
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import ModelError
from audiomamba.kernels import native

__all__ = ["DYNAMICS", "Pointers", "describe_block"]

Floats = NDArray[np.float32]
Weights = Mapping[str, Floats]

DYNAMICS = ("lti", "selective")
"""Dynamics that the engine runs."""


class Pointers:
    """Addresses of weights for the C side, by name and shape; ``keep`` holds what they point at."""

    def __init__(self, weights: Weights, keep: list[Floats], prefix: str = "") -> None:
        self._weights, self._keep, self._prefix = weights, keep, prefix

    def under(self, prefix: str) -> "Pointers":
        """The same for the names below ``prefix``."""
        return Pointers(self._weights, self._keep, self._prefix + prefix)

    def __call__(self, name: str, *shape: int) -> Any:
        return self.to(self.array(name, *shape))

    def array(self, name: str, *shape: int) -> Floats:
        """The weight itself.

        Raises:
            ModelError: it is missing or has another shape.
        """
        name = self._prefix + name
        if name not in self._weights:
            raise ModelError(f"native engine: checkpoint has no weight {name!r}")
        weight = self._weights[name]
        if weight.shape != shape:
            raise ModelError(f"native engine: {name} must be {shape}, got {weight.shape}")
        return weight

    def to(self, array: Floats) -> Any:
        """Address of an array of one's own."""
        array = np.ascontiguousarray(array, np.float32)
        self._keep.append(array)
        return array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


def describe_block(layer: Mapping[str, Any], width: int, take: Pointers) -> native.Block:
    """One block of ``width`` for the C side; ``take`` finds its weights.

    Raises:
        ModelError: a weight is missing, or the engine does not know the layer's dynamics.
    """
    if layer["dynamics"] not in DYNAMICS:
        raise ModelError(
            f"native engine: runs {' and '.join(DYNAMICS)} layers, not {layer['dynamics']!r}"
        )
    channels, states = layer["expand"] * width, layer["state_size"]
    block = native.Block(
        selective=int(layer["dynamics"] == "selective"),
        channels=channels,
        states=states,
        conv_taps=layer["conv_taps"],
        norm=take("norm.weight", width),
        in_proj=take("mixer.in_proj.weight", 2 * channels, width),
        conv_weight=take("mixer.conv_weight", channels, layer["conv_taps"]),
        conv_bias=take("mixer.conv_bias", channels),
        out_proj=take("mixer.out_proj.weight", width, channels),
    )
    dynamics = take.under("mixer.dynamics.")
    block.D = dynamics("D", channels)
    if block.selective:
        block.dt_rank = rank = layer["dt_rank"] or math.ceil(width / 16)
        block.dt_proj = dynamics("dt_proj.weight", channels, rank)
        block.dt_bias = dynamics("dt_proj.bias", channels)
        block.x_proj = dynamics("x_proj.weight", rank + 2 * states, channels)
        block.A = dynamics.to(-np.exp(dynamics.array("A_log", channels, states)))
    else:
        real = layer.get("values") == "real"
        pairs = states if real else states // 2
        A, B = _discretise(dynamics, channels, pairs, layer["discretization"], real)
        block.A, block.B = dynamics.to(_interleave(A)), dynamics.to(_interleave(B))
        if real:  # the engine's pairs, with imaginary parts of zero
            block.states = 2 * pairs
            C = dynamics.array("C", channels, pairs)
            block.C = dynamics.to(np.stack([C, np.zeros_like(C)], -1))
        else:
            block.C = dynamics("C", channels, pairs, 2)
    if frames := layer.get("look_ahead", 0):
        block.ahead_taps = 2 * frames + 1
        block.ahead_weight = take("ahead.taps", width, block.ahead_taps)
        block.ahead_rest = take("ahead.rest", width)
    if layer["ffn"] > 0:
        block.hidden = hidden = round(layer["ffn"] * width)
        block.ffn_norm = take("ffn_norm.weight", width)
        block.ffn_in_proj = take("ffn.in_proj.weight", 2 * hidden, width)
        block.ffn_out_proj = take("ffn.out_proj.weight", width, hidden)
        block.ffn_conv_taps = layer["ffn_conv_taps"]
        if layer["ffn_conv_taps"]:
            block.ffn_conv_weight = take("ffn.conv_weight", hidden, layer["ffn_conv_taps"])
            block.ffn_conv_bias = take("ffn.conv_bias", hidden)
    return block


def _discretise(
    take: Pointers, channels: int, pairs: int, method: str, real: bool
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """The discrete A and B of an LTI layer, as kernels.lti defines them; B = 1 before."""
    A = -np.exp(take.array("A_log_real", channels, pairs).astype(np.float64)) + 0j
    if not real:
        A += 1j * take.array("A_imag", channels, pairs).astype(np.float64)
    dt = np.exp(take.array("log_dt", channels).astype(np.float64))[:, None]
    if method == "bilinear":
        return (1 + dt * A / 2) / (1 - dt * A / 2), dt / (1 - dt * A / 2)
    return np.exp(dt * A), np.expm1(dt * A) / A


def _interleave(z: NDArray[np.complex128]) -> Floats:
    return np.stack([z.real, z.imag], -1).astype(np.float32)
