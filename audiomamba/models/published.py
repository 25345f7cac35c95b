"""Published Mamba-1 and Mamba-2 checkpoints, under their own names of things, as a model of ours.

Two spellings are read: that of ``state-spaces/mamba`` (``backbone.embedding.weight``) and that of
Hugging Face's port (``backbone.embeddings.weight``). Inside a layer both agree.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiomamba.errors import ModelError
from audiomamba.models.checkpoint_files import read_config
from audiomamba.models.language import LanguageModel, LanguageModelConfig
from audiomamba.nn import LayerConfig, StackConfig

__all__ = ["language_model_config", "load_published", "rename_published"]

IN_LAYER = {
    "norm.weight": "norm.weight",
    "mixer.in_proj.weight": "mixer.in_proj.weight",
    "mixer.conv1d.weight": "mixer.conv_weight",
    "mixer.conv1d.bias": "mixer.conv_bias",
    "mixer.out_proj.weight": "mixer.out_proj.weight",
}
IN_MIXER = {
    "selective": {
        "mixer.x_proj.weight": "mixer.dynamics.x_proj.weight",
        "mixer.dt_proj.weight": "mixer.dynamics.dt_proj.weight",
        "mixer.dt_proj.bias": "mixer.dynamics.dt_proj.bias",
        "mixer.A_log": "mixer.dynamics.A_log",
        "mixer.D": "mixer.dynamics.D",
    },
    "ssd": {
        "mixer.A_log": "mixer.A_log",
        "mixer.D": "mixer.D",
        "mixer.dt_bias": "mixer.dt_bias",
        "mixer.norm.weight": "mixer.norm_weight",
    },
}
OUTSIDE = {
    "backbone.embedding.weight": "embedding.weight",
    "backbone.embeddings.weight": "embedding.weight",
    "backbone.norm_f.weight": "stack.norm.weight",
    "lm_head.weight": "head.weight",
}
# What Mamba-2's own code can be configured to do and ours cannot, by its name for it.
FIXED: Mapping[str, Any] = {
    "rmsnorm": True,
    "norm_before_gate": False,
    "D_has_hdim": False,
    "bias": False,
    "conv_bias": True,
    "d_ssm": None,
}


def language_model_config(published: Mapping[str, Any]) -> LanguageModelConfig:
    """Read either publisher's ``config.json``.

    Raises:
        ModelError: the layers are neither Mamba-1 nor Mamba-2, or attention layers are mixed in.
    """
    if "hidden_size" in published:
        return _hugging_face(published)
    if "d_model" in published:
        return _state_spaces(published)
    raise ModelError(
        "config is neither state-spaces/mamba's (d_model) nor Hugging Face's (hidden_size)"
    )


def _hugging_face(published: Mapping[str, Any]) -> LanguageModelConfig:
    kind = published.get("model_type", "mamba")
    if kind not in ("mamba", "mamba2"):
        raise ModelError(f"wants model_type mamba or mamba2, got {kind!r}")
    if published.get("use_bias") or not published.get("use_conv_bias", True):
        raise ModelError("checkpoints with use_bias, or without use_conv_bias, are not supported")
    width, expand = published["hidden_size"], published.get("expand", 2)
    if kind == "mamba":
        layer = LayerConfig(
            count=published.get("num_hidden_layers", 32),
            ffn=0.0,
            expand=expand,
            state_size=published.get("state_size", 16),
            conv_taps=published.get("conv_kernel", 4),
            dt_rank=_rank(published.get("time_step_rank", "auto")),
        )
    else:
        low, high = published.get("time_step_limit", (0.0, math.inf))
        layer = LayerConfig(
            dynamics="ssd",
            count=published.get("num_hidden_layers", 64),
            ffn=0.0,
            expand=expand,
            state_size=published.get("state_size", 128),
            conv_taps=published.get("conv_kernel", 4),
            head_width=published.get("head_dim", 64),
            groups=published.get("n_groups", 8),
            dt_floor=float(low),
            dt_ceiling=_ceiling(high),
        )
    return LanguageModelConfig(
        vocabulary=published.get("vocab_size", 50280 if kind == "mamba" else 32768),
        tie_embeddings=published.get("tie_word_embeddings", kind == "mamba"),
        stack=StackConfig(
            width=width, layers=[layer], norm_eps=published.get("layer_norm_epsilon", 1e-5)
        ),
    )


def _state_spaces(published: Mapping[str, Any]) -> LanguageModelConfig:
    ssm = dict(published.get("ssm_cfg") or {})
    kind = ssm.pop("layer", "Mamba1")
    if kind not in ("Mamba1", "Mamba2") or published.get("attn_layer_idx"):
        raise ModelError("only checkpoints whose layers are all Mamba-1 or Mamba-2 are supported")
    if kind == "Mamba1":
        layer = LayerConfig(
            count=published["n_layer"],
            ffn=0.0,
            expand=ssm.get("expand", 2),
            state_size=ssm.get("d_state", 16),
            conv_taps=ssm.get("d_conv", 4),
            dt_rank=_rank(ssm.get("dt_rank", "auto")),
        )
    else:
        for name, wanted in FIXED.items():
            if ssm.get(name, wanted) != wanted:
                raise ModelError(f"Mamba-2 with {name}={ssm[name]!r} is not supported")
        low, high = ssm.get("dt_limit", (0.0, math.inf))
        layer = LayerConfig(
            dynamics="ssd",
            count=published["n_layer"],
            ffn=0.0,
            expand=ssm.get("expand", 2),
            state_size=ssm.get("d_state", 128),
            conv_taps=ssm.get("d_conv", 4),
            head_width=ssm.get("headdim", 64),
            groups=ssm.get("ngroups", 1),
            dt_floor=float(low),
            dt_ceiling=_ceiling(high),
        )
    multiple = published.get("pad_vocab_size_multiple", 1)
    return LanguageModelConfig(
        vocabulary=-(-published["vocab_size"] // multiple) * multiple,
        tie_embeddings=published.get("tie_embeddings", True),
        stack=StackConfig(width=published["d_model"], layers=[layer]),
    )


def _rank(published: int | str) -> int:
    return 0 if published == "auto" else int(published)


def _ceiling(published: float | str) -> float:
    """Largest step size, 0 for none; an infinite one may be spelled as a string."""
    return 0.0 if math.isinf(float(published)) else float(published)


def rename_published(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published names and shapes to those of :class:`LanguageModel`.

    Raises:
        ModelError: a name is not known.
    """
    kind = "ssd" if any(name.endswith("mixer.dt_bias") for name in weights) else "selective"
    in_layer = IN_LAYER | IN_MIXER[kind]
    out: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if name in OUTSIDE:
            out[OUTSIDE[name]] = tensor
            continue
        prefix, _, rest = name.removeprefix("backbone.layers.").partition(".")
        if not name.startswith("backbone.layers.") or rest not in in_layer:
            raise ModelError(f"published checkpoint: unknown weight {name!r}")
        if rest == "mixer.conv1d.weight":
            tensor = tensor.squeeze(1)
        out[f"stack.blocks.{prefix}.{in_layer[rest]}"] = tensor
    return out


def load_published(folder: str | Path) -> LanguageModel:
    """Load a checkpoint folder as either publisher lays it out.

    The weights may be ``model.safetensors`` (one file or indexed parts) or ``pytorch_model.bin``.

    Raises:
        ModelError: a file is missing, or the checkpoint is of another kind.
    """
    folder = Path(folder)
    model = LanguageModel(language_model_config(read_config(folder)))
    weights = rename_published(_read_weights(folder))
    if model.config.tie_embeddings:
        weights.pop("head.weight", None)  # some publish it twice
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if missing or unexpected:
        raise ModelError(f"{folder}: weights missing {missing[:3]}, left over {unexpected[:3]}")
    return model.eval()


def _read_weights(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    index = folder / "model.safetensors.index.json"
    if index.exists():
        files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        return {k: v for file in files for k, v in load_file(folder / file).items()}
    if (folder / "model.safetensors").exists():
        return load_file(folder / "model.safetensors")
    if (folder / "pytorch_model.bin").exists():
        weights: dict[str, Tensor] = torch.load(
            folder / "pytorch_model.bin", map_location="cpu", weights_only=True
        )
        return weights
    raise ModelError(f"{folder}: neither model.safetensors nor pytorch_model.bin is there")
