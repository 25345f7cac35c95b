"""Compile the native engine: ``python -m audiomamba.kernels.native.build``.

Runs when the package is installed (hatch_build.py), where a C++ compiler is found. The same source
is compiled for plain x86-64-v2 (or whatever the machine is), for AVX2 and for AVX-512 with VNNI;
which of them runs is decided when the library is loaded, so one build serves every processor of
its kind.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from audiomamba.kernels.native import LIBRARY

SOURCE = Path(__file__).parent / "src"
# No -ffast-math: rounding by a large constant needs its additions in order (src/vector.h).
FLAGS = ["-O3", "-std=c++17", "-fPIC", "-fno-math-errno", "-ffp-contract=fast", "-Wno-psabi"]

__all__ = ["build", "compiler"]


def compiler() -> str | None:
    """Path of the C++ compiler, or None: $CXX, c++, g++, clang++."""
    return next(
        (
            found
            for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++")
            if name and (found := shutil.which(name))
        ),
        None,
    )


def build(library: Path = LIBRARY) -> Path:
    """Compile and link the library; the file appears whole or not at all.

    Raises:
        FileNotFoundError: there is no compiler.
        subprocess.CalledProcessError: the compiler failed; its words are on standard error.
    """
    cxx = compiler()
    if cxx is None:
        raise FileNotFoundError("no C++ compiler; install g++ or clang, or set CXX")
    x86 = platform.machine() in ("x86_64", "AMD64")
    engines = {"plain": (16, ["-march=x86-64-v2"] if x86 else [])}
    if x86:
        engines["avx2"] = (32, ["-march=x86-64-v3"])
        engines["avx512"] = (64, ["-march=x86-64-v4", "-mavx512vnni"])
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        objects = []
        for name, (vector_bytes, flags) in engines.items():
            to = f"{folder}/{name}.o"
            macros = [f"-DAM_ISA={name}", f"-DAM_VECTOR_BYTES={vector_bytes}"]
            _run([cxx, *FLAGS, *flags, *macros, "-c", str(SOURCE / "engine.cpp"), "-o", to])
            objects.append(to)
        interface = f"{folder}/interface.o"
        macros = ["-DAM_X86"] if x86 else []
        _run([cxx, *FLAGS, *macros, "-c", str(SOURCE / "interface.cpp"), "-o", interface])
        # The search's sums are numpy's: none is fused with its product.
        search = f"{folder}/beam.o"
        _run([cxx, *FLAGS, "-ffp-contract=off", "-c", str(SOURCE / "beam.cpp"), "-o", search])
        linked = f"{folder}/{library.name}"
        _run([cxx, "-shared", *objects, interface, search, "-o", linked])
        os.replace(linked, library)
    return library


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    print(build(), file=sys.stderr)
