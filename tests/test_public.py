"""The public names, and what importing them costs."""

import subprocess
import sys

import pytest

import audiomamba

PUBLIC = {
    "AudioError", "BackendError", "ConfigError", "Error", "Event", "Final", "Generation",
    "Listener",
    "ModelError",
    "Overloaded", "Partial", "ProtocolError", "ShapeError", "SpeechEnd", "SpeechStart",
    "StateError", "Stream", "Synthesizer", "Transcript", "Word", "load", "transcribe",
}  # fmt: skip


def test_public_names_are_pinned() -> None:
    assert set(audiomamba.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(audiomamba, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        audiomamba.nothing  # noqa: B018


def _modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(out.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = {"torch", "numpy", "triton", "hydra", "soundfile", "starlette", "librosa"}
    assert not heavy & _modules_after("import audiomamba")


@pytest.mark.parametrize("package", ["kernels", "streaming", "conf"])
def test_a_linked_folder_cannot_be_imported_by_its_bare_name(package: str) -> None:
    out = subprocess.run(
        [sys.executable, "-c", f"import {package}"], capture_output=True, text=True
    )
    assert f"import audiomamba.{package}, not {package}" in out.stderr
