"""The report of a search: made from plain data that the search fills in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from metadist.report.search.data import SearchData

__all__ = ["write_search_report"]


def write_search_report(data: SearchData, folder: Path) -> Path:
    """Write ``report.html`` and ``figures/`` into a search's directory; the page's path.

    The same data give the same bytes.

    Raises:
        OSError: they cannot be written.
    """
    # Loading this package must stay cheap.
    from metadist.report.search.page import write

    return write(data, folder)
