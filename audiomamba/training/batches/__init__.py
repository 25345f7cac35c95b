"""Training batches from corpora that lie on the device."""

from audiomamba.training.batches.config import BatchConfig
from audiomamba.training.batches.pool import Group, Part, SpeechPool
from audiomamba.training.batches.source import Batch, Batches

__all__ = ["Batch", "BatchConfig", "Batches", "Group", "Part", "SpeechPool"]
