"""The torch engine is the library's own stream, batched."""

import numpy as np
import pytest
import torch

from audiomamba.audio.mel import MelConfig
from audiomamba.kernels import compilations
from audiomamba.models.transcriber import Transcriber, TranscriberConfig
from audiomamba.nn import LayerConfig, StackConfig
from audiomamba.streaming.engine.torch_model import TorchStepModel

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]


def small() -> Transcriber:
    torch.manual_seed(1)
    config = TranscriberConfig(
        vocabulary=16,
        mel=MelConfig(),
        subsample_channels=[4, 4],
        stack=StackConfig(
            width=16, layers=[LayerConfig(dynamics="lti"), LayerConfig(dynamics="selective")]
        ),
        inter_layer=1,
        phone_layer=1,
        ends=[0.3, 1.0],
    )
    return Transcriber(config).eval()


@pytest.mark.parametrize("device", DEVICES)
def test_steps_of_shuffled_slots_equal_the_whole(device: str) -> None:
    model = small().to(device)
    steps = TorchStepModel(model, slots=3, block=2)
    assert (steps.frames_per_block, steps.block_s, steps.num_mel_bins) == (8, 0.08, 80)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, 24, 80)).astype(np.float32)
    with torch.inference_mode():
        out, _ = model(torch.from_numpy(features).to(device))
        assert out.ends is not None
        pieces, ends = out.logits.log_softmax(-1), out.ends.sigmoid().log()
        whole = torch.cat([pieces, ends], -1).cpu().numpy()
    for slot in (1, 2, 3):
        steps.reset(slot)
    for block in range(3):
        rows = features[:, block * 8 : block * 8 + 8]
        order = [3, 1] if block % 2 else [1, 3]
        at = [0, 1] if order[0] == 1 else [1, 0]
        padded = np.concatenate([rows[at], np.zeros((1, 8, 80), np.float32)])
        got = steps.step(padded, [*order, 0])
        np.testing.assert_allclose(got[np.argsort(at)], whole[:, 2 * block : 2 * block + 2],
                                   atol=1e-4)  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
def test_a_saved_state_goes_on_in_another_slot(device: str) -> None:
    steps = TorchStepModel(small().to(device), slots=2)
    block = np.random.default_rng(0).normal(size=(1, 16, 80)).astype(np.float32)
    steps.reset(1)
    steps.step(block, [1])
    saved = steps.save(1)
    steps.load(2, saved)
    np.testing.assert_array_equal(steps.step(block, [1]), steps.step(block, [2]))
    assert steps.state_bytes > 0


@pytest.mark.gpu
@NO_GPU
def test_a_batch_size_that_was_warmed_up_compiles_no_kernel() -> None:
    steps = TorchStepModel(small().to("cuda"), slots=3, block=2)
    block = np.zeros((3, 8, 80), np.float32)
    for size in (1, 2, 3):  # as the engine does before it takes streams
        steps.step(block[:size], [0] * size)
    with compilations() as met:
        for slots in ([1], [3, 1], [2, 3, 1]):
            steps.step(block[: len(slots)], slots)
    assert met == []
