"""Data parallelism: one process a device, started by torchrun; gradients are averaged.

Each rank makes batches of its own; sums are divided by counts averaged over the ranks, so that the
mean of the gradients is that of one process with all batches at once.
"""

import os
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch import distributed as dist

from audiomamba.errors import BackendError

__all__ = ["Parallel"]


@dataclass(frozen=True, slots=True)
class Parallel:
    """This process among those that train together; alone where ``world`` is 1."""

    rank: int
    world: int
    device: torch.device

    @classmethod
    def from_environment(cls, device: str) -> "Parallel":
        """Join the processes that torchrun started, if it did.

        Raises:
            BackendError: CUDA was asked for and is not there.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise BackendError("train: device cuda is not available here; use train.device=cpu")
        cuda = device != "cpu" and torch.cuda.is_available()
        world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
        local = int(os.environ.get("LOCAL_RANK", 0))
        place = torch.device("cuda", local) if cuda else torch.device("cpu")
        if cuda:
            torch.cuda.set_device(place)
        if world > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if cuda else "gloo")
        return cls(rank, world, place)

    @property
    def first(self) -> bool:
        """Whether this process writes files and progress."""
        return self.rank == 0

    def mean_(self, tensor: Tensor) -> None:
        """Average ``tensor`` over all processes, in place."""
        if self.world > 1:
            dist.all_reduce(tensor)
            tensor.div_(self.world)

    @torch.no_grad()
    def share_(self, model: nn.Module) -> None:
        """Give every process the first one's weights and buffers."""
        if self.world > 1:
            for tensor in [*model.parameters(), *model.buffers()]:
                dist.broadcast(tensor.data, 0)

    def agree(self, stop: bool, fraction: float) -> tuple[bool, float]:
        """Whether any process wants to stop, and the largest fraction; waits for the device."""
        if self.world == 1:
            return stop, fraction
        values = torch.tensor([float(stop), fraction], dtype=torch.float64, device=self.device)
        dist.all_reduce(values, dist.ReduceOp.MAX)
        agreed, fraction = values.tolist()
        return bool(agreed), fraction

    def close(self) -> None:
        """Leave the group."""
        if self.world > 1:
            dist.destroy_process_group()
