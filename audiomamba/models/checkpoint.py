"""Weights of a torch model to and from a checkpoint; checkpoint_files.py has the format."""

from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from audiomamba.errors import ModelError
from audiomamba.models.checkpoint_files import SCALE, read_weights

__all__ = ["Storage", "fill", "load_weights", "quantize_rows", "save_weights"]

Storage = Literal["float32", "bf16", "int8"]
Module = TypeVar("Module", bound=nn.Module)


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
    """The weights as float32 tensors.

    Raises:
        ModelError: no such file, or it is damaged.
    """
    return {name: torch.from_numpy(array) for name, array in read_weights(folder).items()}


def fill(model: Module, folder: Path) -> Module:
    """Give ``model`` the weights of a checkpoint; returns it, in evaluation mode.

    Raises:
        ModelError: no such file, it is damaged, or its weights are not those of the model.
    """
    try:
        missing, unexpected = model.load_state_dict(load_weights(folder), strict=False)
    except RuntimeError as error:  # a shape
        raise ModelError(f"{folder}: {str(error).splitlines()[-1].strip()}") from None
    if missing or unexpected:
        raise ModelError(f"{folder}: weights missing {missing[:3]}, left over {unexpected[:3]}")
    return model.eval()


def _is_linear(name: str, tensor: Tensor) -> bool:
    return tensor.dim() == 2 and name.endswith(".weight") and tensor.numel() >= 4096
