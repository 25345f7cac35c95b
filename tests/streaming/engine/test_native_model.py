"""The native step model keeps streams apart, and its snapshots go on elsewhere."""

import mmap
from pathlib import Path

import numpy as np
import pytest

from audiomamba.errors import StateError
from audiomamba.kernels import native
from audiomamba.models.checkpoint_files import digest
from audiomamba.models.native import NativeTranscriber
from audiomamba.models.registry import find
from audiomamba.streaming.engine.native_model import NativeStepModel

pytestmark = pytest.mark.skipif(native.why_not() is not None, reason=f"native: {native.why_not()}")


@pytest.fixture(scope="module")
def model() -> NativeStepModel:
    folder = find("listen-en")
    return NativeStepModel(
        NativeTranscriber.from_folder(folder), slots=4, checkpoint=digest(folder)
    )


def test_streams_do_not_hear_each_other_nor_the_padding(model: NativeStepModel) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, model.frames_per_block, model.num_mel_bins)).astype(np.float32)
    for slot in range(1, 5):
        model.reset(slot)
    alone = model.step(x[:1], [2])
    model.reset(2)
    together = model.step(x, [2, 0, 4])
    np.testing.assert_array_equal(together[0], alone[0])


def test_a_snapshot_goes_on_in_another_slot(model: NativeStepModel) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1, model.frames_per_block, model.num_mel_bins)).astype(np.float32)
    model.reset(1)
    model.step(x, [1])
    model.load(3, model.save(1))
    np.testing.assert_array_equal(model.step(x, [1]), model.step(x, [3]))


def test_a_snapshot_of_another_model_is_refused(model: NativeStepModel) -> None:
    with pytest.raises(StateError, match="another model"):
        model.load(1, b"\0" * len(model.save(1)))
    with pytest.raises(StateError, match="damaged"):
        model.load(1, model.save(1)[:-1])


def test_a_slot_that_is_not_in_use_is_zeros_and_holds_no_memory(model: NativeStepModel) -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((4, model.frames_per_block, model.num_mel_bins)).astype(np.float32)
    for slot in range(1, 5):
        model.reset(slot)
    fresh = model.step(x, [1, 2, 3, 4])
    used = resident()
    empty = model.save(1)[:32] + bytes(model.state_bytes)
    assert model.save(1) != empty
    for slot in (1, 2, 4):
        model.reset(slot)
    assert used - resident() > 2.9 * model.state_bytes
    assert model.save(1) == empty and model.save(3) != empty
    model.reset(3)
    np.testing.assert_array_equal(model.step(x, [1, 2, 3, 4]), fresh)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def test_blocks_together_are_what_they_are_one_by_one(model: NativeStepModel) -> None:
    few = NativeStepModel(model._model, slots=2, block=2, checkpoint="00" * 32)
    assert (few.most_blocks, model.most_blocks) == (2, 1)
    rng = np.random.default_rng(4)
    x = rng.standard_normal((1, 2 * few.frames_per_block, few.num_mel_bins)).astype(np.float32)
    together = few.step(x, [1])
    apart = [few.step(part, [2]) for part in np.split(x, 2, axis=1)]
    np.testing.assert_array_equal(together, np.concatenate(apart, axis=1))
