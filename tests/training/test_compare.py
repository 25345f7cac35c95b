"""Recognisers side by side: the same clips, the same normalisation, the same table."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import soundfile

from audiomamba.errors import BackendError, ModelError
from audiomamba.training.clips import Clip
from audiomamba.training.compare import compare, main, markdown
from audiomamba.training.peers import faster_whisper, ours, pocketsphinx

SPOKEN = Path(__file__).parent.parent / "recordings" / "zero_one_five.flac"


def clip(name: str, group: str, text: str) -> Clip:
    return Clip(name, group, text, np.zeros(16_000, np.float32))


def test_texts_are_normalised_and_counted_by_group() -> None:
    clips = [clip("a", "clear", "two cats"), clip("b", "digits", "five")]
    said = iter(["2 cats!", "Five, four."])
    [measured] = compare({"someone": lambda samples: next(said)}, clips)
    assert [r.hypothesis for r in measured.results] == ["two cats", "five four"]
    assert measured.cpu_s >= 0
    table = markdown([measured]).splitlines()
    assert table[0] == "| | clear | digits | CPU s a s |"
    assert table[2].startswith("| someone | 0.0 | 100.0 | ")


def test_a_loop_is_shown_with_and_without() -> None:
    [measured] = compare({"loop": lambda _: "one " * 50}, [clip("a", "clear", "one two")])
    assert "| 2450.0 (350.0) |" in markdown([measured])


def test_the_command_measures_ours_with_and_without_language_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import tarfile

    record = {
        "path": SPOKEN.name, "text": "zero one five", "source": "x/y", "split": "dev",
        "kind": "words",
    }  # fmt: skip
    (tmp_path / "set.jsonl").write_text(json.dumps(record) + "\n")
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        tar.add(SPOKEN, SPOKEN.name)
    main([str(tmp_path / "set.jsonl"), "--greedy", "--results", str(tmp_path / "heard.jsonl")])
    out = capsys.readouterr().out
    assert "| listen-en | 0.0 |" in out and "| listen-en, greedy | " in out
    rows = [json.loads(line) for line in (tmp_path / "heard.jsonl").read_text().splitlines()]
    assert len(rows) == 2 and rows[0]["heard"] == "zero one five"


def test_ours_hears_a_recording() -> None:
    samples, _ = soundfile.read(SPOKEN, dtype="float32")
    assert ours("listen-en", chunk_ms=100)(samples) == "zero one five"


def test_a_peer_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BackendError, match="pip install pocketsphinx"):
        pocketsphinx()
    with pytest.raises(BackendError, match="pip install faster-whisper"):
        faster_whisper(Path("nowhere"))


def test_peers_are_asked_as_their_libraries_want_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    heard: list[object] = []

    class Decoder:
        def __init__(self, **settings: object) -> None:
            assert settings["samprate"] == 16_000

        def start_utt(self) -> None: ...

        def process_raw(self, pcm: bytes, full_utt: bool) -> None:
            heard.append(len(pcm))

        def end_utt(self) -> None: ...

        def hyp(self) -> SimpleNamespace:
            return SimpleNamespace(hypstr="hello")

    class WhisperModel:
        def __init__(self, folder: str, **settings: object) -> None:
            assert settings["compute_type"] == "int8"

        def transcribe(
            self, samples: np.ndarray, **settings: object
        ) -> tuple[list[SimpleNamespace], None]:
            assert settings["language"] == "en"
            return [SimpleNamespace(text="Hello"), SimpleNamespace(text="there.")], None

    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    for name, member in {"pocketsphinx": Decoder, "faster_whisper": WhisperModel}.items():
        module = ModuleType(name)
        setattr(module, member.__name__, member)
        monkeypatch.setitem(sys.modules, name, module)
    assert pocketsphinx()(np.zeros(100, np.float32)) == "hello" and heard == [200]
    with pytest.raises(ModelError, match=r"model\.bin"):
        faster_whisper(tmp_path)
    (tmp_path / "model.bin").touch()
    assert faster_whisper(tmp_path)(np.zeros(100, np.float32)).split() == ["Hello", "there."]
