"""Finished runs beside each other: read from their directories.

Which runs they are can be asked of MLflow; what is said of them is in their directories alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_pipeline.storage.local import write_atomic
from data_pipeline.storage.typed_paths import typed_path
from metadist.comparison.comparison import compare_runs
from metadist.comparison.page import render
from metadist.comparison.text import text, to_csv
from metadist.errors import RunError

__all__ = ["compare_runs", "render", "text", "to_csv", "write_files"]


def write_files(result: Mapping[str, Any], html: str | Path | None, csv: str | Path | None) -> None:
    """Write the page and the table that were asked for; the same result gives the same bytes.

    Raises:
        RunError: a file's name does not end as its content asks: a run's name took its place.
    """
    for given, ending in ((html, ".html"), (csv, ".csv")):
        if given is not None and Path(given).suffix != ending:
            raise RunError(f"--{ending[1:]} {given}: a file name ending in {ending} is needed")
    if html is not None:
        write_atomic(typed_path(html), render(result).encode())
    if csv is not None:
        write_atomic(typed_path(csv), to_csv(result).encode())
