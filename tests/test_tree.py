"""The shape of the repository: names that say something, a test for every module."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BANNED = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager"}
SOURCES = ("audiomamba", "kernels", "streaming")

COVERED_BY = {
    "audiomamba/errors.py": "tests/test_public.py",
    "audiomamba/nn": "tests/contracts/test_streaming.py",
    "audiomamba/models/transcriber": "tests/contracts/test_streaming.py",
    "audiomamba/models/wave/rates.py": "tests/models/wave/test_model.py",
    "audiomamba/models/wave/engine.py": "tests/models/wave/test_synthesizer.py",
    "audiomamba/models/wave/generation.py": "tests/models/wave/test_guard.py",
    "audiomamba/models/wave/saving.py": "tests/models/wave/test_synthesizer.py",
    "audiomamba/models/wave/watch.py": "tests/models/wave/test_guard.py",
    "audiomamba/models/subsample.py": "tests/contracts/test_streaming.py",
    "audiomamba/models/language.py": "tests/models/test_published.py",
    "audiomamba/models/checkpoint_files.py": "tests/models/test_checkpoint.py",
    "audiomamba/models/native_weights.py": "tests/models/test_native.py",
    "audiomamba/models/recognition.py": "tests/models/test_listener.py",
    "audiomamba/models/acoustic.py": "tests/models/test_listener.py",
    "audiomamba/models/torch_acoustic.py": "tests/models/test_listener.py",
    "audiomamba/models/torch_piece_language.py": "tests/models/test_piece_language.py",
    "audiomamba/models/loading.py": "tests/models/test_listener.py",
    "audiomamba/models/registry.py": "tests/models/test_listener.py",
    "audiomamba/text/events.py": "tests/text/test_ctc.py",
    "audiomamba/text/utterances.py": "tests/text/test_ctc.py",
    "audiomamba/text/fusion.py": "tests/models/test_listener.py",
    "audiomamba/training/peers.py": "tests/training/test_compare.py",
    "audiomamba/training/wave/heard.py": "tests/training/wave/test_judge.py",
    "audiomamba/cli": "tests/cli/test_main.py",
    "audiomamba/training/objective.py": "tests/training/test_loop.py",
    "audiomamba/training/transcription.py": "tests/training/test_loop.py",
    "audiomamba/training/tokenizers.py": "tests/training/test_experiment.py",
    "audiomamba/training/config.py": "tests/training/test_experiment.py",
    "audiomamba/training/delayed": "tests/training/delayed/test_run.py",
    "audiomamba/training/ends": "tests/training/ends/test_run.py",
    "audiomamba/training/language": "tests/training/language/test_run.py",
    "audiomamba/training/wave/config.py": "tests/training/wave/test_run.py",
    "audiomamba/training/wave/measure.py": "tests/training/wave/test_run.py",
    "audiomamba/training/wave/objective.py": "tests/training/wave/test_run.py",
    "audiomamba/models/wave/persistent_kernel.py": "tests/models/wave/test_persistent.py",
    "audiomamba/training/batches/config.py": "tests/training/test_experiment.py",
    "audiomamba/training/speech/kokoro": "tests/training/speech/kokoro/test_model.py",
    "audiomamba/training/speech/profile.py": "tests/training/speech/test_generate.py",
    "kernels/dispatch.py": "kernels/scan/test_scan.py",
    "kernels/testing.py": "kernels/scan/test_scan.py",
    "kernels/native": "tests/models/test_native.py",
    "streaming/client/recording.py": "tests/end_to_end/test_generation.py",
    "streaming/engine/sound.py": "tests/streaming/engine/test_sounds.py",
    "streaming/engine/model.py": "tests/streaming/engine/test_session.py",
    "streaming/server": "tests/end_to_end/test_serving.py",
}
"""Modules whose test has another name: a contract that many share, or a neighbour's."""


def _modules() -> list[Path]:
    found = []
    for source in SOURCES:
        for path in sorted((ROOT / source).rglob("*.py")):
            inside_link = path.relative_to(ROOT).parts[:2] in {
                ("audiomamba", name) for name in ("kernels", "streaming", "conf")
            }
            if not inside_link and not path.name.startswith(("__", "test_")):
                found.append(path.relative_to(ROOT))
    return found


def _tests_of(module: Path) -> list[Path]:
    beside = (ROOT / module.parent).glob("test_*.py") if module.parts[0] == "kernels" else ()
    parts = module.parts[1:] if module.parts[0] == "audiomamba" else module.parts
    mirrored = ROOT / "tests" / Path(*parts).parent / f"test_{module.stem}.py"
    of_package = ROOT / "tests" / Path(*parts[:-2]) / f"test_{module.parent.name}.py"
    named = [ROOT / test for prefix, test in COVERED_BY.items() if str(module).startswith(prefix)]
    return [path for path in (mirrored, of_package, *beside, *named) if path.is_file()]


@pytest.mark.parametrize("module", _modules(), ids=str)
def test_every_module_has_a_test(module: Path) -> None:
    assert _tests_of(module), f"{module} has no test; style.md no. 11 says where it goes"


def test_no_name_is_a_dumping_ground() -> None:
    for source in (*SOURCES, "tests", "demos", "conf"):
        for path in (ROOT / source).rglob("*"):
            assert path.stem not in BANNED, f"{path}: name it after what is in it"


def test_no_module_is_named_after_a_library() -> None:
    for module in _modules():
        assert module.stem not in {"torch", "triton", "numpy", "json", "typing", "websockets"}


def test_no_module_is_longer_than_500_lines() -> None:
    for module in _modules():
        assert len((ROOT / module).read_text().splitlines()) <= 500, f"{module} is too long"


def test_no_kernel_is_tuned_on_a_request() -> None:
    for module in _modules():
        assert "@triton.autotune" not in (ROOT / module).read_text(), f"{module} autotunes"
