"""The shipped transcriber, through the library: it hears, and chunks do not matter."""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

import audiomamba as am
from audiomamba.kernels import native
from audiomamba.models.acoustic import EngineName
from audiomamba.models.checkpoint import load_weights, save_weights
from audiomamba.models.checkpoint_files import write_config
from audiomamba.models.language import LanguageModel, LanguageModelConfig
from audiomamba.models.listener import Listener
from audiomamba.models.registry import available, find
from audiomamba.nn import LayerConfig, StackConfig

SPOKEN = Path(__file__).parent.parent / "recordings" / "zero_one_five.flac"
WORDS = "zero one five"


@pytest.fixture(scope="module", params=["native", "torch"])
def listener(request: pytest.FixtureRequest) -> Listener:
    """The shipped model on each engine; a machine without a compiler has but one."""
    engine: EngineName = request.param
    if engine == "native" and (reason := native.why_not()) is not None:
        pytest.skip(f"native: {reason}")
    return am.load("listen-en", engine=engine)


@pytest.fixture(scope="module")
def samples() -> NDArray[np.float32]:
    x, rate = soundfile.read(SPOKEN, dtype="float32")
    assert rate == 16_000
    return x  # type: ignore[no-any-return]


def final_text(events: list[am.Event]) -> str:
    return " ".join(event.text for event in events if isinstance(event, am.Final))


def test_a_recording_of_a_person_becomes_words(listener: Listener) -> None:
    transcript = listener.transcribe(SPOKEN)
    assert transcript.text == WORDS
    assert [word.word for word in transcript.words] == WORDS.split()
    assert transcript.seconds == pytest.approx(3.0, abs=0.01)
    times = [time for word in transcript.words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert times[0] >= 0 and times[-1] <= 3.2
    assert all(0 < word.confidence <= 1 for word in transcript.words)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 77, 1600, 160_000])
def test_any_chunk_size_gives_the_same_words_and_times(
    listener: Listener, samples: NDArray[np.float32], chunk: int
) -> None:
    stream = listener.stream()
    events = [
        event
        for start in range(0, len(samples), chunk)
        for event in stream.feed(samples[start : start + chunk])
    ]
    events += stream.finish()
    whole = listener.stream()
    wanted = [*whole.feed(samples), *whole.finish()]
    assert final_text(events) == WORDS
    finals = [event for event in events if isinstance(event, am.Final)]
    assert finals == [event for event in wanted if isinstance(event, am.Final)]


def final_came(stream: am.Stream, samples: NDArray[np.float32]) -> float:
    """Seconds of the recording, and silence after it, that had to be fed before its last final."""
    fed = np.concatenate([samples, np.zeros(48_000, np.float32)])
    came = 0.0
    for start in range(0, len(fed), 800):
        if any(isinstance(event, am.Final) for event in stream.feed(fed[start : start + 800])):
            came = (start + 800) / 16_000
    return came


def test_what_sounds_finished_is_final_before_a_pause_would_say_so(
    listener: Listener, samples: NDArray[np.float32]
) -> None:
    assert listener.config.endpoint is not None
    pause = listener.decoder_config(silence_s=0.6)
    assert pause.ends is None
    assert listener.decoder_config(silence_s=0.6, ends=listener.config.endpoint).ends is not None
    sooner = final_came(listener.stream(), samples)
    assert 0 < sooner < final_came(listener.stream(decoder=pause), samples) - 0.2


def test_a_checkpoint_without_endpoint_outputs_hears_the_same(
    listener: Listener, samples: NDArray[np.float32], tmp_path: Path
) -> None:
    shipped, older = find("listen-en"), tmp_path / "older"
    shutil.copytree(shipped, older)
    weights = load_weights(shipped)
    save_weights(older, {n: t for n, t in weights.items() if not n.startswith("ends.")})
    config = json.loads((shipped / "config.json").read_text())
    for name in ("ends", "endpoint", "silence_s"):
        del config["model"][name]
    write_config(older, config)
    engine: EngineName = "native" if listener.engine == "native" else "torch"
    before = Listener.from_folder(older, engine=engine)
    assert before.decoder_config().ends is None and before.decoder_config().silence_s == 0.6
    assert before.transcribe(samples).text == WORDS
    features = np.random.default_rng(0).normal(size=(32, 80)).astype(np.float32)
    pieces, _ = before.acoustic.log_probs(features, before.acoustic.init_state())
    both, _ = listener.acoustic.log_probs(features, listener.acoustic.init_state())
    assert both.shape == (8, listener.config.outputs) == (8, pieces.shape[1] + 4)
    np.testing.assert_array_equal(both[:, : pieces.shape[1]], pieces)


def test_partials_grow_into_the_final(listener: Listener, samples: NDArray[np.float32]) -> None:
    stream = listener.stream()
    events = [
        e for start in range(0, 48_000, 1600) for e in stream.feed(samples[start : start + 1600])
    ]
    events += stream.finish()
    partials = [event for event in events if isinstance(event, am.Partial)]
    assert len(partials) >= 3
    assert any(partial.unstable for partial in partials)
    assert final_text(events) == WORDS
    assert all(WORDS.startswith(partial.stable.strip()) for partial in partials)


@pytest.mark.parametrize("rate", [8000, 44_100, 48_000])
def test_other_sample_rates_are_heard(
    listener: Listener, samples: NDArray[np.float32], rate: int
) -> None:
    import soxr  # type: ignore[import-untyped]

    resampled = soxr.resample(samples, 16_000, rate)
    assert listener.transcribe(resampled, sample_rate=rate).text == WORDS


def test_quiet_speech_is_heard(listener: Listener, samples: NDArray[np.float32]) -> None:
    assert listener.transcribe(samples * np.float32(0.05)).text == WORDS


def test_silence_has_no_words(listener: Listener) -> None:
    assert listener.transcribe(np.zeros(80_000, np.float32)).text == ""


@pytest.mark.slow
def test_a_stream_holds_the_same_bytes_after_a_minute_as_after_a_second(listener: Listener) -> None:
    stream = listener.stream()
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) * np.float32(0.01)
    sizes = []
    for _ in range(20):
        stream.feed(noise)
        sizes.append(stream.state_bytes)
    assert len(set(sizes)) == 1


def test_a_finished_stream_takes_nothing(listener: Listener) -> None:
    stream = listener.stream()
    stream.finish()
    with pytest.raises(am.Error, match="finished"):
        stream.feed(np.zeros(10, np.float32))


def test_what_is_not_audio_is_one_clear_error(listener: Listener, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not audio")
    with pytest.raises(am.AudioError, match="cannot be read as audio"):
        listener.transcribe(tmp_path / "notes.txt")
    with pytest.raises(am.AudioError, match="no such file"):
        listener.transcribe(tmp_path / "missing.wav")
    with pytest.raises(am.AudioError, match="finite"):
        listener.stream().feed(np.full(10, np.nan, np.float32))


def test_a_model_by_folder_is_the_same(listener: Listener, tmp_path: Path) -> None:
    shutil.copytree(find("listen-en"), tmp_path / "mine")
    save_weights(tmp_path / "mine", load_weights(find("listen-en")), storage="float32")
    mine = am.load(tmp_path / "mine", engine="native" if listener.engine == "native" else "torch")
    assert mine.transcribe(SPOKEN).text == WORDS


@pytest.mark.skipif(native.why_not() is not None, reason=f"native: {native.why_not()}")
def test_the_native_engine_needs_no_torch() -> None:
    code = (
        "import sys, audiomamba; "
        f"print(audiomamba.transcribe({str(SPOKEN)!r}).text, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{WORDS} False\n"


def test_the_language_model_is_used_where_there_is_one(
    listener: Listener, samples: NDArray[np.float32], tmp_path: Path
) -> None:
    assert listener.fusion() is listener.fusion(True) and listener.fusion(False) is None
    greedy = listener.transcribe(samples, lm=False).text
    stream = listener.stream(lm=True)
    assert final_text([*stream.feed(samples), *stream.finish()]) == WORDS

    mine = tmp_path / "mine"
    shutil.copytree(find("listen-en"), mine)
    config = json.loads((mine / "config.json").read_text())

    def with_models(**spec: str) -> Listener:
        config["language_model"] = spec
        (mine / "config.json").write_text(json.dumps(config))
        loaded = am.load(mine)
        assert isinstance(loaded, Listener)
        return loaded

    (mine / "own.ngram").write_bytes(b"ammgram1")
    with pytest.raises(am.ModelError, match="damaged"):
        with_models(file="own.ngram").stream()
    with pytest.raises(am.ModelError, match="none: not a checkpoint"):
        with_models(neural="none").stream()
    with pytest.raises(am.ConfigError, match="neither"):
        with_models()
    del config["language_model"]
    (mine / "config.json").write_text(json.dumps(config))
    plain = am.load(mine)
    assert plain.transcribe(samples).text == greedy
    with pytest.raises(am.ModelError, match="no language model"):
        plain.stream(lm=True)


@pytest.mark.parametrize("built", [True, False])
def test_a_neural_language_model_alone_decides_among_hypotheses(
    built: bool, samples: NDArray[np.float32], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(find("listen-en"), folder)
    config = json.loads((folder / "config.json").read_text())
    layer = LayerConfig(state_size=4, ffn=0.0)
    language = LanguageModelConfig(
        vocabulary=config["model"]["vocabulary"], stack=StackConfig(width=32, layers=[layer])
    )
    torch.manual_seed(0)
    save_weights(folder / "own", LanguageModel(language).state_dict())
    write_config(folder / "own", {"kind": "language", "model": asdict(language)})
    config["language_model"] = {"neural": "own", "neural_weight": 0.1}
    (folder / "config.json").write_text(json.dumps(config))
    if not built:
        monkeypatch.setattr(native, "why_not", lambda: "not built")
    elif native.why_not() is not None:
        pytest.skip(f"native: {native.why_not()}")
    listener = am.load(folder, engine="auto" if built else "torch")
    fusion = listener.fusion()
    assert fusion is not None and not {"model", "language"} & vars(fusion).keys()
    fusion.read()
    assert {"model", "language"} <= vars(fusion).keys()
    whole = listener.transcribe(samples).text
    assert whole == WORDS  # an untrained one says little, and nothing certain
    stream, other = listener.stream(), listener.stream()
    half = len(samples) // 2
    events = stream.feed(samples[:half])
    state = stream._recognition.decoder_state()
    assert other.feed(samples[:half]) == events
    other._recognition.load_decoder_state(json.loads(json.dumps(state)))
    rest = [*stream.feed(samples[half:]), *stream.finish()]
    assert rest == [*other.feed(samples[half:]), *other.finish()]
    assert final_text([*events, *rest]) == WORDS


def test_an_unknown_model_names_those_there_are() -> None:
    with pytest.raises(am.ModelError, match="listen-en"):
        am.load("nobody")
    assert "listen-en" in {info.name for info in available()}
    assert (find("listen-en") / "model.safetensors").is_file()


def test_transcribe_keeps_its_model() -> None:
    assert am.transcribe(SPOKEN).text == WORDS
