"""Layers with explicit state: mixers (LTI and selective), block, stack, and the pool of states.

Their configuration is plain data, read also where torch is not wanted (the native engine), so the
layers are imported when they are first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from audiomamba.nn.config import Dynamics, LayerConfig, StackConfig

if TYPE_CHECKING:
    from audiomamba.nn.block import Block, BlockState, Norm
    from audiomamba.nn.feedforward import FeedForward
    from audiomamba.nn.look_ahead import LookAhead
    from audiomamba.nn.mixer import Mixer, MixerState
    from audiomamba.nn.stack import Stack, StackState
    from audiomamba.nn.state import (
        NULL_SLOT,
        State,
        StatePool,
        flatten,
        gather,
        map_state,
        scatter_,
    )

__all__ = [
    "NULL_SLOT",
    "Block",
    "BlockState",
    "Dynamics",
    "FeedForward",
    "LayerConfig",
    "LookAhead",
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

_HOME = {
    **dict.fromkeys(("Block", "BlockState", "Norm"), "block"),
    "FeedForward": "feedforward",
    "LookAhead": "look_ahead",
    **dict.fromkeys(("Mixer", "MixerState"), "mixer"),
    **dict.fromkeys(("Stack", "StackState"), "stack"),
    **dict.fromkeys(
        ("NULL_SLOT", "State", "StatePool", "flatten", "gather", "map_state", "scatter_"), "state"
    ),
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'audiomamba.nn' has no attribute {name!r}")
    return getattr(import_module(f"audiomamba.nn.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
