"""A waveform model small enough for a test."""

from pathlib import Path
from typing import Any

import torch

from audiomamba.config import to_mapping
from audiomamba.models.checkpoint import save_weights
from audiomamba.models.checkpoint_files import write_config
from audiomamba.models.wave.config import StageConfig, WaveConfig
from audiomamba.models.wave.model import Wave
from audiomamba.nn import LayerConfig

LTI = LayerConfig(dynamics="lti", state_size=4, ffn=0.0)
REAL = LayerConfig(dynamics="lti", state_size=3, values="real", ffn=0.0)
SELECTIVE = LayerConfig(dynamics="selective", state_size=4, ffn=0.0)


def tiny_config(**changes: Any) -> WaveConfig:
    """Two pools, a layer of each kind, three labels and two speakers."""
    shape: dict[str, Any] = {
        "pools": [2, 3],
        "stages": [StageConfig(width=16, layers=[layer]) for layer in (LTI, REAL, SELECTIVE)],
        "labels": ["yes", "no", "stop"],
        "speakers": ["ann", "bob"],
    }
    return WaveConfig(**(shape | changes))


def tiny_wave(config: WaveConfig | None = None) -> Wave:
    """The same model each time, its answers far from even."""
    torch.manual_seed(3)
    model = Wave(config or tiny_config()).eval()
    model.head.weight.data.mul_(4)
    return model


def tiny_checkpoint(folder: Path, config: WaveConfig | None = None) -> Path:
    """A folder that ``audiomamba.load`` takes."""
    model = tiny_wave(config)
    save_weights(folder, model.state_dict())
    write_config(folder, {"kind": "wave", "model": to_mapping(model.config)})
    return folder
