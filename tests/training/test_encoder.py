"""Forward and backward through leaves."""

from collections.abc import Callable

import pytest
import torch

from audiomamba.models.transcriber import Transcriber
from audiomamba.training.config import TrainConfig
from audiomamba.training.encoder import Encoder
from audiomamba.training.gradients import FlatGradient

Make = Callable[..., Transcriber]


def score(out: tuple[torch.Tensor | None, ...]) -> torch.Tensor:
    return sum(
        (i + 1) * t.float().square().mean() for i, t in enumerate(out) if t is not None
    ) + torch.zeros(())


def gradient_of(model: Transcriber, features: torch.Tensor, config: TrainConfig) -> torch.Tensor:
    flat = FlatGradient(model)
    encoder = Encoder(model, flat, config)
    score(encoder.forward(features)).backward()
    encoder.backward()
    return flat.flat.clone()


def test_the_flat_gradient_is_that_of_one_graph(tiny_model: Make) -> None:
    model = tiny_model(dropout=0.0)
    features = torch.randn(2, 16, 80, generator=torch.Generator().manual_seed(0))
    flat = gradient_of(model, features, TrainConfig(steps=1, precision="float32"))
    reference = FlatGradient(model)
    score(model(features)[0]).backward()
    torch.testing.assert_close(flat, reference.flat)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_replayed_graphs_give_the_eager_gradient(tiny_model: Make) -> None:
    model = tiny_model(dropout=0.0).cuda()
    flat = FlatGradient(model)
    graphed = Encoder(model, flat, TrainConfig(steps=1, graphs=True))
    eager = Encoder(model, flat, TrainConfig(steps=1, graphs=False))
    draw = torch.Generator("cuda").manual_seed(0)
    for shape in [(2, 16, 80), (3, 32, 80), (2, 16, 80)]:
        features = torch.randn(shape, generator=draw, device="cuda")
        found = []
        for encoder in (eager, graphed):
            out = encoder.forward(features)
            score(out).backward()
            encoder.backward()
            found.append((out.logits.detach().clone(), flat.flat.clone()))
        torch.testing.assert_close(found[0], found[1], atol=2e-2, rtol=2e-2)
    assert graphed.shapes == [(2, 16, 80), (3, 32, 80)]
