"""A whole experiment by configuration: corpora to a checkpoint that the library loads."""

from pathlib import Path

import numpy as np
import pytest

from audiomamba.errors import ConfigError
from audiomamba.models.loading import load
from audiomamba.models.transcriber import Transcriber
from audiomamba.text.events import Final
from audiomamba.training.corpus import CorpusWriter
from audiomamba.training.experiment import ExperimentConfig, compose, train


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


RAW = [
    "model.front_end=waveform",
    "model.pyramid.taps=64",
    "model.pyramid.stages=[{stride: 16, width: 8, layers: [{dynamics: lti, state_size: 4}]},"
    "{stride: 10, width: 12, layers: [{dynamics: selective, state_size: 4}]}]",
]


@pytest.mark.slow
def test_a_model_of_samples_learns_and_is_loaded_and_heard(
    tmp_path: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = compose(
        [
            "experiment=miniature", *RAW, f"data.real=[{corpus}]", "train.steps=24",
            f"train.out={tmp_path}", "train.loss.consistency=0.2", "data.batches.batch_seconds=8",
            "data.batches.row_seconds=[4.0]", "data.batches.row_weights=[1.0]",
            "train.log_every_s=0.001",
        ]
    )  # fmt: skip
    train(config)
    lines = capsys.readouterr().err.splitlines()
    losses = [float(line.split("ctc")[1].split()[0]) for line in lines if line.startswith("step")]
    assert len(losses) > 6
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])
    listener = load(tmp_path / "export")
    assert listener.engine == "torch" and listener.config.front_end == "waveform"
    sound = np.random.default_rng(1).normal(0, 0.05, 20_000).astype(np.float32)
    whole = listener.transcribe(sound)
    stream = listener.stream()
    events = [e for i in range(0, len(sound), 777) for e in stream.feed(sound[i : i + 777])]
    events += stream.finish()
    finals = [event.text for event in events if isinstance(event, Final)]
    assert whole.seconds == 1.25 and " ".join(text for text in finals if text) == whole.text


def test_the_shipped_configuration_of_samples_is_as_small_as_it_says() -> None:
    raw = compose(["experiment=listen_en_raw", "train.steps=1"])
    edge = compose(["experiment=listen_en_edge", "train.steps=1"])
    assert isinstance(raw, ExperimentConfig) and isinstance(edge, ExperimentConfig)
    assert raw.model.stack == edge.model.stack and raw.data == edge.data
    model = Transcriber(raw.model)
    assert sum(p.numel() for p in model.subsample.parameters()) <= 2_100_000
    switched = compose(
        [
            "experiment=listen_en_raw", "train.steps=1",
            "model.pyramid.stages.0.layers.0.dynamics=selective",
        ]
    )  # fmt: skip
    assert isinstance(switched, ExperimentConfig)
    assert switched.model.pyramid.stages[0].layers[0].dynamics == "selective"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.front_end=ears", "front_end"),
        ("model.pyramid.floor=0", "floor"),
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
