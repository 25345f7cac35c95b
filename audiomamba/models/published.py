"""Published Mamba checkpoints, under their own names of things, as a language model of ours.

Two spellings are read: that of ``state-spaces/mamba`` (``backbone.embedding.weight``) and that of
Hugging Face's port (``backbone.embeddings.weight``). Inside a layer both agree.
"""

import json
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
    "mixer.x_proj.weight": "mixer.dynamics.x_proj.weight",
    "mixer.dt_proj.weight": "mixer.dynamics.dt_proj.weight",
    "mixer.dt_proj.bias": "mixer.dynamics.dt_proj.bias",
    "mixer.A_log": "mixer.dynamics.A_log",
    "mixer.D": "mixer.dynamics.D",
    "mixer.out_proj.weight": "mixer.out_proj.weight",
}
OUTSIDE = {
    "backbone.embedding.weight": "embedding.weight",
    "backbone.embeddings.weight": "embedding.weight",
    "backbone.norm_f.weight": "stack.norm.weight",
    "lm_head.weight": "head.weight",
}


def language_model_config(published: Mapping[str, Any]) -> LanguageModelConfig:
    """Read either publisher's ``config.json``.

    Raises:
        ModelError: the layers are not Mamba-1, or attention layers are mixed in.
    """
    if "hidden_size" in published:  # Hugging Face
        if published.get("model_type", "mamba") != "mamba":
            raise ModelError(f"wants model_type mamba, got {published['model_type']!r}")
        if published.get("use_bias") or not published.get("use_conv_bias", True):
            raise ModelError(
                "checkpoints with use_bias, or without use_conv_bias, are not supported"
            )
        rank = published.get("time_step_rank", "auto")
        layer = LayerConfig(
            count=published.get("num_hidden_layers", 32),
            ffn=0.0,
            expand=published.get("expand", 2),
            state_size=published.get("state_size", 16),
            conv_taps=published.get("conv_kernel", 4),
            dt_rank=0 if rank == "auto" else rank,
        )
        return LanguageModelConfig(
            vocabulary=published.get("vocab_size", 50280),
            tie_embeddings=published.get("tie_word_embeddings", True),
            stack=StackConfig(
                width=published["hidden_size"],
                layers=[layer],
                norm_eps=published.get("layer_norm_epsilon", 1e-5),
            ),
        )
    if "d_model" not in published:
        raise ModelError(
            "config is neither state-spaces/mamba's (d_model) nor Hugging Face's (hidden_size)"
        )
    ssm = dict(published.get("ssm_cfg") or {})
    if ssm.pop("layer", "Mamba1") != "Mamba1" or published.get("attn_layer_idx"):
        raise ModelError("only checkpoints whose layers are all Mamba-1 are supported")
    rank = ssm.get("dt_rank", "auto")
    layer = LayerConfig(
        count=published["n_layer"],
        ffn=0.0,
        expand=ssm.get("expand", 2),
        state_size=ssm.get("d_state", 16),
        conv_taps=ssm.get("d_conv", 4),
        dt_rank=0 if rank == "auto" else rank,
    )
    multiple = published.get("pad_vocab_size_multiple", 1)
    vocabulary = -(-published["vocab_size"] // multiple) * multiple
    return LanguageModelConfig(
        vocabulary=vocabulary,
        tie_embeddings=published.get("tie_embeddings", True),
        stack=StackConfig(width=published["d_model"], layers=[layer]),
    )


def rename_published(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published names and shapes to those of :class:`LanguageModel`.

    Raises:
        ModelError: a name is not known.
    """
    out: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if name in OUTSIDE:
            out[OUTSIDE[name]] = tensor
            continue
        prefix, _, rest = name.removeprefix("backbone.layers.").partition(".")
        if not name.startswith("backbone.layers.") or rest not in IN_LAYER:
            raise ModelError(f"published checkpoint: unknown weight {name!r}")
        if rest == "mixer.conv1d.weight":
            tensor = tensor.squeeze(1)
        out[f"stack.blocks.{prefix}.{IN_LAYER[rest]}"] = tensor
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
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if model.config.tie_embeddings:
        missing = [name for name in missing if name != "head.weight"]
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
