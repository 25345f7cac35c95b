"""What runs the network of a transcriber: PyTorch anywhere, or the native engine on a CPU."""

import logging
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from audiomamba.errors import BackendError
from audiomamba.kernels import native
from audiomamba.models.checkpoint_files import read_config
from audiomamba.models.native import NativeTranscriber, why_not

__all__ = ["AcousticModel", "EngineName", "NativeAcoustic", "load_acoustic"]

EngineName = Literal["auto", "native", "torch"]
Floats = NDArray[np.float32]

log = logging.getLogger(__name__)


class AcousticModel(Protocol):
    """Features to log-probabilities, one stream at a time."""

    engine: str

    def init_state(self) -> Any:
        """The state before the first frame."""

    def log_probs(self, features: Floats, state: Any) -> tuple[Floats, Any]:
        """Of the next ``features (4 T, bins)``, and the state after them.

        ``(T, outputs)``: of the pieces, then of each of the configuration's ``ends``.
        """

    def state_bytes(self, state: Any) -> int:
        """Size of a state; the same at any time."""


class NativeAcoustic:
    """The native engine; states are advanced in place."""

    engine = "native"

    def __init__(self, model: NativeTranscriber) -> None:
        self.model = model
        self._row = np.zeros(1, np.intp)

    def init_state(self) -> Floats:
        return self.model.init_state(1)

    def log_probs(self, features: Floats, state: Floats) -> tuple[Floats, Floats]:
        return self.model.transcribe(features[None], state, self._row)[0], state

    def state_bytes(self, state: Floats) -> int:
        return int(state.nbytes)


def load_acoustic(
    folder: Path, *, device: str = "cpu", engine: EngineName = "auto"
) -> AcousticModel:
    """Load a checkpoint's network. ``auto`` is native on a CPU where that can run, else torch.

    Raises:
        BackendError: the native engine was asked for and cannot run.
        ModelError: a file of the checkpoint is missing or damaged.
    """
    if engine == "native" and device != "cpu":
        raise BackendError(f"the native engine runs on the CPU alone, not on {device}")
    if engine == "native":
        return _native(folder)
    if engine == "auto" and device == "cpu":
        reason = native.why_not() or why_not(read_config(folder).get("model", {}))
        if reason is None:
            return _native(folder)
        _say_what_it_costs(reason)
    # Late: where the native engine runs, torch is never imported.
    from audiomamba.models.torch_acoustic import TorchAcoustic, load_transcriber

    log.info("engine: torch on %s", device)
    return TorchAcoustic(load_transcriber(folder, device=device))


def _native(folder: Path) -> NativeAcoustic:
    log.info("engine: native")
    return NativeAcoustic(NativeTranscriber.from_folder(folder))


@lru_cache(maxsize=1)
def _say_what_it_costs(reason: str) -> None:
    print(f"audiomamba: {reason}; PyTorch runs instead, about 15 times slower", file=sys.stderr)
