"""Recordings made through the public door."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import audiomamba
from audiomamba.audio.mulaw import compand
from audiomamba.errors import ConfigError, ModelError, ShapeError, StateError
from audiomamba.models.wave.synthesizer import Generation, Synthesizer
from tests.models.wave.tiny import tiny_checkpoint, tiny_config

ENGINES = ["native", "torch"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(params=ENGINES)
def model(request: pytest.FixtureRequest, folder: Path) -> Synthesizer:
    made: Synthesizer = audiomamba.load(str(folder), engine=request.param)
    return made


def test_blocks_make_up_the_recording(model: Synthesizer) -> None:
    blocks = list(model.generate(seconds=0.01, label="no", speaker="bob", seed=3, block_s=0.003))
    assert [len(block) for block in blocks] == [24, 24, 24, 8]
    again = np.concatenate(
        list(model.generate(seconds=0.01, label="no", speaker="bob", seed=3, block_s=1))
    )
    np.testing.assert_array_equal(np.concatenate(blocks), again)
    assert again.dtype == np.float32 and np.abs(again).max() <= 1
    for other in ({"seed": 4}, {"seed": 3, "label": "yes"}):
        differs = np.concatenate(list(model.generate(seconds=0.01, speaker="bob", **other)))
        assert (differs != again).any()


def test_several_are_made_together_and_the_first_is_the_one_made_alone(
    model: Synthesizer,
) -> None:
    made = model.start(labels=["yes", None, "stop"], speakers=["ann"], seed=9)
    together = made.next(40)
    alone = np.concatenate(list(model.generate(seconds=0.005, label="yes", speaker="ann", seed=9)))
    assert together.shape == (3, 40)
    np.testing.assert_array_equal(together[0], alone)
    assert (together[1] != together[0]).any()


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_saved_generation_goes_on_to_the_same_samples(
    model: Synthesizer, guidance: float
) -> None:
    made = model.start(labels=["yes", "no"], seed=2, temperature=0.8, guidance=guidance)
    size = made.state_bytes
    made.next(13)
    resumed = model.resume(made.save())
    assert resumed.position == 13 and resumed.sampling == made.sampling
    np.testing.assert_array_equal(resumed.next(20), made.next(20))
    assert made.state_bytes == resumed.state_bytes == size


def test_a_prompt_is_gone_on_from(model: Synthesizer) -> None:
    whole = np.concatenate(list(model.generate(seconds=0.01, seed=1, temperature=0)))
    parts = [whole[:30], *model.generate(seconds=50 / 8000, prompt=whole[:30], temperature=0)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    a, b = (
        np.concatenate(list(model.generate(seconds=0.01, seed=1, prompt=sound)))
        for sound in (np.zeros(20, np.float32), np.sin(np.arange(20)).astype(np.float32))
    )
    assert (a != b).any()


def test_bits_are_what_the_codes_cost(model: Synthesizer) -> None:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 50).astype(np.float32)
    bits = model.bits(sound, label="yes")
    assert bits.shape == (50,) and (bits > 0).all()
    assert not np.allclose(bits, model.bits(sound, label="no"), atol=1e-3)
    codes = compand(sound)
    state = model._engine.begin([0], [-1])
    first = model._engine.logits(state, np.array([[128]], np.uint8))
    p = np.exp(first[0, 0].astype(np.float64))
    assert bits[0] == pytest.approx(-np.log2(p[codes[0]] / p.sum()), abs=1e-4)
    assert model.bits(sound[:0]).shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"label": "maybe"}, "label 'maybe' is not known; there are yes, no, stop"),
        ({"speaker": "eve"}, "speaker 'eve' is not known; there are ann, bob"),
        ({"temperature": -1.0}, "temperature"),
        ({"loudness": 2.0}, "loudness"),
        ({"seconds": -1.0}, "seconds"),
    ],
)
def test_a_wrong_wish_is_one_clear_error(
    folder: Path, arguments: dict[str, object], says: str
) -> None:
    model: Synthesizer = audiomamba.load(str(folder))
    with pytest.raises(ConfigError, match=says) as error:
        list(model.generate(**({"seconds": 0.001} | arguments)))  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_a_model_without_labels_says_so(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path, tiny_config(labels=[], speakers=[]))
    with pytest.raises(ConfigError, match="knows no labels"):
        list(audiomamba.load(str(folder)).generate(seconds=0.001, label="yes"))


def test_a_state_of_another_model_or_a_damaged_one_is_refused(folder: Path, tmp_path: Path) -> None:
    model: Synthesizer = audiomamba.load(str(folder))
    other: Synthesizer = audiomamba.load(str(folder), engine="torch")
    saved = model.start().save()
    with pytest.raises(StateError, match=r"belongs to checkpoint .*native.* this is .*torch"):
        other.resume(saved)
    for damaged in (b"", saved[:40], saved[:-3], b"\xff" * 100, saved.replace(b"seeds", b"weeds")):
        with pytest.raises(StateError, match="damaged"):
            model.resume(damaged)
    changed = tiny_checkpoint(tmp_path, tiny_config(norm_eps=1e-4))
    with pytest.raises(StateError, match="belongs to checkpoint"):
        audiomamba.load(str(changed)).resume(saved)


def test_a_transcriber_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"kind": "transcriber"}')
    with pytest.raises(ModelError, match="wants a waveform model"):
        Synthesizer.from_folder(tmp_path)


def test_on_the_native_engine_torch_is_never_imported(folder: Path) -> None:
    code = (
        f"import sys, audiomamba as am; list(am.load({str(folder)!r}).generate(seconds=0.01)); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_what_is_made_together_is_what_is_made_alone(model: Synthesizer, guidance: float) -> None:
    def begun() -> list[Generation]:
        made = [
            model.start(labels=[label], seed=seed, guidance=guidance)
            for label, seed in (("yes", 1), ("no", 2), (None, 3))
        ]
        made[0].next(60)  # a whole number of periods, so that the phases are equal
        return made

    alone = [np.concatenate([one.next(21), one.next(7)], 1) for one in begun()]
    made = begun()
    first, second = Generation.together(made, 21), Generation.together(made, 7)
    for one, *parts in zip(alone, first, second, strict=True):
        np.testing.assert_array_equal(np.concatenate(parts, 1), one)
    assert [one.position for one in made] == [88, 28, 28]


def test_only_what_is_alike_is_made_together(model: Synthesizer) -> None:
    made = [model.start(seed=1), model.start(seed=1, temperature=0.5)]
    with pytest.raises(ShapeError, match="same sampling"):
        Generation.together(made, 4)
