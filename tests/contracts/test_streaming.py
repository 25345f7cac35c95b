"""The one streaming contract, over everything that has a state.

Whole sequences, any chunking of them and single steps give the same numbers; slots are
independent; a saved state goes on anywhere; gradients do not depend on the way.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from audiomamba.errors import StateError
from audiomamba.kernels.testing import relative_error
from audiomamba.models.language import LanguageModel, LanguageModelConfig
from audiomamba.models.transcriber import Transcriber, TranscriberConfig, TranscriberOutput
from audiomamba.models.transcriber_config import PyramidConfig, PyramidStage
from audiomamba.models.wave.config import StageConfig, WaveConfig
from audiomamba.models.wave.model import Wave
from audiomamba.nn import LayerConfig, Stack, StackConfig, StatePool, map_state

LTI = LayerConfig(dynamics="lti", state_size=8, ffn_conv_taps=5)
SELECTIVE = LayerConfig(dynamics="selective", state_size=4)
SSD = LayerConfig(dynamics="ssd", state_size=6, head_width=8, groups=2)
MAMBA3 = LayerConfig(dynamics="mamba3", state_size=6, head_width=8, groups=2)
AHEAD = LayerConfig(dynamics="selective", state_size=4, look_ahead=2)
WIDTH = 24
T = 12  # frames; the transcriber's are of four feature frames each


@dataclass(frozen=True)
class Subject:
    """A model, an input of T frames, and how its two ways of running are called."""

    model: nn.Module
    inputs: Tensor  # (B, frames, ...)
    frame: int  # rows of the input to one frame
    run: Callable[[Tensor, object], tuple[Tensor, object]]

    def cut(self, start: int, stop: int) -> Tensor:
        return self.inputs[:, start * self.frame : stop * self.frame]


def _stack(*layers: LayerConfig) -> Callable[[], tuple[nn.Module, Tensor, int]]:
    def make() -> tuple[nn.Module, Tensor, int]:
        return Stack(StackConfig(width=WIDTH, layers=list(layers))), torch.randn(3, T, WIDTH), 1

    return make


def _language_model() -> tuple[nn.Module, Tensor, int]:
    stack = StackConfig(width=WIDTH, layers=[LayerConfig(count=2, ffn=0.0, state_size=4)])
    model = LanguageModel(LanguageModelConfig(vocabulary=11, stack=stack))
    return model, torch.randint(0, 11, (3, T)), 1


def _transcriber(*ends: float) -> tuple[nn.Module, Tensor, int]:
    config = TranscriberConfig(
        vocabulary=17,
        ends=list(ends),
        subsample_channels=[3, 4],
        stack=StackConfig(width=WIDTH, layers=[LTI, AHEAD]),
        inter_layer=1,
        phone_layer=1,
    )
    return Transcriber(config), torch.randn(3, 4 * T, config.mel.bins), 4


def _raw(outer: LayerConfig) -> Callable[[], tuple[nn.Module, Tensor, int]]:
    """Hears samples, through the same switch as the stack."""
    narrow = replace(outer, ffn=0.0, expand=1)
    stages = [
        PyramidStage(stride=8, width=8, layers=[narrow]),
        PyramidStage(stride=5, width=12, layers=[narrow, replace(narrow, dynamics="lti")]),
    ]
    config = TranscriberConfig(
        vocabulary=17,
        front_end="waveform",
        pyramid=PyramidConfig(taps=64, stages=stages),
        stack=StackConfig(width=WIDTH, layers=[LTI, AHEAD]),
        inter_layer=1,
        phone_layer=1,
    )

    def make() -> tuple[nn.Module, Tensor, int]:
        return Transcriber(config), 0.1 * torch.randn(3, 4 * T, config.features.bins), 4

    return make


def _wave(outer: LayerConfig, centre: LayerConfig) -> Callable[[], tuple[nn.Module, Tensor, int]]:
    stages = [StageConfig(width=8, layers=[outer]), StageConfig(width=12, layers=[centre])]

    def make() -> tuple[nn.Module, Tensor, int]:
        model = Wave(WaveConfig(pools=[2, 3], stages=[*stages, stages[1]], labels=["a", "b"]))
        return model, torch.randint(0, 256, (3, T)), 1

    return make


SUBJECTS = {
    "lti": _stack(LTI),
    "lti-bilinear": _stack(LayerConfig(dynamics="lti", state_size=8, discretization="bilinear")),
    "lti-real": _stack(LayerConfig(dynamics="lti", state_size=6, values="real")),
    "selective": _stack(SELECTIVE),
    "look-ahead": _stack(LTI, AHEAD, AHEAD),
    "no-ffn": _stack(LayerConfig(dynamics="selective", state_size=4, ffn=0.0)),
    "ssd": _stack(SSD),
    "mamba3": _stack(MAMBA3),
    "mixed": _stack(LTI, SELECTIVE, SSD),
    "language-model": _language_model,
    "transcriber": _transcriber,
    "transcriber-ends": lambda: _transcriber(0.3, 1.0),
    "transcriber-raw": _raw(LTI),
    "transcriber-raw-selective": _raw(SELECTIVE),
    "wave": _wave(LayerConfig(dynamics="lti", state_size=8, ffn=0.0), SELECTIVE),
    "wave-heads": _wave(
        LayerConfig(dynamics="ssd", state_size=4, head_width=8, ffn=0.0),
        LayerConfig(dynamics="mamba3", state_size=4, head_width=8, ffn=0.0),
    ),
    "wave-real": _wave(SELECTIVE, LayerConfig(dynamics="lti", state_size=4, values="real")),
}
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="gpu: no GPU here"),
        ],
    ),
]
DTYPES = [torch.float32, torch.bfloat16]
CUTS = [[], [1], [5], [1, 2, 3], [4, 8], [0, 7, 7, 11]]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=DTYPES, ids=["float32", "bf16"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=SUBJECTS)
def subject(request: pytest.FixtureRequest, device: str, dtype: torch.dtype) -> Subject:
    torch.manual_seed(0)
    model, inputs, frame = SUBJECTS[request.param]()
    model.to(device).eval()

    def run(x: Tensor, state: object) -> tuple[Tensor, object]:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            out, state = model(x, state)
        if isinstance(out, TranscriberOutput):
            out = out.logits if out.ends is None else torch.cat([out.logits, out.ends], -1)
        return out.float(), state

    return Subject(model, inputs.to(device), frame, run)


@pytest.fixture
def bound(dtype: torch.dtype) -> float:
    """Relative error allowed between two ways: rounding of products whose shapes differ."""
    return 2e-6 if dtype == torch.float32 else 2e-2


def _step(
    subject: Subject, x: Tensor, pool: StatePool, slots: Tensor, dtype: torch.dtype
) -> Tensor:
    with torch.autocast(subject.inputs.device.type, dtype, enabled=dtype != torch.float32):
        return subject.model.step_(x, pool.state, slots).float()  # type: ignore[operator, no-any-return]


def _pool(subject: Subject, slots: int = 6) -> StatePool:
    return StatePool(subject.model, slots=slots)


@torch.no_grad()
@pytest.mark.parametrize("cuts", CUTS, ids=str)
def test_any_chunking_gives_the_whole(subject: Subject, cuts: list[int], bound: float) -> None:
    whole, last = subject.run(subject.inputs, None)
    state, parts = None, []
    for start, stop in zip([0, *cuts], [*cuts, T], strict=True):
        y, state = subject.run(subject.cut(start, stop), state)
        parts.append(y)
    assert relative_error(torch.cat(parts, 1), whole) < bound
    errors: list[float] = []
    map_state(lambda a, b: errors.append(relative_error(a.float(), b.float())) or a, state, last)  # type: ignore[func-returns-value]
    assert max(errors) < bound


@torch.no_grad()
def test_steps_in_shuffled_slots_give_the_whole(
    subject: Subject, dtype: torch.dtype, bound: float
) -> None:
    whole, _ = subject.run(subject.inputs, None)
    pool = _pool(subject)
    slots = torch.tensor([5, 2, 4], device=pool.device)
    parts = [_step(subject, subject.cut(t, t + 1), pool, slots, dtype) for t in range(T)]
    assert relative_error(torch.cat(parts, 1), whole) < bound


@torch.no_grad()
def test_chunks_by_slot_give_the_whole(subject: Subject, dtype: torch.dtype, bound: float) -> None:
    whole, _ = subject.run(subject.inputs, None)
    pool = _pool(subject)
    slots = torch.tensor([3, 1, 6], device=pool.device)
    cuts = [0, 4, 5, T]
    parts = [
        _step(subject, subject.cut(a, b), pool, slots, dtype)
        for a, b in zip(cuts, cuts[1:], strict=False)
    ]
    assert relative_error(torch.cat(parts, 1), whole) < bound


@torch.no_grad()
def test_rows_out_of_step_with_each_other_do_not_meet(
    subject: Subject, dtype: torch.dtype, bound: float
) -> None:
    whole, _ = subject.run(subject.inputs, None)
    pool, late = _pool(subject), 3
    parts: list[list[Tensor]] = [[], [], []]
    for t in range(T + late):
        rows = [row for row in range(3) if 0 <= t - late * (row == 1) < T]
        x = torch.cat(
            [subject.cut(t - late * (r == 1), t - late * (r == 1) + 1)[r : r + 1] for r in rows]
        )
        slots = torch.tensor([row + 2 for row in rows], device=pool.device)
        for row, y in zip(rows, _step(subject, x, pool, slots, dtype), strict=True):
            parts[row].append(y)
    got = torch.stack([torch.cat(p) for p in parts])
    assert relative_error(got, whole) < bound


@torch.no_grad()
def test_padding_with_the_null_slot_changes_nothing(
    subject: Subject, dtype: torch.dtype, bound: float
) -> None:
    alone, padded = _pool(subject), _pool(subject)
    for t in range(T):
        x = subject.cut(t, t + 1)[:1]
        pad = torch.cat([x, subject.cut(t, t + 1)[1:], x])
        y = _step(subject, x, alone, torch.tensor([4], device=alone.device), dtype)
        z = _step(subject, pad, padded, torch.tensor([4, 0, 0, 0], device=alone.device), dtype)
        assert relative_error(z[:1], y) < bound


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 4])
def test_other_slots_are_untouched(subject: Subject, frames: int, dtype: torch.dtype) -> None:
    pool = _pool(subject)
    map_state(lambda t: t.fill_(float("nan")), pool.state)
    for slot in (2, 5):
        pool.reset(slot)
    slots = torch.tensor([5, 2, 0], device=pool.device)
    y = _step(subject, subject.cut(0, frames), pool, slots, dtype)
    assert y[:2].isfinite().all()

    def check(t: Tensor) -> Tensor:
        assert t[[1, 3, 4, 6]].isnan().all() and t[[2, 5]].isfinite().all()
        return t

    map_state(check, pool.state)


@torch.no_grad()
def test_a_saved_state_goes_on_in_another_slot_of_another_pool(
    subject: Subject, dtype: torch.dtype
) -> None:
    here, there = _pool(subject), _pool(subject)
    slot = torch.tensor([3], device=here.device)
    for t in range(5):
        _step(subject, subject.cut(t, t + 1)[:1], here, slot, dtype)
    there.load(6, here.save(3))
    for t in range(5, T):
        x = subject.cut(t, t + 1)[:1]
        y = _step(subject, x, here, slot, dtype)
        z = _step(subject, x, there, torch.tensor([6], device=here.device), dtype)
        assert torch.equal(y, z)


def test_a_state_of_another_model_is_refused(subject: Subject) -> None:
    snapshot = _pool(subject).save(1)
    with torch.no_grad():
        next(subject.model.parameters()).mul_(1.5)
    with pytest.raises(StateError, match="another|belongs"):
        _pool(subject).load(1, snapshot)
    with pytest.raises(StateError, match="damaged"):
        _pool(subject).load(1, snapshot[:20])


@torch.no_grad()
def test_an_empty_chunk_changes_nothing(subject: Subject) -> None:
    _, before = subject.run(subject.cut(0, 3), None)
    y, after = subject.run(subject.cut(3, 3), before)
    assert y.shape[1] == 0

    def same(a: Tensor, b: Tensor) -> Tensor:
        assert torch.equal(a.float(), b.float())
        return a

    map_state(same, before, after)


@torch.no_grad()
def test_a_state_that_was_given_is_not_written_to(subject: Subject) -> None:
    _, state = subject.run(subject.cut(0, 3), None)
    kept = map_state(torch.clone, state)
    subject.run(subject.cut(3, T), state)

    def same(a: Tensor, b: Tensor) -> Tensor:
        assert torch.equal(a, b)
        return a

    map_state(same, state, kept)


@pytest.mark.parametrize("dtype", [torch.float32], indirect=True, ids=["float32"])
def test_gradients_do_not_depend_on_the_way(subject: Subject) -> None:
    def gradients(cuts: list[int]) -> list[Tensor]:
        subject.model.zero_grad()
        state, parts = None, []
        for start, stop in zip([0, *cuts], [*cuts, T], strict=True):
            y, state = subject.run(subject.cut(start, stop), state)
            parts.append(y)
        torch.manual_seed(1)
        y = torch.cat(parts, 1)
        (y * torch.randn_like(y)).sum().backward()
        return [p.grad.clone() for p in subject.model.parameters() if p.grad is not None]

    whole = gradients([])
    for cuts in ([5], list(range(1, T))):
        for got, want in zip(gradients(cuts), whole, strict=True):
            assert relative_error(got, want) < 5e-5


@torch.no_grad()
@pytest.mark.parametrize("name", ["lti", "selective", "look-ahead", "ssd", "mamba3", "mixed"])
def test_a_reset_inside_a_row_forgets_all_before_it(name: str, device: str) -> None:
    torch.manual_seed(0)
    stack, x, _ = SUBJECTS[name]()
    stack.to(device).eval()
    x = x.to(device)
    resets = torch.zeros(3, T, dtype=torch.bool, device=device)
    resets[:, 5] = True
    x[:, :5] = float("nan")  # not even these may pass
    fresh, _ = stack(x[:, 5:])
    packed, _ = stack(x, resets=resets)
    assert relative_error(packed[:, 5:], fresh) < 2e-6
