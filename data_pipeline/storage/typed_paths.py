"""Paths as people type them."""

from __future__ import annotations

import os
from pathlib import Path

from data_pipeline.errors import DataError


def typed_path(text: str | Path) -> Path:
    """A path with ``~`` at its start as the home directory.

    A shell does not expand it in ``--data-dir=~/data``, in quotes and in many files of variables.

    Raises:
        DataError: nobody here has such a home directory.
    """
    typed = str(text)
    found = os.path.expanduser(typed)
    if found.startswith("~"):
        raise DataError(
            f"{typed}: there is no home directory of that name here; name the path in full, or "
            f"write ./{typed} for a file that is called so"
        )
    return Path(found)
