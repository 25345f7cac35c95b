"""Word errors of clips in batches are those of each clip alone."""

from collections.abc import Callable

import numpy as np
import torch

from audiomamba.models.registry import find
from audiomamba.models.transcriber import Transcriber, TranscriberConfig
from audiomamba.nn import LayerConfig, StackConfig
from audiomamba.text.vocabulary import Vocabulary
from audiomamba.training.clips import Clip
from audiomamba.training.evaluation import Evaluator

VOCABULARY = Vocabulary.load(find("listen-en") / "tokenizer.model")
Make = Callable[[float], Evaluator]


def clips() -> list[Clip]:
    rng = np.random.default_rng(0)
    return [
        Clip(f"{i}", "clear", "one two", rng.normal(0, 0.1, n).astype(np.float32))
        for i, n in enumerate((8_000, 16_000, 12_345, 30_000))
    ]


def test_batches_of_any_size_give_the_same_hypotheses() -> None:
    torch.manual_seed(0)
    stack = StackConfig(width=16, layers=[LayerConfig(state_size=4), LayerConfig(state_size=4)])
    model = Transcriber(
        TranscriberConfig(stack=stack, subsample_channels=[2, 4], inter_layer=0, phone_layer=0)
    )
    heard = []
    for batch_s in (1.0, 1000.0):
        evaluator = Evaluator(
            clips(), VOCABULARY, model.config.mel, device=torch.device("cpu"), batch_s=batch_s
        )
        weights = {name: p.detach() for name, p in model.named_parameters()}
        _, results = evaluator.measure(model, weights, bf16=False)
        heard.append({result.name: result.hypothesis for result in results})
    assert heard[0] == heard[1] and set(heard[0]) == {"0", "1", "2", "3"}
