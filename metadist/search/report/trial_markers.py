"""How trials are drawn: by their status, told apart without colour."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes

from metadist.report.svg import BAD, FG, GOOD, MAIN, MUTED, SECOND
from metadist.search.search_dir import Status

STATUSES: tuple[Status, ...] = ("finished", "stopped", "running", "failed")
#: Marker and line of each status.
MARKS: dict[Status, dict[str, Any]] = {
    "finished": {"marker": "o", "color": MAIN},
    "stopped": {"marker": "v", "color": SECOND, "markerfacecolor": "none"},
    "running": {"marker": "s", "color": MUTED, "markerfacecolor": "none"},
    "failed": {"marker": "x", "color": BAD},
}
LINES: dict[Status, str] = {"finished": "-", "stopped": "--", "running": "-.", "failed": ":"}
LABELS: dict[Status, str] = {
    "finished": "finished",
    "stopped": "stopped early",
    "running": "not ended",
    "failed": "failed",
}
WINNER: dict[str, Any] = {
    "marker": "*", "markersize": 14, "color": GOOD, "markeredgecolor": FG, "markeredgewidth": 0.7,
}  # fmt: skip
DEFAULT: dict[str, Any] = {
    "marker": "D", "markersize": 7, "color": "none", "markeredgecolor": FG, "markeredgewidth": 1.4,
}  # fmt: skip


#: Trials beyond which a figure is crowded.
MANY = 150


def scatter(axes: Axes, x: list[float], y: list[float], status: Status, **how: Any) -> None:
    """Trials of one status."""
    look = {
        "markersize": 6 if len(x) <= MANY else 3,
        "linestyle": "",
        "label": LABELS[status],
        **MARKS[status],
        **how,
    }
    axes.plot(x, y, **look)
