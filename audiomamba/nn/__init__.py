"""Layers with explicit state: mixers (LTI and selective), block, stack, and the pool of states."""

from audiomamba.nn.block import Block, BlockState, Norm
from audiomamba.nn.config import Dynamics, LayerConfig, StackConfig
from audiomamba.nn.feedforward import FeedForward
from audiomamba.nn.mixer import Mixer, MixerState
from audiomamba.nn.stack import Stack, StackState
from audiomamba.nn.state import NULL_SLOT, State, StatePool, flatten, gather, map_state, scatter_

__all__ = [
    "NULL_SLOT",
    "Block",
    "BlockState",
    "Dynamics",
    "FeedForward",
    "LayerConfig",
    "Mixer",
    "MixerState",
    "Norm",
    "Stack",
    "StackConfig",
    "StackState",
    "State",
    "StatePool",
    "flatten",
    "gather",
    "map_state",
    "scatter_",
]
