"""Kokoro-82M in PyTorch, batched by packing."""

from audiomamba.training.speech.kokoro.model import Kokoro, Planned, Spoken

__all__ = ["Kokoro", "Planned", "Spoken"]
