"""Time the step of a whole stack: ``python -m audiomamba.nn.stepping [--json] [--fused]``.

Twelve layers of Mamba and of Mamba-2, 768 wide, advance many streams by one frame, as serving does:
bfloat16 weights, float32 states, slots in no order. Beside them mamba-ssm's own path with the same
weights, where it is installed: its layers' ``step`` and its fused norm, states in the order of the
rows. The floor is what must move: the weights once, the states both ways. On a CPU: two layers,
float32, beside the stack's way with chunks.

``--fused`` has 1, 3, 16 and 64 rows of Mamba alone, and beside each the other way to step: part by
part where ours takes a few kernels a layer (``Stack.fused_step``), and those where it has more rows
than the table sends there, so that the table can be put right. One is held to the other first.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, Literal, TypeVar

import torch
from torch import Tensor, nn

from audiomamba.kernels import timing
from audiomamba.kernels.blocks import Blocks, forced
from audiomamba.kernels.layer_step import most_rows
from audiomamba.nn.config import LayerConfig, StackConfig
from audiomamba.nn.mixer import Mixer
from audiomamba.nn.ssd import SsdMixer
from audiomamba.nn.stack import Stack
from audiomamba.nn.state import flatten, gather

__all__ = ["cases", "narrowed", "random_stack"]

Kind = Literal["selective", "ssd"]
M = TypeVar("M", bound=nn.Module)
WIDTH: Final = {"cuda": 768, "cpu": 64}
LAYERS: Final = {"cuda": 12, "cpu": 2}
ROWS: Final = {"cuda": (1, 64, 1024, 4096), "cpu": (1, 8)}
FUSED_ROWS: Final = {"cuda": (1, 3, 16, 64), "cpu": (1, 3)}
ANY_ROWS: Final = Blocks({}, {"rows": 64}, 1)
STATES: Final = {"selective": 16, "ssd": 128}
NAMES: Final = {"selective": "mamba", "ssd": "mamba-2"}


def cases(device: str, *, fused: bool = False) -> Iterator[timing.Case]:
    """All cases of a device, or those of ``--fused``."""
    kinds: tuple[Kind, ...] = ("selective",) if fused else ("selective", "ssd")
    for dynamics in kinds:
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        stack = narrowed(random_stack(dynamics, device), dtype)
        for rows in (FUSED_ROWS if fused else ROWS)[device]:
            yield _case(stack, dynamics, rows, dtype, device, fused)


def random_stack(dynamics: Kind, device: str) -> Stack:
    """A stack as long and wide as is measured on a device."""
    layer = LayerConfig(
        dynamics=dynamics, count=LAYERS[device], state_size=STATES[dynamics], ffn=0.0
    )
    torch.manual_seed(0)
    with torch.device(device):
        stack = Stack(StackConfig(width=WIDTH[device], layers=[layer]))
    return stack.eval().requires_grad_(False)


def narrowed(model: M, dtype: torch.dtype) -> M:
    """With matrices in a dtype; vectors and the logarithms of decays stay float32."""
    for name, x in model.named_parameters():
        if x.ndim > 1 and not name.endswith("A_log"):
            x.data = x.data.to(dtype)
    return model


def _case(
    stack: Stack, dynamics: str, rows: int, dtype: torch.dtype, device: str, fused: bool
) -> timing.Case:
    x = torch.randn(rows, 1, stack.width, device=device).to(dtype)
    slots = torch.randperm(rows, device=device) + 1
    pool = stack.init_state(rows + 1, device=torch.device(device))

    @torch.no_grad()
    def ours() -> Tensor:
        return stack.step_(x, pool, slots)

    calls: dict[str, Callable[[], Tensor]] = {"ours": ours}
    if fused:
        is_fused = rows <= most_rows(x.device, dtype)
        calls["parts" if is_fused else "fused"] = _other_way(stack, x, slots, fused=not is_fused)
    if device == "cpu":
        first = gather(stack.init_state(rows + 1), slots)
        calls["chunk"] = torch.no_grad()(lambda: stack(x, first)[0])
    elif find_spec("mamba_ssm") is not None:
        calls["mamba-ssm"] = _Peer(stack, dynamics, x)
    moved = sum(p.nbytes for p in stack.parameters())
    moved += 2 * rows * sum(x[0].nbytes for _, x in flatten(pool))
    return timing.Case(
        f"{NAMES[dynamics]}, {len(stack.blocks)} x {stack.width}, {rows} rows",
        "step",
        calls,
        rows * stack.width,
        moved,
        1e-1 if device == "cuda" else 1e-4,  # of bfloat16 through all layers
    )


def _other_way(stack: Stack, x: Tensor, slots: Tensor, *, fused: bool) -> Callable[[], Tensor]:
    """The same step with a few kernels a layer or without, on states of its own."""
    pool = stack.init_state(x.shape[0] + 1, device=x.device)

    @torch.no_grad()
    def call() -> Tensor:
        stack.fused_step = fused
        try:
            with forced("layer_step.rows", ANY_ROWS):
                return stack.step_(x, pool, slots)
        finally:
            stack.fused_step = True

    return call


class _Peer:
    """mamba-ssm's layers with a stack's weights, and a step of all of them."""

    def __init__(self, stack: Stack, dynamics: str, x: Tensor) -> None:
        self.stack, self.dynamics, self.x = stack, dynamics, x
        # At the first call, so that one that does not run here is named and left out.
        self.layers: list[Any] = []
        self.states: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def __call__(self) -> Tensor:
        norm = import_module("mamba_ssm.ops.triton.layer_norm").layer_norm_fn
        if not self.layers:
            self._build()
        y, residual = self.x, None
        for layer, block, (conv, state) in zip(
            self.layers, self.stack.blocks, self.states, strict=True
        ):
            weight: Any = block.norm
            y, residual = norm(
                y, weight.weight, None, residual=residual, eps=weight.eps, prenorm=True,
                residual_in_fp32=True, is_rms_norm=True,
            )  # fmt: skip
            y, _, _ = layer.step(y, conv, state)
        last = self.stack.norm
        out: Tensor = norm(
            y, last.weight, None, residual=residual, eps=last.eps, residual_in_fp32=True,
            is_rms_norm=True,
        )  # fmt: skip
        return out

    def _build(self) -> None:
        made, states = [], []
        rows, device, dtype = self.x.shape[0], self.x.device, self.x.dtype
        for block in self.stack.blocks:
            mixer: Any = block.mixer
            layer = self._layer(mixer, device, dtype)
            conv_channels, taps = mixer.conv_weight.shape
            shape = mixer.init_state(1).dynamics.shape[1:]
            conv = torch.zeros(rows, conv_channels, taps, device=device, dtype=dtype)
            states.append((conv, torch.zeros(rows, *shape, device=device)))
            made.append(layer)
        self.layers, self.states = made, states

    def _layer(self, mixer: Mixer | SsdMixer, device: torch.device, dtype: torch.dtype) -> Any:
        width, states = self.stack.width, STATES[self.dynamics]
        given: dict[str, Any] = {"device": device, "dtype": dtype}
        ours = dict(mixer.named_parameters())
        weights = {
            "in_proj.weight": ours["in_proj.weight"],
            "conv1d.weight": ours["conv_weight"][:, None],
            "conv1d.bias": ours["conv_bias"],
            "out_proj.weight": ours["out_proj.weight"],
        }
        if self.dynamics == "selective":
            layer = import_module("mamba_ssm.modules.mamba_simple").Mamba(
                width, d_state=states, d_conv=4, expand=2, **given
            )
            names = ("x_proj.weight", "dt_proj.weight", "dt_proj.bias", "A_log", "D")
            weights |= {name: ours[f"dynamics.{name}"] for name in names}
        else:
            layer = import_module("mamba_ssm.modules.mamba2").Mamba2(
                width, d_state=states, d_conv=4, expand=2, headdim=64, **given
            )
            weights |= {name: ours[name] for name in ("A_log", "D", "dt_bias")}
            weights["norm.weight"] = ours["norm_weight"]
        theirs = dict(layer.named_parameters())
        if missing := set(theirs) ^ set(weights):
            raise RuntimeError(f"mamba-ssm has other weights: {sorted(missing)}")
        for name, parameter in theirs.items():
            parameter.requires_grad_(False).copy_(weights[name])
        return layer


if __name__ == "__main__":
    timing.main(
        "stack",
        cases,
        program="audiomamba.nn.stepping",
        switches={"fused": "few rows of Mamba, with a few kernels a layer and without"},
    )
