"""State is an argument: trees of tensors, slot axis first, and the pool that serves from them.

A *state* is a tensor, or a (named) tuple of states. Every tensor's first axis is the slot: one row
a stream. Modules make states and return new ones; only what ends in ``_`` writes to one.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from audiomamba.errors import Overloaded, StateError

__all__ = [
    "NULL_SLOT",
    "State",
    "StatePool",
    "Stateful",
    "flatten",
    "gather",
    "map_state",
    "scatter_",
]

State = Any
"""A tensor, or a tuple (named or not) of states; ``()`` where nothing is remembered."""

NULL_SLOT = 0
"""Padding of a batch points here; it is written to and never looked at."""


class Stateful(Protocol):
    """What a stream can be run through."""

    def init_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> State: ...


def map_state(function: Callable[..., Tensor], *states: State) -> State:
    """Apply ``function`` to the tensors at each place of trees of one structure."""
    first = states[0]
    if isinstance(first, Tensor):
        return function(*states)
    children = [map_state(function, *parts) for parts in zip(*states, strict=True)]
    return type(first)(*children) if hasattr(first, "_fields") else tuple(children)


def flatten(state: State, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of every leaf, in order; names are dotted places in the tree."""
    if isinstance(state, Tensor):
        yield prefix or "state", state
        return
    names = getattr(state, "_fields", None) or [str(i) for i in range(len(state))]
    for name, child in zip(names, state, strict=True):
        yield from flatten(child, f"{prefix}.{name}".lstrip("."))


def gather(pool: State, slots: Tensor) -> State:
    """Copy of rows ``slots`` (M,) of every tensor."""
    return map_state(lambda t: t.index_select(0, slots), pool)


def scatter_(pool: State, slots: Tensor, rows: State) -> None:
    """Write ``rows`` (M, ...) to rows ``slots`` of ``pool`` in place."""
    map_state(lambda t, r: t.index_copy_(0, slots, r.to(t.dtype)), pool, rows)


class StatePool:
    """The states of up to ``slots`` streams of one model, in tensors allocated once.

    Args:
        model: What the states belong to.
        slots: Streams at once; row 0, the null slot, comes on top.
        device: Where the tensors live; the model's own device by default.
        dtype: Of the recurrent state; float32 unless memory matters more than drift.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        slots: int,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.slots = slots
        self.device = device or next(model.parameters()).device
        self.fingerprint = _fingerprint(model, dtype)
        self._fresh = model.init_state(1, device=self.device, dtype=dtype)  # type: ignore[operator]
        self.state = model.init_state(slots + 1, device=self.device, dtype=dtype)  # type: ignore[operator]
        self._free = list(range(slots, NULL_SLOT, -1))

    @property
    def free(self) -> int:
        """Slots that can still be handed out."""
        return len(self._free)

    @property
    def bytes_per_slot(self) -> int:
        """Size of one stream's state in bytes."""
        return sum(t.element_size() * t[0].numel() for _, t in flatten(self.state))

    def acquire(self) -> int:
        """Hand out a slot with a fresh state.

        Raises:
            Overloaded: every slot is taken.
        """
        if not self._free:
            raise Overloaded(f"all {self.slots} slots are taken", retry_after_s=1.0)
        slot = self._free.pop()
        self.reset(slot)
        return slot

    def release(self, slot: int) -> None:
        """Take a slot back."""
        self._check(slot)
        if slot in self._free:
            raise StateError(f"slot {slot} was released already")
        self._free.append(slot)

    def reset(self, slot: int) -> None:
        """Make the state of ``slot`` that of a stream before its first sample."""
        self._check(slot)
        map_state(lambda t, fresh: t[slot].copy_(fresh[0]), self.state, self._fresh)

    def copy(self, source: int, target: int) -> None:
        """Fork: let ``target`` go on from where ``source`` is now."""
        self._check(source)
        self._check(target)
        map_state(lambda t: t[target].copy_(t[source]), self.state)

    def save(self, slot: int) -> bytes:
        """Snapshot of one stream: safetensors, with the model's fingerprint in the header."""
        from safetensors.torch import save

        self._check(slot)
        rows = {name: t[slot].detach().cpu().contiguous() for name, t in flatten(self.state)}
        return save(
            rows, metadata={"fingerprint": self.fingerprint, "format": "audiomamba-state-1"}
        )

    def load(self, slot: int, snapshot: bytes) -> None:
        """Put a snapshot into ``slot``.

        Raises:
            StateError: it is damaged, or belongs to another model, version or dtype.
        """
        from safetensors.torch import load

        self._check(slot)
        found = _snapshot_fingerprint(snapshot)
        if found != self.fingerprint:
            raise StateError(
                f"snapshot belongs to model {found[:12]}, this pool serves {self.fingerprint[:12]}"
            )
        rows = load(snapshot)
        for name, tensor in flatten(self.state):
            tensor[slot].copy_(rows[name])

    def _check(self, slot: int) -> None:
        if not NULL_SLOT < slot <= self.slots:
            raise StateError(f"slot must be in 1..{self.slots}, got {slot}")


def _fingerprint(model: nn.Module, dtype: torch.dtype) -> str:
    """Digest of the weights and of the state's dtype: equal only where states are exchangeable."""
    digest = hashlib.sha256(str(dtype).encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _snapshot_fingerprint(snapshot: bytes) -> str:
    import json

    try:
        size = int.from_bytes(snapshot[:8], "little")
        metadata = json.loads(snapshot[8 : 8 + size])["__metadata__"]
        return str(metadata["fingerprint"])
    except (ValueError, KeyError, TypeError) as error:
        raise StateError("snapshot is damaged: its header cannot be read") from error
