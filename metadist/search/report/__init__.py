"""The report of a search: one HTML page that is written from its directory alone."""

from __future__ import annotations

import logging
from pathlib import Path

from metadist.errors import SpaceError
from metadist.process.announce import Announce
from metadist.search.search_dir import SearchDir, open_search

log = logging.getLogger(__name__)


def write_search_report(search: SearchDir, announce: Announce) -> None:
    """Write the report of a search, finished or not; a failure is logged and costs nothing else."""
    try:
        announce(f"Report: {_write(search)}")
    except Exception:
        # It can be made again at any time; the search's result must not depend on it.
        log.exception(
            "the report could not be written; try again with: metadist report %s", search.path
        )


def report_again(runs_dir: Path, name: str) -> Path | None:
    """Write the report of a search again; the page's path, or None if there is no such search.

    Args:
        name: of the search, or its path.

    Raises:
        SpaceError: its record is damaged.
    """
    try:
        search = open_search(runs_dir, name)
    except SpaceError:
        return None
    return _write(search)


def _write(search: SearchDir) -> Path:
    """Write ``report.html`` and ``figures/``, of which the same data give the same bytes, and what
    Optuna's dashboard reads, if there is an Optuna."""
    # Loading this package must stay cheap.
    from metadist.executors.optuna_search import is_installed
    from metadist.report.document import write_page
    from metadist.search.report.data import search_data
    from metadist.search.report.page import render

    data = search_data(search)
    write_page(render(data), search.report, search.figures)
    if is_installed():
        from metadist.search.report.study import write_journal

        write_journal(search, data)
    return search.report
