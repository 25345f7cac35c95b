"""Weights of a checkpoint: ``model.safetensors``.

Matrices may be stored in bf16, or in int8 with one float32 scale a row (``NAME.scale``); they are
widened to float32 when loaded.
"""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from audiomamba.errors import ModelError

__all__ = ["Storage", "load_weights", "quantize_rows", "save_weights"]

SCALE = ".scale"
Storage = Literal["float32", "bf16", "int8"]


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """``weight (out, in)`` as int8 and one scale a row, ``(out,)`` float32; error <= scale / 2."""
    scale = weight.abs().amax(1).clamp(min=1e-12) / 127
    return torch.round(weight / scale[:, None]).to(torch.int8), scale


def save_weights(folder: Path, weights: dict[str, Tensor], *, storage: Storage = "float32") -> None:
    """Write ``model.safetensors`` into ``folder``.

    ``storage`` says how linear maps are kept; whatever is not a matrix, or is small, stays float32:
    decays, step sizes, norms and convolutions are sensitive and weigh next to nothing.
    """
    from safetensors.torch import save_file

    out: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        tensor = tensor.detach().float().cpu().contiguous()
        if storage != "float32" and _is_linear(name, tensor):
            if storage == "int8":
                tensor, scale = quantize_rows(tensor)
                out[name + SCALE] = scale
            else:
                tensor = tensor.to(torch.bfloat16)
        out[name] = tensor
    folder.mkdir(parents=True, exist_ok=True)
    save_file(out, folder / "model.safetensors", metadata={"format": "pt", "storage": storage})


def load_weights(folder: Path) -> dict[str, Tensor]:
    """Read ``model.safetensors`` (or its parts ``model-*.safetensors``) as float32 tensors.

    Raises:
        ModelError: no such file, or it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise ModelError(f"{folder}: not a checkpoint, model.safetensors is missing")
    stored: dict[str, Tensor] = {}
    try:
        for file in files:
            stored |= load_file(file)
    except SafetensorError as error:
        raise ModelError(f"{folder}: weights are damaged ({error})") from None
    weights: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if name.endswith(SCALE) and name.removesuffix(SCALE) in stored:
            continue
        scale = stored.get(name + SCALE)
        weights[name] = tensor.float() if scale is None else tensor.float() * scale[:, None]
    return weights


def _is_linear(name: str, tensor: Tensor) -> bool:
    return tensor.dim() == 2 and name.endswith(".weight") and tensor.numel() >= 4096
