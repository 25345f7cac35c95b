"""The step of a whole stack is timed beside others that say the same."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiomamba.kernels import layer_step, timing
from audiomamba.kernels.dispatch import INTERPRETED
from audiomamba.nn import stepping


def test_the_contenders_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "CPU_ROUNDS", 2)
    made = list(stepping.cases("cpu"))
    assert [case.name.split(",")[0] for case in made] == ["mamba", "mamba", "mamba-2", "mamba-2"]
    for case in made:
        row = timing.measure(case, "cpu")  # raises where they do not
        assert set(row.times) == {"ours", "chunk"}
        assert case.floor_bytes is not None and case.floor_bytes > 0


@pytest.mark.skipif(not INTERPRETED, reason="gpu-interpreted: TRITON_INTERPRET=1 is not set")
def test_each_way_to_step_is_held_to_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stepping.WIDTH, "cpu", 16)
    monkeypatch.setattr(layer_step, "DEVICES", ("cpu",))
    monkeypatch.setattr(stepping, "most_rows", lambda device, dtype: 1)
    taken: list[int] = []

    def noted(x: Tensor, *rest: Any, **options: Any) -> Any:
        taken.append(x.shape[0])
        return layer_step.layer_step_(x, *rest, **options)

    monkeypatch.setattr("audiomamba.nn.block.layer_step_", noted)
    one, three = stepping.cases("cpu", fused=True)
    assert one.name.startswith("mamba,") and three.name.startswith("mamba,")
    assert list(one.calls) == ["ours", "parts", "chunk"]
    assert list(three.calls) == ["ours", "fused", "chunk"]
    torch.testing.assert_close(one.calls["parts"](), one.calls["ours"](), rtol=1e-4, atol=1e-5)
    assert taken == [1, 1]  # ours, in two layers
    fused = three.calls["fused"]()
    assert taken == [1, 1, 3, 3]
    monkeypatch.setattr(layer_step, "DEVICES", ())
    torch.testing.assert_close(fused, three.calls["ours"](), rtol=1e-4, atol=1e-5)
    assert len(taken) == 4


class Layer(nn.Module):
    """What mamba-ssm's two layers have by way of names and shapes, in plain PyTorch."""

    def __init__(
        self, width: int, d_state: int, d_conv: int, expand: int, headdim: int = 0, **made: Any
    ) -> None:
        super().__init__()
        self.d_state, self.headdim, inner = d_state, headdim, expand * width
        heads = inner // headdim if headdim else 0
        convolved = inner + 2 * d_state if headdim else inner
        projected = inner + convolved + heads if headdim else 2 * inner
        self.inner, self.rank = inner, -(-width // 16)
        self.in_proj = nn.Linear(width, projected, bias=False, **made)
        self.conv1d = nn.Conv1d(convolved, convolved, d_conv, groups=convolved, **made)
        self.out_proj = nn.Linear(inner, width, bias=False, **made)
        if headdim:
            self.A_log, self.D, self.dt_bias = (nn.Parameter(torch.zeros(heads)) for _ in range(3))
            self.norm = nn.RMSNorm(inner, eps=1e-5)
        else:
            self.x_proj = nn.Linear(inner, self.rank + 2 * d_state, bias=False, **made)
            self.dt_proj = nn.Linear(self.rank, inner, **made)
            self.A_log = nn.Parameter(torch.zeros(inner, d_state))
            self.D = nn.Parameter(torch.zeros(inner))

    def step(self, x: Tensor, conv: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z, u = self.in_proj(x[:, 0]).split([self.inner, self.in_proj.out_features - self.inner], -1)
        if not self.headdim:
            u, z = z, u
        u, dt = (u[:, : conv.shape[1]], u[:, conv.shape[1] :])
        conv.copy_(torch.cat((conv[..., 1:], u[..., None]), -1))
        assert self.conv1d.bias is not None
        u = F.silu((conv * self.conv1d.weight[:, 0]).sum(-1) + self.conv1d.bias)
        A = -self.A_log.exp()
        if self.headdim:
            u, B, C = u.split([self.inner, self.d_state, self.d_state], -1)
            dt = F.softplus(dt + self.dt_bias)
            heads = u.unflatten(-1, (-1, self.headdim))
            state.mul_((dt * A).exp()[..., None, None])
            state.add_((dt[..., None] * heads)[..., None] * B[:, None, None])
            y = ((state * C[:, None, None]).sum(-1) + self.D[:, None] * heads).flatten(1)
            return self.out_proj(self.norm(y * F.silu(z)))[:, None], conv, state
        low, B, C = self.x_proj(u).split([self.rank, self.d_state, self.d_state], -1)
        dt = F.softplus(self.dt_proj(low))
        state.mul_((dt[..., None] * A).exp()).add_((dt * u)[..., None] * B[:, None])
        y = (state * C[:, None]).sum(-1) + self.D * u
        return self.out_proj(y * F.silu(z))[:, None], conv, state


def layer_norm_fn(
    x: Tensor, weight: Tensor, bias: None, residual: Tensor | None, eps: float,
    prenorm: bool = False, residual_in_fp32: bool = False, is_rms_norm: bool = False,
) -> Any:  # fmt: skip
    residual = x if residual is None else residual + x
    y = F.rms_norm(residual, x.shape[-1:], weight, eps)
    return (y, residual) if prenorm else y


@pytest.mark.parametrize("dynamics", ["selective", "ssd"])
def test_mamba_ssm_takes_the_same_weights_and_says_the_same(
    monkeypatch: pytest.MonkeyPatch, dynamics: stepping.Kind
) -> None:
    """By a stand-in with its names, as it cannot be installed everywhere."""
    contents: dict[str, dict[str, Any]] = {
        "mamba_ssm": {},
        "mamba_ssm.ops": {},
        "mamba_ssm.ops.triton": {},
        "mamba_ssm.ops.triton.layer_norm": {"layer_norm_fn": layer_norm_fn},
        "mamba_ssm.modules": {},
        "mamba_ssm.modules.mamba_simple": {"Mamba": Layer},
        "mamba_ssm.modules.mamba2": {"Mamba2": Layer},
    }
    for name, content in contents.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    stack = stepping.random_stack(dynamics, "cpu")
    x = torch.randn(3, 1, stack.width)
    pool, slots = stack.init_state(4), torch.tensor([3, 1, 2])
    peer = stepping._Peer(stack, dynamics, x)
    for _ in range(3):
        torch.testing.assert_close(peer(), stack.step_(x, pool, slots), rtol=1e-4, atol=1e-5)


def test_other_weights_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = SimpleNamespace(named_parameters=lambda: [("gate.weight", torch.zeros(1))])
    monkeypatch.setattr(
        stepping, "import_module", lambda name: SimpleNamespace(Mamba=lambda *a, **k: layer)
    )
    peer = stepping._Peer(
        stepping.random_stack("selective", "cpu"), "selective", torch.zeros(1, 1, 64)
    )
    with pytest.raises(RuntimeError, match="gate.weight"):
        peer._build()
