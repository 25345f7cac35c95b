"""Hugging Face's Mamba and Mamba-2 run on the installed functions and give what they gave before.

Their modules look for mamba-ssm and causal-conv1d when they are imported; a second copy of each is
imported after ``install()``, the first is their own slow path.
"""

import importlib
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from audiomamba.kernels import compat
from audiomamba.kernels.testing import relative_error

ROOT = Path(__file__).resolve().parents[2]
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
SHAPE = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2}
KINDS = {
    "mamba": ("Mamba", {"state_size": 8, "use_mambapy": False}),
    "mamba2": (
        "Mamba2",
        {"state_size": 8, "head_dim": 16, "num_heads": 4, "n_groups": 2, "chunk_size": 8},
    ),
}


def _second_copy(original: ModuleType) -> ModuleType:
    name = f"{original.__name__}_on_audiomamba"
    spec = spec_from_file_location(name, original.__file__)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def copies() -> Iterator[dict[str, tuple[ModuleType, ModuleType]]]:
    """By kind of model: Hugging Face's module as it is, and as it is on our functions."""
    with pytest.MonkeyPatch.context() as patch:
        # The library looks for a distribution called ``kernels``.
        patch.setattr(sys, "path", [p for p in sys.path if Path(p or ".").resolve() != ROOT])
        pytest.importorskip("transformers")
        theirs = {
            kind: importlib.import_module(f"transformers.models.{kind}.modeling_{kind}")
            for kind in KINDS
        }
        compat.install()
        yield {kind: (module, _second_copy(module)) for kind, module in theirs.items()}
    for name in [n for n in sys.modules if n.endswith("_on_audiomamba")]:
        del sys.modules[name]
    for name in [n for n in sys.modules if n.split(".")[0] in ("mamba_ssm", "causal_conv1d")]:
        del sys.modules[name]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _models(
    copies: dict[str, tuple[ModuleType, ModuleType]], kind: str, device: str
) -> tuple[Any, Any]:
    """The same random model twice: theirs, and on our functions."""
    torch.manual_seed(0)
    prefix, options = KINDS[kind]
    theirs, ours = copies[kind]
    config = getattr(theirs, f"{prefix}Config")(**SHAPE, **options)
    slow = getattr(theirs, f"{prefix}ForCausalLM")(config)
    with torch.no_grad():
        for parameter in slow.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    fast = getattr(ours, f"{prefix}ForCausalLM")(config)
    fast.load_state_dict(slow.state_dict())
    return slow.to(device), fast.to(device)


@pytest.mark.parametrize("kind", KINDS)
def test_their_functions_are_ours(
    copies: dict[str, tuple[ModuleType, ModuleType]], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    _, fast = _models(copies, kind, "cpu")

    def count(module: str, name: str) -> None:
        where = importlib.import_module(f"audiomamba.kernels.compat.{module}")
        run = getattr(where, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            called.append(name)
            return run(*args, **kwargs)

        monkeypatch.setattr(where, name, counted)

    for module, name in (
        ("selective_scan", "scan"),
        ("causal_conv1d", "conv"),
        ("ssd_combined", "ssd"),
    ):
        count(module, name)
    fast(torch.randint(0, 61, (1, 5)))
    assert called == ["conv", "scan" if kind == "mamba" else "ssd"] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_gradients_agree(
    copies: dict[str, tuple[ModuleType, ModuleType]], kind: str, device: str
) -> None:
    slow, fast = _models(copies, kind, device)
    tokens = torch.randint(0, 61, (2, 19), device=device)
    losses = [model(tokens, labels=tokens) for model in (slow, fast)]
    assert relative_error(losses[1].logits, losses[0].logits) < 1e-5
    for result in losses:
        result.loss.backward()
    for (name, a), (_, b) in zip(slow.named_parameters(), fast.named_parameters(), strict=True):
        assert relative_error(b.grad, a.grad) < 1e-4, name


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_generation_step_by_step_agrees(
    copies: dict[str, tuple[ModuleType, ModuleType]], kind: str, device: str
) -> None:
    slow, fast = (model.eval() for model in _models(copies, kind, device))
    tokens = torch.randint(1, 61, (2, 7), device=device)
    settings = {"max_new_tokens": 8, "do_sample": False, "output_logits": True}
    a, b = (
        model.generate(tokens, return_dict_in_generate=True, pad_token_id=0, **settings)
        for model in (slow, fast)
    )
    assert torch.equal(a.sequences, b.sequences)
    assert relative_error(torch.stack(b.logits), torch.stack(a.logits)) < 1e-4
