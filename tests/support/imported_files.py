"""Modules of files that a test has written."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def forget(under: Path) -> None:
    """Take modules of files under a folder from ``sys.modules``: others may have their names."""
    start = f"{under.resolve()}{os.sep}"
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__dict__", {}).get("__file__")).startswith(start):
            del sys.modules[name]
