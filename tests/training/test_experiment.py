"""A whole experiment by configuration: corpora to a checkpoint that the library loads."""

from pathlib import Path

import numpy as np
import pytest

from audiomamba.errors import ConfigError
from audiomamba.models.loading import load
from audiomamba.training.corpus import CorpusWriter
from audiomamba.training.experiment import compose, train


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("corpus") / "made"
    rng = np.random.default_rng(0)
    with CorpusWriter(folder) as writer:
        for i in range(30):
            audio = rng.normal(0, 2000, rng.integers(8_000, 30_000)).astype(np.int16)
            writer.append(audio, "yes no" if i % 2 else "stop", source="made", speaker="s")
    return folder


@pytest.mark.slow
def test_an_experiment_writes_a_checkpoint_that_can_be_loaded(tmp_path: Path, corpus: Path) -> None:
    config = compose(
        [
            "experiment=miniature", f"data.real=[{corpus}]", "train.steps=2",
            f"train.out={tmp_path}", "train.optimizer.kind=muon",
        ]
    )  # fmt: skip
    progress = train(config)
    assert progress.step == 2
    listener = load(tmp_path / "export")
    transcript = listener.transcribe(np.zeros(16_000, np.float32))
    assert transcript.seconds == 1.0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.stepps=1", "stepps"),
        ("train.optimizer.lr=-1", "lr"),
        ("data.batches.real_share=2", "real_share"),
        ("model.inter_layer=99", "inter_layer"),
        ("experiment=nothing", "nothing"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        compose(["train.steps=1", override])
    assert "\n" not in str(error.value)


def test_no_data_is_said(tmp_path: Path) -> None:
    config = compose(
        ["experiment=miniature", "train.steps=1", f"train.out={tmp_path}", "data.real=[]"]
    )
    with pytest.raises(ConfigError, match=r"data\.synthetic or data\.real"):
        train(config)
