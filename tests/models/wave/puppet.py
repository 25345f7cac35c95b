"""A waveform model that does what its label says: hiss quietly, be noise, stick, fall silent."""

from pathlib import Path

import torch

from audiomamba.config import to_mapping
from audiomamba.models.checkpoint import save_weights
from audiomamba.models.checkpoint_files import write_config
from audiomamba.models.wave.config import StageConfig
from audiomamba.models.wave.model import Wave
from audiomamba.models.wave.statistics import SoundStatistics
from tests.models.wave.tiny import LTI, SELECTIVE, tiny_config

RATE = 4_000
LABELS = ["calm", "noise", "stuck", "silent"]
LEARNT = SoundStatistics(
    level_db=-38.0, flatness=0.97, clipped=0.0, silence_s=0.3, labelled_silence_s=0.3
)
"""As if it had been trained on what it does when it is calm."""


def puppet() -> Wave:
    """Its next sample depends on the label alone; without one it is calm.

    All maps of the network are zero, so that a sample's vector is the offset its label makes.
    """
    model = Wave(
        tiny_config(  # little, and short blocks: PyTorch's steps are slow
            sample_rate=RATE,
            pools=[4],
            stages=[StageConfig(width=16, layers=[layer]) for layer in (LTI, SELECTIVE)],
            labels=LABELS,
            speakers=["ann"],
        )
    ).eval()
    with torch.no_grad():
        for parameter in model.net.parameters():
            if parameter.dim() == 2:
                parameter.zero_()
        for module in (model.embedding, model.conditioning.speaker, model.head):
            module.weight.zero_()
        for name, parameter in model.net.named_parameters():
            if name.endswith(("shrink.bias", "grow.bias")):
                parameter.zero_()
        model.conditioning.label.weight.copy_(torch.eye(4, 32))
        model.conditioning.out.weight.zero_()
        model.conditioning.out.weight[:4, :4] = torch.eye(4) * 10
        place = torch.arange(256.0)
        quiet = -0.001 * (place - 128).square()
        model.head.bias.copy_(quiet)  # a norm of zeros is zero: nobody asked for anything
        wishes = [quiet, torch.zeros(256), -50.0 * (place < 255), -50.0 * (place != 128)]
        for column, wish in enumerate(wishes):
            model.head.weight[:, column] = (wish - quiet) / 4  # a norm makes 4 of one in 16
    return model


def puppet_checkpoint(folder: Path, statistics: SoundStatistics | None = LEARNT) -> Path:
    """A folder that ``audiomamba.load`` takes."""
    model = puppet()
    save_weights(folder, model.state_dict())
    config = {"kind": "wave", "model": to_mapping(model.config)}
    if statistics is not None:
        config["statistics"] = to_mapping(statistics)
    write_config(folder, config)
    return folder
