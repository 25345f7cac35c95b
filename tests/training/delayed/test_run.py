"""From encoded speech to a head that writes what is heard, some steps later."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audiomamba.errors import ConfigError, ModelError
from audiomamba.models.delayed_streams import NOTHING, DelayedStreamsConfig
from audiomamba.models.registry import DEFAULT, SHIPPED
from audiomamba.text.ngram import BOUNDARY
from audiomamba.training.corpus import CorpusWriter
from audiomamba.training.delayed import encode as encode_tool
from audiomamba.training.delayed import measure as measure_tool
from audiomamba.training.delayed.config import DelayedDataConfig
from audiomamba.training.delayed.encode import align
from audiomamba.training.delayed.encoded import Encoded, read_encoded
from audiomamba.training.delayed.measure import load_head
from audiomamba.training.delayed.rows import Rows, delayed
from audiomamba.training.delayed.search import SearchConfig, beam, greedy, nats
from audiomamba.training.experiment import compose, train

FRAMES, WIDTH, VOCABULARY = 48, 320, 512
SMALL = [
    "experiment=delayed_streams", "model.stack.width=32", "model.stack.dropout=0",
    "model.stack.layers=[{dynamics: selective, count: 1, state_size: 8, ffn: 0.0}]",
    "model.delays=[1,3]", "data.batch=16", "data.token_noise=0", "data.hidden_share=0",
    "train.device=cpu", "train.precision=float32",
]  # fmt: skip
RECORDING = Path(__file__).parents[2] / "recordings" / "zero_one_five.flac"
STARTS = np.ones(VOCABULARY)
WHOLE = [FRAMES] * 6


def told(rows: int, seed: int) -> Encoded:
    """Frames that say their piece, one of six, in a direction of its own, amid noise."""
    draw = np.random.default_rng(seed)
    directions = np.random.default_rng(0).standard_normal((7, WIDTH))
    pieces = np.zeros((rows, FRAMES), np.uint16)
    pieces[:, 3:36:4] = draw.integers(1, 7, (rows, 9))
    frames = directions[pieces] * (pieces > 0)[..., None]
    frames = frames + 0.1 * draw.standard_normal(frames.shape)
    return Encoded(frames.astype(np.float16), pieces)


def saved(folder: Path, part: Encoded) -> Path:
    folder.mkdir()
    np.save(folder / "frames.npy", part.frames)
    np.save(folder / "pieces.npy", part.pieces)
    return folder


def rows_of(part: Encoded, **changes: float) -> Rows:
    model = DelayedStreamsConfig(delays=[1, 3])
    data = DelayedDataConfig(batch=8, **changes)  # type: ignore[arg-type]
    return Rows([part], model, data, device=torch.device("cpu"), frame_s=0.04)


def test_a_piece_is_written_late_and_one_a_step() -> None:
    pieces = np.zeros(20, np.uint16)
    pieces[[2, 3, 5, 16]] = [7, 8, 9, 4]
    assert delayed(pieces, 2, 0).tolist() == [0, 7, 8, 9, 0, 0, 0, 0, 4, 0]
    assert delayed(pieces, 2, 1).tolist() == [0, 0, 7, 8, 9, 0, 0, 0, 0, 4]
    assert delayed(pieces, 2, 2).tolist() == [0, 0, 0, 7, 8, 9, 0, 0, 0, 0]  # 4 is past the end


def test_batches_come_again_and_tokens_are_disturbed() -> None:
    part = told(20, 1)
    one, again = rows_of(part).batch(5), rows_of(part).batch(5)
    for a, b in zip(one.tensors(), again.tensors(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.targets, rows_of(part).batch(6).targets)
    assert one.seconds == pytest.approx(8 * FRAMES * 0.04)
    clean = rows_of(part, token_noise=0.0, hidden_share=0.0).batch(5)
    assert torch.equal(clean.before[:, 1:], clean.targets[:, :-1])
    wrong = (one.before[:, 1:] != one.targets[:, :-1])[one.targets[:, :-1] != NOTHING]
    assert 0.05 < wrong.float().mean() < 0.3


def test_texts_are_laid_along_the_frames_that_say_them() -> None:
    log_probs = torch.full((9, 5), -9.0)
    said = [0, 3, 3, 0, 3, 1, 0, 0, 2]
    log_probs[range(9), said] = 0.0
    heard = align(log_probs, torch.tensor([3, 3, 1, 2]))
    assert heard.tolist() == [0, 3, 0, 0, 3, 1, 0, 0, 2]
    assert not align(log_probs, torch.tensor([3] * 6)).any()  # wants blanks: 11 frames
    assert not align(log_probs, torch.tensor([], dtype=torch.int64)).any()


def test_it_learns_to_write_what_is_told(tmp_path: Path) -> None:
    folder = saved(tmp_path / "encoded", told(200, 2))
    train(
        compose(
            [
                *SMALL, f"data.encoded=[{folder}]", "train.steps=300", f"train.out={tmp_path}/run",
                "train.optimizer.lr=1e-2", "train.optimizer.warmup_steps=10",
                "train.optimizer.ema=0.9",
            ]
        )
    )  # fmt: skip
    head = load_head(tmp_path / "run" / "export")
    others = told(6, 3)
    frames = torch.from_numpy(others.frames.astype(np.float32))
    said = [row[row > 0].tolist() for row in others.pieces]
    for position, steps in enumerate((1, 3)):
        assert greedy(head, frames, WHOLE, position) == said
        assert beam(head, frames, WHOLE, position, SearchConfig(), STARTS) == said
        # Past a row's end nothing is read: what is not written by step 10 is not written.
        cut = [FRAMES, 20, FRAMES, 20, 20, 20]
        until = [
            row if length == FRAMES else row[: sum(f // 2 + steps < 10 for f in range(3, 36, 4))]
            for row, length in zip(said, cut, strict=True)
        ]
        assert greedy(head, frames, cut, position) == until
        assert beam(head, frames, cut, position, SearchConfig(), STARTS) == until
    # What was said costs less than the same with one piece changed.
    changed = others.pieces[0].copy()
    changed[11] = changed[11] % 6 + 1
    right, wrong = nats(head, frames[0], [others.pieces[0], changed], 0)
    assert right < 5 < wrong


class _Refuses:
    """A language model that knows every piece but one."""

    fingerprint = 0
    native: int | None = None

    def __init__(self, piece: int) -> None:
        self.piece = piece
        self.read: list[int] = []

    def init_state(self, rows: int) -> np.ndarray:
        return np.zeros((rows, 1), np.float32)

    def next(self, pieces: np.ndarray, states: np.ndarray) -> np.ndarray:
        self.read += pieces.tolist()
        out = np.zeros((len(pieces), VOCABULARY), np.float32)
        out[:, self.piece] = -100.0
        return out


def test_a_language_model_is_heard_by_the_beam(tmp_path: Path) -> None:
    folder = saved(tmp_path / "encoded", told(40, 2))
    overrides = [f"data.encoded=[{folder}]", "train.steps=2", f"train.out={tmp_path}/run"]
    train(compose([*SMALL, *overrides]))
    head = load_head(tmp_path / "run" / "export")
    frames = torch.from_numpy(told(2, 3).frames.astype(np.float32))
    eager = SearchConfig(piece_bonus=2.0)
    favourite = beam(head, frames, [FRAMES] * 2, 0, eager, STARTS)[0][0]
    language = _Refuses(favourite)
    heard = SearchConfig(piece_bonus=2.0, neural_weight=1.0)
    texts = beam(head, frames, [FRAMES] * 2, 0, heard, STARTS, language)
    assert texts[0] and all(favourite not in text for text in texts)
    assert language.read[:2] == [BOUNDARY, BOUNDARY]


def test_speech_is_encoded_and_a_head_over_it_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = tmp_path / "corpus"
    with CorpusWriter(corpus) as writer:
        for _ in range(3):
            audio, _ = soundfile.read(RECORDING, dtype="int16")
            writer.append(audio, "zero one five", source="here", speaker="one")
    encode_tool.main(
        [
            DEFAULT, str(tmp_path / "encoded"), "--hours", "0.003", "--device", "cpu",
            "data.synthetic=[]", f"data.real=[{corpus}]", "data.noise=[]",
            "data.batches.batch_seconds=12", "data.batches.row_seconds=[6]",
            "data.batches.row_weights=[1]", "data.batches.noise_rows=0",
            "data.batches.real_share=1", "data.batches.real_share_start=1",
        ]
    )  # fmt: skip
    part = read_encoded(tmp_path / "encoded", WIDTH, VOCABULARY)
    assert part.frames.shape[0] == 2 and (part.pieces > 0).any(1).all()
    overrides = [f"data.encoded=[{tmp_path}/encoded]", "train.steps=2"]
    train(compose([*SMALL, *overrides, f"train.out={tmp_path}/run"]))
    capsys.readouterr()
    measure_tool.main(
        [
            f"{tmp_path}/run/export", str(corpus), "--delays", "1", "--rescore", "0.0",
            "--rescore-delay", "3",
        ]
    )  # fmt: skip
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 7
    cells = {row.split("|")[1].strip(): row.split("|")[2:] for row in rows}
    ranked = cells["CTC's hypotheses, ranked again, weight 0"]
    assert ranked == cells["CTC, beam and language model"]


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    part = told(4, 1)
    folder = saved(tmp_path / "encoded", part)
    with pytest.raises(ConfigError, match=r"wants \(R, T, 64\)"):
        read_encoded(folder, 64, VOCABULARY)
    with pytest.raises(ConfigError, match="more than 2 pieces"):
        read_encoded(folder, WIDTH, 2)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_encoded(tmp_path, WIDTH, VOCABULARY)
    with pytest.raises(ConfigError, match=r"give data\.encoded"):
        train(compose([*SMALL, "train.steps=1", f"train.out={tmp_path}/run"]))
    with pytest.raises(ConfigError, match="has 512 pieces and frames of 320"):
        train(compose([*SMALL, "train.steps=1", "model.audio_width=8"]))
    with pytest.raises(ModelError, match="wants kind delayed_streams"):
        load_head(SHIPPED / DEFAULT)
