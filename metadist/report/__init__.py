"""The report of a run: made from its run directory alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from metadist.runs.run_dir import RunDir

__all__ = ["write_report"]


def write_report(run: RunDir) -> Path:
    """Write ``report.html`` and its figures into a run directory and return the page's path.

    It is made from the run directory alone; the same directory gives the same bytes. What is
    missing there (the run is not finished, a file is damaged) is said in the report.

    Raises:
        RunError: not a run directory, or run.json is missing or damaged.
    """
    # Loading this package must stay cheap: it is loaded with `metadist` itself.
    from metadist.report.document import write_page
    from metadist.report.html import render
    from metadist.runs.readers.run_data import load_run

    write_page(render(load_run(run)), run.report, run.figures)
    return run.report
