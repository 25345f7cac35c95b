"""Compile the native engine when the package is built or installed, where there is a compiler."""

import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent


class NativeEngine(BuildHookInterface):  # type: ignore[type-arg]
    """Builds ``kernels/native/libaudiomamba.so`` into the wheel.

    Without a compiler the wheel is pure Python, and the torch engine serves; one line says so.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        sys.path.insert(0, str(ROOT))
        try:
            from audiomamba.kernels.native.build import build

            build()
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            self.app.display_warning(f"native engine not built ({error}); torch will serve, slower")
            return
        finally:
            sys.path.remove(str(ROOT))
        # A C interface loaded by ctypes: any Python 3, this platform.
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"
        build_data["pure_python"] = False
