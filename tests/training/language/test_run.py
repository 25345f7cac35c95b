"""From texts to a language model that a search can use."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from audiomamba.errors import ConfigError
from audiomamba.models.piece_language import load_piece_language
from audiomamba.models.registry import DEFAULT, SHIPPED
from audiomamba.text.ngram import BOUNDARY
from audiomamba.text.vocabulary import WORD_START, Vocabulary
from audiomamba.training.experiment import compose, train
from audiomamba.training.language import pieces as pieces_tool
from audiomamba.training.language.config import LanguageDataConfig
from audiomamba.training.language.pieces import encode, read_pieces
from audiomamba.training.language.rows import Rows

TOKENIZER = SHIPPED / DEFAULT / "tokenizer.model"
TEXT = "The cat sat on the mat.\nA dog barked at the cat.\nThe mat was red.\n" * 40
SMALL = [
    "experiment=piece_language", "model.stack.width=32",
    "model.stack.layers=[{dynamics: selective, count: 1, state_size: 4, ffn: 0.0}]",
    "data.length=24", "data.batch=8", "train.device=cpu", "train.precision=float32",
]  # fmt: skip


def made(folder: Path, *options: str) -> Path:
    (folder / "cats.txt").write_text(TEXT)
    out = folder / "cats.npy"
    pieces_tool.main(
        [str(folder / "cats.txt"), "--tokenizer", str(TOKENIZER), "--out", str(out), *options]
    )
    return out


def test_a_text_becomes_pieces_with_boundaries(tmp_path: Path) -> None:
    vocabulary = Vocabulary.load(TOKENIZER)
    pieces = read_pieces(made(tmp_path), len(vocabulary))
    assert (pieces == BOUNDARY).sum() == 120
    first = [BOUNDARY, *vocabulary.encode("the cat sat on the mat")]
    np.testing.assert_array_equal(pieces[: len(first)], first)


def test_sentences_of_a_manifest_stay_unknown(tmp_path: Path) -> None:
    (tmp_path / "dev.jsonl").write_text('{"text": "the mat was red"}\n')
    out = made(tmp_path, "--exclude", str(tmp_path / "dev.jsonl"), "--lists", "3")
    assert (np.load(out) == BOUNDARY).sum() == 80 + 3


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_what_is_no_array_of_pieces_is_refused(tmp_path: Path, dtype: type) -> None:
    np.save(tmp_path / "a.npy", np.zeros(5, dtype))
    with pytest.raises(ConfigError, match="uint16"):
        read_pieces(tmp_path / "a.npy", 512)
    (tmp_path / "b.npy").write_text("no array")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_pieces(tmp_path / "b.npy", 512)
    np.save(tmp_path / "c.npy", np.full(5, 700, np.uint16))
    with pytest.raises(ConfigError, match="piece 700"):
        read_pieces(tmp_path / "c.npy", 512)


def test_rows_begin_with_sentences_and_come_again() -> None:
    text = encode(["one two three"] * 200 + ["four five"] * 100, Vocabulary.load(TOKENIZER))
    data = LanguageDataConfig(pieces=["text"], length=16, batch=32)
    one, other = (Rows([text], data, device=torch.device("cpu")) for _ in range(2))
    first, again = one.batch(7), other.batch(7)
    assert torch.equal(first.inputs, again.inputs) and torch.equal(first.resets, again.resets)
    assert not torch.equal(first.inputs, one.batch(8).inputs)
    assert (first.inputs[:, 0] == BOUNDARY).all()
    assert torch.equal(first.inputs[:, 1:], first.targets[:, :-1])
    begins = first.inputs == BOUNDARY
    assert not first.resets[~begins].any()
    assert 0.3 < first.resets[begins].float().mean() < 0.7


def test_texts_are_drawn_by_weight_and_a_short_one_is_refused() -> None:
    vocabulary = Vocabulary.load(TOKENIZER)
    texts = [encode([word] * 300, vocabulary) for word in ("one", "two")]
    data = LanguageDataConfig(pieces=["a", "b"], weights=[3.0, 1.0], length=8, batch=400)
    inputs = Rows(texts, data, device=torch.device("cpu")).batch(0).inputs
    shares = (inputs[:, 1] == vocabulary.encode("one")[0]).float().mean()
    assert 0.68 < shares < 0.82
    with pytest.raises(ConfigError, match="shorter than a row"):
        Rows([texts[0][:6]], data, device=torch.device("cpu"))
    with pytest.raises(ConfigError, match="no text"):
        Rows([], data, device=torch.device("cpu"))


@pytest.mark.slow
def test_a_run_learns_the_text_and_a_search_can_load_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pieces = made(tmp_path)
    run = [
        *SMALL, f"data.pieces=[{pieces}]", f"data.held_out={pieces}", f"train.out={tmp_path}/run",
        "train.optimizer.lr=1e-2", "train.optimizer.warmup_steps=2", "train.optimizer.ema=0.5",
    ]  # fmt: skip
    train(compose([*run, "train.steps=30"]))
    assert train(compose([*run, "train.steps=60", "train.resume=last"])).step == 60
    nats = [
        float(line.split()[3]) for line in capsys.readouterr().err.splitlines() if "a word" in line
    ]
    assert len(nats) == 2 and nats[1] < nats[0] < 0.8 * 2 * math.log(512)
    model = load_piece_language(tmp_path / "run" / "export", 512)
    vocabulary = Vocabulary.load(TOKENIZER)
    state = model.init_state(1)
    text = [BOUNDARY, *vocabulary.encode("the cat sat on the")]
    after = [model.next(np.array([piece]), state)[0] for piece in text][-1]
    likely = vocabulary.pieces[int(after.argmax())].strip(WORD_START)
    assert "mat".startswith(likely) or "cat".startswith(likely)


def test_a_vocabulary_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="vocabulary is 100"):
        train(
            compose(
                [*SMALL, "model.vocabulary=100", f"train.out={tmp_path}", "train.steps=1",
                 "data.pieces=[none.npy]"]
            )
        )  # fmt: skip


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.fresh_share=2", "fresh_share"),
        ("data.length=0", "length"),
        ("data.weights=[1.0]", "1 for 0 arrays"),
    ],
)
def test_settings_out_of_range_are_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(["experiment=piece_language", "train.steps=1", override])
