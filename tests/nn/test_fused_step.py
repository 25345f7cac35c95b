"""A stack steps through few kernels a layer where it can, with the same numbers."""

import pytest
import torch
from torch import Tensor

from audiomamba.kernels import dispatch, layer_step
from audiomamba.kernels.blocks import forced
from audiomamba.kernels.layer_step import layer_step_, most_rows
from audiomamba.kernels.testing import relative_error
from audiomamba.nn import LayerConfig, Stack, StackConfig
from audiomamba.nn.stepping import ANY_ROWS, narrowed

WIDTH = 24
PLAIN = LayerConfig(dynamics="selective", state_size=4, ffn=0.0)
OTHERS = {
    "ffn": LayerConfig(dynamics="selective", state_size=4, ffn_conv_taps=3),
    "look-ahead": LayerConfig(dynamics="selective", state_size=4, ffn=0.0, look_ahead=1),
    "lti": LayerConfig(dynamics="lti", state_size=4, ffn=0.0),
    "ssd": LayerConfig(dynamics="ssd", state_size=4, head_width=8, ffn=0.0),
}
_no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="gpu: no GPU here")
DEVICES = [
    pytest.param(
        "cpu",
        id="interpreted",
        marks=pytest.mark.skipif(not dispatch.INTERPRETED, reason="TRITON_INTERPRET=1 is not set"),
    ),
    pytest.param("cuda", marks=[pytest.mark.gpu, _no_gpu]),
]
in_every_place = pytest.mark.parametrize("device", DEVICES, indirect=True)


@pytest.fixture
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A GPU, or a CPU on which the interpreter takes the layers."""
    if request.param == "cpu":
        monkeypatch.setattr(layer_step, "DEVICES", ("cpu",))
    return str(request.param)


def made(device: str, *layers: LayerConfig, width: int = WIDTH) -> Stack:
    torch.manual_seed(0)
    stack = Stack(StackConfig(width=width, layers=list(layers)))
    return stack.to(device).eval().requires_grad_(False)


@torch.no_grad()
def stepped(stack: Stack, frames: Tensor, *, fused: bool) -> tuple[Tensor, list[Tensor]]:
    """Frames ``(M, T, width)`` one by one, in slots of no order; outputs and rows of the pool."""
    M = frames.shape[0]
    pool = stack.init_state(M + 2, device=frames.device)
    slots = torch.arange(M, 0, -1, device=frames.device)
    stack.fused_step = fused
    ys = [stack.step_(frames[:, t : t + 1], pool, slots) for t in range(frames.shape[1])]
    leaves = [x for layer in pool for x in (layer.mixer.conv, layer.mixer.dynamics)]
    return torch.cat(ys, 1), leaves


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every layer's step that took few kernels."""
    rows: list[int] = []

    def noted(x: Tensor, *rest: object, **options: object) -> tuple[Tensor, Tensor]:
        rows.append(x.shape[0])
        return layer_step_(x, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("audiomamba.nn.block.layer_step_", noted)
    return rows


@in_every_place
@pytest.mark.parametrize("rows", [1, 3])
def test_it_gives_the_numbers_of_the_parts(device: str, rows: int, taken: list[int]) -> None:
    stack = made(device, PLAIN, PLAIN)
    frames = torch.randn(rows, 3, WIDTH).to(device)
    want, states = stepped(stack, frames, fused=False)
    assert taken == []
    out, fused = stepped(stack, frames, fused=True)
    assert taken == [rows] * 6
    assert relative_error(out, want) <= 3e-6
    for state, right in zip(fused, states, strict=True):
        assert relative_error(state, right) <= 3e-6


@in_every_place
@pytest.mark.parametrize("kind", ["ffn", "look-ahead"])
def test_what_else_a_layer_has_is_taken_as_before(device: str, kind: str, taken: list[int]) -> None:
    stack = made(device, PLAIN, OTHERS[kind])
    frames = torch.randn(2, 2, WIDTH).to(device)
    want, _ = stepped(stack, frames, fused=False)
    out, _ = stepped(stack, frames, fused=True)
    assert len(taken) == 4
    assert relative_error(out, want) <= 3e-6


@in_every_place
@pytest.mark.parametrize("kind", ["lti", "ssd"])
def test_other_dynamics_take_their_parts(device: str, kind: str, taken: list[int]) -> None:
    stack = made(device, OTHERS[kind])
    frames = torch.randn(2, 2, WIDTH).to(device)
    want, _ = stepped(stack, frames, fused=False)
    out, _ = stepped(stack, frames, fused=True)
    assert taken == [] and torch.equal(out, want)


@in_every_place
def test_many_rows_and_wider_weights_take_the_parts(device: str, taken: list[int]) -> None:
    stack = made(device, PLAIN)
    many = most_rows(torch.device(device), torch.float32) + 1
    want, _ = stepped(stack, torch.ones(many, 1, WIDTH, device=device), fused=False)
    out, _ = stepped(stack, torch.ones(many, 1, WIDTH, device=device), fused=True)
    assert torch.equal(out, want)
    stack.double()
    frames = torch.ones(1, 1, WIDTH, device=device, dtype=torch.float64)
    if device == "cpu":  # of the parts, too, a GPU has none in float64
        stepped(stack, frames, fused=True)
    assert taken == []


@in_every_place
@torch.no_grad()
def test_it_is_taken_unless_switched_off(device: str, taken: list[int]) -> None:
    config = StackConfig(width=WIDTH, layers=[PLAIN])
    slots = torch.tensor([1], device=device)
    for stack in (Stack(config), Stack(config, fused_step=False)):
        pool = stack.to(device).init_state(2, device=slots.device)
        stack.step_(torch.randn(1, 1, WIDTH, device=device), pool, slots)
        assert taken == [1]  # by the first one


@in_every_place
@torch.no_grad()
def test_steps_are_within_rounding_of_a_whole_sequence(device: str, taken: list[int]) -> None:
    stack = made(device, PLAIN)
    frames = torch.randn(3, 3, WIDTH).to(device)
    out, states = stepped(stack, frames, fused=True)
    want, last = stack(frames)
    assert taken == [3] * 3
    assert relative_error(out, want) < 2e-6
    for pool, right in zip(states, last[0].mixer, strict=True):
        assert relative_error(pool[[3, 2, 1]], right) < 2e-6


def test_a_cpu_takes_the_parts(taken: list[int]) -> None:
    stack = made("cpu", PLAIN)
    frames = torch.randn(2, 2, WIDTH)
    want, _ = stepped(stack, frames, fused=False)
    out, _ = stepped(stack, frames, fused=True)
    assert taken == [] and torch.equal(out, want)


def test_a_compiled_graph_takes_the_parts(
    monkeypatch: pytest.MonkeyPatch, taken: list[int]
) -> None:
    monkeypatch.setattr(layer_step, "DEVICES", ("cpu",))
    stack = made("cpu", PLAIN)
    pool, slots = stack.init_state(2), torch.tensor([1])
    x = torch.randn(1, 1, WIDTH)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def step(x: Tensor) -> Tensor:
        return stack.step_(x, pool, slots)

    with torch.no_grad():
        step(x)
    assert taken == []


@pytest.mark.gpu
@_no_gpu
@pytest.mark.parametrize("rows", [1, 3, 16])
def test_layers_of_a_real_size_are_as_right_as_their_parts(rows: int, taken: list[int]) -> None:
    """Both in bfloat16 against float32, as their roundings differ."""
    layer = LayerConfig(dynamics="selective", count=4, state_size=16, ffn=0.0)
    stack = made("cuda", layer, width=768)
    frames = torch.randn(rows, 4, 768, device="cuda").bfloat16()
    narrowed(stack, torch.bfloat16)
    parts, _ = stepped(stack, frames, fused=False)
    with forced("layer_step.rows", ANY_ROWS):
        whole, _ = stepped(stack, frames, fused=True)
    assert len(taken) == 16
    exact, _ = stepped(stack.float(), frames.float(), fused=False)
    assert relative_error(whole, exact) <= 1.5 * relative_error(parts, exact)


@pytest.mark.gpu
@_no_gpu
@pytest.mark.parametrize("rows", [1, 3, 16])
@torch.no_grad()
def test_a_captured_stack_follows_frames_and_slots_written_later(
    rows: int, taken: list[int]
) -> None:
    layer = LayerConfig(dynamics="selective", count=2, state_size=16, ffn=0.0)
    stack = narrowed(made("cuda", layer, width=768), torch.bfloat16)
    x = torch.randn(rows, 1, 768, device="cuda").bfloat16()
    slots = torch.arange(1, rows + 1, device="cuda")
    pool, eager = (stack.init_state(rows + 3, device=torch.device("cuda")) for _ in range(2))
    with forced("layer_step.rows", ANY_ROWS):
        stack.step_(x, stack.init_state(rows + 3, device=x.device), slots)  # compiled before
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = stack.step_(x, pool, slots)
    assert taken == [rows] * 4
    for _ in range(3):
        x.copy_(torch.randn(rows, 1, 768))
        slots.copy_(torch.randperm(rows + 2)[:rows] + 1)
        graph.replay()
        with forced("layer_step.rows", ANY_ROWS):
            assert torch.equal(out, stack.step_(x, eager, slots))
        for layer_states, right in zip(pool, eager, strict=True):
            for got, want in zip(layer_states.mixer, right.mixer, strict=True):
                assert torch.equal(got, want)
