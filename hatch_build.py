"""Puts compiled kernels into a wheel: with METADIST_PREBUILT=1 it is one for this kind of machine.

Without it the wheel is for any machine, and `python -m metadist.kernels.build` compiles where it
is installed.
"""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PrebuiltKernels(BuildHookInterface):  # type: ignore[type-arg]
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if os.environ.get("METADIST_PREBUILT") != "1":
            return
        # The package without its __init__, which wants what it depends on.
        package = ModuleType("metadist")
        package.__path__ = [str(Path(self.root) / "metadist")]
        sys.modules["metadist"] = package
        from metadist.kernels import build

        self._folder = tempfile.TemporaryDirectory(prefix="metadist-kernels-")
        for target in build.of_this_architecture():
            path = build.build(target, Path(self._folder.name))
            build_data["force_include"][str(path)] = f"metadist/kernels/prebuilt/{path.name}"
        build_data["pure_python"] = False
        # They need nothing but memcpy and memset of a C library, as old as they may be.
        glibc = platform.libc_ver()[0] == "glibc"
        here = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        tag = f"manylinux_2_17_{platform.machine()}" if glibc else here
        build_data["tag"] = f"py3-none-{tag}"
