"""From encoded speech to outputs that expect an utterance's end, and what a rule makes of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audiomamba.errors import ConfigError, ModelError
from audiomamba.models.checkpoint import load_weights
from audiomamba.models.listener import Listener
from audiomamba.models.registry import DEFAULT, find
from audiomamba.text.events import Final, Word
from audiomamba.training.clips import Clip
from audiomamba.training.delayed.encoded import Encoded
from audiomamba.training.ends import measure as measure_tool
from audiomamba.training.ends.labels import UNKNOWN, quiet
from audiomamba.training.ends.measure import score
from audiomamba.training.ends.rows import Rows
from audiomamba.training.ends.streams import RATE, Said, disturb, join, speech_span
from audiomamba.training.experiment import compose, train
from audiomamba.training.release import add_ends

FRAMES, WIDTH = 60, 320
RECORDING = Path(__file__).parents[2] / "recordings" / "zero_one_five.flac"


def told(rows: int, seed: int) -> Encoded:
    """Frames that know, in two directions amid noise, whether 8 and 25 frames to come are quiet."""
    draw = np.random.default_rng(seed)
    activity = np.zeros((rows, FRAMES), np.uint8)
    for row in activity:
        for start in draw.integers(0, FRAMES, 2):
            row[start : start + 9] = 1
    known = quiet(activity, [0.32, 1.0], 0.04) == 1
    directions = np.random.default_rng(0).standard_normal((2, WIDTH))
    frames = known @ directions + 0.3 * draw.standard_normal((rows, FRAMES, WIDTH))
    return Encoded(frames.astype(np.float16), np.zeros((rows, FRAMES), np.uint16), activity)


def saved(folder: Path, part: Encoded) -> Path:
    folder.mkdir()
    np.save(folder / "frames.npy", part.frames)
    np.save(folder / "pieces.npy", part.pieces)
    if part.activity is not None:
        np.save(folder / "activity.npy", part.activity)
    return folder


def test_labels_look_from_the_next_frame_as_far_as_the_horizon() -> None:
    activity = np.array([[1, 0, 0, 0, 1, 0, 0, 0]], np.uint8)
    labels = quiet(activity, [0.04, 0.12], 0.04)
    assert labels[0, :, 0].tolist() == [1, 1, 1, 0, 1, 1, 1, UNKNOWN]
    # Three frames: speech in the fourth is seen from the first after it on.
    assert labels[0, :, 1].tolist() == [1, 0, 0, 0, 1, UNKNOWN, UNKNOWN, UNKNOWN]
    assert (quiet(np.zeros((2, 5), np.uint8), [1.0], 0.04) == UNKNOWN).all()


def test_batches_come_again() -> None:
    part = told(20, 1)
    one, again = (
        Rows([part, part], [0.3], batch=8, frame_s=0.04, device=torch.device("cpu")).batch(5)
        for _ in range(2)
    )
    for a, b in zip(one.tensors(), again.tensors(), strict=True):
        assert torch.equal(a, b)
    assert one.seconds == pytest.approx(8 * FRAMES * 0.04)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export whose two outputs have learnt what the frames were told."""
    folder = tmp_path_factory.mktemp("ends")
    parts = [saved(folder / f"part{seed}", told(120, seed)) for seed in (2, 3)]
    overrides = [
        "experiment=ends", "model.horizons_s=[0.32,1.0]", f"data.encoded=[{parts[0]}]",
        f"data.held_out=[{parts[1]}]", "train.steps=150", f"train.out={folder}/run",
        "train.optimizer.ema=0.9",
    ]  # fmt: skip
    train(compose(overrides))
    return folder / "run" / "export"


def test_it_learns_what_is_told(trained: Path) -> None:
    weights, others = load_weights(trained), told(40, 4)
    assert others.activity is not None
    labels = quiet(others.activity, [0.32, 1.0], 0.04)
    frames = torch.from_numpy(others.frames.astype(np.float32))
    logits = torch.nn.functional.linear(frames, weights["ends.weight"], weights["ends.bias"])
    known = labels != UNKNOWN
    assert ((logits.numpy() > 0) == (labels == 1))[known].mean() > 0.95


def test_outputs_join_a_checkpoint_and_change_nothing_else(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = find(DEFAULT), tmp_path / "with-ends"
    add_ends(source, trained, out)
    before, after = load_weights(source), load_weights(out)
    assert all(torch.equal(before[n], after[n]) for n in before if not n.startswith("ends."))
    assert torch.equal(after["ends.weight"], load_weights(trained)["ends.weight"])
    listener = Listener.from_folder(out)
    assert listener.config.ends == [0.32, 1.0]
    audio, rate = soundfile.read(RECORDING, dtype="float32")
    assert listener.transcribe(audio, sample_rate=rate).text == "zero one five"
    torch_listener = Listener.from_folder(out, engine="torch")
    assert torch_listener.transcribe(audio, sample_rate=rate).text == "zero one five"

    manifest = tmp_path / "mine.jsonl"
    (tmp_path / "mine.flac").write_bytes(RECORDING.read_bytes())
    manifest.write_text(json.dumps({"path": "mine.flac", "text": "zero one five"}))
    measure_tool.main(
        [
            str(manifest), "--model", str(out), "--greedy", "--pauses", "2.0", "--outputs", "0",
            "--probabilities", "0.00001", "--held", "0.04", "--pause", "0.2", "--silence", "2.0",
        ]
    )  # fmt: skip
    rows = [row.split("|") for row in capsys.readouterr().out.splitlines()[2:]]
    pause, rule = rows[0], rows[-1]
    assert "a pause of 2 s" in pause[1] and "at 1e-05" in rule[1]
    assert float(rule[3]) < float(pause[3]) - 1  # what is expected all the time comes at once


def test_a_recording_is_joined_from_speech_to_speech() -> None:
    tone = (0.3 * np.sin(np.arange(8000) * 0.3)).astype(np.float32)
    quiet_part = np.full(4000, 1e-4, np.float32)
    clip = Clip("a", "clear", "a", np.concatenate([quiet_part, tone, quiet_part]))
    begin, end = speech_span(clip.samples)
    assert abs(begin - 4000) <= 320 and abs(end - 12000) <= 320
    samples, said = join([clip, clip, clip], shortest_s=1.0, longest_s=2.0)
    for one, after in zip(said, said[1:], strict=False):
        assert 1.0 <= after.start - one.end <= 2.0
        assert one.end - one.start == pytest.approx((end - begin) / RATE)
    for one in said:
        loud = samples[round(one.start * RATE) : round(one.end * RATE)]
        assert np.sqrt(np.mean(loud**2)) > 0.1
    noise = disturb(samples, said, 20.0) - samples
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(0.1 * 0.3 / np.sqrt(2), rel=0.05)
    assert speech_span(np.zeros(500, np.float32)) == (0, 500)


def _final(number: int, words: list[tuple[str, float, float]]) -> Final:
    heard = tuple(Word(word, start, end, 1.0) for word, start, end in words)
    text = " ".join(word for word, _, _ in words)
    return Final(number, words[0][1], words[-1][2], text, 1.0, heard, "endpoint")


def test_finals_are_scored_by_the_sentences_of_their_words() -> None:
    clip = Clip("a", "clear", "one two", np.zeros(0, np.float32))
    said = [Said(clip, 1.0, 2.0), Said(clip, 4.0, 5.0), Said(clip, 7.0, 8.0), Said(clip, 9.0, 10.0)]
    finals = [
        (1.9, _final(0, [("one", 1.0, 1.4)])),
        (2.7, _final(1, [("two", 1.6, 2.0)])),
        (5.5, _final(2, [("one", 4.0, 4.4), ("two", 4.6, 5.0)])),
        (11.0, _final(3, [("one", 7.1, 7.5), ("two", 9.1, 9.5)])),
    ]
    got = score(said, finals)
    assert (got.cut, got.merged, got.lost) == (1, 1, 0)
    assert got.delays_s.tolist() == pytest.approx([0.7, 0.5, 1.0])
    assert got.texts == ["one two", "one two", "one", "two"]
    assert score(said, []).lost == 4


def test_what_does_not_fit_is_refused(trained: Path, tmp_path: Path) -> None:
    part = told(4, 1)
    without = saved(tmp_path / "without", Encoded(part.frames, part.pieces))
    small = ["experiment=ends", "train.steps=1", f"train.out={tmp_path}/run"]
    with pytest.raises(ConfigError, match=r"no activity\.npy"):
        train(compose([*small, f"data.encoded=[{without}]"]))
    with pytest.raises(ConfigError, match=r"give data\.encoded"):
        train(compose(small))
    with pytest.raises(ConfigError, match="has frames of 320"):
        train(compose([*small, "model.width=8"]))
    with pytest.raises(ConfigError, match=r"model\.horizons_s"):
        compose([*small, "model.horizons_s=[0.0]"])
    with pytest.raises(ConfigError, match="trained apart"):
        train(compose(["experiment=miniature", "model.ends=[1.0]", f"train.out={tmp_path}/x"]))
    with pytest.raises(ModelError, match="wants kinds"):
        add_ends(trained, trained, tmp_path / "out")
    with pytest.raises(ModelError, match="another width"):
        add_ends(find("listen-en-edge"), trained, tmp_path / "out")
    with pytest.raises(ConfigError, match="the checkpoint itself"):
        add_ends(trained, trained, trained)
