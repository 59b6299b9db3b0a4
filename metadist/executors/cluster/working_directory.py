"""Where processes of a cluster stand: relative paths mean there what they mean to the driver."""

from __future__ import annotations

import contextlib
import os


def here() -> str:
    """The current directory of this process; empty if it was removed."""
    with contextlib.suppress(FileNotFoundError):
        return os.getcwd()
    return ""


def stand_at(folder: str) -> None:
    """Make a folder the current directory of this process, if this machine has it.

    Ray has its own idea of it, and a plugin may open a file by the path that its user typed.
    """
    with contextlib.suppress(OSError):
        os.chdir(folder)
