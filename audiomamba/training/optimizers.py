"""Optimisers by configuration: AdamW for everything, or Muon for the hidden matrices beside it."""

import torch
from torch import Tensor, nn

from audiomamba.training.config import OptimizerConfig
from audiomamba.training.muon import Muon

__all__ = ["Optimizer", "decays", "is_hidden_matrix"]

_DYNAMICS = (
    "A_log",
    "A_log_real",
    "A_imag",
    "log_dt",
    "C",
    "D",
    "conv_weight",
    "B_bias",
    "C_bias",
    "taps",
)


def decays(name: str, parameter: Tensor) -> bool:
    """Whether weight decay applies: to matrices and kernels, never to dynamics, norms and biases.

    Pulling a decay rate or a step size towards zero would change what a layer remembers, not how
    large it is. Nor to what labels and speakers are looked up in: their gradient is so small at
    first that decay alone decided, and left nothing of them to be heard.
    """
    looked_up = name.startswith("conditioning.")
    return parameter.dim() >= 2 and not looked_up and name.rsplit(".", 1)[-1] not in _DYNAMICS


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """Whether Muon may step it: projections inside the blocks, not heads nor dynamics."""
    return parameter.dim() == 2 and ".blocks." in f".{name}" and name.endswith("proj.weight")


class Optimizer:
    """One step over all parameters; the learning rate is a tensor, so that setting it is free.

    Args:
        model: Its parameters' ``grad`` must be filled before each step.
        config: Kind, betas, weight decay.
    """

    def __init__(self, model: nn.Module, config: OptimizerConfig) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        device = named[0][1].device
        self._lr = torch.zeros((), device=device)
        self._muon: Muon | None = None
        hidden = [n for n, p in named if config.kind == "muon" and is_hidden_matrix(n, p)]
        if hidden:
            self._muon = Muon(
                [(n, p) for n, p in named if n in set(hidden)],
                lr=self._lr,
                momentum=config.momentum,
                weight_decay=config.weight_decay,
            )
        rest = [(n, p) for n, p in named if n not in set(hidden)]
        self._names: dict[Tensor, str] = {p: n for n, p in rest}
        groups = [
            {"params": [p for n, p in rest if decays(n, p)], "weight_decay": config.weight_decay},
            {"params": [p for n, p in rest if not decays(n, p)], "weight_decay": 0.0},
        ]
        # Fused reads the rate on the device; the CPU kernel wants a number.
        self._adamw = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=self._lr if device.type == "cuda" else 0.0,
            betas=(config.beta1, config.beta2),
            eps=1e-8,
            fused=device.type == "cuda",
        )

    def step(self, lr: float) -> None:
        """Advance every parameter once with learning rate ``lr``."""
        self._lr.fill_(lr)
        if self._lr.device.type != "cuda":
            for group in self._adamw.param_groups:
                group["lr"] = lr
        self._adamw.step()
        if self._muon is not None:
            self._muon.step()

    def state(self) -> dict[str, Tensor]:
        """Moments by the parameter's name; empty before the first step of AdamW."""
        out = {
            f"{self._names[p]}.{key}": value
            for p, moments in self._adamw.state.items()
            for key, value in moments.items()
        }
        return out | (self._muon.state() if self._muon is not None else {})

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from a saved :meth:`state`; both must have been made by the same configuration."""
        for parameter, name in self._names.items():
            moments = self._adamw.state[parameter]
            for key in ("step", "exp_avg", "exp_avg_sq"):
                value = state[f"{name}.{key}"].clone()
                # A fused step counter lives on the device, the other one on the CPU.
                counter_on_cpu = key == "step" and parameter.device.type != "cuda"
                moments[key] = value if counter_on_cpu else value.to(parameter.device)
        if self._muon is not None:
            self._muon.load(state)
