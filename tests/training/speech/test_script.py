"""Scripts on disk."""

from pathlib import Path

import numpy as np

from audiomamba.training.speech.script import Script


def script(seed: int, count: int) -> Script:
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 190, count)
    return Script(
        rng.integers(1, 178, counts.sum()).astype(np.uint8),
        np.concatenate([[0], np.cumsum(counts)]),
        [f"line {chr(97 + i % 26)}" for i in range(count)],
        rng.random(count) < 0.5,
    )


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    saved = script(1, 37)
    saved.save(tmp_path / "script-1.npz.xz")
    loaded = Script.load(tmp_path / "script-1.npz.xz")
    assert loaded.texts == saved.texts
    np.testing.assert_array_equal(loaded.phones, saved.phones)
    np.testing.assert_array_equal(loaded.phone_offsets, saved.phone_offsets)
    np.testing.assert_array_equal(loaded.british, saved.british)


def test_joined_scripts_follow_each_other() -> None:
    one, two = script(1, 5), script(2, 7)
    joined = Script.join([one, two])
    assert len(joined) == 12
    np.testing.assert_array_equal(joined.line(4), one.line(4))
    np.testing.assert_array_equal(joined.line(5), two.line(0))
    assert joined.british[5] == two.british[0]
