"""What runs a waveform model: PyTorch anywhere, or the native engine on a CPU."""

import logging
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import BackendError
from audiomamba.kernels import native
from audiomamba.models.native_weights import DYNAMICS
from audiomamba.models.wave.config import WaveConfig
from audiomamba.models.wave.sampling import Sampling

__all__ = ["Codes", "EngineName", "Ids", "WaveEngine", "load_engine", "native_lacks"]

EngineName = Literal["auto", "native", "torch"]
Codes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Seeds = NDArray[np.uint64]
Ids = Sequence[int]

log = logging.getLogger(__name__)


class WaveEngine(Protocol):
    """Samples of several streams at a time. A state is advanced in place."""

    engine: str
    identity: str
    """Equal where a saved state goes on to the same samples: weights, engine, precision."""

    def begin(self, labels: Sequence[int], speakers: Sequence[int]) -> Any:
        """The state before the first sample of a stream an entry; -1 asks for nobody."""

    def tell(self, state: Any, rows: NDArray[np.intp], labels: Ids, speakers: Ids) -> None:
        """Ask some streams for something else from the next sample on.

        Args:
            state: Of M streams.
            rows: Which of them, ``(m,)``.
            labels: Rows of the table of labels, ``(m,)``; -1 asks for nobody.
            speakers: Likewise.
        """

    def feed(self, state: Any, codes: Codes) -> None:
        """Take ``codes (M, n)`` as what was heard."""

    def logits(self, state: Any, codes: Codes) -> Floats:
        """The same; returns logits ``(M, n, 256)`` of the sample after each."""

    def draw(
        self,
        state: Any,
        last: Codes,
        how: Sampling,
        seeds: Seeds,
        first: NDArray[np.int64],
        samples: int,
    ) -> Codes:
        """The next ``samples`` of each stream, ``(M, samples)``.

        Args:
            state: Of M streams; with guidance of 2 M, the second half asked for nobody.
            last: The sample before, ``(M,)``; overwritten by the last one drawn.
            how: Temperature and so on.
            seeds: Of each stream, ``(M,)``.
            first: Index of the first sample in each stream, ``(M,)``.
            samples: How many.
        """

    def prepare(self, how: Sampling) -> None:
        """Have ready what drawing so takes: what is to be compiled is compiled now, not when the
        first recording is asked for."""

    def dump(self, state: Any) -> dict[str, NDArray[Any]]:
        """The state as named arrays, stream first."""

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> Any:
        """A state from what :meth:`dump` gave.

        Raises:
            StateError: an array is missing or of another shape.
        """

    def take(self, state: Any, rows: NDArray[np.intp]) -> Any:
        """A copy of some streams' state."""

    def put(self, state: Any, rows: NDArray[np.intp], part: Any) -> None:
        """Overwrite some streams' state by another's of the same phase."""

    def phase(self, state: Any) -> int:
        """Only states of the same phase can be put side by side; 0 where all can."""

    def state_bytes(self, state: Any) -> int:
        """Size of the state; the same at any time."""


def load_engine(
    folder: Path, config: WaveConfig, *, device: str = "cpu", engine: EngineName = "auto"
) -> WaveEngine:
    """Load a checkpoint's network. ``auto`` is native on a CPU where it can run it, else torch.

    Raises:
        BackendError: the native engine was asked for and cannot run, or there is no such device.
        ModelError: a file of the checkpoint is missing or damaged.
    """
    reason = native_lacks(config)
    if engine == "native" and device != "cpu":
        raise BackendError(f"the native engine runs on the CPU alone, not on {device}")
    if engine == "native" and reason is not None:
        raise BackendError(reason)
    if engine != "torch" and device == "cpu" and reason is None:
        from audiomamba.models.wave.native import NativeWave

        log.info("engine: native")
        return NativeWave.from_folder(folder, config)
    if engine == "auto" and device == "cpu":
        _say_what_it_costs(reason or "")
    # Late: where the native engine runs, torch is never imported.
    from audiomamba.models.wave.torch_engine import TorchWave, check_device

    check_device(device)
    log.info("engine: torch on %s", device)
    return TorchWave.from_folder(folder, config, device=device)


def native_lacks(config: WaveConfig) -> str | None:
    """Why the native engine cannot run a model of this shape here; None where it can."""
    if (reason := native.why_not()) is not None:
        return reason
    unknown = {block.layer.dynamics for block in config.blocks()} - set(DYNAMICS)
    return f"the native engine has no {sorted(unknown)[0]!r} layers" if unknown else None


@lru_cache(maxsize=1)
def _say_what_it_costs(reason: str) -> None:
    print(f"audiomamba: {reason}; PyTorch runs instead, hundreds of times slower", file=sys.stderr)
