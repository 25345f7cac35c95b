"""Augmentation of training batches: rooms, noise, channels, masks; all of it on the device."""

from audiomamba.training.augment.chain import AugmentConfig, Augmenter, Plan
from audiomamba.training.augment.masks import hide, plan_bands, plan_stretches
from audiomamba.training.augment.noise import noise_bank
from audiomamba.training.augment.rooms import room_bank
from audiomamba.training.augment.voices import disguise, plan_colours, plan_warps

__all__ = [
    "AugmentConfig",
    "Augmenter",
    "Plan",
    "disguise",
    "hide",
    "noise_bank",
    "plan_bands",
    "plan_colours",
    "plan_stretches",
    "plan_warps",
    "room_bank",
]
