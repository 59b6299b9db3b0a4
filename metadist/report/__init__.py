"""The report of a run: made from its run directory alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from metadist.runs.run_dir import RunDir

__all__ = ["write_report"]


def write_report(run: RunDir) -> Path:
    """Write ``report.html`` into a run directory and return its path.

    Raises:
        RunError: not a run directory, or damaged.
    """
    # Loading this package must stay cheap: it is loaded with `metadist` itself.
    from metadist.report.html import write_report as write

    return write(run)
